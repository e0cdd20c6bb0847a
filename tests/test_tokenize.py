"""Token ids: text stays text, the end comes once, both engines agree, and what is no tokenizer is named."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import hostile_text
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from curate.errors import AssetError, DataError
from curate.stage import Verdict
from curate.stages import tokenize
from curate.stages.tokenize import Tokenize

SAMPLE = ["hello world, the cat sat on the mat", "the dog ran home 123 </s> <unk> [SEP]"] * 20
MODELS = ("bpe", "wordlevel", "unigram", "wordpiece")
END = {"bpe": "<|endoftext|>", "wordlevel": "</s>", "unigram": "</s>", "wordpiece": "[SEP]"}


def trained(kind):
    """A small tokenizer as a user has it: with specials, and with a template that adds them."""
    quiet = {"show_progress": False}
    if kind == "bpe":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=["<|endoftext|>", "<pad>"], initial_alphabet=alphabet, **quiet
        )
    elif kind == "wordlevel":
        made = Tokenizer(models.WordLevel(unk_token="[UNK]"))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordLevelTrainer(special_tokens=["[UNK]", "</s>", "[PAD]"], **quiet)
    elif kind == "unigram":
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=["<unk>", "</s>"], unk_token="<unk>", **quiet)
    else:
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordPieceTrainer(vocab_size=80, special_tokens=["[UNK]", "[SEP]", "[PAD]"], **quiet)
    made.train_from_iterator(SAMPLE, trainer)
    end = END[kind]
    made.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, made.token_to_id(end))]
    )
    made.enable_truncation(5)
    made.enable_padding(length=8)
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    for kind in MODELS:
        trained(kind).save(str(folder / f"{kind}.json"))
    return {kind: str(folder / f"{kind}.json") for kind in MODELS}


def ids_of(method, texts):
    made = method.apply(pa.table({"text": pa.array(texts, pa.large_string())}), Verdict())
    assert tuple(made.column_names) == method.adds
    assert made["tokens"].type == pa.int64()
    assert made["tokens"].to_pylist() == [len(one) for one in made["ids"].to_pylist()]
    return made["ids"].to_pylist()


def changed(files, kind, folder, change):
    """A tokenizer file with something changed."""
    raw = json.loads(Path(files[kind]).read_bytes())
    change(raw)
    (folder / "changed.json").write_text(json.dumps(raw))
    return str(folder / "changed.json")


# ---------------------------------------------------------------- text stays text


@pytest.mark.parametrize("kind", MODELS)
def test_names_of_specials_in_text_are_text(files, kind):
    method = Tokenize(files[kind])
    raw = json.loads(Path(files[kind]).read_bytes())
    unknown = {raw["model"].get("unk_token"), "<unk>"}
    special = {token["content"]: token["id"] for token in raw["added_tokens"]}
    never = {number for name, number in special.items() if name not in unknown}
    assert special[END[kind]] in never
    for name in special:
        for text in (name, f"a {name} b", f"a{name}b", f"{name}{name}", f" {name}\n"):
            (ids,) = ids_of(method, [text])
            assert not never & set(ids[:-1]), (text, ids)
            assert ids[-1] == special[END[kind]]
    with_specials = Tokenizer.from_file(files[kind]).encode(END[kind]).ids
    assert special[END[kind]] in with_specials, "left to itself the library gives the special id"


@pytest.mark.parametrize("kind", MODELS)
def test_other_text_has_the_ids_that_the_file_gives_it(files, kind):
    whole = Tokenizer.from_file(files[kind])
    whole.no_truncation()
    whole.no_padding()
    texts = ["the cat ran home", "", "hello hello 123", "unheard ünï", "the " * 100]
    end = whole.token_to_id(END[kind])
    wanted = [[*whole.encode(text, add_special_tokens=False).ids, end] for text in texts]
    assert ids_of(Tokenize(files[kind]), texts) == wanted


def test_a_byte_tokenizer_gives_the_text_back(files):
    texts = ["plain", "<|endoftext|> ünï \U0001f600\n\n", "<pad>", ""]
    whole = Tokenizer.from_file(files["bpe"])
    for text, ids in zip(texts, ids_of(Tokenize(files["bpe"]), texts), strict=True):
        pieces = "".join(whole.id_to_token(one) for one in ids[:-1])
        letters = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
        assert set(pieces) <= letters.keys()
        assert Tokenizer.from_str(_byte_level(whole)).decode(ids[:-1], skip_special_tokens=False) == text


def _byte_level(tokenizer):
    raw = json.loads(tokenizer.to_str())
    raw["decoder"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps(raw)


@given(st.lists(hostile_text | st.just("<|endoftext|>"), max_size=6))
def test_both_engines_agree_and_end_once(files, texts):
    slow, fast = (ids_of(Tokenize(files["bpe"], engine=engine), texts) for engine in ("tokenizers", "fastokens"))
    assert slow == fast
    assert all(ids.count(0) == 1 and ids[-1] == 0 for ids in slow)
    assert 1 not in {one for ids in slow for one in ids}


@given(st.lists(st.sampled_from(["", "the cat", "a </s> b", "x" * 50]), max_size=9), st.integers(1, 200))
def test_batches_leave_no_trace(files, texts, batch_bytes):
    whole = ids_of(Tokenize(files["bpe"], engine="fastokens"), texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenize, "BATCH_BYTES", batch_bytes)
        assert ids_of(Tokenize(files["bpe"], engine="fastokens"), texts) == whole


def test_a_fast_engine_that_differs_stops_the_unit(files, monkeypatch):
    def wrong(asset, texts):
        flat, counts = tokenize._reference(asset, texts)
        return flat[::-1], counts

    monkeypatch.setitem(tokenize._ENCODERS, "fastokens", wrong)
    with pytest.raises(DataError, match=r"differs from the reference on the text that begins 'the cat'"):
        ids_of(Tokenize(files["bpe"], engine="fastokens"), ["x" * 30_000, "the cat"])


def test_slices_and_chunks_of_text(files):
    texts = pa.array(["no", "the cat", "", "hello", "no"], pa.large_string())
    wanted = ids_of(Tokenize(files["bpe"]), ["the cat", "", "hello"])
    sliced = pa.table({"text": texts.slice(1, 3)})
    chunked = pa.table({"text": pa.chunked_array([texts.slice(1, 1), texts.slice(2, 2)])})
    for table in (sliced, chunked):
        assert Tokenize(files["bpe"]).apply(table, Verdict())["ids"].to_pylist() == wanted


def test_a_shard_without_documents(files):
    made = Tokenize(files["bpe"]).apply(pa.table({"text": pa.array([], pa.large_string())}), Verdict())
    assert made.num_rows == 0
    assert made["ids"].type == pa.large_list(pa.uint16())
    assert Tokenize(files["bpe"]).counts(made, made) == {"tokens": {"all": 0}}


# ---------------------------------------------------------------- facts


def test_facts_of_the_file(files):
    size = Tokenizer.from_file(files["bpe"]).get_vocab_size()
    pad = {"pad": "<pad>", "pad_id": 1}
    assert Tokenize(files["bpe"]).facts == {"vocabulary": size, "end": "<|endoftext|>", "end_id": 0, **pad}
    assert Tokenize(files["bpe"], end="<pad>").facts["end_id"] == 1
    assert Tokenize(files["bpe"], end="<pad>").facts["pad"] is None, "the end is no padding"
    facts = Tokenize(files["unigram"]).facts
    assert (facts["end"], facts["pad"], facts["pad_id"]) == ("</s>", None, None)


@pytest.mark.parametrize(("largest", "dtype"), [(65_498, pa.uint16()), (65_499, pa.uint32()), (70_000, pa.uint32())])
def test_ids_are_as_wide_as_the_largest_needs(files, tmp_path, largest, dtype):
    def widen(raw):
        raw["added_tokens"].append({**raw["added_tokens"][0], "id": largest, "content": "<last>"})

    method = Tokenize(changed(files, "bpe", tmp_path, widen), end="<last>")
    assert method.facts["vocabulary"] == largest + 1
    made = method.apply(pa.table({"text": ["the cat"]}), Verdict())
    assert made["ids"].type == pa.large_list(dtype)
    assert made["ids"].to_pylist()[0][-1] == largest


def test_identity_is_content_not_place(files, tmp_path):
    copy = changed(files, "bpe", tmp_path, lambda raw: None)
    assert Tokenize(copy).identity() == Tokenize(files["bpe"]).identity()
    assert Tokenize(copy, end="<pad>").identity() != Tokenize(copy).identity()


# ---------------------------------------------------------------- what is wrong


def test_a_missing_end_is_named(files, tmp_path):
    with pytest.raises(AssetError, match=r"no end-of-text token '</s>' among its specials \(<pad>, <\|endoftext\|>\)"):
        _ = Tokenize(files["bpe"], end="</s>").facts
    none = changed(files, "bpe", tmp_path, lambda raw: raw.update(added_tokens=[]))
    with pytest.raises(AssetError, match=r"among its specials \(none\); name it with `end:`"):
        _ = Tokenize(none).facts


BROKEN = {
    "no json": b"{",
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "no model": b"{}",
    "a model that is none": b'{"model": []}',
    "a model of no kind": b'{"model": {"vocab": {"a": 0}}, "added_tokens": '
    b'[{"id": 1, "content": "</s>", "special": true}]}',
    "tokens that are none": b'{"model": {}, "added_tokens": [3]}',
    "a token without id": b'{"model": {}, "added_tokens": [{"content": "</s>", "special": true}]}',
    "merges of nothing": b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}, '
    b'"added_tokens": [{"id": 1, "content": "</s>", "special": true, "single_word": false, "lstrip": false, '
    b'"rstrip": false, "normalized": false}]}',
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_named(tmp_path, what):
    (tmp_path / "broken.json").write_bytes(BROKEN[what])
    with pytest.raises(AssetError, match=r"broken\.json"):
        ids_of(Tokenize(str(tmp_path / "broken.json")), ["a"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AssetError, match=r"no .* at .*none\.json"):
        _ = Tokenize(str(tmp_path / "none.json")).facts


def test_what_the_fast_engine_cannot_load_is_named(files):
    with pytest.raises(AssetError, match=r"unigram\.json.*`engine: tokenizers`"):
        ids_of(Tokenize(files["unigram"], engine="fastokens"), ["a"])


# ---------------------------------------------------------------- inside packages


@pytest.fixture
def package(files, tmp_path, monkeypatch):
    """A package that is installed, and that must not be imported to be looked into."""
    inside = tmp_path / "site" / "curate_test_tokens"
    (inside / "data").mkdir(parents=True)
    (inside / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (inside / "data" / "tokenizer.json").write_bytes(Path(files["bpe"]).read_bytes())
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return "package:curate_test_tokens"


def test_a_tokenizer_inside_a_package(files, package):
    method = Tokenize(f"{package}/data/tokenizer.json")
    assert method.facts == Tokenize(files["bpe"]).facts
    assert ids_of(method, ["the cat"]) == ids_of(Tokenize(files["bpe"]), ["the cat"])
    assert "curate_test_tokens" not in sys.modules


def test_what_no_package_holds_is_named(package):
    for location, message in (
        (f"{package}/data/none.json", "package 'curate_test_tokens' has no file 'data/none.json'"),
        (package, "package 'curate_test_tokens' has no file ''"),
        ("package:curate_test_none/a.json", "package 'curate_test_none' is not installed here"),
        ("package:json/a.json", "package 'json' has no file 'a.json'"),
        ("package:os/a.json", "package 'os' is not installed here"),
        ("package:../a.json", "package '..' is not installed here"),
    ):
        with pytest.raises(AssetError) as raised:
            _ = Tokenize(location).facts
        assert message in str(raised.value)


def test_tokens_are_counted(files):
    made = Tokenize(files["bpe"]).apply(pa.table({"text": ["the cat", ""]}), Verdict())
    assert Tokenize(files["bpe"]).counts(made, made) == {"tokens": {"all": int(np.sum(made["tokens"].to_numpy()))}}
