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


def sizes_at(phases, budget):
    """Exact tokens of each phase, by what each says; None where they do not go with the budget."""
    made = {}
    for phase in phases:
        if phase.tokens is not None:
            made[phase.name] = Fraction(phase.tokens)
        elif phase.share is None and phase.counts is not None and phase.rest is None:
            made[phase.name] = Fraction(sum(phase.counts.values()))
    left = budget - sum(made.values())
    shared = {p.name: Fraction(p.share) for p in phases if p.share is not None}
    for phase in phases:
        if phase.name not in made and phase.name not in shared:
            made[phase.name] = left - budget * sum(shared.values())
            if made[phase.name] <= 0:
                return None
            left -= made[phase.name]
    if shared:
        asked = budget * sum(shared.values())
        if left <= 0 or abs(asked - left) > (1 if made else 0):
            return None
        made |= {name: left * share / sum(shared.values()) for name, share in shared.items()}
    return [made[phase.name] for phase in phases] if sum(made.values()) == budget else None


def asked_of(phase, size, held):
    """Exact tokens by group that a phase of so many tokens draws, or None if it cannot: no buckets, no utility."""
    if phase.weights is not None:
        total = sum(map(Fraction, phase.weights.values()))
        return {name: size * Fraction(weight) / total for name, weight in phase.weights.items()}
    if phase.unimax is not None:
        made, left = {}, size
        for place, name in enumerate(sorted(held, key=lambda name: (held[name], name))):
            made[name] = min(left / (len(held) - place), Fraction(phase.unimax) * held[name])
            left -= made[name]
        return None if left else made
    if phase.counts is None and phase.epochs is None:
        return {name: size * n / sum(held.values()) for name, n in held.items()}
    made = {name: Fraction(n) for name, n in (phase.counts or {}).items()}
    made |= {name: Fraction(n) * held[name] for name, n in (phase.epochs or {}).items()}
    left = size - sum(made.values())
    others = {phase.rest: held[phase.rest]} if phase.rest else {}
    if phase.epochs is not None and not phase.rest:
        others = {name: n for name, n in held.items() if name not in made}
    if left < 0 or (left and not others):
        return None
    return made | {name: left * n / sum(others.values()) for name, n in others.items()}


def budgets(phases, held, caps):
    """Every budget at which the phases draw what they ask for and no group passes its cap: all are tried."""
    found = []
    for budget in range(1, sum(caps.values()) + 1):
        sizes = sizes_at(phases, budget)
        drawn = [asked_of(*one, held) for one in zip(phases, sizes, strict=True)] if sizes else [None]
        if all(one is not None for one in drawn) and all(
            sum(one.get(name, 0) for one in drawn) <= most for name, most in caps.items()
        ):
            found.append(budget)
    return found
