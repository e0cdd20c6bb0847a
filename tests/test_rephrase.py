"""Rows that `rephrase` gives: where they are from, which they are, and what they do not depend on."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import oracle_fasttext
import pyarrow as pa
import pytest
import rephrased
import xxhash
from corpus import digests
from llm_server import Server, served
from oracle_fasttext import write_model
from rephrased import REASONS, Generator, fate, made, paraphrase, rejects, rows
from static_model import write_static

from curate.asking import token_limit
from curate.assets import find
from curate.diversity import comparable, diversity
from curate.embedding import load
from curate.errors import RecipeError
from curate.execute import pool
from curate.faithfulness import cosines, faithfulness
from curate.fasttext import parse
from curate.passages import passages, whole
from curate.run import Result
from curate.styles import style
from curate.transformer import Use
from curate.verify import verify


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rephrase")
    rephrased.write(place)
    write_static(place / "static")
    write_static(place / "strange")
    tokens = json.loads((place / "strange" / "tokenizer.json").read_text())
    tokens["model"]["vocab"] = {
        name if name == "[UNK]" else f"zz{name}": at for name, at in tokens["model"]["vocab"].items()
    }
    (place / "strange" / "tokenizer.json").write_text(json.dumps(tokens))
    (place / "odd.bin").write_bytes(write_model({"thing": "odd", "the": "plain", "and": "plain", "water": "plain"}))
    return place


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return Generator(folder)


@pytest.fixture(scope="module")
def server(generator: Generator) -> Iterator[Server]:
    with served(says=generator) as one:
        yield one


@pytest.fixture(autouse=True)
def place(server: Server, generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    generator.faulty = True
    monkeypatch.setenv("CURATE_LLM", server.url)
    monkeypatch.delenv("CURATE_LLM_KEY", raising=False)


@pytest.fixture(scope="module")
def mixed(folder: Path, server: Server, generator: Generator) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATE_LLM", server.url)
        generator.faulty = True
        return made(folder, "mixed", ending=rephrased.MIXED, revision="r7")


def cut(folder: Path, result: Result, name: str = "told") -> list[dict[str, Any]]:
    """The passages of the documents that were selected, in order, as they ought to be."""
    documents = rephrased.table(result, "real")
    asked, tokens = style(str(folder / f"{name}.yaml")), whole(Generator(folder).tokens)
    limit = asked.passages
    most = limit.most
    if most is None:
        counted = [len(tokens.encode(text)) for text in (asked.prompt.replace("{text}", ""),)]
        most = (limit.input or 0) - sum(counted) - 2
    found = passages(
        documents["text"], most=most, least=limit.least, split=limit.split, tokens=tokens, document=limit.document
    ).table.to_pylist()
    numbers: Counter[int] = Counter()
    for one in found:
        document = documents.slice(one["row"], 1).to_pylist()[0]
        one["text"] = document["text"].encode()[one["start"] : one["end"]].decode()
        one["document"], one["passage"] = document, numbers[one["row"]]
        one["origin"] = f"{document['origin']}#{name}.{one['passage']}"
        numbers[one["row"]] += 1
    return found


def total(result: Result, name: str = "told") -> Any:
    return rephrased.dataset(result, name).manifest.total


def asked(server: Server) -> int:
    return server.seen.requests.total()


# ---------------------------------------------------------------- a whole run


def test_rows_have_their_lineage_and_the_order_of_documents(folder: Path, mixed: Result) -> None:
    parents = {row["id"]: row for row in rows(mixed, "real")}
    found, expected = rows(mixed), cut(folder, mixed)
    assert len(found) > 40
    place = {one["origin"]: number for number, one in enumerate(expected)}
    numbers = [place[row["origin"]] for row in found]
    assert numbers == sorted(numbers)
    for row, number in zip(found, numbers, strict=True):
        source, parent = expected[number], parents[row["parent"]]
        passage = parent["text"].encode()[row["start"] : row["end"]].decode()
        assert passage == source["text"]
        assert row["text"] == paraphrase(passage, 0)
        assert row["id"] == xxhash.xxh3_128_digest(row["text"].encode())
        assert row["bytes"] == len(row["text"].encode())
        assert (row["source"], row["url"]) == (parent["source"], parent["url"])
        assert (row["style"], row["style_version"], row["generator"]) == ("told", 1, "small@r7")
        assert (row["passages"], row["candidate"], len(row["scores"])) == (1, [0], 1)
        assert (
            row["novel_share"] == faithfulness(pa.array([passage]), pa.array([row["text"]]))["novel_share"][0].as_py()
        )
        assert row["similarity"] is None
        assert 0.5 <= row["length_ratio"] <= 2
    assert any(not row["text"].isascii() for row in found), "places are in bytes, which shows only then"


def test_every_answer_is_a_row_or_a_reject_with_its_reason(folder: Path, mixed: Result) -> None:
    expected = {one["origin"]: one for one in cut(folder, mixed)}
    aside = {one["origin"]: one for one in rejects(mixed)}
    kept = {row["origin"] for row in rows(mixed)}
    assert kept | aside.keys() == expected.keys()
    assert not kept & aside.keys()
    for origin, one in expected.items():
        spoilt = fate(one["text"], 0)
        assert (aside[origin]["reason"] == spoilt) if spoilt else (origin not in aside or aside[origin]["reason"])
    assert {one["reason"] for one in aside.values()} >= set(REASONS)
    copied = next(one for one in aside.values() if one["reason"] == "copied")
    assert copied["raw"].decode() == expected[copied["origin"]]["text"]
    counted = total(mixed, "told")
    outputs = counted("outputs")
    assert outputs == {"answered": len(expected), "accepted": len(kept), "surpassed": 0, "rejected": len(aside)}
    assert counted("rejected") == Counter(one["reason"] for one in aside.values())
    assert sum(receipt.rejected for receipt in rephrased.dataset(mixed).manifest.units) == len(aside)
    parents = {one["document"]["origin"] for one in expected.values()}
    documents = len(rows(mixed, "real"))
    assert counted("asked") == {"documents": documents, "without_passage": documents - len(parents)}
    assert sum(counted("documents").values()) == len(kept)


def test_a_mixture_of_real_and_rephrased(mixed: Result) -> None:
    both = rows(mixed, "concat")
    assert Counter(row["source"] for row in both) == {"real": len(rows(mixed, "real")), "synthetic": len(rows(mixed))}
    assert [row["parent"] for row in both if row["source"] == "synthetic"] == [row["parent"] for row in rows(mixed)]
    assert {row["style"] for row in both if row["source"] == "real"} == {None}
    lengths = np.array([row["tokens"] for row in rows(mixed, "tokenize")])
    copies = np.array([row["copies"] for row in rows(mixed, "mix")])
    synthetic = np.array([row["source"] == "synthetic" for row in both])
    taken = [int((lengths * copies)[which].sum()) for which in (synthetic, ~synthetic)]
    assert abs(taken[0] - taken[1]) < 0.05 * sum(taken)
    assert verify(mixed.out)["damaged"] == []


@pytest.mark.slow
def test_workers_leave_no_trace(folder: Path, mixed: Result) -> None:
    with pool(2) as map:
        made(folder, "two", ending=rephrased.MIXED, revision="r7", map=map)
    first, second = (shown(folder / name) for name in ("mixed", "two"))
    assert first == second


def shown(run: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(run).items() if not name.startswith("answers")}


def test_shards_of_other_sizes_give_the_same_rows(folder: Path, mixed: Result) -> None:
    small = made(folder, "small", shard_bytes=1500, revision="r7", answers=folder / "mixed" / "answers.sqlite")
    assert len(rephrased.dataset(small).manifest.shards) > len(rephrased.dataset(mixed).manifest.shards)
    assert sorted(map(str, rows(small))) == sorted(map(str, rows(mixed)))
    assert sorted(map(str, rejects(small))) == sorted(map(str, rejects(mixed)))


def test_run_again_nothing_is_done_or_asked(folder: Path, mixed: Result, server: Server) -> None:
    before = asked(server)
    again = made(folder, "mixed", ending=rephrased.MIXED, revision="r7")
    assert (again.worked, asked(server)) == (0, before)


# ---------------------------------------------------------------- what is asked, and what is not


def test_runs_share_a_store_and_ask_only_for_what_is_new(folder: Path, server: Server) -> None:
    one = made(folder, "share-a", answers="shared.sqlite", styles="whole.yaml")
    first = asked(server)
    other = made(folder, "share-b", answers="shared.sqlite", styles="whole.yaml", ending=rephrased.MIXED)
    assert asked(server) == first
    assert rows(other) == rows(one)
    both = made(folder, "share-c", answers="shared.sqlite", styles="[whole.yaml, told.yaml]")
    new = {one["text"] for one in cut(folder, both)}
    assert asked(server) == first + len(new)
    assert [row for row in rows(both) if row["style"] == "whole"] == rows(one)
    assert not (folder / "share-a" / "answers.sqlite").exists()


def test_who_answers_is_no_part_of_the_rows(folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    made(folder, "same")
    before = asked(server)
    monkeypatch.setenv("CURATE_OTHER", "http://127.0.0.1:9")
    for more in (
        {"server": "env:CURATE_OTHER"},
        {"limits": "{concurrency: 1, timeout: 3, tries: 2, tokens: 5M, money: 1.5, input_price: 1, output_price: 2}"},
        {"answers": "elsewhere.sqlite"},
    ):
        assert made(folder, "same", **more).worked == 0
    assert asked(server) == before


def test_what_rows_depend_on_is_asked_anew(folder: Path, server: Server) -> None:
    first = made(folder, "anew")
    passages = len({one["text"] for one in cut(folder, first)})
    found = {rephrased.dataset(first).folder}
    for more in ({"model": "smaller"}, {"seed": 5}, {"revision": "r8"}, {"styles": "newer/told.yaml"}):
        if "styles" in more:
            (folder / "newer").mkdir()
            (folder / "newer" / "told.yaml").write_text(rephrased.TOLD.replace("version: 1", "version: 2"))
        before = asked(server)
        found.add(rephrased.dataset(made(folder, "anew", **more)).folder)
        assert asked(server) == before + passages, more
    before = asked(server)
    found.add(rephrased.dataset(made(folder, "anew", candidates=3)).folder)
    assert asked(server) == before + 2 * passages, "the first of three was there already"
    for more in ({"candidates": 3, "best": "tokens"}, {"candidates": 3, "direction": "lowest"}, {"novel": 0.5}):
        found.add(rephrased.dataset(made(folder, "anew", **more)).folder)
    assert asked(server) == before + 2 * passages, "another choice among answers asks for none"
    assert len(found) == 9


# ---------------------------------------------------------------- styles


def test_the_first_condition_that_holds_decides(folder: Path) -> None:
    routes = "{source = 'code': whole.yaml, bytes > 250: [told.yaml, distill]}"
    result = made(folder, "routes", styles=routes)
    parents = {row["id"]: row for row in rows(result, "real")}
    known = {(row["parent"], row["style"]) for row in rows(result)}
    aside = {tuple(one["origin"].rsplit(".", 1)[0].split("#")) for one in rejects(result)}
    seen = {(parents[parent]["origin"], name) for parent, name in known} | aside
    for parent in parents.values():
        code, long = parent["source"] == "code", parent["bytes"] > 250
        names = {name for origin, name in seen if origin == parent["origin"]}
        assert names <= ({"whole"} if code else {"told", "distill"} if long else set())
        assert code or not long or "told" in names
    assert {name for _, name in seen} == {"whole", "told", "distill"}
    left = total(result)("asked")["without_passage"]
    assert left >= sum(parent["source"] != "code" and parent["bytes"] <= 250 for parent in parents.values()) > 0


def test_nothing_to_ask_is_no_rows(folder: Path, server: Server) -> None:
    before = asked(server)
    result = made(folder, "none", styles="{bytes > 1000000: told.yaml}", embedding="static")
    assert rephrased.table(result).num_rows == 0
    assert rephrased.table(result).column_names == list(rephrased.dataset(result).manifest.columns)
    assert (rejects(result), asked(server)) == ([], before)
    assert total(result)("outputs") == {"answered": 0, "accepted": 0, "surpassed": 0, "rejected": 0}


def test_one_style_is_drawn_for_each_document(folder: Path) -> None:
    names = "[told.yaml, easier/told.yaml]"
    (folder / "easier").mkdir()
    (folder / "easier" / "told.yaml").write_text(rephrased.TOLD.replace("name: told", "name: easier"))
    few, many = (
        made(folder, f"drawn-{size}", styles=names, each="one", shard_bytes=size, answers="drawn.sqlite")
        for size in (1500, 20000)
    )
    by_parent: dict[bytes, set[str]] = {}
    for row in rows(few):
        by_parent.setdefault(row["parent"], set()).add(row["style"])
    counted = Counter(next(iter(some)) for some in by_parent.values())
    assert set(map(len, by_parent.values())) == {1}
    assert min(counted["told"], counted["easier"]) > len(by_parent) / 4
    assert sorted(map(str, rows(few))) == sorted(map(str, rows(many)))
    other = made(folder, "drawn-20000", styles=names, each="one", seed=1, answers="drawn.sqlite")
    assert {(row["parent"], row["style"]) for row in rows(other)} != {
        (row["parent"], row["style"]) for row in rows(few)
    }


def test_a_document_of_its_passages(folder: Path) -> None:
    result = made(folder, "whole", styles="whole.yaml")
    expected: dict[bytes, list[dict[str, Any]]] = {}
    for one in cut(folder, result, "whole"):
        if not fate(one["text"], 0):
            expected.setdefault(one["document"]["id"], []).append(one)
    spoilt = {one["origin"] for one in rejects(result)}
    found = rows(result)
    assert max(row["passages"] for row in found) > 1
    for row in found:
        parts = [one for one in expected[row["parent"]] if one["origin"] not in spoilt]
        assert row["text"] == "\n".join(paraphrase(one["text"], 0) for one in parts)
        assert (row["passages"], row["start"], row["end"]) == (len(parts), parts[0]["start"], parts[-1]["end"])
        assert row["origin"] == f"{parts[0]['document']['origin']}#whole"
        assert (len(row["candidate"]), len(row["scores"])) == (len(parts), len(parts))
    short = [one for one in rejects(result) if one["reason"] == "too_short"]
    assert all(one["origin"].count("#whole.") == 1 for one in short)
    counted = total(result)("outputs")
    assert counted["accepted"] == sum(row["passages"] for row in found)
    assert counted["answered"] == counted["accepted"] + counted["rejected"]


def test_questions_stand_behind_their_passage(folder: Path) -> None:
    result = made(folder, "pairs", styles="diverse_qa")
    texts = {row["id"]: row["text"].encode() for row in rows(result, "real")}
    numbers = set()
    for row in rows(result):
        passage = texts[row["parent"]][row["start"] : row["end"]].decode()
        assert row["text"].startswith(passage + "\n\nQuestion: ")
        questions = row["text"].removeprefix(passage).split("\n\n")[1:]
        known = rephrased.pairs(passage).removeprefix("- ").split("\n- ")
        assert set(questions) <= set(known)
        assert len(set(questions)) == len(questions)
        numbers.add(len(questions))
    assert len(numbers) > 1
    assert min(numbers) >= 1


# ---------------------------------------------------------------- the best of several


@pytest.mark.parametrize("direction", ["highest", "lowest"])
@pytest.mark.parametrize("best", ["mtld", "tokens", "similarity", "label"])
def test_the_best_accepted_candidate_is_taken(folder: Path, best: str, direction: str) -> None:
    more = {"classifier": "odd.bin", "label": "odd"} if best == "label" else {"embedding": "static"}
    out = f"best-{best}-{direction}"
    result = made(folder, out, candidates=4, best=best, direction=direction, answers="best.sqlite", **more)
    classifier = parse((folder / "odd.bin").read_bytes())
    odd = [str(label).removeprefix("__label__") for label in classifier.labels].index("odd")
    tokens = Generator(folder).tokens
    vectors = load(find(str(folder / "static")), Use()).vectors
    found = {row["origin"]: row for row in rows(result)}
    aside = {one["origin"] for one in rejects(result)}
    surpassed = 0
    chosen = Counter[int]()
    for one in cut(folder, result):
        names = [f"{one['origin']}.{candidate}" for candidate in range(4)]
        accepted = [candidate for candidate, name in enumerate(names) if name not in aside]
        assert not any(fate(one["text"], candidate) for candidate in accepted)
        if not accepted:
            assert one["origin"] not in found
            continue
        texts = [paraphrase(one["text"], candidate) for candidate in accepted]
        if best == "mtld":
            scores = comparable(diversity(pa.array(texts, pa.large_string())))
        elif best == "tokens":
            scores = np.array([float(len(tokens.encode(text))) for text in texts])
        elif best == "label":
            scores = np.array([oracle_fasttext.scores(classifier, text)[odd] for text in texts])
        else:
            many = pa.array([one["text"], *texts], pa.large_string())
            each = vectors(many, long="head", batch=2048)[0]
            scores = cosines(np.repeat(each[:1], len(texts), axis=0), each[1:])
        row = found[one["origin"]]
        given = np.array([np.nan if (score := row["scores"][n]) is None else score for n in accepted])
        assert len(row["scores"]) == 4
        np.testing.assert_allclose(given, scores, atol=1e-4)
        known = given * (1 if direction == "highest" else -1)  # what has no score is not chosen, unless nothing has one
        place = int(np.nanargmax(known)) if not np.isnan(known).all() else 0
        assert row["candidate"] == [accepted[place]]
        assert row["text"] == paraphrase(one["text"], row["candidate"][0])
        surpassed += len(accepted) - 1
        chosen[row["candidate"][0]] += 1
    assert len(chosen) > 1, "always the same one would be chosen by its place"
    counted = total(result)("outputs")
    assert counted["surpassed"] == surpassed > 0
    assert counted["answered"] == counted["accepted"] + counted["surpassed"] + counted["rejected"]


def test_what_is_unlike_its_passage_is_rejected(folder: Path) -> None:
    all_ = made(folder, "likeness", embedding="static")
    known = {row["origin"]: row for row in rows(all_)}
    texts = {row["id"]: row["text"].encode() for row in rows(all_, "real")}
    vectors = load(find(str(folder / "static")), Use()).vectors
    sources = [texts[row["parent"]][row["start"] : row["end"]].decode() for row in known.values()]
    outputs = [row["text"] for row in known.values()]
    pairs = [vectors(pa.array(some, pa.large_string()), long="head", batch=2048)[0] for some in (sources, outputs)]
    expected = cosines(*pairs)
    given = np.array([np.nan if row["similarity"] is None else row["similarity"] for row in known.values()])
    np.testing.assert_allclose(given, expected, atol=1e-6)
    least = round(float(median(expected[~np.isnan(expected)])), 3)
    some = made(folder, "likeness", embedding="static", similarity=least)
    kept = [row["origin"] for row in rows(some)]
    assert kept == [
        origin for origin, row in known.items() if row["similarity"] is not None and row["similarity"] >= least
    ]
    assert 0 < len(kept) < len(known)
    reasons = Counter(one["reason"] for one in rejects(some))
    assert reasons["unlike"] == len(known) - len(kept)
    likeness = total(some)("likeness")
    assert likeness["pairs"] > 0
    assert likeness["true_millionths"] / likeness["pairs"] <= 1_000_000
    assert likeness["true_millionths"] > likeness["shuffled_millionths"]


def test_new_numbers_are_rejected(folder: Path, server: Server, generator: Generator) -> None:
    def numbered(message: str, seed: int) -> Any:
        said = generator(message, seed)
        return said._replace(text=f"{said.text} in the year 1848") if len(message) % 2 and said.text else said

    server.says = numbered
    try:
        free = made(folder, "novel", answers="novel.sqlite")
        strict = made(folder, "novel", answers="novel.sqlite", novel=0.3)
    finally:
        server.says = generator
    shares = {row["origin"]: row["novel_share"] for row in rows(free)}
    assert {row["origin"] for row in rows(strict)} == {origin for origin, share in shares.items() if share <= 0.3}
    assert (
        Counter(one["reason"] for one in rejects(strict))["novel"] == sum(share > 0.3 for share in shares.values()) > 5
    )


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"candidates": 0}, "1 to 64"),
        ({"candidates": 65}, "1 to 64"),
        ({"model": "''"}, "`model` is the name"),
        ({"styles": "[]"}, "names none"),
        ({"styles": "{}"}, "names none"),
        ({"styles": "easier_still"}, "no style is called"),
        ({"server": "host/v1"}, "env:NAME, a URL of http"),
        ({"server": "'files:'"}, "env:NAME, a URL of http"),
        ({"server": "u:hunter2@host/v1"}, "do not belong in a recipe"),
        ({"server": "'https://host/v1#key=1'"}, "do not belong in a recipe"),
        ({"seed": 2**25}, "`seed` is"),
        ({"limits": "{tokens: -5M}"}, "2.5M"),
        ({"limits": "{money: .nan, input_price: 1.0}"}, "`limits.money` is nan"),
        ({"limits": "{input_price: -1.0}"}, "`limits.input_price` is -1"),
        ({"answers": "nowhere/answers.sqlite"}, "there is no folder"),
        ({"styles": "nowhere/told.yaml"}, "there is no style"),
        ({"styles": "{words >: told.yaml}"}, "words >"),
        ({"styles": "{words > 3: told.yaml}"}, "words"),
        ({"styles": "[told.yaml, twin/told.yaml]"}, "two of one name"),
        ({"similarity": 0.5}, "needs `embedding`"),
        ({"best": "similarity"}, "needs `embedding`"),
        ({"best": "label"}, "go together"),
        ({"label": "odd", "classifier": "odd.bin"}, "go together"),
        ({"best": "label", "label": "even", "classifier": "odd.bin"}, "one of the two labels"),
        ({"novel": 1.5}, "from 0 to 1"),
        ({"novel": ".nan"}, "novel"),
        ({"similarity": -2, "embedding": "static"}, "from -1 to 1"),
        ({"seed": -1}, "0 or more"),
        ({"limits": "{tokens: many}"}, "2.5M"),
        ({"limits": "{tries: 0}"}, "`limits.tries` is 0"),
        ({"limits": "{timeout: 0}"}, "`limits.timeout` is 0"),
        ({"limits": "{money: 3}"}, "needs `input_price`"),
        ({"limits": "{concurency: 3}"}, "concurency"),
        ({"server": "env:NOT SET"}, "names no variable"),
        ({"server": "env:CURATE_NOT_SET"}, "CURATE_NOT_SET is not set"),
        ({"answers": "no/such/folder.sqlite"}, "there is no folder"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, server: Server, more: dict[str, Any], said: str) -> None:
    before = asked(server)
    with pytest.raises(Exception, match=said) as raised:
        made(folder, "wrong", **more)
    assert type(raised.value).__module__ == "curate.errors"
    assert asked(server) == before


def test_limits_of_tokens_are_read() -> None:
    assert [token_limit(one) for one in (None, 5, "5", "20k", " 2.5M ", "1B")] == [None, 5, 5, 20_000, 2_500_000, 10**9]
    for one in ("", "M", "two", "nan", "inf"):
        with pytest.raises(RecipeError, match=r"limits\.tokens"):
            token_limit(one)


def test_likeness_that_nobody_knows_is_not_enough(folder: Path) -> None:
    """Texts without a token that the model knows have no vector; where a likeness is wanted they have it not."""
    stages = [
        made(folder, "unknown", embedding="strange", **more) for more in ({"best": "similarity"}, {"similarity": -1})
    ]
    free, strict = stages
    assert {row["similarity"] for row in rows(free)} == {None}
    assert {tuple(row["scores"]) for row in rows(free)} == {(None,)}
    assert rows(strict) == []
    assert Counter(one["reason"] for one in rejects(strict))["unlike"] == len(rows(free)) > 20
    assert "likeness" not in {name for receipt in rephrased.dataset(strict).manifest.units for name in receipt.counts}


def test_a_style_and_a_seed_make_another_draw_and_another_answer(folder: Path, server: Server) -> None:
    """Seeds of candidates of one run are never those of another's."""
    first, second = (made(folder, f"seed-{seed}", seed=seed, candidates=2) for seed in (1, 2))
    seeds = {name.rsplit(" #", 1)[1] for name in server.seen.requests if " #" in name}
    assert {"64", "65", "128", "129"} <= seeds
    assert rows(first) != rows(second)


def test_a_server_that_is_not_named_is_missed_before_any_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CURATE_LLM")
    with pytest.raises(RecipeError, match="CURATE_LLM is not set"):
        made(folder, "unnamed")
    assert not list((folder / "unnamed").glob("ingest-*"))
