"""Every method of selection against random draws, on equal budgets: curves over the share that is kept.

Documents (`--text`: folder of parquet with `id`, `text`, `source`, and `embedding`, which is made where it is missing)
go through one recipe for each share and each seed of the clusters, and `curate compare-selection` cuts all methods to
the same budget. Two measures, both bits per word of a bigram model of what was selected, and no more than that:

  corpus  on one text of 50, held out everywhere: how much of the corpus as a whole a selection still covers
  target  on the half of `--towards` that nobody saw; the other half is what `target` was told to aim at

Printed is the difference to random draws of the same size: below zero is better than random. Methods differ in what
they are for: pruning by difficulty is not meant to look like the corpus.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

import measure
import pyarrow.parquet as pq

METHODS = {
    "semantic": "not semantic_duplicate",
    "hard": "not hard_pruned",
    "easy": "not easy_pruned",
    "density": "not density_pruned",
    "density std": "not wide_pruned",
    "equal": "not equal_pruned",
    "d4": "not d4_pruned and not d_semantic_duplicate",
    "rds": "rds_targeted",
    "got": "got_targeted",
    "dsir": "dsir_targeted",
}
D4 = 0.75  # of the documents stay as originals; the rest of the budget is met by prototypes
RECIPE = """\
name: pruning
ingest: {{files: ["{files}"], source: {{field: source}}, shard_bytes: 16000000}}
stages:
  - heuristics: {{signals: [quality]}}
{embed}  - cluster: {{k: {k}, sample: 1000, seed: {seed}}}
  - semantic: {{keep: {keep}}}
  - semantic: {{name: d, keep: {originals}}}
  - prune: {{name: hard, keep: {keep}, by: prototypes}}
  - prune: {{name: easy, keep: {keep}, by: prototypes, mode: easy}}
  - prune: {{name: density, keep: {keep}, by: density}}
  - prune: {{name: wide, keep: {keep}, by: density, tau_mode: std}}
  - prune: {{name: equal, keep: {keep}, by: budget, mode: random, seed: {seed}}}
  - cluster: {{name: topic, k: {k}, sample: 1000, seed: {seed}, among: not d_semantic_duplicate}}
  - prune: {{name: d4, keep: {hardest}, by: prototypes, balance: 0, cluster: topic_cluster}}
  - target: {{name: rds, by: rds, towards: "{towards}", keep: {keep}}}
  - target: {{name: got, by: got, towards: "{towards}", keep: {keep}}}
  - target: {{name: dsir, by: dsir, towards: "{towards}", keep: {keep}, seed: {seed}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--towards", required=True, help="a source: half of it is the target, half of it measures")
    parser.add_argument("--curate", type=Path, default=measure.CURATE, help="a curate whose environment has the model")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.2, 0.4, 0.6, 0.8])
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    options = parser.parse_args()
    found = {keep: [compared(options, keep, seed) for seed in range(options.seeds)] for keep in options.keep}
    for measured in ("corpus", "target"):
        print(f"{'bits per word, ' + measured:<24}" + "".join(f"{f'keep {keep:g}':>18}" for keep in options.keep))
        for name in ("random", *METHODS):
            curve = [[seed[measured][name] for seed in found[keep]] for keep in options.keep]
            print(f"{name:<24}" + "".join(f"{said(values):>18}" for values in curve))
    print(f"mean and standard deviation of {options.seeds} seeds; {measure.today()}; {measure.machine()}")


def compared(options: argparse.Namespace, keep: float, seed: int) -> dict[str, dict[str, float]]:
    """By measure, the bits per word of every method less those of random draws, and those of random."""
    seen, unseen = halves(options.towards)
    with tempfile.TemporaryDirectory(prefix="bench-pruning-") as scratch:
        work = Path(scratch)
        first = next(iter(sorted(options.text.glob("*.parquet"))))
        embed = "" if "embedding" in pq.read_schema(first).names else "  - embed:\n"
        originals = max(keep, D4)
        recipe = RECIPE.format(
            files=options.text.resolve() / "*.parquet",
            embed=embed,
            k=options.k,
            seed=seed,
            keep=keep,
            originals=originals,
            hardest=min(1.0, keep / originals),
            towards=seen,
        )
        (work / "recipe.yaml").write_text(recipe)
        command = [str(options.curate), "run", str(work / "recipe.yaml"), "--out", str(work / "run")]
        measure.cost([*command, "-j", str(options.jobs)], log=work / "log")
        asked = [part for name, rule in METHODS.items() for part in ("--method", f"{name}={rule}")]
        command = [str(options.curate), "compare-selection", str(work / "run"), *asked, "--json", "--seeds", "1"]
        command += ["--among", f"not ({seen})"]  # nobody may choose the targets
        return {
            measured: bits([*command, *held, "-j", str(options.jobs)])
            for measured, held in {"corpus": [], "target": ["--held-out", unseen]}.items()
        }


def bits(command: list[str]) -> dict[str, float]:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    told = {
        method["name"]: method["closeness"]["bits_per_word"]["mean"] for method in json.loads(done.stdout)["methods"]
    }
    return {name: each - told["random"] if name != "random" else each for name, each in told.items()}


def halves(source: str) -> tuple[str, str]:
    """Expressions for two halves of a source, by the last hexadecimal digit of what its records are called."""
    digits = [" or ".join(f"source_id like '%{digit}'" for digit in half) for half in ("01234567", "89abcdef")]
    return f"source = '{source}' and ({digits[0]})", f"source = '{source}' and ({digits[1]})"


def said(values: list[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):+.3f} ± {spread:.3f}"


if __name__ == "__main__":
    main()
