"""How connections end: in good order, cut off, from either side, in every state."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

import tieline
from support.clock import TICK, Clock
from support.hooks import Watch, echo, eventually
from support.pairs import connected_pair
from support.peers import Peer
from support.transports import Place
from tieline import (
    CloseReason,
    Connection,
    ConnectionClosedError,
    EndOfStreamError,
    LengthPrefix,
    Limits,
    Line,
    State,
    TruncatedError,
    UsageError,
)

PLENTY = Limits(max_owed=1 << 26, max_message=1 << 26)
LAST_WORDS = b"last words" * 400_000


# ---- Half-closing


async def test_a_peer_that_has_ended_is_still_answered(place: Place) -> None:
    async def count(connection: Connection) -> None:
        size = 0
        async for message in connection:
            size += len(message)
        assert connection.state is State.PEER_ENDED
        await connection.send(b"%d bytes" % size)

    watch = Watch()
    async with place.serve(count, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"x" * 100_000)
            await peer.end()
            assert await peer.receive_all() == b"100000 bytes"
            assert await watch.next_close() is CloseReason.PEER_CLOSED


async def test_a_responder_answers_everything_that_came_before_the_end(place: Place) -> None:
    watch = Watch()
    async with place.serve(echo("responder"), framing=Line(), **watch.hooks) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"one\ntwo\nthree\n")
            await peer.end()
            assert await peer.receive_all() == b"one\ntwo\nthree\n"
            assert await watch.next_close() is CloseReason.PEER_CLOSED


async def test_a_tls_peer_may_end_without_the_goodbye_of_tls(tls_place: Place, kind: str) -> None:
    """Many programs do. Its framing tells whether a message was cut off."""
    for said, reason in (
        (b"whole\n", CloseReason.PEER_CLOSED),
        (b"cut off", CloseReason.TRUNCATED),
    ):
        watch = Watch()
        async with tls_place.serve(echo(kind), framing=Line(), **watch.hooks) as server:
            async with await tls_place.peer(server) as peer:
                await peer.send(said)
                peer.socket.shutdown(socket.SHUT_WR)
                assert await peer.receive_all() == (said if said.endswith(b"\n") else b"")
                assert await watch.next_close() is reason


async def test_a_server_that_has_ended_still_receives(place: Place) -> None:
    heard: list[bytes] = []

    async def end_and_listen(connection: Connection) -> None:
        await connection.wait_secured()
        await connection.send(b"I have said all")
        connection.half_close()
        assert connection.state is State.HALF_CLOSED
        async for message in connection:
            heard.append(message)

    watch = Watch()
    async with place.serve(end_and_listen, framing=Line(), **watch.hooks) as server:
        async with await place.peer(server) as peer:
            assert await peer.receive_all() == b"I have said all\n"
            await peer.send(b"but I have not\nnot at all\n")
            await peer.end()
            assert await watch.next_close() is CloseReason.PEER_CLOSED
    assert heard == [b"but I have not", b"not at all"]


async def test_nothing_can_be_sent_after_ending(place: Place) -> None:
    async with place.serve(echo("conversation")) as server, place.connect(server) as connection:
        connection.half_close()
        with pytest.raises(UsageError, match="ended its stream"):
            connection.send(b"one more thing")


async def test_half_closing_sends_what_is_owed_first(plain: Place) -> None:
    async with connected_pair(plain, limits=PLENTY) as (ours, theirs):
        ours.send(LAST_WORDS)
        assert ours.owed > 0
        ours.half_close()
        assert await theirs.receive_all() == LAST_WORDS
        await theirs.send(b"heard")
        assert await ours.receive() == b"heard"


async def test_when_both_have_ended_the_connection_is_over(plain: Place) -> None:
    async with connected_pair(plain) as (ours, theirs):
        ours.half_close()
        await theirs.end()
        async with asyncio.timeout(10):
            await ours.wait_closed()
        assert ours.close_reason is CloseReason.PEER_CLOSED


# ---- Closing


async def test_closing_sends_what_is_owed(place: Place, kind: str) -> None:
    async def converse(connection: Connection) -> None:
        await connection.receive()
        connection.send(LAST_WORDS)

    def respond(connection: Connection, message: bytes) -> None:
        connection.send(LAST_WORDS)
        connection.close()

    handler: Any = converse if kind == "conversation" else respond
    watch = Watch()
    async with place.serve(handler, limits=PLENTY, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"speak")
            assert await peer.receive_all() == LAST_WORDS
            await peer.end()
            assert await watch.next_close() is CloseReason.CLOSED


async def test_closing_right_after_the_handshake_sends_what_is_owed(place: Place) -> None:
    def refuse_politely(connection: Connection) -> None:
        connection.send(b"come back tomorrow")
        connection.close()

    async with place.serve(echo("responder"), on_open=refuse_politely) as server:
        async with await place.peer(server) as peer:
            assert await peer.receive_all() == b"come back tomorrow"


async def test_what_a_peer_still_sends_does_not_destroy_the_last_words(place: Place) -> None:
    """Closing a socket with unread bytes resets it, and a reset takes back what was sent."""

    async def interrupt(connection: Connection) -> None:
        await connection.receive()
        await connection.send(b"enough")

    async with place.serve(interrupt) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"blah " * 100_000)
            assert await peer.receive_all() == b"enough"


async def test_a_peer_that_talks_on_and_on_while_it_is_closed_is_reset(plain: Place) -> None:
    async def leave(connection: Connection) -> None:
        await connection.receive()

    # Its time to close is not what ends it.
    Clock()
    watch = Watch()
    async with plain.serve(leave, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            with pytest.raises(ConnectionError):
                while True:
                    await peer.send(b"blah " * 10_000)
            assert await watch.next_close() is CloseReason.CLOSED


async def test_a_peer_that_resets_after_everything_was_sent_ends_in_good_order(
    plain: Place,
) -> None:
    async with connected_pair(plain) as (ours, theirs):
        ours.close()
        assert await theirs.receive_all() == b""
        theirs.reset()
        await ours.wait_closed()
        assert ours.close_reason is CloseReason.CLOSED


async def test_nothing_can_be_sent_or_received_once_closing_has_begun(plain: Place) -> None:
    async with connected_pair(plain) as (ours, _):
        ours.close()
        assert ours.state is State.CLOSING
        with pytest.raises(ConnectionClosedError) as sending:
            ours.send(b"too late")
        assert sending.value.reason is CloseReason.CLOSED
        with pytest.raises(ConnectionClosedError) as receiving:
            await ours.receive()
        assert receiving.value.reason is CloseReason.CLOSED


async def test_closing_ends_the_iteration_of_whoever_receives(place: Place) -> None:
    async with place.serve(echo("conversation")) as server, place.connect(server) as connection:

        async def listen() -> list[bytes]:
            return [message async for message in connection]

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)
        connection.close()
        assert await listening == []


# ---- Cutting off


async def test_aborting_is_a_reset(tcp_place: Place, kind: str) -> None:
    async def converse(connection: Connection) -> None:
        await connection.receive()
        connection.abort()

    def respond(connection: Connection, message: bytes) -> bytes | None:
        connection.abort()
        return None

    handler: Any = converse if kind == "conversation" else respond
    watch = Watch()
    async with tcp_place.serve(handler, **watch.hooks) as server:
        async with await tcp_place.peer(server) as peer:
            await peer.send(b"hello")
            assert await peer.is_reset()
            assert await watch.next_close() is CloseReason.ABORTED


async def test_aborting_drops_what_is_owed(plain: Place) -> None:
    async with connected_pair(plain, limits=PLENTY) as (ours, theirs):
        ours.send(LAST_WORDS)
        ours.abort()
        assert ours.owed == 0
        assert await theirs.is_reset()


async def test_a_peer_that_resets_is_told_apart_from_one_that_ends(
    tcp_place: Place, kind: str
) -> None:
    watch = Watch()
    async with tcp_place.serve(echo(kind), framing=Line(), **watch.hooks) as server:
        peer = await tcp_place.peer(server)
        await peer.send(b"hello\n")
        await peer.receive_line()
        peer.reset()
        assert await watch.next_close() is CloseReason.PEER_RESET


async def test_a_reset_in_the_middle_of_a_message_is_a_reset(plain: Place, kind: str) -> None:
    watch = Watch()
    async with plain.serve(echo(kind), framing=Line(), **watch.hooks) as server:
        peer = await plain.peer(server)
        connection = await watch.next_open()
        await peer.send(b"half a mess")
        await eventually(lambda: connection.bytes_received)
        peer.reset()
        assert await watch.next_close() is CloseReason.PEER_RESET


async def test_a_reset_is_noticed_while_bytes_are_owed(plain: Place) -> None:
    async with connected_pair(plain, limits=PLENTY) as (ours, theirs):
        sending = asyncio.ensure_future(ours.send(LAST_WORDS))
        await asyncio.sleep(0)
        theirs.reset()
        with pytest.raises(ConnectionClosedError) as caught:
            await sending
        assert caught.value.reason is CloseReason.PEER_RESET


async def test_a_reset_is_noticed_while_reading_is_paused(plain: Place) -> None:
    async with connected_pair(plain, framing=Line()) as (ours, theirs):
        await theirs.send(b"x" * 40_000 + b"\n" + b"y" * 40_000 + b"\n")
        await eventually(lambda: ours.messages_received == 2)
        theirs.reset()
        async with asyncio.timeout(10):
            await ours.wait_closed()
        assert ours.close_reason is CloseReason.PEER_RESET


async def test_what_came_before_a_reset_is_received(plain: Place) -> None:
    async with connected_pair(plain, framing=Line()) as (ours, theirs):
        await theirs.send(b"one\ntwo\n")
        await eventually(lambda: ours.messages_received == 2)
        theirs.reset()
        await ours.wait_closed()
        assert [await ours.receive(), await ours.receive()] == [b"one", b"two"]
        with pytest.raises(ConnectionClosedError) as caught:
            await ours.receive()
        assert caught.value.reason is CloseReason.PEER_RESET


# ---- Being told


async def test_receiving_after_the_end_says_that_the_peer_has_ended(place: Place) -> None:
    async def say_goodbye(connection: Connection) -> None:
        await connection.receive()

    async with place.serve(say_goodbye) as server, place.connect(server) as connection:
        await connection.send(b"goodbye")
        for _ in range(2):
            with pytest.raises(EndOfStreamError) as caught:
                await connection.receive()
            assert caught.value.reason is CloseReason.PEER_CLOSED


async def test_messages_that_came_before_the_end_are_received_after_it(plain: Place) -> None:
    async with connected_pair(plain, framing=Line()) as (ours, theirs):
        await theirs.send(b"one\ntwo\n")
        await theirs.end()
        await eventually(lambda: ours.state is State.PEER_ENDED)
        assert not ours.is_receiving
        assert [message async for message in ours] == [b"one", b"two"]


async def test_an_end_inside_a_message_is_a_mistake_of_the_peers(place: Place, kind: str) -> None:
    watch = Watch()
    async with place.serve(echo(kind), framing=LengthPrefix(), **watch.hooks) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"\0\0\0\x03one" + b"\0\0\0\x03tw")
            await peer.end()
            assert await peer.receive_all() == b"\0\0\0\x03one"
            assert await watch.next_close() is CloseReason.TRUNCATED


async def test_a_conversation_is_told_that_a_message_was_cut_off(place: Place) -> None:
    told: list[BaseException] = []

    async def listen(connection: Connection) -> None:
        try:
            await connection.receive()
        except TruncatedError as error:
            told.append(error)
            raise

    watch = Watch()
    async with place.serve(listen, framing=Line(), **watch.hooks) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"no newl")
            await peer.end()
            assert await watch.next_close() is CloseReason.TRUNCATED
    assert [error.fields["pending"] for error in told if isinstance(error, TruncatedError)] == [7]


async def test_everybody_who_waits_for_the_end_is_told(plain: Place) -> None:
    async with connected_pair(plain) as (ours, theirs):
        waiting = [asyncio.create_task(ours.wait_closed()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        ours.close()
        theirs.close()
        done, _ = await asyncio.wait(waiting, timeout=10)
        assert len(done) == 3
        assert [task.cancelled() for task in waiting] == [True, False, False]
        await ours.wait_closed()
        assert ours.state is State.CLOSED


# ---- In every state, any number of times


async def _open(ours: Connection, theirs: Peer) -> None:
    """Nothing has happened."""


async def _peer_ended(ours: Connection, theirs: Peer) -> None:
    await theirs.end()


async def _half_closed(ours: Connection, theirs: Peer) -> None:
    ours.half_close()


async def _closing(ours: Connection, theirs: Peer) -> None:
    ours.close()


async def _closing_and_owing(ours: Connection, theirs: Peer) -> None:
    ours.send(LAST_WORDS)
    ours.close()


async def _closed(ours: Connection, theirs: Peer) -> None:
    ours.abort()


WAYS: list[tuple[State, Callable[[Connection, Peer], Any]]] = [
    (State.OPEN, _open),
    (State.PEER_ENDED, _peer_ended),
    (State.HALF_CLOSED, _half_closed),
    (State.CLOSING, _closing),
    (State.CLOSING, _closing_and_owing),
    (State.CLOSED, _closed),
]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(("state", "reach"), WAYS)
async def test_closing_is_right_in_every_state_and_any_number_of_times(
    plain: Place, state: State, reach: Callable[[Connection, Peer], Any], times: int
) -> None:
    async with connected_pair(plain, limits=PLENTY) as (ours, theirs):
        await reach(ours, theirs)
        await eventually(lambda: ours.state is state)
        for _ in range(times):
            ours.close()
        assert ours.state in (State.CLOSING, State.CLOSED)
        if state is not State.CLOSED:
            await theirs.receive_all()
            theirs.close()
        async with asyncio.timeout(10):
            await ours.wait_closed()
        assert ours.close_reason is not None
        assert ours.close_reason.in_good_order == (state is not State.CLOSED)
        ours.close()


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(("state", "reach"), WAYS)
async def test_aborting_is_right_in_every_state_and_any_number_of_times(
    plain: Place, state: State, reach: Callable[[Connection, Peer], Any], times: int
) -> None:
    async with connected_pair(plain, limits=PLENTY) as (ours, theirs):
        await reach(ours, theirs)
        await eventually(lambda: ours.state is state)
        for _ in range(times):
            ours.abort()
        assert ours.state is State.CLOSED
        assert ours.close_reason is CloseReason.ABORTED
        ours.close()
        assert ours.close_reason is CloseReason.ABORTED


@pytest.mark.parametrize(("state", "reach"), WAYS)
async def test_ending_this_side_is_right_in_every_state_but_the_last(
    plain: Place, state: State, reach: Callable[[Connection, Peer], Any]
) -> None:
    async with connected_pair(plain, limits=PLENTY) as (ours, theirs):
        await reach(ours, theirs)
        await eventually(lambda: ours.state is state)
        if state is State.CLOSED:
            with pytest.raises(ConnectionClosedError):
                ours.half_close()
            return
        ours.half_close()
        if state is not State.PEER_ENDED:  # there, both have ended now, and it may be over
            ours.half_close()
        await theirs.receive_all()
        theirs.close()
        async with asyncio.timeout(10):
            await ours.wait_closed()


async def test_a_handshake_that_is_aborted_ends_at_once(tls_place: Place) -> None:
    watch = Watch()
    async with tls_place.serve(echo("responder"), **watch.hooks) as server:
        async with await Peer.connect(server.addresses[0]) as peer:
            connection = await watch.next_open()
            assert connection.state is State.HANDSHAKE
            connection.abort()
            assert await peer.is_reset()
        assert await watch.next_close() is CloseReason.ABORTED


async def test_a_handshake_that_is_closed_is_finished_first(tls_place: Place) -> None:
    """The peer sees an end in good order; a peer that never finishes has its time limit."""
    clock, watch = Clock(), Watch()
    limits = Limits(handshake=10)
    async with tls_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await Peer.connect(server.addresses[0]):
            connection = await watch.next_open()
            connection.close()
            connection.close()
            assert connection.state is State.HANDSHAKE
            clock.advance(10 + TICK)
            assert await watch.next_close() is CloseReason.HANDSHAKE_TIMEOUT
    show_out = Connection.close
    async with tls_place.serve(echo("responder"), on_open=show_out) as server:
        connection = await tls_place.connect(server)
        with pytest.raises(tieline.EndOfStreamError):
            await connection.receive()
        connection.close()
        await connection.wait_closed()


async def test_after_the_end_a_connection_still_says_what_it_was(place: Place) -> None:
    async with place.serve(echo("conversation")) as server:
        connection = await place.connect(server)
        peer, local = connection.peer, connection.local
        await connection.send(b"hello")
        await connection.receive()
        connection.close()
        await connection.wait_closed()
    assert (connection.peer, connection.local) == (peer, local)
    assert (connection.bytes_sent, connection.bytes_received) == (5, 5)
    assert "closed" in repr(connection)
    assert connection.owed == 0
    with pytest.raises(ConnectionClosedError):
        connection.tcp_info()


async def test_a_unix_peer_has_no_tcp_info(unix_place: Place) -> None:
    server = unix_place.serve(echo("responder"))
    async with server, unix_place.connect(server) as connection:
        with pytest.raises(UsageError, match="not a TCP connection"):
            connection.tcp_info()


async def test_leaving_a_client_by_an_error_closes_it(place: Place) -> None:
    watch = Watch()
    async with place.serve(echo("conversation"), **watch.hooks) as server:
        with pytest.raises(ZeroDivisionError):
            async with place.connect(server):
                await watch.next_open()
                raise ZeroDivisionError
        assert await watch.next_close() is CloseReason.PEER_CLOSED


async def test_asking_a_server_that_says_nothing_and_ends(place: Place) -> None:
    async def say_nothing(connection: Connection) -> None:
        await connection.receive()

    async with place.serve(say_nothing) as server:
        with pytest.raises(EndOfStreamError):
            await place.ask(server, b"anybody?")


async def test_asking_nobody_says_that_nobody_listens(plain: Place) -> None:
    async with plain.serve(echo("responder")) as server:
        address = server.addresses[0]
    with pytest.raises(tieline.ConnectError, match="nothing listens"):
        await tieline.ask(address, b"anybody?")
