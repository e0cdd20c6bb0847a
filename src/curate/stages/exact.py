"""Exact duplicates: documents whose text is equal; the first in the order of the corpus survives.

`id` is a 128-bit digest of the text as it was read (`text_id`, of the text as it was rewritten), and equality of 128
bits counts as proof. Costs 16 bytes and a place per document and reads no text. Parts are cut by the leading bits of
`id`, so memory is bounded by the part, not the corpus.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from curate import expressions
from curate.arrow import halves, one
from curate.kernels.copies import first_copies, places
from curate.stage import Stage, Verdict


@dataclass(frozen=True)
class Exact(Stage):
    """Marks every later copy of a text: `duplicate`, and `duplicate_of`, the `origin` of the copy that survives.

    `among`: only rows for which this expression holds compete; the others are never duplicates. `of: text_id` compares
    the texts that a stage like `clean` left, not those that were read.
    """

    kind: ClassVar[str] = "exact"
    among: str | None = None
    of: Literal["id", "text_id"] = "id"

    def __post_init__(self) -> None:
        if self.among is not None:
            expressions.parse(self.among)

    @property
    def reads(self) -> tuple[str, ...]:
        extra = expressions.columns(self.among) if self.among else ()
        return tuple(dict.fromkeys((self.of, "origin", *extra)))

    @property
    def adds(self) -> tuple[str, ...]:
        return ("duplicate", "duplicate_of")

    @property
    def applies_to(self) -> tuple[str, ...]:
        return ()

    def scan(self, shard: pa.Table) -> pa.Table:
        high, low = halves(shard[self.of]).T
        seen = pa.table(
            {
                "key": np.ascontiguousarray(high),
                "low": np.ascontiguousarray(low),
                "origin": shard["origin"],
                "row": np.arange(shard.num_rows, dtype=np.uint32),
            }
        )
        return seen.filter(pa.array(expressions.evaluate(self.among, shard)[0])) if self.among else seen

    def decide(self, part: int, seen: pa.Table) -> pa.Table:
        first = np.empty(seen.num_rows, np.int64)
        first_copies(seen["key"].to_numpy(), seen["low"].to_numpy(), places(seen.num_rows), first)
        later = np.flatnonzero(first != np.arange(seen.num_rows))  # rows come in order of shard and row
        return pa.table(
            {
                "shard": one(seen["shard"]).take(pa.array(later)),
                "row": one(seen["row"]).take(pa.array(later)),
                "duplicate_of": one(seen["origin"]).take(pa.array(first[later])),
            }
        )

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        duplicate = np.zeros(shard.num_rows, bool)
        place = np.full(shard.num_rows, -1, np.int64)
        origins = pa.array([], pa.string())
        if verdict.lines is not None:
            rows = verdict.lines["row"].to_numpy()
            duplicate[rows] = True
            place[rows] = np.arange(len(rows))
            origins = one(verdict.lines["duplicate_of"])
        return pa.table({"duplicate": duplicate, "duplicate_of": origins.take(pa.array(place, mask=~duplicate))})

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        return {"marked": {"duplicate": int(np.count_nonzero(made["duplicate"].to_numpy()))}}
