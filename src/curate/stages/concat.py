"""Documents of several steps behind each other: what a mixture of branches is drawn from, such as real and rephrased.

Every branch keeps its order, and its documents their `id` and `origin`. The catch: text is written once more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate.errors import RecipeError
from curate.stage import Gathers, Stage


@dataclass(frozen=True)
class Concat(Stage):
    """`of`: names of steps; or source to step, and then all documents of a step are of that source.

    Documents carry the columns that the documents of any branch have as their own, null in the others; more by `carry`.
    """

    kind: ClassVar[str] = "concat"
    gathers: ClassVar[Gathers] = "branches"
    of: tuple[str, ...] | dict[str, str]
    carry: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.branches) < 2:
            raise RecipeError(f"`of` names {len(self.branches)} step(s); two or more are joined")
        if len(set(self.branches)) < len(self.branches):
            raise RecipeError(f"`of` names a step twice: {', '.join(self.branches)}; `mix` draws documents again")
        if any(not source for source in self.sources if source is not None):
            raise RecipeError("`of` has a source without a name")

    @property
    def branches(self) -> tuple[str, ...]:
        return tuple(self.of.values() if isinstance(self.of, Mapping) else self.of)

    @property
    def sources(self) -> tuple[str | None, ...]:
        """What the documents of each branch are called; None where they keep their sources."""
        return tuple(self.of) if isinstance(self.of, Mapping) else (None,) * len(self.of)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("source",)

    def identity(self) -> dict[str, Any]:
        # Which data the branches are is said by the inputs, in order; what their steps are called is not part of it.
        parameters = {"sources": list(self.sources), "carry": list(self.carry)}
        return {"kind": self.kind, "version": self.version, "parameters": parameters}

    def join(self, branch: int, shard: pa.Table) -> pa.Table:
        source = self.sources[branch]
        if source is None:
            return shard
        places = pa.array(np.zeros(shard.num_rows, np.int32))
        column = pa.DictionaryArray.from_arrays(places, pa.array([source], pa.string()))
        return shard.set_column(shard.column_names.index("source"), "source", column)
