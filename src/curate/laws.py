"""How much text a model wants, what repeated text is worth, and how large a vocabulary should be: published laws.

Losses are in nats per token. All tokens are tokens of one tokenizer. The catch: every constant was fitted to the data,
tokenizer and recipe of its authors. Differences between plans carry over better than losses do; see `Law.caveat`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from curate.errors import RecipeError

REPEATS = 15.387756
"""R_D*: the decay constant of repeated data, in repeats beyond the first pass. Muennighoff et al. 2023 (arXiv
2305.16264), with the digits of the README of huggingface/datablations."""

EXCESS = 5.309743
"""R_N*: the same for parameters beyond what is optimal for the unique tokens; same source."""

RATIO = 20.0
"""Tokens to a parameter at the compute optimum, as a rule of thumb (Hoffmann et al. 2022, arXiv 2203.15556)."""

FREE, VAIN = 4.0, 16.0
"""Epochs up to which repeated text is nearly as good as new, and from which more of it gains next to nothing
(Muennighoff et al. 2023; Xue et al. 2023, To Repeat or Not To Repeat, arXiv 2305.13230)."""


@dataclass(frozen=True)
class Law:
    """L(N, D) = floor + parameter_scale / N^parameter_exponent + token_scale / D^token_exponent."""

    floor: float
    parameter_scale: float
    token_scale: float
    parameter_exponent: float
    token_exponent: float
    source: str
    caveat: str

    @property
    def balance(self) -> float:
        """G, of which N = G (C/6)^(b/(a+b)) and D = (C/6)^(a/(a+b)) / G at the optimum of compute C."""
        a, b = self.parameter_exponent, self.token_exponent
        return float((a * self.parameter_scale / (b * self.token_scale)) ** (1 / (a + b)))


LAWS = {
    "c4": Law(
        math.exp(0.6254804),
        math.exp(6.255414),
        math.exp(7.3049974),
        0.3526596,
        0.3526596,
        "Muennighoff et al. 2023 (arXiv 2305.16264), C4 with the GPT-2 tokenizer",
        "the only one fitted together with repeats; its losses lie some 0.2 below those of its authors' own runs",
    ),
    "replication": Law(
        1.8172,
        482.01,
        2085.43,
        0.3478,
        0.3658,
        "Besiroglu et al. 2024 (arXiv 2404.10102), the runs of Hoffmann et al. fitted again",
        "other data and another tokenizer than C4: compare no loss with those of other laws",
    ),
    "hoffmann": Law(
        1.69,
        406.4,
        410.7,
        0.34,
        0.28,
        "Hoffmann et al. 2022 (arXiv 2203.15556), approach 3 as printed",
        "its optimum is 40 and more tokens to a parameter, against its authors' own 20: not for planning",
    ),
}


def effective(unique: float, seen: float, *, repeats: float = REPEATS) -> float:
    """Tokens of new text that `seen` tokens drawn from `unique` ones are worth (arXiv 2305.16264, D_eff).

    Up to `unique` it is `seen`; its limit is unique * (1 + repeats). RecipeError for numbers below 0, or text that is
    seen though there is none.
    """
    _wanted("repeats", repeats, repeats > 0)
    _wanted("unique tokens", unique, unique >= 0)
    _wanted("seen tokens", seen, seen >= 0)
    if seen <= unique:
        return seen
    _wanted("unique tokens", unique, unique > 0)
    return unique - unique * repeats * math.expm1(-(seen / unique - 1) / repeats)


def seen_for(unique: float, worth: float, *, repeats: float = REPEATS) -> float:
    """Tokens to draw from `unique` ones for `worth` effective ones: the inverse of `effective`.

    RecipeError where no number of repeats is enough.
    """
    _wanted("effective tokens", worth, worth >= 0)
    effective(unique, unique, repeats=repeats)
    if worth <= unique:
        return worth
    most = unique * (1 + repeats)
    if worth >= most:
        raise RecipeError(
            f"{worth:.4g} effective tokens cannot be had of {unique:.4g} unique ones, however often they are repeated: "
            f"the limit is {most:.4g}; at least {worth / (1 + repeats):.4g} unique tokens would be needed"
        )
    return unique - unique * repeats * math.log1p(-(worth / unique - 1) / repeats)


def loss(parameters: float, tokens: float, *, unique: float | None = None, law: Law = LAWS["c4"]) -> float:
    """Predicted loss of `parameters` trained on `tokens`, of which `unique` are different ones.

    Without `unique` it is the plain law. With it, repeats and parameters beyond the optimum for the unique tokens are
    discounted, also where `tokens` are fewer (arXiv 2305.16264): REPEATS and EXCESS belong to the law `c4`.
    """
    _wanted("parameters", parameters, parameters > 0)
    _wanted("tokens", tokens, tokens > 0)
    if unique is not None:
        _wanted("unique tokens", unique, unique > 0)
        unique = min(unique, tokens)
        tokens = effective(unique, tokens)
        parameters = _useful(parameters, unique, law)
    return law.floor + _term_of_parameters(parameters, law) + float(law.token_scale / tokens**law.token_exponent)


def required_tokens(parameters: float, target: float, *, unique: float | None = None, law: Law = LAWS["c4"]) -> float:
    """Tokens after which `loss` is `target`. RecipeError, with the lowest loss to be had, where there are none."""
    _wanted("parameters", parameters, parameters > 0)
    useful = parameters if unique is None else _useful(parameters, unique, law)
    lowest = law.floor + _term_of_parameters(useful, law)
    if unique is not None:
        lowest += law.token_scale / (unique * (1 + REPEATS)) ** law.token_exponent
    if target <= lowest:
        of = "" if unique is None else f" on {unique:.4g} unique tokens"
        raise RecipeError(
            f"{parameters:.4g} parameters{of} do not come to a loss of {target:.6g}, however long they train: "
            f"the limit is {lowest:.6g}; take a larger model{'' if unique is None else ' or more text'}"
        )
    if unique is None or loss(parameters, unique, unique=unique, law=law) > target:
        left = target - law.floor - _term_of_parameters(useful, law)
        needed = float((law.token_scale / left) ** (1 / law.token_exponent))
        return needed if unique is None else seen_for(unique, needed)
    low, high = 0.0, math.log(unique)
    return math.exp(_root(lambda size: target - loss(parameters, math.exp(size), unique=unique, law=law), low, high))


def optimum(compute: float, *, law: Law = LAWS["c4"]) -> tuple[float, float]:
    """Parameters and tokens of the lowest loss for `compute` FLOPs = 6 N D."""
    _wanted("compute", compute, compute > 0)
    a, b = law.parameter_exponent, law.token_exponent
    product = compute / 6
    return law.balance * product ** (b / (a + b)), product ** (a / (a + b)) / law.balance


def optimal_tokens(parameters: float, *, law: Law = LAWS["c4"]) -> float:
    """Tokens with which so many parameters are the optimum of their compute."""
    _wanted("parameters", parameters, parameters > 0)
    return float((parameters / law.balance) ** (law.parameter_exponent / law.token_exponent) / law.balance)


def optimal_parameters(tokens: float, *, law: Law = LAWS["c4"]) -> float:
    """Parameters for which so many tokens are the optimum of their compute: N_opt of arXiv 2305.16264."""
    _wanted("tokens", tokens, tokens > 0)
    return float((tokens * law.balance) ** (law.token_exponent / law.parameter_exponent) * law.balance)


def tokens_for(parameters: float, ratio: float = RATIO) -> float:
    """Tokens at `ratio` tokens to a parameter."""
    _wanted("parameters", parameters, parameters > 0)
    _wanted("ratio", ratio, ratio > 0)
    return parameters * ratio


def excess_compute(parameters: float, tokens: float, *, law: Law = LAWS["c4"]) -> float:
    """How many times the compute is spent that the best size of model needs for the same loss; 1 at the optimum.

    Where both terms are in balance, as at the optimum, the term of the parameters is b / (a + b) of what can be
    reduced, so that the size follows from the loss in closed form.
    """
    reducible = loss(parameters, tokens, law=law) - law.floor
    a, b = law.parameter_exponent, law.token_exponent
    best = float((law.parameter_scale * (a + b) / (b * reducible)) ** (1 / a))
    return parameters * tokens / (best * optimal_tokens(best, law=law))


EPOCHS = (1.0, 2.0, 4.0, 8.0, 16.0, 40.0)


def epochs_table(
    unique: float, *, epochs: Sequence[float] = EPOCHS, repeats: float = REPEATS
) -> list[dict[str, float]]:
    """For numbers of epochs over `unique` tokens: `seen`, `effective`, the `multiple` of unique tokens that this is,
    the share `of_fresh` text that it is worth, and the worth `of_next` token against a new one."""
    rows = []
    for each in epochs:
        worth = effective(unique, each * unique, repeats=repeats)
        rows.append(
            {
                "epochs": each,
                "seen": each * unique,
                "effective": worth,
                "multiple": worth / unique,
                "of_fresh": worth / (each * unique),
                "of_next": math.exp(-max(each - 1, 0.0) / repeats),
            }
        )
    return rows


def warning(epochs: float) -> str | None:
    """What to say of so many epochs; None up to 4."""
    if epochs <= FREE:
        return None
    if epochs <= VAIN:
        return f"{epochs:.1f} epochs: above {FREE:.0f}, repeated text is worth clearly less than new text"
    return f"{epochs:.1f} epochs: above {VAIN:.0f}, more repeats gain next to nothing, and the model learns by heart"


# Scaling laws with vocabulary (Tao et al. 2024, arXiv 2407.13623); constants of sail-sg/scaling-with-vocab.
_WIDTHS = (
    (50e6, 512),
    (200e6, 768),
    (500e6, 1024),
    (1e9, 1536),
    (2e9, 2048),
    (5e9, 3200),
    (10e9, 4096),
    (20e9, 5120),
    (50e9, 6048),
    (100e9, 8192),
    (200e9, 12288),
    (500e9, 16384),
)
_SIZE_BY_COMPUTE = -2.4846510161625193  # ln of N_nv / sqrt(C)
_SAME_BY_COMPUTE = (-1.589031299255507, 0.4163622634135234)  # approach 1: ln and exponent of the vocabulary's part
_SAME_BY_SIZE = (3145728.0, 33e6, 0.8353974035228025)  # approach 2: the vocabulary's part at 33M, and the exponent
_BY_LOSS = (0.19584238398665638, 0.6707374679896795, 2.1241123120064955, 0.44660634152009615)  # A2, a2, B, beta
_PER_CHARACTER = (0.00639222, -0.15811069, 1.20470122)
_LARGEST_FITTED = 200_000


@dataclass(frozen=True)
class Vocabulary:
    """Best sizes by three approaches: `by_compute` (equal-compute curves), `by_derivative`, `by_loss` (parametric,
    the only one that depends on how long the model trains). `width` is that of the embedding."""

    width: int
    by_compute: int
    by_derivative: int
    by_loss: int

    @property
    def rounded(self) -> int:
        """The last, at the nearest multiple of 128, which accelerators like."""
        return max(128, round(self.by_loss / 128) * 128)


def width_for(parameters: float) -> int:
    """Width of a usual model of so many parameters without vocabulary; the table ends at 500e9."""
    _wanted("parameters", parameters, 0 < parameters <= _WIDTHS[-1][0])
    return next(width for most, width in _WIDTHS if parameters <= most)


def vocabulary(parameters: float, *, width: int | None = None, compute: float | None = None) -> Vocabulary:
    """Best vocabulary for `parameters`, those of the vocabulary not counted, by arXiv 2407.13623.

    `width`: of the embedding (default that of a usual model). `compute`: FLOPs to train with (default the optimal for
    the size); over-training wants a larger vocabulary. Fitted on 33M to 3B parameters; the rest is extrapolated.
    """
    _wanted("parameters", parameters, parameters > 0)
    width = width_for(parameters) if width is None else width
    _wanted("width", width, width > 0)
    best = (parameters / math.exp(_SIZE_BY_COMPUTE)) ** 2
    compute = best if compute is None else compute
    _wanted("compute", compute, compute > 0)
    scale, exponent = _SAME_BY_COMPUTE
    anchor, size, power = _SAME_BY_SIZE
    parts = (
        math.exp(scale) * best**exponent,
        anchor * (parameters / size) ** power,
        _part_by_loss(parameters, compute),
    )
    return Vocabulary(width, *(int(part / width) for part in parts))


def tokens_per_character(size: int) -> float:
    """Tokens to a character of English text for a vocabulary of `size` (arXiv 2407.13623; flat above 200,000)."""
    _wanted("vocabulary", size, size > 0)
    square, linear, rest = _PER_CHARACTER
    logarithm = math.log(min(size, _LARGEST_FITTED))
    return square * logarithm**2 + linear * logarithm + rest


def _part_by_loss(parameters: float, compute: float) -> float:
    """Parameters x of the vocabulary at which the loss A2 / x^a2 + B (6 (N + x) / C)^beta is least, in the units of
    the fit: parameters in millions, compute in 1e15. Its slope rises once through 0."""
    scale, power, data_scale, data_power = _BY_LOSS
    others = parameters / 1e6
    factor = math.log(data_scale * data_power) + data_power * math.log(6 / (compute / 1e15))
    falling = math.log(power * scale)

    def slope(size: float) -> float:
        return factor + (data_power - 1) * math.log(others + math.exp(size)) - falling + (power + 1) * size

    return math.exp(_root(slope, -100.0, 100.0)) * 1e6


def _term_of_parameters(parameters: float, law: Law) -> float:
    return float(law.parameter_scale / parameters**law.parameter_exponent)


def _useful(parameters: float, unique: float, law: Law) -> float:
    """N_eff: parameters beyond the optimum for `unique` tokens, discounted."""
    _wanted("unique tokens", unique, unique > 0)
    best = optimal_parameters(unique, law=law)
    return effective(min(parameters, best), parameters, repeats=EXCESS)


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is 0, by halving; an end where it has no sign change."""
    for _ in range(200):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return high


def _wanted(name: str, value: Any, right: bool) -> None:
    if not (right and math.isfinite(value)):
        raise RecipeError(f"{name}: found {value}, which is out of range; a finite number above 0 is wanted")
