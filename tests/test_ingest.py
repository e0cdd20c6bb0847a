"""Reading raw files: what becomes a document, what is set aside and why, and that neither depends on its neighbours."""

import gzip
import json
import os
import unicodedata
from dataclasses import replace
from itertools import pairwise
from unittest import mock

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import hostile_text

from curate import raw, records, store, streams
from curate.errors import RecipeError, StoreError
from curate.jsonl import Parser
from curate.stages.ingest import Field, Ingest, Input, Normalize


def an_input(*patterns, **more):
    return Input(files=patterns, **{"source": "web", **more})


def everything(root, *inputs, **more):
    """All documents and all rejects of a run over `root`, with the batches they came in."""
    ingest = Ingest(inputs=inputs or (an_input("**"),), **more)
    found = raw.find(str(root), ingest.inputs)
    described = raw.describe(found, [raw.survey(c) for c in raw.chunks(found, count=ingest.limit is not None)])
    schema = raw.schema(described, ingest.inputs)
    keep = raw.threshold(described, ingest.limit) if ingest.limit is not None else None
    batches = [batch for unit in raw.units(described, ingest) for batch in raw.read(unit, ingest, schema, keep)]
    for batch in batches:
        assert batch.documents.schema.equals(raw.document_schema(schema))
        assert batch.records == batch.documents.num_rows + batch.rejects.num_rows
        batch.documents.validate(full=True)
    documents = pa.concat_tables([batch.documents for batch in batches])
    return documents, pa.concat_tables([batch.rejects for batch in batches]), batches


def texts(root, *inputs, **more):
    return everything(root, *inputs, **more)[0]["text"].to_pylist()


def reasons(rejects):
    return list(zip(rejects["origin"].to_pylist(), rejects["reason"].to_pylist(), strict=True))


def lines(*records):
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


# --- documents -------------------------------------------------------------------------------------------------------


def test_a_record_becomes_a_document(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(
        lines({"text": "one", "id": 7, "url": "u"}, {"text": "na\u00efve", "id": "x", "n": 1}, {"text": "", "n": None})
    )
    documents, rejects, _ = everything(tmp_path)
    assert rejects.num_rows == 0
    assert documents.column_names == ["id", "text", "source", "source_id", "origin", "url", "bytes", "n"]
    assert documents.to_pylist() == [
        {
            "id": xxhash.xxh3_128_digest(text.encode()), "text": text, "source": "web", "source_id": key,
            "origin": f"a.jsonl:{line}", "url": url, "bytes": len(text.encode()), "n": n,
        }
        for line, (text, key, url, n) in enumerate(
            [("one", "7", "u", None), ("na\u00efve", "x", None, 1), ("", None, None, None)], start=1
        )
    ]  # fmt: skip


def test_formats_give_the_same_documents(tmp_path):
    rows = [{"text": f"text {i}", "id": f"{i}", "url": None, "n": i, "deep": {"a": [i]}} for i in range(500)]
    data = lines(*rows)
    stored = {
        "a.jsonl": data, "a.jsonl.gz": gzip.compress(data), "a.jsonl.zst": zstandard.compress(data), "a.ndjson": data,
        "bom.jsonl": b"\xef\xbb\xbf" + data, "crlf.jsonl": data.replace(b"\n", b"\r\n"), "open.jsonl": data[:-1],
        "bom.jsonl.gz": gzip.compress(b"\xef\xbb\xbf" + data),
        "frames.jsonl.zst": zstandard.compress(data[:999]) + zstandard.compress(data[999:]),
        "members.jsonl.gz": gzip.compress(data[:999]) + gzip.compress(b"") + gzip.compress(data[999:]) + bytes(512),
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=64)
    for name, content in stored.items():
        (tmp_path / name).write_bytes(content)
    expected = None
    for name in ["a.parquet", *stored]:
        documents, rejects, _ = everything(tmp_path, an_input(name))
        assert rejects.num_rows == 0
        assert documents["origin"].to_pylist() == [f"{name}:{i}" for i in range(1, 501)]
        rest = documents.drop_columns(["origin"]).to_pylist()
        expected = expected or rest
        assert rest == expected, name


def test_a_text_file_is_a_document(tmp_path):
    for name, data in {
        "a.txt": b"one\r\ntwo", "b.md": b"\xef\xbb\xbf# t", "c.txt.gz": gzip.compress(b"packed"), "d.txt": b"",
        "e.txt": b"a\xffb", "f.txt": "wide".encode("utf-16"), "g.txt.gz": gzip.compress(os.urandom(99))[:50],
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
    documents, rejects, _ = everything(tmp_path)
    found = dict(zip(documents["origin"].to_pylist(), documents["text"].to_pylist(), strict=True))
    assert found == {"a.txt": "one\ntwo", "b.md": "# t", "c.txt.gz": "packed"}
    assert reasons(rejects) == [
        ("e.txt", "invalid UTF-8: byte 2 is 0xff"),
        ("f.txt", "UTF-16: the file must be UTF-8"),
        ("g.txt.gz", "damaged: the gzip data ends in the middle; the file is cut short"),
    ]


def test_source_may_come_from_a_field(tmp_path):
    rows = [{"text": "a", "kind": "x"}, {"text": "b", "kind": 5}, {"text": "c", "kind": None}, {"text": "d"}]
    (tmp_path / "a.jsonl").write_bytes(lines(*rows))
    (tmp_path / "b.parquet").write_bytes(parquet([{"text": "e", "kind": "x"}, {"text": "f", "kind": None}]))
    documents, rejects, _ = everything(tmp_path, an_input("*", source=Field("kind")))
    assert documents["source"].to_pylist() == ["x", "5", "x"]
    assert reasons(rejects) == [("a.jsonl:3", "kind null"), ("a.jsonl:4", "kind missing"), ("b.parquet:2", "kind null")]


def parquet(rows, **more):
    sink = pa.BufferOutputStream()
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows), sink, **more)
    return bytes(sink.getvalue())


