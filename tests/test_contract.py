"""What every stage owes the runner, tried on all of them. A new stage gets these tests by being in STAGES."""

import dataclasses
import hashlib
import json
import pickle
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_fasttext import write_model
from static_model import write_static

from curate import exchange, store, unit
from curate.arrow import binary
from curate.asking import Limits
from curate.execute import serial
from curate.kernels.hash import xxh3_128
from curate.stage import Evidence, Stage, Verdict
from curate.stages import STAGES
from curate.stages.clean import Clean
from curate.stages.cluster import Cluster
from curate.stages.code import Code
from curate.stages.concat import Concat
from curate.stages.confirm import Confirm
from curate.stages.embed import Embed
from curate.stages.exact import Exact
from curate.stages.heuristics import Heuristics
from curate.stages.language import Language
from curate.stages.mix import Mix, Phase
from curate.stages.near import Near
from curate.stages.pack import Pack
from curate.stages.prune import Prune
from curate.stages.rank import Rank
from curate.stages.rate import Rate, Rating
from curate.stages.repeated_lines import RepeatedLines
from curate.stages.rephrase import Rephrase
from curate.stages.select import Select
from curate.stages.semantic import Semantic
from curate.stages.target import Target
from curate.stages.tokenize import Tokenize

GOLDEN = Path(__file__).parent / "golden" / "stages.json"
TEXTS = [
    "The cat and the dog sat by the river, and that was all there was to it.",
    "one two three",
    "",
    "ünïcödé wörds – and 漢字 too … with - bullets",
    "a <|endoftext|> b",
    "x " * 300,
]


