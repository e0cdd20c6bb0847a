"""What selections have in common and what they take, from one more look at each shard, the only one at its text.

A shard adds to sums by method, source and cluster, and leaves the bigrams of each selection in a scratch folder. Of
text as much is taken as the bigram model is to be made of.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate import bigrams, store
from curate.arrow import one
from curate.candidates import EVERY, Job, Queue, kept_by, lines_of, members, put

LIKE = 0.95
"""A document whose `semantic_similarity` is above this counts as a near duplicate."""
_SHOWN = 100
_NONE = "(none)"

Cut = tuple[Queue, np.uint64]


@dataclass(frozen=True)
class Look:
    """What to look at. Columns to read, None where there is none; `methods`: how many expressions; `selections`: by
    method, the baseline last, its queue and where its budget ends; `texts`: the same for each bigram model; `held` and
    `map`: for the documents that are held out, and for those on the map; `examples`: how many of each kind."""

    scratch: str
    methods: int
    by: str
    cluster: str | None
    embedding: str | None
    similarity: str | None
    selections: tuple[Cut, ...]
    texts: tuple[Cut, ...]
    held: Cut
    map: Cut
    examples: int

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the documents."""
        more = [name for name in (self.cluster, self.embedding, self.similarity) if name]
        return ("origin", "text", self.by, *more)


@dataclass(frozen=True)
class Seen:
    """What a shard adds; selections are the methods and the baseline, k in all.

    `pairs` int64[2, k, k]: documents and weight that two have in common. `sources`: by value of the column,
    int64[2, k]. `clusters`: numbers int64[c] in ascending order, and int64[c, 2, k]. `near` int64[2, k]: documents
    with a similarity and those that are alike. `examples`: by method those that it alone keeps, then those that it
    alone drops, as (draw, origin, text). `held`: by value of the column, documents, words and bytes of the texts
    measured. `words`: of each text for a model. `map`: the documents on it, with `draw`, `vector` and a
    truth for each selection.
    """

    pairs: np.ndarray
    sources: dict[str, np.ndarray]
    clusters: tuple[np.ndarray, np.ndarray]
    near: np.ndarray
    examples: list[list[tuple[int, str, str]]]
    held: dict[str, tuple[int, int, int]]
    words: list[int]
    map: pa.Table | None


def look(job: Job, plan: Look) -> Seen:
    """Read a shard, leave its bigrams in the scratch folder and tell the rest."""
    table, lines = job.table(), lines_of(plan.scratch, job.shard)
    chosen = np.array([queue.taken(lines, cut) for queue, cut in plan.selections])
    weight = lines["weight"].to_numpy()
    labels = one(table[plan.by].cast(pa.string())).fill_null(_NONE).dictionary_encode()
    held, words = _count_words(job, plan, table, lines, labels)
    names, code = labels.dictionary.to_pylist(), labels.indices.to_numpy()
    by_source = _sums(code, len(names), chosen, weight)
    exact = chosen.astype(np.float64)  # sums below 2^53 are whole numbers
    return Seen(
        np.stack([exact @ exact.T, (exact * weight) @ exact.T]).astype(np.int64),
        {name: by_source[i] for i, name in enumerate(names)},
        _clusters(table, plan, chosen, weight),
        _near(table, plan, chosen),
        list(_examples(table, plan, lines)),
        held,
        words,
        _mapped(table, plan, lines, chosen, labels),
    )


