"""Requests to files and results back, the stories and tables of rephrased rows, and what `plan` says beforehand."""

import gzip
import hashlib
import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import llm_server
import pyarrow.parquet as pq
import pytest
from corpus import train_tokenizer
from static_model import write_static
from verbs import called

from curate import cli, plan, preview, recipe, rephrase_verb, report
from curate.errors import RecipeError, Unanswered
from curate.execute import serial
from curate.generate.answers import Answers
from curate.outputs import outputs, state
from curate.run import run
from curate.stage import Evidence
from curate.why import example, why

DATA = Path(__file__).parent / "data"
PASSAGES = {one["id"]: one["text"] for one in map(json.loads, (DATA / "passages.jsonl").read_text().splitlines())}
GOOD: dict[str, str] = {}
for line in (DATA / "generations.jsonl").read_text().splitlines():
    one = json.loads(line)
    if one["label"] == "good" and one["made"] == "written" and one["style"] in ("easy", "medium"):
        GOOD.setdefault(PASSAGES[one["passage"]], one["output"])
REFUSAL = "I'm sorry, but I cannot help with rewriting this passage, as it would not be right for me to do so."
TEXTS = list(GOOD)

RECIPE = """\
name: small
ingest: {files: "raw-*.jsonl", source: web, id: id, shard_bytes: 4096}
stages:
  - select: {name: real, keep: {long_enough: bytes > 100}}
  - rephrase: {styles: [easy, medium], model: writer, tokenizer: tokenizer.json, language_model: null, MORE}
    name: wrap
  - select: {name: fine, keep: {plain: style = 'easy'}}
  - concat: {of: {real: real, wrap: fine}}
  - tokenize: {tokenizer: tokenizer.json, engine: tokenizers}
  - mix: {weights: {real: 1, wrap: 1}}
  - pack: {window: 32}
"""


def answer(text: str) -> str:
    """A good output for some passages, a refusal for others, with a draw by the request."""
    passage = next((passage for passage in TEXTS if passage in text), None)
    draw = hashlib.sha256(text.encode()).digest()[0]
    if passage is None or draw < 64:
        return REFUSAL
    return GOOD[passage] + (" So much is known of it." if draw % 2 else "")


def usage(text: str) -> tuple[int, int]:
    return len(text) // 4, len(answer(text)) // 4


