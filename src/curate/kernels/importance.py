"""Words and pairs of words as buckets, and what buckets add up to."""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import kernel
from curate.kernels.hash import mix

Int64s = NDArray[np.int64]
UInt32s = NDArray[np.uint32]
UInt16s = NDArray[np.uint16]
Doubles = NDArray[np.float64]

BUCKETS = 10_000
_BUCKETS = np.uint64(BUCKETS)


@kernel
def fill_buckets(first: Int64s, words: UInt32s, row_offsets: Int64s, out: UInt16s) -> None:
    """The bucket of each word of a row, each but the first followed by that of the pair which ends there.

    `first` int64[n + 1] into `words` uint32[...], hashes of 32 bits. Writes `row_offsets` int64[n + 1] into `out`
    uint16[...], which has room for 2 * w - 1 of a row of w words. A bucket is the hash times 10,000 over 2^32; the hash
    of a pair is the upper half of `mix` of its words'.
    """
    at = np.int64(0)
    for row in range(len(first) - 1):
        row_offsets[row] = at
        before = np.uint64(0)
        for place in range(first[row], first[row + 1]):
            word = np.uint64(words[place])
            out[at] = np.uint16((word * _BUCKETS) >> 32)
            at += 1
            if place > first[row]:
                pair = mix(before, word) >> 32
                out[at] = np.uint16((pair * _BUCKETS) >> 32)
                at += 1
            before = word
    row_offsets[len(first) - 1] = at


@kernel
def count_buckets(row_offsets: Int64s, buckets: UInt16s, rows: Int64s, out: Int64s) -> None:
    """Add to out[b] (int64[10000]) how often bucket b stands in the rows whose numbers are `rows` int64[...]."""
    for row in rows:
        for place in range(row_offsets[row], row_offsets[row + 1]):
            out[buckets[place]] += 1


@kernel
def sum_weights(row_offsets: Int64s, buckets: UInt16s, weights: Doubles, out: Doubles) -> None:
    """out[i] (float64[n]) = the sum of the weights (float64[10000]) of row i's buckets, in their order."""
    for row in range(len(out)):
        total = 0.0
        for place in range(row_offsets[row], row_offsets[row + 1]):
            total += weights[buckets[place]]
        out[row] = total
