"""The end of a connection's life: when it comes, and that what is under way is finished first.

Time is moved by hand; nothing here waits for any.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from typing import Any

from support.clock import TICK, Clock
from support.hooks import Watch, echo, eventually
from support.kernel import kernel_state
from support.transports import Place
from tieline import CloseReason, Connection, Limits, Line, State

#: No other clock, and all lives equally long.
LIFE: dict[str, Any] = {
    "idle": None, "first_byte": None, "message": None, "half_closed": None,
    "min_receive_rate": None, "lifetime": 600, "lifetime_jitter": 0, "closing": 5,
}  # fmt: skip


async def test_an_idle_connection_is_closed_at_the_end_of_its_life(place: Place, kind: str) -> None:
    clock, watch = Clock(), Watch()
    async with place.serve(echo(kind), limits=Limits(**LIFE), **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            for _ in range(5):
                # However busy it was.
                clock.advance(119)
                await peer.send(b"hello")
                assert await peer.receive(5) == b"hello"
            clock.advance(4)
            assert connection.state is State.OPEN
            clock.advance(1 + TICK)
            # In good order: the peer sees an end.
            assert await peer.receive_all() == b""
            await peer.end()
            assert await watch.next_close() is CloseReason.LIFETIME


async def test_a_message_that_has_begun_is_answered_first(place: Place, kind: str) -> None:
    clock, watch = Clock(), Watch()
    server = place.serve(echo(kind), framing=Line(), limits=Limits(**LIFE), **watch.hooks)
    async with server, await place.peer(server) as peer:
        connection = await watch.next_open()
        await connection.wait_secured()
        await peer.send(b"a message that has be")
        await eventually(lambda: connection.bytes_received)
        clock.advance(600 + TICK)
        assert connection.state is State.OPEN
        assert connection.is_finishing
        clock.advance(4)
        await peer.send(b"gun\n")
        assert await peer.receive_all() == b"a message that has begun\n"
        await peer.end()
        assert await watch.next_close() is CloseReason.LIFETIME


async def test_a_handler_finishes_what_it_is_at(place: Place) -> None:
    clock, watch = Clock(), Watch()
    answer_now = asyncio.Event()

    async def think(connection: Connection) -> None:
        async for question in connection:
            await answer_now.wait()
            goodbye = b" (goodbye)" if connection.is_finishing else b""
            await connection.send(b"the answer to " + question + goodbye)

    async with place.serve(think, framing=Line(), limits=Limits(**LIFE), **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await peer.send(b"it all\n")
            await eventually(lambda: connection.messages_received)
            clock.advance(600 + TICK)
            assert connection.state is State.OPEN
            answer_now.set()
            assert await peer.receive_all() == b"the answer to it all (goodbye)\n"
            await peer.end()
            assert await watch.next_close() is CloseReason.LIFETIME


async def test_one_that_does_not_finish_is_reset(tcp_place: Place, kind: str) -> None:
    clock, watch = Clock(), Watch()
    server = tcp_place.serve(echo(kind), framing=Line(), limits=Limits(**LIFE), **watch.hooks)
    async with server, await tcp_place.peer(server) as peer:
        connection = await watch.next_open()
        await connection.wait_secured()
        await peer.send(b"a message that never en")
        await eventually(lambda: connection.bytes_received)
        clock.advance(600 + TICK)
        clock.advance(4)
        assert connection.state is State.OPEN
        clock.advance(1 + TICK)
        assert [why for _, why in watch.closed] == [CloseReason.LIFETIME]
        assert kernel_state(server, peer) == ""
        assert await peer.is_reset()


async def test_one_that_is_not_told_in_time_has_its_moment_all_the_same(plain: Place) -> None:
    """A lifetime that is lowered is over for those older than that; not so their messages."""
    clock, watch = Clock(), Watch()
    limits = Limits(**{**LIFE, "lifetime": None})
    async with plain.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await plain.peer(server) as idle, await plain.peer(server) as busy:
            await watch.next_open()
            connection = await watch.next_open()
            await busy.send(b"a message that has be")
            await eventually(lambda: connection.bytes_received)
            clock.advance(10_000)
            server.change_limits(lifetime=600)
            clock.advance(TICK)
            assert await idle.receive_all() == b""
            assert connection.state is State.OPEN
            clock.advance(4)
            await busy.send(b"gun\n")
            assert await busy.receive_all() == b"a message that has begun\n"
            await busy.end()
            assert await watch.next_close() is CloseReason.LIFETIME


async def test_lives_end_one_by_one(plain: Place) -> None:
    """With jitter the clients of one instant do not all return in another."""
    clock, watch = Clock(), Watch()
    limits = Limits(**{**LIFE, "lifetime_jitter": 0.5})
    count = 32
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for _ in range(count):
            await stack.enter_async_context(await plain.peer(server))
        told = dict.fromkeys([await watch.next_open() for _ in range(count)], 0)
        clock.advance(300 - TICK)
        assert not any(connection.is_finishing for connection in told)
        for second in range(0, 302, 2):
            for connection in told:
                if connection.is_finishing and not told[connection]:
                    told[connection] = second
            clock.advance(2)
        assert all(connection.is_finishing for connection in told)
        ends = sorted(told.values())
        # 32 over 300 seconds; never many at once, nor long without one.
        assert max(after - before for before, after in itertools.pairwise(ends)) <= 30
        assert max(ends.count(second) for second in ends) <= 2
        clock.advance(5 + TICK)
        assert {await watch.next_close() for _ in range(count)} == {CloseReason.LIFETIME}
        assert len(server) == 0


async def test_a_connection_that_drains_lives_no_longer_for_it(plain: Place) -> None:
    """It was told to finish before its life was over; that it is over is the end all the same."""
    clock, watch = Clock(), Watch()
    async with plain.serve(
        echo("responder"), framing=Line(), limits=Limits(**LIFE), **watch.hooks
    ) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            await peer.send(b"never who")
            await eventually(lambda: connection.bytes_received)
            clock.advance(500)
            draining = asyncio.create_task(server.drain(3600))
            await eventually(lambda: connection.is_finishing)
            clock.advance(100 + TICK)
            assert watch.closed == []
            clock.advance(5 + TICK)
            assert [why for _, why in watch.closed] == [CloseReason.LIFETIME]
            assert await draining
            assert await peer.is_reset()
