"""Semantic duplicates: the largest cosine to an earlier member of a cluster, by rule, by threshold and by share."""

import hashlib
import math
import tracemalloc
import uuid
from fractions import Fraction
from itertools import pairwise

import numpy as np
import oracle_semantic
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import Driven, cut_into, driven
from hypothesis import given
from hypothesis import strategies as st

from curate import semantic_pairs, store
from curate.errors import DataError, RecipeError
from curate.execute import serial
from curate.kernels import proposals
from curate.kernels.nearest import nearer, nearer_within
from curate.preview import preview
from curate.recipe import load
from curate.semantic_pairs import nearest_before
from curate.stages import semantic
from curate.stages.cluster import Cluster
from curate.stages.semantic import Semantic

proposals_nearest = proposals.nearest_of_bytes


def corpus(rows, *, kind="float16", width=3):
    """Rows as a table: `vector` and `cluster` may be None. Vectors of `width` where no row has one."""
    width = next((len(row["vector"]) for row in rows if row["vector"] is not None), width)
    vectors = [[0.0] * width if row["vector"] is None else row["vector"] for row in rows]
    values = pa.array(np.array(vectors, kind).reshape(-1))
    missing = pa.array([row["vector"] is None for row in rows], pa.bool_())
    return pa.table(
        {
            "id": pa.array([row["id"] for row in rows], pa.binary(16)),
            "origin": pa.array([row["origin"] for row in rows], pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(values, width, mask=missing),
            "cluster": pa.array([row["cluster"] for row in rows], pa.int32()),
            "cluster_distance": pa.array([row["distance"] for row in rows], pa.float32()),
            "good": pa.array([row.get("good", True) for row in rows], pa.bool_()),
        }
    )


def document(number, vector, *, cluster=0, distance=0.5, text=None, **more):
    identity = hashlib.blake2b(str(number if text is None else text).encode(), digest_size=16).digest()
    return {"id": identity, "origin": f"a:{number}", "vector": vector, "cluster": cluster, "distance": distance} | more


def told(method, shards, part_rows=4_000_000):
    """Origin -> (similarity, of, duplicate)."""
    with driven(method, shards, part_rows=part_rows) as run:
        made = pa.concat_tables(run.applied())
    origins = pa.concat_tables(shards)["origin"].to_pylist()
    return dict(zip(origins, zip(*(made[name].to_pylist() for name in method.adds), strict=True), strict=True))


def kept(method, shards, **options):
    return {origin for origin, (_, _, duplicate) in told(method, shards, **options).items() if not duplicate}


def circle(*degrees):
    return [[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees]


numbers = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0])
directions = st.sampled_from([[*vector, 0.0] for vector in np.array(circle(*range(0, 90, 6)), np.float16).tolist()])
documents = st.lists(
    st.tuples(
        st.one_of(st.none(), directions, directions, st.lists(numbers, min_size=3, max_size=3)),
        st.one_of(st.none(), st.integers(0, 3)),
        st.sampled_from([0.0, 0.25, 0.5]),
        st.integers(0, 4),
    ),
    max_size=30,
).map(
    lambda rows: [
        document(i, vector, cluster=cluster, distance=distance, text=text)
        for i, (vector, cluster, distance, text) in enumerate(rows)
    ]
)
cuts = st.lists(st.integers(0, 30), max_size=4)
part_rows = st.sampled_from([4_000_000, 10, 4])


@given(
    documents,
    cuts,
    part_rows,
    st.sampled_from(["hard", "easy"]),
    st.sampled_from([1e-6, 0.01, 0.02, 0.05, 0.4]),
    st.randoms(),
)
def test_it_is_what_comparing_every_pair_gives(rows, borders, part_rows, order, eps, random):
    found = oracle_semantic.similarities(rows, order=order)
    gone = oracle_semantic.going(found, eps=eps)
    random.shuffle(rows)
    made = told(Semantic(eps=eps, order=order), cut_into(corpus(rows), borders), part_rows)
    assert made == {r["origin"]: (*found.get(r["origin"], (None, None)), r["origin"] in gone) for r in rows}


