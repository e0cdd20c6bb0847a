"""The most similar of many vectors, exactly, where the processor multiplies bytes: they propose, float64 decides.

Each vector is rounded to whole numbers from -127 to 127 of a step of its own. With x' and y' of length 1, and what
rounding took from them, r and s long: x'y' is at most the product of the rounded ones and r + (1 + r) s, by Cauchy and
Schwarz. Only where that reaches the best cosine so far is the cosine taken in float64, as `nearest` does it: so both
find the same, on any machine. AVX-512 VNNI adds 64 products of bytes with one instruction, and this runs at nine times
the speed of a product of matrices in float32.

The catch: rounding takes some 0.007 of a vector of 384 numbers, so of many vectors that are closer to each other than
twice that, many cosines are taken again. Then products of float32 are cheaper.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic
from numpy.typing import NDArray

from curate.kernels.compiled import inner, kernel
from curate.kernels.dots import dot

Int64: TypeAlias = Any
Float64: TypeAlias = Any
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Int8s = NDArray[np.int8]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Uint32s = NDArray[np.uint32]
Bools = NDArray[np.bool_]

BLOCK, CHUNK = 96, 512
"""Vectors that are compared at once with so many before them: both, and their products, stay in a core's cache."""
WIDEST = 1 << 15
"""Numbers of a vector, at most: beyond twice that sums of products would not fit into 32 bits."""
_DEAR, _FEW = 16, 8
"""If of so many products more than one is taken again, and a few for each vector, those of float32 are cheaper."""

_ROWS, _VECTORS, _LANES = 6, 4, 16  # 24 sums of 16 lanes fill three quarters of the registers
_GROUP = _VECTORS * _LANES
_STRETCH = 64
_UNIT = float(1 << 28)  # of cosines as whole numbers: bounds are below 8
_LEAST = -(2**31) + 1
_TINY = 1e-30  # of the largest number of a vector: below, one through it may be infinite
_ROUNDING = 1e-6  # of float32 and of cosines in float64, generously
_SIGNS = np.uint32(0x80808080)

_BYTE: Any = ir.IntType(8)
_INDEX: Any = ir.IntType(64)
_WORD: Any = ir.IntType(32)
_WORDS = ir.VectorType(_WORD, _LANES)
_BYTES = ir.VectorType(_BYTE, 4 * _LANES)


def _has_instruction() -> bool:
    """Whether kernels are compiled for a processor that has it."""
    if any(getattr(config, name, None) for name in ("CPU_NAME", "CPU_FEATURES")):
        return False  # for another one than this
    try:
        return bool(binding.get_host_cpu_features().get("avx512vnni"))
    except RuntimeError:  # unknown on this system
        return False


SWIFT = _has_instruction()
"""Whether `nearest_of_bytes` may be called."""


