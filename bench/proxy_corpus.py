"""Token shards for runs of the proxy: a sample of a corpus, tokenized with a vocabulary of its own and packed.

Shared by the benchmarks of the proxy. A corpus is parquet files with `text` and a column that names sources; without
one it is the demo's, which any machine with Python has.
"""

import argparse
import itertools
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import measure
import numpy as np
import polars as pl

from curate import demo, recipe
from curate.proxy import Settings, Shards, Trained, read
from curate.run import run

VOCABULARY, WINDOW = 4_096, 128
LEAST = 0.005
SAMPLE_CHARACTERS = 4_000_000
STUDENT = (math.inf, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""Quantiles 0.975 of Student's t by number of seeds; the last for more."""
RECIPE = """
name: proxy
ingest: {{files: ["{files}"], source: {{field: source}}}}
stages:
  - tokenize: {{tokenizer: "{tokenizer}", engine: tokenizers}}
  - mix: {{validation: 0.1}}
  - pack: {{window: {window}, formats: [parquet]}}
"""


def parser(told: str | None, *, tokens: int, seeds: int) -> argparse.ArgumentParser:
    """The options that all benchmarks of the proxy have."""
    made = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--text", type=Path, metavar="FOLDER", help="parquet files (default: the demo's corpus)")
    made.add_argument("--source", default="source", metavar="COLUMN", help="what names the sources (default: source)")
    made.add_argument("--megabytes", type=int, default=24, metavar="N", help="of text that are sampled (default 24)")
    made.add_argument("--tokens", type=int, default=tokens, metavar="N", help=f"of each run (default {tokens:,})")
    made.add_argument("--seeds", type=int, default=seeds, metavar="N", help=f"for what is compared (default {seeds})")
    made.add_argument("--width", type=int, default=64, help="of the model's states (default 64)")
    made.add_argument("--layers", type=int, default=4, help="of the model (default 4)")
    made.add_argument("--batch", type=int, default=8, help="windows in a step (default 8)")
    made.add_argument("--quick", action="store_true", help="one minute: too short to show anything but that it runs")
    return made


def settings(options: argparse.Namespace) -> Settings:
    return Settings(width=options.width, layers=options.layers, batch=options.batch)


def shards(options: argparse.Namespace) -> Shards:
    """Tokenize and pack the corpus in a folder that is gone afterwards; a source of which nothing was held out is left
    out, and told."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        frame = _sampled(_documents(options.text, options.source, place), options.megabytes)
        (place / "raw").mkdir()
        frame.write_parquet(place / "raw" / "corpus.parquet")
        (place / "tokenizer.json").write_text(_tokenizer(frame["text"].to_list()))
        said = RECIPE.format(files=place / "raw" / "*.parquet", tokenizer=place / "tokenizer.json", window=WINDOW)
        (place / "recipe.yaml").write_text(said)
        run(recipe.load(str(place / "recipe.yaml")), str(place / "run"))
        made = read(str(place / "run"))
    print(f"{'source':<16}{'tokens':>12}{'share':>8}{'held out':>12}")
    total = sum(one.tokens for one in made.available.values())
    held = {name: some.ids.size for name, some in made.validation.items() if some.ids.size}
    if lost := sorted(set(made.train) - set(held)):
        print(f"left out, for nothing of them is held out: {', '.join(lost)}")
        made = replace(made, train={name: some for name, some in made.train.items() if name in held})
    for name, one in made.available.items():
        print(f"{name:<16}{one.tokens:12,}{one.tokens / total:8.3f}{held[name]:12,}")
    return made


def natural(made: Shards) -> dict[str, float]:
    total = sum(one.tokens for one in made.available.values())
    return {name: one.tokens / total for name, one in made.available.items()}


def compared(arms: dict[str, list[Trained]]) -> None:
    """Losses by source: means over seeds with standard deviations, and how each arm differs from the first, paired by
    seed, with standard errors."""
    first = next(iter(arms))
    seeds = len(arms[first])
    print(f"\nloss in nats for each token: mean of {seeds} seeds +- standard deviation")
    print(f"{'source':<16}" + "".join(f"{name:>20}" for name in arms))
    rows = {name: [[one.losses[name] for one in runs] for runs in arms.values()] for name in arms[first][0].losses}
    for name, found in {**rows, "mean": [[one.mean for one in runs] for runs in arms.values()]}.items():
        print(f"{name:<16}" + "".join(f"{_spread(values):>20}" for values in found))
    print(f"\nless '{first}' of the same seed: mean +- standard error; * where Student's t says 95 %")
    print(f"{'source':<16}" + "".join(f"{name:>20}" for name in list(arms)[1:]))
    for name, found in {**rows, "mean": [[one.mean for one in runs] for runs in arms.values()]}.items():
        print(f"{name:<16}" + "".join(f"{difference(values, found[0]):>20}" for values in found[1:]))


def difference(values: Sequence[float], others: Sequence[float]) -> str:
    """The mean of paired differences, its standard error, and a star where it is not 0 at 95 % by Student's t."""
    apart = [a - b for a, b in zip(values, others, strict=True)]
    error = statistics.stdev(apart) / math.sqrt(len(apart)) if len(apart) > 1 else math.nan
    beyond = STUDENT[min(len(apart), len(STUDENT)) - 1]
    star = "*" if abs(statistics.mean(apart)) > beyond * error else " "
    return f"{statistics.mean(apart):+.4f} +- {error:.4f}{star}"


def told(runs: Sequence[Trained], options: argparse.Namespace) -> str:
    """Speed, size and machine on one line."""
    speed = sum(one.tokens for one in runs) / sum(one.seconds for one in runs)
    seconds = statistics.mean(one.seconds for one in runs)
    return (
        f"{len(runs)} runs of {options.tokens:,} tokens, {settings(options).weights:,} weights and {VOCABULARY:,} "
        f"embeddings of {options.width}: {speed:,.0f} tokens/s, {seconds:.1f} s each; {measure.today()}; "
        f"{measure.machine()}"
    )


def _documents(text: Path | None, source: str, place: Path) -> pl.DataFrame:
    if text is not None:
        return pl.read_parquet(text / "*.parquet", columns=["text", source]).rename({source: "source"})
    demo.write_corpus(str(place / "demo"), megabytes=24)
    frames = [pl.read_parquet(file, columns=["text", "source"]) for file in sorted((place / "demo").glob("*.parquet"))]
    for file in sorted((place / "demo").glob("*.jsonl.zst")):
        frames.append(pl.read_ndjson(file.read_bytes()).select("text", "source"))
    return pl.concat(frames)


def _sampled(frame: pl.DataFrame, megabytes: int) -> pl.DataFrame:
    """Documents in random order up to so much text, of sources that hold at least 0.5 % of it; in names of sources a
    slash, which parts a source from a bucket, becomes a dash."""
    frame = frame.with_columns(pl.col("source").cast(pl.String).str.replace_all("/", "-"))
    size = pl.col("text").str.len_bytes()
    frame = frame.filter(size.sum().over("source") >= LEAST * size.sum())
    frame = frame[np.random.default_rng(0).permutation(frame.height)]
    frame = frame.filter(size.cum_sum() <= megabytes * 1_000_000)
    return frame.with_columns(id=pl.int_range(frame.height).cast(pl.String))


def _tokenizer(texts: list[str]) -> str:
    sizes = itertools.accumulate(map(len, texts))
    some = (text for text, size in zip(texts, sizes, strict=True) if size <= SAMPLE_CHARACTERS)
    return demo.byte_level(some, vocabulary=VOCABULARY)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.4f} +- {statistics.stdev(values) if len(values) > 1 else 0:.4f}"
