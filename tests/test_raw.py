"""Finding, counting and cutting raw files; settling what is carried."""

import gzip
import json
import os
import pickle
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from curate import files, raw, store
from curate.columns import field_of, kind, renamed, widen
from curate.errors import DataError, RecipeError, StoreError
from curate.groups import neighbours
from curate.kernels.forms import settled, settled_code_points
from curate.stages.ingest import Field, Ingest, Input


def write(folder, **contents):
    for name, data in contents.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())


def put(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, pa.Table):
        pq.write_table(data, path)
    else:
        path.write_bytes(data if isinstance(data, bytes) else data.encode())


def an_input(*patterns, **more):
    return Input(files=patterns, **{"source": "web", **more})


def names(root, *inputs):
    return [file.name for file in raw.find(str(root), inputs)]


def described(root, *inputs, count=False):
    found = raw.find(str(root), inputs)
    return raw.describe(found, [raw.survey(chunk) for chunk in raw.chunks(found, count=count)])


# --- find ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    for name in [
        "b.jsonl",
        "a.jsonl.zst",
        "sub/c.parquet",
        "sub/deep/d.txt",
        "sub/x.png",
        "odd[1].jsonl",
        ".hidden.jsonl",
    ]:
        put(tmp_path, name, b"")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("b.jsonl", ["b.jsonl"]),
        ("./b.jsonl", ["b.jsonl"]),
        ("*.jsonl*", ["a.jsonl.zst", "b.jsonl", "odd[1].jsonl"]),
        ("odd[1].jsonl", ["odd[1].jsonl"]),
        ("sub", ["sub/c.parquet", "sub/deep/d.txt"]),
        ("sub/", ["sub/c.parquet", "sub/deep/d.txt"]),
        ("**/*.jsonl", ["b.jsonl", "odd[1].jsonl"]),
        ("sub/**/*.txt", ["sub/deep/d.txt"]),
        (".", ["a.jsonl.zst", "b.jsonl", "odd[1].jsonl", "sub/c.parquet", "sub/deep/d.txt"]),
    ],
)
def test_patterns_name_files_below_the_root(tree, pattern, expected):
    assert names(tree, an_input(pattern)) == expected


def test_absolute_locations_are_named_below_the_root_or_by_their_own_folder(tree):
    assert names(tree, an_input(str(tree / "sub"))) == ["sub/c.parquet", "sub/deep/d.txt"]
    assert names(tree / "sub", an_input(str(tree / "b.jsonl"))) == ["b.jsonl"]
    assert names(tree / "nowhere", an_input(str(tree / "**/*.txt"))) == ["sub/deep/d.txt"]


def test_a_link_counts_as_what_it_points_to_and_a_broken_one_is_named(tree):
    put(tree, "b.jsonl", b"xyz")
    os.symlink(tree / "b.jsonl", tree / "sub/link.jsonl")
    (found,) = raw.find(str(tree), [an_input("sub/*.jsonl")])
    assert (found.name, found.size) == ("sub/link.jsonl", 3)
    os.symlink(tree / "gone", tree / "sub/broken.jsonl")
    with pytest.raises(StoreError, match=r"broken\.jsonl.*gone"):
        raw.find(str(tree), [an_input("sub/*.jsonl")])


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (("b.json",), ["'b.json' matches nothing", "did you mean 'b.jsonl'"]),
        (("*.csv",), ["'*.csv' matches nothing", "there is for instance a.jsonl"]),
        (("sub/*",), ["sub/x.png", ".jsonl", ".parquet", "format:"]),
        (("s*.parquet", "b.jsonl"), ["'s*.parquet' matches nothing"]),
    ],
)
def test_patterns_that_cannot_be_meant_are_named(tree, patterns, words):
    with pytest.raises(RecipeError) as error:
        raw.find(str(tree), [an_input(*patterns)])
    for word in words:
        assert word in str(error.value)


def test_a_folder_that_looks_like_a_file_is_not_passed_over(tree):
    put(tree, "part.parquet/0.parquet", b"")
    with pytest.raises(RecipeError, match=r"folder part\.parquet: write '\*\.parquet/\*\*'"):
        raw.find(str(tree), [an_input("*.parquet")])
    assert names(tree, an_input("part.parquet")) == ["part.parquet/0.parquet"]


