"""Selection towards a target set: of a large corpus the documents most like a few that are wanted.

Three methods. `rds`: each target document, or each task, in turn picks the document whose embedding is nearest (RDS+,
Ivison et al. 2025, arXiv 2503.01807, with any embeddings). `got`: those whose greater mass brings the corpus nearer to
the targets as a whole, by the potentials of optimal transport (GOT-D, Kang et al. 2024, arXiv 2405.02774). `dsir`:
drawn by importance, how much likelier a text's words and pairs of words are among the targets than in the corpus (Xie
et al. 2023, arXiv 2302.03169). The targets are documents of the corpus themselves, say development examples as a
source of their own.

The catch: near copies of one good document are all chosen, so remove duplicates first; and what is most like the
development examples of a test may be the test, so decontaminate too. `rds` costs products of all documents with all
targets, some four times; `dsir` needs no embeddings, and keeps about half a text's size as evidence.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from curate import draw, expressions, importance, kmeans, pruning, rounds, store, targeting, transport
from curate.arrow import large_lists, lists, one, row_hashes, utf8, vectors
from curate.errors import RecipeError
from curate.rounds import Chosen, Lists
from curate.stage import Evidence, Map, Stage, Verdict
from curate.targeting import Scored, Total
from curate.transport import Potentials

_Score = Callable[[pa.Table], np.ndarray]
_SAMPLE, _TARGETS, _LISTS = 20_000, 4_000, 4_096
_DRAW = 0x746172676574  # "target": added to the seed, so that the sample is not that of another stage
_WIDTH, _TEXT, _SPEED = 384, 3000, 2e10
"""What estimates take for granted: numbers of an embedding, bytes of a document, operations a second of a core."""


@dataclass(frozen=True)
class Target(Stage):
    """Adds `target_score` (float32, higher is better), `target_task` (string) and `targeted` (bool): chosen.

    `towards`: rows for which this expression holds are the targets; they are never chosen. Of all others those compete
    for which `among` holds, with `rds` and `got` if they have an embedding. Rows that do not compete have no score.
    `keep`: the share of the competing documents that is chosen, rounded down, or of their tokens (`unit: tokens`,
    column `tokens`): then documents in order until their tokens first reach the budget. Ties go by `id`, then `origin`.

    `by: rds`. `target_score` is the largest cosine to a target. Targets take turns in order of `id`, then `origin`,
    each with the nearest to it; one that is taken already costs the turn. With `task`, a column of words, tasks take
    turns in order of their names, and the nearest is that with the largest cosine to any target of the task;
    `target_task` is the task that has the score. At most 4,096 take turns.
    `by: got`. `target_score` is how fast the distance to the targets falls as the document gains mass: minus the
    calibrated gradient, or, with `direction: away`, the gradient. Potentials are fitted to `sample` of the competing
    documents and `targets` of the targets (20,000 and 4,000 if not given, or all if there are fewer), drawn by `seed`.
    `epsilon` blurs the transport, in units of 1 - cosine; not given, it is 0.05 of the median cost.
    `by: dsir`. `target_score` is the log of the ratio of chances of the text's words and pairs of words. Chosen are the
    largest sums of it and a Gumbel draw of `seed`: a sample without replacement in proportion to the ratio.

    `embedding`: the column to use.
    """

    kind: ClassVar[str] = "target"
    by: Literal["rds", "got", "dsir"]
    towards: str
    keep: float
    unit: Literal["documents", "tokens"] = "documents"
    task: str | None = None
    among: str | None = None
    seed: int = 0
    embedding: str = "embedding"
    direction: Literal["towards", "away"] = "towards"
    sample: int | None = None
    targets: int | None = None
    epsilon: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise RecipeError(f"`keep` is {self.keep}; it is a share, above 0 and at most 1")
        usual = {"task": ("rds", None), "seed": ("got dsir", 0), "embedding": ("rds got", "embedding")}
        usual |= {"sample": ("got", None), "targets": ("got", None), "epsilon": ("got", None)}
        usual |= {"direction": ("got", "towards")}
        for name, (methods, value) in usual.items():
            if self.by not in methods.split() and getattr(self, name) != value:
                kinds = " and ".join(f"`by: {method}`" for method in methods.split())
                raise RecipeError(f"`{name}` belongs to {kinds}, and this is `by: {self.by}`")
        for name in ("sample", "targets"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise RecipeError(f"`{name}` is {number}; a whole number from 1 on is wanted")
        if self.epsilon is not None and not 0 < self.epsilon < 2:
            raise RecipeError(f"`epsilon` is {self.epsilon}; it is above 0, and below 2, the largest cost")
        if not 0 <= self.seed < 2**63 - _DRAW:
            raise RecipeError(f"`seed` is {self.seed}; it is 0 or more and below 2^63")
        for name in ("task", "embedding"):
            if getattr(self, name) == "":
                raise RecipeError(f"`{name}` is '': give the name of a column")
        for expression in (self.towards, self.among):
            if expression is not None:
                expressions.parse(expression)

    @property
    def reads(self) -> tuple[str, ...]:
        extra = (
            *expressions.columns(self.towards),
            *(("tokens",) if self.unit == "tokens" else ()),
            *((self.task,) if self.task else ()),
            *(expressions.columns(self.among) if self.among else ()),
        )
        return tuple(dict.fromkeys(("text" if self.by == "dsir" else self.embedding, *draw.READS, *extra)))

    @property
    def adds(self) -> tuple[str, ...]:
        return ("target_score", "target_task", "targeted")

    @property
    def applies_to(self) -> tuple[str, ...]:
        return ()

    @property
    def heft(self) -> int:
        return _TEXT // 50 if self.by == "dsir" else 26

    # --- what shards say ---------------------------------------------------------------------------------------------

    def scan(self, shard: pa.Table) -> pa.Table:
        target = expressions.evaluate(self.towards, shard)[0]
        compete = ~target
        if self.among:
            compete &= expressions.evaluate(self.among, shard)[0]
        if self.by == "dsir":
            row, more = _features(shard["text"], target, compete)
        else:
            row, more = self._embeddings(shard, target, compete)
        rows = shard.take(pa.array(row))
        said = pa.table({"id": one(rows["id"]), "origin": row_hashes(rows.select(["origin"]))})
        if self.unit == "tokens":
            more |= {"weight": _whole(rows["tokens"])}
        key = np.where(target[row], np.uint64(0), self._draws(said))
        for name, column in {"key": key, "row": row.astype(np.uint32), "target": target[row], **more}.items():
            said = said.append_column(name, pa.array(column))
        return said

    def _draws(self, rows: pa.Table) -> np.ndarray:
        """One uint64 for each row, from `id` and the hash that is `origin` in evidence."""
        return draw.keyed_by(rows.select(["id", "origin"]), self.seed + _DRAW)

    def _embeddings(
        self, shard: pa.Table, target: np.ndarray, compete: np.ndarray
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Rows that are targets or compete and have a vector, and what is said of them."""
        found, valid = self._vectors(shard)
        if self.by == "got":
            aims = np.flatnonzero(target & valid)
            some = shard.select(["id", "origin"]).take(pa.array(aims))
            named = pa.table({"id": one(some["id"]), "origin": row_hashes(some.select(["origin"]))})
            target = np.zeros(len(target), bool)
            target[aims[np.argsort(self._draws(named), kind="stable")[: self.targets or _TARGETS]]] = True
        row = np.flatnonzero((target | compete) & valid)
        kmeans.demand_units(found, row, shard, self.embedding)
        said: dict[str, Any] = {"embedding": one(shard[self.embedding]).take(pa.array(row))}
        return row, said | ({"task": self._tasks(shard, row, target[row])} if self.task else {})

    def _vectors(self, shard: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        try:
            return vectors(shard[self.embedding])
        except RecipeError as error:
            raise RecipeError(f"target: '{self.embedding}': {error}") from error

    def _tasks(self, shard: pa.Table, row: np.ndarray, target: np.ndarray) -> pa.Array:
        """The task of each target; of others, nothing."""
        column = one(shard[self.task])
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise RecipeError(f"target: `task` is '{self.task}', a column of {kind}; names of tasks are wanted")
        tasks = column.take(pa.array(row)).cast(pa.string())
        unknown = np.flatnonzero(target & ~tasks.is_valid().to_numpy(zero_copy_only=False))
        if len(unknown):
            where = shard["origin"][int(row[unknown[0]])]
            raise RecipeError(f"target: '{self.task}' is null in {where}, which is a target; each target has a task")
        return pa.array(np.where(target, tasks.fill_null("").to_numpy(zero_copy_only=False), ""), pa.string())

    # --- what is decided ---------------------------------------------------------------------------------------------

    def judge(self, evidence: Evidence, map: Map) -> pa.Table:
        """`task` (null without) and how many `targets` it has, in the order of turns."""
        parts = range(evidence.parts)
        aims = targeting.targets(evidence)
        sums = zip(*map(partial(targeting.total, evidence=evidence), parts), strict=True)
        total = Total(*(sum(each) for each in sums))
        has = "" if self.by == "dsir" else f" with '{self.embedding}'"
        if aims is None:
            raise RecipeError(f"target: there is no document{has} for which `{self.towards}` holds; a target is needed")
        if not total.rows:
            among = f" for which `{self.among}` holds" if self.among else ""
            raise RecipeError(f"target: there is nothing to choose from: no document{has}{among} but targets")
        budget = pruning.share(self.keep, total.weight)
        if self.by == "rds":
            return self._by_turns(aims, budget, evidence, map)
        found, score = self._by_potential(aims, evidence, map) if self.by == "got" else _by_ratio(aims, evidence, map)
        last = targeting.last(found, budget, map)
        for _ in map(partial(_write_cut, evidence=evidence, found=found, last=last, score=score), found.files):
            pass
        for uri in found.files.values():
            store.remove(uri)
        number = _number(aims) if self.by == "dsir" else min(aims.num_rows, self.targets or _TARGETS)
        return _whole_table([None], [number])

    def _by_turns(self, aims: pa.Table, budget: int, evidence: Evidence, map: Map) -> pa.Table:
        names: list[str | None] = [None]
        counts, task, turns = [aims.num_rows], None, aims.num_rows
        if self.task:
            found, task, many = np.unique(aims["task"].to_numpy().astype(str), return_inverse=True, return_counts=True)
            names, counts, turns = found.tolist(), many.tolist(), len(found)
        if turns > _LISTS:
            fewer = "give fewer tasks" if self.task else "give fewer, or `task`: then tasks take turns"
            many_ = f"{turns:,} {'tasks' if self.task else 'targets'}"
            raise RecipeError(f"target: {many_} would take turns; at most {_LISTS:,} can: {fewer}")
        lists = rounds.by_task(vectors(aims["embedding"])[0], task)

        def over(work: Callable[..., Any], **given: Any) -> list[Any]:
            """What a function of a part gives for all parts that have rows."""
            results = map(partial(work, evidence=evidence, **given), range(evidence.parts))
            return [result for result in results if result is not None]

        chosen = rounds.take(lists, budget, over, rows=evidence.rows)
        for _ in map(partial(_write_turns, evidence=evidence, lists=lists, chosen=chosen), range(evidence.parts)):
            pass
        return _whole_table(names, counts)

    def _by_potential(self, aims: pa.Table, evidence: Evidence, map: Map) -> tuple[Scored, _Score]:
        pool = targeting.first(evidence, self.sample or _SAMPLE)
        assert pool is not None
        aims = aims.take(pa.array(np.argsort(self._draws(aims), kind="stable")[: self.targets or _TARGETS]))
        potentials = transport.fit(
            vectors(pool["embedding"])[0],
            vectors(aims["embedding"])[0],
            epsilon=self.epsilon,
        )
        if potentials.remark:
            raise RecipeError(f"target: {potentials.remark}")
        sign = 1.0 if self.direction == "towards" else -1.0
        found = targeting.scored(evidence, map, partial(_potential, potentials=potentials, sign=sign))
        return found, partial(_gradient, total=found.total)

    # --- what is carried out -----------------------------------------------------------------------------------------

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        score, task = pa.nulls(shard.num_rows, pa.float32()), pa.nulls(shard.num_rows, pa.string())
        targeted = np.zeros(shard.num_rows, bool)
        if verdict.lines is not None:
            assert verdict.whole is not None
            lines, place = verdict.lines, np.full(shard.num_rows, -1, np.int64)
            row = lines["row"].to_numpy()
            place[row] = np.arange(len(row))
            where = pa.array(place, mask=place < 0)
            score = one(lines["score"]).take(where)
            targeted[row] = lines["targeted"].to_numpy()
            if self.task:
                task = one(verdict.whole["task"]).take(one(lines["list"]).take(where))
        return pa.table(dict(zip(self.adds, (score, task, targeted), strict=True)))

    def remarks(self, text: int) -> tuple[str, ...]:
        documents = text / _TEXT
        about = f"for embeddings of {_WIDTH} numbers, and a document for each {_TEXT} bytes: "
        if self.by == "rds":
            each = 2 * documents * _WIDTH / _SPEED
            return (f"{about}{each:,.2f} CPU-seconds for each target in each pass over them, some four of them",)
        if self.by == "dsir":
            return ()
        sample, targets = min(self.sample or _SAMPLE, documents), self.targets or _TARGETS
        sinkhorn = sample * targets * (2 * _WIDTH + 1000) / _SPEED
        giving = 2 * documents * targets * _WIDTH / _SPEED
        return (
            f"{about}at most {sinkhorn:,.0f} CPU-seconds to fit potentials to {sample:,.0f} of them and {targets:,} "
            f"targets, {giving:,.0f} more to give each its own",
        )

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        return {"marked": {"targeted": int(np.count_nonzero(made["targeted"].to_numpy()))}}


def _whole_table(names: list[str | None], counts: list[int]) -> pa.Table:
    return pa.table({"task": pa.array(names, pa.string()), "targets": pa.array(counts, pa.int64())})


def _whole(column: pa.ChunkedArray) -> np.ndarray:
    """Tokens of each row, int64[n]; null counts as none."""
    if not pa.types.is_integer(column.type):
        raise RecipeError(f"target: `tokens` is a column of {column.type}; numbers of tokens are wanted")
    tokens: np.ndarray = one(column.cast(pa.int64()).fill_null(0)).to_numpy()
    return tokens


def _write_turns(part: int, evidence: Evidence, lists: Lists, chosen: Chosen) -> None:
    if not store.exists(evidence.place(part)):
        lines = rounds.verdict(part, evidence, lists, chosen)
        if lines is not None:
            evidence.keep(part, lines)


def _write_cut(part: int, evidence: Evidence, found: Scored, last: np.ndarray | None, score: _Score) -> None:
    if not store.exists(evidence.place(part)):
        evidence.keep(part, targeting.verdict(part, found, last, score))


# --- optimal transport -----------------------------------------------------------------------------------------------


def _potential(table: pa.Table, potentials: Potentials, sign: float) -> tuple[np.ndarray, np.ndarray]:
    found = potentials.f(vectors(table["embedding"])[0]) * sign
    return found, found


def _gradient(table: pa.Table, total: Total) -> np.ndarray:
    own = targeting.steps_of(table) / targeting.STEPS
    return -transport.gradients(own, total=total.steps / targeting.STEPS, count=total.rows)


# --- importance ------------------------------------------------------------------------------------------------------


def _features(texts: pa.ChunkedArray, target: np.ndarray, compete: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Of each row that competes its features; and of all targets together, in the row of the first, how often each
    feature is there, then how many targets there are."""
    first, rows = np.flatnonzero(target)[:1], np.flatnonzero(compete)
    offsets, buckets = importance.features(*utf8(one(texts).take(pa.array(np.flatnonzero(target)))))
    counts = importance.counts(offsets, buckets, np.arange(len(offsets) - 1))
    counts = np.append(counts, len(offsets) - 1)
    offsets, buckets = importance.features(*utf8(one(texts).take(pa.array(rows))))
    none = np.zeros(len(first), np.int64)
    says = np.zeros(len(first) + len(rows) + 1, np.int64)
    says[1:] = len(counts) * len(first)
    return np.concatenate((first, rows)), {
        "buckets": large_lists(np.concatenate((none, offsets)), buckets),
        "counts": large_lists(says, counts if len(first) else counts[:0]),
    }


def _targets_counts(aims: pa.Table) -> np.ndarray:
    """How often each feature is in the targets, int64[buckets]."""
    return _sums(aims)[:-1]


def _number(aims: pa.Table) -> int:
    """How many targets there are."""
    return int(_sums(aims)[-1])


def _sums(aims: pa.Table) -> np.ndarray:
    offsets, values = lists(aims["counts"])
    found: np.ndarray = values[offsets[0] : offsets[-1]].reshape(aims.num_rows, -1).sum(axis=0)
    return found


def _by_ratio(aims: pa.Table, evidence: Evidence, map: Map) -> tuple[Scored, _Score]:
    pool = np.sum(list(map(partial(_counts, evidence=evidence), range(evidence.parts))), axis=0)
    ratio = importance.log_ratio(_targets_counts(aims), pool)
    return targeting.scored(evidence, map, partial(_noisy, ratio=ratio)), _kept_score


def _counts(part: int, evidence: Evidence) -> np.ndarray:
    """How often each feature is in the rows of a part that compete, int64[buckets]."""
    found = np.zeros(importance.BUCKETS, np.int64)
    for table in targeting.competing(part, evidence):
        found += importance.counts(*lists(table["buckets"]), np.arange(table.num_rows))
    return found


def _noisy(table: pa.Table, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What rows are cut by, and their scores: the largest sums of score and noise come first."""
    score = importance.scores(*lists(table["buckets"]), ratio)
    # The upper 53 bits of the draw and a half: between 0 and 1, both left out.
    chance = ((table["key"].to_numpy() >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return np.log(-np.log(chance)) - score, score


def _kept_score(table: pa.Table) -> np.ndarray:
    score: np.ndarray = table["score"].to_numpy()
    return score
