"""An index kept in dictionaries: slow, and plain to see right."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curate import store
from curate.index import Index, Segment
from curate.segment import Contents, encode, shingle_bodies, signature_bodies
from curate.sketch import Sketch


class Entry(NamedTuple):
    """A document of an index: halves of its id, origin, band keys, and its shingles or its signature."""

    high: int
    low: int
    origin: str
    keys: tuple[int, ...]
    body: tuple[int, ...]


def known(entries: Sequence[Entry], keys: Sequence[int]) -> list[int | None]:
    """The smallest name of the entries that have each key."""
    holders: dict[int, int] = {}
    for entry in entries:
        for key in entry.keys:
            holders[key] = min(entry.high, holders.get(key, entry.high))
    return [holders.get(key) for key in keys]


def named(segments: Sequence[Sequence[Entry]], name: int) -> Entry | None:
    """The entry with this name that was added first, and in its segment has the smallest id."""
    for entries in segments:
        for entry in sorted(entries):
            if entry.high == name:
                return entry
    return None


def saved(uri: str, segments: Sequence[Sequence[Entry]], *, verify: str = "exact", hashes: int = 112) -> Index:
    """An index of these segments, written by the library's own encoder from columns made here."""
    made = []
    for number, given in enumerate(segments):
        entries = sorted(given)
        holder = {key: i for i, entry in reversed(list(enumerate(entries))) for key in entry.keys}
        keys = sorted(holder)
        values = np.array([value for entry in entries for value in entry.body], np.uint32)
        first = np.cumsum([0, *(len(entry.body) for entry in entries)])
        exact = verify == "exact"
        data = encode(
            Contents(
                keys=np.array(keys, np.uint64),
                numbers=np.array([holder[key] for key in keys], np.uint32),
                high=np.array([entry.high for entry in entries], np.uint64),
                low=np.array([entry.low for entry in entries], np.uint64),
                origins=pa.array([entry.origin for entry in entries], pa.string()),
                bodies=shingle_bodies(first, values) if exact else signature_bodies(values.reshape(-1, hashes)),
            ),
            documents=len(entries),
            text=0,
        )
        name = f"{number}.segment"
        store.put(store.join(uri, name), data)
        made.append(Segment(name, len(entries), 0, len(entries), len(keys), len(data), "", ""))
    settings = {"sketch": Sketch(hashes // 8, 8).identity(), "per": None, "verify": verify}
    index = Index(uri, settings, tuple(made))
    index.save()
    return index
