"""A text written anew: what is kept of it, what went, and the columns that tell both. What rewriting stages share."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.arrow import binary

Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]
REMOVED = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("reason", pa.string())]))


class Pieces(NamedTuple):
    """What is kept of each row (`kernels.pieces`)."""

    first: Int64s
    spans: Int64s
    newline: Bytes


def frozen(offsets: Int64s, data: Bytes) -> tuple[Int64s, Bytes]:
    """Read-only, as the views of Arrow's bytes are: Numba compiles a version of its own for arrays that are not."""
    offsets, data = np.ascontiguousarray(offsets), np.ascontiguousarray(data)
    offsets.setflags(write=False)
    data.setflags(write=False)
    return offsets, data


def texts(offsets: Int64s, data: Bytes) -> pa.Array:
    """A text column over these bytes, not copied."""
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))


def renewed(offsets: Int64s, data: Bytes) -> dict[str, pa.Array]:
    """The columns of new texts: `text`, `text_id` (XXH3-128 of it) and `bytes`. Offsets and bytes are `frozen`."""
    from curate.kernels.hash import xxh3_128

    ids = np.empty((len(offsets) - 1, 16), np.uint8)
    xxh3_128(offsets, data, ids)
    return {"text": texts(offsets, data), "text_id": binary(ids), "bytes": pa.array(np.diff(offsets))}


def removed(offsets: Int64s, taken: list[tuple[str, Int64s, Int64s]]) -> pa.Array:
    """All spans that went as one list per row (`REMOVED`), in the order of the text, counted from the row's start.

    `offsets` int64[n + 1] of the texts as they came; `taken`: a reason, and the spans that it took
    (`kernels.spans.gaps`).
    """
    rows = len(offsets) - 1
    owner = np.concatenate([np.repeat(np.arange(rows), np.diff(first)) for _, first, _ in taken] or [offsets[:0]])
    spans = np.concatenate([spans for _, _, spans in taken] or [np.empty((0, 2), np.int64)])
    which = np.concatenate([np.full(len(spans), i) for i, (_, _, spans) in enumerate(taken)] or [offsets[:0]])
    order = np.lexsort((spans[:, 0], owner))
    owner, spans = owner[order], spans[order] - offsets[owner[order], None]
    reasons = pa.array([reason for reason, _, _ in taken], pa.string()).take(pa.array(which[order], pa.int64()))
    columns = [pa.array(np.ascontiguousarray(spans[:, i])) for i in range(2)]
    first = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=rows))]).astype(np.int32)
    values = pa.StructArray.from_arrays([*columns, reasons], fields=list(REMOVED.value_type))
    return pa.ListArray.from_arrays(pa.array(first), values, type=REMOVED)
