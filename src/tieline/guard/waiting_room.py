"""Sessions that wait for an upstream with room: who is called when, and how many at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from .routing import Route, Routes, Waiting

__all__ = ["WaitingRoom", "call_soon"]

#: Sessions called in one go; the others are called after the loop has served everybody else.
_BATCH = 32

_log = logging.getLogger("tieline")


def call_soon(call: Callable[[], None]) -> bool:
    """Have the running loop call it soon. Returns whether there is a loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    loop.call_soon(call)
    return True


class WaitingRoom:
    """In order of arrival among those who wait for the same upstreams.

    Args:
        soon: has something called soon, and returns whether that can be (default: by the running
            loop); if not, it is done at once.

    Attributes:
        count: how many wait.
    """

    __slots__ = ("_calling", "_numbers", "_scheduled", "_soon", "_to_see", "count")

    def __init__(self, soon: Callable[[Callable[[], None]], bool] = call_soon) -> None:
        self._soon = soon
        self._numbers = 0
        #: Routes on which something has changed.
        self._to_see: dict[Route, None] = {}
        self._calling = self._scheduled = False
        self.count = 0

    def enter(self, route: Route, waiting: Waiting) -> None:
        """It waits from now on."""
        self._numbers += 1
        route.waiting[waiting] = self._numbers
        self.count += 1

    def leave(self, route: Route, waiting: Waiting) -> None:
        """It waits no more, and is not called. Idempotent."""
        if route.waiting.pop(waiting, None) is not None:
            self.count -= 1

    def move(self, old: Routes, new: Routes) -> None:
        """Let those who wait go on waiting on other routes, in order."""
        everybody = [pair for route in old.all for pair in route.waiting.items()]
        for waiting, number in sorted(everybody, key=_number):
            new.find(waiting.name).waiting[waiting] = number
        self._to_see.clear()

    def call(self, routes: Iterable[Route]) -> None:
        """There may be room on these routes, or no hope: call those for whom that is so."""
        for route in routes:
            if route.waiting:
                self._to_see[route] = None
        # Whoever is called may give back what it took, and have others called: not one inside
        # the other.
        if self._to_see and not self._calling and not self._scheduled:
            self._go_on()

    def _go_on(self) -> None:
        self._scheduled = False
        self._calling = True
        left = _BATCH
        try:
            while (found := self._next()) is not None:
                if not left:
                    self._scheduled = self._soon(self._go_on)
                    if self._scheduled:
                        return
                    left = _BATCH
                left -= 1
                route, waiting = found
                self.leave(route, waiting)
                try:
                    waiting.on_room()
                except Exception:
                    # A defect of ours. It must not keep the others waiting.
                    _log.exception("unexpected error while a session was given an upstream")
        finally:
            self._calling = False

    def _next(self) -> tuple[Route, Waiting] | None:
        """Who is to be called, of those ready the one who came first."""
        found: tuple[Route, Waiting] | None = None
        first = 0
        for route in list(self._to_see):
            waiting = route.first_ready()
            if waiting is None:
                del self._to_see[route]
            elif found is None or route.waiting[waiting] < first:
                found = route, waiting
                first = route.waiting[waiting]
        return found


def _number(pair: Sequence[object]) -> int:
    number = pair[1]
    assert isinstance(number, int)
    return number
