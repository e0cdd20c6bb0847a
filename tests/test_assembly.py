"""From an answer to a row: every rule with an example, and every edge of it."""

import dataclasses
import hashlib
from collections import Counter

import pytest
from hypothesis import given
from strategies import hostile_text

from curate.assembly import Made, finished, tidy, with_pairs
from curate.styles import Assembly, names, style


def after(*steps, opening="Label:"):
    made = style("easy")
    output = dataclasses.replace(made.output, opening=opening, most=100)
    return dataclasses.replace(made, output=output, assembly=Assembly(steps))


def words(text):
    return len(text.split())


def test_an_answer_of_as_many_tokens_as_there_may_be_was_cut_short():
    made = style("diverse_qa")
    answer = "Question: Why?\nAnswer: So."
    assert tidy(made, answer, 598).reason == ""
    assert tidy(made, answer, 599) == Made("", "truncated")
    assert tidy(made, answer, made.sampling.max_tokens) == Made("", "truncated")
    assert tidy(style("easy"), "A long one.", 10_000).text == "A long one."


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("**Bold** and *it* and ***both***.", "Bold and it and both."),
        ("__Strong__ and _slant_ here.", "Strong and slant here."),
        ("2 * 3 * 4 = 24, 2*3*4 too", "2 * 3 * 4 = 24, 2*3*4 too"),
        ("snake_case_name and __init__ stay", "snake_case_name and __init__ stay"),
        ("f(*args, **kwargs) and int *p, *q;", "f(*args, **kwargs) and int *p, *q;"),
        ("# Title\nText #1\n## Part ##\n#tag", "Title\nText #1\nPart\n#tag"),
        ('See [this page](https://a.b/c_(d) "t") and ![a cat](cat.png).', "See this page and a cat."),
        ("an array[3](x y) and [note]", "an array[3](x y) and [note]"),
        ("```python\nx = 1\n```", "x = 1"),
        ("Call `run` now", "Call run now"),
        ("Above\n\n---\n\n* * *\nBelow", "Above\n\n\nBelow"),
        ("* item *one*\n- item **two**\n+ three", "* item one\n- item two\n+ three"),
        ("**Question:** Why?\n**Answer:** So.", "Question: Why?\nAnswer: So."),
        ("*not closed and **this", "*not closed and **this"),
        ("five * stars", "five * stars"),
    ],
)
def test_markdown_goes_and_what_looks_like_it_stays(given, left):
    assert tidy(after("markdown"), given, 9) == Made(left)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("Label: a b", Made("a b")),
        ("\n Label:\n\na b", Made("a b")),
        ("Label:", Made("", "empty")),
        ("label: a b", Made("", "opening")),
        ("Sure! Label: a b", Made("", "opening")),
        ("a b", Made("", "opening")),
        ("**Label:** a b", Made("", "opening")),
        ("Label: Label: a", Made("Label: a")),
    ],
)
def test_the_opening_is_required_and_cut(given, left):
    assert tidy(after("opening"), given, 9) == left


def test_markdown_around_the_opening_is_forgiven_where_it_goes_first():
    assert tidy(after("markdown", "opening", "quotes"), '**Label:**\n\n"a b"', 9) == Made("a b")
    assert tidy(style("wikipedia"), "Rewritten article:\nAlma is a town.", 9) == Made("Alma is a town.")
    assert tidy(style("wikipedia"), "Alma is a town.", 9) == Made("", "opening")
    assert tidy(style("distill"), "Condensed version: Alma is a town.", 9) == Made("Alma is a town.")


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ('"a b"', "a b"),
        ("“a b”", "a b"),
        ("„a b“", "a b"),
        ("« a b »", "a b"),
        ("'it's so'", "'it's so'"),
        ('"a" and "b"', '"a" and "b"'),
        ('"a b', '"a b'),
        ('“a b"', '“a b"'),
        ("“a” or “b”", "“a” or “b”"),
        ('"', '"'),
        ('"""', '"""'),
    ],
)
def test_quotes_around_the_whole_go(given, left):
    assert tidy(after("quotes"), given, 9) == Made(left)


def test_quotes_around_nothing_are_nothing():
    assert tidy(after("quotes"), '""', 9) == Made("", "empty")


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("Passage 1: Water boils.\n\nPassage 2:\nIce melts.", "Water boils.\n\nIce melts."),
        ("Passage: Water boils.", "Water boils."),
        ("passage 12 : Water boils.", "Water boils."),
        ("In Passage 1: water boils.", "In Passage 1: water boils."),
        ("Passages: two", "Passages: two"),
        ("Passage one: two", "Passage one: two"),
    ],
)
def test_labels_of_passages_go(given, left):
    assert tidy(style("extract"), given, 9) == Made(left)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("Facts:\n- One.\n- Two.", "One.\nTwo."),
        ("- One.\n\n- Two.\n", "One.\nTwo."),
        ("-One.\n  * Two.\n• Three.", "One.\nTwo.\nThree."),
        ("- One\n  goes on.", "One\ngoes on."),
        ("- -5 degrees is cold.\n- well-known", "-5 degrees is cold.\nwell-known"),
        ("Intro\n-5 degrees", "-5 degrees"),
        ("1. One.\n2. Two.\n3) Three.", "One.\nTwo.\nThree."),
        ("Facts:\n1) One.\n   - Half.\n2) Two.", "One.\nHalf.\nTwo."),
        ("- 12. May was cold.\n- Two.", "12. May was cold.\nTwo."),
        ("<think>What is there?</think>\n- One.\n- Two.", "One.\nTwo."),
    ],
)
def test_a_list_loses_its_marks_and_a_first_line_without_one(given, left):
    assert tidy(style("knowledge_list"), given, 9) == Made(left)


