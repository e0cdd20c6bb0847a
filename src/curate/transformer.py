"""Vectors of transformers: models of sentence-transformers, and plain ones such as causal language models.

A text's vector is a function of the text: sequences of one length share a batch, so nothing is padded and no text
sees how long another is. On the CPU that makes equal bytes for any order, neighbours and batch size, as measured with
MiniLM, torch 2.13 in float32 and bfloat16, and ONNX Runtime 1.31: only products of fewer than six rows came out in
another last digit, so the smallest batches are filled up with repeats. Other machines, other releases and GPUs give
vectors that differ by rounding.
"""

import os
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from curate.assets import Folder
from curate.errors import AssetError
from curate.sequences import EMBEDDED, TOKENIZED, batches, flat, pieces, slices

Long = Literal["head", "mean"]
Pooling = Literal["model", "weighted_mean"]
Backend = Literal["torch", "bfloat16", "onnx"]

LEAST_ROWS = 16
HEAD_CHARACTERS, UNSPACED = 32, 1 << 16
"""Characters for each token that a model reads, to the next space, which is looked for among so many: tokens of a
text's head are looked for there."""

MODULES, CONFIG, ONNX = "modules.json", "config.json", "onnx/model.onnx"
_EXTRA = "`pip install 'curate[embed]'`"
INSTALL = {"torch": _EXTRA, "sentence_transformers": _EXTRA, "onnxruntime": "`pip install 'curate[onnx]'`"}
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_GIVEN = ("input_ids", "attention_mask", "token_type_ids")
_SPACE = re.compile(r"\s")


@dataclass(frozen=True)
class Use:
    """How a model is used: where it runs, on what, how its tokens become one vector, and how many it reads at once
    (`window`; its own number where that is None)."""

    device: str = "cpu"
    backend: Backend = "torch"
    pooling: Pooling = "model"
    window: int | None = None


