"""Recipes, raw files and damage follow one another in one folder; what comes out is always what a new folder gives."""

import json
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from corpus import digests, write_corpus

from curate import recipe
from curate.execute import pool
from curate.run import run
from curate.verify import verify

RECIPE = """\
name: sequence
ingest:
  - {files: ["raw/docs-*", "raw/code-*"], source: {field: source}, shard_bytes: 4096, max_rejects: 0.5}
  - {files: "raw/readme-0.jsonl", source: readme, text: content, id: name}
  - {files: "raw/readme-1.jsonl", source: more, text: content, id: name}
stages:
  - heuristics:
  - exact: {among: "words >= 3"}
  - select: {name: good, keep: {long: words >= 12, first: not duplicate}, carry: [lines]}
  - tokenize: {tokenizer: tokenizer.json}
  - select: {name: some, keep: {short: tokens < 5000}, carry: [ids, source_id]}
  - mix: {max_epochs: 6, validation: 0.1}
  - pack: {window: 64, shard_tokens: 1024}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    corpus(tmp_path)
    return tmp_path


Whole = tuple[Path, dict[str, str]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A run that tests damage and mend again."""
    folder = tmp_path_factory.mktemp("whole")
    corpus(folder)
    return folder, again(folder, RECIPE)


def corpus(folder: Path) -> None:
    """A small corpus with one more file."""
    write_corpus(folder, 30)
    (folder / "raw" / "readme-1.jsonl").write_text('{"content": "the one and only of its kind", "name": "x"}\n')


def fresh(place: Path, text: str) -> dict[str, str]:
    """What a recipe gives in a folder of its own."""
    (place / "recipe.yaml").write_text(text)
    new = place / f"new-{len(list(place.iterdir()))}"
    run(recipe.load(str(place / "recipe.yaml")), str(new))
    return digests(new)


def again(place: Path, text: str) -> dict[str, str]:
    """What it gives in the folder that all runs share, leaving out what it has no part in."""
    (place / "recipe.yaml").write_text(text)
    result = run(recipe.load(str(place / "recipe.yaml")), str(place / "run"))
    mine = {Path(folder).name for folder in (result.source.folder, *(step.folder for step, _ in result.steps))}
    return {
        name: data for name, data in digests(place / "run").items() if "/" not in name or name.split("/")[0] in mine
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("long: words >= 12, first: not duplicate", "first: not duplicate, long: words >= 12"),
        lambda text: text.replace("carry: [ids, source_id]", "carry: [source_id, ids]"),
        lambda text: text.replace("source: readme", "source: X").replace("more", "readme").replace("X", "more"),
        lambda text: text.replace("readme-0", "X").replace("readme-1", "readme-0").replace("X", "readme-1"),
        lambda text: text.replace("validation: 0.1", "validation: 0.1, seed: 3"),
    ],
)
def test_another_recipe_gives_what_a_new_folder_gives(place: Path, change: Callable[[str], str]) -> None:
    again(place, RECIPE)
    assert change(RECIPE) != RECIPE
    assert again(place, change(RECIPE)) == fresh(place, change(RECIPE))


def test_what_a_selection_only_carries_counts(place: Path) -> None:
    """Its rules need no column of `exact`, but its survivors hold one."""
    text = RECIPE.replace(", first: not duplicate", "").replace("carry: [lines]", "carry: [duplicate_of]")
    again(place, text)
    other = text.replace("words >= 3", "words >= 100")
    assert again(place, other) == fresh(place, other)


def test_a_raw_file_with_its_time_set_back_is_noticed(place: Path) -> None:
    again(place, RECIPE)
    raw = place / "raw" / "docs-0.jsonl"
    before, data = raw.stat(), raw.read_bytes()
    raw.write_bytes(data.replace(b"the", b"thy"))
    assert raw.read_bytes() != data
    os.utime(raw, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert again(place, RECIPE) == fresh(place, RECIPE)


def flip(file: Path, at: int) -> None:
    """One bit, in the file itself: other names of it are damaged alike."""
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def test_damage_of_a_unit_that_was_taken_over_is_mended(place: Path) -> None:
    again(place, RECIPE)
    before = {file for file in (place / "run").rglob("*.parquet") if file.stat().st_nlink == 1}
    (place / "raw" / "docs-9.jsonl").write_text('{"text": "one more", "source": "docs"}\n')
    whole = again(place, RECIPE)
    shared = [
        file for file in (place / "run").rglob("00000.parquet") if file.stat().st_nlink > 1 and file not in before
    ]
    assert shared
    for file in shared:
        flip(file, 100)
    verify(str(place / "run"))
    assert again(place, RECIPE) == whole
    assert not verify(str(place / "run"))["damaged"]


@pytest.mark.parametrize("kind", ["manifest.json", "done.json", "run.json", "raw.json"])
def test_a_changed_figure_in_a_record_of_ours_is_mended(whole: Whole, kind: str) -> None:
    place, expected = whole
    draw = random.Random(kind)
    for file in sorted((place / "run").rglob(kind)):
        figures = [found.start() for found in re.finditer(rb"[0-9]", file.read_bytes())]
        if figures:
            flip(file, draw.choice(figures))
    verify(str(place / "run"))
    assert again(place, RECIPE) == expected


@pytest.mark.parametrize(
    "gone",
    [
        "*/rule/manifest.json",
        "*/verdict/done.json",
        "*/verdict/whole.arrow",
        "*/evidence/*.cut",
        "*/evidence/manifest.json",
    ],
)
def test_a_lost_file_inside_a_stage_is_made_again(whole: Whole, gone: str) -> None:
    place, expected = whole
    files = list((place / "run").glob(gone))
    assert files
    for file in files:
        file.unlink()
    verify(str(place / "run"))
    assert again(place, RECIPE) == expected


def test_damage_of_an_unfinished_dataset_is_found(whole: Whole) -> None:
    place, expected = whole
    (folder,) = (place / "run").glob("heuristics-*")
    manifest = json.loads((folder / "manifest.json").read_text())
    victim = folder / "00001.parquet"
    victim.rename(place / "aside")
    victim.write_bytes(b"")  # reopens the dataset, whose units have receipts then
    from curate.standing import intact

    assert intact(str(folder)) is None
    assert len(list((folder / "units").iterdir())) == len(manifest["units"]) - 1
    flip(folder / "00000.parquet", 100)
    assert [one["file"] for one in verify(str(place / "run"))["damaged"]] == [str(folder / "00000.parquet")]
    assert again(place, RECIPE) == expected


def test_a_worker_that_dies_while_idle_is_replaced() -> None:
    with pool(2) as workers:
        first = set(workers(process, range(4)))
        for number in first:
            os.kill(number, signal.SIGKILL)
        while any(alive(number) for number in first):
            pass
        time.sleep(0.5)  # for the pool to notice, or the jobs are lost after they were taken, which is another case
        assert len(list(workers(process, range(4)))) == 4


def process(_: int) -> int:
    return os.getpid()


def alive(number: int) -> bool:
    """False once a process is gone or waits for its parent to notice that it is."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
