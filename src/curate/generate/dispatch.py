"""The run behind `fetch`: what is ready is sent, what fails waits and is sent again, what is answered is stored.

One event loop. A request holds its slot from the moment it is sent until its answer is in the store, so a process that
dies loses no more than was out. One that failed waits for its next try without a slot. Requests are read ahead by some
hundred, in a thread, since what makes them may have to read and compute.
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
from curate.generate.request import Request
from curate.generate.service import Service

_GRACE = 2.0  # seconds that requests have to come back when the server will have none of ours
_REPORTS = 1.0


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
        self._refused_first: list[str] | None = []
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
        if self._refused_first and isinstance(self.stopped, AssetError):
            self._answers.forget(self._refused_first)
            self.outcome.refused -= len(self._refused_first)
        report(self._progress())

    async def _dispatch(self) -> None:
        while self._crash is None:
            now = time.monotonic()
            call = self._next(now) if self.stopped is None and self._limit.room(self._books.busy, now) else None
            if call is None:
                idle = self._feed.ended and not self._ready and not self._later
                if not self._books.busy and (self.stopped or idle):
                    return
                await self._rest()
            elif await self._books.afford(call):
                self._send(call)
            else:
                await self._short(call)

    def _next(self, now: float) -> Call | None:
        """What to send: what has waited long enough, else something new, as long as not too much is waiting."""
        if self._later and self._later[0][0] <= now:
            return heapq.heappop(self._later)[2]
        if self._ready and len(self._later) < 2 * self._service.most:
            call = self._ready.popleft()
            self._feed.taken()
            return call
        return None

    async def _rest(self) -> None:
        """Until something happens, or it is time for something that waits."""
        now = time.monotonic()
        known = [self._limit.paused, self._later[0][0] if self._later else now]
        due = [one for one in known if one > now] if self.stopped is None else []
        if self._deadline is not None:
            due = [self._deadline]
        waits = max(0.001, min(due) - now) if due else None
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
        self._ready.appendleft(call)
        if self._books.busy:
            await self._rest()
            return
        spent = await self._books.exhausted(call)
        if spent is not None:
            self._stop(Unanswered(endings.exhausted(self._service, spent, call.cost, self._standing())))

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
            except reply.Garbled as error:
                raise Failure(f"garbled: {error}", charged=True) from None
            self._failing, self._refused_first = 0, None
            self._limit.good(self._books.busy)
            self._books.answered(call, found)
        elif got.status in reply.REFUSED:
            why = service.clean(f"{got.status}: {reply.complaint(got.body)}")
            self._refused(call, Answer(key, "", "", 0, 0, seconds, why))
        elif reply.again(got.status):
            wait = retry_after(got.retry_after, time.time()) or 0.0
            slower = got.status in reply.SLOWER
            if slower:
                self._limit.pause(now + wait)
            self._failed(call, Failure(str(got.status), charged=False, slower=slower), wait)
        else:
            self._books.uncharged(call)
            said = endings.status(got.status, got.location, service.clean(reply.complaint(got.body)))
            self._stop(AssetError(endings.unusable(service, said)), grace=_GRACE)

    def _refused(self, call: Call, answer: Answer) -> None:
        """The server will never answer this one; if it refuses all of the first, it is not the passages' fault."""
        self._failing = 0
        self._books.refused(call, answer)
        if self._refused_first is not None:
            self._refused_first.append(answer.key)
            if len(self._refused_first) >= self._service.breaker:
                said = endings.all_refused(len(self._refused_first), answer.error)
                self._stop(AssetError(endings.unusable(self._service, said)), grace=_GRACE)

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
