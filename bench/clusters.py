"""Clustering: assignment against the machine's rate of matrix products, the fit against scikit-learn, and the scale.

Assignment: `kmeans.assign`, checks and exact distances included, against the bare float32 product of the same shapes in
NumPy, one thread, in turn in one process; CPU-seconds. Fit: ten Lloyd steps from the same centroids, ours and
`sklearn.cluster.KMeans(algorithm="lloyd", tol=0)`, each in its own environment, one thread. Seeding is timed apart.

`--scale`: a million vectors of float16 as raw parquet, run by `curate run` with two workers: cluster, remove semantic
duplicates, cluster again, prune. Seconds, CPU-seconds and the memory of all processes, looked at five times a second.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import measure
import numpy as np
import vectors

RIVAL = measure.ROOT / ".venv-bench-clusters" / "bin" / "python"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
STEPS = 10
RECIPE = """name: scale
ingest: {files: "raw/*.parquet", source: bench}
stages:
  - cluster: {k: 1000}
  - semantic: {keep: 0.8}
  - select: {name: unlike, keep: {original: not semantic_duplicate}, carry: [embedding]}
  - cluster: {name: topic, k: 1000}
  - prune: {keep: 0.5, by: density, cluster: topic_cluster}
  - select: {name: pruned_to_size, keep: {kept: not pruned}}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it work at all?")
    parser.add_argument("--scale", action="store_true", help="a million vectors through a whole run")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of --scale")
    parser.add_argument("--tool", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tool:
        {"curate": ours, "sklearn": theirs, "assign": assigning}[options.tool](options.work)
        return 0
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory(prefix="bench-clusters-") as scratch:
        if options.scale:
            scale(Path(scratch), 20_000 if options.quick else options.rows)
        else:
            if not RIVAL.exists():
                raise SystemExit(f"{RIVAL} is missing; `make bench` installs it")
            measure.one_core()
            assignment(Path(scratch), rounds, options.quick)
            fits(Path(scratch), rounds, options.quick)
    print(f"{measure.today()}; {measure.machine()}", flush=True)
    return 0


# --- assignment -------------------------------------------------------------------------------------------------------


def assignment(work: Path, rounds: int, quick: bool) -> None:
    for k, rows in ((100, 40_000), (1_000, 40_000), (10_000, 10_000)):
        rows = rows // 4 if quick and k < 10_000 else rows
        save(work, rows, k)
        ratios, rates = [], []
        for _ in range(rounds):
            product, found = map(float, told("assign", work).split())
            ratios.append(product / found)
            rates.append(2e-9 * rows * k * vectors.WIDTH / product)
        print(
            f"assignment of {rows:,} vectors to {k:,} centroids: {measure.spread(ratios, 'of the matrix product')}, "
            f"which makes {measure.spread(rates, 'GFLOP/s')}; {rounds} rounds",
            flush=True,
        )


def assigning(work: Path) -> None:
    """CPU-seconds of the product and of the assignment, the best of five, in turn."""
    from curate import kmeans

    given, start = loaded(work)
    scores = np.empty((len(given), len(start)), np.float32)
    kmeans.assign(given[:100], start)
    product, found = [], []
    for _ in range(5):
        begin = time.process_time()
        np.matmul(given, start.T, out=scores)
        product.append(time.process_time() - begin)
        begin = time.process_time()
        kmeans.assign(given, start)
        found.append(time.process_time() - begin)
    print(min(product), min(found))


# --- fits -------------------------------------------------------------------------------------------------------------


def fits(work: Path, rounds: int, quick: bool) -> None:
    rows = 10_000 if quick else 50_000
    for k in (100, 1_000):
        save(work, rows, k)
        spent: dict[str, list[list[float]]] = {"curate": [], "sklearn": []}
        for _ in range(rounds):
            for tool, found in spent.items():
                found.append([float(word) for word in told(tool, work).split()])
        ratios = [b[0] / a[0] for a, b in zip(spent["curate"], spent["sklearn"], strict=True)]
        print(f"{STEPS} steps, {rows:,} vectors, {k:,} clusters: {measure.spread(ratios, 'x of scikit-learn')}")
        for tool, found in spent.items():
            steps, distance, seeding = (statistics.median(column) for column in zip(*found, strict=True))
            print(f"  {tool}: {steps:.2f} CPU-s, mean distance {distance:.5f}; seeding {seeding:.2f} CPU-s", flush=True)


def ours(work: Path) -> None:
    """CPU-seconds of the steps, the mean distance after them, CPU-seconds of the seeding."""
    from curate import kmeans

    given, start = loaded(work)
    kmeans.lloyd(given[:2_000], start[:10], iterations=2)
    kmeans.seeds(given[:5_000], 10, seed=1)
    begin = time.process_time()
    made, _ = kmeans.lloyd(given, start, iterations=STEPS)
    steps = time.process_time() - begin
    begin = time.process_time()
    kmeans.seeds(given, len(start), seed=1)
    print(steps, kmeans.assign(given, made)[1].mean(), time.process_time() - begin)


def theirs(work: Path) -> None:
    from sklearn.cluster import KMeans, kmeans_plusplus

    given, start = loaded(work)
    KMeans(10, init=start[:10], n_init=1, max_iter=2).fit(given[:2_000])
    begin = time.process_time()
    found = KMeans(len(start), init=start, n_init=1, max_iter=STEPS, tol=0, algorithm="lloyd").fit(given)
    steps = time.process_time() - begin
    begin = time.process_time()
    kmeans_plusplus(given, len(start), random_state=1)
    seeding = time.process_time() - begin
    made = vectors.unit(found.cluster_centers_)
    print(steps, 1 - (given * made[found.labels_]).sum(axis=1).mean(), seeding)


def save(work: Path, rows: int, k: int) -> None:
    made = vectors.planted(rows, topics=300, share=0.0).vectors
    np.save(work / "vectors.npy", made)
    np.save(work / "start.npy", made[np.random.default_rng(0).choice(rows, k, replace=False)])


def loaded(work: Path) -> tuple[np.ndarray, np.ndarray]:
    return np.load(work / "vectors.npy"), np.load(work / "start.npy")


def told(tool: str, work: Path) -> str:
    """What one tool prints, in a process of its own."""
    python = RIVAL if tool == "sklearn" else Path(sys.executable)
    command = [str(python), __file__, "--tool", tool, "--work", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ONE_THREAD})
    if done.returncode:
        raise SystemExit(f"{tool} fails:\n{done.stderr[-2_000:]}")
    return done.stdout.splitlines()[-1]


