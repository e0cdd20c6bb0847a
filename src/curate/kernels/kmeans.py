"""Unit vectors and their centroids: the nearest found exactly from scores that are only nearly right, and means.

A matrix product is fast, but which bits it gives depends on the library, the machine and the shape of its blocks.
Here its scores only rule out: centroids that rounding could have put in the wrong order are compared by `dot`, whose
order of sums is fixed. So what is nearest is the same everywhere. Its products of float32 are exact in float64.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import inner, kernel
from curate.kernels.dots import dot

Int64: TypeAlias = Any
Float64: TypeAlias = Any
Float32: TypeAlias = Any
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_STRETCH = 64


@kernel
def closest(
    scores: Floats,
    first: Int64,
    vectors: Floats,
    centroids: Floats,
    margin: Float64,
    index: Int32s,
    score: Floats,
    exact: Doubles,
) -> None:
    """Take a block of scores (vectors x centroids from `first` on) into the nearest found so far, best first.

    `index`, `score`, `exact`: [n, m] for the m nearest, at the start -1, -inf and NaN (not yet known). `margin`: scores
    that differ by more are in the right order. Of equally near centroids the first comes first.
    """
    most = index.shape[1]
    for i in range(scores.shape[0]):
        bar = np.float32(score[i, most - 1] - margin)
        for start in range(0, scores.shape[1], _STRETCH):
            stop = min(start + _STRETCH, scores.shape[1])
            # Nearly all stretches have none: one pass without a branch says so.
            some = False
            for j in range(start, stop):
                some |= not scores[i, j] < bar
            if not some:
                continue
            for j in range(start, stop):
                if not scores[i, j] < bar:
                    _take(scores[i, j], first + j, i, vectors, centroids, margin, index, score, exact)
                    bar = np.float32(score[i, most - 1] - margin)


@inner
def _take(
    value: Float32,
    centroid: Int64,
    i: Int64,
    vectors: Floats,
    centroids: Floats,
    margin: Float64,
    index: Int32s,
    score: Floats,
    exact: Doubles,
) -> None:
    """Put a centroid where it belongs among the nearest of vector i, if it does."""
    known = np.nan
    most = index.shape[1]
    place = most
    while place > 0:
        gap = value - score[i, place - 1]
        if gap < -margin:
            break
        if gap <= margin:
            if np.isnan(known):
                known = dot(vectors, i, centroids, centroid)
            if np.isnan(exact[i, place - 1]):
                exact[i, place - 1] = dot(vectors, i, centroids, index[i, place - 1])
            if known <= exact[i, place - 1]:
                break
        place -= 1
    if place == most:
        return
    for k in range(most - 1, place, -1):
        index[i, k], score[i, k], exact[i, k] = index[i, k - 1], score[i, k - 1], exact[i, k - 1]
    index[i, place], score[i, place], exact[i, place] = centroid, value, known


@kernel
def distances(vectors: Floats, centroids: Floats, cluster: Int32s, out: Doubles) -> None:
    """1 - cosine of each vector to the centroid of its cluster, 0 to 2."""
    for i in range(vectors.shape[0]):
        out[i] = min(max(1.0 - dot(vectors, i, centroids, cluster[i]), 0.0), 2.0)


@kernel
def lengths(vectors: Floats, out: Doubles) -> None:
    """Euclidean length of each vector."""
    for i in range(vectors.shape[0]):
        out[i] = np.sqrt(dot(vectors, i, vectors, i))


@kernel
def sums(vectors: Floats, cluster: Int32s, total: Doubles) -> None:
    """Add each vector to the row of `total` (float64[k, d]) that is its cluster."""
    for i in range(vectors.shape[0]):
        row = cluster[i]
        for p in range(vectors.shape[1]):
            total[row, p] += np.float64(vectors[i, p])


@kernel
def directions(total: Doubles, centroids: Floats) -> None:
    """Centroids as the direction of the sum of their vectors; those of no direction stay."""
    for j in range(total.shape[0]):
        square = 0.0
        for p in range(total.shape[1]):
            square += total[j, p] * total[j, p]
        # Vectors that cancel each other leave rounding errors, which point nowhere.
        if square > 1e-12:
            length = np.sqrt(square)
            for p in range(total.shape[1]):
                centroids[j, p] = np.float32(total[j, p] / length)


@kernel
def potentials(vectors: Floats, weight: Doubles, nearest: Doubles, rows: Int64s, out: Doubles) -> None:
    """For each of `rows` the weighted sum of distances, were it a centroid beside those that gave `nearest`."""
    out[:] = 0.0
    for i in range(vectors.shape[0]):
        if nearest[i] == 0.0:
            continue
        for t in range(len(rows)):
            distance = max(1.0 - dot(vectors, i, vectors, rows[t]), 0.0)
            out[t] += weight[i] * min(distance, nearest[i])


@kernel
def approach(vectors: Floats, row: Int64, nearest: Doubles) -> None:
    """Lower `nearest` by the distances to vector `row`, which is a centroid now."""
    for i in range(vectors.shape[0]):
        nearest[i] = min(nearest[i], max(1.0 - dot(vectors, i, vectors, row), 0.0))
    nearest[row] = 0.0
