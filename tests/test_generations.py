"""Checks of generated text: what is cut off, each reason and their order, and labelled outputs of all kinds."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import hostile_text

from curate import wording
from curate.assets import find
from curate.errors import AssetError, RecipeError
from curate.generations import REASONS, Rules, check
from curate.wording import cleaned, languages, refuses

DATA = Path(__file__).parent / "data"
SOURCE = (
    "The grey heron is a wading bird of Europe and Asia. It stands up to one metre tall and hunts in shallow water, "
    "where it waits without moving until a fish or a frog comes within reach. It nests in colonies high in trees."
)
GOOD = (
    "Grey herons live in Europe and Asia and may be a metre high. They stand still in water that is not deep and "
    "catch the frogs and fishes that come close. Many of them build their nests together in tall trees."
)
PROMPT = "Say what the text below says in plain words and short sentences, and leave nothing out that matters."


def judge(outputs: list[str | None], source: str = SOURCE, **more: Any) -> pa.Table:
    rules = {"low": 0.5, "high": 2.0, "paraphrase": True, "prompt": PROMPT, "model": None} | {
        key: more.pop(key) for key in list(more) if key in Rules.__dataclass_fields__
    }
    columns = {
        "finish_reason": ["stop"] * len(outputs),
        "source_tokens": [len(source.split())] * len(outputs),
        "output_tokens": [len((text or "").split()) for text in outputs],
    } | more
    return check(
        pa.array([source] * len(outputs), pa.large_string()),
        pa.array(outputs, pa.large_string()),
        **{key: pa.array(values) for key, values in columns.items()},
        rules=Rules(**rules),
    )


def reasons(outputs: list[str | None], source: str = SOURCE, **more: Any) -> list[str | None]:
    found: list[str | None] = judge(outputs, source, **more)["reason"].to_pylist()
    return found


def test_a_paraphrase_is_accepted_as_it_is() -> None:
    made = judge([GOOD])
    assert made["reason"].to_pylist() == [None]
    assert made["text"].to_pylist() == [GOOD]


def test_each_reason_has_its_output() -> None:
    outputs = {
        "empty": "...\n---",
        "too_short": "A bird of Europe.",
        "refusal": "I'm sorry, but I can't rewrite this text for you, as I have no access to the original passage.",
        "echo": f"{GOOD} {PROMPT}",
        "length_ratio": "Grey herons are large birds that wait for fish and for frogs.",
        "copied": SOURCE,
        "loop": f"{GOOD[:90]} " + "They wait and wait. " * 5,
    }
    assert reasons(list(outputs.values())) == list(outputs)
    assert reasons([GOOD, None, ""], finish_reason=["length", "stop", None]) == ["truncated", "empty", "truncated"]
    assert reasons([""], finish_reason=["content_filter"]) == ["refusal"]


def test_the_first_reason_is_told() -> None:
    both = f"I cannot help with that. {PROMPT}"
    assert reasons([both]) == ["refusal"]
    assert reasons([both], finish_reason=["length"]) == ["truncated"]
    assert reasons([f"{SOURCE} {SOURCE} {SOURCE}"]) == ["length_ratio"]


def test_limits_are_the_last_accepted() -> None:
    assert reasons([GOOD, GOOD], output_tokens=[10, 9], low=0, source_tokens=[10, 10]) == [None, "too_short"]
    tokens = [50, 49, 120, 121]
    found = reasons([GOOD] * 4, output_tokens=tokens, source_tokens=[100] * 4, high=1.2)
    assert found == [None, "length_ratio", None, "length_ratio"]
    # Four of five bytes from the source are accepted; words of its own in between keep 8-grams apart.
    source = "".join(chr(97 + i % 26) for i in range(400))
    for size, reason in ((80, None), (81, "copied")):
        text = source[:size] + " " + "0123456789 98765 43" + "x" * (99 - size - 19)
        assert len(text) == 100 or size == 81
        assert reasons([text[:100]], source, output_tokens=[20], source_tokens=[80], low=0) == [reason]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (f"<p>{GOOD}</p>", "markup"),
        (f"\\begin{{quote}}{GOOD}\\end{{quote}}", "markup"),
        (f'{{"title": "Herons", "text": "{GOOD}"}}', "markup"),
        (f"{GOOD[:80]}<|endoftext|>{GOOD[80:]}", "markup"),
        (GOOD.replace("a", "\ufffd"), "garbled"),
        (GOOD.replace("e", "\x00"), "garbled"),
        (GOOD[: GOOD.index("build")].strip(), "truncated"),
        (f"{GOOD} {GOOD}", "loop"),
        ("<think>Herons wait for fish and frogs in water, so I will begin with that and with Europe.", "empty"),
        (" ".join("grass" if i % 5 == 4 else word for i, word in enumerate(SOURCE.split())), "copied"),
    ],
)
def test_what_machines_write_is_found(output: str, reason: str) -> None:
    assert reasons([output], high=3.0) == [reason]
    if reason in ("markup", "garbled", "loop", "copied"):
        assert reasons([output], high=3.0, skip=frozenset([reason])) == [None]


def test_markup_of_the_source_is_none() -> None:
    source = f"<p>{SOURCE}</p> Models end with <|endoftext|>."
    assert reasons([f"<p>{GOOD}</p> The last mark of a model is <|endoftext|>."], source) == [None]


def test_hidden_reasoning_is_no_length() -> None:
    made = judge([GOOD], source_tokens=[len(SOURCE)], output_tokens=[9 * len(GOOD)])
    assert made["reason"].to_pylist() == [None]
    assert made["ratio"].to_pylist() == [pytest.approx(len(GOOD) / len(SOURCE))]


def test_questions_are_wanted_where_they_were_asked_for() -> None:
    asked = "Question: What do herons eat?\nAnswer: Fish and frogs, which they catch in shallow water."
    quoted = f"Question: What is a heron?\nAnswer: {SOURCE[:60]}"
    wanted = {"pairs": True, "paraphrase": False, "low": 0}
    assert reasons([asked, quoted, GOOD, SOURCE], **wanted) == [None, None, "pairs", "copied"]


def test_turns_that_were_asked_for_stay() -> None:
    talk = "User: What do herons eat?\nAssistant: Fish and frogs.\nUser: Where do they nest?\nAssistant: In trees."
    assert cleaned(talk, SOURCE, "Write a talk of User: and Assistant: lines.") == talk


def test_quoting_styles_may_copy() -> None:
    assert reasons([SOURCE], paraphrase=False) == [None]


def test_twelve_words_of_the_prompt_are_an_echo_and_eleven_are_none() -> None:
    words = PROMPT.split()
    for size, reason in ((12, "echo"), (11, None)):
        assert reasons([f"{GOOD} {' '.join(words[:size]).upper()}."]) == [reason]


def test_an_echo_is_one_though_it_would_be_cut() -> None:
    prompt = "Rewrite the text above in the style of an encyclopaedia and keep all of its facts and numbers."
    assert reasons([f"{GOOD}\n\n{prompt}"], prompt=prompt) == ["echo"]
    assert reasons([f"{GOOD}\n\nRewrite the text in a formal tone."], prompt=prompt) == [None]


def test_what_a_source_repeats_may_be_repeated() -> None:
    verse = "Row on and on\n" * 9
    song = f"They sing a song in the old village by the sea.\n{verse}Then they all go home again."
    told = f"There is a village by the sea where people sing.\n{verse}Afterwards they go to their houses."
    assert reasons([told], song, paraphrase=False) == [None]
    assert reasons([told], song.replace(verse, ""), paraphrase=False, high=9) == ["loop"]


def test_tokens_of_a_cleaned_output_are_its_share() -> None:
    whole = f"Sure! Here is the rewritten text:\n\n{GOOD}"
    made = judge([whole], output_tokens=[100], source_tokens=[100])
    assert made["text"].to_pylist() == [GOOD]
    assert made["ratio"].to_pylist() == [pytest.approx(len(GOOD) / len(whole))]


def test_an_empty_table_has_all_columns() -> None:
    assert judge([]).schema.names == judge([GOOD]).schema.names
    assert judge([]).num_rows == 0


def test_sliced_columns_are_their_rows() -> None:
    outputs = pa.array([SOURCE, GOOD, None, GOOD + " " + PROMPT])
    sources = pa.array(["x", SOURCE, SOURCE, SOURCE])
    tokens = pa.array([1, 40, 40, 40])
    rules = Rules(0.5, 2.0, True, PROMPT, None)
    made = check(
        sources[1:],
        outputs[1:],
        finish_reason=pa.array(["stop"] * 3),
        source_tokens=tokens[1:],
        output_tokens=tokens[1:],
        rules=rules,
    )
    assert made["reason"].to_pylist() == [None, "empty", "echo"]


@given(st.lists(st.tuples(hostile_text, hostile_text), max_size=4))
def test_any_text_has_one_known_reason(pairs: list[tuple[str, str]]) -> None:
    for source, output in pairs:
        made = judge([output, source], source)
        assert set(made["reason"].to_pylist()) <= {None, *REASONS}
        assert made["reason"].to_pylist()[1] is not None  # the source itself is never a rephrasing
        for name in ("copied", "overlap", "duplicate_lines"):
            assert all(0 <= value <= 1 for value in made[name].to_pylist())


@given(hostile_text, hostile_text)
def test_cleaning_takes_only_from_the_ends(text: str, source: str) -> None:
    made = cleaned(text, source)
    assert made in text
    assert made == made.strip()


@pytest.mark.parametrize(
    "text",
    [
        "Sure! Here is a simplified version:\n\n{}",
        "Certainly, here's the rewritten passage:\n{}",
        "**Rephrased text:** {}",
        "## Summary\n\n{}",
        "Of course.\n\nBelow is the text in other words:\n\n{}\n\nLet me know if you need anything else!",
        "{} I hope this helps!",
        "<think>Which facts? Herons, fish.</think>\n{}",
        "Which facts? Herons, fish.\n</think>\n\n{}",
        "<|channel|>analysis<|message|>Fish.<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>",
        "<|im_start|>assistant\n{}<|im_end|>",
        "{}</s>",
        "{}\n\nUser: And now the next one?\nAssistant: Gladly.",
        '{{"text": "{}"}}',
        "<rewritten>\n{}\n</rewritten>",
        "Title: Birds That Wait\n\n{}",
        "Sure, I can do that! Here's the passage reworded in a calm tone:\n\n{}",
        "{}\n\n[Word count: 40]",
        "{}\n\nChanges made:\n- shorter\n- plainer",
        "Original: The grey heron is a bird.\nRewritten: {}",
        "Хорошо! Вот новый вариант отрывка:\n\n{}",
        "没问题！下面是重写的段落：\n\n{}",
        "承知しました。以下は言い換えた文章です：\n\n{}",
        "Jasne! Oto uproszczona wersja:\n\n{}",
        "Elbette! İşte sadeleştirilmiş metin:\n\n{}",
        "{}\n\n---\n\n*Note: I have kept all the numbers.*",
        "```text\n{}\n```",
        "Here’s a paraphrase of the text:\n\n~~~\n{}\n~~~\n\nWould you like me to make it shorter?",
        "Gerne! Hier ist eine vereinfachte Fassung:\n\n{}",
        "Bien sûr ! Voici le texte reformulé :\n\n{}",
        "¡Claro! Aquí tienes el texto reescrito:\n\n{}\n\n¿Hay algo más en lo que pueda ayudarte?",
    ],
)
def test_surroundings_are_cut(text: str) -> None:
    assert cleaned(text.format(GOOD), SOURCE) == GOOD


@pytest.mark.parametrize(
    "text",
    [
        "Here is how herons hunt: they wait without moving.",
        "Certainly, herons are patient birds, and of course they are hungry.",
        "Of course the heron waits: it is patient.",
        "Question: What does a heron eat?\nAnswer: Fish and frogs.",
        "Great. Herons wait without moving.",
        "Result: two herons in shallow water.",
        "Herons are shy. If you have any questions about nests, the heron colonies have a warden.",
        "Herons are shy. If you have any questions, write to birds@example.org or come by.",
        '{"a": "one", "b": "two"}',
        "Text: a word with many senses.",
        "Mix the flour. If you'd like a darker crust, bake it for longer.",
        '"Let me know if you see one," said the ranger.',
        "```python\na = 1\n```\nand then\n```python\nb = 2\n```",
    ],
)
def test_what_belongs_to_a_text_stays(text: str) -> None:
    source = "Text: a word with several meanings." if text.startswith("Text") else SOURCE
    assert cleaned(text, source) == text


def test_what_the_source_says_is_never_cut() -> None:
    source = "Here is the list of questions: who, when, where. Let me know if you find out."
    text = "Here is the list of questions: who, when and where it was. Let me know if you learn it."
    assert cleaned(text, source) == text


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I’m  sorry, but I cannot help.", True),
        ("Thank you! Unfortunately, I am unable to see a text.", True),
        (f"{GOOD} However, I cannot continue with this request.", True),
        (f"{GOOD[:90]} I'm unable to rewrite what is left.", True),
        ("The given text does not contain enough facts.", True),
        (f"I am unable to swim. {GOOD}", False),
        ("My apologies, wrote the ranger, for the noise.", False),
        (f"{GOOD} I regret that I left, the ranger said.", False),
        ("As an AI, I have no opinion.", True),
        ("\"I'm sorry, but I can't do that.\"", True),
        ("Es tut mir leid, ich kann diesen Text nicht umschreiben.", True),
        ("Models say \"I'm sorry, but I can't help\" when they are asked.", False),
        ("A model was trained as a language model.", False),
        ("x" * 199 + ". As an AI, I have no opinion.", False),
        ("I cannot get my jam to set.", False),
    ],
)
def test_refusals_begin_a_sentence_near_the_start(text: str, refused: bool) -> None:
    assert refuses(text, SOURCE) is refused


def test_a_refusal_of_the_source_is_none() -> None:
    source = "I'm sorry, but I have no bread, said the sign. Everybody was sad about it."
    assert not refuses("I'm sorry, but there is no bread left: so said a sign.", source)
    assert refuses("I'm sorry, but I can't help. As an AI I eat no bread.", source)


def test_cleaning_takes_linear_time() -> None:
    started = time.process_time()
    for unit in ("Sure, here is ", "text: ", "```\n", "here is the text. ", "\n", ". ", "*", "Let me know ", "("):
        text = unit * (200_000 // len(unit))
        cleaned(text, "")
        refuses(text, "")
    assert time.process_time() - started < 20


@pytest.fixture
def phrases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(wording, "FOLDER", str(tmp_path))
    languages.cache_clear()
    yield tmp_path
    languages.cache_clear()


def test_a_bad_file_of_phrases_is_named(phrases: Path) -> None:
    lists = {key: ["x"] for key in wording.LISTS} | {key: {"x": 1} for key in wording.TABLES}
    for wrong, said in (
        ({}, "has the keys"),
        (lists | {"works": [True]}, "quotes"),
        (lists | {"scales": {"x": "y"}}, "number"),
    ):
        (phrases / "xx.yaml").write_text(json.dumps(wrong))
        with pytest.raises(RecipeError, match=rf"xx\.yaml.*{said}"):
            languages()


def test_every_language_has_every_list() -> None:
    assert sorted(languages()) == ["de", "en", "es", "fr", "it", "ja", "nl", "pl", "pt", "ru", "tr", "zh"]
    for one in languages().values():
        assert all(len(one[key]) >= 7 for key in wording.LISTS if key not in ("titles", "remarks", "excuses"))
        assert len(one["months"]) == 12


@pytest.fixture
def model() -> str:
    try:
        find("lid.176")
    except AssetError:
        pytest.skip("lid.176 is not here: `curate get-model lid.176` brings it")
    return "lid.176"


def test_another_language_is_told_where_both_are_sure(model: str) -> None:
    german = (
        "Der Graureiher lebt in Europa und Asien und wird bis zu einem Meter hoch. Er steht still im flachen Wasser."
    )
    made = judge([german, GOOD], model=model, low=0)
    assert made["reason"].to_pylist() == ["language", None]
    assert made["language"].to_pylist() == ["de", "en"]
    assert reasons([german[:70]], model=model, low=0, least=1) == [None]  # too little to be sure


def test_kin_languages_are_one(model: str) -> None:
    danish = "Fiskehejren er en stor fugl, der lever ved søer og åer i Europa og Asien, og den kan blive en meter høj."
    norwegian = (
        "Gråhegren er en stor fugl som lever ved innsjøer og elver i Europa og Asia, og den kan bli en meter høy."
    )
    assert reasons([norwegian], danish, model=model) == [None]


# ---------------------------------------------------------------- labelled outputs

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
EXACT = ("truncated", "empty", "echo", "copied", "refusal", "good")


def test_labelled_outputs_are_judged_as_the_report_says() -> None:
    import generations as bench

    rows, passages, styles = bench.load()
    assert len(rows) >= 300
    made = bench.judged(rows, passages, styles, None)
    said = [one["reason"] or "good" for one in made]
    for half in bench.HALVES:
        for label, labelled, said_so, both in bench.table(rows, said, half):
            if label in EXACT:
                assert both >= 0.8 * labelled - 1, (half, label)
                if label != "good":  # without a reason are also the unfaithful ones
                    assert both >= 0.8 * said_so, (half, label)
    rejected = [row for row, one in zip(rows, made, strict=True) if row["label"] == "good" and one["reason"]]
    assert len(rejected) <= 0.02 * sum(row["label"] == "good" for row in rows)
    surrounded = [(row["text"], one["text"]) for row, one in zip(rows, made, strict=True) if "text" in row]
    assert np.mean([text == clean for text, clean in surrounded]) >= 0.95
