"""Expressions over a document's columns: Polars SQL, parsed before work, evaluated on tables of numbers.

A rule keeps a row where it is true. Where it is null, or a number that it names or computes outside of CASE is NaN,
nothing is known (Polars would call NaN larger than all numbers): the row fails with `NAME:unknown`, counted apart.
`coalesce(x, 0) > 1` gives a null a value. A float32 column counts as the decimal of seven digits that it stands for, so
that a threshold means the same in every form.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate import languages, store, strict
from curate.errors import RecipeError, nearest

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_PARAMETER = re.compile(_QUOTED.pattern + r"|\$(\w+)")
_MANY_ROWS = re.compile(r"\b(over|select|unnest)\b", re.IGNORECASE)
_CLOCK = re.compile(r"\b(now\s*\(|current_(date|time)|localtime)", re.IGNORECASE)
_TYPES = (pl.Null, pl.Int64, pl.Float64, pl.String, pl.Boolean, pl.Date, pl.List(pl.Int64))
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
    bare = _QUOTED.sub("", expression)
    if _MANY_ROWS.search(bare) or any(map(_reduces, _parts(parsed))):
        raise RecipeError(
            f"the expression `{expression}` looks at many rows at once; a rule sees one: let a stage make the column"
        )
    if _CLOCK.search(bare):
        raise RecipeError(f"the expression `{expression}` asks the clock; a rule gives the same every time")
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
    for name in roots(parsed):
        if name not in table.column_names:
            raise RecipeError(
                f"the expression `{expression}` names '{name}', which is no column{nearest(name, table.column_names)}"
            )
    frame = pl.from_arrow(table.select(list(roots(parsed))))
    assert isinstance(frame, pl.DataFrame)
    frame = frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String), _decimal(pl.col(pl.Float32)))
    try:
        result = frame.select(value=parsed, nan=_is_nan(parsed, frame))
    except pl.exceptions.PolarsError as error:
        kinds = ", ".join(f"{name} is {kind}" for name, kind in frame.schema.items())
        raise RecipeError(f"the expression `{expression}` cannot be computed ({kinds}): {error}") from error
    if result.schema["value"] != pl.Boolean:
        raise RecipeError(f"the expression `{expression}` gives {result.schema['value']}, a rule is true or false")
    lost = (result["value"].is_null() | result["nan"]).to_numpy()
    return result["value"].fill_null(False).to_numpy() & ~lost, lost


def decimals(values: np.ndarray) -> np.ndarray:
    """Numbers as they are compared: float32 as float64 of seven digits, others as they are.

    A share of 0.2 is 0.200000003 as float32, and SQL widens it here and there: seven digits make it 0.2 again.
    """
    return (
        pl.select(_decimal(pl.lit(pl.Series(values)))).to_series().to_numpy() if values.dtype == np.float32 else values
    )


def _decimal(column: pl.Expr) -> pl.Expr:
    return column.cast(pl.Float64).round_sig_figs(7)


def bundle(name: str) -> dict[str, str]:
    """A set of rules: rule name to the condition that keeps a row. `name` is one of `bundles()`, or the location of a
    YAML file of the same form, which is one that has a `/` or ends in .yaml or .yml.

    In a file with `by: language` a condition may hold $NAME, a parameter of the language files: it becomes `CASE
    language WHEN 'de' THEN 0.1 ... END`, which is null for a language that lacks it.
    """
    if not is_file(name):
        if name not in bundles():
            raise RecipeError(
                f"no rules are called '{name}'{nearest(name, bundles()) or '; there are ' + ', '.join(bundles())}"
                " (a file of your own is given by its path, as in ./my_rules.yaml)"
            )
        return _packaged(name)
    if not store.exists(name):
        raise RecipeError(f"there is no file of rules {name}")
    return _rules(name, store.read(name))


def is_file(name: str) -> bool:
    """True for the location of a file of rules, False for the name of a set."""
    return "/" in name or name.endswith((".yaml", ".yml"))


def title(name: str) -> str:
    """What the rules of a set are named by: `title.rule`. Of a file, its name without the folder and the ending."""
    short = re.sub(r"\.ya?ml$", "", store.basename(name)).replace("-", "_")
    if not short.replace("_", "").isalnum():
        raise RecipeError(f"a file of rules is named by letters, digits and _, found {name}")
    return short


@cache
def bundles() -> tuple[str, ...]:
    """Names of the rule sets that come with the package."""
    return tuple(sorted(file.removesuffix(".yaml") for file in store.listing(RULES) if file.endswith(".yaml")))


@cache
def _packaged(name: str) -> dict[str, str]:
    location = store.join(RULES, f"{name}.yaml")
    return _rules(location, store.read(location))


@cache
def _rules(location: str, content: bytes) -> dict[str, str]:
    """The rules in the bytes of a file, checked; RecipeError names file and rule."""
    try:
        raw, _ = strict.load(content)
    except RecipeError as error:
        raise RecipeError(f"{location}: {error}") from error
    form = "`rules:` with NAME: CONDITION or NAME: {keep: CONDITION, source: TEXT}, `source:` and `by: language`"
    if not isinstance(raw, dict) or not isinstance(raw.get("rules"), dict) or not raw["rules"]:
        raise RecipeError(f"{location}: a file of rules has {form}; found no mapping `rules`")
    _only(raw, ("source", "by", "rules"), location)
    if raw.get("by") not in (None, "language"):
        raise RecipeError(f"{location}: `by` is language, or left out; found {raw['by']!r}")
    conditions = {}
    for rule, entry in raw["rules"].items():
        where = f"{location}: rule {rule!r}"
        if not isinstance(rule, str) or not rule.replace("_", "").isalnum():
            raise RecipeError(f"{where}: a rule's name has letters, digits and _")
        entry = {"keep": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, dict) or not isinstance(entry.get("keep"), str):
            raise RecipeError(f"{where} has no `keep:` with the condition that keeps a row, found {entry!r}")
        _only(entry, ("keep", "source"), where)
        try:
            conditions[rule] = _expanded(entry["keep"], by=raw.get("by"))
            parse(conditions[rule])
        except RecipeError as error:
            raise RecipeError(f"{where}: {error}") from error
    return conditions


def _only(mapping: dict[Any, Any], keys: tuple[str, ...], where: str) -> None:
    for key in mapping:
        if key not in keys:
            known = ", ".join(keys)
            raise RecipeError(f"{where}: unknown key {key!r}{nearest(str(key), keys)}; keys are {known}")


def _expanded(condition: str, *, by: str | None) -> str:
    """The condition with a CASE over languages in place of each $NAME."""
    if "$" in _QUOTED.sub("", condition) and by is None:
        raise RecipeError(f"`{condition}` has a parameter: that needs `by: language` at the top of the file")

    def cases(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        each = " ".join(f"WHEN '{code}' THEN {value!r}" for code, value in languages.parameter(found[1]).items())
        return f"CASE language {each} END"

    return _PARAMETER.sub(cases, condition) if by else condition


def _parts(parsed: pl.Expr) -> Iterator[pl.Expr]:
    """The expression and all that it is made of."""
    yield parsed
    for part in parsed.meta.pop():
        yield from _parts(part)


def _reduces(part: pl.Expr) -> bool:
    """True if it gives one value for two rows. Types are not known yet: the first that it takes counts."""
    shown = str(part)
    if shown.startswith("[(") and shown.endswith("]"):  # two sides and an operator: as many rows as they have
        return False
    names = roots(part)
    if not names:
        return str(part) == "len()"
    for kind in _TYPES:
        frame = pl.DataFrame({name: pl.Series([None, None], dtype=kind) for name in names})
        try:
            return frame.select(value=part).height != 2
        except pl.exceptions.PolarsError:
            continue
    return False


def _is_nan(parsed: pl.Expr, frame: pl.DataFrame) -> pl.Expr:
    """Where a column or a result on the way to `parsed` is NaN. What a branch of a CASE computes does not count."""
    parts = {str(part): part for part in _outside_branches(parsed) if roots(part)}
    parts |= {f'col("{name}")': pl.col(name) for name in frame.columns}
    kinds = frame.lazy().select(**{f"{i}": part for i, part in enumerate(parts.values())}).collect_schema().dtypes()
    found = [
        part.is_nan().fill_null(False) for part, kind in zip(parts.values(), kinds, strict=True) if kind.is_float()
    ]
    return pl.any_horizontal(found) if found else pl.lit(False)


def _outside_branches(parsed: pl.Expr) -> Iterator[pl.Expr]:
    yield parsed
    if not str(parsed).startswith(".when("):
        for part in parsed.meta.pop():
            yield from _outside_branches(part)
