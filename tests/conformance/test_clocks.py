"""The clocks of a connection: what each of them measures, and what it does not.

Time is moved by hand; nothing here waits for any.
"""

from __future__ import annotations

from typing import Any

import pytest

from support.clock import TICK, Clock
from support.hooks import Watch, echo, eventually
from support.pairs import connected_pair
from support.peers import Peer
from support.transports import Place
from tieline import CloseReason, Connection, Gap, Limits, Line, State


async def _received(connection: Connection, size: int) -> None:
    """Wait until so many bytes have come."""
    await eventually(lambda: connection.bytes_received == size)


# ---- Idle: no byte made progress in either direction


async def test_a_connection_on_which_nothing_moves_is_closed(place: Place, kind: str) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(idle=60, first_byte=None)
    async with place.serve(echo(kind), limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await peer.send(b"hello")
            await peer.receive(5)
            # The clock is ahead of the kernel, which waits a moment before it confirms.
            await eventually(lambda: not connection.is_owed_by_kernel())
            clock.advance(59)
            assert len(server) == 1
            clock.advance(1 + TICK)
            assert len(server) == 0
            assert await watch.next_close() is CloseReason.IDLE_TIMEOUT
            # In good order: nothing was owed, so it is an end and no reset.
            assert await peer.receive_all() == b""


async def test_receiving_is_no_idleness(place: Place) -> None:
    clock, watch = Clock(), Watch()

    async def listen(connection: Connection) -> None:
        async for _ in connection:
            pass

    limits = Limits(idle=60)
    async with place.serve(listen, limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            for times in range(1, 6):
                clock.advance(59)
                await peer.send(b"x")
                await _received(connection, times)
            clock.advance(59)
            assert len(server) == 1
            clock.advance(1 + TICK)
            assert await watch.next_close() is CloseReason.IDLE_TIMEOUT


async def test_sending_is_no_idleness(place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(idle=60, first_byte=None)
    async with place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            for _ in range(5):
                clock.advance(59)
                await connection.send(b"x")
                assert await peer.receive(1) == b"x"
            assert len(server) == 1
            clock.advance(60 + TICK)
            assert await watch.next_close() is CloseReason.IDLE_TIMEOUT


async def test_queuing_a_message_for_a_peer_that_does_not_read_is_no_progress(
    tcp_place: Place,
) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(
        idle=60, first_byte=None, max_owed=1 << 30, write_stall=None, min_send_rate=None
    )
    async with tcp_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            # As much as the kernel takes, and then some.
            sent = -1
            while connection.bytes_sent > sent or not connection.owed:
                sent = connection.bytes_sent
                connection.send(b"x" * 1_000_000)
                for _ in range(50):
                    await eventually(lambda: True)
            clock.advance(30)
            connection.send(b"y" * 1000)
            clock.advance(30 + TICK)
            assert await watch.next_close() is CloseReason.IDLE_TIMEOUT
            # Bytes are owed: only a reset takes them out of the kernel.
            assert await peer.is_reset()


async def test_a_peer_that_takes_what_it_is_owed_is_not_idle(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(
        idle=60, first_byte=None, max_owed=1 << 30, write_stall=None, min_send_rate=None
    )
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            connection.send(b"x" * 20_000_000)
            for _ in range(5):
                clock.advance(59)
                before = connection.bytes_sent
                while connection.bytes_sent == before:
                    await peer.receive_some()
            assert len(server) == 1
            assert connection.owed


async def test_idleness_may_be_allowed(plain: Place, kind: str) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(idle=None, first_byte=None)
    async with plain.serve(echo(kind), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            await watch.next_open()
            clock.advance(1_000_000)
            await peer.send(b"hello")
            assert await peer.receive(5) == b"hello"


async def test_idleness_ends_a_connection_whose_peer_has_ended(plain: Place) -> None:
    """A conversation that never answers does not hold a half-closed connection for ever."""
    clock, watch = Clock(), Watch()

    async def forget(connection: Connection) -> None:
        await connection.wait_closed()

    limits = Limits(idle=60)
    async with plain.serve(forget, limits=limits, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            await peer.end()
            await eventually(lambda: connection.state is State.PEER_ENDED)
            clock.advance(60 + TICK)
            assert await watch.next_close() is CloseReason.IDLE_TIMEOUT


async def test_idleness_ends_a_connection_that_this_side_has_ended(plain: Place) -> None:
    clock, watch = Clock(), Watch()

    async def end(connection: Connection) -> None:
        connection.half_close()
        async for _ in connection:
            pass

    limits = Limits(idle=60, first_byte=None)
    async with plain.serve(end, limits=limits, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            assert await peer.receive_all() == b""
            clock.advance(60 + TICK)
            assert await watch.next_close() is CloseReason.IDLE_TIMEOUT


# ---- The first byte


async def test_a_peer_that_says_nothing_is_closed(place: Place, kind: str) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(first_byte=20)
    async with place.serve(echo(kind), limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            clock.advance(19)
            assert len(server) == 1
            clock.advance(1 + TICK)
            assert await watch.next_close() is CloseReason.FIRST_BYTE_TIMEOUT
            await peer.is_reset()


async def test_talking_to_a_silent_peer_does_not_give_it_more_time(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(first_byte=20, idle=300)
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server):
            connection = await watch.next_open()
            clock.advance(15)
            await connection.send(b"are you there?")
            clock.advance(5 + TICK)
            assert await watch.next_close() is CloseReason.FIRST_BYTE_TIMEOUT


async def test_one_byte_is_enough_for_the_first_byte(place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(first_byte=20, idle=300)
    async with place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"x")
            await peer.receive(1)
            clock.advance(299)
            assert len(server) == 1


# ---- A message, once begun


async def test_a_peer_that_drips_is_closed(place: Place, kind: str) -> None:
    """One byte now and then keeps idleness away, and must not keep the connection."""
    clock, watch = Clock(), Watch()
    limits = Limits(message=30, min_receive_rate=None)
    async with place.serve(echo(kind), framing=Line(), limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            for times in range(1, 7):
                await peer.send(b"x")
                await _received(connection, times)
                assert len(server) == 1
                clock.advance(5)
            clock.advance(TICK)
            assert await watch.next_close() is CloseReason.MESSAGE_TIMEOUT
            await peer.is_reset()


async def test_the_time_of_a_message_begins_with_its_own_first_byte(place: Place) -> None:
    """Also when that byte came together with the end of the message before."""
    clock, watch = Clock(), Watch()
    limits = Limits(message=30, min_receive_rate=None)
    async with place.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"one\ntw")
            assert await peer.receive_line() == b"one\n"
            clock.advance(29)
            assert len(server) == 1
            clock.advance(1 + TICK)
            assert await watch.next_close() is CloseReason.MESSAGE_TIMEOUT


async def test_each_message_has_its_own_time(place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(message=30, min_receive_rate=None)
    async with place.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            for times in range(1, 5):
                await peer.send(b"on")
                await _received(connection, 4 * times - 2)
                clock.advance(20)
                await peer.send(b"e\n")
                assert await peer.receive_line() == b"one\n"
                clock.advance(20)
            assert len(server) == 1


async def test_between_messages_no_time_runs_but_idleness(place: Place) -> None:
    clock = Clock()
    limits = Limits(message=30, idle=300)
    async with place.serve(echo("responder"), framing=Line(), limits=limits) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"one\n")
            await peer.receive_line()
            clock.advance(299)
            assert len(server) == 1


async def test_after_an_offence_the_first_reason_stays(plain: Place) -> None:
    """The message that broke the rules will never be whole; that is no second offence."""
    clock, watch = Clock(), Watch()

    async def answer_later(connection: Connection) -> None:
        await connection.wait_closed()

    limits = Limits(message=30, max_message=10, idle=None)
    async with plain.serve(answer_later, framing=Line(), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            await peer.send(b"x")
            await eventually(lambda: connection.bytes_received == 1)
            await peer.send(b"x" * 100)
            await eventually(lambda: not connection.is_receiving)
            clock.advance(31)
            assert len(server) == 1
            connection.close()
            await peer.end()
            assert await watch.next_close() is CloseReason.MESSAGE_TOO_LARGE


# ---- The handshake


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
async def test_a_handshake_that_is_not_done_in_time(tls_place: Place, said: bytes) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(handshake=10)
    async with tls_place.serve(echo("conversation"), limits=limits, **watch.hooks) as server:
        async with await Peer.connect(server.addresses[0]) as peer:
            await watch.next_open()
            await peer.send(said)
            clock.advance(9)
            assert len(server) == 1
            clock.advance(1 + TICK)
            assert await watch.next_close() is CloseReason.HANDSHAKE_TIMEOUT
            assert await peer.is_reset()
    assert server.counters.handler_errors == 0


async def test_the_time_of_the_handshake_ends_with_it(tcp_place: Place) -> None:
    clock = Clock()
    limits = Limits(handshake=10, first_byte=60)
    async with tcp_place.serve(echo("responder"), limits=limits) as server:
        async with await tcp_place.peer(server) as peer:
            await peer.send(b"x")
            await peer.receive(1)
            clock.advance(100)
            assert len(server) == 1


# ---- Closing is bounded


async def test_a_peer_that_has_everything_and_does_not_end_is_let_go(place: Place) -> None:
    clock, watch = Clock(), Watch()

    async def say_goodbye(connection: Connection) -> None:
        await connection.receive()
        await connection.send(b"goodbye")

    limits = Limits(closing=5)
    async with place.serve(say_goodbye, limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await peer.send(b"hello")
            assert await peer.receive_all() == b"goodbye"
            if place.is_tcp:  # the peer's kernel has confirmed the end too
                await eventually(lambda: connection.tcp_info().state == "fin_wait2")
            clock.advance(4)
            assert len(server) == 1
            clock.advance(1 + TICK)
            assert await watch.next_close() is CloseReason.CLOSED


async def test_a_peer_that_does_not_take_what_it_is_owed_is_reset(tcp_place: Place) -> None:
    clock, watch = Clock(), Watch()

    async def say_much(connection: Connection) -> None:
        await connection.receive()
        connection.send(b"x" * 20_000_000)

    limits = Limits(closing=5, max_owed=1 << 26)
    async with tcp_place.serve(say_much, limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await peer.send(b"hello")
            await eventually(lambda: connection.state is State.CLOSING)
            clock.advance(5 + TICK)
            assert await watch.next_close() is CloseReason.CLOSE_TIMEOUT
            assert await peer.is_reset()


async def test_what_the_kernel_still_holds_is_lost_too_and_said_so(plain: Place) -> None:
    """Nothing is owed by us, and yet the peer does not have it."""
    clock = Clock()
    async with connected_pair(plain, limits=Limits(closing=5)) as (ours, theirs):
        while not ours.owed:
            ours.send(b"y" * 100_000)
        # The peer makes just so much room that our kernel takes the rest.
        while ours.owed:
            await theirs.receive_some()
        ours.close()
        assert ours.owed == 0
        clock.advance(5 + TICK)
        assert ours.state is State.CLOSED
        assert ours.close_reason is CloseReason.CLOSE_TIMEOUT


async def test_closing_does_not_wait_for_idleness(plain: Place) -> None:
    clock = Clock()
    async with connected_pair(plain, limits=Limits(closing=5, idle=None)) as (ours, theirs):
        ours.close()
        for _ in range(4):
            # It goes on talking; that gives it no more time.
            clock.advance(1)
            await theirs.send(b"but")
        clock.advance(1 + TICK)
        assert ours.state is State.CLOSED


# ---- All of them at once


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", CloseReason.FIRST_BYTE_TIMEOUT),
        (b"x", CloseReason.MESSAGE_TIMEOUT),
        (b"x\n", CloseReason.IDLE_TIMEOUT),
    ],
)
async def test_the_clock_that_is_due_first_gives_the_reason(
    plain: Place, said: bytes, reason: CloseReason
) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(first_byte=10, message=20, idle=30)
    async with plain.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            if said:
                await peer.send(said)
                await eventually(lambda: connection.bytes_received)
            clock.advance(1_000)
            assert await watch.next_close() is reason


async def test_a_pause_ends_a_message_where_pauses_do(place: Place, kind: str) -> None:
    async with place.serve(echo(kind), framing=Gap(0.01)) as server:
        async with await place.peer(server) as peer:
            for _ in range(2):
                await peer.send(b"\x01\x03")
                assert await peer.receive(2) == b"\x01\x03"


async def test_a_pause_that_is_awaited_when_the_connection_is_cut_off_is_forgotten(
    plain: Place,
) -> None:
    heard: list[bytes] = []
    watch = Watch()

    def remember(connection: Connection, message: bytes) -> None:
        heard.append(message)

    async with plain.serve(remember, framing=Gap(0.01), **watch.hooks) as server:
        async with await plain.peer(server) as one, await plain.peer(server) as other:
            first, _ = await watch.next_open(), await watch.next_open()
            await one.send(b"never whole")
            await eventually(lambda: first.bytes_received)
            first.abort()
            # The other's pause begins later, and so ends later.
            await other.send(b"whole")
            await eventually(lambda: heard)
    assert heard == [b"whole"]


async def test_a_pause_that_is_awaited_when_the_peer_ends_is_over(plain: Place) -> None:
    heard: list[Any] = []

    def remember(connection: Connection, message: bytes) -> None:
        heard.append(message)

    watch = Watch()
    async with plain.serve(remember, framing=Gap(3600), **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            await peer.send(b"the last words")
            await peer.end()
            assert await watch.next_close() is CloseReason.PEER_CLOSED
    assert heard == [b"the last words"]
