"""A guard under attack: bare sockets on both of its sides, and a look at what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import tieline
from guard.relayed import accept, dial, listen, reset
from tieline import Address, CloseReason
from tieline.guard import ClientLeg, Guard, GuardSettings
from tieline.guard.upstream import Upstream
from tieline.guard.upstream_leg import UpstreamLeg
from tieline.reactor import Reactor

__all__ = [
    "UNCHECKED",
    "Rig",
    "Script",
    "closed_port",
    "greeting",
    "received",
    "rig",
    "send",
    "silent_port",
    "until",
]

#: No connections but those of the test's own sessions.
UNCHECKED = GuardSettings(check_interval=None)

#: Pipes that a guard may keep while nobody needs them.
_SPARE_PIPES = 4

#: What stays on the reactor while no session is open.
_OWN = {"Listener", "Resolving"}


async def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Let the loop run until something is true, for what has no event of its own."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.002)


async def received(end: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    got = bytearray()
    while len(got) < size:
        data = await asyncio.get_running_loop().sock_recv(end, min(size - len(got), 262_144))
        assert data, f"the stream ended after {len(got)} of {size} bytes"
        got += data
    return bytes(got)


async def send(end: socket.socket, data: bytes) -> None:
    """All of it."""
    await asyncio.get_running_loop().sock_sendall(end, data)


def greeting(name: str | None = "a.test") -> bytes:
    """What a TLS client sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def closed_port() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        return f"127.0.0.1:{once.getsockname()[1]}"


@contextlib.contextmanager
def silent_port() -> Iterator[str]:
    """An address whose backlog is full: its kernel answers nothing."""
    fillers = []
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
            fillers.append(filler)
        try:
            yield f"127.0.0.1:{silent.getsockname()[1]}"
        finally:
            for filler in fillers:
                filler.close()


class Script:
    """How the next calls of a socket end: put in through `make_upstream_socket`.

    Args:
        calls: for `socket`, `connect_ex`, `send`, `recv` and `recv_into`, the outcomes of the next
            calls, first to last: an error number, or `None` for what they do. When there are none
            left, calls do what they do.

    Attributes:
        injected: the faults that have happened: one that never did proves nothing.
    """

    def __init__(self, **calls: Iterable[int | None]) -> None:
        self.calls = {name: deque(outcomes) for name, outcomes in calls.items()}
        self.injected: Counter[str] = Counter()

    def make_socket(self, family: int, kind: int) -> socket.socket:
        """For `Guard.make_upstream_socket`, and for `Guard.make_socket`."""
        code = self.take("socket")
        if code is not None:
            raise OSError(code, os.strerror(code))
        return _ScriptedSocket(self, family, kind)

    def take(self, call: str) -> int | None:
        """How this call is to fail, if it is."""
        outcomes = self.calls.get(call)
        code = outcomes.popleft() if outcomes else None
        if code is not None:
            self.injected[call] += 1
        return code

    def fail(self, call: str) -> None:
        code = self.take(call)
        if code is not None:
            raise OSError(code, os.strerror(code))


class _ScriptedSocket(socket.socket):
    def __init__(
        self, script: Script, family: int = -1, kind: int = -1, fileno: Any = None
    ) -> None:
        super().__init__(family, kind, fileno=fileno)
        self._script = script

    def accept(self) -> tuple[socket.socket, Any]:
        self._script.fail("accept")
        descriptor, name = self._accept()  # type: ignore[attr-defined]
        return _ScriptedSocket(self._script, fileno=descriptor), name

    def connect_ex(self, address: Any) -> int:
        code = self._script.take("connect_ex")
        return super().connect_ex(address) if code is None else code

    def send(self, data: Any, flags: int = 0) -> int:
        self._script.fail("send")
        return super().send(data, flags)

    def recv(self, size: int, flags: int = 0) -> bytes:
        self._script.fail("recv")
        return super().recv(size, flags)

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        self._script.fail("recv_into")
        return super().recv_into(buffer, size, flags)


