"""One epoll inside the loop: turns, deadlines, and leaving nothing behind."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from support.clock import Clock
from support.hooks import eventually
from support.leaks import ErrorLog
from tieline.reactor import READABLE, WRITABLE, Reactor


class Handler:
    """Reads what has come, and does what it is told."""

    def __init__(self, end: socket.socket, then: Callable[[], object] = lambda: None) -> None:
        self.end = end
        self.then = then
        self.masks: list[int] = []

    def on_ready(self, mask: int) -> None:
        self.masks.append(mask)
        if mask & READABLE:
            self.end.recv(100)
        self.then()


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    made = [socket.socketpair() for _ in range(4)]
    for pair in made:
        for end in pair:
            end.setblocking(False)
    yield made
    for pair in made:
        for end in pair:
            end.close()


Pairs = list[tuple[socket.socket, socket.socket]]


async def test_a_loop_has_one_reactor_while_it_is_needed(pairs: Pairs) -> None:
    loop = asyncio.get_running_loop()
    reactor = Reactor.of(loop)
    assert Reactor.of(loop) is reactor
    (near, _), *_ = pairs
    reactor.register(near.fileno(), Handler(near))
    reactor.unregister(near.fileno())
    other = Reactor.of(loop)
    assert other is not reactor
    other.register(near.fileno(), Handler(near))
    other.unregister(near.fileno())


async def test_a_reactor_lives_while_a_deadline_is_filed() -> None:
    class Subject:
        slot = 0

        def on_deadline(self, now: float) -> None:
            return None

    clock = Clock()
    reactor = Reactor.of(asyncio.get_running_loop())
    reactor.file(Subject(), clock.time + 5)
    clock.advance(1)
    assert Reactor.of(asyncio.get_running_loop()) is reactor
    clock.advance(5)
    assert Reactor._of == {}


async def test_whoever_is_ready_is_called(pairs: Pairs) -> None:
    reactor = Reactor.of(asyncio.get_running_loop())
    handlers = [Handler(near) for near, _ in pairs]
    for handler in handlers:
        reactor.register(handler.end.fileno(), handler)
    for _, far in pairs[:2]:
        far.send(b"x")
    await eventually(lambda: handlers[0].masks and handlers[1].masks)
    assert [handler.masks for handler in handlers] == [[READABLE], [READABLE], [], []]
    for handler in handlers:
        reactor.unregister(handler.end.fileno())


async def test_what_is_watched_for_may_change(pairs: Pairs) -> None:
    reactor = Reactor.of(asyncio.get_running_loop())
    (near, far), *_ = pairs
    handler = Handler(near)
    reactor.register(near.fileno(), handler)
    reactor.modify(near.fileno(), WRITABLE)
    far.send(b"x")
    await eventually(lambda: handler.masks)
    assert handler.masks[0] == WRITABLE
    reactor.unregister(near.fileno())


async def test_a_handler_may_unregister_others_that_are_ready_in_the_same_turn(
    pairs: Pairs,
) -> None:
    """Only the first of them is called: what is gone is called no more."""
    reactor = Reactor.of(asyncio.get_running_loop())
    handlers: list[Handler] = []

    def end_everybody() -> None:
        for handler in handlers:
            reactor.unregister(handler.end.fileno())
            handler.end.close()

    handlers += [Handler(near, end_everybody) for near, _ in pairs]
    for handler in handlers:
        reactor.register(handler.end.fileno(), handler)
    for _, far in pairs:
        far.send(b"x")
    await eventually(lambda: any(handler.masks for handler in handlers))
    await asyncio.sleep(0)
    assert sorted(len(handler.masks) for handler in handlers) == [0, 0, 0, 1]
    assert Reactor._of == {}


async def test_a_descriptor_that_is_given_out_again_in_one_turn_does_no_harm(
    pairs: Pairs,
) -> None:
    """The newcomer may be called for its predecessor's event, and finds nothing to read."""
    reactor = Reactor.of(asyncio.get_running_loop())
    newcomers: list[Newcomer] = []

    class Newcomer:
        def __init__(self, end: socket.socket) -> None:
            self.end = end
            self.read: list[bytes] = []
            self.empty = 0

        def on_ready(self, mask: int) -> None:
            try:
                self.read.append(self.end.recv(100))
            except BlockingIOError:
                self.empty += 1

    others: list[socket.socket] = []

    def replace_the_rest() -> None:
        for handler in [handler for handler in handlers if not handler.masks]:
            old = handler.end.fileno()
            reactor.unregister(old)
            handler.end.close()
            near, far = socket.socketpair()
            near.setblocking(False)
            if near.fileno() != old:
                # Put it where its predecessor was: what the kernel does with free numbers.
                os.dup2(near.fileno(), old)
                near.close()
                near = socket.socket(fileno=old)
                near.setblocking(False)
            others.append(far)
            newcomer = Newcomer(near)
            newcomers.append(newcomer)
            reactor.register(old, newcomer)
        for handler in handlers:
            handler.then = lambda: None

    handlers = [Handler(near, replace_the_rest) for near, _ in pairs]
    for handler in handlers:
        reactor.register(handler.end.fileno(), handler)
    for _, far in pairs:
        far.send(b"for the predecessor")
    await eventually(lambda: newcomers)
    assert len(newcomers) == 3
    for number, far in enumerate(others):
        far.send(b"for newcomer %d" % number)
    await eventually(lambda: all(newcomer.read for newcomer in newcomers))
    assert [newcomer.read for newcomer in newcomers] == [
        [b"for newcomer %d" % number] for number in range(3)
    ]
    assert any(newcomer.empty for newcomer in newcomers)
    for newcomer in newcomers:
        reactor.unregister(newcomer.end.fileno())
        newcomer.end.close()
    for far in others:
        far.close()
    for handler in handlers:
        if handler.end.fileno() != -1:
            reactor.unregister(handler.end.fileno())


