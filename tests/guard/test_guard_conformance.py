"""The same conversations through a guard, whatever is on its two sides."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tieline
from guard.rig import UNCHECKED, Rig, rig, until
from support.peers import Peer
from support.transports import Secrets
from tieline import Address, CloseReason, Limits, proxy_protocol
from tieline.guard import GuardSettings

WAYS = ["tcp4", "tcp6", "unix client", "unix upstream", "tls ended", "tls begun", "tls both"]
PLAIN = ["tcp4", "tcp6", "unix client", "unix upstream"]

BULK = 1_500_000


class End(Peer):
    """A peer that may end its stream while it is still being sent to."""

    def __init__(self, connected: socket.socket, tls: ssl.SSLObject | None = None) -> None:
        super().__init__(connected, tls)
        self._unread: list[bytes] = []

    async def receive_some(self) -> bytes:
        return self._unread.pop(0) if self._unread else await super().receive_some()

    async def end(self) -> None:
        # OpenSSL takes a whole record that is still in its hands for one that came too late.
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while self._tls is not None and (data := self._tls.read(65_536)):
                self._unread.append(data)
        await super().end()


@dataclass(frozen=True)
class Way:
    """What is on a guard's two sides."""

    kind: str
    secrets: Secrets
    folder: Path

    @property
    def listening(self) -> str:
        if self.kind == "unix client":
            return f"unix:{self.folder}/guard.sock"
        return "[::1]:0" if self.kind == "tcp6" else "127.0.0.1:0"

    @property
    def client_tls(self) -> ssl.SSLContext | None:
        return self.secrets.client if self.kind in ("tls ended", "tls both") else None

    @property
    def server_tls(self) -> ssl.SSLContext | None:
        return self.secrets.server if self.kind in ("tls begun", "tls both") else None

    @property
    def is_tcp(self) -> bool:
        return "unix" not in self.kind

    def make_service(self) -> tuple[socket.socket, str]:
        """A bare listening socket behind the guard, and where it is."""
        if self.kind == "unix upstream":
            path = f"{self.folder}/service.sock"
            Path(path).unlink(missing_ok=True)
            service = socket.socket(socket.AF_UNIX)
            service.bind(path)
            where = f"unix:{path}"
        else:
            service = socket.socket(socket.AF_INET6 if self.kind == "tcp6" else socket.AF_INET)
            service.bind(("::1" if self.kind == "tcp6" else "127.0.0.1", 0))
            host = "[::1]" if self.kind == "tcp6" else "127.0.0.1"
            where = f"{host}:{service.getsockname()[1]}"
        service.listen(1_024)
        service.setblocking(False)
        return service, where

    @asynccontextmanager
    async def guarded(
        self, options: str = "", settings: GuardSettings = UNCHECKED, **arguments: Any
    ) -> AsyncIterator[Rig]:
        service, where = self.make_service()
        tls = self.secrets.server if self.client_tls is not None else None
        upstream_tls = self.secrets.client if self.server_tls is not None else None
        async with rig(
            self.listening,
            service=service,
            upstreams=[where + options],
            settings=settings,
            tls=tls,
            upstream_tls=upstream_tls,
            **arguments,
        ) as it:
            yield it

    async def client(self, it: Rig) -> End:
        """Somebody who connects to the guard."""
        peer = await End.connect(it.address, self.client_tls)
        it.clients.append(peer.socket)
        return peer

    async def server(self, it: Rig) -> End:
        """The next session's other end."""
        peer = await End.accept(it.service)
        it.servers.append(peer.socket)
        if self.server_tls is not None:
            await peer.secure(self.server_tls, server_side=True)
        return peer

    async def pair(self, it: Rig) -> tuple[End, End]:
        """A session's two ends."""
        client = await self.client(it)
        return client, await self.server(it)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, secrets: Secrets, tmp_path: Path) -> Way:
    """Each kind of sides in turn."""
    return Way(request.param, secrets, tmp_path)


@pytest.fixture(params=PLAIN)
def plain_way(request: pytest.FixtureRequest, secrets: Secrets, tmp_path: Path) -> Way:
    """Those without TLS, which may be spliced."""
    return Way(request.param, secrets, tmp_path)


async def exchange(client: End, server: End) -> None:
    await client.send(b"question")
    assert await server.receive_exactly(8) == b"question"
    await server.send(b"answer")
    assert await client.receive_exactly(6) == b"answer"


