"""Thousands of clients at once.

Options: `sources`, from how many addresses of 127/8 they come.

Orders: `storm` (`port`, `count`) has all begin to connect before any is looked at. Each says a line
once it is connected. It returns when each has been answered, or turned away, and tells how many of
each; `gone` how many of the answered have been ended since; `leave` lets all go.
"""

from __future__ import annotations

import select
import socket
import time
from collections import Counter
from typing import Any

from many.guard_proofs.orders import obey, options, raise_descriptor_limit, reset, run

_IP_BIND_ADDRESS_NO_PORT = 24  # a constant of Linux's that socket has from Python 3.12 on
_PATIENCE = 120.0
_LINE = b"anybody there?\n"


class Storm:
    """The clients."""

    def __init__(self, sources: int) -> None:
        self._sources = sources
        self._answered: list[socket.socket] = []

    async def storm(self, port: int, count: int) -> dict[str, Any]:
        fates: Counter[str] = Counter()
        begun = time.monotonic()
        clients: dict[int, socket.socket] = {}
        with select.epoll() as poll:
            for number in range(count):
                client = socket.socket()
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                client.bind((f"127.7.0.{number % self._sources + 1}", 0))
                client.connect_ex(("127.0.0.1", port))
                poll.register(client.fileno(), select.EPOLLOUT)
                clients[client.fileno()] = client
            offered = time.monotonic() - begun
            while clients:
                events = poll.poll(_PATIENCE)
                assert events, f"{len(clients)} hear nothing"
                for descriptor, mask in events:
                    client = clients[descriptor]
                    fate = self._serve(client, mask)
                    if fate is None:
                        poll.modify(descriptor, select.EPOLLIN)
                        continue
                    fates[fate] += 1
                    poll.unregister(descriptor)
                    del clients[descriptor]
                    if fate == "answered":
                        self._answered.append(client)
                    else:
                        client.close()
        return {"fates": fates, "offered": offered, "took": time.monotonic() - begun}

    def _serve(self, client: socket.socket, mask: int) -> str | None:
        """What has become of it; `None`: not decided."""
        try:
            if mask == select.EPOLLOUT:
                client.send(_LINE)
                return None
            answer = client.recv(100)
        except OSError as error:
            return type(error).__name__
        if not answer:
            return "end"
        assert answer == _LINE
        return "answered"

    async def gone(self) -> dict[str, Any]:
        poll = select.poll()
        for client in self._answered:
            poll.register(client, select.POLLRDHUP)
        return {"gone": len(poll.poll(0))}

    async def leave(self) -> None:
        for client in self._answered:
            reset(client)
        self._answered.clear()


async def main() -> None:
    told = options()
    raise_descriptor_limit()
    storm = Storm(told["sources"])

    async def begin() -> dict[str, Any]:
        return {}

    await obey({"storm": storm.storm, "gone": storm.gone, "leave": storm.leave}, begin)
    await storm.leave()


if __name__ == "__main__":
    run(main)
