"""Clients that ask for bytes without end and read none of them; or that are quiet.

Options: `count`.

Orders: `come` (`port`, `how`: `stalled` or `quiet`) opens them, and returns when nothing more can
come; `ended` tells how many the guard has cut off since; `leave` cuts all off.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import select
import socket
import termios
from typing import Any

from many.guard_proofs.orders import connected, obey, options, raise_descriptor_limit, reset, run

#: Seconds between looks at whether more has come, and how many in a row have to find nothing.
_LOOK = 0.02
_QUIET = 10


class Clients:
    """Those who are there."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._clients: list[socket.socket] = []

    async def come(self, port: int, how: str) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        for _ in range(self._count):
            client = await connected(port, "127.6.0.1")
            self._clients.append(client)
            await loop.sock_sendall(client, b"!\n" if how == "stalled" else b"hello\n")
            if how == "quiet":
                assert await loop.sock_recv(client, 100) == b"hello\n"
        if how == "stalled":
            await self._wait_until_full()
        return {"unread": sum(map(self._unread, self._clients))}

    def _unread(self, client: socket.socket) -> int:
        waiting = array.array("i", [0])
        fcntl.ioctl(client, termios.FIONREAD, waiting)
        return waiting[0]

    async def _wait_until_full(self) -> None:
        quiet, before = 0, -1
        async with asyncio.timeout(60.0):
            while quiet < _QUIET:
                await asyncio.sleep(_LOOK)
                unread = [self._unread(client) for client in self._clients]
                quiet = quiet + 1 if sum(unread) == before and all(unread) else 0
                before = sum(unread)

    async def ended(self) -> dict[str, Any]:
        poll = select.poll()
        for client in self._clients:
            poll.register(client, select.POLLRDHUP)
        gone = poll.poll(0)
        return {"cut off": sum(1 for _, events in gone if events & select.POLLERR)}

    async def leave(self) -> None:
        for client in self._clients:
            reset(client)
        self._clients.clear()


async def main() -> None:
    told = options()
    raise_descriptor_limit()
    clients = Clients(told["count"])

    async def begin() -> dict[str, Any]:
        return {}

    await obey({"come": clients.come, "ended": clients.ended, "leave": clients.leave}, begin)
    await clients.leave()


if __name__ == "__main__":
    run(main)
