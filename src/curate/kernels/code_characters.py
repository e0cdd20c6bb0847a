"""Counts over the characters, words and lines of source code: masks of 64 bytes at a time, as in `kernels/text`.

Words are what OpenCoder counts: the text without ASCII punctuation, parted at spaces, and where letters or digits
meet other signs. Its unification of full-width and composed characters (NFKC) is left out.

The catch: a line is what line feeds part (OpenCoder's reading). `str.splitlines`, which StarCoder used, also breaks at
form feeds and lone carriage returns.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import BLOCK, ONE, count, lowest, lowest_bit, read_only, within
from curate.kernels.blocks import Int64, code_point, fill
from curate.kernels.compiled import inner, kernel
from curate.kernels.text import IS_LETTER, IS_SPACE, code_point_classes

Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

IS_ALPHANUMERIC, IS_DIGIT = 64, 128
REPLACEMENT = 0xFFFD
ZERO = np.uint64(0)

CHARACTER_COUNTS = (
    "characters",
    "lines",
    "longest_line",
    "letters",
    "alphanumerics",
    "digits",
    "spaces",
    "line_feeds",
    "hex_escapes",
    "replacements",
    "words",
    "word_characters",
)
"""What the columns of `character_counts` hold, in order."""
(
    CHARACTERS,
    LINES,
    LONGEST_LINE,
    LETTERS,
    ALPHANUMERICS,
    DIGITS,
    SPACES,
    LINE_FEEDS,
    HEX_ESCAPES,
    REPLACEMENTS,
    WORDS,
    WORD_CHARACTERS,
) = range(len(CHARACTER_COUNTS))

# Masks of the block at hand; a character of several bytes marks all of them in WORD and OTHER, its first in the rest.
VALID, FOLLOWING, HIGH, WORD, OTHER, MASKS = range(6)
# What one block hands to the next: bytes of a character that began in it, truths, and the start of the open line.
REST_WORD, REST_OTHER, AFTER_WORD, AFTER_OTHER, BACKSLASH, LINE_START, CARRIES = range(7)


@functools.cache
def code_classes() -> Bytes:
    """Flags of every code point, uint8[0x110000]: those of `code_point_classes`, and `str.isalnum`, `str.isdigit`."""
    classes = code_point_classes().copy()
    classes &= np.uint8(~(IS_ALPHANUMERIC | IS_DIGIT) & 0xFF)
    text = np.arange(len(classes), dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    classes[np.fromiter(map(str.isalnum, text), np.bool_, len(text))] |= IS_ALPHANUMERIC
    classes[np.fromiter(map(str.isdigit, text), np.bool_, len(text))] |= IS_DIGIT
    classes.setflags(write=False)
    return classes


@kernel
def character_counts(offsets: Int64s, data: Bytes, classes: Bytes, out: Int64s) -> None:
    """Counts per row: out int64[n, 12], columns as in `CHARACTER_COUNTS`.

    `offsets` int64[n + 1] into `data` uint8[...], rows of valid UTF-8; `classes` from `code_classes`.

    characters: code points. lines: line feeds, and one for what follows the last. longest_line: code points, line
    feed not counted. letters, alphanumerics, digits, spaces: as `str.isalpha`, `isalnum`, `isdigit`, `isspace`.
    hex_escapes: backslash and "x". replacements: U+FFFD. words: runs of alphanumerics, and runs of characters that
    are no alphanumerics, no space and no ASCII punctuation; word_characters: their code points.
    """
    block = np.empty(BLOCK, np.uint8)
    masks = np.empty(MASKS, np.uint64)
    carry = np.empty(CARRIES, np.uint64)
    for row in range(len(out)):
        text = read_only(data[offsets[row] : offsets[row + 1]])
        counts = out[row]
        counts[:] = 0
        carry[:] = ZERO
        for position in range(0, len(text), BLOCK):
            fill(block, text, position)
            rest = len(text) - position
            masks[VALID] = ~ZERO if rest >= BLOCK else (ONE << np.uint64(rest)) - ONE
            _count_ascii(block, masks, carry, counts)
            if masks[HIGH] != ZERO:
                _count_others(text, position, classes, masks, carry, counts)
            _count_words(masks, carry, counts)
            _count_lines(block, masks, carry, counts)
        open_line = counts[CHARACTERS] - np.int64(carry[LINE_START])
        counts[LONGEST_LINE] = max(counts[LONGEST_LINE], open_line)
        counts[LINES] = counts[LINE_FEEDS] + np.int64(len(text) > 0 and text[len(text) - 1] != 10)


@inner
def _count_ascii(block: Bytes, masks: UInt64s, carry: UInt64s, counts: Int64s) -> None:
    """Count the block's ASCII, and put it into the masks of words."""
    valid = masks[VALID]
    letters, digits = within(block, 97, 26, 32), within(block, 48, 10, 0)
    space = (within(block, 32, 1, 0) | within(block, 9, 5, 0) | within(block, 28, 4, 0)) & valid
    signs = within(block, 0, 32, 0) | within(block, 127, 1, 0)
    backslash = within(block, 92, 1, 0)
    masks[HIGH] = within(block, 128, 128, 0)
    masks[FOLLOWING] = within(block, 128, 64, 0)
    masks[WORD] = letters | digits | carry[REST_WORD]
    masks[OTHER] = (signs & ~space) | carry[REST_OTHER]
    carry[REST_WORD] = carry[REST_OTHER] = ZERO
    counts[LETTERS] += count(letters)
    counts[DIGITS] += count(digits)
    counts[ALPHANUMERICS] += count(letters | digits)
    counts[SPACES] += count(space)
    counts[HEX_ESCAPES] += count(within(block, 120, 1, 0) & ((backslash << 1) | carry[BACKSLASH]))
    carry[BACKSLASH] = backslash >> 63