@given(documents, cuts, part_rows, st.sampled_from([1e-6, 0.01, 0.02, 0.05, 0.4]), st.randoms())
def test_leaders_are_compared_with_those_that_stay(rows, borders, part_rows, eps, random):
    found = oracle_semantic.similarities(rows, eps=eps)
    gone = oracle_semantic.going(found, eps=eps)
    random.shuffle(rows)
    made = told(Semantic(eps=eps, rule="leader"), cut_into(corpus(rows), borders), part_rows)
    assert made == {r["origin"]: (*found.get(r["origin"], (None, None)), r["origin"] in gone) for r in rows}


@given(documents, cuts, part_rows, st.sampled_from([0.01, 0.3, 0.5, 0.8, 1.0]), st.sampled_from([1, 4, 1 << 18]))
def test_a_share_stays(rows, borders, part_rows, keep, few):
    found = oracle_semantic.similarities(rows)
    gone = oracle_semantic.beyond(rows, found, keep=keep)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semantic, "_FEW", few)
        made = told(Semantic(keep=keep), cut_into(corpus(rows), borders), part_rows)
    assert made == {r["origin"]: (*found.get(r["origin"], (None, None)), r["origin"] in gone) for r in rows}


def test_three_vectors_on_a_circle_tell_the_rules_apart():
    eps = 1 - math.cos(math.radians(15))
    for degrees, max_prev, leader in [((0, 12, 24), {0}, {0, 24}), ((0, 24, 12), {0, 24}, {0, 24})]:
        rows = [
            document(d, v, distance=0.9 - i / 10) for i, d, v in zip(range(3), degrees, circle(*degrees), strict=True)
        ]
        for kind in ("float16", "float32"):
            shards = [corpus(rows, kind=kind)]
            assert kept(Semantic(eps=eps), shards) == {f"a:{d}" for d in max_prev}
            assert kept(Semantic(eps=eps, rule="leader"), shards) == {f"a:{d}" for d in leader}


@pytest.mark.parametrize("rule", ["max_prev", "leader"])
@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_of_copies_one_stays(rule, kind):
    vector = np.random.default_rng(1).normal(size=24)
    rows = [document(i, vector, distance=0.25) for i in range(40)]
    made = told(Semantic(eps=1e-6, rule=rule), cut_into(corpus(rows, kind=kind), [7, 20]))
    first = min(rows, key=lambda row: row["id"])["origin"]
    assert made.pop(first) == (None, None, False)
    assert set(made.values()) == {(1.0, first, True)}


