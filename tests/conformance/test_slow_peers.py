"""Peers that send too slowly, take too slowly, or take nothing: how long each may, and that the
kernel keeps nothing of them afterwards.

Time is moved by hand; nothing here waits for any.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.clock import TICK, Clock
from support.hooks import Watch, echo, eventually
from support.kernel import come_to_rest, kernel_state
from support.peers import Peer
from support.transports import Place
from tieline import CloseReason, Connection, ConnectionClosedError, Limits, Line, Server

#: What is about other clocks, switched off, and room for more than any kernel takes.
PLENTY: dict[str, Any] = {
    "idle": None, "first_byte": None, "message": None, "write_stall": None, "half_closed": None,
    "min_receive_rate": None, "min_send_rate": None, "max_owed": 1 << 26,
}  # fmt: skip

#: More than any kernel takes.
MUCH = b"x" * 20_000_000


async def _stuff(connection: Connection) -> None:
    """Send until the kernel takes no more, and some is owed."""
    await connection.wait_secured()
    connection.send(MUCH)
    await come_to_rest(connection)
    assert connection.owed


async def _fill_the_kernel(connection: Connection, peer: Peer) -> None:
    """Send until the peer's window is shut, and owe nothing of it ourselves."""
    await connection.wait_secured()
    connection.send(b"x" * 200_000)
    await come_to_rest(connection)
    assert not connection.owed
    assert connection.is_owed_by_kernel()


async def _received(connection: Connection, size: int) -> None:
    """Wait until so many bytes have come."""
    await eventually(lambda: connection.bytes_received == size)


# ---- A peer that never reads, and each clock that may find it


async def _is_gone_after(
    seconds: int, reason: CloseReason, server: Server, peer: Peer, watch: Watch, clock: Clock
) -> None:
    """See that it is there until its deadline, and nowhere any more a second later."""
    for _ in range(seconds - 1):
        clock.advance(1)
    assert watch.closed == []
    assert kernel_state(server, peer)
    for _ in range(2):
        clock.advance(1)
    clock.advance(TICK)
    assert [why for _, why in watch.closed] == [reason]
    assert kernel_state(server, peer) == ""
    assert await peer.is_reset()


async def test_owed_bytes_and_taking_none_is_a_write_stall(tcp_place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**{**PLENTY, "write_stall": 30})
    async with tcp_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            await _stuff(await watch.next_open())
            await _is_gone_after(30, CloseReason.WRITE_STALL, server, peer, watch, clock)


async def test_taking_nothing_is_too_slow_as_well(tcp_place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**{**PLENTY, "min_send_rate": 100, "rate_grace": 20})
    async with tcp_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            await _stuff(await watch.next_open())
            await _is_gone_after(20, CloseReason.SLOW_READER, server, peer, watch, clock)


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("idle", CloseReason.IDLE_TIMEOUT),
        ("send_idle", CloseReason.SEND_IDLE_TIMEOUT),
        ("receive_idle", CloseReason.RECEIVE_IDLE_TIMEOUT),
    ],
)
async def test_idleness_with_bytes_in_the_kernel_is_a_reset(
    tcp_place: Place, limit: str, reason: CloseReason
) -> None:
    """All has been handed to the kernel. A FIN would leave it there for minutes."""
    clock, watch = Clock(), Watch()
    limits = Limits(**{**PLENTY, limit: 60})
    async with tcp_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            await _fill_the_kernel(await watch.next_open(), peer)
            await _is_gone_after(60, reason, server, peer, watch, clock)


async def test_closing_with_bytes_owed_is_a_reset_in_the_end(tcp_place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**PLENTY, closing=5)
    async with tcp_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await _stuff(connection)
            connection.close()
            await _is_gone_after(5, CloseReason.CLOSE_TIMEOUT, server, peer, watch, clock)


async def test_closing_with_bytes_in_the_kernel_is_a_reset_in_the_end(tcp_place: Place) -> None:
    """Our FIN is behind those bytes, and does not get out either."""
    clock, watch = Clock(), Watch()
    limits = Limits(**PLENTY, closing=5)
    async with tcp_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await _fill_the_kernel(connection, peer)
            connection.close()
            assert kernel_state(server, peer) == "fin_wait1"
            await _is_gone_after(5, CloseReason.CLOSE_TIMEOUT, server, peer, watch, clock)


