"""The connection policy, point by point, for what a guard relays: a session is one connection,
whichever of its sides moves, stalls or ends.

The numbers are those of docs/policy.md. Time is moved by hand; nothing here waits for any.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any

import pytest

import tieline
from guard.relayed import RESET, listen, read_to_end, reset
from guard.rig import (
    UNCHECKED,
    Rig,
    Script,
    closed_port,
    greeting,
    received,
    rig,
    send,
    silent_port,
    until,
)  # fmt: skip
from support.clock import TICK, Clock
from support.peers import Peer
from support.transports import Secrets
from tieline import Address, CloseReason, Limits, State, proxy_protocol
from tieline.events import (
    AcceptPaused,
    ClientPenalized,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    Event,
    LimitsChanged,
    LimitSpared,
    SessionRelayed,
)  # fmt: skip
from tieline.guard import Guard, GuardSettings, UpstreamState

SERVICE = Address("198.51.100.1", 443)

#: Clients of any address, as a proxy before the guard names them.
NAMED = UNCHECKED.replace(accept_proxy=("127.0.0.0/8",))

#: All clocks of a session off, but for the one that is asked for.
QUIET: dict[str, Any] = {
    "idle": None, "first_byte": None, "write_stall": None, "half_closed": None,
    "min_send_rate": None, "per_client": None,
}  # fmt: skip

MUCH = b"x" * 30_000_000


def only(**limits: Any) -> Limits:
    return Limits(**{**QUIET, **limits})


async def named(it: Rig, host: str) -> socket.socket:
    """A client of this address."""
    client = await it.client()
    await send(client, proxy_protocol.build(2, Address(host, 50_000), SERVICE))
    return client


async def is_refused(client: socket.socket) -> bool:
    """Whether it is reset without a word."""
    return await read_to_end(client) == (b"", RESET)


async def at_rest(it: Rig) -> None:
    """Until the kernels have told each other all."""
    for sides in (it.guard.connections, it.guard.upstream_sides):
        for each in sides:
            await until(lambda each=each: not each.is_owed_by_kernel())  # type: ignore[misc]


async def answered(it: Rig, client: socket.socket, server: socket.socket, clock: Clock) -> None:
    """A question, and an answer a moment later: at one and the same time there is no telling."""
    await send(client, b"?")
    assert await received(server, 1) == b"?"
    clock.advance(0.01)
    await send(server, b"!")
    assert await received(client, 1) == b"!"
    await at_rest(it)


@contextlib.asynccontextmanager
async def sending(end: socket.socket, data: bytes = MUCH) -> Any:
    """Somebody who sends as long as it is let."""
    task = asyncio.ensure_future(send(end, data))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# ---- 1. A client is a network prefix


async def test_01_a_client_is_a_network_prefix() -> None:
    async with rig(settings=NAMED, limits=Limits(per_client=1)) as it:
        await named(it, "2001:db8:1:1::1")
        await it.server()
        assert await is_refused(await named(it, "2001:db8:1:1:ffff::2"))
        await named(it, "2001:db8:1:2::1")
        await it.server()
        assert it.refused == [CloseReason.CLIENT_LIMIT]


async def test_01_an_address_in_disguise_is_the_same_client() -> None:
    async with rig(settings=NAMED, limits=Limits(per_client=1)) as it:
        await named(it, "203.0.113.9")
        await it.server()
        client = await it.client()
        header = proxy_protocol.build(
            2, Address("::ffff:203.0.113.9", 1), Address("::ffff:198.51.100.1", 443)
        )
        await send(client, header)
        assert await is_refused(client)


async def test_01_a_wider_tier() -> None:
    async with rig(settings=NAMED, limits=Limits(per_client=None, per_network=2)) as it:
        for host in ("203.0.113.1", "203.0.113.2"):
            await named(it, host)
            await it.server()
        assert await is_refused(await named(it, "203.0.113.3"))
        await named(it, "203.0.114.3")
        await it.server()
        assert it.refused == [CloseReason.NETWORK_LIMIT]


async def test_01_a_key_that_cannot_be_made_never_means_unlimited() -> None:
    """Unix peers of a proxy have no address: they share one client's limit."""
    async with rig(settings=NAMED, limits=Limits(per_client=1)) as it:
        header = proxy_protocol.build(2, Address(path="/a"), Address(path="/b"))
        await send(await it.client(), header)
        await it.server()
        key = it.leg.client.key
        second = await it.client()
        await send(second, proxy_protocol.build(2, Address(path="/c"), Address(path="/b")))
        assert await is_refused(second)
        # It is the same after limits have changed, whatever is asked of its socket then.
        it.guard.change_limits(client_ipv4_prefix=24)
        await asyncio.sleep(0)
        assert it.leg.client.key == key
        third = await it.client()
        await send(third, header)
        assert await is_refused(third)


# ---- 2. Idle: no byte made progress, on either side


async def test_02_idle_and_a_byte_of_either_side() -> None:
    clock = Clock()
    async with rig(limits=only(idle=60)) as it:
        client, server = await it.pair()
        for sender, receiver in [(client, server), (server, client)] * 2:
            clock.advance(45)
            await send(sender, b"x")
            assert await received(receiver, 1) == b"x"
        await at_rest(it)
        clock.advance(59)
        assert it.closed == []
        clock.advance(1 + TICK)
        assert await read_to_end(client) == (b"", "end")
        assert await read_to_end(server) == (b"", "end")
        it.close_ends()
        await it.over()
        assert it.closed == [CloseReason.IDLE_TIMEOUT]


@pytest.mark.parametrize("slow", ["upstream", "client"])
async def test_02_bytes_that_one_side_takes_slowly_are_progress(slow: str) -> None:
    """All of them are in the kernel's hands, and nobody sends any more: it is not idle while the
    reader takes some, and it is once he takes none."""
    clock = Clock()
    service = listen()
    service.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    async with rig(service=service, limits=only(idle=30)) as it:
        client = socket.socket()
        it.clients.append(client)
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, (it.address.host, it.address.port))
        server = await it.server()
        leg = it.leg
        sender, reader = (client, server) if slow == "upstream" else (server, client)
        carrier = it.upstream_leg if slow == "upstream" else leg
        size = 2_000_000
        await send(sender, b"x" * size)
        await until(lambda: carrier.bytes_sent == size)
        assert not carrier.owed
        taken = 0
        for _ in range(12):
            before = carrier._unconfirmed()
            assert before
            taken += len(await received(reader, 100_000))
            await until(lambda before=before: carrier._unconfirmed() < before)  # type: ignore[misc]
            for _ in range(10):
                clock.advance(2)
                assert it.closed == []
        assert carrier._unconfirmed()
        for _ in range(17):
            clock.advance(2)
        assert it.closed == [CloseReason.IDLE_TIMEOUT]