async def test_the_client_ends_first_and_hears_the_last_words(way: Way) -> None:
    async with way.guarded() as it:
        client, server = await way.pair(it)
        await exchange(client, server)
        await client.send(b"and more")
        await client.end()
        assert await server.receive_all() == b"and more"
        await server.send(b"last words")
        await server.end()
        assert await client.receive_all() == b"last words"
        await it.over()
        assert it.closed == [CloseReason.PEER_CLOSED]
        assert it.guard.counters.bytes_received == 16
        assert it.guard.counters.bytes_sent == 16
        assert (it.upstream.bytes_sent, it.upstream.bytes_received) == (16, 16)


async def test_the_server_ends_first_and_hears_the_last_words(way: Way) -> None:
    async with way.guarded() as it:
        client, server = await way.pair(it)
        await exchange(client, server)
        await server.send(b"and more")
        await server.end()
        assert await client.receive_all() == b"and more"
        await client.send(b"last words")
        await client.end()
        assert await server.receive_all() == b"last words"
        await it.over()
        assert it.closed == [CloseReason.UPSTREAM_CLOSED]


@pytest.mark.parametrize("first", ["client", "server"])
async def test_bulk_goes_on_after_the_other_half_has_ended(way: Way, first: str) -> None:
    data = random.Random(first).randbytes(BULK)
    async with way.guarded() as it:
        client, server = await way.pair(it)
        ending, going_on = (client, server) if first == "client" else (server, client)
        await ending.send(b"go")
        await ending.end()
        assert await going_on.receive_all() == b"go"

        async def talk() -> None:
            await going_on.send(data)
            await going_on.end()

        got, _ = await asyncio.gather(ending.receive_all(), talk())
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
        await it.over()
        assert it.closed[0].in_good_order


async def test_byte_at_a_time(way: Way) -> None:
    words = bytes(range(256))
    async with way.guarded() as it:
        client, server = await way.pair(it)
        for at in range(len(words)):
            await client.send(words[at : at + 1])
            await server.send(words[at : at + 1])
        assert await server.receive_exactly(256) == words
        assert await client.receive_exactly(256) == words


async def test_empty_sessions(way: Way) -> None:
    async with way.guarded() as it:
        for first in ("client", "server"):
            client, server = await way.pair(it)
            ending, other = (client, server) if first == "client" else (server, client)
            await ending.end()
            assert await other.receive_all() == b""
            await other.end()
            assert await ending.receive_all() == b""
        await it.over()
        assert it.closed == [CloseReason.PEER_CLOSED, CloseReason.UPSTREAM_CLOSED]


async def test_a_client_that_is_gone_before_it_is_accepted(way: Way) -> None:
    """An end is all that it ever said."""
    async with way.guarded() as it:
        for _ in range(5):
            client = await way.client(it)
            await client.end()
            server = await way.server(it)
            assert await server.receive_all() == b""
            server.close()
        await it.over()


async def test_early_data_waits_for_an_upstream(way: Way) -> None:
    data = random.Random(1).randbytes(100_000)
    async with way.guarded(",max=1") as it:
        client, server = await way.pair(it)
        late = await way.client(it)
        await until(lambda: it.guard.pool.waiting == 1)
        sending = asyncio.ensure_future(late.send(data))
        await exchange(client, server)
        client.close()
        server.close()
        served = await way.server(it)
        assert await served.receive_exactly(len(data)) == data
        await sending
        await exchange(late, served)


async def test_resets_stay_resets(way: Way) -> None:
    """Over a Unix socket there are none: there it is an end."""
    async with way.guarded() as it:
        for first in ("client", "server"):
            client, server = await way.pair(it)
            await exchange(client, server)
            cut, other = (client, server) if first == "client" else (server, client)
            cut.reset()
            if way.is_tcp:
                assert await other.is_reset()
            else:
                assert await other.receive_all() == b""
            other.close()
        await it.over()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", ["small", "large", "mixed"])
async def test_random_chunks_both_ways_at_once(way: Way, sizes: str, seed: int) -> None:
    """And every byte of them, in both directions, with readers that pause now and then."""
    most = {"small": 200_000, "large": BULK, "mixed": 600_000}[sizes]
    choices = {
        "small": [1, 2, 100, 1_024, 1_025, 4_096],
        "large": [65_535, 65_536, 65_537, 400_000],
        "mixed": [1, 1_024, 5_000, 65_536, 200_000],
    }[sizes]
    chance = random.Random(f"{seed} {sizes}")
    up, down = chance.randbytes(most), chance.randbytes(most)

    async def talk(peer: End, data: bytes) -> None:
        at = 0
        while at < len(data):
            size = chance.choice(choices)
            await peer.send(data[at : at + size])
            at += size
            if chance.random() < 0.05:
                await asyncio.sleep(0)
        await peer.end()

    async def listen(peer: End) -> bytes:
        got = hashlib.sha256()
        size = 0
        while data := await peer.receive_some():
            got.update(data)
            size += len(data)
            if chance.random() < 0.1:
                await asyncio.sleep(0.001)
        assert size == most
        return got.digest()

    async with way.guarded() as it:
        client, server = await way.pair(it)
        got_up, got_down, _, _ = await asyncio.gather(
            listen(server), listen(client), talk(client, up), talk(server, down)
        )
        assert got_up == hashlib.sha256(up).digest()
        assert got_down == hashlib.sha256(down).digest()
        await it.over()
        assert it.guard.counters.bytes_received == it.guard.counters.bytes_sent == most


