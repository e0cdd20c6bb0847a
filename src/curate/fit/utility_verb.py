"""The verb `fit utility`: a table of small runs in, the worth of each bucket out, for `mix` to spend a budget by."""

import argparse
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from curate.laws import REPEATS

if TYPE_CHECKING:
    from curate.fit.utility import Fitted, Run

Add = Callable[[str, Callable[[argparse.Namespace], int | None], str], argparse.ArgumentParser]
Show = Callable[[dict[str, Any], argparse.Namespace, Callable[[dict[str, Any]], None]], None]
Told = dict[str, Any]


def register(add: Add, show: Show) -> None:
    """Add the verb by `add(name, function, text)`; what it tells goes to `show(told, options, tables)`."""

    def verb(options: argparse.Namespace) -> int:
        from curate.fit import result
        from curate.fit.utility import fit, read_runs
        from curate.stages.mix import token_count

        runs = read_runs(options.table, untrained=options.untrained)
        found = fit(runs, form=options.form)
        told = report(runs, found, budget=token_count(options.budget))
        lives = {name: one["half_life"] for name, one in told["pools"].items() if one["identified"]}
        result.write(options.out, "utility", found.worth, told, half_lives=lives)
        show({"kind": "utility", "weights": found.worth, "report": told, "written": options.out}, options, tables)
        return 0

    sub = add("utility", verb, "fit utility and half-life of buckets to small runs, for `mix: {utility: FILE}`")
    sub.add_argument("table", metavar="TABLE.csv", help="columns pool, unique, seen, and error, accuracy or loss")
    sub.add_argument("-o", "--out", required=True, metavar="FILE", help="where the result goes, as JSON")
    sub.add_argument(
        "--form",
        choices=("documented", "repository"),
        default="documented",
        help="where the floor stands: outside of the product (default), or inside as in the authors' code",
    )
    sub.add_argument("--untrained", type=float, metavar="LOSS", help="loss of an untrained model, if losses are given")
    sub.add_argument("--budget", metavar="N", help="also say which buckets are best for so many samples, such as 128M")


def report(runs: "list[Run]", found: "Fitted", *, budget: float | None = None) -> Told:
    """What was found, as JSON holds it; infinite half-lives are null. `choice`: the best buckets for `budget`.

    `identified` are half-lives that the runs show: those go into the result.
    """
    from curate.utility import best_prefix

    told: Told = {
        "form": found.curve.form,
        "scale": found.curve.scale,
        "floor": found.curve.floor,
        "pools": {
            name: {
                "utility": pool.utility,
                "half_life": pool.half_life if math.isfinite(pool.half_life) else None,
                "repeats": pool.half_life / math.log(2) if math.isfinite(pool.half_life) else None,
                "identified": math.isfinite(pool.half_life) and f"half-life of {name}" not in found.loose,
                "unique": pool.samples,
            }
            for name, pool in found.pools.items()
        },
        "deviation": found.error,
        "relative_deviations": found.deviations,
        "not_identified": list(found.loose),
        "runs": [
            {"pool": run.pool, "unique": run.unique, "seen": run.seen, "error": run.error, "residual": float(off)}
            for run, off in zip(runs, found.residuals, strict=True)
        ],
    }
    if budget is not None:
        choice, names = best_prefix(list(found.pools.values()), budget, found.curve), list(found.pools)
        told["choice"] = {
            "budget": budget,
            "chosen": [names[index] for index in choice.chosen],
            "epochs": choice.epochs,
            "half_lives": found.curve.half_lives,
            "errors": [each.error for each in choice.predicted],
            "outside": any(each.outside for each in choice.predicted),
        }
    return told


def tables(told: Told) -> None:
    """What the verb tells, as lines on standard output."""
    said, lines = told["report"], []
    count = len(said["runs"])
    lines.append(
        f"{count} runs, {len(said['pools'])} pools, form {said['form']}: scale {said['scale']:.4g}, floor "
        f"{said['floor']:.4f}; residuals deviate by {said['deviation']:.2g}"
    )
    width = max(len(name) for name in (*said["pools"], "pool"))
    lines.append(f"{'pool'.ljust(width)}  utility  half-life   worth")
    for name, pool in said["pools"].items():
        life = "   unknown" if pool["half_life"] is None else f"{pool['half_life']:10.2f}"
        worth = f"{told['weights'][name]:7.4f}" if name in told["weights"] else "      -"
        lines.append(f"{name.ljust(width)}  {pool['utility']:7.4f} {life} {worth}")
    far = max(said["runs"], key=lambda run: abs(run["residual"]))
    if abs(far["residual"]) > 5 * said["deviation"] and abs(far["residual"]) > 1e-6:
        lines.append(f"furthest off: {far['pool']} at {far['seen']:g} samples, by {far['residual']:+.3g}")
    if said["not_identified"]:
        lines.append(f"not identified by these runs: {', '.join(said['not_identified'])}")
    if told["weights"] and (open_ := [name for name, pool in said["pools"].items() if not pool["identified"]]):
        usual = f"the usual decay, to half in {REPEATS * math.log(2):.1f} epochs"
        lines.append(f"`mix` takes {usual}, for repeats of {', '.join(open_)}")
    if not told["weights"]:
        lines.append("no signal: errors do not differ beyond their scatter, so that there are no worths")
    if "choice" in said:
        best = said["choice"]
        lines.append(
            f"for {best['budget']:g} samples: {', '.join(best['chosen'])}, {best['epochs']:.2f} epochs each; predicted "
            f"errors of the best 1, 2, ... pools: {', '.join(f'{error:.4f}' for error in best['errors'])}"
            + (" (outside of the range where the law holds)" if best["outside"] else "")
        )
    sys.stdout.write("\n".join([*lines, f"written to {told['written']}"]) + "\n")
