"""Best of several: the lexical diversity of candidates, and the choice of one in each group.

Active inheritance (Shimabucoro et al. 2024, arXiv 2407.01490) generates several candidates for a prompt and keeps the
one that a measure likes best; filters come first, or the measure picks what is wrong with it. Selecting costs as many
times the generation as there are candidates.
"""

from typing import Literal

import numpy as np
import pyarrow as pa

from curate.arrow import utf8
from curate.errors import RecipeError

SHORTEST, WINDOW = 50, 50
"""Words of the shortest text that MTLD says something about, and of the window of MATTR below it."""


def diversity(texts: pa.Array) -> pa.Table:
    """`mtld` float64 (words per factor, some 20 to 200 in prose), null below 50 words; `mattr`, the moving share of
    distinct words, 0 to 1; `words`.

    MTLD: McCarthy & Jarvis 2010. Two measures with two scales: `comparable` makes one order of both.
    """
    from curate.kernels.diversity import moving_share, mtld
    from curate.kernels.vocabulary import numbered

    first, numbers = numbered(*utf8(texts))
    room = np.empty(len(numbers), np.int64)
    long, share = np.empty(len(texts)), np.empty(len(texts))
    mtld(first, numbers, room, long)
    moving_share(first, numbers, WINDOW, room, share)
    words = np.diff(first)
    return pa.table({"mtld": pa.array(long, mask=words < SHORTEST), "mattr": pa.array(share), "words": pa.array(words)})


def comparable(measured: pa.Table) -> np.ndarray:
    """One score per row of `diversity`: MTLD, and MATTR where there is none. MATTR, at most 1, lies below every MTLD
    of real text, so of a short and a long candidate the long one wins."""
    score = measured["mtld"].combine_chunks().fill_null(0).to_numpy(zero_copy_only=False)
    short = measured["words"].to_numpy() < SHORTEST
    chosen: np.ndarray = np.where(short, measured["mattr"].to_numpy(), score)
    return chosen


def select(
    scores: np.ndarray, groups: np.ndarray, *, accepted: np.ndarray, direction: Literal["highest", "lowest"]
) -> np.ndarray:
    """bool[n]: the best accepted row of each group; on a tie the first.

    `scores` float64[n], `groups` whole numbers[n] in any order, `accepted` bool[n]: rows that the filters let pass. A
    NaN is never chosen; a group without an accepted number has no best. RecipeError for another direction.
    """
    if direction not in ("highest", "lowest"):
        raise RecipeError(f"a direction is highest or lowest, found {direction!r}")
    rows = np.flatnonzero(np.asarray(accepted, bool) & ~np.isnan(scores))
    wanted = np.asarray(scores, np.float64)[rows] * (-1 if direction == "highest" else 1)
    order = np.lexsort((rows, wanted, np.asarray(groups)[rows]))
    best = np.zeros(len(scores), bool)
    ordered = np.asarray(groups)[rows][order]
    heads = np.ones(len(ordered), bool)
    heads[1:] = ordered[1:] != ordered[:-1]
    best[rows[order[heads]]] = True
    return best
