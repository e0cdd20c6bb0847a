"""Bytes in, bytes out, whole or not at all. The only module that opens locations.

A location is a URI: a plain path, or anything fsspec knows (`s3://`, `gs://`, `memory://`). Locally a file is
written under a random temporary name, synced, and renamed; object stores make a put visible whole by themselves.
So a file that exists is finished, which is what resuming relies on.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from glob import has_magic
from typing import IO, Any

from curate.errors import BusyError, StoreError

_TEMPORARY = ".tmp"


@dataclass(frozen=True)
class Entry:
    """A file as listed: name below the listed folder, size in bytes, and a token that changes with its content."""

    name: str
    size: int
    token: str


def is_local(uri: str) -> bool:
    """True for plain paths and `file://`."""
    return "://" not in uri or uri.startswith("file://")


def absolute(uri: str) -> str:
    """The same location independent of the working folder."""
    return os.path.abspath(_path(uri)) if is_local(uri) else uri.rstrip("/")


def join(folder: str, *names: str) -> str:
    """Location of a name below a folder."""
    return "/".join([folder.rstrip("/") or "/", *names]).replace("//", "/", 1 if folder == "/" else 0)


def basename(uri: str) -> str:
    """Last component of a location."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


def parent(uri: str) -> str:
    """Folder that holds a location."""
    return uri.rstrip("/").rsplit("/", 1)[0] if "/" in uri.rstrip("/") else "."


def same(one: str, other: str) -> bool:
    """True if both name one file or folder, links followed."""
    if is_local(one) and is_local(other):
        return os.path.realpath(_path(one)) == os.path.realpath(_path(other))
    return one == other


def matches(pattern: str, name: str) -> bool:
    """True if `glob` would find a file of this name."""
    from fsspec.utils import glob_translate

    return re.match(glob_translate(pattern), name) is not None


def read(uri: str, *, start: int = 0, length: int | None = None) -> bytes:
    """Bytes of a file, or `length` of them from `start`."""
    with open_input(uri) as file:
        if start:
            file.seek(start)
        return file.read() if length is None else file.read(length)


def open_input(uri: str) -> IO[bytes]:
    """A seekable binary file for reading."""
    try:
        if is_local(uri):
            return open(_path(uri), "rb")
        fs, path = _remote(uri)
        return fs.open(path, "rb")  # type: ignore[no-any-return]
    except OSError as error:
        raise StoreError(f"cannot read {uri}: {_reason(error)}") from error


def put(uri: str, data: "bytes | memoryview") -> None:
    """Write `data` so that a reader sees all of it or nothing."""
    with writing(uri) as file:
        file.write(data)


@contextlib.contextmanager
def writing(uri: str) -> Iterator[IO[bytes]]:
    """A binary file to write to; it appears under its name when the block ends well, and not at all otherwise."""
    try:
        with _writing_local(_path(uri)) if is_local(uri) else _writing_remote(uri) as file:
            yield file
    except OSError as error:
        raise StoreError(f"cannot write {uri}: {_reason(error)}; what was finished before is kept") from error


@contextlib.contextmanager
def _writing_local(path: str) -> Iterator[IO[bytes]]:
    folder = os.path.dirname(path) or "."
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{secrets.token_hex(6)}{_TEMPORARY}")
    os.makedirs(folder, exist_ok=True)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def _writing_remote(uri: str) -> Iterator[IO[bytes]]:
    # Sent when all of it is there: what becomes of a file that is not written to its end differs from store to store.
    fs, path = _remote(uri)
    with tempfile.NamedTemporaryFile() as file:
        yield file
        file.flush()
        fs.put_file(file.name, path)


def adopt(source: str, target: str) -> None:
    """Make `target` the same immutable file as `source`: a hard link where possible, else a copy."""
    if not is_local(source):
        fs, path = _remote(source)
        fs.cp_file(path, _remote(target)[1])
        return
    path = _path(target)
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{secrets.token_hex(6)}{_TEMPORARY}")
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.link(_path(source), temporary)
    except OSError:  # another device, or a file system without links; `put` says what else may be wrong
        put(target, read(source))
        return
    os.replace(temporary, path)
    if os.path.exists(temporary):  # rename of two links to one inode leaves both names
        os.unlink(temporary)


def exists(uri: str) -> bool:
    """True if a file or folder is there."""
    if is_local(uri):
        return os.path.exists(_path(uri))
    fs, path = _remote(uri)
    return bool(fs.exists(path))


