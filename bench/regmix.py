"""RegMix against its published figures, and what becomes of it with fewer runs.

`--data` is the folder `data` of sail-sg/regmix (MIT): mixtures and losses of 512 runs of 1M parameters, and of 256
others at 1M and 60M. Three tables, all in rank correlation times 100 with losses of runs that no model saw:

  losses  each held-out set: trees, ridge and linear, on models of the same size and of sixty times the size
  runs    512 runs down to 32, three draws each: how well the models rank, and what the folds said of it beforehand
  search  the mixture that the published prior and seed lead to, and ours with its spread, by number of draws

Needs `pip install 'curate[fit]'`.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from curate.fit.designs import Space
from curate.fit.regmix import Asked, fit, search
from curate.fit.regressors import FITS, Trees, spearman
from curate.fit.runs import Mixtures, Runs, read_runs

TARGET = "metric/the_pile_pile_cc_val_loss"
KINDS = ("trees", "ridge", "linear")
# Shares that the repository draws around, in the order of its tables (model_training/token_prior.yaml).
PRIOR = """
0.113285273 0.079608651 0.003913491 0.185375901 0.051081359 0.015962925 0.101750772 0.003707518 0.066529351
0.001750772 0.027085479 0.236869207 0.01184346 0.007929969 0.008032956 0.038825953 0.046446962
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--draws", type=int, default=1_000_000, metavar="N", help="the longest search (default 1000000)"
    )
    options = parser.parse_args()
    data = {
        name: read_runs(*(str(options.data / f"{file}.csv") for file in files))
        for name, files in {
            "train": ("train_mixture_1m", "train_pile_loss_1m"),
            "1M": ("test_mixture_1m", "test_pile_loss_1m"),
            "60M": ("test_mixture_60m", "test_pile_loss_60m"),
        }.items()
    }
    losses(data)
    fewer(data)
    searches(data["train"], options.data, options.draws)


def losses(data: dict[str, Runs]) -> None:
    """Every held-out set at both sizes."""
    print(f"{'loss':<20}" + "".join(f"{f'{kind} {size}':>12}" for size in ("1M", "60M") for kind in KINDS))
    train = data["train"]
    for name in train.losses:
        models = {kind: FITS[kind](train.mixtures.shares, train.losses[name]) for kind in KINDS}
        cells = [
            100 * spearman(models[kind].predict(data[size].mixtures.shares), data[size].losses[name])
            for size in ("1M", "60M")
            for kind in KINDS
        ]
        short = name.removeprefix("metric/the_pile_").removesuffix("_val_loss")
        print(f"{short:<20}" + "".join(f"{cell:12.2f}" for cell in cells), flush=True)


def fewer(data: dict[str, Runs]) -> None:
    """Fewer runs: what the folds foretold, and how it was."""
    train, test = data["train"], data["1M"]
    print(f"\n{'runs':<6}" + "".join(f"{f'{kind} {what}':>16}" for kind in KINDS for what in ("folds", "unseen")))
    for count in (512, 256, 128, 64, 32):
        cells: dict[str, list[float]] = {}
        for draw in range(3 if count < 512 else 1):
            rows = np.sort(np.random.default_rng(draw).choice(len(train.mixtures.index), count, replace=False))
            some = Runs(
                Mixtures(
                    tuple(train.mixtures.index[row] for row in rows), train.mixtures.names, train.mixtures.shares[rows]
                ),
                {TARGET: train.losses[TARGET][rows]},
            )
            told = fit(some, Asked(TARGET, draws=200, top=8)).report["out_of_sample"]["spearman"]
            for kind in KINDS:
                model = FITS[kind](some.mixtures.shares, some.losses[TARGET])
                real = spearman(model.predict(test.mixtures.shares), test.losses[TARGET])
                cells.setdefault(f"{kind} folds", []).append(100 * (told[kind] or 0.0))
                cells.setdefault(f"{kind} unseen", []).append(100 * real)
        line = "".join(
            f"{statistics.mean(found):9.2f} +-{statistics.stdev(found) if len(found) > 1 else 0:4.1f}"
            for found in cells.values()
        )
        print(f"{count:<6}{line}", flush=True)


def searches(train: Runs, folder: Path, most: int) -> None:
    """The published search, and ours by number of draws."""
    names = train.mixtures.names
    listed = (folder / "train_mixture_1m.csv").read_text().partition("\n")[0].strip().split(",")[1:]
    prior = np.array(PRIOR.split(), np.float64)
    order = [listed.index(name) for name in names]
    draws = np.random.RandomState(42).dirichlet(prior, 100_000)[:, order]
    best = search(Trees(train.mixtures.shares, train.losses[TARGET], trees=613), np.array_split(draws, 4))
    where = Space(names, prior[order] / prior.sum(), np.ones(len(names)))
    print("\nsearch")
    print(told("published draws, 613 trees", dict(zip(names, best.weights, strict=True)), best.predicted[0]))
    for count, rounds in ((100_000, 1), (100_000, 2), (most, 1)):
        start = time.process_time()
        made = fit(train, Asked(TARGET, draws=count, rounds=rounds), where=where)
        spread = made.report["spread"]["train_the_pile_pile_cc"]
        label = f"ours, {count:,} draws, {rounds} round{'s' if rounds > 1 else ''}"
        low = made.report["predicted"]["best_draw"]
        print(f"{told(label, made.weights, low)}; +- {spread:.3f}; {time.process_time() - start:.1f} CPU-s", flush=True)


def told(label: str, weights: dict[str, float], low: float) -> str:
    """The largest shares on one line."""
    top = sorted(weights.items(), key=lambda item: -item[1])[:4]
    shares = ", ".join(f"{name.removeprefix('train_the_pile_')} {share:.4f}" for name, share in top)
    return f"{label}: {shares}; lowest prediction {low:.5f}"


if __name__ == "__main__":
    main()
