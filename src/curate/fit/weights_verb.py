"""The verbs `fit doremi` and `fit doge`. Nothing heavy is imported before one runs."""

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.fit.weights import Moved

Add = Callable[[str, Callable[[argparse.Namespace], int | None], str], argparse.ArgumentParser]
Show = Callable[[dict[str, Any], argparse.Namespace, Callable[[dict[str, Any]], None]], None]


def register(add: Add, show: Show) -> None:
    """Add both verbs by `add(name, function, text)`; what they tell goes to `show(told, options, tables)`."""

    def doremi(options: argparse.Namespace) -> int:
        from curate.fit import weights

        steps = weights.read_excess(options.table)
        made = weights.doremi(steps, start=_start(options), rate=options.rate, smoothing=options.smoothing)
        return _told("doremi", made, options, show)

    def doge(options: argparse.Namespace) -> int:
        from curate.fit import weights

        made = weights.doge(weights.read_alignment(options.table), rate=options.rate, start=_start(options))
        return _told("doge", made, options, show)

    sub = add("doremi", doremi, "weights from how much worse a proxy is than a reference, step by step")
    sub.add_argument("table", metavar="TABLE.csv", help="columns step, source, and excess or proxy_loss and ref_loss")
    sub.add_argument("--rate", type=float, default=1.0, metavar="X", help="step size (default 1, the repository's)")
    sub.add_argument(
        "--smoothing", type=float, default=1e-4, metavar="X", help="share of equal weights in each step (default 1e-4)"
    )
    _ends(sub)
    sub = add("doge", doge, "weights from how well gradients of sources agree, step by step")
    sub.add_argument("table", metavar="TABLE.csv", help="columns step, source, alignment")
    sub.add_argument("--rate", type=float, required=True, metavar="X", help="step size: learning rate over mu")
    _ends(sub)


def _ends(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--start", metavar="JSON", help="the result of a fit to start from (default equal weights)")
    sub.add_argument("-o", "--out", required=True, metavar="JSON", help="the result, for `fit:` of a `mix` step")


def _start(options: argparse.Namespace) -> dict[str, float] | None:
    from curate.fit import result

    return result.read(options.start) if options.start else None


def _told(kind: str, made: "Moved", options: argparse.Namespace, show: Show) -> int:
    from curate.fit import result

    result.write(options.out, kind, made.weights, made.report)
    show({"kind": kind, "weights": made.weights, "report": made.report, "written": options.out}, options, tables)
    return 0 if made.weights else 1


def tables(told: dict[str, Any]) -> None:
    """What a verb tells, as lines on standard output."""
    said = told["report"]
    width = max(len(name) for name in (*said["start"], "source"))
    lines = [f"{said['steps']:,} steps", f"{'source'.ljust(width)}   start  weight    last  mean value"]
    for name, start in said["start"].items():
        weight = f"{told['weights'][name]:.4f}" if name in told["weights"] else "     -"
        lines.append(
            f"{name.ljust(width)}  {start:.4f}  {weight}  {said['last'][name]:.4f}  {said['mean_value'][name]:10.4g}"
        )
    lines += [f"warning: {text}" for text in said["warnings"]]
    sys.stdout.write("\n".join([*lines, f"written to {told['written']}"]) + "\n")
