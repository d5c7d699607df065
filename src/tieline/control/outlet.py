"""What a verb goes on telling after its answer: bounded, and never waited for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from ..errors import TielineError
from .pace import Pace
from .protocol import event_line

__all__ = ["Outlet", "Sink"]

#: What may wait for a client that does not read: events, and bytes of those that count theirs.
_MOST_EVENTS = 1024
_MOST_BYTES = 1_048_576


class Sink(Protocol):
    """A control connection, as far as a stream is concerned."""

    def send(self, message: bytes) -> Awaitable[None]: ...


class Outlet:
    """The events of one stream, on their way to a client at its own pace.

    A client that does not read loses events, and is told how many when it reads again.

    Args:
        sink: where lines are sent.
        id: that of the request which began the stream.
        on_end: called once when it has ended, in whatever way.
        most_events, most_bytes: what may wait.

    Attributes:
        id: as given.
        lost: events that were lost, so far.
    """

    def __init__(
        self,
        sink: Sink,
        id: Any,
        on_end: Callable[[], object],
        most_events: int = _MOST_EVENTS,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self.id = id
        self.lost = 0
        self._sink = sink
        self._on_end = on_end
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[Callable[[], dict[str, Any]], int]] = deque()
        self._bytes = 0
        self._lost_since = 0
        # Only the newest of these is worth telling.
        self._latest: dict[str, Any] | None = None
        self._last: dict[str, Any] | None = None
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """The request has been answered: begin to tell."""
        self._task = asyncio.get_running_loop().create_task(self._tell())

    # ---- What is told

    def put(self, event: Callable[[], dict[str, Any]], size: int = 0) -> bool:
        """Tell an event, if there is room. `event` makes it at the moment it is sent.

        Returns:
            Whether there was room.
        """
        if len(self._waiting) >= self._most_events or self._bytes + size > self._most_bytes:
            self.count_lost(1)
            return False
        if self._lost_since:
            # Where they are missing: behind those that wait, before this one.
            self._waiting.append((partial(dict, self._take_lost()), 0))
        self._waiting.append((event, size))
        self._bytes += size
        self._wanted.set()
        return True

    def put_latest(self, event: dict[str, Any]) -> None:
        """Tell an event that makes the one before of no interest."""
        self._latest = event
        self._wanted.set()

    def count_lost(self, count: int) -> None:
        """Events were lost before they came here."""
        self.lost += count
        self._lost_since += count
        self._wanted.set()

    def end(self, why: str, **more: Any) -> None:
        """Tell what still waits, then why it is over, and end. Idempotent."""
        if self._last is None:
            self._last = {"event": "stream_ended", "why": why, **more}
            self._wanted.set()

    # ---- Telling

    async def finish(self, seconds: float | None = None) -> None:
        """Wait until an ended stream has told everything; after so many seconds, cut it off."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
        await self.cut_off()

    async def cut_off(self) -> None:
        """Nobody is there any more: end at once."""
        if self._task is None:
            self._over()
            return
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _tell(self) -> None:
        pace = Pace()
        try:
            # An error here is the client's end, which its conversation sees too.
            with contextlib.suppress(TielineError):
                event: dict[str, Any] | None = None
                while event is None or event is not self._last:
                    event = await self._next()
                    await self._sink.send(event_line(self.id, event))
                    await pace.rest()
        finally:
            self._over()

    async def _next(self) -> dict[str, Any]:
        while True:
            if self._latest is not None:
                latest, self._latest = self._latest, None
                return latest
            if self._waiting:
                event, size = self._waiting.popleft()
                self._bytes -= size
                return event()
            if self._lost_since:
                return self._take_lost()
            if self._last is not None:
                return self._last
            self._wanted.clear()
            await self._wanted.wait()

    def _take_lost(self) -> dict[str, Any]:
        count, self._lost_since = self._lost_since, 0
        return {"event": "events_lost", "time": time.time(), "count": count}

    def _over(self) -> None:
        self._waiting.clear()
        on_end, self._on_end = self._on_end, _nothing
        on_end()


def _nothing() -> None:
    """Called in place of what has been called already."""
