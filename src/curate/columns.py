"""The columns that ride along: one type per column over all raw files, settled before any work.

Parquet says its types; of jsonl the first records of each file are looked at, by value, so a date stays the string it
is. A field that first appears later in a jsonl file is not carried, and a record that contradicts its column's type
is set aside when it is read. Within a file the commonest type wins; between files only harmless differences pass.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from curate import store, streams
from curate.errors import DataError, nearest
from curate.files import Described
from curate.stages.ingest import Field, Input

RESERVED = ("id", "text", "source", "source_id", "origin", "url", "bytes")
SAMPLE = 4 << 20
SAMPLES = 512 << 20
"""Bytes looked at per jsonl file, and in all; many files are each looked at for less, but never under 64 KiB."""

UNREADABLE = (OSError, ValueError, pa.ArrowException)
"""What Arrow raises for damaged parquet; names that are no UTF-8 are a ValueError."""

ANY = {b"values": b"json"}
"""Metadata of a column whose type nobody knows: text, with other values kept as JSON text."""

Fields = dict[str, pa.DataType]


def schema(described: Sequence[Described], inputs: Sequence[Input], taken: Collection[str] = ()) -> pa.Schema:
    """The carried columns over all files, named as in the documents, in the order in which files name them.

    A field called like a promised column, or like one in `taken`, rides along as `in_NAME` and keeps its own name in
    the column's metadata (`field_of`). The schema's metadata `text` is the number of columns before the text.
    DataError if a file lacks a named field, holds text of a wrong type, is no parquet file, or if two files give one
    column types that cannot both be kept; integers and floats become float64, and null gives way to anything.
    """
    sampled = sum(file.format == "jsonl" for file in described)
    share = max(64 << 10, min(SAMPLE, SAMPLES // max(1, sampled)))
    columns: dict[str, tuple[pa.DataType, str]] = {}
    seen: dict[int, set[str]] = {}
    before: int | None = None
    bad: list[str] = []
    for file in described:
        one = inputs[file.input]
        if file.format == "parquet":
            try:
                fields = _parquet_fields(file, one)
            except DataError as error:
                bad.append(str(error))
                continue
        elif file.format == "jsonl":
            fields = sample(file, share)
            seen.setdefault(file.input, set()).update(fields)
        else:
            _refuse_field_of_text(file, one)
            continue
        for field, kind in fields.items():
            if field not in one.consumed:
                _merge(columns, field, kind, file.name)
            elif field == one.text and before is None:
                before = len(columns)
    if bad:
        more = f"\nand {len(bad) - 10} more" if len(bad) > 10 else ""
        raise DataError("\n".join(bad[:10]) + more)
    for index, names in seen.items():
        _check_named(inputs[index], names)
    names = {*RESERVED, *taken}
    settled = [_settled(field, carried(field, names), kind) for field, (kind, _) in columns.items()]
    return pa.schema(settled, {"text": str(before or 0)})


def carried(field: str, taken: Collection[str]) -> str:
    """The name under which a field rides along: its own, or `in_NAME` where that is taken."""
    return f"in_{field}" if _bare(field) in taken else field


def field_of(column: pa.Field) -> str:
    """The field that a carried column comes from."""
    return str((column.metadata or {}).get(b"field", column.name.encode()).decode())


def renamed(schema: pa.Schema) -> dict[str, str]:
    """Fields that ride along under another name, with that name."""
    return {field_of(column): column.name for column in schema if field_of(column) != column.name}


def untyped(column: pa.Field) -> bool:
    """True for a carried column whose type nobody knows."""
    return ANY.items() <= (column.metadata or {}).items()


def _bare(name: str) -> str:
    while name.startswith("in_"):
        name = name[3:]
    return name


def sample(file: Described, size: int) -> Fields:
    """Fields of the first `size` bytes of a jsonl file with their types; what is no JSON object is passed over."""
    held, got = [], 0
    try:
        for piece in streams.pieces(file.uri, streams.compression(file.name)):
            held.append(piece)
            got += len(piece)
            if got >= size:
                break
    except streams.Damaged:
        pass  # reported, with its place, when the file is read
    lines = b"".join(held)[: max(size, 1)].removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if len(lines) > 1 and got >= size:
        lines.pop()
    counts: dict[str, Counter[pa.DataType]] = {}
    for record in objects(lines):
        for key, value in record.items():
            counts.setdefault(key, Counter())[kind(value)] += 1
    return {key: reduce(_or_first, (each for each, _ in found.most_common())) for key, found in counts.items()}


_SCALARS: dict[type, pa.DataType] = {
    bool: pa.bool_(), float: pa.float64(), str: pa.string(), type(None): pa.null()
}  # fmt: skip


def objects(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON objects among some lines; what is none is passed over."""
    for line in lines:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict):
            yield record


def kind(value: Any) -> pa.DataType:
    """Arrow type of a JSON value; integers beyond 64 bits count as floats."""
    found = _SCALARS.get(type(value))
    if found is not None:
        return found
    if isinstance(value, int):
        return pa.int64() if -(1 << 63) <= value < 1 << 63 else pa.float64()
    if isinstance(value, list):
        return pa.list_(reduce(_or_first, map(kind, value), pa.null()))
    return pa.struct([(key, kind(each)) for key, each in value.items()])


