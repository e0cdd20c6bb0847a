"""What rules ask of lines: how many, how long, how they end, how much of a text is in lines or paragraphs met before.

Lines here are parted by the line feed alone, as in `text.split("\\n")`, so a carriage return belongs to its line. A
row is split once, by byte masks of 64-byte blocks; every line is then entered into a table of segments
(`segments`), and runs of non-empty lines, which are the paragraphs, into another. Three published families count
duplicates in three ways: later copies only (Gopher's repetition rules as in datatrove), or all copies of what
occurs twice (DCLM and RedPajama, Dolma). Each has its kernel.
"""

import numpy as np

from curate.kernels.bits import BLOCK, FRONT, ONE, count, lowest, lowest_bit, read_only, within
from curate.kernels.blocks import code_point, fill
from curate.kernels.compiled import inner, kernel, maker
from curate.kernels.pieces import strip_left, strip_right
from curate.kernels.segments import Bytes, Int32s, Int64s, UInt64s, characters, first_copy, table_size
from curate.kernels.text import IS_SPACE, IS_TERMINAL, ZERO

LINES = (
    "segments",
    "duplicate_segments",
    "duplicate_segment_characters",
    "paragraphs",
    "duplicate_paragraphs",
    "duplicate_paragraph_characters",
    "filled_lines",
    "terminal_lines",
    "short_lines",
    "duplicate_line_characters",
    "newlines",
    "line_characters",
    "long_lines",
)
"""What the columns of `lines` count, in order."""
(
    SEGMENTS,
    DUPLICATE_SEGMENTS,
    DUPLICATE_SEGMENT_CHARACTERS,
    PARAGRAPHS,
    DUPLICATE_PARAGRAPHS,
    DUPLICATE_PARAGRAPH_CHARACTERS,
    FILLED_LINES,
    TERMINAL_LINES,
    SHORT_LINES,
    DUPLICATE_LINE_CHARACTERS,
    NEWLINES,
    LINE_CHARACTERS,
    LONG_LINES,
) = range(len(LINES))

LINES_DCLM = (
    "lines",
    "repeated_lines",
    "line_characters",
    "repeated_line_characters",
    "paragraphs",
    "repeated_paragraphs",
    "paragraph_characters",
    "repeated_paragraph_characters",
)
"""What the columns of `lines_dclm` count, in order: four of lines, the same four of paragraphs."""
LINES_DOLMA = (
    "lines",
    "repeated_lines",
    "repeated_line_characters",
    "nonempty_lines",
    "repeated_nonempty_lines",
    "word_characters",
)
"""What the columns of `lines_dolma` count, in order."""

SHORT, LONG = 30, 200
"""Code points of FineWeb's longest short line and of mC4's shortest long one."""


@kernel
def lines(offsets: Int64s, data: Bytes, classes: Bytes, out: Int64s) -> None:
    """Counts per row: out int64[n, 13], columns as in `LINES`.

    `offsets` int64[n + 1] into `data` uint8[...], rows of valid UTF-8; `classes` from `text.code_point_classes`.
    Lengths are code points. A duplicate is equal, byte for byte, to an earlier one of its row.

    Gopher's repetition rules (Rae et al. 2021, table A1), as datatrove 0.10.1 reads them. segments: of
    `re.split("\\n+", text)`, where a line feed at an end of the text makes an empty segment. paragraphs: of
    `re.split("\\n{2,}", text.strip())`. Of both, the duplicates and their characters.

    FineWeb's rules (Penedo et al. 2024, section 3.6). filled_lines: of `text.split("\\n")`, those that are not white
    space alone; of these, terminal_lines end in one of `text.TERMINAL_MARKS` (nothing is stripped first), short_lines
    have 30 characters or fewer, duplicate_line_characters are those of duplicates. newlines: line feeds.
    line_characters: those that are no line feed.

    mC4's (Xue et al. 2021). long_lines: of `text.split("\\n")`, those with 200 characters or more.
    """
    most = _most_lines(offsets, data)
    spans, paragraphs = np.empty((most, 2), np.int64), np.empty((most, 2), np.int64)
    lengths, hashes = np.empty(most, np.int64), np.empty(most, np.uint64)
    table = np.empty(table_size(most), np.int32)
    block = np.empty(BLOCK, np.uint8)
    for row in range(len(out)):
        text = read_only(data[offsets[row] : offsets[row + 1]])
        counts = out[row]
        counts[:] = 0
        total = _split(text, block, spans, lengths)
        fresh = table[: table_size(total)]
        fresh[:] = 0
        counts[NEWLINES] = total - 1
        _count_lines(text, classes, spans[:total], lengths, hashes, fresh, counts)
        total = _join(text, classes, spans[:total], paragraphs)
        fresh = table[: table_size(total)]
        fresh[:] = 0
        _count_paragraphs(text, paragraphs[:total], hashes, fresh, counts)


