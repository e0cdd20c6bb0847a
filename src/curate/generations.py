"""Checks of generated text beside the passage it was made from: what is cut off, and why an output is rejected.

An output has one reason, the first that holds in the order of `REASONS`; all numbers behind the reasons are columns,
so another threshold needs no second look at the text. The rules and limits are our own, after what WRAP (Maini et al.
2024, arXiv 2401.16380, appendix B) and Nemotron-CC (Su et al. 2024, arXiv 2412.02595) say they had to remove;
`docs/rephrasing-checks.md` has how often they are right. Words are compared as words, never as hashes.

The catch: these checks find what can be seen without understanding. A fluent output with a wrong fact passes; see
`faithfulness`.
"""

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curate.arrow import utf8
from curate.assets import find
from curate.identify import identified, model
from curate.markup import marked
from curate.wording import cleaned, refuses

REASONS = (
    "truncated",
    "empty",
    "too_short",
    "garbled",
    "refusal",
    "markup",
    "echo",
    "length_ratio",
    "copied",
    "pairs",
    "loop",
    "language",
)
"""Why an output is rejected, in the order in which it is asked. truncated: the server did not say `stop`, or the
last sentence has no end (`_breaks_off`; asked last). empty: no letter or digit. too_short: fewer than `Rules.least`
tokens. garbled: characters that could not be read. refusal: `wording.refuses`. markup: `markup.marked`. echo: 12 words
of the prompt. pairs: no question where questions were asked for.
length_ratio: tokens of the output by those of the source. copied: one run of the source is most of it, most of its
8-grams are the source's, or most of its words in their order are. loop: repeated lines or sentences, one 3-gram all
over, or an end that says the same again and again.
language: surely not that of the source."""

ECHO, OVERLAP = 12, 8
"""Words of the n-grams of `echo` and of `copied`."""
MOST_COPIED, MOST_OVERLAP, MOST_ALIGNED = 0.8, 0.6, 0.75
MOST_UNREADABLE = 0.005
"""Share of U+FFFD and control characters among the characters."""
MOST_TOKENS = 1.5
"""Tokens per byte of an output by those of its source: beyond it some were spent on something else than the text."""
MOST_DUPLICATE_SENTENCES, SENTENCE = 0.3, 20
"""Share of the characters in sentences that were said before, and the characters of the shortest that counts."""
MOST_DUPLICATE_LINES, MOST_TOP_3_GRAM = 0.3, 0.2
TAIL, TAIL_TIMES = 12, 3
"""A loop at the end: so many words, the same run so many times."""
CONFIDENT, LONG = 0.7, 80
"""`language` judges only where both scores are so high and both texts have so many bytes."""
KIN = (("bs", "hr", "sh", "sr"), ("da", "nn", "no"), ("id", "jv", "ms"), ("cs", "sk"), ("wuu", "yue", "zh"))
"""Languages that the classifier takes for each other count as one."""


@dataclass(frozen=True)
class Rules:
    """What a style asks of its outputs.

    `low`, `high`: bounds of the length ratio. `paraphrase`: an output says the same in other words, so a copy is none
    (false for questions and answers, which quote). `prompt`: the words that must not come back. `model`: a classifier
    of languages as the `language` stage names them, or None to leave languages unasked. `least`: tokens of the
    shortest output. `pairs`: questions and answers were asked for. `skip`: reasons that reject nothing.
    """

    low: float
    high: float
    paraphrase: bool
    prompt: str
    model: str | None
    least: int = 10
    pairs: bool = False
    skip: frozenset[str] = frozenset()


