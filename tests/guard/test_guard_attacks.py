"""What clients and upstreams do to a guard on purpose, or by dying: it holds, and lets go of all.

After each test `rig` sees that no descriptor, pipe, place, registration or deadline is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import tieline
from guard.relayed import RESET, accept, dial, listen, read_to_end, reset
from guard.rig import UNCHECKED, Rig, greeting, received, rig, send, silent_port, until
from support.clock import TICK, Clock
from support.peers import Peer
from support.transports import Secrets
from tieline import Address, CloseReason, Limits, State, proxy_protocol
from tieline.guard import Guard, resolving
from tieline.reactor import Reactor

#: So that what is bounded by closing does not take long.
BRIEF = Limits(closing=0.1)

#: An end alone does not say that a client has gone: it keeps its place for as long as any may.
IMPATIENT = UNCHECKED.replace(queue_timeout=0.3, connect_timeout=0.3, tries=1)

BULK = bytes(range(256)) * 4_096  # 1 MiB


# ---- Every verb in every phase


@asynccontextmanager
async def preamble(secrets: Secrets) -> AsyncIterator[Rig]:
    settings = UNCHECKED.replace(accept_proxy=("127.0.0.0/8",))
    async with rig(settings=settings, limits=BRIEF) as it:
        client = await it.client()
        await send(client, b"PROXY TCP4")
        await until(lambda: len(Reactor.of(asyncio.get_running_loop())._ready) == 2)
        yield it


@asynccontextmanager
async def hello(secrets: Secrets) -> AsyncIterator[Rig]:
    async with rig(settings=UNCHECKED.replace(sni="on"), limits=BRIEF) as it:
        client = await it.client()
        await send(client, greeting()[:100])
        await until(lambda: it.guard.counters.accepted and it.leg.bytes_received == 100)
        yield it


@asynccontextmanager
async def queue(secrets: Secrets) -> AsyncIterator[Rig]:
    async with rig(options=",max=1", settings=IMPATIENT, limits=BRIEF) as it:
        await it.pair()
        client = await it.client()
        await send(client, b"early")
        await until(lambda: it.guard.pool.waiting == 1)
        yield it


@asynccontextmanager
async def connecting(secrets: Secrets) -> AsyncIterator[Rig]:
    with silent_port() as silent:
        async with rig(upstreams=[silent], settings=IMPATIENT, limits=BRIEF) as it:
            client = await it.client()
            await send(client, b"early")
            await until(lambda: len(it.guard) == 1)
            yield it


@asynccontextmanager
async def retrying(secrets: Secrets) -> AsyncIterator[Rig]:
    with listen() as once:
        port = once.getsockname()[1]
    async with rig(upstreams=[f"127.0.0.1:{port}"], limits=BRIEF) as it:
        await it.client()
        await until(lambda: it.upstream.failed)
        yield it


@asynccontextmanager
async def client_tls(secrets: Secrets) -> AsyncIterator[Rig]:
    async with rig(tls=secrets.server, limits=BRIEF) as it:
        client = await it.client()
        await send(client, greeting()[:100])
        await until(lambda: len(it.guard) == 1)
        yield it


@asynccontextmanager
async def upstream_tls(secrets: Secrets) -> AsyncIterator[Rig]:
    async with rig(upstream_tls=secrets.client, limits=BRIEF) as it:
        client, server = await it.pair()
        await send(client, b"early")
        assert await received(server, 1) == b"\x16"
        yield it


@asynccontextmanager
async def relaying(secrets: Secrets) -> AsyncIterator[Rig]:
    async with rig(limits=BRIEF) as it:
        await it.exchange(*await it.pair())
        yield it


@asynccontextmanager
async def client_ended(secrets: Secrets) -> AsyncIterator[Rig]:
    async with rig(limits=BRIEF) as it:
        client, server = await it.pair()
        await it.exchange(client, server)
        client.shutdown(socket.SHUT_WR)
        assert await read_to_end(server) == (b"", "end")
        yield it


@asynccontextmanager
async def upstream_ended(secrets: Secrets) -> AsyncIterator[Rig]:
    async with rig(limits=BRIEF) as it:
        client, server = await it.pair()
        await it.exchange(client, server)
        server.shutdown(socket.SHUT_WR)
        assert await read_to_end(client) == (b"", "end")
        yield it


@asynccontextmanager
async def stuck(it: Rig, sender: socket.socket, leg: Callable[[], Any]) -> AsyncIterator[None]:
    """Somebody sends, and nobody reads, until the guard is owed room."""
    sending = asyncio.ensure_future(send(sender, BULK * 30))
    await until(lambda: leg().owed)
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


@asynccontextmanager
async def client_paused(secrets: Secrets) -> AsyncIterator[Rig]:
    async with rig(limits=BRIEF) as it:
        client, _ = await it.pair()
        async with stuck(it, client, lambda: it.upstream_leg):
            yield it


@asynccontextmanager
async def upstream_paused(secrets: Secrets) -> AsyncIterator[Rig]:
    async with rig(limits=BRIEF) as it:
        _, server = await it.pair()
        async with stuck(it, server, lambda: it.leg):
            yield it


@asynccontextmanager
async def upstream_cut(secrets: Secrets) -> AsyncIterator[Rig]:
    """The client has reset, and the upstream has not confirmed all of what it said before."""
    async with rig(limits=BRIEF) as it:
        client, _ = await it.pair()
        await send(client, BULK * 2)
        await until(lambda: it.leg.bytes_received == len(BULK) * 2 and not it.upstream_leg.owed)
        reset(client)
        await until(lambda: not len(it.guard))
        assert it.upstream_leg.state is State.CLOSING
        yield it


@asynccontextmanager
async def client_cut(secrets: Secrets) -> AsyncIterator[Rig]:
    """The upstream has reset, and the client has not confirmed all of what it said before."""
    async with rig(limits=BRIEF) as it:
        _, server = await it.pair()
        await send(server, BULK * 2)
        await until(lambda: it.upstream_leg.bytes_received == len(BULK) * 2 and not it.leg.owed)
        reset(server)
        await until(lambda: not any(it.guard.upstream_sides))
        assert it.leg.state is State.CLOSING
        yield it


@asynccontextmanager
async def client_broken(secrets: Secrets) -> AsyncIterator[Rig]:
    """The client has reset while the guard still owed the upstream its last words."""
    async with rig(limits=BRIEF.replace(write_stall=1.0)) as it:
        client, _ = await it.pair()
        async with stuck(it, client, lambda: it.upstream_leg):
            pass
        reset(client)
        await until(lambda: it.leg._broken is not None)
        yield it


@asynccontextmanager
async def upstream_broken(secrets: Secrets) -> AsyncIterator[Rig]:
    """The upstream has reset while the guard still owed the client its last words."""
    async with rig(limits=BRIEF.replace(write_stall=1.0)) as it:
        _, server = await it.pair()
        async with stuck(it, server, lambda: it.leg):
            pass
        reset(server)
        await until(lambda: it.upstream_leg._broken is not None)
        yield it


@asynccontextmanager
async def tls_relaying(secrets: Secrets) -> AsyncIterator[Rig]:
    async with rig(tls=secrets.server, upstream_tls=secrets.client, limits=BRIEF) as it:
        client, server = await tls_pair(it, secrets)
        await client.send(b"question")
        assert await server.receive_exactly(8) == b"question"
        yield it


@asynccontextmanager
async def tls_ended(secrets: Secrets) -> AsyncIterator[Rig]:
    async with rig(tls=secrets.server, upstream_tls=secrets.client, limits=BRIEF) as it:
        client, server = await tls_pair(it, secrets)
        await client.send(b"question")
        await client.end()
        assert await server.receive_all() == b"question"
        yield it


@asynccontextmanager
async def tls_paused(secrets: Secrets) -> AsyncIterator[Rig]:
    async with rig(tls=secrets.server, upstream_tls=secrets.client, limits=BRIEF) as it:
        client, _ = await tls_pair(it, secrets)
        sending = asyncio.ensure_future(client.send(BULK * 20))
        await until(lambda: it.upstream_leg.owed)
        try:
            yield it
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def tls_pair(it: Rig, secrets: Secrets) -> tuple[Peer, Peer]:
    """A session's two ends, both with TLS of their own."""
    client = Peer(await it.client())
    await client.secure(secrets.client)
    server = Peer(await it.server())
    await server.secure(secrets.server, server_side=True)
    return client, server


