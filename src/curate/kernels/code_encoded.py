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

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import BLOCK, highest, lowest, lowest_bit, read_only, within
from curate.kernels.blocks import Int64, fill
from curate.kernels.code_characters import is_hex, skip_space, word_at, word_before
from curate.kernels.compiled import inner, kernel

Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

ZERO = np.uint64(0)
LAST, LAST_TWO = np.uint64(1 << 63), np.uint64(3 << 62)
BASE64_CHARACTERS, UNITS = 64, 8
HIGH = 0x80

# State of a row: end of the matches of each kind, bytes of the open base64 run, longest match, bytes to hand on.
HEX_END, ESCAPE_END, RUN, LONGEST, FOUND, AFTER_WORD, AFTER_HIGH, STATES = range(8)


@kernel
def encoded(offsets: Int64s, data: Bytes, classes: Bytes, marks: Bytes, out: Int64s) -> None:
    """Encoded data per row: out int64[n, 2], code points of the longest match, and of all matches taken together.

    `classes` from `code_classes`; `marks` uint8[bytes of the longest row], room to work in. Text that two expressions
    match counts once.
    """
    block = np.empty(BLOCK, np.uint8)
    state = np.empty(STATES, np.int64)
    for row in range(len(out)):
        text = read_only(data[offsets[row] : offsets[row + 1]])
        state[:] = 0
        for position in range(0, len(text), BLOCK):
            fill(block, text, position)
            outside, places = _masks(block, state)
            if outside == ZERO:
                state[RUN] += BLOCK
            else:
                run = state[RUN] + lowest(outside)
                state[RUN] = BLOCK - 1 - highest(outside)
                if run >= BASE64_CHARACTERS:
                    end = position + lowest(outside)
                    _mark(text, end - run, end, marks, state)
            if places != ZERO:
                _look(position, places, text, classes, marks, state)
        if state[RUN] >= BASE64_CHARACTERS:
            _mark(text, len(text) - state[RUN], len(text), marks, state)
        out[row, 0] = state[LONGEST]
        out[row, 1] = _marked(text, marks) if state[FOUND] else 0


@inner
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


@inner
def _marked(text: Bytes, marks: Bytes) -> Int64:
    total: Int64 = 0
    for at in range(len(text)):
        total += np.int64(marks[at] == 1 and text[at] & 0xC0 != 0x80)
    return total


@inner
def _masks(block: Bytes, state: Int64s) -> tuple[np.uint64, np.uint64]:
    """Bytes that base64 does not have, and places where a run of hexadecimal bytes or of escapes may begin."""
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
    return ~base64, starts | backslash & ((within(block, 117, 1, 0) >> 1) | LAST)


@inner
def _look(position: Int64, places: np.uint64, text: Bytes, classes: Bytes, marks: Bytes, state: Int64s) -> None:
    while places != ZERO:
        at = position + lowest(places)
        places ^= lowest_bit(places)
        if text[at] == 92 and at + 1 < len(text) and text[at + 1] == 117:
            if at >= state[ESCAPE_END]:
                _escape_run(text, at, marks, state)
        elif at >= state[HEX_END]:
            _hex_run(text, at, classes, marks, state)


@inner
def _hex_unit(text: Bytes, at: Int64, classes: Bytes) -> Int64:
    """End of one byte in hexadecimal and what parts it from the next; -1 if there is none at `at`."""
    size, start = len(text), at
    prefixed = at + 1 < size and text[at + 1] == 120 and (text[at] == 48 or text[at] == 92)
    at += 2 if prefixed else 0
    if at + 1 >= size or not (is_hex(text[at]) and is_hex(text[at + 1])):
        return -1
    # A word boundary before a backslash needs a word there, before a digit it needs none.
    if word_before(text, start, classes) != (text[start] == 92):
        return -1
    at += 2
    if at < size and text[at] == 44:
        return at + 1
    if word_at(text, at, classes):
        return -1
    return skip_space(text, at, classes)


@inner
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


@inner
def _escape_run(text: Bytes, start: Int64, marks: Bytes, state: Int64s) -> None:
    at, units = start, 0
    while at + 6 <= len(text) and text[at] == 92 and text[at + 1] == 117:
        digits = is_hex(text[at + 2]) and is_hex(text[at + 3]) and is_hex(text[at + 4]) and is_hex(text[at + 5])
        if not digits:
            break
        at, units = at + 6, units + 1
    if units >= UNITS:
        _mark(text, start, at, marks, state)
    state[ESCAPE_END] = at
