"""For each member of a cluster the most similar one before it: in blocks, never all pairs at once.

Members stand in an order that their content decides. Equal vectors are one node, found by a 128-bit hash before any
vector is held, so 300,000 copies of one page cost one node. The vectors of a few clusters are held at a time; a
cluster of n nodes of d numbers takes at most n * d * 8 bytes more, and n^2 / 2 products: of bytes where the processor
has an instruction for them, else, or where those say too little, of matrices.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curate.arrow import fixed, halves, one
from curate.draw import draws
from curate.kernels import proposals
from curate.kernels.copies import first_copies, places
from curate.kernels.hash import xxh3_128
from curate.kernels.nearest import NONE, nearer, nearer_within, squares, widen
from curate.kernels.survivors import number_nodes
from curate.stage import Evidence
from curate.survival import ranks

BLOCK = 256
"""Vectors that are compared with those before them at once: with a small block less is compared twice."""
WIDE = 2048
"""Vectors before them in one product."""
HELD = 1 << 29
"""Bytes of vectors held at once, unless one cluster has more."""
_FEW = 1 << 24
"""Bytes of vectors put in order at once where all are held: memory that is used again costs no new pages."""
SWIFT = proposals.SWIFT
"""Whether bytes are multiplied; what is found is the same."""
_DEAR = 16
"""If of so many products more than one is taken again, products of float64, which cost twice as much, are cheaper."""


@dataclass(frozen=True)
class Order:
    """How the members of a cluster are ordered: `hard`, the farthest from the centroid first, `easy`, the nearest
    first, or `random`, by a hash with `seed`; then by `id` and `origin`."""

    kind: str
    seed: int


def nearest_before(vectors: np.ndarray, *, above: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """For each row of `vectors` (float16 or float32 [n, d]) the largest cosine to a row before it, float64[n], and the
    first row that has it, int64[n]; -2 and -1 where there is none. A row whose cosine, as float32, is larger than
    `above` goes, and those after it are not compared with it.

    Bits depend on the vectors alone, not on blocks, threads or the machine's way to multiply matrices.
    """
    rows = len(vectors)
    vectors = _singles(vectors)
    best, of = np.full(rows, NONE), np.full(rows, -1, np.int64)
    square, stays = np.empty(rows), np.empty(rows, bool)
    squares(vectors, square)
    done = _by_bytes(vectors, square, above, best, of, stays) if SWIFT else 0
    if done < rows:
        _by_matrices(vectors, square, above, best, of, stays, done)
    return best, of


def _singles(vectors: np.ndarray) -> np.ndarray:
    """The same numbers as float32, which NumPy makes one by one."""
    if vectors.dtype != np.float16:
        return np.ascontiguousarray(vectors, np.float32)
    made = np.empty(vectors.shape, np.float32)
    widen(np.ascontiguousarray(vectors).view(np.uint16), made.view(np.uint32))
    return made


def _by_bytes(
    vectors: np.ndarray, square: np.ndarray, above: float, best: np.ndarray, of: np.ndarray, stays: np.ndarray
) -> int:
    """How many of the vectors were done by products of bytes: few where those leave too much open."""
    rows, width = vectors.shape
    if width > proposals.WIDEST:
        return 0
    quads, room = -(-width // 4), rows + proposals.BLOCK
    codes, start = np.empty((room, 4 * quads), np.int8), np.empty(room, np.int32)
    step, loose = np.empty(rows, np.float32), np.empty(rows, np.float32)
    proposals.encode(vectors, vectors.view(np.uint32), square, codes, start, step, loose)
    packed = np.empty((-(-room // 64) * 4, 16 * quads), np.uint32)
    done: int = proposals.nearest_of_bytes(
        vectors, square, codes.view(np.uint32), start, step, loose, packed, above, best, of, stays
    )
    return done


def _by_matrices(
    vectors: np.ndarray,
    square: np.ndarray,
    above: float,
    best: np.ndarray,
    of: np.ndarray,
    stays: np.ndarray,
    done: int,
) -> None:
    """The vectors after the first `done`, of which `stays` says which stay."""
    rows, scale = len(vectors), np.zeros(len(vectors))
    np.divide(1.0, np.sqrt(square), out=scale, where=square > 0)
    # Those that stay so far, side by side, and which they are.
    standing, names = np.empty(vectors.shape, np.float32), np.empty(rows, np.int64)
    before = np.flatnonzero(stays[:done])
    count = len(before)
    standing[:count], names[:count] = vectors[before], before
    # Squares of very long and very short vectors are beyond float32.
    kind: type[np.floating] = np.float64 if ((square > 1e30) | (square < 1e-30) & (square > 0)).any() else np.float32
    for start in range(done, rows, BLOCK):
        here = slice(start, min(start + BLOCK, rows))
        block = vectors[here]
        wide = block.astype(kind, copy=False)
        for first in range(0, count, WIDE):
            some = slice(first, min(first + WIDE, count))
            named, others = names[some], standing[some]
            products = wide @ others.astype(kind, copy=False).T
            scales = scale[named].astype(kind)
            again = nearer(products, block, others, square[here], square[named], scales, named, best[here], of[here])
            kind, wide = _dear(kind, wide, again, products.size)
        here_names = np.arange(here.start, here.stop)
        scales = scale[here].astype(kind)
        again = nearer_within(
            wide @ wide.T, block, square[here], scales, here_names, above, best[here], of[here], stays[here]
        )
        kind, wide = _dear(kind, wide, again, wide.shape[0] ** 2)
        new = count + int(np.count_nonzero(stays[here]))
        standing[count:new], names[count:new], count = block[stays[here]], here_names[stays[here]], new


def _dear(kind: type[np.floating], wide: np.ndarray, again: int, products: int) -> tuple[type[np.floating], np.ndarray]:
    """In what the products after these are made, and the block in it."""
    if again * _DEAR > products:
        return np.float64, wide.astype(np.float64, copy=False)
    return kind, wide


@dataclass(frozen=True)
class Members:
    """The rows of one part without their vectors. `seen`: their records, `node` int64[rows]: the number of each row's
    vector, cluster by cluster and in order; `best` int64[nodes]: the first row of each; `first` int64[clusters + 1]:
    the nodes of each cluster."""

    seen: pa.Table
    node: np.ndarray
    best: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, seen: pa.Table, digest: np.ndarray, order: Order) -> "Members":
        """`digest` uint64[rows, 2]: the hash of each row's vector."""
        by = _ordered(seen, order)
        first = np.empty(seen.num_rows, np.int64)
        high = seen["key"].to_numpy() ^ digest[:, 0]
        first_copies(high, np.ascontiguousarray(digest[:, 1]), places(seen.num_rows), first)
        node, best = np.full(seen.num_rows, -1, np.int64), np.empty(seen.num_rows, np.int64)
        best = best[: number_nodes(by, first, node, best)]
        cluster = seen["cluster"].to_numpy()[best]
        borders = np.flatnonzero(cluster[1:] != cluster[:-1]) + 1
        return cls(seen, node, best, np.concatenate(([0], borders, [len(best)])))

    def runs(self, width: int, most: int) -> Iterator[tuple[int, int]]:
        """Runs of clusters, the first and past the last, whose vectors of `width` bytes are together at most so many
        bytes, or one cluster."""
        start = 0
        for end in range(1, len(self.first)):
            last = end + 1 == len(self.first)
            if last or (self.first[end + 1] - self.first[start]) * width > most:
                yield start, end
                start = end


