"""Which mixtures to train small runs on: Dirichlet draws around the tempered natural shares, within bounds.

The sampler of RegMix (arXiv 2407.01492; constants from its repository sail-sg/regmix, `synthesize_mixture.py`), with
two changes: the bound of a source follows from how often it may be repeated in the run that is planned, and mixtures
are whole multiples of the least rate that sum to 1 exactly. Sources are taken in the order of their names, so a design
depends on what there is and not on how a table lists it. The catch: where bounds leave little room nearly all draws
break one; what is missing then is made by clipping draws to the bounds, and counted.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import RecipeError, nearest
from curate.laws import VAIN

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]

TEMPERING = 0.5
STRENGTHS = np.logspace(math.log10(0.1), math.log10(5.0), 15)
LEAST = 2e-4
"""The least rate: smaller shares are 0, and all shares are multiples of it."""
OVERSAMPLE = 100
_GRID = round(1 / LEAST)
_BATCH = 1 << 13


@dataclass(frozen=True)
class Space:
    """Sources in the order of their names, their natural shares float64[k] and the largest shares float64[k]."""

    names: tuple[str, ...]
    prior: Float64s
    bounds: Float64s

    def bound(self) -> dict[str, float]:
        """The largest share by source, where it is below 1."""
        return {name: float(most) for name, most in zip(self.names, self.bounds, strict=True) if most < 1}


@dataclass(frozen=True)
class Design:
    """Mixtures float64[runs, k] over `names`, and what is to be told of how they were drawn."""

    names: tuple[str, ...]
    mixtures: Float64s
    report: dict[str, Any]


def space(available: Mapping[str, int], *, tokens: int | None, max_epochs: float) -> Space:
    """Natural shares, and the bounds that a run of `tokens` sets: a source of u tokens gets at most max_epochs * u.

    Without `tokens` there are no bounds. RecipeError for fewer than two sources, sources without tokens, and bounds
    that no mixture can keep.
    """
    names = tuple(sorted(available))
    if len(names) < 2:
        raise RecipeError(f"a mixture needs two sources at least, found {', '.join(names) or 'none'}")
    if lost := [name for name in names if available[name] < 1]:
        raise RecipeError(f"'{lost[0]}' has {available[lost[0]]} tokens; leave a source without tokens out")
    held = np.array([available[name] for name in names], np.float64)
    bounds = np.ones(len(names))
    if tokens is not None:
        if tokens < 1 or not (max_epochs > 0 and math.isfinite(max_epochs)):
            raise RecipeError(f"{tokens} tokens at {max_epochs} epochs; both are above 0 and finite")
        bounds = np.minimum(1.0, max_epochs * held / tokens)
        if bounds.sum() < 1:
            most = int(max_epochs * held.sum())
            raise RecipeError(
                f"{tokens:,} tokens cannot be had from {int(held.sum()):,} at {max_epochs:g} epochs; {most:,} is the "
                f"most, and {_plain(tokens / float(held.sum()))} epochs are the least for {tokens:,}"
            )
    return Space(names, held / held.sum(), bounds)


def capped(where: Space, shares: Mapping[str, float]) -> Space:
    """The space with more bounds, largest shares by source. RecipeError for sources it does not have, and for bounds
    that no mixture can keep."""
    if lost := sorted(set(shares) - set(where.names)):
        raise RecipeError(f"there is no source '{lost[0]}' to bound{nearest(lost[0], where.names)}")
    more = np.array([shares.get(name, 1.0) for name in where.names])
    bounds = np.minimum(where.bounds, more)
    if bounds.sum() < 1:
        raise RecipeError(f"the largest shares of all sources sum to {bounds.sum():.4g}; they sum to 1 or more")
    return Space(where.names, where.prior, bounds)


def simplex(random: np.random.Generator, concentration: Float64s) -> Float64s:
    """One Dirichlet draw for each row of `concentration` float64[n, k], above 0.

    By logarithms of gammas, log G(a) = log G(a + 1) + log(U) / a: the gammas themselves are 0 for concentrations
    below 1e-3 or so, and a row of zeros would be NaN.
    """
    uniform = 1.0 - random.random(concentration.shape)
    logs = np.log(random.standard_gamma(concentration + 1.0)) + np.log(uniform) / concentration
    rows: Float64s = np.exp(logs - logs.max(axis=1, keepdims=True))
    rows /= rows.sum(axis=1, keepdims=True)
    return rows


def clipped(rows: Float64s, bounds: Float64s) -> Float64s:
    """Rows float64[n, k] of sum 1 brought under `bounds` float64[k], which sum to 1 or more: what is above goes to the
    sources with room in proportion to their shares, and by room where those have none. Rows within bounds stay."""
    rows = rows.copy()
    for _ in range(len(bounds) + 1):
        bad = np.flatnonzero((rows > bounds).any(axis=1))
        if not len(bad):
            break
        made = np.minimum(rows[bad], bounds)
        missing = 1.0 - made.sum(axis=1, keepdims=True)
        open_shares = np.where(made < bounds, made, 0.0)
        empty = open_shares.sum(axis=1) <= 0
        open_shares[empty] = (bounds - made)[empty]
        total = open_shares.sum(axis=1, keepdims=True)
        rows[bad] = made + missing * np.divide(open_shares, total, out=np.zeros_like(made), where=total > 0)
    return np.minimum(rows, bounds)


def design(where: Space, runs: int, *, seed: int) -> Design:
    """So many different mixtures, each a row of multiples of the least rate that sum to 1, none above its bound.

    RecipeError where bounds leave fewer mixtures than that.
    """
    if runs < 1:
        raise RecipeError(f"{runs} runs are asked for; 1 or more are wanted")
    most = np.floor(where.bounds * _GRID + 1e-9).astype(np.int64)
    if int(most.sum()) < _GRID:
        raise RecipeError(f"the bounds leave no mixture of multiples of {LEAST:g}; allow more epochs or fewer tokens")
    random = np.random.default_rng(seed)
    tempered = where.prior**TEMPERING
    tempered /= tempered.sum()
    accepted, spare, drawn = [np.empty((0, len(most)), np.int64)], [np.empty((0, len(most)), np.int64)], 0
    while drawn < runs * OVERSAMPLE:
        size = min(_BATCH, runs * OVERSAMPLE - drawn)
        rows = simplex(random, STRENGTHS[random.integers(len(STRENGTHS), size=size), None] * tempered)
        within = (rows <= where.bounds).all(axis=1)
        accepted.append(_on_grid(rows[within], most))
        if sum(len(one) for one in spare) < 4 * runs:
            spare.append(_on_grid(clipped(rows[~within], where.bounds), most))
        drawn += size
    kept = sum(len(one) for one in accepted)
    distinct = np.unique(np.concatenate(accepted), axis=0)
    chosen = distinct[random.permutation(len(distinct))[:runs]]
    missing = runs - len(chosen)
    if missing:
        more = np.unique(np.concatenate(spare), axis=0)
        fresh = ~(more[:, None] == distinct[None]).all(axis=2).any(axis=1)
        more = more[fresh][random.permutation(int(fresh.sum()))[:missing]]
        if len(more) < missing:
            raise RecipeError(
                f"the bounds leave {len(chosen) + len(more)} different mixtures where {runs} runs are asked for; "
                f"allow more epochs or fewer tokens"
            )
        chosen = np.concatenate([chosen, more])
    report = {
        "runs": runs,
        "seed": seed,
        "drawn": drawn,
        "accepted": kept,
        "distinct": len(distinct),
        "clipped": missing,
        "zeros": float((chosen == 0).mean()),
        "sources_per_mixture": float((chosen > 0).sum(axis=1).mean()),
        "bounds": where.bound(),
        "never": [name for name, units in zip(where.names, most, strict=True) if units == 0],
    }
    return Design(where.names, chosen / _GRID, report)


def table(made: Design) -> str:
    """The mixtures as CSV: `index` from 1, then a column for each source."""
    if "index" in made.names or any(set(name) & set(',"\r\n') for name in made.names):
        raise RecipeError(
            "a source called 'index', or with a comma or quote in its name, cannot be a column of the table"
        )
    lines = [",".join(("index", *made.names))]
    lines += [f"{i},{','.join(f'{share:.4f}' for share in row)}" for i, row in enumerate(made.mixtures.tolist(), 1)]
    return "\n".join(lines) + "\n"


def fragment(weights: Mapping[str, float], *, tokens: int, max_epochs: float | None = None) -> str:
    """A mixture of `tokens` as the `mix` step of a recipe; sources of share 0 are left out, as `mix` wants it."""
    import yaml

    made: dict[str, Any] = {"tokens": tokens}
    if max_epochs is not None:
        made |= {"max_epochs": int(max_epochs) if max_epochs == int(max_epochs) else max_epochs}
        made |= {"beyond_sixteen": True} if max_epochs > VAIN else {}
    made["weights"] = {name: share for name, share in weights.items() if share}
    text: str = yaml.safe_dump({"mix": made}, sort_keys=False, allow_unicode=True)
    return text


def most_epochs(weights: Mapping[str, float], available: Mapping[str, int], *, tokens: int) -> float:
    """How often a mixture of `tokens` sees the source that it repeats most. RecipeError for a source that has none."""
    total = math.fsum(weights.values())
    for name in weights:
        if available.get(name, 0) < 1:
            raise RecipeError(f"there are no tokens of '{name}'{nearest(name, list(available))}")
    return max(share / total * tokens / available[name] for name, share in weights.items())


def _plain(number: float) -> str:
    """Three digits at least, and never a power of ten."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _on_grid(rows: Float64s, most: Int64s) -> Int64s:
    """Rows as whole numbers of least rates, by largest remainders under `most`; those that do not fit are left out."""
    exact = np.where(rows < LEAST, 0.0, rows)
    exact *= _GRID / exact.sum(axis=1, keepdims=True)
    whole = np.minimum(np.floor(exact + 1e-9), most).astype(np.int64)
    missing = _GRID - whole.sum(axis=1, keepdims=True)
    remainder = np.where((whole < most) & (exact > 0), whole - exact, np.inf)
    order = np.argsort(remainder, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(rows.shape[1])[None], axis=1)
    whole += (rank < missing) & np.isfinite(remainder)
    fits: Int64s = whole[whole.sum(axis=1) == _GRID]
    return fits
