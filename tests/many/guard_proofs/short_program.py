"""Short sessions at a steady rate, whatever becomes of those before: nobody waits for anybody.

Options: `seed`, `sources`.

Orders: `start` (`port`, `rate`) begins; `stop` ends, and tells how many were asked and answered,
who answered, and what went wrong.

A session is, by chance, a question after which the client leaves; a question behind which it ends
its stream; one after which the service ends; or several, over half a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections import Counter
from typing import Any

from many.guard_proofs.orders import connected, obey, options, raise_descriptor_limit, run

_PATIENCE = 20.0


class Load:
    """The sessions."""

    def __init__(self, seed: int, sources: int) -> None:
        self._chance = random.Random(seed)
        self._sources = sources
        self._asked = 0
        self._answered: Counter[str] = Counter()
        self._wrong: Counter[str] = Counter()
        self._took: list[float] = []
        self._late = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._going: asyncio.Task[None] | None = None

    async def start(self, port: int, rate: float) -> None:
        self._going = asyncio.create_task(self._go(port, rate))

    async def _go(self, port: int, rate: float) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        number = 0
        while True:
            due = int((loop.time() - begun) * rate)
            self._late = max(self._late, (due - number) / rate)
            while number < due:
                number += 1
                task = loop.create_task(self._one(port, number, self._chance.random()))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(0.002)

    async def _one(self, port: int, number: int, chance: float) -> None:
        self._asked += 1
        begun = time.monotonic()
        where = "connecting"
        client = None
        try:
            async with asyncio.timeout(_PATIENCE):
                source = number % self._sources
                client = await connected(port, f"127.4.{source // 250}.{source % 250 + 1}")
                where = "talking"
                await self._talk(client, number, chance)
        except Exception as error:
            self._wrong[f"{where}: {type(error).__name__}: {error}"] += 1
        else:
            self._took.append(time.monotonic() - begun)
        finally:
            if client is not None:
                client.close()

    async def _talk(self, client: socket.socket, number: int, chance: float) -> None:
        if chance < 0.4:
            await self._ask(client, b"who", number)
        elif chance < 0.6:
            await self._ask(client, b"who", number, ends=True)
        elif chance < 0.8:
            await self._ask(client, b"bye", number)
        else:
            for more in range(5):
                await self._ask(client, b"who", number * 10 + more, counts=not more)
                await asyncio.sleep(0.1)

    async def _ask(
        self,
        client: socket.socket,
        how: bytes,
        number: int,
        ends: bool = False,
        counts: bool = True,
    ) -> None:
        """A question, and the answer to it; to its end, if either side ends its stream."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, b"%s %d\n" % (how, number))
        if ends:
            client.shutdown(socket.SHUT_WR)
        got = b""
        until_end = ends or how == b"bye"
        while until_end or not got.endswith(b"\n"):
            data = await loop.sock_recv(client, 1000)
            if not data:
                break
            got += data
        name, _, rest = got.decode().partition(" ")
        if rest != f"{number}\n":
            raise ValueError(f"a wrong answer: {got!r}")
        if counts:
            self._answered[name] += 1

    def _told(self) -> dict[str, Any]:
        took = sorted(self._took) or [0.0]
        return {
            "asked": self._asked, "answered": self._answered.total(), "by": self._answered,
            "wrong": self._wrong, "late": self._late,
            "p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100],
        }  # fmt: skip

    async def stop(self) -> dict[str, Any]:
        if self._going is not None:
            self._going.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._going
            self._going = None
        while self._tasks:
            await asyncio.wait(self._tasks)
        return self._told()


async def main() -> None:
    told = options()
    raise_descriptor_limit()
    load = Load(told["seed"], told.get("sources", 100))

    async def begin() -> dict[str, Any]:
        return {}

    await obey({"start": load.start, "stop": load.stop}, begin)
    await load.stop()


if __name__ == "__main__":
    run(main)