def widen(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """The type that holds values of both, or None."""
    a, b = _simple(a), _simple(b)
    if a.equals(b) or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if pa.types.is_signed_integer(a) and pa.types.is_signed_integer(b):
        return pa.int64()
    if pa.types.is_unsigned_integer(a) and pa.types.is_unsigned_integer(b):
        return pa.uint64()
    if _is_number(a) and _is_number(b):
        mixed = pa.types.is_integer(a) and pa.types.is_integer(b)
        return (pa.int64() if pa.uint64() not in (a, b) else None) if mixed else pa.float64()
    if pa.types.is_list(a) and pa.types.is_list(b):
        inner = widen(a.value_type, b.value_type)
        return None if inner is None else pa.list_(inner)
    if pa.types.is_struct(a) and pa.types.is_struct(b):
        fields = {field.name: field.type for field in a}
        for field in b:
            inner = widen(fields.get(field.name, pa.null()), field.type)
            if inner is None:
                return None
            fields[field.name] = inner
        return pa.struct(list(fields.items()))
    return None


def is_textual(kind: pa.DataType) -> bool:
    """Text in any of Arrow's layouts."""
    return bool(pa.types.is_string(_simple(kind)))


def _simple(kind: pa.DataType) -> pa.DataType:
    """Layouts that differ only in how they are stored count as one type."""
    if pa.types.is_dictionary(kind):
        return _simple(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_large_list(kind):
        return pa.list_(kind.value_type)
    return kind


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _or_first(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    wider = widen(a, b)
    return a if wider is None else wider


def _merge(columns: dict[str, tuple[pa.DataType, str]], name: str, kind: pa.DataType, file: str) -> None:
    if name not in columns:
        columns[name] = (_simple(kind), file)
        return
    before, first = columns[name]
    wider = widen(before, kind)
    if wider is None:
        raise DataError(
            f"column '{name}' is {before} in {first} and {_simple(kind)} in {file}: "
            "give it one type, or another name in one of them"
        )
    columns[name] = (wider, file if pa.types.is_null(before) else first)


def _settled(field: str, name: str, kind: pa.DataType) -> pa.Field:
    filled = _filled(kind)
    metadata = ({b"field": field.encode()} if name != field else {}) | (ANY if filled is None else {})
    return pa.field(name, pa.string() if filled is None else filled, metadata=metadata or None)


def _filled(kind: pa.DataType) -> pa.DataType | None:
    """The type with nulls inside it made text, and empty structs, which parquet cannot hold, left out."""
    if pa.types.is_null(kind):
        return None
    if pa.types.is_list(kind):
        inner = pa.string() if pa.types.is_null(kind.value_type) else _filled(kind.value_type)
        return None if inner is None else pa.list_(inner)
    if pa.types.is_struct(kind):
        fields = [(f.name, pa.string() if pa.types.is_null(f.type) else _filled(f.type)) for f in kind]
        kept = [(name, inner) for name, inner in fields if inner is not None]
        return pa.struct(kept) if kept else None
    return kind


def _check_named(one: Input, names: set[str]) -> None:
    """A named field that none of an input's jsonl records has is a slip of the pen."""
    wanted = [one.text, one.source.field if isinstance(one.source, Field) else None]
    wanted += [one.id if one.id != "id" else None, one.url if one.url != "url" else None]
    for name in wanted:
        if name is not None and names and name not in names:
            shown = ", ".join(islice(sorted(names), 20))
            files = ", ".join(one.files)
            raise DataError(f"no record at the start of {files} has '{name}'{_hint(name, names)}; found: {shown}")


def _hint(name: str, names: Iterable[str]) -> str:
    return nearest(name, list(names))


def _refuse_field_of_text(file: Described, one: Input) -> None:
    if isinstance(one.source, Field):
        raise DataError(
            f"{file.name} is a text file and has no field '{one.source.field}': give its input a constant `source:`"
        )


@contextmanager
def parquet(uri: str, name: str) -> Iterator[pq.ParquetFile]:
    """An open parquet file. DataError if its footer cannot be read."""
    with store.open_input(uri) as file:
        try:
            opened = pq.ParquetFile(file, page_checksum_verification=True)
            groups = [opened.metadata.row_group(index).num_rows for index in range(opened.num_row_groups)]
            if min(groups, default=0) < 0 or sum(groups) != opened.metadata.num_rows:
                raise ValueError(f"its footer counts {opened.metadata.num_rows} rows, its row groups {groups[:9]}")
            opened.schema_arrow  # noqa: B018  a damaged one shows here
        except UNREADABLE as error:
            raise DataError(f"{name} cannot be read as parquet: {error}") from error
        yield opened


def _parquet_fields(file: Described, one: Input) -> Fields:
    with parquet(file.uri, file.name) as opened:
        found = opened.schema_arrow
    fields = {field.name: field.type for field in found}
    if len(fields) != len(found):
        twice = next(name for name in found.names if found.names.count(name) > 1)
        raise DataError(f"{file.name} has two columns called '{twice}': rename one")
    named = {one.text, *(name for name in (one.id, one.url) if name not in (None, "id", "url"))}
    named |= {one.source.field} if isinstance(one.source, Field) else set()
    for name in sorted(str(name) for name in named):
        if name not in fields:
            raise DataError(f"{file.name} has no column '{name}'{_hint(name, fields)}; found: {', '.join(fields)}")
    if not is_textual(fields[one.text]) and not pa.types.is_null(fields[one.text]):
        found_type = fields[one.text]
        raise DataError(f"{file.name}: text column '{one.text}' is {found_type}; it must be string or large_string")
    for name in one.consumed[1:]:
        if name in fields and (pa.types.is_nested(fields[name]) or pa.types.is_binary(_simple(fields[name]))):
            raise DataError(f"{file.name}: column '{name}' is {fields[name]}; it must be text or a number")
    return fields
