"""C4's line rules: which lines of a text stay, why the others go, and the text that is left.

Lines are those of `str.splitlines()`. Each is judged when its break is met, from what the byte masks of its blocks
have gathered by then: words, first and last character, sentence ends, phrases. Phrases are looked for where a rare
letter of theirs stands (j, k, m, v), so they cost little more than four comparisons of a block. Only a line that a
citation was cut from is read again, byte by byte, because a cut can make a phrase or an ellipsis.
"""

import numpy as np

from curate.kernels.bits import BLOCK, FRONT, ONE, count, highest, lowest, lowest_bit, read_only, within
from curate.kernels.blocks import Int64, code_point, fill
from curate.kernels.compiled import inner, kernel
from curate.kernels.phrases import HAS_JAVASCRIPT, HAS_LOREM, HAS_POLICY, KELVIN, citation, phrase
from curate.kernels.pieces import keep, room, strip_row
from curate.kernels.segments import Bytes, Int64s, UInt64s, characters
from curate.kernels.text import IS_BREAK, IS_SPACE, ZERO, is_unfinished

C4 = (
    "lines",
    "long_word",
    "unterminated",
    "short",
    "lorem",
    "javascript",
    "curly",
    "policy",
    "kept",
    "sentences",
    "lorem_ipsums",
    "curly_brackets",
)
"""What the columns of `c4` count, in order."""
LINES, LONG_WORD, UNTERMINATED, SHORT, LOREM, JAVASCRIPT, CURLY, POLICY, KEPT = range(9)
SENTENCES, IPSUMS, BRACKETS = range(9, 12)

LIMITS = (
    "min_words_per_line",
    "max_word_length",
    "require_terminal",
    "remove_citations",
    "drop_lorem",
    "drop_javascript",
    "drop_curly",
    "drop_policy",
)
"""What the places of `limits` mean, in order: words, code points (-1: no limit), and six switches, 1 or 0."""
MIN_WORDS, MAX_WORD, TERMINAL, CITATIONS, NO_LOREM, NO_JAVASCRIPT, NO_CURLY, NO_POLICY = range(len(LIMITS))
C4_LIMITS = (3, 1000, 1, 1, 1, 1, 1, 1)  # the paper's, as datatrove has them

# Findings of a line, beside those of `phrases`.
HAS_CURLY, HAS_CITATION, HAS_LONG_WORD = 4, 16, 32

Lists = tuple[Int64s, Bytes, Bytes, Bytes, UInt64s]  # pieces, their line feeds, scratch for a line, a block, its masks

# Masks of the block at hand.
SPACE, BREAK, STARTS, MARK, AFTER_MARK, ENDING, SOLID, LETTERS, ANY_HIT, HITS = range(10)
MASKS = HITS + 6

# Behind the limits: the line at hand, and what one block hands to the next.
(
    WORDS,
    FIRST,  # its first byte that is no white space, -1 before there is one
    END,  # behind the last such byte
    FOUND,
    ENDED,  # sentences that ended
    REST,  # 1 if words came since
    CITED,  # 1 if citations were cut from it
    OPEN,  # 1 if the last byte belongs to a word
    WORD,  # where that word began
    SPACES,  # bytes of a space that began in the last block
    RETURN,  # 1 if the last byte is a carriage return
    PENDING,  # 1 if it is . ? or !
    POSITION,  # where the block begins
    BASE,  # where the row begins in the data
    ROW_PIECE,  # first piece of the row
    PIECES,  # pieces so far
    WANTED,  # 1 if they are
    STATES,
) = range(len(LIMITS), len(LIMITS) + 18)


