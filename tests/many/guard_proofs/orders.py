"""Programs of the proofs as they see themselves: they obey orders from standard input.

An order is a line of JSON with `do` and its fields; so is its answer. When there are no more, a
program ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import struct
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import uvloop

__all__ = ["Do", "connected", "obey", "options", "raise_descriptor_limit", "reset", "run"]

Do: TypeAlias = Callable[..., Awaitable[Any]]

_LINGER_ZERO = struct.pack("ii", 1, 0)
_IP_BIND_ADDRESS_NO_PORT = 24  # a constant of Linux's that socket has from Python 3.12 on


def options() -> dict[str, Any]:
    """What the program was told when it was started."""
    told: dict[str, Any] = json.loads(sys.argv[1])
    return told


def say(told: Any) -> None:
    """Answer."""
    print(json.dumps(told), flush=True)


async def obey(orders: dict[str, Do], begin: Do) -> None:
    """Say that it is ready, and obey until there are no more orders.

    Args:
        orders: what can be ordered; called with the fields, gives the answer.
        begin: called once orders can come; gives the first answer.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    pipe = os.fdopen(os.dup(0), "rb", 0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        say(await begin() or {})
        while line := await reader.readline():
            fields = json.loads(line)
            try:
                say(await orders[fields.pop("do")](**fields) or {})
            except Exception:
                say({"failed": traceback.format_exc()})
    finally:
        transport.close()


def run(main: Callable[[], Awaitable[None]], loop: str = "uvloop") -> None:
    """Run the program, on this kind of loop."""
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop

    async def whole() -> None:
        await main()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(whole())


def raise_descriptor_limit(most: int | None = None) -> None:
    """Allow this process as many descriptors as it may have, or exactly so many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most or hard, hard))


async def connected(port: int, source: str = "127.0.0.1") -> socket.socket:
    """A bare client of who listens on this port."""
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    try:
        client.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    except BaseException:
        client.close()
        raise
    return client


def reset(end: socket.socket) -> None:
    """Cut it off (RST)."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    end.close()
