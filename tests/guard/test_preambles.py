"""What comes before a session: who the client is, for whom it asks, and TLS on either side."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import trustme

import tieline
from guard.relayed import RESET, accept, dial, listen, read_to_end, reset
from guard.rig import Script
from support.clock import TICK, Clock
from tieline import Address, Limits, proxy_protocol
from tieline.guard import Guard, GuardSettings, preamble
from tieline.reasons import CloseReason

CLIENT, SERVICE = Address("203.0.113.7", 50_000), Address("198.51.100.1", 443)
FROM_HERE = GuardSettings(accept_proxy=("127.0.0.0/8",), check_interval=None)


async def received(end: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        data = await asyncio.get_running_loop().sock_recv(end, size - len(got))
        assert data, "the stream ended early"
        got += data
    return got


@contextlib.asynccontextmanager
async def guarding(
    *upstreams: socket.socket, **arguments: Any
) -> AsyncIterator[tuple[Guard, list[CloseReason]]]:
    refused: list[CloseReason] = []
    guard = tieline.guard.serve(
        "127.0.0.1:0",
        upstreams=[f"127.0.0.1:{each.getsockname()[1]}" for each in upstreams],
        on_refuse=lambda peer, reason: refused.append(reason),
        **arguments,
    )
    async with guard:
        yield guard, refused


async def has_read(guard: Guard, size: int) -> None:
    """Wait until its only client has sent so much, or is gone."""
    while not guard.counters.accepted or any(
        each.bytes_received < size for each in guard.connections
    ):
        await asyncio.sleep(0)


# ---- Who the client is


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("piece", [1, 7, 1000])
async def test_a_client_is_who_the_header_says(version: int, piece: int) -> None:
    with listen() as service:
        async with guarding(service, settings=FROM_HERE) as (guard, _):
            with await dial(guard.addresses[0]) as client:
                data = proxy_protocol.build(version, CLIENT, SERVICE) + b"and what it says"
                for at in range(0, len(data), piece):
                    client.send(data[at : at + piece])
                    await asyncio.sleep(0)
                with await accept(service) as server:
                    assert await received(server, 16) == b"and what it says"
                    (leg,) = guard.connections
                    assert leg.peer == CLIENT
                    assert leg.client.key == "203.0.113.7"
                    assert leg.local == SERVICE


async def test_policy_is_for_the_client_that_the_header_names() -> None:
    limits = Limits(per_client=1)
    with listen() as service:
        async with guarding(service, settings=FROM_HERE, limits=limits) as (guard, refused):
            header = proxy_protocol.build(2, CLIENT, SERVICE)
            other = proxy_protocol.build(2, Address("203.0.113.8", 1), SERVICE)
            with contextlib.ExitStack() as stack:
                first = stack.enter_context(await dial(guard.addresses[0]))
                first.send(header)
                stack.enter_context(await accept(service))
                second = stack.enter_context(await dial(guard.addresses[0]))
                second.send(header)
                assert await read_to_end(second) == (b"", RESET)
                third = stack.enter_context(await dial(guard.addresses[0]))
                third.send(other)
                stack.enter_context(await accept(service))
                assert refused == [CloseReason.CLIENT_LIMIT]
                guard.ban("203.0.113.8")
                assert (await read_to_end(third))[1] == RESET


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 99999 1\r\n",
        b"PROXY TCP4 01.2.3.4 5.6.7.8 1 1\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c" + b"\x00" * 12,
        b"PROXY " + b"x" * 200,
    ],
)
async def test_a_header_that_is_none(data: bytes) -> None:
    with listen() as service:
        async with guarding(service, settings=FROM_HERE) as (guard, refused):
            with await dial(guard.addresses[0]) as client:
                client.send(data)
                assert await read_to_end(client) == (b"", RESET)
            assert refused == [CloseReason.BAD_PREAMBLE]
            assert guard.counters.accepted == 0


@pytest.mark.parametrize("data", [b"", b"PROXY TCP4"])
async def test_a_proxy_that_resets_before_its_header_is_whole(data: bytes) -> None:
    """As its health checks do: it has not said anything wrong."""
    with listen() as service:
        async with guarding(service, settings=FROM_HERE) as (guard, refused):
            client = await dial(guard.addresses[0])
            client.send(data)
            waiting = cast(Any, guard)._acceptor._waiting
            while not waiting or (data and not next(iter(waiting))._data):
                await asyncio.sleep(0)
            reset(client)
            while not refused:
                await asyncio.sleep(0.002)
            assert refused == [CloseReason.PEER_RESET]


async def test_a_header_that_drips_is_cut_off_in_time() -> None:
    clock = Clock()
    with listen() as service:
        async with guarding(service, settings=FROM_HERE) as (guard, refused):
            with await dial(guard.addresses[0]) as client:
                for _ in range(9):
                    client.send(b"P" if _ == 0 else b"ROXY TCP"[_ - 1 : _])
                    await asyncio.sleep(0.01)
                    clock.advance(1.0)
                assert not refused
                clock.advance(1.0 + TICK)
                assert await read_to_end(client) == (b"", RESET)
            assert refused == [CloseReason.PREAMBLE_TIMEOUT]


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.ENOMEM], ids=errno.errorcode.get)
async def test_a_machine_short_of_memory_is_not_the_fault_of_a_header(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for a while later, and whoever goes meanwhile is let go."""
    monkeypatch.setattr(preamble, "_REST", 0.01)
    script = Script(recv=[code, None])
    with listen() as service:
        guard = tieline.guard.serve(
            "127.0.0.1:0",
            upstreams=[f"127.0.0.1:{service.getsockname()[1]}"],
            settings=FROM_HERE,
            on_refuse=lambda peer, reason: refused.append(reason),
        )
        guard.make_socket = script.make_socket
        refused: list[CloseReason] = []
        async with guard:
            with await dial(guard.addresses[0]) as client:
                client.send(proxy_protocol.build(2, CLIENT, SERVICE) + b"hello")
                with await accept(service) as server:
                    assert await received(server, 5) == b"hello"
                    assert next(guard.connections).peer == CLIENT
            assert script.injected == {"recv": 1}
            script.calls["recv"].extend([code] * 2)
            with await dial(guard.addresses[0]):
                while script.injected["recv"] < 2:
                    await asyncio.sleep(0.002)
                # Closed while it rests.
        assert refused == []


