"""Files for batch services: written whole, read in any order and any state."""

import gzip
import json
import random
from pathlib import Path

import pytest
from generated import passages
from hypothesis import given
from hypothesis import strategies as st
from llm_server import answer, completion

from curate.errors import DataError, RecipeError, StoreError
from curate.generate.answers import Answers
from curate.generate.batch import Bad, Limits, export, load


def lines(files):
    return [json.loads(line) for file in files for line in Path(file).read_bytes().splitlines()]


def hosted(request, number):
    """A line of results in the hosted services' form, or in vLLM's other one."""
    body = completion("small", f"passage number {number}", "ok")
    response = {"status_code": 200, "request_id": "r", "body": body} if number % 2 else body
    return json.dumps({"id": f"b{number}", "custom_id": request.key, "response": response, "error": None})


@given(st.integers(0, 30), st.integers(1, 12), st.integers(400, 3000))
def test_files_keep_their_limits_and_have_each_request_once(tmp_path_factory, count, most, size):
    folder = str(tmp_path_factory.mktemp("batch"))
    files = export(passages(count), folder, Limits(most, size))
    for file in files:
        data = Path(file).read_bytes()
        assert 0 < data.count(b"\n") <= most
        assert len(data) <= size
        assert data.endswith(b"\n")
    found = lines(files)
    assert [one["custom_id"] for one in found] == [request.key for request in passages(count)]
    assert [one["body"] for one in found] == [json.loads(request.body) for request in passages(count)]
    assert {(one["method"], one["url"]) for one in found} <= {("POST", "/v1/chat/completions")}


def test_a_file_is_whole_or_not_there(tmp_path):
    def source():
        yield from passages(7)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        export(source(), str(tmp_path), Limits(lines=3))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["requests-00000.jsonl", "requests-00001.jsonl"]
    with pytest.raises(RecipeError, match="2 files of requests already"):
        export(passages(1), str(tmp_path))
    with pytest.raises(RecipeError, match="a file may have 50"):
        export(passages(1), str(tmp_path / "new"), Limits(bytes=50))
    with pytest.raises(RecipeError):
        Limits(lines=0)


def test_results_in_any_order_and_any_form_are_the_same_table(tmp_path):
    requests = list(passages(2500))
    keys = [request.key for request in requests]
    tables = []
    for seed in (1, 2):
        results = [hosted(request, number) for number, request in enumerate(requests)]
        random.Random(seed).shuffle(results)
        (tmp_path / "out.jsonl").write_text("\n".join(results))
        with Answers.open(str(tmp_path / f"a{seed}")) as answers:
            loaded = load(str(tmp_path / "out.jsonl"), answers, keys)
            assert (loaded.answered, loaded.bad, loaded.unknown) == (2500, 0, 0)
            again = load(str(tmp_path / "out.jsonl"), answers)
            assert (again.answered, again.known) == (0, 2500)
            tables.append(answers.read(keys))
    assert tables[0].equals(tables[1])
    assert tables[0]["text"].to_pylist() == [answer(f"passage number {number}") for number in range(2500)]


def test_lines_of_every_kind_are_counted_and_placed(tmp_path):
    requests = list(passages(8))
    keys = [request.key for request in requests]
    good = [hosted(request, number) for number, request in enumerate(requests)]
    refused = {"custom_id": keys[3], "response": {"status_code": 400, "body": {"error": {"message": "too long"}}}}
    failed = {"custom_id": keys[4], "response": None, "error": {"code": "batch_expired", "message": "late"}}
    busy = {"custom_id": keys[5], "response": {"status_code": 500, "body": {}}, "error": None}
    made = [
        good[0],
        good[0],
        "",
        "{no JSON}",
        json.dumps(refused),
        json.dumps(failed),
        json.dumps(busy),
        json.dumps({"custom_id": "strange", "response": {}}),
        good[1].replace(keys[1], "0" * 64),
        '{"custom_id": 5}',
        "[]",
        json.dumps({"custom_id": keys[6], "response": {"status_code": 200, "body": {"choices": []}}}),
        json.dumps({"custom_id": keys[6]}),
        good[7][:-30],
    ]
    (tmp_path / "out.jsonl").write_text("\n".join(made))
    with Answers.open(str(tmp_path / "a")) as answers:
        loaded = load(str(tmp_path / "out.jsonl"), answers, keys)
        assert answers.held(keys) == {keys[0], keys[3]}
        assert answers.read([keys[3]])["error"].to_pylist() == ["400: too long"]
    assert (loaded.answered, loaded.refused, loaded.known, loaded.failed, loaded.unknown) == (1, 1, 1, 2, 2)
    assert loaded.bad == 6
    assert loaded.places == [
        Bad(4, "no JSON"),
        Bad(10, "no `custom_id`"),
        Bad(11, "no `custom_id`"),
        Bad(12, "no `choices`"),
        Bad(13, "neither `response` nor `error`"),
        Bad(14, "cut off"),
    ]
    with Answers.open(str(tmp_path / "a")) as answers, pytest.raises(StoreError):
        load(str(tmp_path / "missing.jsonl"), answers)


def test_files_in_another_form_are_one_clear_error(tmp_path):
    requests = list(passages(5))
    text = "\n".join(hosted(request, number) for number, request in enumerate(requests))
    strange = {
        "gzip": gzip.compress(text.encode()),
        "UTF-16": text.encode("utf-16"),
        "UTF-16: write": text.encode("utf-16-le"),
        "zip": b"PK\x03\x04" + text.encode(),
    }
    with Answers.open(str(tmp_path / "a")) as answers:
        for said, data in strange.items():
            (tmp_path / "out.jsonl").write_bytes(data)
            with pytest.raises(DataError, match=f"{said}.*nothing of it was taken"):
                load(str(tmp_path / "out.jsonl"), answers)
        assert len(answers) == 0
        (tmp_path / "out.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
        loaded = load(str(tmp_path / "out.jsonl"), answers)
        assert (loaded.answered, loaded.bad) == (5, 0)
