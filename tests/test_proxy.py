"""The proxy: order of windows, the same losses for the same seed, masked padding, and what a mixture does to losses."""

import json
from dataclasses import replace

import numpy as np
import pytest
from corpus import write_corpus, write_recipe
from hypothesis import given
from hypothesis import strategies as st

from curate import proxy, recipe, store
from curate.errors import RecipeError
from curate.mixture import Available, Infeasible, Phase, Spec, plan
from curate.outputs import outputs
from curate.proxy import Settings, Shards, Windows
from curate.run import run

WINDOW, VOCABULARY = 16, 32
SMALL = Settings(width=16, layers=1, heads=2, batch=8, rate=1e-2, held=8)
needs_torch = pytest.mark.readers


def chain(count, step, seed):
    """Windows in which each id is the one before it plus `step`, with noise: easy to learn, and unlike another step."""
    random = np.random.default_rng(seed)
    ids = (random.integers(VOCABULARY, size=(count, 1)) + step * np.arange(WINDOW)) % VOCABULARY
    noise = random.random(ids.shape) < 0.1
    return np.where(noise, random.integers(VOCABULARY, size=ids.shape), ids).astype(np.int64)


def held(ids):
    return Windows(ids, np.full(len(ids), WINDOW, np.int64))


@pytest.fixture(scope="module")
def shards():
    steps = {"one": 1, "five": 5}
    return Shards(
        WINDOW,
        VOCABULARY,
        {name: held(chain(64, step, 0)) for name, step in steps.items()},
        {name: held(chain(8, step, 1)) for name, step in steps.items()},
    )


def made_of(counts):
    """Shards with so many windows of each source, all zeros: for orders."""
    zeros = {name: held(np.zeros((count, WINDOW), np.int64)) for name, count in counts.items()}
    return Shards(WINDOW, VOCABULARY, zeros, {})


