"""DoReMi and DoGE as updates over tables: the published step, properties of both, and what is refused."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import verbs
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import DataError, RecipeError
from curate.fit import result, weights, weights_verb
from curate.fit.weights import Steps, doge, doremi, read_alignment, read_excess

ROWS = [(1, "a", 3.0, 2.9), (1, "b", 2.5, 2.6), (1, "c", 2.0, 1.5)]


def table(folder: Path, rows: list[tuple], head: str = "step,domain,proxy_loss,ref_loss") -> str:
    path = folder / "table.csv"
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def test_one_step_of_doremi(tmp_path):
    made = doremi(read_excess(table(tmp_path, ROWS)))
    assert list(made.weights.values()) == pytest.approx([0.29441, 0.26640, 0.43919], abs=1e-5)
    assert made.report["mean_value"] == pytest.approx({"a": 0.1, "b": 0.0, "c": 0.5})


def slow(values, start, rate, smoothing):
    """The update as it is written, term by term; the mean over steps."""
    now, sums = list(start), [0.0] * len(start)
    for row in values:
        grown = [weight * math.exp(rate * value) for weight, value in zip(now, row, strict=True)]
        now = [(1 - smoothing) * one / sum(grown) + smoothing / len(grown) for one in grown]
        sums = [total + one for total, one in zip(sums, now, strict=True)]
    return [one / len(values) for one in sums]


matrices = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        st.lists(st.lists(st.floats(-3, 3), min_size=k, max_size=k), min_size=1, max_size=8),
        st.lists(st.floats(0.05, 1), min_size=k, max_size=k),
    )
)


@given(matrices, st.floats(0.01, 2), st.sampled_from([0.0, 1e-4, 0.3, 1.0]))
def test_steps_against_their_formula(drawn, rate, smoothing):
    values, start = np.array(drawn[0]), np.array(drawn[1]) / sum(drawn[1])
    names = tuple("abcde"[: values.shape[1]])
    path = weights.moves(values, start, rate=rate, smoothing=smoothing)
    assert path.mean(axis=0) == pytest.approx(slow(drawn[0], start, rate, smoothing))
    assert path.sum(axis=1) == pytest.approx(np.ones(len(path)))
    assert (path >= smoothing / len(names)).all()
    # What is added to all sources of a step changes nothing, and sources may change places.
    assert weights.moves(values + 100, start, rate=rate, smoothing=smoothing) == pytest.approx(path)
    turned = weights.moves(values[:, ::-1], start[::-1], rate=rate, smoothing=smoothing)
    assert turned[:, ::-1] == pytest.approx(path)


def test_the_answer_is_the_mean_over_steps_and_a_source_keeps_its_last_value(tmp_path):
    rows = [*ROWS, (2, "a", 3.0, 2.0), (2, "c", 2.0, 2.5), (10, "b", 1.0, 0.0)]
    steps = read_excess(table(tmp_path, rows))
    assert steps.values.tolist() == [[pytest.approx(0.1), 0, 0.5], [1, 0, 0], [1, 1, 0]]  # steps 1, 2, 10 as numbers
    assert steps.filled == 3
    made = doremi(steps, start={"a": 2, "b": 1, "c": 1})
    assert list(made.weights.values()) == pytest.approx(slow(steps.values.tolist(), [0.5, 0.25, 0.25], 1, 1e-4))
    given_excess = [(1, "x", 0.5), (1, "y", 0.25)]
    assert read_excess(table(tmp_path, given_excess, "step,source,excess")).values.tolist() == [[0.5, 0.25]]


def test_doge_goes_to_the_source_that_agrees(tmp_path):
    rows = [(step, name, value) for step in range(20) for name, value in (("a", 0.2), ("b", -0.1), ("c", 0.0))]
    steps = read_alignment(table(tmp_path, rows, "step,source,alignment"))
    made = doge(steps, rate=0.5)
    assert made.weights["a"] > made.weights["c"] > made.weights["b"]
    assert list(made.weights.values()) == pytest.approx(slow(steps.values.tolist(), [1 / 3] * 3, 0.5, 0))
    assert made.report["drift"] > 0.1
    assert "still move" in made.report["warnings"][0]
    assert max(doge(steps, rate=500).weights.values()) == pytest.approx(1)  # no overflow


def test_tables_that_tell_nothing_give_no_weights(tmp_path):
    made = doremi(read_excess(table(tmp_path, [(1, "a", 2, 3), (1, "b", 2, 3)])))
    assert made.weights == {}
    assert made.report["signal"] is False


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*ROWS, (1, "a", 1, 1)], "row 5: step 1 of 'a' stands there twice"),
        ([(1, "a", 1, "x"), (1, "b", 1, 1)], "row 2, column 'ref_loss': 'x'"),
        ([(1, "a", 1, "nan"), (1, "b", 1, 1)], "'nan'; a finite number is wanted"),
        ([(1, "", 1, 1), (1, "b", 1, 1)], "row 2, column 'domain' is empty"),
        ([(1, "a", 1, 1)], "has one domain"),
        ([(1, "a", 1)], "row 2: 3 cells where the line of names has 4"),
        ([], "has 0 rows"),
    ],
)
def test_wrong_tables_are_refused_by_row_and_column(tmp_path, rows, said):
    with pytest.raises(DataError, match=said):
        read_excess(table(tmp_path, rows))


def test_wrong_columns_and_parameters_are_refused(tmp_path):
    with pytest.raises(DataError, match="no column 'ref_loss'"):
        read_excess(table(tmp_path, [(1, "a", 1)], "step,source,proxy_loss"))
    with pytest.raises(DataError, match="one column of source, domain is wanted"):
        read_excess(table(tmp_path, [(1, "a", 1)], "step,name,excess"))
    with pytest.raises(DataError, match="1 times a source lacks in a step"):
        read_alignment(table(tmp_path, [(1, "a", 1), (1, "b", 1), (2, "b", 1)], "step,source,alignment"))
    steps = Steps(("a", "b"), np.array([[0.1, 0.2]]), 0)
    with pytest.raises(RecipeError, match="a rate of 0"):
        doge(steps, rate=0)
    with pytest.raises(RecipeError, match="a smoothing of 2"):
        doremi(steps, smoothing=2)
    with pytest.raises(RecipeError, match="no source 'bb' of the start; did you mean 'b'"):
        doremi(steps, start={"a": 1, "bb": 1})
    with pytest.raises(RecipeError, match="no weight for 'b'"):
        doremi(steps, start={"a": 1})


called = partial(verbs.called, weights_verb.register)


def test_the_verbs_write_results_that_a_mixture_can_take(tmp_path, capsys):
    out = str(tmp_path / "out.json")
    code, told = called("doremi", table(tmp_path, ROWS), "-o", out)
    assert (code, result.read(out)) == (0, told["weights"])
    assert json.loads(Path(out).read_text())["kind"] == "doremi"
    aligned = table(tmp_path, [(1, "a", 1), (1, "b", 2), (1, "c", 3)], "step,source,alignment")
    again = str(tmp_path / "again.json")
    code, told = called("doge", aligned, "--rate", "0.1", "--start", out, "-o", again)
    assert code == 0
    assert told["report"]["start"] == pytest.approx(result.read(out))
    assert "mean value" in capsys.readouterr().out
    code, _ = called("doremi", table(tmp_path, [(1, "a", 2, 3), (1, "b", 2, 3)]), "-o", out)
    assert code == 1
    with pytest.raises(RecipeError, match="no signal"):
        result.read(out)
