"""Gopher's quality rules against datatrove's filter, as each ships: signals, rules, survivors written, one core.

The tools part words differently: ours at white space, as the paper has it; datatrove with spaCy's English tokenizer,
which also makes words of punctuation marks and is most of its cost. So the survivors differ near the thresholds, and
the share on which both agree is printed. The rival is slow enough that each tool gets sizes of its own, of one corpus.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import corpus
import measure
import pyarrow.parquet as pq


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it work at all?")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    measure.need_rival()
    large = (6.0, 24.0) if options.quick else (60.0, 240.0)
    small = (0.5, 2.0) if options.quick else (4.0, 12.0)
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory(prefix="bench-heuristics-") as scratch:
        work = Path(scratch)
        texts = corpus.demo_texts(str(work / "demo"), megabytes=10 if options.quick else 60)
        prose = corpus.sentences(text for source in ("docs", "readme", "license") for text in texts[source])
        for size in (*small, *large):
            (work / f"raw-{size:g}").mkdir()
            made = corpus.documents(prose, megabytes=size, seed=1)
            corpus.write_parquet(work / f"raw-{size:g}" / "raw.parquet", made)
        measure.one_core()
        ours, theirs = tools(work, large, small)
        measure.compare("Gopher quality", ours, theirs, rounds=rounds, log=work / "log")
        ours.clear(small[1])
        measure.cost(ours.command(small[1]), log=work / "log")
        agreement(work, small[1])
    return 0


def tools(work: Path, large: tuple[float, float], small: tuple[float, float]) -> tuple[measure.Tool, measure.Tool]:
    def ours(size: float) -> list[str]:
        raw, out = work / f"raw-{size:g}" / "raw.parquet", work / f"ours-{size:g}" / "out.parquet"
        return [str(measure.CURATE), "filter", str(raw), str(out), "--rules", "gopher_quality", "-j", "1"]

    def theirs(size: float) -> list[str]:
        script, raw, out = measure.ROOT / "bench" / "rivals.py", work / f"raw-{size:g}", work / f"theirs-{size:g}"
        return [str(measure.RIVAL), str(script), "gopher_quality", str(raw), str(out)]

    def clear(name: str, size: float) -> None:
        shutil.rmtree(work / f"{name}-{size:g}", ignore_errors=True)
        (work / f"{name}-{size:g}").mkdir()

    return (
        measure.Tool("curate", large, ours, lambda size: clear("ours", size)),
        measure.Tool("datatrove", small, theirs, lambda size: clear("theirs", size)),
    )


def agreement(work: Path, size: float) -> None:
    """How many documents both keep, both drop, or judge differently."""
    every = pq.read_table(work / f"raw-{size:g}" / "raw.parquet", columns=["id"])["id"].to_pylist()
    mine = kept(work / f"ours-{size:g}")
    rivals = kept(work / f"theirs-{size:g}")
    same = sum((one in mine) == (one in rivals) for one in every)
    print(
        f"of {len(every):,} documents curate kept {len(mine):,} and datatrove {len(rivals):,}; "
        f"they agree on {same / len(every):.1%} (words are parted differently)"
    )


def kept(folder: Path) -> set[str]:
    """Identifiers of what a tool wrote."""
    files = [path for path in sorted(folder.rglob("*.parquet")) if "dropped" not in path.name]
    return {one for path in files for one in pq.read_table(path, columns=["id"])["id"].to_pylist()}


if __name__ == "__main__":
    sys.exit(main())
