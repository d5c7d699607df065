"""Doing something to many, a few at a time. The loop is a queue that the test empties."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline.sweep import Sweep

#: At most this many may be done before the loop gets a word in.
AT_ONCE = 64


class Loop:
    """What a sweep needs of a loop: calls that run when the test says so.

    Attributes:
        time: seconds since it was made.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self._calls: list[tuple[float, int, Handle]] = []
        self._numbers = itertools.count()

    def call_soon(self, call: Callable[[], object]) -> Handle:
        return self.call_later(0, call)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Handle:
        handle = Handle(call)
        heapq.heappush(self._calls, (self.time + seconds, next(self._numbers), handle))
        return handle

    def step(self) -> bool:
        """Run the next call; `False` when there is none."""
        while self._calls:
            self.time, _, handle = heapq.heappop(self._calls)
            if not handle.cancelled:
                handle.call()
                return True
        return False

    def run(self) -> None:
        while self.step():
            pass


class Handle:
    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def _sweep(loop: Loop, items: Any, act: Callable[[Any], object], seconds: float = 0.0) -> Sweep:
    return Sweep(loop, items, act, seconds)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, AT_ONCE])
def test_a_few_are_done_at_once(count: int) -> None:
    loop, done = Loop(), list[int]()
    assert _sweep(loop, range(count), done.append).is_done
    assert done == list(range(count))
    assert not loop.step()


def test_of_many_the_loop_sees_a_few_at_a_time() -> None:
    loop, done = Loop(), list[int]()
    sweep = _sweep(loop, range(1_000), done.append)
    before = 0
    while not sweep.is_done:
        assert 0 < len(done) - before <= AT_ONCE
        before = len(done)
        assert loop.step()
    assert done == list(range(1_000))
    assert loop.time == 0
    assert not loop.step()


def test_items_are_taken_as_they_were() -> None:
    loop, done = Loop(), list[int]()
    items = list(range(200))
    _sweep(loop, items, done.append)
    items.clear()
    loop.run()
    assert done == list(range(200))


@given(st.integers(1, 5_000), st.floats(0.01, 100))
def test_spread_over_a_time_they_are_done_evenly(count: int, seconds: float) -> None:
    loop, done = Loop(), list[float]()
    sweep = _sweep(loop, range(count), lambda _: done.append(loop.time), seconds)
    assert len(done) <= AT_ONCE
    loop.run()
    assert sweep.is_done
    assert len(done) == count
    assert done[-1] < seconds
    for number in range(0, count, max(1, count // 50)):
        ideal = seconds * number / count
        # Up to two steps early or late, each as many as are done at once, or a tenth of a second.
        step = 2 * max(seconds / count * AT_ONCE, 0.1)
        assert ideal - step <= done[number] <= ideal + step


@given(st.integers(1, 300), st.floats(1, 100))
def test_few_in_a_long_time_come_one_by_one(count: int, seconds: float) -> None:
    loop, done = Loop(), list[float]()
    _sweep(loop, range(count), lambda _: done.append(loop.time), seconds)
    loop.run()
    if count * 0.1 <= seconds:
        assert len(set(done)) == count


def test_the_rest_of_a_cancelled_one_is_left() -> None:
    loop, done = Loop(), list[int]()
    sweep = _sweep(loop, range(200), done.append)
    loop.step()
    before = len(done)
    assert 0 < before < 200
    for _ in range(2):
        sweep.cancel()
        assert sweep.is_done
    assert not loop.step()
    assert len(done) == before


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_it_may_be_cancelled_by_what_it_does(seconds: float) -> None:
    loop, done = Loop(), list[int]()

    def act(item: int) -> None:
        done.append(item)
        if item == 100:
            sweep.cancel()

    sweep = _sweep(loop, range(200), act, seconds)
    loop.run()
    assert done == list(range(101))
    assert sweep.is_done
