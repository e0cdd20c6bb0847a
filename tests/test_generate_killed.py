"""`kill -9` of a client at many moments: what was answered is kept, what was spent is known, the rest asked again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from generated import passages
from llm_server import answer, mixed, served, usage

from curate.generate.answers import Answers

CLIENT = Path(__file__).with_name("generated.py")
COUNT = 400
MOST = 16
KILLS = 22


def started(url, path, tokens):
    command = [sys.executable, str(CLIENT), url, str(path), str(COUNT), "2", str(tokens)]
    source = str(Path(__file__).parents[1] / "src")
    return subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": source}, stderr=subprocess.PIPE, start_new_session=True
    )


def killed_when(process, server, requests, delay):
    """Kill it a moment after the server has had so many requests; False if it ended before."""
    while server.seen.requests.total() < requests:
        if process.poll() is not None:
            return False
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    return True


@pytest.mark.slow
@pytest.mark.parametrize("faults", ["fine", "mixed"])
def test_nothing_is_lost_and_little_is_asked_twice(tmp_path, faults):
    policy = mixed if faults == "mixed" else lambda text, attempt: "ok"
    kills, draw = (KILLS if faults == "fine" else 3), random.Random(5)
    path, out = tmp_path / "answers.sqlite", 0
    with served(policy, seconds=0.01) as server:
        for number in range(kills):
            before = server.seen.requests.total()
            process = started(server.url, path, 10**6)
            # Right at the first requests, within a group's milliseconds, and at any moment.
            enough = before + (1 if number % 5 == 0 else draw.randrange(2, 40))
            assert killed_when(process, server, enough, draw.random() * 0.02), process.stderr.read()
            out += MOST
            with Answers.open(str(path)) as answers:
                spent = answers.spent("killed")
                time.sleep(0.03)
                assert server.seen.charged <= spent.all.tokens  # what the server charges is known, whatever died
        process = started(server.url, path, 10**6)
        assert process.wait(120) == 0, process.stderr.read()
        process.stderr.close()
        with Answers.open(str(path)) as answers:
            made = answers.read([request.key for request in passages(COUNT)])
            assert len(answers) == COUNT
            assert server.seen.charged <= answers.spent("killed").all.tokens
        asked = server.seen.requests
    texts = [f"passage number {number}" for number in range(COUNT)]
    assert made["text"].to_pylist() == [answer(text) for text in texts]
    assert made["completion_tokens"].to_pylist() == [usage(text)[1] for text in texts]
    if faults == "fine":
        assert asked.total() - COUNT <= out


@pytest.mark.slow
def test_a_budget_outlives_a_kill(tmp_path):
    path, limit = tmp_path / "answers.sqlite", 2500
    with served(seconds=0.01) as server:
        for number in range(3):
            killed_when(started(server.url, path, limit), server, 20 * (number + 1), 0.01)
        process = started(server.url, path, limit)
        assert process.wait(60) == 1
        said = process.stderr.read().decode()
        process.stderr.close()
        assert server.seen.charged <= limit
        with Answers.open(str(path)) as answers:
            spent = answers.spent("killed")
            assert spent.all.tokens <= limit
            assert spent.leased.tokens > 0
            assert spent.all.tokens > limit - 18 - 16 * 18
    assert "budget 'killed' is used up" in said
    assert "raise tokens" in said


def test_the_server_of_tests_runs_as_a_process():
    command = [sys.executable, str(CLIENT.with_name("llm_server.py"))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        with urllib.request.urlopen(process.stdout.readline().strip() + "/seen", timeout=10) as reply:
            assert json.load(reply)["requests"] == {}
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
