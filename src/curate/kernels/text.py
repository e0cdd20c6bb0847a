"""Counts that quality rules are made of, all taken in one pass over UTF-8 text.

A row is read in blocks of 64 bytes; each block becomes a few byte masks (space, letter, line break, ...), and
words and lines are counted by arithmetic on them. The idea: add to the mask of word bytes that lack a
property the mask of word starts. The carry runs through a word to the space behind it exactly when no byte of
the word has the property, so one addition tells all words without a letter apart. Only bytes over 127 are
decoded one by one.

The catch: what runs over a block's border (an open word, a line that may yet end in an ellipsis) is kept in
`carry`.
"""

import functools
import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import BLOCK, ONE, count, highest, load32, lowest, lowest_bit, read_only, within
from curate.kernels.blocks import LAST_CODE, Int64, code_point, fill
from curate.kernels.compiled import inner, kernel

Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

SIGNALS = (
    "characters",
    "words",
    "word_characters",
    "alphabetic_words",
    "symbol_free_words",
    "symbol_free_characters",
    "lines",
    "bullet_lines",
    "ellipsis_lines",
    "hashes",
    "ellipses",
    "stop_words",
)
"""What the columns of `signals` count, in order."""
(
    CHARACTERS,
    WORDS,
    WORD_CHARACTERS,
    ALPHABETIC_WORDS,
    SYMBOL_FREE_WORDS,
    SYMBOL_FREE_CHARACTERS,
    LINES,
    BULLET_LINES,
    ELLIPSIS_LINES,
    HASHES,
    ELLIPSES,
    STOP_WORDS,
) = range(len(SIGNALS))

# Flags of a code point in the table of classes.
IS_SPACE, IS_LETTER, IS_PUNCTUATION, IS_BREAK = 1, 2, 4, 8
IS_BULLET, IS_ELLIPSIS, IS_TERMINAL, IS_DIGIT = 16, 32, 64, 128
LINE_BREAKS = "\n\x0b\x0c\r\x1c\x1d\x1e\x85\u2028\u2029"
TERMINAL_MARKS = """
21 2e 3f 589 61d-61f 6d4 700-702 7f9 837 839 83d-83e 964-965 104a-104b 1362 1367-1368 166e 1735-1736 17d4-17d6
17d9-17da 1803 1809 1944-1945 1aa8-1aab 1b5a-1b5b 1b5e-1b5f 1b7d-1b7e 1c3b-1c3c 1c7e-1c7f 203c-203d 2047-2049 2e2e
2e3c 2e53-2e54 3002 a4ff a60e-a60f a6f3 a6f7 a876-a877 a8ce-a8cf a92f a9c8-a9c9 aa5d-aa5f aaf0-aaf1 abeb fe52
fe56-fe57 ff01 ff0e ff1f ff61 10a56-10a57 10f55-10f59 10f86-10f89 11047-11048 110be-110c1 11141-11143 111c5-111c6
111cd 111de-111df 11238-11239 1123b-1123c 112a9 1144b-1144c 115c2-115c3 115c9-115d7 11641-11642 1173c-1173e 11944
11946 11a42-11a43 11a9b-11a9c 11c41-11c42 11ef7-11ef8 11f43-11f44 16a6e-16a6f 16af5 16b37-16b38 16b44 16e98 1bc9f
1da88
"""
"""Marks that end a sentence, as FineWeb has them (datatrove 0.10.1): 159 code points, in hexadecimal ranges.

Sentence_Terminal of Unicode 14, with U+11F43 and U+11F44 of Unicode 15 and five Khmer signs (U+17D4 to U+17D6,
U+17D9, U+17DA) more. No quotes, no U+2026.
"""
OTHER_MARKS = """
0-8 b-1f 21-2f 3a-40 5b-60 7b-9f ab b4 bb 2013-2014 2019 201c-201e 2026 2236 2501 25ba 3001-3002 3008-300d 3010-3011
ff01 ff05 ff08-ff09 ff0c ff0e ff11 ff1a-ff1b ff1f ff5e
"""
"""What else is punctuation to Gopher's rules in datatrove 0.10.1: with the marks above 281 code points, in hexadecimal
ranges. Control characters are among them, and U+FF11, a digit; bullets and most of Unicode's punctuation are not.
"""

STOP_WORDS_OF_GOPHER = (b"the", b"be", b"to", b"of", b"and", b"that", b"have", b"with")
STOP_BYTES = np.array([int.from_bytes(word, "little") for word in STOP_WORDS_OF_GOPHER], np.uint64)
STOP_MASKS = np.array([(1 << 8 * len(word)) - 1 for word in STOP_WORDS_OF_GOPHER], np.uint64)
STOP_SIZES = np.array([len(word) for word in STOP_WORDS_OF_GOPHER])
ALL_STOP_WORDS = np.uint64(0xFF)