async def test_02_what_nobody_takes_is_no_progress() -> None:
    """A server that goes on queuing words for a client that takes none keeps nothing open."""
    clock = Clock()
    async with rig(limits=only(idle=30)) as it:
        client, server = await it.pair()
        await it.exchange(client, server)
        async with sending(server):
            await until(lambda: it.leg.owed)
            for _ in range(40):
                clock.advance(1)
            assert it.closed == [CloseReason.IDLE_TIMEOUT]
        assert (await read_to_end(client))[1] == RESET


# ---- 3. Clocks


async def test_03_the_first_byte_is_the_clients() -> None:
    """What the server says first is none of his."""
    clock = Clock()
    async with rig(limits=only(first_byte=20)) as it:
        client, server = await it.pair()
        talker, its_server = await it.pair()
        await send(server, b"220 welcome\r\n")
        assert await received(client, 13) == b"220 welcome\r\n"
        await send(talker, b"x")
        assert await received(its_server, 1) == b"x"
        await at_rest(it)
        clock.advance(19)
        assert it.closed == []
        clock.advance(1 + TICK)
        assert it.closed == [CloseReason.FIRST_BYTE_TIMEOUT]
        assert await is_refused(client)
        assert (await read_to_end(server))[1] == RESET
        await it.exchange(talker, its_server)


async def test_03_lives_end_one_by_one_and_never_later_than_they_may() -> None:
    clock = Clock()
    limits = only(lifetime=100, lifetime_jitter=0.5)
    async with rig(limits=limits) as it:
        pairs = [await it.pair() for _ in range(20)]
        for pair in pairs:
            await it.exchange(*pair)
        await at_rest(it)
        ends: list[int] = []
        for _ in range(55):
            clock.advance(1 if len(ends) else 49)
            ends.append(sum(1 for each in it.guard.connections if each.state is State.OPEN))
        assert ends[0] == 20
        assert ends[-1] == 0
        assert len(set(ends)) >= 10
        for client, server in pairs:
            assert await read_to_end(client) == (b"", "end")
            assert await read_to_end(server) == (b"", "end")
        it.close_ends()
        await it.over()
        assert it.closed == [CloseReason.LIFETIME] * 20


async def test_03_at_the_end_of_its_life_a_question_may_be_answered() -> None:
    clock = Clock()
    limits = only(lifetime=100, lifetime_jitter=0.0, closing=5)
    async with rig(limits=limits) as it:
        answered, unanswered = await it.pair(), await it.pair()
        clock.advance(99)
        for client, server in (answered, unanswered):
            await send(client, b"?")
            assert await received(server, 1) == b"?"
        clock.advance(1 + TICK)
        clock.advance(1)
        assert it.closed == []
        client, server = answered
        await send(server, b"!")
        assert await received(client, 1) == b"!"
        await at_rest(it)
        clock.advance(1)
        assert await read_to_end(client) == (b"", "end")
        assert await read_to_end(server) == (b"", "end")
        client.close()
        server.close()
        await until(lambda: it.closed)
        clock.advance(4)
        assert (await read_to_end(unanswered[0]))[1] == RESET
        assert it.closed == [CloseReason.LIFETIME] * 2


@pytest.mark.parametrize("first", ["client", "upstream"])
async def test_03_half_closed_by_either_side(first: str) -> None:
    clock = Clock()
    async with rig(limits=only(half_closed=20)) as it:
        client, server = await it.pair()
        await it.exchange(client, server)
        ended, other = (client, server) if first == "client" else (server, client)
        ended.shutdown(socket.SHUT_WR)
        assert await read_to_end(other) == (b"", "end")
        clock.advance(15)
        await send(other, b"more")
        assert await received(ended, 4) == b"more"
        await at_rest(it)
        clock.advance(15)
        assert it.closed == []
        clock.advance(5 + TICK)
        clock.advance(5 + TICK)
        await it.over()
        assert it.closed == [CloseReason.HALF_CLOSED_TIMEOUT]
        assert (await read_to_end(ended))[0] == b""


async def test_03_clocks_are_told_in_every_phase() -> None:
    clock = Clock()
    with silent_port() as silent:
        async with rig(upstreams=[silent]) as it:
            await it.client()
            await until(lambda: len(it.guard) == 1)
            clock.advance(2)
            ((left, reason),) = it.leg.clocks()
            assert left == pytest.approx(3, abs=TICK)
            assert reason is CloseReason.NO_UPSTREAM
    async with rig(options=",max=1") as it:
        await it.pair()
        await it.client()
        await until(lambda: it.guard.pool.waiting == 1)
        *_, waiting = it.guard.connections
        ((left, reason),) = waiting.clocks()
        assert left == pytest.approx(10, abs=TICK)
        assert reason is CloseReason.QUEUE_TIMEOUT
    async with rig(settings=UNCHECKED.replace(sni="on")) as it:
        await it.client()
        await until(lambda: len(it.guard) == 1)
        ((left, reason),) = it.leg.clocks()
        assert left == pytest.approx(10, abs=TICK)
        assert reason is CloseReason.PREAMBLE_TIMEOUT


# ---- 4. Slow readers, by credit, on either side


@pytest.mark.parametrize(
    ("slow", "limit", "seconds", "reason"),
    [
        ("client", {"write_stall": 30}, 30, CloseReason.WRITE_STALL),
        ("client", {"min_send_rate": 100, "rate_grace": 20}, 20, CloseReason.SLOW_READER),
        ("upstream", {"write_stall": 30}, 30, CloseReason.UPSTREAM_STALLED),
        ("upstream", {"min_send_rate": 100, "rate_grace": 20}, 20, CloseReason.UPSTREAM_STALLED),
    ],
)
async def test_04_who_takes_nothing_of_what_it_is_owed(
    slow: str, limit: dict[str, Any], seconds: int, reason: CloseReason
) -> None:
    clock = Clock()
    async with rig(limits=only(**limit)) as it:
        client, server = await it.pair()
        await it.exchange(client, server)
        sender, reader = (client, server) if slow == "upstream" else (server, client)
        async with sending(sender):
            leg = it.leg if slow == "client" else it.upstream_leg
            await until(lambda: leg.owed)
            for _ in range(seconds - 2):
                clock.advance(1)
            assert it.closed == []
            for _ in range(4):
                clock.advance(1)
            # One's own fault or the other's: who took nothing is cut off at once, with all that
            # its kernel still held; the other is told.
            await until(lambda: it.closed)
        assert (await read_to_end(reader))[1] == RESET
        assert (await read_to_end(sender))[1] == RESET
        await it.over()
        assert it.closed == [reason]


