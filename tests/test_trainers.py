"""Bytes of trainer files: layouts spelled out on small examples, round trips, and refusals."""

import io
import struct
from itertools import chain

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import DataError, RecipeError
from curate.trainers import body, megatron_index, parquet_windows, read_megatron_index, token_dtype

FACTS = {"eos": 0, "pad": 1, "window": 4}
NARROW, WIDE = np.dtype("<u2"), np.dtype("<u4")


def array(*values):
    return np.array(values, np.int64)


def table_of(data):
    return pq.read_table(io.BytesIO(data))


@pytest.mark.parametrize(
    ("vocabulary", "dtype"),
    [(1, "<u2"), (65_499, "<u2"), (65_500, "<u4"), (65_536, "<u4"), (65_537, "<u4"), (2**31, "<u4")],
)
def test_ids_widen_where_megatron_widens_them(vocabulary, dtype):
    assert token_dtype(vocabulary) == np.dtype(dtype)


@pytest.mark.parametrize("vocabulary", [0, -5, 2**31 + 1])
def test_a_vocabulary_that_no_shard_can_hold_is_refused(vocabulary):
    with pytest.raises(RecipeError, match="1 to 2\\^31 ids"):
        token_dtype(vocabulary)


def test_body_is_the_ids_end_to_end_little_endian():
    assert bytes(body(np.array([1, 258, 65_535], np.uint16))) == b"\x01\x00\x02\x01\xff\xff"
    assert bytes(body(np.array([1, 66_051], np.uint32))) == b"\x01\x00\x00\x00\x03\x02\x01\x00"
    assert bytes(body(np.array([1, 258], ">u2"))) == b"\x01\x00\x02\x01"
    assert bytes(body(np.array([1, 9, 258, 9], np.uint16)[::2])) == b"\x01\x00\x02\x01"
    assert bytes(body(np.array([], np.uint32))) == b""


def test_body_copies_nothing_it_need_not():
    ids = np.zeros(4, np.uint16)
    view = body(ids)
    ids[0] = 513
    assert bytes(view[:2]) == b"\x01\x02"


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.uint64, np.float32])
def test_ids_of_another_type_are_refused(dtype):
    with pytest.raises(DataError, match="uint16 or uint32"):
        body(np.zeros(2, dtype))
    with pytest.raises(DataError, match="uint16 or uint32"):
        megatron_index(array(2), np.dtype(dtype))
    with pytest.raises(DataError, match="uint16 or uint32"):
        parquet_windows(np.zeros(2, dtype), array(2), facts=FACTS)


@pytest.mark.parametrize(("dtype", "code", "begins"), [(NARROW, b"\x08", (0, 8)), (WIDE, b"\x04", (0, 16))])
def test_megatron_index_byte_for_byte(dtype, code, begins):
    assert megatron_index(array(4, 3), dtype) == (
        b"MMIDIDX\x00\x00"
        + b"\x01\x00\x00\x00\x00\x00\x00\x00"
        + code
        + b"\x02\x00\x00\x00\x00\x00\x00\x00"
        + b"\x03\x00\x00\x00\x00\x00\x00\x00"
        + b"\x04\x00\x00\x00\x03\x00\x00\x00"
        + struct.pack("<2q", *begins)
        + struct.pack("<3q", 0, 1, 2)
    )


@given(st.lists(st.integers(1, 2**31 - 1), max_size=40), st.sampled_from([NARROW, WIDE]))
def test_megatron_index_round_trip(lengths, dtype):
    written = megatron_index(np.array(lengths, np.int64), dtype)
    assert len(written) == 42 + 20 * len(lengths)
    read, read_dtype = read_megatron_index(written)
    assert (read.tolist(), read.dtype, read_dtype) == (lengths, np.dtype(np.int64), dtype)


@pytest.mark.parametrize("length", [0, -1, 2**31])
def test_a_window_that_an_index_cannot_hold_is_refused(length):
    with pytest.raises(DataError, match="window 1 has"):
        megatron_index(array(4, length, 0), NARROW)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, b"X", "first 9 bytes"),
        (9, b"\x02", "version is 2, should be 1"),
        (17, b"\x05", "type of an id is 5"),
        (17, b"\x04", "first byte of window 1 is 8, should be 16"),
        (26, b"\x04", "document entries is 4, should be 3"),
        (34, b"\x05", "first byte of window 1 is 8, should be 10"),
        (38, b"\x00", "window 1 has 0 ids"),
        (50, b"\x09", "first byte of window 1 is 9, should be 8"),
        (58, b"\x01", "document entry 0 is 1, should be 0"),
        (74, b"\x03", "document entry 2 is 3, should be 2"),
    ],
)
def test_a_damaged_index_is_named_by_its_field(place, value, message):
    damaged = bytearray(megatron_index(array(4, 3), NARROW))
    damaged[place : place + 1] = value
    with pytest.raises(DataError, match=message):
        read_megatron_index(bytes(damaged))


