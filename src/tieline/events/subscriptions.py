"""How events reach those who want to know, and what becomes of one who is too slow."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import ClassVar

from ..errors import SettingError
from .named import Event, EventsLost

__all__ = ["EventStream", "Events", "Subscription"]

_log = logging.getLogger("tieline")


class _Waiting:
    """Events on their way to one receiver: bounded, and open about what was lost.

    Attributes:
        lost: events that the receiver was too slow for, so far.
    """

    def __init__(self, events: Events, capacity: int) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise SettingError(
                "events wait in a queue of at least 1, not {capacity!r}", capacity=capacity
            )
        self._events = events
        self._capacity = capacity
        self._waiting: deque[Event] = deque()
        self._lost_since = 0
        self.lost = 0

    @property
    def waiting(self) -> int:
        """How many are yet to be told, a word about those lost included."""
        return len(self._waiting) + bool(self._lost_since)

    def put(self, event: Event) -> None:
        """Not for applications: have it told soon."""
        if len(self._waiting) >= self._capacity:
            self._lost_since += 1
            self.lost += 1
            self._events.lost += 1
            return
        if self._lost_since:
            self._waiting.append(self._take_lost())
        self._waiting.append(event)

    def deliver(self, most: int) -> bool:
        """Not for applications: tell up to `most` events. Returns whether more are left."""
        raise NotImplementedError

    def _next(self) -> Event | None:
        """The oldest that waits, or a word about those lost behind it; `None`: nothing."""
        if self._waiting:
            return self._waiting.popleft()
        return self._take_lost() if self._lost_since else None

    def _take_lost(self) -> EventsLost:
        count, self._lost_since = self._lost_since, 0
        return EventsLost(count=count)


class Subscription(_Waiting):
    """One subscriber's place. `end` leaves it.

    Attributes:
        lost: events that it was too slow for, so far.
        failures: times that it raised.
    """

    def __init__(self, events: Events, call: Callable[[Event], object], capacity: int) -> None:
        super().__init__(events, capacity)
        self._call = call
        self.failures = 0

    def end(self) -> None:
        """Be told no more, not even what waits. Idempotent."""
        self._events.forget(self)
        self._waiting.clear()
        self._lost_since = 0

    def deliver(self, most: int) -> bool:
        """Not for applications: tell it up to `most` events. Returns whether more are left."""
        # What it causes is told later; and it may end itself, or another, while it is told.
        for _ in range(min(most, self.waiting)):
            event = self._next()
            if event is None:
                return False
            self._tell(event)
        return self.waiting > 0

    def _tell(self, event: Event) -> None:
        try:
            self._call(event)
        except Exception:
            self.failures += 1
            self._events.failures += 1
            # Once is enough to know; a subscriber that fails each time must not fill the log.
            if self.failures == 1:
                _log.exception("a subscriber failed at %s", event.name)


class EventStream(_Waiting):
    """Events as an asynchronous iterator, for one task; `close` ends it. Made by
    `Events.stream`.

    Attributes:
        lost: events that it was too slow for, so far.
    """

    def __init__(self, events: Events, capacity: int) -> None:
        super().__init__(events, capacity)
        self._wanted: asyncio.Future[None] | None = None
        self._closed = False

    def deliver(self, most: int) -> bool:
        """Not for applications: wake whoever waits. It takes them at its own pace."""
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)
        return False

    def close(self) -> None:
        """End it: what has come is still given, then the iteration is over. Idempotent."""
        self._closed = True
        self._events.forget(self)
        self.deliver(0)

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while (event := self._next()) is None:
            if self._closed:
                raise StopAsyncIteration
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
        return event


class Events:
    """Tells subscribers what happens.

    Attributes:
        wanted: whether anybody subscribes; while nobody does, make no event.
        lost: events that subscribers were too slow for, so far.
        failures: times that a subscriber raised, so far.
    """

    __slots__ = ("_receivers", "_scheduled", "failures", "lost", "wanted")

    #: Events told to one subscriber before the loop serves others.
    _BATCH: ClassVar[int] = 64

    def __init__(self) -> None:
        self._receivers: list[_Waiting] = []
        self._scheduled = False
        self.wanted = False
        self.lost = 0
        self.failures = 0

    def subscribe(self, call: Callable[[Event], object], capacity: int = 1024) -> Subscription:
        """Have `call` called with each event, soon after it happened, in the loop.

        Args:
            call: must return quickly; what it raises is logged once, and counted.
            capacity: events that may wait for it (default 1024); those above are lost, and it
                gets an `EventsLost` in their place that says how many.

        Raises:
            SettingError: `capacity` is no whole number above zero.
        """
        subscription = Subscription(self, call, capacity)
        self._receivers.append(subscription)
        self.wanted = True
        return subscription

    def stream(self, capacity: int = 1024) -> EventStream:
        """The events from now on, to be iterated by a task at its own pace.

        It does not end with the server: close it, or cancel the task.

        Args:
            capacity: as for `subscribe`.
        """
        stream = EventStream(self, capacity)
        self._receivers.append(stream)
        self.wanted = True
        return stream

    def forget(self, receiver: _Waiting) -> None:
        """Not for applications: a subscription or a stream has ended."""
        if receiver in self._receivers:
            self._receivers.remove(receiver)
        self.wanted = bool(self._receivers)

    def announce(self, event: Event) -> None:
        """Not for applications: something has happened."""
        for receiver in self._receivers:
            receiver.put(event)
        self._schedule()

    def _schedule(self) -> None:
        if self._scheduled:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            # Limits may be changed before the server runs: told with the next event, or `flush`.
            return
        self._scheduled = True
        loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        more = [receiver.deliver(self._BATCH) for receiver in list(self._receivers)]
        if any(more):
            self._schedule()

    def flush(self) -> None:
        """Tell what waits, now: the server is at its end.

        What subscribers cause while they are told is told later, by the loop.
        """
        for receiver in list(self._receivers):
            receiver.deliver(receiver.waiting)