@pytest.mark.parametrize("slow", ["client", "upstream"])
async def test_04_a_little_now_and_then_is_too_slow_and_steadily_is_not(slow: str) -> None:
    clock = Clock()
    limits = only(write_stall=30, min_send_rate=1_000, rate_grace=20)
    service = listen()
    service.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)

    async def small_client(it: Rig) -> socket.socket:
        client = socket.socket()
        it.clients.append(client)
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        where = (it.address.host, it.address.port)
        await asyncio.get_running_loop().sock_connect(client, where)
        return client

    async with rig(service=service, limits=limits) as it:
        sessions = []
        for _ in range(2):
            client = await small_client(it)
            server = await it.server()
            sessions.append((client, server))
        legs = list(it.guard.connections)
        async with contextlib.AsyncExitStack() as stack:
            readers = []
            for client, server in sessions:
                sender, reader = (client, server) if slow == "upstream" else (server, client)
                await stack.enter_async_context(sending(sender))
                readers.append(reader)
            carriers: list[Any] = legs if slow == "client" else list(it.guard.upstream_sides)
            await until(lambda: all(each.owed for each in carriers))
            steady = carriers[0]
            for second in range(60):
                # 100,000 bytes every five seconds, against 40 seconds with a byte now and then.
                if second % 5 == 0:
                    taken = steady._carried() - steady._unconfirmed()
                    await received(readers[0], 100_000)
                    await until(
                        lambda taken=taken: steady._carried() - steady._unconfirmed() > taken  # type: ignore[misc]
                    )
                if second % 10 == 0 and len(it.guard) == 2:
                    await received(readers[1], 1)
                clock.advance(1)
            reason = CloseReason.SLOW_READER if slow == "client" else CloseReason.UPSTREAM_STALLED
            assert it.closed == [reason]
            assert legs[0].close_reason is None


@pytest.mark.parametrize("slow", ["client", "upstream"])
async def test_04_over_unix_sockets_too(slow: str, tmp_path: Any) -> None:
    """Where the kernel counts what nobody has read, instead of what nobody has confirmed."""
    clock = Clock()
    service = socket.socket(socket.AF_UNIX)
    service.bind(f"{tmp_path}/service.sock")
    service.listen()
    service.setblocking(False)
    async with rig(
        f"unix:{tmp_path}/guard.sock",
        service=service,
        upstreams=[f"unix:{tmp_path}/service.sock"],
        limits=only(write_stall=10, min_send_rate=1_000, rate_grace=20),
    ) as it:
        sessions = []
        for _ in range(2):
            client, server = await Peer.connect(it.address), await Peer.accept(service)
            it.clients.append(client.socket)
            it.servers.append(server.socket)
            sessions.append((client.socket, server.socket))
        async with contextlib.AsyncExitStack() as stack:
            readers = []
            for client_end, server_end in sessions:
                ends = (client_end, server_end) if slow == "upstream" else (server_end, client_end)
                await stack.enter_async_context(sending(ends[0]))
                readers.append(ends[1])
            sides = it.guard.connections if slow == "client" else it.guard.upstream_sides
            legs: list[Any] = list(sides)
            await until(lambda: all(each.owed for each in legs))
            for _ in range(30):
                moved = legs[0].bytes_sent
                await received(readers[0], 300_000)
                await until(lambda moved=moved: legs[0].bytes_sent > moved)  # type: ignore[misc]
                clock.advance(1)
        assert len(it.closed) == 1
        assert legs[0].close_reason is None
        assert legs[1].close_reason is not None
        expected = CloseReason.WRITE_STALL if slow == "client" else CloseReason.UPSTREAM_STALLED
        assert it.closed == [expected]


async def test_04_one_slow_side_pauses_the_other_and_nobody_else() -> None:
    """What the guard holds of a session is one read and what a pipe takes."""
    async with rig(limits=only()) as it:
        client, server = await it.pair()
        async with sending(client):
            await until(lambda: it.upstream_leg.owed)
            assert it.upstream_leg.owed <= 262_144
            await it.exchange(*await it.pair())
            # The other way is not held up.
            await send(server, b"still here")
            assert await received(client, 10) == b"still here"


# ---- 5. Closing is bounded


@pytest.mark.parametrize("stays", ["client", "upstream", "both"])
async def test_05_an_end_in_good_order_has_a_deadline(stays: str) -> None:
    clock = Clock()
    async with rig(limits=only(closing=5)) as it:
        client, server = await it.pair()
        await it.exchange(client, server)
        await at_rest(it)
        it.leg.close()
        assert await read_to_end(client) == (b"", "end")
        assert await read_to_end(server) == (b"", "end")
        await at_rest(it)
        if stays == "client":
            server.close()
        if stays == "upstream":
            client.close()
        clock.advance(4)
        assert len(it.guard) + it.upstream.sessions > 0
        clock.advance(1 + TICK)
        await it.over()
        assert it.closed == [CloseReason.CLOSED]


async def test_05_closing_with_words_that_nobody_takes_is_a_reset_in_the_end() -> None:
    clock = Clock()
    async with rig(limits=only(closing=5)) as it:
        client, server = await it.pair()
        async with sending(server):
            await until(lambda: it.leg.owed)
        it.leg.close()
        clock.advance(5 + TICK)
        assert it.closed == [CloseReason.CLOSE_TIMEOUT]
        assert (await read_to_end(client))[1] == RESET
        server.close()
        await it.over()


@pytest.mark.parametrize("how", ["kick", "ban", "evict"])
async def test_05_what_is_decided_is_done_at_once_on_both_sides(how: str) -> None:
    async with rig() as it:
        client, server = await it.pair()
        await it.exchange(client, server)
        if how == "kick":
            assert it.guard.kick(it.leg.id) == 1
        elif how == "ban":
            assert it.guard.ban("127.0.0.1") == 1
        else:
            it.leg.abort(CloseReason.EVICTED)
        assert await is_refused(client)
        assert (await read_to_end(server))[1] == RESET
        await it.over()
        words = {
            "kick": CloseReason.KICKED,
            "ban": CloseReason.BANNED,
            "evict": CloseReason.EVICTED,
        }
        assert it.closed == [words[how]]


