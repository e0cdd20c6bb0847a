"""Edited copies of a text, of a strength that is known: what a measurement of near-duplicate removal is made with.

Each edit is one that real copies show: words changed by hand or by an extractor, paragraphs moved, another page's head
and foot, an end cut off. All is drawn from a key by the project's one hash, so that a key gives the same copy on every
machine. Words are found by a slow, plain reading of the rule that `sketch` documents, on purpose another one than the
kernel's: the same functions check what the kernel says.
"""

import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.arrow import binary, utf8
from curate.draw import again, draws
from curate.kernels.hash import mix, xxh3_128
from curate.kernels.shingles import WITHOUT_SPACES

Int64s = NDArray[np.int64]

SHARES = {"words_2": 0.02, "words_5": 0.05, "words_10": 0.1, "words_20": 0.2}
"""Edits that change this share of the words."""
CUTS = {"cut_to_80": 0.8, "cut_to_50": 0.5}
"""Edits that keep this share of the words, from the start."""
EDITS = (*SHARES, "paragraphs_shuffled", "boilerplate_swapped", *CUTS)
"""All edits by name."""

_FAR = re.compile("[\U00010000-\U0010ffff]")
_PER_DOCUMENT = 32  # words that a document gives to those put in
_REPLACED, _DELETED = 60, 80  # of 100 changed words: below the first replaced, below the second deleted, else inserted


@dataclass(frozen=True)
class Injected:
    """A sample and its copies in a keyed order: of each row the document it is or comes from (`family`), and the number
    of the edit that made it (`edit`; -1: none)."""

    table: pa.Table
    family: Int64s
    edit: Int64s

    @property
    def original(self) -> Int64s:
        """The row of each document."""
        rows = np.flatnonzero(self.edit < 0)
        place = np.empty(len(rows), np.int64)
        place[self.family[rows]] = rows
        return place


@dataclass(frozen=True)
class Material:
    """What an edit may take from other documents: words for it to put in, and the text of one for head and foot."""

    words: Sequence[str]
    other: str


def edited(text: str, edit: str, key: int, *, material: Material) -> str | None:
    """The copy that the edit named `edit` makes of a text; None where it would change nothing (a text of one paragraph
    has none to shuffle). `key` (uint64) draws all that is drawn; another edit of one key draws anew.

    words_N: N percent of the words change, at least one: six of ten are replaced by another word, two deleted, two get
    a word before them. paragraphs_shuffled: another order of the paragraphs, or lines where there are fewer than three
    paragraphs. boilerplate_swapped: the first and the last of them are those of the other document. cut_to_N: the first
    N percent of the words.
    """
    seed = _seed(key, EDITS.index(edit))
    if edit in SHARES:
        made = _changed(text, SHARES[edit], seed, material.words)
    elif edit in CUTS:
        made = _cut(text, CUTS[edit])
    elif edit == "paragraphs_shuffled":
        made = _shuffled(text, seed)
    else:
        made = _swapped(text, material.other)
    return made if made is not None and made != text else None


def inject(sample: pa.Table, seed: int) -> Injected:
    """The sample and its edited copies, in an order that tells nothing of which is which."""
    keys = draws(sample, seed)
    texts = sample["text"].to_pylist()
    pool = [word for text, key in zip(texts, keys.tolist(), strict=True) for word in _some(text, key)]
    made: list[tuple[str, int, int]] = []
    for family, (text, key) in enumerate(zip(texts, keys.tolist(), strict=True)):
        material = Material(pool, texts[family - 1])
        for number, edit in enumerate(EDITS):
            copy = edited(text, edit, key, material=material)
            if copy is not None:
                made.append((copy, family, number))
    copied = pa.array([family for _, family, _ in made], pa.int64())
    column = pa.array([text for text, _, _ in made], pa.large_string())
    ids = np.empty((len(made), 16), np.uint8)
    xxh3_128(*utf8(column), ids)
    copies = sample.take(copied)
    given = {"text": column, "id": binary(ids), "text_id": binary(ids), "bytes": pa.array(np.diff(utf8(column)[0]))}
    origins = zip(copies["origin"].to_pylist(), made, strict=True)
    given["origin"] = pa.array([f"{origin} ({EDITS[number]})" for origin, (_, _, number) in origins], pa.string())
    for name, values in given.items():
        if name in copies.column_names:
            index = copies.column_names.index(name)
            copies = copies.set_column(index, name, values.cast(copies.schema.field(index).type))
    table = pa.concat_tables([sample, copies]).unify_dictionaries().combine_chunks()
    place = np.argsort(draws(table, _seed(seed, len(EDITS))), kind="stable")
    families = np.concatenate([np.arange(sample.num_rows), copied.to_numpy()])
    numbered = np.concatenate([np.full(sample.num_rows, -1), np.array([number for _, _, number in made], np.int64)])
    return Injected(table.take(pa.array(place)).combine_chunks(), families[place], numbered[place])


