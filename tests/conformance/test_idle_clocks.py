"""Clocks of one side, of a half-closed connection, and of a server that fills up.

Time is moved by hand; nothing here waits for any. Plain idleness is in `test_clocks`.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from support.clock import TICK, Clock
from support.hooks import Watch, echo, eventually
from support.kernel import kernel_state
from support.peers import Peer
from support.transports import Place
from tieline import CloseReason, Connection, Limits, Line, Server, State

#: No other clock.
QUIET: dict[str, Any] = {"idle": None, "first_byte": None, "half_closed": None}


async def _listen(connection: Connection) -> None:
    """A conversation that says nothing."""
    async for _ in connection:
        pass


async def _hold(connection: Connection) -> None:
    """A conversation that holds on to its connection whatever happens."""
    await connection.wait_closed()


async def _delivered(connection: Connection) -> None:
    """Wait until the peer's kernel has it all: the clock is ahead of it otherwise."""
    await eventually(lambda: not connection.is_owed_by_kernel())


async def _struck(clock: Clock, server: Server, seconds: float) -> None:
    """See that the one connection lives for so long, and no longer."""
    clock.advance(seconds - 1)
    assert len(server) == 1
    clock.advance(1 + TICK)
    assert len(server) == 0


# ---- One side only


async def test_nothing_received_for_long_is_an_end_whatever_is_sent(place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**QUIET, receive_idle=60)
    async with place.serve(_listen, limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            await peer.send(b"hello")
            await eventually(lambda: connection.bytes_received)
            for _ in range(2):
                clock.advance(29)
                await connection.send(b"x")
                assert await peer.receive(1) == b"x"
            await _delivered(connection)
            await _struck(clock, server, 2)
            assert await watch.next_close() is CloseReason.RECEIVE_IDLE_TIMEOUT
            # Nothing is owed: an end, and no reset.
            assert await peer.receive_all() == b""


async def test_nothing_sent_for_long_is_an_end_whatever_comes(place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**QUIET, send_idle=60)
    async with place.serve(_listen, limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            clock.advance(50)
            await connection.send(b"hello")
            assert await peer.receive(5) == b"hello"
            await _delivered(connection)
            for times in range(1, 3):
                clock.advance(29)
                await peer.send(b"x")
                await eventually(lambda: connection.bytes_received == times)  # noqa: B023
            await _struck(clock, server, 2)
            assert await watch.next_close() is CloseReason.SEND_IDLE_TIMEOUT
            assert await peer.receive_all() == b""


async def test_a_side_that_has_ended_need_not_say_more(plain: Place) -> None:
    """The peer has ended and is answered for long; then this side has, and listens for long."""
    clock, watch = Clock(), Watch()
    limits = Limits(**QUIET, receive_idle=10, send_idle=10)
    async with plain.serve(_hold, limits=limits, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            await peer.end()
            await eventually(lambda: connection.state is State.PEER_ENDED)
            for _ in range(5):
                clock.advance(9)
                await connection.send(b"x")
            assert len(server) == 1
        connection.abort()
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            connection.half_close()
            for times in range(1, 6):
                clock.advance(9)
                await peer.send(b"x")
                await eventually(lambda: connection.bytes_received == times)  # noqa: B023
            assert len(server) == 1


# ---- Half-closed


async def test_a_peer_that_has_ended_has_its_own_time(place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(idle=300, half_closed=20)
    async with place.serve(_hold, limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            clock.advance(50)
            await peer.send(b"x")
            await peer.end()
            await eventually(lambda: connection.state is State.PEER_ENDED)
            # Each byte that goes gives it more.
            clock.advance(19)
            await connection.send(b"y")
            assert await peer.receive(1) == b"y"
            await _delivered(connection)
            await _struck(clock, server, 20)
            assert await watch.next_close() is CloseReason.HALF_CLOSED_TIMEOUT
            assert await peer.receive_all() == b""


async def test_a_side_that_has_ended_waits_for_the_other_for_its_own_time(place: Place) -> None:
    clock, watch = Clock(), Watch()

    async def say_and_listen(connection: Connection) -> None:
        await connection.wait_secured()
        await connection.send(b"that is all")
        connection.half_close()
        async for _ in connection:
            pass

    limits = Limits(idle=300, first_byte=None, half_closed=20)
    async with place.serve(say_and_listen, limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            assert await peer.receive_all() == b"that is all"
            clock.advance(19)
            await peer.send(b"x")
            await eventually(lambda: connection.bytes_received)
            await _delivered(connection)
            await _struck(clock, server, 20)
            assert await watch.next_close() is CloseReason.HALF_CLOSED_TIMEOUT


async def test_the_time_begins_when_the_side_ends(plain: Place) -> None:
    """A connection that was open for long, and idle, is not closed by its first half's end."""
    clock, watch = Clock(), Watch()
    limits = Limits(**{**QUIET, "half_closed": 20})
    async with plain.serve(_hold, limits=limits, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            clock.advance(1_000)
            await peer.end()
            await eventually(lambda: connection.state is State.PEER_ENDED)
            await _struck(clock, server, 20)
            assert await watch.next_close() is CloseReason.HALF_CLOSED_TIMEOUT


async def test_an_offence_counts_as_the_peers_end(plain: Place) -> None:
    """Nothing more will come in: what the handler does about it has its time as well."""
    clock, watch = Clock(), Watch()
    limits = Limits(**{**QUIET, "half_closed": 20}, max_message=10)
    async with plain.serve(_hold, framing=Line(), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            await peer.send(b"x" * 100)
            await eventually(lambda: connection.state is State.PEER_ENDED)
            await _struck(clock, server, 20)
            # What followed from the offence is no new cause.
            assert await watch.next_close() is CloseReason.MESSAGE_TOO_LARGE


async def test_half_closed_may_last(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    async with plain.serve(_hold, limits=Limits(**QUIET), **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            await peer.end()
            await eventually(lambda: connection.state is State.PEER_ENDED)
            clock.advance(1_000_000)
            await connection.send(b"still here")
            assert await peer.receive(10) == b"still here"


# ---- As the server fills up


async def _come(stack: AsyncExitStack, place: Place, server: Server, watch: Watch) -> Peer:
    peer = await stack.enter_async_context(await place.peer(server))
    connection = await watch.next_open()
    await connection.wait_secured()
    return peer


async def test_idleness_is_shorter_on_a_full_server(place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(first_byte=None, idle=100, idle_when_full=20, total=4)
    async with (
        place.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for _ in range(2):
            await _come(stack, place, server, watch)
        # Half full: all of the time.
        clock.advance(60)
        assert len(server) == 2
        peers = [await _come(stack, place, server, watch) for _ in range(2)]
        # Full: the first two have been idle for too long. They are asked about it in time.
        for connection in watch.opened:
            await _delivered(connection)
        clock.advance(10)
        for peer in peers:
            await peer.send(b"x")
            assert await peer.receive(1) == b"x"
        for connection in watch.opened:
            await _delivered(connection)
        clock.advance(10 + 2 * TICK)
        first, second, *others = watch.opened
        assert {each for each, _ in watch.closed} == {first, second}
        # Half full again: the others have their time back.
        clock.advance(88)
        assert len(server) == 2
        clock.advance(2 + TICK)
        assert {each for each, _ in watch.closed[2:]} == set(others)
        assert {why for _, why in watch.closed} == {CloseReason.IDLE_TIMEOUT}


async def test_on_a_full_server_newcomers_come_in_sooner(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(first_byte=None, idle=100, idle_when_full=5, total=1)
    server = plain.serve(echo("responder"), limits=limits, **watch.hooks)
    async with server, await plain.peer(server) as first, await plain.peer(server) as second:
        await watch.next_open()
        clock.advance(5 + TICK)
        assert await watch.next_close() is CloseReason.IDLE_TIMEOUT
        assert await first.receive_all() == b""
        await watch.next_open()
        await second.send(b"my turn")
        assert await second.receive(7) == b"my turn"


async def test_idleness_may_be_limited_on_a_full_server_only(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(first_byte=None, idle=None, idle_when_full=5, total=2)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _come(stack, plain, server, watch)
        clock.advance(1_000)
        assert len(server) == 1
        await _come(stack, plain, server, watch)
        clock.advance(5 + TICK)
        assert {why for _, why in watch.closed} == {CloseReason.IDLE_TIMEOUT}


# ---- What a quiet end leaves behind


@pytest.mark.parametrize("limit", ["idle", "receive_idle", "send_idle"])
async def test_a_peer_that_is_told_of_its_end_and_leaves_is_forgotten_by_the_kernel(
    plain: Place, limit: str
) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**{**QUIET, limit: 60})
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            await _delivered(connection)
            clock.advance(60 + TICK)
            await watch.next_close()
            assert await peer.receive_all() == b""
            # No buffers: an entry that waits for the peer's own end, and no longer than that.
            assert kernel_state(server, peer) in ("fin_wait1", "fin_wait2")
            await peer.end()
            assert kernel_state(server, peer) in ("time_wait", "")
