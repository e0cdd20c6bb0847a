"""What a phase of training asks for, as exact amounts of tokens by group.

A group is what quotas are for: a source, or a quality bucket of one (`SOURCE/BUCKET`). Names in a target are groups or
sources; what a source is given its buckets share in proportion to their tokens. Seven kinds of target: `weights`,
`counts`, `epochs`, `temperature`, `unimax`, `utility`, and without any the natural shares. Nothing here knows of caps,
except that `utility` spends where there is room. Numbers are read as the decimals they are written as, so that shares
of 0.1 are tenths.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from numbers import Rational
from typing import Any

from curate.apportion import Row
from curate.errors import RecipeError, nearest
from curate.laws import REPEATS

WHOLE = "all"
"""What the only phase of a mixture is called."""

HALF_LIVES = (1e-6, 1e9)
"""Epochs between which a half-life lies: beyond, repeats are worth nothing or do not wear out, and floats do."""

TARGETS = ("weights", "counts", "epochs", "temperature", "unimax", "utility")


@dataclass(frozen=True)
class Available:
    """What a group holds: tokens and documents. Without `source` it is the group's name before the first `/`."""

    tokens: int
    documents: int = 0
    source: str | None = None


@dataclass(frozen=True)
class Phase:
    """A stretch of training: its size (`share` of the budget or `tokens`; without both, what the others leave) and
    one target, or none for the natural shares.

    `weights`: relative shares. `counts`: tokens, the remainder to `rest`. `epochs`: so many of this phase, the
    remainder to `rest` or else to all that are not named, in proportion. `temperature` T: sources in proportion to
    tokens^(1/T). `unimax` N: as equal as N epochs allow (arXiv 2304.09151). `utility`: worth of a token of each, spent
    where the discounted worth is largest; `half_lives`: epochs after which a repeat of some of these is worth half
    (those without have the decay of `laws.REPEATS`).
    """

    name: str = WHOLE
    share: float | None = None
    tokens: int | None = None
    weights: Mapping[str, float] | None = None
    counts: Mapping[str, int] | None = None
    epochs: Mapping[str, float] | None = None
    temperature: float | None = None
    unimax: float | None = None
    utility: Mapping[str, float] | None = None
    rest: str | None = None
    half_lives: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        given = [target for target in TARGETS if getattr(self, target) is not None]
        if len(given) > 1:
            raise RecipeError(f"phase '{self.name}' has {' and '.join(given)}; a phase has one target")
        if self.rest is not None and self.kind not in ("counts", "epochs"):
            raise RecipeError(f"phase '{self.name}' has `rest`, which goes with `counts` or `epochs`")
        if self.rest is not None and self.rest in getattr(self, self.kind):
            raise RecipeError(f"phase '{self.name}' names '{self.rest}' in `{self.kind}` and as `rest`; name it once")
        if self.share is not None and self.tokens is not None:
            raise RecipeError(f"phase '{self.name}' has `share` and `tokens`; its size is one of them")
        for size in ("share", "tokens"):
            positive(getattr(self, size), f"`{size}` of phase '{self.name}'")
        for target in ("temperature", "unimax"):
            positive(getattr(self, target), f"`{target}` of phase '{self.name}'")
        for target in ("weights", "counts", "epochs", "utility"):
            named = getattr(self, target)
            if named is None:
                continue
            for name, value in named.items():
                if not 0 <= value <= sys.float_info.max:
                    raise RecipeError(
                        f"`{target}` of '{name}' in phase '{self.name}' is {value}; it is finite and 0 or more"
                    )
            if (target in ("weights", "utility") or (target == "counts" and not self.rest)) and not any(named.values()):
                raise RecipeError(f"`{target}` of phase '{self.name}' names nothing above 0")
        for name, epochs in (self.half_lives or {}).items():
            positive(epochs, f"the half-life of '{name}' in phase '{self.name}'")
            if not HALF_LIVES[0] <= epochs <= HALF_LIVES[1]:
                raise RecipeError(
                    f"the half-life of '{name}' in phase '{self.name}' is {epochs:g} epochs; it is between "
                    f"{HALF_LIVES[0]:g} and {HALF_LIVES[1]:g}: cap epochs at 1 for text that is never to be repeated, "
                    "and give text that does not wear out a long one"
                )
            if name not in (self.utility or {}):
                raise RecipeError(f"phase '{self.name}' has a half-life of '{name}', of which `utility` says no worth")
        if any(value != int(value) for value in (self.counts or {}).values()):
            raise RecipeError(f"`counts` of phase '{self.name}' are whole numbers of tokens")

    @property
    def kind(self) -> str:
        """The name of the target."""
        return next((target for target in TARGETS if getattr(self, target) is not None), "natural")

    @property
    def target(self) -> dict[str, Any]:
        """The target as JSON."""
        value = getattr(self, self.kind, None)
        if isinstance(value, Mapping):
            value = {name: number if isinstance(number, int) else float(number) for name, number in value.items()}
        rest: dict[str, Any] = {"rest": self.rest} if self.rest is not None else {}
        if self.half_lives:
            rest["half_lives"] = {name: float(epochs) for name, epochs in self.half_lives.items()}
        return {self.kind: float(value) if isinstance(value, Rational) else value, **rest}