def judged(part: int, evidence: Evidence, *, order: Order, above: float) -> pa.Table | None:
    """All rows of a part: `shard`, `row`, `id`, `origin`, `similarity` (float32) and `of`, the origin of the row that
    it is most similar to; both null for the first of a cluster. None when the part has no rows.

    A record is `key`, `cluster`, `distance`, `id`, `origin` and the bytes of a vector under the name of its numbers'
    type, float16 or float32. Copies of a vector go where the first of them stays, with similarity 1; where that goes,
    they go with it, and say the same.
    """
    tables, digests, held = [], [], _Held([], 0)
    for table in evidence.tables(part):
        kind = _kind(table)
        held = held.and_(fixed(table[kind]))
        # Copies where vectors are many: views would hold on to them.
        light = table.drop_columns([kind])
        tables.append(light if held.size <= HELD else light.take(pa.array(np.arange(table.num_rows))))
        digests.append(_digests(fixed(table[kind])))
    if not tables:
        return None
    members = Members.of(pa.concat_tables(tables).combine_chunks(), np.concatenate(digests), order)
    del tables, digests
    likeness, of = np.empty(len(members.best)), np.empty(len(members.best), np.int64)
    for vectors, clusters in _vectors(part, evidence, members, kind, held):
        for a, b in zip(members.first[clusters], members.first[clusters + 1], strict=True):
            base = members.first[clusters[0]]
            likeness[a:b], found = nearest_before(vectors[a - base : b - base], above=above)
            of[a:b] = np.where(found < 0, -1, found + a)
    return _lines(members, likeness, of, above)


