"""The verbs below `fit ablation`. Nothing heavy is imported before one runs."""

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from curate.errors import RecipeError

if TYPE_CHECKING:
    from curate.fit.ablation import Scorer

Add = Callable[[str, Callable[[argparse.Namespace], int | None], str], argparse.ArgumentParser]
Show = Callable[[dict[str, Any], argparse.Namespace, Callable[[dict[str, Any]], None]], None]
Told = dict[str, Any]

_SHOWN = 10


def register(add: Add, show: Show) -> None:
    """Add all verbs by `add(name, function, text)`; what they tell goes to `show(told, options, tables)`."""

    def verb(work: Callable[[argparse.Namespace], Told], tables: Callable[[Told], None]) -> Callable[..., int]:
        def run(options: argparse.Namespace) -> int:
            told = work(options)
            show(told, options, tables)
            return 1 if told.get("weights") == {} else 0

        return run

    sub = add("ablation partition", verb(_partition, _partition_tables), "cut the sources of a run into equal parts")
    sub.add_argument("run", metavar="RUN", help="a finished run with token counts")
    either = sub.add_mutually_exclusive_group(required=True)
    either.add_argument("--tokens", metavar="N", help="tokens of a part, like 100M")
    either.add_argument("--parts", type=int, metavar="N", help="how many parts in all, as large as can be")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="which documents (default 0)")
    sub.add_argument(
        "--tolerance",
        type=float,
        default=0.005,
        metavar="X",
        help="how far parts may be off their size (default 0.005)",
    )
    sub.add_argument("-o", "--out", required=True, metavar="FOLDER", help="documents with `part`, parts.json, mix.yaml")

    sub = add("ablation average", verb(_average, _average_tables), "average models of one shape, tensor by tensor")
    sub.add_argument("model", nargs="+", metavar="FILE[=WEIGHT]", help="safetensors files (weight 1 if not given)")
    sub.add_argument("-o", "--out", required=True, metavar="FILE", help="the average, a safetensors file")

    sub = add("ablation score", verb(_score, _score_tables), "measure averages of models, for given sets of parts")
    _measured(sub)
    sub.add_argument("--set", action="append", default=[], metavar="PARTS", help="parts as a,b,c; may be given again")
    sub.add_argument("--size", type=int, metavar="N", help="all sets of so many parts")
    sub.add_argument("-o", "--out", required=True, metavar="CSV", help="losses by set, for `--losses` of regmix fit")
    sub.add_argument("--mixtures", metavar="CSV", help="shares of sources by set, for `--mixtures` of regmix fit")

    sub = add("ablation search", verb(_search, _search_tables), "find the set of parts whose average loses least")
    _measured(sub)
    sub.add_argument("--target", default="mean", metavar="NAMES", help="the loss, several as a,b, or mean (default)")
    sub.add_argument("--least", type=int, default=1, metavar="N", help="fewest parts of a set (default 1)")
    sub.add_argument("--most", type=int, metavar="N", help="most parts of a set (default all)")
    sub.add_argument("--restarts", type=int, default=4, metavar="N", help="random starts of a search (default 4)")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="which starts (default 0)")
    sub.add_argument("-o", "--out", required=True, metavar="JSON", help="the result, for `fit:` of a `mix` step")

    sub = add("ablation leave-out", verb(_leave_out, _leave_out_tables), "write mixtures without one source each")
    sub.add_argument("weights", metavar="JSON", help="the full mixture: the result of a fit")
    sub.add_argument("--tokens", required=True, metavar="N", help="tokens of each run, like 2B")
    held = sub.add_mutually_exclusive_group()
    held.add_argument("--available", metavar="JSON", help='tokens by source, such as {"web": 1000000}, for epochs')
    held.add_argument("--run", metavar="RUN", help="a finished run with token counts, for epochs")
    sub.add_argument("--max-epochs", type=float, metavar="N", help="how often a run may repeat a source (default 4)")
    sub.add_argument("--filler", metavar="SOURCE", help="gets the weight (default all others, in proportion)")
    sub.add_argument("-o", "--out", required=True, metavar="FOLDER", help="each as the `mix` step of a recipe")

    sub = add("ablation utilities", verb(_utilities, _utility_tables), "what sources are worth, by runs without them")
    sub.add_argument(
        "table", metavar="TABLE.csv", help="columns without (a source, or empty), seed if you like, and losses"
    )
    sub.add_argument("--weights", required=True, metavar="JSON", help="the full mixture: the result of a fit")
    sub.add_argument("--target", default="mean", metavar="NAMES", help="the loss, several as a,b, or mean (default)")
    sub.add_argument(
        "--measure", choices=("loss", "score"), default="loss", help="whether low (default) or high is good"
    )
    sub.add_argument("-o", "--out", required=True, metavar="JSON", help="the result, for `utility:` of a `mix` step")


