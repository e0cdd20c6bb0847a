"""Near duplicates, proposed: MinHash bands, a leader for each bucket, groups of all that hangs together.

Documents that share all values of a band of their signatures fall into one bucket; all but the leader of a bucket name
it, so a bucket costs as many edges as it has rows, however large. Nothing is removed here: chance makes such pairs,
and chains link what is not alike. `confirm` compares the texts.

A band costs some 20 bytes of disk while the run lasts. A part holds four million of them; groups take twelve bytes
for each document.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from curate import components, exchange, expressions, store
from curate.arrow import fixed, large_lists, lists, one
from curate.errors import RecipeError, nearest
from curate.scopes import scoped
from curate.sketch import PRESETS, Sketch, optimal
from curate.stage import PART_ROWS, Evidence, Map, Stage, Verdict

_GROUP = np.uint64(0x67726F7570)
_SIGN = np.uint64(1 << 63)
_LOW = np.uint64(0xFFFFFFFF)
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
    indexes of documents that came before and stand before all of these.
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
            raise RecipeError(f"`{given[0]}` belong together: give both")
        if self.preset is not None and self.preset not in PRESETS:
            hint = nearest(self.preset, list(PRESETS)) or f"; there are {', '.join(PRESETS)}"
            raise RecipeError(f"no preset is called '{self.preset}'{hint}")
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
        parameters = {"sketch": self.sketch.identity(), **choices}
        return {"kind": self.kind, "version": self.version, "parameters": parameters}

    def bind(self, lineage: dict[str, dict[str, Any]]) -> "Near":
        """The stage itself. RecipeError where an index of `against` was made with other settings."""
        if self.against:
            from curate.index import Index

            for uri in self.against:
                if differences := Index.open(uri).differences(self.sketch, self.per):
                    said = "; ".join(differences)
                    raise RecipeError(f"the index {uri} was made with other settings ({said}): give near the same")
        return self

    def scan(self, shard: pa.Table) -> pa.Table:
        keys, speaks = self.sketch.keys(shard["text"])
        if self.among:
            speaks &= expressions.evaluate(self.among, shard)[0]
        if self.per:
            keys = scoped(keys, shard[self.per])
        row = np.flatnonzero(speaks)
        if len(row) < len(keys):
            keys = keys[row]
        name = np.ascontiguousarray(fixed(shard["id"])[:, :8]).view(">u8").astype(np.uint64).reshape(-1)
        said: dict[str, np.ndarray] = {"row": row.astype(np.uint32), "name": name[row]}
        if self._worth:
            said["worth"] = order(shard, self._worth)[row]
        bands = keys.shape[1]
        return pa.table({"key": keys.reshape(-1), **{column: np.repeat(said[column], bands) for column in said}})

    def judge(self, evidence: Evidence, map: Map) -> None:
        if not evidence.units:
            return
        folder = store.join(evidence.verdict, "edges")
        spans = _spans(evidence)
        tops = np.zeros(len(evidence.units), np.int64)
        lead = partial(_lead, stage=self, evidence=evidence, spans=spans, folder=folder)
        for top in map(lead, range(evidence.parts)):
            tops = np.maximum(tops, top)
        base = np.concatenate((np.zeros(1, np.int64), np.cumsum(tops)))
        edges = [f"{_part(folder, evidence, part)}.edges" for part in range(evidence.parts)]
        keys = components.keys(edges, base, folder, map=map)
        for _ in map(partial(_write, evidence=evidence, spans=spans, base=base, keys=keys), range(len(spans) - 1)):
            pass
        store.remove(folder)

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
    values = one(shard[column])
    kind = values.type
    if pa.types.is_null(kind):
        return np.zeros(len(values), np.uint64)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise RecipeError(f"near: `by` names '{column}', which is {kind}; the highest is one of numbers")
    empty = values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    numbers = (values.fill_null(0) if values.null_count else values).to_numpy(zero_copy_only=False)
    bits = (numbers.astype(np.float64) + 0.0).view(np.uint64)  # -0.0 + 0.0 is 0.0
    return np.where(empty, np.uint64(0), np.where(bits & _SIGN, ~bits, bits | _SIGN))


def _spans(evidence: Evidence) -> list[int]:
    """Borders of runs of shards that say a part's worth of records, or are one shard: verdicts are written by run."""
    borders, held = [0], 0
    for shard, uri in enumerate(evidence.units):
        said = int(exchange.index(uri).rows.sum())
        if held and held + said > PART_ROWS:
            borders.append(shard)
            held = 0
        held += said
    return [*borders, len(evidence.units)]


