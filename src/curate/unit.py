"""What happens to one shard in one place: read columns once, run the tasks that want them, write, leave a receipt.

These functions run in workers. They take small frozen descriptions and give receipts, so they pickle for any
executor. A file is written before its receipt, so a receipt proves its file.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate import exchange, store
from curate.arrow import encode
from curate.errors import CurateError, DataError
from curate.ledger import Clock
from curate.manifest import Receipt, Shard, save_receipt
from curate.stage import COUNTS, Documents, Stage, Verdict
from curate.view import Files, pick, read


@dataclass(frozen=True)
class Task:
    """One stage's `scan` or `apply` on one shard: which columns it gets, where the result goes, under which key.

    `segments` cuts a scan by the leading bits of its key, and what a shuffling stage sends by its part.
    """

    phase: str
    stage: Stage
    columns: tuple[str, ...]
    folder: str
    key: str
    prefix: str = ""
    segments: int = 1
    verdict: str = ""


@dataclass(frozen=True)
class Pass:
    """All that is to be done with one shard while its columns are in memory."""

    unit: str
    shard: int
    rows: int
    files: Files
    tasks: tuple[Task, ...]


def run_pass(job: Pass) -> list[Receipt]:
    """Run a pass; one receipt per task."""
    clock = Clock()
    table = read(job.files, job.rows)
    clock_how = clock.how("read", table.nbytes)
    done = []
    for task in job.tasks:
        shard = pick(table, task.columns)
        made = (_scan if task.phase == "scan" else _apply)(job, task, shard)
        how = clock.how(task.phase, shard.nbytes)
        how["read_seconds"] = clock_how["seconds"]
        receipt = Receipt(job.unit, task.key, rows_in=job.rows, **made._asdict(), how=how)
        save_receipt(task.folder, receipt)
        done.append(receipt)
    return done


class _Made(NamedTuple):
    """What a task made: fields of its receipt."""

    rows_out: int
    shards: tuple[Shard, ...]
    counts: dict[str, dict[str, int]] = {}
    rejected: int = 0
    rejects: tuple[Shard, ...] = ()


def _scan(job: Pass, task: Task, shard: pa.Table) -> _Made:
    seen = task.stage.scan(shard)
    counts = json.loads((seen.schema.metadata or {}).get(COUNTS, b"{}"))
    seen = seen.replace_schema_metadata(None)
    if "row" not in seen.column_names:
        if seen.num_rows != job.rows:
            raise DataError(f"{task.stage.kind}: scan gave {seen.num_rows} rows for {job.rows} and no `row`")
        seen = seen.append_column("row", pa.array(np.arange(job.rows, dtype=np.uint32)))
    segment = exchange.leading(seen["key"].to_numpy(), task.segments)
    name = f"{job.unit}.cut"
    return _Made(seen.num_rows, (_put_cut(task.folder, name, seen, segment, task.segments),), counts)


def _apply(job: Pass, task: Task, shard: pa.Table) -> _Made:
    verdict = load_verdict(task.verdict, job.shard) if task.verdict else Verdict()
    if task.stage.gathers == "rows":
        return _documents(job, task, task.stage.make(shard, verdict))
    made = task.stage.apply(shard, verdict)
    if task.stage.gathers == "parts":
        segment = made["part"].to_numpy().astype(np.int64)
        sent = _put_cut(task.folder, f"{job.unit}.cut", made.drop_columns(["part"]), segment, task.segments)
        return _Made(job.rows, (sent,))
    if made.num_rows != job.rows or tuple(made.column_names) != task.stage.adds:
        raise DataError(
            f"{task.stage.kind} promised {task.stage.adds} for {job.rows} rows, "
            f"gave {tuple(made.column_names)} for {made.num_rows}"
        )
    counts = task.stage.counts(shard, made)
    named = made.rename_columns(list(task.stage.named(task.prefix)))
    return _Made(made.num_rows, (put_table(task.folder, f"{job.unit}.parquet", named),), counts)


def _documents(job: Pass, task: Task, made: Documents) -> _Made:
    """New documents, and beside them what came to nothing."""
    if tuple(made.rows.column_names) != task.stage.adds:
        raise DataError(f"{task.stage.kind} promised {task.stage.adds}, gave {tuple(made.rows.column_names)}")
    shard = put_table(task.folder, f"{job.unit}.parquet", made.rows)
    aside = made.rejects.num_rows
    rejects = (put_table(task.folder, f"rejects/{job.unit}.parquet", made.rejects),) if aside else ()
    counts = {**made.counts, "documents": by_source(made.rows), "bytes": by_source(made.rows, "bytes")}
    return _Made(made.rows.num_rows, (shard,), counts, aside, rejects)


@dataclass(frozen=True)
class Neighbours:
    """Shards whose kept rows become one shard: per shard its rows and the files of the columns to carry."""

    unit: str
    folder: str
    key: str
    rule: str
    carry: tuple[str, ...]
    shards: tuple[tuple[int, Files], ...]


def gather_neighbours(job: Neighbours) -> list[Receipt]:
    """Write the rows that no rule dropped, in order."""
    clock = Clock()
    kept, rows_in, bytes_in = [], 0, 0
    for rows, files in job.shards:
        table = read(files, rows)
        rows_in += rows
        bytes_in += table.nbytes
        kept.append(pick(table, job.carry).filter(table[job.rule].is_null()))
        del table  # what is gathered is a shard of text: no copy of it outlives its use
    table = pa.concat_tables(kept).unify_dictionaries().combine_chunks()
    del kept
    shard = put_table(job.folder, f"{job.unit}.parquet", table)
    counts = {"documents": by_source(table), "bytes": by_source(table, "bytes")}
    receipt = Receipt(
        job.unit,
        job.key,
        (shard,),
        rows_in,
        shard.rows,
        dropped=rows_in - table.num_rows,
        counts=counts,
        how=clock.how("gather", bytes_in),
    )
    save_receipt(job.folder, receipt)
    return [receipt]


@dataclass(frozen=True)
class Joined:
    """A shard of a branch, with what makes its documents those of the whole."""

    unit: str
    folder: str
    key: str
    join: Callable[[pa.Table], pa.Table]
    schema: pa.Schema
    rows: int
    files: Files


def join(job: Joined) -> list[Receipt]:
    """Write the documents of one shard of a branch; columns that it has not are null."""
    clock = Clock()
    table = read(job.files, job.rows)
    for field in job.schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(job.rows, field.type))
    table = job.join(pick(table, job.schema.names))
    if table.num_rows != job.rows:
        raise DataError(f"{job.folder}: {table.num_rows} documents of {job.rows} in unit {job.unit}")
    shard = put_table(job.folder, f"{job.unit}.parquet", table)
    counts = {"documents": by_source(table), "bytes": by_source(table, "bytes")}
    how = clock.how("join", table.nbytes)
    receipt = Receipt(job.unit, job.key, (shard,), job.rows, shard.rows, counts=counts, how=how)
    save_receipt(job.folder, receipt)
    return [receipt]


@dataclass(frozen=True)
class Part:
    """One part of a shuffle: the segment `part` of every file that was sent."""

    unit: str
    folder: str
    key: str
    part: int
    stage: Stage
    sent: tuple[str, ...]
    verdict: str


def gather_part(job: Part) -> list[Receipt]:
    """Hand a part's rows to the stage and write the files it makes of them."""
    clock = Clock()
    tables = [table for uri in job.sent for table in exchange.read(uri, job.part, job.part + 1)]
    rows = pa.concat_tables(tables) if tables else None
    gathered = job.stage.gather(job.part, rows, load_verdict(job.verdict, None))
    shards = []
    for name, (data, count) in gathered.files.items():
        store.put(store.join(job.folder, name), data)
        shards.append(Shard(name, count, len(data), sha256(data)))
    receipt = Receipt(
        job.unit,
        job.key,
        tuple(shards),
        rows.num_rows if rows else 0,
        gathered.rows,
        counts=gathered.counts,
        how=clock.how("gather", rows.nbytes if rows else 0),
    )
    save_receipt(job.folder, receipt)
    return [receipt]


