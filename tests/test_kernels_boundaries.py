"""Words by Unicode boundaries: the classes are those of the standard, the walk obeys its rules, and in each script the
words are what a reader would count."""

import sys
import unicodedata

import numpy as np
import oracle_quality as oracle
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import hostile_text

from curate.kernels import boundaries as kernel


def spans(texts: list[bytes], *, before: bytes = b"") -> list[list[tuple[int, int]]]:
    offsets, data = oracles.rows(texts, before=before)
    first, edges = np.full(len(texts) + 1, -1, np.int64), np.full(2 * sum(map(len, texts)) + 2, -1, np.int32)
    kernel.unicode_words(offsets, data, kernel.word_properties(), first, edges)
    assert (edges[2 * first[-1] :] == -1).all()
    pairs = list(map(tuple, edges[: 2 * first[-1]].reshape(-1, 2).tolist()))
    return [pairs[first[row] : first[row + 1]] for row in range(len(texts))]


def words(text: str) -> list[str]:
    raw = text.encode()
    return [raw[start:end].decode() for start, end in spans([raw])[0]]


def expected(text: str) -> list[str]:
    kinds = [kernel.CLASSES[kernel.word_properties()[ord(character)] & kernel.CLASS] for character in text]
    return [text[start:end] for start, end in oracle.boundary_words(text, kinds)]


# One or two characters of every class, so that rules of three in a row are met often.
TYPICAL = (
    "ab\u05d0\u05d112\u30ab\u30fc_'\".:,;\u2019"
    "\u0301\u200d\xad\n\r \u4e2d\u3042\u0e40\u0e01\u0e32\u1780\u17d2\u1039!\u2764\U0001f1e6"
)


@given(st.lists(st.one_of(st.text(TYPICAL, max_size=30), hostile_text), max_size=4), hostile_text)
def test_words_equal_the_rules(texts, before):
    raw = [text.encode() for text in texts]
    found = spans(raw, before=before.encode())
    cut = [[one[start:end].decode() for start, end in row] for one, row in zip(raw, found, strict=True)]
    assert cut == list(map(expected, texts))
    assert all(a < b for row in found for a, b in row)
    assert all(row[i][1] <= row[i + 1][0] for row in found for i in range(len(row) - 1))


@pytest.mark.parametrize("length", [2, 3])
def test_every_sequence_of_classes(length):
    """All two and three classes in a row, by one character of each."""
    of = {}
    for character in "a\n\u0301\u30ab\u05d0'\".:,1_\u0e40\u0e01\u0e32!":
        of[int(kernel.word_properties()[ord(character)] & kernel.CLASS)] = character
    assert sorted(of) == list(range(len(kernel.CLASSES)))
    texts = [""]
    for _ in range(length):
        texts = [text + character for text in texts for character in of.values()]
    texts = [f"{text}a" for text in texts] + texts
    raw = [text.encode() for text in texts]
    cut = [
        [one[start:end].decode() for start, end in row] for one, row in zip(raw, spans(raw, before=b"a"), strict=True)
    ]
    assert cut == list(map(expected, texts))


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_broken_utf8_reads_no_byte_outside_its_row(texts):
    alone = [spans([text])[0] for text in texts]
    assert spans(texts, before=b"\xff\xf0") == alone
    assert spans([*texts, b"\xa0\x80\xa6"], before=b"\xe2\x80")[:-1] == alone


def test_classes_are_those_of_the_standard():
    """Against the `regex` package, which knows a newer Unicode: for all that this Python has, but what moved."""
    regex = pytest.importorskip("regex")
    known = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    text = "".join(map(chr, known))
    published = {
        "break": ("WB=CR", "WB=LF", "WB=Newline"),
        "extend": ("WB=Extend", "WB=Format", "WB=ZWJ"),
        "katakana": ("WB=Katakana",),
        "hebrew_letter": ("WB=Hebrew_Letter",),
        "letter": ("WB=ALetter",),
        "single_quote": ("WB=Single_Quote",),
        "double_quote": ("WB=Double_Quote",),
        "mid_number_letter": ("WB=MidNumLet",),
        "mid_letter": ("WB=MidLetter",),
        "mid_number": ("WB=MidNum",),
        "numeric": ("WB=Numeric",),
        "extend_number_letter": ("WB=ExtendNumLet",),
        "leading_vowel": ("Logical_Order_Exception",),
    }
    classes = kernel.word_properties() & kernel.CLASS
    wrong = {}
    for name, properties in published.items():
        wanted = {ord(found) for one in properties for found in regex.findall(rf"\p{{{one}}}", text)}
        found = set(np.flatnonzero(classes == kernel.CLASSES.index(name)).tolist())
        if wanted != found:
            wrong[name] = sorted(map(hex, wanted ^ found))
    # Room for what another version of the package may have moved; none today.
    assert sum(map(len, wrong.values())) <= 20, wrong
    clustered = {ord(found) for found in regex.findall(r"\p{LB=SA}", text) if unicodedata.category(found)[0] == "L"}
    assert clustered == set(np.flatnonzero(classes >= kernel.LEADING_VOWEL).tolist())


def test_what_makes_a_word_is_a_letter_or_a_number():
    counts = kernel.word_properties() & kernel.COUNTS != 0
    assert counts.tolist() == [unicodedata.category(chr(code))[0] in "LN" for code in range(sys.maxunicode + 1)]


SCRIPTS = {
    "latin": ("Can't stop: 3.14 or 1,000 e-mails_now…", "Can't stop 3.14 or 1,000 e mails_now"),
    "accents": ("Der Fluß, cafe\u0301 naïve.", "Der Fluß cafe\u0301 naïve"),
    "cyrillic": ("Привет, мир! Кто-то идёт.", "Привет мир Кто то идёт"),
    "greek": ("Καλημέρα κόσμε· τι κάνεις;", "Καλημέρα κόσμε τι κάνεις"),
    "arabic": ("مرحبا، كَيْفَ حالك؟", "مرحبا كَيْفَ حالك"),
    "hebrew": ("צה\"ל אמר: ג' שלום", "צה\"ל אמר ג' שלום"),
    "devanagari": ("नमस्ते दुनिया। क्या हाल है?", "नमस्ते दुनिया क्या हाल है"),
    "thai": ("เด็กไทยกิน น้ำ", "เด็ ก ไท ย กิ น น้ำ"),
    "lao": ("ສະບາຍດີ", "ສະ ບາ ຍ ດີ"),
    "khmer": ("ខ្មែរ", "ខ្មែ រ"),
    "burmese": ("မြန်မာ ပုဂ္ဂိုလ်", "မြ န် မာ ပု ဂ္ဂို လ်"),
    "han": ("我爱北京。2024年", "我 爱 北 京 2024 年"),
    "kana": ("カタカナとラーメンを食べる", "カタカナ と ラーメン を 食 べ る"),
    "hangul": ("안녕하세요, 세계!", "안녕하세요 세계"),
    "ethiopic": ("ሰላም፡ ዓለም።", "ሰላም ዓለም"),
    "mixed": ("GPT-4は「すごい」", "GPT 4 は す ご い"),
    "symbols": ("❤️ — … # ☃ 🇩🇪 👨\u200d👩", ""),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_words_in_many_scripts(script):
    text, wanted = SCRIPTS[script]
    assert words(text) == wanted.split()
