"""Selection towards targets against sorting everything at once, however the corpus is cut; and what the papers say."""

import dataclasses
import math
import pickle

import numpy as np
import pyarrow as pa
import pytest
from driving import cut_into, driven, outcome
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle_target import slow_budget, slow_cut, slow_gradients, slow_ratios, slow_turns

from curate import draw, rounds, store, transport
from curate.arrow import binary, row_hashes, utf8
from curate.errors import DataError, RecipeError
from curate.execute import serial
from curate.kernels.hash import xxh3_128
from curate.stages import target as stages
from curate.stages.target import Target

WIDTH = 4
WORDS = ["a", "cat", "dog", "the", "sat", "ran"]
SCHEMA = pa.schema([("target_score", pa.float32()), ("target_task", pa.string()), ("targeted", pa.bool_())])


def corpus(rows):
    """Documents from (source, task, vector or None, words, tokens); texts repeat, so ids do."""
    source, task, vector, words, tokens = zip(*rows, strict=True) if rows else ((),) * 5
    texts = pa.array([" ".join(w) for w in words], pa.large_string())
    ids = np.empty((len(rows), 16), np.uint8)
    xxh3_128(*utf8(texts), ids)
    flat = np.array([v or (0.0,) * WIDTH for v in vector], np.float16).reshape(-1)
    return pa.table(
        {
            "id": binary(ids),
            "origin": pa.array([f"raw/{i * 7919 % 1009}:{i}" for i in range(len(rows))], pa.string()),
            "text": texts,
            "source": pa.array(source, pa.string()).dictionary_encode(),
            "subject": pa.array(task, pa.string()),
            "tokens": pa.array(tokens, pa.int32()),
            "embedding": pa.FixedSizeListArray.from_arrays(
                pa.array(flat), WIDTH, mask=pa.array([v is None for v in vector], pa.bool_())
            ),
        }
    )


def travelling(work, jobs):
    """Work that is sent to another process, as pools do."""
    return [pickle.loads(pickle.dumps(work))(job) for job in jobs]


def target(stage, shards, part_rows=10_000):
    with driven(stage, shards, part_rows=part_rows, map=travelling) as run:
        made = pa.concat_tables(run.applied())
    assert made.schema == SCHEMA
    return made


def unit(vector):
    size = math.sqrt(sum(v * v for v in vector))
    return tuple(v / size for v in vector)


VECTOR = st.tuples(*[st.sampled_from([-1.0, -0.3, 0.0, 0.2, 1.0])] * WIDTH).filter(any).map(unit)
ROW = st.tuples(
    st.sampled_from(["web", "web", "web", "books", "dev"]),
    st.sampled_from(["maths", "law", "code"]),
    st.one_of(VECTOR, VECTOR, VECTOR, st.none()),
    st.lists(st.sampled_from(WORDS), max_size=6),
    st.integers(0, 30),
)
ROWS = st.lists(ROW, min_size=4, max_size=40)
KEEP = st.sampled_from([0.1, 0.3, 1 / 3, 0.5, 0.75, 0.9, 1.0])
UNIT = st.sampled_from(["documents", "tokens"])
DEV = "source = 'dev'"
WAYS = [
    {"by": "rds"},
    {"by": "rds", "task": "subject"},
    {"by": "got"},
    {"by": "got", "direction": "away", "sample": 6, "targets": 2, "seed": 5, "epsilon": 0.2},
    {"by": "dsir"},
]
WAY = ["rds", "tasks", "got", "away", "dsir"]


