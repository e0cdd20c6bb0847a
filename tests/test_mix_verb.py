"""A run with two phases, end to end, what the verb `mix` shows of it, and results of fits as targets."""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest
from corpus import write_corpus, write_recipe

from curate import mix_report, mix_verb, recipe, schema
from curate.errors import RecipeError
from curate.fit import result
from curate.mixture import Available
from curate.outputs import outputs
from curate.run import run
from curate.stages.mix import Mix
from curate.verify import verify
from curate.why import why

MIX = """mix:
      tokens: 32K
      validation: 0.05
      max_epochs: {docs: 3, code: 6, readme: 6}
      phases:
        - {name: base, share: 0.75}
        - {name: last, weights: {docs: 0.2, code: 0.5, readme: 0.3}}"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The recipe of the small corpus with two phases, and the folder of its run."""
    folder = tmp_path_factory.mktemp("phases")
    write_corpus(folder)
    path = write_recipe(folder)
    head, _, tail = path.read_text().partition("mix: {")
    path.write_text(head + MIX + tail[tail.index("}, tokens") :].partition("validation: 0.05}")[2])
    run(recipe.load(str(path)), str(folder / "run"))
    return path, folder / "run"


def step(finished: tuple[Path, Path], kind: str) -> Path:
    (found,) = (stage["folder"] for stage in outputs(str(finished[1]))["stages"] if stage["kind"] == kind)
    return Path(found)


def test_a_run_writes_its_plan_and_keeps_to_it(finished: tuple[Path, Path]) -> None:
    told = json.loads((step(finished, "mix") / "mixture.json").read_text())
    jsonschema.validate(told, schema.schema("mixture"))
    tokens = json.loads((step(finished, "pack") / "tokens.json").read_text())
    jsonschema.validate(tokens, schema.schema("tokens"))
    assert told["tokens"] == 32_000
    assert [phase["tokens"] for phase in told["phases"]] == [24_000, 8_000]
    for drawn, packed in zip(told["drawn"], tokens["phases"], strict=True):
        assert drawn["name"] == packed["name"]
        for source, entry in packed["sources"].items():
            assert entry["tokens"] + entry["left_out_tokens"] == drawn["tokens_by_group"][source]
            assert entry["documents"] == drawn["documents_by_group"][source]
    assert verify(str(finished[1]))["damaged"] == []
    assert run(recipe.load(str(finished[0])), str(finished[1])).worked == 0


def test_epochs_of_a_source_go_on_from_phase_to_phase(finished: tuple[Path, Path]) -> None:
    folder = step(finished, "pack")
    tokens = json.loads((folder / "tokens.json").read_text())
    for source in tokens["splits"]["train"]["sources"].values():
        epochs = []
        for shard in source["shards"]:
            epochs += pq.read_table(folder / "map" / f"{shard['prefix']}.parquet")["epoch"].to_pylist()
        assert all(a <= b for a, b in pairwise(epochs))
    assert max(epochs) > 0, "the last source is drawn again"


def test_a_document_is_told_how_often_each_phase_drew_it(finished: tuple[Path, Path]) -> None:
    columns = pq.read_table(sorted(step(finished, "mix").glob("0*.parquet"))[0])
    kept = pq.read_table(sorted(step(finished, "select").glob("0*.parquet"))[0], columns=["origin"])
    row = max(range(columns.num_rows), key=lambda n: columns["copies"][n].as_py())
    (story,) = why(str(finished[1]), kept["origin"][row].as_py())["copies"]
    (said,) = (stage["columns"] for stage in story["stages"] if stage["kind"] == "mix")
    assert said["phase_copies"] == columns["phase_copies"][row].as_py()
    assert sum(said["phase_copies"]) == said["copies"] > 0


def test_a_run_and_its_recipe_show_one_plan(finished: tuple[Path, Path]) -> None:
    path, out = map(str, finished)
    told, planned = mix_verb.shown(out), mix_verb.shown(path, of=out)
    assert planned == {name: value for name, value in told.items() if name != "drawn"}
    same = mix_verb.compared(out, str(step(finished, "mix") / "mixture.json"))
    assert same["changes"] == []
    assert len(set(same["fingerprints"])) == 1


