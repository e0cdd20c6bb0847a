"""From a generator's answer to the text of a row: what the prompt asked for is taken off, the rest is put together.

The steps and their order are those of Nemotron-CC (Su et al. 2024, arXiv 2412.02595; NVIDIA-NeMo/Curator,
stages/synthetic/nemotron_cc). Whether the answer is any good is for `generations` to say, of what `tidy` leaves.

The catch: markdown is told from text by its looks. Only marks that hug a word and stand apart from others go, so that
2 * 3 * 4 and snake_case stay.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from curate.kernels.hash import keyed, mix
from curate.markup import bare
from curate.styles import Style

QUESTION, ANSWER = "Question:", "Answer:"
PAIRS_PER, PER_TOKENS = 10, 150
"""Nemotron-CC keeps from one pair up to ten for every 150 tokens of the passage."""

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[^\n`]*$\n?", re.MULTILINE)
_RULE = re.compile(r"^[ \t]{0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$\n?", re.MULTILINE)
_HEADING = re.compile(r"^[ \t]{0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\[\]\n]*)\]\((?:[^()\s]|\([^()\s]*\))*(?:[ \t]+\"[^\"\n]*\")?\)")
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_STRONG = re.compile(r"(?<![\w*])\*{2,3}(?=[^\s*])([^*\n]*?[^\s*])\*{2,3}(?![\w*])")
_STRONG_LINE = re.compile(r"(?<!\w)__(?=[^\s_])([^\n]*?[^\s_])__(?!\w)")
_EMPHASIS = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]*?[^\s*])\*(?![\w*])")
_EMPHASIS_LINE = re.compile(r"(?<!\w)_(?=[^\s_])([^_\n]*?[^\s_])_(?!\w)")
_DUNDER = re.compile(r"__\w+__\Z")
_LABEL = re.compile(r"^[ \t]*passage(?:[ \t]+\d+)?[ \t]*:[ \t]*(\n?)", re.MULTILINE | re.IGNORECASE)
_BULLET = re.compile(r"[ \t]*(?:[-*•–+][ \t]+|[-•–](?=[^\s\d–-]))")
_NUMBERED = re.compile(r"[ \t]*(\d{1,3})[.)][ \t]+")
_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "‘": "’", "「": "」", "`": "`"}


class Made(NamedTuple):
    """A text and no reason, or an empty text and the reason that there is none: truncated, opening, pairs, empty,
    too_short."""

    text: str
    reason: str = ""


def tidy(style: Style, answer: str, tokens: int) -> Made:
    """The text in an answer of so many tokens, after the steps of its style.

    More tokens than `output.most` means that the generator was cut short. Rejected as `truncated`, `opening` (the line
    that was asked for is missing), `pairs` (text before the first question, or no pair) or `empty`.
    """
    if style.output.most is not None and tokens > style.output.most:
        return Made("", "truncated")
    # Reasoning and marks of a template go first: an opening, quotes and bullets are looked for behind them.
    made = Made(bare(answer.replace("\r\n", "\n").strip(), prompt=style.instructions))
    for step in style.assembly.steps:
        if made.reason:
            return made
        made = _STEPS[step](made.text, style.output.opening or "")
    return made if made.reason or made.text.strip() else Made("", "empty")


def finished(style: Style, texts: Sequence[str], count: Callable[[str], int]) -> Made:
    """The text of a row from those of its passages, in order: one for `layout: passage`, all accepted ones of a
    document for `layout: document`, joined by line feeds. Rejected as `empty`, or as `too_short` below
    `output.final` tokens, which `count` gives."""
    text = "\n".join(texts)
    if not text.strip():
        return Made("", "empty")
    return Made(text) if not style.output.final or count(text) >= style.output.final else Made("", "too_short")


def with_pairs(source: str, tidied: str, *, document: bytes, passage: int, tokens: int, seed: int = 0) -> str:
    """A passage of so many tokens, and behind it some of its pairs as `tidy` left them, parted by empty lines.

    Which and how many, 1 to max(1, floor(10 tokens / 150)), is drawn from the document's id (16 bytes), the number of
    the passage and the seed alone.
    """
    pairs = tidied.split("\n\n")
    draws = _draws(document, passage, seed, len(pairs) + 1)
    count = 1 + (draws[0] * max(1, PAIRS_PER * tokens // PER_TOKENS) >> 64)
    order = sorted(range(len(pairs)), key=lambda index: draws[1 + index])
    return "\n\n".join([source, *(pairs[index] for index in order[:count])])


def _draws(document: bytes, passage: int, seed: int, count: int) -> list[int]:
    state = np.uint64(seed)
    for part in (*np.frombuffer(document, ">u8"), passage):
        state = mix(np.uint64(part), np.uint64(state))
    out = np.empty(count, np.uint64)
    keyed(np.uint64(state), np.arange(count, dtype=np.uint64), out)
    found: list[int] = out.tolist()
    return found


def _markdown(text: str, _: str) -> Made:
    """Without headings' marks, fences, rules, links' targets, emphasis and code marks. Bullets stay."""
    for pattern in (_FENCE, _RULE):
        text = pattern.sub("", text)
    text = _HEADING.sub(r"\1", text)
    text = _LINK.sub(r"\1", text)
    for pattern in (_STRONG, _EMPHASIS, _CODE):
        text = pattern.sub(r"\1", text)
    text = _STRONG_LINE.sub(lambda one: one[0] if _DUNDER.match(one[0]) and one[1].islower() else one[1], text)
    return Made(_EMPHASIS_LINE.sub(r"\1", text).strip())


def _opening(text: str, opening: str) -> Made:
    if not text.startswith(opening):
        return Made("", "opening")
    return Made(text.removeprefix(opening).strip())


def _quotes(text: str, _: str) -> Made:
    """Without the quotes around the whole, if none of their kind stands inside: those may be two quotations."""
    close = _QUOTES.get(text[:1])
    inner = text[1:-1]
    if len(text) < 2 or not close or text[-1] != close or text[0] in inner or close in inner:
        return Made(text)
    return Made(inner.strip())


def _labels(text: str, _: str) -> Made:
    """Without `Passage:` and `Passage 3:` at the beginning of lines."""
    return Made(_LABEL.sub("", text).strip())


def _bullets(text: str, _: str) -> Made:
    """Lines without bullet marks. The first line goes unless it has one; lines with nothing in them go.

    Numbers are marks where they count 1, 2, 3: other lines may begin with a number of their own."""
    lines = text.splitlines()
    counted = [int(one[1]) for one in map(_NUMBERED.match, lines) if one]
    if counted and counted == list(range(1, len(counted) + 1)):
        lines = [_NUMBERED.sub("- ", one, count=1) for one in lines]
    if lines and not _BULLET.match(lines[0]):
        lines = lines[1:]
    lines = [_BULLET.sub("", one, count=1).strip() for one in lines]
    return Made("\n".join(one for one in lines if one))


def _pairs(text: str, opening: str) -> Made:
    """Pairs, parted by empty lines: each begins with a line `Question:` and has an answer with something in it."""
    lines = [_BULLET.sub("", one, count=1).strip() for one in text.splitlines()]
    lines = [one for one in lines if one]
    if lines and opening and lines[0] == opening:
        lines = lines[1:]
    if lines and not lines[0].startswith(QUESTION):
        return Made("", "pairs")
    found: list[list[str]] = []
    for one in lines:
        if one.startswith(QUESTION):
            found.append([])
        found[-1].append(one)
    whole = ["\n".join(pair) for pair in found]
    kept = [pair for pair in whole if _is_answered(pair)]
    return Made("\n\n".join(kept)) if kept else Made("", "pairs")


def _is_answered(pair: str) -> bool:
    question, label, answer = pair.removeprefix(QUESTION).partition(ANSWER)
    return bool(question.strip() and label and answer.strip())


_STEPS: dict[str, Callable[[str, str], Made]] = {
    "markdown": _markdown,
    "opening": _opening,
    "quotes": _quotes,
    "labels": _labels,
    "bullets": _bullets,
    "pairs": _pairs,
}
