"""projektor: both stages against what they should recover, the gradient against differences, and what is refused."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import verbs
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from static_model import write_static

from curate import recipe
from curate.errors import DataError, RecipeError
from curate.fit import projektor, projektor_verb, result
from curate.fit.projektor import Clouds, Measured, Surface, features, fit, line, projected, read_measured, simplex
from curate.run import run


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clouds(seed: int, sources: int = 3, epsilon: float = 0.1) -> Clouds:
    random = np.random.default_rng(seed)
    means = random.normal(size=(sources + 1, 4)) * 2
    drawn = [unit(random.normal(size=(5 + 3 * i, 4)) + means[i]) for i in range(sources + 1)]
    return Clouds(tuple(drawn[:-1]), drawn[-1], epsilon)


# --- the second stage: a line in log size ----------------------------------------------------------------------------


@given(st.floats(-5, 5), st.floats(-1, 1), st.floats(1, 1e12), st.floats(1, 1e6), st.floats(1.01, 1e3))
def test_a_line_in_log_size_is_followed_exactly(a, b, size, small, factor):
    sizes = small, small * factor
    parts = line(size, *sizes)
    found = sum(part * (a + b * math.log(at)) for part, at in zip(parts, sizes, strict=True))
    assert found == pytest.approx(a + b * math.log(size), abs=1e-9 * (1 + abs(parts[0])))


def test_the_sizes_themselves_and_a_projection_that_cannot_be():
    assert line(1_000, 1_000, 1_500) == (1, 0)
    assert line(1_500, 1_000, 1_500) == pytest.approx((0, 1))
    small, large = line(10_000, 1_000, 1_500)
    assert 0.5 * small + 0.6 * large == pytest.approx(1.068, abs=5e-4)
    for sizes in ((10, 5, 5), (10, 0, 5), (math.inf, 1, 2)):
        with pytest.raises(RecipeError, match="two that differ"):
            line(*sizes)


# --- the first stage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", [9, 12, 40])
def test_planted_coefficients_of_three_sources_are_found(runs):
    random = np.random.default_rng(runs)
    shares, distance = random.dirichlet(np.ones(3), runs), random.uniform(0.2, 1, runs)
    planted = random.normal(size=9)
    made = fit(shares, distance, features(shares, distance) @ planted)
    assert made.coefficients == pytest.approx(planted, rel=1e-6, abs=1e-6)
    assert made.unknown == 0
    assert np.isfinite(made.left_out).any() == (runs > 9)


def test_what_a_run_left_out_would_have_been():
    random = np.random.default_rng(1)
    shares, distance, values = random.dirichlet(np.ones(3), 15), random.uniform(0.2, 1, 15), random.normal(size=15)
    made = fit(shares, distance, values)
    for row in (0, 7, 14):
        others = np.arange(15) != row
        without = fit(shares[others], distance[others], values[others]).coefficients
        predicted = (features(shares[row : row + 1], distance[row : row + 1]) @ without)[0]
        assert made.left_out[row] == pytest.approx(values[row] - predicted, rel=1e-5)


def test_sources_may_change_places_and_two_are_enough():
    random = np.random.default_rng(2)
    for k in (2, 3, 5):
        shares, distance = random.dirichlet(np.ones(k), 30), random.uniform(0.2, 1, 30)
        values = random.normal(size=30)
        one, two = fit(shares, distance, values), fit(shares[:, ::-1], distance, values)
        assert two.residuals == pytest.approx(one.residuals)
        assert two.coefficients.reshape(3, k)[:, ::-1] == pytest.approx(one.coefficients.reshape(3, k), abs=1e-6)
        assert one.unknown == two.unknown == 0
    with pytest.raises(RecipeError, match="8 runs of a size are too few for 3 sources; 9"):
        fit(np.full((8, 3), 1 / 3), np.ones(8), np.ones(8))


# --- shares ----------------------------------------------------------------------------------------------------------


@given(arrays(np.float64, st.integers(1, 6), elements=st.floats(-5, 5)))
def test_the_nearest_shares(point):
    found = simplex(point)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    # Nearest, as all others lie behind: (point - found) . (other - found) <= 0 at the corners.
    assert ((point - found) @ (np.eye(len(point)) - found).T <= 1e-9).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_of_the_transport_against_differences(seed):
    where = clouds(seed)
    shares = np.random.default_rng(seed).dirichlet(np.full(3, 5.0))
    _, slope = where.at(shares)
    for one, two in ((0, 1), (1, 2), (2, 0)):
        step = np.zeros(3)
        step[one], step[two] = 0.02, -0.02
        change = (where.at(shares + step)[0] - where.at(shares - step)[0]) / 0.04
        assert slope[one] - slope[two] == pytest.approx(change, abs=5e-3)


def test_a_source_like_the_target_is_what_is_nearest():
    where = clouds(0)
    same = Clouds((*where.sources[:2], where.target), where.target, 0.02)
    corners = [same.at(np.eye(3)[i])[0] for i in range(3)]
    assert corners[2] < min(corners[:2])
    coefficients = np.array([1.0, 1, 1, 0, 0, 0, 0, 0, 0])  # performance is the distance itself
    shares, value, steps = projektor.descend(coefficients, same, np.full(3, 1 / 3))
    assert shares[2] > 0.95
    assert value <= corners[2] + 1e-3
    assert 0 < steps < projektor.STEPS


def measured(seed: int, *, noise: float = 0.0, sizes: tuple[float, ...] = (1e6, 2e6)) -> tuple[Measured, np.ndarray]:
    """Losses that fall with log size and have their least, at every size, at known shares."""
    random = np.random.default_rng(seed)
    best = np.array([0.5, 0.3, 0.2])
    shares = random.dirichlet(np.ones(3) * 2, 20)
    distance = 0.3 + ((shares - 0.3) ** 2).sum(axis=1)
    loss = 3 + ((shares - best) ** 2).sum(axis=1)  # holds p^2: in reach by way of the distance alone
    rows = [
        (size, row, dist, one - 0.1 * math.log(size))
        for size in sizes
        for row, dist, one in zip(shares, distance, loss, strict=True)
    ]
    values = np.array([row[3] for row in rows]) + random.normal(size=len(rows)) * noise
    held = np.array([row[1] for row in rows])
    return Measured(
        ("a", "b", "c"), np.array([row[0] for row in rows]), held, values, "loss", np.array([row[2] for row in rows])
    ), best


def test_from_two_small_sizes_to_the_best_shares_of_a_large_one():
    runs, best = measured(0)
    made = projected(runs, size=1e9)
    assert list(made.weights.values()) == pytest.approx(best, abs=0.03)
    assert made.report["predicted"] == pytest.approx(3 - 0.1 * math.log(1e9), abs=0.01)
    assert made.report["predicted"] < made.report["predicted_of_equal_shares"]
    assert made.report["signal"]
    assert made.report["beyond"] == []


def test_no_signal_no_weights():
    runs, _ = measured(0)
    noise = np.random.default_rng(5).normal(size=len(runs.values))
    made = projected(Measured(runs.names, runs.sizes, runs.shares, noise + 5, "loss", runs.distances), size=4e6)
    assert made.weights == {}
    assert "no weights" in " ".join(made.report["warnings"])


def test_accuracies_that_cannot_be_are_told_and_logits_stay_inside():
    runs, _ = measured(0)
    good = 0.9 - 0.35 * (runs.values - runs.values.min())
    accuracies = Measured(runs.names, runs.sizes, runs.shares, good, "accuracy", runs.distances)
    made = projected(accuracies, size=1e12)
    assert made.report["predicted"] > 1
    assert "fit on logits" in " ".join(made.report["warnings"])
    inside = projected(accuracies, size=1e12, scale="logit")
    assert inside.report["predicted"] <= 1
    assert "fit on logits" not in " ".join(inside.report["warnings"])
    with pytest.raises(RecipeError, match="logits are of accuracies"):
        projected(runs, size=1e9, scale="logit")


def test_what_cannot_be_projected_is_refused():
    runs, _ = measured(0)
    with pytest.raises(RecipeError, match="say for which size"):
        projected(runs)
    with pytest.raises(RecipeError, match="a second one is needed"):
        projected(measured(0, sizes=(1e6,))[0], size=1e9)
    with pytest.raises(RecipeError, match="runs of 3 sizes"):
        projected(measured(0, sizes=(1.0, 2.0, 3.0))[0], size=1e9)
    bare = Measured(runs.names, runs.sizes, runs.shares, runs.values, "loss", None)
    with pytest.raises(RecipeError, match="no column 'ot'"):
        projected(bare, size=1e9)
    assert projected(measured(0, sizes=(1e6,))[0]).report["size"] == 1e6


def test_a_quadratic_between_distances():
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.ones(4), 20)
    values = shares @ np.arange(4) + (shares**2) @ np.ones(4)
    made = projektor.surface(shares, values)
    assert isinstance(made, Surface)
    for row, value in zip(shares[:5], values, strict=False):
        assert made.at(row)[0] == pytest.approx(value)
        step = np.array([1e-5, -1e-5, 0, 0])
        change = (made.at(row + step)[0] - made.at(row - step)[0]) / 2e-5
        slope = made.at(row)[1]
        assert slope[0] - slope[1] == pytest.approx(change, abs=1e-6)


# --- the table and the verb ------------------------------------------------------------------------------------------


def write(path: Path, runs: Measured, columns: tuple[str, ...] = ("size", "ot", "loss")) -> str:
    assert runs.distances is not None
    known = {"size": runs.sizes, "ot": runs.distances, "loss": runs.values}
    known |= dict(zip(runs.names, runs.shares.T, strict=True))
    names = (*columns, *runs.names)
    rows = zip(*(known[name].tolist() for name in names), strict=True)
    path.write_text("\n".join([",".join(names), *(",".join(map(repr, row)) for row in rows)]) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("loss,a,b\n1,1,0\n", "no column 'size'"),
        ("size,a,b\n1,1,0\n", "one column of loss, accuracy"),
        ("size,loss,a\n1,1,1\n", "1 columns of shares"),
        ("size,loss,a,b\n1,1,0.5,0.4\n", "row 2: shares sum to 0.9"),
        ("size,loss,a,b\n1,1,1,-1\n", "row 2, column 'b': '-1'; a finite number of 0 or more"),
        ("size,accuracy,a,b\n1,50,1,0\n", "'50'; a finite number from 0 to 1"),
        ("size,loss,a,b\n1,,1,0\n", "row 2, column 'loss': ''"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, text, said):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_measured(str(path))


called = partial(verbs.called, projektor_verb.register, "projektor")


def test_the_verb_writes_a_result_that_a_mixture_can_take(tmp_path, capsys):
    runs, best = measured(0)
    table, out = write(tmp_path / "t.csv", runs), str(tmp_path / "out.json")
    code, told = called(table, "--size", "1B", "-o", out)
    assert code == 0
    assert result.read(out) == told["weights"]
    assert list(told["weights"].values()) == pytest.approx(best, abs=0.03)
    assert json.loads(Path(out).read_text())["kind"] == "projektor"
    assert "predicted loss at 1e+09" in capsys.readouterr().out
    with pytest.raises(RecipeError, match="give both"):
        called(table, "--size", "1B", "--run", "x", "-o", out)


def test_distances_from_the_vectors_of_a_run(tmp_path):
    model = write_static(tmp_path / "model")
    random = np.random.default_rng(0)
    words = {"a": "cat dog the", "b": "one two three", "c": "x with too", "exam": "one two too"}
    lines = [
        json.dumps({"text": " ".join(random.choice(of.split(), 6)), "source": source})
        for source, of in words.items()
        for _ in range(30)
    ]
    (tmp_path / "raw.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "recipe.yaml").write_text(
        "name: small\ningest: {files: raw.jsonl, source: {field: source}}\nstages:\n"
        f"  - embed: {{model: {model}}}\n"
    )
    out = str(tmp_path / "run")
    run(recipe.load(str(tmp_path / "recipe.yaml")), out)
    given = {"towards": "source = 'exam'", "embedding": "embedding", "sample": 20}
    found = projektor.clouds(out, ("a", "b", "c"), **given)
    assert [len(rows) for rows in (*found.sources, found.target)] == [20] * 4
    corners = [found.at(np.eye(3)[i])[0] for i in range(3)]
    assert corners[0] > max(corners[1:])
    with pytest.raises(RecipeError, match="no other documents of source 'd'"):
        projektor.clouds(out, ("a", "d"), **given)
    with pytest.raises(RecipeError, match="no documents for which"):
        projektor.clouds(out, ("a", "b"), **(given | {"towards": "source == 'none'"}))
    shares = random.dirichlet(np.ones(3), 14)
    losses = np.array([2 + found.at(row)[0] for row in shares])
    runs = Measured(("a", "b", "c"), np.full(14, 100.0), shares, losses, "loss", np.zeros(14))
    table = write(tmp_path / "t.csv", runs, ("size", "loss"))
    code, told = called(
        table, "--run", out, "--towards", "source = 'exam'", "--sample", "20", "-o", str(tmp_path / "r.json")
    )
    assert code == 0
    assert told["weights"].get("a", 0) < 0.05
    assert told["report"]["predicted"] <= losses.min() + 1e-3
