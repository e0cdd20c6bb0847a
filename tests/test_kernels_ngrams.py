"""Words are those of `str.split()`, and characters of repeated n-grams are what three published readings say."""

import sys
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import oracle_ngrams as oracle
import oracles
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import hostile_text

from curate.kernels import ngrams as kernel
from curate.kernels.repeats import SALT_1, SPREAD_1
from curate.kernels.text import code_point_classes
from curate.kernels.words import whitespace_words

compiles = settings(deadline=None)
READINGS = {
    kernel.ngrams: oracle.datatrove,
    kernel.ngrams_dclm: oracle.dclm,
    kernel.ngrams_dolma: oracle.dolma,
}
Rows = tuple[np.ndarray, np.ndarray]
Spans = tuple[np.ndarray, np.ndarray]


def split(offsets: np.ndarray, data: np.ndarray) -> Spans:
    """`first` and `edges` with room for just the words there may be."""
    first = np.full(len(offsets), -1, np.int64)
    edges = np.full(2 * int(((np.diff(offsets) + 1) // 2).sum()), -1, np.int32)
    whitespace_words(offsets, data, code_point_classes(), first, edges)
    return first, edges


def spans_of(texts: list[str], words: list[list[str]]) -> Spans:
    """`first` and `edges` of words given."""
    pairs = [pair for text, row in zip(texts, words, strict=True) for pair in oracle.byte_spans(text, row)]
    first = np.cumsum([0, *map(len, words)]).astype(np.int64)
    return first, np.array(pairs, np.int32).reshape(-1)


def counted(count: Callable[..., None], rows: Rows, spans: Spans, columns: int = len(kernel.NGRAMS)) -> list[list[int]]:
    out = np.full((len(rows[0]) - 1, columns), -1, np.int64)
    count(*rows, *spans, out)
    return out.tolist()


def check(texts: list[str], words: list[list[str]], *, before: str = "") -> None:
    """Every reading of every text equals its oracle, whatever stands around the rows."""
    rows = oracles.rows([text.encode() for text in texts], before=before.encode())
    spans = spans_of(texts, words)
    for count, expected in READINGS.items():
        assert counted(count, rows, spans) == [expected(*pair) for pair in zip(texts, words, strict=True)], count
    assert counted(kernel.ngram_totals, rows, spans, 6) == list(map(oracle.totals, words))


@compiles
@given(st.lists(hostile_text, max_size=5), hostile_text)
def test_words_are_those_of_split(texts: list[str], before: str) -> None:
    rows = oracles.rows([text.encode() for text in texts], before=before.encode())
    first, edges = split(*rows)
    expected_first, expected_edges = spans_of(texts, [text.split() for text in texts])
    assert first.tolist() == expected_first.tolist()
    assert edges[: 2 * first[-1]].tolist() == expected_edges.tolist()


SPACES = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]


def test_each_space_parts_words_at_every_place_of_a_block() -> None:
    assert len(SPACES) == 29
    texts = [left * size + space + "b" for size in range(58, 67) for space in SPACES for left in ("a", " ")]
    texts += ["a" * 64, "a" * 63 + " ", "a" * 128, "\u3000" * 64 + "a", "\u200b\ufeffa"]
    first, edges = split(*oracles.rows([text.encode() for text in texts]))
    expected_first, expected_edges = spans_of(texts, [text.split() for text in texts])
    assert first.tolist() == expected_first.tolist()
    assert edges[: 2 * first[-1]].tolist() == expected_edges.tolist()


@compiles
@given(st.lists(st.binary(max_size=150), max_size=4))
def test_broken_utf8_reads_no_byte_outside_its_row(texts: list[bytes]) -> None:
    first, edges = split(*oracles.rows(texts, before=b"\xe3"))
    for i, text in enumerate(texts):
        alone, alone_edges = split(*oracles.rows([text]))
        assert edges[2 * first[i] : 2 * first[i + 1]].tolist() == alone_edges[: 2 * alone[1]].tolist()


@compiles
@given(st.lists(hostile_text, max_size=4), hostile_text)
def test_hostile_texts(texts: list[str], before: str) -> None:
    check(texts, [text.split() for text in texts], before=before)


few = st.text("ab \n", max_size=120)
syllables = st.sampled_from(["a", "b", "ab", "ba", "a\0", "\0", "\u00e9", "\u4e2d", "\U0001f600", "abcdefgh", "x" * 17])
gaps = st.sampled_from([" ", " ", "\n", "  ", "\u3000", "\x85"])
repeated = st.tuples(st.lists(st.tuples(syllables, gaps), max_size=30), st.integers(1, 4)).map(
    lambda drawn: "".join(word + gap for word, gap in drawn[0]) * drawn[1]
)


@compiles
@given(st.lists(st.one_of(few, repeated), max_size=4))
@example(["ab c d e f a bc d e f"])
@example(["a a\0 a a\0 a a a\0 a a\0 a a a a a a"])
def test_repetitive_texts(texts: list[str]) -> None:
    check(texts, [text.split() for text in texts])


sentences = st.lists(st.sampled_from(["one", "two", "three", "four-and-twenty", "blackbirds", "p" * 40]), max_size=12)


@compiles
@given(st.lists(sentences, min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=16))
def test_phrases_of_long_words_come_back(phrases: list[list[str]], order: list[int]) -> None:
    """Repeats longer than every prefix that is hashed, and pairs of words longer than 16 bytes."""
    words = [word for i in order for word in phrases[i % len(phrases)]]
    check([" ".join(words)], [words])


@compiles
@given(st.text("abc\u00e9", min_size=1, max_size=80), st.lists(st.lists(st.integers(1, 79)), max_size=4))
def test_the_same_letters_cut_into_other_words(letters: str, cuts: list[list[int]]) -> None:
    """Joined without spaces they are the same n-grams to DataTrove, and others to the tuples of the rest."""
    words = []
    for drawn in cuts:
        ends = [0, *sorted({cut for cut in drawn if cut < len(letters)}), len(letters)]
        words += [letters[start:end] for start, end in pairwise(ends)]
    check([" ".join(words)], [words])


@compiles
@given(st.lists(st.lists(st.sampled_from(["a", "ab", "\u00e9", "\u4e2d\u6587", "b" * 20]), max_size=60), max_size=3))
def test_words_may_touch(words: list[list[str]]) -> None:
    texts = ["".join(row) for row in words]
    offsets, data = oracles.rows([text.encode() for text in texts])
    sizes = [len(word.encode()) for row in words for word in row]
    first = np.cumsum([0, *map(len, words)]).astype(np.int64)
    ends = np.array([end for row in words for end in np.cumsum([len(word.encode()) for word in row])], np.int32)
    edges = np.stack([ends - np.array(sizes, np.int32), ends], axis=1).astype(np.int32).reshape(-1)
    for count, expected in READINGS.items():
        got = counted(count, (offsets, data), (first, edges))
        assert got == [expected(*pair) for pair in zip(texts, words, strict=True)]


@pytest.mark.parametrize("kind", ["same", "different", "two"])
def test_rows_of_few_words(kind: str) -> None:
    drawn = {"same": "aaaaaaaaaaaaaaaaaaaaa", "different": "abcdefghijklmnopqrstu", "two": "abababababababababab"}[kind]
    texts = [" ".join(drawn[:size]) for size in range(21)]
    check(texts, [text.split() for text in texts])


def test_places_at_the_end_of_all_data_and_sliced_rows() -> None:
    texts = ["\u3000one two three four five six " * 5, "", "x" * 200, "one two three four five six"]
    rows = oracles.rows([text.encode() for text in texts])
    spans = split(*rows)
    whole = counted(kernel.ngrams, rows, spans)
    for start in range(len(texts)):
        part = (rows[0][start:], rows[1])
        assert counted(kernel.ngrams, part, split(*part)) == whole[start:]
    assert whole == [oracle.datatrove(text, text.split()) for text in texts]


def test_three_readings_of_one_text() -> None:
    """Five words three times and one more, n = 5: .3226 of the text, .9375 of the words, .9167 of the n-grams."""
    text = " ".join("abcde" * 3 + "x")
    rows = oracles.rows([text.encode()])
    spans = split(*rows)
    five = kernel.NGRAMS.index("duplicate_5_gram")
    trove, dclm, dolma = (counted(count, rows, spans)[0] for count in READINGS)
    total = counted(kernel.ngram_totals, rows, spans, 6)[0][0]
    assert trove[five] / trove[kernel.CHARACTERS] == pytest.approx(0.3226, abs=5e-5)
    assert dclm[five] / dclm[kernel.WORD_CHARACTERS] == pytest.approx(0.9375)
    assert dolma[five] / total == pytest.approx(0.9167, abs=5e-5)


def test_what_the_readings_make_of_ties_and_of_single_ngrams() -> None:
    """On a tie DataTrove and Dolma take the first, DCLM the longest; DCLM lets pass what occurs once."""
    tie = oracles.rows([b"a b cc dd a b cc dd", b"a b c"])
    tops = {count: [row[0] for row in counted(count, tie, split(*tie))] for count in READINGS}
    assert tops == {kernel.ngrams: [6, 3], kernel.ngrams_dclm: [8, 0], kernel.ngrams_dolma: [4, 2]}


def test_no_words_without_bytes_of_their_own_are_confused() -> None:
    """NULs pad nothing: "a" and "a\\0" differ at every length that a hash or a mask may cut."""
    texts = []
    for size in range(1, 40):
        word = "a" * size
        texts.append(f"{word} b {word}\0 b {word} b {word}\0 b\0 {word} b")
        texts.append(f"{word} \0 {word}\0 {word} \0 {word} \0\0 {word[1:]}a \0")
    check(texts, [text.split() for text in texts])


def test_repeats_of_every_length_up_to_the_longest_prefix() -> None:
    """Ten words of `size` bytes twice, what follows differing: the n-grams end on either side of each prefix."""
    rows = []
    for size in range(10, 70):
        cut = "abcdefghijklmnopqrstuvwxyz" * 3
        for n in (5, 6, 10):
            words = [*cut[: n - 1], cut[n - 1 : size]]
            rows.append([*words, "1", *words, "2", "3", *reversed(words)])
    check([" ".join(words) for words in rows], rows)


def test_pairs_of_words_with_one_hash_are_told_apart_by_their_bytes() -> None:
    """A first factor of zero makes the hash of a pair blind to bytes 8 to 15; lengths are tried until it is ASCII."""
    for size in range(40, 10_000):
        start = (size * int(SPREAD_1) + int(SALT_1)) % 2**64
        blind = start.to_bytes(8, "little")
        if all(33 <= byte < 127 for byte in blind):
            break
    words = [word for i in range(20) for word in (blind.decode() + f"{i % 7:08d}" + "x" * (size - 16), "y")]
    check([" ".join(words)], [words])


def test_long_ngrams_with_one_hash_are_told_apart_by_their_bytes() -> None:
    """The same blindness to what stands before a chunk of 16 bytes, behind a prefix that passes every sieve."""
    blind = int(SALT_1).to_bytes(8, "little") + b"b" * 8
    row = [word for i in range(20) for word in (b"p" * 48, b"%016d" % i, blind, b"c", b"d")]
    ends = np.cumsum(list(map(len, row)))
    edges = np.stack([ends - list(map(len, row)), ends], axis=1).astype(np.int32).reshape(-1)
    spans = (np.array([0, len(row)]), edges)
    assert counted(kernel.ngrams, oracles.rows([b"".join(row)]), spans)[0][3:9] == [0] * 6


ADVERSARIAL: dict[str, Callable[[int], str]] = {
    "one word": lambda size: "a " * (size // 2),
    "two words": lambda size: "a b " * (size // 4),
    "one line": lambda size: "the same line of a table again | 12 | 13\n" * (size // 41),
    "few lines": lambda size: "".join(f"a cell | another cell | row of {i % 7} | x y z\n" for i in range(size // 45)),
    "numbered lines": lambda size: "".join(
        f"/a/long/common/prefix/of/all/{i:09d}/file here\n" for i in range(size // 50)
    ),
    "one long word": lambda size: "x" * (size // 2) + " " + "x" * (size // 2),
    "long words": lambda size: ("x" * 1000 + " ") * (size // 1001),
    "short rows": lambda size: "a b c d e f g h i j " * (size // 20),
}


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_time_is_linear(kind: str) -> None:
    """Twice the text takes less than four times as long."""
    seconds = {}
    for size in (400_000, 800_000):
        rows = oracles.rows([ADVERSARIAL[kind](size).encode()])
        spans = split(*rows)
        for count in READINGS:
            times = []
            for _ in range(4):
                before = time.thread_time()
                counted(count, rows, spans)
                times.append(time.thread_time() - before)
            seconds[count, size] = min(times)
    for count in READINGS:
        assert seconds[count, 800_000] < 4 * seconds[count, 400_000] + 0.002


def test_short_rows_do_not_pay_for_a_long_one() -> None:
    """A long row among ten thousand short ones adds its own time, not its size to each of them."""
    short = [b"a few words of one short row, and a few words more"] * 10_000
    seconds = []
    for texts in (short, [*short, b"word another " * 80_000]):
        rows = oracles.rows(texts)
        spans = split(*rows)
        times = []
        for _ in range(3):
            before = time.thread_time()
            counted(kernel.ngrams, rows, spans)
            times.append(time.thread_time() - before)
        seconds.append(min(times))
    assert seconds[1] < 10 * seconds[0] + 0.1
