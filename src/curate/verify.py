"""Read everything a run has written and compare it with its receipts; what is damaged loses its receipt.

The next `curate run` then makes just that again, to the same bytes.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from curate import store
from curate.execute import serial
from curate.manifest import NAME, Damaged, Manifest, Receipt, parse
from curate.outputs import state
from curate.stage import Map
from curate.standing import reopen
from curate.unit import sha256


@dataclass(frozen=True)
class Finding:
    """A file that is not what its receipt says."""

    file: str
    found: str


def verify(out: str, *, map: Map = serial) -> dict[str, Any]:
    """Hash every file of the run, revoke what is bad, and say what was found."""
    checked, bytes_read, damage = 0, 0, []
    steps = state(out)
    with store.hold(out):
        for step in steps:
            top = store.join(out, step["folder"])
            for folder in (top, store.join(top, "evidence"), store.join(top, "rule")):
                try:
                    manifest = Manifest.load(folder)
                except Damaged:
                    damage.append(Finding(store.join(folder, NAME), "cannot be read"))
                    store.remove(store.join(folder, NAME))
                    _reopen_whole(top)
                    continue
                if manifest is None:
                    continue
                found = [one for ones in map(partial(_check, folder=folder), manifest.units) for one in ones]
                ending = _check(Receipt("finish", "", manifest.finish, 0, 0), folder)
                if found or ending:
                    reopen(folder, manifest, {unit for unit, _ in found})
                    if folder != top:
                        _reopen_whole(top)
                damage += [finding for _, finding in (*found, *ending)]
                files = [file for unit in manifest.units for file in unit.files] + list(manifest.finish)
                checked += len(files)
                bytes_read += sum(file.bytes for file in files)
            damage += _verdict(top)
    return {
        "run": out,
        "files": checked,
        "bytes": bytes_read,
        "damaged": [{"file": one.file, "found": one.found} for one in damage],
    }


def _check(receipt: Receipt, folder: str) -> list[tuple[str, Finding]]:
    found = []
    for shard in receipt.files:
        uri = store.join(folder, shard.name)
        if not store.exists(uri):
            found.append((receipt.unit, Finding(uri, "missing")))
        elif (data := store.read(uri)) and len(data) != shard.bytes:
            found.append((receipt.unit, Finding(uri, f"{len(data)} bytes where {shard.bytes} were written")))
        elif sha256(data) != shard.sha256:
            found.append((receipt.unit, Finding(uri, "other bytes than were written")))
    return found


def _verdict(top: str) -> list[Finding]:
    """A verdict whose files changed is thrown away whole: judging again is cheap, and gives the same."""
    folder = store.join(top, "verdict")
    if not store.exists(store.join(folder, "done.json")):
        return []
    found = []
    try:
        digests = parse(store.join(folder, "done.json"))["files"]
    except (Damaged, KeyError, TypeError):
        digests = {"done.json": ""}
    for name, digest in digests.items():
        uri = store.join(folder, name)
        if not store.exists(uri) or sha256(store.read(uri)) != digest:
            found.append(Finding(uri, "not what was judged"))
    if found:
        store.remove(folder)
        _reopen_whole(top)
    return found


def _reopen_whole(top: str) -> None:
    if (manifest := Manifest.load(top)) is not None:
        reopen(top, manifest, set())
