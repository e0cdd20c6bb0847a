"""Lines or paragraphs that are frequent over the whole corpus are taken out of the texts: menus, notices, footers.

A scan says the distinct passages of a shard with their counts, some 18 bytes each; a part adds them up over all
shards; each shard learns which of its passages go. So memory is bounded by the part and the shard. Passages are known
by 128 bits of a hash, and equality of 128 bits counts as proof (`kernels.passages` has the odds).

The catch: what is frequent is not yet worthless. Penedo et al. (2024, arXiv 2406.17557) took all later copies of every
line out of FineWeb, and models trained on what was left were worse than without. Hence a threshold and a least length.
Copies of a whole document empty each other: let `exact` and `near` go first, and rules on `words` or `bytes` behind.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate import expressions
from curate.arrow import one, utf8
from curate.errors import RecipeError
from curate.rewriting import Bytes, Int64s, Pieces, frozen, removed, renewed
from curate.scopes import scopes
from curate.stage import Stage, Verdict

Bools = NDArray[np.bool_]
UInt64s = NDArray[np.uint64]


@dataclass(frozen=True)
class RepeatedLines(Stage):
    """Adds the text that is left (`text`), XXH3-128 of it (`text_id`), its size (`bytes`), and what went.

    removed: spans `start` to `end`, in bytes of the text as it came, `repeated_lines` as `reason`; without them the
    text is the new one. repeated_lines: how many lines (paragraphs) went. repeated_ratio: characters that went /
    characters of the text as it came; nothing of nothing is 0.

    of: `line`, as `text.split("\\n")` has them; or `paragraph`, lines up to the next one of nothing but white space.
    A passage goes with what parts it from the next one, the last with what parts it from the one before.
    at_least: it goes where the corpus holds it so often. count: `occurrences`, or `documents` that have it. keep: the
    `first` one of the corpus stays, or `none`. min_length: a shorter one (characters, as normalised) always stays.
    normalize: what is compared, white space at the ends left out: `exact`, the passage; `lower`, in lower case;
    `ccnet`, as cc_net's code has it; `folded`, as the paper on it says (`kernels.folds.fold`). per: a column of words
    or whole numbers; only documents with an equal value are counted together, and null is a value. among: documents
    for which this expression does not hold are neither counted nor changed.

    The defaults are those of ROOTS (Laurençon et al. 2022, arXiv 2303.03915; `dedup_template_soft` of its code: 10
    occurrences, 15 characters), but that the first one stays, as in C4 (Raffel et al. 2020, arXiv 1910.10683).
    """

    kind: ClassVar[str] = "repeated_lines"
    version: ClassVar[int] = 1
    rewrites: ClassVar[tuple[str, ...]] = ("text", "text_id", "bytes")
    of: Literal["line", "paragraph"] = "line"
    at_least: int = 10
    count: Literal["occurrences", "documents"] = "occurrences"
    keep: Literal["first", "none"] = "first"
    min_length: int = 15
    normalize: Literal["exact", "lower", "ccnet", "folded"] = "exact"
    per: str | None = None
    among: str | None = None

    def __post_init__(self) -> None:
        if self.at_least < 2:
            raise RecipeError(f"`at_least` is {self.at_least}: every passage is there once; give 2 or more")
        if max(self.at_least, self.min_length) >= 1 << 63:
            raise RecipeError("`at_least` and `min_length` are whole numbers below 2^63")
        if self.min_length < 0:
            raise RecipeError(f"`min_length` is {self.min_length}: a length in characters is 0 or more")
        if self.per in ("", "text"):
            raise RecipeError(f"`per` is {self.per!r}: give a column of words or whole numbers")
        if self.among is not None:
            expressions.parse(self.among)

    @property
    def reads(self) -> tuple[str, ...]:
        extra = expressions.columns(self.among) if self.among else ()
        return tuple(dict.fromkeys(("text", *((self.per,) if self.per else ()), *extra)))

    @property
    def adds(self) -> tuple[str, ...]:
        return ("text", "text_id", "bytes", "removed", "repeated_lines", "repeated_ratio")

    @property
    def records(self) -> int:
        return 40 if self.of == "line" else 16  # measured: 34 to 51 lines of 15 characters or more, 9 to 29 paragraphs

    def scan(self, shard: pa.Table) -> pa.Table:
        from curate.kernels.passages import places, tally

        first, _, keys, counted = self._passages(shard, *frozen(*utf8(shard["text"])))
        seen = np.empty((len(keys), 4), np.int64)
        seen = seen[: tally(first, keys, counted, places(np.count_nonzero(counted)), seen)]
        passage, row, occurrences, documents = seen.T
        return pa.table(
            {
                "key": keys[passage, 0],
                "low": keys[passage, 1],
                "row": row.astype(np.uint32),
                "count": (occurrences if self.count == "occurrences" else documents).astype(np.uint32),
            }
        )

    def decide(self, part: int, seen: pa.Table) -> pa.Table:
        """The frequent passages of every shard that has them, and whether the first one there is the one that stays."""
        from curate.kernels.copies import first_copies, places

        first = np.empty(seen.num_rows, np.int64)
        first_copies(seen["key"].to_numpy(), seen["low"].to_numpy(), places(seen.num_rows), first)
        total = np.zeros(seen.num_rows, np.int64)
        np.add.at(total, first, seen["count"].to_numpy().astype(np.int64))
        frequent = np.flatnonzero(total[first] >= self.at_least)
        stays = (first[frequent] == frequent) & (self.keep == "first")  # rows come in order of shard and row
        chosen = seen.select(["shard", "row", "key", "low"]).take(pa.array(frequent))
        return chosen.append_column("stays", pa.array(stays))

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        from curate.kernels.passages import row_characters
        from curate.kernels.pieces import rebuild
        from curate.kernels.spans import gaps

        offsets, data = frozen(*utf8(shard["text"]))
        fewer = np.zeros(shard.num_rows, np.int64)
        taken: list[tuple[str, Int64s, Int64s]] = []
        new, text = offsets, data
        if verdict.lines is not None and verdict.lines.num_rows:
            kept = self._left(shard, offsets, data, verdict.lines, fewer)
            taken.append((self.kind, *gaps(offsets, data, *kept)))
            new, text = frozen(*rebuild(data, *kept))
        sizes = np.empty((2, shard.num_rows), np.int64)
        row_characters(offsets, data, sizes[0])
        row_characters(new, text, sizes[1])
        made = {
            **renewed(new, text),
            "removed": removed(offsets, taken),
            "repeated_lines": fewer.astype(np.int32),
            "repeated_ratio": ((sizes[0] - sizes[1]) / np.maximum(sizes[0], 1)).astype(np.float32),
        }
        return pa.table({name: made[name] for name in self.adds})

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        lines = made["repeated_lines"].to_numpy()
        spans = pc.list_flatten(made["removed"])
        size = pc.sum(pc.subtract(pc.struct_field(spans, "end"), pc.struct_field(spans, "start"))).as_py() or 0
        told = {"rows": int(np.count_nonzero(lines)), f"{self.of}s": int(lines.sum()), "bytes": int(size)}
        return {"repeated": told}

    def _left(self, shard: pa.Table, offsets: Int64s, data: Bytes, lines: pa.Table, fewer: Int64s) -> Pieces:
        """What is kept of the rows; adds up in `fewer` the passages that are not."""
        from curate.kernels.passages import pieces_left, places, repeated

        first, spans, keys, counted = self._passages(shard, offsets, data)
        known = np.ascontiguousarray(np.stack([lines[name].to_numpy() for name in ("key", "low")], axis=1))
        stays = np.array(one(lines["stays"]).to_numpy(zero_copy_only=False), np.bool_)
        gone = np.empty(len(keys), np.bool_)
        repeated(keys, counted, known, stays, places(len(known)), gone)
        before = np.concatenate([[0], np.cumsum(gone)])
        fewer += before[first[1:]] - before[first[:-1]]
        piece_first = np.empty(len(offsets), np.int64)
        pieces = pieces_left(offsets, first, spans, gone, piece_first)
        return Pieces(piece_first, pieces, np.zeros(len(pieces), np.uint8))

    def _passages(self, shard: pa.Table, offsets: Int64s, data: Bytes) -> tuple[Int64s, Int64s, UInt64s, Bools]:
        """The passages of each row, their keys, and which of them count (`kernels.passages`)."""
        from curate.kernels.folds import fold
        from curate.kernels.passages import enter_scopes, exact_keys, folded_keys, line_spans, paragraph_spans
        from curate.kernels.text import code_point_classes

        first = np.empty(len(offsets), np.int64)
        spans = line_spans(offsets, data, first)
        if self.of == "paragraph":
            line_first, first = first, np.empty(len(offsets), np.int64)
            spans = paragraph_spans(data, code_point_classes(), line_first, spans, first)
        keys, counted = np.empty((len(spans), 2), np.uint64), np.empty(len(spans), np.bool_)
        if self.normalize == "exact":
            exact_keys(data, code_point_classes(), spans, self.min_length, keys, counted)
        else:
            folded_keys(data, fold(self.normalize), spans, self.min_length, keys, counted)
        if self.per is not None:
            enter_scopes(first, scopes(shard[self.per]), keys)
        if self.among is not None:
            counted &= np.repeat(expressions.evaluate(self.among, shard)[0], np.diff(first))
        return first, spans, keys, counted
