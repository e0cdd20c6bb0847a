"""The rivals of `bench/near.py`, each run by the environment that has it: parquet of `id` and `text` to its survivors.

All with 14 bands of 8 rows over runs of five words, on one core, clusters joined through all bands, the first document
of a cluster kept. Each is written as its documentation has it, with the fastest of what it offers. What they do not
bring is written here and counts as theirs: rensa wants tokens, and the clusters and the files of rensa and gaoya are
the user's; Daft brings normal forms, signatures and files, so bands and clusters are the user's. None of them compares
the texts of what it removes. `sign` measures signatures alone: texts are in memory, and CPU-seconds of the signing are
printed, the best of three. Otherwise nothing is measured here: the bench times this process from outside.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

BANDS, ROWS, NGRAM, SEED = 14, 8, 5, 1
HASHES = BANDS * ROWS
# Where a candidate is as likely found as not, near enough: what the tools ask for beside bands and rows.
THRESHOLD = 0.72
BATCH = 1_000
WORD = re.compile(r"\w+")
SIGNED = 3  # times, of which the best counts


class Clusters:
    """Rows that were found alike: the least row of a cluster stands for it."""

    def __init__(self, rows: int) -> None:
        self.above = list(range(rows))

    def top(self, row: int) -> int:
        while self.above[row] != row:
            self.above[row] = self.above[self.above[row]]
            row = self.above[row]
        return row

    def join(self, one: int, other: int) -> None:
        one, other = self.top(one), self.top(other)
        if one != other:
            self.above[max(one, other)] = min(one, other)

    def first(self) -> list[bool]:
        """Which rows are the first of their cluster."""
        return [self.above[row] == row for row in range(len(self.above))]


def shingles(text: str) -> set[str]:
    words = WORD.findall(text.lower())
    return {" ".join(words[at : at + NGRAM]) for at in range(len(words) - NGRAM + 1)}


def written(table: pa.Table, keep: list[bool], work: Path) -> None:
    (work / "out").mkdir(parents=True, exist_ok=True)
    pq.write_table(table.filter(pa.array(keep)), work / "out" / "kept.parquet", compression="zstd")


# --- from file to file ------------------------------------------------------------------------------------------------


def rensa(raw: Path, work: Path) -> None:
    """Its bulk calls: signatures of a batch of token sets, one index, all queries at once."""
    from rensa import RMinHash, RMinHashLSH

    table = pq.read_table(raw, columns=["id", "text"])
    texts = table["text"].to_pylist()
    index = RMinHashLSH(threshold=THRESHOLD, num_perm=HASHES, num_bands=BANDS)
    signatures = []
    for batch in batched(texts):
        signatures += RMinHash.from_token_sets([shingles(text) for text in batch], HASHES, SEED)
    index.insert_many(signatures)
    clusters = Clusters(len(texts))
    for row, alike in enumerate(index.query_all(signatures)):
        for other in alike:
            clusters.join(row, other)
    written(table, clusters.first(), work)


def gaoya(raw: Path, work: Path) -> None:
    """Its own words, n-grams and hashes. Its queries also compare signatures with the threshold."""
    from gaoya.minhash import MinHashStringIndex

    table = pq.read_table(raw, columns=["id", "text"])
    index = MinHashStringIndex(32, THRESHOLD, BANDS, ROWS, None, "word", True, (NGRAM, NGRAM), "smallvec")
    clusters = Clusters(table.num_rows)
    for row, text in enumerate(table["text"].to_pylist()):
        for other in index.query(text):
            clusters.join(row, other)
        index.insert_document(row, text)
    written(table, clusters.first(), work)


def daft(raw: Path, work: Path) -> None:
    """Its normal form, signatures, join and files; bands by sorted bytes here, the fastest that NumPy has."""
    import daft
    import numpy as np

    made = (
        daft.read_parquet(str(raw))
        .select("id", "text")
        .with_column("signature", _daft_signature())
        .select("id", "signature")
    )
    table = made.to_arrow().combine_chunks()
    flat = table["signature"].combine_chunks()
    flat = flat.chunk(0) if isinstance(flat, pa.ChunkedArray) else flat
    signatures = flat.flatten().to_numpy(zero_copy_only=False).astype(np.uint32, copy=False).reshape(-1, HASHES)
    clusters = Clusters(len(signatures))
    for band in range(BANDS):
        keys = np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS]).view(f"V{4 * ROWS}").ravel()
        _, first, group, count = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        for row in np.flatnonzero(count[group] > 1).tolist():
            clusters.join(row, int(first[group[row]]))
    kept = daft.from_arrow(pa.table({"id": table["id"].filter(pa.array(clusters.first()))}))
    daft.read_parquet(str(raw)).join(kept, on="id", how="semi").write_parquet(str(work / "out"))


def _daft_signature() -> object:
    from daft import col
    from daft.functions import minhash, normalize

    plain = normalize(col("text"), remove_punct=True, lowercase=True, nfd_unicode=True, white_space=True)
    return minhash(plain, num_hashes=HASHES, ngram_size=NGRAM, seed=SEED, hash_function="xxhash3_64")


def text_dedup(raw: Path, work: Path) -> None:
    """Its command, with the faster of its hashes. It writes Arrow files of its own, not parquet."""
    os.environ |= {"HF_HOME": str(work / "home"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    from text_dedup.minhash import main

    told = {
        "path": "parquet",
        "data_files": raw,
        "split": "train",
        "cache_dir": work / "cache",
        "output": work / "out",
        "column": "text",
        "ngram": NGRAM,
        "num_perm": HASHES,
        "b": BANDS,
        "r": ROWS,
        "hash_func": "xxh3",
        "hash_bits": 32,
        "num_proc": 1,
        "batch_size": 10_000,
    }
    main([word for name, value in told.items() for word in (f"--{name}", str(value))])


def data_juicer(raw: Path, work: Path) -> None:
    """Its operator as its executor calls it. Words are what white space parts, without punctuation.

    Its executor itself is left out: where torch is missing it installs it, gigabytes, while it runs.
    """
    os.environ |= {"HF_HOME": str(work / "home"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    from data_juicer.utils.lazy_loader import LazyLoader

    LazyLoader._install_package = classmethod(_nothing_installed)
    from data_juicer.ops.deduplicator.document_minhash_deduplicator import DocumentMinhashDeduplicator
    from datasets import load_dataset

    operator = DocumentMinhashDeduplicator(
        tokenization="space",
        window_size=NGRAM,
        lowercase=True,
        ignore_pattern=r"\p{P}",
        num_permutations=HASHES,
        jaccard_threshold=THRESHOLD,
        num_bands=BANDS,
        num_rows_per_band=ROWS,
    )
    documents = load_dataset("parquet", data_files=str(raw), split="train", cache_dir=str(work / "cache"))
    kept, _ = operator.process(documents.map(operator.compute_hash))
    (work / "out").mkdir(parents=True, exist_ok=True)
    kept.to_parquet(work / "out" / "kept.parquet")


def _nothing_installed(_loader: type, package: str, *_: object) -> None:
    raise ImportError(f"{package} is asked for, but a bench installs nothing")


def datatrove(raw: Path, work: Path) -> None:
    """Its four steps as its example has them: signatures, buckets, clusters, filter; words by spaCy's English rules."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    config = MinhashConfig(n_grams=NGRAM, num_buckets=BANDS, hashes_per_bucket=ROWS)
    signatures, buckets, removed = (str(work / name) for name in ("signatures", "buckets", "removed"))

    def reader() -> ParquetReader:
        return ParquetReader(str(raw.parent), glob_pattern=raw.name, read_metadata=False)

    steps = {
        "1": ([reader(), MinhashDedupSignature(signatures, config=config)], 1),
        "2": ([MinhashDedupBuckets(signatures, buckets, config=config)], BANDS),
        "3": ([MinhashDedupCluster(buckets, removed, config=config)], 1),
        "4": ([reader(), MinhashDedupFilter(removed), ParquetWriter(str(work / "out"))], 1),
    }
    for name, (pipeline, tasks) in steps.items():
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(work / "logs" / name)).run()


