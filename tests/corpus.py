"""A small corpus to run recipes on: three sources in three formats, with what real data has and tests want to meet.

It is drawn from a seed and depends on nothing else, so it is the same bytes everywhere: true documents of 20 to 120
words, copies within and across files, near copies, junk, all kinds of Unicode, and lines that are no records.
"""

import gzip
import hashlib
import json
import random
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

WORDS = """the be to of and that have with a in it for not on as you do at this but his by from they we say her she or
an will my one all would there their what so up out if about who get which go me when make can like time no just him
know take people into year your good some could them see other than then now look only come its over think also back
after use two how our work first well way even new want because any these give day most us water river mountain library
window engine harvest signal letter winter garden machine morning silver question answer market bridge"""
CODE = "def return import self value index for in range if else None True print assert class yield = + ( ) [ ] :"
FOREIGN = (
    "naïve café, e\u0301 decomposed, Straße",
    "中文和日本語と한국어",
    "family 👨‍👩‍👧 flag 🇫🇷 skin 👍🏽",
    "מימין לשמאל \u200f العربية",
    "zero\u200bwidth\ufeff and \x00 null and \x7f delete",
    "\u2028line\u2029paragraph\x85next\x0bvertical",
    "a\u0300\u0301\u0302\u0303\u0304 stacked Ω K Å ﬁ ²",
    "\U0010fffd \ue000 private \U00012000 cuneiform",
)
JUNK = ("", " ", "\n\n\n", "ok", "....", "# # #", "click here", "404")
BAD_LINES = (
    b'{"text": "no end',
    b'{"text": "\xff\xfe no UTF-8", "source": "docs"}',
    b'{"id": "no text", "source": "docs"}',
    b'{"text": 7, "source": "docs"}',
)


class Planted(NamedTuple):
    """What `write_corpus` wrote: good records, and among them exact copies and junk; bad lines besides."""

    documents: int
    copies: int
    junk: int
    bad: int


def write_corpus(folder: Path, documents: int = 300, seed: int = 0) -> Planted:
    """Write raw/ (docs as jsonl, one of them gzipped; code as parquet; readme as jsonl with fields of other names) and
    a tokenizer.json trained on it. Half of the documents are docs, three in ten code, the rest readme."""
    draw = random.Random(seed)
    raw = folder / "raw"
    raw.mkdir(parents=True)
    copies = max(2, documents // 15)
    junk = max(2, documents // 20)
    texts = [prose(draw) if number % 10 < 7 else code(draw) for number in range(documents - copies - junk)]
    for number, text in enumerate(FOREIGN):
        texts[number * 7 % len(texts)] += " " + text
    for number in range(1, 8):  # near copies, far from their twins
        texts[-number] = texts[number * 9 % (len(texts) - 8)].replace("the", "a", 1) + " almost"
    junks = [draw.choice(JUNK[:3]) if number % 4 == 0 else f"{draw.choice(JUNK)} {number}" for number in range(junk)]
    mixed = texts + draw.choices(texts, k=copies) + junks
    draw.shuffle(mixed)
    records = [
        {"id": f"{seed}-{number}", "text": text, "url": f"https://example.org/{number}" if number % 3 else None}
        for number, text in enumerate(mixed)
    ]
    docs, rest = records[: documents // 2], records[documents // 2 :]
    codes, readmes = rest[: documents * 3 // 10], rest[documents * 3 // 10 :]
    _write_lines(raw / "docs-0.jsonl", docs[::2], bad=BAD_LINES)
    (raw / "docs-1.jsonl.gz").write_bytes(gzip.compress(_lines(docs[1::2]), mtime=0))
    _write_table(raw / "code-0.parquet", codes[::2])
    _write_table(raw / "code-1.parquet", codes[1::2])
    others = [{"content": record["text"], "name": record["id"], "stars": n} for n, record in enumerate(readmes)]
    (raw / "readme-0.jsonl").write_bytes(b"".join(json.dumps(one).encode() + b"\n" for one in others))
    (folder / "tokenizer.json").write_text(train_tokenizer(mixed), encoding="utf-8")
    return Planted(documents, len(mixed) - len(set(mixed)), junk, len(BAD_LINES))


RECIPE = """\
name: small
ingest:
  - {files: ["raw/docs-*", "raw/code-*"], source: {field: source}, shard_bytes: 16384, max_rejects: 0.1}
  - {files: "raw/readme-*.jsonl", source: readme, text: content, id: name}
stages:
  - heuristics:
  - exact:
  - near: {bands: 16, rows: 2, ngram: 3, keep: longest, among: not duplicate}
  - confirm: {jaccard: 0.6}
  - select:
      name: plausible
      keep:
        first_copy: not duplicate
        original: not near_duplicate
        long_enough: words >= 12
        prose: source = 'code' or stop_words >= 2
  - tokenize: {tokenizer: tokenizer.json, engine: ENGINE}
  - mix: {weights: {docs: 0.4, code: 0.3, readme: 0.3}, tokens: TOKENS, max_epochs: 6, validation: 0.05}
  - pack: {window: 64, shard_tokens: 4096}
"""


def write_recipe(folder: Path, *, tokens: str = "32K", engine: str = "tokenizers") -> Path:
    """Write recipe.yaml for a corpus of `write_corpus` with all stages in it; `tokens` fits 300 documents."""
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("ENGINE", engine).replace("TOKENS", tokens), encoding="utf-8")
    return path


def digests(run: Path) -> dict[str, str]:
    """SHA-256 by name of all files of a run that equal runs have equal: not how it went (ledgers, receipts), not
    the cache of raw digests (it holds times of files), not the lock."""
    files = [file for file in sorted(run.rglob("*")) if file.is_file() and file.parent.name != "units"]
    told = ("ledger.parquet", "raw.json", ".lock")
    return {
        file.relative_to(run).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.name not in told
    }


def prose(draw: random.Random) -> str:
    """Sentences of 20 to 120 words in all, some of them on lines of their own."""
    words = draw.choices(WORDS.split(), k=draw.randint(20, 120))
    for place in range(8, len(words), draw.randint(8, 15)):
        words[place] = words[place].capitalize()
        words[place - 1] += draw.choice([".", ".\n", ",", "\r\n"])
    return " ".join(words)


def code(draw: random.Random) -> str:
    """Lines of tokens that look like a program."""
    lines = ("    " * draw.randint(0, 2) + " ".join(draw.choices(CODE.split(), k=draw.randint(2, 9))) for _ in range(9))
    return "\n".join(lines)


def train_tokenizer(texts: list[str]) -> str:
    """JSON of a byte-level BPE tokenizer of at most 600 entries with an end and a pad token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return str(tokenizer.to_str())


def _lines(records: list[dict[str, str | None]]) -> bytes:
    return b"".join(json.dumps({**record, "source": "docs"}).encode() + b"\n" for record in records)


def _write_lines(path: Path, records: list[dict[str, str | None]], *, bad: tuple[bytes, ...]) -> None:
    lines = _lines(records).splitlines(keepends=True)
    for number, line in enumerate(bad):
        lines.insert((number + 1) * len(lines) // (len(bad) + 1), line + b"\n")
    path.write_bytes(b"".join(lines))


def _write_table(path: Path, records: list[dict[str, str | None]]) -> None:
    columns = {name: [record[name] for record in records] for name in ("id", "text", "url")}
    table = pa.table({**columns, "source": ["code"] * len(records), "length": [len(r["text"] or "") for r in records]})
    pq.write_table(table, path, row_group_size=40, compression="zstd")
