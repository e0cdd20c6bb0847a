"""The columns that rules are made of, by family, and how they follow from what the kernels count.

A family holds what one published rule set asks for, in that rule set's own reading. DCLM and Dolma read Gopher's rules
in their own ways, so theirs have columns of their own: no threshold can meet the wrong definition. `characters` and
`words` are always there.

The cost, in MB of text per CPU-second on one 2020s core: quality 700, fineweb 500, c4 350, repetition 150; the others
less. Kernels count; here counts become shares, and nothing of nothing is 0.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate import languages
from curate.arrow import stretches, utf8

Family = Literal["quality", "repetition", "c4", "fineweb", "refinedweb", "dclm", "dolma"]
Words = Literal["whitespace", "unicode", "language"]
Counts = dict[str, NDArray[np.int64]]
Columns = dict[str, np.ndarray]

GOPHER_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
_ALWAYS = ("characters", "words")
_FINDS = {
    "whitespace": ("whitespace",),
    "unicode": ("unicode",),
    "language": ("whitespace", "unicode", "chosen"),
}
_BLOCK = 4 << 20
"""Bytes of text whose words are found at a time: their places stay in the cache."""


def _repeats(prefix: str = "") -> tuple[str, ...]:
    """Columns of the repetition rules."""
    lines = ("line", "line_character", "paragraph", "paragraph_character")
    return (
        *(f"{prefix}duplicate_{what}_ratio" for what in lines),
        *(f"{prefix}top_{n}_gram_ratio" for n in range(2, 5)),
        *(f"{prefix}duplicate_{n}_gram_ratio" for n in range(5, 11)),
    )


FAMILIES: dict[str, tuple[str, ...]] = {
    "quality": (
        "lines",
        "symbol_free_words",
        "mean_word_length",
        "hash_ratio",
        "ellipsis_ratio",
        "bullet_line_ratio",
        "ellipsis_line_ratio",
        "alphabetic_word_ratio",
        "stop_words",
    ),
    "repetition": _repeats(),
    "c4": (
        "c4_kept_lines",
        "c4_sentences",
        "c4_lorem_ipsum_lines",
        "c4_curly_bracket_lines",
        "c4_long_word_lines",
        "c4_unterminated_lines",
        "c4_short_lines",
        "c4_javascript_lines",
        "c4_policy_lines",
        "lorem_ipsum",
        "curly_brackets",
    ),
    "fineweb": (
        "text_lines",
        "terminal_line_ratio",
        "short_line_ratio",
        "duplicate_character_ratio",
        "newline_ratio",
        "long_lines",
    ),
    "refinedweb": (
        "uppercase_lines",
        "numeric_lines",
        "counter_lines",
        "one_word_lines",
        "cut_phrases",
        "removed_word_ratio",
    ),
    "dclm": (
        "dclm_words",
        "dclm_mean_word_length",
        "dclm_symbol_ratio",
        "dclm_bullet_line_ratio",
        "dclm_ellipsis_line_ratio",
        "dclm_alphabetic_word_ratio",
        "dclm_stop_words",
        *_repeats("dclm_"),
    ),
    "dolma": (
        "dolma_words",
        "dolma_median_word_length",
        "dolma_symbol_word_ratio",
        "dolma_bullet_line_ratio",
        "dolma_ellipsis_line_ratio",
        "dolma_alphabetic_word_ratio",
        "dolma_stop_words",
        *(name for name in _repeats("dolma_") if "paragraph" not in name),
        "dolma_duplicate_filled_line_ratio",
    ),
}
"""Columns of each family, beside `characters` and `words`."""


def columns(families: Iterable[Family]) -> tuple[str, ...]:
    """Names that these families give, in order."""
    given = set(families)
    return (*_ALWAYS, *(name for family, names in FAMILIES.items() if family in given for name in names))


def families_of(names: Iterable[str]) -> tuple[Family, ...]:
    """The families that give these names; names of no family are passed over."""
    wanted = set(names)
    return tuple(family for family in get_args(Family) if wanted & set(FAMILIES[family]))


def measure(
    texts: "pa.Array | pa.ChunkedArray",
    families: Iterable[Family],
    *,
    words: Words = "whitespace",
    language: "pa.ChunkedArray | None" = None,
) -> Columns:
    """Columns of these families for each text, in the order of `columns`.

    `language`: a code for each text (ISO 639-1); then its stop words are those of that language, none for a language
    that is not known here.
    """
    from curate.kernels.text import SIGNALS, signals

    given = set(families)
    rows = Rows(texts, words, language)
    counts = rows.count(signals, SIGNALS)
    if words != "whitespace":
        from curate.kernels.quality import QUALITY, quality

        counts |= rows.count_words(quality, QUALITY, rows.classes)
        if "quality" in given and language is None:
            counts["stop_words"] = rows.stop_words([GOPHER_STOP_WORDS], np.zeros(len(rows), np.int16))
    if "quality" in given and language is not None:
        counts["stop_words"] = rows.stop_words(*languages.sets(language))
    made: Columns = {"characters": counts["characters"], "words": counts["words"].astype(np.int32)}
    for family in get_args(Family):
        if family in given:
            made |= _MAKERS[family](rows, counts)
    return {name: made[name] for name in columns(given)}


class Rows:
    """The texts of a shard, counted by kernels; what two families ask for is counted once."""

    def __init__(
        self, texts: "pa.Array | pa.ChunkedArray", words: Words, language: "pa.ChunkedArray | None" = None
    ) -> None:
        from curate.kernels.text import code_point_classes

        self.offsets, self.data = utf8(texts)
        self.classes = code_point_classes()
        self.words = words
        self.unicode = np.zeros(0, np.bool_) if language is None else languages.unicode_rows(language)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def count(self, kernel: Callable[..., None], names: tuple[str, ...], *tables: Any) -> Counts:
        """What a kernel counts in texts. `tables`: what it wants beside them; the classes of code points by default."""
        out = np.empty((len(self), len(names)), np.int64)
        kernel(self.offsets, self.data, *(tables or (self.classes,)), out)
        return dict(zip(names, out.T, strict=True))

    def count_words(
        self, kernel: Callable[..., None], names: tuple[str, ...], *tables: Any, words: Words | None = None
    ) -> Counts:
        """What a kernel counts in words."""
        out = np.empty((len(self), len(names)), np.int64)
        for start, stop, first, edges in self.spans(words or self.words):
            kernel(self.offsets[start : stop + 1], self.data, first, edges, *tables, out[start:stop])
        return dict(zip(names, out.T, strict=True))

    def stop_words(self, sets: Sequence[Collection[str]], which: NDArray[np.int16]) -> NDArray[np.int64]:
        """How many different words of its set each text has; `which` is the number of the set, -1 for none."""
        from curate.kernels.quality import stop_word_sets, stop_words

        table, out = stop_word_sets(sets), np.empty(len(self), np.int64)
        for start, stop, first, edges in self.spans(self.words):
            stop_words(
                self.offsets[start : stop + 1], self.data, first, edges, which[start:stop], table, out[start:stop]
            )
        return out

    @cached_property
    def lines(self) -> Counts:
        """Counts of lines that line feeds part."""
        from curate.kernels.lines import LINES, lines

        return self.count(lines, LINES)

    def spans(self, words: Words) -> Iterator[tuple[int, int, NDArray[np.int64], NDArray[np.int32]]]:
        """Blocks of rows: from, to, number of each row's first word, edges of the words."""
        from curate.kernels.boundaries import unicode_words, word_properties
        from curate.kernels.words import choose_words, whitespace_words

        for start, stop in stretches(self.offsets, _BLOCK):
            offsets = self.offsets[start : stop + 1]
            most = int(offsets[-1] - offsets[0]) + stop - start
            found = {
                name: (np.empty(stop - start + 1, np.int64), np.empty(2 * most, np.int32)) for name in _FINDS[words]
            }
            if "whitespace" in found:
                whitespace_words(offsets, self.data, self.classes, *found["whitespace"])
            if "unicode" in found:
                unicode_words(offsets, self.data, word_properties(), *found["unicode"])
            if words == "language":
                choose_words(self.unicode[start:stop], *found["unicode"], *found["whitespace"], *found["chosen"])
            yield start, stop, *found["chosen" if words == "language" else words]


