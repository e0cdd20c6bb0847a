"""One document's story, from columns and manifests alone: where it is from, what was measured, what became of it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import expressions, store
from curate.errors import DataError, RecipeError
from curate.manifest import Manifest, Receipt
from curate.outputs import state
from curate.selection import Selection, is_number, numbers, seen, selection
from curate.view import DOCUMENT_COLUMNS, Dataset, read

Place = tuple[int, int]
_SHOWN = 300
_MAP = ("window", "start", "length", "id", "origin", "epoch", "offset")
_EXAMPLE_BYTES = 200
_EXCERPTS, _EXCERPT = 3, 80


def why(out: str, document: str) -> dict[str, Any]:
    """Every copy of a document and what became of it. `document` is an `id` (hex), a `source_id`, an
    `origin` or the end of one after a slash; of a raw document, or of one that a `rephrase` step made.

    In a document's story such a step has the `outputs` that were made of it, each with a story of its own, and the
    `rejected` answers. An output that is asked for by name has its `parent`.

    RecipeError when nothing by that name was ever read.
    """
    steps = state(out)
    base = _manifest(out, steps[0])
    copies = [_story(out, steps, base, place) for place in _find(out, steps[0], base, document)]
    rejects = list(_rejected(out, steps[0], base, document))
    for at, step in enumerate(steps):
        made = Manifest.load(store.join(out, step["folder"])) if step["kind"] == "rephrase" else None
        if made is not None:
            copies += [_offspring(out, steps, at, made, place) for place in _find(out, step, made, document)]
            rejects += [{**one, "stage": step["name"]} for one in _rejected(out, step, made, document)]
    if not copies and not rejects:
        like = _read(store.join(out, steps[0]["folder"]), base, 0, ["origin"])["origin"].slice(0, 1).to_pylist()
        hint = f"; origins here look like {like[0]}" if like else ""
        raise RecipeError(f"{out} has no document with id, source_id or origin {document!r}{hint}")
    return {"document": document, "copies": copies, "rejected": rejects}


def example(out: str) -> dict[str, Any]:
    """The story of one dropped document: a duplicate when there is one, else the first that a rule dropped."""
    steps = state(out)
    base = _manifest(out, steps[0])
    for step in steps:
        if step["kind"] != "select":
            continue
        place = _first_dropped(out, steps, step)
        if place is not None:
            folder = store.join(out, steps[0]["folder"])
            if isinstance(place, str):  # no raw document
                return why(out, place)
            origin = _read(folder, base, place[0], ["origin"])["origin"][place[1]].as_py()
            return {"document": origin, "copies": [_story(out, steps, base, place)], "rejected": []}
    raise RecipeError(f"{out} dropped no document")


def kept_place(rule: list[np.ndarray], units: tuple[Receipt, ...], place: Place) -> Place:
    """Where a kept row went: shard and row among the survivors. `rule` is True for dropped rows, per input shard."""
    shard, row = place
    first = 0
    for unit, receipt in enumerate(units):
        rows, last = 0, first
        while last < len(rule) and (rows < receipt.rows_in or len(rule[last]) == 0):
            rows += len(rule[last])
            last += 1
        if shard < last:
            before = sum(int(np.count_nonzero(~one)) for one in rule[first:shard])
            return unit, before + int(np.count_nonzero(~rule[shard][:row]))
        first = last
    raise DataError(f"shard {shard} is in no group of survivors; run `curate verify`")


def _find(out: str, step: dict[str, Any], base: Manifest, document: str) -> Iterator[Place]:
    folder = store.join(out, step["folder"])
    key = bytes.fromhex(document) if len(document) == 32 and _hex(document) else None
    for shard in range(len(base.shards)):
        table = _read(folder, base, shard, ["id", "source_id", "origin"])
        origin = pc.or_kleene(pc.equal(table["origin"], document), pc.ends_with(table["origin"], "/" + document))
        hit = pc.or_kleene(origin, pc.equal(table["source_id"], document))
        if key is not None:
            hit = pc.or_kleene(hit, pc.equal(table["id"], pa.scalar(key, pa.binary(16))))
        for row in np.flatnonzero(pc.fill_null(hit, False).to_numpy()):
            yield shard, int(row)


def _rejected(out: str, step: dict[str, Any], base: Manifest, document: str) -> Iterator[dict[str, Any]]:
    folder = store.join(out, step["folder"])
    for shard in (shard for receipt in base.units for shard in receipt.rejects):
        table = read(((store.join(folder, shard.name), ("origin", "reason", "raw")),), shard.rows)
        origin = table["origin"]
        # Of what `rephrase` made, the name of a passage stands for all its candidates, that of a document for all.
        part = pc.starts_with(origin, document + ".") if "#" in document else False
        for row in table.filter(pc.or_(pc.equal(origin, document), part)).to_pylist():
            yield {"origin": row["origin"], "reason": row["reason"], "raw": _shown(row["raw"])}


def _story(out: str, steps: list[dict[str, Any]], base: Manifest, place: Place) -> dict[str, Any]:
    folder = store.join(out, steps[0]["folder"])
    names = [name for name in DOCUMENT_COLUMNS if name in base.columns]
    row = _row(folder, base, place, names)
    return {**row, "text": _shown(row["text"]), **_walk(out, steps, 0, row, place)}


def _offspring(out: str, steps: list[dict[str, Any]], at: int, made: Manifest, place: Place) -> dict[str, Any]:
    """The story of a row that step number `at` made, with the document that it was made of."""
    row = _row(store.join(out, steps[at]["folder"]), made, place, list(made.columns))
    parent = {"id": row["parent"], "origin": row["origin"].rpartition(f"#{row['style']}")[0]}
    walked = _walk(out, steps, at, row, place)
    return {**row, "text": _shown(row["text"]), "parent": parent, "made_by": steps[at]["name"], **walked}


def _made(out: str, steps: list[dict[str, Any]], at: int, row: dict[str, Any], shard: int) -> dict[str, Any]:
    """What step number `at` made of a document: `outputs` with their stories, and `rejected` answers. A shard's rows
    are of the documents of that shard."""
    folder, manifest = store.join(out, steps[at]["folder"]), _manifest(out, steps[at])
    names, prefix = ["origin", "parent"], row["origin"] + "#"
    table = _read(folder, manifest, shard, names)
    same = pc.equal(table["parent"], pa.scalar(bytes.fromhex(row["id"]), pa.binary(16)))
    mine = np.flatnonzero(pc.and_(same, pc.starts_with(table["origin"], prefix)).to_numpy())
    outputs = [_offspring(out, steps, at, manifest, (shard, int(number))) for number in mine]
    rejected = []
    for file in manifest.units[shard].rejects:
        aside = read(((store.join(folder, file.name), ("origin", "reason", "raw")),), file.rows)
        found = aside.filter(pc.starts_with(aside["origin"], prefix)).to_pylist()
        rejected += [{**one, "raw": _shown(one["raw"])} for one in found]
    return {"outputs": outputs, "rejected": rejected}


def _walk(out: str, steps: list[dict[str, Any]], start: int, row: dict[str, Any], place: Place) -> dict[str, Any]:
    """`stages` and `outcome` of a document from step number `start`, whose row it is, on."""
    origin = row["origin"]
    story: dict[str, Any] = {"stages": []}
    outcomes: list[str] = []
    # A recipe may branch, and branches may meet again: then the document is in several places.
    places: dict[str, list[Place]] = {steps[start]["name"]: [place]}
    for at, step in enumerate(steps[start + 1 :], start + 1):
        manifest = Manifest.load(store.join(out, step["folder"]))
        if manifest is None:
            continue
        if step["kind"] == "concat":
            folder, places[step["name"]] = store.join(out, step["folder"]), []
            for branch, here in _joined(out, steps, step, places):
                places[step["name"]].append(here)
                found = {"branch": branch, "source": _row(folder, manifest, here, ["source"])["source"]}
                story["stages"].append({"stage": step["name"], "kind": "concat", "columns": found})
            continue
        for here in dict.fromkeys(places.get(step["documents"], [])):
            told: dict[str, Any] = {"stage": step["name"], "kind": step["kind"]}
            if step["kind"] == "select":
                rule, dropped = _rules(store.join(out, step["folder"]))
                told["rule"] = rule[here[0]][here[1]].as_py()
                if told["rule"] is None:
                    places.setdefault(step["name"], []).append(kept_place(dropped, manifest.units, here))
                else:
                    told |= _failed(selection(out, step["name"]), told["rule"], here)
                    outcomes.append(f"dropped by {told['rule']} in {step['name']}")
            elif step["kind"] == "pack":
                told["windows"] = _windows(store.join(out, step["folder"]), manifest, row["id"], origin)
                count = len({(window["prefix"], window["window"]) for window in told["windows"]})
                many = f"{count} window{'' if count == 1 else 's'}" if count else "kept, but drawn by no window"
                outcomes.append(f"{'in ' if count else ''}{many} of {step['name']}")
            elif step["kind"] == "rephrase":
                told |= _made(out, steps, at, row, here[0])
                counts = {"row": len(told["outputs"]), "rejected answer": len(told["rejected"])}
                words = [f"{count} {word}{'' if count == 1 else 's'}" for word, count in counts.items() if count]
                outcomes.append(f"{' and '.join(words) or 'nothing'} in {step['name']}")
            else:
                told |= _measured(out, steps, at, Dataset(store.join(out, step["folder"]), manifest), here)
            story["stages"].append(told)
            if step["kind"] == "pack":  # windows are found by name: they are those of all places
                break
    # What became of the document is told for every branch that settled it.
    story["outcome"] = "; ".join(dict.fromkeys(outcomes)) or "kept"
    return story


def _joined(
    out: str, steps: list[dict[str, Any]], step: dict[str, Any], places: dict[str, list[Place]]
) -> Iterator[tuple[str, Place]]:
    """Where the documents at these places of branches are behind the step that joins them, and which branch it is."""
    first = 0
    folders = {one["name"]: store.join(out, one["folder"]) for one in steps}
    for name in step["documents"]:
        base = Manifest.load(folders[name])
        if base is None:
            return
        yield from ((name, (first + shard, row)) for shard, row in places.get(name, []))
        first += len(base.shards)


def _failed(step: Selection, rule: str, place: Place) -> dict[str, Any]:
    """The condition of the rule that dropped a row, and what it was told: the columns that it names."""
    condition = step.conditions[rule.removesuffix(":unknown")]
    names = expressions.columns(condition)
    row = step.table(place[0], names).slice(place[1], 1)
    values: dict[str, Any] = {}
    for name in names:
        value = row[name][0].as_py()
        if isinstance(value, float) and is_number(str(row[name].type)):
            value = float(numbers(row[name])[0])  # as it was compared: float32 by its seven digits
        values[name] = value.hex() if isinstance(value, bytes) else _shown(value) if isinstance(value, str) else value
    return {"condition": condition, "values": values}


def _measured(out: str, steps: list[dict[str, Any]], at: int, made: Dataset, place: Place) -> dict[str, Any]:
    """What step number `at` says of a row: `columns`, texts not in full, and `removed` where it rewrote the text."""
    kinds = made.manifest.columns
    row = _row(made.folder, made.manifest, place, [name for name, kind in kinds.items() if _is_short(kind)])
    told: dict[str, Any] = {"columns": {name: _shown(v) if isinstance(v, str) else v for name, v in row.items()}}
    spans = next((name for name, kind in kinds.items() if name.endswith("removed") and "struct" in kind), None)
    if spans is not None:
        shard, number = place
        before = seen(out, steps, at, made, ("text",)).files(shard, ("text",))
        text = read(before, made.manifest.shards[shard].rows)["text"][number].as_py()
        told["removed"] = _removed(_row(made.folder, made.manifest, place, [spans])[spans], text)
    return told


def _is_short(kind: str) -> bool:
    """True unless a column holds lists, but for counts in a list of fixed size, such as copies by phase."""
    return "list" not in kind or (kind.startswith("fixed_size_list") and "int32" in kind)


def _removed(spans: list[dict[str, Any]], text: str) -> dict[str, Any]:
    """What a stage took out of a text: how much, for which reasons, and the first pieces."""
    data = text.encode()
    reasons: dict[str, int] = {}
    for span in spans:
        reasons[span["reason"]] = reasons.get(span["reason"], 0) + 1
    pieces = [(span["reason"], data[span["start"] : span["end"]]) for span in spans[:_EXCERPTS]]
    return {
        "spans": len(spans),
        "bytes": sum(span["end"] - span["start"] for span in spans),
        "reasons": dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        "excerpts": [{"reason": reason, "text": _shown(piece, _EXCERPT)} for reason, piece in pieces],
    }


def _windows(folder: str, manifest: Manifest, key: str, origin: str) -> list[dict[str, Any]]:
    found = []
    for shard in manifest.shards:
        if shard.name.startswith("map/"):
            table = read(((store.join(folder, shard.name), _MAP),), shard.rows)
            mine = pc.and_(
                pc.equal(table["origin"], origin),
                pc.equal(table["id"], pa.scalar(bytes.fromhex(key), pa.binary(16))),
            )
            prefix = shard.name.removeprefix("map/").removesuffix(".parquet")
            for row in table.filter(mine).drop_columns(["id", "origin"]).to_pylist():
                found.append({"prefix": prefix, **row})
    return found


def _first_dropped(out: str, steps: list[dict[str, Any]], step: dict[str, Any]) -> Place | str | None:
    """A document that a `select` dropped, of some length, and a duplicate if there is one: its place among the raw
    ones, or its origin if it was made of one of those."""
    behind = next(s for s in steps if s["name"] == step["documents"])
    folder, base = store.join(out, behind["folder"]), _manifest(out, behind)
    _, dropped = _rules(store.join(out, step["folder"]))
    exact = next((s for s in steps if s["kind"] == "exact" and s["documents"] == behind["name"]), None)
    best: tuple[int, Place] | None = None
    for shard, gone in enumerate(dropped):
        table = _read(folder, base, shard, ["bytes"])
        score = gone * 1 + gone * (table["bytes"].to_numpy() >= _EXAMPLE_BYTES)
        if exact is not None:
            marked = _manifest(out, exact)
            name = next(name for name in marked.columns if name.endswith("duplicate"))  # a named stage prefixes it
            marks = _read(store.join(out, exact["folder"]), marked, shard, [name])
            duplicate = np.asarray(marks[name].to_pylist(), bool)
            score = score + 2 * gone * duplicate * (score > 1)
        row = int(np.argmax(score)) if len(score) else 0
        if len(score) and score[row] > (best[0] if best else 0):
            best = (int(score[row]), (shard, row))
    if best is None or behind is steps[0]:
        return best[1] if best else None
    shard, row = best[1]
    origin = _read(folder, base, shard, ["origin"])["origin"][row].as_py()
    return next(_raw_places(out, steps[0], origin), str(origin))


def _raw_places(out: str, step: dict[str, Any], origin: str) -> Iterator[Place]:
    """Where the raw documents of this origin are; one has it."""
    base = _manifest(out, step)
    for shard in range(len(base.shards)):
        origins = _read(store.join(out, step["folder"]), base, shard, ["origin"])["origin"]
        for row in np.flatnonzero(pc.equal(origins, origin).to_numpy()):
            yield shard, int(row)


def _rules(folder: str) -> tuple[list[pa.ChunkedArray], list[np.ndarray]]:
    place = store.join(folder, "rule")
    manifest = Manifest.load(place)
    if manifest is None:
        raise DataError(f"{place} is unfinished; run `curate run` again")
    columns = [_read(place, manifest, shard, ["rule"])["rule"] for shard in range(len(manifest.shards))]
    return columns, [np.asarray(column.is_valid().to_pylist(), bool) for column in columns]


def _manifest(out: str, step: dict[str, Any]) -> Manifest:
    manifest = Manifest.load(store.join(out, step["folder"]))
    if manifest is None:
        raise RecipeError(f"stage '{step['name']}' of {out} is unfinished; `curate run` finishes it")
    return manifest


def _read(folder: str, manifest: Manifest, shard: int, columns: list[str]) -> pa.Table:
    one = manifest.shards[shard]
    return read(((store.join(folder, one.name), tuple(columns)),), one.rows)


def _row(folder: str, manifest: Manifest, place: Place, columns: list[str]) -> dict[str, Any]:
    row = _read(folder, manifest, place[0], columns).slice(place[1], 1).to_pylist()[0]
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}


def _shown(text: str | bytes, most: int = _SHOWN) -> str:
    whole = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    return whole if len(whole) <= most else whole[:most] + "…"


def _hex(text: str) -> bool:
    return all(c in "0123456789abcdefABCDEF" for c in text)
