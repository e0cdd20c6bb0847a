"""Every curation method is scan -> judge -> apply.

`scan` looks at one shard and says a little. `judge` decides once from what all shards said. `apply` goes over each
shard again and carries the decision out. A method that needs no view of the whole has only `apply`. Some kinds of
method move rows and say how with `gathers`: one that keeps rows (`select`) gathers neighbouring shards, one that
shuffles (`pack`) gathers parts, one that joins (`concat`) gathers branches, and one whose rows are new documents
(`rephrase`) gathers rows.

A stage computes; it never reads, writes, times or counts files: the runner does, and checks what came back.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from curate import exchange, store

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Where work happens: apply this to those, results in order. The built-in `map` is one; a process pool's, Prefect's
and Prefect's on Ray are others. All give the same bytes."""

PART_ROWS = 4_000_000
COUNTS = b"counts"

Gathers = Literal["", "neighbours", "parts", "branches", "rows"]
MAKES_DOCUMENTS = ("neighbours", "branches", "rows")
"""Ways to gather behind which stages see other documents."""


class Verdict(NamedTuple):
    """What was decided: `lines` for this shard (sorted by `row`), and what holds for all shards."""

    lines: pa.Table | None = None
    whole: pa.Table | None = None


class Documents(NamedTuple):
    """What a stage that gathers rows makes of one shard: new documents; what came to nothing (`origin`, `reason` and
    `raw`, as large_binary); facts."""

    rows: pa.Table
    rejects: pa.Table
    counts: dict[str, dict[str, int]]


class Gathered(NamedTuple):
    """Files that one part of a shuffle becomes: name to (bytes, rows); rows that count for the part; facts."""

    files: "dict[str, tuple[bytes | memoryview, int]]"
    rows: int
    counts: dict[str, dict[str, int]]


def silent(note: str) -> None:
    """Shows nothing."""


