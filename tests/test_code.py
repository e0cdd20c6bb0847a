"""Counts of source code equal what plain Python says; columns and rule bundles follow from them."""

import os
from pathlib import Path

import numpy as np
import oracle_code
import oracles
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import hostile_text

from curate.kernels.code import code_counts
from curate.kernels.code_syntax import FAMILIES, FAMILY_OF, MARKS
from curate.stage import Verdict
from curate.stages.code import COLUMNS, PARSED_COLUMNS, Code, python_counts

compiles = settings(deadline=None)
LANGUAGES = ["", "python", "c", "c++", "c#", "java", "javascript", "typescript", "go", "rust", "ruby", "perl", "html"]
LANGUAGES += ["shell", "sql", "lua", "haskell", "css", "php", "common lisp", "assembly", "fortran", "matlab", "json"]
LANGUAGES += ["vba", "pascal", "ocaml"]

_PIECES = [
    *("'", '"', "`", "'''", '"""', "\\", "\\\\", '\\"', "#", "//", "/*", "*/", "--", "--[[", "]]", "[[", "<!--", "-->"),
    *("{-", "-}", "(*", "*)", "{", "}", ";", "%", "!", "#|", "|#", "\n", "\n\n", " ", "\t", "\r\n", "\f", "\u2028"),
    *(
        "assert",
        "Import",
        "pass",
        "print",
        "printf",
        "cout",
        "console.log",
        "fmt.Print",
        "Console.WriteLine",
        "System.out.print",
    ),
    *("struct", "using", "# include", "#define", "return", "return x", "def ", "func ", "fn ", "function ", "sub "),
    *(
        "int foo(a)",
        "main() {",
        "main (a,\nb)\n{",
        "(",
        ")",
        "int *a (b)",
        "else if (c)",
        "0x1F",
        "0Xg",
        "x0x1f",
        "},",
        "x",
    ),
    *("TODO", "fixme", "Your code here", "todo\x00", "your\x00code here", "auto-generated", "Do not edit", "generate"),
    *(
        "<?xml version=",
        "<p>",
        "</p>",
        "<script a='>'>",
        "</script>",
        "<style>",
        "</STYLE>",
        "&amp;",
        "&;",
        "<",
        '<a b=">">',
    ),
    *("\\x41", "\\x4", "0x41,", "41 ", "4f,", "ab, ", "\\u00e9", "\\u00e", "\u00e94f ", "4f\u00e9", "\u00b2", "\ufffd"),
    *("A" * 63, "B" * 64, "c+/=" * 20, "4f " * 8, "0x41," * 9, "a\\x41" + "\\x42" * 9, "\\u00e9" * 8, "4f\u3000" * 8),
    *("x" * 21, "http://" + "y" * 20, "https://", "a.b " * 11, "w " * 21, "}\n},\n}\n},", "e\u0301\U0001f600"),
]
code_text = st.lists(st.one_of(st.sampled_from(_PIECES), hostile_text), max_size=30).map("".join)


def counted(texts: list[str], languages: list[str], *, before: bytes = b"") -> list[dict[str, int]]:
    offsets, data = oracles.rows([text.encode() for text in texts], before=before)
    names = sorted(set(languages))
    places = np.array([names.index(language) for language in languages], np.int64)
    found = code_counts(offsets, data, languages=names, language=places)
    return [{name: int(found[name][row]) for name in found} for row in range(len(texts))]


@compiles
@given(st.lists(st.tuples(code_text, st.sampled_from(LANGUAGES)), min_size=1, max_size=5), hostile_text)
def test_counts_equal_their_definitions(rows: list[tuple[str, str]], before: str) -> None:
    texts, languages = zip(*rows, strict=True)
    expected = [oracle_code.counts(text, language) for text, language in rows]
    assert counted(list(texts), list(languages), before=before.encode()) == expected


@pytest.mark.parametrize(
    "piece", ["\u3000", "\u00e9", "\u20ac", "\U0001f600", "\\x41", "4f " * 9, "B" * 64, "\n", "\u00b2"]
)
def test_nothing_changes_at_the_border_of_a_block(piece: str) -> None:
    texts = [
        left * size + piece + right
        for size in [*range(54, 70), *range(118, 133)]
        for left in ("a", " ", "-")
        for right in ("", "a", " ", "\n", "4f", "," + "B" * 70)
    ]
    languages = ["python"] * len(texts)
    assert counted(texts, languages) == [oracle_code.counts(text, "python") for text in texts]


def test_every_pair_of_pieces() -> None:
    """Marks that meet: what one opens and the other would."""
    for language in LANGUAGES:
        texts = [first + second + " x\ny" for first in _PIECES[:36] for second in _PIECES[:36]]
        found = counted(texts, [language] * len(texts))
        assert found == [oracle_code.counts(text, language) for text in texts]


def folder() -> Path:
    named = os.environ.get("CURATE_TEST_DATA")
    return Path(named) if named else Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.skipif(not (folder() / "corpus").is_dir(), reason="no corpus beside the checkout")
