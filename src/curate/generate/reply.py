"""What a server answered: is it an answer at all? Nothing is taken on trust: each field is there and of its type."""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from curate.generate.answers import Answer

REFUSED = (400, 413, 422)
"""This very request is wrong for the server, and would be again: too long, as a rule."""

AGAIN = (408, 409, 425, 429)
"""May do better later, as may everything from 500."""

SLOWER = (429, 503)

_SHOWN = 200
_EDITION = re.compile(
    r"[-@](?:20\d\d-\d\d-\d\d|20\d{6}|(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|2\d(?:0[1-9]|1[0-2]))", re.ASCII
)


class Garbled(ValueError):
    """No answer in the agreed form; says what was found, in words of ours."""


class Other(Garbled):
    """An answer of another model; `found` is its name as the server says it, of any length and with anything in it."""

    def __init__(self, found: str) -> None:
        super().__init__("an answer of another model")
        self.found = found


class Read(NamedTuple):
    """An answer and whether its tokens are an estimate."""

    answer: Answer
    estimated: bool


def again(status: int) -> bool:
    """True if the same request may be answered later."""
    return status in AGAIN or status >= 500 or 200 <= status < 300  # 200 with an answer has been dealt with


def read(body: bytes, key: str, *, names: tuple[str, ...], prompt_tokens: int, seconds: float) -> Read:
    """The answer in the JSON of a chat completion. `names`: what the model may be called, anything if empty. Without
    `usage`, the prompt counts as estimated and the answer as a token for each four bytes. Garbled if it is not one."""
    try:
        raw = parsed(body)
    except ValueError:
        raise Garbled("a body that is no JSON") from None
    return completion(raw, key, names=names, prompt_tokens=prompt_tokens, seconds=seconds)


def completion(raw: Any, key: str, *, names: tuple[str, ...], prompt_tokens: int, seconds: float) -> Read:
    """The same from parsed JSON."""
    if not isinstance(raw, dict):
        raise Garbled("a body that is no JSON object")
    if not isinstance(raw.get("id", ""), str | None):
        raise Garbled("an `id` that is no text")
    if not called(raw.get("model"), names):
        raise Other(str(raw["model"]))
    choices = raw.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Garbled("no `choices`")
    message, finish = choices[0].get("message"), choices[0].get("finish_reason")
    if not isinstance(message, dict) or "content" not in message:
        raise Garbled("no `message.content`")
    if finish is None and "finish_reason" in choices[0]:
        finish = "stop"  # some servers name only an end that is out of the ordinary
    if not isinstance(finish, str):
        raise Garbled("no `finish_reason`")
    text, finish = _whole(_content(message["content"])), _whole(finish)
    used = usage(raw.get("usage"))
    prompt, made = used or (prompt_tokens, -(-len(text.encode()) // 4))
    return Read(Answer(key, text, finish, prompt, made, seconds, ""), used is None)


def parsed(body: bytes) -> Any:
    """JSON. What the standard has not but servers send is read too: a byte order mark, NaN, half of a surrogate pair.
    ValueError if it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            return json.loads(body.decode("utf-8-sig"))
        except RecursionError:
            raise ValueError("JSON of too many levels") from None


def called(found: object, names: tuple[str, ...]) -> bool:
    """True if this is a name of the model: one of `names`, in letters of any case, without the folder before it or the
    file's ending, or with the date of an edition behind it (`-2026-01-31`, `-20260131`, `-0131`, `-2601`), as servers
    say it. None, where a server names none, will do."""
    if found is None:
        return True
    if not isinstance(found, str):
        return False
    told = _plain(found)
    for name in map(_plain, names):
        if told == name or (told.startswith(name) and _EDITION.fullmatch(told, len(name))):
            return True
    return not names


def usage(raw: object) -> tuple[int, int] | None:
    """Tokens of the prompt and of the answer; None if they are not told."""
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise Garbled("`usage` that is no object")
    prompt, made = raw.get("prompt_tokens"), raw.get("completion_tokens")
    if prompt is None or made is None:
        return None
    if type(prompt) is not int or type(made) is not int or not 0 <= prompt < 1 << 40 or not 0 <= made < 1 << 40:
        raise Garbled("`usage` that is no number of tokens")
    return prompt, made


def complaint(body: bytes, clean: Callable[[str], str] = str) -> str:
    """What a server says of an error: its message, or the body, of that the beginning. `clean` takes secrets out, which
    must be done while they are whole."""
    try:
        raw = parsed(body)
    except ValueError:
        raw = body.decode(errors="replace")
    for name in ("error", "message", "detail"):
        if isinstance(raw, dict) and name in raw:
            raw = raw[name]
    try:
        text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False) if raw else ""
    except RecursionError:
        text = "JSON of too many levels"
    return cut(_whole(text), clean)


def cut(text: str, clean: Callable[[str], str], most: int = _SHOWN) -> str:
    """What may be shown of a server's words: clean, in one line, and not long."""
    return " ".join(clean(text).split())[:most]


def _content(raw: object) -> str:
    """The text of a message: text itself, nothing, or parts with texts; a part of thoughts is none of the answer."""
    if raw is None or isinstance(raw, str):
        return raw or ""
    if not isinstance(raw, list) or not all(isinstance(part, dict) for part in raw):
        raise Garbled("`content` that is no text")
    texts = [part.get("text") for part in raw if part.get("type") not in ("thinking", "reasoning")]
    if not all(isinstance(text, str) for text in texts):
        raise Garbled("`content` with a part that is no text")
    return "".join(texts)


def _whole(text: str) -> str:
    """Halves of surrogate pairs, which no encoding of text has, replaced."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _plain(name: str) -> str:
    return name.casefold().rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
