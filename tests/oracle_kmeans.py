"""Spherical k-means the slow and plain way: every distance in float64, one loop per rule."""

import numpy as np


def nearest(vectors: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All centroids of each vector by distance, the first of equal ones first, and the distances in that order."""
    distance = 1.0 - vectors.astype(np.float64) @ centroids.astype(np.float64).T
    order = np.argsort(distance, axis=1, kind="stable")
    return order, np.take_along_axis(distance, order, axis=1)


def lloyd(vectors: np.ndarray, centroids: np.ndarray, iterations: int) -> np.ndarray:
    """Centroids after so many of Lloyd's steps; an empty cluster takes the farthest vector that is not alone."""
    vectors, centroids = vectors.astype(np.float64), centroids.astype(np.float64).copy()
    for _ in range(iterations):
        order, distance = nearest(vectors, centroids)
        cluster = order[:, 0].tolist()
        by_distance = sorted(range(len(vectors)), key=lambda row: (-distance[row, 0], row))
        for empty in range(len(centroids)):
            if empty in order[:, 0]:
                continue
            for row in by_distance:
                if cluster.count(cluster[row]) > 1:
                    cluster[row] = empty
                    by_distance.remove(row)
                    break
        for own in range(len(centroids)):
            total = sum(vectors[row] for row in range(len(vectors)) if cluster[row] == own)
            length = np.sqrt(np.sum(np.square(total)))
            if length > 1e-6:
                centroids[own] = total / length
    return centroids


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Normalised mutual information of two labellings, by the mean of their entropies."""
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1 / len(a))
    rows, columns = table.sum(1), table.sum(0)

    def entropy(shares: np.ndarray) -> float:
        shares = shares[shares > 0]
        return float(-np.sum(shares * np.log(shares)))

    shared = entropy(rows) + entropy(columns) - entropy(table.reshape(-1))
    return 2 * shared / (entropy(rows) + entropy(columns))
