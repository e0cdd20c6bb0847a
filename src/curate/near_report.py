"""What near-duplicate removal finds, misses and wrongly takes, measured on a user's own documents.

A keyed sample is drawn, copies of known strength are made of it and put among it, and the recipe's own steps judge all
in memory. What they should have found is worked out a second way, slowly: sets of words in a row in plain Python. The
catch: a copy made here is one edit of one kind, and nine of a document are more than most documents have.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from curate import exchange, store, unit
from curate.edits import inject
from curate.errors import RecipeError
from curate.execute import serial
from curate.near_measure import Asked, Measured
from curate.near_sample import FEWEST, of_recipe, of_run
from curate.recipe import Node, Recipe
from curate.run import Event
from curate.stage import Evidence, Stage

_SEGMENTS = 8

Told = dict[str, Any]


def near_report(
    recipe: Recipe | str,
    *,
    documents: int = 2000,
    seed: int = 0,
    near: str | None = None,
    report: Callable[[Event], None] = lambda event: None,
) -> Told:
    """Recall and precision of the step `near` (the only one where not named) and of the `confirm` behind it.

    Raw files of a recipe are ingested and taken through the steps before it, as many as `documents` usable ones need;
    of a finished run, named by its folder, the rows are taken that its step saw. Usable are rows that compete
    (`among`), are not exempt and have at least 50 words. Each gets one copy per edit of `edits.EDITS` that
    changes it, with its values in all columns but text, id, bytes and origin; so copies stay within its scope. Indexes
    (`against`) and `max_removed` are left out. Memory: some 70 bytes for each byte of the sample's text.

    By edit: `pairs` of a document and its copy, their mean exact `jaccard`; `expected` pairs with a band in common, by
    the S-curve, those `found`, and the difference in `points` of a hundred pairs; `linked` by an edge to a leader;
    `above`: at or above the threshold; `removed`: those of them of which one went, against any row; their share is the
    `recall`, beside that which the S-curve lets expect. `removed`: rows that went, and how many `rightly`. `lost`:
    pairs at or above the threshold that share a band, of all in the sample, and those of them that stayed both.
    """
    if documents < FEWEST:
        raise RecipeError(f"{documents} documents tell nothing: at least {FEWEST} are wanted")
    if not 0 <= seed < 1 << 64:
        raise RecipeError(f"a seed is a whole number from 0 to 2^64 - 1, found {seed}")
    if isinstance(recipe, Recipe):
        sample = of_recipe(recipe, documents=documents, seed=seed, near=near, report=report)
    else:
        sample = of_run(recipe, documents=documents, seed=seed, near=near)
    injected = inject(sample.table, seed)
    asked, table = _judged(sample.asked, injected.table)
    measured = Measured(asked, replace(injected, table=table))
    return {
        "of": sample.name,
        "near": asked.near.name,
        "confirm": asked.confirm.name,
        "seed": seed,
        "documents": sample.table.num_rows,
        "rows": table.num_rows,
        "left_out": sample.left_out,
        "without_indexes": sample.indexes,
        "sketch": asked.sketch.identity(),
        "threshold": {
            "measure": asked.measure,
            "at": asked.threshold,
            "probability": float(asked.sketch.probability(asked.threshold)) if asked.measure == "jaccard" else None,
        },
        "curve": asked.sketch.curve(),
        **measured.told(),
    }


# --- the steps -------------------------------------------------------------------------------------------------------


def _judged(asked: Asked, table: pa.Table) -> tuple[Asked, pa.Table]:
    """The table with what the two steps say of its rows."""
    table = _driven(asked.near, table)
    proposed = {name: {"stage": asked.near.stage.identity(), "maker": asked.near.stage} for name in table.column_names}
    asked = replace(asked, confirm=replace(asked.confirm, stage=asked.confirm.stage.bind(proposed)))
    return asked, _driven(asked.confirm, table)


def _driven(node: Node, table: pa.Table) -> pa.Table:
    """A step's scan, judge and apply on one table, its columns added."""
    folder = f"memory://near-report/{uuid.uuid4().hex}"
    stage: Stage = node.stage
    try:
        seen = stage.scan(table.select(list(stage.reads)))
        if "row" not in seen.column_names:
            seen = seen.append_column("row", pa.array(np.arange(table.num_rows, dtype=np.uint32)))
        uri, verdict = store.join(folder, "0.cut"), store.join(folder, "verdict")
        segment = exchange.leading(seen["key"].to_numpy(), _SEGMENTS)
        store.put(uri, exchange.cut(seen, segment, _SEGMENTS))
        whole = stage.judge(Evidence((uri,), _SEGMENTS, seen.num_rows, verdict, stage.heft), serial)
        said = unit.load_verdict(verdict, 0)._replace(whole=whole)
        made = stage.apply(table.select(list(stage.applies_to)), said)
    finally:
        store.remove(folder)
    for name, own in zip(stage.named(node.prefix), stage.adds, strict=True):
        table = table.append_column(name, made[own])
    return table


