"""What other thresholds would keep, against the same sums over Python rows; and what is not read for it."""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus import write_corpus

from curate import cli, look, recipe, selection, whatif
from curate.errors import RecipeError
from curate.manifest import Manifest
from curate.outputs import outputs, state
from curate.run import run
from curate.stage import Stage

RECIPE = """
name: small
ingest:
  - {files: ["raw/docs-*", "raw/code-*"], source: {field: source}, shard_bytes: 16384, max_rejects: 0.1}
  - {files: "raw/readme-*.jsonl", source: readme, text: content, id: name}
stages:
  - heuristics:
  - exact:
  - select: {name: plausible, keep: {first_copy: not duplicate, long_enough: words >= 12}}
  - tokenize: {tokenizer: tokenizer.json, engine: tokenizers}
  - select: {name: sized, keep: {size: tokens between 30 and 200}}
  - select: {name: nothing, keep: {none: words < 0}}
  - select: {name: after, keep: {many: words > 9}}
"""
PLAUSIBLE = "not duplicate and words >= 12"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("whatif")
    write_corpus(place)
    (place / "recipe.yaml").write_text(RECIPE)
    run(recipe.load(str(place / "recipe.yaml")), str(place / "run"))
    return str(place / "run")


def rows(out: str, stage: str) -> list[dict]:
    """Python rows that a step saw, with its `rule`."""
    steps = state(out)
    step = next(step for step in steps if step["name"] == stage)
    beside = [s for s in steps if s["documents"] == step["documents"] and s["kind"] not in ("select", "pack")]
    base = next(s for s in steps if s["name"] == step["documents"])
    folders = [*(s["folder"] for s in (base, *beside)), f"{step['folder']}/rule"]
    columns: list[dict] = []
    for folder in folders:
        manifest = Manifest.load(f"{out}/{folder}")
        assert manifest is not None
        found = [row for shard in manifest.shards for row in pq.read_table(f"{out}/{folder}/{shard.name}").to_pylist()]
        columns = [{**a, **b} for a, b in zip(columns, found, strict=True)] if columns else found
    return columns


def sums(found: list[dict], tokens: bool = False) -> dict[str, int]:
    names = ("bytes", "tokens") if tokens else ("bytes",)
    return {"documents": len(found), **{name: sum(row[name] for row in found) for name in names}}


def compared(found: list[dict], keeps, tokens: bool = False) -> dict:
    now = [row for row in found if row["rule"] is None]
    kept = [row for row in found if keeps(row)]
    cells = {
        "all": found,
        "now": now,
        "kept": kept,
        "gained": [row for row in kept if row["rule"] is not None],
        "lost": [row for row in now if not keeps(row)],
    }
    return {name: sums(cell, tokens) for name, cell in cells.items()}


@pytest.mark.parametrize(
    ("where", "keeps"),
    [
        (PLAUSIBLE, lambda row: not row["duplicate"] and row["words"] >= 12),
        ("words < 20 or source = 'code'", lambda row: row["words"] < 20 or row["source"] == "code"),
        ("mean_word_length > 4.5", lambda row: row["mean_word_length"] > 4.5),  # NaN for no words: unknown
        ("url is not null and bytes > 100", lambda row: row["url"] is not None and row["bytes"] > 100),
        ("words < 0", lambda row: False),
    ],
)
def test_sums_are_those_of_the_rows(done, where, keeps):
    found = rows(done, "plausible")
    told = whatif.whatif(done, where=where)
    assert told["stage"] == "plausible"
    assert told["total"] == compared(found, keeps)
    sources = sorted({row["source"] for row in found})
    assert len(sources) == 3
    assert told["sources"] == [
        {"source": source, **compared([row for row in found if row["source"] == source], keeps)} for source in sources
    ]
    dropped = told["total"]["all"]["documents"] - told["total"]["kept"]["documents"]
    assert sum(told["dropped"].values()) == dropped


def test_the_rules_of_the_run_keep_what_it_kept(done):
    told = whatif.whatif(done, where=PLAUSIBLE)["total"]
    assert told["now"] == told["kept"]
    assert told["gained"] == told["lost"] == {"documents": 0, "bytes": 0}
    made = next(stage for stage in outputs(done)["stages"] if stage["name"] == "plausible")
    assert told["now"] == {"documents": made["rows"], "bytes": sum(made["bytes"].values())}


def test_the_first_step_whose_rows_have_the_columns_is_meant(done):
    assert whatif.whatif(done, where="tokens >= 50") == whatif.whatif(done, where="tokens >= 50", stage="sized")
    told = whatif.sweep(done, of="words", where="tokens >= 50", steps=3)
    assert told == whatif.sweep(done, of="words", where="tokens >= 50", steps=3, stage="sized")
    assert whatif.sweep(done, of="words", steps=3)["stage"] == "plausible"


