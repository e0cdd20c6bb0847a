"""Read everything a run has written and compare it with its receipts; what is damaged loses its receipt.

The next `curate run` then makes just that again, to the same bytes.
"""

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import Any

from curate import store
from curate.execute import serial
from curate.manifest import NAME, Damaged, Manifest, Receipt, Shard, load_receipts, parse
from curate.outputs import state
from curate.plan import STATE
from curate.stage import Map
from curate.standing import reopen
from curate.unit import sha256


@dataclass(frozen=True)
class Finding:
    """A file that is not what its receipt says."""

    file: str
    found: str


def verify(out: str, *, map: Map = serial) -> dict[str, Any]:
    """Hash every file of the run, revoke what is bad, and say what was found.

    Folders of earlier runs are looked at too: units that are equal are taken over from them.
    """
    files, bytes_read, damage = 0, 0, []
    with store.hold(out):
        damage += _state(out)
        for name in sorted(store.listing(out)):
            top = store.join(out, name)
            damage += _verdict(top)
            for folder in (top, *(store.join(top, inner) for inner in ("evidence", "rule", "sent"))):
                checked, found = _folder(folder, map)
                damage += found
                if found and folder != top:
                    _reopen_whole(top)
                if found and folder.endswith("/evidence"):  # what is whole of the verdict stays
                    store.remove(store.join(top, "verdict", "done.json"))
                files += len(checked)
                bytes_read += sum(file.bytes for file in checked)
    return {
        "run": out,
        "files": files,
        "bytes": bytes_read,
        "damaged": [{"file": one.file, "found": one.found} for one in damage],
    }


def _state(out: str) -> list[Finding]:
    """Damage of the list of steps; every run writes it anew."""
    try:
        state(out)
    except Damaged:
        return [Finding(store.join(out, STATE), "cannot be read")]
    return []


def _folder(folder: str, map: Map) -> tuple[list[Shard], list[Finding]]:
    """The files of a dataset, whole or not, and the damage among them, which it has let go of."""
    try:
        manifest = Manifest.load(folder)
    except Damaged:
        store.remove(store.join(folder, NAME))
        return [], [Finding(store.join(folder, NAME), "cannot be read")]
    receipts = list(manifest.units if manifest else load_receipts(folder).values())
    finish = manifest.finish if manifest else ()
    found = [one for ones in map(partial(_check, folder=folder), receipts) for one in ones]
    ending = _check(Receipt("finish", "", finish, 0, 0), folder)
    bad = {unit for unit, _ in found}
    if manifest is None:
        for unit in bad:
            store.remove(store.join(folder, "units", f"{unit}.json"))
    elif found or ending:
        reopen(folder, manifest, bad)
    checked = [file for receipt in receipts for file in receipt.files] + list(finish)
    return checked, [finding for _, finding in (*found, *ending)]


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
    """A verdict whose files changed is thrown away whole: judging again is cheap, and gives the same. So is one that
    is unfinished, as nothing says what its files should be."""
    folder = store.join(top, "verdict")
    if not store.exists(store.join(folder, "done.json")):
        if not store.exists(store.join(top, "evidence")):
            return []
        store.remove(folder)
        whole = store.exists(store.join(top, NAME))
        _reopen_whole(top)
        return [Finding(store.join(folder, "done.json"), "missing")] if whole else []
    said = store.join(top, "evidence", NAME)
    found = [] if store.exists(said) else [Finding(said, "missing")]
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
    with contextlib.suppress(Damaged):  # a damaged manifest is let go of when its own turn comes
        if (manifest := Manifest.load(top)) is not None:
            reopen(top, manifest, set())
