"""What the application is told, and what its own mistakes cost."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

import tieline
from support.hooks import Watch, echo
from support.leaks import ErrorLog
from support.transports import Place
from tieline import CloseReason, Connection, ConnectionClosedError, Line, State, UsageError


async def test_hooks_are_called_once_each_with_the_reason(place: Place, kind: str) -> None:
    watch = Watch()
    async with place.serve(echo(kind), framing=Line(), **watch.hooks) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"hello\n")
            await peer.receive_line()
            assert watch.closed == []
            await peer.end()
            await peer.receive_all()
            await watch.next_close()
    connection = watch.opened[0]
    assert watch.opened == [connection]
    assert watch.closed == [(connection, CloseReason.PEER_CLOSED)]
    assert connection.close_reason is CloseReason.PEER_CLOSED
    assert server.counters.closed == {CloseReason.PEER_CLOSED: 1}


async def test_on_close_sees_a_connection_that_is_over(place: Place, kind: str) -> None:
    seen: list[tuple[State, int]] = []

    def look(connection: Connection, reason: CloseReason) -> None:
        seen.append((connection.state, len(server)))
        with pytest.raises(ConnectionClosedError):
            connection.send(b"too late")
        connection.close()
        connection.abort()

    async with place.serve(echo(kind), on_close=look) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"hello")
            await peer.receive(5)
    assert seen == [(State.CLOSED, 0)]


def _faulty(kind: str) -> Any:
    async def converse(connection: Connection) -> None:
        async for message in connection:
            await connection.send(message)
            if message == b"break":
                raise ValueError("a mistake in the application")

    def respond(connection: Connection, message: bytes) -> bytes:
        if message == b"break":
            connection.send(message)
            raise ValueError("a mistake in the application")
        return message

    return converse if kind == "conversation" else respond


async def test_a_handler_that_raises_costs_its_own_connection_only(
    place: Place, kind: str, error_log: ErrorLog
) -> None:
    watch = Watch()
    async with place.serve(_faulty(kind), framing=Line(), **watch.hooks) as server:
        async with await place.peer(server) as neighbour, await place.peer(server) as peer:
            await peer.send(b"fine\nbreak\nnever read\n")
            # What it had answered before is delivered.
            assert await peer.receive_all() == b"fine\nbreak\n"
            await peer.end()
            assert await watch.next_close() is CloseReason.HANDLER_ERROR
            await neighbour.send(b"still here\n")
            assert await neighbour.receive_line() == b"still here\n"
    [logged] = error_log.take()
    assert "ValueError: a mistake in the application" in logged
    assert server.counters.handler_errors == 1
    assert server.counters.closed[CloseReason.HANDLER_ERROR] == 1


async def test_a_mistake_after_the_peers_end_is_still_the_handlers(
    place: Place, error_log: ErrorLog
) -> None:
    async def fail_at_the_end(connection: Connection) -> None:
        async for _ in connection:
            pass
        raise ValueError("a mistake in the application")

    watch = Watch()
    async with place.serve(fail_at_the_end, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            await peer.end()
            assert await watch.next_close() is CloseReason.HANDLER_ERROR
    assert len(error_log.take()) == 1


async def test_a_handler_that_is_ended_by_its_own_connection_made_no_mistake(
    plain: Place,
) -> None:
    async def insist(connection: Connection) -> None:
        while True:
            await connection.send(await connection.receive())

    watch = Watch()
    async with plain.serve(insist, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            await peer.end()
            assert await watch.next_close() is CloseReason.PEER_CLOSED
        peer = await plain.peer(server)
        await watch.next_open()
        peer.reset()
        assert await watch.next_close() is CloseReason.PEER_RESET
    assert server.counters.handler_errors == 0


async def test_a_handler_that_is_ended_by_another_connection_did(
    plain: Place, error_log: ErrorLog
) -> None:
    """A proxy whose upstream is gone has failed its own client."""

    async def proxy(connection: Connection) -> None:
        await connection.receive()
        raise ConnectionClosedError(reason=CloseReason.PEER_RESET)

    watch = Watch()
    async with plain.serve(proxy, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            await peer.send(b"hello")
            assert await peer.receive_all() == b""
            await peer.end()
            assert await watch.next_close() is CloseReason.HANDLER_ERROR
    assert len(error_log.take()) == 1


async def test_a_responder_that_answers_nonsense_made_a_mistake(
    plain: Place, error_log: ErrorLog
) -> None:
    def answer(connection: Connection, message: bytes) -> Any:
        return 42

    async with plain.serve(answer) as server, await plain.peer(server) as peer:
        await peer.send(b"what?")
        assert await peer.receive_all() == b""
    assert "UsageError: a message here is bytes, not int" in error_log.take()[0]


async def test_a_message_that_cannot_be_sent_changes_nothing(place: Place) -> None:
    async with place.serve(echo("conversation"), framing=Line(), encoding="gbk") as server:
        async with place.connect(server, framing=Line(), encoding="gbk") as connection:
            for unsendable in ("two\nlines", "emoji 🙂", b"bytes"):
                with pytest.raises(UsageError):
                    connection.send(unsendable)
            assert (connection.messages_sent, connection.bytes_sent) == (0, 0)
            await connection.send("一")
            assert await connection.receive() == "一"


async def test_an_opening_hook_that_raises_costs_that_connection(
    place: Place, error_log: ErrorLog
) -> None:
    def refuse_the_first(connection: Connection) -> None:
        if server.counters.accepted == 1:
            raise ValueError("a mistake in the application")

    handled: list[Connection] = []

    async def count(connection: Connection) -> None:
        handled.append(connection)

    watch = Watch()
    async with place.serve(count, on_open=refuse_the_first, on_close=watch.on_close) as server:
        with pytest.raises((tieline.EndOfStreamError, tieline.TielineError)):
            await place.ask(server, b"hello")
        assert await watch.next_close() is CloseReason.HANDLER_ERROR
        assert handled == []
        with pytest.raises(tieline.EndOfStreamError):
            await place.ask(server, b"hello")
        assert len(handled) == 1
    assert len(error_log.take()) == 1
    assert server.counters.handler_errors == 1


async def test_a_closing_hook_that_raises_costs_nothing(
    place: Place, kind: str, error_log: ErrorLog
) -> None:
    def fail(connection: Connection, reason: CloseReason) -> None:
        raise ValueError("a mistake in the application")

    async with place.serve(echo(kind), on_close=fail) as server:
        for _ in range(2):
            assert await place.ask(server, b"hello") == b"hello"
        async with asyncio.timeout(10):
            while len(server):
                await asyncio.sleep(0)
    assert len(error_log.take()) == server.counters.handler_errors == 2
    assert server.admission.total == 0


async def test_a_connection_may_be_refused_in_the_opening_hook(plain: Place, kind: str) -> None:
    watch = Watch()
    refuse = Connection.abort
    async with plain.serve(echo(kind), on_open=refuse, on_close=watch.on_close) as server:
        assert await plain.is_turned_away(server)
        assert await watch.next_close() is CloseReason.ABORTED
    assert len(watch.closed) == 1


async def test_a_callable_object_may_be_a_handler(plain: Place) -> None:
    class Conversation:
        async def __call__(self, connection: Connection) -> None:
            await connection.send(b"conversation " + await connection.receive())

    class Responder:
        def __call__(self, connection: Connection, message: bytes) -> bytes:
            return b"responder " + message

    for handler, answer in ((Conversation(), b"conversation hi"), (Responder(), b"responder hi")):
        async with plain.serve(handler) as server:
            assert await plain.ask(server, b"hi") == answer


async def test_a_conversation_may_outlive_its_connection(plain: Place) -> None:
    """It does not end with the peer; the server waits for it all the same."""
    go_on = asyncio.Event()
    ended = asyncio.Event()

    async def tidy_up_slowly(connection: Connection) -> None:
        async for _ in connection:
            pass
        connection.close()
        await connection.wait_closed()
        await go_on.wait()
        ended.set()

    watch = Watch()
    async with plain.serve(tidy_up_slowly, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            await peer.end()
            await watch.next_close()
        assert len(server) == 0
        server.close_listeners()
        waiting = asyncio.create_task(server.wait_closed())
        await asyncio.sleep(0)
        assert not waiting.done()
        go_on.set()
        async with asyncio.timeout(10):
            await waiting
        assert ended.is_set()


async def test_a_client_side_context_is_no_use_to_a_server(plain: Place) -> None:
    context = ssl.create_default_context()
    with pytest.raises(UsageError):
        async with tieline.serve(echo("responder"), "127.0.0.1:0", tls=context):
            pass


async def test_a_server_starts_once(plain: Place) -> None:
    async with plain.serve(echo("responder")) as server:
        with pytest.raises(UsageError, match="starts once"):
            await server.start()


async def test_addresses_in_use_are_refused_and_none_is_kept(plain: Place) -> None:
    async with plain.serve(echo("responder")) as server:
        taken = server.addresses[0]
        other = tieline.serve(echo("responder"), "127.0.0.1:0", taken)
        with pytest.raises(tieline.BindError, match="in use"):
            await other.start()
        assert other.addresses == []


async def test_a_server_without_an_address_is_none() -> None:
    with pytest.raises(UsageError, match="needs an address"):
        tieline.serve(echo("responder"))
