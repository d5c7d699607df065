"""The twelve points of the connection policy, one by one, through real sockets.

Each is held here in the shape in which it is promised. The details of each are in the file that
its section names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from support.clock import TICK, Clock
from support.hooks import Watch, echo, eventually
from support.kernel import come_to_rest, kernel_state
from support.peers import Peer
from support.transports import Place
from tieline import CloseReason, Connection, Limits, Line, Server, State
from tieline.events import ConnectionClosed, ConnectionRefused, Event


async def _let_in(
    stack: AsyncExitStack, place: Place, server: Server, watch: Watch, **options: Any
) -> Peer:
    peer = await stack.enter_async_context(await place.peer(server, **options))
    connection = await watch.next_open()
    await connection.wait_secured()
    return peer


# ---- 1. A client is a network prefix (test_caps, tests/admission)


async def test_01_a_client_is_a_network_prefix(place: Place) -> None:
    watch = Watch()
    async with (
        place.serve(echo("responder"), limits=Limits(per_client=1), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, place, server, watch)
        [(key, client)] = server.admission.clients.items()
        expected = {"tcp4": "127.0.0.1", "tls": "127.0.0.1", "tcp6": "::/64"}
        assert key == expected.get(place.transport, f"uid:{watch.opened[0].peer_user}")
        assert (client.key, client.connections) == (key, 1)
        assert await place.is_turned_away(server)


async def test_01_an_ipv4_address_in_disguise_is_an_ipv4_address(plain: Place) -> None:
    async with plain.serve(echo("responder")) as server:
        for host in ("::ffff:10.0.0.7", "::ffff:a00:7"):
            assert server.admission.key_of(host) == "10.0.0.7"


async def test_01_a_wider_tier_counts_its_clients_together(plain: Place) -> None:
    watch = Watch()
    limits = Limits(per_client=2, per_network=3, network_ipv4_prefix=24)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for source in ("127.0.0.2", "127.0.0.2", "127.0.0.3"):
            await _let_in(stack, plain, server, watch, source=source)
        assert await plain.is_turned_away(server, source="127.0.0.4")
        assert server.counters.refused == {CloseReason.NETWORK_LIMIT: 1}
        await _let_in(stack, plain, server, watch, source="127.0.1.4")


async def test_01_a_key_that_cannot_be_made_never_means_unlimited(plain: Place) -> None:
    async with plain.serve(echo("responder"), limits=Limits(per_client=1)) as server:
        admission = server.admission
        assert admission.key_of("not an address") == admission.key_of("10.0.0.300")
        first = admission.admit("not an address")
        assert not isinstance(first, CloseReason)
        assert admission.admit("10.0.0.300") is CloseReason.CLIENT_LIMIT
        admission.release(first)


# ---- 2. Idle means that no byte made progress (test_clocks, test_idle_clocks)


async def test_02_idle_means_no_byte_made_progress(tcp_place: Place) -> None:
    """What is queued for a peer that takes nothing is no progress; what comes is."""
    clock, watch = Clock(), Watch()
    limits = Limits(idle=60, first_byte=None, write_stall=None, min_send_rate=None,
                    min_receive_rate=None, message=None, max_owed=1 << 26)  # fmt: skip
    async with tcp_place.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            connection.send(b"x" * 20_000_000)
            await come_to_rest(connection)
            for times in range(1, 4):
                for _ in range(59):
                    clock.advance(1)
                await peer.send(b"x")
                await eventually(lambda: connection.bytes_received == times)  # noqa: B023
            for _ in range(59):
                clock.advance(1)
                connection.send(b"queued")
            assert len(server) == 1
            clock.advance(2 + TICK)
            assert await watch.next_close() is CloseReason.IDLE_TIMEOUT
            assert kernel_state(server, peer) == ""


# ---- 3. Clocks armed at accept (test_clocks, test_idle_clocks, test_lifetime)


async def test_03_the_first_byte_is_absolute(place: Place, kind: str) -> None:
    """Whatever the server says meanwhile, a peer that says nothing is gone in time."""
    clock, watch = Clock(), Watch()
    limits = Limits(first_byte=20, idle=300)
    async with place.serve(echo(kind), limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            for _ in range(4):
                await connection.send(b"?")
                assert await peer.receive(1) == b"?"
                clock.advance(4.9)
            assert len(server) == 1
            clock.advance(0.4 + TICK)
            assert await watch.next_close() is CloseReason.FIRST_BYTE_TIMEOUT


async def test_03_a_drip_does_not_extend_a_message(place: Place, kind: str) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(message=30, min_receive_rate=None)
    async with place.serve(echo(kind), framing=Line(), limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            for times in range(1, 4):
                await peer.send(b"x")
                await eventually(lambda: connection.bytes_received == times)  # noqa: B023
                clock.advance(10 - TICK)
            assert len(server) == 1
            clock.advance(4 * TICK)
            assert await watch.next_close() is CloseReason.MESSAGE_TIMEOUT


async def test_03_every_clock_is_told(plain: Place) -> None:
    """A connection knows which of its clocks run, and how long each has."""
    clock, watch = Clock(), Watch()
    limits = Limits(idle=300, first_byte=60, message=30, lifetime=3600, lifetime_jitter=0)
    async with plain.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            clock.advance(10)
            assert connection.clocks() == [
                (50, CloseReason.FIRST_BYTE_TIMEOUT),
                (290, CloseReason.IDLE_TIMEOUT),
                (3590, CloseReason.LIFETIME),
            ]
            await peer.send(b"x")
            await eventually(lambda: connection.bytes_received)
            assert [reason for _, reason in connection.clocks()] == [
                CloseReason.SLOW_SENDER,
                CloseReason.MESSAGE_TIMEOUT,
                CloseReason.IDLE_TIMEOUT,
                CloseReason.LIFETIME,
            ]
            connection.close()
            assert connection.clocks() == [(5, CloseReason.CLOSE_TIMEOUT)]
        await watch.next_close()
        assert connection.clocks() == []


# ---- 4. Slow peers by credit (test_slow_peers)


async def test_04_one_byte_a_second_does_not_hold_a_slot(place: Place, kind: str) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(min_receive_rate=100, rate_grace=20, message=None, idle=None)
    async with place.serve(echo(kind), framing=Line(), limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            seconds = 0
            while not watch.closed:
                seconds += 1
                await peer.send(b"x")
                await eventually(
                    lambda: connection.bytes_received >= seconds or watch.closed  # noqa: B023
                )
                clock.advance(1)
            assert watch.closed[0][1] is CloseReason.SLOW_SENDER
            assert 20 <= seconds <= 22


async def test_04_a_client_that_never_reads_is_gone_from_the_kernel_too(
    tcp_place: Place,
) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(max_owed=1 << 26, first_byte=None)
    async with tcp_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            connection.send(b"x" * 20_000_000)
            await come_to_rest(connection)
            for _ in range(19):
                clock.advance(1)
            assert kernel_state(server, peer) == "established"
            clock.advance(1)
            clock.advance(1 + TICK)
            assert watch.closed[0][1] is CloseReason.SLOW_READER
            assert kernel_state(server, peer) == ""
            assert await peer.is_reset()


# ---- 5. Closing is bounded (test_endings, test_clocks, test_slow_peers)


async def test_05_an_end_in_good_order_has_a_deadline(tcp_place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(closing=5, max_owed=1 << 26)
    async with tcp_place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            connection = await watch.next_open()
            await connection.wait_secured()
            connection.send(b"x" * 20_000_000)
            connection.close()
            assert connection.state is State.CLOSING
            clock.advance(4)
            assert len(server) == 1
            clock.advance(1 + TICK)
            assert await watch.next_close() is CloseReason.CLOSE_TIMEOUT
            assert kernel_state(server, peer) == ""
            assert await peer.is_reset()


ENDS: list[tuple[CloseReason, Callable[[Server, Connection], object]]] = [
    (CloseReason.KICKED, lambda server, connection: server.kick(connection)),
    (CloseReason.BANNED, lambda server, connection: server.ban("127.0.0.0/8")),
    (
        CloseReason.EVICTED,
        lambda server, connection: server.change_limits(evict=True, per_client=1, per_network=None),
    ),
    (CloseReason.ABORTED, lambda server, connection: connection.abort()),
]


@pytest.mark.parametrize(("reason", "end"), ENDS)
async def test_05_what_is_decided_is_done_at_once(
    tcp_place: Place, reason: CloseReason, end: Callable[[Server, Connection], object]
) -> None:
    """A reset, whatever is under way or owed; nothing of it is left in the kernel."""
    watch = Watch()
    limits = Limits(max_owed=1 << 26)
    async with (
        tcp_place.serve(echo("responder"), framing=Line(), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        peers = [await _let_in(stack, tcp_place, server, watch) for _ in range(2)]
        for peer, connection in zip(peers, watch.opened, strict=True):
            connection.send(b"x" * 20_000_000)
            await peer.send(b"a message that has be")
            await eventually(lambda: connection.bytes_received)  # noqa: B023
        end(server, watch.opened[0])
        assert watch.closed[0] == (watch.opened[0], reason)
        assert kernel_state(server, peers[0]) == ""
        assert await peers[0].is_reset()


# ---- 6. Different caps, different answers (test_caps, test_admission)


async def test_06_at_the_total_newcomers_wait_at_a_clients_cap_they_are_told(
    place: Place,
) -> None:
    watch = Watch()
    limits = Limits(total=2, per_client=2)
    async with (
        place.serve(echo("responder"), framing=Line(), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        first = await _let_in(stack, place, server, watch)
        second = await _let_in(stack, place, server, watch)
        waiting = asyncio.create_task(place.ask(server, b"my turn", framing=Line()))
        for _ in range(20):
            await second.send(b"x\n")
            assert await second.receive_line() == b"x\n"
        assert not waiting.done()
        await first.end()
        assert await waiting == b"my turn"
        await watch.next_open()
        await eventually(lambda: len(server) == 1)
        assert server.counters.refused == {}
        server.change_limits(total=None)
        await _let_in(stack, place, server, watch)
        assert await place.is_turned_away(server)
        assert server.counters.refused == {CloseReason.CLIENT_LIMIT: 1}


async def test_06_one_client_cannot_fill_the_backlog(plain: Place) -> None:
    """It is refused as soon as it comes, whoever else is behind it."""
    watch = Watch()
    async with (
        plain.serve(echo("responder"), limits=Limits(per_client=1), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, plain, server, watch, source="127.0.0.2")
        turned_away = await asyncio.gather(
            *(plain.is_turned_away(server, source="127.0.0.2") for _ in range(50))
        )
        assert all(turned_away)
        await _let_in(stack, plain, server, watch, source="127.0.0.3")


# ---- 7. Refuse, or evict (test_eviction)


@pytest.mark.parametrize("answer", ["refuse", "evict"])
async def test_07_refuse_or_evict(place: Place, answer: str) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(per_client=2, idle=None, first_byte=None)
    if answer == "evict":  # it must be asked for
        limits = limits.replace(client_full=answer)
    async with (
        place.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for _ in range(2):
            await _let_in(stack, place, server, watch)
            clock.advance(20)
        for connection in watch.opened:
            await eventually(lambda: not connection.is_owed_by_kernel())  # noqa: B023
        if answer == "evict":
            await _let_in(stack, place, server, watch)
            assert watch.closed == [(watch.opened[0], CloseReason.EVICTED)]
        else:
            assert await place.is_turned_away(server)
            assert watch.closed == []
        assert len(server) == 2


# ---- 8. Rates (test_admission)


async def test_08_over_the_rate_of_all_accepting_pauses_and_the_service_goes_on(
    place: Place,
) -> None:
    limits = Limits(total_rate=1_000, total_burst=2, per_client=None)
    async with place.serve(echo("responder"), limits=limits) as server:
        answers = await asyncio.gather(*(place.ask(server, b"%d" % n) for n in range(20)))
        assert answers == [b"%d" % n for n in range(20)]
        assert server.counters.refused == {}
        assert server.counters.accept_pauses["rate"]


async def test_08_over_its_own_rate_a_client_is_refused(place: Place) -> None:
    clock = Clock()
    limits = Limits(per_client_rate=1, per_client_burst=2)
    async with place.serve(echo("responder"), limits=limits) as server:
        for _ in range(2):
            assert await place.ask(server, b"x") == b"x"
        assert await place.is_turned_away(server)
        assert server.counters.refused == {CloseReason.CLIENT_RATE: 1}
        clock.advance(1)
        assert await place.ask(server, b"x") == b"x"


# ---- 9. Penalties (test_admission)


async def test_09_an_account_leaks_and_refuses_until_nothing_is_owed(place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(penalty_threshold=15, penalty_most=20)
    async with place.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            connection.penalize(15, "at the threshold")
            assert await place.ask(server, b"x", framing=Line()) == b"x"
            connection.penalize(1_000, "a wrong password")
            [penalty] = server.admission.penalties()
            assert (penalty.owed, penalty.refused) == (20, True)
            clock.advance(19)
            # Below the threshold for long, and refused still.
            assert await place.is_turned_away(server)
            server.change_limits(idle=1_000)
            assert await place.is_turned_away(server)
            clock.advance(1)
            assert await place.ask(server, b"x", framing=Line()) == b"x"
            assert server.counters.refused == {CloseReason.PENALIZED: 2}
            await peer.send(b"never refused itself\n")
            assert await peer.receive_line() == b"never refused itself\n"


# ---- 10. Bounded state, with a stated failure mode (test_admission, tests/admission)


async def test_10_the_table_has_a_size_and_live_counts_stay(plain: Place) -> None:
    watch = Watch()
    limits = Limits(table_size=3, per_client=1, penalty_refused=1)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for number in range(2, 5):
            await _let_in(stack, plain, server, watch, source=f"127.0.0.{number}")
        # Everybody else shares the limits of one client.
        shared = await _let_in(stack, plain, server, watch, source="127.0.0.5")
        for number in range(2, 40):
            assert await plain.is_turned_away(server, source=f"127.0.0.{number}")
        assert server.admission.known <= 4
        assert server.admission.total == 4
        assert server.counters.table_overflows
        # Whoever leaves makes room for another.
        await shared.end()
        await watch.next_close()
    assert server.admission.total == 0
    assert server.admission.clients == {}


# ---- 11. Limits change live (test_live_limits)


@pytest.mark.parametrize("evict", [False, True])
async def test_11_a_lowered_limit_lets_run_on_or_evicts(plain: Place, evict: bool) -> None:
    watch = Watch()
    async with (
        plain.serve(echo("responder"), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for _ in range(3):
            await _let_in(stack, plain, server, watch)
        assert server.change_limits(per_client=1, evict=evict) == {"per_client": (100, 1)}
        assert len(server) == (1 if evict else 3)
        assert await plain.is_turned_away(server)


# ---- 12. One close reason, the same word everywhere (test_events_of_a_server)


async def test_12_one_reason_the_same_word_everywhere(place: Place, kind: str) -> None:
    watch, told, refused = Watch(), list[Event](), list[CloseReason]()
    server = place.serve(
        echo(kind), limits=Limits(per_client=1), **watch.hooks,
        on_refuse=lambda peer, reason: refused.append(reason),
    )  # fmt: skip
    server.events.subscribe(told.append)
    async with server, AsyncExitStack() as stack:
        await _let_in(stack, place, server, watch)
        [connection] = watch.opened
        assert await place.is_turned_away(server)
        server.kick(connection)
        connection.abort()
        connection.close()
        await eventually(lambda: isinstance(told[-1], ConnectionClosed))
        closed, out = CloseReason.KICKED, CloseReason.CLIENT_LIMIT
        assert connection.close_reason is closed
        assert watch.closed == [(connection, closed)]
        assert server.counters.closed == {closed: 1}
        assert [event.reason for event in told if isinstance(event, ConnectionClosed)] == [closed]
        assert f" {closed.value} " in repr(connection)
        assert refused == [out]
        assert server.counters.refused == {out: 1}
        assert [event.reason for event in told if isinstance(event, ConnectionRefused)] == [out]


async def test_12_a_trial_counts_what_would_have_been_refused(plain: Place) -> None:
    limits = Limits(per_client=1, dry_run=("per_client",))
    watch = Watch()
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for _ in range(3):
            await _let_in(stack, plain, server, watch)
        assert server.counters.spared == {"per_client": 2}
        assert server.counters.refused == {}


# ---- What a decision costs


async def test_a_refused_client_never_becomes_a_connection(place: Place) -> None:
    watch = Watch()
    async with (
        place.serve(echo("responder"), limits=Limits(per_client=1), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        first = await _let_in(stack, place, server, watch)
        for _ in range(20):
            assert await place.is_turned_away(server)
        await first.end()
        await watch.next_close()
        await _let_in(stack, place, server, watch)
        before, after = watch.opened
        # They are numbered as they are made.
        assert after.id == before.id + 1
