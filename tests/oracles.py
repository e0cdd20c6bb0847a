"""Slow, obvious twins of the kernels. One section per kernel module."""

import numpy as np
import xxhash

from curate.kernels.text import IS_PUNCTUATION, code_point_classes

# ---------------------------------------------------------------- rows as kernels take them


def rows(texts: list[bytes], *, before: bytes = b"") -> tuple[np.ndarray, np.ndarray]:
    """Offsets int64[n + 1] and bytes uint8[...] of `texts`; the first row starts behind `before`."""
    sizes = np.array([len(before), *map(len, texts)], np.int64)
    return np.cumsum(sizes), np.frombuffer(before + b"".join(texts), np.uint8)


# ---------------------------------------------------------------- kernels/hash.py

WORD = 2**64


def xxh3_64(text: bytes, seed: int) -> int:
    """XXH3-64 by the reference library."""
    return xxhash.xxh3_64_intdigest(text, seed)


def xxh3_128(text: bytes) -> bytes:
    """XXH3-128 by the reference library, canonical bytes."""
    return xxhash.xxh3_128_digest(text)


def mix(a: int, b: int) -> int:
    """F(F(a + g) ^ F(b + 2g)) in unbounded integers, F the SplitMix64 finisher."""
    golden = 0x9E3779B97F4A7C15
    return _finish(_finish((a + golden) % WORD) ^ _finish((b + 2 * golden) % WORD))


def _finish(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB % WORD
    return x ^ x >> 31


# ---------------------------------------------------------------- kernels/text.py

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}


def signals(text: str) -> dict[str, int]:
    """The counts of one text, each from its definition."""
    words, lines = text.split(), text.splitlines()
    symbol_free = [word for word in words if not all(map(_is_punctuation, word))]
    return {
        "characters": len(text),
        "words": len(words),
        "word_characters": sum(map(len, words)),
        "alphabetic_words": sum(any(map(str.isalpha, word)) for word in words),
        "symbol_free_words": len(symbol_free),
        "symbol_free_characters": sum(map(len, symbol_free)),
        "lines": len(lines),
        "bullet_lines": sum(line.lstrip().startswith(("\u2022", "-")) for line in lines),
        "ellipsis_lines": sum(line.rstrip().endswith(("...", "\u2026")) for line in lines),
        "hashes": text.count("#"),
        "ellipses": text.count("...") + text.count("\u2026"),
        "stop_words": len(STOP_WORDS.intersection(words)),
    }


def _is_punctuation(character: str) -> bool:
    return bool(code_point_classes()[ord(character)] & IS_PUNCTUATION)


# ---------------------------------------------------------------- kernels/pack.py


def packed_slowly(lengths: list[int], window: int) -> tuple[list[int], list[int], int]:
    """Best-fit decreasing, looking at every window for every piece: window of piece, start, windows."""
    window_of, start_of = [0] * len(lengths), [0] * len(lengths)
    left: list[int] = []
    since: list[int] = []
    for turn, piece in enumerate(sorted(range(len(lengths)), key=lambda piece: (-lengths[piece], piece))):
        sufficient = [w for w in range(len(left)) if left[w] >= lengths[piece]]
        if sufficient:
            chosen = min(sufficient, key=lambda w: (left[w], since[w]))
        else:
            chosen = len(left)
            left.append(window)
            since.append(turn)
        window_of[piece], start_of[piece] = chosen, window - left[chosen]
        left[chosen] -= lengths[piece]
        since[chosen] = turn
    return window_of, start_of, len(left)


def fewest_windows(lengths: list[int], window: int) -> int:
    """The optimum, by trying every open window and a new one for every piece (eight or so at most)."""

    def best(rest: list[int], left: tuple[int, ...]) -> int:
        if not rest:
            return len(left)
        piece, after = rest[0], rest[1:]
        ways = {tuple(sorted((*left, window - piece)))}
        for w, space in enumerate(left):
            if space >= piece:
                ways.add(tuple(sorted((*left[:w], space - piece, *left[w + 1 :]))))
        return min(best(after, way) for way in ways)

    return best(sorted(lengths, reverse=True), ())


# --- kernels/copies.py ---


def first_copies_slowly(digests: list[tuple[int, int]]) -> list[int]:
    """For each digest the index of the first that equals it, by a dictionary."""
    seen: dict[tuple[int, int], int] = {}
    return [seen.setdefault(digest, index) for index, digest in enumerate(digests)]


# --- kernels/vocabulary.py ---


def folded_words(text: str) -> list[str]:
    """Runs of letters, marks and numbers in lower case; a character of a script without spaces stands alone."""
    from curate.kernels.shingles import folds

    table, words, opened = folds(), [], False
    for character in text:
        code = int(table[ord(character)])
        if code > 0 and opened:
            words[-1] += chr(code)
        elif code:
            words.append(chr(abs(code)))
        opened = code > 0
    return words


# --- kernels/substring.py ---


def longest_common_slowly(one: bytes, other: bytes) -> int:
    """Length of the longest string of bytes in both, by the table of all pairs of places."""
    best, before = 0, [0] * (len(other) + 1)
    for byte in one:
        row = [0]
        for place, against in enumerate(other):
            row.append(before[place] + 1 if byte == against else 0)
        best, before = max(best, *row), row
    return best


# --- kernels/overlaps.py ---


def shared_ngrams_slowly(source: list[str], words: list[str], ngram: int) -> list[int]:
    """N-grams of `words`, and how many of them are in `source`."""
    has = {tuple(source[at : at + ngram]) for at in range(len(source) - ngram + 1)}
    grams = [tuple(words[at : at + ngram]) for at in range(len(words) - ngram + 1)]
    return [len(grams), sum(gram in has for gram in grams)]


def tail_slowly(words: list[str], times: int) -> int:
    """The longest end of a list in which each word equals the one a period before it, `times` periods or more."""
    best = 0
    for size in range(1, len(words) + 1):
        end = words[-size:]
        for period in range(1, size // times + 1):
            if all(end[at] == end[at - period] for at in range(period, size)):
                best = size
    return best


def longest_common_subsequence_slowly(one: list[str], other: list[str]) -> int:
    """Words that stand in both lists in one order, the most that there are."""
    if not one or not other:
        return 0
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, word in enumerate(one):
        for j, against in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if word == against else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


# --- kernels/diversity.py ---


def mtld_slowly(words: list[str]) -> float:
    """Mean length in words of stretches that keep a share of distinct words above 0.72, both ways."""

    def one_way(words: list[str]) -> float:
        factors, stretch = 0.0, []
        for word in words:
            stretch.append(word)
            if len(set(stretch)) / len(stretch) <= 0.72:
                factors, stretch = factors + 1, []
        if stretch:
            factors += (1 - len(set(stretch)) / len(stretch)) / (1 - 0.72)
        return len(words) / factors if factors else float(len(words))

    return (one_way(words) + one_way(words[::-1])) / 2


def moving_share_slowly(words: list[str], window: int) -> float:
    """Mean share of distinct words over all windows."""
    size = min(window, len(words))
    runs = [words[at : at + size] for at in range(len(words) - size + 1)]
    return sum(len(set(run)) / size for run in runs) / len(runs) if words else 0.0
