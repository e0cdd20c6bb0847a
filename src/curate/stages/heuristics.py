"""Cheap counts and shares that quality rules are made of. Counts only: thresholds belong to `select`.

One pass of one kernel gives what the quality rules of Gopher ask for (Rae et al. 2021, arXiv 2112.11446,
appendix A.1); the rules themselves are the bundle `gopher_quality`. The catch: words are what spaces part, as
the paper has it, while DataTrove's tokenizer also counts punctuation marks; texts near a threshold may be
judged differently.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curate.arrow import utf8
from curate.stage import Stage, Verdict


@dataclass(frozen=True)
class Heuristics(Stage):
    """Add eleven numbers per text. An empty text has 0 in all of them; no value is null or NaN.

    characters: code points. words: parted by whitespace. lines: as by `str.splitlines`. symbol_free_words:
    words with a character that is no punctuation (`string.punctuation`, Unicode categories P*);
    mean_word_length: their mean length in code points. hash_ratio, ellipsis_ratio: "#" per word, and "..."
    and U+2026 per word. bullet_line_ratio: share of lines that begin with U+2022 or "-"; ellipsis_line_ratio:
    that end with "..." or U+2026, spaces aside. alphabetic_word_ratio: share of words with a letter.
    stop_words: how many different ones of the, be, to, of, and, that, have, with occur as words,
    case-sensitive.
    """

    kind: ClassVar[str] = "heuristics"
    version: ClassVar[int] = 1

    @property
    def reads(self) -> tuple[str, ...]:
        return ("text",)

    @property
    def adds(self) -> tuple[str, ...]:
        return (
            "characters",
            "words",
            "lines",
            "symbol_free_words",
            "mean_word_length",
            "hash_ratio",
            "ellipsis_ratio",
            "bullet_line_ratio",
            "ellipsis_line_ratio",
            "alphabetic_word_ratio",
            "stop_words",
        )

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        from curate.kernels.text import SIGNALS, code_point_classes, signals

        offsets, data = utf8(shard["text"])
        counted = np.empty((shard.num_rows, len(SIGNALS)), np.int64)
        signals(offsets, data, code_point_classes(), counted)
        seen = dict(zip(SIGNALS, counted.T, strict=True))
        columns = {
            "characters": seen["characters"],
            "words": seen["words"].astype(np.int32),
            "lines": seen["lines"].astype(np.int32),
            "symbol_free_words": seen["symbol_free_words"].astype(np.int32),
            "mean_word_length": _ratio(seen["symbol_free_characters"], seen["symbol_free_words"]),
            "hash_ratio": _ratio(seen["hashes"], seen["words"]),
            "ellipsis_ratio": _ratio(seen["ellipses"], seen["words"]),
            "bullet_line_ratio": _ratio(seen["bullet_lines"], seen["lines"]),
            "ellipsis_line_ratio": _ratio(seen["ellipsis_lines"], seen["lines"]),
            "alphabetic_word_ratio": _ratio(seen["alphabetic_words"], seen["words"]),
            "stop_words": seen["stop_words"].astype(np.int8),
        }
        return pa.table({name: columns[name] for name in self.adds})


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole as float32. Nothing of nothing is 0: where `whole` is 0, so is `part`."""
    share: np.ndarray = (part / np.maximum(whole, 1)).astype(np.float32)
    return share
