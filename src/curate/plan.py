"""What a recipe would do: raw files surveyed, every stage given its place on disk and its identity, before any work.

A dataset's identity is a fingerprint of how it is made: the stage, the identities of what it reads, the content of its
assets. So all identities are known from the raw files alone, and a folder that has its manifest is finished for good.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import pyarrow as pa

from curate import assets, raw, signals, store
from curate.errors import AssetError, RecipeError, UnitsFailed, nearest
from curate.execute import Failed, attempt
from curate.manifest import Manifest, canonical, fingerprint, parse_sealed, sealed, unsealed
from curate.recipe import Node, Recipe
from curate.stage import MAKES_DOCUMENTS, Map, Stage
from curate.stages.code import Code
from curate.stages.confirm import Confirm
from curate.stages.exact import Exact
from curate.stages.ingest import Ingest
from curate.stages.language import Language
from curate.stages.near import Near
from curate.view import DOCUMENT_COLUMNS

Seen = tuple[int, tuple[int, ...]]
"""Indices of the step whose documents are seen (-1: the raw ones) and of those whose columns are."""

SURVEY = "raw.json"
STATE = "run.json"


@dataclass(frozen=True)
class Source:
    """The raw side of a run: files with digests, the columns documents will have, units of work, identity."""

    id: str
    folder: str
    made_by: dict[str, Any]
    ingest: Ingest
    described: tuple[raw.Described, ...]
    schema: pa.Schema
    units: tuple[raw.Unit, ...]
    threshold: int | None

    @property
    def share(self) -> float:
        """Share of the raw records that `limit` leaves; 1 without it."""
        records = sum(file.records or 0 for file in self.described)
        return min(1.0, self.ingest.limit / records) if self.ingest.limit and records else 1.0

    def unit_key(self, unit: raw.Unit) -> str:
        """All that a unit's documents depend on."""
        how = asdict(self.ingest.inputs[unit.input])
        del how["files"]
        files = zip(unit.slices, unit.digests, strict=True)
        slices = [[s.name, content, s.start, s.stop, s.first_record] for s, content in files]
        return fingerprint(
            {
                "kind": "ingest",
                "version": self.ingest.version,
                "input": how,
                "slices": slices,
                "columns": _columns(self.schema),
                "shard_bytes": self.ingest.shard_bytes,
                "keep": self.threshold,
            }
        )


@dataclass(frozen=True)
class Step:
    """A stage in its place. `documents` and `columns` are indices of the steps it sees (-1: the raw documents);
    `branches` has both for each step that it joins, the first of them once more."""

    node: Node
    id: str
    folder: str
    made_by: dict[str, Any]
    documents: int
    columns: tuple[int, ...]
    gives: tuple[str, ...]
    branches: tuple[Seen, ...] = ()


def survey(recipe: Recipe, out: str, map: Map, *, limit: int | None = None) -> Source:
    """Find and digest the raw files (digests are kept by name, size and time) and plan the units of ingest."""
    ingest = replace(recipe.ingest, limit=limit) if limit is not None else recipe.ingest
    _refuse_loop(recipe, out)
    files = raw.find(recipe.root, ingest.inputs)
    for file in files:
        if store.is_local(file.uri) and store.absolute(file.uri).startswith(store.absolute(out) + "/"):
            raise RecipeError(f"{file.name} is inside the output folder {out}: choose another --out")
    tokens = {file.name: f"{file.size}:{file.token}" for file in files}
    cached = _surveyed(out)
    wanted = raw.chunks(files, count=ingest.limit is not None)
    names = [f"{c.name}:{tokens[c.name]}:{c.start}-{c.stop}:{c.count}" for c in wanted]
    missing = {name: chunk for name, chunk in zip(names, wanted, strict=True) if name not in cached}
    for (name, chunk), result in zip(missing.items(), map(_Survey(), missing.values()), strict=True):
        if isinstance(result, Failed):
            raise UnitsFailed("survey of raw files", [(chunk.name, result.message, result.exit_code)], len(missing))
        cached[name] = result
    if missing:
        kept = {name: asdict(cached[name]) for name in names}
        store.put(store.join(out, SURVEY), canonical(sealed(kept), indent=1))
    described = raw.describe(files, tuple(cached[name] for name in names))
    taken = {"rule", *(name for node in recipe.nodes for name in node.stage.named(node.prefix))}
    schema = raw.schema(described, ingest.inputs, taken)
    threshold = raw.threshold(described, ingest.limit) if ingest.limit is not None else None
    made_by = {
        "stage": _ingest_identity(ingest),
        "files": [[file.name, file.digest] for file in described],
        "read_by": [file.input for file in described],
        "columns": _columns(schema),
    }
    key = fingerprint(made_by)
    units = raw.units(described, ingest)
    return Source(key, store.join(out, f"ingest-{key}"), made_by, ingest, described, schema, units, threshold)