def test_other_targets_are_planned_without_a_run(finished: tuple[Path, Path], tmp_path: Path) -> None:
    path, out = finished
    other = path.with_name("other.yaml")
    other.write_text(path.read_text().replace("share: 0.75", "share: 0.5"))
    planned = mix_verb.shown(str(other), of=str(out))
    assert [phase["tokens"] for phase in planned["phases"]] == [16_000, 16_000]
    file = tmp_path / "mixture.json"
    file.write_text(json.dumps(planned))
    changes = mix_verb.compared(str(out), str(file))["changes"]
    assert {"what": "start", "phase": "last", "group": None, "before": 24_000, "after": 16_000} in changes
    for name in ("base", "last"):
        mine = [one for one in changes if (one["what"], one["phase"]) == ("tokens", name)]
        (whole,) = (one["after"] - one["before"] for one in mine if one["group"] is None)
        assert whole == (-8_000 if name == "base" else 8_000)
        assert whole == sum(one["after"] - one["before"] for one in mine if one["group"])
    run_over = {one["group"]: one["after"] - one["before"] for one in changes if one["phase"] is None}
    assert None not in run_over, "both have as many tokens in all"
    assert run_over
    assert sum(run_over.values()) == 0


def changed(finished: tuple[Path, Path], *pairs: tuple[str, str]) -> str:
    """The recipe with something else in it, as a file beside it."""
    text = finished[0].read_text()
    for before, after in pairs:
        assert before in text
        text = text.replace(before, after)
    other = finished[0].with_name("changed.yaml")
    other.write_text(text)
    return str(other)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("validation: 0.05", "validation: 0.1", "mix: `validation` is 0.1, there 0.05."),
        ("validation: 0.05", "validation: 0.05\n      bucket: words", "mix: `bucket` is words, there not given."),
        ("validation: 0.05", "validation: 0.05\n      seed: 1", "mix: `seed` is 1, there 0."),
        ("validation: 0.05", "validation: 0.05\n      cluster: url", "mix: `cluster` is url, there id."),
        ("words >= 12", "words >= 13", "plausible: keep.long_enough words >= 12 -> words >= 13."),
        ("jaccard: 0.6", "jaccard: 0.7", "confirm: jaccard 0.6 -> 0.7."),
        ("max_rejects: 0.1", "max_rejects: 0.1, limit: 200", "ingest: limit none -> 200"),
        ("name: plausible", "name: likely", "likely: the run has no such step."),
    ],
)
def test_a_recipe_of_other_documents_is_not_planned(
    finished: tuple[Path, Path], before: str, after: str, said: str
) -> None:
    other = changed(finished, (before, after))
    with pytest.raises(RecipeError, match="would not mix the documents that") as refused:
        mix_verb.shown(other, of=str(finished[1]))
    assert said in str(refused.value)
    assert "--of` tries other targets" in str(refused.value)


def test_what_mixing_does_not_depend_on_may_differ(finished: tuple[Path, Path]) -> None:
    pairs = ("window: 64", "window: 32"), ("tokens: 32K", "tokens: 16K"), ("readme: 6}", "readme: 5}")
    other = changed(finished, *pairs)
    assert mix_verb.shown(other, of=str(finished[1]))["tokens"] == 16_000


def test_a_sample_is_planned_as_it_was_run(finished: tuple[Path, Path], tmp_path: Path) -> None:
    run(recipe.load(str(finished[0])), str(tmp_path), limit=200)
    told, planned = mix_verb.shown(str(tmp_path)), mix_verb.shown(str(finished[0]), of=str(tmp_path))
    assert planned == {name: value for name, value in told.items() if name != "drawn"}


def asked(*words: str) -> tuple[dict[str, Any], Any]:
    """What the verb tells for a command line, and how it would show it."""
    parser, shown = argparse.ArgumentParser(), []
    verbs = parser.add_subparsers()

    def add(name: str, verb: Any, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text)
        sub.set_defaults(verb=verb)
        return sub

    mix_verb.register(add, lambda told, options, tables: shown.append((told, tables)))
    options = parser.parse_args(["mix", *words])
    assert options.verb(options) == 0
    return shown[0]


