"""Words as small numbers, and each word with the one before it as one number: what counts of bigrams are made of.

Words come as 64-bit hashes. A table with open addressing numbers them in the order in which they first occur: one look
at memory per word, where sorting would take twenty.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import kernel

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]


@kernel
def number_words(words: UInt64s, slots: Int32s, distinct: UInt64s, out: Int32s) -> int:
    """Number equal words alike, from 0; gives how many different ones there are.

    `words` uint64[n]; `slots` int32[2^b], all -1, with 2^b > n. Writes out int32[n], and distinct[j], room for n, the
    word of number j.
    """
    last = np.uint64(len(slots) - 1)
    found = 0
    for i in range(len(words)):
        slot = words[i] & last
        while slots[slot] >= 0 and distinct[slots[slot]] != words[i]:
            slot = (slot + np.uint64(1)) & last
        if slots[slot] < 0:
            slots[slot] = found
            distinct[found] = words[i]
            found += 1
        out[i] = slots[slot]
    return found


@kernel
def pair_words(first: Int64s, numbers: Int32s, begin: int, out: Int64s) -> None:
    """out[w] = (number before w) * (begin + 1) + numbers[w]; the first word of a row has `begin` before it.

    `first` int64[n + 1]: row r has the words first[r] to first[r + 1] - 1 of `numbers` int32[words], each below
    `begin`.
    """
    for row in range(len(first) - 1):
        before = np.int64(begin)
        for word in range(first[row], first[row + 1]):
            out[word] = before * (begin + 1) + numbers[word]
            before = np.int64(numbers[word])