def resolve(recipe: Recipe, out: str, source: Source) -> tuple[Step, ...]:
    """Give every stage its identity and folder; a column that nobody adds is an error here."""
    steps: list[Step] = []
    known: dict[str, Seen] = {"ingest": (-1, ())}
    documents: int = -1
    columns: tuple[int, ...] = ()
    for index, node in enumerate(recipe.nodes):
        if node.source is not None:
            documents, columns = known[node.source]
        branches = tuple(known[name] for name in node.stage.branches)
        if branches:
            documents, columns = branches[0]
        if source.share < 1:
            node = replace(node, stage=node.stage.sampled(source.share))
        have = _visible(source, steps, documents, columns)
        try:
            if branches:
                step = _joining(node, index, out, source, steps, branches)
            else:
                step = _step(node, index, out, source, steps, documents, columns, have)
        except (RecipeError, AssetError) as error:
            raise type(error)(f"{recipe.uri}: {error}" if recipe.uri else str(error)) from error
        steps.append(step)
        if node.stage.gathers:
            documents, columns = (index, ()) if node.stage.gathers in MAKES_DOCUMENTS else (documents, columns)
        else:
            columns = (*columns, index)
        known[node.name] = (documents, columns)
    return tuple(steps)


def needed(steps: tuple[Step, ...], until: str | None) -> frozenset[int]:
    """Indices of the steps that the step called `until` stands on, and its own; of all without a name."""
    if until is None:
        return frozenset(range(len(steps)))
    found: set[int] = set()
    open_: list[int] = [next(index for index, step in enumerate(steps) if step.node.name == until)]
    while open_:
        index = open_.pop()
        if index < 0 or index in found:
            continue
        found.add(index)
        step, stage = steps[index], steps[index].node.stage
        wanted = {*stage.reads, *stage.applies_to, *(step.gives if stage.gathers in ("neighbours", "branches") else ())}
        for documents, columns in step.branches or ((step.documents, step.columns),):
            open_ += [documents, *{name: i for i in columns for name in steps[i].gives if name in wanted}.values()]
    return frozenset(found)


def save_state(recipe: Recipe, out: str, source: Source, steps: Iterable[Step]) -> None:
    """Write which folders make up the run, for `why`, `outputs`, `verify` and the next `plan`."""
    places: list[dict[str, Any]] = [
        {"name": "ingest", "kind": "ingest", "folder": store.basename(source.folder), "documents": None}
    ]
    names = {-1: "ingest"}
    for index, step in enumerate(steps):
        names[index] = step.node.name
        joined = [names[documents] for documents, _ in step.branches]
        places.append(
            {
                "name": step.node.name,
                "kind": step.node.stage.kind,
                "folder": store.basename(step.folder),
                "documents": joined or names[step.documents],
            }
        )
    store.put(store.join(out, STATE), canonical(sealed({"recipe": recipe.name, "steps": places}), indent=1))


def previous(out: str) -> dict[str, str]:
    """Folder names of the last run by stage name."""
    uri = store.join(out, STATE)
    if not store.exists(uri):
        return {}
    return {step["name"]: step["folder"] for step in parse_sealed(uri)["steps"]}


def because(out: str, name: str, made_by: dict[str, Any]) -> str:
    """Why a stage that ran before must run again: the first difference, in words."""
    folder = previous(out).get(name)
    before = Manifest.load(store.join(out, folder)) if folder else None
    if before is None:
        return ""
    changes = _changes(before.made_by, json.loads(canonical(made_by)))
    return "; ".join(changes[:3]) + (f"; {len(changes) - 3} more" if len(changes) > 3 else "")


