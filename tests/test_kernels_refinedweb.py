"""RefinedWeb's corrections, written as pieces, give the text and the counts that the published steps give."""

from itertools import pairwise

import numpy as np
import oracle_clean
import oracles
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import hostile_text

from curate.kernels import refinedweb as kernel
from curate.kernels.pieces import rebuild

BITS = [
    *["\n"] * 8,
    *["  ", " ", " ", "\t", "\xa0", "\r", "\u2028", "\x1c", "\n\n", "\n \n"],
    *["items in cart", "Items In Cart", "\u0130tem\u017f \u0131n cart", "items in", "items", " items in cart"],
    *[
        "Read more...",
        "read more",
        "READ MORE...",
        "Read more\u2026",
        "read more abc",
        "read mo",
        "re...",
        "..",
        "\u6f22",
    ],
    *["Sign-in", "SIGN-IN", "\u017fign-in ", "sign", "-in", "Sign-in\xa0"],
    *[
        "3 likes",
        "1,2.3K Likes",
        "(5M views)",
        "7\u212a li\u212aes",
        "\u0663 followers!",
        "9 l\u0130kes",
        "_5 likes",
        "5",
    ],
    *["5 quotes x", "12", "345", "\u00b2", "\u2167", "A", "BC", "\u0391", "\u01c5", "a", "b c", "the cat sat", "x."],
    "one two three four five six seven eight nine ten eleven",
]
page = st.lists(st.one_of(st.sampled_from(BITS), st.sampled_from(BITS), hostile_text), max_size=25).map("".join)


def corrected(texts: list[str], *, before: str = "") -> list[tuple[str, dict[str, int]]]:
    offsets, data = oracles.rows([text.encode() for text in texts], before=before.encode())
    counts = np.full((len(texts), len(kernel.REFINEDWEB)), -1, np.int64)
    first = np.full(len(texts) + 1, -1, np.int64)
    pieces, newline = kernel.refinedweb(offsets, data, kernel.characters(), counts, first)
    places, new = rebuild(data, first, pieces, newline)
    rows = [new[a:b].tobytes().decode() for a, b in pairwise(places)]
    named = [dict(zip(kernel.REFINEDWEB, row, strict=True)) for row in counts.tolist()]
    return list(zip(rows, named, strict=True))


@given(st.lists(page, max_size=4), hostile_text)
@example([" 12\nmore of it\n 345 ", "12 \nmore of it", "AB\n 12\nx y"], "")
@example(["a b Read more... \nc d Read more... ", "c d Read more.  ", "  Sign-in now\n  Sign-in now"], "A")
@example(["items in cart\n Sign-in here", "Read more...\n Sign-in now ok", "items in cart Sign-in now"], "")
@example(["x y read moitems in cartre...", "items in items in cartcart", "a\xa0items in cart items in cart b"], "")
@example(["", "\n", " \n ", "\n\na b\n\n\nc d\n\n", "items in cart"], "\n")
def test_text_and_counts_equal_the_published_steps(texts: list[str], before: str) -> None:
    assert corrected(texts, before=before) == [oracle_clean.refinedweb(text) for text in texts]


@given(st.lists(st.one_of(page, hostile_text), max_size=4))
def test_words_and_lines(texts: list[str]) -> None:
    offsets, data = oracles.rows([text.encode() for text in texts])
    out = np.full((len(texts), 2), -1, np.int64)
    kernel.words_and_lines(offsets, data, kernel.characters(), out)
    assert out.tolist() == [[oracle_clean.words(text), oracle_clean.lines(text)] for text in texts]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ABOUT us", "uppercase_lines"),
        ("AB cd", None),  # 2 of 5, the space counts
        ("ABc ", "one_word_lines"),  # 2 of 4 is not more than half
        ("2024", "numeric_lines"),
        ("20 24", None),
        ("3.2K Likes", "counter_lines"),
        ("* 15 comments *", "counter_lines"),
        ("15 new comments", None),
        ("15comments", "one_word_lines"),
        ("Home", "one_word_lines"),
    ],
)
def test_lines_go_for_their_reason(line: str, reason: str | None) -> None:
    text = f"first of all\n{line}\nlast of all"
    ((new, counts),) = corrected([text])
    assert new == ("first of all\nlast of all" if reason else text)
    assert {name: n for name, n in counts.items() if name != "lines"} == {
        name: int(name == reason) for name in kernel.REFINEDWEB if name != "lines"
    }


@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("You have 3 items in cart now", "You have 3 now"),
        ("the whole story is here Read more...", "the whole story is here"),
        ("Read more... about the story", "Read more... about the story"),
        ("Sign-in to see it", "to see it"),
        ("please Sign-in", "please Sign-in"),
        ("1 2 3 4 5 6 7 8 items in cart", "1 2 3 4 5 6 7 8 items in cart"),  # eleven words
    ],
)
def test_phrases_are_cut_where_they_belong(line: str, new: str) -> None:
    ((text, _),) = corrected([f"first of all\n{line}\nlast of all"])
    assert text == f"first of all\n{new}\nlast of all"


def test_an_unchanged_row_is_one_piece() -> None:
    offsets, data = oracles.rows([b"one two\n\nthree four\n\n\nfive six"], before=b"xx")
    first = np.empty(2, np.int64)
    counts = np.empty((1, len(kernel.REFINEDWEB)), np.int64)
    pieces, newline = kernel.refinedweb(offsets, data, kernel.characters(), counts, first)
    assert pieces.tolist() == [offsets.tolist()]
    assert newline.tolist() == [0]
