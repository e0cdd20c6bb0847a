"""A stage taken through scan, judge, apply and gather by hand, over shards cut as a test likes."""

import uuid
from collections.abc import Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pyarrow as pa

from curate import exchange, stage, store, unit
from curate.errors import RecipeError
from curate.execute import serial
from curate.stage import Evidence

SEGMENTS = 8


class Driven:
    """What a stage said and decided about some shards. `part_rows` sets how many parts there are to judge."""

    def __init__(self, method, shards: Sequence[pa.Table], folder: str, *, map=serial):
        self.method, self.shards, self.verdict = method, shards, store.join(folder, "verdict")
        said = [self._scan(table, store.join(folder, f"{i}.cut")) for i, table in enumerate(shards)]
        files = tuple(store.join(folder, f"{i}.cut") for i in range(len(shards)))
        self.evidence = Evidence(files, SEGMENTS, sum(said), self.verdict)
        whole = method.judge(self.evidence, map)
        if whole is not None:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, whole.schema) as writer:
                writer.write_table(whole.combine_chunks())
            store.put(store.join(self.verdict, "whole.arrow"), memoryview(sink.getvalue()))

    def _scan(self, table: pa.Table, uri: str) -> int:
        seen = self.method.scan(table.select(list(self.method.reads)))
        if "row" not in seen.column_names:
            assert seen.num_rows == table.num_rows
            seen = seen.append_column("row", pa.array(np.arange(table.num_rows, dtype=np.uint32)))
        store.put(uri, exchange.cut(seen, exchange.leading(seen["key"].to_numpy(), SEGMENTS), SEGMENTS))
        return seen.num_rows

    def applied(self) -> list[pa.Table]:
        """What `apply` made of each shard."""
        return [
            self.method.apply(table.select(list(self.method.applies_to)), unit.load_verdict(self.verdict, i))
            for i, table in enumerate(self.shards)
        ]

    def gathered(self):
        """What became of each part of a shuffle, and the files written at its end."""
        said = unit.load_verdict(self.verdict, None)
        parts = self.method.parts(said)
        tables = [table.combine_chunks() for table in self.applied()]
        made = []
        for part in range(parts):
            sent = [t.filter(pa.array(t["part"].to_numpy() == part)).drop_columns(["part"]) for t in tables]
            sent = [table for table in sent if table.num_rows]
            made.append(self.method.gather(part, pa.concat_tables(sent) if sent else None, said))
        files = [
            {"name": name, "rows": rows, "bytes": len(data), "sha256": unit.sha256(data)}
            for gathered in made
            for name, (data, rows) in gathered.files.items()
        ]
        return made, self.method.finish([gathered.counts for gathered in made], files, said)


@contextmanager
def driven(method, shards, *, part_rows=stage.PART_ROWS, map=serial):
    """The stage after `judge`, on a store in memory; evidence is cut into more parts where `part_rows` is small."""
    folder, before = f"memory://{uuid.uuid4().hex}", stage.PART_ROWS
    stage.PART_ROWS = part_rows
    try:
        yield Driven(method, shards, folder, map=map)
    finally:
        stage.PART_ROWS = before
        store.remove(folder)


def cut_into(table: pa.Table, borders: Sequence[int]) -> list[pa.Table]:
    """The table as shards that begin at the borders; some may be empty."""
    edges = [0, *sorted(min(border, table.num_rows) for border in borders), table.num_rows]
    return [table.slice(a, b - a) for a, b in pairwise(edges)]


def outcome(work, *given):
    """What it gives, or its refusal, which is an outcome too, in the same words."""
    try:
        return work(*given)
    except RecipeError as error:
        return str(error)
