"""Words as numbers, what texts share, how they loop and how varied they are: kernels beside their slow twins."""

import time

import numpy as np
import oracles
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import hostile_text

from curate.kernels.diversity import moving_share, mtld
from curate.kernels.overlaps import longest_common_subsequences, shared_ngrams, tails
from curate.kernels.substring import longest_common
from curate.kernels.vocabulary import numbered

few_words = st.lists(st.sampled_from("aaabc"), max_size=40).map(" ".join)
texts = st.lists(st.one_of(hostile_text, few_words), min_size=1, max_size=5)


def number(rows: list[str], before: str = "") -> tuple[np.ndarray, np.ndarray]:
    offsets, data = oracles.rows([row.encode() for row in rows], before=before.encode())
    for array in (offsets, data):
        array.setflags(write=False)
    return numbered(offsets, data)


@given(texts, hostile_text)
@example(["İstanbul ΣΑΣ", "漢字かな a漢b", "\U0001d4d0x", "", "don't 1,000 e\u0301"], "")
@example(["\u023a" * 40, "a b c"], "x")
def test_words_have_one_number_if_they_are_equal(rows: list[str], before: str) -> None:
    first, numbers = number(rows, before)
    words = [oracles.folded_words(row) for row in rows]
    assert np.diff(first).tolist() == [len(row) for row in words]
    flat = [word for row in words for word in row]
    assert numbers.tolist() == [flat.index(word) for word in flat]


def common(one: list[bytes], other: list[bytes], pairs: list[tuple[int, int]]) -> list[int]:
    out = np.full(len(pairs), -1, np.int64)
    longest_common(
        *oracles.rows(one, before=b"abab"), *oracles.rows(other), np.array(pairs, np.int64).reshape(-1, 2), out
    )
    return out.tolist()


@given(
    st.lists(
        st.one_of(st.binary(max_size=60), st.text("ab", max_size=60).map(str.encode), hostile_text.map(str.encode)),
        min_size=2,
        max_size=5,
    )
)
@example([b"", b""])
@example([bytes(range(256)), bytes(range(255, -1, -1))])
@example([b"abcabxabcd", b"xabcd"])
def test_the_longest_common_substring_is_that_of_the_table(rows: list[bytes]) -> None:
    rows = [row[:400] for row in rows]
    pairs = [(a, b) for a in range(len(rows)) for b in range(len(rows))]
    found = common(rows, rows, pairs)
    assert found == [oracles.longest_common_slowly(rows[a], rows[b]) for a, b in pairs]
    assert all(found[i] == len(rows[a]) for i, (a, b) in enumerate(pairs) if a == b)


def test_the_longest_common_substring_takes_linear_time() -> None:
    # Each is hard for another way: one run, periods, random bytes (long lists of edges), Fibonacci words.
    words = [b"a", b"ab"]
    while len(words[-1]) < 400_000:
        words.append(words[-1] + words[-2])
    noise = np.random.default_rng(1).integers(0, 256, 400_000, np.uint8).tobytes()
    common([b"warm"], [b"up"], [(0, 0)])
    for text in (b"a" * 400_000, b"abcdefg" * 57_000, noise, words[-1]):
        started = time.process_time()
        assert common([text], [b"x" + text[1:]], [(0, 0)]) == [len(text) - 1]
        assert time.process_time() - started < 5


@given(texts, st.integers(1, 5))
def test_shared_ngrams_are_those_of_a_set(rows: list[str], ngram: int) -> None:
    words = [oracles.folded_words(row) for row in rows]
    pairs = [(a, b) for a in range(len(rows)) for b in range(len(rows))]
    out = np.full((len(pairs), 2), -1, np.int64)
    shared_ngrams(*number(rows), np.array(pairs), ngram, out)
    assert out.tolist() == [oracles.shared_ngrams_slowly(words[a], words[b], ngram) for a, b in pairs]


@given(texts)
@example(["a b c a b", "b a a b", "", "c b a"])
def test_the_longest_common_subsequence_is_that_of_the_table(rows: list[str]) -> None:
    words = [oracles.folded_words(row) for row in rows]
    pairs = [(a, b) for a in range(len(rows)) for b in range(len(rows))]
    out = np.full(len(pairs), -1, np.int64)
    longest_common_subsequences(*number(rows), np.array(pairs), out)
    assert out.tolist() == [oracles.longest_common_subsequence_slowly(words[a], words[b]) for a, b in pairs]


@given(texts, st.integers(2, 4))
@example(["a b a b a b", "b a b a b a b", "a a a", "a b c", ""], 3)
def test_a_tail_is_a_run_said_again(rows: list[str], times: int) -> None:
    words = [oracles.folded_words(row)[:60] for row in rows]
    numbers = {word: place for place, word in enumerate(sorted({word for row in words for word in row}))}
    first = np.cumsum([0, *map(len, words)])
    out = np.full(len(rows), -1, np.int64)
    tails(first, np.array([numbers[word] for row in words for word in row], np.int32), times, out)
    assert out.tolist() == [oracles.tail_slowly(row, times) for row in words]


@given(texts, st.integers(1, 12))
@example([" ".join("abcdefghijklmnopqra" * 3), "a " * 25, ""], 50)
def test_diversity_is_that_of_the_definitions(rows: list[str], window: int) -> None:
    words = [oracles.folded_words(row) for row in rows]
    first, numbers = number(rows)
    out, room = np.empty(len(rows)), np.empty(len(numbers), np.int64)
    mtld(first, numbers, room, out)
    assert out == pytest.approx([oracles.mtld_slowly(row) for row in words], rel=1e-9)
    moving_share(first, numbers, window, room, out)
    assert out == pytest.approx([oracles.moving_share_slowly(row, window) for row in words], rel=1e-9)


def test_mtld_of_texts_whose_factors_can_be_counted() -> None:
    # 18 distinct words and 7 known ones make one factor of exactly 0.72 at 25 words.
    stretch = [f"w{i}" for i in range(18)] + [f"w{i}" for i in range(7)]
    rows = [" ".join(stretch * 4), " ".join(f"w{i}" for i in range(80)), "same " * 60]
    first, numbers = number(rows)
    out = np.empty(3)
    mtld(first, numbers, np.empty(len(numbers), np.int64), out)
    assert out[1] == 80  # no factor at all: the number of words
    assert out[2] == 2  # every second word ends a factor
    assert out[0] == pytest.approx(oracles.mtld_slowly(stretch * 4))
