"""How it went: one small record per unit of work, kept beside the manifest. Nothing reads it to decide anything.

`plan` looks at it to say how long a stage may take; people look at it to see where time went.
"""

import io
import os
import resource
import socket
import time
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate import store
from curate.manifest import Receipt

NAME = "ledger.parquet"
SCHEMA = pa.schema(
    [
        pa.field("unit", pa.string(), nullable=False),
        pa.field("phase", pa.string(), nullable=False),
        pa.field("adopted", pa.bool_(), nullable=False),
        pa.field("rows_in", pa.int64(), nullable=False),
        pa.field("rows_out", pa.int64(), nullable=False),
        pa.field("dropped", pa.int64(), nullable=False),
        pa.field("rejected", pa.int64(), nullable=False),
        pa.field("bytes_in", pa.int64()),
        pa.field("bytes_out", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64()),
        pa.field("cpu_seconds", pa.float64()),
        pa.field("host", pa.string()),
        pa.field("finished", pa.float64()),
    ]
)


class Clock:
    """Wall and CPU seconds of one piece of work in this process, with the host and the time it ended."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), _cpu()

    def how(self, phase: str, bytes_in: int) -> dict[str, Any]:
        """What a receipt says of how its unit went; the clock starts anew."""
        now, cpu = time.perf_counter(), _cpu()
        how = {
            "phase": phase,
            "bytes_in": bytes_in,
            "seconds": round(now - self.wall, 6),
            "cpu_seconds": round(cpu - self.cpu, 6),
            "host": socket.gethostname(),
            "process": os.getpid(),
            "finished": round(time.time(), 3),
        }
        self.wall, self.cpu = now, cpu
        return how


def save(folder: str, receipts: Iterable[Receipt]) -> None:
    """Fold the receipts of a dataset into its ledger."""
    rows = [_record(receipt) for receipt in receipts]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), sink, compression="zstd")
    store.put(store.join(folder, NAME), sink.getvalue())


def load(folder: str) -> pa.Table | None:
    """The ledger of a dataset, or None where there is none that can be read: nothing depends on it."""
    uri = store.join(folder, NAME)
    if not store.exists(uri):
        return None
    try:
        with store.open_input(uri) as file:
            return pq.read_table(file)
    except (pa.ArrowException, OSError):
        return None


def _record(receipt: Receipt) -> dict[str, Any]:
    how = receipt.how
    return {
        "unit": receipt.unit,
        "phase": how.get("phase", ""),
        "adopted": bool(how.get("adopted")),
        "rows_in": receipt.rows_in,
        "rows_out": receipt.rows_out,
        "dropped": receipt.dropped,
        "rejected": receipt.rejected,
        "bytes_out": sum(shard.bytes for shard in receipt.shards),
        **{name: how.get(name) for name in ("bytes_in", "seconds", "cpu_seconds", "host", "finished")},
    }


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
