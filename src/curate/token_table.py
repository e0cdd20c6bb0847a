"""Static models (model2vec's layout): a table of token vectors, of which a text gets the mean, unknown tokens left out.

The catch: word order is lost. It is 80 to 200 times faster than MiniLM, and right for clusters of topics more than for
nearness.
"""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from curate.assets import Folder
from curate.errors import AssetError
from curate.sequences import TOKENIZED, flat, pieces
from curate.tensors import tensors

HEAD, HEAD_CHARACTERS = 512, 8192
"""Tokens of a text that are looked at with `long: head` (model2vec's own default), and the characters among which they
are looked for: sixteen a token, so that long texts are not tokenized to their ends."""

TABLE, TOKENIZER = "model.safetensors", "tokenizer.json"


@dataclass(frozen=True)
class TokenTable:
    """Token vectors `rows` float32[V, d]; the `unknown` token has none."""

    tokenizer: Any
    rows: np.ndarray
    unknown: int | None

    def vectors(self, texts: pa.Array, *, long: Literal["head", "mean"], batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors float32[n, d], and which texts have one (bool[n]); `batch` does not count."""
        from curate.kernels.pooling import mean_vectors

        out, valid = np.empty((len(texts), self.rows.shape[1]), np.float32), np.empty(len(texts), np.bool_)
        start = 0
        for piece in pieces(texts, TOKENIZED):
            offsets, ids = self._ids(piece, HEAD if long == "head" else None)
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
        return flat(each)


@cache
def load(folder: Folder) -> TokenTable:
    """The model in a folder, kept for the process. AssetError if it cannot be used."""
    from tokenizers import Tokenizer

    rows = _rows(folder)
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
    return TokenTable(tokenizer, rows, None if unknown is None else tokenizer.token_to_id(unknown))


def _rows(folder: Folder) -> np.ndarray:
    """A vector for each token, float32[V, d]."""
    found = tensors(folder.at(TABLE))
    table = found["embeddings"]
    if table.ndim != 2 or not table.size:
        raise AssetError(f"{folder.uri}: `embeddings` has the shape {table.shape}; one row for each token is wanted")
    if "mapping" in found:  # several tokens share a row
        mapping = found["mapping"]
        wrong = mapping.dtype.kind not in "iu" or mapping.ndim != 1 or not mapping.size
        if wrong or mapping.min() < 0 or mapping.max() >= len(table):
            raise AssetError(f"{folder.uri}: `mapping` names rows that `embeddings` has not")
        table = table[mapping]
    rows = table.astype(np.float32)
    if "weights" in found:
        if found["weights"].shape != (len(rows),):
            raise AssetError(f"{folder.uri}: {found['weights'].shape} weights for {len(rows)} tokens")
        rows *= found["weights"].astype(np.float32)[:, None]
    return rows
