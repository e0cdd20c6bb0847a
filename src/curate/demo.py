"""A corpus to try the project on, gathered from the text that any Python installation carries.

Four sources: `docs` (the interpreter's help topics, and docstrings), `readme` (what installed packages say
of themselves), `license` (their licence texts: many true near duplicates) and `code` (Python sources).
Nothing is imported: docstrings come from syntax trees, since importing strangers' modules runs them.
Documents that any filter ought to drop are left in on purpose.

The catch: the corpus depends on what is installed. On one machine it is the same bytes each time, on another
it is not.
"""

import ast
import hashlib
import importlib.metadata
import os
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from curate import store
from curate.errors import RecipeError

# Shares of the wanted bytes. Licences and readmes run out long before theirs on a small installation.
SHARES = {"docs": 0.35, "readme": 0.075, "license": 0.075, "code": 0.5}
LARGEST = 256 * 1024  # bytes of one raw file: above it, Python files are mostly generated tables
FILE_BYTES = 5_000_000  # of text in one written file, about: compresses to a little more than 1 MiB
VOCABULARY = 16_384
SPECIAL_TOKENS = ("<|endoftext|>", "<|pad|>")
SAMPLE_BYTES = 4_000_000  # of text the tokenizer is trained on
LEGAL_NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE")


class Document(NamedTuple):
    """One raw record. `id` is relative (`stdlib/json/decoder.py`) and never names a place on the machine."""

    id: str
    text: str
    source: str
    url: str | None
    package: str
    license: str | None


class Origin(NamedTuple):
    """An installed text file, before it is read."""

    id: str
    path: str
    package: str
    license: str | None


def write_corpus(folder: str, *, megabytes: int = 40) -> dict[str, dict[str, int]]:
    """Write the corpus and a tokenizer trained on it below `folder`; documents, bytes and files by source.

    `megabytes` caps the text in all (10^6 bytes of UTF-8); sources that run out make it less, and each may
    exceed its share by one document. `tokenizer.json` is written last: where it is, the corpus is complete.
    Raises `RecipeError` if `folder` already holds something, or if `megabytes` is not positive.
    """
    if megabytes < 1:
        raise RecipeError(f"a corpus of {megabytes} MB was asked for; at least 1 is needed")
    if store.listing(folder):
        raise RecipeError(f"{folder} is not empty; name a new folder, or remove it first")
    origins, readmes = _installed()
    legal = [origin for origin in origins if _is_legal(origin.path)]
    # Ordered by a hash of the name, so that a cap takes a fair sample of all packages and not the first
    # letters of the alphabet. Docstrings are taken from the other end: code and docs share few files.
    python = sorted((o for o in origins if o.path.endswith(".py")), key=lambda o: _digest(o.id))
    candidates: dict[str, Iterable[Document]] = {
        "docs": _docs(python[::-1]),
        "readme": readmes,
        "license": _whole(legal, source="license"),
        "code": _whole(python, source="code"),
    }
    report, corpus = {}, []
    for source, documents in candidates.items():
        chosen = _capped(documents, limit=int(SHARES[source] * megabytes * 1_000_000))
        corpus += chosen
        report[source] = {
            "documents": len(chosen),
            "bytes": sum(_size(document) for document in chosen),
            "files": _write(folder, source, chosen),
        }
    store.put(store.join(folder, "tokenizer.json"), train_tokenizer(corpus).encode())
    return report


def train_tokenizer(documents: list[Document]) -> str:
    """JSON of a byte-level BPE tokenizer of 16,384 entries, trained on some 4 MB spread over `documents`.

    Equal documents in equal order give equal JSON. A text of too few distinct pairs gives fewer entries.
    """
    step = max(1, sum(map(_size, documents)) // SAMPLE_BYTES)
    return byte_level((document.text for document in documents[::step]), vocabulary=VOCABULARY)


def byte_level(texts: Iterable[str], *, vocabulary: int) -> str:
    """JSON of a byte-level BPE tokenizer trained on all of these texts, with the marks of an end and of padding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return str(tokenizer.to_str(pretty=True))


def docstring_documents(origin: Origin, code: str) -> Iterator[Document]:
    """One document for the module's own docstring, one per top-level function, one per class with methods."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in strangers' sources
        try:
            tree = ast.parse(code)
        except (SyntaxError, ValueError, RecursionError):  # templates, null bytes, sources for other versions
            return
    for node in [tree, *tree.body]:
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        parts = [text] if (text := ast.get_docstring(node)) else []
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                    text = ast.get_docstring(method)
                    parts += [f"{method.name}\n{text}"] if text else []
        if parts:
            name = origin.id if isinstance(node, ast.Module) else f"{origin.id}#{node.name}:{node.lineno}"
            yield Document(name, "\n\n".join(parts), "docs", None, origin.package, origin.license)


def _installed() -> tuple[list[Origin], list[Document]]:
    """Text files of the standard library and of installed packages, and the packages' own descriptions."""
    origins = list(_standard_library())
    readmes: list[Document] = []
    folders = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions(path=folders):
        about = distribution.metadata
        package = about["Name"]
        if package in seen:
            continue
        seen.add(package)
        terms = _one_line(_field(about, "License-Expression") or _field(about, "License"))
        for file in distribution.files or []:
            # Scripts and shared data lie outside; what an editable install leaves behind holds machine paths.
            name = file.as_posix()
            if name.startswith(("..", "/", "__editable__")):
                continue
            path = str(distribution.locate_file(file))
            if _is_readme(name):
                readmes += _whole([Origin(f"packages/{name}", path, package, terms)], source="readme")
            elif name.endswith(".py") or _is_legal(name):
                origins.append(Origin(f"packages/{name}", path, package, terms))
        if description := _field(about, "Description"):
            name = f"packages/{package}/description"
            readmes.append(Document(name, description, "readme", _field(about, "Home-page"), package, terms))
    return sorted(origins), sorted(readmes, key=lambda document: document.id)


def _standard_library() -> Iterator[Origin]:
    root = sysconfig.get_path("stdlib")
    # Some installations ship no tests, and site-packages is read through its metadata instead.
    left_out = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}
    for folder, below, files in os.walk(root):
        below[:] = sorted(set(below) - left_out)
        for file in files:
            path = os.path.join(folder, file)
            # _sysconfigdata_*.py is a dump of this machine's build settings.
            if (file.endswith(".py") and not file.startswith("_sysconfigdata")) or _is_legal(path):
                name = os.path.relpath(path, root).replace(os.sep, "/")
                yield Origin(f"stdlib/{name}", path, "python", "PSF-2.0")


