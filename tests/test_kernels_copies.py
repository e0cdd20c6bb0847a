"""The first of equal digests, against a dictionary; digests here crowd the same places of the table."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from oracles import first_copies_slowly

from curate.kernels.copies import first_copies, places

# Few values, and values that differ only in the bits that do not choose the place.
HALF = st.one_of(st.integers(0, 3), st.sampled_from([1 << 40, 2 << 40, (1 << 64) - 1]))


def found(digests: list[tuple[int, int]]) -> list[int]:
    high, low = (np.array([pair[side] for pair in digests], np.uint64) for side in (0, 1))
    first = np.empty(len(digests), np.int64)
    first_copies(high, low, places(len(digests)), first)
    return first.tolist()


@given(st.lists(st.tuples(HALF, HALF), max_size=200))
def test_it_is_the_first_of_equals(digests: list[tuple[int, int]]) -> None:
    assert found(digests) == first_copies_slowly(digests)


def test_many() -> None:
    draw = np.random.default_rng(0)
    digests = [(int(a), int(b)) for a, b in draw.integers(0, 1 << 62, (5000, 2))] * 2
    assert found(digests) == first_copies_slowly(digests)