def test_ids_of_any_kind_become_text(tmp_path):
    keys = [1, "two", 3.5, True, None, [1, "a"], {"k": None}, -0, 2**63, 0]
    (tmp_path / "a.jsonl").write_bytes(lines(*({"text": "t", "id": key} for key in keys)))
    documents, rejects, _ = everything(tmp_path)
    assert rejects.num_rows == 0
    expected = ["1", "two", "3.5", "true", None, '[1,"a"]', '{"k":null}', "0", "9223372036854775808", "0"]
    assert documents["source_id"].to_pylist() == expected


def test_carried_columns_have_one_type_everywhere(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines({"text": "a", "n": 1, "day": "2024-01-02", "deep": {"x": 1}}))
    (tmp_path / "b.jsonl").write_bytes(lines({"text": "b", "n": 2**53 + 1, "deep": {"y": "z"}}))
    (tmp_path / "c.parquet").write_bytes(parquet([{"text": "c", "n": 0.5, "deep": {"x": 5}, "only": b"raw"}]))
    documents, _, _ = everything(tmp_path)
    assert documents.select(["n", "day", "deep", "only"]).to_pylist() == [
        {"n": 1.0, "day": "2024-01-02", "deep": {"x": 1, "y": None}, "only": None},
        {"n": float(2**53), "day": None, "deep": {"x": None, "y": "z"}, "only": None},
        {"n": 0.5, "day": None, "deep": {"x": 5, "y": None}, "only": b"raw"},
    ]


