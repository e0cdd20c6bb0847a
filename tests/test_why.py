"""The story of a document: the rule that dropped it with what it was told, and what cleaning took out of its text."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate import cli, recipe, report
from curate.outputs import state
from curate.run import run
from curate.why import why

RECIPE = """
ingest: {files: "raw.jsonl", source: web, shard_bytes: 4096}
stages:
  - heuristics:
  - clean: {steps: [refinedweb], patterns: {notice: "^Subscribe"}}
  - heuristics:
  - select: {name: left, keep: {rated: quality > 0.3, few: words < 20}, rules: [gopher_quality], carry: [words]}
  - select: {name: raw, from: heuristics, keep: {few: words < 5}}
  - select: {name: late, from: heuristics_clean, keep: {clean: bytes < 30}}
"""
LINE = "one line of the page that is told as it is"
NOTICE = "Subscribe to all of it"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("why")
    texts = [
        (f"Subscribe to é\nHOME\n{LINE}\n{NOTICE}", 0.5),
        (f"{LINE}\n{LINE}\n{NOTICE}", None),
        (f"{LINE}\n{LINE}\n{NOTICE}", 0.5),
        ("\n".join([LINE] * 70), 0.1),
        ("\n".join([f"{LINE} {n}x" for n in range(60)]), 0.30000001),
    ]
    filler = [(f"{LINE} {n} {'word ' * 90}", 0.2) for n in range(20)]
    lines = [json.dumps({"text": text, "quality": quality}) for text, quality in [*filler, *texts]]
    (place / "raw.jsonl").write_text("\n".join(lines) + "\n")
    (place / "recipe.yaml").write_text(RECIPE)
    run(recipe.load(str(place / "recipe.yaml")), str(place / "run"))
    return str(place / "run")


def stages(out: str, record: int) -> dict:
    (copy,) = why(out, f"raw.jsonl:{20 + record}")["copies"]
    return {stage["stage"]: stage for stage in copy["stages"]}


def test_the_rule_that_failed_comes_with_its_condition_and_the_values(out):
    told = stages(out, 3)
    assert (told["left"]["rule"], told["left"]["condition"]) == ("few", "words < 20")
    unknown = stages(out, 2)["left"]
    assert unknown["rule"] == "rated:unknown"
    assert (unknown["condition"], unknown["values"]) == ("quality > 0.3", {"quality": None})
    bundle = stages(out, 1)["left"]
    assert bundle["rule"] == "gopher_quality.word_count"
    assert bundle["values"] == {"symbol_free_words": 11}


def test_a_select_behind_a_rewriting_tells_what_it_saw_and_one_before_what_it_saw(out):
    told = stages(out, 3)
    assert told["raw"]["values"] == {"words": 27}
    assert told["left"]["values"] == {"words": 22}
    assert told["late"]["values"] == {"bytes": len(f"{LINE}\n{LINE}")}


@pytest.mark.parametrize("record", range(1, 6))
def test_values_are_those_of_the_row_and_fail_the_condition(out, record):
    told = stages(out, record)
    for name, measured in (("left", "heuristics_clean"), ("raw", "heuristics")):
        values = told[name].get("values", {})
        for column in values.keys() & told[measured]["columns"].keys():
            assert values[column] == told[measured]["columns"][column]
    assert told["raw"]["rule"] == "few"


def test_what_cleaning_took_out(out):
    told = stages(out, 1)["clean"]
    gone = ["Subscribe to é\n", "HOME\n", f"\n{NOTICE}"]
    assert told["removed"]["spans"] == len(told["removed"]["excerpts"]) == 3
    assert told["removed"]["bytes"] == sum(len(piece.encode()) for piece in gone)
    assert told["removed"]["reasons"] == {"notice": 2, "refinedweb": 1}
    assert [piece["text"] for piece in told["removed"]["excerpts"]] == gone
    assert told["columns"]["text"] == LINE
    untouched = stages(out, 4)["clean"]
    assert untouched["removed"] == {"spans": 0, "bytes": 0, "reasons": {}, "excerpts": []}
    assert untouched["columns"]["bytes"] > 1000
    assert len(untouched["columns"]["text"]) == 301, "an excerpt"


def test_excerpts_are_few_and_short(tmp_path: Path):
    lines = [f"Subscribe {'x' * 200} {n}" for n in range(9)]
    (tmp_path / "raw.jsonl").write_text(json.dumps({"text": f"{LINE}\n" + f"\n{LINE}\n".join(lines)}))
    (tmp_path / "recipe.yaml").write_text(
        "ingest: {files: raw.jsonl, source: a}\n"
        "stages:\n"
        "  - clean: {patterns: {first: 'x 0$'}}\n"
        "  - clean: {patterns: {second: 'x [1-9]$'}, name: again}\n"
    )
    out = str(tmp_path / "run")
    run(recipe.load(str(tmp_path / "recipe.yaml")), out)
    (copy,) = why(out, "raw.jsonl:1")["copies"]
    first, second = (stage["removed"] for stage in copy["stages"])
    assert (first["reasons"], second["reasons"]) == ({"first": 1}, {"second": 8})
    assert len(second["excerpts"]) == 3
    for piece, line in zip(second["excerpts"], lines[1:], strict=False):
        assert piece["text"].strip() == line[: len(piece["text"].strip()) - 1] + "…", "bytes of the text that it read"
        assert len(piece["text"]) == 81


def shown(out: str, record: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert cli.main(["why", out, f"raw.jsonl:{20 + record}"]) == 0
    return capsys.readouterr().out.splitlines()


def test_what_a_person_reads(out, capsys):
    lines = shown(out, 1, capsys)
    rule = "DROPPED: gopher_quality.word_count: symbol_free_words BETWEEN 50 AND 100000, here symbol_free_words=11"
    assert any(line.endswith(rule) for line in lines)
    size = len(f"Subscribe to é\nHOME\n\n{NOTICE}".encode())
    assert f"removed: 3 spans, {size} bytes: notice 2, refinedweb 1" in [line.strip() for line in lines]
    assert r"refinedweb: 'HOME\n'" in [line.strip() for line in lines]
    measured = [line for line in lines if "=" in line and "DROPPED" not in line]
    assert len(measured) > 10
    assert max(map(len, measured)) <= 120
    assert any(line.endswith("rated:unknown: quality > 0.3, here quality=null") for line in shown(out, 2, capsys))
    assert any(line.strip() == "removed: nothing" for line in shown(out, 4, capsys))


def test_a_value_near_the_threshold_is_told_from_it(out, capsys):
    told = stages(out, 5)["left"]
    assert (told["rule"], told["values"]) == ("few", {"words": 720})
    row = {"rule": "a", "condition": "share >= 0.8", "values": {"share": 0.79999}, "stage": "s", "kind": "select"}
    copy = {"origin": "o", "id": "i", "source": "s", "bytes": 1, "text": "", "stages": [row], "outcome": "dropped"}
    report.story({"rejected": [], "copies": [copy]})
    assert "a: share >= 0.8, here share=0.79999" in capsys.readouterr().out
    row |= {"values": {"share": 0.7993421}}
    report.story({"rejected": [], "copies": [copy]})
    assert "here share=0.7993\n" in capsys.readouterr().out


def test_a_rule_by_language_shows_the_case_of_the_document(capsys):
    condition = "share <= CASE language WHEN 'de' THEN 0.1 WHEN 'fr' THEN 0.25 END"
    row = {"rule": "a", "condition": condition, "values": {"share": 0.3, "language": "fr"}, "stage": "s"}
    copy = {"origin": "o", "id": "i", "source": "s", "bytes": 1, "text": "", "stages": [row], "outcome": "dropped"}
    report.story({"rejected": [], "copies": [copy]})
    assert "a: share <= 0.25, here share=0.3, language=fr" in capsys.readouterr().out
    row["values"] |= {"language": None}
    report.story({"rejected": [], "copies": [copy]})
    assert "a: share <= null, here share=0.3, language=null" in capsys.readouterr().out


def test_the_stages_of_the_run_are_all_told(out):
    assert list(stages(out, 1)) == [step["name"] for step in state(out)[1:]]
    folder = f"{out}/{state(out)[0]['folder']}"
    assert sum(pq.read_metadata(file).num_rows for file in Path(folder).rglob("0*.parquet")) == 25


def test_of_a_column_made_twice_the_one_that_was_seen_counts(tmp_path: Path):
    # Both cleanings are read, so that only their order tells whose `bytes` the rule saw.
    texts = [f"{LINE}\nfirst\nsecond", "second", *[f"{LINE} {n}\nfirst\nsecond" for n in range(200)]]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "recipe.yaml").write_text(
        "ingest: {files: raw.jsonl, source: a, shard_bytes: 2048}\n"
        "stages:\n"
        "  - clean: {patterns: {first: ^first}}\n"
        "  - clean: {patterns: {second: ^second}, name: again}\n"
        "  - select: {name: some, keep: {some: bytes > 0}}\n"
        "  - select: {name: none, from: again, keep: {cleaned: removed_lines < 9, short: bytes < 5}}\n"
        "  - heuristics: {from: some}\n"
        "  - select: {name: end, keep: {long: words > 99}}\n"
    )
    out = str(tmp_path / "run")
    run(recipe.load(str(tmp_path / "recipe.yaml")), out)
    for record in (0, 7, 150, 201):
        (copy,) = why(out, f"raw.jsonl:{record + 1}")["copies"]
        told = {stage["stage"]: stage for stage in copy["stages"]}
        left = texts[record].removesuffix("\nfirst\nsecond")
        assert told["none"]["values"] == {"bytes": len(left)}
        assert told["end"]["values"] == {"words": len(left.split())}
        assert [piece["text"] for piece in told["again"]["removed"]["excerpts"]] == ["\nsecond"]
