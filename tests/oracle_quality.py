"""Slow, obvious twins of kernels/boundaries.py and kernels/quality.py, from the rules and the published definitions."""

import itertools
import re
import statistics
import unicodedata

from curate.kernels.text import IS_PUNCTUATION, code_point_classes

# ---------------------------------------------------------------- kernels/boundaries.py

LETTERS = ("letter", "hebrew_letter")
STACKING = "\u1039\u17d2\u1a60"


def boundary_words(text: str, kinds: list[str]) -> list[tuple[int, int]]:
    """(start, end) in characters of the stretches between boundaries that have a letter or a number.

    `kinds` is the class of every character. UAX #29, WB1 to WB999 in order without WB3c, and our rules for clusters.
    """
    if not text:
        return []
    cuts = [0, *(at for at in range(1, len(text)) if is_boundary(text, kinds, at)), len(text)]
    return [(a, b) for a, b in itertools.pairwise(cuts) if any(map(_makes_a_word, text[a:b]))]


def _makes_a_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LN"


def is_boundary(text: str, kinds: list[str], at: int) -> bool:
    """Is there a boundary between text[at - 1] and text[at]?"""
    if "break" in (kinds[at - 1], kinds[at]):  # WB3, WB3a, WB3b; that CR LF hold together makes no word
        return True
    if kinds[at] == "extend":  # WB4
        return False
    bases = [place for place in range(len(text)) if not _ignored(kinds, place)]
    before = [place for place in bases if place < at]
    after = [place for place in bases if place > at]
    left, right = _kind(kinds, before[-1]), kinds[at]
    further_left = _kind(kinds, before[-2]) if len(before) > 1 else ""
    further_right = kinds[after[0]] if after else ""
    quote, mid = ("single_quote", "mid_number_letter"), ("mid_letter", "mid_number_letter", "single_quote")
    number = ("mid_number", *quote)
    parts = (*LETTERS, "numeric", "katakana", "extend_number_letter")
    joined = (
        (left in LETTERS and right in LETTERS)  # WB5
        or (left in LETTERS and right in mid and further_right in LETTERS)  # WB6
        or (further_left in LETTERS and left in mid and right in LETTERS)  # WB7
        or (left == "hebrew_letter" and right == "single_quote")  # WB7a
        or (left == "hebrew_letter" and right == "double_quote" and further_right == "hebrew_letter")  # WB7b
        or (further_left == "hebrew_letter" and left == "double_quote" and right == "hebrew_letter")  # WB7c
        or (left in (*LETTERS, "numeric") and right == "numeric")  # WB8, WB9
        or (left == "numeric" and right in LETTERS)  # WB10
        or (further_left == "numeric" and left in number and right == "numeric")  # WB11
        or (left == "numeric" and right in number and further_right == "numeric")  # WB12
        or (left == right == "katakana")  # WB13
        or (left in parts and right == "extend_number_letter")  # WB13a
        or (left == "extend_number_letter" and right in parts)  # WB13b
        or (left == "leading_vowel" and right in ("leading_vowel", "base", "trailing_vowel"))
        or (left in ("base", "trailing_vowel") and right == "trailing_vowel")
        or (left == right == "base" and any(sign in STACKING for sign in text[before[-1] + 1 : at]))
    )
    return not joined


def _kind(kinds: list[str], place: int) -> str:
    """The class of a base; a mark that has nothing before it is a base of no class."""
    return "other" if kinds[place] == "extend" else kinds[place]


def _ignored(kinds: list[str], place: int) -> bool:
    """WB4: marks count as part of what they follow, unless that is nothing or a line break."""
    return kinds[place] == "extend" and place > 0 and kinds[place - 1] != "break"


# ---------------------------------------------------------------- kernels/quality.py

GOPHER = ("the", "be", "to", "of", "and", "that", "have", "with")


def quality(words: list[str]) -> dict[str, int]:
    """Gopher's counts over given words."""
    solid = [word for word in words if any(not _is_symbol(character) for character in word)]
    return {
        "words": len(words),
        "word_characters": sum(map(len, words)),
        "alphabetic_words": sum(any(map(str.isalpha, word)) for word in words),
        "symbol_free_words": len(solid),
        "symbol_free_characters": sum(map(len, solid)),
    }


def _is_symbol(character: str) -> bool:
    return (
        code_point_classes()[ord(character)] & IS_PUNCTUATION != 0 or not character.split()  # a space
    )


def dclm(text: str) -> dict[str, int]:
    """DCLM's counts, each from its definition."""
    words, lines = text.split(), [line.strip() for line in text.split("\n") if line.strip()]
    tokens = [token for token in re.split("[ \n\r\t\v\f\0]+", text) if token]
    return {
        "words": len(words),
        "word_characters": sum(map(len, words)),
        "alphabetic_words": sum(any(map(str.isalpha, word)) for word in words),
        "dclm_words": sum(token[0].isalnum() for token in tokens),
        "dclm_symbols": sum(map(text.count, ("#", "...", ". . .", "\u2026"))),
        "dclm_lines": len(lines),
        "dclm_bullet_lines": sum(line.startswith(("\u25cf", "\u2022", "*", "-")) for line in lines),
        "dclm_ellipsis_lines": sum(line.endswith(("...", ". . .", "\u2026")) for line in lines),
        "dclm_stop_words": sum(word.lower() in GOPHER for word in words),
    }


def dolma(text: str) -> dict[str, int]:
    """Dolma's counts, each from its definition."""
    words, lines = text.split(), text.split("\n") if text else []
    return {
        "dolma_words": len(words),
        "dolma_alphabetic_words": sum(any(map(str.isalpha, word)) for word in words),
        "dolma_symbol_words": sum("#" in word or "\u2026" in word for word in words),
        "dolma_median_word_length_twice": int(2 * statistics.median(map(len, words))) if words else 0,
        "dolma_lines": len(lines),
        "dolma_bullet_lines": sum(line.startswith(("*", "-")) for line in lines),
        "dolma_ellipsis_lines": sum(line.endswith("\u2026") for line in lines),
        "dolma_stop_words": sum(word in GOPHER for word in words),
    }
