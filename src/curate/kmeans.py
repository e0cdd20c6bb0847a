"""Spherical k-means: unit vectors in k groups, each around the direction of its mean (Dhillon and Modha 2001).

Distance is 1 - cosine, which for unit vectors is half the squared Euclidean one, so k-means++ and Lloyd's steps hold
as they are. Nearest centroids come from float32 matrix products in blocks, settled exactly where rounding could matter:
the same input gives the same bits on any machine, with any number of threads. An iteration costs 2 n k d operations.

The catch: the result depends on the order of the vectors, by which draws are made and sums are added up. Callers sort
them by something of their own, as a keyed draw is (`draw.py`).
"""

import math
from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curate import draw
from curate.errors import DataError, RecipeError
from curate.kernels.kmeans import approach, closest, directions, distances, lengths, potentials, sums

ROWS, BLOCK = 256, 1024
"""Vectors, and centroids, of one matrix product: vectors and scores stay in a core's cache for what follows."""
FLAT = 4096
"""Up to so many clusters are fitted at once. More are fitted in about sqrt(k) groups, each alone."""
PER_CENTROID = 256
"""Vectors for each centroid beyond which a fit gains little (Johnson, Douze and Jégou 2017: the default of Faiss)."""
_DIRECT = 4096  # vectors that k-means++ goes over itself
_ROUNDS = 5


def fit(
    vectors: np.ndarray,
    k: int,
    *,
    seed: int,
    iterations: int = 25,
    restarts: int = 1,
    tolerance: float = 1e-4,
) -> np.ndarray:
    """Unit centroids float32[k, d] of unit vectors float32[n, d]: of `restarts` fits, that of the smallest distances.

    Seeds are drawn by greedy k-means++ (Arthur and Vassilvitskii 2007), of many vectors among candidates that
    k-means|| draws first (Bahmani et al. 2012). A fit ends after so many iterations, or when the sum of distances falls
    by no more than the share `tolerance`. Above 4096 clusters, groups of vectors get their share of k and are fitted
    alone: much faster, and about as good. Where fewer than k vectors differ, some centroids are equal.

    RecipeError if k < 1 or k > n; DataError for vectors that are not finite or not of length 1.
    """
    vectors = checked(vectors)
    if not 1 <= k <= len(vectors):
        raise RecipeError(f"{k:,} clusters of {len(vectors):,} vectors; `k` is at least 1 and at most the vectors")
    how = _Fit(iterations, restarts, tolerance)
    return (_two_levels if k > FLAT else _flat)(vectors, k, seed, how)


