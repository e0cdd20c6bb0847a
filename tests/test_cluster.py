"""The `cluster` stage and columns of vectors: the same for any cut and any order of rows, null where there is none."""

import hashlib
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_kmeans import mutual_information, nearest

from curate import exchange, store, unit
from curate.arrow import encode, row_hashes, vector_column, vectors
from curate.errors import DataError, RecipeError
from curate.execute import serial
from curate.stage import Evidence, Verdict
from curate.stages.cluster import Cluster

_numbers = iter(range(10**9))


def documents(rows: int, kind: pa.DataType | None = None) -> tuple[pa.Table, np.ndarray]:
    """Documents of six topics, every seventh without an embedding, and the topic of each."""
    random = np.random.default_rng(0)
    middles = random.normal(size=(6, 20))
    topic = np.arange(rows) % 6
    found = middles[topic] + 0.3 * random.normal(size=(rows, 20))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    ids = [hashlib.md5(b"%d" % (i // 2)).digest() for i in range(rows)]
    table = pa.table(
        {
            "id": pa.array(ids, pa.binary(16)),
            "origin": [f"raw/a.jsonl:{i + 1}" for i in range(rows)],
            "embedding": vector_column(found.astype(np.float32), np.arange(rows) % 7 != 3, kind or pa.float32()),
        }
    )
    return table, topic


def drive(stage: Cluster, shards: list[pa.Table]) -> tuple[list[pa.Table], pa.Table, Evidence]:
    """What apply gives for each shard after scan and judge over all; the centroids; the evidence."""
    folder = f"memory://cluster/{next(_numbers)}"
    files = []
    for index, shard in enumerate(shards):
        seen = stage.scan(shard.select(list(stage.reads)))
        uri = store.join(folder, f"{index}.cut")
        store.put(uri, exchange.cut(seen, exchange.leading(seen["key"].to_numpy(), 8), 8))
        files.append(uri)
    rows = sum(int(exchange.index(uri).rows.sum()) for uri in files)
    evidence = Evidence(tuple(files), 8, rows, store.join(folder, "verdict"), stage.heft)
    whole = stage.judge(evidence, serial)
    assert unit.verdict_files(store.join(folder, "verdict")) == []
    made = [stage.apply(shard.select(list(stage.applies_to)), Verdict(None, whole)) for shard in shards]
    return made, whole, evidence


def cut(table: pa.Table, borders: list[int]) -> list[pa.Table]:
    return [table.slice(a, b - a) for a, b in pairwise([0, *sorted(borders), table.num_rows])]


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32()])
def test_documents_of_a_topic_meet(kind: pa.DataType) -> None:
    table, topic = documents(300, kind)
    (made,), whole, _ = drive(Cluster(k=6, restarts=3), [table])
    assert made.schema == pa.schema([("cluster", pa.int32()), ("cluster_distance", pa.float32())])
    found, valid = vectors(table["embedding"])
    for name in made.column_names:
        assert np.array_equal(made[name].is_valid().to_numpy(), valid)
    cluster = made["cluster"].drop_null().to_numpy()
    assert mutual_information(topic[valid], cluster) > 0.99
    order, distance = nearest(found[valid], vectors(whole["centroid"])[0])
    assert np.array_equal(cluster, order[:, 0])
    assert np.allclose(made["cluster_distance"].drop_null().to_numpy(), np.clip(distance[:, 0], 0, 2), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    borders=st.lists(st.integers(0, 90), max_size=5),
    order=st.permutations(range(90)),
    stage=st.sampled_from(
        [Cluster(k=4), Cluster(k=5, sample=3), Cluster(k=3, share=0.5), Cluster(k=2, sample=6, restarts=2, seed=7)]
    ),
)
def test_cuts_and_order_do_not_matter(borders: list[int], order: list[int], stage: Cluster) -> None:
    table, _ = documents(90)
    (expected,), centroids, _ = drive(stage, [table])
    made, whole, _ = drive(stage, cut(table.take(pa.array(order)), borders))
    assert whole.equals(centroids)
    assert pa.concat_tables(made).equals(expected.take(pa.array(order)))


def test_parts_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = documents(90)
    stage = Cluster(k=5, sample=4)
    _, centroids, evidence = drive(stage, [table])
    assert evidence.parts == 1
    monkeypatch.setattr("curate.stage.PART_ROWS", 100)
    _, again, evidence = drive(stage, [table])
    assert evidence.parts == 8
    assert again.equals(centroids)


def test_a_sample_is_of_the_smallest_draws_and_bounded() -> None:
    table, _ = documents(90)
    stage = Cluster(k=5, sample=4)
    seen = stage.scan(table)
    every = Cluster(k=90).scan(table)
    assert every.num_rows == 77
    assert seen.num_rows == 20
    assert sorted(seen["key"].to_pylist()) == sorted(every["key"].to_pylist())[:20]
    few = Cluster(k=90, share=0.3).scan(table)
    assert set(few["key"].to_pylist()) == {key for key in every["key"].to_pylist() if key <= 0.3 * 2**64}
    assert 10 < few.num_rows < 40


def test_a_seed_draws_another_sample() -> None:
    table, _ = documents(90)
    rows = [Cluster(k=5, sample=4, seed=seed).scan(table)["row"].to_pylist() for seed in (0, 1)]
    assert rows[0] != rows[1]


def test_shards_without_embeddings() -> None:
    table, _ = documents(90)
    empty = table.set_column(2, "embedding", pa.nulls(90, table.schema.field("embedding").type))
    made, whole, _ = drive(Cluster(k=4), [empty, table, table.slice(0, 0)])
    assert made[0]["cluster"].null_count == 90
    assert made[2].num_rows == 0
    assert whole.equals(drive(Cluster(k=4), [table])[1])


@settings(max_examples=15, deadline=None)
@given(
    good=st.lists(st.sampled_from([True, False, None]), min_size=60, max_size=60),
    borders=st.lists(st.integers(0, 60), max_size=3),
)
def test_only_the_rows_that_compete_are_clustered(good: list[bool | None], borders: list[int]) -> None:
    table, _ = documents(60)
    table = table.append_column("good", pa.array([True] * 4 + good[4:], pa.bool_()))
    stage = Cluster(k=3, sample=8, among="good")
    assert stage.applies_to == ("embedding", "good")
    made, whole, _ = drive(stage, cut(table, borders))
    competes = pa.array([bool(one) for one in table["good"].to_pylist()])
    (alone,), centroids, _ = drive(Cluster(k=3, sample=8), [table.filter(competes)])
    assert whole.equals(centroids)
    every = pa.concat_tables(made)
    assert every.filter(competes).equals(alone)
    assert every.filter(pc.invert(competes))["cluster"].null_count == every.num_rows - alone.num_rows


def test_more_clusters_than_embeddings_are_refused() -> None:
    table, _ = documents(90)
    drive(Cluster(k=77, iterations=2), [table])
    with pytest.raises(RecipeError, match="`k` is 78, and there are 77 embeddings"):
        drive(Cluster(k=78), [table])
    with pytest.raises(RecipeError, match=r"of the share 0\.1 of documents"):
        drive(Cluster(k=77, share=0.1), [table])
    with pytest.raises(RecipeError, match="there are 0 embeddings"):
        drive(Cluster(k=1), [table.slice(0, 0)])
    with pytest.raises(RecipeError, match=r"with `origin = 'a'`"):
        drive(Cluster(k=1, among="origin = 'a'"), [table])
    with pytest.raises(RecipeError, match="cannot read the expression"):
        Cluster(k=1, among="good and")


@pytest.mark.parametrize(
    "wrong",
    [{"k": 0}, {"sample": 0}, {"share": 0.0}, {"share": 1.5}, {"restarts": 0}, {"seed": -1}, {"seed": 2**63}],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=f"`{next(iter(wrong))}` is"):
        Cluster(**{"k": 2} | wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, 2.0])
