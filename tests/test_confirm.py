"""`confirm`: a document goes only if it is proved to be alike to one that stays, and nothing but content decides."""

import hashlib
import struct
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import oracle_confirm as oracle
import pyarrow as pa
import pytest
from driving import cut_into, driven
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import proof
from curate.errors import DataError, RecipeError
from curate.index import Entries
from curate.sketch import Sketch
from curate.stages.confirm import Confirm

NGRAM = 2


def near(**changes):
    """What `confirm` looks at of the near step."""
    told = {"sketch": Sketch(4, 2, ngram=NGRAM), "keep": "earliest", "by": None, "indexes": ()}
    return SimpleNamespace(**(told | changes))


def bound(step=None, **parameters):
    step = step or near()
    maker = {"near_group": {"maker": step}, "bytes": {}, "score": {}}
    return Confirm(**parameters).bind(maker)


def document(text, group=1, leaders=(), **more):
    """A row: `leaders` are texts, or names."""
    identity = hashlib.blake2b(text.encode(), digest_size=16).digest()
    row = {"text": text, "id": identity, "group": group, "known": [], "worth": None, "exempt": False, "source": "web"}
    names = [
        name if isinstance(name, bytes) else hashlib.blake2b(name.encode(), digest_size=16).digest()[:8]
        for name in leaders
    ]
    return row | {"leaders": sorted(set(names))} | more


def corpus(rows):
    """The rows as a table, in this order; origins and places where they have none."""
    for place, row in enumerate(rows):
        row["place"] = place
        row.setdefault("origin", f"raw.jsonl:{place + 1}")
    numbers = {name: [[struct.unpack(">Q", n)[0] for n in row[name]] for row in rows] for name in ("leaders", "known")}
    lists = pa.large_list(pa.uint64())
    return pa.table(
        {
            "text": pa.array([row["text"] for row in rows], pa.large_string()),
            "id": pa.array([row["id"] for row in rows], pa.binary(16)),
            "origin": pa.array([row["origin"] for row in rows], pa.string()),
            "near_group": pa.array([row["group"] for row in rows], pa.uint64()),
            "near_leaders": pa.array(numbers["leaders"], lists),
            "near_known": pa.array(numbers["known"], lists),
            "bytes": pa.array([len(row["text"].encode()) for row in rows], pa.int64()),
            "score": pa.array([row["worth"] for row in rows], pa.float64()),
            "exempt": pa.array([row["exempt"] for row in rows], pa.bool_()),
            "source": pa.array([row["source"] for row in rows], pa.string()).dictionary_encode(),
        }
    )


def confirmed(stage, table, borders=(), part_rows=1 << 40):
    """(duplicate, of, similarity, cluster size) of each row."""
    with driven(stage, cut_into(table, borders), part_rows=part_rows) as judged:
        made = pa.concat_tables(judged.applied())
    assert tuple(made.column_names) == stage.adds
    return list(zip(*(made[name].to_pylist() for name in made.column_names), strict=True))


def expected(rows, **rules):
    """The same by the oracle."""
    found = oracle.confirm(rows, ngram=NGRAM, **rules)
    return [
        (gone, of, like if like is None else float(np.float32(float(like))), size) for gone, of, like, size in found
    ]


_WORDS = st.sampled_from("abcdefgh")


@st.composite
def alike_rows(draw, exempt=True):
    """Documents many of which are edits of others, in up to three groups, with leaders named at random."""
    texts = []
    for _ in range(draw(st.integers(1, 3))):
        words = draw(st.lists(_WORDS, min_size=1, max_size=24))
        texts.append(" ".join(words))
        for _ in range(draw(st.integers(0, 4))):
            other = list(words)
            for _ in range(draw(st.integers(0, 3))):
                other[draw(st.integers(0, len(other) - 1))] = draw(_WORDS)
            texts.append(" ".join(other))
    rows = []
    for text in draw(st.permutations(texts + draw(st.lists(st.sampled_from(texts), max_size=3)))):
        group = draw(st.sampled_from([None, 1, 1, 1, 2**63 + 5]))
        worth = draw(st.sampled_from([None, float("nan"), -1.0, 0.0, 2.5, float("inf"), -float("inf")]))
        leaders = draw(st.lists(st.sampled_from(texts), max_size=4))
        rows.append(document(text, group, leaders, worth=worth, exempt=exempt and draw(st.integers(0, 5)) == 0))
        if draw(st.integers(0, 5)) == 0:  # a text that was another one before something rewrote it
            rows[-1]["id"] = document(draw(st.sampled_from(texts)))["id"]
    return rows


