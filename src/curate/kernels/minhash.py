"""MinHash signatures of sets of 32-bit hashes, and keys of their bands.

The permutations are datasketch's `affine32` family: a hash is mixed once by the finalizer of MurmurHash3, and
permutation k takes it to a[k] * h + b[k] modulo 2^32, a[k] odd. The smallest value over a set is one number of its
signature. Sixteen permutations are taken at once, and the smallest values so far never leave their registers.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from curate.kernels.bits import product
from curate.kernels.blocks import Int64
from curate.kernels.compiled import inner, kernel
from curate.kernels.hash import GOLDEN, STAFFORD_1, mix

Int64s = NDArray[np.int64]
UInt32s = NDArray[np.uint32]
UInt64s = NDArray[np.uint64]
Minimum = Callable[[UInt32s, Int64, UInt32s, UInt32s, UInt32s, Int64], None]

LANES = 16
"""Permutations in a vector."""
PART = 1024
"""Hashes that are mixed before they are permuted: they stay in the nearest cache."""
EMPTY = np.uint32(0xFFFFFFFF)
"""Every value of the signature of an empty set."""

# Of the finalizer of MurmurHash3 (Appleby).
MURMUR_1, MURMUR_2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)


def _minimum_of(vectors: int) -> Minimum:
    """The instruction that takes `vectors` * LANES permutations over many hashes."""
    lane = ir.IntType(32)
    wide = ir.VectorType(lane, LANES)

    def minimum(_typing: Any, hashes: Any, size: Any, a: Any, b: Any, least: Any, place: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            starts = {
                i: context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 2, 3, 4)
            }

            def pointer(array: int, step: int) -> Any:
                index = builder.add(arguments[5], ir.Constant(arguments[5].type, step * LANES))
                start = builder.gep(starts[array], [index], source_etype=lane)
                return builder.bitcast(start, wide.as_pointer())

            def load(array: int, step: int) -> Any:
                value = builder.load(pointer(array, step), typ=wide)
                value.align = 4
                return value

            factors, terms = [load(2, i) for i in range(vectors)], [load(3, i) for i in range(vectors)]
            smallest = [cgutils.alloca_once_value(builder, load(4, i)) for i in range(vectors)]  # type: ignore[no-untyped-call]
            nothing = ir.Constant(wide, ir.Undefined)
            with cgutils.for_range(builder, arguments[1]) as loop:
                one = builder.load(builder.gep(starts[0], [loop.index], source_etype=lane), typ=lane)
                single = builder.insert_element(nothing, one, ir.Constant(lane, 0))
                everywhere = builder.shuffle_vector(
                    single, nothing, ir.Constant(ir.VectorType(lane, LANES), [0] * LANES)
                )
                for factor, term, held in zip(factors, terms, smallest, strict=True):
                    value = builder.add(builder.mul(everywhere, factor), term)
                    before = builder.load(held, typ=wide)
                    less = builder.icmp_unsigned("<", value, before)
                    builder.store(builder.select(less, value, before), held)
            for i, held in enumerate(smallest):
                stored = builder.store(builder.load(held, typ=wide), pointer(4, i))
                stored.align = 4
            return context.get_dummy_value()

        return types.void(hashes, types.int64, a, b, least, types.int64), code

    instruction: Any = intrinsic(minimum)
    return cast(Minimum, instruction)


_minimum_2, _minimum_1 = _minimum_of(2), _minimum_of(1)
"""minimum(hashes, size, a, b, least, place): least[place + i] = min(least[place + i], a[place + i] * h + b[place + i])
over the first `size` hashes."""


def padded(values: UInt32s) -> UInt32s:
    """Constants of permutations with more behind them, to whole vectors."""
    room = -len(values) % LANES
    return np.concatenate([values.astype(np.uint32), np.zeros(room, np.uint32)])


@kernel
def sign(first: Int64s, hashes: UInt32s, a: UInt32s, b: UInt32s, out: UInt32s) -> None:
    """Signatures of rows of hashes: out uint32[n, k], all `EMPTY` for a row without any.

    `first` int64[n + 1] into `hashes` uint32[...], repeats allowed; `a`, `b` from `padded`, k values and more. Equal
    to datasketch's `MinHash(k, seed, scheme="affine32")` after `update_batch` of the same hashes.
    """
    mixed = np.empty(PART, np.uint32)
    least = np.empty(len(a), np.uint32)
    for row in range(len(out)):
        least[:] = EMPTY
        for start in range(first[row], first[row + 1], PART):
            size = min(PART, first[row + 1] - start)
            _premix(hashes[start : start + size], mixed)
            place = np.int64(0)
            while place + 2 * LANES <= len(a):
                _minimum_2(mixed, size, a, b, least, place)
                place += 2 * LANES
            if place < len(a):
                _minimum_1(mixed, size, a, b, least, place)
        for k in range(out.shape[1]):
            out[row, k] = least[k]


@inner
def _premix(hashes: UInt32s, mixed: UInt32s) -> None:
    """The finalizer of MurmurHash3, a bijection."""
    for i in range(len(hashes)):
        h = hashes[i]
        h = np.uint32(h ^ np.uint32(h >> np.uint32(16)))
        h = np.uint32(h * MURMUR_1)
        h = np.uint32(h ^ np.uint32(h >> np.uint32(13)))
        h = np.uint32(h * MURMUR_2)
        mixed[i] = np.uint32(h ^ np.uint32(h >> np.uint32(16)))


@kernel
def band_keys(signatures: UInt32s, out: UInt64s) -> None:
    """Keys of bands: out uint64[n, bands] from `signatures` uint32[n, bands * rows].

    A key is a hash of the number of its band and of the values in it, so all bands share one space of keys.
    """
    bands = out.shape[1]
    rows = signatures.shape[1] // bands if bands else 0
    for document in range(len(out)):
        for band in range(bands):
            key = mix(np.uint64(band), np.uint64(rows))
            for place in range(band * rows, (band + 1) * rows):
                low, high = product((key ^ np.uint64(signatures[document, place])) + GOLDEN, STAFFORD_1)
                key = low ^ high
            out[document, band] = mix(key, np.uint64(band))
