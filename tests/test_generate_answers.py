"""Requests have keys that say what they are, the store keeps what it was given, replies are read without trust."""

import json
import sqlite3
import threading

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import DataError, RecipeError, StoreError
from curate.generate import reply
from curate.generate.answers import SCHEMA, Answer, Answers
from curate.generate.request import Sampling, request

SAMPLING = Sampling(temperature=0.7, top_p=0.9, max_tokens=64)
TEXT = st.text(st.characters(exclude_categories=("Cs",)))


def made(text="a", **more):
    known = {"model": "m", "revision": "r", "sampling": SAMPLING, "style": "easy", "prompt_version": 1}
    return request([{"role": "user", "content": text}], **known | {"prompt_tokens": 3} | more)


def key(number):
    return f"{number:064x}"


def said(number, text="text", **more):
    return Answer(key(number), text, "stop", 3, 4, 0.5, "")._replace(**more)


def test_a_key_changes_with_all_that_an_answer_depends_on_and_nothing_else():
    others = [
        made("b"),
        made(model="n"),
        made(revision="s"),
        made(style="hard"),
        made(prompt_version=2),
        made(sampling=Sampling(0.7, 0.9, 64, top_k=5)),
        made(sampling=Sampling(0.7, 0.9, 64, seed=1)),
        made(sampling=Sampling(0.7, 0.9, 65)),
    ]
    assert len({one.key for one in [made(), *others]}) == 9
    assert made(prompt_tokens=9).key == made().key
    assert len(made().key) == 64


@given(TEXT)
def test_a_body_is_what_was_asked(text):
    body = json.loads(made(text).body)
    assert body["messages"] == [{"role": "user", "content": text}]
    assert (body["model"], body["max_tokens"], body["seed"]) == ("m", 64, 0)
    assert "top_k" not in body
    assert json.loads(made(sampling=Sampling(0, 1, 5, top_k=3)).body)["top_k"] == 3


@pytest.mark.parametrize("wrong", [(-1, 1, 5), (0, 0, 5), (0, 2, 5), (0, 1, 0), (float("nan"), 1, 5)])
def test_sampling_that_is_none(wrong):
    with pytest.raises(RecipeError):
        Sampling(*wrong)


@given(st.lists(st.tuples(st.integers(0, 30), TEXT, TEXT), max_size=40), st.lists(st.integers(0, 40), max_size=30))
def test_the_store_gives_back_the_first_answer_to_each_key(tmp_path_factory, put, asked):
    path = str(tmp_path_factory.mktemp("answers") / "a.sqlite")
    first: dict[int, Answer] = {}
    with Answers.open(path) as answers:
        for number, text, error in put:
            answers.put([said(number, text, error=error)])
            first.setdefault(number, said(number, text, error=error))
    with Answers.open(path) as answers:
        assert answers.held(map(key, asked)) == {key(number) for number in asked if number in first}
        table = answers.read([key(number) for number in asked])
        assert len(answers) == len(first)
    assert table.schema == SCHEMA
    nothing = (None,) * len(SCHEMA.names)
    wanted = [first[number][1:] if number in first else nothing for number in asked]
    assert [tuple(row.values()) for row in table.to_pylist()] == wanted


def test_more_keys_than_a_statement_takes(tmp_path):
    with Answers.open(str(tmp_path / "a")) as answers:
        answers.put(said(number, str(number)) for number in range(5000))
        keys = [key(number) for number in range(4999, -2000, -1) if number >= 0] + [key(9999)]
        assert answers.read(keys)["text"].to_pylist() == [*map(str, range(4999, -1, -1)), None]
        assert len(answers.held(keys)) == 5000
        answers.forget(keys[:10])
        assert len(answers) == 4990


def test_several_writers_of_one_file(tmp_path):
    path = str(tmp_path / "a")

    def write(start):
        with Answers.open(path) as answers:
            for number in range(start, start + 200):
                answers.put([said(number % 300)])

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Answers.open(path) as answers:
        assert len(answers) == 300


