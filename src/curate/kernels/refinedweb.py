"""RefinedWeb's line-wise corrections, and the words by which a page is judged after them.

RefinedWeb (Penedo et al. 2023, arXiv 2306.01116, appendix G.2) names the corrections; DataComp-LM (Li et al. 2024,
arXiv 2406.11794) published code for them, and this module gives the text that code gives (dclm,
baselines/mappers/modifiers.py, in the order of dclm_baseline_refinedweb.yaml). Lines are parted by "\\n" alone. Out go,
in this order: lines of more than half uppercase characters; lines of digits alone; counters ("3.2K likes"); lines of
fewer than two words, empty ones excepted; and from lines of at most ten words "items in cart" anywhere, "Read more..."
at the end and "Sign-in" at the start.

The catch: the published code strips the whole page between most steps, so that white space at either end of the page
may make its first or last line one of digits alone, or lay a phrase bare. Two more readings are the code's: upper and
lower case count as equal in phrases, and the dots of "Read more..." stand for any three characters.
"""

import functools
import re

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import read_only
from curate.kernels.blocks import Int64, code_point
from curate.kernels.compiled import inner, kernel, maker
from curate.kernels.pieces import keep, room
from curate.kernels.text import LINE_BREAKS

Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]

REFINEDWEB = ("lines", "uppercase_lines", "numeric_lines", "counter_lines", "one_word_lines", "cut_phrases")
"""What the columns of `refinedweb` count, in order."""
LINES, UPPERCASE_LINES, NUMERIC_LINES, COUNTER_LINES, ONE_WORD_LINES, CUT_PHRASES = range(len(REFINEDWEB))

MAX_UPPERCASE, MAX_NUMERIC, MIN_WORDS, MAX_WORDS_OF_A_CUT = 0.5, 0.999999, 2, 10

# Rows of the table of characters: flags, the letter that `re.IGNORECASE` takes a character for, and `str.lower`.
FLAGS, CASELESS, LOWER = range(3)
SPACE, UPPERCASE, DIGIT, DECIMAL, ALPHANUMERIC, SEPARATOR, BREAK, WORD = (np.int64(1 << bit) for bit in range(8))
NEITHER = np.int64(0)
LAST_CODE = 0x10FFFF

# A dot stands for any character.
ITEMS = np.frombuffer(b"items in cart", np.uint8)
READ_MORE = np.frombuffer(b"read more...", np.uint8)
SIGN_IN = np.frombuffer(b"sign-in", np.uint8)
READ_MORE_BEGINS = len(b"read more")
COUNTED = (
    *(b"likes", b"shares", b"comments", b"retweets", b"reposts", b"quotes", b"bookmarks", b"upvotes", b"downvotes"),
    *(b"downloads", b"views", b"followers"),
)
COUNTED_FIRST = np.cumsum([0, *map(len, COUNTED)])
COUNTED_BYTES = np.frombuffer(b"".join(COUNTED), np.uint8)

# What is known of a line of the row at hand.
START, END, CHARACTERS, UPPERCASES, DIGITS, WORDS, ALIVE, FACTS = range(8)


