"""Windows of one token shard: laid out, written as trainers read them, and summed up in `tokens.json`.

`tokens.json` is what a trainer, or the person who starts it, needs: tokenizer and dtype, and for each source its
prefixes with digests, tokens, epochs, and a blend in Megatron's words. A mixture with phases has all that for each
phase too, in the order of training, and blends of its phases only: a stream is then `train/PHASE/SOURCE`. Beside every
shard a map says which document every run of its tokens is from.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.arrow import lists
from curate.draw import again
from curate.errors import CurateError
from curate.kernels.pack import best_fit as best_fit_kernel
from curate.kernels.pack import copy_ranges
from curate.stage import Gathered
from curate.trainers import body, megatron_index, parquet_windows, token_dtype

LONGEST_NAME = 120
"""Characters of a source's name that its files bear; file systems take 255 bytes in all."""

PLAN = pa.schema(
    [
        ("stream", pa.string()),
        ("phase", pa.string()),
        ("tokens", pa.int64()),
        ("documents", pa.int64()),
        ("available_tokens", pa.int64()),
        ("available_documents", pa.int64()),
        ("number", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Windows:
    """S windows of equal length end to end: `ids`, tokens before the padding of each, where documents or pieces begin
    in each, tokens left out, and the pieces as a table (window, start, length, id, origin, epoch, offset)."""

    ids: np.ndarray
    real: np.ndarray
    starts: np.ndarray
    left_out: int
    pieces: pa.Table


def concatenate(rows: pa.Table, *, window: int, pad: int | None, tail: str, seed: int) -> Windows:
    """Windows cut from the stream as it is. `rows` has `position` in the shard and `ids` of every piece."""
    offsets, flat = lists(rows["ids"])
    position = rows["position"].to_numpy()
    lengths = np.diff(offsets)
    total = int(lengths.sum())
    size = -(-total // window) * window if tail == "pad" else total // window * window
    ids = np.full(max(size, total), 0 if pad is None else pad, flat.dtype)
    copy_ranges(flat, offsets[:-1], lengths, position, ids)
    real = np.full(size // window, window, np.int64)
    if size > total:
        real[-1] = total - (size - window)
    inside = np.minimum(position + lengths, size) - position
    return _laid(ids[:size], real, rows, position, inside, window, left_out=max(0, total - size))


def best_fit(rows: pa.Table, *, window: int, pad: int | None, tail: str, seed: int) -> Windows:
    """Whole documents fitted into windows, longest first; only a document longer than a window is split. The windows
    are then put in keyed order, or their lengths would make a curriculum."""
    assert pad is not None
    order = pa.array(np.argsort(rows["position"].to_numpy(), kind="stable"))
    rows = rows.take(order).combine_chunks()
    offsets, flat = lists(rows["ids"])
    length = np.diff(offsets)
    pieces = -(-length // window)
    index = np.repeat(np.arange(len(length)), pieces)
    nth = np.arange(len(index)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    skip = nth * window
    take = np.minimum(length[index] - skip, window)
    window_of, start_of = np.empty(len(take), np.int64), np.empty(len(take), np.int64)
    count = best_fit_kernel(take, window, window_of, start_of)
    place = np.empty(count, np.int64)
    place[np.argsort(again(np.arange(count, dtype=np.uint64), seed))] = np.arange(count)
    position = place[window_of] * window + start_of
    ids = np.full(count * window, pad, flat.dtype)
    copy_ranges(flat, offsets[:-1][index] + skip, take, position, ids)
    real = np.bincount(place[window_of], weights=take, minlength=count).astype(np.int64)
    split = rows.take(pa.array(index))
    moved = split.set_column(split.column_names.index("skip"), "skip", pa.array(split["skip"].to_numpy() + skip))
    return _laid(ids, real, moved, position, take, window, left_out=0)


def files(
    made: Windows, plan: dict[str, Any], *, window: int, formats: tuple[str, ...], facts: dict[str, Any]
) -> Gathered:
    """The files of one shard, and what to count of it."""
    prefix = f"{file_name(plan['stream'], plan['phase'])}-{plan['number']:05d}"
    count = len(made.real)
    out: dict[str, tuple[bytes | memoryview, int]] = {}
    lengths = np.full(count, window, np.int64)
    if count and "megatron" in formats:
        out[f"{prefix}.bin"] = (body(made.ids), count)
        out[f"{prefix}.idx"] = (megatron_index(lengths, made.ids.dtype), count)
    if count and "parquet" in formats:
        said = {"end_id": facts["end_id"], "window": window, "tokenizer": facts["sha256"]}
        if facts["pad_id"] is not None:
            said["pad_id"] = facts["pad_id"]
        data = parquet_windows(made.ids, lengths, facts=said, real_lengths=made.real, document_starts=made.starts)
        out[f"{prefix}.parquet"] = (data, count)
    if count:
        sink = io.BytesIO()
        pq.write_table(made.pieces, sink, compression="zstd", compression_level=1, write_statistics=False)
        out[f"map/{prefix}.parquet"] = (sink.getvalue(), made.pieces.num_rows)
    tokens = int(made.real.sum())
    counts = {
        "windows": {plan["stream"]: count},
        "tokens": {plan["stream"]: tokens},
        "padding": {plan["stream"]: count * window - tokens},
        "left_out": {plan["stream"]: made.left_out},
    }
    if count:
        counts[prefix] = {"windows": count, "tokens": tokens}
    return Gathered(out, count, counts)


def summary(
    plan: list[dict[str, Any]],
    counts: list[dict[str, dict[str, int]]],
    written: list[dict[str, Any]],
    *,
    facts: dict[str, Any],
    how: dict[str, Any],
    phases: tuple[str, ...] = (),
) -> bytes:
    """The bytes of `tokens.json`. Raises when a planned token is neither in a window nor counted as left out.

    A split has all shards of a source, those of the first phase first; `phases` has them phase by phase, each with its
    own blend. A split in phases has none: it would train all of them at once.
    """
    streams = {row["stream"]: row for row in plan}
    rows = sorted(streams.values(), key=lambda row: phases.index(row["phase"]) if row["phase"] else 0)
    entries: dict[str, dict[str, list[dict[str, Any]]]] = {}
    by_phase: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in phases}
    for row in rows:
        split, _, source = unphased(row["stream"], row["phase"]).partition("/")
        entry = _entry(row, counts, written)
        entries.setdefault(split, {}).setdefault(source, []).append(entry)
        if row["phase"]:
            by_phase[row["phase"]][source] = [entry]
    splits = {split: _blend(sources) for split, sources in entries.items()}
    for stream, row in streams.items():
        if row["phase"]:
            splits[stream.partition("/")[0]].pop("megatron_blend", None)
    payload = {
        "format": 1,
        "tokenizer": facts,
        "dtype": str(token_dtype(facts["vocabulary"])),
        **how,
        "splits": splits,
    }
    if phases:
        payload["phases"] = [{"name": name, **_blend(sources)} for name, sources in by_phase.items()]
    return json.dumps(payload, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def unphased(stream: str, phase: str) -> str:
    """`train/SOURCE` of the stream `train/PHASE/SOURCE`; without a phase the stream itself."""
    split, _, source = stream.partition("/")
    return f"{split}/{source[len(phase) + 1 :]}" if phase else stream


def file_name(stream: str, phase: str = "") -> str:
    """`train/SOURCE` or `train/PHASE/SOURCE` with nothing in it that paths or blend lists cannot hold."""
    split, _, source = unphased(stream, phase).partition("/")
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in source).lstrip(".") or "_"
    plain = plain[:LONGEST_NAME]
    if plain != source:
        plain += "-" + hashlib.sha256(source.encode()).hexdigest()[:8]
    return f"{split}/{phase}/{plain}" if phase else f"{split}/{plain}"


_COUNTED = {"tokens": "tokens", "windows": "windows", "padding": "padding_tokens", "left_out": "left_out_tokens"}


def _entry(
    row: dict[str, Any], counts: list[dict[str, dict[str, int]]], written: list[dict[str, Any]]
) -> dict[str, Any]:
    """What became of one stream: planned and packed tokens, documents, shards."""
    total = {said: sum(c.get(name, {}).get(row["stream"], 0) for c in counts) for name, said in _COUNTED.items()}
    if row["tokens"] != total["tokens"] + total["left_out_tokens"]:
        packed, left = total["tokens"], total["left_out_tokens"]
        raise CurateError(f"pack: {row['tokens']} tokens of {row['stream']} planned, {packed} packed, {left} left out")
    available = {name: row[name] for name in ("available_tokens", "available_documents")}
    shards = _shards(file_name(row["stream"], row["phase"]), counts, written)
    return {**total, **available, "planned": row["tokens"], "documents": row["documents"], "shards": shards}


def _blend(sources: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Sources side by side with their shares, each from its streams in order, and the blend in Megatron's words."""
    made = {}
    for source, streams in sorted(sources.items()):
        summed = {name: sum(one[name] for one in streams) for name in (*_COUNTED.values(), "documents")}
        first = streams[0]
        made[source] = {
            **summed,
            "available_tokens": first["available_tokens"],
            "available_documents": first["available_documents"],
            "epochs": round(sum(one["planned"] for one in streams) / first["available_tokens"], 6),
            "shards": [shard for one in streams for shard in one["shards"]],
        }
    tokens = sum(entry["tokens"] for entry in made.values())
    for entry in made.values():
        entry["share"] = round(entry["tokens"] / tokens, 9) if tokens else 0.0
    shards = [shard for entry in made.values() for shard in entry["shards"] if shard["windows"]]
    blend = [word for shard in shards for word in (str(shard["windows"]), shard["prefix"])]
    return {"tokens": tokens, "sources": made, "megatron_blend": blend}


def _laid(
    ids: np.ndarray,
    real: np.ndarray,
    rows: pa.Table,
    position: np.ndarray,
    inside: np.ndarray,
    window: int,
    *,
    left_out: int,
) -> Windows:
    kept = inside > 0
    begins = np.unique(np.concatenate([position[kept], np.arange(len(real)) * window]))
    pieces = pa.table(
        {
            "window": pa.array((position // window)[kept].astype(np.int32)),
            "start": pa.array((position % window)[kept].astype(np.int32)),
            "length": pa.array(inside[kept].astype(np.int32)),
            "id": rows["id"].filter(pa.array(kept)),
            "origin": rows["origin"].filter(pa.array(kept)),
            "epoch": pa.array(rows["epoch"].to_numpy()[kept]),
            "offset": pa.array(rows["skip"].to_numpy()[kept]),
        }
    )
    order = pa.array(np.lexsort((pieces["start"].to_numpy(), pieces["window"].to_numpy())))
    return Windows(ids, real, begins % window, left_out, pieces.take(order).combine_chunks())


def _shards(
    prefix: str, counts: list[dict[str, dict[str, int]]], written: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for total in counts:
        for name, numbers in total.items():
            if name.rpartition("-")[0] == prefix:
                found[name] = {"prefix": name, **numbers, "files": {}}
    for file in written:
        stem, _, suffix = file["name"].rpartition(".")
        if stem in found:
            found[stem]["files"][suffix] = {
                "name": file["name"],
                "bytes": file["bytes"],
                "sha256": file["sha256"],
            }
    return [found[name] for name in sorted(found)]
