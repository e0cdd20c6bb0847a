"""Requests for tests of `generate`, a small service, and a client process that may be killed.

    python generated.py URL STORE COUNT SECONDS TOKENS

asks for COUNT passages; the server's base URL, a budget of TOKENS (0: none), and a try may last SECONDS.
"""

import sys
from collections.abc import Iterator
from typing import Any

from curate.generate.answers import Answers
from curate.generate.budget import Budget
from curate.generate.client import Outcome, Progress, Service, fetch
from curate.generate.request import Request, Sampling, request

MODEL = "small"
KEY = "sk-very-secret-key"


def asked(text: str) -> Request:
    """The request for a text; its prompt is estimated as the server of tests counts it."""
    return request(
        [{"role": "system", "content": "Say it again."}, {"role": "user", "content": text}],
        model=MODEL,
        revision="1",
        sampling=Sampling(temperature=0.7, top_p=0.9, max_tokens=12),
        style="easy",
        prompt_version=1,
        prompt_tokens=len(text.split()) + 3,
    )


def passages(count: int) -> Iterator[Request]:
    for number in range(count):
        yield asked(f"passage number {number}")


def small(url: str, **more: Any) -> Service:
    """A service with short waits."""
    return Service(url, **{"key": KEY, "model": MODEL, "most": 16, "timeout": 5.0, "pause": 0.01} | more)


def got(requests: Any, answers: Answers, service: Service) -> Outcome:
    return fetch(requests, answers, service, report=quiet)


def quiet(progress: Progress) -> None:
    assert progress.busy >= 0
    assert progress.open >= 0


def main(url: str, path: str, count: str, seconds: str, tokens: str) -> None:
    budget = Budget("killed", tokens=int(tokens)) if int(tokens) else None
    with Answers.open(path) as answers:
        got(passages(int(count)), answers, small(url, timeout=float(seconds), budget=budget))


if __name__ == "__main__":
    main(*sys.argv[1:])
