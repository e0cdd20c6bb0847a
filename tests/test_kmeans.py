"""Spherical k-means: exact nearest centroids, Lloyd's steps, seeds, and the toys whose answers are known."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_kmeans import lloyd as plain_lloyd
from oracle_kmeans import mutual_information, nearest

from curate import kmeans
from curate.errors import DataError, RecipeError


def unit(vectors: np.ndarray) -> np.ndarray:
    made: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made


def blobs(seed: int, *, topics: int, each: int, width: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors around random topics, the topic of each, and the topics."""
    random = np.random.default_rng(seed)
    middles = unit(random.normal(size=(topics, width)))
    topic = random.permutation(np.repeat(np.arange(topics), each))
    return unit(middles[topic] + noise * random.normal(size=(len(topic), width))), topic, middles


# Small whole numbers: many vectors are equal, opposite, or as near to one centroid as to another.
grids = st.integers(1, 11).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(-1, 1), min_size=width, max_size=width).filter(any), min_size=1, max_size=25
    )
)


@settings(max_examples=60)
@given(rows=grids, k=st.integers(1, 25), neighbours=st.integers(0, 4), block=st.sampled_from([1, 3, 1024]))
def test_assignment_is_exact(rows: list[list[int]], k: int, neighbours: int, block: int) -> None:
    vectors = unit(np.array(rows, np.float64))
    centroids = vectors[:k][::-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kmeans, "BLOCK", block)
        cluster, distance, others = kmeans.assign(vectors, centroids, neighbours=neighbours)
    order, expected = nearest(vectors, centroids)
    assert cluster.dtype == np.int32
    assert distance.dtype == np.float32
    assert others.shape == (len(vectors), neighbours)
    assert np.allclose(distance, np.clip(expected[:, 0], 0, 2), atol=1e-7)
    found = np.column_stack([cluster, others])
    for i, row in enumerate(found):
        kept = row[row >= 0]
        assert len(kept) == min(neighbours + 1, len(centroids)) == len(set(kept.tolist()))
        ranked = [expected[i][order[i].tolist().index(j)] for j in kept]
        assert np.allclose(ranked, expected[i][: len(kept)], atol=1e-14)
        for a, b in pairwise(kept):
            assert a < b or not np.array_equal(centroids[a], centroids[b])


@pytest.mark.parametrize("width", [3, 64, 385])
def test_scores_too_close_for_float32_are_settled(width: int) -> None:
    random = np.random.default_rng(width)
    vectors = unit(random.normal(size=(300, width)))
    close = np.repeat(unit(random.normal(size=(1, width))).astype(np.float64), 200, axis=0)
    centroids = (close + 1e-7 * random.normal(size=close.shape)).astype(np.float32)
    cluster, _, others = kmeans.assign(vectors, centroids, neighbours=3)
    order, distance = nearest(vectors, centroids)
    clear = np.min(np.diff(distance[:, :5], axis=1), axis=1) > 1e-15
    assert clear.sum() > 250
    assert np.array_equal(np.column_stack([cluster, others])[clear], order[clear, :4])


def test_other_threads_and_blocks_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _, _ = blobs(0, topics=30, each=40, width=50, noise=0.3)
    whole = kmeans.fit(vectors, 30, seed=1)
    monkeypatch.setattr(kmeans, "BLOCK", 7)
    assert np.array_equal(kmeans.fit(vectors, 30, seed=1), whole)


@settings(max_examples=40, deadline=None)
@given(rows=grids, k=st.integers(1, 25), iterations=st.integers(1, 4), seed=st.integers(0, 99))
def test_lloyd_is_the_plain_one(rows: list[list[int]], k: int, iterations: int, seed: int) -> None:
    # Noise, as which of two equally far vectors goes first is a matter of the last bit.
    noise = np.random.default_rng(seed).normal(size=(len(rows), len(rows[0])))
    vectors = unit(np.array(rows, np.float64) + 0.05 * noise)
    k = min(k, len(vectors))
    start = vectors[np.random.default_rng(seed).permutation(len(vectors))[:k]]
    found, _ = kmeans.lloyd(vectors, start, iterations=iterations)
    assert np.allclose(found, plain_lloyd(vectors, start, iterations), atol=2e-6)


def test_empty_clusters_take_the_farthest() -> None:
    vectors = unit(np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.9], [1, 2.0]]))
    start = np.repeat(vectors[:1], 3, axis=0)
    centroids, _ = kmeans.lloyd(vectors, start, iterations=1)
    assert np.allclose(centroids[0], unit(vectors[:3].sum(axis=0, keepdims=True))[0], atol=1e-6)
    assert np.allclose(centroids[1:], vectors[[4, 3]], atol=1e-6)


def test_repair_leaves_no_cluster_empty() -> None:
    cluster = np.array([2, 2, 2, 0], np.int32)
    assert kmeans.repair(cluster, np.array([0.1, 0.5, 0.5, 2.0]), 4) == 2
    assert cluster.tolist() == [2, 1, 3, 0]


def test_opposite_vectors_keep_their_centroid() -> None:
    vectors = np.array([[1, 0], [-1, 0]], np.float32)
    start = np.array([[0, 1]], np.float32)
    centroids, total = kmeans.lloyd(vectors, start, iterations=5)
    assert np.array_equal(centroids, start)
    assert total == 2


@pytest.mark.parametrize("k", [1, 2, 5, 12])
def test_few_vectors_that_differ(k: int) -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    centroids = kmeans.fit(vectors, k, seed=0)
    assert centroids.shape == (k, 3)
    _, distance, _ = kmeans.assign(vectors, centroids)
    assert (distance == 0).all() if k >= 3 else distance.max() > 0


