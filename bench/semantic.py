"""Semantic deduplication against the published algorithm and semhash, interleaved, one core each, CPU-seconds.

Vectors are made (`vectors.py`): three in ten copy another at a known cosine. They are clustered once, before anything
is measured, and every tool reads its vectors from files and says which rows go.

curate: `scan`, `judge` and `apply` of the stage over shards of float16 vectors, with the record files written and read
as a run does. The reference (SemDeDup, arXiv 2303.09540, section 3) reads float32 vectors by cluster, in order, makes
the whole matrix of cosines, its strict upper triangle and the largest of each column: in NumPy, and in torch where
`.venv-readers` has it. semhash finds neighbours in an index (its default, HNSW) of all vectors, blind to clusters.

With one cluster all pairs are compared, as semhash means to: that is the case of nearest recall.

Recall is of the copies whose cosine, in the vectors as stored, is above the threshold: how many lose one of the pair.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
OURS = Path(sys.executable)
RIVAL = ROOT / ".venv-bench-clusters" / "bin" / "python"
TORCH = ROOT / ".venv-readers" / "bin" / "python"
SHARD = 50_000  # rows
SEGMENTS = 16  # as a run of so many rows has
EPS = 0.05
MOST = 200_000  # rows that semhash gets: its index takes minutes for each hundred thousand
CASES = ((20_000, 1), (200_000, 20), (200_000, 200), (1_000_000, 1000))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it work at all?")
    parser.add_argument("--cases", default="", help="ROWSxCLUSTERS, parted by commas")
    parser.add_argument("--without", default="", help="tools to leave out, parted by commas")
    parser.add_argument("--tool", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tool:
        TOOLS[options.tool][1](options.work)
        return 0
    import measure

    if not RIVAL.exists():
        raise SystemExit(f"{RIVAL} is missing; `make bench` installs it")
    given = [tuple(map(int, case.split("x"))) for case in options.cases.split(",") if case]
    cases = given or (((20_000, 20),) if options.quick else CASES)
    measure.one_core()
    for rows, clusters in cases:
        with tempfile.TemporaryDirectory(prefix="bench-semantic-") as scratch:
            race(Path(scratch), rows, clusters, 1 if options.quick else options.rounds, options.without.split(","))
    print(f"{measure.today()}; {measure.machine()}", flush=True)
    return 0


def race(work: Path, rows: int, clusters: int, rounds: int, without: list[str]) -> None:
    prepare(work, rows, clusters)
    tools = [name for name, (python, _) in TOOLS.items() if python.exists() and name not in without]
    tools = [name for name in tools if name != "semhash" or rows <= MOST]
    spent: dict[str, list[float]] = {name: [] for name in tools}
    recall: dict[str, float] = {}
    for number in range(1, rounds + 1):
        for name in tools:
            if name == "semhash" and number > 1:  # minutes; one round says enough
                continue
            told = child(name, work)
            spent[name].append(told["cpu"])
            recall[name] = recalled(work, np.load(work / f"{name}.npy"))
            more = "".join(f", {what} {value:.2f}" for what, value in told.items() if what != "cpu")
            print(f"round {number}: {name:<16} {told['cpu']:7.2f} CPU-s{more}; recall {recall[name]:.4f}", flush=True)
    for name in tools[1:]:
        ratios = [b / a for a, b in zip(spent["curate"], spent[name], strict=False)]
        print(
            f"{rows:,} vectors, {clusters:,} clusters: curate {statistics.median(spent['curate']):.2f} CPU-s, {name} "
            f"{statistics.median(spent[name]):.2f}: {statistics.median(ratios):.2f}x ({min(ratios):.2f} to "
            f"{max(ratios):.2f}, {len(ratios)} rounds), recall {recall['curate']:.4f} against {recall[name]:.4f}",
            flush=True,
        )


def child(name: str, work: Path) -> dict[str, float]:
    """What one tool, in a process of its own, says it spent after its imports."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [str(TOOLS[name][0]), __file__, "--tool", name, "--work", str(work)]
    told = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env={**os.environ, **one})
    if told.returncode:
        raise SystemExit(f"{name} fails:\n{told.stderr[-2_000:]}")
    found: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return found


# --- vectors ----------------------------------------------------------------------------------------------------------


def prepare(work: Path, rows: int, clusters: int) -> None:
    """Shards of ours, the matrix of the others, and what all are told of clusters."""
    import hashlib

    import pyarrow as pa
    import pyarrow.feather
    import vectors

    from curate import kmeans
    from curate.arrow import vector_column

    made = vectors.planted(rows, topics=clusters)
    stored = made.vectors.astype(np.float16).astype(np.float32)
    centroids = kmeans.fit(stored[: 64 * clusters], clusters, seed=0, iterations=8)
    cluster, distance, _ = kmeans.assign(stored, centroids)
    np.save(work / "vectors.npy", stored)
    long = stored / np.linalg.norm(stored, axis=1, keepdims=True)
    cosine = np.where(made.copied < 0, 0.0, (long * long[made.copied]).sum(axis=1))
    np.savez(work / "known.npz", cluster=cluster, distance=distance, copied=made.copied, cosine=cosine)
    for start in range(0, rows, SHARD):
        here = slice(start, min(start + SHARD, rows))
        count = here.stop - start
        ids = [hashlib.md5(b"%d" % row).digest() for row in range(start, here.stop)]
        table = pa.table(
            {
                "id": pa.array(ids, pa.binary(16)),
                "origin": [f"raw/vectors.parquet:{row}" for row in range(start, here.stop)],
                "embedding": vector_column(stored[here], np.ones(count, bool), pa.float16()),
                "cluster": cluster[here],
                "cluster_distance": distance[here],
            }
        )
        pyarrow.feather.write_feather(table, str(work / f"{start:08d}.arrow"), compression="uncompressed")


