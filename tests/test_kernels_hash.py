"""The hash kernels equal the xxhash library and their plain twins, whatever the rows are and wherever they
lie."""

import os
import struct
import subprocess
import sys

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.errors import NumbaError

from curate.kernels.hash import combine, keyed, mix, xxh3_64, xxh3_128

SIZES = [*range(601), 1023, 1024, 1025, 1087, 1088, 1089, 2048, 2049, 4097, 70_001]
uint64s = st.integers(0, 2**64 - 1)
compiles = settings(deadline=None)


@pytest.fixture(scope="module")
def texts() -> list[bytes]:
    noise = np.random.default_rng(20260101).bytes(sum(SIZES))
    ends = np.cumsum(SIZES)
    return [noise[end - size : end] for end, size in zip(ends, SIZES, strict=True)]


def hashes_64(texts: list[bytes], seed: int, *, before: bytes = b"") -> list[int]:
    out = np.empty(len(texts), np.uint64)
    xxh3_64(*oracles.rows(texts, before=before), np.uint64(seed), out)
    return out.tolist()


def hashes_128(texts: list[bytes], *, before: bytes = b"") -> list[bytes]:
    out = np.empty((len(texts), 16), np.uint8)
    xxh3_128(*oracles.rows(texts, before=before), out)
    return [row.tobytes() for row in out]


@pytest.mark.parametrize("seed", [0, 1, 0x9E3779B185EBCA87, 2**63, 2**64 - 1])
def test_xxh3_64_equals_the_library_for_every_length(texts: list[bytes], seed: int) -> None:
    assert hashes_64(texts, seed, before=b"abc") == [oracles.xxh3_64(text, seed) for text in texts]


def test_xxh3_128_equals_the_library_for_every_length(texts: list[bytes]) -> None:
    assert hashes_128(texts, before=b"abc") == [oracles.xxh3_128(text) for text in texts]


@compiles
@given(st.lists(st.binary(max_size=300), max_size=6), st.binary(max_size=9), uint64s)
def test_rows_hash_alone_wherever_they_begin(texts: list[bytes], before: bytes, seed: int) -> None:
    assert hashes_64(texts, seed, before=before) == [oracles.xxh3_64(text, seed) for text in texts]
    assert hashes_128(texts, before=before) == [oracles.xxh3_128(text) for text in texts]


def test_a_slice_of_offsets_hashes_its_rows_only(texts: list[bytes]) -> None:
    offsets, data = oracles.rows(texts)
    part = np.empty(100, np.uint64)
    xxh3_64(offsets[200:301], data, np.uint64(3), part)
    assert part.tolist() == [oracles.xxh3_64(text, 3) for text in texts[200:300]]


@compiles
@given(uint64s, uint64s)
def test_mix_equals_its_formula(a: int, b: int) -> None:
    assert mix(np.uint64(a), np.uint64(b)) == oracles.mix(a, b)


def test_mix_is_pinned() -> None:
    """Every draw and order of every past run hangs on these."""
    assert [mix(np.uint64(a), np.uint64(b)) for a, b in [(0, 0), (1, 0), (0, 1), (2**64 - 1, 7)]] == [
        9206327630398885983,
        5127574494469434565,
        11785490954389370939,
        13373394188866652448,
    ]


def test_flipping_any_bit_of_either_argument_flips_half_of_the_hash() -> None:
    """Of 64 bits 32 flip in the mean, with a standard error of 4 / sqrt(512) for each of 128 flips of 512
    pairs."""
    pairs = np.random.default_rng(5).integers(0, 2**64, (512, 2), np.uint64)
    for side in range(2):
        for bit in range(64):
            flipped = pairs.copy()
            flipped[:, side] ^= np.uint64(1 << bit)
            both = zip(pairs, flipped, strict=True)
            changed = [(int(mix(*before)) ^ int(mix(*after))).bit_count() for before, after in both]
            assert abs(np.mean(changed) - 32) < 6 * 4 / np.sqrt(512)


@compiles
@given(st.lists(uint64s, max_size=20), uint64s)
def test_keyed_mixes_each_key_with_the_seed(keys: list[int], seed: int) -> None:
    out = np.empty(len(keys), np.uint64)
    keyed(np.uint64(seed), np.array(keys, np.uint64), out)
    assert out.tolist() == [oracles.mix(key, seed) for key in keys]


def test_keyed_hashes_of_counted_keys_are_distinct_and_even() -> None:
    """A chi-square of 256 bins (255 degrees of freedom, standard deviation 22.6) and an unrelated order per
    seed."""
    keys = np.arange(100_000, dtype=np.uint64)
    orders = []
    for seed in (0, 1):
        out = np.empty_like(keys)
        keyed(np.uint64(seed), keys, out)
        assert len(np.unique(out)) == len(keys)
        bins = np.bincount((out >> np.uint64(56)).astype(np.int64), minlength=256)
        assert abs(((bins - len(keys) / 256) ** 2 / (len(keys) / 256)).sum() - 255) < 6 * 22.6
        orders.append(np.argsort(np.argsort(out)))
    assert abs(np.corrcoef(*orders)[0, 1]) < 6 / np.sqrt(len(keys))


@compiles
@given(st.lists(st.tuples(uint64s, uint64s, uint64s), min_size=1, max_size=10))
def test_combine_folds_columns_in_order(values: list[tuple[int, int, int]]) -> None:
    rows, first, second = (np.array(column, np.uint64) for column in zip(*values, strict=True))
    start = rows.copy()
    combine(rows, first)
    combine(rows, second)
    assert rows.tolist() == [oracles.mix(oracles.mix(a, b), c) for a, b, c in values]
    combine(start, second)
    combine(start, first)
    assert [a == b for a, b in zip(rows, start, strict=True)] == [b == c for _, b, c in values]


@settings(max_examples=5, deadline=None)
@given(st.binary(min_size=16, max_size=16))
def test_text_ids_sort_like_their_canonical_numbers(text: bytes) -> None:
    (high, low), number = (
        struct.unpack(">QQ", hashes_128([text])[0]),
        int(oracles.xxhash.xxh3_128_intdigest(text)),
    )
    assert number == high << 64 | low


def test_strided_bytes_are_refused() -> None:
    with pytest.raises(NumbaError, match="contiguous arrays only"):
        xxh3_64(np.array([0, 20], np.int64), np.zeros(40, np.uint8)[::2], np.uint64(0), np.empty(1, np.uint64))


CACHE = "import os, curate.kernels; print(os.environ['NUMBA_CACHE_DIR'])"


def cache_folder(**variables: str) -> str:
    known = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    command = [sys.executable, "-c", CACHE]
    return subprocess.run(command, env=known | variables, capture_output=True, text=True, check=True).stdout.strip()


def test_compiled_kernels_are_kept_by_the_bytes_of_the_sources(tmp_path: os.PathLike[str]) -> None:
    folder = cache_folder(XDG_CACHE_HOME=str(tmp_path))
    assert folder.startswith(os.path.join(tmp_path, "curate", "kernels-"))
    assert os.path.isdir(folder)
    assert cache_folder(NUMBA_CACHE_DIR="mine") == "mine"


def test_where_the_cache_cannot_be_made_the_temporary_folder_serves(tmp_path: os.PathLike[str]) -> None:
    blocked = os.path.join(tmp_path, "file")
    open(blocked, "w").close()
    assert cache_folder(XDG_CACHE_HOME=blocked, TMPDIR=str(tmp_path)).startswith(os.path.join(tmp_path, "curate-"))