def _some(text: str, key: int) -> list[str]:
    """Some words of a text, by a key."""
    found = spans(text)
    return [text[slice(*found[int(draw) % len(found)])] for draw in numbers(key, _PER_DOCUMENT)]


def words(text: str) -> list[str]:
    """The words of a text, folded: the rule of `sketch`, read slowly."""
    folded = text.lower() if text.isascii() else text.translate(_fold())  # a letter's lower case is a letter
    return _words_of(text).findall(folded)


@lru_cache(maxsize=1)
def spans(text: str) -> list[tuple[int, int]]:
    """Where each word is: first character and the one behind the last. One text is edited many times: it is kept."""
    return [match.span() for match in _words_of(text).finditer(text)]


def numbers(seed: int, count: int) -> np.ndarray:
    """So many uint64, from a seed alone."""
    return again(np.arange(count, dtype=np.uint64), seed)


def _words_of(text: str) -> re.Pattern[str]:
    # A class that ends at U+FFFF is a table to `re`, one that goes on a list: five times as slow.
    return _pattern(sys.maxunicode if _FAR.search(text) else 0xFFFF)


def _seed(key: int, use: int) -> int:
    return int(mix(np.uint64(key), np.uint64(use)))


@cache
def _pattern(last: int) -> re.Pattern[str]:
    """What a word is, of the code points up to `last`."""
    runs: dict[bool, list[str]] = {False: [], True: []}
    before, start = None, 0
    for code in range(last + 2):
        kind = _kind(chr(code)) if code <= last else None
        if kind != before:
            if before is not None:
                runs[before].append(f"\\U{start:08x}-\\U{code - 1:08x}")
            before, start = kind, code
    return re.compile(f"[{''.join(runs[False])}]+|[{''.join(runs[True])}]")


@cache
def _fold() -> dict[int, str]:
    """The lower case of each code point that has one; U+0130 alone has two, of which the first is its simple one."""
    return {code: lower[0] for code in range(sys.maxunicode + 1) if (lower := chr(code).lower()) != chr(code)}


def _kind(character: str) -> bool | None:
    """True: a word of its own; False: part of a word; None: parts words."""
    if unicodedata.category(character)[0] not in "LMN":
        return None
    return any(first <= ord(character) <= last for first, last in _without_spaces())


@cache
def _without_spaces() -> tuple[tuple[int, int], ...]:
    """Blocks of scripts written without spaces."""
    blocks = (block.partition("-") for block in WITHOUT_SPACES.split())
    return tuple((int(first, 16), int(last, 16)) for first, _, last in blocks)


def _changed(text: str, share: float, seed: int, pool: Sequence[str]) -> str | None:
    found = spans(text)
    if not found or not pool:
        return None
    count = max(1, round(share * len(found)))
    order, what, which = (numbers(_seed(seed, use), len(found)) for use in range(3))
    pieces, done = [], 0
    for place in np.sort(np.argsort(order, kind="stable")[:count]).tolist():
        start, stop = found[place]
        chance, choice = int(what[place]) % 100, int(which[place])
        word = pool[choice % len(pool)]
        if chance < _REPLACED:
            old = text[start:stop]
            word = next((w for i in range(len(pool)) if (w := pool[(choice + i) % len(pool)]) != old.lower()), word)
            # Words that touch, as ideographs do, must not become one.
            new = f"{' ' * _touches(found, place, -1)}{word}{' ' * _touches(found, place, 1)}"
        elif chance < _DELETED:
            new = " " * (_touches(found, place, -1) and _touches(found, place, 1))
        else:
            new = f"{' ' * _touches(found, place, -1)}{word} {text[start:stop]}"
        pieces += [text[done:start], new]
        done = stop
    return "".join([*pieces, text[done:]])


def _touches(found: list[tuple[int, int]], place: int, side: int) -> bool:
    """True if the word before (-1) or behind (1) begins or ends where this one does."""
    if side < 0:
        return place > 0 and found[place - 1][1] == found[place][0]
    return place + 1 < len(found) and found[place + 1][0] == found[place][1]


def _cut(text: str, share: float) -> str | None:
    found = spans(text)
    count = round(share * len(found))
    return text[: found[count - 1][1]] if 0 < count < len(found) else None


def _blocks(text: str) -> tuple[list[str], str]:
    """Paragraphs, or lines where there are fewer than three of them, and what stands between."""
    paragraphs = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
    if len(paragraphs) >= 3:
        return paragraphs, "\n\n"
    return [line for line in text.split("\n") if line.strip()], "\n"


def _shuffled(text: str, seed: int) -> str | None:
    blocks, between = _blocks(text)
    order = np.argsort(numbers(seed, len(blocks)), kind="stable")
    if len(blocks) < 2:
        return None
    if (order == np.arange(len(blocks))).all():
        order = np.roll(order, 1)
    return between.join(blocks[place] for place in order)


def _swapped(text: str, other: str) -> str | None:
    blocks, between = _blocks(text)
    theirs, _ = _blocks(other)
    if len(blocks) < 3 or len(theirs) < 2:
        return None
    return between.join([theirs[0], *blocks[1:-1], theirs[-1]])