def _part(folder: str, evidence: Evidence, part: int) -> str:
    # Parts of another count would cut the rows at other places, so the count is in the name.
    return store.join(folder, f"{evidence.parts:04d}-{part:04d}")


def _lead(part: int, stage: Near, evidence: Evidence, spans: Sequence[int], folder: str) -> np.ndarray:
    """Write the edges of one part, and per row the names of its leaders, cut by span. Gives back, for each shard, the
    last row of it that has an edge, and 1."""
    place = _part(folder, evidence, part)
    if not store.exists(f"{place}.tops"):
        seen = evidence.read(part)
        tops = np.zeros(len(evidence.units), np.int64)
        edges, lines = np.empty((0, 3), np.uint64), _NAMED.empty_table()
        if seen is not None:
            edges, lines = _edges(seen, stage)
            ends = edges[:, :2].reshape(-1)
            np.maximum.at(tops, (ends >> np.uint64(32)).astype(np.int64), (ends & _LOW).astype(np.int64) + 1)
        span = np.searchsorted(spans, lines["shard"].to_numpy(), "right") - 1
        store.put(f"{place}.cut", exchange.cut(lines, span, len(spans) - 1))
        components.put(f"{place}.edges", edges)
        store.put(f"{place}.tops", tops.tobytes())
    return np.frombuffer(store.read(f"{place}.tops"), np.int64)


_NAMED = pa.schema([("shard", pa.uint32()), ("row", pa.uint32()), ("name", pa.uint64()), ("known", pa.bool_())])


def _edges(seen: pa.Table, stage: Near) -> tuple[np.ndarray, pa.Table]:
    """Edges uint64[m, 3] from row to leader of each bucket, with its key; and the names of leaders (`_NAMED`).

    A row with its leader's name has the leader's text: the edge is enough. An index entry is no row: its edge leads
    from the row to itself.
    """
    from curate.kernels.buckets import best_of_each, heads, places

    key, name = seen["key"].to_numpy(), seen["name"].to_numpy()
    leader = np.empty(len(key), np.int32)
    heads(key, places(len(key)), leader)
    if "worth" in seen.column_names:
        best_of_each(leader, seen["worth"].to_numpy(), name, np.empty(len(key), np.int32))
    shard, row = seen["shard"].to_numpy(), seen["row"].to_numpy()
    member = np.flatnonzero(leader != np.arange(len(key), dtype=np.int32))
    led = leader[member]
    other = name[member] != name[led]
    pairs = [(member, led)]
    named = [(member[other], name[led[other]], False)]
    for at, names in _known(key, leader, stage.against):
        pairs.append((at, at))
        named.append((at, names, True))
    edges = np.empty((sum(len(a) for a, _ in pairs), 3), np.uint64)
    start = 0
    for pair in pairs:
        stop = start + len(pair[0])
        for side, end in enumerate(pair):
            edges[start:stop, side] = shard[end].astype(np.uint64) << np.uint64(32) | row[end]
        edges[start:stop, 2] = np.minimum(key[pair[0]], components.NONE - np.uint64(1))
        start = stop
    lines = [(shard[at], row[at], names, np.full(len(at), known)) for at, names, known in named]
    return edges, pa.table([np.concatenate(column) for column in zip(*lines, strict=True)], schema=_NAMED)


def _known(key: np.ndarray, leader: np.ndarray, against: tuple[str, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each index: the records whose key it has, and the name of the entry."""
    if not against:
        return []
    from curate.index import Index

    first = np.flatnonzero(leader == np.arange(len(key), dtype=np.int32))
    first = first[np.argsort(key[first])]
    slot = np.empty(len(key), np.int32)
    slot[first] = np.arange(len(first))
    where = slot[leader]
    found = []
    for uri in against:
        names, has = Index.open(uri).known(key[first])
        at = np.flatnonzero(has[where])
        found.append((at, names[where[at]]))
    return found


def _write(span: int, evidence: Evidence, spans: Sequence[int], base: np.ndarray, keys: str) -> None:
    """The verdict of a run of shards: a line for every row that has a group."""
    uri = store.join(evidence.verdict, f"{len(spans) - 1:04d}-{span:04d}.cut")
    if store.exists(uri):
        return
    first, last = spans[span : span + 2]
    key = components.read_keys(keys, int(base[first]), int(base[last]))
    node = np.flatnonzero(key != components.NONE)
    folder = store.parent(keys)
    tables = [_NAMED.empty_table()]
    for part in range(evidence.parts):
        tables += exchange.read(f"{_part(folder, evidence, part)}.cut", span, span + 1)
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
    store.put(uri, exchange.cut(pa.table(made, schema=_LINES), shard, len(evidence.units)))


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