# ---- 6. Caps


async def test_06_at_the_total_newcomers_wait() -> None:
    async with rig(limits=only(total=2)) as it:
        pairs = [await it.pair() for _ in range(2)]
        third = await it.client()
        await send(third, b"patient")
        await until(lambda: it.guard.counters.accept_pauses["full"])
        assert len(it.guard) == 2
        assert it.upstream.sessions == 2
        for end in pairs[0]:
            end.close()
        assert await received(await it.server(), 7) == b"patient"
        assert it.refused == []


async def test_06_at_its_cap_a_client_is_told_and_others_are_not() -> None:
    limits = Limits(per_client=1, refusal="no: {reason}\r\n")
    async with rig(limits=limits) as it:
        await it.pair()
        second = await it.client()
        assert await read_to_end(second) == (b"no: client_limit\r\n", "end")
        await it.pair("127.0.0.2")
        # A refused client never becomes a session, nor costs its upstream one.
        assert (it.guard.counters.accepted, it.upstream.connected) == (2, 2)


@pytest.mark.parametrize("when", ["at the door", "later"])
async def test_06_no_plain_words_to_who_speaks_tls(when: str) -> None:
    """It could not read them. An alert of TLS it could."""
    limits = Limits(per_client=1, refusal="no: {reason}\r\n")
    settings = UNCHECKED.replace(sni="on")
    async with rig(options=",sni=a.example", limits=limits, settings=settings) as it:
        if when == "at the door":
            await send(await it.client(), greeting("a.example"))
            await it.server()
        client = it.try_client()
        with contextlib.suppress(OSError):
            await send(client, greeting("b.example"))
        got, _ = await read_to_end(client)
        assert got[:1] in (b"", b"\x15")


async def test_06_reserved_places_and_exempt_networks() -> None:
    limits = Limits(
        total=3, per_client=1, reserved=1, reserved_networks=("127.0.0.9",),
        exempt_networks=("127.0.0.5",),
    )  # fmt: skip
    async with rig(limits=limits) as it:
        for source in ("127.0.0.5", "127.0.0.5"):
            await it.pair(source)
        refused = it.try_client("127.0.0.2")
        await until(lambda: it.refused)
        assert it.refused == [CloseReason.TOTAL_LIMIT]
        assert (await read_to_end(refused))[1] == RESET
        await it.pair("127.0.0.9")


async def test_06_headers_that_come_at_once_do_not_exceed_the_total() -> None:
    """They were accepted while there was room, and are many by the time they say who they are."""
    async with rig(settings=NAMED, limits=only(total=3)) as it:
        clients = [await it.client() for _ in range(10)]
        await until(lambda: len(it.left_on_the_reactor()) == 20)
        for number, client in enumerate(clients):
            client.send(proxy_protocol.build(1, Address(f"203.0.113.{number}", 1), SERVICE))
        await until(lambda: len(it.refused) + len(it.guard) == 10)
        assert len(it.guard) == it.guard.admission.total == 3
        assert set(it.refused) == {CloseReason.TOTAL_LIMIT}


@pytest.mark.parametrize("how", ["reset", "end"])
async def test_06_what_clients_leave_behind_is_bounded_too(how: str) -> None:
    """The upstream has not taken what they said, so its side stays for a moment: not without end,
    however fast they come and go."""
    async with rig(limits=only(total=4, closing=60)) as it:
        most = 0
        for _ in range(16):
            client, server = await it.pair()
            await send(client, b"x" * 1_000_000)
            await until(lambda: it.guard.connections and _said(it, 1_000_000))
            server.shutdown(socket.SHUT_WR)
            if how == "reset":
                reset(client)
            else:
                client.close()
            await until(lambda: len(it.guard) < 4)
            most = max(most, it.upstream.sessions)
        assert most <= 4 * 2


def _said(it: Rig, size: int) -> bool:
    *_, last = it.guard.connections
    return bool(last.bytes_received == size)


# ---- 7. Refuse or evict


@pytest.mark.parametrize("cap", ["client", "total"])
async def test_07_the_idlest_makes_room(cap: str) -> None:
    clock = Clock()
    room = (
        {"per_client": 2, "client_full": "evict"}
        if cap == "client"
        else {"total": 2, "total_full": "evict"}
    )
    async with rig(limits=only(evict_idle=10, **room)) as it:
        idle, active = await it.pair(), await it.pair()
        for pair in (idle, active):
            await answered(it, *pair, clock)
            clock.advance(5)
        clock.advance(10)
        await answered(it, *active, clock)
        newcomer = await it.client()
        await it.exchange(newcomer, await it.server())
        assert it.closed == [CloseReason.EVICTED]
        assert await is_refused(idle[0])
        await it.exchange(*active)


@pytest.mark.parametrize("cap", ["client", "total"])
@pytest.mark.parametrize(
    "what",
    ["unanswered", "unanswered at the same time", "owed", "owed by the upstream's kernel",
     "waiting", "connecting"],
)  # fmt: skip
async def test_07_never_one_with_a_question_unanswered(cap: str, what: str) -> None:
    clock = Clock()
    room = (
        {"per_client": 1, "client_full": "evict"}
        if cap == "client"
        else {"total": 1, "total_full": "evict"}
    )
    limits = only(evict_idle=10, **room)
    async with contextlib.AsyncExitStack() as stack:
        if what == "connecting":
            silent = stack.enter_context(silent_port())
            settings = UNCHECKED.replace(connect_timeout=60)
            it = await stack.enter_async_context(
                rig(upstreams=[silent], limits=limits, settings=settings)
            )
            await it.client()
        elif what == "waiting":
            settings = UNCHECKED.replace(queue_timeout=60)
            it = await stack.enter_async_context(
                rig(options=",max=1", limits=limits, settings=settings)
            )
            # Its place is taken by nobody who is seen here.
            it.guard.pool.take(it.upstream)
            stack.callback(it.guard.pool.give_back, it.upstream)
            await it.client()
        else:
            it = await stack.enter_async_context(rig(limits=limits))
            client, server = await it.pair()
            await answered(it, client, server, clock)
            if what == "unanswered":
                clock.advance(1)
            if what == "owed":
                await stack.enter_async_context(sending(server))
                await until(lambda: it.leg.owed)
            elif what == "owed by the upstream's kernel":
                await send(client, b"?" * 1_000_000)
                await until(lambda: it.leg.bytes_received > 1_000_000)
                assert not it.upstream_leg.owed
                # It says something by itself meanwhile.
                clock.advance(1)
                await send(server, b"!")
                assert await received(client, 1) == b"!"
                await until(lambda: not it.leg.is_owed_by_kernel())
            else:
                await send(client, b"?")
                assert await received(server, 1) == b"?"
        await until(lambda: len(it.guard) == 1)
        clock.advance(20)
        newcomer = it.try_client()
        if cap == "client":
            await until(lambda: it.refused)
            assert it.refused == [CloseReason.CLIENT_LIMIT]
        else:
            await until(lambda: it.guard.counters.accept_pauses["full"])
        assert it.closed == []
        newcomer.close()


