"""What holds for all plans of mixtures, and certificates against brute force and a solver."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from oracle_mixture import budgets, feasible, largest, tables

from curate.errors import RecipeError
from curate.mixture import Available, Infeasible, Phase, Plan, Spec, plan
from curate.policies import exact

NAMES = ("a", "b", "c", "d/0", "d/1")

WEIGHT = st.one_of(st.integers(0, 4), st.floats(0.001, 10))


@st.composite
def mixtures(draw, most=10**6):
    """What is available, shares and weights by phase, and caps."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    available = {name: Available(draw(st.integers(1, most))) for name in names}
    weights = []
    for _ in range(draw(st.integers(1, 4))):
        row = {name: draw(WEIGHT) for name in names}
        assume(any(row.values()))
        weights.append(row)
    parts = [draw(st.integers(1, 9)) for _ in weights]
    phases = tuple(
        Phase(f"p{j}", share=Fraction(part, sum(parts)), weights=row)
        for j, (part, row) in enumerate(zip(parts, weights, strict=True))
    )
    caps = {name: draw(st.one_of(st.integers(1, 16), st.floats(0.1, 16))) for name in names}
    return available, Spec(phases, None, caps)


def weights_of(spec, names):
    return [[exact(phase.weights[name]) for name in names] for phase in spec.phases]


