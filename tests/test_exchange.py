"""Record files: rows go in by segment and come out whole, and digests know content, not order or files."""

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import exchange, store
from curate.errors import DataError

SCHEMA = pa.schema(
    [("n", pa.int64()), ("text", pa.string()), ("id", pa.binary(2)), ("ids", pa.large_list(pa.uint16()))]
)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "n": st.integers(-5, 5),
            "text": st.text(max_size=3),
            "id": st.binary(min_size=2, max_size=2),
            "ids": st.lists(st.integers(0, 9), max_size=3),
        }
    ),
    max_size=12,
)


@st.composite
def cuts(draw):
    """Rows, the segment of each, and how many segments there are."""
    segments = draw(st.integers(1, 9))
    made = draw(rows)
    return made, draw(st.lists(st.integers(0, segments - 1), min_size=len(made), max_size=len(made))), segments


def table_of(made):
    return pa.Table.from_pylist(made, SCHEMA)


def put(name, made, where, segments):
    uri = f"memory://exchange/{name}"
    store.put(uri, exchange.cut(table_of(made), np.array(where, np.int64), segments))
    return uri


def by_segment(made, where):
    found = defaultdict(list)
    for row, segment in zip(made, where, strict=True):
        found[segment].append(row)
    return found


@given(cuts(), st.data())
def test_what_is_cut_is_read_back(cut, data):
    made, where, segments = cut
    uri = put("a", made, where, segments)
    expected = by_segment(made, where)
    index = exchange.index(uri)
    assert index.rows.tolist() == [len(expected[s]) for s in range(segments)]
    first = data.draw(st.integers(0, segments))
    last = data.draw(st.integers(first, segments))
    tables = exchange.read(uri, first, last)
    assert [table.to_pylist() for table in tables] == [expected[s] for s in range(first, last) if expected[s]]
    assert all(table.schema == SCHEMA for table in tables)


@given(cuts(), st.randoms(use_true_random=False), st.integers(1, 4))
def test_digests_know_content_not_order_or_files(cut, random, files):
    made, where, segments = cut
    whole = exchange.index(put("whole", made, where, segments))
    lines = list(zip(made, where, strict=True))
    random.shuffle(lines)
    rows, digests = np.zeros(segments, np.uint64), np.zeros(segments, np.uint64)
    for number in range(files):
        part = lines[number::files]
        index = exchange.index(put(f"part{number}", [r for r, _ in part], [s for _, s in part], segments))
        rows += index.rows
        digests += index.digests
    assert rows.tolist() == whole.rows.tolist()
    assert digests.tolist() == whole.digests.tolist()


@given(cuts().filter(lambda cut: cut[0]), st.data())
def test_the_digest_of_the_changed_segment_changes(cut, data):
    made, where, segments = cut
    at = data.draw(st.integers(0, len(made) - 1))
    other = [*made[:at], {**made[at], "n": made[at]["n"] + 1}, *made[at + 1 :]]
    before, after = (exchange.index(put("a", lines, where, segments)).digests for lines in (made, other))
    assert np.flatnonzero(before != after).tolist() == [where[at]]


def test_equal_tables_give_equal_bytes():
    table, where = table_of([{"n": n, "text": "x" * n, "id": b"ab", "ids": [n]} for n in range(9)]), np.arange(9) % 3
    whole = exchange.cut(table, where, 4)
    assert exchange.cut(pa.concat_tables([table.slice(0, 4), table.slice(4)]), where, 4) == whole
    assert exchange.cut(pa.concat_tables([table, table]).slice(9), where, 4) == whole


def test_a_file_of_no_rows_has_all_its_segments():
    uri = put("none", [], [], 5)
    assert exchange.index(uri).rows.tolist() == [0] * 5
    assert exchange.read(uri, 0, 5) == []


def test_a_segment_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="segment 3 of 3"):
        exchange.cut(table_of([{"n": 1, "text": "", "id": b"ab", "ids": []}]), np.array([3]), 3)


@pytest.mark.parametrize("data", [b"", b"short", b"x" * 100, None])
def test_what_is_no_record_file_is_named(data):
    whole = exchange.cut(table_of([]), np.array([], np.int64), 3)
    store.put("memory://exchange/damaged", whole[10:] if data is None else data)
    with pytest.raises(DataError, match=r"memory://exchange/damaged is no record file"):
        exchange.index("memory://exchange/damaged")


@given(st.lists(st.integers(0, 2**64 - 1)), st.integers(0, 10))
def test_leading_bits_keep_the_order_of_keys(keys, bits):
    segments = 1 << bits
    where = exchange.leading(np.array(sorted(keys), np.uint64), segments)
    assert where.tolist() == [key * segments // 2**64 for key in sorted(keys)]
    assert (np.diff(where) >= 0).all()


@given(cuts(), st.data())
def test_no_changed_byte_is_read_as_rows(cut, data):
    made, where, segments = cut
    uri = put("flipped", made, where, segments)
    whole = bytearray(store.read(uri))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    store.put(uri, bytes(whole))
    with pytest.raises(DataError, match="is no record file or is damaged"):
        exchange.read(uri, 0, segments)
