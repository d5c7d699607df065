"""A connection of ours with a foreign peer at its other end."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import tieline
from support.peers import Peer
from support.transports import Place
from tieline import Address, Connection

__all__ = ["connected_pair", "listening"]


def listening(place: Place) -> tuple[socket.socket, Address]:
    """A bare listening socket, here."""
    where = tieline.parse_address(place.listen)
    if where.is_unix:
        bare = socket.socket(socket.AF_UNIX)
        bare.bind(where.path)
    else:
        bare = socket.socket(socket.AF_INET6 if ":" in where.host else socket.AF_INET)
        bare.bind((where.host, 0))
    bare.listen()
    bare.setblocking(False)
    return bare, Address.from_socket_name(bare.family, bare.getsockname())


@asynccontextmanager
async def connected_pair(place: Place, **options: Any) -> AsyncIterator[tuple[Connection, Peer]]:
    """Our client, and the foreign server it is connected to. Both are gone afterwards."""
    bare, address = listening(place)
    with bare:
        if place.is_tls:
            raise NotImplementedError("over TLS, let a server of ours and a Peer meet")
        ours = await tieline.connect(address, **options)
        theirs = await Peer.accept(bare)
        try:
            yield ours, theirs
        finally:
            theirs.close()
            ours.abort()
            await ours.wait_closed()