# --- scale ------------------------------------------------------------------------------------------------------------


def scale(work: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from curate.arrow import vector_column

    (work / "raw").mkdir()
    start = 0
    for number, block in enumerate(vectors.made(rows, topics=1_000)):
        count = len(block.vectors)
        column = vector_column(block.vectors, np.ones(count, bool), pa.float16())
        texts = [f"Document {row} of topic {topic}." for row, topic in enumerate(block.topic.tolist(), start)]
        pq.write_table(pa.table({"text": texts, "embedding": column}), work / "raw" / f"{number:03d}.parquet")
        start += count
    k = max(2, min(1_000, rows // 100))
    (work / "recipe.yaml").write_text(RECIPE.replace("k: 1000", f"k: {k}"))
    command = [str(measure.CURATE), "run", "recipe.yaml", "--out", "run", "-j", "2"]
    plan = [str(measure.CURATE), "plan", "recipe.yaml", "--out", "run"]
    print(subprocess.run(plan, cwd=work, capture_output=True, text=True).stdout, flush=True)
    peak, over = [0], threading.Event()
    begin = time.perf_counter()
    with (work / "log").open("wb") as sink:
        process = subprocess.Popen(command, cwd=work, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        watcher = threading.Thread(target=watch, args=(process.pid, peak, over))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        over.set()
        watcher.join()
    wall = time.perf_counter() - begin
    print((work / "log").read_text(errors="replace")[-3_000:])
    if process.returncode:
        raise SystemExit(f"curate ended with {process.returncode}")
    print(
        f"{rows:,} vectors of {vectors.WIDTH} float16, two workers: {wall:.0f} s, "
        f"{usage.ru_utime + usage.ru_stime:.0f} CPU-s, all processes together at most {peak[0] / 1e9:.2f} GB",
        flush=True,
    )


def watch(root: int, peak: list[int], over: threading.Event) -> None:
    """The most memory that a process and all below it held at one moment."""
    while not over.wait(0.2):
        parents, sizes = {}, {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except (FileNotFoundError, ProcessLookupError):  # it has just ended
                    continue
                parents[int(entry.name)], sizes[int(entry.name)] = int(fields[1]), int(fields[21])
        family = {root}
        while more := {child for child, parent in parents.items() if parent in family} - family:
            family |= more
        peak[0] = max(peak[0], sum(sizes.get(one, 0) for one in family) * os.sysconf("SC_PAGE_SIZE"))


if __name__ == "__main__":
    sys.exit(main())
