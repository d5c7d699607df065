"""Waiting for messages, and for peers to take them: what may be cancelled, and who may wait."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from support.hooks import Watch, echo, eventually
from support.pairs import connected_pair
from support.transports import Place
from tieline import (
    CloseReason,
    Connection,
    ConnectionClosedError,
    LengthPrefix,
    Limits,
    Line,
    ReceiveConflictError,
)

# ---- Cancelling


async def test_cancelling_a_receive_loses_nothing(plain: Place) -> None:
    async with connected_pair(plain, framing=Line()) as (ours, theirs):
        receiving = asyncio.create_task(ours.receive())
        await asyncio.sleep(0)
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        await theirs.send(b"hello\n")
        assert await ours.receive() == b"hello"


async def test_cancelling_a_receive_whose_message_is_on_its_way_loses_nothing(
    plain: Place,
) -> None:
    """The message is in the kernel when the task is cancelled, before or after it."""
    async with connected_pair(plain, framing=Line()) as (ours, theirs):
        for cancel_first in (True, False):
            receiving = asyncio.create_task(ours.receive())
            await asyncio.sleep(0)
            if cancel_first:
                receiving.cancel()
            theirs.socket.send(b"hello\n")
            if not cancel_first:
                receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            assert await ours.receive() == b"hello"


async def test_a_task_that_has_its_message_already_is_cancelled_after_it(plain: Place) -> None:
    async with connected_pair(plain, framing=Line()) as (ours, theirs):
        got: list[bytes] = []

        async def receive_and_go_on() -> None:
            got.append(await ours.receive())
            await asyncio.Event().wait()

        task = asyncio.create_task(receive_and_go_on())
        await theirs.send(b"hello\n")
        await eventually(lambda: got)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert got == [b"hello"]


@pytest.mark.parametrize("way", ["timeout", "wait_for"])
async def test_timeouts_around_receive_lose_nothing(plain: Place, way: str) -> None:
    """A thousand messages, and timeouts that strike at every moment."""
    numbers = random.Random(3)
    async with connected_pair(plain, framing=Line()) as (ours, theirs):
        expected = [b"%d" % number for number in range(1000)]

        async def drip() -> None:
            for message in expected:
                await theirs.send(message + b"\n")
                for _ in range(numbers.randrange(4)):
                    await asyncio.sleep(0)

        sending = asyncio.create_task(drip())
        received: list[bytes] = []
        struck = 0
        while len(received) < len(expected):
            seconds = numbers.choice((0, 1e-6, 1e-5, 1e-4, 10))
            try:
                if way == "timeout":
                    async with asyncio.timeout(seconds):
                        received.append(await ours.receive())
                else:
                    received.append(await asyncio.wait_for(ours.receive(), seconds))
            except TimeoutError:
                struck += 1
        await sending
        assert received == expected
        assert struck > 0


async def test_a_timeout_that_does_not_strike_leaves_no_trace(plain: Place) -> None:
    async with connected_pair(plain, framing=Line()) as (ours, theirs):
        for number in range(20):
            await theirs.send(b"%d\n" % number)
            async with asyncio.timeout(10):
                assert await ours.receive() == b"%d" % number


async def test_a_task_group_that_fails_stops_the_receiver_and_nothing_else(
    plain: Place,
) -> None:
    async with connected_pair(plain, framing=Line()) as (ours, theirs):

        async def fail() -> None:
            raise ValueError("a mistake in the application")

        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(ours.receive())
                await asyncio.sleep(0)
                group.create_task(fail())
        assert isinstance(caught.value.exceptions[0], ValueError)
        await theirs.send(b"still open\n")
        assert await ours.receive() == b"still open"


async def test_a_cancelled_receiver_may_be_followed_by_another_at_once(plain: Place) -> None:
    """The next task waits before the cancelled one has noticed."""
    async with connected_pair(plain, framing=Line()) as (ours, theirs):
        first = asyncio.create_task(ours.receive())
        await asyncio.sleep(0)
        second = asyncio.create_task(ours.receive())
        first.cancel()
        await theirs.send(b"for the second\n")
        done = await asyncio.gather(first, second, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert done[1] == b"for the second"


async def test_the_message_of_a_cancellation_arrives(plain: Place) -> None:
    async with connected_pair(plain) as (ours, _):
        receiving = asyncio.create_task(ours.receive())
        await asyncio.sleep(0)
        receiving.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await receiving


async def test_whoever_receives_is_told_of_the_end(plain: Place) -> None:
    async with connected_pair(plain, framing=Line()) as (ours, _):
        receiving = asyncio.create_task(ours.receive())
        await asyncio.sleep(0)
        ours.abort()
        with pytest.raises(ConnectionClosedError) as caught:
            await receiving
        assert caught.value.reason is CloseReason.ABORTED


# ---- Who may receive, who may send


async def test_two_receivers_at_once_are_a_conflict(plain: Place) -> None:
    async with connected_pair(plain, framing=Line()) as (ours, theirs):
        first = asyncio.create_task(ours.receive())
        await asyncio.sleep(0)
        with pytest.raises(ReceiveConflictError):
            await ours.receive()
        with pytest.raises(ReceiveConflictError):
            async for _ in ours:
                pass
        await theirs.send(b"for the first\n")
        assert await first == b"for the first"
        await theirs.send(b"for anybody\n")
        assert await ours.receive() == b"for anybody"


async def test_several_tasks_may_receive_in_turn(plain: Place) -> None:
    async with connected_pair(plain, framing=Line()) as (ours, theirs):
        lock = asyncio.Lock()

        async def receive() -> bytes:
            async with lock:
                return bytes(await ours.receive())

        tasks = [asyncio.create_task(receive()) for _ in range(20)]
        await theirs.send(b"".join(b"%d\n" % number for number in range(20)))
        assert await asyncio.gather(*tasks) == [b"%d" % number for number in range(20)]


async def test_several_tasks_may_send_and_no_message_is_torn(place: Place) -> None:
    """Through a peer that reads slowly, so that every one of them has to wait."""
    watch = Watch()
    limits = Limits(high_water=10_000, low_water=1_000)
    senders, each = 10, 200
    async with place.serve(
        echo("conversation"), framing=LengthPrefix(), limits=limits, **watch.hooks
    ) as server:
        options = {"receive_buffer": 4096} if place.is_tcp else {}
        async with await place.peer(server, **options) as peer:
            connection = await watch.next_open()

            async def send(sender: int) -> None:
                for turn in range(each):
                    await connection.send(b"%d %d " % (sender, turn) + b"x" * 1000)

            sending = [asyncio.create_task(send(number)) for number in range(senders)]
            turns = dict.fromkeys(range(senders), 0)
            for _ in range(senders * each):
                size = int.from_bytes(await peer.receive_exactly(4), "big")
                sender, turn, rest = (await peer.receive_exactly(size)).split(b" ")
                assert rest == b"x" * 1000
                assert turns[int(sender)] == int(turn)
                turns[int(sender)] += 1
            await asyncio.gather(*sending)


async def test_a_handler_may_hand_its_connection_to_another_task(plain: Place) -> None:
    async def delegate(connection: Connection) -> None:
        async def answer() -> None:
            await connection.send(await connection.receive())

        await asyncio.create_task(answer())

    async with plain.serve(delegate) as server:
        assert await plain.ask(server, b"hello") == b"hello"


# ---- Backpressure


async def _fill_until_it_stalls(peer_socket: socket.socket, chunk: bytes) -> int:
    """Push until the other side takes no more, however often the loop runs."""
    pushed = refused = 0
    while refused < 200:
        try:
            pushed += peer_socket.send(chunk)
            refused = 0
        except BlockingIOError:
            refused += 1
        await asyncio.sleep(0)
    return pushed


async def test_a_slow_handler_makes_its_peer_wait(plain: Place) -> None:
    read_on = asyncio.Event()
    limits = Limits(high_water=100_000, low_water=10_000)
    received = bytearray()

    async def dawdle(connection: Connection) -> None:
        await read_on.wait()
        async for message in connection:
            received.extend(message)

    watch = Watch()
    async with plain.serve(dawdle, limits=limits, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            pushed = await _fill_until_it_stalls(peer.socket, b"x" * 50_000)
            # No more than the mark and one read are held; the rest is the kernel's.
            assert connection.bytes_received <= 100_000 + 262_144
            assert pushed > connection.bytes_received
            read_on.set()
            await peer.end()
            await watch.next_close()
    assert len(received) == pushed


async def test_many_small_messages_make_their_peer_wait_too(plain: Place) -> None:
    read_on = asyncio.Event()
    received = 0

    async def dawdle(connection: Connection) -> None:
        nonlocal received
        await read_on.wait()
        async for _ in connection:
            received += 1

    watch = Watch()
    async with plain.serve(dawdle, framing=Line(), **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            pushed = await _fill_until_it_stalls(peer.socket, b"123456789\n" * 1000)
            assert connection.bytes_received <= 65_536 + 262_144
            read_on.set()
            rest = b"123456789\n"[pushed % 10 :] if pushed % 10 else b""
            await peer.send(rest)
            await peer.end()
            await watch.next_close()
    assert received == (pushed + len(rest)) // 10


async def test_whoever_awaits_sending_waits_for_a_slow_peer(tcp_place: Place) -> None:
    limits = Limits(high_water=100_000, low_water=10_000)
    size, chunk = 0, b"x" * 50_000

    async def pour(connection: Connection) -> None:
        nonlocal size
        await connection.receive()
        for _ in range(400):
            await connection.send(chunk)
            size += len(chunk)
            assert connection.owed <= 100_000 + 2 * len(chunk)

    watch = Watch()
    async with tcp_place.serve(pour, limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await peer.send(b"go")
            await eventually(lambda: connection.owed > 100_000)
            stalled_at = size
            for _ in range(200):
                await asyncio.sleep(0)
            assert size == stalled_at < 400 * len(chunk)
            assert len(await peer.receive_all()) == 400 * len(chunk)
            await peer.end()
            assert await watch.next_close() is CloseReason.CLOSED


async def test_a_sender_goes_on_at_the_low_water_mark(plain: Place) -> None:
    """Not only when everything is gone: the pipe is to stay filled."""
    limits = Limits(high_water=2_000_000, low_water=1_500_000, max_owed=1 << 26)
    async with connected_pair(plain, limits=limits) as (ours, theirs):
        sending = asyncio.ensure_future(ours.send(b"x" * 20_000_000))
        await asyncio.sleep(0)
        while not sending.done():
            await theirs.receive_some()
            await asyncio.sleep(0)
        assert 0 < ours.owed <= 1_500_000


async def test_cancelling_a_send_does_not_take_the_message_back(plain: Place) -> None:
    limits = Limits(max_owed=1 << 26)
    async with connected_pair(plain, framing=LengthPrefix(), limits=limits) as (ours, theirs):
        message = b"x" * 10_000_000
        sending = asyncio.ensure_future(ours.send(message))
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])
        ours.send(b"next")
        assert len(await theirs.receive_exactly(4 + len(message))) == 4 + len(message)
        assert await theirs.receive_exactly(8) == b"\0\0\0\x04next"


async def test_a_peer_that_does_not_take_its_replies_is_read_from_no_more(
    tcp_place: Place,
) -> None:
    limits = Limits(high_water=100_000, low_water=10_000)
    reply = b"x" * 1000 + b"\n"
    watch = Watch()

    def respond(connection: Connection, message: bytes) -> bytes:
        return reply[:-1]

    async with tcp_place.serve(respond, framing=Line(), limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            questions = 20_000

            async def ask() -> None:
                for _ in range(questions):
                    await peer.send(b"?\n")

            asking = asyncio.create_task(ask())
            await eventually(lambda: connection.owed > 100_000 or connection.close_reason)
            assert connection.close_reason is None
            stalled_at = connection.messages_received
            for _ in range(500):
                await asyncio.sleep(0)
            assert connection.messages_received == stalled_at
            answers = await peer.receive_exactly(questions * len(reply))
            assert answers == reply * questions
            await asking
            assert watch.closed == []


async def test_a_slow_peer_does_not_hold_up_its_neighbours(tcp_place: Place, kind: str) -> None:
    async with tcp_place.serve(echo(kind), framing=Line()) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as slow:
            flooding = asyncio.create_task(slow.send(b"x" * 50_000 + b"\n"))
            for _ in range(50):
                assert await tcp_place.ask(server, b"me?", framing=Line()) == b"me?"
            await flooding


@pytest.mark.parametrize("awaited", [True, False])
async def test_nothing_is_held_of_a_peer_that_keeps_up(plain: Place, awaited: bool) -> None:
    async with connected_pair(plain) as (ours, theirs):
        for _ in range(100):
            sending = ours.send(b"x" * 1000)
            if awaited:
                await sending
            assert ours.owed == 0
            assert await theirs.receive_exactly(1000) == b"x" * 1000
