"""From documents to requests, and from answers to rows: what `rephrase` does with text, apart from sending it.

A passage of a document and a style make a request; a candidate more is the same request with another seed. What
comes back is tidied as its style says, checked, compared with the passage, and the best candidate of each passage
becomes a row, or a part of one. All of it is a function of text and answers: equal answers, equal rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.arrow import binary, one, utf8
from curate.assembly import ANSWER, QUESTION, Made, finished, tidy, with_pairs
from curate.diversity import comparable, diversity, select
from curate.faithfulness import cosines, faithfulness, strangers
from curate.generations import Rules, check
from curate.identify import identified
from curate.kernels.hash import xxh3_128
from curate.stage import Documents
from curate.styles import Style

Vectors = Callable[[pa.Array], tuple[np.ndarray, np.ndarray]]
Scorer = Callable[[pa.Array], np.ndarray]
Score = Literal["mtld", "tokens", "similarity", "label"]

MOST_CANDIDATES = 64

SENT = pa.schema(
    [
        ("row", pa.uint32()),
        ("style", pa.int16()),
        ("passage", pa.int32()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("tokens", pa.int32()),
    ]
)
"""A passage that is sent: its document's row, the style's place in the stage, its number, its bytes in the document's
text, its tokens."""

ANSWERED = pa.schema(
    [
        *SENT,
        ("candidate", pa.int16()),
        ("text", pa.large_string()),
        ("finish_reason", pa.string()),
        ("answer_tokens", pa.int64()),
        ("error", pa.string()),
    ]
)
"""The same with what came back: `error` is empty, or why the server refuses the request for good."""

ADDED = pa.schema(
    [
        ("id", pa.binary(16)),
        ("text", pa.large_string()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("source_id", pa.string()),
        ("origin", pa.string()),
        ("url", pa.string()),
        ("bytes", pa.int64()),
        ("parent", pa.binary(16)),
        ("style", pa.dictionary(pa.int32(), pa.string())),
        ("style_version", pa.int32()),
        ("generator", pa.dictionary(pa.int32(), pa.string())),
        ("passages", pa.int32()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("candidate", pa.list_(pa.int16())),
        ("scores", pa.list_(pa.float64())),
        ("length_ratio", pa.float64()),
        ("novel_share", pa.float64()),
        ("similarity", pa.float64()),
    ]
)
"""Columns of a row. `parent` is the `id` of the document it was made of, `start` and `end` the bytes of that that it
covers, `passages` how many; `candidate` the one chosen of each, `scores` those of all candidates, passage by passage,
null where there is none;
`length_ratio` in tokens, `novel_share` of numbers and names, and `similarity` (null without a model) of the row's
passages, their means."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of answers beside their styles: the least `similarity` and the most `novel` share, None for any;
    `score` and `direction` choose among candidates, `scorer` gives texts their scores where it is `label`."""

    similarity: float | None
    novel: float | None
    score: Score
    direction: Literal["highest", "lowest"]
    language_model: str | None
    seed: int
    scorer: Scorer | None = None


def rows(
    documents: pa.Table,
    answered: pa.Table,
    styles: Sequence[Style],
    *,
    wanted: Wanted,
    generator: str,
    count: Callable[[str], int],
    vectors: Vectors | None,
) -> Documents:
    """The rows that `answered` (ANSWERED) gives of `documents`. `count` gives a text's tokens, `vectors` embeddings.

    Every answer is accounted for: accepted, surpassed by another candidate, or rejected with one reason.
    """
    order = [(name, "ascending") for name in ("row", "style", "passage", "candidate")]
    answered = answered.sort_by(order) if answered.num_rows else ANSWERED.empty_table()
    judged = _judged(documents, answered, styles, wanted=wanted, vectors=vectors)
    made = _Rows(documents, styles, generator)
    rejects: list[tuple[str, str, bytes]] = []
    for index in np.flatnonzero(judged.reason != "").tolist():
        rejects.append((made.origin(judged, index, named=True), judged.reason[index], judged.raw(index)))
    for group in _groups(judged, styles):
        texts = [judged.texts[index] for index in group]
        style = styles[judged.style[group[0]]]
        if "pairs" in style.assembly.steps:
            texts = [made.paired(judged, index, wanted.seed) for index in group]
        final = finished(style, texts, count)
        if final.reason:
            rejects += [(made.origin(judged, index, named=True), final.reason, judged.raw(index)) for index in group]
        else:
            made.add(judged, group, final.text)
    counts = _counts(answered, judged, rejects, documents)
    aside = pa.table([list(column) for column in zip(*rejects, strict=True)] or [[], [], []], _REJECTS)
    return Documents(made.table(), aside, counts)


_REJECTS = pa.schema([("origin", pa.string()), ("reason", pa.string()), ("raw", pa.large_binary())])


class _Judged(NamedTuple):
    """Answers with what is said of them, all of one length. `reason`: why it is rejected, "" if it is not; `best`: it
    is the one to take of its passage."""

    answered: pa.Table
    row: np.ndarray
    style: np.ndarray
    passage: np.ndarray
    sources: list[str]
    texts: list[str]
    reason: np.ndarray
    best: np.ndarray
    ratio: np.ndarray
    novel: np.ndarray
    similarity: np.ndarray
    strange: np.ndarray
    score: np.ndarray

    def raw(self, index: int) -> bytes:
        """What the generator said."""
        return str(self.answered["text"][index].as_py() or self.answered["error"][index].as_py()).encode()


def _judged(
    documents: pa.Table, answered: pa.Table, styles: Sequence[Style], *, wanted: Wanted, vectors: Vectors | None
) -> _Judged:
    number = answered.num_rows
    row, style, passage = (answered[name].to_numpy().astype(np.int64) for name in ("row", "style", "passage"))
    sources = list(_passages(documents, answered))
    tokens = answered["answer_tokens"].fill_null(0).to_numpy()
    answers = zip(answered["text"].to_pylist(), answered["error"].to_pylist(), style, tokens, strict=True)
    tidied = [
        Made("", "refused") if error else tidy(styles[which], text or "", int(size))
        for text, error, which, size in answers
    ]
    texts, reason = [made.text for made in tidied], np.array([made.reason for made in tidied], object)
    ratio = np.full(number, np.nan)
    for which in np.unique(style):
        mine = np.flatnonzero((style == which) & (reason == ""))
        if not len(mine):
            continue
        place = pa.array(mine)
        checked = check(
            pa.array([sources[i] for i in mine], pa.large_string()),
            pa.array([texts[i] for i in mine], pa.large_string()),
            finish_reason=one(answered["finish_reason"]).take(place),
            source_tokens=one(answered["tokens"]).take(place),
            output_tokens=one(answered["answer_tokens"]).take(place),
            rules=rules(styles[which], wanted.language_model),
        )
        reason[mine] = checked["reason"].fill_null("").to_pylist()
        ratio[mine] = checked["ratio"].to_numpy()
        for index, text in zip(mine, checked["text"].to_pylist(), strict=True):
            texts[index] = text
    good = np.flatnonzero(reason == "")
    novel, similarity, strange = (np.full(number, np.nan) for _ in range(3))
    if len(good):
        passages, outputs = (pa.array([some[i] for i in good], pa.large_string()) for some in (sources, texts))
        novel[good] = faithfulness(passages, outputs)["novel_share"].to_numpy()
        if vectors is not None:
            similarity[good], strange[good] = _alike(passages, outputs, vectors, wanted.seed)
    for name, least in (("unlike", _unlike(similarity, wanted)), ("novel", novel > _or(wanted.novel, 2))):
        reason[(reason == "") & least] = name
    score = _scores(texts, tokens, similarity, wanted)
    _, of_passage = np.unique(np.stack([row, style, passage], axis=1), axis=0, return_inverse=True)
    # What has no score comes last, and is still taken where nothing else is left.
    last = -np.inf if wanted.direction == "highest" else np.inf
    known = np.where(np.isnan(score), last, score)
    best = select(known, of_passage.reshape(-1), accepted=reason == "", direction=wanted.direction)
    return _Judged(
        answered, row, style, passage, sources, texts, reason, best, ratio, novel, similarity, strange, score
    )


def _unlike(similarity: np.ndarray, wanted: Wanted) -> np.ndarray:
    """Not of the least likeness, which what nobody knows is not either."""
    if wanted.similarity is None:
        return np.zeros(len(similarity), bool)
    found: np.ndarray = ~(similarity >= wanted.similarity)
    return found


def rules(style: Style, language_model: str | None) -> Rules:
    """What `check` asks of outputs in a style."""
    low, high = style.output.ratio or (0.0, np.inf)
    skipped = set(style.output.skip)
    return Rules(
        low=0.0 if "length_ratio" in skipped else low,
        high=np.inf if "length_ratio" in skipped else high,
        paraphrase="copied" not in skipped,
        prompt="" if "echo" in skipped else style.instructions,
        model=None if "language" in skipped else language_model,
        least=0 if "too_short" in skipped else style.output.least,
        pairs=QUESTION in style.instructions and ANSWER in style.instructions,
        skip=frozenset(skipped - {"copied"}),  # `paraphrase` says it: the passage itself is never an answer to `pairs`
    )


def _passages(documents: pa.Table, answered: pa.Table) -> Iterator[str]:
    """The passage of each answer."""
    offsets, data = utf8(documents["text"])
    places = (answered[name].to_numpy() for name in ("row", "start", "end"))
    for row, start, end in zip(*places, strict=True):
        yield bytes(data[offsets[row] + start : offsets[row] + end]).decode()


def _alike(passages: pa.Array, outputs: pa.Array, vectors: Vectors, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine of each output with its passage, and with a passage that is not its own."""
    distinct = passages.dictionary_encode()
    which = distinct.indices.to_numpy(zero_copy_only=False)
    of_passages, of_outputs = vectors(distinct.dictionary)[0], vectors(outputs)[0]
    other = strangers(which.astype(np.uint64), seed=seed)
    return cosines(of_passages[which], of_outputs), cosines(of_passages[which[other]], of_outputs)