def test_one_rule_is_changed_and_the_others_stay(done):
    found = rows(done, "plausible")
    told = whatif.whatif(done, change={"long_enough": "words >= 30"})
    assert told["change"] == {"long_enough": "words >= 30"}
    assert told["total"] == compared(found, lambda row: not row["duplicate"] and row["words"] >= 30)
    assert list(told["dropped"]) == ["long_enough", "first_copy"]
    off = whatif.whatif(done, change={"first_copy": "off"}, where="source != 'code'")
    assert off["total"] == compared(found, lambda row: row["words"] >= 12 and row["source"] != "code")
    assert set(off["dropped"]) == {"long_enough", "where"}
    none = whatif.whatif(done, change={"first_copy": "off", "long_enough": "off"})
    assert none["total"]["kept"] == none["total"]["all"]
    assert none["dropped"] == {}
    assert whatif.whatif(done, change={"size": "off"})["stage"] == "sized"


def test_rules_on_top_are_other_rules(tmp_path):
    (tmp_path / "raw.jsonl").write_text('{"text": "one text"}\n')
    (tmp_path / "recipe.yaml").write_text(
        "ingest: {files: raw.jsonl, source: a}\nstages:\n  - heuristics:\n"
        "  - select: {keep: {where: words > 1}, rules: [gopher_quality]}\n"
    )
    out = str(tmp_path / "run")
    run(recipe.load(str(tmp_path / "recipe.yaml")), out)
    for more in ({"where": "words > 3"}, {"rules": ("gopher_quality",)}):
        with pytest.raises(RecipeError, match=r"'select' has a rule .* already: change that one"):
            whatif.whatif(out, change={"word_count": "off"}, **more)
    with pytest.raises(RecipeError, match="is changed twice"):
        whatif.whatif(out, change={"word_count": "off", "gopher_quality.word_count": "off"})


def test_tokens_are_added_up_where_rows_have_them(done):
    found = rows(done, "sized")
    told = whatif.whatif(done, where="tokens >= 50 and words < 80", stage="sized")
    assert told["total"] == compared(found, lambda row: row["tokens"] >= 50 and row["words"] < 80, tokens=True)
    assert told["total"]["all"]["documents"] < len(rows(done, "plausible"))


def test_rule_sets_count_apart_what_nothing_is_known_of(done):
    told = whatif.whatif(done, where="words >= 2", rules=("gopher_quality",))
    assert told["rules"] == ["gopher_quality"]
    assert told["dropped"]["gopher_quality.word_count"] > 0
    assert told["total"]["kept"]["documents"] <= whatif.whatif(done, where="words >= 2")["total"]["kept"]["documents"]
    alone = whatif.whatif(done, where="url > 'https'")
    assert alone["dropped"] == {"where:unknown": sum(row["url"] is None for row in rows(done, "plausible"))}


def test_no_text_is_read(done, monkeypatch):
    asked = set()

    def spying(files, count, read=selection.read):
        asked.update(name for _, names in files for name in names)
        return read(files, count)

    monkeypatch.setattr(selection, "read", spying)
    whatif.whatif(done, where="words > 3")
    whatif.sweep(done, of="words", where="not duplicate")
    assert asked == {"source", "bytes", "words", "duplicate", "rule"}


@pytest.mark.parametrize("of", ["words", "mean_word_length", "stop_words", "bytes", "tokens"])
@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("held", [1, 1000])
def test_a_point_of_the_curve_is_what_whatif_says(done, of, below, held, monkeypatch):
    monkeypatch.setattr(whatif, "_HELD", held)
    stage, sign = ("sized" if of == "tokens" else "plausible"), ("<=" if below else ">=")
    told = whatif.sweep(done, of=of, steps=6, at=(4.1, 7.0, -3.5), where="source != 'code'", below=below, stage=stage)
    found = [row for row in rows(done, stage) if row["source"] != "code"]
    known = [row for row in found if row[of] is not None and not math.isnan(row[of])]
    assert told["unknown"] == len(found) - len(known)
    assert told["among"] == sums(known, tokens=stage == "sized")
    thresholds = [point["threshold"] for point in told["curve"]]
    assert thresholds == sorted(set(thresholds))
    for point in told["curve"]:
        said = whatif.whatif(done, where=f"{of} {sign} {point['threshold']!r} and source != 'code'", stage=stage)
        kept = said["total"]["kept"]
        assert {name: point[name] for name in kept} == kept
        assert point["share"] == kept["documents"] / len(known)


