"""Clients that mean harm, many of them, from many addresses at once: those that do not are
answered throughout, and each attacker ends for the right reason.

Real time passes here, a fraction of a second each; nothing depends on how much.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from support.hooks import echo, eventually
from support.kernel import kernel_state
from support.peers import Peer
from support.transports import Place
from tieline import CloseReason, Connection, Limits, Line, Server

#: Attackers, each an address of its own, and polite clients, each too.
ATTACKERS = 60
POLITE = 12

ROOM: dict[str, Any] = {"max_owed": 1 << 26, "idle": 60, "first_byte": 60, "message": 60}


def _machine(network: int, number: int) -> str:
    """The address of one of many machines of a network of ours."""
    return f"127.{network}.{number // 200}.{number % 200 + 1}"


def _attacker(number: int) -> str:
    return _machine(66, number)


async def _ask(peer: Peer, question: bytes) -> None:
    await peer.send(question + b"\n")
    assert await peer.receive_line() == question + b"\n"


@asynccontextmanager
async def _polite_clients(place: Place, server: Server) -> AsyncIterator[Counter[int]]:
    """Some that hold a connection and talk, and as many that come and go. Counts their answers;
    fails if one of them is let down."""
    answered: Counter[int] = Counter()
    over = asyncio.Event()

    async def stay(number: int) -> None:
        async with await place.peer(server, source=_machine(7, number)) as peer:
            while not over.is_set():
                await _ask(peer, b"%d" % number)
                answered[number] += 1
                await asyncio.sleep(0.001)

    async def come_and_go(number: int) -> None:
        while not over.is_set():
            async with await place.peer(server, source=_machine(7, number)) as peer:
                await _ask(peer, b"%d" % number)
                answered[number] += 1
                await peer.end()
                assert await peer.receive_all() == b""
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        for number in range(POLITE):
            group.create_task(stay(number) if number % 2 else come_and_go(number))
        try:
            await eventually(lambda: len(answered) == POLITE)
            answered.clear()
            yield answered
            # Each of them was served meanwhile, and is still.
            before = answered.copy()
            await eventually(lambda: all(answered[n] > before[n] for n in range(POLITE)))
        finally:
            over.set()


async def _attack(
    place: Place, server: Server, attack: Callable[[Peer], Awaitable[None]], **options: Any
) -> None:
    """All attackers at once, until the server has ended each of them."""

    async def one(number: int) -> None:
        try:
            async with await place.peer(server, source=_attacker(number), **options) as peer:
                await attack(peer)
        except (ConnectionError, EOFError):
            pass  # as it should be

    async with asyncio.TaskGroup() as group:
        for number in range(ATTACKERS):
            group.create_task(one(number))


def _ends(server: Server) -> dict[CloseReason, int]:
    """How connections ended, but for those whose peers left in good order."""
    return {
        reason: count
        for reason, count in server.counters.closed.items()
        if reason is not CloseReason.PEER_CLOSED
    }


async def _drip(peer: Peer) -> None:
    """A message that never ends, byte by byte."""
    while True:
        await peer.send(b"x")
        await asyncio.sleep(0.02)


async def _wait_for_the_end(peer: Peer) -> None:
    await peer.receive_all()


# ---- Slow


async def test_slowloris(tcp_place: Place) -> None:
    """Messages that are begun and never ended, kept alive by a byte now and then."""
    limits = Limits(**{**ROOM, "message": 0.3, "min_receive_rate": None})
    async with tcp_place.serve(echo("conversation"), framing=Line(), limits=limits) as server:
        async with _polite_clients(tcp_place, server):
            await _attack(tcp_place, server, _drip)
            assert _ends(server) == {CloseReason.MESSAGE_TIMEOUT: ATTACKERS}


async def test_a_drip(plain: Place) -> None:
    """The same, where only the rate is watched."""
    limits = Limits(**ROOM, min_receive_rate=1_000, rate_grace=0.2)
    async with plain.serve(echo("conversation"), framing=Line(), limits=limits) as server:
        async with _polite_clients(plain, server):
            await _attack(plain, server, _drip)
            assert _ends(server) == {CloseReason.SLOW_SENDER: ATTACKERS}


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"write_stall": 0.2, "min_send_rate": None}, CloseReason.WRITE_STALL),
        ({"write_stall": None, "rate_grace": 0.2}, CloseReason.SLOW_READER),
    ],
    ids=str,
)
async def test_never_reading(plain: Place, limit: dict[str, Any], reason: CloseReason) -> None:
    """They ask for much and take none of it: they are gone, from the kernel too."""
    much = b"x" * 8_000_000

    async def answer(connection: Connection) -> None:
        async for message in connection:
            await connection.send(much if message == b"all of it" else message)

    limits = Limits(**ROOM, **limit)
    async with plain.serve(answer, framing=Line(), limits=limits) as server:
        async with _polite_clients(plain, server), AsyncExitStack() as stack:
            attackers = []
            for number in range(8):
                peer = await plain.peer(server, source=_attacker(number), receive_buffer=4096)
                attackers.append(await stack.enter_async_context(peer))
                await peer.send(b"all of it\n")
            await eventually(lambda: server.counters.closed[reason] == 8)
            assert _ends(server) == {reason: 8}
            for peer in attackers:
                assert kernel_state(server, peer) == ""
                assert await peer.is_reset()


async def test_asking_on_and_on_without_reading(plain: Place) -> None:
    """Each question costs the server an answer; what it holds for one client is bounded."""
    most = 0

    def answer(connection: Connection, message: bytes) -> bytes:
        nonlocal most
        most = max(most, connection.owed)
        return message

    async def ask_on(peer: Peer) -> None:
        questions = (b"x" * 999 + b"\n") * 1_000
        while True:
            await peer.send(questions)

    limits = Limits(**{**ROOM, "max_owed": 1_000_000}, write_stall=0.3)
    async with plain.serve(answer, framing=Line(), limits=limits) as server:
        async with _polite_clients(plain, server):
            async with asyncio.TaskGroup() as group:

                async def one(number: int) -> None:
                    source = _attacker(number)
                    with contextlib.suppress(ConnectionError):
                        async with await plain.peer(server, source=source) as peer:
                            await ask_on(peer)

                for number in range(2):
                    group.create_task(one(number))
            assert set(_ends(server)) <= {CloseReason.WRITE_STALL, CloseReason.SLOW_READER}
            assert sum(_ends(server).values()) == 2
    assert most <= 1_200_000


# ---- Silent


async def test_connections_that_say_nothing(plain: Place) -> None:
    limits = Limits(**{**ROOM, "first_byte": 0.2})
    async with plain.serve(echo("responder"), framing=Line(), limits=limits) as server:
        async with _polite_clients(plain, server):
            await _attack(plain, server, _wait_for_the_end)
            assert _ends(server) == {CloseReason.FIRST_BYTE_TIMEOUT: ATTACKERS}


async def test_handshakes_that_are_never_done(tls_place: Place) -> None:
    limits = Limits(**ROOM, handshake=0.3)
    async with tls_place.serve(echo("responder"), framing=Line(), limits=limits) as server:
        async with _polite_clients(tls_place, server):
            bare = Place(tls_place.transport, tls_place.listen)
            await _attack(bare, server, _wait_for_the_end)
            assert _ends(server) == {CloseReason.HANDSHAKE_TIMEOUT: ATTACKERS}


async def test_connections_that_are_left_half_open(plain: Place) -> None:
    """They end their side, and wait; the handler does not notice by itself."""

    async def hold(connection: Connection) -> None:
        async for message in connection:
            await connection.send(message)
            if message == b"hold":
                await connection.wait_closed()

    async def end_and_wait(peer: Peer) -> None:
        await _ask(peer, b"hold")
        await peer.end()
        await peer.receive_all()

    limits = Limits(**ROOM, half_closed=0.2)
    async with plain.serve(hold, framing=Line(), limits=limits) as server:
        async with _polite_clients(plain, server):
            await _attack(plain, server, end_and_wait)
            assert _ends(server) == {CloseReason.HALF_CLOSED_TIMEOUT: ATTACKERS}


# ---- Many


async def test_a_storm_of_connections_from_one_machine(plain: Place) -> None:
    """As fast as it can: refused at the door, while others come in."""
    limits = Limits(**ROOM, per_client_rate=200, per_client_burst=20)
    async with plain.serve(echo("responder"), framing=Line(), limits=limits) as server:
        async with _polite_clients(plain, server):
            for _ in range(300):
                with contextlib.suppress(ConnectionError):
                    async with await Peer.connect(server.addresses[0], source=_attacker(1)):
                        pass
            assert set(server.counters.refused) == {CloseReason.CLIENT_RATE}
            assert server.counters.refused[CloseReason.CLIENT_RATE] > 100


async def test_a_storm_is_penalized_and_then_refused_for_longer(plain: Place) -> None:
    limits = Limits(
        **ROOM, per_client_rate=50, per_client_burst=5, penalty_refused=1, penalty_threshold=10
    )
    async with plain.serve(echo("responder"), framing=Line(), limits=limits) as server:
        async with _polite_clients(plain, server):
            for _ in range(100):
                with contextlib.suppress(ConnectionError):
                    async with await plain.peer(server, source=_attacker(1)):
                        pass
            refused = server.counters.refused
            assert set(refused) == {CloseReason.CLIENT_RATE, CloseReason.PENALIZED}
            assert {each.key for each in server.admission.penalties()} == {_attacker(1)}


@pytest.mark.parametrize("answer", ["refuse", "evict"])
async def test_a_greedy_client_among_a_thousand_polite_ones(plain: Place, answer: str) -> None:
    """It gets its share and no more, and takes nobody's place."""
    most: Counter[str] = Counter()

    def count(connection: Connection) -> None:
        key = connection.client.key
        most[key] = max(most[key], connection.client.connections)

    limits = Limits(**ROOM, per_client=10, total=1_100, client_full=answer, evict_idle=0.001)
    server = plain.serve(echo("responder"), framing=Line(), limits=limits, on_open=count)
    async with server, AsyncExitStack() as stack:
        polite, greedy = list[Peer](), list[Peer]()
        for number in range(1_000):
            source = _machine(7, number)
            polite.append(await stack.enter_async_context(await plain.peer(server, source=source)))
            if number % 5 == 0:
                with contextlib.suppress(ConnectionError):
                    peer = await plain.peer(server, source=_attacker(1))
                    greedy.append(await stack.enter_async_context(peer))
        await eventually(lambda: len(server) == 1_010)
        await asyncio.gather(*(_ask(peer, b"hello") for peer in polite))
        assert most == {**{_machine(7, n): 1 for n in range(1_000)}, _attacker(1): 10}
        assert len(server) == 1_010
        others = server.counters.refused.total() + server.counters.closed.total()
        assert others == 190
        if answer == "refuse":
            assert server.counters.refused == {CloseReason.CLIENT_LIMIT: 190}
    assert server.admission.total == 0


