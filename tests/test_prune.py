"""Pruning by clusters against sorting everything at once, however the corpus is cut; and what the papers say of it."""

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest
from driving import cut_into, driven, outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_prune import slow_prune

from curate import pruning, store
from curate.arrow import binary, row_hashes, utf8
from curate.draw import draws
from curate.errors import DataError, RecipeError
from curate.execute import serial
from curate.kernels.hash import xxh3_128
from curate.stages.prune import Prune

WAYS = [
    {"by": "prototypes"},
    {"by": "prototypes", "balance": 0.0},
    {"by": "prototypes", "balance": 1.0},
    {"by": "density"},
    {"by": "density", "balance": 0.7, "neighbours": 1, "tau_mode": "std", "temperature": 0.8},
    {"by": "budget"},
    {"by": "budget", "score": "rating"},
]
WAY = ["prototypes", "no floor", "all floor", "density", "density std", "equal", "score"]
WIDTH = 3


def corpus(rows):
    """Documents from (cluster, distance, text, tokens, rating, vector); texts repeat, so ids do."""
    cluster, distance, text, tokens, rating, vector = zip(*rows, strict=True) if rows else ((),) * 6
    ids = np.empty((len(rows), 16), np.uint8)
    xxh3_128(*utf8(pa.array([str(t) for t in text], pa.large_string())), ids)
    flat = np.array(vector, np.float16).reshape(-1)
    return pa.table(
        {
            "id": binary(ids),
            "origin": pa.array([f"raw/{i * 7919 % 1009}:{i}" for i in range(len(rows))], pa.string()),
            "cluster": pa.array(cluster, pa.int32()),
            "cluster_distance": pa.array(distance, pa.float32()),
            "tokens": pa.array(tokens, pa.int32()),
            "rating": pa.array(rating, pa.float64()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(flat), WIDTH),
        }
    )


def prune(stage, shards, part_rows=1000):
    with driven(stage, shards, part_rows=part_rows) as run:
        made = pa.concat_tables(run.applied())
    assert made.schema == pa.schema([("pruned", pa.bool_()), ("prune_rank", pa.float32())])
    return made


def slowly(table, stage):
    rows = table.to_pylist()
    order, origins = draws(table, stage.seed).tolist(), row_hashes(table.select(["origin"])).tolist()
    vectors = table["embedding"].to_pylist()
    for row, draw, origin, vector in zip(rows, order, origins, vectors, strict=True):
        row |= {"distance": row["cluster_distance"], "score": row["rating"], "draw": draw, "origin_hash": origin}
        row |= {"vector": vector}
        if row["distance"] is None:
            row["cluster"] = None
    found = slow_prune(rows, stage)
    return [(pruned, None if rank is None else float(np.float32(rank))) for pruned, rank in found]


def unit(vector):
    size = math.sqrt(sum(v * v for v in vector))
    return [v / size for v in vector]


VECTOR = st.tuples(*[st.sampled_from([-1.0, -0.3, 0.0, 0.2, 1.0])] * WIDTH).filter(any).map(unit)
ROW = st.tuples(
    st.sampled_from([0, 1, 1, 2, 7, 2**31 - 1, None]),
    st.one_of(st.sampled_from([0.0, 0.5, 0.5, 2.0, None]), st.floats(0, 2, width=32)),
    st.integers(0, 5),
    st.integers(0, 30),
    st.one_of(st.none(), st.floats(0, 10), st.sampled_from([5e-324, 1e-300, 1e-200])),
    VECTOR,
)
ROWS = st.lists(ROW, max_size=40)
KEEP = st.sampled_from([0.1, 0.3, 1 / 3, 0.5, 0.75, 0.9, 1.0])


@pytest.mark.parametrize("way", WAYS, ids=WAY)
@settings(max_examples=40)
@given(
    rows=ROWS,
    keep=KEEP,
    mode=st.sampled_from(["hard", "easy", "random"]),
    unit=st.sampled_from(["documents", "tokens"]),
    borders=st.lists(st.integers(0, 40), max_size=3),
    parts=st.sampled_from([30, 1000]),
)
def test_it_is_what_sorting_everything_gives(way, rows, keep, mode, unit, borders, parts):
    stage, table = Prune(keep=keep, mode=mode, unit=unit, **way), corpus(rows)
    found = outcome(prune, stage, cut_into(table, borders), parts)
    if isinstance(found, str):
        assert outcome(prune, stage, [table]) == found
        assert "keep" in found or "null in all" in found
        return
    assert [tuple(row.values()) for row in found.to_pylist()] == slowly(table, stage)
    live = np.array([c is not None and d is not None for c, d, *_ in rows], bool)
    pruned, weight = found["pruned"].to_numpy(), np.ones(len(rows), int)
    if unit == "tokens":
        weight = np.array([row[3] for row in rows], int)
    kept, budget = weight[live & ~pruned].sum(), math.floor(keep * weight[live].sum() + 1e-9)
    assert not pruned[~live].any()
    assert budget <= kept < budget + max([1, *weight[live]])
    assert kept == budget or unit == "tokens"


