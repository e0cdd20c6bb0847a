"""Text for the benches: pieces of the demo corpus, shuffled into documents of the lengths that web pages have.

Real sentences keep words, bytes and compression honest; shuffling them makes as many different documents as a bench
wants from the few megabytes that every machine has. Seeded: one machine gives the same documents each time. The
catch: words repeat more than in a crawl, which helps whoever caches them.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.demo import write_corpus

COPIES = 0.1  # share of documents that are exact copies of an earlier one
REMEMBERED = 2_000  # earlier documents that a copy is drawn from: copies lie thousands of documents apart
# exp of a normal variable: half of the documents are below 1.6 kB, the mean is 3 kB, as in English web pages after
# extraction (FineWeb's 10-billion-token sample has 14.9 million documents, near 690 tokens or 3 kB each).
MEDIAN, SPREAD, SHORTEST, LONGEST = 1_600, 1.12, 200, 100_000
_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_PLAIN = re.compile(r"[A-Z\"'(][^`=<>{}\[\]|\\@#*_~^$%+/:]{30,400}[.!?]")


class Pieces:
    """Pieces of text as one string of bytes, each ending in white space, and where each begins."""

    def __init__(self, pieces: Iterable[str]) -> None:
        ends = [piece.encode() for piece in pieces]
        self.data = b"".join(ends)
        self.starts = [0, *itertools.accumulate(map(len, ends))]


def sentences(texts: Iterable[str]) -> Pieces:
    """English sentences, each once: without code and markup, since rules of quality describe prose."""
    found: dict[str, None] = {}
    for text in texts:
        for paragraph in _PARAGRAPH.split(text):
            for sentence in _SENTENCE.split(" ".join(paragraph.split())):
                if _PLAIN.fullmatch(sentence):
                    found[sentence] = None
    return Pieces(f"{sentence} " for sentence in found)


def lines(texts: Iterable[str]) -> Pieces:
    """All lines, as they are."""
    return Pieces(line for text in texts for line in f"{text}\n".splitlines(keepends=True))


def demo_texts(folder: str, *, megabytes: int) -> dict[str, list[str]]:
    """Write the demo corpus below `folder` and return its texts by source; the tokenizer stays there."""
    import orjson
    import zstandard

    write_corpus(folder, megabytes=megabytes)
    texts: dict[str, list[str]] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.name.endswith(".jsonl.zst"):
            lines = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True).readall()
            found = [orjson.loads(line)["text"] for line in lines.splitlines()]
        elif path.name.endswith(".parquet"):
            found = pq.read_table(path, columns=["text"])["text"].to_pylist()
        else:
            continue
        texts.setdefault(path.name.split("-")[0], []).extend(found)
    return texts


def documents(pieces: Pieces, *, megabytes: float, seed: int) -> Iterator[bytes]:
    """Documents of UTF-8 until `megabytes` (10^6 bytes) are reached, `COPIES` of them exact copies."""
    draw = np.random.default_rng(seed)
    earlier: list[bytes] = []
    left = int(megabytes * 1_000_000)
    while left > 0:
        lengths = np.exp(draw.normal(np.log(MEDIAN), SPREAD, 1_000)).clip(SHORTEST, LONGEST).astype(int).tolist()
        copied, places = (draw.random(1_000) < COPIES).tolist(), draw.integers(0, REMEMBERED, 1_000).tolist()
        for length, copy, place in zip(lengths, copied, places, strict=True):
            if copy and len(earlier) == REMEMBERED:
                document = earlier[place]
            else:
                document = _shuffled(pieces, length, draw)
                if len(earlier) < REMEMBERED:
                    earlier.append(document)
                else:
                    earlier[place] = document
            yield document
            left -= len(document)
            if left <= 0:
                return


def _shuffled(pieces: Pieces, length: int, draw: np.random.Generator) -> bytes:
    """Paragraphs, each a run of neighbouring pieces from a random place; about `length` bytes."""
    parts, size = [], 0
    count = length // 200 + 8
    places = draw.integers(0, len(pieces.starts) - 16, count).tolist()
    runs = draw.integers(2, 12, count).tolist()
    for place, run in zip(places, runs, strict=True):
        part = pieces.data[pieces.starts[place] : pieces.starts[place + run]].rstrip()
        parts.append(part)
        size += len(part)
        if size >= length:
            break
    return b"\n".join(parts)


def write_parquet(path: Path, texts: Iterable[bytes], *, columns: dict[str, Any] | None = None) -> None:
    """A parquet file of `id` and `text` (and constant `columns`), 8,192 documents per row group, zstd."""
    extra = columns or {}
    schema = pa.schema({"id": pa.string(), "text": pa.string(), **{name: pa.string() for name in extra}})
    stream, first = iter(texts), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(itertools.islice(stream, 8_192)):
            ids = pa.array([f"document-{first + i:09d}" for i in range(len(batch))])
            constant = [pa.repeat(pa.scalar(value, pa.string()), len(batch)) for value in extra.values()]
            table = pa.table([ids, pa.array(batch, pa.binary()).cast(pa.string()), *constant], schema=schema)
            writer.write_table(table)
            first += len(batch)
