"""Models of the Hugging Face hub: `hub:ORG/NAME` or `hub:ORG/NAME@REVISION`, in the cache that its tools share.

What the cache has is taken, so a run needs the network once, and a branch stays at what was fetched first: a commit as
revision says what is meant. With HF_HUB_OFFLINE nothing is fetched. Weights are fetched as safetensors only.
"""

from curate.errors import AssetError

PREFIX = "hub:"
FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "onnx/model.onnx", "onnx/model.onnx_data")
"""Files that are fetched; a hub often has the same weights in several formats more."""


def snapshot(location: str) -> str:
    """The folder that holds a model of the hub. AssetError if it is not in the cache and cannot be fetched."""
    name, _, revision = location.removeprefix(PREFIX).partition("@")
    if name.count("/") != 1 or not all(name.split("/")) or location.endswith("@"):
        raise AssetError(f"{location} is no model of the hub: hub:ORG/NAME or hub:ORG/NAME@REVISION is wanted")
    try:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise AssetError(f"{location} needs the package huggingface_hub; `pip install 'curate[embed]'`") from error

    def found(*, here: bool) -> str:
        files = list(FILES)
        return str(snapshot_download(name, revision=revision or None, allow_patterns=files, local_files_only=here))

    try:
        return found(here=True)
    except LocalEntryNotFoundError:
        pass
    except ValueError as error:
        raise AssetError(f"{location} is no model of the hub: {error}") from error
    where = f"{location} is not in the cache of the hub ({constants.HF_HUB_CACHE})"
    if constants.HF_HUB_OFFLINE:
        raise AssetError(f"{where}, and HF_HUB_OFFLINE is set: fetch it where there is a network, or give a folder")
    try:
        return found(here=False)
    except OSError as error:  # no network, no such model or revision, no access: all are of this type
        raise AssetError(f"{where} and cannot be fetched: {error}") from error