def room_of(available, spec, names):
    return [exact(spec.max_epochs[name]) * available[name].tokens // 1 for name in names]


def wanted_by(spec, names, tokens):
    rows = weights_of(spec, names)
    return [[tokens * p.share * w / sum(row) for w in row] for p, row in zip(spec.phases, rows, strict=True)]


@given(mixtures(), st.floats(0.01, 1.6))
def test_a_plan_is_exact_or_refused_with_the_largest_feasible_budget(mixture, part):
    available, spec = mixture
    names = sorted(available)
    room = room_of(available, spec, names)
    most = int(largest([p.share for p in spec.phases], weights_of(spec, names), room))
    tokens = max(1, int(most * part))
    wanted = wanted_by(spec, names, tokens)
    if tokens <= most:
        made = plan(available, replace(spec, tokens=tokens))
        assert made.tokens == tokens
        for row, quota, phase in zip(wanted, made.quotas, spec.phases, strict=True):
            assert abs(sum(quota.values()) - tokens * phase.share) < 1
            assert all(abs(quota.get(name, 0) - want) < 1 for name, want in zip(names, row, strict=True))
        assert all(made.drawn[name] <= cap for name, cap in zip(names, room, strict=True))
        steps = list(zip(made.cumulative, made.cumulative[1:], strict=False))
        assert all(a[name] <= b[name] for a, b in steps for name in names)
        return
    with pytest.raises(Infeasible) as caught:
        plan(available, replace(spec, tokens=tokens))
    found = caught.value.certificate
    assert found.feasible == (most or None)
    needed = {name: sum(row[i] for row in wanted) for i, name in enumerate(names)}
    over = {name for name, cap in zip(names, room, strict=True) if needed[name] > cap}
    assert {b.groups[0] for b in found.bindings} == over
    for b in found.bindings:
        i = names.index(b.groups[0])
        assert (b.kind, b.needed, b.allowed) == ("cap", needed[names[i]], room[i])
        at = [p.name for p in spec.phases].index(b.phases[0])
        assert sum(row[i] for row in wanted[:at]) <= room[i] < sum(row[i] for row in wanted[: at + 1])
    if most:
        assert plan(available, replace(spec, tokens=most)).tokens == most
        assert plan(available, spec).tokens == most


@given(mixtures(), st.floats(1.01, 4))
def test_the_nearest_plan_is_there_exactly_if_a_solver_finds_one(mixture, part):
    available, spec = mixture
    names = sorted(available)
    room = room_of(available, spec, names)
    most = int(largest([p.share for p in spec.phases], weights_of(spec, names), room))
    tokens = max(most + 1, int(most * part))
    wanted = wanted_by(spec, names, tokens)
    sizes, support = [sum(row) for row in wanted], [[bool(cell) for cell in row] for row in wanted]
    scale = tokens  # the solver has absolute tolerances
    solved = feasible([float(n / scale) for n in sizes], support, [float(cap / scale) for cap in room])
    with pytest.raises(Infeasible) as caught:
        plan(available, replace(spec, tokens=tokens))
    found = caught.value.certificate
    if found.nearest is None:
        short = found.shortage
        cut = [i for i, name in enumerate(names) if name in short.groups]
        rows = [j for j, phase in enumerate(spec.phases) if phase.name in short.phases]
        assert all(i in cut for j in rows for i, cell in enumerate(support[j]) if cell)
        assert short.needed == sum(sizes[j] for j in rows) > short.allowed == sum(room[i] for i in cut)
        assert not solved or float(short.needed / short.allowed) < 1 + 1e-6
        return
    assert solved
    made = plan(available, replace(spec, tokens=tokens, at_cap="clip"))
    assert made == found.nearest
    assert made.tokens == tokens
    assert all(made.drawn[name] <= cap for name, cap in zip(names, room, strict=True))
    for quota, size, cells in zip(made.quotas, sizes, support, strict=True):
        assert abs(sum(quota.values()) - size) < 1
        assert set(quota) <= {name for name, cell in zip(names, cells, strict=True) if cell}
    kept = [cap - cell for cap, cell in zip(room, wanted[-1], strict=True)]
    if min(kept) >= 0 and feasible([float(n / scale) for n in sizes[:-1]], support[:-1],
                                   [float(n / scale) * (1 - 1e-6) for n in kept]):  # fmt: skip
        assert all(abs(made.quotas[-1].get(n, 0) - w) < 1 for n, w in zip(names, wanted[-1], strict=True))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(1, 4), st.lists(st.booleans(), min_size=3, max_size=3)), min_size=1, max_size=3),
)
def test_by_brute_force(held, phases):
    """Every table of whole numbers is tried: there is a plan exactly if there is a table."""
    names = "abc"[: len(held)]
    available = {name: Available(n) for name, n in zip(names, held, strict=True)}
    support = [[cell and n > 0 for cell, n in zip(cells, held, strict=False)] for _, cells in phases]
    assume(all(any(cells) for cells in support))
    spec = Spec(
        tuple(
            Phase(str(j), tokens=size, weights={n: int(cell) for n, cell in zip(names, cells, strict=True)})
            for j, ((size, _), cells) in enumerate(zip(phases, support, strict=True))
        ),
        max_epochs=1,
        at_cap="clip",
    )
    there = list(tables([size for size, _ in phases], support, held))
    made = outcome(available, spec)
    assert bool(made) == bool(there)
    if made:
        assert tuple(tuple(quota.get(name, 0) for name in names) for quota in made.quotas) in there


TARGET = st.sampled_from(
    [{}, {"temperature": 3.0}, {"unimax": 16.0}, {"weights": {"a": 1, "b": 0.7}}, {"epochs": {"a": 0}, "rest": "b"}]
)


@given(st.tuples(*[st.integers(1, 1000)] * 5), st.lists(TARGET, min_size=1, max_size=3), st.integers(1, 300), st.data())
def test_plans_nest_in_the_budget_and_no_order_of_groups_counts(held, targets, less, data):
    available = {name: Available(n) for name, n in zip(NAMES, held, strict=True)}
    phases = tuple(Phase(str(j), share=Fraction(1, len(targets)), **target) for j, target in enumerate(targets))
    spec = Spec(phases, less, 1e6, beyond_sixteen=True)
    small = outcome(available, spec)
    assert small == outcome(dict(data.draw(st.permutations(list(available.items())))), spec)
    large = outcome(available, replace(spec, tokens=less + data.draw(st.integers(1, 300))))
    if small and large:
        for j, (before, after) in enumerate(zip(small.cumulative, large.cumulative, strict=True), 1):
            assert all(after[name] > before[name] - 2 * j for name in NAMES)


