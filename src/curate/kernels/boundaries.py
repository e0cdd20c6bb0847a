"""Words by Unicode word boundaries (UAX #29), for texts in which spaces do not part words.

The default rules walk a text one character at a time; all they need is the class of the character before and, for
marks such as the apostrophe in "can't", of the one before that. Kept are the stretches between two boundaries that
hold a letter or a number (categories L*, N*); spaces, punctuation, emoji and lone marks are no words.

By the default rules a run of Katakana is a word, and every ideograph and every Hiragana character is one. Thai, Lao,
Khmer, Burmese and their kin (line break class SA) are left to dictionaries there, with a boundary around every
letter; here their word is a cluster: a letter with the vowels written before it (U+0E40..0E44 and their like), its
signs and marks, the vowels written behind it (U+0E30, U+0E32 ...), and letters that a stacking sign (the Khmer coeng,
the Burmese virama) puts below it. That is about a syllable without its final consonant.

The catch: one rule is left out. WB3c glues a pictograph to a joiner before it, which here could only make a word run on
into an emoji; a word ends at the joiner.
"""

import functools
import unicodedata

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import read_only
from curate.kernels.blocks import LAST_CODE, code_point
from curate.kernels.compiled import inner, kernel

Int64 = np.int64 | int
Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Bytes = NDArray[np.uint8]

CLASSES = (
    "other",
    "break",  # CR, LF, Newline
    "extend",  # Extend, Format and ZWJ, which the rules treat alike
    "katakana",
    "hebrew_letter",
    "letter",
    "single_quote",
    "double_quote",
    "mid_number_letter",
    "mid_letter",
    "mid_number",
    "numeric",
    "extend_number_letter",
    "leading_vowel",  # these three: letters of line break class SA
    "base",
    "trailing_vowel",
)
"""What the low four bits of a property mean: values of Word_Break, and three of our own within its Other."""
(
    OTHER,
    BREAK,
    EXTEND,
    KATAKANA,
    HEBREW_LETTER,
    LETTER,
    SINGLE_QUOTE,
    DOUBLE_QUOTE,
    MID_NUMBER_LETTER,
    MID_LETTER,
    MID_NUMBER,
    NUMERIC,
    EXTEND_NUMBER_LETTER,
    LEADING_VOWEL,
    BASE,
    TRAILING_VOWEL,
) = range(len(CLASSES))
CLASS, COUNTS, STACKS = 15, 16, 32
"""Bits of a property: the class; the character makes a word (L*, N*); it puts the next letter below the last."""

# Facts of the Unicode Standard that its categories do not tell. Alphabetic characters that are no letters, and letters
# that are parts of words though their category is a symbol's or a mark's (Word_Break=ALetter):
_ALSO_LETTERS = (
    "b8 2c2-2c5 2d2-2d7 2de-2df 2e5-2eb 2ed 2ef-2ff 55a-55c 55e 58a 5f3 70f 24b6-24e9 a708-a716 a720-a721 a789-a78a"
    " ab5b 1f130-1f149 1f150-1f169 1f170-1f189"
)
_ALSO_NUMERIC = "600-605 66b 6dd 890-891 8e2 19da 110bd 110cd"
_ALSO_EXTEND = "200c-200d ff9e-ff9f 1f3fb-1f3ff e0020-e007f"
_NOT_EXTEND = "200b"
_ALSO_KATAKANA = "3031-3035 309b-309c 30a0 30fc 3300-3357 ff70"
_NOT_KATAKANA = "30fb ff65 1f201-1f202 1f213"
_IDEOGRAPHS = (
    "3006-3007 3021-3029 3038-303a 3400-4dbf 4e00-9fff f900-fad9 16fe4 17000-18cff 18d00-18d7f 1b170-1b2ff 20000-3ffff"
)
_HIRAGANA = "3041-3096 309d-309f 1b001-1b11f 1b132 1b150-1b152"
_HEBREW = "5d0-5ea 5ef-5f2 fb1d fb1f-fb28 fb2a-fb4f"
_MARKS = {
    BREAK: "a-d 85 2028-2029",
    SINGLE_QUOTE: "27",
    DOUBLE_QUOTE: "22",
    MID_NUMBER_LETTER: "2e 2018-2019 2024 fe52 ff07 ff0e",
    MID_LETTER: "3a b7 387 55f 5f4 2027 fe13 fe55 ff1a",
    MID_NUMBER: "2c 3b 37e 589 60c-60d 66c 7f8 2044 fe50 fe54 ff0c ff1b",
    EXTEND_NUMBER_LETTER: "5f 202f 203f-2040 2054 fe33-fe34 fe4d-fe4f ff3f",
}
# Letters of line break class SA: Thai, Lao, Myanmar, Khmer, Tai Le, New Tai Lue, Tai Tham, Myanmar extended B and A,
# Tai Viet, Ahom. Then Logical_Order_Exception; vowels, tones and repetition signs behind their letter; stacking signs.
_CLUSTERED = "e00-eff 1000-109f 1780-17ff 1950-19df 1a20-1aaf a9e0-a9ff aa60-aadf 11700-1174f"
_LEADING = "e40-e44 ec0-ec4 19b5-19b7 19ba aab5-aab6 aab9 aabb-aabc"
_TRAILING = (
    "e2f-e30 e32-e33 e45-e46 eaf-eb0 eb2-eb3 ec6 17d7 19b0-19b4 19b8-19b9 19bb-19c9 aa70 aab1 aaba aabd aac0 aac2 aadd"
)
_STACKING = "1039 17d2 1a60"


