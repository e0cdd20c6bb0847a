"""Several methods of selection on the documents of one run, each cut to the same budget, side by side.

A project annotates first and selects last, so the columns of many methods stand on the same documents, and what each
would select is an expression. Shards are looked at twice: once at columns, to find where each budget ends, and once at
text, for all methods together. The catch: the measure by held-out text is how close a selection is to that text, and
not the quality of a model trained on it; pruning that helps a model may well take a selection away from web text.
"""

import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate import bigrams, candidates, comparison, expressions, store
from curate.arrow import encode
from curate.candidates import EVERY, HELD, MOST_METHODS, Documents, Goal, Question, Scanned, cuts, get, put, scanned
from curate.comparison import Score
from curate.errors import RecipeError
from curate.execute import serial
from curate.manifest import canonical
from curate.overlap import Look, Seen, look, name_key, place
from curate.stage import Map

RANDOM = "random"
ON_MAP = 20_000
_BYTES_PER_TOKEN = 4  # of English, roughly: where only bytes are known, a budget for the model is so many times larger
_TAKEN = ("origin", "x", "y", "cluster", "source", RANDOM)
_NOTE = (
    "bits per word of held-out text measure how close a selection is to that text, and not the quality of a model that "
    "is trained on it; near copies of that text in a selection count for it"
)

Told = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What to compare. `methods`: names with expressions that keep a document where they are true.

    The budget: `tokens`, or `keep` as a share of all that is not held out; without both, what the smallest method
    keeps. `held_out`: an expression; without one a keyed draw holds out one text of 50 with its exact copies; near
    copies stay, and what keeps them is closer to the held-out text. `among`: only documents for which this holds may be
    selected, say all that are no targets, which `target` cannot choose. `seeds`: cuts by different draws. `by`,
    `cluster`, `embedding`: columns (the last two None: `cluster` and `embedding`, where there are such); `of`: the step
    whose documents are meant. `measure_tokens`: the most tokens that a bigram model is made of, and the most of
    held-out text. `examples`: documents shown for each method and side.
    """

    methods: Sequence[tuple[str, str]]
    tokens: int | None = None
    keep: float | None = None
    held_out: str | None = None
    among: str | None = None
    seeds: int = 3
    by: str = "source"
    cluster: str | None = None
    embedding: str | None = None
    of: str | None = None
    measure_tokens: int = 20_000_000
    examples: int = 3

    def __post_init__(self) -> None:
        names = [name for name, _ in self.methods]
        if not names:
            raise RecipeError("nothing to compare: give a method, such as `semantic=not semantic_duplicate`")
        if len(names) > MOST_METHODS:
            raise RecipeError(f"at most {MOST_METHODS} methods are compared at once, found {len(names)}")
        for name, expression in self.methods:
            if names.count(name) > 1:
                raise RecipeError(f"two methods are called '{name}': give each a name of its own")
            if not name or name in _TAKEN:
                raise RecipeError(f"a method cannot be called '{name}': {', '.join(_TAKEN)} mean something else")
            _parsed(f"method '{name}'", expression)
        if self.held_out is not None:
            _parsed("held-out documents", self.held_out)
        if self.among is not None:
            _parsed("documents to select among", self.among)
        if self.tokens is not None and self.keep is not None:
            raise RecipeError("give a budget in tokens or as a share (keep), not both")
        if self.tokens is not None and self.tokens < 1:
            raise RecipeError(f"a budget is above 0, found {self.tokens}")
        if self.keep is not None and not 0 < self.keep <= 1:
            raise RecipeError(f"`keep` is a share above 0 and at most 1, found {self.keep}")
        if not 1 <= self.seeds <= 100:
            raise RecipeError(f"1 to 100 seeds can be compared, found {self.seeds}")
        if self.measure_tokens < 1:
            raise RecipeError(f"a model is made of one token at least, found {self.measure_tokens}")

    @property
    def expressions(self) -> tuple[str, ...]:
        """Those of the methods, in order."""
        return tuple(expression for _, expression in self.methods)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the methods and the baseline."""
        return (*(name for name, _ in self.methods), RANDOM)


class Text(NamedTuple):
    """A text that a bigram model is made of: the selection by number, the goal that ends it."""

    selection: int
    goal: Goal


