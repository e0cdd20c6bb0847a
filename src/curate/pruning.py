"""Clusters ranked and cut, part by part: statistics, the cut inside each cluster, and one cut through all of them.

All rows of a cluster are in one part, which is sorted by what the mode asks for, then `id`, then `origin`: an order of
the documents and of nothing else. Whatever is added up is added in that order, or in whole numbers, so the sums do not
depend on shards, parts or the order of rows. A cut through all clusters needs no global sort: counts of the leading 16
bits of the order say in which of 65,536 ranges the cut lies, those of the next 16 where in that, until few enough rows
are left to be sorted. The catch: every such round reads and sorts each part again.

A part is held in memory, some 60 bytes a row; the whole costs a few numbers for each cluster.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate import store
from curate.arrow import halves, lists, one, row_hashes
from curate.errors import DataError
from curate.stage import Evidence

STEPS = 2.0**32  # vectors are added up in whole steps of 2^-32; values of float16 are multiples of 2^-24
_DIGIT, _DIGITS = 16, 16  # an order is 256 bits: 64 that the mode gives, 128 of the id, 64 of the origin
_FEW = 1 << 20
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Ranked:
    """The rows of one part by cluster and, in each, in the order of the mode.

    `order` uint64[n, 4]: what the mode gives, both halves of the id, the hash of the origin. `weight` int64[n]: 1, or
    the row's tokens. `clusters` int32[c], ascending; rows first[j]..first[j + 1]-1 (int64[c + 1]) are of clusters[j].
    """

    table: pa.Table
    order: np.ndarray
    weight: np.ndarray
    clusters: np.ndarray
    first: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Rows of each cluster: int64[c]."""
        return np.diff(self.first)

    @property
    def code(self) -> np.ndarray:
        """For each row the place of its cluster in `clusters`: int64[n]."""
        code: np.ndarray = np.repeat(np.arange(len(self.clusters)), self.counts)
        return code

    @property
    def place(self) -> np.ndarray:
        """For each row its place in its cluster, from 0: int64[n]."""
        place: np.ndarray = np.arange(len(self.weight)) - self.first[:-1][self.code]
        return place

    @property
    def running(self) -> np.ndarray:
        """For each row the weight of its cluster up to it, itself included: int64[n]."""
        total = np.concatenate((np.zeros(1, np.int64), np.cumsum(self.weight)))
        running: np.ndarray = total[1:] - total[self.first[:-1]][self.code]
        return running


class Cut(NamedTuple):
    """What is kept: of clusters[j] (int32[k], ascending) the first kept[j] rows (int64[k]), and all rows whose order
    is at most `last` (uint64[4]), if there is one."""

    clusters: np.ndarray
    kept: np.ndarray
    last: np.ndarray | None = None


def record(cluster: np.ndarray, order: np.ndarray, shard: pa.Table) -> dict[str, Any]:
    """What every row says: `cluster` int32[n], the `order` of the mode uint64[n], `id` and the hash of `origin`."""
    origin = row_hashes(shard.select(["origin"]))
    return {"cluster": cluster, "order": order, "id": one(shard["id"]), "origin": origin}


def ranked(part: int, evidence: Evidence) -> Ranked | None:
    """The rows of a part, sorted; None where there are none."""
    tables = [_light(table) for table in evidence.tables(part)]
    return _sorted(pa.concat_tables(tables)) if tables else None


def _light(table: pa.Table) -> pa.Table:
    return table.drop_columns(["key", *(["sum"] if "sum" in table.column_names else [])])


def orders(table: pa.Table) -> np.ndarray:
    """What rows are sorted by, uint64[n, 4]: `order`, both halves of `id`, the hash that is `origin`."""
    rows = np.empty((table.num_rows, 4), np.uint64)
    rows[:, 0], rows[:, 3] = table["order"].to_numpy(), table["origin"].to_numpy()
    rows[:, 1:3] = halves(table["id"])
    return rows


