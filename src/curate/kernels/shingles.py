"""Shingles of texts: every run of n words, or of n characters, as a 32-bit hash.

Words are maximal runs of letters, marks and numbers, lower-cased; a character of a script that is written without
spaces is a word of its own. Blocks of 64 bytes become masks of word bytes, words are hashed from masked loads of 16
bytes, and a polynomial rolls over the hashes of the words: no byte of ASCII is looked at alone. A row that holds other
characters is first copied, each of them folded, or parted by spaces, or made one; the copy is then read as ASCII is.

The catch: two shingles in 2^32 share a hash by chance, so a text of 100,000 shingles has about one such pair.
"""

import functools
import unicodedata
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import BLOCK, FRONT, count, fill_block, load64, lowest, product, read_only, within
from curate.kernels.blocks import LAST_CODE, Int64, code_point, fill
from curate.kernels.compiled import inner, kernel

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
UInt32s = NDArray[np.uint32]
UInt64s = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

WITHOUT_SPACES = """
e00-e7f e80-eff f00-fff 1000-109f 1780-17ff 1950-19df 1a20-1aaf 2e80-2fdf 3005-3007 3021-3029 3031-3035 3038-303c
3041-30ff 3100-312f 31a0-31bf 31f0-31ff 3400-4dbf 4e00-9fff a9e0-a9ff aa60-aadf f900-faff ff66-ff9f 11700-1174f
16fe0-18d8f 1aff0-1b2ff 20000-3ffff
"""
"""Blocks of scripts written without spaces between words, in hexadecimal: Thai, Lao, Tibetan, Myanmar, Khmer, Tai Le,
New Tai Lue, Tai Tham, Han, Hiragana, Katakana, Bopomofo, Myanmar Extended, Tai Viet, half-width Katakana, Ahom, Tangut,
Khitan, Kana Extended, Nushu. They are the scripts of line breaking class SA (UAX #14) and those of East Asia.
"""

WINDOW = 64 * BLOCK
"""Bytes whose words are found before they are hashed: their edges stay in the nearest cache."""
LOAD = 16
"""Bytes of a word that are loaded at once."""
SPACE, STEP = 32, 4

ZERO, ONE = np.uint64(0), np.uint64(1)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
HIGH_BITS = np.uint64(0x8080808080808080)
# The first 64 bits of the fractional parts of the square roots of 2, 3, 5 and 7 (as in SHA-512, FIPS 180-4), the last
# bit set: a product with an odd number loses nothing.
SECRET_1, SECRET_2 = np.uint64(0x6A09E667F3BCC909), np.uint64(0xBB67AE8584CAA73B)
MULTIPLIER, FINISHER = np.uint64(0x3C6EF372FE94F82B), np.uint64(0xA54FF53A5F1D36F1)

LOW_BYTES = np.array([(1 << 8 * min(size, 8)) - 1 for size in range(LOAD + 1)], np.uint64)
HIGH_BYTES = np.array([(1 << 8 * max(size - 8, 0)) - 1 for size in range(LOAD + 1)], np.uint64)
"""Masks of the first and the last eight bytes of a load that a word of so many bytes has."""


@functools.cache
def folds() -> Int32s:
    """What each code point is in a word, int32[0x110000], by this Python's Unicode database.

    0: no part of a word. Positive: the code point in lower case (the first of its lower case where that is several,
    which is so for U+0130 alone). Negative: the same for a character that is a word of its own.
    """
    table = np.zeros(LAST_CODE + 1, np.int32)
    for code in range(LAST_CODE + 1):
        character = chr(code)
        if unicodedata.category(character)[0] in "LMN":
            table[code] = ord(character.lower()[0])
    for blocks in WITHOUT_SPACES.split():
        first, _, last = blocks.partition("-")
        table[int(first, 16) : int(last, 16) + 1] *= -1
    table.setflags(write=False)
    return table


class Scratch(NamedTuple):
    """What one row after the other is worked on in."""

    edges: Int64s
    """Where the words of a window begin and end."""
    units: UInt64s
    """Hashes of words."""
    block: Bytes
    """The last bytes of all, spaces behind them."""


@kernel
def word_shingles(offsets: Int64s, data: Bytes, table: Int32s, ngram: Int64, first: Int64s, out: UInt32s) -> None:
    """Hashes of all runs of `ngram` words, in the order of the text.

    `offsets` int64[n + 1] into `data` uint8[...], rows of valid UTF-8 (in others words mean nothing, but no byte
    outside `data` is read); `table` from `folds`. Writes `first` int64[n + 1], where the shingles of each row begin in
    `out` uint32[...], which has room for half as many as there are bytes, rounded up for each row, and for one more.
    A row with fewer words has none.
    """
    longest = np.int64(0)
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    # Pages of it that no row needs are never touched.
    folded = np.empty(2 * (longest + BLOCK), np.uint8)
    scratch = Scratch(
        np.empty(2 * WINDOW, np.int64),
        np.empty(ngram + WINDOW, np.uint64),
        np.empty(BLOCK, np.uint8),
    )
    at = np.int64(0)
    for row in range(len(offsets) - 1):
        first[row] = at
        start, stop = offsets[row], offsets[row + 1]
        if _is_ascii(data, start, stop):
            at = _row_of_words(data, start, stop, scratch, out, at)
        else:
            size = _fold(data, start, stop, table, folded)
            at = _row_of_words(read_only(folded), FRONT, size, scratch, out, at)
    first[len(offsets) - 1] = at