def _scores(texts: list[str], tokens: np.ndarray, similarity: np.ndarray, wanted: Wanted) -> np.ndarray:
    if wanted.score == "tokens":
        return tokens.astype(np.float64)
    if wanted.score == "similarity":
        return similarity
    column = pa.array(texts, pa.large_string())
    if wanted.scorer is not None:
        return wanted.scorer(column)
    return comparable(diversity(column)) if texts else np.empty(0)


def labelled(texts: pa.Array, model: Any, label: str) -> np.ndarray:
    """The share that a classifier of two labels (`identify.model`) gives to one of them, float64[n]; NaN for a text
    without a word that it knows."""
    labels, tables = model
    offsets, data = utf8(texts)
    best, share = identified(offsets[:-1], offsets[1:], data, tables)
    share = np.clip(share.astype(np.float64), 0, 1)
    mine = np.where(best == labels.index(label), share, 1 - share)
    return np.where(best < 0, np.nan, mine)


def _groups(judged: _Judged, styles: Sequence[Style]) -> Iterator[list[int]]:
    """The answers that make up one row, in order."""
    group: list[int] = []
    for index in np.flatnonzero(judged.best).tolist():
        whole = styles[judged.style[index]].assembly.layout == "document"
        same = group and (judged.row[group[0]], judged.style[group[0]]) == (judged.row[index], judged.style[index])
        if group and not (whole and same):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


