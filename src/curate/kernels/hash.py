"""Hashes of rows and of numbers: the same on every machine and in every release.

XXH3 is written from its specification (Collet, "xxHash fast digest algorithm", XXH3 part) and equals the
xxhash library. Rows of up to 16, 128 and 240 bytes have short forms of their own; longer ones run eight
accumulators over stripes of 64 bytes. `mix` is the one hash behind every draw and every order in this
project. None of them resists an adversary who chooses the input, and equal 64-bit hashes prove nothing; 128
bits stand for equal text.

Numbers are uint64 throughout, because Numba makes a float of a uint64 and a Python integer added together.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import load32, load64, product, swap64
from curate.kernels.blocks import Int64
from curate.kernels.compiled import inner, kernel, maker

Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

# Constants of XXH32, XXH64 and XXH3, and the default secret of XXH3, from its specification.
PRIME32_1, PRIME32_2, PRIME32_3 = np.uint64(0x9E3779B1), np.uint64(0x85EBCA77), np.uint64(0xC2B2AE3D)
PRIME64_1, PRIME64_2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
PRIME64_3, PRIME64_4 = np.uint64(0x165667B19E3779F9), np.uint64(0x85EBCA77C2B2AE63)
PRIME64_5 = np.uint64(0x27D4EB2F165667C5)
PRIME_MX1, PRIME_MX2 = np.uint64(0x165667919E3779F9), np.uint64(0x9FB21C651E98DF25)
FIRST = np.array([PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1], np.uint64)
SECRET = np.frombuffer(
    bytes.fromhex(
        "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
        "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
        "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
        "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
    ),
    np.uint8,
)
STRIPE, STRIPES_PER_BLOCK = 64, 16

# The increment of SplitMix64 (2^64 over the golden ratio; Steele, Lea, Flood 2014) and the multipliers of its
# finisher, variant 13 of Stafford's search ("Better bit mixing", 2011).
GOLDEN, TWICE_GOLDEN = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x3C6EF372FE94F82A)
STAFFORD_1, STAFFORD_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

ZERO, ONE, LOW = np.uint64(0), np.uint64(1), np.uint64(0xFFFFFFFF)


@kernel
def mix(a: np.uint64, b: np.uint64) -> np.uint64:
    """Hash of two uint64. For a fixed `b` no two `a` share a hash, and the other way round.

    The SplitMix64 finisher F, a bijection with good avalanche, applied twice: F(F(a + g) ^ F(b + 2g)), g its
    increment. The order of the arguments matters.
    """
    return _finish(_finish(np.uint64(a) + GOLDEN) ^ _finish(np.uint64(b) + TWICE_GOLDEN))


@kernel
def keyed(seed: np.uint64, keys: UInt64s, out: UInt64s) -> None:
    """out[i] = mix(keys[i], seed). Distinct keys get distinct hashes, so an order by them has no ties."""
    for i in range(len(keys)):
        out[i] = mix(keys[i], seed)


@kernel
def combine(rows: UInt64s, hashes: UInt64s) -> None:
    """Fold one column's hashes into the rows' hashes, in place; columns folded in another order give
    others."""
    for i in range(len(rows)):
        rows[i] = mix(rows[i], hashes[i])


@kernel
def xxh3_64(offsets: Int64s, data: Bytes, seed: np.uint64, out: UInt64s) -> None:
    """XXH3-64 of every row: out uint64[n] from `offsets` int64[n + 1] into `data` uint8[...].

    Equal to `xxhash.xxh3_64_intdigest(row, seed)`. Compiled per type of seed, so pass np.uint64.
    """
    key = np.uint64(seed)
    secret = keyed_secret(key)
    state = np.empty(8, np.uint64)
    for row in range(len(out)):
        start = offsets[row]
        size = offsets[row + 1] - start
        if size <= 16:
            out[row] = _tiny_64(data, start, size, key)
        elif size <= 128:
            out[row] = _avalanche(_pairs_64(data, start, size, key))
        elif size <= 240:
            out[row] = _middle_64(data, start, size, key)
        else:
            _long(data, start, size, secret, state)
            out[row] = _merge(state, secret, np.int64(11), np.uint64(size) * PRIME64_1)


@inner
def digest_128(data: Bytes, start: Int64, size: Int64, secret: Bytes, state: UInt64s) -> tuple[np.uint64, np.uint64]:
    """Halves (low, high) of XXH3-128, seed 0, of some bytes. `secret`: that of seed 0; `state` uint64[8] is scratch."""
    if size <= 16:
        return _tiny_128(data, start, size)
    if size <= 240:
        return _middle_128(data, start, size)
    _long(data, start, size, secret, state)
    low = _merge(state, secret, np.int64(11), np.uint64(size) * PRIME64_1)
    return low, _merge(state, secret, np.int64(117), ~(np.uint64(size) * PRIME64_2))


@kernel
def xxh3_128(offsets: Int64s, data: Bytes, out: Bytes) -> None:
    """XXH3-128, seed 0, of every row: out uint8[n, 16] from `offsets` int64[n + 1] into `data` uint8[...].

    Equal to `xxhash.xxh3_128_digest(row)`: the canonical form, high half first, most significant byte first.
    """
    secret = keyed_secret(ZERO)
    state = np.empty(8, np.uint64)
    for row in range(len(out)):
        low, high = digest_128(data, offsets[row], offsets[row + 1] - offsets[row], secret, state)
        for byte in range(8):
            out[row, byte] = np.uint8(high >> (56 - 8 * byte))
            out[row, 8 + byte] = np.uint8(low >> (56 - 8 * byte))


@inner
def _finish(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> 30)) * STAFFORD_1
    x = (x ^ (x >> 27)) * STAFFORD_2
    return x ^ (x >> 31)


@inner
def _avalanche(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> 37)) * PRIME_MX1
    return x ^ (x >> 32)


@inner
def _avalanche_xxh64(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> 33)) * PRIME64_2
    x = (x ^ (x >> 29)) * PRIME64_3
    return x ^ (x >> 32)


@inner
def _fold(a: np.uint64, b: np.uint64) -> np.uint64:
    low, high = product(a, b)
    return low ^ high


@inner
def _secret_pair(at: Int64) -> np.uint64:
    return load64(SECRET, at) ^ load64(SECRET, at + 8)


@inner
def _up_to_three(data: Bytes, start: Int64, size: Int64) -> np.uint64:
    """One to three bytes and their number as 32 bits."""
    middle, last = np.uint64(data[start + (size >> 1)]), np.uint64(data[start + size - 1])
    return (np.uint64(data[start]) << 16) | (middle << 24) | last | (np.uint64(size) << 8)


@inner
def _tiny_64(data: Bytes, start: Int64, size: Int64, seed: np.uint64) -> np.uint64:
    """0 to 16 bytes."""
    if size > 8:
        low = load64(data, start) ^ (_secret_pair(np.int64(24)) + seed)
        high = load64(data, start + size - 8) ^ (_secret_pair(np.int64(40)) - seed)
        return _avalanche(np.uint64(size) + swap64(low) + high + _fold(low, high))
    if size > 3:
        seed ^= swap64(seed & LOW) & ~LOW
        both = load32(data, start + size - 4) + (load32(data, start) << 32)
        x = both ^ (_secret_pair(np.int64(8)) - seed)
        x ^= ((x << 49) | (x >> 15)) ^ ((x << 24) | (x >> 40))
        x *= PRIME_MX2
        x ^= (x >> 35) + np.uint64(size)
        x *= PRIME_MX2
        return x ^ (x >> 28)
    if size > 0:
        flip = (load32(SECRET, 0) ^ load32(SECRET, 4)) + seed
        return _avalanche_xxh64(_up_to_three(data, start, size) ^ flip)
    return _avalanche_xxh64(seed ^ _secret_pair(np.int64(56)))


@inner
def _tiny_128(data: Bytes, start: Int64, size: Int64) -> tuple[np.uint64, np.uint64]:
    """0 to 16 bytes, seed 0: (low, high)."""
    if size > 8:
        tail = load64(data, start + size - 8)
        low, high = product(load64(data, start) ^ tail ^ _secret_pair(np.int64(32)), PRIME64_1)
        low += np.uint64(size - 1) << 54
        tail ^= _secret_pair(np.int64(48))
        high += tail + (tail & LOW) * (PRIME32_2 - ONE)
        low, carried = product(low ^ swap64(high), PRIME64_2)
        return _avalanche(low), _avalanche(carried + high * PRIME64_2)
    if size > 3:
        both = load32(data, start) + (load32(data, start + size - 4) << 32)
        low, high = product(both ^ _secret_pair(np.int64(16)), PRIME64_1 + (np.uint64(size) << 2))
        high += low << 1
        low ^= high >> 3
        low = (low ^ (low >> 35)) * PRIME_MX2
        return low ^ (low >> 28), _avalanche(high)
    if size > 0:
        word = _up_to_three(data, start, size)
        turned = swap64(word) >> 32
        turned = ((turned << 13) | (turned >> 19)) & LOW
        low = word ^ load32(SECRET, 0) ^ load32(SECRET, 4)
        high = turned ^ load32(SECRET, 8) ^ load32(SECRET, 12)
        return _avalanche_xxh64(low), _avalanche_xxh64(high)
    return _avalanche_xxh64(_secret_pair(np.int64(64))), _avalanche_xxh64(_secret_pair(np.int64(80)))


@inner
def _sixteen(data: Bytes, at: Int64, place: Int64, seed: np.uint64) -> np.uint64:
    """Sixteen bytes of data against sixteen of the secret from `place`."""
    low = load64(data, at) ^ (load64(SECRET, place) + seed)
    return _fold(low, load64(data, at + 8) ^ (load64(SECRET, place + 8) - seed))


@inner
def _pairs_64(data: Bytes, start: Int64, size: Int64, seed: np.uint64) -> np.uint64:
    """17 to 128 bytes: sixteens from both ends towards the middle."""
    total = np.uint64(size) * PRIME64_1
    for pair in range((size - 1) // 32 + 1):
        total += _sixteen(data, start + 16 * pair, 32 * pair, seed)
        total += _sixteen(data, start + size - 16 * (pair + 1), 32 * pair + 16, seed)
    return total


@inner
def _middle_64(data: Bytes, start: Int64, size: Int64, seed: np.uint64) -> np.uint64:
    """129 to 240 bytes."""
    total = np.uint64(size) * PRIME64_1
    for i in range(8):
        total += _sixteen(data, start + 16 * i, 16 * i, seed)
    total = _avalanche(total)
    for i in range(8, size // 16):
        total += _sixteen(data, start + 16 * i, 16 * (i - 8) + 3, seed)
    return _avalanche(total + _sixteen(data, start + size - 16, np.int64(119), seed))


@inner
def _thirty_two(
    data: Bytes, first: Int64, second: Int64, place: Int64, totals: tuple[np.uint64, np.uint64]
) -> tuple[np.uint64, np.uint64]:
    """Two sixteens, each folded into one half and crossed into the other; seed 0."""
    low, high = totals
    low += _sixteen(data, first, place, ZERO)
    low ^= load64(data, second) + load64(data, second + 8)
    high += _sixteen(data, second, place + 16, ZERO)
    high ^= load64(data, first) + load64(data, first + 8)
    return low, high


@inner
def _middle_128(data: Bytes, start: Int64, size: Int64) -> tuple[np.uint64, np.uint64]:
    """17 to 240 bytes, seed 0: (low, high)."""
    totals = (np.uint64(size) * PRIME64_1, ZERO)
    end = start + size
    if size <= 128:
        for pair in range((size - 1) // 32, -1, -1):
            totals = _thirty_two(data, start + 16 * pair, end - 16 * (pair + 1), 32 * pair, totals)
    else:
        for i in range(4):
            totals = _thirty_two(data, start + 32 * i, start + 32 * i + 16, 32 * i, totals)
        totals = (_avalanche(totals[0]), _avalanche(totals[1]))
        for i in range(4, size // 32):
            totals = _thirty_two(data, start + 32 * i, start + 32 * i + 16, 32 * (i - 4) + 3, totals)
        totals = _thirty_two(data, end - 16, end - 32, np.int64(103), totals)
    low, high = totals
    mixed = low * PRIME64_1 + high * PRIME64_4 + np.uint64(size) * PRIME64_2
    return _avalanche(low + high), ZERO - _avalanche(mixed)


@maker
def keyed_secret(seed: np.uint64) -> Bytes:
    """The secret of rows over 240 bytes: words of the default one, the seed added to and taken from in
    turn."""
    words = np.empty(24, np.uint64)
    for i in range(0, 24, 2):
        words[i] = load64(SECRET, 8 * i) + seed
        words[i + 1] = load64(SECRET, 8 * i + 8) - seed
    return words.view(np.uint8)


@inner
def _long(data: Bytes, start: Int64, size: Int64, secret: Bytes, state: UInt64s) -> None:
    """Over 240 bytes: fill the eight accumulators."""
    for i in range(len(FIRST)):
        state[i] = FIRST[i]
    stripes = (size - 1) // STRIPE
    for stripe in range(stripes):
        place = stripe % STRIPES_PER_BLOCK
        _accumulate(data, start + STRIPE * stripe, secret, 8 * place, state)
        # A block is closed only when data follows it, which the last stripe, taken from the row's end, always
        # is.
        if place == STRIPES_PER_BLOCK - 1:
            for lane in range(8):
                value = state[lane]
                state[lane] = (value ^ (value >> 47) ^ load64(secret, 128 + 8 * lane)) * PRIME32_1
    _accumulate(data, start + size - STRIPE, secret, np.int64(121), state)


@inner
def _accumulate(data: Bytes, at: Int64, secret: Bytes, place: Int64, state: UInt64s) -> None:
    for lane in range(8):
        key = load64(data, at + 8 * lane) ^ load64(secret, place + 8 * lane)
        state[lane] += load64(data, at + 8 * (lane ^ 1)) + (key & LOW) * (key >> 32)


@inner
def _merge(state: UInt64s, secret: Bytes, place: Int64, total: np.uint64) -> np.uint64:
    for i in range(4):
        first = state[2 * i] ^ load64(secret, place + 16 * i)
        total += _fold(first, state[2 * i + 1] ^ load64(secret, place + 16 * i + 8))
    return _avalanche(total)
