"""Line cleaning as a stage: the text that is left, the spans that went, the rules that follow, and a whole run."""

import json
import re
from pathlib import Path
from typing import Any

import oracle_clean
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import hostile_text

from curate import recipe
from curate.errors import RecipeError
from curate.expressions import bundle, evaluate
from curate.run import run
from curate.stage import Verdict
from curate.stages.clean import Clean
from curate.why import why

BITS = [
    *["\n"] * 6,
    *["\r\n", "\n\n", "\u2028", " ", "  ", "\n \n", "\xa0"],
    *[
        "The cat sat on it.",
        "a b c",
        "end.",
        "and so on...",
        '"Yes!"',
        "[12]",
        "[edit]",
        "why?[1]",
        "[citation needed]",
    ],
    *["use JavaScript now.", "Terms of Use.", "we use cookies.", "lorem ipsum.", "{", "x" * 1001 + " a b."],
    *["HOME", "12", "3 likes", "items in cart", "Read more...", "Sign-in", "Accept all of it.", "call 555-1234 now."],
]
page = st.lists(st.one_of(st.sampled_from(BITS), st.sampled_from(BITS), hostile_text), max_size=20).map("".join)
PATTERNS = {"phone": r"\d{3}-\d{4}", "starts": "^(Accept|Sign)", "ends": r"on it\.$"}


def cleaned(stage: Clean, texts: list[str]) -> list[dict[str, Any]]:
    table = stage.apply(pa.table({"text": pa.array(texts, pa.large_string())}), Verdict())
    assert tuple(table.column_names) == stage.adds
    return table.to_pylist()  # type: ignore[no-any-return]


def without(text: str, patterns: dict[str, str]) -> str:
    lines = text.split("\n")
    for pattern in patterns.values():
        lines = [line for line in lines if not re.search(pattern, line, re.ASCII)]
    return "\n".join(lines)


def expected(stage: Clean, text: str) -> str:
    text = without(text, stage.patterns)
    limits = {
        name: getattr(stage, name)
        for name in (
            "citations",
            "terminal_punctuation",
            "min_words_per_line",
            "max_word_length",
            "javascript",
            "policy",
        )
    }
    for step in stage.steps:
        text = oracle_clean.c4(text, **limits) if step == "c4" else oracle_clean.refinedweb(text)[0]
    return text


def cut(text: str, removed: list[dict[str, Any]]) -> str:
    """The text without its removed spans, which are in order and apart."""
    data, kept, at = text.encode(), b"", 0
    for span in removed:
        assert at <= span["start"] < span["end"] <= len(data)
        kept, at = kept + data[at : span["start"]], span["end"]
    return (kept + data[at:]).decode()


STAGES = [
    Clean(steps=("c4",)),
    Clean(steps=("refinedweb",)),
    Clean(patterns=PATTERNS),
    Clean(steps=("refinedweb", "c4"), patterns=PATTERNS),
    Clean(steps=("c4", "refinedweb"), terminal_punctuation=False, min_words_per_line=-1, max_word_length=-1),
    Clean(steps=("c4",), citations=False, javascript=False, policy=False, min_words_per_line=5, max_word_length=9),
]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: "-".join((*stage.steps, *stage.patterns)))
@settings(max_examples=40)
@given(texts=st.lists(page, max_size=4))
def test_text_and_spans(stage: Clean, texts: list[str]) -> None:
    rows = cleaned(stage, texts)
    assert len(rows) == len(texts)
    for text, row in zip(texts, rows, strict=True):
        new = expected(stage, text)
        assert row["text"] == new
        assert row["text_id"] == xxhash.xxh3_128_digest(new.encode())
        assert row["bytes"] == len(new.encode())
        # A line feed may stand where another break was, or between lines of which the rest of the break is gone.
        left = cut(text, row["removed"])
        assert left.replace("\n", "") == new.replace("\n", "")
        assert bool(row["removed"]) == (new != text)
        assert {span["reason"] for span in row["removed"]} <= {*stage.steps, *stage.patterns}
        before, after = oracle_clean.words(text), oracle_clean.words(new)
        assert row["removed_words"] == before - after
        assert row["removed_word_ratio"] == pytest.approx((before - after) / max(before, 1))
        assert row["removed_lines"] == oracle_clean.lines(text) - oracle_clean.lines(new)


@given(st.lists(page, max_size=4))
def test_where_only_line_feeds_break_lines_the_spans_say_it_all(texts: list[str]) -> None:
    for stage in STAGES[1:3]:
        for text, row in zip(texts, cleaned(stage, texts), strict=True):
            assert cut(text, row["removed"]) == row["text"]


