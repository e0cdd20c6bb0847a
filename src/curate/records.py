"""Slices of raw files to batches of documents and of records set aside.

Whole columns at a time: a record becomes a Python object only when something is wrong with it. A batch holds about a
shard of text; memory is a batch and one block of lines, one batch of a row group, or one text file.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import streams
from curate.arrow import binary, one, utf8
from curate.columns import UNREADABLE, field_of, parquet, untyped
from curate.files import record_keys
from curate.jsonl import RAW, Parser, Reject, supported
from curate.slices import Slice, Unit
from curate.stages.ingest import Field, Ingest, Input, Normalize

REJECTS = pa.schema([("origin", pa.string()), ("reason", pa.string()), ("raw", pa.large_binary())])

Keep = Callable[[np.ndarray], np.ndarray] | None


class Batch(NamedTuple):
    """About one shard: documents, records set aside, and the number of both together."""

    documents: pa.Table
    rejects: pa.Table
    records: int


class Piece(NamedTuple):
    """Some records under their fields' names, where each is from, what was set aside, and about how large it all is."""

    table: pa.Table
    origins: pa.Array
    rejects: pa.Table
    weight: int


def document_schema(carried: pa.Schema) -> pa.Schema:
    """The columns of documents: the promised ones, then the carried."""
    promised = [
        pa.field("id", pa.binary(16)),
        pa.field("text", pa.large_string()),
        pa.field("source", pa.dictionary(pa.int32(), pa.string())),
        pa.field("source_id", pa.string()),
        pa.field("origin", pa.string()),
        pa.field("url", pa.string()),
        pa.field("bytes", pa.int64()),
    ]
    return pa.schema([*promised, *(pa.field(each.name, each.type) for each in carried)])


def read(unit: Unit, ingest: Ingest, schema: pa.Schema, keep: int | None = None) -> Iterator[Batch]:
    """The documents of a unit in batches of about `ingest.shard_bytes`, at least one, empty or not.

    `schema` holds the carried columns (`columns.schema`). With `keep` only records whose key is at most that are
    looked at (`raw.threshold`). A damaged end counts as one record set aside. StoreError if a file cannot be read.
    """
    reader = _Reader(ingest.inputs[unit.input], schema, ingest.shard_bytes, keep)
    held = _Held(document_schema(schema))
    most = ingest.shard_bytes + ingest.shard_bytes // 8
    for piece in reader.pieces(unit.slices):
        if held.weight and held.weight + piece.weight > most:
            yield held.batch()
            held = _Held(document_schema(schema))
        held.documents.append(reader.documents(piece))
        held.rejects.append(piece.rejects)
        held.weight += piece.weight
    yield held.batch()


@dataclass
class _Held:
    schema: pa.Schema
    documents: list[pa.Table] = field(default_factory=list)
    rejects: list[pa.Table] = field(default_factory=list)
    weight: int = 0

    def batch(self) -> Batch:
        documents = pa.concat_tables([self.schema.empty_table(), *self.documents]).unify_dictionaries()
        rejects = pa.concat_tables([REJECTS.empty_table(), *self.rejects])
        return Batch(documents, rejects, documents.num_rows + rejects.num_rows)


