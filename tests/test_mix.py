"""Mixing: plans that are met within one document, phases that go on where the last one stopped, twins together."""

import hashlib
import json
import math
import re
from collections import Counter
from dataclasses import replace

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from driving import cut_into, driven
from hypothesis import assume, given
from hypothesis import strategies as st
from oracles import mix as hashed
from oracles import xxh3_64

from curate import unit
from curate.errors import AssetError, RecipeError
from curate.mixture import Available, Infeasible, Plan
from curate.recipe import build
from curate.stages.mix import Mix, Phase, mixture_schema, token_count

SOURCES = ["books", "code", "web", "ünï/x"]
FREE = {"max_epochs": 1e300, "beyond_sixteen": True}
have = st.dictionaries(st.sampled_from(SOURCES), st.integers(1, 10**12), min_size=1)
weight = st.floats(1e-9, 1e9) | st.integers(1, 10).map(float)


@st.composite
def plans(draw):
    """What sources have and the weights of some of them."""
    tokens = draw(have)
    named = draw(st.lists(st.sampled_from(sorted(tokens)), min_size=1, unique=True))
    return tokens, {source: draw(weight) for source in named}


# ---------------------------------------------------------------- quotas


def quotas_of(method, tokens):
    """Tokens by source of a mixture of one phase, for sources that hold so much."""
    (quotas,) = method.plan({source: Available(count, 1, source) for source, count in tokens.items()}).quotas
    return quotas


def token_more(weights):
    """So much more budget gives every source at least one token more."""
    return 2 * math.ceil(math.fsum(weights.values()) / min(weights.values()))


@given(plans(), st.integers(1, 10**15))
def test_quotas_sum_to_the_budget_and_keep_their_shares(plan, budget):
    tokens, weights = plan
    quotas = quotas_of(Mix(weights=weights, tokens=budget, **FREE), tokens)
    assert sum(quotas.values()) == budget
    total = math.fsum(weights.values())
    for source, one in weights.items():
        assert quotas.get(source, 0) == pytest.approx(one / total * budget, abs=1, rel=1e-12)


@given(plans(), st.integers(1, 10**15), st.sampled_from([0.3, 1.0, 2.5, 4.0]))
def test_caps_are_kept_or_the_feasible_budget_is_said_and_is_feasible(plan, budget, max_epochs):
    tokens, weights = plan

    def quotas(budget):
        return quotas_of(Mix(weights=weights, tokens=budget, max_epochs=max_epochs), tokens)

    try:
        made, refused = quotas(budget), ""
    except RecipeError as error:
        refused = str(error)
    if refused:
        found = re.search(r"at most ([\d,]+) tokens are feasible", refused)
        assume(found)
        feasible = int(found[1].replace(",", ""))
        assert feasible < budget
        made = quotas(feasible)
        assert sum(made.values()) == feasible
        with pytest.raises(Infeasible):
            quotas(feasible + token_more(weights))
    assert all(made[source] <= max_epochs * tokens[source] for source in made)


@given(plans())
def test_without_a_budget_nothing_is_repeated_and_one_source_is_used_up(plan):
    tokens, weights = plan
    assume(all(tokens[source] * math.fsum(weights.values()) / one >= 1 for source, one in weights.items()))
    quotas = quotas_of(Mix(weights=weights), tokens)
    assert all(quotas[source] <= tokens[source] for source in quotas)
    larger = sum(quotas.values()) + token_more(weights)
    with pytest.raises(Infeasible):
        quotas_of(Mix(weights=weights, tokens=larger, max_epochs=1.0), tokens)


def test_a_cap_below_one_epoch_caps_the_natural_budget():
    assert quotas_of(Mix(max_epochs=0.5), {"a": 100, "b": 300}) == {"a": 50, "b": 150}
    with pytest.raises(Infeasible, match="No budget is feasible"):
        quotas_of(Mix(max_epochs=1e-9), {"a": 100})


def test_caps_by_source_are_met_where_no_budget_is_given():
    tokens = {"wiki": 100, "web": 1000}
    assert quotas_of(Mix(weights={"wiki": 1, "web": 1}, max_epochs={"wiki": 3}), tokens) == {"wiki": 300, "web": 300}
    assert quotas_of(Mix(weights={"wiki": 1, "web": 1}, max_epochs=3.0), tokens) == {"wiki": 100, "web": 100}


