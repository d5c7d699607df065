"""What `tieline connect` holds: one connection after another, and who types into it."""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable, Coroutine
from typing import Any

from ..connection import Connection
from ..errors import (
    DeadlineError,
    EndOfStreamError,
    NetworkError,
    TielineError,
    UsageError,
)
from .dialling import Dialling
from .exits import Exit, exit_of
from .log import Log
from .translation import gettext as _
from .units import format_duration
from .watched import send_shown

__all__ = ["Left", "Session"]

#: Seconds between attempts to reconnect: doubled from the first to the last.
_FIRST_DELAY, _LAST_DELAY = 0.5, 30.0

#: Seconds after the peer's end in which our own input may turn out to be at its end too.
_GRACE = 0.2


class Left(enum.Enum):
    """How typing ended."""

    DONE = enum.auto()  #: whoever typed wants to leave
    INTERRUPTED = enum.auto()  #: by Ctrl-C
    INPUT_ENDED = enum.auto()  #: the input is at its end; the peer may have more to say


Typing = Callable[["Session"], Coroutine[Any, Any, Left]]


class Session:
    """A conversation with one server.

    Args:
        dialling: how its connections are opened.
        log: where it is shown.
        reconnect: whether to connect again when the connection has ended.
        linger: seconds of silence, after our input's end, after which to leave; `None`: stay
            until the peer's end.
        interactive: whether a person types, for whom the peer's orderly end is no failure.
    """

    def __init__(
        self,
        dialling: Dialling,
        log: Log,
        *,
        reconnect: bool,
        linger: float | None,
        interactive: bool,
    ) -> None:
        self.log = log
        self.dialling = dialling
        self.reconnects = reconnect
        self._interactive = interactive
        self._linger = linger
        self._connected = asyncio.Event()
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The connection that is open now.

        Raises:
            UsageError: there is none.
        """
        if self._connection is None:
            raise UsageError("there is no connection now", hint="it is being made again")
        return self._connection

    async def connected(self) -> Connection:
        """The connection, once there is one."""
        await self._connected.wait()
        return self.connection

    async def send(self, *parts: str | bytes) -> None:
        """Send a message on the connection that is open now, and show it.

        Raises:
            UsageError: there is no connection, or the message cannot be sent.
            ConnectionClosedError: it has ended.
        """
        await send_shown(self.connection, self.log, *parts)

    async def run(self, typing: Typing) -> int:
        """Connect, let `typing` send, and show what comes, until either side has had enough."""
        delay = _FIRST_DELAY
        typist: asyncio.Task[Left] | None = None
        try:
            while True:
                try:
                    connection = await self.dialling.dial()
                except (NetworkError, DeadlineError) as error:
                    if not self.reconnects:
                        raise
                    self.log.error(error)
                else:
                    delay = _FIRST_DELAY
                    typist = typist or asyncio.create_task(typing(self))
                    code = await self._talk(connection, typist)
                    if typist.done() or not self.reconnects:
                        return code
                if typist is not None and typist.done():
                    return _exit_of_typing(typist)
                await self._pause(delay * random.uniform(0.8, 1.2), typist)
                delay = min(delay * 2, _LAST_DELAY)
        finally:
            if typist is not None:
                typist.cancel()
                await asyncio.wait({typist})

    async def _pause(self, seconds: float, typist: asyncio.Task[Left] | None) -> None:
        time = format_duration(round(seconds, 1))
        self.log.notice(_("connecting again in {time}").format(time=time))
        if typist is None:
            await asyncio.sleep(seconds)
        else:
            await asyncio.wait({typist}, timeout=seconds)

    async def _talk(self, connection: Connection, typist: asyncio.Task[Left]) -> int:
        """Hold one connection until it or the typing ends."""
        log = self.log
        log.opened(connection.id, connection.peer, connection.local)
        self._connection = connection
        self._connected.set()
        receiving = asyncio.create_task(self._receive(connection))
        try:
            await asyncio.wait({receiving, typist}, return_when=asyncio.FIRST_COMPLETED)
            if not typist.done() and not self._interactive:
                # A server that answers and closes at once may be faster than our input's end.
                await asyncio.wait({typist}, timeout=_GRACE)
            if typist.done() and typist.exception() is None:
                return await self._finish(connection, receiving, typist)
            return await self._ended_early(receiving, typist)
        finally:
            self._connection = None
            self._connected.clear()
            receiving.cancel()
            await asyncio.wait({receiving})
            connection.close()
            await connection.wait_closed()
            reason = connection.close_reason
            assert reason is not None
            log.closed(
                connection.id, connection.peer, reason.value,
                connection.bytes_sent, connection.bytes_received,
            )  # fmt: skip

    async def _receive(self, connection: Connection) -> None:
        """Show what comes until the peer's end.

        Raises:
            TielineError: the connection ended otherwise.
        """
        async for payload in connection:
            self.log.message(connection.id, connection.peer, "in", payload)

    async def _finish(
        self, connection: Connection, receiving: asyncio.Task[None], typist: asyncio.Task[Left]
    ) -> int:
        """The typing has ended as it was meant to: so does the connection."""
        if typist.result() is Left.INPUT_ENDED:
            if not receiving.done():
                connection.half_close()
            await self._listen_on(connection, receiving)
            error = receiving.exception() if receiving.done() else None
            if isinstance(error, TielineError):
                self.log.error(error)
                return exit_of(error)
        return _exit_of_typing(typist)

    async def _listen_on(self, connection: Connection, receiving: asyncio.Task[None]) -> None:
        """Until the peer's end, or until nothing has happened for a while."""
        loop = asyncio.get_running_loop()
        while not receiving.done():
            left = None
            if self._linger is not None:
                left = connection.last_active + self._linger - loop.time()
                if left <= 0:
                    return
            await asyncio.wait({receiving}, timeout=left)

    async def _ended_early(self, receiving: asyncio.Task[None], typist: asyncio.Task[Left]) -> int:
        """The peer ended first, or our sending failed because it had."""
        error = typist.exception() if typist.done() else receiving.exception()
        if error is None or isinstance(error, EndOfStreamError):
            self.log.notice(_("the peer has ended its stream"))
            return Exit.DONE if self._interactive else Exit.CLOSED_EARLY
        if not isinstance(error, TielineError):
            raise error
        self.log.error(error)
        return exit_of(error)


def _exit_of_typing(typist: asyncio.Task[Left]) -> int:
    return Exit.INTERRUPTED if typist.result() is Left.INTERRUPTED else Exit.DONE
