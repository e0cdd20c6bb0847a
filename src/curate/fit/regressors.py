"""From shares of sources to a loss: boosted trees, ridge and plain linear regression, and how well each ranks runs.

Rank correlation is taken on runs that a model did not see (folds), and what it would be by chance from the same
predictions held against shuffled losses. Folds push chance down, if anything (a fold that is low by chance leaves a
mean that is high): on noise, 1 fit of 100 or fewer went above the bound of 1 in 100, with 32 to 128 runs.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curate.errors import AssetError

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]

TREES = 1000
RATE = 0.01
"""Trees and learning rate of RegMix (sail-sg/regmix, `regression.ipynb`), without its early stop on the test set."""
LEAF = 20
FEW = 200
"""Below so many runs a leaf may hold fewer than LEAF: with 32 runs and leaves of 20 no tree has a split."""
FOLDS = 10
SHUFFLES = 999
_PENALTIES = np.logspace(-6, 2, 33)


class Model(Protocol):
    """A fitted regression."""

    def predict(self, rows: Float64s) -> Float64s:
        """Losses float64[n] of shares float64[n, k]."""


Fit = Callable[[Float64s, Float64s], Model]


class Plane:
    """A linear model."""

    def __init__(self, slope: Float64s, middle: Float64s, level: float):
        self.slope, self.middle, self.level = slope, middle, level

    def predict(self, rows: Float64s) -> Float64s:
        """Losses float64[n] of shares float64[n, k]."""
        made: Float64s = (rows - self.middle) @ self.slope + self.level
        return made


class Trees:
    """Boosted trees of LightGBM."""

    def __init__(self, shares: Float64s, losses: Float64s, *, trees: int = TREES):
        import lightgbm

        settings = {
            "objective": "regression",
            "learning_rate": RATE,
            "min_data_in_leaf": leaf(len(losses)),
            "seed": 42,
            "deterministic": True,
            "force_row_wise": True,
            # Threads spin on tables of a few hundred rows: two took thirty times as long as one.
            "num_threads": 1,
            "verbosity": -1,
        }
        self.booster = lightgbm.train(settings, lightgbm.Dataset(shares, losses), num_boost_round=trees)

    def predict(self, rows: Float64s) -> Float64s:
        """Losses float64[n] of shares float64[n, k]."""
        return np.asarray(self.booster.predict(rows, num_threads=1), np.float64)


def leaf(runs: int) -> int:
    """The fewest runs that a leaf may hold."""
    return LEAF if runs >= FEW else max(2, runs // 20)


def trees(shares: Float64s, losses: Float64s) -> Model:
    """1000 boosted trees for shares float64[n, k] and losses float64[n]. AssetError where LightGBM is missing."""
    try:
        return Trees(shares, losses)
    except ImportError as error:
        raise AssetError(f"LightGBM cannot be loaded ({error}); `pip install 'curate[fit]'` brings it") from error


def linear(shares: Float64s, losses: Float64s) -> Model:
    """Least squares with an intercept; of many solutions (shares sum to 1) the smallest."""
    middle = shares.mean(axis=0)
    level = float(losses.mean())
    return Plane(np.linalg.lstsq(shares - middle, losses - level, rcond=None)[0], middle, level)


def ridge(shares: Float64s, losses: Float64s) -> Model:
    """Least squares with the penalty that predicts best when each run is left out in turn (in closed form)."""
    middle, level = shares.mean(axis=0), float(losses.mean())
    left, size, right = np.linalg.svd(shares - middle, full_matrices=False)
    turned = left.T @ (losses - level)
    errors, kept = [], []
    for penalty in _PENALTIES:
        factor = size**2 / (size**2 + penalty)
        own = (left**2 @ factor) + 1 / len(losses)
        # A run that alone decides its own prediction says nothing of how it would be predicted.
        errors.append(float((((losses - level - left @ (factor * turned)) / np.maximum(1 - own, 1e-6)) ** 2).mean()))
        kept.append(size / (size**2 + penalty))
    return Plane(right.T @ (kept[int(np.argmin(errors))] * turned), middle, level)


FITS: dict[str, Fit] = {"trees": trees, "ridge": ridge, "linear": linear}


def folds(runs: int, *, seed: int) -> list[Int64s]:
    """Runs in up to ten parts of equal size, drawn."""
    order = np.random.default_rng(seed).permutation(runs)
    return [np.sort(part) for part in np.array_split(order, min(FOLDS, runs))]


def unseen(fit: Fit, shares: Float64s, losses: Float64s, parts: Sequence[Int64s]) -> Float64s:
    """The prediction float64[n] of each run by a model of the other parts; all NaN where every model is constant."""
    made, varied = np.empty(len(losses)), False
    for part in parts:
        rest = np.setdiff1d(np.arange(len(losses)), part)
        model = fit(shares[rest], losses[rest])
        made[part] = model.predict(shares[part])
        varied = varied or bool(np.ptp(model.predict(shares[rest])) > 0)
    return made if varied else np.full(len(losses), np.nan)


def spearman(one: Float64s, other: Float64s) -> float:
    """Rank correlation with ties at their mean rank; NaN where either is constant or has a NaN."""
    if np.isnan(one).any() or np.isnan(other).any() or len(one) < 2:
        return float("nan")
    a, b = _centred(ranks(one)), _centred(ranks(other))
    if not (a.any() and b.any()):
        return float("nan")
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def ranks(values: Float64s) -> Float64s:
    """Ranks float64[n] from 1, ties at their mean."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    made: Float64s = ((ends - count + 1 + ends) / 2)[place]
    return made


def by_chance(predicted: Sequence[Float64s], losses: Float64s, *, seed: int) -> Float64s:
    """The best rank correlation of several predictions with shuffled losses, float64[999], sorted; a prediction that is
    constant is passed over."""
    sides = [_centred(ranks(one)) for one in predicted if not np.isnan(one).any() and np.ptp(one) > 0]
    if not sides:
        return np.zeros(SHUFFLES)
    units = np.stack([side / np.sqrt(side @ side) for side in sides])
    random = np.random.default_rng(seed)
    other = _centred(ranks(losses))
    other /= np.sqrt(other @ other)
    found = [float((units @ other[random.permutation(len(other))]).max()) for _ in range(SHUFFLES)]
    return np.sort(np.array(found))


def _centred(values: Float64s) -> Float64s:
    made: Float64s = values - values.mean()
    return made
