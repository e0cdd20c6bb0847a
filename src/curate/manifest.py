"""A dataset is a folder of immutable files and the manifest written after the last of them.

A manifest is deterministic: the same inputs give the same bytes on any machine, with any number of workers. How a run
went (times, hosts) is the ledger's. While a dataset is unfinished each unit of work that is done has a receipt in
`units/`; the manifest takes them in and they go.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from curate import store
from curate.errors import DataError

FORMAT = 1
NAME = "manifest.json"


_REPAIR = "`curate verify` says what else is and lets go of it, and `curate run` makes it again"


class Damaged(DataError):
    """A file of ours is not as it was written."""


@dataclass(frozen=True)
class Shard:
    """One file: name below the dataset's folder, rows, bytes, digest, and digests of its columns."""

    name: str
    rows: int
    bytes: int
    sha256: str
    columns: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Receipt:
    """What one unit of work made from what. `counts` are facts of the data; `how` is for the ledger alone.

    `key` is the digest of everything the unit's result depends on; an equal key means equal bytes.
    """

    unit: str
    key: str
    shards: tuple[Shard, ...]
    rows_in: int
    rows_out: int
    dropped: int = 0
    rejected: int = 0
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    rejects: tuple[Shard, ...] = ()
    how: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Shard, ...]:
        """All files of the unit, rejects included."""
        return (*self.shards, *self.rejects)

    def facts(self) -> dict[str, Any]:
        """The receipt without `how`: equal for equal work."""
        return {name: value for name, value in asdict(self).items() if name != "how"}


@dataclass(frozen=True)
class Manifest:
    """What a stage made, from what. `id` names the way it was made; digests prove what was made."""

    id: str
    name: str
    made_by: dict[str, Any]
    columns: dict[str, str]
    units: tuple[Receipt, ...]
    finish: tuple[Shard, ...] = ()

    @property
    def shards(self) -> tuple[Shard, ...]:
        """All files of all units in order."""
        return tuple(shard for unit in self.units for shard in unit.shards)

    @property
    def rows(self) -> int:
        """Rows in the dataset."""
        return sum(unit.rows_out for unit in self.units)

    def total(self, name: str) -> dict[str, int]:
        """A count of the units, added up: for instance `total('rule')` is rows dropped by rule."""
        added: dict[str, int] = {}
        for unit in self.units:
            for key, value in unit.counts.get(name, {}).items():
                added[key] = added.get(key, 0) + value
        return dict(sorted(added.items()))

    def save(self, folder: str) -> None:
        """Write the manifest: from now on the dataset is whole."""
        payload = {
            "format": FORMAT,
            "id": self.id,
            "name": self.name,
            "made_by": self.made_by,
            "columns": self.columns,
            "units": [unit.facts() for unit in self.units],
            "finish": [asdict(shard) for shard in self.finish],
        }
        store.put(store.join(folder, NAME), canonical(sealed(payload), indent=1))

    @staticmethod
    def load(folder: str) -> "Manifest | None":
        """The dataset's manifest, or None while it is unfinished."""
        if not store.exists(store.join(folder, NAME)):
            return None
        raw = parse_sealed(store.join(folder, NAME))
        try:
            if raw["format"] != FORMAT:
                found = raw["format"]
                raise DataError(f"{folder}/{NAME}: format {found} is not {FORMAT}; run again in a new folder")
            units = tuple(receipt(unit) for unit in raw["units"])
            finish = tuple(Shard(**shard) for shard in raw["finish"])
            return Manifest(raw["id"], raw["name"], raw["made_by"], raw["columns"], units, finish)
        except (KeyError, TypeError) as error:
            raise Damaged(f"{folder}/{NAME} is damaged ({error!r}); {_REPAIR}") from error


def receipt(raw: dict[str, Any]) -> Receipt:
    """A receipt from its JSON form."""
    files = {name: tuple(Shard(**shard) for shard in raw[name]) for name in ("shards", "rejects")}
    return Receipt(**{**raw, **files})


def save_receipt(folder: str, done: Receipt) -> None:
    """Record a unit as done; its files are in place already."""
    store.put(store.join(folder, "units", f"{done.unit}.json"), canonical(sealed(asdict(done))))


def load_receipts(folder: str) -> dict[str, Receipt]:
    """Receipts of an unfinished dataset by unit. A damaged receipt counts as none: the unit is made again."""
    found = {}
    for name in sorted(store.listing(store.join(folder, "units"))):
        if name.endswith(".json") and not name.startswith("."):
            try:
                done = receipt(unsealed(json.loads(store.read(store.join(folder, "units", name)))))
            except (ValueError, TypeError, KeyError):
                continue
            found[done.unit] = done
    return found


def canonical(payload: Any, *, indent: int | None = None) -> bytes:
    """JSON with sorted keys: equal payloads, equal bytes."""
    separators = (",", ": ") if indent else (",", ":")
    text = json.dumps(payload, sort_keys=True, indent=indent, separators=separators, ensure_ascii=False)
    return text.encode() + (b"\n" if indent else b"")


def parse(uri: str) -> Any:
    """A JSON file of ours; damage is named."""
    try:
        return json.loads(store.read(uri))
    except ValueError as error:
        raise Damaged(f"{uri} is damaged ({error}); {_REPAIR}") from error


def sealed(payload: dict[str, Any]) -> dict[str, Any]:
    """`payload` with its own fingerprint, so that one that was changed is not believed."""
    return {**payload, "digest": fingerprint(payload)}


def unsealed(raw: Any) -> dict[str, Any]:
    """What was sealed. ValueError if this is not it."""
    if not isinstance(raw, dict):
        raise ValueError(f"{type(raw).__name__} where an object was written")
    payload = {name: value for name, value in raw.items() if name != "digest"}
    if raw.get("digest") != fingerprint(payload):
        raise ValueError("it does not have the digest that it names")
    return payload


def parse_sealed(uri: str) -> dict[str, Any]:
    """A sealed JSON file of ours; damage is named."""
    try:
        return unsealed(parse(uri))
    except ValueError as error:
        raise Damaged(f"{uri} is damaged ({error}); {_REPAIR}") from error


def fingerprint(payload: Any) -> str:
    """Sixteen hex digits of the canonical JSON of `payload`."""
    return hashlib.sha256(canonical(payload)).hexdigest()[:16]
