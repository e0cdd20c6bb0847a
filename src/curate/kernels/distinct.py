"""Rows of 32-bit numbers as sets: sorted, each number once.

A row is sorted by its bytes, the lowest first (radix sort): four passes of counting, no comparison and so no branch
that a processor could guess wrong. The catch: it takes twice the largest row in memory.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.blocks import Int64
from curate.kernels.compiled import inner, kernel

Int64s = NDArray[np.int64]
UInt32s = NDArray[np.uint32]

FEW = 40
"""Rows up to here are sorted by insertion: counting 256 bytes four times takes longer."""


@kernel
def sort_distinct(first: Int64s, values: UInt32s, out_first: Int64s, out: UInt32s) -> None:
    """The distinct values of each row in ascending order.

    `first` int64[n + 1] into `values` uint32[...]; it need not start at 0. Writes `out_first` int64[n + 1], from 0,
    into `out`, which has room for as many values as the rows have.
    """
    longest = np.int64(0)
    for row in range(len(first) - 1):
        longest = max(longest, first[row + 1] - first[row])
    one, other = np.empty(longest, np.uint32), np.empty(longest, np.uint32)
    starts = np.empty((4, 256), np.int64)
    total = np.int64(0)
    for row in range(len(first) - 1):
        out_first[row] = total
        size = first[row + 1] - first[row]
        if size <= FEW:
            _insert(values, first[row], size, one)
        else:
            _count_bytes(values, first[row], size, starts)
            _scatter(values, first[row], size, starts[0], 0, one)
            _scatter(one, np.int64(0), size, starts[1], 8, other)
            _scatter(other, np.int64(0), size, starts[2], 16, one)
            _scatter(one, np.int64(0), size, starts[3], 24, other)
            one, other = other, one
        for i in range(size):
            out[total] = one[i]
            total += i + 1 == size or one[i] != one[i + 1]
    out_first[len(first) - 1] = total


@inner
def _insert(values: UInt32s, start: Int64, size: Int64, ordered: UInt32s) -> None:
    """The values of a short row in ascending order."""
    for i in range(size):
        value = values[start + i]
        place = i
        while place > 0 and ordered[place - 1] > value:
            ordered[place] = ordered[place - 1]
            place -= 1
        ordered[place] = value


@inner
def _count_bytes(values: UInt32s, start: Int64, size: Int64, starts: NDArray[np.int64]) -> None:
    """Where the values with each lowest, second, third and highest byte begin in the order by it."""
    starts[:, :] = 0
    for i in range(start, start + size):
        value = np.int64(values[i])
        starts[0, value & 255] += 1
        starts[1, (value >> 8) & 255] += 1
        starts[2, (value >> 16) & 255] += 1
        starts[3, value >> 24] += 1
    for place in range(4):
        total = np.int64(0)
        for byte in range(256):
            here = starts[place, byte]
            starts[place, byte] = total
            total += here


@inner
def _scatter(values: UInt32s, start: Int64, size: Int64, starts: Int64s, shift: Int64, ordered: UInt32s) -> None:
    """The values in the order of one byte, those with an equal one in the order that they had."""
    for i in range(start, start + size):
        byte = (np.int64(values[i]) >> shift) & 255
        ordered[starts[byte]] = values[i]
        starts[byte] += 1
