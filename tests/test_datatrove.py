"""Our rule sets and DataTrove's filters, given the same words and sentences, say the same of every text.

DataTrove has its own environment, since it wants older packages than ours: `.venv-bench` in the checkout (`make bench`
installs it), or the Python that CURATE_DATATROVE_PYTHON names. What differs must be in `EXPLAINED`.
"""

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from limits import limit_texts

from curate.filtering import filter_files
from curate.kernels.text import IS_PUNCTUATION, IS_TERMINAL, code_point_classes
from curate.stages.clean import Clean

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HERE = Path(__file__).parent
SCRIPT = HERE / "datatrove_filters.py"
OURS = frozenset(map(chr, np.flatnonzero(code_point_classes() & IS_PUNCTUATION)))
TERMINAL = frozenset(map(chr, np.flatnonzero(code_point_classes() & IS_TERMINAL)))

REASONS = {
    "gopher_quality": {
        "word_count": {"gopher_short_doc", "gopher_long_doc"},
        "mean_word_length": {"gopher_below_avg_threshold", "gopher_above_avg_threshold"},
        "hash_ratio": {"gopher_too_many_hashes"},
        "ellipsis_ratio": {"gopher_too_many_ellipsis"},
        "bullet_lines": {"gopher_too_many_bullets"},
        "ellipsis_lines": {"gopher_too_many_end_ellipsis"},
        "alphabetic_words": {"gopher_below_alpha_threshold"},
        "stop_words": {"gopher_enough_stop_words"},
    },
    "gopher_repetition": {
        "empty": {"empty"},
        "duplicate_paragraphs": {"dup_para_frac"},
        "duplicate_paragraph_characters": {"dup_para_char_frac"},
        "duplicate_lines": {"dup_line_frac"},
        "duplicate_line_characters": {"dup_line_char_frac"},
        **{f"top_{n}_gram": {f"top_{n}_gram"} for n in range(2, 5)},
        **{f"duplicate_{n}_grams": {f"duplicated_{n}_n_grams"} for n in range(5, 11)},
    },
    "c4": {
        "lorem_ipsum": {"lorem_ipsum"},
        "curly_bracket": {"curly_bracket"},
        "sentences": {"too_few_sentences"},
    },
    "fineweb": {
        "empty": {"empty"},
        "terminal_lines": {"line_punct_ratio"},
        "short_lines": {"short_line_ratio"},
        "duplicate_characters": {"char_dup_ratio"},
        "newlines": {"list_ratio"},
    },
}
"""Names of our rules, by rule set, and the reasons that datatrove gives for the same."""

EXPLAINED = {
    "first of two": "a page with lorem ipsum and a curly bracket goes; datatrove names what it meets first",
}
"""Differences that are meant, and why."""


class Difference(NamedTuple):
    """Two verdicts on one text, "" being kept, and the key of `EXPLAINED` that covers them, or ""."""

    ours: str
    theirs: str
    text: str
    explained: str


@pytest.fixture(scope="module")
def datatrove() -> str:
    """The Python that has datatrove; without one the test is skipped."""
    named = os.environ.get("CURATE_DATATROVE_PYTHON") or str(HERE.parent / ".venv-bench" / "bin" / "python")
    if not Path(named).exists() or subprocess.run([named, "-c", "import datatrove"], capture_output=True).returncode:
        pytest.skip(f"no datatrove in {named}; `make bench` installs it, CURATE_DATATROVE_PYTHON names another")
    return named