@kernel
def character_shingles(offsets: Int64s, data: Bytes, table: Int32s, ngram: Int64, first: Int64s, out: UInt32s) -> None:
    """As `word_shingles`, of n code points of the folded words joined by single spaces; `out` has room for as many as
    there are bytes."""
    units = np.empty(ngram, np.uint64)
    at = np.int64(0)
    for row in range(len(offsets) - 1):
        first[row] = at
        at = _row_of_characters(read_only(data[offsets[row] : offsets[row + 1]]), table, units, out, at)
    first[len(offsets) - 1] = at


@inner
def _is_ascii(data: Bytes, start: Int64, stop: Int64) -> Any:
    """No byte from `start` to `stop` is over 127."""
    position = start
    while position + BLOCK <= stop:
        if within(data[position:], 0x80, 0x80, 0) != ZERO:
            return False
        position += BLOCK
    high = np.uint8(0)
    for i in range(position, stop):
        high |= data[i]
    return high < 0x80


@inner
def _fold(data: Bytes, start: Int64, stop: Int64, table: Int32s, folded: Bytes) -> Int64:
    """Write a row to `folded`, characters beyond ASCII in lower case or as spaces; the number of bytes written.

    What is a word of its own gets a space on both sides: five bytes for three, so twice the size of the row is enough,
    and a block more, because whole blocks are copied.
    """
    to = np.int64(0)
    while start < stop:
        if start + BLOCK <= len(data):
            fill_block(folded[to:], data, start)
            size = min(lowest(within(data[start:], 0x80, 0x80, 0)), stop - start)
            start += size
            to += size
        else:
            while start < stop and data[start] < 0x80:
                folded[to] = data[start]
                start += 1
                to += 1
        while start < stop and data[start] >= 0x80:
            code, size = code_point(data[:stop], start)
            start += size
            to = _write(folded, to, np.int64(table[code]))
    return to


@inner
def _write(folded: Bytes, to: Int64, code: Int64) -> Int64:
    """Write what a character became; the position behind it."""
    if code == 0:
        folded[to] = SPACE
        return to + 1
    alone = code < 0
    if alone:
        folded[to] = SPACE
        to += 1
        code = -code
    if code < 0x80:
        folded[to] = code
        to += 1
    elif code < 0x800:
        folded[to], folded[to + 1] = 0xC0 | code >> 6, 0x80 | code & 0x3F
        to += 2
    elif code < 0x10000:
        folded[to], folded[to + 1], folded[to + 2] = 0xE0 | code >> 12, 0x80 | code >> 6 & 0x3F, 0x80 | code & 0x3F
        to += 3
    else:
        folded[to], folded[to + 1] = 0xF0 | code >> 18, 0x80 | code >> 12 & 0x3F
        folded[to + 2], folded[to + 3] = 0x80 | code >> 6 & 0x3F, 0x80 | code & 0x3F
        to += 4
    if alone:
        folded[to] = SPACE
        to += 1
    return to


@inner
def _row_of_words(text: Bytes, start: Int64, stop: Int64, scratch: Scratch, out: UInt32s, at: Int64) -> Int64:
    """Shingles of the words of text[start:stop], where every byte over 127 belongs to a word; the new `at`.

    `scratch.units` holds the hashes of the last n words and behind them those of the window at hand. The value of
    the polynomial is written for every word, and overwritten as long as there are fewer than n.
    """
    edges, units = scratch.edges, scratch.units
    ngram = len(units) - WINDOW
    factor = _power(ngram)
    units[:ngram] = ZERO
    state, wanting = ZERO, ngram - 1
    position, opened = start, np.int64(-1)
    while position < stop or opened >= 0:
        words, opened = _find_words(text, position, stop, scratch, opened)
        position += WINDOW
        for word in range(words):
            begin = edges[2 * word]
            value = _word_hash(text, begin, edges[2 * word + 1] - begin)
            units[ngram + word] = value
            state = state * MULTIPLIER + value - units[word] * factor
            out[at] = _finish(state)
            at += np.int64(word >= wanting)
        wanting = max(wanting - words, 0)
        for i in range(ngram):
            units[i] = units[words + i]
    return at


