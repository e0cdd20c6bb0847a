"""Documents cut into passages that a generator can take in: whole sentences, or whole lines, up to so many tokens.

`sentences` is the way of WRAP (Maini et al. 2024, arXiv 2401.16380, section 3.1): about 300 tokens, as longer inputs
lost information. `lines` is the way of Nemotron-CC (Su et al. 2024, arXiv 2412.02595). Sentences are found by
sentencex, which knows abbreviations of some thirty languages and stands in for the others.

The catch: a sentence is counted in tokens by itself, together with the white space before it (64 characters of it at
most). The tokens of a passage are the sum, which may differ by a few from those of its text in one piece.
"""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.arrow import Column, one, stretches, utf8
from curate.errors import AssetError, RecipeError
from curate.kernels.joins import REASONS, join_lines, join_sentences

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Int64s = NDArray[np.int64]
Span = tuple[int, int]

SCHEMA = pa.schema([("row", pa.uint32()), ("start", pa.int64()), ("end", pa.int64()), ("tokens", pa.int32())])
LEAST = 40
"""A last passage of fewer tokens is merged into the one before it, or dropped."""
LANGUAGE = "en"
"""For whose abbreviations a document without a language is read; marks that end sentences are those of all."""

# Python strings and encodings live for a batch. One long run of letters is encoded in blocks.
_BATCH, _BLOCK, _LEAD = 1 << 20, 1 << 16, 64
# White space of several bytes: sentencex 1.0.32 panics where a full stop follows it. A space stands in for each.
_ODD = re.compile("[\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")


class Passages(NamedTuple):
    """The passages in order, and how many documents, lines and passages were left out, by reason.

    `table`: row (uint32) of the document, start and end (int64) in the bytes of its UTF-8, tokens (int32). Passages
    of a document do not overlap, neither begin nor end with white space, and are never empty.
    """

    table: pa.Table
    dropped: dict[str, int]


def passages(
    texts: Column,
    *,
    most: int,
    least: int,
    split: Literal["sentences", "lines"],
    tokens: "Tokenizer",
    document: int = 0,
    languages: Column | None = None,
) -> Passages:
    """Cut documents into passages of at most `most` tokens.

    `sentences`: sentences are added until the next would make too many. One that is longer is cut at white space, or
    where there is none, between tokens. A last passage of fewer than `least` tokens goes to the one before it if both
    have at most 1.15 `most` together, else it is dropped. `lines`: lines (`text.split("\\n")`) of more than `most`
    tokens are dropped, neighbours are joined, and passages of fewer than `least` are dropped.

    `document`: a document of fewer tokens is left out whole. `languages`: a code (ISO 639-1) for each document, for
    the abbreviations of sentences. `tokens` is the generator's tokenizer; no special tokens are added and nothing is
    truncated. A null counts as an empty text. RecipeError for numbers that fit no passage.
    """
    if most < 1 or least < 0 or least > most or document < 0:
        raise RecipeError(
            f"passages have at least {least} and at most {most} tokens, of documents of at least {document}; wanted is "
            "0 <= least <= most, most above 0"
        )
    texts = texts.fill_null("") if texts.null_count else texts
    offsets, data = utf8(texts)
    column = texts if isinstance(texts, pa.ChunkedArray) else pa.chunked_array([texts])
    tokens = whole(tokens)
    dropped = np.zeros(len(REASONS), np.int64)
    found: list[list[Int64s]] = []
    for start, stop in stretches(offsets, _BATCH):
        batch: list[str] = column.slice(start, stop - start).to_pylist()
        if split == "lines":
            spans: Iterable[Iterator[Span]] = map(_lines, batch)
        else:
            codes = [None] * len(batch) if languages is None else one(languages).slice(start, len(batch)).to_pylist()
            spans = map(_sentences, batch, codes)
        pieces = _Pieces.of(batch, spans, tokens)
        if split == "sentences":
            pieces = pieces.cut(batch, most, tokens)
        joined = np.empty((len(pieces.tokens), 4), np.int64)
        join = join_sentences if split == "sentences" else join_lines
        held = join(pieces.first, pieces.tokens, most, least, document, joined, dropped)
        begins, ends, sums, rows = joined[:held].T
        places = np.stack([pieces.spans[begins, 0], pieces.spans[ends - 1, 1]])
        places = _bytes(batch, places, rows, data[offsets[start] : offsets[stop]])
        found.append([rows + start, *places, sums])
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)] or [np.empty(0, np.int64)] * len(SCHEMA)
    table = pa.table(columns, names=SCHEMA.names).cast(SCHEMA)
    return Passages(table, dict(zip(REASONS, dropped.tolist(), strict=True)))


