"""Equal parts of the sources of a run, of whole documents: what models are trained on, one each, for an ablation.

After Na et al. 2024 (arXiv 2410.15661): base units of one size, several for a large source. Documents of a source are
taken in keyed order until a part is full; the next few hundred close the gap that the last one leaves, and those passed
over come first in the next part. So which documents a part has depends on documents, size and seed, not on shards.
What is written is raw data for a recipe, whose `mix` step stands there too. The catch: what is left over at the end of
a source is in no part (and told), and it holds more of the long documents where a part has but a few; some 40 bytes a
document are held, and texts are written once more.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from curate import store
from curate.arrow import one as whole
from curate.candidates import Job, documents
from curate.draw import READS, draws
from curate.errors import RecipeError
from curate.stages.mix import LONGEST_NAME

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]

TOLERANCE = 0.005
"""A part may have so much more or less than its size, as a share."""
_WINDOW = 256  # documents on either side among which an exchange is looked for
_PAIRED = 32  # the same for exchanges of two
_MOVES = 16
_TRIES = 20
_WRITTEN = ["id", "text", "source", "source_id", "url"]
_HELD_OUT, _USED = 0.05, 0.9  # of documents, and of the size of a part: a part may have more of its tokens held out
_DRAW = 0x7061727473 << 16  # "parts": no other use of draws has this order


@dataclass(frozen=True)
class Parts:
    """`of` int32[n]: the number of each document's part within its source, -1 in none; `tokens` int64[parts]."""

    of: Int32s
    tokens: Int64s


def cut(tokens: Int64s, size: int, *, tolerance: float = TOLERANCE) -> Parts:
    """As many parts of `size` tokens as the documents int64[n], in this order, give, each within the tolerance.

    RecipeError if a part cannot be closed while there are more documents: they are too long for parts this small.
    """
    if size < 1 or not 0 <= tolerance < 1:
        raise RecipeError(
            f"parts of {size:,} tokens within {tolerance:g}; a size from 1 and a share below 1 are wanted"
        )
    of = np.full(len(tokens), -1, np.int32)
    usable = np.flatnonzero(tokens <= size * (1 + tolerance))
    ends = np.concatenate([[0], np.cumsum(tokens[usable])])
    sums: list[int] = []
    carried, at = np.empty(0, np.int64), 0
    while int(tokens[carried].sum()) + int(ends[-1] - ends[at]) >= size * (1 - tolerance):
        fits = np.cumsum(tokens[carried]) <= size
        chosen, carried = carried[fits], carried[~fits]
        room = size - int(tokens[chosen].sum())
        stop = max(at, int(np.searchsorted(ends, ends[at] + room, "right")) - 1)
        chosen = np.concatenate([chosen, usable[at:stop]])
        more = usable[stop : stop + _WINDOW]
        near, far = carried[:_WINDOW], carried[_WINDOW:]
        chosen, rest, off = _closed(tokens, chosen, np.concatenate([near, more]), (size, tolerance))
        if abs(off) > tolerance * size:
            if len(more) == _WINDOW:
                raise RecipeError(
                    f"a part of {size:,} tokens stays {abs(off):,} off, more than {tolerance:g} of it: documents are "
                    f"too long; make parts larger or the tolerance wider"
                )
            break
        of[chosen] = len(sums)
        sums.append(int(tokens[chosen].sum()))
        # Documents of the window that stand behind the last one taken were not passed over yet.
        taken = np.flatnonzero(np.isin(more, chosen))
        at = stop + (int(taken[-1]) + 1 if len(taken) else 0)
        passed = rest[rest < (usable[at] if at < len(usable) else len(tokens))]
        carried = np.sort(np.concatenate([passed, far]))
    return Parts(of, np.array(sums, np.int64))


