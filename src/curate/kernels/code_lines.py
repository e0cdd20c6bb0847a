"""What the lines of source code hold, comments cut out: phrases, functions, duplicates, strings.

One pass reads the code byte by byte. Two table look-ups, for a byte and the byte behind it, tell which of twenty
phrases may begin there; a hash of the line's bytes without white space grows along the way.

The catch: strings are what OpenCoder's expression takes for one, whatever the language: no escapes are known, and an
apostrophe opens a string.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import lowest, read_only
from curate.kernels.blocks import Int64, code_point
from curate.kernels.code_characters import is_hex, is_name, skip_space, word_at, word_before
from curate.kernels.code_heads import EXACT, FOLD, matches, padded
from curate.kernels.code_syntax import FAMILY_OF
from curate.kernels.compiled import inner, kernel, maker
from curate.kernels.hash import mix
from curate.kernels.text import IS_SPACE

Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

LINE_COUNTS = (
    "code_characters",
    "code_lines",
    "duplicate_lines",
    "assert_lines",
    "import_lines",
    "pass_lines",
    "print_lines",
    "preprocessor_lines",
    "return_lines",
    "functions",
    "mains",
    "hex_word_characters",
)
"""What the columns of `line_counts` hold, in order."""
(
    CODE_CHARACTERS,
    CODE_LINES,
    DUPLICATE_LINES,
    ASSERT_LINES,
    IMPORT_LINES,
    PASS_LINES,
    PRINT_LINES,
    PREPROCESSOR_LINES,
    RETURN_LINES,
    FUNCTIONS,
    MAINS,
    HEX_WORD_CHARACTERS,
) = range(len(LINE_COUNTS))

# Phrases a line is searched for. The first three in any case; those from KEYWORDS on as whole words. Then come
# places where more than a phrase is looked for.
PHRASES = (
    *(b"assert", b"import", b"pass", b"print", b"printf", b"cout", b"System.out.print", b"console.log", b"fmt.Print"),
    *(b"Console.WriteLine", b"struct", b"using", b"return", b"def", b"func", b"fn", b"function", b"sub"),
)
ASSERT, IMPORT, PASS = range(3)
FOLDED, KEYWORDS = 3, PHRASES.index(b"return")
RETURN = KEYWORDS
HEX_WORD, MAIN, HASH, CALL = range(len(PHRASES), len(PHRASES) + 4)
ALL = (1 << (len(PHRASES) + 4)) - 1
DIRECTIVES = (
    b"include",
    b"define",
    b"if",
    b"else",
    b"elif",
    b"endif",
    b"error",
    b"pragma",
    b"warning",
    b"undef",
    b"line",
)
PLACEHOLDERS = (b"your code here", b"fixme", b"todo")
PREPROCESSOR = 1 << PHRASES.index(b"struct") | 1 << PHRASES.index(b"using")
DIRECTIVE = 1 << HASH

_PRINTS = {
    "python": (b"print",),
    "c": (b"printf",),
    "c++": (b"cout", b"printf"),
    "java": (b"System.out.print",),
    "javascript": (b"console.log",),
    "typescript": (b"console.log",),
    "go": (b"fmt.Print",),
    "c#": (b"Console.WriteLine",),
}
_FUNCTIONS = {
    b"def": ("python", "cython", "starlark", "ruby", "crystal", "scala", "groovy", "elixir", "mojo"),
    b"func": ("go", "swift", "gdscript"),
    b"fn": ("rust", "zig"),
    b"function": ("javascript", "typescript", "jsx", "tsx", "vue", "php", "lua", "shell", "bash", "julia", "matlab"),
    b"sub": ("perl", "visual basic", "visual basic .net", "vba", "vbscript"),
}
CALLS = frozenset({"c", "c++", "c#", "objective-c", "java", "dart", "cuda", "d", "arduino", "processing"})
"""Languages whose functions are told by their form: a name, a space, a name and a list in brackets."""


def _openings() -> Int64s:
    """Bits of what may begin with a byte, have it second, and third: int64[3, 256]."""
    tables = np.zeros((3, 256), np.int64)
    for bit, phrase in enumerate(PHRASES):
        for table, byte in zip(tables, phrase[:3], strict=False):
            table[byte] |= 1 << bit
            if bit < FOLDED:
                table[byte ^ 0x20] |= 1 << bit
        if len(phrase) == 2:
            tables[2] |= 1 << bit
    for bit, firsts, seconds in ((HEX_WORD, b"0", b"xX"), (MAIN, b"m", b"a"), (HASH, b"#", bytes(range(256)))):
        tables[0, list(firsts)] |= 1 << bit
        tables[1, list(seconds)] |= 1 << bit
    tables[0, ord("(")] |= 1 << CALL
    tables[1] |= 1 << CALL
    tables[2] |= 1 << HASH | 1 << CALL | 1 << HEX_WORD | 1 << MAIN
    return tables


def _kinds() -> Bytes:
    """What a byte is to a line, uint8[256]: 0 a character, 1 white space, 2 its end, 3 part of a longer character."""
    kinds = np.zeros(256, np.uint8)
    kinds[[9, 11, 12, 13, 28, 29, 30, 31, 32]] = BLANK
    kinds[10] = END
    kinds[128:] = WIDE
    return kinds


BYTES, SIZES = padded(PHRASES)
DIRECTIVE_BYTES, DIRECTIVE_SIZES = padded(DIRECTIVES)
PLACEHOLDER_BYTES, PLACEHOLDER_SIZES = padded(PLACEHOLDERS)
STARTS = np.zeros(256, np.uint8)
STARTS[list(b"yYfFtT")] = 1
MAIN_BYTES, MAIN_SIZES = padded((b"main",))
BLANK, END, WIDE = 1, 2, 3
FIRST, SECOND, THIRD = _openings()
KINDS = _kinds()

# What is known of a language, as `line_counts` takes it: family, phrases that print, phrases that begin a function,
# whether functions are told by form.
FAMILY, PRINTS, KEYWORD, FORM, TRAITS = range(5)


def traits(language: str | None) -> tuple[int, int, int, int]:
    """Family (-1: unknown), bits of print phrases and of function keywords, and 1 if functions are told by form."""
    prints = sum(1 << PHRASES.index(phrase) for phrase in _PRINTS.get(language or "", (b"print",)))
    keyword = sum(1 << PHRASES.index(word) for word, languages in _FUNCTIONS.items() if language in languages)
    return FAMILY_OF.get(language or "", -1), prints, keyword, int(language in CALLS)


# State along a row: ends of matches that later ones may not overlap, and the next closing bracket that is known.
MAIN_END, CALL_END, BRACKET, STATES = range(4)
MULTIPLIER, ZERO = np.uint64(0x9E3779B97F4A7C15), np.uint64(0)
# The hash of the line "},".
CLOSING = np.uint64((0x7D * int(MULTIPLIER) % 2**64 ^ 0x2C) * int(MULTIPLIER) % 2**64)
THIRD_LAST = int(np.bitwise_and.reduce(THIRD))  # what needs no third byte


@kernel
def line_counts(offsets: Int64s, data: Bytes, classes: Bytes, languages: Int64s, hashes: UInt64s, out: Int64s) -> None:
    """Counts per row: out int64[n, 13], columns as in `LINE_COUNTS`.

    `offsets` int64[n + 1] into `data` uint8[...], code without its comments (see `code_syntax`); `classes` from
    `code_classes`; `languages` int64[n, 4] from `traits`; `hashes` uint64[bytes of the longest row + 1], room to work
    in.

    code_characters: code points. code_lines: lines that are not blank; the other lines are some of these.
    duplicate_lines: those that, white space aside, occur more than once, and are not one character long nor "},".
    assert, import, pass: lines that hold the word in any case; print: by language; preprocessor: "#" and a directive
    of C, or "struct" or "using". return_lines: lines that begin with return. functions: lines that hold the
    language's keyword, or `name name(...)`. mains: `main(...) {`. hex_word_characters: in words like 0x1F.
    """
    state = np.empty(STATES, np.int64)
    for row in range(len(out)):
        counts = out[row]
        counts[:] = 0
        _lines(read_only(data[offsets[row] : offsets[row + 1]]), classes, languages[row], state, hashes, counts)


@inner
def _lines(code: Bytes, classes: Bytes, language: Int64s, state: Int64s, hashes: UInt64s, counts: Int64s) -> None:
    """One pass over the code of a row, line by line."""
    state[:] = 0
    state[BRACKET] = -1
    enabled = ALL if language[FORM] else ALL & ~(1 << CALL)
    size, lines, at = len(code), 0, np.int64(0)
    rest: Int64 = 0
    while at < size:
        start, key = at, ZERO
        found: Int64 = np.int64(0)
        solid: Int64 = 0
        while at < size:
            byte = code[at]
            kind = KINDS[byte]
            if kind >= END:
                if kind == END:
                    break
                point, width = code_point(code, int(at))
                if classes[point] & IS_SPACE == 0:
                    solid += 1
                    for i in range(width):
                        key = (key ^ np.uint64(code[at + i])) * MULTIPLIER
                rest += width - 1
                at += width
                continue
            likely = FIRST[byte] & SECOND[code[at + 1]] if at + 1 < size else 0
            if likely:
                likely &= (THIRD[code[at + 2]] if at + 2 < size else THIRD_LAST) & enabled & ~found
                if likely:
                    found |= _search(code, at, likely, classes, state, counts)
            # Without a branch: white space comes too irregularly to be foreseen.
            mixed = (key ^ np.uint64(byte)) * MULTIPLIER
            key = mixed if kind == 0 else key
            solid += 1 - np.int64(kind)
            at += 1
        if solid:
            skipped = solid == 1 or (solid == 2 and key == CLOSING)
            hashes[lines] = ZERO if skipped else mix(key, np.uint64(solid)) | np.uint64(1)
            lines += 1
            _count_line(code, start, found, classes, language, counts)
        at += 1
    counts[CODE_CHARACTERS], counts[CODE_LINES] = size - rest, lines
    counts[DUPLICATE_LINES] = _repeated(hashes[:lines])


@maker
def _repeated(hashes: UInt64s) -> Int64:
    """How many of the hashes occur more than once; zeros count for nothing."""
    capacity = 4
    while capacity < 2 * len(hashes):
        capacity *= 2
    table, seen = np.empty(capacity, np.uint64), np.empty(capacity, np.uint8)
    table[:] = ZERO
    seen[:] = 0
    repeated: Int64 = 0
    for value in hashes:
        if value == ZERO:
            continue
        slot = np.int64(value >> np.uint64(20)) & (capacity - 1)
        while table[slot] != ZERO and table[slot] != value:
            slot = (slot + 1) & (capacity - 1)
        if table[slot] == value:
            repeated += 1 + np.int64(seen[slot] == 0)
            seen[slot] = 1
        table[slot] = value
    return repeated


@inner
def _count_line(code: Bytes, start: Int64, found: Int64, classes: Bytes, language: Int64s, counts: Int64s) -> None:
    counts[ASSERT_LINES] += (found >> ASSERT) & 1
    counts[IMPORT_LINES] += (found >> IMPORT) & 1
    counts[PASS_LINES] += (found >> PASS) & 1
    counts[PRINT_LINES] += np.int64(found & language[PRINTS] != 0)
    counts[PREPROCESSOR_LINES] += np.int64(found & (PREPROCESSOR | DIRECTIVE) != 0)
    counts[FUNCTIONS] += np.int64(found & language[KEYWORD] != 0)
    if (found >> RETURN) & 1:
        first = skip_space(code, start, classes)
        after = first + SIZES[RETURN]
        if matches(code, first, BYTES[RETURN], SIZES[RETURN], EXACT):
            space = after >= len(code) or classes[code_point(code, after)[0]] & IS_SPACE
            counts[RETURN_LINES] += np.int64(space)


@inner
def _search(code: Bytes, at: Int64, likely: Int64, classes: Bytes, state: Int64s, counts: Int64s) -> Int64:
    """Bits of the phrases that are at `at`; the rest of what may be there is counted."""
    found = 0
    phrases = np.uint64(likely & ((1 << len(SIZES)) - 1))
    while phrases != ZERO:
        bit = lowest(phrases)
        phrases &= phrases - np.uint64(1)
        if matches(code, at, BYTES[bit], SIZES[bit], np.int64(bit < FOLDED)):
            inside = word_before(code, at, classes) or word_at(code, at + SIZES[bit], classes)
            found |= 0 if bit >= KEYWORDS and inside else 1 << bit
    if (likely >> HASH) & 1 and _is_directive(code, at + 1, classes):
        found |= DIRECTIVE
    if (likely >> HEX_WORD) & 1:
        counts[HEX_WORD_CHARACTERS] += _hex_word(code, at, classes)
    if (likely >> MAIN) & 1 and at >= state[MAIN_END]:
        counts[MAINS] += _main(code, at, classes, state)
    if (likely >> CALL) & 1 and at >= state[CALL_END]:
        counts[FUNCTIONS] += _call(code, at, classes, state)
    return found


@inner
def _is_directive(code: Bytes, at: Int64, classes: Bytes) -> bool:
    while at < len(code) and code[at] != 10:
        point, size = code_point(code, at)
        if classes[point] & IS_SPACE == 0:
            break
        at += size
    for which in range(len(DIRECTIVE_SIZES)):
        if matches(code, at, DIRECTIVE_BYTES[which], DIRECTIVE_SIZES[which], EXACT):
            return True
    return False


@inner
def _hex_word(code: Bytes, start: Int64, classes: Bytes) -> Int64:
    """Code points of the word `0x...` at `start`; 0 if it is none, or part of a longer word."""
    at = start + 2
    while at < len(code) and is_hex(code[at]):
        at += 1
    if at == start + 2 or word_before(code, start, classes) or word_at(code, at, classes):
        return 0
    return at - start


@inner
def _closing(code: Bytes, at: Int64, state: Int64s) -> Int64:
    """Place of the first closing bracket from `at` on; the row's end if there is none. Asked for rising places."""
    if state[BRACKET] < at:
        while at < len(code) and code[at] != 41:
            at += 1
        state[BRACKET] = at
    return state[BRACKET]


