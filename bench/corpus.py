"""Text for the benches: pieces of the demo corpus, shuffled into documents of the lengths that web pages have.

Real sentences keep words, bytes and compression honest; shuffling them makes as many different documents as a bench
wants from the few megabytes that every machine has. Seeded: one machine gives the same documents each time. The
catch: words repeat more than in a crawl, which helps whoever caches them.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
RUN = (2, 12)  # pieces that follow each other in a paragraph: at least, and below
_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_PLAIN = re.compile(r"[A-Z\"'(][^`=<>{}\[\]|\\@#*_~^$%+/:]{30,400}[.!?]")


@dataclass(frozen=True)
class Copied:
    """How many documents are copies of an earlier one, of how many of those, and how far a copy is changed.

    `edits`: the share of changed words lies evenly between these two; none: copies are exact. What a copy is drawn
    from are documents of `remembered` places, so copies lie about as many documents apart.
    """

    share: float = COPIES
    remembered: int = REMEMBERED
    edits: tuple[float, float] | None = None


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


def documents(
    pieces: Pieces,
    *,
    megabytes: float,
    seed: int,
    run: tuple[int, int] = RUN,
    copied: Copied | None = None,
) -> Iterator[bytes]:
    """Documents of UTF-8 until `megabytes` (10^6 bytes) are reached, some of them copies as `copied` says.

    Paragraphs are runs of neighbouring pieces, so two short documents may be alike by chance, the more the longer a
    corpus is. Runs of one piece, (1, 2), avoid that: what is alike then was copied.
    """
    how = copied or Copied()
    draw = np.random.default_rng(seed)
    earlier: list[bytes] = []
    left = int(megabytes * 1_000_000)
    while left > 0:
        lengths = np.exp(draw.normal(np.log(MEDIAN), SPREAD, 1_000)).clip(SHORTEST, LONGEST).astype(int).tolist()
        again = (draw.random(1_000) < how.share).tolist()
        places = draw.integers(0, how.remembered, 1_000).tolist()
        for length, copy, place in zip(lengths, again, places, strict=True):
            if copy and len(earlier) == how.remembered:
                document = edited(earlier[place], how.edits, draw) if how.edits else earlier[place]
            else:
                document = _shuffled(pieces, length, draw, run)
                if len(earlier) < how.remembered:
                    earlier.append(document)
                else:
                    earlier[place] = document
            yield document
            left -= len(document)
            if left <= 0:
                return


def _shuffled(pieces: Pieces, length: int, draw: np.random.Generator, run: tuple[int, int]) -> bytes:
    """Paragraphs, each a run of neighbouring pieces from a random place; about `length` bytes."""
    parts, size = [], 0
    # Enough even of short pieces: of 31 bytes and more, where a run of the default length has 200 and more.
    count = length * (RUN[0] + RUN[1] - 1) // (200 * (run[0] + run[1] - 1)) + 8
    places = draw.integers(0, len(pieces.starts) - 16, count).tolist()
    runs = draw.integers(*run, count).tolist()
    for place, many in zip(places, runs, strict=True):
        part = pieces.data[pieces.starts[place] : pieces.starts[place + many]].rstrip()
        parts.append(part)
        size += len(part)
        if size >= length:
            break
    return b"\n".join(parts)


def edited(document: bytes, edits: tuple[float, float], draw: np.random.Generator) -> bytes:
    """A copy with a share of its words changed: six of ten replaced, two dropped, two with a word before them."""
    words = document.split(b" ")
    places = np.flatnonzero(draw.random(len(words)) < draw.uniform(*edits)).tolist()
    others, kinds = draw.integers(0, len(words), len(places)).tolist(), draw.random(len(places)).tolist()
    made = list(words)
    for place, other, kind in zip(places, others, kinds, strict=True):
        if kind < 0.6:
            made[place] = words[other]
        else:
            made[place] = b"" if kind < 0.8 else b"%b %b" % (words[other], words[place])
    return b" ".join(made)


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
