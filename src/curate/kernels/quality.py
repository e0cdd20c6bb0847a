"""Counts of Gopher's quality rules over words that another kernel found, stop words of many languages, and the readings
of DCLM and Dolma.

`quality` and `stop_words` take word spans, so that any tokenizer's words can be judged. `dclm` and `dolma` find their
own words and lines, because each of these corpora has a definition of them that decides what it drops: DCLM counts
tokens as fastText cuts them and strips its lines, Dolma measures the median word and keeps empty lines. One character
at a time; the catch is that this costs two to three times what the masks of kernels/text.py do.
"""

import functools
import unicodedata
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import FRONT, ONE, load64, read_only
from curate.kernels.blocks import LAST_CODE, Int64
from curate.kernels.boundaries import decoded
from curate.kernels.compiled import inner, kernel
from curate.kernels.text import (
    IS_LETTER,
    IS_PUNCTUATION,
    IS_SPACE,
    STOP_BYTES,
    STOP_SIZES,
    _stop_word,
    code_point_classes,
)

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Int16s = NDArray[np.int16]
Bytes = NDArray[np.uint8]

QUALITY = ("words", "word_characters", "alphabetic_words", "symbol_free_words", "symbol_free_characters")
"""What the columns of `quality` count: the columns of kernels/text.py by these names, over the words given."""

DCLM = (
    "words",
    "word_characters",
    "alphabetic_words",
    "dclm_words",
    "dclm_symbols",
    "dclm_lines",
    "dclm_bullet_lines",
    "dclm_ellipsis_lines",
    "dclm_stop_words",
)
"""What the columns of `dclm` count."""

DOLMA = (
    "dolma_words",
    "dolma_alphabetic_words",
    "dolma_symbol_words",
    "dolma_median_word_length_twice",
    "dolma_lines",
    "dolma_bullet_lines",
    "dolma_ellipsis_lines",
    "dolma_stop_words",
)
"""What the columns of `dolma` count."""

