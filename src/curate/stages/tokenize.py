"""Token ids of every document, stored once, row-aligned; each ends with the end-of-text id, exactly once.

Text is text: a literal `<|endoftext|>` in a crawled page is encoded letter by letter and never becomes the special
id, which would be a false document border. The tokenizer is loaded without its special tokens to make sure.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from curate.arrow import large_lists, one
from curate.assets import Asset, find
from curate.errors import AssetError, DataError
from curate.stage import Stage, Verdict
from curate.trainers import token_dtype

BATCH_BYTES = 8 << 20
CHECKED, LONG = 4, 20_000
_END = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|end▁of▁sentence|>", "[SEP]")
_PAD = ("<|pad|>", "<pad>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>", "<|endofpad|>")


@dataclass(frozen=True)
class Tokenize(Stage):
    """Adds `ids` (large list of uint16 below 65,500 possible ids, else uint32) and `tokens`, their number with the end.

    `tokenizer`: a `tokenizer.json`, or `package:NAME/path/tokenizer.json` inside an installed package. `engine`:
    `tokenizers` is the reference; `fastokens` is some fifty times faster and is compared with the reference on a few
    documents of every shard: a difference stops the unit. `end`: the end-of-text token where the usual names fail.
    """

    kind: ClassVar[str] = "tokenize"
    asset_fields: ClassVar[tuple[str, ...]] = ("tokenizer",)
    tokenizer: str
    engine: Literal["tokenizers", "fastokens"] = "tokenizers"
    end: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        return ("text",)

    @property
    def adds(self) -> tuple[str, ...]:
        return ("ids", "tokens")

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "tokens": self.facts}

    def bind(self, lineage: dict[str, dict[str, Any]]) -> "Tokenize":
        """Itself, once the tokenizer has been loaded: one that cannot be is an AssetError before any work."""
        asset = find(self.tokenizer)
        for load in dict.fromkeys((_tokenizers, _LOADERS[self.engine])):
            load(asset)
        return self

    @property
    def facts(self) -> dict[str, Any]:
        """What packers and trainers need to know: vocabulary (largest id + 1), end and pad tokens and ids."""
        asset = find(self.tokenizer)
        special, vocabulary = _specials(asset)
        end = self.end or next((token for token in _END if token in special), None)
        if end is None or end not in special:
            shown, wanted = ", ".join(sorted(special)[:8]) or "none", f"'{end}' " if end else ""
            raise AssetError(
                f"{self.tokenizer}: no end-of-text token {wanted}among its specials ({shown}); name it with `end:`"
            )
        pad = next((token for token in _PAD if token in special and token != end), None)
        return {
            "vocabulary": vocabulary,
            "end": end,
            "end_id": special[end],
            "pad": pad,
            "pad_id": special[pad] if pad else None,
        }

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        facts, asset = self.facts, find(self.tokenizer)
        dtype = token_dtype(facts["vocabulary"])
        pieces, lengths = [], []
        for batch in _batches(one(shard["text"])):
            texts = batch.to_pylist()
            flat, counts = _ENCODERS[self.engine](asset, texts)
            if self.engine != "tokenizers":
                _compare(asset, texts, flat, counts)
            ended = np.full(flat.size + len(texts), facts["end_id"], dtype)
            ends = np.cumsum(counts + 1) - 1
            body = np.ones(ended.size, bool)
            body[ends] = False
            ended[body] = flat
            pieces.append(ended)
            lengths.append(counts + 1)
        tokens = np.concatenate(lengths) if lengths else np.empty(0, np.int64)
        offsets = np.zeros(len(tokens) + 1, np.int64)
        np.cumsum(tokens, out=offsets[1:])
        ids = np.concatenate(pieces) if pieces else np.empty(0, dtype)
        return pa.table({"ids": large_lists(offsets, ids), "tokens": tokens.astype(np.int64)})

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        return {"tokens": {"all": int(made["tokens"].to_numpy().sum())}}


def _batches(text: pa.Array) -> Iterator[pa.Array]:
    """Slices of a few megabytes: Python strings live only for one of them."""
    sizes = np.cumsum(pa.compute.binary_length(text).to_numpy(zero_copy_only=False)) if len(text) else np.empty(0)
    start = 0
    while start < len(text):
        before = int(sizes[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(sizes, before + BATCH_BYTES, side="right")))
        yield text.slice(start, stop - start)
        start = stop


def _reference(asset: Asset, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    encoded = _tokenizers(asset).encode_batch_fast(texts, add_special_tokens=False)
    counts = np.fromiter((len(one_text) for one_text in encoded), np.int64, len(encoded))
    parts = [np.asarray(one_text.ids, np.uint32) for one_text in encoded]
    return np.concatenate(parts) if parts else np.empty(0, np.uint32), counts


def _fast(asset: Asset, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    ids, offsets = _fastokens(asset).encode_batch_flat(texts, add_special_tokens=False)
    return np.frombuffer(ids, np.uint32), np.diff(np.frombuffer(offsets, np.uint64).astype(np.int64))


_ENCODERS = {"tokenizers": _reference, "fastokens": _fast}


def _compare(asset: Asset, texts: list[str], flat: np.ndarray, counts: np.ndarray) -> None:
    """The first few documents that are not long must have the reference's ids."""
    starts = np.cumsum(counts) - counts
    for index in islice((i for i, text in enumerate(texts) if len(text) <= LONG), CHECKED):
        want, _ = _reference(asset, [texts[index]])
        if not np.array_equal(flat[starts[index] : starts[index] + counts[index]], want):
            raise DataError(
                f"the fast tokenizer differs from the reference on the text that begins {texts[index][:60]!r}; "
                "use `engine: tokenizers`"
            )


