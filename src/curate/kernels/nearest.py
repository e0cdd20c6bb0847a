"""The most similar of many vectors, exactly: products of matrices propose, sums of float64 decide.

A product of matrices differs in its last bits between machines and block shapes, in float32 by less than d * 2^-24 of
the vectors' lengths (Higham 2002, section 3.1). Only where it comes that near to the best cosine so far is the cosine
taken again, in float64 and in one order of summing: for vectors that were float16 the sum is even exact, as products
are multiples of 2^-48. So the result depends on the vectors alone. The catch: of thousands of vectors that are closer
to each other than that, all cosines are taken again, which costs ten products each; then it is cheaper to make the
products in float64.
"""

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import inner, kernel
from curate.kernels.dots import dot

Float64: TypeAlias = Any
Int64: TypeAlias = Any
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Reals = NDArray[np.floating[Any]]
Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]
Uint16s = NDArray[np.uint16]
Uint32s = NDArray[np.uint32]

_STRETCH = 64
NONE = -2.0
"""Below every cosine: that of a vector before which there is none."""


@kernel
def squares(rows: Floats, out: Doubles) -> None:
    """out[i] = the product of row i with itself; `rows` float32[n, d], `out` float64[n]."""
    for i in range(len(rows)):
        out[i] = dot(rows, i, rows, i)


@kernel
def widen(halves: Uint16s, out: Uint32s) -> None:
    """Numbers of float16 as float32, bits as whole numbers: `halves` uint16[n, d], `out` uint32[n, d]. Finite ones:
    2^112 undoes that exponents count from 15 or from 127, and makes subnormal ones normal."""
    scale = np.float32(2.0**112)
    wide = out.view(np.float32)
    for i in range(halves.shape[0]):
        for p in range(halves.shape[1]):
            number = np.uint32(halves[i, p])
            out[i, p] = (number & np.uint32(0x7FFF)) << np.uint32(13) | (number & np.uint32(0x8000)) << np.uint32(16)
            wide[i, p] = wide[i, p] * scale


@inner
def _nearest(
    products: Reals,
    i: int,
    count: int,
    rows: Floats,
    others: Floats,
    square: float,
    squares: Doubles,
    scale: Reals,
    stays: Bools,
    names: Int64s,
    best: Doubles,
    of: Int64s,
) -> Int64:
    found, again = best[i], np.int64(0)
    slack = (rows.shape[1] + 16) * 2.0 ** (-24 if products.itemsize == 4 else -53)
    limit = products.dtype.type((found - slack) * math.sqrt(square))
    for start in range(0, count, _STRETCH):
        stop = min(start + _STRETCH, count)
        # Nearly all stretches have none: one pass without a branch says so.
        some = False
        for j in range(start, stop):
            some |= not products[i, j] * scale[j] < limit
        if not some:
            continue
        for j in range(start, stop):
            if products[i, j] * scale[j] < limit or not stays[j]:
                continue
            if found >= 1.0:
                break
            again += 1
            lengths = math.sqrt(square * squares[j])
            cosine = min(dot(rows, i, others, j) / lengths, 1.0) if lengths > 0.0 else 0.0
            if cosine > found:
                found = cosine
                of[i] = names[j]
                limit = products.dtype.type((found - slack) * math.sqrt(square))
    best[i] = found
    return again


@kernel
def nearer(
    products: Reals,
    rows: Floats,
    others: Floats,
    row_squares: Doubles,
    squares: Doubles,
    scale: Reals,
    names: Int64s,
    best: Doubles,
    of: Int64s,
) -> Int64:
    """Raise best[i] to the largest cosine of row i and any other, of[i] to the name of the first that has it;
    gives how many cosines were taken again.

    `products` float32 or float64 [n, m] are about those of `rows` float32[n, d] and `others` float32[m, d].
    `row_squares` and `squares` float64 come from `squares`; `scale`, of the products' type, is one by the length of
    each other, 0 for length 0; `names` int64[m] ascend. `best` float64[n] and `of` int64[n] are what was found among
    those before. A vector of length 0 has cosine 0 with all.
    """
    every, again = np.ones(len(others), np.bool_), np.int64(0)
    for i in range(len(rows)):
        again += _nearest(
            products, i, len(others), rows, others, row_squares[i], squares, scale, every, names, best, of
        )
    return again


@kernel
def nearer_within(
    products: Reals,
    rows: Floats,
    squares: Doubles,
    scale: Reals,
    names: Int64s,
    above: float,
    best: Doubles,
    of: Int64s,
    stays: Bools,
) -> Int64:
    """The same among `rows` themselves: each with those before it that stay.

    stays[i] (bool[n], filled in) is whether best[i], as float32, is not larger than `above`.
    """
    again = np.int64(0)
    for i in range(len(rows)):
        again += _nearest(products, i, i, rows, rows, squares[i], squares, scale, stays, names, best, of)
        stays[i] = np.float64(np.float32(best[i])) <= above
    return again