def test_a_column_without_a_type_keeps_later_values_as_json(tmp_path):
    with mock.patch("curate.columns.SAMPLE", 64 << 10):
        rows = [{"text": "x" * 1000, "later": None} for _ in range(100)]
        late = [{"text": "t", "later": value} for value in (1, "a", {"k": [1]})]
        (tmp_path / "a.jsonl").write_bytes(lines(*rows, *late))
        documents, rejects, _ = everything(tmp_path)
    assert rejects.num_rows == 0
    assert documents["later"].to_pylist()[-4:] == [None, "1", "a", '{"k":[1]}']


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Normalize(), "\u00e9\n\n\ufb01\nend"),
        (Normalize("NFKC"), "\u00e9\n\nfi\nend"),
        (Normalize("none", "keep"), "e\u0301\r\n\r\ufb01\nend"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.txt"])
def test_text_is_normalised_once(tmp_path, how, expected, name):
    text = "e\u0301\r\n\r\ufb01\nend"
    data = {"a.jsonl": lines({"text": text}), "a.parquet": parquet([{"text": text}]), "a.txt": text.encode()}[name]
    (tmp_path / name).write_bytes(data)
    (document,) = everything(tmp_path, an_input(name, normalize=how))[0].to_pylist()
    assert document["text"] == expected
    assert document["id"] == xxhash.xxh3_128_digest(expected.encode())
    assert document["bytes"] == len(expected.encode())


@given(st.lists(hostile_text, max_size=8), st.integers(0, 3))
def test_normalising_a_column_is_normalising_each_text(rows, part):
    # Letters of one Unicode version: the next may give others a decomposition.
    rows = ["".join(c for c in row if unicodedata.category(c) != "Cn") for row in rows]
    column = pa.array(rows, pa.large_string()).slice(part)
    done = records.normalised(column, Normalize()).to_pylist()
    unix = [row.replace("\r\n", "\n").replace("\r", "\n") for row in rows[part:]]
    assert done == [unicodedata.normalize("NFC", row) for row in unix]


# --- records set aside -----------------------------------------------------------------------------------------------

BAD = [
    (b"not json", "not JSON: "),
    (b'{"text": "cut', "not JSON: "),
    (b'{"text": "a"} {"text": "b"}', "not JSON: unexpected content after document"),
    (b'{"text": "a"}null', "not JSON: unexpected content after document"),
    (b'{"text": "a",}', "not JSON: trailing comma"),
    (b'{"text": "a\x00b"}', "not JSON: "),
    (b"\0", "not JSON: "),
    (b'{"text": "a\tb"}', "not JSON: "),
    (b'{"text": "\xff"}', "invalid UTF-8: byte 11 of the record is 0xff"),
    (b'{"text": "a", "more": "\xed\xa0\x80"}', "invalid UTF-8: byte 24 of the record is 0xed"),
    (b'{"text": "\\ud800"}', "lone surrogate: character 11 of the record"),
    (b'{"text": "\\udc00 "}', "lone surrogate: character 11 of the record"),
    (b'{"text": "a", "n": 1e999}', "number out of range: character 20 of the record"),
    (b'[{"text": "a"}]', "not an object: found array"),
    (b'"text"', "not an object: found string"),
    (b"17", "not an object: found number"),
    (b"null", "not an object: found null"),
    (b'{"txet": "a"}', "text missing"),
    (b'{"text": null}', "text null"),
    (b'{"text": 5}', "text: expected string, found int64"),
    (b'{"text": ["a"]}', "text: expected string, found list<"),
    (b'{"text": "a", "n": "x"}', "column n: expected int64, found string"),
    (b'{"text": "a", "n": 1.5}', "column n: expected int64, found double"),
    (b'{"text": "a", "n": 9223372036854775808}', "column n: expected int64, found double"),
    (b'{"text": "a", "tags": ["a", 1]}', "column tags: expected list<item: string>, found list<"),
    (b'{"text": "a", "text": null}', "text null"),
]
GOOD = [
    (b'{"text": "first", "n": 1, "tags": ["a"]}', "first"),
    (b'  {"text": "spaces", "n": 2} \t', "spaces"),
    (b'{"text": "nul \\u0000 kept"}', "nul \0 kept"),
    (b'{"text": "first wins?", "text": "last wins"}', "last wins"),
    (b'{"text": "n twice", "n": 1, "n": 2}', "n twice"),
    (b'{"text": "NaN elsewhere", "x": NaN, "y": [-Infinity]}', "NaN elsewhere"),
    (b'{"text": "deep", "x": ' + b"[" * 3000 + b"]" * 3000 + b"}", "deep"),
    (b'{"te\\u0078t": "escaped \\ud83d\\ude00"}', "escaped \U0001f600"),
    (b"\r", None),
    (b"", None),
    (b" \t ", None),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_a_bad_line_is_named_and_its_neighbours_survive(tmp_path, line, reason):
    good = b'{"text": "x", "n": 1, "tags": ["a"]}'
    (tmp_path / "a.jsonl").write_bytes(data := b"\n".join([good, b"", line, good, good, b"\r", good]))
    unit = raw.Unit(0, (raw.Slice("a.jsonl", str(tmp_path / "a.jsonl"), "jsonl", 0, len(data), 0),), ("",), len(data))
    schema = pa.schema([("n", pa.int64()), ("tags", pa.list_(pa.string()))])
    ((documents, rejects, _),) = raw.read(unit, Ingest(inputs=(an_input("*"),)), schema)
    assert documents["origin"].to_pylist() == ["a.jsonl:1", "a.jsonl:4", "a.jsonl:5", "a.jsonl:7"]
    ((origin, found),) = reasons(rejects)
    assert origin == "a.jsonl:3"
    assert found.startswith(reason)
    assert rejects["raw"].to_pylist() == [line]


def test_strange_lines_that_are_documents(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(line for line, _ in GOOD))
    documents, rejects, _ = everything(tmp_path)
    assert reasons(rejects) == []
    expected = [(f"a.jsonl:{i}", text) for i, (_, text) in enumerate(GOOD, start=1) if text is not None]
    assert list(zip(documents["origin"].to_pylist(), documents["text"].to_pylist(), strict=True)) == expected
    assert documents["n"].to_pylist()[4] == 2


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\r\n  \n", b"\xef\xbb\xbf"])
def test_nothing_gives_an_empty_batch(tmp_path, data):
    (tmp_path / "a.jsonl").write_bytes(data)
    documents, rejects, batches = everything(tmp_path)
    assert (documents.num_rows, rejects.num_rows, len(batches)) == (0, 0, 1)


def test_tables_without_rows_give_an_empty_batch(tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string()), "n": pa.array([], pa.int8())}), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "c.jsonl.zst").write_bytes(b"")
    documents, rejects, batches = everything(tmp_path)
    assert (documents.num_rows, rejects.num_rows, len(batches)) == (0, 0, 1)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.jsonl", lines({"text": "a"}).decode().encode("utf-16"), "UTF-16: the file must be UTF-8"),
        ("a.jsonl", lines({"text": "a"}).decode().encode("utf-16-le"), "UTF-16: the file must be UTF-8"),
        ("a.jsonl", gzip.compress(lines({"text": "a"})), "gzip: the file's name does not say so"),
        ("a.jsonl", zstandard.compress(lines({"text": "a"})), "zstd: the file's name does not say so"),
        ("a.jsonl.gz", lines({"text": "a"}), "damaged: after record 0: no valid gzip data"),
        ("a.jsonl.zst", lines({"text": "a"}), "damaged: after record 0: no valid zstd data"),
    ],
    ids=["utf-16", "utf-16-le", "gzip", "zstd", "no gzip", "no zstd"],  # compressed bytes hold the time they were made
)
def test_files_that_are_something_else_are_named_as_that(tmp_path, name, data, reason):
    (tmp_path / name).write_bytes(data)
    documents, rejects, _ = everything(tmp_path)
    assert documents.num_rows == 0
    assert rejects.num_rows
    assert all(found.startswith(reason) for found in rejects["reason"].to_pylist())


