"""What assistants say around an answer, or instead of one: found, and cut off, by lists of phrases.

The lists are data, one file per language in `resources/generations`; all languages are looked for at once. A phrase
is matched in any case, with any apostrophe and any white space. What the source says as well is never cut and never
counts: a text about apologies may begin with one.

A language file holds lists of phrases: `agreements` (sure), `deliveries` (here is) that need one of the `works`
(version) before their colon, `labels` (rewritten text), `titles` (labels that texts have too: on a line of their own),
`closings` (let me know), `remarks` (changes made: what follows goes as well), `refusals`, and `excuses`, which refuse
only beside one of the `tasks` (rewrite). `numerals`, `scales` and `months` are for `faithfulness`. A file may leave
lists out.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from curate import store, strict
from curate.errors import RecipeError
from curate.markup import bare

FOLDER = store.join(store.parent(store.absolute(__file__)), "resources", "generations")
LISTS = (
    "agreements",
    "deliveries",
    "works",
    "labels",
    "titles",
    "closings",
    "remarks",
    "refusals",
    "excuses",
    "tasks",
    "months",
)
TABLES = ("numerals", "scales")

HEAD = 200
"""Characters at the start in which a refusal stands."""
LINE = 250
"""Characters of the longest preamble, and of the longest closing remark."""
TAIL = 400
"""Characters at the end in which a refusal breaks a text off."""
FACTS = 2
"""A closing remark with so many words of the source is none."""
ROUNDS = 4
_RULE_BEFORE, _RULE_BEHIND = re.compile(r"\A([-*_=])\1{2,}[ \t]*\n"), re.compile(r"\n[ \t]*([-*_=])\1{2,}\Z")
_UNSPACED = "\u2e80"
"""From here on scripts are those of Chinese and Japanese, and later ones that lists have not."""
_APOSTROPHES = "['\u2019\u2018\u02bc\u00b4`]"
_MORE = r"\s+(?:in|of|for|with|de|en|di|em|van|f\u00fcr|del|du)\s[^\n:.!?]{1,60}"
_PLAIN = (
    r"(?:that|this|with|have|from|your|they|them|were|been|more|some|would|like|need|please|other|which|while|also"
    r"|about)"
)
_DECORATION = r"[\s*_#>\u00a1\u00bf]{0,12}"  # bounded: a text of nothing else would be tried at every length


@dataclass(frozen=True)
class Wording:
    """The lists of all languages, compiled."""

    agreement: re.Pattern[str]
    delivery: re.Pattern[str]
    label: re.Pattern[str]
    heading: re.Pattern[str]
    closing: re.Pattern[str]
    remark: re.Pattern[str]
    versions: re.Pattern[str]
    refusal: re.Pattern[str]
    excuse: re.Pattern[str]
    broken: re.Pattern[str]
    task: re.Pattern[str]
    work: re.Pattern[str]


def cleaned(text: str, source: str, prompt: str = "") -> str:
    """An output without what surrounds the answer: reasoning, marks of a template, a fence or an object around the
    whole, a preamble, a closing offer. `prompt` says which labels of turns were asked for."""
    known, text = _plain(source), text.strip()
    for _ in range(ROUNDS):
        before = text
        text = _unclosed(_unopened(bare(_unfenced(text), source, prompt), known), known)
        if text == before:
            break
    return text


def refuses(text: str, source: str) -> bool:
    """True if a sentence among the first 200 characters, or one that ends the text, begins like a refusal, in words
    that the source has not. At the end, and where people say it too (my apologies), it must speak of the task.

    What stands in quotation marks is somebody's speech, unless the whole text does.
    """
    if len(text) > 1 and text[0] in "\"'\u201c\u00ab" and text[-1] in "\"'\u201d\u00bb":
        text = text[1:-1]
    known, lists = _plain(source), wording()
    # Possible refusals are searched in a bit more than the head, so that none is cut in two; they begin inside it.
    for pattern, sure in ((lists.refusal, True), (lists.excuse, False)):
        for one in pattern.finditer(text[: 2 * HEAD]):
            if one.start(1) < HEAD and _plain(one[1]) not in known and (sure or _of_task(text, one)):
                return True
    start = max(0, len(text) - TAIL)
    for pattern in (lists.refusal, lists.excuse, lists.broken):
        for one in pattern.finditer(text, start):
            said = _plain(one[1]) in known or _quoted(text, one.start(1))
            if not said and _of_task(text, one) and _ends_soon(text, one.end()):
                return True
    return False


def _quoted(text: str, at: int) -> bool:
    """True if a quotation mark is open at this place."""
    return text.count('"', 0, at) % 2 == 1 or text.count("\u201c", 0, at) > text.count("\u201d", 0, at)


def _of_task(text: str, found: re.Match[str]) -> bool:
    """True if the sentence goes on about the task. A colon and a comma are no ends: a reason may stand behind."""
    end = re.compile(r"[.!?\n\u3002]").search(text, found.end())
    # The phrase itself may name it: "please provide the text".
    return wording().task.search(text, found.start(1), end.start() if end else len(text)) is not None


def _ends_soon(text: str, at: int) -> bool:
    """True if there are at most two more sentences behind the one at `at`."""
    return len(re.findall(r"[.!?\u3002]+[\s\"')\u201d]", text[at:])) <= 2


@cache
def languages() -> dict[str, dict[str, Any]]:
    """The language files that come with the package, by code. RecipeError, with the file, for what is amiss in one."""
    found = {}
    for name in sorted(file for file in store.listing(FOLDER) if file.endswith(".yaml")):
        location = store.join(FOLDER, name)
        raw, _ = strict.load(store.read(location))
        if not isinstance(raw, dict) or not raw or not set(raw) <= {*LISTS, *TABLES}:
            raise RecipeError(f"{location}: a file of phrases has the keys {', '.join((*LISTS, *TABLES))}")
        empty: dict[str, Any] = {key: [] for key in LISTS} | {key: {} for key in TABLES}
        raw = empty | raw
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
    ahead = rf"(?={_DECORATION}(?:{lists['deliveries']}|{lists['labels']}|{lists['agreements']}))"
    label = rf"(?:{lists['labels']}|{lists['titles']})"
    colon, stop = r"[:\uff1a]", r"[.!:\uff1a\u3002]"
    sentence = rf"(?:\A{_DECORATION}|[.!?:;,)\u2014\u2013\u2026\n][\s*_]{{0,8}})"
    return Wording(
        # An adverb may begin a sentence ("Certainly, herons ..."), and a text ("Great."): on the line of the text it
        # needs more of a preamble behind it.
        agreement=_compiled(
            rf"{start}{lists['agreements']}(?:\s*[!.:\u3002\uff01\uff0c,]*[ \t]*(?:\n|\Z)"
            rf"|\s*[!.:,\u3002\uff01\uff0c]+\s*{ahead})[\s*_]*"
        ),
        delivery=_compiled(
            rf"{start}(?:(?=[^\n]{{0,{LINE}}}?{lists['works']}){lists['deliveries']}"
            rf"(?:[^\n:\uff1a.!?]{{0,{LINE}}}(?::[*_]*(?=\s|\Z)|\uff1a)|[^\n:]{{0,{LINE}}}{stop}[*_]*\s*\n)"
            rf"|{lists['deliveries']}\s*[!.:\uff1a]+[*_]*\s*\n)[\s*_]*"
        ),
        label=_compiled(
            rf"{start}(?:{lists['labels']}(?:[\s*_]*{colon}[*_]*\s*|{_MORE}:[*_]*\s*\n\s*)"
            rf"|{lists['titles']}(?:\*\*|__)?[ \t]*:?(?:\*\*|__)?[ \t]*\n\s*|title[*_]*:[^\n]{{1,120}}\n\s*)"
        ),
        heading=_compiled(rf"\A(?:#+\s*|\*\*|__){label}(?:\*\*|__)?[ \t]*\n\s*"),
        closing=_compiled(rf"{_DECORATION}[(\[]?{lists['closings']}"),
        remark=_compiled(
            rf"\n[\s*_#>(\[-]{{0,8}}{lists['remarks']}[*_]*(?::[^\n]*|[*_)\] \t]*)"
            r"(?:\n\s*(?:[-*\u2022]|\d+[.)])[^\n]*)*\s*\Z"
        ),
        versions=_compiled(
            r"\A[\s*_#]{0,8}original(?: text| passage| version)?[*_]*:.*"
            rf"\n[\s*_#]{{0,8}}{lists['labels']}[*_]*:[*_]*\s*(?=\S)(?s:.)"
        ),
        refusal=_compiled(rf"{sentence}({lists['refusals']})"),
        excuse=_compiled(rf"{sentence}({lists['excuses']})"),
        broken=_compiled(rf"(?<=\w\s)(?-i:(?=[A-Z]))({lists['refusals']}|{lists['excuses']})"),  # inside a sentence
        task=_compiled(lists["tasks"]),
        work=_compiled(rf"{lists['works']}|{lists['tasks']}|{_PLAIN}"),
    )


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _any(phrases: list[str]) -> str:
    """A pattern for any of the phrases as whole words, the longest first."""
    ordered = sorted(set(phrases), key=lambda phrase: (-len(phrase), phrase))
    spaced = "|".join(_phrase(phrase) for phrase in ordered if phrase[0] < _UNSPACED)
    unspaced = "|".join(_phrase(phrase) for phrase in ordered if phrase[0] >= _UNSPACED)
    whole = rf"(?<!\w)(?:{spaced})(?!\w)"  # scripts without spaces have no word ends
    return rf"(?:{whole}|{unspaced})" if unspaced else whole


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
    """The text behind a preamble, or the second of an original and its rewriting."""
    lists = wording()
    versions = lists.versions.match(text)
    if versions:
        return text[versions.end() - 1 :].strip()
    for pattern in (lists.agreement, lists.delivery, lists.label, lists.heading):
        match = pattern.match(text)
        if match and _plain(match[0]) not in known:
            return _RULE_BEFORE.sub("", text[match.end() :].lstrip()).strip()
    return text


def _unclosed(text: str, known: str) -> str:
    """The text before a closing remark, which is the last line or the last sentences of it, or a list of changes."""
    listed = wording().remark.search(text, max(0, len(text) - 4 * LINE))
    if listed and text[: listed.start()].strip() and _plain(listed[0].strip(" (*_#>[\n")) not in known:
        return _RULE_BEHIND.sub("", text[: listed.start()].rstrip()).rstrip()
    line = text.rfind("\n") + 1
    start = max(line, len(text) - LINE)
    ends = [start + one.end() for one in re.finditer(r"[.!?\u2026][\"'\u201d\u00bb)*_]*\s+", text[start:])]
    if 0 < start == line:  # a text that is nothing else is no answer: that is for the checks
        ends.insert(0, line)
    for at in ends:
        match = wording().closing.match(text, at)
        if match and _plain(match[0].strip(" (*_#>[\n")) not in known and not _tells(text[match.end() :], known):
            rest = text[:at].rstrip()
            return _RULE_BEHIND.sub("", rest).rstrip()
    return text


def _tells(remark: str, known: str) -> bool:
    """True if a closing remark says what the source says: an address, or words that are not of the task."""
    words = {one for one in re.findall(r"[^\W\d_]{4,}", _plain(remark)) if not wording().work.fullmatch(one)}
    address = re.search(r"\S+@\S+\w|https?:|www\.", remark)
    told = known.split() if words else []
    return bool(address) or len(words & {one.strip(".,;:!?\"'()") for one in told}) >= FACTS
