"""The flow: the same bytes as without Prefect, few tasks, workers that die, and a deployment on a real server."""

import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from socket import socket
from types import SimpleNamespace
from typing import Any

import pytest
from corpus import digests, write_corpus, write_recipe
from processes import FLOW, ROOT, environment, finished, started

from curate import recipe
from curate.run import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Prefect's server on a free port of this machine: the variables that point a program to it."""
    home = tmp_path_factory.mktemp("prefect")
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = environment(home)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with started([*command, "--no-ui"], env, home / "server.log") as process:
        url = f"http://127.0.0.1:{port}/api"
        deadline = time.monotonic() + 150
        while not healthy(url):
            assert process.poll() is None, (home / "server.log").read_text()
            assert time.monotonic() < deadline, (home / "server.log").read_text()
            time.sleep(0.2)
        yield {**env, "PREFECT_API_URL": url}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """A recipe, and the files of a run of it in one process."""
    folder = tmp_path_factory.mktemp("small")
    write_corpus(folder)
    path = write_recipe(folder)
    run(recipe.load(str(path)), str(folder / "run"))
    return str(path), digests(folder / "run")


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(server: dict[str, str], path: str, body: dict[str, Any]) -> Any:
    """What the server's API answers to a POST."""
    request = urllib.request.Request(
        f"{server['PREFECT_API_URL']}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def flow_run(server: dict[str, str], out: Path) -> dict[str, Any]:
    """The only flow run that writes to `out`."""
    runs = ask(server, "flow_runs/filter", {"sort": "START_TIME_DESC"})
    (one,) = [each for each in runs if each["parameters"]["out"] == str(out)]
    return dict(one)


def artifacts(server: dict[str, str], one: dict[str, Any]) -> dict[str, Any]:
    """What a flow run posted, by key."""
    wanted = {"artifacts": {"flow_run_id": {"any_": [one["id"]]}}}
    return {each["key"]: each["data"] for each in ask(server, "artifacts/filter", wanted)}


class Here:
    """A task runner that does all work in this process and keeps what was submitted."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []

    def submit(self, task: Any, parameters: dict[str, Any]) -> SimpleNamespace:
        self.batches.append(list(parameters["batch"].args[1]))
        made = task.fn(**parameters)
        return SimpleNamespace(result=lambda raise_on_failure=True: made)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_a_stage_is_at_most_64_tasks(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FLOW.parent))
    import curate_flow

    runner = Here()
    results = curate_flow.prefect_map(str, iter(range(count)), runner=runner, workers=2)
    assert list(results) == [str(job) for job in range(count)]
    assert len(runner.batches) == min(count, 64)
    assert [job for batch in runner.batches for job in batch] == list(range(count))
    assert all(runner.batches)


def test_same_bytes_and_what_prefect_shows(
    server: dict[str, str], small: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    path, expected = small
    out = tmp_path / "run"
    done = finished([sys.executable, str(FLOW), path, "--out", str(out), "-j", "2"], server)
    assert done.returncode == 3, done.stderr
    assert digests(out) == expected
    one = flow_run(server, out)
    assert one["state"]["type"] == "COMPLETED"
    assert "4 records rejected" in one["state"]["message"]
    assert one["name"] == f"{path} to {out}"
    shown = artifacts(server, one)
    stages = ("ingest", "heuristics", "exact", "near", "confirm", "plausible", "tokenize", "mix", "pack")
    assert set(shown) == {f"small-{stage}" for stage in (*stages, "summary")}
    facts = {row["what"]: row["count"] for row in json.loads(shown["small-plausible"])}
    dropped = sum(count for what, count in facts.items() if what.startswith("dropped by "))
    assert facts["rows in"] == 300 == facts["rows out"] + dropped
    assert {"dropped by first_copy", "dropped by long_enough"} <= set(facts)
    assert facts["seconds"] > 0
    assert f"| plausible | 300 | {facts['rows out']} | {dropped} |" in shown["small-summary"]


def test_without_a_server(small: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    path, _ = small
    run(recipe.load(path), str(tmp_path / "one"), limit=200)
    command = [sys.executable, str(FLOW), path, "--out", str(tmp_path / "run"), "--limit", "200"]
    done = finished(command, environment(tmp_path / "home"))
    assert done.returncode in (0, 3), done.stderr
    assert digests(tmp_path / "run") == digests(tmp_path / "one")


def test_an_interrupt_ends_it_though_it_ends_the_server_too(small: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    path, expected = small
    out, log = tmp_path / "run", tmp_path / "log"
    command = [sys.executable, str(FLOW), path, "--out", str(out)]
    with started(command, environment(tmp_path / "home"), log) as process:
        deadline = time.monotonic() + 150
        while not list(out.glob("ingest-*/manifest.json")):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 130, log.read_text()
    assert "curate: stopped; what is finished is kept" in log.read_text()
    run(recipe.load(path), str(out))
    assert digests(out) == expected


def killed(server: dict[str, str], path: str, folder: Path, times: int) -> Any:
    (folder / "deaths").mkdir()
    script = str(Path(__file__).with_name("killed_task.py"))
    command = [sys.executable, script, "00003", str(times), str(folder / "deaths"), path, "--out", str(folder / "run")]
    return finished(command, server)


def test_a_worker_that_dies_once_is_replaced(
    server: dict[str, str], small: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    path, expected = small
    done = killed(server, path, tmp_path, 1)
    assert done.returncode == 3, done.stderr
    assert len(list((tmp_path / "deaths").iterdir())) == 1
    assert digests(tmp_path / "run") == expected


def test_a_unit_that_kills_its_worker_fails_alone(
    server: dict[str, str], small: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    path, expected = small
    done = killed(server, path, tmp_path, 2)
    assert done.returncode == 1, done.stderr
    assert "curate: ingest: 1 of 7 units failed" in done.stderr
    assert "00003: the worker was killed twice" in done.stderr
    assert "Traceback" not in done.stderr
    one = flow_run(server, tmp_path / "run")
    assert one["state"]["type"] == "FAILED"
    assert "1 of 7 units failed" in one["state"]["message"]
    assert len(list((tmp_path / "run").glob("ingest-*/units/*.json"))) == 6
    assert finished([sys.executable, str(FLOW), path, "--out", str(tmp_path / "run")], server).returncode == 3
    assert digests(tmp_path / "run") == expected


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (("heuristics:", "heuristic:"), 2, "did you mean 'heuristics'?"),
        (("tokenizer.json", "tokens.json"), 5, "tokens.json"),
        (("max_rejects: 0.1", "max_rejects: 0.001"), 4, "4 of 304 raw records cannot be used"),
    ],
)
def test_an_error_is_one_message_and_its_exit_code(
    server: dict[str, str], tmp_path: Path, change: tuple[str, str], code: int, message: str
) -> None:
    write_corpus(tmp_path)
    path = write_recipe(tmp_path)
    path.write_text(path.read_text().replace(*change))
    done = finished([sys.executable, str(FLOW), str(path), "--out", str(tmp_path / "run")], server)
    assert done.returncode == code, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("curate: ")
    assert message in last
    assert "Traceback" not in done.stderr
    if code != 2:
        assert message in flow_run(server, tmp_path / "run")["state"]["message"]


def test_a_deployment_runs_on_a_worker(
    server: dict[str, str], small: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    path, expected = small
    out = tmp_path / "run"
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    made = finished([*prefect, "work-pool", "create", "curate", "--type", "process"], server)
    assert made.returncode == 0, made.stderr
    made = finished([*prefect, "deploy", "--all"], server)
    assert made.returncode == 0, made.stdout + made.stderr
    (deployment,) = ask(server, "deployments/filter", {})
    assert [each["schedule"]["cron"] for each in deployment["schedules"]] == ["0 2 * * *"]
    assert (ROOT / deployment["parameters"]["recipe"]).is_file()
    log = tmp_path / "worker.log"
    with started([*prefect, "worker", "start", "--pool", "curate", "--type", "process"], server, log):
        ordered = {"parameters": {"recipe": path, "out": str(out)}, "state": {"type": "SCHEDULED"}}
        ask(server, f"deployments/{deployment['id']}/create_flow_run", ordered)
        deadline = time.monotonic() + 200
        while (one := flow_run(server, out))["state"]["type"] not in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(1)
    assert one["state"]["type"] == "COMPLETED", log.read_text()
    assert "4 records rejected" in one["state"]["message"]
    assert digests(out) == expected
    assert "small-summary" in artifacts(server, one)
