"""Why a mixture cannot be had, in numbers that can be checked by hand, and what can be had instead."""

from dataclasses import dataclass
from fractions import Fraction

from curate.errors import RecipeError
from curate.mixture_plan import Plan
from curate.policies import WHOLE

_SHOWN = 5


@dataclass(frozen=True)
class Binding:
    """One thing that cannot be met. `kind` says which, and `needed` and `allowed` (tokens) contradict each other:

    cap     over the run the targets take `needed` from the group, and its cap allows less; it is passed in this phase.
    small   what the phase fixes by counts or epochs takes `needed`, and the phase has less.
    large   the phase has `needed`, and the groups may give less.
    supply  these phases draw on these groups alone and need `needed` together, and the groups' caps allow less.
    """

    kind: str
    phases: tuple[str, ...]
    groups: tuple[str, ...]
    needed: Fraction
    allowed: Fraction
    available: int

    def epochs(self) -> tuple[Fraction, Fraction]:
        """`needed` and `allowed` as epochs of the groups."""
        return self.needed / self.available, self.allowed / self.available


@dataclass(frozen=True)
class Certificate:
    """What binds, the worst first; the feasible budget with these shares that is nearest (the largest below, or for
    a phase too small the smallest above; None: there is none); the plan at this budget clipped to the caps (None:
    there is none, and `shortage` proves it, or the target leaves no choice). `fixed`: tokens of phases that say them,
    which are the same at every budget."""

    budget: int
    bindings: tuple[Binding, ...]
    feasible: int | None
    nearest: Plan | None
    shortage: Binding | None = None
    fixed: int = 0


class Infeasible(RecipeError):
    """The targets, the budget and the caps contradict each other; `certificate` holds the numbers."""

    def __init__(self, message: str, certificate: Certificate | None = None):
        self.certificate = certificate
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return Infeasible, (str(self), self.certificate)


def told(certificate: Certificate) -> str:
    """The certificate for a person."""
    shown = [_binding(one) for one in certificate.bindings[:_SHOWN]]
    if len(certificate.bindings) > _SHOWN:
        shown.append(f"{len(certificate.bindings) - _SHOWN} other groups are too small as well")
    fixed = f"{certificate.fixed:,} tokens in phases of fixed size"
    kept = f"these shares and {fixed}" if certificate.fixed else "these shares"
    if certificate.feasible is None:
        kept = f"these shares, caps and {fixed}" if certificate.fixed else "these shares and caps"
        shown.append(f"No budget is feasible with {kept}")
    elif certificate.feasible < certificate.budget:
        shown.append(f"With {kept} at most {certificate.feasible:,} tokens are feasible")
    else:
        shown.append(f"With {kept} at least {certificate.feasible:,} tokens are needed")
    if certificate.nearest is not None:
        clipped = f"With {certificate.budget:,} tokens the nearest plan is {_plan(certificate.nearest)}"
        shown.append(f"{clipped}; `at_cap: clip` takes it")
    elif certificate.shortage is not None and certificate.shortage not in certificate.bindings:
        shown.append(f"Nor is there a clipped plan: {_binding(certificate.shortage)}")
    return f"a mixture of {certificate.budget:,} tokens: " + ". ".join(shown)


def _binding(one: Binding) -> str:
    groups, phases = _names(one.groups), _names(one.phases)
    many = len(one.groups) > 1
    needed, allowed = one.epochs() if one.available else (Fraction(0), Fraction(0))
    if one.kind == "cap":
        where = "" if one.phases == (WHOLE,) else f"; this is passed in phase {phases}"
        most = f"{float(allowed):.4g}, {_tokens(one.allowed)} tokens" if one.allowed else "less than one token"
        return (
            f"{groups} would give {_tokens(one.needed)} tokens, {float(needed):.2f} epochs of the {one.available:,} it "
            f"has; `max_epochs` allows {most}{where}"
        )
    if one.kind == "small":
        return f"phase {phases} fixes {_tokens(one.needed)} tokens of {groups}, and has {_tokens(one.allowed)} in all"
    if one.kind == "large":
        return (
            f"phase {phases} has {_tokens(one.needed)} tokens, and {groups} {'give' if many else 'gives'} at most "
            f"{_tokens(one.allowed)} of them: name a `rest`, allow more epochs or make it smaller"
        )
    return (
        f"phase{'s' if len(one.phases) > 1 else ''} {phases} need{'' if len(one.phases) > 1 else 's'} "
        f"{_tokens(one.needed)} tokens of {groups}, and `max_epochs` allows {_tokens(one.allowed)}"
    )


def _plan(plan: Plan) -> str:
    def amounts(quota: dict[str, int]) -> str:
        most = sorted(quota, key=lambda group: (-quota[group], group))
        text = ", ".join(f"{group} {quota[group]:,}" for group in most[:_SHOWN])
        return text + (f" and {len(most) - _SHOWN} more" if len(most) > _SHOWN else "")

    if len(plan.phases) == 1:
        return amounts(plan.quotas[0])
    return "; ".join(f"{name}: {amounts(quota)}" for name, quota in zip(plan.phases, plan.quotas, strict=True))


def _tokens(count: Fraction) -> str:
    return f"{count.numerator:,}" if count.denominator == 1 else f"{float(count):,.2f}"


def _names(names: tuple[str, ...]) -> str:
    text = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return text + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
