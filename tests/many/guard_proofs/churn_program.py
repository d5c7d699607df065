"""Both kinds of ends of sessions that come and go in every way there is, all by seed.

Options: `role` (`client` or `service`), `seed`, `name`; for clients `workers` and `sources`.

Orders for clients: `start` (`port`), `stop`. For both: `report`, what each session has seen, as a
list of `Story`; `open`, how many there are.

A client's first word is its number, from which a service makes its own part: so each side's bytes
are its own, and the other can tell them from all others'.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from dataclasses import asdict, dataclass
from typing import Any

from many.guard_proofs.orders import connected, obey, options, raise_descriptor_limit, reset, run

#: Longest that a session may wait for anything. The guard's clocks are shorter.
_PATIENCE = 20.0

#: Bytes after which a side's own repeat; no multiple of what anybody reads or writes at once.
_PERIOD = 61_001

_FIRST = 9  # bytes of a client's first word


@dataclass
class Story:
    """What one side of a session has done and seen.

    Attributes:
        number: of the session; 0 while it is not known.
        address: the client's, on its own side.
        sent: bytes that its kernel took.
        came: bytes that have come; all of them were the other side's.
        how: how it left: `end`, having ended its stream and read the other's to the end;
            `ended`, its own stream only; `closed`, an end if nothing was unread; or `reset`.
        saw: how the other's stream ended: `end`, `reset`, or `nothing` it waited for.
        wrong: what came that nobody had sent.
    """

    number: int = 0
    address: str = ""
    sent: int = 0
    came: int = 0
    how: str = "reset"
    saw: str = "nothing"
    wrong: str = ""


class Bytes:
    """What one side of a session sends: its own, to the last byte."""

    def __init__(self, number: int, side: str) -> None:
        self._period = random.Random(f"{number} {side}").randbytes(_PERIOD)

    def at(self, offset: int, size: int) -> bytes:
        start = offset % _PERIOD
        data = self._period[start : start + size]
        while len(data) < size:
            data += self._period[: size - len(data)]
        return data


class End:
    """One side of a session while it lives."""

    def __init__(self, connected: socket.socket, chance: random.Random) -> None:
        self.socket = connected
        self.story = Story()
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        # Sending was told of a reset; then receiving is told nothing but an end.
        self._was_reset = False

    async def live(self, side: str, other: str, first: bytes = b"") -> None:
        """Send and receive as chance will have it, and end in one of the ways."""
        story, chance = self.story, self._chance
        mine, theirs = Bytes(story.number, side), Bytes(story.number, other)
        size = int(chance.choice([0, 1, 40, 3_000, 100_000, 100_000, 2_000_000]) * chance.random())
        ending = chance.choice(["end", "end", "end", "reset", "close", "stall", "leave"])
        sending = asyncio.create_task(self._send(first, mine, size))
        receiving = asyncio.create_task(self._receive(theirs, ending))
        try:
            async with asyncio.timeout(_PATIENCE):
                story.how = await self._end_by(ending, sending, receiving)
        except TimeoutError:
            pass
        finally:
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)
            if story.how in ("end", "closed"):
                self.socket.close()
            else:
                reset(self.socket)

    async def _end_by(
        self, ending: str, sending: asyncio.Task[bool], receiving: asyncio.Task[None]
    ) -> str:
        """In one of the ways; returns how it left."""
        if not await sending:
            # What it can still receive says why.
            await receiving
        elif ending == "end":
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                return "reset"
            self.story.how = "ended"
            await receiving
            return "end" if self.story.saw == "end" else "ended"
        elif ending == "close":
            return "closed"
        elif ending == "stall":
            await asyncio.sleep(self._chance.random() * 4.0)
        return "reset"

    async def _send(self, first: bytes, mine: Bytes, size: int) -> bool:
        """Returns whether all of it could be sent."""
        story, chance = self.story, self._chance
        try:
            await self._send_all(first)
            while story.sent < size:
                piece = min(size - story.sent, int(2 ** chance.uniform(0, 18)))
                await self._send_all(mine.at(story.sent, piece), counts=True)
                if chance.random() < 0.2:
                    await asyncio.sleep(chance.random() * 0.05)
        except OSError:
            self._was_reset = True
            return False
        return True

    async def _send_all(self, data: bytes, counts: bool = False) -> None:
        view = memoryview(data)
        while view:
            try:
                size = self.socket.send(view)
            except BlockingIOError:
                await self._writable()
                continue
            view = view[size:]
            if counts:
                self.story.sent += size

    async def _writable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(self.socket, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_writer(self.socket)

    async def _receive(self, theirs: Bytes, ending: str) -> None:
        """To the end of the other's stream; who stalls reads only once."""
        story, chance = self.story, self._chance
        if chance.random() < 0.1:
            await asyncio.sleep(chance.random() * 3.0)
        while not (ending == "stall" and story.came):
            try:
                data = await self._loop.sock_recv(self.socket, int(2 ** chance.uniform(0, 18)))
            except OSError:
                story.saw = "reset"
                return
            if not data:
                story.saw = "reset" if self._was_reset else "end"
                return
            if data != theirs.at(story.came, len(data)):
                story.wrong = f"at {story.came}, {len(data)} bytes"
            story.came += len(data)


