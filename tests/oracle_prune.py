"""Quotas and pruning the slow and obvious way: exact fractions, one row at a time, everything sorted at once."""

import math
from fractions import Fraction

import numpy as np


def slow_waterfill(sizes, budget):
    """One for each that has room, in turn, until the budget is spent."""
    shares = [0] * len(sizes)
    while budget:
        for index, size in enumerate(sizes):
            if shares[index] < size and shares[index] == min(shares[i] for i, s in enumerate(sizes) if shares[i] < s):
                shares[index] += 1
                budget -= 1
                break
    return shares


def slow_largest_remainder(shares, sizes, budget):
    near = [round(float(share), 9) for share in shares]
    whole = [math.floor(share) for share in near]
    order = sorted(range(len(near)), key=lambda i: (-round(near[i] - whole[i], 9), i))
    for index in [i for i in order if whole[i] < sizes[i]][: budget - sum(whole)]:
        whole[index] += 1
    return whole


def slow_shift(target, low, sizes, budget):
    """The shift lies between two neighbouring places where some cluster leaves `low` or meets its size."""
    target = [Fraction(t) for t in target]
    sides = list(zip(target, low, sizes, strict=True))
    at = lambda shift: [min(max(t + shift, a), b) for t, a, b in sides]  # noqa: E731
    turns = sorted({a - t for t, a, _ in sides} | {b - t for t, _, b in sides})
    before, after = turns[0], turns[-1]
    for turn in turns:
        if sum(at(turn)) <= budget:
            before = turn
        else:
            after = turn
            break
    below, above = sum(at(before)), sum(at(after))
    if below == budget:
        return at(before)
    return at(before + (after - before) * Fraction(budget - below) / (above - below))


def slow_proportional(weights, sizes, budget):
    """Those that would get more than they hold are full; the others share what is left, again and again."""
    shares, open_ = [Fraction(0)] * len(sizes), [i for i, w in enumerate(weights) if w > 0]
    left = Fraction(budget)
    while open_:
        total = sum(Fraction(weights[i]) for i in open_)
        full = [i for i in open_ if left * Fraction(weights[i]) >= sizes[i] * total]
        if not full:
            for i in open_:
                shares[i] = left * Fraction(weights[i]) / total
            return shares
        for i in full:
            shares[i] = Fraction(sizes[i])
            left -= sizes[i]
        open_ = [i for i in open_ if i not in full]
    zero = [i for i, w in enumerate(weights) if w == 0]
    for i, share in zip(zero, slow_waterfill_fast([sizes[i] for i in zero], int(left)), strict=True):
        shares[i] = Fraction(share)
    return shares


def slow_waterfill_fast(sizes, budget):
    """`slow_waterfill` in whole rounds: for numbers too large to count up."""
    shares, open_ = [0] * len(sizes), [i for i, s in enumerate(sizes) if s]
    while budget and open_:
        step = min([budget // len(open_), *(sizes[i] - shares[i] for i in open_)])
        for i in open_ if step else open_[:budget]:
            shares[i] += step or 1
            budget -= step or 1
        open_ = [i for i in open_ if shares[i] < sizes[i]]
    return shares


def slow_complexity(members, neighbours, tau_mode):
    """Of each cluster, from its members' vectors and distances: mean distance x mean distance to near centroids."""
    sums = [np.sum([np.asarray(row["vector"], np.float64) for row in rows], axis=0) for rows in members]
    centroids = [v / np.sqrt((v**2).sum()) if (v**2).sum() else v * math.nan for v in sums]
    found = []
    for j, rows in enumerate(members):
        intra = float(np.mean([row["distance"] for row in rows]))
        other = [1 - float(c @ centroids[j]) for i, c in enumerate(centroids) if i != j]
        other = sorted(value for value in other if not math.isnan(value))
        near = other[:neighbours]
        found.append(intra * sum(near) / len(near) if near else math.nan)
    known = [value for value in found if not math.isnan(value)]
    mean = sum(known) / len(known) if known else 0.0
    found = [round(mean if math.isnan(value) else value, 12) for value in found]
    spread = float(np.std(found))
    return [value / spread for value in found] if tau_mode == "std" and spread > 0 else found


def slow_prune(rows, stage):
    """Which rows are pruned, and their places: rows are dicts of cluster, distance, id, origin, tokens, score, vector,
    draw. Gives a list of (pruned, rank), rank None where a row does not compete."""
    sign = {"hard": -1, "easy": 1}.get(stage.mode)
    for row in rows:
        row["weight"] = row["tokens"] if stage.unit == "tokens" else 1
        row["order"] = row["draw"] if sign is None else sign * row["distance"] if row["distance"] is not None else None
    key = lambda row: (row["order"], row["id"], row["origin_hash"])  # noqa: E731
    live = [row for row in rows if row["cluster"] is not None]
    names = sorted({row["cluster"] for row in live})
    members = [sorted((r for r in live if r["cluster"] == name), key=key) for name in names]
    sizes = [sum(r["weight"] for r in m) for m in members]
    budget = math.floor(stage.keep * sum(sizes) + 1e-9)
    quotas = slow_quotas(members, sizes, budget, stage)
    kept, gaps, left = set(), [], budget
    for number, (quota, rank) in enumerate(zip(quotas, members, strict=True)):
        for row in rank:
            if row["weight"] > quota:
                gaps.append((-quota, number, row))
                break
            quota -= row["weight"]
            left -= row["weight"]
            kept.add(id(row))
    rest = sorted((r for r in live if id(r) not in kept), key=key)
    if stage.by != "prototypes":
        rest = [row for _, _, row in sorted(gaps, key=lambda gap: gap[:2])]
    for row in rest:
        if left <= 0:
            break
        left -= row["weight"]
        kept.add(id(row))
    place = {id(row): (i + 0.5) / len(rank) for rank in members for i, row in enumerate(rank)}
    return [(id(r) in place and id(r) not in kept, place.get(id(r))) for r in rows]


def slow_quotas(members, sizes, budget, stage):
    """How much each cluster keeps for certain."""
    balance = {"prototypes": 0.5, "density": 0.0}.get(stage.by) if stage.balance is None else stage.balance
    if not members:
        return []
    floor = math.floor(Fraction(str(balance)) * budget / len(members)) if balance is not None else 0
    if stage.by == "prototypes":
        return [min(size, floor) for size in sizes]
    if stage.by == "budget":
        if stage.score is None:
            return slow_waterfill_fast(sizes, budget)
        return slow_largest_remainder(slow_proportional(slow_means(members), sizes, budget), sizes, budget)
    if len(members) == 1:
        return [budget]
    low = [
        0 if len(m) < 2 else m[0]["weight"] if balance == 0 else min(floor, s - m[-1]["weight"])
        for m, s in zip(members, sizes, strict=True)
    ]
    complexity = slow_complexity(members, stage.neighbours, stage.tau_mode)
    powers = [math.exp((c - max(complexity)) / stage.temperature) for c in complexity]
    target = [p / sum(powers) * budget for p in powers]
    return slow_largest_remainder(slow_shift(target, low, sizes, budget), sizes, budget)


def slow_means(members):
    """The mean score of each cluster; of one without scores, the mean of the others."""
    scores = [[r["score"] for r in m if r["score"] is not None] for m in members]
    means = [math.fsum(s) / len(s) if s else None for s in scores]
    known = [m for m in means if m is not None]
    return [math.fsum(known) / len(known) if m is None else m for m in means]
