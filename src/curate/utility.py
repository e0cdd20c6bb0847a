"""Which buckets of text to train on, and how often, for a given budget: the better ones first, until repeats wear them
out and fresh text of the next ones is worth more.

Two laws. `error_after` is the quality-quantity law of Goyal et al. 2024 (arXiv 2404.07177): error falls as a power of
what was seen, and the exponent (the utility) of a pool halves every so many epochs. `allocate` is its analogue for
losses of language models: it spends a budget of tokens so that worth times effective tokens (`laws.effective`) is
largest. The catch: a worth holds for the model, the metric and the range of budgets it was fitted on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from curate.errors import RecipeError
from curate.laws import REPEATS
from curate.quotas import largest_remainder

NORMALISER = 1e5
"""Samples are counted in this unit inside the law (the `c` of the repository locuslab/scaling_laws_data_filtering)."""

MOST_EPOCHS = 1_000_000
_HALVINGS = 200

Form = Literal["documented", "repository"]
HalfLives = Literal["scaled", "plain"]


@dataclass(frozen=True)
class Pool:
    """`samples` different ones, of `utility` b < 0 when fresh, which halves every `half_life` epochs (may be inf)."""

    samples: float
    utility: float
    half_life: float

    def __post_init__(self) -> None:
        if not (self.samples > 0 and math.isfinite(self.samples)):
            raise RecipeError(f"a pool of {self.samples} samples: a finite number above 0 is wanted")
        if not (self.utility < 0 and math.isfinite(self.utility)):
            raise RecipeError(f"a utility of {self.utility}: an exponent below 0 is wanted, such as -0.1")
        if not self.half_life > 0:
            raise RecipeError(f"a half-life of {self.half_life} epochs: a number above 0 is wanted")


@dataclass(frozen=True)
class Curve:
    """What all pools of a fit share: `scale` a, which stands inside the power, and `floor` d, which no text gets below.

    `form`: `documented` is first * product + d; `repository` is (first + d) * product, which its constants were fitted
    with. `half_lives`: `scaled` lets a pool in a mixture decay as many times slower as the mixture is larger, `plain`
    leaves half-lives as they are; the choice changes which mixture is best.
    """

    scale: float
    floor: float
    form: Form = "documented"
    half_lives: HalfLives = "scaled"

    def __post_init__(self) -> None:
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise RecipeError(f"a scale of {self.scale}: a finite number above 0 is wanted")
        if not 0 <= self.floor < 1:
            raise RecipeError(f"a floor of {self.floor}: an error, 0 or more and below 1, is wanted")
        for name, known in (("form", ("documented", "repository")), ("half_lives", ("scaled", "plain"))):
            if getattr(self, name) not in known:
                raise RecipeError(f"`{name}` is {getattr(self, name)!r}; known are {' and '.join(known)}")


@dataclass(frozen=True)
class Predicted:
    """The error, between 0 and 1. `outside`: the law gave more than 1, or so little was seen that it does not hold."""

    error: float
    outside: bool


def error_after(pools: Sequence[Pool], seen: float, curve: Curve) -> Predicted:
    """The error after `seen` samples of the mixture of all `pools`, drawn in proportion to their sizes.

    In epoch j the mixture's utility is the mean of the pools' utilities b_i 0.5^(j / tau_i), weighted by their samples;
    with scaled half-lives tau_i counts for tau_i * (samples of all) / (samples of i) (arXiv 2404.07177, section 4, as
    in the repository's estimate_best_pool.py; the weights for unequal pools are ours).
    """
    if not pools:
        raise RecipeError("a mixture of no pools: at least one is wanted")
    if not (seen >= 0 and math.isfinite(seen)):
        raise RecipeError(f"{seen} samples seen: a finite number, 0 or more, is wanted")
    size = math.fsum(pool.samples for pool in pools)
    repeats = _repeats(size, seen)
    if not seen:
        return Predicted(1.0, True)
    scaled = curve.half_lives == "scaled"
    lives = [pool.half_life * (size / pool.samples if scaled else 1) for pool in pools]
    parts = [pool.utility * pool.samples / size for pool in pools]
    epochs = np.arange(1, repeats + 1, dtype=np.float64)
    utilities = np.zeros(repeats)
    for part, life in zip(parts, lives, strict=True):
        utilities += part * np.exp2(-epochs / life)
    first = math.log(curve.scale) + math.log(min(size, seen)) - math.log(NORMALISER)
    growth = np.minimum(size * (epochs + 1), seen) / (epochs * size)
    product = math.exp(float(np.dot(utilities, np.log(growth))))
    begun = math.exp(min(first * math.fsum(parts), 700.0))
    if curve.form == "repository":
        error = (begun + curve.floor) * product
    else:
        error = begun * product + curve.floor
    return Predicted(min(error, 1.0), error > 1 or first < 0)


@dataclass(frozen=True)
class Choice:
    """The best of the prefixes of pools in order of utility: the indices to train on (`chosen`), each `epochs` times;
    `order` has all indices, and `predicted` the error of each prefix."""

    chosen: tuple[int, ...]
    epochs: float
    order: tuple[int, ...]
    predicted: tuple[Predicted, ...]


def best_prefix(pools: Sequence[Pool], seen: float, curve: Curve) -> Choice:
    """The 1, 2, ... pools of most utility whose mixture has the least error after `seen` samples; ties to the fewer.

    O(K^2 J) for K pools and J epochs (arXiv 2404.07177).
    """
    if not pools:
        raise RecipeError("a choice among no pools: at least one is wanted")
    order = sorted(range(len(pools)), key=lambda index: (pools[index].utility, index))
    ranked = [pools[index] for index in order]
    predicted = tuple(error_after(ranked[:count], seen, curve) for count in range(1, len(ranked) + 1))
    count = min(range(len(ranked)), key=lambda index: (predicted[index].error, index)) + 1
    size = math.fsum(pool.samples for pool in ranked[:count])
    return Choice(tuple(order[:count]), seen / size, tuple(order), predicted)


def epochs_until(pool: Pool, other: Pool) -> float:
    """Epochs after which what is left of the utility of `pool` is less than that of fresh samples of `other`."""
    return max(0.0, pool.half_life * math.log2(pool.utility / other.utility))


def allocate(
    tokens: Mapping[str, int],
    worth: Mapping[str, float],
    budget: int,
    *,
    caps: Mapping[str, float] | float = math.inf,
    repeats: Mapping[str, float] | float = REPEATS,
) -> dict[str, int]:
    """Tokens to draw from each group so that the sum of worth * effective tokens is largest; they sum to `budget`.

    `tokens`: different ones of each group. `worth`: of a fresh token, 0 or more; groups of 0, or unnamed, get nothing.
    `caps`: most epochs, of all or by group (those unnamed have none). `repeats`: the decay constant R_D* of repeated
    tokens, of all or by group; for a half-life of t epochs it is t / ln 2.
    At the best allocation a further token is worth the same l everywhere, so that a group has
    1 + R ln(worth / l) epochs: l is found by halving. Groups of equal worth get equal epochs. Exact to a token, ties
    by name; so numbers do not depend on the order of groups, and none but for one token falls as the budget grows.
    RecipeError for numbers out of range, unknown names, or a budget above what the caps allow.
    """
    groups = _groups(tokens, worth, caps, repeats)
    if isinstance(budget, bool) or not 0 <= budget < 2**62:
        raise RecipeError(f"a budget of {budget}: a whole number of tokens, 0 or more and below 2^62, is wanted")
    most = [min(budget, group.most) for group in groups]
    if sum(most) < budget:
        can = ", ".join(f"{group.name} {group.most:,}" for group in groups) or "none has a worth above 0"
        raise RecipeError(
            f"a budget of {budget:,} tokens is more than the {sum(most):,} that caps and worths allow ({can}): "
            "lower the budget, raise `caps`, or give more groups a worth"
        )
    given = dict.fromkeys(tokens, 0)
    if budget:
        shares = _spent(groups, np.array(most, np.float64), budget)
        whole = largest_remainder(shares, np.array(most, np.int64), budget)
        given |= {group.name: int(count) for group, count in zip(groups, whole, strict=True)}
    return given


@dataclass(frozen=True)
class _Group:
    name: str
    tokens: int
    worth: float
    most: int
    repeats: float


def _groups(
    tokens: Mapping[str, int],
    worth: Mapping[str, float],
    caps: Mapping[str, float] | float,
    repeats: Mapping[str, float] | float,
) -> list[_Group]:
    """The groups that may get something, by name."""
    for what, given in (("worth", worth), ("caps", caps), ("repeats", repeats)):
        for name in sorted(set(given) - set(tokens)) if isinstance(given, Mapping) else ():
            raise RecipeError(f"`{what}` names '{name}', which is no group; groups are {', '.join(sorted(tokens))}")
    found = []
    for name in sorted(tokens):
        size, value = tokens[name], worth.get(name, 0.0)
        cap = caps.get(name, math.inf) if isinstance(caps, Mapping) else caps
        life = repeats.get(name, REPEATS) if isinstance(repeats, Mapping) else repeats
        if not 0 <= size < 2**62:
            raise RecipeError(f"'{name}' has {size} tokens; a number of 0 or more and below 2^62 is wanted")
        if not (value >= 0 and math.isfinite(value)):
            raise RecipeError(f"the worth of '{name}' is {value}; a finite number, 0 or more, is wanted")
        if not cap >= 0:
            raise RecipeError(f"the cap of '{name}' is {cap} epochs; a number of 0 or more is wanted")
        if not (life > 0 and math.isfinite(life)):
            raise RecipeError(f"the decay constant of '{name}' is {life}; a finite number above 0 is wanted")
        # The decimals as they are written: 0.29 epochs of 100 tokens are 29, not 28.
        most = 2**62 if math.isinf(cap) else min(2**62, math.floor(Fraction(repr(float(cap))) * size))
        if value and size and most:
            found.append(_Group(name, size, value, most, life))
    return found


def _spent(groups: list[_Group], most: np.ndarray, budget: int) -> np.ndarray:
    """float64[k] tokens at the worth of a further token that spends the budget. Logarithms throughout, so that no worth
    is too small."""
    sizes = np.array([group.tokens for group in groups], np.float64)
    worths = np.log([group.worth for group in groups])
    repeats = np.array([group.repeats for group in groups])
    caps = np.array([group.most for group in groups], np.float64)

    def drawn(level: float) -> np.ndarray:
        epochs = np.where(worths > level, 1 + repeats * (worths - level), 0.0)
        return np.minimum(epochs * sizes, caps)

    above = float(worths.max())
    below = float((worths - most / sizes / repeats).min()) - 1
    for _ in range(_HALVINGS):
        middle = (below + above) / 2
        if drawn(middle).sum() < budget:
            above = middle
        else:
            below = middle
    # Between the two lies the first epoch of the groups that are just worth it: they share what is left alike.
    fewer, more = drawn(above), drawn(below)
    gap = float((more - fewer).sum())
    part = min(max((budget - float(fewer.sum())) / gap, 0.0), 1.0) if gap > 0 else 1.0
    return np.asarray(fewer + part * (more - fewer))


def _repeats(size: float, seen: float) -> int:
    """Epochs after the first that are begun or whole."""
    epochs = seen / size
    if epochs > MOST_EPOCHS:
        raise RecipeError(f"{seen:.4g} samples seen of {size:.4g} are {epochs:.4g} epochs; {MOST_EPOCHS:,} is the most")
    return int(epochs)
