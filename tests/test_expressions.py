"""Rules as expressions: true, false and unknown, one row at a time, and what is refused before any work."""

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import expressions
from curate.errors import RecipeError

NAN = float("nan")
TABLE = pa.table(
    {
        "words": [0, 60, None, 7],
        "lines": [0, 2, 1, 0],
        "share": [0.5, NAN, None, 1.0],
        "duplicate": [True, False, None, False],
        "source": pa.array(["web", "wiki", None, "books"]).dictionary_encode(),
        "nothing": pa.nulls(4),
    }
)


def judged(expression, table=TABLE):
    """One of true, false, ? per row."""
    true, unknown = expressions.evaluate(expression, table)
    assert (true.dtype, unknown.dtype) == (bool, bool)
    assert not (true & unknown).any()
    return "".join("?" if u else "t" if t else "f" for t, u in zip(true, unknown, strict=True))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("words >= 50", "ft?f"),
        ("not duplicate", "ft?t"),
        ("words IS NULL", "fftf"),
        ("coalesce(words, 50) >= 50", "fttf"),
        ("share >= 0.5", "t??t"),
        ("share < 0.5", "f??f"),
        ("not (share < 0.5)", "t??t"),
        ("coalesce(share, 1) >= 0.5", "t?tt"),
        ("share >= 0.5 or words >= 50", "t??t"),
        ("words > 5 and lines < 2", "ff?t"),
        ("words > 5 or lines = 1", "fttt"),
        ("words BETWEEN 7 AND 60", "ft?t"),
        ("words IN (0, 7)", "tf?t"),
        ("source = 'web'", "tf?f"),
        ("source IN ('web', 'books')", "tf?t"),
        ("source LIKE 'w%'", "tt?f"),
        ("length(source) = 4", "ft?f"),
        ("nothing > 3", "????"),
        ("nothing IS NULL", "tttt"),
        ("words / lines > 5", "?t?t"),
        ("CASE WHEN lines = 0 THEN false ELSE words / lines > 5 END", "ft?f"),
        ("words > 5 AS enough", "ft?t"),
        ("source = 'select * from (now)'", "ff?f"),
    ],
)
def test_true_false_and_unknown(expression, expected):
    assert judged(expression) == expected


def test_a_number_that_is_no_number_is_not_larger_than_all():
    # In Polars NaN > 0.5 is true: a document of no words and no lines would pass.
    assert judged("words / lines > 0.5", pa.table({"words": [0, 1], "lines": [0, 1]})) == "?t"
    assert judged("share > 0.5", pa.table({"share": pa.array([NAN, 1.0], pa.float32())})) == "?t"


def test_tables_without_rows_and_in_chunks():
    assert judged("words >= 50 and share > 0", TABLE.slice(0, 0)) == ""
    assert judged("words >= 50", pa.concat_tables([TABLE.slice(1), TABLE.slice(0, 1)])) == "t?ff"
    assert judged("source = 'web'", pa.concat_tables([TABLE.slice(1), TABLE.slice(0, 1)])) == "f?ft"


@given(st.lists(st.tuples(st.none() | st.integers(-2, 2), st.none() | st.floats(allow_infinity=False)), max_size=8))
def test_rows_do_not_see_each_other(rows):
    table = pa.table(
        {"a": pa.array([a for a, _ in rows], pa.int64()), "b": pa.array([b for _, b in rows], pa.float64())}
    )
    expression = "a >= 0 and (b < 1 or a = 2)"
    alone = "".join(judged(expression, table.slice(i, 1)) for i in range(len(rows)))
    assert judged(expression, table) == alone


@pytest.mark.parametrize("expression", ["", "  ", "1 = 1", "'web'", "count(*) > 1", "* > 1", "words >", "words > 1; x"])
def test_what_is_no_rule_is_refused(expression):
    with pytest.raises(RecipeError, match=r"names no column|cannot read|is wanted"):
        expressions.parse(expression)