def c4(offsets: Int64s, data: Bytes, classes: Bytes, limits: Int64s, out: Int64s) -> None:
    """Counts per row: out int64[n, 12], columns as in `C4`.

    `offsets` int64[n + 1] into `data` uint8[...], rows of valid UTF-8; `classes` from `text.code_point_classes`;
    `limits` int64[8] as in `LIMITS`, the paper's being `C4_LIMITS` (Raffel et al. 2020, section 2.2; order and detail
    as in datatrove 0.10.1). FineWeb sets require_terminal to 0, DCLM min_words_per_line to 5.

    lines: by `str.splitlines()`, each stripped. A line counts for the first of these that is true of it:
    long_word: a word (`str.split()`) of more than max_word_length code points. Then `[`, any digits, `]`, and [edit]
    and [citation needed] are cut, once and with no second strip. unterminated: it does not end in . ? ! " or ', or
    ends in "...". short: fewer than min_words_per_line words, counted before the cut. lorem: "lorem ipsum" in the
    lowered line. javascript: that word in it. curly: "{". policy: one of six phrases on terms and cookies. kept: else.

    datatrove drops a document at its first lorem or curly line and looks no further; here counting goes on, so a
    document is dropped if either count is over 0. sentences: of the kept lines, the matches of `[.?!](?=["'\\s]|$)`,
    and one more where other characters than white space and quotes follow the last match; datatrove asks a trained
    tokenizer. lorem_ipsums and curly_brackets are the page's, wherever they are: "lorem ipsum" in the lowered text,
    "{" in the text, as the paper has it.
    """
    _read(offsets, data, classes, limits, out, np.empty(0, np.int64))


def c4_pieces(
    offsets: Int64s, data: Bytes, classes: Bytes, limits: Int64s, out: Int64s, piece_first: Int64s
) -> tuple[Int64s, Bytes]:
    """What C4 leaves of each row, as pieces int64[m, 2] and newline uint8[m] for `pieces.rebuild`.

    Kept lines, stripped, without citations, joined by line feeds, and the whole stripped: datatrove's text, also for
    rows with a lorem or curly line, which it would drop (their lines are left out). Fills piece_first int64[n + 1],
    and `out` as `c4` does.
    """
    pieces, newline = _read(offsets, data, classes, limits, out, piece_first)
    # The kernel makes room for the worst case; copies let go of it.
    return pieces.copy(), newline.copy()


@kernel
def _read(
    offsets: Int64s, data: Bytes, classes: Bytes, limits: Int64s, out: Int64s, piece_first: Int64s
) -> tuple[Int64s, Bytes]:
    """Both kernels in one, because compiling takes seconds: an empty `piece_first` says that no pieces are wanted."""
    data = read_only(data)
    pieces, newline = np.empty((1024, 2), np.int64), np.empty(1024, np.uint8)
    state, scratch = np.empty(STATES, np.int64), np.empty(256, np.uint8)
    block, masks = np.empty(BLOCK, np.uint8), np.empty(MASKS, np.uint64)
    is_wanted = len(piece_first) > 0
    for i in range(len(LIMITS)):
        state[i] = limits[i]
    state[WANTED], state[PIECES] = is_wanted, 0
    for row in range(len(out)):
        text = data[offsets[row] : offsets[row + 1]]
        if len(text) > len(scratch):
            scratch = np.empty(2 * len(text), np.uint8)
        if is_wanted:
            pieces, newline = room(pieces, newline, state[PIECES], len(text) + 1)
            piece_first[row] = state[PIECES]
        state[BASE], state[ROW_PIECE] = offsets[row], state[PIECES]
        _read_row(data, text, classes, state, (pieces, newline, scratch, block, masks), out[row])
        if is_wanted:
            strip_row(data, classes, pieces[state[ROW_PIECE] : state[PIECES]], newline[state[ROW_PIECE] :])
            piece_first[row + 1] = state[PIECES]
    return pieces[: state[PIECES]], newline[: state[PIECES]]