def test_a_list_of_only_an_introduction_is_empty():
    assert tidy(style("knowledge_list"), "Here are the facts:", 9) == Made("", "empty")


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (
            "- Question: Why?\n  Answer: So.\n\n- Question: Who?\n  Answer: He.",
            "Question: Why?\nAnswer: So.\n\nQuestion: Who?\nAnswer: He.",
        ),
        ("Questions about the text:\n- Question: Why?\nAnswer: So.", "Question: Why?\nAnswer: So."),
        ("Question: Which?\nA) x\nB) y\n\nAnswer: B\nfor sure.", "Question: Which?\nA) x\nB) y\nAnswer: B\nfor sure."),
        ("Question: Why? Answer: So.", "Question: Why? Answer: So."),
        ("- **Question:** Why?\n- **Answer:** So.", "Question: Why?\nAnswer: So."),
        ("Question: Why?\nAnswer: So.\nQuestion: Who?", "Question: Why?\nAnswer: So."),
        ("Question:\nAnswer: So.\nQuestion: Who?\nAnswer:\nQuestion: A?\nAnswer: B.", "Question: A?\nAnswer: B."),
    ],
)
def test_pairs_are_found(given, left):
    assert tidy(style("diverse_qa"), given, 9) == Made(left)


@pytest.mark.parametrize(
    "given",
    [
        "Here you are:\nQuestion: Why?\nAnswer: So.",
        "Questions about the text:\nEnjoy!\nQuestion: Why?\nAnswer: So.",
        "Answer: So.\nQuestion: Why?\nAnswer: So.",
        "Questions about the text:",
        "Question: Why?",
        "No pairs.",
    ],
)
def test_an_answer_with_anything_before_its_first_question_is_rejected(given):
    assert tidy(style("diverse_qa"), given, 9) == Made("", "pairs")


PAIRS = [f"Question: {i}?\nAnswer: {i}." for i in range(8)]


def chosen(document=b"0" * 16, passage=0, tokens=1000, seed=0, pairs=PAIRS):
    row = with_pairs("The text.", "\n\n".join(pairs), document=document, passage=passage, tokens=tokens, seed=seed)
    source, *found = row.split("\n\n")
    assert source == "The text."
    assert len(set(found)) == len(found) >= 1
    assert set(found) <= set(pairs)
    return found


def test_some_pairs_are_drawn_by_document_and_passage():
    ids = [hashlib.md5(str(i).encode()).digest() for i in range(400)]
    assert chosen(ids[0]) == chosen(ids[0])
    assert len({tuple(chosen(one)) for one in ids}) > 300
    assert len({tuple(chosen(ids[0], passage)) for passage in range(50)}) > 35
    assert len({tuple(chosen(ids[0], seed=seed)) for seed in range(50)}) > 35


@pytest.mark.parametrize(("tokens", "largest"), [(0, 1), (14, 1), (15, 1), (29, 1), (30, 2), (44, 2), (45, 3), (75, 5)])
def test_the_number_of_pairs_is_even_from_one_to_its_largest(tokens, largest):
    ids = [hashlib.md5(str(i).encode()).digest() for i in range(600)]
    sizes = Counter(len(chosen(one, tokens=tokens)) for one in ids)
    assert set(sizes) == set(range(1, largest + 1))
    # Five standard deviations of a binomial.
    share = 1 / largest
    assert all(abs(n - 600 * share) <= 5 * (600 * share * (1 - share)) ** 0.5 for n in sizes.values())


def test_more_pairs_may_be_drawn_than_there_are():
    ids = [hashlib.md5(str(i).encode()).digest() for i in range(200)]
    found = [chosen(one, tokens=100_000, pairs=PAIRS[:3]) for one in ids]
    assert Counter(map(len, found))[3] > 190
    assert len({tuple(one) for one in found}) == 6
    first = Counter(one[0] for one in found)
    assert min(first.values()) > 35


def test_a_draw_is_the_same_on_every_machine():
    assert [pair[10] for pair in chosen(bytes(range(16)), 3, 150, seed=7)] == ["0", "4", "3", "7", "6", "1", "2", "5"]


def test_passages_of_a_document_are_joined_in_order():
    made = style("wikipedia")
    assert made.assembly.layout == "document"
    parts = ["one " * 30, "two " * 20]
    assert finished(made, parts, words) == Made("one " * 30 + "\n" + "two " * 20)
    assert finished(made, ["one " * 49], words) == Made("", "too_short")
    assert finished(made, ["one " * 25, "two " * 25], words).reason == ""
    assert finished(made, [], words) == Made("", "empty")
    assert finished(style("easy"), ["a"], words) == Made("a")


@pytest.mark.parametrize("name", names())
@given(answer=hostile_text)
def test_any_answer_is_a_text_or_a_reason(name, answer):
    made = tidy(style(name), answer, 20)
    assert bool(made.text.strip()) != bool(made.reason)
    assert made.reason in ("", "opening", "pairs", "empty")
    opened = tidy(style(name), f"{style(name).output.opening or ''}\n{answer}", 20)
    assert opened.reason in ("", "pairs", "empty")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece", ["*", "_", "__a ", "**a ", "[", "[a](", "`", '"', "#", "# ", "-", "- ", "> ", " ", "Passage ", "\n# "]
)
def test_no_answer_takes_long(piece):
    for name in ("wikipedia", "diverse_qa", "knowledge_list", "extract"):
        tidy(style(name), piece * (8_000 // len(piece)), 20)
