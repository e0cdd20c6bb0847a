"""A corpus to rephrase, recipes over it, and a generator that needs no model: it turns the words of a passage round.

What it says of a passage and a seed never changes. One passage in four meets a fault that `rephrase` has to reject.
"""

import hashlib
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from corpus import write_corpus
from llm_server import Said, served
from tokenizers import Tokenizer

from curate import recipe, styles
from curate.execute import serial
from curate.generate.request import PROBE
from curate.run import Result, run

TOLD = """\
name: told
version: 1
system: "Say it again."
prompt: "Other words for:\\n{text}"
passages: {split: sentences, most: 60, least: 10}
sampling: {temperature: 0.7, top_p: 0.95, max_tokens: 200}
output: {least: 5, ratio: [0.5, 2.0]}
"""
WHOLE = """\
name: whole
version: 3
system: ""
prompt: "Lines, please.\\n{text}\\nThat was it."
passages: {split: lines, input: 80, least: 5, document: 20}
sampling: {temperature: 0.5, top_p: 0.9, max_tokens: 300}
output: {least: 5, final: 30}
assembly: {steps: [markdown], layout: document}
"""
TOP = """\
ingest: {files: ["raw/docs-*", "raw/code-*"], source: {field: source}, shard_bytes: %d, max_rejects: 0.2}
stages:
  - exact:
  - select: {name: real, keep: {first_copy: not duplicate}}
"""
REPHRASE = """\
  - rephrase: {name: told, tokenizer: tokenizer.json, language_model: null, %s}
"""
MIXED = """\
  - concat: {of: {real: real, synthetic: told}}
  - tokenize: {tokenizer: tokenizer.json}
  - mix: {weights: {real: 1, synthetic: 1}, tokens: 16K, max_epochs: 8, validation: 0.05}
  - pack: {window: 64, shard_tokens: 4096}
"""
USUAL = {"model": "small", "styles": "told.yaml", "server": "env:CURATE_LLM"}
REASONS = ("copied", "truncated", "refusal", "empty")
"""What every sixteenth passage meets, one after the other."""


def write(folder: Path, documents: int = 60) -> None:
    """Raw files, a tokenizer and two styles."""
    write_corpus(folder, documents)
    (folder / "told.yaml").write_text(TOLD)
    (folder / "whole.yaml").write_text(WHOLE)
    (folder / "twin").mkdir()
    (folder / "twin" / "told.yaml").write_text(TOLD)


def text_of(*, shard_bytes: int = 6000, ending: str = "", **parameters: Any) -> str:
    """A recipe that ends with `rephrase`, or with `ending`; parameters beside the usual ones, None to leave one out."""
    given = {name: value for name, value in {**USUAL, **parameters}.items() if value is not None}
    return TOP % shard_bytes + REPHRASE % ", ".join(f"{name}: {value}" for name, value in given.items()) + ending


def made(folder: Path, out: str = "run", *, map: Any = serial, report: Any = lambda event: None, **more: Any) -> Result:
    """A run of `text_of`."""
    return run(recipe.parse(text_of(**more), root=str(folder)), str(folder / out), map=map, report=report)


def dataset(result: Result, name: str = "told") -> Any:
    """Folder and manifest of a step."""
    return next(one for step, one in result.steps if step.node.name == name)


def table(result: Result, name: str = "told", inner: str = "") -> pa.Table:
    """All rows of a step, or what it rejected (`inner`: rejects)."""
    one = dataset(result, name)
    files = sorted((Path(one.folder) / inner).glob("*.parquet"))
    tables = [pq.read_table(file) for file in files if file.name != "ledger.parquet"]
    return pa.concat_tables(tables) if tables else pa.table({})


def rows(result: Result, name: str = "told") -> list[dict[str, Any]]:
    return table(result, name).to_pylist()


def rejects(result: Result) -> list[dict[str, Any]]:
    return table(result, inner="rejects").to_pylist()


class Generator:
    """Says what the server of tests answers. `faulty`: one passage in four is spoilt."""

    def __init__(self, folder: Path, *, faulty: bool = True) -> None:
        self.tokens = Tokenizer.from_file(str(folder / "tokenizer.json"))
        own = [str(folder / name) for name in ("told.yaml", "whole.yaml") if (folder / name).exists()]
        self.styles = [styles.style(name) for name in [*styles.names(), *own]]
        self.faulty = faulty

    def __call__(self, message: str, seed: int) -> Said:
        if message == PROBE:
            return Said("Hello to you.", 4)
        style, passage = self.asked(message)
        fault = fate(passage, seed) if self.faulty else ""
        text = paraphrase(passage, seed)
        if "pairs" in style.assembly.steps:
            text = "Questions about the text:\n" + pairs(passage)
        text = {"copied": passage, "refusal": "I'm sorry, but I cannot rewrite this text.", "empty": ""}.get(
            fault, text
        )
        return Said(text, len(self.tokens.encode(text)), "length" if fault == "truncated" else "stop")

    def asked(self, message: str) -> tuple[styles.Style, str]:
        """The style that a message is of, and its passage."""
        for style in self.styles:
            before, _, after = style.prompt.partition(styles.PLACE)
            if message.startswith(before) and message.endswith(after):
                return style, message[len(before) : len(message) - len(after)]
        raise AssertionError(message)


def fate(passage: str, seed: int) -> str:
    """What a passage is spoilt with, mostly nothing."""
    draw = hashlib.sha256(f"{passage} {seed}".encode()).digest()[0] % 16
    return REASONS[draw] if draw < len(REASONS) else ""


def paraphrase(passage: str, seed: int) -> str:
    """The words the other way round; some are said in other ones, which ones depends on the seed."""
    words = passage.split()[::-1]
    for place in range(seed % 5, len(words), 5 + seed % 3):
        words[place] = f"word{place}" if seed % 2 else "thing"
    return " ".join(words)


def pairs(passage: str) -> str:
    """Six questions, each with its answer."""
    words = passage.split() * 12
    parts = [words[place * 9 : place * 9 + 9] for place in range(6)]
    return "\n".join(f"- Question: {' '.join(one[:5])}?\nAnswer: {' '.join(one[5:])}." for one in parts)


def main(folder: str) -> None:
    """Serve until killed, for passages counted by the tokenizer in a folder; prints the URL."""
    with served(says=Generator(Path(folder))) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])