@asynccontextmanager
async def closing(secrets: Secrets) -> AsyncIterator[Rig]:
    async with rig(limits=BRIEF) as it:
        await it.exchange(*await it.pair())
        it.leg.close()
        yield it


PHASES = [
    preamble, hello, queue, connecting, retrying, client_tls, upstream_tls, relaying,
    client_ended, upstream_ended, client_paused, upstream_paused, upstream_cut, client_cut,
    client_broken, upstream_broken, tls_relaying, tls_ended, tls_paused, closing,
]  # fmt: skip


async def kick(it: Rig) -> None:
    it.guard.kick(*it.guard.connections)


async def ban(it: Rig) -> None:
    it.guard.ban("127.0.0.0/8")


async def evict(it: Rig) -> None:
    for leg in it.guard.connections:
        leg.abort(CloseReason.EVICTED)


async def close_in_order(it: Rig) -> None:
    for leg in it.guard.connections:
        leg.close()


async def finish(it: Rig) -> None:
    for leg in it.guard.connections:
        leg.finish()


async def drain(it: Rig) -> None:
    await it.guard.drain(0.05)
    assert_over(it)


async def drain_at_once(it: Rig) -> None:
    await it.guard.drain(0.0)
    assert_over(it)


async def close(it: Rig) -> None:
    await it.guard.close()
    assert_over(it)


async def close_twice_at_once(it: Rig) -> None:
    await asyncio.gather(it.guard.close(), it.guard.drain(0.01), it.guard.close())
    assert_over(it)


def assert_over(it: Rig) -> None:
    """It says that it has stopped: then it has."""
    assert not len(it.guard)
    assert not any(it.guard.upstream_sides)


async def remove_upstreams(it: Rig) -> None:
    """Those that go on keep what they have; those that wait are told."""
    for upstream in it.guard.pool.upstreams:
        it.guard.pool.remove(upstream.name)


async def clients_reset(it: Rig) -> None:
    for client in it.clients:
        if client.fileno() >= 0:
            reset(client)


async def servers_reset(it: Rig) -> None:
    for server in it.servers:
        if server.fileno() >= 0:
            reset(server)


async def clients_end(it: Rig) -> None:
    for client in it.clients:
        client.close()


async def servers_end(it: Rig) -> None:
    for server in it.servers:
        server.close()


async def both_reset(it: Rig) -> None:
    it.reset_ends()


async def an_end_and_then_a_reset(it: Rig) -> None:
    for end in it.ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_WR)
    await asyncio.sleep(0)
    it.reset_ends()


AT_ONCE: list[Callable[[Rig], Awaitable[None]]] = [kick, ban, evict]

