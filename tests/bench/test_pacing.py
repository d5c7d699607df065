"""When an open loop's exchanges are due, who gets them, and how many there are to be."""

from __future__ import annotations

import asyncio
import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tieline.bench.open_loop import OpenLoop
from tieline.bench.pacing import Alarm, Schedule
from tieline.bench.tickets import Tickets
from tieline.reactor import Reactor

RATES = st.floats(0.1, 100_000)
RAMPS = st.floats(0, 100)


@given(rate=RATES, ramp=RAMPS, number=st.integers(0, 1_000_000))
def test_instants_rise_and_are_as_many_as_the_rate_says(
    rate: float, ramp: float, number: int
) -> None:
    schedule = Schedule(rate, ramp)
    instant = schedule.instant(number)
    assert instant <= schedule.instant(number + 1)
    assert instant >= number / rate * (1 - 1e-9)
    # After the ramp, the distance is that of the rate.
    if instant > ramp:
        assert schedule.instant(number + 10) - instant == pytest.approx(10 / rate, rel=1e-3)


@given(rate=RATES, ramp=RAMPS, elapsed=st.floats(0, 1000))
def test_as_many_are_due_as_have_come(rate: float, ramp: float, elapsed: float) -> None:
    schedule = Schedule(rate, ramp)
    due = schedule.due(elapsed)
    assume(due < 10_000_000)
    margin = 1e-6 * (1 + elapsed)
    assert due == 0 or schedule.instant(due - 1) <= elapsed + margin
    assert schedule.instant(due) >= elapsed - margin


def test_without_a_ramp_the_first_is_due_at_once() -> None:
    schedule = Schedule(10.0)
    assert [schedule.take() for _ in range(4)] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert schedule.taken == 4
    assert schedule.next == pytest.approx(0.4)


def test_processes_that_share_a_rate_do_not_send_together() -> None:
    apart = [Schedule(10.0, offset=index / 4) for index in range(4)]
    instants = sorted(each.instant(number) for each in apart for number in range(3))
    distances = [b - a for a, b in itertools.pairwise(instants)]
    assert distances == pytest.approx([0.025] * 11)


def test_tickets_run_out() -> None:
    now = 5.0
    tickets = Tickets(lambda: now)
    assert all(tickets.take() for _ in range(100))
    tickets.limit(2)
    assert [tickets.take() for _ in range(3)] == [True, True, False]
    assert tickets.ran_out == 5.0
    tickets.limit(9)
    tickets.is_closed = True
    assert not tickets.take()


async def test_an_alarm_rings_at_its_instant() -> None:
    reactor = Reactor.of(asyncio.get_running_loop())
    rung: asyncio.Queue[float] = asyncio.Queue()
    alarm = Alarm(reactor, lambda: rung.put_nowait(reactor.clock()))
    for delay in (0.02, 0.0, -1.0):
        instant = reactor.clock() + delay
        alarm.set(instant)
        assert await rung.get() >= instant
    alarm.set(reactor.clock() + 0.01)
    alarm.close()
    await asyncio.sleep(0.03)
    assert rung.empty()


class Servant:
    """A place that takes what it is given, and is free again when told."""

    def __init__(self) -> None:
        self.due: list[float] = []
        self.lateness: list[float] = []
        self.is_free = True
        self.is_idle = False
        self.told: asyncio.Event = asyncio.Event()

    def can_ask(self) -> bool:
        return self.is_free

    def ask_due(self, now: float, due: float) -> None:
        self.is_free = False
        self.due.append(due)
        self.lateness.append(now - due)
        self.told.set()

    def close(self) -> None:
        self.is_free = False


async def test_what_is_due_waits_for_who_is_free_first() -> None:
    reactor = Reactor.of(asyncio.get_running_loop())
    loop = OpenLoop(reactor, Schedule(1000.0), Tickets(reactor.clock))
    begin = reactor.clock()
    loop.begin(begin)
    loop.measure(begin, math.inf)
    first, second = Servant(), Servant()
    loop.free(first, reactor.clock())
    await first.told.wait()
    while loop.waiting() < 20:
        await asyncio.sleep(0.001)
    # The oldest that waits is given first, as late as it is.
    loop.free(second, reactor.clock())
    assert second.due[0] == pytest.approx(first.due[0] + 0.001, abs=1e-6)
    assert second.lateness[0] >= 0.019
    assert loop.waiting_most >= 20
    loop.close()
    reactor.close_if_unused()


async def test_who_can_do_nothing_any_more_is_passed_over() -> None:
    reactor = Reactor.of(asyncio.get_running_loop())
    tickets = Tickets(reactor.clock)
    tickets.limit(1)
    loop = OpenLoop(reactor, Schedule(100.0), tickets)
    gone, there = Servant(), Servant()
    loop.begin(reactor.clock())
    # Both wait for the second instant: there is none for a third.
    for place in (gone, there):
        loop._rest(place)
    gone.is_free = False
    loop._arm(reactor.clock())
    await there.told.wait()
    assert not gone.due
    assert tickets.left == 0
    assert loop.waiting() == 0
    loop.close()
    reactor.close_if_unused()