def test_what_breaks_a_cap_is_refused_or_clipped():
    tokens, asked = {"wiki": 100, "web": 1000}, {"weights": {"wiki": 1.0, "web": 1.0}, "tokens": 500, "max_epochs": 2.0}
    with pytest.raises(Infeasible, match=r"^mix: .*'wiki'"):
        quotas_of(Mix(**asked), tokens)
    assert quotas_of(Mix(**asked, at_cap="clip"), tokens) == {"wiki": 200, "web": 300}


def test_temperature_flattens():
    tokens = {"small": 10**3, "large": 10**9}
    assert quotas_of(Mix(tokens=10**6, temperature=1, **FREE), tokens) == {"small": 1, "large": 999_999}
    share = 1 / (1 + 10 ** (6 / 2))
    assert quotas_of(Mix(tokens=10**6, temperature=2, **FREE), tokens)["small"] == round(share * 10**6)
    assert quotas_of(Mix(tokens=10**6, temperature=1e9, **FREE), tokens)["small"] == 500_000
    assert quotas_of(Mix(tokens=10**6, temperature=1e-3, **FREE), tokens) == {"large": 10**6}


@pytest.mark.parametrize(
    ("weights", "tokens", "message"),
    [
        ({"wbe": 1.0}, {"web": 5}, "no documents of 'wbe'; did you mean 'web'"),
        ({"x": 1.0}, {"web": 5, "books": 5}, "no documents of 'x'; there are books, web"),
        ({"web": 1.0, "books": 1.0}, {"web": 5, "books": 0}, "no documents of 'books'"),
        ({"web": 1.0}, {}, "no documents are left to draw from"),
        (None, {"web": 0}, "no documents are left to draw from"),
    ],
)
def test_a_source_without_documents_is_named(weights, tokens, message):
    with pytest.raises(RecipeError, match=message):
        quotas_of(Mix(weights=weights), tokens)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        *[(None, None), (5, 5), ("500000", 500_000), ("2.5M", 2_500_000), ("20B", 2 * 10**10), (" 1.5 k ", 1500)],
        *[("1T", 10**12), ("1e9", 10**9), ("0.5K", 500)],
    ],
)
def test_token_counts(said, meant):
    assert token_count(said) == meant


CONTRADICTIONS = [
    ([{"share": 0.5}, {"share": 0.6}], None, r"shares of 1\.1 of the budget in all; they sum to 1"),
    ([{"share": 0.5}, {"share": 0.5}, {}], "1K", "shares of 1 of the budget in all, and leave no token to phase 'c'"),
    ([{"share": 1.0}, {"tokens": 5}], None, "shares of 1 of the budget in all, and other phases have `tokens`"),
    ([{"share": 0.5}, {"share": 0.4}], "1K", "shares of 0.9 of the budget in all"),
    ([{"tokens": "2K"}, {}], "1K", "have 2,000 tokens, more than the budget of 1,000"),
    ([{"tokens": "1K"}, {}], "1K", "1,000 of the 1,000 tokens, and leave no token to phase 'b'"),
    ([{"tokens": 500}, {"share": 0.6}, {}], "1K", "500 of the 1,000 tokens and shares of 0.6, and leave no token"),
    ([{"tokens": 500}, {"share": 0.6}], "1K", r"1\.1 of the budget in all \(1,000 tokens\)"),
    ([{"tokens": 500}, {"tokens": 400}], "1K", r"0\.9 of the budget in all \(1,000 tokens\)"),
    ([{"tokens": 500}, {}], None, "phase 'b' takes what phases with `tokens` leave, which need the budget"),
    ([{}, {}], "1K", "'a' and 'b' have no size"),
    ([{"tokens": 9, "counts": {"x": 10}, "rest": "y"}], None, "'a' has 9 tokens, and its `counts` are 10 in all"),
    ([{"tokens": 11, "counts": {"x": 10}}], None, "'a' has 11 tokens, and its `counts` are 10 in all; name a `rest`"),
    ([{"share": 0.1, "counts": {"x": "2K"}, "rest": "y"}, {}], "10K", "'a' has 1,000 tokens, .* are 2,000 in all"),
    ([{"counts": {"x": "2K"}, "rest": "y"}], "1K", "'a' has 1,000 tokens, .* are 2,000 in all"),
]


