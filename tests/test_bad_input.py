"""The user's bad day: malformed files, recipes and calls through the command line, one row of a table each.

Every row is a place that a user can get to. What counts: the exit code, a message that says what was found, where and
what would be right, no traceback, every good row kept, and no half-written file left behind.
"""

import contextlib
import gzip
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from curate import columns, store
from curate.cli import main

GOOD = ("the first good row", "the second good row")
MEGABYTES_100 = "x" * 100_000_000


def jsonl(*rows: object) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def texts(*rows: str) -> bytes:
    return jsonl(*({"text": row} for row in rows))


def parquet(table: dict[str, object] | pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(table) if isinstance(table, dict) else table, sink, **options)
    return sink.getvalue()


def no_utf8(*rows: bytes) -> pa.StringArray:
    """A string column that holds other bytes than UTF-8, as careless writers make them."""
    held = pa.array(rows, pa.binary())
    return pa.StringArray.from_buffers(len(held), held.buffers()[1], held.buffers()[2])


def three_groups() -> tuple[bytes, tuple[str, ...]]:
    """Three row groups of which the second has flipped bytes in a page of its text, and the rows of the others."""
    rows = [f"row {number} of a longer file" for number in range(300)]
    data = bytearray(parquet({"text": rows, "n": list(range(300))}, row_group_size=100, use_dictionary=False))
    column = pq.read_metadata(io.BytesIO(bytes(data))).row_group(1).column(0)
    middle = column.data_page_offset + column.total_compressed_size // 2
    data[middle : middle + 40] = bytes(255 - byte for byte in data[middle : middle + 40])
    return bytes(data), (*rows[:100], *rows[200:])


PAGE, PAGE_KEPT = three_groups()
LINES = tuple(f"line {number} of a compressed file" for number in range(40))
TOKENIZER = {
    "added_tokens": [{"id": 1, "content": "<|endoftext|>", "special": True, "single_word": False, "lstrip": False,
                      "rstrip": False, "normalized": False}],
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "<|endoftext|>": 1}, "unk_token": "[UNK]"},
}  # fmt: skip
OURS = ("id", "words", "text", "source", "origin", "rule", "bytes", "duplicate", "in_text", "ids", "tokens", "copies")
INGEST = "files: raw, source: web, max_rejects: 1.0"
MIX = "[{tokenize: {tokenizer: tokenizer.json}}, {mix: {%s}}]"
RUN = ("run", "recipe.yaml", "--out", "out")


