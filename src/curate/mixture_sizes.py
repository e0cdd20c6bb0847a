"""How large each phase of a mixture is at any budget, and at which budgets its sizes fit together.

A phase is so many tokens whatever the budget, or a share of it, or what the others leave. So a larger budget makes no
phase smaller, and with phases of fixed size the budgets begin at what is fixed. No documents are needed for this: what
contradicts itself here is refused before any work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from curate.errors import RecipeError
from curate.policies import Phase, exact

_SUMS = Fraction(1, 10**9)  # shares written as decimals may miss 1 by so much


@dataclass(frozen=True)
class Sizes:
    """`fixed[j]`: tokens of a phase that says them; `shares[j]`: of the budget, where a phase says that; `free`: the
    one phase that says neither. `budget`: the one that is given or follows; None if it is to be searched."""

    fixed: tuple[int | None, ...]
    shares: tuple[Fraction | None, ...]
    free: int | None
    budget: int | None

    @staticmethod
    def of(phases: Sequence[Phase], tokens: int | None) -> "Sizes":
        """The sizes of phases with a budget of `tokens`. RecipeError, with the numbers, where they contradict it or
        one another."""
        fixed = tuple(_fixed(phase) for phase in phases)
        shares = tuple(None if phase.share is None else exact(phase.share) for phase in phases)
        free = [phase.name for j, phase in enumerate(phases) if fixed[j] is None and shares[j] is None]
        if len(free) > 1:
            raise RecipeError(
                f"phases '{free[0]}' and '{free[1]}' have no size; give all but one a `share` or `tokens`"
            )
        made = Sizes(fixed, shares, [phase.name for phase in phases].index(free[0]) if free else None, tokens)
        if made.part > 1 + _SUMS or (made.part >= 1 - _SUMS and (free or made.spent)):
            others = f", and leave no token to phase '{free[0]}'" if free else ", and other phases have `tokens`"
            others = "; they sum to 1" if made.part > 1 + _SUMS else others
            raise RecipeError(f"the phases have shares of {float(made.part):.9g} of the budget in all{others}")
        if tokens is None and made.spent:
            if free:
                raise RecipeError(
                    f"phase '{free[0]}' takes what phases with `tokens` leave, which need the budget: give the mixture "
                    "`tokens`"
                )
            made = Sizes(fixed, shares, None, round(made.spent / (1 - made.part)))
        made._checked(phases)
        return made

    @property
    def spent(self) -> int:
        """Tokens that phases have whatever the budget."""
        return sum(tokens or 0 for tokens in self.fixed)

    @property
    def part(self) -> Fraction:
        """What shares the phases say, in all."""
        return sum((share or Fraction(0) for share in self.shares), Fraction(0))

    def at(self, budget: int) -> tuple[Fraction, ...]:
        """Exact tokens by phase; they sum to the budget, which is one of `budgets`. None falls as it grows."""
        spent, part = self.spent, self.part
        scale = Fraction(1) if self.free is not None or not part else Fraction(budget - spent) / (budget * part)
        made = [
            Fraction(tokens) if tokens is not None else (share or Fraction(0)) * budget * scale
            for tokens, share in zip(self.fixed, self.shares, strict=True)
        ]
        if self.free is not None:
            made[self.free] = budget - spent - part * budget
        return tuple(made)

    def budgets(self, most: int) -> tuple[int, int]:
        """The least and the largest budget up to `most` that these sizes sum to, and all between do; the first is above
        the second if there are none."""
        spent, left = self.spent, 1 - self.part
        if self.free is not None:
            return floor(spent / left) + 1, most
        if not self.part:
            return spent, min(spent, most)
        if not spent:
            return 1, most
        # Shares that are written as decimals, and a whole budget: within a token, or 1e-9 of the budget.
        low = min(ceil((spent - 1) / left), ceil(spent / (left + _SUMS)))
        return max(low, spent + 1), min(max(floor((spent + 1) / left), floor(spent / (left - _SUMS))), most)

    def _checked(self, phases: Sequence[Phase]) -> None:
        """RecipeError unless the budget is one of `budgets`."""
        budget, spent, part = self.budget, self.spent, self.part
        if self.free is None and not spent and abs(part - 1) > _SUMS:
            raise RecipeError(f"the phases have shares of {float(part):.9g} of the budget in all; they sum to 1")
        if budget is None:
            return
        if spent > budget:
            raise RecipeError(f"the phases have {spent:,} tokens, more than the budget of {budget:,}")
        share = part + Fraction(spent, budget)
        if self.free is not None and share >= 1:
            has = f"{spent:,} of the {budget:,} tokens{f' and shares of {float(part):.9g}' if part else ''}"
            raise RecipeError(f"the other phases have {has}, and leave no token to phase '{phases[self.free].name}'")
        low, high = self.budgets(budget)
        if not low <= budget <= high:
            said = (
                f"the phases are {float(share):.9g} of the budget in all ({budget:,} tokens); shares, and `tokens` "
                "over the budget, sum to 1"
            )
            counted = [p.name for p, tokens in zip(phases, self.fixed, strict=True) if tokens and p.tokens is None]
            if counted and share < 1:
                said += f"; phase '{counted[0]}' has what it counts and no more, and `rest: SOURCE` takes the others"
            raise RecipeError(said)


def check_counts(phases: Sequence[Phase], sizes: Sequence[Fraction]) -> None:
    """RecipeError where the `counts` of a phase are more than it has, or less and nothing takes the rest."""
    for phase, size in zip(phases, sizes, strict=True):
        if phase.counts is None:
            continue
        counted, has = sum(phase.counts.values()), f"{float(size):,.12g}"
        if counted > size:
            raise RecipeError(
                f"phase '{phase.name}' has {has} tokens, and its `counts` are {counted:,} in all; count fewer, or make "
                "it larger"
            )
        if counted < size and phase.rest is None:
            raise RecipeError(
                f"phase '{phase.name}' has {has} tokens, and its `counts` are {counted:,} in all; name a `rest` that "
                "takes the others, or make it smaller"
            )


def _fixed(phase: Phase) -> int | None:
    """The tokens of a phase that says them, itself or by counting all."""
    if phase.tokens is None and phase.share is None and phase.counts is not None and phase.rest is None:
        return int(sum(phase.counts.values()))
    return phase.tokens
