"""Servers with a control socket, and a client of it that is nothing but a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import tieline
import tieline.guard
from support.hooks import echo
from support.peers import Peer
from tieline import Address, Line, Server
from tieline.control import Control, connect, serve
from tieline.guard import Guard

__all__ = ["Wire", "controlled", "guarded"]


@asynccontextmanager
async def controlled(
    path: Path, handler: Any = None, **options: Any
) -> AsyncIterator[tuple[Server, Control]]:
    """A server of lines, and a client of its control socket."""
    handler = handler or echo("conversation")
    async with tieline.serve(handler, "127.0.0.1:0", framing=Line(), **options) as server:
        async with serve(server, path), connect(path) as control:
            yield server, control


@asynccontextmanager
async def guarded(
    path: Path,
    *upstreams: str,
    handler: Any = None,
    upstream_framing: Any = None,
    **options: Any,
) -> AsyncIterator[tuple[Guard, Control]]:
    """A guard before a server of lines, and a client of its control socket. `upstreams`: options
    of each, which all lead to that server (by default one, called db1)."""
    handler, framing = handler or echo("responder"), upstream_framing or Line()
    async with tieline.serve(handler, "127.0.0.1:0", framing=framing) as server:
        specs = [f"{server.addresses[0]},{each}" for each in upstreams or ("name=db1",)]
        async with tieline.guard.serve("127.0.0.1:0", upstreams=specs, **options) as guard:
            async with serve(guard, path), connect(path) as control:
                yield guard, control


class Wire:
    """A control connection by hand: lines of JSON, or of anything else."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._received = b""

    @classmethod
    async def connect(cls, path: Path, **options: Any) -> Self:
        return cls(await Peer.connect(Address(path=str(path)), **options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.peer.close()

    async def say(self, request: dict[str, Any] | bytes) -> None:
        """Send a request, or bytes that are none."""
        line = request if isinstance(request, bytes) else json.dumps(request).encode()
        await self.peer.send(line + b"\n")

    async def hear(self) -> dict[str, Any]:
        """The next line."""
        while b"\n" not in self._received:
            data = await self.peer.receive_some()
            if not data:
                raise EOFError(self._received)
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    async def ask(self, request: dict[str, Any] | bytes) -> dict[str, Any]:
        """Send a request, return the next line."""
        await self.say(request)
        return await self.hear()

    async def is_closed(self) -> bool:
        """Whether the server has nothing more to say."""
        return not self._received and await self.peer.receive_all() == b""
