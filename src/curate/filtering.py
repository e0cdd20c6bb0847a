"""One-off filtering: the engine of `run` on a file, a folder, a glob or standard input, without a recipe.

Survivors go to one file with all their input columns; dropped rows beside it with the rule that dropped them and, for
duplicates, the survivor. Nothing else is left behind.
"""

import contextlib
import glob
import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate import expressions, store
from curate.columns import carried, field_of, renamed
from curate.errors import RecipeError, StoreError, nearest
from curate.execute import serial
from curate.recipe import Node, Recipe, build, kinds
from curate.run import Event, Result, run
from curate.signals import columns, families_of
from curate.stage import Gathers, Map
from curate.stages.code import Code
from curate.stages.confirm import Confirm
from curate.stages.exact import Exact
from curate.stages.ingest import Ingest, Input, Normalize
from curate.stages.near import Near
from curate.stages.select import Select
from curate.unit import first_reject
from curate.view import View, read

STAGES = ("language", "heuristics", "code", "exact", "near")
"""Stages that one-off filtering can use, in this order; `near` stands for itself and `confirm`."""
SHARD = 32 << 20  # small, as pages that are used again need not be asked for again
BATCH = 20_000
SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst")
_EMPTY = {"id", "source", "source_id", "url"}
"""Columns that a recipe fills from fields it names; `filter` names none."""
_MAGIC = {b"PAR1": ".parquet", b"\x28\xb5\x2f\xfd": ".jsonl.zst", b"\x1f\x8b": ".jsonl.gz"}


def filter_files(
    source: str,
    target: str,
    *,
    stages: tuple[str, ...] = (),
    rules: tuple[str, ...] = (),
    where: str | None = None,
    dropped: str | None = None,
    text: str = "text",
    code_language: str = "language",
    jaccard: float = 0.7,
    map: Map = serial,
    report: Callable[[Event], None] = lambda event: None,
) -> dict[str, Any]:
    """Filter `source` (file, folder, glob, or `-`) into `target` (or `-`); the format is the suffix's.

    `stages`: those of `STAGES`. With `exact`, later copies go unless `where` says what to do with `duplicate`; with
    `near` the same of `near_duplicate`, which is proved at `jaccard`. Stages that the rules need are added.
    `code_language` names the field with the programming language, for `code`. Returns
    rows in, kept, dropped by rule, rejected, and the files written.
    """
    if not source:
        raise RecipeError("IN is empty: give a file, a folder, a glob, or - for standard input")
    nodes = _nodes(stages, rules, where, code_language, jaccard)
    outputs = _outputs(target, dropped)
    if source != "-":
        _refuse_overwriting(source, outputs)
    place = store.parent(store.absolute(target)) if target != "-" and store.is_local(target) else None
    with _scratch(place) as folder:
        files = _spool(folder) if source == "-" else source
        one = Input(
            files=(store.absolute(files) if store.is_local(files) else files,),
            text=text,
            id=None,
            url=None,
            source="input",
            normalize=Normalize("none", "keep"),
        )
        recipe = Recipe(
            "filter",
            folder if source == "-" else store.absolute("."),
            Ingest(inputs=(one,), shard_bytes=SHARD, max_rejects=1.0),
            nodes,
        )
        result = run(recipe, store.join(folder, "run"), map=map, report=report, compression="none")
        return _write(result, outputs, text)


@dataclass(frozen=True)
class Mark(Select):
    """The rules of `select` without its survivors: here they are written once, in the format that is asked for."""

    kind: ClassVar[str] = "mark"
    gathers: ClassVar[Gathers] = ""


@dataclass(frozen=True)
class Outputs:
    """Where survivors, dropped rows and rejected records go; None: nowhere."""

    kept: str
    dropped: str | None
    rejects: str | None

    @property
    def files(self) -> tuple[str, ...]:
        """Those that are files."""
        return tuple(name for name in (self.kept, self.dropped, self.rejects) if name is not None and name != "-")


def _outputs(target: str, dropped: str | None) -> Outputs:
    if target == "-" and dropped in (None, "-"):
        if dropped:
            raise RecipeError("OUT and --dropped both want standard output: let one be a file")
        return Outputs(target, None, None)
    beside = dropped if target == "-" and dropped is not None else target
    stem = beside.removesuffix(_suffix(beside))
    if dropped is None:
        dropped = f"{stem}.dropped{_suffix(target)}"
    outputs = Outputs(target, dropped, f"{stem}.rejects.jsonl")
    for name in outputs.files:
        _suffix(name)
        if sum(store.same(name, other) for other in outputs.files) > 1:
            raise RecipeError(f"{name} would be written twice: OUT, --dropped and {outputs.rejects} are three files")
    return outputs


