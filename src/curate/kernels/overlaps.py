"""Word n-grams that one text has from another, and the loop in which a text ends; words are numbers (`vocabulary`).

N-grams are entered in a table by a hash and compared word by word, so a share is never one of hashes.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.blocks import Int64
from curate.kernels.compiled import inner, kernel
from curate.kernels.segments import table_size

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]

# The multiplier of SplitMix64's first step.
FACTOR = np.uint64(0xBF58476D1CE4E5B9)


@kernel
def shared_ngrams(first: Int64s, numbers: Int32s, pairs: Int64s, ngram: Int64, out: Int64s) -> None:
    """out int64[m, 2]: the n-grams of row pairs[i, 1], and how many of them row pairs[i, 0] has too.

    `first` int64[n + 1] into `numbers` int32[...], the words of rows. N-grams are counted at every place where they
    stand; a row with fewer than `ngram` words has none.
    """
    longest = np.int64(0)
    for i in range(len(out)):
        longest = max(longest, first[pairs[i, 0] + 1] - first[pairs[i, 0]])
    whole = np.empty(table_size(longest), np.int32)
    table, built = whole[:0], np.int64(-1)
    for i in range(len(out)):
        source, row = pairs[i, 0], pairs[i, 1]
        words = numbers[first[source] : first[source + 1]]
        if source != built:  # neighbouring pairs often share a source, and all share the prompt
            table = whole[: table_size(len(words))]
            table[:] = 0
            for at in range(len(words) - ngram + 1):
                _enter(words, at, ngram, table)
            built = source
        others = numbers[first[row] : first[row + 1]]
        out[i, 0] = max(len(others) - ngram + 1, 0)
        out[i, 1] = 0
        for at in range(len(others) - ngram + 1):
            out[i, 1] += np.int64(table[_place(words, others, at, ngram, table)] != 0)


@inner
def _enter(words: Int32s, at: Int64, ngram: Int64, table: Int32s) -> None:
    place = _place(words, words, at, ngram, table)
    if table[place] == 0:
        table[place] = at + 1


@inner
def _place(words: Int32s, others: Int32s, at: Int64, ngram: Int64, table: Int32s) -> Int64:
    """The place of the n-gram others[at:at + n] in a table of those of `words`, or the free one where it would go."""
    key = np.uint64(0)
    for i in range(ngram):
        key = (key ^ np.uint64(others[at + i])) * FACTOR
        key ^= key >> np.uint64(29)
    place = np.int64(key >> np.uint64(8)) & (len(table) - 1)
    while table[place] != 0:
        start = np.int64(table[place]) - 1
        same = True
        for i in range(ngram):
            if words[start + i] != others[at + i]:
                same = False
                break
        if same:
            return place
        place = (place + 1) & (len(table) - 1)
    return place


@kernel
def tails(first: Int64s, numbers: Int32s, times: Int64, out: Int64s) -> None:
    """out[i] = the most words at the end of row i that are one run of words said `times` times or more, whole but for
    the first, which may have lost its beginning. 0 where nothing is. `first` int64[n + 1] into `numbers` int32[...].

    The longest match of the reversed row with itself, shifted by every p at once: the Z algorithm, linear.
    """
    longest = np.int64(0)
    for row in range(len(out)):
        longest = max(longest, first[row + 1] - first[row])
    match = np.empty(longest + 1, np.int64)
    for row in range(len(out)):
        words = numbers[first[row] : first[row + 1]]
        size = np.int64(len(words))
        last = size - 1
        left = right = best = np.int64(0)
        for shift in range(1, size):
            known = min(right - shift, match[shift - left]) if shift < right else np.int64(0)
            while shift + known < size and words[last - known] == words[last - shift - known]:
                known += 1
            match[shift] = known
            if shift + known > right:
                left, right = np.int64(shift), shift + known
            if known >= (times - 1) * shift:
                best = max(best, shift + known)
        out[row] = best


@kernel
def longest_common_subsequences(first: Int64s, numbers: Int32s, pairs: Int64s, out: Int64s) -> None:
    """out[i] = the words of the longest common subsequence of rows pairs[i, 0] and pairs[i, 1]: those that stand in
    both in one order, whatever stands between. `first` int64[n + 1] into `numbers` int32[...]; pairs int64[m, 2].

    Takes the product of both lengths: a millisecond for a thousand words each.
    """
    longest = np.int64(0)
    for i in range(len(out)):
        longest = max(longest, first[pairs[i, 0] + 1] - first[pairs[i, 0]])
    line = np.empty(longest + 1, np.int32)
    for i in range(len(out)):
        words = numbers[first[pairs[i, 0]] : first[pairs[i, 0] + 1]]
        others = numbers[first[pairs[i, 1]] : first[pairs[i, 1] + 1]]
        size = len(words)
        line[: size + 1] = 0
        for other in others:
            corner = np.int32(0)
            for at in range(size):
                above = line[at + 1]
                if words[at] == other:
                    line[at + 1] = corner + 1
                elif line[at] > above:
                    line[at + 1] = line[at]
                corner = above
        out[i] = line[size]
