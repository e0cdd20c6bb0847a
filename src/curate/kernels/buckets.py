"""Rows with equal keys: the one that leads each bucket, and per row the set of leaders that it has.

One pass over a table of places and no sorting, so a bucket that holds half of all rows costs no more per row than a
bucket of two. Places are int32: a part of 2^31 rows would not fit in memory anyway.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import kernel

UInt64s = NDArray[np.uint64]
Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]


def places(rows: int) -> NDArray[Any]:
    """An empty table for `rows` keys: int32, a power of two at least twice as long, all -1."""
    return np.full(1 << max(4, (2 * rows - 1).bit_length()), -1, np.int32)


@kernel
def heads(keys: UInt64s, table: Int32s, head: Int32s) -> None:
    """head[i] = the smallest j with the key of i (j = i where none is before it).

    `keys` uint64[n] are hashes, so their low bits are good places already; a taken place leads to the next. `table`
    comes from `places(n)`, `head` is int32[n].
    """
    mask = np.int64(len(table) - 1)
    for i in range(len(keys)):
        place = np.int64(keys[i]) & mask
        while True:
            j = table[place]
            if j < 0:
                table[place] = i
                head[i] = i
                break
            if keys[j] == keys[i]:
                head[i] = j
                break
            place = (place + 1) & mask


@kernel
def best_of_each(head: Int32s, worth: UInt64s, names: UInt64s, best: Int32s) -> None:
    """head[i] = the best row of the bucket of i, in place: largest `worth`, then smallest name, then first.

    `head` int32[n] comes from `heads`, `worth` and `names` are uint64[n], `best` int32[n] is room to work in.
    """
    for i in range(len(head)):
        first = head[i]
        if first == i:
            best[i] = i
            continue
        leader = best[first]
        if worth[i] > worth[leader] or (worth[i] == worth[leader] and names[i] < names[leader]):
            best[first] = i
    for i in range(len(head)):
        head[i] = best[head[i]]


@kernel
def sets(rows: Int64s, values: UInt64s, first: Int64s, out: UInt64s) -> None:
    """The distinct values of each row, sorted: out[first[i] : first[i + 1]] for row i.

    `rows` int64[m] and `values` uint64[m] in any order; `out` uint64[m] is filled from its start. `first` int64[n + 1]
    comes as the running sum of the rows' counts of values, 0 first, and leaves as that of their distinct ones. A row
    has at most as many values as there are bands and few distinct ones, so each is put in its place at once.
    """
    held = np.zeros(len(first), np.int64)
    for i in range(len(rows)):
        row = rows[i]
        start, stop = first[row], first[row] + held[row]
        place = stop
        while place > start and out[place - 1] > values[i]:
            place -= 1
        if place > start and out[place - 1] == values[i]:
            continue
        for j in range(stop, place, -1):
            out[j] = out[j - 1]
        out[place] = values[i]
        held[row] += 1
    target = np.int64(0)
    for row in range(len(first) - 1):
        start = first[row]
        first[row] = target
        for j in range(held[row]):
            out[target] = out[start + j]
            target += 1
    first[len(first) - 1] = target