def _step(
    node: Node,
    index: int,
    out: str,
    source: Source,
    steps: list[Step],
    documents: int,
    columns: tuple[int, ...],
    have: dict[str, int],
) -> Step:
    stage = node.stage
    wanted = tuple(dict.fromkeys((*stage.reads, *stage.applies_to)))
    for name in wanted:
        if name not in have:
            hint = nearest(name, list(have)) or f"; there are {', '.join(sorted(have))}"
            later = [n.stage.kind for n in _adders(name, steps)]
            tail = f"; '{later[0]}' adds it, but not to these rows" if later else _adder(name, stage) or hint
            raise RecipeError(f"{_place(node, index)} reads '{name}', which no stage before it adds{tail}")
    named = stage.named(node.prefix)
    rewritten = have["text"]
    taken = {name for s in steps if not s.node.stage.gathers and _text(s, steps) == rewritten for name in s.gives}
    for name in () if stage.gathers else named:
        if name not in stage.rewrites and (have.get(name, rewritten - 1) >= rewritten or name in taken):
            raise RecipeError(f"{_place(node, index)} adds '{name}', which is there already; give it a `name:`")
    made = {name: _maker(name, i, source, steps) for name, i in have.items()}
    gives = _kept(node, index, source, steps, documents, columns, have) if stage.gathers == "neighbours" else named
    held = wanted if gives == named else (*wanted, *gives)
    ids = {source.id if i < 0 else steps[i].id for i in {documents, *(have[name] for name in held)}}
    try:
        node = replace(node, stage=stage.bind(made))
        stage = node.stage
        made_by: dict[str, Any] = {"stage": stage.identity(), "name": node.name, "inputs": sorted(ids)}
        if stage.asset_fields:
            made_by["assets"] = {field: digest(assets.find(place)) for field, place in stage.assets.items()}
    except (AssetError, RecipeError) as error:
        raise type(error)(f"{_place(node, index)}: {error}") from error
    key = fingerprint(made_by)
    return Step(node, key, store.join(out, f"{node.name}-{key}"), made_by, documents, columns, gives)


def _joining(node: Node, index: int, out: str, source: Source, steps: list[Step], branches: tuple[Seen, ...]) -> Step:
    """A step that joins branches: it gives the columns that any of them carries."""
    have = [_visible(source, steps, *branch) for branch in branches]
    kept = [_kept(node, index, source, steps, *branch, one) for branch, one in zip(branches, have, strict=True)]
    gives = tuple(dict.fromkeys(name for names in kept for name in names))
    for name in getattr(node.stage, "carry", ()):
        if name not in gives:
            raise RecipeError(
                f"{_place(node, index)} carries '{name}', which no stage adds to any branch" + nearest(name, gives)
            )
    inputs = [
        sorted({source.id if i < 0 else steps[i].id for i in (documents, *(one[name] for name in names))})
        for (documents, _), one, names in zip(branches, have, kept, strict=True)
    ]
    made_by = {"stage": node.stage.identity(), "name": node.name, "inputs": inputs}
    key = fingerprint(made_by)
    return Step(node, key, store.join(out, f"{node.name}-{key}"), made_by, *branches[0], gives, branches)


def _adder(name: str, reader: Stage) -> str:
    """The stage that adds a column, as a hint."""
    if isinstance(reader, Code):
        return "; `language:` of `code` (--code-language) is the column that names the programming language"
    if families := signals.families_of([name]):
        return f"; `heuristics: {{signals: [{families[0]}]}}` adds it"
    known = (Language(), Code(parse=True), Exact(), Near(), Confirm(jaccard=0))
    kinds = [stage.kind for stage in known if name in stage.adds]
    return f"; the stage `{kinds[0]}` adds it" if kinds else ""


def _kept(
    node: Node,
    index: int,
    source: Source,
    steps: list[Step],
    documents: int,
    columns: tuple[int, ...],
    have: dict[str, int],
) -> tuple[str, ...]:
    """Columns that survivors take along: the documents' own, what was rewritten, what rules name, and `carry`."""
    own = [*_visible(source, steps, documents, ()), *(n for i in columns for n in steps[i].node.stage.rewrites)]
    for name in getattr(node.stage, "carry", ()):
        if name not in have and not node.stage.branches:
            raise RecipeError(
                f"{_place(node, index)} carries '{name}', which no stage before it adds" + nearest(name, list(have))
            )
    carried = [name for name in getattr(node.stage, "carry", ()) if name in have]
    return tuple(dict.fromkeys((*own, *node.stage.reads, *carried)))


def _text(step: Step, steps: list[Step]) -> int:
    """Index of the step whose text a step sees."""
    return max((i for i in step.columns if steps[i].node.stage.rewrites), default=step.documents)


def _place(node: Node, index: int) -> str:
    return f"line {node.line}: stages[{index}] '{node.name}'" if node.line else f"'{node.name}'"


