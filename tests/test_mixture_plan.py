"""A plan as a value: told, read back, fingerprinted and compared; damage is named."""

import copy
import json
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import DataError
from curate.laws import effective
from curate.mixture import Available, Change, Phase, Plan, Spec, difference, plan, plan_schema

HELD = {"cc": Available(2000, 20), "code/0": Available(150, 3), "code/1": Available(50, 2), "wiki": Available(40, 1)}
SPEC = Spec(
    (Phase("base", share=0.8), Phase("last", share=0.2, weights={"cc": 1, "code": 2.5, "wiki": 1})), 900, max_epochs=16
)
COUNTS = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 10**12))


def through(plan):
    return json.loads(json.dumps(plan.told()))


def test_what_is_told():
    told = through(plan(HELD, SPEC))
    jsonschema.Draft202012Validator(plan_schema()).validate(told)
    base, last = told["phases"]
    assert (told["tokens"], base["start"], base["tokens"], last["start"], last["tokens"]) == (900, 0, 720, 720, 180)
    assert last["tokens_by_group"] == {"cc": 40, "code/0": 75, "code/1": 25, "wiki": 40}
    assert last["target"] == {"weights": {"cc": 1, "code": 2.5, "wiki": 1}}
    assert base["target"] == {"natural": None}
    assert last["weights"]["code/0"] == 75 / 180
    for phase in told["phases"]:
        assert sum(phase["tokens_by_group"].values()) == phase["tokens"]
        assert sum(phase["weights"].values()) == pytest.approx(1)
    for group, (start, end) in last["cursor"].items():  # a phase goes on where the one before stopped
        assert base["cursor"][group] == [0, start]
        assert end - start == pytest.approx(last["epochs_by_group"][group])
        assert end == told["groups"][group]["epochs"]
    wiki = told["groups"]["wiki"]
    assert (wiki["source"], wiki["available"], wiki["documents"], wiki["allowed"]) == ("wiki", 40, 1, 640)
    assert wiki["effective"] == effective(40, wiki["tokens"])
    assert told["groups"]["code/1"]["source"] == "code"
    assert told["effective"] == sum(group["effective"] for group in told["groups"].values()) < told["tokens"]


@given(st.lists(COUNTS, min_size=1, max_size=4), st.tuples(*[st.integers(1, 10**9)] * 4))
def test_told_and_read_again(quotas, held):
    available = {name: Available(n, 1, name) for name, n in zip("abcd", held, strict=True)}
    targets = tuple({"counts": quota} for quota in quotas)
    made = Plan(tuple(f"p{j}" for j in range(len(quotas))), tuple(quotas), available, targets, {"a": 5}, ("look",))
    jsonschema.Draft202012Validator(plan_schema()).validate(through(made))
    again = Plan.read(through(made))
    assert again == made
    assert again.fingerprint == made.fingerprint
    assert difference(made, again) == ()
    assert sum(made.sizes) == made.tokens == sum(made.drawn.values())


def damaged(told, path, value):
    told = copy.deepcopy(told)
    place = told
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return told


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("format",), 2, "format 2"),
        (("phases",), None, "KeyError at 'phases'"),
        (("tokens",), 901, r"mixture\.tokens is 901"),
        (("phases", 1, "start"), 719, r"mixture\.phases\[1\]\.start is 719"),
        (("phases", 0, "tokens_by_group", "cc"), 1, "does not follow from its tokens"),
        (("phases", 0, "tokens_by_group", "cc"), 1.5, "1.5, where a whole number is due"),
        (("phases", 0, "tokens_by_group", "cc"), True, "True, where a whole number is due"),
        (("phases", 0, "tokens_by_group", "cd"), 1, "KeyError at 'cd'"),
        (("phases", 1, "cursor", "wiki"), [0.1, 1.3], r"mixture\.phases\[1\]\.cursor\.wiki\[0\] is 0\.1"),
        (("phases", 1, "cursor", "wiki"), [0.1], r"mixture\.phases\[1\]\.cursor\.wiki is \[0\.1\]"),
        (("phases", 1, "weights", "cc"), 0.22222, r"weights\.cc is 0\.22222"),
        (("groups", "cc", "available"), 0, "not a mixture: RecipeError at unique tokens: found 0"),
        (("groups", "cc", "extra"), 1, r"mixture\.groups\.cc has 'extra'"),
        (("groups", "cc", "epochs"), None, r"mixture\.groups\.cc lacks 'epochs'"),
        (("fingerprint",), "0" * 64, "fingerprint is '0000"),
    ],
)
def test_damage_is_named(path, value, said):
    told = through(plan(HELD, SPEC))
    with pytest.raises(DataError, match=said):
        Plan.read(damaged(told, path, value))


