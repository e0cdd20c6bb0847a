"""How far a run is, and what it came to."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple


class Progress(NamedTuple):
    """A moment of a run. `done`: requests that have an answer, `held` of them before the run. `open`: read, and not
    done. `tokens_per_second` is of answers, since the last report. `money` is in the currency of the prices, of this
    run. `busy` requests are out of at most `size`. `retries` counts by reason."""

    done: int
    held: int
    open: int
    input_tokens: int
    output_tokens: int
    tokens_per_second: float
    money: float
    busy: int
    size: int
    retries: dict[str, int]


@dataclass
class Outcome:
    """Totals of a run. Counts of requests: `held` had an answer before, `answered` and `refused` (for good) have one
    now, `failed` all their tries, `sent` counts every try. `tries` are failed tries by reason. Tokens are of answers,
    as the server counted them; `estimated` answers came without a count. `uncertain` tokens are what failed tries may
    have cost, and are part of `money`. `most`: requests at once, at the peak."""

    held: int = 0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    sent: int = 0
    repeated: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: int = 0
    uncertain: int = 0
    money: float = 0.0
    seconds: float = 0.0
    most: int = 0
    tries: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """Requests that have an answer."""
        return self.held + self.answered + self.refused