def compressible(count=3000):
    return [{"text": f"{i} " + "word " * (i % 50) + str(i * 7919 % 10007)} for i in range(count)]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize("share", [0.0005, 0.3, 0.9, 0.9999])
def test_all_records_before_a_cut_survive(tmp_path, pack, share):
    name = "a.jsonl.gz" if pack is gzip.compress else "a.jsonl.zst"
    rows = compressible()
    first, whole = pack(lines(*rows[:1000])), pack(lines(*rows[:1000])) + pack(lines(*rows[1000:]))
    cut = whole[: int(len(whole) * share)]
    (tmp_path / name).write_bytes(cut)
    documents, rejects, _ = everything(tmp_path)
    assert documents["text"].to_pylist() == [row["text"] for row in rows[: documents.num_rows]]
    assert documents.num_rows >= (1000 if len(cut) >= len(first) else 0)
    ((origin, reason),) = reasons(rejects)
    assert origin == name
    assert reason.startswith(f"damaged: after record {documents.num_rows}: ")
    assert "cut short" in reason


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_all_that_can_be_decoded_before_garbage_survives(tmp_path, pack):
    name = "a.jsonl.gz" if pack is gzip.compress else "a.jsonl.zst"
    rows = [{"text": os.urandom(300).hex()} for _ in range(4000)]
    packed = bytearray(pack(lines(*rows)))
    if pack is zstandard.compress:
        packed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(lines(*rows)))
    at = len(packed) // 2
    packed[at : at + 5000] = b"\xff" * 5000
    (tmp_path / name).write_bytes(packed)
    documents, rejects, _ = everything(tmp_path)
    good = [row["text"] for row in rows]
    found = documents["text"].to_pylist()
    # A few records past the first bad byte may decode into something; all before it must be there, give or take
    # the decoder's own block of up to 128 KiB.
    same = next((i for i, (a, b) in enumerate(zip(found, good, strict=False)) if a != b), len(found))
    assert same > 2000 - 220
    assert reasons(rejects)[-1][1].startswith("damaged: after record")


