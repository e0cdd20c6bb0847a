"""Exact duplicates: the first copy in the order of the corpus survives, however the corpus is cut."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from driving import cut_into, driven
from hypothesis import example, given
from hypothesis import strategies as st

from curate.errors import RecipeError
from curate.stages.exact import Exact

# Ids that share one half with another, or all but a bit, so that no half will do.
TEXTS = [b"", b"a", b"b", b"\xff"]
IDS = [hashlib.sha256(text).digest()[:16] for text in TEXTS]
IDS += [
    IDS[0][:15] + bytes([IDS[0][15] ^ 1]),
    IDS[0][:8] + IDS[1][8:],
    IDS[0][:1] + bytes(7) + IDS[0][8:],
    bytes(16),
    b"\xff" * 16,
]


def corpus(ids, flags=None):
    return pa.table(
        {
            "id": pa.array(ids, pa.binary(16)),
            "origin": [f"raw/a.jsonl:{n}" for n in range(1, len(ids) + 1)],
            "good": pa.array(flags if flags is not None else [True] * len(ids), pa.bool_()),
        }
    )


def marked(method, shards, part_rows):
    with driven(method, shards, part_rows=part_rows) as run:
        tables = run.applied()
    assert all(table.column_names == list(method.adds) for table in tables)
    assert [table.num_rows for table in tables] == [shard.num_rows for shard in shards]
    assert len({table.schema for table in tables}) == 1
    return pa.concat_tables(tables)


def slowly(ids, flags):
    """Duplicate, and of which origin, one document after the other."""
    first, found = {}, []
    for number, (key, flag) in enumerate(zip(ids, flags, strict=True), 1):
        found.append(first.get(key) if flag else None)
        if flag:
            first.setdefault(key, f"raw/a.jsonl:{number}")
    return found


@given(
    st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from([True, True, True, False, None])), max_size=40),
    st.lists(st.integers(0, 40), max_size=4),
    st.sampled_from([1, 5, 1000]),
)
@example([(IDS[0], True), (IDS[6], True), (IDS[0], True), (IDS[6], True)], [], 1000)
def test_later_copies_are_marked_with_the_first(rows, borders, part_rows):
    ids, flags = [key for key, _ in rows], [flag for _, flag in rows]
    table = corpus(ids, flags)
    made = marked(Exact(among="good"), cut_into(table, borders), part_rows)
    assert made["duplicate_of"].to_pylist() == slowly(ids, flags)
    assert made["duplicate"].to_pylist() == [one is not None for one in slowly(ids, flags)]
    everyone = marked(Exact(), cut_into(table, borders), part_rows)
    assert everyone["duplicate_of"].to_pylist() == slowly(ids, [True] * len(ids))


def test_a_corpus_of_copies_keeps_one():
    made = marked(Exact(), cut_into(corpus([IDS[1]] * 500), [100, 100, 250]), 50)
    assert np.count_nonzero(made["duplicate"].to_numpy()) == 499
    assert set(made["duplicate_of"].to_pylist()[1:]) == {"raw/a.jsonl:1"}


def test_marks_are_counted():
    shard = corpus([IDS[0], IDS[1], IDS[0], IDS[0]])
    made = marked(Exact(), [shard], 1000)
    assert Exact().counts(shard, made) == {"marked": {"duplicate": 2}}


def test_what_competes_is_read():
    assert Exact().reads == ("id", "origin")
    assert Exact(among="good and words > 3 or id = origin").reads == ("id", "origin", "good", "words")
    assert Exact().applies_to == (), "the verdict says all there is to say"
    with pytest.raises(RecipeError, match="cannot read the expression"):
        Exact(among="good and")
