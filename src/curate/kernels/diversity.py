"""How varied the words of a text are: MTLD (McCarthy & Jarvis 2010), and the moving share of distinct words (MATTR,
Covington & McFall 2010) for texts too short for it. Words are numbers (`vocabulary`)."""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.blocks import Int64
from curate.kernels.compiled import inner, kernel

Float64s = NDArray[np.float64]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]

LEVEL = 0.72
"""Share of distinct words at which a stretch of text counts as one factor."""


@kernel
def mtld(first: Int64s, numbers: Int32s, seen: Int64s, out: Float64s) -> None:
    """out[i] = the mean of both directions' words per factor; 0 for a row without words.

    `first` int64[n + 1] into `numbers` int32[...]; `seen` int64[...] is room, as long as the largest number + 1. A
    factor ends with the word at which the share of distinct words since the last one's end is LEVEL or less; what is
    left at the end counts for (1 - share) / (1 - LEVEL) of one. A direction without any factor counts as the number
    of words.
    """
    seen[:] = -1
    stretch = np.int64(0)  # a word was met in this stretch if `seen` says so: no clearing between them
    for row in range(len(out)):
        words = numbers[first[row] : first[row + 1]]
        forward, stretch = _pass(words, np.int64(1), seen, stretch)
        backward, stretch = _pass(words, np.int64(-1), seen, stretch)
        out[row] = (forward + backward) / 2


@inner
def _pass(words: Int32s, step: Int64, seen: Int64s, stretch: Int64) -> tuple[float, Int64]:
    """Words per factor in one direction, and the number of the next stretch."""
    size = len(words)
    at = 0 if step > 0 else size - 1
    factors = 0.0
    distinct = since = np.int64(0)
    for _ in range(size):
        word = words[at]
        at += step
        since += 1
        distinct += np.int64(seen[word] != stretch)
        seen[word] = stretch
        if distinct / since <= LEVEL:
            factors += 1
            stretch += 1
            distinct = since = np.int64(0)
    if since > 0:
        factors += (1 - distinct / since) / (1 - LEVEL)
    return (size / factors if factors > 0 else float(size)), stretch + 1


@kernel
def moving_share(first: Int64s, numbers: Int32s, window: Int64, counts: Int64s, out: Float64s) -> None:
    """out[i] = the mean share of distinct words over all runs of `window` words, of the whole row if it has fewer; 0
    for a row without words. `counts` int64[...] is room, as long as the largest number + 1."""
    counts[:] = 0
    for row in range(len(out)):
        words = numbers[first[row] : first[row + 1]]
        size = min(window, np.int64(len(words)))
        distinct = total = np.int64(0)
        for at in range(len(words)):
            distinct += np.int64(counts[words[at]] == 0)
            counts[words[at]] += 1
            if at >= size:
                counts[words[at - size]] -= 1
                distinct -= np.int64(counts[words[at - size]] == 0)
            if at >= size - 1:
                total += distinct
        for at in range(len(words)):
            counts[words[at]] = 0
        out[row] = total / (size * (len(words) - size + 1)) if size > 0 else 0.0
