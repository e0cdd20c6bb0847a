"""What two steps, `near` and `confirm`, should have said of rows, worked out slowly, beside what they said.

Similarities are those of sets of words in a row, in plain Python and without a hash, of the pairs that matter: a
document and its copy, a row that went and the one that stayed, rows that share a band.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate import edits
from curate.arrow import halves, lists, one
from curate.draw import again
from curate.edits import Injected
from curate.recipe import Node
from curate.scopes import scoped
from curate.sketch import Sketch
from curate.stages.confirm import Confirm
from curate.stages.near import Near

PAIRS, HELD = 200_000, 2_000_000
"""Pairs that share a band of which all is known, and those held while they are drawn."""
BUCKET = 64
"""Rows of a bucket of which all pairs are looked at."""

Int64s = NDArray[np.int64]
Told = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """The two steps of a recipe that are measured, without what holds only for the whole corpus."""

    near: Node
    confirm: Node

    @property
    def sketch(self) -> Sketch:
        """How texts are sketched."""
        assert isinstance(self.near.stage, Near)
        return self.near.stage.sketch

    @property
    def threshold(self) -> float:
        """The similarity from which on a row goes."""
        assert isinstance(self.confirm.stage, Confirm)
        jaccard, containment = self.confirm.stage.jaccard, self.confirm.stage.containment
        return float(jaccard if jaccard is not None else containment or 0.0)

    @property
    def measure(self) -> str:
        """jaccard, or containment of the row that goes in the one that stays."""
        assert isinstance(self.confirm.stage, Confirm)
        return "jaccard" if self.confirm.stage.jaccard is not None else "containment"


class Measured:
    """Exact similarities beside what the steps said."""

    def __init__(self, asked: Asked, injected: Injected):
        self.asked, self.rows, table = asked, injected, injected.table
        self.table = table
        prefix = asked.confirm.prefix
        self.gone = one(table[f"{prefix}near_duplicate"]).to_numpy(zero_copy_only=False)
        self.similarity_told = one(table[f"{prefix}near_similarity"]).to_numpy(zero_copy_only=False)
        origins = {origin: row for row, origin in enumerate(table["origin"].to_pylist())}
        of = table[f"{prefix}near_duplicate_of"].to_pylist()
        self.survivor = np.array([-1 if origin is None else origins[origin] for origin in of], np.int64)
        self.standing = _standing(asked, table)
        self.keys, self.sketched = asked.sketch.keys(table["text"])
        near = asked.near.stage
        assert isinstance(near, Near)
        if near.per is not None:
            self.keys = scoped(self.keys, table[near.per])

    def told(self) -> Told:
        """All figures."""
        copies = np.flatnonzero(self.rows.edit >= 0)
        injected = np.stack([self.rows.original[self.rows.family[copies]], copies], axis=1)
        removed = np.flatnonzero(self.gone)
        went = np.stack([removed, self.survivor[removed]], axis=1)
        near, drawn = self.sharing()
        jaccard, similar = self.similarities(np.concatenate([injected, went, near]))
        cuts = np.cumsum([len(injected), len(went)])
        jaccard = jaccard[: len(injected)]
        similar, rightly, close = np.split(similar, cuts)
        above = close >= self.asked.threshold
        stayed = above & ~self.gone[near].any(axis=1)
        similars, lost = int(np.count_nonzero(above)), int(np.count_nonzero(stayed))
        right = int(np.count_nonzero(rightly >= self.asked.threshold))
        off = np.abs(self.similarity_told[removed].astype(np.float64) - rightly)
        by_edit = self.by_edit(injected, jaccard, similar)
        return {
            "edits": by_edit[:-1],
            "total": by_edit[-1],
            "removed": {
                "rows": len(removed),
                "rightly": right,
                "precision": right / len(removed) if len(removed) else None,
                "similarity_off_by": float(off.max()) if len(off) else None,
            },
            "lost": {
                "sharing_a_band": len(near),
                "drawn": drawn,
                "above": similars,
                "both_stayed": lost,
                "share": lost / max(1, similars),
            },
        }

    def by_edit(self, pairs: Int64s, jaccard: np.ndarray, similar: np.ndarray) -> list[Told]:
        """Figures of each edit, then of all."""
        found = self.share_a_band(pairs)
        linked = self.linked(pairs)
        chance = self.asked.sketch.probability(jaccard) * self.sketched[pairs].all(axis=1)
        above = similar >= self.asked.threshold
        gone = above & self.gone[pairs].any(axis=1)
        kind = self.rows.edit[pairs[:, 1]]
        told = []
        for number, name in [*enumerate(edits.EDITS), (-1, "all")]:
            mine = kind == number if number >= 0 else np.ones(len(kind), bool)
            count, wanted = int(mine.sum()), int(above[mine].sum())
            told.append(
                {
                    "edit": name,
                    "pairs": count,
                    "jaccard": float(jaccard[mine].mean()) if count else None,
                    "expected": float(chance[mine].sum()),
                    "found": int(found[mine].sum()),
                    "points": float(100 * (found[mine].sum() - chance[mine].sum()) / count) if count else None,
                    "linked": int(linked[mine].sum()),
                    "above": wanted,
                    "removed": int(gone[mine].sum()),
                    "expected_recall": float(chance[mine & above].mean()) if wanted else None,
                    "recall": float(gone[mine].sum() / wanted) if wanted else None,
                }
            )
        return told

    def share_a_band(self, pairs: Int64s) -> np.ndarray:
        """Per pair: do both have shingles and the key of some band in common?"""
        shared = np.zeros(len(pairs), bool)
        for band in range(self.keys.shape[1]):
            shared |= self.keys[pairs[:, 0], band] == self.keys[pairs[:, 1], band]
        return shared & self.sketched[pairs].all(axis=1)

    def linked(self, pairs: Int64s) -> np.ndarray:
        """Per pair: is one a leader of the other, or are their texts the same?"""
        names = halves(self.table["id"])[:, 0]
        offsets, leaders = lists(self.table[f"{self.asked.near.prefix}near_leaders"])
        offsets = offsets.tolist()

        def leads(a: int, b: int) -> bool:
            return bool((leaders[offsets[b] : offsets[b + 1]] == names[a]).any())

        return np.array([names[a] == names[b] or leads(a, b) or leads(b, a) for a, b in pairs.tolist()], bool)

    def sharing(self) -> tuple[Int64s, bool]:
        """Pairs of rows that share a band, and whether they are only drawn from all of these."""
        rows = self.table.num_rows
        pairs, drawn, most = np.empty(0, np.int64), False, np.uint64(2**64 - 1)
        place = again(np.arange(rows, dtype=np.uint64), 2)
        for band in range(self.keys.shape[1]):
            bucket = self.keys[:, band]
            order = np.lexsort((place, bucket))
            order = order[self.sketched[order]]
            found, thinned = pairs_of(bucket[order], order)
            drawn |= thinned
            codes = found.min(axis=1) * rows + found.max(axis=1)
            codes = codes[again(codes.astype(np.uint64), 3) <= most]
            pairs = np.unique(np.concatenate([pairs, codes]))
            if len(pairs) > (PAIRS if band == self.keys.shape[1] - 1 else HELD):
                chances = again(pairs.astype(np.uint64), 3)
                most = np.partition(chances, PAIRS - 1)[PAIRS - 1]
                pairs, drawn = pairs[chances <= most], True
        return np.stack([pairs // rows, pairs % rows], axis=1), drawn

    def similarities(self, pairs: Int64s) -> tuple[np.ndarray, np.ndarray]:
        """Exact Jaccard similarity of every pair, and what the threshold is about."""
        sizes = np.zeros((len(pairs), 3), np.int64)  # in both, in the first, in the second
        family = self.rows.family[pairs]

        @lru_cache(maxsize=64)
        def compared(row: int) -> frozenset[Any]:
            return shingles(self.table["text"][row].as_py(), self.asked.sketch)

        for place in np.lexsort((pairs[:, 1], pairs[:, 0], family[:, 1], family[:, 0])).tolist():
            first_set, other = compared(pairs[place, 0]), compared(pairs[place, 1])
            sizes[place] = len(first_set & other), len(first_set), len(other)
        both, first, second = sizes.T
        jaccard = both / np.maximum(first + second - both, 1)
        if self.asked.measure == "jaccard":
            return jaccard, jaccard
        goes = np.where(self.standing[pairs[:, 0]] > self.standing[pairs[:, 1]], first, second)
        return jaccard, both / np.maximum(goes, 1)


def shingles(text: str, sketch: Sketch) -> frozenset[Any]:
    """All runs of `ngram` words of a text, or of characters of its words joined by spaces: the rule of `sketch` without
    a hash."""
    units = edits.words(text)
    if sketch.unit == "words":
        return frozenset(zip(*(units[start:] for start in range(sketch.ngram)), strict=False))
    joined = " ".join(units)
    return frozenset(joined[start : start + sketch.ngram] for start in range(len(joined) - sketch.ngram + 1))


def pairs_of(bucket: np.ndarray, order: np.ndarray) -> tuple[Int64s, bool]:
    """All pairs of rows in runs of equal buckets; of a long run those of its first rows. Was there such a run?"""
    starts = np.flatnonzero(np.concatenate([[True], bucket[1:] != bucket[:-1]])) if len(bucket) else np.empty(0, int)
    first = np.repeat(starts, np.diff([*starts, len(bucket)]))
    rank = np.arange(len(bucket)) - first
    near = rank < BUCKET
    left = [order[np.flatnonzero(near & (rank >= gap)) - gap] for gap in range(1, BUCKET)]
    right = [order[near & (rank >= gap)] for gap in range(1, BUCKET)]
    return np.stack([np.concatenate(left), np.concatenate(right)], axis=1), not near.all()


def _standing(asked: Asked, table: pa.Table) -> Int64s:
    """Place of each row in survivor order: of two, the one that stands behind goes."""
    stage = asked.near.stage
    assert isinstance(stage, Near)
    ids = halves(table["id"])
    ties = [np.argsort(np.argsort(table["origin"].to_numpy(zero_copy_only=False).astype(str), kind="stable"))]
    ties += [ids[:, 1], ids[:, 0]]
    if stage.keep == "earliest":
        ties = [np.arange(table.num_rows)]
    else:
        column = one(table["bytes" if stage.keep == "longest" else stage.by or ""])
        value = column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy()
        ties.append(np.where(np.isnan(value), np.inf, -value))
    place = np.empty(table.num_rows, np.int64)
    place[np.lexsort(ties)] = np.arange(table.num_rows)
    return place