def test_a_rotten_row_group_is_set_aside_row_by_row(tmp_path):
    rows = [{"text": os.urandom(40).hex(), "n": i} for i in range(400)]
    data = bytearray(parquet(rows, row_group_size=100, compression="zstd", use_dictionary=False))
    column = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(2).column(0)
    at = column.data_page_offset + 60
    data[at : at + 500] = b"\xee" * 500
    (tmp_path / "a.parquet").write_bytes(data)
    documents, rejects, _ = everything(tmp_path)
    assert documents["n"].to_pylist() == [*range(200), *range(300, 400)]
    assert rejects["origin"].to_pylist() == [f"a.parquet:{i}" for i in range(201, 301)]
    assert all(reason.startswith("damaged row group: ") for reason in rejects["reason"].to_pylist())


def test_rows_of_parquet_that_are_no_documents(tmp_path):
    text = pa.array([b"good", b"bad \xff", None, b"", b"fine", b"x" * 3000], pa.binary())
    link = pa.array([b"u", b"u", b"u", b"u", b"\xfe", b"u"], pa.binary())
    views = [pa.Array.from_buffers(pa.string(), 6, a.buffers(), null_count=a.null_count) for a in (text, link)]
    (tmp_path / "a.parquet").write_bytes(parquet(pa.table({"text": views[0], "url": views[1]})))
    documents, rejects, _ = everything(tmp_path, shard_bytes=2000)
    assert documents["text"].to_pylist() == ["good", ""]
    assert documents["origin"].to_pylist() == ["a.parquet:1", "a.parquet:4"]
    broken = "invalid UTF-8: a text column of this row is no UTF-8"
    assert reasons(rejects) == [
        ("a.parquet:2", broken), ("a.parquet:3", "text null"), ("a.parquet:5", broken),
        ("a.parquet:6", "too long: above 2000 bytes"),
    ]  # fmt: skip


