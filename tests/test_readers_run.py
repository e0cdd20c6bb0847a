"""Token shards of a whole run, read by the trainers' own readers: every sequence is what the plan says it is.

The plan is told from the other side: from `map/`, which says which run of which document's tokens stands where, and
from the ids that `tokenize` stored beside the documents.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from corpus import write_corpus, write_recipe

os.environ["HF_HUB_OFFLINE"] = "1"

from curate import recipe
from curate.outputs import outputs
from curate.run import run

pytestmark = pytest.mark.readers

Shards = tuple[Path, dict[str, Any], dict[str, list[int]]]
VARIANTS = {
    "concatenate": {},
    "best_fit": {"packing: concatenate": "packing: best_fit"},
    "padded tail": {"packing: concatenate": "packing: concatenate, tail: pad"},
    "phases": {
        "weights: {docs: 0.4, code: 0.3, readme: 0.3}": "phases: [{name: base, share: 0.7}, {name: last, weights: "
        "{docs: 0.4, code: 0.3, readme: 0.3}}]"
    },
}


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def shards(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], Any]:
    """The folder of token shards of a run, its tokens.json, and the ids of every document by origin."""
    folder = tmp_path_factory.mktemp("run")
    write_corpus(folder)
    path = write_recipe(folder)
    text = path.read_text().replace("pack: {window: 64", "pack: {packing: concatenate, window: 64")
    for old, new in VARIANTS[request.param].items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    run(recipe.load(str(path)), str(folder / "run"))
    made = outputs(str(folder / "run"))
    stages = {stage["name"]: Path(stage["folder"]) for stage in made["stages"]}
    ids = {}
    for file in sorted(stages["plausible"].glob("*.parquet")):
        origins = pq.read_table(file, columns=["origin"])["origin"].to_pylist() if file.name[0] == "0" else []
        tokens = pq.read_table(stages["tokenize"] / file.name, columns=["ids"])["ids"].to_pylist() if origins else []
        ids |= dict(zip(origins, tokens, strict=True))
    return stages["pack"], json.loads((stages["pack"] / "tokens.json").read_text()), ids


def prefixes(tokens: dict[str, Any]) -> list[dict[str, Any]]:
    found = [s for split in tokens["splits"].values() for source in split["sources"].values() for s in source["shards"]]
    assert len(found) > 4
    return found


def planned(folder: Path, prefix: str, windows: int, tokens: dict[str, Any], ids: dict[str, list[int]]) -> np.ndarray:
    """All windows of a shard, rebuilt from the map."""
    pad = tokens["tokenizer"]["pad_id"]
    flat = np.full(windows * tokens["window"], -1, np.int64)
    for row in pq.read_table(folder / "map" / f"{prefix}.parquet").to_pylist():
        at = row["window"] * tokens["window"] + row["start"]
        piece = ids[row["origin"]][row["offset"] : row["offset"] + row["length"]]
        assert len(piece) == row["length"]
        assert (flat[at : at + len(piece)] == -1).all()
        flat[at : at + len(piece)] = piece
    if tokens["packing"] == "best_fit" or tokens["tail"] == "pad":
        flat[flat == -1] = pad
    assert (flat >= 0).all()
    return flat.reshape(windows, tokens["window"])


def test_megatron_reads_the_plan(shards: Shards) -> None:
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    folder, tokens, ids = shards
    for shard in prefixes(tokens):
        read = IndexedDataset(str(folder / shard["prefix"]))
        expected = planned(folder, shard["prefix"], shard["windows"], tokens, ids)
        assert len(read) == shard["windows"]
        for index in range(len(read)):
            assert np.array_equal(np.array(read[index]), expected[index])
        del read


def test_datasets_reads_the_plan(shards: Shards, tmp_path: Path) -> None:
    from datasets import load_dataset

    folder, tokens, ids = shards
    for shard in prefixes(tokens):
        file = str(folder / shard["files"]["parquet"]["name"])
        read = load_dataset("parquet", data_files=[file], split="train", cache_dir=str(tmp_path))
        expected = planned(folder, shard["prefix"], shard["windows"], tokens, ids)
        assert np.array_equal(np.array(read["input_ids"]), expected)
        padding = int((expected.shape[1] * len(expected)) - sum(read["length"]))
        assert padding == shard["windows"] * tokens["window"] - shard["tokens"]


def test_phases_are_read_in_order(shards: Shards, tmp_path: Path) -> None:
    """The blend of each phase names what Megatron and datasets read for it; a source's epochs go on between them."""
    from datasets import load_dataset
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    folder, tokens, _ = shards
    if "phases" not in tokens:
        pytest.skip("a mixture of one phase")
    last = dict.fromkeys(tokens["splits"]["train"]["sources"], 0)
    every = []
    for phase in tokens["phases"]:
        blend = dict(zip(phase["megatron_blend"][1::2], map(int, phase["megatron_blend"][::2]), strict=True))
        every += blend
        files = [str(folder / f"{prefix}.parquet") for prefix in blend]
        read = load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / phase["name"]))
        assert sum(read["length"]) == phase["tokens"]
        windows = [IndexedDataset(str(folder / prefix)) for prefix in blend]
        assert [len(one) for one in windows] == list(blend.values())
        assert np.array_equal(np.concatenate([one[i] for one in windows for i in range(len(one))]),
                              np.array(read["input_ids"]).reshape(-1))  # fmt: skip
        del windows
        for source, entry in phase["sources"].items():
            for shard in entry["shards"]:
                epochs = pq.read_table(folder / "map" / f"{shard['prefix']}.parquet")["epoch"].to_numpy()
                assert epochs[0] >= last[source]
                assert (np.diff(epochs) >= 0).all()
                last[source] = epochs[-1]
    train = tokens["splits"]["train"]
    assert "megatron_blend" not in train
    assert sorted(every) == sorted(
        shard["prefix"] for entry in train["sources"].values() for shard in entry["shards"] if shard["windows"]
    )
    assert max(last.values()) > 0


def test_totals_are_those_of_the_files(shards: Shards) -> None:
    folder, tokens, _ = shards
    for split in tokens["splits"].values():
        for source in split["sources"].values():
            assert source["windows"] == sum(shard["windows"] for shard in source["shards"])
            assert source["tokens"] == sum(shard["tokens"] for shard in source["shards"])
            for shard in source["shards"]:
                size = (folder / shard["files"]["bin"]["name"]).stat().st_size
                assert size == shard["windows"] * tokens["window"] * np.dtype(tokens["dtype"]).itemsize
