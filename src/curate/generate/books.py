"""What a run keeps account of: answers on their way into the store, and what each request costs.

Answers are stored in groups, one transaction each with what was spent for them, in a thread: the event loop goes on.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from curate.generate.answers import Answer, Answers, Lease, Spent
from curate.generate.budget import NOTHING, UNIT, Amount, Budget, Purse
from curate.generate.progress import Outcome
from curate.generate.reply import Read
from curate.generate.request import Request

GROUP = 0.01
"""Seconds that a group of answers is collected before it is stored."""


@dataclass(slots=True)
class Call:
    """A request on its way: tries so far, when it was sent, what is set aside for it."""

    request: Request
    tries: int = 0
    sent: float = 0.0
    cost: Amount = NOTHING


class Books:
    """Answers and spending of one run. Used from its event loop; only the store's work is done in a thread.
    `wake` is set when slots are free."""

    def __init__(self, answers: Answers, budget: Budget | None, outcome: Outcome, wake: asyncio.Event) -> None:
        self.open: set[str] = set()
        self.busy = 0
        self.outcome = outcome
        self._answers, self._budget = answers, budget
        self._purse = Purse(budget) if budget else None
        self._lease = Lease.new(budget.name, budget.most) if budget else None
        self._wake = wake
        self._done: list[Answer] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._filled = asyncio.Event()
        self._ending = False
        self._thread = ThreadPoolExecutor(1, "answers")
        self._hold = contextlib.ExitStack()
        self._holds = False

    async def held(self, keys: list[str]) -> set[str]:
        """Those of `keys` that have an answer. If some have none, this run is from now on the one that asks for answers
        to the store; BusyError if another is."""
        run = asyncio.get_running_loop().run_in_executor
        held = await run(self._thread, self._answers.held, keys)
        if len(held) == len(keys) or self._holds:
            return held
        await run(self._thread, self._hold.enter_context, self._answers.hold())
        self._holds = True
        return await run(self._thread, self._answers.held, keys)  # another may have asked until just now

    @property
    def lease(self) -> Amount:
        """What this run has on lease."""
        return self._purse.lease if self._purse else NOTHING

    async def afford(self, call: Call) -> bool:
        """Set aside what the request may cost. False if the store does not grant it now."""
        if self._purse is None:
            return True
        call.cost = self._purse.price(call.request)
        if self._purse.reserve(call.cost):
            return True
        await self._stored()
        return self._purse.reserve(call.cost)

    async def exhausted(self, call: Call) -> Spent | None:
        """What was spent, if the budget has no room for this request whatever comes back."""
        assert self._lease is not None
        spent = await asyncio.get_running_loop().run_in_executor(self._thread, self._answers.spent, self._lease.budget)
        return None if spent.all.plus(call.cost).within(self._lease.most) else spent

    def answered(self, call: Call, found: Read) -> None:
        """Keep an answer and count what it cost."""
        self.outcome.answered += 1
        self._charge(call, found)
        self._keep(found.answer)

    def probed(self, call: Call, found: Read) -> None:
        """Count what an answer cost that is none to a passage."""
        self.busy -= 1
        self._charge(call, found)

    def _charge(self, call: Call, found: Read) -> None:
        answer, outcome = found.answer, self.outcome
        outcome.estimated += found.estimated
        outcome.input_tokens += answer.prompt_tokens
        outcome.output_tokens += answer.completion_tokens
        prompt, made = answer.prompt_tokens, answer.completion_tokens
        if found.estimated:  # the budget must hold, so the most that it can have been
            made = max(made, call.request.max_tokens)
        self._count(prompt, made)
        if self._purse:
            self._purse.learn(call.request, prompt)
            self._purse.settle(call.cost, prompt, made)

    def refused(self, answers: Sequence[Answer]) -> None:
        """Keep the answers that there will be none; their tries were `uncharged`. They have slots until they are
        stored, as all have that are to be."""
        self.outcome.refused += len(answers)
        self.busy += len(answers)
        for answer in answers:
            self._keep(answer)

    def uncharged(self, call: Call) -> None:
        """A try ended of which the server did nothing."""
        self.busy -= 1
        if self._purse:
            self._purse.release(call.cost)

    def uncertain(self, call: Call) -> None:
        """A try ended without an answer, and nobody can know what the server charges for it: all that it may."""
        self.busy -= 1
        made = call.request.max_tokens
        prompt = call.cost.tokens - made if self._purse else call.request.prompt_tokens
        self.outcome.uncertain += prompt + made
        self._count(prompt, made)
        if self._purse:
            self._purse.settle(call.cost, prompt, made)

    async def keep(self) -> None:
        """Store groups of answers until `close`."""
        while not self._ending:
            await self._filled.wait()
            if not self._ending:
                await asyncio.sleep(GROUP)
            await self._commit()

    async def close(self, keeping: "asyncio.Task[None]") -> None:
        """Store what is left and give the lease back, unless the store has failed."""
        self._ending = True
        try:
            await self._settle(keeping)
        finally:
            self._thread.shutdown()
            self._hold.close()

    async def _settle(self, keeping: "asyncio.Task[None]") -> None:
        if self._purse:
            self._purse.close()
        self._filled.set()
        await asyncio.wait([keeping])
        if not keeping.cancelled() and keeping.exception() is None:
            await self._commit()

    async def _commit(self) -> None:
        """Only when its answer is in the store is the slot of a request free."""
        self._filled.clear()
        batch, self._done = self._done, []
        waiting, self._waiting = self._waiting, []
        run = asyncio.get_running_loop().run_in_executor
        if self._purse and self._lease:
            spending = self._purse.spending()
            granted = await run(self._thread, self._answers.account, batch, self._lease, spending)
            self._purse.written(spending, granted)
        elif batch:
            await run(self._thread, self._answers.put, batch)
        self.busy -= len(batch)
        self.open.difference_update([answer.key for answer in batch])
        for one in waiting:
            if not one.done():
                one.set_result(None)
        self._wake.set()

    async def _stored(self) -> None:
        """Until what is done now, and what is wanted of the budget now, is in the store."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._filled.set()
        await future

    def _keep(self, answer: Answer) -> None:
        self._done.append(answer)
        self._filled.set()

    def _count(self, prompt: int, made: int) -> None:
        if self._budget:
            self.outcome.money += self._budget.cost(prompt, made).money / UNIT
