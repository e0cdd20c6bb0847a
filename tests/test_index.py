"""An index stands for documents that may be gone: what it finds, what it refuses, and that nothing breaks it."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle_index import Entry, known, named, saved

from curate import index as index_module
from curate import index_contents, indexing, recipe, segment, store
from curate.cli import main
from curate.errors import AssetError, BusyError, RecipeError
from curate.execute import pool
from curate.index import Index
from curate.kernels.probe import mark, meet
from curate.run import run
from curate.scopes import scoped
from curate.sketch import Sketch

ENOUGH = 2**64 - 1
WORDS = [f"word{number}" for number in range(2000)]
RECIPE = """name: {name}
ingest: {{files: "{name}/*.jsonl", source: web, shard_bytes: 65536}}
stages:
  - near: {{bands: 20, rows: 5, ngram: 3{more}}}
  - confirm: {{jaccard: 0.7{how}}}
  - select:
      keep: {{original: not near_duplicate}}
      carry: [near_duplicate_of, near_similarity]
"""


def prose(draw: random.Random, words: int = 80) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def fresh(documents: int) -> list[str]:
    """Texts that are like no other here."""
    draw = random.Random(5)
    return [prose(draw) for _ in range(documents)]


def edited(text: str, draw: random.Random) -> str:
    words = text.split()
    for place in draw.sample(range(len(words)), 2):
        words[place] = "other"
    return " ".join(words)


def write(folder: Path, name: str, texts: Sequence[str], *, more: str = "", how: str = "") -> Path:
    """Raw files and the recipe for them."""
    (folder / name).mkdir(exist_ok=True)
    for number in range(2):
        lines = [json.dumps({"text": text, "crawl": f"c{len(text) % 2}"}) for text in texts[number::2]]
        (folder / name / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    path = folder / f"{name}.yaml"
    path.write_text(RECIPE.format(name=name, more=more, how=how))
    return path


def made(folder: Path, name: str, texts: Sequence[str], *, more: str = "", how: str = "") -> Path:
    """A finished run over these texts."""
    path = write(folder, name, texts, more=more, how=how)
    run(recipe.load(str(path)), str(folder / f"{name}-run"))
    return folder / f"{name}-run"


def dropped(out: Path) -> dict[str, str]:
    """Origin of every near duplicate of a run, and what it went against."""
    steps = {step["kind"]: step["folder"] for step in json.loads((out / "run.json").read_text())["steps"]}
    found: dict[str, str] = {}
    for file in sorted((out / steps["confirm"]).glob("[0-9]*.parquet")):
        table = pq.read_table(file).append_column("origin", pq.read_table(out / steps["ingest"] / file.name)["origin"])
        for row in table.to_pylist():
            if row["near_duplicate"]:
                assert row["near_similarity"] >= 0.7
                found[row["origin"]] = row["near_duplicate_of"]
    return found


def frozen(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Every segment with its time, its place on disk and its digest."""
    files = sorted(folder.glob("*.segment"))
    return {
        file.name: (file.stat().st_mtime_ns, file.stat().st_ino, hashlib.sha256(file.read_bytes()).hexdigest())
        for file in files
    }


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run over 200 documents, two of them alike, and their texts."""
    draw = random.Random(1)
    texts = [prose(draw) for _ in range(199)]
    texts.append(edited(texts[7], draw))
    return made(tmp_path_factory.mktemp("old"), "old", texts), texts


@pytest.fixture
def memory() -> Iterator[str]:
    uri = f"memory://{uuid.uuid4().hex}"
    yield uri
    store.remove(uri)


# --- keys and entries ----------------------------------------------------------------------------------------------

few = st.integers(0, 40)
numbers = st.one_of(few, st.integers(0, ENOUGH), st.integers(ENOUGH - 40, ENOUGH), few.map(lambda n: n << 58))
entries = st.builds(
    Entry,
    high=numbers,
    low=few,
    origin=st.text(max_size=3),
    keys=st.lists(numbers, min_size=1, max_size=6).map(tuple),
    body=st.sets(st.integers(0, 2**32 - 1), max_size=9).map(lambda each: tuple(sorted(each))),
)
one_of_each = st.lists(entries, max_size=25, unique_by=lambda entry: entry[:2])


@given(st.sets(numbers), st.sets(numbers, min_size=1), st.integers(0, 20))
def test_keys_that_stream_past_are_met(stream: set[int], wanted: set[int], at: int) -> None:
    keys, past = (np.array(sorted(some), np.uint64) for some in (wanted, stream))
    shift = np.uint64(max(0, int(keys[-1] - keys[0]).bit_length() - 7))
    bitmap = np.zeros(20, np.uint8)
    mark(keys, keys[0], shift, bitmap)
    out = np.full(len(keys), -1, np.int64)
    past.setflags(write=False)
    meet(past, at, keys, keys[0], shift, bitmap, out)
    assert out.tolist() == [at + sorted(stream).index(key) if key in stream else -1 for key in sorted(wanted)]


@given(st.lists(one_of_each, max_size=4), st.sets(numbers), st.lists(numbers), st.booleans())
def test_an_index_answers_as_dictionaries_do(
    segments: list[list[Entry]], keys: set[int], names: list[int], small: bool
) -> None:
    uri = f"memory://{uuid.uuid4().hex}"
    with pytest.MonkeyPatch.context() as patch:
        if small:  # several ranges, blocks and pieces, as in an index of millions
            patch.setattr(segment, "RANGE_KEYS", 2)
            for module in (segment, index_module):
                patch.setattr(module, "BLOCK", 64)
                patch.setattr(module, "PIECE", 128)
        index = Index.open(saved(uri, segments).uri)
        asked = sorted(keys | {key for some in segments for entry in some[:2] for key in entry.keys[:2]})
        wanted = [*names, *(entry.high for some in segments for entry in some[:3]), *names[:2]]
        who, found = index.known(np.array(asked, np.uint64))
        had = index.entries(np.array(wanted, np.uint64))
    store.remove(uri)
    expected = known([entry for some in segments for entry in some], asked)
    assert [int(n) if f else None for n, f in zip(who, found, strict=True)] == expected
    kept = [named(segments, name) for name in wanted]
    assert had.found.tolist() == [entry is not None for entry in kept]
    assert had.origins.to_pylist() == [entry.origin if entry else None for entry in kept]
    rows = [tuple(had.sets[a:b].tolist()) for a, b in pairwise(had.first)]
    assert rows == [entry.body if entry else () for entry in kept]
    assert had.signatures is None


def test_an_index_of_signatures_gives_signatures(memory: str) -> None:
    draw = np.random.default_rng(0)
    bodies = draw.integers(0, 2**32, (3, 112)).tolist()
    some = [Entry(5 - i, i, f"o{i}", (i,), tuple(body)) for i, body in enumerate(bodies)]
    had = saved(memory, [some[:2], some[2:]], verify="sketch").entries(np.array([5, 9, 3, 4], np.uint64))
    assert had.found.tolist() == [True, False, True, True]
    assert had.signatures is not None
    assert had.signatures.tolist() == [bodies[0], [2**32 - 1] * 112, bodies[2], bodies[1]]


def test_of_many_keys_only_the_range_that_is_asked_for_is_read(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = np.random.default_rng(0).integers(0, 2**64, 60_000, np.uint64)
    index = saved(memory, [[Entry(1, 1, "", tuple(keys.tolist()), (1,))]])
    read = 0
    raw = segment.Reader._raw

    def counted(reader: segment.Reader, start: int, length: int) -> bytes:
        nonlocal read
        read += length
        return raw(reader, start, length)

    monkeypatch.setattr(segment.Reader, "_raw", counted)
    asked = np.sort(keys[keys < 2**59])
    assert index.known(asked)[1].all()
    assert len(asked) > 1000
    assert read < index.segments[0].size / 4


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.8, 0.999])
def test_a_changed_byte_is_noticed(tmp_path: Path, share: float) -> None:
    draw = random.Random(0)
    rows = [Entry(draw.getrandbits(64), 0, f"o{n}", (draw.getrandbits(64),), (n, n + 7)) for n in range(3000)]
    index = saved(str(tmp_path), [rows])
    file = tmp_path / index.segments[0].name
    data = bytearray(file.read_bytes())
    data[int(share * len(data))] ^= 1
    file.write_bytes(data)
    with pytest.raises(AssetError, match=r"0\.segment is damaged"):
        index_contents.check(str(tmp_path))


# --- adding --------------------------------------------------------------------------------------------------------


def test_what_a_run_kept_is_in_its_index(old: tuple[Path, list[str]], tmp_path: Path) -> None:
    out, texts = old
    told = indexing.add(str(tmp_path / "index"), str(out))
    assert told["added"]["documents"] == told["documents"] == 199
    assert len(told["segments"]) > 1
    index = Index.open(str(tmp_path / "index"))
    column = pa.array(texts[:199], pa.large_string())
    keys, alike = index.sketch.keys(column)
    assert alike.all()
    who, found = index.known(np.unique(keys))
    assert found.all()
    had = index.entries(np.unique(who))
    assert had.found.all()
    assert sorted(origin.split(":")[0] for origin in had.origins.to_pylist())[0] == "old/0.jsonl"
    first, sets = index.sketch.sets(column)
    expected = {tuple(sets[a:b].tolist()) for a, b in pairwise(first)}
    assert {tuple(had.sets[a:b].tolist()) for a, b in pairwise(had.first)} == expected


def test_an_index_is_the_same_by_any_number_of_workers(old: tuple[Path, list[str]], tmp_path: Path) -> None:
    out, _ = old
    indexing.add(str(tmp_path / "one"), str(out))
    with pool(2) as workers:
        indexing.add(str(tmp_path / "two"), str(out), map=workers)
    files = {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir() if file.name != ".lock"}
    assert files == {file.name: file.read_bytes() for file in (tmp_path / "two").iterdir() if file.name != ".lock"}


def test_a_shard_that_is_there_is_not_added_again(old: tuple[Path, list[str]], tmp_path: Path) -> None:
    out, _ = old
    uri = tmp_path / "index"
    indexing.add(str(uri), str(out))
    before, listed = frozen(uri), (uri / "index.json").read_bytes()
    again = indexing.add(str(uri), str(out))
    assert again["added"] == {"segments": 0, "documents": 0}
    assert (uri / "index.json").read_bytes() == listed
    more = made(tmp_path, "more", fresh(30))
    grown = indexing.add(str(uri), str(more))
    assert grown["added"]["documents"] == 30
    assert grown["documents"] == 229
    after = frozen(uri)
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before)


KILLED = """
import os, signal, sys
from curate.indexing import add
when, name, count, index, run = sys.argv[1:]
seen, replace, fsync = 0, os.replace, os.fsync
def hit(path):
    global seen
    seen += name in str(path)
    return name in str(path) and seen == int(count)
