"""`kill -9` of a run that rephrases: it ends with the same bytes, and little is asked twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import rephrased
from corpus import digests
from llm_server import Server, served
from rephrased import Generator, made

from curate import recipe
from curate.run import run

KILLER = Path(__file__).with_name("killed_run.py")
MOST = 8
LIMITS = f"{{concurrency: {MOST}}}"
POINTS = 10
NEVER = "after:1000000"


class Whole(NamedTuple):
    """The recipe, what an undisturbed run gives, its requests, and how many files of `rephrase` appear on the way."""

    path: Path
    files: dict[str, str]
    requests: int
    written: int


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("killed")
    rephrased.write(place)
    return place


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with served(says=Generator(folder), seconds=0.02) as one:
        monkeypatch.setenv("CURATE_LLM", one.url)
        yield one


@pytest.fixture(scope="module")
def whole(folder: Path) -> Whole:
    path, written, replace = folder / "recipe.yaml", 0, os.replace

    def counted(source: str, target: str) -> None:
        nonlocal written
        written += "/told-" in str(target)
        replace(source, target)

    path.write_text(rephrased.text_of(limits=LIMITS, ending=rephrased.MIXED, candidates=2))
    with served(says=Generator(folder)) as one, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATE_LLM", one.url)
        patch.setattr(os, "replace", counted)
        made(folder, "whole", limits=LIMITS, ending=rephrased.MIXED, candidates=2)
        return Whole(path, shown(folder / "whole"), one.seen.requests.total(), written)


def shown(place: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(place).items() if not name.startswith("answers")}


def started(path: Path, out: Path, when: str) -> "subprocess.Popen[bytes]":
    source = str(Path(__file__).parents[1] / "src")
    command = [sys.executable, str(KILLER), str(path), str(out), when]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": source}, stderr=subprocess.PIPE)


def ended(process: "subprocess.Popen[bytes]") -> None:
    _, said = process.communicate(timeout=200)
    assert process.returncode == -signal.SIGKILL, said.decode()[-2000:]


def killed_when(process: "subprocess.Popen[bytes]", server: Server, requests: int, delay: float) -> None:
    """Kill it a moment after the server has had so many requests."""
    while server.seen.requests.total() < requests:
        assert process.poll() is None, process.communicate()[1].decode()[-2000:]
        time.sleep(0.0005)
    time.sleep(delay)
    process.kill()
    ended(process)


def resumed(whole: Whole, out: Path, server: Server, *, kills: int) -> None:
    """Run again: the bytes of a run that was not killed, and at most what was out at the kills is asked again."""
    run(recipe.load(str(whole.path)), str(out))
    assert shown(out) == whole.files
    assert len(server.seen.requests) == whole.requests
    assert server.seen.requests.total() - whole.requests <= kills * MOST
    assert not list(out.rglob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
def test_killed_while_it_asks(whole: Whole, server: Server, tmp_path: Path, point: int) -> None:
    draw = random.Random(point)
    process = started(whole.path, tmp_path / "run", NEVER)
    # With the first requests out, then before the first answer can be stored, then anywhere.
    requests, delay = (1, 0.0) if point == 0 else (MOST, 0.02) if point == 1 else (None, draw.random() * 0.03)
    requests = requests or draw.randrange(2, whole.requests - MOST)
    killed_when(process, server, requests, delay)
    assert server.seen.requests.total() < whole.requests
    resumed(whole, tmp_path / "run", server, kills=1)


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
def test_killed_at_a_file_of_the_stage(whole: Whole, server: Server, tmp_path: Path, point: int) -> None:
    ended(started(whole.path, tmp_path / "run", f"before:/told-:{1 + point * (whole.written - 1) // (POINTS - 1)}"))
    resumed(whole, tmp_path / "run", server, kills=0)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before:verdict/:3", "during:verdict/:3", "before:verdict/:4", "during:told-:9"])
def test_killed_between_answers_and_rows(whole: Whole, server: Server, tmp_path: Path, when: str) -> None:
    ended(started(whole.path, tmp_path / "run", when))
    resumed(whole, tmp_path / "run", server, kills=0)


@pytest.mark.slow
def test_killed_again_and_again(whole: Whole, server: Server, tmp_path: Path) -> None:
    draw, kills = random.Random(7), 5
    for number in range(kills):
        process = started(whole.path, tmp_path / "run", NEVER)
        killed_when(process, server, server.seen.requests.total() + draw.randrange(1, 20), draw.random() * 0.03)
        assert server.seen.requests.total() > number
    resumed(whole, tmp_path / "run", server, kills=kills)
