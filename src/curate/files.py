"""Raw files before anything is read from them: found by pattern, digested in byte ranges, counted.

A file is known by its name below the recipe's root and by its content, never by where it lies. The survey reads every
stored byte once (XXH3-128, over a gigabyte a second) and counts line ends on the way, so that a file can be cut
anywhere later and every record still knows its line. Damage is no matter here: it is reported by whoever reads.
"""

import glob as patterns
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from curate import store, streams
from curate.errors import RecipeError, StoreError, nearest
from curate.stages.ingest import Input

CHUNK = 256 << 20
STEP = 1 << 20
"""Line ends are counted per so many bytes; slices begin at multiples of it."""

_FORMATS: dict[str, Literal["jsonl", "parquet", "text"]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".rst": "text",
}
_KNOWN = "  ".join(_FORMATS) + "; all but .parquet also with .gz or .zst"


@dataclass(frozen=True)
class RawFile:
    """A file: name below the root as matched, location, stored bytes, a token that changes with its content, which
    input it belongs to, and how it is read."""

    name: str
    uri: str
    size: int
    token: str
    input: int
    format: Literal["jsonl", "parquet", "text"]


@dataclass(frozen=True)
class Chunk:
    """A range of stored bytes; `count` asks for the records of a compressed file too."""

    name: str
    uri: str
    format: Literal["jsonl", "parquet", "text"]
    start: int
    stop: int
    count: bool


@dataclass(frozen=True)
class Survey:
    """What one chunk holds. `digest`: XXH3-128 in hex. `lines`: line ends per STEP bytes of plain jsonl. `unended`:
    the last byte is no line end. `records`: of a compressed or text file. `row_groups`: (rows, uncompressed bytes)."""

    digest: str
    lines: tuple[int, ...] = ()
    unended: bool = False
    records: int | None = None
    row_groups: tuple[tuple[int, int], ...] = ()

    @staticmethod
    def from_json(raw: dict[str, Any]) -> "Survey":
        """A survey from `dataclasses.asdict` that went through JSON."""
        groups = tuple((int(rows), int(size)) for rows, size in raw["row_groups"])
        return Survey(raw["digest"], tuple(raw["lines"]), raw["unended"], raw["records"], groups)


@dataclass(frozen=True)
class Described(RawFile):
    """A file and what its survey found. `records` is None where only a full read would tell; blank lines count."""

    digest: str
    records: int | None
    lines: tuple[int, ...]
    row_groups: tuple[tuple[int, int], ...]


def find(root: str, inputs: Sequence[Input]) -> tuple[RawFile, ...]:
    """The files that the inputs name, sorted by name.

    A pattern is a path, a folder (all files of known suffix below it, or all files where the format is given), a glob
    or a URI. RecipeError if a pattern matches nothing, a suffix is unknown, or two inputs claim one file or name.
    """
    found: dict[str, RawFile] = {}
    names: dict[str, str] = {}
    for index, one in enumerate(inputs):
        for pattern in one.files:
            for name, uri, entry in _matches(root, pattern, one):
                if not name.isprintable() and name.encode(errors="replace").decode() != name:
                    raise RecipeError(f"the file name {name!r} is no UTF-8: rename it")
                file = RawFile(name, uri, entry.size, entry.token, index, _format(name, one, pattern))
                before = found.setdefault(uri, file)
                if before.input != index:
                    raise RecipeError(
                        f"{name} is matched by two inputs, {_shown(inputs[before.input])} and {_shown(one)}: "
                        "each file belongs to one"
                    )
                if names.setdefault(before.name, uri) != uri:
                    raise RecipeError(f"{names[before.name]} and {uri} would both be called {before.name}: rename one")
    return tuple(sorted(found.values(), key=lambda file: file.name))


def chunks(files: Iterable[RawFile], *, count: bool) -> tuple[Chunk, ...]:
    """Ranges of at most CHUNK bytes, file after file; an empty file has one."""
    return tuple(
        Chunk(file.name, file.uri, file.format, start, min(start + CHUNK, file.size), count)
        for file in files
        for start in range(0, max(file.size, 1), CHUNK)
    )


def survey(chunk: Chunk) -> Survey:
    """Digest and count one chunk. StoreError if it cannot be read; a damaged file is digested like any other."""
    form = streams.compression(chunk.name) if chunk.format != "parquet" else "parquet"
    plain = chunk.format == "jsonl" and form == ""
    hasher, lines, last, position = xxhash.xxh3_128(), [], b"\n", chunk.start
    with store.open_input(chunk.uri) as file:
        file.seek(chunk.start)
        while position < chunk.stop and (data := file.read(min(STEP, chunk.stop - position))):
            hasher.update(data)
            if plain:
                lines.append(data.count(b"\n"))
            last = data[-1:]
            position += len(data)
    records: int | None = None
    row_groups: tuple[tuple[int, int], ...] = ()
    if chunk.start == 0 and chunk.format == "parquet":
        row_groups = _row_groups(chunk.uri)
    elif chunk.format == "text":
        records = 1
    elif chunk.start == 0 and chunk.count and not plain:
        records = _count(chunk)
    return Survey(hasher.hexdigest(), tuple(lines), last != b"\n", records, row_groups)


