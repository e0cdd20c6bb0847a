"""Mixing: quotas that sum to the budget, sources that meet them within one document, twins that are never parted."""

import hashlib
import math
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from driving import cut_into, driven
from hypothesis import assume, given
from hypothesis import strategies as st
from oracles import mix as hashed
from oracles import xxh3_64

from curate.errors import RecipeError
from curate.stages.mix import Mix, token_count

SOURCES = ["books", "code", "web", "ünï/x"]
have = st.dictionaries(st.sampled_from(SOURCES), st.integers(1, 10**12), min_size=1)
weight = st.floats(1e-9, 1e9) | st.integers(1, 10).map(float)


@st.composite
def plans(draw):
    """What sources have and the weights of some of them."""
    tokens = draw(have)
    named = draw(st.lists(st.sampled_from(sorted(tokens)), min_size=1, unique=True))
    return tokens, {source: draw(weight) for source in named}


# ---------------------------------------------------------------- quotas


def token_more(weights):
    """So much more budget gives every source at least one token more."""
    return 2 * math.ceil(math.fsum(weights.values()) / min(weights.values()))


@given(plans(), st.integers(1, 10**15))
def test_quotas_sum_to_the_budget_and_keep_their_shares(plan, budget):
    tokens, weights = plan
    quotas = Mix(weights=weights, tokens=budget, max_epochs=1e300).quotas(tokens)
    assert sum(quotas.values()) == budget
    total = math.fsum(weights.values())
    for source, one in weights.items():
        assert quotas.get(source, 0) == pytest.approx(one / total * budget, abs=1, rel=1e-12)


@given(plans(), st.integers(1, 10**15), st.sampled_from([0.3, 1.0, 2.5, 4.0]))
def test_caps_are_kept_or_the_feasible_budget_is_said_and_is_feasible(plan, budget, max_epochs):
    tokens, weights = plan

    def quotas(budget):
        return Mix(weights=weights, tokens=budget, max_epochs=max_epochs).quotas(tokens)

    try:
        made, refused = quotas(budget), ""
    except RecipeError as error:
        refused = str(error)
    if refused:
        feasible = int(re.search(r"epochs of the .* at most ([\d,]+) tokens are feasible", refused)[1].replace(",", ""))
        assert feasible < budget
        assume(feasible)
        made = quotas(feasible)
        assert sum(made.values()) == feasible
        with pytest.raises(RecipeError, match="are feasible"):
            quotas(feasible + token_more(weights))
    assert all(made[source] <= max_epochs * tokens[source] for source in made)


@given(plans())
def test_without_a_budget_nothing_is_repeated_and_one_source_is_used_up(plan):
    tokens, weights = plan
    quotas = Mix(weights=weights).quotas(tokens)
    assert all(quotas[source] <= tokens[source] for source in quotas)
    larger = sum(quotas.values()) + token_more(weights)
    with pytest.raises(RecipeError, match="are feasible"):
        Mix(weights=weights, tokens=larger, max_epochs=1.0).quotas(tokens)


def test_a_cap_below_one_epoch_caps_the_natural_budget():
    assert Mix(max_epochs=0.5).quotas({"a": 100, "b": 300}) == {"a": 50, "b": 150}
    with pytest.raises(RecipeError, match="leaves not one token to draw"):
        Mix(max_epochs=1e-9).quotas({"a": 100})


def test_temperature_flattens():
    tokens = {"small": 10**3, "large": 10**9}
    assert Mix(tokens=10**6, temperature=1, max_epochs=1e9).quotas(tokens) == {"small": 1, "large": 999_999}
    share = 1 / (1 + 10 ** (6 / 2))
    assert Mix(tokens=10**6, temperature=2, max_epochs=1e9).quotas(tokens)["small"] == round(share * 10**6)
    assert Mix(tokens=10**6, temperature=1e9, max_epochs=1e9).quotas(tokens)["small"] == 500_000
    assert Mix(tokens=10**6, temperature=1e-3, max_epochs=1e9).quotas(tokens) == {"large": 10**6}


@pytest.mark.parametrize(
    ("weights", "tokens", "message"),
    [
        ({"wbe": 1.0}, {"web": 5}, "no documents of source 'wbe'; did you mean 'web'"),
        ({"x": 1.0}, {"web": 5, "books": 5}, "no documents of source 'x'; sources are web, books"),
        ({"web": 1.0, "books": 1.0}, {"web": 5, "books": 0}, "no documents of source 'books'"),
        ({"web": 1.0}, {}, "no documents are left to draw from"),
        (None, {"web": 0}, "no documents are left to draw from"),
    ],
)
def test_a_source_without_documents_is_named(weights, tokens, message):
    with pytest.raises(RecipeError, match=message):
        Mix(weights=weights).quotas(tokens)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        *[(None, None), (5, 5), ("500000", 500_000), ("2.5M", 2_500_000), ("20B", 2 * 10**10), (" 1.5 k ", 1500)],
        *[("1T", 10**12), ("1e9", 10**9), ("0.5K", 500)],
    ],
)
def test_token_counts(said, meant):
    assert token_count(said) == meant


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
    """Copies and held-out marks of all documents."""
    with driven(method, cut_into(table, borders), part_rows=part_rows) as run:
        made = pa.concat_tables(run.applied())
    assert made.schema == pa.schema([("copies", pa.int32()), ("validation", pa.bool_())])
    return made["copies"].to_pylist(), made["validation"].to_pylist()