class _Rows:
    """Rows as they are put together."""

    def __init__(self, documents: pa.Table, styles: Sequence[Style], generator: str) -> None:
        names = ("id", "source", "origin", "url")
        self.documents = {name: documents[name] for name in names}
        self.styles, self.generator = styles, generator
        self.columns: dict[str, list[Any]] = {name: [] for name in ADDED.names}

    def origin(self, judged: _Judged, index: int, *, named: bool) -> str:
        """Where a row is from: its document's origin, the style, and unless it is of the whole, the passage."""
        style = self.styles[judged.style[index]]
        place = f"{self.documents['origin'][judged.row[index]].as_py()}#{style.name}"
        if not named:
            return place if style.assembly.layout == "document" else f"{place}.{judged.passage[index]}"
        several = pc.max(judged.answered["candidate"]).as_py() > 0
        candidate = judged.answered["candidate"][index].as_py()
        return f"{place}.{judged.passage[index]}" + (f".{candidate}" if several else "")

    def paired(self, judged: _Judged, index: int, seed: int) -> str:
        """A passage with some of its questions and answers behind it."""
        return with_pairs(
            judged.sources[index],
            judged.texts[index],
            document=self.documents["id"][judged.row[index]].as_py(),
            passage=int(judged.passage[index]),
            tokens=judged.answered["tokens"][index].as_py(),
            seed=seed,
        )

    def add(self, judged: _Judged, group: list[int], text: str) -> None:
        row = int(judged.row[group[0]])
        style = self.styles[judged.style[group[0]]]
        of_passages = [_candidates(judged, index) for index in group]
        made = {
            "text": text,
            "source": self.documents["source"][row].as_py(),
            "source_id": None,
            "origin": self.origin(judged, group[0], named=False),
            "url": self.documents["url"][row].as_py(),
            "bytes": len(text.encode()),
            "parent": self.documents["id"][row].as_py(),
            "style": style.name,
            "style_version": style.version,
            "generator": self.generator,
            "passages": len(group),
            "start": judged.answered["start"][group[0]].as_py(),
            "end": judged.answered["end"][group[-1]].as_py(),
            "candidate": [judged.answered["candidate"][index].as_py() for index in group],
            "scores": [_mean(judged.score[[index]]) for some in of_passages for index in some],
            **{
                name: _mean(values[group])
                for name, values in (
                    ("length_ratio", judged.ratio),
                    ("novel_share", judged.novel),
                    ("similarity", judged.similarity),
                )
            },
        }
        for name, value in made.items():
            self.columns[name].append(value)

    def table(self) -> pa.Table:
        texts = pa.array(self.columns["text"], pa.large_string())
        ids = np.empty((len(texts), 16), np.uint8)
        xxh3_128(*utf8(texts), ids)
        made = {
            field.name: pa.array(self.columns[field.name], _plain(field.type)).cast(field.type)
            for field in ADDED
            if field.name != "id"
        }
        return pa.table({"id": binary(ids), **made}, ADDED)


