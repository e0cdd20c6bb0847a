"""Whose turn it is: the documents that lists of scores pick round after round, without ever holding the lists.

Every list (a target document, or a task, whose score is that of its most alike target) has all competing documents in
order of their cosine, ties by `id`, then `origin`. Lists take turns: in turn r * L + t list t names its document of
rank r, and one that is taken already costs the turn (RDS+, arXiv 2503.01807). So a document is taken in the smallest
of its turns, and the first M are those of the M smallest: an order of the documents and of nothing else.

That order is found from the outside. Parts count their documents by list and range of cosines; with these counts each
document's turn lies between two numbers, and so does that of the last one taken. Before it all are taken, behind it
none; what lies between is counted again in finer ranges, until few enough entries are left to be sorted.

Cosines are those of vectors in steps of 2^-26, whose products float64 adds up without rounding: the same for any
blocks, library and machine. They are kept in steps of 2^-24, as float32 holds them.

The catch: each pass takes all products again, some four of 2 * n * q * d operations in all. Documents alike in one list
to the last step and in the first bits of their `id`, copies above all, are sorted in memory at once.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate.arrow import halves, vectors
from curate.stage import Evidence
from curate.targeting import competing, weights
from curate.transport import grid

STEPS = 1 << 24
"""A cosine of 1, in steps; a distance, 1 - cosine, is 0 to twice that."""

_CELLS = 1 << 21
_BLOCK = 1 << 21
_FEW = 1 << 21
_NEVER = np.int64(2**62)
_SURE = np.int64(-1)


class Lists(NamedTuple):
    """Targets float64[q, d] of unit length, in order of their lists; list t has those from first[t] to before the
    first of the next (first int64[L]). `inverse` float64[q] is one by their length."""

    targets: np.ndarray
    inverse: np.ndarray
    first: np.ndarray

    @property
    def number(self) -> int:
        return len(self.first)


class Windows(NamedTuple):
    """What is open in each list: entries whose key is from `start` to below `stop`, behind `above` others (each
    int64[L]). What comes before is taken, what comes after is not, by this list. A key is a distance in steps, then the
    first 32 bits of an id."""

    start: np.ndarray
    stop: np.ndarray
    above: np.ndarray

    def shift(self) -> np.ndarray:
        """By how many bits a key of each list is cut to be one of the ranges that are counted: int64[L]."""
        wide = np.maximum(self.stop - self.start - 1, 0)
        # The number of bits of whole numbers up to 2^58: frexp of float64 may be one too many, which is harmless.
        bits = np.frexp(wide.astype(np.float64))[1]
        shift: np.ndarray = np.maximum(bits - (ranges(len(self.start)).bit_length() - 1), 0).astype(np.int64)
        return shift


class Chosen(NamedTuple):
    """What is taken: of each list the entries whose key is below `start` (int64[L]), and rows[p], the places in part p
    of others (int64[...], ascending)."""

    start: np.ndarray
    rows: dict[int, np.ndarray]


def ranges(lists: int) -> int:
    """Ranges of keys that are counted for each list: a power of two."""
    return max(16, 1 << ((_CELLS // max(1, lists)).bit_length() - 1))


def by_task(targets: np.ndarray, task: np.ndarray | None) -> Lists:
    """Of targets float32[q, d] of about unit length, one list each, or one for each value of `task` (int64[q])."""
    exact, inverse = _exact(targets)
    if task is None:
        return Lists(exact, inverse, np.arange(len(targets)))
    order = np.argsort(task, kind="stable")
    first = np.unique(task[order], return_index=True)[1]
    return Lists(exact[order], inverse[order], first.astype(np.int64))


def _exact(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in steps of 2^-26, and one by their length. All sums of products of two such rows are exact: whole numbers
    of 2^-52 below 2."""
    exact = grid(rows)
    return exact, 1 / np.sqrt((exact * exact).sum(axis=1))


def distances(rows: np.ndarray, lists: Lists) -> np.ndarray:
    """Distances int64[n, L] in steps of 2^-24, 0 to 2^25, of rows float32[n, d] to the nearest target of each list."""
    exact, inverse = _exact(rows)
    products = exact @ lists.targets.T
    products *= inverse[:, None]
    products *= lists.inverse
    if lists.number < products.shape[1]:
        products = np.maximum.reduceat(products, lists.first, axis=1)
    np.rint(np.multiply(products, STEPS, out=products), out=products)
    found: np.ndarray = STEPS - np.clip(products, -STEPS, STEPS).astype(np.int64)
    return found


