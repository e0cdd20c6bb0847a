"""What assistants say around an answer, or instead of one: found, and cut off, by lists of phrases.

The lists are data, one file per language in `resources/generations`; all languages are looked for at once. A phrase
is matched in any case, with any apostrophe and any white space. What the source says as well is never cut and never
counts: a text about apologies may begin with one.

A language file holds lists of phrases: `agreements` (sure), `deliveries` (here is) that need one of the `works`
(version) before their colon, `labels` (rewritten text), `closings` (let me know) and `refusals`. `numerals`,
`scales` and `months` are for `faithfulness`.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from curate import store, strict
from curate.errors import RecipeError

FOLDER = store.join(store.parent(store.absolute(__file__)), "resources", "generations")
LISTS = ("agreements", "deliveries", "works", "labels", "closings", "refusals", "months")
TABLES = ("numerals", "scales")

HEAD = 200
"""Characters at the start in which a refusal stands."""
LINE = 250
"""Characters of the longest preamble, and of the longest closing remark."""
ROUNDS = 4
_RULE_BEFORE, _RULE_BEHIND = re.compile(r"\A([-*_=])\1{2,}[ \t]*\n"), re.compile(r"\n[ \t]*([-*_=])\1{2,}\Z")
_APOSTROPHES = "['\u2019\u2018\u02bc\u00b4`]"
_MORE = r"\s+(?:in|of|for|with|de|en|di|em|van|f\u00fcr|del|du)\s[^\n:.!?]{1,60}"
_DECORATION = r"[\s*_#>\u00a1\u00bf]{0,12}"  # bounded: a text of nothing else would be tried at every length


@dataclass(frozen=True)
class Wording:
    """The lists of all languages, compiled."""

    agreement: re.Pattern[str]
    delivery: re.Pattern[str]
    label: re.Pattern[str]
    heading: re.Pattern[str]
    closing: re.Pattern[str]
    refusal: re.Pattern[str]


def cleaned(text: str, source: str) -> str:
    """An output without what surrounds the answer: a fence around the whole, a preamble, a closing offer."""
    known, text = _plain(source), text.strip()
    for _ in range(ROUNDS):
        before = text
        text = _unclosed(_unopened(_unfenced(text), known), known)
        if text == before:
            break
    return text


def refuses(text: str, source: str) -> bool:
    """True if a sentence among the first 200 characters begins like a refusal, in words that the source has not.

    What stands in quotation marks is somebody's speech, unless the whole text does.
    """
    if len(text) > 1 and text[0] in "\"'\u201c\u00ab" and text[-1] in "\"'\u201d\u00bb":
        text = text[1:-1]
    known = _plain(source)
    # Possible refusals are searched in a bit more than the head, so that none is cut in two; they begin inside it.
    found = wording().refusal.finditer(text[: 2 * HEAD])
    return any(one.start(1) < HEAD and _plain(one[1]) not in known for one in found)


@cache
def languages() -> dict[str, dict[str, Any]]:
    """The language files that come with the package, by code. RecipeError, with the file, for what is amiss in one."""
    found = {}
    for name in sorted(file for file in store.listing(FOLDER) if file.endswith(".yaml")):
        location = store.join(FOLDER, name)
        raw, _ = strict.load(store.read(location))
        if not isinstance(raw, dict) or sorted(raw) != sorted((*LISTS, *TABLES)):
            raise RecipeError(f"{location}: a file of phrases has the keys {', '.join((*LISTS, *TABLES))}")
        if not all(isinstance(phrase, str) and phrase.strip() for key in LISTS for phrase in raw[key]):
            raise RecipeError(f"{location}: phrases are words; put those such as no and on in quotes")
        if not all(isinstance(word, str) and isinstance(raw[key][word], int) for key in TABLES for word in raw[key]):
            raise RecipeError(f"{location}: numerals and scales are a number for each word")
        found[name.removesuffix(".yaml")] = raw
    return found


@cache
def wording() -> Wording:
    """The compiled lists."""
    lists = {key: _any([phrase for one in languages().values() for phrase in one[key]]) for key in LISTS}
    start = rf"\A{_DECORATION}"
    return Wording(
        # An adverb may begin a sentence ("Certainly, herons ..."): with a comma it needs a delivery behind it.
        _compiled(rf"{start}{lists['agreements']}(?:\s*[!.]+|\s*:|\s*\n|\s*,\s*(?={lists['deliveries']}))[\s*_]*"),
        _compiled(
            rf"{start}(?:(?=[^\n]{{0,{LINE}}}?{lists['works']}){lists['deliveries']}"
            rf"(?:[^\n:.!?]{{0,{LINE}}}:[*_]*(?=\s|\Z)|[^\n:]{{0,{LINE}}}[.!:][*_]*\s*\n)"
            rf"|{lists['deliveries']}\s*[!.:]+[*_]*\s*\n)[\s*_]*"
        ),
        _compiled(rf"{start}{lists['labels']}(?:[\s*_]*:[*_]*\s*|{_MORE}:[*_]*\s*\n\s*)"),
        _compiled(rf"\A(?:#+\s*|\*\*|__){lists['labels']}(?:\*\*|__)?[ \t]*\n\s*"),
        _compiled(rf"{_DECORATION}\(?{lists['closings']}"),
        _compiled(rf"(?:\A{_DECORATION}|[.!?:;,)\u2014\u2013\u2026\n][\s*_]{{0,8}})({lists['refusals']})"),
    )


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _any(phrases: list[str]) -> str:
    """A pattern for any of the phrases as whole words, the longest first."""
    ways = [_phrase(phrase) for phrase in sorted(set(phrases), key=lambda phrase: (-len(phrase), phrase))]
    return rf"(?<!\w)(?:{'|'.join(ways)})(?!\w)"


def _phrase(phrase: str) -> str:
    spaced = r"\s+".join(re.escape(word) for word in phrase.split())
    return spaced.replace("'", _APOSTROPHES)


def _plain(text: str) -> str:
    """A text as phrases are compared: small letters, one apostrophe, single spaces."""
    return " ".join(re.sub(_APOSTROPHES, "'", text).lower().split())


def _unfenced(text: str) -> str:
    """What is in a code fence that surrounds the whole text."""
    match = re.fullmatch(r"(`{3,}|~{3,})[^\n`]*\n(.*?)\n?\1", text, re.DOTALL)
    return match[2].strip() if match and match[1] not in match[2] else text


def _unopened(text: str, known: str) -> str:
    """The text behind a preamble."""
    lists = wording()
    for pattern in (lists.agreement, lists.delivery, lists.label, lists.heading):
        match = pattern.match(text)
        if match and _plain(match[0]) not in known:
            return _RULE_BEFORE.sub("", text[match.end() :].lstrip()).strip()
    return text


def _unclosed(text: str, known: str) -> str:
    """The text before a closing remark, which is the last line or the last sentences of it."""
    line = text.rfind("\n") + 1
    start = max(line, len(text) - LINE)
    ends = [start + one.end() for one in re.finditer(r"[.!?\u2026][\"'\u201d\u00bb)*_]*\s+", text[start:])]
    if 0 < start == line:  # a text that is nothing else is no answer: that is for the checks
        ends.insert(0, line)
    for at in ends:
        match = wording().closing.match(text, at)
        if match and _plain(match[0].strip(" (*_#>\n")) not in known:
            rest = text[:at].rstrip()
            return _RULE_BEHIND.sub("", rest).rstrip()
    return text
