"""Where the word n-grams of a row may repeat, and which of them do: the machinery of `ngrams`.

Nearly all n-grams of a text occur once, so the work is to look away from them. The words of a row are copied
without their gaps. From each word, the pair with the next and the 16 bytes that follow are hashed; a map with one
byte per hash tells which places may repeat at all, a tenth of them. Only those enter a table, where bytes decide.
An (n + 1)-gram is the pair of its two n-grams, so longer ones are counted by numbers and no text is read twice.

A hash only ever excludes; n-grams are equal when their bytes are. The catch: a text built so that its n-grams
share 64-bit hashes makes the tables slow, never wrong.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import BLOCK, ONE, count, fill_block, load64, product, within
from curate.kernels.compiled import inner, maker

Int = np.int64 | int
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

ZERO = np.uint64(0)
# Digits of the golden ratio and of pi.
SALT_1, SALT_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x243F6A8885A308D3)
SPREAD_1, SPREAD_2 = np.uint64(0x13198A2E03707345), np.uint64(0xA4093822299F31D1)

# Masks of the first 0 to 16 of 16 bytes, as two numbers of eight.
KEPT = [(1 << 8 * size) - 1 for size in range(17)]
KEPT_LOW = np.array([mask % 2**64 for mask in KEPT], np.uint64)
KEPT_HIGH = np.array([mask >> 64 for mask in KEPT], np.uint64)

MAP_SCALE = 8
"""Bytes of a map per word, at least: fewer let more chance hits through, more leave the cache."""
NOTHING = -1


class Words(NamedTuple):
    """The words of a row, one behind the other without their gaps."""

    joined: Bytes  # 64 bytes and more behind the last word may be read, and are zeros
    starts: Int32s  # first byte of each word, and the end of the last
    points: Int32s  # the same in code points


class Scratch(NamedTuple):
    """Room for the longest row, taken once per call; a row clears what it uses, in proportion to its length."""

    words: Words
    pairs: UInt64s  # hash of each word and the next; of an n-gram's bytes
    heads: UInt64s  # hash of the 16 bytes from each word on
    maps: Bytes  # [2, ...]: of the pairs and of the heads
    found: Int32s  # places that may be repeated
    levels: Bytes  # for each of them: how long a prefix may be repeated
    groups: Int32s  # [2, ...]: first place of an equal n-gram, or NOTHING; for n and for n + 1
    counts: Int32s  # at the first place of an n-gram: how often it occurs
    table: Int32s


@maker
def scratch_for(offsets: Int64s, first: Int64s) -> Scratch:
    """Scratch for rows at `offsets` whose words `first` numbers."""
    size = words = 0
    for row in range(len(first) - 1):
        size = max(size, offsets[row + 1] - offsets[row])
        words = max(words, first[row + 1] - first[row])
    return Scratch(
        Words(np.empty(size + 2 * BLOCK, np.uint8), np.empty(words + 1, np.int32), np.empty(words + 1, np.int32)),
        np.empty(words, np.uint64),
        np.empty(words, np.uint64),
        np.empty((2, power_from(MAP_SCALE * words)), np.uint8),
        np.empty(words, np.int32),
        np.empty(words, np.uint8),
        np.empty((2, words), np.int32),
        np.empty(words, np.int32),
        np.empty(power_from(2 * words), np.int32),
    )


@inner
def power_from(size: Int) -> Int:
    """The first power of two that is not below `size`, 16 at least."""
    power = 16
    while power < size:
        power *= 2
    return power


@inner
def _fold(a: np.uint64, b: np.uint64) -> np.uint64:
    low, high = product(a, b)
    return low ^ high


@inner
def _hash_bytes(joined: Bytes, at: Int, size: Int, seed: np.uint64) -> np.uint64:
    """Hash of `size` bytes; up to 15 behind them are read and masked away."""
    value = seed + np.uint64(size) * SPREAD_1
    for done in range(0, size, 16):
        kept = min(size - done, 16)
        low = load64(joined, int(at + done)) & KEPT_LOW[kept]
        high = load64(joined, int(at + done + 8)) & KEPT_HIGH[kept]
        value = _fold(low ^ SALT_1, high ^ SALT_2 ^ value)
    return value


@inner
def _same_bytes(joined: Bytes, a: Int, b: Int, size: Int) -> bool:
    for done in range(0, size, 8):
        differing = load64(joined, int(a + done)) ^ load64(joined, int(b + done))
        if differing & KEPT_LOW[min(size - done, 8)] != ZERO:
            return False
    return True


# ---------------------------------------------------------------- the words of a row, without their gaps


@inner
def join_words(data: Bytes, base: Int, edges: Int32s, words: Words) -> None:
    """Copy the words between `edges`, which count from byte `base` of `data`, as if each byte were a code point."""
    joined, starts, points = words
    at = np.int64(0)
    for word in range(len(edges) // 2):
        start = base + edges[2 * word]
        size = edges[2 * word + 1] - edges[2 * word]
        starts[word] = points[word] = at
        for done in range(0, size, BLOCK):
            # A whole block is copied; what of it is not of the word is overwritten next.
            if start + done + BLOCK <= len(data):
                fill_block(joined[at + done :], data, start + done)
            else:
                for i in range(done, size):
                    joined[at + i] = data[start + i]
        at += size
    starts[len(edges) // 2] = points[len(edges) // 2] = at
    joined[at : at + BLOCK] = 0


@maker
def count_points(words: Words, size: Int) -> None:
    """Correct `words.points` where bytes are not code points; its first `size` are words and the end of the last."""
    block = np.empty(BLOCK, np.uint8)
    starts = words.starts
    word = followers = 0
    for position in range(0, starts[size - 1] + 1, BLOCK):
        fill_block(block, words.joined, position)
        following = within(block, 128, 64, 0)
        while word < size and starts[word] < position + BLOCK:
            before = (ONE << (starts[word] - position)) - ONE
            words.points[word] = starts[word] - followers - count(following & before)
            word += 1
        followers += count(following)


# ---------------------------------------------------------------- n-grams as tuples of words


@inner
def hash_places(words: Words, pairs: UInt64s, heads: UInt64s, pair_map: Bytes, head_map: Bytes) -> None:
    """From each word but the last: hash the pair with the next and the next 16 bytes, and count both in maps.

    The maps are uint8[2^k], of one size; a byte over 1 says that two hashes or more have that remainder.
    """
    joined, starts = words.joined, words.starts
    pair_map[:] = 0
    head_map[:] = 0
    mask = np.uint64(len(pair_map) - 1)
    for word in range(len(pairs)):
        at, middle, end = starts[word], starts[word + 1], starts[word + 2]
        low, high = load64(joined, at), load64(joined, at + 8)
        head = _fold(low ^ SALT_1, high ^ SALT_2)
        heads[word] = head
        # 0, 1, 3, 7, ...: no count runs over.
        head_map[head & mask] = (head_map[head & mask] << 1) | 1
        kept = min(end - at, 16)
        low = (low & KEPT_LOW[kept]) ^ (np.uint64(middle - at) * SPREAD_1 + SALT_1)
        high = (high & KEPT_HIGH[kept]) ^ (np.uint64(end - at) * SPREAD_2 + SALT_2)
        pair = _fold(low, high)
        if end - at > 16:
            pair = _hash_bytes(joined, at + 16, end - at - 16, pair)
        pairs[word] = pair
        pair_map[pair & mask] = (pair_map[pair & mask] << 1) | 1


@inner
def find_pairs(pairs: UInt64s, pair_map: Bytes, found: Int32s) -> Int:
    """List in `found` the places whose two words may be repeated; how many they are."""
    mask = np.uint64(len(pair_map) - 1)
    size = 0
    for word in range(len(pairs)):
        found[size] = word
        size += pair_map[pairs[word] & mask] > 1
    return size


@inner
def number_pairs(words: Words, pairs: UInt64s, found: Int32s, groups: Int32s, counts: Int32s, table: Int32s) -> None:
    """Number each place of `found` by the first with the same two words, and count the places of each number.

    `groups` is NOTHING everywhere before; `table` has a power of two of slots, twice those found or more.
    """
    joined, starts = words.joined, words.starts
    table[:] = NOTHING
    mask = np.uint64(len(table) - 1)
    for place in found:
        at, middle, end = starts[place], starts[place + 1], starts[place + 2]
        # The low bits chose the places found, so they are alike.
        slot = (pairs[place] >> 32) & mask
        while True:
            other = table[slot]
            if other == NOTHING:
                table[slot] = other = place
                counts[place] = 0
                break
            if pairs[other] == pairs[place]:
                begin = starts[other]
                same = starts[other + 1] - begin == middle - at and starts[other + 2] - begin == end - at
                if same and _same_bytes(joined, np.int64(at), np.int64(begin), np.int64(end - at)):
                    break
            slot = (slot + ONE) & mask
        groups[place] = other
        counts[other] += 1


@inner
def keep_joint(found: Int32s, groups: Int32s) -> Int:
    """Keep in `found` the places whose (n + 1)-gram may be repeated: the n-gram one word on is, too."""
    kept = 0
    for i in range(len(found)):
        place = found[i]
        found[kept] = place
        kept += groups[place + 1] != NOTHING
    return kept


@inner
def number_longer(found: Int32s, groups: Int32s, longer: Int32s, counts: Int32s, table: Int32s) -> None:
    """As `number_pairs`, for (n + 1)-grams: `longer` from `groups`, the numbers of the n-grams."""
    table[:] = NOTHING
    mask = np.uint64(len(table) - 1)
    for place in found:
        left, right = groups[place], groups[place + 1]
        slot = _fold(np.uint64(left) ^ SALT_1, np.uint64(right) ^ SALT_2) & mask
        while True:
            other = table[slot]
            if other == NOTHING:
                table[slot] = other = place
                counts[place] = 0
                break
            if groups[other] == left and groups[other + 1] == right:
                break
            slot = (slot + ONE) & mask
        longer[place] = other
        counts[other] += 1


@inner
def keep_repeated(found: Int32s, groups: Int32s, counts: Int32s) -> Int:
    """Keep in `found` the places whose n-gram occurs twice or more; the numbers of the others become NOTHING."""
    kept = 0
    for i in range(len(found)):
        place = found[i]
        found[kept] = place
        if counts[groups[place]] > 1:
            kept += 1
        else:
            groups[place] = NOTHING
    return kept


# ---------------------------------------------------------------- n-grams joined without spaces


@inner
def _level(size: Int) -> Int:
    """How many of the prefixes of 16, 24, 32 and 48 bytes a text of `size` bytes has."""
    return int(size >= 16) + int(size >= 24) + int(size >= 32) + int(size >= 48)


@inner
def find_joined(starts: Int32s, heads: UInt64s, head_map: Bytes, n: Int, found: Int32s, levels: Bytes) -> Int:
    """List in `found` the places whose n words may be repeated, to be sifted by `raise_levels`; how many.

    A text can only be repeated where each of its prefixes is. A place of level 1 may repeat its next 16 bytes; one
    of level 0 is listed because its n words are shorter than that.
    """
    mask = np.uint64(len(head_map) - 1)
    size = 0
    for word in range(len(starts) - n):
        repeated = head_map[heads[word] & mask] > 1
        found[size] = word
        levels[size] = repeated
        size += repeated | (starts[word + n] - starts[word] < 16)
    return size


@inner
def raise_levels(words: Words, heads: UInt64s, seen: Bytes, found: Int32s, levels: Bytes) -> None:
    """Raise the level of each place whose first 24, 32 and 48 bytes may be repeated: 2, 3 and 4."""
    mask = np.uint64(len(seen) - 1)
    size = 16
    for level in range(1, 4):
        seen[:] = 0
        for i in range(len(found)):
            if levels[i] == level:
                place = found[i]
                start = words.starts[place] + size
                more = load64(words.joined, start)
                if level == 3:
                    more = _fold(more ^ SALT_2, load64(words.joined, start + 8) ^ SALT_1)
                heads[place] = _fold(heads[place] ^ SPREAD_1, more ^ SPREAD_2)
                seen[heads[place] & mask] = (seen[heads[place] & mask] << 1) | 1
        for i in range(len(found)):
            if levels[i] == level and seen[heads[found[i]] & mask] > 1:
                levels[i] = level + 1
        size += 8


@inner
def keep_joined(starts: Int32s, found: Int32s, levels: Bytes, n: Int) -> Int:
    """Keep in `found` the places whose n words may be repeated; of the others more words cannot be either."""
    kept = 0
    for i in range(len(found)):
        place = found[i]
        if place + n >= len(starts):
            break
        found[kept] = place
        levels[kept] = levels[i]
        kept += levels[i] >= _level(starts[place + n] - starts[place])
    return kept


@inner
def scan_joined(words: Words, hashes: UInt64s, found: Int32s, n: Int, table: Int32s) -> Int:
    """Code points of the n words met before, their spaces aside, in a scan that steps over each of those whole."""
    joined, starts, points = words
    table[:] = NOTHING
    mask = np.uint64(len(table) - 1)
    following = total = 0
    for place in found:
        if place < following:
            continue
        at = np.int64(starts[place])
        size = starts[place + n] - at
        value = _hash_bytes(joined, at, size, ZERO)
        slot = value & mask
        while True:
            other = table[slot]
            if other == NOTHING:
                table[slot] = place
                hashes[place] = value
                break
            same = hashes[other] == value and starts[other + n] - starts[other] == size
            if same and _same_bytes(joined, at, np.int64(starts[other]), size):
                total += points[place + n] - points[place]
                following = place + n
                break
            slot = (slot + ONE) & mask
    return total
