"""C4's verdict on every line equals plain Python's, and the text made of pieces is the one that it leaves."""

import time
from itertools import pairwise

import numpy as np
import oracle_lines
import oracles
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import hostile_text

from curate.kernels import c4 as kernel
from curate.kernels.pieces import rebuild, strip_pieces
from curate.kernels.text import IS_SPACE, code_point_classes

compiles = settings(deadline=None)
PAPER = dict(zip(kernel.LIMITS, kernel.C4_LIMITS, strict=True))
FINEWEB = PAPER | {"require_terminal": 0}
BARE = dict.fromkeys(kernel.LIMITS, 0) | {"min_words_per_line": -1, "max_word_length": -1}
STRICT = PAPER | {"min_words_per_line": 5, "max_word_length": 5}
VARIANTS = [PAPER, FINEWEB, BARE, STRICT, PAPER | {"max_word_length": 64}, BARE | {"remove_citations": 1}]

_PHRASES = [phrase + end for phrase in ["javascript", "lorem ipsum", *oracle_lines.POLICY] for end in ["", ".", " "]]
_PARTS = st.sampled_from(
    [
        *_PHRASES,
        *[phrase.upper() for phrase in _PHRASES],
        *[
            "JavaScript",
            "lorem\0ipsum",
            "coo\u212aie policy",
            "use coo\u212aies",
            "uses coo\u212aies",
            "javascr\u0130pt",
        ],
        *["java[1]script", "lorem [edit]ipsum", "pri[٣]vacy policy", "terms of[] use", "use coo\u212a[]ies."],
        *["[1]", "[]", "[edit]", "[citation needed]", "[[1]]", "[1", "[٣४]", "[²]"],
        *["[Edit]", "[citation  needed]", "[a]"],
        *["..[1].", ".[12]..", "Foo. [1]", "[1] Foo bar baz.", '."', ".'", "?!", "!", '"', "'", "{", "}", "...", "."],
        *["one two three.", "one two.", "x" * 5, "x" * 6, "x" * 64, "x" * 65, "é" * 1000, "é" * 1001, "x" * 1001],
        *["\n", "\n", "\r\n", "\r", "\x0b", "\x1c", "\x1f", "\x85", "\u2028", "\u3000", " ", "  ", "\ufeff", "\u200b"],
    ]
)
line_text = st.lists(st.one_of(_PARTS, _PARTS, st.just(" "), st.just(" a "), st.just(".\n")), max_size=30).map("".join)
texts_of_all_kinds = st.lists(st.one_of(line_text, hostile_text), max_size=4)


def run(texts: list[str], limits: dict[str, int], *, before: str = "") -> tuple[list[dict[str, int]], list[str]]:
    """Counts by `c4_pieces`, which must be those by `c4`, and the texts it leaves."""
    offsets, data = oracles.rows([text.encode() for text in texts], before=before.encode())
    numbers = np.array([limits[name] for name in kernel.LIMITS], np.int64)
    out, again = np.full((2, len(texts), len(kernel.C4)), -1, np.int64)
    first = np.full(len(texts) + 1, -1, np.int64)
    kernel.c4(offsets, data, code_point_classes(), numbers, out)
    pieces, newline = kernel.c4_pieces(offsets, data, code_point_classes(), numbers, again, first)
    assert np.array_equal(out, again)
    ends, new = rebuild(data, first, pieces, newline)
    left = [new[start:end].tobytes().decode() for start, end in pairwise(ends)]
    assert [part.encode() for part in left] == oracle_lines.pieced(
        data.tobytes(), first.tolist(), pieces.tolist(), newline.tolist()
    )
    return [dict(zip(kernel.C4, row, strict=True)) for row in out.tolist()], left


def check(texts: list[str], limits: dict[str, int], *, before: str = "") -> None:
    counts, left = run(texts, limits, before=before)
    expected = [oracle_lines.c4(text, limits) for text in texts]
    assert counts == [count for count, _ in expected]
    assert left == [text for _, text in expected]


@compiles
@given(texts_of_all_kinds, st.sampled_from(VARIANTS), hostile_text)
@example(["", "\n", "\r\n", " ", "\n\n", "a\r\n", "\r\na b c."], BARE, "a b c")
@example(["a b c.", "d e f.\n", "\ng h i."], PAPER, "z.")
def test_verdicts_and_texts_equal_their_definitions(texts: list[str], limits: dict[str, int], before: str) -> None:
    check(texts, limits, before=before)


BORDERS = ["javascript", "use coo\u212aies", "lorem ipsum", "[٣]", ".[1]..", "{"]
BORDERS += ['."', ".\u3000", "\u2028", "\r\n", "...", "!"]


@pytest.mark.parametrize("piece", BORDERS)
@pytest.mark.parametrize("limits", [PAPER, FINEWEB], ids=["paper", "fineweb"])
def test_nothing_changes_at_the_border_of_a_block(piece: str, limits: dict[str, int]) -> None:
    texts = [
        f"a b {'c' * size}{left}{piece}{right}"
        for size in [*range(36, 62), *range(118, 126)]
        for left in ["", " ", ". "]
        for right in ["", ".", " b c.", "\nb c d.", '"']
    ]
    check(texts, limits)


