"""Best of several candidates: the measure of diversity, and the choice."""

import numpy as np
import oracles
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.diversity import comparable, diversity, select
from curate.errors import RecipeError


def test_short_texts_have_the_moving_share_alone() -> None:
    texts = [" ".join(f"w{i % 30}" for i in range(size)) for size in (0, 1, 49, 50, 200)]
    made = diversity(pa.array(["x", *texts])[1:])
    assert made["words"].to_pylist() == [0, 1, 49, 50, 200]
    assert [value is None for value in made["mtld"].to_pylist()] == [True, True, True, False, False]
    assert made["mtld"].to_pylist()[4] == pytest.approx(oracles.mtld_slowly(texts[4].split()))
    assert made["mattr"].to_pylist() == pytest.approx([0, 1, 30 / 49, 0.6, 0.6])
    scores = comparable(made)
    assert scores.tolist() == pytest.approx([0, 1, 30 / 49, *made["mtld"].to_pylist()[3:]])


def test_richer_words_score_higher() -> None:
    poor, rich = " ".join(["the cat sat"] * 40), " ".join(f"word{i % 90}" for i in range(120))
    poor_score, rich_score = comparable(diversity(pa.array([poor, rich])))
    assert poor_score < rich_score


rows = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from([0.0, 1.0, 2.0, -1.0, np.nan, np.inf]), st.booleans()), max_size=25
)


@given(rows, st.sampled_from(["highest", "lowest"]))
def test_the_best_accepted_of_each_group_is_chosen(rows: list[tuple[int, float, bool]], direction: str) -> None:
    groups, scores, accepted = (np.array([row[i] for row in rows], kind) for i, kind in enumerate((int, float, bool)))
    chosen = select(scores, groups, accepted=accepted, direction=direction)  # type: ignore[arg-type]
    expected = set()
    for group in set(groups.tolist()):
        usable = [i for i, row in enumerate(rows) if row[0] == group and row[2] and not np.isnan(row[1])]
        if usable:
            sign = 1 if direction == "highest" else -1
            expected.add(max(usable, key=lambda i: (sign * rows[i][1], -i)))
    assert set(np.flatnonzero(chosen).tolist()) == expected


def test_the_mean_of_what_is_chosen_grows_with_the_number_of_candidates() -> None:
    scores = np.random.default_rng(20).normal(size=(2_000, 10))
    means = []
    for k in range(1, 11):
        some = scores[:, :k].reshape(-1)
        chosen = select(some, np.repeat(np.arange(2_000), k), accepted=np.ones(len(some), bool), direction="highest")
        means.append(some[chosen].mean())
    assert means == sorted(means)
    # Expected largest of k normal scores: 0.56, 1.03 and 1.54 at 2, 4 and 10.
    assert [means[k - 1] for k in (2, 4, 10)] == pytest.approx([0.56, 1.03, 1.54], abs=0.06)


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(RecipeError, match="'up'"):
        select(np.zeros(1), np.zeros(1), accepted=np.ones(1, bool), direction="up")  # type: ignore[arg-type]