@dataclass(frozen=True)
class Evidence:
    """What the shards said, on disk, cut by the leading bits of a key into `segments`; `units[i]` is shard i's file.

    `heft`: how heavy its rows are (`Stage.heft`, one for all that a scan says of a row). `tell`: shows how far a
    judgement is that takes long."""

    units: tuple[str, ...]
    segments: int
    rows: int
    verdict: str
    heft: int = 1
    tell: Callable[[str], None] = silent

    def __reduce__(self) -> tuple[object, ...]:
        # What is shown is shown where the run is: a worker has no terminal, and a terminal does not travel.
        return Evidence, (self.units, self.segments, self.rows, self.verdict, self.heft)

    @property
    def run(self) -> str:
        """The folder of the run, for what outlives a stage."""
        return store.parent(store.parent(self.verdict))

    @property
    def parts(self) -> int:
        """Number of parts to judge: some four million light rows each. Changes no result."""
        wanted = max(1, -(-self.rows * self.heft // PART_ROWS))
        return min(self.segments, 1 << (wanted - 1).bit_length())

    def read(self, part: int) -> pa.Table | None:
        """All rows of one part with their `shard` and `row`, in that order; None when nobody said anything."""
        tables = list(self.tables(part))
        return pa.concat_tables(tables) if tables else None

    def tables(self, part: int) -> Iterator[pa.Table]:
        """The same a few rows at a time, for parts that need not be in memory as a whole."""
        width = self.segments // self.parts
        for shard, uri in enumerate(self.units):
            for table in exchange.read(uri, part * width, (part + 1) * width):
                number = pa.array(np.full(table.num_rows, shard, np.uint32))
                yield table.append_column("shard", number)

    def place(self, part: int) -> str:
        """The file of verdict lines of one part; if it is there, the part is judged."""
        # Parts of another count would cut the rows at other places, so the count is in the name.
        return store.join(self.verdict, f"{self.parts:04d}-{part:04d}.cut")

    def keep(self, part: int, lines: pa.Table) -> None:
        """Write the verdict lines of one part (columns `shard`, `row` and more), cut by shard."""
        shard = lines["shard"].to_numpy().astype(np.int64)
        store.put(self.place(part), exchange.cut(lines.drop_columns(["shard"]), shard, len(self.units)))

    def decide(self, function: Callable[[int, pa.Table], pa.Table], map: Map) -> None:
        """Turn every part into verdict lines (columns `shard`, `row` and more) and keep them cut by shard."""
        work = partial(_decide_part, function=function, evidence=self)
        for _ in map(work, range(self.parts)):
            pass


def _decide_part(part: int, function: Callable[[int, pa.Table], pa.Table], evidence: Evidence) -> None:
    if store.exists(evidence.place(part)):
        return
    table = evidence.read(part)
    if table is not None:
        evidence.keep(part, function(part, table))


@dataclass(frozen=True)
class Stage:
    """A method and its parameters. All dataclass fields are parameters and all are part of its identity.

    Class facts are `ClassVar`: `kind` is the name in recipes and paths; `version` rises when equal parameters would
    give other rows. `reads` are the columns `scan` looks at (and `apply`, unless `applies_to` says otherwise); `adds`
    the columns that `apply` gives, row-aligned. `asset_fields` are parameters that name files (a tokenizer, a model):
    their content is part of identity, their place is not. `rewrites` are those of the added columns that stand for
    the document's own from here on: stages behind see the new text, and may measure again what was measured of the old.
    `elsewhere` says of words that look like parameters of the stage, and are none, where they belong.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    gathers: ClassVar[Gathers] = ""
    asset_fields: ClassVar[tuple[str, ...]] = ()
    rewrites: ClassVar[tuple[str, ...]] = ()
    elsewhere: ClassVar[dict[str, str]] = {}
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns that the result depends on."""
        raise NotImplementedError

    @property
    def adds(self) -> tuple[str, ...]:
        """Columns given for the same rows in the same order."""
        return ()

    @property
    def assets(self) -> dict[str, str]:
        """The parameters that name one file each: its content is part of the stage's identity."""
        given = {field: getattr(self, field) for field in self.asset_fields}
        return {field: value for field, value in given.items() if isinstance(value, str)}

    def located(self, place: Callable[[str], str]) -> "Stage":
        """The stage with the files that its parameters name where `place` says: they are relative to the recipe."""
        given = {field: value for field in self.asset_fields if (value := getattr(self, field)) is not None}
        return replace(
            self, **{field: place(v) if isinstance(v, str) else tuple(map(place, v)) for field, v in given.items()}
        )

    def named(self, prefix: str) -> tuple[str, ...]:
        """The added columns as a step with this prefix calls them. What is rewritten keeps its name."""
        return tuple(name if name in self.rewrites else prefix + name for name in self.adds)

    def sampled(self, share: float) -> "Stage":
        """The stage for a trial run on a share of the records."""
        return self

    def bind(self, lineage: dict[str, dict[str, Any]]) -> "Stage":
        """The stage with what it must know of how its columns were made: column name to `made_by`, and under `maker`
        the stage that made it (None for what came with the documents)."""
        return self

    def prepared(self, out: str) -> None:
        """Raises, before any work of a run in `out`, if something is missing that is no file of the recipe."""

    @property
    def applies_to(self) -> tuple[str, ...]:
        """Columns that `apply` looks at."""
        return self.reads

    @property
    def records(self) -> int:
        """About how many records a scan says of a row: more than one cut evidence into more segments."""
        return 1

    @property
    def heft(self) -> int:
        """About how heavy such a record is, in units of 32 bytes: heavy ones are judged in smaller parts."""
        return 1

    @property
    def scans(self) -> bool:
        """True if the stage must see all shards before it can decide."""
        return type(self).scan is not Stage.scan

    def scan(self, shard: pa.Table) -> pa.Table:
        """What one shard has to say: column `key` (uint64, its leading bits choose the part), `row` where not every
        row speaks, and whatever `judge` needs. The runner adds `row` (when absent) and `shard`. Facts to count may
        stand in the schema's metadata under COUNTS, as JSON."""
        raise NotImplementedError

    def judge(self, evidence: Evidence, map: Map) -> pa.Table | None:
        """Decide. Lines for shards go through `evidence.decide`; what holds for all shards is returned."""
        evidence.decide(self.decide, map)
        return None

    def decide(self, part: int, seen: pa.Table) -> pa.Table:
        """Verdict lines (`shard`, `row`, ...) from one part, where parts can be decided one by one."""
        raise NotImplementedError

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        """The added columns of one shard; for a stage that gathers parts, the rows to send and their `part`."""
        raise NotImplementedError

    @property
    def branches(self) -> tuple[str, ...]:
        """The steps whose documents a stage joins, in order."""
        return ()

    def join(self, branch: int, shard: pa.Table) -> pa.Table:
        """The documents that a shard of one branch becomes."""
        raise NotImplementedError

    def make(self, shard: pa.Table, verdict: Verdict) -> Documents:
        """The new documents that a shard gives, for a stage that gathers rows: the columns are those in `adds`."""
        raise NotImplementedError

    def parts(self, verdict: Verdict) -> int:
        """Number of parts that a shuffle has."""
        raise NotImplementedError

    def gather(self, part: int, rows: pa.Table | None, verdict: Verdict) -> "Gathered":
        """The files of one part of a shuffle, from all rows sent to it in order of shard and row."""
        raise NotImplementedError

    def finish(
        self, counts: list[dict[str, dict[str, int]]], files: list[dict[str, Any]], verdict: Verdict
    ) -> dict[str, bytes]:
        """Files to write at the end: once all parts of a shuffle are gathered, with their counts and files, or once all
        columns are there, with neither."""
        return {}

    def judging(self, text: int) -> float:
        """About how many CPU-seconds `judge` takes for so many bytes of text, where they are more than a few."""
        return 0.0

    def remarks(self, text: int) -> tuple[str, ...]:
        """What `plan` says of these parameters before they run; `text` is about how many bytes of it there are."""
        return ()

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        """Facts to count per unit, from what `apply` read and what it made; they end in the manifest."""
        return {}

    def identity(self) -> dict[str, Any]:
        """Kind, version and parameters: with the inputs, all that the result depends on."""
        parameters = {name: value for name, value in asdict(self).items() if name not in self.asset_fields}
        return {"kind": self.kind, "version": self.version, "parameters": parameters}
