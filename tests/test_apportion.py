"""Amounts under caps and their rounding: by hand, and what must hold for all."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from curate.apportion import Shortage, clipped, filled, whole

AMOUNT = st.fractions(0, 3, max_denominator=6)


def table(*rows):
    return [[Fraction(cell) for cell in row] for row in rows]


@given(st.lists(AMOUNT, min_size=1, max_size=6), st.data())
def test_filling_up_is_one_level_for_all_that_are_not_full(wanted, data):
    room = [data.draw(AMOUNT) for _ in wanted]
    made = filled(wanted, room, sum(wanted))
    assert all(0 <= take <= have for take, have in zip(made, room, strict=True))
    held = sum(have for have, want in zip(room, wanted, strict=True) if want)
    assert sum(made) == min(held, sum(wanted))
    cells = [(take / want, take == have) for take, have, want in zip(made, room, wanted, strict=True) if want]
    open_ = {level for level, full in cells if not full}
    assert len(open_) <= 1
    assert all(level <= most for level, _ in cells for most in open_)


def test_what_is_clipped_is_given_up_early():
    wanted = table([6, 4], [5, 5])
    assert clipped(wanted, [8, 20]) == table([3, 7], [5, 5])
    assert clipped(wanted, [4, 20]) == table([0, 10], [4, 6])
    assert clipped(wanted, [11, 9]) == wanted


def test_later_phases_make_way_only_if_they_must():
    # The first phase has nothing but a; the second may take b, the last need not change.
    assert clipped(table([4, 0, 0], [2, 1, 0], [2, 0, 1]), [6, 9, 9]) == table([4, 0, 0], [0, 3, 0], [2, 0, 1])
    assert clipped(table([4, 0, 0], [2, 0, 1], [2, 1, 0]), [5, 9, 9]) == table([4, 0, 0], [0, 0, 3], [1, 2, 0])
    # A longer way around the last phase goes before a shorter one through it.
    wanted = table([4, 0, 0, 0], [2, 1, 0, 0], [0, 2, 1, 0], [1, 0, 0, 1])
    assert clipped(wanted, [6, 2, 9, 9]) == table([4, 0, 0, 0], [1, 2, 0, 0], [0, 0, 3, 0], [1, 0, 0, 1])
    short = clipped(table([4, 0, 0], [3, 0, 0], [2, 1, 0]), [6, 9, 9])
    assert short == Shortage((0, 1), (0,), Fraction(7), Fraction(6))


@given(st.lists(st.lists(st.fractions(0, 3, max_denominator=6), min_size=3, max_size=3), min_size=1, max_size=5))
def test_rounding_keeps_rows_cells_and_whole_caps(table):
    total = sum(map(sum, table))
    table[0][0] += -total % 1
    room = [-(-sum(column) // 1) for column in zip(*table, strict=True)]
    made = whole(table, room)
    assert sum(map(sum, made)) == sum(map(sum, table))
    assert all(sum(column) <= most for column, most in zip(zip(*made, strict=True), room, strict=True))
    for row, cells in zip(made, table, strict=True):
        assert abs(sum(row) - sum(cells)) < 1
        assert all(abs(a - b) < 1 for a, b in zip(row, cells, strict=True))


def test_rounding_takes_from_another_phase_what_remainders_would_break():
    third, half = Fraction(1, 3), Fraction(1, 2)
    table = [[third, Fraction(0)]] * 3 + [[Fraction(0), third]] * 3
    assert sorted(map(tuple, whole(table, [1, 1]))) == [(0, 0)] * 4 + [(0, 1), (1, 0)]
    assert whole([[half, half], [half, half]], [1, 1]) == [[1, 0], [0, 1]]
