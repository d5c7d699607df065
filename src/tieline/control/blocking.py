"""A client of the control socket, for programs without asyncio."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from types import EllipsisType
from typing import Any, Self, cast

from .. import blocking
from ..address import parse_address
from ..blocking.deadline import Deadline, check_timeout
from ..errors import ConnectionClosedError, DeadlineError, EndOfStreamError
from ..framing import Line
from .backlog import Backlog
from .blocking_asking import BlockingAsking
from .protocol import (
    CONTROL_LIMITS,
    ControlError,
    Reply,
    read_greeting,
    read_reply,
    request_line,
    silent_server,
)
from .requests import words_of
from .results import DrainResult

__all__ = ["Control", "Events", "connect"]

#: Seconds; `None`: no limit; `...`: the connection's own.
Timeout = float | None | EllipsisType


class Control(BlockingAsking):
    """A connection to a server's control socket. Made by `tieline.control.blocking.connect`.

    For one thread at a time. Every method raises `ControlError` when the server says no,
    `DeadlineError` when it does not answer in time, and `ConnectionClosedError` when it is gone.

    Attributes:
        greeting: what the server said first: `v`, `tieline` (its version), `pid`.
        timeout: seconds that a call may take; `None`: no limit.
    """

    def __init__(
        self, connection: blocking.Connection, greeting: dict[str, Any], timeout: float | None
    ) -> None:
        """Not for applications: take over a connection on which the server has greeted."""
        self.greeting = greeting
        self.timeout = timeout
        self._connection = connection
        self._last_id = 0
        self._streams: dict[int, Events] = {}

    def drain(self, seconds: float = 10.0, spread: float = 0.0) -> DrainResult:
        """Let nobody new in, and wait until connections have finished.

        Args:
            seconds: how long they have (default 10); `timeout` comes on top of it.
            spread: over how many seconds they are told (default 0: at once).
        """
        timeout = None if self.timeout is None else self.timeout + max(0.0, seconds)
        arguments = {"seconds": seconds, "spread": spread}
        return cast(DrainResult, self.ask_as(self.new_id(), "drain", arguments, timeout))

    # ---- Streams

    def watch(
        self,
        events: Iterable[str] | None = None,
        *,
        stats: bool = True,
        timeout: float | None = None,
    ) -> Events:
        """Events as they happen, and once a second how much::

            with control.watch(["connection_closed"], stats=False) as events:
                for event in events:
                    print(event["peer"], event["reason"])

        Args:
            events: the names of those that are wanted (default: all; none of an empty list).
            stats: whether there are statistics, once a second (default).
            timeout: seconds that the next event may take (default: `None`, no limit).
        """
        return Events(self, "watch", {"events": words_of(events), "stats": stats}, timeout)

    def tap(self, id: int, *, most: int | None = None, timeout: float | None = None) -> Events:
        """The messages of one connection as they pass, until it ends.

        Args:
            id: the connection's number.
            most: end after so many (default: `None`, never).
            timeout: seconds that the next message may take (default: `None`, no limit).
        """
        return Events(self, "tap", {"id": id, "most": most}, timeout)

    # ---- Anything

    def ask(self, verb: str, /, **arguments: Any) -> dict[str, Any]:
        """Ask for any verb, also one that this version does not know.

        Args:
            verb: its name.
            arguments: those that are `None` are not given.

        Returns:
            The result.

        Raises:
            ControlError: the server said no.
            DeadlineError: it did not answer in time; what was asked for may be done all the same.
            ConnectionClosedError: the connection is over.
        """
        return self.ask_as(self.new_id(), verb, arguments)

    def new_id(self) -> int:
        """Not for applications: an id that no request has had."""
        self._last_id += 1
        return self._last_id

    def ask_as(
        self, id: int, verb: str, arguments: dict[str, Any], timeout: Timeout = ...
    ) -> dict[str, Any]:
        """Not for applications: ask under an id of one's own."""
        seconds = self.timeout if isinstance(timeout, EllipsisType) else timeout
        until = Deadline(seconds, "asking", self._connection.peer)
        self._connection.send(request_line(id, verb, arguments), timeout=seconds)
        while True:
            reply = self._receive(until)
            if reply.event is not None or reply.id != id:
                self.take(reply)  # or an answer that came too late for whoever asked
            elif reply.error is not None:
                raise reply.error
            else:
                return reply.result or {}

    def _receive(self, until: Deadline) -> Reply:
        return read_reply(_receive(self._connection, until))

    def receive_event(self, timeout: float | None) -> None:
        """Not for applications: wait for whatever comes next, and hand it on."""
        self.take(self._receive(Deadline(timeout, "receiving from", self._connection.peer)))

    def take(self, reply: Reply) -> None:
        """Not for applications: hand an event on to whom it is for."""
        if reply.event is not None and (events := self._streams.get(reply.id)) is not None:
            events.put(reply.event)

    def follow(self, id: int, events: Events) -> None:
        """Not for applications: hand the events of this id on."""
        self._streams[id] = events

    def forget(self, id: int) -> None:
        """Not for applications: nobody wants them any more."""
        self._streams.pop(id, None)

    def close(self) -> None:
        """Close the connection, and end its streams. Idempotent."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()


class Events:
    """The events of one stream, as dictionaries.

    It begins when it is entered as a context, or with the first `for`, and ends with the context,
    with `close`, or when there are no more. A program that is too slow loses events, on either
    side of the socket, and gets `{"event": "events_lost", "count": ...}` in their place.

    Attributes:
        result: the answer to the request, once it has begun.
        timeout: seconds that the next event may take; `None`: no limit.
    """

    def __init__(
        self, control: Control, verb: str, arguments: dict[str, Any], timeout: float | None
    ) -> None:
        """Not for applications: see `Control.watch` and `Control.tap`."""
        check_timeout(timeout)
        self.result: dict[str, Any] | None = None
        self.timeout = timeout
        self._control = control
        self._verb = verb
        self._arguments = arguments
        self._id = 0
        self._backlog = Backlog()
        self._closed = False

    @property
    def ended(self) -> dict[str, Any] | None:
        """Why it is over, as the server said: `{"why": "stopped", ...}`; `None` before."""
        return self._backlog.last

    def _begin(self) -> None:
        if self._id:
            return
        self._id = self._control.new_id()
        self._control.follow(self._id, self)
        try:
            self.result = self._control.ask_as(self._id, self._verb, self._arguments)
        except BaseException:
            self._closed = True
            self._control.forget(self._id)
            raise

    def put(self, event: dict[str, Any]) -> None:
        """Not for applications: one has come."""
        self._backlog.put(event)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        """The next event.

        Raises:
            StopIteration: there are no more; `ended` says why, unless the server has left.
            ControlError: the server does not grant it.
            DeadlineError: none came in time; a later call gets it.
            ConnectionClosedError: the connection broke.
        """
        self._begin()
        while (event := self._backlog.take()) is None:
            if self._closed or self._backlog.last is not None:
                raise StopIteration
            try:
                self._control.receive_event(self.timeout)
            except EndOfStreamError:
                raise StopIteration from None
        return event

    def close(self) -> None:
        """End it; what has come and was not taken is still given. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._id and self._backlog.last is None:
            try:
                self._control.ask("stop", id=self._id)
            except (ControlError, ConnectionClosedError):
                pass  # it has ended by itself meanwhile
            finally:
                self._control.forget(self._id)

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()