@given(
    counts=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9), min_size=1),
    budget=st.integers(1, 60),
    share=st.floats(0.1, 0.9),
    seed=st.integers(0, 99),
)
def test_each_source_goes_on_where_it_stopped(counts, budget, share, seed):
    """Within a source windows come in order over phases and epochs, and phases have their windows of each."""
    shards = made_of(counts)
    phases = (Phase("base", share=share, temperature=2.0), Phase("last"))
    made = plan(shards.available, Spec(phases, tokens=budget * WINDOW, max_epochs=1e6, beyond_sixteen=True))
    windows = proxy.order(shards, made, seed=seed)
    for name, count in counts.items():
        places = [place for source, place in windows if source == name]
        assert places == [i % count for i in range(len(places))]
    sizes = [sum(quotas.values()) // WINDOW for quotas in made.quotas]
    assert len(windows) == sum(sizes)
    for quotas, part in zip(made.quotas, (windows[: sizes[0]], windows[sizes[0] :]), strict=True):
        for name, tokens in quotas.items():
            assert abs(sum(source == name for source, _ in part) - tokens / WINDOW) < 1
    assert windows == proxy.order(shards, made, seed=seed)


def test_seeds_shuffle_sources():
    shards = made_of({"a": 20, "b": 20})
    assert proxy.order(shards, None, seed=0) != proxy.order(shards, None, seed=1)
    assert sorted(proxy.order(shards, None, seed=0)) == sorted(proxy.order(shards, None, seed=1))


def test_packed_phases_are_the_order():
    shards = replace(made_of({"a": 6, "b": 4}), phases=(("base", {"a": 4, "b": 1}), ("last", {"a": 2, "b": 3})))
    windows = proxy.order(shards, None, seed=3)
    assert sorted(windows[:5]) == [("a", 0), ("a", 1), ("a", 2), ("a", 3), ("b", 0)]
    assert sorted(windows[5:]) == [("a", 4), ("a", 5), ("b", 1), ("b", 2), ("b", 3)]


def test_sources_that_are_not_there():
    made = plan({"a": Available(100), "alpha": Available(100)}, Spec(tokens=100))
    with pytest.raises(RecipeError, match="no window of 'alpha'"):
        proxy.order(made_of({"a": 9}), made, seed=0)


def test_weights_keep_caps(shards):
    made = proxy.weighted(shards, {"one": 3, "five": 1}, tokens=64 * WINDOW)
    assert made.quotas == ({"five": 16 * WINDOW, "one": 48 * WINDOW},)
    with pytest.raises(Infeasible):
        proxy.weighted(shards, {"one": 1}, tokens=64 * WINDOW, max_epochs=0.5)


@pytest.mark.parametrize("wrong", [{"width": 12, "heads": 4}, {"layers": 0}, {"rate": float("nan")}, {"warm": 1.0}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(RecipeError):
        Settings(**wrong)


def test_the_rate_rises_and_falls_to_nearly_nothing():
    rates = [Settings(rate=1.0, warm=0.1).at(step, 100) for step in range(100)]
    peak = int(np.argmax(rates))
    assert 8 <= peak <= 10
    assert 0.9 < max(rates) <= 1
    assert 0 < rates[-1] < 0.01
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_a_million_weights_by_default():
    assert Settings().weights == 983_040


@needs_torch
def test_the_same_seed_gives_the_same_losses(shards):
    import torch

    made = proxy.weighted(shards, None, tokens=64 * WINDOW)
    torch.manual_seed(1)
    one = proxy.train(shards, made, seed=3, settings=SMALL, device="cpu")
    torch.manual_seed(2)
    again = proxy.train(shards, made, seed=3, settings=SMALL, device="cpu")
    other = proxy.train(shards, made, seed=4, settings=SMALL, device="cpu")
    assert one.losses == again.losses
    assert one.losses != other.losses
    assert one.tokens == 64 * WINDOW


@needs_torch
def test_a_source_is_learnt_by_what_is_trained_on_it(shards):
    """Each loss is lowest for the run that had most of its source, and all are below a guess."""
    runs = {
        share: proxy.train(
            shards,
            proxy.weighted(shards, {"one": share, "five": 1 - share}, tokens=96 * WINDOW),
            seed=0,
            settings=SMALL,
        ).losses
        for share in (0.1, 0.9)
    }
    assert runs[0.9]["one"] < runs[0.1]["one"] - 0.2
    assert runs[0.1]["five"] < runs[0.9]["five"] - 0.2
    assert runs[0.9]["one"] < np.log(VOCABULARY) - 0.5


@needs_torch
def test_what_comes_last_is_known_best(shards):
    """Equal tokens of each source in all: the order of phases decides."""
    found = {}
    for name, first in (("one", "five"), ("five", "one")):
        phases = (Phase("base", share=0.5, weights={first: 1}), Phase("last", share=0.5, weights={name: 1}))
        made = plan(shards.available, Spec(phases, tokens=1024 * WINDOW, max_epochs=8))
        found[name] = proxy.train(shards, made, seed=0, settings=replace(SMALL, warm=0.0)).losses
    assert found["one"]["one"] < found["five"]["one"]
    assert found["five"]["five"] < found["one"]["five"]


@needs_torch
def test_padding_counts_for_nothing(shards):
    """What stands in the padding changes no loss, and no token of it is counted."""

    def padded(fill):
        split = []
        for windows in (shards.train, shards.validation):
            lengths = {name: 2 + np.arange(len(some.ids)) % (WINDOW - 1) for name, some in windows.items()}
            behind = {name: np.arange(WINDOW)[None] >= length[:, None] for name, length in lengths.items()}
            split.append(
                {name: Windows(np.where(behind[name], fill, some.ids), lengths[name]) for name, some in windows.items()}
            )
        return Shards(WINDOW, VOCABULARY, *split)

    one, other = (proxy.train(padded(fill), None, seed=0, settings=SMALL, device="cpu") for fill in (0, 7))
    # An embedding that padding alone looks up gets no gradient through the causal mask.
    assert one.losses == pytest.approx(other.losses, abs=1e-6)
    assert one.tokens == sum(int(some.lengths.sum()) for some in padded(0).train.values())


@needs_torch
def test_losses_are_those_of_a_loop_over_ids(shards):
    """The mean over held-out ids of -log p, one window and one prefix at a time: no id sees what comes after it."""
    import torch

    settings = replace(SMALL, rate=1e-12, held=3)
    made = proxy.train(shards, proxy.weighted(shards, None, tokens=WINDOW), seed=5, settings=settings, device="cpu")
    model = proxy._initial(torch, settings, VOCABULARY, 5)
    for name, some in shards.validation.items():
        sums = []
        for window in some.ids[:3].tolist():
            for place in range(1, WINDOW):
                states = proxy._states(torch, model, settings, torch.tensor([window[:place]]))
                chances = torch.softmax(states[0, -1] @ model["embedding"].T, 0)
                sums.append(-float(chances[window[place]].log()))
        assert made.losses[name] == pytest.approx(np.mean(sums), abs=1e-4)


@needs_torch
def test_nothing_to_train_on_or_held_out(shards):
    for lost in (replace(shards, validation={}), replace(shards, train={})):
        with pytest.raises(RecipeError, match="both are wanted"):
            proxy.train(lost, None, seed=0, settings=SMALL)


@needs_torch
def test_shards_of_a_run_with_phases(tmp_path):
    """What `pack` wrote is read whole, by phases in their order, and trained on."""
    write_corpus(tmp_path)
    path = write_recipe(tmp_path)
    old = "weights: {docs: 0.4, code: 0.3, readme: 0.3}"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, f"phases: [{{name: base, share: 0.7}}, {{name: last, {old}}}]"))
    run(recipe.load(str(path)), str(tmp_path / "run"))
    read = proxy.read(str(tmp_path / "run"))
    told = json.loads(store.read(outputs(str(tmp_path / "run"))["tokens"][0]["manifest"]))
    for split, windows in (("train", read.train), ("validation", read.validation)):
        for source, entry in told["splits"][split]["sources"].items():
            assert windows[source].ids.shape == (entry["windows"], told["window"])
            assert int(windows[source].lengths.sum()) == entry["tokens"]
            assert windows[source].ids.max() < read.vocabulary
    assert [name for name, _ in read.phases] == ["base", "last"]
    for name, some in read.train.items():
        assert sum(counts.get(name, 0) for _, counts in read.phases) == len(some.ids)
    made = proxy.train(read, None, seed=0, settings=SMALL)
    assert made.tokens == told["splits"]["train"]["tokens"]
    assert set(made.losses) <= set(told["splits"]["validation"]["sources"])
    with pytest.raises(RecipeError, match="no run folder"):
        proxy.read(str(tmp_path))
