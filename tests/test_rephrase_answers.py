"""`rephrase` and the server: faults on the way, requests that are refused, secrets, and requests as files."""

import base64
import json
import os
import pickle
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import orjson
import pytest
import rephrased
from corpus import digests
from llm_server import Said, Server, completion, mixed, served
from rephrased import Generator, made, rejects, rows

from curate import recipe
from curate.errors import AssetError, RecipeError, Unanswered
from curate.generate import dispatch
from curate.generate.answers import Answers
from curate.generate.batch import load
from curate.run import run

KEY = "sk-quite-secret-key-0123456789"
USER, PASSWORD, TOKEN = "robin-the-user", "pass-word-of-robin", "token-in-the-query"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("answers")
    rephrased.write(place, 40)
    return place


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return Generator(folder)


@pytest.fixture
def server(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(dispatch, "backoff", lambda *_: 0.01)
    with served(says=generator) as one:
        monkeypatch.setenv("CURATE_LLM", one.url)
        monkeypatch.setenv("CURATE_LLM_KEY", KEY)
        yield one


@pytest.fixture(scope="module")
def undisturbed(folder: Path, generator: Generator) -> dict[str, str]:
    with served(says=generator) as one, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATE_LLM", one.url)
        made(folder, "fine", ending=rephrased.MIXED)
    return shown(folder / "fine")


def shown(place: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(place).items() if not name.startswith("answers")}


def asked(server: Server) -> int:
    return server.seen.requests.total()


def distinct(server: Server) -> int:
    return len(server.seen.requests)


# ---------------------------------------------------------------- faults


def storm(text: str, attempt: int) -> str:
    return "429:0" if attempt < 4 else "ok"


def hung(text: str, attempt: int) -> str:
    return "hang" if attempt == 1 and len(text) % 11 == 0 else "500" if attempt < 3 and len(text) % 3 == 0 else "ok"


@pytest.mark.parametrize("faults", [mixed, storm, hung], ids=["mixed", "storm", "hung"])
def test_a_bad_server_gives_the_rows_of_a_good_one(
    folder: Path, server: Server, undisturbed: dict[str, str], tmp_path: Path, faults: Any
) -> None:
    server.faults = faults
    limits = "{timeout: 1.0, tries: 12, concurrency: 8}"
    made(folder, str(tmp_path / "run"), ending=rephrased.MIXED, limits=limits)
    assert asked(server) > distinct(server)
    assert server.seen.most <= 8
    assert shown(tmp_path / "run") == undisturbed


@pytest.mark.parametrize("status", ["400", "413", "422"])
def test_what_is_refused_for_good_is_a_reject(folder: Path, server: Server, tmp_path: Path, status: str) -> None:
    server.faults = lambda text, attempt: status if len(text) % 4 == 0 else "ok"
    result = made(folder, str(tmp_path / "run"))
    refused = [one for one in rejects(result) if one["reason"] == "refused"]
    counted = Counter(text for text in server.seen.requests if len(text) % 4 == 0)
    assert len(refused) >= len(counted) > 3
    assert all(one["raw"].decode().startswith(f"{status}: refused with {status}") for one in refused)
    assert not any(len(one["text"]) == 0 for one in rows(result))
    before = asked(server)
    assert before == distinct(server)
    again = made(folder, str(tmp_path / "other"), answers=tmp_path / "run" / "answers.sqlite")
    assert asked(server) == before, "a refusal is an answer"
    assert rejects(again) == rejects(result)


def test_a_server_that_dies_leaves_the_rest_for_the_next_run(
    folder: Path, server: Server, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    server.faults = lambda text, attempt: "ok" if distinct(server) <= 25 else "reset"
    with pytest.raises(Unanswered, match=r"requests in a row failed all their 2 tries.*run again") as raised:
        made(folder, str(tmp_path / "run"), ending=rephrased.MIXED, limits="{tries: 2, concurrency: 4}")
    assert raised.value.exit_code == 1
    with Answers.open(str(tmp_path / "run" / "answers.sqlite")) as answers:
        kept = len(answers)
    assert 20 <= kept <= 25
    server.faults = lambda text, attempt: "ok"
    server.seen.requests.clear()
    result = made(folder, str(tmp_path / "run"), ending=rephrased.MIXED)
    answered = rephrased.dataset(result).manifest.total("outputs")["answered"]
    assert asked(server) <= answered - kept
    assert shown(tmp_path / "run") == undisturbed


def test_a_budget_ends_a_run_and_a_higher_one_goes_on(
    folder: Path, server: Server, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = str(tmp_path / "run")
    with pytest.raises(Unanswered, match="budget 'small' is used up"):
        made(folder, out, ending=rephrased.MIXED, limits="{tokens: 3K, concurrency: 2}")
    first = asked(server)
    assert 0 < server.seen.charged <= 3000
    made(folder, out, ending=rephrased.MIXED, limits="{tokens: 1M}")
    assert asked(server) == distinct(server) > first
    assert shown(tmp_path / "run") == undisturbed


def test_a_run_by_hand_ends_with_a_code_and_words(folder: Path, server: Server, tmp_path: Path) -> None:
    path = folder / "by_hand.yaml"
    path.write_text(rephrased.text_of(limits="{tries: 1}"))
    server.faults = lambda text, attempt: "echo_key"
    done = curate("run", str(path), "--out", str(tmp_path / "run"))
    assert done.returncode == AssetError.exit_code
    assert "does not know the key" in done.stderr
    assert "NAME_KEY" in done.stderr
    hidden(tmp_path, done.stdout + done.stderr)


def curate(*words: str) -> "subprocess.CompletedProcess[str]":
    source = str(Path(__file__).parents[1] / "src")
    command = [sys.executable, "-c", "import sys; from curate.cli import main; sys.exit(main())", *words]
    return subprocess.run(
        command, env=os.environ | {"PYTHONPATH": source, "COLUMNS": "400"}, capture_output=True, text=True, timeout=300
    )


# ---------------------------------------------------------------- secrets


def hidden(place: Path, *said: str) -> None:
    """No secret is in what was said, nor in any byte below the folder."""
    secrets = [KEY, PASSWORD, TOKEN, USER, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()]
    files = [file for file in place.rglob("*") if file.is_file()]
    for secret in secrets:
        for text in said:
            assert secret not in text, text
        for file in files:
            assert secret.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("fault", ["ok", "echo_key", "400", "500", "redirect", "mixed"])
@pytest.mark.parametrize("key", [KEY, ""])
def test_secrets_stay_with_the_server(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture, tmp_path: Path, fault: str, key: str,
) -> None:  # fmt: skip
    caplog.set_level(0)
    monkeypatch.setenv("CURATE_LLM", server.url.replace("//", f"//{USER}:{PASSWORD}@") + f"/v1?token={TOKEN}")
    monkeypatch.setenv("CURATE_LLM_KEY", key)
    server.faults = mixed if fault == "mixed" else lambda text, attempt: fault
    asked_for = recipe.parse(rephrased.text_of(limits="{tries: 3, timeout: 2}"), root=str(folder))
    notes, jobs = [], []

    def watched(work: Any, given: Any) -> Iterator[Any]:
        for job in given:
            jobs.append(cloudpickle.dumps((work, job)))
            yield work(job)

    said = ""
    try:
        run(asked_for, str(tmp_path / "run"), map=watched, report=lambda event: notes.append(repr(event)))
        assert fault in ("ok", "mixed")
    except (AssetError, Unanswered) as error:
        assert fault not in ("ok", "mixed")
        said = str(error) + repr(error)
    sent = server.seen.headers
    assert f"token={TOKEN}".encode() in sent
    assert (f"Bearer {key}" if key else "Basic ").encode() in sent
    told = capsys.readouterr()
    stage = asked_for.nodes[-1].stage
    pickled = (repr(pickle.dumps(stage)), *(repr(job) for job in jobs))
    hidden(tmp_path, said, told.out, told.err, caplog.text, repr(stage), repr(asked_for), *notes, *pickled)
    assert jobs


@pytest.mark.parametrize(
    "url", [f"http://{USER}:{PASSWORD}@host/v1", f"https://host/v1?token={TOKEN}", f"https://{PASSWORD}@host"]
)
def test_a_recipe_holds_no_secret(folder: Path, url: str) -> None:
    with pytest.raises(RecipeError, match="env:CURATE_LLM") as raised:
        recipe.parse(rephrased.text_of(server=f"'{url}'"), root=str(folder))
    hidden(folder, str(raised.value))


def test_an_address_in_a_recipe_needs_no_key(folder: Path, server: Server, tmp_path: Path) -> None:
    made(folder, str(tmp_path / "run"), server=server.url)
    assert asked(server) > 20
    assert b"authorization" not in server.seen.headers.lower()


# ---------------------------------------------------------------- requests as files


def test_requests_as_files_give_the_rows_of_a_server(
    folder: Path, server: Server, generator: Generator, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out, place = tmp_path / "run", tmp_path / "requests"
    given: dict[str, Any] = {"server": f"files:{place}", "ending": rephrased.MIXED}
    with pytest.raises(Unanswered, match=r"curate rephrase import.*run again") as raised:
        made(folder, str(out), **given)
    files = sorted(place.glob("*.jsonl"))
    lines = [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]
    assert f"{len(lines):,} requests" in str(raised.value)
    assert f"in {len(files)} files" in str(raised.value)
    assert len({line["custom_id"] for line in lines}) == len(lines) > 30
    with pytest.raises(Unanswered, match=rf"^{len(lines)} requests are open.*import.*remove the files"):
        made(folder, str(out), **given)
    results = [result(line, generator) for line in lines]
    random.Random(3).shuffle(results)
    half = len(results) // 2
    for number, some in enumerate((results[:half], results[half:])):
        file = tmp_path / f"results-{number}.jsonl"
        file.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in some))
        with Answers.open(str(out / "answers.sqlite")) as answers:
            assert load(str(file), answers).answered == len(some)
        if number == 0:
            with pytest.raises(Unanswered, match=rf"^{len(results) - half} requests are open"):
                made(folder, str(out), **given)
    made(folder, str(out), **given)
    assert shown(out) == undisturbed
    assert asked(server) == 0
    assert made(folder, str(out), server="env:CURATE_LLM", ending=rephrased.MIXED).worked == 0


def result(line: dict[str, Any], generator: Generator) -> dict[str, Any]:
    """What a batch service gives for a line of requests."""
    body = line["body"]
    text = body["messages"][-1]["content"]
    said: Said = generator(text, body["seed"])
    answer = {"status_code": 200, "body": completion(body["model"], text, "ok", said)}
    return {"id": "x", "custom_id": line["custom_id"], "response": answer, "error": None}


def test_files_that_are_removed_are_written_again(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "requests"
    written = []
    for _ in range(2):
        with pytest.raises(Unanswered, match="import"):
            made(folder, str(tmp_path / "run"), server=f"files:{place}")
        written.append({file.name: file.read_bytes() for file in place.iterdir()})
        for file in place.iterdir():
            file.unlink()
    assert written[0] == written[1]
    first = json.loads(next(iter(written[0].values())).splitlines()[0])
    assert first["url"] == "/v1/chat/completions"
    assert re.fullmatch("[0-9a-f]{64}", first["custom_id"])
