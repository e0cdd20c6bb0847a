"""The one place where Arrow buffers become NumPy views, and tables become file bytes.

Views copy nothing: a kernel reads the bytes Arrow holds. Parquet is written one way everywhere (zstd level 1, no
statistics, dictionaries only where the type is one), so equal tables give equal bytes under one version of pyarrow.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from curate.errors import RecipeError

ROW_GROUP_BYTES = 32 << 20

Column: TypeAlias = pa.Array | pa.ChunkedArray


def one(column: Column) -> pa.Array:
    """The column as a single array (a copy only when it has several chunks)."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def utf8(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int64[n + 1] and bytes uint8[...] of a text or binary column, bytes not copied, both read-only.

    Offsets need not start at 0. A null counts as an empty row: the null bitmap is not looked at.
    """
    if isinstance(column, pa.ChunkedArray) and column.num_chunks > 1:
        column = column.cast(_large(column.type))
    array = one(column)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    array = array.cast(_large(array.type))
    _, offsets, data = array.buffers() if len(array) else (None, None, None)
    view = np.zeros(1, np.int64) if offsets is None else np.frombuffer(offsets, np.int64)
    view = view[array.offset : array.offset + len(array) + 1] if len(array) else view
    text = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    # To Numba writable arrays are of another type, for which all would be compiled once more.
    view.setflags(write=False)
    text.setflags(write=False)
    return view, text


def stretches(offsets: np.ndarray, size: int, most: int | None = None) -> Iterator[tuple[int, int]]:
    """Rows `start` to `stop` of about `size` bytes, one row at least and `most` at most: texts some at a time."""
    start, rows = 0, len(offsets) - 1
    while start < rows:
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + size, "right")) - 1)
        stop = min(stop, rows, start + (most or rows))
        yield start, stop
        start = stop


def numbers(column: Column, use: str) -> np.ndarray:
    """A column of numbers as float64[n], null as NaN. RecipeError, with what it is for, where it holds none."""
    array = one(column)
    kind = array.type
    if pa.types.is_null(kind):
        return np.full(len(array), np.nan)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise RecipeError(f"{use} is a column of {kind}; a column of numbers is wanted")
    values: np.ndarray = array.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy()
    return values


def fixed(column: Column) -> np.ndarray:
    """Rows of a fixed-size binary column as uint8[n, width], not copied. Nulls are refused by the caller."""
    array = one(column)
    width = array.type.byte_width
    data = np.frombuffer(array.buffers()[1], np.uint8)
    return data[array.offset * width : (array.offset + len(array)) * width].reshape(-1, width)


def binary(rows: np.ndarray) -> pa.Array:
    """A fixed-size binary column from uint8[n, width]."""
    rows = np.ascontiguousarray(rows)
    kind = pa.binary(rows.shape[1])
    return pa.Array.from_buffers(kind, len(rows), [None, pa.py_buffer(rows)])


def lists(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int64[n + 1] and values of a large_list column of numbers, not copied."""
    array = one(column)
    if len(array) == 0:
        return np.zeros(1, np.int64), np.empty(0, array.type.value_type.to_pandas_dtype())
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    return offsets, array.values.to_numpy(zero_copy_only=True)


def large_lists(offsets: np.ndarray, values: np.ndarray) -> pa.Array:
    """A large_list column from offsets int64[n + 1] that start at 0 and flat values."""
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values))


def halves(digests: Column | np.ndarray) -> np.ndarray:
    """The two halves of 16 bytes each, uint64[n, 2], first bytes most significant; of a column or of uint8[n, 16]."""
    rows = digests if isinstance(digests, np.ndarray) else fixed(digests)
    found: np.ndarray = np.ascontiguousarray(rows).view(">u8").astype(np.uint64).reshape(-1, 2)
    return found


def ascending(values: np.ndarray) -> np.ndarray:
    """Whole numbers in the order of float32[n] or float64[n], as uint32[n] or uint64[n]; -0.0 is 0.0."""
    kind = np.uint32 if values.dtype == np.float32 else np.uint64
    bits = (values + values.dtype.type(0)).view(kind)  # -0.0 + 0.0 is 0.0
    sign = kind(1 << (8 * values.itemsize - 1))
    found: np.ndarray = np.where(bits & sign, ~bits, bits | sign)
    return found


def is_label(kind: pa.DataType) -> bool:
    """True for words, whole numbers and truths, by which rows are told apart. A column of nulls has one label."""
    words = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(words or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind))


def vectors(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a fixed_size_list column of float16, float32 or int8 as float32[n, d], and which are not null (bool[n]).

    Null rows are zeros. Rows of int8 come at unit length, NaN where they have none. Values of float32 without nulls
    are not copied. RecipeError for a column of another type.
    """
    array = one(column)
    kind = array.type
    numbers = (pa.float16(), pa.float32(), pa.int8())
    if not (pa.types.is_fixed_size_list(kind) and kind.value_type in numbers and kind.list_size):
        raise RecipeError(f"vectors are a column of {kind}; fixed_size_list of float32, float16 or int8 is wanted")
    width, rows = kind.list_size, len(array)
    values = array.values.slice(array.offset * width, rows * width)
    if values.null_count:
        values = values.cast(pa.float32()).fill_null(np.nan)
    found = values.to_numpy().reshape(rows, width).astype(np.float32, copy=False)
    valid: np.ndarray = array.is_valid().to_numpy(zero_copy_only=False)
    found = found if valid.all() else np.where(valid[:, None], found, np.float32(0))
    return (_unit(found, valid) if kind.value_type == pa.int8() else found), valid


def _unit(rows: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Rows of float32[n, d] at unit length; valid ones without direction as NaN, which no reader takes for a vector."""
    from curate.kernels.pooling import unit_vectors

    rows, has = np.array(rows), np.array(valid)
    unit_vectors(rows, has)
    rows[valid & ~has] = np.nan
    return rows


def vector_column(rows: np.ndarray, valid: np.ndarray, kind: pa.DataType) -> pa.Array:
    """A fixed_size_list column from float32[n, d]: of `kind` (float16, float32 or int8) values, null where not valid.

    int8 keeps a row's direction: its largest number becomes 127 or -127, the others the nearest whole numbers, half to
    even. Its length is lost: `vectors` gives all rows length 1.
    """
    values = np.where(valid[:, None], rows, np.float32(0))
    if kind == pa.int8():
        largest = np.abs(values).max(axis=1, initial=np.finfo(np.float32).tiny, keepdims=True)
        values = np.rint(values / largest * np.float32(127))
    values = values.astype(kind.to_pandas_dtype(), copy=False)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(values).reshape(-1)), rows.shape[1], mask=pa.array(~valid)
    )