def counted(source, target):
    if when == "before" and hit(target):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if when == "after" and hit(target):
        os.kill(os.getpid(), signal.SIGKILL)
def torn(descriptor):
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    if when == "during" and os.path.isfile(path) and hit(path):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
os.replace, os.fsync = counted, torn
add(index, run)
"""


@pytest.mark.slow
@pytest.mark.parametrize("grown", [False, True], ids=["new", "grown"])
@pytest.mark.parametrize(
    ("when", "name", "count"),
    [
        ("during", ".segment", 1),
        ("before", ".segment", 1),
        ("after", ".segment", 1),
        ("during", ".segment", 2),
        ("before", "index.json", 1),
        ("during", "index.json", 1),
        ("after", "index.json", 1),
    ],
)
def test_killed_and_added_again(
    old: tuple[Path, list[str]], tmp_path: Path, when: str, name: str, count: int, grown: bool
) -> None:
    out, _ = old
    uri, whole = tmp_path / "index", tmp_path / "whole"
    more = made(tmp_path, "more", fresh(30)) if grown else None
    for folder in (uri, whole):
        if more:
            indexing.add(str(folder), str(more))
    indexing.add(str(whole), str(out))
    before = frozen(uri)
    done = subprocess.run([sys.executable, "-c", KILLED, when, name, str(count), str(uri), str(out)], timeout=120)
    assert done.returncode == -signal.SIGKILL
    if more:
        seen = index_contents.info(str(uri))  # as it was, or as it is to be
        assert seen["documents"] in (30, 229)
    written = frozen(uri)
    told = indexing.add(str(uri), str(out))
    assert told["documents"] == 199 + 30 * grown
    after = frozen(uri)
    assert {one: after[one] for one in written} == written
    assert {one: after[one] for one in before} == before
    assert sorted(file.name for file in uri.iterdir()) == sorted(file.name for file in whole.iterdir())
    assert (uri / "index.json").read_bytes() == (whole / "index.json").read_bytes()


def test_what_a_killed_add_left_is_removed_or_made_again(old: tuple[Path, list[str]], tmp_path: Path) -> None:
    out, _ = old
    uri = tmp_path / "index"
    indexing.add(str(uri), str(out))
    expected = frozen(uri)
    (uri / "index.json").unlink()
    first, second = sorted(uri.glob("*.segment"))[:2]
    first.write_bytes(first.read_bytes()[:-1])
    (uri / "0123456789abcdef.segment").write_bytes(b"of a run that is gone")
    (uri / ".x.segment.00.tmp").write_bytes(b"")
    indexing.add(str(uri), str(out))
    after = frozen(uri)
    assert {name: digest for name, (_, _, digest) in after.items()} == {n: d for n, (_, _, d) in expected.items()}
    assert after[second.name] == expected[second.name]
    assert not list(uri.glob(".*.tmp"))


def test_two_cannot_add_at_once(old: tuple[Path, list[str]], tmp_path: Path) -> None:
    with store.hold(str(tmp_path / "index")), pytest.raises(BusyError, match=f"process {os.getpid()}"):
        indexing.add(str(tmp_path / "index"), str(old[0]))


def test_an_index_has_one_setting_for_life(
    old: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, texts = old
    uri = str(tmp_path / "index")
    indexing.add(uri, str(out))
    before = frozen(tmp_path / "index")
    with pytest.raises(RecipeError, match="verify exact, here sketch"):
        indexing.add(uri, str(out), verify="sketch")
    other = made(tmp_path, "other", texts[:4], more=", per: crawl")
    with pytest.raises(RecipeError, match="per none, here crawl"):
        indexing.add(uri, str(other))
    assert frozen(tmp_path / "index") == before
    index = Index.open(uri)
    assert index.differences(Sketch(20, 5, 3), None) == []
    assert index.differences(Sketch(20, 4, 3, seed=2), "source") == [
        "per none, here source",
        "rows 5, here 4",
        "seed 1, here 2",
    ]
    path = write(tmp_path, "new", texts[:4], more=", seed: 3, against: [index]")
    assert main(["run", str(path), "--out", str(tmp_path / "new-run")]) == 2
    assert "seed 1, here 3" in capsys.readouterr().err


def test_what_cannot_be_added_is_said(old: tuple[Path, list[str]], tmp_path: Path) -> None:
    out, _ = old
    uri = str(tmp_path / "index")
    with pytest.raises(RecipeError, match="is no run folder"):
        indexing.add(uri, str(tmp_path))
    with pytest.raises(RecipeError, match="no step of documents called 'selekt'; did you mean 'select'"):
        indexing.add(uri, str(out), of="selekt")
    with pytest.raises(RecipeError, match="no `near` step called 'nearer'; did you mean 'near'"):
        indexing.add(uri, str(out), near="nearer")
    with pytest.raises(RecipeError, match=r"of another kind, such as .*: an index wants a folder of its own"):
        indexing.add(str(out), str(out))
    assert indexing.add(uri, str(out), of="ingest", near="near")["documents"] == 200


def test_scopes_are_kept_apart(tmp_path: Path) -> None:
    draw = random.Random(3)
    texts = [prose(draw) for _ in range(20)]
    out = made(tmp_path, "old", texts, more=", per: crawl")
    indexing.add(str(tmp_path / "index"), str(out))
    for name, more, expected in (("same", " x", 20), ("other", " xy", 0)):  # the crawl is by the length of the text
        new = made(tmp_path, name, [text + more for text in texts], more=", per: crawl, against: [index]")
        assert len(dropped(new)) == expected


def test_copies_are_one_entry_and_short_texts_none(tmp_path: Path) -> None:
    draw = random.Random(4)
    odd = [text for text in (prose(draw) for _ in range(60)) if len(text) % 2]
    path = write(tmp_path, "old", [])
    (tmp_path / "old.yaml").write_text(path.read_text().replace("ngram: 3", "ngram: 3, per: crawl"))
    rows = [(text, crawl) for text in odd for crawl in ("a", "b")] + [("two words", "a"), ("", "b")]
    lines = [json.dumps({"text": text, "crawl": crawl}) for text, crawl in rows]
    (tmp_path / "old" / "0.jsonl").write_text("\n".join(lines) + "\n")
    run(recipe.load(str(path)), str(tmp_path / "run"))
    told = indexing.add(str(tmp_path / "index"), str(tmp_path / "run"))
    assert told["documents"] == len(rows)
    assert len(odd) <= told["entries"] <= len(odd) * len(told["segments"])
    assert told["keys"] == 2 * 20 * len(odd)
    index = Index.open(str(tmp_path / "index"))
    keys, alike = index.sketch.keys(pa.array(odd))
    assert alike.all()
    for crawl, there in (("a", True), ("b", True), ("c", False)):
        mixed = np.unique(scoped(keys, pa.array([crawl] * len(odd))))
        assert index.known(mixed)[1].all() == there
    assert not index.known(np.unique(keys))[1].any()


# --- what it is for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", ["exact", "sketch"])
def test_documents_are_found_when_their_text_is_gone(tmp_path: Path, verify: str) -> None:
    draw = random.Random(2)
    texts = [prose(draw) for _ in range(60)]
    out = made(tmp_path, "old", texts)
    assert main(["index", "add", str(tmp_path / "index"), str(out), "--verify", verify]) == 0
    shutil.rmtree(out)
    shutil.rmtree(tmp_path / "old")
    copies = [edited(text, draw) for text in texts[:30]] + texts[30:40]
    new = made(tmp_path, "new", copies + fresh(10), more=", against: [index]", how=f", verify: {verify}")
    gone = dropped(new)
    # Of two files with every second text: text i is line i // 2 + 1 of file i % 2.
    place = {f"{i % 2}.jsonl:{i // 2 + 1}": i for i in range(60)}
    assert {place[a.split("/")[-1]]: place[b.split("/")[-1]] for a, b in gone.items()} == {i: i for i in range(40)}
    assert all(origin.startswith("index:old/") for origin in gone.values())


def test_an_index_on_an_object_store(old: tuple[Path, list[str]], memory: str, tmp_path: Path) -> None:
    out, texts = old
    assert indexing.add(memory, str(out))["documents"] == 199
    assert indexing.add(memory, str(out))["added"]["segments"] == 0
    index_contents.check(memory)
    keys, _ = Sketch(20, 5, 3).keys(pa.array(texts[:1]))
    assert Index.open(memory).known(np.sort(keys[0]))[1].all()
    new = made(tmp_path, "new", texts[:10], more=f", against: [{json.dumps(memory)}]")
    assert len(dropped(new)) == 10


def test_no_export_takes_the_place_of_the_index(old: tuple[Path, list[str]], tmp_path: Path) -> None:
    uri = str(tmp_path / "index")
    indexing.add(uri, str(old[0]))
    for name in ("index.json", "more.parquet"):
        with pytest.raises(RecipeError, match="is in the folder of the index"):
            index_contents.export(uri, f"{uri}/{name}")
    assert index_contents.info(uri)["documents"]


def test_the_export_loads_into_datasketch(old: tuple[Path, list[str]], tmp_path: Path) -> None:
    from datasketch import MinHash, MinHashLSH

    out, texts = old
    tables = []
    for verify in ("exact", "sketch"):
        assert main(["index", "add", str(tmp_path / verify), str(out), "--verify", verify]) == 0
        assert main(["index", "export", str(tmp_path / verify), str(tmp_path / f"{verify}.parquet")]) == 0
        tables.append(pq.read_table(tmp_path / f"{verify}.parquet"))
    assert tables[0] == tables[1]
    assert tables[0].num_rows == 199
    lsh = MinHashLSH(num_perm=20 * 5, params=(20, 5))
    for row in tables[0].to_pylist():
        if row["id"] not in lsh:
            lsh.insert(row["id"], MinHash(hashvalues=row["signature"], seed=1, scheme="affine32"))
    draw = random.Random(9)
    queries = pa.array(
        [edited(text, draw) for text in texts[:40]] + [prose(draw) for _ in range(10)], pa.large_string()
    )
    sketch = Sketch(20, 5, 3)
    index = Index.open(str(tmp_path / "exact"))
    hits = 0
    for signature, keys in zip(sketch.signatures(queries), sketch.keys(queries)[0], strict=True):
        theirs = lsh.query(MinHash(hashvalues=signature, seed=1, scheme="affine32"))
        names, found = index.known(np.sort(keys))
        ours = {int(name).to_bytes(8, "big") for name in names[found]}
        assert {one[:8] for one in theirs} == ours
        hits += bool(ours)
    assert hits >= 39


def test_the_command_line_tells_what_an_index_has(
    old: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = old
    uri = str(tmp_path / "index")
    assert main(["index", "add", uri, str(out), "--json"]) == 0
    added = json.loads(capsys.readouterr().out)
    assert main(["index", "info", uri, "--check", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert added == {**told, "added": {"segments": len(told["segments"]), "documents": 199}}
    assert (told["bands"], told["rows"], told["verify"], told["per"]) == (20, 5, "exact", None)
    assert told["curve"]["0.8"] == pytest.approx(1 - (1 - 0.8**5) ** 20)
    assert told["bytes"] == sum(file.stat().st_size for file in (tmp_path / "index").glob("*.segment"))
    assert main(["index", "info", uri]) == 0
    shown = capsys.readouterr().out
    assert "20 bands of 5 rows over 3 words" in shown
    assert "199 documents" in shown
    assert main(["index", "info", str(tmp_path / "none")]) == 5
    assert main(["index"]) == 2


# --- what is no index ----------------------------------------------------------------------------------------------


def test_what_is_no_index_is_said(old: tuple[Path, list[str]], tmp_path: Path) -> None:
    out, _ = old
    with pytest.raises(AssetError, match=r"there is no folder .*none"):
        Index.open(str(tmp_path / "none"))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.txt").write_text("x")
    with pytest.raises(AssetError, match=r"plain has no index\.json"):
        Index.open(str(tmp_path / "plain"))
    uri = tmp_path / "index"
    indexing.add(str(uri), str(out))
    listed = (uri / "index.json").read_text()
    (uri / "index.json").write_text(listed.replace('"documents": 1', '"documents": 2', 1))
    with pytest.raises(AssetError, match=r"index\.json is damaged"):
        Index.open(str(uri))
    (uri / "index.json").write_text('{"format": 2}')
    with pytest.raises(AssetError, match="has format 2, this version reads up to 1"):
        Index.open(str(uri))
    (uri / "index.json").write_text("{")
    with pytest.raises(AssetError, match=r"index\.json is damaged"):
        Index.open(str(uri))
    (uri / "index.json").write_text(listed)
    victim = min(uri.glob("*.segment"))
    data = victim.read_bytes()
    victim.write_bytes(data[:-1])
    with pytest.raises(AssetError, match=f"{victim.name} has .* bytes, .* were written"):
        Index.open(str(uri))
    victim.unlink()
    with pytest.raises(AssetError, match=f"{victim.name} is missing"):
        Index.open(str(uri))
    victim.write_bytes(b"x" + data[1:])
    with pytest.raises(AssetError, match=f"{victim.name} is damaged"):
        Index.open(str(uri)).entries(np.zeros(1, np.uint64))


def test_a_run_that_was_added_may_run_again(old: tuple[Path, list[str]], tmp_path: Path) -> None:
    """What an index has of the very files that a run reads is not held against them: nothing is done again."""
    _, texts = old
    uri = tmp_path / "index"
    indexing.add(str(uri), str(made(tmp_path, "first", texts[:20])))
    more = ", against: [index]"
    new = made(tmp_path, "new", [*texts[10:20], *fresh(10)], more=more)
    before = dropped(new)
    assert len(before) == 10
    indexing.add(str(uri), str(new))
    again = run(recipe.load(str(tmp_path / "new.yaml")), str(new))
    assert again.worked == 0
    assert dropped(new) == before
