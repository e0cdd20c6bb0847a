"""What is said when a run ends before all is answered: what was found, what is kept, what would help."""

from curate.generate.answers import Spent
from curate.generate.budget import ENDLESS, UNIT, Amount
from curate.generate.progress import Outcome
from curate.generate.service import Service

_ADVICE = {
    401: "the server does not know the key: check it (server: env:NAME reads the key from NAME_KEY)",
    402: "the account has no means left",
    403: "the key may not use this model or this server: check its rights",
    404: "there is no such address or no such model: check the URL and the model's name",
}


def status(code: int, location: str | None, said: str) -> str:
    """Why a status ends the run; both texts are clean."""
    if 300 <= code < 400:
        # Not the whole location: it may hold a token.
        there = (location or "").partition("?")[0].rpartition("@")[2]
        return (
            f"status {code}: it sends requests on to {there or 'another address'}, where a key must not follow: give"
            " the address that answers"
        )
    advice = _ADVICE.get(code, "this status is none that another try would change")
    return f"status {code}: {advice}{f' (the server says: {said})' if said else ''}"


def unusable(service: Service, why: str) -> str:
    """The server will have none of our requests."""
    return f"{service.shown}, model {service.model or '(of the requests)'}: {why}; what was answered before is stored"


def all_refused(count: int, said: str, probed: str) -> str:
    """Nothing is to the server's liking, not even a word."""
    requests = "1 request was" if count == 1 else f"{count} requests in a row were"
    return (
        f"{requests} refused, the last with {said}; and so was a request of one word, with {probed}: check the account,"
        " the model's name, its context length and the sampling, and run again; these refusals are not kept"
    )


def another_model(found: str, wanted: str) -> str:
    """Answers bear another name."""
    return (
        f"its answers are of model {found!r}, {wanted!r} was asked for: name in the recipe, as `model:`, the one that"
        " is to answer, as the server calls it; these answers are not kept"
    )


def standing(outcome: Outcome, waiting: int, ended: bool, reasons: list[str]) -> str:
    """Requests that are open, and those that are not."""
    left = waiting + outcome.failed
    more = "" if ended else " of those read so far, and all others,"
    verb = "is" if left == 1 and ended else "are"
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return f"{left} request{'' if left == 1 else 's'}{more} {verb} open{why}; {outcome.done} are answered and stored"


def broken(service: Service, count: int, state: str) -> str:
    """The server seems to be gone."""
    return (
        f"{service.shown}: {count} requests in a row failed all their {service.tries} tries, so this run stops: "
        f"{service.clean(state)}; run again, when the server is well, to go on with the open ones"
    )


def unanswered(service: Service, state: str) -> str:
    """All was tried, not all is answered."""
    return f"{service.shown}: {service.clean(state)}; run again to try the open ones again"


def exhausted(service: Service, spent: Spent, own: Amount, cost: Amount, state: str) -> str:
    """The budget is used up. `own`: what this run has on lease, of which it uses nothing now."""
    budget = service.budget
    assert budget is not None
    all_spent = spent.all.minus(own)
    left = budget.most.minus(all_spent)
    told = []
    if budget.tokens is not None:
        told.append(
            f"{all_spent.tokens:,} of {budget.tokens:,} tokens are spent or set aside; the next request may take"
            f" {cost.tokens:,}{': raise tokens' if cost.tokens > left.tokens else ''}"
        )
    if budget.money is not None and budget.most.money < ENDLESS:
        told.append(
            f"{all_spent.money / UNIT:,.6g} of {budget.money:,.6g} of the money is spent or set aside; the next request"
            f" may take {cost.money / UNIT:,.6g}{': raise money' if cost.money > left.money else ''}"
        )
    lost = spent.leased.tokens - own.tokens
    died = f" ({lost:,} tokens were set aside by runs that died)" if lost > 0 else ""
    return f"budget '{budget.name}' is used up: {'; '.join(told)}{died}; {service.clean(state)}; run again to go on"
