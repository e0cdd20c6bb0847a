"""Quotas: worked examples, brute force, and what must hold for all."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle_prune import slow_largest_remainder, slow_proportional, slow_shift, slow_waterfill

from curate.errors import RecipeError
from curate.quotas import clipped_shift, largest_remainder, proportional, waterfill

SIZES = st.lists(st.one_of(st.integers(0, 12), st.integers(0, 10**6)), min_size=1, max_size=12)
WEIGHTS = st.one_of(st.just(0.0), st.just(1.0), st.floats(1e-6, 1e6), st.floats(1e-90, 1e90))


def sized(draw, sizes):
    return draw(st.integers(0, sum(sizes)))


def whole(shares, sizes, budget):
    assert shares.dtype == np.int64
    assert int(shares.sum()) == budget
    assert (shares >= 0).all()
    assert (shares <= np.asarray(sizes)).all()
    return shares.tolist()


def quotas(target, low, sizes, budget):
    return largest_remainder(clipped_shift(target, low, sizes, budget), sizes, budget)


@pytest.mark.parametrize(
    ("sizes", "budget", "shares"),
    [
        ([5, 100, 40, 7], 60, [5, 24, 24, 7]),
        ([3, 3, 100], 30, [3, 3, 24]),
        ([4, 4, 4], 7, [3, 2, 2]),
        ([0, 9], 0, [0, 0]),
    ],
)
def test_equal_shares_of_the_paper_that_overspends(sizes, budget, shares):
    assert whole(waterfill(np.array(sizes), budget), sizes, budget) == shares


def test_budgets_in_proportion_are_spent_to_the_last():
    """Rounded down, these scores would leave 3 of 10 unspent."""
    sizes = np.array([10, 10, 10, 10])
    assert whole(proportional(np.array([0.5, 0.3, 0.2, 0.001]), sizes, 10), sizes, 10) == [5, 3, 2, 0]


def test_density_quotas_of_four_clusters():
    sizes, complexity = np.array([10, 20, 30, 40]), np.array([0.30, 0.20, 0.10, 0.40])
    share = np.exp(complexity / 0.1) / np.exp(complexity / 0.1).sum()
    assert share == pytest.approx([0.236883, 0.087144, 0.032059, 0.643914], abs=1e-6)
    x = clipped_shift(share * 50, np.ones(4, np.int64), sizes, 50)
    assert x == pytest.approx([10, 4.9719, 2.2176, 32.8104], abs=1e-4)
    assert whole(largest_remainder(x, sizes, 50), sizes, 50) == [10, 5, 2, 33]
    assert slow_proportional(share.tolist(), sizes.tolist(), 50) == pytest.approx(
        [10, 4.5678, 1.6804, 33.7518], abs=1e-4
    )
    assert whole(proportional(share, sizes, 50), sizes, 50) == [10, 4, 2, 34]


@given(st.data(), st.lists(st.integers(1, 6), min_size=2, max_size=4))
def test_shift_and_remainders_are_the_best_whole_numbers(data, sizes):
    """Least squares over all whole solutions, tried one by one."""
    low = [data.draw(st.integers(0, size)) for size in sizes]
    budget = data.draw(st.integers(sum(low), sum(sizes)))
    target = [data.draw(st.integers(0, 800)) / 100 for _ in sizes]
    cost = lambda x: sum((Fraction(a) - Fraction(t)) ** 2 for a, t in zip(x, target, strict=True))  # noqa: E731
    every = product(*(range(a, b + 1) for a, b in zip(low, sizes, strict=True)))
    best = min(cost(x) for x in every if sum(x) == budget)
    found = whole(quotas(np.array(target), np.array(low), np.array(sizes), budget), sizes, budget)
    assert all(a >= b for a, b in zip(found, low, strict=True))
    assert float(cost(found)) == pytest.approx(float(best), abs=1e-7)


@given(st.data(), SIZES)
def test_what_is_free_is_shifted_by_one_constant(data, sizes):
    low = [data.draw(st.integers(0, min(size, 3))) for size in sizes]
    budget = data.draw(st.integers(sum(low), sum(sizes)))
    target = np.array([data.draw(st.floats(0, 1e6)) for _ in sizes])
    x = clipped_shift(target, np.array(low), np.array(sizes), budget)
    assert float(x.sum()) == pytest.approx(budget, abs=1e-6)
    assert ((x >= low) & (x <= sizes)).all()
    free = (x > low) & (x < sizes)
    shift = (x - target)[free]
    assert not free.any() or np.ptp(shift) < 1e-8
    assert x == pytest.approx([float(v) for v in slow_shift(target.tolist(), low, sizes, budget)], abs=1e-6)


def test_equal_clusters_get_equal_quotas_and_temperature_sets_how_unequal():
    sizes, low = np.full(4, 25), np.ones(4, np.int64)
    assert quotas(np.full(4, 10.0), low, sizes, 40).tolist() == [10, 10, 10, 10]
    # Nothing but the first is wanted: it is full, and the rest is spread equally.
    assert quotas(np.array([55.0, 0, 0, 0]), low, sizes, 55).tolist() == [25, 10, 10, 10]


@given(st.data(), SIZES)
def test_waterfill_is_one_for_each_in_turn(data, sizes):
    sizes = [min(size, 40) for size in sizes]
    budget = data.draw(st.integers(0, sum(sizes)))
    assert whole(waterfill(np.array(sizes), budget), sizes, budget) == slow_waterfill(sizes, budget)


@given(st.data(), SIZES)
def test_proportions_with_caps(data, sizes):
    weights = [data.draw(WEIGHTS) for _ in sizes]
    budget = data.draw(st.integers(0, sum(sizes)))
    found = whole(proportional(np.array(weights), np.array(sizes), budget), sizes, budget)
    exact = slow_proportional(weights, sizes, budget)
    assert all(abs(a - b) < 1 + 1e-6 for a, b in zip(found, exact, strict=True))


@given(st.data(), SIZES)
def test_remainders(data, sizes):
    shares = [data.draw(st.integers(0, 100 * size)) / 100 for size in sizes]
    budget = data.draw(st.integers(0, sum(sizes)))
    found = whole(largest_remainder(np.array(shares), np.array(sizes), budget), sizes, budget)
    near = round(sum(shares))
    if near <= sum(sizes):
        found = whole(largest_remainder(np.array(shares), np.array(sizes), near), sizes, near)
        assert found == slow_largest_remainder(shares, sizes, near)
        assert all(abs(a - b) < 1 for a, b in zip(found, shares, strict=True))


def test_what_cannot_be_met_is_refused_with_what_can():
    sizes = np.array([2, 3])
    for share in (lambda b: waterfill(sizes, b), lambda b: proportional(np.ones(2), sizes, b)):
        with pytest.raises(RecipeError, match=r"a budget of 6 cannot be met .* hold 5; 5 is the nearest feasible"):
            share(6)
    with pytest.raises(RecipeError, match="nearest"):
        largest_remainder(np.ones(2), sizes, -1)
    with pytest.raises(RecipeError, match="2 is the smallest feasible budget"):
        clipped_shift(np.ones(2), np.ones(2, np.int64), sizes, 1)
    with pytest.raises(RecipeError, match="at most what the cluster holds"):
        clipped_shift(np.ones(2), np.array([3, 0]), sizes, 4)
    with pytest.raises(RecipeError, match="a weight for each cluster"):
        proportional(np.array([1.0, -1.0]), sizes, 2)
    with pytest.raises(RecipeError, match="finite target"):
        clipped_shift(np.array([1.0, np.nan]), np.ones(2, np.int64), sizes, 2)
    with pytest.raises(RecipeError, match="whole numbers"):
        waterfill(np.array([-1]), 0)
