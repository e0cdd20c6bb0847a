"""`fetch` against a server that fails in every way: nothing is lost, asked again or told that should not be."""

import asyncio
import base64
import importlib.util
import json
import logging
import os
import pickle
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import llm_server
import pytest
from generated import KEY, asked, got, passages, quiet, small
from llm_server import FAULTS, answer, mixed, served

from curate.errors import AssetError, BusyError, RecipeError, StoreError, Unanswered
from curate.generate import dispatch, endings, lanes, reply
from curate.generate.answers import Answers
from curate.generate.budget import Budget
from curate.generate.client import Service, fetch, service
from curate.generate.request import PROBE


@pytest.fixture
def answers(tmp_path):
    with Answers.open(str(tmp_path / "answers.sqlite")) as opened:
        yield opened


def texts(answers, count):
    return answers.read([request.key for request in passages(count)])["text"].to_pylist()


def wanted(count):
    return [answer(f"passage number {number}") for number in range(count)]


def test_all_is_answered_once_and_never_asked_again(answers):
    with served() as server:
        outcome = got(passages(300), answers, small(server.url))
        assert texts(answers, 300) == wanted(300)
        assert (outcome.answered, outcome.sent, outcome.done) == (300, 300, 300)
        again = got(passages(310), answers, small(server.url))
        assert (again.held, again.answered, again.sent) == (300, 10, 10)
        assert set(server.seen.requests.values()) == {1}
        assert server.seen.most <= 16


def test_a_request_that_comes_twice_is_sent_once(answers):
    with served(seconds=0.05) as server:
        outcome = got([*passages(40), *passages(40)], answers, small(server.url))
        assert outcome.repeated + outcome.held == 40
        assert server.seen.requests.total() == 40


def test_requests_are_read_as_they_are_sent(answers):
    read, most = Counter(), []

    def source():
        for request in passages(600):
            read["all"] += 1
            most.append(read["all"] - len(answers))
            yield request

    with served() as server:
        got(source(), answers, small(server.url))
    assert max(most) < 120


def test_a_source_that_fails_leaves_what_was_answered(answers):
    def source():
        yield from passages(100)
        raise ValueError("no more of these")

    with served(seconds=0.01) as server, pytest.raises(ValueError, match="no more"):
        got(source(), answers, small(server.url))
    assert len(answers) == sum(text is not None for text in texts(answers, 100))


@pytest.mark.parametrize(
    "fault",
    [
        *(one for one in FAULTS if one != "wrong_model"),
        "unended",
        "huge",
        "500",
        "503",
        "408",
        "409",
        "425",
        "429",
        "429:0",
        "202",
    ],
)
def test_a_fault_is_met_with_another_try(answers, fault, monkeypatch):
    monkeypatch.setattr(lanes, "LARGEST", 1 << 20)
    with served(lambda text, attempt: fault if attempt < 3 else "ok") as server:
        outcome = got(passages(4), answers, small(server.url, timeout=0.4 if fault in ("hang", "slow") else 20.0))
    assert texts(answers, 4) == wanted(4)
    assert outcome.tries.total() == 8
    assert outcome.sent == 12
    assert set(server.seen.requests.values()) == {3}


def test_many_faults_at_once_lose_nothing(answers):
    with served(mixed) as server:
        outcome = got(passages(300), answers, small(server.url, timeout=1.0))
    assert texts(answers, 300) == wanted(300)
    assert outcome.sent == server.seen.requests.total() == 300 + outcome.tries.total()
    assert outcome.tries.total() == sum(mixed(f"passage number {n}", 1) != "ok" for n in range(300)) + sum(
        mixed(f"passage number {n}", 1) != "ok" and mixed(f"passage number {n}", 2) != "ok" for n in range(300)
    )


@pytest.mark.parametrize("told", ["429:0.4", "503:0.4", "429:date"])
def test_a_server_that_names_a_time_is_left_alone_until_then(answers, told):
    asked_at = []

    def faults(text, attempt):
        asked_at.append(time.monotonic())
        return told if len(asked_at) == 1 else "ok"

    with served(faults) as server:
        outcome = got(passages(30), answers, small(server.url, most=1))
    # A date has whole seconds: that in one second may be a moment from now.
    assert asked_at[1] - asked_at[0] > (0.39 if "." in told else 0.005)
    assert outcome.tries.total() == 1


