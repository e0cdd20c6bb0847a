"""Utilities and half-lives of buckets, fitted to a table of small runs (arXiv 2404.07177; the law: `curate.utility`).

All buckets share scale and floor; each has a utility and a half-life. A grid finds the neighbourhood by absolute
errors, Newton's method with damping and Huber's weights goes down from its best points: a run that failed does not
bend the curves. Nothing is drawn by chance. The catch: scale, floor and utilities make up for one another unless runs
span a wide range of samples, and a half-life shows only where a bucket was repeated; what the table leaves open is
named in `loose`, not guessed.
"""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate import store
from curate.errors import DataError, RecipeError
from curate.utility import NORMALISER, Curve, Form, Pool

Floats = NDArray[np.float64]
Model = Callable[[Floats], Floats]

_MOST_EPOCHS = 10_000
_HUBER = 1.345  # of the usual deviation: 95 % efficient where errors are normal (Huber 1964)
_STARTS = 8
_STEPS = 300
_FLAT = 1e-7  # singular values below this share of the largest say nothing
_VAGUE = 0.5  # of the logarithm: known to a factor of 1.65 at best


@dataclass(frozen=True)
class Run:
    """One evaluation: `pool` of `unique` samples, `seen` of them with repeats, `error` above 0 and at most 1."""

    pool: str
    unique: float
    seen: float
    error: float


@dataclass(frozen=True)
class Fitted:
    """`pools` by name, of the largest `unique` seen, and their `curve`. `worth`: utilities as shares of 1, empty where
    the runs do not tell them apart from nothing. `residuals` float64[runs], found less predicted; `error` is their
    robust deviation. `deviations` of the logarithm by parameter (of the floor, of its odds), None where there is none.
    `loose`: what is not identified."""

    curve: Curve
    pools: dict[str, Pool]
    worth: dict[str, float]
    residuals: Floats
    error: float
    deviations: dict[str, float | None]
    loose: tuple[str, ...]


def read_runs(path: str, *, untrained: float | None = None) -> list[Run]:
    """Runs of a CSV file with columns `pool`, `unique`, `seen`, and `error`, `accuracy` or `loss`.

    Errors and accuracies lie between 0 and 1. Losses are divided by `untrained`, the loss of a model that has learnt
    nothing, such as the logarithm of the size of its vocabulary. DataError names row and column.
    """
    rows = csv.DictReader(io.StringIO(store.read(path).decode("utf-8-sig")))
    heads = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = heads
    for name in ("pool", "unique", "seen"):
        if name not in heads:
            raise DataError(f"{path} has no column '{name}'; found are {', '.join(heads) or 'none'}")
    measure = next((name for name in ("error", "accuracy", "loss") if name in heads), None)
    if measure is None:
        raise DataError(f"{path} has no column of error, accuracy or loss; found are {', '.join(heads)}")
    if measure == "loss" and not (untrained and untrained > 0 and math.isfinite(untrained)):
        raise RecipeError(
            f"{path} has losses: give the loss of an untrained model (--untrained), such as ln(vocabulary)"
        )
    runs = []
    for number, row in enumerate(rows, 2):

        def cell(name: str, most: float, number: int = number, row: dict[str, str] = row) -> float:
            text = (row[name] or "").strip()
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            none = name == "accuracy"  # may be 0, but not 1: no curve comes to an error of 0
            if not ((0 <= value < most if none else 0 < value <= most) and math.isfinite(value)):
                raise DataError(
                    f"{path}, row {number}, column '{name}': {text!r}; a number between 0 and {most:g} is wanted"
                )
            return value

        unique, seen = cell("unique", math.inf), cell("seen", math.inf)
        value = cell(measure, untrained or math.inf if measure == "loss" else 1.0)
        error = value / (untrained or 1.0) if measure == "loss" else 1 - value if measure == "accuracy" else value
        runs.append(Run((row["pool"] or "").strip(), unique, seen, error))
    return runs


def fit(runs: Sequence[Run], *, form: Form = "documented") -> Fitted:
    """Scale, floor, and a utility and half-life for every pool, that predict the errors of `runs` best.

    RecipeError if there are fewer runs than parameters. A half-life that no repeats show is infinite, and loose.
    """
    table = _Table(runs, form)
    wanted = 2 + len(table.names) + sum(table.repeated)
    if len(runs) < wanted:
        raise RecipeError(f"{len(runs)} runs are too few for {wanted} parameters; add runs, also of other lengths")
    found = min((_descended(table, start) for start in _grid(table)), key=lambda each: (each[1], tuple(each[0])))[0]
    residuals = table.errors - table.predicted(found)
    known = _Known(table, found, residuals)
    scale, floor, utilities, lives = table.parameters(found)
    pools, deviations, loose = {}, {}, []
    for index, name in enumerate((*table.described, *(f"worth of {each}" for each in table.names))):
        direction = np.eye(len(found))[index] if index < len(found) else table.contrast(index - len(found))
        deviations[name], lost = known.about(direction)
        if lost and not (index == 1 and deviations[name] is not None and floor < known.error):
            loose.append(name)
    for index, name in enumerate(table.names):
        life = float(lives[index]) if table.repeated[index] else math.inf
        pools[name] = Pool(float(table.largest[index]), -float(utilities[index]), life)
    worth = dict(zip(table.names, (utilities / utilities.sum()).tolist(), strict=True))
    if not table.signal(known.error):
        loose += [name for name in (f"worth of {each}" for each in table.names) if name not in loose]
        worth = {}
    return Fitted(Curve(scale, floor, form), pools, worth, residuals, known.error, deviations, tuple(loose))