def outcome(available, spec):
    try:
        return plan(available, spec)
    except Infeasible as error:
        return error.certificate.nearest


@given(st.permutations(NAMES[:3]), st.tuples(*[st.integers(1, 1000)] * 3), st.tuples(*[st.integers(1, 9)] * 3))
def test_other_names_are_another_order_of_the_same_plan(names, held, weights):
    """Up to the token that goes by name where remainders are equal."""
    held, weights = dict(zip(NAMES, held, strict=False)), dict(zip(NAMES, weights, strict=False))
    other = dict(zip(NAMES, names, strict=False))
    spec = Spec((Phase(weights=weights),), 1000, 1e6, beyond_sixteen=True)
    renamed = replace(spec, phases=(Phase(weights={other[name]: weight for name, weight in weights.items()}),))
    made = plan({name: Available(n) for name, n in held.items()}, spec).drawn
    again = plan({other[name]: Available(n) for name, n in held.items()}, renamed).drawn
    assert all(abs(made[name] - again[other[name]]) <= 1 for name in made)


MORE = st.one_of(
    TARGET,
    st.builds(lambda n: {"counts": {"a": n}, "rest": "d"}, st.integers(0, 200)),
    st.builds(lambda n: {"counts": {"a": n, "d": 2 * n}}, st.integers(1, 200)),
    st.builds(lambda n: {"epochs": {"d": n, "b": 0.5}}, st.floats(0, 2)),
    st.builds(lambda n: {"epochs": {"d": n}, "rest": "b"}, st.floats(0, 2)),
    st.builds(lambda n: {"unimax": n}, st.floats(0.5, 8)),
)


@given(st.tuples(*[st.integers(1, 400)] * 5), st.lists(MORE, min_size=1, max_size=3), st.integers(1, 3000))
def test_of_any_targets_what_is_refused_has_the_nearest_feasible_budget(held, targets, tokens):
    available = {name: Available(n) for name, n in zip(NAMES, held, strict=True)}
    phases = tuple(Phase(str(j), share=Fraction(1, len(targets)), **target) for j, target in enumerate(targets))
    spec = Spec(phases, tokens, 3)
    try:
        made = plan(available, spec)
    except Infeasible as error:
        found = error.certificate
    else:
        assert made.tokens == tokens
        assert all(n <= 3 * available[name].tokens for name, n in made.drawn.items())
        return
    assert all(b.needed > b.allowed for b in found.bindings)
    if found.feasible is None:
        every = sum(3 * n for n in held) + 1
        assert not any(
            refused(available, spec, n) is None for n in (1, max(1, tokens // 2), tokens + 1, 2 * tokens, every)
        )
        return
    assert refused(available, spec, found.feasible) is None
    assert refused(available, spec, found.feasible + (1 if found.feasible < tokens else -1))


def refused(available, spec, tokens):
    try:
        plan(available, replace(spec, tokens=tokens))
    except Infeasible as error:
        return error.certificate


SIZED = st.one_of(
    st.just({}),
    st.just({"unimax": 2}),
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 3)).map(
        lambda w: {"weights": dict(zip("abc", w, strict=True))}
    ),
    st.integers(1, 40).map(lambda n: {"counts": {"a": n}}),
    st.integers(0, 40).map(lambda n: {"counts": {"a": n}, "rest": "b"}),
    st.integers(0, 6).map(lambda n: {"epochs": {"b": Fraction(n, 2)}}),
    st.integers(0, 6).map(lambda n: {"epochs": {"b": Fraction(n, 2)}, "rest": "c"}),
    st.integers(1, 6).map(lambda n: {"epochs": {"a": n, "b": Fraction(n, 2), "c": 1}}),
)
SIZE = st.one_of(
    st.just({}),
    st.integers(1, 60).map(lambda n: {"tokens": n}),
    st.sampled_from([1, 2, 3, 4, 6]).map(lambda n: {"share": Fraction(n, 6)}),
)


