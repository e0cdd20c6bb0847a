"""Where tokenizers and models are: a location, or `package:NAME/path` for a file inside an installed package."""

from importlib.util import find_spec

from curate import store
from curate.errors import AssetError


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
