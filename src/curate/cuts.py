"""Where the keyed order of a group's documents reaches so many tokens: the cut that makes a quota exact.

Parts of evidence are in keyed order, so a cut is found in two steps: sums of each part say in which one it lies, and
that part alone is sorted. A part is in memory for each worker, and one number for each part and group.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from curate.stage import Evidence, Map

_KINDS = {"group": pl.String, "tokens": pl.Int64, "documents": pl.Int64}
_WANTED = tuple[int, tuple[tuple[str, tuple[int, ...]], ...]]


@dataclass(frozen=True)
class Cut:
    """The last draw that belongs to the first documents of a group, and the tokens and documents up to it."""

    draw: int
    tokens: int
    documents: int


def totals(evidence: Evidence, map: Map) -> pl.DataFrame:
    """Tokens and documents by `group` and `part`, from evidence with `group` and `tokens`."""
    frames = list(map(partial(_totals, evidence=evidence), range(evidence.parts)))
    made: pl.DataFrame = pl.concat(
        [frame.with_columns(part=pl.lit(part, pl.Int64)) for part, frame in enumerate(frames)]
    )
    return made


def cuts(
    evidence: Evidence, map: Map, *, sums: pl.DataFrame, wanted: Mapping[str, Iterable[int]]
) -> dict[tuple[str, int], Cut]:
    """For each wanted number of tokens of a group, 1 to all it has, the cut at which its documents first reach it.

    `sums` are those of `totals`.
    """
    jobs: dict[int, dict[str, list[int]]] = {}
    before: dict[tuple[str, int], tuple[int, int]] = {}
    rows = sums.filter(pl.col("group").is_in(list(wanted))).sort("group", "part")
    for (group,), own in rows.partition_by("group", as_dict=True).items():
        parts, reached = own["part"].to_list(), np.cumsum(own["tokens"].to_numpy())
        documents = np.cumsum(own["documents"].to_numpy())
        for tokens in sorted(set(wanted[str(group)])):
            at = int(np.searchsorted(reached, tokens, side="left"))
            jobs.setdefault(parts[at], {}).setdefault(str(group), []).append(tokens)
            before[str(group), parts[at]] = (int(reached[at - 1]), int(documents[at - 1])) if at else (0, 0)
    made: dict[tuple[str, int], Cut] = {}
    work: list[_WANTED] = [
        (
            part,
            tuple((group, tuple(tokens - before[group, part][0] for tokens in asked)) for group, asked in one.items()),
        )
        for part, one in sorted(jobs.items())
    ]
    for (part, _), found in zip(work, map(partial(_cuts, evidence=evidence), work), strict=True):
        for (group, tokens), cut in found.items():
            base, documents_before = before[group, part]
            made[group, base + tokens] = Cut(cut.draw, base + cut.tokens, documents_before + cut.documents)
    return made


def _totals(part: int, evidence: Evidence) -> pl.DataFrame:
    seen = evidence.read(part)
    if seen is None:
        return pl.DataFrame(schema=_KINDS)
    frame = pl.from_arrow(seen.select(["group", "tokens"]))
    assert isinstance(frame, pl.DataFrame)
    grouped = frame.group_by("group").agg(pl.col("tokens").sum(), documents=pl.len())
    return grouped.sort("group").cast(_KINDS)  # type: ignore[arg-type]


def _cuts(job: _WANTED, evidence: Evidence) -> dict[tuple[str, int], Cut]:
    part, wanted = job
    seen = evidence.read(part)
    assert seen is not None
    frame = pl.from_arrow(seen.select(["key", "group", "tokens"]))
    assert isinstance(frame, pl.DataFrame)
    del seen
    mine = frame.filter(pl.col("group").is_in([group for group, _ in wanted])).sort("group", "key")
    apart = mine.partition_by("group", as_dict=True)
    found = {}
    for group, asked in wanted:
        keys, reached = apart[(group,)]["key"].to_numpy(), np.cumsum(apart[(group,)]["tokens"].to_numpy())
        for tokens in asked:
            draw = keys[int(np.searchsorted(reached, tokens, side="left"))]
            documents = int(np.searchsorted(keys, draw, side="right"))  # documents of one draw go together
            found[group, tokens] = Cut(int(draw), int(reached[documents - 1]), documents)
    return found