@pytest.mark.parametrize("few", [1, 1 << 18])
def test_of_equal_similarities_those_with_the_smallest_id_and_origin_stay(few, monkeypatch):
    monkeypatch.setattr(semantic, "_FEW", few)
    rows = [document(i, [1.0, 0.0], text=i // 4) for i in range(12)]
    rows.sort(key=lambda row: (row["id"], row["origin"]))
    for count in range(1, 13):
        stays = kept(Semantic(keep=count / 12), cut_into(corpus(rows[::-1]), [5]), part_rows=4)
        assert stays == {row["origin"] for row in rows[: math.ceil(Fraction(str(count / 12)) * 12)]}


def test_copies_of_a_vector_that_points_like_one_before_it_name_that_one():
    vectors = [[0.5, 0.0], [1.0, 0.0], [1.0, 0.0], [0.5, 0.0]]
    rows = [document(i, vector, distance=0.9 - i / 10) for i, vector in enumerate(vectors)]
    made = told(Semantic(eps=0.1), [corpus(rows)])
    assert [made[f"a:{i}"] for i in (1, 2, 3)] == [(1.0, "a:0", True)] * 3


@pytest.mark.parametrize("keep", [0.25, 0.6, 0.8])
def test_the_share_is_exact_and_equals_a_threshold(keep):
    rng = np.random.default_rng(2)
    rows = [
        document(i, rng.normal(size=8), cluster=int(rng.integers(5)), distance=float(rng.random())) for i in range(201)
    ]
    shards = [corpus(rows, kind="float32")]
    made = told(Semantic(keep=keep), shards)
    stays = {origin for origin, (_, _, duplicate) in made.items() if not duplicate}
    assert abs(len(stays) - keep * 201) < 1
    cut = max(made[origin][0] or 0 for origin in stays)
    assert {o for o, (found, _, _) in made.items() if found is None or found <= cut} == stays
    # Pruned again to another share, as D4 does: ratios multiply.
    rest = [row for row in rows if row["origin"] in stays]
    again = kept(Semantic(keep=0.5), [corpus(rest, kind="float32")])
    assert abs(len(again) - 0.5 * keep * 201) <= 2


def test_larger_eps_drop_all_that_smaller_ones_do():
    rng = np.random.default_rng(3)
    rows = [document(i, rng.normal(size=3), cluster=i % 3, distance=float(rng.random())) for i in range(120)]
    shards = [corpus(rows)]
    sets = [kept(Semantic(eps=eps), shards) for eps in (0.001, 0.01, 0.1, 0.3, 0.9)]
    assert all(larger <= smaller for smaller, larger in pairwise(sets))
    assert len(set(map(len, sets))) > 3
    similarity = {o: found for o, (found, _, _) in told(Semantic(eps=0.5), shards).items()}
    assert {o for o, found in similarity.items() if found is None or not found > 1 - 0.1} == sets[2]


def test_a_keyed_order_depends_on_the_seed_alone():
    rng = np.random.default_rng(4)
    rows = [document(i, rng.normal(size=4), cluster=i % 2) for i in range(80)]
    one = told(Semantic(eps=0.1, order="random", seed=5), [corpus(rows)])
    rng.shuffle(rows)
    assert told(Semantic(eps=0.1, order="random", seed=5), cut_into(corpus(rows), [3, 30]), 26) == one
    assert told(Semantic(eps=0.1, order="random", seed=6), [corpus(rows)]) != one


def test_what_has_no_embedding_no_cluster_or_does_not_compete_is_no_duplicate():
    rows = [
        document(0, [1.0, 0.0], distance=0.9),
        document(1, [1.0, 0.0], distance=0.8, good=False),
        document(2, None),
        document(3, [1.0, 0.0], cluster=None, distance=None),
        document(4, [1.0, 0.0], cluster=7),
        document(5, [1.0, 0.0], distance=0.1, good=None),
        document(6, [1.0, 0.0], distance=0.2),
    ]
    made = told(Semantic(eps=0.1, among="good"), [corpus(rows)])
    assert made == {f"a:{i}": (None, None, False) for i in range(6)} | {"a:6": (1.0, "a:0", True)}
    assert told(Semantic(keep=0.5, among="good"), [corpus(rows)])["a:6"] == (1.0, "a:0", True)
    nothing = [corpus(rows[2:4], width=2), corpus(rows[:0], width=2)]
    for method in (Semantic(eps=0.1), Semantic(keep=0.5)):
        assert told(method, nothing) == {f"a:{i}": (None, None, False) for i in (2, 3)}


def full(vectors):
    """All pairs at once in float64."""
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return np.tril(unit @ unit.T + 3, -1).max(axis=1) - 3, unit


@pytest.mark.parametrize("block", [1, 7, 64, 512])
@pytest.mark.parametrize("kind", ["float16", "float32"])
@pytest.mark.parametrize("dimensions", [1, 8, 37, 384])
def test_blocks_give_the_same_bits_and_what_the_whole_matrix_gives(block, kind, dimensions, monkeypatch):
    rng = np.random.default_rng(dimensions)
    vectors = (rng.normal(size=(150, dimensions)) + 2 * rng.normal(size=dimensions)).astype(kind)
    vectors[40:90] = vectors[:50] * (1 + rng.normal(size=(50, dimensions)) / 500).astype(kind)
    wanted, unit = full(vectors)
    swift = [a.tobytes() for above in (math.inf, 0.9) for a in nearest_before(vectors, above=above)]
    monkeypatch.setattr(semantic_pairs, "SWIFT", False)
    best, of = nearest_before(vectors)
    assert [a.tobytes() for a in (best, of, *nearest_before(vectors, above=0.9))] == swift
    assert np.abs(best[1:] - wanted[1:]).max() < 1e-12
    assert np.abs((unit[1:] * unit[of[1:]]).sum(axis=1) - best[1:]).max() < 1e-12
    assert (best[0], of[0]) == (-2.0, -1)
    monkeypatch.setattr(semantic_pairs, "BLOCK", block)
    again = nearest_before(vectors)
    assert again[0].tobytes() == best.tobytes()
    assert again[1].tolist() == of.tolist()
    assert [a.tobytes() for a in nearest_before(vectors, above=0.9)] == swift[2:]


def test_what_the_products_of_float32_say_wrongly_is_put_right(monkeypatch):
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(60, 384)).astype(np.float16)
    vectors[1:] = vectors[0]
    vectors[np.arange(1, 60), rng.integers(0, 384, 59)] += np.float16(0.002)  # cosines that float32 cannot tell apart
    best, of = nearest_before(vectors)
    wrong = np.float32(1.9e-5) * np.linalg.norm(vectors.astype(float), axis=1).max() ** 2

    def noisy(products, *rest):
        return nearer_within(products + rng.uniform(-wrong, wrong, products.shape).astype(np.float32), *rest)

    monkeypatch.setattr(semantic_pairs, "SWIFT", False)
    monkeypatch.setattr(semantic_pairs, "nearer_within", noisy)
    again = nearest_before(vectors)
    assert again[0].tobytes() == best.tobytes()
    assert again[1].tolist() == of.tolist()
    for i in range(1, 60):
        cosines = [oracle_semantic.cosine(vectors[i].tolist(), other.tolist()) for other in vectors[:i]]
        assert (best[i], of[i]) == (max(cosines), cosines.index(max(cosines)))


def test_many_vectors_that_are_nearly_equal_are_told_apart_in_float64(monkeypatch):
    rng = np.random.default_rng(9)
    vectors = (rng.normal(size=64) + rng.normal(size=(300, 64)) / 500).astype(np.float16)
    made = {}
    for dear in (0, 16):  # 0: never
        seen = set()
        monkeypatch.setattr(semantic_pairs, "SWIFT", False)
        monkeypatch.setattr(semantic_pairs, "BLOCK", 50)
        monkeypatch.setattr(semantic_pairs, "_DEAR", dear)
        monkeypatch.setattr(
            semantic_pairs, "nearer", lambda p, *rest, seen=seen: seen.add(p.dtype.name) or nearer(p, *rest)
        )
        made[dear] = [a.tobytes() for a in nearest_before(vectors)]
        assert seen == ({"float64"} if dear else {"float32"})
    assert made[0] == made[16]


@st.composite
def clusters(draw):
    """Vectors of float32: far and near, nearly equal, of one number, of none, very long and very short."""
    rng, width = np.random.default_rng(draw(st.integers(0, 2**32))), draw(st.sampled_from([1, 3, 4, 37, 70]))
    rows, spread = draw(st.integers(1, 300)), draw(st.sampled_from([1e-4, 0.02, 1.0, 100.0]))
    vectors = (rng.normal(size=width) + spread * rng.normal(size=(rows, width))).astype(np.float32)
    some = rng.integers(0, rows, (4, max(rows // 8, 1)))
    vectors[some[0]] *= np.float32(draw(st.sampled_from([1e-38, 1e-32, 1e-20, 1e16])))
    vectors[some[1]] = 0
    vectors[some[2], rng.integers(width)] = 1000
    vectors[some[3]] = vectors[some[0]]
    return vectors


@pytest.mark.skipif(not proposals.SWIFT, reason="the processor has no instruction that multiplies bytes")
@given(clusters(), st.sampled_from([math.inf, 1.0, 0.999, 0.9, 0.3]))
def test_bytes_and_matrices_find_the_same(vectors, above):
    swift = nearest_before(vectors, above=above)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semantic_pairs, "SWIFT", False)
        best, of = nearest_before(vectors, above=above)
    assert swift[0].tolist() == best.tolist()
    assert swift[1].tolist() == of.tolist()


@pytest.mark.skipif(not proposals.SWIFT, reason="the processor has no instruction that multiplies bytes")
def test_what_bytes_cannot_tell_apart_is_left_to_matrices(monkeypatch):
    rng, done = np.random.default_rng(10), []
    far = rng.normal(size=(700, 64))
    near = far[0] + rng.normal(size=(700, 64)) / 50
    monkeypatch.setattr(
        proposals, "nearest_of_bytes", lambda *given: done.append(proposals_nearest(*given)) or done[-1]
    )
    nearest_before(np.concatenate([far, near]).astype(np.float16))
    nearest_before(far.astype(np.float16))
    assert 700 <= done[0] < 1000
    assert done[1] == 700


def test_float16_becomes_float32_to_the_bit():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)].reshape(-1, 31)
    assert semantic_pairs._singles(every).tobytes() == every.astype(np.float32).tobytes()


def test_vectors_of_length_zero_are_like_none():
    best, of = nearest_before(np.array([[0, 0], [0, 0], [1, 0], [-1, 0], [0, 1]], np.float32))
    assert best.tolist() == [-2.0, 0.0, 0.0, 0.0, 0.0]
    assert of.tolist() == [-1, 0, 0, 0, 0]


def test_a_cluster_of_copies_takes_no_time_and_little_memory(monkeypatch):
    rows, vector = 60_000, np.random.default_rng(7).normal(size=384).astype(np.float16)
    seen = []
    monkeypatch.setattr(
        semantic_pairs, "nearest_before", lambda vectors, above: seen.append(len(vectors)) or nearest_before(vectors)
    )
    table = pa.table(
        {
            "id": pa.array([i.to_bytes(16, "big") for i in range(rows)], pa.binary(16)),
            "origin": pa.array([f"a:{i}" for i in range(rows)]),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(np.tile(vector, rows)), 384),
            "cluster": pa.array(np.zeros(rows, np.int32)),
            "cluster_distance": pa.array(np.zeros(rows, np.float32)),
        }
    )
    shards = cut_into(table, range(0, rows, 2000))
    folder, method = f"memory://{uuid.uuid4().hex}", Semantic(eps=0.01)
    run = Driven(method, shards, folder)
    store.remove(store.join(folder, "verdict"))
    tracemalloc.start()
    method.judge(run.evidence, serial)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < rows * 400  # the vectors alone are rows * 768 bytes
    assert seen == [1, 1]
    made = pa.concat_tables(run.applied())
    assert made["semantic_duplicate"].to_pylist() == [False] + [True] * (rows - 1)
    store.remove(folder)


