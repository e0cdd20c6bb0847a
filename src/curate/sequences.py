"""Texts on their way into a model and out of it: a few at a time as Python strings, and token ids flat in an array."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from curate.arrow import one, stretches, utf8

TOKENIZED, EMBEDDED = 1 << 20, 64 << 20
"""Bytes of text that are tokenized at once, and whose token ids are held at once."""


def slices(texts: pa.Array, size: int) -> Iterator[pa.Array]:
    """Slices of about `size` bytes, one text at least."""
    texts = one(texts)
    offsets, _ = utf8(texts)
    for start, stop in stretches(offsets, size):
        yield texts.slice(start, stop - start)


def pieces(texts: pa.Array, size: int) -> Iterator[list[str]]:
    """The same as Python strings, which live for one slice only; a null is an empty text."""
    for piece in slices(texts, size):
        yield piece.fill_null("").to_pylist()


def flat(each: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int64[n + 1] into the int32 values of all, and these."""
    offsets = np.zeros(len(each) + 1, np.int64)
    np.cumsum([len(ids) for ids in each], out=offsets[1:])
    return offsets, np.concatenate(each) if each else np.empty(0, np.int32)


def batches(lengths: np.ndarray, batch: int) -> Iterator[slice]:
    """Slices of sequences, ordered by length, that are of one length and have about `batch` tokens together."""
    borders = np.flatnonzero(np.diff(lengths, prepend=-1, append=-1))
    for first, last in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        step = max(1, batch // int(lengths[first]))
        yield from (slice(start, min(start + step, last)) for start in range(first, last, step))
