"""Slow, obvious twins of kernels/shingles.py, kernels/distinct.py and kernels/minhash.py, and of sketch.py."""

import unicodedata
from collections.abc import Iterable
from math import comb

import regex

WORD = 2**64
ROOT_2, ROOT_3, ROOT_5, ROOT_7 = 0x6A09E667F3BCC909, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1
"""The first 64 bits of the fractional parts of four square roots, made odd."""
ALONE = [
    *("Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Tibetan", "Myanmar", "Khmer", "Tai_Le"),
    *("New_Tai_Lue", "Tai_Tham", "Tai_Viet", "Ahom", "Tangut", "Khitan_Small_Script", "Nushu"),
]
"""Scripts whose characters are words."""
SHARED = "\u3006\u3031\u3032\u3033\u3034\u3035\u303c\u3099\u309a\u30fc\uff70\uff9e\uff9f"
"""Marks that several of these scripts share, so that none is theirs: they are words as well."""
_alone = regex.compile("[" + SHARED + "".join(rf"\p{{Script={name}}}" for name in ALONE) + "]")


def alone(character: str) -> bool:
    """A character that is a word of its own, if it belongs to words at all."""
    return _alone.match(character) is not None


def words(text: str) -> list[str]:
    """Words of a text: letters, marks and numbers in a row, in lower case; some characters are words."""
    found = [""]
    for character in text:
        if unicodedata.category(character)[0] not in "LMN":
            found.append("")
        elif alone(character):
            found += [character.lower()[0], ""]
        else:
            found[-1] += character.lower()[0]
    return [word for word in found if word]


def mingle(a: int, b: int) -> int:
    """Both halves of the product of two 64-bit numbers, in one."""
    return (a * b) % WORD ^ (a * b) // WORD


def word_hash(word: bytes) -> int:
    value = 0
    for start in range(0, len(word), 16):
        low, high = (int.from_bytes(word[at : at + 8], "little") for at in (start, start + 8))
        value = mingle(low ^ ROOT_2 ^ value, high ^ ROOT_3)
    return value


def shingle(units: list[int]) -> int:
    state = 0
    for unit in units:
        state = (state * ROOT_5 + unit) % WORD
    return (state ^ state >> 32) * ROOT_7 % WORD >> 32


def shingles(text: str, ngram: int, unit: str) -> list[int]:
    if unit == "words":
        units = [word_hash(word.encode()) for word in words(text)]
    else:
        units = [mingle(ord(character) ^ ROOT_2, ROOT_3) for character in " ".join(words(text))]
    return [shingle(units[start : start + ngram]) for start in range(len(units) - ngram + 1)]


def jaccard(one: Iterable[int], other: Iterable[int]) -> float:
    one, other = set(one), set(other)
    return len(one & other) / len(one | other)


def some_band(jaccard: float, bands: int, rows: int) -> float:
    """The chance of a band in common, summed over how many bands there are in common."""
    band = jaccard**rows
    return sum(comb(bands, k) * band**k * (1 - band) ** (bands - k) for k in range(1, bands + 1))
