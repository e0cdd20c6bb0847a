"""Token shards as the bytes trainers read: one body of ids, and small files that say where windows begin.

The body, ids end to end without a header, is at once Megatron's `.bin`, datatrove's `.ds` and OLMo-core's
raw `.npy`; only the index beside it differs. Parquet holds the same windows as rows. Everything is
little-endian and a function of its arguments alone, so equal plans give equal files (parquet: within one
release of pyarrow).

Formats were read from the readers' sources and are tested against them: megatron-core 0.16.1
(`megatron/core/datasets/indexed_dataset.py`) and Hugging Face datasets 5.2.0.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.errors import DataError, RecipeError

NARROW_VOCABULARY = 65_500
"""Megatron's and GPT-NeoX's writers leave uint16 here, not at 65,536 (`DType.optimal_dtype`)."""

LARGEST_VOCABULARY = 2**31
"""Megatron knows no uint32; ids below 2^31 have the same bytes as its int32."""

_MAGIC = b"MMIDIDX\x00\x00"
_HEADER = struct.Struct("<9sQBQQ")
_LENGTH = np.dtype("<i4")
_PLACE = np.dtype("<i8")
_CODES = {2: 8, 4: 4}

# A dictionary costs 1.28 bytes an id on Zipf-like ids; splitting by byte 1.11, but only readers since 2024 know it
# for integers, and a shard that an older trainer cannot open is worth nothing.
_ENCODING = {"compression": "zstd", "compression_level": 1, "use_dictionary": True}


def token_dtype(vocabulary: int) -> np.dtype[Any]:
    """The type of one id, little-endian: uint16 for fewer than 65,500 possible ids, else uint32.

    `vocabulary` counts every id that can occur, specials and padded rows of the model included: the largest
    id of tokenizer and model plus one. RecipeError outside 1..2^31.

    Between 65,500 and 65,536 ids Megatron's `--dataloader-fast-cache-load` takes these 4-byte ids for 2-byte
    ones (it asks the vocabulary, not the file): do not use that option there.
    """
    if not 1 <= vocabulary <= LARGEST_VOCABULARY:
        raise RecipeError(f"a vocabulary of {vocabulary:,} ids was given; token shards hold 1 to 2^31 ids")
    return np.dtype("<u2") if vocabulary < NARROW_VOCABULARY else np.dtype("<u4")


def body(ids: NDArray[np.unsignedinteger]) -> memoryview:
    """The ids end to end, little-endian, without a header: 2 or 4 bytes for each of uint16[n] or uint32[n].

    No copy where the array is contiguous and little-endian already; the view keeps the array alive.
    """
    _width(ids.dtype)
    return np.ascontiguousarray(ids, dtype=ids.dtype.newbyteorder("<")).view(np.uint8).data


def megatron_index(lengths: NDArray[np.int64], dtype: np.dtype[Any]) -> bytes:
    """The `.idx` beside a Megatron `.bin` whose S sequences hold `lengths` int64[S] ids of type `dtype`.

    Bytes (34 + 20 S + 8 of them):

        9 bytes  b"MMIDIDX\\0\\0"
        uint64   version, 1
        uint8    type of an id: 8 for uint16, 4 for int32
        uint64   sequences, S
        uint64   document entries, S + 1
        int32    ids in each sequence, [S]
        int64    byte where each sequence begins in the `.bin`, [S]
        int64    sequence where each document begins, [S + 1]: 0, 1, ..., S

    Sequences are windows here, and each counts as one document: GPTDataset samples sequences and never asks
    which documents they belong to. DataError for a length outside 1..2^31 - 1.
    """
    width = _width(dtype)
    wrong = np.flatnonzero((lengths < 1) | (lengths >= 2**31))
    if len(wrong):
        raise DataError(f"window {wrong[0]} has {lengths[wrong[0]]:,} ids; 1 to 2^31 - 1 fit an index")
    sequences = len(lengths)
    return b"".join(
        (
            _HEADER.pack(_MAGIC, 1, _CODES[width], sequences, sequences + 1),
            lengths.astype(_LENGTH).tobytes(),
            (_begins(lengths) * width).astype(_PLACE).tobytes(),
            np.arange(sequences + 1, dtype=_PLACE).tobytes(),
        )
    )


def read_megatron_index(data: bytes | memoryview) -> tuple[NDArray[np.int64], np.dtype[Any]]:
    """Ids per window int64[S] and the type of an id (uint16, or uint32 for Megatron's int32) of an `.idx`.

    Reads what `megatron_index` writes and nothing else; DataError names the first field that differs.
    """
    if len(data) < _HEADER.size:
        raise DataError(f"a Megatron index has at least {_HEADER.size} bytes, this one {len(data)}")
    magic, version, code, sequences, entries = _HEADER.unpack_from(data)
    widths = {code: width for width, code in _CODES.items()}
    _expect(magic == _MAGIC, "first 9 bytes", magic, _MAGIC)
    _expect(version == 1, "version", version, 1)
    _expect(code in widths, "type of an id", code, "8 (uint16) or 4 (int32)")
    _expect(entries == sequences + 1, "document entries", entries, sequences + 1)
    size = _HEADER.size + sequences * (_LENGTH.itemsize + _PLACE.itemsize) + entries * _PLACE.itemsize
    _expect(len(data) == size, "bytes", len(data), size)
    at = _HEADER.size
    lengths = np.frombuffer(data, _LENGTH, sequences, at).astype(np.int64)
    at += sequences * _LENGTH.itemsize
    begins = np.frombuffer(data, _PLACE, sequences, at)
    at += sequences * _PLACE.itemsize
    documents = np.frombuffer(data, _PLACE, entries, at)
    width = widths[code]
    if sequences and lengths.min() < 1:
        raise DataError(f"Megatron index: window {lengths.argmin()} has {lengths.min()} ids, fewer than 1")
    _expect_row("first byte of window", begins, _begins(lengths) * width)
    _expect_row("document entry", documents, np.arange(entries))
    return lengths, np.dtype(f"<u{width}")


def parquet_windows(
    ids: NDArray[np.unsignedinteger],
    lengths: NDArray[np.int64],
    *,
    facts: Mapping[str, int | str],
    real_lengths: NDArray[np.int64] | None = None,
    document_starts: NDArray[np.int64] | None = None,
    row_group_windows: int = 1024,
) -> bytes:
    """Windows as rows of a parquet file, read by `datasets.load_dataset("parquet", ...)` and pyarrow.

    `ids` uint16 or uint32 holds S windows end to end, `lengths` int64[S] their ids, padding included.
    Columns:

        input_ids        list<int32>  the window, padding included
        length           int32        ids before the padding; only with `real_lengths` int64[S], 1..lengths
        document_starts  list<int32>  where in the window a document or a piece of one begins, rising from 0;
                                      only with `document_starts` int64[]: all lists end to end

    So rows mask attention within documents: cu_seqlens = document_starts + [length]. Every window begins
    with a document or a piece, so its list begins with 0, and the zeros are all that separates one list from
    the next.

    `facts` (eos, pad, window, ...) and the type of an id go as one line of JSON into the schema's metadata
    under `curate`. Several row groups let readers share a file: 1,024 windows of 2,048 ids are 8 MB of
    memory each. DataError where arrays do not fit together.
    """
    _width(ids.dtype)
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    if total != len(ids) or (len(lengths) and lengths.min() < 1):
        raise DataError(f"{len(lengths)} windows of at least 1 id should sum to {len(ids):,} ids, got {total:,}")
    if real_lengths is not None:
        _check_real_lengths(real_lengths, lengths)
    lists = None if document_starts is None else _window_lists(document_starts, lengths, real_lengths)
    stated = {"dtype": f"uint{8 * ids.dtype.itemsize}", **facts}
    schema = _schema(real_lengths is not None, lists is not None).with_metadata(
        {"curate": json.dumps(stated, sort_keys=True, separators=(",", ":"))}
    )
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, **_ENCODING) as writer:
        for first in range(0, len(lengths), row_group_windows):
            last = min(first + row_group_windows, len(lengths))
            columns = [_lists(ids, _edges(ends, first, last))]
            if real_lengths is not None:
                columns.append(pa.array(real_lengths[first:last].astype(np.int32)))
            if lists is not None and document_starts is not None:
                columns.append(_lists(document_starts, lists[first : last + 1]))
            writer.write_batch(pa.record_batch(columns, schema=schema), row_group_size=row_group_windows)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _width(dtype: np.dtype[Any]) -> int:
    if dtype.kind != "u" or dtype.itemsize not in _CODES:
        raise DataError(f"token ids are uint16 or uint32, got {dtype}")
    return dtype.itemsize


def _begins(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(lengths) - lengths


def _expect(holds: bool, field: str, found: object, right: object) -> None:
    if not holds:
        raise DataError(f"Megatron index: {field} is {found!r}, should be {right!r}")


def _expect_row(field: str, found: NDArray[np.int64], right: NDArray[np.int64]) -> None:
    wrong = np.flatnonzero(found != right)
    if len(wrong):
        row = wrong[0]
        _expect(False, f"{field} {row}", int(found[row]), int(right[row]))


def _check_real_lengths(real_lengths: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
    if len(real_lengths) != len(lengths):
        raise DataError(f"{len(lengths)} windows need as many real lengths, got {len(real_lengths)}")
    wrong = np.flatnonzero((real_lengths < 1) | (real_lengths > lengths))
    if len(wrong):
        row = wrong[0]
        raise DataError(f"window {row} has {lengths[row]} ids, its real length cannot be {real_lengths[row]}")


def _window_lists(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], real_lengths: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Where each window's list begins in `starts`, and the end of the last: int64[S + 1]."""
    begins = np.flatnonzero(starts == 0)
    if len(begins) != len(lengths) or (len(starts) and begins[:1].tolist() != [0]):
        raise DataError(
            f"document starts of {len(lengths)} windows need as many zeros, the first in front, got {len(begins)}"
        )
    if np.any((np.diff(starts) <= 0) & (starts[1:] != 0)):
        raise DataError("document starts of a window must rise from 0 without repeats")
    edges = np.append(begins, len(starts))
    beyond = np.flatnonzero(starts[edges[1:] - 1] >= (lengths if real_lengths is None else real_lengths))
    if len(beyond):
        row = beyond[0]
        raise DataError(f"window {row}: document start {starts[edges[row + 1] - 1]} lies behind its ids")
    return edges


def _schema(with_lengths: bool, with_starts: bool) -> pa.Schema:
    fields = [pa.field("input_ids", pa.list_(pa.int32()))]
    if with_lengths:
        fields.append(pa.field("length", pa.int32()))
    if with_starts:
        fields.append(pa.field("document_starts", pa.list_(pa.int32())))
    return pa.schema(fields)


def _edges(ends: NDArray[np.int64], first: int, last: int) -> NDArray[np.int64]:
    return np.append(ends[first - 1] if first else 0, ends[first:last])


def _lists(values: NDArray[Any], edges: NDArray[np.int64]) -> pa.ListArray:
    """Rows values[edges[i]:edges[i + 1]] as list<int32>, offsets counted from the first edge."""
    if edges[-1] - edges[0] >= 2**31:
        raise DataError(f"a row group of {edges[-1] - edges[0]:,} ids is too large for a list<int32> column")
    inside = values[edges[0] : edges[-1]].astype(np.int32)
    return pa.ListArray.from_arrays(pa.array((edges - edges[0]).astype(np.int32)), pa.array(inside))
