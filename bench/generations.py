"""Are the checks of generated text right? Precision and recall of each on labelled outputs, and what they cost.

    python bench/generations.py

The labelled outputs are in tests/data: passages, prompts and most outputs were written for this purpose, the others
come from a small model (`made` says which); a reader gave each its label. Passages are halved by the hash of their
name: limits and phrases were settled on the half `choosing`, and `held out` was looked at for the report alone.
`unfaithful` (facts that the source does not have) is judged by `novel_share`, all other labels by `reason`. A
`comment` talks about the task or the text instead of doing it: no check looks for those that do not open or close an
output, so they are misses of all of them.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.arrow import utf8
from curate.assets import find
from curate.errors import AssetError
from curate.faithfulness import NOVEL, faithfulness
from curate.generations import REASONS, Rules, check
from curate.kernels.vocabulary import numbered

DATA = Path(__file__).parents[1] / "tests" / "data"
MODEL = "lid.176"
HALVES = ("choosing", "held out")
Row = dict[str, Any]


def load() -> tuple[list[Row], dict[str, str], dict[str, Row]]:
    """Labelled outputs, passages by name and styles by name."""
    rows = [json.loads(line) for line in (DATA / "generations.jsonl").read_text("utf-8").splitlines()]
    passages = [json.loads(line) for line in (DATA / "passages.jsonl").read_text("utf-8").splitlines()]
    return rows, {one["id"]: one["text"] for one in passages}, json.loads((DATA / "styles.json").read_text("utf-8"))


def tokens(texts: list[str]) -> pa.Array:
    """About what a tokenizer would say: four for three words."""
    first, _ = numbered(*utf8(pa.array(texts, pa.large_string())))
    return pa.array(np.rint(np.diff(first) * 4 / 3))


def judged(rows: list[Row], passages: dict[str, str], styles: dict[str, Row], model: str | None) -> list[Row]:
    """For each labelled output its row of `check`, with `novel_share`; one call per style and prompt."""
    made: list[Row] = [{} for _ in rows]
    keys = [(row["style"], row.get("prompt", styles[row["style"]]["prompt"])) for row in rows]
    for style, prompt in sorted(set(keys)):
        which = [place for place, key in enumerate(keys) if key == (style, prompt)]
        sources = [passages[rows[place]["passage"]] for place in which]
        outputs = [rows[place]["output"] for place in which]
        numbers = styles[style]
        table = check(
            pa.array(sources),
            pa.array(outputs),
            finish_reason=pa.array([rows[place]["finish_reason"] for place in which]),
            source_tokens=tokens(sources),
            output_tokens=tokens(outputs),
            rules=Rules(numbers["low"], numbers["high"], numbers["paraphrase"], prompt, model, pairs=style == "qa"),
        )
        facts = faithfulness(pa.array(sources), table["text"].combine_chunks())
        for place, one, two in zip(which, table.to_pylist(), facts.to_pylist(), strict=True):
            made[place] = {**one, **two}
    return made


def verdicts(rows: list[Row], made: list[Row]) -> list[str]:
    """What the checks say of each output: a reason, `unfaithful`, or `good`."""
    return [one["reason"] or ("unfaithful" if one["novel_share"] > NOVEL else "good") for one in made]


def table(rows: list[Row], said: list[str], half: str) -> list[tuple[str, int, int, int]]:
    """Per label: outputs that have it, outputs that were given it, and those of both."""
    pairs = [(row["label"], verdict) for row, verdict in zip(rows, said, strict=True) if row["half"] == half]
    return [
        (
            label,
            sum(one == label for one, _ in pairs),
            sum(two == label for _, two in pairs),
            sum(one == two == label for one, two in pairs),
        )
        for label in ("good", *REASONS, "unfaithful", "comment")
    ]


def show(rows: list[Row], said: list[str], made: list[Row]) -> None:
    for half in HALVES:
        print(f"\n{half}: {sum(row['half'] == half for row in rows)} outputs")
        print(f"{'':14}{'labelled':>9}{'said':>6}{'both':>6}{'precision':>11}{'recall':>8}")
        for label, labelled, given, both in table(rows, said, half):
            ratios = [f"{both / of:.2f}" if of else "-" for of in (given, labelled)]
            print(f"{label:14}{labelled:9}{given:6}{both:6}{ratios[0]:>11}{ratios[1]:>8}")
        surrounded = [(row, one) for row, one in zip(rows, made, strict=True) if row["half"] == half and "text" in row]
        clean = sum(row["text"] == one["text"] for row, one in surrounded)
        print(f"preambles, offers and fences cut exactly: {clean} of {len(surrounded)}")


def wrong(rows: list[Row], said: list[str], made: list[Row], half: str) -> None:
    """The outputs that were judged otherwise than labelled."""
    for row, verdict, one in zip(rows, said, made, strict=True):
        spoiled = verdict != row["label"] or row.get("text", one["text"]) != one["text"]
        if row["half"] == half and spoiled:
            numbers = {
                name: round(one[name], 2) for name in ("ratio", "copied", "overlap", "top_3_gram", "novel_share")
            }
            print(
                f"\n{row['passage']} {row['style']}: labelled {row['label']}, said {verdict} ({row['made']}) {numbers}"
            )
            print("   ", one["text"][:300].replace("\n", "\\n"), "...", one["text"][-120:].replace("\n", "\\n"))


def cost(rows: list[Row], passages: dict[str, str], model: str | None) -> None:
    """Time of a thousand outputs and more, once compiled."""
    sources = pa.array([passages[row["passage"]] for row in rows] * 10)
    outputs = pa.array([row["output"] for row in rows] * 10)
    count, rules = len(outputs), Rules(0.5, 2.0, True, "Rewrite this.", model)
    started = time.perf_counter()
    check(
        sources,
        outputs,
        finish_reason=pa.array(["stop"] * count),
        source_tokens=pa.array(np.full(count, 130)),
        output_tokens=pa.array(np.full(count, 100)),
        rules=rules,
    )
    middle = time.perf_counter()
    faithfulness(sources, outputs)
    ended = time.perf_counter()
    print(
        f"\ncheck: {count / (middle - started):,.0f} outputs/s, faithfulness: {count / (ended - middle):,.0f} outputs/s"
    )


def main() -> None:
    rows, passages, styles = load()
    model: str | None = MODEL
    try:
        find(MODEL)
    except AssetError:
        model = None
        print(f"{MODEL} is not here (`curate get-model {MODEL}`): languages are not asked")
    made = judged(rows, passages, styles, model)
    said = verdicts(rows, made)
    show(rows, said, made)
    for half in HALVES:
        if half in sys.argv[1:]:
            wrong(rows, said, made, half)
    cost(rows, passages, model)


if __name__ == "__main__":
    main()
