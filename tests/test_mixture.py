"""Plans of mixtures: published mixes, targets of every kind, sizes and caps, and what is refused."""

import pickle
from dataclasses import replace
from fractions import Fraction

import pytest

from curate.errors import RecipeError
from curate.mixture import (
    Available,
    Infeasible,
    Phase,
    Spec,
    cautions,
    leave_one_out,
    plan,
    unimax,
    without,
)


def of(**tokens):
    return {name.replace("_", "/"): Available(count, max(1, count // 100)) for name, count in tokens.items()}


def one(available, tokens, /, cap=None, **target):
    return plan(available, Spec((Phase(**target),), tokens, cap)).drawn


# Published mixes and worked examples

TWO = (
    Phase("base", share=0.8, weights={"cc": 0.8, "code": 0.14, "wiki": 0.04, "math": 0.02}),
    Phase("last", share=0.2, weights={"cc": 0.3, "code": 0.4, "wiki": 0.2, "math": 0.1}),
)
HELD = of(cc=2000, code=200, wiki=40, math=10)


def test_two_phases():
    made = plan(HELD, Spec(TWO, 1000))
    assert made.quotas == (
        {"cc": 640, "code": 112, "wiki": 32, "math": 16},
        {"cc": 60, "code": 80, "wiki": 40, "math": 20},
    )
    epochs = {"cc": "0.35", "code": "0.96", "wiki": "1.8", "math": "3.6"}
    assert made.epochs() == {group: Fraction(text) for group, text in epochs.items()}
    assert {g: n / 1000 for g, n in made.drawn.items()} == {"cc": 0.7, "code": 0.192, "wiki": 0.072, "math": 0.036}
    assert made.cumulative[0] == made.quotas[0]
    assert made.effective()["cc"] == 700
    assert made.effective()["math"] == pytest.approx(
        10 * (1 + 15.387756 * (1 - 2.718281828459045 ** (-2.6 / 15.387756)))
    )
    assert made.warnings == ()


def test_dolmino_50_billion():
    """OLMo 2 (arXiv 2501.00656), table 13: tokens in billions, percent of the source, percent of the mix."""
    table = {
        "dclm": (752, "3.23", 47.2),
        "flan": ("17.0", 50, 16.6),
        "stackexchange": ("1.26", "100", 2.45),
        "pes2o": ("58.6", "5.15", 5.85),
        "wiki": ("3.7", 100, 7.11),
        "math": ("10.7", 100, 20.8),
    }
    available = {name: Available(int(Fraction(tokens) * 10**9)) for name, (tokens, _, _) in table.items()}
    epochs = {name: float(Fraction(part) / 100) for name, (_, part, _) in table.items()}
    made = plan(available, Spec((Phase(epochs=epochs),), None, 1))  # no `rest`: only their sum is feasible
    for name, (_, _, percent) in table.items():
        assert 100 * made.drawn[name] / made.tokens == pytest.approx(percent, abs=0.1)
        assert made.epochs()[name] == pytest.approx(epochs[name], abs=1e-9)
    assert made.tokens == pytest.approx(51.47e9, rel=1e-3)


def test_epochs_of_mpt_7b():
    """The model card of MPT-7B, 10^12 tokens; its 417.99 B of mC4 fit its 0.14 epochs only as 2417.99 B."""
    table = {
        "cc": ("878.45", 0.10, 0.114, 0.11),
        "stack": ("463.78", 0.10, 0.216, 0.22),
        "markdown": ("107.07", 0.035, 0.327, 0.33),
        "stackexchange": ("20.54", 0.014, 0.682, 0.68),
        "mc4": ("2417.99", 0.33, 0.136, 0.14),
    }
    available = {name: Available(int(Fraction(row[0]) * 10**9)) for name, row in table.items()}
    weights = {name: row[1] for name, row in table.items()} | {"others": 0.421}
    made = plan({**available, "others": Available(10**12)}, Spec((Phase(weights=weights),), 10**12))
    for name, (_, _, epochs, printed) in table.items():
        assert float(made.epochs()[name]) == pytest.approx(epochs, abs=0.0005)
        assert float(made.epochs()[name]) == pytest.approx(printed, abs=0.005)


@pytest.mark.parametrize(
    ("budget", "epochs", "drawn"),
    [(1000, 1, (1, 10, 100, 444.5, 444.5)), (1000, 5, (5, 50, 315, 315, 315)), (5000, 4, (4, 40, 400, 2278, 2278))],
)
def test_unimax(budget, epochs, drawn):
    held = dict(zip("edcba", (1, 10, 100, 1000, 10000), strict=True))
    made, left = unimax(held, budget, epochs)
    assert left == 0
    assert [float(made[name]) for name in held] == list(drawn)
    quotas = one({name: Available(n) for name, n in held.items()}, budget, unimax=epochs, cap=5)
    assert all(abs(quotas[name] - made[name]) < 1 for name in held)


def test_unimax_leaves_what_so_many_epochs_cannot_spend():
    held = dict(zip("abcde", (1, 10, 100, 1000, 10000), strict=True))
    assert unimax(held, 10**6, 1)[1] == 988_889
    available = {name: Available(n) for name, n in held.items()}
    spec = Spec((Phase(unimax=1),), 20_000)
    with pytest.raises(Infeasible, match=r"20,000 tokens, and .* at most 11,111") as caught:
        plan(available, spec)
    assert caught.value.certificate.feasible == 11_111
    made = plan(available, replace(spec, at_cap="clip"))
    assert "leave 8,889 tokens unspent; natural shares instead" in made.warnings[0]
    assert {g: n for g, n in made.drawn.items() if n > 20} == {"c": 180, "d": 1800, "e": 18_000}


def test_leaving_one_out_gives_runs_of_equal_tokens():
    spec = Spec(TWO, 1000, 16)
    runs = {"": spec, **leave_one_out(spec)}
    assert set(runs) == {"", *HELD}
    for name, each in runs.items():
        made = plan(HELD, each)
        assert made.sizes == (800, 200)
        assert made.quotas[0] == plan(HELD, spec).quotas[0]
        assert name not in made.quotas[1]
        assert sum(made.told()["phases"][1]["weights"].values()) == pytest.approx(1)
    assert without({"a": 0.5, "b": 0.3, "c": 0.2}, "a") == {"b": 0.6, "c": 0.4}
    for weights, name, said in (({"a": 1.0}, "a", "the whole"), ({"a": 1.0, "b": 0.0}, "a", "the whole"),
                                ({"all": 1.0}, "al", "did you mean 'all'")):  # fmt: skip
        with pytest.raises(RecipeError, match=said):
            without(weights, name)
    with pytest.raises(RecipeError, match="no `weights`"):
        leave_one_out(Spec())


# Targets, buckets, sizes

GROUPS = of(web_0=600, web_1=300, code=100)


@pytest.mark.parametrize(
    ("target", "drawn"),
    [
        ({}, {"web/0": 120, "web/1": 60, "code": 20}),
        ({"weights": {"web": 3, "code": 1}}, {"web/0": 100, "web/1": 50, "code": 50}),
        ({"weights": {"web/1": 0.5, "code": 0.5}}, {"web/0": 0, "web/1": 100, "code": 100}),
        ({"counts": {"code": 50}, "rest": "web"}, {"web/0": 100, "web/1": 50, "code": 50}),
        ({"counts": {"code": 50, "web": 150}}, {"web/0": 100, "web/1": 50, "code": 50}),
        ({"epochs": {"code": 1.1}}, {"web/0": 60, "web/1": 30, "code": 110}),
        ({"epochs": {"code": 0.5}, "rest": "web/1"}, {"web/0": 0, "web/1": 150, "code": 50}),
        ({"epochs": {"web": 0.2, "code": 0.2}}, {"web/0": 120, "web/1": 60, "code": 20}),
        ({"temperature": 1e9}, {"web/0": 67, "web/1": 33, "code": 100}),
        ({"temperature": 2}, {"web/0": 100, "web/1": 50, "code": 50}),
        ({"unimax": 4}, {"web/0": 67, "web/1": 33, "code": 100}),
        ({"unimax": 0.5}, {"web/0": 100, "web/1": 50, "code": 50}),
        ({"utility": {"web/1": 1.0}}, {"web/0": 0, "web/1": 200, "code": 0}),
    ],
)
def test_targets(target, drawn):
    assert one(GROUPS, 200, **target) == drawn


def test_utility_shares_by_worth_and_goes_on_where_the_phase_before_stopped():
    worth = {"web/0": 1.0, "web/1": 2.0, "code": 4.0}
    once = plan(GROUPS, Spec((Phase(utility=worth),), 1500))
    assert once.tokens == 1500
    assert once.epochs()["code"] == 4  # ln 2 x 15.39 repeats beyond those of a worth half as large, but for the cap
    assert once.epochs()["web/1"] > once.epochs()["web/0"]
    full = plan(
        GROUPS, Spec((Phase("first", tokens=350, weights={"code": 1}), Phase("last", tokens=100, utility=worth)))
    )
    assert full.quotas[1] == {"code": 50, "web/1": 50}
    with pytest.raises(Infeasible, match="'code' gives at most 50 of them"):
        plan(
            GROUPS, Spec((Phase("first", tokens=350, weights={"code": 1}), Phase("l", tokens=99, utility={"code": 1})))
        )


def test_sources_are_groups_before_a_slash_unless_said():
    held = {"a/x": Available(10, source="a/x"), "a/y": Available(30, source="a/y")}
    assert one(held, 20, temperature=1e9) == {"a/x": 10, "a/y": 10}
    assert one({name: replace(each, source=None) for name, each in held.items()}, 20, temperature=1e9) == {
        "a/x": 5, "a/y": 15}  # fmt: skip
    with pytest.raises(RecipeError, match="no documents of 'a'"):
        one(held, 20, weights={"a": 1})


@pytest.mark.parametrize(
    ("phases", "tokens", "sizes"),
    [
        ((Phase("a", share=0.9), Phase("b", share=0.1)), 101, (91, 10)),
        ((Phase("a"), Phase("b", share=0.1)), 101, (91, 10)),
        ((Phase("a"), Phase("b", tokens=7)), 100, (93, 7)),
        ((Phase("a", tokens=93), Phase("b", tokens=7)), None, (93, 7)),
        ((Phase("a", share=0.9), Phase("b", tokens=10)), None, (90, 10)),
        ((Phase("a", share=0.85), Phase("b", tokens=10)), None, (57, 10)),
        ((Phase("a", counts={"code": 30, "web": 3}),), None, (33,)),
        ((Phase("a", share=1 / 3), Phase("b", share=1 / 3), Phase("c", share=1 / 3)), 100, (34, 33, 33)),
        ((Phase("a", share=Fraction(2, 3)), Phase("b", share=Fraction(1, 3))), 99, (66, 33)),
        ((Phase("a", share=0.5), Phase("b", share=0.5)), None, (500, 500)),  # all there is, once
    ],
)
def test_sizes_of_phases(phases, tokens, sizes):
    assert plan(GROUPS, Spec(phases, tokens)).sizes == sizes


def test_caps_of_a_group_go_before_those_of_its_source():
    spec = Spec((Phase(),), None, {"web": 2, "web/0": 1, "code": 3})
    assert plan(GROUPS, spec).allowed == {"web/0": 600, "web/1": 600, "code": 300}
    assert plan(GROUPS, replace(spec, max_epochs={"code": 3})).allowed["web/0"] == 600  # a searched budget: once
    assert plan(GROUPS, replace(spec, max_epochs={"code": 3}, tokens=10)).allowed["web/0"] == 2400


def test_without_a_budget_the_largest_that_repeats_nothing():
    assert plan(HELD, Spec(TWO)).tokens == 277  # 10 / 0.036
    assert plan(HELD, Spec(TWO, max_epochs=4)).tokens == 1111
    assert plan(HELD, Spec(TWO, max_epochs=4)).warnings == ()
    with pytest.raises(Infeasible, match="No budget is feasible"):
        plan(HELD, Spec(max_epochs=1e-9))


def test_repeats_are_warned_of_above_four_and_refused_above_sixteen():
    made = plan(HELD, Spec((Phase(weights={"math": 1}),), 41, 16))
    assert made.warnings == ("'math': 4.1 epochs: above 4, repeated text is worth clearly less than new text",)
    with pytest.raises(RecipeError, match=r"16\.5 for math: above 16 epochs.*beyond_sixteen"):
        Spec(max_epochs={"math": 16.5})
    made = plan(HELD, Spec((Phase(weights={"math": 1}),), 165, {"math": 16.5}, beyond_sixteen=True))
    assert made.epochs()["math"] == Fraction("16.5")
    assert cautions(4) == cautions(None) == ()
    assert "`max_epochs` of a allows 5.0 epochs" in cautions({"a": 5, "b": 4})[0]


WRONG = [
    ({"phases": ()}, "needs a phase"),
    ({"phases": (Phase(), Phase())}, "two phases are called 'all'"),
    ({"phases": (Phase("a"), Phase("b"))}, "'a' and 'b' have no size"),
    ({"phases": (Phase("a", share=0.5), Phase("b", share=0.4))}, "0.9 of the budget in all"),
    ({"phases": (Phase("a", share=1.0), Phase("b"))}, "leave no token to phase 'b'"),
    ({"phases": (Phase("a", tokens=200),)}, "200 tokens, more than the budget of 100"),
    ({"phases": (Phase("a", tokens=50),)}, "0.5 of the budget in all"),
    ({"phases": (Phase("a", counts={"web": 5}),)}, "and `rest: SOURCE` takes the others"),
    ({"phases": (Phase("a", tokens=50), Phase("b")), "tokens": None}, "need the budget"),
    ({"tokens": 0}, "`tokens` is 0"),
    ({"at_cap": "warn"}, "refuse or clip"),
    ({"max_epochs": 0}, "above 0 and finite"),
    ({"max_epochs": {"wiki": 3, "x": float("nan")}}, "nan for x"),
    ({"max_epochs": {"wikis": 3}}, "did you mean 'wiki'"),
    ({"phases": (Phase(weights={"wikis": 3}),)}, "did you mean 'wiki'"),
]


@pytest.mark.parametrize(("fields", "said"), WRONG)
def test_what_contradicts_itself_is_refused(fields, said):
    with pytest.raises(RecipeError, match=said):
        plan(HELD, Spec(**{"tokens": 100, **fields}))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"weights": {"a": 1}, "temperature": 2}, "weights and temperature; a phase has one target"),
        ({"weights": {"a": 1}, "rest": "b"}, "`rest`, which goes with"),
        ({"counts": {"a": 1}, "rest": "a"}, "name it once"),
        ({"share": 0.1, "tokens": 3}, "its size is one of them"),
        ({"share": -0.1}, "`share` of phase 'all' is -0.1"),
        ({"unimax": 0}, "`unimax` of phase 'all' is 0"),
        ({"weights": {"a": -1}}, "`weights` of 'a' in phase 'all' is -1"),
        ({"weights": {}}, "names nothing above 0"),
        ({"utility": {"a": 0.0}}, "names nothing above 0"),
        ({"counts": {"a": 1.5}}, "whole numbers"),
        ({"weights": {"web": 1, "web/0": 1}}, "'web' and 'web/0' both name 'web/0'"),
        ({"utility": {"web": 1, "web/0": 1}}, "names 'web/0' twice"),
        ({"counts": {"web": 1}, "rest": "web/1"}, "both name 'web/1'"),
    ],
)
def test_wrong_phases(fields, said):
    with pytest.raises(RecipeError, match=said):
        plan(GROUPS, Spec((Phase(**fields),), 100))


