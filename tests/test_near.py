"""Near duplicates, proposed: against all pairs, over any cut into shards and parts, resumed, and with indexes."""

import itertools
import math
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_near import Said, groups_slowly, leaders_slowly

from curate import exchange, recipe, store, unit
from curate.arrow import binary, utf8
from curate.errors import RecipeError
from curate.execute import pool, serial
from curate.kernels.buckets import find, lead_best, lead_first, places, sets
from curate.kernels.hash import xxh3_128
from curate.sketch import PRESETS, Sketch
from curate.stage import PART_ROWS, Evidence, Verdict
from curate.stages import near as module
from curate.stages.near import Near

SMALL = {"bands": 3, "rows": 1, "ngram": 1}
_numbers = itertools.count()

ANIMALS = ["ada", "bee", "cow", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay"]
words = st.lists(st.sampled_from(ANIMALS), max_size=4).map(" ".join)
rows_of = st.lists(
    st.fixed_dictionaries(
        {
            "text": words,
            "source": st.sampled_from(["web", "code", None]),
            "score": st.sampled_from([None, math.nan, -math.inf, -1.0, 0.0, -0.0, 2.5, math.inf]),
        }
    ),
    max_size=25,
)


def table_of(rows):
    """Documents with what stages read; equal texts have equal ids."""
    texts = pa.array([row["text"] for row in rows], pa.large_string())
    ids = np.empty((len(rows), 16), np.uint8)
    xxh3_128(*utf8(texts), ids)
    return pa.table(
        {
            "id": binary(ids),
            "text": texts,
            "source": pa.array([row["source"] for row in rows], pa.string()).dictionary_encode(),
            "score": pa.array([row["score"] for row in rows], pa.float64()),
            "bytes": pa.array([len(row["text"].encode()) for row in rows], pa.int64()),
        }
    )


def evidence_of(stage, shards, parts=1):
    """What the shards say, on disk; the number of parts follows from that of rows, so many are claimed."""
    folder = f"memory://near/{next(_numbers)}"
    files = []
    for index, shard in enumerate(shards):
        seen = stage.scan(shard.select(list(stage.reads)))
        files.append(store.join(folder, f"{index}.cut"))
        store.put(files[-1], exchange.cut(seen, exchange.leading(seen["key"].to_numpy(), 8), 8))
    return Evidence(tuple(files), 8, PART_ROWS * parts, store.join(folder, "verdict"))


def applied(stage, shards, evidence):
    verdicts = [unit.load_verdict(evidence.verdict, index) for index in range(len(shards))]
    made = [stage.apply(shard.select([]), verdict) for shard, verdict in zip(shards, verdicts, strict=True)]
    assert all(table.num_rows == shard.num_rows for table, shard in zip(made, shards, strict=True))
    return [row for table in made for row in table.to_pylist()]


def drive(stage, shards, parts=1, span=PART_ROWS):
    evidence = evidence_of(stage, shards, parts)
    with mock.patch.object(module, "PART_ROWS", span):
        assert stage.judge(evidence, serial) is None
    assert {name.rpartition(".")[2] for name in store.listing(evidence.verdict)} <= {"cut"}
    return applied(stage, shards, evidence)


def cut(table, borders):
    edges = [0, *sorted(min(border, table.num_rows) for border in borders), table.num_rows]
    return [table.slice(a, b - a) for a, b in itertools.pairwise(edges)]


def said_of(stage, rows, table):
    """What the oracle is told: keys with the scope beside them, as no hash may mix two scopes."""
    keys, speaks = stage.sketch.keys(table["text"])
    names = [int.from_bytes(name.as_py()[:8], "big") for name in table["id"]]
    column = {"earliest": None, "longest": "bytes", "highest": "score"}[stage.keep]
    worth = table[column].to_pylist() if column else [0.0] * len(rows)
    said = []
    for i, row in enumerate(rows):
        if not speaks[i] or (stage.among and row["source"] != "web"):
            said.append(None)
            continue
        value = worth[i]
        value = None if value is None or math.isnan(value) else value
        scope = row["source"] if stage.per else 0
        name = i if stage.keep == "earliest" else names[i]  # the earliest leads, whatever it is called
        said.append((Said(tuple((int(key), scope) for key in keys[i]), name, value), names[i]))
    return said


def expected(stage, rows, table):
    told = said_of(stage, rows, table)
    said = [one and one[0] for one in told]
    called = {one[0].name: one[1] for one in told if one}
    leaders = [
        sorted({called[name] for name in names} - {one[1]} if one else [])
        for names, one in zip(leaders_slowly(said), told, strict=True)
    ]
    return groups_slowly(said), leaders


def partition(values):
    """The first place of each value: equal lists are equal groups, whatever they are called."""
    return [None if value is None else values.index(value) for value in values]


stages_of = st.builds(
    lambda keep, per, among: Near(**SMALL, keep=keep, by="score" if keep == "highest" else None, per=per, among=among),
    st.sampled_from(["earliest", "longest", "highest"]),
    st.sampled_from([None, "source"]),
    st.sampled_from([None, "source = 'web'"]),
)


@settings(max_examples=60)
@given(stages_of, rows_of, st.lists(st.integers(0, 25), max_size=4), st.sampled_from([1, 2, 8]))
def test_it_is_what_all_pairs_give(stage, rows, borders, parts):
    table = table_of(rows)
    made = drive(stage, cut(table, borders), parts, span=10)
    groups, leaders = expected(stage, rows, table)
    assert partition([row["near_group"] for row in made]) == groups
    assert [row["near_leaders"] for row in made] == leaders
    assert all(row["near_known"] == [] for row in made)


@settings(max_examples=30)
@given(stages_of, rows_of, st.lists(st.integers(0, 25), max_size=4), st.sampled_from([1, 8]), st.integers(1, 60))
def test_cuts_and_parts_do_not_matter(stage, rows, borders, parts, span):
    table = table_of(rows)
    assert drive(stage, cut(table, borders), parts, span) == drive(stage, [table])


@settings(max_examples=30)
@given(stages_of, rows_of, st.data())
def test_order_matters_only_to_the_earliest(stage, rows, data):
    order = data.draw(st.permutations(range(len(rows))))
    table = table_of(rows)
    before, after = drive(stage, [table]), drive(stage, [table.take(pa.array(order, pa.int64()))])
    columns = ["near_group"] if stage.keep == "earliest" else ["near_group", "near_leaders"]
    for column in columns:
        assert [row[column] for row in after] == [before[i][column] for i in order]


def test_equal_texts_of_two_scopes_never_meet():
    scopes = ["web", "web", "code", "code", None, None, "", ""]
    table = table_of([{"text": "ada bee cow dog elk fox", "source": s, "score": None} for s in scopes])
    apart = [row["near_group"] for row in drive(Near(per="source"), [table])]
    assert partition(apart) == [0, 0, 2, 2, 4, 4, 6, 6]
    assert partition([row["near_group"] for row in drive(Near(), [table])]) == [0] * 8


def test_a_scope_is_words_or_whole_numbers():
    table = table_of([{"text": "ada bee cow dog elk fox", "source": "web", "score": 1.0}] * 2)
    assert drive(Near(per="bytes"), [table])[0]["near_group"] is not None
    with pytest.raises(RecipeError, match="column of double"):
        drive(Near(per="score"), [table])
    with pytest.raises(RecipeError, match="'source', of which the highest leads, is a column of dictionary"):
        drive(Near(keep="highest", by="source"), [table])


def test_half_of_all_rows_alike_cost_an_edge_each():
    rows = [
        {"text": "ada bee cow dog elk fox" if i % 2 else f"a{i} b{i} c{i} d{i} e{i}", "source": None, "score": None}
        for i in range(400)
    ]
    stage = Near(keep="longest")
    evidence = evidence_of(stage, [table_of(rows)])
    ((edges, lines),) = module._edges(0, stage, module._plan(evidence))
    assert len(edges) == 199 * 14
    assert lines.num_rows == 0  # a leader of the same text needs no name


def test_no_shards_no_rows_no_shingles():
    stage = Near()
    Near().judge(Evidence((), 8, 0, "memory://near/none"), serial)
    silent = table_of([{"text": "too short", "source": None, "score": None}] * 3)
    assert drive(stage, [silent.slice(0, 0)]) == []
    nothing = {"near_group": None, "near_leaders": [], "near_known": []}
    assert drive(stage, [silent, silent.slice(0, 0), silent]) == [nothing] * 6
    made = stage.apply(silent.select([]), Verdict())
    assert made.schema.types == [pa.uint64(), pa.large_list(pa.uint64()), pa.large_list(pa.uint64())]
    assert stage.counts(silent, made) == {"marked": {"near_group": 0}}


class Stop(Exception):
    pass


@pytest.mark.parametrize("after", range(0, 12, 2))
def test_it_resumes_where_it_was_stopped(after):
    names = ["ada", "bee", "cow", "dog", "elk", "fox"]
    draw = np.random.default_rng(1)
    rows = [{"text": " ".join(draw.choice(names, 2)), "source": None, "score": None} for _ in range(60)]
    stage, shards = Near(**SMALL), cut(table_of(rows), [20, 40])
    done = itertools.count()

    def stopping(work, jobs):
        for job in jobs:
            if next(done) == after:
                raise Stop
            yield work(job)

    evidence = evidence_of(stage, shards, parts=8)
    with mock.patch.object(module, "PART_ROWS", 60):
        with pytest.raises(Stop):  # of 8 parts, their components, 3 spans
            stage.judge(evidence, stopping)
        with mock.patch.object(module, "_edges", wraps=module._edges) as again:
            stage.judge(evidence, serial)
    assert again.call_count == max(0, 8 - after)
    assert applied(stage, shards, evidence) == drive(stage, shards)


def test_a_pool_gives_the_same_bytes(tmp_path):
    draw = np.random.default_rng(2)
    rows = [{"text": " ".join(draw.choice(ANIMALS, 3)), "source": None, "score": None} for _ in range(300)]
    stage, shards = Near(**SMALL, keep="longest"), cut(table_of(rows), [90, 200])
    evidence = evidence_of(stage, shards, parts=4)
    files = []
    for number, uri in enumerate(evidence.units):
        files.append(str(tmp_path / f"{number}.cut"))
        store.put(files[-1], store.read(uri))
    local = Evidence(tuple(files), 8, evidence.rows, str(tmp_path / "verdict"))
    stage.judge(evidence, serial)
    with pool(2) as map:
        stage.judge(local, map)
    said = [
        {name: store.read(store.join(place.verdict, name)) for name in store.listing(place.verdict)}
        for place in (evidence, local)
    ]
    assert said[0] == said[1]
    assert said[0]


@pytest.mark.parametrize("kind", ["edges", "cut", "tops", "keys"])
def test_it_resumes_where_cleaning_up_was_stopped(kind):
    stage, shards = Near(**SMALL), [table_of([{"text": a, "source": None, "score": None} for a in ANIMALS * 2])]
    evidence = evidence_of(stage, shards, parts=2)

    def some(folder):
        for name in store.listing(folder):
            if name.endswith(kind):
                store.remove(store.join(folder, name))
        raise Stop

    with mock.patch.object(module.store, "remove", wraps=store.remove) as remove:
        remove.side_effect = lambda uri: some(uri) if uri.endswith("/edges") else mock.DEFAULT
        with pytest.raises(Stop):
            stage.judge(evidence, serial)
    stage.judge(evidence, serial)
    assert applied(stage, shards, evidence) == drive(stage, shards)


class Frozen:
    """An index that has every second key, under a name that the key tells."""

    wanted: list[np.ndarray] = []

    @classmethod
    def open(cls, uri):
        made = cls()
        made.uri = uri
        return made

    def without(self, source):
        return self

    def differences(self, sketch, per):
        return ["rows 8, here 9"] if sketch.rows == 9 else []

    def known(self, keys):
        assert (keys[1:] > keys[:-1]).all()
        return keys >> np.uint64(1), (keys & np.uint64(1) == np.uint64(self.uri == "odd"))


@given(rows_of, st.lists(st.integers(0, 25), max_size=3), st.sampled_from([1, 8]))
def test_entries_of_indexes_are_named(rows, borders, parts):
    from curate import index

    stage, table = Near(**SMALL, against=("odd", "even"), per="source"), table_of(rows)
    with mock.patch.object(index, "Index", Frozen):
        stage = stage.bind({})
        made = drive(stage, cut(table, borders), parts)
        halves = drive(Near(**SMALL, against=("odd",), per="source").bind({}), [table])
    said = stage.scan(table.select(list(stage.reads)))
    keys = {}
    for key, row in zip(said["key"].to_pylist(), said["row"].to_pylist(), strict=True):
        keys.setdefault(row, set()).add(key)
    alone = drive(Near(**SMALL, per="source"), [table])
    for i, row in enumerate(made):
        assert row["near_known"] == sorted({key >> 1 for key in keys.get(i, ())})
        assert halves[i]["near_known"] == sorted({key >> 1 for key in keys.get(i, ()) if key & 1})
        assert (row["near_group"] is not None) == (i in keys)
        assert row["near_leaders"] == alone[i]["near_leaders"]


def test_an_index_with_other_settings_is_refused():
    from curate import index

    with mock.patch.object(index, "Index", Frozen):
        assert len(Near(against=("a",)).bind({}).indexes) == 1
        with pytest.raises(RecipeError, match=r"index a was made with other settings \(rows 8, here 9\)"):
            Near(bands=14, rows=9, against=("a",)).bind({})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"preset": "finewb"}, "did you mean 'fineweb'"),
        ({"preset": "zzz"}, "there are fineweb, dclm"),
        ({"preset": "dclm", "bands": 3, "rows": 2}, "`preset` with `bands and rows`"),
        ({"threshold": 0.7, "hashes": 128, "rows": 2}, "`bands and rows` with `threshold and hashes`"),
        ({"preset": "dclm", "hashes": 3}, "`preset` with `threshold and hashes`"),
        ({"bands": 3}, "`bands` and `rows` belong together"),
        ({"threshold": 0.7}, "`threshold` and `hashes` belong together"),
        ({"threshold": 1.5, "hashes": 100}, "threshold is 1.5"),
        ({"bands": 0, "rows": 2}, "bands is 0"),
        ({"ngram": 0}, "ngram is 0"),
        ({"by": "score"}, "`keep: highest` needs `by:`"),
        ({"keep": "highest"}, "`keep: highest` needs `by:`"),
        ({"keep": "highest", "by": ""}, "`by` is '': give the name of a column"),
        ({"per": ""}, "`per` is '': give the name of a column"),
        ({"keep": "latest"}, "keep"),
        ({"among": "source ="}, "source ="),
        ({"perr": "source"}, "did you mean 'per'"),
    ],
)
def test_parameters_that_make_no_sense(given, said):
    with pytest.raises(RecipeError, match=said):
        recipe.build(Near, given)


