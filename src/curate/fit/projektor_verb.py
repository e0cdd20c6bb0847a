"""The verb `fit projektor`. Nothing heavy is imported before it runs."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from curate.errors import RecipeError

Add = Callable[[str, Callable[[argparse.Namespace], int | None], str], argparse.ArgumentParser]
Show = Callable[[dict[str, Any], argparse.Namespace, Callable[[dict[str, Any]], None]], None]


def register(add: Add, show: Show) -> None:
    """Add the verb by `add(name, function, text)`; what it tells goes to `show(told, options, tables)`."""

    def verb(options: argparse.Namespace) -> int:
        from curate.fit import result
        from curate.fit.projektor import clouds, projected, read_measured
        from curate.stages.mix import token_count

        if (options.run is None) != (options.towards is None):
            raise RecipeError("--run names the run with vectors and --towards its target documents: give both")
        runs, distance = read_measured(options.table), None
        if options.run:
            given = ("towards", "embedding", "sample", "epsilon")
            distance = clouds(options.run, runs.names, **{name: getattr(options, name) for name in given})
        made = projected(runs, distance, size=token_count(options.size), scale=options.scale)
        result.write(options.out, "projektor", made.weights, made.report)
        told = {"kind": "projektor", "weights": made.weights, "report": made.report, "written": options.out}
        show(told, options, tables)
        return 0 if made.weights else 1

    sub = add("projektor", verb, "the best shares at a larger size, by losses of small runs and distances to a target")
    sub.add_argument(
        "table", metavar="TABLE.csv", help="columns size, loss or accuracy, ot, and a share for each source"
    )
    sub.add_argument("--size", metavar="N", help="for which size, like 20B, where runs have two")
    sub.add_argument("--run", metavar="RUN", help="a finished run with vectors, to measure distances by")
    sub.add_argument("--towards", metavar="EXPR", help="its target documents, such as \"source = 'exam'\"")
    sub.add_argument("--embedding", default="embedding", metavar="COLUMN", help="the vectors (default embedding)")
    sub.add_argument(
        "--sample", type=int, default=512, metavar="N", help="vectors of each source and the target (default 512)"
    )
    sub.add_argument("--epsilon", type=float, metavar="X", help="blur of the transport (default 0.05 of the median)")
    sub.add_argument(
        "--scale", choices=("plain", "logit"), default="plain", help="fit values as they are, or logits of accuracies"
    )
    sub.add_argument("-o", "--out", required=True, metavar="JSON", help="the result, for `fit:` of a `mix` step")


def tables(told: dict[str, Any]) -> None:
    """What the verb tells, as lines on standard output."""
    said = told["report"]
    width = max(len(name) for name in (*said["shares"], "source"))
    lines = []
    for one in said["fits"]:
        explained = "not known" if one["explained"] is None else f"{one['explained']:.3f}"
        lines.append(f"size {one['size']:g}: {one['runs']} runs, explained of runs left out: {explained}")
    lines.append(f"{'source'.ljust(width)}   share")
    lines += [f"{name.ljust(width)}  {share:.4f}" for name, share in said["shares"].items()]
    lines.append(
        f"predicted {said['measure']} at {said['size']:g}: {said['predicted']:.4f}, of equal shares "
        f"{said['predicted_of_equal_shares']:.4f}"
    )
    lines += [f"warning: {text}" for text in said["warnings"]]
    sys.stdout.write("\n".join([*lines, f"written to {told['written']}"]) + "\n")