async def test_07_a_device_that_only_reports_may_go() -> None:
    """What nobody has answered for long, nobody will."""
    clock = Clock()
    async with rig(limits=only(per_client=1, client_full="evict", evict_idle=10)) as it:
        client, server = await it.pair()
        await send(client, b"21.5 C")
        assert await received(server, 6) == b"21.5 C"
        clock.advance(20)
        refused = it.try_client()
        await until(lambda: it.refused)
        assert (await read_to_end(refused))[1] == RESET
        clock.advance(20)
        await it.client()
        await it.server()
        assert it.closed == [CloseReason.EVICTED]


# ---- 8. Rates


async def test_08_over_its_rate_a_client_is_refused() -> None:
    clock = Clock()
    limits = only(per_client_rate=1, per_client_burst=2)
    async with rig(limits=limits) as it:
        for _ in range(2):
            await it.pair()
        assert (await read_to_end(it.try_client()))[1] == RESET
        await it.pair("127.0.0.2")
        clock.advance(1)
        await it.pair()
        assert it.refused == [CloseReason.CLIENT_RATE]


async def test_08_over_the_rate_of_all_accepting_pauses_and_the_service_goes_on() -> None:
    clock = Clock()
    async with rig(limits=only(total_rate=1, total_burst=2)) as it:
        pairs = [await it.pair() for _ in range(2)]
        late = await it.client()
        await send(late, b"late")
        await until(lambda: it.guard.counters.accept_pauses["rate"])
        for pair in pairs:
            await it.exchange(*pair)
        clock.advance(2)
        it.guard._acceptor.resume()  # type: ignore[union-attr] # what its timer does
        assert await received(await it.server(), 4) == b"late"
        assert it.refused == []


# ---- 9. Penalties


async def test_09_an_account_leaks_and_refuses_until_nothing_is_owed() -> None:
    clock = Clock()
    limits = only(penalty_threshold=15, penalty_most=600)
    async with rig(limits=limits) as it:
        client, server = await it.pair()
        await it.exchange(client, server)
        it.leg.penalize(20, "sent spam")
        assert (await read_to_end(it.try_client()))[1] == RESET
        await it.exchange(client, server)
        clock.advance(19)
        assert (await read_to_end(it.try_client()))[1] == RESET
        clock.advance(2)
        await it.pair()
        assert it.refused == [CloseReason.PENALIZED] * 2


@pytest.mark.parametrize("whose", ["client", "upstream"])
async def test_09_a_slow_client_pays_and_a_slow_upstream_costs_nobody(whose: str) -> None:
    clock = Clock()
    limits = only(write_stall=10, penalty_slow=20, penalty_threshold=15)
    async with rig(limits=limits) as it:
        client, server = await it.pair()
        async with sending(server if whose == "client" else client):
            leg = it.leg if whose == "client" else it.upstream_leg
            await until(lambda: leg.owed)
            for _ in range(14):
                clock.advance(1)
            await until(lambda: it.closed)
        if whose == "client":
            assert (await read_to_end(it.try_client()))[1] == RESET
            assert it.refused == [CloseReason.PENALIZED]
        else:
            assert it.closed == [CloseReason.UPSTREAM_STALLED]
            assert list(it.guard.admission.penalties()) == []
            await it.pair()


async def test_09_a_failed_handshake_costs_the_client(secrets: Secrets) -> None:
    limits = only(penalty_tls=20, penalty_threshold=15)
    async with rig(limits=limits, tls=secrets.server) as it:
        client = await it.client()
        await send(client, b"GET / HTTP/1.1\r\n\r\n")
        await read_to_end(client)
        await until(lambda: it.closed)
        assert it.closed == [CloseReason.TLS_ERROR]
        assert (await read_to_end(it.try_client()))[1] == RESET
        assert it.refused == [CloseReason.PENALIZED]


@pytest.mark.parametrize("how", ["rude", "slow"])
async def test_09_a_greeting_that_is_none_costs_the_client(how: str) -> None:
    """As bytes that cannot be read, and as slowness, cost it anywhere else."""
    clock = Clock()
    limits = only(penalty_malformed=20, penalty_slow=20, penalty_threshold=15)
    async with rig(limits=limits, settings=UNCHECKED.replace(sni="on")) as it:
        client = await it.client()
        if how == "rude":
            await send(client, b"GET / HTTP/1.1\r\n\r\n")
        else:
            await send(client, greeting()[:50])
            await until(lambda: it.leg.bytes_received)
            clock.advance(10 + TICK)
        assert await is_refused(client)
        async with asyncio.timeout(2):
            assert (await read_to_end(it.try_client()))[1] == RESET
        assert it.refused == [CloseReason.PENALIZED]


async def test_09_a_header_that_is_none_costs_nobody() -> None:
    """It comes from the proxy, and behind that stand all clients."""
    limits = only(penalty_malformed=20, penalty_slow=20, penalty_refused=20, penalty_threshold=15)
    async with rig(limits=limits, settings=NAMED) as it:
        client = await it.client()
        await send(client, b"GET / HTTP/1.1\r\n\r\n")
        assert await is_refused(client)
        await named(it, "203.0.113.1")
        await it.server()
        assert it.refused == [CloseReason.BAD_PREAMBLE]