class _Table:
    """The runs as arrays. Parameters are a vector without bounds: ln of scale in units in which the shortest run has
    1, logit of the floor below the least error, and for each pool ln -utility, ln half-life."""

    def __init__(self, runs: Sequence[Run], form: Form):
        self.names = tuple(dict.fromkeys(run.pool for run in runs))
        self.form = form
        self.pool = np.array([self.names.index(run.pool) for run in runs], np.int64)
        self.errors = np.array([run.error for run in runs])
        unique, seen = (np.array([getattr(run, name) for run in runs], np.float64) for name in ("unique", "seen"))
        epochs = np.floor(seen / unique)
        if len(runs) and epochs.max() > _MOST_EPOCHS:
            raise RecipeError(f"a run of {epochs.max():,.0f} epochs: {_MOST_EPOCHS:,} is the most that can be fitted")
        self.begun = np.log(np.minimum(unique, seen) / NORMALISER)
        numbers = np.arange(1, int(epochs.max(initial=0)) + 1, dtype=np.float64)
        passed = np.minimum((numbers + 1) * unique[:, None], seen[:, None]) / (numbers * unique[:, None])
        self.growth = np.log(np.maximum(passed, 1.0))
        self.numbers = numbers
        self.repeated = [bool((self.growth[self.pool == index] > 0).any()) for index in range(len(self.names))]
        self.largest = [unique[self.pool == index].max() for index in range(len(self.names))]
        self.least = float(self.errors.min(initial=1.0))

    @property
    def described(self) -> tuple[str, ...]:
        pools = (f"{what} of {name}" for name in self.names for what in ("utility", "half-life"))
        return ("scale", "floor", *pools)

    def parameters(self, vector: Floats) -> tuple[float, float, Floats, Floats]:
        """Scale, floor, -utilities, half-lives."""
        scale = math.exp(float(np.clip(vector[0] - self.begun.min(), -600, 600)))
        floor = self.least / (1 + math.exp(-float(np.clip(vector[1], -600, 600))))
        utilities, lives = np.exp(np.clip(vector[2::2], -20, 5)), np.exp(np.clip(vector[3::2], -3, 9))
        return scale, min(floor, math.nextafter(1.0, 0.0)), utilities, lives

    def predicted(self, vector: Floats) -> Floats:
        """float64[runs]: the errors by the law."""
        scale, floor, utilities, lives = self.parameters(vector)
        utility, life = utilities[self.pool], lives[self.pool]
        later = (np.exp2(-self.numbers / life[:, None]) * self.growth).sum(axis=1)
        return self._errors(-utility * (math.log(scale) + self.begun), -utility * later, floor)

    def _errors(self, first: Floats, later: Floats, floor: float) -> Floats:
        """As `error_after`: at most 1, so that runs that have learnt nothing say no more than that."""
        if self.form == "repository":
            made = (np.exp(np.minimum(first, 50)) + floor) * np.exp(later)
        else:
            made = np.exp(np.minimum(first + later, 50)) + floor
        return np.asarray(np.minimum(made, 1.0))

    def best_of_pool(self, index: int, scale: float, floor: float) -> tuple[float, float, float]:
        """Least sum of absolute errors of one pool over a grid, with ln -utility and ln half-life there."""
        mine = self.pool == index
        begun, growth, errors = self.begun[mine], self.growth[mine], self.errors[mine]
        lives = np.geomspace(0.3, 100, 20) if self.repeated[index] else np.array([10.0])
        utilities = np.geomspace(0.003, 1.5, 40)
        later = np.exp2(-self.numbers / lives[:, None]) @ growth.T
        first = -utilities[:, None, None] * (math.log(scale) + begun)
        off = np.abs(self._errors(first, -utilities[:, None, None] * later, floor) - errors).sum(axis=2)
        best = int(off.argmin())
        row, column = divmod(best, off.shape[1])
        return float(off.flat[best]), math.log(utilities[row]), math.log(lives[column])

    def contrast(self, index: int) -> Floats:
        """ln worth of a pool against the mean of all, as a combination of parameters."""
        direction = np.zeros(2 + 2 * len(self.names))
        direction[2::2] = -1 / len(self.names)
        direction[2 + 2 * index] += 1
        return direction

    def signal(self, error: float) -> bool:
        """Whether errors of a pool differ by more than their scatter about the curve."""
        spans = [np.ptp(self.errors[self.pool == index]) for index in range(len(self.names))]
        return bool(max(spans, default=0.0) > max(2 * error, 1e-9))