_LEAST = st.sampled_from(["0", "0.1", "0.25", "0.3", "0.5", "0.6", "0.75", "0.8", "0.9", "1"])
_KEEP = st.sampled_from(["earliest", "longest", "highest"])


def told(rows, keep):
    """The rows with the worth that `keep` looks at."""
    return [row | {"worth": float(len(row["text"]))} if keep == "longest" else row for row in rows]


@settings(max_examples=150)
@given(rows=alike_rows(), least=_LEAST, keep=_KEEP, transitive=st.booleans(), contained=st.booleans(), data=st.data())
def test_it_does_what_the_rules_say(rows, least, keep, transitive, contained, data):
    table = corpus(rows)
    share = {"containment" if contained else "jaccard": float(least)}
    step = near(keep=keep, by="score" if keep == "highest" else None)
    stage = bound(step, **share, transitive=transitive, exempt="exempt")
    measure = oracle.containment if contained else oracle.jaccard
    truth = expected(told(rows, keep), least=least, alike=measure, keep=keep, transitive=transitive)
    borders = data.draw(st.lists(st.integers(0, len(rows)), max_size=4))
    assert confirmed(stage, table, borders, part_rows=data.draw(st.sampled_from([1, 3, 1 << 40]))) == truth


@settings(max_examples=60)
@given(rows=alike_rows(), least=st.sampled_from(["0.3", "0.5", "0.8"]))
def test_precision_is_one(rows, least):
    table = corpus(rows)
    found = confirmed(bound(jaccard=float(least), exempt="exempt"), table)
    place = {row["origin"]: i for i, row in enumerate(rows)}
    for row, (gone, of, likeness, _) in zip(rows, found, strict=True):
        if gone:
            survivor = rows[place[of]]
            exact = oracle.jaccard(*(oracle.shingles(one["text"], NGRAM) for one in (row, survivor)))
            assert not found[place[of]][0]
            assert not row["exempt"]
            assert row["group"] == survivor["group"]
            assert row["text"] == survivor["text"] or (
                exact >= Fraction(least) and likeness == np.float32(float(exact))
            )
        else:
            assert of is None
            assert likeness is None


@settings(max_examples=60)
@given(rows=alike_rows(), keep=st.sampled_from(["longest", "highest"]), transitive=st.booleans(), data=st.data())
def test_the_order_of_rows_does_not_matter_by_worth(rows, keep, transitive, data):
    corpus(rows)  # names their origins
    stage = bound(near(keep=keep, by="score"), jaccard=0.5, transitive=transitive, exempt="exempt")
    found = dict(zip((row["origin"] for row in rows), confirmed(stage, corpus(rows)), strict=True))
    shuffled = data.draw(st.permutations(rows))
    again = dict(zip((row["origin"] for row in shuffled), confirmed(stage, corpus(shuffled)), strict=True))
    assert again == found


def a_chain():
    """Three texts: the second is near both others, which are not near each other."""
    words = [f"w{i}" for i in range(40)]
    texts = [" ".join(words), " ".join([*words[5:], "x"]), " ".join([*words[10:], "x", "y"])]
    values = [oracle.jaccard(*(oracle.shingles(t, NGRAM) for t in pair)) for pair in (*pairwise(texts), texts[::2])]
    assert values[0] > 0.8
    assert values[1] > 0.8
    assert values[2] < 0.8
    return corpus([document(texts[0]), document(texts[1], leaders=texts[:1]), document(texts[2], leaders=texts[1:2])])


def test_a_chain_keeps_its_end():
    first, second, third = confirmed(bound(jaccard=0.8), a_chain())
    assert second[:2] == (True, "raw.jsonl:1")
    assert [row[0] for row in (first, third)] == [False, False]
    assert [row[3] for row in (first, second, third)] == [3, 3, 3]


def test_transitive_takes_the_chain_and_tells_how_little_alike_it_is():
    found = confirmed(bound(jaccard=0.8, transitive=True), a_chain())
    assert [row[:2] for row in found] == [(False, None), (True, "raw.jsonl:1"), (True, "raw.jsonl:1")]
    assert found[2][2] < 0.8


def test_exempt_rows_stay_and_come_first():
    text, other = "a b c d e f g h i j", "a b c d e f g h i k"
    rows = [document(text), document(other, leaders=[text], exempt=True), document(text), document(other, exempt=True)]
    found = confirmed(bound(jaccard=0.5, exempt="exempt"), corpus(rows))
    assert [row[:2] for row in found] == [
        (True, "raw.jsonl:2"), (False, None), (True, "raw.jsonl:2"), (False, None)
    ]  # fmt: skip


