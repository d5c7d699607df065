"""Time for a relay that only its test moves."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

__all__ = ["HandTime"]


class _Timer:
    def __init__(self, call: Callable[[], object]) -> None:
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class HandTime:
    """A clock and its timers."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = itertools.count()

    def clock(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], object]) -> _Timer:
        timer = _Timer(call)
        heapq.heappush(self._timers, (self.now + seconds, next(self._numbers), timer))
        return timer

    @property
    def waiting(self) -> int:
        """Timers that have neither gone off nor been cancelled."""
        return sum(timer.call is not None for _, _, timer in self._timers)

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due meanwhile is called at its time."""
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            when, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            if timer.call is not None:
                timer.call()
        self.now = until
