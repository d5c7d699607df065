"""How many: per client, per network, in all. Other addresses of 127/8 are other machines."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

import tieline
from support.hooks import Watch, echo, eventually
from support.leaks import ErrorLog
from support.peers import Peer
from support.transports import Place
from tieline import Address, CloseReason, Limits, Line, Server


async def _let_in(
    stack: AsyncExitStack, place: Place, server: Server, watch: Watch, **options: Any
) -> Peer:
    peer = await stack.enter_async_context(await place.peer(server, **options))
    await watch.next_open()
    return peer


async def test_a_client_gets_its_share_and_no_more(place: Place, kind: str) -> None:
    watch = Watch()
    limits = Limits(per_client=2)
    async with (
        place.serve(echo(kind), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as s,
    ):
        first = await _let_in(s, place, server, watch)
        second = await _let_in(s, place, server, watch)
        assert await place.is_turned_away(server)
        assert server.counters.refused == {CloseReason.CLIENT_LIMIT: 1}
        # Those inside do not notice, nobody was told of the other, and no slot is lost.
        for peer in (first, second):
            await peer.send(b"hello")
            assert await peer.receive(5) == b"hello"
        assert len(watch.opened) == server.counters.accepted == 2
        await first.end()
        await watch.next_close()
        await _let_in(s, place, server, watch)
        assert server.admission.total == 2


async def test_other_machines_have_shares_of_their_own(tcp_place: Place, kind: str) -> None:
    watch = Watch()
    limits = Limits(per_client=1)
    async with (
        tcp_place.serve(echo(kind), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for machine in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
            await _let_in(stack, tcp_place, server, watch, source=machine)
            assert await tcp_place.is_turned_away(server, source=machine)
        assert set(server.admission.clients) == {"127.0.0.1", "127.0.0.2", "127.0.0.3"}
        assert server.counters.refused == {CloseReason.CLIENT_LIMIT: 3}


async def test_a_refusal_is_told_to_the_application(place: Place, error_log: ErrorLog) -> None:
    told: list[tuple[Address, CloseReason]] = []

    def remember(peer: Address, reason: CloseReason) -> None:
        told.append((peer, reason))
        if len(told) == 2:
            raise ValueError("a mistake in the application")

    watch = Watch()
    limits = Limits(per_client=1)
    async with (
        place.serve(echo("responder"), limits=limits, on_refuse=remember, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        inside = await _let_in(stack, place, server, watch)
        for _ in range(3):
            assert await place.is_turned_away(server)
        await inside.send(b"hello")
        assert await inside.receive(5) == b"hello"
    assert [reason for _, reason in told] == [CloseReason.CLIENT_LIMIT] * 3
    if place.is_tcp:
        host = server.addresses[0].host
        assert {peer.host for peer, _ in told} == {host}
        assert all(peer.port for peer, _ in told)
    assert len(error_log.take()) == 1


async def test_a_client_may_be_a_wider_prefix(plain: Place) -> None:
    watch = Watch()
    limits = Limits(per_client=1, client_ipv4_prefix=24)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, plain, server, watch, source="127.0.0.1")
        assert await plain.is_turned_away(server, source="127.0.0.2")
        await _let_in(stack, plain, server, watch, source="127.0.1.1")


async def test_a_network_has_a_share_too(plain: Place) -> None:
    watch = Watch()
    limits = Limits(per_client=2, per_network=3)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        first = await _let_in(stack, plain, server, watch, source="127.0.0.1")
        await _let_in(stack, plain, server, watch, source="127.0.0.1")
        await _let_in(stack, plain, server, watch, source="127.0.0.2")
        assert await plain.is_turned_away(server, source="127.0.0.3")
        assert await plain.is_turned_away(server, source="127.0.0.1")
        await _let_in(stack, plain, server, watch, source="127.0.1.1")
        assert server.counters.refused == {
            CloseReason.NETWORK_LIMIT: 1,
            CloseReason.CLIENT_LIMIT: 1,
        }
        await first.end()
        await watch.next_close()
        await _let_in(stack, plain, server, watch, source="127.0.0.3")


async def test_when_the_server_is_full_newcomers_wait_in_the_backlog(
    place: Place, kind: str
) -> None:
    watch = Watch()
    limits = Limits(total=2, per_client=None)
    framing = Line()
    async with place.serve(echo(kind), framing=framing, limits=limits, **watch.hooks) as server:
        async with place.connect(server, framing=framing) as first:
            async with place.connect(server, framing=framing) as second:
                await watch.next_open()
                await watch.next_open()
                asking = asyncio.create_task(place.ask(server, b"my turn?", framing=framing))
                # Whoever would be accepted by now is: the server has served a round since.
                for _ in range(20):
                    await second.send(b"still here")
                    assert await second.receive() == b"still here"
                assert len(watch.opened) == len(server) == 2
                assert not asking.done()
                first.close()
                assert await asking == b"my turn?"
            assert len(watch.opened) == 3
    assert server.counters.refused == {}
    assert server.admission.total == 0


async def test_a_full_server_serves_a_whole_queue_in_turn(plain: Place, kind: str) -> None:
    watch = Watch()
    most = 0

    def count(connection: tieline.Connection) -> None:
        nonlocal most
        most = max(most, len(server))

    limits = Limits(total=3, per_client=None)
    server = plain.serve(echo(kind), limits=limits, on_open=count, on_close=watch.on_close)
    async with server:
        answers = await asyncio.gather(*(plain.ask(server, b"%d" % n) for n in range(50)))
        assert answers == [b"%d" % n for n in range(50)]
        await eventually(lambda: len(server) == 0)
    assert most == 3
    assert server.counters.accepted == 50


async def test_a_slot_is_reused_ten_thousand_times(plain: Place) -> None:
    """The count stays right, and never falls below zero."""
    watch = Watch()
    limits = Limits(per_client=1)
    totals: set[int] = set()

    def note(connection: tieline.Connection, reason: CloseReason) -> None:
        totals.add(server.admission.total)
        watch.on_close(connection, reason)

    server = plain.serve(echo("responder"), limits=limits, on_close=note)
    async with server:
        for _ in range(500):
            assert await plain.ask(server, b"x") == b"x"
            await watch.next_close()
        assert server.admission.total == 0
        assert server.admission.clients == {}
    assert totals == {0}


async def test_closing_the_listeners_lets_nobody_in_and_leaves_the_rest(
    place: Place, kind: str
) -> None:
    watch = Watch()
    async with place.serve(echo(kind), **watch.hooks) as server:
        async with await place.peer(server) as peer:
            await watch.next_open()
            server.close_listeners()
            server.close_listeners()
            with pytest.raises(tieline.ConnectError):
                await place.connect(server)
            await peer.send(b"hello")
            assert await peer.receive(5) == b"hello"
            assert len(server) == 1
            assert server.addresses != []


async def test_closing_the_listeners_of_a_full_server_is_final(plain: Place) -> None:
    watch = Watch()
    limits = Limits(total=1)
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server), await plain.peer(server) as waiting:
            await watch.next_open()
            server.close_listeners()
            assert await waiting.is_reset()
        assert len(watch.opened) == 1
