"""What other thresholds would keep, from columns alone: an answer in a second, before anything is run again.

`whatif` tries a rule in the place of a `select` step, `sweep` goes along one column. Both look at the rows that the
step saw, read the columns that are named and sizes, and no text. What later steps would drop is not foretold.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from curate import expressions
from curate.arrow import one
from curate.errors import RecipeError
from curate.selection import Selection, holding, is_number, ruled
from curate.stage import Verdict
from curate.stages.select import Select

OFF = "off"
_HELD = 4_000_000  # distinct values held before those of several shards are added up


@dataclass(frozen=True)
class Tried(Select):
    """A `select` of rules given by their full names."""

    named_rules: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, expression in self.named_rules.items():
            try:
                expressions.parse(expression)
            except RecipeError as error:
                raise RecipeError(f"'{name}': {error}") from error

    @property
    def conditions(self) -> dict[str, str]:
        return self.named_rules


def whatif(
    out: str,
    *,
    where: str | None = None,
    rules: Sequence[str] = (),
    change: Mapping[str, str] | None = None,
    stage: str | None = None,
) -> dict[str, Any]:
    """Documents, bytes and, where rows have them, tokens by source: `all` that the step `stage` saw, what it keeps
    `now`, what the expression `where` and the rule sets `rules` together would have `kept` in the place of all rules of
    the step, and what would be `gained` and `lost` by them; and documents `dropped` by the first rule that fails.

    With `change` the step's own rules stay, but those named have another expression, or `off`; `where` and `rules` come
    behind them. Without `stage` it is the first step whose rows have all columns named, or the one that has the rules
    to change. RecipeError for columns that the rows do not have, rules that no step has, and where no step has run.
    """
    if where is None and not rules and not change:
        raise RecipeError("nothing to try: give an expression (--where), rule sets (--rules), or a change (--change)")
    given = where is not None or rules
    tried = Select(keep={} if where is None else {"where": where}, rules=tuple(rules)) if given else Tried()
    if change:
        step, changed = _changed(out, change, tried, stage)
        tried = Tried(named_rules=changed)
        step = holding(out, tried.reads, step.name)
    else:
        step = holding(out, tried.reads, stage)
    measures = _measures(step)
    sums: dict[str, np.ndarray] = {}
    dropped: dict[str, int] = {}
    for table in step.tables(("source", *measures[1:], *tried.reads)):
        made = one(tried.apply(table, Verdict())["rule"])
        _add_named(dropped, made)
        kept, now = _is_null(made), _is_null(one(table["rule"]))
        _add_cells(sums, table, measures, kept * 1 + now * 2)
    sources = [{"source": source, **_told(sums[source], measures)} for source in sorted(sums)]
    total = sum(sums.values(), np.zeros((4, len(measures)), np.int64))
    return {
        "run": out,
        "stage": step.name,
        "where": where,
        "rules": list(rules),
        "change": dict(change or {}),
        "sources": sources,
        "total": _told(total, measures),
        "dropped": dict(sorted(dropped.items(), key=lambda item: (-item[1], item[0]))),
    }


def sweep(
    out: str,
    *,
    of: str,
    steps: int = 20,
    at: Sequence[float] = (),
    where: str | None = None,
    below: bool = False,
    stage: str | None = None,
) -> dict[str, Any]:
    """What `of >= threshold` would keep (with `below`, `of <= threshold`) for thresholds at `steps` even quantiles of
    the column and at those given: documents, bytes and tokens, among rows where `where` holds. The rows are those that
    the step `stage` saw, or the first whose rows have all columns named.

    Rows whose value is null or NaN are counted as `unknown` and kept by no threshold. Memory grows with the distinct
    values of the column, some 40 bytes for each. RecipeError for a column that is missing or holds no numbers.
    """
    if steps > 1000:
        raise RecipeError(f"at most 1,000 thresholds fit a curve, found {steps:,} steps")
    if steps < 0 or (not steps and not at):
        raise RecipeError("no thresholds: give --steps above 0, or --at")
    if bad := [value for value in at if not math.isfinite(value)]:
        raise RecipeError(f"a threshold is a finite number, found {bad[0]}")
    step = holding(out, (of, *(expressions.columns(where) if where else ())), stage)
    kind = step.columns.get(of, "int64")
    if not is_number(kind):
        raise RecipeError(f"'{of}' is {kind}: thresholds are for numbers")
    measures = _measures(step)
    levels, sums, unknown = _levels(step, of, where, measures)
    before = np.concatenate([np.zeros((1, len(measures)), np.int64), np.cumsum(sums, axis=0)])
    total = before[-1]
    curve = []
    for threshold in _thresholds(levels, before[:, 0], steps, at, below):
        place = int(np.searchsorted(levels, threshold, "right" if below else "left"))
        kept = before[place] if below else total - before[place]
        share = int(kept[0]) / int(total[0]) if total[0] else 0.0
        curve.append({"threshold": _plain(threshold), **_named(kept, measures), "share": share})
    return {
        "run": out,
        "stage": step.name,
        "of": of,
        "keeps": "<=" if below else ">=",
        "where": where,
        "among": _named(total, measures),
        "unknown": unknown,
        "curve": curve,
    }


def _changed(out: str, change: Mapping[str, str], more: Select, stage: str | None) -> tuple[Selection, dict[str, str]]:
    """The step whose rules change, and its rules by full name after that, those of `more` behind them."""
    step, names = ruled(out, tuple(change), stage)
    if len(set(names)) < len(names):
        raise RecipeError(f"a rule of '{step.name}' is changed twice: {', '.join(change)}")
    if twice := [name for name in more.conditions if name in step.conditions]:
        raise RecipeError(f"'{step.name}' has a rule {twice[0]} already: change that one")
    wanted = dict(zip(names, change.values(), strict=True))
    own = {name: wanted.get(name, expression) for name, expression in step.conditions.items()}
    off = {name for name, expression in wanted.items() if expression.strip() == OFF}
    return step, {name: expression for name, expression in {**own, **more.conditions}.items() if name not in off}


def _measures(step: Selection) -> tuple[str, ...]:
    """What is added up: documents, and the columns of sizes."""
    sized = is_number(step.columns.get("tokens", ""))
    return ("documents", "bytes", *(("tokens",) if sized else ()))


def _is_null(column: pa.Array) -> np.ndarray:
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False))


def _weights(table: pa.Table, measures: tuple[str, ...]) -> list[np.ndarray]:
    """One array of int64 per measure: 1 for each document, and its sizes."""
    sizes = [one(table[name].fill_null(0)).to_numpy().astype(np.int64) for name in measures[1:]]
    return [np.ones(table.num_rows, np.int64), *sizes]


def _sums(place: np.ndarray, places: int, weights: list[np.ndarray]) -> np.ndarray:
    """Weights added up by place, int64[places, measures]. A shard's sums are below 2^53, so float64 holds them."""
    added = [np.bincount(place, weight, minlength=places) for weight in weights]
    return np.stack(added, axis=1).astype(np.int64)


