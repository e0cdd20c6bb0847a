"""Lines and paragraphs that a corpus holds more than once: where they lie, their 128-bit keys, and what is left.

A passage is a span of bytes int64[m, 2] in `data`; row r has those from first[r] to first[r + 1] - 1. Its key is the
XXH3-128 of its text as a form has it (`folds`), without white space at its ends: (high, low) as uint64[m, 2]. Equal
keys count as equal passages: that one pair of 10^12 different ones shares a key has a chance of 1.5e-15. With the
64 bits that cc_net keeps some 27,000 pairs would.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import BLOCK, count, lowest, lowest_bit, read_only, within
from curate.kernels.blocks import Int64, fill
from curate.kernels.compiled import inner, kernel
from curate.kernels.folds import GROWTH, Fold, write_folded
from curate.kernels.hash import ZERO, digest_128, keyed_secret, mix
from curate.kernels.pieces import strip_left, strip_right
from curate.kernels.segments import characters

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]


@kernel
def line_spans(offsets: Int64s, data: Bytes, first: Int64s) -> Int64s:
    """The lines of `row.split("\\n")` without their line feeds, as spans; fills first int64[n + 1].

    `offsets` int64[n + 1] into `data` uint8[...], rows of valid UTF-8.
    """
    rows = len(offsets) - 1
    block = np.empty(BLOCK, np.uint8)
    whole = read_only(data[offsets[0] : offsets[rows]])
    total = np.int64(rows)
    for position in range(0, len(whole), BLOCK):
        fill(block, whole, position)
        total += count(within(block, 10, 1, 0))
    spans = np.empty((total, 2), np.int64)
    held = np.int64(0)
    for row in range(rows):
        first[row] = held
        begin = start = offsets[row]
        text = read_only(data[begin : offsets[row + 1]])
        for position in range(0, len(text), BLOCK):
            fill(block, text, position)
            feeds = within(block, 10, 1, 0)
            while feeds != ZERO:
                end = begin + position + lowest(feeds)
                feeds ^= lowest_bit(feeds)
                spans[held, 0], spans[held, 1] = start, end
                held, start = held + 1, end + 1
        spans[held, 0], spans[held, 1] = start, offsets[row + 1]
        held += 1
    first[rows] = held
    return spans


@kernel
def paragraph_spans(data: Bytes, classes: Bytes, line_first: Int64s, lines: Int64s, first: Int64s) -> Int64s:
    """Runs of lines with more in them than white space, as spans that end where the white space behind them begins;
    fills first int64[n + 1].

    `line_first`, `lines` from `line_spans`, `classes` from `text.code_point_classes`.
    """
    spans = np.empty((len(lines), 2), np.int64)
    held = np.int64(0)
    for row in range(len(line_first) - 1):
        first[row] = held
        is_open = False
        for line in range(line_first[row], line_first[row + 1]):
            start, end = lines[line, 0], lines[line, 1]
            if strip_left(data, classes, start, end) == end:
                is_open = False
                continue
            if not is_open:
                spans[held, 0] = start
                held += 1
                is_open = True
            spans[held - 1, 1] = strip_right(data, classes, start, end)
    first[len(line_first) - 1] = held
    return spans[:held]


@kernel
def exact_keys(data: Bytes, classes: Bytes, spans: Int64s, least: Int64, keys: UInt64s, counted: Bools) -> None:
    """Keys of passages without white space at their ends: keys uint64[m, 2] and counted bool[m].

    Only passages of `least` characters or more, and never empty ones, count and get a key.
    """
    secret, state = keyed_secret(ZERO), np.empty(8, np.uint64)
    for passage in range(len(spans)):
        start = strip_left(data, classes, spans[passage, 0], spans[passage, 1])
        end = strip_right(data, classes, start, spans[passage, 1])
        counted[passage] = _long_enough(data, start, end, least)
        if counted[passage]:
            keys[passage, 1], keys[passage, 0] = digest_128(data, start, end - start, secret, state)


@kernel
def folded_keys(data: Bytes, tables: Fold, spans: Int64s, least: Int64, keys: UInt64s, counted: Bools) -> None:
    """Keys of passages in a form: of what is left once white space is off their ends and `tables` were applied.
    Arguments as of `exact_keys`; characters are those of the folded passage."""
    classes, basic, entries, pool = tables
    secret, state = keyed_secret(ZERO), np.empty(8, np.uint64)
    longest = np.int64(0)
    for passage in range(len(spans)):
        longest = max(longest, spans[passage, 1] - spans[passage, 0])
    buffer = np.empty(GROWTH * longest + BLOCK, np.uint8)
    for passage in range(len(spans)):
        start = strip_left(data, classes, spans[passage, 0], spans[passage, 1])
        end = strip_right(data, classes, start, spans[passage, 1])
        size = write_folded(data, (start, end), (basic, entries, pool), buffer)
        text = read_only(buffer)
        counted[passage] = _long_enough(text, np.int64(0), size, least)
        if counted[passage]:
            keys[passage, 1], keys[passage, 0] = digest_128(text, np.int64(0), size, secret, state)


@inner
def _long_enough(text: Bytes, start: Int64, end: Int64, least: Int64) -> bool:
    """Has the passage so many characters, and one at least? A character has one byte to four."""
    size = end - start
    if size < max(least, 1):
        return False
    return bool(size >= 4 * least or characters(text, start, end) >= least)


@kernel
def enter_scopes(first: Int64s, scopes: UInt64s, keys: UInt64s) -> None:
    """Mix the scope of its row, uint64[n], into the high half of every key, in place."""
    for row in range(len(scopes)):
        for passage in range(first[row], first[row + 1]):
            keys[passage, 0] = mix(keys[passage, 0], scopes[row])


def places(keys: Int64) -> Int32s:
    """An empty table for so many keys: int32, a power of two at least twice as long, all -1."""
    return np.full(1 << max(4, (2 * int(keys) - 1).bit_length()), -1, np.int32)


@kernel
def tally(first: Int64s, keys: UInt64s, counted: Bools, table: Int32s, seen: Int64s) -> Int64:
    """The distinct keys of the passages that count, in the order in which they come; how many.

    Fills seen int64[m, 4]: the first passage with that key, its row, occurrences, rows. `table` from `places(m)`.
    """
    last = np.empty(len(seen), np.int64)
    mask = np.int64(len(table) - 1)
    held: Int64 = np.int64(0)
    for row in range(len(first) - 1):
        for passage in range(first[row], first[row + 1]):
            if not counted[passage]:
                continue
            place = np.int64(keys[passage, 1]) & mask
            number: Int64 = np.int64(table[place])
            while number >= 0:
                other = seen[number, 0]
                if keys[other, 0] == keys[passage, 0] and keys[other, 1] == keys[passage, 1]:
                    break
                place = (place + 1) & mask
                number = np.int64(table[place])
            if number < 0:
                number, held = held, held + 1
                table[place] = number
                seen[number, 0], seen[number, 1], seen[number, 2], seen[number, 3] = passage, row, 0, 0
                last[number] = -1
            seen[number, 2] += 1
            seen[number, 3] += np.int64(last[number] != row)
            last[number] = row
    return held


@kernel
def repeated(keys: UInt64s, counted: Bools, known: UInt64s, stays: Bools, table: Int32s, gone: Bools) -> None:
    """gone bool[m]: the passages with one of the `known` keys uint64[k, 2]; of those that `stays` bool[k] marks all
    but the first. `table` from `places(k)`; `stays` is used up."""
    mask = np.int64(len(table) - 1)
    for entry in range(len(known)):
        place = np.int64(known[entry, 1]) & mask
        while table[place] >= 0:
            place = (place + 1) & mask
        table[place] = entry
    for passage in range(len(keys)):
        gone[passage] = False
        if not counted[passage]:
            continue
        place = np.int64(keys[passage, 1]) & mask
        while table[place] >= 0:
            number = np.int64(table[place])
            if known[number, 0] == keys[passage, 0] and known[number, 1] == keys[passage, 1]:
                gone[passage] = not stays[number]
                stays[number] = False
                break
            place = (place + 1) & mask


@kernel
def pieces_left(offsets: Int64s, first: Int64s, spans: Int64s, gone: Bools, piece_first: Int64s) -> Int64s:
    """Pieces of the rows without the passages that are gone, int64[p, 2]; fills piece_first int64[n + 1].

    A passage goes with all that lies between it and the next one; the last ones of a row go with what lies before
    them. A row of which no passage is left is empty.
    """
    rows = len(offsets) - 1
    pieces = np.empty((len(gone) + rows, 2), np.int64)
    held = np.int64(0)
    for row in range(rows):
        piece_first[row] = held
        at, passage, end = offsets[row], first[row], first[row + 1]
        while passage < end:
            run = passage
            while run < end and gone[run]:
                run += 1
            if run == passage:
                passage += 1
                continue
            start, stop = offsets[row], offsets[row + 1]
            if run < end:
                start, stop = spans[passage, 0], spans[run, 0]
            elif passage > first[row]:
                start, stop = spans[passage - 1, 1], spans[run - 1, 1]
            if start > at:
                pieces[held, 0], pieces[held, 1] = at, start
                held += 1
            at, passage = stop, run
        if at < offsets[row + 1]:
            pieces[held, 0], pieces[held, 1] = at, offsets[row + 1]
            held += 1
    piece_first[rows] = held
    return pieces[:held]


@kernel
def row_characters(offsets: Int64s, data: Bytes, out: Int64s) -> None:
    """Code points of every row: out int64[n]."""
    for row in range(len(out)):
        out[row] = characters(data, offsets[row], offsets[row + 1])