class Unfit(Exception):
    """A phase cannot be what it asks for: it has too few tokens for it (`small`), or too many (`large`).

    `needed` and `allowed` are tokens: what is fixed and the phase's size, or its size and what its groups may give.
    """

    def __init__(self, grade: str, phase: Phase, groups: Sequence[int], needed: Fraction, allowed: Fraction):
        self.grade, self.phase, self.groups = grade, phase, tuple(groups)
        self.needed, self.allowed = needed, allowed
        super().__init__(f"phase '{phase.name}': {grade}")


@dataclass(frozen=True)
class Groups:
    """The groups that hold tokens, by name."""

    names: tuple[str, ...]
    tokens: tuple[int, ...]
    sources: tuple[str, ...]

    @staticmethod
    def of(available: Mapping[str, Available]) -> "Groups":
        """Sorted by name, so that no order of theirs counts. RecipeError if nothing holds a token."""
        names = tuple(sorted(name for name, one in available.items() if one.tokens))
        if not names:
            raise RecipeError("a mixture needs documents to draw from, and no group holds a token")
        for name in names:
            if available[name].tokens < 0:
                raise RecipeError(f"'{name}' holds {available[name].tokens} tokens; it is 0 or more")
        sources = tuple(source_of(name, available[name]) for name in names)
        return Groups(names, tuple(available[name].tokens for name in names), sources)

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        made: dict[str, list[int]] = {}
        for i, (name, source) in enumerate(zip(self.names, self.sources, strict=True)):
            for each in {name, source}:
                made.setdefault(each, []).append(i)
        return made

    def find(self, name: str) -> list[int]:
        """The groups that a name means. RecipeError if there are none."""
        found = self._places.get(name)
        if not found:
            known = sorted({*self.names, *self.sources})
            hint = nearest(name, known) or "; there are " + ", ".join(known[:20])
            raise RecipeError(f"no documents of '{name}'{hint}")
        return found

    def spread(self, named: Mapping[str, Fraction]) -> Row:
        """What each name is given, shared among its groups in proportion to their tokens."""
        made, owner = [Fraction(0)] * len(self.names), [""] * len(self.names)
        for name, amount in named.items():
            mine = self.find(name)
            for i in mine:
                if owner[i]:
                    raise RecipeError(f"'{owner[i]}' and '{name}' both name '{self.names[i]}'; name it once")
                owner[i] = name
            held = sum(self.tokens[i] for i in mine)
            for i in mine:
                made[i] = amount * self.tokens[i] / held
        return made

    def named(self, names: Mapping[str, Any]) -> list[int]:
        """The groups that any of the names means."""
        return sorted({i for name in names for i in self.find(name)})

    def held(self) -> dict[str, int]:
        """Tokens by source."""
        made: dict[str, int] = {}
        for source, tokens in zip(self.sources, self.tokens, strict=True):
            made[source] = made.get(source, 0) + tokens
        return dict(sorted(made.items()))


def source_of(name: str, available: Available) -> str:
    """The source of a group."""
    return name.split("/", 1)[0] if available.source is None else available.source


def exact(value: float) -> Fraction:
    """A number as the decimals it is written as."""
    return Fraction(value) if isinstance(value, Rational) else Fraction(repr(float(value)))


def positive(value: float | None, what: str) -> None:
    """RecipeError unless the value is absent, or finite and above 0."""
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise RecipeError(f"{what} is {value}; it is above 0 and finite")


def wants(phase: Phase, groups: Groups, size: Fraction, room: Sequence[Fraction]) -> Row:
    """The exact tokens of each group that a phase of `size` tokens asks for; they sum to `size`.

    `room`: what each group has left under its cap, which `utility` alone looks at. Raises Unfit.
    """
    kinds: dict[str, Callable[[], Row]] = {
        "natural": lambda: groups.spread({s: size * n / sum(groups.tokens) for s, n in groups.held().items()}),
        "weights": lambda: _weighed({n: exact(w) for n, w in (phase.weights or {}).items() if w}, groups, size),
        "temperature": lambda: _weighed(_flattened(groups.held(), phase.temperature or 1.0), groups, size),
        "counts": lambda: _counted(phase, groups, size),
        "epochs": lambda: _repeated(phase, groups, size),
        "unimax": lambda: _unimax(phase, groups, size),
        "utility": lambda: _worth(phase, groups, size, room),
    }
    return kinds[phase.kind]()


def unimax(tokens: Mapping[str, int], budget: Fraction | int, epochs: float) -> tuple[dict[str, Fraction], Fraction]:
    """Tokens by name, and what is left of the budget: from the smallest on, an equal part of what is left, but at most
    `epochs` epochs (UniMax, arXiv 2304.09151, algorithm 1). Ties by name."""
    left, most = Fraction(budget), exact(epochs)
    order = sorted(tokens, key=lambda name: (tokens[name], name))
    made = {}
    for place, name in enumerate(order):
        made[name] = min(left / (len(order) - place), most * tokens[name])
        left -= made[name]
    return made, left


