"""The language of stretches of text, by a fastText classifier: what the language stage and checks of generated text
share. A model is read once per process."""

from functools import cache
from typing import Any

import numpy as np

from curate import fasttext
from curate.assets import Asset


@cache
def model(asset: Asset) -> tuple[tuple[str, ...], Any]:
    """Names of the labels and the kernel's tables. AssetError for a file that is no classifier."""
    from curate.kernels.fasttext import tables

    parsed = fasttext.parse(asset.read(), name=asset.uri)
    return parsed.labels, tables(parsed)


def identified(starts: np.ndarray, ends: np.ndarray, data: np.ndarray, tables: Any) -> tuple[np.ndarray, np.ndarray]:
    """The place of the likeliest label, int32[n], -1 without a word, and its share, float32[n], of each stretch
    data[starts[i]:ends[i]]."""
    from curate.kernels.fasttext import identify

    best, scores = np.empty(len(starts), np.int32), np.empty(len(starts), np.float32)
    fixed = data.view()
    fixed.setflags(write=False)  # as Arrow's own bytes are: for others the kernel would be compiled again
    identify(np.array(starts), np.array(ends), fixed, tables, best, scores)
    return best, scores