def test_a_file_belongs_to_one_input(tree):
    with pytest.raises(RecipeError, match=r"b\.jsonl is matched by two inputs, '\*\.jsonl' and 'b\.jsonl'"):
        raw.find(str(tree), [an_input("*.jsonl"), an_input("b.jsonl")])
    assert names(tree, an_input("*.jsonl", "b.jsonl")) == ["b.jsonl", "odd[1].jsonl"]
    put(tree, "sub/b.jsonl", b"")
    with pytest.raises(RecipeError, match=r"would both be called b\.jsonl"):
        raw.find(str(tree / "other"), [an_input(str(tree / "b.jsonl"), str(tree / "sub/b.jsonl"))])


def test_format_overrules_the_suffix(tree):
    (found,) = raw.find(str(tree), [an_input("sub/x.png", format="text")])
    assert (found.name, found.format) == ("sub/x.png", "text")


# --- survey ----------------------------------------------------------------------------------------------------------


def test_the_digest_is_of_the_content_and_lines_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CHUNK", 2 << 20)
    data = b"".join(b'{"text": "%s"}\n' % (b"x" * (i * 7919 % 5000)) for i in range(2200)) + b"{}"
    assert len(data) > 5 << 20
    put(tmp_path, "a.jsonl", data)
    put(tmp_path, "copy.jsonl", data)
    put(tmp_path, "other.jsonl", data[:-1] + b"]")
    a, copy, other = described(tmp_path, an_input("*.jsonl"))
    assert a.digest == copy.digest != other.digest
    assert a.records == 2201
    assert a.lines == tuple(data[i : i + files.STEP].count(b"\n") for i in range(0, len(data), files.STEP))
    chunk = raw.chunks(raw.find(str(tmp_path), [an_input("a.jsonl")]), count=False)[1]
    assert raw.survey(chunk).digest == xxhash.xxh3_128_hexdigest(data[2 << 20 : 4 << 20])


def test_a_survey_survives_json_and_pickle(tmp_path):
    pq.write_table(pa.table({"text": ["a"] * 10}), tmp_path / "p.parquet", row_group_size=4)
    (chunk,) = raw.chunks(raw.find(str(tmp_path), [an_input("p.parquet")]), count=True)
    survey = raw.survey(pickle.loads(pickle.dumps(chunk)))
    assert [rows for rows, _ in survey.row_groups] == [4, 4, 2]
    assert raw.Survey.from_json(json.loads(json.dumps(asdict(survey)))) == survey


LINES = b'{"text": "a"}\n' * 1000 + b'{"text": "last"}'


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_records_are_counted_when_asked_for(tmp_path, name):
    put(tmp_path, name, packed(name, LINES))
    (counted,) = described(tmp_path, an_input(name), count=True)
    assert counted.records == 1001
    (plain,) = described(tmp_path, an_input(name))
    assert plain.records == (None if name.endswith(("gz", "zst")) else 1001)
    assert plain.digest == counted.digest


def packed(name, data):
    if name.endswith(".gz"):
        return gzip.compress(data)
    if name.endswith(".zst"):
        return zstandard.ZstdCompressor().compress(data)
    if name.endswith(".parquet"):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist([json.loads(line) for line in data.splitlines()]), sink)
        return bytes(sink.getvalue())
    return data


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.txt"])
@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: b"\xff" * 20 + d, lambda d: b""])
def test_damage_does_not_stop_the_survey(tmp_path, name, damage):
    put(tmp_path, name, damage(packed(name, LINES)))
    (found,) = described(tmp_path, an_input(name), count=True)
    assert len(found.digest) == 32


# --- what is carried -------------------------------------------------------------------------------------------------


def schema(root, *inputs):
    return {field.name: str(field.type) for field in raw.schema(described(root, *inputs), inputs)}