# Places in the array of masks of the block at hand. A letter and a solid character (neither space nor
# punctuation) are marked at their first byte.
SPACE, LETTER, SOLID, BREAK, BULLET, DOT, AFTER_ELLIPSIS, FOLLOWING, HIGH, STARTS, ENDS, MASKS = range(12)

# Places in the array of what one block hands to the next: bits for its front, truths and a number.
(
    OPEN,  # the last byte belongs to a word
    NO_LETTER,  # to one that has no letter so far
    NO_SOLID,  # to one that has only punctuation so far
    NO_SOLID_CHARACTERS,  # code points of that word so far, else 0
    SPACES,  # bytes of a space that began in the last block
    RETURN,  # the last byte is a carriage return
    DOTS,  # bit 0: the last byte but one is a dot, bit 1: the last one
    THREE_DOTS,  # the last three bytes are dots
    ELLIPSIS_ENDS,  # positions behind an ellipsis character that began in the last block
    FRESH,  # no word since the last line break
    TRAILING,  # the last word ended in an ellipsis, and neither a break nor a word came since
    STOPS,  # bit i: stop word i was met
    CARRIES,
) = range(13)

ZERO = np.uint64(0)
NEAR_END = np.uint64(0xF << 60)


@functools.cache
def code_point_classes() -> Bytes:
    """Flags of every code point, uint8[0x110000], by this Python's Unicode database: the table for `signals`.

    Space: what `str.split()` splits on. Letter: `str.isalpha`, categories L*. Punctuation:
    `TERMINAL_MARKS` and `OTHER_MARKS`. Line break: what `str.splitlines()` splits on. Bullet U+2022 and
    ellipsis U+2026 have flags of their own. Terminal: `TERMINAL_MARKS`. Digit: what `\\d` matches, category Nd.
    """
    text = np.arange(LAST_CODE + 1, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    categories = np.frombuffer("".join(map(unicodedata.category, text)).encode(), np.uint8)
    major = categories[::2]
    classes = np.zeros(LAST_CODE + 1, np.uint8)
    classes[major == ord("L")] |= IS_LETTER
    classes[[found.start() for found in re.finditer(r"\s", text)]] |= IS_SPACE
    classes[[ord(character) for character in LINE_BREAKS]] |= IS_BREAK
    classes[0x2022] |= IS_BULLET
    classes[0x2026] |= IS_ELLIPSIS
    classes[(major == ord("N")) & (categories[1::2] == ord("d"))] |= IS_DIGIT
    for flags, ranges in ((IS_TERMINAL | IS_PUNCTUATION, TERMINAL_MARKS), (IS_PUNCTUATION, OTHER_MARKS)):
        for marks in ranges.split():
            first, _, last = marks.partition("-")
            classes[int(first, 16) : int(last or first, 16) + 1] |= flags
    classes.setflags(write=False)
    return classes


@kernel
def signals(offsets: Int64s, data: Bytes, classes: Bytes, out: Int64s) -> None:
    """Counts per row: out int64[n, 12], columns as in `SIGNALS`.

    `offsets` int64[n + 1] into `data` uint8[...], rows of valid UTF-8 (in others the counts mean nothing, but
    no byte outside the row is read); `classes` from `code_point_classes`.

    characters: code points. words: as by `str.split()`; word_characters: their code points. alphabetic_words:
    with a letter or more. symbol_free_words: with a character or more that is no punctuation;
    symbol_free_characters: their code points. lines: as by `str.splitlines()`; bullet_lines: those that
    begin, spaces aside, with U+2022 or "-"; ellipsis_lines: those that end, spaces aside, in "..." or U+2026.
    hashes: "#". ellipses: "..." counted without overlap, and U+2026. stop_words: how many different ones of
    the, be, to, of, and, that, have, with are words, case-sensitive.
    """
    block = np.empty(BLOCK, np.uint8)
    masks = np.empty(MASKS, np.uint64)
    carry = np.empty(CARRIES, np.uint64)
    for row in range(len(out)):
        text = read_only(data[offsets[row] : offsets[row + 1]])
        counts = out[row]
        counts[:] = 0
        counts[CHARACTERS] = len(text)
        carry[:] = ZERO
        carry[FRESH] = ONE
        # A row of full blocks gets an empty one more, so a space always follows the last word.
        for position in range(0, len(text) + 1, BLOCK):
            fill(block, text, position)
            _classify(block, masks, carry)
            if masks[HIGH] != ZERO:
                _decode(text, position, classes, masks, carry, counts)
            _count_dots(text, position, masks, carry, counts)
            _count_words(masks, carry, counts)
            if carry[STOPS] != ALL_STOP_WORDS:
                _find_stop_words(text, position, classes, masks, carry)
            _count_lines(masks, carry, counts)
            counts[HASHES] += count(within(block, 35, 1, 0))
        counts[ELLIPSIS_LINES] += np.int64(carry[TRAILING])
        counts[LINES] += np.int64(is_unfinished(text, classes))
        counts[STOP_WORDS] = count(carry[STOPS])


@inner
def _classify(block: Bytes, masks: UInt64s, carry: UInt64s) -> None:
    """Masks of the block's ASCII and of what the last block hands on; other bytes are words without a
    property."""
    space = within(block, 32, 1, 0) | within(block, 9, 5, 0) | within(block, 28, 4, 0)
    marks = within(block, 33, 15, 0) | within(block, 58, 7, 0) | within(block, 91, 6, 0) | within(block, 123, 5, 0)
    marks |= within(block, 0, 9, 0) | within(block, 14, 14, 0)
    masks[HIGH] = within(block, 128, 128, 0)
    masks[FOLLOWING] = within(block, 128, 64, 0)
    masks[SPACE] = space | carry[SPACES]
    masks[LETTER] = within(block, 97, 26, 32)
    masks[SOLID] = ~(space | marks | masks[HIGH])
    masks[BULLET] = within(block, 45, 1, 0)
    masks[DOT] = within(block, 46, 1, 0)
    masks[AFTER_ELLIPSIS] = carry[ELLIPSIS_ENDS]
    # Of CR LF only the first breaks the line.
    returns = within(block, 13, 1, 0)
    second = within(block, 10, 1, 0) & ((returns << 1) | carry[RETURN])
    masks[BREAK] = (within(block, 10, 4, 0) | within(block, 28, 3, 0)) & ~second
    carry[RETURN] = returns >> 63
    carry[SPACES] = carry[ELLIPSIS_ENDS] = ZERO


@inner
def _decode(text: Bytes, position: Int64, classes: Bytes, masks: UInt64s, carry: UInt64s, counts: Int64s) -> None:
    """Put the characters over 127 into the masks. A letter marks its first byte, a space all of its bytes."""
    space, letter, solid = masks[SPACE], masks[LETTER], masks[SOLID]
    counts[CHARACTERS] -= count(masks[FOLLOWING])
    leads = masks[HIGH] & ~masks[FOLLOWING]
    while leads != ZERO:
        at = lowest(leads)
        bit = lowest_bit(leads)
        leads ^= bit
        code, size = code_point(text, position + at)
        flags = classes[code]
        letter |= np.uint64((flags & IS_LETTER) != 0) << at
        solid |= np.uint64((flags & (IS_PUNCTUATION | IS_SPACE)) == 0) << at
        if flags & IS_SPACE:
            run = (ONE << size) - ONE
            space |= run << at
            if at + size > BLOCK:
                carry[SPACES] = run >> (BLOCK - at)
            if flags & IS_BREAK:
                masks[BREAK] |= bit
        elif flags & IS_BULLET:
            masks[BULLET] |= bit
        elif flags & IS_ELLIPSIS:
            counts[ELLIPSES] += 1
            masks[AFTER_ELLIPSIS] |= bit << 3
            carry[ELLIPSIS_ENDS] |= bit >> 61
    masks[SPACE], masks[LETTER], masks[SOLID] = space, letter, solid


@inner
def _count_dots(text: Bytes, position: Int64, masks: UInt64s, carry: UInt64s, counts: Int64s) -> None:
    """Ellipses of dots; marks the positions behind them."""
    dots, before = masks[DOT], carry[DOTS]
    three = dots & ((dots << 1) | (before >> 1)) & ((dots << 2) | before)
    firsts = three & ~((three << 1) | carry[THREE_DOTS])
    while firsts != ZERO:
        after = position + lowest(firsts) + 1
        firsts ^= lowest_bit(firsts)
        run = 3
        while after < len(text) and text[after] == 46:
            after += 1
            run += 1
        counts[ELLIPSES] += run // 3
    masks[AFTER_ELLIPSIS] |= (three << 1) | carry[THREE_DOTS]
    carry[DOTS] = dots >> 62
    carry[THREE_DOTS] = three >> 63


@inner
def _count_words(masks: UInt64s, carry: UInt64s, counts: Int64s) -> None:
    """Words by their starts; those without a letter, or without a solid character, by the carry of an
    addition."""
    word = ~masks[SPACE]
    behind = (word << 1) | carry[OPEN]
    starts, ends = word & ~behind, masks[SPACE] & behind
    characters = word & ~masks[FOLLOWING]
    total, length = count(starts), count(characters)
    lacking = word & ~masks[LETTER]
    reached = lacking + (starts | carry[NO_LETTER])
    carry[NO_LETTER] = np.uint64(reached < lacking)
    counts[ALPHABETIC_WORDS] += total - count(ends & reached)
    lacking = word & ~masks[SOLID]
    reached = lacking + (starts | carry[NO_SOLID])
    carry[NO_SOLID] = np.uint64(reached < lacking)
    symbols = ends & reached
    counts[SYMBOL_FREE_WORDS] += total - count(symbols)
    counts[SYMBOL_FREE_CHARACTERS] += length
    while symbols != ZERO:
        before = lowest_bit(symbols) - ONE
        symbols &= symbols - ONE
        counts[SYMBOL_FREE_CHARACTERS] -= _last_word(before & ~word, before & characters, carry)
    if carry[NO_SOLID] != ZERO:
        carry[NO_SOLID_CHARACTERS] = np.uint64(_last_word(~word, characters, carry))
    else:
        carry[NO_SOLID_CHARACTERS] = ZERO
    counts[WORDS] += total
    counts[WORD_CHARACTERS] += length
    masks[STARTS], masks[ENDS] = starts, ends
    carry[OPEN] = word >> 63


@inner
def _last_word(spaces: np.uint64, characters: np.uint64, carry: UInt64s) -> Int64:
    """Code points behind the last of `spaces`, those of the last block included when the word began there."""
    if spaces == ZERO:
        return count(characters) + np.int64(carry[NO_SOLID_CHARACTERS])
    return count(characters >> highest(spaces))


@inner
def _find_stop_words(text: Bytes, position: Int64, classes: Bytes, masks: UInt64s, carry: UInt64s) -> None:
    """Look at words of two to four bytes and at those too near to the block's end to tell."""
    ends = masks[ENDS]
    near = (ends >> 2) | (ends >> 3) | (ends >> 4) | NEAR_END
    candidates = masks[STARTS] & masks[LETTER] & near
    while candidates != ZERO:
        at = position + lowest(candidates)
        candidates &= candidates - ONE
        which, size = _stop_word(text, at)
        after = at + size
        if size > 0 and (after == len(text) or classes[code_point(text, after)[0]] & IS_SPACE):
            carry[STOPS] |= ONE << which


@inner
def _stop_word(text: Bytes, at: Int64) -> tuple[int, int]:
    """Which stop word the bytes begin with, and its length; length 0 for none."""
    four = ZERO
    if at + 4 <= len(text):
        four = load32(text, at)
    else:
        for i in range(len(text) - at):
            four |= np.uint64(text[at + i]) << (8 * i)
    for which in range(8):
        if four & STOP_MASKS[which] == STOP_BYTES[which]:
            # None of the eight begins another, so the first match is the only one.
            return which, STOP_SIZES[which]
    return 0, 0


@inner
def _count_lines(masks: UInt64s, carry: UInt64s, counts: Int64s) -> None:
    """Lines by their breaks; bullets at their first word, ellipses at their last."""
    breaks, word = masks[BREAK], ~masks[SPACE]
    counts[LINES] += count(breaks)
    bullets = masks[STARTS] & masks[BULLET]
    while bullets != ZERO:
        before = lowest_bit(bullets) - ONE
        bullets &= bullets - ONE
        counts[BULLET_LINES] += np.int64(_is_fresh(breaks & before, word & before, carry[FRESH]))
    if carry[TRAILING] != ZERO:
        _settle(breaks, word, carry, counts)
    trailing = masks[ENDS] & masks[AFTER_ELLIPSIS]
    while trailing != ZERO:
        since = ~(lowest_bit(trailing) - ONE)
        trailing &= trailing - ONE
        carry[TRAILING] = ONE
        _settle(breaks & since, word & since, carry, counts)
    carry[FRESH] = np.uint64(_is_fresh(breaks, word, carry[FRESH]))


@inner
def _is_fresh(breaks: np.uint64, word: np.uint64, fresh: np.uint64) -> bool:
    """True if no word byte comes after the last break, or, without a break, after those of earlier blocks."""
    if breaks == ZERO:
        return bool(fresh != ZERO and word == ZERO)
    return bool(word >> highest(breaks) == ZERO)


@inner
def _settle(breaks: np.uint64, word: np.uint64, carry: UInt64s, counts: Int64s) -> None:
    """Count the trailing ellipsis if a break comes before the next word; leave it open if neither comes."""
    if breaks | word != ZERO:
        counts[ELLIPSIS_LINES] += np.int64(lowest(breaks) < lowest(word))
        carry[TRAILING] = ZERO


@inner
def is_unfinished(text: Bytes, classes: Bytes) -> bool:
    """True if the last line has characters but no break."""
    at = len(text) - 1
    while at > 0 and text[at] & 0xC0 == 0x80:
        at -= 1
    return at >= 0 and classes[code_point(text, at)[0]] & IS_BREAK == 0
