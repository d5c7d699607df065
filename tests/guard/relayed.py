"""A session through a guard, with bare sockets at both of its ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import tieline
from tieline.guard import ClientLeg, Guard
from tieline.reasons import CloseReason

__all__ = ["RESET", "Session", "accept", "dial", "listen", "read_to_end", "reset", "session"]

_LINGER_ZERO = struct.pack("ii", 1, 0)

#: What `read_to_end` says of a stream that was cut off.
RESET = "reset"


def listen(address: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A bare listening socket."""
    listening = socket.create_server((address, port), backlog=512)
    listening.setblocking(False)
    return listening


async def dial(address: Any, source: str = "127.0.0.1") -> socket.socket:
    """A bare client."""
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.bind((source, 0))
    try:
        await asyncio.get_running_loop().sock_connect(client, (address.host, address.port))
    except BaseException:
        client.close()
        raise
    return client


async def accept(listening: socket.socket) -> socket.socket:
    """The next connection to a bare listening socket."""
    accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
    accepted.setblocking(False)
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return accepted


async def read_to_end(end: socket.socket, most: int = 1 << 30) -> tuple[bytes, str]:
    """Everything that still comes, and how it ended: `end` or `reset`."""
    loop = asyncio.get_running_loop()
    got = bytearray()
    while len(got) < most:
        try:
            data = await loop.sock_recv(end, 262_144)
        except (ConnectionResetError, BrokenPipeError):
            return bytes(got), RESET
        if not data:
            return bytes(got), "end"
        got += data
    return bytes(got), "more"


def reset(end: socket.socket) -> None:
    """Cut it off (RST)."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    end.close()


@dataclass
class Session:
    """One session: its two bare ends, and what the guard makes of it."""

    guard: Guard
    client: socket.socket
    server: socket.socket
    closed: list[CloseReason]

    @property
    def leg(self) -> ClientLeg:
        (leg,) = self.guard.connections
        return leg

    async def exchange(self, asked: bytes = b"ask", answer: bytes = b"answer") -> None:
        """One message each way."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.client, asked)
        assert await _receive(self.server, len(asked)) == asked
        await loop.sock_sendall(self.server, answer)
        assert await _receive(self.client, len(answer)) == answer

    async def over(self) -> CloseReason:
        """Wait until the session is over, on both of its sides; why it ended."""
        while len(self.guard) or self.guard.pool.upstreams[0].sessions:
            await asyncio.sleep(0.005)
        (reason,) = self.closed
        return reason


async def _receive(end: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        data = await asyncio.get_running_loop().sock_recv(end, size - len(got))
        assert data, "the stream ended early"
        got += data
    return got


@contextlib.asynccontextmanager
async def session(**arguments: Any) -> AsyncIterator[Session]:
    """A guard with one session, connected through to a bare server's end."""
    closed: list[CloseReason] = []
    listening = listen()
    try:
        port = listening.getsockname()[1]
        guard = tieline.guard.serve(
            "127.0.0.1:0",
            upstreams=[f"127.0.0.1:{port}"],
            on_close=lambda leg, reason: closed.append(reason),
            **arguments,
        )
        async with guard:
            client = await dial(guard.addresses[0])
            server = await accept(listening)
            try:
                yield Session(guard, client, server, closed)
            finally:
                client.close()
                server.close()
    finally:
        listening.close()
