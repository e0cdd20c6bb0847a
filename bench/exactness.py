"""Every column of every family of signals against its slow, obvious definition, document by document, on real text.

The definitions are the tests' (`tests/oracle_*.py`, written from the published formulas with `str.split`, `Counter` and
regular expressions). Shares must be equal as float32, counts as they are. Takes a folder of parquet files with a column
`text`; one process for each file, `-j` at a time. A hundred megabytes take some twenty minutes of one core.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import oracle_clean
import oracles
import test_signals

from curate import signals


def quality(text: str) -> dict[str, float]:
    seen = oracles.signals(text)
    words, lines = max(seen["words"], 1), max(seen["lines"], 1)
    return {
        "lines": seen["lines"],
        "symbol_free_words": seen["symbol_free_words"],
        "stop_words": seen["stop_words"],
        "mean_word_length": seen["symbol_free_characters"] / max(seen["symbol_free_words"], 1),
        "hash_ratio": seen["hashes"] / words,
        "ellipsis_ratio": seen["ellipses"] / words,
        "bullet_line_ratio": seen["bullet_lines"] / lines,
        "ellipsis_line_ratio": seen["ellipsis_lines"] / lines,
        "alphabetic_word_ratio": seen["alphabetic_words"] / words,
    }


def refinedweb(text: str) -> dict[str, float]:
    left, counts = oracle_clean.refinedweb(text)
    words = oracle_clean.words(text)
    made = {name: count for name, count in counts.items() if name in signals.FAMILIES["refinedweb"]}
    return made | {"removed_word_ratio": (words - oracle_clean.words(left)) / max(words, 1)}


DEFINITIONS: dict[str, Callable[[str], dict[str, float]]] = {
    "quality": quality,
    **test_signals.ORACLES,
    "refinedweb": refinedweb,
}


def compare(file: Path) -> tuple[int, int, Counter[str], list[str]]:
    """Documents, values, differences by column, and the first few of them."""
    texts = pq.read_table(file, columns=["text"])["text"].drop_null().cast(pa.large_string()).combine_chunks()
    columns = signals.measure(texts, DEFINITIONS)  # type: ignore[arg-type]
    values, differing, first = 0, Counter[str](), list[str]()
    for row, text in enumerate(texts.to_pylist()):
        expected = {"characters": len(text), "words": len(text.split())}
        for define in DEFINITIONS.values():
            expected |= define(text)
        for name, value in expected.items():
            found = columns[name][row]
            values += 1
            if found != (np.float32(value) if columns[name].dtype == np.float32 else value):
                differing[name] += 1
                first.append(f"{file.name} row {row}: {name} is {found}, by definition {value}")
    return len(texts), values, differing, first[:5]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    options = parser.parse_args()
    files = sorted(options.folder.glob("*.parquet"))
    if not files:
        print(f"no parquet files in {options.folder}", file=sys.stderr)
        return 2
    documents = values = 0
    differing = Counter[str]()
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for file, (rows, compared, wrong, first) in zip(files, pool.map(compare, files), strict=True):
            documents, values, differing = documents + rows, values + compared, differing + wrong
            print(f"{file.name}: {rows:,} documents, {sum(wrong.values())} differences", flush=True)
            for line in first:
                print(f"  {line}")
    total = sum(differing.values())
    print(f"{documents:,} documents, {values:,} values of {len(DEFINITIONS)} families, {total} differ")
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
