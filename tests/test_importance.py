"""Hashed n-grams equal their definition on hostile text; ratios and scores equal sums in plain Python."""

from collections import Counter
from itertools import pairwise
from math import log

import numpy as np
import oracle_minhash
import oracles
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import hostile_text

from curate import importance
from curate.arrow import utf8
from curate.errors import DataError

texts_of = st.lists(hostile_text, max_size=8)


def buckets_of(text: str) -> list[int]:
    """Buckets by the definition: words and pairs, each pair behind its second word."""
    found: list[int] = []
    words = oracle_minhash.shingles(text, 1, "words")
    for place, word in enumerate(words):
        found.append(word * 10_000 // 2**32)
        if place:
            pair = oracles.mix(words[place - 1], word) // 2**32
            found.append(pair * 10_000 // 2**32)
    return found


def ratios(target: Counter[int], pool: Counter[int]) -> list[float]:
    found = []
    for bucket in range(10_000):
        share = (pool[bucket] + 1) / (pool.total() + 10_000)
        found.append(log((target[bucket] + 10_000 * share) / (target.total() + 10_000) / share))
    return found


def lists(row_offsets: np.ndarray, buckets: np.ndarray) -> list[list[int]]:
    assert row_offsets[0] == 0
    assert row_offsets[-1] == len(buckets)
    assert buckets.dtype == np.uint16
    return [buckets[start:stop].tolist() for start, stop in pairwise(row_offsets)]


@settings(deadline=None)
@given(texts=texts_of, before=hostile_text, at_once=st.sampled_from([1, 50, 1 << 20]))
def test_features_are_hashed_words_and_pairs(texts: list[str], before: str, at_once: int) -> None:
    offsets, data = oracles.rows([text.encode() for text in texts], before=before.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importance, "BYTES_AT_ONCE", at_once)
        assert lists(*importance.features(offsets, data)) == [buckets_of(text) for text in texts]


@settings(deadline=None)
@given(texts=texts_of.filter(bool), cut=st.integers(0, 8), data=st.data())
def test_counts_ratios_and_scores(texts: list[str], cut: int, data: st.DataObject) -> None:
    column = pa.array(["before", *texts])[1:]
    row_offsets, buckets = importance.features(*utf8(column))
    target = data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
    each = [buckets_of(text) for text in texts]
    wanted = Counter(bucket for row, chosen in zip(each, target, strict=True) if chosen for bucket in row)
    pool = Counter(bucket for row in each for bucket in row)
    counted = importance.counts(row_offsets, buckets, np.array(target))
    assert counted.tolist() == [wanted[bucket] for bucket in range(10_000)]
    assert np.array_equal(counted, importance.counts(row_offsets, buckets, np.flatnonzero(target)))
    everything = importance.counts(row_offsets, buckets, np.arange(len(texts)))
    found = importance.log_ratio(counted, everything)
    expected = ratios(wanted, pool)
    assert np.allclose(found, expected, rtol=1e-12, atol=1e-12)
    scores = importance.scores(row_offsets, buckets, found)
    assert np.allclose(scores, [sum(expected[bucket] for bucket in row) for row in each], rtol=1e-9, atol=1e-9)
    # A score depends on its text alone, wherever the rows are cut.
    cut = min(cut, len(texts))
    parts = [importance.scores(row_offsets[part], buckets, found) for part in (slice(cut + 1), slice(cut, None))]
    assert np.array_equal(np.concatenate(parts), scores)


def test_case_and_marks_do_not_count_but_order_does() -> None:
    row_offsets, buckets = importance.features(*utf8(pa.array(["The cat sat.", "the CAT -- sat!", "cat the sat", ""])))
    first, same, turned, none = lists(row_offsets, buckets)
    assert first == same
    assert len(first) == 5
    assert sorted(first[i] for i in (0, 1, 3)) == sorted(turned[i] for i in (0, 1, 3))
    assert first != turned
    assert none == []


def test_a_small_target_raises_its_own_words_and_leaves_the_others_near_zero() -> None:
    common = ["the", "of", "and", "to", "in", "that", "it", "is", "was", "for", "on", "with", "as", "be", "by", "at"]
    random = np.random.default_rng(0)
    pool = [" ".join(random.choice(common, 60)) for _ in range(300)]
    target = ["the gradient of the loss is the slope", "a gradient and a loss"]
    row_offsets, buckets = importance.features(*utf8(pa.array([*pool, *target])))
    is_target = np.arange(len(pool) + len(target)) >= len(pool)
    wanted, rest = (importance.counts(row_offsets, buckets, rows) for rows in (is_target, ~is_target))
    found = importance.log_ratio(wanted, rest)
    assert np.isfinite(found).all()
    probe = importance.features(*utf8(pa.array(["gradient", "loss", "that", "unheard"])))
    gradient, loss, common_word, unheard = importance.scores(*probe, found)
    assert min(gradient, loss) > 0.5
    assert abs(common_word) < 0.01
    assert abs(unheard) < 0.01
    assert importance.scores(row_offsets, buckets, found)[-2:].min() > 1


def test_no_target_makes_all_alike_and_much_target_gives_the_plain_ratio() -> None:
    pool = np.arange(10_000)
    assert np.allclose(importance.log_ratio(np.zeros(10_000, np.int64), pool), 0, atol=1e-12)
    target = np.arange(10_000)[::-1] * 10**9
    found = importance.log_ratio(target, pool * 10**9)
    plain = np.log(target[1:-1] / target.sum()) - np.log(pool[1:-1] / pool.sum())
    assert np.allclose(found[1:-1], plain, atol=1e-6)


def test_counts_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(3,\)"):
        importance.log_ratio(np.zeros(3, np.int64), np.zeros(10_000, np.int64))