def test_exempt_is_named_like_any_column():
    table = corpus([document("a b c d"), document("a b c d", leaders=["a b c d"], source="gold")])
    assert [row[0] for row in confirmed(bound(jaccard=0.5, exempt="source = 'gold'"), table)] == [True, False]


@pytest.mark.parametrize(("least", "gone"), [(0.7, True), (0.700001, False), (0.699999, True), (0.71, False)])
def test_exactly_at_the_threshold_counts(least, gone):
    one = " ".join(f"w{i}" for i in range(18))  # 17 pairs of words; 14 shared of 20 is 7/10, which no float is
    other = " ".join([f"w{i}" for i in range(15)] + ["x", "y", "z"])
    sets = [oracle.shingles(text, NGRAM) for text in (one, other)]
    assert oracle.jaccard(*sets) == Fraction(7, 10)
    table = corpus([document(one), document(other, leaders=[one])])
    found = confirmed(bound(jaccard=least), table)[1]
    assert found[0] is gone
    assert not gone or found[2] == np.float32(0.7)


def test_containment_asks_about_the_one_that_would_go():
    long = " ".join(f"w{i}" for i in range(60))
    short = " ".join(f"w{i}" for i in range(10, 20))
    rows = [document(long), document(short, leaders=[long])]
    assert [row[0] for row in confirmed(bound(containment=0.9), corpus(rows))] == [False, True]
    assert [row[0] for row in confirmed(bound(containment=0.9), corpus(rows[::-1]))] == [False, False]
    assert [row[0] for row in confirmed(bound(jaccard=0.9), corpus(rows))] == [False, False]


def test_no_threshold_takes_candidates_as_they_are():
    rows = [document("a b c d"), document("e f g h", leaders=["a b c d"]), document("i j k l", group=2)]
    assert [row[:3] for row in confirmed(bound(jaccard=0.0), corpus(rows))] == [
        (False, None, None), (True, "raw.jsonl:1", 0.0), (False, None, None)
    ]  # fmt: skip


def test_copies_of_one_text_that_were_rewritten_apart_are_candidates():
    """As `repeated_lines` does: the first copy keeps a line that the others lose. No leader has another name."""
    rows = [document(text, id=bytes(16)) for text in ("a b c d e f", "a b c d e", "x y z u v", "a b c d e")]
    found = confirmed(bound(jaccard=0.6), corpus(rows))
    assert found == expected(rows, least="0.6", alike=oracle.jaccard)
    assert [gone for gone, *_ in found] == [False, True, False, True]


def test_texts_that_were_rewritten_are_compared_as_they_are_now():
    rows = [document("a b c d", id=bytes(range(16))), document("a b c d", id=bytes(range(16, 32)))]
    assert [row[:3] for row in confirmed(bound(jaccard=0.5), corpus(rows))] == [
        (False, None, None), (True, "raw.jsonl:1", 1.0)
    ]  # fmt: skip


def test_a_name_that_two_texts_have_stands_for_the_better():
    name = bytes(8)
    rows = [document("a b c d e", id=name + bytes(8)), document("f g h i j", id=name + bytes([1] * 8)),
            document("a b c d x", leaders=[name]), document("f g h i y", leaders=[name])]  # fmt: skip
    assert [row[0] for row in confirmed(bound(jaccard=0.5), corpus(rows))] == [False, False, True, False]


def template_pages(pages):
    """Pages that share nine tenths of their words, and a page and its copy with a word changed."""
    frame = [f"frame{i}" for i in range(90)]
    generator = np.random.default_rng(0)
    bodies = [" ".join(frame + [f"n{generator.integers(10**9)}" for _ in range(25)]) for _ in range(pages)]
    changed = bodies[1].rsplit(" ", 1)[0] + " changed"
    texts = [*bodies, changed]
    return [document(text, leaders=[texts[0], texts[1]]) for text in texts]


def test_a_template_takes_nothing_along():
    rows = template_pages(200)
    found = confirmed(bound(jaccard=0.8), corpus(rows))
    assert [i for i, row in enumerate(found) if row[0]] == [200]
    assert found[200][1] == "raw.jsonl:2"
    everything = confirmed(bound(jaccard=0.0), corpus(rows))
    assert sum(row[0] for row in everything) == 200


