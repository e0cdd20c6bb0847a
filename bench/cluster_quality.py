"""Do the clusters agree with what people would call topics as well as scikit-learn's do?

Normalised mutual information between clusters and a label of each document, five seeds each: ours fitted on the sample
that the stage draws (256 vectors for each centroid), scikit-learn's KMeans on all vectors. `--run` is the folder of a
run that has `embedding`, and `--label` a column that its documents carry.
"""

import argparse
import statistics
from pathlib import Path

import measure
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from curate import draw, kmeans
from curate.arrow import vectors
from curate.manifest import Manifest
from curate.outputs import state

WANTED = 0.98


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--label", default="domain")
    parser.add_argument("-k", type=int, nargs="+", help="numbers of clusters; that of the labels is always tried")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    table = documents(options.run, options.label)
    found, valid = vectors(table["embedding"])
    table, found = table.filter(pa.array(valid)), found[valid]
    labels = np.array(table[options.label].cast(pa.string()).to_pylist())
    good = True
    print(f"{len(found):,} documents, {len(set(labels)):,} labels; median of {options.seeds} seeds (least, most)")
    for k in dict.fromkeys((len(set(labels)), *(options.k or ()))):
        ours = [score(labels, clusters(table, found, k, seed)) for seed in range(options.seeds)]
        theirs = [
            score(labels, KMeans(k, n_init=1, random_state=seed).fit_predict(found)) for seed in range(options.seeds)
        ]
        ratio = statistics.median(ours) / statistics.median(theirs)
        print(f"k {k:>5}: curate {said(ours)}, scikit-learn {said(theirs)}: {ratio:.3f} of it")
        good &= ratio >= WANTED
    print(f"{'at least' if good else 'NOT'} {WANTED} of scikit-learn; {measure.today()}; {measure.machine()}")
    return 0 if good else 1


def documents(run: Path, label: str) -> pa.Table:
    """What the draws, the clusters and the score need, of all documents that have an embedding."""
    wanted, steps = ("id", "origin", "embedding", label), [run / step["folder"] for step in state(str(run))]
    last = max(number for number, step in enumerate(steps) if "embedding" in pq.read_schema(first(step)).names)
    shards = []
    for shard in Manifest.load(str(steps[last])).shards:
        held: dict[str, pa.ChunkedArray] = {}
        for step in reversed(steps[: last + 1]):
            if (step / shard.name).exists():
                there = [name for name in wanted if name in pq.read_schema(step / shard.name).names]
                read = pq.read_table(step / shard.name, columns=there)
                held = {**{name: read[name] for name in there}, **held}
                if set(wanted) <= set(held):
                    break
        shards.append(pa.table({name: held[name] for name in wanted}))
    return pa.concat_tables(shards).combine_chunks()


def first(step: Path) -> Path:
    return step / Manifest.load(str(step)).shards[0].name


def clusters(table: pa.Table, found: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The cluster of each document, as the stage gives it: fitted on those with the smallest draws."""
    sample = np.argsort(draw.draws(table, seed), kind="stable")[: k * kmeans.PER_CENTROID]
    centroids = kmeans.fit(found[sample], k, seed=seed, iterations=25, restarts=1)
    return np.asarray(kmeans.assign(found, centroids)[0])


def score(labels: np.ndarray, given: np.ndarray) -> float:
    return float(normalized_mutual_info_score(labels, given))


def said(scores: list[float]) -> str:
    return f"{statistics.median(scores):.4f} ({min(scores):.4f}, {max(scores):.4f})"


if __name__ == "__main__":
    raise SystemExit(main())