@pytest.mark.parametrize("named", [False, True])
async def test_09_a_proxy_pays_for_none_of_those_whom_it_cannot_name(named: bool) -> None:
    """Behind its own address stand its health checks, and all clients without an address."""
    limits = only(penalty_malformed=20, penalty_slow=20, penalty_threshold=15)
    async with rig(limits=limits, settings=NAMED.replace(sni="on")) as it:
        client = await it.client()
        who = Address("203.0.113.1", 1) if named else None
        header = proxy_protocol.build(2, who, who)
        await send(client, header + b"GET / HTTP/1.1\r\n\r\n")
        assert await is_refused(client)
        assert it.closed == [CloseReason.BAD_PREAMBLE]
        assert len(list(it.guard.admission.penalties())) == named
        another = await it.client()
        await send(another, header + greeting())
        if named:
            assert (await read_to_end(another))[1] == RESET
            assert it.refused == [CloseReason.PENALIZED]
        else:
            await it.server()
            assert it.refused == []


# ---- 10. Bounded state


@pytest.mark.parametrize("mode", ["share", "refuse", "admit"])
async def test_10_the_table_has_a_size(mode: str) -> None:
    limits = Limits(table_size=2, table_full=mode, per_client=1)
    async with rig(settings=NAMED, limits=limits) as it:
        clients = [await named(it, f"203.0.113.{number}") for number in range(1, 6)]
        await until(lambda: len(it.guard) + len(it.refused) == 5)
        held = {"share": 3, "refuse": 2, "admit": 5}[mode]
        assert len(it.guard) == it.guard.admission.total == held
        assert it.guard.admission.known <= 3
        for client in clients:
            reset(client)
        await it.over()


# ---- 11. Live limits


@pytest.mark.parametrize("evict", [False, True])
async def test_11_a_lowered_cap_lets_run_on_or_evicts(evict: bool) -> None:
    clock = Clock()
    async with rig(limits=only(total=10)) as it:
        pairs = []
        for _ in range(4):
            pair = await it.pair()
            await answered(it, *pair, clock)
            clock.advance(1)
            pairs.append(pair)
        busy = pairs[0]
        await send(busy[0], b"?")
        assert await received(busy[1], 1) == b"?"
        changed = it.guard.change_limits(total=2, evict=evict)
        assert changed == {"total": (10, 2)}
        if not evict:
            assert len(it.guard) == 4
            for pair in pairs[1:]:
                await it.exchange(*pair)
            return
        # The idle first, the busy one last.
        assert it.closed == [CloseReason.EVICTED] * 2
        for client, server in pairs[1:3]:
            assert await is_refused(client)
            assert (await read_to_end(server))[1] == RESET
        await send(busy[1], b"!")
        assert await received(busy[0], 1) == b"!"


async def test_11_clocks_of_both_sides_change_while_they_run() -> None:
    clock = Clock()
    async with rig(limits=only()) as it:
        client, _ = await it.pair()
        idle = await it.pair()
        await it.exchange(*idle)
        async with sending(client):
            await until(lambda: any(each.owed for each in it.guard.upstream_sides))
            for _ in range(20):
                clock.advance(1)
            assert it.closed == []
            it.guard.change_limits(write_stall=15)
            clock.advance(1)
            clock.advance(1)
            await until(lambda: it.closed)
            assert it.closed == [CloseReason.UPSTREAM_STALLED]
        it.guard.change_limits(idle=10)
        clock.advance(1)
        clock.advance(1)
        assert await read_to_end(idle[0]) == (b"", "end")


async def test_11_settings_change_while_sessions_wait() -> None:
    async with rig(options=",max=1") as it:
        await it.pair()
        late = await it.client()
        await send(late, b"late")
        await until(lambda: it.guard.pool.waiting == 1)
        old = it.guard.change_settings(queue=0, queue_timeout=1.0)
        assert old == {"queue": (1000, 0), "queue_timeout": (10.0, 1.0)}
        assert (await read_to_end(it.try_client()))[1] == RESET
        assert it.closed == [CloseReason.QUEUE_FULL]
        # Who waits already goes on waiting.
        text = f"127.0.0.1:{it.service.getsockname()[1]},name=b"
        it.guard.pool.add(tieline.guard.parse_upstream(text))
        assert await received(await it.server(), 4) == b"late"


@pytest.mark.parametrize("how", ["settings", "upstream"])
async def test_11_a_change_that_serve_would_refuse(how: str) -> None:
    """An upstream for a name that nobody looks at would get no session, nor would the others."""
    named = ",sni=a.example" if how == "settings" else ""
    settings = UNCHECKED.replace(sni="on" if how == "settings" else "off")
    async with rig(options=named, settings=settings) as it:
        if how == "settings":
            with pytest.raises(tieline.SettingError):
                it.guard.change_settings(sni="off", queue=5)
            assert it.guard.settings == settings
            client = await it.client()
            await send(client, greeting("a.example"))
            await it.server()
        else:
            # Added for names, and for no others: whoever comes without goes where he did.
            with contextlib.suppress(tieline.SettingError):
                text = f"127.0.0.1:{it.service.getsockname()[1]},name=b,sni=a.example"
                it.guard.pool.add(tieline.guard.parse_upstream(text))
            await it.exchange(*await it.pair())


async def test_11_unix_clients_are_counted_by_their_user(tmp_path: Any) -> None:
    async with rig(f"unix:{tmp_path}/guard.sock", limits=Limits(per_client=1)) as it:
        async with await Peer.connect(it.address) as first:
            await it.server()
            async with await Peer.connect(it.address) as second:
                with contextlib.suppress(ConnectionResetError):
                    assert await second.receive_all() == b""
            assert it.refused == [CloseReason.CLIENT_LIMIT]
            assert it.leg.client.key == f"uid:{os.getuid()}"
            it.guard.change_limits(client_ipv4_prefix=24)
            assert it.guard.ban(f"uid:{os.getuid()}") == 1
            assert await first.receive_all() == b""


# ---- 12. One reason, everywhere the same


class Heard:
    """What a guard's subscribers are told."""

    def __init__(self, guard: Guard) -> None:
        self.events: list[Event] = []
        self._guard = guard
        guard.events.subscribe(self.events.append)

    def of(self, kind: type[Event]) -> list[Any]:
        self._guard.events.flush()
        return [each for each in self.events if isinstance(each, kind)]