async def test_a_source_that_is_not_stated_is_refused_with_its_header() -> None:
    with listen() as service:
        async with guarding(service, settings=FROM_HERE) as (guard, refused):
            guard.change_settings(accept_proxy=("127.0.0.2",))
            with contextlib.suppress(ConnectionResetError):
                with await dial(guard.addresses[0]) as client:
                    with contextlib.suppress(OSError):
                        client.send(proxy_protocol.build(1, CLIENT, SERVICE))
                    assert await read_to_end(client) == (b"", RESET)
            assert refused == [CloseReason.UNTRUSTED_SOURCE]
            with await dial(guard.addresses[0], "127.0.0.2") as client:
                client.send(proxy_protocol.build(1, CLIENT, SERVICE))
                with await accept(service):
                    assert next(guard.connections).peer == CLIENT


async def test_a_health_check_of_the_proxy_before_counts_as_itself() -> None:
    with listen() as service:
        async with guarding(service, settings=FROM_HERE) as (guard, _):
            with await dial(guard.addresses[0]) as client:
                client.send(proxy_protocol.build(2, None, None))
                with await accept(service):
                    assert next(guard.connections).client.key == "127.0.0.1"


async def test_closing_with_a_header_still_awaited() -> None:
    with listen() as service:
        async with guarding(service, settings=FROM_HERE) as (guard, _):
            client = await dial(guard.addresses[0])
            client.send(b"PRO")
            # Nothing tells that it has been read: it is nobody's connection yet.
            await asyncio.sleep(0.05)
        client.close()


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_the_upstream_is_told_who_the_client_is(version: str) -> None:
    settings = GuardSettings(send_proxy=version, check_interval=None)
    with listen() as service:
        async with guarding(service, settings=settings) as (guard, _):
            with await dial(guard.addresses[0], "127.0.0.9") as client:
                client.send(b"hello")
                with await accept(service) as server:
                    data = await received(server, 5)
                    while (header := proxy_protocol.parse(data)) is None:
                        data += await asyncio.get_running_loop().sock_recv(server, 1)
                    assert header.source == Address(*client.getsockname())
                    assert header.destination == guard.addresses[0]
                    assert (
                        data[header.size :] + await received(server, 5 - len(data[header.size :]))
                        == b"hello"
                    )


