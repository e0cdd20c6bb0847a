"""One request to a language model, and its key.

The key is a digest of all that the answer depends on and of nothing else, so a key that has an answer is never asked
again: not after a crash, not in another run, not by another document with the same passage.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import orjson

from curate.errors import RecipeError
from curate.manifest import canonical


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. `top_k` is sent only when it is given: not every server knows it. A seed is a wish: what
    else a server computes in the same batch changes its sums."""

    temperature: float
    top_p: float
    max_tokens: int
    top_k: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.max_tokens >= 1:
            raise RecipeError(f"max_tokens is {self.max_tokens}; at least 1 is wanted")
        if not self.temperature >= 0:
            raise RecipeError(f"temperature is {self.temperature}; 0 or more is wanted")
        if not 0 < self.top_p <= 1:
            raise RecipeError(f"top_p is {self.top_p}; more than 0 and at most 1 is wanted")


PROBE = "Hello."
"""What is asked instead of a passage to see whether a server that refuses answers anything."""


class Request(NamedTuple):
    """`key`: 64 hex digits. `body`: JSON for POST /chat/completions. `prompt_tokens`: an estimate, of which a budget
    is better off when it is not too low. `max_tokens`: the most that an answer has."""

    key: str
    body: bytes
    prompt_tokens: int
    max_tokens: int


def request(
    messages: Sequence[Mapping[str, str]],
    *,
    model: str,
    revision: str,
    sampling: Sampling,
    style: str,
    prompt_version: int,
    prompt_tokens: int,
) -> Request:
    """The request for these messages. `model` is sent; `revision`, `style` and `prompt_version` count for the key."""
    said = [dict(message) for message in messages]
    drawn = {name: value for name, value in asdict(sampling).items() if value is not None}
    identity: dict[str, Any] = {
        "messages": said,
        "model": model,
        "prompt_version": prompt_version,
        "revision": revision,
        "sampling": asdict(sampling),
        "style": style,
    }
    key = hashlib.sha256(canonical(identity)).hexdigest()
    body = orjson.dumps({"model": model, "messages": said, **drawn, "stream": False})
    return Request(key, body, prompt_tokens, sampling.max_tokens)


def probe(refused: Request) -> Request:
    """The same request with PROBE as its last message: all that a server may dislike but the text. It has no key."""
    body = orjson.loads(refused.body)
    body["messages"][-1]["content"] = PROBE
    return refused._replace(key="", body=orjson.dumps(body))
