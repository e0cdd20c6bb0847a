"""What a server answered: is it an answer at all? Nothing is taken on trust: each field is there and of its type."""

from typing import Any, NamedTuple

import orjson

from curate.generate.answers import Answer

REFUSED = (400, 413, 422)
"""This very request is wrong for the server, and would be again: too long, as a rule."""

AGAIN = (408, 409, 425, 429)
"""May do better later, as may everything from 500."""

SLOWER = (429, 503)

_SHOWN = 200


class Garbled(ValueError):
    """No answer in the agreed form; says what was found."""


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
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Garbled("a body that is no JSON") from None
    return completion(raw, key, names=names, prompt_tokens=prompt_tokens, seconds=seconds)


def completion(raw: Any, key: str, *, names: tuple[str, ...], prompt_tokens: int, seconds: float) -> Read:
    """The same from parsed JSON."""
    if not isinstance(raw, dict):
        raise Garbled("a body that is no JSON object")
    if not isinstance(raw.get("id", ""), str | None):
        raise Garbled("an `id` that is no text")
    if not called(raw.get("model"), names):
        raise Garbled(f"an answer of model {str(raw.get('model'))[:80]!r}, not of {' or '.join(names) or 'any'}")
    choices = raw.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Garbled("no `choices`")
    message, finish = choices[0].get("message"), choices[0].get("finish_reason")
    if not isinstance(message, dict) or "content" not in message:
        raise Garbled("no `message.content`")
    if not isinstance(message["content"], str | None):
        raise Garbled("`content` that is no text")
    if not isinstance(finish, str):
        raise Garbled("no `finish_reason`")
    text = message["content"] or ""
    used = usage(raw.get("usage"))
    prompt, made = used or (prompt_tokens, -(-len(text.encode()) // 4))
    return Read(Answer(key, text, finish, prompt, made, seconds, ""), used is None)


def called(found: object, names: tuple[str, ...]) -> bool:
    """True if this is a name of the model: one of `names`, without the folder before it or the file's ending, or with
    a date or the like behind it (`-2026-01-31`), as servers say it. None, where a server names none, will do."""
    if found is None:
        return True
    if not isinstance(found, str):
        return False
    short = found.rsplit("/", 1)[-1].removesuffix(".gguf")
    return not names or any(found.startswith(name) or short == name.rsplit("/", 1)[-1] for name in names)


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


def complaint(body: bytes) -> str:
    """What a server says of an error: its message, or the beginning of the body."""
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        raw = body[:_SHOWN].decode(errors="replace")
    for name in ("error", "message", "detail"):
        if isinstance(raw, dict) and name in raw:
            raw = raw[name]
    text = raw if isinstance(raw, str) else orjson.dumps(raw).decode() if raw else ""
    return " ".join(text.split())[:_SHOWN]
