"""Frequent lines and paragraphs: what goes and what stays, by a slow twin, on planted copies and however it is cut."""

import random
import re

import numpy as np
import oracle_repeated_lines as oracle
import pyarrow as pa
import pytest
import xxhash
from driving import cut_into, driven
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import hostile_text

from curate.arrow import utf8
from curate.errors import RecipeError
from curate.kernels.folds import _SEARCHED, GROWTH, fold
from curate.kernels.passages import exact_keys, folded_keys, line_spans, places, repeated, tally
from curate.kernels.text import code_point_classes
from curate.stage import Verdict
from curate.stages.repeated_lines import RepeatedLines

FORMS = ["exact", "lower", "ccnet", "folded"]
# Passages that some form makes one and another does not, and what may part them.
LINES = [
    *["menu", "Menu", " menu\t", "menü", "menu\u0308", "ménu!", "menu, menu", "Call 12", "call 34", "call ３４"],
    *["Σας", "ΣΑΣ", "σασ", "İ", "i\u0307", "한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8", "a - b", "a b", "«a» b"],
    *["", "", "…", "\u3000", "x" * 300, "X" * 300, "é" * 130, "\x0ba\x1cb", "\x00", "漢字。", "漢字"],
]
BREAKS = ["\n", "\n", "\n\n", "\r\n", "\r\n\r\n", "\n \n", "\n\n\n", "\n\u2028\n"]
piece = st.one_of(st.sampled_from(LINES), st.sampled_from(LINES), st.sampled_from(BREAKS), hostile_text)
page = st.lists(st.tuples(piece, st.sampled_from(BREAKS)), max_size=8).map(lambda pairs: "".join(map("".join, pairs)))
stages = st.builds(
    RepeatedLines,
    of=st.sampled_from(["line", "paragraph"]),
    at_least=st.sampled_from([2, 2, 3]),
    count=st.sampled_from(["occurrences", "documents"]),
    keep=st.sampled_from(["first", "none"]),
    min_length=st.sampled_from([0, 0, 1, 4, 300]),
    normalize=st.sampled_from(FORMS),
    per=st.sampled_from([None, None, "crawl"]),
    among=st.sampled_from([None, None, "good"]),
)


def corpus(texts, crawls=None, good=None):
    return pa.table(
        {
            "text": pa.array(texts, pa.large_string()),
            "crawl": pa.array(crawls or ["a"] * len(texts), pa.string()).dictionary_encode(),
            "good": pa.array(good or [True] * len(texts), pa.bool_()),
        }
    )


def left(stage, shards, part_rows=1000):
    """What became of all rows, in order."""
    with driven(stage, shards, part_rows=part_rows) as run:
        tables = run.applied()
    assert all(tuple(table.column_names) == stage.adds for table in tables)
    assert [table.num_rows for table in tables] == [shard.num_rows for shard in shards]
    assert len({table.schema for table in tables}) == 1
    return pa.concat_tables(tables).to_pylist()


def lines_left(texts, **parameters):
    stage = RepeatedLines(**({"at_least": 2, "min_length": 0} | parameters))
    return [row["text"] for row in left(stage, [corpus(texts)])]


def cut(text, removed):
    """The text without its removed spans, which are in order and apart."""
    data, kept, at = text.encode(), b"", 0
    for span in removed:
        assert at <= span["start"] < span["end"] <= len(data)
        assert span["reason"] == "repeated_lines"
        kept, at = kept + data[at : span["start"]], span["end"]
    return (kept + data[at:]).decode()


@settings(max_examples=150)
@given(
    stages,
    st.lists(st.tuples(page, st.sampled_from(["a", "b", "", None]), st.sampled_from([True, True, False])), max_size=6),
    st.lists(st.integers(0, 6), max_size=3),
    st.sampled_from([2, 1000]),
)
@example(RepeatedLines(at_least=2, min_length=0), [("menu\r\nmenu\n", "a", True)] * 2, [1], 1000)
@example(RepeatedLines(of="paragraph", at_least=2, min_length=0), [("\n\nmenu\n\nb\n", "a", True)] * 2, [1], 1000)
def test_what_is_left_is_what_the_slow_twin_leaves(stage, rows, borders, part_rows):
    texts, crawls, good = ([row[i] for row in rows] for i in range(3))
    table = corpus(texts, crawls, good)
    wanted = {name: getattr(stage, name) for name in ("of", "at_least", "count", "keep", "min_length", "normalize")}
    expected = oracle.repeated_lines(
        texts, **wanted, scopes=crawls if stage.per else None, among=good if stage.among else None
    )
    made = left(stage, cut_into(table, borders), part_rows)
    for text, row, (new, gone) in zip(texts, made, expected, strict=True):
        assert row["text"] == new
        assert row["repeated_lines"] == gone
        assert cut(text, row["removed"]) == new
        assert bool(row["removed"]) == (gone > 0)
        assert row["text_id"] == xxhash.xxh3_128_digest(new.encode())
        assert row["bytes"] == len(new.encode())
        assert row["repeated_ratio"] == pytest.approx((len(text) - len(new)) / max(len(text), 1))