@dataclass(frozen=True)
class Bad:
    """`files` lie in raw/ beside good.jsonl. `words` must be in the message. `kept`: texts that come out besides the
    good ones, in any order; None: nothing may come out."""

    name: str
    code: int
    words: tuple[str, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    kept: tuple[str, ...] | None = ()
    ingest: str = INGEST
    stages: str = "[heuristics]"
    recipe: bytes | None = None
    command: tuple[str, ...] = RUN
    prepare: Callable[[Path], None] = lambda folder: None


def filtering(*command: str) -> tuple[str, ...]:
    return ("filter", *command, "--where", "words >= 1")


def recipe(name: str, text: bytes | str, *words: str) -> Bad:
    return Bad(name, 2, words, kept=None, recipe=text.encode() if isinstance(text, str) else text)


def rule(name: str, expression: str, *words: str) -> Bad:
    stages = "[heuristics, {select: {keep: {long: " + json.dumps(expression) + "}}}]"
    return Bad(name, 2, words, kept=None, stages=stages)


def mixing(name: str, parameters: str, *words: str) -> Bad:
    return Bad(name, 2, words, kept=GOOD, stages=MIX % parameters)


def tokenizer(name: str, content: object, *words: str) -> Bad:
    def write(folder: Path) -> None:
        data = content if isinstance(content, str) else json.dumps(content)
        (folder / "tokenizer.json").write_text(data)

    return Bad(name, 5, ("stages[0] 'tokenize'", "tokenizer.json", *words), kept=None, stages=MIX % "", prepare=write)


def link(name: str, target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).symlink_to(target)


FILES = [
    Bad("nothing in them", 0, files=dict.fromkeys(("e.jsonl", "e.jsonl.gz", "e.jsonl.zst", "e.txt", "e.md"), b"")),
    Bad("compressed nothing", 0, files={"e.jsonl.gz": gzip.compress(b""), "e.jsonl.zst": zstandard.compress(b"")}),
    Bad("parquet without rows", 0, files={"e.parquet": parquet({"text": pa.array([], pa.string())})}),
    Bad("parquet of no bytes", 4, ("raw/e.parquet", "0 bytes"), {"e.parquet": b""}, None),
    Bad("text named parquet", 4, ("raw/e.parquet cannot be", "raw/f.parquet cannot be"),
        {"e.parquet": texts("x"), "f.parquet": texts("y")}, None),
    Bad("text named zst", 3, ("raw/e.jsonl.zst: damaged", "no valid zstd data"), {"e.jsonl.zst": texts("x")}),
    Bad("text named gz", 3, ("raw/e.jsonl.gz: damaged", "no valid gzip data"), {"e.jsonl.gz": texts("x")}),
    Bad("zst named jsonl", 3, ("raw/e.jsonl:1: zstd", "name does not say so"),
        {"e.jsonl": zstandard.compress(texts("x"))}),
    Bad("gz named txt", 3, ("raw/e.txt: gzip", "name does not say so"), {"e.txt": gzip.compress(b"x")}),
    Bad("parquet named jsonl", 3, ("raw/e.jsonl:1: parquet",), {"e.jsonl": parquet({"text": ["x"]})}),
    Bad("zst cut short", 3, ("1 damaged)", "raw/e.jsonl.zst", "after record 40", "cut short"),
        {"e.jsonl.zst": zstandard.compress(texts(*LINES)) + zstandard.compress(texts(*LINES))[:-9]}, LINES),
    Bad("gz cut short", 3, ("raw/e.jsonl.gz", "after record 40", "cut short"),
        {"e.jsonl.gz": gzip.compress(texts(*LINES)) + gzip.compress(texts("x"))[:-12]}, LINES),
    Bad("parquet cut short", 4, ("raw/e.parquet", "parquet"), {"e.parquet": PAGE[:-9]}, None),
    Bad("parquet with a bad page", 3, ("100 damaged row group", "raw/e.parquet:101:"), {"e.parquet": PAGE}, PAGE_KEPT),
    Bad("nested text", 4, ("raw/e.parquet", "'text' is list<", "must be string"),
        {"e.parquet": parquet({"text": [["x"]]})}, None),
    Bad("binary text", 4, ("raw/e.parquet", "'text' is binary", "must be string"),
        {"e.parquet": parquet({"text": [b"x"]})}, None),
    Bad("numbers for text", 4, ("raw/e.parquet", "'text' is int64", "must be string"),
        {"e.parquet": parquet({"text": [1]})}, None),
    Bad("null for text, as a type", 3, ("raw/e.parquet:1: text null",), {"e.parquet": parquet({"text": pa.nulls(2)})}),
    Bad("no text column", 4, ("raw/e.parquet", "no column 'text'", "did you mean 'txt'"),
        {"e.parquet": parquet({"txt": ["x"]})}, None),
    Bad("two text columns", 4, ("raw/e.parquet", "two columns called 'text'", "rename"),
        {"e.parquet": parquet(pa.table([["x"], ["y"]], names=["text", "text"]))}, None),
    Bad("no UTF-8 in jsonl", 3, ("raw/e.jsonl:2: invalid UTF-8", "byte 11", "0xff"),
        {"e.jsonl": b'{"text": "a"}\n{"text": "\xff"}\n{"text": "b"}\n'}, ("a", "b")),
    Bad("no UTF-8 in parquet", 3, ("1 records", "raw/e.parquet:2: invalid UTF-8"),
        {"e.parquet": parquet({"text": no_utf8(b"a", b"\xff", b"b")})}, ("a", "b")),
    Bad("no UTF-8 in a dictionary", 3, ("1 records", "raw/e.parquet:2: invalid UTF-8"),
        {"e.parquet": parquet({"text": no_utf8(b"a", b"\xff", b"b").dictionary_encode()})}, ("a", "b")),
    Bad("no UTF-8 in a carried column", 3, ("raw/e.parquet:2: invalid UTF-8",),
        {"e.parquet": parquet({"text": ["a", "x", "b"], "by": no_utf8(b"1", b"\xff", b"3")})}, ("a", "b")),
    Bad("no UTF-8 in a text file", 3, ("raw/e.txt: invalid UTF-8", "byte 3"), {"e.txt": b"ab\xff"}),
    Bad("a lone surrogate", 3, ("raw/e.jsonl:1: lone surrogate",),
        {"e.jsonl": b'{"text": "\\ud800"}\n{"text": "\\ud83d\\ude00"}\n'}, ("\U0001f600",)),
    Bad("NUL, written out and escaped", 3, ("1 records", "raw/e.jsonl:1: not JSON"),
        {"e.jsonl": b'{"text": "a\0b"}\n{"text": "a\\u0000b"}\n'}, ("a\0b",)),
    Bad("byte order marks", 0, files={"e.jsonl": b"\xef\xbb\xbf" + texts("a"), "e.txt": b"\xef\xbb\xbfb"},
        kept=("a", "b")),
    Bad("UTF-16", 3, ("raw/e.jsonl:1: UTF-16", "must be UTF-8"), {"e.jsonl": '{"text": "x"}'.encode("utf-16")}),
    Bad("UTF-16 without a mark", 3, ("raw/e.jsonl:1: UTF-16",), {"e.jsonl": '{"text": "x"}'.encode("utf-16-le")}),
    Bad("CRLF", 0, files={"e.jsonl": texts("a", "b\r\nc").replace(b"\n", b"\r\n"), "e.txt": b"d\r\ne"},
        kept=("a", "b\nc", "d\ne")),
    Bad("CR for line ends", 3, ("raw/e.jsonl:1: not JSON",), {"e.jsonl": texts("a", "b").replace(b"\n", b"\r")}),
    Bad("a line of 100 MB", 0, files={"e.jsonl": texts("a", MEGABYTES_100, "b")}, kept=("a", MEGABYTES_100, "b")),
    Bad("a line of 100 MB for small shards", 3, ("raw/e.jsonl:2: too long", "1000000 bytes"),
        {"e.jsonl": texts("a", MEGABYTES_100, "b")}, ("a", "b"), INGEST + ", shard_bytes: 1000000"),
    Bad("no line end at the end", 0, files={"e.jsonl": texts("a", "b")[:-1]}, kept=("a", "b")),
    Bad("a line cut in the middle", 3, ("raw/e.jsonl:2: not JSON: unexpected end of data",),
        {"e.jsonl": texts("a", "b")[:-5]}, ("a",)),
    Bad("rows that are no records", 3, ("7 records", "raw/e.jsonl:2: not an object: found array", "1 not JSON"),
        {"e.jsonl": jsonl({"text": "a"}, [], None, 3, "s", True, b"{", b"", b"  ", b"{}", {"text": "b"})}, ("a", "b")),
    Bad("text missing in one row", 3, ("raw/e.jsonl:2: text missing",),
        {"e.jsonl": jsonl({"text": "a"}, {"txt": "x"}, {"text": "b"})}, ("a", "b")),
    Bad("text missing in all rows of a file", 3, ("2 text missing", "raw/e.jsonl:1"),
        {"e.jsonl": jsonl({"n": 1}, {"n": 2})}),
    Bad("text missing everywhere", 4, ("raw/e.jsonl", "'text'", "did you mean 'txt'"), {"e.jsonl": jsonl({"txt": "x"})},
        None, "files: raw/e.jsonl, source: web"),
    Bad("null text", 3, ("raw/e.jsonl:1: text null",), {"e.jsonl": jsonl({"text": None}, {"text": "a"})}, ("a",)),
    Bad("null text in parquet", 3, ("raw/e.parquet:2: text null",), {"e.parquet": parquet({"text": ["a", None]})},
        ("a",)),
    Bad("numbers and lists for text", 3, ("2 text", "raw/e.jsonl:1: text: expected string, found int64"),
        {"e.jsonl": jsonl({"text": 5}, {"text": ["x"]}, {"text": "a"})}, ("a",)),
    Bad("a carried value of another type", 3, ("raw/e.jsonl:3: column n: expected int64, found string",),
        {"e.jsonl": jsonl({"text": "a", "n": 1}, {"text": "b", "n": 2}, {"text": "x", "n": "3"})}, ("a", "b")),
    Bad("no source where it is a field", 3, ("raw/e.jsonl:2: from missing",),
        {"e.jsonl": jsonl({"text": "a", "from": "s"}, {"text": "x"})}, ("a",), "files: raw/e.jsonl, source: {field: "
        "from}, max_rejects: 1.0"),
    Bad("integers and floats", 0, files={"e.jsonl": jsonl({"text": "a", "n": 1}), "f.jsonl": jsonl({"text": "b",
        "n": 2.5}), "g.parquet": parquet({"text": ["c"], "n": pa.array([3], pa.int8())})}, kept=("a", "b", "c")),
    Bad("types that do not go together", 4, ("column 'n'", "int64 in raw/e.jsonl", "string in raw/f.parquet"),
        {"e.jsonl": jsonl({"text": "a", "n": 1}), "f.parquet": parquet({"text": ["b"], "n": ["1"]})}, None),
    Bad("a column that some lack", 0, files={"e.jsonl": jsonl({"text": "a", "n": 1}),
        "f.parquet": parquet({"text": ["b"]})}, kept=("a", "b")),
    Bad("columns named like ours", 0, ("carried as in_id, in_words, in_source", "'words'", "so have we"),
        {"e.jsonl": jsonl(dict.fromkeys(OURS, "a"))}, ("a",), INGEST + ", id: null", "[heuristics, exact, {select: "
        "{keep: {first: not duplicate}}}, {tokenize: {tokenizer: tokenizer.json}}, mix]"),
    Bad("more bad rows than allowed", 4, ("1 of 3 raw records", "1 not JSON", "raw/e.jsonl:1", "max_rejects",
        "0.01"), {"e.jsonl": b"rubbish\n"}, GOOD, "files: raw, source: web"),
    Bad("all rows bad", 3, ("2 records", "2 not JSON"), {"e.jsonl": b"x\ny\n"}, None,
        "files: raw/e.jsonl, source: web, max_rejects: 1"),
    Bad("a folder with a file's name", 2, ("matches the folder raw/x.jsonl", "write 'raw/*.jsonl/**'"),
        {"x.jsonl/in.jsonl": texts("x")}, None, 'files: "raw/*.jsonl", source: web'),
    Bad("a folder with a file's name in a folder", 0, files={"x.jsonl/in.jsonl": texts("a")}, kept=("a",)),
    Bad("a link to nothing", 1, ("raw/e.jsonl", "links to", "nowhere.jsonl", "not there"), kept=None,
        prepare=link("raw/e.jsonl", "nowhere.jsonl")),
    Bad("a link to itself", 1, ("raw/e.jsonl", "links to"), kept=None, prepare=link("raw/e.jsonl", "e.jsonl")),
    Bad("a name that is no UTF-8", 2, ("file name", "no UTF-8", "rename it"), {os.fsdecode(b"\xff.jsonl"): b""}, None),
    Bad("odd names", 3, ("[red].jsonl:1: not JSON",), {"a b.jsonl": texts("a"), "[red].jsonl": b"x",
        "'q\".jsonl": texts("b"), "-x.jsonl": texts("c"), "ü\U0001f600.jsonl": texts("d"), "e:7.jsonl": texts("e")},
        tuple("abcde")),
    Bad("a suffix that says nothing", 2, ("raw/e.csv", ".jsonl", "format:"), {"e.csv": b"x"}, None,
        'files: "raw/*", source: web'),
    Bad("a pattern that matches nothing", 2, ("'row/*.jsonl' matches nothing", "did you mean 'raw/good.jsonl'"),
        kept=None, ingest='files: "row/*.jsonl", source: web'),
    Bad("output within the input", 2, ("output folder raw/out", "files: raw", "choose another"), kept=None,
        command=("run", "recipe.yaml", "--out", "raw/out")),
    Bad("output where a file is", 1, ("cannot write recipe.yaml",), kept=None,
        command=("run", "recipe.yaml", "--out", "recipe.yaml")),
]  # fmt: skip

KNOWN = "ingest: {files: raw, source: web}\n"
RECIPES = [
    Bad("no recipe", 2, ("no recipe at other.yaml",), kept=None, command=("run", "other.yaml", "--out", "out")),
    Bad("a folder for a recipe", 2, ("no recipe at raw",), kept=None, command=("run", "raw", "--out", "out")),
    recipe("nothing in it", "", "a recipe is a mapping with name, ingest, stages"),
    recipe("no UTF-8", b"ingest: \xff", "recipe.yaml", "no UTF-8"),
    recipe("no YAML", "ingest: {files: raw\nstages: [", "recipe.yaml", "line 2", "not valid YAML"),
    recipe("a tab", "ingest:\n\tfiles: raw\n", "line 2, column 1", "'\\t'"),
    recipe("a key twice", KNOWN + "stages: [exact]\n" + KNOWN, "line 3", "'ingest' stands here a second time"),
    recipe("no ingest", "stages: [exact]", "needs `ingest:`"),
    recipe("no stages", KNOWN, "needs `stages:`"),
    recipe("an unknown key", KNOWN + "stage: [exact]", "line 2", "'stage'", "did you mean 'stages'"),
    recipe("code", "ingest: !!python/object/apply:os.getcwd []\nstages: [exact]", "line 1", "not valid YAML"),
    recipe("an unknown stage", KNOWN + "stages:\n  - exat:\n", "line 3: stages[0]", "'exat'", "did you mean 'exact'"),
    recipe("an unknown parameter", KNOWN + "stages:\n  - exact: {amung: x}\n", "line 3", "did you mean 'among'"),
    recipe("a parameter of ingest", "ingest: {file: raw, source: web}\nstages: [exact]", "'file'", "mean 'files'"),
    recipe("a wrong type", KNOWN + "stages:\n  - select: {keep: [a]}\n", "line 3", "`keep`", "found ['a']"),
    recipe("a share above one", "ingest: {files: raw, source: web, max_rejects: 2}\nstages: [exact]", "line 1",
           "`max_rejects` is a share from 0 to 1, found 2"),
    recipe("two stages of one name", KNOWN + "stages:\n  - exact:\n  - exact:\n", "line 4", "'exact'", "line 3",
           "`name:`"),
    recipe("from nowhere", KNOWN + "stages:\n  - exact:\n  - heuristics:\n    from: exct\n", "line 4", "'exct'",
           "did you mean 'exact'"),
    recipe("a name with a slash", KNOWN + "stages: [{exact: , name: a/b}]", "letters, digits and _", "'a/b'"),
    rule("a column that nobody adds", "wrds > 3", "stages[1] 'select'", "'wrds'", "did you mean 'words'"),
    rule("an aggregate", "words > avg(words)", "stages[1] 'select'", "many rows at once"),
    rule("no expression", "words >>> 3", "stages[1] 'select'", "cannot read", "words >>> 3"),
    Bad("a rule that is a number", 2, ("`words + 3`", "true or false"), kept=GOOD,
        stages='[heuristics, {select: {keep: {long: "words + 3"}}}]'),
    Bad("a rule over types that do not compare", 2, ("`words > 'x'`", "words is Int32"), kept=GOOD,
        stages='[heuristics, {select: {keep: {long: "words > \'x\'"}}}]'),
    Bad("a rule set that is none", 2, ("did you mean 'gopher_quality'",), kept=None,
        stages="[heuristics, {select: {rules: [gopher_qualty]}}]"),
    mixing("a source without documents", "weights: {web: 1, webb: 1}", "'webb'", "did you mean 'web'"),
    mixing("more epochs than allowed", "weights: {web: 1}, tokens: 1000", "100.00 epochs", "`max_epochs` allows 4",
           "at most 40 tokens are feasible"),
    Bad("a negative weight", 2, ("stages[1] 'mix'", "weight of 'web' is -1", "above 0"), kept=None,
        stages=MIX % "weights: {web: -1}"),
    Bad("bananas", 2, ("stages[1] 'mix'", "'20 Bananas'", "500000, 2.5M or 20B"), kept=None,
        stages=MIX % "tokens: 20 Bananas"),
    Bad("no row survives", 2, ("mix: no documents are left", "rules"), kept=GOOD,
        stages="[heuristics, {select: {keep: {long: words > 99}}}, " + (MIX % "")[1:]),
    Bad("no tokenizer", 5, ("stages[0] 'tokenize'", "no file at", "tokenizer.json"), kept=None, stages=MIX % "",
        prepare=lambda folder: (folder / "tokenizer.json").unlink()),
    tokenizer("a tokenizer cut short", json.dumps(TOKENIZER)[:-9], "is no tokenizer.json"),
    tokenizer("a tokenizer without a model", {"added_tokens": []}, "no `model`"),
    tokenizer("a tokenizer with ids that are none", {**TOKENIZER, "model": {"vocab": {"a": "b"}}}, "ids"),
    tokenizer("a model of no known kind", {**TOKENIZER, "model": {**TOKENIZER["model"], "type": "Psychic"}}, "be used"),
    tokenizer("a tokenizer without an end", {**TOKENIZER, "added_tokens": []}, "no end-of-text token", "`end:`"),
]  # fmt: skip

FILTERS = [
    Bad("filter: input is output", 2, ("raw/good.jsonl would be read and written",), kept=None,
        command=filtering("raw/good.jsonl", "raw/../raw/good.jsonl")),
    Bad("filter: input is output by a link", 2, ("link.jsonl would be read and written",), kept=None,
        command=filtering("raw/good.jsonl", "link.jsonl"), prepare=link("link.jsonl", "raw/good.jsonl")),
    Bad("filter: the glob matches the output", 2, ("raw/out.jsonl would be read", "choose another"), kept=None,
        command=filtering("raw/*.jsonl", "raw/out.jsonl")),
    Bad("filter: the output is in the folder", 2, ("raw/out.jsonl would be read", "choose another"), kept=None,
        command=filtering("raw", "raw/out.jsonl")),
    Bad("filter: rejects would replace the input", 2, ("raw/a.rejects.jsonl would be read and written",),
        {"a.rejects.jsonl": texts("x")}, None, command=filtering("raw/a.rejects.jsonl", "raw/a.jsonl")),
    Bad("filter: kept and dropped in one file", 2, ("out.jsonl would be written twice", "--dropped"), kept=None,
        command=filtering("raw/good.jsonl", "out.jsonl", "--dropped", "./out.jsonl")),
    Bad("filter: no such file", 2, ("good.jsnl", "matches nothing"), kept=None,
        command=filtering("raw/good.jsnl", "out.jsonl")),
    Bad("filter: a suffix that says nothing", 2, ("out.csv", ".parquet, .jsonl"), kept=None,
        command=filtering("raw/good.jsonl", "out.csv")),
    Bad("filter: output below a file", 1, ("cannot write", "recipe.yaml"), kept=None,
        command=filtering("raw/good.jsonl", "recipe.yaml/out.jsonl")),
    Bad("filter: no rule", 2, ("nothing to filter by", "--where"), kept=None,
        command=("filter", "raw/good.jsonl", "out.jsonl")),
    Bad("filter: an unknown stage", 2, ("--with exct", "did you mean 'exact'"), kept=None,
        command=("filter", "raw/good.jsonl", "out.jsonl", "--with", "exct")),
    Bad("filter: a column that is empty here", 2, ("'source' says nothing here", "'in_source'"), kept=None,
        command=("filter", "raw/good.jsonl", "out.jsonl", "--where", "source = 'web'")),
    Bad("filter: an unknown field of text", 4, ("'body'", "found: text"), kept=None,
        command=filtering("raw/good.jsonl", "out.jsonl", "--text", "body")),
    Bad("filter: bytes for JSON", 2, ("'b' is binary", "JSON cannot hold", "parquet"),
        {"e.parquet": parquet({"text": ["x"], "b": [b"\xff"]})}, None, command=filtering("raw/e.parquet", "out.jsonl")),
    Bad("filter: bytes for parquet", 0, files={"e.parquet": parquet({"text": GOOD, "b": [b"\xff", b""]})},
        command=filtering("raw/e.parquet", "out.parquet")),
    Bad("filter: a bad row", 3, ("1 records", "raw/e.jsonl:2: not JSON", "all are in out.rejects.jsonl"),
        {"e.jsonl": b"\n" + b"rubbish\n"}, command=filtering("raw/*.jsonl", "out.jsonl")),
    Bad("filter: nothing comes in", 0, ("0 rows in, 0 kept",), {"e.jsonl": b""}, None,
        command=filtering("raw/e.jsonl", "empty.parquet")),
    Bad("filter: spaces, letters and brackets", 0, files={"a b/ü [x].jsonl": texts(*GOOD)},
        command=filtering("raw/a b/ü [x].jsonl", "out.jsonl.gz")),
    Bad("filter: two kinds of rows on one output", 2, ("standard output", "--dropped"), kept=None,
        command=filtering("raw/good.jsonl", "-", "--dropped", "-")),
    Bad("filter: no input named", 2, ("IN is empty",), kept=None, command=filtering("", "out.jsonl")),
    Bad("filter: nothing at the top of the disk", 2, ("'/no-such-file.jsonl' matches nothing",), kept=None,
        command=filtering("/no-such-file.jsonl", "out.jsonl")),
    Bad("filter: capital letters", 0, files={"e.JSONL.GZ": gzip.compress(texts(*GOOD))},
        command=filtering("raw/e.JSONL.GZ", "out.jsonl")),
    Bad("filter: JSON and rows on one output", 2, ("--json", "standard output"), kept=None,
        command=filtering("raw/good.jsonl", "-", "--json")),
]  # fmt: skip

CALLS = [
    Bad("no verb", 2, ("VERB",), kept=None, command=()),
    Bad("an unknown verb", 2, ("'rum'", "'run'"), kept=None, command=("rum",)),
    Bad("no --out", 2, ("--out",), kept=None, command=("run", "recipe.yaml")),
    Bad("an empty --out", 2, ("--out", "name of a folder"), kept=None, command=("run", "recipe.yaml", "--out", "")),
    Bad("a limit of none", 2, ("--limit", "above 0", "'0'"), kept=None, command=(*RUN, "--limit", "0")),
    Bad("a limit that is a square", 2, ("--limit", "above 0", "'²'"), kept=None, command=(*RUN, "--limit", "²")),
    Bad("outputs of no run", 2, ("raw is no run folder", "curate run"), kept=None, command=("outputs", "raw")),
    Bad("verify of no run", 2, ("nowhere is no run folder",), kept=None, command=("verify", "nowhere")),
    Bad("why in no run", 2, ("raw is no run folder",), kept=None, command=("why", "raw", "x")),
    Bad("an unknown schema", 2, ("'tokes'", "did you mean 'tokens'"), kept=None, command=("schema", "tokes")),
    Bad("a scheme that nobody knows", 1, ("cannot open", "foo"), kept=None, command=(*RUN[:-1], "foo://bar")),
]

TABLE = [*FILES, *RECIPES, *FILTERS, *CALLS]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with a good file, a tokenizer and a recipe."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "good.jsonl").write_bytes(texts(*GOOD))
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    write_recipe(tmp_path, INGEST, "[heuristics]")
    return tmp_path


def write_recipe(folder: Path, ingest: str, stages: str) -> None:
    (folder / "recipe.yaml").write_text(f"ingest: {{{ingest}}}\nstages: {stages}\n")


def documents(folder: Path) -> pa.Table | None:
    """What came out: survivors of `filter`, or the documents of a run; None if no file did."""
    for out in sorted(folder.glob("out.json*")):
        data = gzip.decompress(out.read_bytes()) if out.suffix == ".gz" else out.read_bytes()
        return pa.Table.from_pylist([json.loads(line) for line in data.splitlines()])
    shards = [*folder.glob("out.parquet"), *sorted(folder.glob("out/ingest-*/0*.parquet"))]
    return pa.concat_tables(map(pq.read_table, shards)) if shards else None


def half_written(folder: Path) -> list[Path]:
    return [file for file in folder.rglob(".*") if file.name != ".lock"]


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name)
def test_bad_input(bad: Bad, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, data in bad.files.items():
        (place / "raw" / name).parent.mkdir(exist_ok=True)
        (place / "raw" / name).write_bytes(data)
    write_recipe(place, bad.ingest, bad.stages)
    if bad.recipe is not None:
        (place / "recipe.yaml").write_bytes(bad.recipe)
    bad.prepare(place)
    before = {file: file.read_bytes() for file in (place / "raw").rglob("*.jsonl") if file.is_file()}
    code = main(bad.command)
    said = capfd.readouterr()
    assert code == bad.code, said.err
    for word in bad.words:
        assert word in said.err + said.out
    assert "Traceback" not in said.err + said.out
    assert "unexpected error" not in said.err
    assert half_written(place) == []
    assert {file: file.read_bytes() for file in before} == before
    made = documents(place)
    if bad.kept is None:
        assert made is None or made.num_rows == 0
        return
    good = () if "raw/e.jsonl," in bad.ingest or bad.kept == GOOD else GOOD
    assert made is not None
    assert sorted(made["text"].to_pylist()) == sorted((*good, *bad.kept))


def test_the_table_has_a_row_for_every_exit_code() -> None:
    assert {bad.code for bad in TABLE} == {0, 1, 2, 3, 4, 5}
    assert len({bad.name for bad in TABLE}) == len(TABLE) >= 30


# --- columns named like ours -----------------------------------------------------------------------------------------

NAMED = {
    "id": 7, "words": "many", "rule": None, "text": "a row of the input", "survivor": "s", "in_words": 1.5,
    "source": "s", "duplicate": True, "origin": [1, 2], "copies": {"a": 1},
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".jsonl.zst"])
def test_filter_gives_names_and_order_back(suffix: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [NAMED, {**NAMED, "id": 8}, {**NAMED, "id": 9, "text": "short"}]
    (place / "in.jsonl").write_bytes(jsonl(*rows))
    where = "words >= 2 and in_in_words > 1 and not duplicate"
    assert main(["filter", "in.jsonl", f"out{suffix}", "--with", "heuristics,exact", "--where", where]) == 0
    said = capfd.readouterr().err
    assert "carried as in_id, in_words, in_rule, in_in_words, in_source, in_duplicate, in_origin: the input" in said
    kept, dropped = (read_back(place / name) for name in (f"out{suffix}", f"out.dropped{suffix}"))
    assert kept == [NAMED]
    assert list(kept[0]) == list(NAMED)
    ours = {"rule": "where", "survivor": "in.jsonl:1"}
    names = [{"rule": "in_rule", "survivor": "in_survivor"}.get(name, name) for name in NAMED]
    assert dropped[0] == dict(zip(names, rows[1].values(), strict=True)) | ours
    assert list(dropped[0]) == [*names, "rule", "survivor"]
    assert dropped[1]["survivor"] is None


def read_back(file: Path) -> list[dict[str, object]]:
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    data = file.read_bytes()
    if file.suffix == ".zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return [json.loads(line) for line in data.splitlines()]


def test_a_run_carries_them_beside_our_own(place: Path) -> None:
    (place / "raw" / "e.jsonl").write_bytes(jsonl(NAMED))
    stages = "[{heuristics: , name: my}, heuristics, {select: {keep: {all: words > 0}, carry: [my_words]}}]"
    write_recipe(place, INGEST, stages)
    assert main(RUN) == 0
    (kept,) = place.glob("out/select-*/0*.parquet")
    row = next(row for row in pq.read_table(kept).to_pylist() if row["text"] == NAMED["text"])
    assert (row["in_words"], row["in_in_words"], row["words"], row["my_words"]) == ("many", 1.5, 5, 5)
    assert (row["source_id"], row["in_source"], row["source"], row["duplicate"]) == ("7", "s", "web", True)


def test_a_column_whose_type_becomes_known_is_read_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Alone, the file says nothing of x but null, so any value becomes text; beside a file with strings a number is no
    # string. The first result must not be taken for the second.
    monkeypatch.setattr(columns, "SAMPLE", 1)
    rows = [{"text": "x" * 100, "x": None}] * 12_000
    (place / "raw" / "e.jsonl").write_bytes(jsonl(*rows, {"text": "last", "x": 5}))
    assert main(RUN) == 0
    made = documents(place)
    assert made is not None
    assert made.filter(pa.compute.equal(made["text"], "last"))["x"].to_pylist() == ["5"]
    (place / "raw" / "f.jsonl").write_bytes(jsonl({"text": "a", "x": "s"}))
    assert main(RUN) == 3


# --- other hardships -------------------------------------------------------------------------------------------------

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from curate.cli import main
sys.exit(main(sys.argv[2:]))
"""


def limited(size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command where no file may be larger than so many bytes: to a program that is a full disk."""
    return subprocess.run([sys.executable, "-c", LIMITED, str(size), *arguments], capture_output=True, text=True)


def digests(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith((".", "ledger")))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk(place: Path) -> None:
    draw = random.Random(0)
    letters = 'abcdefgh"\t\n\\'  # a third of them take two bytes in JSON, so that OUT is larger than the work for it
    rows = ["".join(draw.choice(letters) for _ in range(2000)) for _ in range(300)]
    (place / "raw" / "e.jsonl").write_bytes(texts(*rows))
    write_recipe(place, INGEST, "[heuristics, exact, {select: {keep: {first: not duplicate}}}]")
    # Too small for the survey, for the documents, and for the output of `filter` alone.
    for size, failed in ((100, "raw.json"), (100_000, "00000.parquet")):
        done = limited(size, *RUN)
        assert done.returncode == 1, done.stderr
        assert "cannot write out/" in done.stderr
        assert failed in done.stderr
        assert "File too large" in done.stderr
        assert "Traceback" not in done.stderr
        assert half_written(place) == []
        assert documents(place) is None
    done = limited(700_000, *filtering("raw/e.jsonl", "out.jsonl"))
    assert done.returncode == 1, done.stderr
    assert "cannot write out.jsonl: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert half_written(place) == []
    assert not list(place.glob("out.*"))
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "curate.cli", *filtering("raw/e.jsonl", "-")]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert "curate: cannot write -: No space left on device" in ended.stderr
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert main(RUN) == 0
    assert main(["run", "recipe.yaml", "--out", "fresh"]) == 0
    assert digests(place / "out") == digests(place / "fresh")


