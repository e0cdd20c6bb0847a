"""What near-duplicate removal finds, misses and wrongly takes, measured on a user's own documents.

A keyed sample is drawn, copies of known strength are made of it and put among it, and the recipe's own steps judge all
in memory. What they should have found is worked out a second way, slowly: sets of words in a row in plain Python. The
catch: a copy made here is one edit of one kind, and nine of a document are more than most documents have.
"""

import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from curate import edits, exchange, expressions, plan, store, unit
from curate.draw import draws
from curate.edits import inject
from curate.errors import RecipeError, nearest
from curate.execute import serial
from curate.near_measure import Asked, Measured
from curate.recipe import Node, Recipe
from curate.run import Event, run
from curate.stage import Evidence, Stage
from curate.stages.confirm import Confirm
from curate.stages.near import Near
from curate.view import View, read

FEWEST = 10
"""Documents below which nothing is said."""
SHORTEST = 50
"""Words below which a document is not drawn: two in a hundred of fewer are none."""
_SEGMENTS = 8

Told = dict[str, Any]


def near_report(
    recipe: Recipe,
    *,
    documents: int = 2000,
    seed: int = 0,
    near: str | None = None,
    report: Callable[[Event], None] = lambda event: None,
) -> Told:
    """Recall and precision of the step `near` (the only one where not named) and of the `confirm` behind it.

    Raw files are ingested and taken through the steps before it, as many as `documents` usable ones need: rows that
    compete (`among`), are not exempt and have at least 50 words. Each gets one copy per edit of `edits.EDITS` that
    changes it, with its values in all columns but text, id, bytes and origin; so copies stay within its scope. Indexes
    (`against`) and `max_removed` are left out. Memory: some 70 bytes for each of the sample's text.

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
    asked = _asked(recipe, near)
    sample, left_out = _sample(recipe, asked, documents, seed, report)
    injected = inject(sample, seed)
    asked, table = _judged(asked, injected.table)
    measured = Measured(asked, replace(injected, table=table))
    return {
        "recipe": recipe.name,
        "near": asked.near.name,
        "confirm": asked.confirm.name,
        "seed": seed,
        "documents": sample.num_rows,
        "rows": table.num_rows,
        "left_out": left_out,
        "without_indexes": len(getattr(_find(recipe, asked.near.name).stage, "against", ())),
        "sketch": asked.sketch.identity(),
        "threshold": {
            "measure": asked.measure,
            "at": asked.threshold,
            "probability": float(asked.sketch.probability(asked.threshold)) if asked.measure == "jaccard" else None,
        },
        "curve": asked.sketch.curve(),
        **measured.told(),
    }


# --- the recipe ------------------------------------------------------------------------------------------------------


def _asked(recipe: Recipe, near: str | None) -> Asked:
    """The step to measure and the `confirm` that takes its columns."""
    names = [node.name for node in recipe.nodes if isinstance(node.stage, Near)]
    if not names:
        raise RecipeError(
            f"'{recipe.name}' has no `near` step to measure: add `- near: {{preset: fineweb}}` and behind it "
            "`- confirm: {jaccard: 0.7}`"
        )
    if near is not None and near not in names:
        hint = nearest(near, names) or f"; those are {', '.join(names)}"
        raise RecipeError(f"no `near` step of '{recipe.name}' is called '{near}'{hint}")
    if near is None and len(names) > 1:
        raise RecipeError(f"'{recipe.name}' has several `near` steps: choose one with --near: {', '.join(names)}")
    index = next(i for i, node in enumerate(recipe.nodes) if node.name == (near or names[0]))
    proposing = recipe.nodes[index]
    for later, node in enumerate(recipe.nodes[index + 1 :], index + 1):
        if isinstance(node.stage, Confirm) and node.stage.of == proposing.prefix:
            assert isinstance(proposing.stage, Near)
            alone = replace(proposing, stage=replace(proposing.stage, against=()))
            return Asked(alone, replace(node, stage=replace(node.stage, max_removed=None)), recipe.nodes[:later])
    of = f", of: {proposing.prefix}" if proposing.prefix else ""
    raise RecipeError(
        f"no `confirm` proves what '{proposing.name}' proposes: add `- confirm: {{jaccard: 0.7{of}}}` behind it"
    )


def _find(recipe: Recipe, name: str) -> Node:
    return next(node for node in recipe.nodes if node.name == name)


def _needed(steps: tuple[plan.Step, ...], wanted: set[int]) -> set[int]:
    """Steps without which those wanted cannot be: their documents, and what gives the columns that they read."""
    found: set[int] = set()
    while wanted:
        index = wanted.pop()
        found.add(index)
        step = steps[index]
        reads = {*step.node.stage.reads, *step.node.stage.applies_to}
        reads |= {*step.gives} if step.node.stage.gathers else set()
        givers = {name: i for i in step.columns for name in steps[i].gives}
        more = {givers[name] for name in reads if name in givers} | {step.documents}
        wanted |= {i for i in more if i >= 0} - found
    return found


def _alone(nodes: tuple[Node, ...], needed: set[int]) -> tuple[Node, ...]:
    """The nodes at these places, each from what it was from, or what that was from, where that is left out."""
    kept: list[Node] = []
    stands, previous = {"ingest": "ingest"}, "ingest"
    for index, node in enumerate(nodes):
        source = stands[node.source or previous]
        stands[node.name] = node.name if index in needed else source
        previous = node.name
        if index in needed:
            kept.append(replace(node, source=source))
    return tuple(kept)


# --- the sample ------------------------------------------------------------------------------------------------------


def _sample(
    recipe: Recipe, asked: Asked, documents: int, seed: int, report: Callable[[Event], None]
) -> tuple[pa.Table, dict[str, int]]:
    """The documents that are edited, with all columns that the two steps read, and how many were passed over why."""
    most = recipe.ingest.limit
    limit = 2 * documents
    with tempfile.TemporaryDirectory(prefix="curate-near-report-") as scratch:
        while True:
            limit = min(limit, most or limit)
            table, share = _seen(recipe, asked, scratch, limit, report)
            sample, left_out = _usable(table, asked, documents, seed)
            if sample.num_rows == documents or share >= 1 or limit == most:
                break
            limit *= 4
    if sample.num_rows < FEWEST:
        said = ", ".join(f"{count:,} {why}" for why, count in left_out.items() if count)
        raise RecipeError(
            f"{sample.num_rows} documents reach '{asked.near.name}' that can be edited, at least {FEWEST} are wanted"
            + (f"; passed over: {said}" if said else "")
        )
    return sample, left_out


def _seen(
    recipe: Recipe, asked: Asked, scratch: str, limit: int, report: Callable[[Event], None]
) -> tuple[pa.Table, float]:
    """What the near step would see of `limit` raw records, and the share of all raw records that these are."""
    nodes = tuple(asked.near if node.name == asked.near.name else node for node in asked.before)
    whole = replace(recipe, nodes=(*nodes, asked.confirm))
    source = plan.survey(whole, scratch, serial, limit=limit)
    steps = plan.resolve(whole, scratch, source)
    place, last = nodes.index(asked.near), len(steps) - 1
    first, second = steps[place], steps[last]
    texts = [max((i for i in s.columns if steps[i].node.stage.rewrites), default=-1) for s in (first, second)]
    if first.documents != second.documents or texts[0] != texts[1]:
        raise RecipeError(
            f"'{asked.confirm.name}' sees other documents or texts than '{asked.near.name}': let no `select` and "
            "nothing that rewrites texts stand between them"
        )
    needed = _needed(steps, {place, last}) - {place, last}
    result = run(
        replace(whole, nodes=_alone(whole.nodes, needed)),
        scratch,
        limit=limit,
        report=report,
        compression="none",
    )
    made = {step.node.name: dataset for step, dataset in result.steps}
    made_of = {i: made[steps[i].node.name] for i in needed}
    columns = tuple(made_of[i] for i in sorted({*first.columns, *second.columns} & needed))
    view = View(result.source if first.documents < 0 else made_of[first.documents], columns)
    own = {*first.gives, *second.gives}
    stages = (first.node.stage, second.node.stage)
    wanted = ["id", "text", "bytes", "origin", *(n for s in stages for n in (*s.reads, *s.applies_to) if n not in own)]
    names = tuple(dict.fromkeys(wanted))
    shards = [
        read(view.files(i, names), shard.rows).select(list(names))
        for i, shard in enumerate(view.documents.manifest.shards)
    ]
    return pa.concat_tables(shards).unify_dictionaries().combine_chunks(), source.share


def _usable(table: pa.Table, asked: Asked, documents: int, seed: int) -> tuple[pa.Table, dict[str, int]]:
    """The first usable documents in the keyed order of `seed`."""
    assert isinstance(asked.near.stage, Near)
    assert isinstance(asked.confirm.stage, Confirm)
    among, exempt = asked.near.stage.among, asked.confirm.stage.exempt
    competes = expressions.evaluate(among, table)[0] if among else np.ones(table.num_rows, bool)
    exempted = expressions.evaluate(exempt, table)[0] if exempt else np.zeros(table.num_rows, bool)
    left_out = {"do not compete": 0, "exempt": 0, f"of fewer than {SHORTEST} words": 0}
    taken: list[int] = []
    for row in np.argsort(draws(table, seed), kind="stable").tolist():
        if len(taken) == documents:
            break
        if not competes[row]:
            left_out["do not compete"] += 1
        elif exempted[row]:
            left_out["exempt"] += 1
        elif len(edits.spans(table["text"][row].as_py())) < SHORTEST:
            left_out[f"of fewer than {SHORTEST} words"] += 1
        else:
            taken.append(row)
    return table.take(pa.array(taken, pa.int64())), left_out


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
    console.print(
        f"expected, found: pairs that share a band, by the S-curve and counted; points: the difference of 100 pairs; "
        f"linked: by an edge to a leader; removed: of pairs >= {at['at']:g}, one is gone, against any row; "
        "by curve: the recall that the S-curve lets expect\n"
    )
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
        f"precision {_decimals(removed['precision'], 4)}: of {removed['rows']:,} rows removed, {removed['rightly']:,} "
        f"have an exact {at['measure']} of at least {at['at']:g} with the row that stayed"
    )
    drawn = " drawn" if lost["drawn"] else ""
    yield (
        f"lost {100 * lost['share']:.2f} %: of {lost['above']:,}{drawn} pairs as similar that share a band, "
        f"{lost['both_stayed']:,} stayed both, as edges go to leaders alone and rows are removed one by one"
    )
    points = ", ".join(f"{point} {chance:.3f}" for point, chance in told["curve"].items())
    own = f"; at {at['at']:g} it is {at['probability']:.3f}" if at["probability"] is not None else ""
    yield f"chance of a pair to share a band, by Jaccard: {points}{own}"


def _decimals(value: float | None, places: int, *, sign: bool = False) -> str:
    return "" if value is None else f"{value:{'+' if sign else ''}.{places}f}"
