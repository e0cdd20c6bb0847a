"""A comparison of selections as tables on standard output."""

import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

Told = dict[str, Any]
_MOST = 12
"""Sources beyond so many, the smallest, are left to the JSON."""


def show(told: Told) -> None:
    """What `compare.compare_selection` tells."""
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140)
    unit = told["unit"]
    console.print(
        f"{told['documents']:,} documents of '{told['of']}' with {told['size']:,} {unit}, budget {told['budget']:,} "
        f"for each method; {told['held_out']['documents']:,} more are held out",
        soft_wrap=True,
    )
    for part in (_methods(told), _overlap(told), _sources(told)):
        console.print()
        console.print(part)
    console.print()
    for line in (*_remarks(told), *_examples(told)):
        console.print(line, soft_wrap=True)


def _methods(told: Told) -> Table:
    unit = told["unit"]
    clusters = any(one["clusters"] for one in told["methods"])
    near = any(one["near_duplicates"] for one in told["methods"])
    heads = ["method", "keeps", "documents", unit, "share", "mean"]
    heads += ["clusters", "effective", "largest"] if clusters else []
    heads += ["near dup."] if near else []
    table = _table(*heads, "bits/word", "+-", "bits/byte", "unseen")
    for one in told["methods"]:
        cells = [one["name"], f"{one['available']:,}{' short' if one['short'] else ''}", f"{one['documents']:,}"]
        cells += [f"{one['size']:,}", _percent(one["share"]), f"{one['mean_size']:,.0f}"]
        if clusters:
            has = one["clusters"]
            cells += [f"{has['covered']:,}/{has['all']:,}", f"{has['effective']:,.1f}", _percent(has["largest_share"])]
        if near:
            cells.append(_percent(one["near_duplicates"]["share"]))
        close = one["closeness"]
        deviation = close["bits_per_word"]["std"]
        cells += [f"{close['bits_per_word']['mean']:.3f}", "" if deviation is None else f"{deviation:.3f}"]
        table.add_row(*cells, f"{close['bits_per_byte']['mean']:.4f}", _percent(close["unseen_words"]["mean"]))
    return table


def _overlap(told: Told) -> Table:
    names = [one["name"] for one in told["methods"]]
    table = _table("documents in common of either", *names, "", f"its {told['unit']} in", *names)
    for name in names:
        jaccard, held = (told["overlap"][which][name] for which in ("jaccard", "contained"))
        row = [name, *(f"{jaccard[other]:.3f}" for other in names), "", name]
        table.add_row(*row, *(f"{held[other]:.3f}" for other in names))
    return table


def _sources(told: Told) -> Table:
    """Shares by source, and bits per word of its held-out text where there is some of several."""
    names = [one["name"] for one in told["methods"]]
    shares = {one["name"]: one["sources"] for one in told["methods"]}
    bits = {one["name"]: one["closeness"]["sources"] for one in told["methods"]}
    several = len(told["held_out"]["measured"]) > 1
    table = _table(
        f"{told['unit']} by {told['by']}", *names, *(["", "bits/word of held-out", *names] if several else [])
    )
    every = sorted(shares[names[-1]], key=lambda source: (-shares[names[-1]][source]["size"], source))
    for source in every[:_MOST]:
        row = [source, *(_percent(shares[name][source]["share"]) for name in names)]
        if several:
            told_of = [bits[name].get(source) for name in names]
            row += ["", source, *("" if of is None else f"{of['mean']:.3f}" for of in told_of)]
        table.add_row(*row)
    return table


def _remarks(told: Told) -> Iterator[str]:
    measure, held = told["measure"], told["held_out"]["measured"]
    words, unit = measure["words_per_model"], told["unit"]
    documents, held_words = (sum(one[what] for one in held.values()) for what in ("documents", "words"))
    yield f"{unit} are those of the column `{unit}`; overlaps, sources and clusters are those of the first seed"
    yield (
        f"{measure['model']}, D = {measure['discount']}, vocabulary {measure['vocabulary']:,}, made of "
        f"{words['least']:,} to {words['most']:,} words of a selection; held out {documents:,} documents, "
        f"{held_words:,} words, {_percent(measure['unknown_words'] / max(1, held_words))} unknown to all; "
        "unseen: words of it that a selection never has"
    )
    yield f"{measure['note']}; +- is the standard deviation over {told['seeds']} seeds, where draws have a part"
    short = [one["name"] for one in told["methods"] if one["short"]]
    if short:
        yield f"short of the budget: {', '.join(short)}; they are compared with what they have"
    if len(held) == 1 or len(told["methods"][0]["sources"]) > _MOST:
        yield "the JSON has figures of all sources"


def _examples(told: Told) -> Iterator[str]:
    for one in told["methods"][:-1]:
        for side, words in (("keeps_alone", "alone keeps"), ("drops_alone", "alone drops")):
            if one["examples"][side]:
                yield f"\n{one['name']} {words}"
            for example in one["examples"][side]:
                yield f"  {example['origin']}  {example['text']!r}"


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, head in enumerate(heads):
        words = place == 0 or head.startswith(("its ", "bits/word of"))
        table.add_column(head, justify="left" if words else "right")
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
