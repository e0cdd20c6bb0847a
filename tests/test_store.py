"""The store: a file is there whole or not at all, whatever kills the writer, on disks and on object stores."""

import os
import resource
import subprocess
import sys
import textwrap
import uuid
from types import SimpleNamespace

import pytest

from curate import store
from curate.errors import BusyError, StoreError


@pytest.fixture(params=["local", "file", "memory"])
def folder(request, tmp_path):
    if request.param == "memory":
        root = f"memory://{uuid.uuid4().hex}"
        yield root
        store.remove(root)
    else:
        yield f"file://{tmp_path}" if request.param == "file" else str(tmp_path)


def everything(folder):
    """All names below a local folder, hidden ones too."""
    return sorted(os.path.relpath(os.path.join(base, n), folder) for base, _, names in os.walk(folder) for n in names)


def python(code, *arguments):
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True)


def test_what_is_put_is_read(folder):
    uri = store.join(folder, "a", "b.bin")
    assert not store.exists(uri)
    store.put(uri, b"0123456789")
    assert store.exists(uri)
    assert store.size(uri) == 10
    assert store.read(uri) == b"0123456789"
    assert store.read(uri, start=3) == b"3456789"
    assert store.read(uri, start=3, length=2) == b"34"
    assert store.read(uri, start=8, length=9) == b"89"
    assert store.listing(folder) == {"a": 0}
    assert store.listing(store.join(folder, "a")) == {"b.bin": 10}
    store.put(uri, memoryview(b"new"))
    assert store.read(uri) == b"new"
    store.put(uri, b"")
    assert (store.read(uri), store.size(uri)) == (b"", 0)


def test_a_write_that_fails_leaves_what_was_there(folder):
    uri = store.join(folder, "kept")
    store.put(uri, b"before")

    def fail(name):
        with store.writing(store.join(folder, name)) as file:
            file.write(b"half of it")
            raise ZeroDivisionError

    for name in ("kept", "new"):
        with pytest.raises(ZeroDivisionError):
            fail(name)
    assert store.read(uri) == b"before"
    assert store.listing(folder) == {"kept": 6}


def test_nothing_is_visible_before_the_end(folder):
    uri = store.join(folder, "a")
    with store.writing(uri) as file:
        file.write(b"1" * 100_000)
        file.flush()
        assert not store.exists(uri)
    assert store.size(uri) == 100_000


def test_a_missing_file_is_named(folder):
    uri = store.join(folder, "none")
    for call in (store.read, store.open_input, store.size):
        with pytest.raises(StoreError, match=r"cannot read .*none"):
            call(uri)
    assert store.listing(uri) == {}
    store.remove(uri)


def test_a_scheme_nobody_knows_is_named():
    with pytest.raises(StoreError, match="cannot open nowhere://a/b"):
        store.read("nowhere://a/b")