def _quality(rows: Rows, seen: Counts) -> Columns:
    return {
        "lines": seen["lines"].astype(np.int32),
        "symbol_free_words": seen["symbol_free_words"].astype(np.int32),
        "mean_word_length": _ratio(seen["symbol_free_characters"], seen["symbol_free_words"]),
        "hash_ratio": _ratio(seen["hashes"], seen["words"]),
        "ellipsis_ratio": _ratio(seen["ellipses"], seen["words"]),
        "bullet_line_ratio": _ratio(seen["bullet_lines"], seen["lines"]),
        "ellipsis_line_ratio": _ratio(seen["ellipsis_lines"], seen["lines"]),
        "alphabetic_word_ratio": _ratio(seen["alphabetic_words"], seen["words"]),
        "stop_words": seen["stop_words"].astype(np.int16),
    }


def _repetition(rows: Rows, seen: Counts) -> Columns:
    from curate.kernels.ngrams import NGRAMS, ngrams

    lines = rows.lines
    grams, size = rows.count_words(ngrams, NGRAMS), seen["characters"]
    return {
        "duplicate_line_ratio": _ratio(lines["duplicate_segments"], lines["segments"]),
        "duplicate_line_character_ratio": _ratio(lines["duplicate_segment_characters"], size),
        "duplicate_paragraph_ratio": _ratio(lines["duplicate_paragraphs"], lines["paragraphs"]),
        "duplicate_paragraph_character_ratio": _ratio(lines["duplicate_paragraph_characters"], size),
        **{f"top_{n}_gram_ratio": _ratio(grams[f"top_{n}_gram"], size) for n in range(2, 5)},
        **{f"duplicate_{n}_gram_ratio": _ratio(grams[f"duplicate_{n}_gram"], size) for n in range(5, 11)},
    }