@cache
def tokenizer_file() -> str:
    """A word tokenizer with specials, in a file of its own."""
    import tempfile

    from tokenizers import Tokenizer, models, pre_tokenizers

    words = sorted({word for text in TEXTS for word in text.split()})
    vocabulary = {"<|endoftext|>": 0, "<|pad|>": 1, "[UNK]": 2, **{word: i + 3 for i, word in enumerate(words)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|pad|>"])
    path = Path(tempfile.mkdtemp()) / "tokenizer.json"
    tokenizer.save(str(path))
    return str(path)


@cache
def language_model() -> str:
    """A small language model in a file of its own."""
    import tempfile

    path = Path(tempfile.mkdtemp()) / "model.bin"
    path.write_bytes(write_model({"the": "en", "漢字": "zh", "one": "en"}))
    return str(path)


@cache
def static_model() -> str:
    """A static model of the words of the texts in a folder of its own."""
    import tempfile

    return write_static(Path(tempfile.mkdtemp()) / "static")


@cache
def examples() -> dict[str, Stage]:
    """One instance of every stage, with parameters that matter."""
    tokenize = Tokenize(tokenizer=tokenizer_file())
    near = Near(bands=14, rows=2, ngram=2, per="source", keep="longest")
    lineage = {
        "ids": {"stage": tokenize.identity(), "assets": {"tokenizer": "0"}},
        "near_group": {"maker": near},
        "bytes": {},
    }
    made: list[Stage] = [
        Language(model=language_model(), paragraphs=True),
        Heuristics(language="source"),
        Code(language="source", parse=True),
        Exact(among="source != 'license'"),
        Select(keep={"first_copy": "not duplicate", "long": "words >= 3"}, rules=("gopher_quality",)),
        Concat(of={"web": "distinct", "code": "files"}),
        Clean(steps=("refinedweb", "c4"), patterns={"notice": "^one"}),
        RepeatedLines(at_least=3, per="source", among="bytes < 500"),
        near,
        Confirm(jaccard=0.6, exempt="source = 'code'", max_removed={"docs": 1.0}).bind(lineage),
        Embed(model=static_model()),
        Cluster(k=3, sample=8),
        Semantic(eps=0.1, among="source != 'license'"),
        Prune(keep=0.6, by="density", unit="tokens", among="source != 'license'"),
        Target(by="rds", towards="source != 'docs'", keep=0.4, unit="tokens", task="source", among="words > 1"),
        Rate({"docs": Rating(4.0, "explains"), "code": Rating(2.5, "terse")}),
        Rank(of="words", by="source", among="not duplicate"),
        tokenize,
        Mix(weights={"docs": 1.0, "code": 2.0}, max_epochs=60.0, beyond_sixteen=True, tokens=3000, validation=0.1),
        Pack(window=16, shard_tokens=64).bind(lineage),
        rephrase(),
    ]
    return {stage.kind: stage for stage in made}


def rephrase() -> Rephrase:
    """The stage with a store of all answers that it wants; where it would ask for more there is no server."""
    import tempfile

    from curate.generate.answers import Answer, Answers

    folder = Path(tempfile.mkdtemp())
    (folder / "short.yaml").write_text(SHORT)
    (folder / "lines.yaml").write_text(LINES)
    made = Rephrase(
        styles={
            "source = 'docs'": (f"{folder}/short.yaml", f"{folder}/lines.yaml"),
            "bytes > 20": f"{folder}/lines.yaml",
        },
        model="small",
        tokenizer=tokenizer_file(),
        server="http://127.0.0.1:9",
        candidates=2,
        language_model=None,
        embedding=static_model(),
        novel=0.9,
        answers=str(folder / "answers.sqlite"),
    )
    with Answers.open(str(folder / "answers.sqlite")) as answers:
        sent = made.scan(texts(50))
        passages = sent["text"].to_pylist()
        for number, request in enumerate(made.requests_of(sent)):
            text = passages[number // made.candidates]
            words = [*text.split()[::-1], *["dog"] * (number % 7 if number % 2 else 0)]
            said = Answer(request.key, " ".join(words), "stop" if number % 5 else "length", 9, len(words), 0.1, "")
            answers.put([said if number % 11 else said._replace(text="", error="400: too long")])
    return made


SHORT = """\
{name: short, version: 1, system: "", prompt: "Again: {text}", passages: {split: sentences, most: 12, least: 2},
 sampling: {temperature: 0.7, top_p: 0.9, max_tokens: 20}, output: {least: 1, ratio: [0.5, 2.0]}}
"""
LINES = """\
{name: lines, version: 1, system: "", prompt: "Lines: {text}", passages: {split: lines, input: 40, least: 1},
 sampling: {temperature: 0.7, top_p: 0.9, max_tokens: 20}, output: {least: 1}, assembly: {layout: document}}
"""


@cache
def documents(rows: int) -> pa.Table:
    """Documents with repeats over three sources, and every column that some stage reads."""
    table = texts(rows)
    for kind in ("heuristics", "exact", "tokenize", "mix", "near", "embed", "cluster"):
        (made,) = drive(examples()[kind], [table])
        for name in made.column_names:
            table = table.append_column(name, made[name])
    return table


def texts(rows: int) -> pa.Table:
    """The same without what stages add."""
    text = pa.array([TEXTS[i % len(TEXTS)] + ("" if i % 4 else f" {i // 9}") for i in range(rows)], pa.large_string())
    ids = np.empty((rows, 16), np.uint8)
    from curate.arrow import utf8

    xxh3_128(*utf8(text), ids)
    return pa.table(
        {
            "id": binary(ids),
            "text": text,
            "source": pa.array([("docs", "code", "license")[i % 3] for i in range(rows)]).dictionary_encode(),
            "origin": pa.array([f"raw/a.jsonl:{i + 1}" for i in range(rows)]),
            "bytes": pa.array([len(one.as_py().encode()) for one in text], pa.int64()),
            "url": pa.nulls(rows, pa.string()),
        }
    )


def drive(stage: Stage, shards: list[pa.Table]) -> list[pa.Table]:
    """What `apply` gives for each shard, after scan and judge over all of them, with nothing but what it asked for."""
    if stage.branches:
        return [stage.join(1, shard.select(list(stage.reads))) for shard in shards]
    verdicts = [Verdict() for _ in shards]
    if stage.scans:
        folder = f"memory://contract/{next(_numbers)}"
        files = []
        for index, shard in enumerate(shards):
            seen = stage.scan(shard.select(list(stage.reads)))
            if "row" not in seen.column_names:
                seen = seen.append_column("row", pa.array(np.arange(shard.num_rows, dtype=np.uint32)))
            uri = store.join(folder, f"{index}.cut")
            store.put(uri, exchange.cut(seen, exchange.leading(seen["key"].to_numpy(), 8), 8))
            files.append(uri)
        rows = sum(int(exchange.index(uri).rows.sum()) for uri in files)
        evidence = Evidence(tuple(files), 8, rows, store.join(folder, "verdict"))
        whole = stage.judge(evidence, serial)
        judged = store.join(folder, "verdict")
        verdicts = [unit.load_verdict(judged, index)._replace(whole=whole) for index in range(len(shards))]
    given = zip((shard.select(list(stage.applies_to)) for shard in shards), verdicts, strict=True)
    if stage.gathers == "rows":
        return [stage.make(shard, verdict).rows for shard, verdict in given]
    return [stage.apply(shard, verdict) for shard, verdict in given]


_numbers = iter(range(10**9))


def content(stage: Stage, tables: list[pa.Table]) -> list[dict[str, Any]]:
    """All rows in order; what a shuffle sends is in the order of where it goes."""
    rows = [row for table in tables for row in table.to_pylist()]
    return sorted(rows, key=lambda row: (row["part"], row["position"])) if stage.gathers == "parts" else rows


def cut(table: pa.Table, borders: list[int]) -> list[pa.Table]:
    edges = [0, *sorted(borders), table.num_rows]
    return [table.slice(a, b - a) for a, b in pairwise(edges)]


@pytest.fixture(params=[stage.kind for stage in STAGES])
def stage(request: pytest.FixtureRequest) -> Stage:
    return examples()[request.param]


def test_every_stage_has_an_example() -> None:
    assert set(examples()) == {stage.kind for stage in STAGES}


def test_rows_are_aligned(stage: Stage) -> None:
    shards = cut(documents(50), [20])
    for shard, made in zip(shards, drive(stage, shards), strict=True):
        if stage.gathers == "parts":
            assert "part" in made.column_names
        else:
            assert tuple(made.column_names) == (stage.reads if stage.branches else stage.adds)
            assert made.num_rows == shard.num_rows or stage.gathers == "rows"


def test_same_again(stage: Stage) -> None:
    table = documents(50)
    assert content(stage, drive(stage, [table])) == content(stage, drive(stage, [table]))


@settings(max_examples=15)
@given(borders=st.lists(st.integers(0, 50), max_size=5))
@pytest.mark.parametrize("kind", [stage.kind for stage in STAGES])
def test_cuts_do_not_matter(kind: str, borders: list[int]) -> None:
    stage, table = examples()[kind], documents(50)
    assert content(stage, drive(stage, cut(table, borders))) == content(stage, drive(stage, [table]))


@pytest.mark.parametrize("rows", [0, 1])
def test_tiny_shards(stage: Stage, rows: int) -> None:
    table = documents(50)
    alone = drive(stage, [table.slice(0, rows), table.slice(rows)])
    assert content(stage, alone) == content(stage, drive(stage, [table]))


def test_chunked_columns(stage: Stage) -> None:
    table = documents(50)
    chunked = pa.concat_tables([table.slice(0, 7), table.slice(7, 20), table.slice(27)])
    assert content(stage, drive(stage, [chunked])) == content(stage, drive(stage, [table]))


def test_it_travels(stage: Stage) -> None:
    assert pickle.loads(pickle.dumps(stage)) == stage
    assert cloudpickle.loads(cloudpickle.dumps(stage)) == stage


OTHER: dict[str, Any] = {
    "max_bytes": 3,
    "ratings": {"docs": Rating(3.0, "explains")},
    "paragraphs": False,
    "signals": ("quality",),
    "words": "unicode",
    "language": "origin",
    "parse": False,
    "at_least": 4,
    "count": "documents",
    "normalize": "ccnet",
    "min_length": 3,
    "per": "origin",
    "bands": 7,
    "rows": 3,
    "ngram": 4,
    "unit": "characters",
    "jaccard": 0.7,
    "transitive": True,
    "exempt": "bytes > 50",
    "max_removed": {"docs": 0.9},
    "verify": "sketch",
    "long": "mean",
    "dtype": "float32",
    "pooling": "weighted_mean",
    "backend": "bfloat16",
    "device": "cuda",
    "k": 4,
    "sample": 9,
    "share": 0.5,
    "iterations": 3,
    "restarts": 2,
    "order": "easy",
    "rule": "leader",
    "embedding": "origin",
    "steps": ("c4",),
    "patterns": {},
    "min_words_per_line": 4,
    "max_word_length": 9,
    "terminal_punctuation": False,
    "citations": False,
    "javascript": False,
    "policy": False,
    "of": "bytes",
    "by": "origin",
    "among": "source = 'docs'",
    "keep": {"first_copy": "duplicate"},
    "rules": (),
    "carry": ("words",),
    "engine": "fastokens",
    "end": "<|pad|>",
    "weights": {"docs": 1.0},
    "temperature": 3.0,
    "tokens": 2999,
    "max_epochs": 3.0,
    "bucket": "origin",
    "at_cap": "clip",
    "validation": 0.2,
    "cluster": "origin",
    "seed": 1,
    "window": 8,
    "packing": "best_fit",
    "formats": ("parquet",),
    "shard_tokens": 128,
    "tail": "pad",
    "towards": "source = 'code'",
    "model": "large",
    "revision": "2",
    "each": "one",
    "candidates": 3,
    "best": "tokens",
    "direction": "lowest",
    "similarity": 0.5,
    "novel": 0.5,
}
NO_PART: dict[str, dict[str, Any]] = {
    "rephrase": {"server": "env:OTHER", "answers": "other.sqlite", "limits": Limits(tries=2)},
}
"""Parameters that rows do not depend on."""
OF_ITS_OWN: dict[str, dict[str, Any]] = {
    "exact of": {"of": "text_id"},
    "concat of": {"of": {"web": "distinct", "other": "files"}},
    "repeated_lines of": {"of": "paragraph"},
    "repeated_lines keep": {"keep": "none"},
    "near keep": {"keep": "earliest"},
    "near by": {"keep": "highest", "by": "bytes"},
    "near preset": {"bands": None, "rows": None, "preset": "dclm"},
    "near threshold": {"bands": None, "rows": None, "threshold": 0.6, "hashes": 64},
    "near hashes": {"bands": None, "rows": None, "threshold": 0.6, "hashes": 65},
    "near seed": {"seed": 2},
    "embed batch": {"device": "cuda", "batch": 9},
    "semantic eps": {"eps": 0.2},
    "semantic keep": {"eps": None, "keep": 0.5},
    "semantic cluster": {"cluster": "topic"},
    "prune cluster": {"cluster": "topic"},
    "prune keep": {"keep": 0.5},
    "prune by": {"by": "prototypes"},
    "prune mode": {"mode": "easy"},
    "prune unit": {"unit": "documents"},
    "prune balance": {"balance": 0.25},
    "prune neighbours": {"neighbours": 3},
    "prune temperature": {"temperature": 0.2},
    "prune tau_mode": {"tau_mode": "std"},
    "prune score": {"by": "budget", "score": "words"},
    "target by": {"by": "dsir", "task": None},
    "target keep": {"keep": 0.5},
    "target unit": {"unit": "documents"},
    "target task": {"task": None},
    "target seed": {"by": "got", "task": None, "seed": 3},
    "target direction": {"by": "got", "task": None, "direction": "away"},
    "target sample": {"by": "got", "task": None, "sample": 9},
    "target targets": {"by": "got", "task": None, "targets": 9},
    "target epsilon": {"by": "got", "task": None, "epsilon": 0.1},
    "mix phases": {"weights": None, "phases": (Phase("base", share=0.9), Phase("last", share=0.1))},
    "mix beyond_sixteen": {"max_epochs": 16.0, "beyond_sixteen": False},
    "confirm of": {"of": "other_"},
    "confirm containment": {"jaccard": None, "containment": 0.5},
    "rephrase styles": {"styles": "easy"},
    "rephrase label": {"best": "label", "classifier": "good.bin", "label": "good"},
}
"""Where a parameter of that name means something else, or goes with others: what to change."""


def test_identity_is_the_parameters(stage: Stage) -> None:
    assert stage.identity() == dataclasses.replace(stage).identity() or stage.kind == "pack"
    for field in dataclasses.fields(stage):
        if field.name in stage.asset_fields or not field.init:
            continue
        if field.name in NO_PART.get(stage.kind, {}):
            other = dataclasses.replace(stage, **{field.name: NO_PART[stage.kind][field.name]})
            assert other.identity() == stage.identity(), field.name
            continue
        own = OF_ITS_OWN.get(f"{stage.kind} {field.name}")
        changes: dict[str, Any] = {field.name: OTHER[field.name]} if own is None else own
        if stage.kind == "mix" and field.name == "temperature":
            changes["weights"] = None
        assert dataclasses.replace(stage, **changes).identity() != stage.identity(), field.name


def test_output_does_not_change_unnoticed(stage: Stage) -> None:
    """The output of each (kind, version) on fixed documents. When it is meant to change, raise `version`."""
    rows = content(stage, drive(stage, cut(documents(50), [13, 30])))
    said = json.dumps(rows, sort_keys=True, default=lambda value: value.hex()).encode()
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    assert golden[f"{stage.kind} {stage.version}"] == hashlib.sha256(said).hexdigest()