async def test_a_greedy_client_that_fills_the_server_makes_room_for_others(plain: Place) -> None:
    """At the total, the idlest of those who hold most go."""
    limits = Limits(**ROOM, per_client=None, total=50, total_full="evict", evict_idle=0.001)
    async with (
        plain.serve(echo("responder"), framing=Line(), limits=limits) as server,
        AsyncExitStack() as stack,
    ):
        for _ in range(50):
            peer = await plain.peer(server, source=_attacker(1))
            await stack.enter_async_context(peer)
            await _ask(peer, b"mine")
        for number in range(30):
            peer = await plain.peer(server, source=_machine(7, number))
            await stack.enter_async_context(peer)
            await _ask(peer, b"hello")
        held = server.admission.clients
        assert held[_attacker(1)].connections <= 20
        assert all(held[_machine(7, number)].connections == 1 for number in range(30))
        assert set(server.counters.closed) == {CloseReason.EVICTED}


# ---- The count is right, whatever happens


@pytest.mark.parametrize("answer", ["refuse", "evict"])
async def test_a_cap_that_is_hammered_holds_and_loses_no_place(
    tcp_place: Place, answer: str
) -> None:
    """Hundreds come and go as they like, in good order and not, from many addresses: never one
    too many inside, and in the end none, and every place can be had."""
    cap, per_client = 40, 5
    chance = random.Random(f"{tcp_place.transport} {answer}")
    seen: list[int] = []

    def check(connection: Connection) -> None:
        seen.append(len(server))
        assert len(server) == server.admission.total <= cap
        share = server.limits.per_client
        assert share is None or connection.client.connections <= share

    limits = Limits(
        **ROOM, total=cap, per_client=per_client, client_full=answer,
        total_full="evict" if answer == "evict" else "wait", evict_idle=0.001, per_network=30,
    )  # fmt: skip
    numbers = itertools.count()
    over = asyncio.Event()

    async def hammer() -> None:
        while not over.is_set():
            source = _attacker(next(numbers) % 30)
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                async with (
                    asyncio.timeout(0.2),
                    await tcp_place.peer(server, source=source) as peer,
                ):
                    for _ in range(chance.randrange(3)):
                        await _ask(peer, b"hello")
                    match chance.randrange(5):
                        case 0:
                            peer.reset()
                        case 1:
                            await peer.send(b"half a mess")
                        case 2:
                            await peer.end()
                            await peer.receive_all()
                        case 3:
                            await asyncio.sleep(chance.random() / 100)

    server = tcp_place.serve(echo("responder"), framing=Line(), limits=limits, on_open=check)
    async with server:
        async with asyncio.TaskGroup() as group:
            for _ in range(80):
                group.create_task(hammer())
            group.create_task(_end_after(over, 0.25))
        await eventually(lambda: not len(server))
        admission = server.admission
        assert (admission.total, dict(admission.clients)) == (0, {})
        assert max(seen) <= cap
        assert len(seen) == server.counters.accepted == server.counters.closed.total()
        assert server.counters.handler_errors == 0
        async with AsyncExitStack() as stack:
            server.change_limits(per_client=None, per_network=None)
            for _ in range(cap):
                peer = await stack.enter_async_context(await tcp_place.peer(server))
                await _ask(peer, b"hello")
            assert len(server) == cap
        await eventually(lambda: not len(server))
    assert server.admission.total == 0


async def _end_after(over: asyncio.Event, seconds: float) -> None:
    await asyncio.sleep(seconds)
    over.set()