class Rig:
    """A guard before a bare listening socket.

    Attributes:
        guard: the guard.
        service: the listening socket behind it.
        opened, closed, refused: what its hooks were told.
        clients, servers: the sockets that it has made, on either side of the guard.
    """

    guard: Guard

    def __init__(self, service: socket.socket) -> None:
        self.service = service
        self.opened: list[ClientLeg] = []
        self.closed: list[CloseReason] = []
        self.refused: list[CloseReason] = []
        self.clients: list[socket.socket] = []
        self.servers: list[socket.socket] = []

    @property
    def address(self) -> Address:
        """Where the guard listens."""
        return self.guard.addresses[0]

    @property
    def upstream(self) -> Upstream:
        """The first."""
        return self.guard.pool.upstreams[0]

    @property
    def leg(self) -> ClientLeg:
        """The only session."""
        (leg,) = self.guard.connections
        assert isinstance(leg, ClientLeg)
        return leg

    @property
    def upstream_leg(self) -> UpstreamLeg:
        """The only session's other side, whether or not it still has a client."""
        (leg,) = self.guard.upstream_sides
        return leg

    async def client(self, source: str = "127.0.0.1") -> socket.socket:
        """Somebody who connects."""
        client = await dial(self.address, source)
        self.clients.append(client)
        return client

    def try_client(self, source: str = "127.0.0.1") -> socket.socket:
        """Somebody who begins to connect, whatever comes of it."""
        client = socket.socket()
        self.clients.append(client)
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind((source, 0))
        client.connect_ex((self.address.host, self.address.port))
        return client

    async def server(self) -> socket.socket:
        """The next session's other end."""
        server = await accept(self.service)
        self.servers.append(server)
        return server

    async def pair(self, source: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
        """A session's two ends."""
        client = await self.client(source)
        return client, await self.server()

    async def exchange(
        self, client: socket.socket, server: socket.socket, ask: bytes = b"ask"
    ) -> None:
        """A question and its answer."""
        await send(client, ask)
        assert await received(server, len(ask)) == ask
        await send(server, b"answer")
        assert await received(client, 6) == b"answer"

    @property
    def ends(self) -> list[socket.socket]:
        """Those of both sides that are open."""
        return [end for end in self.clients + self.servers if end.fileno() >= 0]

    def close_ends(self) -> None:
        """All that it has opened."""
        for end in self.ends:
            end.close()

    def reset_ends(self) -> None:
        """Cut all of them off, in one turn."""
        for end in self.ends:
            reset(end)

    async def over(self) -> None:
        """Wait until no session is left, on either side, and see that nothing is held for one."""
        await until(lambda: not len(self.guard) and not any(self.guard.upstream_sides))
        await until(lambda: not self.left_on_the_reactor(), 1.0)
        self.assert_nothing_is_held()

    async def over_with(self, reason: CloseReason) -> None:
        """The same of the only session that there was, and why it ended."""
        await until(lambda: self.closed)
        await self.over()
        assert self.closed == [reason], self.closed

    def assert_nothing_is_held(self) -> None:
        """No place of anybody's is taken, and no more pipes are kept than is meant."""
        guard = self.guard
        assert guard.admission.total == 0
        assert list(guard.admission.clients) == []
        assert [each for each in guard.pool.upstreams if each.sessions] == []
        assert guard.pool.waiting == 0
        assert guard.pipes.count <= _SPARE_PIPES
        left = self.left_on_the_reactor()
        assert not left, left

    def left_on_the_reactor(self) -> list[object]:
        """What is registered with it or filed, and belongs to some connection."""
        reactor = Reactor._of.get(asyncio.get_running_loop())
        if reactor is None:
            return []
        slots = reactor._deadlines._slots.values()
        found = [*reactor._ready.values(), *(each for slot in slots for each in slot)]
        return [each for each in found if type(each).__name__ not in _OWN]


@contextlib.asynccontextmanager
async def rig(
    *listening: str,
    service: socket.socket | None = None,
    upstreams: Iterable[Any] | None = None,
    options: str = "",
    before: Callable[[Guard], object] = lambda guard: None,
    **arguments: Any,
) -> AsyncIterator[Rig]:
    """A guard; afterwards, that it has left nothing behind.

    Args:
        listening: where it listens.
        service: the upstream's listening socket; made if there is none.
        upstreams: instead of the service's address.
        options: what stands behind the address of the service, such as `,max=1`.
        before: is given the guard before it starts.
        arguments: for `tieline.guard.serve`.
    """
    behind = service or listen()
    it = Rig(behind)
    if upstreams is None:
        upstreams = [f"127.0.0.1:{behind.getsockname()[1]}{options}"]
    arguments.setdefault("settings", UNCHECKED)
    arguments.setdefault("on_open", it.opened.append)
    arguments.setdefault("on_close", lambda leg, reason: it.closed.append(reason))
    arguments.setdefault("on_refuse", lambda peer, reason: it.refused.append(reason))
    try:
        it.guard = tieline.guard.serve(
            *(listening or (() if "sockets" in arguments else ("127.0.0.1:0",))),
            upstreams=upstreams,
            **arguments,
        )
        before(it.guard)
        async with it.guard:
            try:
                yield it
            finally:
                it.close_ends()
        it.assert_nothing_is_held()
        assert list(it.guard.upstream_sides) == []
        assert it.guard.pipes.count == 0
        assert it.guard.counters.accepted == sum(it.guard.counters.closed.values())
    finally:
        it.close_ends()
        behind.close()
