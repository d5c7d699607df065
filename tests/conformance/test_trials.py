"""Limits on trial: what they would have refused or closed is counted, and nothing else happens."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from support.clock import TICK, Clock
from support.hooks import Watch, echo, eventually
from support.kernel import come_to_rest
from support.transports import Place
from tieline import CloseReason, Connection, Limits, Line, Server, State
from tieline.events import Event, LimitSpared

#: No clock at all.
QUIET: dict[str, Any] = {
    "idle": None, "first_byte": None, "message": None, "write_stall": None, "half_closed": None,
    "min_receive_rate": None, "min_send_rate": None, "lifetime_jitter": 0,
}  # fmt: skip


async def _listen(connection: Connection) -> None:
    await connection.wait_closed()


def _spared(server: Server) -> list[LimitSpared]:
    """Its events about limits on trial, as they come."""
    found: list[LimitSpared] = []

    def remember(event: Event) -> None:
        if isinstance(event, LimitSpared):
            found.append(event)

    server.events.subscribe(remember)
    return found


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("idle", 20), ("receive_idle", 20), ("send_idle", 20), ("first_byte", 20),
        ("message", 20), ("half_closed", 20), ("lifetime", 20), ("min_receive_rate", 100),
    ],
)  # fmt: skip
async def test_a_clock_on_trial_is_counted_once_a_connection(
    plain: Place, limit: str, value: float
) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**{**QUIET, limit: value}, rate_grace=20, dry_run=(limit,))
    async with plain.serve(_listen, framing=Line(), limits=limits, **watch.hooks) as server:
        spared = _spared(server)
        async with await plain.peer(server) as first, await plain.peer(server) as second:
            for peer in (first, second):
                connection = await watch.next_open()
                if limit != "first_byte":
                    await peer.send(b"half a message")
                    await eventually(lambda: connection.bytes_received)  # noqa: B023
                if limit == "half_closed":
                    connection.half_close()
            clock.advance(19)
            assert not server.counters.spared
            clock.advance(1 + TICK)
            assert server.counters.spared == {limit: 2}
            for _ in range(5):
                clock.advance(60)
            assert server.counters.spared == {limit: 2}
            assert not any(connection.is_finishing for connection in server.connections)
            assert len(server) == 2
            await eventually(lambda: len(spared) == 2)
            assert {event.id for event in spared} == {each.id for each in server.connections}
            assert {(event.limit, event.client) for event in spared} == {(limit, "127.0.0.1")}
            # And it is a trial of this limit, not of the connection.
            await first.send(b" and the rest\n")


@pytest.mark.parametrize(("limit", "value"), [("write_stall", 20), ("min_send_rate", 100)])
async def test_a_clock_of_what_is_owed_on_trial(plain: Place, limit: str, value: float) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**{**QUIET, limit: value}, rate_grace=20, dry_run=(limit,), max_owed=1 << 26)
    async with plain.serve(_listen, limits=limits, **watch.hooks) as server:
        async with await plain.peer(server, receive_buffer=4096):
            connection = await watch.next_open()
            connection.send(b"x" * 20_000_000)
            await come_to_rest(connection)
            for _ in range(100):
                clock.advance(1)
            assert server.counters.spared == {limit: 1}
            assert connection.state is State.OPEN


async def test_the_other_clocks_are_in_earnest(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(idle=60, first_byte=20, dry_run=("first_byte",))
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            await watch.next_open()
            clock.advance(60 + TICK)
            assert await watch.next_close() is CloseReason.IDLE_TIMEOUT
            assert await peer.receive_all() == b""
    assert server.counters.spared == {"first_byte": 1}
    assert server.counters.closed == {CloseReason.IDLE_TIMEOUT: 1}


@pytest.mark.parametrize("limit", ["idle", "lifetime"])
async def test_after_a_trial_it_is_in_earnest(plain: Place, limit: str) -> None:
    """For those that were spared as well."""
    clock, watch = Clock(), Watch()
    limits = Limits(**{**QUIET, limit: 20}, dry_run=(limit,))
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            clock.advance(60)
            assert server.counters.spared == {limit: 1}
            server.change_limits(dry_run=())
            clock.advance(TICK)
            assert connection.state is not State.OPEN
            assert await peer.receive_all() == b""
            await peer.end()
            reason = await watch.next_close()
    assert reason in (CloseReason.IDLE_TIMEOUT, CloseReason.LIFETIME)


async def test_a_limit_may_go_on_trial_while_it_runs(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**{**QUIET, "idle": 20})
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server):
            await watch.next_open()
            clock.advance(10)
            server.change_limits(dry_run=("idle",))
            clock.advance(100)
            assert server.counters.spared == {"idle": 1}
            assert len(server) == 1


# ---- At the door


@pytest.mark.parametrize(
    ("limit", "changes"),
    [
        ("per_client", {"per_client": 1}),
        ("per_network", {"per_network": 1}),
        ("per_client_rate", {"per_client_rate": 0.001, "per_client_burst": 1}),
    ],
)
async def test_a_cap_on_trial_lets_everybody_in(
    plain: Place, limit: str, changes: dict[str, Any]
) -> None:
    Clock()
    watch = Watch()
    limits = Limits(**changes, dry_run=(limit,), penalty_refused=10)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        spared = _spared(server)
        for _ in range(3):
            peer = await stack.enter_async_context(await plain.peer(server))
            await watch.next_open()
            await peer.send(b"hello")
            assert await peer.receive(5) == b"hello"
        assert server.counters.spared == {limit: 2}
        assert server.counters.refused == {}
        # Nobody pays for it either.
        assert list(server.admission.penalties()) == []
        await eventually(lambda: len(spared) == 2)
        assert spared[0].as_dict()["limit"] == limit
        assert (spared[0].client, spared[0].id) == ("127.0.0.1", 0)


async def test_penalties_on_trial_refuse_nobody(plain: Place) -> None:
    Clock()
    watch = Watch()
    limits = Limits(penalty_threshold=10, dry_run=("penalty_threshold",))
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await plain.peer(server):
            (await watch.next_open()).penalize(60, "a wrong password")
            async with await plain.peer(server) as peer:
                await peer.send(b"hello")
                assert await peer.receive(5) == b"hello"
        assert server.counters.spared == {"penalty_threshold": 1}
        [penalty] = server.admission.penalties()
        assert (penalty.refused, penalty.refusals) == (True, 0)
