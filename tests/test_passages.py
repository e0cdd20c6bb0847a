"""Documents cut into passages: what lies where, what is left out and why, and the joining rules against slow twins."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import hostile_text
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from curate import passages as module
from curate.arrow import utf8
from curate.errors import RecipeError
from curate.kernels.joins import REASONS, join_lines, join_sentences
from curate.passages import SCHEMA, cuts, passages

sentencex = pytest.importorskip("sentencex")


def byte_tokenizer() -> Tokenizer:
    """A token for each byte, as tokenizers with bytes at the bottom take what they have never seen."""
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def word_tokenizer() -> Tokenizer:
    """A token for each run of letters without white space."""
    made = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


BYTES, WORDS = byte_tokenizer(), word_tokenizer()


def cut(texts, **numbers):
    """Texts of the passages of each document, and the reasons counted."""
    given = {"most": 6, "least": 0, "split": "sentences", "tokens": WORDS, **numbers}
    array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.large_string())
    table, dropped = passages(array, **given)
    assert table.schema == SCHEMA
    found = [[] for _ in range(len(array))]
    for row, start, end, _ in zip(*table.to_pydict().values(), strict=True):
        found[row].append((array[row].as_py() or "").encode()[start:end].decode())
    return found, {reason: count for reason, count in dropped.items() if count}


# Slow twins ---------------------------------------------------------------------------------------------------------


def slow_sentences(sizes, most, least, document):
    """Passages as lists of places, and the reason for what is missing."""
    if sum(sizes) < max(document, 1):
        return [], ["short_document" if sum(sizes) else "empty"]
    made = [[]]
    for place, size in enumerate(sizes):
        now = sum(sizes[i] for i in made[-1])
        if now and now + size > most:
            made.append([])
        made[-1].append(place)
    last = sum(sizes[i] for i in made[-1])
    if last >= least:
        return made, []
    if len(made) == 1:
        return [], ["short_document"]
    if (sum(sizes[i] for i in made[-2]) + last) * 100 <= 115 * most:
        return [*made[:-2], made[-2] + made[-1]], []
    return made[:-1], ["short_passage"]


def slow_lines(sizes, most, least, document):
    if sum(sizes) < max(document, 1):
        return [], ["short_document" if sum(sizes) else "empty"]
    reasons, runs = [], [[]]
    for place, size in enumerate(sizes):
        if size > most:
            reasons.append("long_line")
            runs.append([])
            continue
        if sum(sizes[i] for i in runs[-1]) + size > most:
            runs.append([])
        runs[-1].append(place)
    kept = [run for run in runs if sum(sizes[i] for i in run) >= max(least, 1)]
    short = [run for run in runs if 0 < sum(sizes[i] for i in run) < least]
    return kept, [*reasons, *["short_passage"] * len(short)]


@pytest.mark.parametrize(("join", "slow"), [(join_sentences, slow_sentences), (join_lines, slow_lines)])
@given(
    rows=st.lists(st.lists(st.integers(0, 12), max_size=12), max_size=6),
    most=st.integers(1, 30),
    least=st.integers(0, 30),
    document=st.integers(0, 40),
)
def test_joining_is_that_of_the_slow_twin(join, slow, rows, most, least, document):
    least = min(least, most)
    if join is join_sentences:
        rows = [[min(size, most) for size in row] for row in rows]
    first = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    tokens = np.array([size for row in rows for size in row], np.int64)
    made, dropped = np.empty((len(tokens), 4), np.int64), np.zeros(4, np.int64)
    held = join(first, tokens, most, least, document, made, dropped)
    want, reasons = [], []
    for number, row in enumerate(rows):
        kept, why = slow(row, most, least, document)
        want += [
            (first[number] + run[0], first[number] + run[-1] + 1, sum(row[i] for i in run), number) for run in kept
        ]
        reasons += why
    assert [tuple(line) for line in made[:held].tolist()] == want
    assert dict(zip(REASONS, dropped.tolist(), strict=True)) == {reason: reasons.count(reason) for reason in REASONS}


def slow_cuts(sizes, spaced, most):
    """Numbers of tokens of each stretch: as many as may be up to white space, else as many as may be."""
    made, at = [], 0
    while len(sizes) - at > most:
        places = [k for k in range(at + 1, at + most + 1) if spaced[k]]
        place = places[-1] if places else at + most
        made.append(place - at)
        at = place
    return [*made, len(sizes) - at]


@given(text=st.text("ab  ", min_size=1, max_size=60), most=st.integers(1, 9))
def test_what_is_too_long_is_cut_at_white_space_if_it_can_be(text, most):
    spaced = [k > 0 and (text[k] == " " or text[k - 1] == " ") for k in range(len(text))]
    want, at = [], 0
    for size in slow_cuts(text, spaced, most):
        part = text[at : at + size]
        if part.strip():
            start = at + len(part) - len(part.lstrip())
            want.append((start, start + len(part.strip()), size))
        at += size
    assert cuts(text, most, BYTES) == want


# The whole ----------------------------------------------------------------------------------------------------------

_TEXTS = st.lists(st.one_of(hostile_text, st.none()), max_size=5)


@pytest.mark.parametrize("split", ["sentences", "lines"])
@pytest.mark.parametrize("tokens", [BYTES, WORDS], ids=["bytes", "words"])
@given(texts=_TEXTS, most=st.integers(1, 40), least=st.integers(0, 40), batch=st.integers(1, 500))
def test_passages_are_stretches_of_their_text_in_order(split, tokens, texts, most, least, batch):
    least = min(least, most)
    whole = pa.array(["before", *texts, None, "behind"], pa.large_string())
    column = pa.chunked_array(
        [whole.slice(1, len(texts) // 2), whole.slice(1 + len(texts) // 2, len(texts) - len(texts) // 2)]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BATCH", batch)
        table, dropped = passages(column, most=most, least=least, split=split, tokens=tokens)
    again, same = passages(pa.array(texts, pa.large_string()), most=most, least=least, split=split, tokens=tokens)
    assert table.equals(again)
    assert dropped == same
    data = [(text or "").encode() for text in texts]
    lines = list(zip(*table.to_pydict().values(), strict=True))
    for row, start, end, count in lines:
        passage = data[row][start:end].decode()
        assert passage
        assert passage == passage.strip()
        assert count > 0
        if split == "lines":
            assert count <= most
            assert count >= least
        else:
            assert count <= max(1.15 * most, 4)  # a character has up to four bytes
    for (row, _, end, _), (other, start, _, _) in itertools.pairwise(lines):
        assert (row, end) <= (other, start)
    missing = {*range(len(texts))} - {row for row, *_ in lines}
    assert dropped["empty"] + dropped["short_document"] <= len(missing)
    if least <= 1 and split == "sentences" and tokens is WORDS:
        for row, text in enumerate(data):
            kept = b"".join(text[start:end] for r, start, end, _ in lines if r == row)
            assert "".join(kept.decode().split()) == "".join(text.decode().split())


def test_sentences_fill_passages_and_stay_whole():
    text = "Dr. Smith came in. He sat down! Was it late?\n\nIt was not. So he left again."
    found, dropped = cut([text], most=8)
    assert found == [["Dr. Smith came in. He sat down!", "Was it late?\n\nIt was not.", "So he left again."]]
    assert dropped == {}


@pytest.mark.parametrize(
    ("words", "most", "least", "sizes", "reasons"),
    [
        ([5, 5, 1], 10, 4, [11], {}),  # 11 <= 1.15 * 10
        ([5, 5, 2], 10, 4, [10], {"short_passage": 1}),
        ([20, 3], 20, 4, [23], {}),  # 23 is 1.15 * 20
        ([20, 4], 20, 4, [20, 4], {}),
        ([3], 20, 4, [], {"short_document": 1}),
        ([4], 20, 4, [4], {}),
    ],
)
def test_a_short_rest_is_merged_or_dropped(words, most, least, sizes, reasons):
    text = " ".join("Word " * (count - 1) + "end." for count in words)
    table, dropped = passages(pa.array([text]), most=most, least=least, split="sentences", tokens=WORDS)
    assert table["tokens"].to_pylist() == sizes
    assert {reason: count for reason, count in dropped.items() if count} == reasons


def test_lines_are_dropped_joined_and_dropped():
    text = "a b c\r\nd e\n\n" + "long " * 7 + "\nf\n \n" + "g h i j k l\nm"
    assert cut([text], split="lines") == ([["a b c\r\nd e", "f", "g h i j k l", "m"]], {"long_line": 1})
    assert cut([text], split="lines", least=2) == (
        [["a b c\r\nd e", "g h i j k l"]],
        {"long_line": 1, "short_passage": 2},
    )
    assert cut(["a b c\nd", "a b c"], split="lines", document=4) == ([["a b c\nd"], []], {"short_document": 1})


def test_what_is_empty_is_counted():
    for split in ("sentences", "lines"):
        assert cut(["", None, " \r\n\t\u2028 ", "a"], split=split) == ([[], [], [], ["a"]], {"empty": 3})
    assert cut(pa.array([], pa.large_string())) == ([], {})


@pytest.mark.parametrize(
    "text", ["a" * 5_000_000, "word " * 1_000_000, "\n" * 300_000 + "end."], ids=["a", "words", "breaks"]
)
def test_endless_lines_are_cut_in_bounded_time(text):
    table, _ = passages(pa.array([text], pa.large_string()), most=200_000, least=1, split="sentences", tokens=WORDS)
    assert table["end"][-1].as_py() == len(text.rstrip())
    _, dropped = passages(pa.array([text], pa.large_string()), most=70, least=1, split="lines", tokens=WORDS)
    assert dropped["long_line"] == ("\n" not in text)


def test_marks_of_other_scripts_and_languages():
    assert cut(["你好。再见！", "नमस्ते। कैसे हैं?"], most=1)[0][0] == ["你好。", "再见！"]
    text = ["Das gilt z.B. hier. Ende gut."]
    assert cut(text, most=4, languages=pa.array(["de"])) == ([["Das gilt z.B. hier.", "Ende gut."]], {})
    assert cut(text, most=4, languages=pa.array([None], pa.string()))[0][0][-1] == "Ende gut."


def test_white_space_that_the_splitter_cannot_take_is_harmless():
    for mark in "\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000":
        assert cut([f"A{mark}. B C{mark}D. E"], most=50)[0] == [[f"A{mark}. B C{mark}D. E"]]


def test_a_text_that_breaks_the_splitter_is_cut_to_lines(monkeypatch):
    class PanicException(BaseException):
        """As Rust code ends."""

    def broken(language, text):
        raise PanicException("index out of bounds")

    monkeypatch.setattr(sentencex, "segment", broken)
    assert cut(["One. Two\nthree. Four"], most=2)[0] == [["One. Two", "three. Four"]]

    def stopped(language, text):
        raise KeyboardInterrupt

    monkeypatch.setattr(sentencex, "segment", stopped)
    with pytest.raises(KeyboardInterrupt):
        cut(["One."])


def test_a_tokenizer_that_truncates_and_pads_is_left_as_it_is():
    tokens = word_tokenizer()
    tokens.enable_truncation(3)
    tokens.enable_padding(length=50)
    assert cut(["a b c d e f g h"], tokens=tokens, most=5)[0] == [["a b c d e", "f g h"]]
    assert tokens.truncation is not None
    assert tokens.padding is not None


def test_nulls_count_as_empty_even_with_bytes_below_them():
    hidden = pa.Array.from_buffers(
        pa.large_string(),
        2,
        [pa.py_buffer(b"\x02"), pa.py_buffer(np.array([0, 5, 8], np.int64)), pa.py_buffer("secreté ".encode())],
    )
    assert utf8(hidden)[0].tolist() == [0, 5, 8]
    assert cut(hidden, split="lines")[0] == [[], ["té"]]


@pytest.mark.parametrize("numbers", [{"most": 0}, {"least": 9}, {"least": -1}, {"document": -1}])
def test_numbers_that_fit_no_passage_are_refused(numbers):
    with pytest.raises(RecipeError, match="least <= most"):
        cut(["a"], **numbers)
