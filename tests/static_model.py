"""A small static model, made anywhere alike: a table of token vectors beside a tokenizer of words."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

WORDS = ("[UNK]", "the", "cat", "and", "dog", "one", "two", "three", "x", "with", "too", "a", "b")
WIDTH = 16
KINDS = {"<f4": "F32", "<f2": "F16", "<f8": "F64", "<u2": "BF16", "|i1": "I8", "<i8": "I64", "|b1": "BOOL"}


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """A safetensors file, written as its specification says; uint16 stands for bfloat16."""
    said: dict[str, object] = {"__metadata__": {"format": "pt"} if metadata is None else metadata}
    data = b""
    for name, array in tensors.items():
        stop = len(data) + array.nbytes
        said[name] = {"dtype": KINDS[array.dtype.str], "shape": list(array.shape), "data_offsets": [len(data), stop]}
        data += array.tobytes()
    header = json.dumps(said).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def write_static(folder: Path) -> str:
    """The model in a new folder; its vectors are small whole numbers, so that all sums are exact."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    numbers = np.arange(len(WORDS) * WIDTH, dtype=np.int64) * 7919 % 17 - 8
    write_tensors(folder / "model.safetensors", {"embeddings": numbers.reshape(-1, WIDTH).astype(np.float32)})
    return str(folder)
