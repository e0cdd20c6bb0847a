"""Keep the documents for which all rules hold. The only stage that drops anything.

Beside the survivors stands a column `rule` on the input rows: null for a kept row, else the first rule that failed.
That column is the log of decisions; no other exists.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate import expressions
from curate.errors import RecipeError
from curate.stage import Stage, Verdict


@dataclass(frozen=True)
class Select(Stage):
    """Rules in order: those of `keep` (name to expression), then the named bundles in `rules`.

    Survivors carry the documents' own columns and those the rules name; more by `carry`.
    """

    kind: ClassVar[str] = "select"
    gathers: ClassVar[Literal["", "neighbours", "parts"]] = "neighbours"
    keep: dict[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    carry: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, expression in self.keep.items():
            if not name.replace("_", "").isalnum():
                raise RecipeError(f"a rule's name has letters, digits and _, found {name!r}")
            expressions.parse(expression)
        if not self.conditions:
            raise RecipeError("nothing to select by: give `keep:` or `rules:`")

    @property
    def conditions(self) -> dict[str, str]:
        """Every rule by its full name, in the order in which they are tried."""
        named = dict(self.keep)
        for name in self.rules:
            named |= {f"{name}.{rule}": expression for rule, expression in expressions.bundle(name).items()}
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
        # The conditions themselves, so that an edited bundle counts as the change it is.
        identity = super().identity()
        identity["parameters"] |= {"conditions": list(self.conditions.items())}
        return identity

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        names: list[str] = []
        failed = np.full(shard.num_rows, -1, np.int32)
        for name, expression in self.conditions.items():
            true, unknown = expressions.evaluate(expression, shard)
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