def _grid(table: _Table) -> list[Floats]:
    """The best points of a grid over scale and floor, with the best utility and half-life of each pool there."""
    found = []
    for height in np.geomspace(0.05, 12, 20):
        for share in (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.96):
            vector = [float(height), math.log(share / (1 - share))]
            scale, floor = math.exp(height - table.begun.min()), share * table.least
            off = 0.0
            for index in range(len(table.names)):
                more, utility, life = table.best_of_pool(index, scale, floor)
                off += more
                vector += [utility, life]
            found.append((off, vector))
    return [np.array(vector) for _, vector in sorted(found)[:_STARTS]]


def _descended(table: _Table, start: Floats) -> tuple[Floats, float]:
    """A minimum near `start` of Huber's loss with the scale of the residuals, and the sum of absolute residuals."""
    vector, damping = start.copy(), 1e-2
    residuals = table.errors - table.predicted(vector)
    for _ in range(_STEPS):
        scale = _deviation(residuals[table.errors - residuals < 1], 0)
        jacobian = _jacobian(table.predicted, vector)
        weights = _weights(residuals, scale)
        normal = jacobian.T @ (weights[:, None] * jacobian)
        slope = jacobian.T @ (weights * residuals)
        before = _huber(residuals, scale)
        moved = False
        while damping < 1e12:
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-12), slope)
            step *= min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-300))
            tried = table.errors - table.predicted(vector + step)
            if _huber(tried, scale) < before:
                moved = True
                break
            damping *= 4
        if not moved:
            break
        vector, residuals, damping = vector + step, tried, max(damping / 8, 1e-12)
        if float(np.abs(step).max()) < 1e-10:
            break
    return vector, float(np.abs(residuals).sum())


class _Known:
    """What the runs say of combinations of parameters at a solution."""

    def __init__(self, table: _Table, vector: Floats, residuals: Floats):
        jacobian = _jacobian(table.predicted, vector)
        # Runs that the law cuts off at 1 have no residuals, or one-sided ones: they tell nothing of scatter.
        self.error = _deviation(residuals[table.errors - residuals < 1], len(vector))
        root = np.sqrt(_weights(residuals, max(self.error, 1e-9)))
        self.norms = np.linalg.norm(root[:, None] * jacobian, axis=0)
        self.norms[self.norms < 1e-10] = 0.0
        scaled = root[:, None] * jacobian / np.where(self.norms > 0, self.norms, 1.0) * (self.norms > 0)
        _, values, rows = np.linalg.svd(scaled, full_matrices=True)
        self.rows = rows
        self.values = np.zeros(len(vector))
        self.values[: len(values)] = values
        self.lost = self.values <= _FLAT * max(float(self.values.max()), 1e-300)

    def about(self, direction: Floats) -> tuple[float | None, bool]:
        """The deviation of a combination of parameters, None if the runs say nothing of it; and whether that is, or
        comes to, nothing."""
        size = float(np.linalg.norm(direction))
        if not size:
            return 0.0, False
        if (np.abs(direction[self.norms == 0]) > 1e-6 * size).any():
            return None, True
        along = self.rows @ (direction / np.where(self.norms > 0, self.norms, 1.0))
        if np.linalg.norm(along[self.lost]) > 0.1 * np.linalg.norm(along):
            return None, True
        kept = ~self.lost
        deviation = self.error * float(np.linalg.norm(along[kept] / self.values[kept]))
        return deviation, deviation > _VAGUE


def _jacobian(model: Model, vector: Floats) -> Floats:
    """float64[runs, parameters] by central differences."""
    columns = []
    for index in range(len(vector)):
        step = np.zeros(len(vector))
        step[index] = 1e-5
        columns.append((model(vector + step) - model(vector - step)) / 2e-5)
    return np.stack(columns, axis=1)


def _deviation(residuals: Floats, parameters: int) -> float:
    """The deviation of normal residuals with this median size, for so many parameters spent."""
    free = math.sqrt(len(residuals) / max(1, len(residuals) - parameters))
    return max(1.4826 * float(np.median(np.abs(residuals))) * free, 1e-12) if len(residuals) else 1e-12


def _weights(residuals: Floats, scale: float) -> Floats:
    return np.asarray(np.minimum(1.0, _HUBER * scale / np.maximum(np.abs(residuals), 1e-300)))


def _huber(residuals: Floats, scale: float) -> float:
    size, bend = np.abs(residuals), _HUBER * scale
    return float(np.where(size <= bend, size**2 / 2, bend * (size - bend / 2)).sum())
