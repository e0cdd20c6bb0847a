"""A `select` step of a run seen again: the rows that it looked at, the columns these have, and what it said of each.

What asks about other thresholds starts here. Columns are read one shard at a time, and never a document's text or
tokens, so a question costs bytes per document and not pages.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate import expressions, store
from curate.arrow import one
from curate.errors import RecipeError, nearest
from curate.manifest import Manifest
from curate.outputs import state
from curate.recipe import kinds
from curate.view import Dataset, View, read


@dataclass(frozen=True)
class Selection:
    """`view`: documents and columns as the step saw them; `rule`: what it said; `conditions`: its rules by name."""

    name: str
    view: View
    rule: Dataset
    conditions: dict[str, str]

    @property
    def columns(self) -> dict[str, str]:
        """Columns of the rows with their types."""
        return self.view.types

    def check(self, names: Iterable[str]) -> None:
        """RecipeError for texts and lists of tokens, which are not looked at here."""
        held = self.columns
        for name in names:
            if name in held and _large(name, held[name]):
                raise RecipeError(f"'{name}' is {held[name]}: only numbers, words and marks are looked at here")

    def called(self, rule: str) -> tuple[str, ...]:
        """Full names of the rules that a name may mean: the name itself, else those that end in it after a dot."""
        if rule in self.conditions:
            return (rule,)
        return tuple(name for name in self.conditions if name.rpartition(".")[2] == rule)

    def table(self, shard: int, names: Iterable[str]) -> pa.Table:
        """The named columns, and `rule`, of one shard."""
        rule = (store.join(self.rule.folder, self.rule.manifest.shards[shard].name), ("rule",))
        files = self.view.files(shard, tuple(dict.fromkeys(names)))
        return read((*files, rule), self.view.documents.manifest.shards[shard].rows)

    def tables(self, names: Iterable[str]) -> Iterator[pa.Table]:
        """`table` of every shard in order."""
        wanted = tuple(names)
        for shard in range(len(self.view.documents.manifest.shards)):
            yield self.table(shard, wanted)


def selection(out: str, stage: str | None = None) -> Selection:
    """The step called `stage`, or the first `select` of the run in `out`.

    RecipeError where there is none, or while it is unfinished.
    """
    steps = state(out)
    names = list(_selects(out, steps))
    wanted = names[0] if stage is None else stage
    if wanted not in names:
        hint = nearest(wanted, names) or f"; those are {', '.join(names)}"
        raise RecipeError(f"{out} has no `select` step called '{wanted}'{hint}")
    at = next(index for index, step in enumerate(steps) if step["name"] == wanted)
    rule = _whole(out, steps[at]["folder"] + "/rule", wanted)
    conditions = dict(rule.manifest.made_by["stage"]["parameters"]["conditions"])
    named = [name for expression in conditions.values() for name in expressions.columns(expression)]
    return Selection(wanted, seen(out, steps, at, rule, ("text", "bytes", *named)), rule, conditions)


def holding(out: str, names: Sequence[str], stage: str | None = None) -> Selection:
    """The step called `stage`, or the first `select` whose rows have all these columns.

    RecipeError for columns that the rows do not have, which names the steps whose rows have them, and for texts.
    """
    every = list(_selects(out, state(out)))
    for tried in every if stage is None else [stage]:
        step = selection(out, tried)
        # Where no document came at all there are no columns either.
        if step.view.has(names) or (not step.columns and tried in (stage, every[0])):
            step.check(names)
            return step
    step = selection(out, stage)
    held = step.columns
    lost = [name for name in names if name not in held]
    said = []
    for name in dict.fromkeys(lost):
        others = [other for other in every if other != step.name and _finished(out, other)]
        there = [other for other in others if selection(out, other).view.has((name,))]
        if there:
            places = " and ".join(f"'{other}' (`--stage {other}`)" for other in there)
            said.append(f"; the rows of {places} have '{name}'")
    words = [name for name in held if not _large(name, held[name])]
    behind = f"; there are {', '.join(sorted(words))}; what comes behind the last `select` is asked about with one more"
    hint = "".join(said) or nearest(lost[0], words) or behind
    raise RecipeError(f"the rows that '{step.name}' saw have no column '{lost[0]}'{hint}")


def ruled(out: str, rules: Sequence[str], stage: str | None = None) -> tuple[Selection, tuple[str, ...]]:
    """The one finished `select` that has all these rules (or the step called `stage`), and their full names.

    A name may lack the set that it is from: `alphabetic_words` for `gopher_quality.alphabetic_words`. RecipeError where
    no step has them, where several have, and where a name means several rules of the step.
    """
    every = list(_selects(out, state(out)))
    steps = [selection(out, name) for name in every if _finished(out, name)]
    tried = steps if stage is None else [selection(out, stage)]
    fit = [step for step in tried if all(step.called(rule) for rule in rules)]
    fit = [step for step in fit if all(rule in step.conditions for rule in rules)] or fit
    if not fit:
        if stage is None and len(steps) < len(every):
            selection(out, next(name for name in every if not _finished(out, name)))  # says that it is unfinished
        raise RecipeError(_no_rule(tried, steps, rules))
    words = ", ".join(f"'{rule}'" for rule in rules)
    if len(fit) > 1:
        names = " and ".join(f"'{step.name}'" for step in fit)
        raise RecipeError(f"{names} each have a rule called {words}: say which is meant (`--stage {fit[0].name}`)")
    full = []
    for rule in rules:
        called = fit[0].called(rule)
        if len(called) > 1:
            raise RecipeError(f"'{rule}' may mean {' or '.join(called)} of '{fit[0].name}': give the full name")
        full.append(called[0])
    return fit[0], tuple(full)


def seen(out: str, steps: list[dict[str, Any]], at: int, made: Dataset, names: Iterable[str]) -> View:
    """The rows as step number `at`, which made `made` and read the columns `names`, saw them.

    Columns of branches that made anew what the step read as it was before are left out: it names what it read.
    """
    documents = next(step for step in steps if step["name"] == steps[at]["documents"])
    base = _whole(out, documents["folder"], documents["name"])
    unread = set(names)
    columns: list[Dataset] = []
    for step in reversed(steps[:at]):
        if step["documents"] != documents["name"] or kinds()[step["kind"]].gathers:
            continue
        folder = store.join(out, step["folder"])
        manifest = Manifest.load(folder)
        if manifest is None and step["folder"].rpartition("-")[2] in made.manifest.made_by["inputs"]:
            raise RecipeError(f"what stage '{step['name']}' of {out} made is gone; `curate run` makes it again")
        read_here = unread & set(manifest.columns) if manifest else set()
        if manifest and (not read_here or manifest.id in made.manifest.made_by["inputs"]):
            columns.insert(0, Dataset(folder, manifest))
            unread -= read_here
    return View(base, tuple(columns))


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """The values of a column of numbers as float64[n], null as NaN."""
    values = one(column)
    filled = (values.fill_null(0) if values.null_count else values).to_numpy(zero_copy_only=False)
    return np.where(
        values.is_null().to_numpy(zero_copy_only=False), np.nan, expressions.decimals(filled).astype(np.float64)
    )


def is_number(kind: str) -> bool:
    """True for the name of a type of numbers."""
    return kind.startswith(("int", "uint", "float", "double", "halffloat"))


def _whole(out: str, folder: str, name: str) -> Dataset:
    manifest = Manifest.load(store.join(out, folder))
    if manifest is None:
        raise RecipeError(f"stage '{name}' of {out} is unfinished; `curate run` finishes it")
    return Dataset(store.join(out, folder), manifest)


def _selects(out: str, steps: list[dict[str, Any]]) -> dict[str, str]:
    """Name and folder of each `select` in order; RecipeError where there is none."""
    names = {step["name"]: step["folder"] for step in steps if step["kind"] == "select"}
    if not names:
        raise RecipeError(f"{out} has no `select` step: nothing was kept or dropped")
    return names


def _finished(out: str, name: str) -> bool:
    return Manifest.load(store.join(out, _selects(out, state(out))[name], "rule")) is not None


def _no_rule(tried: list[Selection], steps: list[Selection], rules: Sequence[str]) -> str:
    """What to say where none of the steps tried has all these rules."""
    rule = next((name for name in rules if not any(step.called(name) for step in tried)), None)
    if rule is None:
        return f"no one `select` step has all the rules {', '.join(rules)}"
    who = f"'{tried[0].name}' has no rule" if len(tried) == 1 else "no `select` step has a rule"
    if there := [step.name for step in steps if step.called(rule)]:
        return f"{who} called '{rule}'; '{there[0]}' has it (`--stage {there[0]}`)"
    full = [name for step in tried for name in step.conditions]
    short = [name.rpartition(".")[2] for name in full]
    hint = nearest(rule, [*full, *short, *(f"{name}:unknown" for name in full)])
    said = "; ".join(f"rules of '{step.name}' are {', '.join(step.conditions)}" for step in tried)
    return f"{who} called '{rule}'{hint or '; ' + said}"


def _large(name: str, kind: str) -> bool:
    return name == "text" or "list<" in kind or "struct<" in kind or kind in ("large_string", "large_binary", "binary")
