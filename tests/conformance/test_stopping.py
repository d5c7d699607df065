"""Stopping a server: at once, or in good order."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from support.clock import TICK, Clock
from support.hooks import Watch, echo, eventually
from support.peers import Peer
from support.transports import Place
from tieline import CloseReason, Connection, Limits, Line, SettingError, State


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
    assert watch.closed == [(connection, CloseReason.DRAIN_TIMEOUT)]


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


# ---- In good order, over a time


async def test_draining_may_tell_them_one_by_one(place: Place, kind: str) -> None:
    """So that their clients do not all return in one instant."""
    watch = Watch()
    async with (
        place.serve(echo(kind), framing=Line(), **watch.hooks) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        peers = []
        for _ in range(2):
            peers.append(await stack.enter_async_context(await place.peer(server)))
            await (await watch.next_open()).wait_secured()
        draining = asyncio.create_task(server.drain(10, spread=0.2))
        # The older one at once, and the other in its turn; until then it is served.
        await eventually(lambda: watch.opened[0].is_finishing)
        assert not watch.opened[1].is_finishing
        await peers[1].send(b"still here\n")
        assert await peers[1].receive_line() == b"still here\n"
        assert await place.ask_fails(server)
        for peer in peers:
            assert await peer.receive_all() == b""
            await peer.end()
        assert await draining
        assert watch.closed == [(each, CloseReason.SHUTDOWN) for each in watch.opened]


async def test_one_that_leaves_before_its_turn_is_gone(plain: Place) -> None:
    watch = Watch()
    async with plain.serve(echo("responder"), **watch.hooks) as server:
        async with await plain.peer(server) as first, await plain.peer(server) as second:
            for _ in range(2):
                await watch.next_open()
            draining = asyncio.create_task(server.drain(3600, spread=3600))
            assert await first.receive_all() == b""
            await second.end()
            assert await second.receive_all() == b""
            await first.end()
            assert await draining
    assert {reason for _, reason in watch.closed} == {
        CloseReason.SHUTDOWN,
        CloseReason.PEER_CLOSED,
    }


async def test_closing_while_draining_waits_for_nobodys_turn(tcp_place: Place) -> None:
    watch = Watch()
    async with tcp_place.serve(echo("responder"), **watch.hooks) as server:
        async with await tcp_place.peer(server), await tcp_place.peer(server) as second:
            for _ in range(2):
                await (await watch.next_open()).wait_secured()
            draining = asyncio.create_task(server.drain(3600, spread=3600))
            await eventually(lambda: watch.opened[0].is_finishing)
            await server.close()
            assert await second.is_reset()
            await draining
            assert not watch.opened[1].is_finishing
    assert [reason for _, reason in watch.closed] == [CloseReason.SHUTDOWN] * 2


@pytest.mark.parametrize(
    ("seconds", "spread"), [(-1, 0), (10, -1), (10, 11), (float("nan"), 0), (10, float("nan"))]
)
async def test_draining_in_a_time_that_makes_no_sense_does_not_begin(
    plain: Place, seconds: float, spread: float
) -> None:
    async with plain.serve(echo("responder")) as server:
        with pytest.raises(SettingError):
            await server.drain(seconds, spread)
        assert not server.is_draining
        assert await plain.ask(server, b"still here") == b"still here"


async def test_a_handler_that_only_speaks_is_told_to_finish(place: Place) -> None:
    """It never waits for a message, so that its end is its own to make."""
    watch = Watch()

    async def tick(connection: Connection) -> None:
        await connection.wait_secured()
        while not connection.is_finishing:
            await connection.send(b".")
            await asyncio.sleep(0)
        await connection.send(b" and out")

    async with place.serve(tick, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            assert (await peer.receive(1)).startswith(b".")
            assert not server.is_draining
            draining = asyncio.create_task(server.drain(10))
            assert (await peer.receive_all()).strip(b".") == b" and out"
            assert server.is_draining
            await peer.end()
            assert await draining


async def test_whoever_does_not_finish_is_reset_and_its_handler_cancelled(
    tcp_place: Place,
) -> None:
    ended: list[str] = []

    async def go_on(connection: Connection) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    watch = Watch()
    async with tcp_place.serve(go_on, **watch.hooks) as server:
        async with await tcp_place.peer(server) as one, await tcp_place.peer(server) as other:
            for _ in range(2):
                await (await watch.next_open()).wait_secured()
            assert not await server.drain(0.01)
            assert await one.is_reset()
            assert await other.is_reset()
    assert [reason for _, reason in watch.closed] == [CloseReason.DRAIN_TIMEOUT] * 2
    assert ended == ["cancelled"] * 2


async def test_a_conversation_that_outlives_its_connection_is_not_finished(plain: Place) -> None:
    """Its connection is over, and it goes on: it had to be cancelled."""
    ended: list[str] = []

    async def tidy(connection: Connection) -> None:
        connection.abort()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    watch = Watch()
    async with plain.serve(tidy, **watch.hooks) as server:
        async with await plain.peer(server):
            await watch.next_close()
            assert not await server.drain(0.01)
    assert ended == ["cancelled"]
