"""Requests on their way: those without an answer, as files for a batch service, and how far the answers are."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from curate import store
from curate.errors import Unanswered

if TYPE_CHECKING:
    from curate.generate.answers import Answers
    from curate.generate.progress import Outcome, Progress
    from curate.generate.request import Request

_GROUP = 1000


def missing(requests: "Iterator[Request]", answers: "Answers") -> "Iterator[Request]":
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
        if len(group) == _GROUP:
            yield from unheld()
            group = []
    yield from unheld()


def write(requests: "Iterator[Request]", answers: "Answers", folder: str, *, lines: int, megabytes: int) -> None:
    """Requests without an answer as files for a batch service, of so many lines and so large at most.

    Unanswered if there are any: the run must wait. A folder that has such files already is left as it is.
    """
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
    files = batch.export(chain([first], unheld), folder, batch.Limits(lines, megabytes * 10**6))
    raise Unanswered(
        f"{tally.requests:,} requests ({tally.tokens:,} tokens of prompts) are in {folder}, in {len(files)} "
        "files; have them answered, take the results in with `curate rephrase import`, and run again",
        {"files": files, "requests": tally.requests, "prompt_tokens": tally.tokens, "most_tokens": tally.most},
    )


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
        self.tell, self.calls = tell, 0

    def __call__(self, now: "Progress") -> None:
        self.calls += 1
        if self.calls % 10 == 0:
            money = f", {now.money:.4f} spent" if now.money else ""
            tries = f", {sum(now.retries.values())} tries failed" if now.retries else ""
            self.tell(
                f"{now.done:,} answers ({now.held:,} from before), {now.tokens_per_second:,.1f} tokens/s, "
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
