"""Mixtures the slow and obvious way: every table of whole numbers, or a general solver of linear programs."""

from fractions import Fraction
from itertools import product

import numpy as np
from scipy.optimize import linprog


def tables(sizes, support, room):
    """Every table of whole numbers with these row sums that draws on the support alone and keeps the room."""

    def rows(size, cells):
        ranges = [range(size + 1) if cell else range(1) for cell in cells]
        return [row for row in product(*ranges) if sum(row) == size]

    for table in product(*(rows(size, cells) for size, cells in zip(sizes, support, strict=True))):
        if all(sum(column) <= most for column, most in zip(zip(*table, strict=True), room, strict=True)):
            yield table


def feasible(sizes, support, room):
    """Whether any amounts have these row sums, draw on the support alone and keep the room."""
    phases, groups = len(sizes), len(room)
    rows, columns = np.zeros((phases, phases * groups)), np.zeros((groups, phases * groups))
    for j in range(phases):
        for i in range(groups):
            rows[j, j * groups + i] = columns[i, j * groups + i] = 1
    bounds = [(0, None if cell else 0) for cells in support for cell in cells]
    found = linprog(np.zeros(phases * groups), columns, room, rows, sizes, bounds)
    assert found.status in (0, 2)
    return found.status == 0


def largest(shares, weights, room):
    """The largest budget, as a fraction, that breaks no cap: a linear program of one unknown."""
    parts = [sum(f * row[i] / sum(row) for f, row in zip(shares, weights, strict=True)) for i in range(len(room))]
    found = linprog([-1], [[float(part)] for part in parts], [float(most) for most in room])
    assert found.status == 0
    exact = min(Fraction(most) / part for most, part in zip(room, parts, strict=True) if part)
    assert abs(found.x[0] - float(exact)) <= 1e-6 * max(1.0, float(exact))
    return exact