def test_several_processes_may_make_one_new_file(tmp_path):
    wrong = []

    def make(path):
        try:
            with Answers.open(path) as answers:
                answers.put([said(1)])
        except (DataError, StoreError) as error:
            wrong.append(error)

    for number in range(20):
        threads = [threading.Thread(target=make, args=(str(tmp_path / f"a{number}"),)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_group_is_stored_whole_or_not_at_all(tmp_path):
    with Answers.open(str(tmp_path / "a")) as answers:
        with pytest.raises(ValueError, match="hex"):
            answers.put([said(1), said(2)._replace(key="no key")])
        assert len(answers) == 0
        answers.put([said(1)])


def test_what_is_no_store_of_answers_is_left_alone(tmp_path):
    (tmp_path / "text").write_text("no database, but long enough to have a head of one hundred bytes " * 5)
    with pytest.raises(DataError, match="no store of answers"):
        Answers.open(str(tmp_path / "text"))
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE t (a)")
    other.commit()
    other.close()
    with pytest.raises(DataError, match="something else"):
        Answers.open(str(tmp_path / "other"))
    with pytest.raises(StoreError, match="there is no folder"):
        Answers.open(str(tmp_path / "missing" / "a"))
    with pytest.raises(RecipeError, match="local file"):
        Answers.open("memory://a")


GOOD = {
    "id": "x",
    "model": "m",
    "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
}


def seen(raw, names=("m",)):
    return reply.read(orjson.dumps(raw), key(1), names=names, prompt_tokens=7, seconds=0.1)


def test_a_good_reply():
    assert seen(GOOD) == (Answer(key(1), "yes", "stop", 1, 2, 0.1, ""), False)
    assert seen(GOOD | {"usage": None}) == (Answer(key(1), "yes", "stop", 7, 1, 0.1, ""), True)


@pytest.mark.parametrize(
    ("asked", "told", "fine"),
    [
        ("m", None, True),
        ("m", "m-2026-01-01", True),
        ("org/m", "m", True),
        ("m", "/models/m.gguf", True),
        ("gpt-4o", "GPT-4o-2024-07-18", True),
        ("gpt-4", "gpt-4-0613", True),
        ("claude", "claude-20240229", True),
        ("mistral-large", "mistral-large-2407", True),
        ("mistral/Small", "mistral/small", True),
        ("org/m", "/models/org/M.GGUF", True),
        ("org/m", "org/m-2026-01-01", True),
        ("gpt-4", "gpt-4o-mini", False),
        ("gpt-4", "gpt-4-turbo-2024-04-09", False),
        ("gpt-4", "gpt-4-32k", False),
        ("gpt-4", "gpt-4-9999", False),
        ("Llama-3", "Llama-3.1-8B", False),
        ("small", "small-but-other", False),
        ("m-2026-01-01", "m", False),
        ("m", "", False),
        ("m", "n", False),
        ("m", 5, False),
    ],
)
def test_names_of_a_model(asked, told, fine):
    assert reply.called(told, (asked,)) == fine
    assert reply.called(told, ()) == (told != 5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = [("id",), ("model",), ("choices",), ("choices", 0), ("choices", 0, "message"), ("usage",)]
PLACES += [("choices", 0, "message", "content"), ("choices", 0, "finish_reason"), ("usage", "prompt_tokens")]


@given(st.sampled_from(PLACES), JSON)
def test_whatever_stands_in_a_field_is_an_answer_or_garbled(place, value):
    raw = json.loads(json.dumps(GOOD))
    inner = raw
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    try:
        found = seen(raw, names=())
    except reply.Garbled:
        return
    assert isinstance(found.answer.text, str)
    assert isinstance(found.answer.finish_reason, str)
    assert min(found.answer.prompt_tokens, found.answer.completion_tokens) >= 0


BODY = '{"model": "m", "choices": [{"message": {"content": CONTENT}, "finish_reason": END}], "usage": USAGE}'


def body(content='"x"', end='"stop"', usage="null"):
    return BODY.replace("CONTENT", content).replace("END", end).replace("USAGE", usage).encode()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (body(r'"x \ud83d y"'), "x \ufffd y"),
        (body(r'"x \ud83d\ude00 y"'), "x \U0001f600 y"),
        (body(end="null"), "x"),
        (body(usage='{"cost": NaN}'), "x"),
        (b"\xef\xbb\xbf" + body(), "x"),
        (body('[{"type": "text", "text": "x"}, {"text": "y"}]'), "xy"),
        (body('[{"type": "thinking", "thinking": []}, {"type": "text", "text": "x"}]'), "x"),
        (body("[]"), ""),
        (body("null"), ""),
    ],
)
def test_odd_replies_that_can_be_read_are(tmp_path, raw, text):
    found = reply.read(raw, key(1), names=("m",), prompt_tokens=7, seconds=0.1).answer
    assert (found.text, found.finish_reason) == (text, "stop")
    with Answers.open(str(tmp_path / "a")) as answers:
        answers.put([found])
        assert answers.read([key(1)])["text"].to_pylist() == [text]


@pytest.mark.parametrize(
    "raw",
    [
        body('["x"]'),
        body('[{"type": "image"}]'),
        body("5"),
        body(end="7"),
        body().replace(b"finish_reason", b"end"),
        body()[:-3],
        "\xe9".encode("latin-1"),
        b"[" * 100_000,
        body().decode().encode("utf-16"),
    ],
)
def test_replies_that_cannot_be_read_are_garbled(raw):
    with pytest.raises(reply.Garbled):
        reply.read(raw, key(1), names=("m",), prompt_tokens=7, seconds=0.1)


@given(st.binary(max_size=50))
def test_whatever_bytes_a_server_complains_with(body):
    assert len(reply.complaint(body)) <= 200
    with pytest.raises(reply.Garbled):
        reply.read(body, key(1), names=(), prompt_tokens=1, seconds=0)