async def test_12_one_reason_the_same_word_everywhere() -> None:
    async with rig(options=",name=database") as it:
        heard = Heard(it.guard)
        client, server = await it.pair()
        await it.exchange(client, server)
        leg = it.leg
        assert leg.upstream == "database"
        it.guard.kick(leg)
        await it.over()
        assert it.closed == [CloseReason.KICKED]
        assert it.guard.counters.closed[CloseReason.KICKED] == 1
        (opened,) = heard.of(ConnectionOpened)
        (relayed,) = heard.of(SessionRelayed)
        (closed,) = heard.of(ConnectionClosed)
        assert opened.id == relayed.id == closed.id == leg.id
        assert opened.client == relayed.client == closed.client == "127.0.0.1"
        assert opened.peer == relayed.peer == closed.peer == leg.peer
        assert relayed.upstream == closed.upstream == "database"
        assert relayed.address == Address(*it.service.getsockname())
        assert closed.reason is CloseReason.KICKED
        assert (closed.bytes_received, closed.bytes_sent) == (3, 6)
        assert leg.upstream == "database"


async def test_12_how_long_it_has_waited_is_told() -> None:
    clock = Clock()
    async with rig(options=",max=1") as it:
        heard = Heard(it.guard)
        first = await it.pair()
        await it.client()
        await until(lambda: it.guard.pool.waiting == 1)
        clock.advance(7)
        for end in first:
            end.close()
        await it.server()
        await until(lambda: len(heard.of(SessionRelayed)) == 2)
        assert [each.waited for each in heard.of(SessionRelayed)] == [0, pytest.approx(7)]


async def test_12_one_that_never_got_an_upstream_says_so() -> None:
    async with rig(upstreams=[closed_port()], settings=UNCHECKED.replace(tries=1)) as it:
        heard = Heard(it.guard)
        it.try_client()
        await it.over_with(CloseReason.NO_UPSTREAM)
        (closed,) = heard.of(ConnectionClosed)
        assert closed.upstream is None
        assert heard.of(SessionRelayed) == []


async def test_12_hooks_are_told_once_and_with_the_facts() -> None:
    told: list[tuple[str, Any]] = []

    def on_open(leg: Any) -> None:
        told.append(("open", leg.peer))

    def on_close(leg: Any, reason: CloseReason) -> None:
        told.append(("close", (leg.peer, reason, leg.upstream, leg.bytes_received)))

    def on_refuse(peer: Address, reason: CloseReason) -> None:
        told.append(("refuse", (peer.host, reason)))

    async with rig(
        options=",name=a", limits=Limits(per_client=1), on_open=on_open, on_close=on_close,
        on_refuse=on_refuse,
    ) as it:  # fmt: skip
        client, server = await it.pair()
        peer = Address(*client.getsockname())
        await it.exchange(client, server)
        assert (await read_to_end(it.try_client()))[1] == RESET
        client.close()
        server.close()
        await it.over()
        assert told == [
            ("open", peer),
            ("refuse", ("127.0.0.1", CloseReason.CLIENT_LIMIT)),
            ("close", (peer, CloseReason.PEER_CLOSED, "a", 3)),
        ]


@pytest.mark.parametrize(
    ("limit", "who"),
    [("per_client", "door"), ("idle", "client"), ("write_stall", "client"),
     ("write_stall", "upstream"), ("first_byte", "client"), ("half_closed", "client")],
)  # fmt: skip
async def test_12_a_trial_counts_and_enforces_nothing(limit: str, who: str) -> None:
    clock = Clock()
    limits = only(**{limit: 1 if limit == "per_client" else 10}, dry_run=(limit,))
    async with rig(limits=limits) as it:
        heard = Heard(it.guard)
        client, server = await it.pair()
        if limit == "first_byte":
            await send(server, b"x")
        else:
            await it.exchange(client, server)
        async with contextlib.AsyncExitStack() as stack:
            if limit == "per_client":
                await it.pair()
            elif limit == "write_stall":
                sender = server if who == "client" else client
                await stack.enter_async_context(sending(sender))
                leg = it.leg if who == "client" else it.upstream_leg
                await until(lambda: leg.owed)
            elif limit == "half_closed":
                client.shutdown(socket.SHUT_WR)
                assert await read_to_end(server) == (b"", "end")
            for _ in range(24):
                clock.advance(1)
            assert it.closed == it.refused == []
            assert it.guard.counters.spared[limit] == 1
            (spared,) = heard.of(LimitSpared)
            assert (spared.limit, spared.client) == (limit, "127.0.0.1")


async def test_12_events_of_the_door_and_of_changes() -> None:
    async with rig(limits=only(total=1)) as it:
        heard = Heard(it.guard)
        await it.pair()
        it.leg.penalize(1, "why not")
        it.guard.change_limits(per_client=5)
        it.try_client("127.0.0.7")
        await until(lambda: heard.of(AcceptPaused))
        it.guard.ban("127.0.0.7")
        it.guard.change_limits(total=2)
        await until(lambda: heard.of(ConnectionRefused))
        assert heard.of(ConnectionRefused)[0].reason is CloseReason.BANNED
        assert len(heard.of(ClientPenalized)) == 1
        assert len(heard.of(LimitsChanged)) == 2
        assert it.refused == [CloseReason.BANNED]


async def test_12_a_drain_with_a_spread_lets_questions_be_answered() -> None:
    """Real time, but little of it: a sweep runs on the loop's clock."""
    async with rig() as it:
        pairs = [await it.pair() for _ in range(10)]
        for pair in pairs:
            await it.exchange(*pair)
        busy_client, busy_server = pairs[0]
        await send(busy_client, b"?")
        assert await received(busy_server, 1) == b"?"
        draining = asyncio.ensure_future(it.guard.drain(5.0, spread=0.6))
        seen = set()
        ended = [asyncio.ensure_future(read_to_end(client)) for client, _ in pairs[1:]]
        while not all(each.done() for each in ended):
            seen.add(sum(each.done() for each in ended))
            await asyncio.sleep(0.005)
        assert len(seen) >= 3
        for (client, server), each in zip(pairs[1:], ended, strict=True):
            assert each.result() == (b"", "end")
            client.close()
            server.close()
        assert not draining.done()
        # Nobody new comes in meanwhile.
        with pytest.raises(ConnectionRefusedError):
            await it.client()
        await send(busy_server, b"!")
        assert await received(busy_client, 1) == b"!"
        assert await read_to_end(busy_client) == (b"", "end")
        busy_client.close()
        busy_server.close()
        assert await draining
        assert it.closed == [CloseReason.SHUTDOWN] * 10


async def test_12_a_drain_ends_those_that_wait_too() -> None:
    async with rig(options=",max=1") as it:
        await it.exchange(*await it.pair())
        await it.client()
        await until(lambda: it.guard.pool.waiting == 1)
        assert not await it.guard.drain(0.1)
        assert set(it.closed) <= {CloseReason.DRAIN_TIMEOUT, CloseReason.SHUTDOWN}
        assert len(it.closed) == 2


