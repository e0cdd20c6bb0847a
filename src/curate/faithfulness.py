"""Does a rephrasing say what its source says? Two measures that need no judge: facts that are new, and likeness.

Facts are what can be compared without understanding: numbers, months beside a number, and names of several
capitalised words. The share of an output's facts that its source does not have is `novel_share`. Likeness is the
cosine of two embeddings; WRAP (Maini et al. 2024, arXiv 2401.16380, RQ3) compares its mean over true pairs with that
over shuffled ones: true pairs must be much closer, and not identical.

The catch: a wrong verb is a wrong fact too, and neither measure sees it. Where a language capitalises every noun
(German), names are not looked at.
"""

import re
from decimal import Decimal
from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curate.draw import again
from curate.wording import languages

NOVEL = 0.2
"""Above this share of new facts an output is flagged."""
CAPITALISED = 0.2
"""Where more of the words inside sentences are capitalised, capitals mark no names."""

_FIRST = ""
"""Stands for the first word of a sentence in a name."""
_NUMBER = r"(?<![\w.,])\d+(?:[.,'\u2019\u00a0\u202f\u2009]\d+)*"
_FOUND = re.compile(rf"({_NUMBER})(\s*%)?|([^\W\d_]+(?:['\u2019\-][^\W\d_]+)*)|([^\w\s])")
_CONNECTORS_SAID = """
of de del della di da do dos la le les van von der den the y al el bin ibn
"""
_CONNECTORS = frozenset(_CONNECTORS_SAID.split())
_SENTENCE_ENDS = frozenset('.!?:;\u2026\u3002\u201c\u201d"\u00ab\u00bb()-\u2013\u2014*#>\u2022|/')


class Facts(NamedTuple):
    """What a text states. `numbers`: for each, its possible readings; `names`: tuples of words in lower case;
    `words`: all its words; `counted`: every number it may be said to have, words such as twelve included."""

    numbers: frozenset[frozenset[str]]
    months: frozenset[int]
    names: frozenset[tuple[str, ...]]
    words: frozenset[str]
    counted: frozenset[str]
    mentioned: frozenset[int]


def faithfulness(sources: pa.Array, outputs: pa.Array) -> pa.Table:
    """Per pair `facts` of the output, how many of them are `novel`, and `novel_share` = novel / max(1, facts).

    A number is known if the source has it in digits or in words: 1,000 is 1000, 12 % is 12 percent, 1.2 million is
    1200000. A name of two capitalised words or more is known if the source has all its words, the
    first left out where it begins a sentence: any word is capitalised there. An output without facts has share 0.
    """
    known: dict[str, Facts] = {}
    counts = np.zeros((len(outputs), 2), np.int64)
    for row, (source, output) in enumerate(zip(sources.to_pylist(), outputs.to_pylist(), strict=True)):
        if source not in known:
            known = {source: facts(source or "")}  # neighbours often share a source; all would be too many
        counts[row] = novelty(known[source], facts(output or ""))
    stated, novel = counts.T
    return pa.table({"facts": stated, "novel": novel, "novel_share": novel / np.maximum(stated, 1)})


def novelty(source: Facts, output: Facts) -> tuple[int, int]:
    """Facts of the output, and those of them that the source does not have."""
    numbers = [readings for readings in output.numbers if not readings & source.counted]
    months = output.months - source.mentioned
    names = [name for name in output.names if not source.words.issuperset(name)]
    stated = len(output.numbers) + len(output.months) + len(output.names)
    return stated, len(numbers) + len(months) + len(names)


def facts(text: str) -> Facts:
    """Numbers, months and names of one text."""
    words, scales, months = _lists()
    numbers: set[frozenset[str]] = set()
    stated: set[int] = set()
    counted: set[str] = set()
    mentioned: set[int] = set()
    every: set[str] = set()
    tokens = _FOUND.findall(text)
    for at, (digits, _, word, _) in enumerate(tokens):
        lower = word.lower()
        if digits:
            readings = _readings(digits)
            after = tokens[at + 1][2].lower() if at + 1 < len(tokens) else ""
            readings |= {_scaled(one, scales[after]) for one in readings if after in scales}
            numbers.add(frozenset(readings))
            counted |= readings
        elif lower in words:
            counted.add(str(words[lower]))
        elif lower in scales:
            counted.add(str(scales[lower]))
        if lower in months:
            mentioned.add(months[lower])
            # May is a word too, and March begins sentences: a month is stated beside a number.
            if word[:1].isupper() and any(one[0] for one in tokens[max(0, at - 1) : at + 2]):
                stated.add(months[lower])
        every.update(_stem(part) for part in re.split(r"[-\u2019']", lower) if part)
        if word:
            every.add(_stem(lower))
    dates = {int(one) for one in re.findall(r"\b\d{4}-(0[1-9]|1[0-2])-\d{2}\b", text)}
    return Facts(
        frozenset(numbers), frozenset(stated), _names(tokens), frozenset(every), frozenset(counted),
        frozenset(mentioned | dates),
    )  # fmt: skip


def _readings(digits: str) -> set[str]:
    """A number written one way for all: 1,000 and 1.000 are 1000, or one with decimals; leading zeros go."""
    parts = re.split(r"[^\d]", digits)
    found = set()
    if all(len(part) == 3 for part in parts[1:]) and len(parts[0]) <= 3:
        found.add("".join(parts))
    if len(parts) > 1 and digits[-len(parts[-1]) - 1] in ".,":
        found.add("".join(parts[:-1]) + "." + parts[-1])
    found = found or {"".join(parts)}
    return {_plain(one) for one in found}


