"""The recipes of selection, run as they ship but for the files, a small model and fewer clusters; then laid side by
side."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from static_model import WORDS, write_static

from curate import recipe
from curate.compare import Asked, compare_selection
from curate.look import look
from curate.outputs import outputs
from curate.run import run
from curate.why import example, why

ROOT = Path(__file__).parents[1]
DOCUMENTS = 900
METHODS = {
    "semantic": "not semantic_duplicate",
    "hard": "not hard_pruned",
    "easy": "not easy_pruned",
    "density": "not density_pruned",
    "equal": "not equal_pruned",
    "d4": "not d4_pruned and not d_semantic_duplicate",
    "rds": "rds_targeted",
    "got": "got_targeted",
    "dsir": "dsir_targeted",
}


def write_documents(folder: Path) -> None:
    """Texts of the few words that the small model knows: three topics in three sources, copies with a word more."""
    draw = np.random.default_rng(7)
    topics = [WORDS[1:5], WORDS[5:9], WORDS[9:]]
    texts, sources = [], []
    for number in range(DOCUMENTS):
        topic = number % 3
        words = draw.choice(topics[topic], draw.integers(20, 60)).tolist() + draw.choice(WORDS[1:], 8).tolist()
        texts.append(" ".join(words) if number % 10 else texts[-1] + " and" if texts else "a")
        sources.append(("docs", "readme", "code")[int(draw.integers(0, 3))])
    folder.mkdir()
    for half in (slice(0, DOCUMENTS // 2), slice(DOCUMENTS // 2, None)):
        table = pa.table({"text": texts[half], "source": sources[half]})
        pq.write_table(table, folder / f"{half.start:05d}.parquet")


def loaded(name: str, folder: Path) -> recipe.Recipe:
    """A recipe as it ships, over small documents, with a model of thirteen words and five clusters."""
    raw = yaml.safe_load((ROOT / "flows" / "recipes" / f"{name}.yaml").read_text())
    raw["ingest"].update(files=["small/*.parquet"], shard_bytes=20_000)
    for step in raw["stages"]:
        if "embed" in step:
            step["embed"] = {"model": str(folder / "model")}
        elif "cluster" in step:
            step["cluster"]["k"] = 5
    return recipe.parse(yaml.safe_dump(raw, sort_keys=False), root=str(folder))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("selection")
    write_documents(folder / "small")
    write_static(folder / "model")
    return folder


def ran(place: Path, name: str) -> dict[str, dict[str, Any]]:
    """What each stage of the recipe says of its rows, by name."""
    run(loaded(name, place), str(place / name))
    return {stage["name"]: stage for stage in outputs(str(place / name))["stages"]}


def test_d4_keeps_the_two_shares_of_its_paper(place: Path) -> None:
    stages = ran(place, "d4")
    distinct, unlike, last = (stages[name]["rows"] for name in ("distinct", "unlike", "pruned_to_size"))
    assert unlike == -(-3 * distinct // 4)  # semantic keeps a share rounded up
    assert last == 4 * unlike // 5  # and prune one rounded down


def test_a_dropped_document_tells_its_numbers(place: Path) -> None:
    ran(place, "d4")
    for rule, beside in (
        ("original", {"semantic_duplicate", "semantic_of", "semantic_similarity"}),
        ("kept", {"pruned", "prune_rank"}),
    ):
        shown = look(str(place / "d4"), rule=rule)["dropped"]
        assert shown
        assert all(set(one["columns"]) == beside and None not in one["columns"].values() for one in shown)
    # `distinct` dropped nothing here, so the example is of a select behind it.
    (story,) = example(str(place / "d4"))["copies"]
    assert story["outcome"] == "dropped by original in unlike"
    (again,) = why(str(place / "d4"), story["origin"])["copies"]
    assert again == story


def test_a_target_recipe_chooses_a_fifth_of_what_is_no_target(place: Path) -> None:
    stages = ran(place, "target")
    folder = place / "target" / stages["chosen"]["folder"]
    chosen = pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("0*.parquet")))
    assert chosen.num_rows == stages["chosen"]["rows"] > 0
    assert "docs" not in chosen["source"].cast(pa.string()).to_pylist()


def test_all_methods_of_the_recipe_meet_one_budget(place: Path) -> None:
    ran(place, "selection")
    told = compare_selection(str(place / "selection"), Asked(tuple(METHODS.items()), keep=0.2))
    assert [method["name"] for method in told["methods"]] == [*METHODS, "random"]
    for method in told["methods"]:
        assert not method["short"], method["name"]
        assert told["budget"] <= method["size"] < told["budget"] + 80  # less than a document more
    by_name = {method["name"]: method for method in told["methods"]}
    assert by_name["rds"]["sources"].get("readme", {"documents": 0})["documents"] == 0  # targets are never chosen