def size(uri: str) -> int:
    """Bytes of a file."""
    try:
        if is_local(uri):
            return os.stat(_path(uri)).st_size
        fs, path = _remote(uri)
        return int(fs.size(path))
    except OSError as error:
        raise StoreError(f"cannot read {uri}: {_reason(error)}") from error


def stamp(uri: str) -> str:
    """A token that changes with a file's content: its size, and its time or what the object store has for it."""
    try:
        if is_local(uri):
            found = os.stat(_path(uri))
            return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"
        fs, path = _remote(uri)
        info = fs.info(path)
    except OSError as error:
        raise StoreError(f"cannot read {uri}: {_reason(error)}") from error
    return f"{info.get('size')}:{_token(info)}"


def listing(folder: str) -> dict[str, int]:
    """Names directly below a folder with their sizes (folders count 0); empty when there is no such folder."""
    if is_local(folder):
        sizes = {}
        try:
            with os.scandir(_path(folder)) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):  # gone since, or a link to nothing or to itself
                        sizes[entry.name] = 0 if entry.is_dir() else entry.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise StoreError(f"cannot list {folder}: {_reason(error)}") from error
        return sizes
    fs, path = _remote(folder)
    try:
        found = fs.ls(path, detail=True)
    except FileNotFoundError:
        return {}
    return {basename(e["name"]): int(e.get("size") or 0) for e in found}


def glob(root: str, pattern: str) -> list[Entry]:
    """Files below `root` that match, sorted by name; `**` crosses folders. What begins with a dot is passed over."""
    import fsspec

    fs, base = (fsspec.filesystem("file"), _path(root)) if is_local(root) else _remote(root)
    base = base.rstrip("/")
    if has_magic(base):  # the folder's own name is no pattern
        found = {p: info for p, info in fs.find(base, detail=True).items() if matches(pattern, p[len(base) + 1 :])}
    else:
        found = fs.glob(f"{base}/{pattern}" if base else pattern, detail=True)
    entries = []
    wants_hidden = pattern.startswith(".") or "/." in pattern
    for path, info in found.items():
        name = path[len(base) :].lstrip("/") if path.startswith(base) else path
        if basename(path).startswith(".") or ("/." in f"/{name}" and not wants_hidden):
            continue
        if info.get("islink"):  # listed as it is, not as what it points to
            try:
                info = fs.info(path)
            except OSError as error:
                raise StoreError(
                    f"cannot read {path}: it links to {info.get('destination')}, which is not there"
                ) from error
        if info.get("type") == "file":
            entries.append(Entry(name, int(info.get("size") or 0), _token(info)))
    return sorted(entries, key=lambda entry: entry.name)


def _token(info: dict[str, Any]) -> str:
    if "ino" in info:  # a local file: the time of the last change to it can be set back, that of its inode cannot
        return f"{info['mtime']}:{info['created']}"
    return str(info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created") or "")


def remove(uri: str) -> None:
    """Delete a file or a folder with all below it; missing is fine."""
    if is_local(uri):
        path = _path(uri)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        return
    fs, path = _remote(uri)
    with contextlib.suppress(FileNotFoundError):
        fs.rm(path, recursive=True)


def clear_leftovers(folder: str) -> None:
    """Remove temporary files that a killed process left below a local folder."""
    if not is_local(folder):
        return
    for base, _, names in os.walk(_path(folder)):
        for name in names:
            if name.startswith(".") and name.endswith(_TEMPORARY):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(base, name))


def free_space(folder: str) -> int | None:
    """Bytes free where `folder` is or will be; None where that is unknown."""
    if not is_local(folder):
        return None
    path = os.path.abspath(_path(folder))
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free


@contextlib.contextmanager
def hold(folder: str) -> Iterator[None]:
    """Hold a run folder for this process; a second holder is refused by name.

    The kernel drops the lock when the process dies, however it dies, so nothing stale is left behind. Object stores
    have no such lock: there two runs of one recipe write the same bytes under the same names, which is safe.
    """
    if not is_local(folder):
        yield
        return
    import fcntl

    path = os.path.join(_path(folder), ".lock")
    try:
        os.makedirs(_path(folder), exist_ok=True)
        file = open(path, "a+")  # noqa: SIM115  held until the block ends
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {_reason(error)}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise StoreError(f"cannot lock {folder}: {_reason(error)}") from error
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise BusyError(f"{folder} is in use by {holder}; wait for it or choose another folder") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _path(uri: str) -> str:
    return uri.removeprefix("file://")


def _remote(uri: str) -> tuple[Any, str]:
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:  # an unknown scheme, or its package is missing
        raise StoreError(f"cannot open {uri}: {error}") from error
    return fs, str(path)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _sync_folder(path: str) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
