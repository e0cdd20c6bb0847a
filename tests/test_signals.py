"""The columns of `heuristics`: shares of what the slow definitions count, for every family and every way of words."""

import re
from itertools import chain
from pathlib import Path

import numpy as np
import oracle_lines
import oracle_ngrams
import oracle_quality
import oracles
import pyarrow as pa
import pytest
from corpus import write_corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_fasttext import write_model
from strategies import hostile_text

from curate import expressions, recipe, signals
from curate.errors import RecipeError
from curate.run import run
from curate.stage import Verdict
from curate.stages.code import Code
from curate.stages.heuristics import Heuristics

compiles = settings(deadline=None, max_examples=60)
FAMILIES = tuple(signals.FAMILIES)
WORDS = st.sampled_from(
    ["the", "of", "a", "ab", "b c", "naïve", "#", "...", "- x", "漢字", ".", "\n", "\n\n", "\r\n", "{"]
)
repetitive = st.lists(WORDS, max_size=60).map(" ".join)


def columns(texts: list[str], **parameters: object) -> list[dict[str, float]]:
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    if "language" in parameters:
        table = table.append_column("language", pa.array(parameters.pop("codes")).dictionary_encode())
    return Heuristics(**parameters).apply(table, Verdict()).to_pylist()


def share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def repetition(text: str) -> dict[str, float]:
    lines, words = oracle_lines.lines(text), text.split()
    grams = oracle_ngrams.datatrove(text, words)
    names = [*(f"top_{n}_gram_ratio" for n in range(2, 5)), *(f"duplicate_{n}_gram_ratio" for n in range(5, 11))]
    return {
        "duplicate_line_ratio": share(lines["duplicate_segments"], lines["segments"]),
        "duplicate_line_character_ratio": share(lines["duplicate_segment_characters"], len(text)),
        "duplicate_paragraph_ratio": share(lines["duplicate_paragraphs"], lines["paragraphs"]),
        "duplicate_paragraph_character_ratio": share(lines["duplicate_paragraph_characters"], len(text)),
        **{name: share(count, len(text)) for name, count in zip(names, grams, strict=False)},
    }


def fineweb(text: str) -> dict[str, float]:
    lines = oracle_lines.lines(text)
    return {
        "text_lines": lines["filled_lines"],
        "terminal_line_ratio": share(lines["terminal_lines"], lines["filled_lines"]),
        "short_line_ratio": share(lines["short_lines"], lines["filled_lines"]),
        "duplicate_character_ratio": share(lines["duplicate_line_characters"], lines["line_characters"]),
        "newline_ratio": text.count("\n") / max(len(text.split()), 1),
        "long_lines": lines["long_lines"],
    }


def c4(text: str) -> dict[str, float]:
    from curate.kernels.c4 import C4_LIMITS, LIMITS

    counts, _ = oracle_lines.c4(text, dict(zip(LIMITS, C4_LIMITS, strict=True)))
    lines = ("long_word", "unterminated", "short", "javascript", "policy", "kept")
    return {
        **{f"c4_{name}_lines": counts[name] for name in lines},
        "c4_lorem_ipsum_lines": counts["lorem"],
        "c4_curly_bracket_lines": counts["curly"],
        "c4_sentences": counts["sentences"],
        "lorem_ipsum": counts["lorem_ipsums"],
        "curly_brackets": counts["curly_brackets"],
    }


def dclm(text: str) -> dict[str, float]:
    counts, lines = oracle_quality.dclm(text), oracle_lines.lines_dclm(text)
    words = expressions.languages.split(text, "unicode")
    grams = oracle_ngrams.dclm(text, words)
    names = [
        *(f"dclm_top_{n}_gram_ratio" for n in range(2, 5)),
        *(f"dclm_duplicate_{n}_gram_ratio" for n in range(5, 11)),
    ]
    return {
        "dclm_words": counts["dclm_words"],
        "dclm_mean_word_length": share(counts["word_characters"], counts["words"]),
        "dclm_symbol_ratio": counts["dclm_symbols"] / max(counts["words"], 1),
        "dclm_bullet_line_ratio": share(counts["dclm_bullet_lines"], counts["dclm_lines"]),
        "dclm_ellipsis_line_ratio": share(counts["dclm_ellipsis_lines"], counts["dclm_lines"]),
        "dclm_alphabetic_word_ratio": share(counts["alphabetic_words"], counts["words"]),
        "dclm_stop_words": counts["dclm_stop_words"],
        "dclm_duplicate_line_ratio": share(lines["repeated_lines"], lines["lines"]),
        "dclm_duplicate_line_character_ratio": share(lines["repeated_line_characters"], lines["line_characters"]),
        "dclm_duplicate_paragraph_ratio": share(lines["repeated_paragraphs"], lines["paragraphs"]),
        "dclm_duplicate_paragraph_character_ratio": share(
            lines["repeated_paragraph_characters"], lines["paragraph_characters"]
        ),
        **{name: share(count, sum(map(len, words))) for name, count in zip(names, grams, strict=False)},
    }