def test_last_bits_of_another_machine_are_no_damage():
    made = plan(HELD, SPEC)
    told = through(made)
    near = told["groups"]["wiki"]["effective"] * (1 + 1e-12)
    assert Plan.read(damaged(told, ("groups", "wiki", "effective"), near)) == made


@pytest.mark.parametrize("told", [None, [], {"format": 1, "groups": [], "phases": [], "warnings": []}, "x"])
def test_no_plan_is_told_apart(told):
    with pytest.raises(DataError, match="not a mixture"):
        Plan.read(told)


def test_fingerprints_are_of_what_is_drawn():
    made = plan(HELD, SPEC)
    turned = dict(reversed(HELD.items()))
    assert plan(turned, SPEC).fingerprint == made.fingerprint
    counts = [{"counts": dict(quota), "tokens": sum(quota.values())} for quota in made.quotas]
    otherwise = Spec(tuple(Phase(n, **c) for n, c in zip(made.phases, counts, strict=True)), max_epochs=8)
    assert plan(HELD, otherwise).fingerprint == made.fingerprint
    others = [
        Plan(made.phases[::-1], made.quotas, made.available),
        Plan(made.phases, made.quotas[::-1], made.available),
        Plan(made.phases, made.quotas, {**made.available, "cc": Available(2001, 20)}),
        Plan(made.phases, made.quotas, {**made.available, "cc": Available(2000, 21)}),
    ]
    assert len({made.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_differences():
    a = Plan(("base", "last"), ({"x": 5, "y": 5}, {"x": 3}), {"x": Available(9), "y": Available(9)})
    b = Plan(("base", "end"), ({"x": 6, "y": 5}, {"x": 3}), {"x": Available(9), "z": Available(4)})
    assert difference(a, b) == (
        Change("available", None, "y", 9, 0),
        Change("available", None, "z", 0, 4),
        Change("tokens", None, None, 13, 14),
        Change("tokens", None, "x", 8, 9),
        Change("tokens", "base", None, 10, 11),
        Change("tokens", "base", "x", 5, 6),
        Change("start", "last", None, 10, 0),
        Change("tokens", "last", None, 3, 0),
        Change("tokens", "last", "x", 3, 0),
        Change("start", "end", None, 0, 11),
        Change("tokens", "end", None, 0, 3),
        Change("tokens", "end", "x", 0, 3),
    )
    swapped = {replace(change, before=change.after, after=change.before) for change in difference(a, b)}
    assert set(difference(b, a)) == swapped
    assert difference(a, a) == ()


def test_differences_of_buckets_are_summed_by_source():
    held = {f"x/{bucket}": Available(9, source="x") for bucket in ("high", "low")}
    a, b = (Plan(("all",), ({"x/high": n, "x/low": m},), held) for n, m in ((5, 2), (4, 4)))
    over_the_run = [change for change in difference(a, b) if change.phase is None]
    assert over_the_run == [
        Change("tokens", None, None, 7, 8),
        Change("tokens", None, "x", 7, 8),
        Change("tokens", None, "x/high", 5, 4),
        Change("tokens", None, "x/low", 2, 4),
    ]