@pytest.mark.parametrize("limit", [1, 5, 62, 63, 64, 65, 130])
@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
def test_words_at_the_limit_of_their_length(limit: int, letter: str) -> None:
    texts = [
        " " * left + letter * size + end
        for left in [0, 1, 7, 60, 63]
        for size in [limit - 1, limit, limit + 1, limit + 64]
        for end in ["", ".", "\n", "\na b c.", " b c.", "\u3000b."]
    ]
    check(texts, PAPER | {"max_word_length": limit})


def test_spaces_over_127_and_the_kelvin_sign_begin_with_the_bytes_looked_for() -> None:
    spaces = [chr(code) for code in np.flatnonzero(code_point_classes() & IS_SPACE) if code > 127]
    assert {character.encode()[0] for character in [*spaces, "\u212a"]} <= {0xC2, 0xE1, 0xE2, 0xE3}


def test_no_other_character_lowers_into_a_phrase() -> None:
    """All that lowers to ASCII letters: capitals, the Kelvin sign, and U+0130, which leaves a combining dot."""
    found = {chr(code) for code in range(128, 0x110000) if not all(lower > "\x7f" for lower in chr(code).lower())}
    assert found == {"\u212a", "\u0130"}


def test_every_digit_may_stand_in_a_citation() -> None:
    texts = [f"a b c.[{chr(code)}]" for code in range(0x20, 0x110000) if chr(code).isnumeric() and code != 0x5D]
    check(texts, PAPER)


REASONS = [
    ("long_word", "Such a " + "w" * 1001 + " word."),
    ("unterminated", "A line without an end"),
    ("unterminated", "A line that trails off..."),
    ("unterminated", "A cut makes an ellipsis..[3]."),
    ("unterminated", "What is before the note. [1]"),
    ("short", "Two words."),
    ("lorem", "Then Lorem Ipsum dolor."),
    ("javascript", "Please enable JavaScript now."),
    ("curly", "Here is { a bracket."),
    ("policy", "Read our Privacy Policy first."),
    ("kept", 'He said "yes it is"'),
    ("kept", "Note of three words[1][citation needed]."),
]


@pytest.mark.parametrize(("reason", "text"), REASONS)
def test_a_line_counts_for_the_first_rule_it_fails(reason: str, text: str) -> None:
    counts, left = run([text], PAPER)
    assert counts[0]["lines"] == counts[0][reason] == 1
    assert left == [text.replace("[1][citation needed]", "") if reason == "kept" else ""]


SENTENCES = [("One two three. Four five!", 2), ("Is it so? Yes", 2), ('He said "go now." Then', 2), ("Now at 3.5", 1)]


@pytest.mark.parametrize(("text", "number"), SENTENCES)
def test_sentences_are_counted_by_their_ends(text: str, number: int) -> None:
    assert run([text], FINEWEB)[0][0]["sentences"] == number


def test_an_untouched_row_is_one_piece() -> None:
    texts = ["One two three.\nFour five six.\n\nSeven eight nine.", "No lines are dropped here.\n" * 9]
    offsets, data = oracles.rows([texts[0].replace("\n\n", "\n").encode(), texts[1].strip().encode()])
    first = np.empty(3, np.int64)
    limits, out = np.array(kernel.C4_LIMITS), np.empty((2, len(kernel.C4)), np.int64)
    pieces, newline = kernel.c4_pieces(offsets, data, code_point_classes(), limits, out, first)
    assert first.tolist() == [0, 1, 2]
    assert pieces.tolist() == [[start, end] for start, end in pairwise(offsets)]
    assert newline.tolist() == [0, 0]


@compiles
@given(st.lists(st.lists(st.tuples(st.sampled_from(["", " ", "\u3000", "a", "é b", "\n"]), st.booleans()))))
def test_stripped_rows_are_what_strip_leaves(rows: list[list[tuple[str, bool]]]) -> None:
    parts = [part.encode() for row in rows for part, _ in row]
    offsets, data = oracles.rows(parts, before=b"x")
    pieces = np.stack([offsets[:-1], offsets[1:]], axis=1)
    newline = np.array([flag for row in rows for _, flag in row], np.uint8)
    first = np.cumsum([0, *map(len, rows)])
    before = oracle_lines.pieced(data.tobytes(), first.tolist(), pieces.tolist(), newline.tolist())
    strip_pieces(data, code_point_classes(), first, pieces, newline)
    ends, new = rebuild(data, first, pieces, newline)
    after = [new[start:end].tobytes() for start, end in pairwise(ends)]
    assert after == [text.decode().strip().encode() for text in before]


HOSTILE = ["\u2028", "a b c.\n", "x", "é", "[1]", "[", "[1", "{", "java[1]script. ", "k", "..."]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_megabytes_are_linear(text: str) -> None:
    """A megabyte of one thing costs not much more than eight rows of an eighth, and the eighth is judged right."""
    limits = BARE | {"remove_citations": 1}
    whole, parts = text * (1_000_000 // len(text)), [text * (125_000 // len(text))] * 8
    check(parts[:1], limits)
    costs = []
    for texts in (parts, [whole]):
        offsets, data = oracles.rows([part.encode() for part in texts])
        out, first = np.empty((len(texts), len(kernel.C4)), np.int64), np.empty(len(texts) + 1, np.int64)
        started = time.process_time()
        kernel.c4_pieces(offsets, data, code_point_classes(), np.array(list(limits.values())), out, first)
        costs.append(time.process_time() - started)
    assert costs[1] < 8 * costs[0] + 0.3
