"""What a server tells its subscribers: which events, when, and what is in them.

How subscribers are served is in `tests/test_events.py`.
"""

from __future__ import annotations

import asyncio
import errno
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest

from support.clock import TICK, Clock
from support.faults import Faults
from support.hooks import Watch, echo, eventually
from support.leaks import ErrorLog
from support.transports import Place
from tieline import CloseReason, Connection, Limits, Line, Server, events
from tieline.events import (
    AcceptPaused,
    AcceptResumed,
    ClientBanned,
    ClientPenalized,
    ClientUnbanned,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    DrainBegun,
    DrainEnded,
    Event,
    EventsLost,
    HandlerFailed,
    ServerStarted,
    TableOverflowed,
)

Kind = TypeVar("Kind", bound=Event)


class Log:
    """A subscriber that remembers."""

    def __init__(self, server: Server) -> None:
        self.told: list[Event] = []
        server.events.subscribe(self.told.append)

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.told if isinstance(event, kind)]

    async def next(self, kind: type[Kind], number: int = 1) -> Kind:
        """Wait for an event of a kind: the first, or a later one."""
        await eventually(lambda: len(self.of(kind)) >= number)
        return self.of(kind)[number - 1]

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.told]


async def test_the_life_of_a_connection(place: Place, kind: str) -> None:
    watch = Watch()
    server = place.serve(echo(kind), framing=Line(), **watch.hooks)
    log = Log(server)
    async with server:
        started = await log.next(ServerStarted)
        assert started.addresses == tuple(server.addresses)
        assert started.time == pytest.approx(server.started_at, abs=5)
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            opened = await log.next(ConnectionOpened)
            assert (opened.id, opened.peer) == (connection.id, connection.peer)
            assert (opened.local, opened.client) == (connection.local, connection.client.key)
            await peer.send(b"one\ntwo\n")
            assert await peer.receive(8) == b"one\ntwo\n"
            assert log.names == ["server_started", "connection_opened"]
        closed = await log.next(ConnectionClosed)
        assert (closed.id, closed.peer) == (connection.id, connection.peer)
        assert closed.client == opened.client
        assert closed.reason is watch.closed[0][1]
        assert (closed.bytes_received, closed.bytes_sent) == (8, 8)
        assert (closed.messages_received, closed.messages_sent) == (2, 2)
        assert closed.duration == pytest.approx(closed.time - opened.time, abs=1)
        assert closed.as_dict()["reason"] == closed.reason.value


