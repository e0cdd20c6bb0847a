"""A server of chat completions on loopback that answers with fixed texts and, when told to, misbehaves.

Answers are functions of the last message and the seed alone, so two runs that end well have equal answers; `says` gives
them, fixed texts if nothing else is told. `faults(text, attempt)`
names what happens to the n-th request (from 1) for a text: "ok", a status with an optional Retry-After ("500", "429:2",
"429:date"), or one of FAULTS. What it would charge is counted for every answer that it began to send.

    python llm_server.py --port 0 --seconds 1          prints its URL, and serves until it is killed
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from time import time
from typing import NamedTuple

FAULTS = (
    "hang",
    "half",
    "garbage",
    "list",
    "empty",
    "wrong_id",
    "wrong_model",
    "wrong_types",
    "slow",
    "close",
    "reset",
)
ODD = ("no_usage", "null", "length", "gzip", "redirect", "echo_key", "unended", "huge")

Faults = Callable[[str, int], str]


class Said(NamedTuple):
    """An answer, its tokens, and how it ended."""

    text: str
    tokens: int
    finish: str = "stop"


Says = Callable[[str, int], Said]
"""What is answered to a text and a seed."""


def fine(text: str, attempt: int) -> str:
    return "ok"


def mixed(text: str, attempt: int) -> str:
    """About a third of first and second tries fail in some way, third ones never do: the same each time."""
    draw = int.from_bytes(hashlib.sha256(f"{text} {attempt}".encode()).digest()[:4], "little")
    return (*FAULTS[1:], "429", "429:0", "500", "503")[draw // 3 % 14] if attempt < 3 and draw % 3 == 0 else "ok"


POLICIES: dict[str, Faults] = {"fine": fine, "mixed": mixed}


def answer(text: str) -> str:
    """What is answered to a text."""
    return f"So it is said: {text} " + hashlib.sha256(text.encode()).hexdigest()


def usage(text: str) -> tuple[int, int]:
    """Tokens of the prompt and of the answer."""
    return len(text.split()) + 3, 5 + len(text) % 7


def plainly(text: str, seed: int) -> Said:
    return Said(answer(text), usage(text)[1])


@dataclass
class Seen:
    """What a server was asked: requests by text (and seed, if it is not 0), what it charged, the headers of the last,
    the most at once."""

    requests: Counter[str] = field(default_factory=Counter)
    charged: int = 0
    answered: int = 0
    headers: bytes = b""
    now: int = 0
    most: int = 0

    def facts(self) -> dict[str, object]:
        return {
            "requests": dict(self.requests),
            "charged": self.charged,
            "answered": self.answered,
            "most": self.most,
        }


class Connection(asyncio.Protocol):
    """One connection: requests one after another, each answered after `seconds`."""

    def __init__(self, server: "Server") -> None:
        self.server, self.held, self.transport = server, b"", None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.server.open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.server.open.discard(self)

    def data_received(self, data: bytes) -> None:
        self.held = self.held + data if self.held else data
        end = self.held.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.held[:end]
        place = head.lower().find(b"content-length:")
        size = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
        if len(self.held) < end + 4 + size:
            return
        body, self.held = self.held[end + 4 : end + 4 + size], b""
        self.asked(head, body)

    def asked(self, head: bytes, body: bytes) -> None:
        server, seen = self.server, self.server.seen
        if head.startswith(b"GET /seen"):
            self.send(200, json.dumps(seen.facts()).encode())
            return
        raw = json.loads(body)
        text = raw["messages"][-1]["content"]
        seed = raw.get("seed") or 0
        name = f"{text} #{seed}" if seed else text
        seen.requests[name] += 1
        seen.headers = head
        seen.now += 1
        seen.most = max(seen.most, seen.now)
        fault = server.faults(name, seen.requests[name])
        asyncio.get_running_loop().call_later(
            server.seconds if fault != "hang" else 3600, self.reply, raw["model"], text, fault, seed
        )

    def reply(self, model: str, text: str, fault: str, seed: int) -> None:
        seen = self.server.seen
        seen.now -= 1
        if self.transport is None or self.transport.is_closing():
            return
        head, _, wait = fault.partition(":")
        if head.isdigit():
            told = formatdate(time() + 1, usegmt=True) if wait == "date" else wait
            error = {"error": {"message": f"refused with {head}: {text}"[:200], "type": "test"}}
            self.send(int(head), json.dumps(error).encode(), f"Retry-After: {told}\r\n" if wait else "")
            return
        if fault in ("close", "reset"):
            self.transport.abort() if fault == "reset" else self.transport.close()
            return
        said = self.server.says(text, seed)
        seen.charged += usage(text)[0] + said.tokens
        seen.answered += 1
        self.answered(model, text, fault, said)

    def answered(self, model: str, text: str, fault: str, said: Said) -> None:
        payload = completion(model, text, fault, said)
        body = b"\x00<html>not JSON" if fault == "garbage" else json.dumps(payload).encode()
        if fault == "redirect":
            self.send(302, b"", "Location: http://127.0.0.1:9/v1/chat/completions\r\n")
        elif fault == "echo_key":
            self.send(401, json.dumps({"error": {"message": f"wrong key: {self.server.seen.headers!r}"}}).encode())
        elif fault == "half":
            self.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])
            self.transport.close()
        elif fault == "unended":
            self.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(body), body))
            self.transport.close()
        elif fault == "huge":
            self.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n" + b" " * (2 << 20))
        elif fault == "slow":
            self.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode())
            self.dribble(body)
        elif fault == "gzip":
            import gzip

            self.send(200, gzip.compress(body), "Content-Encoding: gzip\r\n")
        else:
            self.send(200, body)

    def dribble(self, body: bytes) -> None:
        """A few bytes at a time: each soon after the other, the whole of it late."""
        if body and not self.transport.is_closing():
            self.write(body[:16])
            asyncio.get_running_loop().call_later(0.05, self.dribble, body[16:])

    def send(self, status: int, body: bytes, more: str = "") -> None:
        more = f"Content-Type: application/json\r\n{more}Content-Length: {len(body)}\r\n"
        self.write(f"HTTP/1.1 {status} X\r\n{more}\r\n".encode() + body)

    def write(self, data: bytes) -> None:
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.write(data)


def completion(model: str, text: str, fault: str, said: Said | None = None) -> object:
    """The body of an answer, with a fault in it."""
    said = said or plainly(text, 0)
    prompt, made = usage(text)[0], said.tokens
    message: dict[str, object] = {"role": "assistant", "content": None if fault == "null" else said.text}
    payload: dict[str, object] = {
        "id": "chatcmpl-" + hashlib.sha256(text.encode()).hexdigest()[:12],
        "object": "chat.completion",
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "length" if fault == "length" else said.finish}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made},
    }
    changed: dict[str, dict[str, object]] = {
        "empty": {"choices": []},
        "wrong_id": {"id": 17},
        "wrong_model": {"model": "quite-another"},
        "wrong_types": {"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]},
        "no_usage": {"usage": None},
    }
    return [payload] if fault == "list" else payload | changed.get(fault, {})


@dataclass
class Server:
    """What serves: its faults, and what it says, may be changed while it runs."""

    faults: Faults = fine
    seconds: float = 0.0
    tls: ssl.SSLContext | None = None
    says: Says = plainly
    seen: Seen = field(default_factory=Seen)
    open: set[Connection] = field(default_factory=set)
    url: str = ""
    listening: asyncio.Server | None = None
    loop: asyncio.AbstractEventLoop | None = None

    async def start(self, port: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.listening = await self.loop.create_server(
            lambda: Connection(self), "127.0.0.1", port, backlog=2048, ssl=self.tls
        )
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.listening.sockets[0].getsockname()[1]}"

    def die(self) -> None:
        """Close the port and cut every connection, from any thread."""
        assert self.loop is not None
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (self._cut(), done.set()))
        done.wait(10)

    def rise(self) -> None:
        """Serve again at the same port."""
        assert self.loop is not None
        asyncio.run_coroutine_threadsafe(self.start(int(self.url.rsplit(":", 1)[1])), self.loop).result(10)

    def _cut(self) -> None:
        assert self.listening is not None
        self.listening.close()
        for one in list(self.open):
            assert isinstance(one.transport, asyncio.Transport)
            one.transport.abort()


@contextlib.contextmanager
def served(
    faults: Faults = fine, *, seconds: float = 0.0, tls: ssl.SSLContext | None = None, says: Says = plainly
) -> Iterator[Server]:
    """A server in a thread of its own, gone when the block ends."""
    server = Server(faults, seconds, tls, says)
    ready, ended = threading.Event(), asyncio.Event()

    async def main() -> None:
        await server.start(0)
        ready.set()
        await ended.wait()
        server._cut()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        assert server.loop is not None
        server.loop.call_soon_threadsafe(ended.set)
        thread.join(10)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--faults", choices=sorted(POLICIES), default="fine")
    options = parser.parse_args()

    async def serve() -> None:
        server = Server(POLICIES[options.faults], options.seconds)
        await server.start(options.port)
        print(server.url, flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
