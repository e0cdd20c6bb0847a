"""Asks a server for what the store of answers does not have yet.

    with Answers.open("answers.sqlite") as answers:
        fetch(requests, answers, service("env:CURATE_LLM", model="org/model"), report=print)

`requests` may be of any number: they are read as they are sent. Every answer is in the store before the next request
takes its place, so whatever ends a run, even `kill -9`, the next one asks only for what was out at that moment.

The catch: a server that ends half-way through its answers has worked for nothing; what it charges is its own affair,
and a budget counts such tries in full.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable

from curate.errors import Unanswered
from curate.generate.answers import Answers
from curate.generate.dispatch import Dispatch
from curate.generate.progress import Outcome, Progress
from curate.generate.request import Request
from curate.generate.service import Service, service

__all__ = ["Outcome", "Progress", "Service", "fetch", "service"]


def fetch(
    requests: Iterable[Request], answers: Answers, service: Service, *, report: Callable[[Progress], None]
) -> Outcome:
    """Answers to all of `requests`, in the store; `report` is called each second and at the end.

    AssetError: the server will have none of our requests (key, address, model, certificate, sampling, account), or
    answers for another model: the run stops at once. RecipeError: its address or the proxy is none that can be used.
    Unanswered: some requests are open, since they failed all their tries, or the server failed `breaker` requests in a
    row, or the budget is used up. BusyError: another run asks for answers to this store. What was answered is stored in
    any case; a refusal is stored if the server answered something after it.
    """

    async def main() -> Outcome:
        dispatch = Dispatch(requests, answers, service)
        await dispatch.run(report)
        if dispatch.stopped is not None:
            raise dispatch.stopped
        if dispatch.outcome.failed:
            raise Unanswered(dispatch.unanswered())
        return dispatch.outcome

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    # Called from inside a loop (a flow's, a notebook's), which can have no second one in its thread.
    done: list[Outcome] = []
    errors: list[BaseException] = []

    def apart() -> None:
        try:
            done.append(asyncio.run(main()))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=apart)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return done[0]
