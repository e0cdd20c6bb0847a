"""The tensors of a safetensors file: eight bytes with the size of a JSON text, little end first, that text, then the
tensors' bytes. What is asked for is read; numbers of other types than NumPy's are refused."""

import json
from typing import Any

import numpy as np

from curate import store
from curate.assets import Asset
from curate.errors import AssetError, StoreError

_LONGEST = 100_000_000  # bytes of a header: the format's own bound
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I8": "i1", "U8": "u1", "I32": "<i4", "I64": "<i8"}


def header(uri: str) -> tuple[dict[str, Any], dict[str, str], int]:
    """What a file says of its tensors, its metadata, and where the bytes of tensors begin. AssetError if it is no
    safetensors file."""
    try:
        whole, size = store.size(uri), int.from_bytes(store.read(uri, length=8), "little")
        if not 2 <= size <= min(whole - 8, _LONGEST):
            raise ValueError(f"its header would have {size:,} bytes of {whole:,}")
        named = json.loads(store.read(uri, start=8, length=size))
        metadata = named.pop("__metadata__", {})
        return named, metadata, 8 + size
    except (StoreError, ValueError, AttributeError, TypeError) as error:
        raise AssetError(f"{uri} is no safetensors file: {error}") from error


def check(asset: Asset) -> None:
    """AssetError if a file is no safetensors file, or ends before its tensors do; the tensors are not read."""
    said, _, start = header(asset.uri)
    try:
        ends = max((tensor["data_offsets"][1] for tensor in said.values()), default=0)
        wanted, found = start + ends, store.size(asset.uri)
    except (KeyError, TypeError, IndexError) as error:
        raise AssetError(f"{asset.uri} is no safetensors file: a tensor without `data_offsets`") from error
    if found < wanted:
        raise AssetError(f"{asset.uri} is cut off: it has {found:,} bytes of {wanted:,}; copy or fetch it again")


def tensors(asset: Asset) -> dict[str, np.ndarray]:
    """The tensors of a file. AssetError where one is cut off, or of a type that is not read here."""
    said, _, start = header(asset.uri)
    data, found = memoryview(asset.read())[start:], {}
    for name, tensor in said.items():
        try:
            first, last = tensor["data_offsets"]
            found[name] = np.frombuffer(data[first:last], _TYPES[tensor["dtype"]]).reshape(tensor["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise AssetError(f"{asset.uri}: the tensor '{name}' cannot be read ({error!r}): {tensor}") from error
    return found
