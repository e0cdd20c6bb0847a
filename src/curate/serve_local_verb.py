"""The verb `serve-local`: a small model's server, alone or around a command. Nothing heavy is imported before it runs.

A command gets the server's address as CURATE_LLM, and the verb ends with its exit code.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from curate.errors import RecipeError

if TYPE_CHECKING:
    from curate.serving import Server

VARIABLE = "CURATE_LLM"

Add = Callable[[str, Callable[[argparse.Namespace], int | None], str], argparse.ArgumentParser]
Show = Callable[[dict[str, Any], argparse.Namespace, Callable[[dict[str, Any]], None]], None]


def register(add: Add, show: Show) -> None:
    """Add the verb by `add(name, function, text)`; what it tells goes to `show(told, options, tables)`."""

    def verb(options: argparse.Namespace) -> int:
        from curate import serving

        command = _program(options.command)
        given = {name: getattr(options, name) for name in ("port", "threads", "parallel", "context")}
        wanted = serving.settings(options.model, **given)
        with _handled(_stop, signal.SIGTERM, signal.SIGHUP):
            try:
                with serving.started(wanted) as server:
                    if command:
                        return _around(command, server)
                    told = {"url": server.url, "model": server.name, "context": server.context}
                    return _until_told(server, lambda: show({**told, "parallel": wanted.parallel}, options, _line))
            except _Told as signalled:
                return 128 + signalled.number

    sub = add("serve-local", verb, "serve a small language model on this machine, or run a command beside it")
    sub.usage = "curate serve-local [options] [-- COMMAND ...]"
    sub.add_argument("--model", metavar="MODEL.gguf", help="a model for llama.cpp (default the packaged SmolLM2-135M)")
    sub.add_argument("--port", type=_port, default=0, metavar="N", help="port on this machine (default a free one)")
    sub.add_argument("--threads", type=_whole, metavar="N", help="threads that compute (default half of the cores)")
    sub.add_argument("--parallel", type=_whole, default=4, metavar="N", help="answers computed at once (default 4)")
    sub.add_argument("--context", type=_whole, metavar="N", help="most tokens of prompt and answer (default 4096)")
    sub.add_argument("command", nargs="*", metavar="COMMAND", help=f"run with {VARIABLE} set to the server's address")


def _around(command: list[str], server: "Server") -> int:
    """Run the command beside the server; its exit code, or 128 and the number of the signal that ended it."""
    environment = {**os.environ, VARIABLE: server.url}
    environment.pop(f"{VARIABLE}_KEY", None)  # it is for another server
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(filter(None, (environment.get(name), "127.0.0.1")))
    came: list[int] = []
    # Ctrl-C in a terminal reaches the command by itself; what came to this process alone is passed on.
    with _handled(lambda number, frame: came.append(number), signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        try:
            process = subprocess.Popen(command, env=environment)
        except OSError as error:
            raise RecipeError(f"{command[0]} cannot be run: {error.strerror}") from error
        while (code := process.poll()) is None:
            while came:
                if (number := came.pop(0)) != signal.SIGINT:
                    process.send_signal(number)
            time.sleep(0.05)
    if server.process.poll() is not None:
        sys.stderr.write("curate: the local server ended before the command did\n")
    return code if code >= 0 else 128 - code


def _until_told(server: "Server", say: Callable[[], None]) -> int:
    """Say that it answers, and wait for Ctrl-C or SIGTERM, by which it is meant to end.

    CurateError if the server ends by itself.
    """
    try:
        say()
        sys.stdout.flush()
        while True:
            server.check()
            time.sleep(0.2)
    except KeyboardInterrupt:
        return 0


def _program(command: list[str]) -> list[str]:
    """RecipeError if there is no such program: better now than after the model is loaded."""
    import shutil

    if command and shutil.which(command[0]) is None:
        raise RecipeError(f"no program '{command[0]}' is found; what stands after -- is run without a shell")
    return command


class _Told(KeyboardInterrupt):
    """A signal other than that of Ctrl-C."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Told(number)


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None], *numbers: int) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _line(told: dict[str, Any]) -> None:
    sys.stdout.write(
        f"{told['url']} serves {told['model']}: {told['parallel']} answers at once, at most {told['context']:,} tokens "
        "each with their prompt; Ctrl-C ends it\n"
    )


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"a number from 1 to 65535 is wanted, found {text!r}")
    return int(text)


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is wanted, found {text!r}")
    return int(text)
