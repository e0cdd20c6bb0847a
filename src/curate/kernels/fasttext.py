"""What a fastText classifier says of every row: the likeliest label and its score, as the library's `predict`.

The library hashes every n-gram of every word from scratch, looks it up in a map and decodes its vector. Here the sum
of a word's vectors is kept for the words met last (most words of a text were met before), so a word costs a hash of
its bytes, one comparison and one addition of vectors. For the others, hits of all n-grams are collected without a
branch (a bitmap of buckets with ranks tells the row) and summed in registers.

The catch: sums are taken per word and then in double precision, so scores differ from the library's, which adds all
in single precision from left to right, in the sixth digit; a document of megabytes may differ in the fourth, and
there it is the library that is off.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from curate.kernels.bits import BLOCK, count, fill_block, load64, lowest, product, within
from curate.kernels.vectors import descend, inner, largest, sum_rows

Int64: TypeAlias = Any
Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
UInt64s = NDArray[np.uint64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bytes = NDArray[np.uint8]

ZERO, ONE, LOW = np.uint64(0), np.uint64(1), np.uint64(0xFFFFFFFF)
FNV_BASIS, FNV_PRIME = np.uint64(2166136261), np.uint64(16777619)
WORD_NGRAM_PRIME = np.uint64(116049371)
# Odd numbers without a pattern, for the place of a word among the remembered.
STIR_1, STIR_2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
STIR_3, STIR_4 = np.uint64(0x165667B19E3779F9), np.uint64(0x27D4EB2F165667C5)
HIERARCHICAL = 1
END = b"</s>"
END_WORD = np.frombuffer(END, np.uint8)
END_BYTES = np.uint64(int.from_bytes(END, "little"))
PREFIX = np.frombuffer(b"__label__", np.uint8)

DIVISION = np.uint64(0xFFFFFFFFFFFFFFFF)
"""Divided by d, plus 1: the number whose products tell remainders by d (Lemire, Kaser, Kurz 2019)."""
LEADING = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)

KEY = 32
"""Bytes of the longest word that is remembered."""
NO_WORD, LABEL = -1, -2
MEMORY_BYTES = 4 << 20
HELD = 256
COUNT, HASH, FIELDS = 4, 5, 6
"""Behind the four numbers of a remembered word's bytes."""
HASHED, FIRST, SIZE = range(3)
"""Columns of the entries of the dictionary."""
WORDS, PRUNED, MINN, MAXN, WORD_NGRAMS, BUCKET, LOSS, END_ENTRY = range(8)
"""Places in the numbers of a model."""


class Tables(NamedTuple):
    """A model as the kernel reads it.

    `places` is a hash table with open places over words and labels: an entry or -1. An entry is, in `entries`, its
    hash, its first byte in `letters` and its size; those up to `facts[WORDS]` are words. `kept` has for 64 buckets
    each the mask of those that have a row and the number of rows before. `facts` holds the numbers named above.
    """

    places: Int32s
    entries: Int64s
    letters: Bytes
    kept: UInt64s
    rows: Floats
    output: Floats
    tree: Int32s
    sigmoids: Floats
    facts: Int64s


