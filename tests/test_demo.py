"""The demo corpus: what it holds, that it can be read, and that it is the same each time."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard
from tokenizers import Tokenizer

from curate.demo import Origin, docstring_documents, train_tokenizer, write_corpus
from curate.errors import RecipeError

COLUMNS = ["id", "text", "source", "url", "package", "license"]
ORIGIN = Origin("stdlib/thing.py", "thing.py", "python", "PSF-2.0")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "raw"
    write_corpus(str(folder), megabytes=2)
    return folder


def read(path: Path) -> list[dict[str, str]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    lines = zstandard.ZstdDecompressor().decompress(path.read_bytes())
    return [json.loads(line) for line in lines.splitlines()]


def test_each_source_is_there_in_its_format(corpus: Path) -> None:
    rows = {path.name: read(path) for path in sorted(corpus.iterdir()) if path.name != "tokenizer.json"}
    assert set(rows) == {"code-00.parquet", "docs-00.jsonl.zst", "license-00.parquet", "readme-00.jsonl.zst"}
    for name, documents in rows.items():
        assert documents
        for document in documents:
            assert list(document) == COLUMNS
            assert name.startswith(document["source"])
            assert document["id"].startswith(("stdlib/", "packages/", "topics/"))


def test_ids_are_unique_and_name_no_place_on_the_machine(corpus: Path) -> None:
    ids = [row["id"] for path in corpus.iterdir() if path.name != "tokenizer.json" for row in read(path)]
    assert len(ids) == len(set(ids))
    assert not [name for name in ids if ".." in name.split("/")]


def test_report_counts_what_was_written_and_the_caps_hold(tmp_path: Path) -> None:
    report = write_corpus(str(tmp_path), megabytes=1)
    for source, counts in report.items():
        rows = [row for path in tmp_path.glob(f"{source}-*") for row in read(path)]
        assert counts["documents"] == len(rows)
        assert counts["bytes"] == sum(len(row["text"].encode()) for row in rows)
        assert counts["files"] == len(list(tmp_path.glob(f"{source}-*")))
        last = 256 * 1024  # one document may cross the cap, and none is larger than this
        assert counts["bytes"] < 500_000 + last


def test_two_runs_write_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    write_corpus(str(tmp_path), megabytes=2)
    first = {path.name: path.read_bytes() for path in corpus.iterdir()}
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_tokenizer_gives_back_any_text(corpus: Path) -> None:
    tokenizer = Tokenizer.from_file(str(corpus / "tokenizer.json"))
    assert tokenizer.get_vocab_size() <= 16_384
    assert [tokenizer.id_to_token(number) for number in (0, 1)] == ["<|endoftext|>", "<|pad|>"]
    for text in ("def f(x):\n\treturn  x\r\n", "naïve 漢字 🤖\u200d\x00\ufeff", "", " "):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    words = "the documentation of the standard library "
    assert len(tokenizer.encode(words).ids) < len(words) / 3


def test_an_occupied_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(RecipeError, match="not empty"):
        write_corpus(str(tmp_path), megabytes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_size_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="0 MB"):
        write_corpus(str(tmp_path), megabytes=0)


def test_docstrings_come_by_module_function_and_class() -> None:
    code = (
        '"""Top."""\n'
        'def f():\n    """Eff."""\n'
        'class A:\n    """Ay."""\n    def m(self):\n        """Em."""\n'
        "def g(): pass\n"
    )
    found = [(document.id, document.text) for document in docstring_documents(ORIGIN, code)]
    assert found == [
        ("stdlib/thing.py", "Top."),
        ("stdlib/thing.py#f:2", "Eff."),
        ("stdlib/thing.py#A:4", "Ay.\n\nm\nEm."),
    ]


@pytest.mark.parametrize("code", ["def broken(:", "x = '\0'", r'"""\d"""' + "\nprint 1"])
def test_files_that_do_not_parse_give_nothing(code: str) -> None:
    assert list(docstring_documents(ORIGIN, code)) == []


def test_invalid_escapes_warn_nobody() -> None:
    assert [document.text for document in docstring_documents(ORIGIN, '"""\\d"""')] == ["\\d"]


def test_an_empty_corpus_still_gives_a_tokenizer() -> None:
    assert Tokenizer.from_str(train_tokenizer([])).get_vocab_size() == 258