def test_real_code() -> None:
    table = pq.read_table(sorted((folder() / "corpus").glob("*.parquet"))[0])
    rows = [row for row in table.to_pylist() if row["domain"] == "code" and len(row["text"]) < 30_000][:40]
    texts, languages = [row["text"] for row in rows], [row["language"] for row in rows]
    assert counted(texts, languages) == [oracle_code.counts(*row) for row in zip(texts, languages, strict=True)]


def test_families_are_told_apart() -> None:
    assert set(FAMILY_OF.values()) == set(range(len(FAMILIES)))
    assert all(len(mark.open) <= 4 and len(mark.close) <= 4 for marks in MARKS.values() for mark in marks)


def shard(texts: list[str], languages: list[str | None]) -> pa.Table:
    ids = [text.encode()[:8].ljust(8, b" ") + number.to_bytes(8, "big") for number, text in enumerate(texts)]
    return pa.table(
        {
            "id": pa.array(ids, pa.binary(16)),
            "text": pa.array(texts, pa.large_string()),
            "language": pa.array(languages, pa.string()),
        }
    )


def columns(texts: list[str], languages: list[str | None], *, parse: bool = False) -> list[dict]:
    stage = Code(parse=parse)
    made = stage.apply(shard(texts, languages), Verdict())
    assert tuple(made.column_names) == stage.adds
    return made.to_pylist()


def test_languages_are_unified_and_null_is_the_empty_name() -> None:
    names = ["Python", "CPP", None, " c-sharp ", "C++", "Befunge"]
    assert [row["code_language"] for row in columns(["x"] * 6, names)] == ["python", "c++", "", "c#", "c++", "befunge"]
    table = shard(["x"] * 6, names)
    coded = table.set_column(2, "language", table["language"].dictionary_encode())
    assert Code().apply(coded, Verdict()) == Code().apply(table, Verdict())


def test_an_empty_text_has_zeros_and_no_text_has_nan() -> None:
    (row,) = columns([""], ["html"], parse=True)
    ones = {"code_language": "html", "code_digit_ratio": 1, "code_whitespace_ratio": 1, "code_draw": row["code_draw"]}
    nulls = dict.fromkeys(PARSED_COLUMNS)
    assert row == dict.fromkeys(COLUMNS, 0) | ones | nulls
    (unknown,) = columns(["x"], [None])
    null = {"code_comment_ratio", "code_placeholder_comment_ratio", *[n for n in COLUMNS if "html" in n]}
    assert {name for name, value in unknown.items() if value is None} == null
    assert columns([], []) == []


def test_ratios_by_hand() -> None:
    text = '"""Doc."""\nimport os\n\ndef f(a):  # TODO\n    return "ab\\x41"\n'
    (row,) = columns([text], ["python"])
    assert row["code_comment_ratio"] == pytest.approx((10 + 6) / len(text))
    assert row["code_placeholder_comment_ratio"] == pytest.approx(1 / 5)
    assert row["code_import_ratio"] == pytest.approx(1 / 3)
    assert row["code_function_ratio"] == pytest.approx(1 / 3)
    assert row["code_string_ratio"] == pytest.approx(6 / (len(text) - 16))
    assert row["code_hex_escape_ratio"] == pytest.approx(2 / len(text))
    assert row["code_mean_line_length"] == pytest.approx((len(text) - 5) / 5)
    assert (row["code_bytes"], row["code_lines"], row["code_max_line_length"]) == (len(text), 5, 19)


def test_draws_are_a_share_and_keyed() -> None:
    table = shard([str(n) for n in range(2000)], ["go"] * 2000)
    draws, others = (Code(seed=seed).apply(table, Verdict())["code_draw"].to_numpy() for seed in (0, 1))
    assert 0 <= draws.min() < draws.max() < 1
    assert abs((draws < 0.8).mean() - 0.8) < 0.04
    assert not np.array_equal(draws, others)


SOURCE = """
import os
class A:
    a: int = 1
    b = c = 2
    class B:
        d = 3
    def one(self, x): return x
    async def two(self): return 1
for i in range(3):
    def three():
        class C:
            e = 4
        return None
"""


def test_python_is_counted_by_its_tree() -> None:
    assert python_counts(SOURCE) == (7, 2, 1, 3, 4)
    (row,) = columns([SOURCE], ["Python"], parse=True)
    assert (row["code_python_parses"], row["code_python_variables"]) == (True, 7)
    assert row["code_python_function_ratio"] == pytest.approx(2 / 13)
    assert row["code_python_one_return_ratio"] == pytest.approx(1 / 13)
    assert row["code_python_no_logic_score"] == pytest.approx((2 + 3 + 4 + 1 + 1) / 13)


@pytest.mark.parametrize("source", ["def f(", "a = '\x00'", "(" * 500, "x = " + "-" * 60_000 + "1", "print 'a'"])
def test_python_that_does_not_parse(source: str) -> None:
    (row,) = columns([source], ["python"], parse=True)
    assert [row[name] for name in PARSED_COLUMNS] == [False, None, None, None, None]


def test_only_python_of_up_to_a_megabyte_is_parsed() -> None:
    rows = columns(["x = 1", "x = 1\n" * 170_000, r"x = '\d'"], ["go", "python", "python"], parse=True)
    assert [row["code_python_parses"] for row in rows] == [None, None, True]
