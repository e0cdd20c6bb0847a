"""Keep the documents for which all rules hold. The only stage that drops anything.

Beside the survivors stands a column `rule` on the input rows: null for a kept row, else the first rule that failed.
That column is the log of decisions; no other exists.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate import expressions
from curate.errors import RecipeError
from curate.stage import Gathers, Stage, Verdict


@dataclass(frozen=True)
class Select(Stage):
    """Rules in order: those of `keep` (name to expression), then the sets in `rules`: names of sets that come with the
    package, or files of the same form, which are relative to the recipe.

    Survivors carry the documents' own columns and those the rules name; more by `carry`.
    """

    kind: ClassVar[str] = "select"
    gathers: ClassVar[Gathers] = "neighbours"
    keep: dict[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    carry: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, expression in self.keep.items():
            if not name.replace("_", "").isalnum():
                raise RecipeError(f"a rule's name has letters, digits and _, found {name!r}")
            expressions.parse(expression)
        for name in self.rules:
            if not expressions.is_file(name):  # a file is read when it is known where the recipe is
                expressions.bundle(name)
        titles = [expressions.title(name) for name in self.rules]
        if len(set(titles)) < len(titles):
            raise RecipeError(f"`rules` has two sets of one name: {', '.join(self.rules)}")
        if not self.keep and not self.rules:
            raise RecipeError("nothing to select by: give `keep:` or `rules:`")

    @cached_property
    def conditions(self) -> dict[str, str]:
        """Every rule by its full name, in the order in which they are tried.

        Read once and taken along to workers: a file of rules that is edited while a run goes on changes nothing in it.
        """
        named = dict(self.keep)
        for name in self.rules:
            title = expressions.title(name)
            named |= {f"{title}.{rule}": expression for rule, expression in expressions.bundle(name).items()}
        return named

    @property
    def reads(self) -> tuple[str, ...]:
        named = [name for expression in self.conditions.values() for name in expressions.columns(expression)]
        return tuple(dict.fromkeys(named))

    @property
    def adds(self) -> tuple[str, ...]:
        return ("rule",)

    @property
    def applies_to(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.reads, "bytes")))

    def identity(self) -> dict[str, object]:
        # The conditions themselves, so that an edited set counts as the change it is, and where its file lies does not.
        identity = super().identity()
        rules = tuple(map(expressions.title, self.rules))
        identity["parameters"] |= {"rules": rules, "conditions": list(self.conditions.items())}
        return identity

    def located(self, place: Callable[[str], str]) -> "Select":
        return replace(self, rules=tuple(place(name) if expressions.is_file(name) else name for name in self.rules))

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        names: list[str] = []
        failed = np.full(shard.num_rows, -1, np.int32)
        for name, expression in self.conditions.items():
            try:
                true, unknown = expressions.evaluate(expression, shard)
            except RecipeError as error:
                raise RecipeError(f"rule '{name}': {error}") from error
            names += [name, f"{name}:unknown"]
            open_rows = failed < 0
            failed[open_rows & ~true & ~unknown] = len(names) - 2
            failed[open_rows & unknown] = len(names) - 1
        indices = pa.array(failed, mask=failed < 0)
        return pa.table({"rule": pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))})

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        kept = made["rule"].is_null()
        tally = made["rule"].drop_null().cast(pa.string()).value_counts()
        dropped = {str(item["values"]): int(item["counts"]) for item in tally.to_pylist()}
        size = pc.sum(shard["bytes"].filter(kept)).as_py() or 0
        mask = np.packbits(kept.to_numpy())
        return {
            "rule": dict(sorted(dropped.items())),
            "kept": {
                "rows": int(pc.sum(kept).as_py() or 0),
                "bytes": int(size),
                # Equal digests, equal survivors: their text stays unread.
                "digest": xxhash.xxh3_64_intdigest(mask.tobytes()),
            },
        }
