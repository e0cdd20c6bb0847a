"""The new text of a row, said as what is kept of the old one: spans of bytes, each with or without a line feed.

Deletions alone cannot say what line cleaning does: lines that U+2028 or CR LF parted are joined by "\\n", so some
bytes are new. A list of kept pieces can: a dropped line has none, a line with something cut out of its middle has
two, and a row that nothing happened to has one, itself. Producers grow such lists (`room`, `keep`), this module
carries them out at the speed of a copy.

Row r is written as data[start:end], and b"\\n" where `newline` is 1, for the pieces piece_first[r] to
piece_first[r + 1] - 1 in order. Spans are positions in `data` itself.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import read_only
from curate.kernels.blocks import Int64, code_point
from curate.kernels.compiled import inner, kernel, maker
from curate.kernels.text import IS_SPACE

Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]

LINE_FEED = 10


def rebuild(data: Bytes, piece_first: Int64s, pieces: Int64s, newline: Bytes) -> tuple[Int64s, Bytes]:
    """The new rows: offsets int64[n + 1], from 0, into new data uint8[...].

    `data` uint8[...]; `piece_first` int64[n + 1] into `pieces` int64[m, 2] (start and end in `data`) and `newline`
    uint8[m].
    """
    offsets = np.empty(len(piece_first), np.int64)
    piece_sizes(piece_first, pieces, newline, offsets)
    text = np.empty(offsets[-1], np.uint8)
    apply_pieces(data, piece_first, pieces, newline, offsets, text)
    return offsets, text


@kernel
def piece_sizes(piece_first: Int64s, pieces: Int64s, newline: Bytes, out_offsets: Int64s) -> None:
    """Where the new rows lie: out_offsets int64[n + 1], from 0."""
    total = 0
    out_offsets[0] = 0
    for row in range(len(piece_first) - 1):
        for piece in range(piece_first[row], piece_first[row + 1]):
            total += pieces[piece, 1] - pieces[piece, 0] + newline[piece]
        out_offsets[row + 1] = total


@kernel
def apply_pieces(
    data: Bytes, piece_first: Int64s, pieces: Int64s, newline: Bytes, out_offsets: Int64s, out_data: Bytes
) -> None:
    """Write the new rows to out_data uint8[out_offsets[n]], which is not `data`; `out_offsets` from
    `piece_sizes`."""
    for row in range(len(piece_first) - 1):
        at = out_offsets[row]
        for piece in range(piece_first[row], piece_first[row + 1]):
            size = pieces[piece, 1] - pieces[piece, 0]
            start = pieces[piece, 0]
            # As slices this would take three seconds to compile.
            for i in range(size):
                out_data[at + i] = data[start + i]
            at += size
            if newline[piece]:
                out_data[at] = LINE_FEED
                at += 1


@kernel
def strip_pieces(data: Bytes, classes: Bytes, piece_first: Int64s, pieces: Int64s, newline: Bytes) -> None:
    """Take white space from both ends of every new row, as `str.strip()` does; in place.

    Pieces that held nothing else stay as empty ones. `classes` from `text.code_point_classes`.
    """
    data = read_only(data)
    for row in range(len(piece_first) - 1):
        strip_row(data, classes, pieces[piece_first[row] : piece_first[row + 1]], newline[piece_first[row] :])


@inner
def strip_row(data: Bytes, classes: Bytes, pieces: Int64s, newline: Bytes) -> None:
    """`strip_pieces` for the pieces of one row."""
    for piece in range(len(pieces)):
        pieces[piece, 0] = strip_left(data, classes, pieces[piece, 0], pieces[piece, 1])
        if pieces[piece, 0] < pieces[piece, 1]:
            break
        newline[piece] = 0
    for piece in range(len(pieces) - 1, -1, -1):
        newline[piece] = 0
        pieces[piece, 1] = strip_right(data, classes, pieces[piece, 0], pieces[piece, 1])
        if pieces[piece, 0] < pieces[piece, 1]:
            break


@inner
def strip_left(data: Bytes, classes: Bytes, start: Int64, end: Int64) -> Int64:
    """The first position from `start` that is no white space; `end` if there is none."""
    while start < end:
        code, size = code_point(data, start)
        if classes[code] & IS_SPACE == 0:
            break
        start += size
    return start


@inner
def strip_right(data: Bytes, classes: Bytes, start: Int64, end: Int64) -> Int64:
    """The position behind the last character from `start` to `end` that is no white space."""
    while end > start:
        at = end - 1
        while at > start and data[at] & 0xC0 == 0x80:
            at -= 1
        if classes[code_point(data, at)[0]] & IS_SPACE == 0:
            break
        end = at
    return end


@inner
def keep(data: Bytes, pieces: Int64s, newline: Bytes, first: Int64, held: Int64, span: tuple[Int64, Int64]) -> Int64:
    """Add a piece to a list of which `held` are in use, from `first` on for the row at hand; the new `held`.

    The last piece is made longer instead where the two lie side by side in the text: nothing between them and no line
    feed to write, or exactly a line feed between them and one to write. So a row that loses nothing is one piece.
    The caller sets newline[held - 1] = 1 behind a line, makes room (`room`) and ends each row with `strip_row` or by
    clearing the last flag.
    """
    start, end = span
    if held > first:
        last = pieces[held - 1, 1]
        gap = start - last
        if gap == newline[held - 1] and (gap == 0 or data[last] == LINE_FEED):
            pieces[held - 1, 1] = end
            newline[held - 1] = 0
            return held
    pieces[held, 0], pieces[held, 1] = start, end
    newline[held] = 0
    return held + 1


@maker
def room(pieces: Int64s, newline: Bytes, held: Int64, more: Int64) -> tuple[Int64s, Bytes]:
    """The two lists with room for `more` pieces behind the `held` ones: themselves, or copies twice as long."""
    if held + more <= len(newline):
        return pieces, newline
    size = max(held + more, 2 * len(newline))
    longer, flags = np.empty((size, 2), np.int64), np.empty(size, np.uint8)
    # Assigning slices would take three seconds to compile.
    for piece in range(held):
        longer[piece, 0], longer[piece, 1], flags[piece] = pieces[piece, 0], pieces[piece, 1], newline[piece]
    return longer, flags
