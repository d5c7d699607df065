"""The subscriber: a queue that has an end, and the one thread that writes."""

from __future__ import annotations

import asyncio
import json as json_text
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar, Self

from ..events import (
    AcceptPaused,
    AcceptResumed,
    ClientPenalized,
    ConnectionRefused,
    Event,
    Events,
    EventsLost,
    LimitSpared,
    TableOverflowed,
)
from .lines import LinesLeftOut, LinesLost, attributes, date, level_of, text
from .sink import Sink

__all__ = ["EventLog"]

#: The version of the JSON lines: keys may be added to it, none is removed or changed.
_JSON_VERSION = 1

#: Whoever stands at the door can cause as many of these as it likes.
_BOUNDED: tuple[type[Event], ...] = (
    AcceptPaused,
    AcceptResumed,
    ClientPenalized,
    ConnectionRefused,
    LimitSpared,
    TableOverflowed,
)


class EventLog:
    """Writes each event of a server as a line, until it is closed::

        with EventLog(server.events, sink="tieline.log", json=True):
            async with server:
                await server.wait_closed()

    Args:
        events: the server's.
        json: one JSON object a line, with OpenTelemetry's attribute names; default: text.
        logger: where lines go (default: the logger `tieline.events`). Warnings, such as
            refusals, are `WARNING`, a handler that raised `ERROR`, all else `INFO`. Each record
            has the attributes too, for handlers that look for them.
        sink: a file's path or an open descriptor, in place of a logger. A line of text begins
            with its time and level. A file that is moved away is opened anew, so that it can
            be rotated.
        rate, burst: lines a second (default 5), and at once (default 10), of each kind of event
            that anybody at the door can cause; how many were left out is told.
        capacity: lines that may wait for the sink (default 10,000); those above are lost.
        clock: for tests.

    Raises:
        SettingError: the sink cannot be opened, or `capacity` is below 1.

    Nothing waits for the sink, and no error of it is raised: `lost` counts, and the log says how
    many when it can be written again. (The handlers of `logging` keep their errors to
    themselves: they show them on stderr, and none is counted.)
    """

    #: Seconds after which what was left out is told, if no further line has told it.
    _CALM: ClassVar[float] = 1.0

    def __init__(
        self,
        events: Events,
        *,
        json: bool = False,
        logger: logging.Logger | None = None,
        sink: str | os.PathLike[str] | int | None = None,
        rate: float = 5.0,
        burst: int = 10,
        capacity: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events = events
        self._json = json
        self._logger = logger or logging.getLogger("tieline.events")
        self._capacity = capacity
        self._clock = clock
        self._buckets = {kind: _Bucket(rate, burst, clock()) for kind in _BOUNDED}
        self._calm_timer: asyncio.TimerHandle | None = None
        # Two threads count, each its own.
        self._overflowed = self._failed = self._lost_told = 0
        self._closed = False
        self._queue: queue.SimpleQueue[tuple[Event, int] | None] = queue.SimpleQueue()
        self._sink = None if sink is None else Sink(sink)
        try:
            self._subscription = events.subscribe(self._take, capacity)
        except BaseException:
            if self._sink is not None:
                self._sink.close()
            raise
        self._thread = threading.Thread(target=self._run, name="tieline event log", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Lines that could not be written, so far."""
        return self._overflowed + self._failed

    def close(self, seconds: float = 1.0) -> bool:
        """Write what waits, and end. Idempotent. It blocks, the loop too, while it writes.

        Args:
            seconds: for how long at most (default 1); what a stuck sink has not taken by then
                is lost.

        Returns:
            Whether the sink took, or refused, all of it in time.
        """
        if not self._closed:
            self._closed = True
            self._events.flush()
            self._subscription.end()
            if self._calm_timer is not None:
                self._calm_timer.cancel()
            self._tell_left_out()
            self._queue.put(None)
        self._thread.join(seconds)
        in_time = not self._thread.is_alive()
        if self._sink is not None and not in_time:
            self._sink.give_up()
            self._thread.join(1.0)
        return in_time

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- In the loop

    def _take(self, event: Event) -> None:
        if isinstance(event, EventsLost):
            self._overflowed += event.count
            return
        if self._sink is None and not self._logger.isEnabledFor(level_of(event)):
            return
        left_out = 0
        bucket = self._buckets.get(type(event))
        if bucket is not None:
            if not bucket.take(self._clock()):
                if self._calm_timer is None and not self._closed:
                    loop = asyncio.get_running_loop()
                    self._calm_timer = loop.call_later(self._CALM, self._on_calm)
                return
            left_out = bucket.take_left_out()
        self._put(event, left_out)

    def _on_calm(self) -> None:
        self._calm_timer = None
        self._tell_left_out()

    def _tell_left_out(self) -> None:
        for kind, bucket in self._buckets.items():
            if count := bucket.take_left_out():
                self._put(LinesLeftOut(of=kind.name, count=count), 0)

    def _put(self, event: Event, left_out: int) -> None:
        if self._queue.qsize() >= self._capacity:
            self._overflowed += 1
        else:
            self._queue.put((event, left_out))

    # ---- In the thread

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self._tell_lost()
            if not self._write(*item):
                self._failed += 1
        self._tell_lost()
        if self._sink is not None:
            self._sink.close()

    def _tell_lost(self) -> None:
        lost = self.lost - self._lost_told
        if lost and self._write(LinesLost(count=lost), 0):
            self._lost_told += lost

    def _write(self, event: Event, left_out: int) -> bool:
        """Returns whether it was written. What goes wrong is counted, since nobody waits here
        to be told."""
        if self._sink is not None and self._sink.given_up:
            return False
        try:
            said = attributes(event)
            if left_out:
                said["tieline.left_out"] = left_out
            level = level_of(event)
            line = self._as_json(event, level, said) if self._json else text(event, left_out)
            if self._sink is None:
                self._log(event, level, line, said)
            elif self._json:
                self._sink.write(line)
            else:
                self._sink.write(f"{date(event.time)} {logging.getLevelName(level)} {line}")
        except Exception:
            return False
        return True

    @staticmethod
    def _as_json(event: Event, level: int, said: dict[str, Any]) -> str:
        name = logging.getLevelName(level).lower()
        head = {"v": _JSON_VERSION, "time": date(event.time), "level": name}
        return json_text.dumps({**head, **said})

    def _log(self, event: Event, level: int, line: str, said: dict[str, Any]) -> None:
        logger = self._logger
        record = logger.makeRecord(logger.name, level, "", 0, line, (), None, extra=said)
        # When it happened, not when it came to be written.
        record.created = event.time
        record.msecs = event.time % 1 * 1000
        logger.handle(record)


class _Bucket:
    """How many lines of one kind there may be, and how many were left out since."""

    __slots__ = ("_at", "_burst", "_left", "_rate", "left_out")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = float(burst), now
        self.left_out = 0

    def take(self, now: float) -> bool:
        """Whether one more may be written now."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            self.left_out += 1
            return False
        self._left -= 1
        return True

    def take_left_out(self) -> int:
        count, self.left_out = self.left_out, 0
        return count
