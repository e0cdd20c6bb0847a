"""Data that was written into source code as text: base64, runs of hexadecimal bytes, runs of Unicode escapes.

The three expressions of StarCoder2 (Lozhkov et al. 2024, arXiv 2402.19173, "Encoded data filter"), matched by hand:

    [a-zA-Z0-9+/\\n=]{64,}
    (?:\\b(?:0x|\\\\x)?[0-9a-fA-F]{2}(?:,|\\b\\s*)){8,}
    (?:\\\\u[0-9a-fA-F]{4}){8,}

Each of them can match in one way only, so nothing backtracks. Masks of 64 bytes leave few places to look at: a run of
64 bytes never lies inside one block, and a byte in hexadecimal begins a word of two digits.

The catch, in the expressions themselves: "0x1f, 0x2e" is no run, since no word boundary lies between the comma and
the space.
"""

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from curate.kernels.bits import BLOCK, fill_block, highest, lowest, lowest_bit, within
from curate.kernels.code_characters import IS_ALPHANUMERIC
from curate.kernels.text import IS_SPACE, _code_point

Int64: TypeAlias = Any
"""A number: to Numba an int64 throughout, to a type checker now an int and now np.int64."""
Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

ZERO = np.uint64(0)
LAST, LAST_TWO = np.uint64(1 << 63), np.uint64(3 << 62)
BASE64_CHARACTERS, UNITS = 64, 8
HIGH = 0x80

# State of a row: end of the matches of each kind, bytes of the open base64 run, longest match, bytes to hand on.
HEX_END, ESCAPE_END, RUN, LONGEST, FOUND, AFTER_WORD, AFTER_HIGH, STATES = range(8)


@njit(cache=True, nogil=True)
def encoded(offsets: Int64s, data: Bytes, classes: Bytes, marks: Bytes, out: Int64s) -> None:
    """Encoded data per row: out int64[n, 2], code points of the longest match, and of all matches taken together.

    `classes` from `code_classes`; `marks` uint8[bytes of the longest row], room to work in. Text that two expressions
    match counts once.
    """
    block = np.empty(BLOCK, np.uint8)
    state = np.empty(STATES, np.int64)
    for row in range(len(out)):
        text = data[offsets[row] : offsets[row + 1]]
        state[:] = 0
        for position in range(0, len(text), BLOCK):
            if position + BLOCK <= len(text):
                fill_block(block, text, position)
            else:
                block[:] = 32
                for i in range(len(text) - position):
                    block[i] = text[position + i]
            outside, starts, escapes = _masks(block, state)
            if outside == ZERO:
                state[RUN] += BLOCK
            else:
                run = state[RUN] + lowest(outside)
                state[RUN] = BLOCK - 1 - highest(outside)
                if run >= BASE64_CHARACTERS:
                    end = position + lowest(outside)
                    _mark(text, end - run, end, marks, state)
            # A call counts references to every array it is given: it is made for few blocks.
            if starts | escapes != ZERO:
                _look(position, starts, escapes, text, classes, marks, state)
        if state[RUN] >= BASE64_CHARACTERS:
            _mark(text, len(text) - state[RUN], len(text), marks, state)
        out[row, 0] = state[LONGEST]
        out[row, 1] = _marked(text, marks) if state[FOUND] else 0


@njit(cache=True, nogil=True)
def _mark(text: Bytes, start: Int64, end: Int64, marks: Bytes, state: Int64s) -> None:
    """Note a match; `marks` is cleared at the first of a row, since most rows have none."""
    if state[FOUND] == 0:
        marks[: len(text)] = 0
        state[FOUND] = 1
    size: Int64 = 0
    for at in range(start, end):
        marks[at] = 1
        size += np.int64(text[at] & 0xC0 != 0x80)
    state[LONGEST] = max(state[LONGEST], size)


@njit(cache=True, nogil=True)
def _marked(text: Bytes, marks: Bytes) -> Int64:
    total: Int64 = 0
    for at in range(len(text)):
        total += np.int64(marks[at] == 1 and text[at] & 0xC0 != 0x80)
    return total