IS_NUMBER_OR_LETTER = 64
LINE_FEED, SPACE, HASH, STAR, DASH, DOT, ELLIPSIS = 10, 32, 35, 42, 45, 46, 0x2026
BULLETS_OF_DCLM = (0x25CF, 0x2022, STAR, DASH)
SHORT = 256
"""Word lengths that `dolma` counts one by one."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@functools.cache
def reading_classes() -> Bytes:
    """Flags of every code point, uint8[0x110000]: space, letter (as in kernels/text.py), letter or number."""
    classes = code_point_classes() & np.uint8(IS_SPACE | IS_LETTER)
    text = np.arange(LAST_CODE + 1, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    major = np.frombuffer("".join(unicodedata.category(one)[0] for one in text).encode(), np.uint8)
    classes[(major == ord("L")) | (major == ord("N"))] |= IS_NUMBER_OR_LETTER
    classes.setflags(write=False)
    return classes


@kernel
def quality(offsets: Int64s, data: Bytes, first: Int64s, edges: Int32s, classes: Bytes, out: Int64s) -> None:
    """Counts over given words: out int64[n, 5], columns as in `QUALITY`.

    `offsets` int64[n + 1] into `data` uint8[...], rows of valid UTF-8; `first` int64[n + 1] and `edges` int32[...]:
    word j of row i, first[i] <= j < first[i + 1], is bytes edges[2 * j] .. edges[2 * j + 1] - 1 of the row; `classes`
    from `code_point_classes`. words: as given; word_characters: their code points; alphabetic_words: with a letter
    (`str.isalpha`); symbol_free_words: with a character that is neither punctuation nor space, symbol_free_characters:
    their code points.
    """
    for row in range(len(out)):
        text = read_only(data[offsets[row] : offsets[row + 1]])
        counts = out[row]
        counts[:] = 0
        counts[0] = first[row + 1] - first[row]
        for word in range(first[row], first[row + 1]):
            at, end = np.int64(edges[2 * word]), np.int64(edges[2 * word + 1])
            characters, flags, solid = np.int64(0), np.int64(0), False
            while at < end:
                code, size = decoded(text, at)
                kind = np.int64(classes[code])
                flags |= kind
                solid |= bool(kind & (IS_PUNCTUATION | IS_SPACE) == 0)
                characters += 1
                at += size
            counts[1] += characters
            counts[2] += np.int64(flags & IS_LETTER != 0)
            if solid:
                counts[3] += 1
                counts[4] += characters


class StopWords(NamedTuple):
    """Sets of words as one hashed table: slots int64[2^k] hold the number of a word plus 1; word w belongs to set
    of[w] and is data[starts[w] : starts[w + 1]]."""

    slots: Int64s
    of: Int16s
    starts: Int64s
    data: Bytes


def stop_word_sets(sets: Sequence[Collection[str]]) -> StopWords:
    """The table for `stop_words`: set i holds the words of sets[i]. A word may be in many sets."""
    words = [(index, word.encode()) for index, one in enumerate(sets) for word in sorted(set(one)) if word]
    starts = np.cumsum([0, *(len(word) for _, word in words)], dtype=np.int64)
    data = np.frombuffer(b"".join(word for _, word in words) or b"\0", np.uint8)
    of = np.array([index for index, _ in words], np.int16)
    slots = np.zeros(1 << (4 * len(words) + 1).bit_length(), np.int64)
    _place(slots, of, starts, data)
    return StopWords(slots, of, starts, data)


@kernel
def stop_words(
    offsets: Int64s, data: Bytes, first: Int64s, edges: Int32s, which: Int16s, sets: StopWords, out: Int64s
) -> None:
    """How many different words of its set each row has: out int64[n].

    `which` int16[n]: the row's set, -1 for none (then 0); `sets` from `stop_word_sets`; the others as in `quality`.
    Words are equal if their bytes are: case-sensitive, and of one Unicode form.
    """
    # Once, not per word: each look into the tuple counts a reference.
    slots, of, starts, known = sets.slots, sets.of, sets.starts, sets.data
    seen = np.full(len(of) + 1, -1, np.int64)
    for row in range(len(out)):
        text = read_only(data[offsets[row] : offsets[row + 1]])
        out[row] = 0
        if which[row] < 0:
            continue
        for word in range(first[row], first[row + 1]):
            start, end = np.int64(edges[2 * word]), np.int64(edges[2 * word + 1])
            found: Int64 = np.int64(-1)
            slot = _slot(text, start, end, which[row], slots)
            while slots[slot] > 0 and found < 0:
                candidate = slots[slot] - 1
                if of[candidate] == which[row] and _equal(
                    text[start:end], known[starts[candidate] : starts[candidate + 1]]
                ):
                    found = candidate
                slot = (slot + 1) & (len(slots) - 1)
            if found >= 0 and seen[found] != row:
                seen[found] = row
                out[row] += 1


@inner
def _slot(text: Bytes, start: Int64, end: Int64, which: Int64, slots: Int64s) -> Int64:
    """Where a word is looked for first, by its first eight bytes, its length and its set."""
    head = np.uint64(0)
    if start + 8 <= len(text):
        head = load64(text, int(start))
        if end - start < 8:
            head &= (ONE << np.uint64(8 * (end - start))) - ONE
    else:
        for i in range(min(end - start, 8)):
            head |= np.uint64(text[start + i]) << np.uint64(8 * i)
    mixed = (head ^ np.uint64(np.int64(which) * 65_537 + end - start)) * _MULTIPLIER
    mixed = (mixed ^ (mixed >> np.uint64(29))) * _MULTIPLIER
    return np.int64(mixed >> np.uint64(32)) & (len(slots) - 1)


@inner
def _equal(one: Bytes, other: Bytes) -> bool:
    at = 0
    while at < len(one) and at < len(other) and one[at] == other[at]:
        at += 1
    return at == len(one) and at == len(other)


@kernel
def _place(slots: Int64s, of: Int16s, starts: Int64s, data: Bytes) -> None:
    """Fill the table."""
    for word in range(len(of)):
        slot = _slot(data, starts[word], starts[word + 1], of[word], slots)
        while slots[slot] > 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = word + 1


@kernel
def dclm(offsets: Int64s, data: Bytes, classes: Bytes, out: Int64s) -> None:
    """Counts as DCLM takes them: out int64[n, 9], columns as in `DCLM`; `classes` from `reading_classes`.

    Source: mlfoundations/dclm, baselines/mappers/filters/content_filters.py and core_utils.py. words, word_characters,
    alphabetic_words: by `str.split`, as in kernels/text.py. dclm_words: tokens parted by space, NUL and the bytes 9 to
    13 (fastText's cut) whose first character is a letter or number. dclm_symbols: "#", "...", ". . ." and U+2026, each
    counted without overlap with itself. dclm_lines: pieces between line feeds that are not blank; dclm_bullet_lines:
    those that begin, spaces aside, with U+25CF, U+2022, "*" or "-"; dclm_ellipsis_lines: that end with "...", ". . ."
    or U+2026. dclm_stop_words: words that in lower case are one of Gopher's eight, repetitions counted.
    """
    for row in range(len(out)):
        text = read_only(data[offsets[row] : offsets[row + 1]])
        out[row, :] = 0
        _dclm_words(text, classes, out[row])
        _dclm_symbols(text, out[row])
        _dclm_lines(text, classes, out[row])


@inner
def _dclm_words(text: Bytes, classes: Bytes, counts: Int64s) -> None:
    at, start, flags, between = np.int64(0), np.int64(-1), np.int64(0), True
    while at <= len(text):
        code, size = decoded(text, at) if at < len(text) else (np.int64(SPACE), np.int64(1))
        kind = np.int64(classes[code])
        cut = code == SPACE or code == 0 or (code >= 9 and code <= 13)
        if between and not cut:
            counts[3] += np.int64(kind & IS_NUMBER_OR_LETTER != 0)
        between = bool(cut)
        if kind & IS_SPACE == 0:
            if start < 0:
                start, flags = at, np.int64(0)
            flags |= kind
            counts[1] += 1
        elif start >= 0:
            counts[0] += 1
            counts[2] += np.int64(flags & IS_LETTER != 0)
            counts[8] += np.int64(_is_stop_word_in_lower_case(text, start, at))
            start = np.int64(-1)
        at += size


@inner
def _is_stop_word_in_lower_case(text: Bytes, start: Int64, end: Int64) -> bool:
    """Only ASCII: no other letter of the eight words has a capital outside of it."""
    if end - start < 2 or end - start > 4:
        return False
    lower = np.uint64(0)
    for i in range(end - start):
        byte = np.uint64(text[start + i])
        capital = byte >= np.uint64(65) and byte <= np.uint64(90)
        lower |= (byte + np.uint64(32) if capital else byte) << np.uint64(8 * i)
    for which in range(len(STOP_BYTES)):
        if lower == STOP_BYTES[which]:
            return bool(STOP_SIZES[which] == end - start)
    return False


@inner
def _dclm_symbols(text: Bytes, counts: Int64s) -> None:
    dots, spaced = 0, 0
    for at in range(len(text)):
        byte = text[at]
        if byte == DOT:
            dots += 1
            # Bytes of ". . ." matched so far: a dot goes on behind a space, and starts anew elsewhere.
            spaced = spaced + 1 if spaced == 2 or spaced == 4 else 1
            if dots == 3:
                counts[4] += 1
                dots = 0
            if spaced == 5:
                counts[4] += 1
                spaced = 0
        else:
            dots = 0
            spaced = spaced + 1 if byte == SPACE and (spaced == 1 or spaced == 3) else 0
            if byte == HASH or (byte == 0xA6 and _ends_with_ellipsis(text, FRONT, at + 1)):
                counts[4] += 1


@inner
def _ends_with_ellipsis(text: Bytes, start: Int64, end: Int64) -> bool:
    """True if the bytes from `start` to `end` end with U+2026."""
    return bool(end - start >= 3 and text[end - 3] == 0xE2 and text[end - 2] == 0x80 and text[end - 1] == 0xA6)


@inner
def _dclm_lines(text: Bytes, classes: Bytes, counts: Int64s) -> None:
    at, start, end = np.int64(0), np.int64(-1), np.int64(0)
    while at <= len(text):
        code, size = decoded(text, at) if at < len(text) else (np.int64(LINE_FEED), np.int64(1))
        if code == LINE_FEED:
            if start >= 0:
                counts[5] += 1
                counts[7] += np.int64(_ends_with_any_ellipsis(text, start, end))
            start = np.int64(-1)
        elif classes[code] & IS_SPACE == 0:
            if start < 0:
                start = at
                counts[6] += np.int64(code in BULLETS_OF_DCLM)
            end = at + size
        at += size


@inner
def _ends_with_any_ellipsis(text: Bytes, start: Int64, end: Int64) -> bool:
    if _ends_with_ellipsis(text, start, end):
        return True
    if end - start < 3 or text[end - 1] != DOT:
        return False
    if text[end - 2] == DOT and text[end - 3] == DOT:
        return True
    spaced = end - start >= 5 and text[end - 2] == SPACE and text[end - 4] == SPACE
    return bool(spaced and text[end - 3] == DOT and text[end - 5] == DOT)


@kernel
def dolma(offsets: Int64s, data: Bytes, classes: Bytes, out: Int64s) -> None:
    """Counts as Dolma takes them: out int64[n, 8], columns as in `DOLMA`; `classes` from `reading_classes`.

    Source: allenai/dolma, python/dolma/taggers/gopher.py. dolma_words: by `str.split`; dolma_alphabetic_words: with a
    letter; dolma_symbol_words: with "#" or U+2026; dolma_median_word_length_twice: twice the median of their lengths in
    code points (of an even number, the sum of the two in the middle), 0 without words. dolma_lines: pieces between line
    feeds, empty ones too; dolma_bullet_lines: that begin with "*" or "-"; dolma_ellipsis_lines: that end with U+2026;
    spaces are no exception. dolma_stop_words: words that are one of Gopher's eight, case-sensitive, repetitions
    counted. An empty text has 0 everywhere.
    """
    few = np.empty(SHORT, np.int64)
    for row in range(len(out)):
        text = read_only(data[offsets[row] : offsets[row + 1]])
        out[row, :] = 0
        if len(text) > 0:
            # Long words are kept one by one; so many fit into the row.
            many = np.empty(len(text) // SHORT + 1, np.int64)
            longs = _dolma_words(text, classes, few, many, out[row])
            words = out[row, 0]
            if words > 0:
                out[row, 3] = _nth(few, many[:longs], (words - 1) // 2) + _nth(few, many[:longs], words // 2)
            _dolma_lines(text, out[row])


@inner
def _dolma_words(text: Bytes, classes: Bytes, few: Int64s, many: Int64s, counts: Int64s) -> Int64:
    """Count words; their lengths go to `few` (how many of each length) and `many`, whose use is returned."""
    few[:] = 0
    longs, at, start, flags, length, symbol = 0, np.int64(0), np.int64(-1), np.int64(0), np.int64(0), False
    while at <= len(text):
        code, size = decoded(text, at) if at < len(text) else (np.int64(SPACE), np.int64(1))
        kind = np.int64(classes[code])
        if kind & IS_SPACE == 0:
            if start < 0:
                start, flags, length, symbol = at, np.int64(0), np.int64(0), False
            flags |= kind
            length += 1
            symbol |= code in (HASH, ELLIPSIS)
        elif start >= 0:
            counts[0] += 1
            counts[1] += np.int64(flags & IS_LETTER != 0)
            counts[2] += np.int64(symbol)
            if at - start <= 4:
                counts[7] += np.int64(_stop_word(text[start:at], FRONT)[1] == at - start)
            if length < SHORT:
                few[length] += 1
            else:
                many[longs] = length
                longs += 1
            start = np.int64(-1)
        at += size
    return longs


@inner
def _nth(few: Int64s, many: Int64s, place: Int64) -> Int64:
    """The length at a place in sorted order, counted from 0."""
    below = np.int64(0)
    for length in range(SHORT):
        below += few[length]
        if place < below:
            return np.int64(length)
    place -= below
    low, high = np.int64(SHORT), np.int64(SHORT)
    for length in many:
        high = max(high, length)
    while low < high:
        middle = (low + high) // 2
        upto = np.int64(0)
        for length in many:
            upto += np.int64(length <= middle)
        if place < upto:
            high = middle
        else:
            low = middle + 1
    return low


@inner
def _dolma_lines(text: Bytes, counts: Int64s) -> None:
    start = 0
    for at in range(len(text) + 1):
        if at == len(text) or text[at] == LINE_FEED:
            counts[4] += 1
            counts[5] += np.int64(at > start and (text[start] == STAR or text[start] == DASH))
            counts[6] += np.int64(_ends_with_ellipsis(text, start, at))
            start = at + 1