def test_types_come_from_footers_and_from_values(tmp_path):
    rows = [
        {"text": "a", "n": 1, "date": "2024-01-02", "ok": True, "tags": [], "meta": {"a": 1}, "void": None},
        {"text": "b", "n": 2.5, "date": None, "tags": ["x"], "meta": {"b": {"c": "d"}}, "big": 2**63},
    ]
    put(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    put(
        tmp_path,
        "b.parquet",
        pa.table({"text": ["a"], "n": pa.array([1], pa.int32()), "at": pa.array([0], pa.timestamp("ms"))}),
    )
    assert schema(tmp_path, an_input("*")) == {
        "n": "double",
        "date": "string",
        "ok": "bool",
        "tags": "list<item: string>",
        "meta": "struct<a: int64, b: struct<c: string>>",
        "void": "string",
        "big": "double",
        "at": "timestamp[ms]",
    }


def test_consumed_fields_are_not_carried_and_reserved_names_step_aside(tmp_path):
    put(tmp_path, "a.jsonl", '{"body": "a", "id": 1, "url": "u", "text": "t", "bytes": 3, "source": "s", "in_id": 4}')
    one = an_input("a.jsonl", text="body")
    assert list(schema(tmp_path, one)) == ["in_text", "in_bytes", "in_source", "in_in_id"]
    assert "in_source" not in schema(tmp_path, replace(one, source=Field("source")))
    found = raw.schema(described(tmp_path, one), (one,), {"rule", "bytes"})
    assert {field_of(column): column.name for column in found} == {
        "text": "in_text",
        "bytes": "in_bytes",
        "source": "in_source",
        "in_id": "in_in_id",
    }


def test_names_that_are_taken_step_aside_and_no_two_meet(tmp_path):
    fields = ["words", "in_words", "in_in_words", "in_foo", "foo", "copies"]
    put(tmp_path, "a.jsonl", json.dumps({"foo": 1, "text": "t"} | dict.fromkeys(fields, 1)))
    found = raw.schema(described(tmp_path, an_input("a.jsonl")), (an_input("a.jsonl"),), {"words"})
    names = {field_of(column): column.name for column in found}
    assert names == {name: f"in_{name}" if "words" in name else name for name in fields}
    assert len(set(names.values())) == len(fields)
    assert renamed(found) == {name: f"in_{name}" for name in fields if "words" in name}
    assert found.metadata == {b"text": b"1"}


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"x": 1}, {"x": "1"}, "column 'x' is int64 in a.jsonl and string in b.jsonl"),
        ({"x": [1]}, {"x": ["a"]}, "column 'x' is list<item: int64> in a.jsonl and list<item: string> in b.jsonl"),
        ({"x": True}, {"x": 1}, "column 'x' is bool in a.jsonl and int64 in b.jsonl"),
    ],
)
def test_types_that_cannot_both_be_kept_name_both_files(tmp_path, first, second, words):
    put(tmp_path, "a.jsonl", json.dumps({"text": "t", **first}))
    put(tmp_path, "b.jsonl", json.dumps({"text": "t", **second}))
    with pytest.raises(DataError) as error:
        schema(tmp_path, an_input("*"))
    assert words in str(error.value)


def test_one_odd_record_does_not_decide_a_files_type(tmp_path):
    put(tmp_path, "a.jsonl", '{"text": "a", "x": "odd"}\nnot json\n[]\n{"text": "a", "x": 1}\n{"text": "a", "x": 2}')
    assert schema(tmp_path, an_input("*")) == {"x": "int64"}


@pytest.mark.parametrize(
    ("name", "data", "more", "words"),
    [
        ("a.parquet", pa.table({"content": ["a"]}), {}, ["a.parquet has no column 'text'", "found: content"]),
        ("a.parquet", pa.table({"text": [b"a"]}), {}, ["text column 'text' is binary", "string or large_string"]),
        ("a.parquet", pa.table({"text": [["a"]]}), {}, ["text column 'text' is list<"]),
        ("a.parquet", pa.table({"text": [1]}), {}, ["text column 'text' is int64"]),
        ("a.parquet", pa.table({"text": ["a"]}), {"url": "link"}, ["no column 'link'"]),
        ("a.parquet", pa.table({"text": ["a"], "id": [b"a"]}), {}, ["column 'id' is binary"]),
        ("a.parquet", pa.table({"text": ["a"]}), {"source": Field("domain")}, ["no column 'domain'"]),
        ("a.parquet", b"PAR1 and nothing more", {}, ["a.parquet cannot be read as parquet"]),
        ("a.parquet", b"", {}, ["a.parquet cannot be read as parquet"]),
        ("a.jsonl", '{"texts": "a"}', {}, ["'text'", "did you mean 'texts'"]),
        ("a.jsonl", '{"text": "a"}', {"id": "key"}, ["'key'", "found: text"]),
        ("a.jsonl", '{"text": "a"}', {"source": Field("domain")}, ["'domain'"]),
        ("a.txt", "a", {"source": Field("domain")}, ["a.txt is a text file", "'domain'"]),
    ],
)
def test_what_cannot_be_read_at_all_stops_before_work(tmp_path, name, data, more, words):
    put(tmp_path, name, data)
    with pytest.raises(DataError) as error:
        schema(tmp_path, an_input(name, **more))
    for word in words:
        assert word in str(error.value)