def test_two_runs_in_one_folder(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with store.hold("out"):
        assert main(RUN) == 1
    said = capfd.readouterr().err
    assert "out is in use by process" in said
    assert "another folder" in said
    assert main(RUN) == 0


def test_a_document_that_nobody_read(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(RUN) == 0
    assert main(["why", "out", "raw/good.jsonl:3"]) == 2
    assert "no document with id, source_id or origin 'raw/good.jsonl:3'" in capfd.readouterr().err
    assert main(["why", "out"]) == 2
    assert main(["why", "out", "--example"]) == 2
    assert "dropped no document" in capfd.readouterr().err


VERBS = [
    RUN, ("plan", *RUN[1:]), ("outputs", "out"), ("verify", "out"), ("why", "out", "raw/good.jsonl:1"), ("schema",),
    filtering("raw/good.jsonl", "out.jsonl"), ("schema", "recipe"), ("schema", "--write", "schemas"),
]  # fmt: skip
MISTAKES = [
    ("run", "none.yaml", "--out", "out"), ("plan", "none.yaml", "--out", "out"), ("outputs", "raw"), ("verify", "raw"),
    ("why", "out"), ("schema", "none"), filtering("none", "out.jsonl"), filtering("raw/good.jsonl", "-"), ("run",),
    ("rum",), (*RUN, "--limit", "none"),
]  # fmt: skip


def test_json_is_json(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place / "raw" / "e.jsonl").write_bytes(jsonl({"text": ""}, b"rubbish", {"text": "a", "x": "\ud83d\ude00 ü"}))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    for command in VERBS:
        assert main([*command, "--json"]) in (0, 3)
        assert json.loads(capfd.readouterr().out, parse_constant=refuse)
    for command in MISTAKES:
        code = main([*command, "--json"])
        said = json.loads(capfd.readouterr().out)
        assert code == said["exit_code"] == 2
        assert said["message"]


@contextlib.contextmanager
def standard_input(data: bytes) -> Iterator[None]:
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(data))
    try:
        yield
    finally:
        sys.stdin = before


@pytest.mark.parametrize(
    ("data", "code", "out", "words"),
    [
        (texts(*GOOD), 0, texts(*GOOD), "2 kept"),
        (gzip.compress(texts(*GOOD), mtime=0), 0, texts(*GOOD), "2 kept"),
        (parquet({"text": GOOD}), 0, texts(*GOOD), "2 kept"),
        (b"", 0, b"", "0 rows in"),
        (b"rubbish\n" + texts(*GOOD), 3, texts(*GOOD), "stdin.jsonl:1: not JSON"),
    ],
    ids=["jsonl", "gzip", "parquet", "nothing", "rubbish"],
)
def test_standard_input(
    data: bytes, code: int, out: bytes, words: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with standard_input(data):
        assert main(filtering("-", "-")) == code
    said = capfd.readouterr()
    assert [json.loads(line) for line in said.out.splitlines()] == [json.loads(line) for line in out.splitlines()]
    assert words in said.err


@pytest.mark.parametrize("source", ["a/b", "../up", "a\nb", "\U0001f600", "", ".", "[/red]", "-x", "x" * 300])
def test_sources_of_any_name(source: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": f"a document of number {number}", "from": source} for number in range(9)]
    (place / "raw" / "good.jsonl").write_bytes(jsonl(*rows))
    stages = MIX % "tokens: 40" + "\n"
    write_recipe(place, "files: raw, source: {field: from}", stages.replace("]\n", ", {pack: {window: 8}}]"))
    before = set(place.iterdir())
    assert main(RUN) == 0
    assert main(["outputs", "out"]) == 0
    assert "Traceback" not in capfd.readouterr().err
    assert set(place.iterdir()) - before == {place / "out"}
    (manifest,) = place.glob("out/pack-*/tokens.json")
    assert list(json.loads(manifest.read_text())["splits"]["train"]["sources"]) == [source]
    assert len(list(manifest.parent.glob("train/*.bin"))) == 1


@pytest.mark.parametrize("damage", ["no JSON", "{}", "[1]", '{"format": 1}'])
@pytest.mark.parametrize("stage", ["ingest-*", "exact-*", "exact-*/evidence"])
def test_a_damaged_manifest_is_mended(stage: str, damage: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_recipe(place, INGEST, "[exact]")
    assert main(RUN) == 0
    before = digests(place / "out")
    (manifest,) = place.glob(f"out/{stage}/manifest.json")
    manifest.write_text(damage)
    assert main(["outputs", "out"]) in (0, 4)
    assert main(["verify", "out"]) == 4
    assert str(manifest.relative_to(place)) in capfd.readouterr().out
    assert main(RUN) == 0
    # What was judged from evidence stays judged, so a manifest of evidence need not come back.
    after = digests(place / "out")
    assert {name: after.get(name) for name in before if name != str(manifest.relative_to(place / "out"))} == {
        name: data for name, data in before.items() if name != str(manifest.relative_to(place / "out"))
    }
    assert stage.endswith("evidence") or after == before
    assert main(["verify", "out"]) == 0


def test_another_tokenizer_in_the_same_place_is_noticed(place: Path) -> None:
    write_recipe(place, INGEST, "[{tokenize: {tokenizer: tokenizer.json}}]")
    assert main(RUN) == 0
    vocabulary = {**TOKENIZER["model"]["vocab"], "row": 2}
    (place / "tokenizer.json").write_text(
        json.dumps({**TOKENIZER, "model": {**TOKENIZER["model"], "vocab": vocabulary}})
    )
    assert main(RUN) == 0
    made = [pq.read_table(file)["ids"].to_pylist()[0] for file in place.glob("out/tokenize-*/0*.parquet")]
    assert sorted(made) == [[0, 0, 0, 0, 1], [0, 0, 0, 2, 1]]
