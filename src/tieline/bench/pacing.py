"""When messages are due in an open loop, and a clock that is precise enough to send them then."""

from __future__ import annotations

import ctypes
import math
import os
import struct
import time
from collections.abc import Callable

from ..reactor import Reactor

__all__ = ["Alarm", "Schedule"]


class Schedule:
    """The instants of an open loop: so many a second, rising from none during the ramp.

    Nothing is kept of what is due and not yet sent but its number, so that a server that stands
    still costs no memory.

    Args:
        rate: instants a second, after the ramp.
        ramp: seconds over which that rate is reached.
        offset: the share of the distance between two instants by which all of them are later:
            several processes that share a rate do not send together.

    Attributes:
        taken: instants that somebody has taken.
        next: when the next one is, in seconds after the beginning.
    """

    __slots__ = ("_in_ramp", "_offset", "_ramp", "_rate", "next", "taken")

    def __init__(self, rate: float, ramp: float = 0.0, offset: float = 0.0) -> None:
        self._rate = rate
        self._ramp = ramp
        self._offset = offset
        self._in_ramp = rate * ramp / 2
        self.taken = 0
        self.next = self.instant(0)

    def instant(self, number: int) -> float:
        """When the instant of this number, from 0, is."""
        place = number + self._offset
        if place < self._in_ramp:
            return math.sqrt(2 * place * self._ramp / self._rate)
        return self._ramp + (place - self._in_ramp) / self._rate

    def take(self) -> float:
        """Take the next instant, and say when it is."""
        taken = self.next
        self.taken += 1
        self.next = self.instant(self.taken)
        return taken

    def due(self, elapsed: float) -> int:
        """How many instants are before `elapsed`, taken or not."""
        if elapsed < self._ramp:
            number = elapsed * elapsed * self._rate / (2 * self._ramp)
        else:
            number = self._in_ramp + (elapsed - self._ramp) * self._rate
        return max(0, math.ceil(number - self._offset))


_LIBC = ctypes.CDLL(None, use_errno=True)
_TIMESPEC = struct.Struct("@ll")
_ABSOLUTE = 1


class Alarm:
    """Calls a function at an instant, to the microsecond: a timerfd(2) in the reactor's epoll.

    The loop's own timers are late by up to a millisecond, since its selector counts in those.

    Args:
        reactor: whose epoll; the instant is by `time.monotonic`.
        ring: what to call.
    """

    __slots__ = ("_descriptor", "_reactor", "_ring")

    def __init__(self, reactor: Reactor, ring: Callable[[], None]) -> None:
        self._reactor = reactor
        self._ring = ring
        # os.timerfd_create came with Python 3.13.
        descriptor = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK)
        if descriptor < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._descriptor = descriptor
        reactor.register(descriptor, self)

    def set(self, instant: float) -> None:
        """Ring at this instant; at once if it is over. An earlier setting is forgotten."""
        whole = int(instant)
        # A time of zero would stop it.
        fraction = max(1, int((instant - whole) * 1e9))
        setting = _TIMESPEC.pack(0, 0) + _TIMESPEC.pack(whole, fraction)
        _LIBC.timerfd_settime(self._descriptor, _ABSOLUTE, setting, None)

    def on_ready(self, mask: int) -> None:
        """The reactor's call: the instant has come."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return
        self._ring()

    def close(self) -> None:
        """Ring no more."""
        self._reactor.unregister(self._descriptor)
        os.close(self._descriptor)
