"""Arrow columns as kernels take them, hashes of rows, and tables as files: sliced, chunked, empty, null, dictionary."""

import hashlib
import io
import math
from functools import reduce
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import mix, xxh3_64

from curate import arrow
from curate.arrow import vector_column, vectors

texts = st.lists(st.none() | st.text(max_size=6), max_size=12)
KINDS = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]


def laid_out(values, kind, draw):
    """The values as a column: alone, as a slice of something longer, or in several chunks."""
    how = draw(st.sampled_from(["alone", "sliced", "chunked", "chunk of slices"]))
    if how == "alone":
        return pa.array(values, kind)
    if how == "sliced":
        return pa.array([*values[:3], *values, *values[-2:]], kind).slice(len(values[:3]), len(values))
    border = draw(st.integers(0, len(values)))
    parts = [values[:border], values[border:]]
    if how == "chunked":
        return pa.chunked_array([pa.array(part, kind) for part in parts], kind)
    return pa.chunked_array([pa.array([*values[:1], *part], kind).slice(len(values[:1])) for part in parts], kind)


def rows(offsets, data):
    return [data[a:b].tobytes() for a, b in pairwise(offsets)]


@given(texts, st.sampled_from(KINDS), st.data())
def test_text_is_seen_as_its_bytes(values, kind, data):
    offsets, view = arrow.utf8(laid_out(values, kind, data.draw))
    assert (offsets.dtype, view.dtype) == (np.int64, np.uint8)
    assert rows(offsets, view) == [(value or "").encode() for value in values]


@given(st.lists(st.binary(max_size=4), max_size=8), st.sampled_from([pa.binary(), pa.large_binary()]), st.data())
def test_bytes_are_seen_as_they_are(values, kind, data):
    assert rows(*arrow.utf8(laid_out(values, kind, data.draw))) == values


def test_columns_of_nulls_are_empty_rows():
    assert rows(*arrow.utf8(pa.nulls(3))) == [b""] * 3
    assert rows(*arrow.utf8(pa.nulls(2, pa.string()))) == [b""] * 2
    assert rows(*arrow.utf8(pa.chunked_array([], pa.string()))) == []


def test_text_is_not_copied():
    column = pa.array(["abc", "defg"], pa.large_string())
    assert arrow.utf8(column)[1].ctypes.data == column.buffers()[2].address
    assert arrow.utf8(column.slice(1))[1].ctypes.data == column.buffers()[2].address


@given(st.lists(st.binary(min_size=5, max_size=5), max_size=9), st.data())
def test_fixed_rows_there_and_back(values, data):
    seen = arrow.fixed(laid_out(values, pa.binary(5), data.draw))
    assert [row.tobytes() for row in seen] == values
    assert seen.shape == (len(values), 5)
    assert arrow.binary(seen).to_pylist() == values
    assert arrow.binary(seen[::-1]).to_pylist() == values[::-1]


@given(st.lists(st.lists(st.integers(0, 2**16 - 1), max_size=4), max_size=9), st.data())
def test_lists_there_and_back(values, data):
    offsets, flat = arrow.lists(laid_out(values, pa.large_list(pa.uint16()), data.draw))
    assert flat.dtype == np.uint16
    assert [flat[a:b].tolist() for a, b in pairwise(offsets)] == values
    first = flat[offsets[0] : offsets[-1]]
    made = arrow.large_lists(offsets - offsets[0], first)
    assert (made.type, made.to_pylist()) == (pa.large_list(pa.uint16()), values)


COLUMNS = {
    "text": (pa.string(), st.text(max_size=3)),
    "same text": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b"])),
    "bytes": (pa.large_binary(), st.binary(max_size=3)),
    "id": (pa.binary(16), st.binary(min_size=16, max_size=16)),
    "whole": (pa.int32(), st.integers(-3, 3)),
    "large": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "share": (pa.float64(), st.floats(allow_nan=False).map(lambda x: x or 0.0)),
    "truth": (pa.bool_(), st.booleans()),
    "ids": (pa.large_list(pa.uint16()), st.lists(st.integers(0, 9), max_size=3)),
}


@given(st.data(), st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=4, unique=True), st.integers(0, 6))
def test_equal_rows_and_no_others_have_equal_hashes(data, names, count):
    values = {n: data.draw(st.lists(COLUMNS[n][1], min_size=count, max_size=count)) for n in names}
    tables = [
        pa.table({n: laid_out(values[n], COLUMNS[n][0], data.draw) for n in names}, pa.schema(
            [(n, COLUMNS[n][0]) for n in names]
        ))
        for _ in range(2)
    ]  # fmt: skip
    first, second = map(arrow.row_hashes, tables)
    assert first.dtype == np.uint64
    assert first.tolist() == second.tolist()
    keys = [repr([values[n][i] for n in names]) for i in range(count)]
    assert len(set(zip(keys, first.tolist(), strict=True))) == len(set(keys)) == len(set(first.tolist()))


@pytest.mark.parametrize(
    ("kind", "zero"), [(pa.string(), ""), (pa.int8(), 0), (pa.float32(), 0.0), (pa.bool_(), False), (pa.null(), None)]
)
def test_a_null_hashes_as_nothing(kind, zero):
    hashes = arrow.row_hashes(pa.table({"x": pa.array([None, zero], kind)}))
    assert hashes[0] == hashes[1]