def _add_cells(sums: dict[str, np.ndarray], table: pa.Table, measures: tuple[str, ...], cell: np.ndarray) -> None:
    """Add a shard to the sums of each source in four cells: kept by neither, by the try, by the step, by both."""
    source = one(table["source"])
    source = source if pa.types.is_dictionary(source.type) else source.dictionary_encode()
    names = [*source.dictionary.to_pylist(), ""]
    code = source.indices.fill_null(len(names) - 1).to_numpy().astype(np.int64)
    added = _sums(code * 4 + cell, 4 * len(names), _weights(table, measures)).reshape(len(names), 4, -1)
    for name, cells in zip(names, added, strict=True):
        if cells[:, 0].any():
            sums[name] = sums[name] + cells if name in sums else cells


def _add_named(total: dict[str, int], rule: pa.Array) -> None:
    names = rule.dictionary.to_pylist()
    for name, count in zip(names, np.bincount(rule.indices.drop_null(), minlength=len(names)), strict=True):
        if count:
            total[name] = total.get(name, 0) + int(count)


def _told(cells: np.ndarray, measures: tuple[str, ...]) -> dict[str, Any]:
    neither, gained, lost, both = cells
    every = {"all": neither + gained + lost + both, "now": lost + both, "kept": gained + both}
    return {name: _named(row, measures) for name, row in {**every, "gained": gained, "lost": lost}.items()}


def _named(row: np.ndarray, measures: tuple[str, ...]) -> dict[str, int]:
    return {name: int(value) for name, value in zip(measures, row, strict=True)}


def _levels(
    step: Selection, of: str, where: str | None, measures: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, int]:
    """The distinct values of a column in order, what each weighs int64[values, measures], and rows without one."""
    names = expressions.columns(where) if where else ()
    found: list[tuple[np.ndarray, np.ndarray]] = []
    unknown = 0
    for table in step.tables((of, *measures[1:], *names)):
        if where:
            table = table.filter(pa.array(expressions.evaluate(where, table)[0]))
        column = one(table[of])
        values = _values(column.fill_null(0))
        known = ~(_is_null(column) | np.isnan(values))
        unknown += int(np.count_nonzero(~known))
        levels, place = np.unique(values[known], return_inverse=True)
        weights = [weight[known] for weight in _weights(table, measures)]
        found.append((levels, _sums(place, len(levels), weights)))
        if sum(len(levels) for levels, _ in found[1:]) > max(_HELD, len(found[0][0])):
            found = [_merged(found, measures)]
    return *_merged(found, measures), unknown


def _merged(found: list[tuple[np.ndarray, np.ndarray]], measures: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    if not found:
        return np.empty(0), np.empty((0, len(measures)), np.int64)
    levels, place = np.unique(np.concatenate([levels for levels, _ in found]), return_inverse=True)
    sums = np.zeros((len(levels), len(measures)), np.int64)
    np.add.at(sums, place, np.concatenate([sums for _, sums in found]))
    return levels, sums


def _values(column: pa.Array) -> np.ndarray:
    """Numbers as they compare: floats as they are, integers as int64 (those of uint64 as float64)."""
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype == np.uint64 or values.dtype.kind not in "iuf":
        return np.asarray(values.astype(np.float64))
    return np.asarray(values.astype(np.int64) if values.dtype.kind in "iu" else expressions.decimals(values))


def _thresholds(levels: np.ndarray, before: np.ndarray, steps: int, at: Sequence[float], below: bool) -> list[Any]:
    """Values at even quantiles of the documents, and those given, in order and in the type of the column.

    A threshold keeps at least its even share: `i / steps` of the documents, where ties allow no less.
    """
    rows = int(before[-1])
    if below:
        ranks = [-(-i * rows // steps) - 1 for i in range(1, steps + 1)]
    else:
        ranks = [i * rows // steps for i in range(steps)]
    places = np.searchsorted(before[1:], ranks if rows else [], "right")
    whole = levels.dtype.kind == "i"
    given = [(math.floor(value) if below else math.ceil(value)) if whole else value for value in at]
    bound = np.iinfo(np.int64)
    typed = [levels.dtype.type(min(max(value, bound.min), bound.max) if whole else value) for value in given]
    return sorted({*(levels[place] for place in places), *typed})


def _plain(value: Any) -> int | float:
    """The shortest number that reads back as this value of its type."""
    return int(value) if value.dtype.kind == "i" else float(str(value))
