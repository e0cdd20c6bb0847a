"""What the measurement of near-duplicate removal injects, and what it says of recipes whose faults are known."""

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import hostile_text as texts

from curate import cli, edits, near_measure, recipe
from curate.edits import CUTS, EDITS, SHARES, Material, edited, inject
from curate.errors import RecipeError
from curate.indexing import add
from curate.near_measure import shingles
from curate.near_report import near_report, show
from curate.near_sample import of_run
from curate.run import run
from curate.sketch import Sketch

MATERIAL = Material(tuple(f"pool{i}" for i in range(50)), "their head\n\ntheir middle\n\ntheir foot")
STAGES = "  - near: {preset: fineweb}\n  - confirm: {jaccard: 0.7}\n"
LINES = "junk line\n"


def document(draw: random.Random, words: int) -> str:
    """Paragraphs of words that are rare enough for two documents to have next to no five in a row in common."""
    made = [f"w{int(draw.paretovariate(0.3)) % 5000}" for _ in range(words)]
    return "\n\n".join(" ".join(made[start : start + 40]) for start in range(0, words, 40))


def write(folder: Path, documents: list[dict[str, object]], stages: str = STAGES) -> str:
    (folder / "raw.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
    (folder / "recipe.yaml").write_text(
        f"name: made\ningest: {{files: raw.jsonl, source: {{field: source}}}}\nstages:\n{stages}"
    )
    return str(folder / "recipe.yaml")


@pytest.fixture(scope="module")
def corpus() -> list[dict[str, object]]:
    draw = random.Random(7)
    made = [
        {"text": document(draw, draw.randrange(120, 500)), "source": ("web", "docs")[i % 2], "stars": i}
        for i in range(100)
    ]
    return [*made, *({"text": "few words", "source": "web", "stars": 0} for _ in range(5))]


def reported(folder: Path, made: list[dict[str, object]], stages: str = STAGES, **options) -> dict:
    return near_report(recipe.load(write(folder, made, stages)), **options)


# --- edits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edit", SHARES)
@given(key=st.integers(0, 2**64 - 1), count=st.integers(50, 700))
def test_as_many_words_change_as_the_edit_says(edit, key, count):
    copy = edited(" ".join(f"w{i}" for i in range(count)), edit, key, material=MATERIAL)
    assert copy is not None
    words = edits.words(copy)
    kept = [int(word[1:]) for word in words if word.startswith("w")]
    assert kept == sorted(kept)
    # Between two kept words: those that are gone, and those put in. Where one goes and the next gets one before it,
    # that looks like one replaced: two changes seen as one.
    places = [-1, *(i for i, word in enumerate(words) if word.startswith("w")), len(words)]
    gaps = zip(np.diff([-1, *kept, count]) - 1, np.diff(places) - 1, strict=True)
    seen, wanted = sum(max(gone, put) for gone, put in gaps), max(1, round(SHARES[edit] * count))
    assert wanted * 0.7 - 2 <= seen <= wanted


def test_six_of_ten_changes_replace_and_two_delete():
    copy = edited(" ".join(f"w{i}" for i in range(20_000)), "words_2", 1, material=MATERIAL)
    assert copy is not None
    words = edits.words(copy)
    gone, put = 20_000 - sum(word[0] == "w" for word in words), sum(word[0] == "p" for word in words)
    assert 290 < gone < 350
    assert 290 < put < 350
    assert 20_000 - 60 < len(words) < 20_000 + 60


def test_words_that_touch_do_not_become_one():
    text = "漢字かな交じり文" * 40
    for edit in SHARES:
        copy = edited(text, edit, 3, material=MATERIAL)
        assert copy is not None
        assert {word for word in edits.words(copy) if len(word) > 1} <= {*MATERIAL.words}


@given(key=st.integers(0, 2**64 - 1), parts=st.lists(st.text("abc d", min_size=1).filter(str.strip), min_size=3))
def test_shuffled_paragraphs_are_the_same_paragraphs(key, parts):
    text = "\n\n".join(parts)
    copy = edited(text, "paragraphs_shuffled", key, material=MATERIAL)
    assert copy != text
    if copy is not None:
        assert sorted(copy.split("\n\n")) == sorted(parts)


def test_boilerplate_is_that_of_the_other_document():
    made = edited("head\none\ntwo\nfoot", "boilerplate_swapped", 1, material=MATERIAL)
    assert made == "their head\none\ntwo\ntheir foot"


@pytest.mark.parametrize("edit", CUTS)
@given(text=texts)
def test_a_cut_keeps_the_share_of_words_from_the_start(edit, text):
    copy = edited(text, edit, 1, material=MATERIAL)
    count = len(edits.words(text))
    if copy is None:
        assert round(CUTS[edit] * count) in (0, count)
    else:
        assert text.startswith(copy)
        assert edits.words(copy) == edits.words(text)[: round(CUTS[edit] * count)]


def test_an_edit_that_changes_nothing_makes_no_copy():
    one_paragraph = "one paragraph of a few words"
    assert edited(one_paragraph, "paragraphs_shuffled", 1, material=MATERIAL) is None
    assert edited(one_paragraph, "boilerplate_swapped", 1, material=MATERIAL) is None
    assert all(edited("", edit, 1, material=MATERIAL) is None for edit in EDITS)


def test_a_key_gives_the_same_copies_everywhere():
    text = "\n\n".join(" ".join(f"w{i}" for i in range(start, start + 40)) for start in range(0, 280, 40))
    copies = [edited(text, edit, 2**63 + 5, material=MATERIAL) for edit in EDITS]
    assert len({*copies}) == len(EDITS)
    assert hashlib.sha256("\0".join(map(str, copies)).encode()).hexdigest()[:16] == "749e66083c7323b3"


@pytest.mark.parametrize("sketch", [Sketch(ngram=1), Sketch(ngram=3), Sketch(unit="characters", ngram=4)])
@given(text=texts)
def test_the_slow_sets_are_those_of_the_sketch(sketch, text):
    first, _ = sketch.sets(pa.array([text], pa.large_string()))
    assert len(shingles(text, sketch)) == first[1]


def test_copies_are_like_their_documents_but_for_the_text():
    sample = pa.table(
        {
            "id": pa.array([bytes([i]) * 16 for i in range(3)], pa.binary(16)),
            "text": pa.array([document(random.Random(i), 90) for i in range(3)], pa.large_string()),
            "bytes": pa.array([0, 0, 0], pa.int64()),
            "origin": pa.array(["a:1", "a:2", "a:3"]),
            "source": pa.array(["x", None, "z"]).dictionary_encode(),
        }
    )
    made = inject(sample, 1)
    rows = made.table.to_pylist()
    assert len({row["origin"] for row in rows}) == len(rows) == 3 + 3 * len(EDITS)
    assert len({row["id"] for row in rows}) == len({row["text"] for row in rows}) == len(rows)
    for row, family, edit in zip(rows, made.family.tolist(), made.edit.tolist(), strict=True):
        own = rows[made.original[family]]
        assert own["text"] == sample["text"][family].as_py()
        assert row["source"] == own["source"]
        assert edit < 0 or row["bytes"] == len(row["text"].encode())
    assert made.edit.tolist() != sorted(made.edit.tolist())


# --- the report ------------------------------------------------------------------------------------------------------


def test_recall_is_that_of_the_curve_and_precision_is_whole(tmp_path, corpus):
    told = reported(tmp_path, corpus)
    total = told["total"]
    assert told["documents"] == 100
    assert told["left_out"]["of fewer than 50 words"] == 5
    assert [row["edit"] for row in told["edits"]] == list(EDITS)
    assert total["pairs"] == sum(row["pairs"] for row in told["edits"]) == told["rows"] - 100 >= 790
    assert abs(total["points"]) < 2
    assert total["points"] == pytest.approx(100 * (total["found"] - total["expected"]) / total["pairs"])
    by = {row["edit"]: row for row in told["edits"]}
    assert 0.8 < by["words_2"]["jaccard"] < 0.9
    assert by["words_2"]["jaccard"] > by["words_5"]["jaccard"] > by["words_10"]["jaccard"] > by["words_20"]["jaccard"]
    assert by["cut_to_80"]["jaccard"] == pytest.approx(0.8, abs=0.01)
    assert by["words_20"]["above"] == 0
    assert by["words_20"]["recall"] is None
    assert by["words_2"]["above"] == 100
    assert by["words_2"]["recall"] > 0.9
    assert all(row["linked"] <= row["found"] and row["removed"] <= row["above"] for row in told["edits"])
    assert told["removed"]["precision"] == 1.0
    assert told["removed"]["rows"] == told["removed"]["rightly"] > 150
    assert told["removed"]["similarity_off_by"] < 1e-6
    assert told["lost"]["above"] > 250
    assert told["lost"]["share"] < 0.05
    assert not told["lost"]["drawn"]
    assert told["threshold"] == {"measure": "jaccard", "at": 0.7, "probability": pytest.approx(0.5647, abs=1e-3)}
    assert list(told["curve"]) == ["0.5", "0.6", "0.7", "0.75", "0.8", "0.85", "0.9"]


def test_the_same_again_and_another_seed_others(tmp_path, corpus):
    first = reported(tmp_path, corpus, documents=20)
    assert reported(tmp_path, corpus, documents=20) == first
    other = reported(tmp_path, corpus, documents=20, seed=1)
    assert (first["documents"], other["documents"]) == (20, 20)
    assert other["total"] != first["total"]


def test_a_setting_that_finds_little_is_seen_as_that(tmp_path, corpus):
    told = reported(tmp_path, corpus, "  - near: {bands: 1, rows: 16}\n  - confirm: {jaccard: 0.7}\n", documents=50)
    assert told["total"]["recall"] < 0.5
    assert told["total"]["expected_recall"] < 0.3
    assert abs(told["total"]["points"]) < 3
    assert told["removed"]["precision"] == 1.0


def test_rows_removed_by_chains_are_seen_as_wrong(tmp_path, corpus):
    stages = "  - near: {preset: fineweb}\n  - confirm: {jaccard: 0.6, transitive: true}\n"
    told = reported(tmp_path, corpus, stages, documents=50)
    assert told["removed"]["precision"] < 0.95


def test_signatures_in_place_of_sets_are_measured_too(tmp_path, corpus):
    stages = "  - near: {preset: fineweb}\n  - confirm: {jaccard: 0.7, verify: sketch}\n"
    told = reported(tmp_path, corpus, stages, documents=50)
    assert 0.01 < told["removed"]["similarity_off_by"] < 0.3
    assert told["removed"]["precision"] < 1


@pytest.mark.parametrize("keep", ["earliest", "longest", "highest, by: stars"])
def test_containment_is_that_of_the_row_that_goes(tmp_path, corpus, keep):
    stages = f"  - near: {{bands: 40, rows: 4, keep: {keep}}}\n  - confirm: {{containment: 0.75}}\n"
    told = reported(tmp_path, corpus, stages, documents=50)
    by = {row["edit"]: row for row in told["edits"]}
    assert told["threshold"] == {"measure": "containment", "at": 0.75, "probability": None}
    assert told["removed"]["precision"] == 1.0
    assert told["removed"]["similarity_off_by"] < 1e-6
    # All of a text that was cut off is in the whole; of the whole only half is in it.
    cut = by["cut_to_50"]
    assert cut["above"] == cut["pairs"] if keep == "longest" else 0 < cut["above"] < cut["pairs"]


def test_characters_and_names_and_what_stands_before(tmp_path, corpus):
    stages = """
  - heuristics:
  - select: {name: long, keep: {long: words > 150}}
  - near: {threshold: 0.8, hashes: 128, unit: characters, ngram: 10}
    name: early
  - near: {preset: slimpajama}
    name: late
  - confirm: {jaccard: 0.8, of: early_, exempt: stars > 90}
""".lstrip("\n")
    told = reported(tmp_path, corpus, stages, near="early")
    assert (told["near"], told["confirm"]) == ("early", "confirm")
    assert (told["sketch"]["ngram"], told["sketch"]["unit"]) == (10, "characters")
    long = [one for one in corpus if len(str(one["text"]).split()) > 150]
    assert told["left_out"]["exempt"] == sum(int(str(one["stars"])) > 90 for one in long) > 0
    assert told["documents"] == len(long) - told["left_out"]["exempt"] < 100
    assert told["removed"]["precision"] == 1.0
    assert abs(told["total"]["points"]) < 3


def test_texts_are_those_that_the_near_step_sees(tmp_path, corpus):
    long = [{**one, "text": f"{one['text']}\n" + LINES * (40 if i < 30 else 0)} for i, one in enumerate(corpus[:100])]
    short = [{**one, "text": "a few words that stay\n" + LINES * 80} for one in corpus[:20]]
    stages = '  - clean: {patterns: {junk: "^junk"}}\n' + STAGES
    told = reported(tmp_path, [*long, *short], stages)
    assert told["documents"] == 100
    assert told["left_out"]["of fewer than 50 words"] == 20
    assert told["removed"]["precision"] == 1.0
    plain = reported(tmp_path, [*long, *short], STAGES)
    assert plain["documents"] == 120
    by, other = ({row["edit"]: row["pairs"] for row in one["edits"]} for one in (told, plain))
    assert by["words_2"] == 100
    assert other["words_2"] == 120


def test_scopes_and_competitors(tmp_path, corpus):
    twice = [{**one, "source": source} for one in corpus[:40] for source in ("a", "b", "c")]
    alone = "  - near: {preset: fineweb, per: source, among: \"source <> 'c'\"}\n  - confirm: {jaccard: 0.7}\n"
    told = reported(tmp_path, twice, alone, documents=200)
    assert told["documents"] == 80
    assert told["left_out"]["do not compete"] == 40
    assert told["lost"]["share"] < 0.05
    together = reported(tmp_path, twice, documents=200)
    assert together["documents"] == 120
    # Two of three documents are later copies of one text, and go as such: nothing like that happens between scopes.
    assert together["removed"]["rows"] > told["removed"]["rows"] + 80
    assert told["removed"]["precision"] == together["removed"]["precision"] == 1.0


def test_of_too_many_pairs_some_are_drawn(tmp_path, corpus, monkeypatch):
    whole = reported(tmp_path, corpus, documents=40)
    assert not whole["lost"]["drawn"]
    monkeypatch.setattr(near_measure, "PAIRS", 60)
    monkeypatch.setattr(near_measure, "HELD", 90)
    few = reported(tmp_path, corpus, documents=40)
    assert few["lost"]["drawn"]
    assert few["lost"]["sharing_a_band"] == 60 < whole["lost"]["sharing_a_band"]
    assert few["total"] == whole["total"]


def test_of_a_large_bucket_some_rows_are_paired():
    bucket = np.repeat(np.array([3, 5, 9], np.uint64), [1, 4, 200])
    pairs, thinned = near_measure.pairs_of(bucket, np.arange(205)[::-1])
    assert thinned
    found = {(min(a, b), max(a, b)) for a, b in pairs.tolist()}
    assert len(found) == len(pairs) == 6 + near_measure.BUCKET * (near_measure.BUCKET - 1) // 2
    assert {(a, b) for a, b in found if a >= 200} == {(a, b) for a in range(200, 204) for b in range(a + 1, 204)}
    pairs, thinned = near_measure.pairs_of(bucket[:0], np.empty(0, np.int64))
    assert (len(pairs), thinned) == (0, False)


def test_only_what_the_steps_need_is_done_and_branches_stay_what_they_are(tmp_path, corpus):
    stages = """
  - select: {name: some, keep: {some: stars < 60}}
  - exact:
  - heuristics:
  - select: {name: few, keep: {few: words > 400}}
  - near: {preset: fineweb}
    from: heuristics
  - heuristics:
    name: again
  - confirm: {jaccard: 0.7, exempt: again_words > 480}
  - rank: {of: words}
""".lstrip("\n")
    done: set[str] = set()
    told = reported(tmp_path, corpus, stages, report=lambda event: done.add(event.stage))
    assert done == {"ingest", "some", "some (gather)", "again"}
    words = [len(str(one["text"]).split()) for one in corpus[:60]]
    assert told["documents"] == sum(count <= 480 for count in words) < 60
    assert told["left_out"]["exempt"] == sum(count > 480 for count in words)


def test_what_holds_for_the_whole_corpus_is_left_out_and_that_is_said(tmp_path, corpus, capsys):
    stages = "  - near: {against: [nowhere.index]}\n  - confirm: {jaccard: 0.7, max_removed: {web: 0.0}}\n"
    told = reported(tmp_path, corpus, stages, documents=20)
    assert told["without_indexes"] == 1
    assert told["removed"]["rows"] > 20
    show(told)
    assert "matches with indexes (`against`) are not measured" in capsys.readouterr().out


def test_of_a_run_too_it_is_said_that_indexes_are_left_out(tmp_path, corpus):
    old = write(tmp_path, corpus, STAGES + "  - select: {keep: {a: not near_duplicate}}\n")
    run(recipe.load(old), f"{tmp_path}/old")
    add(str(tmp_path / "index"), f"{tmp_path}/old")
    stages = STAGES.replace("preset: fineweb", "preset: fineweb, against: [index]")
    run(recipe.load(write(tmp_path, corpus[:-1], stages)), f"{tmp_path}/run")
    assert near_report(f"{tmp_path}/run", documents=20)["without_indexes"] == 1


def test_rare_documents_are_looked_for_until_they_are_enough(tmp_path, corpus):
    stages = "  - heuristics:\n  - select: {keep: {starred: stars >= 80}}\n" + STAGES
    many = [*corpus[:100], *({**one, "stars": 0} for one in corpus[:100])]
    told = reported(tmp_path, many, stages, documents=12)
    assert told["documents"] == 12


RUN = """
  - heuristics:
  - exact:
  - select: {keep: {original: not duplicate, long: words > 100}, carry: [stars]}
  - clean: {patterns: {junk: "^junk"}}
  - near: {threshold: 0.75, hashes: 120, unit: characters, ngram: 12, per: source, among: stars <> 7, keep: highest, by: stars}
    name: found
  - heuristics:
  - confirm: {containment: 0.8, of: found_, exempt: words > 480, max_removed: {web: 0.9}}
  - select: {name: kept, keep: {original: not near_duplicate}}
""".lstrip("\n")  # noqa: E501


def test_a_finished_run_is_measured_like_its_recipe(tmp_path, corpus, capsys):
    junk = [{**one, "text": f"{one['text']}\n{LINES}"} for one in corpus]
    path = write(tmp_path, junk, RUN + "  - near:\n  - confirm: {jaccard: 0.9}\n    name: last\n")
    loaded = recipe.load(path)
    run(loaded, str(tmp_path / "run"))
    of_recipe = near_report(loaded, near="found")
    of_run = near_report(str(tmp_path / "run"), near="found")
    assert of_run == {**of_recipe, "of": str(tmp_path / "run")}
    assert of_run["left_out"]["do not compete"] == 1
    assert of_run["left_out"]["exempt"] > 0
    assert near_report(str(tmp_path / "run"), near="near")["threshold"]["at"] == 0.9
    assert cli.main(["near-report", str(tmp_path / "run"), "--near", "found", "--documents", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == near_report(str(tmp_path / "run"), near="found", documents=10)


def test_of_a_run_in_shards_the_first_of_all_are_drawn(tmp_path, corpus):
    for part in range(20):
        (tmp_path / f"{part:02d}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in corpus[part:100:20] * 2))
    (tmp_path / "recipe.yaml").write_text(
        f"ingest: {{files: '*.jsonl', source: web, shard_bytes: 6000}}\nstages:\n  - exact:\n{STAGES}"
    )
    done = run(recipe.load(str(tmp_path / "recipe.yaml")), str(tmp_path / "run"))
    assert len(done.source.manifest.shards) == 20
    told = near_report(str(tmp_path / "run"), documents=10)
    assert told["documents"] == 10
    table = of_run(str(tmp_path / "run"), documents=10, seed=3, near=None).table
    every = of_run(str(tmp_path / "run"), documents=200, seed=3, near=None).table
    assert table["origin"].to_pylist() == every["origin"].to_pylist()[:10]


# --- what people and machines see ------------------------------------------------------------------------------------


def test_a_table_for_people_and_json_for_machines(tmp_path, corpus, capsys):
    path = write(tmp_path, corpus)
    assert cli.main(["near-report", path, "--documents", "30", "--seed", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == near_report(recipe.load(path), documents=30, seed=4)
    assert cli.main(["near-report", path, "--documents", "30", "--seed", "4"]) == 0
    shown = capsys.readouterr().out
    for edit in EDITS:
        row = next(row for row in told["edits"] if row["edit"] == edit)
        line = next(line for line in shown.splitlines() if line.startswith(edit))
        assert line.split()[1] == str(row["pairs"])
        assert f"{row['expected']:.1f}" in line
    assert f"precision 1.0000: of {told['removed']['rows']:,} rows removed" in shown
    assert "14 bands of 8, 5 words" in shown
    assert "0.7 0.565" in shown
    assert max(map(len, shown.splitlines()[2:13])) <= 120


@pytest.mark.parametrize(
    ("stages", "options", "said"),
    [
        ("  - exact:\n", {}, "has no `near` step to measure: add `- near: {preset: fineweb}`"),
        ("  - near:\n", {}, "no `confirm` proves what 'near' proposes: add `- confirm: {jaccard: 0.7}`"),
        ("  - near:\n    name: one\n", {}, "add `- confirm: {jaccard: 0.7, of: one_}`"),
        (STAGES, {"near": "naer"}, "no `near` step of 'made' is called 'naer'; did you mean 'near'"),
        (STAGES + "  - near: {ngram: 3}\n    name: two\n", {}, "several `near` steps: choose one with --near: near, t"),
        (STAGES, {"documents": 3}, "3 documents tell nothing: at least 10"),
        (STAGES, {"seed": -1}, "a seed is a whole number"),
        (
            "  - select: {keep: {few: stars < 4}}\n" + STAGES,
            {},
            "4 documents reach 'near' that can be edited, at least 10 are wanted; passed over: 5 of fewer than 50 w",
        ),
        (
            '  - near:\n  - clean: {patterns: {junk: "^j"}}\n  - confirm: {jaccard: 0.7}\n',
            {},
            "'confirm' sees other documents or texts than 'near'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(tmp_path, corpus, stages, options, said):
    loaded = recipe.load(write(tmp_path, corpus, stages))
    with pytest.raises(RecipeError) as raised:
        near_report(loaded, **options)
    assert said in str(raised.value)


def test_an_unfinished_run_is_refused(tmp_path, corpus):
    loaded = recipe.load(write(tmp_path, corpus))
    with pytest.raises(RecipeError, match="no run folder"):
        near_report(str(tmp_path / "run"))
    run(loaded, str(tmp_path / "run"))
    for folder in (tmp_path / "run").glob("confirm-*"):
        (folder / "manifest.json").unlink()
    with pytest.raises(RecipeError, match=r"'confirm' of .* is unfinished; `curate run` finishes it"):
        near_report(str(tmp_path / "run"))


def test_nothing_is_left_behind(tmp_path, corpus):
    path = write(tmp_path, corpus)
    near_report(recipe.load(path), documents=10)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["raw.jsonl", "recipe.yaml"]
