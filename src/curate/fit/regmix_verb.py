"""The verbs `fit regmix design` and `fit regmix fit`. Nothing heavy is imported before one runs."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from curate.errors import RecipeError

if TYPE_CHECKING:
    from curate.fit.designs import Space
    from curate.fit.runs import Runs

Add = Callable[[str, Callable[[argparse.Namespace], int | None], str], argparse.ArgumentParser]
Show = Callable[[dict[str, Any], argparse.Namespace, Callable[[dict[str, Any]], None]], None]


def register(add: Add, show: Show) -> None:
    """Add both verbs by `add(name, function, text)`; what they tell goes to `show(told, options, tables)`."""

    def designed(options: argparse.Namespace) -> int:
        from curate.fit import regmix_report

        show(_design(options), options, regmix_report.design)
        return 0

    def fitted(options: argparse.Namespace) -> int:
        from curate.fit import regmix_report

        told = _fit(options)
        show(told, options, regmix_report.fit)
        return 0 if told["report"]["signal"] else 1

    sub = add("regmix design", designed, "draw the mixtures that small runs are to be trained on")
    _held(sub, required=True)
    sub.add_argument("--runs", type=int, default=512, metavar="N", help="how many mixtures (default 512, the paper's)")
    sub.add_argument("--seed", type=int, default=42, metavar="N", help="which mixtures (default 42)")
    sub.add_argument("-o", "--out", required=True, metavar="CSV", help="the table: index, then a share for each source")
    sub.add_argument("--plans", metavar="FOLDER", help="write each mixture as the `mix` step of a recipe there")
    sub.add_argument("--tokens-per-run", metavar="N", help="tokens of each small run, for --plans (default --tokens)")

    sub = add("regmix fit", fitted, "fit small runs, and find the shares with the lowest predicted loss")
    sub.add_argument("--mixtures", required=True, metavar="CSV", help="index, then a share for each source")
    sub.add_argument("--losses", required=True, metavar="CSV", help="index, then losses of the same runs")
    sub.add_argument(
        "--target", required=True, metavar="NAMES", help="a loss (a part of its name will do), several as a,b, or mean"
    )
    _held(sub, required=False)
    sub.add_argument(
        "--cap", type=_cap, action="append", default=[], metavar="SOURCE=SHARE", help="a largest share; may be repeated"
    )
    sub.add_argument(
        "--model", default="auto", metavar="KIND", help="trees, ridge, or auto: what ranks unseen runs best"
    )
    sub.add_argument("--draws", type=int, default=100_000, metavar="N", help="mixtures tried (default 100000)")
    sub.add_argument("--top", type=int, default=128, metavar="N", help="the best so many are averaged (default 128)")
    sub.add_argument("--rounds", type=int, default=1, metavar="N", help="2: draw again around the first answer")
    sub.add_argument("--seed", type=int, default=42, metavar="N", help="folds and draws (default 42)")
    sub.add_argument("--predict", metavar="CSV", help="more mixtures, to predict losses for")
    sub.add_argument("--predictions", metavar="CSV", help="where predicted losses go")
    sub.add_argument("-o", "--out", required=True, metavar="JSON", help="the result, for `fit:` of a `mix` step")


def _held(sub: argparse.ArgumentParser, *, required: bool) -> None:
    held = sub.add_mutually_exclusive_group(required=required)
    held.add_argument("--available", metavar="JSON", help='tokens by source, such as {"web": 1000000}')
    held.add_argument("--run", metavar="RUN", help="a finished run with token counts")
    sub.add_argument("--tokens", metavar="T", help="tokens of the run that is planned, like 20B; sets largest shares")
    sub.add_argument(
        "--max-epochs", type=float, default=4.0, metavar="N", help="how often it may repeat a source (default 4)"
    )


def _space(options: argparse.Namespace, *, each: int | None = None) -> "Space | None":
    """Natural shares and bounds, where it is said what there is. `each`: tokens of a small run, bounded as well."""
    from curate.fit.designs import space
    from curate.stages.mix import token_count

    tokens = token_count(options.tokens)
    tokens = max(tokens or 0, each or 0) or None
    if options.available is None and options.run is None:
        if tokens is not None:
            raise RecipeError("--tokens sets largest shares by what there is: give --available or --run too")
        return None
    return space(_available(options), tokens=tokens, max_epochs=options.max_epochs)


def _available(options: argparse.Namespace) -> dict[str, int]:
    from curate.fit.runs import available, read_available

    return read_available(options.available) if options.available else available(options.run)


def _design(options: argparse.Namespace) -> dict[str, Any]:
    from curate import store
    from curate.fit.designs import design, fragment, most_epochs, table
    from curate.stages.mix import token_count

    each = token_count(options.tokens_per_run) or token_count(options.tokens)
    if options.plans and each is None:
        raise RecipeError("runs that are compared have equal tokens: --plans needs --tokens-per-run, or --tokens")
    where = _space(options, each=each)
    assert where is not None
    made = design(where, options.runs, seed=options.seed)
    store.put(options.out, table(made).encode())
    plans = None
    if options.plans:
        assert each is not None
        width, held, most = len(str(options.runs)), _available(options), 0.0
        for number, row in enumerate(made.mixtures, 1):
            weights = {name: round(share, 4) for name, share in zip(made.names, row.tolist(), strict=True) if share}
            epochs = most_epochs(weights, held, tokens=each)
            cap, most = options.max_epochs if epochs > 1 else None, max(most, epochs)
            text = fragment(weights, tokens=each, max_epochs=cap)
            store.put(store.join(options.plans, f"{number:0{width}}.yaml"), text.encode())
        plans = {"folder": options.plans, "tokens": each, "most_epochs": most, "max_epochs": options.max_epochs}
    sources = {
        name: {
            "natural": float(prior),
            "bound": float(bound),
            "mean": float(column.mean()),
            "most": float(column.max()),
        }
        for name, prior, bound, column in zip(where.names, where.prior, where.bounds, made.mixtures.T, strict=True)
    }
    return {"mixtures": options.out, "plans": plans, "sources": sources, "report": made.report}


def _fit(options: argparse.Namespace) -> dict[str, Any]:
    from curate import store
    from curate.fit import result
    from curate.fit.regmix import Asked, fit, predict
    from curate.fit.runs import read_mixtures, read_runs, table

    if (options.predict is None) != (options.predictions is None):
        raise RecipeError("--predict names the mixtures and --predictions where their losses go: give both")
    runs = read_runs(options.mixtures, options.losses)
    more = read_mixtures(options.predict) if options.predict else None
    given = ("target", "model", "draws", "top", "rounds", "seed")
    asked = Asked(**{name: getattr(options, name) for name in given})
    made = fit(runs, asked, where=_capped(_space(options), runs, options.cap))
    report = made.report
    if more is not None:
        report = report | {"warnings": [*report["warnings"], *more.warnings]}
        if report["signal"]:
            store.put(options.predictions, table(more.index, predict(runs, made, more)).encode())
    result.write(options.out, "regmix", made.weights, report)
    predictions = options.predictions if report["signal"] else None
    return {"result": options.out, "predictions": predictions, "weights": made.weights, "report": report}


def _capped(where: "Space | None", runs: "Runs", caps: list[tuple[str, float]]) -> "Space | None":
    """The space with largest shares that were given by hand."""
    from curate.fit.designs import capped
    from curate.fit.regmix import around

    return capped(where or around(runs.mixtures), dict(caps)) if caps else where


def _cap(text: str) -> tuple[str, float]:
    source, _, share = text.rpartition("=")
    try:
        most = float(share)
    except ValueError:
        most = -1.0
    if not source or not 0 < most <= 1:
        raise RecipeError(f"--cap SOURCE=SHARE is wanted, such as wiki=0.2, found {text!r}")
    return source, most
