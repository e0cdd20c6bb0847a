"""How long `curate whatif` takes on a run of many tiny documents: seconds of the whole process, start-up included.

The time hardly depends on the texts, which are not read: what counts is rows. The run is made with `curate run`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import measure
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

RECIPE = """
name: many
ingest: {files: raw.parquet, source: {field: source}}
stages:
  - heuristics:
  - exact:
  - select: {keep: {first_copy: not duplicate, long_enough: words >= 3}}
"""
COMMANDS = {
    "whatif": ["whatif", "RUN", "--where", "words >= 4 and mean_word_length <= 8 and not duplicate"],
    "whatif, a rule set": ["whatif", "RUN", "--rules", "gopher_quality"],
    "sweep": ["sweep", "RUN", "--of", "mean_word_length", "--where", "not duplicate"],
    "look": ["look", "RUN", "--rule", "long_enough"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-whatif-") as scratch:
        work = Path(scratch)
        pq.write_table(documents(options.rows), work / "raw.parquet")
        (work / "recipe.yaml").write_text(RECIPE)
        made = measure.cost(
            [str(measure.CURATE), "run", str(work / "recipe.yaml"), "--out", str(work / "run")], log=work / "log"
        )
        print(f"run of {options.rows:,} documents: {made.wall:.1f} s", flush=True)
        for name, words in COMMANDS.items():
            command = [str(measure.CURATE), *(str(work / "run") if word == "RUN" else word for word in words)]
            costs = [measure.cost(command, log=work / "log") for _ in range(options.rounds)]
            wall, cpu = min(one.wall for one in costs), min(one.cpu for one in costs)
            print(
                f"{name}: {wall:.2f} s, {cpu:.2f} CPU-s for {options.rows:,} documents, best of {options.rounds}; "
                f"{measure.today()}; {measure.machine()}",
                flush=True,
            )
    return 0


def documents(rows: int) -> pa.Table:
    """Texts of one to six words, some 20 bytes, most of them unique, in four sources."""
    draw = np.random.default_rng(1)
    words = pa.array([f"{word}{number}" for number in range(500) for word in ("the", "river", "of", "morning")])
    ends = np.concatenate([[0], np.cumsum(draw.integers(1, 7, rows))]).astype(np.int32)
    drawn = words.take(pa.array(draw.integers(0, len(words), ends[-1])))
    text = pc.binary_join(pa.ListArray.from_arrays(pa.array(ends), drawn), " ")
    names = pa.array(["docs", "code", "web", "books"])
    return pa.table({"text": text, "source": names.take(pa.array(draw.integers(0, 4, rows)))})


if __name__ == "__main__":
    sys.exit(main())
