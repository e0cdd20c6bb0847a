"""Facts that an output has of its own, and likeness of true and shuffled pairs."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import hostile_text

from curate.faithfulness import cosines, facts, faithfulness, likeness, strangers
from curate.generations import Rules, check
from curate.kernels.vocabulary import numbered


def share(source: str, output: str) -> tuple[int, int]:
    made = faithfulness(pa.array([source]), pa.array([output]))
    return made["facts"].to_pylist()[0], made["novel"].to_pylist()[0]


@given(hostile_text)
def test_a_text_has_no_fact_that_it_has_not(text: str) -> None:
    made = faithfulness(pa.array([text, None]), pa.array([text, text]))
    assert made["novel"].to_pylist()[0] == 0
    assert made["novel_share"].to_pylist()[0] == 0
    assert 0 <= made["novel_share"].to_pylist()[1] <= 1


@pytest.mark.parametrize(
    ("source", "output", "stated", "novel"),
    [
        ("It cost 1,000 euros.", "The price was 1000 euros.", 1, 0),
        ("It cost 1.000 Euro.", "1000 Euro", 1, 0),
        ("It grew by 12 %.", "Growth was 12 percent.", 1, 0),
        ("A gap of 1.2 million.", "It lacked 1,200,000.", 1, 0),
        ("A gap of 1,200,000.", "It lacked 1.2 million.", 1, 0),
        ("Twelve people came.", "There were 12.", 1, 0),
        ("Zwölf Leute kamen.", "Es waren 12.", 1, 0),
        ("In 07 cases", "In 7 cases", 1, 0),
        ("It is 2.50 wide.", "It is 2.5 wide.", 1, 0),
        ("In 1874 it opened.", "In 1847 it opened.", 1, 1),
        ("It was 38 metres.", "It was 38 metres, not 39 or 40.", 3, 2),
        ("On 2021-03-09", "On 9 March 2021", 3, 0),
        ("On 9 August 1963", "On August 9, 1963", 3, 0),
        ("On 9 August 1963", "On 9 July 1963", 3, 1),
        ("They may leave.", "They May leave. March on!", 0, 0),
        ("It was run by Ada Fenwick.", "The keeper was Ada Fenwick.", 1, 0),
        ("It was run by Ada Fenwick.", "The keeper was Ada Howell.", 1, 1),
        ("It was run by Ada Fenwick.", "Ada Howell was the keeper.", 1, 1),
        ("Its keeper was Ada Fenwick.", "Ada Fenwick's house", 1, 0),
        ("Deserts are dry.", "Thus Antarctica is dry. The Sahara too.", 1, 1),
        ("Antarctica is dry.", "Thus Antarctica is dry.", 1, 0),
        ("Johannes de la Cruz wrote.", "a book by Johannes de la Cruz", 1, 0),
        ("Nothing is said.", "Question: What is said?\nAnswer: Nothing is said.", 0, 0),
        ("", "", 0, 0),
    ],
)
def test_facts_are_compared_by_what_they_say(source: str, output: str, stated: int, novel: int) -> None:
    assert share(source, output) == (stated, novel)


def test_nouns_of_german_are_no_names() -> None:
    text = (
        "Die alte Brücke der kleinen Stadt hat sechs Bögen aus hellem Stein, und am Abend gehen dort "
        "Leute mit Hunden und Kindern über den Fluss zum Markt."
    )
    assert not facts(text + " Dort steht Grüner Wald neben Hohem Haus.").names


def test_facts_take_linear_time() -> None:
    for unit in ("A ", "1,", "1.234", "Aa-", "Aa'", "9 May "):
        facts(unit * (100_000 // len(unit)))


# ---------------------------------------------------------------- likeness


def embedded(texts: list[str], width: int = 512) -> np.ndarray:
    """Counts of words in places given by their spelling: texts that share words lie close."""
    out = np.zeros((len(texts), width))
    for row, text in enumerate(texts):
        for word in text.lower().split():
            out[row, sum(map(ord, word)) * 31 % width] += 1
    return out


def test_identical_text_is_as_like_as_can_be_and_rejected() -> None:
    text = "A heron waits in shallow water for fish and frogs, and it does not move until one of them comes near it."
    vectors = embedded([text])
    assert cosines(vectors, vectors) == pytest.approx([1.0])
    assert share(text, text)[1] == 0
    column, tokens = pa.array([text]), pa.array([25])
    made = check(
        column,
        column,
        finish_reason=pa.array(["stop"]),
        source_tokens=tokens,
        output_tokens=tokens,
        rules=Rules(0.5, 2.0, True, "", None),
    )
    assert made["reason"].to_pylist() == ["copied"]


@given(st.integers(0, 2**32))
def test_shuffling_lowers_the_mean(seed: int) -> None:
    random = np.random.default_rng(seed)
    topics = [[f"w{topic}x{i}" for i in range(20)] for topic in range(12)]
    sources = [" ".join(random.choice(words, 15)) for words in topics]
    outputs = [" ".join(random.choice(words, 15)) for words in topics]
    made = likeness(embedded(sources), embedded(outputs), groups=np.arange(12, dtype=np.uint64), seed=seed)
    assert made.pairs == 12
    assert made.shuffled < made.true < 1


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(0, 2**40))
def test_strangers_are_a_permutation_without_friends(groups: list[int], seed: int) -> None:
    keys = np.array(groups, np.uint64)
    partner = strangers(keys, seed=seed)
    assert sorted(partner.tolist()) == list(range(len(groups)))
    largest = max((groups.count(one) for one in groups), default=0)
    same = sum(groups[row] == groups[other] for row, other in enumerate(partner))
    assert same <= max(0, 2 * largest - len(groups))


def test_strangers_depend_on_the_seed() -> None:
    keys = np.arange(50, dtype=np.uint64)
    assert strangers(keys, seed=1).tolist() == strangers(keys, seed=1).tolist() != strangers(keys, seed=2).tolist()


def test_cosines_of_odd_vectors() -> None:
    one = np.array([[0, 0], [1e-200, 0], [1e200, 1e200], [3, 4]], np.float64)
    other = np.array([[1, 0], [1e-200, 0], [-1e200, -1e200], [4, -3]], np.float64)
    assert cosines(one, other) == pytest.approx([np.nan, 1, -1, 0], nan_ok=True)
    none = likeness(one[:1], other[:1], groups=np.zeros(1, np.uint64), seed=0)
    assert none.pairs == 0
    assert np.isnan(none.true)
    assert cosines(np.empty((0, 3)), np.empty((0, 3))).tolist() == []


def test_words_of_equal_texts_are_numbered_alike() -> None:
    first, numbers = numbered(np.array([0, 3, 6]), np.frombuffer(b"a bA B", np.uint8))
    assert (first.tolist(), numbers.tolist()) == ([0, 2, 4], [0, 1, 0, 1])
