"""Raw files to documents: which files, which fields, what is normalised. Text is written here once.

This is the only stage that reads no dataset. It holds parameters alone; `curate.raw` plans the work and carries it out.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from curate.errors import RecipeError
from curate.stage import Stage


@dataclass(frozen=True)
class Normalize:
    """How text is made canonical before it is hashed: Unicode form, and CRLF and CR to LF."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    form: Literal["NFC", "NFKC", "none"] = "NFC"
    newlines: Literal["lf", "keep"] = "lf"


@dataclass(frozen=True)
class Field:
    """The source of a document is what this field of its record says; numbers become text."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    field: str


@dataclass(frozen=True)
class Input:
    """Raw files that are read alike.

    `files`: paths, folders, globs or URIs, relative to the recipe's root. `text`, `id`, `url`: the fields to take;
    `id` and `url` may be absent from the data as long as they are left at their defaults, and null means none.
    `source`: a name for all documents, or the field that holds it. `format`: `auto` goes by the file's suffix. A text
    file is one document. Fields that are not named here ride along as columns.

    For all inputs together, given in any of them: `shard_bytes`: text per shard, about. `max_rejects`: share of
    records that may be set aside before the run stops. `limit`: take this many records only, drawn over all files.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    files: tuple[str, ...]
    source: str | Field
    text: str = "text"
    id: str | None = "id"
    url: str | None = "url"
    format: Literal["auto", "jsonl", "parquet", "text"] = "auto"
    normalize: Normalize = Normalize()

    def __post_init__(self) -> None:
        if not self.files or not all(self.files):
            raise RecipeError("`files` names no file: give a path, a folder, a glob or a URI")
        if not self.text:
            raise RecipeError("`text` is the name of the field that holds the text, found ''")

    @property
    def consumed(self) -> tuple[str, ...]:
        """Fields that become promised columns and are not carried."""
        origin = self.source.field if isinstance(self.source, Field) else None
        return tuple(dict.fromkeys(name for name in (self.text, self.id, self.url, origin) if name is not None))


@dataclass(frozen=True)
class Ingest(Stage):
    """`shard_bytes`: text per shard, about. `max_rejects`: share of records that may be set aside before the run
    stops. `limit`: take this many records only, spread over all files by a keyed hash."""

    kind: ClassVar[str] = "ingest"
    version: ClassVar[int] = 1
    inputs: tuple[Input, ...]
    shard_bytes: int = 256 << 20
    max_rejects: float = 0.01
    limit: int | None = None

    def __post_init__(self) -> None:
        if not self.inputs:
            raise RecipeError("`ingest` has no inputs: give `files:` and `source:`")
        if self.shard_bytes < 1:
            raise RecipeError(f"`shard_bytes` is a positive number of bytes, found {self.shard_bytes}")
        if not 0 <= self.max_rejects <= 1:
            raise RecipeError(f"`max_rejects` is a share from 0 to 1, found {self.max_rejects}")
        if self.limit is not None and self.limit < 1:
            raise RecipeError(f"`limit` is a positive number of records, found {self.limit}")

    @property
    def reads(self) -> tuple[str, ...]:
        return ()
