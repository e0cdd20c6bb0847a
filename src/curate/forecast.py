"""What `rephrase` will ask for, before it does: passages, tokens, money and hours, from a sample of its documents.

Where the documents that the step will see are not there yet, those that they are chosen from stand for them, and the
forecast says `at most`. A few hundred are drawn and cut into passages; the others are taken to be like them, byte for
byte. How long answers are is known once there are some, and is guessed from the style's bounds before.

The catch: hours are those of a server that keeps its pace. Nobody here knows it before it answered.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate import raw, store
from curate.draw import draws
from curate.manifest import Manifest
from curate.plan import Source, Step
from curate.stages.rephrase import ANSWERS, Rephrase
from curate.styles import Style
from curate.view import Dataset, View, read

_DOCUMENTS, _SHARDS = 300, 4
_SECONDS = 3600


class Sample(NamedTuple):
    """Some documents, for how many each stands, how many there are (None before they are read), and whether they are
    more than the step will see."""

    table: pa.Table
    scale: float
    documents: int | None
    most: bool


def forecast(
    step: Step, steps: tuple[Step, ...], source: Source, out: str, *, text: int, speed: float | None = None
) -> dict[str, Any] | None:
    """What a `rephrase` step will ask for; `text` is about how many bytes the raw documents have, `speed` tokens of
    answers a second. None where it cannot be known yet: its documents are made of answers, or of several branches.

    `requests` are all, about `answered` of them have an answer; tokens, `money` (None without prices) and `hours`
    (None without a speed) are of the others. `output_tokens_most` is what their limits allow.
    """
    stage = step.node.stage
    assert isinstance(stage, Rephrase)
    sample = _sample(step, steps, source, text)
    if sample is None:
        return None
    held = _asked(stage, sample.table, stage.answers or store.join(out, ANSWERS))
    scale, pace = sample.scale, speed or held.pace

    def scaled(value: float) -> int:
        return round(value * scale)

    limits = stage.limits
    input_tokens, output_tokens = scaled(held.input_tokens), scaled(held.output_tokens)
    priced = limits.input_price or limits.output_price
    money = (input_tokens * limits.input_price + output_tokens * limits.output_price) / 1e6 if priced else None
    return {
        "sampled": sample.table.num_rows,
        "documents": sample.documents,
        "at_most": sample.most,
        "passages": scaled(held.passages),
        "requests": scaled(held.passages * stage.candidates),
        "answered": scaled(held.answered),
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "output_tokens_most": scaled(held.most),
        "money": money,
        "tokens_per_second": pace,
        "speed_from": "given" if speed else "answers" if pace else None,
        "hours": output_tokens / pace / _SECONDS if pace else None,
    }


def said(told: dict[str, Any] | None) -> str:
    """The forecast in a line."""
    if told is None:
        return "what it will ask for is known when the documents that it reads are there"
    known = f"; {told['answered']:,} of them have an answer, the others take" if told["answered"] else ":"
    words = [
        f"{'at most' if told['at_most'] else 'about'} {told['requests']:,} requests for {told['passages']:,} passages"
        f"{known} {told['input_tokens']:,} tokens in, {told['output_tokens']:,} out "
        f"(their limits allow {told['output_tokens_most']:,})"
    ]
    if told["money"] is not None:
        words.append(f"money {told['money']:,.2f}")
    if told["hours"] is not None:
        whose = "" if told["speed_from"] == "given" else ", the pace of the answers that are there"
        words.append(f"{told['hours']:,.1f} hours at {told['tokens_per_second']:,.0f} tokens/s{whose}")
    return ", ".join(words) + f"; from {told['sampled']:,} documents"


def _sample(step: Step, steps: tuple[Step, ...], source: Source, text: int) -> Sample | None:
    """Documents of the step, or of the nearest step before it that is made, or the first raw ones."""
    at, whole = step.documents, True
    while at >= 0 and Manifest.load(steps[at].folder) is None:
        if steps[at].node.stage.gathers != "neighbours":
            return None  # new documents: nobody knows how many
        at, whole = steps[at].documents, False
    wanted = step.node.stage.reads
    base = Manifest.load(source.folder if at < 0 else steps[at].folder)
    if base is None:
        return _first(source, wanted, text)
    columns = []
    for index in step.columns if whole else ():
        manifest = Manifest.load(steps[index].folder)
        if manifest is not None:
            columns.append(Dataset(steps[index].folder, manifest))
        elif set(steps[index].gives) & set(wanted):
            whole = False
    view = View(Dataset(source.folder if at < 0 else steps[at].folder, base), tuple(columns))
    drawn = list(_drawn(view, [name for name in wanted if view.has((name,))]))
    if not drawn:
        return None
    table = pa.concat_tables([table for table, _ in drawn]).unify_dictionaries().combine_chunks()
    scale = sum(base.total("bytes").values()) / max(1, sum(size for _, size in drawn))
    return Sample(table, scale, base.rows, not whole)


def _drawn(view: View, names: list[str]) -> Iterator[tuple[pa.Table, int]]:
    """Drawn documents of a few shards, and the bytes that they have among all."""
    base = view.documents
    full = [index for index, shard in enumerate(base.manifest.shards) if shard.rows]
    picked = sorted({full[len(full) * part // _SHARDS] for part in range(_SHARDS)}) if full else []
    for shard in picked:
        one = base.manifest.shards[shard]
        table = read(view.files(shard, names), one.rows)
        sizes = read(((store.join(base.folder, one.name), ("bytes",)),), one.rows)["bytes"].to_numpy()
        rows = np.sort(np.argsort(draws(table, 0), kind="stable")[: -(-_DOCUMENTS // len(picked))])
        yield table.take(pa.array(rows)), int(sizes[rows].sum())


def _first(source: Source, wanted: tuple[str, ...], text: int) -> Sample | None:
    """Documents of the first raw unit."""
    for unit in source.units[:1]:
        for batch in raw.read(unit, source.ingest, source.schema, source.threshold):
            table = batch.documents
            if not table.num_rows:
                return None
            rows = np.sort(np.argsort(draws(table, 0), kind="stable")[:_DOCUMENTS])
            picked = table.take(pa.array(rows))
            size = max(1, int(picked["bytes"].to_numpy().sum()))
            names = [name for name in wanted if name in picked.column_names]
            # What a unit has is read: less of it than was guessed from its size would be too few.
            return Sample(picked.select(names), max(1.0, text / size), None, True)
    return None


class _Asked(NamedTuple):
    """What a sample asks for: `answered` requests, and tokens of the others; `pace` is tokens a second of answers that
    are there, with as many at once as the step asks."""

    passages: int
    answered: int
    input_tokens: float
    output_tokens: float
    most: float
    pace: float | None


def _asked(stage: Rephrase, table: pa.Table, place: str) -> _Asked:
    if set(stage.reads) <= set(table.column_names):
        return _counted(stage, table, place)
    # Columns that routes ask for are not there yet: then all go the way that takes most.
    ways = [_counted(replace(stage, styles=names), table, place) for names in stage.routes.values()]
    return max(ways, key=lambda one: one.input_tokens + one.output_tokens)


def _counted(stage: Rephrase, table: pa.Table, place: str) -> _Asked:
    sent = stage.scan(table)
    requests = list(stage.requests_of(sent))
    told = _held(place, [one.key for one in requests])
    made = told["completion_tokens"].to_numpy() if told is not None else np.full(len(requests), np.nan)
    seconds = told["seconds"].to_numpy() if told is not None else made
    open_ = np.isnan(made)
    style = np.repeat(sent["style"].to_numpy(), stage.candidates)
    size = np.repeat(sent["tokens"].to_numpy(), stage.candidates)
    limit = np.array([one.max_tokens for one in requests], np.float64)
    guess = np.zeros(len(requests))
    for number, asked in enumerate(stage.asked):
        mine, known = style == number, (style == number) & ~open_
        guess[mine] = made[known].mean() if known.any() else np.minimum(size[mine] * _ratio(asked), limit[mine])
    timed = ~open_ & (np.nan_to_num(seconds) > 0)
    pace = stage.limits.concurrency * made[timed].sum() / seconds[timed].sum() if timed.any() else None
    prompts = np.array([one.prompt_tokens for one in requests], np.float64)
    return _Asked(
        sent.num_rows,
        int((~open_).sum()),
        float(prompts[open_].sum()),
        float(guess[open_].sum()),
        float(limit[open_].sum()),
        float(pace) if pace else None,
    )


def _held(place: str, keys: list[str]) -> pa.Table | None:
    """What the store has for these keys; None where there is no store."""
    from curate.generate.answers import Answers

    if not store.exists(place):
        return None
    with Answers.open(place) as answers:
        told = answers.read(keys)
    return pa.table({name: told[name].cast(pa.float64()) for name in ("completion_tokens", "seconds")})


def _ratio(style: Style) -> float:
    """Tokens of an answer for each of its passage: the middle of the bounds, as of ratios; 1 without them."""
    low, high = style.output.ratio or (1.0, 1.0)
    return float(np.sqrt(low * high)) if low else high / 2
