"""Making room at a cap: who goes, who never does, and how many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from support.clock import Clock
from support.hooks import Watch, echo, eventually
from support.kernel import kernel_state
from support.peers import Peer
from support.transports import Place
from tieline import CloseReason, Connection, Limits, Line, Server

#: Clocks do not come in between, and nobody is young after half a minute.
BASE: dict[str, Any] = {"idle": None, "first_byte": None, "evict_idle": 10}


@pytest.fixture(autouse=True)
def short_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that looking again for somebody to evict does not take a second."""
    monkeypatch.setattr("tieline.acceptor._EVICTION_RETRY", 0.001)


class Crowd:
    """Peers of a server, each with the server's end of its connection."""

    def __init__(self, stack: AsyncExitStack, place: Place, server: Server, watch: Watch) -> None:
        self._stack = stack
        self._place = place
        self._server = server
        self._watch = watch
        self.ends: dict[Peer, Connection] = {}

    async def come(self, source: str = "") -> Peer:
        """One more, let in and secure."""
        peer = await self._stack.enter_async_context(
            await self._place.peer(self._server, source=source)
        )
        connection = await self._watch.next_open()
        await connection.wait_secured()
        # The clock is ahead of the kernel, which waits a moment before it confirms.
        await eventually(lambda: not connection.is_owed_by_kernel())
        self.ends[peer] = connection
        return peer

    async def try_to_come(self, source: str = "") -> Peer:
        """One more, who may have to wait."""
        return await self._stack.enter_async_context(
            await Peer.connect(self._server.addresses[0], source=source)
        )


# ---- At a client's cap


async def test_at_its_cap_a_clients_own_idlest_makes_room(place: Place, kind: str) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**BASE, per_client=3, client_full="evict")
    async with (
        place.serve(echo(kind), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, place, server, watch)
        first, second, third = [await crowd.come() for _ in range(3)]
        clock.advance(20)
        await first.send(b"x")
        await first.receive(1)
        clock.advance(20)
        await eventually(lambda: not crowd.ends[first].is_owed_by_kernel())
        newcomer = await crowd.come()
        # The second, which has been idle for longest; not the first, which came first.
        assert watch.closed == [(crowd.ends[second], CloseReason.EVICTED)]
        assert await second.is_reset() or not place.is_tcp
        if place.is_tcp:
            assert kernel_state(server, second) == ""
        for peer in (first, third, newcomer):
            await peer.send(b"hello")
            assert await peer.receive(5) == b"hello"
        assert server.counters.refused == {}
        assert server.admission.total == len(server) == 3


async def test_a_client_whose_only_one_goes_is_still_counted(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**BASE, per_client=1, client_full="evict")
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, plain, server, watch)
        for times in range(5):
            await crowd.come()
            assert len(watch.closed) == times
            assert server.admission.total == 1
            clock.advance(11)
    assert server.admission.total == 0
    assert server.admission.clients == {}


async def test_no_other_client_makes_room(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**BASE, per_client=1, client_full="evict")
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, plain, server, watch)
        await crowd.come("127.0.0.2")
        clock.advance(100)
        young = await crowd.come("127.0.0.3")
        assert await plain.is_turned_away(server, source="127.0.0.3")
        assert watch.closed == []
        await young.send(b"x")
        assert await young.receive(1) == b"x"


async def test_a_clients_refusals_count_when_no_room_could_be_made(plain: Place) -> None:
    """As without eviction; and those for whom room was made are not refused."""
    clock, watch = Clock(), Watch()
    limits = Limits(**BASE, per_client=1, client_full="evict", penalty_refused=1)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, plain, server, watch)
        await crowd.come()
        for _ in range(3):
            assert await plain.is_turned_away(server)
        assert server.counters.refused == {CloseReason.CLIENT_LIMIT: 3}
        assert server.admission.clients["127.0.0.1"].refused == 3
        assert [penalty.owed for penalty in server.admission.penalties()] == [3]
        clock.advance(11)
        await crowd.come()
        assert server.counters.refused == {CloseReason.CLIENT_LIMIT: 3}
        assert list(server.admission.penalties()) == []


# ---- Who never goes


async def _work(connection: Connection) -> None:
    """A conversation that takes its time over a message that says so, and goes on when told."""
    async for message in connection:
        if message == b"work":
            await connection.data.wait()
        await connection.send(message)


async def _in_a_message(peer: Peer, connection: Connection) -> None:
    await peer.send(b"a message that has be")
    await eventually(lambda: connection.bytes_received)


async def _in_the_handler(peer: Peer, connection: Connection) -> None:
    connection.data = asyncio.Event()
    await peer.send(b"work\n")
    await eventually(lambda: connection.messages_received)


