"""How alike two documents are, measured on what was sent of them: their sets of shingles, or their signatures.

What a shard sends of a text is a body: its set packed (`kernels/sets.py`), or its signature as it is. Bodies stay on
disk. Those that others are compared with are unpacked into a block of bounded size, all others stream past it one
table at a time, and so on with the next block: a group may be as large as it likes, its bodies are read twice a block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import store
from curate.arrow import Column, utf8
from curate.errors import RecipeError
from curate.index import Index
from curate.kernels.pack import copy_ranges
from curate.kernels.sets import agreeing, counts, packed, shared, unpack
from curate.sketch import Sketch
from curate.stage import Evidence

BLOCK_BYTES = 256 << 20
"""Bytes of unpacked bodies that are compared with at a time; a single larger one is a block of its own."""
ENTRY_BYTES = 4096
"""What an entry of an index counts for when it is decided how many are read at a time."""
DECIMALS = 6
"""A threshold has at most so many: comparing with it is exact, and no product of numbers goes beyond 64 bits."""


@dataclass(frozen=True)
class Measure:
    """Which likeness is measured, and from which share on a pair counts.

    `jaccard`: numbers that two sets share, of those in either. `containment`: of those in the one that would go.
    `agreement`: of the values of a signature, those that are equal, an estimate of Jaccard. A set without numbers is
    like nothing (0). The least share is the decimal fraction as it is written, 0.7 is 7/10: a pair exactly at it
    counts.
    """

    kind: Literal["jaccard", "containment", "agreement"]
    least: float

    def __post_init__(self) -> None:
        share = Fraction(str(self.least)) if 0 <= self.least <= 1 else Fraction(-1)
        if share < 0 or 10**DECIMALS % share.denominator:
            raise RecipeError(f"a share from 0 to 1 with at most {DECIMALS} decimals is wanted, found {self.least}")

    def body(self, texts: Column, sketch: Sketch) -> tuple[np.ndarray, np.ndarray]:
        """What is sent of texts: offsets int64[n + 1] and bytes; nothing for a text without shingles."""
        if self.kind != "agreement":
            return packed(*sketch.sets(texts))
        signatures = sketch.signatures(texts)
        told = ~(signatures == 0xFFFFFFFF).all(axis=1)
        offsets = np.zeros(len(told) + 1, np.int64)
        np.cumsum(told * (4 * sketch.hashes), out=offsets[1:])
        return offsets, signatures[told].reshape(-1).view(np.uint8)

    def sizes(self, bodies: Column) -> np.ndarray:
        """How many numbers each body stands for, int64[n]."""
        offsets, data = utf8(bodies)
        if self.kind == "agreement":
            return np.diff(offsets) // 4
        sizes = np.empty(len(bodies), np.int64)
        counts(offsets, data, sizes)
        return sizes

    def read(self, bodies: Column, rows: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
        """Write the numbers of some rows to `out` (uint32), each from its place on."""
        offsets, data = utf8(bodies)
        if self.kind != "agreement":
            unpack(offsets, data, rows, places, out)
            return
        sizes = offsets[rows + 1] - offsets[rows]
        copy_ranges(data, offsets[rows], sizes, places * 4, out.view(np.uint8))

    def needed(self, later: np.ndarray, earlier: np.ndarray, *, least: float | None = None) -> np.ndarray:
        """The fewest numbers that sets of these sizes (int64[p], that of the one that would go first) must share."""
        share = Fraction(str(self.least if least is None else least))
        above, below = share.numerator, share.denominator
        if above == 0:
            return np.zeros(len(later), np.int64)
        if self.kind == "jaccard":  # c / (a + b - c) >= x / y  <=>  c >= x (a + b) / (x + y)
            whole, below = later + earlier, above + below
        else:
            whole = later
        fewest: np.ndarray = np.maximum(-(-above * whole // below), 1)
        return fewest

    def similarity(self, common: np.ndarray, later: np.ndarray, earlier: np.ndarray) -> np.ndarray:
        """The likeness, float64[p], of pairs that share so many numbers."""
        whole = later + earlier - common if self.kind == "jaccard" else later
        likeness: np.ndarray = common / np.maximum(whole, 1)
        return likeness

    def compare(
        self,
        ones: tuple[np.ndarray, np.ndarray],
        others: tuple[np.ndarray, np.ndarray],
        pairs: tuple[np.ndarray, np.ndarray],
        needed: np.ndarray,
    ) -> np.ndarray:
        """Numbers shared, int64[p], -1 where fewer than needed; see `kernels.sets.shared`."""
        out = np.empty(len(needed), np.int64)
        (agreeing if self.kind == "agreement" else shared)(*ones, others, pairs, needed, out)
        return out


@dataclass(frozen=True)
class Bodies:
    """The bodies of a part's nodes, on disk: the one of node v is in row carrier[v] of the part's tables, counted
    through, and has sizes[v] numbers; both int64[nodes]."""

    evidence: Evidence
    part: int
    measure: Measure
    carrier: np.ndarray
    sizes: np.ndarray

    def compare(self, node: np.ndarray, other: np.ndarray, needed: np.ndarray) -> np.ndarray:
        """For pairs of nodes int64[p] the numbers that they share, int64[p], -1 where fewer than needed[p].

        Of a pair the body that more pairs have is the one that is held: of a large group few are held.
        """
        times = np.bincount(np.concatenate([node, other]), minlength=len(self.sizes))
        swap = times[node] > times[other]
        node, other = np.where(swap, other, node), np.where(swap, node, other)
        common = np.full(len(node), -1, np.int64)
        possible = needed <= np.minimum(self.sizes[node], self.sizes[other])
        held = np.unique(other[possible])
        place = np.cumsum(self.sizes[held] * 4)
        block = np.maximum(place - 1, 0) // BLOCK_BYTES
        member = np.zeros(len(self.sizes), np.int64)
        member[held] = np.arange(len(held))
        for number in np.unique(block):
            first, last = np.searchsorted(block, [number, number + 1])
            at = member[other]
            chosen = np.flatnonzero(possible & (at >= first) & (at < last))
            pairs = (node[chosen], at[chosen] - first)
            common[chosen] = self.compare_with(self._load(held[first:last]), pairs, needed[chosen])
        return common

    def compare_with(
        self, held: tuple[np.ndarray, np.ndarray], pairs: tuple[np.ndarray, np.ndarray], needed: np.ndarray
    ) -> np.ndarray:
        """The same for pairs of a node and a row of `held`: first int64[k + 1] and uint32 numbers in memory."""
        node, row = pairs
        common = np.full(len(node), -1, np.int64)
        order = np.argsort(self.carrier[node], kind="stable")
        sorted_carrier = self.carrier[node][order]
        for start, bodies in self._tables():
            inside = order[slice(*np.searchsorted(sorted_carrier, [start, start + len(bodies)]))]
            if len(inside):
                rows, back = np.unique(self.carrier[node[inside]] - start, return_inverse=True)
                sizes = np.empty(len(rows), np.int64)
                sizes[back] = self.sizes[node[inside]]
                ones = self._read(bodies, rows, sizes)
                common[inside] = self.measure.compare(ones, held, (back, row[inside]), needed[inside])
        return common

    def _load(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bodies of nodes (ascending) in memory."""
        first = np.zeros(len(nodes) + 1, np.int64)
        np.cumsum(self.sizes[nodes], out=first[1:])
        values = np.empty(first[-1], np.uint32)
        order = np.argsort(self.carrier[nodes], kind="stable")
        carrier = self.carrier[nodes][order]
        for start, bodies in self._tables():
            left, right = np.searchsorted(carrier, [start, start + len(bodies)])
            if left < right:
                self.measure.read(bodies, carrier[left:right] - start, first[order[left:right]], values)
        return first, values

    def _read(self, bodies: Column, rows: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(sizes, out=first[1:])
        values = np.empty(first[-1], np.uint32)
        self.measure.read(bodies, rows, first[:-1], values)
        return first, values

    def _tables(self) -> Iterator[tuple[int, Column]]:
        start = 0
        for table in self.evidence.tables(self.part):
            yield start, table["body"]
            start += table.num_rows


@dataclass(frozen=True)
class Known:
    """Entries of indexes: those that are known before any row of the corpus.

    An entry is called by a number: its place in `names` (uint64, ascending and distinct) with the number of the index
    that has it above. The first of the indexes that has a name is the one that counts.
    """

    indexes: tuple[Index, ...]
    names: np.ndarray
    measure: Measure

    def compare(
        self, bodies: Bodies, node: np.ndarray, name: np.ndarray, *, least: float | None = None
    ) -> tuple[np.ndarray, np.ndarray, pa.Array]:
        """For pairs of a node and a name (its place): likeness float64[p], -1 where below `least` (the measure's own
        if None) or where no index has the name; the index's number int64[p]; the origin, behind the index's name and a
        colon."""
        likeness = np.full(len(node), -1.0)
        index = np.full(len(node), len(self.indexes), np.int64)
        where = np.full(len(node), -1, np.int64)
        origins, held = [pa.array([], pa.string())], 0
        for number, names, found, rows, some in self._blocks(np.unique(name)):
            at = np.full(len(self.names), -1, np.int64)
            at[names[found]] = np.flatnonzero(found)
            chosen = np.flatnonzero(at[name] >= 0)
            row, nodes = at[name[chosen]], node[chosen]
            sizes = bodies.sizes[nodes], np.diff(rows[0])[row]
            common = bodies.compare_with(rows, (nodes, row), self.measure.needed(*sizes, least=least))
            alike = common >= 0
            likeness[chosen[alike]] = self.measure.similarity(common, *sizes)[alike]
            index[chosen], where[chosen] = number, held + row
            name_of = store.basename(self.indexes[number].uri.rstrip("/"))
            origins.append(pc.binary_join_element_wise(name_of, some, ":"))  # null where there is none
            held += len(some)
        return likeness, index, pa.concat_arrays(origins).take(pa.array(where, mask=where < 0))

    def _blocks(
        self, wanted: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray], pa.Array]]:
        """Index by index: its number, the places of some names, which of them it has, their bodies and origins."""
        step = max(1, BLOCK_BYTES // ENTRY_BYTES)
        for number, index in enumerate(self.indexes):
            left = []
            for start in range(0, len(wanted), step):
                names = wanted[start : start + step]
                entries = index.entries(self.names[names])
                left.append(names[~entries.found])
                rows = entries.first, entries.sets
                if entries.signatures is not None:
                    hashes = entries.signatures.shape[1]
                    rows = np.arange(len(names) + 1) * hashes, entries.signatures.reshape(-1)
                yield number, names, entries.found, rows, entries.origins
            wanted = np.concatenate(left) if left else wanted


def refuse_other_indexes(indexes: tuple[Index, ...], verify: str) -> None:
    """RecipeError for an index that holds signatures where sets are wanted, or the other way round."""
    for index in indexes:
        if index.verify != verify:
            raise RecipeError(
                f"the index {index.uri} was made with `verify: {index.verify}`, this step compares with "
                f"`verify: {verify}`: give it `verify: {index.verify}`"
            )