@kernel
def lines_dclm(offsets: Int64s, data: Bytes, classes: Bytes, out: Int64s) -> None:
    """Counts per row: out int64[n, 8], columns as in `LINES_DCLM`; arguments as of `lines`.

    The reading of DCLM's `repetition_filter` (content_filters.py) and of RedPajama's rules: lines are the parts
    between line feeds, paragraphs those between pairs of them, both stripped, and those left empty are none. A
    repeated one occurs twice or more in its row, and all its copies count. DCLM divides by all lines (paragraphs), or
    by their characters, passes a text of one and drops a text of none.
    """
    most = _most_lines(offsets, data)
    spans, paragraphs = np.empty((most, 2), np.int64), np.empty((most, 2), np.int64)
    copies, hashes = np.empty(most, np.int64), np.empty(most, np.uint64)
    table = np.empty(table_size(most), np.int32)
    block = np.empty(BLOCK, np.uint8)
    for row in range(len(out)):
        text = read_only(data[offsets[row] : offsets[row + 1]])
        total = _split(text, block, spans, copies)
        several = _join(text, classes, spans[:total], paragraphs)
        _count_repeats(text, _strip(text, classes, spans[:total]), copies, hashes, table, out[row, :4])
        _count_repeats(text, _strip(text, classes, paragraphs[:several]), copies, hashes, table, out[row, 4:])


@kernel
def lines_dolma(offsets: Int64s, data: Bytes, classes: Bytes, out: Int64s) -> None:
    """Counts per row: out int64[n, 6], columns as in `LINES_DOLMA`; arguments as of `lines`.

    The reading of Dolma's Gopher tagger (taggers/gopher.py): lines of `text.split("\\n")`, nothing stripped, and all
    copies of a repeated one count. Empty lines are lines like others and repeat each other; nonempty_lines and
    repeated_nonempty_lines leave them out, as its second version does. Dolma divides the characters by
    word_characters, those that are no white space, so that ratio can pass 1.
    """
    most = _most_lines(offsets, data)
    spans, lengths = np.empty((most, 2), np.int64), np.empty(most, np.int64)
    copies, hashes = np.empty(most, np.int64), np.empty(most, np.uint64)
    table = np.empty(table_size(most), np.int32)
    block = np.empty(BLOCK, np.uint8)
    four = np.empty(4, np.int64)
    for row in range(len(out)):
        text = read_only(data[offsets[row] : offsets[row + 1]])
        total = _split(text, block, spans, lengths)
        _count_repeats(text, _filled(spans[:total]), copies, hashes, table, four)
        empty = total - four[0]
        out[row, 0] = total
        out[row, 1] = four[1] + (empty if empty > 1 else 0)
        out[row, 2] = four[3]
        out[row, 3], out[row, 4] = four[0], four[1]
        out[row, 5] = _word_characters(text, classes)


@inner
def _most_lines(offsets: Int64s, data: Bytes) -> int:
    """The largest number of lines of a row."""
    most = 0
    for row in range(len(offsets) - 1):
        total = 1
        for byte in data[offsets[row] : offsets[row + 1]]:
            total += int(byte == 10)
        most = max(most, total)
    return most


@inner
def _split(text: Bytes, block: Bytes, spans: Int64s, lengths: Int64s) -> int:
    """Lines of `text.split("\\n")`: their bytes and their code points; how many."""
    total, start, following, before = 0, 0, 0, 0
    for position in range(0, len(text), BLOCK):
        fill(block, text, position)
        inside = within(block, 128, 64, 0)
        feeds = within(block, 10, 1, 0)
        while feeds != ZERO:
            bit = lowest_bit(feeds)
            end = position + lowest(feeds)
            feeds ^= bit
            here = following + count(inside & (bit - ONE))
            spans[total, 0], spans[total, 1] = start, end
            lengths[total] = end - start - (here - before)
            total, start, before = total + 1, end + 1, here
        following += count(inside)
    spans[total, 0], spans[total, 1] = start, len(text)
    lengths[total] = len(text) - start - (following - before)
    return total + 1


