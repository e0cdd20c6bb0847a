"""The trainers' own readers open what we write and find every id: Megatron-core and Hugging Face datasets.

Run by `make test-readers` in an environment that has them (torch and megatron-core are no dependencies of
ours); elsewhere these tests are skipped.
"""

import gc
import types

import numpy as np
import pytest

from curate.kernels.pack import best_fit, copy_ranges
from curate.trainers import body, megatron_index, parquet_windows, read_megatron_index, token_dtype

pytestmark = [pytest.mark.readers, pytest.mark.filterwarnings("ignore")]  # the readers' warnings are theirs

EOS, PAD, WINDOW = 2, 1, 32


class Packed:
    """A few hundred documents packed into windows by our kernels, and the slices that tell what is right."""

    def __init__(self, vocabulary):
        random = np.random.default_rng(5)
        self.dtype = token_dtype(vocabulary)
        lengths = random.integers(2, WINDOW + 1, 400)
        ids = random.integers(3, vocabulary, lengths.sum()).astype(self.dtype)
        ids[np.cumsum(lengths) - 1] = EOS
        ids[0] = vocabulary - 1
        window_of, start_of = np.empty_like(lengths), np.empty_like(lengths)
        windows = best_fit(lengths, WINDOW, window_of, start_of)
        self.ids = np.full(windows * WINDOW, PAD, self.dtype)
        copy_ranges(ids, np.cumsum(lengths) - lengths, lengths, window_of * WINDOW + start_of, self.ids)
        self.lengths = np.full(windows, WINDOW, np.int64)
        self.real_lengths = np.bincount(window_of, lengths).astype(np.int64)
        self.document_starts = start_of[np.lexsort((start_of, window_of))]
        self.windows = self.ids.reshape(windows, WINDOW).astype(np.int64).tolist()

    def write_megatron(self, prefix):
        prefix.with_suffix(".bin").write_bytes(body(self.ids))
        prefix.with_suffix(".idx").write_bytes(megatron_index(self.lengths, self.dtype))


@pytest.fixture(scope="module")
def indexed_dataset():
    pytest.importorskip("megatron.core")
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    return IndexedDataset


@pytest.fixture(params=[50_000, 65_499, 65_500, 128_256])
def packed(request):
    return Packed(request.param)


@pytest.mark.parametrize("memory_mapped", [True, False])
def test_megatron_reads_every_window(indexed_dataset, packed, tmp_path, memory_mapped):
    packed.write_megatron(tmp_path / "shard")
    opened = indexed_dataset(str(tmp_path / "shard"), mmap=memory_mapped)
    # Arrays are views into the map and die with it, so they are copied before it goes.
    read = [opened[row].astype(np.int64).tolist() for row in range(len(opened))]
    lengths, documents = opened.sequence_lengths.tolist(), opened.document_indices.tolist()
    width = np.dtype(opened.index.dtype).itemsize
    del opened
    gc.collect()
    assert read == packed.windows
    assert lengths == packed.lengths.tolist()
    assert documents == list(range(len(lengths) + 1))
    assert width == packed.dtype.itemsize


def test_megatron_reads_windows_of_unequal_length(indexed_dataset, tmp_path):
    lengths = np.array([3, 1, 5], np.int64)
    ids = np.arange(100, 109, dtype=np.uint16)
    (tmp_path / "shard.bin").write_bytes(body(ids))
    (tmp_path / "shard.idx").write_bytes(megatron_index(lengths, ids.dtype))
    opened = indexed_dataset(str(tmp_path / "shard"))
    assert [opened[row].tolist() for row in range(3)] == [[100, 101, 102], [103], [104, 105, 106, 107, 108]]
    assert opened.get(2, offset=1, length=3).tolist() == [105, 106, 107]