def whole(tokens: "Tokenizer") -> "Tokenizer":
    """A tokenizer that neither truncates nor pads: itself, or a copy if it did."""
    if tokens.truncation is None and tokens.padding is None:
        return tokens
    from tokenizers import Tokenizer

    copy = Tokenizer.from_str(tokens.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def counts(texts: list[str], tokens: "Tokenizer") -> Int64s:
    """Tokens of each text, int64[n], without special tokens. Very long texts are counted block by block."""
    sizes = np.fromiter((max(1, -(-len(text) // _BLOCK)) for text in texts), np.int64, len(texts))
    if sizes.max(initial=1) > 1:
        texts = [text[at : at + _BLOCK] for text in texts for at in range(0, max(1, len(text)), _BLOCK)]
    encoded = tokens.encode_batch_fast(texts, add_special_tokens=False)
    made = np.fromiter(map(len, encoded), np.int64, len(encoded))
    return np.add.reduceat(made, np.cumsum(sizes) - sizes) if len(made) else made


class _Pieces(NamedTuple):
    """Sentences or lines of a batch: first int64[n + 1], spans int64[m, 2] in characters of their text, tokens
    int64[m]."""

    first: Int64s
    spans: Int64s
    tokens: Int64s

    @staticmethod
    def of(batch: list[str], spans: Iterable[Iterable[Span]], tokens: "Tokenizer") -> "_Pieces":
        places: list[Span] = []
        parts: list[str] = []
        first = [0]
        for text, row in zip(batch, spans, strict=True):
            end = 0
            for span in row:
                parts.append(text[max(end, span[0] - _LEAD) : span[1]])
                places.append(span)
                end = span[1]
            first.append(len(places))
        return _Pieces(np.array(first, np.int64), np.array(places, np.int64).reshape(-1, 2), counts(parts, tokens))

    def cut(self, batch: list[str], most: int, tokens: "Tokenizer") -> "_Pieces":
        """Itself with pieces of more than `most` tokens cut to smaller ones."""
        long = np.flatnonzero(self.tokens > most)
        if not len(long):
            return self
        places: list[Int64s] = []
        sums: list[Int64s] = []
        more = np.zeros(len(self.tokens) + 1, np.int64)
        done = 0
        for piece, row in zip(long, np.searchsorted(self.first, long, "right") - 1, strict=True):
            at, end = self.spans[piece]
            smaller = [(at + a, at + b, n) for a, b, n in cuts(batch[row][at:end], most, tokens)]
            cut = np.array(smaller, np.int64).reshape(-1, 3)
            places += [self.spans[done:piece], cut[:, :2]]
            sums += [self.tokens[done:piece], cut[:, 2]]
            more[piece + 1] = len(cut) - 1
            done = int(piece) + 1
        first = self.first + np.cumsum(more)[self.first]
        return _Pieces(first, np.concatenate([*places, self.spans[done:]]), np.concatenate([*sums, self.tokens[done:]]))


def cuts(text: str, most: int, tokens: "Tokenizer") -> list[tuple[int, int, int]]:
    """A text as stretches (start, end, tokens), in characters, of at most `most` tokens.

    Each is as long as it may be and still end at white space, else between tokens; only a character that takes more
    tokens than `most` makes one that is longer. White space at their ends is left out.
    """
    encoded = tokens.encode(text, add_special_tokens=False)
    places = np.array(encoded.offsets, np.int64).reshape(-1, 2)
    begins, size = places[:, 0], len(places)
    # Tokens of one character, or of nothing, lie at one place: a cut is where all before has ended.
    reached = np.maximum.accumulate(np.concatenate([[0], places.max(axis=1)]))[:-1]
    passed = np.maximum.accumulate(np.concatenate([[0], begins]))[:-1]
    clean = np.flatnonzero((begins >= reached) & (begins > passed) & (begins < len(text)))
    spaced = np.array([k for k in clean if text[begins[k]].isspace() or text[begins[k] - 1].isspace()], np.int64)
    at, made, last = 0, [], 0
    while size - at > most:
        place = _last(spaced, at, at + most) or _last(clean, at, at + most) or _next(clean, at + most)
        if not place:
            break
        made.append((last, int(begins[place]), place - at))
        at, last = place, int(begins[place])
    made.append((last, len(text), size - at))
    stripped = [(*_stripped(text, a, b), count) for a, b, count in made]
    return [(a, b, count) for a, b, count in stripped if a < b]


def _last(places: Int64s, above: int, most: int) -> int:
    """The last place that is larger than `above` and at most `most`, or 0."""
    index = int(np.searchsorted(places, most, "right")) - 1
    return int(places[index]) if index >= 0 and places[index] > above else 0


def _next(places: Int64s, above: int) -> int:
    index = int(np.searchsorted(places, above, "right"))
    return int(places[index]) if index < len(places) else 0


def _stripped(text: str, start: int, end: int) -> Span:
    """The span without white space at its ends; start == end if it is all there is."""
    part = text[start:end].lstrip()
    start = end - len(part)
    return start, start + len(part.rstrip())


def _lines(text: str) -> Iterator[Span]:
    """Lines with more in them than white space, which is left out at their ends."""
    at = 0
    for line in text.split("\n"):
        start, end = _stripped(line, 0, len(line))
        if start < end:
            yield at + start, at + end
        at += len(line) + 1


def _sentences(text: str, language: str | None) -> Iterator[Span]:
    """Sentences without white space at their ends. What is endless is first cut to blocks, at white space if it can."""
    plain = text if text.isascii() else _ODD.sub(" ", text)
    ends, at = [], 0
    for sentence in _split(plain, language or LANGUAGE):
        # Line feeds between paragraphs get lost now and then, so each is looked for behind the one before.
        found = at if plain.startswith(sentence, at) else plain.find(sentence, at)
        if found < 0:
            break
        at = found + len(sentence)
        ends.append(at)
    start = 0
    for end in [*ends[:-1], len(text)]:
        while end - start > _BLOCK:
            space = max(text.rfind(mark, start + 1, start + _BLOCK) for mark in " \n\t")
            cut = space if space > 0 else start + _BLOCK
            yield from _shown(text, start, cut)
            start = cut
        yield from _shown(text, start, end)
        start = end


def _shown(text: str, start: int, end: int) -> Iterator[Span]:
    start, end = _stripped(text, start, end)
    if start < end:
        yield start, end


def _split(text: str, language: str) -> list[str]:
    """The sentences that sentencex finds. A text that it cannot take is cut to lines."""
    try:
        from sentencex import segment
    except ImportError as error:
        raise AssetError("`split: sentences` needs the package sentencex; `pip install sentencex`") from error
    try:
        found: list[str] = segment(language, text)
    except BaseException as error:
        # A defect in Rust code arrives as an exception that has no name to import.
        if type(error).__name__ != "PanicException":
            raise
        return text.splitlines(keepends=True)
    return found


def _bytes(batch: list[str], places: Int64s, rows: Int64s, data: NDArray[np.uint8]) -> Int64s:
    """Places in characters of their row's text as places in its bytes; `data` are the bytes of the whole batch."""
    sizes = np.fromiter(map(len, batch), np.int64, len(batch))
    if sizes.sum() == len(data):
        return places
    before = np.cumsum(sizes) - sizes
    # Every byte but those that continue a character begins one.
    begins = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))
    made: Int64s = begins[places + before[rows]] - begins[before[rows]]
    return made
