"""Where the words of each row begin and end.

A row is read in blocks of 64 bytes; one comparison gives the mask of its spaces, and the edges of the words are
the places where that mask changes. Only the four lead bytes that begin a space beyond ASCII are decoded.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import BLOCK, count, lowest, read_only, within
from curate.kernels.blocks import code_point, fill
from curate.kernels.compiled import inner, kernel
from curate.kernels.text import IS_SPACE

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]

ZERO, ONE = np.uint64(0), np.uint64(1)


@kernel
def whitespace_words(offsets: Int64s, data: Bytes, classes: Bytes, first: Int64s, edges: Int32s) -> None:
    """Words as by `str.split()`: maximal runs without one of its 29 spaces.

    `offsets` int64[n + 1] into `data` uint8[...], rows of UTF-8; `classes` from `text.code_point_classes`. Writes
    `first` int64[n + 1], the number of each row's first word (first[n] is the number of words), and `edges`
    int32[2 * capacity]: word w begins at byte edges[2 * w] of its row and ends before byte edges[2 * w + 1]. A row
    of b bytes has at most (b + 1) // 2 words; the caller provides for them all.
    """
    block = np.empty(BLOCK, np.uint8)
    edge = 0
    for row in range(len(offsets) - 1):
        first[row] = edge // 2
        text = read_only(data[offsets[row] : offsets[row + 1]])
        spilled = open_word = ZERO
        # A row of full blocks gets an empty one more, so a space always follows the last word.
        for position in range(0, len(text) + 1, BLOCK):
            fill(block, text, position)
            space = within(block, 32, 1, 0) | within(block, 9, 5, 0) | within(block, 28, 4, 0) | spilled
            spilled = ZERO
            leads = within(block, 0xC2, 1, 0) | within(block, 0xE1, 3, 0)
            if leads != ZERO:
                space, spilled = _wide_spaces(text, position, classes, leads, space)
            word = ~space
            changes = word ^ ((word << 1) | open_word)
            open_word = word >> 63
            for _ in range(count(changes)):
                edges[edge] = position + lowest(changes)
                changes &= changes - ONE
                edge += 1
    first[len(offsets) - 1] = edge // 2


@inner
def _wide_spaces(
    text: Bytes, position: int, classes: Bytes, leads: np.uint64, space: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """`space` with all bytes of the spaces that begin at `leads`, and what of the last runs into the next block."""
    spilled = ZERO
    while leads != ZERO:
        at = lowest(leads)
        leads &= leads - ONE
        code, size = code_point(text, position + at)
        if classes[code] & IS_SPACE:
            run = (ONE << size) - ONE
            space |= run << at
            if at + size > BLOCK:
                spilled = run >> (BLOCK - at)
    return space, spilled


@kernel
def choose_words(
    which: NDArray[np.bool_],
    first_1: Int64s,
    edges_1: Int32s,
    first_2: Int64s,
    edges_2: Int32s,
    first: Int64s,
    edges: Int32s,
) -> None:
    """Words of the first finding for rows where `which` is true, else of the second; arrays as above."""
    words = 0
    for row in range(len(which)):
        first[row] = words
        starts, source = (first_1, edges_1) if which[row] else (first_2, edges_2)
        for word in range(starts[row], starts[row + 1]):
            edges[2 * words] = source[2 * word]
            edges[2 * words + 1] = source[2 * word + 1]
            words += 1
    first[len(which)] = words
