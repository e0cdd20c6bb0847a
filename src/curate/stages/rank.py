"""Where each document stands in its group, 0 to 1: a score made a share of the corpus, so that a rule can keep a tenth.

A scan says the distinct levels of a shard with their counts, a part adds up those of all shards, and the whole is one
table of levels and ranks. Memory is bounded by the part and by the distinct levels of all groups, not by documents:
values are compared with 17 significant bits, some 65,000 levels for each doubling, one or two million for most scores.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curate import expressions
from curate.arrow import ascending, is_label, numbers, one, row_hashes
from curate.errors import RecipeError
from curate.stage import Evidence, Map, Stage, Verdict

_CUT = 36  # bits of a float64 that are not looked at: 16 of 52 bits of its fraction are left
_LEVEL = 64 - _CUT


@dataclass(frozen=True)
class Rank(Stage):
    """Adds `{of}_rank` (float32): of the rows of its group, the share with a smaller value, and half of those with an
    equal one (the mid-distribution rank, Parzen 2004). `quality_rank >= 0.9` keeps the best tenth of every group,
    however large, and ties stay together.

    `of`: a column of numbers. `by`: the group, a column of words or whole numbers; null is a group of its own.
    `among`: only rows for which this expression holds compete. Rows that do not compete, and rows whose value is null
    or NaN, are not counted and have no rank.

    Values are compared as float64 cut to 17 significant bits: those that agree in them share a rank, a relative
    difference below 2^-16. Integers up to 2^17 are exact, -0.0 equals 0.0, infinities stand at the ends, and what is
    positive but below 2^-1038 counts as 0.
    """

    kind: ClassVar[str] = "rank"
    of: str
    by: str | None = None
    among: str | None = None

    def __post_init__(self) -> None:
        if self.of in ("", self.by):
            raise RecipeError(f"`of` is {self.of!r}, `by` is {self.by!r}: a column of numbers, and another for groups")
        if self.among is not None:
            expressions.parse(self.among)

    @property
    def reads(self) -> tuple[str, ...]:
        extra = expressions.columns(self.among) if self.among else ()
        return tuple(dict.fromkeys((self.of, *((self.by,) if self.by else ()), *extra)))

    @property
    def adds(self) -> tuple[str, ...]:
        return (f"{self.of}_rank",)

    def scan(self, shard: pa.Table) -> pa.Table:
        compete, level, code, names = self.places(shard)
        pairs, count = np.unique((code << _LEVEL | level)[compete], return_counts=True)
        said = pa.table(
            {
                "group": pa.array([*names, None], pa.string()).take(pa.array(pairs >> _LEVEL)),
                "level": (pairs & ((1 << _LEVEL) - 1)).astype(np.uint32),
            }
        )
        return pa.table(
            {
                "key": row_hashes(said),  # all shards' counts of one level of one group meet in one part
                **{name: said[name] for name in said.column_names},
                "count": count.astype(np.int64),
                "row": np.arange(len(pairs), dtype=np.uint32),
            }
        )

    def judge(self, evidence: Evidence, map: Map) -> pa.Table:
        """`group`, `level` (uint32) and `rank` (float32) of every level, sorted by group, null last, and level."""
        sums = [table for table in map(partial(_added, evidence=evidence), range(evidence.parts)) if table is not None]
        schema = pa.schema([("group", pa.string()), ("level", pa.uint32()), ("count", pa.int64())])
        every = pa.concat_tables([schema.empty_table(), *sums])
        code, names = _codes(every["group"], every.num_rows)
        level, count = every["level"].to_numpy(), every["count"].to_numpy()
        order = np.lexsort((level, code))
        code, level, count = code[order], level[order], count[order]
        total = np.zeros(len(names) + 1, np.int64)
        np.add.at(total, code, count)
        below = np.cumsum(count) - count - (np.cumsum(total) - total)[code]
        rank = (2 * below + count) / np.maximum(2 * total[code], 1)
        group = pa.DictionaryArray.from_arrays(
            pa.array(code.astype(np.int32), mask=code == len(names)), pa.array(names, pa.string())
        )
        return pa.table({"group": group, "level": level, "rank": rank.astype(np.float32)})

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        assert verdict.whole is not None
        compete, level, code, names = self.places(shard)
        group = one(verdict.whole["group"])
        known = group.dictionary.to_pylist()
        place = {name: index for index, name in enumerate(known)} | {None: len(known)}
        code = np.array([place.get(name, -1) for name in (*names, None)], np.int64)[code]
        whole = group.indices.fill_null(len(known)).to_numpy().astype(np.int64) << _LEVEL
        whole |= verdict.whole["level"].to_numpy()
        found = np.searchsorted(whole, (code << _LEVEL | level)[compete])
        rank = np.zeros(shard.num_rows, np.float32)
        rank[compete] = verdict.whole["rank"].to_numpy()[found]
        return pa.table({self.adds[0]: pa.array(rank, mask=~compete)})

    def places(self, shard: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
        """Per row: does it compete (bool), the level of its value and the number of its group (int64, len(names) for
        null); and the groups' names."""
        value = numbers(shard[self.of], f"rank of '{self.of}'")
        compete = ~np.isnan(value)
        if self.among:
            compete &= expressions.evaluate(self.among, shard)[0]
        if self.by is None:
            return compete, levels(value), np.zeros(shard.num_rows, np.int64), []
        column = shard[self.by]
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not is_label(kind):
            raise RecipeError(f"rank by '{self.by}': it is {kind}; groups are words or whole numbers")
        return compete, levels(value), *_codes(column, shard.num_rows)


def levels(value: np.ndarray) -> np.ndarray:
    """Numbers below 2^28 (int64) in the order of float64 values, equal for those with equal 17 leading bits."""
    return (ascending(value) >> np.uint64(_CUT)).astype(np.int64)


def _added(part: int, evidence: Evidence) -> pa.Table | None:
    """The counts of one part, added up over shards."""
    seen = evidence.read(part)
    if seen is None:
        return None
    code, names = _codes(seen["group"], seen.num_rows)
    pairs, where = np.unique(code << _LEVEL | seen["level"].to_numpy().astype(np.int64), return_inverse=True)
    count = np.zeros(len(pairs), np.int64)
    np.add.at(count, where, seen["count"].to_numpy())
    group = pa.array([*names, None], pa.string()).take(pa.array(pairs >> _LEVEL))
    return pa.table({"group": group, "level": (pairs & ((1 << _LEVEL) - 1)).astype(np.uint32), "count": count})


def _codes(column: pa.ChunkedArray, rows: int) -> tuple[np.ndarray, list[str]]:
    """The number of each row's group (int64) and the groups' names, sorted; null is len(names)."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    words = one(column.cast(kind).cast(pa.string())).dictionary_encode()
    names = words.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    number = np.empty(len(names) + 1, np.int64)
    number[[*order, len(names)]] = np.arange(len(names) + 1)
    code = words.indices.fill_null(len(names)).to_numpy() if rows else np.empty(0, np.int64)
    return number[code], [names[index] for index in order]