def completion(custom_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """A line of results of a batch service."""
    text = body["messages"][-1]["content"]
    prompt, made = usage(text)
    choice = {"index": 0, "message": {"role": "assistant", "content": answer(text)}, "finish_reason": "stop"}
    used = {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}
    answered = {"id": "c", "object": "chat.completion", "model": body["model"], "choices": [choice], "usage": used}
    return {"id": "b", "custom_id": custom_id, "response": {"status_code": 200, "body": answered}, "error": None}


def answered(files: list[str], target: Path) -> str:
    """What a service gives for files of requests: one file, in another order."""
    lines = [json.loads(line) for file in files for line in Path(file).read_text().splitlines()]
    made = [json.dumps(completion(line["custom_id"], line["body"])) for line in reversed(lines)]
    target.write_text("\n".join(made) + "\n")
    return str(target)


def corpus(folder: Path, *, more: str = "") -> str:
    """Raw documents, tokenizer and recipe; the first documents are of two passages, the last ones are too short."""
    texts = ["\n\n".join(TEXTS[at : at + 2]) for at in range(0, 24, 2)]
    texts += [*TEXTS[24:], "too short", "a text of some thirty letters"]
    lines = [json.dumps({"id": f"d{number}", "text": text}) for number, text in enumerate(texts)]
    for number in range(3):
        (folder / f"raw-{number}.jsonl").write_text("\n".join(lines[number::3]) + "\n")
    (folder / "tokenizer.json").write_text(train_tokenizer(texts))
    write_static(folder / "static")
    (folder / "recipe.yaml").write_text(RECIPE.replace(", MORE", f", {more}" if more else ""))
    return str(folder / "recipe.yaml")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The recipe and the folder of a run that is done, with similarities."""
    folder = tmp_path_factory.mktemp("rephrased")
    path = corpus(folder, more="embedding: static, limits: {concurrency: 4, input_price: 1, output_price: 2}")
    with pytest.MonkeyPatch.context() as patch, llm_server.served(seconds=0.01) as server:
        patch.setattr(llm_server, "answer", answer)
        patch.setattr(llm_server, "usage", usage)
        patch.setenv("CURATE_LLM", server.url)
        run(recipe.load(path), str(folder / "run"))
    return path, str(folder / "run")


def rows(out: str, name: str) -> list[dict[str, Any]]:
    (folder,) = (step["folder"] for step in state(out) if step["name"] == name)
    return [row for file in sorted((Path(out) / folder).glob("0*.parquet")) for row in pq.read_table(file).to_pylist()]


def rejects(out: str, name: str) -> list[dict[str, Any]]:
    (folder,) = (step["folder"] for step in state(out) if step["name"] == name)
    files = sorted((Path(out) / folder / "rejects").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def counted(told: list[dict[str, Any]], name: str) -> int:
    return sum(len(stage[name]) for stage in told)


def test_the_story_of_a_document_has_all_that_was_made_of_it(finished: tuple[str, str]) -> None:
    out = finished[1]
    made, aside = rows(out, "wrap"), rejects(out, "wrap")
    assert made
    assert aside
    of_steps = {name: {row["origin"] for row in rows(out, name)} for name in ("fine", "concat")}
    seen, mixed, fates = 0, 0, set()
    for parent in rows(out, "real"):
        (story,) = why(out, parent["origin"])["copies"]
        (told,) = (stage for stage in story["stages"] if stage["kind"] == "rephrase")
        mine = [row for row in made if row["parent"] == parent["id"]]
        assert [output["origin"] for output in told["outputs"]] == [row["origin"] for row in mine]
        refused = [row["origin"] for row in aside if row["origin"].startswith(parent["origin"] + "#")]
        assert [one["origin"] for one in told["rejected"]] == refused
        assert all(one["reason"] in ("refusal", "length_ratio", "copied") for one in told["rejected"])
        for output, row in zip(told["outputs"], mine, strict=True):
            for name in ("style", "passages", "similarity", "novel_share", "start", "end", "candidate"):
                assert output[name] == row[name]
            steps = [stage["stage"] for stage in output["stages"]]
            kept = row["origin"] in of_steps["fine"]
            assert (steps[-1] == "pack") == kept
            assert ("dropped by plain in fine" in output["outcome"]) == (not kept)
            assert ("concat" in steps) == (row["origin"] in of_steps["concat"])
            fates.add(kept)
        seen += len(mine) + len(refused)
        mixed += bool(mine) and bool(refused)
        words = [word for word, count in (("row", mine), ("rejected answer", refused)) if count]
        assert all(word in story["outcome"] for word in words)
    assert seen == outputs(out)["stages"][2]["outputs"]["answered"]
    assert mixed
    assert fates == {True, False}


def test_a_row_is_found_by_its_id_and_its_origin_and_names_its_parent(finished: tuple[str, str]) -> None:
    out = finished[1]
    parents = {row["id"]: row["origin"] for row in rows(out, "real")}
    made = rows(out, "wrap")
    for row in (made[0], made[-1]):
        for name in (row["origin"], row["id"].hex(), row["origin"].upper() and row["origin"]):
            told = why(out, name)["copies"]
            story = next(one for one in told if one["origin"] == row["origin"])
            assert story["parent"] == {"id": row["parent"].hex(), "origin": parents[row["parent"]]}
            assert story["made_by"] == "wrap"
            (in_parent,) = (
                output
                for copy in why(out, story["parent"]["id"])["copies"]
                for stage in copy["stages"]
                for output in stage.get("outputs", ())
                if output["origin"] == row["origin"]
            )
            assert in_parent == story


def test_a_rejected_answer_is_found_by_its_place(finished: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    out = finished[1]
    first = rejects(out, "wrap")[0]
    told = why(out, first["origin"])
    assert not told["copies"]
    assert [(one["origin"], one["reason"], one["stage"]) for one in told["rejected"]] == [
        (first["origin"], first["reason"], "wrap")
    ]
    report.story(told)
    assert f"set aside at wrap: {first['reason']}" in capsys.readouterr().out
    with pytest.raises(RecipeError, match="has no document"):
        why(out, first["origin"] + "9")


def test_stories_are_shown(finished: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    out = finished[1]
    told = why(out, rows(out, "wrap")[0]["parent"].hex())
    report.story(told)
    said = capsys.readouterr().out
    (stage,) = (stage for stage in told["copies"][0]["stages"] if stage["kind"] == "rephrase")
    for output in stage["outputs"]:
        assert f"    {output['origin']}  id {output['id']}" in said
    for one in stage["rejected"]:
        assert f"{one['origin']}  REJECTED: {one['reason']}" in said
    assert "made of" in said
    report.story(example(out))
    assert "=>" in capsys.readouterr().out


def test_an_example_may_be_a_row_that_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(corpus(tmp_path))
    text = path.read_text().replace("long_enough: bytes > 100", "long_enough: bytes > 1").partition("  - concat")[0]
    path.write_text(text)
    monkeypatch.setattr(llm_server, "answer", answer)
    monkeypatch.setattr(llm_server, "usage", usage)
    with llm_server.served() as server:
        monkeypatch.setenv("CURATE_LLM", server.url)
        run(recipe.load(str(path)), str(tmp_path / "run"))
    (story,) = example(str(tmp_path / "run"))["copies"]
    assert story["outcome"] == "dropped by plain in fine"
    assert story["made_by"] == "wrap"


def test_outputs_count_what_became_of_answers(finished: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    out = finished[1]
    made = outputs(out)
    (told,) = (stage for stage in made["stages"] if stage["kind"] == "rephrase")
    aside = rejects(out, "wrap")
    assert told["rows"] == len(rows(out, "wrap"))
    assert told["rejected"] == len(aside) == sum(told["rejects"].values()) == told["outputs"]["rejected"]
    assert told["outputs"]["answered"] == told["rows"] + len(aside)
    similar = [row["similarity"] for row in rows(out, "wrap")]
    assert told["likeness"]["pairs"] == len(similar)
    assert told["likeness"]["true"] == pytest.approx(sum(similar) / len(similar), abs=1e-5)
    assert Path(told["rejects_folder"]).is_dir()
    assert all(Path(shard).is_file() for shard in told["shards"])
    assert cli.main(["outputs", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(made))
    report.table(made)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"accepted {told['outputs']['accepted']}; rejected {len(aside)}: refusal {told['rejects']['refusal']}" in said
    )
    assert "documents out" in said
    words = f"; similarity {told['likeness']['true']:.2f}, {told['likeness']['shuffled']:.2f} when shuffled"
    assert report._rephrased(told).endswith(words)


def test_a_table_without_similarities_and_rejects_says_nothing_of_them() -> None:
    stage = {"outputs": {"answered": 3, "accepted": 2, "surpassed": 1, "rejected": 0}, "rejected": 0, "rejects": {}}
    assert report._rephrased(stage) == "accepted 2, surpassed 1"


# --- requests to files, and results back --------------------------------------------------------------------------


def test_files_and_back_give_the_same_run(
    finished: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CURATE_LLM", raising=False)
    path, out, to = finished[0], str(tmp_path / "run"), tmp_path / "to"
    assert cli.main(["rephrase", "export", path, "--out", out, "--to", str(to), "--lines", "40"]) == 0
    said = capsys.readouterr().out
    files = [str(file) for file in sorted(to.iterdir())]
    lines = sum(len(Path(file).read_text().splitlines()) for file in files)
    assert max(len(Path(file).read_text().splitlines()) for file in files) == 40
    assert f"wrap: {lines} requests in {len(files)} files" in said
    assert f"curate rephrase import {out} RESULTS.jsonl" in said
    assert [step["name"] for step in state(out)] == [step["name"] for step in state(finished[1])]
    assert cli.main(["run", path, "--out", out]) == 2, "no server, and requests are open"
    assert "CURATE_LLM is not set" in capsys.readouterr().err
    assert cli.main(["rephrase", "import", out, answered(files, tmp_path / "results.jsonl")]) == 0
    assert capsys.readouterr().out.split()[-6:] == [str(lines), "0", "0", "0", "0", "0"]
    again = cli.main(["rephrase", "export", path, "--out", out, "--to", str(tmp_path / "more"), "--json"])
    assert (again, json.loads(capsys.readouterr().out)["stages"][0]["requests"]) == (0, 0)
    assert cli.main(["run", path, "--out", out]) == 0, "all is answered, so no server is asked for"
    assert rows(out, "wrap") == rows(finished[1], "wrap")
    assert rejects(out, "wrap") == rejects(finished[1], "wrap")


def test_what_export_tells_is_what_it_wrote(finished: tuple[str, str], tmp_path: Path) -> None:
    loaded = recipe.load(finished[0])
    (told,) = rephrase_verb.export(loaded, str(tmp_path / "run"), str(tmp_path / "to"))["stages"]
    lines = [json.loads(line) for file in told["files"] for line in Path(file).read_text().splitlines()]
    assert told["requests"] == len(lines)
    assert told["most_tokens"] == sum(line["body"]["max_tokens"] for line in lines)
    assert told["prompt_tokens"] > 0
    with pytest.raises(RecipeError, match="has requests already"):
        rephrase_verb.export(loaded, str(tmp_path / "run"), str(tmp_path / "to"))
    code, again = called(
        rephrase_verb.register,
        *("rephrase", "export", finished[0], "--out", str(tmp_path / "run"), "--to", str(tmp_path / "small")),
        *("--megabytes", "1", "--lines", "1000", "--limit", "9"),
    )
    assert code == 0
    assert 0 < again["stages"][0]["requests"] < told["requests"]


TWO = """ingest: {files: "raw-*.jsonl", source: web, id: id, shard_bytes: 4096}
stages:
  - select: {name: real, keep: {long_enough: bytes > 100}}
  - rephrase: {styles: easy, model: writer, tokenizer: tokenizer.json, language_model: null}
    name: one
  - rephrase: {styles: medium, model: writer, tokenizer: tokenizer.json, language_model: null, answers: other.sqlite}
    name: two
    from: FROM
  - tokenize: {tokenizer: tokenizer.json, engine: tokenizers}
  - exact: {name: seen}
    from: ingest
"""


def test_two_steps_beside_each_other_are_both_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CURATE_LLM", raising=False)
    path, out, to = Path(corpus(tmp_path)), str(tmp_path / "run"), tmp_path / "to"
    path.write_text(TWO.replace("FROM", "real"))
    assert cli.main(["rephrase", "export", str(path), "--out", out, "--to", str(to)]) == 0
    said = capsys.readouterr().out
    assert re.findall(r"^(one|two): ([0-9]+) requests", said, re.MULTILINE) == [("one", "120"), ("two", "120")] or said
    assert f"--answers {tmp_path / 'other.sqlite'}" in said
    files = {name: [str(file) for file in (to / name).iterdir()] for name in ("one", "two")}
    for name, store in (("one", []), ("two", ["--answers", str(tmp_path / "other.sqlite")])):
        results = answered(files[name], tmp_path / f"{name}.jsonl")
        assert cli.main(["rephrase", "import", out, results, *store]) == 0
    capsys.readouterr()
    assert cli.main(["run", str(path), "--out", out]) == 0
    assert rows(out, "two")


def test_a_step_that_reads_the_answers_of_another_waits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CURATE_LLM", raising=False)
    path, out = Path(corpus(tmp_path)), str(tmp_path / "run")
    path.write_text(TWO.replace("FROM", "one"))
    told = rephrase_verb.export(recipe.load(str(path)), out, str(tmp_path / "to"))
    one, two = told["stages"]
    assert (one["waits_for"], two["waits_for"], two["requests"]) == (None, "one", 0)
    rephrase_verb.requests(told)
    assert "two: reads what one makes" in capsys.readouterr().out
    assert preview.preview(recipe.load(str(path)), out)["stages"][3]["forecast"] is None
    rephrase_verb.load(out, [answered(one["files"], tmp_path / "one.jsonl")])
    one, two = rephrase_verb.export(recipe.load(str(path)), out, str(tmp_path / "more"))["stages"]
    assert (one["requests"], two["waits_for"]) == (0, None)
    assert two["requests"] > 0
    assert not [file for file in Path(out).glob("tokenize-*/*") if file.suffix == ".parquet"], "only what is needed"
    assert not [file for file in Path(out).glob("seen-*/*") if file.suffix == ".parquet"], "only what is needed"


def test_lines_that_are_no_results_are_told_with_their_places(
    finished: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, to = str(tmp_path / "run"), tmp_path / "to"
    (told,) = rephrase_verb.export(recipe.load(finished[0]), out, str(to))["stages"]
    lines = Path(answered(told["files"], tmp_path / "results.jsonl")).read_text().splitlines()
    fine, other = lines[:5], [json.loads(line) for line in lines[5:8]]
    other[0]["response"] = {"status_code": 400, "body": {"error": {"message": "too long"}}}
    other[1]["response"] = {"status_code": 500, "body": {}}
    other[2]["custom_id"] = "of-another-run"
    bad = ["no JSON", json.dumps({"custom_id": "0" * 64})]
    (tmp_path / "a.jsonl").write_text("\n".join([*fine, fine[0], *map(json.dumps, other), *bad]) + "\n")
    (tmp_path / "b.jsonl").write_text("\n".join(fine) + "\n")
    files = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    assert cli.main(["rephrase", "import", out, *files]) == 3
    said = capsys.readouterr()
    table = [line.split() for line in said.out.splitlines()]
    assert table[0] == ["file", "answered", "refused", "known", "failed", "unknown", "bad"]
    assert table[1] == [files[0], "5", "1", "1", "1", "1", "2"]
    assert table[2] == [files[1], "0", "0", "5", "0", "0", "0"]
    assert table[3] == ["all", "5", "1", "6", "1", "1", "2"]
    assert f"{files[0]}:10: no JSON" in said.out
    assert f"{files[0]}:11: neither `response` nor `error`" in said.out
    assert "2 lines are no results and 1 have no answer" in said.err
    assert cli.main(["rephrase", "import", out, files[1], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["known"] == 5
    (open_,) = rephrase_verb.export(recipe.load(finished[0]), out, str(tmp_path / "rest"))["stages"]
    assert open_["requests"] == told["requests"] - 6
    capsys.readouterr()
    assert cli.main(["rephrase", "import", out, *told["files"]]) == 3, "requests are no results"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["import", "RUN", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["import", "nowhere", "nowhere.jsonl"], "nowhere is no run folder"),
        (["import", "RUN"], "the following arguments are required: FILE"),
        (["export", "RECIPE", "--out", "RUN"], "--to"),
        (["export", "RECIPE", "--out", "RUN", "--to", "x", "--lines", "0"], "a whole number above 0"),
        (["export", "PLAIN", "--out", "RUN", "--to", "x"], "has no `rephrase` step"),
        (["forget", "nowhere"], "nowhere is no run folder"),
        (["forget", "RUN", "--answers", "nowhere.sqlite"], "there is no store of answers nowhere.sqlite"),
        (["answer"], "invalid choice: 'answer'"),
    ],
)
def test_a_call_that_is_wrong_ends_with_code_2(
    finished: tuple[str, str], tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = Path(finished[0]).with_name("plain.yaml")
    plain.write_text('ingest: {files: "raw-*.jsonl", source: web}\nstages:\n  - exact:\n')
    names = {"RUN": finished[1], "RECIPE": finished[0], "PLAIN": str(plain)}
    assert cli.main(["rephrase", *(names.get(word, word) for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_refusals_are_forgotten_and_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded, out = recipe.load(corpus(tmp_path)), str(tmp_path / "run")
    place = f"{out}/answers.sqlite"
    monkeypatch.setattr(llm_server, "answer", answer)
    monkeypatch.setattr(llm_server, "usage", usage)
    with llm_server.served(lambda text, attempt: "413" if len(text) % 3 == 0 else "ok") as server:
        monkeypatch.setenv("CURATE_LLM", server.url)
        run(loaded, out)
        asked = server.seen.requests.total()
        refused = [one for one in rejects(out, "wrap") if one["reason"] == "refused"]
        assert refused
        with Answers.open(place) as answers, answers.hold():
            assert cli.main(["rephrase", "forget", out]) == 1
            assert "is asking for answers to this store" in capsys.readouterr().err
        assert cli.main(["rephrase", "forget", out]) == 0
        said = capsys.readouterr().out
        count = int(said.partition(": ")[2].partition(" ")[0])
        assert said.startswith(f"{place}: {count} refusals forgotten; ")
        assert 0 < count <= len(refused)
        assert cli.main(["rephrase", "forget", out, "--answers", place, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"run": out, "answers": place, "forgotten": 0}
        assert run(loaded, out).worked == 0, "what is done is done"
        server.faults = llm_server.fine
        (folder,) = (step["folder"] for step in state(out) if step["name"] == "wrap")
        shutil.rmtree(Path(out) / folder)
        before = server.seen.requests.total()
        run(loaded, out)
        assert server.seen.requests.total() - before == count < asked
    assert not [one for one in rejects(out, "wrap") if one["reason"] == "refused"]


def test_files_in_another_form_are_taken_whole_or_not_at_all(
    finished: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    (told,) = rephrase_verb.export(recipe.load(finished[0]), out, str(tmp_path / "to"))["stages"]
    good = answered(told["files"], tmp_path / "good.jsonl")
    (tmp_path / "packed.jsonl").write_bytes(gzip.compress(Path(good).read_bytes()))
    assert cli.main(["rephrase", "import", out, good, str(tmp_path / "packed.jsonl")]) == 4
    assert "packed.jsonl is compressed (gzip): unpack it first" in capsys.readouterr().err
    assert cli.main(["rephrase", "import", out, good]) == 0
    assert f" {told['requests']} " in capsys.readouterr().out, "none was known before"


def test_answers_are_not_taken_into_a_run_that_asks_for_none(tmp_path: Path) -> None:
    path = Path(corpus(tmp_path))
    path.write_text('ingest: {files: "raw-*.jsonl", source: web}\nstages:\n  - exact:\n')
    run(recipe.load(str(path)), str(tmp_path / "run"))
    with pytest.raises(RecipeError, match="has no `rephrase` step"):
        rephrase_verb.load(str(tmp_path / "run"), [str(path)])
    assert not (tmp_path / "run" / "answers.sqlite").exists()


def test_a_part_of_a_run_is_all_that_it_needs_and_no_more(finished: tuple[str, str], tmp_path: Path) -> None:
    loaded, out = recipe.load(finished[0]), str(tmp_path / "run")
    steps = plan.resolve(loaded, out, plan.survey(loaded, out, serial))
    needs = {step.node.name: {steps[i].node.name for i in plan.needed(steps, step.node.name)} for step in steps}
    order = [step.node.name for step in steps]
    assert needs["wrap"] == {"real", "wrap"}
    assert needs["concat"] == {"real", "wrap", "fine", "concat"}
    assert needs["pack"] == set(order)
    assert plan.needed(steps, None) == frozenset(range(len(steps)))
    done = run(loaded, out, until="real")
    assert [step.node.name for step, _ in done.steps] == ["real"]
    assert [step["name"] for step in state(out)][1:] == order


# --- forecasts ----------------------------------------------------------------------------------------------------


def forecast(path: str, out: str, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entry of the step `wrap` in the plan, and its forecast."""
    (entry,) = (stage for stage in preview.preview(recipe.load(path), out, **more)["stages"] if stage["name"] == "wrap")
    return entry, entry.get("forecast", {})


def test_a_forecast_of_few_documents_is_their_count(finished: tuple[str, str], tmp_path: Path) -> None:
    path, out = finished[0], str(tmp_path / "run")
    entry, before = forecast(path, out)
    assert before["at_most"]
    assert before["documents"] is None
    assert entry["remarks"][-1].startswith("at most ")
    (told,) = rephrase_verb.export(recipe.load(path), out, str(tmp_path / "to"))["stages"]
    entry, made = forecast(path, out)
    assert not made["at_most"]
    assert made["requests"] == made["passages"] == told["requests"] <= before["requests"]
    assert entry["rows_expected"] == made["passages"]
    assert made["input_tokens"] == told["prompt_tokens"]
    assert made["output_tokens_most"] == told["most_tokens"] > made["output_tokens"] > 0
    assert made["money"] == pytest.approx((made["input_tokens"] + 2 * made["output_tokens"]) / 1e6)
    assert made["hours"] is None
    assert entry["remarks"][-1].startswith(f"about {told['requests']} requests")
    timed = forecast(path, out, speed=100)[1]
    assert timed["hours"] == pytest.approx(made["output_tokens"] / 360_000)
    assert "forecast" not in forecast(path, finished[1])[0], "what is done is not forecast"


def test_answers_that_are_there_are_told_and_their_length_is_learned(finished: tuple[str, str], tmp_path: Path) -> None:
    path, out = finished[0], str(tmp_path / "run")
    (told,) = rephrase_verb.export(recipe.load(path), out, str(tmp_path / "to"))["stages"]
    lines = Path(answered(told["files"], tmp_path / "results.jsonl")).read_text().splitlines()
    (tmp_path / "half.jsonl").write_text("\n".join(lines[: len(lines) // 2]) + "\n")
    rephrase_verb.load(out, [str(tmp_path / "half.jsonl")])
    entry, half = forecast(path, out)
    assert half["answered"] == len(lines[: len(lines) // 2])
    assert half["requests"] == told["requests"]
    assert f"{half['answered']} of them have an answer" in entry["remarks"][-1]
    assert half["tokens_per_second"] is None, "results of a batch have no time"
    said = [json.loads(line)["response"]["body"]["usage"]["completion_tokens"] for line in lines[: len(lines) // 2]]
    mean = half["output_tokens"] / (half["requests"] - half["answered"])
    assert mean == pytest.approx(sum(said) / len(said), rel=0.2)
    with Answers.open(str(Path(finished[1]) / "answers.sqlite")) as held:
        there = [json.loads(line)["custom_id"] for line in lines]
        timed = held.read(there).to_pylist()
    (Path(out) / "answers.sqlite").unlink()
    with Answers.open(str(Path(out) / "answers.sqlite")) as mine:
        from curate.generate.answers import Answer

        mine.put(Answer(key, **row) for key, row in list(zip(there, timed, strict=True))[1:])
    paced = forecast(path, out)[1]
    seconds, tokens = (sum(row[name] for row in timed[1:]) for name in ("seconds", "completion_tokens"))
    assert paced["speed_from"] == "answers"
    assert paced["tokens_per_second"] == pytest.approx(4 * tokens / seconds)
    assert paced["hours"] == pytest.approx(paced["output_tokens"] / paced["tokens_per_second"] / 3600)


def test_a_route_whose_column_is_not_there_counts_as_the_one_that_takes_most(tmp_path: Path) -> None:
    path, out = Path(corpus(tmp_path)), str(tmp_path / "run")
    text = path.read_text()
    path.write_text(text.replace("[easy, medium]", "[medium, hard]"))
    dear = forecast(str(path), out)[1]
    routed = text.replace("[easy, medium]", '{"not duplicate": easy, "duplicate": [medium, hard]}')
    path.write_text(
        routed.replace("  - select: {name: real", "  - exact:\n  - select: {name: real, carry: [duplicate]")
    )
    before = forecast(str(path), out)[1]
    run(recipe.load(str(path)), out, until="real")
    after = forecast(str(path), out)[1]
    assert before["at_most"]
    assert not after["at_most"]
    assert before["passages"] == dear["passages"] >= 2 * len(TEXTS)
    assert 2 * after["passages"] <= before["passages"]


def test_a_sample_stands_for_more_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = corpus(tmp_path), str(tmp_path / "run")
    run(recipe.load(path), out, until="real")
    whole = forecast(path, out)[1]
    monkeypatch.setattr("curate.forecast._DOCUMENTS", 24)
    part = forecast(path, out)[1]
    assert part["sampled"] < whole["sampled"] == whole["documents"] == part["documents"]
    assert part["requests"] == pytest.approx(whole["requests"], rel=0.3)


def test_the_plan_is_shown_with_its_forecast(
    finished: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", finished[0], "--out", str(tmp_path / "run"), "--tokens-per-second", "50"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"wrap: at most \d+ requests for \d+ passages: [\d,]+ tokens in, [\d,]+ out", said)
    assert re.search(r"money [\d.]+, [\d.]+ hours at 50 tokens/s; from \d+ documents", said)


def test_what_was_written_is_said_in_the_error_too(finished: tuple[str, str], tmp_path: Path) -> None:
    loaded, _, _ = rephrase_verb._to_files(recipe.load(finished[0]), str(tmp_path / "to"), {})
    with pytest.raises(Unanswered, match="have them answered") as raised:
        run(loaded, str(tmp_path / "run"))
    assert raised.value.written["files"] == [str(tmp_path / "to" / "requests-00000.jsonl")]


def test_workers_are_sent_no_listener() -> None:
    """What shows progress holds a terminal and locks, so nobody else gets it."""
    told = Evidence(("a",), 1, 2, "verdict", tell=lambda note: None)
    assert pickle.loads(pickle.dumps(told)) == Evidence(("a",), 1, 2, "verdict")