@functools.cache
def word_properties() -> Bytes:
    """The property of every code point, uint8[0x110000]: bits as in `CLASS`, `COUNTS`, `STACKS`.

    From the categories of this Python's Unicode database and the lists above, which are as of Unicode 17. A code point
    that this Python does not know makes no word.
    """
    text = np.arange(LAST_CODE + 1, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    category = np.frombuffer("".join(map(unicodedata.category, text)).encode(), np.uint8).reshape(-1, 2)
    major, whole = category[:, 0], np.ascontiguousarray(category).view("S2")[:, 0]
    word = (major == ord("L")) | (whole == b"Nl")
    properties = np.where(word, LETTER, OTHER).astype(np.uint8)
    properties[_codes(_IDEOGRAPHS) + _codes(_HIRAGANA)] = OTHER
    properties[_codes(_HEBREW)] = HEBREW_LETTER
    letters = _codes("30a1-30ff 31f0-31ff 32d0-32fe ff66-ff9d 1aff0-1b16f")
    named = [code for code in letters if "KATAKANA" in unicodedata.name(chr(code), "")]
    properties[named + _codes(_ALSO_KATAKANA)] = KATAKANA
    properties[_codes(_NOT_KATAKANA)] = OTHER
    clustered = np.zeros(LAST_CODE + 1, bool)
    clustered[_codes(_CLUSTERED)] = True
    properties[clustered & (major == ord("L"))] = BASE
    properties[_codes(_LEADING)] = LEADING_VOWEL
    properties[_codes(_TRAILING)] = TRAILING_VOWEL
    properties[(major == ord("M")) | (whole == b"Cf")] = EXTEND
    properties[_codes(_ALSO_EXTEND)] = EXTEND
    properties[_codes(_NOT_EXTEND)] = OTHER
    properties[_codes(_ALSO_LETTERS)] = LETTER
    properties[whole == b"Nd"] = NUMERIC
    properties[_codes(_ALSO_NUMERIC)] = NUMERIC
    for kind, codes in _MARKS.items():
        properties[_codes(codes)] = kind
    properties[whole == b"Cn"] = OTHER
    properties[(major == ord("L")) | (major == ord("N"))] |= COUNTS
    properties[_codes(_STACKING)] |= STACKS
    properties.setflags(write=False)
    return properties


def _codes(ranges: str) -> list[int]:
    """Code points of ranges such as "41-5a b5"."""
    borders = [part.split("-") for part in ranges.split()]
    return [code for part in borders for code in range(int(part[0], 16), int(part[-1], 16) + 1)]


def _joins() -> NDArray[np.uint8]:
    """uint8[16, 16]: 1 where there is no boundary between a character of one class and the next of another."""
    table = np.zeros((len(CLASSES), len(CLASSES)), np.uint8)
    letters, ones = (LETTER, HEBREW_LETTER), (LETTER, HEBREW_LETTER, NUMERIC)
    for left in ones:  # WB5, WB8, WB9, WB10
        table[left, list(ones)] = 1
    table[KATAKANA, KATAKANA] = 1  # WB13
    for other in (*ones, KATAKANA, EXTEND_NUMBER_LETTER):  # WB13a, WB13b
        table[other, EXTEND_NUMBER_LETTER] = table[EXTEND_NUMBER_LETTER, other] = 1
    table[LEADING_VOWEL, [LEADING_VOWEL, BASE, TRAILING_VOWEL]] = 1
    table[[BASE, TRAILING_VOWEL], TRAILING_VOWEL] = 1
    # What joins only if a third class fits: 2 behind the second, while the third is looked for.
    for left in letters:  # WB6
        table[left, [MID_LETTER, MID_NUMBER_LETTER, SINGLE_QUOTE]] = 2
    table[HEBREW_LETTER, DOUBLE_QUOTE] = 2  # WB7b
    table[NUMERIC, [MID_NUMBER, MID_NUMBER_LETTER, SINGLE_QUOTE]] = 2  # WB12
    return table


JOINS = _joins()
APART, TOGETHER, PERHAPS = 0, 1, 2
NOWHERE = -1


@kernel
def unicode_words(offsets: Int64s, data: Bytes, properties: Bytes, first: Int64s, edges: Int32s) -> None:
    """Where the words of each row are: first int64[n + 1], edges int32[2 * capacity].

    `offsets` int64[n + 1] into `data` uint8[...], rows of valid UTF-8 (in others the words mean nothing, but no byte
    outside the row is read); `properties` from `word_properties`. The words of row i are first[i] .. first[i + 1] - 1;
    word j is bytes edges[2 * j] .. edges[2 * j + 1] - 1 of its row, in order, never empty; words may touch. Capacity:
    at most one word per byte of the rows. Rows are of less than 2 GB.
    """
    words: Int64 = np.int64(0)
    first[0] = 0
    for row in range(len(offsets) - 1):
        words = _words_of(read_only(data[offsets[row] : offsets[row + 1]]), properties, edges, words)
        first[row + 1] = words


@inner
def _words_of(text: Bytes, properties: Bytes, edges: Int32s, words: Int64) -> Int64:
    """Append the edges of a row's words; how many words there are then."""
    at, start, last, counts, stacked = np.int64(0), np.int64(0), np.int64(BREAK), False, False
    # A mark that may yet turn out to be inside a word: its class and place.
    mark, place = np.int64(OTHER), np.int64(NOWHERE)
    while at < len(text):
        code, size = decoded(text, at)
        flags = np.int64(properties[code])
        kind = flags & CLASS
        if kind == EXTEND and last != BREAK:  # WB4
            stacked |= flags & STACKS != 0
            at += size
            continue
        if place == NOWHERE:
            join = np.int64(JOINS[last, kind])
            if last == BASE and kind == BASE and stacked:
                join = np.int64(TOGETHER)
        else:
            join = np.int64(_fits(last, mark, kind))
        if join == PERHAPS:
            mark, place = kind, at
        else:
            if join == APART:
                if counts:
                    words = _append(edges, words, start, _end(last, mark, place, at))
                start, counts = at, False
            counts |= flags & COUNTS != 0
            last, place = np.int64(OTHER if kind == EXTEND else kind), np.int64(NOWHERE)
        stacked = False
        at += size
    if counts:
        words = _append(edges, words, start, _end(last, mark, place, at))
    return words


@inner
def decoded(text: Bytes, at: Int64) -> tuple[Int64, Int64]:
    """Code point and bytes of the character at a place; most are ASCII."""
    if text[at] < 0x80:
        return np.int64(text[at]), np.int64(1)
    return code_point(text, at)


@inner
def _fits(last: Int64, mark: Int64, kind: Int64) -> Int64:
    """TOGETHER if a mark stands inside a word, by the classes around it: WB6, WB7, WB7b, WB7c, WB11, WB12."""
    if kind in (LETTER, HEBREW_LETTER):
        if last == NUMERIC:
            return APART
        return TOGETHER if mark != DOUBLE_QUOTE or kind == HEBREW_LETTER else APART
    if kind == NUMERIC and last == NUMERIC:
        return TOGETHER
    return APART


@inner
def _end(last: Int64, mark: Int64, place: Int64, at: Int64) -> Int64:
    """Where a word ends that ends at the latest at `at`: before a mark, but for a Hebrew apostrophe (WB7a)."""
    if place == NOWHERE or (last == HEBREW_LETTER and mark == SINGLE_QUOTE):
        return at
    return place


@inner
def _append(edges: Int32s, words: Int64, start: Int64, end: Int64) -> Int64:
    edges[2 * words] = start
    edges[2 * words + 1] = end
    return words + 1