# --- signatures alone -------------------------------------------------------------------------------------------------


def sign_rensa(texts: list[str]) -> None:
    from rensa import RMinHash

    for batch in batched(texts):
        RMinHash.digest_matrix_from_token_sets([shingles(text) for text in batch], HASHES, SEED)


def sign_gaoya(texts: list[str]) -> None:
    """It gives no signatures away: documents are put into an index of one band that holds the whole signature."""
    from gaoya.minhash import MinHashStringIndex

    index = MinHashStringIndex(32, THRESHOLD, 1, HASHES, None, "word", True, (NGRAM, NGRAM), "vec")
    for row, text in enumerate(texts):
        index.insert_document(row, text)


def sign_datasketch(texts: list[str]) -> None:
    from datasketch import MinHash

    for batch in batched(texts):
        MinHash.bulk([[one.encode() for one in shingles(text)] for text in batch], num_perm=HASHES)


def sign_daft(texts: list[str]) -> None:
    import daft

    frame = daft.from_arrow(pa.table({"text": pa.array(texts, pa.large_string())}))
    frame.select(_daft_signature().alias("signature")).collect()


def batched(texts: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), BATCH):
        yield texts[start : start + BATCH]


def signing(sign: Callable[[list[str]], None], raw: str) -> float:
    """CPU-seconds of signing the texts of a file that lie in memory as Python strings, the best of `SIGNED`."""
    texts = pq.read_table(raw, columns=["text"])["text"].to_pylist()
    sign(texts[:100])
    return min(_timed(sign, texts) for _ in range(SIGNED))


def _timed(sign: Callable[[list[str]], None], texts: list[str]) -> float:
    start = time.process_time()
    sign(texts)
    return time.process_time() - start


PROGRAMS: dict[str, Callable[[Path, Path], None]] = {
    "rensa": rensa,
    "gaoya": gaoya,
    "daft": daft,
    "text-dedup": text_dedup,
    "data-juicer": data_juicer,
    "datatrove": datatrove,
}
SIGNERS: dict[str, Callable[[list[str]], None]] = {
    "rensa": sign_rensa,
    "gaoya": sign_gaoya,
    "datasketch": sign_datasketch,
    "daft": sign_daft,
}


def versions(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {version(name)}" for name in names)


if __name__ == "__main__":
    if sys.argv[1] == "versions":
        print(versions(sys.argv[2:]))
    elif sys.argv[1] == "sign":
        print(signing(SIGNERS[sys.argv[2]], sys.argv[3]))
    else:
        PROGRAMS[sys.argv[1]](Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve())
    sys.stdout.flush()
    os._exit(0)  # Daft's threads now and then abort an interpreter that ends under them
