"""Characters in repeated word n-grams, exactly, by three published readings of the Gopher rules.

The rules (Rae et al. 2021, arXiv 2112.11446, table A1) drop a text when too large a share of it lies in its most
common 2-, 3- or 4-gram, or in repeated 5- to 10-grams. Three code bases read "repeated" in ways that differ by up
to three times near the limits; DataTrove's is the default, `ngrams`. Only numerators and lengths are counted here.

The catch: an n-gram of words is told by its words. Where n-grams are joined by spaces, that is the same as long as
no word holds a space, U+0020.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import BLOCK, count, read_only, within
from curate.kernels.blocks import fill
from curate.kernels.compiled import inner, kernel, maker
from curate.kernels.repeats import (
    MAP_SCALE,
    NOTHING,
    Scratch,
    Words,
    count_points,
    find_joined,
    find_pairs,
    hash_places,
    join_words,
    keep_joined,
    keep_joint,
    keep_repeated,
    number_longer,
    number_pairs,
    power_from,
    raise_levels,
    scan_joined,
    scratch_for,
)

Int = np.int64 | int
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]

NGRAMS = (
    "top_2_gram",
    "top_3_gram",
    "top_4_gram",
    "duplicate_5_gram",
    "duplicate_6_gram",
    "duplicate_7_gram",
    "duplicate_8_gram",
    "duplicate_9_gram",
    "duplicate_10_gram",
    "characters",
    "word_characters",
)
"""What the columns of `ngrams`, `ngrams_dclm` and `ngrams_dolma` count, in order: the n-gram of n words is n - 2."""
CHARACTERS, WORD_CHARACTERS = 9, 10
TOP, SHORTEST, LONGEST = 4, 5, 10
"""The longest n of the top n-grams, the shortest and the longest of the duplicate ones."""


@kernel
def ngrams(offsets: Int64s, data: Bytes, first: Int64s, edges: Int32s, out: Int64s) -> None:
    """Characters of repeated n-grams as DataTrove counts them: out int64[n, 11], columns as in `NGRAMS`.

    `offsets` int64[n + 1] into `data` uint8[...], rows of valid UTF-8; `first` and `edges` as `whitespace_words`
    writes them: spans that ascend, do not overlap, are not empty and hold no U+0020; they may touch. Lengths are
    code points.

    top_n_gram: the most common n words, on a tie the first, joined by single spaces: its length times its count,
    also when it occurs once; 0 for fewer than n words. duplicate_n_gram: a scan from the left over n words joined
    without spaces (so "ab c" equals "a bc"); one met before adds its length and is stepped over whole. characters:
    of the row; word_characters: of its words. Source: datatrove 0.10, gopher_repetition_filter.py, which divides
    all by the characters of the row.
    """
    data = read_only(data)
    scratch = scratch_for(offsets, first)
    words = scratch.words
    for row in range(len(out)):
        counts = out[row]
        size, found = _prepare(offsets, data, first, edges, row, scratch, counts)
        for n in range(2, min(size, TOP) + 1):
            found = _next_found(scratch, words, n, size, found)
            top, most = _most_common(scratch.found[:found], scratch.groups[n % 2], scratch.counts)
            counts[n - 2] = most * (words.points[top + n] - words.points[top] + n - 1)
        if size > SHORTEST:
            _count_joined(scratch, words, size, counts)


@kernel
def ngrams_dclm(offsets: Int64s, data: Bytes, first: Int64s, edges: Int32s, out: Int64s) -> None:
    """As `ngrams`, by the reading of DCLM and RedPajama-V2; spaces are counted nowhere.

    top_n_gram: the longest of the most common n-grams, its length times its count; 0 when none is repeated.
    duplicate_n_gram: the words that any repeated n-gram covers, each once. Source: DCLM, content_filters.py,
    `repetition_filter`, which divides all by word_characters.
    """
    data = read_only(data)
    scratch = scratch_for(offsets, first)
    words = scratch.words
    for row in range(len(out)):
        counts = out[row]
        size, found = _prepare(offsets, data, first, edges, row, scratch, counts)
        for n in range(2, min(size, LONGEST) + 1):
            found = _next_found(scratch, words, n, size, found)
            if n <= TOP:
                counts[n - 2] = _longest(scratch.found[:found], scratch.groups[n % 2], scratch.counts, words.points, n)
            else:
                counts[n - 2] = _covered(scratch.found[:found], words.points, n)


@kernel
def ngrams_dolma(offsets: Int64s, data: Bytes, first: Int64s, edges: Int32s, out: Int64s) -> None:
    """As `ngrams`, by the reading of Dolma; spaces are counted nowhere.

    top_n_gram: the first most common n-gram, its length times its count, also when it occurs once; divided by
    word_characters. duplicate_n_gram: the lengths of all places of all repeated n-grams, overlaps counted again;
    divided by those of all n-grams, `ngram_totals`. Source: Dolma, taggers/gopher.py, `get_attributes`.
    """
    data = read_only(data)
    scratch = scratch_for(offsets, first)
    words = scratch.words
    for row in range(len(out)):
        counts = out[row]
        size, found = _prepare(offsets, data, first, edges, row, scratch, counts)
        for n in range(2, min(size, LONGEST) + 1):
            found = _next_found(scratch, words, n, size, found)
            if n <= TOP:
                top, most = _most_common(scratch.found[:found], scratch.groups[n % 2], scratch.counts)
                counts[n - 2] = most * (words.points[top + n] - words.points[top])
            else:
                for place in scratch.found[:found]:
                    counts[n - 2] += words.points[place + n] - words.points[place]


@kernel
def ngram_totals(offsets: Int64s, data: Bytes, first: Int64s, edges: Int32s, out: Int64s) -> None:
    """Code points of all n-grams of a row, overlaps counted again, their spaces not: out int64[n, 6], n = 5 ... 10.

    The other arguments are those of `ngrams`.
    """
    data = read_only(data)
    for row in range(len(out)):
        out[row] = 0
        size = first[row + 1] - first[row]
        for word in range(size):
            at = 2 * (first[row] + word)
            text = data[offsets[row] + edges[at] : offsets[row] + edges[at + 1]]
            length = len(text) - _followers(text)
            for n in range(SHORTEST, min(size, LONGEST) + 1):
                # n-grams that hold the word: by its place from either end.
                out[row, n - SHORTEST] += length * min(n, word + 1, size - word, size - n + 1)


@maker
def _followers(text: Bytes) -> Int:
    """Bytes that do not begin a character."""
    block = np.empty(BLOCK, np.uint8)
    total = 0
    for position in range(0, len(text), BLOCK):
        fill(block, text, position)
        total += count(within(block, 128, 64, 0))
    return total


@inner
def _prepare(
    offsets: Int64s, data: Bytes, first: Int64s, edges: Int32s, row: Int, scratch: Scratch, counts: Int64s
) -> tuple[Int, Int]:
    """Fill in the words of a row; how many they are, and how many of them may begin a repeated pair."""
    counts[:] = 0
    size = first[row + 1] - first[row]
    text = data[offsets[row] : offsets[row + 1]]
    followers = _followers(text)
    words = scratch.words
    join_words(data, offsets[row], edges[2 * first[row] : 2 * first[row + 1]], words)
    if followers > 0:
        count_points(words, size + 1)
    counts[CHARACTERS] = len(text) - followers
    counts[WORD_CHARACTERS] = words.points[size]
    if size < 2:
        return size, 0
    pairs = scratch.pairs[: size - 1]
    span = power_from(MAP_SCALE * size)
    hash_places(words, pairs, scratch.heads, scratch.maps[0, :span], scratch.maps[1, :span])
    return size, find_pairs(pairs, scratch.maps[0, :span], scratch.found)


@inner
def _next_found(scratch: Scratch, words: Words, n: Int, size: Int, found: Int) -> Int:
    """From the places of repeated (n - 1)-grams, those that may be for n = 2, to the places of repeated n-grams.

    The first `found` of scratch.found are the places; their numbers are in scratch.groups[n % 2].
    """
    groups = scratch.groups[n % 2, :size]
    if n > 2 and found > 0:
        found = keep_joint(scratch.found[:found], scratch.groups[1 - n % 2])
    if found == 0:
        return 0
    groups[:] = NOTHING
    places, table = scratch.found[:found], scratch.table[: power_from(2 * found)]
    if n == 2:
        number_pairs(words, scratch.pairs, places, groups, scratch.counts, table)
    else:
        number_longer(places, scratch.groups[1 - n % 2], groups, scratch.counts, table)
    return keep_repeated(places, groups, scratch.counts)


@inner
def _most_common(found: Int32s, groups: Int32s, counts: Int32s) -> tuple[Int, Int]:
    """First place and count of the first most common n-gram; 0 and 1 if none is repeated."""
    top, most = np.int64(0), np.int64(1)
    for place in found:
        if groups[place] == place and counts[place] > most:
            top, most = np.int64(place), np.int64(counts[place])
    return top, most


@inner
def _longest(found: Int32s, groups: Int32s, counts: Int32s, points: Int32s, n: Int) -> Int:
    """Length times count of the longest of the most common n-grams; 0 if none is repeated."""
    length, most = 0, 1
    for place in found:
        if groups[place] == place and counts[place] >= most:
            if counts[place] > most:
                length, most = 0, counts[place]
            length = max(length, points[place + n] - points[place])
    return length * most


@inner
def _covered(found: Int32s, points: Int32s, n: Int) -> Int:
    """Length of the words that n words from a place of `found` cover."""
    total = end = 0
    for place in found:
        total += points[place + n] - points[max(place, end)]
        end = place + n
    return total


@inner
def _count_joined(scratch: Scratch, words: Words, size: Int, counts: Int64s) -> None:
    """The columns duplicate_5_gram to duplicate_10_gram of `ngrams`."""
    starts, levels = words.starts[: size + 1], scratch.levels
    head_map = scratch.maps[1, : power_from(MAP_SCALE * size)]
    found = find_joined(starts, scratch.heads, head_map, SHORTEST, scratch.found, levels)
    raise_levels(words, scratch.heads, head_map[: power_from(MAP_SCALE * found)], scratch.found[:found], levels)
    for n in range(SHORTEST, LONGEST + 1):
        found = keep_joined(starts, scratch.found[:found], levels, n)
        if found < 2:
            return
        table = scratch.table[: power_from(2 * found)]
        counts[n - 2] = scan_joined(words, scratch.pairs, scratch.found[:found], n, table)