def _receive(connection: blocking.Connection, until: Deadline) -> bytes:
    left = until.left
    try:
        line: bytes = connection.receive(timeout=None if left == math.inf else left)
    except DeadlineError:
        raise until.error() from None  # which knows the whole time
    return line


def connect(path: str | os.PathLike[str], *, timeout: float | None = 10.0) -> Control:
    """Connect to a server's control socket. Leaving it as a context closes it::

        with tieline.control.blocking.connect("/run/thank.sock") as control:
            print(control.info()["connections"])

    Args:
        path: the socket's file.
        timeout: seconds until the server has greeted, then for each call (default 10); `None`:
            no limit.

    Raises:
        AddressError: the path names no file, or is too long for a socket.
        ConnectError: nobody listens there, or this user may not connect.
        ControlError: the server turns this user away, or is something else.
        DeadlineError: not in time.
    """
    address = parse_address(f"unix:{os.fspath(path)}")
    until = Deadline(timeout, "connecting to", address)
    connection = blocking.connect(address, framing=Line(), limits=CONTROL_LIMITS, timeout=timeout)
    try:
        greeting = read_greeting(_receive(connection, until), str(address))
        return Control(connection, greeting, timeout)
    except BaseException as error:
        connection.abort()
        if isinstance(error, ConnectionClosedError):
            raise silent_server(str(address)) from error
        raise
