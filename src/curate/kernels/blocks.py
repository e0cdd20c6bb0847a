"""A text by blocks of 64 bytes, and its characters one by one: what every kernel over UTF-8 begins with."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import BLOCK, fill_block
from curate.kernels.compiled import inner

Int64: TypeAlias = Any
"""A number: to Numba an int64 throughout, to a type checker now an int and now np.int64."""
Bytes = NDArray[np.uint8]

LAST_CODE = 0x10FFFF


@inner
def fill(block: Bytes, text: Bytes, position: Int64) -> None:
    """The next bytes of the row, spaces behind its end."""
    if position + BLOCK <= len(text):
        fill_block(block, text, position)
    else:
        block[:] = 32
        for i in range(len(text) - position):
            block[i] = text[position + i]


@inner
def code_point(text: Bytes, position: Int64) -> tuple[Int64, Int64]:
    """Code point and bytes of the character at `position`; a broken one counts as U+FFFF and one byte."""
    first = np.int64(text[position])
    if first < 0x80:
        return first, 1
    size = 2 + np.int64(first >= 0xE0) + np.int64(first >= 0xF0)
    if position + size > len(text):
        return 0xFFFF, 1
    code = first & (0x7F >> size)
    for i in range(1, size):
        code = (code << 6) | (np.int64(text[position + i]) & 0x3F)
    return code if code <= LAST_CODE else LAST_CODE, size