def row_hashes(table: pa.Table) -> np.ndarray:
    """One uint64 per row over all columns: numbers, booleans, text, bytes, large lists of numbers, or vectors."""
    from curate.kernels.hash import combine, xxh3_64

    rows = np.zeros(table.num_rows, np.uint64)
    for column in table.columns:
        hashes = np.empty(table.num_rows, np.uint64)
        if pa.types.is_fixed_size_binary(column.type):
            wide = np.ascontiguousarray(fixed(column))
            offsets = np.arange(table.num_rows + 1, dtype=np.int64) * column.type.byte_width
            xxh3_64(offsets, wide.reshape(-1), np.uint64(0), hashes)
        elif pa.types.is_primitive(column.type):
            array = one(column)
            numbers = array.cast(pa.uint8()) if pa.types.is_boolean(array.type) else array
            numbers = numbers.fill_null(0) if numbers.null_count else numbers
            hashes[:] = _as_uint64(np.ascontiguousarray(numbers.to_numpy(zero_copy_only=False)))
        elif pa.types.is_large_list(column.type):
            starts, values = lists(column)
            xxh3_64(starts * values.itemsize, values.view(np.uint8), np.uint64(0), hashes)
        elif pa.types.is_fixed_size_list(column.type):
            # A null row is taken for a vector of length 0, which no other row is: unlike one of zeros.
            rows_of, valid = vectors(column)
            size = rows_of.shape[1] * rows_of.itemsize
            offsets = np.concatenate([[0], np.cumsum(np.where(valid, size, 0))]).astype(np.int64)
            xxh3_64(offsets, rows_of[valid].reshape(-1).view(np.uint8), np.uint64(0), hashes)
        else:
            xxh3_64(*utf8(column), np.uint64(0), hashes)
        combine(rows, hashes)
    return rows


@dataclass(frozen=True)
class Encoded:
    """A table as parquet bytes, with the digest of the file and of each column's own bytes in it."""

    data: memoryview
    rows: int
    sha256: str
    columns: dict[str, str]


def encode(table: pa.Table, *, compression: str = "zstd") -> Encoded:
    """Parquet bytes of a table in row groups of some 32 MB; `compression` is zstd, or none for what is soon deleted."""
    rows = max(1, ROW_GROUP_BYTES // max(1, table.nbytes // max(1, table.num_rows)))
    sink = pa.BufferOutputStream()
    kinds = [f.name for f in table.schema if pa.types.is_dictionary(f.type)]
    pq.write_table(
        table.replace_schema_metadata(None),
        sink,
        compression=compression,
        compression_level=1 if compression == "zstd" else None,
        row_group_size=rows,
        use_dictionary=kinds,
        write_statistics=False,
    )
    buffer = sink.getvalue()
    return Encoded(
        memoryview(buffer),
        table.num_rows,
        hashlib.sha256(buffer).hexdigest(),
        column_digests(buffer) if table.num_columns else {},
    )


def column_digests(buffer: pa.Buffer) -> dict[str, str]:
    """XXH3-128 of the type of each top-level column and of the bytes that it occupies in a parquet file."""
    view = memoryview(buffer)
    metadata = pq.ParquetFile(pa.BufferReader(buffer)).metadata
    schema = metadata.schema.to_arrow_schema()
    # Equal bytes may stand for columns of two types, nulls for one. A name may hold dots, as paths in parquet do.
    states = {field.name: xxhash.xxh3_128(str(field.type).encode()) for field in schema}
    owners = [field.name for field in schema for _ in range(_leaves(field.type))]
    for group in range(metadata.num_row_groups):
        for index, name in enumerate(owners):
            column = metadata.row_group(group).column(index)
            start = column.data_page_offset
            if column.dictionary_page_offset is not None:
                start = min(start, column.dictionary_page_offset)
            states[name].update(view[start : start + column.total_compressed_size])
    return {name: state.hexdigest() for name, state in sorted(states.items())}


def _leaves(kind: pa.DataType) -> int:
    """Columns of a parquet file that a column of this type takes."""
    if pa.types.is_dictionary(kind):
        return 1
    return sum(_leaves(kind.field(i).type) for i in range(kind.num_fields)) if kind.num_fields else 1


def _as_uint64(numbers: np.ndarray) -> np.ndarray:
    if numbers.dtype.kind in "iu":
        return numbers.astype(np.int64).view(np.uint64) if numbers.dtype.kind == "i" else numbers.astype(np.uint64)
    return numbers.astype(np.float64).view(np.uint64)


def _large(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.large_binary() if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else pa.large_string()
