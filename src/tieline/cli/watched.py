"""A connection whose messages are shown on their way to a handler of the user's."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from ..connection import Connection
from .log import Log
from .payload import Outgoing, Payload

__all__ = ["WatchedConnection", "send_shown"]


def send_shown(connection: Connection, log: Log, *parts: str | bytes) -> Awaitable[None]:
    """Send a message, and show what went out."""
    outgoing = Outgoing(*parts)
    sent = connection.send(outgoing)
    log.message(connection.id, connection.peer, "out", outgoing.payload)
    return sent


class WatchedConnection:
    """What a handler holds: a `tieline.Connection`, but that its messages are shown.

    It receives and sends text (bytes with `--encoding none`), as its connection would if it had
    been opened with that encoding; everything else is the connection's own.
    """

    def __init__(self, connection: Connection, log: Log) -> None:
        self._connection = connection
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    @property
    def data(self) -> Any:
        """The application's own."""
        return self._connection.data

    @data.setter
    def data(self, value: Any) -> None:
        self._connection.data = value

    def __aiter__(self) -> WatchedConnection:
        return self

    async def __anext__(self) -> str | bytes:
        return self.show(await self._connection.__anext__())

    async def receive(self) -> str | bytes:
        """As `Connection.receive`."""
        return self.show(await self._connection.receive())

    def send(self, message: str | bytes) -> Awaitable[None]:
        """As `Connection.send`."""
        return send_shown(self._connection, self._log, message)

    def show(self, payload: Payload) -> str | bytes:
        """Show what came; what the handler is given of it."""
        self._log.message(self._connection.id, self._connection.peer, "in", payload)
        return payload.message
