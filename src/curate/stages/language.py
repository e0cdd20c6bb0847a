"""The language of every document, by a fastText classifier such as `lid.176` (176 languages, 0.94 MB).

Scores and labels equal the library's. Short texts, lists and code are what it is least sure of: rules should ask for
a score as well. The catch of whole documents: a page that is half English and half Hindi gets one of them; with
`paragraphs` its mix is told.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate.arrow import utf8
from curate.assets import find
from curate.errors import RecipeError
from curate.identify import identified, model
from curate.stage import Stage, Verdict

LINE_BREAK = 10


@dataclass(frozen=True)
class Language(Stage):
    """Adds `language`, the likeliest label without `__label__`, and `language_score`, its share, 0 to 1.

    Both are null where a text has no word: a rule that asks is then unknown. `model`: a known name, a fastText
    classifier (`.bin`, `.ftz`), or `package:NAME/path`. `max_bytes`: look at so many bytes from the start only,
    whole characters. `paragraphs`: adds `languages`, what each language has of the text: its share of the bytes of
    all lines that have a word, every line judged alone; largest first, then by name; empty for a text without a word.
    """

    kind: ClassVar[str] = "language"
    asset_fields: ClassVar[tuple[str, ...]] = ("model",)
    model: str = "lid.176"
    max_bytes: int | None = None
    paragraphs: bool = False

    def __post_init__(self) -> None:
        if self.max_bytes is not None and self.max_bytes < 1:
            raise RecipeError(f"`max_bytes` is a number of bytes above 0, or null for all, found {self.max_bytes}")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("text",)

    @property
    def adds(self) -> tuple[str, ...]:
        return ("language", "language_score", *(("languages",) if self.paragraphs else ()))

    def bind(self, lineage: dict[str, dict[str, Any]]) -> "Language":
        """Itself, once the model has been loaded: one that cannot be is an AssetError before any work."""
        model(find(self.model))
        return self

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        labels, tables = model(find(self.model))
        offsets, data = utf8(shard["text"])
        starts, ends = offsets[:-1], self._ends(offsets, data)
        best, scores = identified(starts, ends, data, tables)
        unknown = best < 0
        names = pa.DictionaryArray.from_arrays(pa.array(best, mask=unknown), pa.array(labels, pa.string()))
        made = {"language": names, "language_score": pa.array(np.clip(scores, 0, 1), mask=unknown)}
        if self.paragraphs:
            made["languages"] = _mixes(starts, ends, data, tables, labels)
        return pa.table(made)

    def _ends(self, offsets: np.ndarray, data: np.ndarray) -> np.ndarray:
        """Where each text ends, or what is looked at of it."""
        ends = offsets[1:]
        if self.max_bytes is None:
            return ends
        ends = np.minimum(ends, offsets[:-1] + self.max_bytes)
        for _ in range(3):  # a character has at most three bytes behind its first
            inside = np.flatnonzero(ends < offsets[1:])
            ends[inside] -= data[ends[inside]] & 0xC0 == 0x80
        cut: np.ndarray = np.maximum(ends, offsets[:-1])
        return cut

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        found = made["language"].value_counts().to_pylist()
        return {"languages": {one["values"] or "none": one["counts"] for one in found}}


def _mixes(
    starts: np.ndarray, ends: np.ndarray, data: np.ndarray, tables: Any, labels: tuple[str, ...]
) -> pa.ListArray:
    """Per text the share of every language, in bytes of its lines."""
    low, high = (int(starts[0]), int(ends[-1])) if len(starts) else (0, 0)
    breaks = np.flatnonzero(data[low:high] == LINE_BREAK) + low + 1
    owner = np.searchsorted(ends, breaks, side="left")  # the first text that ends there or behind
    inside = (breaks > starts[owner]) & (breaks < ends[owner])
    first = np.concatenate([starts, breaks[inside]])
    rows = np.concatenate([np.arange(len(starts)), owner[inside]])
    order = np.lexsort((first, rows))
    first, rows = first[order], rows[order]
    last = ends[rows]
    follows = np.flatnonzero(rows[:-1] == rows[1:])
    last[follows] = first[follows + 1]
    best, _ = identified(first, last, data, tables)
    return _shares(rows[best >= 0], best[best >= 0], (last - first)[best >= 0], labels, len(starts))


def _shares(rows: np.ndarray, best: np.ndarray, sizes: np.ndarray, labels: tuple[str, ...], texts: int) -> pa.ListArray:
    """Lists of (language, share) from lines with their text's row, label and size."""
    cells, which = np.unique(rows * len(labels) + best, return_inverse=True)
    size = np.bincount(which, sizes, minlength=len(cells)).astype(np.int64)
    row, label = cells // len(labels), cells % len(labels)
    rank = np.empty(len(labels), np.int64)
    rank[np.argsort(np.array(labels))] = np.arange(len(labels))
    order = np.lexsort((rank[label], -size, row))
    row, label, size = row[order], label[order], size[order]
    whole = np.bincount(row, size, minlength=texts)
    offsets = np.zeros(texts + 1, np.int32)
    np.cumsum(np.bincount(row, minlength=texts), out=offsets[1:])
    names = pa.array(labels, pa.string()).take(pa.array(label))
    share = pa.array((size / whole[row]).astype(np.float32))
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.StructArray.from_arrays([names, share], ["language", "share"])
    )
