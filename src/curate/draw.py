"""The keyed order of documents: one 64-bit draw for each, from its `id`, its `origin` and a seed.

Every sample, remainder and shuffle of the project is an order or a threshold on such draws, so it depends on the
documents alone: not on files, shards, workers or the order in which anything ran, and samples are nested.
"""

import numpy as np
import pyarrow as pa

from curate.arrow import row_hashes
from curate.kernels.hash import keyed

READS = ("id", "origin")


def draws(table: pa.Table, seed: int) -> np.ndarray:
    """One uint64 per document from `id` and `origin`."""
    return keyed_by(table.select(list(READS)), seed)


def keyed_by(columns: pa.Table, seed: int) -> np.ndarray:
    """One uint64 per row from all the given columns: equal rows get equal draws."""
    return again(row_hashes(columns), seed)


def again(keys: np.ndarray, seed: int) -> np.ndarray:
    """Draws from draws: the order of another epoch, or of another use."""
    out = np.empty(len(keys), np.uint64)
    keyed(np.uint64(seed), np.ascontiguousarray(keys, np.uint64), out)
    return out


def threshold(share: float) -> np.uint64:
    """Draws below this are a share of all, 0 <= share <= 1."""
    return np.uint64(min(int(share * 2.0**64), 2**64 - 1))