def _refuse_overwriting(source: str, outputs: Outputs) -> None:
    """An output among the inputs would be lost, or read by the next such call."""
    pattern = store.absolute(source)
    below = f"{glob.escape(pattern)}/**" if store.listing(pattern) else pattern
    for name in outputs.files:
        if store.same(name, source) or store.matches(below, store.absolute(name)):
            raise RecipeError(f"{name} would be read and written at once: {source} matches it; choose another output")


def _nodes(
    stages: tuple[str, ...], rules: tuple[str, ...], where: str | None, code_language: str, jaccard: float
) -> tuple[Node, ...]:
    known = {kind: kinds()[kind] for kind in STAGES}
    for kind in stages:
        if kind not in known:
            raise RecipeError(
                f"--with {kind}: no such stage here{nearest(kind, list(known)) or '; there are ' + ', '.join(known)}"
            )
    keep = {}
    named = set(expressions.columns(where)) if where else set()
    for name in sorted(named & _EMPTY):
        raise RecipeError(f"--where: '{name}' says nothing here; a field of the input called so is 'in_{name}'")
    if "exact" in stages and "duplicate" not in named:
        keep["first_copy"] = "not duplicate"
    if "near" in stages and "near_duplicate" not in named:
        keep["original"] = "not near_duplicate"
    if where:
        keep["where"] = where
    if not keep and not rules:
        raise RecipeError("nothing to filter by: give --rules, --where, or --with exact or near")
    select = build(Mark, {"keep": keep, "rules": list(rules)}, where="filter")
    # The fewest families that the rules need: the others would cost as much and say nothing.
    families = families_of(select.reads) or ("quality",)
    parameters: dict[str, dict[str, Any]] = {
        "heuristics": {"signals": list(families)},
        "code": {"language": code_language},
        "confirm": {"jaccard": jaccard},
    }
    given = {
        "heuristics": columns(families),
        "code": Code().adds,
        "exact": Exact().adds,
        "near": (*Near().adds, *Confirm(jaccard=0).adds),
    }
    needed = {kind for kind, names in given.items() if set(select.reads) & set(names)}
    wanted = [kind for kind in STAGES if kind in needed or kind in stages]
    wanted += ["confirm"] if "near" in wanted else []
    made = [Node(kind, build(kinds()[kind], parameters.get(kind, {}), where="filter"), None, "", 0) for kind in wanted]
    return (*made, Node("select", select, None, "", 0))


def _write(result: Result, outputs: Outputs, text: str) -> dict[str, Any]:
    base = result.source.manifest
    rule = result.steps[-1][1]
    found = {step.node.stage.kind: dataset for step, dataset in result.steps}
    marks = [found[kind] for kind in ("exact", "confirm") if kind in found]
    survivor = [name for dataset in marks for name in dataset.manifest.columns if name.endswith("duplicate_of")]
    names = _names(result.carried, text)
    rows = [name for name in (outputs.kept, outputs.dropped) if name is not None]
    for column in result.carried:
        if _holds_bytes(column.type) and any(not name.endswith(".parquet") for name in rows):
            raise RecipeError(f"'{field_of(column)}' is {column.type}, which JSON cannot hold: let OUT be parquet")
    view = View(result.source, (rule, *marks))
    wanted = (*names, "rule", *survivor)
    with _sink(outputs.kept) as keep, _sink(outputs.dropped) as drop:
        for index, shard in enumerate(base.shards):
            table = read(view.files(index, wanted), shard.rows)
            # Some rows at a time: to filter the whole shard at once would hold its text twice.
            for start in range(0, max(1, shard.rows), BATCH):
                part = table.slice(start, BATCH)
                keep(_restored(part.filter(part["rule"].is_null()), names))
                drop(_marked(part.filter(part["rule"].is_valid()), names, survivor))
    if result.rejected:
        with _sink(outputs.rejects) as reject:
            for unit in base.units:
                for shard in unit.rejects:
                    with store.open_input(store.join(result.source.folder, shard.name)) as file:
                        reject(_readable(pq.read_table(file)))
    return {
        "rows": base.rows + result.rejected,
        "kept": rule.manifest.total("kept")["rows"],
        "dropped": rule.manifest.total("rule"),
        "rejected": result.rejected,
        "rejects": base.total("rejects"),
        "first_reject": first_reject(result.source.folder, base.units),
        "out": outputs.kept,
        "dropped_out": outputs.dropped,
        "rejects_out": outputs.rejects if result.rejected else None,
        "carried_as": renamed(result.carried),
    }