@given(
    st.tuples(*[st.integers(1, 25)] * 3),
    st.tuples(*[st.integers(1, 4)] * 3),
    st.lists(st.tuples(SIZE, SIZED), min_size=1, max_size=3),
    st.one_of(st.none(), st.integers(1, 250)),
)
@example((3, 6, 6), (4, 4, 4), [({"tokens": 10}, {"weights": {"a": 1}}), ({}, {"weights": {"b": 1}})], 40)
@example((3, 6, 6), (4, 4, 4), [({}, {"counts": {"a": 10}}), ({}, {"weights": {"b": 1}})], 40)
@example((3, 6, 6), (4, 4, 4), [({"tokens": 20}, {"weights": {"a": 1}}), ({}, {"weights": {"b": 1}})], 40)
def test_the_nearest_feasible_budget_by_trying_all_with_phases_of_any_size(held, caps, phases, tokens):
    """A budget is taken exactly if it is one of these, and what is refused is told the nearest of them."""
    held, caps = dict(zip("abc", held, strict=True)), dict(zip("abc", caps, strict=True))
    phases = [Phase(str(j), **size, **target) for j, (size, target) in enumerate(phases)]
    there = budgets(phases, held, {name: held[name] * caps[name] for name in held})
    available = {name: Available(n) for name, n in held.items()}
    try:
        spec = Spec(tuple(phases), tokens, caps)
        made = plan(available, spec)
    except Infeasible as error:
        found = error.certificate
        below = [n for n in there if n < found.budget]
        assert found.budget not in there
        assert found.feasible == (below[-1] if below else there[0] if there else None)
        assert tokens is not None or found.feasible is None or found.fixed
    except RecipeError:  # the sizes contradict the budget, or leave it open
        assert tokens not in there
    else:
        assert made.tokens in there
        assert tokens is not None or any(p.tokens or p.counts for p in phases) or made.tokens == there[-1]


def test_a_phase_of_no_tokens_asks_for_nothing():
    held = {"a": Available(39, 1), "b": Available(6, 1)}
    phases = (Phase("p0", share=0.1, weights={"b": 1}), Phase("p1", utility={"a": 5.5, "b": 2}))
    with pytest.raises(Infeasible, match=r"`max_epochs` allows less than one token.*No budget is feasible"):
        plan(held, Spec(phases, max_epochs={"a": 3.3, "b": 0.1}))


@example((1, 1, 1, 1, 1), [1.0, 2.0, 3.0, 4.0, 5.0], 1.0)
@given(st.tuples(*[st.integers(1, 400)] * 5), st.lists(st.floats(0.1, 9), min_size=5, max_size=5), st.floats(0.01, 1))
def test_utility_keeps_caps_over_all_phases(held, worth, part):
    available = {name: Available(n) for name, n in zip(NAMES, held, strict=True)}
    worth = dict(zip(NAMES, worth, strict=True))
    tokens = max(2, int(part * 3 * sum(held)))
    spec = Spec((Phase("a", share=0.5, utility=worth), Phase("b", share=0.5, utility=worth)), tokens, 3)
    made = plan(available, spec)
    assert made.tokens == tokens
    assert all(n <= 3 * available[name].tokens for name, n in made.drawn.items())
    best = max(worth.values())
    for name, quota in made.quotas[0].items():  # what is worth less is not repeated before what is worth most is begun
        assert quota <= available[name].tokens or made.quotas[0].get(max(worth, key=worth.get)) or worth[name] == best


def test_a_plan_of_thousands_of_groups_is_exact():
    available = {f"s{i % 50}/{i // 50}": Available(1000 + i) for i in range(2000)}
    phases = (Phase("a", share=0.85), Phase("b", share=0.15, weights={f"s{i}": i + 1 for i in range(50)}))
    assert isinstance(made := plan(available, Spec(phases, 2_000_000)), Plan)
    assert made.sizes == (1_700_000, 300_000)