@pytest.mark.parametrize("verify", ["exact", "sketch"])
@pytest.mark.parametrize("size", [1, 500, 3000])
def test_the_size_of_a_block_changes_nothing(monkeypatch, size, verify):
    texts = [row["text"] for row in template_pages(30)]
    rows = [document(text, leaders=texts[i % 7 :: 7]) for i, text in enumerate(texts)]
    for parameters in ({"jaccard": 0.6}, {"jaccard": 0.6, "transitive": True}):
        stage = bound(**parameters, verify=verify)
        whole = confirmed(stage, corpus(rows), [5, 5, 17])
        with monkeypatch.context() as small:
            small.setattr(proof, "BLOCK_BYTES", size)
            assert confirmed(stage, corpus(rows), [5, 5, 17]) == whole
        assert any(row[0] for row in whole)
        assert not all(row[0] for row in whole[1:])


@settings(max_examples=40)
@given(rows=alike_rows(exempt=False), least=st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_signatures_in_place_of_sets(rows, least):
    table, sketch = corpus(rows), near().sketch
    signature = dict(zip(table["text"].to_pylist(), sketch.signatures(table["text"]), strict=True))
    values = {}
    for text, said in signature.items():
        values[text] = [] if (said == 0xFFFFFFFF).all() else said.tolist()

    def agreement(one, other):
        return Fraction(sum(a == b for a, b in zip(one, other, strict=False)), sketch.hashes)

    sets = oracle.shingles
    try:
        oracle.shingles = lambda text, ngram: Signature(values[text])
        truth = expected(rows, least=str(least), alike=agreement)
    finally:
        oracle.shingles = sets
    assert confirmed(bound(jaccard=least, verify="sketch"), table) == truth


class Signature(list):
    """Stands for a set of shingles in the oracle."""


def test_equal_texts_are_sent_once():
    text = " ".join(f"w{i}" for i in range(300))
    stage = bound(jaccard=0.5)
    table = corpus([document(text), document(text), document(text, group=2), document("a b c")])
    body = stage.scan(table.select(list(stage.reads)))["body"]
    assert body.is_null().to_pylist() == [False, True, False, False]


def test_an_alarm_stops_with_the_numbers():
    rows = [document(f"text number {i}", group=None, source="wiki") for i in range(6)]
    rows += [document("a b c d", leaders=["a b c d"], source="wiki") for _ in range(5)]
    rows += [document("a b c d", leaders=["a b c d"]), document("one two three", group=None)]
    with pytest.raises(DataError, match=r"wiki: 4 of 11 rows \(36\.4 %\) would go, max_removed allows 20\.0 %"):
        confirmed(bound(jaccard=0.5, max_removed={"wiki": 0.2, "web": 0.5}), corpus(rows), [3, 8], part_rows=1)
    found = confirmed(bound(jaccard=0.5, max_removed={"wiki": 0.37, "web": 0.5}), corpus(rows), [3, 8], part_rows=1)
    assert found == confirmed(bound(jaccard=0.5), corpus(rows))


def test_an_alarm_allows_exactly_its_share():
    rows = [document(f"text number {i}", group=None) for i in range(7)] + [document("a b c d") for _ in range(4)][:3]
    assert len(rows) == 10
    assert sum(row[0] for row in confirmed(bound(jaccard=0.5, max_removed={"web": 0.2}), corpus(rows))) == 2
    with pytest.raises(DataError, match=r"web: 2 of 10 rows"):
        confirmed(bound(jaccard=0.5, max_removed={"web": 0.19}), corpus(rows))


def test_an_alarm_for_no_source_is_refused():
    with pytest.raises(RecipeError, match="did you mean 'wiki'"):
        confirmed(bound(jaccard=0.5, max_removed={"wki": 0.2}), corpus([document("a b c", source="wiki")]))


def test_parts_that_were_judged_are_not_judged_again(monkeypatch):
    rows = [document("a b c d", leaders=["a b c d"], source="wiki") for _ in range(5)]
    stage = bound(jaccard=0.5, max_removed={"wiki": 1.0})
    with driven(stage, [corpus(rows)]) as judged:
        before = judged.applied()
        monkeypatch.setattr(Confirm, "lines", None)
        stage.judge(judged.evidence, map)
        assert judged.applied() == before


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({}, "give `jaccard` or `containment`"),
        ({"jaccard": 0.5, "containment": 0.5}, "not both"),
        ({"jaccard": 1.5}, "a share from 0 to 1"),
        ({"containment": -0.1}, "a share from 0 to 1"),
        ({"jaccard": float("nan")}, "a share from 0 to 1"),
        ({"jaccard": 0.1234567}, "at most 6 decimals"),
        ({"containment": 0.5, "verify": "sketch"}, "verify: exact"),
        ({"jaccard": 0.5, "exempt": "sum(words) > 3"}, "row"),
        ({"jaccard": 0.5, "max_removed": {"web": 20.0}}, "a share from 0 to 1"),
    ],
)
def test_wrong_parameters(parameters, says):
    with pytest.raises(RecipeError, match=says):
        Confirm(**parameters)