@pytest.mark.parametrize(("phases", "tokens", "said"), CONTRADICTIONS)
def test_what_no_documents_could_mend_is_refused_in_the_recipe(phases, tokens, said):
    with pytest.raises(RecipeError, match=said):
        build(Mix, {"tokens": tokens, "phases": [{"name": n, **p} for n, p in zip("abc", phases, strict=False)]})


@pytest.mark.parametrize(
    ("phases", "tokens"),
    [
        ([{"share": 0.1}] * 10, None),
        ([{"share": 0.3333333333}] * 2 + [{}], "1K"),
        ([{"share": 0.85}, {"tokens": 10}], None),
        ([{"tokens": 10, "counts": {"x": 10}, "rest": "y"}, {"tokens": 3}], 13),
        ([{"share": 0.5, "counts": {"x": 10}, "rest": "y"}, {}], None),
    ],
)
def test_sizes_that_fit_together_are_taken(phases, tokens):
    build(Mix, {"tokens": tokens, "phases": [{"name": n, **p} for n, p in zip("abcdefghij", phases, strict=False)]})


def test_counts_of_nothing_keep_a_source_out_and_others_are_named():
    phase = {"name": "all", "counts": {"code": 0, "web": "0"}, "rest": "docs"}
    have = {name: Available(10, 1, name) for name in ("code", "web", "docs")}
    assert build(Mix, {"tokens": 5, "phases": [phase]}).plan(have).quotas == ({"docs": 5},)
    assert build(Mix, {"tokens": 50, "phases": [phase]}).sampled(0.1).plan(have).quotas == ({"docs": 5},)
    for count in (-5, "-5", "few"):
        with pytest.raises(RecipeError, match=rf"`counts` of 'code' in phase 'all' is .*{count}"):
            Phase("all", counts={"code": count}, rest="docs")
    with pytest.raises(RecipeError, match="`counts` of phase 'all' names nothing above 0"):
        Phase("all", counts={"code": 0})
    with pytest.raises(RecipeError, match="`tokens` of phase 'all' is 0"):
        Phase("all", tokens=0)


@pytest.mark.parametrize(
    "given", [{"fit": ""}, {"phases": [{"name": "a", "fit": " "}]}, {"phases": [{"name": "a", "utility": ""}]}]
)
def test_no_name_is_no_result_of_a_fit(given):
    with pytest.raises(RecipeError, match="it is the file that a `curate fit` wrote"):
        build(Mix, given)


