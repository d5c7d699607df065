"""How many exchanges are still to be begun."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Tickets"]


class Tickets:
    """One for each exchange; without `limit`, no end of them.

    Args:
        clock: seconds.

    Attributes:
        left: how many there are; `None` for no end.
        ran_out: when somebody last asked in vain, by the clock; 0.0 while nobody has.
        is_closed: whether none is given any more.
    """

    __slots__ = ("_clock", "is_closed", "left", "ran_out")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.left: int | None = None
        self.ran_out = 0.0
        self.is_closed = False

    def limit(self, count: int) -> None:
        """So many from now on, and none after them."""
        self.left = count

    def take(self) -> bool:
        """Whether there is one."""
        if self.is_closed:
            return False
        if self.left is None:
            return True
        if self.left:
            self.left -= 1
            return True
        self.ran_out = self._clock()
        return False
