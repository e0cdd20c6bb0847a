"""Expressions over a document's columns: Polars SQL, parsed before work, evaluated on tables of numbers.

A rule keeps a row where it is true. Where it is null, or a float column it names is NaN, nothing is known: the row
fails with `NAME:unknown`, counted apart (`coalesce(x, 0) > 1` gives such rows a value).
"""

from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import yaml

from curate import store
from curate.errors import RecipeError, nearest

RULES = store.join(store.parent(store.absolute(__file__)), "rules")


@cache
def parse(expression: str) -> pl.Expr:
    """The expression, checked to be one that looks at one row at a time."""
    if not isinstance(expression, str) or not expression.strip():
        raise RecipeError(f"an expression like `words >= 50` is wanted, found {expression!r}")
    try:
        parsed = pl.sql_expr(expression)
        names = roots(parsed)
    except pl.exceptions.PolarsError as error:
        raise RecipeError(f"cannot read the expression `{expression}`: {error}") from error
    if not names:
        raise RecipeError(f"the expression `{expression}` names no column")
    if ".over(" in str(parsed) or _reduces(parsed, names):
        raise RecipeError(
            f"the expression `{expression}` looks at many rows at once; a rule sees one: let a stage make the column"
        )
    return parsed


def roots(expression: pl.Expr) -> tuple[str, ...]:
    """Columns that an expression names, in order of first use."""
    return tuple(dict.fromkeys(expression.meta.root_names()))


def columns(expression: str) -> tuple[str, ...]:
    """Columns that an expression in text form names."""
    return roots(parse(expression))


def evaluate(expression: str, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Per row: is it true, and is it unknown (null, or a NaN in a column it names). Both bool[n]."""
    parsed = parse(expression)
    frame = pl.from_arrow(table.select(list(roots(parsed))))
    assert isinstance(frame, pl.DataFrame)
    nan = [pl.col(name).is_nan().fill_null(False) for name, kind in frame.schema.items() if kind.is_float()]
    unknown = pl.any_horizontal(nan) if nan else pl.lit(False)
    try:
        result = frame.select(value=parsed, nan=unknown)
    except pl.exceptions.PolarsError as error:
        kinds = ", ".join(f"{name} is {kind}" for name, kind in frame.schema.items())
        raise RecipeError(f"the expression `{expression}` cannot be computed ({kinds}): {error}") from error
    if result.schema["value"] != pl.Boolean:
        raise RecipeError(f"the expression `{expression}` gives {result.schema['value']}, a rule is true or false")
    lost = (result["value"].is_null() | result["nan"]).to_numpy()
    return result["value"].fill_null(False).to_numpy() & ~lost, lost


@cache
def bundle(name: str) -> dict[str, str]:
    """A named set of rules: rule name to the condition that keeps a row."""
    if name not in bundles():
        raise RecipeError(
            f"no rules are called '{name}'{nearest(name, bundles()) or '; there are ' + ', '.join(bundles())}"
        )
    raw: Any = yaml.safe_load(store.read(store.join(RULES, f"{name}.yaml")))
    return {rule: entry["keep"] for rule, entry in raw["rules"].items()}


@cache
def bundles() -> tuple[str, ...]:
    """Names of the rule sets that come with the package."""
    return tuple(sorted(file.removesuffix(".yaml") for file in store.listing(RULES) if file.endswith(".yaml")))


def _reduces(parsed: pl.Expr, names: tuple[str, ...]) -> bool:
    frame = pl.DataFrame({name: pl.Series([None, None], dtype=pl.Null) for name in names})
    try:
        # Unaliased, an aggregate gives one row for two; a type it cannot take is judged when real columns are there.
        return frame.select(parsed.alias("value")).height != 2
    except pl.exceptions.PolarsError:
        return False