@dataclass(frozen=True)
class _Reader:
    """Reads the slices of one input."""

    one: Input
    schema: pa.Schema
    most: int
    keep: int | None

    def pieces(self, slices: Sequence[Slice]) -> Iterator[Piece]:
        for form, together in groupby(slices, key=lambda each: each.format):
            if form == "text":
                yield from self._texts(list(together))
                continue
            for each in together:
                yield from self._jsonl(each) if form == "jsonl" else self._parquet(each)

    # --- what is wanted ----------------------------------------------------------------------------------------------

    @property
    def required(self) -> tuple[str, ...]:
        """Fields without which there is no document."""
        source = (self.one.source.field,) if isinstance(self.one.source, Field) else ()
        return tuple(dict.fromkeys((self.one.text, *source)))

    @property
    def loose(self) -> tuple[str, ...]:
        """Fields that become text whatever they hold."""
        names = [name for name in self.one.consumed if name != self.one.text]
        return (*names, *(name for name, each in self.carried.items() if untyped(each)))

    @property
    def carried(self) -> dict[str, pa.Field]:
        """Carried columns by the field they come from."""
        fields = {field_of(each): each for each in self.schema}
        return {name: each for name, each in fields.items() if name not in self.one.consumed}

    def keeps(self, name: str) -> Keep:
        """A mask of the record numbers (from 0) to look at, or None for all."""
        if self.keep is None:
            return None
        most = self.keep
        return lambda numbers: record_keys(name, numbers.astype(np.uint64)) <= most

    # --- formats -----------------------------------------------------------------------------------------------------

    def _jsonl(self, part: Slice) -> Iterator[Piece]:
        typed = [(self.one.text, pa.large_string())]
        typed += [
            (name, each.type) for name, each in self.carried.items() if not untyped(each) and supported(each.type)
        ]
        parser = Parser(pa.schema(typed), self.loose, self.required, self.most)
        keep, form = self.keeps(part.name), streams.compression(part.name)
        try:
            source, passed, foreign = streams.lines(part.uri, form, part.start, part.stop)
            for block in streams.blocks(source, first=part.first_record + passed, most=self.most):
                if block.long:
                    chosen = keep is None or bool(keep(np.array([block.first]))[0])
                    long = Reject(block.first + 1, f"too long: above {self.most} bytes", block.data)
                    yield self._piece(part.name, [long] if chosen else [])
                    continue
                table, lines, rejects = parser.parse(block, keep, foreign=foreign)
                yield Piece(table, _origins(part.name, lines), _rejects(part.name, rejects), len(block.data))
        except streams.Damaged as damage:
            reason, *partial = damage.args
            yield self._piece(part.name, [Reject(0, f"damaged: {reason}", partial[0] if partial else b"")])

    def _parquet(self, part: Slice) -> Iterator[Piece]:
        row, keep = part.first_record, self.keeps(part.name)
        with parquet(part.uri, part.name) as file:
            there = file.schema_arrow.names
            wanted = [name for name in dict.fromkeys((*self.one.consumed, *self.carried)) if name in there]
            for group in range(part.start, part.stop):
                rows = file.metadata.row_group(group).num_rows
                width = max(1, file.metadata.row_group(group).total_byte_size // max(1, rows))
                end, why = row + rows, ""
                batches = file.iter_batches(
                    max(1, min(64 << 10, (32 << 20) // width)), [group], columns=wanted, use_threads=False
                )
                while row < end:
                    try:
                        batch = next(batches, None)
                    except UNREADABLE as error:
                        batch, why = None, " ".join(str(error).split())
                    if batch is None:
                        break
                    yield self._rows(pa.table(batch), part.name, row, keep)
                    row += batch.num_rows
                yield self._unreadable(part.name, row, end, why or "rows are missing", keep)
                row = end

    def _rows(self, table: pa.Table, name: str, row: int, keep: Keep) -> Piece:
        """Rows of a parquet file; those that cannot be documents are set aside."""
        rows = np.arange(row, row + table.num_rows)
        if keep is not None:
            mask = keep(rows)
            table, rows = table.filter(pa.array(mask)), rows[mask]
        table = _decoded(table)
        reasons: dict[int, str] = dict.fromkeys(_invalid(table), "invalid UTF-8: a text column of this row is no UTF-8")
        if reasons:
            good = np.setdiff1d(np.arange(len(rows)), list(reasons))
            lines = {int(rows[index]) + 1: reason for index, reason in reasons.items()}
            table, rows = table.take(pa.array(good)), rows[good]
        else:
            lines = {}
        text = one(table[self.one.text]).cast(pa.large_string())
        for field_name in self.required:
            for index in np.flatnonzero(one(table[field_name].is_null()).to_numpy(zero_copy_only=False)):
                lines.setdefault(int(rows[index]) + 1, f"{field_name} null")
        sizes = np.diff(utf8(text)[0]) if len(text) else np.zeros(0, np.int64)
        for index in np.flatnonzero(sizes > self.most):
            lines.setdefault(int(rows[index]) + 1, f"too long: above {self.most} bytes")
        good = ~np.isin(rows + 1, list(lines))
        table = table.set_column(table.schema.get_field_index(self.one.text), self.one.text, text)
        kept = table.filter(pa.array(good)) if not good.all() else table
        rejects = _rejects(name, [Reject(line, reason, b"") for line, reason in sorted(lines.items())])
        return Piece(kept, _origins(name, rows[good] + 1), rejects, table.nbytes)

    def _unreadable(self, name: str, row: int, end: int, why: str, keep: Keep) -> Piece:
        """Rows that the footer promises and the file does not give."""
        rows = np.arange(row, end)
        origins = _origins(name, rows[keep(rows)] + 1 if keep is not None else rows + 1)
        reason = pa.repeat(pa.scalar(f"damaged row group: {why}"), len(origins))
        raw = pa.repeat(pa.scalar(b"", pa.large_binary()), len(origins))
        return self._piece(name, [])._replace(rejects=pa.table([origins, reason, raw], schema=REJECTS))

    def _texts(self, parts: list[Slice]) -> Iterator[Piece]:
        """Text files, each a document, in pieces of some megabytes."""
        texts: list[bytes] = []
        names: list[str] = []
        rejects: list[pa.Table] = []
        for part in parts:
            keep = self.keeps(part.name)
            if keep is None or keep(np.zeros(1, np.int64))[0]:
                text, reason = _text(part, self.most)
                if reason:
                    rejects.append(_rejects(part.name, [Reject(0, reason, text)]))
                elif text:
                    texts.append(text)
                    names.append(part.name)
            weight = sum(map(len, texts))
            if weight >= streams.BLOCK or part is parts[-1]:
                table = pa.table({self.one.text: pa.array(texts, pa.large_binary()).cast(pa.large_string())})
                aside = pa.concat_tables(rejects) if rejects else REJECTS.empty_table()
                yield Piece(table, pa.array(names, pa.string()), aside, weight)
                texts, names, rejects = [], [], []

    def _piece(self, name: str, rejects: list[Reject]) -> Piece:
        """Rejects alone."""
        empty = pa.table({self.one.text: pa.array([], pa.large_string())})
        return Piece(empty, pa.array([], pa.string()), _rejects(name, rejects), 0)

    # --- documents ---------------------------------------------------------------------------------------------------

    def documents(self, piece: Piece) -> pa.Table:
        """Promised and carried columns of a piece."""
        table, rows = piece.table, piece.table.num_rows
        text = normalised(one(table[self.one.text]), self.one.normalize)
        offsets, data = utf8(text)
        schema = document_schema(self.schema)
        columns = [
            _ids(offsets, data, rows),
            text,
            self._source(table),
            self._as_text(table, self.one.id),
            piece.origins,
            self._as_text(table, self.one.url),
            pa.array(np.diff(offsets)),
        ]
        carried = {each.name: name for name, each in self.carried.items()}
        for each in self.schema:
            name = carried.get(each.name)
            if name in table.column_names:
                columns.append(one(table[name]).cast(each.type, safe=False))
            else:
                columns.append(pa.nulls(rows, each.type))
        return pa.table(columns, schema=schema)

    def _source(self, table: pa.Table) -> pa.Array:
        if isinstance(self.one.source, Field):
            named = one(table[self.one.source.field]) if table.num_rows else pa.array([], pa.string())
            return named.cast(pa.string()).dictionary_encode()
        indices = pa.array(np.zeros(table.num_rows, np.int32))
        return pa.DictionaryArray.from_arrays(indices, pa.array([self.one.source], pa.string()))

    def _as_text(self, table: pa.Table, name: str | None) -> pa.Array:
        if name is None or name not in table.column_names:
            return pa.nulls(table.num_rows, pa.string())
        return one(table[name]).cast(pa.string())


def normalised(text: pa.Array, how: Normalize) -> pa.Array:
    """A large_string column with line ends and Unicode form made canonical; rows that need nothing are not touched."""
    offsets, data = utf8(text)
    used = data[offsets[0] : offsets[-1]]
    if how.newlines == "lf" and (used == 13).any():
        text = pc.replace_substring(pc.replace_substring(text, "\r\n", "\n"), "\r", "\n")
        offsets, data = utf8(text)
    if how.form == "none" or not len(used) or used.max() < 128:
        return text
    from curate.kernels.forms import settled, settled_code_points

    fine = np.empty(len(text), np.bool_)
    settled(offsets, data, settled_code_points(how.form), fine)
    if fine.all():
        return text
    mended = pc.utf8_normalize(text.filter(pa.array(~fine)), form=how.form)
    return pc.replace_with_mask(text, pa.array(~fine), mended)


def _ids(offsets: np.ndarray, data: np.ndarray, rows: int) -> pa.Array:
    from curate.kernels.hash import xxh3_128

    ids = np.empty((rows, 16), np.uint8)
    xxh3_128(np.ascontiguousarray(offsets), data, ids)
    return binary(ids)


def _origins(name: str, numbers: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(pa.scalar(f"{name}:"), pa.array(numbers, pa.int64()).cast(pa.string()), "")


def _rejects(name: str, rejects: list[Reject]) -> pa.Table:
    origins = [f"{name}:{each.line}" if each.line else name for each in rejects]
    raw = pa.array([each.raw[:RAW] for each in rejects], pa.large_binary())
    reasons = pa.array([each.reason for each in rejects], pa.string())
    return pa.table([pa.array(origins, pa.string()), reasons, raw], schema=REJECTS)


def _text(part: Slice, most: int) -> tuple[bytes, str]:
    """The content of a text file, or its beginning and why it is no document."""
    held, size = [], 0
    try:
        for data in streams.pieces(part.uri, streams.compression(part.name)):
            held.append(data)
            size += len(data)
            if size > most:
                return held[0], f"too long: above {most} bytes"
    except streams.Damaged as damage:
        return b"".join(held)[:RAW], f"damaged: {damage}"
    text = b"".join(held)
    if reason := streams.foreign(text):
        return text[:RAW], reason
    text = text.removeprefix(streams.BOM)
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return text[:RAW], f"invalid UTF-8: byte {error.start + 1} is 0x{text[error.start]:02x}"
    return text, ""


def _decoded(table: pa.Table) -> pa.Table:
    """Dictionaries undone, as one bad word in a dictionary would condemn all rows."""
    for index, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            table = table.set_column(index, column.name, one(table[index]).dictionary_decode())
    return table


def _invalid(table: pa.Table) -> list[int]:
    """Rows whose text columns are not UTF-8, by halving."""
    if not table.num_rows:
        return []
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        if table.num_rows == 1:
            return [0]
        half = table.num_rows // 2
        return [*_invalid(table.slice(0, half)), *(half + row for row in _invalid(table.slice(half)))]
    return []
