"""The documents that methods of selection are compared on, and what each selects at one budget.

A method is an expression that keeps a document where it is true. What it keeps beyond the budget goes by keyed draws:
documents are taken in their order until the budget is reached. All methods are cut in one order, so two that keep the
same select the same; the random baseline has an order of its own.

Where the budget ends is found from histograms of the leading bits of draws, then in the rows of one bucket: nothing is
kept in memory for a document. A line of some 20 bytes for each goes to a scratch folder, so columns are read once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from curate import expressions, store
from curate.arrow import one
from curate.draw import READS, again, draws, keyed_by, threshold
from curate.errors import RecipeError, nearest
from curate.manifest import Manifest
from curate.outputs import state
from curate.recipe import kinds
from curate.stage import MAKES_DOCUMENTS, Map
from curate.view import Dataset, Files, View, read

EVERY, HELD = -1, -2
"""Who stands in a queue besides methods by number: all documents that are not held out, and those that are. In sums by
who, they are the last and the one before."""
MOST_METHODS = 30
HELD_SHARE = 0.02
ALL = np.uint64(2**64 - 1)
_BITS = 12
# Names as numbers, added to that of a seed, so that no use of draws has the order of another.
_BASE, _CUT, _RANDOM, _HELD = 0x636F6D70617265, 0x637574 << 32, 0x72616E646F6D << 16, 0x68656C64
_MEASURE, _MAP = 0x6D656173757265, 0x6D6170


@dataclass(frozen=True)
class Documents:
    """The documents behind the step `name` with all columns that were attached to them."""

    name: str
    view: View

    @property
    def columns(self) -> dict[str, str]:
        """Columns with their types."""
        return self.view.types

    def jobs(self, names: Iterable[str]) -> list["Job"]:
        """What to read of each shard."""
        wanted = tuple(dict.fromkeys(names))
        shards = enumerate(self.view.documents.manifest.shards)
        return [Job(number, shard.rows, self.view.files(number, wanted)) for number, shard in shards]


@dataclass(frozen=True)
class Job:
    """A shard, and where the columns are that are to be read of it."""

    shard: int
    rows: int
    files: Files

    def table(self) -> pa.Table:
        """These columns."""
        return read(self.files, self.rows)


def documents(out: str, names: Sequence[str], more: Sequence[str], of: str | None) -> Documents:
    """The documents of the step `of`, or of the first step whose documents have all columns `names` and `more`.

    RecipeError where no step has, and for texts, tokens and vectors among `names`, by which nothing is selected.
    """
    steps = state(out)
    bases = [step for step in steps if step["kind"] == "ingest" or kinds()[step["kind"]].gathers in MAKES_DOCUMENTS]
    if of is not None and of not in [step["name"] for step in bases]:
        words = [step["name"] for step in bases]
        hint = nearest(of, words) or f"; those are {', '.join(words)}"
        raise RecipeError(f"{out} has no step of documents called '{of}'{hint}")
    made = [_attached(out, steps, step) for step in bases if of in (None, step["name"])]
    finished = [one for one in made if one is not None]
    if not finished:
        raise RecipeError(f"{out} has no finished documents{f' of {of!r}' if of else ''}: `curate run` makes them")
    found = next((one for one in finished if one.view.has((*names, *more))), None)
    if found is None:
        unfinished = any(Manifest.load(store.join(out, step["folder"])) is None for step in steps)
        raise RecipeError(_no_column(finished, (*names, *more), unfinished=unfinished))
    for name in names:
        kind = found.columns[name]
        if name == "text" or "list<" in kind or "struct<" in kind or kind in ("large_string", "large_binary", "binary"):
            raise RecipeError(f"'{name}' is {kind}: a method is made of numbers, words and marks")
    return found


def _attached(out: str, steps: list[dict[str, Any]], base: dict[str, Any]) -> Documents | None:
    """Documents with the finished columns on them; None while they are unfinished themselves."""
    folders = [base["folder"]]
    for step in steps:
        if step["documents"] == base["name"] and step["kind"] != "ingest" and not kinds()[step["kind"]].gathers:
            folders.append(step["folder"])
    places = [store.join(out, folder) for folder in folders]
    datasets = [Dataset(place, made) for place in places if (made := Manifest.load(place)) is not None]
    if not datasets or datasets[0].folder != places[0]:
        return None
    return Documents(base["name"], View(datasets[0], tuple(datasets[1:])))


def _no_column(finished: list[Documents], names: Sequence[str], *, unfinished: bool) -> str:
    best = max(finished, key=lambda one: sum(name in one.columns for name in names))
    lost = next(name for name in names if name not in best.columns)
    if there := [one.name for one in finished if lost in one.columns]:
        return (
            f"no documents of the run have all columns: those of '{best.name}' lack '{lost}', which those of "
            f"'{there[0]}' have; `carry:` in a `select` takes columns along"
        )
    words = sorted({name for one in finished for name in one.columns})
    rest = "; the run is not finished: run it again to go on" if unfinished else ""
    hint = "" if unfinished else nearest(lost, words) or "; there are " + ", ".join(words)
    return f"no documents of the run have a column '{lost}'{rest}{hint}"


# --- lines: what is kept of a document -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """What is asked of every document: the expressions of the methods, the one that holds it out (None: one text of 50
    is, by a keyed draw of its id, so with all its exact copies), the column that it weighs by; where lines go, how many
    seeds there are, and the expression without which a document is not selected by any method."""

    methods: tuple[str, ...]
    held_out: str | None
    unit: str
    scratch: str
    seeds: int
    among: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns that lines are made of."""
        every = (*self.methods, *(given for given in (self.held_out, self.among) if given))
        named = [name for expression in every for name in expressions.columns(expression)]
        return tuple(dict.fromkeys((*READS, self.unit, *named)))

    def queues(self) -> list["Queue"]:
        """One per method and seed, as many for the baseline, one for documents held out and one for the map."""
        cuts = [Queue(who, _CUT + seed, "weight") for who in range(len(self.methods)) for seed in range(self.seeds)]
        random = [Queue(EVERY, _RANDOM + seed, "weight") for seed in range(self.seeds)]
        return [*cuts, *random, Queue(HELD, _MEASURE, "weight"), Queue(EVERY, _MAP, "documents")]


