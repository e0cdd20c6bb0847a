"""Ranks against exact fractions, however the corpus is cut."""

import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from driving import cut_into, driven
from hypothesis import example, given
from hypothesis import strategies as st

from curate import expressions
from curate.errors import RecipeError
from curate.stages.rank import Rank, levels

INF = math.inf
NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 2.0, 2.0, 3.0, -1.5, INF, -INF, math.nan, None, 1 + 2**-16, 1 + 2**-17, 5e-324]),
    st.floats(),
)
GROUPS = st.sampled_from(["web", "web", "code", "", "ünï", None])


def level(value: float) -> tuple[int, Fraction]:
    """Sign and size of a number in 17 binary digits, the rest cut off."""
    if math.isinf(value):
        return (int(math.copysign(1, value)), Fraction(2) ** 1025)
    size = abs(Fraction(value))
    exponent = max(math.frexp(abs(value))[1], -1021)  # numbers below 2^-1022 have all the same steps
    step = Fraction(2) ** (exponent - 17)
    return (-1 if value < 0 else 1, size // step * step)


def slowly(values, groups, flags):
    """The rank of each row as a fraction, looking at all others."""
    key = lambda v: level(v)[0] * (level(v)[1] + 1)  # noqa: E731  a sign of its own for what is cut to zero
    compete = [v is not None and not math.isnan(v) and f is True for v, f in zip(values, flags, strict=True)]
    ranks: list[Fraction | None] = []
    for value, group, counts in zip(values, groups, compete, strict=True):
        if not counts:
            ranks.append(None)
            continue
        rivals = [key(v) for v, g, c in zip(values, groups, compete, strict=True) if c and g == group]
        mine = key(value)
        below, equal = sum(r < mine for r in rivals), sum(r == mine for r in rivals)
        ranks.append((below + Fraction(equal, 2)) / len(rivals))
    return ranks


def corpus(values, groups, flags, *, kind=None):
    return pa.table(
        {
            "score": pa.array(values, kind or pa.float64()),
            "source": pa.array(groups, pa.string()).dictionary_encode(),
            "good": pa.array(flags, pa.bool_()),
        }
    )


def ranked(method, shards, part_rows=1000):
    with driven(method, shards, part_rows=part_rows) as run:
        tables = run.applied()
    assert [table.num_rows for table in tables] == [shard.num_rows for shard in shards]
    assert {table.schema for table in tables} == {pa.schema([(method.adds[0], pa.float32())])}
    return [rank for table in tables for rank in table[0].to_pylist()]


def rounded(ranks):
    return [None if rank is None else float(np.float32(float(rank))) for rank in ranks]


@given(
    st.lists(st.tuples(NUMBERS, GROUPS, st.sampled_from([True, True, True, False, None])), max_size=40),
    st.lists(st.integers(0, 40), max_size=4),
    st.sampled_from([1, 5, 1000]),
)
@example([(0.0, None, True), (-0.0, None, True), (0.0, "", True), (-5e-324, None, True)], [1], 1)
def test_ranks_are_those_of_exact_fractions(rows, borders, part_rows):
    values, groups, flags = ([row[i] for row in rows] for i in range(3))
    shards = cut_into(corpus(values, groups, flags), borders)
    made = ranked(Rank(of="score", by="source", among="good"), shards, part_rows)
    assert made == rounded(slowly(values, groups, flags))
    everyone = [True] * len(rows)
    assert ranked(Rank(of="score", by="source"), shards, part_rows) == rounded(slowly(values, groups, everyone))
    assert ranked(Rank(of="score"), shards, part_rows) == rounded(slowly(values, ["one"] * len(rows), everyone))


@given(st.lists(st.one_of(st.none(), st.integers(-(2**17), 2**17)), max_size=30), st.sampled_from(["int32", "int64"]))
def test_integers_to_two_to_the_seventeenth_are_exact(values, kind):
    whole = [value is not None for value in values]
    known = sorted(value for value in values if value is not None)
    ranks = [
        (known.index(v) + Fraction(known.count(v), 2)) / len(known) if ok else None
        for v, ok in zip(values, whole, strict=True)
    ]
    table = corpus(values, [None] * len(values), whole, kind=getattr(pa, kind)())
    assert ranked(Rank(of="score"), [table]) == rounded(ranks)


@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=30))
def test_levels_keep_the_order(values):
    numbers = np.sort(np.array(values))
    found = levels(numbers)
    assert (np.diff(found) >= 0).all()
    assert found.min() >= 0
    assert found.max() < 2**28
    for a, b, x, y in zip(numbers[:-1], numbers[1:], found[:-1], found[1:], strict=True):
        apart = Fraction(2) ** 1025 if math.isinf(a) or math.isinf(b) else Fraction(b) - Fraction(a)
        if a != b and apart >= max(abs(Fraction(v)) for v in (a, b) if not math.isinf(v)) * Fraction(1, 2**16):
            assert x != y or max(abs(a), abs(b)) < 2.0**-1021


def test_a_tenth_is_a_tenth_of_every_group():
    rows = [(i, "large") for i in range(1000)] + [(i / 7, "small") for i in range(10)] + [(3, "alone")]
    table = corpus([v for v, _ in rows], [g for _, g in rows], [True] * len(rows))
    rank = pa.table({"score_rank": pa.array(ranked(Rank(of="score", by="source"), [table]), pa.float32())})
    kept, _ = expressions.evaluate("score_rank >= 0.9", rank)
    assert kept.nonzero()[0].tolist() == [*range(900, 1000), 1009]
    assert rank["score_rank"][-1].as_py() == 0.5


def test_equal_values_share_the_middle():
    table = corpus([1, 1, 1, 2], ["a"] * 4, [True] * 4)
    assert ranked(Rank(of="score"), [table]) == [0.375, 0.375, 0.375, 0.875]


def test_groups_may_be_numbers_and_nothing_competes_in_an_empty_corpus():
    table = pa.table({"score": pa.array([1, 2, 2**60, 2**63], pa.uint64()), "year": pa.array([9, 9, 10, None])})
    assert ranked(Rank(of="score", by="year"), [table]) == [0.25, 0.75, 0.5, 0.5]
    assert ranked(Rank(of="score", by="year"), [table.slice(0, 0)]) == []
    assert ranked(Rank(of="score", by="year", among="score < 0"), [table]) == [None] * 4


@pytest.mark.parametrize(
    ("kind", "value"), [(pa.bool_(), True), (pa.string(), "0.5"), (pa.list_(pa.int64()), [1])], ids=str
)
def test_what_is_no_number_has_no_rank(kind, value):
    table = pa.table({"score": pa.array([value], kind)})
    with pytest.raises(RecipeError, match=r"rank of 'score' is a column of .*; a column of numbers is wanted"):
        Rank(of="score").scan(table)


def test_groups_of_fractions_are_refused():
    table = pa.table({"score": [1], "share": [0.5]})
    with pytest.raises(RecipeError, match="rank by 'share': it is double; groups are words or whole numbers"):
        Rank(of="score", by="share").scan(table)


def test_what_it_reads_and_adds():
    assert Rank(of="q", by="source", among="not d and q > 1").reads == ("q", "source", "d")
    assert Rank(of="q").adds == ("q_rank",)
    with pytest.raises(RecipeError, match="another for groups"):
        Rank(of="q", by="q")
    with pytest.raises(RecipeError, match="cannot read the expression"):
        Rank(of="q", among="good and")
