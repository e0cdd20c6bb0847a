"""What the documents make of a plan: they are drawn whole, so each group gets up to one document more than its quota.

The rows are those that `mix` keeps for each group and phase, all counted from the first phase on.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from curate.laws import effective
from curate.mixture_plan import Plan

_OVERSHOT = 0.01  # of the budget; what is promised is one document for each group and phase, however small its quota
_SHOWN, _LONGEST = 5, 60  # groups, and characters of their names


def overshot(plan: Plan, whole: pa.Table) -> Iterator[str]:
    """What to say where whole documents come to clearly more tokens than the budget, and which groups they are of."""
    last = whole.filter(pa.array(whole["phase"].to_numpy() == len(plan.phases) - 1)).to_pylist()
    tokens = sum(row["drawn_tokens"] for row in last)
    if tokens <= plan.tokens * (1 + _OVERSHOT):
        return
    last.sort(key=lambda row: (row["quota"] - row["drawn_tokens"], row["group"]))
    most = [row for row in last if row["drawn_tokens"] > row["quota"]]
    shown = []
    for row in most[:_SHOWN]:
        name = row["group"] if len(row["group"]) <= _LONGEST else row["group"][:_LONGEST] + "..."
        shown.append(f"'{name}' has {row['tokens'] / row['documents']:,.0f} for a quota of {row['quota']:,}")
    more = f", and {len(most) - _SHOWN:,} more groups are above theirs" if len(most) > _SHOWN else ""
    yield (
        f"{tokens:,} tokens are drawn for a budget of {plan.tokens:,}, as documents are drawn whole; tokens of a "
        f"document on average: {', '.join(shown)}{more}. A larger budget or fewer groups come closer"
    )


def drawn(whole: pa.Table, plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What the documents make of the plan, phase by phase: tokens, copies of documents, epochs and effective tokens (of
    new text that they are worth: arXiv 2305.16264) by group."""
    before: dict[str, tuple[int, int]] = {}
    decay = Plan.read(plan).repeats
    rows = whole.select(["group", "phase", "tokens", "drawn_tokens", "drawn_documents"]).to_pylist()
    for number, phase in enumerate(plan["phases"]):
        tokens, documents, epochs, worth = {}, {}, {}, {}
        for row in (row for row in rows if row["phase"] == number):
            group, now = row["group"], (row["drawn_tokens"], row["drawn_documents"])
            then = before.get(group, (0, 0))
            before[group] = now
            tokens[group], documents[group] = now[0] - then[0], now[1] - then[1]
            epochs[group] = round(tokens[group] / row["tokens"], 6)
            of_all, of_before = (effective(row["tokens"], n, repeats=decay[group]) for n in (now[0], then[0]))
            worth[group] = round(of_all - of_before, 1)
        yield {
            "name": phase["name"],
            "tokens": sum(tokens.values()),
            "tokens_by_group": tokens,
            "documents_by_group": documents,
            "epochs_by_group": epochs,
            "effective_by_group": worth,
        }
