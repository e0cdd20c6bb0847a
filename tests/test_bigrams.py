"""The bigram model against its definition in plain Python; it sums to one, and knows nothing of pieces."""

import math
from itertools import pairwise

import numpy as np
import oracle_bigrams
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import hostile_text

from curate import bigrams

WORD = st.sampled_from(["a", "b", "B", "c", "É", "é", "Σς", "中文", "x" * 70, "İ"])
TEXT = st.lists(st.tuples(WORD, st.sampled_from([" ", "\n", "\u3000", "\t "])), max_size=12).map(
    lambda pairs: "".join(word + gap for word, gap in pairs)
)
TEXTS = st.lists(TEXT, max_size=6)


def column(texts):
    return pa.array(texts, pa.large_string())


def everything(texts, known):
    """The counts of some texts in the numbers of a vocabulary."""
    words = bigrams.words_of(column(texts))
    counts = words.counted(words.bigrams(), np.ones(len(texts), bool))
    return bigrams.translated(counts, words.distinct, known)


def known_of(texts):
    words = bigrams.words_of(column(texts))
    return bigrams.vocabulary([(words.distinct, words.seen(np.ones(len(texts), bool)))])


@given(st.lists(hostile_text, max_size=6), st.integers(0, 3))
def test_words_are_those_of_split_in_lower_case(texts, skip):
    found = bigrams.words_of(column(["skipped", "rows", *texts]).slice(2))
    plain = [oracle_bigrams.words(text) for text in texts]
    assert np.diff(found.first).tolist() == [len(words) for words in plain]
    numbers = found.numbers.tolist()
    flat = [word for words in plain for word in words]
    assert len(dict(zip(flat, numbers, strict=True))) == len(set(numbers)) == len(set(flat)) == len(found.distinct)
    assert all(numbers[i] == numbers[flat.index(word)] for i, word in enumerate(flat))
    rows = np.arange(len(texts)) % 3 == skip
    chosen = [number for row, words in enumerate(plain) for number in [row] * len(words)]
    seen = np.zeros(len(found.distinct), int)
    for row, number in zip(chosen, numbers, strict=True):
        seen[number] += rows[row]
    assert found.seen(rows).tolist() == seen.tolist()


def test_blocks_of_text_share_their_numbers(monkeypatch):
    texts = [" ".join(f"w{i * j % 17}" for j in range(40)) for i in range(30)]
    whole = bigrams.words_of(column(texts))
    monkeypatch.setattr(bigrams, "_BLOCK", 100)
    cut = bigrams.words_of(column(texts))
    for name in ("first", "numbers", "distinct"):
        assert np.array_equal(getattr(whole, name), getattr(cut, name))


@given(TEXTS, TEXTS)
def test_probabilities_are_those_of_the_definition(texts, held):
    known = known_of(texts)
    plain = oracle_bigrams.vocabulary(texts)
    assert len(known) == len(plain)
    model, slow = bigrams.Model.of(everything(texts, known), len(known)), oracle_bigrams.Model(texts, plain)
    bits = model.bits(everything(held, known))
    wanted = -math.fsum(math.log2(slow.probability(*pair)) for text in held for pair in slow.bigrams(text))
    assert bits == pytest.approx(wanted, rel=1e-12, abs=1e-12)


@given(TEXTS)
def test_probabilities_sum_to_one_behind_every_word(texts):
    known = known_of(["a a b b c c d d", *texts])
    model = bigrams.Model.of(everything(texts, known), len(known))
    size = len(known)
    for before in range(size + 2):
        found = model.probabilities(before * (size + 2) + np.arange(size + 1))
        assert (found > 0).all()
        assert math.fsum(found) == pytest.approx(1, abs=1e-12)


@given(TEXTS, st.lists(st.integers(0, 6), max_size=3), st.randoms(use_true_random=False))
def test_pieces_in_any_order_count_as_one(texts, borders, random):
    known = known_of(texts)
    whole = everything(texts, known)
    random.shuffle(texts)
    edges = [0, *sorted(min(border, len(texts)) for border in borders), len(texts)]
    pieces = [everything(texts[a:b], known) for a, b in pairwise(edges)]
    before, bigrams._HELD = bigrams._HELD, 3
    try:
        codes, counts = bigrams.added(pieces)
    finally:
        bigrams._HELD = before
    assert codes.tolist() == whole[0].tolist()
    assert counts.tolist() == whole[1].tolist()


def test_text_of_the_same_kind_takes_fewer_bits():
    near = ["the cat sat on the mat"] * 3
    far = ["prices of copper fell again"] * 3
    known = known_of([*near, *far])
    held = everything(["the cat sat"], known)
    bits = [bigrams.Model.of(everything(texts, known), len(known)).bits(held) for texts in (near, far, [])]
    assert bits[0] < bits[2] < bits[1]
    # By hand: behind the mark only `the` (3 of 3), behind `the` `cat` and `mat` (3 of 6 each), behind `cat` `sat`.
    single = {word: (count - 0.75) / 18 + 0.75 * 5 / 18 / 11 for word, count in {"the": 6, "cat": 3, "sat": 3}.items()}
    shares = [(3 - 0.75) / 3 + 0.25 * single["the"], (3 - 0.75) / 6 + 0.25 * single["cat"]]
    shares.append((3 - 0.75) / 3 + 0.25 * single["sat"])
    assert bits[0] == pytest.approx(-sum(map(math.log2, shares)), rel=1e-12)