def _c4(rows: Rows, seen: Counts) -> Columns:
    from curate.kernels.c4 import C4, C4_LIMITS, c4

    lines = rows.count(c4, C4, rows.classes, np.array(C4_LIMITS, np.int64))
    return c4_columns(lines) | {
        "lorem_ipsum": lines["lorem_ipsums"].astype(np.int32),
        "curly_brackets": lines["curly_brackets"].astype(np.int32),
    }


def c4_columns(lines: Counts) -> Columns:
    """What the C4 kernels count of lines, as columns."""
    named = {
        "c4_kept_lines": "kept",
        "c4_sentences": "sentences",
        "c4_lorem_ipsum_lines": "lorem",
        "c4_curly_bracket_lines": "curly",
        "c4_long_word_lines": "long_word",
        "c4_unterminated_lines": "unterminated",
        "c4_short_lines": "short",
        "c4_javascript_lines": "javascript",
        "c4_policy_lines": "policy",
    }
    return {name: lines[count].astype(np.int32) for name, count in named.items()}


def _fineweb(rows: Rows, seen: Counts) -> Columns:
    lines = rows.lines
    return {
        "text_lines": lines["filled_lines"].astype(np.int32),
        "terminal_line_ratio": _ratio(lines["terminal_lines"], lines["filled_lines"]),
        "short_line_ratio": _ratio(lines["short_lines"], lines["filled_lines"]),
        "duplicate_character_ratio": _ratio(lines["duplicate_line_characters"], lines["line_characters"]),
        "newline_ratio": _ratio(lines["newlines"], seen["words"]),
        "long_lines": lines["long_lines"].astype(np.int32),
    }


def _refinedweb(rows: Rows, seen: Counts) -> Columns:
    from curate.kernels.pieces import rebuild
    from curate.kernels.refinedweb import REFINEDWEB, characters, refinedweb, words_and_lines

    table, counts = characters(), np.empty((len(rows), len(REFINEDWEB)), np.int64)
    first = np.empty(len(rows) + 1, np.int64)
    corrected = rebuild(rows.data, first, *refinedweb(rows.offsets, rows.data, table, counts, first))
    before, after = np.empty((len(rows), 2), np.int64), np.empty((len(rows), 2), np.int64)
    words_and_lines(rows.offsets, rows.data, table, before)
    words_and_lines(*corrected, table, after)
    made: Columns = {name: counts[:, i].astype(np.int32) for i, name in enumerate(REFINEDWEB) if name != "lines"}
    return made | {"removed_word_ratio": _ratio(before[:, 0] - after[:, 0], before[:, 0])}