def _measured(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--models", required=True, metavar="JSON", help='{"web/0": "web-0.safetensors", ...}')
    sub.add_argument(
        "--command", required=True, metavar="CMD", help="prints losses of the model {} as a last line of JSON"
    )
    sub.add_argument("--memory", metavar="FILE", help="what was measured is kept there, and not measured again")
    sub.add_argument("--scratch", metavar="FOLDER", help="where averages lie meanwhile (default beside the result)")


def _partition(options: argparse.Namespace) -> Told:
    from curate.fit.partition import partition
    from curate.stages.mix import token_count

    given = {name: getattr(options, name) for name in ("parts", "seed", "tolerance")}
    return partition(options.run, options.out, size=token_count(options.tokens), **given) | {"written": options.out}


def _average(options: argparse.Namespace) -> Told:
    from curate.fit.averaging import average

    files, weights = [], []
    for text in options.model:
        uri, equals, weight = text.rpartition("=")
        try:
            files.append(uri if equals else text)
            weights.append(float(weight) if equals else 1.0)
        except ValueError as error:
            raise RecipeError(f"FILE=WEIGHT is wanted, such as web.safetensors=2, found {text!r}") from error
    return average(files, options.out, weights=weights)


def _scorer(options: argparse.Namespace) -> "Scorer":
    import json

    from curate import store
    from curate.fit.ablation import Scorer

    try:
        raw = json.loads(store.read(options.models))
    except ValueError as error:
        raise RecipeError(f"{options.models} is no JSON: {error}") from error
    if not isinstance(raw, dict) or not all(isinstance(uri, str) for uri in raw.values()):
        raise RecipeError(f'{options.models}: files by part are wanted, such as {{"web/0": "web-0.safetensors"}}')
    folder = store.parent(store.absolute(options.models))
    models = {
        unit: uri if "://" in uri or uri.startswith("/") else store.join(folder, uri) for unit, uri in raw.items()
    }
    scratch = options.scratch or store.parent(store.absolute(options.out))
    if not store.is_local(scratch):
        raise RecipeError(
            f"averages cannot lie in {scratch}: --scratch is a local folder, where the command finds them"
        )
    return Scorer(models, options.command, store.absolute(scratch), options.memory)


def _score(options: argparse.Namespace) -> Told:
    import itertools

    from curate import store
    from curate.fit.ablation import shares

    scorer = _scorer(options)
    sets = [tuple(part.strip() for part in text.split(",") if part.strip()) for text in options.set]
    if options.size is not None:
        if not 1 <= options.size <= len(scorer.models):
            raise RecipeError(f"--size {options.size}: there are models of {len(scorer.models)} parts")
        sets += list(itertools.combinations(sorted(scorer.models), options.size))
    sets = list(dict.fromkeys(tuple(sorted(parts)) for parts in sets))
    if not sets:
        raise RecipeError("no sets are given: --set a,b names one, --size 2 means all pairs")
    losses, of = [scorer.losses(parts) for parts in sets], [shares(parts) for parts in sets]
    index = ["+".join(parts) for parts in sets]
    store.put(options.out, _csv(index, losses).encode())
    if options.mixtures:
        store.put(options.mixtures, _csv(index, of).encode())
    scores = [
        {"units": list(parts), "losses": loss, "shares": share}
        for parts, loss, share in zip(sets, losses, of, strict=True)
    ]
    return {"scores": scores, "measured": scorer.measured, "written": options.out}


def _search(options: argparse.Namespace) -> Told:
    from curate.fit import result
    from curate.fit.ablation import chosen, search, shares

    scorer = _scorer(options)
    given = {name: getattr(options, name) for name in ("least", "most", "restarts", "seed")}
    found = search(lambda units: chosen(scorer.losses(units), options.target), sorted(scorer.models), **given)
    best, value = found.sets[0]
    flat = found.sets[-1][1] == value
    first = found.sets[: 1 if flat else _SHOWN]
    every = tuple(sorted(scorer.models))
    report = {
        "target": options.target,
        "units": list(best),
        "value": value,
        "losses": scorer.losses(best),
        "of_all": next((one for units, one in found.sets if units == every), None),
        "single": {units[0]: one for units, one in sorted(found.sets) if len(units) == 1},
        "best": [{"units": list(units), "value": one} for units, one in first],
        "tried": len(found.sets),
        "exhaustive": found.exhaustive,
        "signal": not flat,
        "warnings": ["all sets lose the same: there are no weights"] if flat else [],
    }
    weights = {} if flat else shares(best)
    result.write(options.out, "ablation", weights, report)
    return {"kind": "ablation", "weights": weights, "report": report, "written": options.out}


def _leave_out(options: argparse.Namespace) -> Told:
    from urllib.parse import quote

    from curate import store
    from curate.fit import result
    from curate.fit.ablation import left_out
    from curate.fit.designs import fragment, most_epochs
    from curate.fit.runs import available, read_available
    from curate.laws import FREE
    from curate.stages.mix import token_count

    tokens, held, caps = token_count(options.tokens), None, {}
    assert tokens is not None
    if options.available or options.run:
        held = read_available(options.available) if options.available else available(options.run)
    full = result.read(options.weights)
    mixtures = {"full": full}
    mixtures |= {f"without-{name}": one for name, one in left_out(full, filler=options.filler).items()}
    epochs = {name: most_epochs(one, held, tokens=tokens) for name, one in mixtures.items()} if held else {}
    for name in mixtures:
        most = options.max_epochs or FREE
        if epochs.get(name, 0.0) > most:
            raise RecipeError(
                f"{tokens:,} tokens of the mixture '{name}' are {epochs[name]:,.2f} epochs of a source, above "
                f"{most:g}; give fewer --tokens, or more --max-epochs"
            )
        caps[name] = (most if epochs[name] > 1 else None) if epochs else options.max_epochs
    for name, weights in mixtures.items():
        text = fragment(weights, tokens=tokens, max_epochs=caps[name])
        store.put(store.join(options.out, f"{quote(name, safe='')}.yaml"), text.encode())
    return {"mixtures": mixtures, "tokens": tokens, "max_epochs": caps, "epochs": epochs, "written": options.out}


def _utilities(options: argparse.Namespace) -> Told:
    from dataclasses import asdict

    from curate.fit import result, tables
    from curate.fit.ablation import chosen, utilities, worths

    table, weights = tables.read(options.table), result.read(options.weights)
    table.need("without")
    names = [name for name in table.names if name not in ("without", "seed")]
    if not names:
        raise RecipeError(f"{options.table} has no column of losses beside 'without' and 'seed'")
    runs: dict[str, list[dict[str, float]]] = {}
    for row, cells in enumerate(table.rows):
        losses = {name: table.number(row, name) for name in names}
        runs.setdefault(cells["without"], []).append(losses)
    if lost := sorted(set(runs) - set(weights) - {""}):
        raise RecipeError(f"{options.table} leaves out '{lost[0]}', which {options.weights} has no weight for")
    sign = 1.0 if options.measure == "loss" else -1.0

    def of(target: str) -> Told:
        values = {name: [sign * chosen(losses, target) for losses in group] for name, group in runs.items()}
        return utilities(values.pop("", []), values)

    found = of(options.target)
    worth = worths(found, weights)
    seeds = {name or "full": len(group) for name, group in runs.items()}
    report = {
        "target": options.target,
        "utilities": {name: asdict(one) for name, one in found.items()},
        "by_measure": {target: {name: one.value for name, one in of(target).items()} for target in names},
        "runs": seeds,
        "signal": bool(worth),
        "warnings": []
        if any(one.error is not None for one in found.values())
        else ["no mixture was run twice: nothing tells these numbers from the scatter of seeds"],
    }
    result.write(options.out, "utility", worth, report)
    return {"kind": "utility", "weights": worth, "report": report, "written": options.out}


def _csv(index: list[str], rows: list[dict[str, float]]) -> str:
    """`index`, then a column for each name that any row has; 0 where one has none."""
    import csv
    import io

    names = sorted({name for row in rows for name in row})
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["index", *names])
    writer.writerows(
        [name, *(repr(row.get(column, 0.0)) for column in names)] for name, row in zip(index, rows, strict=True)
    )
    return sink.getvalue()


