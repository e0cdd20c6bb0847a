"""The verb `rephrase`: files for a batch service, its results, and refusals. Nothing heavy is imported before it runs.

`export` runs a recipe as far as its `rephrase` steps and writes the requests without an answer, `import` takes results
into the store of answers, and `curate run` goes on from there. `forget` lets go of refusals, so that they are asked for
again. Results may come in any order, from any service, in
part, and twice.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from curate.errors import DONE_WITH_REJECTS, RecipeError, Unanswered

if TYPE_CHECKING:
    from curate.recipe import Recipe
    from curate.run import Event
    from curate.stage import Map

Add = Callable[[str, Callable[[argparse.Namespace], int | None], str], argparse.ArgumentParser]
Show = Callable[[dict[str, Any], argparse.Namespace, Callable[[dict[str, Any]], None]], None]
Told = dict[str, Any]
_COUNTS = ("answered", "refused", "known", "failed", "unknown", "bad")
_SHOWN = 3


def register(add: Add, show: Show) -> None:
    """Add the verb by `add(name, function, text)`; what it tells goes to `show(told, options, tables)`."""

    def verb(options: argparse.Namespace) -> int:
        if options.action == "import":
            told = load(options.run, options.files, answers=options.answers)
            show(told, options, results)
            return _ended(told)
        if options.action == "forget":
            show(forget(options.run, answers=options.answers), options, forgotten)
            return 0
        from curate import recipe, report
        from curate.execute import pool

        loaded = recipe.load(options.recipe)
        most = {"lines": options.lines, "megabytes": options.megabytes}
        with report.Report() as shown, pool(options.jobs) as workers:
            told = export(loaded, options.out, options.to, most=most, limit=options.limit, map=workers, report=shown)
        show(told, options, requests)
        return 0

    text = "write requests of `rephrase` as files for a batch service, take its results in, or let go of refusals"
    actions = add("rephrase", verb, text).add_subparsers(dest="action", metavar="export|import|forget", required=True)
    out = actions.add_parser("export", help="run a recipe as far as its rephrase steps, and write what is unanswered")
    out.add_argument("recipe", metavar="RECIPE.yaml")
    out.add_argument("--out", required=True, metavar="RUN", help="folder of the run, as for `run`")
    out.add_argument("--to", required=True, metavar="FOLDER", help="a folder without files of requests")
    out.add_argument("--lines", type=_whole, metavar="N", help="requests in a file at most (default 50000)")
    out.add_argument("--megabytes", type=_whole, metavar="N", help="size of a file at most (default 200)")
    out.add_argument("-j", "--jobs", type=_whole, default=1, metavar="N", help="worker processes (default 1)")
    out.add_argument("--limit", type=_whole, metavar="N", help="as for `run`")
    back = actions.add_parser("import", help="take files of results into the store of answers")
    back.add_argument("run", metavar="RUN")
    back.add_argument("files", nargs="+", metavar="FILE", help="results, one JSON object a line")
    anew = actions.add_parser("forget", help="let go of answers that are refusals, so that they are asked for again")
    anew.add_argument("run", metavar="RUN")
    for sub in (back, anew):
        sub.add_argument("--answers", metavar="STORE", help="where the recipe says `answers:` (default the run's own)")
    for sub in (out, back, anew):
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for machines")


def export(
    loaded: "Recipe",
    out: str,
    folder: str,
    *,
    most: dict[str, int | None] | None = None,
    limit: int | None = None,
    map: "Map | None" = None,
    report: "Callable[[Event], None]" = lambda event: None,
) -> Told:
    """Run what the `rephrase` steps of a recipe stand on, and write their requests without an answer below `folder`,
    each step's in a folder of its own if there are several. `most`: `lines` and `megabytes` of a file.

    What a step reads may depend on the answers of another: then it `waits_for` that one. RecipeError for a recipe
    without such a step and for a folder that has requests already.
    """
    from curate import plan
    from curate.execute import serial
    from curate.run import run

    loaded, places, stores = _to_files(loaded, folder, {name: n for name, n in (most or {}).items() if n is not None})
    work = serial if map is None else map
    steps = plan.resolve(loaded, out, plan.survey(loaded, out, work, limit=limit))
    told: list[Told] = []
    for name, place in places.items():
        below = {steps[index].node.name for index in plan.needed(steps, name)}
        entry: Told = {"stage": name, "folder": place, "answers": stores[name], "waits_for": None}
        entry |= {"files": [], "requests": 0, "prompt_tokens": 0, "most_tokens": 0}
        unready = [one["stage"] for one in told if one["stage"] in below and (one["requests"] or one["waits_for"])]
        if unready:
            entry["waits_for"] = unready[0]
        else:
            try:
                run(loaded, out, map=work, limit=limit, report=report, until=name)
            except Unanswered as error:
                entry |= error.written
        told.append(entry)
    return {"run": out, "to": folder, "stages": told}


def load(out: str, files: Sequence[str], *, answers: str | None = None) -> Told:
    """Take files of results into the store of the run in `out`, or into `answers`: counts for each file and of all, and
    the places of the first lines that are no results. RecipeError where no run or no file is."""
    from curate import store
    from curate.generate import batch
    from curate.generate.answers import Answers

    place, told = _store(out, answers), []
    for file in files:
        if not store.exists(file):
            raise RecipeError(f"there is no file {file}")
        batch.examine(file)
    with Answers.open(place) as held:
        for file in files:
            loaded = batch.load(file, held)
            counts = {name: getattr(loaded, name) for name in (*_COUNTS, "estimated")}
            told.append({"file": file, **counts, "places": [one._asdict() for one in loaded.places]})
    total = {name: sum(one[name] for one in told) for name in (*_COUNTS, "estimated")}
    return {"run": out, "answers": place, "files": told, "total": total}


def forget(out: str, *, answers: str | None = None) -> Told:
    """Let go of all refusals in the store of the run in `out`, or in `answers`: `forgotten` says how many. RecipeError
    where no run or no store is, BusyError while a run asks for answers to the store."""
    from curate import store
    from curate.generate.answers import Answers

    place = _store(out, answers)
    if not store.exists(place):
        raise RecipeError(f"there is no store of answers {place}; name the one of the recipe's `answers:` by --answers")
    with Answers.open(place) as held, held.hold():
        return {"run": out, "answers": place, "forgotten": held.forget_refused()}


def forgotten(told: Told) -> None:
    """What `forget` tells, on standard output."""
    count = told["forgotten"]
    more = "; the next run asks for them, but where the step's folder in RUN is whole: remove that" if count else ""
    sys.stdout.write(f"{told['answers']}: {count:,} refusal{'' if count == 1 else 's'} forgotten{more}\n")


def requests(told: Told) -> None:
    """What `export` tells, as lines on standard output."""
    lines = []
    for stage in told["stages"]:
        if stage["waits_for"]:
            lines.append(
                f"{stage['stage']}: reads what {stage['waits_for']} makes; export again, to another folder, when the "
                "answers of that are taken in"
            )
            continue
        if not stage["requests"]:
            lines.append(f"{stage['stage']}: every request has an answer; `curate run` goes on")
            continue
        files = stage["files"]
        lines.append(
            f"{stage['stage']}: {stage['requests']:,} requests in {len(files)} file{'' if len(files) == 1 else 's'}, "
            f"{stage['prompt_tokens']:,} tokens of prompts, at most {stage['most_tokens']:,} of answers"
        )
        lines += [f"  {file}" for file in files[:_SHOWN]]
        lines += [f"  and {len(files) - _SHOWN} more"] if len(files) > _SHOWN else []
        own = ["--answers", stage["answers"]] if stage["answers"] else []
        command = shlex.join(["curate", "rephrase", "import", told["run"], *own])
        lines.append(f"when they are answered: {command} RESULTS.jsonl")
    sys.stdout.write("\n".join(lines) + "\n")


def results(told: Told) -> None:
    """What `load` tells, as a table on standard output."""
    rows = [["file", *_COUNTS]]
    named = [*((one["file"], one) for one in told["files"]), ("all", told["total"])]
    rows += [[name, *(f"{one[count]:,}" for count in _COUNTS)] for name, one in named]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    lines += [f"{one['file']}:{bad['line']}: {bad['reason']}" for one in told["files"] for bad in one["places"]]
    sys.stdout.write("\n".join(lines) + "\n")


def _store(out: str, answers: str | None) -> str:
    """The store of a run that has a `rephrase` step."""
    from curate import store
    from curate.outputs import state
    from curate.stages.rephrase import ANSWERS, Rephrase

    if not any(step["kind"] == Rephrase.kind for step in state(out)):
        raise RecipeError(f"the run in {out} has no `rephrase` step: nothing would read these answers")
    return answers or store.join(out, ANSWERS)


def _to_files(
    loaded: "Recipe", folder: str, most: dict[str, int]
) -> tuple["Recipe", dict[str, str], dict[str, str | None]]:
    """The recipe with files in place of servers; the folder, and the store if it is told, by step."""
    from curate import store
    from curate.stages.rephrase import FILES, Rephrase

    asking = {node.name: node.stage for node in loaded.nodes if isinstance(node.stage, Rephrase)}
    if not asking:
        raise RecipeError(f"{loaded.uri or loaded.name} has no `rephrase` step")
    places = {name: folder if len(asking) == 1 else store.join(folder, name) for name in asking}
    for place in places.values():
        old = sorted(name for name in store.listing(place) if name.startswith("requests-"))
        if old:
            raise RecipeError(f"{place} has requests already, as {old[0]}; name an empty folder")
    stages = {
        name: replace(stage, server=FILES + places[name], limits=replace(stage.limits, **most))
        for name, stage in asking.items()
    }
    nodes = tuple(replace(node, stage=stages.get(node.name, node.stage)) for node in loaded.nodes)
    return replace(loaded, nodes=nodes), places, {name: stage.answers for name, stage in asking.items()}


def _ended(told: Told) -> int:
    bad, failed = (told["total"][name] for name in ("bad", "failed"))
    if not bad and not failed:
        return 0
    said = [f"{bad:,} lines are no results"] * bool(bad) + [f"{failed:,} have no answer"] * bool(failed)
    sys.stderr.write(f"curate: taken in, but {' and '.join(said)}; `curate rephrase export` writes what is open\n")
    return DONE_WITH_REJECTS


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is wanted, found {text!r}")
    return int(text)