def test_what_near_must_give():
    with pytest.raises(RecipeError, match="was not made by `near`"):
        Confirm(jaccard=0.5).bind({"near_group": {}})
    with pytest.raises(RecipeError, match="'bytes', which is gone"):
        Confirm(jaccard=0.5).bind({"near_group": {"maker": near(keep="longest")}})


def test_a_prefix():
    table = corpus([document("a b c d"), document("a b c d", leaders=["a b c d"])])
    names = {name: f"crawl_{name}" for name in ("near_group", "near_leaders", "near_known")}
    renamed = table.rename_columns([names.get(name, name) for name in table.column_names])
    stage = Confirm(jaccard=0.5, of="crawl_").bind({"crawl_near_group": {"maker": near()}})
    assert confirmed(stage, renamed) == confirmed(bound(jaccard=0.5), table)


def test_identity_does_not_know_where_an_index_is():
    assert bound(jaccard=0.5).identity() == Confirm(jaccard=0.5).identity()


class Remembered:
    """An index in memory: name to (origin, text)."""

    uri, verify = "memory", "exact"

    def __init__(self, entries):
        self.entries_by_name = {struct.unpack(">Q", name)[0]: entry for name, entry in entries.items()}

    def entries(self, names):
        had = [self.entries_by_name.get(name) for name in names.tolist()]
        texts = pa.array([entry[1] if entry else "" for entry in had], pa.large_string())
        origins = pa.array([entry[0] if entry else None for entry in had], pa.string())
        found = np.array([entry is not None for entry in had], bool)
        return Entries(found, origins, *near().sketch.sets(texts), None)


@settings(max_examples=100)
@given(
    rows=alike_rows(),
    least=_LEAST,
    transitive=st.booleans(),
    size=st.sampled_from([1, 20_000, 1 << 28]),
    data=st.data(),
)
def test_known_documents_come_first(rows, least, transitive, size, data):
    texts = [row["text"] for row in rows]
    entry = st.one_of(st.sampled_from(texts), st.lists(_WORDS, max_size=20).map(" ".join))
    names = st.integers(0, 7).map(lambda number: struct.pack(">Q", number << 40))
    indexes = data.draw(st.lists(st.dictionaries(names, entry, max_size=5), min_size=1, max_size=2))
    for row in rows:
        row["known"] = sorted(data.draw(st.sets(names, max_size=3)))
    told = [{name: (f"{i}:{name.hex()}", text) for name, text in index.items()} for i, index in enumerate(indexes)]
    first = {}
    for i, index in enumerate(told):
        for name, (origin, text) in index.items():
            first.setdefault(name, (f"memory:{origin}", oracle.shingles(text, NGRAM), i))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "BLOCK_BYTES", size)
        step = near(indexes=tuple(Remembered(index) for index in told))
        stage = bound(step, jaccard=float(least), transitive=transitive, exempt="exempt")
        found = confirmed(stage, corpus(rows), data.draw(st.lists(st.integers(0, len(rows)), max_size=2)))
    assert found == expected(rows, least=least, transitive=transitive, known=first)


def test_an_index_of_another_kind_is_refused():
    with pytest.raises(RecipeError, match="`verify: exact`, this step compares with `verify: sketch`: give it"):
        bound(near(indexes=(Remembered({}),)), jaccard=0.5, verify="sketch")


@pytest.mark.parametrize("transitive", [False, True])
def test_the_first_index_counts_before_the_smaller_name(transitive):
    text, low, high = "a b c d e f", bytes(8), bytes([9] * 8)
    shelf = {"a": Remembered({high: ("first", text)}), "b": Remembered({low: ("second", text)})}
    table = corpus([document(text, known=[low, high])])
    for against, of in ((("a", "b"), "first"), (("b", "a"), "second")):
        stage = bound(near(indexes=tuple(map(shelf.get, against))), jaccard=0.5, transitive=transitive)
        assert confirmed(stage, table) == [(True, f"memory:{of}", 1.0, 1)]
