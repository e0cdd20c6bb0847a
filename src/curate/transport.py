"""Entropic optimal transport from a pool to a target set: the potentials by which GOT-D tells what brings them closer.

GOT-D (Kang et al. 2024, arXiv 2405.02774) chooses the documents whose greater mass lowers the transport cost most: the
gradient of the cost by a document's mass is its dual potential, less the mean of the others'. The cost is half the
squared Euclidean distance, which for unit vectors is 1 - cosine. Potentials are fitted on a sample by Sinkhorn's steps
(Cuturi 2013); given those of the targets, one of any other document follows by a softmin over the targets.

Steps are scalings of a coupling that is kept as float32, at half a nanosecond an entry; where scalings would underflow,
its logarithms are taken again (Schmitzer 2019). All is summed in one order in float64, and cosines are exact: parts of
vectors are rounded to 2^-26, so products are multiples of 2^-52 and sums of them below 2 need no rounding. So equal
vectors give equal bits, in any order, blocks and machine.

The catch: near duplicates get near gradients, so the choice is as repetitive as the pool. And `epsilon` blurs: targets
nearer to each other than some `epsilon` are told apart little.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from curate.arrow import vector_column, vectors
from curate.errors import DataError, RecipeError
from curate.kernels.hash import combine, xxh3_64
from curate.kernels.transport import merge, scale, shares, softmins
from curate.kmeans import checked

TOLERANCE, ITERATIONS = 1e-3, 1000
"""Steps end when the masses that targets receive differ from theirs by no more in all, or after so many."""
EPSILON_SHARE, MEDIAN_ROWS = 0.05, 1024
"""The default `epsilon` as a share of the median cost, and of how many vectors on either side that is taken."""
HELD_BYTES, BLOCK_ENTRIES = 512 << 20, 1 << 20
"""The largest coupling that is held; of larger ones each step makes blocks again, each of so many costs."""
# Beyond these, what float32 lost of a coupling (1e-38) could count.
_MOST_FACTOR, _LEAST_GIVEN, _LEAST_RECEIVED = 30.0, 1e-8, 1e-20


class Costs(Protocol):
    """A matrix of costs, some rows at a time."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def block(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` as float64, contiguous."""


