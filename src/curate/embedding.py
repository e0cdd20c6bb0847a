"""Models that give texts vectors: those of sentence-transformers, and static ones, which only look tokens up.

A text's vector is a function of the text: sequences of one length share a batch, so nothing is padded and no text
sees how long another is. On the CPU that makes equal bytes for any order, neighbours and batch size, as measured with
MiniLM and torch 2.13: only products of fewer than six rows came out in another last digit, so the smallest batches are
filled up with repeats. Other machines, other releases of torch and GPUs give vectors that differ by rounding.

A static model (model2vec's layout) is a table of token vectors: the mean of a text's tokens, unknown ones left out.
The catch: word order is lost; it is 80 to 200 times faster, and right for clusters of topics more than for nearness.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from curate import store
from curate.arrow import one, stretches, utf8
from curate.assets import Asset, Folder
from curate.errors import AssetError, StoreError

Long = Literal["head", "mean"]
Vectors = tuple[np.ndarray, np.ndarray]

STATIC_HEAD, HEAD_CHARACTERS = 512, 8192
"""Tokens of a text that a static model looks at with `long: head` (model2vec's own default), and the characters among
which it looks for them: sixteen a token, so that long texts are not tokenized to their ends."""

TOKENIZED, EMBEDDED = 1 << 20, 64 << 20
"""Bytes of text that are tokenized at once, and whose token ids are held at once."""

LEAST_ROWS = 16
TABLE, TOKENIZER, MODULES = "model.safetensors", "tokenizer.json", "modules.json"
INSTALL = "`pip install 'curate[embed]'`"
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I8": "i1", "U8": "u1", "I32": "<i4", "I64": "<i8"}


class Model(Protocol):
    """What gives vectors."""

    def vectors(self, texts: pa.Array, *, long: Long, batch: int) -> Vectors:
        """Unit vectors float32[n, d], and which texts have one (bool[n]); the others are zeros.

        A text has none if it has no token, or if its vector is zero or not finite. `long`: of a text that is longer
        than the model takes, its head, or the mean over windows weighted by their tokens. `batch`: tokens at once.
        """


def load(asset: Asset, device: str) -> Model:
    """The model in a folder, kept for the process. AssetError if it cannot be used; `device` is cpu or cuda."""
    return _static(_folder(asset)) if is_static(asset) else _transformer(_folder(asset), device)


def check(asset: Asset, device: str) -> None:
    """AssetError if `load` would surely fail; packages are looked for, but not imported for a model on the CPU."""
    if is_static(asset):
        load(asset, device)
        return
    _folder(asset).at(MODULES)
    for package in ("torch", "sentence_transformers"):
        if find_spec(package) is None:
            raise AssetError(f"{asset.uri} needs the package {package}; {INSTALL}")
    if not store.is_local(asset.uri):
        raise AssetError(f"{asset.uri}: sentence-transformers reads models from a local folder; copy it to one")
    if device != "cpu":
        load(asset, device)


def is_static(asset: Asset) -> bool:
    """True for a table of token vectors, False for a model of sentence-transformers; AssetError for anything else."""
    folder = _folder(asset)
    if TABLE in folder.names and TOKENIZER in folder.names and "embeddings" in _header(folder.at(TABLE))[0]:
        return True
    if MODULES in folder.names:
        return False
    raise AssetError(
        f"{folder.uri} is no model: wanted is {MODULES} of sentence-transformers, or a static model's {TOKENIZER} and "
        f"{TABLE} with `embeddings`; it holds {', '.join(folder.names) or 'neither'}"
    )


def _folder(asset: Asset) -> Folder:
    if not isinstance(asset, Folder):
        raise AssetError(f"{asset.uri} is no folder with a model's files")
    return asset


@dataclass(frozen=True)
class Static:
    """Token vectors `rows` float32[V, d]; the `unknown` token has none."""

    tokenizer: Any
    rows: np.ndarray
    unknown: int | None

    def vectors(self, texts: pa.Array, *, long: Long, batch: int) -> Vectors:
        from curate.kernels.pooling import mean_vectors

        out, valid = np.empty((len(texts), self.rows.shape[1]), np.float32), np.empty(len(texts), np.bool_)
        start = 0
        for piece in _pieces(texts, TOKENIZED):
            offsets, ids = self._ids(piece, STATIC_HEAD if long == "head" else None)
            stop = start + len(piece)
            mean_vectors(offsets, ids, self.rows, out[start:stop], valid[start:stop])
            start = stop
        return out, valid

    def _ids(self, texts: list[str], most: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Offsets int64[n + 1] and token ids int32[...] of texts: the first `most` known ones of each, or all."""
        each = []
        if most is not None:
            texts = [text[:HEAD_CHARACTERS] for text in texts]
        for encoded in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            ids = np.array(encoded.ids, np.int32)
            each.append((ids if self.unknown is None else ids[ids != self.unknown])[:most])
        return _flat(each)


@cache
def _static(folder: Folder) -> Static:
    from tokenizers import Tokenizer

    found = _tensors(folder.at(TABLE))
    table = found["embeddings"]
    if table.ndim != 2 or not table.size:
        raise AssetError(f"{folder.uri}: `embeddings` has the shape {table.shape}; one row for each token is wanted")
    if "mapping" in found:  # several tokens share a row
        mapping = found["mapping"]
        if mapping.dtype.kind not in "iu" or mapping.ndim != 1 or mapping.min() < 0 or mapping.max() >= len(table):
            raise AssetError(f"{folder.uri}: `mapping` names rows that `embeddings` has not")
        table = table[mapping]
    rows = table.astype(np.float32)
    if "weights" in found:
        if found["weights"].shape != (len(rows),):
            raise AssetError(f"{folder.uri}: {found['weights'].shape} weights for {len(rows)} tokens")
        rows *= found["weights"].astype(np.float32)[:, None]
    text = folder.file(TOKENIZER)
    try:
        tokenizer = Tokenizer.from_str(text.decode())
        unknown = json.loads(text)["model"].get("unk_token")
    except Exception as error:  # the only type that this library raises
        raise AssetError(f"{folder.uri}/{TOKENIZER} cannot be used: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    most = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if most >= len(rows):
        raise AssetError(f"{folder.uri}: the tokenizer has ids up to {most}, the table {len(rows)} rows")
    return Static(tokenizer, rows, None if unknown is None else tokenizer.token_to_id(unknown))


@dataclass(frozen=True)
class Transformer:
    """A model of sentence-transformers, the tokens it takes of a text and how many of them are put around it."""

    model: Any
    length: int
    around: int
    width: int
    inputs: tuple[str, ...]

    def vectors(self, texts: pa.Array, *, long: Long, batch: int) -> Vectors:
        from curate.kernels.pooling import unit_vectors

        out, valid = np.zeros((len(texts), self.width), np.float32), np.zeros(len(texts), np.bool_)
        start = 0
        for piece in _slices(texts, EMBEDDED):
            stop = start + len(piece)
            self._embed(piece, out[start:stop], valid[start:stop], long, batch)
            start = stop
        unit_vectors(out, valid)
        return out, valid

    def _embed(self, texts: pa.Array, out: np.ndarray, valid: np.ndarray, long: Long, batch: int) -> None:
        offsets, ids, owner = self._sequences(texts, long)
        lengths = np.diff(offsets)
        tokens = np.bincount(owner, lengths - self.around, minlength=len(texts))
        valid[:] = tokens > 0
        share = ((lengths - self.around) / np.maximum(tokens, 1)[owner]).astype(np.float32)
        order = np.argsort(-lengths, kind="stable")
        order = order[valid[owner[order]]]
        for rows in _batches(lengths[order], batch):
            chosen = order[rows]
            found = self._run(ids[offsets[chosen, None] + np.arange(lengths[chosen[0]])])
            # One after the other: the long windows of a text in their order, then its last one.
            np.add.at(out, owner[chosen], found * share[chosen, None])

    def _sequences(self, texts: pa.Array, long: Long) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offsets and token ids of what the model is given, special ones around it, and the text of each."""
        windows = {"return_overflowing_tokens": True, "stride": 0} if long == "mean" else {}
        each, owners, start = [], [], 0
        for piece in _pieces(texts, TOKENIZED):
            encoded = self.model.tokenizer(
                piece, truncation=True, max_length=self.length, return_attention_mask=False, verbose=False, **windows
            )
            each += [np.array(ids, np.int32) for ids in encoded["input_ids"]]
            owner = np.array(encoded["overflow_to_sample_mapping"] if windows else range(len(piece)), np.int64)
            owners.append(start + owner)
            start += len(piece)
        return *_flat(each), np.concatenate(owners) if owners else np.empty(0, np.int64)

    def _run(self, ids: np.ndarray) -> np.ndarray:
        """Vectors float32[n, d] of n sequences of one length."""
        import torch

        count, length = ids.shape
        if count * length < LEAST_ROWS:
            ids = np.resize(ids, (-(-LEAST_ROWS // length), length))
        sequences = torch.from_numpy(ids.astype(np.int64)).to(self.model.device)
        given = {"input_ids": sequences, "attention_mask": torch.ones_like(sequences)}
        if "token_type_ids" in self.inputs:
            given["token_type_ids"] = torch.zeros_like(sequences)
        with torch.inference_mode():
            made = self.model.forward(given)["sentence_embedding"]
        found: np.ndarray = made[:count].float().cpu().numpy()
        return found


@cache
def _transformer(folder: Folder, device: str) -> Transformer:
    for name, value in _OFFLINE.items():  # read when these packages are imported
        os.environ.setdefault(name, value)
    try:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging
    except ImportError as error:
        raise AssetError(f"{folder.uri} cannot be used: {error}; {INSTALL}") from error
    torch.set_num_threads(1)  # a unit uses one core
    if device == "cuda" and not torch.cuda.is_available():
        raise AssetError(f"{folder.uri}: `device: cuda`, but torch {torch.__version__} finds no GPU here")
    logging.disable_progress_bar()
    try:
        path = folder.uri.removeprefix("file://")
        model = SentenceTransformer(path, device=device, local_files_only=True).eval()
    except Exception as error:  # its parts raise errors of all kinds
        raise AssetError(f"{folder.uri} is no model that sentence-transformers can load: {error}") from error
    return _checked(model, folder.uri)


def _checked(model: Any, uri: str) -> Transformer:
    """The model, if what it is given can be made here: tokens, and marks of ones and zeros."""
    from transformers import PreTrainedTokenizerBase

    tokenizer, length = model.tokenizer, model.max_seq_length
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or not tokenizer.is_fast:
        raise AssetError(f"{uri}: only models of text with a fast tokenizer ({TOKENIZER}) can be used")
    if not length or length >= 1 << 20:
        raise AssetError(f"{uri}: the model says no `max_seq_length`")
    if model.default_prompt_name is not None and model.prompts.get(model.default_prompt_name):
        raise AssetError(f"{uri}: the model puts its prompt '{model.default_prompt_name}' before texts: not supported")
    probe = tokenizer("a")
    inputs = tuple(name for name in probe if name != "input_ids")
    if not set(inputs) <= {"attention_mask", "token_type_ids"} or any(probe.get("token_type_ids", [])):
        raise AssetError(f"{uri}: the tokenizer gives {', '.join(inputs)}; marks of ones and zeros are wanted")
    around = tokenizer.num_special_tokens_to_add(pair=False)
    made = Transformer(model, length, around, 0, inputs)
    width = made._run(np.array([probe["input_ids"]], np.int32)).shape[1]
    return Transformer(model, length, around, width, inputs)


def _batches(lengths: np.ndarray, batch: int) -> Iterator[slice]:
    """Slices of sequences, ordered by length, that are of one length and have about `batch` tokens together."""
    borders = np.flatnonzero(np.diff(lengths, prepend=-1, append=-1))
    for first, last in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        step = max(1, batch // int(lengths[first]))
        yield from (slice(start, min(start + step, last)) for start in range(first, last, step))


def _flat(each: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int64[n + 1] into the int32 values of all, and these."""
    offsets = np.zeros(len(each) + 1, np.int64)
    np.cumsum([len(ids) for ids in each], out=offsets[1:])
    return offsets, np.concatenate(each) if each else np.empty(0, np.int32)


def _slices(texts: pa.Array, size: int) -> Iterator[pa.Array]:
    """Slices of about so many bytes, one text at least."""
    texts = one(texts)
    offsets, _ = utf8(texts)
    for start, stop in stretches(offsets, size):
        yield texts.slice(start, stop - start)


def _pieces(texts: pa.Array, size: int) -> Iterator[list[str]]:
    """The same as Python strings, which live for one slice only; a null is an empty text."""
    for piece in _slices(texts, size):
        yield piece.fill_null("").to_pylist()


def _header(asset: Asset) -> tuple[dict[str, Any], int]:
    """What a safetensors file says of its tensors, and where their bytes begin.

    Eight bytes with the size of a JSON text, little end first, that text, then the tensors' bytes.
    """
    try:
        size = int.from_bytes(store.read(asset.uri, length=8), "little")
        if size > store.size(asset.uri):
            raise ValueError(f"its header would have {size} bytes")
        named = json.loads(store.read(asset.uri, start=8, length=size))
        return {name: said for name, said in named.items() if name != "__metadata__"}, 8 + size
    except (StoreError, ValueError, AttributeError) as error:
        raise AssetError(f"{asset.uri} is no safetensors file: {error}") from error


def _tensors(asset: Asset) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file. AssetError where one is of a type that is not read here."""
    said, start = _header(asset)
    data, found = memoryview(asset.read())[start:], {}
    for name, tensor in said.items():
        try:
            first, last = tensor["data_offsets"]
            found[name] = np.frombuffer(data[first:last], _TYPES[tensor["dtype"]]).reshape(tensor["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise AssetError(f"{asset.uri}: the tensor '{name}' cannot be read ({error!r}): {tensor}") from error
    return found
