"""What `rephrase` says to a server, and of it: limits, the address, requests as files, how far the answers are.

The catch: a folder of requests that was written is not written again, since its requests may be on their way.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from curate import store
from curate.errors import RecipeError, Unanswered

if TYPE_CHECKING:
    from curate.generate.answers import Answers
    from curate.generate.progress import Outcome, Progress
    from curate.generate.request import Request

_LEAST = 1e-6  # a price per million tokens; money is counted in 1e-12 of the currency
_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Limits:
    """What the server is asked at once, and what may be spent; no part of what the rows are.

    concurrency: requests at once, at most. timeout: seconds for one try. tries: of one request. tokens, money: most
    that all runs with this store of answers may spend; prices are per million tokens. lines, megabytes: of one file
    for a batch service.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}
    concurrency: int = 64
    timeout: float = 300.0
    tries: int = 6
    tokens: int | str | None = None
    money: float | None = None
    input_price: float = 0.0
    output_price: float = 0.0
    lines: int = 50_000
    megabytes: int = 200

    def __post_init__(self) -> None:
        for name in ("concurrency", "tries", "lines", "megabytes"):
            if getattr(self, name) < 1:
                raise RecipeError(f"`limits.{name}` is {getattr(self, name)}; 1 or more is wanted")
        for name in ("money", "input_price", "output_price"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise RecipeError(f"`limits.{name}` is {value}; 0 or more is wanted")
        if not self.timeout > 0:
            raise RecipeError(f"`limits.timeout` is {self.timeout}; seconds, more than 0, are wanted")
        if self.money is not None and not (self.input_price or self.output_price):
            raise RecipeError("`limits.money` needs `input_price` and `output_price`, per million tokens")
        for name in ("input_price", "output_price"):
            if self.money is not None and 0 < getattr(self, name) < _LEAST:
                raise RecipeError(
                    f"`limits.{name}` is {getattr(self, name):g}: too little to be counted. Prices are per million "
                    "tokens; is this the price of one?"
                )
        if self.tokens is not None:
            token_limit(self.tokens)


UNLIMITED = Limits()


def is_secret(server: str) -> bool:
    """True for an address that holds more than where it is: a user, a password, a query or a fragment."""
    if server.startswith(("env:", "files:")):
        return False
    address = server.partition("://")[2] or server
    return "?" in address or "#" in address or "@" in address.partition("/")[0]


def token_limit(value: int | str | None) -> int | None:
    """`20M` and the like as a number of tokens."""
    if value is None:
        return None
    text = str(value).strip().upper()
    factor = _UNITS.get(text[-1:], 1)
    try:
        count = round(float(text[:-1] if factor > 1 else text) * factor)
    except (ValueError, OverflowError):
        count = -1
    if count < 0:
        raise RecipeError(f"`limits.tokens` is {value!r}; a number of tokens such as 500000 or 2.5M is wanted")
    return count


def write(requests: "Iterable[Request]", answers: "Answers", folder: str, most: Limits = UNLIMITED) -> None:
    """Requests without an answer as files for a batch service; then the run must wait, as Unanswered says."""
    from curate.generate import batch

    tally = _Tally()
    unheld = tally.counted(missing(requests, answers))
    if (first := next(unheld, None)) is None:
        return
    before = [name for name in store.listing(folder) if name.startswith("requests-")]
    if before:  # written by an earlier run, which may have been killed in the middle of it
        raise Unanswered(
            f"{1 + sum(1 for _ in unheld):,} requests are open, and {folder} has {len(before)} files: have those "
            "answered, take the results in with `curate rephrase import`, and run again; or remove the files, and "
            "a run writes what is open"
        )
    files = batch.export(chain([first], unheld), folder, batch.Limits(most.lines, most.megabytes * 10**6))
    raise Unanswered(
        f"{tally.requests:,} requests ({tally.tokens:,} tokens of prompts) are in {folder}, in {len(files)} "
        "files; have them answered, take the results in with `curate rephrase import`, and run again",
        {"files": files, "requests": tally.requests, "prompt_tokens": tally.tokens, "most_tokens": tally.most},
    )


def missing(requests: "Iterable[Request]", answers: "Answers") -> "Iterator[Request]":
    """Requests without an answer, each once."""
    seen: set[str] = set()
    group: list[Request] = []

    def unheld() -> "Iterator[Request]":
        held = answers.held([one.key for one in group])
        for asked in group:
            if asked.key not in held and asked.key not in seen:
                seen.add(asked.key)
                yield asked

    for asked in requests:
        group.append(asked)
        if len(group) == 1000:
            yield from unheld()
            group = []
    yield from unheld()


class _Tally:
    """Counts requests as they pass."""

    requests = tokens = most = 0

    def counted(self, requests: "Iterator[Request]") -> "Iterator[Request]":
        for asked in requests:
            self.requests += 1
            self.tokens += asked.prompt_tokens
            self.most += asked.max_tokens
            yield asked


class Told:
    """Says how far the answers are, every few seconds."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell, self.calls, self.began = tell, 0, time.monotonic()

    def __call__(self, now: "Progress") -> None:
        self.calls += 1
        if self.calls % 10 == 0:
            rate = now.output_tokens / max(time.monotonic() - self.began, 1e-3)
            money = f", {now.money:.4f} spent" if now.money else ""
            tries = f", {sum(now.retries.values())} tries failed" if now.retries else ""
            self.tell(
                f"{now.done:,} answers ({now.held:,} from before), {rate:,.1f} tokens/s, "
                f"{now.busy} of {now.size} at once{money}{tries}"
            )

    def end(self, outcome: "Outcome") -> None:
        failed = ", ".join(f"{count} {reason}" for reason, count in outcome.tries.most_common(3))
        self.tell(
            f"{outcome.answered:,} answers in {outcome.seconds:.0f} s, {outcome.held:,} from before, "
            f"{outcome.refused:,} refused by the server; {outcome.input_tokens:,} tokens in, "
            f"{outcome.output_tokens:,} out"
            + (f", {outcome.money:.4f} spent" if outcome.money else "")
            + (f"; tries that failed: {failed}" if failed else "")
        )