@inner
def _read_row(data: Bytes, text: Bytes, classes: Bytes, state: Int64s, lists: Lists, counts: Int64s) -> None:
    pieces, newline, scratch, block, masks = lists
    masks[ANY_HIT] = ~ZERO  # so that what the last row left is cleared
    for column in range(len(counts)):
        counts[column] = 0
    for i in range(WORDS, POSITION):
        state[i] = 0
    state[FIRST] = -1
    # A row of full blocks gets an empty one more, so a space always follows the last word.
    for position in range(0, len(text) + 1, BLOCK):
        fill(block, text, position)
        state[POSITION] = position
        _classify(block, text, classes, masks, state)
        _find(block, text, classes, masks, state, counts)
        _end_words(text, masks, state)
        _end_sentences(masks, state)
        breaks, part = masks[BREAK], ~ZERO
        if position + BLOCK > len(text) and is_unfinished(text, classes):
            breaks |= ONE << (len(text) - position)
        while True:
            bit = lowest_bit(breaks)
            _gather(masks, part & (bit - ONE), state)
            if bit == ZERO:
                break
            column = _judge(text, classes, state, scratch, counts)
            if column == KEPT and state[WANTED]:
                _keep_line(data, classes, state, pieces, newline)
            _begin_line(state)
            part = ~(bit | (bit - ONE))
            breaks ^= bit


@inner
def _classify(block: Bytes, text: Bytes, classes: Bytes, masks: UInt64s, state: Int64s) -> None:
    """Spaces, breaks, sentence marks, and the letters that give phrases away."""
    space = within(block, 32, 1, 0) | within(block, 9, 5, 0) | within(block, 28, 4, 0) | np.uint64(state[SPACES])
    returns = within(block, 13, 1, 0)
    second = within(block, 10, 1, 0) & ((returns << 1) | np.uint64(state[RETURN]))
    breaks = (within(block, 10, 4, 0) | within(block, 28, 3, 0)) & ~second
    # The letters that give phrases away: j, and k, m and v behind the letters that they follow in phrases.
    letters = within(block, 106, 1, 32) | (within(block, 107, 1, 32) & _behind(within(block, 111, 1, 32)))
    letters |= within(block, 109, 1, 32) & _behind(within(block, 101, 1, 32) | within(block, 114, 1, 32))
    letters |= within(block, 118, 1, 32) & _behind(within(block, 105, 1, 32))
    state[RETURN] = np.int64(returns >> 63)
    state[SPACES] = 0
    # White space over 127 and the Kelvin sign begin with one of four bytes.
    leads = within(block, 0xC2, 1, 0) | within(block, 0xE1, 3, 0)
    while leads != ZERO:
        at = lowest(leads)
        bit = lowest_bit(leads)
        leads ^= bit
        code, size = code_point(text, state[POSITION] + at)
        if classes[code] & IS_SPACE:
            run = (ONE << size) - ONE
            space |= run << at
            if at + size > BLOCK:
                state[SPACES] = np.int64(run >> (BLOCK - at))
            if classes[code] & IS_BREAK:
                breaks |= bit
        elif code == KELVIN:
            letters |= bit
    masks[SPACE], masks[BREAK], masks[LETTERS] = space, breaks, letters
    masks[MARK] = within(block, 46, 1, 0) | within(block, 63, 1, 0) | within(block, 33, 1, 0)
    masks[AFTER_MARK] = space | within(block, 34, 1, 0) | within(block, 39, 1, 0)


@inner
def _behind(mask: np.uint64) -> np.uint64:
    """The places behind those of a mask; the first is always among them, what is before it being unknown."""
    return (mask << 1) | ONE


@inner
def _find(block: Bytes, text: Bytes, classes: Bytes, masks: UInt64s, state: Int64s, counts: Int64s) -> None:
    """Phrases, brackets and citations that have their letter in this block: masks[HITS + i] for finding 1 << i."""
    position = state[POSITION]
    if masks[ANY_HIT] != ZERO:
        masks[ANY_HIT] = ZERO
        for i in range(HITS, MASKS):
            masks[i] = ZERO
    curly = within(block, 123, 1, 0)
    if curly != ZERO:
        masks[HITS + 2] = curly
        masks[ANY_HIT] = curly
        counts[BRACKETS] += count(curly)
    if state[CITATIONS]:
        square = within(block, 91, 1, 0)
        while square != ZERO:
            bit = lowest_bit(square)
            if citation(text, position + lowest(square), len(text), classes) > 0:
                masks[HITS + 4] |= bit
                masks[ANY_HIT] |= bit
            square ^= bit
    letters = masks[LETTERS]
    while letters != ZERO:
        bit = lowest_bit(letters)
        found = phrase(text, position + lowest(letters), len(text))
        letters ^= bit
        if found != 0:
            counts[IPSUMS] += np.int64(found == HAS_LOREM)
            masks[HITS + lowest(np.uint64(found))] |= bit
            masks[ANY_HIT] |= bit


