"""Semantic duplicates the slow way: every pair of a cluster, one at a time, with exact sums."""

import math
from fractions import Fraction

import numpy as np


def cosine(a, b):
    """Of two lists of float16 values, from exact sums."""
    # Products of two float16 are exact in float64, and `fsum` rounds once.
    product, square, other = (math.fsum(x * y for x, y in zip(*p, strict=True)) for p in ((a, b), (a, a), (b, b)))
    return min(product / math.sqrt(square * other), 1.0) if square * other > 0 else 0.0


def in_order(rows, order):
    """Rows (dicts with `distance`, `id`, `origin`) of one cluster as `semantic` orders them."""
    sign = {"hard": -1, "easy": 1}[order]
    return sorted(rows, key=lambda row: (sign * row["distance"], row["id"], row["origin"]))


def similarities(rows, *, order="hard", eps=None):
    """Origin -> (similarity, origin of the most similar one) of rows that have `vector` and `cluster`; None, None for
    the first of a cluster. With `eps` by the rule `leader`: of equal vectors all say what the first of them says, if
    that goes."""
    told = {}
    ready = [row for row in rows if row["vector"] is not None and row["cluster"] is not None]
    for cluster in {row["cluster"] for row in ready}:
        before, said = [], {}
        for row in in_order([row for row in ready if row["cluster"] == cluster], order):
            best = None, None
            for other in before:
                found = cosine(row["vector"], other["vector"])
                if best[0] is None or found > best[0]:
                    best = found, other["origin"]
            vector = tuple(row["vector"])
            if eps is not None:
                best = said.get(vector, best)
            best = best[0] if best[0] is None else float(np.float32(best[0])), best[1]
            stays = eps is None or best[0] is None or best[0] <= 1 - eps
            if stays:
                before.append(row)
            else:
                said[vector] = best
            told[row["origin"]] = best
    return told


def going(told, *, eps):
    """Origins of duplicates by a threshold."""
    return {origin for origin, (found, _) in told.items() if found is not None and found > 1 - eps}


def beyond(rows, told, *, keep):
    """Origins of those that go when a share stays."""
    ranked = [row for row in rows if row["origin"] in told]
    ranked.sort(
        key=lambda row: (-2.0 if told[row["origin"]][0] is None else told[row["origin"]][0], row["id"], row["origin"])
    )
    return {row["origin"] for row in ranked[math.ceil(Fraction(str(keep)) * len(ranked)) :]}