def _plain(number: str) -> str:
    whole, _, decimals = number.partition(".")
    decimals = decimals.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{decimals}" if decimals else "")


def _scaled(number: str, scale: int) -> str:
    # More digits than decimals hold are no amount that anybody writes with a word behind it.
    return _plain(f"{Decimal(number) * scale:f}") if len(number) <= 20 else number


def _names(tokens: list[tuple[str, str, str, str]]) -> frozenset[tuple[str, ...]]:
    """Runs of two and more capitalised words of one sentence."""
    inside = [word for at, (_, _, word, _) in enumerate(tokens) if word and not _begins(tokens, at)]
    if inside and sum(map(_is_capitalised, inside)) > CAPITALISED * len(inside) + 4:
        return frozenset()
    found: set[tuple[str, ...]] = set()
    run: list[str] = []
    for at, (_, _, word, _) in enumerate([*tokens, ("", "", "", ".")]):
        if word and _is_capitalised(word):
            if at < len(tokens) and _begins(tokens, at):
                _keep(run, found)
                # It may be "Thus" as well as a name's first word: it counts as a word, and nobody asks which.
                run = [] if _is_common(word, tokens) else [_FIRST]
            else:
                run.append(word)
        elif not (run and word.lower() in _CONNECTORS and word):
            _keep(run, found)
            run = []
    return frozenset(found)


def _keep(run: list[str], found: set[tuple[str, ...]]) -> None:
    _, _, months = _lists()
    name = [_stem(word.lower()) for word in run if word.lower() not in months]
    if len(name) > 1:
        found.add(tuple(part for one in name for part in re.split(r"[-\u2019']", one) if part != _FIRST))


def _begins(tokens: list[tuple[str, str, str, str]], at: int) -> bool:
    return at == 0 or (tokens[at - 1][3] in _SENTENCE_ENDS and bool(tokens[at - 1][3]))


def _is_capitalised(word: str) -> bool:
    return word[0].isupper() and word != "I" and len(word) > 1


def _is_common(word: str, tokens: list[tuple[str, str, str, str]]) -> bool:
    lower = word.lower()
    return lower in _COMMON or any(one[2] == lower for one in tokens)


_COMMON_SAID = """
a an the this that these those in on at by for from to of with without after before since until when where while
although because if as it its he she they we you his her their our my your what who which how why is are was were do
does did has have had can could will would should may might must not no and but or so then there here one two three
four five six seven eight nine ten all each every both many most some several few another other question answer yes
today during under over between among later early first second third next last only however moreover according once
"""
_COMMON = frozenset(_COMMON_SAID.split())
"""Words that begin sentences and no names."""


def _stem(word: str) -> str:
    """A word without the possessive ending."""
    return re.sub("['\u2019]s?$", "", word)


@cache
def _lists() -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Numbers in words, their scales, and months, of all languages."""
    words, scales, months = {}, {}, {}
    for one in languages().values():
        words.update(one["numerals"])
        scales.update(one["scales"])
        months.update({name: place for place, name in enumerate(one["months"], 1)})
    return words, scales, months


# ---------------------------------------------------------------- embeddings


def cosines(sources: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows, float64[n] in [-1, 1], of two float arrays [n, d]; NaN where a row is all zeros."""
    one, other = np.asarray(sources, np.float64), np.asarray(outputs, np.float64)
    # Scaled first, so that no square of a tiny or huge number is lost.
    sizes = [np.abs(rows).max(axis=1, initial=0, keepdims=True) for rows in (one, other)]
    with np.errstate(invalid="ignore", divide="ignore"):
        one, other = one / sizes[0], other / sizes[1]
        found = (one * other).sum(axis=1) / np.sqrt((one * one).sum(axis=1) * (other * other).sum(axis=1))
    clipped: np.ndarray = np.clip(found, -1, 1)
    return clipped


def strangers(groups: np.ndarray, *, seed: int) -> np.ndarray:
    """For each row another row of another group, int64[n]: a permutation, keyed by the groups' numbers and the seed.

    `groups` uint64[n]: what rows belong to, such as a hash of their passage. Rows are put in a keyed order of groups
    and moved on by the size of the largest, so no two of a group meet as long as none has more than half of the rows;
    beyond that, as few as must be.
    """
    groups = np.asarray(groups, np.uint64)
    order = np.lexsort((np.arange(len(groups)), groups, again(groups, seed)))
    _, sizes = np.unique(groups, return_counts=True)
    partner = np.empty(len(groups), np.int64)
    partner[order] = np.roll(order, -int(sizes.max(initial=0)))
    return partner


class Likeness(NamedTuple):
    """Mean cosine of true pairs and of shuffled ones, NaN where there is none; `pairs` that counted."""

    true: float
    shuffled: float
    pairs: int


def likeness(sources: np.ndarray, outputs: np.ndarray, *, groups: np.ndarray, seed: int) -> Likeness:
    """What WRAP's check compares: embeddings of sources and outputs, float[n, d], in pairs and with strangers."""
    true = cosines(sources, outputs)
    shuffled = cosines(sources[strangers(groups, seed=seed)], outputs)
    counted = ~np.isnan(true) & ~np.isnan(shuffled)
    if not counted.any():
        return Likeness(float("nan"), float("nan"), 0)
    return Likeness(float(true[counted].mean()), float(shuffled[counted].mean()), int(counted.sum()))
