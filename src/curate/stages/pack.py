"""Shuffle the drawn copies and cut them into windows: the token shards that trainers read.

Copies of a source are ordered by (epoch, keyed draw) into one stream of tokens; every copy's place in it is known
before a token moves. The stream is cut into shards at whole windows, and each shard is gathered from all documents at
once: two exchanges, no random access. `concatenate` cuts windows from the stream as it is; `best_fit` packs the whole
documents that begin in a shard into windows, longest first, so that only documents longer than a window are split
(best-fit packing, Ding et al. 2024, arXiv 2404.10830), and pads. Each source is a prefix of its own, so that a
trainer can blend; training and validation are apart, and so is each phase of a mixture that has some: epochs are
counted on from phase to phase, so a source's streams laid end to end go through it epoch by epoch.
"""

import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
import pyarrow as pa

from curate import windows
from curate.arrow import large_lists, lists, one
from curate.draw import READS, again, draws
from curate.errors import DataError, RecipeError
from curate.kernels.pack import copy_ranges
from curate.stage import Evidence, Gathered, Gathers, Map, Stage, Verdict


@dataclass(frozen=True)
class Pack(Stage):
    """Windows of `window` ids in shards, with a `tokens.json` that tells what they are.

    `shard_tokens`: ids per shard, about, in whole windows. `formats`: what each shard is written as, Megatron's pairs
    of .bin and .idx and parquet; both by default. `tail`: what remains of a stream after its last full window is left
    out and counted (`drop`) or padded (`pad`). `seed`: another order of documents. No parameters, but filled in when
    the run is planned: `facts`, what `tokenize` said of its tokenizer, and `phases`, the names of those of `mix`.
    """

    kind: ClassVar[str] = "pack"
    gathers: ClassVar[Gathers] = "parts"
    window: int
    packing: Literal["concatenate", "best_fit"] = "concatenate"
    formats: tuple[Literal["megatron", "parquet"], ...] = ("megatron", "parquet")
    shard_tokens: int = 1 << 26
    tail: Literal["drop", "pad"] = "drop"
    seed: int = 0
    facts: dict[str, Any] | None = field(default=None, init=False)
    phases: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        if self.window < 2:
            raise RecipeError(f"`window` is {self.window}; it is at least 2 ids")
        if self.shard_tokens < self.window:
            raise RecipeError(
                f"`shard_tokens` is {self.shard_tokens}; a shard holds at least one window of {self.window}"
            )
        if not self.formats:
            raise RecipeError("`formats` is empty; there are megatron and parquet")
        if not 0 <= self.seed < 2**63:
            raise RecipeError(f"`seed` is {self.seed}; it is 0 or more and below 2^63")

    def bind(self, lineage: dict[str, dict[str, Any]]) -> "Pack":
        """The stage with the facts of the tokenizer whose ids it packs."""
        made_by = lineage["ids"]
        if "tokens" not in made_by["stage"]:
            raise RecipeError("pack: `ids` come from the raw files; it packs what `tokenize` made")
        facts = dict(made_by["stage"]["tokens"], sha256=made_by["assets"]["tokenizer"])
        if facts["pad_id"] is None and (self.packing == "best_fit" or self.tail == "pad"):
            raise RecipeError("pack: windows are to be padded, but the tokenizer has no pad token among its specials")
        bound = copy.copy(self)
        object.__setattr__(bound, "facts", facts)
        object.__setattr__(bound, "phases", _phases(lineage))
        return bound

    @property
    def reads(self) -> tuple[str, ...]:
        return (*READS, "source", "tokens", "copies", "validation", *(("phase_copies",) if self.phases else ()))

    @property
    def adds(self) -> tuple[str, ...]:
        return ()

    @property
    def applies_to(self) -> tuple[str, ...]:
        return (*READS, "ids")

    @property
    def shard(self) -> int:
        """Tokens of a full shard: whole windows."""
        return self.shard_tokens // self.window * self.window

    def scan(self, shard: pa.Table) -> pa.Table:
        """One record for every copy, and one of epoch -1 for a document that is not drawn (it is available)."""
        copies = shard["copies"].to_numpy().astype(np.int64)
        held = shard["validation"].to_numpy(zero_copy_only=False)
        # Copies of a row phase by phase, and behind them those of no phase: all where there are none, what is held
        # out, and the one record of what is not drawn.
        times = np.zeros((shard.num_rows, len(self.phases) + 1), np.int64)
        if self.phases:
            times[:, :-1] = _by_phase(shard["phase_copies"], len(self.phases))
            times[:, -1] = np.where(held, copies, 0)
            _check(times, copies)
        else:
            times[:, -1] = copies
        times[copies == 0, -1] = 1
        all_times = times.sum(axis=1)
        row = np.repeat(np.arange(shard.num_rows, dtype=np.uint32), all_times)
        epoch = (np.arange(len(row)) - np.repeat(np.cumsum(all_times) - all_times, all_times)).astype(np.int32)
        epoch[copies[row] == 0] = -1
        phase = np.repeat(np.tile(np.arange(times.shape[1]), shard.num_rows), times.reshape(-1))
        names, first = self._streams(shard["source"], held)
        return pa.table(
            {
                "key": again(draws(shard, self.seed)[row] ^ epoch.astype(np.uint64), self.seed),
                "stream": names.take(pa.array(first[row] + phase)),
                "epoch": epoch,
                "tokens": shard["tokens"].to_numpy()[row],
                "row": row,
            }
        )

    def _streams(self, source: pa.ChunkedArray, held: np.ndarray) -> tuple[pa.Array, np.ndarray]:
        """Names of all streams, and for each row the first of its own: of the first phase, with those of the others
        and that of no phase behind it."""
        coded = one(source.cast(pa.string())).dictionary_encode()
        last = "train//" if self.phases else "train/"
        heads = [f"train/{phase}/" for phase in self.phases] + [last]
        names = []
        for name in coded.dictionary.to_pylist():
            names += [head + name for head in heads] + [f"validation/{name}"] * len(heads)
        first = (2 * coded.indices.to_numpy().astype(np.int64) + held) * len(heads)
        return pa.array(names, pa.string()), first

    def judge(self, evidence: Evidence, map: Map) -> pa.Table:
        sums = pl.concat(list(map(partial(_sums, evidence=evidence), range(evidence.parts))))
        drawn = sums.filter(pl.col("epoch") >= 0).sort("stream", "epoch", "part")
        starts = drawn.with_columns(start=pl.col("tokens").cum_sum().over("stream") - pl.col("tokens"))
        # A document is available to all phases of its source, whichever of them drew it first.
        apart = {stream: _apart(stream, self.phases) for stream in sums["stream"].unique().to_list()}
        named = sums.with_columns(
            phase=pl.col("stream").replace_strict(
                {s: phase for s, (phase, _) in apart.items()}, return_dtype=pl.String
            ),
            whole=pl.col("stream").replace_strict(
                {s: whole for s, (_, whole) in apart.items()}, return_dtype=pl.String
            ),
        )
        available = named.group_by("whole").agg(
            available_tokens=pl.col("tokens").filter(pl.col("epoch") <= 0).sum(),
            available_documents=pl.col("documents").filter(pl.col("epoch") <= 0).sum(),
        )
        streams = (
            named.filter(pl.col("epoch") >= 0)
            .group_by("stream", "phase", "whole")
            .agg(tokens=pl.col("tokens").sum(), documents=pl.col("documents").sum())
            .filter(pl.col("tokens") > 0)
            .join(available, on="whole")
            .drop("whole")
            .sort("stream")
            .with_columns(shards=(pl.col("tokens") + self.shard - 1) // self.shard)
            .with_columns(first=pl.col("shards").cum_sum() - pl.col("shards"))
        )
        first = dict(streams.select("stream", "first").iter_rows())
        bases = {(s, e, p): start for s, e, p, start in starts.select("stream", "epoch", "part", "start").iter_rows()}
        evidence.decide(partial(_places, stage=self, bases=bases, first=first), map)
        parts = streams.with_columns(number=pl.int_ranges(0, pl.col("shards"))).explode("number", empty_as_null=False)
        return parts.select(windows.PLAN.names).to_arrow().cast(windows.PLAN)

    def parts(self, verdict: Verdict) -> int:
        """Shards to gather."""
        assert verdict.whole is not None
        return max(1, int(verdict.whole.num_rows))

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        """Send each copy, or each piece of it, to the shard it belongs to."""
        offsets, ids = lists(shard["ids"])
        lines = verdict.lines if verdict.lines is not None else _no_lines()
        row, skip, take = (lines[name].to_numpy().astype(np.int64) for name in ("row", "skip", "take"))
        bounds = np.zeros(len(row) + 1, np.int64)
        np.cumsum(take, out=bounds[1:])
        sent = np.empty(bounds[-1], ids.dtype)
        copy_ranges(ids, offsets[row] + skip, take, bounds[:-1], sent)
        where = pa.array(row)
        return pa.table(
            {
                "part": lines["part"],
                "position": lines["position"],
                "epoch": lines["epoch"],
                "skip": lines["skip"],
                "id": shard["id"].combine_chunks().take(where),
                "origin": shard["origin"].combine_chunks().take(where),
                "ids": large_lists(bounds, sent),
            }
        )

    def gather(self, part: int, rows: pa.Table | None, verdict: Verdict) -> Gathered:
        assert verdict.whole is not None
        assert self.facts is not None
        if rows is None:
            return Gathered({}, 0, {})
        plan = verdict.whole.slice(part, 1).to_pylist()[0]
        build = windows.concatenate if self.packing == "concatenate" else windows.best_fit
        made = build(rows, window=self.window, pad=self.facts["pad_id"], tail=self.tail, seed=self.seed)
        return windows.files(made, plan, window=self.window, formats=self.formats, facts=self.facts)

    def finish(
        self, counts: list[dict[str, dict[str, int]]], files: list[dict[str, Any]], verdict: Verdict
    ) -> dict[str, bytes]:
        assert verdict.whole is not None
        assert self.facts is not None
        how = {"window": self.window, "packing": self.packing, "tail": self.tail, "seed": self.seed}
        plan = verdict.whole.to_pylist()
        told = windows.summary(plan, counts, files, facts=self.facts, how=how, phases=self.phases)
        return {"tokens.json": told}


def _phases(lineage: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    """Names of the phases of the mixture that `copies` is from, none if it has none."""
    names = tuple(getattr(lineage.get("copies", {}).get("maker"), "phase_names", ()))
    if names and "phase_copies" not in lineage:
        raise RecipeError(
            "pack: `mix` has phases, but `phase_copies` was left behind; `select` takes it along by `carry`"
        )
    return names


def _by_phase(column: pa.ChunkedArray, phases: int) -> np.ndarray:
    """Copies of each row in each phase: int64[n, phases]."""
    array = one(column)
    if array.type != pa.list_(pa.int32(), phases):
        raise DataError(f"pack: `phase_copies` is {array.type}; {pa.list_(pa.int32(), phases)} is what `mix` adds")
    values = array.values.slice(array.offset * phases, len(array) * phases)
    counts: np.ndarray = values.to_numpy().reshape(-1, phases).astype(np.int64)
    return counts


def _check(times: np.ndarray, copies: np.ndarray) -> None:
    wrong = np.flatnonzero(times.sum(axis=1) != copies)
    if len(wrong):
        row = wrong[0]
        raise DataError(f"pack: row {row} is drawn {copies[row]} times, in its phases {times[row].tolist()}")


def _apart(stream: str, phases: tuple[str, ...]) -> tuple[str, str]:
    """The phase in the name of a stream, and the name without it."""
    split, _, rest = stream.partition("/")
    if not phases or split != "train":
        return "", stream
    phase, _, source = rest.partition("/")
    return phase, f"{split}/{source}"


def _sums(part: int, evidence: Evidence) -> pl.DataFrame:
    seen = evidence.read(part)
    kinds = {"stream": pl.String, "epoch": pl.Int32, "tokens": pl.Int64}
    frame = pl.DataFrame(schema=kinds) if seen is None else pl.from_arrow(seen.select(list(kinds)))
    assert isinstance(frame, pl.DataFrame)
    grouped = frame.group_by("stream", "epoch").agg(pl.col("tokens").sum(), documents=pl.len().cast(pl.Int64))
    return grouped.with_columns(part=pl.lit(part, pl.Int64)).sort("stream", "epoch")


def _places(
    part: int, seen: pa.Table, stage: Pack, bases: dict[tuple[str, int, int], int], first: dict[str, int]
) -> pa.Table:
    """Where every copy of one part of the evidence goes: shard, position in it, and which piece if it is cut."""
    frame = pl.from_arrow(seen)
    assert isinstance(frame, pl.DataFrame)
    frame = frame.filter(pl.col("epoch") >= 0).sort("stream", "epoch", "key", "shard", "row")
    group = pl.struct("stream", "epoch")
    base = (
        frame.select("stream", "epoch")
        .unique()
        .with_columns(
            base=pl.struct("stream", "epoch").map_elements(
                lambda at: bases[(at["stream"], at["epoch"], part)], return_dtype=pl.Int64
            ),
            first=pl.col("stream").replace_strict(first, return_dtype=pl.Int64),
        )
    )
    frame = frame.join(base, on=["stream", "epoch"], how="left", maintain_order="left").with_columns(
        start=pl.col("base") + pl.col("tokens").cum_sum().over(group) - pl.col("tokens")
    )
    start, tokens = frame["start"].to_numpy(), frame["tokens"].to_numpy()
    end = start + (tokens if stage.packing == "concatenate" else 1)
    pieces = (end - 1) // stage.shard - start // stage.shard + 1
    index = np.repeat(np.arange(len(start)), pieces)
    nth = np.arange(len(index)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    shard = start[index] // stage.shard + nth
    begin = np.maximum(start[index], shard * stage.shard)
    stop = np.minimum(start[index] + tokens[index], (shard + 1) * stage.shard)
    take = stop - begin if stage.packing == "concatenate" else tokens[index]
    return pa.table(
        {
            "shard": frame["shard"].to_numpy()[index],
            "row": frame["row"].to_numpy()[index],
            "part": frame["first"].to_numpy()[index] + shard,
            "position": begin - shard * stage.shard,
            "skip": begin - start[index],
            "take": take,
            "epoch": frame["epoch"].to_numpy()[index],
        }
    )


def _no_lines() -> pa.Table:
    kinds = {
        "row": pa.uint32(),
        "part": pa.int64(),
        "position": pa.int64(),
        "skip": pa.int64(),
        "take": pa.int64(),
        "epoch": pa.int32(),
    }
    return pa.table({name: pa.array([], kind) for name, kind in kinds.items()})
