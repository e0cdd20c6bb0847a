"""Documents that a `near` step sees, drawn by a key: through the steps of a recipe before it, or from a finished run.

What the two steps look at is read, and no more than that is done: steps of the recipe that give them nothing are left
out. Rows that do not compete, are exempt or too short to be edited are passed over.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from curate import edits, expressions, plan, sketch, store
from curate.draw import draws
from curate.errors import RecipeError, nearest
from curate.execute import serial
from curate.manifest import Manifest
from curate.near_measure import Asked
from curate.outputs import state
from curate.recipe import Node, Recipe
from curate.run import Event, run
from curate.selection import seen
from curate.stages.confirm import Confirm
from curate.stages.near import Near
from curate.view import Dataset, View, read

FEWEST = 10
"""Documents below which nothing is said."""
SHORTEST = 50
"""Words below which a document is not drawn: two in a hundred of fewer are none."""
_OWN = ("id", "text", "bytes", "origin")
_SHORT = f"of fewer than {SHORTEST} words"


@dataclass(frozen=True)
class Sample:
    """Drawn documents with all columns that the steps `asked` about read; how many others were passed over and why; and
    how many indexes are left out."""

    name: str
    asked: Asked
    table: pa.Table
    left_out: dict[str, int]
    indexes: int


def of_recipe(
    recipe: Recipe, *, documents: int, seed: int, near: str | None, report: Callable[[Event], None]
) -> Sample:
    """Documents of a recipe's raw files, as many of these as it takes."""
    asked = _asked(recipe.name, recipe.nodes, near)
    most = recipe.ingest.limit
    limit = 2 * documents
    with tempfile.TemporaryDirectory(prefix="curate-near-report-") as scratch:
        while True:
            limit = min(limit, most or limit)
            table, share = _seen(recipe, asked, scratch, limit, report)
            table, left_out = _competing(table, asked)
            table, short = _long(table, documents, seed)
            if table.num_rows == documents or share >= 1 or limit == most:
                break
            limit *= 4
    given = next(node.stage for node in recipe.nodes if node.name == asked.near.name)
    return _checked(Sample(recipe.name, asked, table, {**left_out, _SHORT: short}, len(getattr(given, "against", ()))))


def of_run(out: str, *, documents: int, seed: int, near: str | None) -> Sample:
    """Documents of a finished run, as its `near` step saw them. All of its texts are read, a shard at a time."""
    steps = state(out)
    made = {step["name"]: _made(out, step) for step in steps if step["kind"] in ("near", "confirm")}
    asked = _asked(out, [_node(name, dataset) for name, dataset in made.items()], near)
    views = []
    for node in (asked.near, asked.confirm):
        at = next(index for index, step in enumerate(steps) if step["name"] == node.name)
        reads = [name for name in node.stage.reads if not name.startswith(f"{asked.near.prefix}near_")]
        views.append(seen(out, steps, at, made[node.name], (*_OWN, *reads)))
    texts = [(view.documents.folder, view.holders(("text",))[0][0].folder) for view in views]
    if texts[0] != texts[1]:
        raise RecipeError(_other_texts(asked))
    kept: pa.Table | None = None
    left_out: dict[str, int] = {}
    for shard in _shards(asked, views[0], views[1]):
        table, passed = _competing(shard, asked)
        left_out = {why: left_out.get(why, 0) + count for why, count in passed.items()}
        kept = pa.concat_tables([kept, table]) if kept is not None else table
        if kept.num_rows > 8 * documents:
            kept = kept.take(pa.array(np.sort(np.argsort(draws(kept, seed), kind="stable")[: 4 * documents])))
    if kept is None:
        raise RecipeError(f"{out} has no documents")
    table, short = _long(kept.unify_dictionaries().combine_chunks(), documents, seed)
    indexes = made[asked.near.name].manifest.made_by["stage"]["parameters"]["against"]
    return _checked(Sample(out, asked, table, {**left_out, _SHORT: short}, len(indexes)))


def _asked(title: str, nodes: Sequence[Node], near: str | None) -> Asked:
    """The step to measure and the `confirm` that takes its columns."""
    names = [node.name for node in nodes if isinstance(node.stage, Near)]
    if not names:
        raise RecipeError(
            f"'{title}' has no `near` step to measure: add `- near: {{preset: fineweb}}` and behind it "
            "`- confirm: {jaccard: 0.7}`"
        )
    if near is not None and near not in names:
        hint = nearest(near, names) or f"; those are {', '.join(names)}"
        raise RecipeError(f"no `near` step of '{title}' is called '{near}'{hint}")
    if near is None and len(names) > 1:
        raise RecipeError(f"'{title}' has several `near` steps: choose one with --near: {', '.join(names)}")
    index = next(i for i, node in enumerate(nodes) if node.name == (near or names[0]))
    proposing = nodes[index]
    for node in nodes[index + 1 :]:
        if isinstance(node.stage, Confirm) and node.stage.of == proposing.prefix:
            assert isinstance(proposing.stage, Near)
            alone = replace(proposing, stage=replace(proposing.stage, against=()))
            return Asked(alone, replace(node, stage=replace(node.stage, max_removed=None)))
    of = f", of: {proposing.prefix}" if proposing.prefix else ""
    raise RecipeError(
        f"no `confirm` proves what '{proposing.name}' proposes: add `- confirm: {{jaccard: 0.7{of}}}` behind it"
    )


