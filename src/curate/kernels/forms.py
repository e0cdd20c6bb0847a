"""Which texts are in a Unicode normal form already: the quick check of UAX #15, section 9.

A text all of whose code points are starters that the form leaves alone and that join with nothing before them is
normalised. Nearly all text is, and finding that out costs a tenth of normalising it. A no means only "look closer".
"""

import unicodedata
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import kernel

CODE_POINTS = 0x20000
"""The planes the table covers, BMP and SMP; a text with code points above them is looked at closer."""


@cache
def settled_code_points(form: Literal["NFC", "NFKC"]) -> NDArray[np.bool_]:
    """bool[CODE_POINTS]: code points that leave a text in `form` (`NFC` or `NFKC`) wherever they stand.

    Unassigned ones are not among them: a newer Unicode may have given them another meaning. Those that may join with
    what is before them are the later parts of canonical decompositions, and the vowels and finals of Hangul.
    """
    joining = set(range(0x1160, 0x1200))
    alone = np.zeros(CODE_POINTS, np.bool_)
    for code in range(0x80, CODE_POINTS):
        character = chr(code)
        parts = unicodedata.decomposition(character)
        if parts and not parts.startswith("<"):
            joining.update(int(part, 16) for part in parts.split()[1:])
        alone[code] = (
            unicodedata.category(character) not in ("Cn", "Cs")
            and unicodedata.combining(character) == 0
            and (not parts or unicodedata.is_normalized(form, character))
        )
    alone[:0x80] = True
    alone[[code for code in joining if code >= 0x80 and code < CODE_POINTS]] = False
    return alone


@kernel
def settled(
    offsets: NDArray[np.int64], data: NDArray[np.uint8], alone: NDArray[np.bool_], out: NDArray[np.bool_]
) -> None:
    """out[i]: every code point of row i is marked in `alone` bool[CODE_POINTS].

    Rows are `offsets` int64[n + 1] into `data` uint8[...], valid UTF-8.
    """
    for row in range(len(out)):
        at, stop = offsets[row], offsets[row + 1]
        fine = True
        while at < stop:
            byte = np.int64(data[at])
            if byte < 0x80:
                at += 1
                continue
            if byte < 0xE0:
                code = (byte & 0x1F) << 6 | (np.int64(data[at + 1]) & 0x3F)
                at += 2
            elif byte < 0xF0:
                code = (byte & 0x0F) << 12 | (np.int64(data[at + 1]) & 0x3F) << 6 | (np.int64(data[at + 2]) & 0x3F)
                at += 3
            else:
                code = (byte & 0x07) << 18 | (np.int64(data[at + 1]) & 0x3F) << 12
                code |= (np.int64(data[at + 2]) & 0x3F) << 6 | (np.int64(data[at + 3]) & 0x3F)
                at += 4
            if code >= len(alone) or not alone[code]:
                fine = False
                break
        out[row] = fine
