"""Servers that mean no good, and keep count of what a load has done to them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import tieline
from bench.servers import Bare
from tieline import Line
from tieline.bench import Plan, Result, measure
from tieline.bench.expecting import Echo
from tieline.bench.messages import Constant

__all__ = ["Numbered", "Seen", "deaf", "echo", "full", "load", "silence", "watched"]

#: No test's load may go on for longer: a hang is a failure, not a wait.
_PATIENCE = 4.0


@dataclass
class Seen:
    """What a server has seen of a load.

    Attributes:
        connections: that it has accepted.
        received: the lines of each, in order.
    """

    connections: int = 0
    received: list[list[bytes]] = field(default_factory=list)
    _accepted: asyncio.Event = field(default_factory=asyncio.Event)

    def accept(self) -> None:
        """There is one more."""
        self.connections += 1
        self._accepted.set()

    async def has_accepted(self, connections: int) -> None:
        """Wait until there have been so many."""
        while self.connections < connections:
            self._accepted.clear()
            await self._accepted.wait()

    @property
    def messages(self) -> int:
        return sum(map(len, self.received))

    @property
    def size(self) -> int:
        """Bytes of all lines."""
        return sum(len(line) for lines in self.received for line in lines)


@contextlib.asynccontextmanager
async def watched(
    answer: Callable[[Bare, bytes, int], Awaitable[bool | None]],
) -> AsyncIterator[tuple[tieline.Address, Seen]]:
    """A server that calls `answer` with each line and its number on its connection, from 1.

    What gives `False` has the connection closed.
    """
    seen = Seen()

    async def serve(peer: Bare) -> None:
        seen.accept()
        lines: list[bytes] = []
        seen.received.append(lines)
        async for line in peer.lines():
            lines.append(line)
            if await answer(peer, line, len(lines)) is False:
                return

    async with Bare.listen(serve) as address:
        yield address, seen


@contextlib.contextmanager
def full() -> Iterator[tieline.Address]:
    """A server whose backlog is full: it accepts nobody, and calls to it stall."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            calling = stack.enter_context(socket.socket())
            calling.setblocking(False)
            calling.connect_ex(listening.getsockname())
        yield tieline.Address("127.0.0.1", listening.getsockname()[1])


@contextlib.contextmanager
def deaf(backlog: int = 512) -> Iterator[tieline.Address]:
    """A server that never accepts: connections are made, and nothing is ever read."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen(backlog)
        yield tieline.Address("127.0.0.1", listening.getsockname()[1])


async def load(
    address: tieline.Address, stop: asyncio.Event | None = None, **options: Any
) -> Result:
    """A load, on lines that are echoed."""
    defaults: dict[str, Any] = {
        "messages": Constant(b"ping"), "expectation": Echo(), "framing": Line(),
        "duration": None, "reply_timeout": 0.3, "connect_timeout": 0.3,
    }  # fmt: skip
    plan = Plan(address=address, **{**defaults, **options})
    async with asyncio.timeout(_PATIENCE):
        return await measure(plan, None, stop)


async def echo(peer: Bare, line: bytes, number: int) -> None:
    """Answer with what was asked."""
    await peer.send(line)


async def silence(peer: Bare, line: bytes, number: int) -> None:
    """Answer nothing."""


class Numbered:
    """Messages of equal length, each its own."""

    only = None

    def __init__(self) -> None:
        self._numbers = count()

    def make(self, connection: int, number: int) -> bytes:
        return b"%06d" % next(self._numbers)

    def divided(self, index: int, of: int) -> Numbered:
        return self