def size_for(totals: Mapping[str, int], parts: int, *, tolerance: float = TOLERANCE) -> int:
    """The largest size of which the sources have so many parts in all, or more where several reach it together."""
    held = [total for total in totals.values() if total > 0]
    if parts < 1 or not held:
        raise RecipeError(f"{parts} parts of {len(held)} sources; one of each at least is wanted")
    sizes = sorted({total // count for total in held for count in range(1, parts + 1)} - {0}, reverse=True)
    best = next((size for size in sizes if sum(total // size for total in held) >= parts), None)
    if best is None:
        raise RecipeError(f"{sum(held):,} tokens cannot be cut into {parts} parts")
    # So that a source which is just large enough may miss the size by as much as its parts may.
    return max(1, int(best / (1 + tolerance / 2)))


def partition(
    run: str, folder: str, *, size: int | None, parts: int | None, seed: int = 0, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Cut the documents of a finished run that have `tokens`, without those held out for validation; what was made.

    Writes `parts.json`, beside it for each shard a parquet file, row by row as the documents: `id`, `text`, `source`,
    `source_id`, `url` and `part` (int32, counted from 0 in each source, null in no part), and `mix.yaml`: the `mix`
    step, with `bucket: part`, of a recipe that ingests these files, with a phase of equal tokens for each part.
    RecipeError unless one of `size` and `parts` is given.
    """
    if (size is None) == (parts is None):
        raise RecipeError("give the tokens of a part, or how many parts there are to be")
    found = documents(run, (), ("source", "tokens"), None)
    held = ("validation",) if found.view.has(("validation",)) else ()
    jobs = found.jobs((*READS, "source", "tokens", *held))
    names: dict[str, int] = {}
    columns: list[tuple[Int32s, Int64s, NDArray[np.uint64]]] = []
    for job in jobs:
        table = job.table()
        columns.append((_sources(table, names, held), _tokens(table), draws(table, _DRAW + seed)))
    source, tokens, key = (np.concatenate(column) for column in zip(*columns, strict=True))
    rows_of = {name: np.flatnonzero(source == names[name]) for name in sorted(names)}
    rows_of = {name: rows[np.argsort(key[rows], kind="stable")] for name, rows in rows_of.items()}
    totals = {name: int(tokens[rows].sum()) for name, rows in rows_of.items()}
    each = size if size is not None else size_for(totals, parts or 0, tolerance=tolerance)
    made = {name: cut(tokens[rows], each, tolerance=tolerance) for name, rows in rows_of.items()}
    for _ in range(_TRIES if size is None else 0):
        if sum(len(one.tokens) for one in made.values()) >= (parts or 0):
            break
        each = int(each * (1 - tolerance))
        made = {name: cut(tokens[rows], each, tolerance=tolerance) for name, rows in rows_of.items()}
    told: dict[str, Any] = {"kind": "partition", "of": found.name, "size": each, "seed": seed, "tolerance": tolerance}
    told |= _told(made, {name: tokens[rows] for name, rows in rows_of.items()})
    if not told["parts"]:
        raise RecipeError(
            f"no source of {run} has {each:,} tokens; the largest has {max(totals.values(), default=0):,}"
        )
    of = np.full(len(source), -1, np.int32)
    for name, one in made.items():
        of[rows_of[name]] = one.of
    _write(folder, found.jobs(_WRITTEN), of, told)
    return told


def step(told: Mapping[str, Any]) -> dict[str, Any]:
    """The `mix` step with a phase for each part of what `partition` told: equal tokens, and the same documents held out
    for all. Phases are called SOURCE-NUMBER, or `part-` and a number where that is no name of a folder."""
    plain = re.compile(rf"[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
    names = [name.replace("/", "-") for name in told["parts"]]
    if len({name.lower() for name in names}) < len(names) or not all(map(plain.fullmatch, names)):
        names = [f"part-{number}" for number in range(len(names))]
    tokens = max(1, int(told["size"] * _USED))
    phases = [
        {"name": name, "tokens": tokens, "weights": {part: 1}} for name, part in zip(names, told["parts"], strict=True)
    ]
    return {"mix": {"bucket": "part", "validation": _HELD_OUT, "max_epochs": 2, "phases": phases}}


def _told(made: Mapping[str, Parts], tokens: Mapping[str, Int64s]) -> dict[str, Any]:
    """Parts and sources by name, with what they hold and what is left over."""
    told: dict[str, Any] = {"parts": {}, "sources": {}}
    for name, one in made.items():
        documents = np.bincount(one.of[one.of >= 0], minlength=len(one.tokens))
        for number, (sums, count) in enumerate(zip(one.tokens.tolist(), documents.tolist(), strict=True)):
            told["parts"][f"{name}/{number}"] = {"source": name, "tokens": sums, "documents": count}
        total = int(tokens[name].sum())
        told["sources"][name] = {
            "tokens": total,
            "parts": len(one.tokens),
            "left_over": total - int(one.tokens.sum()),
            "documents_left_over": int((one.of < 0).sum()),
        }
    return told


def _sources(table: pa.Table, names: dict[str, int], held: tuple[str, ...]) -> Int32s:
    """Numbers of the documents' sources, to which new ones are added; -1 for documents held out."""
    coded = whole(table["source"]).cast(pa.string()).dictionary_encode()
    numbers = np.array([names.setdefault(name, len(names)) for name in coded.dictionary.to_pylist()] + [-1], np.int32)
    rows: Int32s = numbers[coded.indices.fill_null(len(numbers) - 1).to_numpy(zero_copy_only=False)]
    if held:
        rows[whole(table[held[0]]).to_numpy(zero_copy_only=False)] = -1
    return rows


def _tokens(table: pa.Table) -> Int64s:
    counts: Int64s = whole(table["tokens"]).cast(pa.int64()).fill_null(0).to_numpy()
    return counts


def _write(folder: str, jobs: list[Job], of: Int32s, told: dict[str, Any]) -> None:
    """Files of documents with their parts, and beside them the `mix` step and `parts.json`."""
    at = 0
    for job in jobs:
        mine = of[at : at + job.rows]
        at += job.rows
        table = job.table().select(_WRITTEN).append_column("part", pa.array(mine, mask=mine < 0))
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        store.put(store.join(folder, f"{job.shard:05}.parquet"), memoryview(sink.getvalue()))
    text = yaml.safe_dump(step(told), sort_keys=False, allow_unicode=True)
    store.put(store.join(folder, "mix.yaml"), text.encode())
    store.put(store.join(folder, "parts.json"), (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode())


def _closed(tokens: Int64s, chosen: Int64s, others: Int64s, wanted: tuple[int, float]) -> tuple[Int64s, Int64s, int]:
    """Documents of a part and those passed over, once it is brought to its size, and what it is off still.

    First those are added that fit, in their order. Then each exchange is the one that leaves the least: of one document
    or none for one or none, and where none of these helps of up to two for up to two. Where that ends too far off, the
    last documents of the part are given back first, one more each time.
    """
    best = chosen, others, wanted[0] - int(tokens[chosen].sum())
    for back in range(min(_TRIES, len(chosen) + 1)):
        cut_at = len(chosen) - back
        made = _exchanged(tokens, chosen[:cut_at], np.concatenate([others, chosen[cut_at:]]), wanted)
        best = min(best, made, key=lambda one: abs(one[2]))
        if abs(best[2]) <= wanted[1] * wanted[0]:
            break
    return best


def _exchanged(tokens: Int64s, chosen: Int64s, others: Int64s, wanted: tuple[int, float]) -> tuple[Int64s, Int64s, int]:
    size, tolerance = wanted
    gap = size - int(tokens[chosen].sum())
    fits = []
    for row in others.tolist():
        if gap <= tolerance * size:
            break
        if tokens[row] <= gap:
            fits.append(row)
            gap -= int(tokens[row])
    chosen, others = np.concatenate([chosen, np.array(fits, np.int64)]), others[~np.isin(others, fits)]
    for _ in range(_MOVES):
        if abs(gap) <= tolerance * size:
            break
        for group, window in ((_ones, _WINDOW), (_pairs, _PAIRED)):
            given, taken = group(chosen[-window:]), group(others[:: -(-len(others) // (2 * window)) or 1])
            left = np.abs(gap - (_sums(tokens, taken)[None, :] - _sums(tokens, given)[:, None]))
            best = divmod(int(left.argmin()), len(taken))
            if left[best] < abs(gap):
                break
        else:
            break
        give, take = (rows[rows >= 0] for rows in (given[best[0]], taken[best[1]]))
        gap -= int(tokens[take].sum() - tokens[give].sum())
        chosen = np.concatenate([chosen[~np.isin(chosen, give)], take])
        others = np.concatenate([give, others[~np.isin(others, take)]])
    return chosen, others, gap


def _ones(rows: Int64s) -> Int64s:
    """None of the rows, and each: int64[m, 2], -1 for none."""
    alone = np.concatenate([[-1], rows])
    return np.stack([alone, np.full(len(alone), -1)], axis=1)


def _pairs(rows: Int64s) -> Int64s:
    """None of the rows, each, and all pairs: int64[m, 2], -1 for none."""
    one, two = np.triu_indices(len(rows), 1)
    return np.concatenate([_ones(rows), np.stack([rows[one], rows[two]], axis=1)])


def _sums(tokens: Int64s, groups: Int64s) -> Int64s:
    sums: Int64s = np.where(groups >= 0, tokens[groups], 0).sum(axis=1)
    return sums
