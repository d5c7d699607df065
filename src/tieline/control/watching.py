"""The verb `watch`: what happens to the server, and once a second how much."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from .. import events
from ..events import Event, EventsLost, Subscription
from ..guard import Guard
from .outlet import Outlet
from .pace import Pace, pieces

if TYPE_CHECKING:
    from ..listening import Listening

__all__ = ["EVENT_NAMES", "Statistics", "Totals", "Watching", "measure"]

#: The names of all events that a server announces.
EVENT_NAMES = tuple(
    sorted(
        kind.name
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, Event) and kind not in (Event, EventsLost)
    )
)


class Watching:
    """Hands a server's events to one outlet.

    Args:
        server: whose.
        outlet: where they go.
        names: those that are wanted; `None`: all.
    """

    def __init__(self, server: Listening, outlet: Outlet, names: frozenset[str] | None) -> None:
        self._outlet = outlet
        self._names = names
        self._subscription: Subscription = server.events.subscribe(self._take)

    def _take(self, event: Event) -> None:
        if isinstance(event, EventsLost):
            self._outlet.count_lost(event.count)
        elif self._names is None or event.name in self._names:
            self._outlet.put(event.as_dict)

    def end(self) -> None:
        """No more of them. Idempotent."""
        self._subscription.end()


# ---- Statistics


@dataclass(frozen=True, slots=True)
class Totals:
    """What a server has done since it started, what is under way included. They only grow."""

    accepted: int
    refused: int
    closed: int
    bytes_received: int
    bytes_sent: int
    messages_received: int
    messages_sent: int


async def measure(server: Listening) -> tuple[Totals, int]:
    """Add it all up, in pieces.

    Returns:
        The totals, and the bytes that peers are owed now.
    """
    counters = server.counters
    # Together, before anything else runs: a connection that ends meanwhile is counted as one of
    # the open ones, since its own figures stay.
    received, sent = counters.bytes_received, counters.bytes_sent
    messages_in, messages_out = counters.messages_received, counters.messages_sent
    accepted = counters.accepted
    refused, closed = counters.refused.total(), counters.closed.total()
    connections = list(server.connections)
    owed = 0
    pace = Pace()
    for piece in pieces(connections, 128):
        for each in piece:
            received += each.bytes_received
            sent += each.bytes_sent
            messages_in += each.messages_received
            messages_out += each.messages_sent
            owed += each.owed
        await pace.rest()
    totals = Totals(accepted, refused, closed, received, sent, messages_in, messages_out)
    return totals, owed


class Statistics:
    """Measures a server once a second, while anybody wants to know.

    Args:
        server: whose.
        seconds: between two measurements.
        clock: in seconds; tests bring their own.
    """

    def __init__(
        self, server: Listening, seconds: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._seconds = seconds
        self._clock = clock
        self._outlets: list[Outlet] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, outlet: Outlet) -> None:
        """Tell this one too, from the next measurement on."""
        self._outlets.append(outlet)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._measure())

    def remove(self, outlet: Outlet) -> None:
        """Tell it no more; without any left, measure no more. Idempotent."""
        if outlet in self._outlets:
            self._outlets.remove(outlet)
        if not self._outlets and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _measure(self) -> None:
        before, _ = await measure(self._server)
        at = self._clock()
        while True:
            await asyncio.sleep(self._seconds)
            totals, owed = await measure(self._server)
            now = self._clock()
            event = self._event(before, totals, owed, now - at)
            before, at = totals, now
            for outlet in self._outlets:
                outlet.put_latest(event)

    def _event(self, before: Totals, now: Totals, owed: int, seconds: float) -> dict[str, Any]:
        server = self._server
        rates = {
            field.name: round(
                (getattr(now, field.name) - getattr(before, field.name)) / max(seconds, 1e-9), 3
            )
            for field in fields(Totals)
        }
        event = {
            "event": "stats", "time": time.time(), "seconds": round(seconds, 3),
            "connections": len(server), "clients": len(server.admission.clients),
            "owed": owed, "draining": server.is_draining, **rates,
        }  # fmt: skip
        if isinstance(server, Guard):
            event["waiting"] = server.pool.waiting
        return event
