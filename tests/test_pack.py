"""Packing, taken through scan, judge, apply and gather by hand: every token of every copy once, in order, findable."""

import hashlib
import io
import json
import re
import types
from collections import defaultdict

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import cut_into, driven
from hypothesis import given
from hypothesis import strategies as st
from oracles import mix as hashed
from oracles import packed_slowly, xxh3_64

from curate import schema
from curate.errors import DataError, RecipeError
from curate.stages.pack import Pack
from curate.trainers import read_megatron_index
from curate.windows import file_name

PAD = 0
FACTS = {"vocabulary": 60_000, "end": "</s>", "end_id": 1, "pad": "<pad>", "pad_id": PAD}
SOURCES = ["web", "books", "a/b c", "ünï"]


def bound(window, *, pad_id=PAD, phases=(), **parameters):
    made_by = {"stage": {"tokens": {**FACTS, "pad_id": pad_id}}, "assets": {"tokenizer": "ab" * 32}}
    mixed = {"maker": types.SimpleNamespace(phase_names=phases)}
    lineage = {"ids": made_by, **({"copies": mixed, "phase_copies": mixed} if phases else {})}
    return Pack(window, **parameters).bind(lineage)


def text_of(number, length):
    """Ids that say where they are from: no two documents share one."""
    return [64 * (number + 1) + i for i in range(length)]


def corpus(rows):
    """A table of documents from (source, tokens, copies, held out)."""
    digests = [hashlib.sha256(f"{n}".encode()).digest()[:16] for n in range(len(rows))]
    return pa.table(
        {
            "id": pa.array(digests, pa.binary(16)),
            "origin": [f"raw/a.jsonl:{n}" for n in range(len(rows))],
            "source": pa.array([row[0] for row in rows], pa.string()).dictionary_encode(),
            "tokens": pa.array([row[1] for row in rows], pa.int64()),
            "copies": pa.array([row[2] for row in rows], pa.int32()),
            "validation": pa.array([row[3] for row in rows], pa.bool_()),
            "ids": pa.array([text_of(n, row[1]) for n, row in enumerate(rows)], pa.large_list(pa.uint16())),
        }
    )


