"""The verb `mix`: what a mixture is, and what differs between two. Nothing heavy is imported before it runs.

A run keeps the plan of its `mix` step in `mixture.json`. What a recipe would draw from the same documents is planned
anew: `curate mix show RECIPE.yaml --of RUN`, so targets can be tried without a run.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

from curate.errors import RecipeError

FILE = "mixture.json"

Add = Callable[[str, Callable[[argparse.Namespace], int | None], str], argparse.ArgumentParser]
Show = Callable[[dict[str, Any], argparse.Namespace, Callable[[dict[str, Any]], None]], None]


def register(add: Add, show: Show) -> None:
    """Add the verb by `add(name, function, text)`; what it tells goes to `show(told, options, tables)`."""

    def verb(options: argparse.Namespace) -> int:
        from curate import mix_report

        if options.action == "show":
            show(shown(options.mixture, of=options.of, step=options.step), options, mix_report.plan)
        else:
            show(compared(options.before, options.after, step=options.step), options, mix_report.changes)
        return 0

    actions = add("mix", verb, "show the plan of a mixture, or what differs between two").add_subparsers(
        dest="action", metavar="show|diff", required=True
    )
    one = actions.add_parser("show", help="tokens, shares, epochs and effective tokens by phase and source")
    one.add_argument("mixture", metavar="RUN|RECIPE", help=f"a run, a recipe, or a {FILE}")
    one.add_argument("--of", metavar="RUN", help="with a recipe: the run whose documents it is planned for")
    two = actions.add_parser("diff", help="what changes from one mixture to another")
    two.add_argument("before", metavar="A", help=f"a run, or a {FILE}")
    two.add_argument("after", metavar="B")
    for sub in (one, two):
        sub.add_argument("--step", metavar="NAME", help="the `mix` step, if there are several")
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for machines")


def shown(place: str, *, of: str | None = None, step: str | None = None) -> dict[str, Any]:
    """The plan of a run, of a file, or of a recipe for the documents of the run `of`, as `mixture.json` has it.

    RecipeError where there is none, or several and no `step` says which.
    """
    from curate import recipe, store
    from curate.mixture_plan import Plan
    from curate.stages.mix import Mix

    if not place.endswith((".yaml", ".yml")):
        if of is not None:
            raise RecipeError(f"--of goes with a recipe; {place} has a plan of its own")
        return _told(place, step)
    if of is None or not store.exists(of):
        raise RecipeError(f"a recipe alone has no documents to plan for: `curate mix show {place} --of RUN`")
    have = Plan.read(_plain(_told(of, step)))
    nodes = [node for node in recipe.load(place).nodes if isinstance(node.stage, Mix)]
    stage = _only(nodes, [node.name for node in nodes], step, place).stage
    assert isinstance(stage, Mix)
    return stage.plan(have.available).told()


def compared(before: str, after: str, *, step: str | None = None) -> dict[str, Any]:
    """What changes from one plan to another: fingerprints, and every number of tokens that differs."""
    from dataclasses import asdict

    from curate.mixture_plan import Plan, difference

    plans = [Plan.read(_plain(_told(place, step))) for place in (before, after)]
    return {
        "before": before,
        "after": after,
        "fingerprints": [plan.fingerprint for plan in plans],
        "changes": [asdict(change) for change in difference(*plans)],
    }


def _told(place: str, step: str | None) -> dict[str, Any]:
    """The content of a `mixture.json`."""
    from curate import store
    from curate.outputs import state

    uri = place
    if not place.endswith(".json"):
        steps = [one for one in state(place) if one["kind"] == "mix"]
        uri = store.join(place, _only(steps, [one["name"] for one in steps], step, place)["folder"], FILE)
    if not store.exists(uri):
        raise RecipeError(f"no mixture at {uri}; `curate run` writes it when its `mix` step is done")
    try:
        told: dict[str, Any] = json.loads(store.read(uri))
    except ValueError as error:
        raise RecipeError(f"{uri} is no JSON ({error}); the {FILE} of a run is wanted") from error
    return told


def _only(found: list[Any], names: list[str], step: str | None, place: str) -> Any:
    if step is not None:
        found = [one for one, name in zip(found, names, strict=True) if name == step]
    if len(found) != 1:
        wanted = "`--step NAME` says which" if found else "one is wanted"
        raise RecipeError(
            f"{place} has {len(found)} mix steps{f' called {step}' if step else ''} ({', '.join(names)}); {wanted}"
        )
    return found[0]


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    """The plan alone, without what was drawn."""
    return {name: value for name, value in told.items() if name != "drawn"}