@njit(cache=True, nogil=True)
def _masks(block: Bytes, state: Int64s) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Bytes that base64 does not have; places where a run of hexadecimal bytes may begin; and one of escapes."""
    letters, digits = within(block, 97, 26, 32), within(block, 48, 10, 0)
    hexadecimal = digits | within(block, 97, 6, 32)
    word = letters | digits | within(block, 95, 1, 0)
    high = within(block, HIGH, 128, 0)
    x, backslash = within(block, 120, 1, 0), within(block, 92, 1, 0)
    base64 = letters | within(block, 47, 11, 0) | within(block, 43, 1, 0)
    base64 |= within(block, 61, 1, 0) | within(block, 10, 1, 0)
    after_word = (word << 1) | np.uint64(state[AFTER_WORD])
    after_high = (high << 1) | np.uint64(state[AFTER_HIGH])
    state[AFTER_WORD], state[AFTER_HIGH] = np.int64(word >> 63), np.int64(high >> 63)
    two = hexadecimal & (hexadecimal >> 1) & ~(word >> 2)
    near = hexadecimal & LAST_TWO
    starts = (two | (digits & (x >> 1)) | near) & ~after_word
    starts |= backslash & (after_word | after_high) & ((x >> 1) | LAST)
    return ~base64, starts, backslash & ((within(block, 117, 1, 0) >> 1) | LAST)


@njit(cache=True, nogil=True)
def _look(
    position: Int64, starts: np.uint64, escapes: np.uint64, text: Bytes, classes: Bytes, marks: Bytes, state: Int64s
) -> None:
    while starts != ZERO:
        at = position + lowest(starts)
        starts ^= lowest_bit(starts)
        if at >= state[HEX_END]:
            _hex_run(text, at, classes, marks, state)
    while escapes != ZERO:
        at = position + lowest(escapes)
        escapes ^= lowest_bit(escapes)
        if at >= state[ESCAPE_END]:
            _escape_run(text, at, marks, state)


@njit(cache=True, nogil=True)
def _is_hex(byte: Int64) -> bool:
    folded = byte | 0x20
    return bool((byte >= 48 and byte <= 57) or (folded >= 97 and folded <= 102))


@njit(cache=True, nogil=True)
def _is_name(byte: Int64) -> bool:
    folded = byte | 0x20
    return bool((folded >= 97 and folded <= 122) or (byte >= 48 and byte <= 57) or byte == 95)


@njit(cache=True, nogil=True)
def _word_at(text: Bytes, at: Int64, classes: Bytes) -> bool:
    """True if the character that begins at `at` is an underscore or alphanumeric."""
    if at >= len(text) or text[at] < HIGH:
        return bool(at < len(text) and _is_name(text[at]))
    return bool(classes[_code_point(text, at)[0]] & IS_ALPHANUMERIC)


@njit(cache=True, nogil=True)
def _word_before(text: Bytes, at: Int64, classes: Bytes) -> bool:
    """True if the character that ends before `at` is an underscore or alphanumeric."""
    before = at - 1
    while before > 0 and text[before] & 0xC0 == 0x80:
        before -= 1
    return bool(before >= 0 and _word_at(text, before, classes))


@njit(cache=True, nogil=True)
def _skip_space(text: Bytes, at: Int64, classes: Bytes) -> Int64:
    """Place of the first character from `at` on that is no space."""
    while at < len(text):
        code, size = _code_point(text, at)
        if classes[code] & IS_SPACE == 0:
            break
        at += size
    return at


@njit(cache=True, nogil=True)
def _hex_unit(text: Bytes, at: Int64, classes: Bytes) -> Int64:
    """End of one byte in hexadecimal and what parts it from the next; -1 if there is none at `at`."""
    size, start = len(text), at
    prefixed = at + 1 < size and text[at + 1] == 120 and (text[at] == 48 or text[at] == 92)
    at += 2 if prefixed else 0
    if at + 1 >= size or not (_is_hex(text[at]) and _is_hex(text[at + 1])):
        return -1
    # A word boundary before a backslash needs a word there, before a digit it needs none.
    if _word_before(text, start, classes) != (text[start] == 92):
        return -1
    at += 2
    if at < size and text[at] == 44:
        return at + 1
    if _word_at(text, at, classes):
        return -1
    return _skip_space(text, at, classes)


@njit(cache=True, nogil=True)
def _hex_run(text: Bytes, start: Int64, classes: Bytes, marks: Bytes, state: Int64s) -> None:
    at, units = start, 0
    while True:
        end = _hex_unit(text, at, classes)
        if end < 0:
            break
        at, units = end, units + 1
    if units >= UNITS:
        _mark(text, start, at, marks, state)
    # A later start among these units would end at the same place with fewer of them.
    state[HEX_END] = at


@njit(cache=True, nogil=True)
def _escape_run(text: Bytes, start: Int64, marks: Bytes, state: Int64s) -> None:
    at, units = start, 0
    while at + 6 <= len(text) and text[at] == 92 and text[at + 1] == 117:
        digits = _is_hex(text[at + 2]) and _is_hex(text[at + 3]) and _is_hex(text[at + 4]) and _is_hex(text[at + 5])
        if not digits:
            break
        at, units = at + 6, units + 1
    if units >= UNITS:
        _mark(text, start, at, marks, state)
    state[ESCAPE_END] = at
