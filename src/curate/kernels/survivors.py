"""Who stays of documents that are alike: equal texts as one, and greedy survival.

All of it works on nodes, the distinct texts, numbered in the order in which they would survive: an earlier node is
always the better one, and greedy survival is one pass over nodes.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import kernel

Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]

KEPT, KNOWN = -1, -2


@kernel
def number_nodes(order: Int64s, first: Int64s, node: Int64s, best: Int64s) -> int:
    """Number the distinct texts by their best row; return how many there are.

    `order` int64[n]: all rows, the best first. `first` int64[n]: for each row the first row with the same text.
    Filled in: `node` int64[n], all -1 before, the number of each row's text; `best` int64[n], its best row.
    """
    nodes = 0
    for row in order:
        if node[first[row]] < 0:
            node[first[row]] = nodes
            best[nodes] = row
            nodes += 1
        node[row] = node[first[row]]
    return nodes


@kernel
def survive(first: Int64s, earlier: Int64s, exempt: Bools, known: Bools, edge: Int64s) -> None:
    """edge[v] = the edge to the best kept node that v goes against, `KNOWN` if it goes against a known text, or `KEPT`.

    Edges first[v]..first[v + 1]-1 lead from node v to the nodes `earlier`, ascending and all smaller than v. A node
    goes if one of them is kept; one that is `exempt` (bool[n]) never does.
    """
    for node in range(len(edge)):
        edge[node] = KEPT
        if exempt[node]:
            continue
        if known[node]:
            edge[node] = KNOWN
            continue
        for i in range(first[node], first[node + 1]):
            if edge[earlier[i]] == KEPT:
                edge[node] = i
                break
