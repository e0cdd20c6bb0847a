"""The longest string of bytes that two texts share, exactly and in linear time.

A suffix automaton (Blumer et al. 1985) of one text holds all its substrings in at most 2n states and 3n edges; the
other text is then read through it once. Edges of a state are a linked list: nearly all states have one or two, and
the first state, which has most, gets a table.

The catch: a character beyond ASCII is several bytes, so the shared string may begin or end inside of one.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.blocks import Int64
from curate.kernels.compiled import inner, kernel

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]

LENGTH, LINK, HEAD = 0, 1, 2
NEXT, BYTE, TARGET = 0, 1, 2
NONE = -1


@kernel
def longest_common(
    offsets: Int64s, data: Bytes, other_offsets: Int64s, other: Bytes, pairs: Int64s, out: Int64s
) -> None:
    """out[i] = bytes of the longest substring that row pairs[i, 0] of the first rows and row pairs[i, 1] of the
    others have in common. `offsets` int64[n + 1] into `data` uint8[...]; `pairs` int64[m, 2]."""
    longest = np.int64(0)
    for i in range(len(out)):
        longest = max(longest, offsets[pairs[i, 0] + 1] - offsets[pairs[i, 0]])
    states = np.empty((2 * longest + 2, 3), np.int32)
    edges = np.empty((3 * longest + 4, 3), np.int32)
    root = np.empty(256, np.int32)
    built = np.int64(-1)
    for i in range(len(out)):
        row, against = pairs[i, 0], pairs[i, 1]
        if row != built:  # neighbouring pairs often share a source
            _build(data[offsets[row] : offsets[row + 1]], states, edges, root)
            built = row
        out[i] = _longest(other[other_offsets[against] : other_offsets[against + 1]], states, edges, root)


@inner
def _step(state: Int64, byte: Int64, states: Int32s, edges: Int32s, root: Int32s) -> Int64:
    """The edge of a state for a byte, NONE if it has none; edges of the first state are found by table."""
    if state == 0:
        return np.int64(root[byte])
    edge = np.int64(states[state, HEAD])
    while edge >= 0 and edges[edge, BYTE] != byte:
        edge = np.int64(edges[edge, NEXT])
    return edge


@inner
def _build(text: Bytes, states: Int32s, edges: Int32s, root: Int32s) -> None:
    """The suffix automaton of a text."""
    root[:] = NONE
    states[0, LENGTH], states[0, LINK], states[0, HEAD] = 0, NONE, NONE
    held, used, last = np.int64(1), np.int64(0), np.int64(0)
    for at in range(len(text)):
        byte = np.int64(text[at])
        new = held
        held += 1
        states[new, LENGTH], states[new, HEAD] = at + 1, NONE
        state = last
        edge = np.int64(NONE)
        while state >= 0:
            edge = _step(state, byte, states, edges, root)
            if edge >= 0:
                break
            used = _add(state, byte, new, used, states, edges, root)
            state = np.int64(states[state, LINK])
        last = new
        if state < 0:
            states[new, LINK] = 0
            continue
        target = np.int64(edges[edge, TARGET])
        if states[target, LENGTH] == states[state, LENGTH] + 1:
            states[new, LINK] = target
            continue
        twin = held
        held += 1
        states[twin, LENGTH], states[twin, LINK] = states[state, LENGTH] + 1, states[target, LINK]
        states[twin, HEAD] = NONE
        edge = np.int64(states[target, HEAD])
        while edge >= 0:
            used = _add(twin, np.int64(edges[edge, BYTE]), np.int64(edges[edge, TARGET]), used, states, edges, root)
            edge = np.int64(edges[edge, NEXT])
        while state >= 0:
            edge = _step(state, byte, states, edges, root)
            if edge < 0 or edges[edge, TARGET] != target:
                break
            edges[edge, TARGET] = twin
            state = np.int64(states[state, LINK])
        states[new, LINK] = states[target, LINK] = twin


@inner
def _add(state: Int64, byte: Int64, target: Int64, used: Int64, states: Int32s, edges: Int32s, root: Int32s) -> Int64:
    """Give a state an edge; how many edges there are then."""
    edges[used, NEXT], edges[used, BYTE], edges[used, TARGET] = states[state, HEAD], byte, target
    if state == 0:
        root[byte] = used
    else:
        states[state, HEAD] = used
    return used + 1


@inner
def _longest(text: Bytes, states: Int32s, edges: Int32s, root: Int32s) -> Int64:
    """Length of the longest substring of `text` that the automaton knows."""
    best = length = state = np.int64(0)
    for at in range(len(text)):
        byte = np.int64(text[at])
        edge = _step(state, byte, states, edges, root)
        while edge < 0 and state > 0:
            state = np.int64(states[state, LINK])
            length = np.int64(states[state, LENGTH])
            edge = _step(state, byte, states, edges, root)
        if edge >= 0:
            state = np.int64(edges[edge, TARGET])
            length += 1
            best = max(best, length)
    return best
