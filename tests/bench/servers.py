"""Servers without manners, for a load to meet."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import tieline

__all__ = ["Bare"]


class Bare:
    """A connection on the side of a server that follows no rules but the test's."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, numbers: count[int]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = numbers

    @classmethod
    @contextlib.asynccontextmanager
    async def listen(
        cls, answer: Callable[[Bare], Awaitable[None]]
    ) -> AsyncIterator[tieline.Address]:
        """A server that does this with each connection, and then closes it."""
        numbers = count()
        tasks: set[asyncio.Task[None]] = set()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            with contextlib.suppress(ConnectionError):
                await answer(cls(reader, writer, numbers))
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            tasks.discard(task)

        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=512)
        try:
            yield tieline.Address("127.0.0.1", server.sockets[0].getsockname()[1])
        finally:
            server.close()
            await server.wait_closed()
            # The load is over, and has closed its connections.
            await asyncio.gather(*tasks)

    def count(self) -> int:
        """A number, one more each time, over all connections of the server."""
        return next(self._numbers)

    async def lines(self) -> AsyncIterator[bytes]:
        """What the load sends, line by line."""
        while line := await self._reader.readline():
            yield line

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        """Cut the connection off."""
        connected = self._writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
