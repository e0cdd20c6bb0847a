"""Sets of 32-bit numbers: packed to about three bytes a number, unpacked, and compared two at a time.

A row of n sorted distinct numbers is split as Elias (1974) and Fano (1971) have it, which is Rice's code of the gaps
with its two halves apart: the low bits of every number side by side, then the high bits as a bitmap, in which number i
sets bit (high + i). That is within a tenth of a bit of the best that gaps of random numbers can be coded in, and both
halves are read without a branch that could go wrong. A row of 800 takes 24.3 bits for each.

A packed row is whole words of 64 bits: the count in 32 bits, the low bits, the bitmap. An empty set has no words.
The catch: the kernels believe the count; a row that was damaged is read beyond its end.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import ONE, highest, load64, lowest
from curate.kernels.blocks import Int64
from curate.kernels.compiled import inner, kernel

Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]
UInt32s = NDArray[np.uint32]
Bytes = NDArray[np.uint8]

ZERO, SIX, WORD, LOW_WORD = np.uint64(0), np.uint64(6), np.uint64(64), np.uint64(0xFFFFFFFF)
PLACE = np.uint64(63)
EVERY_BIT = np.uint64(0xFFFFFFFFFFFFFFFF)
HEAD = 32
STRIDE = np.uint64(64)


def packed(first: Int64s, values: UInt32s) -> tuple[Int64s, Bytes]:
    """Rows as bytes: offsets int64[n + 1] into uint8[...].

    `first` int64[n + 1] into `values` uint32[...], sorted and distinct in each row.
    """
    starts = np.zeros(len(first), np.int64)
    packed_words(first, values, starts[1:])
    np.cumsum(starts, out=starts)
    words = np.zeros(starts[-1], np.uint64)
    pack(first, values, starts, words)
    return starts * 8, words.view(np.uint8)


@kernel
def packed_words(first: Int64s, values: UInt32s, words: Int64s) -> None:
    """words[i] = 64-bit words that row i takes; arguments as in `packed`, `words` int64[n]."""
    for row in range(len(words)):
        size = first[row + 1] - first[row]
        words[row] = 0
        if size > 0:
            low = _low_bits(size)
            high = np.int64(np.uint64(values[first[row + 1] - 1]) >> np.uint64(low))
            words[row] = (HEAD + size * low + high + size + 63) // 64


@kernel
def pack(first: Int64s, values: UInt32s, starts: Int64s, out: UInt64s) -> None:
    """Write the packed rows: row i from word starts[i] of `out`, uint64 and all 0 before."""
    for row in range(len(first) - 1):
        size = first[row + 1] - first[row]
        if size == 0:
            continue
        low = np.uint64(_low_bits(size))
        mask = (ONE << low) - ONE
        word = starts[row]
        filling, filled = np.uint64(size) & LOW_WORD, np.uint64(HEAD)
        for i in range(first[row], first[row + 1]):
            part = np.uint64(values[i]) & mask
            filling |= part << filled
            if filled + low >= WORD:
                out[word] = filling
                word += 1
                filling = part >> (WORD - filled)
                filled = filled + low - WORD
            else:
                filled += low
        out[word] = filling  # the bitmap has a bit at least, so this word is the row's own
        bit = np.uint64(HEAD) + np.uint64(size) * low
        for i in range(first[row], first[row + 1]):
            at = bit + (np.uint64(values[i]) >> low)
            out[starts[row] + np.int64(at >> SIX)] |= ONE << (at & PLACE)
            bit += ONE


@kernel
def counts(offsets: Int64s, data: Bytes, out: Int64s) -> None:
    """out[i] = numbers in packed row i; `offsets` int64[n + 1] into `data` uint8[...]."""
    for row in range(len(out)):
        start = offsets[row]
        out[row] = np.int64(load64(data, start) & LOW_WORD) if offsets[row + 1] > start else 0


@kernel
def unpack(offsets: Int64s, data: Bytes, rows: Int64s, places: Int64s, out: UInt32s) -> None:
    """Write the numbers of packed row rows[i] to `out` (uint32) from places[i] on. `rows` and `places` are int64[m]."""
    for i in range(len(rows)):
        start = offsets[rows[i]]
        words = (offsets[rows[i] + 1] - start) // 8
        if words == 0:
            continue
        size = np.int64(load64(data, start) & LOW_WORD)
        low = _low_bits(size)
        _read_high(data, start, size, low, out[places[i] : places[i] + size])
        _read_low(data, start, words * 8, low, out[places[i] : places[i] + size])


@kernel
def shared(
    first: Int64s,
    values: UInt32s,
    others: tuple[Int64s, UInt32s],
    pairs: tuple[Int64s, Int64s],
    needed: Int64s,
    out: Int64s,
) -> None:
    """out[p] = numbers that two sets share, or -1 where they are fewer than needed[p].

    Pair p is row pairs[0][p] of (`first`, `values`) and row pairs[1][p] of `others`, both int64[n + 1] and sorted
    distinct uint32. A pair is left as soon as what remains cannot reach needed[p] any more.
    """
    other_first, other_values = others
    one, other = pairs
    for p in range(len(out)):
        a, end_a = np.uint64(first[one[p]]), np.uint64(first[one[p] + 1])
        b, end_b = np.uint64(other_first[other[p]]), np.uint64(other_first[other[p] + 1])
        out[p] = _merge(values, a, end_a, other_values, b, end_b, needed[p])


@kernel
def agreeing(
    first: Int64s,
    values: UInt32s,
    others: tuple[Int64s, UInt32s],
    pairs: tuple[Int64s, Int64s],
    needed: Int64s,
    out: Int64s,
) -> None:
    """out[p] = places in which two rows hold the same number, or -1 where they are fewer than needed[p].

    As `shared`, of rows that need no order; of two lengths, the shorter counts.
    """
    other_first, other_values = others
    one, other = pairs
    for p in range(len(out)):
        a, b = first[one[p]], other_first[other[p]]
        size = min(first[one[p] + 1] - a, other_first[other[p] + 1] - b)
        same = np.int64(0)
        for i in range(size):
            same += np.int64(values[a + i] == other_values[b + i])
        out[p] = same if same >= needed[p] else -1


@inner
def _low_bits(size: Int64) -> Int64:
    """Bits of a number that stand apart: 32 less those that count the set, rounded up."""
    return 31 - highest(np.uint64(size - 1)) if size > 1 else 32


@inner
def _read_high(data: Bytes, start: Int64, size: Int64, low: Int64, out: UInt32s) -> None:
    bit = HEAD + size * low
    word = load64(data, start + bit // 64 * 8) & (EVERY_BIT << np.uint64(bit & 63))
    byte = start + bit // 64 * 8
    high = bit // 64 * 64 - bit
    shift = np.uint64(low)
    i = 0
    while True:
        while word != ZERO:
            out[i] = np.uint32(np.uint64(high + lowest(word) - i) << shift)
            word &= word - ONE
            i += 1
        if i >= size:
            return
        byte += 8
        high += 64
        word = load64(data, byte)


@inner
def _read_low(data: Bytes, start: Int64, size: Int64, low: Int64, out: UInt32s) -> None:
    mask = (ONE << np.uint64(low)) - ONE
    bit = np.int64(HEAD)
    i = 0
    while i < len(out) and (bit >> 3) + 8 <= size:
        out[i] |= np.uint32((load64(data, start + (bit >> 3)) >> np.uint64(bit & 7)) & mask)
        bit += low
        i += 1
    while i < len(out):  # the last ones, where eight bytes would go beyond the row
        place = np.uint64(bit & 63)
        part = load64(data, start + (bit >> 6) * 8) >> place
        if np.int64(place) + low > 64:
            part |= load64(data, start + (bit >> 6) * 8 + 8) << (WORD - place)
        out[i] |= np.uint32(part & mask)
        bit += low
        i += 1


@inner
def _merge(
    one: UInt32s, a: np.uint64, end_a: np.uint64, other: UInt32s, b: np.uint64, end_b: np.uint64, needed: Int64
) -> Int64:
    """Numbers in both of two sorted ranges, -1 if fewer than `needed`. A step advances the smaller, or both."""
    same = ZERO
    while a < end_a and b < end_b:
        left = min(end_a - a, end_b - b)
        if np.int64(same + left) < needed:
            return -1
        for _ in range(min(left, STRIDE)):
            x, y = one[a], other[b]
            same += np.uint64(x == y)
            a += np.uint64(x <= y)
            b += np.uint64(y <= x)
    return np.int64(same) if np.int64(same) >= needed else -1
