"""The flow on a Ray cluster of one machine: the same bytes, and workers that die."""

import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus import digests, write_corpus, write_recipe
from processes import FLOW, environment, finished

from curate import recipe
from curate.run import run

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables for a cluster that leaves nothing behind. Ray's sockets do not fit below a long folder name."""
    pytest.importorskip("prefect_ray")
    folder = tempfile.mkdtemp(prefix="ray")
    token = secrets.token_hex(32)
    ray = {"RAY_TMPDIR": folder, "RAY_AUTH_TOKEN": token, "RAY_TASK_MAX_RETRIES": "1"}
    yield environment(tmp_path_factory.mktemp("home"), **ray)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """A recipe, and the files of a run of it in one process."""
    folder = tmp_path_factory.mktemp("small")
    write_corpus(folder)
    path = write_recipe(folder)
    run(recipe.load(str(path)), str(folder / "run"))
    return str(path), digests(folder / "run")


def test_same_bytes_on_ray(env: dict[str, str], small: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    path, expected = small
    command = [sys.executable, str(FLOW), path, "--out", str(tmp_path / "run"), "--runner", "ray"]
    done = finished(command, env)
    assert done.returncode == 3, done.stderr
    assert digests(tmp_path / "run") == expected


def test_a_unit_that_kills_its_worker_fails_alone(
    env: dict[str, str], small: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    path, expected = small
    (tmp_path / "deaths").mkdir()
    script, deaths = str(Path(__file__).with_name("killed_task.py")), str(tmp_path / "deaths")
    rest = [deaths, path, "--out", str(tmp_path / "run"), "--runner", "ray"]
    done = finished([sys.executable, script, "00003", "100", *rest], env)
    assert done.returncode == 1, done.stderr
    assert "00003: the worker was killed twice" in done.stderr
    assert len(list((tmp_path / "deaths").iterdir())) == 4  # Ray itself tries each of the two tasks twice
    assert len(list((tmp_path / "run").glob("ingest-*/units/*.json"))) == 6
    done = finished([sys.executable, script, "00003", "5", *rest], env)
    assert done.returncode == 3, done.stderr
    assert digests(tmp_path / "run") == expected
