"""What an index has: told, checked, and exported for datasketch."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate import store
from curate.arrow import binary, large_lists
from curate.errors import AssetError, RecipeError
from curate.execute import Failed, attempt, serial
from curate.index import INDEX, Index, Segment
from curate.segment import reading, shingles, signatures
from curate.stage import Map

_VALUES_AT_ONCE, _ROWS_AT_ONCE = 4 << 20, 4096


def info(uri: str) -> dict[str, Any]:
    """What an index has: settings, the S-curve that they give, segments, documents, bytes of text and of the index."""
    return told(Index.open(uri))


def check(uri: str, *, map: Map = serial) -> None:
    """Read all of an index. AssetError that names the first segment that is not as it was written."""
    index = Index.open(uri)
    jobs = [(store.join(uri, segment.name), segment.sha256) for segment in index.segments]
    for result in map(partial(attempt, work=_checked), jobs):
        if isinstance(result, Failed):
            raise AssetError(result.message)


def export(uri: str, target: str) -> dict[str, Any]:
    """Write the signatures of an index to one parquet file, for use with datasketch: columns `id` (16 bytes), `origin`,
    `signature` (list of uint32). An index of shingles gives the same signatures as one of signatures.

    In datasketch 2 (`bands`, `rows` and `seed` are told by `info`; here 14, 8 and 1):

        import pyarrow.parquet as pq
        from datasketch import MinHash, MinHashLSH
        lsh = MinHashLSH(num_perm=14 * 8, params=(14, 8))
        for row in pq.read_table("index.parquet").to_pylist():
            if row["id"] not in lsh:  # a document that was added twice
                lsh.insert(row["id"], MinHash(hashvalues=row["signature"], seed=1, scheme="affine32"))
    """
    index = Index.open(uri)
    if store.same(store.parent(target), uri):
        raise RecipeError(f"{target} is in the folder of the index, which is for its own files: give another place")
    schema = pa.schema([("id", pa.binary(16)), ("origin", pa.string()), ("signature", pa.list_(pa.uint32()))])
    rows = 0
    with store.writing(target) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for segment in index.segments:
            for table in _exported(index, segment):
                writer.write_table(table.cast(schema))
                rows += table.num_rows
    return {"index": uri, "file": target, "documents": rows, "bytes": store.size(target)}


def lines(made: dict[str, Any]) -> list[str]:
    """What `add`, `info` or `export` gave, for people."""
    if "file" in made:
        return [f"{made['file']}: {made['documents']:,} documents, {made['bytes'] / 1e6:,.1f} MB"]
    said = []
    if "added" in made:
        more = made["added"]
        said.append(f"added {more['documents']:,} documents in {more['segments']:,} segments")
    scope = f", per {made['per']}" if made["per"] else ""
    way = (
        f"{made['bands']} bands of {made['rows']} rows over {made['ngram']} {made['unit']}, seed {made['seed']}{scope}"
    )
    share = f" ({made['bytes'] / made['text_bytes']:.1%} of their text)" if made["text_bytes"] else ""
    return [
        *said,
        f"{made['index']}: {way}, verify {made['verify']}",
        f"{made['documents']:,} documents, {made['entries']:,} entries, {len(made['segments']):,} segments, "
        f"{made['bytes'] / 1e6:,.1f} MB{share}",
        "found by similarity: " + "  ".join(f"{at} {chance:.1%}" for at, chance in made["curve"].items()),
        *(f"  {one['name']}  {one['documents']:,} documents  {one['bytes']:,} bytes" for one in made["segments"]),
    ]


def _exported(index: Index, segment: Segment) -> Iterator[pa.Table]:
    sketch = index.sketch
    most = max(1, min(_ROWS_AT_ONCE, _VALUES_AT_ONCE // sketch.hashes))
    with reading(store.join(index.uri, segment.name)) as reader:
        for start in range(0, segment.entries, most):
            rows = np.arange(start, min(start + most, segment.entries))
            bodies = reader.texts("body", rows)
            exact = index.verify == "exact"
            signed = sketch.signed(*shingles(bodies)) if exact else signatures(bodies, sketch.hashes)
            ids = np.stack([reader.take(half, rows) for half in ("high", "low")], axis=1).astype(">u8").view(np.uint8)
            offsets = np.arange(len(rows) + 1) * sketch.hashes
            yield pa.table(
                {
                    "id": binary(ids),
                    "origin": reader.texts("origin", rows).cast(pa.string()),
                    "signature": large_lists(offsets, signed.reshape(-1)),
                }
            )


def told(index: Index) -> dict[str, Any]:
    return {
        "index": index.uri,
        **index.settings["sketch"],
        "per": index.settings["per"],
        "verify": index.verify,
        "curve": index.sketch.curve(),
        "documents": sum(one.documents for one in index.segments),
        "entries": sum(one.entries for one in index.segments),
        "keys": sum(one.keys for one in index.segments),
        "text_bytes": sum(one.text for one in index.segments),
        "bytes": sum(one.size for one in index.segments),
        "segments": [
            {"name": one.name, "documents": one.documents, "entries": one.entries, "bytes": one.size}
            for one in index.segments
        ],
    }


def _checked(job: tuple[str, str]) -> None:
    place, digest = job
    with reading(place) as reader:
        if reader.check() != digest:
            raise AssetError(f"{place} is not what {INDEX} names: fetch it again, or make the index anew")