def _docs(origins: list[Origin]) -> Iterator[Document]:
    from pydoc_data.topics import topics

    for topic, text in sorted(topics.items()):
        yield Document(f"topics/{topic}", text, "docs", None, "python", "PSF-2.0")
    for origin in origins:
        if (code := _read(origin)) is not None:
            yield from docstring_documents(origin, code)


def _whole(origins: Iterable[Origin], *, source: str) -> Iterator[Document]:
    for origin in origins:
        if (text := _read(origin)) is not None:
            yield Document(origin.id, text, source, None, origin.package, origin.license)


def _read(origin: Origin) -> str | None:
    """Text of a file; None if it is gone, too large or not UTF-8."""
    if not store.exists(origin.path) or store.size(origin.path) > LARGEST:
        return None
    try:
        return store.read(origin.path).decode()
    except UnicodeDecodeError:
        return None


def _capped(documents: Iterable[Document], *, limit: int) -> list[Document]:
    """Documents up to the one that reaches `limit` bytes, by id. Those that UTF-8 cannot hold are skipped."""
    total, chosen = 0, []
    for document in documents:
        try:
            total += _size(document)
        except UnicodeEncodeError:  # a docstring may spell out half a surrogate pair
            continue
        chosen.append(document)
        if total >= limit:
            break
    return sorted(chosen, key=lambda document: document.id)


def _write(folder: str, source: str, documents: list[Document]) -> int:
    """Write the documents in files of about `FILE_BYTES` of text; how many files that made."""
    write = {"docs": _jsonl, "readme": _jsonl, "license": _parquet, "code": _parquet}[source]
    ending = "jsonl.zst" if write is _jsonl else "parquet"
    sizes = [_size(document) for document in documents]
    total = max(1, sum(sizes))
    count = max(1, round(total / FILE_BYTES))
    groups: list[list[Document]] = [[] for _ in range(count)]
    before = 0
    for document, size in zip(documents, sizes, strict=True):
        groups[before * count // total].append(document)
        before += size
    for number, group in enumerate(groups):
        store.put(store.join(folder, f"{source}-{number:02d}.{ending}"), write(group))
    return len(groups)


def _jsonl(documents: list[Document]) -> bytes:
    import orjson
    import zstandard

    lines = b"".join(orjson.dumps(document._asdict()) + b"\n" for document in documents)
    return zstandard.ZstdCompressor(level=3).compress(lines)


def _parquet(documents: list[Document]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(zip(*documents, strict=True)) or [()] * len(Document._fields)
    arrays = [pa.array(column, pa.string()) for column in columns]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, names=list(Document._fields)), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _size(document: Document) -> int:
    return len(document.text.encode())


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _is_legal(path: str) -> bool:
    name = path.rsplit("/", 1)[-1].upper()
    return name.startswith(LEGAL_NAMES) and not name.endswith((".PY", ".PYC", ".JSON"))


def _is_readme(path: str) -> bool:
    name = path.rsplit("/", 1)[-1].upper()
    return name.startswith("README") and not name.endswith((".PY", ".PYC"))


def _field(about: importlib.metadata.PackageMetadata, name: str) -> str | None:
    return about[name] if name in about else None  # noqa: SIM401  (PackageMetadata has no get)


def _one_line(terms: str | None) -> str | None:
    """A licence field as metadata gives it; some packages put the whole text there, which is no name."""
    return terms if terms and "\n" not in terms and len(terms) <= 80 else None
