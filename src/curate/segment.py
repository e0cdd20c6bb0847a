"""One file of an index: the band keys of some documents, and of every document what is needed to compare it again.

Plain arrays one after another, so that any range of any of them can be read alone: keys sorted, entries sorted by id,
and at the end a digest for every 32 KB, so that whatever is read is known to be what was written. A file is written
once and never again.
"""

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from curate import store
from curate.arrow import utf8
from curate.errors import AssetError, StoreError
from curate.kernels.sets import counts, packed, unpack

BLOCK = 32 << 10
"""Bytes that one digest stands for: what is read at least to fetch one entry."""
RANGE_KEYS = 1024
"""Keys, about, between two places where the reading of keys may begin."""
PIECE = 1 << 20
"""Bytes that are read at once when much is read."""

_HEAD = struct.Struct("<8s8Q")
_MAGIC, _END = b"CURATEIX", b"CURATEXI"
_TAIL = struct.Struct("<QQ8s")
_FORMAT = 1


@dataclass(frozen=True)
class Layout:
    """Lengths of a segment's arrays: `entries`, `keys`, `bits` of a key that lead to its range, bytes of origins and of
    bodies (packed shingles or signatures); `documents` and `text` bytes that it was made from."""

    entries: int
    keys: int
    bits: int
    origin_bytes: int
    body_bytes: int
    documents: int
    text: int

    def sections(self) -> dict[str, tuple[int, np.dtype[Any], int]]:
        """Name to (first byte, type, length); each begins at a multiple of eight."""
        lengths = {
            "starts": ("<u8", (1 << self.bits) + 1),
            "keys": ("<u8", self.keys),
            "numbers": ("<u4", self.keys),
            "high": ("<u8", self.entries),
            "low": ("<u8", self.entries),
            "origin_starts": ("<i8", self.entries + 1),
            "body_starts": ("<i8", self.entries + 1),
            "origin": ("<u1", self.origin_bytes),
            "body": ("<u1", self.body_bytes),
        }
        found, at = {}, _HEAD.size
        for name, (kind, length) in lengths.items():
            at += -at % 8
            found[name] = (at, np.dtype(kind), length)
            at += length * np.dtype(kind).itemsize
        return found


@dataclass(frozen=True)
class Contents:
    """What is written. `keys` uint64[k] sorted and distinct with the entry `numbers` uint32[k] that stands for each;
    entries sorted by id: its halves `high`, `low` uint64[n], `origins` and `bodies` (text and binary columns)."""

    keys: np.ndarray
    numbers: np.ndarray
    high: np.ndarray
    low: np.ndarray
    origins: pa.Array
    bodies: pa.Array


