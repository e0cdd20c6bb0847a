"""Vectors as points of a plane: their first two principal components, for a picture.

The catch: of hundreds of directions two are seen, which hold a tenth or so of what tells texts apart. Points that lie
far from each other here are unlike; points that lie together need not be alike.
"""

import numpy as np


def plane(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places float32[n, 2] of vectors float32[n, d], and the shares of the variance that both axes hold, float64[2].

    The mean is at the origin. An axis points to where the largest of its d numbers, the first of equals, is positive.
    Memory: the vectors once more in float64.
    """
    places, shares = np.zeros((len(vectors), 2), np.float32), np.zeros(2)
    if len(vectors) < 2:
        return places, shares
    centred = vectors.astype(np.float64)
    centred -= centred.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    total = values.sum()
    for axis in range(min(2, len(values))):
        direction = axes[:, -1 - axis]
        direction = direction * (1 if direction[np.argmax(np.abs(direction))] > 0 else -1)
        places[:, axis] = centred @ direction
        shares[axis] = max(0.0, values[-1 - axis]) / total if total > 0 else 0.0
    return places, shares
