"""DataTrove's own filters with our words and sentences, run by an environment that has datatrove and not us.

`python datatrove_filters.py IN.parquet OUT.parquet`: for each row of the column `text` what each filter, as it ships,
says of it: null where it is kept, else the reason; `c4_text` is what C4 leaves of the text. Their words are what
`str.split` gives, and their sentences those that the C4 kernel counts, since the trained models that datatrove asks
would hide whether the rules agree.
"""

import re
import sys

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    c4_filters,
    fineweb_quality_filter,
    gopher_quality_filter,
    gopher_repetition_filter,
)
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION

FILTERS = {
    "gopher_quality": GopherQualityFilter,
    "gopher_repetition": GopherRepetitionFilter,
    "c4": C4QualityFilter,
    "fineweb": FineWebQualityFilter,
}
_END = re.compile(r"[.?!](?=[\"'\s]|\Z)")


def words(text: str, language: str = "") -> list[str]:
    return text.split()


def sentences(text: str, language: str = "") -> list[str]:
    """As many as the kernel counts: an end each, and what follows the last one unless it is white space and quotes."""
    ends = [match.end() for match in _END.finditer(text)]
    rest = text[ends[-1] if ends else 0 :]
    return [text[:end] for end in ends] + ([rest] if rest.strip().strip("\"'").strip() else [])


def main(source: str, target: str) -> None:
    for module in (gopher_quality_filter, gopher_repetition_filter, fineweb_quality_filter):
        module.split_into_words = words
    c4_filters.split_into_sentences = sentences
    texts = pq.read_table(source, columns=["text"])["text"].to_pylist()
    columns: dict[str, list[str | None]] = {}
    for name, kind in FILTERS.items():
        judge = kind()
        columns[name] = []
        left = []
        for text in texts:
            document = Document(text=text, id="")
            verdict = judge.filter(document)
            columns[name].append(None if verdict is True else verdict[1])
            left.append(document.text)
        if name == "c4":
            columns["c4_text"] = left
    schema = pa.schema(
        {name: pa.string() for name in columns},
        metadata={"punctuation": "".join(sorted(PUNCTUATION_SET)), "terminal": "".join(sorted(TERMINAL_PUNCTUATION))},
    )
    pq.write_table(pa.table(columns, schema=schema), target)


if __name__ == "__main__":
    main(*sys.argv[1:])
