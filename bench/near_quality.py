"""Does near-duplicate removal find what the S-curve promises, and take nothing that it may not?

Documents, made prose or your own, and edited copies of them are written to a file and go through a whole run, so pairs
lie in different shards and parts. What should have come out is worked out a second way: sets of words in a row in plain
Python, without a hash. Printed: by edit, pairs that share a band beside the sum of the S-curve over their exact
similarities; removed documents that are as alike as asked for to the one that stayed, which must be all; pairs alike
that share a band and stayed both, since edges go to the leaders of buckets alone.

Then the trap of templates: pages of which 90 % are the same words. Those that are alike beyond the threshold go, no
others, however long the chains between them; beside it what connected components without proof take.

`--pairs FOLDER` judges a corpus of which pairs are known (`pairs.parquet` with `id_a`, `id_b`; documents in `--text`).
It ends with 1 if a removal was wrong, or the recall of injected pairs is further from the S-curve than `POINTS`.
"""

import argparse
import itertools
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import corpus
import measure
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate import edits, near_measure, recipe
from curate.manifest import Manifest
from curate.outputs import state

POINTS = 1.5  # of a hundred pairs: how far recall may lie from the S-curve
TOUCHED = 50  # words below which a document is not edited
SHARD_BYTES = 8_000_000
RECIPE = """\
name: quality
ingest: {{files: raw.parquet, source: bench, shard_bytes: {shard_bytes}, normalize: {{form: none, newlines: keep}}}}
stages:
  - near: {{preset: {preset}}}
  - confirm: {confirm}
"""
PAGES, SHARED = 10_000, 0.9
THRESHOLDS = (0.7, 0.8, 0.9)
CLASSIC = "{jaccard: 0, transitive: true}"
BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=6_000, help="documents that are edited, four ways and more")
    parser.add_argument("--text", type=Path, help="folder of parquet with `text` (and `id`), instead of made prose")
    parser.add_argument("--pairs", type=Path, help="folder of pairs.parquet; documents from --text or ../corpus")
    parser.add_argument("--pages", type=int, default=PAGES, help="pages of the template trap; 0: none")
    parser.add_argument("--preset", default="fineweb")
    parser.add_argument("--jaccard", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-near-quality-") as scratch:
        work = Path(scratch)
        if options.pairs:
            good = known_pairs(work, options)
        else:
            good = injected(work, options)
            if options.pages:
                good &= templates(work, options)
    print(f"{'all as it should be' if good else 'NOT AS IT SHOULD BE'}; {measure.today()}; {measure.machine()}")
    return 0 if good else 1


# --- injected pairs ---------------------------------------------------------------------------------------------------


def injected(work: Path, options: argparse.Namespace) -> bool:
    """Edited copies of documents: recall against the S-curve, and precision."""
    rows = edits.inject(documents(work, options), options.seed)
    folder = work / "injected"
    raw = pa.table({"id": [str(row) for row in range(rows.table.num_rows)], "text": rows.table["text"]})
    run = ran(folder, raw, options, confirm=f"{{jaccard: {options.jaccard}}}")
    table = marked(run, rows.table.num_rows)
    if not table["text"].combine_chunks().equals(rows.table["text"].combine_chunks().cast(table["text"].type)):
        raise SystemExit("the run has not the texts that were written")
    asked = asked_of(folder / "recipe.yaml")
    told = figures(asked, replace(rows, table=table))
    total, words = told["total"], [one for one in told["edits"] if one["edit"] in edits.SHARES]
    pairs, off = sum(one["pairs"] for one in words), sum(one["found"] - one["expected"] for one in words)
    unlinked = total["found"] - total["linked"]
    print(
        f"{pairs:,} pairs with changed words: found {100 * off / pairs:+.2f} points off the S-curve; all "
        f"{total['pairs']:,} pairs {total['points']:+.2f}; {unlinked:,} of {total['found']:,} pairs that share a band "
        f"have no edge of their own ({100 * unlinked / max(1, total['found']):.2f} %), "
        f"{100 * told['lost']['share']:.3f} % of those alike stayed both"
    )
    right = told["removed"]["rightly"] == told["removed"]["rows"] > 0
    near_curve = abs(100 * off / pairs) <= POINTS and abs(total["points"]) <= POINTS
    print(
        f"precision: {told['removed']['rightly']:,} of {told['removed']['rows']:,} removals right, told similarities "
        f"off by at most {told['removed']['similarity_off_by']:.1e}"
    )
    return right and near_curve


def figures(asked: near_measure.Asked, rows: edits.Injected) -> dict[str, Any]:
    """What should have been said of the rows beside what was; the figures of each edit as a table."""
    told = near_measure.Measured(asked, rows).told()
    at = f"above {asked.threshold:g}"
    print(f"{'edit':<22}{'pairs':>8}{'jaccard':>9}{'expected':>10}{'found':>8}{'points':>8}{at:>11}{'removed':>9}")
    for one in (*told["edits"], told["total"]):
        if one["pairs"]:
            print(
                f"{one['edit']:<22}{one['pairs']:>8,}{one['jaccard']:>9.3f}{one['expected']:>10,.1f}{one['found']:>8,}"
                f"{one['points']:>+8.2f}{one['above']:>11,}{one['removed']:>9,}"
            )
    return told


def documents(work: Path, options: argparse.Namespace) -> pa.Table:
    """Documents to edit: `text`, and the other columns that an injected copy has of its own."""
    if options.text:
        texts = drawn(texts_of(options.text), options.documents, options.seed)
    else:
        made = corpus.documents(
            prose(work), megabytes=3e-3 * 3 * options.documents, seed=options.seed, run=(1, 2), copied=corpus.Copied(0)
        )
        texts = drawn([one.decode() for one in made], options.documents, options.seed)
    text = pa.array(texts, pa.large_string())
    origin = pa.array([str(row) for row in range(len(texts))])
    return pa.table({"text": text, "id": pa.array([bytes(16)] * len(texts), pa.binary(16)), "origin": origin})


def drawn(texts: list[str], count: int, seed: int) -> list[str]:
    """So many different texts that are long enough to be edited."""
    order = np.random.default_rng(seed).permutation(len(texts)).tolist()
    taken: dict[str, None] = {}
    for row in order:
        if len(taken) < count and len(edits.words(texts[row][:20_000])) >= TOUCHED:
            taken[texts[row]] = None
    return list(taken)


def prose(work: Path) -> corpus.Pieces:
    texts = corpus.demo_texts(str(work / "demo"), megabytes=60)
    return corpus.sentences(text for source in ("docs", "readme", "license") for text in texts[source])


def texts_of(folder: Path) -> list[str]:
    return [one for path in sorted(folder.glob("*.parquet")) for one in column(path, "text") if one]


def column(path: Path, name: str) -> list[Any]:
    found: list[Any] = pq.read_table(path, columns=[name])[name].to_pylist()
    return found


# --- runs -------------------------------------------------------------------------------------------------------------


def ran(folder: Path, raw: pa.Table, options: argparse.Namespace, *, confirm: str, shard: int = SHARD_BYTES) -> Path:
    """The folder of a finished run over these raw rows."""
    folder.mkdir(exist_ok=True)
    if not (folder / "raw.parquet").exists():
        pq.write_table(raw, folder / "raw.parquet", row_group_size=4_096)
    (folder / "recipe.yaml").write_text(RECIPE.format(preset=options.preset, confirm=confirm, shard_bytes=shard))
    command = [str(measure.CURATE), "run", str(folder / "recipe.yaml"), "--out", str(folder / "run")]
    measure.cost([*command, "-j", str(options.jobs)], log=folder / "log")
    return folder / "run"


def marked(run: Path, rows: int) -> pa.Table:
    """Documents with what both stages say of them, in the order of the raw rows (`source_id` is their number)."""
    folders = [run / step["folder"] for step in state(str(run))]
    names = [[shard.name for shard in Manifest.load(str(folder)).shards] for folder in folders]
    shards = []
    for files in zip(*names, strict=True):
        parts = [pq.read_table(folder / name) for folder, name in zip(folders, files, strict=True)]
        shards.append(pa.table({name: part[name] for part in parts for name in part.column_names}))
    table = pa.concat_tables(shards)
    order = np.argsort(np.array(table["source_id"].to_pylist(), np.int64))
    if len(order) != rows:
        raise SystemExit(f"{rows:,} rows were written, the run has {len(order):,}")
    return table.take(pa.array(order)).combine_chunks()


def asked_of(path: Path) -> near_measure.Asked:
    """The two steps of the recipe; `confirm` knows how `near` sketched."""
    near, confirm = recipe.load(str(path)).nodes
    bound = confirm.stage.bind({name: {"maker": near.stage} for name in near.stage.adds})
    return near_measure.Asked(near, replace(confirm, stage=bound))


# --- templates --------------------------------------------------------------------------------------------------------


def templates(work: Path, options: argparse.Namespace) -> bool:
    """Pages that share most of their words: nothing goes without its proof, at any threshold."""
    texts = pages(prose(work / "again"), options.pages, options.seed)
    raw = pa.table({"id": [str(row) for row in range(len(texts))], "text": texts})
    draw, good = np.random.default_rng(options.seed), True
    sketch = None
    for confirm in (*(f"{{jaccard: {at}}}" for at in THRESHOLDS), CLASSIC):
        run = ran(work / "pages", raw, options, confirm=confirm, shard=2_000_000)
        table = marked(run, len(texts))
        asked = asked_of(work / "pages" / "recipe.yaml")
        if sketch is None:
            sketch = asked.sketch
            sample = draw.integers(0, len(texts), (500, 2))
            alike = np.array([similarity(texts[a], texts[b], sketch) for a, b in sample.tolist() if a != b])
            low, middle, high = np.quantile(alike, (0.05, 0.5, 0.95))
            print(
                f"{len(texts):,} pages of one template, {SHARED:.0%} of words the same: similarity of two of them "
                f"{middle:.3f} ({low:.3f} to {high:.3f} for nine of ten pairs)"
            )
        proved = confirm != CLASSIC
        at = asked.threshold if proved else THRESHOLDS[1]
        gone, wrong = judged(table, texts, sketch, at)
        print(
            f"  {f'proved at {at:g}' if proved else 'connected components, no proof'}: {gone:,} pages go, "
            f"{len(texts) - gone:,} stay; {wrong:,} went that are less alike than {at:g} to the one that stayed"
        )
        good &= wrong == 0 or not proved
    return good


def pages(pieces: corpus.Pieces, count: int, seed: int) -> list[str]:
    """One template of 450 words around some words of each page's own: a tenth of a page in the mean, half to twice."""
    draw = np.random.default_rng(seed)
    words = pieces.data.decode().split()
    start = int(draw.integers(0, len(words) - 1_000))
    template = words[start : start + 450]
    head, foot = " ".join(template[:200]), " ".join(template[200:])
    own = (450 * (1 / SHARED - 1) * np.exp(draw.normal(0, 0.35, count))).clip(20, 120).astype(int).tolist()
    return [
        f"{head}\n{' '.join(words[at] for at in draw.integers(0, len(words), size).tolist())}\n{foot}" for size in own
    ]


def judged(table: pa.Table, texts: list[str], sketch: Any, threshold: float) -> tuple[int, int]:
    """Removed rows, and those that are not as alike to the one that stayed, or go against one that went."""
    origins = {origin: row for row, origin in enumerate(table["origin"].to_pylist())}
    gone = table["near_duplicate"].to_pylist()
    wrong = 0
    for row, origin in enumerate(table["near_duplicate_of"].to_pylist()):
        if gone[row]:
            other = origins[origin]
            wrong += gone[other] or similarity(texts[row], texts[other], sketch) < threshold
    return sum(gone), wrong


def similarity(one: str, other: str, sketch: Any) -> float:
    first, second = near_measure.shingles(one, sketch), near_measure.shingles(other, sketch)
    return len(first & second) / max(1, len(first | second))


# --- known pairs ------------------------------------------------------------------------------------------------------


def known_pairs(work: Path, options: argparse.Namespace) -> bool:
    """A corpus of real near duplicates: what is found and removed, by exact similarity."""
    folder = options.text or options.pairs.parent / "corpus"
    files = sorted(folder.glob("*.parquet"))
    ids = [one for path in files for one in column(path, "id")]
    texts = [one for path in files for one in column(path, "text")]
    number = {one: row for row, one in enumerate(ids)}
    raw = pa.table({"id": [str(row) for row in range(len(ids))], "text": texts})
    table = marked(ran(work / "known", raw, options, confirm=f"{{jaccard: {options.jaccard}}}"), len(ids))
    asked = asked_of(work / "known" / "recipe.yaml")
    told = pq.read_table(options.pairs / "pairs.parquet", columns=["id_a", "id_b"]).to_pydict()
    pairs = np.array([(number[a], number[b]) for a, b in zip(told["id_a"], told["id_b"], strict=True)], np.int64)
    alike = np.array([similarity(texts[a], texts[b], asked.sketch) for a, b in pairs.tolist()])
    every = edits.Injected(table, np.arange(len(ids)), np.full(len(ids), -1))
    known = near_measure.Measured(asked, every)
    shares, linked, gone = known.share_a_band(pairs), known.linked(pairs), known.gone[pairs].any(axis=1)
    chance = asked.sketch.probability(alike)
    print(f"{'similarity':<12}{'pairs':>8}{'expected':>10}{'found':>8}{'linked':>8}{'one gone':>10}")
    for low, high in itertools.pairwise(BINS):
        mine = (alike >= low) & ((alike < high) | (high == 1.0))
        print(
            f"{low:.1f} to {high:.1f}  {mine.sum():>8,}{chance[mine].sum():>10.1f}{shares[mine].sum():>8,}"
            f"{linked[mine].sum():>8,}{gone[mine].sum():>10,}"
        )
    noise = float(np.sqrt((chance * (1 - chance)).sum()))
    off = shares.sum() - chance.sum()
    print(
        f"{len(pairs):,} pairs: {shares.sum():,} share a band, {chance.sum():.1f} expected, "
        f"{100 * off / len(pairs):+.2f} points off; chance alone gives {100 * noise / len(pairs):.2f}"
    )
    above = (alike >= options.jaccard) & shares
    print(f"of {above.sum():,} alike that share a band {(above & ~gone).sum():,} stayed both")
    removed, wrong = judged(table, texts, asked.sketch, options.jaccard)
    print(f"of all {len(ids):,} documents {removed:,} went, {wrong:,} of them without being that alike")
    return wrong == 0 and abs(100 * off / len(pairs)) <= POINTS


if __name__ == "__main__":
    sys.exit(main())
