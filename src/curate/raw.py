"""Raw files to units of work: the way in.

`find` the files, `survey` them in chunks, `describe` them, settle the `schema` of what is carried, cut the whole into
`units`, and `read` each. Everything up to `units` is known before a document is made. A plain jsonl or parquet file is
cut into slices of about a shard; a compressed one cannot be, so many files of some hundred megabytes run best.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from curate.columns import schema
from curate.files import STEP, Chunk, Described, RawFile, Survey, chunks, describe, find, record_keys, survey
from curate.groups import neighbours
from curate.records import Batch, document_schema, read
from curate.slices import Slice, Unit
from curate.stages.ingest import Ingest
from curate.streams import compression

__all__ = [
    "Batch", "Chunk", "Described", "RawFile", "Slice", "Survey", "Unit", "chunks", "describe", "document_schema",
    "find", "read", "schema", "survey", "threshold", "units",
]  # fmt: skip

_KEYS = 1 << 20


def units(described: Sequence[Described], ingest: Ingest) -> tuple[Unit, ...]:
    """Units of work in order of input, then name.

    A file of at least 1 MiB stands alone and is cut into slices of about `ingest.shard_bytes`; smaller ones go with
    their neighbours. A border follows from the files beside it, so a new file moves no other.
    """
    made: list[Unit] = []
    for index in range(len(ingest.inputs)):
        files = [file for file in described if file.input == index]
        sizes = [file.size for file in files]
        for group in neighbours([file.name for file in files], sizes, most=ingest.shard_bytes):
            if len(group) == 1:
                file = files[group[0]]
                made += [Unit(index, (part,), (file.digest,), size) for part, size in _cut(file, ingest.shard_bytes)]
                continue
            parts = tuple(_part(files[i], 0, _end(files[i]), 0) for i in group)
            made.append(Unit(index, parts, tuple(files[i].digest for i in group), sum(sizes[i] for i in group)))
    return tuple(made)


def threshold(described: Sequence[Described], limit: int) -> int:
    """The key that exactly `limit` records of all files do not exceed, by which `read` chooses them.

    Needs the counts that `chunks(count=True)` asks for. Blank lines count as records here, so of a file that has
    some, fewer documents come than were drawn. Costs 8 bytes per record of the limit.
    """
    lowest = np.empty(0, np.uint64)
    for file in described:
        if file.records is None:
            raise ValueError(f"{file.name} was not counted")
        for start in range(0, file.records, _KEYS):
            numbers = np.arange(start, min(start + _KEYS, file.records), dtype=np.uint64)
            lowest = np.concatenate((lowest, record_keys(file.name, numbers)))
            if len(lowest) > limit:
                lowest = np.partition(lowest, limit - 1)[:limit]
    return int(lowest.max()) if len(lowest) else 0


def _cut(file: Described, shard_bytes: int) -> list[tuple[Slice, int]]:
    """Slices of one file with their bytes."""
    if file.format == "parquet":
        return _cut_row_groups(file, shard_bytes)
    if file.format == "text" or compression(file.name) or file.size <= max(shard_bytes, STEP):
        return [(_part(file, 0, _end(file), 0), file.size)]
    count = -(-file.size // shard_bytes)
    borders = [*sorted({round(i * file.size / count / STEP) * STEP for i in range(count)}), file.size]
    before = np.concatenate(([0], np.cumsum(file.lines)))
    return [
        (_part(file, start, stop, int(before[start // STEP])), stop - start)
        for start, stop in pairwise(borders)
        if start < stop
    ]


def _cut_row_groups(file: Described, shard_bytes: int) -> list[tuple[Slice, int]]:
    parts: list[tuple[Slice, int]] = []
    start = row = rows = size = 0
    for index, (group_rows, group_size) in enumerate(file.row_groups):
        if index > start and size + group_size > shard_bytes:
            parts.append((_part(file, start, index, row), size))
            start, row, size = index, rows, 0
        rows += group_rows
        size += group_size
    return [*parts, (_part(file, start, len(file.row_groups), row), size)]


def _end(file: Described) -> int:
    return len(file.row_groups) if file.format == "parquet" else file.size


def _part(file: Described, start: int, stop: int, first_record: int) -> Slice:
    return Slice(file.name, file.uri, file.format, start, stop, first_record)
