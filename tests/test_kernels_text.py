"""The one-pass counts equal what plain Python says of each text, and the stage turns them into safe
columns."""

import string
import sys
import unicodedata

import numpy as np
import oracles
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import hostile_text

from curate.expressions import bundle, evaluate
from curate.kernels import text as kernel
from curate.stage import Verdict
from curate.stages.heuristics import Heuristics

compiles = settings(deadline=None)


def counts(texts: list[bytes], *, before: bytes = b"") -> list[dict[str, int]]:
    offsets, data = oracles.rows(texts, before=before)
    out = np.full((len(texts), len(kernel.SIGNALS)), -1, np.int64)
    kernel.signals(offsets, data, kernel.code_point_classes(), out)
    return [dict(zip(kernel.SIGNALS, row, strict=True)) for row in out.tolist()]


def columns(texts: list[str]) -> pa.Table:
    return Heuristics(signals=("quality",)).apply(pa.table({"text": pa.array(texts, pa.large_string())}), Verdict())


@compiles
@given(st.lists(hostile_text, max_size=5), hostile_text)
def test_counts_equal_their_definitions(texts: list[str], before: str) -> None:
    assert counts([text.encode() for text in texts], before=before.encode()) == list(map(oracles.signals, texts))


PIECES = [
    "...",
    "....",
    "\u2026",
    "- b",
    "\u2022 b",
    "\u2028",
    "\r\n",
    "\u3000",
    "\x85",
    "!?",
    "\u2014\u2014",
    "with",
    "\U0001f600",
]
LEFT = ["a", "a ", "a\n", " ", ".", "!"]


@pytest.mark.parametrize("piece", PIECES)
def test_nothing_changes_at_the_border_of_a_block(piece: str) -> None:
    """Every piece at every place around bytes 64 and 128, among words, alone on its line, and at the end."""
    texts = [
        left.rjust(size, left[0]) + piece + right
        for size in [*range(55, 70), *range(120, 133)]
        for left in LEFT
        for right in ["", "a", " ", "\n", "\n-", " a\n", "." * 70, "!" * 64 + " "]
    ]
    assert counts([text.encode() for text in texts]) == list(map(oracles.signals, texts))


def test_every_code_point_has_its_class() -> None:
    classes = kernel.code_point_classes()
    expected = np.zeros(sys.maxunicode + 1, np.uint8)
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        expected[code] = (
            kernel.IS_SPACE * character.isspace()
            + kernel.IS_LETTER * character.isalpha()
            + kernel.IS_BREAK * (len(f"a{character}b".splitlines()) == 2)
            + kernel.IS_DIGIT * (category == "Nd")
        )
    listed = np.uint8(kernel.IS_BULLET | kernel.IS_ELLIPSIS | kernel.IS_TERMINAL | kernel.IS_PUNCTUATION)
    marks = {chr(code) for code in np.flatnonzero(classes & kernel.IS_PUNCTUATION)}
    assert len(marks) == 281
    assert marks >= {*string.punctuation, *"«»“„…。！？、", "\x00", "\x9f", "\uff11"}
    assert not marks & set("•¿·¡\n\t é1字")
    assert (classes & kernel.IS_TERMINAL != 0).sum() == 159
    assert np.array_equal(classes & ~listed, expected)
    assert np.flatnonzero(classes & (kernel.IS_BULLET | kernel.IS_ELLIPSIS)).tolist() == [0x2022, 0x2026]
    assert (classes & kernel.IS_SPACE != 0).sum() == 29


def test_every_code_point_is_counted_as_alone() -> None:
    """Each one as a word of its own, at a line's end and inside a word."""
    codes = [*range(0x3100), *range(0xFE00, 0x10000), *range(0x1F600, 0x1F650), 0xE0001, 0x10FFFF]
    texts = [f"a {chr(code)}\n.{chr(code)}b" for code in codes]
    assert counts([text.encode() for text in texts]) == list(map(oracles.signals, texts))


@compiles
@given(st.lists(st.binary(max_size=200), max_size=4))
def test_broken_utf8_reads_no_byte_outside_its_row(texts: list[bytes]) -> None:
    alone = [counts([text])[0] for text in texts]
    assert counts(texts, before=b"\xff\xf0") == alone
    assert counts([*texts, b"\xa0\x80\xa6"], before=b"\xe2\x80")[:-1] == alone


