"""What a fit gives: one JSON file with shares or worths of sources, and the report that says how far to trust them.

`{"kind": "regmix", "weights": {source: share}, "report": {...}}`, as `schemas/fit.json` says it. Kind `utility` holds
worths of tokens instead, as shares of 1, and `half_lives` where they were fitted. A fit that found no signal writes its
report with no weights at all, so that nobody trains on a guess: whoever reads weights from such a file is told so.
"""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curate import store
from curate.errors import RecipeError, nearest

WORTHS = "utility"
"""The kind whose weights are worths of tokens, and no shares of a mixture."""

_KEYS = ("kind", "weights", "half_lives", "report")
_OFF = 1e-2
"""Shares may be rounded by hand; a sum further from 1 is taken for another kind of number."""


@dataclass(frozen=True)
class Result:
    """`weights`: shares by source, or worths where `kind` is `utility`; `half_lives`: epochs after which a repeat of a
    source is worth half, for those that were fitted."""

    kind: str
    weights: dict[str, float]
    half_lives: dict[str, float] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


def write(
    path: str,
    kind: str,
    weights: Mapping[str, float],
    report: Mapping[str, Any],
    *,
    half_lives: Mapping[str, float] | None = None,
) -> None:
    """Write a result; same arguments, same bytes. Shares of 0 are left out; no weights mean that there was no signal.

    RecipeError for shares below 0, not finite, or of another sum than 1, for half-lives that are not above 0 or not of
    kind `utility`, and for a report that JSON cannot hold.
    """
    where = f"the result of {kind}"
    lives = {source: epochs for source, epochs in (half_lives or {}).items() if weights.get(source)}
    made: dict[str, Any] = {"kind": kind, "weights": dict(weights), "report": dict(report)}
    made |= {"half_lives": lives} if lives else {}
    _checked(made, where)
    _summed(weights, where)
    for key, numbers in (("weights", weights), ("half_lives", lives)):
        if key in made:
            made[key] = {source: float(number) for source, number in numbers.items() if number}
    try:
        text = json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"the report of {kind} does not go into JSON: {error}") from error
    store.put(path, (text + "\n").encode())


def read(path: str) -> dict[str, float]:
    """Shares by source, as they stand in the file. RecipeError if it is no result, one of a fit without signal, or one
    of worths."""
    return shares(path).weights


def shares(path: str) -> Result:
    """The result with shares of sources. RecipeError as for `read`."""
    found = load(path)
    if found.kind == WORTHS:
        raise RecipeError(f"{path} has worths of tokens (kind '{WORTHS}'), no shares; `utility: FILE` takes it")
    return _with_signal(found, path)


def worths(path: str) -> Result:
    """The result with worths. RecipeError if it is no result, one of a fit without signal, or one of shares."""
    found = load(path)
    if found.kind != WORTHS:
        raise RecipeError(f"{path} has shares (kind '{found.kind}'), no worths of tokens; `fit: FILE` takes it")
    return _with_signal(found, path)


def load(path: str) -> Result:
    """Any result. RecipeError, which says what does not fit `schemas/fit.json`, if it is none."""
    try:
        raw = json.loads(store.read(path).decode("utf-8-sig"), parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path} is no JSON ({error}); the result of a `curate fit` is wanted") from error
    where = f"{path} is no result of a fit"
    _checked(raw, where)
    weights, lives = ({name: float(n) for name, n in raw.get(key, {}).items()} for key in ("weights", "half_lives"))
    _summed(weights, where)
    return Result(raw["kind"], weights, lives, raw["report"])


def result_schema() -> dict[str, Any]:
    """The JSON Schema of a result. That weights sum to 1, where there are any, goes without it."""
    return {
        "type": "object",
        "properties": {
            "kind": {"type": "string", "minLength": 1},
            "weights": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
            "half_lives": {"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0}},
            "report": {"type": "object"},
        },
        "required": ["kind", "weights", "report"],
        "additionalProperties": False,
        # Half-lives without worths, or of shares, would be read by nobody.
        "if": {"required": ["half_lives"]},
        "then": {"properties": {"kind": {"const": WORTHS}}},
    }


def _checked(raw: Any, where: str) -> None:
    """RecipeError where a value does not fit the schema."""
    if not isinstance(raw, dict):
        raise RecipeError(f'{where}: {{"kind": ..., "weights": {{source: share}}, "report": {{}}}} is wanted')
    for key in raw:
        if key not in _KEYS:
            raise RecipeError(f"{where}: unknown key '{key}'{nearest(key, _KEYS) or '; keys are ' + ', '.join(_KEYS)}")
    for key, kind, wanted in (("kind", str, "a word"), ("weights", dict, "an object"), ("report", dict, "an object")):
        if key not in raw:
            raise RecipeError(f"{where}: `{key}` is missing")
        if not isinstance(raw[key], kind) or raw[key] == "":
            raise RecipeError(f"{where}: `{key}` is {_short(raw[key])}; it is {wanted}")
    for source, share in raw["weights"].items():
        if not (_is_number(share) and share >= 0):
            raise RecipeError(f"{where}: the weight of '{source}' is {_short(share)}; weights are numbers, 0 or more")
    lives = raw.get("half_lives", {})
    if not isinstance(lives, dict):
        raise RecipeError(f"{where}: `half_lives` is {_short(lives)}; it is an object")
    if "half_lives" in raw and raw["kind"] != WORTHS:
        raise RecipeError(f"{where}: `half_lives` go with kind '{WORTHS}', and this is '{raw['kind']}'")
    for source, epochs in lives.items():
        if not (_is_number(epochs) and epochs > 0):
            raise RecipeError(f"{where}: the half-life of '{source}' is {_short(epochs)}; it is a number above 0")


def _summed(weights: Mapping[str, float], where: str) -> None:
    total = math.fsum(weights.values())
    if weights and abs(total - 1) > _OFF:
        raise RecipeError(f"{where}: weights sum to {total:.6g}; they sum to 1")


def _with_signal(found: Result, path: str) -> Result:
    if not found.weights:
        raise RecipeError(
            f"{path} has no weights: its fit found no signal (see its `report`); train more runs, or give weights"
        )
    if lost := sorted(set(found.half_lives) - set(found.weights)):
        raise RecipeError(f"{path} has a half-life of '{lost[0]}', of which it says no worth")
    return found


def _is_number(value: Any) -> bool:
    """Whether it is a number that a float can be; of integers few are."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refused(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
