"""An index: what is left of documents that were kept earlier, for later runs to be deduplicated against.

A folder of immutable segments, one for each shard that was added, and `index.json`, which is replaced last: a reader
sees the index as it was or as it is, and an `add` that was killed leaves a sound index. Of each document it holds its
band keys, its id, where it came from, and its shingles (`verify: exact`) or its signature (`sketch`), and never the
text: that may be gone. Keys that are looked for stream past sorted, so a look costs no more than reading what the
index has in their range.
"""

import json
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from curate import store
from curate.errors import AssetError
from curate.kernels.probe import SLOTS_PER_KEY, mark, meet
from curate.manifest import canonical, sealed, unsealed
from curate.segment import BLOCK, PIECE, Reader, borders, reading, shingles, signatures
from curate.sketch import Sketch

FORMAT = 1
INDEX = "index.json"
NOBODY = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class Segment:
    """What one added shard became: documents and bytes of text that it had, entries and keys that the file `name`
    holds, its size in bytes and its digest, and the id of the raw documents that it came from."""

    name: str
    documents: int
    text: int
    entries: int
    keys: int
    size: int
    sha256: str
    source: str


@dataclass(frozen=True)
class Entries:
    """Entries by name. Row i of `found` bool[m], of `origins` (null where there is none) and of either the shingles
    (`first` int64[m + 1], `sets` uint32: sorted, distinct) or `signatures` uint32[m, hashes] (`verify: sketch`)."""

    found: np.ndarray
    origins: pa.Array
    first: np.ndarray
    sets: np.ndarray
    signatures: np.ndarray | None


