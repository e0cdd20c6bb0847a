"""Products of rows of vectors, to the same bits on every machine.

A matrix product is fast, but its last bits depend on the library, the machine and the shape of its blocks. Where
those decide something, the product is taken again here: in float64, in which products of float32 are exact, and in one
order of summing. For vectors that were float16 the sum is exact too.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curate.kernels.blocks import Int64
from curate.kernels.compiled import inner

Float64: TypeAlias = Any
Floats = NDArray[np.float32]


@inner
def dot(a: Floats, i: Int64, b: Floats, j: Int64) -> Float64:
    """Row i of `a` times row j of `b`, in eight sums side by side: one alone would wait for its last addition."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = rest = 0.0
    whole = a.shape[1] // 8 * 8
    for p in range(0, whole, 8):
        s0 += np.float64(a[i, p]) * np.float64(b[j, p])
        s1 += np.float64(a[i, p + 1]) * np.float64(b[j, p + 1])
        s2 += np.float64(a[i, p + 2]) * np.float64(b[j, p + 2])
        s3 += np.float64(a[i, p + 3]) * np.float64(b[j, p + 3])
        s4 += np.float64(a[i, p + 4]) * np.float64(b[j, p + 4])
        s5 += np.float64(a[i, p + 5]) * np.float64(b[j, p + 5])
        s6 += np.float64(a[i, p + 6]) * np.float64(b[j, p + 6])
        s7 += np.float64(a[i, p + 7]) * np.float64(b[j, p + 7])
    for p in range(whole, a.shape[1]):
        rest += np.float64(a[i, p]) * np.float64(b[j, p])
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7)) + rest