@inner
def _end_words(text: Bytes, masks: UInt64s, state: Int64s) -> None:
    """Starts of words; and of the words that end here, those that may be too long."""
    position, limit, word = state[POSITION], state[MAX_WORD], ~masks[SPACE]
    was_open = np.uint64(state[OPEN])
    behind = (word << 1) | was_open
    masks[STARTS] = word & ~behind
    # A word inside a block is under 64 code points; of others only the end is looked at, once.
    if 0 <= limit < BLOCK:
        _find_long_words(text, masks[SPACE] & behind, masks, state)
    elif was_open != ZERO and limit >= 0 and position + BLOCK - state[WORD] > limit:
        _find_long_words(text, lowest_bit(masks[SPACE] & behind), masks, state)
    if masks[STARTS] != ZERO:
        state[WORD] = position + highest(masks[STARTS])
    state[OPEN] = np.int64(word >> 63)


@inner
def _find_long_words(text: Bytes, ends: np.uint64, masks: UInt64s, state: Int64s) -> None:
    """Mark words over the limit at their last byte; one that ended with the last block is the line's at once."""
    limit = state[MAX_WORD]
    while ends != ZERO:
        bit = lowest_bit(ends)
        ends ^= bit
        starts = masks[STARTS] & (bit - ONE)
        start = state[POSITION] + highest(starts) if starts != ZERO else state[WORD]
        end = state[POSITION] + lowest(bit)
        if end - start > limit and characters(text, start, end) > limit:
            if bit == ONE:
                state[FOUND] |= HAS_LONG_WORD
            else:
                masks[HITS + 5] |= bit >> 1
                masks[ANY_HIT] |= bit >> 1


@inner
def _end_sentences(masks: UInt64s, state: Int64s) -> None:
    """Marks that end a sentence, and what is neither such a mark nor a quote nor white space."""
    marks, after = masks[MARK], masks[AFTER_MARK]
    if state[PENDING]:
        ended = np.int64(after & ONE)
        state[ENDED] += ended
        state[REST] = 1 - ended
    masks[ENDING] = marks & (after >> 1)
    state[PENDING] = np.int64(marks >> 63)
    masks[SOLID] = ~(after | masks[ENDING]) & ~(marks & (ONE << 63))


@inner
def _gather(masks: UInt64s, part: np.uint64, state: Int64s) -> None:
    """Add a part of the block to the line at hand."""
    word = ~masks[SPACE] & part
    if word == ZERO:
        return
    state[WORDS] += count(masks[STARTS] & part)
    if state[FIRST] < 0:
        state[FIRST] = state[POSITION] + lowest(word)
    state[END] = state[POSITION] + highest(word) + 1
    ending, solid = masks[ENDING] & part, masks[SOLID] & part
    if ending != ZERO:
        state[ENDED] += count(ending)
        state[REST] = np.int64(solid >> highest(ending) != ZERO)
    elif solid != ZERO:
        state[REST] = 1
    if masks[ANY_HIT] & part != ZERO:
        for i in range(6):
            state[FOUND] |= np.int64(masks[HITS + i] & part != ZERO) << i


@inner
def _judge(text: Bytes, classes: Bytes, state: Int64s, scratch: Bytes, counts: Int64s) -> int:
    """Count the line at hand for what becomes of it, and say what."""
    state[FIRST], state[END] = (state[FIRST], state[END]) if state[FIRST] >= 0 else (0, 0)
    if state[FOUND] & (HAS_CITATION | HAS_LONG_WORD) == HAS_CITATION:
        state[CITED] = 1
        size = _cut(text, classes, state, scratch)
        line = read_only(scratch)
        _reread(line, size, classes, state)
        column = _column(line, FRONT, size, state)
    else:
        column = _column(text, state[FIRST], state[END], state)
    counts[LINES] += 1
    counts[column] += 1
    if column == KEPT:
        counts[SENTENCES] += state[ENDED] + state[REST]
    return column


