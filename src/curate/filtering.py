"""One-off filtering: the engine of `run` on a file, a folder, a glob or standard input, without a recipe.

Survivors go to one file with all their input columns; dropped rows beside it with the rule that dropped them and, for
duplicates, the survivor. Nothing else is left behind.
"""

import contextlib
import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate import expressions, store
from curate.columns import carried, field_of, renamed
from curate.errors import RecipeError, nearest
from curate.execute import serial
from curate.manifest import Manifest
from curate.recipe import Node, Recipe, build, kinds
from curate.run import Event, Result, run
from curate.stage import Map
from curate.stages.exact import Exact
from curate.stages.heuristics import Heuristics
from curate.stages.ingest import Ingest, Input, Normalize
from curate.stages.select import Select
from curate.view import read

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst")
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
    map: Map = serial,
    report: Callable[[Event], None] = lambda event: None,
) -> dict[str, Any]:
    """Filter `source` (file, folder, glob, or `-`) into `target` (or `-`); the format is the suffix's.

    `stages`: heuristics, exact. With `exact`, later copies go unless `where` says what to do with `duplicate`. Stages
    that the rules need are added. Returns rows in, kept, dropped by rule, rejected, and the files written.
    """
    suffix = ".jsonl" if target == "-" else _suffix(target)
    if dropped is None and target != "-":
        dropped = target.removesuffix(suffix) + ".dropped" + suffix
    out_suffix = _suffix(dropped) if dropped else suffix
    nodes = _nodes(stages, rules, where)
    place = store.parent(store.absolute(target)) if target != "-" and store.is_local(target) else None
    with _scratch(place) as folder:
        files = _spool(folder) if source == "-" else source
        one = Input(
            files=(_pattern(files, target, dropped),),
            text=text,
            id=None,
            url=None,
            source="input",
            normalize=Normalize("none", "keep"),
        )
        recipe = Recipe("filter", store.absolute("."), Ingest(inputs=(one,), max_rejects=1.0), nodes)
        result = run(recipe, store.join(folder, "run"), map=map, report=report)
        return _write(result, target, suffix, dropped, out_suffix, text)


def _nodes(stages: tuple[str, ...], rules: tuple[str, ...], where: str | None) -> tuple[Node, ...]:
    known = {kind: stage for kind, stage in kinds().items() if not stage.gathers and kind in ("heuristics", "exact")}
    for kind in stages:
        if kind not in known:
            raise RecipeError(
                f"--with {kind}: no such stage here{nearest(kind, list(known)) or '; there are ' + ', '.join(known)}"
            )
    keep = {}
    named = set(expressions.columns(where)) if where else set()
    if "exact" in stages and "duplicate" not in named:
        keep["first_copy"] = "not duplicate"
    if where:
        keep["where"] = where
    if not keep and not rules:
        raise RecipeError("nothing to filter by: give --rules, --where, or --with exact")
    select = build(Select, {"keep": keep, "rules": list(rules)}, where="filter")
    wanted = [*dict.fromkeys(stages)]
    for stage in (Heuristics(), Exact()):
        if set(select.reads) & set(stage.adds) and stage.kind not in wanted:
            wanted.append(stage.kind)
    made = [Node(kind, build(known[kind], {}), None, "", 0) for kind in wanted]
    return (*made, Node("select", select, None, "", 0))