class _Held(NamedTuple):
    """The vectors of a part, table by table, as rows of bytes; none of them once they have more than `HELD`."""

    tables: list[np.ndarray]
    size: int

    def and_(self, rows: np.ndarray) -> "_Held":
        size = self.size + rows.nbytes
        return _Held([*self.tables, rows] if size <= HELD else [], size)


def _vectors(
    part: int, evidence: Evidence, members: Members, kind: str, held: _Held
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The vectors of the nodes of some clusters, and the numbers of these clusters. Each run reads the part again,
    unless all of its vectors are held."""
    place = np.full(members.seen.num_rows, -1, np.int64)
    place[members.best] = np.arange(len(members.best))
    width = held.tables[0].shape[1] if held.tables else next(evidence.tables(part)).schema.field(kind).type.byte_width
    for start, end in members.runs(width, min(HELD, _FEW) if held.tables else HELD):
        a, b = members.first[start], members.first[end]
        found, row = np.empty((b - a, width), np.uint8), 0
        for rows in held.tables or (fixed(table[kind]) for table in evidence.tables(part)):
            here = place[row : row + len(rows)]
            wanted = np.flatnonzero((here >= a) & (here < b))
            found[here[wanted] - a] = rows[wanted]
            row += len(rows)
        yield found.view(np.dtype(kind)), np.arange(start, end)


def _lines(members: Members, likeness: np.ndarray, of: np.ndarray, above: float) -> pa.Table:
    seen, node, best = members.seen, members.node, members.best
    stays = likeness.astype(np.float32).astype(np.float64) <= above
    copies = (best[node] != np.arange(len(node))) & (stays & (likeness < 1.0))[node]
    similarity = np.where(copies, 1.0, likeness[node])
    other = np.where(copies, best[node], np.where(of < 0, -1, best[of])[node])
    origins = one(seen["origin"])
    return pa.table(
        {
            "shard": seen["shard"],
            "row": seen["row"],
            "id": seen["id"],
            "origin": origins,
            "similarity": pa.array(similarity.astype(np.float32), mask=other < 0),
            "of": origins.take(pa.array(other, mask=other < 0)),
        }
    )


def _ordered(seen: pa.Table, order: Order) -> np.ndarray:
    """Rows int64[n] cluster by cluster, each in its order."""
    identity = halves(seen["id"])
    keys = [seen["row"].to_numpy(), seen["shard"].to_numpy(), ranks(seen["origin"]), identity[:, 1], identity[:, 0]]
    if order.kind == "random":
        keys.append(draws(seen, order.seed))
    else:
        distance = seen["distance"].to_numpy()
        keys.append(-distance if order.kind == "hard" else distance)
    return np.lexsort([*keys, seen["cluster"].to_numpy()]).astype(np.int64)


def _kind(table: pa.Table) -> str:
    return "float16" if "float16" in table.column_names else "float32"


def _digests(rows: np.ndarray) -> np.ndarray:
    """The halves of the hash of each row of bytes, uint64[n, 2]."""
    rows = np.ascontiguousarray(rows)
    offsets, data = np.arange(len(rows) + 1, dtype=np.int64) * rows.shape[1], rows.reshape(-1)
    for array in (offsets, data):  # to Numba writable arrays are of another type
        array.setflags(write=False)
    out = np.empty((len(rows), 16), np.uint8)
    xxh3_128(offsets, data, out)
    return halves(out)