@inner
def _main(code: Bytes, start: Int64, classes: Bytes, state: Int64s) -> Int64:
    """1 if `main (...) {` begins at `start` as a word."""
    if not matches(code, start, MAIN_BYTES[0], MAIN_SIZES[0], EXACT) or word_before(code, start, classes):
        return 0
    at = skip_space(code, start + 4, classes)
    if at >= len(code) or code[at] != 40:
        return 0
    at = skip_space(code, _closing(code, at + 1, state) + 1, classes)
    if at >= len(code) or code[at] != 123:
        return 0
    state[MAIN_END] = at + 1
    return 1


@inner
def _call(code: Bytes, bracket: Int64, classes: Bytes, state: Int64s) -> Int64:
    """1 if `name name(...)` holds the opening bracket at `bracket`; stars may stand between the names."""
    at, floor = bracket - 1, state[CALL_END]
    while at >= floor and is_name(code[at]):
        at -= 1
    if at == bracket - 1 or (code[at + 1] >= 48 and code[at + 1] <= 57):
        return 0
    spaces: Int64 = 0
    while at >= floor and (code[at] == 32 or code[at] == 42 or (code[at] >= 9 and code[at] <= 13)):
        spaces += np.int64(code[at] != 42)
        at -= 1
    if spaces == 0 or at < floor or not is_name(code[at]):
        return 0
    while at >= floor and is_name(code[at]):
        at -= 1
    if code[at + 1] >= 48 and code[at + 1] <= 57:
        return 0
    end = _closing(code, bracket + 1, state)
    if end >= len(code):
        return 0
    state[CALL_END] = end + 1
    return 1


@kernel
def placeholders(offsets: Int64s, data: Bytes, out: Int64s) -> None:
    """out int64[n]: lines of comments that hold "todo", "fixme" or "your code here", in any case.

    `offsets` int64[n + 1] into `data` uint8[...], the comments of each row.
    """
    for row in range(len(out)):
        out[row] = 0
        at, end = offsets[row], offsets[row + 1]
        while at < end:
            second = data[at + 1] | 0x20 if at + 1 < end else np.uint8(0)
            hit = False
            if (second == 111 or second == 105) and STARTS[data[at]]:
                for which in range(len(PLACEHOLDER_SIZES)):
                    hit |= matches(data, at, PLACEHOLDER_BYTES[which], PLACEHOLDER_SIZES[which], FOLD)
            if hit:
                out[row] += 1
                while at < end and data[at] != 10:
                    at += 1
            at += 1