def _candidates(judged: _Judged, index: int) -> np.ndarray:
    """The candidates of the passage of an answer: they lie next to each other."""
    start = max(0, index - MOST_CANDIDATES)
    near = slice(start, index + MOST_CANDIDATES)
    columns = (judged.row, judged.style, judged.passage)
    same = np.logical_and.reduce([column[near] == column[index] for column in columns])
    places: np.ndarray = np.flatnonzero(same) + start
    return places


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _counts(
    answered: pa.Table, judged: _Judged, rejects: list[tuple[str, str, bytes]], documents: pa.Table
) -> dict[str, dict[str, int]]:
    reasons: dict[str, int] = {}
    for _, reason, _ in rejects:
        reasons[reason] = reasons.get(reason, 0) + 1
    accepted = int((judged.reason == "").sum())
    surpassed = accepted - int(judged.best.sum())
    known = ~np.isnan(judged.similarity) & ~np.isnan(judged.strange)
    counts: dict[str, dict[str, int]] = {
        "outputs": {
            "answered": answered.num_rows,
            "accepted": answered.num_rows - len(rejects) - surpassed,
            "surpassed": surpassed,
            "rejected": len(rejects),
        },
        "rejected": dict(sorted(reasons.items())),
        "asked": {
            "documents": documents.num_rows,
            "without_passage": documents.num_rows - len(np.unique(judged.row)),
        },
    }
    if known.any():
        counts["likeness"] = {
            "pairs": int(known.sum()),
            "true_millionths": round(float(judged.similarity[known].sum()) * 1e6),
            "shuffled_millionths": round(float(judged.strange[known].sum()) * 1e6),
        }
    return counts


def drawn_style(draws: np.ndarray, styles: np.ndarray) -> np.ndarray:
    """One of so many styles (int64[n]) for each document, int64[n], from its keyed draw (uint64[n])."""
    picked: np.ndarray = (draws >> np.uint64(32)).astype(np.int64) * styles >> 32
    return picked


def routed(conditions: Mapping[str, Sequence[int]], true: Mapping[str, np.ndarray], number: int) -> list[Sequence[int]]:
    """For each document the styles of the first condition that holds (`true`: bool[n] by condition), else none."""
    places: list[Sequence[int]] = [()] * number
    taken = np.zeros(number, bool)
    for condition, styles in conditions.items():
        for index in np.flatnonzero(true[condition] & ~taken):
            places[index] = styles
        taken |= true[condition]
    return places


def spliced(tables: list[pa.Table]) -> pa.Table:
    """Passages of several styles in order of row, style and place."""
    table = pa.concat_tables(tables) if tables else SENT.empty_table()
    order = pc.sort_indices(table, [(name, "ascending") for name in ("row", "style", "passage")])
    return table.take(order)