class Matrix(NamedTuple):
    """Costs float64[n, m] that are known."""

    costs: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.costs.shape[0], self.costs.shape[1]

    def block(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`."""
        return self.costs[start:stop]


class Distances(NamedTuple):
    """1 - cosine of unit vectors: `rows` float32[n, d], and the `columns` as `grid` gives them."""

    rows: np.ndarray
    columns: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.rows), len(self.columns)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`: the products are exact, so no block and no library changes a bit."""
        cosines: np.ndarray = grid(self.rows[start:stop]) @ self.columns.T
        np.subtract(1.0, cosines, out=cosines)
        return cosines


class Duals(NamedTuple):
    """Potentials of rows (float64[n]) and columns (float64[m]), steps taken, and the L1 error of the columns' masses.

    `f` is the softmin of `g`, so the rows' masses are met.
    """

    f: np.ndarray
    g: np.ndarray
    iterations: int
    error: float


@dataclass(frozen=True)
class Potentials:
    """What is needed for the potential of any vector.

    targets float32[m, d], g float64[m], log_mass float64[m]: the targets that have mass, in an order of their own,
    with their potentials and the logarithms of their masses. `error`: the L1 error of the masses they received.
    """

    targets: np.ndarray
    g: np.ndarray
    log_mass: np.ndarray
    epsilon: float
    iterations: int
    error: float

    @property
    def remark(self) -> str | None:
        """What is wrong with the fit, if anything is."""
        if self.error <= TOLERANCE:
            return None
        return (
            f"the transport was not solved: after {self.iterations:,} iterations the masses are off by {self.error:.2g}"
            f" in all, {TOLERANCE:g} is wanted; a larger `epsilon` than {self.epsilon:.3g} needs fewer"
        )

    def f(self, rows: np.ndarray) -> np.ndarray:
        """Potentials float64[n] of unit vectors float32[n, d]: -epsilon log(sum_j mass_j exp((g_j - C_ij) / epsilon)).

        The potential of a row depends on that row alone, to the last bit. Costs 2 n m d operations of float64.
        DataError for vectors that are not finite, not of length 1 or of another width.
        """
        rows = _wide(checked(rows), self.targets.shape[1])
        costs, shift = Distances(rows, grid(self.targets)), self.g / self.epsilon + self.log_mass
        out = np.empty(len(rows))
        for start, stop in _blocks(costs.shape):
            softmins(costs.block(start, stop), shift, self.epsilon, out[start:stop])
        return out

    def table(self) -> pa.Table:
        """All of it, a row for each target; what is said once stands in each row."""
        rows = len(self.targets)
        return pa.table(
            {
                "target": vector_column(self.targets, np.ones(rows, np.bool_), pa.float32()),
                "g": self.g,
                "log_mass": self.log_mass,
                "epsilon": np.full(rows, self.epsilon),
                "iterations": np.full(rows, self.iterations),
                "error": np.full(rows, self.error),
            }
        )

    @classmethod
    def from_table(cls, table: pa.Table) -> "Potentials":
        """What `table` gave."""
        targets, _ = vectors(table["target"])
        epsilon, iterations, error = (table[name][0].as_py() for name in ("epsilon", "iterations", "error"))
        return cls(targets, table["g"].to_numpy(), table["log_mass"].to_numpy(), epsilon, iterations, error)


def fit(
    pool: np.ndarray,
    target: np.ndarray,
    *,
    pool_mass: np.ndarray | None = None,
    target_mass: np.ndarray | None = None,
    epsilon: float | None = None,
) -> Potentials:
    """Potentials of the entropic transport from `pool` float32[s, d] to `target` float32[m, d], both unit vectors.

    Masses, float64[s] and float64[m], are equal if not given, and are brought to sums of 1; what has none is left out.
    `epsilon` is in units of cost (0 to 2), by default 0.05 times the median cost. The result is the same for any order
    of the vectors. Where s * m * 4 bytes are over 512 MB, each step makes all costs again, which takes some 50
    times as long: give a smaller sample.

    RecipeError for an `epsilon` that is not positive, no vectors or masses that cannot be; DataError for vectors that
    are not finite, not of length 1 or not of one width.
    """
    pool, target = checked(pool), checked(target)
    _wide(pool, target.shape[1])
    pool, mu = _ordered(pool, _masses(pool_mass, len(pool), "pool"))
    target, nu = _ordered(target, _masses(target_mass, len(target), "target"))
    costs = Distances(pool, grid(target))
    if epsilon is None:
        epsilon = EPSILON_SHARE * _median(pool, target)
    coupling, taken, error = _settled(_Coupling(costs, mu, nu, epsilon), TOLERANCE, ITERATIONS)
    return Potentials(target, coupling.g, np.log(nu), float(epsilon), taken, error)


def gradients(f: np.ndarray, *, total: float | None = None, count: int | None = None) -> np.ndarray:
    """What each document's mass does to the cost (float64[n]), by potentials f: f_i - (sum of the others) / (n - 1).

    The derivative where i gains mass and all others lose it in equal parts (LAVA: Just et al. 2023, arXiv 2305.00054).
    They do not change with a constant added to `f`, and their sum is 0. `total` and `count` are the sum and the number
    of all potentials where `f` has but a part of them. Of a document alone it is 0.
    """
    f = np.asarray(f, np.float64)
    total = math.fsum(f) if total is None else total
    count = len(f) if count is None else count
    if count < 2:
        return np.zeros(len(f))
    found: np.ndarray = f - (total - f) / (count - 1)
    return found


def solve(
    costs: Costs,
    mu: np.ndarray,
    nu: np.ndarray,
    *,
    epsilon: float,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> Duals:
    """Sinkhorn's steps for costs [n, m] and masses float64[n] and float64[m], positive and of sum 1.

    The coupling is mu_i nu_j exp((f_i + g_j - C_ij) / epsilon): regularised by its divergence from the product of the
    masses, so f is the gradient of the regularised cost by mu.
    """
    coupling, taken, error = _settled(_Coupling(costs, mu, nu, epsilon), tolerance, iterations)
    return Duals(coupling.f(), coupling.g, taken, error)


def grid(rows: np.ndarray) -> np.ndarray:
    """Vectors as float64, their parts rounded to multiples of 2^-26: sums of products of two need no rounding."""
    found: np.ndarray = np.rint(rows.astype(np.float64) * 2.0**26) * 2.0**-26
    return found


class _Coupling:
    """The coupling for potentials `g`, whose rows have their masses: `base` is in it, exp(`factor`) is still to be."""

    def __init__(self, costs: Costs, mu: np.ndarray, nu: np.ndarray, epsilon: float) -> None:
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise RecipeError(f"epsilon is {epsilon!r}; it must be a positive number, in units of 1 - cosine")
        self.costs, self.mu, self.nu, self.epsilon = costs, mu, nu, epsilon
        self.base, self.factor = np.zeros(len(nu)), np.zeros(len(nu))
        rows, columns = costs.shape
        self.held = np.empty((rows, columns), np.float32) if rows * columns * 4 <= HELD_BYTES else None
        self.filled = False

    @property
    def g(self) -> np.ndarray:
        """The columns' potentials."""
        found: np.ndarray = self.base + self.epsilon * self.factor
        return found

    def f(self) -> np.ndarray:
        """The rows' potentials."""
        found = np.empty(len(self.mu))
        for start, stop in _blocks(self.costs.shape):
            softmins(self.costs.block(start, stop), self._shift(), self.epsilon, found[start:stop])
        return found

    def move(self, by: np.ndarray) -> None:
        """Add epsilon times `by` to the potentials."""
        self.factor = self.factor + by

    def received(self) -> np.ndarray:
        """Logarithms of the masses that columns receive, float64[m]."""
        if self.held is None:
            self._take_in()
            found = self._from_blocks()
        else:
            found = self._from_held(self.held) if self.filled else None
            if found is None:
                self._take_in()
                self._fill(self.held)
                found = self._from_held(self.held)
        return self._from_logarithms() if found is None else found

    def _shift(self) -> np.ndarray:
        shift: np.ndarray = self.g / self.epsilon + np.log(self.nu)
        return shift

    def _take_in(self) -> None:
        self.base, self.factor = self.g, np.zeros(len(self.nu))

    def _fill(self, held: np.ndarray) -> None:
        f = np.empty(len(self.mu))
        for start, stop in _blocks(self.costs.shape):
            shares(self.costs.block(start, stop), self._shift(), self.epsilon, f[start:stop], held[start:stop])
        self.filled = True

    def _from_held(self, held: np.ndarray) -> np.ndarray | None:
        """As `received`, None where the coupling as it is held has too few digits left."""
        if np.abs(self.factor).max() > _MOST_FACTOR:
            return None
        found = np.zeros(len(self.nu))
        least = scale(held, self.mu, np.exp(self.factor), found)
        if least < _LEAST_GIVEN or found.min() < _LEAST_RECEIVED:
            return None
        return np.log(found) + self.factor

    def _from_blocks(self) -> np.ndarray | None:
        """The same of a coupling that is made on the way; `factor` is 0."""
        found, ones = np.zeros(len(self.nu)), np.ones(len(self.nu))
        for start, stop in _blocks(self.costs.shape):
            part, f = np.empty((stop - start, len(self.nu)), np.float32), np.empty(stop - start)
            shares(self.costs.block(start, stop), self._shift(), self.epsilon, f, part)
            scale(part, self.mu[start:stop], ones, found)
        return None if found.min() < _LEAST_RECEIVED else np.log(found)

    def _from_logarithms(self) -> np.ndarray:
        """The same without loss, at two exponentials an entry."""
        top, total = np.full(len(self.nu), -np.inf), np.zeros(len(self.nu))
        for start, stop in _blocks(self.costs.shape):
            block, f = self.costs.block(start, stop), np.empty(stop - start)
            softmins(block, self._shift(), self.epsilon, f)
            merge(block, f / self.epsilon + np.log(self.mu[start:stop]), self.epsilon, top, total)
        found: np.ndarray = top + np.log(total) + self._shift()
        return found


def _settled(coupling: _Coupling, tolerance: float, iterations: int) -> tuple[_Coupling, int, float]:
    """The coupling when its columns have their masses or steps have run out, the steps, and the L1 error left."""
    step = 0
    while True:
        received = coupling.received()
        error = math.fsum(np.abs(np.exp(received) - coupling.nu))
        if error <= tolerance or step == iterations:
            return coupling, step, error
        coupling.move(np.log(coupling.nu) - received)
        step += 1


def _blocks(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Rows `start` to `stop`, of about BLOCK_ENTRIES costs. Multiples of 4, as the kernel `scale` takes them."""
    step = max(4, BLOCK_ENTRIES // shape[1] // 4 * 4)
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def _wide(rows: np.ndarray, width: int) -> np.ndarray:
    if rows.shape[1] != width:
        raise DataError(f"vectors of {rows.shape[1]} numbers, but the target's have {width}; one model gives both")
    return rows


def _masses(mass: np.ndarray | None, rows: int, name: str) -> np.ndarray:
    """Masses of sum 1."""
    if rows == 0:
        raise RecipeError(f"the {name} has no vectors; there is nothing to be moved")
    mass = np.ones(rows) if mass is None else np.asarray(mass, np.float64)
    if mass.shape != (rows,):
        raise RecipeError(f"the {name} has {rows:,} vectors and masses of shape {mass.shape}; each vector has one")
    if not (np.isfinite(mass).all() and mass.min() >= 0 and mass.max() > 0):
        raise RecipeError(f"masses of the {name} must be finite, none below 0 and some above")
    found: np.ndarray = mass / math.fsum(mass)
    return found


def _ordered(rows: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors that have mass and these masses, by hashes of both: which, and in which order, they came has no part."""
    rows, mass = np.ascontiguousarray(rows[mass > 0]) + np.float32(0), mass[mass > 0]  # -0.0 + 0.0 is 0.0
    keys = np.empty(len(rows), np.uint64)
    size = rows.shape[1] * rows.itemsize
    offsets = np.arange(len(rows) + 1, dtype=np.int64) * size
    xxh3_64(offsets, rows.reshape(-1).view(np.uint8), np.uint64(0), keys)
    combine(keys, mass.view(np.uint64))
    order = np.argsort(keys, kind="stable")
    return rows[order], mass[order]


def _median(pool: np.ndarray, target: np.ndarray) -> float:
    """The median cost among the first vectors, whose order is that of hashes."""
    few = Distances(pool[:MEDIAN_ROWS], grid(target[:MEDIAN_ROWS])).block(0, MEDIAN_ROWS)
    median = float(np.median(few))
    if median <= 0:
        raise RecipeError("the median cost is 0: vectors are alike, so `epsilon` has no default; give one above 0")
    return median
