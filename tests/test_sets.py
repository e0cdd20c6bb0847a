"""Packed sets of 32-bit numbers: nothing is lost, little is taken, and what is shared is counted exactly."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.kernels.sets import agreeing, counts, packed, shared, unpack

_NUMBER = st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(2**32 - 40, 2**32 - 1))
_SETS = st.lists(st.sets(_NUMBER, max_size=40), max_size=8)


def rows(sets):
    """first int64[n + 1] and sorted values uint32."""
    first = np.cumsum([0, *map(len, sets)]).astype(np.int64)
    return first, np.array([value for one in sets for value in sorted(one)], np.uint32)


def unpacked(offsets, data, chosen):
    """The chosen rows as lists, read from bytes that may not be written and that end with the last row."""
    offsets, data = offsets.copy(), data.copy()
    offsets.setflags(write=False)
    data.setflags(write=False)
    sizes = np.empty(len(offsets) - 1, np.int64)
    counts(offsets, data, sizes)
    places = np.cumsum([0, *sizes[chosen]])
    out = np.full(places[-1], 7, np.uint32)
    unpack(offsets, data, np.array(chosen, np.int64), places[:-1].astype(np.int64), out)
    return [out[a:b].tolist() for a, b in itertools.pairwise(places)]


@given(sets=_SETS, data=st.data())
def test_what_is_packed_comes_back(sets, data):
    offsets, packing = packed(*rows(sets))
    chosen = data.draw(st.lists(st.integers(0, len(sets) - 1), max_size=9)) if sets else []
    assert unpacked(offsets, packing, chosen) == [sorted(sets[row]) for row in chosen]
    assert (offsets % 8 == 0).all()


def test_rows_may_lie_anywhere_in_the_bytes():
    offsets, packing = packed(*rows([{5}, {1, 2, 3}, {2**32 - 1}]))
    behind = np.concatenate([np.full(3, 255, np.uint8), packing])
    assert unpacked(offsets + 3, behind, [2, 1]) == [[2**32 - 1], [1, 2, 3]]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 31, 32, 33, 100, 1000, 20_000])
def test_every_size_comes_back_and_is_small(size):
    generator = np.random.default_rng(size)
    values = set(np.unique(generator.integers(0, 2**32, size, np.uint64)).tolist())
    dense = set(range(2**32 - size, 2**32))
    offsets, packing = packed(*rows([values, dense]))
    assert unpacked(offsets, packing, [0, 1]) == [sorted(values), sorted(dense)]
    # Elias-Fano: two bits a number over the logarithm of the mean gap, and what rounding adds to it.
    bits = size * (2 + max(0, math.log2(2**32 / size))) + 32 + 64
    assert offsets[1] * 8 <= bits + 0.09 * size


@given(one=_SETS, other=_SETS, data=st.data())
def test_shared_is_the_intersection(one, other, data):
    one, other = one or [set()], other or [set()]
    pairs = data.draw(st.lists(st.tuples(st.integers(0, len(one) - 1), st.integers(0, len(other) - 1)), max_size=9))
    truth = [len(one[a] & other[b]) for a, b in pairs]
    needed = [max(0, count + data.draw(st.integers(-2, 2))) for count in truth]
    out = np.empty(len(pairs), np.int64)
    a, b = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    shared(*rows(one), rows(other), (a, b), np.array(needed, np.int64), out)
    assert out.tolist() == [count if count >= least else -1 for count, least in zip(truth, needed, strict=True)]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.97, 1.0])
def test_long_sets_are_left_early_only_when_it_is_settled(share):
    generator = np.random.default_rng(1)
    numbers = generator.choice(2**32, 6000, replace=False).tolist()
    kept = int(3000 * share)
    one, other = set(numbers[:3000]), set(numbers[:kept] + numbers[3000 : 6000 - kept])
    needed = np.array([0, kept - 1, kept, kept + 1], np.int64)
    out, zero = np.empty(4, np.int64), np.zeros(4, np.int64)
    shared(*rows([one]), rows([other]), (zero, zero), needed, out)
    assert out.tolist() == [kept, kept, kept, -1]


@given(values=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30), least=st.integers(0, 30))
def test_agreeing_counts_equal_places(values, least):
    one, other = (np.array([pair[side] for pair in values], np.uint32) for side in (0, 1))
    first, zero, out = np.array([0, len(values)]), np.zeros(1, np.int64), np.empty(1, np.int64)
    agreeing(first, one, (first, other), (zero, zero), np.array([least]), out)
    truth = sum(a == b for a, b in values)
    assert out[0] == (truth if truth >= least else -1)