def test_a_row_is_hashed_column_by_column():
    # Draws, and so every sample and shuffle, come from these: another hash is another corpus.
    row = {"id": b"0123456789abcdef", "origin": "a.jsonl:1", "n": -7, "share": 0.5, "ids": [1, 2]}
    kinds = [("id", pa.binary(16)), ("origin", pa.string()), ("n", pa.int16()), ("share", pa.float32())]
    table = pa.Table.from_pylist([row], pa.schema([*kinds, ("ids", pa.large_list(pa.uint16()))]))
    half = int(np.float64(0.5).view(np.uint64))
    hashes = [xxh3_64(row["id"], 0), xxh3_64(b"a.jsonl:1", 0), 2**64 - 7, half, xxh3_64(b"\1\0\2\0", 0)]
    assert arrow.row_hashes(table).tolist() == [reduce(mix, hashes, 0)]


def encoded(**columns):
    return arrow.encode(pa.table(columns))


def test_a_table_is_one_file_and_is_read_back():
    table = pa.table(
        {"text": pa.array(["a", "é"] * 50, pa.large_string()), "source": pa.array(["web"] * 100).dictionary_encode()}
    )
    made = arrow.encode(table.replace_schema_metadata({"pandas": "noise"}))
    assert bytes(arrow.encode(table).data) == bytes(made.data)
    assert made.sha256 == hashlib.sha256(made.data).hexdigest()
    assert made.rows == 100
    read = pq.read_table(io.BytesIO(made.data))
    assert read.schema.metadata is None
    assert read.equals(table)
    parts = arrow.encode(pa.concat_tables([table.slice(0, 30), table.slice(30)]))
    assert pq.read_table(io.BytesIO(parts.data)).equals(table)


def test_row_groups_follow_the_size_of_rows(monkeypatch):
    monkeypatch.setattr(arrow, "ROW_GROUP_BYTES", 800)
    table = pa.table({"n": np.arange(1000)})
    assert pq.ParquetFile(io.BytesIO(arrow.encode(table).data)).metadata.num_row_groups == 10
    assert arrow.encode(table).columns == arrow.encode(pa.table({"n": np.arange(1000)})).columns


NESTED = pa.struct([("x", pa.int64()), ("y", pa.list_(pa.struct([("z", pa.string())])))])
PLAIN = {
    "a": pa.array([1, 2, 3]),
    "a.b": pa.array(["x", None, "z"]),
    "deep": pa.array([{"x": 1, "y": [{"z": "q"}]}, None, {"x": 2, "y": []}], NESTED),
    "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int8())),
    "kind": pa.array(["p", "q", "p"]).dictionary_encode(),
    "none": pa.nulls(3, pa.float64()),
    "ids": pa.array([[1], [], [2, 3]], pa.large_list(pa.uint16())),
}
CHANGED = {
    "a": pa.array([1, 2, 4]),
    "a.b": pa.array(["x", None, "y"]),
    "deep": pa.array([{"x": 1, "y": [{"z": "r"}]}, None, {"x": 2, "y": []}], NESTED),
    "map": pa.array([[("k", 2)], [], None], pa.map_(pa.string(), pa.int8())),
    "kind": pa.array(["p", "q", "q"]).dictionary_encode(),
    "none": pa.nulls(3, pa.string()),
    "ids": pa.array([[1], [2], [3]], pa.large_list(pa.uint16())),
}


@pytest.mark.parametrize("name", PLAIN)
def test_only_the_digest_of_the_changed_column_changes(name):
    before, after = encoded(**PLAIN).columns, encoded(**PLAIN | {name: CHANGED[name]}).columns
    assert list(before) == sorted(PLAIN)
    assert {n for n in PLAIN if before[n] != after[n]} == {name}
    assert encoded(**{name: PLAIN[name]}).columns[name] == before[name], "what else is in the file does not count"


def test_digests_of_tables_without_rows_or_columns():
    none = pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())})
    digests = arrow.encode(none).columns
    assert list(digests) == ["a", "b"]
    assert digests["a"] != encoded(a=pa.array([0])).columns["a"]
    assert arrow.encode(none.select([])).columns == {}


@given(
    st.integers(1, 40).flatmap(
        lambda width: st.lists(st.one_of(st.none(), st.lists(st.integers(-128, 127), min_size=width, max_size=width)))
    ),
    st.data(),
)
def test_vectors_of_eight_bits_come_at_unit_length(rows, data):
    width = next((len(row) for row in rows if row is not None), 3)
    column = pa.array(rows, pa.list_(pa.int8(), width))
    start = data.draw(st.integers(0, len(rows)))
    found, valid = vectors(column.slice(start))
    assert valid.tolist() == [row is not None for row in rows[start:]]
    for row, vector in zip(rows[start:], found, strict=True):
        length = None if row is None else math.sqrt(sum(x * x for x in row))
        if length is None:
            assert not vector.any()
        elif not length:
            assert np.isnan(vector).all()
        else:
            assert vector.tolist() == [float(np.float32(x / length)) for x in row]


def test_vectors_in_eight_bits_keep_their_direction():
    row = np.array([2.5, -3.5, 4.0, -127.0, 126.6, 0.25], np.float32)
    rows, valid = np.stack([row, row, row / 1024, -row, 0 * row]), np.array([True, False, True, True, True])
    whole = [2, -4, 4, -127, 127, 0]
    made = vector_column(rows, valid, pa.int8()).to_pylist()
    assert made == [whole, None, whole, [-x for x in whole], [0] * 6]
    assert vector_column(rows[:0], valid[:0], pa.int8()).type == pa.list_(pa.int8(), 6)


def test_a_null_inside_a_vector_is_no_number():
    found, valid = vectors(pa.array([[1, None], [3, 4]], pa.list_(pa.int8(), 2)))
    assert valid.all()
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == [np.float32(0.6), np.float32(0.8)]