def test_one_that_fails_every_time_stops_no_other(answers):
    def faults(text, attempt):
        return "500" if text.endswith(("7", "13")) else "ok"

    with served(faults) as server, pytest.raises(Unanswered, match=r"3 requests are open \(500\); 17 are answered"):
        got(passages(20), answers, small(server.url, tries=3))
    assert [number for number, text in enumerate(texts(answers, 20)) if text is None] == [7, 13, 17]
    assert server.seen.requests["passage number 7"] == 3
    with served() as server:
        assert got(passages(20), answers, small(server.url)).answered == 3


def test_a_server_that_is_gone_ends_the_run(answers):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unanswered, match=r"5 requests in a row failed all their 2 tries.*open \(no connection\)"):
        got(passages(200), answers, small(f"http://127.0.0.1:{port}", tries=2, breaker=5))


def test_a_server_that_dies_and_rises_is_waited_for(answers):
    with served(seconds=0.01) as server:
        threading.Timer(0.1, server.die).start()
        threading.Timer(0.4, server.rise).start()
        outcome = got(passages(400), answers, small(server.url, pause=0.2))
    assert texts(answers, 400) == wanted(400)
    assert outcome.tries.total() > 0


@pytest.mark.parametrize("status", ["400", "413", "422"])
def test_a_request_that_is_refused_is_an_answer(answers, status):
    with served(lambda text, attempt: status if text.endswith("3") else "ok") as server:
        outcome = got(passages(20), answers, small(server.url))
        again = got(passages(20), answers, small(server.url))
    assert (outcome.answered, outcome.refused, outcome.sent, again.sent) == (18, 2, 20, 0)
    row = answers.read([asked("passage number 13").key]).to_pylist()[0]
    assert (row["text"], row["error"]) == ("", f"{status}: refused with {status}: passage number 13")


def test_when_all_of_the_first_are_refused_none_of_it_is_kept(answers):
    with (
        served(lambda text, attempt: "400") as server,
        pytest.raises(AssetError, match=r"\d+ requests in a row were refused, the last with 400.*context length"),
    ):
        got(passages(500), answers, small(server.url, breaker=20))
    assert len(answers) == 0
    assert server.seen.requests.total() < 60


@pytest.mark.parametrize("status", ["401", "402", "403", "404", "405", "redirect"])
def test_a_server_that_will_have_none_of_ours_ends_the_run_at_once(answers, status):
    with served(lambda text, attempt: status, seconds=0.02) as server, pytest.raises(AssetError) as caught:
        got(passages(5000), answers, small(server.url))
    assert server.seen.requests.total() <= 32
    assert server.url in str(caught.value)
    assert len(answers) == 0


def test_requests_that_hang_are_given_up_when_the_run_must_end(answers):
    started = time.monotonic()
    with (
        served(lambda text, attempt: "401" if text.endswith("19") else "hang") as server,
        pytest.raises(AssetError, match="401"),
    ):
        got(passages(20), answers, small(server.url, most=32, timeout=60.0))
    assert time.monotonic() - started < 10


def test_the_key_is_said_to_the_server_alone(answers, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    with served(lambda text, attempt: "echo_key") as server:
        at = server.url.replace("http://", "http://user:pass-word@") + "/v1?token=very-hidden"
        known = small(at)
        with pytest.raises(AssetError) as caught:
            got(passages(3), answers, known)
        assert f"Bearer {KEY}".encode() in server.seen.headers
        assert b"POST /v1/chat/completions?token=very-hidden" in server.seen.headers
    chain, error = [], caught.value
    while error is not None:
        chain.append(f"{error!r} {error} {error.args}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for secret in (KEY, "pass-word", "very-hidden"):
        assert secret not in f"{known!r} {known} {chain} {caplog.text} {known.shown}"
        assert secret.encode() not in stored
    assert pickle.loads(pickle.dumps(known)) == known


def test_user_and_password_in_the_address_are_sent_where_there_is_no_key(answers):
    with served() as server:
        got(passages(1), answers, small(server.url.replace("//", "//me:mine@"), key=""))
        assert b"Authorization: Basic bWU6bWluZQ==" in server.seen.headers
        got([asked("another")], answers, small(server.url, key=""))
        assert b"authorization" not in server.seen.headers.lower()


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://h:1", "http://h:1/v1/chat/completions"),
        ("http://h:1/", "http://h:1/v1/chat/completions"),
        ("https://h/v1", "https://h/v1/chat/completions"),
        ("https://h/api/v3/", "https://h/api/v3/chat/completions"),
        ("https://h/x/v1/chat/completions", "https://h/x/v1/chat/completions"),
        ("https://u:p@h/v1?a=b#c", "https://h/v1/chat/completions?a=b"),
    ],
)
def test_addresses(base, url):
    assert Service(base).url == url