# ---- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_side(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name, "127.0.0.1").configure_cert(context)
    return context


def client_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def echo(connection: tieline.Connection) -> None:
    async for message in connection:
        await connection.send(message)


async def test_tls_ends_here(authority: trustme.CA) -> None:
    async with tieline.serve(echo, "127.0.0.1:0") as service:
        guard = tieline.guard.serve(
            "127.0.0.1:0", upstreams=service.addresses, tls=server_side(authority, "a.test")
        )
        async with guard:
            async with tieline.connect(
                guard.addresses[0], tls=client_side(authority), server_name="a.test"
            ) as connection:
                await connection.send(b"x" * 300_000)
                size = 0
                while size < 300_000:
                    size += len(await connection.receive())
                connection.half_close()
                with pytest.raises(tieline.EndOfStreamError):
                    await connection.receive()
            assert guard.counters.bytes_received == guard.counters.bytes_sent == 300_000


async def test_a_plain_client_where_tls_ends(authority: trustme.CA) -> None:
    with listen() as service:
        async with guarding(service, tls=server_side(authority, "a.test")) as (guard, _):
            with await dial(guard.addresses[0]) as client:
                client.send(b"GET / HTTP/1.1\r\n\r\n")
                _, end = await read_to_end(client)
                assert end in (RESET, "end")
            while len(guard):
                await asyncio.sleep(0.005)
            assert guard.counters.closed[CloseReason.TLS_ERROR] == 1
            assert guard.pool.upstreams[0].connected == 0


async def test_tls_begins_here(authority: trustme.CA) -> None:
    tls = server_side(authority, "b.test")
    async with tieline.serve(echo, "127.0.0.1:0", tls=tls) as service:
        guard = tieline.guard.serve(
            "127.0.0.1:0",
            upstreams=service.addresses,
            upstream_tls=client_side(authority),
            upstream_name="b.test",
        )
        async with guard:
            with await dial(guard.addresses[0]) as client:
                await asyncio.get_running_loop().sock_sendall(client, b"y" * 200_000)
                assert await received(client, 200_000) == b"y" * 200_000
                client.shutdown(socket.SHUT_WR)
                assert await read_to_end(client) == (b"", "end")


async def test_an_upstream_whose_name_is_another(authority: trustme.CA) -> None:
    tls = server_side(authority, "b.test")
    async with tieline.serve(echo, "127.0.0.1:0", tls=tls) as service:
        guard = tieline.guard.serve(
            "127.0.0.1:0",
            upstreams=service.addresses,
            upstream_tls=client_side(authority),
            upstream_name="c.test",
        )
        async with guard:
            with await dial(guard.addresses[0]) as client:
                assert await read_to_end(client) == (b"", RESET)
            assert guard.counters.closed[CloseReason.UPSTREAM_TLS] == 1


async def test_a_plain_upstream_where_tls_begins(authority: trustme.CA) -> None:
    with listen() as service:
        async with guarding(
            service, upstream_tls=client_side(authority), upstream_name="b.test"
        ) as (guard, _):
            with await dial(guard.addresses[0]) as client:
                with await accept(service) as server:
                    server.send(b"220 mail.example ready\r\n")
                    assert await read_to_end(client) == (b"", RESET)
            assert guard.counters.closed[CloseReason.UPSTREAM_TLS] == 1