def test_one_cluster_is_the_mean_direction() -> None:
    vectors, _, _ = blobs(1, topics=3, each=20, width=9, noise=0.2)
    (centroid,) = kmeans.fit(vectors, 1, seed=0)
    mean = vectors.astype(np.float64).mean(axis=0)
    assert np.allclose(centroid, mean / np.linalg.norm(mean), atol=1e-6)


def test_as_many_clusters_as_vectors() -> None:
    vectors, _, _ = blobs(2, topics=40, each=1, width=9, noise=0.2)
    centroids = kmeans.fit(vectors, 40, seed=0)
    cluster, distance, _ = kmeans.assign(vectors, centroids)
    assert sorted(cluster) == list(range(40))
    assert distance.max() < 1e-6


def test_distances_of_unit_vectors() -> None:
    """Half the squared Euclidean distance; their mean over a cluster is 1 - the length of the mean vector."""
    vectors, _, _ = blobs(3, topics=5, each=50, width=16, noise=0.2)
    centroids, _ = kmeans.lloyd(vectors, vectors[:5], iterations=200)
    cluster, distance, _ = kmeans.assign(vectors, centroids)
    squared = np.square(vectors - centroids[cluster]).sum(axis=1)
    assert np.allclose(squared, 2 * distance, atol=1e-6)
    for own in range(5):
        members = vectors[cluster == own]
        assert np.isclose(distance[cluster == own].mean(), 1 - np.linalg.norm(members.mean(axis=0)), atol=1e-6)


@pytest.mark.parametrize(("topics", "each"), [(12, 60), (40, 150)], ids=["k-means++", "k-means||"])
def test_planted_topics_are_found(topics: int, each: int) -> None:
    vectors, topic, _ = blobs(4, topics=topics, each=each, width=32, noise=0.1)
    cluster, _, _ = kmeans.assign(vectors, kmeans.fit(vectors, topics, seed=5))
    assert mutual_information(topic, cluster) > 0.99


def test_two_levels_find_planted_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, topic, _ = blobs(6, topics=60, each=40, width=32, noise=0.1)
    monkeypatch.setattr(kmeans, "FLAT", 16)
    centroids = kmeans.fit(vectors, 60, seed=5)
    assert centroids.shape == (60, 32)
    cluster, _, _ = kmeans.assign(vectors, centroids)
    assert mutual_information(topic, cluster) > 0.9


def test_two_levels_of_equal_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "FLAT", 4)
    vectors = np.repeat(np.eye(2, dtype=np.float32)[:1], 30, axis=0)
    assert np.array_equal(kmeans.fit(vectors, 30, seed=0), vectors)


@given(
    size=st.lists(st.integers(0, 50), min_size=1, max_size=9).filter(any),
    share=st.floats(0.01, 1),
)
def test_shares_add_up(size: list[int], share: float) -> None:
    k = max(1, int(sum(size) * share))
    given = kmeans.shares(np.array(size), k)
    assert given.sum() == k
    assert (given <= size).all()
    assert (np.abs(given - np.array(size) * k / sum(size)) < 1).all()


def test_a_blob_of_duplicates_has_a_centroid_until_it_is_gone() -> None:
    """The toy of D4 (Tirumala et al. 2023): duplicates make clusters of their own, and clustering again undoes it."""
    for seed in range(3):
        random = np.random.default_rng(seed)
        topics = unit(random.normal(size=(10, 32)))
        spread = unit(np.repeat(topics, 500, axis=0) + 0.15 * random.normal(size=(5000, 32)))
        middle = unit(random.normal(size=(1, 32)))
        blob = unit(middle + 1e-4 * random.normal(size=(1000, 32)))
        centroids = kmeans.fit(np.concatenate([spread, blob]), 11, seed=seed)
        cluster, distance, _ = kmeans.assign(np.concatenate([spread, blob, middle]), centroids)
        assert distance[-1] <= 6.4e-6
        assert 1000 <= np.count_nonzero(cluster[:-1] == cluster[-1]) <= 1005
        again = kmeans.fit(np.concatenate([spread, blob[:1]]), 11, seed=seed)
        _, distance, _ = kmeans.assign(middle, again)
        assert distance[0] > 0.9 * (1 - np.max(middle @ topics.T))


def test_restarts_keep_the_best() -> None:
    vectors, _, _ = blobs(7, topics=25, each=20, width=12, noise=0.25)

    def objective(restarts: int) -> float:
        centroids = kmeans.fit(vectors, 25, seed=3, restarts=restarts, iterations=60, tolerance=0)
        return float(kmeans.assign(vectors, centroids)[1].sum(dtype=np.float64))

    assert objective(8) < objective(1)


def test_seeds_differ_and_are_drawn() -> None:
    vectors, _, _ = blobs(8, topics=10, each=1000, width=8, noise=0.2)
    one, same, other = (kmeans.seeds(vectors, 30, seed=seed) for seed in (1, 1, 2))
    assert len(set(one.tolist())) == 30
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 3.0, 0.0])
def test_vectors_that_are_not_of_length_1_are_refused(wrong: float) -> None:
    vectors = np.eye(4, dtype=np.float32)
    vectors[2, 2] = wrong
    with pytest.raises(DataError, match="vector 2 is not of length 1"):
        kmeans.fit(vectors, 2, seed=0)
    with pytest.raises(DataError, match="vector 2"):
        kmeans.assign(vectors, np.eye(4, dtype=np.float32))


@pytest.mark.parametrize("k", [0, 5])
def test_too_many_clusters_are_refused(k: int) -> None:
    with pytest.raises(RecipeError, match=f"{k} clusters of 4 vectors"):
        kmeans.fit(np.eye(4, dtype=np.float32), k, seed=0)
