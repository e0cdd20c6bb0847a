"""Selections at one budget against Python sets of rows that are sorted and cut by hand, however the corpus is cut."""

import json
import math
import os
import shutil
import uuid
from itertools import pairwise
from pathlib import Path

import jsonschema
import numpy as np
import oracle_bigrams
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus import write_corpus
from hypothesis import given
from hypothesis import strategies as st
from static_model import write_static

from curate import candidates, cli, recipe, schema, store
from curate.candidates import EVERY, HELD, Question, Scanned, cuts
from curate.compare import Asked, compare_selection
from curate.compare_report import show
from curate.draw import again, draws
from curate.errors import RecipeError
from curate.execute import pool, serial
from curate.manifest import Manifest
from curate.outputs import state
from curate.run import run
from curate.scatter import plane

RECIPE = """
name: small
ingest:
  - {{files: ["raw/docs-*", "raw/code-*"], source: {{field: source}}, shard_bytes: {size}, max_rejects: 0.1}}
  - {{files: "raw/readme-*.jsonl", source: readme, text: content, id: name}}
stages:
  - heuristics:
  - embed: {{model: model}}
  - cluster: {{k: 8}}
  - semantic: {{keep: 0.7}}
  - prune: {{name: density, keep: 0.6, by: density}}
  - select: {{name: some, keep: {{long_enough: words >= 30}}}}
  - select: {{name: none, keep: {{nothing: words < 0}}}}
"""
METHODS = (("semantic", "not semantic_duplicate"), ("density", "not density_pruned"), ("long", "words >= 60"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("compare")
    write_corpus(place)
    write_static(place / "model")
    for name, size in (("run", 16384), ("other", 2_000_000)):
        (place / f"{name}.yaml").write_text(RECIPE.format(size=size))
        run(recipe.load(str(place / f"{name}.yaml")), str(place / name))
    return place


@pytest.fixture(scope="module")
def done(made: Path) -> str:
    return str(made / "run")


@pytest.fixture(scope="module")
def told(done: str) -> dict:
    return compare_selection(done, Asked(METHODS))


def rows_of(out: str) -> pa.Table:
    """All documents with the columns attached to them."""
    columns: dict[str, pa.ChunkedArray] = {}
    for step in state(out):
        if step["kind"] == "select":  # what stands before them is attached to the first documents
            break
        manifest = Manifest.load(f"{out}/{step['folder']}")
        assert manifest is not None
        table = pa.concat_tables(pq.read_table(f"{out}/{step['folder']}/{one.name}") for one in manifest.shards)
        columns |= dict(zip(table.column_names, table.unify_dictionaries().columns, strict=True))
    return pa.table(columns)


def selected(out: str, budget: int, *, seed: int = 0) -> tuple[list[dict], dict[str, list[dict]], list[dict]]:
    """All rows, those each method selects by sorting and adding up, those held out."""
    table = rows_of(out)
    rows = table.to_pylist()
    ids = table.select(["id"])
    held = candidates.keyed_by(ids, candidates._HELD) < candidates.threshold(candidates.HELD_SHARE)
    key = draws(table, candidates._BASE)
    keeps = {
        "semantic": lambda row: not row["semantic_duplicate"],
        "density": lambda row: not row["density_pruned"],
        "long": lambda row: row["words"] >= 60,
        "random": lambda row: True,
    }
    found = {}
    for name, keep in keeps.items():
        order = again(key, (candidates._RANDOM if name == "random" else candidates._CUT) + seed)
        line = sorted((int(order[i]), i) for i, row in enumerate(rows) if keep(row) and not held[i])
        taken, size, whole = [], 0, sum(rows[i]["words"] for _, i in line)
        for _, i in line:
            if size >= budget and whole > budget:
                break
            taken.append(rows[i])
            size += rows[i]["words"]
        found[name] = taken
    return (
        [row for row, out in zip(rows, held, strict=True) if not out],
        found,
        [r for r, h in zip(rows, held, strict=True) if h],
    )


def words(rows: list[dict]) -> int:
    return sum(row["words"] for row in rows)


def test_every_method_takes_what_sorting_by_hand_takes(done, told):
    every, found, held = selected(done, told["budget"])
    assert told["unit"] == "words"
    assert told["of"] == "ingest"
    assert (told["documents"], told["size"]) == (len(every), words(every))
    assert told["held_out"]["documents"] == len(held) > 0
    for method in told["methods"]:
        rows = found[method["name"]]
        assert (method["documents"], method["size"]) == (len(rows), words(rows))
        assert method["share"] == pytest.approx(words(rows) / words(every), abs=1e-6)
        sums = {source: [r for r in rows if r["source"] == source] for source in {r["source"] for r in every}}
        assert method["sources"] == {
            source: {"documents": len(r), "size": words(r), "share": round(words(r) / words(rows), 6)}
            for source, r in sums.items()
        }
        sizes: dict[int, int] = {}
        for row in rows:
            if row["cluster"] is not None:
                sizes[row["cluster"]] = sizes.get(row["cluster"], 0) + row["words"]
        shares = [size / sum(sizes.values()) for size in sizes.values()]
        assert method["clusters"]["covered"] == len(sizes)
        assert method["clusters"]["largest_share"] == pytest.approx(max(shares), abs=1e-6)
        entropy = -sum(share * math.log(share) for share in shares if share)
        assert method["clusters"]["effective"] == pytest.approx(math.exp(entropy), abs=1e-5)
        alike = sum((row["semantic_similarity"] or 0) > 0.95 for row in rows)
        assert method["near_duplicates"]["share"] == pytest.approx(alike / len(rows), abs=1e-6)


def test_budgets_are_equal_to_one_document(done, told):
    least = min(method["available"] for method in told["methods"])
    assert told["budget"] == least
    for tokens in (1, 500, 5000, told["size"]):
        again = compare_selection(done, Asked(METHODS, tokens=tokens, seeds=1))
        _, found, _ = selected(done, tokens)
        for method in again["methods"]:
            assert method["short"] == (method["available"] < tokens)
            if not method["short"]:
                last = found[method["name"]][-1]["words"] if method["cut"] else 0
                assert tokens <= method["size"] <= tokens + last
            else:
                assert method["size"] == method["available"]


def test_overlaps_are_those_of_sets(done, told):
    _, found, _ = selected(done, told["budget"])
    sets = {name: {row["origin"]: row["words"] for row in rows} for name, rows in found.items()}
    for a, mine in sets.items():
        for b, other in sets.items():
            both = mine.keys() & other.keys()
            assert told["overlap"]["jaccard"][a][b] == pytest.approx(len(both) / len(mine | other), abs=1e-6)
            share = sum(mine[origin] for origin in both) / sum(mine.values())
            assert told["overlap"]["contained"][a][b] == pytest.approx(share, abs=1e-6)
    for method in told["methods"][:-1]:
        for side in ("keeps_alone", "drops_alone"):
            assert len(method["examples"][side]) <= 3
    same = compare_selection(done, Asked([("a", "words >= 40"), ("b", "words > 39"), ("c", "words < 40")], seeds=1))
    alike = same["overlap"]["jaccard"]["a"]
    assert (alike["a"], alike["b"], alike["c"]) == (1, 1, 0)
    assert 0 < alike["random"] < 1  # an order of its own: what chance gives


def test_examples_are_kept_or_dropped_by_one_alone(done, told):
    every, _, _ = selected(done, told["budget"])
    keeps = {
        row["origin"]: (not row["semantic_duplicate"], not row["density_pruned"], row["words"] >= 60) for row in every
    }
    shown = 0
    for number, method in enumerate(told["methods"][:-1]):
        for side, votes in (("keeps_alone", 1), ("drops_alone", 2)):
            wanted = sum(sum(vote) == votes and vote[number] == (votes == 1) for vote in keeps.values())
            assert len(method["examples"][side]) == min(3, wanted)
            for example in method["examples"][side]:
                vote = keeps[example["origin"]]
                assert vote[number] == (votes == 1)
                assert sum(vote) == votes
                assert len(example["text"]) <= 100
                shown += 1
    assert shown


def test_bits_are_those_of_the_definition(done, told):
    held_rows = None
    by_seed: dict[str, list[float]] = {}
    every: dict[tuple[str, int], list[dict]] = {}
    for seed in range(3):
        _, found, held_rows = selected(done, told["budget"], seed=seed)
        every |= {(name, seed): rows for name, rows in found.items()}
    union = {row["origin"]: row["text"] for rows in every.values() for row in rows}
    known = oracle_bigrams.vocabulary(list(union.values()))
    assert told["measure"]["vocabulary"] == len(known)
    held = [row["text"] for row in held_rows]
    count = sum(len(text.split()) for text in held)
    for (name, _), rows in every.items():
        model = oracle_bigrams.Model([row["text"] for row in rows], known)
        bits = -math.fsum(math.log2(model.probability(*pair)) for text in held for pair in model.bigrams(text))
        by_seed.setdefault(name, []).append(bits)
    for method in told["methods"]:
        wanted = by_seed[method["name"]][: 3 if method["cut"] else 1]
        close = method["closeness"]
        assert close["bits_per_word"]["values"] == pytest.approx([bits / count for bits in wanted], abs=2e-6)
        size = sum(len(text.encode()) for text in held)
        assert close["bits_per_byte"]["values"] == pytest.approx([bits / size for bits in wanted], abs=2e-6)
        assert (close["bits_per_word"]["std"] is None) == (not method["cut"])
        if method["cut"]:
            assert close["bits_per_word"]["std"] == pytest.approx(np.std(wanted, ddof=1) / count, abs=2e-6)


def test_shards_and_workers_change_nothing(made, told, tmp_path):
    shards = [len(list((made / name).glob("ingest-*/*.parquet"))) for name in ("run", "other")]
    assert shards[0] > shards[1]
    other = compare_selection(str(made / "other"), Asked(METHODS), folder=str(tmp_path / "other"))
    assert {**other, "run": "", "map": None} == {**told, "run": "", "map": None}
    with pool(2) as workers:
        compare_selection(str(made / "run"), Asked(METHODS), map=workers, folder=str(tmp_path / "two"))
    compare_selection(str(made / "run"), Asked(METHODS), folder=str(tmp_path / "one"))
    for name in ("comparison.json", "map.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one/map.parquet").read_bytes() == (tmp_path / "other/map.parquet").read_bytes()


def test_documents_held_out_are_never_selected(done, tmp_path):
    asked = Asked([("all", "words >= 0"), ("readme", "source = 'readme' or words > 60")], held_out="source = 'readme'")
    told = compare_selection(done, asked, folder=str(tmp_path))
    for method in told["methods"]:
        assert method["sources"]["readme"]["documents"] == 0
        assert set(method["closeness"]["sources"]) == {"readme"}
    points = pq.read_table(tmp_path / "map.parquet")
    assert points.num_rows
    assert "readme" not in points["source"].to_pylist()
    several = compare_selection(done, Asked(METHODS, held_out="words between 40 and 50", seeds=1))
    measured = several["held_out"]["measured"]
    assert len(measured) == 3
    close = several["methods"][0]["closeness"]
    total = sum(close["sources"][name]["mean"] * facts["words"] for name, facts in measured.items())
    assert close["bits_per_word"]["mean"] == pytest.approx(total / sum(m["words"] for m in measured.values()), abs=1e-5)


def test_only_documents_among_those_are_selected(done, tmp_path):
    asked = Asked([("all", "words >= 0"), ("long", "words > 60")], held_out="words = 44", among="source <> 'readme'")
    told = compare_selection(done, asked, folder=str(tmp_path))
    for method in told["methods"]:
        assert method["sources"]["readme"]["documents"] == 0, method["name"]
        assert method["documents"]
    everybody = rows_of(done)
    free = [
        words != 44 and source != "readme"
        for words, source in zip(everybody["words"].to_pylist(), everybody["source"].to_pylist(), strict=True)
    ]
    assert told["documents"] == sum(free)
    assert set(pq.read_table(tmp_path / "map.parquet")["source"].to_pylist()) == {"docs", "code"} & set(
        everybody["source"].to_pylist()
    )


def test_a_model_is_made_of_so_many_tokens_at_most(done):
    told = compare_selection(done, Asked(METHODS, measure_tokens=700, seeds=2))
    assert 700 <= told["measure"]["words_per_model"]["most"] < 700 + 400
    assert all(len(method["closeness"]["bits_per_word"]["values"]) == 2 for method in told["methods"])
    assert told["methods"][0]["size"] >= told["budget"]


def test_the_map_has_what_was_selected(done, told, tmp_path):
    compare_selection(done, Asked(METHODS), folder=str(tmp_path))
    points = pq.read_table(tmp_path / "map.parquet").to_pylist()
    every, found, _ = selected(done, told["budget"])
    rows = {row["origin"]: row for row in every if row["embedding"] is not None}
    assert {point["origin"] for point in points} == rows.keys()
    for point in points:
        row = rows[point["origin"]]
        assert (point["cluster"], point["source"]) == (row["cluster"], row["source"])
        for name, taken in found.items():
            assert point[name] == any(one["origin"] == point["origin"] for one in taken)
    assert list(points[0]) == ["origin", "x", "y", "cluster", "source", "semantic", "density", "long", "random"]


LINE = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 9), st.integers(0, 3), st.booleans())


