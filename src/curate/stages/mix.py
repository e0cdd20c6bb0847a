"""How often each document is drawn, so that sources meet their shares of a token budget exactly.

A source's quota is met by whole repeats of all its documents and, for the remainder, the documents that come first in
keyed order until their tokens first reach it: exact to less than one document per source, nested in the budget, and
independent of how documents are cut into shards. A plan that would repeat a source more often than allowed is refused
with the numbers and the nearest plan that is feasible.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa

from curate.draw import READS, draws, keyed_by, threshold
from curate.errors import RecipeError, nearest
from curate.stage import Evidence, Map, Stage, Verdict

_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_HOLDOUT = 0x5EED  # the held-out draw must not be the draw that orders the training documents


@dataclass(frozen=True)
class Mix(Stage):
    """Adds `copies` (int32, how often the document is drawn) and `validation` (held out, then drawn once).

    `weights`: source to relative share of tokens. Or `temperature` T: shares in proportion to tokens^(1/T); 1 is
    natural, larger flattens. `tokens`: the budget, like `20B`; without it the largest that repeats no source.
    `max_epochs`: most repeats of any source; 4 is about where repeated data stops being as good as new (Muennighoff
    et al. 2023). `validation`: share of documents held out, drawn by the hash of `cluster`, a column that is equal for
    documents that must not be parted; where it is null a document stands alone. `seed`: another draw of what is held
    out and of which documents fill a source's remainder.
    """

    kind: ClassVar[str] = "mix"
    weights: dict[str, float] | None = None
    temperature: float | None = None
    tokens: int | str | None = None
    max_epochs: float = 4.0
    validation: float = 0.0
    cluster: str = "id"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.weights is not None and self.temperature is not None:
            raise RecipeError("give `weights` or `temperature`, not both")
        for source, weight in (self.weights or {}).items():
            if not (weight > 0 and math.isfinite(weight)):
                raise RecipeError(
                    f"the weight of '{source}' is {weight}; weights are above 0 (leave a source out to drop it)"
                )
        if self.weights is not None and not self.weights:
            raise RecipeError("`weights` names no source")
        for name in ("temperature", "max_epochs"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise RecipeError(f"`{name}` is {value}; it is above 0 and finite")
        if not 0 <= self.validation < 1:
            raise RecipeError(f"`validation` is {self.validation}; it is a share, 0 or more and below 1")
        if not 0 <= self.seed < 2**63:
            raise RecipeError(f"`seed` is {self.seed}; it is 0 or more and below 2^63")
        token_count(self.tokens)

    def sampled(self, share: float) -> "Mix":
        """A budget in proportion. Caps are for the whole corpus: a sample may miss them by chance, and has none."""
        budget = token_count(self.tokens)
        return replace(self, tokens=max(1, round(budget * share)) if budget else None, max_epochs=1e6)

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*READS, "source", "tokens", self.cluster)))

    @property
    def adds(self) -> tuple[str, ...]:
        return ("copies", "validation")

    @property
    def applies_to(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*READS, "source", self.cluster)))

    def scan(self, shard: pa.Table) -> pa.Table:
        train = pa.array(~self.held_out(shard))
        table = pa.table(
            {
                "key": draws(shard, self.seed),
                "source": shard["source"].cast(pa.string()),
                "tokens": shard["tokens"],
                "row": np.arange(shard.num_rows, dtype=np.uint32),
            }
        )
        return table.filter(train)

    def judge(self, evidence: Evidence, map: Map) -> pa.Table:
        parts = range(evidence.parts)
        sums = list(map(partial(_totals, evidence=evidence), parts))
        have: dict[str, list[int]] = {}
        for total in sums:
            for source, (tokens, documents) in total.items():
                entry = have.setdefault(source, [0, 0])
                entry[0] += tokens
                entry[1] += documents
        quotas = self.quotas({source: tokens for source, (tokens, _) in sorted(have.items())})
        rows: list[dict[str, Any]] = []
        wanted: dict[int, dict[str, int]] = {}
        for source, quota in quotas.items():
            tokens, documents = have[source]
            repeats, rest = divmod(quota, tokens)
            rows.append(
                {
                    "source": source,
                    "quota": quota,
                    "tokens": tokens,
                    "documents": documents,
                    "repeats": repeats,
                }
            )
            if rest:
                wanted.setdefault(_part_of(sums, source, rest), {})[source] = rest - _before(sums, source, rest)
        found = map(
            partial(_cuts, evidence=evidence),
            [(part, tuple(sorted(want.items()))) for part, want in sorted(wanted.items())],
        )
        cuts = {source: cut for result in found for source, cut in result.items()}
        for row in rows:
            row["cut"] = cuts.get(str(row["source"]))
        schema = pa.schema(
            [("source", pa.string()), ("quota", pa.int64()), ("tokens", pa.int64()), ("documents", pa.int64()),
             ("repeats", pa.int64()), ("cut", pa.uint64())]
        )  # fmt: skip
        return pa.Table.from_pylist(rows, schema)

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        assert verdict.whole is not None
        plan = {row["source"]: row for row in verdict.whole.to_pylist()}
        draw, validation = draws(shard, self.seed), self.held_out(shard)
        sources = shard["source"].cast(pa.string()).to_numpy(zero_copy_only=False)
        copies = np.zeros(shard.num_rows, np.int32)
        for source, row in plan.items():
            mine = (sources == source) & ~validation
            copies[mine] = row["repeats"]
            if row["cut"] is not None:
                copies[mine & (draw <= np.uint64(row["cut"]))] += 1
        copies[validation] = 1
        return pa.table({"copies": copies, "validation": validation})

    def held_out(self, shard: pa.Table) -> np.ndarray:
        """Which rows are for validation: bool[n], equal for equal values of the cluster column."""
        if not self.validation:
            return np.zeros(shard.num_rows, bool)
        keys = keyed_by(shard.select([self.cluster]), self.seed ^ _HOLDOUT)
        if shard[self.cluster].null_count:  # documents of no cluster are not one cluster: each stands alone
            alone = shard[self.cluster].is_null().to_numpy()
            keys[alone] = keyed_by(shard.select(["id"]), self.seed ^ _HOLDOUT)[alone]
        return keys < threshold(self.validation)

    def quotas(self, tokens: dict[str, int]) -> dict[str, int]:
        """Tokens to draw from each source, given the tokens it has. Sums to the budget to the token.

        Raises RecipeError when a named source has no documents, or would be repeated more than `max_epochs` times.
        """
        tokens = {source: count for source, count in tokens.items() if count}
        if not tokens:
            raise RecipeError("mix: no documents are left to draw from; look at the rules before it")
        weights = {s: Fraction(w) for s, w in self.weights.items()} if self.weights else self._natural(tokens)
        for source in weights:
            if source not in tokens:
                hint = nearest(source, list(tokens)) or "; sources are " + ", ".join(tokens)
                raise RecipeError(f"mix: no documents of source '{source}'{hint}")
        total = sum(weights.values())
        shares = {source: weight / total for source, weight in sorted(weights.items()) if weight}
        most = {source: int(Fraction(self.max_epochs) * tokens[source]) for source in shares}
        budget = token_count(self.tokens)
        if budget is None:
            budget = min(int(min(tokens[source], most[source]) / share) for source, share in shares.items())
        if not budget:
            raise RecipeError(f"mix: `max_epochs` {self.max_epochs:g} leaves not one token to draw")
        quotas = _round(shares, budget)
        over = [source for source in quotas if quotas[source] > most[source]]
        if over:
            worst = max(over, key=lambda source: quotas[source] / tokens[source])
            feasible = min(int(most[source] / share) for source, share in shares.items())
            raise RecipeError(
                f"mix: {budget:,} tokens at share {float(shares[worst]):.4g} of '{worst}' are {quotas[worst]:,} "
                f"tokens, {quotas[worst] / tokens[worst]:.2f} epochs of the {tokens[worst]:,} it has; `max_epochs` "
                f"allows {self.max_epochs:g}. With these shares at most {feasible:,} tokens are feasible"
            )
        return quotas

    def _natural(self, tokens: dict[str, int]) -> dict[str, Fraction]:
        """Weights by the number of tokens, flattened by the temperature, up to a factor."""
        if self.temperature is None or self.temperature == 1:
            return {source: Fraction(count) for source, count in tokens.items()}
        top = math.log(max(tokens.values()))
        return {s: Fraction(math.exp((math.log(n) - top) / self.temperature)) for s, n in tokens.items()}


def token_count(value: int | str | None) -> int | None:
    """`20B` and the like as a number of tokens."""
    if value is None:
        return None
    text = str(value).strip().upper()
    factor = _UNITS.get(text[-1:], 1)
    try:
        count = float(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        count = math.nan
    if not (count >= 1 and math.isfinite(count)):
        raise RecipeError(f"`tokens` is {value!r}; a budget is a number of tokens such as 500000, 2.5M or 20B")
    return round(count)


def _round(shares: dict[str, Fraction], budget: int) -> dict[str, int]:
    """Whole numbers in proportion to shares that sum to the budget: largest remainders, ties by name.

    A number grows with the budget, but for one token that it may lose when its share of the growth is below two.
    """
    exact = {source: share * budget for source, share in shares.items()}
    whole = {source: int(value) for source, value in exact.items()}
    order = sorted(shares, key=lambda source: (whole[source] - exact[source], source))
    for source in order[: budget - sum(whole.values())]:
        whole[source] += 1
    return {source: count for source, count in whole.items() if count}


def _totals(part: int, evidence: Evidence) -> dict[str, tuple[int, int]]:
    seen = evidence.read(part)
    if seen is None:
        return {}
    frame = pl.from_arrow(seen.select(["source", "tokens"]))
    assert isinstance(frame, pl.DataFrame)
    grouped = frame.group_by("source").agg(pl.col("tokens").sum(), documents=pl.len()).sort("source")
    return {source: (int(tokens), int(documents)) for source, tokens, documents in grouped.iter_rows()}


def _part_of(sums: list[dict[str, tuple[int, int]]], source: str, rest: int) -> int:
    """The part in which a source's tokens, counted in keyed order, first reach `rest`: parts are in keyed order."""
    return next(part for part, before in _running(sums, source) if before + sums[part][source][0] >= rest)


def _before(sums: list[dict[str, tuple[int, int]]], source: str, rest: int) -> int:
    part = _part_of(sums, source, rest)
    return next(before for index, before in _running(sums, source) if index == part)


def _running(sums: list[dict[str, tuple[int, int]]], source: str) -> Iterable[tuple[int, int]]:
    before = 0
    for part, total in enumerate(sums):
        if source in total:
            yield part, before
            before += total[source][0]


def _cuts(job: tuple[int, tuple[tuple[str, int], ...]], evidence: Evidence) -> dict[str, int]:
    """The largest draw that still belongs to each source's remainder."""
    part, wanted = job
    seen = evidence.read(part)
    assert seen is not None
    frame = pl.from_arrow(seen.select(["key", "source", "tokens"]))
    assert isinstance(frame, pl.DataFrame)
    cuts = {}
    for source, need in wanted:
        mine = frame.filter(pl.col("source") == source).sort("key")
        index = int(np.searchsorted(np.cumsum(mine["tokens"].to_numpy()), need, side="left"))
        cuts[source] = int(mine["key"][index])
    return cuts
