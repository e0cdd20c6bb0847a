"""Parts of equal size, averages of models, scores by a command, the search, and runs without one source."""

import itertools
import json
import shlex
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import averaging_toy
import corpus
import numpy as np
import polars as pl
import pytest
import verbs
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr, t
from static_model import KINDS, write_tensors

from curate import proxy, recipe
from curate.errors import AssetError, DataError, RecipeError
from curate.fit import ablation, ablation_verb, averaging, result
from curate.fit.ablation import CommandError, Scorer, chosen, left_out, search, shares, student, utilities, worths
from curate.fit.averaging import average
from curate.fit.partition import cut, size_for, step
from curate.fit.runs import available, read_runs
from curate.mixture import Available
from curate.outputs import outputs
from curate.run import run
from curate.stages.mix import Mix, Phase

# --- parts -----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 300), max_size=600),
    st.integers(2_000, 20_000),
    st.sampled_from([0.005, 0.02, 0.2]),
)
def test_parts_are_of_one_size_and_share_no_document(tokens, size, tolerance):
    held = np.array(tokens, np.int64)
    made = cut(held, size, tolerance=tolerance)
    sums = [int(held[made.of == part].sum()) for part in range(len(made.tokens))]
    assert made.tokens.tolist() == sums
    assert all(abs(one - size) <= tolerance * size for one in sums)
    assert set(made.of.tolist()) <= {-1, *range(len(sums))}
    # What is left over is less than a part, but for the few that no exchange closes at the end of a source.
    assert held[made.of < 0].sum() < (size if tolerance == 0.2 else 2 * size)


@given(st.integers(0, 2**32), st.integers(10, 60))
def test_real_lengths_give_parts_within_half_a_percent(seed, documents_in_a_part):
    random = np.random.default_rng(seed)
    tokens = np.maximum(1, random.lognormal(6, 1, 2_000)).astype(np.int64)
    size = int(tokens.mean() * documents_in_a_part)
    made = cut(tokens, size)
    assert np.abs(made.tokens - size).max() <= 0.005 * size
    left = (made.of < 0) & (tokens <= size * 1.005)
    assert tokens[left].sum() < 3 * size  # long ones, which fitted nowhere


def test_documents_too_long_for_parts_are_told():
    with pytest.raises(RecipeError, match=r"stays 300 off, more than 0\.005"):
        cut(np.full(2_000, 700, np.int64), 1_000)
    made = cut(np.array([5_000, 600, 400, 1_000], np.int64), 1_000)
    assert made.of.tolist() == [-1, 0, 0, 1]
    with pytest.raises(RecipeError, match="a size from 1"):
        cut(np.ones(3, np.int64), 0)


