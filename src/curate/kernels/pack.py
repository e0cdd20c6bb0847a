"""Best-fit packing of pieces into windows, and the copy that carries it out.

Pieces go longest first, each into the open window that it fills best, so a document is cut only where it is
longer than a window (Ding et al. 2024, arXiv 2404.10830, section 2). The idea that makes it cheap: windows
with equal space left are interchangeable, so they wait in one queue per space left, and a tree of marks over
the spaces finds the best queue. n pieces cost O(n log window) time and O(n + window) memory. The catch: the
first windows hold the longest documents, so the caller shuffles windows before training.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import inner, kernel, maker

Int64s = NDArray[np.int64]


@kernel
def best_fit(lengths: Int64s, window: int, window_of: Int64s, start_of: Int64s) -> int:
    """Pack pieces into windows of `window` ids, longest piece first; return the number of windows.

    `lengths` int64[n] holds ids per piece, each in 1..window. Filled in: `window_of` int64[n], the window of
    each piece, numbered in order of opening; `start_of` int64[n], where in its window the piece begins.

    Ties: of equally long pieces the lower index goes first. A piece goes to the window with the smallest
    sufficient space left; of several with that space, to the one that has had it for longest (the oldest,
    while windows hold one piece each). Pieces lie without gaps, so padding is only at a window's end.

    Best-fit decreasing needs at most 11/9 of the fewest possible windows plus a constant (Johnson et al.
    1974). ValueError if a length lies outside 1..window.
    """
    pieces = len(lengths)
    order = _longest_first(lengths, window)
    leaves = 1
    while leaves <= window:
        leaves *= 2
    occupied = np.zeros(2 * leaves, np.bool_)
    oldest = np.full(window + 1, -1, np.int64)
    newest = np.full(window + 1, -1, np.int64)
    behind = np.full(pieces, -1, np.int64)
    windows = 0
    for turn in range(pieces):
        piece = order[turn]
        length = lengths[piece]
        space = _smallest_occupied(occupied, leaves, length)
        if space < 0:
            chosen = windows
            windows += 1
            space = window
        else:
            chosen = oldest[space]
            oldest[space] = behind[chosen]
            if oldest[space] < 0:
                _clear(occupied, leaves + space)
        window_of[piece] = chosen
        start_of[piece] = window - space
        left = space - length
        if left > 0:
            behind[chosen] = -1
            if oldest[left] < 0:
                oldest[left] = chosen
                _mark(occupied, leaves + left)
            else:
                behind[newest[left]] = chosen
            newest[left] = chosen
    return windows


@kernel
def copy_ranges(
    source_ids: NDArray[np.unsignedinteger],
    source_starts: Int64s,
    lengths: Int64s,
    target_starts: Int64s,
    target_ids: NDArray[np.unsignedinteger],
) -> None:
    """Copy range i of `source_ids` to its place in `target_ids`, for every i in order.

    Both id arrays are contiguous, flat and of one type (uint16 or uint32); starts and lengths are int64[n]
    in ids. Ids outside the target ranges are left as they are, so padding is written before. The arrays must
    not overlap. ValueError, before anything is copied, if the id types differ or a range leaves its array.
    """
    if source_ids.itemsize != target_ids.itemsize:
        raise ValueError("source and target ids differ in width")
    for i in range(len(lengths)):
        length = lengths[i]
        if length < 0 or source_starts[i] < 0 or target_starts[i] < 0:
            raise ValueError("a range has a negative start or length")
        if source_starts[i] > len(source_ids) - length or target_starts[i] > len(target_ids) - length:
            raise ValueError("a range ends outside its array")
    for i in range(len(lengths)):
        # Signed indices may count from the end; testing for that makes the loop four times slower.
        source, target = np.uint64(source_starts[i]), np.uint64(target_starts[i])
        for step in range(np.uint64(lengths[i])):
            target_ids[target + step] = source_ids[source + step]


@maker
def _longest_first(lengths: Int64s, window: int) -> Int64s:
    """Piece indices by falling length, equal lengths by rising index (a counting sort)."""
    places = np.zeros(window + 1, np.int64)
    for length in lengths:
        if length < 1 or length > window:
            raise ValueError("a piece is shorter than 1 id or longer than the window")
        places[length] += 1
    place = 0
    for length in range(window, 0, -1):
        count = places[length]
        places[length] = place
        place += count
    order = np.empty(len(lengths), np.int64)
    for piece in range(len(lengths)):
        length = lengths[piece]
        order[places[length]] = piece
        places[length] += 1
    return order


# The tree is an array: node k has children 2k and 2k + 1, the leaf of space s is leaves + s, and a node is
# true when a leaf below it is.


@inner
def _smallest_occupied(occupied: NDArray[np.bool_], leaves: int, least: int) -> int:
    """The smallest occupied space >= `least`, or -1: up until something lies to the right, down leftmost."""
    node = leaves + least
    while not occupied[node]:
        while node & 1:
            node >>= 1
        if node == 0:
            return -1
        node += 1
    while node < leaves:
        node *= 2
        if not occupied[node]:
            node += 1
    return node - leaves


@inner
def _mark(occupied: NDArray[np.bool_], node: int) -> None:
    while node > 0 and not occupied[node]:
        occupied[node] = True
        node >>= 1


@inner
def _clear(occupied: NDArray[np.bool_], node: int) -> None:
    occupied[node] = False
    node >>= 1
    while node > 0 and not occupied[2 * node] and not occupied[2 * node + 1]:
        occupied[node] = False
        node >>= 1
