"""Connected components of edges that are in files, where they may be more than one machine holds.

Files are taken sixteen at a time: a unit of work unites the edges of its files and writes what is left of them, one
edge for each node that has any, to the root of its component. What the units wrote is united in the same way, until
one file is left. Roots are the smallest nodes, so the labels are those of one machine that reads all edges in any
order. A unit needs twelve bytes for each node, and of the edges a block at a time.
"""

from functools import partial

import numpy as np

from curate import store
from curate.kernels.components import settle, unite
from curate.stage import Map

FAN = 16
NONE = np.uint64(0xFFFFFFFFFFFFFFFF)
"""The key of a node that has no edge."""
_BLOCK = 1 << 20
_ROW = 24


def packed(edges: np.ndarray) -> memoryview:
    """Edges as they are in files, one after another: uint64[m, 3], two places and a key below 2^64 - 1.

    A place is shard * 2^32 + row.
    """
    return np.ascontiguousarray(edges, "<u8").reshape(-1).view(np.uint8).data


def keys(files: list[str], base: np.ndarray, folder: str, *, map: Map, fan: int = FAN) -> str:
    """The file of the smallest key of each node's component: uint64[nodes], `NONE` for a node without an edge.

    `files` hold edges, `packed`. The number of a node is `base[shard] + row`; `base` int64[shards + 1] ends with the
    number of nodes. `folder` takes what is made on the way; a file that is there is done, so equal folders need equal
    files.
    """
    level = 0
    while True:
        groups = [files[start : start + fan] for start in range(0, len(files), fan)] or [[]]
        outs = [store.join(folder, f"{level:02d}-{len(groups):05d}-{i:05d}.forest") for i in range(len(groups))]
        if len(groups) == 1:
            outs = [store.join(folder, "components.keys")]
        for _ in map(partial(_reduce, groups=groups, outs=outs, base=base, level=level), range(len(groups))):
            pass
        if len(groups) == 1:
            return outs[0]
        files, level = outs, level + 1


def read_keys(uri: str, first: int, last: int) -> np.ndarray:
    """The keys of nodes first..last-1."""
    return np.frombuffer(store.read(uri, start=8 * first, length=8 * (last - first)), "<u8")


def _reduce(index: int, groups: list[list[str]], outs: list[str], base: np.ndarray, level: int) -> None:
    """Unite the edges of a group of files; the last group left says the keys of all nodes, another its forest."""
    if store.exists(outs[index]):
        return
    nodes = int(base[-1])
    parent = np.arange(nodes, dtype=np.uint32 if nodes < 1 << 32 else np.int64)
    smallest = np.full(nodes, NONE)
    for uri in groups[index]:
        size = store.size(uri)
        for start in range(0, size, _BLOCK * _ROW):
            raw = store.read(uri, start=start, length=min(_BLOCK * _ROW, size - start))
            edges = np.frombuffer(raw, "<u8").reshape(-1, 3)
            unite(_numbered(edges, base) if level == 0 else edges, parent, smallest)
    settle(parent, smallest)
    if len(groups) == 1:
        store.put(outs[index], smallest.view(np.uint8).data)
    else:
        _put_forest(outs[index], parent, smallest)


def _numbered(edges: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Edges between nodes by their numbers instead of their places."""
    made = edges.copy()
    places = edges[:, :2]
    made[:, :2] = base.astype(np.uint64)[places >> np.uint64(32)] + (places & np.uint64(0xFFFFFFFF))
    made.setflags(write=False)  # as what comes from a file is: to Numba writable arrays are of another type
    return made


def _put_forest(uri: str, parent: np.ndarray, smallest: np.ndarray) -> None:
    with store.writing(uri) as file:
        for start in range(0, len(parent), _BLOCK):
            node = start + np.flatnonzero(smallest[start : start + _BLOCK] != NONE)
            edges = np.empty((len(node), 3), "<u8")
            edges[:, 0], edges[:, 1], edges[:, 2] = node, parent[node], smallest[node]
            file.write(packed(edges))
