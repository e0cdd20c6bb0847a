"""Three more rivals of `bench/rules.py`, run by `.venv-bench-others`: dolma, data-juicer and NeMo Curator.

Their own drivers cost more than their rules: dolma wants gzipped JSON lines, data-juicer copies the corpus after each
operator, NeMo Curator starts a Ray cluster. So their taggers and filters are called here, on batches of one parquet
file, and survivors go to another: the fastest way to use them. Each has only some of the rules; what it lacks it
does not pay for. Nothing here measures: the bench times this process from outside.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

BATCH = 1_000
# Duplicate n-grams: Rae et al. 2021, table A1.
TOP = {2: 0.20, 3: 0.18, 4: 0.16}
DUPLICATE = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


def dolma() -> Callable[[pa.RecordBatch], list[bool]]:
    """Its taggers gopher_v2 and c4_v2, judged at the limits of its own web recipe (configs/dolma-v1_5/mixing).

    It has no rules of FineWeb, and C4's lines are marked, not removed.
    """
    from dolma.core.data_types import InputSpec
    from dolma.taggers.c4 import FasterC4Tagger
    from dolma.taggers.gopher import GopherTaggerV2

    taggers = GopherTaggerV2(), FasterC4Tagger()
    least = {
        "word_count": 50.0,
        "median_word_length": 3.0,
        "fraction_of_words_with_alpha_character": 0.8,
        "required_word_count": 2.0,
    }
    most = {
        "word_count": 100_000.0,
        "median_word_length": 10.0,
        "symbol_to_word_ratio": 0.1,
        "fraction_of_lines_starting_with_bullet_point": 0.9,
        "fraction_of_lines_ending_with_ellipsis": 0.3,
        "fraction_of_duplicate_lines": 0.3,
        "fraction_of_characters_in_duplicate_lines": 0.3,
        **{f"fraction_of_characters_in_most_common_{n}grams": share for n, share in TOP.items()},
        **{f"fraction_of_characters_in_duplicate_{n}grams": share for n, share in DUPLICATE.items()},
    }
    forbidden = ("has_lorem_ipsum", "has_curly_brace")

    def keeps(text: str) -> bool:
        document = InputSpec(id="", text=text)
        gopher, c4 = (tagger.tag(document) for tagger in taggers)
        score = {name: spans[0][2] for name, spans in gopher.items()}
        return (
            all(score.get(name, 0.0) >= limit for name, limit in least.items())
            and all(score.get(name, 0.0) <= limit for name, limit in most.items())
            and not any(name in c4 for name in forbidden)
        )

    return lambda batch: [keeps(text) for text in batch["text"].to_pylist()]


def data_juicer() -> Callable[[pa.RecordBatch], list[bool]]:
    """Thirteen filters near to the rules; words are parted once and shared, as its operator fusion does.

    One n-gram size an operator, so Gopher's six sizes of repeated n-grams are six; all occurrences count. It has no
    rules of bullets, ellipses, top n-grams, sentences or end marks, and its stop words need a download.
    """
    from data_juicer.ops.filter.alphanumeric_filter import AlphanumericFilter
    from data_juicer.ops.filter.average_line_length_filter import AverageLineLengthFilter
    from data_juicer.ops.filter.character_repetition_filter import CharacterRepetitionFilter
    from data_juicer.ops.filter.maximum_line_length_filter import MaximumLineLengthFilter
    from data_juicer.ops.filter.special_characters_filter import SpecialCharactersFilter
    from data_juicer.ops.filter.text_length_filter import TextLengthFilter
    from data_juicer.ops.filter.word_repetition_filter import WordRepetitionFilter
    from data_juicer.ops.filter.words_num_filter import WordsNumFilter
    from data_juicer.utils.constant import Fields

    filters = (
        TextLengthFilter(min_len=200, max_len=1_000_000),
        WordsNumFilter(min_num=50, max_num=100_000),
        AverageLineLengthFilter(min_len=10, max_len=100_000),
        MaximumLineLengthFilter(min_len=10, max_len=1_000_000),
        AlphanumericFilter(min_ratio=0.6, max_ratio=1.0),
        SpecialCharactersFilter(min_ratio=0.0, max_ratio=0.4),
        CharacterRepetitionFilter(rep_len=10, min_ratio=0.0, max_ratio=0.4),
        *(WordRepetitionFilter(rep_len=n, min_ratio=0.0, max_ratio=share) for n, share in DUPLICATE.items()),
    )

    sharers = [one for one in filters if "context" in inspect.signature(one.compute_stats_batched).parameters]

    def keeps(batch: pa.RecordBatch) -> list[bool]:
        kept = [True] * len(batch)
        left = list(range(len(batch)))
        texts = batch["text"].to_pylist()
        shared: list[dict] = [{} for _ in texts]
        for one in filters:  # a filter sees what the one before it kept
            samples = {
                "text": [texts[row] for row in left],
                Fields.stats: [{} for _ in left],  # a second n would find the first one's number in it
                Fields.context: [shared[row] for row in left],
            }
            sharing = {"context": True} if one in sharers else {}
            judged = list(one.process_batched(one.compute_stats_batched(samples, **sharing)))
            for row, good in zip(left, judged, strict=True):
                kept[row] = bool(good)
            left = [row for row in left if kept[row]]
        return kept

    return keeps


def nemo_curator() -> Callable[[pa.RecordBatch], list[bool]]:
    """Its twenty filters of Gopher and its three of C4, by its own stage, without Ray. It has no rules of FineWeb."""
    from nemo_curator.stages.text.filters import ScoreFilter
    from nemo_curator.stages.text.filters.heuristic import repetition, string
    from nemo_curator.tasks import DocumentBatch

    quality = [
        string.WordCountFilter(50, 100_000),
        string.MeanWordLengthFilter(3, 10),
        string.SymbolsToWordsFilter(0.1),
        string.BulletsFilter(0.9),
        string.EllipsisFilter(0.3),
        string.WordsWithoutAlphabetsFilter(0.8),
        string.CommonEnglishWordsFilter(2),
    ]
    repeated = [
        repetition.RepeatedLinesFilter(0.7),
        repetition.RepeatedParagraphsFilter(0.7),
        repetition.RepeatedLinesByCharFilter(0.8),
        repetition.RepeatedParagraphsByCharFilter(0.8),
        *(repetition.RepeatingTopNGramsFilter(n, share) for n, share in TOP.items()),
        *(repetition.RepeatingDuplicateNGramsFilter(n, share) for n, share in DUPLICATE.items()),
    ]
    c4 = [string.PunctuationFilter(0.85), string.LongWordFilter(1_000), string.BoilerPlateStringFilter()]
    stage = ScoreFilter(filter_obj=[*quality, *repeated, *c4])
    stage.setup()

    def keeps(batch: pa.RecordBatch) -> list[bool]:
        result = stage.process(DocumentBatch(dataset_name="bench", data=batch.to_pandas()))
        survivors = set(result.to_pandas()["id"]) if result is not None else set()
        return [one in survivors for one in batch["id"].to_pylist()]

    return keeps


RIVALS = {"dolma": dolma, "data-juicer": data_juicer, "nemo-curator": nemo_curator}
PACKAGES = {"dolma": "dolma", "data-juicer": "py-data-juicer", "nemo-curator": "nemo-curator"}


def filtered(raw: str, target: Path, keeps: Callable[[pa.RecordBatch], list[bool]]) -> None:
    """Write the rows of the parquet file `raw` that `keeps` names to `target`."""
    with pq.ParquetWriter(target, pa.schema({"id": pa.string(), "text": pa.string()})) as writer:
        for batch in batches(raw):
            writer.write_batch(batch.filter(pa.array(keeps(batch), pa.bool_())))


def batches(raw: str) -> Iterator[pa.RecordBatch]:
    yield from pq.ParquetFile(raw).iter_batches(BATCH, columns=["id", "text"])


if __name__ == "__main__":
    if sys.argv[1:] == ["versions"]:
        print(", ".join(f"{name} {version(package)}" for name, package in PACKAGES.items()))
    else:
        filtered(sys.argv[2], Path(sys.argv[3]) / "out.parquet", RIVALS[sys.argv[1]]())
