"""The rivals' side of the benches, run by `.venv-bench`, which has the rivals and not us.

Each pipeline is written as the rival's own documentation and examples have it, one task, one worker, and reads only
the two columns there are. Nothing here measures: the bench times this process from outside.
"""

import sys
from importlib.metadata import version
from pathlib import Path

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup.exact_dedup import (
    ExactDedupConfig,
    ExactDedupFilter,
    ExactDedupSignature,
    ExactFindDedups,
)
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter


def text_of(document: Document) -> str:
    return document.text


def run(steps: list, work: Path, name: str) -> None:
    LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(work / "logs" / name)).run()


def reader(raw: str) -> ParquetReader:
    return ParquetReader(raw, read_metadata=False)


def exact(raw: str, work: Path) -> None:
    """Signatures, duplicates found, text filtered: the three steps of the rival."""
    config = ExactDedupConfig(content_getter=text_of)
    duplicates(raw, work)
    dropped = ExactDedupFilter(str(work / "duplicates"), config)
    run([reader(raw), dropped, ParquetWriter(str(work / "out"))], work, "3")


def duplicates(raw: str, work: Path) -> None:
    """The first two of the three steps: which documents are copies."""
    config = ExactDedupConfig(content_getter=text_of)
    signatures = str(work / "signatures")
    run([reader(raw), ExactDedupSignature(signatures, config)], work, "1")
    run([ExactFindDedups(signatures, str(work / "duplicates"), config)], work, "2")


def gopher_quality(raw: str, work: Path) -> None:
    """The filter with the word tokenizer that it loads for English."""
    run([reader(raw), GopherQualityFilter(), ParquetWriter(str(work / "out"))], work, "1")


def rules(raw: str, work: Path) -> None:
    """The four filters as they ship, each on what the one before it kept; words are parted once and shared.

    C4's also takes lines out of the text, which the filter after it sees.
    """
    filters = [GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter(), FineWebQualityFilter()]
    run([reader(raw), *filters, ParquetWriter(str(work / "out"))], work, "1")


PIPELINES = {"exact": exact, "duplicates": duplicates, "gopher_quality": gopher_quality, "rules": rules}

if __name__ == "__main__":
    if sys.argv[1:] == ["versions"]:
        print(", ".join(f"{name} {version(name)}" for name in ("datatrove", "spacy")))
    else:
        PIPELINES[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
