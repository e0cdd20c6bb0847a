"""Vectors of a fastText model: sums of many, and the label and the score that a mean of them has.

Rows are added in registers, sixteen columns at a time, one row after the other: the order of a sum is that of its
rows, whatever the machine. Scores are the library's, its quirks included: logarithms of x + 1e-5, and a logistic
function read from a table where labels are independent.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

Int64: TypeAlias = Any
Int32s = NDArray[np.int32]
Floats = NDArray[np.float32]

LANES, SOFTMAX = 16, 3

# Inner functions make no array and count no references to those they are given, which would take longer than a word.
inner: Any = njit(cache=True, nogil=True, forceinline=True, _nrt=False)  # type: ignore[call-overload]


def _instruction(define: Callable[..., Any]) -> Any:
    """The intrinsic as what it is to a caller: a function, which type checkers cannot see."""
    return intrinsic(define)


def _sum_lanes(_typing: Any, total: Any, rows: Any, held: Any, count: Any) -> Any:
    wide = ir.DoubleType() if total.dtype == types.float64 else ir.FloatType()

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, rows, held = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
        )
        width, columns = builder.extract_value(rows.shape, 1), builder.extract_value(total.shape, 0)
        zero, step = ir.Constant(width.type, 0), ir.Constant(width.type, LANES)

        def place(array: Any, kind: ir.Type, index: Any) -> Any:
            start = builder.gep(array.data, [index], source_etype=kind)
            return builder.bitcast(start, ir.VectorType(kind, LANES).as_pointer())

        def load(start: Any, kind: ir.Type) -> Any:
            value = builder.load(start, typ=ir.VectorType(kind, LANES))
            value.align = 4
            return value

        whole = builder.and_(columns, ir.Constant(width.type, -LANES))
        with cgutils.for_range_slice(builder, zero, whole, step, width.type) as (first, _):
            start = place(total, wide, first)
            sum = cgutils.alloca_once_value(builder, load(start, wide))  # type: ignore[no-untyped-call]
            with cgutils.for_range(builder, arguments[3]) as loop:
                row = builder.load(
                    builder.gep(held.data, [loop.index], source_etype=ir.IntType(32)), typ=ir.IntType(32)
                )
                at = builder.add(builder.mul(builder.sext(row, width.type), width), first)
                value = load(place(rows, ir.FloatType(), at), ir.FloatType())
                if wide != ir.FloatType():
                    value = builder.fpext(value, ir.VectorType(wide, LANES))
                builder.store(builder.fadd(builder.load(sum), value), sum)
            stored = builder.store(builder.load(sum), start)
            stored.align = 4
        return context.get_dummy_value()

    return types.void(total, rows, held, types.int64), code


sum_lanes: Callable[[Any, Floats, Int32s, Int64], None] = _instruction(_sum_lanes)
"""sum_lanes(total, rows, held, count): add rows[held[:count]] to `total` (float32 or float64), one by one in registers:
whole sixteens of the columns that `total` has. Nothing is checked."""


@inner
def sum_rows(total: Any, rows: Floats, held: Int32s, count: Int64) -> None:
    """Add rows[held[:count]] to `total`, one by one; `rows` may have more columns than `total`."""
    sum_lanes(total, rows, held, count)
    for column in range(len(total) // LANES * LANES, len(total)):
        for i in range(count):
            total[column] += rows[held[i], column]


@njit(cache=True, nogil=True)
def _log(share: float) -> Any:
    """What the library takes for a logarithm."""
    return np.log(share + 1e-5)


@njit(cache=True, nogil=True)
def _dot(one: Floats, i: Int64, other: Floats, j: Int64) -> Any:
    """Product of row i of one and row j of the other, in four strands."""
    a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    width = one.shape[1]
    whole = width // 4 * 4
    for k in range(0, whole, 4):
        a += one[i, k] * other[j, k]
        b += one[i, k + 1] * other[j, k + 1]
        c += one[i, k + 2] * other[j, k + 2]
        d += one[i, k + 3] * other[j, k + 3]
    for k in range(whole, width):
        a += one[i, k] * other[j, k]
    return np.float64(a + b + (c + d))


@njit(cache=True, nogil=True)
def descend(means: Floats, output: Floats, tree: Int32s, labels: Int32s, scores: Floats) -> None:
    """The likeliest leaf of the tree and its score, the likelier child first; paths below the best are left."""
    leaves = len(output)
    stack, depths = np.empty(leaves + 1, np.int64), np.empty(leaves + 1, np.float64)
    for row in range(len(labels)):
        scores[row] = 0.0
        if labels[row] < 0:
            continue
        best, label, waiting = _log(0.0), -1, 1
        stack[0], depths[0] = 2 * leaves - 2, 0.0
        while waiting > 0:
            waiting -= 1
            node, score = stack[waiting], depths[waiting]
            while score >= best:
                if node < leaves:
                    best, label = score, node
                    break
                inner = node - leaves
                right = 1.0 / (1.0 + np.exp(-_dot(output, inner, means, row)))
                side = np.int64(right > 0.5)
                stack[waiting], depths[waiting] = tree[1 - side, inner], score + _log(min(right, 1.0 - right))
                waiting += 1
                node, score = np.int64(tree[side, inner]), score + _log(max(right, 1.0 - right))
        labels[row] = label
        if label >= 0:
            scores[row] = np.exp(best)


@njit(cache=True, nogil=True)
def largest(means: Floats, output: Floats, sigmoids: Floats, loss: Int64, labels: Int32s, scores: Floats) -> None:
    """The label of the largest output, the last of equals: softmax, or the logistic function of each."""
    width, classes = output.shape
    outputs = np.empty(classes, np.float32)
    for row in range(len(labels)):
        scores[row] = 0.0
        if labels[row] < 0:
            continue
        outputs[:] = 0
        for column in range(width):
            for label in range(classes):
                outputs[label] += means[row, column] * output[column, label]
        top, total, best = outputs.max(), 0.0, -1.0
        for label in range(classes):
            if loss == SOFTMAX:
                share = np.exp(np.float64(outputs[label] - top))
                total += share
            else:
                share, total = np.float64(_sigmoid(outputs[label], sigmoids)), 1.0
            if share >= best:
                best = share
                labels[row] = label
        scores[row] = np.exp(_log(best / total))


@njit(cache=True, nogil=True)
def _sigmoid(value: np.float32, sigmoids: Floats) -> Any:
    """The logistic function as the library has it: from a table, 0 below -8 and 1 above 8."""
    if value < -8:
        return np.float32(0)
    if value > 8:
        return np.float32(1)
    return sigmoids[np.int64((value + np.float32(8)) * np.float32(512) / np.float32(8) / np.float32(2))]
