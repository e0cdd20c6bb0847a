"""Near duplicates from end to end: what survives depends on texts and settings alone, and is told as it was."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate import recipe
from curate.cli import main
from curate.errors import RecipeError
from curate.look import look
from curate.run import run
from curate.why import why

RECIPE = """\
name: alike
ingest: {files: "raw/*.jsonl", source: {field: source}, shard_bytes: BYTES}
stages:
  - near: {bands: 16, rows: 3, ngram: 3, keep: KEEP}
  - confirm: {jaccard: 0.6, MORE}
  - select: {name: unique, keep: {original: not near_duplicate}, carry: [near_cluster_size]}
"""


def documents(seed: int = 0) -> list[dict[str, str]]:
    """Families of alike texts, some equal, some that stand alone."""
    draw = random.Random(seed)
    words = [f"w{number}" for number in range(300)]
    made: list[dict[str, str]] = []
    for family in range(40):
        text = draw.choices(words, k=draw.randint(20, 60))
        for copy in range(draw.randint(1, 4)):
            edited = list(text)
            for _ in range(draw.randint(0, 3)):
                edited[draw.randrange(len(edited))] = draw.choice(words)
            edited.append(f"end{copy}")  # of equal texts the place would decide
            made.append({"id": f"{family}-{copy}", "text": " ".join(edited), "source": draw.choice(["web", "wiki"])})
    draw.shuffle(made)
    return made


def write(folder: Path, rows: Sequence[dict[str, str]], *, keep: str, size: int = 1 << 20, more: str = "") -> Path:
    (folder / "raw").mkdir(parents=True)
    for number in range(2):
        lines = "".join(json.dumps(row) + "\n" for row in rows[number::2])
        (folder / "raw" / f"{number}.jsonl").write_text(lines)
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("BYTES", str(size)).replace("KEEP", keep).replace("MORE", more or "exempt: null"))
    return path


def survivors(path: Path) -> list[tuple[str, int]]:
    """The ids that are left, with the sizes of their clusters."""
    result = run(recipe.load(str(path)), str(path.parent / "run"))
    last = result.steps[-1][1]
    tables = [pq.read_table(f"{last.folder}/{shard.name}") for shard in last.manifest.shards]
    return sorted(
        pair
        for table in tables
        for pair in zip(table["source_id"].to_pylist(), table["near_cluster_size"].to_pylist(), strict=True)
    )


@pytest.mark.parametrize("keep", ["earliest", "longest"])
def test_shards_do_not_matter(keep: str, tmp_path: Path) -> None:
    rows = documents()
    whole = survivors(write(tmp_path / "whole", rows, keep=keep))
    assert survivors(write(tmp_path / "cut", rows, keep=keep, size=2000)) == whole
    assert 40 <= len(whole) < len(rows)


def test_order_matters_to_the_earliest_alone(tmp_path: Path) -> None:
    rows = documents()
    other = random.Random(1).sample(rows, len(rows))
    for keep, same in (("longest", True), ("earliest", False)):
        one = survivors(write(tmp_path / keep / "one", rows, keep=keep))
        assert (survivors(write(tmp_path / keep / "two", other, keep=keep)) == one) is same


def test_again_over_the_survivors_nothing_goes(tmp_path: Path) -> None:
    rows = documents()
    left = {name for name, _ in survivors(write(tmp_path / "one", rows, keep="longest"))}
    kept = [row for row in rows if row["id"] in left]
    assert {name for name, _ in survivors(write(tmp_path / "two", kept, keep="longest"))} == left


def test_the_story_of_one_that_went(tmp_path: Path) -> None:
    path = write(tmp_path, documents(), keep="longest")
    left = {name for name, _ in survivors(path)}
    gone = next(row["id"] for row in documents() if row["id"] not in left)
    (story,) = why(str(tmp_path / "run"), gone)["copies"]
    told = next(stage for stage in story["stages"] if stage["stage"] == "confirm")["columns"]
    assert told["near_duplicate"] is True
    assert 0.6 <= told["near_similarity"] <= 1
    (survivor,) = why(str(tmp_path / "run"), told["near_duplicate_of"])["copies"]
    assert survivor["source_id"].split("-")[0] == gone.split("-")[0]


def test_the_plan_tells_the_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, documents(), keep="longest")
    assert main(["plan", str(path), "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out
    assert "16 bands of 3 rows" in told
    assert "98.0 % at 0.6" in told.replace("\n", " ")
    assert "at most 0 MB" in told.replace("\n", " ")


def test_a_source_that_loses_too_much_stops_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, documents(), keep="longest", more="max_removed: {web: 0.01, wiki: 1.0}")
    assert main(["run", str(path), "--out", str(tmp_path / "run")]) == 4
    told = capsys.readouterr().err
    assert "web:" in told
    assert "max_removed allows 1.0%" in told.replace(" %", "%")
    assert "wiki:" not in told
    path.write_text(path.read_text().replace("web: 0.01", "web: 0.9"))
    assert survivors(path)


def test_what_a_step_before_makes_impossible_is_said_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, documents(), keep="highest, by: words")
    lines = path.read_text().splitlines()
    lines.insert(3, "  - heuristics:")
    lines.insert(5, "  - select: {name: some, keep: {a: bytes > 1}, carry: [near_group, near_leaders, near_known]}")
    path.write_text("\n".join(lines))
    said = r"recipe\.yaml: line 7: stages\[3\] 'confirm': `near` keeps the highest by 'words'"
    with pytest.raises(RecipeError, match=said):
        run(recipe.load(str(path)), str(tmp_path / "run"))


def test_one_off_filtering(tmp_path: Path) -> None:
    rows = documents()
    kept = {name for name, _ in survivors(write(tmp_path / "run", rows, keep="earliest"))}
    path = tmp_path / "run" / "raw"
    assert main(["filter", str(path), str(tmp_path / "out.parquet"), "--with", "exact,near", "--jaccard", "0.6"]) == 0
    left = pq.read_table(tmp_path / "out.parquet")
    gone = pq.read_table(tmp_path / "out.dropped.parquet")
    # Its bands are FineWeb's, over five words: it finds fewer.
    assert kept <= set(left["id"].to_pylist())
    assert set(gone["rule"].to_pylist()) == {"original"}
    assert gone["survivor"].null_count == 0
    assert main(["filter", str(path), str(tmp_path / "all.parquet"), "--where", "near_cluster_size < 3"]) == 0
    assert main(["filter", str(path), str(tmp_path / "all.parquet"), "--with", "near", "--jaccard", "7"]) == 2


def test_a_look_at_what_went_names_what_stays(tmp_path: Path) -> None:
    path = write(tmp_path, documents(), keep="longest")
    survivors(path)
    (one,) = look(str(tmp_path / "run"), rule="original", n=1)["dropped"]
    assert one["columns"]["near_duplicate_of"].startswith("raw/")
    assert 0.6 <= one["columns"]["near_similarity"] <= 1


def test_a_fault_of_the_plan_names_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, documents(), keep="longest")
    path.write_text(path.read_text().replace("  - near: {bands: 16, rows: 3, ngram: 3, keep: longest}\n", ""))
    assert main(["run", str(path), "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert f"{path}: line 4: stages[0] 'confirm' reads 'near_group'" in told
    assert "the stage `near` adds it" in told
