"""Where tokenizers and models are: a location, or `package:NAME/path` for a file inside an installed package."""

from dataclasses import dataclass
from importlib.util import find_spec

from curate import store
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


def find(location: str) -> Asset:
    """The asset at a location. AssetError if there is none."""
    uri = locate(location)
    if not store.exists(uri):
        raise AssetError(f"no file at {uri}")
    return Asset(uri, store.stamp(uri))


def locate(location: str) -> str:
    """The location of an asset. A package is looked up without importing it."""
    if not location.startswith("package:"):
        return location
    name, _, path = location.removeprefix("package:").partition("/")
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise AssetError(f"{location}: package '{name}' is not installed here; `pip install` it")
    for folder in spec.submodule_search_locations:
        if path and store.exists(store.join(folder, path)):
            return store.join(folder, path)
    raise AssetError(f"{location}: package '{name}' has no file '{path}'")
