"""The average of models of one shape, tensor by tensor: the model that stands for one trained on all their data.

Na et al. 2024 (arXiv 2410.15661): models trained alike from one seed model on parts of a corpus, averaged, predict what
a model trained on the union of these parts loses. Files are safetensors; sums are taken in float64, a block of each
file at a time, so memory does not depend on the size or number of models. bfloat16 is the upper half of float32 and
needs no library. The catch: an average of models that began apart, or that keep running statistics, says nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from curate import store
from curate.errors import AssetError, RecipeError
from curate.tensors import header

Float64s = NDArray[np.float64]
Bytes = NDArray[np.uint8]

BLOCK = 1 << 20
"""Elements of a tensor that are held at once."""
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_WHOLE = {"BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8}
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Tensor:
    """Type, shape, and the first and last byte after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Model:
    """A safetensors file: its tensors in the order of their bytes, and where these begin."""

    uri: str
    tensors: dict[str, Tensor]
    begin: int
    metadata: dict[str, str]


def model(uri: str) -> Model:
    """What a safetensors file says of its tensors. AssetError if it is none, is cut off, or has gaps or overlaps."""
    size = store.size(uri)
    raw, metadata, begin = header(uri)
    try:
        said = {
            name: Tensor(one["dtype"], tuple(int(side) for side in one["shape"]), *map(int, one["data_offsets"]))
            for name, one in raw.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetError(f"{uri} is no safetensors file: {error}") from error
    found = dict(sorted(said.items(), key=lambda item: (item[1].start, item[1].stop, item[0])))
    at = 0
    for name, one in found.items():
        width = (_FLOATS | _WHOLE).get(one.dtype)
        if width is None:
            raise AssetError(f"{uri}: '{name}' is {one.dtype}; averaged are {', '.join(_FLOATS)}")
        if one.start != at or one.stop - one.start != width * _count(one):
            raise AssetError(f"{uri}: the bytes of '{name}' do not follow those before it, or do not fit its shape")
        at = one.stop
    if begin + at != size:
        raise AssetError(f"{uri} is cut off or has more behind its tensors: {size:,} bytes, not {begin + at:,}")
    return Model(uri, found, begin, metadata)


def average(uris: Sequence[str], out: str, *, weights: Sequence[float] | None = None) -> dict[str, Any]:
    """Write the average of models to `out`, by weights of any sum (default equal); what was done.

    Floating tensors become sum(w_i x_i) / sum(w_i), rounded once, to even, to their own type. Others must be equal in
    all files and are copied. RecipeError for no files and weights below 0; AssetError where names, shapes, types or
    whole numbers differ, a number is not finite, or a tensor is a running statistic.
    """
    shares = _weights(len(uris), weights)
    if any(store.same(uri, out) for uri in uris):
        raise RecipeError(f"{out} is one of the models; write the average elsewhere")
    models = [model(uri) for uri in uris]
    first = models[0]
    for other in models[1:]:
        _check_alike(first, other)
    used = [(one, share) for one, share in zip(models, shares, strict=True) if share]
    first = used[0][0]
    for name in first.tensors:
        if name.rpartition(".")[2] in _STATISTICS:
            raise AssetError(f"{first.uri}: '{name}' is a running statistic, which no average of models has")
    with store.writing(out) as file:
        file.write(_header(first))
        inputs = [store.open_input(one.uri) for one, _ in used]
        try:
            for name in first.tensors:
                _merge(name, used, inputs, file)
        finally:
            for source in inputs:
                source.close()
    numbers = sum(_count(one) for one in first.tensors.values() if one.dtype in _FLOATS)
    return {"models": len(uris), "tensors": len(first.tensors), "parameters": numbers, "written": out}


def floats(raw: Bytes, dtype: str) -> Float64s:
    """Little-endian bytes uint8[n * width] as float64[n], exactly."""
    if dtype == "BF16":
        wide = raw.view("<u2").astype(np.uint32) << np.uint32(16)
        return wide.view(np.float32).astype(np.float64)
    return raw.view(f"<f{_FLOATS[dtype]}").astype(np.float64)


def rounded(values: Float64s, dtype: str) -> Bytes:
    """float64[n] as little-endian bytes of a type, to the nearest, ties to even."""
    if dtype != "BF16":
        return np.ascontiguousarray(values.astype(f"<f{_FLOATS[dtype]}")).view(np.uint8)
    # By way of float32 a tie could be made that was none: to odd first, so that the second rounding is the only one.
    near = values.astype(np.float32)
    bits = near.view(np.uint32)
    back = near.astype(np.float64)
    above = np.abs(back) > np.abs(values)
    bits = np.where(back == values, bits, (bits - above.astype(np.uint32)) | np.uint32(1))
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return np.ascontiguousarray((bits >> np.uint32(16)).astype("<u2")).view(np.uint8)


def _merge(name: str, used: Sequence[tuple[Model, float]], inputs: Sequence[IO[bytes]], out: IO[bytes]) -> None:
    """One tensor of all files, block by block."""
    total, tensor = sum(share for _, share in used), used[0][0].tensors[name]
    for (one, _), source in zip(used, inputs, strict=True):
        source.seek(one.begin + one.tensors[name].start)
    width = (_FLOATS | _WHOLE)[tensor.dtype]
    left = tensor.stop - tensor.start
    while left:
        size = min(left, BLOCK * width)
        left -= size
        if tensor.dtype not in _FLOATS:
            blocks = [source.read(size) for source in inputs]
            for (one, _), block in zip(used, blocks, strict=True):
                if block != blocks[0]:
                    raise AssetError(
                        f"'{name}' ({tensor.dtype}) differs between {used[0][0].uri} and {one.uri}; whole numbers "
                        f"have no average"
                    )
            out.write(blocks[0])
            continue
        # Differences from the first are summed: so equal models average to themselves, to the last bit.
        base, moved = np.zeros(0), np.zeros(size // width)
        for place, ((one, share), source) in enumerate(zip(used, inputs, strict=True)):
            values = floats(np.frombuffer(source.read(size), np.uint8), tensor.dtype)
            if not np.isfinite(values).all():
                raise AssetError(f"{one.uri}: '{name}' has numbers that are not finite")
            if place:
                moved += share * (values - base)
            else:
                base = values
        out.write(rounded(base + moved / total, tensor.dtype).data)


def _check_alike(first: Model, other: Model) -> None:
    if lost := sorted(set(first.tensors) ^ set(other.tensors)):
        holder, lacks = (first, other) if lost[0] in first.tensors else (other, first)
        raise AssetError(
            f"{lacks.uri} has no tensor '{lost[0]}', which {holder.uri} has ({len(lost)} names differ); models to be "
            f"averaged have one architecture"
        )
    for name, one in first.tensors.items():
        two = other.tensors[name]
        if (one.dtype, one.shape) != (two.dtype, two.shape):
            raise AssetError(
                f"'{name}' is {one.dtype} {list(one.shape)} in {first.uri} and {two.dtype} {list(two.shape)} in "
                f"{other.uri}; models to be averaged have one architecture and one type"
            )


def _header(first: Model) -> bytes:
    """The header of the average: the first model's, its text padded to eight bytes as the format asks."""
    said: dict[str, Any] = {"__metadata__": first.metadata} if first.metadata else {}
    for name, one in first.tensors.items():
        said[name] = {"dtype": one.dtype, "shape": list(one.shape), "data_offsets": [one.start, one.stop]}
    text = json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _weights(count: int, weights: Sequence[float] | None) -> list[float]:
    if not count:
        raise RecipeError("an average of no models: one or more are wanted")
    shares = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(shares) != count:
        raise RecipeError(f"{len(shares)} weights for {count} models; each has one")
    if not (all(0 <= share < float("inf") for share in shares) and sum(shares) > 0):
        raise RecipeError(
            f"weights {', '.join(f'{share:g}' for share in shares)}: none below 0, some above, are wanted"
        )
    return shares


def _count(tensor: Tensor) -> int:
    count = 1
    for side in tensor.shape:
        count *= side
    return count
