"""Stored bytes to lines: gzip and zstd undone piece by piece, then blocks cut at line ends.

All that lies before a damaged place is given, to the byte: a decoder that fails loses what it made in the failing
call, so the member it failed in is decoded again and the last piece fed byte by byte. That costs twice the time, for
damaged files only.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import zstandard

from curate import store

SUFFIXES = {".gz": "gzip", ".zst": "zstd"}
BLOCK = 4 << 20
READ = 1 << 20
BOM = b"\xef\xbb\xbf"
FEED = 16 << 10
"""Compressed bytes per call: zstd makes at most 32,768 of one, so half a gigabyte is the worst that one call gives."""


class Damaged(Exception):
    """Compressed data ends early or is no such data; what came before has been given."""


def compression(name: str) -> str:
    """`gzip`, `zstd` or an empty string, by the end of the name."""
    return next((form for suffix, form in SUFFIXES.items() if name.lower().endswith(suffix)), "")


def pieces(uri: str, form: str) -> Iterator[bytes]:
    """A whole file, decompressed, in pieces that are never empty. Damaged if it cannot be decompressed to the end."""
    with store.open_input(uri) as file:
        if form == "":
            while data := file.read(READ):
                yield data
        else:
            yield from _members(file, _DECODERS[form], form)


def _gzip() -> Any:
    return zlib.decompressobj(wbits=31)


def _zstd() -> Any:
    # Windows of up to 2 GB, as `zstd --long=31` writes them.
    return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


_DECODERS: dict[str, Callable[[], Any]] = {"gzip": _gzip, "zstd": _zstd}


def _members(file: IO[bytes], decoder: Callable[[], Any], form: str) -> Iterator[bytes]:
    """The members of a gzip file, or the frames of a zstd file, one after another."""
    start, rest = 0, file.read(FEED)
    while rest:
        # Tape blocks and some uploaders pad gzip files with zeros.
        if start and form == "gzip" and not rest.strip(b"\0"):
            rest = file.read(FEED)
            continue
        made, fed, data = decoder(), 0, rest
        while True:
            if not data:
                raise Damaged(f"the {form} data ends in the middle; the file is cut short")
            try:
                out = made.decompress(data)
            except (zlib.error, zstandard.ZstdError) as error:
                yield from _salvage(file, decoder(), start, fed, data)
                raise Damaged(f"no valid {form} data ({error})") from error
            fed += len(data)
            if out:
                yield out
            if made.eof:
                break
            data = file.read(FEED)
        rest = made.unused_data
        start += fed - len(rest)
        rest = rest or file.read(FEED)


def _salvage(file: IO[bytes], made: Any, start: int, fed: int, data: bytes) -> Iterator[bytes]:
    """What the failing call would have given before the fault, having given it all that it was fed."""
    file.seek(start)
    while fed:
        again = file.read(min(FEED, fed))
        made.decompress(again)
        fed -= len(again)
    for byte in range(len(data)):
        try:
            out = made.decompress(data[byte : byte + 1])
        except (zlib.error, zstandard.ZstdError):
            return
        if out:
            yield out


@dataclass(frozen=True)
class Block:
    """Whole lines. `first` is the number of line ends before them in the file. `long`: it is the head of one line
    that is above the limit, the rest of which was passed over."""

    data: bytes
    first: int
    long: bool = False


def blocks(source: Iterator[bytes], *, first: int, most: int) -> Iterator[Block]:
    """Cut pieces at line ends into blocks of some BLOCK bytes; a longer line makes a longer block, up to `most` bytes.

    When `source` raises Damaged, the lines before it are given first, then the unfinished line (as the exception's
    second argument) goes with it.
    """
    held: list[bytes] = []
    size, line, passing = 0, first, False
    damage: Damaged | None = None
    while True:
        try:
            piece = next(source, None)
        except Damaged as error:
            damage, piece = error, None
        if piece is None:
            break
        if passing:
            at = piece.find(b"\n")
            if at < 0:
                continue
            piece, passing, line = piece[at + 1 :], False, line + 1
            if not piece:
                continue
        held.append(piece)
        size += len(piece)
        if size < BLOCK:
            continue
        at = piece.rfind(b"\n") + 1
        if at == 0 and size <= most:
            continue
        # Only the newest piece is searched while a line grows, so a long line costs no more than its bytes.
        data = b"".join(held)
        at = data.rfind(b"\n") + 1 if at == 0 else size - len(piece) + at
        yield from _whole(data[:at], line)
        line += data.count(b"\n", 0, at)
        held, size = [data[at:]], size - at
        if size > most:
            yield Block(held[0][:1000], line, long=True)
            held, size, passing = [], 0, True
    data = b"".join(held)
    if damage is not None:
        at = data.rfind(b"\n") + 1
        yield from _whole(data[:at], line)
        line += data.count(b"\n", 0, at)
        raise Damaged(f"after record {line}: {damage}", data[at : at + 1000]) from damage
    yield from _whole(data, line)


def _whole(data: bytes, line: int) -> Iterator[Block]:
    """Lines in blocks: one compressed piece may hold very many."""
    start = 0
    while start < len(data):
        stop = data.find(b"\n", start + BLOCK) + 1 or len(data)
        block = data[start:stop]
        yield Block(block, line)
        line += block.count(b"\n")
        start = stop


def lines(uri: str, form: str, start: int, stop: int) -> tuple[Iterator[bytes], int, str]:
    """The lines that begin in bytes [start, stop) of a file, in pieces; a compressed file is taken whole.

    Also the number of line ends (0 or 1) between `start` and the first of them, and what `foreign` says of the file.
    A byte order mark at the file's start is left out.
    """
    if form:
        try:
            head = next(pieces(uri, form), b"")
        except Damaged:
            head = b""
        return _without_mark(pieces(uri, form)), 0, foreign(head)
    head = store.read(uri, length=4)
    if start == 0:
        return _without_mark(_between(uri, 0, stop)), 0, foreign(head)
    with store.open_input(uri) as file:
        first = _line_start(file, start, stop)
    return _between(uri, first, stop), int(first != start), foreign(head)


def foreign(head: bytes) -> str:
    """What a file is whose first bytes no UTF-8 text begins with, or an empty string."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or head[:2] in (b"{\0", b"\0{"):
        return "UTF-16: the file must be UTF-8"
    for magic, name in ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"PAR1", "parquet")):
        if head.startswith(magic):
            return f"{name}: the file's name does not say so"
    return ""


def _without_mark(source: Iterator[bytes]) -> Iterator[bytes]:
    head = next(source, b"").removeprefix(BOM)
    if head:
        yield head
    yield from source


def _line_start(file: IO[bytes], start: int, stop: int) -> int:
    """Position of the first line that begins in [start, stop), where 0 < start, or `stop`."""
    position = start - 1
    file.seek(position)
    while position < stop - 1 and (data := file.read(64 << 10)):
        at = data.find(b"\n")
        if at >= 0:
            return min(position + at + 1, stop)
        position += len(data)
    return stop


def _between(uri: str, start: int, stop: int) -> Iterator[bytes]:
    """The bytes from a line's begin at `start` to the end of the last line that begins before `stop`."""
    if start >= stop:
        return
    with store.open_input(uri) as file:
        file.seek(start)
        position = start
        while data := file.read(READ):
            if position + len(data) >= stop:
                at = data.find(b"\n", max(0, stop - 1 - position))
                if at >= 0:
                    yield data[: at + 1]
                    return
            yield data
            position += len(data)
