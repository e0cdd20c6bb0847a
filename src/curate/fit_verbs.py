"""The verbs `curate fit METHOD`: each method brings its own; nothing heavy is imported before one runs.

A method registers as a verb does, by `add(name, function, text)`; a name of two words, such as `regmix design`, is a
verb below a method.
"""

import argparse
from collections.abc import Callable
from typing import Any

from curate.fit import ablation_verb, projektor_verb, regmix_verb, utility_verb, weights_verb

Add = Callable[[str, Callable[[argparse.Namespace], int | None], str], argparse.ArgumentParser]
Show = Callable[[dict[str, Any], argparse.Namespace, Callable[[dict[str, Any]], None]], None]

METHODS = (regmix_verb, utility_verb, ablation_verb, projektor_verb, weights_verb)
_TEXTS = {
    "regmix": "fit losses of small runs to the shares of their sources, and find the best shares",
    "ablation": "score mixtures from models of single partitions, by averages of their parameters",
}


def register(add: Add, show: Show) -> None:
    """Add the verb `fit` by `add(name, function, text)`, and all methods below it."""
    top = add("fit", _unnamed, "find the shares of sources from tables of small runs")
    below(top.add_subparsers(metavar="METHOD", required=True), show, tuple(method.register for method in METHODS))


def below(
    verbs: "argparse._SubParsersAction[Any]", show: Show, methods: tuple[Callable[[Add, Show], None], ...]
) -> None:
    """Register methods as verbs below `verbs`."""
    groups: dict[str, argparse._SubParsersAction[Any]] = {}

    def add(name: str, verb: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        group, _, last = name.rpartition(" ")
        if group and group not in groups:
            about = _TEXTS.get(group, group)
            made = verbs.add_parser(group, help=about, description=about[0].upper() + about[1:] + ".")
            groups[group] = made.add_subparsers(metavar="VERB", required=True)
        said = text[0].upper() + text[1:] + "."
        sub: argparse.ArgumentParser = (groups[group] if group else verbs).add_parser(last, help=text, description=said)
        # The parser above has its own --json, whose value a default here would take back.
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for machines")
        sub.set_defaults(verb=verb)
        return sub

    for method in methods:
        method(add, show)


def _unnamed(options: argparse.Namespace) -> int | None:
    raise AssertionError("argparse wants a method")
