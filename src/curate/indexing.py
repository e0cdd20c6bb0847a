"""Adding the documents that a run kept to an index of documents.

What a finished run kept is added shard by shard, each text read and sketched once; the segment of a shard is named by
all that decides its content, so a shard that is in the index already costs nothing, and an `add` that was killed goes
on where it stopped. The settings are those of the run's own `near` step: an index has one setting for life.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from curate import store
from curate.arrow import halves, one, stretches, utf8
from curate.errors import AssetError, RecipeError, UnitsFailed, nearest
from curate.execute import Failed, attempt, serial
from curate.index import INDEX, Index, Segment, different, sketch_of
from curate.index_contents import told
from curate.kernels.minhash import band_keys
from curate.manifest import Manifest, Shard, fingerprint
from curate.outputs import state
from curate.scopes import scoped
from curate.segment import Contents, encode, reading, shingle_bodies, signature_bodies
from curate.sketch import VERSION as SKETCH_VERSION
from curate.sketch import Sketch
from curate.stage import Map
from curate.unit import sha256
from curate.view import read

VERSION = 1
"""Rises when equal documents and settings would give another segment."""
_SUFFIX = ".segment"
_TEXT_AT_ONCE, _VALUES_AT_ONCE = 1 << 20, 4 << 20


def add(
    uri: str,
    run: str,
    *,
    of: str | None = None,
    near: str | None = None,
    verify: Literal["exact", "sketch"] | None = None,
    map: Map = serial,
) -> dict[str, Any]:
    """Add the documents of a finished run to the index in folder `uri`, which is made if it is not there.

    The documents are those of the last `select`, or of the step called `of`; the settings those of the run's `near`
    step, called `near` where there are several. `verify`: keep shingles (`exact`, for a new index the default) or
    signatures. A shard that is there already is passed over; the same documents cut into other shards are added again,
    which changes no answer. Gives what `info` gives, and what was `added`.

    RecipeError where the run has no such step or the index has other settings, which it names; BusyError while another
    process adds to it.
    """
    steps = state(run)
    settings = _settings(run, _near(run, steps, near))
    folder, manifest = _documents(run, steps, of)
    source = _manifest(run, next(step for step in steps if step["kind"] == "ingest"))[1].id
    wanted = _columns(settings["per"])
    lost = [name for name in wanted if manifest.rows and name not in manifest.columns]
    if lost:
        raise RecipeError(f"the documents in {folder} have no '{lost[0]}', by which `near` compared: `carry:` it there")
    _refuse_strangers(uri)
    with store.hold(uri):
        before = Index.open(uri) if store.exists(store.join(uri, INDEX)) else None
        held = before.verify if before else "exact"
        settings["verify"] = verify or held
        if before and (other := different(before.settings, settings)):
            raise RecipeError(f"the index {uri} has other settings: {'; '.join(other)}; make another index for these")
        there = {segment.name for segment in before.segments} if before else set()
        jobs = {}
        for shard in manifest.shards:
            name = _name(shard, wanted, settings)
            if shard.rows and name not in there:
                jobs[name] = _Job(uri, name, store.join(folder, shard.name), shard.rows, settings, source)
        _clear(uri, there | jobs.keys())
        made = tuple(_made(jobs, map))
        index = Index(uri, settings, (*(before.segments if before else ()), *made))
        if made or before is None:
            index.save()
    return {**told(index), "added": {"segments": len(made), "documents": sum(one.documents for one in made)}}


def _near(run: str, steps: list[dict[str, Any]], name: str | None) -> dict[str, Any]:
    """The `near` step that is called `name`, or the only one."""
    every = {step["name"]: step for step in steps if step["kind"] == "near"}
    if not every:
        raise RecipeError(f"{run} has no `near` step, whose settings the index would take")
    if name is None and len(every) > 1:
        raise RecipeError(f"{run} has several `near` steps, {', '.join(every)}: name one by --near")
    if name is not None and name not in every:
        raise RecipeError(f"{run} has no `near` step called '{name}'{nearest(name, list(every))}")
    return every[name] if name is not None else next(iter(every.values()))


def _settings(run: str, step: dict[str, Any]) -> dict[str, Any]:
    """How a `near` step sketched, and the column by which it parted documents."""
    parameters = _manifest(run, step)[1].made_by["stage"]["parameters"]
    if parameters["sketch"]["version"] != SKETCH_VERSION:
        raise RecipeError(f"step '{step['name']}' of {run} sketched in another way than this version: run it again")
    return {"sketch": parameters["sketch"], "per": parameters["per"]}


def _documents(run: str, steps: list[dict[str, Any]], of: str | None) -> tuple[str, Manifest]:
    """Folder and manifest of the documents to add."""
    every = {step["name"]: step for step in steps if step["kind"] in ("ingest", "select")}
    selects = [name for name, step in every.items() if step["kind"] == "select"]
    if of is None and not selects:
        raise RecipeError(f"{run} has no `select` step: name the step whose documents are meant by --of")
    wanted = of or selects[-1]
    if wanted not in every:
        hint = nearest(wanted, list(every)) or f"; those are {', '.join(every)}"
        raise RecipeError(f"{run} has no step of documents called '{wanted}'{hint}")
    return _manifest(run, every[wanted])


def _manifest(run: str, step: dict[str, Any]) -> tuple[str, Manifest]:
    folder = store.join(run, step["folder"])
    manifest = Manifest.load(folder)
    if manifest is None:
        raise RecipeError(f"step '{step['name']}' of {run} is unfinished: `curate run` finishes it")
    return folder, manifest


def _refuse_strangers(uri: str) -> None:
    """A folder with files that no index has is probably another one than was meant."""
    names = store.listing(uri)
    others = [name for name in names if not name.startswith(".") and not name.endswith(_SUFFIX)]
    if others and INDEX not in names:
        raise RecipeError(f"{uri} has files of another kind, such as {others[0]}: an index wants a folder of its own")


def _clear(uri: str, kept: set[str]) -> None:
    """Remove what a killed process left and this one has no use for."""
    store.clear_leftovers(uri)
    for name in store.listing(uri):
        if name.endswith(_SUFFIX) and name not in kept:
            store.remove(store.join(uri, name))


def _name(shard: Shard, wanted: tuple[str, ...], settings: dict[str, Any]) -> str:
    """The segment of a shard: equal names, equal content."""
    columns = {name: shard.columns[name] for name in wanted} if shard.rows else {}
    return fingerprint({"version": VERSION, "settings": settings, "columns": columns}) + _SUFFIX


@dataclass(frozen=True)
class _Job:
    """A segment to make of one file of documents."""

    index: str
    name: str
    file: str
    rows: int
    settings: dict[str, Any]
    source: str


def _made(jobs: dict[str, _Job], map: Map) -> Iterator[Segment]:
    """The segments; those that finish stay where one fails, for the next `add`."""
    results = list(map(partial(attempt, work=_segment), jobs.values()))
    pairs = zip(jobs.values(), results, strict=True)
    failed = [(store.basename(job.file), r.message, r.exit_code) for job, r in pairs if isinstance(r, Failed)]
    if failed:
        raise UnitsFailed("index", failed, len(results))
    yield from results


def _segment(job: _Job) -> Segment:
    """Make a segment, or take the one that an `add` wrote before it was killed."""
    place = store.join(job.index, job.name)
    if store.exists(place):
        try:
            with reading(place) as reader:
                digest, layout = reader.check(), reader.layout
            counts = (layout.documents, layout.text, layout.entries, layout.keys)
            return Segment(job.name, *counts, store.size(place), digest, job.source)
        except AssetError:
            store.remove(place)
    table = read(((job.file, _columns(job.settings["per"])),), job.rows)
    contents = _contents(table, job.settings)
    offsets, _ = utf8(table["text"])
    text = int(offsets[-1] - offsets[0])
    data = encode(contents, documents=job.rows, text=text)
    store.put(place, data)
    return Segment(
        job.name, job.rows, text, len(contents.high), len(contents.keys), len(data), sha256(data), job.source
    )


def _columns(per: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(("id", "origin", "text", *((per,) if per else ()))))


def _contents(table: pa.Table, settings: dict[str, Any]) -> Contents:
    """Keys and entries of some documents. Those without shingles are like no other and have none; of several with one
    text the first is the entry, and has the keys of all: they may differ by scope."""
    sketch = sketch_of(settings)
    bodies, speaks, keys = [], [], []
    for part in _parts(table, sketch):
        first, sets = sketch.sets(part["text"])
        signatures = sketch.signed(first, sets)
        own = np.empty((part.num_rows, sketch.bands), np.uint64)
        band_keys(signatures, own)
        keys.append(scoped(own, part[settings["per"]]) if settings["per"] else own)
        speaks.append(first[1:] > first[:-1])
        bodies.append(shingle_bodies(first, sets) if settings["verify"] == "exact" else signature_bodies(signatures))
    ids = halves(table["id"])
    rows = np.flatnonzero(np.concatenate(speaks))
    rows = rows[np.lexsort((ids[rows, 1], ids[rows, 0]))]
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (ids[rows[1:]] != ids[rows[:-1]]).any(axis=1)
    number = np.cumsum(is_first) - 1
    entries = rows[is_first]
    taken, holder = np.unique(np.concatenate(keys)[rows].reshape(-1), return_index=True)
    take = pa.array(entries)
    return Contents(
        keys=taken,
        numbers=number[holder // sketch.bands].astype(np.uint32),
        high=ids[entries, 0],
        low=ids[entries, 1],
        origins=one(table["origin"]).take(take),
        bodies=pa.concat_arrays(bodies).take(take),
    )


def _parts(table: pa.Table, sketch: Sketch) -> Iterator[pa.Table]:
    """The table a megabyte of text or so at a time."""
    offsets, _ = utf8(table["text"])
    most = max(1, _VALUES_AT_ONCE // sketch.hashes)
    for start, stop in stretches(offsets, _TEXT_AT_ONCE, most):
        yield table.slice(start, stop - start)
