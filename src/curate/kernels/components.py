"""Union-find: the smaller root wins, so labels follow from the edges alone, in whatever order they come.

Paths are halved on the way up (Tarjan and van Leeuwen, "Worst-case analysis of set union algorithms", 1984), which
alone keeps a search at O(log n) on average; ranks would make the root depend on the order of edges. Each component
also keeps the smallest of the keys that its edges carry.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.kernels.blocks import Int64
from curate.kernels.compiled import inner, kernel

UInt64s = NDArray[np.uint64]
Parents = NDArray[Any]
"""uint32 or int64: the node above each, itself for a root."""


@kernel
def unite(edges: UInt64s, parent: Parents, smallest: UInt64s) -> None:
    """Take in `edges` uint64[m, 3]: two nodes and a key. A block at a time, in any order.

    `parent` uint32[n] or int64[n] begins as arange(n), `smallest` uint64[n] as all ones; its entry for a root is the
    smallest key of the component's edges so far.
    """
    for i in range(len(edges)):
        a, b = _root(parent, np.int64(edges[i, 0])), _root(parent, np.int64(edges[i, 1]))
        low, high = min(a, b), max(a, b)
        parent[high] = low
        smallest[low] = min(smallest[low], smallest[high], edges[i, 2])


@kernel
def settle(parent: Parents, smallest: UInt64s) -> None:
    """Once all edges are in: parent[i] = the smallest node of its component, smallest[i] = the component's key."""
    for i in range(len(parent)):
        root = parent[parent[i]]  # the node above is none after i, and all before i are settled
        parent[i] = root
        smallest[i] = smallest[root]


@inner
def _root(parent: Parents, node: Int64) -> Int64:
    while True:
        above = np.int64(parent[node])
        if above == node:
            return node
        parent[node] = parent[above]
        node = np.int64(parent[node])