def test_the_largest_size_that_gives_so_many_parts():
    totals = {"web": 10_000, "code": 3_000, "wiki": 900}
    for parts in range(1, 20):
        size = size_for(totals, parts, tolerance=0.0)
        assert sum(total // size for total in totals.values()) >= parts
        assert sum(total // (size + 1) for total in totals.values()) < parts
    with pytest.raises(RecipeError, match="cannot be cut into"):
        size_for({"a": 2}, 3)
    with pytest.raises(RecipeError, match="0 parts"):
        size_for(totals, 0)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A finished run of two sources with a validation split."""
    folder = tmp_path_factory.mktemp("small")
    corpus.write_corpus(folder, documents=200)
    (folder / "recipe.yaml").write_text(
        'name: small\ningest: {files: ["raw/docs-*", "raw/code-*"], source: {field: source}, shard_bytes: 8192, '
        "max_rejects: 0.1}\n"
        "stages: [{tokenize: {tokenizer: tokenizer.json, engine: tokenizers}}, {mix: {validation: 0.2}}]\n"
    )
    out = str(folder / "run")
    run(recipe.load(str(folder / "recipe.yaml")), out)
    return out


def test_a_run_is_cut_row_by_row(small, tmp_path, capsys):
    code, told = called("partition", small, "--parts", "6", "-o", str(tmp_path))
    assert code == 0
    assert json.loads((tmp_path / "parts.json").read_text()) == {k: v for k, v in told.items() if k != "written"}
    assert len(told["parts"]) >= 6
    assert all(abs(part["tokens"] - told["size"]) <= 0.005 * told["size"] for part in told["parts"].values())
    files = sorted(tmp_path.glob("*.parquet"))
    assert len(files) > 1
    rows = pl.concat([pl.read_parquet(file) for file in files])
    counts = Counter(f"{source}/{part}" for source, part in rows.select("source", "part").iter_rows())
    assert set(counts) - set(told["parts"]) <= {"docs/None", "code/None"}
    assert {name: counts[name] for name in told["parts"]} == {
        name: part["documents"] for name, part in told["parts"].items()
    }
    sums = available(small)
    for name, source in told["sources"].items():
        assert source["tokens"] == sums[name]
        mine = [part["tokens"] for part in told["parts"].values() if part["source"] == name]
        assert sum(mine) + source["left_over"] == sums[name]
    assert "left over" in capsys.readouterr().out
    again = tmp_path / "again"
    _, same = called("partition", small, "--tokens", str(told["size"]), "-o", str(again))
    assert (again / "parts.json").read_bytes() == (tmp_path / "parts.json").read_bytes()
    assert [(again / file.name).read_bytes() for file in files] == [file.read_bytes() for file in files]
    _, other = called("partition", small, "--tokens", str(told["size"]), "--seed", "1", "-o", str(again))
    assert same["parts"] != other["parts"]
    with pytest.raises(RecipeError, match="the largest has"):
        called("partition", small, "--tokens", "1B", "-o", str(again))


@pytest.fixture(scope="module")
def parts(small, tmp_path_factory):
    """The folder of a partition of the small run into seven parts or more."""
    folder = tmp_path_factory.mktemp("parts")
    called("partition", small, "--parts", "7", "-o", str(folder))
    return folder


def made_of_parts(parts, small, folder, stages):
    """A run of a recipe that ingests the documents of the partition."""
    tokenizer = Path(small).parent / "tokenizer.json"
    (folder / "recipe.yaml").write_text(
        f"name: parts\ningest: {{files: {parts}/*.parquet, source: {{field: source}}, id: source_id}}\n"
        f"stages:\n{stages}  - pack: {{window: 16}}\n".replace(
            "TOKENIZER", f"{{tokenizer: {tokenizer}, engine: tokenizers}}"
        )
    )
    out = str(folder / "run")
    run(recipe.load(str(folder / "recipe.yaml")), out)
    return out


def phased(parts):
    """The steps of a recipe with `mix.yaml` as it stands there."""
    first, *more = (parts / "mix.yaml").read_text().splitlines()
    return "\n".join(["  - tokenize: TOKENIZER", f"  - {first}", *(f"    {line}" for line in more), ""])


def test_each_part_is_a_phase_and_a_small_model_reads_one(parts, small, tmp_path):
    """From `partition` to the windows of part 3: its `mix.yaml` in a recipe, and the phase of that name."""
    told = json.loads((parts / "parts.json").read_text())
    text = (parts / "mix.yaml").read_text()
    shards = proxy.read(made_of_parts(parts, small, tmp_path, phased(parts)))
    assert [name for name, _ in shards.phases] == [name.replace("/", "-") for name in told["parts"]]
    tokens = yaml.safe_load(text)["mix"]["phases"][0]["tokens"]
    assert tokens == int(0.9 * told["size"])
    drawn = [
        int(sum(one.lengths.sum() for one in proxy.phase(shards, name).train.values())) for name, _ in shards.phases
    ]
    assert all(tokens - 16 < each < tokens + 1_000 for each in drawn)
    one = proxy.phase(shards, "docs-3")
    assert set(one.train) == {"docs"}
    assert set(one.validation) == {"code", "docs"}
    ids = {bytes(row) for row in one.train["docs"].ids}
    first, last = (proxy.phase(shards, name).train["docs"].ids for name in ("docs-0", "docs-2"))
    assert not ids & {bytes(row) for row in (*first, *last)}
    order = proxy.order(one, None, seed=0)
    assert sorted(order) == [("docs", place) for place in range(len(one.train["docs"].ids))]
    with pytest.raises(RecipeError, match=r"no phase 'docs-33'.*'docs-3'"):
        proxy.phase(shards, "docs-33")


def test_a_part_can_be_selected_too(parts, small, tmp_path):
    """The windows of a part hold its documents, each once, and none of another."""
    told = json.loads((parts / "parts.json").read_text())
    stages = "  - select: {keep: {mine: source = 'docs' and part = 3}}\n  - tokenize: TOKENIZER\n  - mix:\n"
    out = made_of_parts(parts, small, tmp_path, stages)
    (mixed,) = [one for one in outputs(out)["stages"] if one["kind"] == "mix"]
    made = json.loads((Path(mixed["folder"]) / "mixture.json").read_text())
    assert made["groups"]["docs"]["available"] == told["parts"]["docs/3"]["tokens"]
    assert made["groups"]["docs"]["documents"] == told["parts"]["docs/3"]["documents"]
    shards = proxy.read(out)
    assert int(shards.train["docs"].lengths.sum()) > told["parts"]["docs/3"]["tokens"] - 16
    with pytest.raises(RecipeError, match="no `phases`"):
        proxy.phase(shards, "docs-3")


@pytest.mark.readers
def test_a_small_model_is_trained_on_a_part(parts, small, tmp_path):
    shards = proxy.read(made_of_parts(parts, small, tmp_path, phased(parts)))
    tiny = proxy.Settings(width=16, layers=1, heads=2, batch=8, rate=1e-2)
    docs, code = (
        proxy.train(proxy.phase(shards, name), None, seed=0, settings=tiny, device="cpu")
        for name in ("docs-3", "code-1")
    )
    assert docs.losses["docs"] < code.losses["docs"]
    assert code.losses["code"] < docs.losses["code"]


def test_sources_that_are_no_names_of_folders():
    told = {"size": 100, "parts": dict.fromkeys(["wiki/en/0", "wiki-en/0", "a b/0"])}
    made = step(told)["mix"]["phases"]
    assert [phase["name"] for phase in made] == ["part-0", "part-1", "part-2"]
    assert [phase["weights"] for phase in made] == [{"wiki/en/0": 1}, {"wiki-en/0": 1}, {"a b/0": 1}]
    assert Mix(bucket="part", phases=tuple(Phase(**phase) for phase in made))


# --- averages --------------------------------------------------------------------------------------------------------


def save(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> str:
    write_tensors(path, tensors, metadata or {})
    return str(path)


def load(path: str) -> dict[str, np.ndarray]:
    held = averaging.model(path)
    types = {kind: np.dtype(name) for name, kind in KINDS.items()}
    data = Path(path).read_bytes()[held.begin :]
    return {
        name: np.frombuffer(data[one.start : one.stop], types[one.dtype]).reshape(one.shape)
        for name, one in held.tensors.items()
    }


def bfloat(values: np.ndarray) -> np.ndarray:
    """float32 as bfloat16, cut."""
    return (np.asarray(values, np.float32).view(np.uint32) >> 16).astype("<u2")


def wide(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def some(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "a.weight": random.normal(size=(7, 5)).astype("<f4"),
        "b": random.normal(size=3).astype("<f8"),
        "c": random.normal(size=(2, 3, 4)).astype("<f2"),
        "d": bfloat(random.normal(size=(5, 1))),
        "one": np.array(random.normal(), "<f4"),
        "none": np.zeros((0, 4), "<f4"),
        "steps": np.arange(4, dtype="<i8"),
        "mask": np.array([True, False]),
    }


@pytest.mark.parametrize("weights", [None, [1, 1, 1], [2, 0, 1], [0.5, 0.25, 3]])
def test_an_average_of_all_types(tmp_path, monkeypatch, weights):
    monkeypatch.setattr(averaging, "BLOCK", 4)  # several blocks of a tensor
    models = [some(seed) for seed in range(3)]
    files = [save(tmp_path / f"{i}", model, {"format": "pt"}) for i, model in enumerate(models)]
    out = str(tmp_path / "out")
    told = average(files, out, weights=weights)
    assert (told["models"], told["tensors"], told["parameters"]) == (3, 8, 35 + 3 + 24 + 5 + 1)
    assert averaging.model(out).metadata == {"format": "pt"}
    made, by = load(out), np.array(weights or [1, 1, 1], float)
    assert made["b"] == pytest.approx(sum(w * model["b"] for w, model in zip(by, models, strict=True)) / by.sum())
    for name in ("a.weight", "c", "one"):
        exact = sum(w * model[name].astype(np.float64) for w, model in zip(by, models, strict=True)) / by.sum()
        assert made[name].dtype == models[0][name].dtype
        assert np.array_equal(made[name], exact.astype(made[name].dtype))
    exact = sum(w * wide(model["d"]) for w, model in zip(by, models, strict=True)) / by.sum()
    assert (np.abs(wide(made["d"]) - exact) <= np.abs(exact) * 2.0**-8).all()
    assert np.array_equal(made["steps"], models[0]["steps"])
    assert np.array_equal(made["mask"], models[0]["mask"])
    assert made["none"].shape == (0, 4)


@given(st.integers(0, 2**32), st.integers(1, 9))
def test_an_average_of_equal_models_is_the_model(tmp_path_factory, seed, count):
    folder = tmp_path_factory.mktemp("equal")
    model = some(seed)
    average([save(folder / "m", model)] * count, str(folder / "out"))
    made = load(str(folder / "out"))
    for name, array in model.items():
        assert np.array_equal(made[name], array)


@given(st.lists(st.floats(-1e38, 1e38), min_size=1), st.integers(0, 2**16 - 1))
def test_rounding_to_bfloat16_is_to_the_nearest_and_to_even(values, bits):
    every = np.array(values)
    found = wide(averaging.rounded(every, "BF16").view("<u2"))
    down = bfloat(every.astype(np.float32)).astype(np.int64)
    near = np.stack([wide((down + by).clip(0, 0xFFFF).astype("<u2")) for by in (-1, 0, 1)])
    near = np.where(np.isfinite(near), near, np.inf)
    assert (np.abs(found - every) <= np.abs(near - every).min(axis=0)).all()
    low, high = wide(np.array([bits & 0x7F7E, (bits & 0x7F7E) + 1], "<u2"))
    if np.isfinite(high) and high < 1e38:
        middle = np.array([(low + high) / 2, np.nextafter((low + high) / 2, np.inf)])
        assert wide(averaging.rounded(middle, "BF16").view("<u2")).tolist() == [low, high]


def test_tensors_may_stand_in_another_order(tmp_path):
    model = some(0)
    one, two = save(tmp_path / "1", model), save(tmp_path / "2", dict(reversed(model.items())))
    average([one, two], str(tmp_path / "out"))
    assert np.array_equal(load(str(tmp_path / "out"))["a.weight"], model["a.weight"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"b": None}, "no tensor 'b', which"),
        ({"more": np.zeros(2)}, "no tensor 'more'"),
        ({"b": np.zeros(4)}, r"'b' is F64 \[3\] in .* and F64 \[4\]"),
        ({"b": np.zeros(3, "<f4")}, r"'b' is F64 \[3\] in .* and F32 \[3\]"),
        ({"steps": np.arange(1, 5)}, "'steps' .I64. differs"),
        ({"b": np.array([1, np.nan, 2])}, "'b' has numbers that are not finite"),
    ],
)
def test_models_that_differ_are_refused_by_tensor(tmp_path, change, said):
    other = {name: array for name, array in (some(1) | change).items() if array is not None}
    with pytest.raises(AssetError, match=said):
        average([save(tmp_path / "1", some(0)), save(tmp_path / "2", other)], str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_is_no_model_is_refused(tmp_path):
    out, good = str(tmp_path / "out"), save(tmp_path / "good", some(0))
    whole = Path(good).read_bytes()
    for name, data in {"cut": whole[:-1], "long": whole + b"x", "text": b"hello there", "empty": b""}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(AssetError, match=f"{name} is (no safetensors file|cut off)"):
            average([good, str(tmp_path / name)], out)
    running = save(tmp_path / "norm", {"bn.running_mean": np.zeros(2)})
    with pytest.raises(AssetError, match="running statistic"):
        average([running, running], out)
    for weights, said in (([1], "1 weights for 2"), ([0, 0], "none below 0"), ([1, -1], "none below 0")):
        with pytest.raises(RecipeError, match=said):
            average([good, good], out, weights=weights)
    with pytest.raises(RecipeError, match="no models"):
        average([], out)
    with pytest.raises(RecipeError, match="write the average elsewhere"):
        average([good], good)


def test_another_reader_takes_an_average(tmp_path):
    reader = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    model = {name: array for name, array in some(0).items() if name != "d"}
    average([save(tmp_path / "m", model)] * 2, str(tmp_path / "out"))
    for name, array in reader.load_file(str(tmp_path / "out")).items():
        assert np.array_equal(array, model[name])


@pytest.mark.slow
def test_averages_rank_mixtures_as_training_on_them_does(tmp_path):
    def merged(models):
        files = [
            save(tmp_path / f"{i}", {name: tensor.astype("<f4") for name, tensor in model.items()})
            for i, model in enumerate(models)
        ]
        average(files, str(tmp_path / "out"))
        return load(str(tmp_path / "out"))

    found = averaging_toy.losses(merged)
    ranks = {name: spearmanr(found["union"], found[name]).statistic for name in ("merged", "own", "apart")}
    assert ranks["merged"] > 0.85
    assert ranks["merged"] > ranks["own"]
    assert found["apart"].mean() > found["merged"].mean()


# --- scores by a command ---------------------------------------------------------------------------------------------

MEASURE = """\
import json, sys
data = open(sys.argv[-1], "rb").read()
size = int.from_bytes(data[:8], "little")
import struct
x, y = struct.unpack("<2d", data[8 + size:])
print("measuring", sys.argv[-1])
print(json.dumps({"web": (x - 1) ** 2, "code": (y - 2) ** 2}))
"""


@pytest.fixture
def models(tmp_path):
    """Three models of two numbers and a command that measures such; the best average is of the first and the last."""
    points = {"web/0": (0.0, 1.0), "code/0": (9.0, 9.0), "wiki/0": (2.0, 3.0)}
    files = {}
    for i, (unit, point) in enumerate(points.items()):
        files[unit] = save(tmp_path / f"{i}.safetensors", {"x": np.array(point, "<f8")})
    (tmp_path / "models.json").write_text(json.dumps({unit: Path(file).name for unit, file in files.items()}))
    (tmp_path / "measure.py").write_text(MEASURE)
    return files, shlex.join([sys.executable, str(tmp_path / "measure.py")])


def test_losses_of_averages_are_kept(models, tmp_path):
    files, command = models
    memory = str(tmp_path / "memory.jsonl")
    scorer = Scorer(files, command, str(tmp_path / "scratch"), memory)
    assert scorer.losses(["wiki/0", "web/0"]) == {"web": 0.0, "code": 0.0}
    assert scorer.losses(["web/0"]) == {"web": 1.0, "code": 1.0}
    twice = scorer.losses(["wiki/0", "web/0", "web/0"])
    assert twice == pytest.approx({"web": (2 / 3 - 1) ** 2, "code": (5 / 3 - 2) ** 2})
    assert scorer.measured == 3
    assert list((tmp_path / "scratch").iterdir()) == []
    again = Scorer(files, command, str(tmp_path / "scratch"), memory)
    assert again.losses(["web/0", "wiki/0", "web/0"]) == twice
    assert again.measured == 0
    with pytest.raises(RecipeError, match="another command or other models"):
        Scorer(files, command + " -v", str(tmp_path / "scratch"), memory)
    (tmp_path / "memory.jsonl").write_text("nothing")
    with pytest.raises(RecipeError, match="holds no scores"):
        Scorer(files, command, str(tmp_path / "scratch"), memory)
    for units, said in ((["web"], "no model of 'web'; did you mean 'web/0'"), ([], "no parts")):
        with pytest.raises(RecipeError, match=said):
            again.losses(units)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('out of memory')", "ended with code 1: out of memory"),
        ("print('done')", "a last line like .* found 'done'"),
        ("print('{}')", "found '{}'"),
        ("print('{\"web\": NaN}')", "NaN"),
        ('print(\'{"web": "3"}\')', "found"),
        ("", "found ''"),
    ],
)
def test_commands_that_fail_are_told(tmp_path, script, said):
    (tmp_path / "measure.py").write_text(script)
    with pytest.raises(CommandError, match=said):
        ablation.measure(f"{sys.executable} {tmp_path}/measure.py {{}}", "model")
    with pytest.raises(CommandError, match="cannot run"):
        ablation.measure(str(tmp_path / "nothing"), "model")


def test_which_loss_is_meant():
    losses = {"web": 1.0, "code": 3.0, "wiki": 8.0}
    assert chosen(losses, "mean") == 4
    assert chosen(losses, "web, code") == 2
    assert chosen(losses | {"mean": 7.0}, "mean") == 7
    with pytest.raises(RecipeError, match="no loss 'cod'; did you mean 'code'"):
        chosen(losses, "cod")


# --- the search ------------------------------------------------------------------------------------------------------


@given(st.integers(2, 6), st.integers(0, 2**32), st.data())
def test_all_sets_are_tried_where_they_are_few(count, seed, data):
    least = data.draw(st.integers(1, count))
    most = data.draw(st.integers(least, count))
    names = "abcdef"[:count]
    sets = [one for size in range(least, most + 1) for one in itertools.combinations(names, size)]
    drawn = dict(zip(sets, np.random.default_rng(seed).random(len(sets)).tolist(), strict=True))
    found = search(drawn.__getitem__, names, least=least, most=most)
    assert found.exhaustive
    assert len(found.sets) == len(sets)
    assert found.sets[0] == min(drawn.items(), key=lambda item: item[1])


def test_a_search_goes_down_to_where_no_change_helps():
    names = [f"s{i:02}" for i in range(20)]
    worth = dict(zip(names, np.random.default_rng(0).normal(size=20).tolist(), strict=True))
    pairs = np.random.default_rng(1).normal(size=(20, 20)) * 0.2

    def value(units):
        rows = [names.index(unit) for unit in units]
        return sum(worth[unit] for unit in units) + float(pairs[np.ix_(rows, rows)].sum())

    found = search(value, names, restarts=3, seed=1)
    assert not found.exhaustive
    assert len(found.sets) < 2**20 / 100
    best, low = found.sets[0]
    for change in [*(tuple(sorted(set(best) ^ {name})) for name in names)]:
        assert not change or value(change) >= low
    assert found == search(value, names[::-1], restarts=3, seed=1)
    assert low <= min(value((name,)) for name in names)
    few = search(value, names, least=2, most=5, restarts=2)
    assert all(2 <= len(units) <= 5 for units, _ in few.sets)
    for least, most in ((0, 1), (2, 1), (1, 21)):
        with pytest.raises(RecipeError, match="1 to all"):
            search(value, names, least=least, most=most)


def test_parts_become_shares_of_their_sources():
    assert shares(["web/0", "web/12", "a/b/1", "books"]) == {"a/b": 0.25, "books": 0.25, "web": 0.5}


# --- without one source ----------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=3, max_size=6).filter(lambda row: sum(one > 0.01 for one in row) > 2))
def test_mixtures_without_one_source(row):
    weights = {name: one if one > 0.01 else 0.0 for name, one in zip("abcdef", row, strict=False)}
    total = sum(weights.values())
    made = left_out(weights)
    assert set(made) == {name for name, one in weights.items() if one}
    for name, one in made.items():
        assert sum(one.values()) == pytest.approx(1)
        assert name not in one
        for other, share in one.items():
            assert share == pytest.approx(weights[other] / total / (1 - weights[name] / total))
    filler = next(iter(made))
    filled = left_out(weights, filler=filler)
    assert set(filled) == set(made) - {filler}
    for name, one in filled.items():
        assert sum(one.values()) == pytest.approx(1)
        assert one[filler] == pytest.approx((weights[filler] + weights[name]) / total)


def test_a_source_that_is_all_cannot_be_left_out():
    with pytest.raises(RecipeError, match="'a' is all of the mixture"):
        left_out({"a": 1.0, "b": 0.0})
    with pytest.raises(RecipeError, match="no 'c' to fill with"):
        left_out({"a": 0.5, "b": 0.5}, filler="c")


def test_utilities_with_the_scatter_of_seeds():
    found = utilities([3.0, 3.2], {"web": [3.5, 3.7], "junk": [3.1, 3.12]})
    groups = ([3.0, 3.2], [3.5, 3.7], [3.1, 3.12])
    scatter = np.sqrt(sum(np.var(group, ddof=1) for group in groups) / 3)
    assert found["web"].value == pytest.approx(0.5)
    assert found["web"].error == pytest.approx(scatter)
    assert found["web"].clear
    assert not found["junk"].clear
    assert worths(found, {"web": 0.7, "junk": 0.3}) == {"web": 1.0}
    alone = utilities([3.0], {"web": [3.4], "code": [3.1], "bad": [2.0]})
    assert (alone["web"].error, alone["web"].clear) == (None, None)
    by_token = worths(alone, {"web": 0.8, "code": 0.1, "bad": 0.1})
    assert by_token == pytest.approx({"web": 0.5 / 1.5, "code": 1 / 1.5, "bad": 0})
    with pytest.raises(RecipeError, match="0 runs of the full mixture"):
        utilities([], {"web": [1]})


@pytest.mark.parametrize("freedom", [1, 2, 5, 10, 11, 15, 30, 100, 10_000])
def test_quantiles_of_student(freedom):
    exact = t.ppf(0.975, freedom)
    assert exact - 1e-3 <= student(freedom) <= exact + 0.03


# --- the verbs -------------------------------------------------------------------------------------------------------


called = partial(verbs.called, ablation_verb.register, "ablation")


def test_average_score_and_search_through_the_verbs(models, tmp_path, capsys):
    files, command = models
    merged = str(tmp_path / "merged.safetensors")
    code, told = called("average", files["web/0"] + "=3", files["wiki/0"], "-o", merged)
    assert (code, told["parameters"]) == (0, 2)
    assert load(merged)["x"].tolist() == [0.5, 1.5]
    with pytest.raises(RecipeError, match="FILE=WEIGHT"):
        called("average", files["web/0"] + "=x", "-o", merged)
    given = ("--models", str(tmp_path / "models.json"), "--command", command)
    given += ("--memory", str(tmp_path / "memory.jsonl"))
    losses, mixtures = str(tmp_path / "losses.csv"), str(tmp_path / "mixtures.csv")
    code, told = called("score", *given, "--size", "2", "--set", "wiki/0", "-o", losses, "--mixtures", mixtures)
    assert (code, told["measured"]) == (0, 4)
    runs = read_runs(mixtures, losses)
    assert runs.mixtures.names == ("code", "web", "wiki")
    best = runs.mixtures.index.index("web/0+wiki/0")
    assert runs.mixtures.shares[best].tolist() == [0, 0.5, 0.5]
    assert runs.losses["web"][best] == 0
    out = str(tmp_path / "out.json")
    code, told = called("search", *given, "-o", out)
    assert code == 0
    assert result.read(out) == told["weights"] == {"web": 0.5, "wiki": 0.5}
    assert told["report"]["tried"] == 7
    assert told["report"]["exhaustive"]
    assert told["report"]["single"]["web/0"] == 1
    assert json.loads(Path(out).read_text())["kind"] == "ablation"
    assert "all parts" in capsys.readouterr().out
    with pytest.raises(RecipeError, match="no sets are given"):
        called("score", *given, "-o", losses)
    assert not (tmp_path / "average.safetensors").exists()


def test_sets_that_all_lose_the_same_give_no_weights(models, tmp_path):
    (tmp_path / "measure.py").write_text("print('{\"web\": 1}')")
    code, _ = called(
        *("search", "--models", str(tmp_path / "models.json"), "--command", models[1]),
        *("-o", str(tmp_path / "out.json")),
    )
    assert code == 1
    with pytest.raises(RecipeError, match="no signal"):
        result.read(str(tmp_path / "out.json"))


def test_plans_without_a_source_have_the_caps_they_need(tmp_path, capsys):
    full, held, plans = (str(tmp_path / name) for name in ("full.json", "held.json", "plans"))
    result.write(full, "regmix", {"web": 0.5, "code": 0.5}, {})
    there = {"web": 1_000, "code": 500}
    Path(held).write_text(json.dumps(there))
    given = ("leave-out", full, "--tokens", "1K", "--available", held, "-o", plans)
    assert called(*given)[0] == 0
    raw = {path.stem: yaml.safe_load(path.read_text())["mix"] for path in Path(plans).iterdir()}
    caps = {name: one.get("max_epochs") for name, one in raw.items()}
    assert caps == {"full": None, "without-web": 4, "without-code": None}
    for one in raw.values():
        assert Mix(**one).plan({name: Available(n) for name, n in there.items()}).tokens == 1_000
    assert "without-web: up to 2.00 epochs of a source, `max_epochs: 4`" in capsys.readouterr().out
    with pytest.raises(RecipeError, match=r"'without-web' are 2\.00 epochs of a source, above 1\.5"):
        called(*given, "--max-epochs", "1.5")


def test_utilities_through_the_verbs(tmp_path, capsys):
    full, out = str(tmp_path / "full.json"), str(tmp_path / "out.json")
    result.write(full, "regmix", {"web": 0.5, "code": 0.3, "wiki/en": 0.2}, {})
    code, told = called("leave-out", full, "--tokens", "1K", "-o", str(tmp_path / "plans"))
    assert code == 0
    assert "4 mixtures of 1,000 tokens each" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "plans").iterdir())
    assert names == ["full.yaml", "without-code.yaml", "without-web.yaml", "without-wiki%2Fen.yaml"]
    plan = yaml.safe_load((tmp_path / "plans" / "without-web.yaml").read_text())["mix"]
    assert plan.pop("weights") == pytest.approx({"code": 0.6, "wiki/en": 0.4})
    assert plan == {"tokens": 1_000}
    table = tmp_path / "runs.csv"
    table.write_text(
        "without,seed,a,b\n,0,3.0,2.0\n,1,3.01,2.01\nweb,0,3.5,2.5\ncode,0,3.0,2.01\nwiki/en,0,3.2,2.0\nweb,1,3.51,2.5\n"
    )
    code, told = called("utilities", str(table), "--weights", full, "-o", out)
    assert code == 0
    assert told["report"]["runs"] == {"full": 2, "web": 2, "code": 1, "wiki/en": 1}
    assert told["report"]["by_measure"]["a"]["web"] == pytest.approx(0.5)
    assert told["report"]["utilities"]["web"]["clear"]
    assert not told["report"]["utilities"]["code"]["clear"]
    assert result.worths(out).weights["web"] == pytest.approx((0.4975 / 0.5) / (0.4975 / 0.5 + 0.095 / 0.2), rel=1e-2)
    assert "not told from 0" in capsys.readouterr().out
    code, told = called("utilities", str(table), "--weights", full, "--measure", "score", "-o", out)
    assert (code, told["weights"]) == (1, {})
    table.write_text("without,a\n,1\nbooks,1\n")
    with pytest.raises(RecipeError, match="leaves out 'books'"):
        called("utilities", str(table), "--weights", full, "-o", out)
    table.write_text("without,a\n,1\nweb,x\n")
    with pytest.raises(DataError, match="row 3, column 'a': 'x'"):
        called("utilities", str(table), "--weights", full, "-o", out)
