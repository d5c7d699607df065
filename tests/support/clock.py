"""A clock that only tests move, so that no test waits for time to pass."""

from __future__ import annotations

import asyncio

from tieline.reactor import Reactor

__all__ = ["TICK", "Clock"]

#: Seconds, more than a tick of the wheel: what is due is asked by then.
TICK = 0.25


class Clock:
    """Stops the running loop's reactor's clock, and moves it by hand.

    Made before the server or client whose time it is. The reactor's own timer runs on real
    time, and so does not come in the way of a test.
    """

    def __init__(self) -> None:
        self.time = 1_000.0
        self._reactor = Reactor.of(asyncio.get_running_loop())
        self._reactor.clock = lambda: self.time

    def advance(self, seconds: float) -> None:
        """Let time pass, and have the reactor notice: what is due ends before this returns."""
        self.time += seconds
        while True:
            self.expire_once()
            # 0.0 stands for "more are waiting", after a bounded round.
            if self._reactor._timer is None or self._reactor._timer_at != 0.0:
                return

    def expire_once(self) -> None:
        """What the reactor's timer does: one bounded round; the loop goes on with the next."""
        if self._reactor._timer is not None:
            self._reactor._timer.cancel()
        self._reactor.expire()