def _write(result: Result, target: str, suffix: str, dropped: str | None, out_suffix: str, text: str) -> dict[str, Any]:
    select, survivors = result.steps[-1]
    base = result.source.manifest
    rule = Manifest.load(store.join(select.folder, "rule"))
    assert rule is not None
    marks = [dataset for step, dataset in result.steps if step.node.stage.kind == "exact"]
    names = _names(result.carried, text)
    rejected = None
    with _sink(target, suffix) as keep, _sink(dropped, out_suffix) as drop:
        for shard in survivors.manifest.shards:
            keep(
                _restored(
                    read(
                        ((store.join(survivors.folder, shard.name), tuple(survivors.manifest.columns)),),
                        shard.rows,
                    ),
                    names,
                )
            )
        for index, shard in enumerate(base.shards):
            files = [
                (store.join(result.source.folder, shard.name), tuple(base.columns)),
                (store.join(select.folder, "rule", rule.shards[index].name), ("rule",)),
            ]
            files += [(store.join(mark.folder, mark.manifest.shards[index].name), ("duplicate_of",)) for mark in marks]
            table = read(tuple(files), shard.rows)
            drop(_marked(table.filter(table["rule"].is_valid()), names, bool(marks)))
    if result.rejected:
        beside = target.removesuffix(suffix) if target != "-" else dropped.removesuffix(out_suffix) if dropped else None
        rejected = f"{beside}.rejects.jsonl" if beside else None
        with _sink(rejected, ".jsonl") as reject:
            for unit in base.units:
                if unit.rejected:
                    with store.open_input(store.join(result.source.folder, "rejects", f"{unit.unit}.parquet")) as file:
                        reject(_readable(pq.read_table(file)))
    return {
        "rows": base.rows + result.rejected,
        "kept": survivors.manifest.rows,
        "dropped": rule.total("rule"),
        "rejected": result.rejected,
        "out": target,
        "dropped_out": dropped,
        "rejects_out": rejected,
        "carried_as": renamed(result.carried),
    }


def _names(columns: pa.Schema, text: str) -> dict[str, str]:
    """Our column names to the input's, in the input's order."""
    names = [(column.name, field_of(column)) for column in columns]
    names.insert(int(columns.metadata[b"text"]), ("text", text))
    return dict(names)


def _restored(table: pa.Table, names: dict[str, str]) -> pa.Table:
    return table.select(list(names)).rename_columns(list(names.values()))


def _marked(table: pa.Table, names: dict[str, str], duplicates: bool) -> pa.Table:
    plain = _restored(table, names)
    plain = plain.rename_columns([carried(name, ("rule", "survivor")) for name in plain.column_names])
    plain = plain.append_column("rule", table["rule"].cast(pa.string()))
    return plain.append_column("survivor", table["duplicate_of"]) if duplicates else plain


def _readable(table: pa.Table) -> pa.Table:
    shown = [raw.decode("utf-8", "backslashreplace") if raw is not None else None for raw in table["raw"].to_pylist()]
    return table.set_column(table.column_names.index("raw"), "raw", pa.array(shown, pa.string()))


@contextlib.contextmanager
def _sink(target: str | None, suffix: str) -> Iterator[Callable[[pa.Table], None]]:
    """A function that appends tables to a file of the suffix's format; the file appears when all is written."""
    if target is None:
        yield lambda table: None
        return
    with contextlib.ExitStack() as stack:
        file: Any = sys.stdout.buffer if target == "-" else stack.enter_context(store.writing(target))
        if suffix == ".parquet":
            writers: list[pq.ParquetWriter] = []

            def parquet(table: pa.Table) -> None:
                if not writers:
                    writers.append(stack.enter_context(pq.ParquetWriter(file, table.schema, compression="zstd")))
                writers[0].write_table(table)

            yield parquet
            return
        if suffix.endswith(".gz"):
            import gzip

            file = stack.enter_context(gzip.GzipFile(fileobj=file, mode="wb", mtime=0))
        elif suffix.endswith(".zst"):
            import zstandard

            file = stack.enter_context(zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False))
        yield lambda table: _lines(table, file)
        file.flush()


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


def _pattern(files: str, target: str, dropped: str | None) -> str:
    for written in (target, dropped):
        if written and written != "-" and store.absolute(written) == store.absolute(files):
            raise RecipeError(f"{files} would be read and written at once; choose another output")
    return store.absolute(files) if store.is_local(files) else files


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
    with contextlib.ExitStack() as stack:
        if place is not None and store.exists(place):
            yield stack.enter_context(tempfile.TemporaryDirectory(prefix=".curate-filter-", dir=place))
        else:
            yield stack.enter_context(tempfile.TemporaryDirectory(prefix="curate-filter-"))
