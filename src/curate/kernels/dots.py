"""Products of rows of vectors, to the same bits on every machine.

A matrix product is fast, but its last bits depend on the library, the machine and the shape of its blocks. Where
those decide something, the product is taken again here: in float64, in which products of float32 are exact, and in one
order of summing. For vectors that were float16 the sum is exact too.

The sums are written as vectors of LLVM: from a loop over single numbers its optimiser makes one of single numbers, at
a quarter of the speed.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numpy.typing import NDArray

from curate.kernels.blocks import Int64
from curate.kernels.compiled import inner

Float64: TypeAlias = Any
Floats = NDArray[np.float32]

_LANES, _SUMS = 8, 4
_STEP = _LANES * _SUMS
_WIDTH: Any = ir.IntType(64)
_DOUBLES = ir.VectorType(ir.DoubleType(), _LANES)
_SINGLES = ir.VectorType(ir.FloatType(), _LANES)


def _define(_typing: Any, a: Any, i: Any, b: Any, j: Any) -> Any:
    if any(one.dtype != types.float32 or one.layout != "C" for one in (a, b)):
        raise TypingError(f"rows of contiguous float32 are multiplied, not of {a} and {b}")

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, width = [], _WIDTH(0)
        for kind, array, index in zip(signature.args[::2], arguments[::2], arguments[1::2], strict=True):
            made = context.make_array(kind)(context, builder, array)
            width = builder.extract_value(made.shape, 1)
            rows.append(builder.gep(made.data, [builder.mul(index, width)], source_etype=ir.FloatType()))
        zeros: Any = ir.Constant(_DOUBLES, [0.0] * _LANES)
        sums = [cgutils.alloca_once_value(builder, zeros) for _ in range(_SUMS)]  # type: ignore[no-untyped-call]
        with cgutils.for_range(builder, builder.sdiv(width, ir.Constant(width.type, _STEP))) as loop:
            first = builder.mul(loop.index, ir.Constant(width.type, _STEP))
            for number, sum_ in enumerate(sums):
                place = builder.add(first, ir.Constant(width.type, number * _LANES))
                x, y = (_loaded(builder, row, place) for row in rows)
                builder.store(builder.fadd(builder.load(sum_), builder.fmul(x, y)), sum_)
        last = [builder.load(sum_) for sum_ in sums]
        lanes = builder.fadd(builder.fadd(last[0], last[1]), builder.fadd(last[2], last[3]))
        ends = [builder.extract_element(lanes, ir.Constant(ir.IntType(32), lane)) for lane in range(_LANES)]
        while len(ends) > 1:
            ends = [builder.fadd(x, y) for x, y in zip(ends[::2], ends[1::2], strict=True)]
        return ends[0]

    return types.float64(a, types.int64, b, types.int64), code


def _loaded(builder: Any, row: Any, place: Any) -> Any:
    pointer = builder.gep(row, [place], source_etype=ir.FloatType())
    numbers = builder.load(builder.bitcast(pointer, _SINGLES.as_pointer()), typ=_SINGLES)
    numbers.align = 4
    return builder.fpext(numbers, _DOUBLES)


_made: Any = intrinsic(_define)
_whole: Callable[[Floats, Int64, Floats, Int64], Float64] = _made
"""Row i of `a` times row j of `b`, float32[., d] both: as far as d has whole steps of 32 numbers, in 32 sums side by
side, as one alone would wait for its last addition."""


@inner
def dot(a: Floats, i: Int64, b: Floats, j: Int64) -> Float64:
    """Row i of `a` times row j of `b`, float32[., d] both."""
    rest = 0.0
    for p in range(a.shape[1] // 32 * 32, a.shape[1]):
        rest += np.float64(a[i, p]) * np.float64(b[j, p])
    return _whole(a, i, b, j) + rest
