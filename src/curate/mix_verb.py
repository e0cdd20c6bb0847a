"""The verb `mix`: what a mixture is, and what differs between two. Nothing heavy is imported before it runs.

A run keeps the plan of its `mix` step in `mixture.json`. What a recipe would draw from the same documents is planned
anew: `curate mix show RECIPE.yaml --of RUN`, so targets can be tried without a run. The catch: groups are those of the
run, so targets, budget and caps are all that may differ; a recipe that differs elsewhere is refused.
"""

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from curate.errors import RecipeError

if TYPE_CHECKING:
    from curate.plan import Source, Step

FILE = "mixture.json"
_GROUPS_BY = ("bucket", "validation", "cluster", "seed")
"""Parameters of `mix` that decide which documents are in which group; the others are targets, budget and caps."""

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
    one.add_argument(
        "--of",
        metavar="RUN",
        help="with a recipe: the run whose documents it is planned for, made by it but for targets, budget and caps",
    )
    two = actions.add_parser("diff", help="what changes from one mixture to another")
    two.add_argument("before", metavar="A", help=f"a run folder, or a {FILE}")
    two.add_argument("after", metavar="B", help="the same")
    for sub in (one, two):
        sub.add_argument("--step", metavar="NAME", help="the `mix` step, if there are several")
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for machines")


def shown(place: str, *, of: str | None = None, step: str | None = None) -> dict[str, Any]:
    """The plan of a run, of a file, or of a recipe for the documents of the run `of`, as `mixture.json` has it.

    RecipeError where there is none, or several and no `step` says which.
    """
    if not _is_recipe(place):
        if of is not None:
            raise RecipeError(f"--of goes with a recipe; {place} has a plan of its own")
        return _told(place, step)
    if of is None:
        raise RecipeError(f"a recipe alone has no documents to plan for: `curate mix show {place} --of RUN`")
    return _planned(place, of, step)


def _planned(place: str, of: str, step: str | None) -> dict[str, Any]:
    """The plan of a recipe for the groups of the run `of`. RecipeError where a run of the recipe would have others."""
    from curate import plan, recipe, store
    from curate.execute import serial
    from curate.manifest import Manifest
    from curate.mixture_plan import Plan
    from curate.outputs import state
    from curate.stages.mix import Mix

    entries = state(of)
    have = Plan.read(_plain(_told(of, step)))
    kept = [one for one in entries if one["kind"] == "mix"]
    mixed = Manifest.load(store.join(of, _only(kept, [one["name"] for one in kept], step, of)["folder"]))
    began = Manifest.load(store.join(of, entries[0]["folder"]))
    if mixed is None or began is None:
        raise RecipeError(f"{of} is not finished: its `mix` step is not done")
    asked = recipe.load(place)
    source = plan.survey(asked, of, serial, limit=began.made_by["stage"]["parameters"].get("limit"))
    steps = plan.resolve(asked, of, source)
    found = [one for one in steps if isinstance(one.node.stage, Mix)]
    chosen = _only(found, [one.node.name for one in found], step, place)
    said = _differences(of, source, steps, chosen, mixed.made_by)
    if said:
        raise RecipeError(
            f"a run of {place} would not mix the documents that {of} has: {'; '.join(said)}. "
            f"`curate run {place} --out {of}` makes them; `--of` tries other targets, budgets and caps only"
        )
    stage = chosen.node.stage
    assert isinstance(stage, Mix)
    return stage.plan(have.available).told()


def _differences(
    of: str, source: "Source", steps: "tuple[Step, ...]", chosen: "Step", made_by: dict[str, Any]
) -> list[str]:
    """What makes the groups of a `mix` step others than those that the run `of` made by `made_by`, in words."""
    from curate import plan, store

    now, before = (one["stage"]["parameters"] for one in (chosen.made_by, made_by))
    said = [
        f"mix: `{name}` is {_short(now.get(name))}, there {_short(before.get(name))}"
        for name in _GROUPS_BY
        if now.get(name) != before.get(name)
    ]
    ids = _ids(chosen.made_by)
    if ids == _ids(made_by):
        return said
    needed, there = set(ids), plan.previous(of)
    changed = []
    for one in reversed(steps):
        if one.id not in needed:
            continue
        needed |= set(_ids(one.made_by))
        name = one.node.name
        if there.get(name) != store.basename(one.folder):
            why = plan.because(of, name, one.made_by) if name in there else "the run has no such step"
            changed.append((name, why))
    if there.get("ingest") != store.basename(source.folder):
        changed.append(("ingest", plan.because(of, "ingest", source.made_by)))
    # What only reads something else is no news where the something else is told.
    own = [f"{name}: {why}" for name, why in reversed(changed) if why not in ("", "its input changed")]
    return [*own, *said] or [f"its input changed: {', '.join(name for name, _ in reversed(changed)) or 'other steps'}"]


def _ids(made_by: dict[str, Any]) -> list[str]:
    """Identities of what a step reads; of a join, of all branches."""
    return [one for some in made_by["inputs"] for one in (some if isinstance(some, list) else [some])]


def _short(value: Any) -> str:
    return "not given" if value is None else str(value)


def _is_recipe(place: str) -> bool:
    return place.endswith((".yaml", ".yml"))


def compared(before: str, after: str, *, step: str | None = None) -> dict[str, Any]:
    """What changes from one plan to another: fingerprints, and every number of tokens that differs."""
    from dataclasses import asdict

    from curate.mixture_plan import Plan, difference

    for place in (before, after):
        if _is_recipe(place):
            raise RecipeError(
                f"`mix diff A B` compares runs, or their {FILE}, and {place} is a recipe; `curate mix show {place} "
                f"--of RUN --json > {FILE}` makes one of it"
            )
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