def _dclm(rows: Rows, seen: Counts) -> Columns:
    from curate.kernels.lines import LINES_DCLM, lines_dclm
    from curate.kernels.ngrams import NGRAMS, ngrams_dclm
    from curate.kernels.quality import DCLM, dclm, reading_classes

    counts = rows.count(dclm, DCLM, reading_classes())
    lines = rows.count(lines_dclm, LINES_DCLM)
    grams = rows.count_words(ngrams_dclm, NGRAMS, words="unicode")
    return {
        "dclm_words": counts["dclm_words"].astype(np.int32),
        "dclm_mean_word_length": _ratio(counts["word_characters"], counts["words"]),
        "dclm_symbol_ratio": _ratio(counts["dclm_symbols"], counts["words"]),
        "dclm_bullet_line_ratio": _ratio(counts["dclm_bullet_lines"], counts["dclm_lines"]),
        "dclm_ellipsis_line_ratio": _ratio(counts["dclm_ellipsis_lines"], counts["dclm_lines"]),
        "dclm_alphabetic_word_ratio": _ratio(counts["alphabetic_words"], counts["words"]),
        "dclm_stop_words": counts["dclm_stop_words"].astype(np.int32),
        "dclm_duplicate_line_ratio": _ratio(lines["repeated_lines"], lines["lines"]),
        "dclm_duplicate_line_character_ratio": _ratio(lines["repeated_line_characters"], lines["line_characters"]),
        "dclm_duplicate_paragraph_ratio": _ratio(lines["repeated_paragraphs"], lines["paragraphs"]),
        "dclm_duplicate_paragraph_character_ratio": _ratio(
            lines["repeated_paragraph_characters"], lines["paragraph_characters"]
        ),
        **_grams("dclm_", grams, [grams["word_characters"]] * 6),
    }


def _dolma(rows: Rows, seen: Counts) -> Columns:
    from curate.kernels.lines import LINES_DOLMA, lines_dolma
    from curate.kernels.ngrams import NGRAMS, ngram_totals, ngrams_dolma
    from curate.kernels.quality import DOLMA, dolma, reading_classes

    counts = rows.count(dolma, DOLMA, reading_classes())
    lines = rows.count(lines_dolma, LINES_DOLMA)
    grams = rows.count_words(ngrams_dolma, NGRAMS, words="whitespace")
    totals = rows.count_words(ngram_totals, tuple(map(str, range(6))), words="whitespace")
    words = counts["dolma_words"]
    return {
        "dolma_words": words.astype(np.int32),
        "dolma_median_word_length": (counts["dolma_median_word_length_twice"] / 2).astype(np.float32),
        "dolma_symbol_word_ratio": _ratio(counts["dolma_symbol_words"], words),
        "dolma_bullet_line_ratio": _ratio(counts["dolma_bullet_lines"], counts["dolma_lines"]),
        "dolma_ellipsis_line_ratio": _ratio(counts["dolma_ellipsis_lines"], counts["dolma_lines"]),
        "dolma_alphabetic_word_ratio": _ratio(counts["dolma_alphabetic_words"], words),
        "dolma_stop_words": counts["dolma_stop_words"].astype(np.int32),
        "dolma_duplicate_line_ratio": _ratio(lines["repeated_lines"], lines["lines"]),
        "dolma_duplicate_line_character_ratio": _ratio(lines["repeated_line_characters"], lines["word_characters"]),
        "dolma_duplicate_filled_line_ratio": _ratio(lines["repeated_nonempty_lines"], lines["nonempty_lines"]),
        **_grams("dolma_", grams, list(totals.values())),
    }


def _grams(prefix: str, counts: Counts, totals: Sequence[np.ndarray]) -> Columns:
    """Shares of n-grams: top ones in the characters of words, duplicate ones of 5 to 10 words in `totals`."""
    top = {f"top_{n}_gram": counts["word_characters"] for n in range(2, 5)}
    wholes = top | {f"duplicate_{n}_gram": total for n, total in zip(range(5, 11), totals, strict=True)}
    return {f"{prefix}{name}_ratio": _ratio(counts[name], whole) for name, whole in wholes.items()}


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole as float32. Nothing of nothing is 0: where `whole` is 0, so is `part`."""
    share: np.ndarray = (part / np.maximum(whole, 1)).astype(np.float32)
    return share


_MAKERS: dict[str, Callable[[Rows, Counts], Columns]] = {
    "quality": _quality,
    "repetition": _repetition,
    "c4": _c4,
    "fineweb": _fineweb,
    "refinedweb": _refinedweb,
    "dclm": _dclm,
    "dolma": _dolma,
}
