"""The quality-quantity law against the figures of its released constants, allocation against a general solver, and
fits against curves that are known."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from verbs import called

from curate import laws, mixture, utility
from curate.errors import DataError, RecipeError
from curate.fit import result, utility_verb
from curate.fit.utility import Run, fit, read_runs
from curate.stages.mix import Mix, Phase
from curate.utility import Curve, Pool, allocate, best_prefix, epochs_until, error_after

# Released fits of four pools of DataComp-medium by quality (locuslab/scaling_laws_data_filtering, results/
# parameter_values.jsonl at commit cf5ced1): utilities and half-lives; scale and floor are shared.
SIZE = 12.8e6
BUCKETS = [Pool(SIZE, b, t) for b, t in ((-0.16, 6.727), (-0.125, 8.545), (-0.1, 5.273), (-0.085, 2.273))]
SCALE, FLOOR = 0.025, 0.1
REPOSITORY = Curve(SCALE, FLOOR, form="repository")
DOCUMENTED = Curve(SCALE, FLOOR)

# (curve, samples seen in millions, accuracy in percent of the best 1, 2, 3, 4 pools), by other code
TABLE = [
    (REPOSITORY, 32, (18.25, 15.84, 13.42, 11.68)),
    (REPOSITORY, 64, (24.62, 23.30, 20.40, 17.99)),
    (REPOSITORY, 128, (28.73, 29.60, 26.77, 24.13)),
    (REPOSITORY, 640, (31.18, 38.55, 37.57, 35.14)),
    (DOCUMENTED, 32, (17.04, 15.54, 13.42, 11.68)),
    (DOCUMENTED, 64, (22.73, 22.14, 19.78, 17.74)),
    (DOCUMENTED, 128, (26.39, 27.72, 25.40, 23.15)),
    (DOCUMENTED, 640, (28.58, 35.64, 34.93, 32.85)),
    (Curve(SCALE, FLOOR, "repository", "plain"), 128, (28.73, 28.31, 25.72, 23.21)),
    (Curve(SCALE, FLOOR, "repository", "plain"), 640, (31.18, 34.20, 32.80, 30.39)),
]


@pytest.mark.parametrize(("curve", "millions", "accuracies"), TABLE)
def test_the_table_of_released_constants(curve, millions, accuracies):
    found = best_prefix(BUCKETS, millions * 1e6, curve)
    assert [100 * (1 - each.error) for each in found.predicted] == pytest.approx(accuracies, abs=0.01)
    assert not any(each.outside for each in found.predicted)
    assert len(found.chosen) == accuracies.index(max(accuracies)) + 1
    assert found.epochs == pytest.approx(millions * 1e6 / (SIZE * len(found.chosen)))


def test_a_mixture_against_its_own_fit():
    # The released fit of a random quarter of all four, and what the mean of their utilities predicts for it.
    own = error_after([Pool(SIZE, -0.12, 6.0)], 128e6, REPOSITORY).error
    utilities = [np.mean([b.utility * 0.5 ** (j / b.half_life) for b in BUCKETS]) for j in range(11)]
    mean = (SCALE * SIZE / 1e5) ** utilities[0] + FLOOR
    mean *= math.prod(min((j + 1) * SIZE, 128e6) ** u / (j * SIZE) ** u for j, u in enumerate(utilities) if j)
    assert own == pytest.approx(0.7997, abs=1e-4)
    assert mean == pytest.approx(0.8105, abs=1e-4)


def test_when_repeats_of_the_best_fall_below_fresh_samples_of_others():
    found = [epochs_until(BUCKETS[0], other) for other in BUCKETS[1:]]
    assert found == pytest.approx([2.40, 4.56, 6.14], abs=0.005)
    assert epochs_until(BUCKETS[1], BUCKETS[0]) == 0


def slow_error(pools, seen, curve):
    """The law term by term, as it is written."""
    size = sum(pool.samples for pool in pools)

    def exponent(epoch):
        total = 0.0
        for pool in pools:
            life = pool.half_life * (size / pool.samples if curve.half_lives == "scaled" else 1)
            total += pool.samples / size * pool.utility * 0.5 ** (epoch / life)
        return total

    first, product, epoch = (curve.scale * min(size, seen) / 1e5) ** exponent(0), 1.0, 1
    while epoch * size <= seen:
        product *= (min((epoch + 1) * size, seen) / (epoch * size)) ** exponent(epoch)
        epoch += 1
    return (first + curve.floor) * product if curve.form == "repository" else first * product + curve.floor


pools = st.builds(Pool, st.floats(4e6, 1e8), st.floats(-0.5, -0.01), st.one_of(st.floats(0.2, 30), st.just(math.inf)))
curves = st.builds(
    Curve,
    st.floats(0.03, 1),
    st.floats(0, 0.5),
    st.sampled_from(["documented", "repository"]),
    st.sampled_from(["scaled", "plain"]),
)


@given(st.lists(pools, min_size=1, max_size=4), st.floats(4e6, 4e9), curves)
def test_the_law_is_what_it_says(some, seen, curve):
    slow = slow_error(some, seen, curve)
    found = error_after(some, seen, curve)
    assert found.error == pytest.approx(min(slow, 1), rel=1e-9)
    assert found.outside == (slow > 1)


@given(pools, st.floats(4e6, 4e9), curves)
def test_without_decay_it_is_one_power_law(pool, seen, curve):
    pool = Pool(pool.samples, pool.utility, math.inf)
    curve = Curve(curve.scale, curve.floor)
    plain = (curve.scale * seen / 1e5) ** pool.utility + curve.floor
    assert error_after([pool], seen, curve).error == pytest.approx(min(1, plain), rel=1e-9)
    twice = error_after([Pool(2 * pool.samples, pool.utility, math.inf)], seen, curve).error
    assert error_after([pool, pool], seen, curve).error == pytest.approx(twice, rel=1e-9)


@given(st.lists(pools, min_size=1, max_size=4), st.floats(0, 4e9), st.floats(1, 3), curves)
def test_more_samples_never_hurt(some, seen, factor, curve):
    less, more = error_after(some, seen, curve), error_after(some, seen * factor, curve)
    assert more.error <= less.error + 1e-12
    assert 0 <= more.error <= 1


@pytest.mark.parametrize("curve", [REPOSITORY, DOCUMENTED])
def test_a_larger_budget_wants_more_buckets(curve):
    counts = [len(best_prefix(BUCKETS, seen, curve).chosen) for seen in np.geomspace(5e6, 1e11, 60)]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert counts[-1] > 2


def test_the_order_of_buckets_is_no_matter():
    straight = best_prefix(BUCKETS, 128e6, REPOSITORY)
    for order in itertools.permutations(range(4)):
        found = best_prefix([BUCKETS[index] for index in order], 128e6, REPOSITORY)
        assert tuple(order[index] for index in found.order) == straight.order
        assert found.predicted == straight.predicted


def test_outside_of_the_law_is_said():
    assert error_after(BUCKETS, 0, REPOSITORY) == utility.Predicted(1.0, True)
    assert error_after(BUCKETS, 1e6, REPOSITORY) == utility.Predicted(1.0, True)
    assert error_after([Pool(1e7, -2.0, math.inf)], 5e-324, DOCUMENTED) == utility.Predicted(1.0, True)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Pool(0, -0.1, 1),
        lambda: Pool(1, 0.1, 1),
        lambda: Pool(1, -0.1, 0),
        lambda: Pool(1, -0.1, math.nan),
        lambda: Curve(0, 0.1),
        lambda: Curve(1, 1),
        lambda: Curve(1, 0, "paper"),
        lambda: error_after([], 1, DOCUMENTED),
        lambda: error_after(BUCKETS, math.inf, DOCUMENTED),
        lambda: error_after([Pool(1, -0.1, 1)], 1e9, DOCUMENTED),
        lambda: best_prefix([], 1, DOCUMENTED),
        lambda: allocate({"a": 10}, {"a": -1}, 5),
        lambda: allocate({"a": 10}, {"b": 1}, 5),
        lambda: allocate({"a": 10}, {"a": 1}, -5),
        lambda: allocate({"a": 10}, {"a": 1}, 5, caps=-1),
        lambda: allocate({"a": 10}, {"a": 1}, 5, repeats=0),
    ],
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(RecipeError):
        wrong()


def value(tokens, worth, given_, repeats):
    return sum(worth[name] * laws.effective(tokens[name], given_[name], repeats=repeats[name]) for name in tokens)


@pytest.mark.parametrize("seed", range(20))
def test_allocation_is_as_good_as_that_of_a_general_solver(seed):
    draw = np.random.default_rng(seed)
    names = list("abcd")
    tokens = {name: int(draw.integers(10**8, 10**10)) for name in names}
    worth = {name: float(draw.uniform(0.3, 1.5)) for name in names}
    repeats = {name: float(draw.uniform(3, 20)) for name in names}
    caps = {name: float(draw.uniform(2, 12)) for name in names}
    budget = int(draw.uniform(0.3, 0.9) * sum(caps[name] * tokens[name] for name in names))
    mine = allocate(tokens, worth, budget, caps=caps, repeats=repeats)
    best = solved(tokens, worth, (caps, repeats), mine)
    assert sum(mine.values()) == budget
    assert value(tokens, worth, mine, repeats) >= best * (1 - 1e-8)


def solved(tokens, worth, limits, mine):
    """The best value that a general solver finds for caps and decay constants, from an even start and from `mine`."""
    caps, repeats = limits
    names, budget = list(tokens), sum(mine.values())
    scale = float(budget)

    def lost(x):
        return -value(tokens, worth, {name: each * scale for name, each in zip(names, x, strict=True)}, repeats) / scale

    ends = [(0, caps[name] * tokens[name] / scale) for name in names]
    total = sum(end for _, end in ends)
    starts = [[end / total for _, end in ends], [mine[name] / scale for name in names]]
    whole = {"type": "eq", "fun": lambda x: sum(x) - 1}
    found = [
        minimize(lost, start, bounds=ends, constraints=whole, method="SLSQP", options={"ftol": 1e-14, "maxiter": 500})
        for start in starts
    ]
    return max(-each.fun for each in found if abs(sum(each.x) - 1) < 1e-9) * scale


@pytest.mark.parametrize("seed", range(8))
def test_a_plan_discounts_each_group_by_its_own_half_life(seed):
    """As good as a general solver finds it, with half-lives by source and by group, and better than one for all."""
    draw = np.random.default_rng(100 + seed)
    tokens = {name: int(draw.integers(10**6, 10**8)) for name in ("web/0", "web/1", "code", "books")}
    worth = {"web/0": 1.0, "web/1": 1.0, "code": float(draw.uniform(0.5, 2)), "books": float(draw.uniform(0.5, 2))}
    lives = {"web": float(draw.uniform(0.5, 3)), "code": float(draw.uniform(3, 15))}
    repeats = {name: lives["web"] / math.log(2) for name in ("web/0", "web/1")}
    repeats |= {"code": lives["code"] / math.log(2), "books": laws.REPEATS}
    caps = {name: float(draw.uniform(8, 15)) for name in tokens}
    budget = int(draw.uniform(0.2, 0.6) * sum(caps[name] * tokens[name] for name in tokens))
    utility_of = {"web": 1.0, "code": worth["code"], "books": worth["books"]}
    phase = mixture.Phase(utility=utility_of, half_lives=lives)
    asked = mixture.Spec((phase,), tokens=budget, max_epochs=caps)
    made = mixture.plan({name: mixture.Available(count) for name, count in tokens.items()}, asked)
    assert made.repeats == pytest.approx(repeats)
    best = solved(tokens, worth, (caps, repeats), made.drawn)
    mine = value(tokens, worth, made.drawn, repeats)
    assert mine >= best * (1 - 1e-7)
    plain = replace(asked, phases=(replace(phase, half_lives=None),))
    other = mixture.plan(made.available, plain)
    assert other.drawn != made.drawn
    assert value(tokens, worth, other.drawn, repeats) < mine
    assert made.effective() == pytest.approx(
        {name: laws.effective(tokens[name], count, repeats=repeats[name]) for name, count in made.drawn.items()}
    )
    assert mixture.Plan.read(made.told()) == made


def test_a_shorter_half_life_is_repeated_less():
    have = {"a": mixture.Available(1_000), "b": mixture.Available(1_000)}

    def drawn(**lives):
        phase = mixture.Phase(utility={"a": 1.0, "b": 1.0}, half_lives=lives or None)
        return mixture.plan(have, mixture.Spec((phase,), tokens=6_000, max_epochs=10)).drawn

    assert drawn() == {"a": 3_000, "b": 3_000}
    # Repeats of equal worth are shared in proportion to half-lives: 4 in all, of which a has a quarter.
    assert drawn(a=2.0, b=6.0) == {"a": 2_000, "b": 4_000}
    usual = laws.REPEATS * math.log(2)
    assert drawn(a=usual / 3) == {"a": 2_000, "b": 4_000}
    for wrong in ({"a": 0.0}, {"a": -1.0}, {"a": math.inf}, {"c": 1.0}):
        with pytest.raises(RecipeError, match=r"half-life of '[ac]'"):
            mixture.Phase(utility={"a": 1.0}, half_lives=wrong)
    phases = [mixture.Phase(name, utility={"a": 1}, half_lives={"a": life}) for name, life in (("x", 1.0), ("y", 2.0))]
    with pytest.raises(RecipeError, match="half-life of 1 epochs, and of 2 in phase 'y'"):
        mixture.Spec(tuple(phases))


names = st.sampled_from(["web", "code", "books", "wiki", "math", "forum"])
problems = st.dictionaries(
    names,
    st.tuples(st.integers(0, 10**6), st.one_of(st.just(0.0), st.just(1.0), st.floats(0.01, 100)), st.floats(0, 20)),
    min_size=1,
)


@given(problems, st.integers(0, 10**7), st.randoms(use_true_random=False))
def test_allocations_are_exact_capped_and_free_of_order(problem, budget, draw):
    tokens = {name: size for name, (size, _, _) in problem.items()}
    worth = {name: each for name, (_, each, _) in problem.items()}
    caps = {name: cap for name, (_, _, cap) in problem.items()}
    most = sum(math.floor(cap * size + 1e-9) for size, each, cap in problem.values() if each)
    if budget > most + len(problem):
        with pytest.raises(RecipeError, match="lower the budget, raise `caps`"):
            allocate(tokens, worth, budget, caps=caps)
    budget = min(budget, max(0, most - len(problem)))
    found = allocate(tokens, worth, budget, caps=caps)
    assert sum(found.values()) == budget
    assert list(found) == list(tokens)
    for name, got in found.items():
        assert 0 <= got <= caps[name] * tokens[name] + 1e-6
        assert worth[name] or not got
    other = list(tokens)
    draw.shuffle(other)
    assert allocate({name: tokens[name] for name in other}, worth, budget, caps=caps) == found
    fewer = allocate(tokens, worth, budget // 2, caps=caps)
    assert all(found[name] >= fewer[name] - 1 for name in found)
    # No token can be moved to a group that is not full and gains by it, but for rounding.
    next_worth = {name: _next(tokens[name], worth[name], found[name]) for name in found if tokens[name]}
    last_worth = {name: _next(tokens[name], worth[name], found[name] - 2) for name in found if found[name] > 2}
    gains = [next_worth[name] for name in next_worth if found[name] + 2 < caps[name] * tokens[name]]
    if gains and last_worth and min(tokens[name] for name in found if found[name] or worth[name]) > 1000:
        assert max(gains) <= min(last_worth.values()) * (1 + 1e-3)


def _next(size, worth, seen):
    return worth * math.exp(-max(seen / size - 1, 0) / laws.REPEATS)


def test_equal_worth_is_equal_epochs_and_the_better_is_repeated():
    assert allocate({"a": 100, "b": 300}, {"a": 1.0, "b": 1.0}, 200) == {"a": 50, "b": 150}
    assert allocate({"a": 100, "b": 300}, {"a": 2.0, "b": 1.0}, 150) == {"a": 150, "b": 0}
    both = allocate({"a": 1000, "b": 3000}, {"a": 2.0, "b": 1.0}, 14_664)
    assert both["a"] / 1000 - both["b"] / 3000 == pytest.approx(laws.REPEATS * math.log(2), abs=0.01)
    assert allocate({"a": 100, "b": 0}, {"a": 1, "b": 5}, 290, caps={"a": 2.9}) == {"a": 290, "b": 0}
    assert allocate({}, {}, 0) == {}
    huge = allocate({"a": 10**12, "b": 10**13}, {"a": 1e-300, "b": 1e300}, 10**15, caps=100.0)
    assert huge == {"a": 0, "b": 10**15}


def runs_of(buckets, curve, *, noise=0.0, seed=0, epochs=(0.25, 0.5, 1, 2, 4, 6, 8, 10)):
    draw = np.random.default_rng(seed)
    return [
        Run(
            name,
            pool.samples,
            seen := pool.samples * each,
            error_after([pool], seen, curve).error + noise * draw.normal(),
        )
        for name, pool in buckets.items()
        for each in epochs
    ]


NAMED = dict(zip(("best", "good", "fair", "poor"), BUCKETS, strict=True))


@pytest.mark.parametrize("curve", [REPOSITORY, DOCUMENTED])
def test_a_fit_finds_the_curve_it_was_made_of(curve):
    found = fit(runs_of(NAMED, curve), form=curve.form)
    assert found.curve.scale == pytest.approx(SCALE, rel=1e-3)
    assert found.curve.floor == pytest.approx(FLOOR, abs=1e-3)
    for name, pool in NAMED.items():
        assert found.pools[name].utility == pytest.approx(pool.utility, rel=1e-3)
        assert found.pools[name].half_life == pytest.approx(pool.half_life, rel=1e-3)
    assert found.loose == ()
    assert found.error < 1e-6
    assert sum(found.worth.values()) == pytest.approx(1)
    assert found.worth["best"] / found.worth["poor"] == pytest.approx(0.16 / 0.085, rel=1e-3)


def test_a_fit_bears_noise_and_a_failed_run():
    runs = runs_of(NAMED, REPOSITORY, noise=0.002, seed=3)
    runs[12] = Run(runs[12].pool, runs[12].unique, runs[12].seen, 0.99)
    found = fit(runs, form="repository")
    for name, pool in NAMED.items():
        assert found.worth[name] == pytest.approx(pool.utility / sum(b.utility for b in BUCKETS), rel=0.15)
    assert int(np.argmax(np.abs(found.residuals))) == 12
    assert found.error < 0.005
    best = [len(best_prefix(list(found.pools.values()), seen, found.curve).chosen) for seen in (32e6, 640e6)]
    assert best == [1, 2]


def test_what_the_runs_do_not_say_is_said():
    fresh = fit(runs_of(NAMED, DOCUMENTED, epochs=(0.2, 0.3, 0.5, 0.8, 1.0)))
    assert [name for name in fresh.loose if "half-life" in name] == [f"half-life of {name}" for name in NAMED]
    assert all(math.isinf(pool.half_life) for pool in fresh.pools.values())
    same = [Run(name, 1e7, 1e7 * each, 0.5) for name in "ab" for each in (1, 2, 3, 4)]
    flat = fit(same)
    assert flat.worth == {}
    assert any("worth" in name for name in flat.loose)
    with pytest.raises(RecipeError, match="5 runs are too few for 6 parameters"):
        fit(runs_of({name: NAMED[name] for name in ("best", "poor")}, DOCUMENTED)[:13][::3])


def table(folder, runs, *, column="error", change=lambda error: error):
    lines = [f"pool,unique,seen,{column}"]
    lines += [f"{run.pool},{run.unique:.0f},{run.seen:.0f},{change(run.error)!r}" for run in runs]
    file = folder / "table.csv"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def verb(*words):
    code, told = called(utility_verb.register, "utility", *words)
    assert code == 0
    return told


def test_the_verb_writes_a_result_that_a_mixture_can_take(tmp_path, capsys):
    runs = runs_of(NAMED, REPOSITORY)
    file, out = table(tmp_path, runs), str(tmp_path / "worth.json")
    told = verb(file, "-o", out, "--form", "repository", "--budget", "128M")
    worth = result.worths(out).weights
    assert worth == pytest.approx({name: pool.utility / -0.47 for name, pool in NAMED.items()}, rel=1e-2)
    report = result.load(out).report
    assert report["pools"]["best"]["half_life"] == pytest.approx(6.727, rel=1e-2)
    assert report["choice"]["chosen"] == ["best", "good"]
    assert report["choice"]["epochs"] == pytest.approx(5)
    assert len(report["runs"]) == len(runs)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    shown = capsys.readouterr().out
    assert "best, good" in shown
    assert "5.00 epochs" in shown
    lives = {name: pool.half_life for name, pool in NAMED.items()}
    assert result.worths(out).half_lives == pytest.approx(lives, rel=1e-2)
    have = {name: mixture.Available(10**6) for name in NAMED}
    fitted = Mix(tokens=8_000_000, phases=(Phase("all", utility=out),)).plan(have)
    decay = {name: life / math.log(2) for name, life in lives.items()}
    assert fitted.repeats == pytest.approx(decay, rel=1e-2)
    by_law = allocate(dict.fromkeys(NAMED, 10**6), worth, 8_000_000, caps=4.0, repeats=fitted.repeats)
    assert fitted.drawn == pytest.approx(by_law, abs=2)
    first = (tmp_path / "worth.json").read_bytes()
    verb(file, "-o", out, "--form", "repository", "--budget", "128M")
    assert (tmp_path / "worth.json").read_bytes() == first


def test_half_lives_that_runs_do_not_show_are_not_handed_on(tmp_path, capsys):
    """`poor` was never repeated: its half-life is the usual one, and that is said."""
    runs = [run for run in runs_of(NAMED, DOCUMENTED) if run.pool != "poor" or run.seen <= run.unique]
    out = str(tmp_path / "worth.json")
    told = verb(table(tmp_path, runs), "-o", out)
    assert set(result.worths(out).half_lives) == {"best", "good", "fair"}
    assert [name for name, pool in told["report"]["pools"].items() if not pool["identified"]] == ["poor"]
    assert "to half in 10.7 epochs, for repeats of poor" in capsys.readouterr().out
    have = {name: mixture.Available(10**6) for name in NAMED}
    made = Mix(tokens=1_000_000, phases=(Phase("all", utility=out),)).plan(have)
    assert made.repeats["poor"] == laws.REPEATS
    assert made.repeats["best"] == pytest.approx(6.727 / math.log(2), rel=1e-2)


def test_other_measures_become_errors(tmp_path):
    runs = runs_of(NAMED, REPOSITORY)
    as_errors = read_runs(table(tmp_path, runs))
    accuracies = read_runs(table(tmp_path, runs, column="accuracy", change=lambda error: 1 - error))
    losses = read_runs(table(tmp_path, runs, column="loss", change=lambda error: 10.4 * error), untrained=10.4)
    for other in (accuracies, losses):
        assert [run.error for run in other] == pytest.approx([run.error for run in as_errors])


def test_a_table_without_signal_gives_no_weights(tmp_path, capsys):
    flat = [Run(name, 1e7, 1e7 * each, 0.5) for name in "ab" for each in (1, 2, 3, 4)]
    out = str(tmp_path / "worth.json")
    told = verb(table(tmp_path, flat), "-o", out)
    assert told["weights"] == {}
    assert "no signal" in capsys.readouterr().out
    with pytest.raises(RecipeError, match="no signal"):
        result.worths(out)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'pool'"),
        ("pool,unique,seen\na,1,1\n", "error, accuracy or loss"),
        ("pool,unique,seen,error\na,x,1,0.5\n", "row 2, column 'unique': 'x'"),
        ("pool,unique,seen,error\na,1,1,1.5\n", "row 2, column 'error': '1.5'"),
        ("pool,unique,seen,error\na,1,0,0.5\n", "row 2, column 'seen': '0'"),
        ("pool,unique,seen,error\na,1\n", "row 2, column 'seen': ''"),
        ("pool,unique,seen,loss\na,1,1,3\n", "--untrained"),
    ],
)
def test_tables_that_are_none(tmp_path, text, said):
    file = tmp_path / "table.csv"
    file.write_text(text)
    with pytest.raises((DataError, RecipeError), match=said):
        read_runs(str(file))
