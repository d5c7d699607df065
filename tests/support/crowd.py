"""A crowd of clients in a process of its own: thousands of bare connections at once.

    python -m support.crowd PORT COUNT

Comes from several addresses of 127/8, as several machines would. Prints `connected` once all
of them are, then obeys the lines of its standard input:

    talk    send a line of its own on each connection, check that each gets that line back
    leave   end every connection and wait for the server's end
    listen  wait until the server has ended every connection

and answers each with `done`, or with what went wrong.
"""

from __future__ import annotations

import asyncio
import resource
import select
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["Crowd", "crowd"]

#: Clients that come from one address: fewer than it has ports, or than a server may admit.
_PER_ADDRESS = 1000


class Crowd:
    """The process, and how to talk to it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def answer(self) -> str:
        """Its next line."""
        assert self._process.stdout is not None
        async with asyncio.timeout(100):
            return (await self._process.stdout.readline()).decode().strip()

    async def obey(self, order: str) -> str:
        """Give an order, return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(order.encode() + b"\n")
        return await self.answer()


@asynccontextmanager
async def crowd(port: int, count: int) -> AsyncIterator[Crowd]:
    """So many clients of the server on this port, connected."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "support.crowd", str(port), str(count),
        cwd=Path(__file__).parent.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        clients = Crowd(process)
        assert await clients.answer() == "connected"
        yield clients
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        for _ in range(5):  # the loop closes the pipes in its next rounds
            await asyncio.sleep(0)


def _connect(port: int, count: int) -> dict[int, socket.socket]:
    clients = {}
    for number in range(count):
        client = socket.socket()
        # The port is chosen together with the destination, so that addresses can be shared.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind((f"127.0.1.{number // _PER_ADDRESS + 1}", 0))
        client.connect(("127.0.0.1", port))
        clients[client.fileno()] = client
    return clients


def _talk(clients: dict[int, socket.socket]) -> str:
    poller = select.epoll()
    expected = {}
    for descriptor, client in clients.items():
        expected[descriptor] = b"I am number %d\n" % descriptor
        client.sendall(expected[descriptor])
        poller.register(descriptor, select.EPOLLIN)
    while expected:
        events = poller.poll(60)
        if not events:
            return f"{len(expected)} were not answered"
        for descriptor, _ in events:
            answer = clients[descriptor].recv(1024)
            if answer != expected.pop(descriptor, None):
                return f"a wrong answer: {answer!r}"
    poller.close()
    return "done"


def _end(clients: dict[int, socket.socket], first: bool) -> str:
    for client in clients.values():
        if first:
            client.shutdown(socket.SHUT_WR)
    for client in clients.values():
        client.settimeout(60)
        if (last := client.recv(1024)) != b"":
            return f"unexpected last words: {last!r}"
        client.close()
    return "done"


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients = _connect(int(sys.argv[1]), int(sys.argv[2]))
    print("connected", flush=True)
    for order in sys.stdin:
        if order == "talk\n":
            print(_talk(clients), flush=True)
        else:
            print(_end(clients, first=order == "leave\n"), flush=True)


if __name__ == "__main__":
    main()
