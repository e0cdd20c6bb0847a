"""Documents and the row-aligned columns attached to them: joined by position, read by column, one shard at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from curate import store
from curate.errors import DataError
from curate.manifest import Manifest

DOCUMENT_COLUMNS = ("id", "text", "source", "source_id", "origin", "url", "bytes")

Files = tuple[tuple[str, tuple[str, ...]], ...]
"""Parquet files of one shard with the columns to take from each."""


@dataclass(frozen=True)
class Dataset:
    """A finished folder."""

    folder: str
    manifest: Manifest


@dataclass(frozen=True)
class View:
    """A document dataset and the column datasets made on it, each with one file per document shard.

    Where two hold a column (the text was rewritten), the later one counts.
    """

    documents: Dataset
    columns: tuple[Dataset, ...] = ()

    @property
    def types(self) -> dict[str, str]:
        """All columns that can be read, with their types."""
        held: dict[str, str] = {}
        for dataset in (self.documents, *self.columns):
            held |= dataset.manifest.columns
        return held

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that can be read."""
        return tuple(self.types)

    def has(self, names: Iterable[str]) -> bool:
        """True if all these columns can be read."""
        return set(names) <= self.types.keys()

    def holders(self, wanted: Sequence[str]) -> list[tuple[Dataset, tuple[str, ...]]]:
        """The datasets that hold the wanted columns, each with those to take from it."""
        datasets = (self.documents, *self.columns)
        last = {name: dataset.folder for dataset in datasets for name in dataset.manifest.columns}
        found = []
        for dataset in datasets:
            names = tuple(name for name in wanted if last.get(name) == dataset.folder)
            if names:
                found.append((dataset, names))
        return found

    def files(self, shard: int, wanted: Sequence[str]) -> Files:
        """Where the wanted columns of one shard are."""
        return tuple(
            (store.join(dataset.folder, dataset.manifest.shards[shard].name), names)
            for dataset, names in self.holders(wanted)
        )

    def digests(self, shard: int, wanted: Sequence[str]) -> dict[str, str]:
        """Digest of each wanted column in one shard."""
        return {
            name: dataset.manifest.shards[shard].columns[name]
            for dataset, names in self.holders(wanted)
            for name in names
        }


def read(files: Files, rows: int) -> pa.Table:
    """The columns of one shard side by side; a file that is damaged or of another length is named."""
    columns: dict[str, pa.ChunkedArray] = {}
    for uri, names in files:
        try:
            with store.open_input(uri) as source:
                # What is read ahead in one piece pays where each request is slow, and is a copy where none is.
                file = pq.ParquetFile(source, pre_buffer=not store.is_local(uri))
                table = file.read(columns=list(names), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            said = " ".join(str(error).split())
            raise DataError(f"{uri} is damaged ({said}); run `curate verify`, then `curate run` again") from error
        if table.num_rows != rows:
            raise DataError(f"{uri} has {table.num_rows} rows where {rows} were promised; run `curate verify`")
        columns.update(zip(table.column_names, table.columns, strict=True))
    return pa.table(columns) if columns else empty(rows)


def empty(rows: int) -> pa.Table:
    """A table of so many rows and no columns: what a stage gets that only needs to know how many."""
    return pa.table({"row": pa.nulls(rows)}).select([])


def pick(table: pa.Table, names: Iterable[str]) -> pa.Table:
    """Just these columns, rows kept even when there are none."""
    return table.select(list(names))
