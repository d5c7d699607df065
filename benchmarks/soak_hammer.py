"""Clients that come from many addresses, all at once, and leave in every way there is.

    python benchmarks/soak_hammer.py PORT SECONDS SEED NUMBER PER_CLIENT

One of several such processes; NUMBER says which addresses are its own. It sees its part of the
truth: connections that are established, have been answered, and that it has not begun to close, are
held by the server, so that of one address there are never more than PER_CLIENT of them. Prints what
it did, as JSON.
"""

from __future__ import annotations

import asyncio
import errno
import json
import random
import socket
import struct
import sys
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable

ADDRESSES = 20  # of one process, in two networks of 256
HOT = 4  # of these; they get most of the connections
WORKERS = 48
PATIENCE = 1.0  # seconds for an answer: at the total cap a client waits its turn

_LINGER_ZERO = struct.pack("ii", 1, 0)
_IP_BIND_ADDRESS_NO_PORT = 24  # a constant of Linux's that socket has from Python 3.12 on
_ESTABLISHED = 1  # the first byte of TCP_INFO


def addresses_of(number: int) -> list[str]:
    """The addresses of the process of that number."""
    half = ADDRESSES // 2
    return [f"127.{2 + i // half}.{number}.{1 + i % half}" for i in range(ADDRESSES)]


class Hammer:
    """The clients of one process."""

    def __init__(self, port: int, seed: int, number: int, per_client: int) -> None:
        self.counts: Counter[str] = Counter()
        self.most = 0
        self._port = port
        self._random = random.Random(f"{seed} {number}")
        self._addresses = addresses_of(number)
        self._per_client = per_client
        self._held: defaultdict[str, set[socket.socket]] = defaultdict(set)
        self._ways: list[Callable[[str, socket.socket], Awaitable[None]]] = [
            self._come_and_reset, self._come_and_end, self._ask_and_reset, self._ask_and_end,
            self._ask_and_half_close, self._ask_often, self._ask_and_stay, self._begin_a_line,
            self._have_it_closed, self._say_nothing,
        ]  # fmt: skip

    async def run(self, seconds: float) -> None:
        """All workers, until the time is over."""
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work(end))

    async def _work(self, end: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < end:
            among = self._addresses[:HOT] if self._random.random() < 0.7 else self._addresses
            await self._one(self._random.choice(among), self._random.choice(self._ways))

    async def _one(
        self, address: str, way: Callable[[str, socket.socket], Awaitable[None]]
    ) -> None:
        """One connection, from its beginning to its end."""
        client = socket.socket()
        client.setblocking(False)
        self.counts["connects"] += 1
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            client.bind((address, 0))
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self._port))
            await way(address, client)
        except (ConnectionError, EOFError):
            self.counts["ended by the server"] += 1  # refused, evicted, expired or aborted
        except TimeoutError:
            self.counts["gave up"] += 1
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # shutdown(2), after a reset
                raise
            self.counts["ended by the server"] += 1
        finally:
            self._held[address].discard(client)
            if self._random.random() < 0.5:
                _reset_on_close(client)
            client.close()

    # ---- Ways to behave

    async def _come_and_reset(self, address: str, client: socket.socket) -> None:
        _reset_on_close(client)

    async def _come_and_end(self, address: str, client: socket.socket) -> None:
        client.shutdown(socket.SHUT_WR)

    async def _ask_and_reset(self, address: str, client: socket.socket) -> None:
        await self._ask(address, client)
        _reset_on_close(client)

    async def _ask_and_end(self, address: str, client: socket.socket) -> None:
        await self._ask(address, client)

    async def _ask_and_half_close(self, address: str, client: socket.socket) -> None:
        await self._ask(address, client)
        self._held[address].discard(client)
        client.shutdown(socket.SHUT_WR)
        await self._hear_the_end(client)

    async def _ask_often(self, address: str, client: socket.socket) -> None:
        for _ in range(self._random.randrange(2, 6)):
            await self._ask(address, client)
            await asyncio.sleep(self._random.random() * 0.02)

    async def _ask_and_stay(self, address: str, client: socket.socket) -> None:
        await self._ask(address, client)
        await asyncio.sleep(self._random.random() * 0.4)

    async def _say_nothing(self, address: str, client: socket.socket) -> None:
        await asyncio.sleep(self._random.random() * 0.4)

    async def _begin_a_line(self, address: str, client: socket.socket) -> None:
        await self._ask(address, client)
        await asyncio.get_running_loop().sock_sendall(client, b"half a li")
        await asyncio.sleep(self._random.random() * 0.1)

    async def _have_it_closed(self, address: str, client: socket.socket) -> None:
        await self._ask(address, client)
        self._held[address].discard(client)
        order = self._random.choice([b"close\n", b"abort\n"])
        await asyncio.get_running_loop().sock_sendall(client, order)
        await self._hear_the_end(client)

    # ---- What they are made of

    async def _ask(self, address: str, client: socket.socket) -> None:
        """One line and its answer: now the server holds the connection."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            await loop.sock_sendall(client, b"how are you\n")
            answer = b""
            while not answer.endswith(b"\n"):
                more = await loop.sock_recv(client, 100)
                if not more:
                    raise EOFError
                answer += more
        if answer != b"how are you\n":
            self.counts["wrong answers"] += 1
        self.counts["answers"] += 1
        self._held[address].add(client)
        # What the server has ended meanwhile, this loop may not have got to: the kernel knows.
        held = sum(map(_is_established, self._held[address]))
        self.most = max(self.most, held)
        if held > self._per_client:
            self.counts["over the cap"] += 1

    async def _hear_the_end(self, client: socket.socket) -> None:
        async with asyncio.timeout(PATIENCE):
            while await asyncio.get_running_loop().sock_recv(client, 100):
                pass


def _is_established(client: socket.socket) -> bool:
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED


def _reset_on_close(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)


def main() -> None:
    """Hammer, and tell."""
    port, seconds, seed, number, per_client = (float(word) for word in sys.argv[1:])
    hammer = Hammer(int(port), int(seed), int(number), int(per_client))
    asyncio.run(hammer.run(seconds))
    print(json.dumps({"counts": hammer.counts, "most": hammer.most}))


if __name__ == "__main__":
    main()