def compare_selection(out: str, asked: Asked, *, map: Map = serial, folder: str | None = None) -> Told:
    """What each method selects of the documents of the run in `out` at one budget, and the `random` baseline.

    By method: documents and tokens (of the column `tokens`, else words, else bytes: `unit`), shares by source, clusters
    with at least one document, their effective number (e to the entropy of the shares in tokens) and the largest share,
    near duplicates left, bits per word and byte of held-out text with the mean and standard deviation over seeds where
    draws have a part in what a model is made of, and documents that only it keeps or drops. `overlap`: Jaccard by
    documents, and the share of one's tokens that the other has. All but bits is of the first seed.

    With `folder`, `comparison.json` with the same goes there, and, where rows have embeddings, `map.parquet`. Memory:
    a shard's text and some 50 bytes for each of `measure_tokens`, per worker. RecipeError for columns that documents
    do not have, for a method that keeps nothing, a budget above all text, and where nothing is held out.
    """
    if folder == "":
        raise RecipeError("the name of a folder to write to is wanted, found ''")
    found = _documents(out, asked)
    with tempfile.TemporaryDirectory(prefix="curate-compare-") as scratch:
        question = Question(asked.expressions, asked.held_out, _unit(found), scratch, asked.seeds, asked.among)
        scan = scanned(found.jobs(question.reads), question, map)
        budget = _budget(asked, scan, question.unit)
        texts, plan = _plan(asked, found, question, scan, budget, map)
        seen = list(map(partial(look, plan=plan), found.jobs(plan.reads)))
        scores, measure = _scores(scratch, texts, seen, map)
    totals = np.append(scan.weight[: len(asked.methods)], scan.weight[EVERY])
    measure = {"note": _NOTE, "most": asked.measure_tokens, **measure}
    named: list[tuple[str, str | None]] = [*asked.methods, (RANDOM, None)]
    told: Told = {
        "run": out,
        "of": found.name,
        "unit": question.unit,
        "documents": int(scan.documents[EVERY]),
        "size": int(scan.weight[EVERY]),
        "budget": budget,
        "seeds": asked.seeds,
        "by": asked.by,
        "methods": comparison.methods(named, totals, budget, seen, examples=asked.examples),
        "overlap": comparison.overlap(asked.names, seen),
        "among": asked.among,
        "held_out": {"where": asked.held_out, **_held(scan, seen)},
        "measure": measure,
        "map": None,
    }
    for k, method in enumerate(told["methods"]):
        mine = [score for text, score in zip(texts, scores, strict=True) if text.selection == k]
        method["closeness"] = comparison.closeness(mine, told["held_out"]["measured"])
    if folder is not None:
        _write(folder, told, comparison.points(asked.names, seen))
    return told


def _write(folder: str, told: Told, points: tuple[pa.Table, list[float]] | None) -> None:
    if points is not None:
        store.put(store.join(folder, "map.parquet"), encode(points[0]).data)
        told["map"] = {"file": "map.parquet", "documents": points[0].num_rows, "variance": points[1]}
    store.put(store.join(folder, "comparison.json"), canonical(told, indent=1))


def _parsed(what: str, expression: str) -> None:
    try:
        expressions.parse(expression)
    except RecipeError as error:
        raise RecipeError(f"{what}: {error}") from error


def _documents(out: str, asked: Asked) -> Documents:
    every = (*asked.expressions, *(given for given in (asked.held_out, asked.among) if given))
    names = [name for expression in every for name in expressions.columns(expression)]
    wanted = [asked.by, *(name for name in (asked.cluster, asked.embedding) if name)]
    found = candidates.documents(out, names, wanted, asked.of)
    kind = found.columns[asked.by]
    if not kind.startswith(("dictionary", "string", "int", "uint", "bool", "null")):
        raise RecipeError(f"'{asked.by}' is {kind}: documents are told apart by words and whole numbers")
    if asked.cluster and not (kind := found.columns[asked.cluster]).startswith(("int", "uint")):
        raise RecipeError(f"'{asked.cluster}' is {kind}: clusters are whole numbers")
    if asked.embedding and not found.columns[asked.embedding].startswith("fixed_size_list"):
        raise RecipeError(f"'{asked.embedding}' is {found.columns[asked.embedding]}: a map is made of vectors")
    return found


def _unit(found: Documents) -> str:
    """What a budget is counted in: the first of these columns that documents have."""
    held = found.columns
    return next(name for name in ("tokens", "words", "bytes") if held.get(name, "").startswith(("int", "uint")))


def _budget(asked: Asked, scan: Scanned, unit: str) -> int:
    """The budget of every method, in `unit`."""
    whole = int(scan.weight[EVERY])
    if not scan.documents[HELD]:
        how = f"`{asked.held_out}` holds for none" if asked.held_out else "too few for a keyed 1 in 50"
        raise RecipeError(
            f"no document is held out of {int(scan.documents.max()):,} ({how}): give an expression that holds for some"
        )
    if not whole:
        raise RecipeError("all documents are held out: nothing is left to select from")
    for (name, expression), weight in zip(asked.methods, scan.weight, strict=False):
        if not weight:
            raise RecipeError(f"method '{name}' keeps no {unit}: `{expression}` holds for no document not held out")
    if asked.tokens is not None and asked.tokens > whole:
        raise RecipeError(f"the budget is {asked.tokens:,} {unit}, more than all documents have: {whole:,}")
    if asked.tokens is not None:
        return asked.tokens
    if asked.keep is not None:
        return max(1, math.ceil(Fraction(str(asked.keep)) * whole))
    return int(scan.weight[: len(asked.methods)].min())


