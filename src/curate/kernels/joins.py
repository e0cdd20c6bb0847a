"""Sentences or lines, counted in tokens, joined to passages: first come, first joined, never across documents.

Row r has the pieces first[r] to first[r + 1] - 1; a passage is a run of them, a span of pieces [begin, end). What
is left out is counted by reason, at these places of `dropped` int64[4].
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.blocks import Int64
from curate.kernels.compiled import inner, kernel

Int64s = NDArray[np.int64]

REASONS = ("empty", "short_document", "long_line", "short_passage")
"""A document without a token, or with too few; a line that is longer than a passage may be; a passage too short."""
EMPTY, SHORT_DOCUMENT, LONG_LINE, SHORT_PASSAGE = range(4)
EXCESS, WHOLE = 115, 100
"""A short rest may make the passage before it this much longer than `most`, in hundredths."""


@kernel
def join_sentences(
    first: Int64s, tokens: Int64s, most: Int64, least: Int64, document: Int64, made: Int64s, dropped: Int64s
) -> Int64:
    """Add sentences until the next would make more than `most` tokens; returns how many passages that gives.

    `first` int64[n + 1], `tokens` int64[m]. Fills made int64[m, 4], a line for each passage: begin, end, its tokens,
    its row; and adds to `dropped`. A last passage of fewer than `least` tokens joins the one before it if both
    have at most 1.15 `most`, else it is dropped; one that has none before it is a short document, as is one of fewer
    than `document` tokens.
    """
    held = np.int64(0)
    for row in range(len(first) - 1):
        if not _wanted(tokens, first[row], first[row + 1], max(document, 1), dropped):
            continue
        before, begin, total = held, first[row], np.int64(0)
        for piece in range(first[row], first[row + 1]):
            if total > 0 and total + tokens[piece] > most:
                _put(begin, piece, total, row, made[held])
                held, begin, total = held + 1, piece, np.int64(0)
            total += tokens[piece]
        if total >= least:
            _put(begin, first[row + 1], total, row, made[held])
            held += 1
        elif held == before:
            dropped[SHORT_DOCUMENT] += 1
        elif WHOLE * (made[held - 1, 2] + total) <= EXCESS * most:
            made[held - 1, 1] = first[row + 1]
            made[held - 1, 2] += total
        else:
            dropped[SHORT_PASSAGE] += 1
    return held


@kernel
def join_lines(
    first: Int64s, tokens: Int64s, most: Int64, least: Int64, document: Int64, made: Int64s, dropped: Int64s
) -> Int64:
    """Drop lines of more than `most` tokens, join neighbours up to `most`, drop what has fewer than `least`.

    Arguments as in `join_sentences`. Lines on both sides of a dropped one are no neighbours: a passage is a stretch
    of its document.
    """
    held = np.int64(0)
    for row in range(len(first) - 1):
        if not _wanted(tokens, first[row], first[row + 1], max(document, 1), dropped):
            continue
        begin, total = first[row], np.int64(0)
        for piece in range(first[row], first[row + 1] + 1):
            ended = piece == first[row + 1]
            if ended or total + tokens[piece] > most:
                if total >= least and total > 0:
                    _put(begin, piece, total, row, made[held])
                    held += 1
                elif total > 0:
                    dropped[SHORT_PASSAGE] += 1
                begin, total = piece, np.int64(0)
            if not ended and tokens[piece] > most:
                dropped[LONG_LINE] += 1
                begin = piece + 1
            elif not ended:
                total += tokens[piece]
    return held


@inner
def _wanted(tokens: Int64s, start: Int64, stop: Int64, least: Int64, dropped: Int64s) -> bool:
    total = np.int64(0)
    for piece in range(start, stop):
        total += tokens[piece]
    if total >= least:
        return True
    dropped[EMPTY if total == 0 else SHORT_DOCUMENT] += 1
    return False


@inner
def _put(begin: Int64, end: Int64, total: Int64, row: Int64, line: Int64s) -> None:
    line[0], line[1], line[2], line[3] = begin, end, total, row