@pytest.mark.parametrize("base", ["", "h:1", "ftp://h", "http://", "http://h:port", "http://[::1"])
def test_what_is_no_address_is_said_so_without_showing_it(base):
    with pytest.raises(RecipeError, match="no URL"):
        Service(base, key=KEY)


def test_a_service_from_the_environment(monkeypatch):
    monkeypatch.setenv("SOME_LLM", "http://127.0.0.1:1/v1")
    assert (service("env:SOME_LLM").key, service("env:SOME_LLM", most=3).most) == ("", 3)
    monkeypatch.setenv("SOME_LLM_KEY", KEY)
    assert service("env:SOME_LLM").key == KEY
    with pytest.raises(RecipeError, match="OTHER_LLM is not set"):
        service("env:OTHER_LLM")
    monkeypatch.setenv("SOME_LLM_KEY", "two words")
    with pytest.raises(RecipeError) as caught:
        service("env:SOME_LLM")
    assert "two words" not in str(caught.value)


def test_answers_without_usage_text_or_plain_coding(answers):
    kinds = {"passage number 0": "no_usage", "passage number 1": "null", "passage number 2": "length"}
    with served(lambda text, attempt: kinds.get(text, "gzip")) as server:
        outcome = got(passages(5), answers, small(server.url))
    assert texts(answers, 5) == [wanted(5)[0], "", *wanted(5)[2:]]
    assert outcome.estimated == 1
    rows = answers.read([asked("passage number 2").key, asked("passage number 0").key]).to_pylist()
    assert rows[0]["finish_reason"] == "length"
    assert rows[1]["prompt_tokens"] == 6
    assert rows[1]["completion_tokens"] == -(-len(wanted(1)[0]) // 4)


def test_the_number_at_once_falls_when_the_server_is_busy_and_grows_again(answers):
    sizes = []
    with served(lambda text, attempt: "429" if text.endswith("00") and attempt < 4 else "ok", seconds=0.01) as server:
        fetch(passages(1200), answers, small(server.url, most=64), report=lambda progress: sizes.append(progress.size))
    assert server.seen.most <= 64
    assert texts(answers, 1200) == wanted(1200)


def test_fetch_inside_a_running_loop(answers):
    async def outer(url):
        return fetch(passages(5), answers, small(url), report=quiet)

    with served() as server:
        assert asyncio.run(outer(server.url)).answered == 5


def test_a_certificate_that_nobody_signed_ends_the_run_before_a_word_is_said(answers, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    files = [str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*made, "-keyout", files[0], "-out", files[1]], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    with served(tls=context) as server, pytest.raises(AssetError, match="its certificate is not valid"):
        got(passages(5), answers, small(server.url))
    assert server.seen.requests.total() == 0


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("count", [1, 5, 19, 200])
def test_a_server_that_refuses_everything_is_believed_nothing(answers, count):
    with (
        served(lambda text, attempt: "400") as server,
        pytest.raises(AssetError, match=r"refused with 400: passage number \d+; and so was a request of one word"),
    ):
        got(passages(count), answers, small(server.url))
    assert len(answers) == 0
    with served() as server:
        assert got(passages(count), answers, small(server.url)).answered == count


def test_a_limit_that_is_met_on_the_way_leaves_only_answers(answers):
    seen = Counter()

    def limited(text, attempt):
        seen["all"] += 1
        return "ok" if seen["all"] <= 30 else "400"

    with served(limited) as server:
        with pytest.raises(AssetError, match="these refusals are not kept"):
            got(passages(400), answers, small(server.url))
        assert len(answers) == 30
        assert server.seen.requests.total() < 30 + 20 + 2 * 16 + 1
        server.faults = lambda text, attempt: "ok"
        assert got(passages(400), answers, small(server.url)).held == 30
    assert texts(answers, 400) == wanted(400)


@pytest.mark.parametrize("bad", [{5}, {19}, set(range(20)) - {3}, set(range(20))], ids=["one", "last", "most", "all"])
def test_refusals_are_kept_where_the_server_answers_a_word(answers, bad):
    with served(lambda text, attempt: "413" if text.split()[-1] in map(str, bad) else "ok") as server:
        outcome = got(passages(20), answers, small(server.url, breaker=5))
        assert (outcome.refused, outcome.answered) == (len(bad), 20 - len(bad))
        probes = server.seen.requests[PROBE]
        assert outcome.sent == 20 + probes
        assert probes <= 5
        assert got(passages(20), answers, small(server.url)).sent == 0
    assert len(answers) == 20
    keys = [request.key for request in passages(20)]
    errors = answers.read(keys)["error"].to_pylist()
    assert [number for number, error in enumerate(errors) if error] == sorted(bad)
    assert answers.forget_refused() == len(bad)
    assert answers.held(keys) == {key for number, key in enumerate(keys) if number not in bad}


def test_a_word_that_nobody_answers_leaves_refusals_open(answers):
    with (
        served(lambda text, attempt: "500" if text == PROBE else "413" if text.endswith("9") else "ok") as server,
        pytest.raises(Unanswered, match=r"\d+ requests? (is|are) open \(500\)"),
    ):
        got([asked("passage number 9")], answers, small(server.url, tries=2))
    assert len(answers) == 0


def test_a_word_is_paid_from_the_budget(answers):
    with served(lambda text, attempt: "ok" if text == PROBE else "413") as server:
        got(passages(3), answers, small(server.url, budget=Budget("b", tokens=1000)))
        assert answers.spent("b").all.tokens == server.seen.charged > 0
        answers.forget_refused()
        with pytest.raises(Unanswered, match="raise tokens"):
            got(passages(3), answers, small(server.url, budget=Budget("c", tokens=5)))


# ---------------------------------------------------------------- one at a time


def test_two_processes_do_not_ask_for_the_same(tmp_path):
    path = str(tmp_path / "answers.sqlite")
    client = Path(__file__).with_name("generated.py")
    with served(seconds=0.5) as server:
        command = [sys.executable, str(client), server.url, path, "600", "5", "0"]
        environment = os.environ | {"PYTHONPATH": str(client.parents[1] / "src")}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as first:
            try:
                while not server.seen.answered:
                    time.sleep(0.01)
                second = subprocess.run(command, env=environment, capture_output=True, text=True)
                with Answers.open(path) as answers:
                    assert 0 < len(answers) < 600, "reading is free meanwhile"
                server.seconds = 0.0
                assert first.wait(60) == 0, first.stderr.read()
            finally:
                first.kill()
        assert second.returncode == 1
        assert f"BusyError: {path}: process {first.pid} on " in second.stderr
        assert "run again when it has ended" in second.stderr
        assert subprocess.run(command, env=environment).returncode == 0
        assert set(server.seen.requests.values()) == {1}
        assert len(server.seen.requests) == 600


def test_a_run_that_needs_no_server_needs_no_store_of_its_own(answers):
    with served() as server:
        got(passages(5), answers, small(server.url))
        with Answers.open(answers.path) as other, other.hold():
            assert got(passages(5), answers, small(server.url)).held == 5
            with pytest.raises(BusyError, match="two at a time would pay"):
                got(passages(6), answers, small(server.url))
        assert got(passages(6), answers, small(server.url)).answered == 1


def test_a_store_that_is_removed_ends_the_run(tmp_path):
    path = tmp_path / "answers.sqlite"

    def faults(text, attempt):
        if text.endswith("number 50"):
            path.unlink()
        return "ok"

    with served(faults) as server, Answers.open(str(path)) as answers:
        with pytest.raises(StoreError, match="was removed or exchanged"):
            got(passages(3000), answers, small(server.url))
        assert server.seen.requests.total() < 200


# ---------------------------------------------------------------- another model


def test_answers_of_another_model_end_the_run_before_they_cost_much(answers):
    with (
        served(lambda text, attempt: "wrong_model", seconds=0.02) as server,
        pytest.raises(AssetError, match=r"of model 'quite-another', 'small' was asked for.*`model:`"),
    ):
        got(passages(400), answers, small(server.url, most=4))
    assert server.seen.requests.total() <= 8
    assert len(answers) == 0


def test_one_answer_of_another_model_is_met_with_another_try(answers):
    with served(lambda text, attempt: "wrong_model" if text.endswith("7") and attempt < 3 else "ok") as server:
        assert got(passages(20), answers, small(server.url)).answered == 20


# ---------------------------------------------------------------- secrets that are cut


@pytest.mark.parametrize("at", range(150, 205, 9))
@pytest.mark.parametrize("form", ["json", "plain", "object"])
def test_no_part_of_a_key_is_left_where_a_complaint_is_cut(at, form):
    known = Service(f"http://me:p%40ss{KEY}@h/v1?token=very-hidden", key=KEY)
    for secret in (KEY, f"p@ss{KEY}", f"p%40ss{KEY}", "very-hidden"):
        said = "x" * at + secret + " y" * 100
        body = {
            "json": json.dumps({"error": {"message": said}}),
            "plain": said,
            "object": json.dumps({"detail": [said]}),
        }
        shown = reply.complaint(body[form].encode(), known.clean)
        assert len(shown) <= 200
        assert not any(shown.endswith(secret[:size]) for size in range(3, len(secret)))
        assert secret not in shown


@pytest.mark.parametrize("before", [0, 60, 70, 75, 79])
def test_no_part_of_a_key_is_left_in_the_name_of_a_model(answers, before, monkeypatch):
    monkeypatch.setattr(
        llm_server, "completion", lambda model, *_: {"model": "x" * before + KEY, "choices": [], "usage": None}
    )
    with served() as server, pytest.raises(AssetError, match="of model ") as caught:
        got(passages(5), answers, small(server.url))
    name = str(caught.value).partition("of model ")[2].split("'")[1]
    assert name.rstrip("*") == "x" * before


def test_a_place_to_go_on_to_is_shown_without_the_key():
    clean = Service("http://h", key=KEY).clean
    assert KEY not in endings.status(302, clean(f"http://elsewhere/{KEY}/x"), "")


def test_user_and_password_are_decoded_and_hidden_in_both_forms():
    known = Service("http://u%20x:p%40ss%C3%A9@h/v1")
    assert base64.b64decode(known.authorization.split()[1]).decode() == "u x:p@ssé"
    assert known.clean("p@ssé, p%40ss%C3%A9 and u x:p@ssé") == "***, *** and ***"


# ---------------------------------------------------------------- what cannot be asked


@pytest.mark.parametrize(
    "base", ["http://ho st/v1", "http://h\x07/v1", "http://h\n/v1", "http://" + "a" * 64 + ".org", "http://a..b/v1",
             "http://h/a b", "http://<h>/v1", "http://\u2488com/v1"],
)  # fmt: skip
def test_an_address_that_nobody_can_ask_is_the_users_to_mend(answers, base):
    with pytest.raises(RecipeError, match="address"):
        got(passages(1), answers, small(base))


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("socks5://127.0.0.1:9", "socksio|cannot|used"),
        ("ftp://127.0.0.1:9", "HTTP_PROXY"),
        ("http://secret-user:pw@127.0.0.1:99999", "HTTP_PROXY"),
        ("http://" + "a" * 64 + ":80", "HTTP_PROXY"),
        ("http://", "HTTP_PROXY"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_said_so(answers, monkeypatch, proxy, said):
    for name in ("NO_PROXY", "no_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises((RecipeError, Unanswered), match=said) as caught:
        got(passages(1), answers, small("http://somewhere.invalid", tries=1))
    assert "secret-user" not in str(caught.value)
    if importlib.util.find_spec("socksio") is None:
        assert isinstance(caught.value, RecipeError)


@pytest.mark.parametrize("there", [False, True])
def test_certificates_that_cannot_be_read_are_said_so(answers, monkeypatch, tmp_path, there):
    file = tmp_path / "certificates.pem"
    if there:
        file.write_text("none")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with served() as server, pytest.raises(AssetError, match=r"SSL_CERT_FILE=.*certificates\.pem"):
        got(passages(1), answers, small(server.url))


def test_a_try_that_comes_due_while_the_run_goes_to_rest_is_made(answers, monkeypatch):
    rest = dispatch.Dispatch._rest

    async def late(self, now):
        time.sleep(0.05)  # longer than the pause before the next try
        await rest(self, now)

    monkeypatch.setattr(dispatch.Dispatch, "_rest", late)
    with served(lambda text, attempt: "500" if attempt < 3 else "ok") as server:
        assert got(passages(1), answers, small(server.url)).answered == 1