@given(
    st.lists(LINE, max_size=40, unique_by=lambda line: line[0]),
    st.lists(st.integers(0, 40), max_size=3),
    st.integers(1, 60),
)
def test_cuts_are_where_sorting_ends(lines, borders, goal):
    scratch = f"memory://{uuid.uuid4().hex}"
    question = Question(("a", "b"), None, "words", scratch, 2)
    edges = [0, *sorted(min(border, len(lines)) for border in borders), len(lines)]
    queues = question.queues()
    levels = np.zeros((len(queues), 1 << 12), np.int64)
    tables = []
    for shard, (start, stop) in enumerate(pairwise(edges)):
        columns = zip(*lines[start:stop], strict=True) if start < stop else ((),) * 4
        key, weight, methods, held = columns
        table = pa.table(
            {
                "key": pa.array(key, pa.uint64()),
                "weight": pa.array(weight, pa.int64()),
                "methods": pa.array(methods, pa.uint32()),
                "held": pa.array(held, pa.bool_()),
                "free": pa.array([not one for one in held], pa.bool_()),
            }
        )
        candidates.put(store.join(scratch, f"lines-{shard}"), table)
        tables.append(table)
        for number, queue in enumerate(queues):
            drawn, size = queue.line_up(table)
            np.add.at(levels[number], (drawn >> np.uint64(52)).astype(np.int64), size)
    scan = Scanned(levels, np.zeros(4, np.int64), np.zeros(4, np.int64))
    goals = [(number, goal) for number in range(len(queues))]
    found = cuts(goals, question, scan, len(tables), serial)
    whole = pa.concat_tables(tables)
    for number, queue in enumerate(queues):
        stands = [
            held if queue.who == HELD else not held and (queue.who == EVERY or bool(bits >> queue.who & 1))
            for _, _, bits, held in lines
        ]
        order = again(whole["key"].to_numpy(), queue.stream).tolist()
        line = sorted(i for i in range(len(lines)) if stands[i])
        line.sort(key=lambda i: order[i])
        size, taken = 0, set()
        counts = {i: lines[i][1] if queue.by == "weight" else 1 for i in line}
        for i in line:
            if size >= goal and sum(counts.values()) > goal:
                break
            taken.add(i)
            size += counts[i]
        assert set(np.flatnonzero(queue.taken(whole, found[number, goal])).tolist()) == taken
    store.remove(scratch)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"methods": [("a", "not semantic_duplicat")]}, "did you mean 'semantic_duplicate'?"),
        ({"methods": [("a", "words > 9"), ("a", "words > 8")]}, "two methods are called 'a'"),
        ({"methods": [("random", "words > 9")]}, "cannot be called 'random'"),
        ({"methods": [("a", "words >")]}, "method 'a': cannot read"),
        ({"methods": [("a", "text = ''")]}, "'text' is large_string"),
        ({"methods": [("a", "words < 0")]}, "method 'a' keeps no words"),
        ({"methods": []}, "nothing to compare"),
        ({"tokens": 10**9}, "more than all documents have"),
        ({"tokens": 5, "keep": 0.5}, "not both"),
        ({"keep": 1.5}, "at most 1"),
        ({"held_out": "words < 0"}, "no document is held out"),
        ({"held_out": "words >= 0"}, "all documents are held out"),
        ({"of": "soma"}, "did you mean 'some'?"),
        ({"of": "some"}, "no documents of the run have a column 'semantic_duplicate'"),
        ({"cluster": "clusters"}, "did you mean 'cluster'?"),
        ({"by": "mean_word_length"}, "told apart by words and whole numbers"),
        ({"cluster": "embedding"}, "clusters are whole numbers"),
        ({"of": "none", "methods": [("a", "words > 0")]}, "no document is held out of 0"),
        ({"embedding": "words"}, "'words' is int32: a map is made of vectors"),
        ({"seeds": 0}, "1 to 100 seeds"),
    ],
)
def test_what_cannot_be_compared_is_named(done, given, said):
    with pytest.raises(RecipeError) as error:
        compare_selection(done, Asked(**{"methods": METHODS, **given}))
    assert said in str(error.value)


