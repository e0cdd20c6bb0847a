"""Machine instructions that Numba does not offer: wide loads, 128-bit products, byte masks, bit counts.

Each is a few lines of LLVM, inlined where it is called. Loads are little-endian and need no alignment.
Nothing is checked: the caller guarantees that the bytes lie inside the array.

A byte mask is a uint64 over a block of 64 bytes: bit i speaks of byte i. One comparison of a block costs two
AVX2 instructions and no branch, so a text is classified at memory speed and its words are then counted by
arithmetic on masks.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import imputils
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numpy.typing import NDArray

from curate.kernels.compiled import inner

Bytes = NDArray[np.uint8]
BLOCK = 64
"""Bytes per block, and bits per mask."""

ONE = np.uint64(1)
FRONT = np.int64(0)
"""The first position. Numba compiles a function once more for every plain constant it is given; this is none."""

_BYTE, _LONG, _WIDE = ir.IntType(8), ir.IntType(64), ir.IntType(128)
_VECTOR = ir.VectorType(_BYTE, BLOCK)
_UINT64, _INT64 = types.uint64, types.int64


def _instruction(define: Callable[..., Any]) -> Any:
    """The intrinsic as what it is to a caller: a function, which type checkers cannot see."""
    return intrinsic(define)


def _load(builder: Any, pointer: Any, kind: ir.Type) -> Any:
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()), typ=kind)
    value.align = 1
    return value


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    if array_type.layout != "C":
        raise TypingError(f"bytes are read from contiguous arrays only, not from {array_type}")
    start = context.make_array(array_type)(context, builder, array).data
    return builder.gep(builder.bitcast(start, _BYTE.as_pointer()), [index], source_etype=_BYTE)


def _loader(bits: int) -> Callable[[Bytes, int], np.uint64]:
    kind = ir.IntType(bits)

    def load(_typing: Any, array: Any, index: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _pointer(context, builder, signature.args[0], *arguments)
            value = _load(builder, pointer, kind)
            return builder.zext(value, _LONG) if bits < 64 else value

        return _UINT64(array, _INT64), code

    instruction: Callable[[Bytes, int], np.uint64] = _instruction(load)
    return instruction


load32 = _loader(32)
"""load32(array, index): four bytes from byte `index`, as uint64."""
load64 = _loader(64)
"""load64(array, index): eight bytes from byte `index`, as uint64."""


def _product(_typing: Any, a: Any, b: Any) -> Any:
    kind: Any = types.UniTuple(_UINT64, 2)  # type: ignore[no-untyped-call]

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b = (builder.zext(argument, _WIDE) for argument in arguments)
        whole = builder.mul(a, b)
        high = builder.trunc(builder.lshr(whole, ir.Constant(_WIDE, 64)), _LONG)
        return context.make_tuple(builder, signature.return_type, [builder.trunc(whole, _LONG), high])

    return kind(_UINT64, _UINT64), code


product: Callable[[np.uint64, np.uint64], tuple[np.uint64, np.uint64]] = _instruction(_product)
"""(low, high) halves of the 128-bit product of two uint64."""


def _unary(result: Any, operation: Callable[[Any, Any], Any]) -> Any:
    def apply(_typing: Any, value: Any) -> Any:
        def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return operation(builder, arguments[0])

        return result(_UINT64), code

    return _instruction(apply)


_FALSE = ir.Constant(ir.IntType(1), 0)

swap64: Callable[[np.uint64], np.uint64] = _unary(_UINT64, lambda builder, value: builder.bswap(value))
"""The bytes of a uint64 in reverse order."""
count: Callable[[np.uint64], int] = _unary(_INT64, lambda builder, mask: builder.ctpop(mask))
"""Set bits of a mask."""
lowest: Callable[[np.uint64], int] = _unary(_INT64, lambda builder, mask: builder.cttz(mask, _FALSE))
"""Index of the lowest set bit; 64 for an empty mask."""
_leading: Callable[[np.uint64], int] = _unary(_INT64, lambda builder, mask: builder.ctlz(mask, _FALSE))


@inner
def highest(mask: np.uint64) -> int:
    """Index of the highest set bit; -1 for an empty mask."""
    return 63 - _leading(mask)


@inner
def lowest_bit(mask: np.uint64) -> np.uint64:
    """The lowest set bit alone; 0 for an empty mask."""
    return mask & (~mask + ONE)


def _within(_typing: Any, block: Any, first: Any, size: Any, ignored: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, *numbers = arguments
        pointer = _pointer(context, builder, signature.args[0], array, ir.Constant(_LONG, 0))
        first, size, ignored = (_spread(builder, number) for number in numbers)
        place = builder.sub(builder.or_(_load(builder, pointer, _VECTOR), ignored), first)
        return builder.bitcast(builder.icmp_unsigned("<", place, size), _LONG)

    return _UINT64(block, _INT64, _INT64, _INT64), code


within: Callable[[Bytes, int, int, int], np.uint64] = _instruction(_within)
"""within(block, first, size, ignored): mask of the bytes of `block` (uint8[64]) that, with the bits `ignored`
set, lie in first .. first + size - 1."""


def _fill_block(_typing: Any, block: Any, data: Any, start: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block, data, start = arguments
        source = _pointer(context, builder, signature.args[1], data, start)
        target = _pointer(context, builder, signature.args[0], block, ir.Constant(_LONG, 0))
        stored = builder.store(_load(builder, source, _VECTOR), builder.bitcast(target, _VECTOR.as_pointer()))
        stored.align = 1
        return context.get_dummy_value()

    return types.void(block, data, _INT64), code


fill_block: Callable[[Bytes, Bytes, int], None] = _instruction(_fill_block)
"""fill_block(block, data, start): copy 64 bytes of `data` from byte `start` to `block` (uint8[64])."""


def _read_only(_typing: Any, array: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return imputils.impl_ret_borrowed(context, builder, signature.return_type, arguments[0])  # type: ignore[no-untyped-call]

    return array.copy(readonly=True)(array), code


read_only: Callable[[Bytes], Bytes] = _instruction(_read_only)
"""read_only(array): the array as one that may not be written. To Numba the two are different types, and a function
that gets now one and now the other is compiled twice: kernels hand texts on as read-only."""


def _spread(builder: Any, number: Any) -> Any:
    """A vector with the low byte of an int64 in every place."""
    lane = ir.IntType(32)
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    single = builder.insert_element(nothing, builder.trunc(number, _BYTE), ir.Constant(lane, 0))
    return builder.shuffle_vector(single, nothing, ir.Constant(ir.VectorType(lane, BLOCK), [0] * BLOCK))
