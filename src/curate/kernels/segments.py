"""Which parts of a text are equal: the first copy of every segment, found by hash and proved on bytes.

A segment is a span of bytes: a line, a paragraph. Segments of one row are entered in order into an open table whose
places hold a segment's number + 1. The hash only picks the place and spares comparisons; two segments are equal when
their bytes are.

Arrays: `spans` int64[m, 2] (start and end in the text), `hashes` uint64[m], `table` int32 of a power of two, more
than the segments entered, zeroed before the first.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import load32, load64, product
from curate.kernels.blocks import Int64
from curate.kernels.compiled import inner

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

# The first two prime multipliers of XXH64 (Collet): odd, with bits all over.
FACTOR, OTHER = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)


@inner
def table_size(segments: Int64) -> Int64:
    """Places for so many segments: a power of two, at least twice as many."""
    size = 16
    while size < 2 * segments:
        size *= 2
    return size


@inner
def first_copy(text: Bytes, number: Int64, spans: Int64s, hashes: UInt64s, table: Int32s) -> Int64:
    """The number of the first segment entered that is equal to segment `number`; `number` itself, which is then
    entered, if none is."""
    start, end = spans[number, 0], spans[number, 1]
    key = segment_hash(text, start, end - start)
    last = len(table) - 1
    place = np.int64(key >> np.uint64(20)) & last
    while table[place] != 0:
        other = np.int64(table[place]) - 1
        alike = hashes[other] == key and spans[other, 1] - spans[other, 0] == end - start
        if alike and _equal(text, spans[other, 0], start, end - start):
            return other
        place = (place + 1) & last
    table[place] = number + 1
    hashes[number] = key
    return number


@inner
def segment_hash(text: Bytes, start: Int64, size: Int64) -> np.uint64:
    """A fast hash of `size` bytes, sixteen at a time; of no use outside this module's tables."""
    key = np.uint64(size) * FACTOR
    if size >= 16:
        for at in range(start, start + size - 16, 16):
            key = _fold(load64(text, at) ^ OTHER, load64(text, at + 8) ^ key)
        return _fold(load64(text, start + size - 16) ^ FACTOR, load64(text, start + size - 8) ^ key)
    if size >= 8:
        return _fold(load64(text, start) ^ FACTOR, load64(text, start + size - 8) ^ key)
    if size >= 4:
        return _fold(load32(text, start) ^ FACTOR, load32(text, start + size - 4) ^ key)
    few = np.uint64(0)
    for i in range(size):
        few = (few << np.uint64(8)) | np.uint64(text[start + i])
    return _fold(few ^ FACTOR, key)


@inner
def _fold(a: np.uint64, b: np.uint64) -> np.uint64:
    """Both halves of the product in one word; each also enters as itself, so that a zero hides nothing."""
    low, high = product(a, b | np.uint64(1))
    return (low ^ high) + a


@inner
def _equal(text: Bytes, a: Int64, b: Int64, size: Int64) -> bool:
    for at in range(0, size - 7, 8):
        if load64(text, a + at) != load64(text, b + at):
            return False
    different = np.int64(0)
    for at in range(size - size % 8, size):
        different += np.int64(text[a + at] != text[b + at])
    return bool(different == 0)


@inner
def characters(text: Bytes, start: Int64, end: Int64) -> Int64:
    """Code points between two positions of UTF-8."""
    total = 0
    for at in range(start, end):
        total += int(text[at] & 0xC0 != 0x80)
    return total
