"""What a fastText classifier says of a text, in plain Python from the description of the library: slow and obvious."""

import math
import re
import struct
from typing import Any

import numpy as np

SPACES = " \t\n\v\f\r\0"


def hashed(data: bytes) -> int:
    """FNV-1a in 32 bits, bytes over 127 with their sign."""
    value = 2166136261
    for byte in data:
        signed = byte | 0xFFFFFF00 if byte > 127 else byte
        value = ((value ^ signed) * 16777619) & 0xFFFFFFFF
    return value


def ngrams(word: str, minn: int, maxn: int) -> list[str]:
    """N-grams of characters of `<word>`; `<` and `>` alone are none."""
    word = f"<{word}>"
    found = []
    for start in range(len(word)):
        for size in range(max(1, minn), maxn + 1):
            end = start + size
            if end <= len(word) and not (size == 1 and (start == 0 or end == len(word))):
                found.append(word[start:end])
    return found


def words(text: str) -> list[str]:
    """Words up to the first `</s>`, and one behind them."""
    found = [word for word in re.split(f"[{SPACES}]+", text) if word]
    return [*(found[: found.index("</s>")] if "</s>" in found else found), "</s>"]


def vectors(model: Any, text: str) -> list[int]:
    """Rows of the input matrix, in the order of the library."""
    dictionary = {word: i for i, word in enumerate((*model.words, *model.label_tokens))}
    kept = None if model.kept is None else {int(bucket): i for i, bucket in enumerate(model.kept)}
    rows: list[int] = []
    hashes = []

    def push(bucket: int) -> None:
        if kept is None or bucket in kept:
            rows.append(len(model.words) + (bucket if kept is None else kept[bucket]))

    for word in words(text):
        entry = dictionary.get(word.encode())
        if entry is None and word.startswith("__label__"):
            continue
        if entry is not None and entry >= len(model.words):
            continue
        if entry is not None:
            rows.append(entry)
        if word != "</s>":
            for ngram in ngrams(word, model.minn, model.maxn):
                push(hashed(ngram.encode()) % model.bucket)
        value = hashed(word.encode())
        hashes.append(value - (1 << 32) if value >> 31 else value)
    for first in range(len(hashes)):
        value = hashes[first]
        for second in hashes[first + 1 : first + model.word_ngrams]:
            value = (value * 116049371 + second) % (1 << 64)
            push(value % (1 << 64) % model.bucket)
    return rows


def scores(model: Any, text: str) -> np.ndarray:
    """The score of every label; empty where the text has no word or nothing of it is known."""
    rows = vectors(model, text)
    if not rows or not text.strip(SPACES):
        return np.empty(0)
    times = np.bincount(rows, minlength=len(model.rows))
    hidden = times @ model.rows.astype(np.float64) / len(rows)
    outputs = model.output.astype(np.float64) @ hidden
    if model.loss == 1:
        return np.array([leaf(model, hidden, label) for label in range(len(model.labels))])
    if model.loss == 3:
        shares = np.exp(outputs - outputs.max())
        return shares / shares.sum() + 1e-5
    steps = np.clip(np.floor((outputs + 8) * 32), 0, 512) / 32 - 8  # a table of 512 steps
    shares = 1 / (1 + np.exp(-steps))
    return np.where(outputs < -8, 0, np.where(outputs > 8, 1, shares)) + 1e-5


def leaf(model: Any, hidden: np.ndarray, label: int) -> float:
    """Product of the shares on the way from the root to a label, each made larger by 1e-5."""
    leaves, score, node = len(model.labels), 1.0, label
    while node != 2 * leaves - 2:
        (side,), (inner,) = np.nonzero(model.tree == node)
        right = 1 / (1 + math.exp(-float(model.output[inner].astype(np.float64) @ hidden)))
        score *= (right if side else 1 - right) + 1e-5
        node = leaves + int(inner)
    return score


def write_model(words: dict[str, str]) -> bytes:
    """A model file, softmax, that gives every word one vote for its label, others none."""
    labels = list(dict.fromkeys(words.values()))
    data = struct.pack("<ii", 793712314, 12)
    data += struct.pack("<12id", len(labels), 5, 5, 1, 5, 1, 3, 3, 0, 0, 0, 100, 1e-4)
    data += struct.pack("<iiiqq", 1 + len(words) + len(labels), 1 + len(words), len(labels), 9, -1)
    entries = [("</s>", 0), *((word, 0) for word in words), *((f"__label__{label}", 1) for label in labels)]
    for entry, kind in entries:
        data += entry.encode() + b"\0" + struct.pack("<qb", 1, kind)
    rows = np.zeros((1 + len(words), len(labels)), "<f4")
    for row, label in enumerate(words.values(), start=1):
        rows[row, labels.index(label)] = 8
    for matrix in (rows, np.eye(len(labels), dtype="<f4")):
        data += b"\0" + struct.pack("<qq", *matrix.shape) + matrix.tobytes()
    return data