async def _with_bytes_owed(peer: Peer, connection: Connection) -> None:
    connection.send(b"x" * 20_000_000)
    await eventually(lambda: connection.owed)


async def _with_messages_waiting(peer: Peer, connection: Connection) -> None:
    connection.data = asyncio.Event()
    await peer.send(b"work\nmore\nand more\n")
    await eventually(lambda: connection.waiting_messages == 2)


BUSY: list[Callable[[Peer, Connection], Any]] = [
    _in_a_message, _in_the_handler, _with_bytes_owed, _with_messages_waiting,
]  # fmt: skip


@pytest.mark.parametrize("cap", ["client", "total"])
@pytest.mark.parametrize("occupy", BUSY, ids=lambda each: each.__name__.strip("_"))
async def test_never_one_with_something_under_way(
    plain: Place, occupy: Callable[[Peer, Connection], Any], cap: str
) -> None:
    """However long ago it was active: a younger one goes, or nobody."""
    clock, watch = Clock(), Watch()
    limits = Limits(
        **BASE, message=None, min_receive_rate=None, min_send_rate=None, write_stall=None,
        max_owed=1 << 26,
    ).replace(
        **({"per_client": 2, "client_full": "evict"} if cap == "client" else {}),
        **({"total": 2, "total_full": "evict"} if cap == "total" else {}),
    )  # fmt: skip
    async with (
        plain.serve(_work, framing=Line(), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, plain, server, watch)
        busy = await crowd.come()
        await occupy(busy, crowd.ends[busy])
        clock.advance(50)
        young = await crowd.come()
        clock.advance(11)
        newcomer = await crowd.come()
        assert watch.closed == [(crowd.ends[young], CloseReason.EVICTED)]
        await occupy(newcomer, crowd.ends[newcomer])
        clock.advance(100)
        # Now both are busy.
        if cap == "client":
            assert await plain.is_turned_away(server)
            assert server.counters.refused == {CloseReason.CLIENT_LIMIT: 1}
        else:
            pauses = server.counters.accept_pauses["full"]
            await crowd.try_to_come()
            await eventually(lambda: server.counters.accept_pauses["full"] > pauses)
        assert len(watch.closed) == 1
        for each in crowd.ends.values():
            if each.data is not None:
                each.data.set()


@pytest.mark.parametrize("cap", ["client", "total"])
async def test_never_one_that_has_been_idle_for_less_than_the_floor(plain: Place, cap: str) -> None:
    clock, watch = Clock(), Watch()
    changes: dict[str, Any] = {
        "client": {"per_client": 1, "client_full": "evict"},
        "total": {"total": 1, "total_full": "evict"},
    }[cap]
    limits = Limits(**BASE, **changes)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, plain, server, watch)
        await crowd.come()
        clock.advance(9.9)
        if cap == "client":
            assert await plain.is_turned_away(server)
            clock.advance(0.1)
            await crowd.come()
        else:
            waiting = await crowd.try_to_come()
            # It is looked for somebody to evict, now and then.
            await eventually(lambda: server.counters.accept_pauses["full"] > 3)
            assert watch.closed == []
            clock.advance(0.1)
            await watch.next_open()  # the first one's own
            await waiting.send(b"x")
            assert await waiting.receive(1) == b"x"
        assert [why for _, why in watch.closed] == [CloseReason.EVICTED]


async def test_never_one_whose_handshake_is_not_done(tls_place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**BASE, handshake=1_000, per_client=1, client_full="evict")
    async with (
        tls_place.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, tls_place, server, watch)
        await crowd.try_to_come()
        await watch.next_open()
        clock.advance(100)
        assert await tls_place.is_turned_away(server)
        assert watch.closed == []


async def test_never_one_that_is_ending(plain: Place) -> None:
    """Its peer has ended, and its handler has not: it is not idle, and has its own clock."""
    clock, watch = Clock(), Watch()

    async def hold(connection: Connection) -> None:
        await connection.wait_closed()

    limits = Limits(**BASE, half_closed=None, per_client=1, client_full="evict")
    async with (
        plain.serve(hold, limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, plain, server, watch)
        peer = await crowd.come()
        await peer.end()
        await eventually(lambda: not crowd.ends[peer].is_receiving)
        clock.advance(100)
        assert await plain.is_turned_away(server)


# ---- At the total


async def test_at_the_total_the_biggest_holders_idlest_makes_room(plain: Place, kind: str) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**BASE, total=6, total_full="evict", per_client=None)
    async with (
        plain.serve(echo(kind), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, plain, server, watch)
        small = [await crowd.come("127.0.0.2") for _ in range(2)]
        clock.advance(50)
        big = [await crowd.come("127.0.0.3") for _ in range(4)]
        clock.advance(11)
        for times in range(1, 3):
            await crowd.come("127.0.0.4")
            # One goes for each that comes, of those who hold most, though others are idler.
            assert [each for each, _ in watch.closed] == [crowd.ends[each] for each in big[:times]]
            assert len(server) == 6
        assert {why for _, why in watch.closed} == {CloseReason.EVICTED}
        assert await big[0].is_reset()
        for peer in small:
            await peer.send(b"hello")
            assert await peer.receive(5) == b"hello"
        assert server.counters.refused == {}


async def test_at_the_total_everybody_who_waits_gets_in(plain: Place) -> None:
    """While there are idle ones: each newcomer takes the place of one."""
    clock, watch = Clock(), Watch()
    limits = Limits(**BASE, total=20, total_full="evict", per_client=None)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, plain, server, watch)
        for _ in range(20):
            await crowd.come()
        clock.advance(11)
        for _ in range(15):
            await crowd.come("127.0.0.2")
        assert len(server) == 20
        assert len(watch.closed) == 15
        assert server.counters.closed == {CloseReason.EVICTED: 15}