def test_long_lines_are_read_and_longer_ones_are_passed_over(tmp_path):
    long = b"a" * 9_000_000
    rows = [b'{"text": "%s"}' % text for text in (b"1", long, b"3", long * 3, b"5")]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(rows))
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.compress(b"\n".join(rows)))
    for name in ["a.jsonl", "b.jsonl.zst"]:
        documents, rejects, _ = everything(tmp_path, an_input(name), shard_bytes=10 << 20)
        assert documents["origin"].to_pylist() == [f"{name}:1", f"{name}:2", f"{name}:3", f"{name}:5"]
        assert documents["bytes"].to_pylist() == [1, 9_000_000, 1, 1]
        assert reasons(rejects) == [(f"{name}:4", f"too long: above {10 << 20} bytes")]
        assert rejects["raw"].to_pylist() == [rows[3][:1000]]


def test_a_slice_that_lies_inside_one_line_owns_nothing(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines({"text": "x" * 5_000_000}, {"text": "y"}))
    documents, rejects, batches = everything(tmp_path, shard_bytes=1 << 20)
    assert len(batches) == 5
    assert documents["origin"].to_pylist() == ["a.jsonl:2"]
    assert reasons(rejects) == [("a.jsonl:1", f"too long: above {1 << 20} bytes")]


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines({"text": "a"}))
    ingest = Ingest(inputs=(an_input("*"),))
    found = raw.find(str(tmp_path), ingest.inputs)
    described = raw.describe(found, [raw.survey(chunk) for chunk in raw.chunks(found, count=False)])
    (tmp_path / "a.jsonl").unlink()
    (unit,) = raw.units(described, ingest)
    with pytest.raises(StoreError, match=r"a\.jsonl"):
        list(raw.read(unit, ingest, pa.schema([])))


# --- neither depends on neighbours -----------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=True),
    st.sampled_from(["", "a", "1", "\ud83d\ude00é"]),
)
values = st.one_of(
    scalars, scalars, st.lists(scalars, max_size=2), st.dictionaries(st.sampled_from(["a", "b"]), scalars, max_size=2)
)
plain = st.fixed_dictionaries(
    {"text": st.sampled_from(["one", "two\r\n", "dr\u00e9i"])},
    optional={
        "id": st.integers(0, 9),
        "n": st.integers(-5, 5),
        "x": st.floats(-5, 5),
        "tags": st.lists(st.just("a"), max_size=2),
    },
)
wild = st.fixed_dictionaries(
    {},
    optional={"text": values, "id": values, "n": values, "x": values, "tags": values, "void": values, "other": values},
)
dumped = st.one_of(plain, plain, wild).map(lambda record: json.dumps(record).encode(errors="surrogatepass"))
twice = st.tuples(dumped, dumped).map(
    lambda two: two[0][:-1] + b", " + two[1][1:] if len(two[0]) > 2 < len(two[1]) else two[0]
)
line = st.one_of(
    dumped, dumped, dumped, twice,
    st.sampled_from([each for each, _ in BAD + GOOD if len(each) < 1000]),
    st.tuples(dumped, st.sampled_from([b" ", b"\r", b"\0", b"}", b"null", b" {}", b"\xff", b"\\"])).map(b"".join),
    st.binary(max_size=6).filter(lambda b: b"\n" not in b),
)  # fmt: skip

TYPED = pa.schema(
    [("text", pa.large_string()), ("n", pa.int64()), ("x", pa.float64()), ("tags", pa.list_(pa.string()))]
)


def a_parser():
    return Parser(TYPED, ("id", "void"), ("text",), 1 << 20)


def shown(parsed):
    # NaN is not equal to itself.
    rows = [repr(row) for row in parsed.table.select(sorted(parsed.table.column_names)).to_pylist()]
    return list(zip(parsed.lines.tolist(), rows, strict=True)), parsed.rejects