@cache
def _tokenizers(asset: Asset) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(_plain(asset))
    except Exception as error:  # the only type that this library raises
        raise AssetError(f"{asset.uri} is no tokenizer.json that can be used: {error}") from error


@cache
def _fastokens(asset: Asset) -> Any:
    try:
        from fastokens import Tokenizer
    except ImportError as error:
        raise AssetError("`engine: fastokens` needs the package fastokens; `pip install fastokens`") from error
    try:
        return Tokenizer.from_json_str(_plain(asset))
    except ValueError as error:
        raise AssetError(f"fastokens cannot use {asset.uri} ({error}); take `engine: tokenizers`") from error


_LOADERS = {"tokenizers": _tokenizers, "fastokens": _fastokens}


@cache
def _raw(asset: Asset) -> dict[str, Any]:
    try:
        raw = json.loads(asset.read())
    except ValueError as error:
        raise AssetError(f"{asset.uri} is no tokenizer.json: {error}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("model"), dict):
        raise AssetError(f"{asset.uri} is no tokenizer.json: it has no `model`")
    vocabulary, added = raw["model"].get("vocab") or {}, raw.get("added_tokens") or []
    try:
        pieces = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
        numbers = [*pieces, *(token["id"] for token in added if isinstance(token["content"], str))]
    except (TypeError, KeyError) as error:
        raise AssetError(f"{asset.uri} is no tokenizer.json: its tokens are no list of contents and ids") from error
    if not all(isinstance(number, int) and 0 <= number < 1 << 32 for number in numbers):
        raise AssetError(f"{asset.uri} is no tokenizer.json: ids are whole numbers below 2^32")
    return raw


@cache
def _specials(asset: Asset) -> tuple[dict[str, int], int]:
    """Special tokens with their ids, and the largest id of all tokens plus one."""
    raw = _raw(asset)
    added = raw.get("added_tokens") or []
    special = {token["content"]: int(token["id"]) for token in added if token.get("special")}
    vocabulary = raw["model"].get("vocab") or {}
    numbers = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    return special, max([*numbers, *(int(token["id"]) for token in added)], default=0) + 1


@cache
def _plain(asset: Asset) -> str:
    """The tokenizer without specials, padding, truncation and template: text in, its own ids out."""
    raw = dict(_raw(asset))
    special = _specials(asset)[0]
    raw["added_tokens"] = [token for token in raw.get("added_tokens") or [] if not token.get("special")]
    raw |= {"padding": None, "truncation": None, "post_processor": None}
    model = dict(raw["model"])
    vocabulary = model.get("vocab")
    # Some models could also reach a special's id through its piece in the vocabulary: name it what no text holds.
    if isinstance(vocabulary, dict):
        model["vocab"] = {
            _hidden(piece) if piece in special and piece != model.get("unk_token") else piece: n
            for piece, n in vocabulary.items()
        }
    elif isinstance(vocabulary, list):
        model["vocab"] = [[_hidden(piece) if piece in special else piece, score] for piece, score in vocabulary]
    raw["model"] = model
    return json.dumps(raw, ensure_ascii=False)


def _hidden(piece: str) -> str:
    return f"\U0010fffe{piece}\U0010fffe"
