"""RegMix from end to end with the proxy: 32 small runs, a regression, and its mixture against plain ones.

Two targets by default: the mean of the losses on all sources, each counting the same, and the loss on the largest
source. What is reported: how the regression ranks runs that it did not see, against what shuffled losses give; and,
where there is a signal, the mixture it predicts to be best, trained anew beside natural shares, equal shares and the
best of the 32 runs, several seeds each. The 32 runs have a seed that is none of these: the luck of their best ends.

Needs `pip install 'curate[proxy,fit]'`; without LightGBM the regression is ridge.
"""

import importlib.util
import time

import numpy as np
import proxy_corpus

from curate import proxy
from curate.fit.designs import Space, clipped, design, space
from curate.fit.regmix import Asked, fit
from curate.fit.runs import Mixtures, Runs

EPOCHS = 4.0
KIND = "auto" if importlib.util.find_spec("lightgbm") else "ridge"


def main() -> None:
    parser = proxy_corpus.parser(__doc__, tokens=100_000, seeds=3)
    parser.add_argument("--runs", type=int, default=32, metavar="N", help="small runs (default 32)")
    parser.add_argument("--target", nargs="+", metavar="SOURCE", help="`mean` or sources (default: mean, the largest)")
    options = parser.parse_args()
    if options.quick:
        options.tokens, options.runs, options.seeds, options.megabytes = 12_288, 12, 2, 8
    begin = time.perf_counter()
    shards, settings = proxy_corpus.shards(options), proxy_corpus.settings(options)
    where = space(
        {name: one.tokens for name, one in shards.available.items()}, tokens=options.tokens, max_epochs=EPOCHS
    )
    drawn = design(where, options.runs, seed=0)
    print(f"\nmixtures: {drawn.report['sources_per_mixture']:.1f} sources each, {drawn.report['clipped']} clipped")

    def trained(row: np.ndarray, seed: int) -> proxy.Trained:
        weights = {name: float(share) for name, share in zip(where.names, row, strict=True) if share}
        planned = proxy.weighted(shards, weights, tokens=options.tokens, max_epochs=EPOCHS)
        return proxy.train(shards, planned, seed=seed, settings=settings)

    small = []
    for number, row in enumerate(drawn.mixtures, 1):
        small.append(trained(row, 0))
        if number % 8 == 0 or number == 1:
            print(f"run {number}: mean loss {small[-1].mean:.4f}, {small[-1].seconds:.1f} s", flush=True)
    losses = {name: np.array([one.losses[name] for one in small]) for name in small[0].losses}
    losses["mean"] = np.array([one.mean for one in small])
    runs = Runs(Mixtures(tuple(map(str, range(options.runs))), where.names, drawn.mixtures), losses)
    spread = losses["mean"]
    print(f"mean loss of the runs: {spread.min():.4f} to {spread.max():.4f}, deviation {spread.std(ddof=1):.4f}")
    arms = {
        "natural": where.prior,
        "equal": clipped(np.full((1, len(where.names)), 1 / len(where.names)), where.bounds)[0],
    }
    arms["best run"] = drawn.mixtures[spread.argmin()]
    print("rank correlation on runs not seen; what shuffled losses give (99 of 100)")
    targets = options.target or ("mean", where.names[int(where.prior.argmax())])
    for name in losses:
        if name in targets:
            found = reported(runs, Asked(name, model=KIND, rounds=2), where)
            arms |= {} if found is None else {f"for {name}": found}
        else:
            reported(runs, Asked(name, model="ridge", draws=200, top=8), where)
    print(f"\n{'share':<16}" + "".join(f"{name:>12}" for name in arms))
    for place, name in enumerate(where.names):
        print(f"{name:<16}" + "".join(f"{row[place]:12.4f}" for row in arms.values()))
    again = {name: [trained(row, seed) for seed in range(1, options.seeds + 1)] for name, row in arms.items()}
    proxy_corpus.compared(again)
    every = [*small, *(one for some in again.values() for one in some)]
    print(f"{proxy_corpus.told(every, options)}; {time.perf_counter() - begin:.0f} s in all")


def reported(runs: Runs, asked: Asked, where: Space) -> np.ndarray | None:
    """The shares that the regression says are best, float64[k], None without a signal; what it is worth is printed."""
    made = fit(runs, asked, where=where)
    seen = made.report["out_of_sample"]
    said = ", ".join(f"{name} {value:+.3f}" for name, value in seen["spearman"].items() if value is not None)
    line = f"  {asked.target:<14} {said}; chance {seen['by_chance']:.3f}"
    if not made.weights:
        print(f"{line}; no signal")
        return None
    predicted = made.report["predicted"]
    print(f"{line}; {made.model} predicts {predicted['weights']:.4f}, of natural shares {predicted['natural']:.4f}")
    return np.array([made.weights.get(name, 0.0) for name in where.names])


if __name__ == "__main__":
    main()
