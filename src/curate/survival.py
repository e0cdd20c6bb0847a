"""Which documents of one part go: nodes and candidate pairs from what its rows say, pairs measured, a decision.

A node is a distinct text of a group. Nodes are numbered in the order in which they survive, so of a pair the larger
number is the one that could go. A text goes only against one that stays; with `transitive`, against the best of all
that pairs connect.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.arrow import halves, lists, one
from curate.index import Index
from curate.kernels.components import settle, unite
from curate.kernels.copies import first_copies, places
from curate.kernels.hash import combine
from curate.kernels.survivors import KEPT, KNOWN, number_nodes, survive
from curate.proof import Bodies, Known, Measure
from curate.stage import Evidence


@dataclass(frozen=True)
class Part:
    """What the rows of a part say. `seen`: their records without bodies, `node` int64[rows]: the number of each row's
    text. Per node: `best` int64[nodes], the row that survives first; `exempt` bool[nodes]; `carrier` and `sizes` as
    `proof.Bodies` has them."""

    seen: pa.Table
    node: np.ndarray
    best: np.ndarray
    exempt: np.ndarray
    carrier: np.ndarray
    sizes: np.ndarray
    evidence: Evidence
    number: int

    @classmethod
    def of(cls, seen: pa.Table, bodies: tuple[np.ndarray, np.ndarray], evidence: Evidence, number: int) -> "Part":
        """`bodies`: int64[rows], the place of the body that a row carries (-1: none), and its size."""
        identity = halves(seen["id"])
        digest = halves(seen["digest"])
        digest = np.where((digest == 0).all(axis=1)[:, None], identity, digest)
        first = np.empty(seen.num_rows, np.int64)
        high = seen["key"].to_numpy() ^ digest[:, 0]
        first_copies(high, np.ascontiguousarray(digest[:, 1]), places(seen.num_rows), first)
        node, best = np.full(seen.num_rows, -1, np.int64), np.empty(seen.num_rows, np.int64)
        best = best[: number_nodes(order(seen, identity), first, node, best)]
        exempt = seen["exempt"].to_numpy(zero_copy_only=False)[best] if "exempt" in seen.column_names else None
        carrier, sizes = np.full(len(best), -1, np.int64), np.zeros(len(best), np.int64)
        sent = np.flatnonzero(bodies[0] >= 0)[::-1]  # the first that was sent is written last, and stays
        carrier[node[sent]], sizes[node[sent]] = bodies[0][sent], bodies[1][sent]
        exempt = np.zeros(len(best), bool) if exempt is None else exempt
        return cls(seen, node, best, exempt, carrier, sizes, evidence, number)

    def bodies(self, measure: Measure) -> Bodies:
        """The bodies of the nodes."""
        return Bodies(self.evidence, self.number, measure, self.carrier, self.sizes)

    def named(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Names that rows list, with the row: int64[m] and uint64[m]."""
        first, names = lists(self.seen[column])
        return np.repeat(np.arange(len(first) - 1), np.diff(first)), names[first[0] : first[-1]].astype(np.uint64)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct candidate pairs of nodes, the later and the earlier, int64[p] each, in order of both.

        A name stands for the best of the group's nodes that have a row of that name. The others of that name, whose
        texts were one until something rewrote them, are candidates to it: `near` names no leader to its namesakes.
        """
        keys = self.seen["key"].to_numpy()
        mine = keys.copy()
        combine(mine, halves(self.seen["id"])[:, 0].copy())
        by_name = np.lexsort((self.node, mine))
        row, names = self.named("leaders")
        wanted = keys[row]
        combine(wanted, names)
        ordered = mine[by_name]
        at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
        there = ordered[at] == wanted
        first = np.searchsorted(ordered, ordered)
        one_end = self.node[np.concatenate([row[there], by_name])]
        other = self.node[by_name[np.concatenate([at[there], first])]]
        later, earlier = np.maximum(one_end, other), np.minimum(one_end, other)
        code = np.unique((later * len(self.best) + earlier)[later != earlier])
        return code // len(self.best), code % len(self.best)


@dataclass(frozen=True)
class Pairs:
    """Confirmed pairs of nodes in order of both: `later` and `earlier` int64[p], `likeness` float64[p]."""

    later: np.ndarray
    earlier: np.ndarray
    likeness: np.ndarray


@dataclass(frozen=True)
class Against:
    """Per node: the place of its known text in `origins` (-1: none) and the likeness with it."""

    place: np.ndarray
    likeness: np.ndarray
    origins: pa.Array


def decide(part: Part, measure: Measure, indexes: tuple[Index, ...], *, transitive: bool) -> pa.Table:
    """Verdict lines of a part: all rows that go or that pairs connect with others."""
    later, earlier = part.pairs()
    pairs = _measured(part, measure, later, earlier)
    root = _roots(pairs, len(part.best))
    known = _known(part, measure, indexes, root if transitive else None)
    if transitive:
        survivor = np.where(part.exempt | (root == np.arange(len(root))), KEPT, root)
        survivor[(known.place >= 0) & ~part.exempt] = KNOWN
        gone = np.flatnonzero(survivor >= 0)
        likeness = np.zeros(len(root))
        likeness[gone] = _likeness(part, measure, gone, survivor[gone])
    else:
        first = np.searchsorted(pairs.later, np.arange(len(root) + 1))
        edge = np.empty(len(root), np.int64)
        survive(first, pairs.earlier, part.exempt, known.place >= 0, edge)
        ends = np.concatenate([pairs.earlier, [KNOWN, KEPT]])  # edge -2 and -1 are the last two
        survivor, likeness = ends[edge], np.concatenate([pairs.likeness, [0.0, 0.0]])[edge]
    return _lines(part, survivor, np.where(survivor == KNOWN, known.likeness, likeness), known, root)


def _measured(part: Part, measure: Measure, later: np.ndarray, earlier: np.ndarray) -> Pairs:
    """Of candidate pairs those that are alike enough."""
    sizes = part.sizes[later], part.sizes[earlier]
    common = part.bodies(measure).compare(later, earlier, measure.needed(*sizes))
    alike = np.flatnonzero(common >= 0)
    likeness = measure.similarity(common[alike], sizes[0][alike], sizes[1][alike])
    return Pairs(later[alike], earlier[alike], likeness)


def _roots(pairs: Pairs, nodes: int) -> np.ndarray:
    """The best node that each is connected with, int64[nodes]."""
    root, unused = np.arange(nodes), np.zeros(nodes, np.uint64)
    edges = np.stack((pairs.later, pairs.earlier, np.zeros_like(pairs.later)), axis=1).astype(np.uint64)
    unite(edges, root, unused)
    settle(root, unused)
    return root


def _likeness(part: Part, measure: Measure, later: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    common = part.bodies(measure).compare(later, earlier, np.zeros(len(later), np.int64))
    return measure.similarity(common, part.sizes[later], part.sizes[earlier])


def _known(part: Part, measure: Measure, indexes: tuple[Index, ...], root: np.ndarray | None) -> Against:
    """The known text that each node is confirmed against; with `root`, that its component is."""
    nodes = len(part.best)
    none = Against(np.full(nodes, -1, np.int64), np.zeros(nodes), pa.array([], pa.string()))
    if not indexes:
        return none
    row, told = part.named("known")
    names, name = np.unique(told, return_inverse=True)
    if not len(names):
        return none
    code = np.unique(part.node[row] * len(names) + name)
    node, name = code // len(names), code % len(names)
    known, bodies = Known(indexes, names, measure), part.bodies(measure)
    likeness, index, origins = known.compare(bodies, node, name)
    alike = np.flatnonzero(likeness >= 0)
    if root is None:
        alike = alike[_first_of(node[alike], index[alike], name[alike])]
    else:
        owner = root[node[alike]]
        alike = alike[_first_of(owner, index[alike], name[alike])]
        chosen = np.full(nodes, -1, np.int64)
        chosen[root[node[alike]]] = name[alike]
        node = np.flatnonzero(chosen[root] >= 0)
        likeness, _, origins = known.compare(bodies, node, chosen[root[node]], least=0)
        alike = np.arange(len(node))
    none.place[node[alike]] = np.arange(len(alike))
    none.likeness[node[alike]] = likeness[alike]
    return Against(none.place, none.likeness, origins.take(pa.array(alike)))


def _first_of(owner: np.ndarray, index: np.ndarray, name: np.ndarray) -> np.ndarray:
    """For every owner the place of its smallest (index, name)."""
    by = np.lexsort((name, index, owner))
    return by[np.unique(owner[by], return_index=True)[1]]


def _lines(part: Part, survivor: np.ndarray, likeness: np.ndarray, known: Against, root: np.ndarray) -> pa.Table:
    rows = np.bincount(part.node, minlength=len(root))
    cluster = np.bincount(root, weights=rows, minlength=len(root)).astype(np.int32)[root]
    node, row = part.node, np.arange(len(part.node))
    copies = (survivor[node] == KEPT) & (row != part.best[node])
    if "exempt" in part.seen.column_names:
        copies &= ~part.seen["exempt"].to_numpy(zero_copy_only=False)
    gone = copies | (survivor[node] != KEPT)
    from_known = survivor[node] == KNOWN
    origins = one(part.seen["origin"])
    own = np.where(copies, part.best[node], part.best[np.maximum(survivor[node], 0)])
    place = np.where(from_known, len(origins) + known.place[node], own)
    told = np.flatnonzero(gone | (cluster[node] > 1))
    stays = ~gone[told]
    columns = {
        "shard": one(part.seen["shard"]).take(pa.array(told)),
        "row": one(part.seen["row"]).take(pa.array(told)),
        "near_duplicate": pa.array(gone[told]),
        "near_duplicate_of": pa.concat_arrays([origins, known.origins]).take(pa.array(place[told], mask=stays)),
        "near_similarity": pa.array(np.where(copies, 1.0, likeness[node])[told].astype(np.float32), mask=stays),
        "near_cluster_size": pa.array(cluster[node[told]]),
    }
    if "source" in part.seen.column_names:
        columns["source"] = one(part.seen["source"]).take(pa.array(told))
    return pa.table(columns)


def order(seen: pa.Table, identity: np.ndarray) -> np.ndarray:
    """Rows int64[n] in the order in which they survive: exempt ones first, then by worth (the largest first, null and
    NaN last), then by `id`, `origin`, shard and row; without worth by shard and row alone."""
    keys = [seen["row"].to_numpy(), seen["shard"].to_numpy()]
    if "worth" in seen.column_names:
        worth = seen["worth"].to_numpy()
        keys += [ranks(seen["origin"]), identity[:, 1], identity[:, 0], -worth, np.isnan(worth)]
    if "exempt" in seen.column_names:
        keys.append(~seen["exempt"].to_numpy(zero_copy_only=False))
    return np.lexsort(keys).astype(np.int64)


def ranks(origins: pa.ChunkedArray) -> np.ndarray:
    """Places of texts in the order of their bytes, equal for equal ones."""
    found: np.ndarray = pc.rank(one(origins), tiebreaker="dense").to_numpy()
    return found