@pytest.mark.parametrize("way", WAYS, ids=WAY)
@settings(max_examples=20)
@given(rows=ROWS, random=st.randoms(use_true_random=False), unit=st.sampled_from(["documents", "tokens"]))
def test_the_order_of_rows_does_not_matter(way, rows, random, unit):
    stage, table = Prune(keep=0.6, unit=unit, **way), corpus(rows)
    order = list(range(len(rows)))
    random.shuffle(order)
    found, other = outcome(prune, stage, [table]), outcome(prune, stage, [table.take(pa.array(order, pa.int64()))], 30)
    assert (found if isinstance(found, str) else found.take(pa.array(order, pa.int64()))) == other


def blobs(sizes, noise, seed=5, width=16):
    """Points round random directions: cluster, distance to the centroid, and vectors as float32."""
    draw = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    centre = normal(draw.normal(size=(len(sizes), width)))
    vectors = normal(centre[cluster] + np.array(noise)[cluster, None] * draw.normal(size=(len(cluster), width)))
    centroid = normal(np.array([vectors[cluster == j].sum(axis=0) for j in range(len(sizes))]))
    return cluster, 1 - (vectors * centroid[cluster]).sum(axis=1), vectors.astype(np.float32)


def normal(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def documents(cluster, distance, vectors=None, **more):
    n = len(cluster)
    ids = np.frombuffer(b"".join((i * 2654435761 % 2**32).to_bytes(16, "big") for i in range(n)), np.uint8)
    made = {
        "id": binary(ids.reshape(n, 16)),
        "origin": pa.array([f"a:{i}" for i in range(n)], pa.string()),
        "cluster": pa.array(cluster, pa.int32()),
        "cluster_distance": pa.array(distance, pa.float32()),
    }
    if vectors is not None:
        made["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.table(made | more)


def kept(stage, table):
    return ~prune(stage, cut_into(table, [table.num_rows // 3]))["pruned"].to_numpy()


def test_varied_clusters_far_from_others_keep_more():
    """Six blobs of growing noise: the quota grows with it, and the small one is full."""
    sizes, noise = [300, 300, 300, 300, 60, 600], [0.05, 0.1, 0.2, 0.3, 0.3, 0.3]
    cluster, distance, vectors = blobs(sizes, noise)
    table = documents(cluster, distance, vectors)
    sharp, flat = (
        np.bincount(cluster[kept(Prune(keep=0.3226, by="density", temperature=t), table)], minlength=6)
        for t in (0.1, 0.5)
    )
    for found in (sharp, flat):
        assert found.sum() == 600
        assert found[4] == 60
        assert (np.diff(found[:4]) >= 0).all()
    assert flat[0] > sharp[0]
    assert flat[3] < sharp[3]


def test_complexity_of_orthogonal_clusters_is_their_width():
    sums = (np.eye(4) * 7 * pruning.STEPS).astype(np.int64)
    assert pruning.distance_to_others(sums, 20).tolist() == [1.0] * 4
    assert pruning.distance_to_others(np.array([[1, 0], [-1, 0]]), 20).tolist() == [2.0, 2.0]
    assert np.isnan(pruning.distance_to_others(np.array([[1, 0]]), 20)).all()
    assert pruning.complexity(np.array([0.2, 0.4, 0.5]), np.array([[1, 0], [-1, 0], [0, 0]]), 1).tolist() == [
        0.4, 0.8, 0.6
    ]  # fmt: skip


def test_sums_of_vectors_are_exact():
    """Of float16 to the last bit, in whatever order."""
    vectors = np.random.default_rng(1).uniform(-1, 1, (500, 7)).astype(np.float16).astype(np.float32)
    cluster = np.random.default_rng(2).integers(0, 9, 500).astype(np.int32)
    said = pruning.vector_sums(cluster, vectors)
    found = {int(c): v for c, v in zip(cluster, said.to_pylist(), strict=True) if v}
    assert len(found) == 9 == sum(map(bool, said.to_pylist()))
    for c, total in found.items():
        assert [t / pruning.STEPS for t in total] == vectors[cluster == c].astype(np.float64).sum(axis=0).tolist()


def beside(vector):
    """Two documents of one cluster, a good embedding and this one."""
    return pa.table(
        {
            "cluster": np.zeros(2, np.int32),
            "cluster_distance": np.zeros(2, np.float32),
            "id": pa.array([bytes(16)] * 2, pa.binary(16)),
            "origin": ["raw/a:1", "raw/a:2"],
            "embedding": pa.array([[0.6, 0.8], vector], pa.list_(pa.float32(), 2)),
        }
    )


@pytest.mark.parametrize("wrong", [[np.nan, 0.0], [0.0, 0.0], [0.3, 0.4], [1e30, 0.0]])
def test_density_refuses_vectors_that_are_not_of_length_one(wrong):
    table = beside(wrong)
    said = r"^raw/a:2: its `embedding` \(row 1 of a shard\) is not a finite vector of length 1$"
    with pytest.raises(DataError, match=said):
        Prune(keep=0.5, by="density").scan(table)


def test_density_leaves_out_documents_without_an_embedding():
    table = beside(None)
    assert Prune(keep=0.5, by="density").scan(table)["row"].to_pylist() == [0]
    assert Prune(keep=0.5, by="prototypes").scan(table)["row"].to_pylist() == [0, 1]


def test_balance_is_the_floor_of_prototypes():
    """At 1 all clusters that can keep an equal share, and no more; at 0 only the distance counts."""
    sizes = [50, 200, 350]
    cluster, distance, _ = blobs(sizes, [0.05, 0.2, 0.4])
    table = documents(cluster, distance)
    stage = Prune(keep=0.25, by="prototypes", balance=1.0)
    assert np.bincount(cluster[kept(stage, table)]).tolist() == [50, 50, 50]
    stage = dataclasses.replace(stage, balance=0.0)
    hardest = np.argsort(-distance.astype(np.float32))[:150]
    assert np.flatnonzero(kept(stage, table)).tolist() == sorted(hardest.tolist())
    half = np.bincount(cluster[kept(dataclasses.replace(stage, balance=None), table)], minlength=3)
    assert half.sum() == 150
    assert half.min() >= 25


@pytest.mark.parametrize("way", WAYS, ids=WAY)
def test_many_clusters_in_many_parts(way):
    draw = np.random.default_rng(3)
    cluster, distance, vectors = blobs(draw.integers(1, 90, 60), draw.uniform(0, 0.5, 60))
    more = {"tokens": draw.integers(1, 900, len(cluster)), "rating": pa.array(draw.random(len(cluster)))}
    table = documents(cluster, distance, vectors, **more)
    for unit in ("documents", "tokens"):
        stage = Prune(keep=0.37, unit=unit, **way)
        alone = prune(stage, [table])
        assert prune(stage, cut_into(table, [1, 700, 700, 1500]), part_rows=len(cluster) // 8) == alone
        stays, weight = ~alone["pruned"].to_numpy(), more["tokens"] if unit == "tokens" else np.ones(len(cluster))
        assert 0 <= weight[stays].sum() - math.floor(0.37 * weight.sum()) < weight.max()


def test_what_was_decided_of_a_part_is_kept(monkeypatch):
    table = documents(*blobs([90] * 20, [0.3] * 20)[:2])
    with driven(Prune(keep=0.4, by="prototypes"), cut_into(table, [600]), part_rows=450) as run:
        before = run.applied()
        files = sorted(name for name in store.listing(run.verdict) if name.endswith(".cut"))
        assert len(files) == 4
        store.remove(store.join(run.verdict, files[2]))
        put, written = store.put, []
        monkeypatch.setattr(store, "put", lambda uri, data: (written.append(store.basename(uri)), put(uri, data)))
        run.method.judge(run.evidence, serial)
        assert written == [files[2]]
        assert run.applied() == before


def test_a_cut_through_many_equal_rows(monkeypatch):
    """Rows that are alike to the last digit of their distance are told apart by their ids, range by range."""
    table = documents(np.arange(600) % 3, np.full(600, 0.5))
    wanted = kept(Prune(keep=0.37, by="prototypes", balance=0.1), table)
    assert wanted.sum() == 222
    monkeypatch.setattr(pruning, "_FEW", 0)
    assert (kept(Prune(keep=0.37, by="prototypes", balance=0.1), table) == wanted).all()


def nearest_centroid(vectors, k, seed):
    """A few rounds of spherical k-means."""
    centroid = vectors[np.random.default_rng(seed).choice(len(vectors), k, replace=False)]
    for _ in range(8):
        cluster = (vectors @ centroid.T).argmax(axis=1)
        centroid = normal(
            np.array([vectors[cluster == j].sum(axis=0) if (cluster == j).any() else centroid[j] for j in range(k)])
        )
    cluster = (vectors @ centroid.T).argmax(axis=1)
    return cluster, np.clip(1 - (vectors * centroid[cluster]).sum(axis=1), 0, 2)


def most_alike_before(vectors, cluster, distance):
    """Of each row the largest cosine to one of its cluster that is farther out; -1 for the first."""
    found = np.full(len(vectors), -1.0)
    for j in np.unique(cluster):
        mine = np.flatnonzero(cluster == j)
        mine = mine[np.argsort(-distance[mine], kind="stable")]
        for place in range(1, len(mine)):
            found[mine[place]] = (vectors[mine[:place]] @ vectors[mine[place]]).max()
    return found


@pytest.mark.parametrize(("share", "second"), [(0.25, 1 / 3), (0.3, 0.4), (0.5, 2 / 3), (0.6, 0.8)])
def test_deduplicated_then_pruned_is_the_product_of_both_shares(share, second):
    """D4 (arXiv 2308.12284): SemDeDup to three quarters, clusters anew, the hardest of what is left."""
    vectors = blobs([100, 120, 80, 90], [0.1, 0.2, 0.3, 0.1])[2]
    cluster, distance = nearest_centroid(vectors, 5, 1)
    alike = most_alike_before(vectors, cluster, distance)
    stays = np.sort(np.argsort(alike, kind="stable")[: round(0.75 * len(vectors))])
    cluster, distance = nearest_centroid(vectors[stays], 5, 2)
    left = kept(Prune(keep=second, by="prototypes"), documents(cluster, distance)).sum()
    assert abs(left / len(vectors) - share) <= 2 / len(vectors)


def student_error(alpha, mode, seed):
    """A student perceptron learns from the fifth of a teacher's examples that the mode keeps (arXiv 2206.14486)."""
    draw = np.random.default_rng(seed)
    teacher, examples = normal(draw.normal(size=(1, 60)))[0], draw.normal(size=(alpha * 60, 60))
    margin = np.abs(examples @ teacher)
    table = documents(np.zeros(len(margin), int), 2 * np.exp(-margin))  # an easy example is near its prototype
    x = examples[kept(Prune(keep=0.2, by="prototypes", mode=mode), table)]
    x = x * np.sign(x @ teacher)[:, None]
    student = np.zeros(60)
    for _ in range(25):
        chance = 1 / (1 + np.exp(np.clip(x @ student, -30, 30)))
        slope = x.T @ chance - 1e-3 * student
        bend = (x * (chance * (1 - chance))[:, None]).T @ x + 1e-3 * np.eye(60)
        step = np.linalg.solve(bend, slope)
        student += step / max(1.0, float(np.linalg.norm(step)))
    return math.acos(float(student @ teacher) / float(np.linalg.norm(student))) / math.pi


def test_easy_examples_teach_when_data_is_scarce_and_hard_ones_when_it_is_abundant():
    scarce, plenty = (
        {m: np.mean([student_error(alpha, m, seed) for seed in range(3)]) for m in ("hard", "random", "easy")}
        for alpha in (1, 20)
    )
    assert scarce["easy"] < scarce["random"] < scarce["hard"]
    assert plenty["hard"] < plenty["easy"] < plenty["random"]


def test_rows_that_do_not_compete_are_not_pruned():
    table = documents([0, None, 0, 0, 0], [0.1, 0.9, None, 0.3, 0.2], good=pa.array([True, True, True, False, True]))
    made = prune(Prune(keep=0.5, by="prototypes", among="good"), [table])
    assert made["pruned"].to_pylist() == [True, False, False, False, False]
    assert made["prune_rank"].to_pylist() == [0.75, None, None, None, 0.25]
    nobody = documents([None] * 2, [None] * 2, np.zeros((2, 2), np.float32))
    for table in (nobody, nobody.slice(0, 0)):
        assert not any(prune(Prune(keep=0.5, by="density"), [table])["pruned"].to_pylist())


def test_a_random_mode_has_another_order_for_another_seed():
    table = documents(np.zeros(200, int), np.zeros(200))
    first, again, other = (kept(Prune(keep=0.5, by="budget", mode="random", seed=s), table) for s in (1, 1, 2))
    assert (first == again).all()
    assert 60 < (first != other).sum() < 140


def test_budgets_go_by_the_mean_of_a_column():
    cluster = np.repeat([3, 4, 5], 40)
    rating = pa.array([1.0] * 40 + [3.0] * 40 + [None] * 40, pa.float64())
    found = kept(Prune(keep=0.25, by="budget", score="rating"), documents(cluster, np.zeros(120), rating=rating))
    assert np.bincount(cluster[found])[3:].tolist() == [5, 15, 10]  # no rating: as the mean of the others


def test_what_was_decided_is_said():
    cluster, distance, vectors = blobs([30, 50], [0.1, 0.3])
    with driven(Prune(keep=0.5, by="density"), [documents(cluster, distance, vectors)]) as run:
        whole = pa.ipc.open_stream(store.read(f"{run.verdict}/whole.arrow")).read_all()
    assert whole["cluster"].to_pylist() == [0, 1]
    assert whole["documents"].to_pylist() == whole["size"].to_pylist() == [30, 50]
    assert sum(whole["quota"].to_pylist()) == 40
    assert whole["value"][0].as_py() < whole["value"][1].as_py()


def test_a_budget_below_one_of_each_cluster_is_refused():
    cluster, distance, vectors = blobs([5] * 20, [0.2] * 20)
    table = documents(cluster, distance, vectors)
    with pytest.raises(RecipeError, match=r"keep 0\.1 of 100 documents is 10, .* 20 clusters is 20: keep 0\.2 or more"):
        prune(Prune(keep=0.1, by="density"), [table])
    assert np.bincount(cluster[kept(Prune(keep=0.2, by="density"), table)]).tolist() == [1] * 20
    assert kept(Prune(keep=0.1, by="density").sampled(0.01), table).sum() == 10


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"keep": 0.0}, "above 0 and at most 1"),
        ({"keep": math.nan}, "above 0 and at most 1"),
        ({"balance": 1.5}, "`balance` is 1.5"),
        ({"by": "budget", "balance": 0.5}, "budgets have no floor"),
        ({"score": "rating"}, "`score` belongs to `by: budget`"),
        ({"temperature": 0.5}, "`temperature` belongs to `by: density`"),
        ({"by": "density", "temperature": 0.0}, "above 0 and finite"),
        ({"by": "density", "neighbours": 0}, "1 or more"),
        ({"seed": -1}, "`seed` is -1"),
        ({"among": "good and"}, "cannot read the expression"),
    ],
)
def test_parameters_that_make_no_sense(given, words):
    with pytest.raises(RecipeError, match=words):
        Prune(**{"keep": 0.5, "by": "prototypes"} | given)


def test_scores_and_tokens_must_be_fit_for_it():
    stage, table = Prune(keep=0.5, by="budget", score="rating"), documents([0, 0], [0.1, 0.2])
    for rating, words in ([-1.0, 1.0], "holds -1.0"), ([None, None], "null in all documents"):
        with pytest.raises(RecipeError, match=words):
            prune(stage, [table.append_column("rating", pa.array(rating, pa.float64()))])
    with pytest.raises(RecipeError, match="`cluster` is a column of double"):
        prune(stage, [table.set_column(2, "cluster", pa.array([0.5, 1.5])).append_column("rating", [[1, 2]])])
    with pytest.raises(RecipeError, match="`tokens` is a column of double"):
        prune(Prune(keep=0.5, by="budget", unit="tokens"), [table.append_column("tokens", pa.array([1.0, 2.0]))])


def test_what_it_reads():
    assert Prune(keep=0.5, by="prototypes").reads == ("cluster", "cluster_distance", "id", "origin")
    assert Prune(keep=0.5, by="density", unit="tokens", among="q > 1").reads[4:] == ("tokens", "embedding", "q")
    assert Prune(keep=0.5, by="budget", score="rating").reads[4:] == ("rating",)


def test_a_plan_says_what_stays_and_what_it_takes():
    (remark,) = Prune(keep=0.25, by="prototypes").remarks(3_000_000_000)
    assert "250,000 of them stay" in remark
    assert "60.0 MB of disk" in remark
    (remark,) = Prune(keep=0.25, by="density", unit="tokens").remarks(3_000_000_000)
    assert "0.25 of what competes stays" in remark
    assert remark.endswith("3 KB more")
