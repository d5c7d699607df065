"""A client of the control socket, for programs on asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Iterable
from typing import Any, Self, cast

from ..address import Address, parse_address
from ..client import connect as connect_messages
from ..client import deadline
from ..connection import Connection
from ..errors import ConnectionClosedError, EndOfStreamError, TielineError
from ..framing import Line
from ..reasons import CloseReason
from .asking import Asking
from .backlog import Backlog
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

__all__ = ["Connecting", "Control", "Events", "connect"]


class Control(Asking):
    """A connection to a server's control socket. Made by `tieline.control.connect`.

    Several tasks may ask at once. Every method raises `ControlError` when the server says no, and
    `ConnectionClosedError` when it is gone. Cancelling one leaves the connection as it is; what
    was asked for is done all the same.

    Attributes:
        greeting: what the server said first: `v`, `tieline` (its version), `pid`.
    """

    def __init__(self, connection: Connection, greeting: dict[str, Any]) -> None:
        """Not for applications: take over a connection on which the server has greeted."""
        self.greeting = greeting
        self._connection = connection
        self._last_id = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._streams: dict[int, Events] = {}
        # Why nothing can be asked any more.
        self._over: TielineError | None = None
        self._reader = asyncio.get_running_loop().create_task(self._read())

    # ---- Streams

    def watch(self, events: Iterable[str] | None = None, *, stats: bool = True) -> Events:
        """Events as they happen, and once a second how much::

            async with control.watch(["connection_closed"], stats=False) as events:
                async for event in events:
                    print(event["peer"], event["reason"])

        Args:
            events: the names of those that are wanted (default: all; none of an empty list).
            stats: whether there are statistics, once a second (default).
        """
        return Events(self, "watch", {"events": words_of(events), "stats": stats})

    def tap(self, id: int, *, most: int | None = None) -> Events:
        """The messages of one connection as they pass, until it ends.

        Args:
            id: the connection's number.
            most: end after so many (default: `None`, never).
        """
        return Events(self, "tap", {"id": id, "most": most})

    # ---- Anything

    async def ask(self, verb: str, /, **arguments: Any) -> dict[str, Any]:
        """Ask for any verb, also one that this version does not know.

        Args:
            verb: its name.
            arguments: those that are `None` are not given.

        Returns:
            The result.

        Raises:
            ControlError: the server said no.
            ConnectionClosedError: the connection is over.
        """
        return await self.ask_as(self.new_id(), verb, arguments)

    def new_id(self) -> int:
        """Not for applications: an id that no request has had."""
        self._last_id += 1
        return self._last_id

    async def ask_as(self, id: int, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Not for applications: ask under an id of one's own."""
        if self._over is not None:
            raise self._over.with_traceback(None)
        future = asyncio.get_running_loop().create_future()
        self._answers[id] = future
        try:
            await self._connection.send(request_line(id, verb, arguments))
            return cast(dict[str, Any], await future)
        finally:
            self._answers.pop(id, None)

    def follow(self, id: int, events: Events) -> None:
        """Not for applications: hand the events of this id on."""
        self._streams[id] = events

    def forget(self, id: int) -> None:
        """Not for applications: nobody wants them any more."""
        self._streams.pop(id, None)

    # ---- What comes

    async def _read(self) -> None:
        over: TielineError
        try:
            async for line in self._connection:
                self._take(read_reply(line))
            over = EndOfStreamError(reason=CloseReason.PEER_CLOSED)
        except TielineError as error:
            over = error
            self._connection.abort()
        self._connection.close()
        self._end(over)

    def _take(self, reply: Reply) -> None:
        if reply.event is not None:
            if (events := self._streams.get(reply.id)) is not None:
                events.put(reply.event)
            return
        future = self._answers.get(reply.id)
        if future is None or future.done():
            return  # nobody waits for it any more
        if reply.error is not None:
            future.set_exception(reply.error)
        else:
            future.set_result(reply.result or {})

    def _end(self, over: TielineError) -> None:
        self._over = over
        for future in self._answers.values():
            if not future.done():
                future.set_exception(over)
        for events in list(self._streams.values()):
            events.connection_over(over)

    async def close(self) -> None:
        """Close the connection, and end its streams. Idempotent."""
        if self._answers:
            # The server would not end its side before it has answered.
            self._connection.abort()
        self._connection.close()
        await asyncio.wait([self._reader])
        await self._connection.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        await self.close()