@pytest.mark.parametrize("name", ["empty", "full"])
def test_a_folder_is_no_result_of_a_fit(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    if name == "full":
        (folder / "shares.json").write_text("{}")
    for method in (Mix(fit=str(folder)), Mix(phases=(Phase("all", utility=str(folder)),))):
        with pytest.raises(AssetError, match=r"`(fit|utility): .*(is a folder|Is a directory)"):
            method.bind({})


@pytest.mark.parametrize("said", ["", "B", "lots", "-1", 0, "0.0001K", "nan", "inf", "1X", "20 billion", -3])
def test_what_is_no_token_count_is_refused(said):
    with pytest.raises(RecipeError, match="a budget is a number of tokens such as"):
        token_count(said)


@pytest.mark.parametrize(
    "wrong",
    [
        {"weights": {"a": 0.0}},
        {"weights": {"a": float("inf")}},
        {"weights": {}},
        {"weights": {"a": 1.0}, "temperature": 1.0},
        {"temperature": 0.0},
        {"temperature": float("inf")},
        {"max_epochs": -1.0},
        {"max_epochs": float("inf")},
        {"validation": 1.0},
        {"validation": -0.1},
        {"seed": -1},
        {"seed": 2**63},
        {"tokens": "many"},
        {"max_epochs": 17.0},
        {"max_epochs": {"web": 17.0}},
        {"max_epochs": {"web": 0.0}},
        {"weights": {"a": 1.0}, "fit": "a.json"},
        {"weights": {"a": 1.0}, "phases": (Phase("a"),)},
        {"phases": (Phase("a", share=0.5), Phase("A", share=0.5))},
    ],
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(RecipeError):
        Mix(**wrong)


# ---------------------------------------------------------------- documents

documents = st.lists(
    st.tuples(st.sampled_from(SOURCES[:3]), st.integers(1, 30), st.sampled_from(["p", "q", "r", None])),
    min_size=1,
    max_size=40,
)


def corpus(rows):
    ids = [hashlib.sha256(f"{n}".encode()).digest()[:16] for n in range(len(rows))]
    return pa.table(
        {
            "id": pa.array(ids, pa.binary(16)),
            "origin": [f"raw/a:{n}" for n in range(len(rows))],
            "source": pa.array([source for source, _, _ in rows]).dictionary_encode(),
            "tokens": pa.array([tokens for _, tokens, _ in rows], pa.int64()),
            "cluster": pa.array([cluster for _, _, cluster in rows], pa.string()),
        }
    )


def mixed(method, table, borders=(), part_rows=1000):
    """Copies, held-out marks and copies by phase of all documents, and the content of `mixture.json`."""
    with driven(method, cut_into(table, borders), part_rows=part_rows) as run:
        made = pa.concat_tables(run.applied())
        ending = method.finish([], [], unit.load_verdict(run.verdict, None))
    fields = [("copies", pa.int32()), ("validation", pa.bool_())]
    if method.phases:
        fields.append(("phase_copies", pa.list_(pa.int32(), len(method.phases))))
    assert made.schema == pa.schema(fields)
    columns = [made[name].to_pylist() if name in made.column_names else None for name in
               ("copies", "validation", "phase_copies")]  # fmt: skip
    return (*columns, json.loads(ending["mixture.json"]))


def slowly(method, table, validation):
    """Copies phase by phase. Up to the end of each, whole repeats for all, and one more for those that come first in
    keyed order until the quota is reached."""
    rows = table.to_pylist()
    groups = [row["source"] + (f"/{row[method.bucket] or 'none'}" if method.bucket else "") for row in rows]
    train = [n for n in range(len(rows)) if not validation[n]]
    have = {group: Available(0, 0, group) for group in sorted({groups[n] for n in train})}
    for n in train:
        one = have[groups[n]]
        have[groups[n]] = Available(one.tokens + rows[n]["tokens"], one.documents + 1, rows[n]["source"])
    plan = method.plan(have)
    copies = [[] for _ in rows]
    for j in range(len(plan.quotas)):
        total = [0] * len(rows)
        for group in have:
            quota = sum(one.get(group, 0) for one in plan.quotas[: j + 1])
            repeats, rest = divmod(quota, have[group].tokens)
            for n in sorted((n for n in train if groups[n] == group), key=lambda n: key_of(rows[n], method.seed)):
                total[n] = repeats + (rest > 0)
                rest -= rows[n]["tokens"]
        for n in range(len(rows)):
            copies[n].append(total[n] - sum(copies[n]))
    return plan, copies


def key_of(row, seed):
    both = hashed(hashed(0, xxh3_64(row["id"], 0)), xxh3_64(row["origin"].encode(), 0))
    return hashed(both, seed)


TARGETS = [
    {"weights": {"web": 3.0, "books": 1.0}},
    {"epochs": {"web": 0.25}},
    {"temperature": 2.0},
    {"utility": {"web": 1.0, "books": 2.0, "code": 0.5}},
    {},
]
shapes = st.one_of(
    st.just(()),
    st.just((Phase("all"),)),
    st.tuples(st.sampled_from(TARGETS), st.sampled_from(TARGETS)).map(
        lambda two: (Phase("base", share=0.8, **two[0]), Phase("last", **two[1]))
    ),
    st.just((Phase("a", share=0.5), Phase("b", share=0.3), Phase("c", share=0.2, weights={"web": 1.0}))),
)


@given(
    documents,
    st.floats(0.1, 3.9),
    st.integers(0, 2**63 - 1),
    st.sampled_from([{}, {"validation": 0.3, "cluster": "cluster"}]),
    shapes,
    st.sampled_from([None, "cluster"]),
    st.lists(st.integers(0, 40), max_size=3),
    st.sampled_from([1, 7, 1000]),
)
def test_copies_are_those_of_the_slow_twin_however_shards_are_cut(
    rows, epochs, seed, holdout, phases, bucket, borders, part_rows
):
    table = corpus([*rows, ("web", 7, None), ("books", 3, None), ("code", 2, None)])
    held = Mix(seed=seed, **holdout).held_out(table).tolist()
    trained = {source for source, out in zip(table["source"].to_pylist(), held, strict=True) if not out}
    assume(trained == {"web", "books", "code"})
    total = sum(tokens for tokens, out in zip(table["tokens"].to_pylist(), held, strict=True) if not out)
    asked = {"tokens": max(1, int(total * epochs)), "seed": seed, "phases": phases, "bucket": bucket}
    method = Mix(**asked, **holdout, **FREE)
    try:
        plan, wanted = slowly(method, table, held)
    except Infeasible:
        assume(False)
    made = copies, marked, by_phase, told = mixed(method, table, borders, part_rows)
    assert marked == held
    assert copies == [1 if out else sum(each) for out, each in zip(held, wanted, strict=True)]
    assert by_phase == (wanted if phases else None)
    assert made == mixed(method, table)
    check_told(told, plan, wanted, table, method)


def check_told(told, plan, copies, table, method):
    """`mixture.json` is the plan, and what the documents make of it: each group within one document, none ahead."""
    jsonschema.validate(told, mixture_schema())
    drawn = told.pop("drawn")
    read = Plan.read(told)
    assert replace(read, warnings=plan.warnings) == plan
    more = sum(phase["tokens"] for phase in drawn) > 1.01 * plan.tokens
    assert read.warnings[: len(plan.warnings)] == plan.warnings
    assert [said[: said.find(" are")] for said in read.warnings[len(plan.warnings) :]] == (
        [f"{sum(phase['tokens'] for phase in drawn):,} tokens"] if more else []
    )
    rows = table.to_pylist()
    groups = [row["source"] + (f"/{row[method.bucket] or 'none'}" if method.bucket else "") for row in rows]
    held = method.held_out(table)
    for j, phase in enumerate(drawn):
        assert phase["name"] == plan.phases[j]
        for group, one in plan.available.items():
            mine = [n for n in range(len(rows)) if groups[n] == group and not held[n]]
            tokens = [sum(copies[n][k] * rows[n]["tokens"] for n in mine) for k in range(j + 1)]
            assert phase["tokens_by_group"].get(group, 0) == tokens[j]
            assert phase["documents_by_group"].get(group, 0) == sum(copies[n][j] for n in mine)
            assert phase["epochs_by_group"].get(group, 0) == pytest.approx(tokens[j] / one.tokens, abs=1e-6)
            quota = sum(quotas.get(group, 0) for quotas in plan.quotas[: j + 1])
            assert quota <= sum(tokens) < quota + max(rows[n]["tokens"] for n in mine)
            seen = [sum(copies[n][: j + 1]) for n in mine]
            assert max(seen) - min(seen) <= 1, "nobody is seen once more before all are seen as often"
        assert phase["tokens"] == sum(phase["tokens_by_group"].values())
    for group, one in plan.available.items():
        worth = sum(phase["effective_by_group"].get(group, 0) for phase in drawn)
        assert worth <= sum(phase["tokens_by_group"].get(group, 0) for phase in drawn) + 1
        assert worth >= min(plan.drawn[group], one.tokens) - 1


@given(documents, st.integers(1, 2000), st.integers(1, 2000))
def test_a_larger_budget_holds_the_smaller_one(rows, less, more):
    table = corpus(rows)
    total = sum(tokens for _, tokens, _ in rows)
    smallest = min(Counter(source for source, _, _ in rows).values()) / total
    assume(less + 2 / smallest <= more)
    small, large = (mixed(Mix(tokens=n, **FREE), table)[0] for n in (less, more))
    assert all(a <= b for a, b in zip(small, large, strict=True))


def test_a_quota_that_ends_with_a_part_is_met_exactly():
    table = corpus([("web", 1, None)] * 30)
    for budget in range(1, 31):
        assert sum(mixed(Mix(tokens=budget), table, part_rows=4)[0]) == budget


def test_drawing_clearly_more_than_the_budget_is_warned_of():
    rows = [(source, 100, bucket) for source in ("web", "code") for bucket in "pqr"] + [("books", 5, None)] * 200
    (said,) = mixed(Mix(tokens=100, bucket="cluster"), corpus(rows))[3]["warnings"]
    assert said.startswith("665 tokens are drawn for a budget of 100, as documents are drawn whole")
    assert "'code/q' has 100 for a quota of 6, " in said
    assert said.endswith("and 2 more groups are above theirs. A larger budget or fewer groups come closer")
    assert mixed(Mix(tokens=990, weights={"books": 1.0}), corpus(rows))[3]["warnings"] == []
    assert mixed(Mix(tokens=496, weights={"books": 1.0}), corpus(rows))[3]["warnings"] == []  # 500: within 1 %
    (said,) = mixed(Mix(tokens=96, weights={"books": 1.0}), corpus(rows))[3]["warnings"]
    assert "budget of 96" in said
    assert "'books' has 5 for a quota of 96." in said


def test_every_seed_draws_others():
    table = corpus([("web", 10, None)] * 200)
    drawn = [mixed(Mix(tokens=1000, seed=seed), table)[0] for seed in range(3)]
    assert [sum(copies) for copies in drawn] == [100] * 3
    assert drawn[0] != drawn[1] != drawn[2]


def test_a_source_that_is_not_named_is_not_drawn():
    copies, *_ = mixed(Mix(weights={"web": 1.0}), corpus([("web", 5, None), ("books", 5, None)]))
    assert copies == [1, 0]


# ---------------------------------------------------------------- phases


def test_two_phases_of_the_worked_example():
    """Base .80/.14/.04/.02, the last fifth .30/.40/.20/.10 of 1,000 tokens: epochs .35, .96, 1.8, 3.6."""
    have = {"web": 2000, "code": 200, "wiki": 40, "math": 10}
    rows = [(source, 1, None) for source, count in have.items() for _ in range(count)]
    base = Phase("base", share=0.8, weights={"web": 0.8, "code": 0.14, "wiki": 0.04, "math": 0.02})
    last = Phase("last", weights={"web": 0.3, "code": 0.4, "wiki": 0.2, "math": 0.1})
    _, _, phases, told = mixed(Mix(tokens=1000, phases=(base, last)), corpus(rows), part_rows=300)
    counted = [Counter(), Counter()]
    for (source, _, _), each in zip(rows, phases, strict=True):
        for counter, count in zip(counted, each, strict=True):
            counter[source] += count
    assert counted == [
        {"web": 640, "code": 112, "wiki": 32, "math": 16},
        {"web": 60, "code": 80, "wiki": 40, "math": 20},
    ]
    assert {group: one["epochs"] for group, one in told["groups"].items()} == pytest.approx(
        {"web": 0.35, "code": 0.96, "wiki": 1.8, "math": 3.6}, abs=1e-12
    )


def test_buckets_may_have_targets_and_caps_of_their_own():
    rows = [("web", 1, bucket) for bucket in "pq" for _ in range(50)] + [("code", 1, None)] * 100
    method = Mix(
        tokens=250,
        bucket="cluster",
        phases=(Phase("all", weights={"web/p": 2.0, "web/q": 1.0, "code": 2.0}),),
        max_epochs={"web/p": 2.0, "code": 1.0},
    )
    copies, _, _, told = mixed(method, corpus(rows))
    assert copies == [2] * 50 + [1] * 150
    assert told["groups"]["code/none"]["allowed"] == 100
    with pytest.raises(Infeasible, match="'web/p'"):
        mixed(Mix(tokens=250, bucket="cluster", max_epochs={"web/p": 0.5}), corpus(rows))


def test_a_bucket_is_a_word_without_a_slash():
    table = corpus([("web", 1, "a/b"), ("web", 1, "c")])
    with pytest.raises(RecipeError, match="holds 'a/b'; no name of a bucket has a slash"):
        mixed(Mix(bucket="cluster"), table)
    scored = table.set_column(4, "cluster", pa.array([0.5, 1.5]))
    with pytest.raises(RecipeError, match="is a column of double; words or whole numbers are wanted"):
        mixed(Mix(bucket="cluster"), scored)
    numbered = table.set_column(4, "cluster", pa.array([3, None], pa.int8()))
    assert set(mixed(Mix(bucket="cluster"), numbered)[3]["groups"]) == {"web/3", "web/none"}


def test_a_source_with_a_slash_is_no_bucket():
    table = corpus([("ünï/x", 1, None), ("ünï", 1, None)])
    assert mixed(Mix(weights={"ünï": 1.0}), table)[0] == [0, 1]
    told = mixed(Mix(bucket="cluster"), table)[3]
    assert {group: one["source"] for group, one in told["groups"].items()} == {"ünï/x/none": "ünï/x", "ünï/none": "ünï"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": ""}, "its name is that of a folder"),
        ({"name": ".a"}, "its name is that of a folder"),
        ({"name": "a/b"}, "its name is that of a folder"),
        ({"name": "a", "share": 0.5, "tokens": 5}, "`share` and `tokens`"),
        ({"name": "a", "share": -0.5}, "`share` of phase 'a' is -0.5"),
        ({"name": "a", "weights": {"a": 1.0}, "fit": "x.json"}, "weights and fit; a phase has one target"),
        ({"name": "a", "weights": {"a": 1.0}, "rest": "b"}, "`rest`"),
        ({"name": "a", "counts": {"a": "lots"}}, "a budget is a number of tokens"),
        ({"name": "a", "weights": {"a": -1.0}}, "is -1.0"),
    ],
)
def test_wrong_phases_are_refused(wrong, message):
    with pytest.raises(RecipeError, match=message):
        Phase(**wrong)


def test_phases_in_a_recipe():
    phases = [
        {"name": "base", "share": 0.9, "counts": {"web": "2K"}, "rest": "code"},
        {"name": "last", "epochs": {"web": 1}},
    ]
    method = build(Mix, {"phases": phases, "tokens": "1M", "max_epochs": {"web": 8}, "bucket": "language"})
    assert method.phase_names == ("base", "last")
    assert method.adds == ("copies", "validation", "phase_copies")
    assert "language" in method.reads
    assert method.spec().phases[0].counts == {"web": 2000}
    assert any("web" in said for said in method.remarks(0))
    with pytest.raises(RecipeError, match="weigths"):
        build(Mix, {"phases": [{"name": "base", "weigths": {"web": 1}}]})


def test_a_trial_run_draws_in_proportion():
    phases = (
        Phase("base", tokens="8K", weights={"web": 1.0, "code": 1.0}),
        Phase("last", counts={"web": 1001, "code": 999}),
    )
    small = Mix(phases=phases, max_epochs=1.0).sampled(0.1)
    plan = small.plan({"web": Available(10, 1), "code": Available(10, 1)})
    assert plan.sizes == (800, 200)
    assert plan.quotas == ({"web": 400, "code": 400}, {"web": 100, "code": 100})
    assert Mix(tokens="1M").sampled(0.25).spec().tokens == 250_000
    odd = tuple(Phase(name, tokens=5) for name in "abc")
    assert Mix(tokens=15, phases=odd).sampled(0.1).plan({"web": Available(10, 1)}).sizes == (1, 1, 1)


# ---------------------------------------------------------------- validation


@given(documents, st.integers(0, 9), st.floats(0.05, 0.95))
def test_twins_are_never_parted(rows, seed, share):
    table = corpus(rows)
    method = Mix(seed=seed, validation=share, cluster="cluster")
    assume(not method.held_out(table).all())
    copies, held, *_ = mixed(method, table)
    for cluster in "pqr":
        assert len({out for out, (_, _, one) in zip(held, rows, strict=True) if one == cluster}) <= 1
    assert all(n == 1 for n, out in zip(copies, held, strict=True) if out)


def test_the_held_out_share_is_drawn_by_documents():
    table = corpus([("web", 5, None)] * 4000)
    held = Mix(validation=0.25).held_out(table)
    assert abs(np.count_nonzero(held) - 1000) < 5 * math.sqrt(4000 * 0.25 * 0.75)
    assert not (held & ~Mix(validation=0.4).held_out(table)).any(), "a larger share holds the smaller one"
    assert (held != Mix(validation=0.25, seed=1).held_out(table)).any()
    assert not Mix().held_out(table).any()


def test_documents_of_no_cluster_are_not_one_cluster():
    table = corpus([("web", 5, None)] * 400 + [("web", 5, "p")] * 400)
    held = Mix(validation=0.5, cluster="cluster").held_out(table)
    assert 100 < np.count_nonzero(held[:400]) < 300
    assert len(set(held[400:].tolist())) == 1
    assert held[:400].tolist() == Mix(validation=0.5).held_out(table)[:400].tolist()