@settings(max_examples=400, deadline=None)
@given(st.lists(line, max_size=8))
@example([b'{"text": "a", "id": 1, "x": NaN}', b"junk", b'{"text": "b", "id": "1"}'])
@example([b'{"text": "a", "n": 1, "n": 2}', b'{"text": "b", "n": "1"}'])
def test_a_line_means_the_same_alone_in_a_block_and_on_the_slow_path(rows):
    data = b"".join(row + b"\n" for row in rows)
    together = shown(a_parser().parse(streams.Block(data, 0), None))
    with mock.patch.object(Parser, "_whole", return_value=None):
        slow = shown(a_parser().parse(streams.Block(data, 0), None))
    alone = [shown(a_parser().parse(streams.Block(row, i), None)) for i, row in enumerate(rows)]
    assert together == slow
    assert together == ([x for good, _ in alone for x in good], [x for _, bad in alone for x in bad])
    present = sum(bool(row.strip(b" \t\r")) for row in rows)
    assert len(together[0]) + len(together[1]) == present


@settings(max_examples=200, deadline=None)
@given(st.lists(plain, min_size=1, max_size=8))
def test_the_fast_path_takes_good_blocks_and_agrees_with_python(rows):
    data = lines(*rows)
    with mock.patch.object(Parser, "_by_line", side_effect=AssertionError("slow")):
        parsed = a_parser().parse(streams.Block(data, 0), None)
    expected = [
        {"text": row["text"], "n": row.get("n"), "x": row.get("x"), "tags": row.get("tags"),
         "id": None if "id" not in row else str(row["id"]), "void": None}
        for row in rows
    ]  # fmt: skip
    assert parsed.table.to_pylist() == expected
    assert parsed.lines.tolist() == list(range(1, len(rows) + 1))


@settings(max_examples=150, deadline=None)
@given(st.lists(line, max_size=10), st.booleans(), st.lists(st.integers(0, 400), max_size=6), st.booleans())
def test_slices_cut_anywhere_give_the_same_as_one_read(rows, ended, cuts, bom):
    data = b"\xef\xbb\xbf" * bom + b"\n".join(rows) + b"\n" * ended
    store.put("memory://cuts/a.jsonl", data)
    ingest = Ingest(inputs=(an_input("a.jsonl"),))
    schema = pa.schema([("n", pa.int64()), ("x", pa.float64()), ("tags", pa.list_(pa.string()))])

    def read(start, stop):
        part = raw.Slice("a.jsonl", "memory://cuts/a.jsonl", "jsonl", start, stop, data[:start].count(b"\n"))
        (batch,) = raw.read(raw.Unit(0, (part,), ("",), len(data)), ingest, schema)
        return list(map(repr, batch.documents.to_pylist())), batch.rejects.to_pylist()

    borders = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    parts = [read(start, stop) for start, stop in pairwise(borders)]
    assert read(0, len(data)) == ([x for good, _ in parts for x in good], [x for _, bad in parts for x in bad])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(1, 30), st.integers(5, 60))
def test_blocks_are_the_lines_they_were_cut_from(rows, size, most):
    rows = [row.replace(b"\n", b"") for row in rows]
    data = b"\n".join(rows)
    with mock.patch.object(streams, "BLOCK", 16):
        blocks = list(streams.blocks(iter([data[i : i + size] for i in range(0, len(data), size)]), first=5, most=most))
    seen = {}
    for block in blocks:
        inside = [block.data] if block.long else block.data.removesuffix(b"\n").split(b"\n")
        for i, row in enumerate(inside):
            seen[block.first - 5 + i] = row
    kept = {i: row for i, row in enumerate(rows) if row}
    for i, row in seen.items():
        assert kept.get(i, b"").startswith(row)
        assert row == kept.get(i, b"") or len(kept[i]) > most
    assert seen.keys() >= kept.keys()


# --- limits, shards, places ------------------------------------------------------------------------------------------


def test_limit_takes_exactly_that_many_and_the_same_ones_however_files_are_cut(tmp_path):
    rows = compressible()
    (tmp_path / "a.jsonl").write_bytes(lines(*rows))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines(*rows)))
    (tmp_path / "c.parquet").write_bytes(parquet(rows, row_group_size=700))
    (tmp_path / "d.txt").write_bytes(b"one")
    drawn = everything(tmp_path, limit=1000)[0]
    assert drawn.num_rows == 1000
    by_file = [sum(name.startswith(f) for name in drawn["origin"].to_pylist()) for f in ("a", "b", "c")]
    assert min(by_file) > 250
    whole = everything(tmp_path)[0].to_pylist()
    assert all(row in whole for row in drawn.to_pylist()[::50])
    again = everything(tmp_path, limit=1000, shard_bytes=20_000)[0]
    assert again["origin"].to_pylist() == drawn["origin"].to_pylist()
    assert everything(tmp_path, limit=9001)[0].num_rows == 9001