def without(weights: Mapping[str, float], name: str) -> dict[str, float]:
    """The weights with one left out and the others scaled up: w_k / (1 - w_i) (leave one domain out, arXiv 2406.03476).

    RecipeError if it is not there or is all there is.
    """
    if name not in weights:
        raise RecipeError(f"'{name}' has no weight{nearest(name, list(weights))}")
    total = sum(map(exact, weights.values()), Fraction(0))
    left = total - exact(weights[name])
    if left <= 0:
        raise RecipeError(f"'{name}' is the whole mixture; without it nothing is left")
    return {other: float(exact(weight) / left) for other, weight in weights.items() if other != name}


def _weighed(weights: Mapping[str, Fraction], groups: Groups, size: Fraction) -> Row:
    total = sum(weights.values())
    return groups.spread({name: size * weight / total for name, weight in weights.items()})


def _flattened(tokens: Mapping[str, int], temperature: float) -> dict[str, Fraction]:
    if temperature == 1:
        return {name: Fraction(count) for name, count in tokens.items()}
    top = math.log(max(tokens.values()))
    return {name: Fraction(math.exp((math.log(n) - top) / temperature)) for name, n in tokens.items()}


def _counted(phase: Phase, groups: Groups, size: Fraction) -> Row:
    counts = {name: Fraction(count) for name, count in (phase.counts or {}).items()}
    return _with_rest(phase, groups, size, counts)


def _repeated(phase: Phase, groups: Groups, size: Fraction) -> Row:
    named = phase.epochs or {}
    tokens = {name: exact(n) * sum(groups.tokens[i] for i in groups.find(name)) for name, n in named.items()}
    return _with_rest(phase, groups, size, tokens)


def _with_rest(phase: Phase, groups: Groups, size: Fraction, fixed: dict[str, Fraction]) -> Row:
    given, mine = groups.spread(fixed), groups.named(fixed)
    left = size - sum(given, Fraction(0))
    if phase.rest is not None:
        rest = groups.spread({**dict.fromkeys(fixed, Fraction(0)), phase.rest: left})
        given = [a + b for a, b in zip(given, rest, strict=True)]
    elif phase.kind == "epochs":
        others = [i for i in range(len(given)) if i not in set(mine)]
        held = sum(groups.tokens[i] for i in others)
        for i in others:
            given[i] = left * groups.tokens[i] / held
    if left < 0:
        raise Unfit("small", phase, mine, size - left, size)
    if left and sum(given, Fraction(0)) != size:
        raise Unfit("large", phase, mine, size, size - left)
    return given


def _unimax(phase: Phase, groups: Groups, size: Fraction) -> Row:
    made, left = unimax(groups.held(), size, phase.unimax or 1.0)
    if left:
        raise Unfit("large", phase, range(len(groups.names)), size, size - left)
    return groups.spread(made)


def _worth(phase: Phase, groups: Groups, size: Fraction, room: Sequence[Fraction]) -> Row:
    from curate.utility import allocate

    if not size:
        return [Fraction(0)] * len(groups.names)
    worth: dict[int, float] = {}
    repeats: dict[str, float] = {}
    for name, value in (phase.utility or {}).items():
        for i in groups.find(name):
            if i in worth:
                raise RecipeError(f"`utility` of phase '{phase.name}' names '{groups.names[i]}' twice; name it once")
            worth[i] = value
            if name in (phase.half_lives or {}):
                repeats[groups.names[i]] = (phase.half_lives or {})[name] / math.log(2)
    some = sorted(i for i, value in worth.items() if value)
    left = {i: max(0, math.floor(room[i])) for i in some}
    held = sum((max(room[i], Fraction(0)) for i in some), Fraction(0))
    if held < size:
        raise Unfit("large", phase, some, size, held)
    if sum(left.values()) < size:  # all there is, but for fractions of tokens
        return [max(room[i], Fraction(0)) * size / held if i in left else Fraction(0) for i in range(len(room))]
    some = [i for i in some if left[i]]
    names = [groups.names[i] for i in some]
    # Half a token above the room: rounded down it is the room, whatever the last bit of the quotient.
    caps = {name: (left[i] + 0.5) / groups.tokens[i] for name, i in zip(names, some, strict=True)}
    budget = min(math.ceil(size), sum(left.values()))
    got = allocate(
        {name: groups.tokens[i] for name, i in zip(names, some, strict=True)},
        {name: worth[i] for name, i in zip(names, some, strict=True)},
        budget,
        caps=caps,
        repeats={name: repeats.get(name, REPEATS) for name in names},
    )
    made = [Fraction(got.get(name, 0)) for name in groups.names]
    return [have * size / budget for have in made]  # the budget is whole, and the phase's size may not be
