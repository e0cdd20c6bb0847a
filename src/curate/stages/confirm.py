"""Near duplicates proved: of the candidates that `near` proposed, those that are as alike as is asked for.

What was proposed by hashes is measured on the sets of shingles themselves, so a document goes only if it is as alike
as the recipe says to one that stays, whichever group it was in. A shard sends the set of each text that has
candidates, about half the size of the text; all of a group meets in one part, and is decided there. Equal texts count
as one. The catch: what `near` did not propose is never looked at, and shingles are told apart by 32 bits, so two of a
text of a thousand are taken for one in every eight thousand texts.
"""

import copy
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import exchange, expressions, store
from curate.arrow import Column, binary, fixed, halves, numbers, one, utf8
from curate.errors import DataError, RecipeError, nearest
from curate.kernels.copies import first_copies, places
from curate.kernels.hash import keyed, xxh3_128
from curate.proof import Measure, refuse_other_indexes
from curate.sketch import Sketch
from curate.stage import Evidence, Map, Stage, Verdict
from curate.survival import Part, decide

_GROUP = np.uint64(0x6E6561725F677270)  # "near_grp": the seed by which groups become keys


@dataclass(frozen=True)
class Confirm(Stage):
    """Adds `near_duplicate`; `near_duplicate_of`, the origin of the document that it goes against; `near_similarity`;
    and `near_cluster_size`, the rows that confirmed pairs connect it with, itself among them.

    One of `jaccard` and `containment` is the least share at which a pair counts: of the shingles in either text, or of
    those of the text that would go. `jaccard: 0` takes every candidate as it is. Documents survive in the order that
    `near` has (`keep`), and a document goes only if such a pair joins it to one that stays. `transitive: true`: all go
    that any chain of pairs connects with the best, however little alike. `verify: sketch`: share of equal values of the
    signatures in place of the sets, a sixth of what is sent, with an error of some 1 / sqrt(hashes).

    `exempt`: rows for which this expression holds never go and come first in the order. `max_removed`: source to the
    largest share of its rows that may go; above it the run stops with the numbers. `of`: the prefix of the `near`
    columns, where that step was given a name.

    Known documents (`against` of `near`) come before all rows: of several that a row is confirmed against, the one of
    the first index, and in it the one with the smallest id. Copies of a text that stays go against the first of them.
    """

    kind: ClassVar[str] = "confirm"
    jaccard: float | None = None
    containment: float | None = None
    verify: Literal["exact", "sketch"] = "exact"
    transitive: bool = False
    exempt: str | None = None
    max_removed: dict[str, float] | None = None
    of: str = ""
    sketch: Sketch | None = field(default=None, init=False)
    order: str = field(default="earliest", init=False)
    by: str | None = field(default=None, init=False)
    indexes: tuple[Any, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        if (self.jaccard is None) == (self.containment is None):
            raise RecipeError("give `jaccard` or `containment`, and not both: the least share that counts")
        if self.measure.kind == "containment" and self.verify == "sketch":
            raise RecipeError("signatures tell nothing of `containment`; use `verify: exact`")
        if self.exempt is not None:
            expressions.parse(self.exempt)
        for source, share in (self.max_removed or {}).items():
            if not 0 <= share <= 1:
                raise RecipeError(f"`max_removed` of '{source}' is {share}; it is a share from 0 to 1")

    @property
    def measure(self) -> Measure:
        """What is measured, and from where on it counts."""
        if self.containment is not None:
            return Measure("containment", self.containment)
        assert self.jaccard is not None
        return Measure("jaccard" if self.verify == "exact" else "agreement", self.jaccard)

    def bind(self, lineage: dict[str, dict[str, Any]]) -> "Confirm":
        """The stage with the sketch, the order and the indexes of the `near` step whose candidates it looks at."""
        near = lineage[f"{self.of}near_group"].get("maker")
        if near is None or not isinstance(getattr(near, "sketch", None), Sketch):
            raise RecipeError(f"`{self.of}near_group` was not made by `near`; it looks at what `near` proposed")
        by = {"longest": "bytes", "highest": near.by}.get(near.keep)
        if by is not None and by not in lineage:
            raise RecipeError(f"`near` keeps the {near.keep} by '{by}', which is gone; `carry` it along")
        refuse_other_indexes(near.indexes, self.verify)
        bound = copy.copy(self)
        told = {"sketch": near.sketch, "order": near.keep, "by": by, "indexes": near.indexes}
        for name, value in told.items():
            object.__setattr__(bound, name, value)
        return bound

    def identity(self) -> dict[str, Any]:
        """Without what `near` was told: that is in the identity of its columns."""
        parameters = asdict(self)
        for name in ("sketch", "order", "by", "indexes"):
            del parameters[name]
        return {"kind": self.kind, "version": self.version, "parameters": parameters}

    @property
    def reads(self) -> tuple[str, ...]:
        near = (f"{self.of}near_{name}" for name in ("group", "leaders", "known"))
        more = (*((self.by,) if self.by else ()), *(expressions.columns(self.exempt) if self.exempt else ()))
        return tuple(dict.fromkeys(("text", "id", "origin", *near, *more, *(("source",) if self.max_removed else ()))))

    @property
    def adds(self) -> tuple[str, ...]:
        return ("near_duplicate", "near_duplicate_of", "near_similarity", "near_cluster_size")

    @property
    def applies_to(self) -> tuple[str, ...]:
        return ()

    @property
    def heft(self) -> int:
        return 64

    def scan(self, shard: pa.Table) -> pa.Table:
        """One record for every row with a group, and for every source its rows, if they are to be watched."""
        group = one(shard[f"{self.of}near_group"])
        row = np.flatnonzero(group.is_valid().to_numpy(zero_copy_only=False))
        key = np.empty(len(row), np.uint64)
        keyed(_GROUP, np.array(group.take(pa.array(row)), np.uint64), key)
        seen = shard.take(pa.array(row))
        columns: dict[str, Any] = {
            "key": key,
            "row": row.astype(np.uint32),
            "id": one(seen["id"]),
            "origin": one(seen["origin"]).cast(pa.string()),
            "leaders": one(seen[f"{self.of}near_leaders"]),
            **self._texts(seen, key),
        }
        if self.indexes:
            columns["known"] = one(seen[f"{self.of}near_known"])
        if self.by:
            columns["worth"] = numbers(seen[self.by], f"confirm: '{self.by}'")
        if self.exempt:
            columns["exempt"] = expressions.evaluate(self.exempt, seen)[0]
        if self.max_removed:
            columns["source"] = one(seen["source"].cast(pa.string()))
            columns["rows"] = np.zeros(len(row), np.int64)
            return pa.concat_tables([pa.table(columns), _source_rows(shard["source"], pa.table(columns).schema)])
        return pa.table(columns)

    def _texts(self, seen: pa.Table, key: np.ndarray) -> dict[str, Any]:
        """The digest of each text, zeros where it is the row's `id`, and the body of each, once in a group."""
        assert self.sketch is not None, "confirm was not bound to the near step"
        digests = np.empty((seen.num_rows, 16), np.uint8)
        xxh3_128(*utf8(seen["text"]), digests)
        high, low = halves(digests).T
        first = np.empty(seen.num_rows, np.int64)
        first_copies(high ^ key, np.ascontiguousarray(low), places(seen.num_rows), first)
        new = first == np.arange(seen.num_rows)
        offsets, data = self.measure.body(seen["text"].filter(pa.array(new)), self.sketch)
        sizes = np.zeros(seen.num_rows + 1, np.int64)
        sizes[1:][new] = np.diff(offsets)
        held = [pa.array(new).buffers()[1], pa.py_buffer(np.cumsum(sizes)), pa.py_buffer(data)]
        body = pa.Array.from_buffers(pa.large_binary(), seen.num_rows, held)  # null: sent with an earlier row
        digests[(digests == fixed(seen["id"])).all(axis=1)] = 0
        return {"digest": binary(digests), "body": body}

    def judge(self, evidence: Evidence, map: Map) -> None:
        """Parts one by one; then, if sources are watched, what goes of each."""
        rows = self._rows_of_sources(evidence) if self.max_removed else {}
        gone: dict[str, int] = {}
        for removed in map(partial(_judge_part, stage=self, evidence=evidence), range(evidence.parts)):
            for source, count in removed.items():
                gone[source] = gone.get(source, 0) + count
        if self.max_removed:
            refuse_too_many(gone, rows, self.max_removed)

    def _rows_of_sources(self, evidence: Evidence) -> dict[str, int]:
        rows: dict[str, int] = {}
        for table in evidence.tables(0):
            told = table.select(["source", "rows"]).filter(pc.greater(table["rows"], 0))
            for source, count in zip(*(told[name].to_pylist() for name in ("source", "rows")), strict=True):
                rows[source] = rows.get(source, 0) + count
        for source in self.max_removed or {}:
            if source not in rows:
                hint = nearest(source, list(rows)) or "; sources are " + ", ".join(sorted(rows))
                raise RecipeError(f"confirm: `max_removed` names '{source}', of which there are no documents{hint}")
        return rows

    def lines(self, part: int, evidence: Evidence) -> pa.Table | None:
        """The verdict of one part: `shard`, `row`, the added columns and, if watched, `source`, of every row that is
        alike to another. None when the part has no rows."""
        tables, carriers, sizes, start = [], [], [], 0
        for table in evidence.tables(part):
            body = one(table["body"])
            spoke = table["rows"].to_numpy() == 0 if self.max_removed else np.ones(len(body), bool)
            rows = pa.array(np.flatnonzero(spoke))
            # A copy: views would hold on to the bodies.
            tables.append(table.drop_columns(["body"]).take(rows))
            carries = body.is_valid().to_numpy(zero_copy_only=False)
            carriers.append(np.where(carries, start + np.arange(len(body)), -1)[spoke])
            sizes.append(self.measure.sizes(body)[spoke])
            start += len(body)
        if not sum(table.num_rows for table in tables):
            return None
        seen = pa.concat_tables(tables).combine_chunks()
        del tables
        bodies = np.concatenate(carriers), np.concatenate(sizes)
        return decide(Part.of(seen, bodies, evidence, part), self.measure, self.indexes, transitive=self.transitive)

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        duplicate, size = np.zeros(shard.num_rows, bool), np.ones(shard.num_rows, np.int32)
        place = np.full(shard.num_rows, -1, np.int64)
        origins, likeness = pa.array([], pa.string()), pa.array([], pa.float32())
        if verdict.lines is not None:
            row = verdict.lines["row"].to_numpy()
            duplicate[row] = verdict.lines["near_duplicate"].to_numpy(zero_copy_only=False)
            size[row] = verdict.lines["near_cluster_size"].to_numpy()
            place[row] = np.arange(len(row))
            origins, likeness = one(verdict.lines["near_duplicate_of"]), one(verdict.lines["near_similarity"])
        where = pa.array(place, mask=~duplicate)
        made = (duplicate, origins.take(where), likeness.take(where), size)
        return pa.table(dict(zip(self.adds, made, strict=True)))

    def remarks(self, text: int) -> tuple[str, ...]:
        if self.measure.kind == "agreement":
            assert self.sketch is not None
            return (f"a text that has candidates sends its signature, {4 * self.sketch.hashes:,} bytes",)
        most = f"{0.7 * text / 1e6:,.0f} MB"
        return (f"texts that have candidates send about half their bytes: at most {most}, if all have some",)

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        return {"marked": {"near_duplicate": int(np.count_nonzero(made["near_duplicate"].to_numpy()))}}


def _judge_part(part: int, stage: Confirm, evidence: Evidence) -> dict[str, int]:
    """Keep the verdict of one part, unless that was done before; what goes of each source, if sources are watched."""
    uri = evidence.place(part)
    if not store.exists(uri):
        lines = stage.lines(part, evidence)
        if lines is None:
            return {}
        evidence.keep(part, lines)
    removed: dict[str, int] = {}
    for shard in range(len(evidence.units) if stage.max_removed else 0):
        for table in exchange.read(uri, shard, shard + 1):
            gone = table["source"].filter(table["near_duplicate"]).value_counts()
            for source, count in zip(gone.field("values").to_pylist(), gone.field("counts").to_pylist(), strict=True):
                removed[source] = removed.get(source, 0) + count
    return removed


def refuse_too_many(gone: dict[str, int], rows: dict[str, int], allowed: dict[str, float]) -> None:
    """DataError with the numbers of every source of which more rows would go than is allowed."""
    above = []
    for source, share in sorted(allowed.items()):
        count, whole = gone.get(source, 0), rows[source]
        if count > Fraction(str(share)) * whole:
            found = f"{source}: {count:,} of {whole:,} rows ({100 * count / whole:.1f} %) would go"
            above.append(f"{found}, max_removed allows {100 * share:.1f} %")
    if above:
        raise DataError(f"confirm: {'; '.join(above)}; nothing was removed")


def _source_rows(sources: Column, schema: pa.Schema) -> pa.Table:
    """Records that say how many rows of each source a shard has; all go to the first part."""
    told = sources.cast(pa.string()).value_counts() if len(sources) else None
    names = pa.array([], pa.string()) if told is None else told.field("values")
    count = pa.array([], pa.int64()) if told is None else told.field("counts").cast(pa.int64())
    empty = {
        "key": pa.array(np.zeros(len(names), np.uint64)),
        "row": pa.array(np.zeros(len(names), np.uint32)),
        "id": binary(np.zeros((len(names), 16), np.uint8)),
        "digest": binary(np.zeros((len(names), 16), np.uint8)),
        "source": names,
        "rows": count,
    }
    columns = [empty.get(name, pa.nulls(len(names), schema.field(name).type)) for name in schema.names]
    return pa.table(columns, schema=schema)