@pytest.mark.parametrize(("of", "between"), [("line", "\n"), ("paragraph", "\n\n"), ("paragraph", "\r\n\r\n")])
@pytest.mark.parametrize("keep", ["first", "none"])
def test_planted_copies_are_found_and_nothing_else(of, between, keep):
    """Twenty passages in 25 documents each, beside text that occurs once; offsets count bytes."""
    draw = random.Random(7)
    planted = [f"Überall — gleich № {i}: cookies, 漢字 and menus" for i in range(20)]
    where = [draw.sample(range(60), 25) for _ in planted]
    documents = []
    for number in range(60):
        parts = [f"só único {number}.{i} é aquí" for i in range(5)]
        for passage, chosen in zip(planted, where, strict=True):
            if number in chosen:
                parts.insert(draw.randrange(len(parts) + 1), passage)
        documents.append(parts)
    texts = [between.join(parts) for parts in documents]
    made = left(RepeatedLines(of=of, keep=keep), cut_into(corpus(texts), [7, 8, 31]), 50)
    seen = set()
    for parts, text, row in zip(documents, texts, made, strict=True):
        stays = []
        for part in parts:
            if part not in planted or (keep == "first" and part not in seen):
                stays.append(part)
            seen.add(part)
        assert row["text"] == between.join(stays)
        assert row["repeated_lines"] == len(parts) - len(stays)
        assert cut(text, row["removed"]) == row["text"]
        for span in row["removed"]:
            taken = text.encode()[span["start"] : span["end"]].decode()
            assert set(filter(None, re.split("\r?\n", taken))) <= set(planted)
    assert sum(row["repeated_lines"] for row in made) == 20 * (24 if keep == "first" else 25)


def test_a_passage_stays_until_it_is_frequent():
    texts = ["a\nonce", "a\nb", "a\nb"]
    assert lines_left(texts) == ["a\nonce", "b", ""]
    assert lines_left(texts, at_least=3) == ["a\nonce", "b", "b"]
    assert lines_left(texts, at_least=4) == texts
    assert lines_left(texts, keep="none") == ["once", "", ""]


def test_documents_or_occurrences_are_counted():
    texts = ["a\na\na", "b", "b\nc\nc"]
    assert lines_left(texts) == ["a", "b", "c"]
    # As cc_net does, by documents, none kept: what one document repeats is its own affair.
    assert lines_left(texts, count="documents", keep="none") == ["a\na\na", "", "c\nc"]
    assert lines_left([*texts, "a"], count="documents") == ["a", "b", "c\nc", ""]


def test_short_ones_stay():
    texts = ["äöü\nfour!", "äöü\nfour!"]
    assert lines_left(texts, min_length=4) == ["äöü\nfour!", "äöü"]
    assert lines_left(texts, min_length=4, normalize="folded") == ["äöü\nfour!", "äöü"]
    assert lines_left(["four!", "FOUR?"], min_length=5, normalize="folded") == ["four!", "FOUR?"]
    assert lines_left(["four!", "FOUR?"], min_length=4, normalize="folded") == ["four!", ""]


def test_each_scope_is_a_corpus_of_its_own():
    table = corpus(["a", "a", "a", "a", "a", "a"], ["x", "y", None, "x", "", None])
    stage = RepeatedLines(at_least=2, min_length=0, per="crawl")
    assert [row["text"] for row in left(stage, cut_into(table, [2]))] == ["a", "a", "a", "", "a", ""]
    numbers = table.set_column(1, "crawl", pa.array([1, 2, None, 1, 0, None], pa.int32()))
    assert [row["text"] for row in left(stage, cut_into(numbers, [2]))] == ["a", "a", "a", "", "a", ""]
    with pytest.raises(RecipeError, match="`per` names a column of double"):
        stage.scan(table.set_column(1, "crawl", pa.array([0.5] * 6)))


def test_what_does_not_compete_is_neither_counted_nor_changed():
    table = corpus(["a", "a", "a", "b", "b"], good=[False, True, True, False, True])
    stage = RepeatedLines(at_least=2, min_length=0, keep="none", among="good")
    assert [row["text"] for row in left(stage, [table])] == ["a", "", "", "b", "b"]
    assert stage.reads == ("text", "good")
    assert RepeatedLines(per="crawl", among="good and words > 3").reads == ("text", "crawl", "good", "words")


