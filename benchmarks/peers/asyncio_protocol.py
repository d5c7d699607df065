"""A bare asyncio.Protocol: echoes what it reads. No framing, no timeouts."""

from __future__ import annotations

import asyncio
from typing import cast

from peer_tools import BACKLOG, HOST, loop_parser, run, serve_until_told


class Echo(asyncio.Protocol):
    """Echoes one connection."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Send everything back."""
        self.transport.write(data)


async def serve(port: int, stalls: bool) -> None:
    """Serve until terminated."""
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Echo, HOST, port, backlog=BACKLOG):
        await serve_until_told(stalls)


if __name__ == "__main__":
    options = loop_parser().parse_args()
    run(serve(options.port, options.stalls), options.loop)
