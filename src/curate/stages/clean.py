"""Clean texts line by line: published steps and patterns of your own. Rewrites the text and tells what went.

`patterns` come first, one after another: a line (`text.split("\\n")`) in which one is found goes. Then the `steps` in
the order given: `c4` (Raffel et al. 2020, arXiv 1910.10683; as DataTrove's C4QualityFilter) and `refinedweb` (Penedo
et al. 2023, arXiv 2306.01116; as DataComp-LM, see `kernels.refinedweb`). Whole pages are judged by rules behind it:
the bundles `c4` and `refinedweb_lines`.

The catch: a step sees what the step before it left, but `removed` speaks of the text as it came.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.arrow import utf8
from curate.errors import RecipeError
from curate.rewriting import Bytes, Int64s, Pieces, frozen, removed, renewed, texts
from curate.stage import Stage, Verdict

C4_COLUMNS = ("c4_sentences", "c4_lorem_ipsum_lines", "c4_curly_bracket_lines")


Edit = Callable[[Int64s, Bytes], Pieces]


class Layer(NamedTuple):
    """One rewriting: the text before, what was kept of it, and where the rows lie after it."""

    data: Bytes
    kept: Pieces
    made: Int64s


@dataclass(frozen=True)
class Clean(Stage):
    """Adds the text that is left (`text`), XXH3-128 of it (`text_id`), its size (`bytes`), and what went.

    removed: spans `start` to `end`, in bytes of the text as it came, with the step or pattern that took them as
    `reason`; in order. Without these spans the text is the new one, but for line feeds that stand for other breaks.
    removed_lines: lines with more in them than white space, by `str.splitlines`. removed_words, removed_word_ratio:
    words that begin with a letter or a number, as DataComp-LM counts them for its rule of 5 %; nothing of nothing is 0.
    With `c4` also c4_sentences, of the lines that it keeps, and c4_lorem_ipsum_lines and c4_curly_bracket_lines, which
    it takes out and for which the bundle `c4` drops the page.

    steps: in order. patterns: name to regular expression (RE2). The others are C4's, and its own values the defaults:
    min_words_per_line, max_word_length (characters; -1 for no limit), and whether lines need terminal punctuation,
    citations are cut, and lines go for "javascript" and for policy notes.
    """

    kind: ClassVar[str] = "clean"
    version: ClassVar[int] = 1
    rewrites: ClassVar[tuple[str, ...]] = ("text", "text_id", "bytes")
    steps: tuple[Literal["c4", "refinedweb"], ...] = ()
    patterns: dict[str, str] = field(default_factory=dict)
    min_words_per_line: int = 3
    max_word_length: int = 1000
    terminal_punctuation: bool = True
    citations: bool = True
    javascript: bool = True
    policy: bool = True

    def __post_init__(self) -> None:
        if not self.steps and not self.patterns:
            raise RecipeError("nothing to clean: give `steps: [c4]`, `steps: [refinedweb]` or `patterns:`")
        if len(set(self.steps)) < len(self.steps):
            raise RecipeError(f"each of `steps` comes once, found {', '.join(self.steps)}")
        for name, pattern in self.patterns.items():
            if not name.replace("_", "").isalnum() or name in ("c4", "refinedweb"):
                raise RecipeError(f"a pattern's name has letters, digits and _ and is no step's, found {name!r}")
            try:
                pc.match_substring_regex(pa.array([""]), pattern)
            except pa.ArrowInvalid as error:
                raise RecipeError(f"`patterns`: '{name}' is no regular expression (RE2): {error}") from error

    @property
    def reads(self) -> tuple[str, ...]:
        return ("text",)

    @property
    def adds(self) -> tuple[str, ...]:
        own = ("text", "text_id", "bytes", "removed", "removed_lines", "removed_words", "removed_word_ratio")
        return (*own, *(C4_COLUMNS if "c4" in self.steps else ()))

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        from curate.kernels.pieces import rebuild
        from curate.kernels.refinedweb import characters, words_and_lines
        from curate.kernels.spans import gaps, through

        offsets, data = source, original = frozen(*utf8(shard["text"]))
        columns: dict[str, np.ndarray] = {}
        layers: list[Layer] = []
        taken: list[tuple[str, Int64s, Int64s]] = []
        for reason, edit in self._edits(columns):
            kept = edit(offsets, data)
            first, spans = gaps(offsets, data, *kept)
            if len(spans) == 0:
                continue
            for layer in reversed(layers):
                first, spans = through(first, spans, layer.made, layer.data, *layer.kept)
            taken.append((reason, first, spans))
            before = data
            offsets, data = frozen(*rebuild(data, *kept))
            layers.append(Layer(before, kept, offsets))
        counted = np.empty((2, shard.num_rows, 2), np.int64)
        words_and_lines(source, original, characters(), counted[0])
        words_and_lines(offsets, data, characters(), counted[1])
        (words, _), (fewer, lines) = counted[0].T, (counted[0] - counted[1]).T
        columns |= {
            "removed_lines": lines.astype(np.int32),
            "removed_words": fewer.astype(np.int32),
            "removed_word_ratio": (fewer / np.maximum(words, 1)).astype(np.float32),
        }
        made = {**renewed(offsets, data), "removed": removed(source, taken), **columns}
        return pa.table({name: made[name] for name in self.adds})

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        changed = pc.list_value_length(made["removed"]).to_numpy() > 0
        spans = pc.list_flatten(made["removed"])
        tally = pc.value_counts(pc.struct_field(spans, "reason")).to_pylist()
        lines, words = (int(pc.sum(made[name]).as_py() or 0) for name in ("removed_lines", "removed_words"))
        return {
            "cleaned": {"rows": int(np.count_nonzero(changed)), "lines": lines, "words": words},
            "spans": dict(sorted((str(item["values"]), int(item["counts"])) for item in tally)),
        }

    def _edits(self, columns: dict[str, np.ndarray]) -> Iterator[tuple[str, Edit]]:
        """The rewritings in order, each with its name; that of C4 leaves its columns in `columns`."""
        for name, pattern in self.patterns.items():
            yield name, partial(_without, pattern)
        for step in self.steps:
            yield step, partial(self._c4, columns) if step == "c4" else _refinedweb

    def _c4(self, columns: dict[str, np.ndarray], offsets: Int64s, data: Bytes) -> Pieces:
        from curate.kernels.c4 import C4, LIMITS, c4_pieces
        from curate.kernels.text import code_point_classes

        wanted = {
            "min_words_per_line": self.min_words_per_line,
            "max_word_length": self.max_word_length,
            "require_terminal": self.terminal_punctuation,
            "remove_citations": self.citations,
            "drop_javascript": self.javascript,
            "drop_policy": self.policy,
        }
        limits = np.array([wanted.get(name, True) for name in LIMITS], np.int64)
        counts, first = np.empty((len(offsets) - 1, len(C4)), np.int64), np.empty(len(offsets), np.int64)
        kept = Pieces(first, *c4_pieces(offsets, data, code_point_classes(), limits, counts, first))
        seen = dict(zip(C4, counts.T.astype(np.int32), strict=True))
        columns |= dict(zip(C4_COLUMNS, (seen["sentences"], seen["lorem"], seen["curly"]), strict=True))
        return kept


def _refinedweb(offsets: Int64s, data: Bytes) -> Pieces:
    from curate.kernels.refinedweb import REFINEDWEB, characters, refinedweb

    counts, first = np.empty((len(offsets) - 1, len(REFINEDWEB)), np.int64), np.empty(len(offsets), np.int64)
    return Pieces(first, *refinedweb(offsets, data, characters(), counts, first))


def _without(pattern: str, offsets: Int64s, data: Bytes) -> Pieces:
    """The rows without the lines in which a pattern is found."""
    from curate.kernels.spans import other_lines, split_lines

    line_first, borders = split_lines(offsets, data)
    # Lines and what lies between them, by turns: so the search needs no copy of the text.
    found = pc.match_substring_regex(texts(borders, data), pattern).to_numpy(zero_copy_only=False)[::2]
    first = np.empty(len(offsets), np.int64)
    spans = other_lines(line_first, borders, np.ascontiguousarray(found), first)
    newline = np.ones(len(spans), np.uint8)
    newline[first[1:][np.diff(first) > 0] - 1] = 0
    return Pieces(first, spans, newline)
