"""What is around an answer because a machine wrote it: reasoning, marks of chat templates, turns, JSON, HTML, LaTeX.

`bare` takes off what leaves a whole answer behind: reasoning in front, marks of a template at the ends, turns that the
generator invented behind its own, a JSON object around one text, a tag around the whole. `marked` finds what is left.
What the source has as well is never taken for a wrapping.

The catch: nothing is parsed. A text about HTML whose passage shows no tag may show none either.
"""

import json
import re
from typing import Any

_THOUGHTS = r"(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad|seed:think)"
_THOUGHT = re.compile(rf"\s*(?:<{_THOUGHTS}>|\[THINK\]|\u25c1think\u25b7)", re.IGNORECASE)
_THOUGHT_END = re.compile(rf"</{_THOUGHTS}>|\[/THINK\]|\u25c1/think\u25b7", re.IGNORECASE)
_FINAL = re.compile(r"<\|channel\|>\s*final[^<]{0,40}<\|message\|>")
_MARK = (
    r"(?:<\|[A-Za-z0-9_]{1,40}\|>|<\uff5c[^<>\uff5c\n]{1,40}\uff5c>|</?s>|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>"
    r"|<(?:bos|eos|pad|unk|EOT)>|\[/?(?:ASSISTANT|SYSTEM_PROMPT)\])"
)
_MARKS = re.compile(_MARK)
_ROLE = r"(?:assistant|model|bot)"
_BEFORE = re.compile(rf"(?:\s*{_MARK}(?:[ \t]*{_ROLE}[ \t]*(?=\n|<))?)+\s*", re.IGNORECASE)
_BEHIND = re.compile(rf"\s*(?:{_MARK}\s*)+\Z")
_TURN = re.compile(
    r"(?:\A|\n)[ \t]*(?:[#]{1,6}[ \t]*|\*\*)?((?:User|Human|Assistant|AI|Instruction|Input|USER|HUMAN|ASSISTANT)"
    r"[ \t]*(?:\*\*[ \t]*:|:(?:\*\*)?))(?=\s|\Z)"
)
_WRAPPED = re.compile(r"<([A-Za-z][\w-]{0,40})>\s*(.*\S)\s*</\1>", re.DOTALL)
_TAG = re.compile(r"<(?:/[A-Za-z][\w:-]{0,40}\s*>|!DOCTYPE|\?xml)", re.IGNORECASE)
_ANY_TAG = re.compile(r"</?[A-Za-z][\w:-]{0,40}(?:\s[^<>\n]{0,300})?/?>")
_ELEMENTS_SAID = """
p div span html body head h1 h2 h3 h4 h5 h6 ul ol li b i em strong u section blockquote table tr td pre code
"""
_ELEMENTS = frozenset(_ELEMENTS_SAID.split())
_LATEX = re.compile(
    r"\\(?:begin|end)\{(?:quote|quotation|document|itemize|enumerate|description|center|abstract|verbatim|minipage|flushleft)\}"
    r"|\\documentclass|\\(?:sub)*section\*?\{|\\boxed\{\\text"
)


def unreasoned(text: str, source: str = "") -> str:
    """The answer behind reasoning that ends with a tag. Reasoning without an end leaves nothing."""
    if _THOUGHT_END.search(source) or _THOUGHT.search(source):
        return text
    ends = [*_FINAL.finditer(text), *_THOUGHT_END.finditer(text)]
    if ends:
        return text[max(one.end() for one in ends) :].strip()
    return "" if _THOUGHT.match(text) else text


def bare(text: str, source: str = "", prompt: str = "") -> str:
    """The answer without what a machine put around it; `text` itself where it is not around a whole answer.

    Turns stay if the source or the prompt has their labels: a conversation may be what was asked for.
    """
    made = _unmarked(unreasoned(text, source), source)
    made = _unwrapped(_first_turn(made, source + "\n" + prompt), source)
    return text if made == text.strip() else made


def marked(text: str, source: str) -> bool:
    """True if the text has marks of chat templates, tags, LaTeX of documents or JSON, and its source has not."""
    if _MARKS.search(text) and not _MARKS.search(source):
        return True
    if not _ANY_TAG.search(source) and (_TAG.search(text) or _THOUGHT.search(text) or _opens(text)):
        return True
    if "\\begin" not in source and _LATEX.search(text) and not _LATEX.search(source):
        return True
    return _looks_like_json(text) and not _looks_like_json(source)


def _opens(text: str) -> bool:
    """True if a tag of HTML stands at the start of the text."""
    match = _ANY_TAG.match(text)
    return bool(match) and match[0].strip("</>").partition(" ")[0].lower() in _ELEMENTS if match else False


def _unmarked(text: str, source: str) -> str:
    """Without marks of chat templates at both ends, and the name of the role behind the first."""
    if _MARKS.search(source):
        return text
    match = _BEFORE.match(text)
    return _BEHIND.sub("", text[match.end() :] if match else text).strip()


def _first_turn(text: str, known: str) -> str:
    """The text before a line that begins another turn; its own label is for lists of phrases."""
    for match in _TURN.finditer(text):
        if match[1] in known:
            return text
        if text[: match.start()].strip():
            return text[: match.start()].rstrip()
    return text


def _unwrapped(text: str, source: str) -> str:
    """The one text in a JSON object, or in a tag of no known markup that is around the whole."""
    if _looks_like_json(text) and not _looks_like_json(source):
        return _only_text(text)
    match = _WRAPPED.fullmatch(text)
    if match and not _ANY_TAG.search(source) and match[1].lower() not in _ELEMENTS:
        return text if _ANY_TAG.search(match[2]) else match[2].strip()
    return text


def _looks_like_json(text: str) -> bool:
    return bool(re.match(r"\s*(?:\{\s*\"|\[\s*[\{\"])", text)) and text.rstrip()[-1:] in ("}", "]")


def _only_text(text: str) -> str:
    """The value of an object of one text, otherwise the JSON as it is."""
    try:
        found: Any = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return text
    while isinstance(found, (list, dict)) and len(found) == 1:
        found = found[0] if isinstance(found, list) else next(iter(found.values()))
    return found.strip() if isinstance(found, str) and found.strip() else text