def assign(
    vectors: np.ndarray, centroids: np.ndarray, *, neighbours: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest centroid of each vector (int32[n]), its distance (float32[n], 1 - cosine within 0 to 2), and the
    `neighbours` that come next (int32[n, neighbours], nearest first, -1 where there are no more).

    Of equally near centroids the first comes first. DataError for vectors that are not finite or not of length 1.
    """
    vectors, centroids = _fixed(vectors), checked(centroids)
    cluster, distance = np.empty(len(vectors), np.int32), np.empty(len(vectors))

    def use(rows: slice, nearest: np.ndarray) -> None:
        _check(vectors[rows], rows.start)
        cluster[rows] = nearest
        distances(vectors[rows], centroids, nearest, distance[rows])

    with np.errstate(invalid="ignore", over="ignore"):  # of vectors that are then refused
        index = _nearest(vectors, centroids, neighbours + 1, use)
    return cluster, distance.astype(np.float32), index[:, 1:]


def lloyd(
    vectors: np.ndarray, centroids: np.ndarray, *, iterations: int, tolerance: float = 0.0
) -> tuple[np.ndarray, float]:
    """Centroids after Lloyd's steps from given ones, and the sum of distances that the last step began with.

    A cluster without vectors takes the one that is farthest from its centroid, of a cluster of two or more. A cluster
    whose vectors cancel each other keeps its centroid. Ends early when no vector moves.
    """
    centroids = np.array(centroids, np.float32)
    before, total = np.empty(0, np.int32), math.inf
    for _ in range(iterations):
        added = np.zeros(centroids.shape, np.float64)
        cluster, distance = _assigned(vectors, centroids, added)
        last, total = total, _sum(distance)
        if np.array_equal(cluster, before):
            break
        before = cluster.copy()
        repaired = repair(cluster, distance, len(centroids))
        if repaired:
            added[:] = 0
            sums(_fixed(vectors), cluster, added)
        directions(added, centroids)
        if not repaired and last - total <= tolerance * last < math.inf:
            break
    return centroids, total


def repair(cluster: np.ndarray, distance: np.ndarray, k: int) -> int:
    """Give every cluster without vectors one, in place: the farthest first, ties in order. Returns how many it gave."""
    count = np.bincount(cluster, minlength=k)
    empty = np.flatnonzero(count == 0)
    if not len(empty):
        return 0
    farthest = iter(np.argsort(-distance, kind="stable"))
    for taker in empty:
        row = next(row for row in farthest if count[cluster[row]] > 1)
        count[cluster[row]] -= 1
        cluster[row] = taker
        count[taker] = 1
    return len(empty)


def seeds(vectors: np.ndarray, k: int, *, seed: int) -> np.ndarray:
    """Rows (int64[k], all different) of the vectors to start from: k-means++, of many vectors among candidates."""
    rows, weight = np.arange(len(vectors)), np.ones(len(vectors))
    if len(vectors) > max(_DIRECT, 4 * k):
        rows, weight = _candidates(vectors, k, seed)
    taken: np.ndarray = rows[_plus_plus(_fixed(vectors[rows]), weight, k, seed)]
    return taken


def checked(vectors: np.ndarray) -> np.ndarray:
    """The vectors as the kernels want them. DataError for one that is not finite or not of length 1."""
    vectors = _fixed(vectors)
    _check(vectors, 0)
    return vectors


def _check(vectors: np.ndarray, before: int) -> None:
    """DataError for a wrong one; `before` vectors come before these."""
    if len(wrong := odd(vectors)):
        raise DataError(f"vector {before + wrong[0]} is not of length 1; unit vectors of finite numbers are wanted")


def odd(vectors: np.ndarray) -> np.ndarray:
    """Rows (int64) whose vector is not finite, or not of length 1 to a thousandth, which float16 can keep."""
    length = np.empty(len(vectors))
    lengths(_fixed(vectors), length)
    rows: np.ndarray = np.flatnonzero(~(np.abs(length - 1) <= 1e-3))
    return rows


def demand_units(vectors: np.ndarray, rows: np.ndarray, shard: pa.Table, column: str) -> None:
    """DataError that names the first of these rows of a shard whose vector is not finite, or not of length 1."""
    if len(wrong := rows[odd(vectors[rows])]):
        raise DataError(
            f"{shard['origin'][int(wrong[0])]}: its `{column}` (row {wrong[0]} of a shard) is not a finite vector of "
            "length 1"
        )


class _Fit(NamedTuple):
    iterations: int
    restarts: int
    tolerance: float


def _flat(vectors: np.ndarray, k: int, seed: int, how: _Fit) -> np.ndarray:
    """The best of several fits, the first of equal ones."""
    fits = []
    for restart in range(how.restarts):
        start = vectors[seeds(vectors, k, seed=_drawn(seed, restart))]
        fits.append(lloyd(vectors, start, iterations=how.iterations, tolerance=how.tolerance))
    return min(fits, key=itemgetter(1))[0]


def _fixed(vectors: np.ndarray) -> np.ndarray:
    """A read-only view: for arrays that can be written to, kernels would be compiled once more."""
    view: np.ndarray = np.ascontiguousarray(vectors, np.float32).view()
    view.setflags(write=False)
    return view


def _nearest(
    vectors: np.ndarray, centroids: np.ndarray, most: int, use: Callable[[slice, np.ndarray], None] | None = None
) -> np.ndarray:
    """The nearest `most` centroids of each vector, nearest first: int32[n, most], -1 where there are no more.

    `use` is given the rows of a block and the nearest of each, while the block is in the cache.
    """
    n, k = len(vectors), len(centroids)
    vectors, centroids = _fixed(vectors), _fixed(centroids)
    # A float32 dot product of unit vectors is off by at most d roundings of its size, in whatever order it is added up
    # (Higham 2002, section 3.1), and so is each of two.
    margin = 2.01 * (vectors.shape[1] + 2) * 2.0**-24
    index = np.full((n, most), -1, np.int32)
    score, exact = np.empty((ROWS, most), np.float32), np.empty((ROWS, most))
    room = np.empty(ROWS * BLOCK, np.float32)
    for top in range(0, n, ROWS):
        rows = slice(top, min(top + ROWS, n))
        here, block = slice(0, rows.stop - top), vectors[rows]
        score.fill(-np.inf)
        exact.fill(np.nan)
        for first in range(0, k, BLOCK):
            some = centroids[first : first + BLOCK]
            shape = (len(block), len(some))
            scores = np.matmul(block, some.T, out=room[: shape[0] * shape[1]].reshape(shape))
            closest(scores, first, block, centroids, margin, index[rows], score[here], exact[here])
        if use is not None:
            use(rows, np.ascontiguousarray(index[rows, 0]))
    return index


def _assigned(vectors: np.ndarray, centroids: np.ndarray, total: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centroid of each vector (int32[n]) and the distance to it (float64[n]); the vectors of each are
    added to `total` (float64[k, d])."""
    vectors, centroids = _fixed(vectors), _fixed(centroids)
    cluster, distance = np.empty(len(vectors), np.int32), np.empty(len(vectors))

    def use(rows: slice, nearest: np.ndarray) -> None:
        cluster[rows] = nearest
        distances(vectors[rows], centroids, nearest, distance[rows])
        if total is not None:
            sums(vectors[rows], nearest, total)

    _nearest(vectors, centroids, 1, use)
    return cluster, distance


def _candidates(vectors: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """k-means||: rows drawn in a few rounds, in each about k / 2 by their distance to those drawn before, at least k
    in all; and the number of vectors that each is the nearest to."""
    n = len(vectors)
    drawn = [np.array([_drawn(seed, 0) % n])]
    nearest, owner, held = np.full(n, 2.0), np.zeros(n, np.int64), 0
    for turn in range(1, _ROUNDS + 2):
        new = drawn[-1]
        some = vectors[new]
        which, distance = _assigned(vectors, some, None)
        closer = distance < nearest
        nearest[closer], owner[closer] = distance[closer], held + which[closer]
        nearest[new], owner[new] = 0.0, held + np.arange(len(new))
        held += len(new)
        if turn > _ROUNDS:
            break
        chance = nearest * (max(k // 2, 1) / max(_sum(nearest), 1e-300))
        drawn.append(np.flatnonzero(_fractions(np.arange(n), _drawn(seed, turn)) < chance))
        if not len(drawn[-1]):
            break
    rows = np.concatenate(drawn)
    weight = np.bincount(owner, minlength=len(rows)).astype(np.float64)
    if len(rows) < k:  # few vectors differ
        more = np.setdiff1d(np.arange(n), rows)[: k - len(rows)]
        rows, weight = np.concatenate([rows, more]), np.concatenate([weight, np.ones(len(more))])
    return rows, weight


def _plus_plus(vectors: np.ndarray, weight: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Greedy k-means++: each next row is the best of 2 + ln k, drawn by weight times distance to those taken."""
    trials = 2 + int(math.log(k))
    taken = np.empty(k, np.int64)
    free = np.ones(len(vectors), bool)
    nearest = np.ones(len(vectors))
    draws = _fractions(np.arange(k * trials), seed).reshape(k, trials)
    for step in range(k):
        reach = np.cumsum(weight * nearest)
        if reach[-1] > 0:
            found = np.searchsorted(reach, draws[step, : trials if step else 1] * reach[-1], side="right")
            found = np.unique(np.minimum(found, int(np.searchsorted(reach, reach[-1]))))
        else:
            found = np.flatnonzero(free)[:1]  # all vectors left equal one that is taken
        if step == 0:
            nearest[:] = 2.0
        if len(found) > 1:
            total = np.empty(len(found))
            potentials(vectors, weight, nearest, found, total)
            found = found[[int(np.argmin(total))]]
        taken[step] = found[0]
        free[found[0]] = False
        approach(vectors, found[0], nearest)
    return taken


def _two_levels(vectors: np.ndarray, k: int, seed: int, how: _Fit) -> np.ndarray:
    """Centroids of groups of vectors fitted alone. Vectors are in an order of draws, so the first are a sample."""
    coarse = math.isqrt(k)
    middles = _flat(vectors[: PER_CENTROID * coarse], coarse, _drawn(seed, 0), how)
    cluster = _nearest(vectors, middles, 1)[:, 0]
    order = np.argsort(cluster, kind="stable")
    size = np.bincount(cluster, minlength=coarse)
    made = []
    for group, (start, share) in enumerate(zip(np.cumsum(size) - size, shares(size, k), strict=True)):
        if share:
            members = vectors[order[start : start + size[group]]]
            made.append(_flat(members, int(share), _drawn(seed, group + 1), how))
    return np.concatenate(made)


def shares(size: np.ndarray, k: int) -> np.ndarray:
    """Clusters (int64) for groups of such sizes, k in all, by size: none more than it has vectors, by largest rest."""
    exact = size * (k / size.sum())
    given: np.ndarray = np.minimum(np.floor(exact).astype(np.int64), size)
    order = np.argsort(given - exact, kind="stable")
    while left := k - int(given.sum()):
        room = order[given[order] < size[order]][:left]
        given[room] += 1
    return given


def _sum(values: np.ndarray) -> float:
    """The sum from the first to the last: the order in which NumPy's own adds depends on the machine."""
    return float(np.cumsum(values)[-1]) if len(values) else 0.0


def _drawn(seed: int, use: int) -> int:
    """A seed for one use of a seed."""
    return int(draw.again(np.array([use], np.uint64), seed % 2**64)[0])


def _fractions(keys: np.ndarray, seed: int) -> np.ndarray:
    """Numbers in [0, 1) drawn from keys."""
    drawn = draw.again(keys.astype(np.uint64), seed)
    found: np.ndarray = (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return found