async def test_a_defect_in_one_handler_does_not_take_the_turn(
    pairs: Pairs, error_log: ErrorLog
) -> None:
    reactor = Reactor.of(asyncio.get_running_loop())

    def fail() -> None:
        raise RuntimeError("a defect of ours")

    handlers = [Handler(near, fail) for near, _ in pairs]
    for handler in handlers:
        reactor.register(handler.end.fileno(), handler)
    for _, far in pairs:
        far.send(b"x")
    await eventually(lambda: all(handler.masks for handler in handlers))
    assert reactor.now == 0.0
    logged = error_log.take()
    assert len(logged) == 4
    assert all("RuntimeError: a defect of ours" in text for text in logged)
    for handler in handlers:
        reactor.unregister(handler.end.fileno())


async def test_the_time_of_a_turn_is_one_time(pairs: Pairs) -> None:
    clock = Clock()
    reactor = Reactor.of(asyncio.get_running_loop())
    times: list[float] = []

    def look() -> None:
        times.append(reactor.now)
        clock.time += 0.001

    handlers = [Handler(near, look) for near, _ in pairs]
    for handler in handlers:
        reactor.register(handler.end.fileno(), handler)
    for _, far in pairs:
        far.send(b"x")
    await eventually(lambda: len(times) == 4)
    assert times == [1_000.0] * 4
    assert reactor.now == 0.0
    for handler in handlers:
        reactor.unregister(handler.end.fileno())


async def test_one_that_is_always_ready_and_slow_does_not_starve_the_others(
    pairs: Pairs,
) -> None:
    """Each of its turns takes a second, and there is always more for it to read."""
    clock = Clock()
    reactor = Reactor.of(asyncio.get_running_loop())
    (slow, feeder), *others = pairs

    def take_long_and_want_more() -> None:
        clock.time += 1
        feeder.send(b"x")

    handlers = [Handler(slow, take_long_and_want_more), *(Handler(near) for near, _ in others)]
    for handler in handlers:
        reactor.register(handler.end.fileno(), handler)
    for _, far in pairs:
        far.send(b"x")
    await eventually(lambda: all(handler.masks for handler in handlers))
    assert len(handlers[0].masks) <= 10
    for handler in handlers:
        reactor.unregister(handler.end.fileno())


class Subject:
    def __init__(self, clock: Clock, due: float) -> None:
        self.slot = 0
        self.clock = clock
        self.due = clock.time + due
        self.ended_at: float | None = None

    def on_deadline(self, now: float) -> float | None:
        if self.due > now:
            return self.due
        self.ended_at = now
        return None


async def test_deadlines_end_those_that_are_due_and_no_others() -> None:
    clock = Clock()
    reactor = Reactor.of(asyncio.get_running_loop())
    subjects = [Subject(clock, due) for due in (1, 2, 3)]
    for subject in subjects:
        reactor.file(subject, subject.due)
    for _ in range(8):
        clock.advance(0.5)
    for subject in subjects:
        assert subject.ended_at is not None
        assert subject.due <= subject.ended_at <= subject.due + 0.5
    assert Reactor._of == {}


async def test_the_loops_own_timer_asks_on_time() -> None:
    """Real time, once: everything else here moves the clock by hand."""
    reactor = Reactor.of(asyncio.get_running_loop())
    ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    class Soon:
        slot = 0

        def on_deadline(self, now: float) -> None:
            ended.set_result(now)

    asked_for = reactor.clock() + 0.01
    reactor.file(Soon(), asked_for)
    async with asyncio.timeout(10):
        assert await ended >= asked_for
    assert Reactor._of == {}


async def test_an_earlier_deadline_brings_the_timer_forward() -> None:
    reactor = Reactor.of(asyncio.get_running_loop())
    ended = asyncio.Event()

    class Subject:
        def __init__(self) -> None:
            self.slot = 0

        def on_deadline(self, now: float) -> None:
            ended.set()

    far, near = Subject(), Subject()
    reactor.file(far, reactor.clock() + 3600)
    reactor.file(near, reactor.clock() + 0.01)
    async with asyncio.timeout(10):
        await ended.wait()
    reactor.withdraw(far)
    reactor.expire()
    assert Reactor._of == {}


async def test_fifteen_thousand_that_are_due_together_let_others_in_between() -> None:
    clock = Clock()
    loop = asyncio.get_running_loop()
    reactor = Reactor.of(loop)
    subjects = [Subject(clock, 5) for _ in range(15_000)]
    for subject in subjects:
        reactor.file(subject, subject.due)
    rounds: list[int] = []

    def count() -> None:
        rounds.append(sum(subject.ended_at is not None for subject in subjects))
        if rounds[-1] < len(subjects):
            loop.call_soon(count)

    clock.time += 6
    loop.call_soon(count)
    reactor.expire()
    async with asyncio.timeout(20):
        await eventually(lambda: rounds and rounds[-1] == len(subjects))
    # Between two of the loop's rounds only a bounded number ended.
    assert max(after - before for before, after in itertools.pairwise(rounds)) <= 256
    assert Reactor._of == {}


def test_a_loop_that_was_closed_with_connections_open_is_forgotten() -> None:
    near, far = socket.socketpair()
    loop = asyncio.new_event_loop()
    Reactor.of(loop).register(near.fileno(), Handler(near))
    loop.close()
    other = asyncio.new_event_loop()
    reactor = Reactor.of(other)
    assert list(Reactor._of) == [other]
    reactor.register(far.fileno(), Handler(far))
    reactor.unregister(far.fileno())
    other.close()
    near.close()
    far.close()