def _plan(
    asked: Asked, found: Documents, question: Question, scan: Scanned, budget: int, map: Map
) -> tuple[list[Text], Look]:
    """The texts that models are made of, and what to look at in every shard."""
    methods, seeds, queues = len(asked.methods), asked.seeds, question.queues()
    most = asked.measure_tokens * (_BYTES_PER_TOKEN if question.unit == "bytes" else 1)
    texts = []
    for k in range(methods + 1):
        is_part = min(budget, most) < scan.weight[EVERY if k == methods else k]
        texts += [Text(k, (k * seeds + seed, min(budget, most))) for seed in range(seeds if is_part else 1)]
    selections: list[Goal] = [(k * seeds, budget) for k in range(methods + 1)]
    last: list[Goal] = [(len(queues) - 2, most), (len(queues) - 1, ON_MAP)]
    goals = [*selections, *(text.goal for text in texts), *last]
    ends = cuts(list(dict.fromkeys(goals)), question, scan, len(found.view.documents.manifest.shards), map)
    held = found.columns
    made = [(queues[goal[0]], ends[goal]) for goal in goals]
    return texts, Look(
        question.scratch,
        methods,
        asked.by,
        asked.cluster or ("cluster" if held.get("cluster", "").startswith(("int", "uint")) else None),
        asked.embedding or ("embedding" if held.get("embedding", "").startswith("fixed_size_list") else None),
        "semantic_similarity" if "semantic_similarity" in held else None,
        tuple(made[: methods + 1]),
        tuple(made[methods + 1 : -2]),
        made[-2],
        made[-1],
        asked.examples,
    )


def _held(scan: Scanned, seen: list[Seen]) -> Told:
    """Documents held out, and what was measured of them, by source."""
    sums: dict[str, np.ndarray] = {}
    for shard in seen:
        for name, counts in shard.held.items():
            sums[name] = sums.get(name, np.zeros(3, np.int64)) + np.array(counts)
    measured = {
        name: dict(zip(("documents", "words", "bytes"), sums[name].tolist(), strict=True)) for name in sorted(sums)
    }
    return {"documents": int(scan.documents[HELD]), "size": int(scan.weight[HELD]), "measured": measured}


def _scores(scratch: str, texts: list[Text], seen: list[Seen], map: Map) -> tuple[list[Score], Told]:
    """What a model of each text says of the held-out documents, and facts of all models."""
    shards = len(seen)
    known = bigrams.vocabulary(_counts(scratch, "words", shard) for shard in range(shards))
    put(store.join(scratch, "vocabulary"), pa.table({"word": known}))
    sources = sorted({name for shard in seen for name in shard.held})
    unknown = 0
    for name in sources:
        there = [shard for shard in range(shards) if name in seen[shard].held]
        codes, counts = _pieces(scratch, f"held-{name_key(name)}", there, known)
        put(store.join(scratch, f"held-{name_key(name)}"), pa.table({"key": codes, "count": counts}))
        unknown += int(counts[codes % (len(known) + 2) == len(known)].sum())
    work = partial(_score, scratch=scratch, shards=shards, sources=sources)
    scores = list(map(work, range(len(texts))))
    words = [sum(shard.words[number] for shard in seen) for number in range(len(texts))]
    return scores, {
        "model": "word bigrams, interpolated absolute discounting",
        "discount": bigrams.DISCOUNT,
        "vocabulary": len(known),
        "unknown_words": unknown,
        "words_per_model": {"least": min(words), "most": max(words)},
    }


def _score(number: int, scratch: str, shards: int, sources: list[str]) -> Score:
    known = get(store.join(scratch, "vocabulary"))["word"].to_numpy()
    model = bigrams.Model.of(_pieces(scratch, f"text-{number}", range(shards), known), len(known))
    there = np.zeros(len(known) + 2, bool)
    there[model.codes % (len(known) + 2)] = True
    there[-2:] = True  # the unknown word is in no selection's favour
    bits, unseen = {}, 0
    for name in sources:
        codes, counts = _columns(get(store.join(scratch, f"held-{name_key(name)}")))
        bits[name] = model.bits((codes, counts))
        unseen += int(counts[~there[codes % (len(known) + 2)]].sum())
    return Score(bits, unseen)


def _pieces(scratch: str, what: str, shards: Iterable[int], known: np.ndarray) -> bigrams.Counts:
    """Bigrams of all shards in the numbers of the vocabulary."""
    return bigrams.added(
        bigrams.translated(_counts(scratch, what, shard), _counts(scratch, "words", shard)[0], known)
        for shard in shards
    )


def _counts(scratch: str, what: str, shard: int) -> bigrams.Counts:
    return _columns(get(place(scratch, what, shard)))


def _columns(table: pa.Table) -> bigrams.Counts:
    return table["key"].to_numpy(), table["count"].to_numpy()
