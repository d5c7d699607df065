"""An open loop: exchanges begin at their instants, whether or not the server keeps up."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from ..reactor import Reactor
from .pacing import Alarm, Schedule
from .tickets import Tickets

__all__ = ["OpenLoop", "Servant"]

#: Seconds between two rings of the alarm: instants that are closer are served together.
_RINGS_APART = 100e-6


class Servant(Protocol):
    """A place that exchanges are given to."""

    #: Whether it waits here for an instant. Only `OpenLoop` sets it.
    is_idle: bool

    def can_ask(self) -> bool:
        """Whether an exchange can begin now."""

    def ask_due(self, now: float, due: float) -> None:
        """Begin the exchange of an instant."""

    def close(self) -> None:
        """Let go of the connection, if there is one."""


class OpenLoop:
    """Gives each instant to the place that has had nothing to do for longest.

    An instant that finds nobody free is given to the first who becomes so; its exchange is as late
    as that, and its time counts from the instant all the same.

    Args:
        reactor: the loop's.
        schedule: the instants, from `begin` on.
        tickets: how many of them are to be served.

    Attributes:
        waiting_most: the most instants that were seen waiting.
    """

    __slots__ = (
        "_alarm", "_from", "_idle", "_is_armed", "_origin", "_reactor", "_schedule", "_tickets",
        "_until", "waiting_most",
    )  # fmt: skip

    def __init__(self, reactor: Reactor, schedule: Schedule, tickets: Tickets) -> None:
        self._reactor = reactor
        self._schedule = schedule
        self._tickets = tickets
        # One that can do nothing any more is passed over when it comes up.
        self._idle: deque[Servant] = deque()
        self._is_armed = False
        self._origin = self._from = 0.0
        self._until = math.inf
        self.waiting_most = 0
        self._alarm: Alarm | None = Alarm(reactor, self._ring)

    def begin(self, origin: float) -> None:
        """Begin.

        Args:
            origin: the schedule's beginning, by the reactor's clock.
        """
        self._origin = origin

    def measure(self, begin: float, end: float) -> None:
        """Say which instants are measured, by the reactor's clock; none after `end` is served."""
        self._from, self._until = begin, end

    def is_measured(self, due: float) -> bool:
        """Whether the exchange of this instant is measured."""
        return self._from <= due < self._until

    def waiting(self) -> int:
        """Instants that are over, and wait for a place."""
        if self._tickets.left == 0 or not self._origin:
            return 0
        schedule, origin = self._schedule, self._origin
        due = schedule.due(min(self._reactor.clock(), self._until) - origin)
        # By the rule of `_may_serve`, whatever the arithmetic of floats makes of the last one.
        while due > schedule.taken and origin + schedule.instant(due - 1) >= self._until:
            due -= 1
        waiting = max(0, due - schedule.taken)
        if self._tickets.left is not None:
            waiting = min(waiting, self._tickets.left)
        self.waiting_most = max(self.waiting_most, waiting)
        return waiting

    def free(self, place: Servant, now: float) -> None:
        """A place has nothing to do, or could do more."""
        while place.can_ask() and not place.is_idle:
            if self._schedule.next > now - self._origin or not self._may_serve():
                self._rest(place)
                self._arm(now)
                return
            place.ask_due(now, self._origin + self._schedule.take())

    def _rest(self, place: Servant) -> None:
        place.is_idle = True
        self._idle.append(place)

    def _may_serve(self) -> bool:
        """Whether the next instant is one that is to be served. Those of a warm-up need no
        ticket."""
        instant = self._origin + self._schedule.next
        if instant >= self._until:
            return False
        return instant < self._from or self._tickets.take()

    def _ring(self) -> None:
        schedule, idle, origin = self._schedule, self._idle, self._origin
        now = self._reactor.clock()
        self._is_armed = False
        while idle and schedule.next <= now - origin:
            place = idle.popleft()
            place.is_idle = False
            if not place.can_ask():
                continue
            if not self._may_serve():
                self._rest(place)
                return
            place.ask_due(now, origin + schedule.take())
            if place.can_ask():
                self._rest(place)
            now = self._reactor.clock()
        if idle:
            self._arm(now)

    def _arm(self, now: float) -> None:
        """Ring at the next instant. Only while somebody is idle: who becomes so takes what is due
        by itself."""
        if self._alarm is not None and not self._is_armed:
            self._is_armed = True
            self._alarm.set(max(self._origin + self._schedule.next, now + _RINGS_APART))

    def close(self) -> None:
        """Serve nothing more."""
        self._idle.clear()
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
