"""Designs of small runs, and the tables that they come back in."""

import corpus
import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_regmix import PILE, files, toy

from curate import recipe
from curate.errors import RecipeError
from curate.fit.designs import LEAST, Space, capped, clipped, design, fragment, most_epochs, simplex, space, table
from curate.fit.runs import Runs, available, read_available, read_mixtures, read_runs, target
from curate.manifest import Manifest
from curate.outputs import state
from curate.run import run
from curate.stages.mix import Mix

# --- the sampler -----------------------------------------------------------------------------------------------------


@st.composite
def held(draw) -> tuple[dict[str, int], int]:
    """Tokens by source, and a budget that four epochs of them can meet with some room."""
    counts = draw(st.lists(st.integers(1_000, 10**9), min_size=2, max_size=6))
    return {f"s{i}": count for i, count in enumerate(counts)}, max(1, int(sum(counts) * draw(st.floats(0.01, 3.0))))


@given(held(), st.integers(0, 5))
def test_designs_keep_bounds_and_sum_to_one(given_, seed):
    counts, tokens = given_
    where = space(counts, tokens=tokens, max_epochs=4)
    try:
        made = design(where, 6, seed=seed)
    except RecipeError as error:
        assert "different mixtures" in str(error) or "multiples" in str(error)  # noqa: PT017
        return
    units = made.mixtures / LEAST
    np.testing.assert_allclose(units, np.round(units), atol=1e-6)
    assert (np.round(units).astype(int).sum(axis=1) == round(1 / LEAST)).all()
    assert (made.mixtures <= where.bounds + 1e-12).all()
    assert len(np.unique(made.mixtures, axis=0)) == 6
    # In tokens: no source is drawn more often than four times over the run that is planned.
    epochs = made.mixtures * tokens / np.array([counts[name] for name in where.names])
    assert epochs.max() <= 4 + 1e-9


def test_a_design_depends_on_names_and_seed_alone():
    one = design(space({"web": 900, "code": 90, "wiki": 10}, tokens=None, max_epochs=4), 20, seed=1)
    same = design(space({"wiki": 10, "web": 900, "code": 90}, tokens=None, max_epochs=4), 20, seed=1)
    other = design(space({"wiki": 10, "web": 900, "code": 90}, tokens=None, max_epochs=4), 20, seed=2)
    np.testing.assert_array_equal(one.mixtures, same.mixtures)
    assert one.names == same.names == ("code", "web", "wiki")
    assert (one.mixtures != other.mixtures).any()


def test_the_pile_is_drawn_as_published():
    # A bound of 15 times the natural share: acceptance 0.57, and 51,200 draws leave some 25.8 thousand distinct ones.
    where = space({name: int(share * 1e9) for name, share in PILE.items()}, tokens=10**9, max_epochs=15)
    np.testing.assert_allclose(where.bounds, np.minimum(1, 15 * where.prior), rtol=1e-6)
    made = design(where, 512, seed=42)
    assert made.report["drawn"] == 51_200
    assert abs(made.report["accepted"] / made.report["drawn"] - 0.57) < 0.01
    assert abs(made.report["distinct"] - 25_800) < 500
    assert abs(made.report["zeros"] - 0.62) < 0.03
    assert made.report["clipped"] == 0


def test_tiny_concentrations_give_no_nan_and_no_row_of_zeros():
    rows = simplex(np.random.default_rng(0), np.full((2_000, 5), 1e-5))
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(rows.sum(axis=1), 1)


def test_draws_are_those_of_a_dirichlet_distribution():
    concentration = np.array([0.05, 0.5, 2.0])
    rows = simplex(np.random.default_rng(0), np.broadcast_to(concentration, (40_000, 3)))
    total = concentration.sum()
    mean = concentration / total
    np.testing.assert_allclose(rows.mean(axis=0), mean, atol=0.01)
    np.testing.assert_allclose(rows.var(axis=0), mean * (1 - mean) / (total + 1), atol=0.005)


@given(st.integers(2, 6), st.floats(1.0, 3.0), st.integers(0, 50))
def test_clipped_rows_keep_bounds_and_sum(count, slack, seed):
    random = np.random.default_rng(seed)
    bounds = np.minimum(1.0, simplex(random, np.ones((1, count)))[0] * slack)
    if bounds.sum() < 1:
        bounds /= bounds.sum()
    rows = simplex(random, np.full((20, count), 0.2))
    rows[0] = np.eye(count)[0]
    made = clipped(rows, bounds)
    assert (made <= bounds).all()
    np.testing.assert_allclose(made.sum(axis=1), 1, atol=1e-9)
    within = (rows <= bounds).all(axis=1)
    np.testing.assert_array_equal(made[within], rows[within])


