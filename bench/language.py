"""Language of whole documents against the fastText library, the same model and the same texts, one core.

Each tool reads a parquet file and writes the label and score of every document. The library is given the texts as a
list, line breaks replaced by spaces (it refuses them), which is its fastest way. Texts are prose of the demo corpus
and, where gold sentences are at hand, documents of 19 languages made of them; on these accuracy is told, too.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import corpus
import measure
import pyarrow as pa
import pyarrow.parquet as pq

MODEL = "lid.176"


def main() -> int:
    if len(sys.argv) == 4 and sys.argv[1] in ("curate", "fasttext"):
        return identify(*sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it work at all?")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sizes = (4.0, 16.0) if options.quick else (10.0, 90.0)
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory(prefix="bench-language-") as scratch:
        work = Path(scratch)
        texts = corpus.demo_texts(str(work / "demo"), megabytes=10 if options.quick else 60)
        prose = corpus.sentences(text for source in ("docs", "readme", "license") for text in texts[source])
        sets = {"prose": lambda size: list(corpus.documents(prose, megabytes=size, seed=1))}
        gold = gold_sentences()
        if gold is not None:
            sets["19 languages"] = lambda size: many_languages(gold, size)
        measure.one_core()
        for name, make in sets.items():
            for size in sizes:
                write(work / f"{name}-{size:g}.parquet", make(size))
            ours, theirs = (tool(kind, name, work, sizes) for kind in ("curate", "fasttext"))
            measure.compare(f"language, {name}", ours, theirs, rounds=rounds, log=work / "log")
            same(work, name, sizes[-1])
        if gold is not None:
            accuracy(gold)
    return 0


def tool(kind: str, name: str, work: Path, sizes: tuple[float, float]) -> measure.Tool:
    def command(size: float) -> list[str]:
        raw, out = work / f"{name}-{size:g}.parquet", work / f"{name}-{size:g}-{kind}.parquet"
        return [sys.executable, str(Path(__file__)), kind, str(raw), str(out)]

    def clear(size: float) -> None:
        (work / f"{name}-{size:g}-{kind}.parquet").unlink(missing_ok=True)

    return measure.Tool(kind, sizes, command, clear)


def identify(kind: str, raw: str, out: str) -> int:
    """Write label and score of every document by one of the tools."""
    from curate.assets import find

    table = pq.read_table(raw, columns=["text"])
    if kind == "curate":
        from curate.stage import Verdict
        from curate.stages.language import Language

        pq.write_table(Language(MODEL).apply(table, Verdict()), out)
        return 0
    import fasttext

    model = fasttext.load_model(find(MODEL).uri)
    labels, scores = model.predict([text.replace("\n", " ") for text in table["text"].to_pylist()])
    names = [one[0].removeprefix("__label__") for one in labels]
    pq.write_table(pa.table({"language": names, "language_score": [float(one[0]) for one in scores]}), out)
    return 0


def write(path: Path, texts: list[str]) -> None:
    pq.write_table(pa.table({"text": pa.array(texts, pa.large_string())}), path)


def gold_sentences() -> pa.Table | None:
    """Sentences with their language, if the folder of more data has them."""
    folder = Path(os.environ.get("CURATE_TEST_DATA") or measure.ROOT.parent / "shared")
    path = folder / "data" / "langid" / "pud.parquet"
    return pq.read_table(path) if path.exists() else None


def many_languages(gold: pa.Table, megabytes: float) -> list[str]:
    """Documents of ten sentences of one language each, over and over until there is enough."""
    texts, labels = gold["text"].to_pylist(), gold["language"].to_pylist()
    order = sorted(range(len(texts)), key=lambda row: (labels[row], row))
    made, size, start = [], 0, 0
    while size < megabytes * 1e6:
        made.append("\n".join(texts[order[(start + i) % len(order)]] for i in range(10)))
        size += len(made[-1].encode())
        start += 7
    return made


def same(work: Path, name: str, size: float) -> None:
    """How far labels and scores are apart; `SystemExit` if a label differs."""
    mine, theirs = (
        pq.read_table(work / f"{name}-{size:g}-{kind}.parquet").to_pydict() for kind in ("curate", "fasttext")
    )
    other = sum(a != b for a, b in zip(mine["language"], theirs["language"], strict=True))
    pairs = zip(mine["language_score"], theirs["language_score"], strict=True)
    apart = max(abs(a - min(1.0, b)) for a, b in pairs)
    print(f"{name}: of {len(mine['language']):,} documents {other} have another label; scores differ by {apart:.1e}")
    if other:
        raise SystemExit("the labels differ")


def accuracy(gold: pa.Table) -> None:
    from curate.stage import Verdict
    from curate.stages.language import Language

    found = Language(MODEL).apply(gold.select(["text"]), Verdict())["language"].to_pylist()
    right = sum(a == b for a, b in zip(found, gold["language"].to_pylist(), strict=True))
    print(f"right on {right:,} of {len(found):,} gold sentences in 19 languages: {right / len(found):.4f}")


if __name__ == "__main__":
    sys.exit(main())