def _sums(group: np.ndarray, groups: int, chosen: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Documents and weight by group and selection, int64[groups, 2, k]."""
    out = np.zeros((groups, 2, len(chosen)), np.int64)
    for k, mask in enumerate(chosen):
        out[:, 0, k] = np.bincount(group[mask], minlength=groups)
        out[:, 1, k] = np.bincount(group[mask], weight[mask], groups)
    return out


def _clusters(table: pa.Table, plan: Look, chosen: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if plan.cluster is None:
        return np.empty(0, np.int64), np.empty((0, 2, len(chosen)), np.int64)
    column = one(table[plan.cluster].cast(pa.int64()))
    known = column.is_valid().to_numpy(zero_copy_only=False)
    numbers, group = np.unique(column.fill_null(0).to_numpy()[known], return_inverse=True)
    return numbers, _sums(group, len(numbers), chosen[:, known], weight[known])


def _near(table: pa.Table, plan: Look, chosen: np.ndarray) -> np.ndarray:
    if plan.similarity is None:
        return np.zeros((2, len(chosen)), np.int64)
    column = one(table[plan.similarity])
    known = column.is_valid().to_numpy(zero_copy_only=False)
    alike = column.fill_null(-1).to_numpy() > LIKE
    return np.stack([(chosen & known).sum(axis=1), (chosen & alike).sum(axis=1)]).astype(np.int64)


def _examples(table: pa.Table, plan: Look, lines: pa.Table) -> Iterator[list[tuple[int, str, str]]]:
    """Documents of the smallest draws that one expression alone keeps, and those that it alone drops."""
    kept = np.array([kept_by(lines, method) for method in range(plan.methods)])
    votes, free = kept.sum(axis=0), members(lines, EVERY)
    key = lines["key"].to_numpy()
    for mine in kept:
        for alone in (mine & (votes == 1), ~mine & (votes == plan.methods - 1)):
            rows = np.flatnonzero(alone & free) if plan.methods > 1 else np.empty(0, np.int64)
            rows = rows[np.argsort(key[rows], kind="stable")[: plan.examples]]
            shown = table.select(["origin", "text"]).take(pa.array(rows))
            texts = pc.utf8_slice_codeunits(shown["text"], 0, _SHOWN).to_pylist()
            yield list(zip(key[rows].tolist(), shown["origin"].to_pylist(), texts, strict=True))


def _mapped(
    table: pa.Table, plan: Look, lines: pa.Table, chosen: np.ndarray, labels: pa.DictionaryArray
) -> pa.Table | None:
    if plan.embedding is None:
        return None
    queue, cut = plan.map
    vector = one(table[plan.embedding])
    on = queue.taken(lines, cut) & vector.is_valid().to_numpy(zero_copy_only=False)
    rows = pa.array(np.flatnonzero(on))
    numbers = (
        pa.nulls(table.num_rows, pa.int64()) if plan.cluster is None else one(table[plan.cluster].cast(pa.int64()))
    )
    columns = {
        "draw": lines["key"].take(rows),
        "origin": one(table["origin"]).take(rows),
        "cluster": numbers.take(rows),
        "source": labels.dictionary_decode().take(rows),
        "vector": vector.take(rows),
    }
    return pa.table(columns | {f"in_{k}": pa.array(mask).take(rows) for k, mask in enumerate(chosen)})


def _count_words(
    job: Job, plan: Look, table: pa.Table, lines: pa.Table, labels: pa.DictionaryArray
) -> tuple[dict[str, tuple[int, int, int]], list[int]]:
    """Leave the bigrams of each text and of the documents held out; words of these and those."""
    texts = [queue.taken(lines, cut) for queue, cut in plan.texts]
    held = plan.held[0].taken(lines, plan.held[1])
    needed = np.logical_or.reduce([*texts, held])
    column = one(table["text"]).filter(pa.array(needed))
    words = bigrams.words_of(column)
    bytes_of = pc.binary_length(column).to_numpy(zero_copy_only=False)
    words_in, codes = np.diff(words.first), words.bigrams()
    put(place(plan.scratch, "words", job.shard), _counts((words.distinct, words.seen(~held[needed]))))
    sizes = []
    for number, mask in enumerate(texts):
        rows = mask[needed]
        put(place(plan.scratch, f"text-{number}", job.shard), _counts(words.counted(codes, rows)))
        sizes.append(int(words_in[rows].sum()))
    told = {}
    label = labels.indices.to_numpy()[needed]
    for value in np.unique(label[held[needed]]):
        rows = held[needed] & (label == value)
        name = labels.dictionary[int(value)].as_py()
        put(place(plan.scratch, f"held-{name_key(name)}", job.shard), _counts(words.counted(codes, rows)))
        told[name] = int(rows.sum()), int(words_in[rows].sum()), int(bytes_of[rows].sum())
    return told, sizes


def place(scratch: str, what: str, shard: int) -> str:
    """Where counts of a shard lie."""
    return store.join(scratch, f"{what}-of-{shard}")


def name_key(name: str) -> str:
    """A word of any letters as part of a file's name."""
    return xxhash.xxh3_128_hexdigest(name.encode())


def _counts(counts: bigrams.Counts) -> pa.Table:
    return pa.table({"key": counts[0], "count": counts[1]})
