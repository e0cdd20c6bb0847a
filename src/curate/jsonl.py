"""Lines of JSON to columns: Arrow's reader for whole blocks, line by line only where a block has a bad line.

Arrow reads a stream of values, not lines, trusts the bytes and dies of a bare `null`, so a block is handed over only
when every line begins with `{` and ends with `}`, the bytes are UTF-8 without NUL, and as many rows come back as went
in. Where any of that fails, orjson says what is wrong with which line, but what a good line means is still read by
Arrow: a record's values never depend on its neighbours.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.json as pj

from curate.columns import kind, objects
from curate.streams import Block

RAW = 1000
"""Bytes of a raw record that a reject keeps."""

_LOOK = 32
_INT64 = (-(1 << 63), (1 << 63) - 1)


class Reject(NamedTuple):
    """A record set aside: 1-based line, reason (a category, then details after a colon), raw bytes."""

    line: int
    reason: str
    raw: bytes


class Parsed(NamedTuple):
    """A table of the good lines, their 1-based line numbers int64[n], and the others."""

    table: pa.Table
    lines: np.ndarray
    rejects: list[Reject]


@dataclass
class Parser:
    """Parses the blocks of one input. `typed` are fields with a fixed type, `loose` those of which any value becomes
    text (numbers as written in JSON, lists and objects as JSON). A row without a value in `required` is set aside, and
    so is a line of more than `most` bytes."""

    typed: pa.Schema
    loose: tuple[str, ...]
    required: tuple[str, ...]
    most: int
    _numeric: dict[str, bool] = field(default_factory=dict)

    def parse(self, block: Block, keep: Callable[[np.ndarray], np.ndarray] | None, *, foreign: str = "") -> Parsed:
        """Good and bad lines of a block. `keep` gives a mask from record numbers (from 0) before anything is parsed.
        `foreign`: why no line of this file can be good."""
        view = np.frombuffer(block.data, np.uint8)
        ends = np.flatnonzero(view == 10)
        if len(view) and view[-1] != 10:
            ends = np.append(ends, len(view))
        starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        present = self._present(block.data, view, starts, ends)
        if keep is not None:
            present &= keep(block.first + np.arange(len(starts)))
            view = view[np.repeat(present, np.diff(starts, append=len(view)))]
        lines = block.first + 1 + np.flatnonzero(present)
        starts, ends = starts[present], ends[present]
        data = block.data if keep is None else view.tobytes()
        table = None if foreign else self._whole(data, block.data, starts, ends)
        if table is None:
            raw = [block.data[start:end].strip(b" \t\r") for start, end in zip(starts, ends, strict=True)]
            parsed = self._by_line(raw, lines, foreign)
        else:
            parsed = Parsed(table, lines, [])
        return self._without_missing(parsed, block, lines, starts, ends)

    def _present(self, data: bytes, view: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Lines that hold more than white space."""
        lengths = ends - starts
        present: np.ndarray = lengths > 0
        if len(view):
            for line in np.flatnonzero(present & (view[np.where(present, starts, 0)] <= 32)):
                present[line] = bool(data[starts[line] : ends[line]].strip(b" \t\r"))
        return present

    def _whole(self, data: bytes, source: bytes, starts: np.ndarray, ends: np.ndarray) -> pa.Table | None:
        """All lines at once, or None if that cannot be trusted. `starts` and `ends` are places in `source`."""
        if not len(starts):
            return self._empty()
        view = np.frombuffer(source, np.uint8)
        last = view[ends - 1]
        last = np.where(last == 13, view[np.maximum(ends - 2, 0)], last)
        clean = (view[starts] == 123).all() and (last == 125).all() and (ends - starts).max() <= self.most
        if not clean or not _is_text(data):
            return None
        table = self._guess(data)
        if table is None and self._look([source[s:e] for s, e in zip(starts[:_LOOK], ends[:_LOOK], strict=True)]):
            table = self._guess(data)
        return table if table is not None and table.num_rows == len(starts) else None

    def _guess(self, data: bytes) -> pa.Table | None:
        """Read with loose fields as text, or as integers where the last look found one."""
        loose = [pa.field(name, pa.int64() if self._numeric.get(name) else pa.string()) for name in self.loose]
        table = _arrow(data, pa.schema([*self.typed, *loose]))
        return None if table is None else self._as_text(table)

    def _look(self, lines: list[bytes]) -> bool:
        """Look which loose fields are integers in the first line that has them; True if that is news."""
        now: dict[str, bool] = {}
        for record in objects(lines):
            found = {name: type(record[name]) is int for name in self.loose if record.get(name) is not None}
            now = found | now
        news = any(now[name] != self._numeric.get(name, False) for name in now)
        self._numeric |= now
        return news

    def _as_text(self, table: pa.Table) -> pa.Table:
        for name in self.loose:
            if not pa.types.is_string(table.schema.field(name).type):
                at = table.schema.get_field_index(name)
                table = table.set_column(at, name, table[name].cast(pa.string()))
        return table

    def _empty(self) -> pa.Table:
        return pa.schema([*self.typed, *(pa.field(name, pa.string()) for name in self.loose)]).empty_table()

    # --- line by line ------------------------------------------------------------------------------------------------

    def _by_line(self, raw: list[bytes], lines: np.ndarray, foreign: str) -> Parsed:
        """Every line on its own terms."""
        records: dict[int, Any] = {}
        reasons: dict[int, str] = {}
        for index, line in enumerate(raw):
            if foreign or len(line) > self.most:
                reasons[index] = foreign or f"too long: above {self.most} bytes"
                continue
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                reasons[index] = _not_json(line, error)
                continue
            reason = self._misfit(record) if isinstance(record, dict) else _not_object(record)
            if reason:
                reasons[index] = reason
            else:
                records[index] = record
        read = [*self._settle(list(records), raw, records), *self._alone(raw, reasons)]
        found = np.array([index for indices, _ in read for index in indices], np.int64)
        for index in records.keys() - set(found.tolist()):
            reasons[index] = "no row: the values do not fit the columns"
        order = np.argsort(found)
        table = pa.concat_tables([table for _, table in read]).take(pa.array(order)) if read else self._empty()
        rejects = [Reject(int(lines[i]), reasons[i], raw[i][:RAW]) for i in sorted(reasons)]
        return Parsed(table, lines[found[order]], rejects)

    def _settle(self, good: list[int], raw: list[bytes], records: dict[int, Any]) -> list[tuple[list[int], pa.Table]]:
        """Lines that orjson could read, with their rows. What Arrow refuses is halved until the line is found."""
        if not good:
            return []
        table = _arrow(b"\n".join(raw[i] for i in good), self.typed)
        if table is None and len(good) == 1:
            # A name given twice: the last one counts, as in every common parser.
            record = records[good[0]]
            once = {name: record[name] for name in self.typed.names if name in record}
            table = _arrow(orjson.dumps(once), self.typed)
        if table is None or table.num_rows != len(good):
            half = len(good) // 2
            halves = (good[:half], good[half:]) if half else ()
            return [found for part in halves for found in self._settle(part, raw, records)]
        for name in self.loose:
            values = [_text(records[i].get(name)) for i in good]
            table = table.append_column(pa.field(name, pa.string()), pa.array(values, pa.string()))
        return [(good, table)]

    def _alone(self, raw: list[bytes], reasons: dict[int, str]) -> list[tuple[list[int], pa.Table]]:
        """Lines that only Arrow can read (NaN, very deep nesting in a field that is not carried): it took them in a
        whole block, so it must take them here. Their reasons are withdrawn."""
        found: list[tuple[list[int], pa.Table]] = []
        for index in [i for i, reason in reasons.items() if reason.startswith("not JSON")]:
            line = raw[index]
            if not (line.startswith(b"{") and line.endswith(b"}") and _is_text(line)):
                continue
            table = _arrow(line, self.typed)
            for name in self.loose:
                guesses = (_arrow(line, pa.schema([(name, guess)])) for guess in (pa.string(), pa.int64()))
                column = next((guess for guess in guesses if guess is not None), None)
                if table is None or column is None or column.num_rows != table.num_rows:
                    table = None
                    break
                table = table.append_column(pa.field(name, pa.string()), column[name].cast(pa.string()))
            if table is not None and table.num_rows == 1:
                found.append(([index], table))
                del reasons[index]
        return found

    def _misfit(self, record: dict[str, Any]) -> str:
        """Why a record cannot be a row, or an empty string."""
        for name in self.required:
            if name not in record:
                return f"{name} missing"
            if record[name] is None:
                return f"{name} null"
        for column in self.typed:
            value = record.get(column.name)
            if not _fits(value, column.type):
                where = column.name if column.name in self.required else f"column {column.name}"
                return f"{where}: expected {_plain(column.type)}, found {kind(value)}"
        return ""

    def _without_missing(
        self, parsed: Parsed, block: Block, lines: np.ndarray, starts: np.ndarray, ends: np.ndarray
    ) -> Parsed:
        """Set rows aside that have no value where one is required: the whole-block reader gives null for them."""
        if not any(parsed.table[name].null_count for name in self.required):
            return parsed
        masks = [parsed.table[name].is_valid().to_numpy() for name in self.required]
        there = np.logical_and.reduce(masks)
        rejects = list(parsed.rejects)
        for line in parsed.lines[~there]:
            at = int(np.searchsorted(lines, line))
            raw = block.data[starts[at] : ends[at]]
            try:
                reason = self._misfit(orjson.loads(raw))
            except orjson.JSONDecodeError:
                reason = ""
            rejects.append(Reject(int(line), reason or f"{self.required[0]} missing", raw.strip(b" \t\r")[:RAW]))
        return Parsed(parsed.table.filter(pa.array(there)), parsed.lines[there], sorted(rejects))


