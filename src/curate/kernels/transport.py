"""Entropic optimal transport row by row: softmins of costs, and the scaling of a coupling.

Exponentials are polynomials written here and all sums run in one order, in float64: the same costs give the same bits
on every machine and for any blocks of rows.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import inner, kernel

Int64: TypeAlias = Any
Float64: TypeAlias = Any
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

# exp(x) = 2^k exp(r), |r| <= log(2) / 2. Added to 1.5 * 2^52, a number is rounded, and its last bits are k. log(2) is
# taken away in two parts, the first with so few digits that k times it is exact (Cody and Waite 1980).
LOG2_E = 1.4426950408889634
ROUND = 6755399441055744.0
LOG_2_HIGH, LOG_2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
LEAST = -708.0
"""Below it exp has no normal float64; what lies below counts as this."""


@inner
def _exp(x: Float64) -> Float64:
    """exp(x) for x <= 0 to about 1e-15 of itself: the Taylor polynomial of degree 12."""
    x = x if x > LEAST else LEAST
    shifted = x * LOG2_E + ROUND
    k = shifted - ROUND
    r = (x - k * LOG_2_HIGH) - k * LOG_2_LOW
    p = 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    bits = np.float64(p).view(np.int64) + (np.float64(shifted).view(np.int64) << 52)
    return np.int64(bits).view(np.float64)


@inner
def _largest(values: Doubles) -> Float64:
    m0 = m1 = m2 = m3 = m4 = m5 = m6 = m7 = values[0]
    whole = len(values) // 8 * 8
    for j in range(0, whole, 8):
        m0 = max(m0, values[j])
        m1 = max(m1, values[j + 1])
        m2 = max(m2, values[j + 2])
        m3 = max(m3, values[j + 3])
        m4 = max(m4, values[j + 4])
        m5 = max(m5, values[j + 5])
        m6 = max(m6, values[j + 6])
        m7 = max(m7, values[j + 7])
    for j in range(whole, len(values)):
        m0 = max(m0, values[j])
    return max(max(max(m0, m1), max(m2, m3)), max(max(m4, m5), max(m6, m7)))


@inner
def _sum(values: Doubles) -> Float64:
    """The sum in eight sums side by side."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = rest = 0.0
    whole = len(values) // 8 * 8
    for j in range(0, whole, 8):
        s0 += values[j]
        s1 += values[j + 1]
        s2 += values[j + 2]
        s3 += values[j + 3]
        s4 += values[j + 4]
        s5 += values[j + 5]
        s6 += values[j + 6]
        s7 += values[j + 7]
    for j in range(whole, len(values)):
        rest += values[j]
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7)) + rest


@inner
def _product(row: Floats, values: Doubles) -> Float64:
    """The scalar product in eight sums side by side."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = rest = 0.0
    whole = len(values) // 8 * 8
    for j in range(0, whole, 8):
        s0 += np.float64(row[j]) * values[j]
        s1 += np.float64(row[j + 1]) * values[j + 1]
        s2 += np.float64(row[j + 2]) * values[j + 2]
        s3 += np.float64(row[j + 3]) * values[j + 3]
        s4 += np.float64(row[j + 4]) * values[j + 4]
        s5 += np.float64(row[j + 5]) * values[j + 5]
        s6 += np.float64(row[j + 6]) * values[j + 6]
        s7 += np.float64(row[j + 7]) * values[j + 7]
    for j in range(whole, len(values)):
        rest += np.float64(row[j]) * values[j]
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7)) + rest


@inner
def _softmin(costs: Doubles, shift: Doubles, epsilon: Float64, terms: Doubles) -> Float64:
    """-epsilon * log(sum_j exp(shift[j] - costs[j] / epsilon)), `terms` left as the exponentials over their largest."""
    scale = 1.0 / epsilon
    for j in range(len(shift)):
        terms[j] = shift[j] - costs[j] * scale
    top = _largest(terms)
    for j in range(len(shift)):
        terms[j] = _exp(terms[j] - top)
    return -epsilon * (top + np.log(_sum(terms)))


@kernel
def softmins(costs: Doubles, shift: Doubles, epsilon: Float64, out: Doubles) -> None:
    """out[i] = -epsilon * log(sum_j exp(shift[j] - costs[i, j] / epsilon)), float64[n].

    `costs` float64[n, m], `shift` float64[m].
    """
    terms = np.empty(len(shift), np.float64)
    for i in range(len(costs)):
        out[i] = _softmin(costs[i], shift, epsilon, terms)


@kernel
def shares(costs: Doubles, shift: Doubles, epsilon: Float64, out: Doubles, shares: Floats) -> None:
    """As `softmins`, and in shares[i] (float32[n, m]) what each of a row's terms is of their sum."""
    terms = np.empty(len(shift), np.float64)
    for i in range(len(costs)):
        out[i] = _softmin(costs[i], shift, epsilon, terms)
        scale = 1.0 / _sum(terms)
        for j in range(len(shift)):
            shares[i, j] = np.float32(terms[j] * scale)


@kernel
def scale(shares: Floats, mass: Doubles, factor: Doubles, received: Doubles) -> Float64:
    """Add to received[j] what column j takes, over its factor, when row i gives mass[i] by shares[i] times `factor`.

    shares float32[n, m], mass float64[n], factor and received float64[m]. Gives the least of the sums of a row's
    shares times `factor`.
    """
    least = np.inf
    give = np.empty(4, np.float64)
    for start in range(0, len(mass), 4):
        stop = min(start + 4, len(mass))
        for i in range(start, stop):
            total = _product(shares[i], factor)
            least = min(least, total)
            give[i - start] = mass[i] / total
        if stop - start == 4:
            g0, g1, g2, g3 = give[0], give[1], give[2], give[3]
            r0, r1, r2, r3 = shares[start], shares[start + 1], shares[start + 2], shares[start + 3]
            for j in range(len(received)):
                received[j] += (g0 * r0[j] + g1 * r1[j]) + (g2 * r2[j] + g3 * r3[j])
        else:
            for i in range(start, stop):
                for j in range(len(received)):
                    received[j] += give[i - start] * np.float64(shares[i, j])
    return least


@kernel
def merge(costs: Doubles, shift: Doubles, epsilon: Float64, top: Doubles, total: Doubles) -> None:
    """Take rows into the columns' sums of exp(shift[i] - costs[i, j] / epsilon), kept as exp(top[j]) * total[j].

    `costs` float64[n, m], `shift` float64[n]; `top` float64[m] begins as -inf, `total` float64[m] as 0.
    """
    scale = 1.0 / epsilon
    for i in range(len(costs)):
        for j in range(len(top)):
            term = shift[i] - costs[i, j] * scale
            high = max(term, top[j])
            total[j] = total[j] * _exp(top[j] - high) + _exp(term - high)
            top[j] = high
