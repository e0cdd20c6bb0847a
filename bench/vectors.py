"""Unit vectors with a planted structure: topics, and in them groups of near copies whose cosines are known.

A topic is a direction; a document is it and noise, at a cosine of about 0.6 as sentence encoders give to documents of
one topic; sizes of topics fall as those of words do. A copy stands at a cosine drawn from 0.90 to 0.999 to the document
that it copies. The same seed gives the same vectors, block by block, whatever the machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

WIDTH = 384
BLOCK = 50_000
COSINES = (0.90, 0.999)


@dataclass(frozen=True)
class Planted:
    """`vectors` float32[n, d] of length 1; `topic` int64[n]; `copied` int64[n]: the row that a copy copies, else -1;
    `cosine` float64[n]: what was asked for, 0 where there is none."""

    vectors: np.ndarray
    topic: np.ndarray
    copied: np.ndarray
    cosine: np.ndarray


def planted(rows: int, *, topics: int, share: float = 0.3, width: int = WIDTH, seed: int = 0) -> Planted:
    """Vectors of which about `share` are copies of one of the same block."""
    blocks = list(made(rows, topics=topics, share=share, width=width, seed=seed))
    starts = np.cumsum([0, *(len(block.vectors) for block in blocks)])
    copied = [np.where(b.copied < 0, -1, b.copied + start) for b, start in zip(blocks, starts[:-1], strict=True)]
    joined = [np.concatenate([getattr(block, name) for block in blocks]) for name in ("vectors", "topic", "cosine")]
    return Planted(joined[0], joined[1], np.concatenate(copied), joined[2])


def made(rows: int, *, topics: int, share: float = 0.3, width: int = WIDTH, seed: int = 0) -> Iterator[Planted]:
    """The same, a block at a time, each with rows that count from 0."""
    random = np.random.default_rng(seed)
    middles = unit(random.standard_normal((topics, width), np.float32))
    chance = 1.0 / np.arange(10, topics + 10)
    chance /= chance.sum()
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        topic = random.choice(topics, count, p=chance)
        noise = unit(random.standard_normal((count, width), np.float32))
        vectors = unit(0.6 * middles[topic] + 0.8 * noise)
        copies = np.flatnonzero(random.random(count) < share)
        copies = copies[copies > 0]
        copied, cosine = np.full(count, -1), np.zeros(count)
        rest = np.setdiff1d(np.arange(count), copies)
        copied[copies] = rest[random.integers(0, len(rest), len(copies))]
        cosine[copies] = random.uniform(*COSINES, len(copies))
        first = vectors[copied[copies]]
        aside = noise[copies] - (noise[copies] * first).sum(axis=1, keepdims=True) * first
        near = cosine[copies, None].astype(np.float32)
        vectors[copies] = unit(near * first + np.sqrt(1 - near**2) * unit(aside))
        topic[copies] = topic[copied[copies]]
        yield Planted(vectors, topic, copied, cosine)


def unit(vectors: np.ndarray) -> np.ndarray:
    """At length 1."""
    long: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return long