async def test_a_refusal(place: Place) -> None:
    watch = Watch()
    async with (
        place.serve(echo("responder"), limits=Limits(per_client=1), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        log = Log(server)
        await stack.enter_async_context(await place.peer(server))
        connection = await watch.next_open()
        assert await place.is_turned_away(server)
        refused = await log.next(ConnectionRefused)
        assert refused.reason is CloseReason.CLIENT_LIMIT
        assert refused.client == connection.client.key
        assert refused.peer.host == connection.peer.host
        assert log.names == ["connection_opened", "connection_refused"]


@pytest.mark.parametrize("kind", ["conversation", "responder"])
async def test_a_handler_that_fails(plain: Place, kind: str, error_log: ErrorLog) -> None:
    async def converse(connection: Connection) -> None:
        await connection.receive()
        raise ValueError("a mistake")

    def respond(connection: Connection, message: bytes) -> None:
        raise ValueError("a mistake")

    handler: Any = converse if kind == "conversation" else respond
    async with plain.serve(handler) as server:
        log = Log(server)
        async with await plain.peer(server) as peer:
            await peer.send(b"x")
            assert await peer.receive_all() == b""
            failed = await log.next(HandlerFailed)
            assert failed.error == "ValueError: a mistake"
            await peer.end()
            closed = await log.next(ConnectionClosed)
        assert (closed.id, closed.reason) == (failed.id, CloseReason.HANDLER_ERROR)
    assert len(error_log.take()) == 1


async def test_penalties_bans_and_their_end(plain: Place) -> None:
    watch = Watch()
    limits = Limits(penalty_threshold=15)
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        log = Log(server)
        async with await plain.peer(server), await plain.peer(server):
            connection = await watch.next_open()
            connection.penalize(10, "a silly request")
            connection.penalize(10, "another")
            first, second = await log.next(ClientPenalized), await log.next(ClientPenalized, 2)
            assert (first.client, first.seconds, first.why) == (
                "127.0.0.1", 10, "a silly request",
            )  # fmt: skip
            assert (first.refused, second.refused) == (False, True)
            assert second.owed == pytest.approx(20, abs=1)
            server.unban("127.0.0.1")
            assert (await log.next(ClientUnbanned)).network == "127.0.0.1"
            server.ban("127.0.0.0/8", 60, "go away")
            banned = await log.next(ClientBanned)
            assert (banned.network, banned.seconds) == ("127.0.0.0/8", 60)
            assert (banned.why, banned.closed) == ("go away", 2)
            assert await plain.is_turned_away(server)
            assert (await log.next(ConnectionRefused)).reason is CloseReason.BANNED
            server.unban("127.0.0.0/8")
            await log.next(ClientUnbanned, 2)
            # Nothing to lift, nothing to tell.
            server.unban("127.0.0.0/8")
            await asyncio.sleep(0)
            assert len(log.of(ClientUnbanned)) == 2


async def test_a_table_that_overflows_is_told_once(plain: Place) -> None:
    limits = Limits(table_size=1, table_full="refuse")
    watch = Watch()
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        log = Log(server)
        async with await plain.peer(server):
            await watch.next_open()
            for number in range(2, 5):
                assert await plain.is_turned_away(server, source=f"127.0.0.{number}")
            overflowed = await log.next(TableOverflowed)
            assert (overflowed.known, overflowed.mode) == (1, "refuse")
            await log.next(ConnectionRefused, 3)
            assert len(log.of(TableOverflowed)) == 1
            assert server.counters.table_overflows == 3


# ---- Accepting


async def test_a_full_server_pauses_and_goes_on(plain: Place) -> None:
    watch = Watch()
    async with (
        plain.serve(echo("responder"), limits=Limits(total=1), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        log = Log(server)
        inside = await stack.enter_async_context(await plain.peer(server))
        await stack.enter_async_context(await plain.peer(server))
        assert (await log.next(AcceptPaused)).why == "full"
        assert log.of(AcceptResumed) == []
        await inside.end()
        await log.next(AcceptResumed)
        assert len(log.of(AcceptPaused)) == 1


async def test_a_server_that_pauses_for_each_newcomer_says_so_now_and_then(plain: Place) -> None:
    """Once a second, not ten thousand times; the counter has them all."""
    clock = Clock()
    async with plain.serve(echo("responder"), limits=Limits(total=1)) as server:
        log = Log(server)
        for _ in range(20):
            assert await plain.ask(server, b"x") == b"x"
        await log.next(AcceptPaused)
        assert len(log.of(AcceptPaused)) == 1
        assert server.counters.accept_pauses["full"] >= 20
        clock.advance(1)
        assert await plain.ask(server, b"x") == b"x"
        await log.next(AcceptPaused, 2)


async def test_a_pause_that_lasts_is_told_though_another_was_just_before(plain: Place) -> None:
    """Whoever was told last that accepting goes on must learn that it does not."""
    watch = Watch()
    async with (
        plain.serve(echo("responder"), limits=Limits(total=1), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        log = Log(server)
        first = await stack.enter_async_context(await plain.peer(server))
        await log.next(AcceptPaused)
        await first.end()
        await log.next(AcceptResumed)
        await stack.enter_async_context(await plain.peer(server))
        await stack.enter_async_context(await plain.peer(server))
        async with asyncio.timeout(3):
            await log.next(AcceptPaused, 2)
        assert log.names.count("accept_resumed") == 1


async def test_a_pause_because_of_the_rate(plain: Place) -> None:
    Clock()
    limits = Limits(total_rate=1_000, total_burst=1)
    async with plain.serve(echo("responder"), limits=limits) as server:
        log = Log(server)
        async with await plain.peer(server):
            assert (await log.next(AcceptPaused)).why == "rate"
            server.change_limits(total_rate=None)
            await log.next(AcceptResumed)


async def test_a_pause_because_of_the_system(plain: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieline.listener._REST", 0.001)
    faults = Faults(accept=[errno.ENOMEM])
    server = plain.serve(echo("responder"))
    server.make_socket = faults.make_socket
    async with server:
        log = Log(server)
        assert await plain.ask(server, b"x") == b"x"
        assert (await log.next(AcceptPaused)).why == "system"
        await log.next(AcceptResumed)
        assert server.counters.accept_pauses == {"system": 1}
    assert faults.injected == 1


# ---- Stopping


@pytest.mark.parametrize("busy", [False, True])
async def test_draining_begins_and_ends(plain: Place, busy: bool) -> None:
    watch = Watch()
    async with plain.serve(echo("responder"), framing=Line(), **watch.hooks) as server:
        log = Log(server)
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            if busy:
                await peer.send(b"never who")
                await eventually(lambda: connection.bytes_received)
            draining = asyncio.create_task(server.drain(0.05 if busy else 10, 0.01))
            begun = await log.next(DrainBegun)
            assert (begun.connections, begun.seconds) == (1, 0.05 if busy else 10)
            assert begun.spread == 0.01
            if not busy:
                assert await peer.receive_all() == b""
                await peer.end()
            assert await draining is not busy
        ended = await log.next(DrainEnded)
        assert ended.reset == int(busy)
        closed = await log.next(ConnectionClosed)
        assert closed.reason is (CloseReason.DRAIN_TIMEOUT if busy else CloseReason.SHUTDOWN)
        assert log.names[-3:] == ["drain_begun", "connection_closed", "drain_ended"]


async def test_closing_the_server_ends_every_connection(plain: Place) -> None:
    watch = Watch()
    async with plain.serve(echo("responder"), **watch.hooks) as server:
        log = Log(server)
        async with await plain.peer(server), await plain.peer(server):
            for _ in range(2):
                await watch.next_open()
            await server.close()
            await log.next(ConnectionClosed, 2)
            assert {event.reason for event in log.of(ConnectionClosed)} == {CloseReason.SHUTDOWN}


# ---- Subscribers


async def test_every_event_of_a_clock_has_its_reason(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    async with plain.serve(echo("responder"), **watch.hooks) as server:
        log = Log(server)
        async with await plain.peer(server):
            await watch.next_open()
            clock.advance(60 + TICK)
            closed = await log.next(ConnectionClosed)
            assert closed.reason is CloseReason.FIRST_BYTE_TIMEOUT
            assert closed.duration == clock.time - 1_000


async def test_a_subscriber_is_told_after_the_turn_and_may_do_as_it_likes(plain: Place) -> None:
    """Here: close the connection that it is told of, and ask the server about it."""
    seen: list[tuple[str, int]] = []

    def show_out(event: Event) -> None:
        if isinstance(event, ConnectionOpened):
            connection = server.connection(event.id)
            assert connection is not None
            seen.append((event.name, len(server)))
            connection.abort(CloseReason.KICKED)
        elif isinstance(event, ConnectionClosed):
            seen.append((event.reason.value, len(server)))

    async with plain.serve(echo("responder")) as server:
        server.events.subscribe(show_out)
        async with await plain.peer(server) as peer:
            assert await peer.is_reset()
        await eventually(lambda: len(seen) == 2)
    assert seen == [("connection_opened", 1), ("kicked", 0)]


async def test_a_subscriber_that_fails_or_is_behind_costs_the_connections_nothing(
    plain: Place, error_log: ErrorLog
) -> None:
    told: list[Event] = []

    def fail(event: Event) -> None:
        raise ValueError("a mistake")

    async with plain.serve(echo("responder")) as server:
        server.events.subscribe(fail)
        behind = server.events.stream(capacity=2)
        for number in range(10):
            assert await plain.ask(server, b"%d" % number) == b"%d" % number
        await eventually(lambda: not len(server) and not server.events.lost < 18)
        behind.close()
        told.extend([event async for event in behind])
        assert isinstance(told[-1], EventsLost)
        assert told[-1].count == behind.lost == 18
        assert server.events.failures == 20
    assert len(error_log.take()) == 1


async def test_while_nobody_subscribes_no_event_is_made(
    plain: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(*_: Any, **__: Any) -> None:
        raise AssertionError("an event for nobody")

    watch = Watch()
    limits = Limits(per_client=1, penalty_refused=1)
    server = plain.serve(echo("responder"), limits=limits, **watch.hooks)
    subscription = server.events.subscribe(print)
    subscription.end()
    for name in events.__all__:
        for module in ("hosting", "operating", "acceptor", "server"):
            target = f"tieline.{module}.{name}"
            if name not in ("Event", "Events"):
                monkeypatch.setattr(target, make, raising=False)
    async with server:
        async with await plain.peer(server):
            connection = await watch.next_open()
            connection.penalize(1, "nothing")
            assert await plain.is_turned_away(server)
            server.change_limits(idle=7, per_client=2)
            server.ban("127.0.0.2")
            server.unban("127.0.0.2")
            server.kick(connection)
        await server.drain(1)
