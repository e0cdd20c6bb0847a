"""A run that is killed and run again gives the bytes of a run that was not."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from corpus import digests, write_corpus, write_recipe

from curate import recipe, store
from curate.manifest import Manifest, save_receipt
from curate.run import run
from curate.verify import verify

KILLER = Path(__file__).with_name("killed_run.py")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], int]:
    """A recipe over a small corpus, what an undisturbed run of it gives, and how many files appear on the way."""
    folder = tmp_path_factory.mktemp("resume")
    write_corpus(folder)
    path = write_recipe(folder)
    run(recipe.load(str(path)), str(folder / "whole"))
    files = sum(1 for file in (folder / "whole").rglob("*") if file.is_file())
    return path, digests(folder / "whole"), files


def killed(path: Path, out: Path, when: str) -> None:
    done = subprocess.run([sys.executable, str(KILLER), str(path), str(out), when], capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, (when, done.stderr.decode()[-2000:])


@pytest.mark.slow
@pytest.mark.parametrize("point", range(20))
def test_killed_after_a_file_and_run_again(whole: tuple[Path, dict[str, str], int], tmp_path: Path, point: int) -> None:
    path, expected, files = whole
    killed(path, tmp_path / "run", f"after:{1 + point * (files - 1) // 20}")
    run(recipe.load(str(path)), str(tmp_path / "run"))
    assert digests(tmp_path / "run") == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "when",
    [
        "before:manifest.json",
        "before:manifest.json:4",
        "during:manifest.json:3",
        "before:verdict/",
        "before:verdict/:2",
        "during:verdict/",
        "before:done.json",
        "before:tokens.json",
        "during:tokens.json",
        "before:ledger.parquet:2",
        "during:.bin",
        "before:.idx",
        "before:run.json",
        "before:raw.json",
        "before:units/:7",
        "during:.parquet:3",
    ],
)
def test_killed_in_a_delicate_place_and_run_again(
    whole: tuple[Path, dict[str, str], int], tmp_path: Path, when: str
) -> None:
    path, expected, _ = whole
    killed(path, tmp_path / "run", when)
    run(recipe.load(str(path)), str(tmp_path / "run"))
    assert digests(tmp_path / "run") == expected


@pytest.mark.slow
def test_killed_again_and_again(whole: tuple[Path, dict[str, str], int], tmp_path: Path) -> None:
    path, expected, _ = whole
    for _ in range(4):
        killed(path, tmp_path / "run", "after:9")
    run(recipe.load(str(path)), str(tmp_path / "run"))
    assert digests(tmp_path / "run") == expected


def test_nothing_temporary_is_left(whole: tuple[Path, dict[str, str], int], tmp_path: Path) -> None:
    path, _, _ = whole
    killed(path, tmp_path / "run", "during:.parquet:2")
    assert list((tmp_path / "run").rglob(".*.tmp"))
    run(recipe.load(str(path)), str(tmp_path / "run"))
    assert not list((tmp_path / "run").rglob(".*.tmp"))


def test_a_second_run_does_nothing(whole: tuple[Path, dict[str, str], int], tmp_path: Path) -> None:
    path, expected, _ = whole
    first = run(recipe.load(str(path)), str(tmp_path / "run"))
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*.parquet")}
    second = run(recipe.load(str(path)), str(tmp_path / "run"))
    assert first.worked > 0
    assert second.worked == 0
    assert times == {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*.parquet")}
    assert digests(tmp_path / "run") == expected


@pytest.mark.parametrize("damage", ["cut", "gone", "flipped"])
def test_damage_is_noticed_and_mended(whole: tuple[Path, dict[str, str], int], tmp_path: Path, damage: str) -> None:
    path, expected, _ = whole
    out = tmp_path / "run"
    run(recipe.load(str(path)), str(out))
    steps = json.loads((out / "run.json").read_text())["steps"]
    names = {step["name"]: step["folder"] for step in steps}
    victims = [
        out / names["ingest"] / "00000.parquet",
        out / names["heuristics"] / "00000.parquet",
        next((out / names["pack"]).rglob("*.bin")),
    ]
    for victim in victims:
        data = victim.read_bytes()
        victim.unlink()
        if damage == "cut":
            victim.write_bytes(data[: len(data) // 2])
        elif damage == "flipped":
            victim.write_bytes(data[:100] + bytes([data[100] ^ 255]) + data[101:])
    if damage == "flipped":
        found = verify(str(out))
        assert sorted(one["file"] for one in found["damaged"]) == sorted(str(victim) for victim in victims)
    run(recipe.load(str(path)), str(out))
    assert digests(out) == expected
    assert verify(str(out))["damaged"] == []


def test_damage_is_mended_where_receipts_outlived_their_manifest(
    whole: tuple[Path, dict[str, str], int], tmp_path: Path
) -> None:
    """As when a process is killed between the manifest and the end of the receipts that it takes in."""
    path, expected, _ = whole
    out = tmp_path / "run"
    run(recipe.load(str(path)), str(out))
    for file in out.rglob("manifest.json"):
        manifest = Manifest.load(str(file.parent))
        assert manifest is not None
        for receipt in manifest.units:
            save_receipt(str(file.parent), receipt)
    victim = next(out.glob("exact-*/evidence/*.cut"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    assert [Path(one["file"]).name for one in verify(str(out))["damaged"]] == [victim.name]
    run(recipe.load(str(path)), str(out))
    assert digests(out) == expected


def test_a_folder_in_use_is_refused_by_name(whole: tuple[Path, dict[str, str], int], tmp_path: Path) -> None:
    from curate.errors import BusyError

    path, _, _ = whole
    with store.hold(str(tmp_path / "run")), pytest.raises(BusyError, match="process"):
        run(recipe.load(str(path)), str(tmp_path / "run"))
