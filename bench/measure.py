"""What a command costs, and how two tools compare: CPU-seconds of the whole process tree, ours and theirs in turn.

Wall time on a shared machine says little; user plus system time of a process and all its children says more. Each
tool runs at two sizes, and the difference is the marginal rate: start-up cancels out and is shown apart. Rounds are
interleaved, so a machine that slows down slows both; what counts is the median of the rounds' ratios.
"""

import datetime
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CURATE = Path(sys.executable).parent / "curate"
RIVAL = ROOT / ".venv-bench" / "bin" / "python"


@dataclass(frozen=True)
class Cost:
    """CPU-seconds and seconds of a command with all its children."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Tool:
    """`command(megabytes)` is run; `sizes` are the two sizes in megabytes (10^6 bytes of text)."""

    name: str
    sizes: tuple[float, float]
    command: Callable[[float], Sequence[str]]
    clear: Callable[[float], None]


def one_core() -> None:
    """Keep this process and all that it starts on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def cost(command: Sequence[str], *, log: Path) -> Cost:
    """Run a command to its end; `SystemExit` with the end of its log if it fails."""
    import time

    start = time.perf_counter()
    with log.open("wb") as sink:
        process = subprocess.Popen(list(command), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SystemExit(f"{' '.join(command)}\nended with {process.returncode}:\n{tail}")
    return Cost(usage.ru_utime + usage.ru_stime, wall)


def compare(claim: str, ours: Tool, theirs: Tool, *, rounds: int, log: Path, unit: str = "MB") -> list[float]:
    """Run both tools `rounds` times at both sizes, print each round and a last line, return the rounds' ratios."""
    for tool in (ours, theirs):  # compiles kernels and byte code, fills the page cache
        tool.clear(tool.sizes[0])
        cost(tool.command(tool.sizes[0]), log=log)
    ratios, rates, starts = [], {ours.name: [], theirs.name: []}, {ours.name: [], theirs.name: []}
    for number in range(1, rounds + 1):
        seen: dict[str, list[Cost]] = {ours.name: [], theirs.name: []}
        for which in (0, 1):
            for tool in (ours, theirs):
                tool.clear(tool.sizes[which])
                seen[tool.name].append(cost(tool.command(tool.sizes[which]), log=log))
        for tool in (ours, theirs):
            small, large = seen[tool.name]
            rate = (tool.sizes[1] - tool.sizes[0]) / max(large.cpu - small.cpu, 1e-3)
            rates[tool.name].append(rate)
            starts[tool.name].append(max(0.0, small.cpu - tool.sizes[0] / rate))
            print(
                f"round {number}: {tool.name:<10} {small.cpu:7.2f} and {large.cpu:7.2f} CPU-s "
                f"({small.wall:.1f} and {large.wall:.1f} s) for {tool.sizes[0]:g} and {tool.sizes[1]:g} {unit}: "
                f"{rate:8.1f} {unit} per CPU-second, start-up {starts[tool.name][-1]:.2f} CPU-s",
                flush=True,
            )
        ratios.append(rates[ours.name][-1] / rates[theirs.name][-1])
    middle = {name: statistics.median(found) for name, found in rates.items()}
    begin = {name: statistics.median(found) for name, found in starts.items()}
    print(
        f"{claim}: {statistics.median(ratios):.1f}x ({min(ratios):.1f} to {max(ratios):.1f}, {rounds} rounds): "
        f"{middle[ours.name]:.1f} against {middle[theirs.name]:.1f} {unit} per CPU-second; start-up "
        f"{begin[ours.name]:.2f} against {begin[theirs.name]:.2f} CPU-s; {versions()}; {today()}; {machine()}",
        flush=True,
    )
    return ratios


def race(ours: list[Tool], theirs: list[Tool], *, rounds: int, log: Path) -> None:
    """All tools at both sizes, `rounds` times in turn: each of ours against each rival and the round's fastest."""
    tools = [*ours, *theirs]
    for tool in tools:  # compiles kernels and byte code, fills the page cache
        tool.clear(tool.sizes[0])
        cost(tool.command(tool.sizes[0]), log=log)
    rates: dict[str, list[float]] = {tool.name: [] for tool in tools}
    starts: dict[str, list[float]] = {tool.name: [] for tool in tools}
    for number in range(1, rounds + 1):
        costs: dict[str, list[float]] = {tool.name: [] for tool in tools}
        for which in (0, 1):
            for tool in tools:
                tool.clear(tool.sizes[which])
                costs[tool.name].append(cost(tool.command(tool.sizes[which]), log=log).cpu)
        for tool in tools:
            small, large = costs[tool.name]
            rate = (tool.sizes[1] - tool.sizes[0]) / max(large - small, 1e-3)
            rates[tool.name].append(rate)
            starts[tool.name].append(max(0.0, small - tool.sizes[0] / rate))
            print(
                f"round {number}: {tool.name:<12} {small:6.2f} and {large:6.2f} CPU-s for {tool.sizes[0]:g} and "
                f"{tool.sizes[1]:g} MB: {rate:7.2f} MB per CPU-second, start-up {starts[tool.name][-1]:.2f} CPU-s",
                flush=True,
            )
    for tool in tools:
        print(
            f"{tool.name}: {spread(rates[tool.name], 'MB per CPU-second')}, start-up {spread(starts[tool.name], 's')}"
        )
    for mine in ours:
        for rival in theirs:
            ratios = [a / b for a, b in zip(rates[mine.name], rates[rival.name], strict=True)]
            print(f"{mine.name} against {rival.name}: {spread(ratios, 'x')}, {rounds} rounds")
        fastest = [max(found) for found in zip(*(rates[rival.name] for rival in theirs), strict=True)]
        ratios = [a / b for a, b in zip(rates[mine.name], fastest, strict=True)]
        print(f"{mine.name} against the fastest of all in each round: {spread(ratios, 'x')}, {rounds} rounds")


def spread(found: list[float], unit: str) -> str:
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f}) {unit}"


def versions() -> str:
    """Ours, the rival's, and what both stand on."""
    rivals = subprocess.run([str(RIVAL), str(ROOT / "bench" / "rivals.py"), "versions"], capture_output=True, text=True)
    mine = f"curate {version('curate')}, pyarrow {version('pyarrow')}, Python {platform.python_version()}"
    return f"{mine}; {rivals.stdout.strip()}"


def machine() -> str:
    """The class of the machine: processor, its family and model, cores, memory."""
    told = dict(tuple(map(str.strip, line.split(":", 1))) for line in _lines("/proc/cpuinfo") if ":" in line)
    name = told.get("model name") or platform.processor() or platform.machine()
    # A virtual processor's name hides its generation, and what its vectors hold decides half of these figures.
    if "cpu family" in told:
        wide = ", AVX-512" if "avx512f" in told.get("flags", "").split() else ""
        name += f" (family {told['cpu family']}, model {told.get('model', '?')}{wide})"
    memory = [int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    size = f", {memory[0] / (1 << 20):.0f} GiB" if memory else ""
    return f"{name}, {os.cpu_count()} cores{size}"


def today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def need_rival() -> None:
    """Leave with one line if the rival is not installed."""
    if not RIVAL.exists():
        raise SystemExit(f"{RIVAL} is missing; `make bench` installs it")


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