async def test_bulk_without_tls_is_spliced(plain_way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """And copied where there are no pipes: to the same end."""
    splice, spliced = os.splice, 0

    def count(*arguments: Any, **more: Any) -> int:
        nonlocal spliced
        moved = splice(*arguments, **more)
        spliced += moved
        return moved

    monkeypatch.setattr(os, "splice", count)
    data = random.Random(2).randbytes(BULK)
    for most in (64, 0):
        spliced = 0
        async with plain_way.guarded() as it:
            it.guard.pipes._most = most
            client, server = await plain_way.pair(it)
            for sender, receiver in ((client, server), (server, client)):

                async def talk(sender: End = sender) -> None:
                    await sender.send(data)
                    await sender.end()

                got, _ = await asyncio.gather(receiver.receive_all(), talk())
                assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
            await it.over()
        # Each byte goes into a pipe and out of it.
        assert spliced > BULK if most else spliced == 0


async def test_looked_at_all_the_same(way: Way) -> None:
    """Bulk under a trace that comes and goes: what it shows is what passes."""
    data = random.Random(3).randbytes(BULK)
    seen = {"in": bytearray(), "out": bytearray()}

    def show(direction: str, piece: bytes) -> None:
        seen[direction] += piece

    async with way.guarded() as it:
        client, server = await way.pair(it)
        third = BULK // 3

        async def carry(part: bytes) -> None:
            got, _ = await asyncio.gather(server.receive_exactly(len(part)), client.send(part))
            assert got == part

        await carry(data[:third])
        it.leg.look(show)
        await carry(data[third : third * 2])
        await exchange(client, server)
        it.leg.look_away(show)
        await carry(data[third * 2 :])
        await exchange(client, server)
        assert seen["in"] == data[third : third * 2] + b"question"
        assert seen["out"] == b"answer"


@pytest.mark.patience(60)
@pytest.mark.parametrize("kind", ["tcp4", "tls ended"])
async def test_a_thousand_sessions_at_once(kind: str, secrets: Secrets, tmp_path: Path) -> None:
    """Each says something of its own, and hears that again."""
    count = 1_000 if kind == "tcp4" else 200
    way = Way(kind, secrets, tmp_path)

    def answer(connection: tieline.Connection, message: Any) -> Any:
        return message

    async with tieline.serve(
        answer, "127.0.0.1:0", limits=Limits(per_client=None), backlog=2_048
    ) as service:
        guard = tieline.guard.serve(
            "127.0.0.1:0",
            upstreams=service.addresses,
            settings=UNCHECKED,
            limits=Limits(per_client=None),
            tls=secrets.server if way.client_tls else None,
        )
        async with guard:

            async def connect() -> End:
                return await End.connect(guard.addresses[0], way.client_tls)

            clients = await asyncio.gather(*(connect() for _ in range(count)))
            await until(lambda: len(guard) == count)

            async def talk(number: int, client: End) -> None:
                own = b"I am number %d\n" % number
                for _ in range(2):
                    await client.send(own * 20)
                    assert await client.receive_exactly(len(own) * 20) == own * 20
                await client.end()
                assert await client.receive_all() == b""
                client.close()

            await asyncio.gather(*(talk(*each) for each in enumerate(clients)))
            await until(lambda: not len(guard) and not any(guard.upstream_sides))
            assert guard.counters.closed[CloseReason.PEER_CLOSED] == count
            assert guard.admission.total == guard.pool.upstreams[0].sessions == 0


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("host", ["127.0.0.9", "::1"])
async def test_through_three_guards_the_client_stays_who_it_is(version: str, host: str) -> None:
    """Each tells the next, in TLS or not; at the end stands what the first has seen."""
    names = GuardSettings(check_interval=None, send_proxy=version)
    both = names.replace(accept_proxy=("127.0.0.0/8", "::1"))
    listening = "[::1]:0" if ":" in host else "127.0.0.1:0"
    async with contextlib.AsyncExitStack() as stack:
        it = await stack.enter_async_context(rig(settings=both))
        second = tieline.guard.serve(listening, upstreams=it.guard.addresses, settings=both)
        await stack.enter_async_context(second)
        first = tieline.guard.serve(listening, upstreams=second.addresses, settings=names)
        await stack.enter_async_context(first)
        client = await End.connect(first.addresses[0], source=host)
        it.clients.append(client.socket)
        await client.send(b"hello")
        server = await End.accept(it.service)
        it.servers.append(server.socket)
        data = b""
        while (header := proxy_protocol.parse(data)) is None:
            data += await server.receive_some()
        assert header.source == Address(*client.socket.getsockname()[:2])
        assert header.destination == first.addresses[0]
        assert it.leg.peer == header.source
        rest = data[header.size :]
        assert rest + await server.receive_exactly(5 - len(rest)) == b"hello"
        # Its end and the other's go through all of them.
        await client.end()
        assert await server.receive_all() == b""
        await server.send(b"last words")
        server.close()
        assert await client.receive_all() == b"last words"
        await until(lambda: not any(map(len, (first, second, it.guard))))
        for each in (first, second, it.guard):
            assert each.counters.closed[CloseReason.PEER_CLOSED] == 1


async def test_the_last_words_of_a_server_that_resets_through_three_guards() -> None:
    async with contextlib.AsyncExitStack() as stack:
        it = await stack.enter_async_context(rig())
        guards = [it.guard]
        for _ in range(2):
            guard = tieline.guard.serve(
                "127.0.0.1:0", upstreams=guards[-1].addresses, settings=UNCHECKED
            )
            guards.append(await stack.enter_async_context(guard))
        for size in (1, 50_000, BULK):
            data = random.Random(size).randbytes(size)
            client = await End.connect(guards[-1].addresses[0])
            it.clients.append(client.socket)
            server = await End.accept(it.service)
            reading = asyncio.ensure_future(_read_to_reset(client))
            await server.send(data)
            leg = next(iter(it.guard.upstream_sides))
            # What its own kernel still holds, a reset takes with it.
            await until(lambda leg=leg, size=size: leg.bytes_received == size)  # type: ignore[misc]
            server.reset()
            assert await reading == data
            await until(lambda: not any(map(len, guards)))


async def _read_to_reset(peer: End) -> bytes:
    got = bytearray()
    with pytest.raises(ConnectionResetError):
        while data := await peer.receive_some():
            got += data
    return bytes(got)


async def test_the_header_goes_before_tls_with_the_upstream(secrets: Secrets) -> None:
    """In the clear, for whoever ends TLS there."""
    settings = GuardSettings(check_interval=None, send_proxy="v2")
    async with rig(settings=settings, upstream_tls=secrets.client) as it:
        client = await End.connect(it.address)
        it.clients.append(client.socket)
        await client.send(b"hello")
        server = await End.accept(it.service)
        it.servers.append(server.socket)
        loop = asyncio.get_running_loop()
        data = b""
        while (header := proxy_protocol.parse(data)) is None:
            data += await loop.sock_recv(server.socket, 1)
        assert header.source == Address(*client.socket.getsockname())
        await server.secure(secrets.server, server_side=True)
        assert await server.receive_exactly(5) == b"hello"


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_client_without_an_address_is_told_of_as_one(version: str, tmp_path: Path) -> None:
    settings = GuardSettings(check_interval=None, send_proxy=version)
    async with rig(f"unix:{tmp_path}/guard.sock", settings=settings) as it:
        client = await End.connect(it.address)
        it.clients.append(client.socket)
        await client.send(b"hello")
        server = await End.accept(it.service)
        it.servers.append(server.socket)
        data = b""
        while (header := proxy_protocol.parse(data)) is None:
            data += await server.receive_some()
        assert header.source is None
        assert await server.receive_exactly(5 - len(data[header.size :])) in (b"hello", b"")


async def test_a_socket_for_both_families(tmp_path: Path) -> None:
    """Handed over with IPv4 on it too: an IPv4 client is one, to the policy and to the upstream."""
    settings = GuardSettings(
        check_interval=None, send_proxy="v2", accept_proxy=("127.0.0.0/8",), tries=1
    )
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both:
        port = both.getsockname()[1]
        async with rig(sockets=[both.dup()], settings=settings) as it:
            client = await End.connect(Address("127.0.0.1", port))
            it.clients.append(client.socket)
            await client.send(proxy_protocol.build(1, None, None) + b"hello")
            server = await End.accept(it.service)
            it.servers.append(server.socket)
            assert it.leg.client.key == "127.0.0.1"
            data = b""
            while (header := proxy_protocol.parse(data)) is None:
                data += await server.receive_some()
            assert header.source is not None
            assert header.source.host in ("127.0.0.1", "::ffff:127.0.0.1")
            assert header.source.port == client.socket.getsockname()[1]
            assert it.guard.ban("127.0.0.0/8") == 1
