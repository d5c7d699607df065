"""A crowd of clients: as many sessions as are wanted, each with an exchange of its own.

Options: `sources`, from how many addresses of 127/8 they come.

Orders: `come` (`port`, `count`) connects so many more, and each exchanges a line; it tells how many
were answered, and how the others fared. `talk`: each that is there exchanges one more line. `ended`
waits until so many have been ended, and tells how. `leave` ends all, or, with `how`, cuts them off.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any

from many.guard_proofs.orders import (
    Do,
    connected,
    obey,
    options,
    raise_descriptor_limit,
    reset,
    run,
)

#: Connecting at once: fewer than any backlog holds.
_AT_ONCE = 200

_PATIENCE = 60.0


class Crowd:
    """Those who are there."""

    def __init__(self, sources: int) -> None:
        self._sources = sources
        self._come = 0
        self._clients: dict[socket.socket, int] = {}

    async def come(self, port: int, count: int, patience: float = _PATIENCE) -> dict[str, Any]:
        fates: Counter[str] = Counter()
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> None:
            async with room:
                client = None
                try:
                    async with asyncio.timeout(patience):
                        client = await connected(port, self._source(number))
                        self._clients[client] = number
                        await self._exchange(client)
                except (OSError, EOFError) as error:
                    fates[type(error).__name__] += 1
                    if client is not None:
                        del self._clients[client]
                        client.close()
                else:
                    fates["answered"] += 1

        first, self._come = self._come, self._come + count
        async with asyncio.TaskGroup() as group:
            for number in range(first, self._come):
                group.create_task(one(number))
        return {"fates": fates}

    def _source(self, number: int) -> str:
        at = number % self._sources
        return f"127.3.{at // 250}.{at % 250 + 1}"

    async def _exchange(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        asked = b"I am number %d\n" % self._clients[client]
        await loop.sock_sendall(client, asked)
        got = b""
        while len(got) < len(asked):
            data = await loop.sock_recv(client, 1000)
            if not data:
                raise EOFError
            got += data
        assert got == asked, got

    async def talk(self) -> dict[str, Any]:
        fates: Counter[str] = Counter()
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(client: socket.socket) -> None:
            async with room:
                try:
                    async with asyncio.timeout(_PATIENCE):
                        await self._exchange(client)
                except (OSError, EOFError) as error:
                    fates[type(error).__name__] += 1
                else:
                    fates["answered"] += 1

        async with asyncio.TaskGroup() as group:
            for client in self._clients:
                group.create_task(one(client))
        return {"fates": fates}

    async def ended(self) -> dict[str, Any]:
        fates: Counter[str] = Counter()

        async def one(client: socket.socket) -> None:
            try:
                async with asyncio.timeout(_PATIENCE):
                    left = await asyncio.get_running_loop().sock_recv(client, 1000)
                    fates["words" if left else "end"] += 1
            except OSError as error:
                fates[type(error).__name__] += 1
            client.close()

        async with asyncio.TaskGroup() as group:
            for client in self._clients:
                group.create_task(one(client))
        self._clients.clear()
        return {"fates": fates}

    async def leave(self, how: str = "end") -> None:
        for client in self._clients:
            reset(client) if how == "reset" else client.close()
        self._clients.clear()


async def main() -> None:
    told = options()
    raise_descriptor_limit()
    crowd = Crowd(told.get("sources", 1))

    async def begin() -> dict[str, Any]:
        return {}

    orders: dict[str, Do] = {
        "come": crowd.come, "talk": crowd.talk, "ended": crowd.ended, "leave": crowd.leave,
    }  # fmt: skip
    await obey(orders, begin)
    await crowd.leave("reset")


if __name__ == "__main__":
    run(main)