@pytest.mark.parametrize("below", [False, True])
def test_thresholds_stand_at_even_quantiles(done, below):
    told = whatif.sweep(done, of="words", steps=4, below=below)
    words = sorted(row["words"] for row in rows(done, "plausible"))
    for point in told["curve"]:
        kept = [n for n in words if (n <= point["threshold"] if below else n >= point["threshold"])]
        assert len(kept) == point["documents"]
    shares = [point["share"] for point in told["curve"]]
    order = shares if below else shares[::-1]
    for i, share in enumerate(order, 1):
        assert i / 4 <= share < i / 4 + 0.1
    assert len(shares) == 4


@dataclass(frozen=True)
class Halve(Stage):
    """Leaves the first half of each text."""

    kind: ClassVar[str] = "halve"
    rewrites: ClassVar[tuple[str, ...]] = ("text", "bytes")
    reads = ("text",)
    adds = ("text", "bytes")

    def apply(self, shard, verdict):
        texts = [text[: len(text) // 2] for text in shard["text"].to_pylist()]
        sizes = [len(text.encode()) for text in texts]
        return pa.table({"text": pa.array(texts, pa.large_string()), "bytes": pa.array(sizes, pa.int64())})


def test_each_branch_is_asked_for_its_own_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "STAGES", (*recipe.STAGES, Halve))
    (tmp_path / "raw.jsonl").write_text("\n".join(json.dumps({"text": "word " * n}) for n in range(1, 21)))
    (tmp_path / "recipe.yaml").write_text(
        "ingest: {files: raw.jsonl, source: a}\n"
        "stages:\n"
        "  - heuristics:\n"
        "  - halve:\n"
        "  - {select: {keep: {long: bytes >= 40}}, name: new}\n"
        "  - {select: {keep: {long: bytes >= 40}}, name: old, from: heuristics}\n"
    )
    run(recipe.load(str(tmp_path / "recipe.yaml")), str(tmp_path / "run"))
    for stage, sizes in (("old", [5 * n for n in range(1, 21)]), ("new", [5 * n // 2 for n in range(1, 21)])):
        told = whatif.whatif(str(tmp_path / "run"), where="bytes >= 40 and words > 0", stage=stage)["total"]
        assert told["all"] == {"documents": 20, "bytes": sum(sizes)}
        assert (
            told["kept"]
            == told["now"]
            == {"documents": sum(n >= 40 for n in sizes), "bytes": sum(n for n in sizes if n >= 40)}
        )
        shown = look.look(str(tmp_path / "run"), rule="long", stage=stage, n=1)["held"][0]
        assert len(shown["text"]) == shown["columns"]["bytes"] == 40


def test_nothing_is_left_to_keep(done):
    nothing = {"documents": 0, "bytes": 0, "tokens": 0}
    told = whatif.whatif(done, where="words > 3", stage="after")
    assert told["total"] == dict.fromkeys(("all", "now", "kept", "gained", "lost"), nothing)
    assert told["sources"] == []
    assert whatif.sweep(done, of="words", at=(3,), stage="after")["curve"] == [
        {"threshold": 3, **nothing, "share": 0.0}
    ]
    assert look.look(done, rule="many", stage="after")["documents"] == {"dropped": 0, "held": 0, "kept": 0}
    assert cli.main(["whatif", done, "--where", "words > 3", "--stage", "after"]) == 0


def test_given_thresholds_alone(done):
    told = whatif.sweep(done, of="words", steps=0, at=(19.5, 5))
    assert [point["threshold"] for point in told["curve"]] == [5, 20]
    assert whatif.sweep(done, of="words", steps=3, where="words < 0")["curve"] == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda out: whatif.whatif(out), "nothing to try"),
        (lambda out: whatif.whatif(out, where="word > 3"), "saw have no column 'word'; did you mean 'words'"),
        (
            lambda out: whatif.whatif(out, where="tokens > 3", stage="plausible"),
            "'plausible' saw have no column 'tokens'; the rows of 'sized' (`--stage sized`)",
        ),
        (
            lambda out: whatif.whatif(out, where="tokens > 3 and url is not null and word > 1"),
            "; the rows of 'sized' (`--stage sized`)",
        ),
        (lambda out: whatif.whatif(out, where="qqq > 3"), "no column 'qqq'; there are "),
        (lambda out: whatif.whatif(out, change={"long_enogh": "words > 3"}), "did you mean 'long_enough'"),
        (lambda out: whatif.whatif(out, change={"long_enough": "word > 3"}), "did you mean 'words'"),
        (
            lambda out: whatif.whatif(out, change={"long_enough": "true"}),
            "'long_enough': the expression `true` names",
        ),
        (lambda out: whatif.whatif(out, change={"long_enough": "off", "size": "off"}), "no one `select` step has all"),
        (
            lambda out: whatif.whatif(out, change={"size": "off"}, stage="plausible"),
            "'plausible' has no rule called 'size'; 'sized' has it (`--stage sized`)",
        ),
        (lambda out: whatif.whatif(out, where="length(text) > 3"), "'text' is large_string: only numbers"),
        (lambda out: whatif.whatif(out, where="words"), "a rule is true or false"),
        (lambda out: whatif.whatif(out, rules=("gopher",)), "no rules are called 'gopher'"),
        (lambda out: whatif.whatif(out, where="words > 3", stage="plausable"), "did you mean 'plausible'"),
        (lambda out: whatif.whatif(out, where="words > 3", stage="heuristics"), "no `select` step called"),
        (lambda out: whatif.sweep(out, of="wordz"), "did you mean 'words'"),
        (lambda out: whatif.sweep(out, of="origin"), "'origin' is string: thresholds are for numbers"),
        (lambda out: whatif.sweep(out, of="ids", stage="sized"), "'ids' is large_list"),
        (lambda out: whatif.sweep(out, of="words", steps=0), "no thresholds"),
        (lambda out: whatif.sweep(out, of="words", at=(math.nan,)), "finite number, found nan"),
        (lambda out: whatif.whatif(out + "-not", where="words > 3"), "is no run folder"),
    ],
)
def test_mistakes_are_named(done, call, said):
    with pytest.raises(RecipeError) as error:
        call(done)
    assert said in str(error.value)


def test_an_unfinished_run_says_so(done, tmp_path):
    shutil.copytree(done, tmp_path / "run")
    folder = next(step["folder"] for step in state(done) if step["name"] == "plausible")
    (tmp_path / "run" / folder / "rule" / "manifest.json").unlink()
    with pytest.raises(RecipeError, match=r"stage 'plausible' of .* is unfinished; `curate run` finishes it"):
        whatif.whatif(str(tmp_path / "run"), where="words > 3")
    assert whatif.whatif(str(tmp_path / "run"), where="words > 3", stage="sized")["stage"] == "sized"


def test_a_run_that_selects_nothing(tmp_path):
    (tmp_path / "raw.txt").write_text("one text and no more")
    (tmp_path / "recipe.yaml").write_text("ingest: {files: raw.txt, source: a}\nstages:\n  - heuristics:\n")
    run(recipe.load(str(tmp_path / "recipe.yaml")), str(tmp_path / "run"))
    with pytest.raises(RecipeError, match="has no `select` step"):
        whatif.whatif(str(tmp_path / "run"), where="words > 3")


def test_the_command_line(done, capsys):
    assert cli.main(["whatif", done, "--where", "words >= 20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == whatif.whatif(done, where="words >= 20")
    assert cli.main(["sweep", done, "--of", "words", "--at", "3,4.5", "--steps", "2", "--below", "--json"]) == 0
    told = whatif.sweep(done, of="words", at=(3, 4.5), steps=2, below=True)
    assert json.loads(capsys.readouterr().out) == told
    assert cli.main(["whatif", done, "--where", "words >= 20", "--rules", "gopher_quality"]) == 0
    shown = capsys.readouterr().out
    assert "all sources" in shown
    assert "kept by `words >= 20 and gopher_quality`" in shown
    assert cli.main(["sweep", done, "--of", "tokens", "--stage", "sized"]) == 0
    assert "tokens >=" in capsys.readouterr().out
    assert cli.main(["whatif", done, "--change", "long_enough=words >= 30", "--change", "first_copy=off"]) == 0
    assert "its rules with long_enough=words >= 30 and first_copy=off" in capsys.readouterr().out
    for wrong in ("long_enough", "=words > 3", "long_enough="):
        assert cli.main(["whatif", done, "--change", wrong]) == 2
        assert "NAME=EXPR is wanted" in capsys.readouterr().err
    assert cli.main(["whatif", done, "--change", "first_copy=off", "--change", "first_copy=duplicate"]) == 2
    assert "--change names a rule twice" in capsys.readouterr().err
    assert cli.main(["sweep", done, "--of", "mean_word_length", "--at", "0.0068148632,1234567.5", "--steps", "0"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["0.006815", "1,234,568"]
    assert cli.main(["whatif", done, "--where", "word > 1"]) == 2
    assert "did you mean 'words'" in capsys.readouterr().err
    assert cli.main(["sweep", done, "--of", "words", "--at", "few"]) == 2
    assert cli.main(["whatif", str(Path(done) / "no"), "--where", "words > 1"]) == 2
