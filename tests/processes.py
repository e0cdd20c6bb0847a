"""Programs that tests start: each with its children in a group of its own, which is gone when the test ends."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOW = ROOT / "flows" / "curate_flow.py"


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's variables, but Prefect's and Ray's settings: those are the defaults, in a home of the test's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "RAY_"))}
    quiet = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return {**kept, **quiet, "PATH": path, **more}


@contextlib.contextmanager
def started(command: Sequence[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs beside the test, its output in `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=env, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        end(process)


def finished(command: Sequence[str], env: dict[str, str], *, seconds: float = 190) -> subprocess.CompletedProcess[str]:
    """A program that ran to its end, with what it said."""
    process = subprocess.Popen(
        command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(process)
        output, errors = process.communicate()
        raise AssertionError(f"{command} took more than {seconds} s\n{output}\n{errors}") from None
    finally:
        end(process)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def end(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    """Stop a program and its children: kindly, then for certain."""
    for number, seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, 15)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