def recalled(work: Path, gone: np.ndarray) -> float:
    """Of planted pairs above the threshold, those of which at least one row goes."""
    known = np.load(work / "known.npz")
    pairs = np.flatnonzero(known["cosine"] > 1 - EPS + 1e-4)
    return float((gone[pairs] | gone[known["copied"][pairs]]).mean())


# --- tools ------------------------------------------------------------------------------------------------------------


def curate(work: Path) -> None:
    import shutil

    from curate.stages.semantic import Semantic

    stage = Semantic(eps=EPS)
    files = sorted(work.glob("*.arrow"))
    few = work / "few"
    few.mkdir()
    driven(stage, files[:1], few, 2_000)  # compiles
    folder = work / "run"
    folder.mkdir()
    start = time.process_time()
    gone, told = driven(stage, files, folder, SHARD)
    say(work, "curate", time.process_time() - start, gone, **told)
    shutil.rmtree(few)
    shutil.rmtree(folder)


def driven(stage, files: list[Path], folder: Path, most: int) -> tuple[np.ndarray, dict[str, float]]:  # type: ignore[no-untyped-def]
    """The stage over shards, of each its first rows: which rows are duplicates, and what each step cost."""
    import pyarrow.feather

    from curate import exchange, store, unit
    from curate.execute import serial
    from curate.stage import Evidence

    uris, rows, clock = [], [], [time.process_time()]
    for path in files:
        shard = pyarrow.feather.read_table(str(path), memory_map=True).slice(0, most)
        seen = stage.scan(shard.select(list(stage.reads)))
        uris.append(str(folder / f"{path.stem}.cut"))
        store.put(uris[-1], exchange.cut(seen, exchange.leading(seen["key"].to_numpy(), SEGMENTS), SEGMENTS))
        rows.append(shard.num_rows)
    clock.append(time.process_time())
    evidence = Evidence(tuple(uris), SEGMENTS, sum(rows), str(folder / "verdict"), stage.heft)
    stage.judge(evidence, serial)
    clock.append(time.process_time())
    gone = []
    for index, path in enumerate(files):
        shard = pyarrow.feather.read_table(str(path), memory_map=True).slice(0, most)
        made = stage.apply(shard.select(list(stage.applies_to)), unit.load_verdict(evidence.verdict, index))
        gone.append(made["semantic_duplicate"].to_numpy())
    clock.append(time.process_time())
    return np.concatenate(gone), dict(zip(("scan", "judge", "apply"), np.diff(clock).tolist(), strict=True))


def reference(work: Path) -> None:
    def largest(vectors: np.ndarray) -> np.ndarray:
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, 0.0)
        most: np.ndarray = np.triu(cosines, 1).max(axis=0)
        return most

    published(work, "reference", largest)


def reference_torch(work: Path) -> None:
    import torch

    torch.set_num_threads(1)

    def largest(vectors: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(vectors)
        cosines = given @ given.T
        cosines.fill_diagonal_(0.0)
        most: np.ndarray = torch.max(torch.triu(cosines, diagonal=1), dim=0)[0].numpy()
        return most

    published(work, "torch", largest)


def published(work: Path, name: str, largest) -> None:  # type: ignore[no-untyped-def]
    start = time.process_time()
    known = np.load(work / "known.npz")
    cluster, distance = known["cluster"], known["distance"]
    vectors = np.load(work / "vectors.npy", mmap_mode="r")
    order = np.lexsort((-distance, cluster))
    borders = np.flatnonzero(np.diff(cluster[order])) + 1
    gone = np.zeros(len(vectors), bool)
    for rows in np.split(order, borders):
        gone[rows] = largest(np.asarray(vectors[rows])) > 1 - EPS
    say(work, name, time.process_time() - start, gone)


def semhash(work: Path) -> None:
    from semhash import SemHash

    vectors = np.load(work / "vectors.npy")
    records = [str(row) for row in range(len(vectors))]
    start = time.process_time()
    index = SemHash.from_embeddings(vectors, records, model=None)
    built = time.process_time() - start
    found = index.self_deduplicate(threshold=1 - EPS)
    spent = time.process_time() - start
    gone = np.ones(len(vectors), bool)
    gone[[int(record) for record in found.selected]] = False
    say(work, "semhash", spent, gone, index=built)


def say(work: Path, name: str, cpu: float, gone: np.ndarray, **more: float) -> None:
    np.save(work / f"{name}.npy", gone)
    print(json.dumps({"cpu": cpu, **more, "gone": float(gone.sum())}), flush=True)


TOOLS = {
    "curate": (OURS, curate),
    "reference": (OURS, reference),
    "torch": (TORCH, reference_torch),
    "semhash": (RIVAL, semhash),
}


if __name__ == "__main__":
    sys.exit(main())