# --- parts -----------------------------------------------------------------------------------------------------------


class Block(NamedTuple):
    """Some rows of a part: their table, the place of the first, and their keys int64[n, L]."""

    table: pa.Table
    place: int
    keys: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        return weights(self.table)


def blocks(part: int, evidence: Evidence, lists: Lists) -> Iterator[Block]:
    """The rows of a part that compete, with what they are to each list."""
    place, step = 0, max(1, _BLOCK // len(lists.targets))
    for table in competing(part, evidence):
        for start in range(0, table.num_rows, step):
            some = table.slice(start, step)
            keys = distances(vectors(some["embedding"])[0], lists) << 32
            keys += (halves(some["id"])[:, 0] >> np.uint64(32)).astype(np.int64)[:, None]
            yield Block(some, place, keys)
            place += some.num_rows


def counted(part: int, evidence: Evidence, lists: Lists, windows: Windows) -> np.ndarray:
    """Open entries of a part by list and range: int64[L * ranges]."""
    total = np.zeros(lists.number * ranges(lists.number), np.int64)
    for block in blocks(part, evidence, lists):
        cell, early, late = _cells(block.keys, windows)
        total += np.bincount(cell[~(early | late)], minlength=len(total))
    return total


def _cells(keys: np.ndarray, windows: Windows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each entry its list and range as one number, and whether it comes before or after its window."""
    early, late = keys < windows.start, keys >= windows.stop
    cell = (keys - windows.start) >> windows.shift()
    cell += np.arange(len(windows.start)) * ranges(len(windows.start))
    return np.where(early | late, 0, cell), early, late


def bounded(part: int, evidence: Evidence, lists: Lists, windows: Windows, turns: np.ndarray) -> np.ndarray:
    """Weights of the rows of a part by the range that gives the earliest turn, and the latest, that can be theirs:
    int64[2, L * ranges + 1], the last for rows that are taken already. `turns` int64[2, L * ranges]."""
    total = np.zeros((2, turns.shape[1] + 1), np.int64)
    for block in blocks(part, evidence, lists):
        cell, early, late = _cells(block.keys, windows)
        for side in range(2):
            turn = np.where(early, _SURE, np.where(late, _NEVER, turns[side][cell]))
            best = turn.argmin(axis=1)
            row = np.arange(len(best))
            found, of = turn[row, best], cell[row, best]
            seen = found < _NEVER
            of = np.where(found == _SURE, turns.shape[1], of)[seen]
            # Sums of whole numbers below 2^53 are exact in float64.
            total[side] += np.bincount(of, block.weight[seen], minlength=total.shape[1]).astype(np.int64)
    return total


class Entries(NamedTuple):
    """Open entries: list int64[m], order uint64[m, 4], and which row they are of: part and place in it, its weight
    (int64[m]), and whether it is taken already (bool[m]). `sure` is the weight of all that are taken."""

    list: np.ndarray
    order: np.ndarray
    part: np.ndarray
    place: np.ndarray
    weight: np.ndarray
    taken: np.ndarray
    sure: int


def collected(part: int, evidence: Evidence, lists: Lists, windows: Windows) -> Entries | None:
    """The open entries of a part; None where nobody competes."""
    found, sure = [], 0
    for block in blocks(part, evidence, lists):
        early = block.keys < windows.start
        taken = np.asarray(early.any(axis=1))
        weight = block.weight
        sure += int(weight[taken].sum())
        open_: np.ndarray = ~early & (block.keys < windows.stop)
        row, of = np.nonzero(open_)
        order = np.empty((len(row), 4), np.uint64)
        order[:, 0] = block.keys[row, of]
        order[:, 1:3] = halves(block.table["id"])[row]
        order[:, 3] = block.table["origin"].to_numpy()[row]
        found.append((of, order, np.full(len(row), part), row + block.place, weight[row], taken[row]))
    if not found:
        return None
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    return Entries(columns[0], columns[1], columns[2], columns[3], columns[4], columns[5], sure)


# --- the last turn ---------------------------------------------------------------------------------------------------


def take(lists: Lists, budget: int, over: Callable[..., list[Any]], *, rows: int) -> Chosen:
    """The rows of the earliest turns, until their weights first reach `budget`, which is at most the sum of all.

    `over(work, lists=..., ...)` gives the results of `work` for all parts that have any; `rows` is about how many rows
    compete.
    """
    number = lists.number
    nothing = np.zeros(number, np.int64)
    if budget == 0:
        return Chosen(nothing, {})
    windows = Windows(nothing, nothing + ((2 * STEPS + 1) << 32), nothing)
    open_, before = rows * number, rows * number + 1
    while _FEW < open_ < before and windows.shift().any():
        before = open_
        counts = np.sum(over(counted, lists=lists, windows=windows), axis=0).reshape(number, -1)
        upto = windows.above[:, None] + counts.cumsum(axis=1)
        turns = np.stack([upto - counts, upto - 1]) * number + np.arange(number)[:, None]
        turns = turns.reshape(2, -1)
        found = np.sum(over(bounded, lists=lists, windows=windows, turns=turns), axis=0)
        first, last = (_reached(turns[side], found[side], budget) for side in range(2))
        windows, open_ = _narrowed(windows, counts, first, last)
    entries = over(collected, lists=lists, windows=windows)
    return Chosen(windows.start, _sorted_out(entries, windows, budget))


def _reached(turns: np.ndarray, weights: np.ndarray, budget: int) -> int:
    """The turn in which the weights, int64[cells + 1], first reach the budget."""
    seen = np.flatnonzero(weights[:-1])
    order = seen[np.argsort(turns[seen])]
    total = int(weights[-1]) + np.cumsum(weights[order])
    return int(turns[order[np.searchsorted(total, budget)]])


def _narrowed(windows: Windows, counts: np.ndarray, first: int, last: int) -> tuple[Windows, int]:
    """The windows of ranges that hold any turn from `first` to `last`, and the entries in them."""
    number = len(counts)
    position = np.arange(number)
    low, high = -((position - first) // number), (last - position) // number  # ranks, rounded up and down
    upto = windows.above[:, None] + counts.cumsum(axis=1)
    begin = (upto - 1 < low[:, None]).sum(axis=1)  # ranges whose last rank comes before all
    end = (upto - counts <= high[:, None]).sum(axis=1)  # ranges whose first rank does not come after all
    end = np.maximum(end, begin)
    shift = windows.shift()
    total = np.concatenate((np.zeros((number, 1), np.int64), counts.cumsum(axis=1)), axis=1)
    start = np.minimum(windows.start + (begin << shift), windows.stop)
    stop = np.minimum(windows.start + (end << shift), windows.stop)
    above = windows.above + total[position, begin]
    return Windows(start, stop, above), int((total[position, end] - total[position, begin]).sum())


def _sorted_out(entries: list[Entries], windows: Windows, budget: int) -> dict[int, np.ndarray]:
    """Which rows of those that are open are taken, by part."""
    of, order, part, place, weight, taken = (
        np.concatenate([each[field] for each in entries]) for field in range(len(Entries._fields) - 1)
    )
    number, sure = len(windows.start), sum(each.sure for each in entries)
    sequence = np.lexsort((order[:, 3], order[:, 2], order[:, 1], order[:, 0], of))
    begin = np.searchsorted(of[sequence], np.arange(number))
    rank = windows.above[of[sequence]] + np.arange(len(of)) - begin[of[sequence]]
    turn = np.empty(len(of), np.int64)
    turn[sequence] = rank * number + of[sequence]
    sequence = np.argsort(np.where(taken, _NEVER, turn))[: np.count_nonzero(~taken)]
    # The first entry of a row is its turn.
    rows = np.unique((part[sequence] << 32) | place[sequence], return_index=True)[1]
    sequence = sequence[np.sort(rows)]
    total = sure + np.cumsum(weight[sequence])
    sequence = sequence[: int(np.searchsorted(total, budget)) + 1]
    return {int(p): np.sort(place[sequence[part[sequence] == p]]) for p in np.unique(part[sequence])}


def verdict(part: int, evidence: Evidence, lists: Lists, chosen: Chosen) -> pa.Table | None:
    """Of each row of a part that competes: `shard`, `row`, `score` (float32, its largest cosine), `list` (int32, the
    first list that has it) and `targeted`."""
    found = []
    for block in blocks(part, evidence, lists):
        distance = block.keys >> 32
        nearest = distance.argmin(axis=1)
        row = np.arange(len(nearest))
        taken = (block.keys < chosen.start).any(axis=1)
        if part in chosen.rows:
            taken |= np.isin(row + block.place, chosen.rows[part])
        found.append(
            pa.table(
                {
                    "shard": block.table["shard"],
                    "row": block.table["row"],
                    "score": ((STEPS - distance[row, nearest]) / STEPS).astype(np.float32),
                    "targeted": taken,
                    "list": nearest.astype(np.int32),
                }
            )
        )
    return pa.concat_tables(found) if found else None