def test_the_verb_prints_tables_and_json(done, tmp_path, capsys, told):
    methods = [word for name, expression in METHODS for word in ("--method", f"{name}={expression}")]
    assert cli.main(["compare-selection", done, *methods, "-o", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "comparison.json").read_text())
    assert {**printed, "map": None} == told
    jsonschema.validate(printed, schema.schema("comparison"))
    jsonschema.validate(told, schema.schema("comparison"))
    assert printed["map"]["documents"] == pq.read_table(tmp_path / "map.parquet").num_rows
    show(told)
    out = capsys.readouterr().out
    assert "not the quality of a model" in out
    for method in told["methods"]:
        assert f"{method['size']:,}" in out
        assert f"{method['closeness']['bits_per_word']['mean']:.3f}" in out
    assert cli.main(["compare-selection", done, "--method", "semantic"]) == 2
    assert cli.main(["compare-selection", done]) == 2
    assert cli.main(["compare-selection", done, *methods, "-o", ""]) == 2
    assert cli.main(["compare-selection", str(tmp_path), *methods, "--json"]) == 2
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["error"] == "RecipeError"


def test_documents_carried_on_are_compared_by_what_they_have(done):
    told = compare_selection(done, Asked([("long", "words >= 60")], of="some", held_out="words < 40", seeds=1))
    assert told["of"] == "some"
    assert told["methods"][0]["clusters"] is None
    assert told["methods"][0]["near_duplicates"] is None
    assert told["methods"][0]["examples"] == {"keeps_alone": [], "drops_alone": []}
    show(told)


@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_plane_holds_the_most_variance(rows, width, seed):
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32) * np.arange(1, width + 1)
    vectors = vectors.astype(np.float32)
    places, shares = plane(vectors)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    sizes = np.linalg.svd(centred, compute_uv=False)
    most = np.zeros(2)
    most[: min(2, len(sizes))] = (sizes[:2] ** 2) / (sizes**2).sum()
    assert shares == pytest.approx(most, abs=1e-9)
    assert (places.astype(float) ** 2).sum(axis=0) == pytest.approx(most * (sizes**2).sum(), rel=1e-4, abs=1e-4)
    assert plane(vectors[:1])[0].tolist() == [[0, 0]]


def test_a_run_that_is_not_finished_is_told_so(done, tmp_path):
    shutil.copytree(done, tmp_path / "half")
    half = str(tmp_path / "half")
    step = next(step for step in state(half) if "semantic" in step["kind"])
    os.remove(f"{half}/{step['folder']}/manifest.json")
    with pytest.raises(RecipeError, match="'semantic_duplicate'; the run is not finished: run it again"):
        compare_selection(half, Asked([("a", "not semantic_duplicate")]))
