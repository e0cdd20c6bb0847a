"""The verb `plan-tokens`: how many tokens a model wants, and what the text that there is will do for it.

Arithmetic on published laws (`laws`): nothing is trained, and of a run only its count of tokens is read.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from curate import laws
from curate.errors import RecipeError

Add = Callable[[str, Callable[[argparse.Namespace], int | None], str], argparse.ArgumentParser]
Show = Callable[[dict[str, Any], argparse.Namespace, Callable[[dict[str, Any]], None]], None]
Told = dict[str, Any]
_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def register(add: Add, show: Show) -> None:
    """Add the verb by `add(name, function, text)`; what it tells goes to `show(told, options, tables)`."""

    def verb(options: argparse.Namespace) -> int:
        if options.unique is not None and options.run is not None:
            raise RecipeError("give --unique or --run, not both: a run says how much text there is")
        if options.tokens is not None and options.ratio is not None:
            raise RecipeError("give --tokens or --ratio, not both: a ratio sets the tokens")
        unique = tokens_of(options.run) if options.run is not None else _number("unique", options.unique)
        size = _number("parameters", options.parameters)
        tokens = _number("tokens", options.tokens)
        assert size is not None
        ratio = laws.RATIO if options.ratio is None else options.ratio
        wanted = laws.tokens_for(size, ratio) if tokens is None else tokens
        show(plan(size, wanted, unique=unique, vocabulary=options.vocabulary), options, tables)
        return 0

    sub = add("plan-tokens", verb, "say how many tokens a model wants, and what the text at hand is worth to it")
    sub.add_argument("--parameters", required=True, metavar="N", help="size without the vocabulary, such as 350M or 7B")
    sub.add_argument("--tokens", metavar="T", help="tokens to train on, such as 100B")
    sub.add_argument("--ratio", type=float, metavar="R", help="tokens to a parameter in place of --tokens (default 20)")
    sub.add_argument("--unique", metavar="U", help="different tokens that there are; more are repeats")
    sub.add_argument("--run", metavar="RUN", help="take the different tokens from what a run has tokenized")
    sub.add_argument("--vocabulary", action="store_true", help="also say how large a vocabulary should be")


def plan(parameters: float, tokens: float, *, unique: float | None = None, vocabulary: bool = False) -> Told:
    """What the laws say of `parameters` trained on `tokens`, `unique` of them different; ready for JSON.

    `laws` has for each law its optimum for the size (`optimal_tokens`) and for the compute (`best_parameters`,
    `best_tokens`), `excess_compute`, `loss`, and with `unique` `loss_repeated`, its repeats discounted.
    """
    compute = 6 * parameters * tokens
    told: Told = {
        "parameters": parameters,
        "tokens": tokens,
        "compute": compute,
        "ratio": tokens / parameters,
        "rule_of_thumb": laws.tokens_for(parameters),
        "over_training": tokens / laws.tokens_for(parameters),
        "laws": {name: _by_law(law, parameters, tokens, unique) for name, law in laws.LAWS.items()},
        "warnings": [],
    }
    if unique is not None:
        epochs = tokens / unique
        worth = laws.effective(unique, tokens)
        told["unique"] = {"tokens": unique, "epochs": epochs, "effective": worth, "of_fresh": worth / tokens}
        told["epochs"] = laws.epochs_table(unique)
        said = laws.warning(epochs)
        told["warnings"] = [said] if said else []
    if vocabulary:
        best = laws.vocabulary(parameters, compute=compute)
        told["vocabulary"] = {
            "width": best.width,
            "by_compute": best.by_compute,
            "by_derivative": best.by_derivative,
            "by_loss": best.by_loss,
            "rounded": best.rounded,
            "dtype": "uint16" if best.rounded <= 2**16 else "uint32",
            "tokens_per_character": laws.tokens_per_character(best.rounded),
        }
    return told


def tokens_of(run: str) -> int:
    """Tokens that the last `tokenize` step of a finished run has counted."""
    from curate.outputs import outputs

    counted = [stage for stage in outputs(run)["stages"] if stage["kind"] == "tokenize" and stage["state"] == "done"]
    total = sum(counted[-1].get("tokens", {}).values()) if counted else 0
    if not total:
        raise RecipeError(
            f"{run} has counted no tokens: it has no finished `tokenize` step; give --unique in its place"
        )
    return int(total)


def tables(told: Told) -> None:
    """What `plan` tells, as lines on standard output."""
    lines = [
        f"{_short(told['parameters'])} parameters on {_short(told['tokens'])} tokens: {told['ratio']:.1f} to a "
        f"parameter, {told['over_training']:.2f} x the rule of thumb ({_short(told['rule_of_thumb'])}), "
        f"{told['compute']:.3g} FLOPs"
    ]
    if "unique" in told:
        one = told["unique"]
        lines.append(
            f"{_short(one['tokens'])} different tokens: {one['epochs']:.2f} epochs, worth {_short(one['effective'])} "
            f"tokens of new text ({one['of_fresh']:.1%})"
        )
    lines += [f"warning: {said}" for said in told["warnings"]]
    lines += ["", *_columns(_of_laws(told)), *(f"{name}: {law['caveat']}" for name, law in told["laws"].items())]
    if "epochs" in told:
        rows = [["epochs", "tokens seen", "effective", "of fresh", "next token"]]
        for row in told["epochs"]:
            cells = [_short(row["seen"]), _short(row["effective"]), f"{row['of_fresh']:.1%}", f"{row['of_next']:.1%}"]
            rows.append([f"{row['epochs']:g}", *cells])
        lines += ["", *_columns(rows)]
    if "vocabulary" in told:
        best = told["vocabulary"]
        lines += [
            "",
            f"vocabulary for a width of {best['width']:,}: {best['by_compute']:,} by equal compute, "
            f"{best['by_derivative']:,} by the derivative, {best['by_loss']:,} by loss at these tokens; "
            f"take {best['rounded']:,} ({best['dtype']}, {best['tokens_per_character']:.3f} tokens to a character)",
        ]
    sys.stdout.write("\n".join(lines) + "\n")


def _by_law(law: laws.Law, parameters: float, tokens: float, unique: float | None) -> Told:
    best = laws.optimum(6 * parameters * tokens, law=law)
    found: Told = {
        "optimal_tokens": laws.optimal_tokens(parameters, law=law),
        "best_parameters": best[0],
        "best_tokens": best[1],
        "excess_compute": laws.excess_compute(parameters, tokens, law=law),
        "loss": laws.loss(parameters, tokens, law=law),
        "source": law.source,
        "caveat": law.caveat,
    }
    if unique is not None:
        found["loss_repeated"] = laws.loss(parameters, tokens, unique=unique, law=law)
    return found


def _of_laws(told: Told) -> list[list[str]]:
    repeated = "unique" in told
    heads = ["law", "optimal tokens", "same compute, best size", "and tokens", "excess compute", "loss"]
    rows = [heads + (["with repeats"] if repeated else [])]
    for name, law in told["laws"].items():
        row = [name, *(_short(law[key]) for key in ("optimal_tokens", "best_parameters", "best_tokens"))]
        row += [f"{law['excess_compute']:.2f} x", f"{law['loss']:.4f}"]
        rows.append(row + ([f"{law['loss_repeated']:.4f}"] if repeated else []))
    return rows


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _number(name: str, given: str | None) -> int | None:
    """`1.5B` and the like."""
    from curate.stages.mix import token_count

    try:
        return token_count(given)
    except RecipeError:
        raise RecipeError(f"--{name} is {given!r}; a number such as 500000, 350M or 20B is wanted") from None


def _short(value: float) -> str:
    for unit, factor in reversed(_UNITS.items()):
        if value >= factor:
            return f"{value / factor:.3g}{unit}" if value < 1000 * factor else f"{value / factor:,.0f}{unit}"
    return f"{value:.0f}"