@dataclass(frozen=True)
class Raw:
    """A unit of raw input: `read(unit)` streams batches of documents and rejects."""

    unit: str
    folder: str
    key: str
    read: Callable[[], Iterator[Any]]
    compression: str = "zstd"


def ingest_unit(job: Raw) -> list[Receipt]:
    """Write one unit's documents as shards of bounded size, and its rejects beside them."""
    clock = Clock()
    shards, rejected, rejects = [], [], 0
    aside: tuple[Shard, ...] = ()
    reasons: dict[str, int] = {}
    records = bytes_in = 0
    counts: dict[str, dict[str, int]] = {"documents": {}, "bytes": {}}
    for index, batch in enumerate(job.read()):
        suffix = f"-{index:03d}" if index else ""
        table = batch.documents
        shards.append(put_table(job.folder, f"{job.unit}{suffix}.parquet", table, compression=job.compression))
        records += batch.records
        bytes_in += table.nbytes
        _add(counts["documents"], by_source(table))
        _add(counts["bytes"], by_source(table, "bytes"))
        if batch.rejects.num_rows:
            rejected.append(batch.rejects)
            rejects += batch.rejects.num_rows
    if rejected:
        table = pa.concat_tables(rejected)
        aside = (put_table(job.folder, f"rejects/{job.unit}.parquet", table),)
        for reason in table["reason"].to_pylist():
            reasons[_reason(reason)] = reasons.get(_reason(reason), 0) + 1
    rows = sum(shard.rows for shard in shards)
    if records != rows + rejects:
        raise CurateError(f"unit {job.unit}: {records} records in, {rows} documents and {rejects} rejects out")
    receipt = Receipt(
        job.unit,
        job.key,
        tuple(shards),
        records,
        rows,
        rejected=rejects,
        counts={**counts, "rejects": dict(sorted(reasons.items()))},
        rejects=aside,
        how=clock.how("ingest", bytes_in),
    )
    save_receipt(job.folder, receipt)
    return [receipt]