def test_ways_to_say_one_sketch():
    assert Near().sketch == PRESETS["fineweb"] == Near(bands=14, rows=8).sketch
    assert Near(preset="slimpajama").sketch == Sketch(bands=9, rows=13, ngram=13)
    assert Near(preset="slimpajama", ngram=4, seed=2).sketch == Sketch(bands=9, rows=13, ngram=4, seed=2)
    assert Near(threshold=0.7, hashes=128).sketch == Sketch(bands=14, rows=9)
    assert Near(unit="characters").sketch == Sketch(unit="characters")
    assert Near().identity() == Near(preset="fineweb").identity() == Near(against=("x",)).identity()
    changes = [{"seed": 2}, {"ngram": 4}, {"unit": "characters"}, {"preset": "dclm"}, {"per": "source"}]
    changes += [{"keep": "longest"}, {"keep": "highest", "by": "score"}, {"among": "bytes > 3"}]
    identities = [Near(**change).identity() for change in [{}, *changes]]
    assert all(a != b for a, b in itertools.combinations(identities, 2))


def test_reads_what_it_needs():
    assert Near().reads == ("text", "id")
    assert Near(per="source", keep="longest", among="score > 0").reads == ("text", "id", "source", "bytes", "score")
    assert Near(keep="highest", by="score").reads == ("text", "id", "score")
    assert Near(preset="dclm").records == 93


