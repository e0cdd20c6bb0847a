"""Do the clusters agree with what people would call topics as well as scikit-learn's do?

Normalised mutual information between clusters and a label of each document, several seeds each: ours fitted on the
sample that the stage draws (`--sample` vectors for each centroid), scikit-learn's KMeans and, where it is installed,
Faiss's spherical k-means on all vectors. Beside it the sum of distances, 1 - cosine to the direction of the mean, which
spherical k-means makes small and scikit-learn's, whose centroids are means and not directions, does not. `--run` is the
folder of a run that has `embedding`, and `--label` a column that its documents carry.
"""

import argparse
import statistics
from importlib.util import find_spec
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
    parser.add_argument("--restarts", type=int, default=1, help="fits of which each takes the best")
    parser.add_argument("--sample", type=int, default=kmeans.PER_CENTROID)
    options = parser.parse_args()
    table = documents(options.run, options.label)
    found, valid = vectors(table["embedding"])
    table, found = table.filter(pa.array(valid)), found[valid]
    labels = np.array(table[options.label].cast(pa.string()).to_pylist())
    good = True
    ways = {"curate": ours, "scikit-learn": scikit, **({"Faiss, spherical": faiss} if find_spec("faiss") else {})}
    print(f"{len(found):,} documents, {len(set(labels)):,} labels; medians of {options.seeds} seeds (least, most)")
    for k in dict.fromkeys((len(set(labels)), *(options.k or ()))):
        medians = {}
        for name, way in ways.items():
            given = [way(table, found, k, seed, options) for seed in range(options.seeds)]
            scores = [float(normalized_mutual_info_score(labels, each)) for each in given]
            medians[name] = statistics.median(scores)
            spread = statistics.median(distances(found, each) for each in given)
            print(
                f"k {k:>5}  {name:<18} {medians[name]:.4f} ({min(scores):.4f}, {max(scores):.4f}), "
                f"sum of distances {spread:,.1f}"
            )
        ratio = medians["curate"] / medians["scikit-learn"]
        print(f"k {k:>5}  {ratio:.3f} of scikit-learn's")
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


def ours(table: pa.Table, found: np.ndarray, k: int, seed: int, options: argparse.Namespace) -> np.ndarray:
    """The cluster of each document, as the stage gives it: fitted on those with the smallest draws."""
    sample = np.argsort(draw.draws(table, seed), kind="stable")[: k * options.sample]
    centroids = kmeans.fit(found[sample], k, seed=seed, restarts=options.restarts)
    return np.asarray(kmeans.assign(found, centroids)[0])


def scikit(table: pa.Table, found: np.ndarray, k: int, seed: int, options: argparse.Namespace) -> np.ndarray:
    given: np.ndarray = KMeans(k, n_init=options.restarts, random_state=seed).fit_predict(found)
    return given


def faiss(table: pa.Table, found: np.ndarray, k: int, seed: int, options: argparse.Namespace) -> np.ndarray:
    from faiss import Kmeans

    fitted = Kmeans(
        found.shape[1],
        k,
        niter=100,
        spherical=True,
        seed=seed + 1,
        nredo=options.restarts,
        max_points_per_centroid=len(found),
    )
    fitted.train(found)
    given: np.ndarray = fitted.index.search(found, 1)[1][:, 0]
    return given


def distances(found: np.ndarray, given: np.ndarray) -> float:
    """The sum over clusters of documents less the length of the sum of their vectors."""
    members = (found[given == number] for number in np.unique(given))
    return sum(len(each) - float(np.linalg.norm(each.sum(axis=0))) for each in members)


if __name__ == "__main__":
    raise SystemExit(main())