def tables(model: Any) -> Tables:
    """A `curate.fasttext.Model` as tables."""
    words = (*model.words, *model.label_tokens)
    entries = np.zeros((len(words), 3), np.int64)
    entries[:, SIZE] = [len(word) for word in words]
    entries[1:, FIRST] = np.cumsum(entries[:-1, SIZE])
    letters = np.frombuffer(b"".join(words) or b"\0", np.uint8)
    places = np.full(1 << max(4, (2 * len(words)).bit_length()), -1, np.int32)
    _enter(letters, entries, places)
    kept = np.zeros((1, 2), np.uint64)
    if model.kept is not None:
        kept = np.zeros((model.bucket // 64 + 1, 2), np.uint64)
        np.bitwise_or.at(kept[:, 0], model.kept >> 6, ONE << (model.kept & 63).astype(np.uint64))
        kept[1:, 1] = np.cumsum(np.bitwise_count(kept[:-1, 0]))
    # The library reads the logistic function from a table of 512 steps between -8 and 8.
    steps = np.arange(513, dtype=np.float32) * np.float32(16) / np.float32(512) - np.float32(8)
    end = model.words.index(END) if END in model.words else -1
    facts = [len(model.words), model.kept is not None, max(1, model.minn), max(0, model.maxn)]
    facts += [max(1, model.word_ngrams), model.bucket, model.loss, end]
    return Tables(
        places,
        entries,
        letters,
        kept,
        _fixed(model.rows),
        _fixed(model.output if model.loss == HIERARCHICAL else model.output.T),
        np.zeros((2, 0), np.int32) if model.tree is None else model.tree,
        (1 / (1 + np.exp(-steps))).astype(np.float32),
        np.array(facts, np.int64),
    )


def _fixed(array: Floats) -> Floats:
    """A view that nobody writes to: Numba compiles again for arrays that may be written to."""
    view = np.ascontiguousarray(array).view()
    view.setflags(write=False)
    return view


@njit(cache=True, nogil=True)
def identify(starts: Int64s, ends: Int64s, data: Bytes, model: Tables, labels: Int32s, scores: Floats) -> None:
    """The likeliest label of every row and its score; -1 and 0 where there is none (no word, or none known).

    Row i is data[starts[i] : ends[i]], valid UTF-8; labels int32[n], scores float32[n], which may exceed 1 by some
    1e-5 a level of the tree, as the library's do. Equal to the library's `predict(text, k=1)` with line breaks
    replaced by spaces: words are parted by space, tab, line breaks, \\v, \\f and NUL; a word `</s>` ends the text;
    words that begin with `__label__` say nothing.
    """
    means = np.empty((len(labels), model.rows.shape[1]), np.float32)
    _average(starts, ends, data, model, means, labels)
    if model.facts[LOSS] == HIERARCHICAL:
        descend(means, model.output, model.tree, labels, scores)
    else:
        largest(means, model.output, model.sigmoids, model.facts[LOSS], labels, scores)


@njit(cache=True, nogil=True)
def _average(starts: Int64s, ends: Int64s, data: Bytes, model: Tables, means: Floats, labels: Int32s) -> None:
    """The mean of the vectors of every row, float32[n, dim], and label 0; -1 for a row that has none."""
    # Arrays are taken out of the tuple once and handed on one by one: each look into a tuple counts references.
    places, entries, letters, kept, rows, _, _, _, facts = model
    width = rows.shape[1]
    base = (width + 1) // 2
    memory = _memory(base, starts, ends)
    sums, shift = memory.view(np.float32), 64 - lowest(np.uint64(len(memory)))
    word, block = np.empty(_longest(starts, ends) + 2, np.uint8), np.empty(BLOCK, np.uint8)
    held, open = np.empty(HELD + 1, np.int32), np.zeros(facts[WORD_NGRAMS], np.uint64)
    total, sum = np.empty(width, np.float64), np.empty(width, np.float32)
    for row in range(len(labels)):
        total[:] = 0.0
        vectors, words, opened, waiting, first, behind, ended = 0, 0, 0, 0, -1, ZERO, False
        # A row of full blocks gets an empty one more, so a space always follows the last word.
        for position in range(starts[row], ends[row] + 1, BLOCK):
            solid = ~_spaces(data, position, ends[row], block)
            behind |= solid << ONE
            begins, stops = solid & ~behind, ~solid & behind
            behind = solid >> np.uint64(63)
            while stops != ZERO:
                if first < 0:
                    first = position + lowest(begins)
                    begins &= begins - ONE
                size = position + lowest(stops) - first
                stops &= stops - ONE
                a, b, c, d = _key(data, first, size)
                words += 1
                if size == len(END) and a == END_BYTES:
                    ended = True
                    break
                at = _place(a, b, c, d, shift)
                if size > KEY or _differs(memory, at, base, a, b, c, d):
                    # The sums of words wait in `held` until one is written over; they are added in their order.
                    sum_rows(total, sums, held, waiting)
                    waiting = 0
                    hash = _fnv(data, first, size)
                    entry = _entry(data, first, size, hash, places, entries, letters)
                    added: Int64 = _vectors(data, first, size, entry, facts, kept, rows, word, held, sum)
                    _remember(sums, at, sum)
                    memory[at, base], memory[at, base + 1], memory[at, base + 2], memory[at, base + 3] = a, b, c, d
                    memory[at, base + COUNT], memory[at, base + HASH] = np.uint64(added), hash
                first = -1
                known: Int64 = np.int64(memory[at, base + COUNT])
                if known == NO_WORD:
                    continue
                held[waiting] = at
                waiting += 1
                vectors += known
                if waiting == HELD or len(open) > 1:
                    sum_rows(total, sums, held, waiting)
                    waiting = 0
                if len(open) > 1:
                    vectors += _chain(memory[at, base + HASH], opened, facts, kept, rows, open, held, total)
                    opened += 1
            if ended:
                break
            if begins != ZERO:
                first = position + lowest(begins)
        sum_rows(total, sums, held, waiting)
        vectors += _end(opened, facts, kept, rows, open, held, total)
        labels[row] = 0 if words > 0 and vectors > 0 else -1
        for column in range(width):
            means[row, column] = total[column] / max(1, vectors)


@njit(cache=True, nogil=True)
def _longest(starts: Int64s, ends: Int64s) -> Int64:
    longest: Int64 = 0
    for row in range(len(starts)):
        longest = max(longest, ends[row] - starts[row])
    return longest


@njit(cache=True, nogil=True)
def _memory(base: Int64, starts: Int64s, ends: Int64s) -> UInt64s:
    """An empty memory of words, no larger than the text is worth: a power of two of places.

    A place holds, as uint64, the sum of the word's vectors (float32, in `base` numbers), its bytes, the number of its
    vectors (NO_WORD for a label), and its hash.
    """
    width = (base + FIELDS + 7) // 8 * 8
    size: Int64 = 0
    for row in range(len(starts)):
        size += ends[row] - starts[row]
    places = 16
    while 2 * places <= min(MEMORY_BYTES // (8 * width), size // 4):
        places *= 2
    return np.zeros((places, width), np.uint64)


@inner
def _place(a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64, shift: Int64) -> Int64:
    """The place in memory for a word of these bytes."""
    stirred = (a * STIR_1) ^ (b * STIR_2) ^ (c * STIR_3) ^ (d * STIR_4)
    return np.int64(((stirred ^ (stirred >> np.uint64(32))) * STIR_1) >> np.uint64(shift))


@inner
def _differs(memory: UInt64s, at: Int64, base: Int64, a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64) -> Any:
    """True if another word is remembered there. No word is empty or holds a NUL, so none that fits has four zeros,
    which long ones leave behind and which a new place has."""
    found = (memory[at, base] ^ a) | (memory[at, base + 1] ^ b) | (memory[at, base + 2] ^ c)
    return (found | (memory[at, base + 3] ^ d)) != ZERO


@inner
def _remember(sums: Floats, at: Int64, sum: Floats) -> None:
    for column in range(len(sum)):
        sums[at, column] = sum[column]


@inner
def _spaces(data: Bytes, position: Int64, end: Int64, block: Bytes) -> np.uint64:
    """Mask of what parts words in the 64 bytes from `position`; behind `end` all does."""
    if position + BLOCK <= end:
        fill_block(block, data, position)
    else:
        block[:] = 32
        for i in range(end - position):
            block[i] = data[position + i]
    return within(block, 32, 1, 0) | within(block, 9, 5, 0) | within(block, 0, 1, 0)


@inner
def _key(data: Bytes, start: Int64, size: Int64) -> Any:
    """Up to 32 bytes as four numbers, zeros behind them; of more bytes, four zeros."""
    if size > KEY:
        return ZERO, ZERO, ZERO, ZERO
    if start + KEY <= len(data):
        a, b, c, d = load64(data, start), ZERO, ZERO, ZERO
        if size <= 8:
            return a & LEADING[size], b, c, d
        b = load64(data, start + 8)
        if size <= 16:
            return a, b & LEADING[size - 8], c, d
        c = load64(data, start + 16)
        if size <= 24:
            return a, b, c & LEADING[size - 16], d
        return a, b, c, load64(data, start + 24) & LEADING[size - 24]
    return (
        _gather(data, start, min(8, size)),
        _gather(data, start + 8, min(8, size - 8)),
        _gather(data, start + 16, min(8, size - 16)),
        _gather(data, start + 24, min(8, size - 24)),
    )


@inner
def _gather(data: Bytes, start: Int64, size: Int64) -> np.uint64:
    value = ZERO
    for i in range(size):
        value |= np.uint64(data[start + i]) << np.uint64(8 * i)
    return value


@inner
def _fnv(data: Bytes, first: Int64, size: Int64) -> np.uint64:
    """FNV-1a in 32 bits, bytes taken as signed, as in fastText."""
    hash = FNV_BASIS
    for i in range(first, first + size):
        hash = (hash ^ np.uint64(np.int64(np.int8(data[i])))) * FNV_PRIME
    return hash & LOW


@njit(cache=True, nogil=True)
def _enter(letters: Bytes, entries: Int64s, places: Int32s) -> None:
    """Hash all entries and put them into the table, the last of equal ones for all."""
    for entry in range(len(entries)):
        first, size = entries[entry, FIRST], entries[entry, SIZE]
        hash = _fnv(letters, first, size)
        entries[entry, HASHED] = np.int64(hash)
        places[_find(letters, first, size, hash, places, entries, letters)] = entry


@inner
def _find(
    data: Bytes, first: Int64, size: Int64, hash: np.uint64, places: Int32s, entries: Int64s, letters: Bytes
) -> Int64:
    """The place of a word, or the open one where it would be."""
    mask = len(places) - 1
    place = np.int64((hash * STIR_1) >> np.uint64(32)) & mask
    while places[place] >= 0:
        entry = places[place]
        if entries[entry, HASHED] == np.int64(hash) and entries[entry, SIZE] == size:
            start, same = entries[entry, FIRST], True
            for i in range(size):
                same &= data[first + i] == letters[start + i]
            if same:
                break
        place = (place + 1) & mask
    return place


@inner
def _entry(
    data: Bytes, first: Int64, size: Int64, hash: np.uint64, places: Int32s, entries: Int64s, letters: Bytes
) -> Int64:
    """The entry of a word; -1 for one that is not in the dictionary, LABEL for one that looks like a label, too."""
    entry = np.int64(places[_find(data, first, size, hash, places, entries, letters)])
    if entry >= 0 or size < len(PREFIX):
        return entry
    for i in range(len(PREFIX)):
        if data[first + i] != PREFIX[i]:
            return entry
    return LABEL


@inner
def _vectors(
    data: Bytes,
    first: Int64,
    size: Int64,
    entry: Int64,
    facts: Int64s,
    kept: UInt64s,
    rows: Floats,
    word: Bytes,
    held: Int32s,
    sum: Floats,
) -> Int64:
    """Fill `sum` with the sum of the vectors of a word and its n-grams: their number, or NO_WORD for a label."""
    for column in range(len(sum)):
        sum[column] = 0
    if entry == LABEL or entry >= facts[WORDS]:
        return NO_WORD
    waiting = 0
    if entry >= 0:
        held[0] = entry
        waiting = 1
    if facts[MAXN] > 0:
        return _ngrams(data, first, size, waiting, facts, kept, rows, word, held, sum)
    sum_rows(sum, rows, held, waiting)
    return waiting


@inner
def _ngrams(
    data: Bytes,
    first: Int64,
    size: Int64,
    waiting: Int64,
    facts: Int64s,
    kept: UInt64s,
    rows: Floats,
    word: Bytes,
    held: Int32s,
    sum: Floats,
) -> Int64:
    """Add the vectors of n-grams of characters of `<word>` to `sum`; `waiting` rows are in `held`. All vectors."""
    minn, maxn, words, pruned, divisor = facts[MINN], facts[MAXN], facts[WORDS], facts[PRUNED], np.uint64(facts[BUCKET])
    magic = DIVISION // divisor + ONE
    stop, total = size + 2, 0
    word[0], word[stop - 1] = 60, 62
    for i in range(size):
        word[i + 1] = data[first + i]
    for start in range(stop):
        if word[start] & 0xC0 == 0x80:
            continue
        if waiting > HELD - maxn:
            sum_rows(sum, rows, held, waiting)
            total += waiting
            waiting = 0
        hash, at = FNV_BASIS, start
        for n in range(1, maxn + 1):
            if at == stop:
                break
            hash = (hash ^ np.uint64(np.int64(np.int8(word[at])))) * FNV_PRIME
            at += 1
            while at < stop and word[at] & 0xC0 == 0x80:
                hash = (hash ^ np.uint64(np.int64(np.int8(word[at])))) * FNV_PRIME
                at += 1
            if n >= minn and not (n == 1 and (start == 0 or at == stop)):
                waiting = _hold(product(magic * (hash & LOW), divisor)[1], waiting, words, pruned, kept, held)
    sum_rows(sum, rows, held, waiting)
    return total + waiting


@inner
def _hold(bucket: np.uint64, waiting: Int64, words: Int64, pruned: Int64, kept: UInt64s, held: Int32s) -> Int64:
    """Put the row of a bucket into `held` if it has one; the number of those that wait."""
    if pruned == 0:
        held[waiting] = words + np.int64(bucket)
        return waiting + 1
    group, bit = np.int64(bucket >> np.uint64(6)), bucket & np.uint64(63)
    mask = kept[group, 0]
    held[waiting] = words + np.int64(kept[group, 1]) + count(mask & ((ONE << bit) - ONE))
    return waiting + np.int64((mask >> bit) & ONE)


@inner
def _chain(
    hash: np.uint64,
    opened: Int64,
    facts: Int64s,
    kept: UInt64s,
    rows: Floats,
    open: UInt64s,
    held: Int32s,
    total: Doubles,
) -> Int64:
    """Add the vectors of the n-grams of words that end with this one; `opened` words came before it.

    A word's hash counts as a signed 32-bit number, and the n-gram's is taken in 64 bits, as in fastText.
    """
    ring, waiting = len(open), 0
    hash = np.uint64(np.int64(np.int32(hash)))
    for back in range(1, min(ring - 1, opened) + 1):
        place = (opened - back) % ring
        open[place] = open[place] * WORD_NGRAM_PRIME + hash
        bucket = open[place] % np.uint64(facts[BUCKET])
        waiting = _hold(bucket, waiting, facts[WORDS], facts[PRUNED], kept, held)
    open[opened % ring] = hash
    sum_rows(total, rows, held, waiting)
    return waiting


@inner
def _end(
    opened: Int64, facts: Int64s, kept: UInt64s, rows: Floats, open: UInt64s, held: Int32s, total: Doubles
) -> Int64:
    """Add what the library reads behind every text, a word `</s>`: number of vectors."""
    vectors = 0
    if facts[END_ENTRY] >= 0:
        held[0] = facts[END_ENTRY]
        sum_rows(total, rows, held, 1)
        vectors = 1
    if len(open) > 1:
        vectors += _chain(_fnv(END_WORD, 0, len(END_WORD)), opened, facts, kept, rows, open, held, total)
    return vectors
