"""How sessions find their upstream, and what becomes of those that do not."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import tieline
from guard.relayed import RESET, accept, dial, listen, read_to_end, reset, session
from support.clock import TICK, Clock
from support.hooks import echo
from tieline import Limits
from tieline.guard import Guard, GuardSettings, UpstreamState
from tieline.reasons import CloseReason


async def until(true: Callable[[], Any]) -> None:
    """Wait for what has no event."""
    while not true():
        await asyncio.sleep(0.005)


class Ends:
    """What happened at a guard."""

    def __init__(self) -> None:
        self.closed: list[CloseReason] = []
        self.refused: list[CloseReason] = []


@asynccontextmanager
async def guarding(*upstreams: Any, **arguments: Any) -> AsyncIterator[tuple[Guard, Ends]]:
    """A guard before bare listening sockets."""
    ends = Ends()
    texts = [
        each if isinstance(each, str) else f"127.0.0.1:{each.getsockname()[1]}"
        for each in upstreams
    ]
    guard = tieline.guard.serve(
        "127.0.0.1:0",
        upstreams=texts,
        on_close=lambda leg, reason: ends.closed.append(reason),
        on_refuse=lambda peer, reason: ends.refused.append(reason),
        **arguments,
    )
    async with guard:
        yield guard, ends
    assert not guard.pipes.count
    assert all(not each.sessions for each in guard.pool.upstreams)


async def turned_away(guard: Guard) -> bytes:
    """Connect, see that it is reset, and say what came before that."""
    try:
        client = await dial(guard.addresses[0])
    except ConnectionResetError:
        return b""  # before it could be told that it was connected
    with client:
        got, end = await read_to_end(client)
        assert end == RESET
        return got


def closed_port() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        return f"127.0.0.1:{once.getsockname()[1]}"


NO_CHECKS = GuardSettings(check_interval=None)


async def test_a_dead_upstream_and_another() -> None:
    with listen() as alive:
        async with guarding(closed_port(), alive, settings=NO_CHECKS) as (guard, ends):
            for _ in range(4):
                with await dial(guard.addresses[0]) as client:
                    with await accept(alive):
                        pass
                    assert await read_to_end(client) == (b"", "end")
            await until(lambda: not len(guard))
            dead, other = guard.pool.upstreams
            assert dead.failed >= 1
            assert other.connected == 4
            assert "nothing listens" in dead.last_error
            assert set(ends.closed) == {CloseReason.UPSTREAM_CLOSED}


async def test_no_upstream_at_all_is_a_reset_and_a_reason() -> None:
    settings = NO_CHECKS.replace(tries=1)
    async with guarding(closed_port(), settings=settings) as (guard, ends):
        assert await turned_away(guard) == b""
        assert ends.closed == [CloseReason.NO_UPSTREAM]


async def test_no_upstream_and_a_last_word() -> None:
    settings = NO_CHECKS.replace(tries=1)
    limits = Limits(refusal="sorry: {reason}\r\n")
    async with guarding(closed_port(), settings=settings, limits=limits) as (guard, _):
        with await dial(guard.addresses[0]) as client:
            assert await read_to_end(client) == (b"sorry: no_upstream\r\n", "end")


async def test_one_that_is_starting_again_has_a_moment() -> None:
    clock = Clock()
    text = closed_port()
    async with guarding(text, settings=NO_CHECKS) as (guard, ends):
        with await dial(guard.addresses[0]) as client:
            await until(lambda: guard.pool.upstreams[0].failed)
            with listen(port=int(text.partition(":")[2])) as back:
                clock.advance(1.0)
                with await accept(back) as server:
                    server.send(b"here")
                    server.shutdown(socket.SHUT_WR)
                    assert await read_to_end(client) == (b"here", "end")
        await until(lambda: ends.closed)


async def test_a_silent_upstream_times_out_and_another_is_tried() -> None:
    """Its backlog is full: the kernel answers nothing."""
    clock = Clock()
    silent = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = []
    with silent, listen() as alive:
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
            fillers.append(filler)
        async with guarding(silent, alive, settings=NO_CHECKS) as (guard, _):
            # One goes to each in turn; both arrive at the one that answers.
            first = await dial(guard.addresses[0])
            second = await dial(guard.addresses[0])
            await until(lambda: len(guard) == 2)
            clock.advance(5.0 + TICK)
            for _ in range(2):
                with await accept(alive):
                    pass
            for client in (first, second):
                assert (await read_to_end(client))[1] == "end"
                client.close()
            assert "within 5.0 s" in guard.pool.upstreams[0].last_error or (
                "did not answer" in guard.pool.upstreams[0].last_error
            )
        for filler in fillers:
            filler.close()


async def test_a_full_upstream_queues_and_the_queue_is_bounded() -> None:
    with listen() as server:
        port = server.getsockname()[1]
        settings = NO_CHECKS.replace(queue=1)
        async with guarding(f"127.0.0.1:{port},max=1", settings=settings) as (guard, ends):
            first = await dial(guard.addresses[0])
            served = await accept(server)
            second = await dial(guard.addresses[0])
            await until(lambda: guard.pool.waiting == 1)
            assert await turned_away(guard) == b""
            assert ends.closed == [CloseReason.QUEUE_FULL]
            second.send(b"early")
            first.close()
            served.close()
            with await accept(server) as next_served:
                next_served.setblocking(False)
                assert await asyncio.get_running_loop().sock_recv(next_served, 100) == b"early"
            assert (await read_to_end(second))[1] == "end"
            second.close()
            await until(lambda: not len(guard))


async def test_waiting_for_a_place_has_an_end() -> None:
    clock = Clock()
    with listen() as server:
        port = server.getsockname()[1]
        async with guarding(f"127.0.0.1:{port},max=1", settings=NO_CHECKS) as (guard, ends):
            with await dial(guard.addresses[0]), await accept(server):
                with await dial(guard.addresses[0]) as second:
                    await until(lambda: guard.pool.waiting == 1)
                    clock.advance(9.5)
                    assert not ends.closed
                    clock.advance(1.0)
                    assert await read_to_end(second) == (b"", RESET)
                assert ends.closed == [CloseReason.QUEUE_TIMEOUT]
                assert guard.pool.waiting == 0


async def test_a_client_that_leaves_while_it_waits_frees_its_place() -> None:
    with listen() as server:
        port = server.getsockname()[1]
        async with guarding(f"127.0.0.1:{port},max=1", settings=NO_CHECKS) as (guard, ends):
            with await dial(guard.addresses[0]), await accept(server):
                second = await dial(guard.addresses[0])
                await until(lambda: guard.pool.waiting == 1)
                reset(second)
                await until(lambda: ends.closed)
                assert ends.closed == [CloseReason.PEER_RESET]
                assert guard.pool.waiting == 0


async def test_its_own_upstream_is_a_loop_and_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    guard = tieline.guard.serve(f"127.0.0.1:{port}", upstreams=[f"127.0.0.1:{port}"])
    async with guard:
        assert await turned_away(guard) == b""
        (own,) = guard.pool.upstreams
        assert own.state is UpstreamState.DOWN
        assert "itself" in own.last_error
        assert guard.counters.closed[CloseReason.NO_UPSTREAM] == 1
        assert guard.counters.accepted == 1


# ---- Clocks


async def test_an_idle_session_ends_in_order_on_both_sides() -> None:
    clock = Clock()
    async with session(limits=Limits(idle=60)) as it:
        await it.exchange()
        clock.advance(40)
        await it.exchange()
        clock.advance(40)
        assert len(it.guard) == 1
        # An acknowledgement may take its time.
        await until(lambda: not it.leg.is_owed_by_kernel())
        clock.advance(30)
        assert await read_to_end(it.client) == (b"", "end")
        assert await read_to_end(it.server) == (b"", "end")
        it.server.close()
        assert await it.over() is CloseReason.IDLE_TIMEOUT


async def test_a_byte_of_either_side_keeps_a_session() -> None:
    clock = Clock()
    async with session(limits=Limits(idle=60, first_byte=None)) as it:
        for _ in range(4):
            clock.advance(45)
            it.server.send(b"x")
            await it_receives(it.client)
        assert len(it.guard) == 1


async def it_receives(end: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(end, 65_536)


async def test_a_half_closed_session_has_a_clock_of_its_own() -> None:
    clock = Clock()
    async with session(limits=Limits(half_closed=20)) as it:
        await it.exchange()
        it.client.shutdown(socket.SHUT_WR)
        assert await read_to_end(it.server) == (b"", "end")
        clock.advance(25)
        clock.advance(2)
        assert (await read_to_end(it.client))[0] == b""
        it.server.close()
        assert await it.over() is CloseReason.HALF_CLOSED_TIMEOUT


async def test_an_upstream_that_takes_nothing_is_a_reason_of_its_own() -> None:
    clock = Clock()
    async with session(limits=Limits(write_stall=10)) as it:
        loop = asyncio.get_running_loop()
        sending = asyncio.ensure_future(loop.sock_sendall(it.client, b"x" * 30_000_000))
        leg = it.leg
        await until(lambda: leg.upstream_leg and leg.upstream_leg.owed)
        for _ in range(14):
            clock.advance(1)
        await asyncio.gather(sending, return_exceptions=True)
        assert await it.over() is CloseReason.UPSTREAM_STALLED
        assert (await read_to_end(it.server))[1] == RESET


async def test_a_client_that_takes_nothing() -> None:
    clock = Clock()
    async with session(limits=Limits(write_stall=10)) as it:
        loop = asyncio.get_running_loop()
        sending = asyncio.ensure_future(loop.sock_sendall(it.server, b"x" * 30_000_000))
        leg = it.leg
        await until(lambda: leg.owed)
        for _ in range(14):
            clock.advance(1)
        await asyncio.gather(sending, return_exceptions=True)
        assert await it.over() is CloseReason.WRITE_STALL
        assert (await read_to_end(it.client))[1] == RESET


# ---- Drain


async def test_a_drain_waits_for_the_answer() -> None:
    async with session() as it:
        await it.exchange()
        it.client.send(b"a question")
        assert await it_receives(it.server) == b"a question"
        draining = asyncio.ensure_future(it.guard.drain(10.0))
        await asyncio.sleep(0.6)
        assert not draining.done()
        assert it.leg.is_finishing
        it.server.send(b"its answer")
        assert await it_receives(it.client) == b"its answer"
        assert await read_to_end(it.client) == (b"", "end")
        it.client.close()
        assert await read_to_end(it.server) == (b"", "end")
        it.server.close()
        assert await draining
        assert it.closed == [CloseReason.SHUTDOWN]


async def test_a_drain_that_is_over_resets_what_is_left() -> None:
    async with session() as it:
        it.client.send(b"a question")
        assert await it_receives(it.server) == b"a question"
        assert not await it.guard.drain(0.2)
        assert (await read_to_end(it.client))[1] == RESET
        assert (await read_to_end(it.server))[1] == RESET
        assert it.closed == [CloseReason.DRAIN_TIMEOUT]


# ---- Looking


async def test_a_look_shows_both_ways_and_leaves_no_trace() -> None:
    async with session() as it:
        await it.exchange()
        seen: list[tuple[str, bytes]] = []

        def show(direction: str, data: bytes) -> None:
            seen.append((direction, data))

        it.leg.look(show)
        await it.exchange(b"shown", b"as well")
        it.leg.look_away(show)
        await it.exchange(b"not", b"these")
        assert seen == [("in", b"shown"), ("out", b"as well")]


async def test_a_session_that_is_kicked_is_reset_on_both_sides() -> None:
    async with session() as it:
        await it.exchange()
        assert it.guard.kick(it.leg.id) == 1
        assert (await read_to_end(it.client))[1] == RESET
        assert (await read_to_end(it.server))[1] == RESET
        assert await it.over() is CloseReason.KICKED


async def test_a_session_leaves_nothing_for_the_collector() -> None:
    """No cycles: thousands of short sessions a second would have it run all the time."""
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as service:
        upstreams = [closed_port(), str(service.addresses[0])]
        async with guarding(*upstreams, settings=NO_CHECKS) as (guard, _):

            async def talk() -> None:
                for _ in range(10):
                    assert await tieline.ask(guard.addresses[0], b"hello") == b"hello"

            await talk()
            gc.collect()
            gc.disable()
            try:
                await talk()
                found = gc.collect()
            finally:
                gc.enable()
            assert found == 0
