"""Rows with equal keys: the one that leads each bucket, and per row the set of leaders that it has.

Rows come a few at a time and only what leads is held. A table of places and no sorting: a bucket that holds half of
all rows costs no more per row than a bucket of two, and less memory. Numbers of buckets are int32: 2^31 of them would
not fit in memory anyway.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.kernels.blocks import Int64
from curate.kernels.compiled import kernel

UInt64s = NDArray[np.uint64]
Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]


def places(rows: int) -> NDArray[Any]:
    """An empty table for `rows` distinct keys: int32, a power of two at least twice as long, all -1."""
    return np.full(1 << max(4, (2 * rows - 1).bit_length()), -1, np.int32)


@kernel
def find(keys: UInt64s, table: Int32s, held: UInt64s, count: int, bucket: Int32s) -> int:
    """bucket[i] = the number of the bucket of keys[i], in the order in which buckets were first met; gives their count.

    `keys` uint64[n] are hashes, so their low bits are good places already; a taken place leads to the next. `table`
    comes from `places`, `held` uint64[...] has the keys of the first `count` buckets and takes those of new ones.
    """
    mask = np.int64(len(table) - 1)
    for i in range(len(keys)):
        key = keys[i]
        place = np.int64(key) & mask
        while True:
            number = table[place]
            if number < 0:
                table[place] = bucket[i] = count
                held[count] = key
                count += 1
                break
            if held[number] == key:
                bucket[i] = number
                break
            place = (place + 1) & mask
    return count


@kernel
def lead_first(bucket: Int32s, rows: UInt64s, count: int, leaders: UInt64s) -> None:
    """leaders[b] = the first of the rows of bucket b. Buckets from `count` on are new here.

    `rows` uint64[n, 3] are worth, name and place, `bucket` int32[n] comes from `find`, `leaders` is uint64[..., 3].
    """
    for i in range(len(bucket)):
        if bucket[i] == count:
            leaders[count] = rows[i]
            count += 1


@kernel
def lead_best(bucket: Int32s, rows: UInt64s, count: int, leaders: UInt64s) -> None:
    """leaders[b] = the row of bucket b with the largest worth, then the smallest name, then the first: as above."""
    for i in range(len(bucket)):
        b = bucket[i]
        if b == count:
            leaders[b] = rows[i]
            count += 1
        elif rows[i, 0] > leaders[b, 0] or (rows[i, 0] == leaders[b, 0] and rows[i, 1] < leaders[b, 1]):
            leaders[b] = rows[i]


@kernel
def led(bucket: Int32s, rows: UInt64s, leaders: UInt64s, out: Int64s) -> Int64:
    """The rows that do not lead their bucket: their indices at the start of `out` int64[n]; gives their number."""
    found: Int64 = np.int64(0)
    for i in range(len(bucket)):
        out[found] = i
        found += np.int64(rows[i, 2] != leaders[bucket[i], 2])
    return found


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