def _define(_typing: Any, codes: Any, i: Any, packed: Any, group: Any, start: Any, out: Any, t: Any, j: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def row(number: int, index: Any) -> Any:
            """Where a row of an array of 32-bit numbers begins."""
            array = context.make_array(signature.args[number])(context, builder, arguments[number])
            width = builder.extract_value(array.shape, 1)
            return builder.gep(array.data, [builder.mul(index, width)], source_etype=_WORD)

        def load(pointer: Any, kind: Any) -> Any:
            numbers = builder.load(builder.bitcast(pointer, kind.as_pointer()), typ=kind)
            numbers.align = 4
            return numbers

        def splat(number: Any) -> Any:
            none: Any = ir.Constant(_WORDS, ir.Undefined)
            one = builder.insert_element(none, number, _WORD(0))
            return builder.shuffle_vector(one, none, ir.Constant(_WORDS, [0] * _LANES))

        shape = context.make_array(signature.args[0])(context, builder, arguments[0]).shape
        quads = builder.extract_value(shape, 1)
        left = [row(0, builder.add(arguments[1], _INDEX(r))) for r in range(_ROWS)]
        right = [row(2, builder.add(arguments[3], _INDEX(c))) for c in range(_VECTORS)]
        starts = context.make_array(signature.args[4])(context, builder, arguments[4]).data
        sums = []
        for r in range(_ROWS):
            place = builder.gep(starts, [builder.add(arguments[1], _INDEX(r))], source_etype=_WORD)
            begin = splat(load(place, _WORD))
            sums.append([cgutils.alloca_once_value(builder, begin) for _ in range(_VECTORS)])  # type: ignore[no-untyped-call]
        kind = ir.FunctionType(_WORDS, [_WORDS, _BYTES, _BYTES])
        add: Any = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpdpbusd.512")  # type: ignore[no-untyped-call]
        with cgutils.for_range(builder, quads) as loop:
            wide = builder.mul(loop.index, _INDEX(_LANES))
            others = [load(builder.gep(each, [wide], source_etype=_WORD), _BYTES) for each in right]
            for r in range(_ROWS):
                four = splat(load(builder.gep(left[r], [loop.index], source_etype=_WORD), _WORD))
                four = builder.bitcast(four, _BYTES)
                for c in range(_VECTORS):
                    builder.store(builder.call(add, [builder.load(sums[r][c]), others[c], four]), sums[r][c])
        for r in range(_ROWS):
            there = row(5, builder.add(arguments[6], _INDEX(r)))
            for c in range(_VECTORS):
                place = builder.gep(there, [builder.add(arguments[7], _INDEX(c * _LANES))], source_etype=_WORD)
                stored = builder.store(builder.load(sums[r][c]), builder.bitcast(place, _WORDS.as_pointer()))
                stored.align = 4
        return context.get_dummy_value()

    return types.void(codes, types.int64, packed, types.int64, start, out, types.int64, types.int64), code


_made: Any = intrinsic(_define)
_tile: Callable[[Uint32s, Int64, Uint32s, Int64, Int32s, Int32s, Int64, Int64], None] = _made
"""Products of six vectors (rows of `codes` from i on) and 64 (of `packed`, from a group on), added to `start` of each
of the six, put into `out` from row t and column j on."""


@kernel
def encode(
    rows: Floats, bits: Uint32s, squares: Doubles, codes: Int8s, start: Int32s, step: Floats, loose: Floats
) -> None:
    """Round `rows` float32[n, d] (`bits`: the same as uint32) to `codes` int8[n or more, d to a whole number of 4].

    `squares` float64[n]: their products with themselves. start[i] (int32): what undoes that others are 128 too large;
    step[i] (float32): one in codes[i], for a vector of length 1; loose[i]: what was rounded away is no longer than so.
    """
    width = rows.shape[1]
    for i in range(len(rows)):
        peak = np.uint32(0)
        for p in range(width):  # as whole numbers, which are compared side by side
            peak = max(peak, bits[i, p] & np.uint32(0x7FFFFFFF))
        largest = np.float64(np.uint32(peak).view(np.float32))
        codes[i] = 0
        start[i], step[i], loose[i] = 0, 1.0, 1.0
        if largest < _TINY:
            continue
        factor = np.float32(127.0 / largest)
        total, rest = np.int32(0), np.int64(0)
        for p in range(width):
            number = rows[i, p] * factor
            whole = np.rint(number)
            codes[i, p] = np.int8(whole)
            total += np.int32(whole)
            # Rounded up in steps of 2^-10, which covers that `number` is rounded itself.
            gone = np.int32(abs(number - whole) * np.float32(1024.0)) + np.int32(1)
            rest += np.int32(gone * gone)
        start[i] = -128 * total
        one = 1.0 / (np.float64(factor) * math.sqrt(squares[i]))
        step[i] = one
        loose[i] = min(math.sqrt(np.float64(rest)) / 1024.0 * one, 1.0) + _ROUNDING


@inner
def _pack(codes: Uint32s, i: Int64, packed: Uint32s, place: Int64) -> None:
    """Row i as vector `place` of `packed`: four bytes of each of 16 vectors, then the next four; from 1 to 255."""
    group, lane = place // _LANES, place % _LANES
    for quad in range(codes.shape[1]):
        packed[group, quad * _LANES + lane] = codes[i, quad] ^ _SIGNS


@inner
def _settle(
    products: Int32s,
    t: Int64,
    many: Int64,
    i: Int64,
    rows: Floats,
    squares: Doubles,
    step: Floats,
    loose: Floats,
    steps: Floats,
    looses: Floats,
    names: Int64s,
    stays: Bools,
    best: Doubles,
    of: Int64s,
) -> Int64:
    """Raise best[i] by the first `many` others; gives how many cosines were taken. Products become bounds."""
    scale, extra = np.float32(step[i] * _UNIT), np.float32((1.0 + loose[i]) * _UNIT)
    highest = np.int32(_LEAST)
    for j in range(many):
        bound = np.int32(np.float32(products[t, j]) * steps[j] * scale + looses[j] * extra)
        products[t, j] = bound
        highest = max(highest, bound)
    found: Any = best[i]
    again, taken = np.int64(0), -1
    bar = np.int32(math.floor((found - loose[i]) * _UNIT))
    if highest < bar:
        return again
    for promising in (True, False):  # the most promising first: then few others come near
        least = highest if promising else bar
        for stretch in range(0, many, _STRETCH):
            stop = min(stretch + _STRETCH, many)
            some = False
            for j in range(stretch, stop):
                some |= products[t, j] >= least
            if not some:
                continue
            for j in range(stretch, stop):
                other = names[j]
                if products[t, j] < least or j == taken or not stays[other]:
                    continue
                if found >= 1.0 and other >= of[i]:
                    break
                again += 1
                lengths = math.sqrt(squares[i] * squares[other])
                cosine: Any = min(dot(rows, i, rows, other) / lengths, 1.0) if lengths > 0.0 else 0.0
                if cosine > found or (cosine == found and other < of[i]):
                    found, of[i] = cosine, other
                    bar = np.int32(math.floor((found - loose[i]) * _UNIT))
                if promising:
                    taken = j
                    break
                least = bar
            if taken >= 0 and promising:
                break
    best[i] = found
    return again


@kernel
def nearest_of_bytes(
    rows: Floats,
    squares: Doubles,
    codes: Uint32s,
    start: Int32s,
    step: Floats,
    loose: Floats,
    packed: Uint32s,
    above: Float64,
    best: Doubles,
    of: Int64s,
    stays: Bools,
) -> Int64:
    """For each of `rows` float32[n, d] the largest cosine to one before it that stays, and the first that has it; how
    many rows were done, as it ends early where many cosines are taken again.

    `codes` (int8 as uint32[n and a block, d / 4]), `start`, `step` and `loose` come from `encode`. `packed`, room for
    as many: uint32[groups of 16, 4 * d]. `best` float64[n] is below all cosines, and `of` int64[n] -1. stays[i]
    (bool[n], filled in) is whether best[i], as float32, is not larger than `above`. A vector of length 0 has cosine 0
    with all.
    """
    products = np.empty((BLOCK, CHUNK), np.int32)
    # Of those that stay so far, side by side: which they are, and how they were rounded.
    names = np.empty(len(codes), np.int64)
    steps, looses = np.empty(len(codes), np.float32), np.empty(len(codes), np.float32)
    count = np.int64(0)
    for first in range(0, len(rows), BLOCK):
        last = min(first + BLOCK, len(rows))
        for i in range(first, last):
            place = count + i - first
            _pack(codes, i, packed, place)
            names[place], steps[place], looses[place] = i, step[i], loose[i]
        again = np.int64(0)
        before: Any = count + last - first
        for left in range(0, before, CHUNK):
            right: Any = min(left + CHUNK, before)
            for column in range(left, right, _GROUP):
                for row in range(first, last, _ROWS):
                    _tile(codes, row, packed, column // _LANES, start, products, row - first, column - left)
            for i in range(first, last):
                many = min(right, count + i - first) - left
                if many > 0:
                    again += _settle(
                        products, i - first, many, i, rows, squares, step, loose, steps[left:], looses[left:],
                        names[left:], stays, best, of,
                    )  # fmt: skip
                stays[i] = np.float64(np.float32(best[i])) <= above
        for i in range(first, last):
            if stays[i]:
                if names[count] != i:
                    _pack(codes, i, packed, count)
                    names[count], steps[count], looses[count] = i, step[i], loose[i]
                count += 1
        if again > (last - first) * (before // _DEAR + _FEW):
            return last
    return np.int64(len(rows))