def slowly(stage, table):
    """What is chosen, the score and the task of each document, None where it does not compete."""
    rows = table.to_pylist()
    origins = row_hashes(table.select(["origin"]))
    named = pa.table({"id": table["id"].combine_chunks(), "origin": origins})
    for row, origin, key in zip(rows, origins.tolist(), draw.keyed_by(named, stage.seed + stages._DRAW), strict=True):
        row |= {"origin_hash": origin, "draw": int(key), "vector": row["embedding"], "text": row["text"]}
        row |= {"weight": row["tokens"] if stage.unit == "tokens" else 1, "task": row[stage.task or "vector"]}
        row["task"] = row["subject"] if stage.task else None
    some = [row for row in rows if stage.by == "dsir" or row["vector"] is not None]
    aims = [row for row in some if row["source"] == "dev"]
    pool = [row for row in some if row["source"] != "dev" and (not stage.among or row["source"] == "web")]
    if stage.by == "rds":
        found = slow_turns(pool, aims, keep=stage.keep)
    elif stage.by == "got":
        first = sorted(pool, key=lambda row: row["draw"])[: stage.sample or 20_000]
        aims = sorted(aims, key=lambda row: row["draw"])[: stage.targets or 4_000]
        sides = (np.array([row["vector"] for row in side], np.float32) for side in (first, aims))
        sign = 1 if stage.direction == "towards" else -1
        potentials, gradients = slow_gradients(pool, transport.fit(*sides, epsilon=stage.epsilon))
        chosen = slow_cut(pool, [sign * f for f in potentials], keep=stage.keep)
        found = [(c, -sign * g, None) for c, g in zip(chosen, gradients, strict=True)]
    else:
        scores = slow_ratios(pool, aims)
        noise = [-math.log(-math.log(((row["draw"] >> 11) + 0.5) / 2**53)) for row in pool]
        chosen = slow_cut(pool, [-s - n for s, n in zip(scores, noise, strict=True)], keep=stage.keep)
        found = [(c, s, None) for c, s in zip(chosen, scores, strict=True)]
    said = dict(zip(map(id, pool), found, strict=True))
    return [said.get(id(row), (False, None, None)) for row in rows], pool


@pytest.mark.parametrize("way", WAYS, ids=WAY)
@settings(max_examples=40)
@given(
    rows=ROWS,
    keep=KEEP,
    unit=UNIT,
    among=st.sampled_from([None, "source = 'web'"]),
    borders=st.lists(st.integers(0, 40), max_size=3),
    parts=st.sampled_from([5, 10_000]),
    few=st.sampled_from([0, 1 << 20]),
)
def test_it_is_what_sorting_everything_gives(way, rows, keep, unit, among, borders, parts, few):
    stage, table = Target(towards=DEV, keep=keep, unit=unit, among=among, **way), corpus(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "_FEW", few)
        patch.setattr(rounds, "_CELLS", 64)
        patch.setattr(rounds, "_BLOCK", 16)
        made = outcome(target, stage, cut_into(table, borders), parts)
    if isinstance(made, str):
        assert outcome(target, stage, [table]) == made
        assert any(words in made for words in ("a target is needed", "nothing to choose from", "median cost is 0"))
        return
    wanted, pool = slowly(stage, table)
    assert made["targeted"].to_pylist() == [chosen for chosen, _, _ in wanted]
    assert made["target_task"].to_pylist() == [task for _, _, task in wanted]
    for score, (_, slow, _) in zip(made["target_score"].to_pylist(), wanted, strict=True):
        assert (score is None) == (slow is None)
        if score is not None:
            assert score == slow if way["by"] == "rds" else math.isclose(score, slow, rel_tol=1e-6, abs_tol=1e-5)
    weight = sum(row[4] if unit == "tokens" else 1 for row, (yes, _, _) in zip(rows, wanted, strict=True) if yes)
    budget = slow_budget(keep, pool)
    assert budget <= weight < budget + max([1, *(row["weight"] for row in pool)])
    assert weight == budget or unit == "tokens"


@pytest.mark.parametrize("way", WAYS, ids=WAY)
@settings(max_examples=25)
@given(rows=ROWS, random=st.randoms(use_true_random=False), unit=UNIT)
def test_the_order_of_rows_does_not_matter(way, rows, random, unit):
    stage, table = Target(towards=DEV, keep=0.4, unit=unit, **way), corpus(rows)
    order = list(range(len(rows)))
    random.shuffle(order)
    found, other = outcome(target, stage, [table]), outcome(target, stage, [table.take(pa.array(order))], 5)
    assert (found if isinstance(found, str) else found.take(pa.array(order))) == other


@pytest.mark.parametrize("way", WAYS, ids=WAY)
@settings(max_examples=25)
@given(rows=ROWS, unit=UNIT, less=KEEP, more=KEEP)
def test_what_a_smaller_share_chooses_a_larger_one_chooses_too(way, rows, unit, less, more):
    table = corpus(rows)
    stage = Target(towards=DEV, keep=min(less, more), unit=unit, **way)
    found = outcome(target, stage, [table])
    assume(not isinstance(found, str))
    larger = target(dataclasses.replace(stage, keep=max(less, more)), [table])
    assert not (found["targeted"].to_numpy() & ~larger["targeted"].to_numpy()).any()
    assert found.select(["target_score", "target_task"]) == larger.select(["target_score", "target_task"])


