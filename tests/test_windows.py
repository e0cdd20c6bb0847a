"""Windows of one shard from the rows that were sent to it, and the summary that has to add up."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import windows
from curate.errors import CurateError

FACTS = {"vocabulary": 60_000, "end": "</s>", "end_id": 1, "pad": "<pad>", "pad_id": 0, "sha256": "ab"}
PLAN = {
    "stream": "train/web",
    "phase": "",
    "number": 3,
    "tokens": 10,
    "documents": 3,
    "available_tokens": 8,
    "available_documents": 2,
}


def sent(pieces, order=None):
    """Rows as shards send them: (position, ids) each, in any order."""
    order = order if order is not None else range(len(pieces))
    return pa.table(
        {
            "position": pa.array([pieces[i][0] for i in order], pa.int64()),
            "epoch": pa.array([i % 2 for i in order], pa.int32()),
            "skip": pa.array([100 * i for i in order], pa.int64()),
            "id": pa.array([bytes([i]) * 16 for i in order], pa.binary(16)),
            "origin": [f"a:{i}" for i in order],
            "ids": pa.array([pieces[i][1] for i in order], pa.large_list(pa.uint16())),
        }
    )


def end_to_end(lengths):
    """Pieces of these lengths, one after the other, each of an id of its own."""
    starts = np.cumsum([0, *lengths])[:-1].tolist()
    return [(start, [i + 1] * length) for i, (start, length) in enumerate(zip(starts, lengths, strict=True))]


def table_of(data):
    return pq.read_table(io.BytesIO(data))


lengths = st.lists(st.integers(1, 20), min_size=1, max_size=15)


def test_three_documents_in_windows_of_four():
    made = windows.concatenate(sent(end_to_end([3, 6, 1])), window=4, pad=0, tail="drop", seed=0)
    assert made.ids.tolist() == [1, 1, 1, 2, 2, 2, 2, 2]
    assert made.ids.dtype == np.uint16
    assert (made.real.tolist(), made.left_out) == ([4, 4], 2)
    assert made.starts.tolist() == [0, 3, 0]
    assert made.pieces.drop_columns(["id"]).to_pylist() == [
        {"window": 0, "start": 0, "length": 3, "origin": "a:0", "epoch": 0, "offset": 0},
        {"window": 0, "start": 3, "length": 5, "origin": "a:1", "epoch": 1, "offset": 100},
    ]


def test_the_same_documents_padded():
    made = windows.concatenate(sent(end_to_end([3, 6, 1])), window=4, pad=9, tail="pad", seed=0)
    assert made.ids.tolist() == [1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 9, 9]
    assert (made.real.tolist(), made.left_out) == ([4, 4, 2], 0)
    assert made.starts.tolist() == [0, 3, 0, 0, 1]


def test_the_same_documents_fitted():
    made = windows.best_fit(sent(end_to_end([3, 6, 1])), window=4, pad=0, tail="drop", seed=0)
    found = sorted(map(tuple, made.ids.reshape(-1, 4).tolist()))
    assert found == [(1, 1, 1, 3), (2, 2, 0, 0), (2, 2, 2, 2)]
    assert sorted(made.real.tolist()) == [2, 4, 4]
    pieces = {(p["origin"], p["offset"], p["length"]) for p in made.pieces.to_pylist()}
    assert pieces == {("a:0", 0, 3), ("a:1", 100, 4), ("a:1", 104, 2), ("a:2", 200, 1)}


@given(lengths, st.randoms(use_true_random=False), st.integers(2, 9), st.sampled_from(["drop", "pad"]))
def test_the_order_in_which_rows_come_leaves_no_trace(lengths, random, window, tail):
    pieces = end_to_end(lengths)
    order = list(range(len(pieces)))
    random.shuffle(order)
    for build in (windows.concatenate, windows.best_fit):
        first = build(sent(pieces), window=window, pad=0, tail=tail, seed=5)
        second = build(sent(pieces, order), window=window, pad=0, tail=tail, seed=5)
        assert first.ids.tolist() == second.ids.tolist()
        assert first.starts.tolist() == second.starts.tolist()
        assert first.pieces.equals(second.pieces)
        assert (first.real.tolist(), first.left_out) == (second.real.tolist(), second.left_out)


@given(lengths, st.integers(2, 9), st.sampled_from(["drop", "pad"]))
def test_no_token_is_lost_or_made(lengths, window, tail):
    rows = sent(end_to_end(lengths))
    counted = dict(enumerate(lengths, 1))
    for build in (windows.concatenate, windows.best_fit):
        made = build(rows, window=window, pad=0, tail=tail, seed=0)
        assert len(made.ids) == len(made.real) * window
        numbers, times = np.unique(made.ids[made.ids > 0], return_counts=True)
        found = dict(zip(numbers.tolist(), times.tolist(), strict=True))
        assert sum(found.values()) + made.left_out == sum(lengths) == made.real.sum() + made.left_out
        assert all(found[n] <= counted[n] for n in found)
        assert made.left_out < window if tail == "drop" else made.left_out == 0
        assert made.pieces["length"].to_numpy().sum() == made.real.sum()


def test_files_of_a_shard_with_all_that_is_said_of_it():
    made = windows.best_fit(sent(end_to_end([3, 2])), window=4, pad=0, tail="drop", seed=0)
    gathered = windows.files(made, PLAN, window=4, formats=("megatron", "parquet"), facts=FACTS)
    names = {name: rows for name, (_, rows) in gathered.files.items()}
    stem = "train/web-00003"
    assert names == {f"{stem}.bin": 2, f"{stem}.idx": 2, f"{stem}.parquet": 2, f"map/{stem}.parquet": 2}
    assert gathered.rows == 2
    said = json.loads(table_of(gathered.files[f"{stem}.parquet"][0]).schema.metadata[b"curate"])
    assert said == {"dtype": "uint16", "end_id": 1, "pad_id": 0, "window": 4, "tokenizer": "ab"}
    assert gathered.counts == {
        "windows": {"train/web": 2},
        "tokens": {"train/web": 5},
        "padding": {"train/web": 3},
        "left_out": {"train/web": 0},
        stem: {"windows": 2, "tokens": 5},
    }


def test_a_shard_without_windows_has_no_files():
    made = windows.concatenate(sent(end_to_end([3])), window=4, pad=0, tail="drop", seed=0)
    gathered = windows.files(made, PLAN, window=4, formats=("megatron", "parquet"), facts=FACTS)
    assert (gathered.files, gathered.rows) == ({}, 0)
    assert gathered.counts["left_out"] == {"train/web": 3}


def counted(tokens, left_out):
    stream = {"windows": 2, "tokens": tokens, "padding": 8 - tokens, "left_out": left_out}
    return {name: {"train/web": n} for name, n in stream.items()} | {
        "train/web-00003": {"windows": 2, "tokens": tokens}
    }


def test_a_summary_that_adds_up():
    written = [{"name": f"train/web-00003.{s}", "rows": 2, "bytes": 5, "sha256": s} for s in ("bin", "idx")]
    written.append({"name": "map/train/web-00003.parquet", "rows": 2, "bytes": 5, "sha256": "map"})
    data = windows.summary([PLAN], [counted(8, 2), {}], written, facts=FACTS, how={"window": 4})
    web = json.loads(data)["splits"]["train"]["sources"]["web"]
    assert (web["tokens"], web["left_out_tokens"], web["epochs"], web["share"]) == (8, 2, 1.25, 1.0)
    (shard,) = web["shards"]
    assert shard["prefix"] == "train/web-00003"
    assert sorted(shard["files"]) == ["bin", "idx"], "the map is no token file"
    assert json.loads(data)["splits"]["train"]["megatron_blend"] == ["2", "train/web-00003"]
    assert data == windows.summary([PLAN], [{}, counted(8, 2)], written, facts=FACTS, how={"window": 4})


def test_a_summary_that_does_not_add_up_is_refused():
    with pytest.raises(CurateError, match="10 tokens of train/web planned, 8 packed, 1 left out"):
        windows.summary([PLAN], [counted(8, 1)], [], facts=FACTS, how={})