def test_plans_and_changes_are_tables(finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    told, tables = asked("show", str(finished[1]))
    tables(told)
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines()]
    assert ["base", "all", "24,000", "0.7500", "of", "all"] in rows
    assert f"fingerprint {told['fingerprint']}" in said
    code = next(row for row in rows if row[:2] == ["last", "code"])
    assert code[2:4] == ["4,000", "0.5000"]
    told, tables = asked("diff", str(finished[1]), str(finished[1]))
    tables(told)
    assert "the same plan" in capsys.readouterr().out
    mix_report.plan(Mix(weights={"code": 1}, tokens=5).plan({"code": Available(9), "docs": Available(9)}).told())
    said = capsys.readouterr().out
    assert [line.split()[:3] for line in said.splitlines() if "docs" in line] == [["nothing", "is", "drawn"]]
    changed = [{"what": "tokens", "phase": "last", "group": "code", "before": 4000, "after": 5000}]
    mix_report.changes({"fingerprints": ["a", "b"], "changes": changed})
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("last"))
    assert line.split() == ["last", "code", "tokens", "4,000", "5,000", "+1,000"]


@pytest.mark.parametrize(
    ("place", "of", "message"),
    [
        ("RECIPE", None, "a recipe alone has no documents to plan for"),
        ("RUN", "RUN", "--of goes with a recipe"),
        ("RECIPE", "nowhere", "nowhere is no run folder"),
        ("nowhere", None, "nowhere is no run folder"),
        ("nowhere.json", None, "no mixture at nowhere.json"),
        ("RECIPE.json", None, "is no JSON"),
    ],
)
def test_what_has_no_plan_is_refused(finished: tuple[Path, Path], place: str, of: str | None, message: str) -> None:
    finished[0].with_suffix(".json").write_text("{")
    names = {"RECIPE": str(finished[0]), "RUN": str(finished[1]), "RECIPE.json": str(finished[0].with_suffix(".json"))}
    with pytest.raises(RecipeError, match=message):
        mix_verb.shown(names.get(place, place), of=names.get(of or "", of))


def test_recipes_have_no_plans_to_compare(finished: tuple[Path, Path]) -> None:
    for pair in (finished, finished[::-1]):
        with pytest.raises(RecipeError, match=r"compares runs, or their mixture\.json, and .*recipe\.yaml is a recipe"):
            mix_verb.compared(*map(str, pair))


def test_a_step_that_is_not_there_is_refused(finished: tuple[Path, Path]) -> None:
    with pytest.raises(RecipeError, match="has 0 mix steps called other"):
        mix_verb.shown(str(finished[1]), step="other")


def test_what_a_fit_found_is_drawn_and_is_part_of_identity(tmp_path: Path) -> None:
    result.write(str(tmp_path / "fit.json"), "regmix", {"web": 0.75, "code": 0.25}, {})
    result.write(str(tmp_path / "worth.json"), "utility", {"web": 0.9, "code": 0.1}, {})
    place = str(tmp_path)
    text = """
ingest: {files: a, source: b}
stages: [{mix: {tokens: 8, phases: [{name: base, share: 0.5, fit: fit.json}, {name: last, utility: worth.json}]}}]
"""
    method = recipe.parse(text, root=place).nodes[0].stage
    assert isinstance(method, Mix)
    assert method.assets == {"base.fit": f"{place}/fit.json", "last.utility": f"{place}/worth.json"}
    assert place not in json.dumps(method.identity())
    have = {"web": Available(100, 1), "code": Available(100, 1)}
    assert method.plan(have).quotas == ({"web": 3, "code": 1}, {"web": 4})
    plain = recipe.parse(text.replace("phases", "fit: fit.json, phases").split(", phases")[0] + "}}]", root=place)
    one = plain.nodes[0].stage
    assert isinstance(one, Mix)
    assert one.assets == {"fit": f"{place}/fit.json"}
    assert one.plan(have).quotas == ({"web": 6, "code": 2},)


def test_a_fit_without_signal_is_not_drawn(tmp_path: Path) -> None:
    result.write(str(tmp_path / "fit.json"), "regmix", {}, {"signal": False})
    with pytest.raises(RecipeError, match="found no signal"):
        Mix(fit=str(tmp_path / "fit.json")).plan({"web": Available(1, 1)})