def judged_there(python: str, texts: list[str], folder: Path) -> pa.Table:
    pq.write_table(pa.table({"text": texts}), folder / "texts.parquet")
    command = [python, str(SCRIPT), str(folder / "texts.parquet"), str(folder / "theirs.parquet")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    return pq.read_table(folder / "theirs.parquet")


def judged_here(rules: str, texts: list[str], folder: Path) -> list[str]:
    """Per text the rule that drops it, "" if it is kept."""
    pq.write_table(pa.table({"row": range(len(texts)), "text": texts}), folder / "raw.parquet")
    target = folder / f"{rules}.parquet"
    said = filter_files(str(folder / "raw.parquet"), str(target), rules=(rules,))
    dropped = pq.read_table(said["dropped_out"], columns=["row", "rule"])
    verdicts = [""] * len(texts)
    for row, rule in zip(dropped["row"].to_pylist(), dropped["rule"].to_pylist(), strict=True):
        verdicts[row] = rule.removeprefix(f"{rules}.")
    assert said["rows"] == len(texts), "a text was lost"
    assert said["rejected"] == 0, "a text was rejected"
    return verdicts


def differences(rules: str, ours: list[str], theirs: pa.Table, texts: list[str]) -> Iterator[Difference]:
    """Where rule and reason are not the same thing."""
    assert frozenset(theirs.schema.metadata[b"punctuation"].decode()) == OURS
    assert frozenset(theirs.schema.metadata[b"terminal"].decode()) == TERMINAL
    for mine, reason, text in zip(ours, theirs[rules].to_pylist(), texts, strict=True):
        if (reason or "") in REASONS[rules].get(mine, {""}):
            continue
        explained = ""
        if rules == "c4" and {mine, reason} == {"lorem_ipsum", "curly_bracket"}:
            explained = "first of two"
        yield Difference(mine or "kept", reason or "kept", text, explained)


def assert_agreement(rules: str, texts: list[str], theirs: pa.Table, folder: Path) -> Counter[str]:
    """No difference that is not explained; returns datatrove's reasons, counted."""
    found = list(differences(rules, judged_here(rules, texts, folder), theirs, texts))
    strange = [one for one in found if not one.explained]
    examples = {(one.ours, one.theirs): one.text[:300] for one in reversed(strange)}
    counted = Counter((one.ours, one.theirs) for one in strange)
    assert not strange, f"{rules}: (ours, datatrove's) differ on {len(strange)} of {len(texts)}: {counted}; {examples}"
    assert len(found) <= len(texts) / 100, "explanations are for a few texts"
    return Counter(reason or "kept" for reason in theirs[rules].to_pylist())


def assert_cleaned_alike(texts: list[str], theirs: pa.Table) -> None:
    """What C4 leaves of a text is the same, byte by byte, where datatrove keeps the document."""
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    cleaned = Clean(steps=("c4",)).apply(table, None)["text"].to_pylist()
    kept = [row for row, reason in enumerate(theirs["c4"].to_pylist()) if reason is None]
    left = theirs["c4_text"].to_pylist()
    changed = [row for row in kept if left[row] != texts[row]]
    assert len(changed) >= 100
    assert [cleaned[row] for row in kept] == [left[row] for row in kept]


@pytest.fixture(scope="module")
def made(datatrove: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], pa.Table]:
    texts = limit_texts()
    return texts, judged_there(datatrove, texts, tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize("rules", REASONS)
def test_texts_at_every_limit_get_the_same_verdict(
    rules: str, made: tuple[list[str], pa.Table], tmp_path: Path
) -> None:
    texts, theirs = made
    counted = assert_agreement(rules, texts, theirs, tmp_path)
    wanted = {"kept", *(reason for reasons in REASONS[rules].values() for reason in reasons)}
    assert wanted <= set(counted), f"no text was made for {wanted - set(counted)}"
    assert min(counted[reason] for reason in wanted - {"gopher_long_doc"}) >= 2


def test_c4_leaves_the_same_of_texts_at_every_limit(made: tuple[list[str], pa.Table]) -> None:
    assert_cleaned_alike(*made)


@pytest.fixture(scope="module")
def real(datatrove: str, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], pa.Table]:
    files = sorted((shared / "data" / "corpus").glob("*.parquet"))
    if not files:
        pytest.skip("no corpus in the folder with more data")
    texts = [text for path in files for text in pq.read_table(path, columns=["text"])["text"].to_pylist()]
    return texts, judged_there(datatrove, texts, tmp_path_factory.mktemp("real"))


@pytest.mark.parametrize("rules", REASONS)
def test_real_texts_get_the_same_verdict(rules: str, real: tuple[list[str], pa.Table], tmp_path: Path) -> None:
    texts, theirs = real
    assert_agreement(rules, texts, theirs, tmp_path)


def test_c4_leaves_the_same_of_real_texts(real: tuple[list[str], pa.Table]) -> None:
    assert_cleaned_alike(*real)