VERBS = [
    *AT_ONCE, close_in_order, finish, drain, drain_at_once, close, close_twice_at_once,
    remove_upstreams, clients_reset, servers_reset, clients_end, servers_end, both_reset,
    an_end_and_then_a_reset,
]  # fmt: skip


@pytest.mark.one_loop
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("phase", PHASES)
async def test_every_verb_in_every_phase(
    phase: Callable[[Secrets], Any], verb: Callable[[Rig], Awaitable[None]], secrets: Secrets
) -> None:
    async with phase(secrets) as it:
        await verb(it)
        if verb in AT_ONCE:
            assert not len(it.guard)
        await asyncio.sleep(0)
        it.reset_ends()
        # With whoever has come to it meanwhile.
        it.service.close()
        await it.over()
        assert len(it.closed) == it.guard.counters.accepted


async def clients_half_end(it: Rig) -> None:
    for client in it.clients:
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)


async def servers_half_end(it: Rig) -> None:
    for server in it.servers:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)


async def nothing_happens(it: Rig) -> None:
    pass


@pytest.mark.one_loop
@pytest.mark.parametrize(
    "verb",
    [
        nothing_happens, clients_half_end, servers_half_end, clients_reset, servers_reset,
        clients_end, servers_end, finish, close_in_order, remove_upstreams,
    ],
)  # fmt: skip
@pytest.mark.parametrize("phase", PHASES)
async def test_nobody_spins(
    phase: Callable[[Secrets], Any],
    verb: Callable[[Rig], Awaitable[None]],
    secrets: Secrets,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever a socket is told of and the guard cannot act on yet, it is told once."""
    turns = 0
    turn = Reactor.turn

    def count(self: Reactor) -> None:
        nonlocal turns
        turns += 1
        turn(self)

    monkeypatch.setattr(Reactor, "turn", count)
    async with phase(secrets) as it:
        await verb(it)
        turns = 0
        for _ in range(40):
            await asyncio.sleep(0.001)
        assert turns < 30
        it.reset_ends()
        it.service.close()


# ---- Slowly, before and after


@asynccontextmanager
async def crowd(it: Rig, count: int, first: bytes) -> AsyncIterator[list[socket.socket]]:
    """Clients from several machines that say so much, and not more."""
    clients = [it.try_client(f"127.0.0.{2 + number % 50}") for number in range(count)]
    await until(lambda: all(map(is_connected, clients)))
    for client in clients:
        await send(client, first)
    yield clients


def is_connected(client: socket.socket) -> bool:
    with contextlib.suppress(OSError):
        return bool(client.getpeername())
    return False


async def are_cut_off(clients: list[socket.socket]) -> None:
    async with asyncio.timeout(10):
        for client in clients:
            assert await read_to_end(client) == (b"", RESET)


async def test_slowly_before_the_proxy_header() -> None:
    clock = Clock()
    header = proxy_protocol.build(1, Address("203.0.113.7", 1), Address("198.51.100.1", 443))
    settings = UNCHECKED.replace(accept_proxy=("127.0.0.0/8",))
    async with rig(settings=settings) as it, crowd(it, 300, b"P") as slow:
        # Each of them is registered, and filed.
        await until(lambda: len(it.left_on_the_reactor()) == 600)
        for at in range(1, 10):
            clock.advance(1.0)
            for client in slow:
                client.send(header[at : at + 1])
            # Somebody who comes in between is served as ever.
            honest = await it.client()
            await send(honest, header)
            await it.exchange(honest, await it.server())
        assert it.refused == []
        clock.advance(1.0 + TICK)
        await are_cut_off(slow)
        assert it.refused == [CloseReason.PREAMBLE_TIMEOUT] * 300
        assert len(it.guard) == 9


async def test_more_headers_that_do_not_come_than_are_waited_for() -> None:
    """The oldest go, and who comes last is heard."""
    settings = UNCHECKED.replace(accept_proxy=("127.0.0.0/8",))
    async with rig(settings=settings) as it, crowd(it, 1_010, b"") as slow:
        await until(lambda: len(it.refused) == 10)
        honest = await it.client()
        await send(honest, proxy_protocol.build(2, None, None))
        await it.exchange(honest, await it.server())
        assert set(it.refused) == {CloseReason.PREAMBLE_TIMEOUT}
        await are_cut_off(slow[:5])


async def test_slowly_before_the_greeting() -> None:
    clock = Clock()
    hello_bytes = greeting()
    async with (
        rig(settings=UNCHECKED.replace(sni="on")) as it,
        crowd(it, 200, hello_bytes[:1]) as slow,
    ):
        await until(lambda: len(it.guard) == 200)
        for at in range(1, 10):
            clock.advance(1.0)
            for client in slow:
                client.send(hello_bytes[at : at + 1])
        honest = await it.client()
        await send(honest, hello_bytes)
        server = await it.server()
        assert await received(server, len(hello_bytes)) == hello_bytes
        clock.advance(1.0 + TICK)
        await are_cut_off(slow)
        assert it.closed == [CloseReason.PREAMBLE_TIMEOUT] * 200
        await it.exchange(honest, server)


async def test_slowly_in_the_handshake(secrets: Secrets) -> None:
    clock = Clock()
    hello_bytes = greeting()
    async with rig(tls=secrets.server) as it, crowd(it, 100, hello_bytes[:1]) as slow:
        await until(lambda: len(it.guard) == 100)
        for at in range(1, 10):
            clock.advance(1.0)
            for client in slow:
                client.send(hello_bytes[at : at + 1])
        clock.advance(1.0 + TICK)
        await are_cut_off(slow)
        assert it.closed == [CloseReason.HANDSHAKE_TIMEOUT] * 100
        assert it.upstream.connected == 0


async def test_silently_once_it_is_relayed() -> None:
    clock = Clock()
    async with rig(limits=Limits(first_byte=20)) as it, crowd(it, 100, b"") as silent:
        for _ in range(100):
            await it.server()
        await until(lambda: len(it.guard) == 100)
        clock.advance(20 + TICK)
        await are_cut_off(silent)
        assert it.closed == [CloseReason.FIRST_BYTE_TIMEOUT] * 100
        await it.over()


# ---- Many at once


@asynccontextmanager
async def answering(it: Rig) -> AsyncIterator[None]:
    """The service sends everything back, whoever comes."""
    loop = asyncio.get_running_loop()

    async def answer(end: socket.socket) -> None:
        with end, contextlib.suppress(OSError):
            while data := await loop.sock_recv(end, 65_536):
                await loop.sock_sendall(end, data)

    async def serve() -> None:
        while True:
            end = await accept(it.service)
            tasks.add(loop.create_task(answer(end)))

    tasks = {loop.create_task(serve())}
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.patience(60)
async def test_a_storm_while_others_talk() -> None:
    """2,000 connect, of whom some go at once, some are cut off, some stay without a word."""
    async with rig(limits=Limits(per_client=None, total=None)) as it, answering(it):
        talking = [await it.client() for _ in range(50)]
        storm_is_over = asyncio.Event()
        exchanged = 0

        async def talk(number: int, client: socket.socket) -> None:
            nonlocal exchanged
            said = 0
            while not storm_is_over.is_set() or said < 5:
                said += 1
                words = b"%d says %d;" % (number, said) * 3
                await send(client, words)
                assert await received(client, len(words)) == words
                exchanged += 1

        async def storm() -> None:
            for number in range(2_000):
                client = it.try_client(f"127.0.1.{1 + number % 200}")
                if number % 4 == 0:
                    reset(client)
                elif number % 4 == 1:
                    client.close()
                if number % 100 == 99:
                    await asyncio.sleep(0)
            await until(lambda: it.guard.counters.accepted >= 1_050, 30)
            storm_is_over.set()

        await asyncio.gather(storm(), *(talk(*each) for each in enumerate(talking)))
        assert exchanged >= 250
        await until(lambda: len(it.guard) <= 1_050, 20)
        it.close_ends()
        await it.over()


@pytest.mark.parametrize("who", ["clients", "upstreams", "both"])
async def test_a_flood_of_resets(who: str) -> None:
    loop = asyncio.get_running_loop()

    async def cut_off_all() -> None:
        while True:
            end, _ = await loop.sock_accept(it.service)
            reset(end)

    async with rig(limits=Limits(per_client=None)) as it:
        behind = loop.create_task(cut_off_all()) if who != "clients" else None
        for _ in range(8):
            clients = [it.try_client(f"127.0.0.{2 + each % 5}") for each in range(50)]
            await asyncio.sleep(0)
            for each, client in enumerate(clients):
                with contextlib.suppress(OSError):
                    client.send(b"x" * each)
            if who != "upstreams":
                for _ in range(3):
                    await asyncio.sleep(0)
                for client in clients:
                    reset(client)
        await until(lambda: it.guard.counters.accepted + sum(it.guard.counters.refused.values()))
        await it.over()
        assert it.guard.counters.accepted > 0
        if behind is not None:
            behind.cancel()
            await asyncio.gather(behind, return_exceptions=True)


async def test_one_that_never_reads_and_the_others() -> None:
    """What is held for it is bounded, on either side, and nobody else waits."""
    async with rig() as it:
        _, its_server = await it.pair()
        its_client, _ = await it.pair()
        first, _ = it.guard.connections
        _, second = it.guard.upstream_sides
        flood = [
            asyncio.ensure_future(send(its_server, BULK * 40)),
            asyncio.ensure_future(send(its_client, BULK * 40)),
        ]
        await until(lambda: first.owed and second.owed)
        for _ in range(20):
            await it.exchange(*await it.pair())
        assert 0 < first.owed <= 262_144
        assert 0 < second.owed <= 262_144
        assert it.guard.pipes.count <= 6
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


# ---- An upstream that breaks


async def test_an_upstream_that_resets_as_soon_as_it_accepts() -> None:
    async with rig() as it:
        for _ in range(20):
            client = await it.client()
            reset(await it.server())
            assert await read_to_end(client) == (b"", RESET)
        await it.over()
        assert it.closed == [CloseReason.UPSTREAM_RESET] * 20


@pytest.mark.parametrize("how", ["reset", "end"])
async def test_an_upstream_that_goes_in_its_handshake(how: str, secrets: Secrets) -> None:
    async with rig(upstream_tls=secrets.client) as it:
        client, server = await it.pair()
        await send(client, b"early")
        assert await received(server, 1) == b"\x16"
        if how == "reset":
            reset(server)
        else:
            server.close()
        assert await read_to_end(client) == (b"", RESET)
        await it.over()
        assert it.closed == [CloseReason.UPSTREAM_TLS]


async def test_an_upstream_that_resets_while_its_client_is_paused() -> None:
    """The client has more to say than the upstream took: it is told, and all is let go."""
    async with rig() as it:
        client, server = await it.pair()
        async with stuck(it, client, lambda: it.upstream_leg):
            await send(server, b"enough")
            reset(server)
            got, end = await read_to_end(client)
            assert (got in (b"enough", b""), end) == (True, RESET)
        await it.over()
        assert it.closed == [CloseReason.UPSTREAM_RESET]


async def test_last_words_of_an_upstream_that_resets_while_its_client_is_paused() -> None:
    """Words that have reached the guard are not lost, though it could send the upstream nothing."""
    async with rig() as it:
        client, server = await it.pair()
        async with stuck(it, client, lambda: it.upstream_leg):
            await send(server, b"enough")
            await until(lambda: it.leg.bytes_sent == 6)
            reset(server)
            assert await read_to_end(client) == (b"enough", RESET)
        await it.over()


@pytest.mark.parametrize("side", ["client", "upstream"])
async def test_an_end_and_then_a_reset_of_one_side(side: str) -> None:
    """The other side has seen the end, and is told of the reset too."""
    async with rig() as it:
        client, server = await it.pair()
        await it.exchange(client, server)
        first, second = (client, server) if side == "client" else (server, client)
        first.shutdown(socket.SHUT_WR)
        assert await read_to_end(second) == (b"", "end")
        reset(first)
        if side == "client":
            await it.over()
            assert it.closed == [CloseReason.PEER_RESET]
        else:
            await until(lambda: it.closed)
            assert it.closed == [CloseReason.UPSTREAM_RESET]
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            async with asyncio.timeout(5):
                while True:
                    await send(second, b"anybody?")
                    await asyncio.sleep(0)


async def test_half_closed_on_either_side_and_then_nothing() -> None:
    """The other half never ends: its clock does it."""
    clock = Clock()
    async with rig(limits=Limits(half_closed=20, idle=None)) as it:
        for side in ("client", "upstream"):
            client, server = await it.pair()
            await it.exchange(client, server)
            first, second = (client, server) if side == "client" else (server, client)
            first.shutdown(socket.SHUT_WR)
            assert await read_to_end(second) == (b"", "end")
        await until(lambda: not any(each.is_owed_by_kernel() for each in it.guard.connections))
        clock.advance(20 + TICK)
        clock.advance(5 + TICK)
        clock.advance(5 + TICK)
        await it.over()
        assert it.closed == [CloseReason.HALF_CLOSED_TIMEOUT] * 2


# ---- In a circle


async def test_two_guards_that_lead_to_each_other() -> None:
    """Neither can see it: their caps bound it, and it unwinds with the client."""
    async with contextlib.AsyncExitStack() as stack:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        ports = [each.getsockname()[1] for each in sockets]
        guards = []
        for number in range(2):
            guard = tieline.guard.serve(
                sockets=[sockets[number]],
                upstreams=[f"127.0.0.1:{ports[1 - number]}"],
                settings=UNCHECKED,
                limits=Limits(per_client=25),
            )
            guards.append(await stack.enter_async_context(guard))
        with await dial(guards[0].addresses[0]) as client:
            assert await read_to_end(client) == (b"", RESET)
        await until(lambda: not any(map(len, guards)))
        await until(lambda: not any(any(each.upstream_sides) for each in guards))
        assert sum(each.counters.accepted for each in guards) == 50
        assert sum(each.counters.refused[CloseReason.CLIENT_LIMIT] for each in guards) == 1
        for each in guards:
            assert each.pool.upstreams[0].sessions == each.admission.total == 0


# ---- Whose bytes are whose


@pytest.mark.parametrize("kind", ["plain", "named"])
async def test_a_slow_upstream_gets_early_and_later_bytes_in_order(kind: str) -> None:
    """It cannot take at once what has come before it was there, and more comes behind that."""

    def small(family: int, kind: int) -> socket.socket:
        made = socket.socket(family, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_608)
        return made

    def with_small_sockets(guard: Guard) -> None:
        guard.make_upstream_socket = small

    service = listen()
    service.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    settings = UNCHECKED.replace(sni="on" if kind == "named" else "off")
    data = greeting() + random.Random(4).randbytes(400_000)
    async with rig(service=service, settings=settings, before=with_small_sockets) as it:
        client = await it.client()
        sending = asyncio.ensure_future(send(client, data))
        server = await it.server()
        await until(lambda: it.upstream_leg.owed)
        # More events of the client's, while the upstream is owed what came first.
        for _ in range(20):
            await asyncio.sleep(0)
        got = bytearray()
        while len(got) < len(data):
            got += await asyncio.get_running_loop().sock_recv(server, 3_000)
            assert data.startswith(got[-3_000:], max(len(got) - 3_000, 0))
        await sending
        assert got == data


@pytest.mark.parametrize("kind", ["plain", "named", "tls"])
async def test_all_is_said_and_ended_before_there_is_an_upstream(
    kind: str, secrets: Secrets
) -> None:
    """The whole request and its end wait for a place, and then arrive in this order."""
    settings = UNCHECKED.replace(sni="on" if kind == "named" else "off")
    tls = secrets.server if kind == "tls" else None
    async with rig(options=",max=1", settings=settings, tls=tls) as it:
        it.guard.pool.take(it.upstream)
        client = Peer(await it.client())
        words = b"all of it" * 1_000
        if kind == "named":
            words = greeting() + words
        if kind == "tls":
            await client.secure(secrets.client)
        await client.send(words)
        await client.end()
        await until(lambda: it.guard.pool.waiting == 1)
        it.guard.pool.give_back(it.upstream)
        server = await it.server()
        assert await read_to_end(server) == (words, "end")
        await send(server, b"the answer")
        server.close()
        assert await client.receive_all() == b"the answer"
        await it.over()
        assert it.closed == [CloseReason.PEER_CLOSED]


@pytest.mark.parametrize("side", ["client", "upstream"])
async def test_everything_of_tls_in_one_segment(side: str, secrets: Secrets) -> None:
    """The last of the handshake, the words, TLS's own end and the stream's: nothing comes after,
    so that no event will."""
    async with rig(
        tls=secrets.server if side == "client" else None,
        upstream_tls=secrets.client if side == "upstream" else None,
    ) as it:
        client, incoming, outgoing = await it.client(), ssl.MemoryBIO(), ssl.MemoryBIO()
        loop = asyncio.get_running_loop()
        if side == "client":
            end, other = client, None
            tls = secrets.client.wrap_bio(incoming, outgoing, server_hostname="localhost")
        else:
            end, other = await it.server(), client
            tls = secrets.server.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                if data := outgoing.read():
                    await loop.sock_sendall(end, data)
                incoming.write(await loop.sock_recv(end, 65_536))
        tls.write(b"all of it")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        await loop.sock_sendall(end, outgoing.read())
        end.shutdown(socket.SHUT_WR)
        assert await read_to_end(other or await it.server()) == (b"all of it", "end")


@pytest.mark.parametrize("bulk", [False, True])
async def test_an_urgent_byte_holds_nothing_up(bulk: bool) -> None:
    """What stands before and behind it is not lost, nor is the end behind that."""
    async with rig() as it:
        client, server = await it.pair()
        head = BULK if bulk else b"before"
        reading = asyncio.ensure_future(received(server, len(head)))
        await send(client, head)
        assert await reading == head
        client.send(b"!", socket.MSG_OOB)
        await send(client, b"behind" + head)
        client.shutdown(socket.SHUT_WR)
        got, end = await read_to_end(server)
        assert end == "end"
        # The byte itself may come in line, or be lost as relays lose it.
        assert got.removeprefix(b"!") == b"behind" + head


@pytest.mark.parametrize("sender", ["client", "upstream"])
async def test_an_urgent_byte_makes_nobody_spin(
    sender: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Splicing stops before it and says nothing of it; what stands behind it arrives."""
    turns = 0
    turn = Reactor.turn

    def count(self: Reactor) -> None:
        nonlocal turns
        turns += 1
        turn(self)

    monkeypatch.setattr(Reactor, "turn", count)
    async with rig() as it:
        client, server = await it.pair()
        first, second = (client, server) if sender == "client" else (server, client)
        reading = asyncio.ensure_future(received(second, len(BULK)))
        await send(first, BULK)
        assert await reading == BULK
        turns = 0
        for number in range(5):
            first.send(b"!", socket.MSG_OOB)
            await send(first, b"behind %d" % number)
            async with asyncio.timeout(2):
                words = await received(second, 8)
                if words[:1] == b"!":
                    words = words[1:] + await received(second, 1)
                assert words == b"behind %d" % number
        assert turns < 50


async def test_an_upstream_that_is_not_there_and_a_port_of_ones_own() -> None:
    """A client's port is chosen by the kernel, and may be the very one that is connected to: TCP
    then connects the socket with itself, and whatever is sent comes back."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]

    def with_that_port(family: int, kind: int) -> socket.socket:
        made = socket.socket(family, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        return made

    def before(guard: Guard) -> None:
        guard.make_upstream_socket = with_that_port

    settings = UNCHECKED.replace(tries=1)
    async with rig(upstreams=[f"127.0.0.1:{port}"], settings=settings, before=before) as it:
        client = it.try_client()
        await until(lambda: it.guard.counters.accepted)
        with contextlib.suppress(OSError):
            await send(client, b"my own words")
            assert await asyncio.get_running_loop().sock_recv(client, 100) == b""
        assert it.upstream.connected == 0
        assert it.closed == [CloseReason.NO_UPSTREAM]


async def test_a_name_that_is_not_looked_up_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes while the guard starts is served as soon as the upstream's name is known."""
    answer = asyncio.Event()
    with listen() as service:
        guard = tieline.guard.serve(
            "127.0.0.1:0",
            upstreams=[f"service.test:{service.getsockname()[1]}"],
            settings=UNCHECKED,
        )
        resolve = guard_resolving(monkeypatch, answer)
        starting = asyncio.ensure_future(guard.start())
        try:
            await until(lambda: resolve)
            # Whether it listens already is its own affair.
            client = None
            if guard.addresses:
                client = await dial(guard.addresses[0])
                await until(lambda: guard.counters.accepted)
                for _ in range(20):
                    await asyncio.sleep(0.001)
            answer.set()
            await starting
            client = client or await dial(guard.addresses[0])
            with client:
                await send(client, b"hello")
                with await accept(service) as server:
                    assert await received(server, 5) == b"hello"
            assert guard.pool.upstreams[0].failed == 0
        finally:
            answer.set()
            await asyncio.gather(starting, return_exceptions=True)
            await guard.close()


def guard_resolving(monkeypatch: pytest.MonkeyPatch, answer: asyncio.Event) -> list[Any]:
    """Have names looked up as 127.0.0.1, once `answer` is set. What was asked so far."""
    asked: list[Any] = []

    async def look_up(address: Address) -> list[tuple[int, Any]]:
        asked.append(address)
        await answer.wait()
        return [(socket.AF_INET, ("127.0.0.1", address.port))]

    real = resolving.Resolving.__init__

    def init(self: resolving.Resolving, *arguments: Any, **more: Any) -> None:
        real(self, *arguments, **more)
        self._look_up = look_up

    monkeypatch.setattr(resolving.Resolving, "__init__", init)
    return asked


@pytest.mark.parametrize("how", ["cancelled", "closed", "drained"])
async def test_a_guard_that_is_ended_while_it_starts(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = asyncio.Event()
    asked = guard_resolving(monkeypatch, answer)
    guard = tieline.guard.serve("127.0.0.1:0", upstreams=["service.test:1"], settings=UNCHECKED)
    starting = asyncio.ensure_future(guard.start())
    await until(lambda: asked)
    if how == "cancelled":
        starting.cancel()
    elif how == "closed":
        await guard.close()
    else:
        await guard.drain(0.1)
    answer.set()
    await asyncio.gather(starting, return_exceptions=True)
    await asyncio.gather(guard.wait_closed(), guard.wait_closed(), guard.close())
    assert guard.pipes.count == 0


# ---- Many waiting


@pytest.mark.parametrize("fate", ["gone", "back", "kicked", "closed"])
async def test_a_thousand_that_wait_for_one_place(fate: str) -> None:
    """What becomes of them is done without one inside the other, however many they are."""
    settings = UNCHECKED.replace(tries=1, passive_failures=None)
    async with rig(
        options=",max=1", settings=settings, limits=Limits(per_client=None, closing=0.1)
    ) as it:
        client, server = await it.pair()
        waiting = [it.try_client(f"127.0.0.{2 + number % 50}") for number in range(1_000)]
        await until(lambda: it.guard.pool.waiting == 1_000)
        assert it.upstream.sessions == 1
        if fate == "gone":
            it.service.close()
            client.close()
            server.close()
            await until(lambda: len(it.closed) == 1_001)
            assert it.guard.counters.closed[CloseReason.NO_UPSTREAM] == 1_000
        elif fate == "back":
            client.close()
            server.close()
            for _ in range(1_000):
                served = await it.server()
                assert it.upstream.sessions <= 1
                served.close()
                waiting.pop(0).close()
        elif fate == "kicked":
            assert it.guard.kick(*it.guard.connections) == 1_001
            await until(lambda: not len(it.guard))
            assert it.guard.pool.waiting == 0
        else:
            await it.guard.close()
            assert_over(it)
        it.close_ends()
        await it.over()


# ---- Nothing stays in memory


@pytest.mark.one_loop
@pytest.mark.parametrize(
    "way", ["served", "refused", "queued", "retried", "tls", "named", "reset", "looked at"]
)
async def test_a_session_that_is_over_leaves_no_cycle(way: str, secrets: Secrets) -> None:
    """The collector is not needed: without it, nothing of a session is left."""
    arguments: dict[str, Any] = {"settings": UNCHECKED}
    if way == "refused":
        with socket.create_server(("127.0.0.1", 0)) as once:
            arguments["upstreams"] = [f"127.0.0.1:{once.getsockname()[1]}"]
        arguments["settings"] = UNCHECKED.replace(tries=1, passive_failures=None)
    elif way == "queued":
        arguments["options"] = ",max=1"
        arguments["settings"] = UNCHECKED.replace(queue_timeout=0.1)
    elif way == "retried":
        arguments["settings"] = UNCHECKED.replace(connect_timeout=0.1, tries=1)
    elif way == "tls":
        arguments.update(tls=secrets.server, upstream_tls=secrets.client)
    elif way == "named":
        arguments["settings"] = UNCHECKED.replace(sni="on")
    elif way == "looked at":
        arguments["on_open"] = lambda leg: leg.look(lambda direction, data: None)
    arguments.setdefault("on_open", None)
    with silent_port() as silent:
        if way == "retried":
            arguments["upstreams"] = [silent]
        async with rig(**arguments) as it:
            if way == "queued":
                await it.pair()
            gc.collect()
            gc.disable()
            try:
                for _ in range(5):
                    await _come_and_go(it, way, secrets)
                held = 1 if way == "queued" else 0
                await until(lambda: len(it.guard) == held)
                for _ in range(3):
                    await asyncio.sleep(0)
                left = [
                    type(each).__name__
                    for each in gc.get_objects()
                    if type(each).__name__ in _OF_A_SESSION
                ]
            finally:
                gc.enable()
            assert left.count("ClientLeg") == left.count("UpstreamLeg") == held, left
            assert set(left) <= {"ClientLeg", "UpstreamLeg"}


_OF_A_SESSION = {"ClientLeg", "UpstreamLeg", "Dialling", "Connecting", "Pipe", "HelloReader"}


async def _come_and_go(it: Rig, way: str, secrets: Secrets) -> None:
    client = it.try_client()
    await until(lambda: it.guard.counters.accepted + len(it.closed))
    if way in ("refused", "queued", "retried"):
        with contextlib.suppress(OSError):
            await read_to_end(client)
        client.close()
        return
    peer = Peer(client)
    if way == "tls":
        await peer.secure(secrets.client)
    await peer.send(greeting() if way == "named" else b"hello")
    server = Peer(await it.server())
    if way == "tls":
        await server.secure(secrets.server, server_side=True)
    await server.receive_some()
    if way == "reset":
        reset(client)
    else:
        await peer.end()
        await server.receive_all()
    server.close()
    client.close()


# ---- Threads


class _Meeting(socket.socket):
    """A socket at whose first read that has got anything two threads wait for each other: what one
    has read, the other has not sent on yet."""

    both: threading.Barrier

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        got = super().recv_into(buffer, size, flags)
        with contextlib.suppress(threading.BrokenBarrierError):
            self.both.wait()
        # Not for the next one.
        self.both.abort()
        return got


async def _say_through_a_guard(mark: bytes, kind: type[socket.socket]) -> bytes:
    """What comes out of a guard of its own when an upstream says this."""

    def make(family: int, type: int) -> socket.socket:
        return kind(family, type)

    with listen() as service:
        guard = tieline.guard.serve(
            "127.0.0.1:0",
            upstreams=[f"127.0.0.1:{service.getsockname()[1]}"],
            settings=UNCHECKED,
        )
        guard.make_upstream_socket = make
        async with guard:
            with await dial(guard.addresses[0]) as client, await accept(service) as server:
                await send(server, mark)
                return await received(client, len(mark))


def test_two_guards_in_two_threads_have_nothing_in_common() -> None:
    """Each has a loop of its own, and bytes of its own."""

    class Meeting(_Meeting):
        both = threading.Barrier(2, timeout=10)

    results: dict[bytes, Any] = {}

    def run(mark: bytes) -> None:
        try:
            results[mark] = asyncio.run(_say_through_a_guard(mark, Meeting))
        except BaseException as error:
            results[mark] = error

    threads = [threading.Thread(target=run, args=(mark * 100,)) for mark in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {mark: mark for mark in results}
    assert len(results) == 2


# ---- All of it together


_ENDS = ["end", "end", "end", "close", "reset"]


class _Side:
    """One end of a session in a churn: what it sends, and what it has got of the other's."""

    def __init__(self, end: socket.socket, own: bytes, others: bytes, chance: random.Random):
        self.end, self.own, self.others = end, own, others
        self.chance = chance
        self.said = self.heard = 0
        self.how = ""
        self.heard_how = ""

    async def talk(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self.said < len(self.own) and self.chance.random() > 0.02:
                size = self.chance.choice([1, 10, 1_024, 5_000, 65_536, 200_000])
                piece = self.own[self.said : self.said + size]
                await loop.sock_sendall(self.end, piece)
                self.said += len(piece)
                await asyncio.sleep(self.chance.choice([0, 0, 0, 0.001]))
            self.how = self.chance.choice(_ENDS)
            if self.how == "end":
                self.end.shutdown(socket.SHUT_WR)
        except OSError:
            self.how = "cut off"

    async def run(self) -> None:
        """Until it has said and heard all, or has had enough."""
        listening = asyncio.ensure_future(self.listen())
        try:
            await self.talk()
            if self.how == "end":
                await listening
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        if self.how == "reset":
            reset(self.end)
        elif self.how != "end":
            self.end.close()

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                data = await loop.sock_recv(self.end, self.chance.choice([100, 5_000, 262_144]))
                if not data:
                    self.heard_how = "end"
                    return
                assert self.others.startswith(data, self.heard), "other bytes than were sent"
                self.heard += len(data)
                if self.chance.random() < 0.05:
                    await asyncio.sleep(0.002)
        except OSError:
            self.heard_how = "cut off"


@pytest.mark.patience(60)
@pytest.mark.parametrize("seed", range(4))
async def test_churn(seed: int) -> None:
    """Sessions of all kinds at once, with an operator among them: nobody hears what was not said
    to him, or hears it in another order; who ends in good order is heard to the end; and nothing
    stays behind."""
    chance = random.Random(seed)
    pattern = random.Random(seed).randbytes(1_500_000)
    kicked: set[int] = set()

    def small(family: int, kind: int) -> socket.socket:
        made = socket.socket(family, kind)
        if chance.random() < 0.5:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        return made

    def before(guard: Guard) -> None:
        guard.make_upstream_socket = small

    def show(direction: str, data: bytes) -> None:
        pass

    limits = Limits(per_client=None, closing=0.5)
    async with rig(before=before, limits=limits) as it:
        door = asyncio.Lock()
        loop = asyncio.get_running_loop()

        async def meet(number: int) -> tuple[socket.socket, socket.socket]:
            """The two ends of one session; those before it that were cut off may come first."""
            client = await it.client()
            await send(client, b"%03d" % number)
            while True:
                server = await it.server()
                with contextlib.suppress(OSError):
                    if await loop.sock_recv(server, 3) == b"%03d" % number:
                        return client, server

        async def play(number: int) -> None:
            own = random.Random(f"{seed} {number}")
            await asyncio.sleep(own.random() * 0.3)
            try:
                async with door, asyncio.timeout(2):
                    client, server = await meet(number)
            except (OSError, TimeoutError):
                return  # the operator was faster
            port = client.getsockname()[1]
            (leg,) = [leg for leg in it.opened if leg.peer.port == port][-1:]
            at, size = own.randrange(500_000), own.choice([0, 100, 50_000, 900_000])
            up = pattern[at : at + size]
            at, size = own.randrange(500_000), own.choice([0, 100, 50_000, 900_000])
            down = pattern[at : at + size][::-1]
            sides = [_Side(client, up, down, own), _Side(server, down, up, own)]
            async with asyncio.timeout(10):
                await asyncio.gather(*(side.run() for side in sides))
            if all(side.how == "end" for side in sides) and leg.id not in kicked:
                for side, other in (sides, sides[::-1]):
                    assert (side.heard, side.heard_how) == (other.said, "end")

        async def operate() -> None:
            while True:
                await asyncio.sleep(0.004)
                legs = list(it.guard.connections)
                if not legs:
                    continue
                leg = chance.choice(legs)
                what = chance.randrange(8)
                if what == 0:
                    kicked.add(leg.id)
                    it.guard.kick(leg)
                elif what < 4:
                    leg.look(show)
                elif what < 7:
                    leg.look_away(show)
                else:
                    it.guard.change_limits(idle=chance.choice([100.0, 200.0]))

        operating = asyncio.ensure_future(operate())
        try:
            await asyncio.gather(*(play(number) for number in range(60)))
        finally:
            operating.cancel()
        it.close_ends()
        await it.over()
        assert kicked
