"""What one unit of ingest reads: slices of raw files, small and picklable."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Slice:
    """Part of a file. `start` and `stop` are bytes for plain jsonl (it owns the lines that begin there), row groups
    for parquet, and the whole file otherwise. `first_record`: line ends, or rows, before it."""

    name: str
    uri: str
    format: Literal["jsonl", "parquet", "text"]
    start: int
    stop: int
    first_record: int


@dataclass(frozen=True)
class Unit:
    """Slices of one input that become shards together, the digests of their files, and about how many bytes."""

    input: int
    slices: tuple[Slice, ...]
    digests: tuple[str, ...]
    bytes: int
