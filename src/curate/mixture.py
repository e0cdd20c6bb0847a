"""From targets and a budget to an exact plan: how many tokens of which group in which phase of training.

Every phase says what it wants (`policies`), caps say how often a group may be seen over the run, and the wanted exact
amounts are rounded to whole numbers that keep every cap (`apportion`). What cannot be met is refused with the numbers
that prove it and the nearest plan that can (`certificate`). The catch: a target that breaks a cap by the fraction of a
token is refused too, which is what makes the largest feasible budget a fact and no matter of rounding.

Bounds: quotas sum to the budget; a phase is within one token of its share, a group within one token of what the exact
phase gives it (`clip` apart); no group passes its cap. Plans of two budgets nest up to this rounding: with targets that
grow with the budget, a group's tokens from the start to the end of phase j fall by less than 2j when the budget grows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor, isfinite

from curate.apportion import Shortage, Table, clipped, whole
from curate.certificate import Binding, Certificate, Infeasible, told
from curate.errors import RecipeError
from curate.laws import FREE, VAIN, warning
from curate.mixture_plan import Change, Plan, difference, plan_schema
from curate.mixture_sizes import Sizes, check_counts
from curate.policies import Available, Groups, Phase, Unfit, exact, source_of, unimax, wants, without

__all__ = ["Available", "Binding", "Certificate", "Change", "Infeasible", "Phase", "Plan", "Spec", "cautions",
           "difference", "leave_one_out", "plan", "plan_schema", "unimax", "without"]  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """A mixture that is asked for.

    `tokens`: the budget; None for the sum of the phases' tokens or, if they have shares, the largest that breaks no
    cap. `max_epochs`: most epochs over the whole run, for all or by group or source (a group's own goes first); what
    has none may be seen 4 times, or once if the budget is searched. Above 16 it needs `beyond_sixteen`. `at_cap`:
    `refuse` what breaks a cap, or `clip` it: the group gives what it may, and the others of the phase make up for it
    in proportion; the last phase is kept as long as can be, and earlier ones give way.
    """

    phases: tuple[Phase, ...] = (Phase(),)
    tokens: int | None = None
    max_epochs: float | Mapping[str, float] | None = None
    at_cap: str = "refuse"
    beyond_sixteen: bool = False

    def __post_init__(self) -> None:
        if not self.phases:
            raise RecipeError("a mixture needs a phase")
        names = [phase.name for phase in self.phases]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise RecipeError(f"two phases are called '{twice[0]}'; names of phases differ")
        lives: dict[str, float] = {}
        for phase in self.phases:
            for name, life in (phase.half_lives or {}).items():
                if lives.setdefault(name, life) != life:
                    raise RecipeError(
                        f"repeats of '{name}' have a half-life of {lives[name]:g} epochs, and of {life:g} in phase "
                        f"'{phase.name}'; text has one"
                    )
        if self.at_cap not in ("refuse", "clip"):
            raise RecipeError(f"`at_cap` is '{self.at_cap}'; it is refuse or clip")
        if self.tokens is not None and (self.tokens != int(self.tokens) or self.tokens < 1):
            raise RecipeError(f"`tokens` is {self.tokens}; it is a whole number above 0")
        given = self.max_epochs if isinstance(self.max_epochs, Mapping) else {"all groups": self.max_epochs}
        for name, most in given.items():
            if most is None:
                continue
            if not (most > 0 and isfinite(most)):
                raise RecipeError(f"`max_epochs` is {most} for {name}; it is above 0 and finite")
            if most > VAIN and not self.beyond_sixteen:
                raise RecipeError(
                    f"`max_epochs` is {most:g} for {name}: above {VAIN:g} epochs repeated text gains next to nothing "
                    "(arXiv 2305.13230, 2305.16264); allow at most that, or say `beyond_sixteen: true`"
                )
        Sizes.of(self.phases, self.tokens)

    def check(self) -> None:
        """RecipeError where the plan would be refused whatever the documents: `counts` that are not their phase."""
        sizes = Sizes.of(self.phases, self.tokens)
        if sizes.budget is not None:
            check_counts(self.phases, sizes.at(sizes.budget))


def plan(available: Mapping[str, Available], spec: Spec) -> Plan:
    """The plan for what is available, by group.

    Depends on nothing else, and not on the order of the groups. Raises Infeasible with its certificate, and RecipeError
    for a spec that contradicts itself or names what is not there.
    """
    case = _Case.of(Groups.of(available), spec)
    budget = case.budget
    if budget is None:
        low, high = case.feasible(sum(case.room))
        if low > high:
            raise _refusal(case, max(1, min(low, sum(case.room))), available)
        budget = high
    try:
        wanted = case.wanted(budget)
    except Unfit:
        wanted = None
    if wanted is not None and not case.over(wanted):
        return _plan(case, wanted, available)
    nearest = _nearest(case, budget, available) if spec.at_cap == "clip" else None
    if isinstance(nearest, Plan):
        return nearest
    raise _refusal(case, budget, available)


def cautions(max_epochs: float | Mapping[str, float] | None) -> tuple[str, ...]:
    """What to say of caps above four epochs, before anything is planned."""
    caps = max_epochs if isinstance(max_epochs, Mapping) else {"": max_epochs}
    said = [(name, warning(most)) for name, most in caps.items() if most is not None]
    return tuple(f"`max_epochs`{f' of {name}' if name else ''} allows {text}" for name, text in said if text)


def leave_one_out(spec: Spec) -> dict[str, Spec]:
    """For each name that the last phase weighs, the spec without it: the other weights scaled up, the same tokens.

    With the spec itself they are the K + 1 runs that tell what each is worth (arXiv 2406.03476).
    """
    last = spec.phases[-1]
    if last.weights is None:
        raise RecipeError(f"phase '{last.name}' has no `weights` to leave one out of")
    return {
        name: replace(spec, phases=(*spec.phases[:-1], replace(last, weights=without(last.weights, name))))
        for name, weight in last.weights.items()
        if weight
    }


@dataclass(frozen=True)
class _Case:
    """A spec and the groups it is for: sizes of the phases, tokens each group may give."""

    groups: Groups
    phases: tuple[Phase, ...]
    sizes: Sizes
    room: tuple[int, ...]

    @staticmethod
    def of(groups: Groups, spec: Spec) -> "_Case":
        sizes = Sizes.of(spec.phases, spec.tokens)
        most = _caps(groups, spec, Fraction(1) if sizes.budget is None else exact(FREE))
        room = tuple(floor(cap * tokens) for cap, tokens in zip(most, groups.tokens, strict=True))
        return _Case(groups, spec.phases, sizes, room)

    @property
    def budget(self) -> int | None:
        """The budget, if it is not to be searched."""
        return self.sizes.budget

    def wanted(self, budget: int) -> Table:
        """Exact tokens by phase and group; raises Unfit."""
        left, made = [Fraction(one) for one in self.room], []
        for phase, size in zip(self.phases, self.sizes.at(budget), strict=True):
            made.append(wants(phase, self.groups, size, left))
            left = [have - take for have, take in zip(left, made[-1], strict=True)]
        return made

    def over(self, wanted: Table) -> list[int]:
        """The groups that break their caps, the worst first."""
        needed = [sum(column, Fraction(0)) for column in zip(*wanted, strict=True)]
        found = [i for i, most in enumerate(self.room) if needed[i] > most]
        return sorted(found, key=lambda i: (-needed[i] / (self.room[i] or Fraction(1, 2)), i))

    def small(self, budget: int) -> bool:
        """Whether a phase is too small for what it fixes. No larger budget is if this one is not."""
        room = [Fraction(one) for one in self.room]
        for phase, size in zip(self.phases, self.sizes.at(budget), strict=True):
            if phase.kind in ("counts", "epochs"):
                try:
                    wants(phase, self.groups, size, room)
                except Unfit as unfit:
                    if unfit.grade == "small":
                        return True
        return False

    def large(self, budget: int) -> bool:
        """Whether a budget that is not too small breaks a cap, or a phase of it has more than its groups give. All
        larger budgets do if this one does, up to the single tokens to which `utility` is rounded."""
        try:
            return bool(self.over(self.wanted(budget)))
        except Unfit:
            return True

    def feasible(self, most: int) -> tuple[int, int]:
        """The least and the largest feasible budget up to `most`; all between are. The first is above the second if
        none is."""
        low, most = self.sizes.budgets(min(most, sum(self.room)))
        low = _first(lambda budget: not self.small(budget), low, most)
        return low, _first(self.large, low, most) - 1

    def nearest(self, budget: int) -> int | None:
        """The feasible budget that is nearest to one that is not."""
        if self.small(budget):
            low, most = self.sizes.budgets(sum(self.room))
            low = _first(lambda larger: not self.small(larger), max(low, budget), most)
            return low if low <= most and not self.large(low) else None
        low, high = self.feasible(budget)
        return high if low <= high else None

    def binding(self, wanted: Table, i: int) -> Binding:
        """How group i breaks its cap, and in which phase it does."""
        sums = [sum((row[i] for row in wanted[: j + 1]), Fraction(0)) for j in range(len(wanted))]
        phase = next(j for j, drawn in enumerate(sums) if drawn > self.room[i])
        return Binding(
            "cap",
            (self.phases[phase].name,),
            (self.groups.names[i],),
            sums[-1],
            Fraction(self.room[i]),
            self.groups.tokens[i],
        )

    def bound(
        self, kind: str, phases: tuple[str, ...], groups: tuple[int, ...], sums: tuple[Fraction, Fraction]
    ) -> Binding:
        """A binding of some phases and groups; `sums`: what is needed and what is allowed."""
        names = tuple(self.groups.names[i] for i in groups)
        return Binding(kind, phases, names, *sums, sum(self.groups.tokens[i] for i in groups))


def _refusal(case: _Case, budget: int, available: Mapping[str, Available]) -> Infeasible:
    try:
        wanted = case.wanted(budget)
        bindings = tuple(case.binding(wanted, i) for i in case.over(wanted))
    except Unfit as unfit:
        bindings = (case.bound(unfit.grade, (unfit.phase.name,), unfit.groups, (unfit.needed, unfit.allowed)),)
    nearest, shortage = _nearest(case, budget, available), None
    if isinstance(nearest, Shortage):
        names = tuple(case.phases[j].name for j in nearest.phases)
        shortage = case.bound("supply", names, nearest.groups, (nearest.needed, nearest.allowed))
    found = nearest if isinstance(nearest, Plan) else None
    certificate = Certificate(budget, bindings, case.nearest(budget), found, shortage, case.sizes.spent)
    return Infeasible(told(certificate), certificate)


def _nearest(case: _Case, budget: int, available: Mapping[str, Available]) -> Plan | Shortage | None:
    """The plan within the caps that is nearest to what is wanted; None if a target leaves no choice."""
    wanted, notes, left = [], [], [Fraction(one) for one in case.room]
    for phase, size in zip(case.phases, case.sizes.at(budget), strict=True):
        try:
            wanted.append(wants(phase, case.groups, size, left))
        except Unfit as unfit:
            if phase.kind != "unimax":
                return None
            unspent = f"{float(size - unfit.allowed):,.0f}"
            notes.append(
                f"phase '{phase.name}': {phase.unimax:g} epochs of all there is leave {unspent} tokens unspent; "
                "natural shares instead"
            )
            wanted.append(wants(Phase(phase.name), case.groups, size, left))
    table = clipped(wanted, case.room)
    if isinstance(table, Shortage):
        return table
    names = case.groups.names
    for phase, asked, given in zip(case.phases, wanted, table, strict=True):
        for name, before, after in zip(names, asked, given, strict=True):
            if after < before:
                clip = f"clipped from {float(before):,.0f} tokens to {float(after):,.0f}"
                notes.append(f"phase '{phase.name}': '{name}' is {clip}")
    return _plan(case, table, available, tuple(notes))


def _plan(case: _Case, table: Table, available: Mapping[str, Available], notes: tuple[str, ...] = ()) -> Plan:
    names = case.groups.names
    quotas = whole(table, case.room)
    made = Plan(
        tuple(phase.name for phase in case.phases),
        tuple({name: n for name, n in zip(names, row, strict=True) if n} for row in quotas),
        {name: replace(available[name], source=source_of(name, available[name])) for name in names},
        tuple(phase.target for phase in case.phases),
        dict(zip(names, case.room, strict=True)),
    )
    said = {name: warning(float(epochs)) for name, epochs in made.epochs().items()}
    return replace(made, warnings=(*notes, *(f"'{name}': {text}" for name, text in said.items() if text)))


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The first number from `low` to `high` from which on it holds; high + 1 if it never does."""
    high += 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _caps(groups: Groups, spec: Spec, default: Fraction) -> list[Fraction]:
    """Most epochs of each group."""
    if spec.max_epochs is None or not isinstance(spec.max_epochs, Mapping):
        return [default if spec.max_epochs is None else exact(spec.max_epochs)] * len(groups.names)
    made = [default] * len(groups.names)
    for own in (False, True):  # what names a group goes before what names its source
        for name, most in spec.max_epochs.items():
            for i in groups.find(name):
                if (groups.names[i] == name) == own:
                    made[i] = exact(most)
    return made