@inner
def _find_words(text: Bytes, position: Int64, stop: Int64, scratch: Scratch, opened: Int64) -> tuple[Int64, Int64]:
    """Edges of the words that end in the window from `position`: how many, and where the last begins that does not.

    `opened` is where a word began that the last window did not end, -1 if there is none; likewise in the result.
    """
    edges = scratch.edges
    edges[0] = opened
    edge = np.int64(opened >= 0)
    open_word = np.uint64(edge)
    # A word that ends where the text does is closed by a block of nothing behind it.
    for block in range(position, min(position + WINDOW, stop + 1), BLOCK):
        word = _word_bytes(text, block, stop, scratch.block)
        changes = word ^ ((word << 1) | open_word)
        open_word = word >> 63
        found = count(changes)
        # In steps of four, a few too many: a branch less, and what is too much is overwritten.
        for step in range(edge, edge + found, STEP):
            for i in range(STEP):
                edges[step + i] = block + lowest(changes)
                changes &= changes - ONE
        edge += found
    return edge // 2, edges[edge - 1] if edge % 2 else np.int64(-1)


@inner
def _word_bytes(text: Bytes, position: Int64, stop: Int64, block: Bytes) -> np.uint64:
    """Mask of the bytes of words in the next block, none from `stop` on."""
    if position >= stop:
        return ZERO
    if position + BLOCK <= len(text):
        here = text[position:]
        word = within(here, 97, 26, 32) | within(here, 48, 10, 0) | within(here, 0x80, 0x80, 0)
    else:
        fill(block, text, position)
        word = within(block, 97, 26, 32) | within(block, 48, 10, 0) | within(block, 0x80, 0x80, 0)
    if position + BLOCK > stop:
        word &= ALL >> np.uint64(BLOCK - (stop - position))
    return word


@inner
def _word_hash(text: Bytes, begin: Int64, size: Int64) -> np.uint64:
    """64-bit hash of the bytes of a word, ASCII letters in lower case.

    Sixteen bytes at a time, the two halves multiplied to 128 bits and the product folded, as in wyhash (Wang Yi). A
    word holds no zero byte, so those behind its end tell its length.
    """
    if size <= LOAD and begin + LOAD <= len(text):
        low = _lower(load64(text, begin)) & np.uint64(LOW_BYTES[size])
        high = _lower(load64(text, begin + 8)) & np.uint64(HIGH_BYTES[size])
        return _fold_product(low ^ SECRET_1, high ^ SECRET_2)
    return _long_hash(text, begin, size)


@inner
def _long_hash(text: Bytes, begin: Int64, size: Int64) -> np.uint64:
    value = ZERO
    while size > 0:
        if begin + LOAD <= len(text):
            low, high = load64(text, begin), load64(text, begin + 8)
        else:
            low = high = ZERO
            for i in range(min(size, 8)):
                low |= np.uint64(text[begin + i]) << np.uint64(8 * i)
            for i in range(8, min(size, LOAD)):
                high |= np.uint64(text[begin + i]) << np.uint64(8 * i - 64)
        part = min(size, LOAD)
        low, high = _lower(low) & LOW_BYTES[part], _lower(high) & HIGH_BYTES[part]
        value = _fold_product(low ^ SECRET_1 ^ value, high ^ SECRET_2)
        begin += LOAD
        size -= LOAD
    return value


@inner
def _lower(letters: np.uint64) -> np.uint64:
    """Eight bytes with bit 5 set in those of ASCII: letters get lower case, digits have it already."""
    return letters | ((~letters & HIGH_BITS) >> 2)


@inner
def _fold_product(a: np.uint64, b: np.uint64) -> np.uint64:
    low, high = product(a, b)
    return low ^ high


@inner
def _row_of_characters(text: Bytes, table: Int32s, units: UInt64s, out: UInt32s, at: Int64) -> Int64:
    """Shingles of the code points of a row's words; the new `at`. `units` goes round."""
    ngram = len(units)
    factor = _power(ngram)
    units[:] = ZERO
    state, seen, place = ZERO, np.int64(0), np.int64(0)
    position, last = np.int64(0), np.int64(0)
    while position < len(text):
        code, size = code_point(text, position)
        position += size
        folded = np.int64(table[code])
        # A space goes before a word that is not the first, and a character alone is a word.
        apart = folded != 0 and seen > 0 and (last <= 0 or folded < 0)
        for spaces in range(np.int64(apart), np.int64(folded == 0) - 1, -1):
            unit = np.uint64(SPACE if spaces else abs(folded))
            value = _fold_product(unit ^ SECRET_1, SECRET_2)
            state = state * MULTIPLIER + value - units[place] * factor
            units[place] = value
            place = np.int64(place + 1) if place + 1 < ngram else np.int64(0)
            seen += 1
            if seen >= ngram:
                out[at] = _finish(state)
                at += 1
        last = folded
    return at


@inner
def _power(ngram: Int64) -> np.uint64:
    """What the polynomial has multiplied the hash with that leaves a shingle."""
    power = ONE
    for _ in range(ngram):
        power *= MULTIPLIER
    return power


@inner
def _finish(state: np.uint64) -> np.uint32:
    return np.uint32(((state ^ (state >> 32)) * FINISHER) >> 32)