@pytest.mark.parametrize("held", [1, 200, 1 << 29])
def test_clusters_are_read_some_at_a_time(held, monkeypatch):
    rng = np.random.default_rng(8)
    rows = [
        document(i, rng.normal(size=4), cluster=int(rng.integers(9)), distance=float(rng.random())) for i in range(90)
    ]
    shards = cut_into(corpus(rows), [20, 60])
    wanted = told(Semantic(eps=0.1), shards)
    monkeypatch.setattr(semantic_pairs, "HELD", held)
    assert told(Semantic(eps=0.1), shards) == wanted


def noting(parts):
    """`judged`, with the numbers of the parts that it is asked for noted."""

    def noted(part, evidence, **options):
        parts.append(part)
        return semantic_pairs.judged(part, evidence, **options)

    return noted


def test_what_is_judged_stays_judged(monkeypatch):
    rows = [document(i, [1.0, i / 10], cluster=i % 5, distance=i / 90) for i in range(40)]
    for method in (Semantic(eps=0.01), Semantic(keep=0.5)):
        with driven(method, [corpus(rows)], part_rows=10) as run:
            wanted = [table.to_pylist() for table in run.applied()]
            assert run.evidence.parts > 1
            uri = next(store.join(run.verdict, name) for name in store.listing(run.verdict) if name.endswith(".cut"))
            before = store.read(uri)
            store.remove(uri)
            judged: list[int] = []
            monkeypatch.setattr(semantic, "judged", noting(judged))
            method.judge(run.evidence, serial)
            monkeypatch.undo()
            assert uri.endswith(f"-{judged[0]:04d}.cut")
            assert store.read(uri) == before
            assert [table.to_pylist() for table in run.applied()] == wanted


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "give `eps` or `keep`"),
        ({"eps": 0.1, "keep": 0.5}, "give `eps` or `keep`"),
        ({"eps": 0.0}, "`eps` is 0.0"),
        ({"eps": 1.0}, "`eps` is 1.0"),
        ({"keep": 0.0}, "`keep` is 0.0"),
        ({"keep": 1.5}, "`keep` is 1.5"),
        ({"keep": 0.5, "rule": "leader"}, "`rule: leader` needs `eps`"),
        ({"eps": 0.1, "cluster": ""}, "`cluster` is ''"),
        ({"eps": 0.1, "among": "good and"}, "cannot read the expression"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters, message):
    with pytest.raises(RecipeError, match=message):
        Semantic(**parameters)


