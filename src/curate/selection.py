"""A `select` step of a run seen again: the rows that it looked at, the columns these have, and what it said of each.

What asks about other thresholds starts here. Columns are read one shard at a time, and never a document's text or
tokens, so a question costs bytes per document and not pages.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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
        """Columns of the rows with their types; of two with one name the later counts."""
        held: dict[str, str] = {}
        for dataset in (self.view.documents, *self.view.columns):
            held |= dataset.manifest.columns
        return held

    def check(self, names: Iterable[str]) -> None:
        """RecipeError for a column that the rows do not have, and for texts and lists of tokens."""
        held = self.columns
        for name in names if held else ():  # a run without any document has no columns either
            if name not in held:
                words = [name for name in held if not _large(name, held[name])]
                hint = nearest(name, words) or f"; there are {', '.join(sorted(words))}"
                raise RecipeError(f"the rows that '{self.name}' saw have no column '{name}'{hint}")
            if _large(name, held[name]):
                raise RecipeError(f"'{name}' is {held[name]}: only numbers, words and marks are looked at here")

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
    names = [step["name"] for step in steps if step["kind"] == "select"]
    if not names:
        raise RecipeError(f"{out} has no `select` step: nothing was kept or dropped")
    wanted = names[0] if stage is None else stage
    if wanted not in names:
        hint = nearest(wanted, names) or f"; those are {', '.join(names)}"
        raise RecipeError(f"{out} has no `select` step called '{wanted}'{hint}")
    at = next(index for index, step in enumerate(steps) if step["name"] == wanted)
    documents = next(step for step in steps if step["name"] == steps[at]["documents"])
    rule = _whole(out, steps[at]["folder"] + "/rule", wanted)
    base = _whole(out, documents["folder"], documents["name"])
    columns = []
    for step in steps[:at]:
        if step["documents"] != documents["name"] or kinds()[step["kind"]].gathers:
            continue
        folder = store.join(out, step["folder"])
        manifest = Manifest.load(folder)
        if manifest is not None:
            columns.append(Dataset(folder, manifest))
    conditions = dict(rule.manifest.made_by["stage"]["parameters"]["conditions"])
    return Selection(wanted, View(base, _seen(columns, conditions, rule)), rule, conditions)


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


def _seen(columns: list[Dataset], conditions: dict[str, str], rule: Dataset) -> tuple[Dataset, ...]:
    """Without the columns of branches that made anew what the step read as it was before: it names what it read."""
    open_names = {
        "text",
        "bytes",
        *(name for expression in conditions.values() for name in expressions.columns(expression)),
    }
    seen: list[Dataset] = []
    for dataset in reversed(columns):
        read_here = open_names & set(dataset.manifest.columns)
        if not read_here or dataset.manifest.id in rule.manifest.made_by["inputs"]:
            seen.insert(0, dataset)
            open_names -= read_here
    return tuple(seen)


def _large(name: str, kind: str) -> bool:
    return name == "text" or "list<" in kind or "struct<" in kind or kind in ("large_string", "large_binary", "binary")
