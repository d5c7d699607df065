"""Events of one stream that a client's program has not taken yet: bounded, and said when lost."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

__all__ = ["Backlog"]

_MOST = 1024


class Backlog:
    """The events of one stream, between the connection and the program.

    Attributes:
        last: what the server said about its end; `None` while it goes on.
        lost: events that the program was too slow for.
    """

    __slots__ = ("_events", "_lost_since", "last", "lost")

    def __init__(self) -> None:
        self.last: dict[str, Any] | None = None
        self.lost = 0
        self._events: deque[dict[str, Any]] = deque()
        self._lost_since = 0

    def put(self, event: dict[str, Any]) -> None:
        """One has come."""
        if event.get("event") == "stream_ended":
            self.last = event
        elif len(self._events) >= _MOST:
            self.lost += 1
            self._lost_since += 1
        else:
            if self._lost_since:
                self._events.append(self._take_lost())
            self._events.append(event)

    def take(self) -> dict[str, Any] | None:
        """The oldest; `None`: there is none."""
        if self._events:
            return self._events.popleft()
        return self._take_lost() if self._lost_since else None

    def _take_lost(self) -> dict[str, Any]:
        count, self._lost_since = self._lost_since, 0
        return {"event": "events_lost", "time": time.time(), "count": count}
