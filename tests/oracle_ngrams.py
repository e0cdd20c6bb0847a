"""Slow, obvious twins of kernels/words.py and kernels/ngrams.py, each written from the formula of its source."""

from collections import Counter
from itertools import chain

TOP, DUPLICATE = range(2, 5), range(5, 11)


def byte_spans(text: str, words: list[str]) -> list[tuple[int, int]]:
    """First byte and end of each word, found from the left."""
    spans, at = [], 0
    for word in words:
        at = text.index(word, at)
        start = len(text[:at].encode())
        spans.append((start, start + len(word.encode())))
        at += len(word)
    return spans


def _tuples(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _length(words: tuple[str, ...] | list[str]) -> int:
    return sum(map(len, words))


def datatrove(text: str, words: list[str]) -> list[int]:
    """First most common n-gram, joined by spaces; then a greedy scan over n-grams joined by nothing."""
    counts = []
    for n in TOP:
        grams = Counter(" ".join(gram) for gram in _tuples(words, n))
        counts.append(max((len(gram) * times for gram, times in grams.most_common(1)), default=0))
    for n in DUPLICATE:
        met, total, at = set(), 0, 0
        while at + n <= len(words):
            gram = "".join(words[at : at + n])
            if gram in met:
                total += len(gram)
                at += n
            else:
                met.add(gram)
                at += 1
        counts.append(total)
    return [*counts, len(text), _length(words)]


def dclm(text: str, words: list[str]) -> list[int]:
    """Longest of the most common n-grams if repeated; then the words that any repeated n-gram covers."""
    counts = []
    for n in TOP:
        grams = Counter(_tuples(words, n))
        most = max(grams.values(), default=0)
        counts.append(most * max(_length(gram) for gram in grams if grams[gram] == most) if most > 1 else 0)
    for n in DUPLICATE:
        grams = Counter(_tuples(words, n))
        repeated = (range(i, i + n) for i, gram in enumerate(_tuples(words, n)) if grams[gram] > 1)
        counts.append(sum(len(words[i]) for i in set(chain.from_iterable(repeated))))
    return [*counts, len(text), _length(words)]


def dolma(text: str, words: list[str]) -> list[int]:
    """First most common n-gram, without spaces; then every place of every repeated n-gram."""
    counts = []
    for n in TOP:
        grams = Counter(_tuples(words, n))
        counts.append(max((_length(gram) * times for gram, times in grams.most_common(1)), default=0))
    for n in DUPLICATE:
        grams = Counter(_tuples(words, n))
        counts.append(sum(_length(gram) * times for gram, times in grams.items() if times > 1))
    return [*counts, len(text), _length(words)]


def totals(words: list[str]) -> list[int]:
    """Lengths of all n-grams, n = 5 ... 10."""
    return [sum(map(_length, _tuples(words, n))) for n in DUPLICATE]
