"""The run behind `fetch`: what is ready is sent, what fails waits and is sent again, what is answered is stored.

One event loop. A request holds its slot from the moment it is sent until its answer is in the store, so a process that
dies loses no more than was out. One that failed waits for its next try without a slot. Requests are read ahead by some
hundred, in a thread, since what makes them may have to read and compute.

A refusal is kept when it is known to be about its own request, which it is not where the account is at its limit or a
proxy is in the way. So refusals wait for a good answer after them; when `breaker` of them wait, or no other request is
left, one word is asked for instead of a passage, and if that is refused too, the run ends and keeps none of them.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Iterable

from curate.errors import AssetError, CurateError, Unanswered
from curate.generate import endings, reply
from curate.generate.answers import Answer, Answers
from curate.generate.books import Books, Call
from curate.generate.feed import Feed
from curate.generate.lanes import Failure, Lanes, Reply
from curate.generate.limits import Limit, backoff, retry_after
from curate.generate.progress import Outcome, Progress
from curate.generate.request import Request, probe
from curate.generate.service import Service

_GRACE = 2.0  # seconds that requests have to come back when the server will have none of ours
_REPORTS = 1.0
_OTHERS = 3  # answers of another model, each of them paid for, before any of the right one
_NAME = 80


class Dispatch:
    """One run of requests against one server; made and used inside its event loop."""

    def __init__(self, requests: Iterable[Request], answers: Answers, service: Service) -> None:
        self.outcome = Outcome()
        self.stopped: CurateError | None = None
        self._service, self._answers = service, answers
        self._limit = Limit(service.most)
        self._wake = asyncio.Event()
        self._books = Books(answers, service.budget, self.outcome, self._wake)
        self._ready: deque[Call] = deque()
        self._feed = Feed(requests, self._books, self._ready, most=service.most, wake=self._wake)
        self._later: list[tuple[float, int, Call]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count()
        self._failing = 0
        self._deadline: float | None = None
        self._crash: BaseException | None = None
        self._reasons: list[str] = []
        self._refusals: list[tuple[Call, Answer]] = []
        self._probe: Call | None = None
        self._others, self._most_others = 0, _OTHERS
        self._started = time.monotonic()
        self._told = (self._started, 0)

    async def run(self, report: Callable[[Progress], None]) -> None:
        """Until all is answered or has failed, or the run must stop: then `stopped` says why."""
        async with Lanes(self._service) as self._lanes:
            keeping = asyncio.create_task(self._books.keep())
            helpers = [keeping, *(asyncio.create_task(one) for one in (self._feed.run(), self._report(report)))]
            for helper in helpers:
                helper.add_done_callback(self._ended)
            try:
                await self._dispatch()
            finally:
                for task in (*self._tasks, *helpers[1:]):
                    task.cancel()
                await asyncio.gather(*self._tasks, *helpers[1:], return_exceptions=True)
                self._feed.close()
                await self._books.close(keeping)
                self.outcome.seconds = time.monotonic() - self._started
        if self._crash:
            raise self._crash
        report(self._progress())

    async def _dispatch(self) -> None:
        while self._crash is None:
            now = time.monotonic()
            call = self._next(now) if self.stopped is None and self._limit.room(self._books.busy, now) else None
            if call is None:
                if not self._books.busy and (self.stopped or (self._idle() and not self._refusals)):
                    return
                await self._rest(now)
            elif await self._books.afford(call):
                self._send(call)
            else:
                await self._short(call)

    def _idle(self) -> bool:
        """Nothing is left to send."""
        return self._feed.ended and not self._ready and not self._later

    def _next(self, now: float) -> Call | None:
        """What to send: what has waited long enough, else something new, as long as not too much is waiting. Where
        refusals are in doubt, a probe and nothing new."""
        if self._later and self._later[0][0] <= now:
            return heapq.heappop(self._later)[2]
        doubtful = len(self._refusals) >= self._service.breaker
        if self._probe is None and (doubtful or (self._refusals and self._idle() and not self._books.busy)):
            self._probe = Call(probe(self._refusals[-1][0].request))
            return self._probe
        if self._ready and not doubtful and len(self._later) < 2 * self._service.most:
            call = self._ready.popleft()
            self._feed.taken()
            return call
        return None

    async def _rest(self, now: float) -> None:
        """Until something happens, or it is time for something that waited at `now`: what has come due since then is
        waited for no longer, rather than no more."""
        known = [self._limit.paused, self._later[0][0] if self._later else now]
        due = [one for one in known if one > now] if self.stopped is None else []
        if self._deadline is not None:
            due = [self._deadline]
        waits = max(0.001, min(due) - time.monotonic()) if due else None
        try:
            async with asyncio.timeout(waits):
                await self._wake.wait()
        except TimeoutError:
            if self._deadline is not None and time.monotonic() >= self._deadline:
                for task in self._tasks:
                    task.cancel()
                self._deadline += _GRACE
        self._wake.clear()

    async def _short(self, call: Call) -> None:
        """There is no budget for a request: perhaps when others are back, which may have cost less than they might."""
        if call is self._probe:
            self._probe = None  # made again
        else:
            self._ready.appendleft(call)
        if self._books.busy:
            await self._rest(time.monotonic())
            return
        spent = await self._books.exhausted(call)
        if spent is not None:
            self._stop(
                Unanswered(endings.exhausted(self._service, spent, self._books.lease, call.cost, self._standing()))
            )

    def _send(self, call: Call) -> None:
        call.tries += 1
        call.sent = time.monotonic()
        self._books.busy += 1
        self.outcome.sent += 1
        self.outcome.most = max(self.outcome.most, self._books.busy)
        task = asyncio.create_task(self._try(call))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._crash = self._crash or task.exception()
        self._wake.set()

    async def _try(self, call: Call) -> None:
        try:
            self._judge(call, await self._lanes.post(call.request.body))
        except Failure as failure:
            self._failed(call, failure)
        except AssetError as error:
            self._books.uncharged(call)
            self._stop(AssetError(endings.unusable(self._service, str(error))), grace=_GRACE)
        except asyncio.CancelledError:
            self._books.uncertain(call)

    def _judge(self, call: Call, got: Reply) -> None:
        """What a reply means for its request, and for the run."""
        now, service = time.monotonic(), self._service
        key, seconds = call.request.key, round(now - call.sent, 3)
        if got.status == 200:
            names, estimate = service.called, call.request.prompt_tokens
            try:
                found = reply.read(got.body, key, names=names, prompt_tokens=estimate, seconds=seconds)
            except reply.Other as error:
                raise self._other(reply.cut(error.found, service.clean, _NAME)) from None
            except reply.Garbled as error:
                raise Failure(f"garbled: {error}", charged=True) from None
            self._good(call, found)
        elif got.status in reply.REFUSED:
            why = f"{got.status}: {reply.complaint(got.body, service.clean)}"
            self._refused(call, Answer(key, "", "", 0, 0, seconds, why))
        elif reply.again(got.status):
            wait = retry_after(got.retry_after, time.time()) or 0.0
            slower = got.status in reply.SLOWER
            if slower:
                self._limit.pause(now + wait)
            self._failed(call, Failure(str(got.status), charged=False, slower=slower), wait)
        else:
            self._books.uncharged(call)
            location = service.clean(got.location or "")
            said = endings.status(got.status, location, reply.complaint(got.body, service.clean))
            self._stop(AssetError(endings.unusable(service, said)), grace=_GRACE)

    def _good(self, call: Call, found: reply.Read) -> None:
        """An answer: the server is well, so what it refused before it would refuse again."""
        self._failing = self._others = 0
        self._most_others = self._service.breaker
        self._limit.good(self._books.busy)
        if call is self._probe:
            self._books.probed(call, found)
            self._probe = None
        else:
            self._books.answered(call, found)
        if self._refusals and self.stopped is None:
            self._books.refused([answer for _, answer in self._refusals])
            self._refusals = []

    def _refused(self, call: Call, answer: Answer) -> None:
        """The server will never answer this one, or none; the refusal of the probe tells which."""
        self._failing = 0
        self._books.uncharged(call)
        if call is not self._probe:
            self._refusals.append((call, answer))
        elif self._refusals:
            said = endings.all_refused(len(self._refusals), self._refusals[-1][1].error, answer.error)
            self._stop(AssetError(endings.unusable(self._service, said)), grace=_GRACE)
        else:  # a good answer came in the meantime
            self._probe = None

    def _other(self, name: str) -> Failure:
        """An answer of another model, which is paid for; more of the kind would be as well."""
        self._others += 1
        if self._others >= self._most_others:
            said = endings.another_model(name, self._service.model)
            self._stop(AssetError(endings.unusable(self._service, said)), grace=_GRACE)
        return Failure(f"garbled: an answer of model {name!r}", charged=True)

    def _failed(self, call: Call, failure: Failure, wait: float = 0.0) -> None:
        """Another try, later; or this was the last."""
        now, service = time.monotonic(), self._service
        self.outcome.tries[failure.reason.partition(":")[0]] += 1
        if failure.slower:
            self._limit.bad(call.sent, now)
        (self._books.uncertain if failure.charged else self._books.uncharged)(call)
        if call.tries < service.tries:
            waits = max(wait * (1 + random.random() / 10), backoff(call.tries, service.pause, random.random()))
            heapq.heappush(self._later, (now + waits, next(self._numbers), call))
            return
        if call is self._probe:
            self._reasons.append(failure.reason)
            self._stop(Unanswered(self.unanswered()))
            return
        self._books.open.discard(call.request.key)
        self.outcome.failed += 1
        self._failing += 1
        if failure.reason not in self._reasons and len(self._reasons) < 3:
            self._reasons.append(failure.reason)
        if self._failing >= service.breaker:
            self._stop(Unanswered(endings.broken(service, self._failing, self._standing())))

    def _stop(self, error: CurateError, *, grace: float | None = None) -> None:
        """Send nothing more; what is out may come back, in `grace` seconds if so many are given."""
        self.stopped = self.stopped or error
        if grace is not None and self._deadline is None:
            self._deadline = time.monotonic() + grace
        self._wake.set()

    async def _report(self, report: Callable[[Progress], None]) -> None:
        while True:
            await asyncio.sleep(_REPORTS)
            report(self._progress())

    def _progress(self) -> Progress:
        now, outcome = time.monotonic(), self.outcome
        (then, before), self._told = self._told, (now, outcome.output_tokens)
        return Progress(
            done=outcome.done,
            held=outcome.held,
            open=len(self._books.open) + outcome.failed,
            input_tokens=outcome.input_tokens,
            output_tokens=outcome.output_tokens,
            tokens_per_second=(outcome.output_tokens - before) / max(1e-9, now - then),
            money=outcome.money,
            busy=self._books.busy,
            size=int(self._limit.size),
            retries=dict(outcome.tries),
        )

    def _standing(self) -> str:
        """Requests open and answered."""
        return endings.standing(self.outcome, len(self._books.open), self._feed.ended, self._reasons)

    def unanswered(self) -> str:
        """What is open at the end, and why."""
        return endings.unanswered(self._service, self._standing())
