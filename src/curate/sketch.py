"""How texts are sketched: shingles, sets of them, MinHash signatures, keys of bands.

Two texts whose sets of shingles have the Jaccard similarity s agree in one number of their signatures with chance s,
in all rows of a band with s^rows, and in some band with 1 - (1 - s^rows)^bands: the S-curve. A setting is that curve,
and nothing that is not near it can be asked of it.

The rule of words is that of `kernels/shingles.py`; permutations are those of datasketch 2.0 (`affine32`), so our
signatures work in its indexes. Signatures and keys are worked out for some rows at a time: besides what is given back,
memory is that of the longest text.
"""

import functools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.arrow import Column, stretches, utf8
from curate.errors import RecipeError

VERSION = 1
"""Of the rule of words and of all hashes: sketches of two versions are not compared. Another number where any text gets
other values."""

POINTS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
"""Similarities at which a curve is told."""
MOST = 1 << 16
"""Values of a signature, and units to a shingle: RefinedWeb has 9,000 values, and no paper more."""
BYTES_AT_ONCE, VALUES_AT_ONCE = 1 << 19, 1 << 20
"""Bytes of text and values of signatures that are worked on together: what stays in a processor's cache."""

Rows = tuple[NDArray[np.int64], NDArray[np.uint32]]


@dataclass(frozen=True)
class Sketch:
    """A setting. All of it decides the values.

    `bands` and `rows` of the signature, `ngram` words or characters (`unit`) to a shingle, `seed` of datasketch's
    permutations. The default is FineWeb's (Penedo et al. 2024, section 3.4). A text with fewer than `ngram` units has
    no shingles and is like no other.
    """

    bands: int = 14
    rows: int = 8
    ngram: int = 5
    unit: Literal["words", "characters"] = "words"
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("bands", "rows", "ngram"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
                raise RecipeError(f"{name} is {value!r}; it must be a whole number from 1 to {MOST:,}")
        if self.hashes > MOST:
            made = f"{self.bands} bands of {self.rows} rows are {self.hashes:,} values"
            raise RecipeError(f"{made}; at most {MOST:,} can be")
        if self.unit not in ("words", "characters"):
            raise RecipeError(f"unit is {self.unit!r}; it must be words or characters")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 1 << 32:
            raise RecipeError(f"seed is {self.seed!r}; it must be a whole number from 0 to 4294967295")

    @property
    def hashes(self) -> int:
        """Values of a signature."""
        return self.bands * self.rows

    def shingles(self, column: Column) -> Rows:
        """Hashes of each text's shingles, in order, repeats included: first int64[n + 1] and uint32[...]."""
        return self._shingles(*utf8(column))

    def sets(self, column: Column) -> Rows:
        """Hashes of each text's shingles, ascending, each once: first int64[n + 1] and uint32[...]."""
        from curate.kernels.distinct import sort_distinct

        first, shingles = self.shingles(column)
        set_first, values = np.empty_like(first), np.empty_like(shingles)
        sort_distinct(first, shingles, set_first, values)
        return set_first, values[: set_first[-1]]

    def signatures(self, column: Column) -> NDArray[np.uint32]:
        """MinHash signatures uint32[n, hashes], 0xFFFFFFFF throughout for a text without shingles."""
        out = np.empty((len(column), self.hashes), np.uint32)
        for start, stop, first, shingles in self._parts(column):
            self._sign(first, shingles, out[start:stop])
        return out

    def keys(self, column: Column) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Keys of the bands, uint64[n, bands], and which texts have shingles, bool[n]; other keys mean nothing.

        Two texts with shingles share the key of a band where they share its values; keys of two bands differ.
        """
        from curate.kernels.minhash import band_keys

        out = np.empty((len(column), self.bands), np.uint64)
        alike = np.empty(len(column), np.bool_)
        for start, stop, first, shingles in self._parts(column):
            signatures = np.empty((stop - start, self.hashes), np.uint32)
            self._sign(first, shingles, signatures)
            band_keys(signatures, out[start:stop])
            alike[start:stop] = first[1:] > first[:-1]
        return out, alike

    def signed(self, first: NDArray[np.int64], shingles: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Signatures of texts whose shingles, or sets of them, are known: row i has first[i] to first[i + 1]."""
        out = np.empty((len(first) - 1, self.hashes), np.uint32)
        self._sign(first, shingles, out)
        return out

    def probability(self, jaccard: Any) -> Any:
        """The chance that a pair of this similarity, or of each of an array, shares a band."""
        return 1 - (1 - jaccard**self.rows) ** self.bands

    def curve(self) -> dict[str, float]:
        """`probability` at some similarities, by their names."""
        return {f"{point:g}": float(self.probability(point)) for point in POINTS}

    def identity(self) -> dict[str, Any]:
        """All that decides the values, for comparison with another sketch."""
        return {**asdict(self), "version": VERSION}

    def _parts(self, column: Column) -> Iterator[tuple[int, int, NDArray[np.int64], NDArray[np.uint32]]]:
        """Rows `start` to `stop` with their shingles, some rows at a time."""
        most = max(1, VALUES_AT_ONCE // self.hashes)
        base = 0
        # One chunk after the other: to have them as one array would copy the text.
        for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
            offsets, data = utf8(chunk)
            for start, stop in stretches(offsets, BYTES_AT_ONCE, most):
                yield base + start, base + stop, *self._shingles(offsets[start : stop + 1], data)
            base += len(chunk)

    def _shingles(self, offsets: NDArray[np.int64], data: NDArray[np.uint8]) -> Rows:
        from curate.kernels import shingles as kernels

        first = np.empty(len(offsets), np.int64)
        size = int(offsets[-1] - offsets[0])
        if self.unit == "words":
            out = np.empty(size // 2 + len(offsets), np.uint32)
            kernels.word_shingles(offsets, data, kernels.folds(), self.ngram, first, out)
        else:
            out = np.empty(size, np.uint32)
            kernels.character_shingles(offsets, data, kernels.folds(), self.ngram, first, out)
        return first, out[: first[-1]]

    def _sign(self, first: NDArray[np.int64], shingles: NDArray[np.uint32], out: NDArray[np.uint32]) -> None:
        from curate.kernels.minhash import sign

        sign(first, shingles, *_permutations(self.hashes, self.seed), out)


# FineWeb: Penedo et al. 2024 (arXiv 2406.17557), section 3.4. DCLM: Li et al. 2024 (arXiv 2406.11794), appendix L.
# RefinedWeb: Penedo et al. 2023 (arXiv 2306.01116), as Lee et al. 2021 (arXiv 2107.06499), appendix A. The Stack v2:
# Lozhkov et al. 2024 (arXiv 2402.19173): 250 hashes, threshold 0.7, 5-grams. SlimPajama: 13-grams, threshold 0.8 with
# 128 hashes, for which datasketch takes 9 bands of 13 rows.
PRESETS: dict[str, Sketch] = {
    "fineweb": Sketch(bands=14, rows=8),
    "dclm": Sketch(bands=93, rows=15),
    "refinedweb": Sketch(bands=450, rows=20),
    "starcoder2": Sketch(bands=25, rows=10),
    "slimpajama": Sketch(bands=9, rows=13, ngram=13),
}


def optimal(threshold: float, hashes: int) -> tuple[int, int]:
    """Bands and rows, at most `hashes` values, whose curve is nearest to a step at `threshold`.

    The half of the area below the curve before the threshold and above it behind it is least: datasketch's choice
    (`MinHashLSH(threshold, num_perm)`, weights 0.5 and 0.5). Of equals the one with fewest bands, then rows.
    """
    if not 0 < threshold < 1:
        raise RecipeError(f"threshold is {threshold!r}; it must lie between 0 and 1")
    if isinstance(hashes, bool) or not isinstance(hashes, int) or not 1 <= hashes <= MOST:
        raise RecipeError(f"hashes is {hashes!r}; it must be a whole number from 1 to {MOST:,}")
    nodes, weights = np.polynomial.legendre.leggauss(128)
    nodes, weights = (nodes + 1) / 2, weights / 2
    below, above = threshold * nodes, threshold + (1 - threshold) * nodes
    best = (np.inf, 1, 1)
    for rows in range(1, hashes + 1):
        bands = np.arange(1, hashes // rows + 1)
        missed_below, missed_above = (np.log1p(-(at**rows)) for at in (below, above))
        false = threshold * ((1 - np.exp(np.outer(bands, missed_below))) @ weights)
        lost = (1 - threshold) * (np.exp(np.outer(bands, missed_above)) @ weights)
        errors = (false + lost) / 2
        place = int(np.argmin(errors))
        best = min(best, (float(errors[place]), int(bands[place]), rows))
    return best[1], best[2]


@functools.cache
def _permutations(hashes: int, seed: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """datasketch's constants, by its own hands, padded for the kernel."""
    from datasketch import MinHash

    from curate.kernels.minhash import padded

    a, b = MinHash(hashes, seed, scheme="affine32").permutations
    return padded(a), padded(b)