def test_text_may_be_stored_in_any_layout(tmp_path):
    for index, layout in enumerate([pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]):
        put(
            tmp_path,
            f"{index}.parquet",
            pa.table({"text": pa.array(["a"]).cast(layout), "x": pa.array(["b"]).cast(layout)}),
        )
    assert schema(tmp_path, an_input("*")) == {"x": "string"}


KINDS = [pa.null(), pa.bool_(), pa.int64(), pa.int32(), pa.uint8(), pa.float32(), pa.float64(), pa.string()]
kinds = st.recursive(
    st.sampled_from(KINDS),
    lambda inner: st.one_of(
        inner.map(pa.list_), st.dictionaries(st.sampled_from("abc"), inner).map(lambda d: pa.struct(d.items()))
    ),
    max_leaves=4,
)


@given(kinds, kinds)
def test_widening_does_not_depend_on_order_of_files(a, b):
    one, other = widen(a, b), widen(b, a)
    assert (one is None) == (other is None)
    if one is not None:
        assert widen(one, a) == one
        assert widen(one, other) is not None


def test_values_have_the_types_that_arrow_gives_them():
    for value in [True, 1, 1.5, "a", None, [1, None], [[1.5]], {"a": "b"}, [{"a": 1}]]:
        assert kind(value) == pa.infer_type([value])


# --- units -----------------------------------------------------------------------------------------------------------


def test_large_files_are_cut_where_lines_can_be_counted(tmp_path):
    data = b"".join(b'{"text": "%s"}\n' % (b"x" * (i * 7919 % 5000)) for i in range(2200))
    put(tmp_path, "a.jsonl", data)
    files_found = described(tmp_path, an_input("a.jsonl"))
    units = raw.units(files_found, Ingest(inputs=(an_input("a.jsonl"),), shard_bytes=2 << 20))
    slices = [part for unit in units for part in unit.slices]
    assert len(slices) == 3
    assert [part.stop for part in slices[:-1]] == [part.start for part in slices[1:]]
    assert (slices[0].start, slices[-1].stop) == (0, len(data))
    for part in slices:
        assert part.first_record == data[: part.start].count(b"\n")
    assert pickle.loads(pickle.dumps(units)) == units
    assert all(unit.digests == (files_found[0].digest,) for unit in units)