def dolma(text: str) -> dict[str, float]:
    counts, lines, words = oracle_quality.dolma(text), oracle_lines.lines_dolma(text), text.split()
    grams, totals = oracle_ngrams.dolma(text, words), oracle_ngrams.totals(words)
    wholes = [*[sum(map(len, words))] * 3, *totals]
    names = [
        *(f"dolma_top_{n}_gram_ratio" for n in range(2, 5)),
        *(f"dolma_duplicate_{n}_gram_ratio" for n in range(5, 11)),
    ]
    return {
        "dolma_words": len(words),
        "dolma_median_word_length": counts["dolma_median_word_length_twice"] / 2,
        "dolma_symbol_word_ratio": share(counts["dolma_symbol_words"], len(words)),
        "dolma_bullet_line_ratio": share(counts["dolma_bullet_lines"], counts["dolma_lines"]),
        "dolma_ellipsis_line_ratio": share(counts["dolma_ellipsis_lines"], counts["dolma_lines"]),
        "dolma_alphabetic_word_ratio": share(counts["dolma_alphabetic_words"], len(words)),
        "dolma_stop_words": counts["dolma_stop_words"],
        "dolma_duplicate_line_ratio": share(lines["repeated_lines"], lines["lines"]),
        "dolma_duplicate_line_character_ratio": lines["repeated_line_characters"] / max(lines["word_characters"], 1),
        "dolma_duplicate_filled_line_ratio": share(lines["repeated_nonempty_lines"], lines["nonempty_lines"]),
        **{name: share(count, whole) for name, count, whole in zip(names, grams, wholes, strict=False)},
    }


ORACLES = {"repetition": repetition, "fineweb": fineweb, "c4": c4, "dclm": dclm, "dolma": dolma}


@compiles
@given(st.lists(hostile_text | repetitive, min_size=1, max_size=3))
@pytest.mark.parametrize("family", ORACLES)
def test_columns_follow_from_the_counts(family: str, texts: list[str]) -> None:
    for row, text in zip(columns(texts, signals=(family,)), texts, strict=True):
        expected = {"characters": len(text), "words": len(text.split()), **ORACLES[family](text)}
        assert row == {name: pytest.approx(value, rel=1e-6) for name, value in expected.items()}


def test_a_family_gives_the_same_alone_and_with_others() -> None:
    texts = ["The cat sat. The cat sat.\n\nThe cat sat on it!\nx", "", "漢字 と #1 ...\n" * 9]
    together = columns(texts, signals=FAMILIES)
    assert list(together[0]) == list(dict.fromkeys(chain(("characters", "words"), *signals.FAMILIES.values())))
    for family in FAMILIES:
        for row, every in zip(columns(texts, signals=(family,)), together, strict=True):
            assert row == {name: every[name] for name in row}


def test_types_and_nothing_of_nothing() -> None:
    table = pa.table({"text": pa.array(["", " \n", "#" * 70], pa.large_string())})
    made = Heuristics(signals=FAMILIES).apply(table, Verdict())
    ratios = [name for name in made.column_names if name.endswith(("_ratio", "_length"))]
    assert all(made.schema.field(name).type == pa.float32() for name in ratios)
    assert all(pa.types.is_integer(made.schema.field(name).type) for name in set(made.column_names) - set(ratios))
    assert not any(np.isnan(column.to_numpy()).any() or column.null_count for column in made.columns)
    empty = made.to_pylist()[0]
    assert {name for name, value in empty.items() if value} == set()
    assert Heuristics().apply(table.slice(0, 0), Verdict()).num_rows == 0


