"""Places to listen and to connect to, one for each transport."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

import tieline
from support.peers import Peer

__all__ = ["Place", "Secrets"]


@dataclass(frozen=True)
class Secrets:
    """What TLS needs on both sides."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    authority: trustme.CA
    certificate: trustme.LeafCert


@dataclass(frozen=True)
class Place:
    """Where a server listens, and how to get to it."""

    transport: str
    listen: str
    server_tls: ssl.SSLContext | None = None
    client_tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, transport: str, secrets: Secrets, folder: Path) -> Place:
        if transport == "tls":
            return cls(transport, "127.0.0.1:0", secrets.server, secrets.client)
        listen = {
            "tcp4": "127.0.0.1:0",
            "tcp6": "[::1]:0",
            "unix": f"unix:{folder}/server.sock",
        }[transport]
        return cls(transport, listen)

    @property
    def is_tls(self) -> bool:
        return self.server_tls is not None

    @property
    def is_tcp(self) -> bool:
        return self.transport != "unix"

    def serve(self, handler: Any, **options: Any) -> tieline.Server:
        """A server of ours, here."""
        return tieline.serve(handler, self.listen, tls=self.server_tls, **options)

    def connect(self, server: tieline.Server, **options: Any) -> Any:
        """A client of ours, to that server."""
        options.setdefault("tls", self.client_tls)
        return tieline.connect(server.addresses[0], **options)

    async def ask(self, server: tieline.Server, message: Any, **options: Any) -> Any:
        """A short connection of ours, to that server."""
        return await tieline.ask(server.addresses[0], message, tls=self.client_tls, **options)

    async def peer(self, server: tieline.Server, **options: Any) -> Peer:
        """A foreign client, to that server."""
        return await Peer.connect(server.addresses[0], self.client_tls, **options)

    async def is_turned_away(self, server: tieline.Server, **options: Any) -> bool:
        """Whether a newcomer is reset (over a Unix socket: sees the end) without a word."""
        try:
            async with await Peer.connect(server.addresses[0], None, **options) as peer:
                return await peer.receive_all() == b"" and not self.is_tcp
        except ConnectionResetError:
            return True

    async def ask_fails(self, server: tieline.Server) -> bool:
        """Whether nobody listens here any more."""
        try:
            await self.ask(server, b"anybody?")
        except tieline.ConnectError:
            return True
        return False