@dataclass(frozen=True)
class Queue:
    """Documents in the order of draws: `who`, a method's number or EVERY or HELD; the seed of the order; what counts
    towards a budget, their weight or their number."""

    who: int
    stream: int
    by: str

    def line_up(self, lines: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Draws uint64[m] and what each counts int64[m] of those who stand in it."""
        rows = np.flatnonzero(members(lines, self.who))
        weight = lines["weight"].to_numpy()[rows] if self.by == "weight" else np.ones(len(rows), np.int64)
        return again(lines["key"].to_numpy()[rows], self.stream), weight

    def taken(self, lines: pa.Table, cut: np.uint64) -> np.ndarray:
        """Which documents stand in it up to the draw `cut`, bool[n]."""
        found: np.ndarray = members(lines, self.who) & (again(lines["key"].to_numpy(), self.stream) <= cut)
        return found


def members(lines: pa.Table, who: int) -> np.ndarray:
    """Documents of a method by number, or of EVERY or HELD, bool[n]; methods keep none that are held out."""
    standing: np.ndarray = lines["held" if who == HELD else "free"].to_numpy()
    return standing if who in (EVERY, HELD) else standing & kept_by(lines, who)


def kept_by(lines: pa.Table, method: int) -> np.ndarray:
    """Documents that a method's expression keeps, bool[n]."""
    found: np.ndarray = (lines["methods"].to_numpy() >> np.uint32(method)) & np.uint32(1) != 0
    return found


def put(uri: str, table: pa.Table) -> None:
    """Write a table that only this comparison reads."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    store.put(uri, memoryview(sink.getvalue()))


def get(uri: str) -> pa.Table:
    """A table that `put` wrote, each column in one piece."""
    return pa.ipc.open_stream(pa.py_buffer(store.read(uri))).read_all().combine_chunks()


def lines_of(scratch: str, shard: int) -> pa.Table:
    """The lines of a shard: `key` uint64, `weight` int64, `methods` uint32 (a bit for each), `held` bool,
    and `free` bool: a method may keep it."""
    return get(store.join(scratch, f"lines-{shard}"))


@dataclass(frozen=True)
class Scanned:
    """Of one shard or of all: by queue, what its members weigh by the leading bits of their draws, int64[queues, 4096];
    documents and weight int64[methods + 2] of each method, HELD and EVERY."""

    levels: np.ndarray
    documents: np.ndarray
    weight: np.ndarray


def scanned(jobs: list[Job], question: Question, map: Map) -> Scanned:
    """Write the lines of all shards; what they come to."""
    whole = len(question.methods) + 2
    levels = np.zeros((len(question.queues()), 1 << _BITS), np.int64)
    documents, weight = np.zeros(whole, np.int64), np.zeros(whole, np.int64)
    for shard in map(partial(_scan, question=question), jobs):
        levels += shard.levels
        documents += shard.documents
        weight += shard.weight
    return Scanned(levels, documents, weight)


def _scan(job: Job, question: Question) -> Scanned:
    table = job.table()
    key = draws(table, _BASE)
    bits = np.zeros(job.rows, np.uint32)
    for method, expression in enumerate(question.methods):
        bits |= expressions.evaluate(expression, table)[0].astype(np.uint32) << np.uint32(method)
    if question.held_out is None:
        held = keyed_by(table.select(["id"]), _HELD) < threshold(HELD_SHARE)
    else:
        held = expressions.evaluate(question.held_out, table)[0]
    free = ~held & expressions.evaluate(question.among, table)[0] if question.among else ~held
    weight = one(table[question.unit]).fill_null(0).cast(pa.int64())
    made = pa.table({"key": key, "weight": weight, "methods": bits, "held": pa.array(held), "free": pa.array(free)})
    put(store.join(question.scratch, f"lines-{job.shard}"), made)
    queues = question.queues()
    levels = np.zeros((len(queues), 1 << _BITS), np.int64)
    for number, queue in enumerate(queues):
        drawn, size = queue.line_up(made)
        np.add.at(levels[number], (drawn >> np.uint64(64 - _BITS)).astype(np.int64), size)
    masks = [members(made, who) for who in (*range(len(question.methods)), HELD, EVERY)]
    sizes = weight.to_numpy()
    counts = [np.count_nonzero(mask) for mask in masks], [int(sizes[mask].sum()) for mask in masks]
    return Scanned(levels, np.array(counts[0], np.int64), np.array(counts[1], np.int64))


# --- cuts: where a budget ends ---------------------------------------------------------------------------------------

Goal = tuple[int, int]
"""A queue's number and how much is to be taken from it."""


def cuts(goals: Sequence[Goal], question: Question, scan: Scanned, shards: int, map: Map) -> dict[Goal, np.uint64]:
    """For each goal the draw of the document with which it is first reached; `ALL` where all together weigh no more."""
    found: dict[Goal, np.uint64] = {}
    buckets: dict[Goal, tuple[int, int]] = {}
    for goal in goals:
        number, wanted = goal
        ends = np.cumsum(scan.levels[number])
        if ends[-1] <= wanted:
            found[goal] = ALL
        else:
            bucket = int(np.searchsorted(ends, wanted, "left"))
            buckets[goal] = bucket, int(ends[bucket] - scan.levels[number][bucket])
    queues = question.queues()
    asked = [(queues[goal[0]], bucket) for goal, (bucket, _) in buckets.items()]
    work = partial(_border, asked=asked, scratch=question.scratch)
    told = list(map(work, range(shards))) if asked else []
    for place, (goal, (_, before)) in enumerate(buckets.items()):
        drawn = np.concatenate([shard[place][0] for shard in told])
        order = np.argsort(drawn, kind="stable")
        reached = before + np.cumsum(np.concatenate([shard[place][1] for shard in told])[order])
        found[goal] = drawn[order][np.searchsorted(reached, goal[1], "left")]
    return found


def _border(shard: int, asked: list[tuple[Queue, int]], scratch: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draws and weights of the rows of a shard in a bucket of a queue."""
    lines = lines_of(scratch, shard)
    made = []
    for queue, bucket in asked:
        drawn, size = queue.line_up(lines)
        here = (drawn >> np.uint64(64 - _BITS)) == np.uint64(bucket)
        made.append((drawn[here], size[here]))
    return made