@inner
def _begin_line(state: Int64s) -> None:
    state[WORDS] = state[FOUND] = state[ENDED] = state[REST] = state[CITED] = 0
    state[FIRST] = -1


@inner
def _column(text: Bytes, first: Int64, end: Int64, state: Int64s) -> int:
    """The first rule that the line fails, in datatrove's order."""
    found = state[FOUND]
    if found & HAS_LONG_WORD:
        return LONG_WORD
    if state[TERMINAL] and not _is_terminated(text, first, end):
        return UNTERMINATED
    if state[WORDS] < state[MIN_WORDS]:
        return SHORT
    if found & HAS_LOREM and state[NO_LOREM]:
        return LOREM
    if found & HAS_JAVASCRIPT and state[NO_JAVASCRIPT]:
        return JAVASCRIPT
    if found & HAS_CURLY and state[NO_CURLY]:
        return CURLY
    if found & HAS_POLICY and state[NO_POLICY]:
        return POLICY
    return KEPT


@inner
def _is_terminated(text: Bytes, first: Int64, end: Int64) -> bool:
    if first == end:
        return False
    last = text[end - 1]
    if last == 46:
        return bool(end - first < 3 or text[end - 2] != 46 or text[end - 3] != 46)
    return bool(last == 63 or last == 33 or last == 34 or last == 39)


@inner
def _cut(text: Bytes, classes: Bytes, state: Int64s, scratch: Bytes) -> int:
    """Copy the line at hand without its citations; the size that is left."""
    at, end, size = state[FIRST], state[END], 0
    while at < end:
        skipped = citation(text, at, end, classes) if text[at] == 91 else 0
        if skipped == 0:
            scratch[size] = text[at]
            size += 1
        at += max(skipped, 1)
    return size


@inner
def _reread(line: Bytes, size: Int64, classes: Bytes, state: Int64s) -> None:
    """Findings and sentences of a line as it is after the cut."""
    found, ended, rest = 0, 0, 0
    for at in range(size):
        byte, lower = line[at], line[at] | 32
        if byte & 0xC0 == 0x80:
            continue
        is_kelvin = byte == 0xE2 and code_point(line, at)[0] == KELVIN
        if lower == 106 or lower == 107 or lower == 109 or lower == 118 or is_kelvin:
            found |= phrase(line, at, size)
        elif byte == 123:
            found |= HAS_CURLY
        is_mark = byte == 46 or byte == 63 or byte == 33
        if is_mark and (at + 1 == size or _may_follow(line, at + 1, classes)):
            ended += 1
            rest = 0
        elif is_mark or not _may_follow(line, at, classes):
            rest = 1
    state[FOUND], state[ENDED], state[REST] = found, ended, rest


@inner
def _may_follow(line: Bytes, at: Int64, classes: Bytes) -> bool:
    """True if the character at `at` is white space or a quote."""
    return bool(line[at] == 34 or line[at] == 39 or classes[code_point(line, at)[0]] & IS_SPACE != 0)


@inner
def _keep_line(data: Bytes, classes: Bytes, state: Int64s, pieces: Int64s, newline: Bytes) -> None:
    """Add the pieces of the line at hand, and the line feed behind it."""
    row, held = state[ROW_PIECE], state[PIECES]
    start, end = state[BASE] + state[FIRST], state[BASE] + state[END]
    if state[CITED]:
        at = start
        while at < end:
            skipped = citation(data, at, end, classes) if data[at] == 91 else 0
            if skipped > 0:
                held = keep(data, pieces, newline, row, held, (start, at))
                start = at + skipped
            at += max(skipped, 1)
    held = keep(data, pieces, newline, row, held, (start, end))
    newline[held - 1] = 1
    state[PIECES] = held
