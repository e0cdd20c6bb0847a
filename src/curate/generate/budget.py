"""What may be spent, in tokens and in money, and what is.

Before a request is sent, the most that it can cost is set aside: its prompt and `max_tokens`. What may be set aside
is a lease: an amount that the store of answers granted, written down before the first token of it is used. So at any
moment what the store has as spent plus its leases covers what a server may have charged, whatever dies; what a killed
run still had on lease counts as spent for good, since nobody can know.

Money is counted in whole units of 1e-12 of the currency, so sums are exact.

The catch: a prompt of more tokens than was estimated costs more than was set aside. The largest such excess seen is
added to all later estimates, so a budget can be passed by the excess of the requests in flight at the start, no more.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from curate.errors import RecipeError
from curate.generate.request import Request

UNIT = 10**12
"""Parts that one unit of the currency has."""

LEAST = 1e-6
"""The least price per million tokens: a unit for each."""

ENDLESS = (1 << 62) - 1


class Amount(NamedTuple):
    """Tokens, and money in units of 1e-12."""

    tokens: int = 0
    money: int = 0

    def plus(self, other: "Amount") -> "Amount":
        return Amount(self.tokens + other.tokens, self.money + other.money)

    def minus(self, other: "Amount") -> "Amount":
        return Amount(self.tokens - other.tokens, self.money - other.money)

    def within(self, other: "Amount") -> bool:
        """True if neither is more than the other's."""
        return self.tokens <= other.tokens and self.money <= other.money

    def least(self, other: "Amount") -> "Amount":
        return Amount(min(self.tokens, other.tokens), min(self.money, other.money))


NOTHING = Amount()


@dataclass(frozen=True)
class Budget:
    """At most `tokens` (prompts and answers) and `money` for all runs that use this `name` with one store of answers.
    Prices are per million tokens. None is no limit."""

    name: str
    tokens: int | None = None
    money: float | None = None
    input_price: float = 0.0
    output_price: float = 0.0

    def __post_init__(self) -> None:
        if not self.name:
            raise RecipeError("a budget has a name, by which a later run knows what was spent")
        for name in ("tokens", "money", "input_price", "output_price"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < ENDLESS:
                raise RecipeError(f"budget '{self.name}': {name} is {value}; 0 or more is wanted")
        if self.money is not None and not self.input_price and not self.output_price:
            raise RecipeError(f"budget '{self.name}' limits money: it needs input_price and output_price")
        for name in ("input_price", "output_price"):
            if self.money is not None and 0 < getattr(self, name) < LEAST:
                raise RecipeError(
                    f"budget '{self.name}': {name} is {getattr(self, name):g} per million tokens, too little to be "
                    "counted; is it the price of one token?"
                )

    def cost(self, prompt: int, made: int) -> Amount:
        """Tokens and money of a request."""
        price = prompt * round(self.input_price * 1e6) + made * round(self.output_price * 1e6)
        return Amount(prompt + made, price)

    @property
    def most(self) -> Amount:
        """The limits."""
        money = ENDLESS if self.money is None else min(ENDLESS, round(self.money * UNIT))
        return Amount(ENDLESS if self.tokens is None else self.tokens, money)


class Spending(NamedTuple):
    """What is to be written: `input` and `output` tokens and money that were spent since, and the lease wanted."""

    input: int
    output: int
    money: int
    wanted: Amount

    @property
    def spent(self) -> Amount:
        return Amount(self.input + self.output, self.money)


@dataclass
class Purse:
    """One run's part of a budget. All that is set aside or spent and not yet written lies within `lease`."""

    budget: Budget
    lease: Amount = NOTHING
    reserved: Amount = NOTHING
    excess: int = 0
    _new: list[int] = field(default_factory=lambda: [0, 0, 0])
    _next: Amount = NOTHING

    def price(self, request: Request) -> Amount:
        """The most that the request is expected to cost."""
        return self.budget.cost(request.prompt_tokens + self.excess, request.max_tokens)

    def reserve(self, cost: Amount) -> bool:
        """Set `cost` aside if the lease covers it; if not, it is asked for with the next that is written."""
        unwritten = Amount(self._new[0] + self._new[1], self._new[2])
        if self.reserved.plus(unwritten).plus(cost).within(self.lease):
            self.reserved = self.reserved.plus(cost)
            self._next = NOTHING
            return True
        self._next = cost
        return False

    def release(self, cost: Amount) -> None:
        """What was set aside was not spent."""
        self.reserved = self.reserved.minus(cost)

    def settle(self, cost: Amount, prompt: int, made: int) -> None:
        """Of what was set aside so much was spent, in tokens; the rest is free again."""
        self.release(cost)
        self._new[0] += prompt
        self._new[1] += made
        self._new[2] += self.budget.cost(prompt, made).money

    def learn(self, request: Request, prompt: int) -> None:
        """How far off an estimate was."""
        self.excess = max(self.excess, prompt - request.prompt_tokens)

    def close(self) -> None:
        """Nothing more is wanted."""
        self._next = NOTHING

    def spending(self) -> Spending:
        """What to write now. Wanted is a quarter more than is set aside, so that not each request must wait."""
        ahead = Amount(self.reserved.tokens // 4, self.reserved.money // 4)
        prompt, made, money = self._new
        return Spending(prompt, made, money, self.reserved.plus(self._next).plus(ahead))

    def written(self, spending: Spending, lease: Amount) -> None:
        """`spending` is in the store, and this is what it granted. What came since stays to be written."""
        self.lease = lease
        for place, value in enumerate((spending.input, spending.output, spending.money)):
            self._new[place] -= value
