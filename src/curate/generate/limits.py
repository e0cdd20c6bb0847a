"""How many requests at once, and how long to wait after a failure.

Additive increase, multiplicative decrease, as TCP does it (RFC 5681): from a start the number triples with each round
of answers until a server complains, is then halved, and grows by a constant for each round. Of the many complaints
that one overload brings, only the first counts: requests that were sent before the last halving halve nothing.
"""

import math
import re
from datetime import UTC
from email.utils import parsedate_to_datetime

LONGEST = 60.0
"""Seconds that are waited at most, whatever a server asks for."""

START = 32
_STEPS = 32  # rounds of answers from nothing to `most`


class Limit:
    """At most `most` requests at once; times are seconds of one clock. `size` is the number that holds now."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = float(min(most, START))
        self.paused = -math.inf
        self._threshold = float(most)
        self._cut = -math.inf

    def room(self, busy: int, now: float) -> bool:
        """True if one more may be sent."""
        return busy < int(self.size) and now >= self.paused

    def good(self, busy: int) -> None:
        """A request was answered while so many were out. A limit that nobody reaches does not grow."""
        if busy * 2 < self.size:
            return
        step = 2.0 if self.size < self._threshold else max(1.0, self.most / _STEPS) / self.size
        self.size = min(float(self.most), self.size + step)

    def bad(self, sent: float, now: float) -> None:
        """The server complained, or said nothing, about a request that was sent then."""
        if sent >= self._cut:
            self.size = max(1.0, self.size / 2)
            self._threshold, self._cut = self.size, now

    def pause(self, until: float) -> None:
        """Send nothing before."""
        self.paused = max(self.paused, until)


def backoff(attempt: int, pause: float, draw: float) -> float:
    """Seconds to wait after try number `attempt` (from 1): `pause` doubled each time, at most LONGEST, and of that
    between a half and all; `draw` is in 0..1."""
    return min(LONGEST, pause * 2.0 ** min(attempt - 1, 60)) * (0.5 + draw / 2)


def retry_after(header: str | None, now: float) -> float | None:
    """Seconds from the header of RFC 9110, 10.2.3: a number or a date; `now` is the time of day. None if it is
    neither. At most LONGEST."""
    if header is None:
        return None
    text = header.strip()
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        return min(LONGEST, float(text))
    try:
        date = parsedate_to_datetime(text)
        told = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(LONGEST, max(0.0, told - now))
