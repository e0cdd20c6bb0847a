"""How many rows, or tokens, each cluster may keep: whole numbers that sum to the budget exactly.

Four ways to share a budget among clusters that hold so and so much each: the same for all (`waterfill`), in proportion
to weights (`proportional`), as near as may be to wanted numbers in the sense of least squares (`clipped_shift`), and
the nearest whole numbers (`largest_remainder`). All give 0 <= x <= sizes, all depend on nothing but their arguments,
and ties go to the cluster that comes first. The catch: shares are float64, so budgets above some 10^15 may be one off
the ideal in a cluster, though never in the sum.
"""

import numpy as np
from numpy.typing import NDArray

from curate.errors import RecipeError

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]

_DIGITS = 9  # shares that agree to so many decimals count as equal, whatever the last bits of a machine's exp are
_HALVINGS = 200


def waterfill(sizes: Int64s, budget: int) -> Int64s:
    """Equal shares, with caps: everyone gets min(size, level), and what is left over goes to the first, one each.

    `sizes` int64[k]; gives int64[k] that sums to `budget`. RecipeError if there is not so much. (The exact form of the
    cluster budgets of Adapt-infinity, arXiv 2410.10636, whose rounding overspends.)
    """
    sizes = _checked(sizes, budget)
    ordered = np.sort(sizes)
    # At level ordered[i] all before i are full, and i and those behind have got that much each.
    reached = np.cumsum(ordered) - ordered + ordered * np.arange(len(sizes), 0, -1)
    full = int(np.searchsorted(reached, budget))  # so many are full for certain
    if full == len(sizes):
        return sizes.copy()
    level, over = divmod(budget - int(ordered[:full].sum()), len(sizes) - full)
    shares = np.minimum(sizes, level)
    shares[np.flatnonzero(sizes > level)[:over]] += 1
    return shares


def proportional(weights: Float64s, sizes: Int64s, budget: int) -> Int64s:
    """Shares in proportion to `weights` float64[k], 0 or more; what a full cluster cannot take goes to the others, in
    proportion again. Clusters of weight 0 get something only when all others are full, and then equal shares.

    `sizes` int64[k]; gives int64[k] that sums to `budget`. RecipeError for other weights or if there is not so much.
    (The general form of the cluster budgets of PASER, whose rounding down leaves a part of the budget unspent.)
    """
    sizes = _checked(sizes, budget)
    weights = np.asarray(weights, np.float64)
    if weights.shape != sizes.shape or not (np.isfinite(weights) & (weights >= 0)).all():
        raise RecipeError("budgets in proportion need a weight for each cluster, 0 or more and finite")
    shares = np.zeros(len(sizes), np.int64)
    some = np.flatnonzero((weights > 0) & (sizes > 0))
    capacity = int(sizes[some].sum())
    if capacity <= budget:
        shares[some] = sizes[some]
        others = np.setdiff1d(np.arange(len(sizes)), some)
        shares[others] = waterfill(sizes[others], budget - capacity)
        return shares
    weight = weights[some] / weights[some].max()
    small = weight < 1e-150  # beside the others nothing, until those are full; sums of both would lose them
    if small.any():
        first = min(budget, int(sizes[some[~small]].sum()))
        for part, given in ((some[~small], first), (some[small], budget - first)):
            shares[part] = proportional(weights[part], sizes[part], given)
        return shares
    full_at = sizes[some] / weight  # the factor at which each is full
    order = np.argsort(full_at, kind="stable")
    held = np.cumsum(sizes[some][order]) - sizes[some][order]
    open_weight = np.cumsum(weight[order][::-1])[::-1]
    full = int(np.searchsorted(held + full_at[order] * open_weight, budget))
    full = min(full, len(some) - 1)
    factor = (budget - int(held[full])) / open_weight[full]
    shares[some] = largest_remainder(np.minimum(factor * weight, sizes[some]), sizes[some], budget)
    return shares


def clipped_shift(target: Float64s, low: Int64s, sizes: Int64s, budget: int) -> Float64s:
    """The x nearest to `target` (least squares) with low <= x <= sizes and sum `budget`: clip(target + shift).

    `target` float64[k], `low` and `sizes` int64[k]; gives float64[k], which `largest_remainder` makes whole. The sum
    grows with the shift, which is found by halving. What full clusters cannot take is spread equally over the others.
    RecipeError unless sum(low) <= budget <= sum(sizes). (The quotas of density-based pruning, arXiv 2401.04578; the
    reference solves the same problem with a general solver and rounds, so that its sum may be off.)
    """
    sizes = _checked(sizes, budget)
    low = np.asarray(low, np.int64)
    target = np.asarray(target, np.float64)
    if target.shape != sizes.shape or low.shape != sizes.shape or not np.isfinite(target).all():
        raise RecipeError("quotas need a finite target and a least number for each cluster")
    if (low > sizes).any() or (low < 0).any():
        raise RecipeError("the least number of a cluster is 0 or more and at most what the cluster holds")
    if int(low.sum()) > budget:
        raise RecipeError(
            f"a budget of {budget:,} is less than the {int(low.sum()):,} that the clusters keep at the least; "
            f"{int(low.sum()):,} is the smallest feasible budget"
        )
    if not len(sizes):
        return np.empty(0)
    below, above = float((low - target).min()) - 1, float((sizes - target).max()) + 1
    for _ in range(_HALVINGS):
        middle = (below + above) / 2
        if np.clip(target + middle, low, sizes).sum() < budget:
            below = middle
        else:
            above = middle
    shares: Float64s = np.clip(target + above, low, sizes)
    return shares


def largest_remainder(shares: Float64s, sizes: Int64s, budget: int) -> Int64s:
    """Whole numbers next to `shares` float64[k] that sum to `budget`: round down, then one more for those with the
    largest remainders that are not full, ties to the first.

    `shares` sum to about `budget` and lie between 0 and `sizes` int64[k]. RecipeError if there is not so much.
    """
    sizes = _checked(sizes, budget)
    near = np.round(np.asarray(shares, np.float64), _DIGITS)
    whole = np.clip(np.floor(near), 0, sizes).astype(np.int64)
    order = np.argsort(np.round(whole - near, _DIGITS), kind="stable")
    missing = budget - int(whole.sum())
    while missing:  # once, unless the shares sum to something else
        room = order[whole[order] < sizes[order]] if missing > 0 else order[whole[order] > 0][::-1]
        if abs(missing) < len(room):
            whole[room[: abs(missing)]] += 1 if missing > 0 else -1
        else:
            whole[room] = np.clip(whole[room] + missing // len(room), 0, sizes[room])
        missing = budget - int(whole.sum())
    return whole


def _checked(sizes: Int64s, budget: int) -> Int64s:
    sizes = np.asarray(sizes, np.int64)
    if sizes.ndim != 1 or (sizes < 0).any():
        raise RecipeError("sizes of clusters are whole numbers, 0 or more")
    held = int(sizes.sum())
    if not 0 <= budget <= held:
        raise RecipeError(
            f"a budget of {budget:,} cannot be met by clusters that hold {held:,}; "
            f"{min(max(budget, 0), held):,} is the nearest feasible budget"
        )
    return sizes