def test_tight_bounds_are_met_by_clipping_and_told():
    where = space({"a": 100, "b": 100, "c": 100, "d": 100}, tokens=1_500, max_epochs=4)
    made = design(where, 64, seed=0)
    assert made.report["clipped"] > 0
    assert made.mixtures.max() <= 4 * 100 / 1_500


def test_sources_too_small_for_any_mixture_are_told():
    made = design(space({"a": 10**9, "b": 10**9, "c": 1_000}, tokens=10**9, max_epochs=4), 8, seed=0)
    assert made.report["never"] == ["c"]
    assert not made.mixtures[:, 2].any()


@pytest.mark.parametrize(
    ("counts", "tokens", "said"),
    [
        ({"a": 5}, None, "two sources"),
        ({"a": 5, "b": 0}, None, "'b' has 0 tokens"),
        ({"a": 100, "b": 100}, 1_000, "800 is the most, and 5 epochs are the least"),
        ({"a": 5, "b": 5}, 20_900, "40 is the most, and 2,090 epochs are the least"),
    ],
)
def test_spaces_that_cannot_be(counts, tokens, said):
    with pytest.raises(RecipeError, match=said):
        space(counts, tokens=tokens, max_epochs=4)


def test_more_runs_than_mixtures_are_refused():
    with pytest.raises(RecipeError, match="different mixtures where 500"):
        design(Space(("a", "b"), np.array([0.5, 0.5]), np.array([0.51, 0.51])), 500, seed=0)


def test_bounds_by_hand():
    where = space({"code": 10, "web": 90}, tokens=None, max_epochs=4)
    np.testing.assert_array_equal(capped(where, {"web": 0.6}).bounds, [1.0, 0.6])
    with pytest.raises(RecipeError, match=r"no source 'wb' to bound; did you mean 'web'"):
        capped(where, {"wb": 0.6})
    with pytest.raises(RecipeError, match=r"sum to 0\.8"):
        capped(where, {"web": 0.6, "code": 0.2})


def test_mixtures_go_out_and_come_back(tmp_path):
    made = design(space({"web": 900, "code": 90, "wiki": 10}, tokens=None, max_epochs=4), 12, seed=1)
    path = tmp_path / "mixtures.csv"
    path.write_text(table(made))
    back = read_mixtures(str(path))
    assert back.names == made.names
    assert back.index == tuple(map(str, range(1, 13)))
    np.testing.assert_allclose(back.shares, made.mixtures, atol=1e-12)
    for row in made.mixtures:
        wanted = dict(zip(made.names, row.tolist(), strict=True))
        step = Mix(**yaml.safe_load(fragment(wanted, tokens=500))["mix"])
        assert step.weights == {n: v for n, v in wanted.items() if v}
        assert (step.tokens, step.max_epochs) == (500, 4)


@pytest.mark.parametrize("most", [None, 1.5, 3.0, 20.0])
def test_a_plan_says_its_tokens_and_its_cap(most):
    step = Mix(**yaml.safe_load(fragment({"a": 0.5, "b": 0.5}, tokens=10, max_epochs=most))["mix"])
    assert (step.tokens, step.max_epochs, step.beyond_sixteen) == (10, most or 4.0, most == 20)


def test_the_most_epochs_of_a_mixture():
    assert most_epochs({"a": 1, "b": 3}, {"a": 100, "b": 200, "c": 1}, tokens=400) == 1.5
    with pytest.raises(RecipeError, match="no tokens of 'web2'; did you mean 'web1'"):
        most_epochs({"web2": 1}, {"web1": 10}, tokens=1)


# --- tables ----------------------------------------------------------------------------------------------------------


def test_tables_are_joined_by_index_in_any_order(tmp_path):
    runs = read_runs(*files(tmp_path, "index,web,code\n7,1,0\nb,0.5,0.5\nx,0,1\n", "loss,index\n2,b\n3,7\n9,only\n"))
    assert runs.mixtures.index == ("7", "b")
    assert runs.mixtures.names == ("code", "web")
    np.testing.assert_array_equal(runs.mixtures.shares, [[0, 1], [0.5, 0.5]])
    np.testing.assert_array_equal(runs.losses["loss"], [3, 2])
    assert any("2 runs stand in only one" in said for said in runs.warnings)


