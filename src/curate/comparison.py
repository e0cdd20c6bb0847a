"""What is told of a comparison, from the sums of all shards: figures by method, overlaps, closeness, a map."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate.arrow import vectors
from curate.overlap import LIKE, Seen
from curate.scatter import plane

Told = dict[str, Any]


class Score(NamedTuple):
    """Bits of the held-out text by source under a model, and how many of its words the model never saw."""

    bits: dict[str, float]
    unseen: int


def methods(
    named: Sequence[tuple[str, str | None]], totals: np.ndarray, budget: int, seen: list[Seen], *, examples: int
) -> list[Told]:
    """By selection, named with its expression, what it takes; `totals` int64[k]: what there was to take from; and so
    many `examples` of each kind."""
    names = [name for name, _ in named]
    pairs = sum((shard.pairs for shard in seen), np.zeros((2, len(names), len(names)), np.int64))
    documents, sizes = np.diagonal(pairs[0]), np.diagonal(pairs[1])
    whole = int(totals[-1])
    sources = _by_source(seen, len(names))
    clusters = _by_cluster(seen, len(names))
    near = sum((shard.near for shard in seen), np.zeros((2, len(names)), np.int64))
    told = []
    for k, (name, where) in enumerate(named):
        told.append(
            {
                "name": name,
                "where": where,
                "available": int(totals[k]),
                "short": int(totals[k]) < budget,
                "cut": int(totals[k]) > budget,
                "documents": int(documents[k]),
                "size": int(sizes[k]),
                "share": _share(sizes[k], whole),
                "mean_size": _share(sizes[k], documents[k]),
                "sources": {
                    source: {
                        "documents": int(sums[0, k]),
                        "size": int(sums[1, k]),
                        "share": _share(sums[1, k], sizes[k]),
                    }
                    for source, sums in sources.items()
                },
                "clusters": None if clusters is None else _coverage(clusters[:, :, k]),
                "near_duplicates": {"above": LIKE, "share": _share(near[1, k], documents[k])}
                if near[0].any()
                else None,
                "examples": _examples(seen, k, examples) if k < len(names) - 1 else None,
            }
        )
    return told


def overlap(names: Sequence[str], seen: list[Seen]) -> Told:
    """`jaccard`: documents that two have in common, of those that either has; `contained`: by method the share of its
    size that each other has."""
    common, size = sum((shard.pairs for shard in seen), np.zeros((2, len(names), len(names)), np.int64))
    documents = np.diagonal(common)
    either = documents[:, None] + documents - common
    jaccard = {a: {b: _share(common[i, j], either[i, j]) for j, b in enumerate(names)} for i, a in enumerate(names)}
    held = {a: {b: _share(size[i, j], size[i, i]) for j, b in enumerate(names)} for i, a in enumerate(names)}
    return {"jaccard": jaccard, "contained": held}


def closeness(scores: list[Score], measured: dict[str, dict[str, int]]) -> Told:
    """Bits per word and byte of all held-out text, and per word by source, over the seeds; 0 where it has no word."""
    words = sum(one["words"] for one in measured.values())
    size = sum(one["bytes"] for one in measured.values())
    bits = [math.fsum(score.bits.values()) for score in scores]
    return {
        "bits_per_word": _spread([_share(value, words) for value in bits]),
        "bits_per_byte": _spread([_share(value, size) for value in bits]),
        "unseen_words": _spread([_share(score.unseen, words) for score in scores]),
        "sources": {
            name: _spread([_share(score.bits[name], facts["words"]) for score in scores])
            for name, facts in measured.items()
        },
    }


def points(names: Sequence[str], seen: list[Seen]) -> tuple[pa.Table, list[float]] | None:
    """The map: `origin`, `x`, `y`, `cluster`, `source` and a truth for each selection, in the order of draws, and the
    shares of the variance that x and y hold; None where no document has a vector."""
    tables = [shard.map for shard in seen if shard.map is not None and shard.map.num_rows]
    if not tables:
        return None
    table = pa.concat_tables(tables).combine_chunks()
    table = table.sort_by([("draw", "ascending"), ("origin", "ascending")])
    places, shares = plane(vectors(table["vector"])[0])
    columns = {"origin": table["origin"], "x": places[:, 0], "y": places[:, 1]}
    columns |= {name: table[name] for name in ("cluster", "source")}
    columns |= {name: table[f"in_{k}"] for k, name in enumerate(names)}
    return pa.table(columns).combine_chunks(), [_rounded(float(share)) for share in shares]


def _by_source(seen: list[Seen], count: int) -> dict[str, np.ndarray]:
    sums: dict[str, np.ndarray] = {}
    for shard in seen:
        for name, counts in shard.sources.items():
            sums[name] = sums.get(name, np.zeros((2, count), np.int64)) + counts
    return {name: sums[name] for name in sorted(sums)}


def _by_cluster(seen: list[Seen], count: int) -> np.ndarray | None:
    """Documents and size by cluster and selection, int64[clusters, 2, k]; None where no document has a cluster."""
    numbers, sums = np.empty(0, np.int64), np.empty((0, 2, count), np.int64)
    for shard in seen:
        merged, place = np.unique(np.concatenate([numbers, shard.clusters[0]]), return_inverse=True)
        added = np.zeros((len(merged), 2, count), np.int64)
        np.add.at(added, place, np.concatenate([sums, shard.clusters[1]]))
        numbers, sums = merged, added
    return sums if len(sums) else None


def _coverage(sums: np.ndarray) -> Told:
    """Of documents and size by cluster, int64[clusters, 2]."""
    sizes = np.sort(sums[:, 1][sums[:, 1] > 0])
    shares = sizes / sizes.sum() if len(sizes) else np.empty(0)
    return {
        "all": len(sums),
        "covered": int(np.count_nonzero(sums[:, 0])),
        "effective": _rounded(math.exp(-math.fsum(shares * np.log(shares)))) if len(sizes) else 0.0,
        "largest_share": _rounded(float(shares[-1])) if len(sizes) else 0.0,
    }


def _examples(seen: list[Seen], k: int, most: int) -> Told:
    sides = []
    for side in (0, 1):
        found = sorted(example for shard in seen for example in shard.examples[2 * k + side])
        sides.append([{"origin": origin, "text": text} for _, origin, text in found[:most]])
    return {"keeps_alone": sides[0], "drops_alone": sides[1]}


def _spread(values: list[float]) -> Told:
    """The mean, the standard deviation of the values as a sample (null of one), and the values."""
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    deviation = math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None
    return {"mean": _rounded(mean), "std": None if deviation is None else _rounded(deviation), "values": values}


def _share(part: Any, whole: Any) -> float:
    return _rounded(float(part) / float(whole)) if whole else 0.0


def _rounded(value: float) -> float:
    """Six digits behind the point: more would differ between machines, whose logarithms do."""
    return round(value, 6)