async def test_few_go_at_once(plain: Place) -> None:
    """One in a hundred places is vacated: making room never empties a server."""
    clock, watch = Clock(), Watch()
    limits = Limits(**BASE, total=200, total_full="evict", per_client=None)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, plain, server, watch)
        for number in range(200):
            await crowd.come(f"127.0.1.{number // 2 + 1}")
        clock.advance(11)
        await crowd.come("127.0.0.2")
        assert len(watch.closed) == 2
        await crowd.come("127.0.0.2")
        assert len(watch.closed) == 2
        await crowd.come("127.0.0.2")
        assert len(watch.closed) == 4
        assert len({each.client for each, _ in watch.closed}) == 4


async def test_at_the_total_newcomers_wait_while_nobody_may_go(plain: Place) -> None:
    """And come in when somebody leaves, without waiting for the next look."""
    clock, watch = Clock(), Watch()
    limits = Limits(**BASE, total=1, total_full="evict")
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, plain, server, watch)
        inside = await crowd.come()
        waiting = await crowd.try_to_come()
        await eventually(lambda: server.counters.accept_pauses["full"])
        await inside.end()
        await watch.next_open()
        await waiting.send(b"my turn")
        assert await waiting.receive(7) == b"my turn"
        assert server.counters.closed == {CloseReason.PEER_CLOSED: 1}
        assert clock.time == 1_000


async def test_above_a_lowered_total_nobody_is_refused(plain: Place) -> None:
    """More must go than go at once: the newcomer waits until there is room."""
    clock, watch = Clock(), Watch()
    limits = Limits(**BASE, total=12, total_full="evict")
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, plain, server, watch)
        for _ in range(12):
            await crowd.come()
        clock.advance(11)
        server.change_limits(total=5)
        newcomer = await crowd.come("127.0.0.2")
        await newcomer.send(b"x")
        assert await newcomer.receive(1) == b"x"
        assert server.counters.refused == {}
        assert server.counters.closed == {CloseReason.EVICTED: 8}
        assert len(server) == 5


async def test_far_above_a_lowered_total_the_loop_gets_its_share(plain: Place) -> None:
    """Hundreds must go before there is room for one."""
    clock, watch = Clock(), Watch()
    limits = Limits(**BASE, total=400, per_client=None, total_full="evict")
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, plain, server, watch)
        for _ in range(300):
            await crowd.come()
        clock.advance(11)
        server.change_limits(total=10)
        newcomer = asyncio.create_task(crowd.come("127.0.0.2"))
        before = len(server)
        while not newcomer.done():
            await asyncio.sleep(0)
            assert before - len(server) <= 64
            before = len(server)
        await newcomer
        assert len(server) == 10
        assert server.counters.refused == {}


async def test_nobody_goes_for_nobody(plain: Place) -> None:
    """The last place is taken, and no more come."""
    clock, watch = Clock(), Watch()
    limits = Limits(**BASE, total=3, total_full="evict")
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, plain, server, watch)
        for _ in range(3):
            last = await crowd.come()
            clock.advance(100)
        await last.send(b"x")
        assert await last.receive(1) == b"x"
        assert watch.closed == []


async def test_without_being_asked_nobody_goes(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(**BASE, total=2, per_client=1)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        crowd = Crowd(stack, plain, server, watch)
        await crowd.come("127.0.0.2")
        peer = await crowd.come("127.0.0.3")
        clock.advance(1_000)
        waiting = await crowd.try_to_come("127.0.0.2")
        for _ in range(20):
            await peer.send(b"x")
            await peer.receive(1)
        assert watch.closed == []
        await peer.end()
        # There is a place now, and this client has its share.
        assert await waiting.is_reset()