# --- tables for people -----------------------------------------------------------------------------------------------


def _lines(lines: list[str], told: Told) -> None:
    sys.stdout.write("\n".join([*lines, f"written to {told['written']}"]) + "\n")


def _partition_tables(told: Told) -> None:
    width = max(len(name) for name in (*told["sources"], "source"))
    lines = [f"{len(told['parts'])} parts of {told['size']:,} tokens, within {told['tolerance']:.2%}"]
    lines.append(f"{'source'.ljust(width)}  parts          tokens       left over")
    for name, one in told["sources"].items():
        lines.append(f"{name.ljust(width)}  {one['parts']:5}  {one['tokens']:14,}  {one['left_over']:14,}")
    _lines(lines, told)


def _average_tables(told: Told) -> None:
    _lines([f"{told['models']} models, {told['tensors']} tensors, {told['parameters']:,} parameters"], told)


def _score_tables(told: Told) -> None:
    lines = [f"{len(told['scores'])} sets, {told['measured']} measured now"]
    for one in told["scores"][:_SHOWN]:
        losses = "  ".join(f"{name} {loss:.4f}" for name, loss in one["losses"].items())
        lines.append(f"{' + '.join(one['units'])}: {losses}")
    _lines(lines, told)


def _search_tables(told: Told) -> None:
    said = told["report"]
    how = "all sets" if said["exhaustive"] else "a search"
    lines = [f"{said['tried']} sets tried ({how}); the lowest of {said['target']}:"]
    lines += [f"  {one['value']:.4f}  {' + '.join(one['units'])}" for one in said["best"]]
    if said["of_all"] is not None:
        lines.append(f"  {said['of_all']:.4f}  all parts")
    lines += [f"{name}  {share:.4f}" for name, share in told["weights"].items()]
    _lines([*lines, *(f"warning: {text}" for text in said["warnings"])], told)


def _leave_out_tables(told: Told) -> None:
    lines = [f"{len(told['mixtures'])} mixtures of {told['tokens']:,} tokens each are to be trained"]
    for name, epochs in told["epochs"].items():
        cap = told["max_epochs"][name]
        lines.append(f"{name}: up to {epochs:.2f} epochs of a source" + (f", `max_epochs: {cap:g}`" if cap else ""))
    if not told["epochs"]:
        lines.append("how often they repeat a source is not known: --run or --available says what there is")
    _lines(lines, told)


def _utility_tables(told: Told) -> None:
    said = told["report"]
    width = max(len(name) for name in (*said["utilities"], "source"))
    lines = [f"{'source'.ljust(width)}   utility     error   worth"]
    for name, one in said["utilities"].items():
        error = "        -" if one["error"] is None else f"{one['error']:9.4g}"
        worth = f"{told['weights'][name]:7.4f}" if name in told["weights"] else "      -"
        note = "" if one["clear"] is not False else "  not told from 0"
        lines.append(f"{name.ljust(width)} {one['value']:9.4g} {error} {worth}{note}")
    _lines([*lines, *(f"warning: {text}" for text in said["warnings"])], told)