def check(
    sources: pa.Array,
    outputs: pa.Array,
    *,
    finish_reason: pa.Array,
    source_tokens: pa.Array,
    output_tokens: pa.Array,
    rules: Rules,
) -> pa.Table:
    """One row per output: `text`, the output without its surroundings, and `reason`, null if it is accepted.

    Five columns of one length: the passages, what was made of them (null: nothing came), how the server says that it
    ended, and the tokens of both. Tokens of a cleaned output are taken to be as many as its share of the bytes, at
    the source's tokens per byte if they are far more (hidden reasoning is counted by servers). More columns: `ratio`,
    `copied` (longest common run of bytes by those of the output), `overlap` (share of 8-grams), `aligned` (words of
    the longest common subsequence by those of the longer text), `duplicate_sentences` (share of characters),
    `unreadable` (share of U+FFFD and control characters), `echo` (12-grams of the prompt), `duplicate_lines`,
    `top_3_gram`, `tail` (words of a loop at the end), and with `rules.model` `language`, `language_score`,
    `source_language`, `source_language_score`. AssetError if the model is not here.
    """
    sources, outputs = (column.cast(pa.large_string()).fill_null("") for column in (sources, outputs))
    passages = sources.dictionary_encode()
    distinct = passages.dictionary.to_pylist()
    which = passages.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    pairs = np.stack([which, np.arange(len(which))], axis=1)
    raw = outputs.to_pylist()
    texts = [cleaned(text, distinct[source], rules.prompt) for text, source in zip(raw, which, strict=True)]
    column = pa.array(texts, pa.large_string())
    table = _measured(passages.dictionary, column, outputs, pairs, rules)
    tokens = _tokens(
        _numbers(output_tokens) / np.maximum(np.diff(utf8(outputs)[0]), 1),
        _numbers(source_tokens) / np.maximum(np.diff(utf8(passages.dictionary)[0])[which], 1),
        np.diff(utf8(column)[0]),
    )
    table["ratio"] = tokens / np.maximum(_numbers(source_tokens), 1)
    ended = np.array([str(one) for one in finish_reason.to_pylist()], object)
    filtered = ended == "content_filter"
    beside = [(text, distinct[source]) for text, source in zip(texts, which, strict=True)]
    read = {name: np.array([asked(*one) for one in beside], bool) for name, asked in _READ.items()}
    table["unreadable"] = np.array([_unreadable(text) for text in texts], np.float64)
    table["duplicate_sentences"] = np.array([_said_again(text) for text in texts], np.float64)
    own = np.array([(_unreadable(text), _said_again(text)) for text in distinct], np.float64).reshape(-1, 2)[which]
    unasked = np.array([rules.pairs and not _ASKS.search(text) for text in texts], bool)
    found = {
        "truncated": (ended != "stop") & ~filtered,
        "empty": (table["words"] == 0) & ~filtered,
        "too_short": (tokens < rules.least) & ~filtered,
        "garbled": table["unreadable"] > np.maximum(MOST_UNREADABLE, own[:, 0]),
        "refusal": read["refusal"] | filtered,
        "markup": read["markup"],
        "pairs": unasked,
        "echo": table["echo"] > 0,
        "length_ratio": (table["ratio"] < rules.low) | (table["ratio"] > rules.high),
        "copied": (
            (table["copied"] > MOST_COPIED)
            | (table["overlap"] > MOST_OVERLAP)
            | ((table["aligned"] > MOST_ALIGNED) & (table["words"] >= ECHO))
        )
        & (rules.paraphrase | unasked | (rules.pairs & (table["copied"] > MOST_COPIED))),
        "loop": table.pop("loop") | (table["duplicate_sentences"] > np.maximum(MOST_DUPLICATE_SENTENCES, own[:, 1])),
    }
    del table["words"]
    made = {"text": column, "reason": column, **{name: pa.array(values) for name, values in table.items()}}
    if rules.model is not None:
        languages, other = _languages(passages.dictionary, column, which, rules.model)
        made.update(languages)
        found["language"] = other
    # The first that holds: later ones are written first, and a missing end last of all, for loops and scraps have none.
    broken = read["truncated"] & rules.paraphrase & ("truncated" not in rules.skip)
    reason = np.where(broken, np.int32(REASONS.index("truncated")), np.int32(-1))
    for name in reversed([name for name in REASONS if name in found and name not in rules.skip]):
        reason[found[name]] = REASONS.index(name)
    made["reason"] = pa.DictionaryArray.from_arrays(pa.array(reason, mask=reason < 0), pa.array(REASONS)).cast(
        pa.string()
    )
    return pa.table(made)