@cache
def digest(asset: assets.Asset) -> str:
    """SHA-256 of an asset's content."""
    return hashlib.sha256(asset.read()).hexdigest()


def _visible(source: Source, steps: list[Step], documents: int, columns: tuple[int, ...]) -> dict[str, int]:
    """Column name to the step that holds it."""
    base = (*DOCUMENT_COLUMNS, *source.schema.names) if documents < 0 else steps[documents].gives
    have = dict.fromkeys(base, documents)
    for index in columns:
        have |= dict.fromkeys(steps[index].gives, index)
    return have


def _maker(name: str, at: int, source: Source, steps: list[Step]) -> dict[str, Any]:
    """`made_by` of the stage that made a column, whichever selections carried it since, and the stage itself."""
    while at >= 0 and steps[at].node.stage.gathers == "neighbours":
        at = _visible(source, steps, steps[at].documents, steps[at].columns)[name]
    if at < 0:
        return {**source.made_by, "maker": None}
    step = steps[at]
    return {**step.made_by, "maker": None if step.branches else step.node.stage}


def _adders(name: str, steps: list[Step]) -> list[Node]:
    return [step.node for step in steps if name in step.gives]


def _columns(schema: pa.Schema) -> list[list[str]]:
    """Of each carried column all that decides what is in it: name, type, and the field and the way it is read."""
    return [
        [field.name, str(field.type), *(b" ".join(item).decode() for item in sorted((field.metadata or {}).items()))]
        for field in schema
    ]


def _ingest_identity(ingest: Ingest) -> dict[str, Any]:
    identity = ingest.identity()
    for one in identity["parameters"]["inputs"]:
        one.pop("files")
    identity["parameters"].pop("max_rejects")
    return identity


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    found: list[str] = []
    old, new = _flat(before.get("stage", {})), _flat(now.get("stage", {}))
    for key in sorted(old.keys() | new.keys()):
        name = key.removeprefix("parameters.")
        if old.get(key) != new.get(key) and name != "conditions":
            found.append(f"{name} {_shown(old.get(key))} -> {_shown(new.get(key))}")
    files, now_files = dict(map(tuple, before.get("files", []))), dict(map(tuple, now.get("files", [])))
    for name in sorted(files.keys() | now_files.keys()):
        if files.get(name) != now_files.get(name):
            word = "new file" if name not in files else "gone file" if name not in now_files else "changed file"
            found.append(f"{word} {name}")
    if files == now_files and before.get("read_by") != now.get("read_by"):
        found.append("files moved to other inputs")
    if before.get("columns") != now.get("columns"):
        found.append("other carried columns")
    if before.get("assets") != now.get("assets"):
        found.append("other content of " + ", ".join(now.get("assets", {})))
    if old.get("parameters.conditions") != new.get("parameters.conditions") and not found:
        found.append("its rules changed")
    if not found and before.get("inputs") != now.get("inputs"):
        found.append("its input changed")
    return found


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        parts = [_flat(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in value.items()]
        return {key: item for part in parts for key, item in part.items()}
    return {prefix: value}


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


class _Survey:
    """`survey` of one chunk, as a unit of work."""

    def __call__(self, chunk: raw.Chunk) -> Any:
        return attempt(chunk, raw.survey)


def _surveyed(out: str) -> dict[str, raw.Survey]:
    uri = store.join(out, SURVEY)
    if not store.exists(uri):
        return {}
    try:
        return {name: raw.Survey.from_json(value) for name, value in unsealed(json.loads(store.read(uri))).items()}
    except (ValueError, TypeError, KeyError):
        return {}  # only a cache: the files are digested again


def _refuse_loop(recipe: Recipe, out: str) -> None:
    """An output folder that the patterns match would be read as input by the next run."""
    from fnmatch import fnmatch

    root, place = store.absolute(recipe.root), store.absolute(out)
    if not place.startswith(root + "/"):
        return
    relative = place[len(root) + 1 :]
    for one in recipe.ingest.inputs:
        for pattern in one.files:
            loose = pattern.removeprefix("./").replace("**/", "*")
            names = (f"{relative}/ingest-0/00000.parquet", f"{relative}/run.json")
            if any(fnmatch(name, loose) or fnmatch(name, pattern.rstrip("/") + "/*") for name in names):
                raise RecipeError(f"the output folder {out} is matched by `files: {pattern}`: choose another --out")