def slowly(method, table, validation):
    """Whole repeats for all, and one more for those that come first in keyed order until the quota is reached."""
    rows = table.to_pylist()
    train = [n for n in range(len(rows)) if not validation[n]]
    tokens = Counter()
    for n in train:
        tokens[rows[n]["source"]] += rows[n]["tokens"]
    copies = [int(one) for one in validation]
    for source, quota in method.quotas(dict(sorted(tokens.items()))).items():
        mine = [n for n in train if rows[n]["source"] == source]
        repeats, rest = divmod(quota, tokens[source])
        for n in sorted(mine, key=lambda n: key_of(rows[n], method.seed)):
            copies[n] = repeats + (rest > 0)
            rest -= rows[n]["tokens"]
    return copies


def key_of(row, seed):
    both = hashed(hashed(0, xxh3_64(row["id"], 0)), xxh3_64(row["origin"].encode(), 0))
    return hashed(both, seed)


@given(
    documents,
    st.floats(0.01, 3.9),
    st.integers(0, 2**63 - 1),
    st.sampled_from([0.0, 0.3]),
    st.lists(st.integers(0, 40), max_size=3),
    st.sampled_from([1, 7, 1000]),
)
def test_copies_are_those_of_the_slow_twin_however_shards_are_cut(rows, epochs, seed, validation, borders, part_rows):
    table = corpus(rows)
    method = Mix(seed=seed, validation=validation, cluster="cluster")
    held = method.held_out(table).tolist()
    assume(not all(held))
    total = sum(tokens for (_, tokens, _), out in zip(rows, held, strict=True) if not out)
    method = Mix(tokens=max(1, int(total * epochs)), seed=seed, validation=validation, cluster="cluster")
    copies, marked = mixed(method, table, borders, part_rows)
    assert marked == held
    assert copies == slowly(method, table, held)
    assert (copies, marked) == mixed(method, table)


@given(documents, st.floats(0.01, 3.9), st.dictionaries(st.sampled_from(SOURCES[:3]), weight, min_size=1))
def test_realised_tokens_are_within_a_document_of_the_quota(rows, epochs, weights):
    table = corpus(rows)
    sources = Counter()
    for source, tokens, _ in rows:
        sources[source] += tokens
    assume(set(weights) <= set(sources))
    method = Mix(weights=weights, tokens=max(1, int(sum(sources.values()) * epochs)), max_epochs=1e300)
    quotas = method.quotas(dict(sources))
    assume(max(quotas[s] / sources[s] for s in quotas) < 2**31)
    copies, _ = mixed(method, table)
    for source in sources:
        drawn = sum(n * tokens for n, (s, tokens, _) in zip(copies, rows, strict=True) if s == source)
        largest = max(tokens for s, tokens, _ in rows if s == source)
        assert quotas.get(source, 0) <= drawn < quotas.get(source, 0) + largest
        mine = [n for n, (s, _, _) in zip(copies, rows, strict=True) if s == source]
        assert max(mine) - min(mine) <= 1


@given(documents, st.integers(1, 2000), st.integers(1, 2000))
def test_a_larger_budget_holds_the_smaller_one(rows, less, more):
    table = corpus(rows)
    total = sum(tokens for _, tokens, _ in rows)
    smallest = min(Counter(source for source, _, _ in rows).values()) / total
    assume(less + 2 / smallest <= more)
    small, large = (mixed(Mix(tokens=n, max_epochs=1e9), table)[0] for n in (less, more))
    assert all(a <= b for a, b in zip(small, large, strict=True))


def test_a_quota_that_ends_with_a_part_is_met_exactly():
    table = corpus([("web", 1, None)] * 30)
    for budget in range(1, 31):
        assert sum(mixed(Mix(tokens=budget), table, part_rows=4)[0]) == budget


def test_every_seed_draws_others():
    table = corpus([("web", 10, None)] * 200)
    drawn = [mixed(Mix(tokens=1000, seed=seed), table)[0] for seed in range(3)]
    assert [sum(copies) for copies in drawn] == [100] * 3
    assert drawn[0] != drawn[1] != drawn[2]


def test_a_source_that_is_not_named_is_not_drawn():
    copies, _ = mixed(Mix(weights={"web": 1.0}), corpus([("web", 5, None), ("books", 5, None)]))
    assert copies == [1, 0]


# ---------------------------------------------------------------- validation


@given(documents, st.integers(0, 9), st.floats(0.05, 0.95))
def test_twins_are_never_parted(rows, seed, share):
    table = corpus(rows)
    method = Mix(seed=seed, validation=share, cluster="cluster")
    assume(not method.held_out(table).all())
    copies, held = mixed(method, table)
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
