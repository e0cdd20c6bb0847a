"""Documents chosen towards a target set: what is said of them, and a cut through all by one number.

Targets and those that compete are rows of one evidence; the targets have the key 0, so they stand in its first part.
Every part gives its rows a number in whole steps, in a file of its own beside the verdict; these files are evidence
again, light enough to be ranked, and `pruning` finds the last row that is kept. The number, then `id`, then `origin`
are an order of the documents and of nothing else. The catch: that evidence takes some 60 bytes of disk a document
until the verdict is written.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate import exchange, pruning, store
from curate.errors import DataError
from curate.pruning import Cut
from curate.stage import Evidence, Map

STEPS = 2.0**32
"""Numbers by which rows are cut are whole steps of 2^-32, which are added up without rounding."""

_HEFT = 2
_MIDDLE = np.int64(-(2**63))
Scores = Callable[[pa.Table], tuple[np.ndarray, np.ndarray]]


class Total(NamedTuple):
    """Rows, their weight (tokens, or rows), and the sum of their steps."""

    rows: int
    weight: int
    steps: int


class Scored(NamedTuple):
    """The rows that compete in order: `evidence` of their steps, from `files[p]`, which part p has if it has rows."""

    evidence: Evidence
    files: dict[int, str]
    total: Total


def weights(table: pa.Table) -> np.ndarray:
    """Of each row its tokens, or 1 where they do not count: int64[n]."""
    if "weight" in table.column_names:
        found: np.ndarray = table["weight"].to_numpy()
        return found
    return np.ones(table.num_rows, np.int64)


def competing(part: int, evidence: Evidence) -> Iterator[pa.Table]:
    """The rows of a part that compete, without targets, a few at a time."""
    for table in evidence.tables(part):
        rows = table.filter(pa.array(~table["target"].to_numpy(zero_copy_only=False)))
        if rows.num_rows:
            yield rows


def targets(evidence: Evidence) -> pa.Table | None:
    """The target rows, in order of `id`, then of the hash that is `origin`; None if there are none."""
    tables = [table.filter(table["target"]) for table in evidence.tables(0)]
    found = pa.concat_tables(tables) if tables else None
    return found.sort_by([("id", "ascending"), ("origin", "ascending")]) if found else None


def total(part: int, evidence: Evidence) -> Total:
    """Of the rows of one part that compete; no steps."""
    tables = list(competing(part, evidence))
    return Total(sum(table.num_rows for table in tables), sum(int(weights(table).sum()) for table in tables), 0)


def first(evidence: Evidence, wanted: int) -> pa.Table | None:
    """Up to so many of the rows that compete, those of the smallest keys, in order of them; None if there are none."""
    held, taken = 0, []
    for part in range(evidence.parts):
        if held >= wanted:
            break
        if seen := list(competing(part, evidence)):
            table = pa.concat_tables(seen)
            order = np.lexsort((table["origin"].to_numpy(), table["key"].to_numpy()))[: wanted - held]
            taken.append(table.take(pa.array(order)))
            held += len(order)
    return pa.concat_tables(taken) if taken else None


# --- one number --------------------------------------------------------------------------------------------------


def scored(evidence: Evidence, map: Map, scores: Scores) -> Scored:
    """All that compete in order of a number. `scores(table)` gives what each row of a table is cut by, float64[n], the
    smallest first, and its score, float64[n], from the row alone."""
    places = {part: f"{evidence.place(part)}.scored" for part in range(evidence.parts)}
    work = partial(_score, evidence=evidence, scores=scores, places=places)
    found = dict(zip(places, map(work, places), strict=True))
    files = {part: place for part, place in places.items() if found[part].rows}
    sums = Total(*(sum(column) for column in zip(*found.values(), strict=True)))
    light = Evidence(tuple(files.values()), evidence.segments, sums.rows, evidence.verdict, _HEFT)
    return Scored(light, files, sums)


def _score(part: int, evidence: Evidence, scores: Scores, places: dict[int, str]) -> Total:
    """Write the file of one part, unless that was done before."""
    if store.exists(places[part]):
        tables = exchange.read(places[part], 0, evidence.segments)
    else:
        tables = [_said(table, *scores(table)) for table in competing(part, evidence)]
        if tables:
            every = pa.concat_tables(tables)
            segment = exchange.leading(every["key"].to_numpy(), evidence.segments)
            store.put(places[part], exchange.cut(every, segment, evidence.segments))
    return Total(*(sum(column) for column in zip(*(map(_total, tables)), strict=True))) if tables else Total(0, 0, 0)


def _said(table: pa.Table, numbers: np.ndarray, score: np.ndarray) -> pa.Table:
    steps = np.rint(numbers * STEPS)
    if not (np.abs(steps) < 2.0**62).all():  # also where it is no number
        raise DataError(f"target: a document's number is {numbers[~(np.abs(steps) < 2.0**62)][0]}; it is finite")
    more = {"weight": table["weight"]} if "weight" in table.column_names else {}
    return pa.table(
        {
            "key": table["key"],
            "row": table["row"],
            "home": table["shard"],
            "cluster": np.zeros(table.num_rows, np.int32),
            "order": (steps.astype(np.int64) ^ _MIDDLE).view(np.uint64),
            "id": table["id"],
            "origin": table["origin"],
            "score": score,
            **more,
        }
    )


def _total(table: pa.Table) -> Total:
    steps = steps_of(table)
    # In two halves, neither of which comes near 2^63.
    exact = (int((steps >> 32).sum()) << 32) + int((steps & 0xFFFFFFFF).sum())
    return Total(table.num_rows, int(weights(table).sum()), exact)


def steps_of(table: pa.Table) -> np.ndarray:
    """What rows are cut by in whole steps, int64[n]."""
    steps: np.ndarray = table["order"].to_numpy().view(np.int64) ^ _MIDDLE
    return steps


def last(found: Scored, budget: int, map: Map) -> np.ndarray | None:
    """The order, uint64[4], of the row with which the weights first reach the budget; None for a budget of nothing."""
    if budget == 0:
        return None

    def over(work: Callable[..., Any], **given: Any) -> list[Any]:
        results = map(partial(work, evidence=found.evidence, **given), range(found.evidence.parts))
        return [result for result in results if result is not None]

    one = Cut(np.zeros(1, np.int32), np.zeros(1, np.int64))
    return pruning.last(one, budget, over)


def verdict(part: int, found: Scored, last: np.ndarray | None, score: Callable[[pa.Table], np.ndarray]) -> pa.Table:
    """Of each row of a part that competes: `shard`, `row`, `score` (float32, which `score(table)` gives) and
    `targeted`. The part has rows."""
    lines = []
    for table in exchange.read(found.files[part], 0, found.evidence.segments):
        taken = np.zeros(table.num_rows, bool) if last is None else pruning.at_most(pruning.orders(table), last)
        said = score(table).astype(np.float32)
        lines.append(pa.table({"shard": table["home"], "row": table["row"], "score": said, "targeted": taken}))
    return pa.concat_tables(lines)
