"""Runs as a whole: executors, caching by unit, conservation, limits, places."""

import json
import shutil
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
from corpus import digests, write_corpus, write_recipe

from curate import plan, recipe, store
from curate.errors import DataError, RecipeError
from curate.execute import pool, serial
from curate.manifest import Manifest
from curate.outputs import outputs
from curate.run import Event, run
from curate.stages.tokenize import Tokenize
from curate.unit import warm_up
from curate.why import why


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_corpus(tmp_path)
    return tmp_path


def work_done(path: Path, out: Path) -> dict[str, int]:
    """Units worked on, not taken over, by stage and phase."""
    done: dict[str, int] = {}

    def report(event: Event) -> None:
        if event.what == "unit":
            done[event.stage] = done.get(event.stage, 0) + 1

    run(recipe.load(str(path)), str(out), report=report)
    return done


def test_workers_do_not_matter(place: Path) -> None:
    path = write_recipe(place)
    run(recipe.load(str(path)), str(place / "one"))
    with pool(2) as workers:
        run(recipe.load(str(path)), str(place / "two"), map=workers)
    assert digests(place / "one") == digests(place / "two")


def test_warming_up_touches_no_asset(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are compiled before workers start; tokenizers and models are for the workers to load."""
    loaded = recipe.load(str(write_recipe(place)))
    steps = plan.resolve(loaded, str(place / "run"), plan.survey(loaded, str(place / "run"), serial))
    monkeypatch.setattr(Tokenize, "apply", None)
    warm_up(step.node.stage for step in steps)


def big_files(folder: Path, count: int) -> None:
    """Raw files above the size from which a file stands alone."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for index in range(count):
        lines = (
            json.dumps({"text": f"the {index} and {row} words of a file that is large, with more to it " * 8})
            for row in range(2500 + index)  # of different lengths: equal work would be taken over
        )
        (folder / f"{index}.jsonl").write_text("\n".join(lines))


STAGES = """
name: many
ingest: {files: "many/*.jsonl", source: web}
stages:
  - heuristics:
  - exact:
  - select: {name: first, keep: {first_copy: not duplicate, long: "words >= 10"}}
  - heuristics: {name: again}
"""


def test_one_more_file_is_one_file_of_work(tmp_path: Path) -> None:
    big_files(tmp_path / "many", 4)
    extra = tmp_path / "extra.jsonl"
    (tmp_path / "many" / "1.jsonl").rename(extra)
    path = tmp_path / "recipe.yaml"
    path.write_text(STAGES)
    first = work_done(path, tmp_path / "run")
    assert first == {
        "ingest": 3,
        "heuristics": 3,
        "exact (scan)": 3,
        "exact": 3,
        "first": 3,
        "first (gather)": 3,
        "again": 3,
    }
    extra.rename(tmp_path / "many" / "1.jsonl")
    assert work_done(path, tmp_path / "run") == dict.fromkeys(first, 1)
    run(recipe.load(str(path)), str(tmp_path / "fresh"))
    last = {name: value for name, value in digests(tmp_path / "run").items() if name in digests(tmp_path / "fresh")}
    assert last == digests(tmp_path / "fresh")


def test_another_rule_reads_numbers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big_files(tmp_path / "many", 3)
    path = tmp_path / "recipe.yaml"
    path.write_text(STAGES)
    run(recipe.load(str(path)), str(tmp_path / "run"))
    path.write_text(STAGES.replace("words >= 10", "words >= 12"))
    read: list[str] = []
    original = pq.ParquetFile.read

    def spied(self: pq.ParquetFile, columns: list[str] | None = None, **options: object) -> object:
        read.extend(columns or self.schema_arrow.names)
        return original(self, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read", spied)
    done = work_done(path, tmp_path / "run")
    # No survivor changed, so the rule's own three units are all there is to do, and they read two columns.
    assert done == {"first": 3}
    assert set(read) <= {"words", "duplicate", "bytes"}


def test_rows_are_conserved(place: Path) -> None:
    path = write_recipe(place)
    result = run(recipe.load(str(path)), str(place / "run"))
    source = result.source.manifest
    for unit in source.units:
        written = sum(pq.read_metadata(f"{result.source.folder}/{shard.name}").num_rows for shard in unit.shards)
        aside = sum(pq.read_metadata(f"{result.source.folder}/{file.name}").num_rows for file in unit.rejects)
        assert unit.rows_in == written + aside
        assert aside == unit.rejected
    for step, dataset in result.steps:
        if step.node.stage.kind == "select":
            rule = Manifest.load(store.join(step.folder, "rule"))
            assert rule is not None
            marks = [pq.read_table(f"{step.folder}/rule/{shard.name}")["rule"] for shard in rule.shards]
            kept = sum(pq.read_metadata(f"{step.folder}/{shard.name}").num_rows for shard in dataset.manifest.shards)
            assert kept == sum(mark.null_count for mark in marks)
            assert source.rows == kept + sum(len(mark) - mark.null_count for mark in marks)


def test_in_memory(place: Path) -> None:
    path = write_recipe(place)
    run(recipe.load(str(path)), str(place / "run"))
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for file in sorted(place.rglob("*")):
        if file.is_file() and "run" not in file.relative_to(place).parts:
            memory.pipe_file(f"/corpus/{file.relative_to(place)}", file.read_bytes())
    run(recipe.load(f"memory://corpus/{path.name}"), "memory://run")
    held = {name.removeprefix("/run/"): data for name, data in memory.store.items() if name.startswith("/run/")}
    local = digests(place / "run")
    assert local
    import hashlib

    for name, digest in local.items():
        if not name.endswith(("raw.json", ".json")):
            assert hashlib.sha256(held[name].getvalue()).hexdigest() == digest, name


def test_limit_is_exact_and_nested(place: Path) -> None:
    path = write_recipe(place)
    whole = recipe.load(str(path))
    origins = []
    for limit in (20, 60):
        result = run(recipe.Recipe(whole.name, whole.root, whole.ingest, ()), str(place / f"run{limit}"), limit=limit)
        manifest = result.source.manifest
        assert sum(unit.rows_in for unit in manifest.units) == limit
        tables = [pq.read_table(f"{result.source.folder}/{shard.name}") for shard in manifest.shards]
        origins.append({origin for table in tables for origin in table["origin"].to_pylist()})
    assert origins[0] < origins[1]


def test_too_many_rejects_stop_before_anything_downstream(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\nbad\nbad\n')
    path = tmp_path / "recipe.yaml"
    path.write_text("ingest: {files: a.jsonl, source: web}\nstages: [heuristics]\n")
    with pytest.raises(DataError, match=r"2 of 3 raw records .*max_rejects"):
        run(recipe.load(str(path)), str(tmp_path / "run"))
    assert not list((tmp_path / "run").glob("heuristics-*"))
    path.write_text("ingest: {files: a.jsonl, source: web, max_rejects: 0.9}\nstages: [heuristics]\n")
    assert run(recipe.load(str(path)), str(tmp_path / "run")).rejected == 2


def test_output_inside_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n')
    path = tmp_path / "recipe.yaml"
    path.write_text('ingest: {files: "**/*.parquet", source: web}\nstages: [heuristics]\n')
    with pytest.raises(RecipeError, match="matched by"):
        run(recipe.load(str(path)), str(tmp_path / "run"))
    assert not (tmp_path / "run" / "run.json").exists()


def test_every_document_has_a_story(place: Path) -> None:
    path = write_recipe(place)
    out = str(place / "run")
    result = run(recipe.load(str(path)), out)
    shard = pq.read_table(f"{result.source.folder}/{result.source.manifest.shards[0].name}")
    outcomes: dict[str, int] = {}
    for origin in shard["origin"].to_pylist()[:60]:
        (copy,) = why(out, origin)["copies"]
        assert copy["origin"] == origin
        outcomes[copy["outcome"].split(" in ")[0]] = outcomes.get(copy["outcome"].split(" in ")[0], 0) + 1
    made = outputs(out)
    dropped = next(stage["dropped"] for stage in made["stages"] if stage["kind"] == "select")
    assert len(outcomes) > 1
    assert {name.removeprefix("dropped by ") for name in outcomes if name.startswith("dropped")} <= set(dropped)


def test_a_story_finds_the_windows(place: Path) -> None:
    path = write_recipe(place)
    out = str(place / "run")
    run(recipe.load(str(path)), out)
    made = outputs(out)
    folder = next(Path(stage["folder"]) for stage in made["stages"] if stage["kind"] == "pack")
    maps = sorted(folder.glob("map/train/*.parquet"))
    row = pq.read_table(maps[0]).slice(0, 1).to_pylist()[0]
    (copy,) = [c for c in why(out, row["origin"])["copies"] if c["origin"] == row["origin"]]
    windows = copy["stages"][-1]["windows"]
    prefix = f"train/{maps[0].stem}"
    assert any(w["prefix"] == prefix and w["window"] == row["window"] and w["start"] == row["start"] for w in windows)


def test_a_story_tells_every_branch(place: Path) -> None:
    path = write_recipe(place)
    path.write_text(path.read_text() + "  - select: {name: long, from: exact, keep: {long: words >= 100000}}\n")
    out = str(place / "run")
    run(recipe.load(str(path)), out)
    folder = next(Path(stage["folder"]) for stage in outputs(out)["stages"] if stage["kind"] == "pack")
    row = pq.read_table(next(folder.glob("map/train/*.parquet"))).slice(0, 1).to_pylist()[0]
    (copy,) = [c for c in why(out, row["origin"])["copies"] if c["origin"] == row["origin"]]
    assert "windows of pack" in copy["outcome"]
    assert copy["outcome"].endswith("dropped by long in long")
    assert why(out, row["origin"].rpartition("/")[2])["copies"]


def test_a_trial_run_scales_the_budget(place: Path) -> None:
    path = write_recipe(place)
    result = run(recipe.load(str(path)), str(place / "run"), limit=150)
    tokens = json.loads(Path(result.steps[-1][0].folder, "tokens.json").read_text())
    assert 12_000 < tokens["splits"]["train"]["tokens"] < 20_000  # half of the records, half of 32K
