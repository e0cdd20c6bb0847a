"""Optimal transport the slow and plain way: linear programs, and Sinkhorn's steps on whole matrices."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.special import logsumexp


class Solved(NamedTuple):
    """The least cost, and the potentials of rows and columns."""

    value: float
    f: np.ndarray
    g: np.ndarray


def exact(mu: np.ndarray, nu: np.ndarray, costs: np.ndarray) -> Solved:
    """The linear program with its duals, by HiGHS."""
    rows, columns = costs.shape
    sums = np.vstack([np.kron(np.eye(rows), np.ones(columns)), np.kron(np.ones(rows), np.eye(columns))])
    found = linprog(costs.ravel(), A_eq=sums, b_eq=np.concatenate([mu, nu]), bounds=(0, None), method="highs")
    assert found.success
    return Solved(found.fun, found.eqlin.marginals[:rows], found.eqlin.marginals[rows:])


def entropic(mu: np.ndarray, nu: np.ndarray, costs: np.ndarray, epsilon: float, steps: int) -> Solved:
    """Regularised transport in logarithms; its value is the dual one, which at the end is the primal one."""
    g = np.zeros(len(nu))
    for _ in range(steps):
        f = -epsilon * logsumexp((g - costs) / epsilon + np.log(nu), axis=1)
        g = -epsilon * logsumexp((f[:, None] - costs) / epsilon + np.log(mu)[:, None], axis=0)
    f = -epsilon * logsumexp((g - costs) / epsilon + np.log(nu), axis=1)
    return Solved(float(mu @ f + nu @ g), f, g)


def coupling(solved: Solved, mu: np.ndarray, nu: np.ndarray, costs: np.ndarray, epsilon: float) -> np.ndarray:
    """The masses that are moved from each row to each column."""
    moved: np.ndarray = mu[:, None] * nu * np.exp((solved.f[:, None] + solved.g - costs) / epsilon)
    return moved


def calibrated(f: np.ndarray) -> np.ndarray:
    """Each potential less the mean of the others."""
    return np.array([f[i] - np.delete(f, i).mean() for i in range(len(f))])


def direction(rows: int, i: int) -> np.ndarray:
    """Mass to row i, taken in equal parts from all others."""
    return np.where(np.arange(rows) == i, 1.0, -1 / (rows - 1))