@pytest.mark.parametrize("life", [1e-300, 9e-7, 2e9])
def test_half_lives_beyond_what_floats_tell_are_refused(life):
    with pytest.raises(RecipeError, match="it is between 1e-06 and 1e"):
        Phase(utility={"web": 1.0}, half_lives={"web": life})


@pytest.mark.parametrize(("life", "drawn"), [(1e-6, 600), (1e9, 2400)])
def test_the_shortest_and_the_longest_half_life(life, drawn):
    held = {"web": Available(600), "code": Available(10**13)}
    phase = Phase(utility={"web": 2.0, "code": 1.0}, half_lives={"web": life})
    assert plan(held, Spec((phase,), 10**13)).drawn["web"] == drawn


@pytest.mark.parametrize("target", ["weights", "utility", "epochs"])
def test_integers_that_no_float_holds_are_refused(target):
    with pytest.raises(RecipeError, match=f"`{target}` of 'web' in phase 'all' is 1000.*; it is finite"):
        Phase(**{target: {"web": 10**400}})


def test_nothing_to_draw_from():
    with pytest.raises(RecipeError, match="no group holds a token"):
        plan(of(a=0), Spec())


@pytest.mark.parametrize(
    ("target", "tokens", "said"),
    [
        ({"counts": {"code": 60}, "rest": "web"}, 50, r"fixes 60 tokens of 'code', and has 50 in .* at least 60 "),
        ({"epochs": {"code": 0.6}}, 50, r"fixes 60 tokens of 'code', and has 50 in all\. .* at least 60 "),
        ({"counts": {"code": 60}, "tokens": 70}, 70, r"has 70 tokens, and 'code' gives at most 60 .*No budget is "
                                                     r"feasible with these shares, caps and 70 tokens in phases of"),
        ({"epochs": dict.fromkeys(("web", "code"), 0.5)}, 501, r"has 501 tokens, .* at most 500 "),
        ({"weights": {"code": 1}}, 401, r"'code' would give 401 tokens, 4\.01 epochs of the 100 it has; `max_epochs` "
                                        r"allows 4, 400 tokens\. With these shares at most 400 .* Nor is there"),
    ],
)  # fmt: skip
def test_what_cannot_be_met_is_told(target, tokens, said):
    with pytest.raises(Infeasible, match=said) as caught:
        one(GROUPS, tokens, **target)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.certificate) == (str(caught.value), caught.value.certificate)