async def test_half_closed_with_bytes_in_the_kernel_is_a_reset(tcp_place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**{**PLENTY, "half_closed": 30})
    async with tcp_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await _fill_the_kernel(connection, peer)
            connection.half_close()
            await _is_gone_after(30, CloseReason.HALF_CLOSED_TIMEOUT, server, peer, watch, clock)


async def test_owed_more_than_it_may_be_is_a_reset(tcp_place: Place) -> None:
    """No clock: the next message is one too many."""
    Clock()
    watch = Watch()
    limits = Limits(**{**PLENTY, "max_owed": 1_000_000})
    async with tcp_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await _stuff(connection)
            with pytest.raises(ConnectionClosedError):
                connection.send(b"one more")
            assert await watch.next_close() is CloseReason.SLOW_READER
            assert kernel_state(server, peer) == ""
            assert await peer.is_reset()


# ---- Reading slowly


@pytest.mark.parametrize(
    "limit", [{"write_stall": 30}, {"min_send_rate": 1_000, "rate_grace": 20}], ids=str
)
async def test_a_peer_that_reads_steadily_is_left_alone(
    tcp_place: Place, limit: dict[str, Any]
) -> None:
    """10,000 bytes a second, ten times as many as it must. The kernel makes no room for more of
    ours until the peer has taken a million or so, which takes longer than the limit."""
    clock, watch = Clock(), Watch()
    limits = Limits(**{**PLENTY, **limit})
    async with tcp_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=65_536) as peer:
            await _stuff(await watch.next_open())
            taken = 0
            while taken < 1_500_000:
                size = len(await peer.receive_some())
                await asyncio.sleep(0)
                clock.advance(size / 10_000)
                assert watch.closed == [], f"after {taken} bytes"
                taken += size


async def test_a_peer_that_takes_what_lies_in_the_kernel_is_not_idle(tcp_place: Place) -> None:
    """Everything was handed over long ago, and bytes make progress all the same."""
    clock, watch = Clock(), Watch()
    limits = Limits(**{**PLENTY, "idle": 60})
    async with tcp_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            connection.send(b"x" * 1_500_000)
            await come_to_rest(connection)
            assert not connection.owed
            for _ in range(70):
                await peer.receive(10_000)
                clock.advance(1)
                assert watch.closed == []


async def test_a_download_that_began_just_before_idleness_was_looked_at(plain: Place) -> None:
    """A byte came, the wheel looked, and then the answer began: the next look is the first that
    sees it, and a moment later idleness would be due."""
    clock, watch = Clock(), Watch()
    limits = Limits(**{**PLENTY, "idle": 60})
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            clock.advance(29.9)
            await peer.send(b"x")
            await _received(connection, 1)
            clock.advance(TICK)
            connection.send(b"x" * 1_500_000)
            await come_to_rest(connection)
            assert not connection.owed
            for eighth in range(8 * 70):
                if eighth % 8 == 4:
                    await peer.receive(10_000)
                clock.advance(0.125)
                assert watch.closed == [], f"after {eighth / 8} seconds"


@pytest.mark.parametrize("pause", [1.0, 0.5, 0.25])
async def test_a_peer_that_takes_everything_a_moment_late_is_not_slow(
    unix_place: Place, pause: float
) -> None:
    """Little is sent, and always some of it is on its way: as over a long line, where whoever
    looks never finds that all has been taken. (A Unix socket tells what was not read yet.)"""
    clock, watch = Clock(), Watch()
    limits = Limits(**{**PLENTY, "min_send_rate": 100, "rate_grace": 20, "write_stall": 30})
    async with unix_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await unix_place.peer(server) as peer:
            connection = await watch.next_open()
            connection.check_clocks()
            size = round(50 * pause)
            connection.send(b"x" * size)
            for _ in range(round(100 / pause)):
                connection.send(b"x" * size)
                clock.advance(pause)
                assert watch.closed == []
                # What was sent before the last.
                assert len(await peer.receive_exactly(size)) == size


async def test_a_peer_that_takes_a_little_now_and_then_is_reset(plain: Place) -> None:
    """Not so little that it would be a stall, and less than it must: credit runs out."""
    clock, watch = Clock(), Watch()
    limits = Limits(**{**PLENTY, "min_send_rate": 1_000_000, "rate_grace": 20, "write_stall": 20})
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server, receive_buffer=65_536) as peer:
            connection = await watch.next_open()
            await _stuff(connection)
            lasted = 0
            while not watch.closed:
                # As much as it takes for us to notice: a million or two in ten seconds.
                before = connection.bytes_sent
                while connection.bytes_sent == before:
                    await peer.receive_some()
                    await asyncio.sleep(0)
                await come_to_rest(connection)
                clock.advance(10)
                lasted += 10
            assert watch.closed[0][1] is CloseReason.SLOW_READER
            assert lasted > 20
            assert kernel_state(server, peer) == ""
            assert await peer.is_reset()