@inner
def _count_others(text: Bytes, position: Int64, classes: Bytes, masks: UInt64s, carry: UInt64s, counts: Int64s) -> None:
    """Count the characters over 127."""
    leads = masks[HIGH] & ~masks[FOLLOWING]
    while leads != ZERO:
        at = lowest(leads)
        leads ^= lowest_bit(leads)
        code, size = code_point(text, position + at)
        flags = classes[code]
        counts[REPLACEMENTS] += np.int64(code == REPLACEMENT)
        counts[LETTERS] += np.int64(flags & IS_LETTER != 0)
        counts[DIGITS] += np.int64(flags & IS_DIGIT != 0)
        if flags & IS_SPACE:
            counts[SPACES] += 1
            continue
        run = (ONE << np.uint64(size)) - ONE
        rest = run >> np.uint64(BLOCK - at) if at + size > BLOCK else ZERO
        if flags & IS_ALPHANUMERIC:
            counts[ALPHANUMERICS] += 1
            masks[WORD] |= run << np.uint64(at)
            carry[REST_WORD] = rest
        else:
            masks[OTHER] |= run << np.uint64(at)
            carry[REST_OTHER] = rest


@inner
def _count_words(masks: UInt64s, carry: UInt64s, counts: Int64s) -> None:
    word, other = masks[WORD], masks[OTHER]
    counts[WORDS] += count(word & ~((word << 1) | carry[AFTER_WORD]))
    counts[WORDS] += count(other & ~((other << 1) | carry[AFTER_OTHER]))
    counts[WORD_CHARACTERS] += count((word | other) & ~masks[FOLLOWING])
    carry[AFTER_WORD], carry[AFTER_OTHER] = word >> 63, other >> 63


@inner
def _count_lines(block: Bytes, masks: UInt64s, carry: UInt64s, counts: Int64s) -> None:
    """Line feeds, and the longest line by the code points before each."""
    characters = masks[VALID] & ~masks[FOLLOWING]
    feeds = within(block, 10, 1, 0)
    counts[LINE_FEEDS] += count(feeds)
    start, longest = np.int64(carry[LINE_START]), counts[LONGEST_LINE]
    while feeds != ZERO:
        bit = lowest_bit(feeds)
        feeds ^= bit
        end = counts[CHARACTERS] + count(characters & (bit - ONE))
        longest = max(longest, end - start)
        start = end + 1
    counts[LONGEST_LINE] = longest
    carry[LINE_START] = np.uint64(start)
    counts[CHARACTERS] += count(characters)


@inner
def is_hex(byte: Int64) -> bool:
    folded = byte | 0x20
    return bool((byte >= 48 and byte <= 57) or (folded >= 97 and folded <= 102))


@inner
def is_name(byte: Int64) -> bool:
    folded = byte | 0x20
    return bool((folded >= 97 and folded <= 122) or (byte >= 48 and byte <= 57) or byte == 95)


@inner
def word_at(text: Bytes, at: Int64, classes: Bytes) -> bool:
    """True if the character that begins at `at` is an underscore or alphanumeric."""
    if at >= len(text) or text[at] < 0x80:
        return bool(at < len(text) and is_name(text[at]))
    return bool(classes[code_point(text, at)[0]] & IS_ALPHANUMERIC)


@inner
def word_before(text: Bytes, at: Int64, classes: Bytes) -> bool:
    """True if the character that ends before `at` is an underscore or alphanumeric."""
    before = at - 1
    while before > 0 and text[before] & 0xC0 == 0x80:
        before -= 1
    return bool(before >= 0 and word_at(text, before, classes))


@inner
def skip_space(text: Bytes, at: Int64, classes: Bytes) -> Int64:
    """Place of the first character from `at` on that is no space."""
    while at < len(text):
        code, size = code_point(text, at)
        if classes[code] & IS_SPACE == 0:
            break
        at += size
    return at
