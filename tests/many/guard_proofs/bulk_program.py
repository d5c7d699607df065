"""One end of sessions through which much passes: bytes both ways at once, in random pieces.

Options: `role`, `client` or `service`; `sessions`; `seed`; for a service `certificate`, for a
client `authority`, if it is to be in TLS.

The order `go` (with `size`, bytes that each sends and expects, and for a client the `port`) moves
all of it. The answer has the SHA-256 of what was sent and of what came, for each session: with its
number here and there, which the first byte tells.
"""

from __future__ import annotations

import hashlib
import random
import select
import socket
import ssl
import time
from typing import Any

from many.guard_proofs.orders import obey, options, run

_LARGEST = 1_048_576

#: How long it does not read now and then, so that bytes pile up behind it.
_REST = 0.02
_RESTS = 0.002  # as a share of the reads


class End:
    """One session's end: what it sends, what it gets."""

    def __init__(self, connected: socket.socket, number: int, size: int, chance: random.Random):
        self.socket = connected
        self._chance = chance
        self._block = memoryview(chance.randbytes(2 * _LARGEST))
        self._buffer = memoryview(bytearray(_LARGEST))
        self._piece = memoryview(bytes([number]))
        self._left = size
        self._expected = size
        self.sent, self.came = hashlib.sha256(), hashlib.sha256()
        self.number = number
        self.number_there: int | None = None
        self.rests_until = 0.0
        self._is_secure = isinstance(connected, ssl.SSLSocket)
        self._has_ended = False

    @property
    def sends(self) -> bool:
        return not self._has_ended

    @property
    def receives(self) -> bool:
        return self._expected >= 0

    @property
    def events(self) -> int:
        """What to wait for."""
        reads = self.receives and self.rests_until == 0.0
        return (select.POLLOUT if self.sends else 0) | (select.POLLIN if reads else 0)

    def send(self) -> None:
        """The next piece, or what is left of the last: of 1 B to 1 MiB, small ones as often as
        large ones. Behind the last of them it ends its stream."""
        if self._left:
            try:
                size = self.socket.send(self._piece)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            self.sent.update(self._piece[:size])
            self._left -= size
            self._piece = self._piece[size:]
            if not self._piece:
                size = min(self._left, int(2 ** self._chance.uniform(0, 20)))
                at = self._chance.randrange(_LARGEST)
                self._piece = self._block[at : at + size]
        if not self._left:
            self._has_ended = True
            if not self._is_secure:
                self.socket.shutdown(socket.SHUT_WR)

    def receive(self) -> None:
        """Pieces of random sizes, until there is nothing that a poll would not tell of."""
        self._receive()
        while self.receives and not self.rests_until and self.pending:
            self._receive()

    @property
    def pending(self) -> int:
        """Bytes that are in TLS's hands, so that no poll tells of them."""
        return self.socket.pending() if isinstance(self.socket, ssl.SSLSocket) else 0

    def _receive(self) -> None:
        size = int(2 ** self._chance.uniform(10, 20))
        try:
            size = self.socket.recv_into(self._buffer[:size])
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        if self.number_there is None and size:
            self.number_there = self._buffer[0]
        self.came.update(self._buffer[:size])
        self._expected -= size
        if not size:
            assert self._expected == 0, f"the stream ended {self._expected} bytes early"
        if not size or (self._is_secure and self._expected == 0):
            # A stream of TLS is told to end once both of its directions are done.
            self._expected = -1
        elif self._chance.random() < _RESTS:
            self.rests_until = time.monotonic() + _REST


def move(ends: list[End]) -> None:
    """Everything, both ways."""
    poll = select.poll()
    known = {each.socket.fileno(): each for each in ends}
    for each in ends:
        poll.register(each.socket, each.events)
    while known:
        now = time.monotonic()
        ready = dict(poll.poll(5 if any(each.rests_until for each in known.values()) else 20_000))
        assert ready or any(each.rests_until for each in known.values()), "nothing moves any more"
        for descriptor, each in list(known.items()):
            if each.rests_until and each.rests_until < now:
                each.rests_until = 0.0
            events = ready.get(descriptor, 0)
            has_come = events & ~select.POLLOUT or each.pending
            if has_come and each.receives and not each.rests_until:
                each.receive()
            if events & select.POLLOUT and each.sends:
                each.send()
            if each.events or each.rests_until:
                poll.modify(descriptor, each.events)
            else:
                poll.unregister(descriptor)
                del known[descriptor]


def finish(ends: list[End]) -> None:
    """Close them. In TLS all tell of their end before any waits to be told."""
    telling = [each.socket for each in ends if isinstance(each.socket, ssl.SSLSocket)]
    waiting = []
    for secure in telling:
        try:
            secure.unwrap()
        except ssl.SSLWantReadError:
            waiting.append(secure)
    for secure in waiting:
        secure.settimeout(20.0)
        secure.unwrap()
    for each in ends:
        each.socket.close()


async def main() -> None:
    told = options()
    chance = random.Random(told["seed"])
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    is_client = told["role"] == "client"

    async def begin() -> dict[str, Any]:
        return {"port": listening.getsockname()[1]}

    def connect(port: int) -> socket.socket:
        connected = socket.create_connection(("127.0.0.1", port), timeout=60.0)
        if not told.get("authority"):
            return connected
        context = ssl.create_default_context(cafile=told["authority"])
        return context.wrap_socket(connected, server_hostname="127.0.0.1")

    def accept() -> socket.socket:
        listening.settimeout(60.0)
        connected, _ = listening.accept()
        connected.settimeout(60.0)
        if not told.get("certificate"):
            return connected
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(told["certificate"])
        return context.wrap_socket(connected, server_side=True)

    async def go(size: int, port: int = 0, **_: Any) -> dict[str, Any]:
        ends = []
        for number in range(told["sessions"]):
            connected = connect(port) if is_client else accept()
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setblocking(False)
            ends.append(End(connected, number, size, random.Random(chance.random())))
        begun, used = time.monotonic(), time.process_time()
        move(ends)
        took = time.monotonic() - begun
        finish(ends)
        return {
            "sessions": [
                {
                    "here": each.number, "there": each.number_there,
                    "sent": each.sent.hexdigest(), "came": each.came.hexdigest(),
                }
                for each in ends
            ],
            "took": took,
            "cpu": time.process_time() - used,
        }  # fmt: skip

    await obey({"go": go}, begin)
    listening.close()


if __name__ == "__main__":
    run(main)
