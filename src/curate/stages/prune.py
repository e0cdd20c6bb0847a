"""Pruning by clusters: the corpus cut to a share that covers all its subjects, from where each document lies.

Three ways to say how much each cluster keeps. `prototypes`: all clusters a floor, and the rest goes to whoever comes
first anywhere (self-supervised prototypes, Sorscher et al. 2022, arXiv 2206.14486). `density`: more for clusters that
are varied and far from others (density-based pruning, Abbas et al. 2024, arXiv 2401.04578). `budget`: equal shares, or
in proportion to the mean of a column (the form that PASER and Adapt-infinity, arXiv 2410.10636, have in common).
Which documents of a cluster stay is the `mode`. The sum is exact: in documents to the last one, in tokens to less than
one document.

The catch: the hardest documents of a corpus with duplicates and noise are its noise. Deduplicate, rate and cluster
again before. Costs some 60 bytes of disk a document while the run lasts, and for `density` the sum of each cluster's
vectors in each shard.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from curate import expressions, kmeans, pruning
from curate.arrow import ascending, numbers, one, vectors
from curate.draw import again, draws
from curate.errors import RecipeError
from curate.pruning import Cut, Prefix, Statistics
from curate.quotas import clipped_shift, largest_remainder, proportional, waterfill
from curate.stage import Evidence, Map, Stage, Verdict

_CLUSTER = 0x636C7573746572  # "cluster": the seed by which clusters become keys
_TEXT = 3000  # bytes of a document, which estimates take for granted
_DENSITY = {"neighbours": 20, "temperature": 0.1, "tau_mode": "absolute"}


@dataclass(frozen=True)
class Prune(Stage):
    """Adds `pruned` (bool), and `prune_rank` (float32): where the document stands in its cluster in the order of the
    mode, 0 for what stays longest to 1, the middle of its place; null where it does not compete. A document without a
    cluster or a distance (for density without an embedding), or for which `among` does not hold, does not compete and
    is never pruned.

    `keep`: the share of the competing documents that stays, rounded down, or of their tokens (`unit: tokens`, column
    `tokens`): then the documents in order until their tokens first reach the budget.
    `mode`: `hard` keeps those far from the centroid of their cluster (for when there is more text than is needed),
    `easy` the nearest (for when text is scarce), `random` those with the smallest draw of `seed`. Ties go by `id`, then
    `origin`.
    `balance`: how much of an equal share each cluster keeps at the least, if it has so much: 0.5 for prototypes; for
    density 0, which stands for one document (and a cluster of one may go).
    `neighbours`, `temperature`, `tau_mode`: of density. Quotas are in proportion to exp(complexity / temperature),
    where complexity is the mean distance inside the cluster times that to its nearest other centroids; `std` divides
    it by its standard deviation first, since it is smaller for text encoders than for those of images.
    `score`: of budget; quotas are in proportion to a cluster's mean of this column, and equal without it.
    `cluster`, `embedding`: columns to use, the former with the one called `{cluster}_distance`.
    """

    kind: ClassVar[str] = "prune"
    keep: float
    by: Literal["prototypes", "density", "budget"]
    mode: Literal["hard", "easy", "random"] = "hard"
    unit: Literal["documents", "tokens"] = "documents"
    balance: float | None = None
    neighbours: int = 20
    temperature: float = 0.1
    tau_mode: Literal["absolute", "std"] = "absolute"
    score: str | None = None
    among: str | None = None
    seed: int = 0
    embedding: str = "embedding"
    cluster: str = "cluster"

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise RecipeError(f"`keep` is {self.keep}; it is a share, above 0 and at most 1")
        if self.balance is not None and not 0 <= self.balance <= 1:
            raise RecipeError(f"`balance` is {self.balance}; it is a share of the equal share, from 0 to 1")
        if self.balance is not None and self.by == "budget":
            raise RecipeError("`balance` belongs to `by: prototypes` and `by: density`; budgets have no floor")
        if self.score is not None and self.by != "budget":
            raise RecipeError(f"`score` belongs to `by: budget`, and this is `by: {self.by}`")
        for name, usual in _DENSITY.items():
            if self.by != "density" and getattr(self, name) != usual:
                raise RecipeError(f"`{name}` belongs to `by: density`, and this is `by: {self.by}`")
        if self.neighbours < 1:
            raise RecipeError(f"`neighbours` is {self.neighbours}; it is 1 or more")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise RecipeError(f"`temperature` is {self.temperature}; it is above 0 and finite")
        if not 0 <= self.seed < 2**63:
            raise RecipeError(f"`seed` is {self.seed}; it is 0 or more and below 2^63")
        if self.among is not None:
            expressions.parse(self.among)

    def sampled(self, share: float) -> "Prune":
        """Without the one document of each cluster: a sample may have more clusters than may be kept."""
        return replace(self, balance=1e-9) if self.by == "density" and not self.balance else self

    @property
    def reads(self) -> tuple[str, ...]:
        extra = (
            *(("tokens",) if self.unit == "tokens" else ()),
            *((self.embedding,) if self.by == "density" else ()),
            *((self.score,) if self.score else ()),
            *(expressions.columns(self.among) if self.among else ()),
        )
        return tuple(dict.fromkeys((self.cluster, f"{self.cluster}_distance", "id", "origin", *extra)))

    @property
    def adds(self) -> tuple[str, ...]:
        return ("pruned", "prune_rank")

    @property
    def applies_to(self) -> tuple[str, ...]:
        return ()

    @property
    def heft(self) -> int:
        return 16 if self.by == "density" else 2

    @property
    def floor(self) -> float:
        """Share of the equal share that a cluster keeps at the least."""
        return {"prototypes": 0.5}.get(self.by, 0.0) if self.balance is None else self.balance

    def scan(self, shard: pa.Table) -> pa.Table:
        kind, distances = shard[self.cluster].type, f"{self.cluster}_distance"
        if kind != pa.int32():
            raise RecipeError(f"prune: `{self.cluster}` is a column of {kind}; int32 is wanted")
        distance = numbers(shard[distances], f"prune: `{distances}`").astype(np.float32)
        compete = one(shard[self.cluster]).is_valid().to_numpy(zero_copy_only=False) & ~np.isnan(distance)
        if self.among:
            compete &= expressions.evaluate(self.among, shard)[0]
        if self.by == "density":
            vector, valid = vectors(shard[self.embedding])
            compete &= valid
            kmeans.demand_units(vector, np.flatnonzero(compete), shard, self.embedding)
        row = np.flatnonzero(compete)
        seen, distance = shard.take(pa.array(row)), distance[row]
        cluster = one(seen[self.cluster]).to_numpy()
        order = draws(seen, self.seed) if self.mode == "random" else _order(distance, self.mode)
        said = pruning.record(cluster, order, seen)
        if self.unit == "tokens":
            said["weight"] = _whole(seen["tokens"])
        if self.score:
            said["score"] = _finite(numbers(seen[self.score], f"prune: '{self.score}'"), self.score)
        if self.by == "density":
            said |= {"distance": distance, "sum": pruning.vector_sums(cluster, vector[row])}
        key = again(cluster.astype(np.uint64), _CLUSTER)
        return pa.table({"key": key, "row": row.astype(np.uint32), **said})

    def judge(self, evidence: Evidence, map: Map) -> pa.Table:
        """`cluster`, its `documents`, its `size` and its `quota` (in documents or tokens; for prototypes, the floor),
        and `value`: its complexity or mean score, null where quotas do not depend on any."""
        parts = range(evidence.parts)

        def over(work: Callable[..., Any], **given: Any) -> list[Any]:
            """What a function of a part gives for all parts that have rows."""
            results = map(partial(work, evidence=evidence, **given), parts)
            return [result for result in results if result is not None]

        all_ = pruning.joined(over(pruning.statistics))
        if all_ is None:
            nothing = np.empty(0, np.int64)
            return _plan(nothing.astype(np.int32), nothing, nothing, nothing, None)
        total = int(all_.weight.sum())
        budget = pruning.share(self.keep, total)
        quotas, value = self.quotas(all_, budget)
        if self.unit == "documents":
            fits = Prefix(all_.clusters, quotas, quotas, np.zeros(len(quotas), np.int64))
        else:
            found = over(pruning.prefix, clusters=all_.clusters, quotas=quotas)
            order = np.argsort(np.concatenate([each.clusters for each in found]))
            fits = Prefix(*(np.concatenate(column)[order] for column in zip(*found, strict=True)))
        left = budget - int(fits.weight.sum())
        cut = Cut(fits.clusters, fits.kept)
        if self.by != "prototypes":
            cut = _one_more(fits, quotas, left)
        elif left > 0:
            cut = cut._replace(last=pruning.last(cut, left, over))
        for _ in map(partial(pruning.write, cut=cut, evidence=evidence), parts):
            pass
        return _plan(all_.clusters, all_.rows, all_.weight, quotas, value)

    def quotas(self, clusters: Statistics, budget: int) -> tuple[np.ndarray, np.ndarray | None]:
        """What each cluster keeps, int64[k]: it sums to the budget, but for prototypes, where it is the floor. And
        the complexity or the mean score that it goes by, float64[k], or None."""
        k, sizes = len(clusters.clusters), clusters.weight
        floor = int(Fraction(str(self.floor)) * budget / k)
        if self.by == "prototypes":
            return np.minimum(sizes, floor), None
        if self.by == "budget":
            if self.score is None:
                return waterfill(sizes, budget), None
            means = _means(clusters, self.score)
            return proportional(means, sizes, budget), means
        value = pruning.complexity(clusters.distance / clusters.rows, clusters.vectors, self.neighbours)
        if k == 1:
            return np.array([budget]), value
        spread = float(value.std()) if self.tau_mode == "std" else 1.0
        power = np.exp((value - value.max()) / (spread or 1.0) / self.temperature)
        least = clusters.first if self.floor == 0 else np.minimum(floor, sizes - clusters.last)
        low = np.where(clusters.rows > 1, least, 0)
        if int(low.sum()) > budget:
            share = math.ceil(10_000 * int(low.sum()) / int(sizes.sum())) / 10_000
            raise RecipeError(
                f"prune: keep {self.keep:g} of {int(sizes.sum()):,} {self.unit} is {budget:,}, and one document of "
                f"each of the {k:,} clusters is {int(low.sum()):,}: keep {share:g} or more, or take fewer clusters"
            )
        target = power / power.sum() * budget
        return largest_remainder(clipped_shift(target, low, sizes, budget), sizes, budget), value

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        pruned, rank = np.zeros(shard.num_rows, bool), np.zeros(shard.num_rows, np.float32)
        alone = np.ones(shard.num_rows, bool)
        if verdict.lines is not None:
            row = verdict.lines["row"].to_numpy()
            pruned[row] = verdict.lines["pruned"].to_numpy()
            rank[row] = verdict.lines["prune_rank"].to_numpy()
            alone[row] = False
        return pa.table({"pruned": pruned, "prune_rank": pa.array(rank, mask=alone)})

    def remarks(self, text: int) -> tuple[str, ...]:
        documents = text / _TEXT
        kept = f"{self.keep * documents:,.0f} of them stay" if self.unit == "documents" and not self.among else ""
        sums = "; the sum of each cluster's vectors in each shard is 3 KB more" if self.by == "density" else ""
        return (
            f"for a document for each {_TEXT} bytes: {kept or f'{self.keep:g} of what competes stays'}, and while the "
            f"run lasts {60e-6 * documents:,.1f} MB of disk say where they lie{sums}",
        )

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        return {"marked": {"pruned": int(np.count_nonzero(made["pruned"].to_numpy()))}}


def _order(distance: np.ndarray, mode: str) -> np.ndarray:
    """uint64[n] whose ascending order is that of the mode: float32 bits, made to ascend, in the upper half."""
    bits = ascending(distance)
    return (~bits if mode == "hard" else bits).astype(np.uint64) << np.uint64(32)


def _whole(column: pa.ChunkedArray) -> np.ndarray:
    """Tokens of each row, int64[n]; null counts as none."""
    if not pa.types.is_integer(column.type):
        raise RecipeError(f"prune: `tokens` is a column of {column.type}; numbers of tokens are wanted")
    tokens: np.ndarray = one(column.cast(pa.int64()).fill_null(0)).to_numpy()
    return tokens


def _finite(values: np.ndarray, name: str) -> np.ndarray:
    if np.isinf(values).any() or (values < 0).any():
        raise RecipeError(f"prune: '{name}' holds {values[np.isinf(values) | (values < 0)][0]}; budgets in proportion "
                          "to its means need numbers of 0 or more, and finite")  # fmt: skip
    return values


def _means(clusters: Statistics, name: str) -> np.ndarray:
    """The mean score of each cluster; that of the others where no row has one."""
    has = clusters.scored > 0
    if not has.any():
        raise RecipeError(f"prune: '{name}' is null in all documents that compete; budgets cannot be in proportion")
    means = clusters.score / np.maximum(clusters.scored, 1)
    filled: np.ndarray = np.where(has, means, means[has].mean())
    return filled


def _one_more(fits: Prefix, quotas: np.ndarray, left: int) -> Cut:
    """One document more for the clusters that fall short of their quotas by the most, until the sum is reached."""
    gap = quotas - fits.weight
    order = np.lexsort((fits.clusters, -gap))
    order = order[(fits.next > 0)[order]]
    more = int(np.searchsorted(np.cumsum(fits.next[order]), left)) + 1 if left > 0 else 0
    kept = fits.kept.copy()
    kept[order[:more]] += 1
    return Cut(fits.clusters, kept)


def _plan(
    clusters: np.ndarray, rows: np.ndarray, sizes: np.ndarray, quotas: np.ndarray, value: np.ndarray | None
) -> pa.Table:
    values = pa.nulls(len(clusters), pa.float64()) if value is None else pa.array(value)
    return pa.table({"cluster": clusters, "documents": rows, "size": sizes, "quota": quotas, "value": values})