def test_spans_are_bytes_of_the_text_as_it_came() -> None:
    text = "é: call 555-1234\nHOME PAGE\nThe café is open.[1]\nnothing\n"
    (row,) = cleaned(Clean(steps=("refinedweb", "c4"), patterns=PATTERNS), [text])
    assert row["text"] == "The café is open."
    spans = [(text.encode()[span["start"] : span["end"]].decode(), span["reason"]) for span in row["removed"]]
    assert spans == [
        ("é: call 555-1234\n", "phone"),
        ("HOME PAGE\n", "refinedweb"),
        ("[1]", "c4"),
        ("\nnothing\n", "refinedweb"),
    ]


def test_a_row_that_loses_nothing_keeps_its_bytes() -> None:
    texts = ["A text that is as it should be.", ""]
    assert [row["text"] for row in cleaned(STAGES[3], texts)] == texts
    assert [row["removed"] for row in cleaned(STAGES[3], texts)] == [[], []]
    assert [row["removed_word_ratio"] for row in cleaned(STAGES[3], texts)] == [0, 0]


def test_slices_are_cleaned_like_wholes() -> None:
    texts = ["HOME\nThe cat sat on it.", "é Sign-in\na b c.", "12\n\nThe end of it.", "x"]
    whole = pa.table({"text": pa.array(texts, pa.large_string())})
    for stage in STAGES:
        assert stage.apply(whole.slice(1, 2), Verdict()).to_pylist() == cleaned(stage, texts)[1:3]
        assert stage.apply(whole.slice(0, 0), Verdict()).num_rows == 0


@pytest.mark.parametrize(("gone", "kept"), [(6, False), (5, True)])
def test_a_page_may_lose_one_word_in_twenty(gone: int, kept: bool) -> None:
    """Of 100 words a line of 6 is more than 5 %, one of 5 is not."""
    lines = [" ".join(["WORD"] * gone), *(["nine words of the page that is to stay"] * 10)]
    short = 100 - sum(len(line.split()) for line in lines)
    text = "\n".join([*lines, " ".join(["rest"] * short)])
    assert len(text.split()) == 100
    table = Clean(steps=("refinedweb",)).apply(pa.table({"text": pa.array([text], pa.large_string())}), Verdict())
    assert table["removed_words"].to_pylist() == [gone]
    verdicts = {name: evaluate(rule, table)[0][0] for name, rule in bundle("refinedweb_lines").items()}
    assert verdicts == {"not_empty": True, "removed_words": kept}


def test_pages_of_c4_are_judged_by_what_is_left() -> None:
    fair = "\n".join(f"This is sentence number {i} of the page." for i in range(5))
    texts = [
        fair,
        fair + "\nMenu",
        fair + "\nSome lorem ipsum is in here.",
        fair + "\nlorem ipsum",  # goes for want of a mark before it is looked for
        fair + "\nif (x) { run it now; }.",
        "Only two sentences. Are on this page.",
    ]
    table = Clean(steps=("c4",)).apply(pa.table({"text": pa.array(texts, pa.large_string())}), Verdict())
    kept = [all(evaluate(rule, table.slice(i, 1))[0][0] for rule in bundle("c4").values()) for i in range(len(texts))]
    assert kept == [True, True, False, True, False, False]
    assert table["text"].to_pylist()[1] == fair


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "nothing to clean"),
        ({"patterns": {"bad": "a("}}, "'bad' is no regular expression"),
        ({"patterns": {"look": "(?=a)"}}, "'look' is no regular expression"),
        ({"patterns": {"a b": "a"}}, "'a b'"),
        ({"patterns": {"c4": "a"}}, "'c4'"),
        ({"steps": ("c4", "c4")}, "comes once"),
    ],
)
def test_what_makes_no_sense_is_named_before_work(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        Clean(**parameters)


RECIPE = """
name: cleaning
ingest: {files: "raw.jsonl", source: web}
stages:
  - heuristics:
  - clean: {steps: [refinedweb], patterns: {notice: "^Subscribe"}}
  - heuristics:
  - exact: {of: text_id}
  - select: {name: left, keep: {first_copy: not duplicate, short: "words < 20"}}
"""


def test_what_comes_behind_sees_the_new_text(tmp_path: Path) -> None:
    fair = "one line of the page\nand one more of it"
    texts = [f"HOME\n{fair}\nSubscribe to all of it", f"{fair}\n12", "another page\nSubscribe to it"]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    result = run(recipe.load(str(tmp_path / "recipe.yaml")), str(tmp_path / "run"))
    last = result.steps[-1][1]
    rows = pq.read_table(f"{last.folder}/{last.manifest.shards[0].name}").to_pylist()
    # The first two are one text when they are clean; `words` is of the new text.
    assert [row["text"] for row in rows] == [fair, "another page"]
    assert [row["words"] for row in rows] == [10, 2]
    assert [row["bytes"] for row in rows] == [len(fair), 12]
    (told,) = why(str(tmp_path / "run"), "raw.jsonl:2")["copies"]
    assert told["text"] == texts[1]
    assert "dropped by first_copy" in told["outcome"]