def _other_texts(asked: Asked) -> str:
    return (
        f"'{asked.confirm.name}' sees other documents or texts than '{asked.near.name}': let no `select` and "
        "nothing that rewrites texts stand between them"
    )


def _checked(sample: Sample) -> Sample:
    if sample.table.num_rows < FEWEST:
        said = ", ".join(f"{count:,} {why}" for why, count in sample.left_out.items() if count)
        raise RecipeError(
            f"{sample.table.num_rows} documents reach '{sample.asked.near.name}' that can be edited, at least {FEWEST} "
            "are wanted" + (f"; passed over: {said}" if said else "")
        )
    return sample


def _competing(table: pa.Table, asked: Asked) -> tuple[pa.Table, dict[str, int]]:
    """The rows that compete and are not exempt, and how many are not of these."""
    assert isinstance(asked.near.stage, Near)
    assert isinstance(asked.confirm.stage, Confirm)
    among, exempt = asked.near.stage.among, asked.confirm.stage.exempt
    competes = expressions.evaluate(among, table)[0] if among else np.ones(table.num_rows, bool)
    exempted = expressions.evaluate(exempt, table)[0] if exempt else np.zeros(table.num_rows, bool)
    left_out = {"do not compete": int(np.sum(~competes)), "exempt": int(np.sum(competes & exempted))}
    return table.filter(pa.array(competes & ~exempted)), left_out


def _long(table: pa.Table, documents: int, seed: int) -> tuple[pa.Table, int]:
    """The first documents in the keyed order of `seed` that have enough words, and how many before these have not."""
    taken: list[int] = []
    short = 0
    for row in np.argsort(draws(table, seed), kind="stable").tolist():
        if len(taken) == documents:
            break
        if len(edits.spans(table["text"][row].as_py())) < SHORTEST:
            short += 1
        else:
            taken.append(row)
    return table.take(pa.array(taken, pa.int64())), short


# --- from a recipe ---------------------------------------------------------------------------------------------------


def _seen(
    recipe: Recipe, asked: Asked, scratch: str, limit: int, report: Callable[[Event], None]
) -> tuple[pa.Table, float]:
    """What the near step would see of `limit` raw records, and the share of all raw records that these are."""
    behind = [node.name for node in recipe.nodes].index(asked.confirm.name)
    nodes = tuple(asked.near if node.name == asked.near.name else node for node in recipe.nodes[:behind])
    whole = replace(recipe, nodes=(*nodes, asked.confirm))
    source = plan.survey(whole, scratch, serial, limit=limit)
    steps = plan.resolve(whole, scratch, source)
    place, last = nodes.index(asked.near), len(steps) - 1
    first, second = steps[place], steps[last]
    texts = [max((i for i in s.columns if steps[i].node.stage.rewrites), default=-1) for s in (first, second)]
    if first.documents != second.documents or texts[0] != texts[1]:
        raise RecipeError(_other_texts(asked))
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
    wanted = [*_OWN, *(n for s in stages for n in (*s.reads, *s.applies_to) if n not in own)]
    names = tuple(dict.fromkeys(wanted))
    shards = [
        read(view.files(i, names), shard.rows).select(list(names))
        for i, shard in enumerate(view.documents.manifest.shards)
    ]
    return pa.concat_tables(shards).unify_dictionaries().combine_chunks(), source.share


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


# --- from a run ------------------------------------------------------------------------------------------------------


def _made(out: str, step: dict[str, Any]) -> Dataset:
    folder = store.join(out, step["folder"])
    manifest = Manifest.load(folder)
    if manifest is None:
        raise RecipeError(f"step '{step['name']}' of {out} is unfinished; `curate run` finishes it")
    return Dataset(folder, manifest)


def _node(name: str, made: Dataset) -> Node:
    """A step as its manifest has it."""
    said = made.manifest.made_by["stage"]
    given = said["parameters"]
    if said["kind"] == "near":
        sketched = dict(given["sketch"])
        if sketched.pop("version") != sketch.VERSION:
            raise RecipeError(f"step '{name}' sketched in another way than this version: run it again")
        stage: Near | Confirm = Near(**sketched, **{name: given[name] for name in ("per", "among", "keep", "by")})
    else:
        stage = Confirm(**given)
    prefix = "" if {"near_group", "near_duplicate"} & {*made.manifest.columns} else f"{name}_"
    return Node(name, stage, None, prefix, 0)


def _shards(asked: Asked, first: View, second: View) -> Iterator[pa.Table]:
    """What the two steps read of each shard."""
    own = tuple(dict.fromkeys((*_OWN, *asked.near.stage.reads)))
    proposed = asked.near.stage.named(asked.near.prefix)
    more = tuple(name for name in asked.confirm.stage.reads if name not in (*own, *proposed))
    for index, shard in enumerate(first.documents.manifest.shards):
        yield read((*first.files(index, own), *second.files(index, more)), shard.rows)
