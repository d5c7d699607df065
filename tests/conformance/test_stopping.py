"""Stopping a server: at once, or in good order."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from support.clock import TICK, Clock
from support.hooks import Watch, echo, eventually
from support.peers import Peer
from support.transports import Place
from tieline import CloseReason, Connection, Limits, Line, State


async def test_closing_a_server_resets_everybody(tcp_place: Place, kind: str) -> None:
    watch = Watch()
    async with tcp_place.serve(echo(kind), **watch.hooks) as server:
        async with await tcp_place.peer(server) as one, await tcp_place.peer(server) as other:
            for _ in range(2):
                await (await watch.next_open()).wait_secured()
            await server.close()
            assert len(server) == 0
            assert [reason for _, reason in watch.closed] == [CloseReason.SHUTDOWN] * 2
            assert await one.is_reset()
            assert await other.is_reset()
            await server.close()


async def test_closing_a_server_cancels_conversations_and_waits_for_them(place: Place) -> None:
    tidied: list[Connection] = []
    inside = asyncio.Event()

    async def tidy(connection: Connection) -> None:
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidied.append(connection)

    async with place.serve(tidy) as server:
        async with await place.peer(server):
            await inside.wait()
            await server.close()
            assert len(tidied) == 1


async def test_a_conversation_may_close_its_own_server(place: Place) -> None:
    watch = Watch()

    async def shut_down(connection: Connection) -> None:
        if await connection.receive() == b"shut down":
            await server.close()

    server = place.serve(shut_down, **watch.hooks)
    async with server:
        async with await place.peer(server), await place.peer(server) as peer:
            await peer.send(b"shut down")
            async with asyncio.timeout(10):
                await server.wait_closed()
    assert [reason for _, reason in watch.closed] == [CloseReason.SHUTDOWN] * 2


@pytest.mark.parametrize("visitors", [0, 1])
async def test_serving_for_ever_ends_when_the_server_is_closed(plain: Place, visitors: int) -> None:
    server = plain.serve(echo("conversation"))
    serving = asyncio.create_task(server.serve_forever())
    await eventually(lambda: server.addresses)
    for _ in range(visitors):
        assert await plain.ask(server, b"hello") == b"hello"
    await eventually(lambda: not len(server))
    await server.close()
    async with asyncio.timeout(5):
        await serving


async def test_waiting_for_the_end_ends_with_the_listeners_when_nobody_is_there(
    plain: Place,
) -> None:
    async with plain.serve(echo("conversation")) as server:
        waiting = asyncio.create_task(server.wait_closed())
        await asyncio.sleep(0)
        assert not waiting.done()
        server.close_listeners()
        async with asyncio.timeout(5):
            await waiting


# ---- In good order


async def test_draining_closes_idle_connections_at_once(place: Place, kind: str) -> None:
    watch = Watch()
    async with place.serve(echo(kind), framing=Line(), **watch.hooks) as server:
        async with await place.peer(server) as used, await place.peer(server) as fresh:
            for _ in range(2):
                await (await watch.next_open()).wait_secured()
            await used.send(b"hello\n")
            await used.receive_line()
            draining = asyncio.create_task(server.drain(10))
            assert await used.receive_all() == b""
            assert await fresh.receive_all() == b""
            await used.end()
            await fresh.end()
            assert await draining
    assert [reason for _, reason in watch.closed] == [CloseReason.SHUTDOWN] * 2


async def test_draining_lets_a_message_that_has_begun_end(place: Place, kind: str) -> None:
    watch = Watch()
    async with place.serve(echo(kind), framing=Line(), **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await peer.send(b"a message that has be")
            await eventually(lambda: connection.bytes_received)
            draining = asyncio.create_task(server.drain(10))
            await peer.send(b"gun\n")
            assert await peer.receive_all() == b"a message that has begun\n"
            await peer.end()
            assert await draining
    assert watch.closed == [(connection, CloseReason.SHUTDOWN)]


async def test_draining_lets_a_handler_finish_what_it_is_at(place: Place) -> None:
    answer_now, asked = asyncio.Event(), asyncio.Event()

    async def think(connection: Connection) -> None:
        async for question in connection:
            asked.set()
            await answer_now.wait()
            await connection.send(b"the answer to " + question)

    watch = Watch()
    async with place.serve(think, framing=Line(), **watch.hooks) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"it all\nanother\n")
            await asked.wait()
            draining = asyncio.create_task(server.drain(10))
            await asyncio.sleep(0)
            assert not draining.done()
            answer_now.set()
            # What had come before is answered too.
            assert await peer.receive_all() == b"the answer to it all\nthe answer to another\n"
            await peer.end()
            assert await draining
    assert [reason for _, reason in watch.closed] == [CloseReason.SHUTDOWN]


async def test_draining_lets_a_peer_take_what_it_is_owed(tcp_place: Place, kind: str) -> None:
    size = 20_000_000
    limits = Limits(max_owed=2 * size)

    async def converse(connection: Connection) -> None:
        async for _ in connection:
            connection.send(b"x" * size)

    def respond(connection: Connection, message: bytes) -> bytes:
        return b"x" * size

    handler = converse if kind == "conversation" else respond
    watch = Watch()
    async with tcp_place.serve(handler, limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server) as peer:
            connection = await watch.next_open()
            await peer.send(b"all of it")
            await eventually(lambda: connection.owed)
            draining = asyncio.create_task(server.drain(5))
            await asyncio.sleep(0)
            assert await peer.receive(size) == b"x" * size
            assert await peer.receive_all() == b""
            await peer.end()
            assert await draining
    assert watch.closed == [(connection, CloseReason.SHUTDOWN)]


async def test_draining_does_not_wait_for_a_handshake_that_leads_nowhere(
    tls_place: Place, kind: str
) -> None:
    """Once it is secure, an idle connection is closed like any other."""
    watch = Watch()
    async with tls_place.serve(echo(kind), **watch.hooks) as server:
        async with await Peer.connect(server.addresses[0]) as peer:
            connection = await watch.next_open()
            assert connection.state is State.HANDSHAKE
            draining = asyncio.create_task(server.drain(5))
            await asyncio.sleep(0)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                assert tls_place.client_tls is not None
                await peer.secure(tls_place.client_tls)
                assert await peer.receive_all() == b""
                await peer.end()
            assert await draining
    assert watch.closed == [(connection, CloseReason.SHUTDOWN)]


async def test_what_is_left_at_the_deadline_is_reset(tcp_place: Place, kind: str) -> None:
    watch = Watch()
    async with tcp_place.serve(echo(kind), framing=Line(), **watch.hooks) as server:
        async with await tcp_place.peer(server) as peer:
            connection = await watch.next_open()
            await peer.send(b"a message that never en")
            await eventually(lambda: connection.bytes_received)
            assert not await server.drain(0.01)
            assert await peer.is_reset()
    assert watch.closed == [(connection, CloseReason.SHUTDOWN)]


async def test_draining_lets_nobody_new_in(place: Place) -> None:
    async with place.serve(echo("conversation")) as server:
        assert await server.drain(10)
        assert await place.ask_fails(server)


async def test_draining_may_be_given_up_and_goes_on(plain: Place) -> None:
    watch = Watch()
    async with plain.serve(echo("conversation"), framing=Line(), **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            await peer.send(b"hal")
            await eventually(lambda: connection.bytes_received)
            draining = asyncio.create_task(server.drain(10))
            await asyncio.sleep(0)
            draining.cancel()
            await asyncio.wait([draining])
            await peer.send(b"f\n")
            assert await peer.receive_all() == b"half\n"
            await peer.end()
            assert await watch.next_close() is CloseReason.SHUTDOWN


async def test_draining_an_empty_server_is_done_at_once(plain: Place) -> None:
    async with plain.serve(echo("responder")) as server:
        assert await server.drain(10)
        assert await server.drain(10)


async def test_a_conversation_that_starts_to_wait_while_draining_sees_the_end(
    plain: Place,
) -> None:
    go_on, seen = asyncio.Event(), list[bytes]()

    async def work_first(connection: Connection) -> None:
        await go_on.wait()
        seen.extend([message async for message in connection])
        seen.append(b"the end")

    watch = Watch()
    async with plain.serve(work_first, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            await watch.next_open()
            draining = asyncio.create_task(server.drain(10))
            await asyncio.sleep(0)
            go_on.set()
            assert await peer.receive_all() == b""
            await peer.end()
            assert await draining
    assert seen == [b"the end"]
    assert watch.closed[0][1] is CloseReason.SHUTDOWN


async def test_draining_is_bounded_by_closing_too(plain: Place) -> None:
    """An idle peer that is told the end, and does not end its own side."""
    clock, watch = Clock(), Watch()
    limits = Limits(closing=5)
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            draining = asyncio.create_task(server.drain(60))
            assert await peer.receive_all() == b""
            await eventually(lambda: connection.tcp_info().state == "fin_wait2")
            clock.advance(5 + TICK)
            assert await draining
    assert watch.closed == [(connection, CloseReason.SHUTDOWN)]