async def test_12_one_that_is_told_to_finish_before_it_has_an_upstream() -> None:
    """It gets its upstream, and its answer, and no more than that."""
    clock = Clock()
    async with rig(options=",max=1") as it:
        first = await it.pair()
        client = await it.client()
        await send(client, b"?")
        await until(lambda: it.guard.pool.waiting == 1)
        *_, waiting = it.guard.connections
        waiting.finish()
        clock.advance(1)
        assert it.closed == []
        for end in first:
            end.close()
        server = await it.server()
        assert await received(server, 1) == b"?"
        clock.advance(1)
        assert waiting.close_reason is None
        await send(server, b"!")
        assert await received(client, 1) == b"!"
        await at_rest(it)
        clock.advance(0.5)
        clock.advance(0.5)
        assert await read_to_end(client) == (b"", "end")
        assert await read_to_end(server) == (b"", "end")
        it.close_ends()
        await it.over()
        assert it.closed[-1] is CloseReason.SHUTDOWN


# ---- Each reason that a guard adds


async def test_reason_upstream_closed() -> None:
    async with rig() as it:
        client, server = await it.pair()
        server.close()
        assert await read_to_end(client) == (b"", "end")
        client.close()
        await it.over_with(CloseReason.UPSTREAM_CLOSED)


async def test_reason_upstream_reset() -> None:
    async with rig() as it:
        _, server = await it.pair()
        reset(server)
        await it.over_with(CloseReason.UPSTREAM_RESET)


async def test_reason_upstream_lost() -> None:
    script = Script(recv_into=[110])  # ETIMEDOUT

    def before(guard: Guard) -> None:
        guard.make_upstream_socket = script.make_socket

    async with rig(before=before) as it:
        client, server = await it.pair()
        await send(server, b"x")
        assert (await read_to_end(client))[1] == RESET
        await it.over_with(CloseReason.UPSTREAM_LOST)


async def test_reason_no_upstream() -> None:
    async with rig(upstreams=[closed_port()], settings=UNCHECKED.replace(tries=1)) as it:
        it.try_client()
        await it.over_with(CloseReason.NO_UPSTREAM)


async def test_reason_no_upstream_of_those_that_are_drained() -> None:
    async with rig() as it:
        it.guard.pool.drain(it.upstream.name)
        it.try_client()
        await it.over_with(CloseReason.NO_UPSTREAM)
        assert it.upstream.state is UpstreamState.DRAINING


async def test_reason_no_upstream_in_time() -> None:
    clock = Clock()
    with silent_port() as silent:
        async with rig(upstreams=[silent], settings=UNCHECKED.replace(tries=1)) as it:
            client = await it.client()
            await until(lambda: len(it.guard) == 1)
            clock.advance(4.5)
            assert it.closed == []
            clock.advance(0.5 + TICK)
            assert await is_refused(client)
            await it.over_with(CloseReason.NO_UPSTREAM)


@pytest.mark.parametrize("reason", [CloseReason.QUEUE_FULL, CloseReason.QUEUE_TIMEOUT])
async def test_reasons_of_the_queue(reason: CloseReason) -> None:
    clock = Clock()
    settings = UNCHECKED.replace(queue=0 if reason is CloseReason.QUEUE_FULL else 1)
    async with rig(options=",max=1", settings=settings) as it:
        await it.pair()
        late = it.try_client()
        if reason is CloseReason.QUEUE_TIMEOUT:
            await until(lambda: it.guard.pool.waiting)
            clock.advance(10 + TICK)
        assert (await read_to_end(late))[1] == RESET
        assert it.closed == [reason]
        assert it.guard.pool.waiting == 0


async def test_reason_upstream_tls(secrets: Secrets) -> None:
    async with rig(upstream_tls=secrets.client) as it:
        client, server = await it.pair()
        await send(server, b"220 plain\r\n")
        assert await is_refused(client)
        await it.over_with(CloseReason.UPSTREAM_TLS)
        assert it.upstream.failed == 1


async def test_reason_untrusted_source() -> None:
    settings = UNCHECKED.replace(accept_proxy=("127.0.0.2",))
    async with rig(settings=settings) as it:
        assert (await read_to_end(it.try_client()))[1] == RESET
        assert it.refused == [CloseReason.UNTRUSTED_SOURCE]
        assert it.guard.counters.refused[CloseReason.UNTRUSTED_SOURCE] == 1


@pytest.mark.parametrize("settings", [NAMED, UNCHECKED.replace(sni="on")], ids=["proxy", "name"])
@pytest.mark.parametrize("reason", [CloseReason.BAD_PREAMBLE, CloseReason.PREAMBLE_TIMEOUT])
async def test_reasons_of_the_preamble(settings: GuardSettings, reason: CloseReason) -> None:
    clock = Clock()
    async with rig(settings=settings) as it:
        client = await it.client()
        if reason is CloseReason.BAD_PREAMBLE:
            await send(client, b"GET / HTTP/1.1\r\n\r\n")
        else:
            await until(it.left_on_the_reactor)
            clock.advance(10 + TICK)
        assert await is_refused(client)
        assert [*it.refused, *it.closed] == [reason]
        assert it.upstream.connected == 0


async def test_reason_unknown_name() -> None:
    settings = UNCHECKED.replace(sni="on")
    async with rig(options=",sni=a.example", settings=settings) as it:
        client = await it.client()
        await send(client, greeting("b.example"))
        assert await is_refused(client)
        await it.over_with(CloseReason.UNKNOWN_NAME)
        known = await it.client()
        await send(known, greeting("A.example"))
        await it.server()


async def test_reason_of_tls_with_clients(secrets: Secrets) -> None:
    clock = Clock()
    async with rig(tls=secrets.server) as it:
        mute = await it.client()
        await until(lambda: len(it.guard) == 1)
        clock.advance(10 + TICK)
        assert await is_refused(mute)
        rude = await it.client()
        await send(rude, b"\x16\x03\x01\x00\x05hello")
        await read_to_end(rude)
        await until(lambda: len(it.closed) == 2)
        assert it.closed == [CloseReason.HANDSHAKE_TIMEOUT, CloseReason.TLS_ERROR]
        async with await Peer.connect(it.address, secrets.client) as honest:
            await honest.send(b"hello")
            assert await received(await it.server(), 5) == b"hello"
