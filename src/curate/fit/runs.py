"""Tables of small runs: what each was trained on, what it lost on each held-out set, and how many tokens there are.

Two CSV files joined by `index`: shares of sources, and losses. Names are taken as they are.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate import store
from curate.errors import DataError, RecipeError, nearest

Float64s = NDArray[np.float64]

_OFF = 1e-2
"""Sums of shares that are rounded to a few decimals; beyond, a row is divided by its sum."""
MEAN = "mean"


@dataclass(frozen=True)
class Mixtures:
    """`shares` float64[n, k] of the sources `names`, in the order of their names; `index` names the rows."""

    index: tuple[str, ...]
    names: tuple[str, ...]
    shares: Float64s
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runs:
    """Mixtures and, row-aligned, losses float64[n] by name; a loss that is missing is NaN."""

    mixtures: Mixtures
    losses: dict[str, Float64s]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """What is to be low: `values` float64[m] of the runs `rows`, from the losses `names`."""

    names: tuple[str, ...]
    values: Float64s
    rows: NDArray[np.int64]
    warnings: tuple[str, ...] = field(default=())


def read_mixtures(uri: str) -> Mixtures:
    """A table of mixtures. Rows that sum to 1 but for rounding (0.01) stay as they are; others are divided by their
    sums, with a warning. RecipeError for shares that are below 0, missing or no numbers, for a row of zeros, and where
    more than half of the rows do not sum to 1: that is another table."""
    frame = _frame(uri)
    names = tuple(sorted(name for name in frame.columns if name != "index"))
    if len(names) < 2:
        raise RecipeError(f"{uri} has {len(names)} columns of sources; a mixture needs two at least")
    for name in names:
        if not frame[name].dtype.is_numeric():
            raise RecipeError(f"{uri}: column '{name}' holds {frame[name].dtype}; shares are numbers")
    shares = frame.select(names).cast(pl.Float64).fill_null(np.nan).to_numpy()
    index = tuple(frame["index"].to_list())
    bad = np.argwhere(~(np.isfinite(shares) & (shares >= 0)))
    if len(bad):
        row, column = bad[0]
        raise RecipeError(
            f"{uri}: run {index[row]} has {shares[row, column]} of '{names[column]}'; shares are 0 or more"
        )
    sums = shares.sum(axis=1)
    if (sums == 0).any():
        raise RecipeError(f"{uri}: all shares of run {index[int(np.argmin(sums))]} are 0")
    off = np.abs(sums - 1) > _OFF
    if 2 * off.sum() > len(sums):
        raise RecipeError(
            f"{uri}: the columns {', '.join(names[:5])}{' ...' if len(names) > 5 else ''} sum to 1 in "
            f"{len(sums) - int(off.sum())} of {len(sums)} runs only; shares of sources are wanted here, one "
            "column each, and losses in a table of their own"
        )
    said = []
    if off.any():
        worst = int(np.argmax(np.abs(sums - 1)))
        said.append(
            f"{uri}: shares of {int(off.sum())} of {len(sums)} runs do not sum to 1 (run {index[worst]}: "
            f"{sums[worst]:.4g}); they are divided by their sums"
        )
        shares = np.where(off[:, None], shares / sums[:, None], shares)
    return Mixtures(index, names, np.ascontiguousarray(shares), tuple(said))


def read_runs(mixtures: str, losses: str) -> Runs:
    """Both tables joined by `index`; rows that stand in one only are left out, with a warning."""
    left, frame = read_mixtures(mixtures), _frame(losses)
    where = {name: row for row, name in enumerate(frame["index"].to_list())}
    both = [row for row, name in enumerate(left.index) if name in where]
    said = list(left.warnings)
    if not both:
        raise RecipeError(f"{mixtures} and {losses} have no `index` in common")
    alone = len(left.index) + len(where) - 2 * len(both)
    if alone:
        said.append(f"{alone} runs stand in only one of {mixtures} and {losses}; they are left out")
    picked = frame[[where[left.index[row]] for row in both]]
    names = [name for name in picked.columns if name != "index" and picked[name].dtype.is_numeric()]
    if not names:
        raise RecipeError(f"{losses} has no column of numbers beside `index`")
    values = {name: picked[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in names}
    kept = Mixtures(tuple(left.index[row] for row in both), left.names, left.shares[both])
    return Runs(kept, values, tuple(said))


def target(runs: Runs, wanted: str) -> Target:
    """The losses that `wanted` names: a column, a part of its name that no other has, several with commas between, or
    `mean` for all. Of several it is the mean of their z-scores. Runs without a finite loss are left out, and told.

    RecipeError for names that fit no column or more than one, and for a loss that is the same everywhere.
    """
    names = (
        tuple(runs.losses)
        if wanted == MEAN and MEAN not in runs.losses
        else tuple(dict.fromkeys(_column(part.strip(), tuple(runs.losses)) for part in wanted.split(",")))
    )
    values = np.stack([runs.losses[name] for name in names], axis=1)
    rows = np.flatnonzero(np.isfinite(values).all(axis=1))
    said: tuple[str, ...] = ()
    if len(rows) < len(values):
        said = (f"{len(values) - len(rows)} of {len(values)} runs have no finite loss; they are left out",)
    values = values[rows]
    for name, column in zip(names, values.T, strict=True):
        if len(rows) < 2 or not np.ptp(column):
            raise RecipeError(f"'{name}' is the same in all {len(rows)} runs; there is nothing to fit")
    if len(names) > 1:
        values = (values - values.mean(axis=0)) / values.std(axis=0)
    return Target(names, np.ascontiguousarray(values.mean(axis=1)), rows, said)


def table(index: Sequence[str], columns: dict[str, Float64s]) -> str:
    """CSV with `index` and columns float64[n]."""
    return pl.DataFrame({"index": list(index), **columns}).write_csv()


def read_available(uri: str) -> dict[str, int]:
    """Tokens by source from JSON: `{"web": 1000000}` or `{"web": {"tokens": 1000000}}`."""
    try:
        raw = json.loads(store.read(uri))
    except ValueError as error:
        raise RecipeError(f"{uri} is no JSON: {error}") from error
    if not isinstance(raw, dict):
        raise RecipeError(f'{uri}: tokens by source are wanted, such as {{"web": 1000000}}')
    found = {}
    for source, value in raw.items():
        count = value.get("tokens") if isinstance(value, dict) else value
        if isinstance(count, bool) or not isinstance(count, int):
            raise RecipeError(f"{uri}: '{source}' has {count!r} tokens; a whole number is wanted")
        found[source] = count
    return found


def available(run: str) -> dict[str, int]:
    """Tokens by source of the documents of a finished run; those held out for validation are no training data.

    RecipeError where no documents of the run have `tokens`, DataError for a damaged file.
    """
    from curate.candidates import documents

    found = documents(run, (), ("source", "tokens"), None)
    held = ("validation",) if found.view.has(("validation",)) else ()
    sums: dict[str, int] = {}
    for job in found.jobs(("source", "tokens", *held)):
        frame = pl.from_arrow(job.table())
        assert isinstance(frame, pl.DataFrame)
        frame = frame.filter(~pl.col("validation")) if held else frame
        counted = frame.with_columns(pl.col("source").cast(pl.String)).group_by("source").agg(pl.col("tokens").sum())
        for source, tokens in counted.iter_rows():
            sums[source] = sums.get(source, 0) + int(tokens)
    if not sums:
        raise DataError(f"{run} has no documents with tokens")
    return sums


def _frame(uri: str) -> pl.DataFrame:
    """A CSV file with `index` as words, each once."""
    try:
        frame = pl.read_csv(io.BytesIO(store.read(uri)), infer_schema_length=None)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise RecipeError(f"{uri} is no CSV: {' '.join(str(error).split())[:200]}") from error
    if "index" not in frame.columns:
        raise RecipeError(f"{uri} has no column 'index', which names a run; found {', '.join(frame.columns[:5])}")
    if not frame.height:
        raise RecipeError(f"{uri} has no rows")
    frame = frame.with_columns(pl.col("index").cast(pl.String))
    twice = frame.filter(pl.col("index").is_duplicated() | pl.col("index").is_null())["index"]
    if len(twice):
        raise RecipeError(f"{uri}: run {twice[0]} stands there more than once, or has no `index`")
    return frame


def _column(wanted: str, names: Sequence[str]) -> str:
    if wanted in names:
        return wanted
    alike = [name for name in names if wanted and wanted in name]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise RecipeError(f"'{wanted}' is part of {len(alike)} losses: {', '.join(alike[:5])}; name one in full")
    hint = nearest(wanted, list(names)) or f"; there are {', '.join(names)}"
    raise RecipeError(f"there is no loss '{wanted}'{hint}")
