"""projektor: from losses of small runs and distances to a target, the mixture that is best at a larger size.

Kang et al. 2023 (arXiv 2307.02460). First, at each of two small sizes, performance is linear in the transport distance
from the mixture to the target, with coefficients that are quadratic in the shares, fitted by least squares. Second, a
straight line in the logarithm of size runs through both, without parameters. Then shares go down the gradient and are
brought back onto the simplex. Two differences: the gradient is that of the larger size, where the authors' notebook
steps by the smaller one's and lets a last share go below 0; and each step is as long as it still pays, since the
notebook's (5e-4, a tenth shorter each time) move shares by no more than 0.005 times the gradient in all.

The catch: quadratics go anywhere beyond the mixtures that were measured (`beyond`), and a line in log size leaves
[0, 1]: accuracies of 0.5 at 1,000 and 0.6 at 1,500 give 1.07 at 10,000. Give losses, or fit on logits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from curate.errors import DataError, RecipeError
from curate.fit.tables import read

Float64s = NDArray[np.float64]
Scale = Literal["plain", "logit"]

STEPS = 200
_SETTLED = 1e-7
_OFF = 1e-2
_RANK = 1e-10  # singular values below this share of the largest tell nothing
_RESERVED = ("size", "ot", "loss", "accuracy", "index")


class Distance(Protocol):
    """How far mixtures are from the target."""

    def at(self, shares: Float64s) -> tuple[float, Float64s]:
        """The distance of the mixture float64[k], and its gradient by the shares, up to a number added to all."""


@dataclass(frozen=True)
class Measured:
    """Runs: `shares` float64[n, k] of the sources `names`, `sizes` float64[n], `values` float64[n] of `measure`, and
    distances float64[n] where the table has them."""

    names: tuple[str, ...]
    sizes: Float64s
    shares: Float64s
    values: Float64s
    measure: str
    distances: Float64s | None


@dataclass(frozen=True)
class Fit:
    """Coefficients float64[3 k] of one size; `residuals` float64[n], and those of each run by a fit without it, NaN
    where no such fit is possible. `unknown`: coefficients that the runs do not tell apart."""

    coefficients: Float64s
    residuals: Float64s
    left_out: Float64s
    unknown: int


@dataclass(frozen=True)
class Projected:
    """Shares by source, empty without a signal, and the report."""

    weights: dict[str, float]
    report: dict[str, Any]


@dataclass(frozen=True)
class Surface:
    """Distances between the measured ones, by a quadratic in each share: coefficients float64[2 k]."""

    coefficients: Float64s

    def at(self, shares: Float64s) -> tuple[float, Float64s]:
        """As `Distance`."""
        k = len(shares)
        value = self.coefficients @ np.concatenate([shares, shares**2])
        return float(value), self.coefficients[:k] + 2 * self.coefficients[k:] * shares


@dataclass(frozen=True)
class Clouds:
    """Entropic transport from unit vectors float32[n_i, d] of each source to those of the target."""

    sources: tuple[NDArray[np.float32], ...]
    target: NDArray[np.float32]
    epsilon: float

    def at(self, shares: Float64s) -> tuple[float, Float64s]:
        """As `Distance`: each vector of source i has the mass p_i / n_i, so the gradient is the mean potential of i.

        The paper subtracts the mean potential of all others; on the simplex that is a number added to all and, between
        sources of one size, a factor.
        """
        from curate.transport import fit

        counts = [len(rows) for rows in self.sources]
        mass = np.repeat(shares / np.array(counts), counts)
        pool = np.concatenate(self.sources)
        potentials = fit(pool, self.target, pool_mass=mass, epsilon=self.epsilon)
        f = potentials.f(pool)
        means = np.array([part.mean() for part in np.split(f, np.cumsum(counts)[:-1])])
        value = float(shares @ means) + float(np.exp(potentials.log_mass) @ potentials.g)
        return value, means


def read_measured(path: str) -> Measured:
    """Runs of a CSV file: `size`, `loss` or `accuracy`, `ot` if distances were measured, and a column of shares for
    each source (`index` is left alone). DataError for cells that are no numbers, and for shares that do not sum to 1.
    """
    table = read(path)
    table.need("size")
    measure = table.either(("loss", "accuracy"))
    names = tuple(sorted(name for name in table.names if name not in _RESERVED))
    if len(names) < 2:
        raise DataError(f"{path} has {len(names)} columns of shares beside {', '.join(_RESERVED)}; two at least")
    rows = range(len(table.rows))
    shares = np.array([[table.number(row, name, least=0) for name in names] for row in rows])
    off = np.flatnonzero(np.abs(shares.sum(axis=1) - 1) > _OFF)
    if len(off):
        raise DataError(f"{path}, row {off[0] + 2}: shares sum to {shares[off[0]].sum():.6g}; they sum to 1")
    sizes = np.array([table.number(row, "size", least=1) for row in rows])
    most = 1.0 if measure == "accuracy" else math.inf
    values = np.array([table.number(row, measure, least=0, most=most) for row in rows])
    distances = np.array([table.number(row, "ot") for row in rows]) if "ot" in table.names else None
    return Measured(names, sizes, shares / shares.sum(axis=1, keepdims=True), values, measure, distances)


def clouds(
    run: str, names: Sequence[str], *, towards: str, embedding: str, sample: int, epsilon: float | None = None
) -> Clouds:
    """Vectors of a finished run: of each source, and of the target documents, those for which `towards` holds, which
    then count to no source; of each the first `sample` in keyed order. `epsilon` is by default 0.05 of the median cost.

    RecipeError where the run has no such column, source or target.
    """
    from curate import expressions
    from curate.arrow import vectors
    from curate.candidates import documents
    from curate.draw import READS, draws
    from curate.transport import fit

    named = tuple(expressions.columns(towards))
    found = documents(run, named, (embedding, "source"), None)
    held: dict[str | None, tuple[NDArray[np.uint64], NDArray[np.float32]]] = {}
    for job in found.jobs((*READS, "source", embedding, *named)):
        table = job.table()
        rows, valid = vectors(table[embedding])
        target = expressions.evaluate(towards, table)[0] & valid
        source = np.array(table["source"].to_pylist(), object)
        key = draws(table, 0)
        for name in (None, *names):
            chosen = np.flatnonzero(target if name is None else (source == name) & valid & ~target)
            keys, kept = key[chosen], rows[chosen]
            if name in held:
                keys, kept = np.concatenate([held[name][0], keys]), np.concatenate([held[name][1], kept])
            order = np.argsort(keys, kind="stable")[:sample]
            held[name] = keys[order], kept[order]
    for name in (None, *names):
        if name not in held or not len(held[name][0]):
            what = f"documents for which `{towards}` holds" if name is None else f"other documents of source '{name}'"
            raise RecipeError(f"{run} has no {what} with an embedding")
    sources, goal = tuple(held[name][1] for name in names), held[None][1]
    if epsilon is None:
        epsilon = fit(np.concatenate(sources), goal).epsilon
    return Clouds(sources, goal, epsilon)


def surface(shares: Float64s, distances: Float64s) -> Surface:
    """The quadratic through distances float64[n] of mixtures float64[n, k]; the smallest coefficients that do."""
    return Surface(_solved(np.hstack([shares, shares**2]), distances)[0])


def features(shares: Float64s, distance: Float64s) -> Float64s:
    """What performance is linear in: p_i OT, p_i^2 OT and p_i of each source, float64[n, 3 k].

    As shares sum to 1 they hold OT itself and a constant; for three sources these are nine.
    """
    near = distance[:, None]
    return np.hstack([shares * near, shares**2 * near, shares])


def fit(shares: Float64s, distance: Float64s, values: Float64s) -> Fit:
    """The first stage, at one size. RecipeError if there are fewer runs than coefficients."""
    k = shares.shape[1]
    wanted = 3 * k if k > 2 else 5  # of two sources the squares depend on one another
    if len(values) < wanted:
        raise RecipeError(f"{len(values)} runs of a size are too few for {k} sources; {wanted} or more are wanted")
    columns = features(shares, distance)
    coefficients, basis = _solved(columns, values)
    residuals = values - columns @ coefficients
    free = 1 - (basis**2).sum(axis=1)
    left_out = np.divide(residuals, free, out=np.full(len(values), np.nan), where=free > 1e-6)
    return Fit(coefficients, residuals, left_out, wanted - basis.shape[1])


def line(size: float, small: float, large: float) -> tuple[float, float]:
    """What performances at two sizes count for at `size`: a line in log size, (1, 0) at one and (0, 1) at the other."""
    if not (0 < small < large and 0 < size < math.inf):
        raise RecipeError(f"sizes {small:g} and {large:g} for one of {size:g}: two that differ, above 0, are wanted")
    span = math.log(large / small)
    return math.log(large / size) / span, math.log(size / small) / span


def simplex(point: Float64s) -> Float64s:
    """The nearest shares, none below 0 and of sum 1, to float64[k] (Held et al. 1974)."""
    ordered = np.sort(point)[::-1]
    over = np.cumsum(ordered) - 1
    last = int(np.flatnonzero(ordered * np.arange(1, len(point) + 1) > over)[-1])
    found: Float64s = np.maximum(point - over[last] / (last + 1), 0.0)
    found /= found.sum()
    return found


def descend(coefficients: Float64s, distance: Distance, start: Float64s) -> tuple[Float64s, float, int]:
    """Shares near `start` where the value of `coefficients` is least, that value, and steps taken: projected gradient,
    each step halved until it pays (Armijo), and tried twice as long the next time."""

    def value(shares: Float64s) -> tuple[float, Float64s]:
        k = len(shares)
        found, slope = distance.at(shares)
        linear, square, plain = coefficients[:k], coefficients[k : 2 * k], coefficients[2 * k :]
        bracket = linear @ shares + square @ shares**2
        return float(bracket * found + plain @ shares), bracket * slope + found * (linear + 2 * square * shares) + plain

    shares, length = start, 1.0
    best, slope = value(shares)
    for step in range(STEPS):
        length *= 2
        while True:
            tried = simplex(shares - length * slope)
            moved = shares - tried
            if np.abs(moved).max() < _SETTLED:
                return shares, best, step
            found, next_slope = value(tried)
            if found <= best - 1e-4 * float(slope @ moved):
                break
            length /= 2
        shares, best, slope = tried, found, next_slope
    return shares, best, STEPS


def projected(
    runs: Measured, distance: Distance | None = None, *, size: float | None = None, scale: Scale = "plain"
) -> Projected:
    """The best shares at `size` by runs of one or two sizes; of one size alone, there.

    `distance` is used for the runs too; without one, those of the table are, and a quadratic between them. `scale`:
    `logit` fits ln(a / (1 - a)) of accuracies. Where runs that are left out are predicted no better than by the mean of
    the others, there is no signal and there are no weights. RecipeError for more sizes than two, and too few runs.
    """
    sizes = sorted(set(runs.sizes.tolist()))
    at = _size(sizes, size)
    values = _scaled(runs, scale)
    said: list[str] = []
    if distance is None:
        if runs.distances is None:
            raise RecipeError("the table has no column 'ot': give distances there, or a run with vectors (--run)")
        distances, distance = runs.distances, surface(runs.shares, runs.distances)
    else:
        known: Distance = distance
        distances = np.array([known.at(row)[0] for row in runs.shares])
    parts = [1.0] if len(sizes) == 1 else list(line(at, sizes[0], sizes[1]))
    coefficients, told, signal = np.zeros(3 * len(runs.names)), [], True
    for part, one in zip(parts, sizes, strict=True):
        mine = runs.sizes == one
        made = fit(runs.shares[mine], distances[mine], values[mine])
        coefficients += part * made.coefficients
        explained = _explained(values[mine], made.left_out)
        signal &= explained is None or explained > 0
        told.append({"size": one, "runs": int(mine.sum()), "explained": explained, "unknown": made.unknown})
        if explained is None:
            said.append(f"at size {one:g} each run is met exactly: no run is left to check the fit by")
        if made.unknown:
            said.append(f"at size {one:g} the runs leave {made.unknown} coefficients open; the smallest are taken")
    sign = 1.0 if runs.measure == "loss" else -1.0
    predicted = sign * features(runs.shares, distances) @ coefficients
    starts = [np.full(len(runs.names), 1 / len(runs.names)), runs.shares[int(np.argmin(predicted))]]
    found = [descend(sign * coefficients, distance, start) for start in starts]
    shares, best, steps = min(found, key=lambda one: one[1])
    value = _unscaled(sign * best, scale)
    if not signal:
        said.append("runs that are left out are predicted no better than by the mean of the others: no weights")
    if steps == STEPS:
        said.append(f"after {STEPS} steps shares still moved")
    if value < 0 or (runs.measure == "accuracy" and value > 1):
        hint = "fit on logits" if runs.measure == "accuracy" else "the line is followed too far"
        said.append(f"the predicted {runs.measure} of {value:.4g} cannot be: {hint}")
    beyond = [
        name
        for name, share, column in zip(runs.names, shares, runs.shares.T, strict=True)
        if not column.min() - 1e-9 <= share <= column.max() + 1e-9
    ]
    if beyond:
        said.append(f"shares of {', '.join(beyond)} lie beyond those of all runs")
    equal = float(features(starts[0][None], np.array([distance.at(starts[0])[0]]))[0] @ coefficients)
    weights = dict(zip(runs.names, shares.tolist(), strict=True))
    report = {
        "size": at,
        "measure": runs.measure,
        "scale": scale,
        "fits": told,
        "predicted": value,
        "predicted_of_equal_shares": _unscaled(equal, scale),
        "distance": float(distance.at(shares)[0]),
        "steps": steps,
        "beyond": beyond,
        "shares": weights,
        "signal": signal,
        "warnings": said,
    }
    return Projected(weights if signal else {}, report)


def _size(sizes: list[float], size: float | None) -> float:
    if len(sizes) > 2:
        raise RecipeError(f"runs of {len(sizes)} sizes; one or two are wanted, as the line goes through two")
    if size is None:
        if len(sizes) == 2:
            raise RecipeError(f"runs of sizes {sizes[0]:g} and {sizes[1]:g}: say for which size shares are wanted")
        return sizes[0]
    if len(sizes) == 1 and size != sizes[0]:
        raise RecipeError(f"all runs have the size {sizes[0]:g}; a second one is needed to tell of {size:g}")
    return size


def _scaled(runs: Measured, scale: Scale) -> Float64s:
    if scale == "plain":
        return runs.values
    if runs.measure != "accuracy":
        raise RecipeError("logits are of accuracies; the table has losses")
    if not ((runs.values > 0) & (runs.values < 1)).all():
        raise RecipeError("an accuracy of 0 or 1 has no logit; leave such runs out")
    return np.asarray(np.log(runs.values) - np.log1p(-runs.values))


def _unscaled(value: float, scale: Scale) -> float:
    return value if scale == "plain" else 1 / (1 + math.exp(-value))


def _explained(values: Float64s, left_out: Float64s) -> float | None:
    """1 - squared errors of runs left out over those of the mean of the others; None without any."""
    known = np.isfinite(left_out)
    if not known.any():
        return None
    mean = (values - values.mean()) * len(values) / (len(values) - 1)
    total = float((mean[known] ** 2).sum())
    return 1 - float((left_out[known] ** 2).sum()) / total if total else 0.0


def _solved(columns: Float64s, values: Float64s) -> tuple[Float64s, Float64s]:
    """The smallest least-squares solution float64[m] for columns float64[n, m], and a basis float64[n, rank]."""
    norms = np.linalg.norm(columns, axis=0)
    norms = np.where(norms > 0, norms, 1.0)
    left, sizes, right = np.linalg.svd(columns / norms, full_matrices=False)
    rank = int((sizes > _RANK * sizes[0]).sum())
    basis = left[:, :rank]
    return (right[:rank].T @ ((basis.T @ values) / sizes[:rank])) / norms, basis
