"""Record files: a table cut into numbered segments that can be read one by one.

This is the shuffle of the whole project. What a shard says (evidence) is cut by the leading bits of a key, so that
equal keys of all shards meet in one read; what is decided (a verdict) is cut by shard, so that each shard reads only
its own lines. A file is the segments one after another, each a small compressed Arrow stream (nothing for an empty
one), then for every segment its end, its rows, the sum of its row hashes and the hash of its bytes, then the number of
segments and the hash of that table: bytes that changed since are not read as rows.

The sum of row hashes does not depend on order or on how rows were spread over files: it is the digest by which a unit
of work recognises that its lines did not change.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from curate import store
from curate.arrow import row_hashes
from curate.errors import DataError

_TAIL = struct.Struct("<QQ8s")
_MAGIC = b"CURATE02"


def cut(table: pa.Table, segment: np.ndarray, segments: int) -> bytes:
    """File bytes of `table` with row i in segment `segment[i]` (0 <= segment < segments); order within is kept."""
    if len(segment) and int(segment.max()) >= segments:
        raise ValueError(f"segment {int(segment.max())} of {segments}")
    # NumPy's stable sort of numbers of one or two bytes is a radix sort, twenty times as fast as that of int64.
    small = np.min_scalar_type(segments - 1)
    order = np.argsort(segment.astype(small), kind="stable")
    sorted_table = table.take(pa.array(order)) if table.num_rows else table
    rows = np.bincount(segment, minlength=segments).astype(np.uint64)
    hashes = row_hashes(sorted_table)
    ends, digests, checks = np.zeros((3, segments), np.uint64)
    body, size, start = [], 0, 0
    for index in np.flatnonzero(rows):
        stop = start + int(rows[index])
        data = _stream(sorted_table.slice(start, stop - start))
        digests[index] = np.sum(hashes[start:stop], dtype=np.uint64)
        checks[index] = xxhash.xxh3_64_intdigest(data)
        body.append(data)
        size += len(data)
        ends[index] = size
        start = stop
    ends = np.maximum.accumulate(ends)
    where = np.stack([ends, rows, digests, checks]).tobytes()
    return b"".join([*body, where, _TAIL.pack(segments, xxhash.xxh3_64_intdigest(where), _MAGIC)])


@dataclass(frozen=True)
class Index:
    """Where the segments of one file are: ends in bytes, rows, digests of rows and of bytes, each uint64[segments]."""

    ends: np.ndarray
    rows: np.ndarray
    digests: np.ndarray
    checks: np.ndarray


def index(uri: str) -> Index:
    """Read a file's segment table. DataError if it is no record file, was cut off or changed."""
    size = store.size(uri)
    tail = store.read(uri, start=max(0, size - _TAIL.size))
    segments, check, magic = _TAIL.unpack(tail) if len(tail) == _TAIL.size else (0, 0, b"")
    begin = size - _TAIL.size - 32 * segments
    raw = store.read(uri, start=begin, length=32 * segments) if magic == _MAGIC and begin >= 0 else None
    if raw is None or xxhash.xxh3_64_intdigest(raw) != check:
        raise _damaged(uri)
    return Index(*np.frombuffer(raw, np.uint64).reshape(4, segments))


def digests(files: Iterable[str], segments: int) -> list[list[int]]:
    """Rows and digest of every segment over all files."""
    rows, sums = np.zeros(segments, np.uint64), np.zeros(segments, np.uint64)
    for uri in files:
        where = index(uri)
        rows += where.rows
        sums += where.digests
    return [[int(count), int(total)] for count, total in zip(rows, sums, strict=True)]


def read(uri: str, first: int, last: int) -> list[pa.Table]:
    """The tables of segments first..last-1, one for each that is not empty."""
    where = index(uri)
    if not where.rows[first:last].any():
        return []
    begin = int(where.ends[first - 1]) if first else 0
    data = store.read(uri, start=begin, length=int(where.ends[last - 1]) - begin)
    tables = []
    for segment in range(first, last):
        if where.rows[segment]:
            start = (int(where.ends[segment - 1]) if segment else 0) - begin
            stop = int(where.ends[segment]) - begin
            part = pa.py_buffer(data)[start:stop]
            if xxhash.xxh3_64_intdigest(part) != int(where.checks[segment]):  # Arrow may crash over such bytes
                raise _damaged(uri)
            tables.append(pa.ipc.open_stream(part).read_all())
    return tables


def _damaged(uri: str) -> DataError:
    return DataError(f"{uri} is no record file or is damaged; run `curate verify`, then `curate run` again")


def leading(keys: np.ndarray, segments: int) -> np.ndarray:
    """Segment of uint64 keys by their leading bits; `segments` is a power of two."""
    bits = segments.bit_length() - 1
    if bits == 0:
        return np.zeros(len(keys), np.int64)
    return (keys >> np.uint64(64 - bits)).astype(np.int64)


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")  # half the time of zstd for a fifth more bytes
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(memoryview(sink.getvalue()))