class Role:
    """What both roles have."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._seed = told["seed"]
        self._stories: list[Story] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0

    def _begin(self, session: Any) -> None:
        task = asyncio.get_running_loop().create_task(session)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self, connected: socket.socket) -> End:
        self._count += 1
        return End(connected, random.Random(f"{self._seed} {self._count}"))

    async def report(self) -> dict[str, Any]:
        stories, self._stories = self._stories, []
        return {"stories": [asdict(each) for each in stories]}

    async def open(self) -> dict[str, Any]:
        return {"open": len(self._tasks)}


class Service(Role):
    """Accepts, and lives a session with each."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listening.setblocking(False)

    async def begin(self) -> dict[str, Any]:
        asyncio.get_running_loop().add_reader(self._listening, self._accept)
        return {"port": self._listening.getsockname()[1]}

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                accepted, _ = self._listening.accept()
                accepted.setblocking(False)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._begin(self._one(self._end(accepted)))

    async def _one(self, end: End) -> None:
        chance = random.Random(f"{self._seed} early {self._count}").random()
        if chance < 0.03:
            reset(end.socket)
            return
        if chance < 0.06:
            end.socket.close()
            return
        loop = asyncio.get_running_loop()
        word = b""
        try:
            async with asyncio.timeout(_PATIENCE):
                while len(word) < _FIRST:
                    data = await loop.sock_recv(end.socket, _FIRST - len(word))
                    if not data:
                        break
                    word += data
        except (OSError, TimeoutError):
            word = b""
        if len(word) < _FIRST:
            end.socket.close()
            return
        end.story.number = int(word)
        self._stories.append(end.story)
        await end.live("service", "client")

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()


class Clients(Role):
    """So many at a time, each a session after the other."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told)
        self._workers = told["workers"]
        self._sources = told["sources"]
        self._first = told.get("first", 1_000_000)
        self._going = False

    async def begin(self) -> dict[str, Any]:
        return {}

    async def start(self, port: int) -> None:
        self._going = True
        for number in range(self._workers):
            self._begin(self._work(port, random.Random(f"{self._seed} worker {number}")))

    async def _work(self, port: int, chance: random.Random) -> None:
        while self._going:
            source = f"127.8.0.{chance.randrange(self._sources) + 1}"
            try:
                async with asyncio.timeout(_PATIENCE):
                    client = await connected(port, source)
            except (OSError, TimeoutError):
                await asyncio.sleep(0.05)
                continue
            end = self._end(client)
            how = chance.random()
            if how < 0.04:
                reset(client)
            elif how < 0.08:
                client.close()
            elif how < 0.10:
                # Says nothing, until it is sent away.
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(_PATIENCE):
                        await asyncio.get_running_loop().sock_recv(client, 1)
                client.close()
            else:
                story = end.story
                story.number = self._first + self._count
                host, local = client.getsockname()
                story.address = f"{host}:{local}"
                self._stories.append(story)
                await end.live("client", "service", b"%09d" % story.number)

    async def stop(self) -> dict[str, Any]:
        self._going = False
        if self._tasks:
            await asyncio.wait(self._tasks)
        return {"sessions": self._count}


async def main() -> None:
    told = options()
    raise_descriptor_limit()
    role: Any = Clients(told) if told["role"] == "client" else Service(told)
    names = ("report", "open", *(("start", "stop") if told["role"] == "client" else ()))
    await obey({name: getattr(role, name) for name in names}, role.begin)
    if isinstance(role, Service):
        role.close()
    else:
        await role.stop()
    tasks = list(role._tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    run(main, "asyncio")