@dataclass(frozen=True)
class Transformer:
    """A model of sentence-transformers, the tokens it takes of a text and how many of them are put around it.

    `session`: the ONNX Runtime session in place of the first module, and the names of its inputs.
    """

    model: Any
    use: Use
    length: int
    around: int
    width: int
    inputs: tuple[str, ...]
    session: Any = None

    def vectors(self, texts: pa.Array, *, long: Long, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors float32[n, d], and which texts have one (bool[n]); about `batch` tokens are run at once."""
        from curate.kernels.pooling import unit_vectors

        out, valid = np.zeros((len(texts), self.width), np.float32), np.zeros(len(texts), np.bool_)
        start = 0
        for piece in slices(texts, EMBEDDED):
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
        for rows in batches(lengths[order], batch):
            chosen = order[rows]
            found = self.run(ids[offsets[chosen, None] + np.arange(lengths[chosen[0]])])
            # One after the other: the long windows of a text in their order, then its last one.
            np.add.at(out, owner[chosen], found * share[chosen, None])

    def _sequences(self, texts: pa.Array, long: Long) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offsets and token ids of what the model is given, special ones around it, and the text of each."""
        each, owners, start = [], [], 0
        for piece in pieces(texts, TOKENIZED):
            if long == "mean":
                encoded = self._encoded(piece, return_overflowing_tokens=True, stride=0)
                ids, owner = encoded["input_ids"], np.array(encoded["overflow_to_sample_mapping"], np.int64)
            else:
                ids, owner = self._heads(piece), np.arange(len(piece))
            each += [np.array(some, np.int32) for some in ids]
            owners.append(start + owner)
            start += len(piece)
        return *flat(each), np.concatenate(owners) if owners else np.empty(0, np.int64)

    def _heads(self, texts: list[str]) -> list[list[int]]:
        """Token ids of the beginning of each text. A long one is not read to its end where part of it has enough:
        tokens do not depend on what stands behind the next space, nor on what is tens of thousands of characters off.
        """
        least = HEAD_CHARACTERS * self.length
        cuts = [_cut(text, least) if len(text) > 2 * least else None for text in texts]
        heads = [text[:cut] for text, cut in zip(texts, cuts, strict=True)]
        found: list[list[int]] = self._encoded(heads)["input_ids"]
        for row, cut in enumerate(cuts):
            if cut is not None and len(found[row]) < self.length:
                found[row] = self._encoded([texts[row]])["input_ids"][0]
        return found

    def _encoded(self, texts: list[str], **more: Any) -> Any:
        return self.model.tokenizer(
            texts, truncation=True, max_length=self.length, return_attention_mask=False, verbose=False, **more
        )

    def run(self, ids: np.ndarray) -> np.ndarray:
        """Vectors float32[n, d] of n sequences of one length, token ids int32[n, length]."""
        import torch

        count, length = ids.shape
        if count * length < LEAST_ROWS:
            ids = np.resize(ids, (-(-LEAST_ROWS // length), length))
        sequences = torch.from_numpy(ids.astype(np.int64)).to(self.model.device)
        given = {"input_ids": sequences, "attention_mask": torch.ones_like(sequences)}
        if "token_type_ids" in self.inputs:
            given["token_type_ids"] = torch.zeros_like(sequences)
        with torch.inference_mode():
            made = self._states(given)
            if self.use.pooling == "weighted_mean":
                return _weighted(made["token_embeddings"].cpu().numpy())[:count]
            for module in list(self.model)[1:]:
                made = module(made)
        found: np.ndarray = made["sentence_embedding"][:count].float().cpu().numpy()
        return found

    def _states(self, given: dict[str, Any]) -> dict[str, Any]:
        """What the first module makes of token ids, its last hidden states as float32."""
        import torch

        if self.session is None:
            made: dict[str, Any] = self.model[0](given)
            if "token_embeddings" in made:
                made["token_embeddings"] = made["token_embeddings"].float()
            return made
        session, names, output = self.session
        states = session.run([output], {name: given[name].numpy() for name in names})[0]
        return {**given, "token_embeddings": torch.from_numpy(states).float()}


def _cut(text: str, least: int) -> int:
    """Where the first space from `least` on is, or where the search for it ends."""
    space = _SPACE.search(text, least, least + UNSPACED)
    return least + UNSPACED if space is None else space.start()


def _weighted(states: np.ndarray) -> np.ndarray:
    """Position-weighted means float32[n, d] of hidden states float32[n, length, d]."""
    from curate.kernels.pooling import weighted_means

    out = np.empty((len(states), states.shape[2]), np.float32)
    weighted_means(np.ascontiguousarray(states), out)
    return out


@cache
def load(folder: Folder, use: Use) -> Transformer:
    """The model in a local folder, kept for the process. AssetError if it cannot be used."""
    for name, value in _OFFLINE.items():  # read when these packages are imported
        os.environ.setdefault(name, value)
    try:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging
    except ImportError as error:
        raise AssetError(f"{folder.uri} cannot be used: {error}; {_EXTRA}") from error
    torch.set_num_threads(1)  # a unit uses one core
    if use.device == "cuda" and not torch.cuda.is_available():
        raise AssetError(f"{folder.uri}: `device: cuda`, but torch {torch.__version__} finds no GPU here")
    logging.disable_progress_bar()
    path = folder.uri.removeprefix("file://")
    numbers = torch.bfloat16 if use.backend == "bfloat16" else torch.float32
    try:
        model = SentenceTransformer(path, device=use.device, local_files_only=True, model_kwargs={"dtype": numbers})
    except Exception as error:  # its parts raise errors of all kinds
        raise AssetError(f"{folder.uri} is no model that sentence-transformers can load: {error}") from error
    session = _session(folder) if use.backend == "onnx" else None
    return _checked(model.eval(), folder.uri, use, session)


def _checked(model: Any, uri: str, use: Use, session: Any) -> Transformer:
    """The model, if what it is given can be made here: tokens, and marks of ones and zeros."""
    from transformers import PreTrainedTokenizerBase

    tokenizer, length = model.tokenizer, model.max_seq_length
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or not tokenizer.is_fast:
        raise AssetError(f"{uri}: only models of text with a fast tokenizer (tokenizer.json) can be used")
    if not length or length >= 1 << 20:
        if use.window is None:
            raise AssetError(f"{uri}: the model does not say how many tokens it reads at once; say `window`")
        length = use.window
    if use.window is not None and use.window > length:
        raise AssetError(f"{uri}: `window` is {use.window}; the model reads {length} tokens at once")
    length = use.window or length
    if model.default_prompt_name is not None and model.prompts.get(model.default_prompt_name):
        raise AssetError(f"{uri}: the model puts its prompt '{model.default_prompt_name}' before texts: not supported")
    probe = tokenizer("a")
    inputs = tuple(name for name in probe if name != "input_ids")
    if not set(inputs) <= set(_GIVEN) or any(probe.get("token_type_ids", [])):
        raise AssetError(f"{uri}: the tokenizer gives {', '.join(inputs)}; marks of ones and zeros are wanted")
    around = tokenizer.num_special_tokens_to_add(pair=False)
    if length <= around:
        raise AssetError(f"{uri}: `window` is {length}, and {around} tokens are put around every text")
    if session is not None and not set(session[1]) <= {"input_ids", "attention_mask", *inputs}:
        raise AssetError(f"{uri}/{ONNX} wants {', '.join(session[1])}; the tokenizer gives {', '.join(probe)}")
    made = Transformer(model, use, length, around, 0, inputs, session)
    try:
        width = made.run(np.array([probe["input_ids"]], np.int32)).shape[1]
    except (KeyError, RuntimeError, ValueError) as error:
        how = f"`backend: {use.backend}` and `pooling: {use.pooling}`"
        raise AssetError(f"{uri} cannot be run with {how}: {error!r}") from error
    return Transformer(model, use, length, around, width, inputs, session)


def _session(folder: Folder) -> tuple[Any, tuple[str, ...], str]:
    """A session of ONNX Runtime on one thread, and the names of its inputs and of its hidden states."""
    try:
        from onnxruntime import InferenceSession, SessionOptions
    except ImportError as error:
        raise AssetError(f"{folder.uri} cannot be used: {error}; {INSTALL['onnxruntime']}") from error
    place = folder.at(ONNX).uri
    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = InferenceSession(place.removeprefix("file://"), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's errors have no base of their own
        raise AssetError(f"{place} is no model that ONNX Runtime can load: {error}") from error
    outputs = [each.name for each in session.get_outputs()]
    names = [name for name in ("last_hidden_state", "token_embeddings") if name in outputs]
    if not names:
        raise AssetError(f"{place} gives {', '.join(outputs)}; `last_hidden_state` or `token_embeddings` is wanted")
    return session, tuple(each.name for each in session.get_inputs()), names[0]
