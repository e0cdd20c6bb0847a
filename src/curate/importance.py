"""How much likelier a text is under a target than under the pool, by hashed words and pairs of words.

The cheap way to select towards a target, as DSIR does it (Xie et al. 2023, arXiv 2302.03169): a bag of n-grams, each
hashed into one of 10,000 buckets, is drawn from one distribution in the target and from another in the pool; the
logarithm of the ratio of a text's probabilities is a sum over its n-grams. Words are those of `near` (`shingles.py`),
in lower case.

The catch: the sum grows with the length of a text, and unlike words share buckets: some 50,000 common n-grams mean
five to a bucket.
"""

import numpy as np

from curate.arrow import stretches
from curate.errors import DataError

BUCKETS = 10_000
PRIOR = 10_000.0
"""N-grams of the pool that are added to those of the target: one for each bucket."""
BYTES_AT_ONCE = 16 << 20


def features(offsets: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Buckets of the words and pairs of neighbouring words of each text, repeats included.

    `offsets` int64[n + 1] into `data` uint8[...], rows of UTF-8, as `arrow.utf8` gives them. Gives row_offsets
    int64[n + 1] into buckets uint16[...], each below 10,000: 2 * w - 1 of a text of w words, none of one of no words.
    """
    from curate.kernels.importance import fill_buckets
    from curate.kernels.shingles import folds, word_shingles

    row_offsets, parts = np.zeros(len(offsets), np.int64), [np.empty(0, np.uint16)]
    for start, stop in stretches(offsets, BYTES_AT_ONCE):
        part = offsets[start : stop + 1]
        words = np.empty(int(part[-1] - part[0]) // 2 + len(part), np.uint32)
        first, found = np.empty(len(part), np.int64), np.empty(len(part), np.int64)
        word_shingles(part, data, folds(), 1, first, words)
        buckets = np.empty(2 * int(first[-1]), np.uint16)
        fill_buckets(first, words, found, buckets)
        row_offsets[start + 1 : stop + 1] = row_offsets[start] + found[1:]
        parts.append(buckets[: found[-1]])
    return row_offsets, np.concatenate(parts)


def counts(row_offsets: np.ndarray, buckets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How often each bucket stands in some rows, int64[10000]. `rows`: bool[n], or row numbers int64[...]."""
    from curate.kernels.importance import count_buckets

    chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
    out = np.zeros(BUCKETS, np.int64)
    count_buckets(_fixed(row_offsets), _fixed(buckets), np.ascontiguousarray(chosen, np.int64), out)
    return out


def log_ratio(target_counts: np.ndarray, pool_counts: np.ndarray) -> np.ndarray:
    """log(p_target / p_pool) of each bucket, float64[10000], finite for all counts.

    The pool's shares have one n-gram added to each bucket. The target's have 10,000 n-grams of the pool added
    (Dirichlet smoothing, Zhai and Lafferty 2001), so where a small target set says nothing, the ratio is near 1; to add
    one to each bucket there too would make all frequent words look rare in it. With no target n-grams all are 0.
    """
    if target_counts.shape != (BUCKETS,) or pool_counts.shape != (BUCKETS,):
        shapes = f"{target_counts.shape} and {pool_counts.shape}"
        raise DataError(f"counts of buckets have shapes {shapes}; {BUCKETS:,} counts each are wanted")
    pool = (pool_counts + 1.0) / (pool_counts.sum() + float(BUCKETS))
    target = (target_counts + PRIOR * pool) / (target_counts.sum() + PRIOR)
    found: np.ndarray = np.log(target / pool)
    return found


def scores(row_offsets: np.ndarray, buckets: np.ndarray, log_ratio: np.ndarray) -> np.ndarray:
    """The sum of the log ratios of each text's n-grams, float64[n]; 0 for a text without any.

    It is added up in the order of the text, so it depends on the text and the ratios alone.
    """
    from curate.kernels.importance import sum_weights

    out = np.empty(len(row_offsets) - 1)
    sum_weights(_fixed(row_offsets), _fixed(buckets), _fixed(log_ratio), out)
    return out


def _fixed(values: np.ndarray) -> np.ndarray:
    """Read-only, as what comes from Arrow is: kernels are compiled for one kind of array."""
    view = np.ascontiguousarray(values).view()
    view.setflags(write=False)
    return view