@functools.cache
def characters() -> Bytes:
    """What the kernels ask of a code point, uint8[3, 0x110000], by this Python's Unicode database.

    Row 0, flags: white space, `isupper`, `isdigit`, `isdecimal`, `isalnum`, a space to fastText (six of ASCII and
    NUL), a break to `str.splitlines`, a word character to `re`. Rows 1 and 2: the ASCII character that stands for this
    one where `re.IGNORECASE` compares, and after `str.lower`; 0 for none.
    """
    text = np.arange(LAST_CODE + 1, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    table = np.zeros((3, LAST_CODE + 1), np.uint8)
    flags = table[FLAGS]
    questions = {UPPERCASE: str.isupper, DIGIT: str.isdigit, DECIMAL: str.isdecimal, ALPHANUMERIC: str.isalnum}
    for flag, asks in (questions | {SPACE: str.isspace}).items():
        flags |= np.fromiter(map(asks, text), bool, LAST_CODE + 1) * np.uint8(flag)
    flags[[ord(character) for character in " \t\n\v\f\r\0"]] |= np.uint8(SEPARATOR)
    flags[[ord(character) for character in LINE_BREAKS]] |= np.uint8(BREAK)
    flags[[found.start() for found in re.finditer(r"\w", text)]] |= np.uint8(WORD)
    table[CASELESS, :128] = np.arange(128)
    for letter in "abcdefghijklmnopqrstuvwxyz":
        table[CASELESS, [found.start() for found in re.finditer(letter, text, re.IGNORECASE)]] = ord(letter)
    small = (low if len(low) == 1 else "\0" for low in map(str.lower, text))
    lower = np.fromiter(map(ord, small), np.int64, LAST_CODE + 1)
    table[LOWER] = np.where(lower < 128, lower, 0)
    table.setflags(write=False)
    return table


@kernel
def words_and_lines(offsets: Int64s, data: Bytes, table: Bytes, out: Int64s) -> None:
    """Words and lines per row: out int64[n, 2]. `offsets` int64[n + 1] into `data`; `table` from `characters`.

    words: as DataComp-LM counts them to tell the share that a page lost: parted by what fastText takes for a space,
    and beginning with a letter or a number. lines: as by `str.splitlines`, if they hold more than white space.
    """
    data = read_only(data)
    flags = table[FLAGS]
    for row in range(len(out)):
        end = offsets[row + 1]
        at = offsets[row]
        words: Int64 = 0
        lines: Int64 = 0
        parted, blank = True, True
        while at < end:
            first = data[at]
            flag = flags[first]
            at += 1
            if first >= 128:
                code, size = code_point(data, at - 1)
                flag = flags[code]
                at += size - 1
            words += np.int64(parted and flag & ALPHANUMERIC != 0)
            parted = flag & SEPARATOR != 0
            lines += np.int64(blank and flag & SPACE == 0)
            blank = (blank and flag & SPACE != 0) or flag & BREAK != 0
        out[row, 0], out[row, 1] = words, lines


@kernel
def refinedweb(offsets: Int64s, data: Bytes, table: Bytes, out: Int64s, piece_first: Int64s) -> tuple[Int64s, Bytes]:
    """The corrected rows as pieces of the old (`kernels.pieces`), and counts: out int64[n, 6], as in `REFINEDWEB`.

    `offsets` int64[n + 1] into `data` uint8[...], rows of valid UTF-8; `table` from `characters`; fills
    `piece_first` int64[n + 1] and returns `pieces` int64[m, 2] and `newline` uint8[m]. lines: with a word.
    uppercase_lines, numeric_lines, counter_lines, one_word_lines: removed, each for the first reason that held.
    cut_phrases: cut out of lines; a line with nothing else is gone. The new text is stripped.
    """
    data = read_only(data)
    pieces, newline = np.empty((len(out) + 64, 2), np.int64), np.empty(len(out) + 64, np.uint8)
    lines = np.empty((64, FACTS), np.int64)
    window = np.empty(2, np.int64)  # the lines that white space at the ends of the page leaves
    nowhere = np.empty(0, np.int64)
    held: Int64 = np.int64(0)  # no literal, for which Numba would compile a version of every callee
    for row in range(len(out)):
        piece_first[row] = held
        counts = out[row]
        for column in range(len(counts)):
            counts[column] = 0
        window[0], window[1] = 0, _breaks(data, offsets[row], offsets[row + 1]) + 1
        if window[1] > len(lines):
            lines = np.empty((2 * window[1], FACTS), np.int64)
        _measure(data, offsets[row], offsets[row + 1], table, lines)
        suspicious = _drop_lines(data, table, lines, window, counts)
        where = nowhere
        if suspicious:
            where = _cut_phrases(data, table, lines, window, counts)
        pieces, newline = room(pieces, newline, held, window[1] - window[0] + len(where))
        held = _emit(data, lines, window, where, pieces, newline, held)
    piece_first[len(out)] = held
    return pieces[:held], newline[:held]


@inner
def _breaks(data: Bytes, start: Int64, end: Int64) -> Int64:
    """Line feeds of a row."""
    breaks: Int64 = 0
    for at in range(start, end):
        breaks += np.int64(data[at] == 10)
    return breaks


@inner
def _measure(data: Bytes, start: Int64, end: Int64, table: Bytes, lines: Int64s) -> None:
    """The lines of a row with their counts, in `lines`, which has room for them."""
    flags = table[FLAGS]
    at, held = start, 0
    while True:
        begin = at
        following: Int64 = 0
        uppercase: Int64 = 0
        digits: Int64 = 0
        words: Int64 = 0
        space: Int64 = 1
        while at < end:
            first = data[at]
            if first == 10:
                break
            flag = np.int64(flags[first])
            if first >= 128:
                code, size = code_point(data, at)
                flag = np.int64(flags[code])
                following += size - 1
                at += size - 1
            at += 1
            uppercase += (flag >> 1) & 1
            digits += (flag >> 2) & 1
            words += space & ~flag & 1
            space = flag & 1
        line = lines[held]
        line[START], line[END], line[CHARACTERS] = begin, at, at - begin - following
        line[UPPERCASES], line[DIGITS], line[WORDS], line[ALIVE] = uppercase, digits, words, 1
        held += 1
        if at >= end:
            return
        at += 1


@inner
def _drop_lines(data: Bytes, table: Bytes, lines: Int64s, window: Int64s, counts: Int64s) -> bool:
    """The steps that judge whole lines, the page stripped after the first, the second, and the last. True if a line
    that stays may hold a phrase to cut."""
    suspicious = False
    for step in range(3):
        for i in range(window[0], window[1]):
            line = lines[i]
            if line[ALIVE] == 0 or line[CHARACTERS] == 0:
                continue
            if step == 0:
                counts[LINES] += np.int64(line[WORDS] > 0)
                column = UPPERCASE_LINES if line[UPPERCASES] / line[CHARACTERS] > MAX_UPPERCASE else LINES
            elif step == 1:
                column = NUMERIC_LINES if line[DIGITS] / line[CHARACTERS] > MAX_NUMERIC else LINES
            elif line[DIGITS] > 0 and _is_counter(data, line[START], line[END], table):
                column = COUNTER_LINES
            else:
                column = ONE_WORD_LINES if line[WORDS] < MIN_WORDS else LINES
            if column != LINES:
                line[ALIVE] = 0
                counts[column] += np.int64(line[WORDS] > 0)
            elif step == 2 and not suspicious and line[WORDS] <= MAX_WORDS_OF_A_CUT:
                suspicious = _may_hold_phrase(data, line[START], line[END], table)
        _strip(data, table, lines, window)
    return suspicious


@inner
def _strip(data: Bytes, table: Bytes, lines: Int64s, window: Int64s) -> None:
    """Strip the page: leave out lines at both ends that are gone or blank, and trim the outermost of the rest."""
    first, last = window[0], window[1]
    while first < last and (not lines[first, ALIVE] or lines[first, WORDS] == 0):
        first += 1
    while last > first and (not lines[last - 1, ALIVE] or lines[last - 1, WORDS] == 0):
        last -= 1
    window[0], window[1] = first, last
    if first == last:
        return
    flags = table[FLAGS]
    line = lines[first]
    while True:
        code, size = code_point(data, line[START])
        if not flags[code] & SPACE:
            break
        line[START] += size
        line[CHARACTERS] -= 1
    line = lines[last - 1]
    while True:
        at = _before(data, line[END])
        if not flags[code_point(data, at)[0]] & SPACE:
            break
        line[END] = at
        line[CHARACTERS] -= 1


@inner
def _is_counter(data: Bytes, start: Int64, end: Int64, table: Bytes) -> bool:
    """A number, perhaps with K, M or B, white space and one of the counted things; around them no word
    characters."""
    flags, lower = table[FLAGS], table[LOWER]
    at = _skip(data, start, end, flags, WORD, NEITHER)
    if at == end or not flags[code_point(data, at)[0]] & DECIMAL:
        return False
    while at < end:
        code, size = code_point(data, at)
        if not flags[code] & DECIMAL and code != 44 and code != 46:
            break
        at += size
    if at < end:
        code, size = code_point(data, at)
        if lower[code] == 107 or lower[code] == 109 or lower[code] == 98:
            at += size
    space = _skip(data, at, end, flags, SPACE, SPACE)
    if space == at:
        return False
    for which in range(len(COUNTED_FIRST) - 1):
        name = COUNTED_BYTES[COUNTED_FIRST[which] : COUNTED_FIRST[which + 1]]
        after = _match(data, space, end, name, lower)
        if after >= 0 and _skip(data, after, end, flags, WORD, NEITHER) == end:
            return True
    return False


@inner
def _skip(data: Bytes, start: Int64, end: Int64, flags: Bytes, flag: Int64, wanted: Int64) -> Int64:
    """The first position from `start` whose character does not have `flag` as `wanted` (itself or 0)."""
    while start < end:
        code, size = code_point(data, start)
        if flags[code] & flag != wanted:
            break
        start += size
    return start


@inner
def _match(data: Bytes, start: Int64, end: Int64, phrase: Bytes, letters: Bytes) -> Int64:
    """The position behind `phrase` if it stands at `start`, else -1."""
    for i in range(len(phrase)):
        if start >= end:
            return -1
        code, size = code_point(data, start)
        if phrase[i] != 46 and letters[code] != phrase[i]:
            return -1
        start += size
    return start


@inner
def _may_hold_phrase(data: Bytes, start: Int64, end: Int64, table: Bytes) -> bool:
    """True if one of the phrases stands anywhere in the line, "Read more" without what follows."""
    letters = table[CASELESS]
    for at in range(start, end):
        first = data[at]
        # I, R and S; the dotted capital and the dotless small i; the long s.
        if first | 32 == 105 or first == 0xC4:
            found = _match(data, at, end, ITEMS, letters)
        elif first | 32 == 114:
            found = _match(data, at, end, READ_MORE[:READ_MORE_BEGINS], letters)
        elif first | 32 == 115 or first == 0xC5:
            found = _match(data, at, end, SIGN_IN, letters)
        else:
            continue
        if found >= 0:
            return True
    return False


@maker
def _cut_phrases(data: Bytes, table: Bytes, lines: Int64s, window: Int64s, counts: Int64s) -> Int64s:
    """The three cuts, the page stripped after each, on a copy of the lines: `lines` then speaks of the copy. Gives
    the position in `data` of every byte of the copy."""
    size = 0
    for i in range(window[0], window[1]):
        size += lines[i, END] - lines[i, START] + 1
    # One place more for each line, so that an empty one has a position too.
    where, copy = np.empty(size, np.int64), np.empty(size, np.uint8)
    held = 0
    for i in range(window[0], window[1]):
        line = lines[i]
        begin = held
        for at in range(line[START], line[END]):
            where[held], copy[held] = at, data[at]
            held += 1
        where[held], copy[held] = line[END], 10
        line[START], line[END] = begin, held
        held += 1
    text = read_only(copy)
    for phrase in range(3):
        for i in range(window[0], window[1]):
            line = lines[i]
            if not line[ALIVE] or not 0 < line[WORDS] <= MAX_WORDS_OF_A_CUT:
                continue
            if phrase == 0:
                cut = _cut_items(copy, where, table, line)
            elif phrase == 1:
                cut = _cut_read_more(text, table, line)
            else:
                cut = _cut_sign_in(text, table, line)
            counts[CUT_PHRASES] += cut
            if cut > 0 and _skip(text, line[START], line[END], table[FLAGS], SPACE, SPACE) == line[END]:
                line[ALIVE] = 0
        _strip(text, table, lines, window)
    return where


@inner
def _cut_items(copy: Bytes, where: Int64s, table: Bytes, line: Int64s) -> Int64:
    """Cut "items in cart" wherever it stands, with a space before it; the rest of the line closes up."""
    text, flags, letters = read_only(copy), table[FLAGS], table[CASELESS]
    cut, held, at = 0, line[START], line[START]
    while at < line[END]:
        code, size = code_point(text, at)
        begin = at + size if flags[code] & SPACE else at
        after = _match(text, begin, line[END], ITEMS, letters)
        if after >= 0:
            cut += 1
            at = after
            continue
        for _ in range(size):
            copy[held], where[held] = copy[at], where[at]
            held += 1
            at += 1
    line[END] = held
    return cut


@inner
def _cut_read_more(text: Bytes, table: Bytes, line: Int64s) -> Int64:
    """Cut "read more" and three characters from the line's end, with a space before them."""
    at = line[END]
    for _ in range(len(READ_MORE)):
        if at == line[START]:
            return 0
        at = _before(text, at)
    if _match(text, at, line[END], READ_MORE, table[CASELESS]) < 0:
        return 0
    if at > line[START]:
        previous = _before(text, at)
        flags = table[FLAGS]
        if flags[code_point(text, previous)[0]] & SPACE:
            at = previous
    line[END] = at
    return 1


@inner
def _cut_sign_in(text: Bytes, table: Bytes, line: Int64s) -> Int64:
    """Cut "sign-in" from the line's start, with a space behind it."""
    after = _match(text, line[START], line[END], SIGN_IN, table[CASELESS])
    if after < 0:
        return 0
    if after < line[END]:
        code, size = code_point(text, after)
        flags = table[FLAGS]
        if flags[code] & SPACE:
            after += size
    line[START] = after
    return 1


@inner
def _before(data: Bytes, at: Int64) -> Int64:
    """Where the character begins that ends at `at`."""
    at -= 1
    while data[at] & 0xC0 == 0x80:
        at -= 1
    return at


@inner
def _emit(
    data: Bytes, lines: Int64s, window: Int64s, where: Int64s, pieces: Int64s, newline: Bytes, held: Int64
) -> Int64:
    """Add the lines that stay, with line feeds between them; the new number of pieces."""
    first = held
    for i in range(window[0], window[1]):
        line = lines[i]
        if not line[ALIVE]:
            continue
        if held > first:
            newline[held - 1] = 1
        if len(where) == 0:
            held = keep(data, pieces, newline, first, held, (line[START], line[END]))
            continue
        start = line[START]
        for at in range(line[START], max(line[END], line[START] + 1)):
            size = np.int64(at < line[END])
            if at + 1 >= line[END] or where[at + 1] != where[at] + 1:
                held = keep(data, pieces, newline, first, held, (where[start], where[at] + size))
                start = at + 1
    return held
