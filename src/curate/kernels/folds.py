"""Forms of a text in which passages are compared: tables that say what becomes of every code point.

The catch: a table knows no context, so what Python does by context is done without: the small final sigma is a sigma
wherever it stands.
"""

import functools
import unicodedata
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.kernels.blocks import LAST_CODE, Int64, code_point
from curate.kernels.compiled import inner
from curate.kernels.text import code_point_classes

Bytes = NDArray[np.uint8]
Int16s = NDArray[np.int16]
Int32s = NDArray[np.int32]
Form = Literal["lower", "ccnet", "folded"]

CCNET_MARKS = frozenset("，。、„”“«»」「《》´∶：？！（）；–—．～’…━〈〉【】％►")
"""What cc_net removes besides control characters (text_normalizer.py, UNICODE_PUNCT): no mark of ASCII is among it."""
# Planes that hold no letter with two cases, no digit, no mark and no decomposition are left out of the search.
_SEARCHED = (range(0xD800), range(0xE000, 0x20000), range(0x2F800, 0x2FA20), range(0xE0000, 0xE0200))
_GAP, _NOTHING = 1, 16  # entries of a table of code points
_GAP_BYTE, _NO_BYTE = 256, 257  # entries of the table of ASCII
GROWTH = 3  # a character becomes at most so many times as long: the vowels and finals of Hangul, written apart


class Fold(NamedTuple):
    """A form as tables. basic int16[128]: the byte to write, or one of two marks. entries int32[0x110000]: 0 for
    itself, 1 for a space between words, else 16 times a place in `pool` plus the number of bytes to take there."""

    classes: Bytes
    basic: Int16s
    entries: Int32s
    pool: Bytes


@functools.cache
def fold(form: Form) -> Fold:
    """The tables of a form, by this Python's Unicode database.

    lower: lower case, as in C4's code (`line.strip().lower()`).
    ccnet: what cc_net's `normalize_for_dedup` does: lower case, every digit (category Nd) a 0, `CCNET_MARKS` and
    control characters removed. Accents, marks of ASCII and spaces stay.
    folded: what the paper says (Wenzek et al. 2019, arXiv 1911.00359): lower case, digits a 0, accents
    (category Mn of the NFD) and all punctuation (categories P*) removed; control characters too, and white space
    collapsed.
    """
    entries = np.zeros(LAST_CODE + 1, np.int32)
    pool = bytearray(1)
    for code in (code for part in _SEARCHED for code in part):
        if form == "folded" and chr(code).isspace():
            entries[code] = _GAP
            continue
        said = _folded(chr(code), form)
        if said == chr(code):
            continue
        data = said.encode()
        entries[code] = len(pool) << 4 | len(data) if data else _NOTHING
        pool += data
    basic = np.empty(128, np.int16)
    for code in range(128):
        entry = int(entries[code])
        basic[code] = {0: code, _GAP: _GAP_BYTE, _NOTHING: _NO_BYTE}.get(entry, pool[entry >> 4])
    tables = Fold(code_point_classes(), basic, entries, np.frombuffer(bytes(pool), np.uint8))
    for table in tables:
        table.setflags(write=False)
    return tables


def _folded(character: str, form: Form) -> str:
    said = character.lower().replace("\u03c2", "\u03c3")
    if form == "lower":
        return said
    if form == "folded":
        said = "".join(c for c in unicodedata.normalize("NFD", said) if unicodedata.category(c) != "Mn")
    kinds = [(c, unicodedata.category(c)) for c in said]
    said = "".join("0" if kind == "Nd" else c for c, kind in kinds if kind != "Cc" and c not in CCNET_MARKS)
    return "".join(c for c in said if unicodedata.category(c)[0] != "P") if form == "folded" else said


@inner
def write_folded(data: Bytes, span: tuple[Int64, Int64], tables: tuple[Int16s, Int32s, Bytes], out: Bytes) -> Int64:
    """Write the folded passage; its bytes. A gap is one space, unless nothing is before it or behind it."""
    basic, entries, pool = tables
    position, end = span
    at = np.int64(0)
    gap = np.int64(0)  # behind the last space written for a gap
    while position < end:
        byte = data[position]
        if byte < 128:
            position += 1
            said = np.int64(basic[byte])
            if said < 128:
                out[at] = said
                at += 1
                continue
            entry = np.int64(_GAP) if said == _GAP_BYTE else np.int64(_NOTHING)
        else:
            code, size = code_point(data, position)
            entry = np.int64(entries[code])
            if entry == 0:
                for i in range(size):
                    out[at + i] = data[position + i]
                at += size
            position += size
        if entry == _GAP:
            if gap != at:
                out[at] = 32
                at += 1
                gap = at
        else:
            for i in range(entry & 15):
                out[at + i] = pool[(entry >> 4) + i]
            at += entry & 15
    return at - 1 if gap == at and at > 0 else at
