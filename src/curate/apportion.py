"""Exact amounts under caps, and whole numbers next to them: rows are phases, columns are groups.

A phase hands out all it has; a group gives no more than its room over all phases. Amounts that break a cap are filled
up like water, the last phase first, so that what is to be given up is given up early. Where that strands a phase the
others make way for it along shortest paths, as in a maximum flow: so amounts are found whenever there are any, and
when there are none the phases and groups that were reached prove it. Rounding is the same flow in single tokens: with
whole room every table of fractions has one of whole numbers within one token in every cell and every phase.
The catch: all sums are exact fractions, some microseconds each; thousands of groups are seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

Row = list[Fraction]
Table = list[Row]


@dataclass(frozen=True)
class Shortage:
    """These phases (indices) draw on these groups alone, and need more than the groups allow."""

    phases: tuple[int, ...]
    groups: tuple[int, ...]
    needed: Fraction
    allowed: Fraction


class Flow:
    """What each cell may still take (`up`) or give back (`down`), and what each group has left (`room`)."""

    def __init__(self, up: Table, down: Table, room: Row):
        self.up, self.down, self.room = up, down, room

    def push(self, starts: Sequence[int], amount: Fraction, last: int) -> tuple[Fraction, int, set[int], set[int]]:
        """Send up to `amount` from one of the phases `starts` to a group with room, along a shortest path through
        phases up to `last`.

        Gives what was sent (0: no path), the phase it set out from, and the phases and groups reached.
        """
        came: dict[int, tuple[int, int]] = {}  # phase -> the group and the phase it was reached through
        rows, columns, queue = set(starts), set[int](), list(starts)
        for row in queue:
            for column, open_ in enumerate(self.up[row]):
                if not open_ or column in columns:
                    continue
                columns.add(column)
                if self.room[column]:
                    return (*self._send(came, row, column, amount), rows, columns)
                for other, cells in enumerate(self.down[: last + 1]):
                    if other not in rows and cells[column]:
                        rows.add(other)
                        came[other] = (column, row)
                        queue.append(other)
        return Fraction(0), -1, rows, columns

    def _send(self, came: dict[int, tuple[int, int]], row: int, column: int, most: Fraction) -> tuple[Fraction, int]:
        raised, lowered = [(row, column)], []
        most = min(most, self.room[column])
        while row in came:
            through, before = came[row]
            lowered.append((row, through))
            raised.append((before, through))
            row = before
        most = min([most, *(self.up[j][i] for j, i in raised), *(self.down[j][i] for j, i in lowered)])
        for sign, cells in ((1, raised), (-1, lowered)):
            for j, i in cells:
                self.up[j][i] -= sign * most
                self.down[j][i] += sign * most
        self.room[column] -= most
        return most, row


def filled(wanted: Sequence[Fraction], room: Sequence[Fraction], size: Fraction) -> Row:
    """min(room, level x wanted) with the level at which all sum to `size`; less only if all that is wanted is full."""
    order = sorted((i for i, want in enumerate(wanted) if want), key=lambda i: room[i] / wanted[i])
    left, weight = size, sum(wanted, Fraction(0))
    made = [Fraction(0)] * len(wanted)
    for place, i in enumerate(order):
        if room[i] * weight > left * wanted[i]:
            for k in order[place:]:
                made[k] = left * wanted[k] / weight
            break
        made[i] = room[i]
        left -= room[i]
        weight -= wanted[i]
    return made


def clipped(wanted: Table, room: Sequence[int]) -> Table | Shortage:
    """The wanted amounts within the room: every phase keeps its sum and draws on what it wanted alone.

    Phases are filled from the last to the first; a later phase makes way only if an earlier one would come short.
    """
    left = [Fraction(one) for one in room]
    made: Table = [[] for _ in wanted]
    missing = [Fraction(0)] * len(wanted)
    for phase in reversed(range(len(wanted))):
        size = sum(wanted[phase], Fraction(0))
        made[phase] = filled(wanted[phase], left, size)
        left = [have - take for have, take in zip(left, made[phase], strict=True)]
        missing[phase] = size - sum(made[phase], Fraction(0))
    if not any(missing):
        return made
    most = sum((cell for row in wanted for cell in row), Fraction(0))  # no cell can be asked for more than there is
    flow = Flow([[most if want else Fraction(0) for want in row] for row in wanted], made, left)
    phases, groups = set[int](), set[int]()
    for last in range(len(wanted)):  # phases behind `last` stay as they are while others can make way
        for phase in range(last + 1):
            while missing[phase]:
                sent, _, rows, columns = flow.push([phase], missing[phase], last)
                if not sent:
                    phases, groups = rows, columns
                    break
                missing[phase] -= sent
    if not any(missing):
        return flow.down
    needed = sum((sum(wanted[one], Fraction(0)) for one in phases), Fraction(0))
    allowed = Fraction(sum(room[i] for i in groups))
    return Shortage(tuple(sorted(phases)), tuple(sorted(groups)), needed, allowed)


def whole(exact: Table, room: Sequence[int]) -> list[list[int]]:
    """Whole numbers within one of every cell and of every row's sum, that keep the total and the room of columns.

    `exact` sums to a whole number, and its columns fit the room. Largest remainders, ties to the first; a remainder
    is passed over only where its group is full.
    """
    made = [[floor(cell) for cell in row] for row in exact]
    one, none = Fraction(1), Fraction(0)
    up = [[one if cell.denominator > 1 else none for cell in row] for row in exact]
    down = [[none] * len(row) for row in exact]
    left = [Fraction(most - sum(row[i] for row in made)) for i, most in enumerate(room)]
    flow = Flow(up, down, left)
    sums = [sum(row, none) for row in exact]
    more = [floor(size) - sum(row) for size, row in zip(sums, made, strict=True)]
    for phase, count in enumerate(more):
        _raise(flow, exact, [phase], count)
    spare = [phase for phase, size in enumerate(sums) if size.denominator > 1]
    spare.sort(key=lambda phase: (floor(sums[phase]) - sums[phase], phase))
    for _ in range(int(sum(sums)) - sum(map(floor, sums))):
        spare.remove(_raise(flow, exact, spare, 1))
    return [
        [cell + int(step) for cell, step in zip(row, steps, strict=True)]
        for row, steps in zip(made, flow.down, strict=True)
    ]


def _raise(flow: Flow, exact: Table, starts: list[int], count: int) -> int:
    """Raise `count` cells of the first of the phases by one, the largest remainders with room first.

    Gives the phase that was raised last: another than the first if the first cannot be.
    """
    row = starts[0]
    if count:
        order = [i for i, open_ in enumerate(flow.up[row]) if open_]
        order.sort(key=lambda i: (floor(exact[row][i]) - exact[row][i], i))
        for i in order:
            if count and flow.room[i]:
                flow.up[row][i], flow.down[row][i] = Fraction(0), Fraction(1)
                flow.room[i] -= 1
                count -= 1
    for _ in range(count):
        sent, row, _, _ = flow.push(starts, Fraction(1), len(exact) - 1)
        assert sent, "fractions within whole room have whole numbers next to them"
    return row
