"""The command line. Every verb is one function of the library; this module parses, calls it, prints and exits.

Nothing heavy is imported before a verb needs it: `curate --help` is to answer at once.
"""

import argparse
import atexit
import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from curate import __version__, compare_verb, fit_verbs, mix_verb, plan_tokens_verb, rephrase_verb, serve_local_verb
from curate.errors import DONE_WITH_REJECTS, CurateError, RecipeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; the exit code is 0, 3 (done, but records were set aside), or that of the error."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        options = parser().parse_args(given)
        return int(options.verb(options) or 0)
    except CurateError as error:
        print(f"curate: {error}", file=sys.stderr)
        if "--json" in given:
            print(json.dumps({"error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}))
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("curate: stopped; what is finished is kept, run again to go on", file=sys.stderr)
        return 130


def command() -> NoReturn:
    """The program `curate`. Leaves once all that is to be closed is: a thread of a library that still runs would end
    the process by a signal in place of the exit code."""
    code = main()
    atexit._run_exitfuncs()  # semaphores of worker pools, temporary folders
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RecipeError(f"{message}\n{self.format_usage().rstrip()}")


def parser() -> argparse.ArgumentParser:
    """All verbs with their options; what it cannot parse is a RecipeError."""
    top = _Parser(
        prog="curate",
        description="Raw text in, pretraining data out: deduplicated, filtered, mixed, tokenized.",
    )
    top.add_argument("--version", action="version", version=f"curate {__version__}")
    verbs = top.add_subparsers(metavar="VERB", required=True)

    def add(name: str, verb: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.add_argument("--json", action="store_true", help="print JSON for machines")
        sub.set_defaults(verb=verb)
        return sub

    run = add("run", _run, "run a recipe; what is done already is kept")
    run.add_argument("recipe", metavar="RECIPE.yaml")
    run.add_argument("--out", type=_folder, required=True, metavar="RUN", help="folder of the run; the same resumes")
    run.add_argument("-j", "--jobs", type=_workers, default=1, metavar="N", help="worker processes (default 1)")
    run.add_argument("--limit", type=_positive, metavar="N", help="only N raw records, a keyed sample")

    plan = add("plan", _plan, "say what `run` would do and why, without doing it")
    plan.add_argument("recipe", metavar="RECIPE.yaml")
    plan.add_argument("--out", type=_folder, required=True, metavar="RUN")
    plan.add_argument("--limit", type=_positive, metavar="N", help="as for `run`")
    plan.add_argument("--tokens-per-second", type=_positive, metavar="N", help="of answers, for hours of `rephrase`")

    near = add("near-report", _near_report, "measure what near-duplicate removal finds, on edited copies of your data")
    near.add_argument("recipe", metavar="RECIPE.yaml", help="a recipe, or the folder of a finished run")
    near.add_argument("--documents", type=_positive, default=2000, metavar="N", help="documents drawn (default 2000)")
    near.add_argument("--seed", type=_count, default=0, metavar="N", help="which documents and edits (default 0)")
    near.add_argument("--near", metavar="NAME", help="the `near` step, if there are several")

    one = add("filter", _filter, "filter a file, a folder, a glob or standard input in one go")
    one.add_argument("source", metavar="IN", help="parquet, jsonl, jsonl.gz or jsonl.zst; - is standard input")
    one.add_argument("target", metavar="OUT", help="survivors, in the format of the suffix; - is standard output")
    one.add_argument(
        "--with", dest="stages", type=_names, default=(), metavar="STAGES", help="language,heuristics,code,exact,near"
    )
    one.add_argument("--rules", type=_names, default=(), metavar="NAMES", help="rule sets, such as gopher_quality")
    one.add_argument(
        "--where", metavar="EXPR", help="keep rows where this holds, such as 'words >= 50 and not duplicate'"
    )
    one.add_argument("--dropped", metavar="PATH", help="dropped rows with their rule (default NAME.dropped.SUFFIX)")
    one.add_argument(
        "--code-language",
        default="language",
        metavar="FIELD",
        help="the field that names the programming language, for rules of code (default language)",
    )
    one.add_argument("--jaccard", type=float, default=0.7, metavar="J", help="near: least similarity (default 0.7)")
    one.add_argument("--text", default="text", metavar="FIELD", help="the field that holds the text")
    one.add_argument("-j", "--jobs", type=_workers, default=1, metavar="N", help="worker processes (default 1)")

    why = add("why", _why, "tell the story of a document: what was measured, what became of it, and why")
    why.add_argument("run", metavar="RUN")
    why.add_argument("document", nargs="?", metavar="ID", help="an id, a source_id or an origin")
    why.add_argument("--example", action="store_true", help="one dropped document, chosen for you")

    _questions(add)
    _index(add)

    outputs = add("outputs", _outputs, "list what a run has made")
    outputs.add_argument("run", metavar="RUN")

    verify = add("verify", _verify, "hash all files of a run; damaged ones are made again by the next run")
    verify.add_argument("run", metavar="RUN")
    verify.add_argument("-j", "--jobs", type=_workers, default=1, metavar="N", help="worker processes (default 1)")

    schema = add("schema", _schema, "print a JSON Schema, or write all to a folder")
    schema.add_argument("name", nargs="?", metavar="NAME", help="such as manifest or tokens; without it all are listed")
    schema.add_argument("--write", metavar="DIR", help="write all schemas there")

    model = add("get-model", _get_model, "fetch a known model into the cache, or list them")
    model.add_argument("name", nargs="?", metavar="NAME", help="such as lid.176; without it all are listed")

    demo = add("demo-corpus", _demo, "collect real text that this machine already has, as raw files for the demo")
    demo.add_argument("folder", metavar="DIR")
    demo.add_argument("--megabytes", type=_positive, default=40, metavar="N", help="about how much text (default 40)")
    return top


def _questions(add: Callable[..., argparse.ArgumentParser]) -> None:
    """The verbs that ask a finished run about its rules."""
    whatif = add("whatif", _whatif, "count what other rules would keep, from columns alone")
    whatif.add_argument("run", metavar="RUN")
    whatif.add_argument(
        "--where", metavar="EXPR", help="keep rows where this holds, such as 'words >= 50', in place of all its rules"
    )
    whatif.add_argument(
        "--rules", type=_names, default=(), metavar="NAMES", help="rule sets, in place of all rules of the step"
    )
    whatif.add_argument(
        "--change",
        type=_change,
        action="append",
        default=[],
        metavar="NAME=EXPR",
        help="keep the step's rules (--where and --rules come on top), but NAME is EXPR, or off; may be given again",
    )
    whatif.add_argument(
        "--stage", metavar="NAME", help="the select step (default the first whose rows have all columns)"
    )

    sweep = add("sweep", _sweep, "count what each threshold on a column would keep")
    sweep.add_argument("run", metavar="RUN")
    sweep.add_argument("--of", required=True, metavar="COLUMN", help="a column of numbers: kept is COLUMN >= threshold")
    sweep.add_argument(
        "--steps", type=_count, default=20, metavar="N", help="thresholds at even quantiles (default 20)"
    )
    sweep.add_argument("--at", type=_numbers, default=(), metavar="LIST", help="more thresholds, such as 0.1,0.2")
    sweep.add_argument("--below", action="store_true", help="kept is COLUMN <= threshold, for rules with <=")
    sweep.add_argument("--where", metavar="EXPR", help="only among rows where this holds")
    sweep.add_argument(
        "--stage", metavar="NAME", help="the select step (default the first whose rows have all columns)"
    )

    look = add("look", _look, "show documents that a rule dropped beside some that it kept, nearest first")
    look.add_argument("run", metavar="RUN")
    look.add_argument("--rule", required=True, metavar="NAME", help="such as long_enough or gopher_quality.stop_words")
    look.add_argument("-n", type=_positive, default=5, metavar="N", help="documents on each side (default 5)")
    look.add_argument("--stage", metavar="NAME", help="the select step, if several have the rule")

    for verbs in (compare_verb, mix_verb, fit_verbs, plan_tokens_verb, serve_local_verb, rephrase_verb):
        verbs.register(add, _print)


def _index(add: Callable[..., argparse.ArgumentParser]) -> None:
    """The verbs that keep an index of documents, which later runs name in `near: {against: [INDEX]}`."""
    verbs = add("index", _indexed, "keep an index of kept documents, to deduplicate later runs against").add_subparsers(
        dest="action", metavar="add|info|export", required=True
    )
    more = verbs.add_parser("add", help="add the documents that a finished run kept; what is in it already stays")
    info = verbs.add_parser("info", help="show settings, S-curve, segments, documents and bytes")
    export = verbs.add_parser("export", help="write signatures to a parquet file for datasketch's MinHashLSH")
    for sub in (more, info, export):
        sub.add_argument("index", type=_folder, metavar="INDEX", help="folder of the index")
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for machines")
    more.add_argument("run", type=_folder, metavar="RUN")
    more.add_argument("--of", metavar="NAME", help="the step whose documents are added (default the last select)")
    more.add_argument("--near", metavar="NAME", help="the near step whose settings count, if there are several")
    more.add_argument(
        "--verify", choices=("exact", "sketch"), help="keep shingles (default) or signatures to compare by"
    )
    more.add_argument("-j", "--jobs", type=_workers, default=1, metavar="N", help="worker processes (default 1)")
    info.add_argument("--check", action="store_true", help="read all of it and compare it with its digests")
    export.add_argument("target", metavar="OUT.parquet")


def _run(options: argparse.Namespace) -> int:
    from curate import recipe, report
    from curate.columns import renamed
    from curate.execute import pool
    from curate.outputs import outputs
    from curate.run import run

    loaded = recipe.load(options.recipe)
    _tell_first_use()
    with report.Report() as shown, pool(options.jobs) as workers:
        result = run(loaded, options.out, map=workers, limit=options.limit, report=shown)
    made = outputs(options.out)
    _renamed(renamed(result.carried))
    for stage in made["stages"]:
        if stage["kind"] == "select" and stage.get("rows_in") and not stage["rows"]:
            _tell_empty(stage["name"], stage["rows_in"], stage["dropped"])
    _print(made, options, report.table)
    return _ended(made["stages"][0], made["stages"][0].get("rejects_folder"))


def _plan(options: argparse.Namespace) -> int:
    from curate import preview, recipe

    how = {"limit": options.limit, "speed": options.tokens_per_second}
    _print(preview.preview(recipe.load(options.recipe), options.out, **how), options, preview.show)
    return 0


def _near_report(options: argparse.Namespace) -> int:
    from curate import near_report, plan, recipe, report, store

    is_run = store.exists(store.join(options.recipe, plan.STATE))
    loaded = options.recipe if is_run else recipe.load(options.recipe)
    _tell_first_use()
    with report.Report() as shown:
        told = near_report.near_report(
            loaded, documents=options.documents, seed=options.seed, near=options.near, report=shown
        )
    _print(told, options, near_report.show)
    return 0


def _filter(options: argparse.Namespace) -> int:
    from curate import report
    from curate.execute import pool
    from curate.filtering import filter_files

    rows_out = "-" in (options.target, options.dropped)
    if options.json and rows_out:
        raise RecipeError("--json and rows both want standard output: let OUT and --dropped be files")
    _tell_first_use()
    with report.Report() as shown, pool(options.jobs) as workers:
        done = filter_files(
            options.source,
            options.target,
            stages=options.stages,
            rules=options.rules,
            where=options.where,
            dropped=options.dropped,
            text=options.text,
            code_language=options.code_language,
            jaccard=options.jaccard,
            map=workers,
            report=shown,
        )
    _renamed(done["carried_as"], "; that is their name in --where, the output has the input's names")
    if done["rows"] > done["rejected"] and not done["kept"]:
        _tell_empty("filter", done["rows"] - done["rejected"], done["dropped"])
    for name in {"c4", "refinedweb_lines"} & {*options.rules}:
        said = "judges pages by the lines that it would leave; texts stay as they are: the stage `clean` rewrites them"
        print(f"note: {name} {said}", file=sys.stderr)
    if options.json:
        print(_json(done))
    else:
        by_rule = ", ".join(f"{rule} {count:,}" for rule, count in done["dropped"].items()) or "none"
        print(
            f"{done['rows']:,} rows in, {done['kept']:,} kept in {done['out']}; dropped: {by_rule}",
            file=sys.stderr if rows_out else sys.stdout,
        )
    return _ended(done, done["rejects_out"])


def _why(options: argparse.Namespace) -> int:
    from curate import report, why

    if (options.document is None) == (not options.example):
        raise RecipeError("give an ID, or --example")
    told = why.example(options.run) if options.example else why.why(options.run, options.document)
    _print(told, options, report.story)
    return 0


def _whatif(options: argparse.Namespace) -> int:
    from curate import report
    from curate.whatif import whatif

    change = dict(options.change)
    if len(change) < len(options.change):
        raise RecipeError("--change names a rule twice")
    told = whatif(options.run, where=options.where, rules=options.rules, change=change, stage=options.stage)
    _print(told, options, report.alternative)
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from curate import report
    from curate.whatif import sweep

    told = sweep(
        options.run,
        of=options.of,
        steps=options.steps,
        at=options.at,
        where=options.where,
        below=options.below,
        stage=options.stage,
    )
    _print(told, options, report.curve)
    return 0


def _look(options: argparse.Namespace) -> int:
    from curate import report
    from curate.look import look

    _print(look(options.run, rule=options.rule, n=options.n, stage=options.stage), options, report.border)
    return 0


def _indexed(options: argparse.Namespace) -> int:
    from curate import index_contents, indexing
    from curate.execute import pool

    if options.action == "add":
        _tell_first_use()
        how = {name: getattr(options, name) for name in ("of", "near", "verify")}
        with pool(options.jobs) as workers:
            made = indexing.add(options.index, options.run, **how, map=workers)
    elif options.action == "info":
        if options.check:
            index_contents.check(options.index)
        made = index_contents.info(options.index)
    else:
        made = index_contents.export(options.index, options.target)
    _print(made, options, lambda told: print("\n".join(index_contents.lines(told))))
    return 0


def _outputs(options: argparse.Namespace) -> int:
    from curate import report
    from curate.outputs import outputs

    _print(outputs(options.run), options, report.table)
    return 0


def _verify(options: argparse.Namespace) -> int:
    from curate.execute import pool
    from curate.verify import verify

    with pool(options.jobs) as workers:
        found = verify(options.run, map=workers)

    def show(found: dict[str, Any]) -> None:
        for one in found["damaged"]:
            print(f"damaged: {one['file']}: {one['found']}")
        tail = "; `curate run` makes them again" if found["damaged"] else ", all as they were written"
        print(f"{found['files']:,} files, {found['bytes'] / 1e6:,.1f} MB, {len(found['damaged'])} damaged{tail}")

    _print(found, options, show)
    return 4 if found["damaged"] else 0


def _schema(options: argparse.Namespace) -> int:
    from curate import schema

    if options.write:
        schema.write(options.write)
        _print({"written": options.write}, options, lambda made: None)
    elif options.name:
        print(schema.text(options.name), end="")
    else:
        _print({"schemas": list(schema.NAMES)}, options, lambda made: print("\n".join(made["schemas"])))
    return 0


def _get_model(options: argparse.Namespace) -> int:
    from curate import models

    def show(made: dict[str, Any]) -> None:
        for one in made["models"]:
            print(f"{one['name']}  {one['bytes']:,} bytes  {one['licence']}  {one['path'] or 'not here'}")

    if options.name:
        _print(models.get(options.name)._asdict(), options, lambda made: print(f"{made['path']} ({made['source']})"))
    else:
        _print({"models": models.known()}, options, show)
    return 0


def _demo(options: argparse.Namespace) -> int:
    from curate.demo import write_corpus

    made = write_corpus(options.folder, megabytes=options.megabytes)
    _print(made, options, lambda done: print(json.dumps(done, indent=1)))
    return 0


def _print(made: dict[str, Any], options: argparse.Namespace, show: Callable[[dict[str, Any]], None]) -> None:
    if options.json:
        print(_json(made))
    else:
        show(made)


def _json(made: Any) -> str:
    return json.dumps(_finite(made), indent=1, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    """NaN and infinity as null: JSON knows no such numbers."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _renamed(names: dict[str, str], more: str = "") -> None:
    if names:
        own, ours = ", ".join(f"'{name}'" for name in names), ", ".join(names.values())
        word = "a column" if len(names) == 1 else "columns"
        print(f"carried as {ours}: the input has {word} {own} and so have we{more}", file=sys.stderr)


def _tell_first_use() -> None:
    """A line for a first use on this machine, which seems to stand still while kernels are compiled."""
    from curate import kernels

    if kernels.is_cold():
        print("first use here: the kernels are compiled once, which takes half a minute or so", file=sys.stderr)


def _tell_empty(name: str, rows: int, dropped: dict[str, int]) -> None:
    rule, count = max(dropped.items(), key=lambda item: item[1])
    print(f"note: {name} kept none of {rows:,} documents; {count:,} went by {rule}", file=sys.stderr)


def _ended(done: dict[str, Any], place: str | None) -> int:
    if not done["rejected"]:
        return 0
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in done["rejects"].items())
    kept = f"all are in {place}" if place else "give --dropped a file to have them all beside it"
    said = f"complete, {done['rejected']:,} records rejected ({reasons}); the first is {done['first_reject']}; {kept}"
    print(f"curate: {said}", file=sys.stderr)
    return DONE_WITH_REJECTS


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _folder(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the name of a folder is wanted, found ''")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is wanted, found {text!r}")
    return int(text)


def _count(text: str) -> int:
    return 0 if text == "0" else _positive(text)


def _change(text: str) -> tuple[str, str]:
    name, equals, expression = text.partition("=")
    if not (name.strip() and equals and expression.strip()):
        raise argparse.ArgumentTypeError(f"NAME=EXPR is wanted, such as long_enough='words >= 80', found {text!r}")
    return name.strip(), expression.strip()


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in _names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"numbers with commas between are wanted, found {text!r}") from None


_workers = _positive

if __name__ == "__main__":
    command()
