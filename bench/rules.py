"""The rules of Gopher (quality, repetition), C4 and FineWeb against four rivals, interleaved, one core each.

Ours in two settings. From file to file: `curate filter` reads a parquet file of `id` and `text`, measures, judges, and
writes survivors and dropped rows. At rest: documents are ingested, and the stage `heuristics` reads their text once
and writes all columns of the four families. The rivals read the same kind of file and write survivors: datatrove its
four filters as they ship, with spaCy's words; of dolma, data-juicer and NeMo Curator what comes near, called without
their drivers (`rule_rivals.py` says what each lacks). Words are not parted alike, so survivors differ; shares are
printed. Rivals are slow, so each tool has sizes of its own, made alike.

Before that one worker and two, by wall time; beside it stands what the machine gives two processes that share nothing.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import corpus
import measure
import pyarrow.parquet as pq
from measure import Tool

OTHERS = measure.ROOT / ".venv-bench-others" / "bin" / "python"
DIRECT = ("dolma", "data-juicer", "nemo-curator")
BUNDLES = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
SIGNALS = ("quality", "repetition", "c4", "fineweb")
INGEST = 'ingest: {files: "raw-%g/raw.parquet", source: prose, normalize: {form: none, newlines: keep}}'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it work at all?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bundles", default=",".join(BUNDLES), help="rule sets of ours, parted by commas")
    parser.add_argument("--signals", default=",".join(SIGNALS), help="families of columns, parted by commas")
    options = parser.parse_args()
    measure.need_rival()
    if not OTHERS.exists():
        raise SystemExit(f"{OTHERS} is missing; `make bench` installs it")
    sizes = {"ours": (60.0, 240.0), "direct": (4.0, 16.0), "datatrove": (1.0, 4.0)}
    if options.quick:
        sizes = {"ours": (6.0, 24.0), "direct": (0.5, 2.0), "datatrove": (0.25, 0.5)}
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory(prefix="bench-rules-") as scratch:
        work = Path(scratch)
        prepare(work, {size for pair in sizes.values() for size in pair}, options.quick)
        ours = [file_to_file(work, sizes["ours"], options.bundles), at_rest(work, sizes["ours"], options.signals)]
        for tool in ours:
            workers(tool, rounds=rounds, log=work / "log")
        measure.one_core()
        theirs = [datatrove(work, sizes["datatrove"]), *(direct(work, sizes["direct"], name) for name in DIRECT)]
        race(ours, theirs, rounds=rounds, log=work / "log")
        shares(work, ours[0], theirs)
    return 0


def prepare(work: Path, sizes: set[float], quick: bool) -> None:
    texts = corpus.demo_texts(str(work / "demo"), megabytes=10 if quick else 60)
    prose = corpus.sentences(text for source in ("docs", "readme", "license") for text in texts[source])
    for size in sizes:
        (work / f"raw-{size:g}").mkdir()
        made = corpus.documents(prose, megabytes=size, seed=1)
        corpus.write_parquet(work / f"raw-{size:g}" / "raw.parquet", made)


def file_to_file(work: Path, sizes: tuple[float, float], bundles: str) -> Tool:
    def command(size: float) -> list[str]:
        raw, out = work / f"raw-{size:g}" / "raw.parquet", work / f"filter-{size:g}" / "out.parquet"
        return [str(measure.CURATE), "filter", str(raw), str(out), "--rules", bundles, "-j", "1"]

    return Tool("filter", sizes, command, lambda size: emptied(work / f"filter-{size:g}"))


def at_rest(work: Path, sizes: tuple[float, float], signals: str) -> Tool:
    """The stage on runs that are ingested here, before anything is measured."""
    for size in sizes:
        stage = f"heuristics: {{signals: [{signals}]}}" if signals else "heuristics:"
        (work / f"rules-{size:g}.yaml").write_text(f"name: rules\n{INGEST % size}\nstages:\n  - {stage}\n")

    def command(size: float) -> list[str]:
        recipe, out = work / f"rules-{size:g}.yaml", work / f"run-{size:g}"
        return [str(measure.CURATE), "run", str(recipe), "--out", str(out), "-j", "1"]

    def forget(size: float) -> None:
        for folder in (work / f"run-{size:g}").glob("heuristics-*"):
            shutil.rmtree(folder)

    for size in sizes:
        measure.cost(command(size), log=work / "log")
    return Tool("annotate", sizes, command, forget)


def datatrove(work: Path, sizes: tuple[float, float]) -> Tool:
    def command(size: float) -> list[str]:
        script, raw, out = measure.ROOT / "bench" / "rivals.py", work / f"raw-{size:g}", work / f"datatrove-{size:g}"
        return [str(measure.RIVAL), str(script), "rules", str(raw), str(out)]

    return Tool("datatrove", sizes, command, lambda size: emptied(work / f"datatrove-{size:g}"))


def direct(work: Path, sizes: tuple[float, float], name: str) -> Tool:
    """A rival whose filters are called without its driver."""

    def command(size: float) -> list[str]:
        script, raw = measure.ROOT / "bench" / "rule_rivals.py", work / f"raw-{size:g}" / "raw.parquet"
        return [str(OTHERS), str(script), name, str(raw), str(work / f"{name}-{size:g}")]

    return Tool(name, sizes, command, lambda size: emptied(work / f"{name}-{size:g}"))


def emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def race(ours: list[Tool], theirs: list[Tool], *, rounds: int, log: Path) -> None:
    """The race of all tools, and whose versions ran it."""
    measure.race(ours, theirs, rounds=rounds, log=log)
    others = subprocess.run(
        [str(OTHERS), str(Path(__file__).with_name("rule_rivals.py")), "versions"], capture_output=True
    )
    print(f"{measure.versions()}, {others.stdout.decode().strip()}; {measure.today()}; {measure.machine()}", flush=True)


def workers(tool: Tool, *, rounds: int, log: Path) -> None:
    """Wall time of one worker and of two, in turn: what the text between both sizes takes."""
    small, large = tool.sizes

    def wall(size: float, jobs: str) -> float:
        tool.clear(size)
        return measure.cost([*tool.command(size)[:-1], jobs], log=log).wall

    def marginal(jobs: str) -> float:
        return wall(large, jobs) - wall(small, jobs)

    wall(small, "1"), wall(small, "2")
    ratios, singles = [], []
    for _ in range(rounds):
        one, two = marginal("1"), marginal("2")
        singles.append(one)
        ratios.append(one / two)
    print(
        f"{tool.name}, two workers against one: {measure.spread(ratios, 'x')} by wall time of the {large - small:g} MB "
        f"between {small:g} and {large:g}, {rounds} rounds; one worker {measure.spread(singles, 's')}; two spinning "
        f"processes at once get {two_cores():.2f} times one's work done here; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def two_cores() -> float:
    """What the machine gives two busy processes that share nothing, as a multiple of one: 2 at best."""
    spin = [sys.executable, "-c", "for _ in range(20_000_000): pass"]

    def lasts(count: int) -> float:
        start = time.perf_counter()
        for process in [subprocess.Popen(spin) for _ in range(count)]:
            process.wait()
        return time.perf_counter() - start

    return statistics.median(2 * lasts(1) / lasts(2) for _ in range(5))


def shares(work: Path, mine: Tool, theirs: list[Tool]) -> None:
    """How much each rival keeps, and on how many documents it agrees with us."""
    for rival in theirs:
        size = rival.sizes[1]
        (work / f"filter-{size:g}").mkdir(exist_ok=True)
        mine.clear(size)
        measure.cost(mine.command(size), log=work / "log")
        every = pq.read_table(work / f"raw-{size:g}" / "raw.parquet", columns=["id"])["id"].to_pylist()
        ours, kept = survivors(work / f"filter-{size:g}"), survivors(work / f"{rival.name}-{size:g}")
        same = sum((one in ours) == (one in kept) for one in every)
        print(
            f"of {len(every):,} documents curate kept {len(ours) / len(every):.1%}, {rival.name} "
            f"{len(kept) / len(every):.1%}; they agree on {same / len(every):.1%}",
            flush=True,
        )


def survivors(folder: Path) -> set[str]:
    """Identifiers of what a tool wrote."""
    files = [path for path in sorted(folder.rglob("*.parquet")) if "dropped" not in path.name]
    return {one for path in files for one in pq.read_table(path, columns=["id"])["id"].to_pylist()}


if __name__ == "__main__":
    sys.exit(main())
