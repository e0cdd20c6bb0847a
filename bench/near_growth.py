"""How near-duplicate removal grows: processor time and memory from 1 to 8 GB, a crowd of copies, new text against old.

Text is ingested first; then `near` and `confirm` run over it with two workers, and CPU-seconds and the memory of all
their processes are taken. A run over little text is taken off, so that start-up does not flatter the exponent. Made
prose with a tenth of near copies (`bench/corpus.py`), 2 to 20 % of their words changed.

`--half`: corpora in which half of all documents are one document, word for word or with a word in fifty changed.
`--incremental`: an index of the largest corpus, then a hundredth of new text against it, a tenth of that edited copies
of the old. `--judge N`: evidence of N documents is written without their texts, and only judged.

Room on disk: a little more than the text, and `--judge` takes 450 bytes a document.
"""

import argparse
import itertools
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import corpus
import measure
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soak
from soak import Outcome

FILE_MEGABYTES = 250.0  # of text in one file, or less where the smallest corpus has less
LITTLE = 10.0  # MB of text, whose cost is start-up
COPIED = corpus.Copied(share=0.1, edits=(0.02, 0.2))
INGEST = "ingest: {{files: [{files}], source: bench, normalize: {{form: none, newlines: keep}}}}"
SHARD_DOCUMENTS = 100_000
BANDS = 14
SHARED = 0.5  # of the bands of a made copy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=_sizes, default=(1.0, 2.0, 4.0, 8.0), help="sizes, parted by commas")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each size; the median counts")
    parser.add_argument("--half", action="store_true", help="half of all documents are one document")
    parser.add_argument("--incremental", action="store_true", help="a hundredth of new text against an index")
    parser.add_argument("--judge", type=int, metavar="N", help="only judge evidence of N documents without texts")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, help="folder for all files (default: a temporary one, removed)")
    parser.add_argument("--judging", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.judging:
        return judging(options.judging, options.jobs)
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-near-growth-", dir=options.work) as scratch:
        work = Path(scratch)
        if options.judge:
            judge(work, options.judge, options.jobs)
        else:
            grow(work, options)
    print(f"{measure.today()}, {measure.machine()}, {options.jobs} workers", flush=True)
    return 0


def _sizes(given: str) -> tuple[float, ...]:
    return tuple(sorted(float(size) for size in given.split(",")))


# --- growth -----------------------------------------------------------------------------------------------------------


def grow(work: Path, options: argparse.Namespace) -> None:
    sizes = options.gigabytes
    room(work, 2.2e9 * sizes[-1])
    texts = corpus.demo_texts(str(work / "demo"), megabytes=60)
    prose = corpus.sentences(text for source in ("docs", "readme", "license") for text in texts[source])
    little = written(work / "little", made(prose, LITTLE / 1_000), 1)
    piece = min(FILE_MEGABYTES, 1_000 * sizes[0])
    every = written(work / "raw", made(prose, sizes[-1]), math.ceil(sizes[-1] * 1_000 / piece), piece)
    at_rest(work, "little", little, options)  # compiles kernels
    start = at_rest(work, "little", little, options)
    print(f"start-up, with {LITTLE:g} MB: {told(start)}", flush=True)
    spent = {}
    for size in sizes:
        files = every[: round(size * 1_000 / piece)]
        spent[size] = at_rest(work, f"{size:g}", files, options, keep=size == sizes[-1] and options.incremental)
        net = spent[size].cpu - start.cpu
        print(f"{size:g} GB: {told(spent[size])}; {1_000 * size / net:.1f} MB per CPU-second", flush=True)
    if len(sizes) > 1:
        points = np.log([(size, spent[size].cpu, spent[size].cpu - start.cpu) for size in sizes]).T
        whole, marginal = (float(np.polyfit(points[0], points[i], 1)[0]) for i in (1, 2))
        most = max(one.peak for one in spent.values())
        print(
            f"from {sizes[0]:g} to {sizes[-1]:g} GB: CPU-seconds grow with exponent {marginal:.3f} "
            f"({whole:.3f} with start-up), {most / 1e9:.2f} GB of memory at most",
            flush=True,
        )
    if options.half:
        halves(work, prose, options, start, spent[sizes[0]])
    if options.incremental:
        incremental(work, prose, options, start, spent[sizes[-1]])


def made(prose: corpus.Pieces, gigabytes: float, seed: int = 1) -> Iterator[bytes]:
    return corpus.documents(prose, megabytes=1_000 * gigabytes, seed=seed, run=(1, 2), copied=COPIED)


def written(folder: Path, texts: Iterable[bytes], count: int, megabytes: float = FILE_MEGABYTES) -> list[Path]:
    """The texts in so many files of so many megabytes; the last takes the rest."""
    folder.mkdir()
    stream, files = iter(texts), []
    for number in range(count):
        files.append(folder / f"{number:05d}.parquet")
        corpus.write_parquet(files[-1], stream if number == count - 1 else first(stream, int(megabytes * 1_000_000)))
    return files


def first(stream: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Texts from a stream until they have `size` bytes."""
    for text in stream:
        yield text
        size -= len(text)
        if size <= 0:
            return


def recipe(work: Path, name: str, files: list[Path], stages: tuple[str, ...]) -> Path:
    path = work / f"{name}.yaml"
    quoted = ", ".join(f'"{file}"' for file in files)
    lines = "".join(f"  - {stage}\n" for stage in stages)
    path.write_text(f"name: growth\n{INGEST.format(files=quoted)}\nstages:\n{lines}")
    return path


def at_rest(
    work: Path,
    name: str,
    files: list[Path],
    options: argparse.Namespace,
    *,
    near: str = "{preset: fineweb}",
    keep: bool = False,
) -> Outcome:
    """What the two stages take of text that was ingested before; the middle of the rounds, and the most memory."""
    out = work / f"run-{name}"
    seen = []
    if not out.exists():
        good(soak.run(recipe(work, f"ingest-{name}", files, ("exact:",)), out, jobs=options.jobs), out)
    measured = recipe(work, f"near-{name}", files, (f"near: {near}", "confirm: {jaccard: 0.7}"))
    for _ in range(options.rounds):
        for kind in ("near", "confirm"):
            for folder in out.glob(f"{kind}-*"):
                shutil.rmtree(folder)
        seen.append(good(soak.run(measured, out, jobs=options.jobs), out))
    soak.stages(out)
    if not keep:
        shutil.rmtree(out)
    middle = sorted(seen, key=lambda one: one.cpu)[len(seen) // 2]
    return replace(middle, peak=max(one.peak for one in seen), largest=max(one.largest for one in seen))


def good(outcome: Outcome, out: Path) -> Outcome:
    if outcome.code:
        log = out.with_suffix(".log").read_text(errors="replace").splitlines()
        raise SystemExit("\n".join([f"ended with {outcome.code}:", *log[-15:]]))
    return outcome


def told(one: Outcome) -> str:
    return (
        f"{one.cpu:.1f} CPU-s, {one.seconds:.1f} s, {one.peak / 1e9:.2f} GB of all processes, "
        f"{one.largest / 1e9:.2f} GB of the largest"
    )


def room(work: Path, needed: float) -> None:
    free = shutil.disk_usage(work).free
    if free < needed:
        raise SystemExit(f"{work} has {free / 1e9:.0f} GB of room, some {needed / 1e9:.0f} are needed; see --work")


# --- crowds -----------------------------------------------------------------------------------------------------------


def halves(work: Path, prose: corpus.Pieces, options: argparse.Namespace, start: Outcome, plain: Outcome) -> None:
    """The smallest size once more, with every other document the same, or nearly."""
    size = options.gigabytes[0]
    one = next(text for text in made(prose, 1.0, seed=3) if 2_900 < len(text) < 3_100)
    for name, edits in (("the same document", None), ("one document with a word in fifty changed", (0.02, 0.02))):
        folder = work / "half"
        files = written(folder, crowd(made(prose, size), one, edits, int(size * 1e9)), 1)
        cost = at_rest(work, "half", files, options)
        print(
            f"{size:g} GB of which every other document is {name}: {told(cost)}; "
            f"{(cost.cpu - start.cpu) / (plain.cpu - start.cpu):.2f} times the CPU-seconds of the plain corpus",
            flush=True,
        )
        shutil.rmtree(folder)


def crowd(texts: Iterator[bytes], one: bytes, edits: tuple[float, float] | None, size: int) -> Iterator[bytes]:
    """Texts until there are `size` bytes, and between any two of them `one`, edited if so wished."""
    draw = np.random.default_rng(4)
    for text in texts:
        for each in (text, corpus.edited(one, edits, draw) if edits else one):
            yield each
            size -= len(each)
        if size <= 0:
            return


# --- new text against old ---------------------------------------------------------------------------------------------


def incremental(work: Path, prose: corpus.Pieces, options: argparse.Namespace, start: Outcome, whole: Outcome) -> None:
    """An index of the largest corpus, and what a hundredth of new text costs against it."""
    size, index, out = options.gigabytes[-1], work / "index", work / f"run-{options.gigabytes[-1]:g}"
    add = [str(measure.CURATE), "index", "add", str(index)]
    workers = ["-j", str(options.jobs)]
    indexed = good(soak.watched([*add, str(out), "--of", "ingest", *workers], work / "index-run"), work / "index-run")
    held = sum(path.stat().st_size for path in index.iterdir())
    print(f"index of {size:g} GB: {told(indexed)}; {held / 1e9:.2f} GB on disk, {held / size / 1e7:.1f} % of the text")
    new = written(work / "new", newer(prose, size), 1)
    cost = at_rest(work, "new", new, options, near=f'{{preset: fineweb, against: ["{index}"]}}', keep=True)
    again = good(
        soak.watched([*add, str(work / "run-new"), "--of", "ingest", *workers], work / "again-run"), work / "again-run"
    )
    share = (cost.cpu - start.cpu) / (whole.cpu - start.cpu)
    marks = [pq.read_table(path)["near_duplicate"] for path in (work / "run-new").glob("confirm-*/0*.parquet")]
    print(
        f"of {sum(map(len, marks)):,} new documents {sum(sum(one.to_pylist()) for one in marks):,} are near duplicates"
    )
    print(
        f"{10 * size:g} MB of new text against it: {told(cost)}; {100 * share:.2f} % of what the whole took, "
        f"{whole.cpu - start.cpu:.1f} CPU-s; adding it to the index: {told(again)}",
        flush=True,
    )


def newer(prose: corpus.Pieces, gigabytes: float) -> Iterator[bytes]:
    """A hundredth of so much text: every tenth document an edited copy of one of the old."""
    draw = np.random.default_rng(5)
    fresh = corpus.documents(prose, megabytes=10 * gigabytes, seed=2, run=(1, 2), copied=corpus.Copied(0))
    old = made(prose, gigabytes / 50)
    for number, (text, before) in enumerate(zip(fresh, itertools.cycle(old), strict=False)):
        yield corpus.edited(before, (0.01, 0.05), draw) if number % 10 == 0 else text


# --- judging alone ----------------------------------------------------------------------------------------------------


def judge(work: Path, documents: int, jobs: int) -> None:
    """Evidence of so many documents, judged in a process of its own whose memory is watched."""
    room(work, 450.0 * documents)
    began = time.perf_counter()
    count = evidence(work / "evidence", documents)
    size = sum(path.stat().st_size for path in (work / "evidence").iterdir())
    print(
        f"evidence of {documents:,} documents: {count:,} records, {size / 1e9:.2f} GB, written in "
        f"{time.perf_counter() - began:.0f} s",
        flush=True,
    )
    command = [sys.executable, __file__, "--judging", str(work / "evidence"), "-j", str(jobs)]
    outcome = good(soak.watched(command, work / "judged"), work / "judged")
    print(f"judged {documents:,} documents of {BANDS} bands: {told(outcome)}", flush=True)


def evidence(folder: Path, documents: int) -> int:
    """Cut files as a scan writes them: random keys, every tenth document sharing half of its bands with another."""
    from curate import exchange
    from curate.run import MOST_SEGMENTS, SEGMENTS

    folder.mkdir()
    rows = documents * BANDS
    segments = next((count for below, count in SEGMENTS if rows < below), MOST_SEGMENTS)
    for shard, start in enumerate(range(0, documents, SHARD_DOCUMENTS)):
        number = np.arange(start, min(start + SHARD_DOCUMENTS, documents), dtype=np.uint64)
        draw = np.random.default_rng(shard)
        key = keys(number)
        copies = np.flatnonzero(draw.random(len(number)) < COPIED.share)
        sources = keys(draw.integers(0, start + 1, len(copies)).astype(np.uint64))
        key[copies] = np.where(draw.random((len(copies), BANDS)) < SHARED, sources, key[copies])
        row = np.repeat(np.arange(len(number), dtype=np.uint32), BANDS)
        said = pa.table({"key": key.reshape(-1), "row": row, "name": np.repeat(scrambled(number), BANDS)})
        segment = exchange.leading(said["key"].to_numpy(), segments)
        (folder / f"{shard:05d}.cut").write_bytes(exchange.cut(said, segment, segments))
    return rows


def keys(numbers: np.ndarray) -> np.ndarray:
    """The band keys uint64[n, BANDS] of documents by number."""
    return scrambled(numbers[:, None] * np.uint64(BANDS) + np.arange(1, BANDS + 1, dtype=np.uint64))


def scrambled(numbers: np.ndarray) -> np.ndarray:
    """A bijection of uint64 that looks like chance: the finisher of SplitMix64."""
    made = numbers * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    made = (made ^ (made >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    made = (made ^ (made >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return made ^ (made >> np.uint64(31))


def judging(folder: Path, jobs: int) -> int:
    """Judge what `evidence` wrote, as a run would."""
    from curate import exchange
    from curate.execute import pool
    from curate.stage import Evidence
    from curate.stages.near import Near

    units = tuple(str(path) for path in sorted(folder.glob("*.cut")))
    where = [exchange.index(uri).rows for uri in units]
    whole = Evidence(units, len(where[0]), int(sum(rows.sum() for rows in where)), str(folder.parent / "verdict"))
    with pool(jobs) as workers:
        Near(preset="fineweb").judge(whole, workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