def test_other_columns_are_refused():
    table = corpus([document(0, [1.0, 0.0])])
    words = table.set_column(3, "cluster", pa.array(["a"]))
    with pytest.raises(RecipeError, match="'cluster' is a column of string; whole numbers"):
        Semantic(eps=0.1).scan(words)
    scalar = table.set_column(2, "embedding", pa.array([0.5]))
    with pytest.raises(RecipeError, match="'embedding' is a column of double; vectors are wanted"):
        Semantic(eps=0.1).scan(scalar)
    holed = corpus([document(0, [1.0, 0.0]), document(1, [math.nan, 0.0])])
    with pytest.raises(DataError, match="row 1, origin a:1, column 'embedding'"):
        Semantic(eps=0.1).scan(holed)


def test_what_it_reads_and_adds():
    method = Semantic(eps=0.1, embedding="e", cluster="again_cluster", among="good")
    assert method.reads == ("e", "again_cluster", "again_cluster_distance", "id", "origin", "good")
    assert method.adds == ("semantic_similarity", "semantic_of", "semantic_duplicate")
    assert method.applies_to == ()


def test_a_plan_says_what_judging_costs(tmp_path, monkeypatch):
    monkeypatch.setattr(semantic, "_SPEED", 1e11)
    method, text = Semantic(eps=0.1), 3_000_000_000
    bound = method.bind({"cluster": {"maker": Cluster(k=1000)}})
    assert (bound.clusters, bound.identity()) == (1000, method.identity())
    assert (method.judging(text), bound.judging(text)) == (3840.0, 3.84)
    assert "3,840 CPU-seconds, and 3,072 MB for one cluster" in method.remarks(text)[0]
    assert "4 CPU-seconds, and 3 MB for each of 1,000 clusters of one size" in bound.remarks(text)[0]
    pages = {"text": [f"page {i}" for i in range(9)], "embedding": corpus([document(0, [1.0, 0.0])] * 9)["embedding"]}
    pq.write_table(pa.table(pages), tmp_path / "raw.parquet")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: judged\ningest: {files: [raw.parquet], source: web}\nstages: [cluster: {k: 2}, semantic: {eps: 0.1}]\n"
    )
    spent = {}
    for more in (0.0, 1000.0):
        monkeypatch.setattr(Semantic, "judging", lambda self, text, more=more: more * self.clusters)
        spent[more] = preview(load(str(recipe)), str(tmp_path / "out"))["cpu_seconds_expected"]
    assert spent[1000.0] - spent[0.0] == pytest.approx(2000)


def test_vectors_far_from_unit_length_and_wrong_seeds_are_refused():
    table = pa.table(
        {
            "embedding": pa.array([[0.6, 0.8], [1e30, 0.0]], pa.list_(pa.float32(), 2)),
            "cluster": np.zeros(2, np.int32),
            "cluster_distance": np.zeros(2, np.float32),
            "id": pa.array([bytes(16)] * 2, pa.binary(16)),
            "origin": ["raw/a:1", "raw/a:2"],
        }
    )
    with pytest.raises(DataError, match=r"row 1, origin raw/a:2, column 'embedding': .* above 10000; length 1"):
        Semantic(eps=0.1).scan(table)
    for seed in (-1, 2**63):
        with pytest.raises(RecipeError, match="`seed` is"):
            Semantic(eps=0.1, seed=seed)
