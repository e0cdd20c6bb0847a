"""The phrases by which C4 drops lines, and the citations that it cuts from them, each looked for at one place.

A phrase is looked for where a rare letter of it stands (j, k, m, v), so a text is searched by four comparisons of
every block and little more.

The catch: `str.lower()` makes a k of the Kelvin sign U+212A, so "coo\\u212aies" is a policy word; no other character
over 127 can be part of a phrase.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import FRONT
from curate.kernels.blocks import Int64, code_point
from curate.kernels.compiled import inner
from curate.kernels.text import IS_DIGIT

Bytes = NDArray[np.uint8]

# Phrase, place of the letter that gives it away, and the bit that it sets in a line's findings.
HAS_LOREM, HAS_JAVASCRIPT, HAS_POLICY = 1, 2, 8
_PHRASES = (
    (b"javascript", 0, HAS_JAVASCRIPT),
    (b"lorem ipsum", 4, HAS_LOREM),
    (b"terms of use", 3, HAS_POLICY),
    (b"privacy policy", 3, HAS_POLICY),
    (b"cookie policy", 3, HAS_POLICY),
    (b"uses cookies", 8, HAS_POLICY),
    (b"use of cookies", 10, HAS_POLICY),
    (b"use cookies", 7, HAS_POLICY),
)
PHRASES = np.array([list(phrase.ljust(16, b"\0")) for phrase, _, _ in _PHRASES], np.uint8)
PHRASE_SIZES = np.array([len(phrase) for phrase, _, _ in _PHRASES])
ANCHORS = np.array([anchor for _, anchor, _ in _PHRASES])
FINDINGS = np.array([finding for _, _, finding in _PHRASES])
CUTS = np.array([list(text.ljust(16, b"\0")) for text in (b"edit]", b"citation needed]")], np.uint8)
CUT_SIZES = np.array([5, 16])
KELVIN = 0x212A


@inner
def phrase(text: Bytes, at: Int64, end: Int64) -> int:
    """The finding of the phrase whose letter stands at `at`; 0 if there is none."""
    letter = text[at] | 32
    first, last, size = 4, 8, 1 if letter == 107 else 3
    if letter == 106:
        first, last, size = 0, 1, 1
    elif letter == 109:
        first, last, size = 1, 3, 1
    elif letter == 118:
        first, last, size = 3, 4, 1
    for which in range(first, last):
        anchor = ANCHORS[which]
        behind = PHRASE_SIZES[which] - anchor - 1
        fits = at >= anchor and at + size + behind <= end
        if (
            fits
            and _spells(text, at - anchor, which, FRONT, anchor)
            and _spells(text, at + size, which, anchor + 1, behind)
        ):
            return int(FINDINGS[which])
    return 0


@inner
def _spells(text: Bytes, at: Int64, which: Int64, place: Int64, size: Int64) -> bool:
    """True if the text goes on, in any case, like a phrase from `place`."""
    for i in range(size):
        wanted, byte = np.int64(PHRASES[which, place + i]), np.int64(text[at + i])
        if byte != wanted and (byte + 32 != wanted or byte == 0):
            return False
    return True


@inner
def citation(text: Bytes, at: Int64, end: Int64, classes: Bytes) -> Int64:
    """Bytes of the citation that begins with the square bracket at `at`; 0 if none does."""
    behind = at + 1
    while behind < end:
        code, size = code_point(text, behind)
        if classes[code] & IS_DIGIT == 0:
            break
        behind += int(size)
    if behind < end and text[behind] == 93:
        return behind + 1 - at
    for which in range(len(CUT_SIZES)):
        size = CUT_SIZES[which]
        same = at + 1 + size <= end
        for i in range(size):
            same = same and text[at + 1 + i] == CUTS[which, i]
        if same:
            return int(size) + 1
    return 0
