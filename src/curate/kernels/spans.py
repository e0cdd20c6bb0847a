"""What a rewriting took: spans of the text before, found from the pieces that were kept, also through several steps.

Pieces (`kernels.pieces`) say what stays. Their gaps are what went. When a later step takes more, its gaps speak of a
text that is itself made of pieces; `through` says them in bytes of the text before. Spans int64[m, 2] are positions
in `data`, sorted within their row; row r has those from span_first[r] to span_first[r + 1] - 1.

The catch: a line feed that was written counts as kept where there is one in the gap to count; where a break of
another kind (CR LF, U+2028) was replaced, the break is a span that went.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import inner, kernel
from curate.kernels.pieces import LINE_FEED

Int64 = np.int64 | int
Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Spans = tuple[Int64s, Int64s]


@kernel
def gaps(offsets: Int64s, data: Bytes, piece_first: Int64s, pieces: Int64s, newline: Bytes) -> Spans:
    """The bytes of each row that no piece keeps: `span_first` int64[n + 1], `spans` int64[m, 2].

    `offsets` int64[n + 1] into `data` uint8[...]; the pieces of a row in the order of the text, empty ones anywhere.
    """
    rows = len(offsets) - 1
    first, spans = np.empty(rows + 1, np.int64), np.empty((len(pieces) + rows, 2), np.int64)
    held: Int64 = np.int64(0)
    for row in range(rows):
        first[row] = held
        at: Int64 = offsets[row]
        feed: Int64 = np.int64(-1)
        for piece in range(piece_first[row], piece_first[row + 1]):
            start, end = pieces[piece, 0], pieces[piece, 1]
            if start < at:
                start = end = at  # an empty one
            held = _add(spans, first[row], held, at, start if feed < at else feed)
            at = end
            feed = _feed(data, pieces, newline, piece, (at, offsets[row + 1]))
            if feed == at:
                at += 1
        held = _add(spans, first[row], held, at, offsets[row + 1])
    first[rows] = held
    return first, spans[:held]


@inner
def _feed(data: Bytes, pieces: Int64s, newline: Bytes, piece: Int64, rest: tuple[Int64, Int64]) -> Int64:
    """Where the line feed written behind a piece stands in the rest of the row: at once or before the next piece;
    else -1."""
    behind, end = rest
    if newline[piece] == 0:
        return -1
    if behind < end and data[behind] == LINE_FEED:
        return behind
    before = pieces[piece + 1, 0] - 1 if piece + 1 < len(pieces) else np.int64(-1)
    return before if behind < before < end and data[before] == LINE_FEED else -1


@inner
def _add(spans: Int64s, first: Int64, held: Int64, start: Int64, end: Int64) -> Int64:
    """Add a span, unless it is empty, to those of its row; one that follows on the last makes that longer."""
    if start >= end:
        return held
    if held > first and spans[held - 1, 1] == start:
        spans[held - 1, 1] = end
        return held
    spans[held, 0], spans[held, 1] = start, end
    return held + 1


@kernel
def through(
    span_first: Int64s, spans: Int64s, made: Int64s, data: Bytes, piece_first: Int64s, pieces: Int64s, newline: Bytes
) -> Spans:
    """Spans of a made text as spans of the text it was made from.

    `made` int64[n + 1]: where its rows lie (`pieces.piece_sizes`); `data` and the pieces are those of the text
    before. What was written new stands nowhere in the text before and is left out.
    """
    rows = len(made) - 1
    first, old = np.empty(rows + 1, np.int64), np.empty((len(spans) + 2 * len(pieces), 2), np.int64)
    held: Int64 = np.int64(0)
    for row in range(rows):
        first[row] = held
        at, piece = made[row], piece_first[row]
        seen: Int64 = np.int64(0)
        for span in range(span_first[row], span_first[row + 1]):
            start, end = spans[span, 0], spans[span, 1]
            while piece < piece_first[row + 1]:
                shift = pieces[piece, 0] - at
                size = pieces[piece, 1] - pieces[piece, 0]
                held = _add(old, first[row], held, max(start, at) + shift, min(end, at + size) + shift)
                seen = max(seen, pieces[piece, 1])
                feed = _feed(data, pieces, newline, piece, (seen, len(data)))
                if feed >= 0 and start <= at + size < end:
                    held = _add(old, first[row], held, feed, feed + 1)
                if at + size + newline[piece] > end:
                    break
                at += size + newline[piece]
                seen = max(seen, feed + 1)
                piece += 1
    first[rows] = held
    return first, old[:held]


@kernel
def split_lines(offsets: Int64s, data: Bytes) -> Spans:
    """Lines by "\\n": line_first int64[n + 1], and borders int64[2 m + 1], line i from borders[2 i] to
    borders[2 i + 1]. Between two lines lies their line feed, or nothing where a row ends."""
    rows = len(offsets) - 1
    lines = np.int64(rows)
    for at in range(offsets[0], offsets[rows]):
        lines += np.int64(data[at] == LINE_FEED)
    first, borders = np.empty(rows + 1, np.int64), np.empty(2 * lines + 1, np.int64)
    line = np.int64(0)
    for row in range(rows):
        first[row] = line
        borders[2 * line] = offsets[row]
        for at in range(offsets[row], offsets[row + 1]):
            if data[at] == LINE_FEED:
                borders[2 * line + 1], borders[2 * line + 2] = at, at + 1
                line += 1
        borders[2 * line + 1] = offsets[row + 1]
        line += 1
    first[rows] = line
    borders[2 * line] = offsets[rows]
    return first, borders


@kernel
def other_lines(line_first: Int64s, borders: Int64s, dropped: NDArray[np.bool_], piece_first: Int64s) -> Int64s:
    """Pieces of the rows without the dropped lines (bool[m]), one to a line; fills piece_first int64[n + 1]. All but
    the last of a row want a line feed."""
    pieces = np.empty((len(dropped), 2), np.int64)
    held = np.int64(0)
    for row in range(len(line_first) - 1):
        piece_first[row] = held
        for line in range(line_first[row], line_first[row + 1]):
            if not dropped[line]:
                pieces[held, 0], pieces[held, 1] = borders[2 * line], borders[2 * line + 1]
                held += 1
    piece_first[len(line_first) - 1] = held
    return pieces[:held]
