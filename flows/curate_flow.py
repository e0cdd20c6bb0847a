"""The same run under Prefect: units of work become tasks, so that they are scheduled, retried and shown.

A unit's file appears whole or not at all, so running a unit twice is safe and Prefect's result cache stays off: what
is on disk says what is done. A task costs milliseconds, so a stage is at most 64 of them, each a batch of units.
"""

import argparse
import contextlib
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, Literal

from curate import ledger, store
from curate.errors import DONE_WITH_REJECTS, CurateError
from curate.execute import KILLED, ONE_THREAD, Failed, leave_with_parent
from curate.outputs import outputs
from curate.recipe import load
from curate.run import Event, Result, run

# Workers inherit all of this, so it is set before Prefect reads it and before any of them starts.
os.environ |= {
    **ONE_THREAD,
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_oom_retries": "3",
} | os.environ

import cloudpickle
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed
from prefect.states import Failed as FailedState
from prefect.task_runners import ProcessPoolTaskRunner

# Workers need not find this file, or know it by the name that a deployment loads it by: it travels with the work.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

MOST_TASKS = 64
STOPPED = 130


@task(name="unit", retries=2, cache_policy=NO_CACHE, persist_result=False)
def unit(batch: Callable[[], list[Any]]) -> list[Any]:
    """A batch of units. It comes as a call, which Prefect does not look into."""
    return batch()


def each(work: Callable[[Any], Any], jobs: list[Any]) -> list[Any]:
    """Work on the jobs of a batch, one after the other."""
    return [work(job) for job in jobs]


