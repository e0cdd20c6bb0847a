"""Clusters of like documents: spherical k-means of their embeddings, fitted on a sample, then given to all.

The sample is the documents of the smallest keyed draws, so it is the same however the corpus is cut. While a shard is
scanned nobody knows how many others there are: each sends up to the whole sample, which `share` bounds where the corpus
is much larger than `k` times `sample`. The catch: k-means of embeddings finds topics, languages and templates alike,
and clusters of uneven size; remove duplicates first, or they have centroids of their own.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curate import draw, expressions, kmeans
from curate.arrow import one, vector_column, vectors
from curate.errors import RecipeError
from curate.stage import Evidence, Map, Stage, Verdict

_SAMPLE = 0x636C7573746572  # "cluster": added to the seed of the sample, so that it is not that of another stage
_WIDTH, _TEXT, _SPEED = 384, 3000, 1e11
"""What estimates take for granted: numbers of an embedding, bytes of a document, operations a second of a core."""


@dataclass(frozen=True)
class Cluster(Stage):
    """Adds `cluster` (int32, below `k`), the nearest of `k` centroids, and `cluster_distance` (float32, 0 to 2), 1 -
    cosine to it. Both are null for documents without an embedding, and for those that `among`, an expression, leaves
    out: they are neither sampled nor given a cluster.

    `sample`: vectors for each centroid that the fit looks at, of those there are. `share`: the share of documents,
    drawn by id and seed, that the sample is taken from; with less than 1 a large corpus sends less. `iterations` and
    `restarts` of the fit: of several, the one with the smallest distances. Where fewer than `k` embeddings differ,
    fewer than `k` clusters have members.
    """

    kind: ClassVar[str] = "cluster"
    k: int
    sample: int = kmeans.PER_CENTROID
    share: float = 1.0
    seed: int = 0
    iterations: int = 25
    restarts: int = 1
    among: str | None = None

    def __post_init__(self) -> None:
        for name in ("k", "sample", "iterations", "restarts"):
            if getattr(self, name) < 1:
                raise RecipeError(f"cluster: `{name}` is {getattr(self, name)}; a whole number from 1 on is wanted")
        if self.k >= 2**31:
            raise RecipeError(f"cluster: `k` is {self.k}; at most {2**31 - 1} clusters have a number")
        if not 0 <= self.seed < 2**63 - _SAMPLE:
            raise RecipeError(f"cluster: `seed` is {self.seed}; it is 0 or more and below 2^63")
        if not 0 < self.share <= 1:
            raise RecipeError(f"cluster: `share` is {self.share}; above 0 and at most 1 is wanted")
        if self.among is not None:
            expressions.parse(self.among)

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(("embedding", *draw.READS, *self._named)))

    @property
    def applies_to(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(("embedding", *self._named)))

    @property
    def _named(self) -> tuple[str, ...]:
        return tuple(expressions.columns(self.among)) if self.among else ()

    @property
    def adds(self) -> tuple[str, ...]:
        return ("cluster", "cluster_distance")

    @property
    def heft(self) -> int:
        return 2 * _WIDTH // 32

    def scan(self, shard: pa.Table) -> pa.Table:
        """`key` and `embedding` of the rows with the smallest draws, at most as many as the sample."""
        found, valid = self._competing(shard)
        kmeans.demand_units(found, np.flatnonzero(valid), shard, "embedding")
        key = draw.draws(shard, self.seed + _SAMPLE)
        rows = np.flatnonzero(valid & (key <= draw.threshold(self.share)))
        rows = rows[np.argsort(key[rows], kind="stable")[: self.k * self.sample]]
        rows.sort()
        said = one(shard["embedding"]).take(pa.array(rows))
        return pa.table({"key": key[rows], "row": rows.astype(np.uint32), "embedding": said})

    def judge(self, evidence: Evidence, map: Map) -> pa.Table:
        """The table of centroids: one column `centroid`, fixed_size_list<float>."""
        found = self.sampled_vectors(evidence)
        if len(found) < self.k:
            drawn = f" of the share {self.share} of documents" if self.share < 1 else ""
            drawn += f" among those with `{self.among}`" if self.among else ""
            raise RecipeError(
                f"cluster: `k` is {self.k:,}, and there are {len(found):,} embeddings{drawn}; at most as many clusters "
                "as embeddings can be fitted"
            )
        centroids = kmeans.fit(found, self.k, seed=self.seed, iterations=self.iterations, restarts=self.restarts)
        return pa.table({"centroid": vector_column(centroids, np.ones(self.k, bool), pa.float32())})

    def sampled(self, share: float) -> "Cluster":
        """As many fewer clusters, so that each has about as many documents as in the whole."""
        return replace(self, k=math.ceil(self.k * share))

    def sampled_vectors(self, evidence: Evidence) -> np.ndarray:
        """Embeddings float32[n, d] of the smallest draws of all, in order of draws: parts are ranges of them."""
        wanted, held, taken = self.k * self.sample, 0, []
        for part in range(evidence.parts):
            seen = evidence.read(part) if held < wanted else None
            if seen is not None:
                order = np.argsort(seen["key"].to_numpy(), kind="stable")[: wanted - held]
                taken.append(vectors(one(seen["embedding"]).take(pa.array(order)))[0])
                held += len(order)
        return np.concatenate(taken) if taken else np.empty((0, 1), np.float32)

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        assert verdict.whole is not None
        found, valid = self._competing(shard)
        cluster, distance = np.zeros(len(found), np.int32), np.zeros(len(found), np.float32)
        cluster[valid], distance[valid], _ = kmeans.assign(
            found if valid.all() else found[valid], vectors(verdict.whole["centroid"])[0]
        )
        return pa.table(
            {"cluster": pa.array(cluster, mask=~valid), "cluster_distance": pa.array(distance, mask=~valid)}
        )

    def _competing(self, shard: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings float32[n, d], and which of them count: bool[n]."""
        try:
            found, valid = vectors(shard["embedding"])
        except RecipeError as error:
            raise RecipeError(f"cluster: 'embedding': {error}") from error
        return found, valid & expressions.evaluate(self.among, shard)[0] if self.among else valid

    def judging(self, text: int) -> float:
        groups = 2 * self.k**0.5 if self.k > kmeans.FLAT else self.k
        return 2 * self._most(text) * groups * _WIDTH * self.iterations * self.restarts / _SPEED

    def _most(self, text: int) -> float:
        """About how many vectors are fitted."""
        return min(self.k * self.sample, text / _TEXT * self.share)

    def remarks(self, text: int) -> tuple[str, ...]:
        most, fitting = self._most(text), self.judging(text)
        giving = 2 * text / _TEXT * self.k * _WIDTH / _SPEED
        return (
            f"for embeddings of {_WIDTH} numbers, and a document for each {_TEXT} bytes: the fit holds "
            f"{4e-6 * most * _WIDTH:,.0f} MB ({most:,.0f} vectors) for at most {fitting:,.0f} CPU-seconds; "
            f"{giving:,.0f} more give every document its cluster",
        )

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        return {"marked": {"cluster": made.num_rows - made["cluster"].null_count}}
