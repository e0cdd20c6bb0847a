"""Requests read ahead of their sending, without those that have an answer or are on their way."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from curate.generate.books import Books, Call
from curate.generate.request import Request

_CHUNK = 256
_PATIENCE = 0.02  # seconds for a chunk: a slow source must not keep the server waiting


class Feed:
    """Fills `ready` with at least `most` requests while there are any; `ended` when all were read."""

    def __init__(
        self, requests: Iterable[Request], books: Books, ready: deque[Call], *, most: int, wake: asyncio.Event
    ) -> None:
        self.ended = False
        self._source, self._books, self._ready = iter(requests), books, ready
        self._most, self._wake = most, wake
        self._hungry = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "requests")

    async def run(self) -> None:
        """Read until the end."""
        books, size = self._books, max(16, min(_CHUNK, self._most))
        while not self.ended:
            while len(self._ready) >= self._most:
                self._hungry.clear()
                await self._hungry.wait()
            chunk, last = await asyncio.get_running_loop().run_in_executor(self._thread, _some, self._source, size)
            # Open before it is looked for: an answer is in the store before its key is no longer open.
            fresh = {request.key: request for request in chunk if request.key not in books.open}
            books.open.update(fresh)
            books.outcome.repeated += len(chunk) - len(fresh)
            held = await books.held(list(fresh))
            books.open -= held
            books.outcome.held += len(held)
            self._ready.extend(Call(request) for key, request in fresh.items() if key not in held)
            self.ended = last
            self._wake.set()

    def taken(self) -> None:
        """One was taken from `ready`."""
        if len(self._ready) < self._most:
            self._hungry.set()

    def close(self) -> None:
        """Wait until the source is not being read any more."""
        self._thread.shutdown()


def _some(source: Iterator[Request], size: int) -> tuple[list[Request], bool]:
    """The next requests, and whether these are the last."""
    chunk: list[Request] = []
    end = time.monotonic() + _PATIENCE
    for request in source:
        chunk.append(request)
        if len(chunk) >= size or time.monotonic() > end:
            return chunk, False
    return chunk, True