def test_blocks_of_rows_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a b a b a b", "", "the cat " * 40, "漢字", "x"] * 9
    whole = columns(texts, signals=FAMILIES)
    monkeypatch.setattr(signals, "_BLOCK", 64)
    assert columns(texts, signals=FAMILIES) == whole


@compiles
@given(hostile_text)
def test_unicode_words(text: str) -> None:
    words = expressions.languages.split(text, "unicode")
    (row,) = columns([text], signals=("quality", "repetition"), words="unicode")
    seen, grams = oracle_quality.quality(words), oracle_ngrams.datatrove(text, words)
    assert row["words"] == len(words)
    assert row["symbol_free_words"] == seen["symbol_free_words"]
    assert row["stop_words"] == len({*words} & {*signals.GOPHER_STOP_WORDS})
    assert row["alphabetic_word_ratio"] == pytest.approx(share(seen["alphabetic_words"], len(words)), rel=1e-6)
    assert row["duplicate_5_gram_ratio"] == pytest.approx(share(grams[3], len(text)), rel=1e-6)
    assert row["lines"] == oracles.signals(text)["lines"]


def test_words_and_stop_words_of_each_rows_language() -> None:
    texts = ["Der Hund und die Katze, das ist es.", "我们的猫在这里", "the dog and the cat", "the dog"]
    rows = columns(texts, signals=("quality",), words="language", language="language", codes=["de", "zh", "en", None])
    assert [row["words"] for row in rows] == [8, 7, 5, 2]
    assert rows[0]["stop_words"] >= 3
    assert rows[1]["stop_words"] >= 2
    assert [row["stop_words"] for row in rows[2:]] == [2, 0]


def test_families_of_names() -> None:
    assert signals.families_of(["words", "top_2_gram_ratio", "c4_sentences"]) == ("repetition", "c4")
    assert signals.families_of(["words", "nothing"]) == ()


@pytest.mark.parametrize(
    ("parameters", "said"), [({"signals": ()}, "names no family"), ({"words": "language"}, "needs `language:`")]
)
def test_parameters_that_make_no_sense(parameters: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        Heuristics(**parameters)


def test_every_column_that_a_rule_set_names_exists() -> None:
    known = {*signals.columns(FAMILIES), "language", "language_score", "removed_word_ratio", "bytes"}
    for name in expressions.bundles():
        if name.startswith(("stack", "starcoder", "opencoder")):
            continue
        for rule, condition in expressions.bundle(name).items():
            assert set(expressions.columns(condition)) <= known, (name, rule)


def test_a_column_of_another_family_is_found(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    text = """
ingest: {files: raw/*, source: web}
stages:
  - heuristics: {signals: [quality]}
  - select: {rules: [gopher_repetition]}
"""
    with pytest.raises(RecipeError, match=re.escape("`heuristics: {signals: [repetition]}` adds it")):
        run(recipe.parse(text, root=str(tmp_path)), str(tmp_path / "run"))


def test_a_language_column_holds_words() -> None:
    table = pa.table({"text": pa.array(["a"], pa.large_string()), "language": pa.array([[1]])})
    for stage in (Heuristics(language="language"), Code(), Heuristics(language="language", words="language")):
        shard = table.append_column("id", pa.array([b"0" * 16], pa.binary(16)))
        with pytest.raises(RecipeError, match=r"a column of words, such as en; found one of list<"):
            stage.apply(shard.select(list(stage.reads)), Verdict())


def test_code_does_not_take_a_natural_language_for_a_programming_language(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    (tmp_path / "model.bin").write_bytes(write_model({"the": "en", "der": "de"}))
    text = """
ingest: {files: raw/*, source: web}
stages:
  - language: {model: model.bin}
  - code:
  - select: {rules: [stack_v2]}
"""
    with pytest.raises(RecipeError, match="wants the column that names the programming language"):
        run(recipe.parse(text, root=str(tmp_path)), str(tmp_path / "run"))
    with pytest.raises(RecipeError, match="is the column that names the programming language"):
        run(
            recipe.parse(text.replace("  - language: {model: model.bin}\n", ""), root=str(tmp_path)),
            str(tmp_path / "run"),
        )
