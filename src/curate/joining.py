"""Units of work that join the documents of several steps into one dataset, a shard of one branch each."""

from collections.abc import Sequence
from functools import partial

from curate import unit
from curate.errors import RecipeError
from curate.manifest import fingerprint
from curate.plan import Step
from curate.view import View


def jobs(step: Step, views: Sequence[View]) -> list[unit.Joined]:
    """One unit for each shard of each branch, in order. `views`: what is finished of the branches.

    RecipeError where a column is of one type in one branch and of another in another.
    """
    _same_types(step, views)
    stage, made = step.node.stage, list[unit.Joined]()
    for branch, view in enumerate(views):
        for shard, base in enumerate(view.documents.manifest.shards):
            columns = view.digests(shard, step.gives)
            key = fingerprint(
                {
                    "stage": stage.identity(),
                    "branch": branch,
                    "columns": columns,
                    "order": step.gives,
                    "rows": base.rows,
                }
            )
            join, files = partial(stage.join, branch), view.files(shard, step.gives)
            made.append(unit.Joined(f"{len(made):05d}", step.folder, key, join, step.gives, base.rows, files))
    return made


def _same_types(step: Step, views: Sequence[View]) -> None:
    names, first = step.node.stage.branches, views[0].types
    for branch, view in zip(names, views, strict=True):
        types = view.types
        for column in step.gives if view.documents.manifest.rows and views[0].documents.manifest.rows else ():
            if types[column] != first[column]:
                raise RecipeError(
                    f"'{step.node.name}' joins documents whose column '{column}' is {first[column]} in '{names[0]}' "
                    f"and {types[column]} in '{branch}'; give the two different names, or leave it out of one of them"
                )