class Events:
    """The events of one stream, as dictionaries, for one task.

    It begins when it is entered as a context, or with the first `async for`, and ends with the
    context, with `close`, or when there are no more. A program that is too slow loses events, on
    either side of the socket, and gets `{"event": "events_lost", "count": ...}` in their place.

    Attributes:
        result: the answer to the request, once it has begun.
        ended: why it is over, as the server said: `{"why": "stopped", ...}`; `None` before.
    """

    def __init__(self, control: Control, verb: str, arguments: dict[str, Any]) -> None:
        """Not for applications: see `Control.watch` and `Control.tap`."""
        self.result: dict[str, Any] | None = None
        self._control = control
        self._verb = verb
        self._arguments = arguments
        self._id = 0
        self._backlog = Backlog()
        self._wanted = asyncio.Event()
        self._over: TielineError | None = None
        self._closed = False

    @property
    def ended(self) -> dict[str, Any] | None:
        """Why it is over."""
        return self._backlog.last

    async def _begin(self) -> None:
        if self._id:
            return
        self._id = self._control.new_id()
        self._control.follow(self._id, self)
        try:
            self.result = await self._control.ask_as(self._id, self._verb, self._arguments)
        except BaseException:
            self._closed = True
            self._control.forget(self._id)
            raise

    def put(self, event: dict[str, Any]) -> None:
        """Not for applications: one has come."""
        self._backlog.put(event)
        if self._backlog.last is not None:
            self._control.forget(self._id)
        self._wanted.set()

    def connection_over(self, error: TielineError) -> None:
        """Not for applications: there will be no more."""
        self._over = error
        self._wanted.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        """The next event.

        Raises:
            StopAsyncIteration: there are no more; `ended` says why, unless the server has left.
            ControlError: the server does not grant it.
            ConnectionClosedError: the connection broke.

        Cancelling loses nothing.
        """
        await self._begin()
        while (event := self._backlog.take()) is None:
            if self._closed or self._backlog.last is not None:
                raise StopAsyncIteration
            if self._over is not None:
                if isinstance(self._over, EndOfStreamError):
                    raise StopAsyncIteration
                raise self._over.with_traceback(None)
            self._wanted.clear()
            await self._wanted.wait()
        return event

    async def close(self) -> None:
        """End it; what has come and was not taken is still given. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._wanted.set()
        if self._id and self._backlog.last is None and self._over is None:
            try:
                await self._control.ask("stop", id=self._id)
            except (ControlError, ConnectionClosedError):
                pass  # it has ended by itself meanwhile
            finally:
                self._control.forget(self._id)

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        await self.close()


class Connecting:
    """A control connection about to be made: `await` it, or enter it as a context."""

    __slots__ = ("_address", "_control", "_timeout")

    def __init__(self, address: Address, timeout: float | None) -> None:
        self._address = address
        self._timeout = timeout
        self._control: Control | None = None

    def __await__(self) -> Generator[Any, None, Control]:
        return self._connect().__await__()

    async def _connect(self) -> Control:
        async with deadline(self._timeout, "connecting to", self._address):
            connection = await connect_messages(
                self._address, framing=Line(), limits=CONTROL_LIMITS, timeout=None
            )
            try:
                greeting = read_greeting(await connection.receive(), str(self._address))
            except BaseException as error:
                connection.abort()
                if isinstance(error, ConnectionClosedError):
                    raise silent_server(str(self._address)) from error
                raise
        return Control(connection, greeting)

    async def __aenter__(self) -> Control:
        self._control = await self._connect()
        return self._control

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        assert self._control is not None
        await self._control.close()


def connect(path: str | os.PathLike[str], *, timeout: float | None = 10.0) -> Connecting:
    """Connect to a server's control socket::

        async with tieline.control.connect("/run/thank.sock") as control:
            print((await control.info())["connections"])

    Args:
        path: the socket's file.
        timeout: seconds until the server has greeted (default 10); `None`: no limit.

    Raises:
        AddressError: the path names no file, or is too long for a socket.
        ConnectError: nobody listens there, or this user may not connect.
        ControlError: the server turns this user away, or is something else.
        DeadlineError: not in time.

    Cancelling while connecting leaves nothing behind.
    """
    return Connecting(parse_address(f"unix:{os.fspath(path)}"), timeout)
