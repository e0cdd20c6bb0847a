"""Counts over given words, stop words of many sets, and the readings of DCLM and Dolma equal their definitions."""

import sys

import numpy as np
import oracle_quality as oracle
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import hostile_text

from curate.kernels import boundaries, quality, text


def by_spaces(texts):
    """Spans of the words of `str.split`, in bytes."""
    first, edges = [0], []
    for one in texts:
        at = 0
        for word in one.split():
            at = one.index(word, at)
            start = len(one[:at].encode())
            edges += [start, start + len(word.encode())]
            at += len(word)
        first.append(len(edges) // 2)
    return np.array(first, np.int64), np.array([*edges, 0, 0], np.int32)


def by_boundaries(texts):
    offsets, data = oracles.rows([one.encode() for one in texts])
    first, edges = np.zeros(len(texts) + 1, np.int64), np.zeros(2 * len(data) + 2, np.int32)
    boundaries.unicode_words(offsets, data, boundaries.word_properties(), first, edges)
    return first, edges


def cut(texts, first, edges):
    raw = [one.encode() for one in texts]
    return [
        [one[edges[2 * word] : edges[2 * word + 1]].decode() for word in range(first[row], first[row + 1])]
        for row, one in enumerate(raw)
    ]


def counted(kernel, names, texts, *, before=""):
    offsets, data = oracles.rows([one.encode() for one in texts], before=before.encode())
    out = np.full((len(texts), len(names)), -1, np.int64)
    kernel(offsets, data, quality.reading_classes(), out)
    return [dict(zip(names, row, strict=True)) for row in out.tolist()]


def judged(texts, spans, *, before=""):
    offsets, data = oracles.rows([one.encode() for one in texts], before=before.encode())
    out = np.full((len(texts), len(quality.QUALITY)), -1, np.int64)
    quality.quality(offsets, data, *spans(texts), text.code_point_classes(), out)
    return [dict(zip(quality.QUALITY, row, strict=True)) for row in out.tolist()]


@given(st.lists(hostile_text, max_size=4), hostile_text)
@pytest.mark.parametrize("spans", [by_spaces, by_boundaries])
def test_counts_over_given_words(spans, texts, before):
    wanted = [oracle.quality(words) for words in cut(texts, *spans(texts))]
    assert judged(texts, spans, before=before) == wanted


@given(st.lists(hostile_text, min_size=1, max_size=4))
def test_words_between_spaces_give_what_the_one_pass_kernel_gives(texts):
    offsets, data = oracles.rows([one.encode() for one in texts])
    out = np.empty((len(texts), len(text.SIGNALS)), np.int64)
    text.signals(offsets, data, text.code_point_classes(), out)
    seen = [dict(zip(text.SIGNALS, row, strict=True)) for row in out.tolist()]
    assert judged(texts, by_spaces) == [{name: row[name] for name in quality.QUALITY} for row in seen]


SOME_WORDS = st.sampled_from(
    ["a", "die", "und", "das", "\u0438", "internationalisation", "internationalization", "x" * 90]
)


def found(texts, which, sets):
    offsets, data = oracles.rows([one.encode() for one in texts])
    out = np.full(len(texts), -1, np.int64)
    table = quality.stop_word_sets(sets)
    quality.stop_words(offsets, data, *by_spaces(texts), np.array(which, np.int16), table, out)
    return out.tolist()


@given(
    st.lists(st.tuples(st.lists(SOME_WORDS, max_size=8), st.integers(-1, 2))),
    st.lists(st.sets(SOME_WORDS), min_size=3, max_size=3),
)
def test_stop_words_are_those_of_the_rows_own_set(rows, sets):
    wanted = [len(sets[which] & set(words)) if which >= 0 else 0 for words, which in rows]
    assert found([" ".join(words) for words, _ in rows], [which for _, which in rows], sets) == wanted


def test_stop_words_are_exact():
    sets = [oracle.GOPHER, ("the", "\u0438\u0302"), ()]
    texts = ["the the The of with", "the and", "the", "\u0439", "thethethe of", ""]
    assert found(texts, [0, 1, 2, 1, 0, 0], sets) == [3, 1, 0, 0, 1, 0]
    assert found(["a b"], [0], [()]) == [0]


def test_many_sets_do_not_mix():
    sets = [[f"w{number}", f"long-word-{number}", "same"] for number in range(200)]
    texts = [f"w{number} long-word-{number} same w{number + 1} long-word-{number + 1}" for number in range(200)]
    assert found(texts, list(range(200)), sets) == [3] * 200


READINGS = st.one_of(
    hostile_text,
    st.lists(
        st.sampled_from(
            [
                *[
                    ". . .",
                    ". ",
                    ".",
                    " .",
                    "...",
                    "\u2026",
                    "#",
                    "*",
                    "-",
                    "\u25cf",
                    "\u2022",
                    "\n",
                    " ",
                    "\0",
                    "\xa0",
                ],
                *[
                    "the",
                    "The",
                    "THAT",
                    "w\u0130th",
                    "\u0130",
                    "\u212a",
                    "\u00bd",
                    "\x1c",
                    "a" * 255,
                    "b" * 256,
                    "c" * 300,
                ],
            ]
        ),
        max_size=30,
    ).map("".join),
)


@given(st.lists(READINGS, max_size=4), hostile_text)
def test_dclm_equals_its_definition(texts, before):
    assert counted(quality.dclm, quality.DCLM, texts, before=before) == list(map(oracle.dclm, texts))


@given(st.lists(READINGS, max_size=4), hostile_text)
def test_dolma_equals_its_definition(texts, before):
    assert counted(quality.dolma, quality.DOLMA, texts, before=before) == list(map(oracle.dolma, texts))


@given(st.lists(st.integers(1, 900), max_size=40))
def test_the_median_of_long_words(lengths):
    texts = [" ".join("x" * length for length in lengths)]
    assert counted(quality.dolma, quality.DOLMA, texts) == list(map(oracle.dolma, texts))


@pytest.mark.parametrize(("kernel", "names"), [(quality.dclm, quality.DCLM), (quality.dolma, quality.DOLMA)])
@given(texts=st.lists(st.binary(max_size=60), max_size=4))
def test_broken_utf8_reads_no_byte_outside_its_row(kernel, names, texts):
    def run(raw, before=b""):
        offsets, data = oracles.rows(raw, before=before)
        out = np.empty((len(raw), len(names)), np.int64)
        kernel(offsets, data, quality.reading_classes(), out)
        return out.tolist()

    alone = [run([one])[0] for one in texts]
    assert run(texts, b"\xff\xf0\xe2\x80") == alone
    assert run([*texts, b"\xa6\x80"], b"\xe2\x80")[:-1] == alone


def test_letters_and_numbers_are_those_of_python():
    flags = quality.reading_classes() & quality.IS_NUMBER_OR_LETTER != 0
    differing = [code for code in range(sys.maxunicode + 1) if flags[code] != chr(code).isalnum()]
    assert differing == []


def test_readings_differ_where_their_authors_do():
    """One text, three readings: what each says of it was counted by hand."""
    one = '* "Well ... THE end of the\n- list #5 . . .\n\n  * sub\u2026 \nthe \u2022 end\u2026'
    dclm = counted(quality.dclm, quality.DCLM, [one])[0]
    # `* "Well ... - #5 . . . * \u2022` do not begin with a letter or number; `# ... `, `. . .` and two U+2026.
    assert (dclm["words"], dclm["dclm_words"], dclm["dclm_symbols"]) == (18, 8, 5)
    assert (dclm["dclm_lines"], dclm["dclm_bullet_lines"], dclm["dclm_ellipsis_lines"]) == (4, 3, 3)
    assert dclm["dclm_stop_words"] == 4  # THE, of, the, the
    dolma = counted(quality.dolma, quality.DOLMA, [one])[0]
    assert (dolma["dolma_words"], dolma["dolma_symbol_words"], dolma["dolma_stop_words"]) == (18, 3, 3)
    assert (dolma["dolma_lines"], dolma["dolma_bullet_lines"], dolma["dolma_ellipsis_lines"]) == (5, 2, 1)
    # Lengths 1 5 3 3 3 2 3 | 1 4 2 1 1 1 | 1 4 | 3 1 4 in order: 1 x7, 2 2, 3 x5, 4 x3, 5; the 9th and 10th: 2 and 3.
    assert dolma["dolma_median_word_length_twice"] == 5
