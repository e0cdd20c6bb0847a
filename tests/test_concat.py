"""Branches joined into one dataset: every document of each, in order, under the source it was given."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from corpus import write_corpus

from curate import joining, plan, recipe, report
from curate.errors import RecipeError
from curate.execute import pool, serial
from curate.manifest import parse
from curate.outputs import outputs
from curate.run import Result, run
from curate.stages.concat import Concat
from curate.verify import verify
from curate.view import View
from curate.why import why

ROOT = Path(__file__).parents[1]
TOP = """
ingest: {{files: "raw/*.parquet", source: {{field: source}}, shard_bytes: 2000}}
stages:
  - heuristics:
  - select: {{name: short, keep: {{few: words < {few}}}}}
  - select: {{name: long, from: heuristics, keep: {{many: bytes >= 35}}, carry: [quality_note]}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("concat")
    (folder / "raw").mkdir()
    draw = np.random.default_rng(3)
    for file in range(2):
        texts = [" ".join(map(str, draw.integers(0, 99, int(draw.integers(1, 30))))) for _ in range(120)]
        sources = [("a", "b")[int(n)] for n in draw.integers(0, 2, 120)]
        table = pa.table({"text": texts, "source": sources, "quality_note": draw.random(120)})
        pq.write_table(table, folder / "raw" / f"{file}.parquet")
    return folder


def made(place: Path, ending: str, *, few: int = 15, out: str = "run", map=serial) -> Result:
    asked = recipe.parse(TOP.format(few=few) + ending, root=str(place))
    return run(asked, str(place / out), map=map)


def rows(result: Result, name: str) -> list[dict]:
    dataset = next(one for step, one in result.steps if step.node.name == name)
    return [r for shard in dataset.manifest.shards for r in pq.read_table(f"{dataset.folder}/{shard.name}").to_pylist()]


def test_all_documents_of_all_branches_in_order(place: Path) -> None:
    result = made(place, "  - concat: {of: [long, short]}\n")
    long, short, both = (rows(result, name) for name in ("long", "short", "concat"))
    assert {"id", "text", "source", "origin", "bytes", "quality_note"} <= both[0].keys()
    assert "words" not in long[0]
    assert {row["words"] for row in both[: len(long)]} == {None}
    assert both == [{name: row.get(name) for name in both[0]} for row in (*long, *short)]
    assert len({row["id"] for row in both}) < len(both), "some documents are in both branches"


def test_sources_are_what_branches_are_called(place: Path) -> None:
    result = made(place, "  - concat: {of: {web: long, notes: short}}\n", out="named")
    long, short, both = (rows(result, name) for name in ("long", "short", "concat"))
    assert [row["source"] for row in both] == ["web"] * len(long) + ["notes"] * len(short)
    assert [row["origin"] for row in both] == [row["origin"] for row in (*long, *short)]
    told = next(stage for stage in outputs(str(place / "named"))["stages"] if stage["name"] == "concat")
    assert told["documents"] == {"notes": len(short), "web": len(long)}
    assert told["rows_in"] == len(both)


@pytest.mark.parametrize(
    ("of", "sources", "by"),
    [
        ("{web: long, notes: short}", {"web", "notes"}, "concat"),
        ("{a: long, notes: short}", {"a", "notes"}, "concat"),
        ("[long, short]", {"a", "b"}, None),
    ],
)
def test_the_table_of_sources_is_of_the_last_ones(place: Path, of: str, sources: set[str], by: str | None, capsys):
    made(place, f"  - concat: {{of: {of}}}\n  - select: {{name: end, keep: {{all: bytes > 0}}}}\n", out="table")
    told = outputs(str(place / "table"))
    assert [stage.get("sources_by") for stage in told["stages"]] == [None, None, None, None, by, by]
    report.table(told)
    head, *lines = capsys.readouterr().out.partition("\n\n")[2].splitlines()
    found = {line.split()[0]: line.split() for line in lines[: len(sources)]}
    assert found.keys() == sources
    last = told["stages"][-1]
    for source, (_, *numbers) in found.items():
        kept = f"{last['bytes'][source] / 1e6:.2f}"
        before = [] if by else [f"{told['stages'][0]['bytes'][source] / 1e6:.2f}"]
        assert numbers == [*before, kept, f"{last['documents'][source]:,}"]
    assert ("MB in" in head) == (by is None)
    read = [line for line in lines if line.startswith("sources as `concat` names them; what was read: a 0.0")]
    assert bool(read) == bool(by)


def test_it_does_not_matter_who_works(place: Path) -> None:
    ending = "  - concat: {of: {web: long, notes: short}}\n"
    one = made(place, ending, out="serial")
    with pool(2) as map:
        two = made(place, ending, out="pool", map=map)
    assert [d.manifest.shards for _, d in one.steps] == [d.manifest.shards for _, d in two.steps]


def test_one_branch_that_changed_is_joined_anew_alone(place: Path) -> None:
    ending = "  - concat: {of: [long, short]}\n"
    made(place, ending, out="again")
    units = {}

    def watch(event) -> None:
        if event.what == "cached":
            units[event.stage] = (event.units, event.cached)

    asked = recipe.parse(TOP.format(few=14) + ending, root=str(place))
    result = run(asked, str(place / "again"), report=watch)
    total, cached = units["concat (join)"]
    assert 0 < cached < total
    assert rows(result, "concat") == [
        {name: row.get(name) for name in rows(result, "concat")[0]}
        for row in (*rows(result, "long"), *rows(result, "short"))
    ]
    assert run(asked, str(place / "again")).worked == 0
    assert verify(str(place / "again"))["damaged"] == []


def test_a_lost_file_is_joined_again(place: Path) -> None:
    ending = "  - concat: {of: [long, short]}\n"
    result = made(place, ending, out="lost")
    dataset = result.steps[-1][1]
    shard = Path(dataset.folder) / dataset.manifest.shards[1].name
    before = shard.read_bytes()
    shard.unlink()
    assert made(place, ending, out="lost").worked == 1
    assert shard.read_bytes() == before


def test_which_branch_is_which_is_part_of_identity(place: Path) -> None:
    def identity(of: str) -> str:
        asked = recipe.parse(TOP.format(few=15) + f"  - concat: {{of: {of}}}\n", root=str(place))
        source = plan.survey(asked, str(place / "none"), serial)
        return plan.resolve(asked, str(place / "none"), source)[-1].id

    found = [identity(of) for of in ("[long, short]", "[short, long]", "{a: long, b: short}", "{a: short, b: long}")]
    assert len(set(found)) == 4


def test_stages_behind_see_the_whole(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ending = "  - concat: {of: {web: long, notes: short}}\n  - exact:\n"
    ending += "  - select: {name: once, keep: {a: not duplicate}}\n"
    result = made(place, ending, out="behind")
    both, once = rows(result, "concat"), rows(result, "once")
    first = {}
    for row in both:
        first.setdefault(row["id"], row["source"])
    assert [(row["id"], row["source"]) for row in once] == list(first.items())
    found = next(row for row in rows(result, "short") if row["id"] in {r["id"] for r in rows(result, "long")})
    (copy,) = why(str(place / "behind"), found["origin"])["copies"]
    met = [stage["columns"] for stage in copy["stages"] if stage["stage"] == "concat"]
    assert met == [{"branch": "long", "source": "web"}, {"branch": "short", "source": "notes"}]
    report.story({"copies": [copy], "rejected": []})
    assert "branch=short, source=notes" in " ".join(capsys.readouterr().out.split())
    assert copy["outcome"] == "dropped by a in once"
    steps = {step["name"]: step["documents"] for step in parse(str(place / "behind" / "run.json"))["steps"]}
    assert steps["concat"] == ["long", "short"]
    assert steps["exact"] == "concat"


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("  - concat: {of: [long, shrt]}\n", r"line 7: 'concat' is from 'shrt', no stage before it.*short"),
        ("  - concat: {of: [long]}\n", "two or more"),
        ("  - concat: {of: [long, long]}\n", "twice"),
        ("  - concat: {of: {'': long, b: short}}\n", "without a name"),
        ("  - concat: {of: [long, short]}\n    from: long\n", "`from:` does not go with it"),
        ("  - concat: {of: [long, short], carry: [words]}\n  - select: {keep: {x: wrods > 1}}\n", "wrods"),
        ("  - concat: {of: [long, short], carry: [nothing]}\n", "carries 'nothing'"),
        (
            "  - concat: {of: {no: long, b: short}}\n",
            r"line 7: no is no word in YAML but a value; write 'no' with quotes",
        ),
        ("  - concat: {with: [long, short]}\n", "unknown parameter 'with'"),
        ("  - concat:\n", "needs `of:`"),
    ],
)
def test_what_cannot_be_joined_is_said_before_work(place: Path, ending: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        made(place, ending, out="refused")


def test_columns_of_two_types_are_named(place: Path) -> None:
    result = made(place, "  - concat: {of: [long, short]}\n", out="types")
    views = [View(one) for step, one in result.steps if step.node.name in ("short", "long")][::-1]
    other = place / "other"
    shutil.copytree(views[1].documents.folder, other)
    shard = other / views[1].documents.manifest.shards[0].name
    table = pq.read_table(shard)
    at = table.column_names.index("quality_note")
    pq.write_table(table.set_column(at, "quality_note", table["quality_note"].cast(pa.string())), shard)
    views[1] = View(dataclasses.replace(views[1].documents, folder=str(other)))
    with pytest.raises(RecipeError, match="'quality_note' is double in 'long' and string in 'short'"):
        joining.jobs(result.steps[-1][0], views)


def test_an_empty_branch_is_no_harm(place: Path) -> None:
    result = made(place, "  - concat: {of: [long, short]}\n", few=0, out="empty")
    assert len(rows(result, "concat")) == len(rows(result, "long")) > 0
    assert not rows(result, "short")


def test_the_recipe_as_it_ships(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    raw = yaml.safe_load((ROOT / "flows" / "recipes" / "branches.yaml").read_text())
    raw["ingest"] = [
        {"files": "raw/docs-1*", "source": "docs"},
        {"files": "raw/code-*", "source": "code"},
    ]
    for stage in raw["stages"]:
        if "tokenize" in stage:
            stage["tokenize"]["tokenizer"] = "tokenizer.json"
        elif "mix" in stage:
            stage["mix"].update(tokens=3000, validation=0.05)
        elif "pack" in stage:
            stage["pack"]["window"] = 64
        elif "select" in stage and "rules" in stage["select"]:
            stage["select"]["rules"] = []
    result = run(recipe.parse(yaml.safe_dump(raw, sort_keys=False), root=str(tmp_path)), str(tmp_path / "run"))
    assert {row["source"] for row in rows(result, "concat")} == {"code", "prose"}
    drawn = parse(result.steps[-2][1].folder + "/mixture.json")["phases"]
    assert [phase["weights"] for phase in drawn] == [{"code": 0.3, "prose": 0.7}, {"code": 0.5, "prose": 0.5}]


def test_a_stage_says_what_its_documents_become() -> None:
    table = pa.table({"source": pa.array(["x", "y"]).dictionary_encode(), "n": [1, 2]})
    stage = Concat({"a": "one", "b": "two"})
    assert stage.join(1, table).to_pylist() == [{"source": "b", "n": 1}, {"source": "b", "n": 2}]
    assert Concat(("one", "two")).join(1, table) is table
    assert stage.join(0, table.slice(0, 0)).num_rows == 0