def test_megatron_itself_writes_the_same_bytes(indexed_dataset, packed, tmp_path):
    from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder

    theirs = DType.optimal_dtype(int(packed.ids.max()) + 1)
    builder = IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=theirs)
    for window in packed.windows:
        builder.add_document(np.array(window), [WINDOW])
    builder.finalize(str(tmp_path / "theirs.idx"))
    packed.write_megatron(tmp_path / "ours")
    for suffix in (".bin", ".idx"):
        assert (tmp_path / f"ours{suffix}").read_bytes() == (tmp_path / f"theirs{suffix}").read_bytes()
    lengths, dtype = read_megatron_index((tmp_path / "theirs.idx").read_bytes())
    assert (lengths.tolist(), dtype) == (packed.lengths.tolist(), packed.dtype)


def test_megatron_trains_on_our_windows_as_they_are(indexed_dataset, packed, tmp_path):
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from megatron.core.datasets.utils import Split

    packed.write_megatron(tmp_path / "shard")
    tokenizer = types.SimpleNamespace(
        vocab_size=int(packed.ids.max()) + 1, eod=EOS, pad=PAD, unique_identifiers={"class": "test"}
    )
    config = GPTDatasetConfig(
        random_seed=1,
        sequence_length=WINDOW,
        blend=([str(tmp_path / "shard")], None),
        split="1,0,0",
        path_to_cache=str(tmp_path / "cache"),
        tokenizer=tokenizer,
        reset_position_ids=True,
        reset_attention_mask=True,
        eod_mask_loss=False,
    )
    low_level = GPTDataset.build_low_level_dataset(str(tmp_path / "shard"), config)
    count = len(packed.windows)
    samples = GPTDataset(low_level, str(tmp_path / "shard"), np.arange(count), None, Split.train, config)
    # A sample is the window and one id more, so an epoch of S windows has S - 1 samples.
    assert len(samples) == count - 1
    order = samples.document_index.tolist()
    assert sorted(order) == list(range(count))
    stream = packed.ids.reshape(count, WINDOW)[order].astype(np.int64).ravel()
    for sample in range(len(samples)):
        place = samples.shuffle_index[sample]
        window = stream[place * WINDOW : (place + 1) * WINDOW + 1]
        read = samples[sample]
        # Megatron feeds id 0 where the pad stands and takes no loss from it.
        fed = np.where(window == PAD, 0, window)
        assert read["tokens"].tolist() == fed[:-1].tolist()
        assert read["labels"].tolist() == fed[1:].tolist()
        assert read["loss_mask"].tolist() == (window[1:] != PAD).tolist()
        starts = np.flatnonzero(read["position_ids"].numpy() == 0)
        assert starts.tolist() == [0, *(np.flatnonzero(window[:-2] == EOS) + 1).tolist()]


def test_hugging_face_reads_every_window(packed, tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    half = len(packed.windows) // 2
    split = int(np.flatnonzero(packed.document_starts == 0)[half])
    files = []
    for name, rows, starts in (
        ("a", slice(None, half), slice(None, split)),
        ("b", slice(half, None), slice(split, None)),
    ):
        data = parquet_windows(
            packed.ids.reshape(-1, WINDOW)[rows].ravel(),
            packed.lengths[rows],
            facts={"eos": EOS, "pad": PAD, "window": WINDOW},
            real_lengths=packed.real_lengths[rows],
            document_starts=packed.document_starts[starts],
            row_group_windows=16,
        )
        files.append(str(tmp_path / f"{name}.parquet"))
        (tmp_path / f"{name}.parquet").write_bytes(data)
    whole = load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    streamed = load_dataset(
        "parquet", data_files=files, split="train", streaming=True, cache_dir=str(tmp_path / "cache")
    )
    for rows in (whole, streamed):
        read = list(rows)
        assert [row["input_ids"] for row in read] == packed.windows
        assert [row["length"] for row in read] == packed.real_lengths.tolist()
        assert [start for row in read for start in row["document_starts"]] == packed.document_starts.tolist()
    for row in list(whole):
        # An EOS ends every document, so the columns and the ids tell the same boundaries.
        ends = [place + 1 for place, token in enumerate(row["input_ids"][: row["length"]]) if token == EOS]
        assert [*row["document_starts"][1:], row["length"]] == ends
