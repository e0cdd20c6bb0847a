"""What rules need to know of each language: its stop words, how its words are found, and its limits.

A language is a file `rules/languages/CODE.yaml`, CODE as fastText's lid.176 names it (ISO 639-1), in the manner of
FineWeb2 (Penedo et al. 2025, arXiv 2506.20920), from which most numbers come. `fit` makes one from text that is known
to be good. The catch: a limit holds for one way of finding words; see `words` and the notes in the files.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate import store, strict
from curate.errors import RecipeError, nearest

Column: TypeAlias = pa.Array | pa.ChunkedArray
FOLDER = store.join(store.parent(store.absolute(__file__)), "rules", "languages")
WORDS = ("whitespace", "unicode")
KEYS = ("source", "script", "words", "stop_words", "parameters")

TAIL = 0.05
"""Share of good documents that a limit of `fit` may cut off, unless a caller says otherwise."""
SHARE, AT_LEAST = 0.008, 8
"""`fit`: a stop word makes up this share of all words, or is among the most frequent ones."""
COLUMNS = (
    "min_mean_word_length mean_word_length",
    "max_mean_word_length mean_word_length",
    "min_alphabetic_word_ratio alphabetic_word_ratio",
    "min_terminal_line_ratio terminal_line_ratio",
    "max_newline_ratio newline_ratio",
    "max_duplicate_line_ratio duplicate_line_ratio",
    *(f"max_top_{n}_gram_ratio top_{n}_gram_ratio" for n in (2, 3, 4)),
    *(f"max_duplicate_{n}_gram_ratio duplicate_{n}_gram_ratio" for n in range(5, 11)),
)
"""Parameters that `fit` sets by a quantile, and the column of each."""


@dataclass(frozen=True)
class Language:
    """One language file. words: `whitespace` (what spaces part) or `unicode` (kernels/boundaries.py)."""

    code: str
    script: str
    words: str
    stop_words: tuple[str, ...]
    parameters: dict[str, float]
    source: str


@cache
def languages() -> dict[str, Language]:
    """The languages that come with the package, by code, in order."""
    names = sorted(file for file in store.listing(FOLDER) if file.endswith(".yaml"))
    return {file.removesuffix(".yaml"): read(store.join(FOLDER, file)) for file in names}


def read(location: str) -> Language:
    """A language file; its name is the code. RecipeError, with the file, for what it must not hold."""
    try:
        raw, _ = strict.load(store.read(location))
    except RecipeError as error:
        raise RecipeError(f"{location}: {error}") from error
    if not isinstance(raw, dict):
        raise RecipeError(f"{location}: a language file has the keys {', '.join(KEYS)}; found {type(raw).__name__}")
    for key in raw:
        if key not in KEYS:
            raise RecipeError(f"{location}: no key of a language file is called {key!r}{nearest(str(key), KEYS)}")
    for key in KEYS[1:]:
        if key not in raw:
            raise RecipeError(f"{location}: `{key}` is missing")
    if raw["words"] not in WORDS:
        raise RecipeError(f"{location}: `words` is {' or '.join(WORDS)}, found {raw['words']!r}")
    stop_words, parameters = raw["stop_words"], raw["parameters"]
    if not isinstance(stop_words, list) or not all(isinstance(word, str) and word for word in stop_words):
        raise RecipeError(f"{location}: `stop_words` is a list of words; put words such as no and on in quotes")
    if not isinstance(parameters, dict):
        raise RecipeError(f"{location}: `parameters` is a mapping of names to numbers, found {parameters!r}")
    for name, value in parameters.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise RecipeError(f"{location}: parameter {name!r} is a number, found {value!r}")
    code = store.basename(location).rsplit(".", 1)[0]
    return Language(code, str(raw["script"]), raw["words"], tuple(stop_words), parameters, str(raw.get("source", "")))


def parameter(name: str) -> dict[str, float]:
    """A parameter by code, of the languages that have it; RecipeError if none has."""
    found = {code: one.parameters[name] for code, one in languages().items() if name in one.parameters}
    if not found:
        known = sorted({known for one in languages().values() for known in one.parameters})
        raise RecipeError(f"no language has a parameter ${name}{nearest(name, known)}")
    return found


def sets(language: Column) -> tuple[list[tuple[str, ...]], NDArray[np.int16]]:
    """The stop words of every language, and for each row of a column of codes the place of its own in that list, -1
    for a null and for a language without a file."""
    places = {code: place for place, code in enumerate(languages())}
    return [one.stop_words for one in languages().values()], _looked_up(language, places).astype(np.int16)


def unicode_rows(language: Column) -> NDArray[np.bool_]:
    """For each row of a column of codes: are its words those of kernels/boundaries.py? False without a file."""
    cut = {code: int(one.words == "unicode") for code, one in languages().items()}
    return np.equal(_looked_up(language, cut), 1)


def words(array: pa.Array) -> pa.Array:
    """A column of words, each word once (a dictionary). RecipeError for a column of anything else."""
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise RecipeError(f"`language` is the name of a column of words, such as en; found one of {array.type}")
    return array if pa.types.is_dictionary(array.type) else array.cast(pa.string()).dictionary_encode()


def _looked_up(language: Column, known: Mapping[str, int]) -> NDArray[np.int64]:
    """A number for each row, by its code; -1 where there is none. Looks at each code once."""
    array = language.combine_chunks() if isinstance(language, pa.ChunkedArray) else language
    array = words(array)
    numbers = np.array([*(known.get(code, -1) for code in array.dictionary.to_pylist()), -1], np.int64)
    found: NDArray[np.int64] = numbers[array.indices.fill_null(len(array.dictionary)).to_numpy(zero_copy_only=False)]
    return found


def fit(
    texts: Iterable[str], signals: Mapping[str, np.ndarray], *, words: str = "whitespace", tail: float = TAIL
) -> dict[str, Any]:
    """Stop words and parameters for a language file, from good text in one language and its signals.

    Stop words: words with a letter that make up at least 0.8 % of all words, or else the eight most frequent (the
    manner of FineWeb2; it takes Wikipedia). `signals`: columns of the stage `heuristics`, row by row those of `texts`,
    with `words` as there; for each column of `COLUMNS` that is given, the limit is the quantile that cuts off the share
    `tail` of its rows at the side where the rule does, and of `language_score` max(0.3, min(0.9, median - standard
    deviation)). The rest (`source`, `script`) is the caller's to write; RecipeError for no text.
    """
    counts = Counter(word for text in texts for word in split(text, words))
    total = sum(counts.values())
    if not total:
        raise RecipeError("a language is fitted to text, found not one word")
    # Of equally frequent words the one that sorts first: the same file from the same text.
    ordered = sorted(
        (one for one in counts.items() if any(map(str.isalpha, one[0]))), key=lambda one: (-one[1], one[0])
    )
    frequent = [word for place, (word, count) in enumerate(ordered) if count >= SHARE * total or place < AT_LEAST]
    parameters: dict[str, float] = {"min_words": 50, "max_words": 100_000}
    for name, column in (pair.split() for pair in COLUMNS):
        if column in signals and len(signals[column]):
            share = tail if name.startswith("min_") else 1 - tail
            parameters[name] = round(float(np.quantile(np.asarray(signals[column], np.float64), share)), 3)
    scores = np.asarray(signals.get("language_score", ()), np.float64)
    if len(scores):
        parameters["min_language_score"] = round(float(max(0.3, min(0.9, np.median(scores) - scores.std()))), 3)
    return {"words": words, "stop_words": frequent, "parameters": parameters}


def split(text: str, words: str) -> list[str]:
    """The words of one text, as rules count them; for a stage, the kernels do it for all rows at once."""
    if words not in WORDS:
        raise RecipeError(f"`words` is {' or '.join(WORDS)}, found {words!r}")
    if words == "whitespace":
        return text.split()
    from curate.kernels.boundaries import unicode_words, word_properties

    raw = text.encode()
    offsets, data = np.array([0, len(raw)], np.int64), np.frombuffer(raw, np.uint8)
    first, edges = np.empty(2, np.int64), np.empty(2 * len(raw), np.int32)
    unicode_words(offsets, data, word_properties(), first, edges)
    return [raw[start:end].decode() for start, end in edges[: 2 * first[1]].reshape(-1, 2)]