def put_table(folder: str, name: str, table: pa.Table, *, compression: str = "zstd") -> Shard:
    """Write a table as a parquet shard; rows are counted from the bytes written, not from the table."""
    made = encode(table, compression=compression)
    written = pq.read_metadata(pa.BufferReader(pa.py_buffer(made.data))).num_rows
    if written != table.num_rows:
        raise CurateError(f"{folder}/{name}: {written} rows written of {table.num_rows}")
    store.put(store.join(folder, name), made.data)
    return Shard(name, written, len(made.data), made.sha256, made.columns)


def warm_up(stages: Iterable[Stage]) -> None:
    """Compile the kernels that these want of texts once here, before workers start and would each do it."""
    table = pa.table({"text": pa.array(["a é"], pa.large_string()), "id": pa.array([bytes(16)], pa.binary(16))})
    for stage in stages:
        if "text" in stage.reads and set(stage.reads) <= {"text", "id"} and not stage.assets:
            stage.scan(table) if stage.scans else stage.apply(table, Verdict())
    from curate.arrow import row_hashes

    row_hashes(table)


def load_verdict(folder: str, shard: int | None) -> Verdict:
    """The lines of one shard sorted by row, and what holds for all."""
    whole = None
    if store.exists(store.join(folder, "whole.arrow")):
        whole = pa.ipc.open_stream(store.read(store.join(folder, "whole.arrow"))).read_all()
    if shard is None:
        return Verdict(None, whole)
    tables = [t for uri in verdict_files(folder) for t in exchange.read(uri, shard, shard + 1)]
    lines = pa.concat_tables(tables).sort_by("row") if tables else None
    return Verdict(lines, whole)


def verdict_files(folder: str) -> list[str]:
    """The record files of a verdict, in order of parts."""
    return [store.join(folder, name) for name in sorted(store.listing(folder)) if name.endswith(".cut")]


def by_source(table: pa.Table, column: str | None = None) -> dict[str, int]:
    """Rows, or the sum of a column, for each source."""
    if "source" not in table.column_names:
        return {"": table.num_rows}
    weights = pa.array(np.ones(table.num_rows, np.int64)) if column is None else table[column]
    pairs = pa.table({"source": table["source"].cast(pa.string()), "n": weights})
    grouped = pairs.group_by("source").aggregate([("n", "sum")])
    return dict(
        sorted((s, int(n)) for s, n in zip(grouped["source"].to_pylist(), grouped["n_sum"].to_pylist(), strict=True))
    )


def adopt(folder: str, key: str, unit: str, earlier: tuple[str, Receipt]) -> Receipt:
    """Take over the files of an equal unit of an earlier run of the stage, under this unit's names."""
    source, old = earlier
    files = []
    for file in old.files:
        name = file.name.replace(old.unit, unit, 1)
        store.adopt(store.join(source, file.name), store.join(folder, name))
        files.append(replace(file, name=name))
    shards, rejects = tuple(files[: len(old.shards)]), tuple(files[len(old.shards) :])
    how = {"phase": "adopted", "adopted": True}
    taken = replace(old, unit=unit, key=key, shards=shards, rejects=rejects, how=how)
    save_receipt(folder, taken)
    return taken


def columns_of(folder: str, receipts: "list[Receipt]") -> dict[str, str]:
    """Columns of a dataset with their types, from its first parquet file."""
    for receipt in receipts:
        for shard in receipt.shards:
            if shard.columns:
                with store.open_input(store.join(folder, shard.name)) as file:
                    return {field.name: str(field.type) for field in pq.read_schema(file)}
    return {}


def first_reject(folder: str, receipts: Iterable[Receipt]) -> str:
    """Place and reason of the first record that was set aside, or an empty string."""
    for shard in (shard for receipt in receipts for shard in receipt.rejects):
        table = read(((store.join(folder, shard.name), ("origin", "reason")),), shard.rows)
        return ": ".join(table.slice(0, 1).to_pylist()[0].values())
    return ""


def _put_cut(folder: str, name: str, table: pa.Table, segment: np.ndarray, segments: int) -> Shard:
    data = exchange.cut(table, segment, segments)
    store.put(store.join(folder, name), data)
    return Shard(name, table.num_rows, len(data), sha256(data))


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for key, value in more.items():
        total[key] = total.get(key, 0) + value


def _reason(text: str) -> str:
    return text.split(":", 1)[0]


def sha256(data: "bytes | memoryview") -> str:
    """Digest of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def conserved(stage: str, rows: int, marks: list[Receipt], receipts: list[Receipt]) -> None:
    """Rows in = kept + dropped, the drops as the `rule` column has them; a run that does not add up fails."""
    marked = sum(n for mark in marks for n in mark.counts["rule"].values())
    kept, dropped = sum(r.rows_out for r in receipts), sum(r.dropped for r in receipts)
    if kept + dropped != rows or dropped != marked:
        raise DataError(f"{stage}: {rows} rows in, {kept} kept, {dropped} dropped, {marked} marked: they do not add up")


def whole_digest(verdict: str) -> str:
    """Digest of what a verdict says for all shards, or an empty string."""
    uri = store.join(verdict, "whole.arrow")
    return sha256(store.read(uri)) if store.exists(uri) else ""