def test_a_writer_that_is_killed_leaves_nothing_visible(tmp_path):
    done = python(
        """
        import os, signal, sys
        from curate import store
        store.put(sys.argv[1] + "/whole", b"whole")
        with store.writing(sys.argv[1] + "/half") as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        str(tmp_path),
    )
    assert done.returncode == -9
    assert not (tmp_path / "half").exists()
    assert len(everything(tmp_path)) == 2, "the temporary file of the killed writer is there"
    assert [entry.name for entry in store.glob(str(tmp_path), "**")] == ["whole"]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".x.0123456789ab.tmp").write_bytes(b"")
    (tmp_path / "notes.tmp").write_bytes(b"")
    (tmp_path / ".lock").write_bytes(b"")
    store.clear_leftovers(str(tmp_path))
    assert everything(tmp_path) == [".lock", "notes.tmp", "whole"]
    store.clear_leftovers(str(tmp_path / "missing"))


def test_a_full_disk_is_said_and_leaves_no_file(tmp_path):
    # A limit on file size fails the write as a full disk does, without one.
    done = python(
        """
        import resource, sys
        from curate import store
        from curate.errors import StoreError
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        store.put(sys.argv[1] + "/fits", b"1" * 1000)
        try:
            store.put(sys.argv[1] + "/large", b"1" * 1001)
        except StoreError as error:
            print(error)
        """,
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert "cannot write" in done.stdout
    assert "File too large" in done.stdout
    assert everything(tmp_path) == ["fits"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_a_second_holder_is_refused_by_name(tmp_path):
    code = """
        import sys
        from curate import store
        from curate.errors import BusyError
        try:
            with store.hold(sys.argv[1]):
                print("held")
        except BusyError as error:
            print(error)
        """
    with store.hold(str(tmp_path / "run")):
        said = python(code, str(tmp_path / "run")).stdout
        assert f"in use by process {os.getpid()} on " in said
        with pytest.raises(BusyError, match=f"process {os.getpid()} "), store.hold(str(tmp_path / "run")):
            pass
        with store.hold(str(tmp_path / "other")):
            pass
    assert python(code, str(tmp_path / "run")).stdout == "held\n"


def test_a_holder_that_is_killed_holds_nothing(tmp_path):
    done = python(
        """
        import os, signal, sys
        from curate import store
        with store.hold(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        str(tmp_path),
    )
    assert done.returncode == -9
    with store.hold(str(tmp_path)):
        pass


def test_adopted_files_are_the_same(folder):
    source, target = store.join(folder, "old", "a"), store.join(folder, "new", "deep", "b")
    store.put(source, b"same")
    store.adopt(source, target)
    store.adopt(source, target)
    assert store.read(target) == store.read(source) == b"same"
    assert list(store.listing(store.join(folder, "new", "deep"))) == ["b"]
    store.put(source, b"changed")
    assert store.read(target) == b"same", "a file is replaced, never written into"
    store.remove(store.join(folder, "old"))
    assert store.read(target) == b"same"
    assert not store.exists(source)


def test_adopting_what_is_missing_is_said(tmp_path):
    with pytest.raises(StoreError, match=r"cannot read .*none"):
        store.adopt(str(tmp_path / "none"), str(tmp_path / "a"))
    assert everything(tmp_path) == []


def test_glob_finds_by_pattern_in_order(folder):
    for name in ("raw/b.jsonl", "raw/a.jsonl", "raw/deep/er/c.jsonl", "raw/.hidden.jsonl", "raw/.d/e.jsonl", "x.txt"):
        store.put(store.join(folder, name), name.encode())

    def names(pattern):
        return [entry.name for entry in store.glob(folder, pattern)]

    assert names("raw/*.jsonl") == ["raw/a.jsonl", "raw/b.jsonl"]
    assert names("**/*.jsonl") == ["raw/a.jsonl", "raw/b.jsonl", "raw/deep/er/c.jsonl"]
    assert names("raw/.d/*") == ["raw/.d/e.jsonl"]
    assert names("x.txt") == ["x.txt"]
    assert names("*") == ["x.txt"], "folders are no files"
    assert names("none/**") == []
    assert [entry.size for entry in store.glob(folder, "raw/?.jsonl")] == [11, 11]


def test_the_token_of_a_file_changes_with_it(folder):
    uri = store.join(folder, "a")
    store.put(uri, b"1")
    before = store.glob(folder, "a")
    assert store.glob(folder, "a") == before
    store.put(uri, b"2")
    assert store.glob(folder, "a") != before


@pytest.mark.parametrize("odd", ["a [1]", "what?", "st*r", "ünï"])
def test_the_name_of_the_folder_is_no_pattern(tmp_path, odd):
    root = str(tmp_path / odd)
    store.put(store.join(root, "raw", "deep", "a.jsonl"), b"1")
    store.put(str(tmp_path / "a 1" / "raw" / "no.jsonl"), b"1")
    assert [entry.name for entry in store.glob(root, "raw/**/*.jsonl")] == ["raw/deep/a.jsonl"]


def test_a_link_is_listed_as_what_it_points_to(tmp_path):
    (tmp_path / "there").write_bytes(b"12345")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "link").symlink_to(tmp_path / "there")
    assert [(e.name, e.size) for e in store.glob(str(tmp_path), "raw/*")] == [("raw/link", 5)]
    (tmp_path / "raw" / "broken").symlink_to(tmp_path / "gone")
    assert store.listing(str(tmp_path / "raw")) == {"link": 5}
    with pytest.raises(StoreError, match=r"broken: it links to .*gone"):
        store.glob(str(tmp_path), "raw/*")


def test_names_of_locations():
    assert store.join("/", "a", "b") == "/a/b"
    assert store.join("/a/", "b") == "/a/b"
    assert store.join("s3://bucket", "b") == "s3://bucket/b"
    assert store.basename("s3://bucket/a/") == "a"
    assert [store.parent(uri) for uri in ("s3://bucket/a", "/a/b/", "a")] == ["s3://bucket", "/a", "."]
    assert store.absolute("file:///a/../b") == "/b"
    assert store.absolute("s3://bucket/a/") == "s3://bucket/a"
    assert store.absolute("here") == os.path.join(os.getcwd(), "here")


def test_free_space_is_known_for_folders_yet_to_be(tmp_path, monkeypatch):
    asked = []

    def usage(path):  # the disk itself changes between two looks, as others write to it
        asked.append(path)
        return SimpleNamespace(free=12345)

    monkeypatch.setattr(store.shutil, "disk_usage", usage)
    assert store.free_space(str(tmp_path / "not" / "yet")) == store.free_space(str(tmp_path)) == 12345
    assert asked == [str(tmp_path)] * 2
    assert store.free_space("memory://run") is None
