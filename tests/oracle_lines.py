"""Slow, obvious twins of kernels/lines.py, kernels/c4.py and kernels/pieces.py."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np

from curate.kernels.text import IS_TERMINAL, code_point_classes

TERMINAL = tuple(chr(code) for code in np.flatnonzero(code_point_classes() & IS_TERMINAL))


def all_copies(segments: list[str]) -> tuple[int, int]:
    """Segments that occur more than once, and their characters."""
    counted = Counter(segments)
    copies = [segment for segment in segments if counted[segment] > 1]
    return len(copies), sum(map(len, copies))


def lines(text: str) -> dict[str, int]:
    segments, paragraphs = re.split("\n+", text), re.split("\n{2,}", text.strip())
    filled = [line for line in text.split("\n") if line.strip()]
    segment_copies, paragraph_copies = quick_copies(segments), quick_copies(paragraphs)
    return {
        "segments": len(segments),
        "duplicate_segments": segment_copies[0],
        "duplicate_segment_characters": segment_copies[1],
        "paragraphs": len(paragraphs),
        "duplicate_paragraphs": paragraph_copies[0],
        "duplicate_paragraph_characters": paragraph_copies[1],
        "filled_lines": len(filled),
        "terminal_lines": sum(line.endswith(TERMINAL) for line in filled),
        "short_lines": sum(len(line) <= 30 for line in filled),
        "duplicate_line_characters": quick_copies(filled)[1],
        "newlines": text.count("\n"),
        "line_characters": len(text.replace("\n", "")),
        "long_lines": sum(len(line) >= 200 for line in text.split("\n")),
    }


def quick_copies(segments: list[str]) -> tuple[int, int]:
    """`later_copies` for long lists: all but one of each."""
    counted = Counter(segments)
    return len(segments) - len(counted), sum(len(segment) * (times - 1) for segment, times in counted.items())


def lines_dclm(text: str) -> dict[str, int]:
    counts = {}
    for name, separator in [("line", "\n"), ("paragraph", "\n\n")]:
        segments = [part.strip() for part in text.split(separator) if part.strip()]
        repeated, characters = all_copies(segments)
        counts[f"{name}s"] = len(segments)
        counts[f"repeated_{name}s"] = repeated
        counts[f"{name}_characters"] = sum(map(len, segments))
        counts[f"repeated_{name}_characters"] = characters
    return counts


def lines_dolma(text: str) -> dict[str, int]:
    parts = text.split("\n")
    nonempty = [part for part in parts if part]
    return {
        "lines": len(parts),
        "repeated_lines": all_copies(parts)[0],
        "repeated_line_characters": all_copies(parts)[1],
        "nonempty_lines": len(nonempty),
        "repeated_nonempty_lines": all_copies(nonempty)[0],
        "word_characters": sum(map(len, text.split())),
    }


# ---------------------------------------------------------------- C4

CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
SENTENCE_END = re.compile(r"[.?!](?=[\"'\s]|\Z)")
POLICY = ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"]


def sentences(line: str) -> int:
    """Sentence ends, and one more for words behind the last."""
    ends = [found.end() for found in SENTENCE_END.finditer(line)]
    rest = line[ends[-1] :] if ends else line
    return len(ends) + bool(re.search(r"[^\s\"']", rest))


def verdict(line: str, limits: dict[str, int]) -> tuple[str, str]:
    """The line as C4 leaves it, and what becomes of it."""
    line = line.strip()
    words = line.split()
    longest = limits["max_word_length"]
    if longest != -1 and any(len(word) > longest for word in words):
        return line, "long_word"
    if limits["remove_citations"]:
        line = CITATION.sub("", line)
    if limits["require_terminal"] and (not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...")):
        return line, "unterminated"
    if len(words) < limits["min_words_per_line"]:
        return line, "short"
    lowered = line.lower()
    if limits["drop_lorem"] and "lorem ipsum" in lowered:
        return line, "lorem"
    if limits["drop_javascript"] and "javascript" in lowered:
        return line, "javascript"
    if limits["drop_curly"] and "{" in line:
        return line, "curly"
    if limits["drop_policy"] and any(phrase in lowered for phrase in POLICY):
        return line, "policy"
    return line, "kept"


def c4(text: str, limits: dict[str, int]) -> tuple[dict[str, int], str]:
    """The counts, and the text of the kept lines."""
    reasons = ["long_word", "unterminated", "short", "lorem", "javascript", "curly", "policy", "kept"]
    verdicts = [verdict(line, limits) for line in text.splitlines()]
    kept = [line for line, reason in verdicts if reason == "kept"]
    counted = Counter(reason for _, reason in verdicts)
    counts = {
        "lines": len(verdicts),
        **{reason: counted[reason] for reason in reasons},
        "sentences": sum(map(sentences, kept)),
        "lorem_ipsums": text.lower().count("lorem ipsum"),
        "curly_brackets": text.count("{"),
    }
    return counts, "\n".join(kept).strip()


# ---------------------------------------------------------------- pieces


def pieced(data: bytes, first: list[int], pieces: list[tuple[int, int]], newline: list[int]) -> list[bytes]:
    """The new rows, from the definition."""
    written = [data[start:end] + b"\n" * flag for (start, end), flag in zip(pieces, newline, strict=True)]
    return [b"".join(written[begin:end]) for begin, end in pairwise(first)]