def _names(columns: pa.Schema, text: str) -> dict[str, str]:
    """Our column names to the input's, in the input's order."""
    names = [(column.name, field_of(column)) for column in columns]
    names.insert(int(columns.metadata[b"text"]), ("text", text))
    return dict(names)


def _restored(table: pa.Table, names: dict[str, str]) -> pa.Table:
    return table.select(list(names)).rename_columns(list(names.values()))


def _marked(table: pa.Table, names: dict[str, str], survivor: list[str]) -> pa.Table:
    plain = _restored(table, names)
    plain = plain.rename_columns([carried(name, ("rule", "survivor")) for name in plain.column_names])
    plain = plain.append_column("rule", table["rule"].cast(pa.string()))
    return plain.append_column("survivor", pc.coalesce(*table.select(survivor).columns)) if survivor else plain


def _holds_bytes(kind: pa.DataType) -> bool:
    inner = [kind.field(index).type for index in range(kind.num_fields)]
    return "binary" in str(kind) if not inner else any(map(_holds_bytes, inner))


def _readable(table: pa.Table) -> pa.Table:
    shown = [raw.decode("utf-8", "backslashreplace") if raw is not None else None for raw in table["raw"].to_pylist()]
    return table.set_column(table.column_names.index("raw"), "raw", pa.array(shown, pa.string()))


@contextlib.contextmanager
def _sink(target: str | None) -> Iterator[Callable[[pa.Table], None]]:
    """A function that appends tables to a file of the suffix's format; the file appears when all is written."""
    if target is None:
        yield lambda table: None
        return
    suffix = ".jsonl" if target == "-" else _suffix(target)
    with contextlib.ExitStack() as stack:
        file: Any = sys.stdout.buffer if target == "-" else stack.enter_context(store.writing(target))
        if suffix == ".parquet":
            writers: list[pq.ParquetWriter] = []

            def parquet(table: pa.Table) -> None:
                with _naming(target):
                    if not writers:
                        writers.append(stack.enter_context(_parquet_writer(file, table.schema)))
                    if table.num_rows:
                        writers[0].write_table(table, row_group_size=BATCH)

            yield parquet
            return
        if suffix.endswith(".gz"):
            import gzip

            file = stack.enter_context(gzip.GzipFile(fileobj=file, mode="wb", mtime=0))
        elif suffix.endswith(".zst"):
            import zstandard

            file = stack.enter_context(zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False))

        def lines(table: pa.Table) -> None:
            with _naming(target):
                _lines(table, file)

        yield lines
        with _naming(target):
            file.flush()


def _parquet_writer(file: Any, schema: pa.Schema) -> pq.ParquetWriter:
    plain = [field.name for field in schema if not pa.types.is_large_string(field.type)]
    return pq.ParquetWriter(file, schema, compression="zstd", compression_level=1, use_dictionary=plain)


@contextlib.contextmanager
def _naming(target: str) -> Iterator[None]:
    """A failure to write is named here, where it is known which of the open files it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error


def _lines(table: pa.Table, file: Any) -> None:
    import polars as pl

    for batch in table.to_batches(max_chunksize=10_000):
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        buffer = io.BytesIO()
        frame.write_ndjson(buffer)
        file.write(buffer.getvalue())


def _suffix(name: str) -> str:
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix
    raise RecipeError(f"cannot tell the format of {name}; names end in {', '.join(SUFFIXES)}")


def _spool(folder: str) -> str:
    """Standard input as a file, named by what it turns out to be."""
    head = sys.stdin.buffer.read(4)
    suffix = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), ".jsonl")
    target = store.join(folder, f"stdin{suffix}")
    with store.writing(target) as file:
        file.write(head)
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
    return target


@contextlib.contextmanager
def _scratch(place: str | None) -> Iterator[str]:
    """A folder for the work, beside the output (where there is room for its like), removed at the end."""
    here = place if place is not None and store.exists(place) else None
    try:
        folder = tempfile.TemporaryDirectory(prefix=".curate-filter-", dir=here)
    except OSError as error:
        raise StoreError(f"cannot write in {here or 'the folder for temporary files'}: {error.strerror}") from error
    with folder as name:
        yield name
