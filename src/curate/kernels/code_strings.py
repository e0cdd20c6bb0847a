"""Strings of source code as OpenCoder's expressions find them, the same for every language.

    '''(.*?)'''|\"\"\"(.*?)\"\"\"|'([^\\n]*?)'|"([^\\n]*?)"      for characters in strings, and in their long words
    '''(.*?)'''|\"\"\"(.*?)\"\"\"|'(.*?)'|"(.*?)"              for lines with long strings

A dot is any character, the shortest match from the left counts, and no escape is known.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import read_only
from curate.kernels.blocks import Int64, code_point
from curate.kernels.code_characters import IS_ALPHANUMERIC
from curate.kernels.compiled import inner, kernel
from curate.kernels.text import IS_SPACE

Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]

STRING_COUNTS = ("string_characters", "long_string_lines", "string_word_characters")
"""What the columns of `strings` hold, in order."""
LONG_WORD, MANY_WORDS = 20, 20


@kernel
def strings(offsets: Int64s, data: Bytes, classes: Bytes, out: Int64s) -> None:
    """out int64[n, 3]: code points in strings, lines of strings of more than 20 words, code points of long words.

    `offsets` int64[n + 1] into `data` uint8[...], code without its comments; `classes` from `code_classes`. Words of
    a line are runs of word characters and runs of others, spaces aside; long words are what spaces part, over 20 code
    points, without an address of the web.
    """
    no_triple = np.empty(2, np.uint8)
    for row in range(len(out)):
        out[row] = 0
        for in_line in range(2):
            _scan(read_only(data[offsets[row] : offsets[row + 1]]), in_line, classes, no_triple, out[row])


@inner
def _scan(code: Bytes, in_line: Int64, classes: Bytes, no_triple: Bytes, out: Int64s) -> None:
    """Find strings, within lines for their characters and across lines for their lines."""
    no_triple[:] = 0
    at = np.int64(0)
    while at < len(code):
        quote = code[at]
        if quote != 34 and quote != 39:
            at += 1
            continue
        start, end = _string(code, at, in_line, no_triple)
        if end < 0:
            at += 1
            continue
        if in_line:
            _measure_words(code, start, end, classes, out)
        elif end - start > MANY_WORDS:
            # Twenty-one words take twenty-one bytes at least.
            out[1] += _long_lines(code, start, end, classes)
        at = end + start - at


@inner
def _string(code: Bytes, at: Int64, in_line: Int64, no_triple: Bytes) -> tuple[Int64, Int64]:
    """First byte and end of the string that the quote at `at` opens; end -1 if it opens none."""
    quote = code[at]
    which = np.int64(quote == 39)
    size = len(code)
    if no_triple[which] == 0 and at + 2 < size and code[at + 1] == quote and code[at + 2] == quote:
        end = at + 3
        while end + 2 < size:
            if code[end] == quote and code[end + 1] == quote and code[end + 2] == quote:
                return at + 3, end
            end += 1
        no_triple[which] = 1
    end = at + 1
    while end < size and code[end] != quote:
        if in_line and code[end] == 10:
            return at + 1, -1
        end += 1
    return at + 1, end if end < size else -1


@inner
def _measure_words(code: Bytes, start: Int64, end: Int64, classes: Bytes, out: Int64s) -> None:
    """Code points of a string, and of its long words."""
    at, first, length = start, start, 0
    while at <= end:
        space = True
        size: Int64 = 1
        if at < end:
            point, size = code_point(code, at)
            space = classes[point] & IS_SPACE != 0
            out[0] += 1
        if not space:
            length += 1
        else:
            if length > LONG_WORD and not _has_address(code, first, at):
                out[2] += length
            first, length = at + size, 0
        at += size


@inner
def _has_address(code: Bytes, start: Int64, end: Int64) -> bool:
    """True if `https?://` and something behind it lies between."""
    for at in range(start, end - 7):
        if code[at] == 104 and code[at + 1] == 116 and code[at + 2] == 116 and code[at + 3] == 112:
            behind = at + 4 + np.int64(code[at + 4] == 115)
            colon = behind + 3 < end and code[behind] == 58
            if colon and code[behind + 1] == 47 and code[behind + 2] == 47:
                return True
    return False


@inner
def _long_lines(code: Bytes, start: Int64, end: Int64, classes: Bytes) -> Int64:
    """Lines of a string with more than twenty words."""
    before, at = 0, start
    lines: Int64 = 0
    words: Int64 = 0
    while at < end:
        point, size = code_point(code, at)
        flags = classes[point]
        kind = 0 if flags & IS_SPACE else 1 if flags & IS_ALPHANUMERIC or point == 95 else 2
        words += np.int64(kind != 0 and kind != before)
        before = kind
        at += size
        if point == 10 or at >= end:
            lines += np.int64(words > MANY_WORDS)
            words = 0
    return lines
