"""Where units of work happen: in this process, or in a pool of processes. Results come in the order of the jobs.

Pools are always spawned: a worker forked after any Polars call hangs. One unit uses one core, so each worker holds
Arrow, Polars, BLAS and OpenMP to one thread; parallelism is shards.
"""

import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from typing import Any

from curate.errors import CurateError

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
KILLED = "the worker was killed twice, the second time alone with this unit: out of memory, or a crash in a library"


@dataclass(frozen=True)
class Failed:
    """A unit that did not finish: what was said, and the exit code it stands for."""

    message: str
    exit_code: int


def attempt(job: Any, work: Callable[[Any], Any]) -> Any:
    """`work(job)`, or a `Failed`: one failing unit must not stop the others, whatever it failed with."""
    _one_arrow_thread()
    try:
        return work(job)
    except CurateError as error:
        return Failed(str(error), error.exit_code)
    except Exception:  # a fault of ours or of a library: reported with its place, after the other units are done
        return Failed(f"unexpected error, please report it\n{traceback.format_exc()}", 1)


def serial(work: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Any]:
    """Everything in this process, one after the other."""
    return (work(job) for job in jobs)


@contextlib.contextmanager
def pool(workers: int) -> Iterator[Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]]:
    """A map over `workers` spawned processes."""
    if workers <= 1:
        yield serial
        return
    holder = _Pool(workers)
    try:
        yield holder.map
    except KeyboardInterrupt:  # a unit that is stopped anywhere is made again, so nobody waits for it
        holder.terminate()
        raise
    finally:  # workers that are told to leave while this process does may wait for work for ever
        holder.executor.shutdown(cancel_futures=True)


class _Pool:
    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.executor = _executor(workers)

    def stop(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)

    def terminate(self) -> None:
        # Python 3.14 has `terminate_workers`; before that nothing public names a pool's processes.
        for process in tuple((self.executor._processes or {}).values()):
            process.terminate()

    def map(self, work: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Any]:
        every = list(jobs)
        futures = [self._submit(work, job) for job in every]
        alone: dict[int, Any] = {}
        for index in range(len(every)):
            if index not in alone:
                try:
                    yield futures[index].result()
                    continue
                except BrokenProcessPool:
                    self._recover(work, every, futures, alone, index)
            yield alone[index] if index in alone else futures[index].result()

    def _submit(self, work: Callable[[Any], Any], job: Any) -> Future[Any]:
        try:
            return self.executor.submit(work, job)
        except BrokenProcessPool:  # a worker was killed while it had nothing to do: noticed when there is
            self.executor = _executor(self.workers)
            return self.executor.submit(work, job)

    def _recover(
        self,
        work: Callable[[Any], Any],
        jobs: list[Any],
        futures: list[Future[Any]],
        alone: dict[int, Any],
        at: int,
    ) -> None:
        # A killed worker takes the whole pool with it, and which unit it was in is not said. Units start in order,
        # so the first of the lost ones were running: each runs again in a process of its own, where only the guilty
        # one can fail; the rest go to a new pool.
        wait(futures[at:])
        lost = [i for i in range(at, len(jobs)) if isinstance(futures[i].exception(), BrokenProcessPool)]
        self.stop()
        self.executor = _executor(self.workers)
        running = 2 * self.workers + 1
        for i in lost[running:]:
            futures[i] = self._submit(work, jobs[i])
        for i in lost[:running]:
            alone[i] = self._alone(work, jobs[i])

    def _alone(self, work: Callable[[Any], Any], job: Any) -> Any:
        with _executor(1) as single:
            try:
                return single.submit(work, job).result()
            except BrokenProcessPool:
                return Failed(KILLED, 1)


def _executor(workers: int) -> ProcessPoolExecutor:
    # Spawned children read these when they import NumPy and the rest, so they are set before, for the
    # children and for every child that replaces one.
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=leave_with_parent)


def leave_with_parent() -> None:
    """End this worker when the process that started it is gone, killed or not: it would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent ends the run and says so

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _one_arrow_thread() -> None:
    import pyarrow as pa

    if (pa.cpu_count(), pa.io_thread_count()) != (1, 1):  # Arrow itself heeds OMP_NUM_THREADS for the first only
        pa.set_cpu_count(1)
        pa.set_io_thread_count(1)