def prefect_map(work: Callable[[Any], Any], jobs: Iterable[Any], *, runner: Any, workers: int) -> Iterator[Any]:
    """Results in the order of the jobs, from at most 64 tasks; a job that kills its worker twice is `Failed`."""
    every = list(jobs)
    count = min(MOST_TASKS, len(every))
    batches = [every[i * len(every) // count : (i + 1) * len(every) // count] for i in range(count)]
    futures = [submitted(runner, work, batch) for batch in batches]
    alone: dict[int, list[Any]] = {}
    for index in range(count):
        if index not in alone and lost(futures[index]):
            # A dead worker takes the pool's other tasks with it, and which was guilty is not said. Tasks start about
            # in order, so the first lost ones run again one job at a time; the rest go to the new pool together.
            again = [i for i in range(index, count) if i not in alone and lost(futures[i])]
            renew(runner)
            for i in again[: 4 * workers]:
                alone[i] = [single(work, job, runner) for job in batches[i]]
            for i in again[4 * workers :]:
                futures[i] = submitted(runner, work, batches[i])
        yield from alone[index] if index in alone else futures[index].result()


def submitted(runner: Any, work: Callable[[Any], Any], batch: list[Any]) -> Any:
    """The future of a task for a batch; a pool that broke while it had nothing to do is renewed."""
    parameters = {"batch": partial(each, work, batch)}
    try:
        return runner.submit(unit, parameters)
    except BrokenProcessPool:
        renew(runner)
        return runner.submit(unit, parameters)


def single(work: Callable[[Any], Any], job: Any, runner: Any) -> Any:
    """The result of one job that has a task to itself while no other runs."""
    future = submitted(runner, work, [job])
    if lost(future):
        renew(runner)
        return Failed(KILLED, 1)
    return future.result()[0]


def lost(future: Any) -> bool:
    """True if the future's worker died. Waits for its end."""
    died: tuple[type[BaseException], ...] = (BrokenProcessPool,)
    if ray := sys.modules.get("ray"):
        died += (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError)
    try:
        future.result(raise_on_failure=False)
    except died:
        return True
    return False


def renew(runner: Any) -> None:
    """Give the runner a new pool in place of a broken one; Ray replaces its workers itself."""
    if isinstance(runner, ProcessPoolTaskRunner):
        runner.__exit__(None, None, None)
        runner.__enter__()


def begin_worker() -> None:
    """For workers: Ctrl-C reaches them too, and one that it interrupts would leave its task without an end. When the
    flow's process is killed they go as well."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_with_parent()


@contextlib.contextmanager
def task_runner(kind: str, workers: int) -> Iterator[Any]:
    """Prefect's pool of spawned processes, or Ray: a cluster of its own, or the one that RAY_ADDRESS names."""
    # Workers are told where the server is: each would start one of its own where this process has a temporary one.
    with temporary_settings({PREFECT_API_URL: str(get_client(sync_client=True).api_url)}):
        if kind == "processes":
            with ProcessPoolTaskRunner(max_workers=workers, initializer=begin_worker) as runner:
                yield runner
            return
        import ray
        from prefect_ray import RayTaskRunner

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]
        settings: dict[str, Any] = {"runtime_env": {"env_vars": ONE_THREAD}, "logging_level": "WARNING"}
        address = os.environ.get("RAY_ADDRESS")
        if not address:
            settings |= {"num_cpus": workers, "include_dashboard": False}
        with RayTaskRunner(address=address, init_kwargs=settings) as runner:
            yield runner


class Progress:
    """Says through the run's logger which stage began and which ended, with rows."""

    def __init__(self) -> None:
        self.log = get_run_logger()
        self.left: dict[str, int] = {}
        self.rows: dict[str, tuple[int, int]] = {}

    def __call__(self, event: Event) -> None:
        if event.what == "cached":
            self.left[event.stage], self.rows[event.stage] = event.units - event.cached, (0, 0)
            known = f", {event.cached} done before" if event.cached else ""
            self.log.info("%s: %d units%s", event.stage, event.units, known)
        elif event.what == "unit" and event.receipt is not None:
            rows_in, rows_out = self.rows[event.stage]
            self.rows[event.stage] = rows_in + event.receipt.rows_in, rows_out + event.receipt.rows_out
            self.left[event.stage] -= 1
            if not self.left[event.stage]:
                self.log.info("%s: done, %d rows in, %d out", event.stage, *self.rows[event.stage])


def show(name: str, out: str) -> None:
    """Post a table per stage and a summary of the run, from its manifests and ledgers."""
    summary = ["| stage | rows in | rows out | dropped | units | seconds |", "| --- | --: | --: | --: | --: | --: |"]
    for stage in outputs(out)["stages"]:
        if stage["state"] != "done":
            summary.append(f"| {stage['name']} | {stage['state']} | | | | |")
            continue
        dropped, seconds = stage.get("dropped", {}), spent(stage["folder"])
        facts = {
            "rows in": stage["rows_in"],
            "rows out": stage["rows"],
            "rejected": stage.get("rejected", 0),
            **{f"dropped by {rule}": count for rule, count in dropped.items()},
            "units": stage["units"],
            "seconds": seconds,
        }
        table = [{"what": what, "count": count} for what, count in facts.items()]
        create_table_artifact(table, key=slug(f"{name}-{stage['name']}"), description=stage["folder"])
        cells = (stage["name"], stage["rows_in"], stage["rows"], sum(dropped.values()), stage["units"], seconds)
        summary.append("| " + " | ".join(map(str, cells)) + " |")
    create_markdown_artifact(f"# {name}\n\n{out}\n\n" + "\n".join(summary), key=slug(f"{name}-summary"))


def spent(folder: str) -> float:
    """Seconds of work in all ledgers of a stage."""
    ledgers = [ledger.load(store.join(folder, *inner)) for inner in ((), ("evidence",), ("rule",))]
    return round(sum(second or 0.0 for one in ledgers if one for second in one["seconds"].to_pylist()), 3)


def slug(text: str) -> str:
    """The text as an artifact's key may be: small letters, digits and single hyphens."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")


@flow(name="curate", flow_run_name="{recipe} to {out}", persist_result=False)
def curate(
    recipe: str,
    out: str,
    workers: int = 2,
    limit: int | None = None,
    runner: Literal["processes", "ray"] = "processes",
) -> State[Any]:
    """Bring the outputs of the recipe at `recipe` up to date in `out`.

    The run is Completed, with a message if records were rejected; Failed with the error's message otherwise.
    """
    progress = Progress()
    done: Result | CurateError
    name = ""
    try:
        what = load(recipe)
        name = what.name
        with task_runner(runner, workers) as started:
            where = partial(prefect_map, runner=started, workers=workers)
            done = run(what, out, map=where, limit=limit, report=progress)
    except CurateError as error:
        done = error
    if progress.left:
        show(name, out)
    if isinstance(done, CurateError):
        # A state, not an exception: Prefect logs the traceback of an exception, and the message says more.
        return FailedState(message=str(done), data=done)
    if done.rejected:
        where_to_look = store.join(done.source.folder, "rejects")
        message = f"complete, {done.rejected} records rejected: {where_to_look} has each with its place and reason"
    else:
        message = "complete"
    return Completed(message=message, data=done.rejected)


def stop(*_: object) -> None:
    """What Ctrl-C does: Prefect has five seconds to tell its server, which may be gone by the same Ctrl-C."""
    print("curate: stopped; what is finished is kept, run again to go on", file=sys.stderr)
    last = threading.Timer(5, give_up)
    last.daemon = True
    last.start()
    raise KeyboardInterrupt


def give_up() -> None:
    """Leave at once, and leave no worker behind."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(STOPPED)


def main(arguments: list[str] | None = None) -> int:
    """Run the flow once from the command line; the exit code is that of `curate run`."""
    parser = argparse.ArgumentParser(description="Run a recipe under Prefect.")
    parser.add_argument("recipe", help="the recipe, a YAML file")
    parser.add_argument("--out", required=True, help="the folder to write to")
    parser.add_argument("-j", "--workers", type=int, default=2, help="processes that work side by side (default 2)")
    parser.add_argument("--limit", type=int, help="take this many records only")
    parser.add_argument("--runner", choices=["processes", "ray"], default="processes")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, stop)
    try:
        load(given.recipe)  # a mistake in it is told before Prefect's server is started
        rejected = curate(given.recipe, given.out, given.workers, given.limit, given.runner)
    except CurateError as error:
        print(f"curate: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return STOPPED
    return DONE_WITH_REJECTS if rejected else 0


if __name__ == "__main__":
    sys.exit(main())
