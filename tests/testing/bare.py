"""A relay between two bare sockets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from support.hooks import eventually
from support.peers import Peer
from tieline import Address
from tieline.testing import FaultRelay, RelayedConnection

__all__ = ["Ends", "bare_server", "ends"]


@dataclass
class Ends:
    """The relay, and a client and a server that are connected through it."""

    relay: FaultRelay
    client: Peer
    server: Peer

    def both_ways(self, direction: str) -> tuple[Peer, Peer]:
        """Who sends and who receives in this direction."""
        return (self.client, self.server) if direction == "up" else (self.server, self.client)

    @property
    def connection(self) -> RelayedConnection:
        (connection,) = self.relay.connections
        return connection

    async def is_over(self) -> None:
        """Wait until the relay has let go of the connection."""
        await eventually(lambda: not self.relay.connections)


def bare_server(backlog: int = 128) -> tuple[socket.socket, Address]:
    """A listening socket, and where it is."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    listening.setblocking(False)
    return listening, Address(*listening.getsockname())


@asynccontextmanager
async def ends(*, receive_buffer: int = 0, **options: Any) -> AsyncIterator[Ends]:
    """Two bare sockets, and a relay between them."""
    listening, address = bare_server()
    if receive_buffer:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    with listening:
        async with FaultRelay(address, **options) as relay:
            async with await Peer.connect(relay.address, receive_buffer=receive_buffer) as client:
                async with await Peer.accept(listening) as server:
                    await eventually(lambda: relay.connections)
                    yield Ends(relay, client, server)