def test_embeddings_that_are_no_unit_vectors_are_named(value: float) -> None:
    table, _ = documents(20)
    found, valid = (array.copy() for array in vectors(table["embedding"]))
    found[12, 1] = value
    table = table.set_column(2, "embedding", vector_column(found, valid, pa.float32()))
    with pytest.raises(DataError, match=r"raw/a\.jsonl:13: its `embedding`"):
        Cluster(k=2).scan(table)


def test_other_columns_are_refused() -> None:
    table, _ = documents(5)
    for column in (pa.array([[1.0]] * 5), pa.nulls(5), pa.array(range(5))):
        with pytest.raises(RecipeError, match=r"cluster: 'embedding': .* fixed_size_list of float32"):
            Cluster(k=2).scan(table.set_column(2, "embedding", column))


def test_a_plan_says_what_it_costs() -> None:
    (remark,) = Cluster(k=1000).remarks(3_000_000_000)
    assert "393 MB (256,000 vectors) for at most 49 CPU-seconds; 8 more" in remark


@given(
    rows=st.lists(st.lists(st.floats(-2, 2, width=16), min_size=3, max_size=3), max_size=12),
    holes=st.lists(st.booleans(), min_size=12, max_size=12),
    start=st.integers(0, 12),
    kind=st.sampled_from([pa.float16(), pa.float32()]),
)
def test_columns_of_vectors(rows: list[list[float]], holes: list[bool], start: int, kind: pa.DataType) -> None:
    valid = ~np.array(holes[: len(rows)], bool)
    given = np.array(rows, np.float32).reshape(-1, 3)
    column = vector_column(given, valid, kind)
    assert column.to_pylist() == [row if ok else None for row, ok in zip(given.tolist(), valid, strict=True)]
    found, known = vectors(pa.chunked_array([column[:start], column[start:]]))
    assert np.array_equal(known, valid)
    assert np.array_equal(found, np.where(valid[:, None], given, 0))
    table = pa.table({"embedding": column})
    hashes = row_hashes(table)
    assert np.array_equal(row_hashes(table.slice(start)), hashes[start:])
    seen = {row.tobytes() if ok else None for row, ok in zip(given, valid, strict=True)}
    assert len(set(hashes.tolist())) == len(seen)
    back = pq.read_table(pa.BufferReader(pa.py_buffer(encode(table).data)))
    assert back.to_pylist() == table.to_pylist()
    assert back["embedding"].type.value_type == kind


def test_a_trial_has_as_many_fewer_clusters() -> None:
    assert (Cluster(k=100).sampled(0.031).k, Cluster(k=100).sampled(1.0).k, Cluster(k=3).sampled(1e-9).k) == (4, 100, 1)