def test_rounded_rows_stay_and_others_are_divided(tmp_path):
    path, _ = files(tmp_path, "index,a,b\n1,0.333,0.666\n2,30,70\n", "")
    made = read_mixtures(path)
    np.testing.assert_allclose(made.shares, [[0.333, 0.666], [0.3, 0.7]])
    assert len(made.warnings) == 1
    assert "1 of 2 runs do not sum to 1 (run 2: 100)" in made.warnings[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,a,b\n1,0,1\n", "no column 'index'"),
        ("index,a,b\n", "no rows"),
        ("index,a,b\n1,0,0\n", "all shares of run 1 are 0"),
        ("index,a,b\n1,-0.5,1.5\n", "run 1 has -0.5 of 'a'"),
        ("index,a,b\n1,,1\n2,1,0\n", "run 1 has nan of 'a'"),
        ("index,a,b\n1,x,1\n", "'a' holds String"),
        ("index,a,b\n1,0,1\n1,1,0\n", "run 1 stands there more than once"),
        ("index,a\n1,1\n", "1 columns of sources"),
        ("index,a,b\n1,3.1,2.9\n2,3.3,2.7\n3,0.5,0.5\n", "a, b sum to 1 in 1 of 3 runs only; shares of sources"),
    ],
)
def test_tables_of_mixtures_that_are_wrong(tmp_path, text, said):
    path, _ = files(tmp_path, text, "")
    with pytest.raises(RecipeError, match=said):
        read_mixtures(path)


def test_targets():
    runs = toy(20, 0)
    assert target(runs, "web").names == ("web_loss",)
    both = target(runs, "mean")
    assert both.names == ("web_loss", "more")
    expected = (runs.losses["web_loss"] - runs.losses["web_loss"].mean()) / runs.losses["web_loss"].std()
    np.testing.assert_allclose(both.values, expected)
    with pytest.raises(RecipeError, match="no loss 'webloss'; did you mean 'web_loss'"):
        target(runs, "webloss")
    with pytest.raises(RecipeError, match="part of 2 losses"):
        target(Runs(runs.mixtures, {"a_loss": np.ones(20), "b_loss": np.ones(20)}), "loss")
    with pytest.raises(RecipeError, match="the same in all 20 runs"):
        target(Runs(runs.mixtures, {"a": np.ones(20)}), "a")


def test_runs_without_a_loss_are_left_out_and_told():
    runs = toy(20, 0)
    runs.losses["web_loss"][[3, 5]] = np.nan, np.inf
    found = target(runs, "web_loss")
    assert len(found.rows) == 18
    assert not {3, 5} & set(found.rows.tolist())
    assert "2 of 20 runs have no finite loss" in found.warnings[0]


def test_what_is_available(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"web": 10, "code": {"tokens": 5, "documents": 2}}')
    assert read_available(str(path)) == {"web": 10, "code": 5}
    path.write_text('{"web": "10"}')
    with pytest.raises(RecipeError, match="'web' has '10' tokens"):
        read_available(str(path))


def test_what_a_run_has_is_what_it_may_train_on(tmp_path):
    corpus.write_corpus(tmp_path, documents=60)
    (tmp_path / "recipe.yaml").write_text(
        'name: small\ningest: {files: ["raw/docs-*", "raw/code-*"], source: {field: source}, max_rejects: 0.1}\n'
        "stages: [{tokenize: {tokenizer: tokenizer.json, engine: tokenizers}}, {mix: {validation: 0.2}}]\n"
    )
    out = tmp_path / "run"
    run(recipe.load(str(tmp_path / "recipe.yaml")), str(out))
    columns = []
    for step, name in zip(state(str(out)), ("source", "tokens", "validation"), strict=True):
        manifest = Manifest.load(str(out / step["folder"]))
        assert manifest is not None
        columns.append(
            pl.concat([pl.read_parquet(out / step["folder"] / s.name, columns=[name]) for s in manifest.shards])
        )
    sums: dict[str, int] = {}
    for source, tokens, validation in pl.concat(columns, how="horizontal").iter_rows():
        sums[source] = sums.get(source, 0) + tokens * (not validation)
    assert available(str(out)) == sums
    assert pl.concat(columns, how="horizontal")["validation"].any()
    assert len(sums) == 2