def _arrow(data: bytes, schema: pa.Schema) -> pa.Table | None:
    """A table with exactly the columns of `schema`, or None if Arrow finds a line that does not fit."""
    try:
        table = pj.read_json(
            pa.BufferReader(data),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pj.ParseOptions(
                explicit_schema=schema, newlines_in_values=False, unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowInvalid:
        return None
    return table.select(schema.names)


def _is_text(data: bytes) -> bool:
    """UTF-8 without NUL."""
    if b"\0" in data:
        return False
    offsets = pa.py_buffer(np.array([0, len(data)], np.int64))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, pa.py_buffer(data)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _fits(value: Any, wanted: pa.DataType) -> bool:
    if value is None:
        return True
    if pa.types.is_string(wanted) or pa.types.is_large_string(wanted):
        return isinstance(value, str)
    if pa.types.is_boolean(wanted):
        return isinstance(value, bool)
    if pa.types.is_integer(wanted):
        return type(value) is int and _INT64[0] <= value <= _INT64[1]
    if pa.types.is_floating(wanted):
        return type(value) in (int, float)
    if pa.types.is_list(wanted):
        return isinstance(value, list) and all(_fits(each, wanted.value_type) for each in value)
    return isinstance(value, dict) and all(_fits(value.get(each.name), each.type) for each in wanted)


def _plain(wanted: pa.DataType) -> str:
    return "string" if pa.types.is_large_string(wanted) else str(wanted)


def _not_object(value: Any) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null", int: "number", float: "number"}
    return f"not an object: found {names[type(value)]}"


def _not_json(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as found:
        return f"invalid UTF-8: byte {found.start + 1} of the record is 0x{line[found.start]:02x}"
    if "surrogate" in error.msg:
        return f"lone surrogate: character {error.pos + 1} of the record"
    if "infinity" in error.msg:
        return f"number out of range: character {error.pos + 1} of the record"
    return f"not JSON: {error.msg}, character {error.pos + 1} of the record"


def supported(wanted: pa.DataType) -> bool:
    """True for types that a JSON value can have."""
    if pa.types.is_list(wanted):
        return supported(wanted.value_type)
    if pa.types.is_struct(wanted):
        return all(supported(each.type) for each in wanted)
    return wanted in (pa.bool_(), pa.int64(), pa.float64(), pa.string(), pa.large_string())
