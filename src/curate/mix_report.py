"""A mixture on standard output: what each phase draws from each source, or what differs between two plans."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

Told = dict[str, Any]


def plan(told: Told) -> None:
    """The plan as a table: phase, group, tokens, share, epochs, effective tokens; and what was drawn, if it was."""
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)
    table = _table("phase", "source", "tokens", "share", "epochs", "epochs from", "to", "effective")
    drawn = {phase["name"]: phase for phase in told.get("drawn", ())}
    for phase in told["phases"]:
        made = drawn.get(phase["name"], {})
        for group, tokens in phase["tokens_by_group"].items():
            if not tokens:
                continue
            worth = made.get("effective_by_group", {}).get(group)
            table.add_row(
                phase["name"],
                group,
                f"{tokens:,}",
                f"{phase['weights'][group]:.4f}",
                f"{phase['epochs_by_group'][group]:.3f}",
                *(f"{epoch:.3f}" for epoch in phase["cursor"][group]),
                "" if worth is None else f"{worth:,.0f}",
            )
        table.add_row(phase["name"], "all", f"{phase['tokens']:,}", f"{phase['share']:.4f} of all", "", "", "", "")
    drawn_from = {group: one for group, one in told["groups"].items() if one["tokens"]}
    for group, one in drawn_from.items():
        epochs = (f"{one['epochs']:.3f}", "0.000", f"{one['epochs']:.3f}")
        table.add_row("run", group, f"{one['tokens']:,}", f"{one['share']:.4f}", *epochs, f"{one['effective']:,.0f}")
    table.add_row("run", "all", f"{told['tokens']:,}", "", "", "", "", f"{told['effective']:,.0f}")
    console.print(table)
    if unused := [group for group in told["groups"] if group not in drawn_from]:
        console.print(f"nothing is drawn from {', '.join(unused)}", soft_wrap=True)
    for phase in told.get("drawn", ()):
        documents = sum(phase["documents_by_group"].values())
        console.print(f"drawn in {phase['name']}: {phase['tokens']:,} tokens, {documents:,} copies of documents")
    for warning in told["warnings"]:
        console.print(f"note: {warning}", soft_wrap=True)
    console.print(f"fingerprint {told['fingerprint']}", soft_wrap=True)


def changes(told: Told) -> None:
    """Every number that differs between two plans."""
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)
    if not told["changes"]:
        console.print(f"the same plan, {told['fingerprints'][0]}", soft_wrap=True)
        return
    table = _table("phase", "source", "what", "before", "after", "change")
    for one in told["changes"]:
        numbers = (f"{one['before']:,}", f"{one['after']:,}", f"{one['after'] - one['before']:+,}")
        table.add_row(one["phase"] or "run", one["group"] or "all", one["what"], *numbers)
    console.print(table)


def _table(*heads: str) -> Table:
    table = Table(*heads, box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    return table