@pytest.mark.parametrize(
    "expression",
    [
        *(f"words > {name}(words)" for name in ("avg", "median", "stddev", "variance", "sum", "count", "max", "min")),
        *(f"{name}(words) > 5" for name in ("first", "last", "max", "AVG")),
        "words > quantile_cont(words, 0.9)",
        "corr(words, lines) > 0",
        "words > count(*)",
        "words > count(distinct lines)",
        "length(array_agg(words)) > 1",
        "sum(words) OVER (PARTITION BY source) > 3",
        "rank() over (order by words) < 3",
        "words > lag(words) over (order by words)",
        "row_number() > words",
        "unnest(words) = 1",
        "words = ANY(SELECT 1)",
        "not duplicate and words > 0.5 * max(words)",
    ],
)
def test_what_looks_at_many_rows_is_refused(expression):
    with pytest.raises(RecipeError, match="looks at many rows at once"):
        expressions.parse(expression)


@pytest.mark.parametrize("expression", ["day < now()", "day < CURRENT_DATE", "day > current_timestamp"])
def test_what_asks_the_clock_is_refused(expression):
    with pytest.raises(RecipeError, match="asks the clock"):
        expressions.parse(expression)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("words", "gives Int64, a rule is true or false"),
        ("words + 1", "gives Int64"),
        ("source", "gives String"),
        ("wrods > 3", "names 'wrods', which is no column; did you mean 'words'"),
        ("source > 3", r"cannot be computed \(source is String\)"),
    ],
)
def test_what_only_data_can_show_is_said(expression, message):
    with pytest.raises(RecipeError, match=message):
        expressions.evaluate(expression, TABLE)


def test_columns_are_known_before_any_data():
    assert expressions.columns("b > 1 and (a < b or not c)") == ("b", "a", "c")
    assert expressions.columns('"odd name" = 1') == ("odd name",)


def test_every_bundle_is_made_of_rules():
    assert "gopher_quality" in expressions.bundles()
    for name in expressions.bundles():
        rules = expressions.bundle(name)
        assert rules
        assert all(expressions.columns(rule) for rule in rules.values())


def test_gopher_quality_keeps_what_the_paper_keeps():
    rules = expressions.bundle("gopher_quality")
    lengths = pa.table({"symbol_free_words": np.array([49, 50, 100_000, 100_001])})
    assert judged(rules["word_count"], lengths) == "fttf"


@pytest.mark.parametrize(("name", "hint"), [("gopher_qualty", "did you mean 'gopher_quality'"), ("x", "there are")])
def test_a_bundle_nobody_knows_is_refused(name, hint):
    with pytest.raises(RecipeError, match=f"no rules are called '{name}'; {hint}"):
        expressions.bundle(name)


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.3, 0.12, 0.67, 0.01, 0.349, 0.123456])
@pytest.mark.parametrize(
    "form",
    ["a <= {}", "a >= {}", "a BETWEEN {} AND 5.5", "coalesce(a, 0.5) <= {}", "a <= CASE WHEN b > 0 THEN {} ELSE 1 END"],
)
def test_a_float32_at_the_threshold_is_at_the_threshold(threshold: float, form: str) -> None:
    table = pa.table({"a": pa.array([threshold], pa.float32()), "b": [1]})
    assert expressions.evaluate(form.format(threshold), table)[0].all()


def test_the_cost_of_an_expression_grows_no_faster_than_its_square() -> None:
    """Rules are generated, too: two hundred terms must not take the time of forty thousand."""

    def once(terms: int, number: int) -> float:
        started = time.process_time()
        # Another expression each time, since parsed ones are kept.
        expression = " and ".join(f"a > {terms}{number}{i}" for i in range(terms))
        expressions.evaluate(expression, pa.table({"a": [1.0]}))
        return time.process_time() - started

    def cost(terms: int) -> float:
        return min(once(terms, number) for number in range(5))  # the least: other work on the machine only adds

    cost(5)
    assert cost(160) < 40 * cost(40)
