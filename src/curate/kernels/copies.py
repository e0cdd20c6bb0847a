"""Equal 128-bit digests: for each, the first that equals it. One pass over a table of places, no sorting."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import kernel

UInt64s = NDArray[np.uint64]
Int64s = NDArray[np.int64]


def places(rows: int) -> NDArray[Any]:
    """An empty table for `rows` digests: int64, a power of two at least twice as long, all -1."""
    return np.full(1 << max(4, (2 * rows - 1).bit_length()), -1, np.int64)


@kernel
def first_copies(high: UInt64s, low: UInt64s, table: Int64s, first: Int64s) -> None:
    """first[i] = the smallest j with the digest of i (j = i where none is before it).

    `high`, `low` uint64[n] are the halves of the digests, `table` comes from `places(n)`, `first` is int64[n].
    Digests are hashes, so their low bits are good places already; a taken place leads to the next.
    """
    mask = np.int64(len(table) - 1)
    for i in range(len(high)):
        place = np.int64(low[i]) & mask
        while True:
            j = table[place]
            if j < 0:
                table[place] = i
                first[i] = i
                break
            if high[j] == high[i] and low[j] == low[i]:
                first[i] = j
                break
            place = (place + 1) & mask
