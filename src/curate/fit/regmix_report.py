"""A design of small runs and a fit of them, as tables on standard output."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

Told = dict[str, Any]


def design(told: Told) -> None:
    """What `fit regmix design` tells."""
    report, console = told["report"], _console()
    console.print(
        f"{report['runs']:,} mixtures in {told['mixtures']}: {report['drawn']:,} drawn, {report['accepted']:,} within "
        f"bounds, {report['distinct']:,} of them different; {report['sources_per_mixture']:.1f} sources in a mixture",
        soft_wrap=True,
    )
    table = _table("source", "natural", "largest", "mean", "most")
    for name, facts in told["sources"].items():
        table.add_row(name, *(_percent(facts[what]) for what in ("natural", "bound", "mean", "most")))
    console.print(table)
    if report["clipped"]:
        console.print(f"warning: the bounds are tight: {report['clipped']:,} mixtures are draws clipped to them")
    if report["never"]:
        console.print(f"warning: too small to appear in any mixture: {', '.join(report['never'])}", soft_wrap=True)
    if plans := told["plans"]:
        console.print(
            f"each as the `mix` step of a recipe in {plans['folder']}: {plans['tokens']:,} tokens, with up to "
            f"{plans['most_epochs']:.2f} epochs of a source"
            + (f" (`max_epochs: {plans['max_epochs']:g}` where it is more than 1)" if plans["most_epochs"] > 1 else ""),
            soft_wrap=True,
        )


def fit(told: Told) -> None:
    """What `fit regmix fit` tells."""
    report, console = told["report"], _console()
    measured = report["out_of_sample"]
    named = report["target"][0] if len(report["target"]) == 1 else f"mean z-score of {len(report['target'])} losses"
    console.print(f"{report['runs']:,} runs of {len(report['sources'])} sources; target: {named}", soft_wrap=True)
    table = _table("model", "rank correlation", "mean squared error")
    for kind, value in measured["spearman"].items():
        error = measured["mean_squared_error"][kind]
        table.add_row(kind, *("constant" if one is None else f"{one:.4f}" for one in (value, error)))
    console.print(table)
    console.print(
        f"on runs not seen ({measured['folds']} folds); shuffled losses reach {measured['by_chance']:.4f} in 1 of 100"
    )
    for warning in report["warnings"]:
        console.print(f"warning: {warning}", soft_wrap=True)
    if not report["signal"]:
        console.print(f"{measured['reason']}; {told['result']} has no weights", soft_wrap=True)
        return
    _answer(told, console)


def _answer(told: Told, console: Console) -> None:
    report = told["report"]
    table = _table("source", "natural", "weight", "+-", "largest")
    for name, share in sorted(told["weights"].items(), key=lambda item: (-item[1], item[0])):
        bound = report["bounds"].get(name)
        cells = (report["prior"][name], share, report["spread"][name])
        table.add_row(name, *map(_percent, cells), "" if bound is None else _percent(bound))
    console.print(table)
    found = report["predicted"]
    console.print(
        f"predicted by {report['model']}, {report['unit']}: {found['weights']:.5f} with these weights, "
        f"{found['natural']:.5f} with natural shares, {found['best_run']:.5f} for the best run; +- is the spread over "
        f"the best {report['search']['top']} of {report['search']['draws']:,} draws",
        soft_wrap=True,
    )
    if report["binding"]:
        console.print(f"at the bound: {', '.join(report['binding'])}", soft_wrap=True)
    console.print(f"result in {told['result']}", soft_wrap=True)


def _console() -> Console:
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140)


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left")
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
