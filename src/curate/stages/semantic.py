"""Semantic duplicates: documents whose embeddings are nearly equal, sought within clusters (SemDeDup).

Every member of a cluster gets the largest cosine to a member before it; what is above a threshold goes. The number is
kept, so another threshold is a rule over one column. The catch: a pair on two sides of a cluster's border is not seen,
and work grows with the square of a cluster, so the vectors of one cluster must fit in memory; equal ones count once.
"""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import exchange, expressions, store
from curate.arrow import ascending, fixed, halves, one
from curate.errors import DataError, RecipeError
from curate.kernels.hash import keyed
from curate.kernels.nearest import NONE
from curate.semantic_pairs import SWIFT, Order, judged
from curate.stage import Evidence, Map, Stage, Verdict

_CLUSTER = np.uint64(0x636C7573746572)  # "cluster": the seed by which clusters become keys
_DIGITS = 10  # of 16 bits: two of a similarity, eight of an id
_FEW = 1 << 18
_LARGEST = 1e4  # of the numbers of a vector, whose squares are added up
_WIDTH, _TEXT = 384, 3000
_SPEED = 4.5e11 if SWIFT else 1e11
"""What estimates take for granted: numbers of an embedding, bytes of a document, operations a second of a core."""


@dataclass(frozen=True)
class Semantic(Stage):
    """Adds `semantic_similarity` (float32: the largest cosine to a member of its cluster that stands before it; null
    for the first, and for rows without embedding or cluster), `semantic_of`, the origin of that member, the first of
    several, and `semantic_duplicate`. SemDeDup, arXiv 2303.09540, section 3.

    Before stand: with `order: hard`, as in the paper, those farther from the centroid (`cluster_distance`), with `easy`
    those nearer to it, with `random` those of a smaller hash with `seed`; ties by `id`, then `origin`.

    One of `eps` and `keep`. A row is a duplicate if its similarity is above 1 - `eps`; what a good eps is depends on
    the encoder, and below 0.005 vectors of float16 are too coarse. `keep`: the share of rows with an embedding that
    stays, rounded up, over the whole corpus: those with the smallest similarities, the first of each cluster before
    all, ties by `id`, then `origin`. Similarities depend on neither, so one run serves every threshold: `whatif`,
    `sweep` and `rank` work on the column, and larger eps drop all that smaller ones do.

    That is so with `rule: max_prev`, the paper's, by which a row is also compared with rows that go. `rule: leader`
    compares with those that stay, so every duplicate is like one of them; its similarities hold for its `eps` alone.
    Copies of one vector that goes then have the similarity of the first of them.

    Cosines are exact to float32 whatever the machine, and 1 for equal vectors. `among`: only rows for which this
    expression holds compete. `embedding`, `cluster`: columns to use, the latter with the one called
    `{cluster}_distance`.
    """

    kind: ClassVar[str] = "semantic"
    clusters: ClassVar[int | None] = None
    eps: float | None = None
    keep: float | None = None
    order: Literal["hard", "easy", "random"] = "hard"
    rule: Literal["max_prev", "leader"] = "max_prev"
    seed: int = 0
    among: str | None = None
    embedding: str = "embedding"
    cluster: str = "cluster"

    def __post_init__(self) -> None:
        if (self.eps is None) == (self.keep is None):
            raise RecipeError("give `eps` or `keep`, and not both: what is above 1 - eps goes, or a share stays")
        if self.eps is not None and not 0 < self.eps < 1:
            raise RecipeError(
                f"`eps` is {self.eps}; it is above 0 and below 1: a cosine above 1 - eps makes a duplicate"
            )
        if self.keep is not None and not 0 < self.keep <= 1:
            raise RecipeError(f"`keep` is {self.keep}; it is a share above 0, and at most 1")
        if self.rule == "leader" and self.eps is None:
            raise RecipeError("`rule: leader` needs `eps`: without it nobody knows which earlier rows stay")
        for name in ("embedding", "cluster"):
            if getattr(self, name) == "":
                raise RecipeError(f"`{name}` is '': give the name of a column")
        if not 0 <= self.seed < 2**63:
            raise RecipeError(f"`seed` is {self.seed}; it is 0 or more and below 2^63")
        if self.among is not None:
            expressions.parse(self.among)

    def bind(self, lineage: dict[str, dict[str, Any]]) -> "Semantic":
        """The stage with the number of `clusters`, where it is known: only estimates go by it."""
        bound = copy.copy(self)
        object.__setattr__(bound, "clusters", getattr(lineage[self.cluster].get("maker"), "k", None))
        return bound

    @property
    def reads(self) -> tuple[str, ...]:
        extra = expressions.columns(self.among) if self.among else ()
        return tuple(dict.fromkeys((self.embedding, self.cluster, self._distance, "id", "origin", *extra)))

    @property
    def adds(self) -> tuple[str, ...]:
        return ("semantic_similarity", "semantic_of", "semantic_duplicate")

    @property
    def applies_to(self) -> tuple[str, ...]:
        return ()

    @property
    def heft(self) -> int:
        return 26  # 384 numbers of float16 and what goes with them; longer vectors make longer parts, no other result

    @property
    def _distance(self) -> str:
        return f"{self.cluster}_distance"

    @property
    def least(self) -> float:
        """A cosine above this makes a duplicate, where `eps` says it."""
        return math.inf if self.eps is None else 1.0 - self.eps

    def scan(self, shard: pa.Table) -> pa.Table:
        kind = self._kind(shard.schema.field(self.embedding).type)
        vector, cluster = one(shard[self.embedding]), self._clusters(shard)
        competes = (pc.and_(vector.is_valid(), cluster.is_valid())).to_numpy(zero_copy_only=False)
        if self.among:
            competes = competes & expressions.evaluate(self.among, shard)[0]
        row = np.flatnonzero(competes)
        # Of a list of fixed size that is null the values are there, and `flatten` leaves them out.
        values = vector.take(pa.array(row)).flatten().to_numpy(zero_copy_only=False).astype(kind, copy=False)
        values = np.ascontiguousarray(values).reshape(len(row), vector.type.list_size)
        largest = np.abs(values).max(axis=1, initial=0)  # NaN, if one is
        for wrong, said in (
            (~np.isfinite(largest), "has a number that is null, NaN or infinite"),
            (largest > _LARGEST, f"has a number above {_LARGEST:g}; length 1 is wanted"),
        ):
            if len(bad := np.flatnonzero(wrong)):
                where = f"row {row[bad[0]]}, origin {shard['origin'][int(row[bad[0]])]}, column '{self.embedding}'"
                raise DataError(f"semantic: {where}: the vector {said}")
        number = cluster.take(pa.array(row)).to_numpy().astype(np.int64)
        key = np.empty(len(row), np.uint64)
        keyed(_CLUSTER, number.view(np.uint64), key)
        distance = one(shard[self._distance]).take(pa.array(row)).cast(pa.float32()).fill_null(math.nan)
        width = values.shape[1] * values.itemsize
        return pa.table(
            {
                "key": key,
                "row": row.astype(np.uint32),
                "cluster": number,
                "distance": distance,
                "id": one(shard["id"]).take(pa.array(row)),
                "origin": one(shard["origin"]).take(pa.array(row)),
                kind: pa.Array.from_buffers(pa.binary(width), len(row), [None, pa.py_buffer(values)]),
            }
        )

    def judge(self, evidence: Evidence, map: Map) -> pa.Table | None:
        """Parts one by one; with `keep`, `similarity`, `id` and `origin` of the last row of all that stays."""
        for _ in map(partial(_judge_part, stage=self, evidence=evidence), range(evidence.parts)):
            pass
        return None if self.keep is None else _last(evidence, map, Fraction(str(self.keep)))

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        similarity, of = pa.nulls(shard.num_rows, pa.float32()), pa.nulls(shard.num_rows, pa.string())
        duplicate = np.zeros(shard.num_rows, bool)
        if verdict.lines is not None:
            lines, place = verdict.lines, np.full(shard.num_rows, -1, np.int64)
            row = lines["row"].to_numpy()
            place[row] = np.arange(len(row))
            where = pa.array(place, mask=place < 0)
            similarity, of = one(lines["similarity"]).take(where), one(lines["of"]).take(where)
            if verdict.whole is None:
                duplicate[row] = one(lines["similarity"]).fill_null(NONE).to_numpy().astype(np.float64) > self.least
            else:
                duplicate[row] = _behind(lines, verdict.whole)
        return pa.table(dict(zip(self.adds, (similarity, of, duplicate), strict=True)))

    def judging(self, text: int) -> float:
        """For clusters of one size, of documents that all differ; for one cluster, where nobody knows how many."""
        return (text / _TEXT) ** 2 * _WIDTH / (self.clusters or 1) / _SPEED

    def remarks(self, text: int) -> tuple[str, ...]:
        documents, clusters = text / _TEXT, self.clusters or 1
        each = f"each of {clusters:,} clusters of one size" if self.clusters else "one cluster (of k it is a k-th)"
        return (
            f"for embeddings of {_WIDTH} numbers, and a document for each {_TEXT} bytes: {self.judging(text):,.0f} "
            f"CPU-seconds, and {8e-6 * documents / clusters * _WIDTH:,.0f} MB for {each}; where one is ten times as "
            "large as another, it takes a hundred times as long",
        )

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        return {"marked": {"semantic_duplicate": int(np.count_nonzero(made["semantic_duplicate"].to_numpy()))}}

    def _kind(self, type: pa.DataType) -> str:
        """The type in which a vector's numbers are compared; float16 holds those of int8 as they are."""
        kinds = {pa.float16(): "float16", pa.float32(): "float32", pa.int8(): "float16"}
        if not pa.types.is_fixed_size_list(type) or type.value_type not in kinds:
            wanted = "vectors are wanted, fixed_size_list of float16, float32 or int8"
            raise RecipeError(f"semantic: '{self.embedding}' is a column of {type}; {wanted}")
        return kinds[type.value_type]

    def _clusters(self, shard: pa.Table) -> pa.Array:
        column = one(shard[self.cluster])
        if not (pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
            raise RecipeError(f"semantic: '{self.cluster}' is a column of {column.type}; whole numbers are wanted")
        return column.cast(pa.int64())


def _judge_part(part: int, stage: Semantic, evidence: Evidence) -> None:
    """Keep the verdict of one part, unless that was done before."""
    if store.exists(evidence.place(part)):
        return
    above = stage.least if stage.rule == "leader" else math.inf
    lines = judged(part, evidence, order=Order(stage.order, stage.seed), above=above)
    if lines is None:
        return
    # What decides between equal similarities is told where a share is to be cut off.
    evidence.keep(part, lines if stage.keep is not None else lines.drop_columns(["id", "origin"]))


def _last(evidence: Evidence, map: Map, share: Fraction) -> pa.Table:
    """`similarity`, `id` and `origin` of the last row that stays; no row if there are none.

    The row of that rank is found digit by digit: parts count the rows that have each next digit, until few are left.
    """
    prefix: tuple[int, ...] = ()
    rank, left = 0, -1
    while len(prefix) < _DIGITS and (left < 0 or left > _FEW):
        counts = np.zeros(1 << 16, np.int64)
        for count in map(partial(_count, evidence=evidence, prefix=prefix), range(evidence.parts)):
            counts += count
        if left < 0:
            rank = math.ceil(share * int(counts.sum())) - 1
            if rank < 0:
                break
        ends = np.cumsum(counts)
        digit = int(np.searchsorted(ends, rank, "right"))
        left = int(counts[digit])
        rank -= int(ends[digit]) - left
        prefix = (*prefix, digit)
    found = [_LAST.empty_table()]
    if prefix:
        found += map(partial(_having, evidence=evidence, prefix=prefix), range(evidence.parts))
    rows = pa.concat_tables(found).sort_by([(name, "ascending") for name in _LAST.names])
    return rows.slice(rank, 1) if prefix else rows


_LAST = pa.schema([("similarity", pa.float32()), ("id", pa.binary(16)), ("origin", pa.string())])


def _lines(part: int, evidence: Evidence) -> Iterable[pa.Table]:
    uri = evidence.place(part)
    return exchange.read(uri, 0, len(evidence.units)) if store.exists(uri) else []


def _count(part: int, evidence: Evidence, prefix: tuple[int, ...]) -> np.ndarray:
    """How many rows of a part that have these first digits have each as the next one, int64[2^16]."""
    counts = np.zeros(1 << 16, np.int64)
    for lines in _lines(part, evidence):
        digits = _digits(lines)
        counts += np.bincount(digits[_begin(digits, prefix), len(prefix)], minlength=1 << 16)
    return counts


def _having(part: int, evidence: Evidence, prefix: tuple[int, ...]) -> pa.Table:
    """The rows of a part that have these first digits; no similarity as -2."""
    found = [_LAST.empty_table()]
    for lines in _lines(part, evidence):
        rows = lines.filter(pa.array(_begin(_digits(lines), prefix)))
        columns = [pc.fill_null(rows["similarity"], np.float32(NONE)), rows["id"], rows["origin"].cast(pa.string())]
        found.append(pa.table(columns, schema=_LAST))
    return pa.concat_tables(found)


def _digits(lines: pa.Table) -> np.ndarray:
    """Similarity, then `id`, as ten digits that sort as they do, uint16[n, 10]."""
    bits = ascending(one(lines["similarity"]).fill_null(NONE).to_numpy())
    out = np.empty((lines.num_rows, 2 * _DIGITS), np.uint8)
    out[:, :4] = bits.astype(">u4")[:, None].view(np.uint8)
    out[:, 4:] = fixed(lines["id"])
    return out.view(">u2").astype(np.uint16)


def _begin(digits: np.ndarray, prefix: tuple[int, ...]) -> np.ndarray:
    begins: np.ndarray = (digits[:, : len(prefix)] == np.array(prefix, np.uint16)).all(axis=1)
    return begins


def _behind(lines: pa.Table, last: pa.Table) -> np.ndarray:
    """Which rows stand behind the last that stays."""
    similarity = one(lines["similarity"]).fill_null(NONE).to_numpy()
    least = last["similarity"][0].as_py()
    gone: np.ndarray = similarity > least
    level = np.flatnonzero(similarity == least)
    tied = lines.take(pa.array(level))
    high, low = halves(tied["id"]).T
    id_high, id_low = halves(last["id"])[0]
    later = pc.greater(tied["origin"], last["origin"][0]).to_numpy(zero_copy_only=False)
    gone[level] = (high > id_high) | (high == id_high) & ((low > id_low) | (low == id_low) & later)
    return gone