async def test_the_credit_of_a_reader_begins_when_bytes_are_owed(plain: Place) -> None:
    """Only while bytes are owed does it run: pauses between messages cost nothing."""
    clock, watch = Clock(), Watch()
    limits = Limits(**{**PLENTY, "min_send_rate": 100, "rate_grace": 20, "write_stall": 20})
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            for _ in range(3):
                clock.advance(1_000)
                await _stuff(connection)
                clock.advance(19)
                await peer.receive(len(MUCH))
                assert not connection.owed
            assert watch.closed == []


# ---- Sending slowly


async def test_a_message_that_comes_too_slowly_is_too_slow(place: Place, kind: str) -> None:
    """Bytes that come one by one buy next to nothing: its credit is the grace, and little more."""
    clock, watch = Clock(), Watch()
    limits = Limits(**{**PLENTY, "min_receive_rate": 100, "rate_grace": 20})
    async with place.serve(echo(kind), framing=Line(), limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            for times in range(1, 5):
                await peer.send(b"x")
                await _received(connection, times)
                clock.advance(5)
            # 20 seconds, and four bytes for hundredths of one.
            assert len(server) == 1
            clock.advance(0.04 + TICK)
            assert await watch.next_close() is CloseReason.SLOW_SENDER
            assert await peer.is_reset() or not place.is_tcp
            if place.is_tcp:
                assert kernel_state(server, peer) == ""


async def test_a_sender_that_keeps_to_the_rate_has_all_the_time_it_needs(place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**{**PLENTY, "min_receive_rate": 100, "rate_grace": 20})
    async with place.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            for times in range(1, 21):
                await peer.send(b"x" * 1_000)
                await _received(connection, times * 1_000)
                clock.advance(10)
            await peer.send(b"\n")
            assert await peer.receive_line() == b"x" * 20_000 + b"\n"


async def test_a_burst_buys_no_more_than_the_grace(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**{**PLENTY, "min_receive_rate": 100, "rate_grace": 20})
    async with plain.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            await peer.send(b"x" * 60_000)  # ten minutes' worth
            await _received(connection, 60_000)
            clock.advance(19)
            assert len(server) == 1
            clock.advance(1 + TICK)
            assert await watch.next_close() is CloseReason.SLOW_SENDER
            assert await peer.is_reset()


async def test_each_message_has_a_credit_of_its_own(plain: Place) -> None:
    """And between messages none runs."""
    clock, watch = Clock(), Watch()
    limits = Limits(**{**PLENTY, "min_receive_rate": 100, "rate_grace": 20})
    async with plain.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            for times in range(1, 5):
                await peer.send(b"on")
                await _received(connection, 4 * times - 2)
                clock.advance(19)
                await peer.send(b"e\n")
                assert await peer.receive_line() == b"one\n"
                clock.advance(1_000)
            assert len(server) == 1


async def test_a_sender_that_is_not_read_from_is_not_slow(plain: Place) -> None:
    """While the handler is behind, reading pauses; the peer cannot end its message then."""
    clock, watch = Clock(), Watch()
    behind = asyncio.Event()

    async def work(connection: Connection) -> None:
        await behind.wait()
        async for message in connection:
            await connection.send(b"%d" % len(message))

    limits = Limits(**{**PLENTY, "min_receive_rate": 100, "rate_grace": 20, "message": 30})
    async with plain.serve(work, framing=Line(), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            sending = asyncio.create_task(peer.send((b"x" * 9_999 + b"\n") * 100 + b"y" * 50_000))
            await eventually(lambda: connection.waiting_messages)
            await come_to_rest(connection)
            assert connection.bytes_received < 1_000_000
            clock.advance(1_000)
            behind.set()
            assert await peer.receive(5 * 100) == b"9999\n" * 100
            await sending
            await _received(connection, 1_050_000)
            # From here on it can, and must.
            clock.advance(19)
            assert len(server) == 1
            clock.advance(1 + TICK)
            assert await watch.next_close() is CloseReason.SLOW_SENDER
