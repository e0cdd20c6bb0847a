"""The language stage: labels, scores, nulls, prefixes and mixes, with a model made here, and lid.176 if it is here."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle_fasttext import write_model
from strategies import hostile_text

from curate import identify as module
from curate import recipe
from curate.arrow import encode
from curate.assets import KNOWN, find
from curate.errors import AssetError, RecipeError
from curate.expressions import evaluate
from curate.stage import Verdict
from curate.stages.language import Language

NAME = "lid.176"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A classifier of two languages, by one word each."""
    path = tmp_path_factory.mktemp("model") / "two.bin"
    path.write_bytes(write_model({"the": "en", "der": "de"}))
    return str(path)


def judged(stage: Language, texts: list[str]) -> pa.Table:
    made = stage.apply(pa.table({"text": pa.array(texts, pa.large_string())}), Verdict())
    assert tuple(made.column_names) == stage.adds
    assert made.num_rows == len(texts)
    encode(made)
    return made


def test_labels_lose_their_prefix_and_scores_are_shares(model: str) -> None:
    made = judged(Language(model), ["the the der", "der", "the\nder\nder", "x y"])
    assert made["language"].to_pylist()[:3] == ["en", "de", "de"]
    scores = made["language_score"].to_numpy()
    assert made["language_score"].type == pa.float32()
    assert scores[1] > scores[0] > 0.5
    assert scores.max() <= 1
    assert scores[3] == pytest.approx(0.5, abs=1e-4)


def test_a_text_without_a_word_has_no_language(model: str) -> None:
    made = judged(Language(model, paragraphs=True), ["", " \t\n\r\x00", "the"])
    assert made["language"].to_pylist() == [None, None, "en"]
    assert made["language_score"].null_count == 2
    assert made["languages"].to_pylist()[:2] == [[], []]
    true, unknown = evaluate("language = 'en' and language_score > 0.5", made.select(["language", "language_score"]))
    assert true.tolist() == [False, False, True]
    assert unknown.tolist() == [True, True, False]
    assert judged(Language(model, paragraphs=True, max_bytes=3), []).num_rows == 0


def test_the_mix_counts_bytes_of_lines(model: str) -> None:
    texts = ["the the\nder\n\n   \n", "der\nthe\n", "der", "\n\n", "the\nthe der der der"]
    mixes = judged(Language(model, paragraphs=True), texts)["languages"].to_pylist()
    assert mixes[0] == [
        {"language": "en", "share": pytest.approx(8 / 12)},
        {"language": "de", "share": pytest.approx(4 / 12)},
    ]
    assert [one["language"] for one in mixes[1]] == ["de", "en"]  # equal shares: by name
    assert mixes[2] == [{"language": "de", "share": 1.0}]
    assert mixes[3] == []
    assert mixes[4] == [
        {"language": "de", "share": pytest.approx(15 / 19)},
        {"language": "en", "share": pytest.approx(4 / 19)},
    ]


def test_a_prefix_ends_with_a_whole_character(model: str) -> None:
    texts = ["the der der der", "th", "", "the\U0001f600 der"]
    assert judged(Language(model, max_bytes=4), texts)["language"].to_pylist()[0] == "en"
    for size in range(1, 12):
        stage = Language(model, max_bytes=size, paragraphs=True)
        cut = [text.encode()[:size].decode(errors="ignore") for text in texts]
        assert judged(stage, texts).equals(judged(Language(model, paragraphs=True), cut))


@given(
    texts=st.lists(hostile_text, max_size=6),
    size=st.one_of(st.none(), st.integers(1, 60)),
    first=st.integers(0, 6),
)
def test_slices_and_prefixes_are_texts_of_their_own(model: str, texts: list[str], size: int | None, first: int) -> None:
    stage = Language(model, max_bytes=size, paragraphs=True)
    column = pa.array(texts, pa.large_string()).slice(min(first, len(texts)))
    made = stage.apply(pa.table({"text": column}), Verdict())
    for row, text in zip(made.to_pylist(), column.to_pylist(), strict=True):
        text = text if size is None else text.encode()[:size].decode(errors="ignore")
        alone = judged(Language(model), [text]).to_pylist()[0]
        assert (row["language"], row["language_score"]) == (alone["language"], alone["language_score"])
        lines = judged(Language(model), [line + "\n" for line in text.split("\n")])["language"].to_pylist()
        sizes: dict[str, int] = {}
        parts = text.split("\n")
        for index, (line, label) in enumerate(zip(parts, lines, strict=True)):
            if label is not None:
                sizes[label] = sizes.get(label, 0) + len(line.encode()) + (index < len(parts) - 1)
        order = sorted(sizes, key=lambda label: (-sizes[label], label))
        assert [one["language"] for one in row["languages"]] == order
        shares = [sizes[label] / sum(sizes.values()) for label in order]
        assert [one["share"] for one in row["languages"]] == pytest.approx(shares)


