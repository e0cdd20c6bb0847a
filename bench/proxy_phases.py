"""Does upsampling a few sources at the end of training help them, and what does it cost the others?

After Blakeney et al. 2024 (arXiv 2406.03476), with the proxy in the place of a model of 7B: runs of equal tokens.

  flat     natural shares from beginning to end
  phases   natural shares, and in the last 15 % of the tokens half of them from the upsampled sources
  blended  one phase with the shares that `phases` has over the whole run: the same tokens in another order

`flat` against `phases` is what upsampling does, `blended` against `phases` what its place at the end does. The rate
falls in a line to 0 in all of them. Needs `pip install 'curate[proxy]'`.
"""

import time

import proxy_corpus

from curate import mixture, proxy
from curate.errors import RecipeError
from curate.mixture import Phase, Plan, Spec

EPOCHS = 4.0


def main() -> None:
    parser = proxy_corpus.parser(__doc__, tokens=120_000, seeds=3)
    parser.add_argument("--up", nargs="+", metavar="SOURCE", help="default: the third of sources with fewest tokens")
    parser.add_argument("--last", type=float, default=0.15, metavar="SHARE", help="of all tokens (default 0.15)")
    parser.add_argument("--to", type=float, default=0.5, metavar="SHARE", help="of the last phase (default 0.5)")
    options = parser.parse_args()
    if options.quick:
        options.tokens, options.seeds, options.megabytes = 24_576, 2, 8
    begin = time.perf_counter()
    shards, settings = proxy_corpus.shards(options), proxy_corpus.settings(options)
    shares = proxy_corpus.natural(shards)
    up = options.up or sorted(shares, key=lambda name: shares[name])[: max(1, len(shares) // 3)]
    plans = planned(shards, options.tokens, up, (options.last, options.to))
    print(f"\nupsampled: {', '.join(up)}; tokens by source")
    print(f"{'':<16}" + "".join(f"{name:>14}" for name in ("flat", "phases, first", "phases, last", "blended")))
    columns = (*plans["flat"].quotas, *plans["phases"].quotas, *plans["blended"].quotas)
    for name in shares:
        print(f"{name:<16}" + "".join(f"{quotas.get(name, 0):14,}" for quotas in columns))
    arms: dict[str, list[proxy.Trained]] = {name: [] for name in plans}
    for seed in range(options.seeds):
        for name, plan in plans.items():
            arms[name].append(proxy.train(shards, plan, seed=seed, settings=settings))
            one = arms[name][-1]
            print(f"seed {seed}, {name}: mean loss {one.mean:.4f}, {one.seconds:.1f} s", flush=True)
    proxy_corpus.compared(arms)
    print("\nmean over sources, each counting the same, less another arm of the same seed +- standard error")
    for what, names in (("upsampled", up), ("the others", [name for name in shares if name not in up])):
        found = {
            arm: [sum(one.losses[name] for name in names) / len(names) for one in some] for arm, some in arms.items()
        }
        for other in ("flat", "blended"):
            print(f"{what:<12} phases less {other:<8} {proxy_corpus.difference(found['phases'], found[other])}")
    every = [one for some in arms.values() for one in some]
    print(f"{proxy_corpus.told(every, options)}; {time.perf_counter() - begin:.0f} s in all")


def planned(shards: proxy.Shards, tokens: int, up: list[str], how: tuple[float, float]) -> dict[str, Plan]:
    """The plans of the three arms. `how`: share of the last phase, and of it what goes to the upsampled sources."""
    shares, (last, to) = proxy_corpus.natural(shards), how
    lost = [name for name in up if name not in shares]
    if lost or len(set(up)) == len(shares):
        raise RecipeError(f"`--up` names {', '.join(up)}; some, and not all, of {', '.join(shares)} are wanted")
    inside = sum(shares[name] for name in up)
    weights = {name: share * (to / inside if name in up else (1 - to) / (1 - inside)) for name, share in shares.items()}
    phases = (Phase("first", share=1 - last), Phase("last", share=last, weights=weights))
    made = mixture.plan(shards.available, Spec(phases, tokens=tokens, max_epochs=EPOCHS))
    return {
        "flat": proxy.weighted(shards, None, tokens=tokens, max_epochs=EPOCHS),
        "phases": made,
        "blended": proxy.weighted(shards, made.drawn, tokens=tokens, max_epochs=EPOCHS),
    }


if __name__ == "__main__":
    main()