def test_only_chosen_lines_are_parsed(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines({"text": "a"}) * 100 + b"bad\n" * 100)
    documents, rejects, _ = everything(tmp_path, limit=50)
    assert documents.num_rows + rejects.num_rows == 50
    assert 10 < rejects.num_rows < 40


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst", "a.parquet"])
def test_shards_hold_about_as_much_as_asked(tmp_path, name):
    rows = [{"text": "x" * 1000 + str(i)} for i in range(20_000)]
    data = {"a.jsonl": lines, "a.jsonl.zst": lambda *r: zstandard.compress(lines(*r))}.get(name)
    (tmp_path / name).write_bytes(data(*rows) if data else parquet(rows, row_group_size=1000, use_dictionary=False))
    documents, _, batches = everything(tmp_path, shard_bytes=6 << 20)
    assert documents["text"].to_pylist() == [row["text"] for row in rows]
    sizes = [sum(batch.documents["bytes"].to_pylist()) for batch in batches]
    assert max(sizes) < 1.2 * (6 << 20)
    assert 4 <= len(sizes) <= 6


def test_many_small_files_share_a_shard_and_keep_their_names(tmp_path):
    for i in range(40):
        (tmp_path / f"{i:02d}.jsonl").write_bytes(lines({"text": f"{i}"}, {"text": f"{i}b"}))
    documents, _, batches = everything(tmp_path)
    assert len(batches) == 1
    assert documents["origin"].to_pylist() == [f"{i:02d}.jsonl:{n}" for i in range(40) for n in (1, 2)]


def test_inputs_are_read_each_in_its_own_way(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines({"body": "a", "text": "t"}))
    (tmp_path / "b.jsonl").write_bytes(lines({"text": "b", "body": "c"}))
    inputs = (an_input("a.jsonl", text="body", source="books"), an_input("b.jsonl"))
    documents, _, _ = everything(tmp_path, *inputs)
    assert documents.select(["text", "source", "in_text", "body"]).to_pylist() == [
        {"text": "a", "source": "books", "in_text": "t", "body": None},
        {"text": "b", "source": "web", "in_text": None, "body": "c"},
    ]


def test_ingest_works_in_memory():
    store.put("memory://ingest-test/a.jsonl", lines({"text": "a"}))
    store.put("memory://ingest-test/b.parquet", parquet([{"text": "b"}]))
    store.put("memory://ingest-test/c.jsonl.gz", gzip.compress(lines({"text": "c"})))
    store.put("memory://ingest-test/d.txt", b"d")
    assert texts("memory://ingest-test") == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Ingest(inputs=()), "no inputs"),
        (lambda: an_input(), "`files` names no file"),
        (lambda: an_input("a", text=""), "`text`"),
        (lambda: Ingest(inputs=(an_input("a"),), shard_bytes=0), "`shard_bytes`"),
        (lambda: Ingest(inputs=(an_input("a"),), max_rejects=1.5), "`max_rejects`"),
        (lambda: Ingest(inputs=(an_input("a"),), limit=0), "`limit`"),
    ],
)
def test_parameters_that_cannot_be_meant(make, words):
    with pytest.raises(RecipeError, match=words):
        make()


def test_identity_holds_every_parameter():
    base = Ingest(inputs=(an_input("a"),))
    others = [replace(base, shard_bytes=5), replace(base, limit=5), Ingest(inputs=(an_input("a", source=Field("s")),))]
    assert len({repr(each.identity()) for each in [base, *others]}) == 4
