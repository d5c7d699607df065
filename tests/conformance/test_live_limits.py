"""Limits that are changed while connections are open: each of them, lowered and raised."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from support.clock import TICK, Clock
from support.hooks import Watch, echo, eventually
from support.kernel import come_to_rest
from support.peers import Peer
from support.transports import Place
from tieline import (
    CloseReason,
    Connection,
    ConnectionClosedError,
    Limits,
    Line,
    Server,
    SettingError,
    State,
)
from tieline.events import Event, LimitsChanged
from tieline.limits import RULES

#: No clock at all, and room for more than any kernel takes.
QUIET: dict[str, Any] = {
    "idle": None, "first_byte": None, "message": None, "write_stall": None, "half_closed": None,
    "min_receive_rate": None, "min_send_rate": None, "lifetime_jitter": 0, "max_owed": 1 << 26,
}  # fmt: skip


async def _let_in(
    stack: AsyncExitStack, place: Place, server: Server, watch: Watch, source: str = ""
) -> Peer:
    peer = await stack.enter_async_context(await place.peer(server, source=source))
    connection = await watch.next_open()
    await connection.wait_secured()
    return peer


async def _wait(stack: AsyncExitStack, place: Place, server: Server, inside: Peer) -> Peer:
    """A newcomer who has to wait: whoever would be let in by now is."""
    before = len(server)
    peer = await stack.enter_async_context(await place.peer(server))
    for _ in range(20):
        await inside.send(b"x")
        assert await inside.receive(1) == b"x"
    assert len(server) == before
    return peer


# ---- Clocks: lowered, they close at once what is over


async def _silent(peer: Peer, connection: Connection) -> None:
    """Nothing has been said."""


async def _used(peer: Peer, connection: Connection) -> None:
    await peer.send(b"hello\n")
    assert await peer.receive_line() == b"hello\n"


async def _in_a_message(peer: Peer, connection: Connection) -> None:
    await peer.send(b"a message that has be")
    await eventually(lambda: connection.bytes_received)


async def _owing(peer: Peer, connection: Connection) -> None:
    connection.send(b"x" * 20_000_000)
    await come_to_rest(connection)
    assert connection.owed


async def _half_closed(peer: Peer, connection: Connection) -> None:
    connection.half_close()


Occupy = Callable[[Peer, Connection], Awaitable[None]]

#: What a connection is at, what is on from the beginning, what is changed, and the end.
CLOCKS: list[tuple[Occupy, dict[str, Any], dict[str, Any], CloseReason]] = [
    (_used, {}, {"idle": 10}, CloseReason.IDLE_TIMEOUT),
    (_used, {"idle": 600}, {"idle": 10}, CloseReason.IDLE_TIMEOUT),
    (_used, {}, {"receive_idle": 10}, CloseReason.RECEIVE_IDLE_TIMEOUT),
    (_used, {}, {"send_idle": 10}, CloseReason.SEND_IDLE_TIMEOUT),
    (_used, {"total": 1}, {"idle_when_full": 10}, CloseReason.IDLE_TIMEOUT),
    (_used, {"idle_when_full": 10}, {"total": 1}, CloseReason.IDLE_TIMEOUT),
    (_silent, {}, {"first_byte": 10}, CloseReason.FIRST_BYTE_TIMEOUT),
    (_in_a_message, {"message": 600}, {"message": 10}, CloseReason.MESSAGE_TIMEOUT),
    (_in_a_message, {}, {"min_receive_rate": 100}, CloseReason.SLOW_SENDER),
    (
        _in_a_message, {"min_receive_rate": 100, "rate_grace": 600}, {"rate_grace": 10},
        CloseReason.SLOW_SENDER,
    ),
    (_owing, {}, {"write_stall": 10}, CloseReason.WRITE_STALL),
    (_owing, {}, {"min_send_rate": 100}, CloseReason.SLOW_READER),
    (
        _owing, {"min_send_rate": 100, "rate_grace": 600}, {"rate_grace": 10},
        CloseReason.SLOW_READER,
    ),
    (_half_closed, {}, {"half_closed": 10}, CloseReason.HALF_CLOSED_TIMEOUT),
    (_half_closed, {"half_closed": 600}, {"half_closed": 10}, CloseReason.HALF_CLOSED_TIMEOUT),
    (_used, {"lifetime": 600}, {"lifetime": 10}, CloseReason.LIFETIME),
    (_used, {"lifetime": 61}, {"lifetime_jitter": 1, "lifetime": 60}, CloseReason.LIFETIME),
]  # fmt: skip


@pytest.mark.parametrize(
    ("occupy", "before", "changes", "reason"),
    CLOCKS,
    ids=[f"{next(iter(changes))}-{number}" for number, (_, _, changes, _) in enumerate(CLOCKS)],
)
async def test_a_clock_that_is_lowered_strikes_at_once(
    plain: Place, occupy: Occupy, before: dict[str, Any], changes: dict[str, Any],
    reason: CloseReason,
) -> None:  # fmt: skip
    clock, watch = Clock(), Watch()
    limits = Limits(**{**QUIET, **before})
    async with plain.serve(
        echo("conversation"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await plain.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await occupy(peer, connection)
            for _ in range(60):
                clock.advance(1)
            assert connection.state in (State.OPEN, State.HALF_CLOSED)
            server.change_limits(**changes)
            clock.advance(TICK)
            assert connection.state in (State.CLOSING, State.CLOSED)
            if connection.state is State.CLOSING:
                await peer.end()
            assert await watch.next_close() is reason


@pytest.mark.parametrize(
    ("occupy", "limit"),
    [
        (_used, "idle"), (_used, "receive_idle"), (_used, "send_idle"), (_used, "lifetime"),
        (_silent, "first_byte"), (_in_a_message, "message"), (_half_closed, "half_closed"),
        (_owing, "write_stall"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("new", [600, None])
async def test_a_clock_that_is_raised_does_not_strike_at_the_old_time(
    plain: Place, occupy: Occupy, limit: str, new: float | None
) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**{**QUIET, limit: 60})
    async with plain.serve(
        echo("conversation"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await plain.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await occupy(peer, connection)
            for _ in range(50):
                clock.advance(1)
            changes: dict[str, Any] = {limit: new}
            server.change_limits(**changes)
            for _ in range(540):
                clock.advance(1)
            assert watch.closed == []
            for _ in range(20):
                clock.advance(1)
            assert (connection.state in (State.OPEN, State.HALF_CLOSED)) == (new is None)


async def test_only_what_is_over_ends(place: Place) -> None:
    """A lowered limit counts from where each connection's clock is."""
    clock, watch = Clock(), Watch()
    limits = Limits(**QUIET)
    async with (
        place.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for _ in range(3):
            await _let_in(stack, place, server, watch)
            clock.advance(20)
        old, younger, youngest = watch.opened
        server.change_limits(idle=50)
        clock.advance(TICK)
        assert [each for each, _ in watch.closed] == [old]
        clock.advance(10)
        assert [each for each, _ in watch.closed] == [old, younger]
        clock.advance(20)
        assert [each for each, _ in watch.closed] == [old, younger, youngest]
        # And for those that come later.
        await _let_in(stack, place, server, watch)
        clock.advance(49)
        assert len(server) == 1
        clock.advance(1 + TICK)
        assert len(server) == 0


async def test_a_handshake_that_has_begun(tls_place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(handshake=600)
    async with tls_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await Peer.connect(server.addresses[0]) as peer:
            await watch.next_open()
            clock.advance(60)
            assert len(server) == 1
            server.change_limits(handshake=10)
            clock.advance(TICK)
            assert await watch.next_close() is CloseReason.HANDSHAKE_TIMEOUT
            assert await peer.is_reset()


async def test_the_time_to_close_is_that_of_when_closing_began(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(closing=60)
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server), await plain.peer(server):
            first, second = await watch.next_open(), await watch.next_open()
            first.close()
            server.change_limits(closing=5)
            second.close()
            await eventually(lambda: first.tcp_info().state == "fin_wait2")
            await eventually(lambda: second.tcp_info().state == "fin_wait2")
            clock.advance(5 + TICK)
            assert [each for each, _ in watch.closed] == [second]
            clock.advance(55)
            assert [each for each, _ in watch.closed] == [second, first]


# ---- Caps


async def test_raising_the_total_lets_those_who_wait_in(place: Place, kind: str) -> None:
    watch = Watch()
    async with (
        place.serve(echo(kind), limits=Limits(total=1), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, place, server, watch)
        address = server.addresses[0]
        for _ in range(3):
            await stack.enter_async_context(await Peer.connect(address))
        await eventually(lambda: server.counters.accept_pauses["full"])
        assert len(server) == 1
        server.change_limits(total=3)
        await eventually(lambda: len(server) == 3)
        server.change_limits(total=None)
        await eventually(lambda: len(server) == 4)
        assert server.counters.refused == {}


@pytest.mark.parametrize("cap", ["total", "per_client", "per_network"])
async def test_a_lowered_cap_lets_run_on_what_there_is(plain: Place, cap: str) -> None:
    watch = Watch()
    limits = Limits(**QUIET, per_network=10)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        peers = [await _let_in(stack, plain, server, watch) for _ in range(3)]
        changes: dict[str, Any] = {cap: 1}
        server.change_limits(**changes)
        for expected in (2, 1, 0):
            if cap == "total":
                await stack.enter_async_context(await plain.peer(server))
            else:
                assert await plain.is_turned_away(server)
            for peer in peers:
                await peer.send(b"x")
                assert await peer.receive(1) == b"x"
            assert len(server) == len(peers) == expected + 1
            await peers.pop().end()
            await watch.next_close()
        if cap == "total":
            # Those who waited come in, one at a time.
            await watch.next_open()
        else:
            await _let_in(stack, plain, server, watch)
        assert len(server) == 1


@pytest.mark.parametrize("cap", ["total", "per_client", "per_network"])
async def test_on_request_a_lowered_cap_evicts_the_idle_first(tcp_place: Place, cap: str) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**QUIET, per_network=10)
    async with (
        tcp_place.serve(echo("responder"), framing=Line(), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        busy = await _let_in(stack, tcp_place, server, watch)
        await busy.send(b"a message that has be")
        await eventually(lambda: watch.opened[0].bytes_received)
        peers = []
        for _ in range(3):
            clock.advance(1)
            peers.append(await _let_in(stack, tcp_place, server, watch))
        changed = server.change_limits(evict=True, **{cap: 2})
        assert changed == {cap: (getattr(limits, cap), 2)}
        # The idlest, and not the busy one, which was active before them all.
        assert watch.closed == [(each, CloseReason.EVICTED) for each in watch.opened[1:3]]
        for peer in peers[:2]:
            assert await peer.is_reset()
        await busy.send(b"gun\n")
        assert await busy.receive_line() == b"a message that has begun\n"
        assert server.admission.total == 2
        # Where none is idle, a busy one goes.
        for peer, connection in ((busy, watch.opened[0]), (peers[2], watch.opened[3])):
            clock.advance(1)
            before = connection.bytes_received
            await peer.send(b"and ano")
            await eventually(lambda: connection.bytes_received > before)  # noqa: B023
        server.change_limits(evict=True, **{cap: 1})
        assert watch.closed[2:] == [(watch.opened[0], CloseReason.EVICTED)]
        assert await busy.is_reset()


async def test_evicting_down_spares_other_clients(plain: Place) -> None:
    watch = Watch()
    async with (
        plain.serve(echo("responder"), limits=Limits(**QUIET), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for source in ("127.0.0.2", "127.0.0.3", "127.0.0.3", "127.0.0.3"):
            await _let_in(stack, plain, server, watch, source)
        server.change_limits(evict=True, per_client=2)
        assert {key: each.connections for key, each in server.admission.clients.items()} == {
            "127.0.0.2": 1,
            "127.0.0.3": 2,
        }


async def test_of_many_the_loop_gets_its_share_while_they_are_evicted(plain: Place) -> None:
    watch = Watch()
    limits = Limits(**QUIET, per_client=None)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for _ in range(200):
            await _let_in(stack, plain, server, watch)
        server.change_limits(evict=True, total=10)
        assert 10 < len(server) < 200
        await eventually(lambda: len(server) == 10)
        await asyncio.sleep(0)
        assert server.counters.closed == {CloseReason.EVICTED: 190}


async def test_what_happens_at_a_cap_may_change(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**QUIET, per_client=2)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for _ in range(2):
            await _let_in(stack, plain, server, watch)
        clock.advance(20)
        assert await plain.is_turned_away(server)
        server.change_limits(client_full="evict", evict_idle=30)
        assert await plain.is_turned_away(server)
        # Those that came before it was on may go too.
        server.change_limits(evict_idle=20)
        inside = await _let_in(stack, plain, server, watch)
        assert watch.closed == [(watch.opened[0], CloseReason.EVICTED)]
        server.change_limits(client_full="refuse")
        assert await plain.is_turned_away(server)
        server.change_limits(per_client=None, total=2)
        waiting = await _wait(stack, plain, server, inside)
        server.change_limits(total_full="evict")
        await watch.next_open()
        await waiting.send(b"my turn")
        assert await waiting.receive(7) == b"my turn"


async def test_reserved_places_may_come_and_go(plain: Place) -> None:
    watch = Watch()
    async with (
        plain.serve(echo("responder"), limits=Limits(total=2), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, plain, server, watch)
        server.change_limits(reserved=1, reserved_networks=("127.0.0.9",))
        assert await plain.is_turned_away(server)
        assert server.counters.refused == {CloseReason.TOTAL_LIMIT: 1}
        server.change_limits(reserved=0, reserved_networks=())
        await _let_in(stack, plain, server, watch)


async def test_a_network_may_become_exempt_and_be_so_no_more(plain: Place) -> None:
    """Its clients that hold connections as well."""
    watch = Watch()
    limits = Limits(**QUIET, per_client=1, per_network=1)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, plain, server, watch)
        server.change_limits(exempt_networks=("127.0.0.0/8",))
        for _ in range(2):
            await _let_in(stack, plain, server, watch)
        server.change_limits(exempt_networks=())
        assert await plain.is_turned_away(server)
        assert [each.connections for each in server.admission.clients.values()] == [3]
        for connection in server.connections:
            connection.abort()
        await _let_in(stack, plain, server, watch)
    assert server.admission.total == 0
    assert server.admission.clients == {}


async def test_the_last_words_may_change(plain: Place) -> None:
    watch = Watch()
    async with (
        plain.serve(
            echo("responder"), framing=Line(), limits=Limits(per_client=1), **watch.hooks
        ) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, plain, server, watch)
        assert await plain.is_turned_away(server)
        for words in ("sorry", "not now"):
            server.change_limits(refusal=words)
            async with await plain.peer(server) as peer:
                assert await peer.receive_all() == words.encode() + b"\n"
        server.change_limits(refusal=None)
        assert await plain.is_turned_away(server)


# ---- Prefixes


async def test_prefixes_count_anew(plain: Place) -> None:
    watch = Watch()
    limits = Limits(**QUIET, per_client=4)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        sources = ("127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.1.2")
        for source in sources:
            await _let_in(stack, plain, server, watch, source)

        def counts() -> dict[str, int]:
            return {key: each.connections for key, each in server.admission.clients.items()}

        before = counts()
        server.change_limits(client_ipv4_prefix=24, network_ipv4_prefix=24)
        assert counts() == {"127.0.0.0/24": 3, "127.0.1.0/24": 1}
        await _let_in(stack, plain, server, watch, "127.0.0.9")
        assert await plain.is_turned_away(server, source="127.0.0.10")
        server.change_limits(client_ipv4_prefix=8, network_ipv4_prefix=8, per_client=5)
        assert counts() == {"127.0.0.0/8": 5}
        assert await plain.is_turned_away(server, source="127.9.9.9")
        server.change_limits(client_ipv4_prefix=32, network_ipv4_prefix=24)
        assert counts() == {**before, "127.0.0.9": 1}
        assert server.admission.total == 5
        for connection in server.connections:
            assert connection.client is server.admission.client(connection.peer.host)
    assert server.admission.total == 0
    assert server.admission.clients == {}


async def test_prefixes_of_the_other_family(place: Place) -> None:
    """They change nothing for IPv4, and everything for IPv6."""
    if place.transport not in ("tcp4", "tcp6"):
        return
    watch = Watch()
    async with (
        place.serve(echo("responder"), limits=Limits(**QUIET), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, place, server, watch)
        server.change_limits(client_ipv6_prefix=128, network_ipv6_prefix=56)
        [key] = server.admission.clients
        assert key == ("::1" if place.transport == "tcp6" else "127.0.0.1")


async def test_a_share_of_networks_counts_those_inside_already(plain: Place) -> None:
    watch = Watch()
    async with (
        plain.serve(echo("responder"), limits=Limits(**QUIET), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for source in ("127.0.0.2", "127.0.0.3", "127.0.1.2"):
            await _let_in(stack, plain, server, watch, source)
        server.change_limits(per_network=2)
        assert await plain.is_turned_away(server, source="127.0.0.4")
        await _let_in(stack, plain, server, watch, "127.0.1.3")
        server.change_limits(network_ipv4_prefix=16, per_network=4)
        assert await plain.is_turned_away(server, source="127.0.9.9")
        assert server.counters.refused == {CloseReason.NETWORK_LIMIT: 2}
        server.change_limits(per_network=None)
        await _let_in(stack, plain, server, watch, "127.0.0.4")
        server.change_limits(per_network=5)
        for connection in list(server.connections)[:2]:
            connection.abort()
        for _ in range(2):
            await _let_in(stack, plain, server, watch, "127.0.9.9")
        assert await plain.is_turned_away(server, source="127.0.9.9")


async def test_after_new_prefixes_a_clients_own_idlest_still_makes_room(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**QUIET, per_client=2, client_full="evict")
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for source in ("127.0.0.2", "127.0.0.3"):
            await _let_in(stack, plain, server, watch, source)
        clock.advance(20)
        server.change_limits(client_ipv4_prefix=24)
        await _let_in(stack, plain, server, watch, "127.0.0.4")
        assert watch.closed == [(watch.opened[0], CloseReason.EVICTED)]


# ---- Rates, penalties, the table


async def test_rates_may_change(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    async with plain.serve(echo("responder"), **watch.hooks) as server:
        for _ in range(5):
            assert await plain.ask(server, b"x") == b"x"
        server.change_limits(per_client_rate=1, per_client_burst=1)
        assert await plain.ask(server, b"x") == b"x"
        assert await plain.is_turned_away(server)
        server.change_limits(per_client_burst=3)
        clock.advance(2)
        for _ in range(2):
            assert await plain.ask(server, b"x") == b"x"
        server.change_limits(per_client_rate=None)
        for _ in range(5):
            assert await plain.ask(server, b"x") == b"x"


async def test_without_the_rate_of_all_those_who_wait_come_in(plain: Place) -> None:
    """At once: nobody waits for the end of a pause that is no more."""
    Clock()
    watch = Watch()
    limits = Limits(total_rate=0.001, total_burst=1)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        inside = await _let_in(stack, plain, server, watch)
        waiting = await _wait(stack, plain, server, inside)
        server.change_limits(total_burst=2)
        await waiting.send(b"my turn")
        assert await waiting.receive(7) == b"my turn"
        await watch.next_open()
        waiting = await _wait(stack, plain, server, inside)
        server.change_limits(total_rate=None)
        await waiting.send(b"my turn")
        assert await waiting.receive(7) == b"my turn"
        await watch.next_open()
        server.change_limits(total_rate=0.001, total_burst=1)
        await _let_in(stack, plain, server, watch)
        await _wait(stack, plain, server, inside)


async def test_what_is_charged_may_change(plain: Place) -> None:
    Clock()
    watch = Watch()
    limits = Limits(per_client=1)
    async with plain.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await plain.peer(server):
            await watch.next_open()

            async def is_charged(seconds: float, **changes: Any) -> None:
                server.change_limits(**changes)
                assert await plain.is_turned_away(server)
                owed = sum(penalty.owed for penalty in server.admission.penalties())
                assert owed == seconds

            await is_charged(0)
            await is_charged(4, penalty_refused=4)
            await is_charged(12, penalty_refused=8)
            # From here on it is refused for what it owes, which is what the threshold says.
            await is_charged(12, penalty_threshold=10)
            assert server.counters.refused[CloseReason.PENALIZED] == 1
            await is_charged(11, penalty_most=11)
        server.unban("127.0.0.1")
        await eventually(lambda: not len(server))
        server.change_limits(penalty_malformed=3)
        async with await plain.peer(server) as peer:
            await peer.send(b"no newline")
            await peer.end()
            await eventually(lambda: server.counters.closed[CloseReason.TRUNCATED])
        [penalty] = server.admission.penalties()
        assert penalty.owed == 3


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("penalty_slow", CloseReason.FIRST_BYTE_TIMEOUT),
        ("penalty_tls", CloseReason.HANDSHAKE_TIMEOUT),
    ],
)
async def test_what_being_slow_costs_may_change(
    tls_place: Place, plain: Place, limit: str, reason: CloseReason
) -> None:
    clock, watch = Clock(), Watch()
    changes: dict[str, Any] = {limit: 7}
    place = plain if limit == "penalty_slow" else tls_place
    async with place.serve(echo("responder"), **watch.hooks) as server:
        async with await Peer.connect(server.addresses[0]):
            await watch.next_open()
            server.change_limits(**changes)
            clock.advance(60 + TICK)
            assert await watch.next_close() is reason
        [penalty] = server.admission.penalties()
        assert (penalty.owed, penalty.why) == (7, reason.value)


async def test_the_table_of_clients_may_change(plain: Place) -> None:
    watch = Watch()
    limits = Limits(table_size=1, table_full="refuse")
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, plain, server, watch, "127.0.0.2")
        assert await plain.is_turned_away(server, source="127.0.0.3")
        server.change_limits(table_full="admit")
        await _let_in(stack, plain, server, watch, "127.0.0.3")
        server.change_limits(table_full="refuse", table_size=2)
        await _let_in(stack, plain, server, watch, "127.0.0.4")
        assert await plain.is_turned_away(server, source="127.0.0.5")
        assert server.admission.total == 3
    assert server.admission.total == 0


# ---- Sizes


async def test_the_largest_message_is_that_of_when_a_connection_came(place: Place) -> None:
    watch = Watch()
    limits = Limits(max_message=100)
    async with (
        place.serve(echo("responder"), framing=Line(), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        old = await _let_in(stack, place, server, watch)
        server.change_limits(max_message=10)
        new = await _let_in(stack, place, server, watch)
        message = b"x" * 50 + b"\n"
        for peer in (old, new):
            await peer.send(message)
        assert await old.receive_line() == message
        await new.end()
        assert await watch.next_close() is CloseReason.MESSAGE_TOO_LARGE


async def test_how_much_may_be_owed_applies_to_all(plain: Place) -> None:
    watch = Watch()
    limits = Limits(**QUIET)
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await _owing(peer, connection)
            connection.send(b"x")
            server.change_limits(max_owed=1_000_000)
            with pytest.raises(ConnectionClosedError):
                connection.send(b"x")
            assert connection.close_reason is CloseReason.SLOW_READER


async def test_when_senders_wait_applies_to_all(plain: Place) -> None:
    watch = Watch()
    limits = Limits(**QUIET)
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await _owing(peer, connection)
            waiting = asyncio.ensure_future(connection.send(b"x"))
            await asyncio.sleep(0)
            assert not waiting.done()
            server.change_limits(high_water=30_000_000, low_water=15_000_000)
            await connection.send(b"x")
            # Whoever waits already goes on at the new mark.
            while not waiting.done():
                await peer.receive_some()
                await asyncio.sleep(0)
            assert connection.owed > 10_000_000


# ---- Nonsense


NONSENSE: list[dict[str, Any]] = [
    {"idel": 10},
    {"idle": -1},
    {"idle": "10"},
    {"idle": True},
    {"total": 0},
    {"closing": None},
    {"client_full": "argue"},
    {"exempt_networks": ("10.0.0.300",)},
    {"exempt_networks": ("fe80::1%lo",)},
    {"dry_run": ("max_message",)},
    {"low_water": 100_000},
    {"reserved": 1},
    {"penalty_most": 1},
    {"per_network": 10, "client_ipv4_prefix": 16},
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=str)
async def test_nonsense_changes_nothing(plain: Place, nonsense: dict[str, Any]) -> None:
    """Nor does what makes sense beside it."""
    clock, watch, told = Clock(), Watch(), list[Event]()
    limits = Limits(idle=60)
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        server.events.subscribe(told.append)
        async with await plain.peer(server) as peer:
            await watch.next_open()
            await peer.send(b"x")
            await peer.receive(1)
            clock.advance(30)
            told.clear()
            with pytest.raises(SettingError):
                server.change_limits(evict=True, first_byte=10, **{"idle": 10, **nonsense})
            assert server.limits is limits
            assert server.admission.limits is limits
            clock.advance(20)
            assert len(server) == 1
            await asyncio.sleep(0)
            assert told == []


async def test_a_name_that_is_nearly_right_is_named(plain: Place) -> None:
    async with plain.serve(echo("responder")) as server:
        with pytest.raises(SettingError) as caught:
            server.change_limits(per_clients=3)
    assert "per_clients" in str(caught.value)
    assert caught.value.fields["like"] == "per_client"


async def test_what_has_changed_is_told(plain: Place) -> None:
    told: list[Event] = []
    async with plain.serve(echo("responder"), limits=Limits(idle=60)) as server:
        server.events.subscribe(told.append)
        assert server.change_limits(idle=60, total=10_000) == {}
        assert server.change_limits() == {}
        assert server.change_limits(idle=10, lifetime=3600.0, total=10_000) == {
            "idle": (60, 10),
            "lifetime": (None, 3600.0),
        }
        assert (server.limits.idle, server.limits.lifetime) == (10, 3600.0)
        assert server.admission.limits is server.limits
        await eventually(lambda: told)
    [event] = told
    assert isinstance(event, LimitsChanged)
    assert event.changes == ("idle: 60 -> 10", "lifetime: None -> 3600.0")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_limits_of_a_server_that_does_not_run_may_change_too(plain: Place, when: str) -> None:
    server = plain.serve(echo("responder"))
    if when == "before":
        server.change_limits(per_client=1, client_full="evict")
    async with server:
        assert await plain.ask(server, b"x") == b"x"
    if when == "after":
        server.change_limits(per_client=1, evict=True)
    assert server.limits.per_client == server.admission.limits.per_client == 1


def test_every_limit_is_changed_by_a_test_of_this_file() -> None:
    text = Path(__file__).read_text("utf-8")
    trials = Path(__file__).with_name("test_trials.py").read_text("utf-8")
    changed = [
        name
        for name in RULES
        if f"{name}=" in text or f'"{name}"' in text or f"change_limits({name}" in trials
    ]
    assert changed == list(RULES)