# --- for people ------------------------------------------------------------------------------------------------------


def show(told: Told) -> None:
    """The report as tables on standard output."""
    import sys

    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)
    at, sketch = told["threshold"], told["sketch"]
    console.print(
        f"{told['documents']:,} documents and {told['rows'] - told['documents']:,} edited copies of them through "
        f"'{told['near']}' ({sketch['bands']} bands of {sketch['rows']}, {sketch['ngram']} {sketch['unit']}) and "
        f"'{told['confirm']}' ({at['measure']} {at['at']:g}), seed {told['seed']}",
        soft_wrap=True,
    )
    for line in _passed_over(told):
        console.print(line, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    head = (
        "edit",
        "pairs",
        "jaccard",
        "expected",
        "found",
        "points",
        "linked",
        f">= {at['at']:g}",
        "removed",
        "recall",
        "by curve",
    )
    for name in head:
        table.add_column(name, justify="left" if name == "edit" else "right")
    for row in (*told["edits"], told["total"]):
        table.add_row(
            row["edit"],
            f"{row['pairs']:,}",
            _decimals(row["jaccard"], 3),
            f"{row['expected']:,.1f}",
            f"{row['found']:,}",
            _decimals(row["points"], 2, sign=True),
            f"{row['linked']:,}",
            f"{row['above']:,}",
            f"{row['removed']:,}",
            _decimals(row["recall"], 4),
            _decimals(row["expected_recall"], 4),
        )
    console.print()
    console.print(table)
    console.print()
    for line in _ending(told):
        console.print(line, soft_wrap=True)


def _passed_over(told: Told) -> Iterator[str]:
    left = ", ".join(f"{count:,} {why}" for why, count in told["left_out"].items() if count)
    if left:
        yield f"documents passed over: {left}"
    if told["without_indexes"]:
        yield "matches with indexes (`against`) are not measured"


def _ending(told: Told) -> Iterator[str]:
    removed, lost, at = told["removed"], told["lost"], told["threshold"]
    yield (
        "expected and found share a band, by the S-curve and in fact; points: the difference of a hundred pairs; "
        f"linked: by an edge to a leader; removed: of pairs >= {at['at']:g} one row went; by curve: the recall expected"
    )
    yield (
        f"precision {_decimals(removed['precision'], 4)}: of {removed['rows']:,} rows removed, {removed['rightly']:,} "
        f"have an exact {at['measure']} of at least {at['at']:g} with the row that stayed"
    )
    drawn = " drawn" if lost["drawn"] else ""
    yield (
        f"lost {100 * lost['share']:.2f} %: of {lost['above']:,}{drawn} pairs as similar that share a band, both rows "
        f"of {lost['both_stayed']:,} stayed: edges lead to the leader of a bucket alone, and rows go one by one"
    )
    points = ", ".join(f"{point} {chance:.3f}" for point, chance in told["curve"].items())
    own = f"; at {at['at']:g} it is {at['probability']:.3f}" if at["probability"] is not None else ""
    yield f"chance of a pair to share a band, by Jaccard: {points}{own}"


def _decimals(value: float | None, places: int, *, sign: bool = False) -> str:
    return "" if value is None else f"{value:{'+' if sign else ''}.{places}f}"