def test_parquet_is_cut_between_row_groups_by_their_uncompressed_size(tmp_path):
    table = pa.table({"text": ["x" * 1000 + str(i) for i in range(4000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=500, use_dictionary=False)
    units = raw.units(described(tmp_path, an_input("*")), Ingest(inputs=(an_input("*"),), shard_bytes=1_200_000))
    assert [(u.slices[0].start, u.slices[0].stop, u.slices[0].first_record) for u in units] == [
        (0, 2, 0), (2, 4, 1000), (4, 6, 2000), (6, 8, 3000)
    ]  # fmt: skip


def test_small_files_go_together_per_input_and_large_ones_alone(tmp_path):
    for i in range(30):
        put(tmp_path, f"a{i:02d}.jsonl", b"{}\n")
    put(tmp_path, "a07.jsonl", b'{"text": "%s"}\n' % (b"x" * (1 << 20)))
    put(tmp_path, "b.jsonl", b"{}\n")
    inputs = (an_input("a*.jsonl"), an_input("b.jsonl"))
    units = raw.units(described(tmp_path, *inputs), Ingest(inputs=inputs))
    groups = [(unit.input, [part.name for part in unit.slices]) for unit in units]
    assert groups == [
        (0, [f"a{i:02d}.jsonl" for i in range(7)]),
        (0, ["a07.jsonl"]),
        (0, [f"a{i:02d}.jsonl" for i in range(8, 30)]),
        (1, ["b.jsonl"]),
    ]


items = st.lists(
    st.tuples(st.text("abc", min_size=1, max_size=6), st.integers(0, 120)), unique_by=lambda item: item[0], max_size=60
).map(sorted)


@given(items, items)
def test_an_added_file_moves_no_other_border(before, extra):
    def borders(listed):
        groups = neighbours([key for key, _ in listed], [size for _, size in listed], alone=100, mean=300, most=10**6)
        assert [i for group in groups for i in group] == list(range(len(listed)))
        ends = {listed[group[-1]][0] for group in groups[:-1]}
        assert all(len(group) == 1 for group in groups if any(listed[i][1] >= 100 for i in group))
        return ends

    known = {key for key, _ in before}
    added = next(((key, size) for key, size in extra if key not in known and size < 100), None)
    if added is None:
        return
    after = sorted([*before, added])
    at = after.index(added)
    beside = {key for key, _ in after[max(0, at - 1) : at + 1]}
    assert borders(before) - beside == borders(after) - beside


def test_groups_have_about_the_mean_size_and_never_more_than_most():
    keys, sizes = [f"file-{i}" for i in range(20_000)], [1000] * 20_000
    groups = neighbours(keys, sizes, mean=100_000, most=10**9)
    assert 0.85 < len(keys) * 1000 / len(groups) / 100_000 < 1.15
    assert max(len(group) for group in neighbours(keys, sizes, mean=10**9, most=50_000)) == 50
    assert neighbours([], [], most=1) == []


def test_limit_draws_exactly_that_many_records_whatever_the_files_are(tmp_path):
    for name in ["a.jsonl", "b.jsonl.gz", "c.parquet"]:
        put(tmp_path, name, packed(name, LINES))
    put(tmp_path, "d.txt", "one")
    found = described(tmp_path, an_input("*"), count=True)
    total = sum(file.records for file in found)
    assert total == 3004
    keys = np.concatenate([files.record_keys(file.name, np.arange(file.records, dtype=np.uint64)) for file in found])
    for limit in [1, 17, 3003, 3004, 9999]:
        assert np.count_nonzero(keys <= raw.threshold(found, limit)) == min(limit, total)
    smaller, larger = (keys <= raw.threshold(found, limit) for limit in (100, 500))
    assert (larger | ~smaller).all()


def test_all_of_it_works_in_memory():
    store.put("memory://raw-test/in/a.jsonl", LINES)
    store.put("memory://raw-test/in/b.jsonl.gz", gzip.compress(LINES))
    found = described("memory://raw-test", an_input("in/*"), count=True)
    assert [(file.name, file.records) for file in found] == [("in/a.jsonl", 1001), ("in/b.jsonl.gz", 1001)]
    assert names("/nowhere", an_input("memory://raw-test/in/a.jsonl")) == ["a.jsonl"]


# --- the quick check of normal forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=6), max_size=6), part=st.integers(0, 3)
)
def test_texts_that_pass_the_quick_check_are_normalised(form, texts, part):
    import pyarrow.compute as pc

    from curate.arrow import utf8

    rows = pa.array([*texts, "e\u0301", "\u1100\u1161", "中文，ok", "x\u09be"], pa.large_string()).slice(part)
    fine = np.empty(len(rows), np.bool_)
    settled(*utf8(rows), settled_code_points(form), fine)
    for text, mended, passed in zip(
        rows.to_pylist(), pc.utf8_normalize(rows, form=form).to_pylist(), fine, strict=True
    ):
        assert not passed or text == mended
        assert passed or not text.isascii()


def test_the_quick_check_knows_every_pair_that_joins():
    import unicodedata

    alone = settled_code_points("NFC")
    composed = [chr(code) for code in range(0x80, 0x20000) if unicodedata.decomposition(chr(code))[:1] not in ("", "<")]
    for first, second in filter(
        lambda parts: len(parts) == 2, (unicodedata.normalize("NFD", each) for each in composed)
    ):
        assert not (alone[ord(first)] and alone[ord(second)])
    assert alone[[ord(each) for each in "a’—é中ф😀가，"]].all()
