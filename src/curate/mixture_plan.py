"""A mixture as a value: how many tokens of which group are drawn in which phase, exactly.

Whole numbers are what counts; shares, epochs, cursors and effective tokens follow from them. Two plans are the same
plan, by `fingerprint`, if they draw the same tokens of the same data in the same order, however they came about.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from curate.errors import DataError, RecipeError
from curate.laws import REPEATS, effective
from curate.manifest import canonical
from curate.policies import Available, source_of

FORMAT = 1
_CLOSE = 1e-9  # numbers of a plan that was read may differ so much, relatively, from what they follow from

_TEXT, _WHOLE, _NUMBER = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "number", "minimum": 0}
_GROUP = {
    "source": _TEXT,
    **dict.fromkeys(("available", "documents", "tokens"), _WHOLE),
    "allowed": {"anyOf": [_WHOLE, {"type": "null"}]},
    **dict.fromkeys(("share", "epochs", "effective"), _NUMBER),
}
_PHASE = {
    "name": _TEXT,
    **dict.fromkeys(("start", "tokens"), _WHOLE),
    "share": _NUMBER,
    "target": {"type": "object"},
    "tokens_by_group": {"type": "object", "additionalProperties": _WHOLE},
    "weights": {"type": "object", "additionalProperties": _NUMBER},
    "epochs_by_group": {"type": "object", "additionalProperties": _NUMBER},
    "cursor": {
        "type": "object",
        "additionalProperties": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2},
    },
}


@dataclass(frozen=True)
class Plan:
    """What is drawn, phase by phase. `quotas[j][group]`: tokens of a group in phase j, above 0; `available`: what the
    groups hold; `targets[j]`: what the phase asked for, as JSON; `allowed`: tokens of a group that its cap allows over
    the run; `warnings`: what a person should know of it."""

    phases: tuple[str, ...]
    quotas: tuple[dict[str, int], ...]
    available: dict[str, Available]
    targets: tuple[dict[str, Any], ...] = ()
    allowed: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """The budget."""
        return sum(self.sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Tokens by phase."""
        return tuple(sum(quota.values()) for quota in self.quotas)

    @property
    def cumulative(self) -> tuple[dict[str, int], ...]:
        """Tokens of every group from the start to the end of each phase: they never fall."""
        drawn, made = dict.fromkeys(sorted(self.available), 0), []
        for quota in self.quotas:
            drawn = {group: tokens + quota.get(group, 0) for group, tokens in drawn.items()}
            made.append(drawn)
        return tuple(made)

    @property
    def drawn(self) -> dict[str, int]:
        """Tokens of every group over the run."""
        return self.cumulative[-1] if self.quotas else dict.fromkeys(sorted(self.available), 0)

    def epochs(self, phase: int | None = None) -> dict[str, Fraction]:
        """How often every group's tokens are drawn in one phase (by its place), or over the run."""
        drawn = self.drawn if phase is None else self.quotas[phase]
        return {group: _ratio(drawn.get(group, 0), one.tokens) for group, one in sorted(self.available.items())}

    def effective(self) -> dict[str, float]:
        """What every group's tokens are worth in tokens seen once (Muennighoff et al., arXiv 2305.16264), by the
        group's own decay where a target has one."""
        made, repeats = {}, self.repeats
        for group, n in self.drawn.items():
            made[group] = float(effective(self.available[group].tokens, n, repeats=repeats[group])) if n else 0.0
        return made

    @property
    def repeats(self) -> dict[str, float]:
        """The decay constant of every group's repeats: of its half-life, or its source's, where a target says one, else
        `laws.REPEATS`."""
        lives: dict[str, float] = {}
        for target in self.targets:
            lives |= target.get("half_lives", {})
        made = {}
        for group, one in self.available.items():
            life = lives.get(group, lives.get(source_of(group, one)))
            made[group] = REPEATS if life is None else life / math.log(2)
        return made

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of what is drawn from what."""
        held = {group: [one.tokens, one.documents] for group, one in self.available.items()}
        phases = [[name, quota] for name, quota in zip(self.phases, self.quotas, strict=True)]
        return hashlib.sha256(canonical({"format": FORMAT, "available": held, "phases": phases})).hexdigest()

    def told(self) -> dict[str, Any]:
        """The plan as JSON (`schemas/mixture.json`)."""
        total, start, phases = self.tokens, 0, []
        before = dict.fromkeys(self.available, 0)
        targets = self.targets or ({},) * len(self.phases)
        for name, quota, target, drawn in zip(self.phases, self.quotas, targets, self.cumulative, strict=True):
            size, quota = sum(quota.values()), dict(sorted(quota.items()))
            held = {group: self.available[group].tokens for group in quota}
            cursor = {g: [float(_ratio(before[g], n)), float(_ratio(drawn[g], n))] for g, n in held.items()}
            phases.append(
                {
                    "name": name,
                    "start": start,
                    "tokens": size,
                    "share": float(_ratio(size, total)),
                    "target": target,
                    "tokens_by_group": quota,
                    "weights": {g: float(_ratio(tokens, size)) for g, tokens in quota.items()},
                    "epochs_by_group": {g: float(_ratio(tokens, held[g])) for g, tokens in quota.items()},
                    "cursor": cursor,
                }
            )
            start, before = start + size, drawn
        drawn, epochs, worth, groups = self.drawn, self.epochs(), self.effective(), {}
        for group, one in sorted(self.available.items()):
            groups[group] = {
                "source": source_of(group, one),
                "available": one.tokens,
                "documents": one.documents,
                "allowed": self.allowed.get(group),
                "tokens": drawn[group],
                "share": float(_ratio(drawn[group], total)),
                "epochs": float(epochs[group]),
                "effective": worth[group],
            }
        told = {"format": FORMAT, "tokens": total, "effective": sum(worth.values())}
        return {**told, "groups": groups, "phases": phases, "warnings": list(self.warnings),
                "fingerprint": self.fingerprint}  # fmt: skip

    @staticmethod
    def read(told: Mapping[str, Any]) -> "Plan":
        """The plan that `told` tells. DataError if it is no plan, or if numbers in it contradict each other."""
        try:
            if told["format"] != FORMAT:
                raise DataError(f"a mixture of format {told['format']!r}; this version reads format {FORMAT}")
            groups, phases = told["groups"], told["phases"]
            plan = Plan(
                tuple(phase["name"] for phase in phases),
                tuple({group: _count(n) for group, n in phase["tokens_by_group"].items()} for phase in phases),
                {g: Available(_count(one["available"]), _count(one["documents"]), one["source"])
                 for g, one in groups.items()},
                tuple(phase["target"] for phase in phases),
                {g: _count(one["allowed"]) for g, one in groups.items() if one["allowed"] is not None},
                tuple(told["warnings"]),
            )  # fmt: skip
            again = plan.told()
        except (KeyError, TypeError, AttributeError, ValueError, RecipeError) as error:
            raise DataError(f"not a mixture: {type(error).__name__} at {error}; see schemas/mixture.json") from error
        where = _differs(told, again, "mixture")
        if where:
            raise DataError(f"{where}, which does not follow from its tokens; the file was changed or is damaged")
        return plan


@dataclass(frozen=True)
class Change:
    """One number that differs: `what` is tokens, start (of a phase) or available (tokens of a group). Without a phase
    tokens are those of the run, without a group those of all; `group` may also be a source, for all of its groups."""

    what: str
    phase: str | None
    group: str | None
    before: int
    after: int


def difference(a: Plan, b: Plan) -> tuple[Change, ...]:
    """What differs from plan `a` to plan `b`: what there is, tokens of the run, of its groups and sources, and the same
    of each phase; phases are told apart by name. Empty exactly if the numbers are equal."""
    changes = []
    for group in sorted({*a.available, *b.available}):
        held = [one.available[group].tokens if group in one.available else 0 for one in (a, b)]
        changes.append(Change("available", None, group, *held))
    changes.append(Change("tokens", None, None, a.tokens, b.tokens))
    over = [_over_the_run(one) for one in (a, b)]
    changes += [
        Change("tokens", None, name, *(one.get(name, 0) for one in over)) for name in sorted({*over[0], *over[1]})
    ]
    quotas = [dict(zip(one.phases, one.quotas, strict=True)) for one in (a, b)]
    starts = [{name: sum(one.sizes[:j]) for j, name in enumerate(one.phases)} for one in (a, b)]
    for phase in dict.fromkeys((*a.phases, *b.phases)):
        changes.append(Change("start", phase, None, *(start.get(phase, 0) for start in starts)))
        drawn = [quota.get(phase, {}) for quota in quotas]
        changes.append(Change("tokens", phase, None, *(sum(quota.values()) for quota in drawn)))
        changes += [
            Change("tokens", phase, group, *(quota.get(group, 0) for quota in drawn))
            for group in sorted({*drawn[0], *drawn[1]})
        ]
    return tuple(change for change in changes if change.before != change.after)


def plan_schema() -> dict[str, Any]:
    """The JSON Schema of `Plan.told()`."""
    return _closed(
        {
            "format": {"const": FORMAT},
            "tokens": _WHOLE,
            "effective": _NUMBER,
            "groups": {"type": "object", "additionalProperties": _closed(_GROUP)},
            "phases": {"type": "array", "items": _closed(_PHASE)},
            "warnings": {"type": "array", "items": _TEXT},
            "fingerprint": _TEXT,
        }
    )


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    names = list(properties)
    return {"type": "object", "properties": dict(properties), "required": names, "additionalProperties": False}


def _over_the_run(plan: Plan) -> dict[str, int]:
    """Tokens of every group over the run, and of every source that has several."""
    made: dict[str, int] = {}
    for quota in plan.quotas:
        for group, tokens in quota.items():
            held = plan.available.get(group)
            for name in {group, group if held is None else source_of(group, held)}:
                made[name] = made.get(name, 0) + tokens
    return made


def _ratio(tokens: int, of: int) -> Fraction:
    return Fraction(tokens, of) if of else Fraction(0)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r}, where a whole number is due")
    return value


def _differs(told: Any, due: Any, where: str) -> str | None:
    """The first place at which two JSON values differ, in words."""
    if isinstance(told, Mapping) and isinstance(due, Mapping):
        for name in sorted({*told, *due}):
            if name not in told or name not in due:
                return f"{where} {'lacks' if name in due else 'has'} {name!r}"
            found = _differs(told[name], due[name], f"{where}.{name}")
            if found:
                return found
        return None
    if isinstance(told, list) and isinstance(due, list) and len(told) == len(due):
        return next(filter(None, (_differs(*two, f"{where}[{j}]") for j, two in enumerate(zip(told, due)))), None)  # noqa: B905
    if type(told) in (int, float) and type(due) in (int, float):
        same = abs(told - due) <= _CLOSE * max(abs(told), abs(due)) if float in (type(told), type(due)) else told == due
    else:
        same = told == due
    return None if same else f"{where} is {told!r}"
