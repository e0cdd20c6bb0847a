"""What a fit gives: one JSON file with shares of sources and the report that says how far to trust them.

`{"kind": "regmix", "weights": {source: share}, "report": {...}}`. A fit that found no signal writes its report with no
weights at all, so that nobody trains on a guess: whoever reads weights from such a file is told so.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from curate import store
from curate.errors import RecipeError

_OFF = 1e-2
"""Shares may be rounded by hand; a sum further from 1 is taken for another kind of number."""


def write(path: str, kind: str, weights: Mapping[str, float], report: Mapping[str, Any]) -> None:
    """Write a result; same arguments, same bytes. Shares of 0 are left out; no weights mean that there was no signal.

    RecipeError for shares below 0, not finite, or of another sum than 1, and for a report that JSON cannot hold.
    """
    if weights:
        _checked(weights, f"the weights of {kind}")
    kept = {source: float(share) for source, share in weights.items() if share}
    try:
        text = json.dumps(
            {"kind": kind, "weights": kept, "report": dict(report)},
            indent=1,
            sort_keys=True,
            ensure_ascii=False,
            allow_nan=False,
        )
    except (TypeError, ValueError) as error:
        raise RecipeError(f"the report of {kind} does not go into JSON: {error}") from error
    store.put(path, (text + "\n").encode())


def read(path: str) -> dict[str, float]:
    """Shares by source, as they stand in the file. RecipeError if it is no result, or one of a fit without signal."""
    weights = load(path)["weights"]
    if not weights:
        raise RecipeError(
            f"{path} has no weights: its fit found no signal (see its `report`); train more runs, or give weights"
        )
    return {source: float(share) for source, share in _checked(weights, path).items()}


def load(path: str) -> dict[str, Any]:
    """The whole result with its report. RecipeError if it is none."""
    try:
        raw = json.loads(store.read(path))
    except ValueError as error:
        raise RecipeError(f"{path} is no JSON ({error}); the result of a `curate fit` is wanted") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("kind"), str) or not isinstance(raw.get("weights"), dict):
        raise RecipeError(f'{path} is no result of a fit: {{"kind": ..., "weights": {{source: share}}}} is wanted')
    return raw


def _checked(weights: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    for source, share in weights.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not (math.isfinite(share) and share >= 0):
            raise RecipeError(f"{where}: the share of '{source}' is {share!r}; shares are numbers, 0 or more")
    total = math.fsum(weights.values())
    if abs(total - 1) > _OFF:
        raise RecipeError(f"{where}: shares sum to {total:.6g}; they sum to 1")
    return weights
