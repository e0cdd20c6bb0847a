"""The verb `compare-selection`: its options and what they become. Nothing heavy is imported before it runs."""

import argparse
from collections.abc import Callable
from typing import Any

from curate.errors import RecipeError

Add = Callable[[str, Callable[[argparse.Namespace], int | None], str], argparse.ArgumentParser]
Show = Callable[[dict[str, Any], argparse.Namespace, Callable[[dict[str, Any]], None]], None]


def register(add: Add, show: Show) -> None:
    """Add the verb by `add(name, function, text)`; what it tells goes to `show(told, options, tables)`."""

    def verb(options: argparse.Namespace) -> int:
        from curate import compare_report
        from curate.compare import Asked, compare_selection
        from curate.execute import pool

        given = ("tokens", "keep", "held_out", "among", "seeds", "by", "cluster", "embedding", "of", "measure_tokens")
        asked = Asked(tuple(options.method), **{name: getattr(options, name) for name in given})
        with pool(options.jobs) as workers:
            show(compare_selection(options.run, asked, map=workers, folder=options.out), options, compare_report.show)
        return 0

    text = "compare what several methods would select at one budget of tokens"
    sub = add("compare-selection", verb, text)
    sub.add_argument("run", metavar="RUN")
    sub.add_argument(
        "--method",
        type=_method,
        action="append",
        required=True,
        metavar="NAME=EXPR",
        help="keeps documents where EXPR holds, such as 'semantic=not semantic_duplicate'; may be given again",
    )
    sub.add_argument("--tokens", type=_whole, metavar="N", help="the budget (default what the smallest method keeps)")
    sub.add_argument("--keep", type=float, metavar="SHARE", help="the budget as a share of all")
    sub.add_argument("--held-out", metavar="EXPR", help="documents to measure by (default a keyed 1 in 50)")
    sub.add_argument("--among", metavar="EXPR", help="only documents for which this holds may be selected")
    sub.add_argument("--seeds", type=_whole, default=3, metavar="N", help="cuts by different draws (default 3)")
    sub.add_argument("--by", default="source", metavar="COLUMN", help="what shares are told by (default source)")
    sub.add_argument("--cluster", metavar="COLUMN", help="cluster numbers (default cluster, if there is one)")
    sub.add_argument("--embedding", metavar="COLUMN", help="vectors for the map (default embedding, if there is one)")
    sub.add_argument(
        "--of", metavar="NAME", help="the step whose documents are meant (default the first with all columns)"
    )
    sub.add_argument(
        "--measure-tokens",
        type=_whole,
        default=20_000_000,
        metavar="N",
        help="most tokens in a model (default 20 million)",
    )
    sub.add_argument("-o", "--out", metavar="FOLDER", help="write comparison.json and map.parquet there")
    sub.add_argument("-j", "--jobs", type=_whole, default=1, metavar="N", help="worker processes (default 1)")


def _method(text: str) -> tuple[str, str]:
    name, equals, expression = text.partition("=")
    if not (name.strip() and equals and expression.strip()):
        raise RecipeError(f"--method NAME=EXPR is wanted, such as semantic='not semantic_duplicate', found {text!r}")
    return name.strip(), expression.strip()


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is wanted, found {text!r}")
    return int(text)
