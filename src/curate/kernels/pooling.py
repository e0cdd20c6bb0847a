"""Means of the vectors of a text's tokens, plain or by position, and unit length.

Rows are added in float32, one after the other in the order of the tokens, column by column in registers, so a text's
vector depends on its tokens alone: not on the machine, the batch or the other texts. The catch is what float32 sums
lose over very long texts, about the seventh digit for some thousand tokens.
"""

import math

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import inner, kernel
from curate.kernels.vectors import sum_rows

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Floats = NDArray[np.float32]
States = NDArray[np.float32]
Flags = NDArray[np.bool_]


@kernel
def mean_vectors(offsets: Int64s, ids: Int32s, rows: Floats, out: Floats, valid: Flags) -> None:
    """Unit vectors out float32[n, d] of n texts; those without one are zeros, and not `valid` (bool[n]).

    Tokens of text i are ids[offsets[i]:offsets[i + 1]], each from 0 up to the rows of `rows` float32[V, d], which is
    not checked. A text has no vector if it has no token, or if the sum is zero or not finite.
    """
    for text in range(len(offsets) - 1):
        total = out[text]
        total[:] = 0
        start, end = offsets[text], offsets[text + 1]
        sum_rows(total, rows, ids[start:end], end - start)
        valid[text] = end > start and scale_to_one(total, np.float32(max(1, end - start)))


@kernel
def unit_vectors(vectors: Floats, valid: Flags) -> None:
    """Bring rows of vectors float32[n, d] to unit length, in place.

    A row that is zero or not finite becomes zeros and is no longer `valid` (bool[n]).
    """
    for row in range(len(vectors)):
        has = scale_to_one(vectors[row], np.float32(1))
        valid[row] = valid[row] and has


@kernel
def weighted_means(states: States, out: Floats) -> None:
    """Means out float32[n, d] of hidden states float32[n, length, d], the t-th of a sequence, from 1, with the weight
    t / (1 + ... + length): RDS+ (arXiv 2503.01807)."""
    rows, length, width = states.shape
    share = np.float32(1.0 / (length * (length + 1) / 2)) if length else np.float32(0)
    for row in range(rows):
        total = out[row]
        total[:] = 0
        for token in range(length):
            weight = np.float32(token + 1) * share
            for column in range(width):
                total[column] += weight * states[row, token, column]


@inner
def scale_to_one(vector: Floats, count: np.float32) -> bool:
    """Divide a sum by `count` and by its length, a float64 sum; zeros and False where the length is none to divide by.

    Dividing by the count first keeps sums of long texts away from the ends of what float32 holds.
    """
    squares = 0.0
    for column in range(len(vector)):
        vector[column] /= count
        squares += np.float64(vector[column]) * np.float64(vector[column])
    length = math.sqrt(squares)
    if not (0.0 < length < math.inf):
        for column in range(len(vector)):
            vector[column] = 0
        return False
    for column in range(len(vector)):
        vector[column] = np.float32(vector[column] / length)
    return True