@inner
def _count_lines(
    text: Bytes, classes: Bytes, spans: Int64s, lengths: Int64s, hashes: UInt64s, table: Int32s, counts: Int64s
) -> None:
    last = len(spans) - 1
    for line in range(last + 1):
        start, end, length = spans[line, 0], spans[line, 1], lengths[line]
        if start == end:
            continue
        counts[LINE_CHARACTERS] += length
        counts[LONG_LINES] += np.int64(length >= LONG)
        counts[SEGMENTS] += 1
        duplicate = np.int64(first_copy(text, line, spans, hashes, table) != line)
        counts[DUPLICATE_SEGMENTS] += duplicate
        counts[DUPLICATE_SEGMENT_CHARACTERS] += duplicate * length
        if strip_left(text, classes, start, end) < end:
            counts[FILLED_LINES] += 1
            counts[SHORT_LINES] += np.int64(length <= SHORT)
            counts[DUPLICATE_LINE_CHARACTERS] += duplicate * length
            counts[TERMINAL_LINES] += np.int64(_last_class(text, classes, end) & IS_TERMINAL != 0)
    front = np.int64(spans[0, 0] == spans[0, 1])
    back = np.int64(last > 0 and spans[last, 0] == spans[last, 1])
    counts[SEGMENTS] += front + back
    counts[DUPLICATE_SEGMENTS] += front & back


@inner
def _last_class(text: Bytes, classes: Bytes, end: int) -> int:
    """Flags of the character before `end`."""
    at = end - 1
    while at > 0 and text[at] & 0xC0 == 0x80:
        at -= 1
    return int(classes[code_point(text, at)[0]])


@inner
def _join(text: Bytes, classes: Bytes, spans: Int64s, paragraphs: Int64s) -> int:
    """Paragraphs of the stripped text: runs of lines that are not empty; how many."""
    first = strip_left(text, classes, FRONT, len(text))
    end = strip_right(text, classes, first, len(text))
    paragraphs[0, 0], paragraphs[0, 1] = first, end
    total, is_open = 0, False
    for line in range(len(spans)):
        if spans[line, 1] <= first or spans[line, 0] >= end:
            continue
        if spans[line, 0] == spans[line, 1]:
            total += int(is_open)
            is_open = False
            continue
        if not is_open:
            paragraphs[total, 0] = max(spans[line, 0], first)
            is_open = True
        paragraphs[total, 1] = min(spans[line, 1], end)
    return total + 1


@inner
def _count_paragraphs(text: Bytes, paragraphs: Int64s, hashes: UInt64s, table: Int32s, counts: Int64s) -> None:
    counts[PARAGRAPHS] = len(paragraphs)
    if len(paragraphs) == 1:
        return
    for number in range(len(paragraphs)):
        if first_copy(text, number, paragraphs, hashes, table) != number:
            counts[DUPLICATE_PARAGRAPHS] += 1
            counts[DUPLICATE_PARAGRAPH_CHARACTERS] += characters(text, paragraphs[number, 0], paragraphs[number, 1])


@maker
def _strip(text: Bytes, classes: Bytes, spans: Int64s) -> Int64s:
    """The spans without white space at their ends, in place; those left empty are gone."""
    for number in range(len(spans)):
        spans[number, 0] = strip_left(text, classes, spans[number, 0], spans[number, 1])
        spans[number, 1] = strip_right(text, classes, spans[number, 0], spans[number, 1])
    return _filled(spans)


@maker
def _filled(spans: Int64s) -> Int64s:
    """The spans that are not empty, moved to the front."""
    total = 0
    for number in range(len(spans)):
        if spans[number, 0] < spans[number, 1]:
            spans[total, 0], spans[total, 1] = spans[number, 0], spans[number, 1]
            total += 1
    return spans[:total]


@inner
def _count_repeats(text: Bytes, spans: Int64s, copies: Int64s, hashes: UInt64s, table: Int32s, four: Int64s) -> None:
    """Segments, those that occur twice or more, code points of the first and of the second."""
    four[:] = 0
    four[0] = len(spans)
    fresh = table[: table_size(len(spans))]
    fresh[:] = 0
    for number in range(len(spans)):
        length = characters(text, spans[number, 0], spans[number, 1])
        four[2] += length
        copies[number] = 1
        first = first_copy(text, number, spans, hashes, fresh)
        if first != number:
            # The second copy makes the first one a repeat as well.
            new = 2 if copies[first] == 1 else 1
            copies[first] += 1
            four[1] += new
            four[3] += new * length


@inner
def _word_characters(text: Bytes, classes: Bytes) -> int:
    total, at = 0, FRONT
    while at < len(text):
        code, size = code_point(text, at)
        total += int(classes[code] & IS_SPACE == 0)
        at += int(size)
    return total
