"""One epoll inside the loop: asyncio's cost per event is paid once per turn.

All of tieline's sockets on a loop sit in one epoll, and asyncio watches that epoll's single
descriptor. When it is readable, asyncio calls `turn` once, which serves up to a few hundred
ready sockets. It works on any loop that has `add_reader`, and every asyncio library runs
beside it.
"""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections.abc import Callable
from typing import Protocol

from .deadlines import Deadlines, Subject

__all__ = ["READABLE", "WRITABLE", "Reactor", "Ready"]

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT

#: Sockets served in one turn, and the seconds after which a turn ends in any case: then the other
#: tasks of the loop get their share. What is left over wakes the loop again, since epoll is
#: level-triggered here.
_SOCKETS_PER_TURN = 256
_TURN = 0.01

#: Sockets served between two looks at the clock: one costs 80 ns here, a third of what a small
#: message costs beside the kernel.
_SOCKETS_PER_LOOK = 4

#: Connections asked about their deadlines at once; closing one may take 20 µs in the kernel.
_DEADLINES_PER_ROUND = 32

#: Seconds of rest when the system refuses to say what is ready (it is out of memory): without it
#: the loop would ask again and again.
_REST = 0.5

#: Seconds by which a loop's timer may be early: uvloop's counts in whole milliseconds.
_TIMER_MARGIN = 0.002

_log = logging.getLogger("tieline")


class Ready(Protocol):
    """What can be registered for a descriptor."""

    def on_ready(self, mask: int) -> None:
        """The descriptor may be ready. `mask` is a hint: a descriptor closed earlier in the
        same turn may have been given out again, so believe what `recv` says."""


class Reactor:
    """The descriptors and deadlines of one loop.

    `Reactor.of(loop)` gives the loop's only one. It lives while anything is registered or
    filed, and leaves no descriptor behind.

    Attributes:
        now: the time of the current turn, as `clock` told it; 0.0 outside a turn.
        clock: seconds, monotonic.
    """

    __slots__ = (
        "_deadlines",
        "_epoll",
        "_left",
        "_poll",
        "_ready",
        "_timer",
        "_timer_at",
        "clock",
        "loop",
        "now",
    )

    _of: dict[asyncio.AbstractEventLoop, Reactor] = {}  # noqa: RUF012 - one per process is meant

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.loop = loop
        self.clock = clock
        self.now = 0.0
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        self._ready: dict[int, Ready] = {}
        self._left: list[tuple[int, int]] = []
        self._deadlines = Deadlines()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        loop.add_reader(self._epoll.fileno(), self.turn)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Reactor:
        """The loop's reactor, made if there is none."""
        reactor = cls._of.get(loop)
        if reactor is None:
            cls._forget_closed_loops()
            reactor = cls._of[loop] = cls(loop)
        return reactor

    @classmethod
    def _forget_closed_loops(cls) -> None:
        # A loop that was closed with connections still open cannot be told; its epoll is ours.
        # Other threads have loops of their own, and come and go here too.
        for loop in list(cls._of):
            if loop.is_closed() and (reactor := cls._of.pop(loop, None)) is not None:
                reactor._epoll.close()

    def turn(self) -> None:
        """Serve the sockets that are ready. asyncio calls it when any is."""
        clock = self.clock
        self.now = now = clock()
        end = now + _TURN
        ready = self._ready
        try:
            # What the last turn did not get to comes first: epoll would offer those that it
            # did get to before them again.
            left = self._left
            try:
                events = left or self._poll(0, _SOCKETS_PER_TURN)
            except OSError as error:
                self._rest(error)
                return
            self._left = []
            for at in range(0, len(events), _SOCKETS_PER_LOOK):
                for descriptor, mask in events[at : at + _SOCKETS_PER_LOOK]:
                    handler = ready.get(descriptor)
                    # None: an earlier handler of this turn has closed it.
                    if handler is not None:
                        try:
                            handler.on_ready(mask)
                        except Exception:
                            # A defect of ours. It must not take the other connections with it.
                            _log.exception("unexpected error while serving a socket")
                if clock() > end:
                    self._left = events[at + _SOCKETS_PER_LOOK :]
                    break
        finally:
            self.now = 0.0

    def _rest(self, error: OSError) -> None:
        _log.warning("no socket is served for %.1f s: %s", _REST, error)
        self.loop.remove_reader(self._epoll.fileno())
        self.loop.call_later(_REST, self._end_of_rest)

    def _end_of_rest(self) -> None:
        if not self._epoll.closed:
            self.loop.add_reader(self._epoll.fileno(), self.turn)

    def register(self, descriptor: int, handler: Ready, mask: int = READABLE) -> None:
        """Call `handler.on_ready` when the descriptor is ready for `mask`."""
        self._epoll.register(descriptor, mask)
        self._ready[descriptor] = handler

    def modify(self, descriptor: int, mask: int) -> None:
        """Change what a registered descriptor is watched for; 0 for errors only."""
        self._epoll.modify(descriptor, mask)

    def unregister(self, descriptor: int) -> None:
        """Forget a registered descriptor. Before it is closed: a child process between fork
        and exec may hold a copy, and epoll would go on reporting it."""
        del self._ready[descriptor]
        self._epoll.unregister(descriptor)
        if not self._ready:
            self.close_if_unused()

    def file(self, subject: Subject, when: float) -> None:
        """Ask `subject` for its deadline at `when` (by `clock`), or one tick later."""
        self._deadlines.file(subject, when)
        if self._timer is None or when < self._timer_at:
            self._arm(when)

    def withdraw(self, subject: Subject) -> None:
        """Ask `subject` no more."""
        self._deadlines.withdraw(subject)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        # When its slot comes up, and a moment later: a timer that is a little early would have
        # to be set again.
        delay = self._deadlines.slot_end(when) - self.clock() + _TIMER_MARGIN
        self._timer = self.loop.call_later(max(delay, 0.0), self.expire)

    def expire(self) -> None:
        """Ask the subjects that are due. The loop's timer calls it."""
        self._timer = None
        if self._deadlines.advance(self.clock(), _DEADLINES_PER_ROUND):
            # More are waiting: between rounds the loop serves everybody else. Those who ended
            # may have filed others, and armed the timer for them.
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = 0.0
            self._timer = self.loop.call_later(0, self.expire)
            return
        due = self._deadlines.next_due
        # A subject that was filed meanwhile may have armed the timer already.
        if due is not None and (self._timer is None or due < self._timer_at):
            self._arm(due)
        self.close_if_unused()

    def close_if_unused(self) -> None:
        """Let go of epoll and loop if nothing is registered or filed; done by itself after the
        last one has gone."""
        if self._ready or len(self._deadlines):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._of.get(self.loop) is self:
            del self._of[self.loop]
        if not self._epoll.closed:
            self.loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
