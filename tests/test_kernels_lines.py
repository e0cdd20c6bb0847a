"""Counts of lines equal what plain Python says of each text, for each of the three readings of a duplicate."""

import time
from collections.abc import Callable

import numpy as np
import oracle_lines
import oracles
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import hostile_text

from curate.kernels import lines as kernel
from curate.kernels.text import IS_TERMINAL, code_point_classes

compiles = settings(deadline=None)
Kernel = Callable[..., None]

READINGS = [
    (kernel.lines, kernel.LINES, oracle_lines.lines),
    (kernel.lines_dclm, kernel.LINES_DCLM, oracle_lines.lines_dclm),
    (kernel.lines_dolma, kernel.LINES_DOLMA, oracle_lines.lines_dolma),
]
readings = pytest.mark.parametrize(("count", "names", "oracle"), READINGS, ids=["gopher", "dclm", "dolma"])

# Few different lines, so that many repeat, with separators of every kind between them.
_LINES = st.sampled_from(["a", "ab.", "ab. ", " ab.", "x" * 30, "x" * 31, "é" * 199 + "。", "x" * 200, "", " ", "\r"])
_SEPARATORS = st.sampled_from(["\n", "\n\n", "\n\n\n", "\n \n", "\r\n", "\r\n\r\n", "\x85", "\u2028", "\u3000\n"])
repeating_text = st.lists(st.one_of(_LINES, _SEPARATORS), max_size=40).map("".join)


def counts(count: Kernel, names: tuple[str, ...], texts: list[str], *, before: str = "") -> list[dict[str, int]]:
    offsets, data = oracles.rows([text.encode() for text in texts], before=before.encode())
    out = np.full((len(texts), len(names)), -1, np.int64)
    count(offsets, data, code_point_classes(), out)
    return [dict(zip(names, row, strict=True)) for row in out.tolist()]


@readings
@compiles
@given(texts=st.lists(st.one_of(hostile_text, repeating_text), max_size=5), before=hostile_text)
@example(texts=["", "\n", "\n\n", " ", " \n ", "a\n", "\na\n", "a\n\na", " a\n\na "], before="")
@example(texts=["a\0\na\n\0\n\n", "a\n\n\x1c\n\na", "\ufeffa\n\na\n\n\ufeffa", "\u200b\n\u200b"], before="\n")
def test_counts_equal_their_definitions(
    count: Kernel, names: tuple[str, ...], oracle: Callable[[str], dict[str, int]], texts: list[str], before: str
) -> None:
    assert counts(count, names, texts, before=before) == list(map(oracle, texts))


PIECES = ["\n", "\n\n", "\n\n\n", "\r\n", "\n\u3000\n", "\u3000", "é\n", "。\n", "\u2028\n", "\U0001f600\n", ".\n.\n"]


@readings
@pytest.mark.parametrize("piece", PIECES)
def test_nothing_changes_at_the_border_of_a_block(
    count: Kernel, names: tuple[str, ...], oracle: Callable[[str], dict[str, int]], piece: str
) -> None:
    texts = [
        left.rjust(size, left[0]) + piece + right
        for size in [*range(58, 68), *range(124, 132)]
        for left in ["a", "\n", "é\n", " "]
        for right in ["", "a", "\n", " a\n", piece, "é" * 64]
    ]
    assert counts(count, names, texts) == list(map(oracle, texts))


@pytest.mark.parametrize("size", [*range(1, 40), 63, 64, 65])
def test_segments_that_differ_in_one_byte_are_not_equal(size: int) -> None:
    """Equal lengths, equal all but for one place: every place of short lines, and NUL against nothing."""
    whole = "x" * size
    lines = [whole[:at] + "\0" + whole[at + 1 :] for at in range(size)]
    text = "\n".join([*lines, whole, whole[:-1]])
    row = counts(kernel.lines, kernel.LINES, [text])[0]
    assert row["duplicate_segments"] == 0
    twice = counts(kernel.lines, kernel.LINES, [f"{text}\n\n{text}"])[0]
    assert twice["duplicate_paragraphs"] == 1
    assert twice["duplicate_segments"] == len([line for line in text.split("\n") if line])


def test_three_readings_of_a_duplicate() -> None:
    """Three of five lines are equal: two later copies or three copies, over three denominators."""
    text = "\n".join(["alpha beta gamma", "delta eps", "alpha beta gamma", "alpha beta gamma", "zeta"])
    gopher = counts(kernel.lines, kernel.LINES, [text])[0]
    dclm = counts(kernel.lines_dclm, kernel.LINES_DCLM, [text])[0]
    dolma = counts(kernel.lines_dolma, kernel.LINES_DOLMA, [text])[0]
    assert gopher["duplicate_segments"] / gopher["segments"] == 0.4
    assert round(gopher["duplicate_segment_characters"] / len(text), 4) == 0.4923
    assert dclm["repeated_lines"] / dclm["lines"] == dolma["repeated_lines"] / dolma["lines"] == 0.6
    assert round(dclm["repeated_line_characters"] / dclm["line_characters"], 4) == 0.7869
    assert round(dolma["repeated_line_characters"] / dolma["word_characters"], 4) == 0.8889


def test_duplicate_characters_of_fineweb() -> None:
    """Ten lines of 400 characters, two equal ones of 40: a tenth."""
    text = "\n".join(f"{number % 9}".rjust(40, "x") for number in range(10))
    row = counts(kernel.lines, kernel.LINES, [text])[0]
    assert row["duplicate_line_characters"] / row["line_characters"] == 0.1


@pytest.mark.parametrize("end", [" ", "\r", "\u00a0", '"', "'", "\u2026", "\u201d", ",", ")"])
def test_terminal_marks_must_be_the_last_character(end: str) -> None:
    assert counts(kernel.lines, kernel.LINES, ["End." + end])[0]["terminal_lines"] == 0


def test_terminal_marks_are_those_of_fineweb() -> None:
    """Facts of the published list: its size, some members, some that are not."""
    terminal = np.flatnonzero(code_point_classes() & IS_TERMINAL).tolist()
    assert len(terminal) == 159
    assert {*map(ord, ".!?。！？…؟।៚"), 0x11F44} - set(terminal) == {0x2026}
    assert not set(map(ord, "\"'”’)]:;,`\u2024")) & set(terminal)


@readings
@pytest.mark.parametrize("text", ["\n", "a\n", "x", "ab\n\n", " \n", "\u3000", "\u3000\n"])
def test_hostile_megabytes_are_linear(
    count: Kernel, names: tuple[str, ...], oracle: Callable[[str], dict[str, int]], text: str
) -> None:
    """A megabyte of one thing is counted right, and costs not much more than eight rows of an eighth."""
    whole = text * (1_000_000 // len(text))
    parts = [text * (125_000 // len(text))] * 8
    assert counts(count, names, [whole]) == [oracle(whole)]
    costs = []
    for texts in (parts, [whole]):
        started = time.process_time()
        counts(count, names, texts)
        costs.append(time.process_time() - started)
    assert costs[1] < 8 * costs[0] + 0.2
