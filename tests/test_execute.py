"""Where work happens: results in order, one failing or dying unit takes nothing else down, workers are spawned."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from curate.errors import AssetError, CurateError, DataError, UnitsFailed
from curate.execute import Failed, attempt, pool, serial


def squared(job):
    time.sleep(0.02 * (job % 3 == 0))
    return job * job


def troubled(job):
    if job == 1:
        raise DataError("row 7 of column text")
    if job == 2:
        raise AssetError("no tokenizer")
    if job == 3:
        raise ZeroDivisionError("of ours")
    return job


def deadly(job, marks):
    """Job 2 kills its worker, with a signal or by leaving; every job says that it began."""
    with open(os.path.join(marks, f"{job}-{os.getpid()}"), "w"):
        pass
    if job == 2:
        os._exit(1)
    if job == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def surroundings(job):
    import numpy  # noqa: F401  reads the limits when it is imported
    import polars
    import pyarrow

    return {
        "method": multiprocessing.get_start_method(allow_none=True),
        "name": multiprocessing.current_process().name,
        "arrow": (pyarrow.cpu_count(), pyarrow.io_thread_count()),
        "polars": polars.thread_pool_size(),
        "limits": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")},
        "process": os.getpid(),
        "inherited": INHERITED,
    }


INHERITED = "as imported"


def failures(results):
    return {i: r for i, r in enumerate(results) if isinstance(r, Failed)}


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_jobs(workers):
    with pool(workers) as each:
        assert list(each(squared, range(7))) == [n * n for n in range(7)]
        assert list(each(squared, iter([]))) == []
        assert list(each(squared, (n for n in [3, 1]))) == [9, 1]


def test_one_worker_is_this_process():
    with pool(1) as each:
        assert each is serial
        assert list(each(lambda job: os.getpid(), [0])) == [os.getpid()]


def test_what_a_unit_raises_becomes_what_is_said():
    results = [attempt(job, troubled) for job in range(5)]
    assert [results[0], results[4]] == [0, 4]
    assert results[1] == Failed("row 7 of column text", 4)
    assert results[2] == Failed("no tokenizer", 5)
    assert results[3].exit_code == 1
    assert "unexpected error" in results[3].message
    assert "troubled" in results[3].message, "an error of ours comes with its place"
    assert "ZeroDivisionError: of ours" in results[3].message


def test_failures_of_workers_leave_the_others_alone():
    with pool(2) as each:
        results = list(each(partial(attempt, work=troubled), range(5)))
    assert {i: r.exit_code for i, r in failures(results).items()} == {1: 4, 2: 5, 3: 1}
    assert [results[0], results[4]] == [0, 4]


def test_interruption_is_not_caught():
    def stopped(job):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(1, stopped)


def test_a_worker_that_dies_takes_only_its_own_unit_down(tmp_path):
    with pool(2) as each:
        results = list(each(partial(attempt, work=partial(deadly, marks=str(tmp_path))), range(14)))
        assert sorted(failures(results)) == [2, 5]
        assert all("killed twice" in failed.message for failed in failures(results).values())
        assert [r for r in results if not isinstance(r, Failed)] == [j for j in range(14) if j not in (2, 5)]
        assert list(each(squared, [4])) == [16], "the pool is whole again"
    begun = [name.split("-")[0] for name in os.listdir(tmp_path)]
    assert begun.count("2") == 2, "once with the others, once alone"


def test_workers_have_left_when_a_pool_ends_with_an_error():
    """Workers that are still to leave when the process does may wait for work for ever, and it for them."""
    before = set(multiprocessing.active_children())
    with pytest.raises(DataError), pool(2) as workers:
        list(workers(troubled, range(4)))
    assert set(multiprocessing.active_children()) <= before


def test_workers_are_spawned_and_hold_one_thread():
    global INHERITED
    INHERITED = "changed after the import"  # a forked child would see it
    try:
        with pool(2) as each:
            seen = list(each(partial(attempt, work=surroundings), range(2)))
    finally:
        INHERITED = "as imported"
    for one in seen:
        assert not isinstance(one, Failed), one
        assert one["process"] != os.getpid()
        assert "Spawn" in one["name"]
        assert one["inherited"] == "as imported"
        assert one["arrow"] == (1, 1)
        assert one["polars"] == 1
        assert one["limits"] == {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}


def test_what_travels_can_be_pickled():
    failed = Failed("said", 4)
    assert pickle.loads(pickle.dumps(failed)) == failed
    work = partial(attempt, work=troubled)
    assert pickle.loads(pickle.dumps(work))(1) == Failed("row 7 of column text", 4)
    error = pickle.loads(pickle.dumps(UnitsFailed("exact", [("00001", "no room", 1)], 3)))
    assert isinstance(error, CurateError)
    assert "exact: 1 of 3 units failed" in str(error)
    assert "00001: no room" in str(error)


@pytest.mark.parametrize(("codes", "whole"), [([4, 4], 4), ([4, 5], 1), ([1], 1)])
def test_the_exit_code_is_the_one_that_all_share(codes, whole):
    causes = [(f"{i:05d}", "why", code) for i, code in enumerate(codes)]
    assert UnitsFailed("tokenize", causes, 9).exit_code == whole


def test_many_failures_are_told_by_their_cause():
    causes = [(f"{i:05d}", f"why {i % 12}", 1) for i in range(13)]
    message = str(UnitsFailed("near", causes, 13))
    assert "near: 13 of 13 units failed" in message
    assert "00000 and 1 more: why 0" in message
    assert "00009: why 9" in message
    assert "and 2 other causes" in message
    assert "others are done" not in message
    assert "the others are done and kept" in str(UnitsFailed("near", causes, 14))


def test_workers_leave_when_their_leader_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        "from curate.execute import pool\n"
        "if __name__ == '__main__':\n"
        "    with pool(2) as workers:\n"
        "        print(*set(workers(pid, range(8))), flush=True)\n"
        "        time.sleep(60)\n"
    )
    script = tmp_path / "leader.py"
    script.write_text("import os\ndef pid(_):\n    return os.getpid()\n" + code)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as leader:
        assert leader.stdout is not None
        workers = [int(pid) for pid in leader.stdout.readline().split()]
        leader.kill()
    deadline = time.monotonic() + 20
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in workers):
        assert time.monotonic() < deadline, "workers outlive their leader"
        time.sleep(0.1)
    assert workers


def test_failed_units_travel_with_their_code() -> None:
    error = UnitsFailed("exact", [("00001", "no such file", 4)], 3)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.exit_code, again.causes) == (str(error), 4, error.causes)


def sleeping(job):
    Path(job).touch()
    time.sleep(600)


def test_ctrl_c_does_not_wait_for_units(tmp_path):
    """Units that run, and those that workers have been sent already, are dropped: they are made again."""
    jobs = [str(tmp_path / str(number)) for number in range(8)]
    script = (
        "import sys; from curate.execute import pool; from test_execute import sleeping\n"
        "if __name__ == '__main__':\n"
        "    with pool(2) as each:\n"
        "        list(each(sleeping, sys.argv[1:]))\n"
    )
    (tmp_path / "script.py").write_text(script)
    environment = dict(os.environ, PYTHONPATH=os.path.dirname(__file__))
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), *jobs], env=environment, stderr=subprocess.PIPE
    )
    try:
        while not all(os.path.exists(job) for job in jobs[:2]):
            assert process.poll() is None
            time.sleep(0.05)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)  # a fifth of a unit
    finally:
        process.kill()
    assert b"KeyboardInterrupt" in said
    assert not psutil.wait_procs(workers, timeout=60)[1]
    assert not any(os.path.exists(job) for job in jobs[2:]), "no unit began after it"


def test_evidence_goes_to_workers_without_who_is_told() -> None:
    """What shows progress has locks and a terminal, which do not travel."""
    from curate.stage import Evidence, silent

    evidence = Evidence(("a.cut",), 8, 3, "verdict", 40, threading.Lock().locked)
    there = pickle.loads(pickle.dumps(evidence))
    assert there.tell is silent
    assert there == replace(evidence, tell=silent)