documents = st.lists(
    st.tuples(
        st.sampled_from(SOURCES),
        st.integers(1, 60) | st.integers(1, 5),
        st.sampled_from([0, 1, 1, 2, 3]),
        st.sampled_from([False, False, True]),
    ).map(lambda row: (*row[:2], 1, True) if row[3] else row),
    max_size=25,
)
sizes = st.tuples(st.integers(2, 24), st.integers(1, 4)).map(lambda pair: (pair[0], pair[0] * pair[1] + pair[0] // 2))


def packed(method, table, borders=(), part_rows=1000):
    """File name to bytes, and the payload of `tokens.json`."""
    with driven(method, cut_into(table, borders), part_rows=part_rows) as run:
        made, ending = run.gathered()
    assert list(ending) == ["tokens.json"]
    files = [(name, bytes(data)) for gathered in made for name, (data, _) in gathered.files.items()]
    assert len(dict(files)) == len(files), "no two parts write one file"
    return dict(files), json.loads(ending["tokens.json"])


def streams(rows, seed=0):
    """Stream to its copies (number of the document, epoch) in the order of epoch and keyed draw, from definitions."""
    found = defaultdict(list)
    for number, (source, _, copies, held) in enumerate(rows):
        key = hashlib.sha256(f"{number}".encode()).digest()[:16]
        origin = f"raw/a.jsonl:{number}".encode()
        draw = hashed(hashed(hashed(0, xxh3_64(key, 0)), xxh3_64(origin, 0)), seed)
        for epoch in range(copies):
            stream = f"{'validation' if held else 'train'}/{source}"
            found[stream].append((epoch, hashed(draw ^ epoch, seed), number))
    return {stream: [(n, epoch) for epoch, _, n in sorted(copies)] for stream, copies in sorted(found.items())}


def shards_of(files, stream):
    """Ids, real lengths, document starts and the map of each shard of a stream, from both formats."""
    for name in sorted(files):
        if re.fullmatch(re.escape(file_name(stream)) + r"-\d{5}\.bin", name):
            stem = name.removesuffix(".bin")
            lengths, dtype = read_megatron_index(files[f"{stem}.idx"])
            ids = np.frombuffer(files[name], dtype)
            table = pq.read_table(io.BytesIO(files[f"{stem}.parquet"]))
            assert ids.tolist() == [one for window in table["input_ids"].to_pylist() for one in window]
            assert len(set(lengths.tolist())) == 1
            pieces = pq.read_table(io.BytesIO(files[f"map/{stem}.parquet"])).to_pylist()
            yield ids, table["length"].to_pylist(), table["document_starts"].to_pylist(), pieces


def check_shard(shard, rows, window):
    """Padding only at ends, starts where pieces or windows begin, and a map that leads every id to its document."""
    ids, real, starts, pieces = shard
    windows = ids.reshape(-1, window)
    assert all((row[length:] == PAD).all() and (row[:length] > PAD).all() for row, length in zip(windows, real))  # noqa: B905
    covered, begins = np.zeros(len(ids), int), defaultdict(set)
    for piece in pieces:
        number = int(piece["origin"].rpartition(":")[2])
        at = piece["window"] * window + piece["start"]
        text = text_of(number, rows[number][1])[piece["offset"] :][: piece["length"]]
        assert len(text) == piece["length"]
        assert ids[at : at + piece["length"]].tolist() == text
        assert piece["id"] == hashlib.sha256(f"{number}".encode()).digest()[:16]
        covered[at : at + piece["length"]] += 1
        for edge in {at, *range(at // window * window + window, at + piece["length"], window)}:
            begins[edge // window].add(edge % window)
    assert covered.tolist() == (ids != PAD).astype(int).tolist()
    assert starts == [sorted(begins[w]) for w in range(len(windows))]
    assert pieces == sorted(pieces, key=lambda piece: (piece["window"], piece["start"]))


def check_summary(summary, files, rows, method):
    wanted = streams(rows, method.seed)
    found = {f"{split}/{s}": e for split, one in summary["splits"].items() for s, e in one["sources"].items()}
    assert sorted(found) == sorted(wanted)
    for stream, copies in wanted.items():
        entry = found[stream]
        mine = [row for row in rows if f"{'validation' if row[3] else 'train'}/{row[0]}" == stream]
        planned = sum(rows[n][1] for n, _ in copies)
        assert entry["tokens"] + entry["left_out_tokens"] == planned
        assert entry["tokens"] + entry["padding_tokens"] == entry["windows"] * method.window
        assert entry["documents"] == len(copies)
        assert entry["available_documents"] == len(mine)
        assert entry["available_tokens"] == sum(row[1] for row in mine)
        assert entry["epochs"] == pytest.approx(planned / entry["available_tokens"], abs=1e-6)
        shards = list(shards_of(files, stream))
        assert entry["windows"] == sum(len(real) for _, real, _, _ in shards)
        assert entry["tokens"] == sum(sum(real) for _, real, _, _ in shards)
        assert [shard["windows"] for shard in entry["shards"]] == [len(real) for _, real, _, _ in shards]
        for shard in entry["shards"]:
            assert sorted(shard["files"]) == ["bin", "idx", "parquet"]
            for suffix, file in shard["files"].items():
                assert file["name"] == f"{shard['prefix']}.{suffix}"
                assert file["bytes"] == len(files[file["name"]])
                assert file["sha256"] == hashlib.sha256(files[file["name"]]).hexdigest()
    for split in summary["splits"].values():
        assert split["tokens"] == sum(entry["tokens"] for entry in split["sources"].values())
        shares = [entry["share"] for entry in split["sources"].values()]
        assert not split["tokens"] or sum(shares) == pytest.approx(1, abs=1e-6)
        blend = split["megatron_blend"]
        assert all(f"{prefix}.bin" in files for prefix in blend[1::2])
        assert sum(map(int, blend[::2])) == sum(entry["windows"] for entry in split["sources"].values())


# ---------------------------------------------------------------- concatenate


@given(documents, sizes, st.sampled_from(["drop", "pad"]), st.integers(0, 2**63 - 1))
def test_windows_are_the_stream_of_copies(rows, size, tail, seed):
    window, shard_tokens = size
    method = bound(window, shard_tokens=shard_tokens, tail=tail, seed=seed)
    files, summary = packed(method, corpus(rows))
    for stream, copies in streams(rows, seed).items():
        flat = [one for number, _ in copies for one in text_of(number, rows[number][1])]
        if tail == "pad":
            flat += [PAD] * (-len(flat) % window)
        full = len(flat) // window * window
        shards = list(shards_of(files, stream))
        assert [one for shard in shards for one in shard[0].tolist()] == flat[:full]
        whole = shard_tokens // window * window
        assert [len(shard[0]) for shard in shards[:-1]] == [whole] * (len(shards) - 1)
        epochs = [piece["epoch"] for shard in shards for piece in shard[3] if piece["offset"] == 0]
        assert epochs == [epoch for _, epoch in copies][: len(epochs)]
        for shard in shards:
            check_shard(shard, rows, window)
    check_summary(summary, files, rows, method)


# ---------------------------------------------------------------- best_fit


@given(documents, sizes, st.integers(0, 2**63 - 1))
def test_documents_that_fit_are_not_split(rows, size, seed):
    window, shard_tokens = size
    method = bound(window, packing="best_fit", shard_tokens=shard_tokens, seed=seed)
    files, summary = packed(method, corpus(rows))
    for stream, copies in streams(rows, seed).items():
        pieces = []
        for shard in shards_of(files, stream):
            check_shard(shard, rows, window)
            for piece in shard[3]:
                number = int(piece["origin"].rpartition(":")[2])
                assert piece["start"] + piece["length"] <= window, "a piece lies in one window"
                length = rows[number][1]
                assert piece["offset"] % window == 0
                assert piece["length"] == min(window, length - piece["offset"])
                pieces.append((number, piece["epoch"], piece["offset"]))
            lengths = sorted(piece["length"] for piece in shard[3])
            assert len(shard[1]) == packed_slowly(lengths, window)[2]
        assert sorted(pieces) == sorted((n, e, k) for n, e in copies for k in range(0, rows[n][1], window))
    assert all(e["left_out_tokens"] == 0 for s in summary["splits"].values() for e in s["sources"].values())
    check_summary(summary, files, rows, method)


def test_windows_are_not_ordered_by_the_length_of_their_documents():
    rows = [("web", 2 + n % 50, 1, False) for n in range(400)]
    files, _ = packed(bound(64, packing="best_fit"), corpus(rows))
    (shard,) = shards_of(files, "train/web")
    longest = [max(p["length"] for p in shard[3] if p["window"] == w) for w in range(len(shard[1]))]
    half = len(longest) // 2
    assert abs(np.mean(longest[:half]) - np.mean(longest[half:])) < 8
    again, _ = packed(bound(64, packing="best_fit", seed=1), corpus(rows))
    assert again["train/web-00000.bin"] != files["train/web-00000.bin"]


# ---------------------------------------------------------------- both


@given(
    documents,
    sizes,
    st.sampled_from(["concatenate", "best_fit"]),
    st.lists(st.integers(0, 25), min_size=1, max_size=3),
    st.sampled_from([1, 6, 1000]),
)
def test_files_do_not_depend_on_how_documents_were_cut_into_shards(rows, size, packing, borders, part_rows):
    method = bound(size[0], packing=packing, shard_tokens=size[1], tail="pad")
    assert packed(method, corpus(rows), borders, part_rows) == packed(method, corpus(rows))


@pytest.mark.parametrize(
    "source", ["", ".", "..", "../up", "a b", "train/x", "x" * 300, "new\nline", "ü", "-", "a.bin"]
)
def test_names_of_sources_become_names_of_files(source):
    name = file_name(f"train/{source}")
    split, _, plain = name.partition("/")
    assert split == "train"
    assert plain
    assert plain.isascii()
    assert not set(plain) & set("/ \n")
    assert plain not in (".", "..")
    assert len(f"{plain}-00000.parquet") <= 255
    assert name != file_name(f"train/{source}_")
    rows = [(source, 9, 1, False), ("other", 9, 1, False)]
    method = bound(4)
    files, summary = packed(method, corpus(rows))
    assert f"{name}-00000.bin" in files
    assert summary["splits"]["train"]["sources"][source]["tokens"] == 8


def test_sources_that_look_alike_have_files_of_their_own():
    alike = ["a/b", "a b", "a_b", "a-00000", "a", "windows", "tokens"]
    rows = [(source, 20, 1, False) for source in alike]
    method = bound(4, shard_tokens=8)
    files, summary = packed(method, corpus(rows))
    check_summary(summary, files, rows, method)
    assert sum(name.endswith(".bin") for name in files) == 3 * len(alike)


def test_a_source_smaller_than_a_window():
    rows = [("tiny", 3, 1, False), ("web", 40, 1, False)]
    files, summary = packed(bound(8), corpus(rows))
    tiny = summary["splits"]["train"]["sources"]["tiny"]
    assert (tiny["tokens"], tiny["windows"], tiny["left_out_tokens"], tiny["shards"]) == (0, 0, 3, [])
    assert not any("tiny" in name for name in files)
    files, summary = packed(bound(8, tail="pad"), corpus(rows))
    (shard,) = shards_of(files, "train/tiny")
    assert shard[0].tolist() == [*text_of(0, 3), *[PAD] * 5]
    assert shard[1:3] == ([3], [[0]])
    assert summary["splits"]["train"]["sources"]["tiny"]["padding_tokens"] == 5


def test_nothing_drawn_makes_no_files():
    for rows in ([], [("web", 5, 0, False)]):
        files, summary = packed(bound(4), corpus(rows))
        assert files == {}
        assert summary["splits"] == {}


def test_documents_that_are_not_drawn_are_available():
    rows = [("web", 10, 0, False), ("web", 20, 2, False), ("web", 5, 1, True)]
    _, summary = packed(bound(4), corpus(rows))
    web = summary["splits"]["train"]["sources"]["web"]
    assert (web["available_tokens"], web["available_documents"], web["epochs"]) == (30, 2, round(40 / 30, 6))
    assert summary["splits"]["validation"]["sources"]["web"]["available_tokens"] == 5


def test_epochs_are_shuffled_each_in_its_own_way():
    rows = [("web", 4, 2, False) for _ in range(50)]
    files, _ = packed(bound(4), corpus(rows))
    (shard,) = shards_of(files, "train/web")
    order = [piece["origin"] for piece in shard[3]]
    assert sorted(order[:50]) == sorted(order[50:])
    assert order[:50] != order[50:]


def test_only_the_formats_asked_for_are_written():
    table = corpus([("web", 20, 1, False)])
    names = ["train/web-00000.bin", "train/web-00000.idx", "train/web-00000.parquet"]
    for formats, wanted in ((("megatron",), names[:2]), (("parquet",), names[2:])):
        files, summary = packed(bound(4, formats=formats), table)
        assert sorted(files) == sorted([*wanted, "map/train/web-00000.parquet"])
        (shard,) = summary["splits"]["train"]["sources"]["web"]["shards"]
        assert sorted(file["name"] for file in shard["files"].values()) == wanted


def test_the_manifest_says_how_ids_were_made():
    _, summary = packed(bound(4), corpus([("web", 20, 1, False)]))
    assert summary["dtype"] == "uint16"
    assert summary["tokenizer"] == {**FACTS, "sha256": "ab" * 32}
    assert (summary["window"], summary["packing"], summary["tail"], summary["seed"]) == (4, "concatenate", "drop", 0)


# ---------------------------------------------------------------- phases

NAMES = ("base", "last")
phased = st.lists(
    st.tuples(
        st.sampled_from(SOURCES),
        st.integers(1, 60) | st.integers(1, 5),
        st.tuples(st.integers(0, 2), st.integers(0, 2)),
        st.sampled_from([False, False, True]),
    ),
    max_size=25,
)


def corpus_of_phases(rows):
    """A table of documents from (source, tokens, copies by phase, held out); what is held out is drawn once."""
    table = corpus([(source, length, 1 if held else sum(each), held) for source, length, each, held in rows])
    by_phase = [[0, 0] if held else list(each) for _, _, each, held in rows]
    return table.append_column("phase_copies", pa.array(by_phase, pa.list_(pa.int32(), 2)))


@given(phased, sizes, st.integers(0, 2**63 - 1), st.lists(st.integers(0, 25), max_size=3), st.sampled_from([6, 1000]))
def test_phases_are_streams_whose_epochs_go_on(rows, size, seed, borders, part_rows):
    method = bound(size[0], shard_tokens=size[1], tail="pad", seed=seed, phases=NAMES)
    files, summary = packed(method, corpus_of_phases(rows), borders, part_rows)
    assert (files, summary) == packed(method, corpus_of_phases(rows))
    assert [phase["name"] for phase in summary["phases"]] == list(NAMES)
    flat = [(source, length, 1 if held else sum(each), held) for source, length, each, held in rows]
    for stream, copies in streams(flat, seed).items():
        split, _, source = stream.partition("/")
        if split == "validation":
            continue
        total = summary["splits"]["train"]["sources"][source]
        found = []
        for j, phase in enumerate(summary["phases"]):
            mine = [(n, e) for n, e in copies if sum(rows[n][2][:j]) <= e < sum(rows[n][2][: j + 1])]
            entry = phase["sources"].get(source)
            assert (entry is None) == (not mine)
            if entry is None:
                continue
            name = file_name(f"train/{phase['name']}/{source}", phase["name"])
            assert all(shard["prefix"].rpartition("-")[0] == name for shard in entry["shards"])
            ids = [np.frombuffer(files[f"{shard['prefix']}.bin"], np.uint16) for shard in entry["shards"]]
            wanted = [one for n, _ in mine for one in text_of(n, rows[n][1])]
            assert np.concatenate(ids).tolist() == wanted + [PAD] * (-len(wanted) % size[0])
            assert entry["documents"] == len(mine)
            assert entry["available_tokens"] == sum(row[1] for row in rows if row[0] == source and not row[3])
            assert entry["epochs"] == pytest.approx(len(wanted) / entry["available_tokens"], abs=1e-6)
            found.append(entry)
        assert total["shards"] == [shard for entry in found for shard in entry["shards"]]
        for name in ("tokens", "windows", "padding_tokens", "left_out_tokens", "documents"):
            assert total[name] == sum(entry[name] for entry in found)
    check_phases(summary, files)


def prefixes_of(entry):
    return [shard["prefix"] for source in entry["sources"].values() for shard in source["shards"]]


def check_phases(summary, files):
    """Shares and blends of each phase, and the whole as `tokens.json` says it of a mixture of one phase."""
    for phase in [*summary["phases"], *summary["splits"].values()]:
        assert phase["tokens"] == sum(entry["tokens"] for entry in phase["sources"].values())
        shares = [entry["share"] for entry in phase["sources"].values()]
        assert not shares or sum(shares) == pytest.approx(1, abs=1e-6)
        prefixes = prefixes_of(phase)
        assert all(f"{prefix}.bin" in files for prefix in prefixes)
        if phase is not summary["splits"].get("train"):
            assert phase["megatron_blend"][1::2] == prefixes
    in_phases = [prefix for phase in summary["phases"] for prefix in phase["megatron_blend"][1::2]]
    train = summary["splits"].get("train", {"sources": {}})
    assert "megatron_blend" not in train  # all phases in one blend would be trained at once
    assert sorted(in_phases) == sorted(prefixes_of(train))
    assert len(set(in_phases)) == len(in_phases)
    jsonschema.validate(summary, schema.schema("tokens"))


def test_what_is_held_out_belongs_to_no_phase():
    rows = [("web", 8, (1, 1), False), ("web", 8, (0, 0), True), ("books", 4, (0, 0), False)]
    files, summary = packed(bound(4, phases=NAMES), corpus_of_phases(rows))
    bodies = sorted(name for name in files if name.endswith(".bin"))
    assert bodies == ["train/base/web-00000.bin", "train/last/web-00000.bin", "validation/web-00000.bin"]
    assert [phase["sources"]["web"]["epochs"] for phase in summary["phases"]] == [1, 1]
    epochs = [pq.read_table(io.BytesIO(files[f"map/train/{name}/web-00000.parquet"]))["epoch"] for name in NAMES]
    assert [set(column.to_pylist()) for column in epochs] == [{0}, {1}]


def test_a_phase_that_draws_nothing_is_told():
    _, summary = packed(bound(4, phases=NAMES), corpus_of_phases([("web", 8, (0, 2), False)]))
    assert summary["phases"][0] == {"name": "base", "tokens": 0, "sources": {}, "megatron_blend": []}


def test_phases_that_do_not_add_up_are_refused():
    table = corpus_of_phases([("web", 8, (1, 1), False)])
    wrong = table.set_column(table.column_names.index("copies"), "copies", pa.array([3], pa.int32()))
    with pytest.raises(DataError, match=r"row 0 is drawn 3 times, in its phases \[1, 1, 0\]"):
        packed(bound(4, phases=NAMES), wrong)
    with pytest.raises(DataError, match="is what `mix` adds"):
        packed(bound(4, phases=("a", "b", "c")), table)


def test_copies_without_their_phases_are_refused():
    made_by = {"stage": {"tokens": {**FACTS}}, "assets": {"tokenizer": "ab" * 32}}
    mixed = {"maker": types.SimpleNamespace(phase_names=NAMES)}
    with pytest.raises(RecipeError, match="`phase_copies` was left behind"):
        Pack(4).bind({"ids": made_by, "copies": mixed})


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"window": 1}, "`window` is 1"),
        ({"window": 8, "shard_tokens": 7}, "a shard holds at least one window of 8"),
        ({"window": 8, "formats": ()}, "`formats` is empty"),
        ({"window": 8, "seed": -1}, "`seed` is -1"),
        ({"window": 8, "packing": "best_fit", "pad_id": None}, "no pad token"),
        ({"window": 8, "tail": "pad", "pad_id": None}, "no pad token"),
    ],
)
def test_wrong_parameters_are_refused(parameters, message):
    with pytest.raises(RecipeError, match=message):
        bound(parameters.pop("window"), **parameters)


def test_without_a_pad_token_windows_are_cut():
    files, _ = packed(bound(4, pad_id=None), corpus([("web", 10, 1, False)]))
    (shard,) = shards_of(files, "train/web")
    assert shard[0].tolist() == text_of(0, 8)
