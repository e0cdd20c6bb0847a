"""A mixture of very many documents, from their columns alone: seconds, memory, and how near the plan is met.

The stage `mix` is driven as a run drives it, scan, judge and apply, over synthetic shards (ids, origins, eight
sources, ten quality buckets, log-normal lengths) that workers make again when they need them and nobody keeps. What
making them takes is timed apart. Memory is the sum of what each process had at its largest, so an upper bound.
"""

import argparse
import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import measure
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import exchange, execute, store
from curate.arrow import encode
from curate.run import MOST_SEGMENTS, SEGMENTS
from curate.stage import Evidence, Verdict
from curate.stages.mix import Mix, Phase

SOURCES = {
    "web": 0.7,
    "code": 0.1,
    "papers": 0.06,
    "books": 0.05,
    "forums": 0.04,
    "news": 0.03,
    "wiki": 0.015,
    "math": 0.005,
}
BUCKETS = 10
MEAN_LOG, STD_LOG = 6.3, 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000_000)
    parser.add_argument("--shard", type=int, default=100_000, help="documents of a shard")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a million documents: does it work at all?")
    options = parser.parse_args()
    documents = 1_000_000 if options.quick else options.documents
    with tempfile.TemporaryDirectory(prefix="bench-mixture-") as folder, execute.pool(options.jobs) as workers:
        told = planned(folder, documents, options.shard, workers)
    print(
        f"{documents:,} documents with {options.jobs} workers: {told['seconds']:.0f} s in all, {told['making']:.0f} "
        f"CPU-seconds of them to make the documents; scan {told['scan']:.0f} s, judge {told['judge']:.0f} s, apply "
        f"{told['apply']:.0f} s; {told['evidence'] / 1e9:.2f} GB of evidence; {told['memory'] / 1e9:.2f} GB of memory"
    )
    print(
        f"furthest from its quota, of {told['cells']} groups and phases: {told['worst']:,} tokens; "
        f"the longest document has {told['longest']:,}"
    )
    print(f"{measure.today()}; {measure.machine()}", flush=True)
    return 0


def stage(documents: int) -> Mix:
    """A budget of half the tokens there are, two phases, quality buckets: the last tenth draws the good ones again."""
    tokens = int(0.5 * documents * np.exp(MEAN_LOG + STD_LOG**2 / 2))
    last = {f"{source}/{bucket}": 1.0 + bucket for source in SOURCES for bucket in range(BUCKETS)}
    base = Phase("base", share=0.9, temperature=1.25)
    return Mix(
        tokens=tokens, phases=(base, Phase("last", weights=last)), bucket="quality", max_epochs=16.0, at_cap="clip",
        validation=0.001,
    )  # fmt: skip


def planned(folder: str, documents: int, rows: int, map: Any) -> dict[str, Any]:
    """Seconds by phase of the work, bytes of evidence and memory, and how near the documents come to the plan."""
    method = stage(documents)
    sizes = [min(rows, documents - start) for start in range(0, documents, rows)]
    segments = next((count for most, count in SEGMENTS if documents < most), MOST_SEGMENTS)
    jobs = list(enumerate(sizes))
    clock = [time.perf_counter()]
    said = list(map(partial(scan, method=method, folder=folder, segments=segments), jobs))
    clock.append(time.perf_counter())
    files = tuple(store.join(folder, f"{number}.cut") for number, _ in jobs)
    evidence = Evidence(files, segments, sum(one["rows"] for one in said), store.join(folder, "verdict"))
    whole = method.judge(evidence, map)
    clock.append(time.perf_counter())
    made = list(map(partial(apply, method=method, whole=whole), jobs))
    clock.append(time.perf_counter())
    drawn, longest = Counter[tuple[str, int]](), 0
    for one in made:
        drawn.update(one["drawn"])
        longest = max(longest, one["longest"])
    worst = 0
    for row in whole.to_pylist():
        got = sum(drawn[row["group"], phase] for phase in range(row["phase"] + 1))
        assert got == row["drawn_tokens"], "what was applied is what was judged"
        assert row["quota"] <= got < row["quota"] + longest
        worst = max(worst, got - row["quota"])
    peaks = {one["process"]: one["memory"] for one in (*said, *made)}
    return {
        "seconds": clock[-1] - clock[0],
        **{name: clock[at + 1] - clock[at] for at, name in enumerate(("scan", "judge", "apply"))},
        "making": sum(one["making"] for one in (*said, *made)),
        "evidence": sum(os.path.getsize(file) for file in files),
        "memory": resident() + sum(peaks.values()),
        "cells": whole.num_rows,
        "worst": worst,
        "longest": longest,
    }


def scan(job: tuple[int, int], *, method: Mix, folder: str, segments: int) -> dict[str, Any]:
    """One shard's evidence, cut into segments as a run does it."""
    shard, making = documents_of(*job)
    seen = method.scan(shard.select(list(method.reads)))
    segment = exchange.leading(seen["key"].to_numpy(), segments)
    store.put(store.join(folder, f"{job[0]}.cut"), exchange.cut(seen, segment, segments))
    return {"rows": seen.num_rows, "making": making, "process": os.getpid(), "memory": resident()}


def apply(job: tuple[int, int], *, method: Mix, whole: pa.Table) -> dict[str, Any]:
    """One shard's columns, encoded as a run writes them, and the tokens that they draw."""
    shard, making = documents_of(*job)
    made = method.apply(shard.select(list(method.applies_to)), Verdict(None, whole))
    encode(made)
    return {
        "drawn": dict(tokens_drawn(shard, made)),
        "longest": int(shard["tokens"].to_numpy().max()),
        "making": making,
        "process": os.getpid(),
        "memory": resident(),
    }


def tokens_drawn(shard: pa.Table, made: pa.Table) -> Iterator[tuple[tuple[str, int], int]]:
    """Group and phase with the tokens that a shard gives to it."""
    sources = shard["source"].combine_chunks()
    codes = sources.indices.to_numpy().astype(np.int64) * BUCKETS + shard["quality"].to_numpy()
    each = made["phase_copies"].combine_chunks().values.to_numpy().reshape(shard.num_rows, -1)
    for phase in range(each.shape[1]):
        sums = np.zeros(len(SOURCES) * BUCKETS, np.int64)
        np.add.at(sums, codes, each[:, phase] * shard["tokens"].to_numpy())
        for code in np.flatnonzero(sums).tolist():
            yield (f"{list(SOURCES)[code // BUCKETS]}/{code % BUCKETS}", phase), int(sums[code])


def documents_of(number: int, rows: int) -> tuple[pa.Table, float]:
    """Shard `number`, and the CPU-seconds that it took to make."""
    start = time.process_time()
    random = np.random.default_rng(number)
    ids = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(random.bytes(16 * rows))])
    codes = random.choice(len(SOURCES), rows, p=list(SOURCES.values())).astype(np.int32)
    places = pa.array(np.arange(1, rows + 1)).cast(pa.string())
    table = pa.table(
        {
            "id": ids,
            "origin": pc.binary_join_element_wise(f"raw/part-{number:05d}.jsonl.zst", places, ":"),
            "source": pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(SOURCES))),
            "quality": pa.array(random.integers(0, BUCKETS, rows).astype(np.int8)),
            "tokens": pa.array(np.maximum(1, random.lognormal(MEAN_LOG, STD_LOG, rows)).astype(np.int64)),
        }
    )
    return table, time.process_time() - start


def resident() -> int:
    """Bytes that this process had at its largest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    raise SystemExit(main())
