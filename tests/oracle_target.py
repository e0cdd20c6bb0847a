"""Selection towards targets the slow and obvious way: everything sorted at once, turns taken one by one."""

import math
from fractions import Fraction

import numpy as np

from curate import importance


def slow_budget(keep, rows):
    """How much of the weight of the rows is chosen."""
    share = Fraction(1, 3) if keep == 1 / 3 else Fraction(str(keep))
    return math.floor(share * sum(row["weight"] for row in rows))


def cosine(a, b):
    """In steps of 2^-24."""
    product = math.fsum(x * y for x, y in zip(a, b, strict=True))
    lengths = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(y * y for y in b))
    return round(product / lengths * 2**24) / 2**24


def place(row):
    return row["id"], row["origin_hash"]


def slow_turns(rows, targets, *, keep):
    """Chosen, score and task of each row, in their order; rows are dicts of vector, weight, id, origin_hash, targets
    have a task too, or None. Every turn takes one off a list, whether it is still to be had or not."""
    targets = sorted(targets, key=place)
    tasks = [[t] for t in targets]
    if targets[0]["task"] is not None:
        names = sorted({t["task"] for t in targets})
        tasks = [[t for t in targets if t["task"] == name] for name in names]
    scores = [[max(cosine(row["vector"], t["vector"]) for t in task) for row in rows] for task in tasks]
    lists = [sorted(range(len(rows)), key=lambda i: (-score[i], *place(rows[i]))) for score in scores]
    chosen, left, turn = set(), slow_budget(keep, rows), 0
    while left > 0:
        named = lists[turn % len(lists)].pop(0)
        turn += 1
        if named not in chosen:
            chosen.add(named)
            left -= rows[named]["weight"]
    found = []
    for i in range(len(rows)):
        best = max(score[i] for score in scores)
        first = next(n for n, score in enumerate(scores) if score[i] == best)
        found.append((i in chosen, best, tasks[first][0]["task"]))
    return found


def slow_cut(rows, order, *, keep):
    """Which rows are chosen: those of the smallest order, in steps of 2^-32, until their weight reaches the budget."""
    steps = [round(float(value) * 2**32) for value in order]
    chosen, left = set(), slow_budget(keep, rows)
    for i in sorted(range(len(rows)), key=lambda i: (steps[i], *place(rows[i]))):
        if left <= 0:
            break
        chosen.add(i)
        left -= rows[i]["weight"]
    return [i in chosen for i in range(len(rows))]


def slow_gradients(rows, potentials):
    """Of each row: its potential, less the mean of all others'."""
    found = []
    for row in rows:
        terms = []
        for target, g, log_mass in zip(potentials.targets, potentials.g, potentials.log_mass, strict=True):
            cost = 1 - math.fsum(float(x) * float(y) for x, y in zip(row["vector"], target, strict=True))
            terms.append((g - cost) / potentials.epsilon + log_mass)
        most = max(terms)
        found.append(-potentials.epsilon * (most + math.log(math.fsum(math.exp(t - most) for t in terms))))
    if len(found) == 1:
        return found, [0.0]
    return found, [f - (math.fsum(found) - f) / (len(found) - 1) for f in found]


def slow_ratios(rows, targets):
    """Of each row the sum of the log ratios of its features."""

    def features(row):
        text = np.frombuffer(row["text"].encode(), np.uint8)
        return importance.features(np.array([0, len(text)], np.int64), text)[1].tolist()

    counts = np.zeros((2, importance.BUCKETS), np.int64)
    for side, documents in enumerate((targets, rows)):
        for row in documents:
            for feature in features(row):
                counts[side, feature] += 1
    ratio = importance.log_ratio(*counts)
    return [math.fsum(float(ratio[feature]) for feature in features(row)) for row in rows]
