"""Known models are fetched whole and right, or not at all, and found where they are. No network is used."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from curate import assets, models
from curate.assets import KNOWN, Known, find, locate
from curate.errors import AssetError, RecipeError

CONTENT = b"a model" * 100
MEMBER = "carrier_of_toys/resources/toy.bin"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A known model `toy` that nothing gives yet; its folder."""
    known = Known(
        file="toy.bin",
        size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        licence="none",
        url=(tmp_path / "web" / "toy.bin").as_uri(),
        requirement="carrier-of-toys==1.0",
        package=MEMBER,
    )
    monkeypatch.setitem(KNOWN, "toy", known)
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    for name in ("web", "index"):
        (tmp_path / name).mkdir()
    return tmp_path


def wheel(folder: Path, content: bytes, member: str = MEMBER) -> None:
    info = "carrier_of_toys-1.0.dist-info"
    with zipfile.ZipFile(folder / "index" / "carrier_of_toys-1.0-py3-none-any.whl", "w") as file:
        file.writestr(member, content)
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: carrier-of-toys\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


def left(folder: Path) -> list[str]:
    return [path.name for path in (folder / "cache").rglob("*") if path.is_file()]


def test_the_publisher_is_asked_first(toy: Path) -> None:
    (toy / "web" / "toy.bin").write_bytes(CONTENT)
    wheel(toy, b"other")
    got = models.get("toy")
    assert got.source == KNOWN["toy"].url
    assert Path(got.path).read_bytes() == CONTENT
    assert left(toy) == ["toy.bin"]
    assert locate("toy") == got.path == find("toy").uri


def test_then_the_package_index(toy: Path) -> None:
    wheel(toy, CONTENT)
    got = models.get("toy")
    assert got.source == "carrier-of-toys==1.0"
    assert Path(got.path).read_bytes() == CONTENT


def test_what_is_there_and_right_is_not_fetched(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (toy / "web" / "toy.bin").write_bytes(CONTENT)
    models.get("toy")
    monkeypatch.setattr(models, "_from_web", None)
    assert models.get("toy").source == "already there"
    assert next(one for one in models.known() if one["name"] == "toy")["path"] == str(toy / "cache/models/toy.bin")


def test_what_is_there_and_wrong_is_fetched_again(toy: Path) -> None:
    (toy / "web" / "toy.bin").write_bytes(CONTENT)
    Path(models.get("toy").path).write_bytes(CONTENT[:-1])
    assert models.get("toy").source == KNOWN["toy"].url
    assert Path(locate("toy")).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b"<html>sign in</html>", b""])
def test_another_file_is_refused_and_not_kept(toy: Path, content: bytes) -> None:
    (toy / "web" / "toy.bin").write_bytes(content)
    with pytest.raises(AssetError) as caught:
        models.get("toy")
    assert KNOWN["toy"].sha256 in str(caught.value)
    # No more is read than one byte over what is wanted.
    assert hashlib.sha256(content[: len(CONTENT) + 1]).hexdigest() in str(caught.value)
    assert left(toy) == []


def test_another_file_in_the_package_is_refused(toy: Path) -> None:
    wheel(toy, b"other")
    with pytest.raises(AssetError, match="nothing is kept"):
        models.get("toy")
    assert left(toy) == []


def test_sources_that_give_nothing_are_named(toy: Path) -> None:
    for member in (None, "carrier_of_toys/elsewhere.bin"):
        if member:
            wheel(toy, CONTENT, member)
        with pytest.raises(AssetError) as caught:
            models.get("toy")
        said = str(caught.value)
        assert KNOWN["toy"].url in said
        assert "carrier-of-toys==1.0" in said
        assert str(toy / "cache" / "models" / "toy.bin") in said
    assert left(toy) == []


def test_a_package_that_carries_it_is_looked_up_without_importing(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = toy / "site" / MEMBER
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    (toy / "site" / "carrier_of_toys" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(toy / "site"))
    assert locate("toy") == str(place)
    assert models.get("toy") == (str(place), "an installed package")
    assert left(toy) == []


def test_a_file_of_that_name_goes_first(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy)
    (toy / "toy").write_bytes(b"mine")
    assert find("toy").read() == b"mine"


def test_unknown_names_and_missing_models(toy: Path) -> None:
    with pytest.raises(RecipeError, match=r"did you mean 'lid\.176'"):
        models.get("lid.167")
    with pytest.raises(AssetError, match="run `curate get-model toy`"):
        find("toy")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.delenv("CURATE_CACHE", raising=False)
    assert assets.fetched("lid.176") == "/somewhere/curate/models/lid.176.ftz"
    monkeypatch.setenv("CURATE_CACHE", "/else")
    assert assets.fetched("lid.176") == "/else/models/lid.176.ftz"