@compiles
@given(st.lists(hostile_text, min_size=1, max_size=4))
def test_columns_follow_from_the_counts(texts: list[str]) -> None:
    table = columns(texts)
    assert tuple(table.column_names) == Heuristics(signals=("quality",)).adds
    for row, text in zip(table.to_pylist(), texts, strict=True):
        seen = oracles.signals(text)
        words, lines = max(seen["words"], 1), max(seen["lines"], 1)
        whole = ("characters", "words", "lines", "symbol_free_words", "stop_words")
        expected = {name: seen[name] for name in whole} | {
            "mean_word_length": seen["symbol_free_characters"] / max(seen["symbol_free_words"], 1),
            "hash_ratio": seen["hashes"] / words,
            "ellipsis_ratio": seen["ellipses"] / words,
            "bullet_line_ratio": seen["bullet_lines"] / lines,
            "ellipsis_line_ratio": seen["ellipsis_lines"] / lines,
            "alphabetic_word_ratio": seen["alphabetic_words"] / words,
        }
        assert row == {name: pytest.approx(value, rel=1e-7) for name, value in expected.items()}


def test_columns_have_their_types_and_empty_texts_have_zeros() -> None:
    table = columns(["", " \n", "#" * 70])
    kinds = {"characters": pa.int64(), "stop_words": pa.int16()} | dict.fromkeys(
        ["words", "lines", "symbol_free_words"], pa.int32()
    )
    assert all(field.type == kinds.get(field.name, pa.float32()) for field in table.schema)
    assert set(table.to_pylist()[0].values()) == {0}
    assert not any(np.isnan(column.to_numpy()).any() or column.null_count for column in table.columns)
    assert columns([]).num_rows == 0


FINE = "the cat of mine sleeps and " * 20
DROPPED = [
    ("word_count", "the cat of mine " * 12),
    ("word_count", "the of " + "abcde " * 99_999),
    ("mean_word_length", "a to of " * 30),
    ("mean_word_length", "the of " + "abcdefghijk " * 100),
    ("hash_ratio", FINE[:-1] + "#" * 13),
    ("ellipsis_ratio", FINE.replace("cat", "cat\u2026", 13)),
    ("bullet_lines", FINE + "\n-" * 19),
    ("ellipsis_lines", (FINE + "\n") * 6 + "cat...\n" * 3),
    ("alphabetic_words", FINE + "1234 " * 31),
    ("stop_words", "big cats sleep the day " * 20),
]
KEPT = [
    ("word_count", "the of " + "abcde " * 48),
    ("word_count", "the of " + "abcde " * 99_998),
    ("mean_word_length", "of to " + "abc " * 50 + "abcd abcd"),
    ("mean_word_length", "of to " + "abcdefghij " * 48 + "eighteencharacters"),
    ("hash_ratio", FINE[:-1] + "#" * 12),
    ("ellipsis_ratio", FINE.replace("cat", "cat\u2026", 12)),
    ("bullet_lines", FINE + "\n-" * 9),
    ("ellipsis_lines", (FINE + "\n") * 7 + "cat...\n" * 3),
    ("alphabetic_words", FINE + "1234 " * 30),
    ("stop_words", "big cats sleep the day of rest " * 20),
]


def failed(text: str) -> list[str]:
    """Names of the rules of the bundle that the text fails, in the bundle's order."""
    table = columns([text])
    return [name for name, keep in bundle("gopher_quality").items() if not evaluate(keep, table)[0][0]]


@pytest.mark.parametrize(("name", "text"), DROPPED)
def test_gopher_rules_drop_what_they_name_and_no_other_rule_does(name: str, text: str) -> None:
    assert failed(text) == [name]


@pytest.mark.parametrize(("name", "text"), KEPT)
def test_the_thresholds_themselves_are_kept(name: str, text: str) -> None:
    """50 and 100,000 words, mean lengths 3 and 10, shares of 0.1, 0.1, 0.9, 0.3 and 0.8 as float32, 2 stop
    words."""
    assert failed(text) == []


def test_an_empty_text_is_dropped_for_its_length_first() -> None:
    assert failed("")[0] == "word_count"
    assert list(bundle("gopher_quality")) == list(dict(DROPPED))