KEY = st.one_of(st.integers(0, 3), st.sampled_from([1 << 40, 2 << 40, (1 << 64) - 1]))


@given(st.lists(st.tuples(KEY, st.integers(0, 2), st.integers(0, 2)), max_size=80), st.lists(st.integers(0, 80)))
def test_leaders_of_buckets(rows, borders):
    keys = np.array([row[0] for row in rows], np.uint64)
    said = np.array([(row[1], row[2], i) for i, row in enumerate(rows)], np.uint64).reshape(-1, 3)
    table, held, count = places(len(rows)), np.empty(len(rows), np.uint64), 0
    first, best = np.empty_like(said), np.empty_like(said)
    for start, stop in itertools.pairwise([0, *sorted(min(border, len(rows)) for border in borders), len(rows)]):
        bucket = np.empty(stop - start, np.int32)
        after = find(keys[start:stop], table, held, count, bucket)
        assert held[bucket].tolist() == keys[start:stop].tolist()
        lead_first(bucket, said[start:stop], count, first)
        lead_best(bucket, said[start:stop], count, best)
        count = after
    assert held[:count].tolist() == list(dict.fromkeys(keys.tolist()))
    for key, a, b in zip(held.tolist(), first[:count, 2].tolist(), best[:count, 2].tolist(), strict=False):
        assert a == next(i for i, row in enumerate(rows) if row[0] == key)
        assert b == min((-w, n, i) for i, (k, w, n) in enumerate(rows) if k == key)[2]


@given(st.lists(st.tuples(st.integers(0, 6), KEY), max_size=60))
def test_sets_of_rows(pairs):
    rows, values = np.array([a for a, _ in pairs], np.int64), np.array([b for _, b in pairs], np.uint64)
    first = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.bincount(rows, minlength=7))))
    out = np.empty(len(pairs), np.uint64)
    sets(rows, values, first, out)
    for row in range(7):
        assert out[first[row] : first[row + 1]].tolist() == sorted({b for a, b in pairs if a == row})