def test_an_index_of_another_size_is_refused():
    whole = megatron_index(array(4, 3), NARROW)
    for data in (b"", whole[:20], whole[:-1], whole + b"\x00"):
        with pytest.raises(DataError, match="bytes"):
            read_megatron_index(data)


def test_parquet_of_two_windows():
    ids = np.array([5, 0, 6, 0, 7, 8, 0, 1], np.uint16)
    data = parquet_windows(ids, array(4, 4), facts=FACTS, real_lengths=array(4, 3), document_starts=array(0, 2, 0))
    table = table_of(data)
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("input_ids", "list<element: int32>"),
        ("length", "int32"),
        ("document_starts", "list<element: int32>"),
    ]
    assert table.to_pylist() == [
        {"input_ids": [5, 0, 6, 0], "length": 4, "document_starts": [0, 2]},
        {"input_ids": [7, 8, 0, 1], "length": 3, "document_starts": [0]},
    ]
    assert table.schema.metadata[b"curate"] == b'{"dtype":"uint16","eos":0,"pad":1,"window":4}'


def test_columns_that_are_not_given_are_not_written():
    table = table_of(parquet_windows(np.array([5, 0, 6], np.uint32), array(2, 1), facts=FACTS))
    assert table.to_pydict() == {"input_ids": [[5, 0], [6]]}
    assert table_of(parquet_windows(np.array([], np.uint32), array(), facts=FACTS)).num_rows == 0


@given(st.data(), st.sampled_from([np.uint16, np.uint32]), st.integers(1, 5))
def test_parquet_round_trip(data, dtype, row_group_windows):
    lengths = data.draw(st.lists(st.integers(1, 9), max_size=12))
    largest = min(np.iinfo(dtype).max, 2**31 - 1)
    windows = [data.draw(st.lists(st.integers(0, largest), min_size=n, max_size=n)) for n in lengths]
    real = [data.draw(st.integers(1, n)) for n in lengths]
    starts = [[0, *sorted(data.draw(st.sets(st.integers(1, n))) - {n})] for n in real]
    written = [
        parquet_windows(
            np.array([*chain(*windows)], dtype),
            np.array(lengths, np.int64),
            facts=FACTS,
            real_lengths=np.array(real, np.int64),
            document_starts=np.array([*chain(*starts)], np.int64),
            row_group_windows=row_group_windows,
        )
        for _ in range(2)
    ]
    assert written[0] == written[1]
    columns = table_of(written[0]).to_pydict()
    assert columns == {"input_ids": windows, "length": real, "document_starts": starts}
    metadata = pq.ParquetFile(io.BytesIO(written[0])).metadata
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert len(rows) == -(-len(lengths) // row_group_windows)
    assert max(rows, default=0) <= row_group_windows


def test_attention_within_documents_follows_from_the_columns():
    # Allowed pairs are sum l (l + 1) / 2 over documents: 3 ids and 2 ids here; padding sees nothing.
    ids, starts = np.arange(6, dtype=np.uint16), array(0, 3)
    data = parquet_windows(ids, array(6), facts=FACTS, real_lengths=array(5), document_starts=starts)
    row = table_of(data).to_pylist()[0]
    edges = [*row["document_starts"], row["length"]]
    assert sum(n * (n + 1) // 2 for n in np.diff(edges).tolist()) == 6 + 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lengths": array(4, 3)}, "should sum to 8 ids, got 7"),
        ({"lengths": array(8, 0)}, "at least 1 id"),
        ({"real_lengths": array(4)}, "2 windows need as many real lengths, got 1"),
        ({"real_lengths": array(4, 5)}, "window 1 has 4 ids, its real length cannot be 5"),
        ({"real_lengths": array(0, 4)}, "window 0 has 4 ids, its real length cannot be 0"),
        ({"document_starts": array(0, 2)}, "as many zeros"),
        ({"document_starts": array(1, 0, 2, 0)}, "as many zeros, the first in front"),
        ({"document_starts": array(0, 3, 2, 0)}, "must rise from 0"),
        ({"document_starts": array(0, 2, 2, 0)}, "must rise from 0"),
        ({"document_starts": array(0, 2, 0, 4)}, "window 1: document start 4 lies behind its ids"),
        ({"document_starts": array(0, 2, 0, 3), "real_lengths": array(4, 3)}, "window 1: document start 3"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(changed, message):
    given_arrays = {"lengths": array(4, 4), "facts": FACTS, **changed}
    with pytest.raises(DataError, match=message):
        parquet_windows(np.zeros(8, np.uint16), given_arrays.pop("lengths"), **given_arrays)