def encode(contents: Contents, *, documents: int, text: int) -> bytes:
    """The bytes of a segment."""
    bits = max(0, (len(contents.keys) // RANGE_KEYS).bit_length() - 1)
    origin_starts, origin = _flat(contents.origins)
    body_starts, body = _flat(contents.bodies)
    layout = Layout(
        len(contents.high), len(contents.keys), bits, len(origin), len(body), documents=documents, text=text
    )
    arrays = {
        "starts": np.append(np.searchsorted(contents.keys, borders(bits)), len(contents.keys)),
        "keys": contents.keys,
        "numbers": contents.numbers,
        "high": contents.high,
        "low": contents.low,
        "origin_starts": origin_starts,
        "body_starts": body_starts,
        "origin": origin,
        "body": body,
    }
    head = (layout.entries, layout.keys, bits, layout.origin_bytes, layout.body_bytes, documents, text)
    pieces: list[Any] = [_HEAD.pack(_MAGIC, _FORMAT, *head)]
    at = _HEAD.size
    for name, (start, kind, length) in layout.sections().items():
        array = np.ascontiguousarray(arrays[name], kind)
        assert len(array) == length, name
        pieces += [bytes(start - at), array.tobytes()]
        at = start + array.nbytes
    data = b"".join(pieces)
    table = np.array([_digest(data[i : i + BLOCK]) for i in range(0, len(data), BLOCK)], "<u8").tobytes()
    return b"".join([data, table, _TAIL.pack(len(data), _digest(table), _END)])


def borders(bits: int) -> np.ndarray:
    """The smallest key, uint64, of each of 2**bits ranges of keys."""
    return np.arange(1 << bits, dtype=np.uint64) << np.uint64(64 - bits) if bits else np.zeros(1, np.uint64)


@contextmanager
def reading(uri: str) -> Iterator["Reader"]:
    """A segment open for reading. AssetError where it is missing, or is not what was written."""
    try:
        with store.open_input(uri) as file:
            yield Reader(uri, file)
    except (StoreError, OSError) as error:
        raise AssetError(str(error)) from error


class Reader:
    """Ranges of a segment's arrays, each checked against its digests."""

    def __init__(self, uri: str, file: Any) -> None:
        self.uri, self.file = uri, file
        size = file.seek(0, 2)
        tail = self._raw(max(0, size - _TAIL.size), _TAIL.size)
        self.size, digest, end = _TAIL.unpack(tail) if len(tail) == _TAIL.size else (0, 0, b"")
        blocks = -(-self.size // BLOCK)
        if end != _END or self.size + 8 * blocks + _TAIL.size != size:
            raise self._damaged("it does not end as it should")
        table = self._raw(self.size, 8 * blocks)
        if _digest(table) != digest:
            raise self._damaged("its table of digests has changed")
        self.digests = np.frombuffer(table, "<u8")
        magic, version, *head = _HEAD.unpack(self.span(0, _HEAD.size))
        if magic != _MAGIC or version != _FORMAT:
            raise self._damaged(f"it begins with {magic!r}, version {version}")
        self.layout = Layout(*head)
        self.sections = self.layout.sections()

    def span(self, start: int, stop: int) -> memoryview:
        """Bytes start..stop-1. AssetError if a block that they lie in has another digest than was written."""
        first, last = start // BLOCK, -(-stop // BLOCK)
        data = memoryview(self._raw(first * BLOCK, min(last * BLOCK, self.size) - first * BLOCK))
        for index in range(first, last):
            at = (index - first) * BLOCK
            if _digest(data[at : at + BLOCK]) != self.digests[index]:
                raise self._damaged(f"bytes {index * BLOCK:,} to {(index + 1) * BLOCK:,} have changed")
        return data[start - first * BLOCK : stop - first * BLOCK]

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Elements start..stop-1 of an array, read-only."""
        at, kind, length = self.sections[name]
        stop = length if stop is None else stop
        if stop <= start:
            return np.empty(0, kind)
        return np.frombuffer(self.span(at + start * kind.itemsize, at + stop * kind.itemsize), kind)

    def take(self, name: str, places: np.ndarray) -> np.ndarray:
        """Elements at `places` int64[m], which rise; places that are close together are read at once."""
        kind = self.sections[name][1]
        taken = np.empty(len(places), kind)
        for first, last in _runs(places * kind.itemsize, (places + 1) * kind.itemsize):
            low = int(places[first])
            taken[first:last] = self.read(name, low, int(places[last - 1]) + 1)[places[first:last] - low]
        return taken

    def texts(self, name: str, places: np.ndarray) -> pa.Array:
        """Rows at `places`, which rise and are distinct, of `origin` or `body`, as a large_binary array."""
        starts, stops = self.take(f"{name}_starts", places), self.take(f"{name}_starts", places + 1)
        rows = []
        for first, last in _runs(starts, stops):
            low = int(starts[first])
            data = pa.py_buffer(self.read(name, low, int(stops[last - 1])))
            # Every second row is one that is wanted, the others are what lies between.
            edges = np.stack([starts[first:last], stops[first:last]], axis=1).reshape(-1) - low
            every = pa.Array.from_buffers(pa.large_binary(), len(edges) - 1, [None, pa.py_buffer(edges), data])
            rows.append(every.take(pa.array(np.arange(0, len(edges) - 1, 2))))
        return pa.concat_arrays(rows) if rows else pa.array([], pa.large_binary())

    def check(self) -> str:
        """SHA-256 of the file, all of it read and compared with its digests."""
        for start in range(0, self.size, PIECE):
            self.span(start, min(start + PIECE, self.size))
        whole, at = hashlib.sha256(), 0
        while data := self._raw(at, PIECE):
            whole.update(data)
            at += len(data)
        return whole.hexdigest()

    def _raw(self, start: int, length: int) -> bytes:
        self.file.seek(start)
        data: bytes = self.file.read(length)
        return data

    def _damaged(self, found: str) -> AssetError:
        return AssetError(f"{self.uri} is damaged: {found}; fetch it again, or make the index anew")


def _runs(starts: np.ndarray, stops: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of rows to read at once: what lies between two is less than a block, and a run is some pieces long."""
    if not len(starts):
        return
    far = (starts[1:] - stops[:-1] > BLOCK) | (starts[1:] // (8 * PIECE) != starts[:-1] // (8 * PIECE))
    edges = [0, *(np.flatnonzero(far) + 1).tolist(), len(starts)]
    yield from pairwise(edges)


def _flat(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int64[n + 1] from 0, and bytes."""
    offsets, data = utf8(column)
    return offsets - offsets[0], data[offsets[0] : offsets[-1]]


def _digest(data: "bytes | memoryview") -> int:
    return xxhash.xxh3_64_intdigest(data)


def shingle_bodies(first: np.ndarray, sets: np.ndarray) -> pa.Array:
    """Sets of shingles, sorted distinct uint32 from `first` int64[n + 1], packed: a large_binary column."""
    return _bodies(*packed(first, sets))


def shingles(bodies: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """What was packed: `first` int64[n + 1] and sets uint32. A null has no shingles."""
    offsets, data = utf8(bodies)
    sizes = np.empty(len(bodies), np.int64)
    counts(offsets, data, sizes)
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    sets = np.empty(int(first[-1]), np.uint32)
    unpack(offsets, data, np.arange(len(sizes)), first[:-1].copy(), sets)
    return first, sets


def signature_bodies(signatures: np.ndarray) -> pa.Array:
    """Signatures uint32[n, hashes] as a large_binary column."""
    raw = np.ascontiguousarray(signatures, "<u4").view(np.uint8)
    return _bodies(np.arange(len(raw) + 1) * raw.shape[1], raw.reshape(-1))


def signatures(bodies: pa.Array, hashes: int) -> np.ndarray:
    """What `signature_bodies` took; of no nulls."""
    return _flat(bodies)[1].copy().view("<u4").reshape(-1, hashes)


def _bodies(offsets: np.ndarray, data: np.ndarray) -> pa.Array:
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
