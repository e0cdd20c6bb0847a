"""An interpolated model of word bigrams: how close held-out text is to some other text, in bits per word.

A word is a run without white space (`str.split()`), in lower case, known by 64 bits of XXH3-128. Probabilities are
those of interpolated absolute discounting (Chen and Goodman 1998, "An empirical study of smoothing techniques for
language modeling", TR-10-98, section 2.7; after Ney, Essen and Kneser 1994), with D = 0.75 in both orders:

    p(w | v) = max(c(v w) - D, 0) / c(v) + D n(v) / c(v) p(w)        p(w) where v was never seen
    p(w) = max(c(w) - D, 0) / N + D n / N / (V + 1)                  1 / (V + 1) where nothing was seen

c counts, n(v) is the number of different words behind v, n that of different words, N that of all, V the size of the
vocabulary. Words outside of it are one more word, the unknown; the first word of a document stands behind a mark that
nothing predicts. So p sums to 1 over V + 1 words behind whatever word.

The vocabulary is one for all models that are to be compared: with one of its own, a model of few words would call more
of the held-out words unknown, which are the cheapest to predict, and win by that.

Counts are sorted arrays, exact whatever the order and number of the pieces that they come in. The catch: a text without
spaces is few long words, nearly all unknown.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from curate.arrow import Column, stretches, utf8

DISCOUNT = 0.75
_BLOCK = 4 << 20
_HELD = 8_000_000  # counts held before those of several pieces are added up

Counts = tuple[np.ndarray, np.ndarray]
"""Keys in ascending order (of words uint64, of bigrams int64), each once, and how often each occurs, int64."""


@dataclass(frozen=True)
class Words:
    """The words of some texts: row r has `numbers[first[r] : first[r + 1]]`, each a place in `distinct`.

    first int64[n + 1], numbers int32[words], distinct uint64[different words] in ascending order.
    """

    first: np.ndarray
    numbers: np.ndarray
    distinct: np.ndarray

    def seen(self, rows: np.ndarray) -> np.ndarray:
        """How often each distinct word occurs in the rows bool[n], int64[different words]."""
        return np.bincount(self.numbers[self._of(rows)], minlength=len(self.distinct))

    def bigrams(self) -> np.ndarray:
        """Every word with the one before it, int64[words]: before * (different words + 1) + word."""
        from curate.kernels.bigrams import pair_words

        out = np.empty(len(self.numbers), np.int64)
        pair_words(self.first, self.numbers, len(self.distinct), out)
        return out

    def counted(self, bigrams: np.ndarray, rows: np.ndarray) -> Counts:
        """The counts of `bigrams` (of this object) in the rows bool[n]."""
        codes, counts = np.unique(bigrams[self._of(rows)], return_counts=True)
        return codes, counts.astype(np.int64)

    def _of(self, rows: np.ndarray) -> np.ndarray:
        return np.repeat(rows, np.diff(self.first))


def words_of(texts: Column) -> Words:
    """The words of a column of text, some megabytes at a time: 4 bytes stay for each word, 8 for each distinct one."""
    from curate.kernels.bigrams import number_words
    from curate.kernels.folds import fold
    from curate.kernels.passages import folded_keys
    from curate.kernels.words import whitespace_words

    offsets, data = utf8(texts)
    tables = fold("lower")
    sizes = np.zeros(len(offsets), np.int64)
    numbers, distinct = [np.empty(0, np.int32)], [np.empty(0, np.uint64)]
    for start, stop in stretches(offsets, _BLOCK):
        block = offsets[start : stop + 1]
        most = int(block[-1] - block[0]) + stop - start
        first, edges = np.empty(stop - start + 1, np.int64), np.empty(2 * most, np.int32)
        whitespace_words(block, data, tables.classes, first, edges)
        sizes[start + 1 : stop + 1] = np.diff(first)
        count = int(first[-1])
        spans = edges[: 2 * count].reshape(-1, 2) + np.repeat(block[:-1], np.diff(first))[:, None]
        keys = np.empty((count, 2), np.uint64)
        folded_keys(data, tables, spans, np.int64(0), keys, np.empty(count, np.bool_))
        found, out = np.empty(count, np.uint64), np.empty(count, np.int32)
        slots = np.full(1 << (2 * count).bit_length(), -1, np.int32)
        found = found[: number_words(np.ascontiguousarray(keys[:, 1]), slots, found, out)]
        numbers.append(out)
        distinct.append(found)
    every, place = np.unique(np.concatenate(distinct), return_inverse=True)
    ends = np.cumsum([len(one) for one in distinct])
    renumbered = [
        place[end - len(d) : end].astype(np.int32)[n] for n, d, end in zip(numbers, distinct, ends, strict=True)
    ]
    return Words(np.cumsum(sizes), np.concatenate(renumbered), every)


def added(pieces: Iterable[Counts]) -> Counts:
    """Counts of several pieces added up."""
    held: list[Counts] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece[0])
        if size > max(_HELD, 2 * len(held[0][0])):
            held = [_merged(held)]
            size = len(held[0][0])
    return _merged(held)


def vocabulary(pieces: Iterable[Counts]) -> np.ndarray:
    """Words uint64[V] in ascending order that occur twice or more in all pieces together."""
    words, counts = added(pieces)
    return words[counts > 1].astype(np.uint64)


def translated(counts: Counts, distinct: np.ndarray, vocabulary: np.ndarray) -> Counts:
    """Counts of `Words.counted`, whose distinct words are given, in the numbers of a vocabulary: V is the unknown word,
    V + 1 the mark before the first word, and a bigram is before * (V + 2) + word."""
    size, width = len(vocabulary), len(distinct) + 1
    place = np.full(width, size, np.int64)
    at = np.searchsorted(vocabulary, distinct)
    known = at < size
    known[known] = vocabulary[at[known]] == distinct[known]
    place[:-1][known] = at[known]
    place[-1] = size + 1
    codes = place[counts[0] // width] * (size + 2) + place[counts[0] % width]
    return _merged([(codes, counts[1])])


@dataclass(frozen=True)
class Model:
    """Bigrams counted over a vocabulary of `size` words: `codes` int64[m] ascending and their `counts` int64[m]; by
    word, `before` and `followers` float64[size + 2], how often it stands before another and before how many; `single`
    float64[size + 1], the probabilities p(w)."""

    size: int
    codes: np.ndarray
    counts: np.ndarray
    before: np.ndarray
    followers: np.ndarray
    single: np.ndarray

    @classmethod
    def of(cls, bigrams: Counts, size: int) -> "Model":
        """The model of counts in the numbers of a vocabulary of `size` words."""
        codes, counts = bigrams
        before, word = codes // (size + 2), codes % (size + 2)
        single = np.bincount(word, counts, size + 1)
        total = single.sum()
        if total:
            spread = DISCOUNT * np.count_nonzero(single) / (size + 1)
            single = (np.maximum(single - DISCOUNT, 0) + spread) / total
        else:
            single = np.full(size + 1, 1 / (size + 1))
        contexts = np.bincount(before, counts, size + 2), np.bincount(before, minlength=size + 2).astype(np.float64)
        return cls(size, codes, counts, *contexts, single)

    def probabilities(self, codes: np.ndarray) -> np.ndarray:
        """p(word | before) of bigrams int64[n], float64[n]."""
        before, word = codes // (self.size + 2), codes % (self.size + 2)
        count = np.zeros(len(codes))
        if len(self.codes):
            at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
            count = np.where(self.codes[at] == codes, self.counts[at], 0)
        times = self.before[before]
        behind = DISCOUNT * self.followers[before] * self.single[word]
        found: np.ndarray = np.divide(
            np.maximum(count - DISCOUNT, 0) + behind, times, out=self.single[word], where=times > 0
        )
        return found

    def bits(self, bigrams: Counts) -> float:
        """-log2 of the probability of all these bigrams, of which each has one above 0."""
        codes, counts = bigrams
        return float(-np.sum(np.log2(self.probabilities(codes)) * counts))


def _merged(pieces: list[Counts]) -> Counts:
    if not pieces:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    keys = np.concatenate([keys for keys, _ in pieces])
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], np.concatenate([counts for _, counts in pieces])[order]
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(keys)), bool), keys[1:] != keys[:-1]]))
    return keys[starts], np.add.reduceat(counts, starts) if len(starts) else counts