def describe(files: Sequence[RawFile], surveys: Sequence[Survey]) -> tuple[Described, ...]:
    """Files with what the surveys of `chunks(files)`, in that order, say about them."""
    described, at = [], 0
    for file in files:
        mine = surveys[at : at + len(range(0, max(file.size, 1), CHUNK))]
        at += len(mine)
        digest = xxhash.xxh3_128(f"{file.size}".encode())
        for one in mine:
            digest.update(bytes.fromhex(one.digest))
        lines = tuple(count for one in mine for count in one.lines)
        records = mine[0].records
        if file.format == "parquet":
            records = sum(rows for rows, _ in mine[0].row_groups)
        elif file.format == "jsonl" and streams.compression(file.name) == "":
            records = sum(lines) + int(mine[-1].unended)
        described.append(
            Described(
                **asdict(file), digest=digest.hexdigest(), records=records, lines=lines, row_groups=mine[0].row_groups
            )
        )
    return tuple(described)


def _matches(root: str, pattern: str, one: Input) -> list[tuple[str, str, store.Entry]]:
    """(name, location, entry) of every file that a pattern means."""
    base, rest = _split(root, pattern)
    entries = store.glob(base, patterns.escape(rest)) if rest else []
    if not entries and (rest == "" or store.listing(store.join(base, rest))):
        below = f"{patterns.escape(rest)}/**" if rest else "**"
        entries = [e for e in store.glob(base, below) if one.format != "auto" or _suffix(e.name)]
    elif not entries:
        entries = store.glob(base, rest)
        if _suffix(rest) and patterns.has_magic(rest) and (inside := store.glob(base, f"{rest}/*")):
            folder = store.parent(inside[0].name)
            raise RecipeError(
                f"files '{pattern}' matches the folder {folder}: write '{pattern}/**' to read what is in it"
            )
    if not entries:
        known = _nearby(base)
        hint = nearest(rest, known) or (f"; there is for instance {known[0]}" if known else "")
        raise RecipeError(f"files '{pattern}' matches nothing below {store.absolute(base)}{hint}")
    return [(entry.name, store.join(base, entry.name), entry) for entry in entries]


def _nearby(base: str) -> list[str]:
    """Some names in a folder and in the folders there. To look for more could take as long as a disk is large."""
    try:
        first = sorted(name for name in store.listing(base) if not name.startswith("."))[:200]
        below = {name: sorted(store.listing(store.join(base, name)))[:200] for name in first[:50]}
    except StoreError:
        return []
    names = [f"{folder}/{name}" for folder, inner in below.items() for name in inner]
    return [name for name in (*first, *names) if _suffix(name)]


def _split(root: str, pattern: str) -> tuple[str, str]:
    """The folder that names are relative to, and the pattern below it."""
    root = store.absolute(root)
    if "://" not in pattern and not pattern.startswith("/"):
        return root, "" if pattern in (".", "./") else pattern.removeprefix("./").rstrip("/")
    pattern = pattern.removeprefix("file://").rstrip("/")
    if pattern == root:
        return root, ""
    if pattern.startswith(root + "/"):
        return root, pattern[len(root) + 1 :]
    parts = pattern.split("/")
    fixed = next((i for i, part in enumerate(parts) if patterns.has_magic(part)), len(parts) - 1)
    return "/".join(parts[:fixed]) or "/", "/".join(parts[fixed:])


def _suffix(name: str) -> str:
    """The suffix that says how a file is read, or an empty string."""
    whole = store.basename(name).lower()
    stem = whole
    for compressed in streams.SUFFIXES:
        stem = stem.removesuffix(compressed)
    dot = stem.rfind(".")
    suffix = stem[dot:] if dot >= 0 else ""
    return suffix if suffix in _FORMATS and not (suffix == ".parquet" and stem != whole) else ""


def _format(name: str, one: Input, pattern: str) -> Literal["jsonl", "parquet", "text"]:
    if one.format != "auto":
        return one.format
    suffix = _suffix(name)
    if not suffix:
        raise RecipeError(
            f"files '{pattern}' matches {name}, whose suffix says nothing; known are {_KNOWN}; or give `format:`"
        )
    return _FORMATS[suffix]


def _shown(one: Input) -> str:
    return ", ".join(f"'{pattern}'" for pattern in one.files)


def _row_groups(uri: str) -> tuple[tuple[int, int], ...]:
    try:
        with store.open_input(uri) as file:
            metadata = pq.ParquetFile(file).metadata
            groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
            return tuple((group.num_rows, group.total_byte_size) for group in groups)
    except (OSError, ValueError, pa.ArrowException):
        return ()  # the digest stands; `schema` says what is wrong


def _count(chunk: Chunk) -> int:
    """Line ends of a compressed file, and the line after the last unless damage cut it."""
    lines, last = 0, b"\n"
    try:
        for piece in streams.pieces(chunk.uri, streams.compression(chunk.name)):
            lines += piece.count(b"\n")
            last = piece[-1:]
    except streams.Damaged:
        return lines
    return lines + (last != b"\n")


def record_keys(name: str, numbers: "np.ndarray[Any, np.dtype[np.uint64]]") -> "np.ndarray[Any, np.dtype[np.uint64]]":
    """The key of every record of a file, by which `limit` draws: uint64[n] from record numbers uint64[n] from 0."""
    from curate.kernels.hash import keyed

    keys = np.empty(len(numbers), np.uint64)
    keyed(np.uint64(xxhash.xxh3_64_intdigest(name.encode())), np.ascontiguousarray(numbers, np.uint64), keys)
    return keys
