"""Near duplicates, proposed: MinHash bands, a leader for each bucket, groups of all that hangs together.

Documents that share all values of a band of their signatures fall into one bucket; all but the leader of a bucket name
it, so a bucket costs as many edges as it has rows, however large. Nothing is removed here: chance makes such pairs,
and chains link what is not alike. `confirm` compares the texts.

A band costs some 20 bytes of disk while the run lasts. A part holds four million of them; groups take twelve bytes
for each document.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from curate import components, exchange, expressions, store
from curate.arrow import ascending, halves, large_lists, lists, numbers
from curate.errors import RecipeError, nearest
from curate.manifest import fingerprint
from curate.scopes import scoped
from curate.sketch import PRESETS, Sketch, optimal
from curate.stage import PART_ROWS, Evidence, Map, Stage, Verdict

_GROUP = np.uint64(0x67726F7570)
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_BATCH = 1 << 18
_PRESET = "fineweb"


@dataclass(frozen=True)
class Near(Stage):
    """Adds `near_group` (uint64; null for a document that is like no other), `near_leaders` and `near_known` (lists of
    uint64: the names of the documents here, and of entries of the indexes, that it shares a band with and that lead).

    The name of a document is the first 64 bits of its `id`. A group is named by its buckets, so by content alone.

    How texts are sketched: a `preset` (fineweb when nothing is said), or `bands` and `rows`, or the `threshold` and
    number of `hashes` for which the best bands and rows are taken; `ngram` (5, or the preset's), `unit` and `seed`.
    `per`: only documents with an equal value of this column are compared; null is a value of its own. `among`: only
    rows for which this expression holds compete. `keep`: who leads, the earliest, the longest (`bytes`), or the one
    with the highest number in the column `by`, null and NaN last; ties by name, then order. `against`: folders of
    indexes of documents that came before and stand before all of these; what an index has of the very files that are
    read here does not count, so a run may be added to an index that it was compared with, and run again. `indexes`:
    they as they were when the run was planned, no parameter.
    """

    kind: ClassVar[str] = "near"
    asset_fields: ClassVar[tuple[str, ...]] = ("against",)
    preset: str | None = None
    bands: int | None = None
    rows: int | None = None
    threshold: float | None = None
    hashes: int | None = None
    ngram: int | None = None
    unit: Literal["words", "characters"] = "words"
    seed: int = 1
    per: str | None = None
    among: str | None = None
    keep: Literal["earliest", "longest", "highest"] = "earliest"
    by: str | None = None
    against: tuple[str, ...] = ()
    indexes: tuple[Any, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        ways = {
            "preset": (self.preset,),
            "bands and rows": (self.bands, self.rows),
            "threshold and hashes": (self.threshold, self.hashes),
        }
        given = [way for way, values in ways.items() if any(value is not None for value in values)]
        if len(given) > 1:
            raise RecipeError(f"`{given[0]}` with `{given[1]}`: give one of {', '.join(ways)}")
        if given and None in ways[given[0]]:
            raise RecipeError(f"`{given[0].replace(' and ', '` and `')}` belong together: give both")
        if self.preset is not None and self.preset not in PRESETS:
            hint = nearest(self.preset, list(PRESETS)) or f"; there are {', '.join(PRESETS)}"
            raise RecipeError(f"no preset is called '{self.preset}'{hint}")
        for name in ("per", "by"):
            if getattr(self, name) == "":
                raise RecipeError(f"`{name}` is '': give the name of a column")
        if (self.by is None) == (self.keep == "highest"):
            raise RecipeError("`keep: highest` needs `by:`, a column of numbers, and nothing else takes it")
        if self.among is not None:
            expressions.parse(self.among)
        assert self.sketch

    @property
    def sketch(self) -> Sketch:
        """How texts are sketched."""
        if self.threshold is not None and self.hashes is not None:
            bands, rows = _best(self.threshold, self.hashes)
            base = Sketch(bands, rows)
        elif self.bands is not None and self.rows is not None:
            base = Sketch(self.bands, self.rows)
        else:
            base = PRESETS[self.preset or _PRESET]
        ngram = base.ngram if self.ngram is None else self.ngram
        return replace(base, ngram=ngram, unit=self.unit, seed=self.seed)

    @property
    def reads(self) -> tuple[str, ...]:
        extra = (self.per, self._worth, *(expressions.columns(self.among) if self.among else ()))
        return tuple(dict.fromkeys(("text", "id", *(name for name in extra if name))))

    @property
    def adds(self) -> tuple[str, ...]:
        return ("near_group", "near_leaders", "near_known")

    @property
    def applies_to(self) -> tuple[str, ...]:
        return ()

    @property
    def records(self) -> int:
        return self.sketch.bands

    @property
    def _worth(self) -> str | None:
        """The column that says who leads."""
        return {"earliest": None, "longest": "bytes", "highest": self.by}[self.keep]

    def identity(self) -> dict[str, Any]:
        """What decides the result: two ways to give one sketch are one."""
        choices = {"per": self.per, "among": self.among, "keep": self.keep, "by": self.by}
        against = [fingerprint([segment.name for segment in index.segments]) for index in self.indexes]
        parameters = {"sketch": self.sketch.identity(), **choices, "against": against}
        return {"kind": self.kind, "version": self.version, "parameters": parameters}

    def bind(self, lineage: dict[str, dict[str, Any]]) -> "Near":
        """The stage with the indexes that it names. RecipeError where one was made with other settings."""
        if not self.against:
            return self
        from curate.index import Index

        raw = {name: value for name, value in lineage.get("origin", {}).items() if name != "maker"}
        indexes = []
        for uri in self.against:
            index = Index.open(uri)
            if differences := index.differences(self.sketch, self.per):
                said = "; ".join(differences)
                raise RecipeError(f"the index {uri} was made with other settings ({said}): give near the same")
            indexes.append(index.without(fingerprint(raw)))
        bound = copy.copy(self)
        object.__setattr__(bound, "indexes", tuple(indexes))
        return bound

    def scan(self, shard: pa.Table) -> pa.Table:
        keys, speaks = self.sketch.keys(shard["text"])
        if self.among:
            speaks &= expressions.evaluate(self.among, shard)[0]
        if self.per:
            keys = scoped(keys, shard[self.per])
        row = np.flatnonzero(speaks)
        if len(row) < len(keys):
            keys = keys[row]
        name = halves(shard["id"])[:, 0]
        said: dict[str, np.ndarray] = {"row": row.astype(np.uint32), "name": name[row]}
        if self._worth:
            said["worth"] = order(shard, self._worth)[row]
        bands = keys.shape[1]
        return pa.table({"key": keys.reshape(-1), **{column: np.repeat(said[column], bands) for column in said}})

    def judge(self, evidence: Evidence, map: Map) -> None:
        if not evidence.units:
            return
        plan = _plan(evidence)
        tops = np.zeros(len(evidence.units), np.int64)
        for top in map(partial(_lead, stage=self, plan=plan), range(evidence.parts)):
            tops = np.maximum(tops, top)
        base = np.concatenate((np.zeros(1, np.int64), np.cumsum(tops)))
        edges = [f"{plan.place(part)}.edges" for part in range(evidence.parts)]
        keys = components.keys(edges, base, plan.folder, map=map)
        for _ in map(partial(_write, plan=plan, base=base, keys=keys), range(len(plan.spans) - 1)):
            pass
        store.remove(plan.folder)

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        lines = verdict.lines if verdict.lines is not None else _LINES.empty_table()
        row = lines["row"].to_numpy()
        group, alone = np.zeros(shard.num_rows, np.uint64), np.ones(shard.num_rows, bool)
        group[row], alone[row] = lines["group"].to_numpy(), False
        made = {"near_group": pa.array(group, mask=alone)}
        for column in ("leaders", "known"):
            first, names = lists(lines[column])
            counts = np.zeros(shard.num_rows, np.int64)
            counts[row] = np.diff(first)
            offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
            made[f"near_{column}"] = large_lists(offsets, names[first[0] : first[-1]])
        return pa.table(made)

    def remarks(self, text: int) -> tuple[str, ...]:
        sketch = self.sketch
        curve = ", ".join(f"{100 * chance:.1f} % at {point}" for point, chance in sketch.curve().items())
        return (f"{sketch.bands} bands of {sketch.rows} rows propose pairs by Jaccard similarity: {curve}",)

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        return {"marked": {"near_group": made.num_rows - made["near_group"].null_count}}


_LINES = pa.schema(
    [
        ("row", pa.uint32()),
        ("group", pa.uint64()),
        ("leaders", pa.large_list(pa.uint64())),
        ("known", pa.large_list(pa.uint64())),
    ]
)
_best = cache(optimal)


def order(shard: pa.Table, column: str) -> np.ndarray:
    """A column of numbers as uint64[n] in the same order (as float64), null and NaN as 0, below all others."""
    values = numbers(shard[column], f"near: '{column}', of which the highest leads,")
    return np.where(np.isnan(values), np.uint64(0), ascending(values))


@dataclass(frozen=True)
class _Plan:
    """How evidence is judged: the records of each part, and borders of runs of shards whose verdicts are one file."""

    evidence: Evidence
    records: tuple[int, ...]
    spans: tuple[int, ...]

    @property
    def folder(self) -> str:
        """Where what is made on the way goes, and is gone in the end."""
        return store.join(self.evidence.verdict, "edges")

    def place(self, part: int) -> str:
        """The names of a part's files begin so. Another count of parts would cut them at other places."""
        return store.join(self.folder, f"{len(self.records):04d}-{part:04d}")


def _plan(evidence: Evidence) -> _Plan:
    """A run of shards says a part's worth of records, or is one shard."""
    borders, held = [0], 0
    total = np.zeros(evidence.segments, np.int64)
    for shard, uri in enumerate(evidence.units):
        rows = exchange.index(uri).rows.astype(np.int64)
        said = int(rows.sum())
        if held and held + said > PART_ROWS:
            borders.append(shard)
            held = 0
        held += said
        total += rows
    records = total.reshape(evidence.parts, -1).sum(axis=1)
    return _Plan(evidence, tuple(records.tolist()), (*borders, len(evidence.units)))


_NAMED = pa.schema([("shard", pa.uint32()), ("row", pa.uint32()), ("name", pa.uint64()), ("known", pa.bool_())])


def _lead(part: int, stage: Near, plan: _Plan) -> np.ndarray:
    """Write the edges of one part, and per row the names of its leaders, cut by span. Gives back, for each shard, the
    last row of it that has an edge, and 1."""
    place = plan.place(part)
    # All three: an end of the run while these files were being removed may have left any of them.
    if not all(store.exists(f"{place}.{kind}") for kind in ("edges", "cut", "tops")):
        tops = np.zeros(len(plan.evidence.units), np.int64)
        lines = [_NAMED.empty_table()]
        with store.writing(f"{place}.edges") as file:
            for edges, named in _edges(part, stage, plan):
                ends = edges[:, :2].reshape(-1)
                np.maximum.at(tops, (ends >> _HALF).astype(np.int64), (ends & _LOW).astype(np.int64) + 1)
                file.write(components.packed(edges))
                lines.append(named)
        table = pa.concat_tables(lines)
        span = np.searchsorted(plan.spans, table["shard"].to_numpy(), "right") - 1
        store.put(f"{place}.cut", exchange.cut(table, span, len(plan.spans) - 1))
        store.put(f"{place}.tops", tops.tobytes())
    return np.frombuffer(store.read(f"{place}.tops"), np.int64)


class _Buckets:
    """The buckets of one part, and who leads each: worth, name, and place (shard * 2^32 + row)."""

    def __init__(self, records: int, keep: str) -> None:
        from curate.kernels.buckets import lead_best, lead_first, places

        self.count = 0
        self.table, self.lead = places(records), lead_first if keep == "earliest" else lead_best
        # Room for as many as there may be; what is not used stays untouched and takes no memory.
        self.keys, self.leaders = np.empty(records, np.uint64), np.empty((records, 3), np.uint64)

    def meet(self, seen: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Take in records: the bucket of each, int32[n], and what each is, uint64[n, 3]."""
        from curate.kernels.buckets import find

        bucket = np.empty(seen.num_rows, np.int32)
        rows = np.zeros((seen.num_rows, 3), np.uint64)
        if "worth" in seen.column_names:
            rows[:, 0] = seen["worth"].to_numpy()
        rows[:, 1] = seen["name"].to_numpy()
        rows[:, 2] = seen["shard"].to_numpy().astype(np.uint64) << _HALF | seen["row"].to_numpy()
        count = find(seen["key"].to_numpy(), self.table, self.keys, self.count, bucket)
        self.lead(bucket, rows, self.count, self.leaders)
        self.count = count
        return bucket, rows

    def known(self, index: Any) -> tuple[np.ndarray, np.ndarray]:
        """For each bucket the name of the entry of an index that has its key, uint64, and whether one has it."""
        keys = self.keys[: self.count]
        order = np.argsort(keys)
        names, found = np.empty(len(keys), np.uint64), np.empty(len(keys), bool)
        names[order], found[order] = index.known(keys[order])
        return names, found


def _edges(part: int, stage: Near, plan: _Plan) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """Edges uint64[m, 3] from row to leader of each bucket, with its key; and the names of leaders (`_NAMED`).

    A row with its leader's name needs no more than the edge: `confirm` takes namesakes for candidates. An index entry
    is no row: a leader whose bucket it has gets an edge to itself.
    """
    from curate.kernels.buckets import led

    buckets = _Buckets(plan.records[part], stage.keep)
    if stage.keep != "earliest" or stage.against:  # only when all are seen it is known who leads
        for seen in _batches(plan.evidence, part):
            buckets.meet(seen)
    known = [buckets.known(index) for index in stage.indexes]
    for seen in _batches(plan.evidence, part):
        bucket, rows = buckets.meet(seen)
        room = np.empty(len(bucket), np.int64)
        member = room[: led(bucket, rows, buckets.leaders, room)]
        name = buckets.leaders[bucket[member], 1]
        other = rows[member, 1] != name
        at, lines = [member], [_lines(rows[member[other]], name[other], False)]
        for names, found in known:
            at.append(np.flatnonzero(found[bucket]))
            lines.append(_lines(rows[at[-1]], names[bucket[at[-1]]], True))
        every = np.unique(np.concatenate(at)) if known else member
        edges = np.empty((len(every), 3), np.uint64)
        edges[:, 0], edges[:, 1] = rows[every, 2], buckets.leaders[bucket[every], 2]
        edges[:, 2] = np.minimum(buckets.keys[bucket[every]], components.NONE - np.uint64(1))
        yield edges, pa.concat_tables(lines)


def _lines(rows: np.ndarray, names: np.ndarray, known: bool) -> pa.Table:
    shard, row = (rows[:, 2] >> _HALF).astype(np.uint32), (rows[:, 2] & _LOW).astype(np.uint32)
    return pa.table([shard, row, names, np.full(len(rows), known)], schema=_NAMED)


def _batches(evidence: Evidence, part: int) -> Iterator[pa.Table]:
    """The records of a part in order, some at a time: a shard alone may have few."""
    held: list[pa.Table] = []
    rows = 0
    for table in evidence.tables(part):
        held.append(table)
        rows += table.num_rows
        if rows >= _BATCH:
            yield pa.concat_tables(held)
            held, rows = [], 0
    if held:
        yield pa.concat_tables(held)


def _write(span: int, plan: _Plan, base: np.ndarray, keys: str) -> None:
    """The verdict of a run of shards: a line for every row that has a group."""
    uri = store.join(plan.evidence.verdict, f"{len(plan.spans) - 1:04d}-{span:04d}.cut")
    if store.exists(uri):
        return
    first, last = plan.spans[span : span + 2]
    key = components.read_keys(keys, int(base[first]), int(base[last]))
    node = np.flatnonzero(key != components.NONE)
    tables = [_NAMED.empty_table()]
    for part in range(plan.evidence.parts):
        tables += exchange.read(f"{plan.place(part)}.cut", span, span + 1)
    lines = pa.concat_tables(tables)
    number = np.cumsum(key != components.NONE) - 1
    at = number[base[lines["shard"].to_numpy()] + lines["row"].to_numpy() - base[first]]
    known = lines["known"].to_numpy()
    shard = np.repeat(np.arange(first, last), np.diff(base[first : last + 1]))[node]
    made: dict[str, np.ndarray | pa.Array] = {
        "row": (node + base[first] - base[shard]).astype(np.uint32),
        "group": _mixed(key[node]),
        "leaders": _lists(at[~known], lines["name"].to_numpy()[~known], len(node)),
        "known": _lists(at[known], lines["name"].to_numpy()[known], len(node)),
    }
    store.put(uri, exchange.cut(pa.table(made, schema=_LINES), shard, len(plan.evidence.units)))


def _mixed(keys: np.ndarray) -> np.ndarray:
    from curate.kernels.hash import keyed

    out = np.empty(len(keys), np.uint64)
    keyed(_GROUP, keys, out)
    return out


def _lists(row: np.ndarray, names: np.ndarray, rows: int) -> pa.Array:
    """The distinct names of each row, sorted."""
    from curate.kernels.buckets import sets

    first = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.bincount(row, minlength=rows))))
    out = np.empty(len(names), np.uint64)
    sets(row, names, first, out)
    return large_lists(first, out[: first[-1]])