async def test_a_header_and_the_tls_greeting_in_one_segment(authority: trustme.CA) -> None:
    tls = server_side(authority, "a.test")
    with listen() as service:
        async with guarding(service, tls=tls, settings=FROM_HERE) as (guard, _):
            with await dial(guard.addresses[0]) as client:
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                session = client_side(authority).wrap_bio(
                    incoming, outgoing, server_hostname="a.test"
                )
                with pytest.raises(ssl.SSLWantReadError):
                    session.do_handshake()
                client.send(proxy_protocol.build(2, CLIENT, SERVICE) + outgoing.read())
                while True:
                    incoming.write(await asyncio.get_running_loop().sock_recv(client, 65_536))
                    try:
                        session.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        continue
                session.write(b"through")
                client.send(outgoing.read())
                with await accept(service) as server:
                    assert await received(server, 7) == b"through"
                    assert next(guard.connections).peer == CLIENT


# ---- Names


@pytest.mark.parametrize("way", ["looked at", "ended here"])
async def test_the_name_chooses_the_upstream(authority: trustme.CA, way: str) -> None:
    names = ["a.test", "b.test"]
    async with contextlib.AsyncExitStack() as stack:
        texts, answers = [], {}
        for name in names:

            async def say(connection: tieline.Connection, name: str = name) -> None:
                async for _ in connection:
                    await connection.send(name.encode())

            own = server_side(authority, name) if way == "looked at" else None
            service = await stack.enter_async_context(tieline.serve(say, "127.0.0.1:0", tls=own))
            texts.append(f"{service.addresses[0]},sni={name}")
        tls = None
        if way == "ended here":
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            authority.issue_cert(*names, "c.test").configure_cert(tls)
        settings = GuardSettings(sni="on" if tls is None else "off", check_interval=None)
        guard = tieline.guard.serve("127.0.0.1:0", upstreams=texts, settings=settings, tls=tls)
        await stack.enter_async_context(guard)
        for name in names:
            reply = await tieline.ask(
                guard.addresses[0], b"?", tls=client_side(authority), server_name=name
            )
            answers[name] = reply.decode()
        assert answers == {name: name for name in names}
        with pytest.raises((tieline.TielineError, ConnectionResetError)):
            await tieline.ask(
                guard.addresses[0], b"?", tls=client_side(authority), server_name="c.test"
            )
        assert guard.counters.closed[CloseReason.UNKNOWN_NAME] == 1


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", b"\x16\x03\x01\xff"])
async def test_a_greeting_that_is_none(data: bytes) -> None:
    clock = Clock()
    settings = GuardSettings(sni="on", check_interval=None)
    with listen() as service:
        async with guarding(service, settings=settings) as (guard, _):
            with await dial(guard.addresses[0]) as client:
                client.send(data)
                await has_read(guard, len(data))
                clock.advance(10 + TICK)
                assert await read_to_end(client) == (b"", RESET)
            closed = guard.counters.closed
            assert closed[CloseReason.BAD_PREAMBLE] + closed[CloseReason.PREAMBLE_TIMEOUT] == 1


async def test_a_client_that_ends_before_its_greeting() -> None:
    settings = GuardSettings(sni="on", check_interval=None)
    with listen() as service:
        async with guarding(service, settings=settings) as (guard, _):
            with await dial(guard.addresses[0]) as client:
                client.send(b"\x16\x03")
                client.shutdown(socket.SHUT_WR)
                assert (await read_to_end(client))[0] == b""
            while len(guard):
                await asyncio.sleep(0.005)
            assert guard.counters.closed[CloseReason.BAD_PREAMBLE] == 1


async def test_a_client_that_comes_and_goes_without_a_word() -> None:
    """As a health check that only connects does: it has not said anything wrong."""
    settings = GuardSettings(sni="on", check_interval=None)
    with listen() as service:
        async with guarding(service, settings=settings, limits=Limits(penalty_malformed=20)) as (
            guard,
            _,
        ):
            with await dial(guard.addresses[0]) as client:
                client.shutdown(socket.SHUT_WR)
                assert await read_to_end(client) == (b"", "end")
            while len(guard):
                await asyncio.sleep(0.005)
            assert guard.counters.closed == {CloseReason.PEER_CLOSED: 1}
            assert list(guard.admission.penalties()) == []
