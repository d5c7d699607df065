"""An asyncio Protocol that refuses what one client opens beyond its cap. Else it echoes."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar, cast

from peer_tools import BACKLOG, HOST, loop_parser, run, serve_until_told


class Capped(asyncio.Protocol):
    """Echoes on one connection, unless its client has too many."""

    held: ClassVar[Counter[str]] = Counter()
    refused = 0
    cap = 0

    transport: asyncio.Transport
    host: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, or cut it off."""
        self.transport = cast(asyncio.Transport, transport)
        host = transport.get_extra_info("peername")[0]
        if self.held[host] >= self.cap:
            type(self).refused += 1
            self.transport.abort()
            return
        self.host = host
        self.held[host] += 1

    def data_received(self, data: bytes) -> None:
        """Send back what came."""
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Its place is free."""
        if self.host is not None:
            self.held[self.host] -= 1
            if self.held[self.host] == 0:
                del self.held[self.host]


async def serve(port: int) -> None:
    """Serve until terminated."""
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Capped, HOST, port, backlog=BACKLOG):
        await serve_until_told(stalls=False, count=lambda: {"refused": Capped.refused})


if __name__ == "__main__":
    parser = loop_parser()
    parser.add_argument("--per-client", type=int, required=True, metavar="N")
    options = parser.parse_args()
    Capped.cap = options.per_client
    run(serve(options.port), options.loop)
