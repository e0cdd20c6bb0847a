"""Units of work that join the documents of several steps into one dataset, a shard of one branch each."""

from collections.abc import Sequence
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from curate import store, unit
from curate.errors import RecipeError
from curate.manifest import fingerprint
from curate.plan import Step
from curate.view import View


def jobs(step: Step, views: Sequence[View]) -> list[unit.Joined]:
    """One unit for each shard of each branch, in order. `views`: what is finished of the branches.

    RecipeError where a column is of one type in one branch and of another in another.
    """
    schema = _schema(step, views)
    stage, made = step.node.stage, list[unit.Joined]()
    for branch, view in enumerate(views):
        own = tuple(name for name in schema.names if view.has([name]))
        for shard, base in enumerate(view.documents.manifest.shards):
            key = fingerprint(
                {
                    "stage": stage.identity(),
                    "branch": branch,
                    "columns": view.digests(shard, own),
                    "schema": [[field.name, str(field.type)] for field in schema],
                    "rows": base.rows,
                }
            )
            join, files = partial(stage.join, branch), view.files(shard, own)
            made.append(unit.Joined(f"{len(made):05d}", step.folder, key, join, schema, base.rows, files))
    return made


def _schema(step: Step, views: Sequence[View]) -> pa.Schema:
    """The columns of the whole: those that any branch carries."""
    fields: dict[str, pa.Field] = {}
    givers: dict[str, str] = {}
    for name, view in zip(step.node.stage.branches, views, strict=True):
        for dataset, columns in view.holders([one for one in step.gives if view.has([one])]):
            if not dataset.manifest.shards:
                continue
            with store.open_input(store.join(dataset.folder, dataset.manifest.shards[0].name)) as file:
                held = pq.read_schema(file)
            for column in columns:
                field = fields.setdefault(column, pa.field(column, held.field(column).type))
                first = givers.setdefault(column, name)
                if field.type != held.field(column).type:
                    raise RecipeError(
                        f"'{step.node.name}' joins documents whose column '{column}' is {field.type} in '{first}' and "
                        f"{held.field(column).type} in '{name}'; give the two different names, or drop one of them"
                    )
    return pa.schema([fields[name] for name in step.gives if name in fields])