def test_what_went_is_counted():
    stage, shard = RepeatedLines(at_least=2, min_length=0), corpus(["é\né\nb", "é\nc", "d"])
    with driven(stage, [shard]) as run:
        (made,) = run.applied()
    assert stage.counts(shard, made) == {"repeated": {"rows": 2, "lines": 2, "bytes": 6}}
    empty = shard.slice(0, 0)
    made = RepeatedLines(of="paragraph").apply(empty, Verdict())
    assert RepeatedLines(of="paragraph").counts(empty, made) == {"repeated": {"rows": 0, "paragraphs": 0, "bytes": 0}}


@pytest.mark.parametrize("form", FORMS)
@given(st.lists(page, max_size=4), st.sampled_from([0, 1, 5, 20]), st.integers(0, 2))
def test_keys_are_xxh3_of_the_normalized_passage(form, texts, least, skipped):
    column = pa.array(["skip\nped"] * skipped + texts, pa.large_string()).slice(skipped)
    offsets, data = utf8(column)
    first = np.empty(len(offsets), np.int64)
    spans = line_spans(offsets, data, first)
    lines = [line for text in texts for line in text.split("\n")]
    assert [data[start:end].tobytes().decode() for start, end in spans] == lines
    assert np.diff(first).tolist() == [text.count("\n") + 1 for text in texts]
    keys, counted = np.zeros((len(spans), 2), np.uint64), np.empty(len(spans), np.bool_)
    if form == "exact":
        exact_keys(data, code_point_classes(), spans, least, keys, counted)
    else:
        folded_keys(data, fold(form), spans, least, keys, counted)
    names = [oracle.normalized(line, form) for line in lines]
    assert counted.tolist() == [len(name) >= max(least, 1) for name in names]
    for name, key in zip(names, keys[: len(names)].tolist(), strict=True):
        if len(name) >= max(least, 1):
            assert key == list(divmod(xxhash.xxh3_128_intdigest(name.encode()), 1 << 64))


@pytest.mark.parametrize("form", FORMS[1:])
def test_tables_say_of_every_character_what_python_says(form):
    """Characters that are not searched are the same in every form; those that are grow no further than is allowed."""
    tables = fold(form)
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    others = [c for c in characters if not any(ord(c) in part for part in _SEARCHED)]
    assert oracle.normalized("".join(others), form) == "".join(others)
    assert not tables.entries[[ord(c) for c in others]].any()
    for character in (c for part in _SEARCHED for c in map(chr, part) if not c.isspace()):
        entry = int(tables.entries[ord(character)])
        said = bytes(tables.pool[entry >> 4 : (entry >> 4) + (entry & 15)]).decode() if entry else character
        assert said == oracle.normalized(character, form)
        assert len(said.encode()) <= GROWTH * len(character.encode())


def test_half_a_key_is_no_key():
    keys = np.array([[1, 7], [2, 7], [1, 8], [1, 7]], np.uint64)
    counted, first = np.ones(4, np.bool_), np.array([0, 2, 4], np.int64)
    seen = np.empty((4, 4), np.int64)
    assert tally(first, keys, counted, places(4), seen) == 3
    assert seen[:3].tolist() == [[0, 0, 2, 2], [1, 0, 1, 1], [2, 1, 1, 1]]
    gone = np.empty(4, np.bool_)
    repeated(keys, counted, keys[:1], np.array([True]), places(1), gone)
    assert gone.tolist() == [False, False, False, True]
    repeated(keys, counted, keys[:1], np.array([False]), places(1), gone)
    assert gone.tolist() == [True, False, False, True]


def test_the_published_normalisations():
    """cc_net's code keeps accents, ASCII marks and spaces; its paper says that accents and all punctuation go."""
    assert lines_left(["Page 12, of 30", "page 34, of 99"], normalize="ccnet") == ["Page 12, of 30", ""]
    assert lines_left(["«Café»", "café"], normalize="ccnet") == ["«Café»", ""]
    assert lines_left(["café!", "cafe"], normalize="ccnet") == ["café!", "cafe"]
    assert lines_left(["a,  «Café» - 1!", "a cafe 2"], normalize="folded") == ["a,  «Café» - 1!", ""]
    assert lines_left([" Menu", "menu "], normalize="lower") == [" Menu", ""]
    assert lines_left([" Menu", "Menu\r"]) == [" Menu", ""]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"at_least": 1}, "`at_least` is 1"),
        ({"min_length": -1}, "`min_length` is -1"),
        ({"min_length": 1 << 63}, "below 2^63"),
        ({"per": ""}, "`per` is ''"),
        ({"per": "text"}, "`per` is 'text'"),
        ({"among": "good and"}, "cannot read the expression"),
    ],
)
def test_what_makes_no_sense_is_named_before_work(parameters, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        RepeatedLines(**parameters)
