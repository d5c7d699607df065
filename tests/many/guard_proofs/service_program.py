"""What is behind a guard: a service that answers lines, and sends without end to those who ask.

Options: `port` (0: any), `name`. Of a line it sends back all, but

    who X       is answered with `NAME X`
    bye X       in the same way, and then it ends the stream
    !           with bytes without end

The order `connections` tells how many there are, and how many there have been.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from many.guard_proofs.orders import obey, options, raise_descriptor_limit, run

_FLOOD = b"x" * 65_536


class Answers(asyncio.Protocol):
    """One connection."""

    everyone: set[Answers] = set()  # noqa: RUF012 - one for the process is meant
    served = 0
    name = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are none of asyncio's by class.
        self._transport = cast(asyncio.Transport, transport)
        self._rest = b""
        self._floods = self._may_flood = False
        self.everyone.add(self)
        Answers.served += 1

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith((b"who ", b"bye ")):
                self._transport.write(b"%s %s\n" % (self.name, line[4:]))
                if line.startswith(b"bye "):
                    self._transport.close()
            elif line == b"!":
                self._floods = self._may_flood = True
                self._flood()
            else:
                self._transport.write(line + b"\n")

    def _flood(self) -> None:
        # In turns, so that others are answered as well.
        if self._may_flood and not self._transport.is_closing():
            self._transport.write(_FLOOD)
            asyncio.get_running_loop().call_soon(self._flood)

    def pause_writing(self) -> None:
        self._may_flood = False

    def resume_writing(self) -> None:
        if self._floods:
            self._may_flood = True
            asyncio.get_running_loop().call_soon(self._flood)

    def abort(self) -> None:
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._may_flood = False
        self.everyone.discard(self)


async def main() -> None:
    told = options()
    Answers.name = told.get("name", "service").encode()
    raise_descriptor_limit()
    listening = socket.create_server(("127.0.0.1", told.get("port", 0)), backlog=4096)

    server = None

    async def begin() -> dict[str, Any]:
        nonlocal server
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Answers, sock=listening, backlog=4096)
        return {"port": listening.getsockname()[1]}

    async def connections() -> dict[str, Any]:
        return {"open": len(Answers.everyone), "served": Answers.served}

    await obey({"connections": connections}, begin)
    if server is not None:
        server.close()
    for each in list(Answers.everyone):
        each.abort()
    while Answers.everyone:
        await asyncio.sleep(0)


if __name__ == "__main__":
    run(main)
