"""Which of some sorted keys occur in a longer sorted array that streams past, a piece at a time.

Both sides are sorted, so a pointer into the wanted keys only moves forward. Most keys that stream past are not wanted:
a bitmap over the leading bits of what is wanted turns these away. As the stream is sorted too, it walks the bitmap from
front to back, so that what it looks at is always in the fastest cache; a table of hashes would be hit at random.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import kernel

UInt64s = NDArray[np.uint64]
Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]

SLOTS_PER_KEY = 16

ONE, THREE, SEVEN = np.uint64(1), np.uint64(3), np.uint64(7)


@kernel
def mark(keys: UInt64s, low: np.uint64, shift: np.uint64, bitmap: Bytes) -> None:
    """Set bit (key - low) >> shift of `bitmap`, which is long enough for the largest key, for every key."""
    for i in range(len(keys)):
        slot = (keys[i] - low) >> shift
        bitmap[slot >> THREE] |= np.uint8(ONE << (slot & SEVEN))


@kernel
def meet(stream: UInt64s, at: int, keys: UInt64s, low: np.uint64, shift: np.uint64, bitmap: Bytes, out: Int64s) -> None:
    """out[j] = at + i where stream[i] == keys[j]; other places of `out` int64[len(keys)] are left as they are.

    `stream` and `keys` are uint64, sorted and distinct; `bitmap` is what `mark` made of these keys or of more.
    """
    if len(keys) == 0:
        return
    first, last = keys[0], keys[-1]
    j = 0
    for i in range(len(stream)):
        key = stream[i]
        if key < first or key > last:
            continue
        slot = (key - low) >> shift
        if (bitmap[slot >> THREE] >> np.uint8(slot & SEVEN)) & np.uint8(1):
            while keys[j] < key:
                j += 1
            if keys[j] == key:
                out[j] = at + i
