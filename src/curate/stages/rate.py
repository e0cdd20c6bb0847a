"""Ratings that people gave to sources, as a column: how textbook-like a source is, decided once, with a reason.

1.5-Pints (Tan and Wang 2024, arXiv 2408.03506) chose its data like this: samples of each source were read and scored
for expository, textbook-like prose, and sources were taken by their score. The paper gives no rule for single texts,
so there is none here; the catch is that a poor text of a good source stays.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate.arrow import one
from curate.errors import RecipeError
from curate.stage import Stage, Verdict


@dataclass(frozen=True)
class Rating:
    """What a source is worth, on a scale of your own, and why."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}
    rating: float
    reason: str


@dataclass(frozen=True)
class Rate(Stage):
    """Adds `rating` (float32), that of the document's source; null for a source that nobody rated."""

    kind: ClassVar[str] = "rate"
    ratings: dict[str, Rating] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.ratings:
            raise RecipeError("`ratings` rates no source; give NAME: {rating: NUMBER, reason: TEXT}")
        for name, given in self.ratings.items():
            if not np.isfinite(given.rating) or not given.reason.strip():
                raise RecipeError(f"`ratings`: '{name}' has a finite rating and a reason, found {given}")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("source",)

    @property
    def adds(self) -> tuple[str, ...]:
        return ("rating",)

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        sources = one(shard["source"]).cast(pa.string()).dictionary_encode()
        each = [self.ratings[name].rating if name in self.ratings else None for name in sources.dictionary.to_pylist()]
        return pa.table({"rating": pa.array(each, pa.float32()).take(sources.indices)})