def _measured(
    sources: pa.Array, texts: pa.Array, raw: pa.Array, pairs: np.ndarray, rules: Rules
) -> dict[str, np.ndarray]:
    """What is counted of each output, and of it beside its source; `pairs` int64[m, 2], rows of both.

    The prompt is looked for in the `raw` outputs: what was cut off may have been a part of it.
    """
    from curate.kernels.overlaps import longest_common_subsequences, shared_ngrams, tails
    from curate.kernels.substring import longest_common
    from curate.kernels.vocabulary import numbered

    outputs = len(texts)
    everything = pa.concat_arrays([sources, texts, raw, pa.array([rules.prompt], pa.large_string())])
    first, numbers = numbered(*utf8(everything))
    shift = np.array([0, len(sources)])
    overlap, echo = np.empty((outputs, 2), np.int64), np.empty((outputs, 2), np.int64)
    shared_ngrams(first, numbers, pairs + shift, OVERLAP, overlap)
    prompt = np.stack([np.full(outputs, len(first) - 2), pairs[:, 1] + len(sources) + outputs], axis=1)
    shared_ngrams(first, numbers, prompt, ECHO, echo)
    aligned = np.empty(outputs, np.int64)
    longest_common_subsequences(first, numbers, pairs + shift, aligned)
    common, tail = np.empty(outputs, np.int64), np.empty(len(first) - 1, np.int64)
    longest_common(*utf8(sources), *utf8(texts), pairs, common)
    tails(first, numbers, TAIL_TIMES, tail)
    lines, grams = _repeated(everything)
    its, sources_own = pairs[:, 1] + len(sources), pairs[:, 0]
    # A song may repeat its lines because the source does: an output loops if it goes beyond its source as well.
    loop = (lines[its] > np.maximum(MOST_DUPLICATE_LINES, lines[sources_own])) | (
        grams[its] > np.maximum(MOST_TOP_3_GRAM, grams[sources_own])
    )
    return {
        "words": np.diff(first)[its],
        "copied": common / np.maximum(np.diff(utf8(texts)[0]), 1),
        "overlap": overlap[:, 1] / np.maximum(overlap[:, 0], 1),
        # By the longer of both: a short output may well take its words from a long source.
        "aligned": aligned / np.maximum(np.maximum(np.diff(first)[its], np.diff(first)[sources_own]), 1),
        "echo": echo[:, 1],
        "duplicate_lines": lines[its],
        "top_3_gram": grams[its],
        "tail": tail[its],
        "loop": loop | (tail[its] >= np.maximum(TAIL, tail[sources_own] + 1)),
    }