def _sorted(table: pa.Table) -> Ranked:
    rows = orders(table)
    cluster = table["cluster"].to_numpy()
    place = np.lexsort((rows[:, 3], rows[:, 2], rows[:, 1], rows[:, 0], cluster))
    table = table.drop_columns(["order", "origin", "id", "cluster"]).take(pa.array(place))
    clusters, first = np.unique(cluster[place], return_index=True)
    first = np.append(first, len(place)).astype(np.int64)
    named = "weight" in table.column_names
    weight = table["weight"].to_numpy() if named else np.ones(len(place), np.int64)
    return Ranked(table, rows[place], weight, clusters, first)


# --- vectors ---------------------------------------------------------------------------------------------------------


def vector_sums(cluster: np.ndarray, vectors: np.ndarray) -> pa.Array:
    """The sums of the vectors of each cluster of a shard, in steps of 2^-32: large_list<int64>[n], one in the row that
    is the first of its cluster, empty in the others. `cluster` int32[n], `vectors` float32[n, d] of unit length."""
    clusters, firsts, code = np.unique(cluster, return_index=True, return_inverse=True)
    width = vectors.shape[1]
    total = np.zeros((len(clusters), width), np.int64)
    order = np.argsort(code, kind="stable")
    step = max(1, _BLOCK // max(1, width))
    for start in range(0, len(order), step):
        some = order[start : start + step]
        steps = np.rint(vectors[some].astype(np.float64) * STEPS).astype(np.int64)
        which, begins = np.unique(code[some], return_index=True)
        total[which] += np.add.reduceat(steps, begins, axis=0)
    said = np.argsort(firsts)
    offsets = np.zeros(len(cluster) + 1, np.int64)
    offsets[1:][firsts] = width
    return pa.LargeListArray.from_arrays(pa.array(np.cumsum(offsets)), pa.array(total[said].reshape(-1)))


def _summed(part: int, evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Clusters int32[c], ascending, and the sums of their vectors over all shards, int64[c, d]."""
    known, total = np.empty(0, np.int32), np.empty((0, 0), np.int64)
    for table in evidence.tables(part):
        offsets, values = lists(table["sum"])
        says = np.flatnonzero(np.diff(offsets))
        if not len(says):
            continue
        block = values[offsets[0] : offsets[-1]].reshape(len(says), -1)
        if known.size and block.shape[1] != total.shape[1]:
            raise DataError(f"prune: vectors of {block.shape[1]} and of {total.shape[1]} numbers in one column")
        cluster = table["cluster"].to_numpy()[says]
        merged = np.union1d(known, cluster)
        if len(merged) > len(known):
            grown = np.zeros((len(merged), block.shape[1]), np.int64)
            grown[np.searchsorted(merged, known)] = total if known.size else 0
            known, total = merged, grown
        total[np.searchsorted(known, cluster)] += block  # a shard speaks once of a cluster
    return known, total


def complexity(intra: np.ndarray, sums: np.ndarray, neighbours: int) -> np.ndarray:
    """How varied each cluster is and how far from others: float64[k], mean distance inside (`intra` float64[k]) times
    mean distance to the `neighbours` nearest other centroids, which are `sums` int64[k, d] at unit length.

    Where there is no centroid, or no other one, the mean of the rest, or 0. (Density-based pruning, arXiv 2401.04578.)
    """
    value = intra * distance_to_others(sums, neighbours)
    known = value[~np.isnan(value)]
    return np.round(np.where(np.isnan(value), known.mean() if len(known) else 0.0, value), 12)


def distance_to_others(sums: np.ndarray, neighbours: int) -> np.ndarray:
    """Mean of 1 - cosine to the nearest other centroids, float64[k]; NaN where a centroid is no direction."""
    k = len(sums)
    centroids = sums / STEPS
    length = np.sqrt((centroids**2).sum(axis=1))
    some = np.flatnonzero(length > 0)
    found = np.full(k, np.nan)
    near = min(neighbours, len(some) - 1)
    if near < 1:
        return found
    unit = centroids[some] / length[some, None]
    step = max(1, _BLOCK // len(some))
    for start in range(0, len(some), step):
        block = unit[start : start + step] @ unit.T
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
        closest = np.partition(block, len(some) - near, axis=1)[:, len(some) - near :]
        found[some[start : start + step]] = 1 - np.sort(closest, axis=1).mean(axis=1)
    return found


# --- what is added up over parts -------------------------------------------------------------------------------------


class Statistics(NamedTuple):
    """Of each cluster (int32[k], ascending): rows, weight, that of its first and last row (int64[k]); sums of the
    distances, and of the scores with their number (float64[k]); sums of vectors (int64[k, d])."""

    clusters: np.ndarray
    rows: np.ndarray
    weight: np.ndarray
    first: np.ndarray
    last: np.ndarray
    distance: np.ndarray
    score: np.ndarray
    scored: np.ndarray
    vectors: np.ndarray


def statistics(part: int, evidence: Evidence) -> Statistics | None:
    """Of the clusters of one part."""
    rows = ranked(part, evidence)
    if rows is None:
        return None
    names, nothing = rows.table.column_names, np.zeros(len(rows.clusters))
    score = rows.table["score"].to_numpy() if "score" in names else None
    has = None if score is None else ~np.isnan(score)
    return Statistics(
        rows.clusters,
        rows.counts,
        np.add.reduceat(rows.weight, rows.first[:-1]),
        rows.weight[rows.first[:-1]],
        rows.weight[rows.first[1:] - 1],
        _canonical(rows, rows.table["distance"].to_numpy()) if "distance" in names else nothing,
        nothing if score is None or has is None else _canonical(rows, np.where(has, score, 0.0)),
        nothing if has is None else _canonical(rows, has),
        _summed(part, evidence)[1] if "distance" in names else np.empty((len(rows.clusters), 0), np.int64),
    )


def _canonical(rows: Ranked, values: np.ndarray) -> np.ndarray:
    """Sums over clusters, from the smallest value up: the mode does not show in their last bits."""
    code = rows.code
    order = np.lexsort((values, code))
    return np.bincount(code[order], values[order].astype(np.float64), minlength=len(rows.clusters))


def joined(found: list[Statistics]) -> Statistics | None:
    """Of the clusters of all parts, ascending; None where no row competes."""
    if not found:
        return None
    order = np.argsort(np.concatenate([each.clusters for each in found]))
    return Statistics(*(np.concatenate(columns)[order] for columns in zip(*found, strict=True)))


class Prefix(NamedTuple):
    """Of each cluster: how many of its first rows fit into its quota, their weight, that of the next row (0: none)."""

    clusters: np.ndarray
    kept: np.ndarray
    weight: np.ndarray
    next: np.ndarray


def prefix(part: int, clusters: np.ndarray, quotas: np.ndarray, evidence: Evidence) -> Prefix | None:
    """What fits into quotas[j] (int64[k]) of clusters[j] (int32[k], ascending), for those of one part."""
    rows = ranked(part, evidence)
    if rows is None:
        return None
    quota = quotas[np.searchsorted(clusters, rows.clusters)]
    fits = rows.running <= quota[rows.code]
    count = np.add.reduceat(fits.astype(np.int64), rows.first[:-1])
    taken = np.add.reduceat(np.where(fits, rows.weight, 0), rows.first[:-1])
    open_ = count < rows.counts
    after = np.where(open_, rows.weight[np.minimum(rows.first[:-1] + count, len(rows.weight) - 1)], 0)
    return Prefix(rows.clusters, count, taken, after)


# --- the cut through all clusters ------------------------------------------------------------------------------------


class Search(NamedTuple):
    """Where the last row that is kept is looked for: among the rows that `cut` leaves whose order begins with the
    digits `found`."""

    cut: Cut
    found: tuple[int, ...]


def histogram(part: int, search: Search, evidence: Evidence) -> np.ndarray | None:
    """Weights and numbers of rows by the digit that follows: int64[2, 65536]."""
    rows = ranked(part, evidence)
    if rows is None:
        return None
    inside = _inside(rows, search)
    digit = _digit(rows.order[inside], len(search.found))
    out = np.zeros((2, 1 << _DIGIT), np.int64)
    np.add.at(out[0], digit, rows.weight[inside])
    out[1] = np.bincount(digit, minlength=1 << _DIGIT)
    return out


def collected(part: int, search: Search, evidence: Evidence) -> tuple[np.ndarray, np.ndarray] | None:
    """Orders uint64[m, 4] and weights int64[m] of those rows."""
    rows = ranked(part, evidence)
    if rows is None:
        return None
    inside = _inside(rows, search)
    return rows.order[inside], rows.weight[inside]


def _inside(rows: Ranked, search: Search) -> np.ndarray:
    count = search.cut.kept[np.searchsorted(search.cut.clusters, rows.clusters)]
    inside: np.ndarray = rows.place >= count[rows.code]
    for index, digit in enumerate(search.found):
        inside &= _digit(rows.order, index) == digit
    return inside


def _digit(order: np.ndarray, index: int) -> np.ndarray:
    word, place = divmod(index * _DIGIT, 64)
    return (order[:, word] >> np.uint64(64 - _DIGIT - place) & np.uint64((1 << _DIGIT) - 1)).astype(np.int64)


def narrowed(search: Search, found: list[np.ndarray], wanted: int) -> tuple[Search, int, bool]:
    """One digit more, from the histograms of all parts: the search, the weight still wanted of what it looks at, and
    whether those rows are few enough to be collected. `wanted` is 1 or more and no more than there is."""
    weights, rows = np.sum(found, axis=0)
    total = np.cumsum(weights)
    digit = int(np.searchsorted(total, wanted))
    left = wanted - int(total[digit] - weights[digit])
    search = search._replace(found=(*search.found, digit))
    return search, left, int(rows[digit]) <= _FEW or len(search.found) == _DIGITS


def last_kept(found: list[tuple[np.ndarray, np.ndarray]], wanted: int) -> np.ndarray:
    """The order, uint64[4], of the row with which the weight of collected rows first reaches `wanted`."""
    order = np.concatenate([each[0] for each in found])
    weight = np.concatenate([each[1] for each in found])
    place = np.lexsort(order.T[::-1])
    last: np.ndarray = order[place[int(np.searchsorted(np.cumsum(weight[place]), wanted))]]
    return last


def last(cut: Cut, wanted: int, over: Callable[..., list[Any]]) -> np.ndarray:
    """The order, uint64[4], of the last row that is kept of those that the cut leaves, when `wanted` more is to be
    kept, which is 1 or more and no more than there is. `over(work, ...)` gives what `work` gives for all parts."""
    search, few = Search(cut, ()), False
    while not few:
        search, wanted, few = narrowed(search, over(histogram, search=search), wanted)
    return last_kept(over(collected, search=search), wanted)


def share(keep: float, total: int) -> int:
    """How much `keep` of a total is, rounded down, as if it were the decimal that it reads as; a third is a third,
    though its last digit is missing."""
    return min(total, int((Fraction(str(keep)) + Fraction(1, 2**53)) * total))


# --- the verdict -----------------------------------------------------------------------------------------------------


def write(part: int, cut: Cut, evidence: Evidence) -> None:
    """The verdict of one part, cut by shard: `row`, `pruned`, and `prune_rank`, the middle of the row's place in its
    cluster. What a run that was ended has written is kept."""
    if store.exists(evidence.place(part)):
        return
    rows = ranked(part, evidence)
    if rows is None:
        return
    code, place = rows.code, rows.place
    kept = place < cut.kept[np.searchsorted(cut.clusters, rows.clusters)][code]
    if cut.last is not None:
        kept |= at_most(rows.order, cut.last)
    rank = ((2 * place + 1) / (2 * rows.counts[code])).astype(np.float32)
    places = {"shard": rows.table["shard"], "row": rows.table["row"]}
    evidence.keep(part, pa.table({**places, "pruned": ~kept, "prune_rank": rank}))


def at_most(order: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Which orders, uint64[n, 4], are not behind the last, uint64[4]: bool[n]."""
    found = np.ones(len(order), bool)
    for word in reversed(range(order.shape[1])):
        found = (order[:, word] < last[word]) | ((order[:, word] == last[word]) & found)
    return found
