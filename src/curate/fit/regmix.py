"""RegMix: small runs on many mixtures, a regression from shares to loss, and the mixture it predicts to be best.

After Liu et al. (arXiv 2407.01492; repository sail-sg/regmix): 1000 boosted trees, 100,000 mixtures drawn around the
natural shares, the mean of the 128 with the lowest predictions. Ours: runs are held out to see whether the model ranks
them at all, and where it does no better than chance there is no answer; bounds from what each source has; a second
round around the first answer. The catch: predictions are flat near the best, so the shares depend on the number of
draws more than the loss does (read `spread`), and trees cannot see beyond the mixtures that were trained (`beyond`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import RecipeError
from curate.fit.designs import Space, clipped, simplex
from curate.fit.regressors import FITS, RATE, TREES, Model, by_chance, folds, leaf, spearman, unseen
from curate.fit.runs import Mixtures, Runs, Target, target

Float64s = NDArray[np.float64]

DRAWS = 100_000
TOP = 128
REFINED = 50.0
"""Strength of the Dirichlet draws of a second round, around the answer of the first."""
SURE = 0.99
"""A rank correlation counts as a signal above this share of those by chance."""
FEWEST = 10
_CHUNK = 100_000
_SMALL = 1e-4  # of a source that no good mixture had a concentration above 0 is left; smaller shares are dropped


@dataclass(frozen=True)
class Asked:
    """What to fit. `target`: a loss, several with commas between, or `mean`. `model`: `trees`, `ridge`, or `auto`, the
    one that ranks unseen runs better. `draws` and `top`: how many mixtures are tried and averaged. `rounds`: 2 draws as
    many again around the first answer. `seed`: folds and draws."""

    target: str
    model: str = "auto"
    draws: int = DRAWS
    top: int = TOP
    rounds: int = 1
    seed: int = 42

    def __post_init__(self) -> None:
        if self.model not in ("auto", "trees", "ridge"):
            raise RecipeError(f"`model` is '{self.model}'; it is auto, trees or ridge")
        if self.rounds not in (1, 2):
            raise RecipeError(f"`rounds` is {self.rounds}; it is 1 or 2")
        if not 1 <= self.top <= self.draws:
            raise RecipeError(f"the best {self.top:,} of {self.draws:,} draws are asked for; 1 to all are there")


@dataclass(frozen=True)
class Best:
    """The rows with the lowest predictions, in order: float64[top, k], float64[top]."""

    rows: Float64s
    predicted: Float64s

    @property
    def weights(self) -> Float64s:
        """Their mean, float64[k]."""
        made: Float64s = self.rows.mean(axis=0)
        return made


@dataclass(frozen=True)
class Fitted:
    """Shares by source, empty without a signal; the report; and the model, with the target, for predictions."""

    weights: dict[str, float]
    report: dict[str, Any]
    model: str
    target: Target


def fit(runs: Runs, asked: Asked, *, where: Space | None = None) -> Fitted:
    """The best mixture by a table of runs. `where`: natural shares and bounds; without it draws lie around the mean of
    the mixtures that were trained, and nothing bounds them.

    RecipeError for fewer than ten runs, a target that is not there, and a `where` of other sources than the table's.
    """
    goal = target(runs, asked.target)
    names, shares = runs.mixtures.names, runs.mixtures.shares[goal.rows]
    where = where or around(runs.mixtures)
    if where.names != names:
        raise RecipeError(_other("what is available", where.names, names))
    if len(shares) < FEWEST:
        raise RecipeError(f"{len(shares)} runs with a loss are too few to hold any out; {FEWEST} are the least")
    chosen, measured = _measured(shares, goal.values, asked)
    report = {
        "runs": len(shares),
        "sources": list(names),
        "target": list(goal.names),
        "unit": "loss" if len(goal.names) == 1 else "mean of z-scores",
        "model": chosen,
        "seed": asked.seed,
        "out_of_sample": measured,
        "signal": measured["signal"],
        "warnings": [*runs.warnings, *goal.warnings],
    }
    if chosen == "trees":
        report["trees"] = {"trees": TREES, "rate": RATE, "leaf": leaf(len(shares))}
    if not measured["signal"]:
        return Fitted({}, report, chosen, goal)
    model = FITS[chosen](shares, goal.values)
    best = search(model, simulated(where.prior, where, draws=asked.draws, seed=asked.seed), top=asked.top)
    if asked.rounds == 2:
        again = simulated(np.maximum(REFINED * best.weights, _SMALL), where, draws=asked.draws, seed=asked.seed + 1)
        best = search(model, again, top=asked.top, start=best)
    weights = settled(best.weights, where.bounds)
    beyond = [name for name, share, most in zip(names, weights, shares.max(axis=0), strict=True) if share > most]
    if beyond:
        report["warnings"] = [*report["warnings"], f"more than in any run: {', '.join(beyond)}"]
    report |= {
        "prior": dict(zip(names, where.prior.tolist(), strict=True)),
        "bounds": where.bound(),
        "search": {"draws": asked.draws, "top": asked.top, "rounds": asked.rounds},
        "predicted": _predicted(model, best, weights, where, shares),
        "spread": dict(zip(names, best.rows.std(axis=0).tolist(), strict=True)),
        "beyond": beyond,
        "binding": [
            n for n, share, most in zip(names, weights, where.bounds, strict=True) if share > 0.99 * most and most < 1
        ],
    }
    kept = {name: share for name, share in zip(names, weights.tolist(), strict=True) if share}
    return Fitted(kept, report, chosen, goal)


def settled(shares: Float64s, bounds: Float64s) -> Float64s:
    """Shares float64[k] as a mixture within `bounds` float64[k]: those below 1e-4 are 0, and the others sum to 1.

    A mean of draws gives every source a little. Where the bounds of the others leave no room, small shares stay.
    """
    kept = np.where(shares / shares.sum() < _SMALL, 0.0, shares)
    if bounds[kept > 0].sum() < 1:
        kept = shares
    open_ = np.where(kept > 0, bounds, 0.0)
    made: Float64s = clipped(kept[None] / kept.sum(), open_)[0]
    return made


def search(model: Model, chunks: Iterable[Float64s], *, top: int = TOP, start: Best | None = None) -> Best:
    """The `top` rows of lowest prediction among the rows float64[n, k] of all chunks and of `start`; ties to the first.

    Only `top` rows and one chunk are in memory.
    """
    best = start
    for rows in chunks:
        predicted = model.predict(rows)
        order = np.argsort(predicted, kind="stable")[:top]
        mine = Best(rows[order], predicted[order])
        if best is not None:
            together = np.concatenate([best.predicted, mine.predicted])
            order = np.argsort(together, kind="stable")[:top]
            mine = Best(np.concatenate([best.rows, mine.rows])[order], together[order])
        best = mine
    if best is None:
        raise RecipeError("there is no mixture to search among")
    return best


def simulated(concentration: Float64s, where: Space, *, draws: int, seed: int) -> Iterator[Float64s]:
    """Dirichlet draws around `concentration` float64[k], brought under the bounds, in chunks."""
    random = np.random.default_rng(seed)
    for start in range(0, draws, _CHUNK):
        size = min(_CHUNK, draws - start)
        yield clipped(simplex(random, np.broadcast_to(concentration, (size, len(concentration)))), where.bounds)


def predict(runs: Runs, fitted: Fitted, mixtures: Mixtures) -> dict[str, Float64s]:
    """Predicted losses float64[n] of other mixtures: of each loss of the target, by the kind of model that was chosen.

    RecipeError where the table names other sources.
    """
    if mixtures.names != runs.mixtures.names:
        raise RecipeError(_other("the table to predict for", mixtures.names, runs.mixtures.names))
    rows = fitted.target.rows
    return {
        name: FITS[fitted.model](runs.mixtures.shares[rows], runs.losses[name][rows]).predict(mixtures.shares)
        for name in fitted.target.names
    }


def around(mixtures: Mixtures) -> Space:
    """The mean of the mixtures that were trained in the place of natural shares, without bounds."""
    prior = mixtures.shares.mean(axis=0)
    if not prior.all():
        lost = mixtures.names[int(np.argmin(prior))]
        raise RecipeError(f"no run was trained on '{lost}': nothing is known of it; leave its column out")
    return Space(mixtures.names, prior / prior.sum(), np.ones(len(prior)))


def _other(who: str, found: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    more, less = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
    said = [f"it has {', '.join(more[:5])}, which they lack"] if more else []
    said += [f"it lacks {', '.join(less[:5])}"] if less else []
    return f"{who} names other sources than the runs: {'; '.join(said)}"


def _measured(shares: Float64s, losses: Float64s, asked: Asked) -> tuple[str, dict[str, Any]]:
    """The model to use, and how all models rank runs that they did not see. `signal` is false where the best of those
    that were to choose from stays within what shuffled losses give."""
    parts = folds(len(losses), seed=asked.seed)
    kinds = ["trees", "ridge"] if asked.model == "auto" else [asked.model]
    made = {kind: unseen(FITS[kind], shares, losses, parts) for kind in dict.fromkeys((*kinds, "ridge", "linear"))}
    found = {kind: spearman(one, losses) for kind, one in made.items()}
    chosen = max(kinds, key=lambda kind: found[kind] if np.isfinite(found[kind]) else -2.0)
    chance = by_chance([made[kind] for kind in kinds], losses, seed=asked.seed)
    least = float(chance[int(np.ceil(SURE * len(chance))) - 1])
    reached = found[chosen]
    signal = bool(np.isfinite(reached) and reached > least)
    told = {
        "spearman": {kind: value if np.isfinite(value) else None for kind, value in found.items()},
        "mean_squared_error": {
            kind: float(((one - losses) ** 2).mean()) if np.isfinite(one).all() else None for kind, one in made.items()
        },
        "folds": len(parts),
        "by_chance": least,
        "as_good_by_chance": float((chance >= reached).mean()) if np.isfinite(reached) else 1.0,
        "signal": signal,
    }
    if not np.isfinite(reached):
        told["reason"] = f"no signal: the predictions of {chosen} are constant"
    elif not signal:
        told["reason"] = (
            f"no signal: on runs it did not see, {chosen} reaches a rank correlation of {reached:.3f}, and shuffled "
            f"losses give up to {least:.3f} (99 of 100)"
        )
    return chosen, told


def _predicted(model: Model, best: Best, weights: Float64s, where: Space, shares: Float64s) -> dict[str, float]:
    at = model.predict(np.stack([weights, where.prior]))
    return {
        "weights": float(at[0]),
        "natural": float(at[1]),
        "best_draw": float(best.predicted[0]),
        "mean_of_top": float(best.predicted.mean()),
        "best_run": float(model.predict(shares).min()),
        "distinct_in_top": len(np.unique(best.predicted)),
    }
