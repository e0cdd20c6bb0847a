"""How many at once and how long to wait, for any history."""

from email.utils import formatdate

from hypothesis import given
from hypothesis import strategies as st

from curate.generate.limits import LONGEST, START, Limit, backoff, retry_after

HISTORY = st.lists(
    st.tuples(st.sampled_from(["good", "bad", "pause"]), st.floats(0, 5), st.floats(0, 2), st.integers(0, 300)),
    max_size=200,
)


@given(st.integers(1, 300), HISTORY)
def test_the_limit_stays_between_one_and_most(most, history):
    limit, now = Limit(most), 0.0
    for event, ago, step, busy in history:
        now += step
        before = limit.size
        if event == "good":
            limit.good(busy)
            assert limit.size >= before
        elif event == "bad":
            limit.bad(now - ago, now)
            assert limit.size in (before, max(1.0, before / 2))
        else:
            limit.pause(now + ago)
            assert limit.room(0, now) == (now >= limit.paused)
            assert limit.paused >= now + ago
        assert 1 <= limit.size <= most
        assert not limit.room(int(limit.size), now)
        assert limit.room(0, now + 60)


@given(st.integers(1, 400))
def test_it_reaches_most_in_a_few_rounds(most):
    limit, rounds = Limit(most), 0
    while limit.size < most:
        for _ in range(int(limit.size)):
            limit.good(int(limit.size))
        rounds += 1
    assert rounds <= 3
    assert Limit(most).size == min(most, START)


def test_one_overload_halves_once_and_all_comes_back():
    limit = Limit(64)
    for _ in range(40):
        limit.good(32)
    assert limit.size == 64
    for place in range(30):
        limit.bad(1.0, 2.0 + place / 100)
    assert limit.size == 32
    limit.bad(2.5, 3.0)
    assert limit.size == 16
    rounds = 0
    while limit.size < 64:
        for _ in range(int(limit.size)):
            limit.good(int(limit.size))
        rounds += 1
    assert 20 <= rounds <= 40


def test_a_limit_that_nobody_reaches_does_not_grow():
    limit = Limit(64)
    for _ in range(1000):
        limit.good(3)
    assert limit.size == START


@given(st.integers(1, 10**6), st.floats(0, 100), st.floats(0, 1))
def test_backoff_doubles_and_is_bounded(attempt, pause, draw):
    wait = backoff(attempt, pause, draw)
    assert 0 <= wait <= LONGEST
    assert wait >= min(LONGEST, pause * 2 ** min(attempt - 1, 20)) / 2


@given(st.one_of(st.none(), st.text(), st.from_regex(r"[0-9. -]{1,30}")))
def test_whatever_a_header_says_is_a_wait_or_nothing(header):
    wait = retry_after(header, 1.8e9)
    assert wait is None or 0 <= wait <= LONGEST


@given(st.integers(-100_000, 100_000))
def test_dates_are_read(seconds):
    now = 1_800_000_000
    assert retry_after(formatdate(now + seconds, usegmt=True), now) == min(LONGEST, max(0, seconds))
    assert retry_after("7", now) == 7
    assert retry_after("1.5", now) == 1.5
    assert retry_after("3600", now) == LONGEST
    assert retry_after("-1", now) is None
    assert retry_after("soon", now) is None
