"""A verb of the command line, parsed and run without the rest of the program."""

import argparse
from collections.abc import Callable

from curate import fit_verbs


def called(register: Callable[..., None], *arguments: str) -> tuple[int, dict]:
    """The exit code of what `register` adds, and what it told; its tables are printed."""
    told: list[dict] = []

    def show(made, options, tables):
        tables(made)
        told.append(made)

    top = argparse.ArgumentParser()
    fit_verbs.below(top.add_subparsers(required=True), show, (register,))
    options = top.parse_args(arguments)
    return options.verb(options), told[0]
