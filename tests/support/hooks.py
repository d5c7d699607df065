"""Servers as the tests want them: hooks that can be waited for, handlers of both kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tieline import CloseReason, Connection

__all__ = ["Watch", "echo", "eventually"]


class Watch:
    """`on_open` and `on_close` of a server: they remember, and can be waited for."""

    def __init__(self) -> None:
        self.opened: list[Connection] = []
        self.closed: list[tuple[Connection, CloseReason]] = []
        self._newly_opened: asyncio.Queue[Connection] = asyncio.Queue()
        self._newly_closed: asyncio.Queue[CloseReason] = asyncio.Queue()

    def on_open(self, connection: Connection) -> None:
        self.opened.append(connection)
        self._newly_opened.put_nowait(connection)

    def on_close(self, connection: Connection, reason: CloseReason) -> None:
        self.closed.append((connection, reason))
        self._newly_closed.put_nowait(reason)

    @property
    def hooks(self) -> dict[str, Any]:
        """As options of `tieline.serve`."""
        return {"on_open": self.on_open, "on_close": self.on_close}

    async def next_open(self) -> Connection:
        """Wait for the next connection that is let in."""
        async with asyncio.timeout(10):
            return await self._newly_opened.get()

    async def next_close(self) -> CloseReason:
        """Wait for the next connection that ends."""
        async with asyncio.timeout(10):
            return await self._newly_closed.get()


async def _echo_conversation(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message)


def _echo_responder(connection: Connection, message: Any) -> Any:
    return message


def echo(kind: str) -> Any:
    """A handler of this kind that sends every message back."""
    return _echo_conversation if kind == "conversation" else _echo_responder


async def eventually(true: Callable[[], object]) -> None:
    """Let the loop run until something is true, for what has no event of its own."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0)
