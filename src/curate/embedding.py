"""Models that give texts vectors: transformers, and static ones, which only look tokens up.

What a folder holds says which it is. `tokenizer.json` beside a `model.safetensors` with `embeddings` is a static model
(`curate.token_table`), `modules.json` one of sentence-transformers, and `config.json` without it a plain transformer,
such as a causal language model, which says no pooling (`curate.transformer`).
"""

from importlib.util import find_spec
from typing import Protocol

import numpy as np
import pyarrow as pa

from curate import store, tensors, token_table, transformer
from curate.assets import Asset, Folder
from curate.errors import AssetError, RecipeError
from curate.token_table import TABLE, TOKENIZER
from curate.transformer import CONFIG, INSTALL, MODULES, ONNX, Long, Use


class Model(Protocol):
    """What gives vectors."""

    def vectors(self, texts: pa.Array, *, long: Long, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors float32[n, d], and which texts have one (bool[n]); the others are zeros.

        A text has none if it has no token, or if its vector is zero or not finite. `long`: of a text that is longer
        than the model takes, its head, or the mean over windows weighted by their tokens. `batch`: tokens at once.
        """


def load(asset: Asset, use: Use) -> Model:
    """The model in a folder, kept for the process. AssetError if it cannot be used."""
    return token_table.load(_folder(asset)) if is_static(asset) else transformer.load(_folder(asset), use)


def check(asset: Asset, use: Use) -> None:
    """AssetError if `load` would surely fail; packages are looked for, but not imported for a model on the CPU.

    RecipeError for a use that this kind of model does not know.
    """
    if is_static(asset):
        if use != Use():
            raise RecipeError(
                f"{asset.uri} is a static model, which runs on the CPU and takes the mean of tokens: leave out "
                "`device`, `backend`, `pooling` and `window`"
            )
        load(asset, use)
        return
    folder = _folder(asset)
    if MODULES not in folder.names and use.pooling == "model":
        raise AssetError(f"{asset.uri} has no {MODULES} and thus says no pooling; say `pooling: weighted_mean`")
    needed = ["torch", "sentence_transformers"]
    if use.backend == "onnx":
        folder.at(ONNX)
        needed.append("onnxruntime")
    for package in needed:
        if find_spec(package) is None:
            raise AssetError(f"{asset.uri} needs the package {package}; {INSTALL[package]}")
    if not store.is_local(asset.uri):
        raise AssetError(f"{asset.uri}: sentence-transformers reads models from a local folder; copy it to one")
    for name in folder.names:
        if name.endswith(".safetensors"):
            tensors.check(folder.at(name))
    if use.device != "cpu":
        load(asset, use)


def is_static(asset: Asset) -> bool:
    """True for a table of token vectors, False for a transformer; AssetError for anything else."""
    folder = _folder(asset)
    if TABLE in folder.names and TOKENIZER in folder.names and "embeddings" in tensors.header(folder.at(TABLE).uri)[0]:
        return True
    if MODULES in folder.names or {CONFIG, TOKENIZER} <= set(folder.names):
        return False
    raise AssetError(
        f"{folder.uri} is no model: wanted is {MODULES} of sentence-transformers, {CONFIG} and {TOKENIZER} of a "
        f"transformer, or a static model's {TOKENIZER} and {TABLE} with `embeddings`; it holds "
        f"{', '.join(folder.names) or 'none of them'}"
    )


def _folder(asset: Asset) -> Folder:
    if not isinstance(asset, Folder):
        raise AssetError(f"{asset.uri} is no folder with a model's files")
    return asset