def _tokens(per_byte: np.ndarray, source_per_byte: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Tokens of texts of so many bytes; see `check`."""
    hidden = (per_byte > MOST_TOKENS * source_per_byte) & (source_per_byte > 0)
    found: np.ndarray = np.where(hidden, source_per_byte, per_byte) * size
    return found


_ASKS = re.compile(r"[?\uff1f\u061f\u037e]|^[ \t*_#-]*(?:question|q)[ \t]*\d*[*_]*:", re.IGNORECASE | re.MULTILINE)
_ENDS = ".!?\u2026\u3002\uff01\uff1f\u061f\u0964\u06d4"
_CLOSE = "\"'\u201d\u2019\u00bb)]*_\u300d\u300f\uff09 \t"
_SENTENCES = re.compile(rf"[^{_ENDS}\n]+")
_UNREADABLE = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ufffd]")
_LISTED = re.compile(r"[ \t]*(?:[-*\u2022\u2013#|>]|\w{1,3}[.)]\s|[^\s:]{1,20}:\s)")


def _breaks_off(text: str, source: str) -> bool:
    """True if the last line, of prose as all lines before it, stops inside a sentence, which the source does not."""
    body = text.rstrip()
    lines = [line.rstrip(_CLOSE) for line in body.splitlines() if line.strip()]
    if not lines or source.rstrip().rstrip(_CLOSE)[-1:] not in tuple(_ENDS) or _LISTED.match(lines[-1]):
        return False
    cut = body[-1:].isalnum() or body[-1:] in (",", ";", "-")
    ended = [line[-1:] in tuple(_ENDS) for line in lines[:-1]]
    # Where no line ends in a full stop the writer sets none: a list, a poem. One sentence alone may be a title.
    return cut and all(ended) and (bool(ended) or len(re.findall(rf"[{_ENDS}](?=\s)", lines[-1])) > 0)


def _unreadable(text: str) -> float:
    return len(_UNREADABLE.findall(text)) / max(len(text), 1)


def _said_again(text: str) -> float:
    """Share of the characters in sentences that were said before, of those that are not short."""
    seen: set[str] = set()
    again = whole = 0
    for one in _SENTENCES.findall(text):
        sentence = " ".join(one.lower().split())
        if len(sentence) >= SENTENCE:
            whole += len(sentence)
            again += len(sentence) * (sentence in seen)
            seen.add(sentence)
    return again / max(whole, 1)


_READ = {"refusal": refuses, "markup": marked, "truncated": _breaks_off}


def _repeated(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Share of later copies among the lines of each text, and of its characters in the most repeated 3-gram."""
    from curate.kernels import lines as counted
    from curate.kernels.ngrams import NGRAMS, WORD_CHARACTERS, ngrams_dclm
    from curate.kernels.text import code_point_classes
    from curate.kernels.words import whitespace_words

    offsets, data = utf8(texts)
    segments = np.empty((len(texts), len(counted.LINES)), np.int64)
    counted.lines(offsets, data, code_point_classes(), segments)
    first = np.empty(len(offsets), np.int64)
    edges = np.empty(2 * int(((np.diff(offsets) + 1) // 2).sum()), np.int32)
    whitespace_words(offsets, data, code_point_classes(), first, edges)
    grams = np.empty((len(texts), len(NGRAMS)), np.int64)
    ngrams_dclm(offsets, data, first, edges, grams)
    lines = segments[:, counted.DUPLICATE_SEGMENTS] / np.maximum(segments[:, counted.SEGMENTS], 1)
    # Places overlap where a word repeats itself, so their sum can be more than the text.
    most = grams[:, NGRAMS.index("top_3_gram")] / np.maximum(grams[:, WORD_CHARACTERS], 1)
    return lines, np.minimum(most, 1)


def _languages(
    sources: pa.Array, texts: pa.Array, which: np.ndarray, name: str
) -> tuple[dict[str, pa.Array], np.ndarray]:
    """Columns of both languages, and where they surely differ."""
    labels, tables = model(find(name))
    kin = {code: group[0] for group in KIN for code in group}
    families = np.array([*(kin.get(label, label) for label in labels), ""], object)
    columns, family, sure = {}, [], []
    for prefix, column, rows in (("", texts, np.arange(len(texts))), ("source_", sources, which)):
        offsets, data = utf8(column)
        best, scores = identified(offsets[:-1], offsets[1:], data, tables)
        best, scores, size = best[rows], np.clip(scores[rows], 0, 1), np.diff(offsets)[rows]
        known = pa.array(best, mask=best < 0)
        columns[f"{prefix}language"] = pa.DictionaryArray.from_arrays(known, pa.array(labels, pa.string()))
        columns[f"{prefix}language_score"] = pa.array(scores, mask=best < 0)
        family.append(families[best])
        sure.append((best >= 0) & (scores >= CONFIDENT) & (size >= LONG))
    return columns, (family[0] != family[1]) & sure[0] & sure[1]


def _numbers(column: pa.Array) -> np.ndarray:
    found: np.ndarray = column.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False)
    return found
