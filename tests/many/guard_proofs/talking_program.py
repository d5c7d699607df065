"""Sessions that talk at a steady rate: each question is sent in its time, whatever became of those
before, and each answer is timed.

Options: `sessions`, `rate` (questions a second, of all), `sources`.

Orders: `come` (`port`) opens all; `measure` (`seconds`) tells the percentiles of that time and what
went wrong in it; `leave` ends all.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from typing import Any, cast

from many.guard_proofs.orders import connected, obey, options, raise_descriptor_limit, run

_PATIENCE = 20.0


class Talker(asyncio.Protocol):
    """One session."""

    def __init__(self, talk: Talk, number: int) -> None:
        self._talk = talk
        self._number = number
        self._asked: deque[tuple[bytes, float]] = deque()
        self._count = 0
        self._rest = b""
        self.is_there = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are none of asyncio's by class.
        self._transport = cast(asyncio.Transport, transport)

    def ask(self) -> None:
        self._count += 1
        question = b"%d asks for the time %d" % (self._number, self._count)
        self._asked.append((question, time.monotonic()))
        self._transport.write(question + b"\n")

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        *answers, self._rest = (self._rest + data).split(b"\n")
        for answer in answers:
            question, asked = self._asked.popleft()
            if answer != question:
                self._talk.wrong["wrong answers"] += 1
            self._talk.took.append(now - asked)

    @property
    def owed(self) -> int:
        """Questions that are not answered yet."""
        return len(self._asked)

    def leave(self) -> None:
        self.is_there = False
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self.is_there:
            self._talk.wrong[f"ended: {error!r}"] += 1
            self.is_there = False


class Talk:
    """All of them."""

    def __init__(self, sessions: int, rate: float, sources: int) -> None:
        self._count = sessions
        self._rate = rate
        self._sources = sources
        self._chance = random.Random(1)
        self._talkers: list[Talker] = []
        self.took: list[float] = []
        self.wrong: Counter[str] = Counter()

    async def come(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        for number in range(self._count):
            source = number % self._sources
            client = await connected(port, f"127.5.{source // 250}.{source % 250 + 1}")
            made = Talker(self, number)
            await loop.create_connection(lambda made=made: made, sock=client)  # type: ignore[misc]
            self._talkers.append(made)
            made.ask()
        await self._settle()
        assert len(self.took) == self._count, self.wrong

    async def _settle(self) -> None:
        """Wait until nobody waits for an answer any more."""
        async with asyncio.timeout(_PATIENCE):
            while any(each.owed and each.is_there for each in self._talkers):
                await asyncio.sleep(0.005)

    async def measure(self, seconds: float) -> dict[str, Any]:
        self.took.clear()
        self.wrong.clear()
        begun = time.monotonic()
        asked = 0
        while (now := time.monotonic() - begun) < seconds:
            while asked < now * self._rate:
                asked += 1
                self._chance.choice(self._talkers).ask()
            await asyncio.sleep(0.002)
        await self._settle()
        took = sorted(self.took)
        assert took
        return {
            "asked": asked, "answered": len(took), "wrong": self.wrong,
            "p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100], "most": took[-1],
        }  # fmt: skip

    async def leave(self) -> None:
        for each in self._talkers:
            each.leave()
        self._talkers.clear()
        await asyncio.sleep(0)


async def main() -> None:
    told = options()
    raise_descriptor_limit()
    talk = Talk(told["sessions"], told["rate"], told.get("sources", 20))

    async def begin() -> dict[str, Any]:
        return {}

    await obey({"come": talk.come, "measure": talk.measure, "leave": talk.leave}, begin)
    await talk.leave()


if __name__ == "__main__":
    run(main)
