"""Documents that a rule dropped beside documents that were kept, nearest to the border first.

A border is where a rule's column parts the two: the range of its values where the rule held, or where it did not.
Numbers are gone over twice, one shard at a time; text is read of the shards of the few documents that are shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import expressions
from curate.arrow import halves
from curate.selection import Selection, is_number, numbers, ruled

_SHOWN = 240
_BESIDE = {
    "semantic_duplicate": ("semantic_of", "semantic_similarity"),
    "near_duplicate": ("near_duplicate_of", "near_similarity"),
    "duplicate": ("duplicate_of",),
    "pruned": ("prune_rank",),
    "targeted": ("target_score",),
}
"""Columns to show beside one whose name ends so, in place of that end: the first end that fits counts."""


@dataclass(frozen=True)
class Border:
    """`column` parts the sides: side `inside` (0 dropped, 1 held) lies from `low` to `high`, the other beyond."""

    column: str
    inside: int
    low: float
    high: float

    def distance(self, values: np.ndarray, side: int) -> np.ndarray:
        """How far each value is from an end; infinite for null and NaN, and for the other side between the ends."""
        to_low, to_high = (np.where(values == end, 0.0, np.abs(values - end)) for end in (self.low, self.high))
        if side != self.inside:
            to_low = np.where(values < self.low, to_low, np.inf)
            to_high = np.where(values > self.high, to_high, np.inf)
        return np.nan_to_num(np.minimum(to_low, to_high), nan=np.inf, posinf=np.inf)


class Found(NamedTuple):
    """A row: distance to the border, the leading bits of its id (equal distances go by them), shard, row."""

    distance: float
    key: int
    shard: int
    row: int


def look(out: str, *, rule: str, n: int = 5, stage: str | None = None) -> dict[str, Any]:
    """The `n` documents nearest to the border on either side of a rule of the step `stage` (the one that has the rule).

    `rule` is a name as the column `rule` has it: `long_enough`, `gopher_quality.stop_words` (or `stop_words`, if that
    is no other's), or one of these with `:unknown`. `dropped` are documents that it dropped, `held` those for which it
    held and that the step kept; where it kept none, those that another rule dropped (`dropped_by`). `documents` counts
    the rows on each side, and those `kept`. `by` is the column whose values part them: the first of the rule's numbers
    that does; without one, documents come in the order of their ids. RecipeError for a rule that no step has.
    """
    bare, unknown = (rule.removesuffix(":unknown"), ":unknown") if rule.endswith(":unknown") else (rule, "")
    step, (bare,) = ruled(out, (bare,), stage)
    rule = bare + unknown
    expression = step.conditions[bare]
    names = expressions.columns(expression)
    border = None if unknown else _border(step, rule, expression)
    counts, (dropped, kept, others) = _nearest(step, rule, expression, border, n)
    names = (*names, *_beside(step, names))
    return {
        "run": out,
        "stage": step.name,
        "rule": rule,
        "expression": expression,
        "by": border.column if border else None,
        "documents": {"dropped": counts[0], "held": counts[1] + counts[2], "kept": counts[1]},
        "dropped": _told(step, dropped, names),
        "held": _told(step, kept or others, names),
    }


def _beside(step: Selection, names: tuple[str, ...]) -> Iterator[str]:
    """Columns that say more of a mark: of a duplicate what it is one of, and how alike they are; of what was pruned or
    chosen for a target, the number by which it was."""
    for name in names:
        mark = next((mark for mark in _BESIDE if name.endswith(mark)), "")
        beside = (name.removesuffix(mark) + end for end in _BESIDE.get(mark, ()))
        yield from (other for other in beside if other in step.columns and other not in names)


def _sides(step: Selection, rule: str, expression: str, more: tuple[str, ...]) -> Iterator[tuple[pa.Table, Any]]:
    """Each shard's columns with the rows of both sides: dropped by the rule, and those for which it held."""
    for table in step.tables((*expressions.columns(expression), *more)):
        dropped = pc.fill_null(pc.equal(table["rule"].cast(pa.string()), rule), False).to_numpy()
        yield table, (dropped, expressions.evaluate(expression, table)[0])


def _border(step: Selection, rule: str, expression: str) -> Border | None:
    """The border of the first column that parts the sides."""
    named = [name for name in expressions.columns(expression) if is_number(step.columns.get(name, ""))]
    ends = np.tile([np.inf, -np.inf], (len(named), 2, 1))  # per column and side: smallest and largest value
    counts = np.zeros(2, np.int64)
    for table, sides in _sides(step, rule, expression, ()):
        for side, mask in enumerate(sides):
            counts[side] += np.count_nonzero(mask)
            for index, name in enumerate(named):
                values = numbers(table[name])[mask]
                low, high = ends[index, side]
                ends[index, side] = np.fmin.reduce(values, initial=low), np.fmax.reduce(values, initial=high)
    within = np.zeros((len(named), 2), np.int64)  # rows of one side in the other's range
    beyond = np.zeros((len(named), 2), np.int64)
    for table, sides in _sides(step, rule, expression, ()):
        for index, name in enumerate(named):
            values = numbers(table[name])
            for side, mask in enumerate(sides):
                low, high = ends[index, 1 - side]
                within[index, side] += np.count_nonzero(mask & (values >= low) & (values <= high))
                beyond[index, side] += np.count_nonzero(mask & ((values < low) | (values > high)))
    for index, name in enumerate(named):
        for side in (0, 1):  # dropped rows beyond the range of those that held, or the other way round
            parted = not within[index, side] or len(named) == 1
            if beyond[index, side] and parted and counts.all():
                return Border(name, 1 - side, *_ends(ends[index, side], ends[index, 1 - side]))
    return None


def _ends(outer: np.ndarray, inner: np.ndarray) -> tuple[float, float]:
    """The ends of the inner range beyond which the other side lies; an end that nobody is beyond is at infinity."""
    low = float(inner[0]) if outer[0] < inner[0] else -np.inf
    high = float(inner[1]) if outer[1] > inner[1] else np.inf
    return low, high


def _nearest(
    step: Selection, rule: str, expression: str, border: Border | None, n: int
) -> tuple[list[int], list[list[Found]]]:
    """How many rows the rule dropped, held for and the step kept, held for and another rule dropped; the nearest."""
    counts = [0, 0, 0]
    best: list[list[Found]] = [[], [], []]
    for shard, (table, (dropped, held)) in enumerate(_sides(step, rule, expression, ("id",))):
        key = halves(table["id"])[:, 0]
        kept = table["rule"].is_null().to_numpy()
        for group, mask in enumerate((dropped, held & kept, held & ~kept)):
            rows = np.flatnonzero(mask)
            counts[group] += len(rows)
            far = np.full(len(rows), np.inf)
            if border:
                far = border.distance(numbers(table[border.column])[rows], min(group, 1))
            order = np.lexsort((key[rows], far))[:n]
            found = [Found(float(far[i]), int(key[rows[i]]), shard, int(rows[i])) for i in order]
            best[group] = sorted([*best[group], *found])[:n]
    return counts, best


def _told(step: Selection, found: list[Found], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The documents at these places, in their order."""
    told = []
    rows: dict[int, Iterator[dict[str, Any]]] = {}
    for shard in sorted({place.shard for place in found}):
        table = step.table(shard, ("id", "origin", "source", "text", *names))
        table = table.take(pa.array([place.row for place in found if place.shard == shard]))
        rows[shard] = iter(table.to_pylist())
    for place in found:
        row = next(rows[place.shard])  # those of one shard come in the order of `found`
        text = row["text"]
        told.append(
            {
                "origin": row["origin"],
                "id": row["id"].hex(),
                "source": row["source"],
                "dropped_by": row["rule"],
                "distance": place.distance if np.isfinite(place.distance) else None,
                "columns": {name: row[name] for name in names if name != "text"},
                "text": text if len(text) <= _SHOWN else text[:_SHOWN] + "…",
            }
        )
    return told