def documents(vectors, source, **more):
    """Documents with the given vectors, whose ids are their places."""
    n = len(source)
    ids = np.frombuffer(b"".join(i.to_bytes(16, "big") for i in range(n)), np.uint8)
    made = {
        "id": binary(ids.reshape(n, 16)),
        "origin": pa.array([f"a:{i}" for i in range(n)], pa.string()),
        "source": pa.array(source, pa.string()),
    }
    if vectors is not None:
        flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
        made["embedding"] = pa.FixedSizeListArray.from_arrays(flat, np.shape(vectors)[1])
    return pa.table(made | more)


def normal(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def chosen(stage, table):
    made = target(stage, cut_into(table, [table.num_rows // 3]))
    return np.flatnonzero(made["targeted"].to_numpy()).tolist()


# Cosines of three targets with four documents: the first turns name 0, 0 again, 1, 1 again and 2.
TABLE = np.array([[0.9, 0.8, 0.1, 0.0], [0.85, 0.2, 0.7, 0.1], [0.1, 0.95, 0.3, 0.2]])


def of_cosines(cosines):
    """Documents whose cosines with three targets are half of those given, and the targets behind them."""
    axes = np.eye(3 + cosines.shape[1])
    pool = [np.concatenate((c / 2, np.zeros(cosines.shape[1]))) for c in cosines.T]
    pool = [p + math.sqrt(1 - p @ p) * axes[3 + i] for i, p in enumerate(pool)]
    return documents(np.array([*pool, *axes[:3]]), ["web"] * cosines.shape[1] + ["dev"] * 3)


def test_a_document_that_is_taken_costs_the_turn():
    table = of_cosines(TABLE)
    assert [chosen(Target("rds", DEV, keep), table) for keep in (0.25, 0.5, 0.75, 1.0)] == [
        [0], [0, 1], [0, 1, 2], [0, 1, 2, 3]
    ]  # fmt: skip


def test_the_turn_is_lost_to_whom_it_was():
    """The second list comes too late for its first document, and the third has its own before the second's next."""
    table = of_cosines(np.array([[0.9, 0.1, 0.1, 0.1], [0.9, 0.8, 0.1, 0.2], [0.1, 0.2, 0.9, 0.1]]))
    assert chosen(Target("rds", DEV, 0.5), table) == [0, 2]


def test_a_target_s_own_text_is_the_nearest():
    vectors = normal(np.random.default_rng(1).normal(size=(90, 24))).astype(np.float16).astype(np.float32)
    vectors = np.concatenate((vectors, vectors[[7, 50]]))
    table = documents(vectors, ["web"] * 90 + ["dev"] * 2)
    made = target(Target("rds", DEV, 2 / 90), [table])
    assert np.flatnonzero(made["targeted"].to_numpy()).tolist() == [7, 50]
    assert made["target_score"].to_pylist()[7] == made["target_score"].to_pylist()[50] == 1.0
    assert max(s for i, s in enumerate(made["target_score"].to_pylist()[:90]) if i not in (7, 50)) < 0.9


def test_tasks_take_turns_in_order_of_their_names():
    """However many targets a task has, and wherever they stand: `b` comes second and names 1, which is near to `c`."""
    axes = np.eye(4)
    pool = normal(np.array([[1, 0, 0, 0.1], [0, 1, 0.9, 0], [0, 0, 1, 0.1], [0.9, 0, 0, 0.3], [0, 0.2, 0.2, 1]]))
    table = documents(
        np.concatenate((pool, axes[[2, 1, 0, 0, 0]])),
        ["web"] * 5 + ["dev"] * 5,
        subject=pa.array([None] * 5 + ["c", "b", "a", "a", "a"], pa.string()),
    )
    stage = Target("rds", DEV, 0.2, task="subject")
    found = [chosen(dataclasses.replace(stage, keep=keep), table) for keep in (0.2, 0.4, 0.6)]
    assert found == [[0], [0, 1], [0, 1, 2]]
    made = target(stage, [table])
    assert made["target_task"].to_pylist() == ["a", "b", "c", "a", "b"] + [None] * 5


@pytest.mark.parametrize("lists", [1, 3, 40])
@pytest.mark.parametrize("unit", ["documents", "tokens"])
def test_many_documents_in_many_parts(monkeypatch, lists, unit):
    """Narrowed in many rounds, as it is where entries are many."""
    draws = np.random.default_rng(3)
    vectors = normal(draws.normal(size=(3000 + lists, 16)) + 1).astype(np.float16).astype(np.float32)
    vectors[500:900] = vectors[500]  # copies, which no score tells apart
    table = documents(vectors, ["web"] * 3000 + ["dev"] * lists, tokens=draws.integers(0, 900, 3000 + lists))
    stage = Target("rds", DEV, 0.2, unit=unit)
    wanted = target(stage, [table])
    taken, tokens = wanted["targeted"].to_numpy()[:3000], table["tokens"].to_numpy()[:3000]
    weight, total = (tokens[taken].sum(), tokens.sum()) if unit == "tokens" else (taken.sum(), 3000)
    assert 0 <= weight - math.floor(0.2 * total) < (900 if unit == "tokens" else 1)
    passes, narrowed = [], rounds._narrowed
    monkeypatch.setattr(rounds, "_narrowed", lambda *given: passes.append(1) or narrowed(*given))
    monkeypatch.setattr(rounds, "_FEW", 1)
    monkeypatch.setattr(rounds, "_CELLS", 16 * lists)
    assert target(stage, cut_into(table, [1, 700, 700, 2500]), part_rows=3000 // 8) == wanted
    assert len(passes) >= 2


def test_what_brings_the_distribution_nearer_is_what_it_lacks():
    """The figure of GOT-D: a pool of cats with two dogs, a target that is half of each."""
    vectors = np.zeros((204, 2))
    vectors[:, 0] = 1
    dogs = [57, 131]
    vectors[[*dogs, 202, 203]] = [0, 1]
    table = documents(vectors, ["web"] * 200 + ["dev"] * 4, tokens=pa.array([1] * 204))
    assert chosen(Target("got", DEV, 0.01, epsilon=0.02), table) == dogs
    made = target(Target("got", DEV, 0.01, epsilon=0.02), [table])
    score = np.array(made["target_score"].to_pylist()[:200])
    assert score[dogs] == pytest.approx([1, 1], abs=0.05)
    assert np.delete(score, dogs) == pytest.approx([-0.01] * 198, abs=0.01)
    assert abs(score.sum()) < 1e-4
    away = target(Target("got", DEV, 0.01, epsilon=0.02, direction="away"), [table])
    assert np.array(away["target_score"].to_pylist()[:200]).tolist() == (-score).tolist()
    assert not set(np.flatnonzero(away["targeted"].to_numpy())) & set(dogs)


def test_importance_draws_what_reads_like_the_targets():
    kinds = {"web": ["rain", "wind", "sun", "snow"], "dev": ["proof", "lemma", "limit", "field"]}
    draws = np.random.default_rng(2)
    kind = ["dev" if i % 10 == 0 else "web" for i in range(300)]
    texts = [" ".join(draws.choice(kinds[k], 12)) for k in [*kind, *["dev"] * 20]]
    table = documents(None, ["web"] * 300 + ["dev"] * 20, text=pa.array(texts, pa.large_string()))
    found = chosen(Target("dsir", DEV, 0.1), table)
    assert found == [i for i in range(300) if kind[i] == "dev"]
    # Where all texts are alike, the noise alone decides: another seed, another tenth.
    same = table.set_column(3, "text", pa.array(["rain and sun"] * 320, pa.large_string()))
    one, other = (chosen(Target("dsir", DEV, 0.1, seed=seed), same) for seed in (1, 2))
    assert len(one) == len(other) == 30
    assert one != other


def test_those_without_an_embedding_have_no_score():
    v = unit((1.0, 0.2, 0.0, 0.0))
    rows = [("web", "a", v, ["cat"], 1), ("web", "a", None, ["dog"], 1), ("dev", "a", v, ["a"], 1)]
    rows += [("dev", None, None, ["the"], 1), ("books", "a", v, ["sat"], 1)]
    made = target(Target("rds", DEV, 1.0, among="source != 'books'", task="subject"), [corpus(rows)])
    assert made["targeted"].to_pylist() == [True, False, False, False, False]
    assert made["target_score"].to_pylist() == [1.0, None, None, None, None]
    assert made["target_task"].to_pylist() == ["a", None, None, None, None]


@pytest.mark.parametrize("way", [WAYS[0], WAYS[4]], ids=["rds", "dsir"])
def test_what_was_decided_of_a_part_is_kept(monkeypatch, way):
    draws = np.random.default_rng(4)
    vectors = normal(draws.normal(size=(900, 8)))
    texts = pa.array([" ".join(draws.choice(WORDS, 5)) for _ in range(900)], pa.large_string())
    table = documents(vectors, ["web"] * 890 + ["dev"] * 10, text=texts)
    stage = Target(towards=DEV, keep=0.3, **way)
    with driven(stage, cut_into(table, [600]), part_rows=900 // 4 + 1) as run:
        before = run.applied()
        files = sorted(name for name in store.listing(run.verdict) if name != "whole.arrow")
        assert len(files) == 4
        assert all(name.endswith(".cut") for name in files)
        store.remove(store.join(run.verdict, files[2]))
        put, written = store.put, []
        monkeypatch.setattr(store, "put", lambda uri, data: (written.append(store.basename(uri)), put(uri, data)))
        run.method.judge(run.evidence, serial)
        assert [name for name in written if name.endswith(".cut")] == [files[2]]
        assert run.applied() == before


GOOD = {"by": "rds", "towards": DEV, "keep": 0.1}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"keep": 0}, "`keep` is 0; it is a share, above 0"),
        ({"keep": 1.5}, "`keep` is 1.5"),
        ({"by": "got", "task": "subject"}, "`task` belongs to `by: rds`, and this is `by: got`"),
        ({"sample": 10}, "`sample` belongs to `by: got`, and this is `by: rds`"),
        ({"seed": 1}, "`seed` belongs to `by: got` and `by: dsir`, and this is `by: rds`"),
        ({"direction": "away"}, "`direction` belongs to `by: got`"),
        ({"by": "dsir", "embedding": "other"}, "`embedding` belongs to `by: rds` and `by: got`"),
        ({"by": "got", "targets": 0}, "`targets` is 0; a whole number from 1 on"),
        ({"by": "got", "epsilon": 0.0}, "`epsilon` is 0.0; it is above 0"),
        ({"by": "got", "seed": -1}, "`seed` is -1"),
        ({"embedding": ""}, "`embedding` is ''"),
        ({"towards": "source ="}, "cannot read the expression"),
        ({"among": "max(tokens) > 1"}, "more than one row|looks at"),
    ],
)
def test_parameters_that_make_no_sense(changed, said):
    with pytest.raises(RecipeError, match=said.replace("(", r"\(")):
        Target(**GOOD | changed)


def test_what_cannot_be_chosen_from():
    table = of_cosines(TABLE)
    with pytest.raises(RecipeError, match="no document with 'embedding' for which `source = 'none'` holds"):
        target(Target("rds", "source = 'none'", 0.5), [table])
    with pytest.raises(RecipeError, match=r"nothing to choose from: .* `source = 'none'` holds but targets"):
        target(Target("got", DEV, 0.5, among="source = 'none'"), [table])
    with pytest.raises(RecipeError, match=r"'source': .*fixed_size_list"):
        target(Target("rds", DEV, 0.5, embedding="source"), [table])
    with pytest.raises(RecipeError, match="`task` is 'tokens', a column of int64"):
        target(Target("rds", DEV, 0.5, task="tokens"), [table.append_column("tokens", pa.array(range(7)))])
    tasks = pa.array(["a"] * 5 + [None, "b"])
    with pytest.raises(RecipeError, match="'subject' is null in a:5, which is a target"):
        target(Target("rds", DEV, 0.5, task="subject"), [table.append_column("subject", tasks)])
    with pytest.raises(RecipeError, match="`tokens` is a column of string"):
        target(Target("rds", DEV, 0.5, unit="tokens"), [table.append_column("tokens", pa.array(["a"] * 7))])
    long = documents(np.diag([1, 1, 3, 1]), ["web"] * 3 + ["dev"])
    with pytest.raises(DataError, match=r"a:2: its `embedding` \(row 2 of a shard\)"):
        target(Target("rds", DEV, 0.5), [long])


def test_too_many_turns(monkeypatch):
    monkeypatch.setattr(stages, "_LISTS", 2)
    table = of_cosines(TABLE).append_column("subject", pa.array(["a", "b", "c"] * 2 + ["a"]))
    with pytest.raises(RecipeError, match=r"3 targets would take turns; at most 2 can: .* `task`"):
        target(Target("rds", DEV, 0.5), [table])
    with pytest.raises(RecipeError, match="3 tasks would take turns; at most 2 can: give fewer tasks"):
        target(Target("rds", DEV, 0.5, task="subject"), [table])


def test_a_fit_that_does_not_end_is_told(monkeypatch):
    monkeypatch.setattr(transport.Potentials, "remark", "the transport was not solved: a larger `epsilon`")
    with pytest.raises(RecipeError, match="target: the transport was not solved"):
        target(Target("got", DEV, 0.5), [of_cosines(TABLE)])


def test_what_a_plan_says():
    said = {by: Target(by, DEV, 0.1).remarks(3_000_000_000) for by in ("rds", "got", "dsir")}
    assert "0.04 CPU-seconds for each target" in said["rds"][0]
    assert "20,000 of them and 4,000 targets" in said["got"][0]
    assert said["dsir"] == ()
