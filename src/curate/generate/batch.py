"""Requests as files for a batch service, and its results into the store of answers.

One JSON object a line, `{"custom_id", "method", "url", "body"}`, the id being the key. Results come in any order, each
line with its id, so the store does not care which file or service they are from. Both forms in use are read: the
completion in `response.body` (hosted services) and in `response` itself (some versions of vLLM).
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from curate import store
from curate.errors import DataError, RecipeError
from curate.generate import reply
from curate.generate.answers import Answer, Answers
from curate.generate.request import Request

URL = "/v1/chat/completions"

_GROUP = 1000
_SHOWN = 20
_LONGEST = 32 << 20
_MARK = b"\xef\xbb\xbf"
_STRANGE = {
    b"\x1f\x8b": "compressed (gzip): unpack it",
    b"PK\x03\x04": "compressed (zip): unpack it",
    b"\x28\xb5\x2f\xfd": "compressed (zstd): unpack it",
    b"\xff\xfe": "UTF-16: write it as UTF-8",
    b"\xfe\xff": "UTF-16: write it as UTF-8",
    b"{\0": "UTF-16: write it as UTF-8",
    b"\0{": "UTF-16: write it as UTF-8",
}


@dataclass(frozen=True)
class Limits:
    """Of one file: lines, and bytes. What hosted services allow is the default; look up what yours does."""

    lines: int = 50_000
    bytes: int = 200_000_000

    def __post_init__(self) -> None:
        if self.lines < 1 or self.bytes < 1:
            raise RecipeError(f"limits of {self.lines} lines and {self.bytes} bytes; at least 1 of each is wanted")


class Bad(NamedTuple):
    """A line that is no result: 1-based, and why."""

    line: int
    reason: str


@dataclass
class Loaded:
    """What was in a file of results. `answered` and `refused` (400, 413, 422) are stored; `known` had an answer before,
    in the store or earlier in the file. `failed` lines say that the service had no answer: export them again.
    `unknown` ids were not asked for. `bad` lines are no results; the first few are in `places`."""

    answered: int = 0
    refused: int = 0
    known: int = 0
    failed: int = 0
    unknown: int = 0
    bad: int = 0
    estimated: int = 0
    places: list[Bad] = field(default_factory=list)


def export(requests: Iterable[Request], folder: str, limits: Limits | None = None) -> list[str]:
    """Write files `requests-00000.jsonl` and on below `folder`; gives their locations. Each appears whole or not at
    all. RecipeError if the folder has such files already, or a request is larger than a file may be."""
    limits = limits or Limits()
    old = [name for name in store.listing(folder) if name.startswith("requests-") and name.endswith(".jsonl")]
    if old:
        raise RecipeError(f"{folder} has {len(old)} files of requests already, as {min(old)}; name an empty folder")
    files: list[str] = []
    lines = _lines(requests, limits)
    line = next(lines, None)
    while line is not None:
        files.append(store.join(folder, f"requests-{len(files):05}.jsonl"))
        count = size = 0
        with store.writing(files[-1]) as file:
            while line is not None and count < limits.lines and size + len(line) <= limits.bytes:
                file.write(line)
                count, size = count + 1, size + len(line)
                line = next(lines, None)
    return files


def examine(path: str) -> None:
    """DataError for a file of results that is compressed or no UTF-8, as its first bytes say."""
    with store.open_input(path) as file:
        head = file.read(4)
    for mark, what in _STRANGE.items():
        if head.startswith(mark):
            raise DataError(f"{path} is {what} first; lines of JSON are wanted, nothing of it was taken")


def load(path: str, answers: Answers, asked: "Iterable[str] | None" = None) -> Loaded:
    """Take a file of results into the store. `asked` are the keys that were sent; without it every id that has the form
    of a key is one. A line that is cut off or otherwise bad is counted and told, and the others are taken. DataError,
    and nothing is taken, if the file is compressed or no UTF-8."""
    examine(path)
    known = None if asked is None else set(asked)
    loaded = Loaded()
    with store.open_input(path) as file:
        numbered = enumerate(iter(lambda: file.readline(_LONGEST), b""), 1)
        while group := list(itertools.islice(numbered, _GROUP)):
            found: dict[str, Answer] = {}
            for number, line in group:
                if line.strip():
                    _take(line, number, known, found, loaded)
            held = answers.held(found)
            fresh = [answer for key, answer in found.items() if key not in held]
            answers.put(fresh)
            loaded.known += len(held)
            loaded.answered += sum(not answer.error for answer in fresh)
            loaded.refused += sum(bool(answer.error) for answer in fresh)
    return loaded


def _lines(requests: Iterable[Request], limits: Limits) -> Iterator[bytes]:
    for request in requests:
        head = orjson.dumps({"custom_id": request.key, "method": "POST", "url": URL})
        line = head[:-1] + b',"body":' + request.body + b"}\n"
        if len(line) > limits.bytes:
            raise RecipeError(f"request {request.key} has {len(line)} bytes, a file may have {limits.bytes}")
        yield line


def _take(line: bytes, number: int, known: set[str] | None, found: dict[str, Answer], loaded: Loaded) -> None:
    """One line of results."""
    try:
        raw = reply.parsed(line)
    except ValueError:
        _bad(loaded, number, "no JSON" if line.endswith(b"\n") else "cut off")
        return
    key = raw.get("custom_id") if isinstance(raw, dict) else None
    if not isinstance(key, str):
        _bad(loaded, number, "no `custom_id`")
        return
    if key not in known if known is not None else not _is_key(key):
        loaded.unknown += 1
        return
    if key in found:
        loaded.known += 1
        return
    try:
        read = _result(raw, key)
    except reply.Garbled as error:
        _bad(loaded, number, str(error))
        return
    if read is None:
        loaded.failed += 1
        return
    loaded.estimated += read.estimated
    found[key] = read.answer


def _result(raw: dict[str, Any], key: str) -> reply.Read | None:
    """The answer in a line; None if it says that there is none."""
    response = raw.get("response")
    if not isinstance(response, dict):
        if response is None and raw.get("error") is not None:
            return None
        raise reply.Garbled("neither `response` nor `error`")
    body = response.get("body", response)
    status = response.get("status_code", 200)
    if status in reply.REFUSED:
        error = f"{status}: {reply.complaint(json.dumps(body).encode())}"
        return reply.Read(Answer(key, "", "", 0, 0, 0.0, error), False)
    if status != 200 or raw.get("error") is not None:
        return None
    return reply.completion(body, key, names=(), prompt_tokens=0, seconds=0.0)


def _is_key(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _bad(loaded: Loaded, number: int, reason: str) -> None:
    loaded.bad += 1
    if len(loaded.places) < _SHOWN:
        loaded.places.append(Bad(number, reason))
