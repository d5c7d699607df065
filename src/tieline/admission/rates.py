"""How often: a bucket of connections that fills at an even rate, kept as one number.

The number is the time at which the bucket is full again. A connection takes one out, which
moves that time on by what one takes to come back; a bucket whose time has passed is full, and
nothing needs to be remembered of it. (The generic cell rate algorithm, as ATM networks have it.)
"""

from __future__ import annotations

__all__ = ["Rate"]

#: Seconds by which a connection may be early: clocks count in steps, and sums are rounded.
_ROUNDING = 1e-6


class Rate:
    """The bucket's size and rate; the time at which one is full again is kept by its owner.

    Args:
        rate: connections a second.
        burst: connections that may come at once, when none came for long.

    Attributes:
        interval: seconds in which one connection's place comes back.
        whole: seconds in which an empty bucket is full.
    """

    __slots__ = ("_room", "interval", "whole")

    def __init__(self, rate: float, burst: int) -> None:
        self.interval = 1.0 / rate
        self.whole = burst * self.interval
        self._room = self.whole - self.interval

    def wait(self, full_at: float, now: float) -> float:
        """Seconds until the next connection may come; 0.0: now."""
        seconds = full_at - now - self._room
        return seconds if seconds > _ROUNDING else 0.0

    def take(self, full_at: float, now: float) -> float:
        """Take a connection's place. Returns when the bucket is full again."""
        return (full_at if full_at > now else now) + self.interval