def test_counts_name_the_languages(model: str) -> None:
    stage, shard = Language(model), pa.table({"text": pa.array(["the", "der", "der", ""], pa.large_string())})
    assert stage.counts(shard, stage.apply(shard, Verdict())) == {"languages": {"en": 1, "de": 2, "none": 1}}


def test_a_model_is_read_once_for_a_process(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(Language(model), ["the"])
    monkeypatch.setattr(module.fasttext, "parse", None)
    assert judged(Language(model), ["der"])["language"].to_pylist() == ["de"]


def test_bad_parameters_and_models_are_named(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (0, -1):
        with pytest.raises(RecipeError, match="above 0"):
            Language(max_bytes=size)
    for wrong in ("10", 1.5, True):
        with pytest.raises(RecipeError, match="max_bytes"):
            recipe.build(Language, {"max_bytes": wrong})
    (tmp_path / "page.html").write_text("<html>not found</html>" * 9)
    with pytest.raises(AssetError, match=r"page\.html is no fastText model that can be used: it begins with"):
        Language(str(tmp_path / "page.html")).bind({})
    with pytest.raises(AssetError, match="no file at"):
        Language(str(tmp_path / "nothing.ftz")).bind({})
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path))
    monkeypatch.setattr("curate.assets.carried", lambda name: None)
    with pytest.raises(AssetError, match=r"run `curate get-model lid\.176`") as caught:
        Language().bind({})
    assert caught.value.exit_code == 5
    assert Language(model).bind({}) == Language(model)


def test_a_known_name_in_a_recipe_stays_a_name(tmp_path: Path) -> None:

    def placed(name: str) -> str:
        return recipe._place(str(tmp_path), name)

    assert placed(NAME) == NAME
    assert placed("my.bin") == str(tmp_path / "my.bin")
    (tmp_path / NAME).write_bytes(b"")
    assert placed(NAME) == str(tmp_path / NAME)


@pytest.fixture
def lid() -> str:
    """The known model's name, if the model is here."""
    try:
        find(NAME)
    except AssetError:
        pytest.skip(f"{NAME} is not here: `curate get-model {NAME}` brings it")
    return NAME


def test_lid_knows_sentences(lid: str) -> None:
    texts = [
        "The quick brown fox jumps over the lazy dog",
        "这是一个关于语言的简单句子。",
        "Это простое предложение о языке.",
    ]
    made = judged(Language(lid), texts)
    assert made["language"].to_pylist() == ["en", "zh", "ru"]
    assert made["language_score"].to_numpy()[0] == pytest.approx(0.7206, abs=1e-4)
    assert made["language_score"].to_numpy().max() <= 1


def test_lid_equals_the_library(lid: str) -> None:
    library: Any = pytest.importorskip("fasttext")
    texts = ["Ein kurzer Satz über nichts", "a", "\x00x", "</s>", "__label__en und", "日本語のテキスト" * 99, "1234 !?"]
    made = judged(Language(lid), texts)
    labels, scores = library.load_model(find(lid).uri).predict(texts)
    assert made["language"].to_pylist() == [one[0].removeprefix("__label__") for one in labels]
    assert np.abs(made["language_score"].to_numpy() - np.minimum(1, [one[0] for one in scores])).max() < 1e-5


def test_lid_is_right_on_gold_sentences(lid: str, shared: Path) -> None:
    path = shared / "data" / "langid" / "pud.parquet"
    if not path.exists():
        pytest.skip("no gold sentences")
    gold = pq.read_table(path)
    made = judged(Language(lid), gold["text"].to_pylist())
    right = np.array(made["language"].to_pylist()) == np.array(gold["language"].to_pylist())
    assert right.mean() > 0.99
    assert KNOWN[NAME].size == 938_013
