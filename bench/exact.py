"""Exact deduplication of whole documents against datatrove, one core, in two settings.

From file to file: both read a parquet file with `id` and `text`, of which a tenth are copies, and write a parquet file
of the survivors, each with its own default compression (zstd here, snappy there). Ours also writes the dropped
documents with their survivors. Reading and writing text bounds both, so no tool can be many times faster here.

At rest: documents are in the tool's own format already, and the question is which are copies. Ours has digests since
ingest and reads 16 bytes a document; datatrove keeps none and reads the text again.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import corpus
import measure
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

STAGES = {"ingested": "heuristics", "marked": "exact"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it work at all?")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    measure.need_rival()
    sizes = (6.0, 24.0) if options.quick else (60.0, 240.0)
    # Ours takes so little at rest that the difference must be large to be measured.
    rest = (6.0, 24.0) if options.quick else (60.0, 960.0)
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory(prefix="bench-exact-") as scratch:
        work = Path(scratch)
        texts = corpus.demo_texts(str(work / "demo"), megabytes=10 if options.quick else 60)
        prose = corpus.sentences(text for source in ("docs", "readme", "license") for text in texts[source])
        for size in {*sizes, *rest}:
            (work / f"raw-{size:g}").mkdir()
            made = corpus.documents(prose, megabytes=size, seed=1)
            corpus.write_parquet(work / f"raw-{size:g}" / "raw.parquet", made)
        measure.one_core()
        ours, theirs = tools(work, sizes)
        measure.compare("exact dedup, file to file", ours, theirs, rounds=rounds, log=work / "log")
        for size in sizes:
            same_survivors(work, size)
        ours, theirs = tools_at_rest(work, rest)
        measure.compare("exact dedup, at rest", ours, theirs, rounds=rounds, log=work / "log")
        for size in rest:
            same_duplicates(work, size)
    return 0


def tools(work: Path, sizes: tuple[float, float]) -> tuple[measure.Tool, measure.Tool]:
    def ours(size: float) -> list[str]:
        raw, out = work / f"raw-{size:g}" / "raw.parquet", work / f"ours-{size:g}" / "out.parquet"
        return [str(measure.CURATE), "filter", str(raw), str(out), "--with", "exact", "-j", "1"]

    def theirs(size: float) -> list[str]:
        script = str(measure.ROOT / "bench" / "rivals.py")
        return [str(measure.RIVAL), script, "exact", str(work / f"raw-{size:g}"), str(work / f"theirs-{size:g}")]

    def clear(name: str, size: float) -> None:
        shutil.rmtree(work / f"{name}-{size:g}", ignore_errors=True)
        (work / f"{name}-{size:g}").mkdir()

    return (
        measure.Tool("curate", sizes, ours, lambda size: clear("ours", size)),
        measure.Tool("datatrove", sizes, theirs, lambda size: clear("theirs", size)),
    )


def tools_at_rest(work: Path, sizes: tuple[float, float]) -> tuple[measure.Tool, measure.Tool]:
    """Ours on runs that are ingested here, before anything is measured."""
    for name, stage in STAGES.items():
        for size in sizes:
            files = f'{{files: "raw-{size:g}/raw.parquet", source: prose, normalize: {{form: none, newlines: keep}}}}'
            recipe = f"name: rest\ningest: {files}\nstages:\n  - {stage}:\n"
            (work / f"{name}-{size:g}.yaml").write_text(recipe)

    def ours(size: float, name: str = "marked") -> list[str]:
        recipe, out = work / f"{name}-{size:g}.yaml", work / f"run-{size:g}"
        return [str(measure.CURATE), "run", str(recipe), "--out", str(out), "-j", "1"]

    def theirs(size: float) -> list[str]:
        script, raw, out = measure.ROOT / "bench" / "rivals.py", work / f"raw-{size:g}", work / f"rest-{size:g}"
        return [str(measure.RIVAL), str(script), "duplicates", str(raw), str(out)]

    def forget(size: float) -> None:
        for folder in (work / f"run-{size:g}").glob("exact-*"):
            shutil.rmtree(folder)

    for size in sizes:
        measure.cost(ours(size, "ingested"), log=work / "log")
    return (
        measure.Tool("curate", sizes, ours, forget),
        measure.Tool("datatrove", sizes, theirs, lambda size: shutil.rmtree(work / f"rest-{size:g}", True)),
    )


def same_duplicates(work: Path, size: float) -> None:
    """Both found the same documents to be copies; `SystemExit` if not."""
    (marks,) = (work / f"run-{size:g}").glob("exact-*")
    table = pa.concat_tables(pq.read_table(path, columns=["duplicate"]) for path in sorted(marks.glob("0*.parquet")))
    mine = np.flatnonzero(table["duplicate"].to_numpy())
    found = sorted((work / f"rest-{size:g}" / "duplicates").rglob("*.c4_dup"))
    rivals = np.sort(np.concatenate([np.empty(0, "<u4"), *(np.fromfile(path, "<u4") for path in found)]))
    if not np.array_equal(mine, rivals):
        raise SystemExit(f"{size:g} MB: {len(mine)} copies here, {len(rivals)} there, or not the same ones")
    print(f"{size:g} MB: of {table.num_rows:,} documents both found the same {len(mine):,} copies")


def same_survivors(work: Path, size: float) -> None:
    """Both kept the same documents in the same order; `SystemExit` if not."""
    mine = survivors(work / f"ours-{size:g}")
    rivals = survivors(work / f"theirs-{size:g}")
    there = pq.read_metadata(work / f"raw-{size:g}" / "raw.parquet").num_rows
    if not mine.equals(rivals):
        raise SystemExit(f"{size:g} MB: {mine.num_rows} survivors here, {rivals.num_rows} there, not the same ones")
    print(f"{size:g} MB: of {there:,} documents both kept the same {mine.num_rows:,}, text by text")


def survivors(folder: Path) -> pa.Table:
    """`id` and `text` of what a tool wrote, in order."""
    files = [path for path in sorted(folder.rglob("*.parquet")) if "dropped" not in path.name]
    table = pa.concat_tables(pq.read_table(path, columns=["id", "text"]) for path in files)
    return table.cast(pa.schema({"id": pa.large_string(), "text": pa.large_string()})).combine_chunks()


if __name__ == "__main__":
    sys.exit(main())