@dataclass(frozen=True)
class Index:
    """An index as it was when it was opened. `settings`: `sketch` (its identity), `per`, `verify`."""

    uri: str
    settings: dict[str, Any]
    segments: tuple[Segment, ...]

    @classmethod
    def open(cls, uri: str) -> "Index":
        """The index in a folder. AssetError where there is none, where a newer version wrote it, or where a segment is
        missing or of another size; what is in the segments is checked as it is read."""
        place = store.join(uri, INDEX)
        if not store.exists(place):
            found = f"{uri} has no {INDEX}, so it is no index" if store.exists(uri) else f"there is no folder {uri}"
            raise AssetError(f"{found}; `curate index add` makes one")
        try:
            raw = json.loads(store.read(place))
            written = raw.get("format") if isinstance(raw, dict) else None
            if isinstance(written, int) and written > FORMAT:
                raise AssetError(f"{place} has format {written}, this version reads up to {FORMAT}: use a newer one")
            body = unsealed(raw)
            segments = tuple(Segment(**one) for one in body["segments"])
            settings = dict(body["settings"])
        except (ValueError, TypeError, KeyError) as error:
            raise AssetError(f"{place} is damaged ({error}); fetch it again, or make the index anew") from error
        sizes = store.listing(uri)
        for segment in segments:
            if sizes.get(segment.name) != segment.size:
                found = f"has {sizes[segment.name]:,} bytes" if segment.name in sizes else "is missing"
                raise AssetError(
                    f"{store.join(uri, segment.name)} {found}, {segment.size:,} bytes were written; fetch it again, or "
                    "make the index anew"
                )
        return cls(uri, settings, segments)

    def save(self) -> None:
        """Write `index.json`: from now on the index has these segments."""
        payload = {"format": FORMAT, "settings": self.settings, "segments": [asdict(one) for one in self.segments]}
        store.put(store.join(self.uri, INDEX), canonical(sealed(payload), indent=1))

    @property
    def sketch(self) -> Sketch:
        """How the documents were sketched."""
        return sketch_of(self.settings)

    @property
    def verify(self) -> str:
        """`exact` if entries have shingles, `sketch` if they have signatures."""
        return str(self.settings["verify"])

    def differences(self, sketch: Sketch, per: str | None) -> list[str]:
        """In what the index differs from these settings, such as `rows 8, here 9`; empty if it fits them."""
        return different(self.settings, {"sketch": sketch.identity(), "per": per})

    def without(self, source: str) -> "Index":
        """The index but for what it has of the raw documents with this id."""
        return replace(self, segments=tuple(one for one in self.segments if one.source != source))

    def known(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Names uint64[m] of the entries that have these band keys, uint64[m], sorted and distinct, and found bool[m].

        Of the entries that share a key the one with the smallest name stands for it. Reads the part of each segment
        that the keys span, a megabyte at a time.
        """
        names = np.full(len(keys), NOBODY, np.uint64)
        found = np.zeros(len(keys), bool)
        if not len(keys):
            return names, found
        probe = _Probe(keys)
        for segment in self.segments:
            if not segment.keys:
                continue
            with reading(store.join(self.uri, segment.name)) as reader:
                where = probe.places(reader)
                hits = np.flatnonzero(where >= 0)
                entries, back = np.unique(reader.take("numbers", where[hits]), return_inverse=True)
                had = reader.take("high", entries.astype(np.int64))[back]
            names[hits] = np.minimum(names[hits], had)
            found[hits] = True
        return names, found

    def entries(self, names: np.ndarray) -> Entries:
        """The entries with these names, uint64[m], in their order; of several with one name the one added first.

        Reads the ids of all segments, and of the rest what is wanted; takes the memory of what it gives.
        """
        left = np.argsort(names, kind="stable")
        kept: list[tuple[np.ndarray, pa.Array, pa.Array]] = []
        for segment in self.segments:
            if not len(left):
                break
            if not segment.entries:
                continue
            with reading(store.join(self.uri, segment.name)) as reader:
                high = reader.read("high")
                place = np.minimum(np.searchsorted(high, names[left]), len(high) - 1)
                here = high[place] == names[left]
                if here.any():
                    rows, back = np.unique(place[here], return_inverse=True)
                    again = pa.array(back)
                    origins, bodies = (reader.texts(name, rows).take(again) for name in ("origin", "body"))
                    kept.append((left[here], origins, bodies))
                left = left[~here]
        return self._arranged(len(names), kept)

    def _arranged(self, rows: int, kept: list[tuple[np.ndarray, pa.Array, pa.Array]]) -> Entries:
        """What the segments gave, in the order in which it was asked for."""
        at = np.concatenate([np.empty(0, np.int64), *(places for places, _, _ in kept)])
        order = np.full(rows, -1, np.int64)
        order[at] = np.arange(len(at))
        found = order >= 0
        pick = pa.array(order, mask=~found)
        binary = pa.array([], pa.large_binary())
        origins = pa.concat_arrays([binary, *(some for _, some, _ in kept)]).take(pick).cast(pa.string())
        bodies = pa.concat_arrays([binary, *(some for _, _, some in kept)]).take(pick)
        if self.verify == "sketch":
            hashes = self.sketch.hashes
            signed = np.full((rows, hashes), 0xFFFFFFFF, np.uint32)
            signed[found] = signatures(bodies.drop_null(), hashes)
            return Entries(found, origins, np.zeros(rows + 1, np.int64), np.empty(0, np.uint32), signed)
        return Entries(found, origins, *shingles(bodies), None)


class _Probe:
    """Keys that are looked for, uint64, sorted and distinct."""

    def __init__(self, keys: np.ndarray) -> None:
        self.keys = np.array(keys, np.uint64)  # its own: kernels are compiled for arrays that can be written
        span = int(self.keys[-1] - self.keys[0])
        slots = SLOTS_PER_KEY * len(keys)
        self.shift = np.uint64(max(0, span.bit_length() - slots.bit_length()))
        self.low = self.keys[0]
        self.bitmap = np.zeros((span >> int(self.shift)) // 8 + 1, np.uint8)
        mark(self.keys, self.low, self.shift, self.bitmap)
        self.cuts: dict[int, np.ndarray] = {}

    def places(self, reader: Reader) -> np.ndarray:
        """Where among the keys of a segment each is, int64; -1 where it is not."""
        bits = reader.layout.bits
        if bits not in self.cuts:  # segments of one size have the same ranges
            self.cuts[bits] = np.append(np.searchsorted(self.keys, borders(bits)), len(self.keys))
        cuts, starts = self.cuts[bits], reader.read("starts").astype(np.int64)
        out = np.full(len(self.keys), -1, np.int64)
        wanted = np.flatnonzero((np.diff(cuts) > 0) & (np.diff(starts) > 0))
        for first, last in _stretches(wanted, starts):
            low, high = int(cuts[first]), int(cuts[last])
            for start in range(int(starts[first]), int(starts[last]), PIECE // 8):
                stream = reader.read("keys", start, min(start + PIECE // 8, int(starts[last])))
                inner = low + np.searchsorted(self.keys[low:high], stream[[0, -1]])
                part = slice(int(inner[0]), int(inner[1]) + 1)
                meet(stream, start, self.keys[part], self.low, self.shift, self.bitmap, out[part])
        return out


def _stretches(wanted: np.ndarray, starts: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of keys to read through: wanted ones, and what lies between two if it is less than some blocks."""
    if not len(wanted):
        return []
    far = np.flatnonzero(starts[wanted[1:]] - starts[wanted[:-1] + 1] > 2 * BLOCK // 8) + 1
    edges = [0, *far.tolist(), len(wanted)]
    return [(int(wanted[a]), int(wanted[b - 1]) + 1) for a, b in pairwise(edges)]


def sketch_of(settings: dict[str, Any]) -> Sketch:
    """How documents are sketched by these settings."""
    given = settings["sketch"]
    return Sketch(**{name: given[name] for name in Sketch.__dataclass_fields__})


def different(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Settings that are not equal, such as `rows 8, here 9`; what `other` does not name is passed over."""
    mine, yours = _flat(one), _flat(other)
    return [
        f"{name} {_shown(mine.get(name))}, here {_shown(yours[name])}"
        for name in sorted(yours)
        if mine.get(name) != yours[name]
    ]


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
