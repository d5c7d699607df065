"""Our client and server with a bad network between them: every message arrives as it was sent, or
the end has the right name on both sides.

Each test sees that what was to go wrong has gone wrong.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

import tieline
from support.clock import TICK, Clock
from support.hooks import Watch, echo, eventually
from support.transports import Place
from tieline import CloseReason, Connection, Delimiter, LengthPrefix, Limits, Line, Server
from tieline.framing import Framing
from tieline.testing import (
    BlackHole,
    Cut,
    Delay,
    Fault,
    FaultRelay,
    Rate,
    Reset,
    Slice,
    SlowClose,
    Stall,
    blocking,
)

WORDS = ["你好", "", "一二三四五六七八九十" * 20, "hello", "𠮷野家", "é" * 300]


@asynccontextmanager
async def through_a_relay(
    place: Place, handler: Any, **options: Any
) -> AsyncIterator[tuple[Server, FaultRelay]]:
    """A server of ours, and a relay before it."""
    async with place.serve(handler, **options) as server:
        async with FaultRelay(server.addresses[0]) as relay:
            yield server, relay


def _connect(place: Place, relay: FaultRelay, **options: Any) -> Any:
    """A client of ours, to the relay."""
    return tieline.connect(relay.address, tls=place.client_tls, **options)


# ---- Messages


@pytest.mark.parametrize(
    "faults",
    [
        [Slice(1)],
        [Slice(3, pause=0.0001)],
        [Delay(0.003, jitter=0.003), Slice(50)],
        [Rate(300_000)],
    ],
    ids=lambda faults: "+".join(fault.name for fault in faults),
)
@pytest.mark.parametrize("framing", [Line(), Delimiter("\0"), LengthPrefix(2)], ids=repr)
async def test_messages_arrive_as_they_were_sent(
    tcp_place: Place, kind: str, framing: Framing, faults: list[Fault]
) -> None:
    encoding = "utf-8" if isinstance(framing, LengthPrefix) else "gb18030"
    talk: dict[str, Any] = {"framing": framing, "encoding": encoding}
    async with through_a_relay(tcp_place, echo(kind), **talk) as (_, relay):
        for fault in faults:
            relay.add(fault)
        async with _connect(tcp_place, relay, **talk) as connection:
            for word in WORDS:
                await connection.send(word)
            assert [await connection.receive() for _ in WORDS] == WORDS
        for fault in faults:
            relay.assert_happened(fault)
        await eventually(lambda: not relay.connections)


async def test_a_network_that_changes_all_the_time(plain: Place, kind: str) -> None:
    dice = random.Random(11)
    async with through_a_relay(plain, echo(kind), framing=Line()) as (_, relay):
        async with _connect(plain, relay, framing=Line()) as connection:
            for number in range(200):
                relay.remove_all()
                relay.add(
                    dice.choice([
                        Slice(dice.randint(1, 9)), Delay(0.001, jitter=0.001), Rate(1e6),
                    ]),
                    direction=dice.choice(["up", "down", "both"]),
                )  # fmt: skip
                message = b"%d " % number * dice.randint(1, 100)
                await connection.send(message)
                assert await connection.receive() == message
        assert len(relay.happened) == 3


# ---- Ends


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_reset_in_the_middle_of_a_message(plain: Place, kind: str, direction: Any) -> None:
    watch = Watch()
    async with through_a_relay(plain, echo(kind), framing=Line(), **watch.hooks) as (_, relay):
        relay.add(Reset(after=8), direction=direction)
        async with _connect(plain, relay, framing=Line()) as connection:
            await connection.send(b"hello")
            assert await connection.receive() == b"hello"
            await connection.send(b"hello again")
            with pytest.raises(tieline.ConnectionClosedError):
                await connection.receive()
            assert connection.close_reason is CloseReason.PEER_RESET
        assert await watch.next_close() is CloseReason.PEER_RESET
        relay.assert_happened("reset")


async def test_a_cut_in_the_middle_of_a_question_truncates_it(plain: Place, kind: str) -> None:
    watch = Watch()
    async with through_a_relay(plain, echo(kind), framing=Line(), **watch.hooks) as (_, relay):
        cut = relay.add(Cut(after=8), direction="up")
        async with _connect(plain, relay, framing=Line()) as connection:
            await connection.send(b"hello")
            await connection.send(b"hello again")
            assert await connection.receive() == b"hello"
            assert await watch.next_close() is CloseReason.TRUNCATED
        relay.assert_happened(cut)


async def test_a_cut_in_the_middle_of_an_answer_truncates_it(plain: Place, kind: str) -> None:
    async with through_a_relay(plain, echo(kind), framing=Line()) as (_, relay):
        cut = relay.add(Cut(after=8), direction="down")
        async with _connect(plain, relay, framing=Line()) as connection:
            await connection.send(b"hello")
            await connection.send(b"hello again")
            assert await connection.receive() == b"hello"
            with pytest.raises(tieline.TruncatedError):
                await connection.receive()
        relay.assert_happened(cut)


async def test_short_connections_some_of_which_are_reset(plain: Place, kind: str) -> None:
    """Those that are not get their answer; the server counts the others, and loses no place."""
    watch = Watch()
    async with through_a_relay(plain, echo(kind), framing=Line(), **watch.hooks) as found:
        server, relay = found
        relay.add(Reset(after=3, probability=0.4))
        relay.add(Slice(2))
        answered = 0
        for _ in range(40):
            with suppress(tieline.ConnectionClosedError):
                answered += await tieline.ask(relay.address, b"hello", framing=Line()) == b"hello"
        assert relay.happened["reset"] == 40 - answered
        assert 0 < answered < 40
        await eventually(lambda: len(server) == 0 and not relay.connections)
        assert sum(server.counters.closed.values()) == 40


async def test_a_peer_whose_end_comes_late_is_waited_for(plain: Place) -> None:
    async with through_a_relay(plain, echo("responder"), framing=Line()) as (_, relay):
        slow = relay.add(SlowClose(0.02), direction="down")
        connection = await _connect(plain, relay, framing=Line())
        connection.close()
        await connection.wait_closed()
        assert connection.close_reason is CloseReason.CLOSED
        relay.assert_happened(slow)


# ---- Silence


async def test_a_client_whose_network_is_gone_is_idle(plain: Place, kind: str) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(idle=30)
    talk: dict[str, Any] = {"framing": Line(), "limits": limits, **watch.hooks}
    async with through_a_relay(plain, echo(kind), **talk) as (_, relay):
        async with _connect(plain, relay, framing=Line()) as connection:
            await connection.send(b"hello")
            assert await connection.receive() == b"hello"
            hole = relay.add(BlackHole())
            await connection.send(b"anybody?")
            await relay.wait_happened(hole)
            clock.advance(30 + TICK)
            assert await watch.next_close() is CloseReason.IDLE_TIMEOUT
            assert connection.close_reason is None
            relay.remove_all()
            with pytest.raises(tieline.EndOfStreamError):
                await connection.receive()


async def test_a_client_that_takes_nothing_is_a_write_stall(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(
        idle=None, first_byte=None, write_stall=30, min_send_rate=None, max_owed=1 << 26
    )
    hooks = watch.hooks
    async with through_a_relay(plain, echo("conversation"), limits=limits, **hooks) as (_, relay):
        stall = relay.add(Stall(), direction="down")
        async with _connect(plain, relay) as connection:
            served = await watch.next_open()
            # More than any kernel takes.
            served.send(bytes(20_000_000))
            await relay.wait_happened(stall)
            await _comes_to_rest(served)
            assert served.owed
            # Second by second: a server looks again and again what the kernel got rid of.
            for second in range(32):
                assert second > 28 or not watch.closed
                clock.advance(1)
            assert await watch.next_close() is CloseReason.WRITE_STALL
            relay.remove_all()
            with pytest.raises(tieline.ConnectionClosedError):
                while True:
                    await connection.receive()
            assert connection.close_reason is CloseReason.PEER_RESET


async def _comes_to_rest(connection: Connection) -> None:
    before = -1
    while before < (before := connection.bytes_sent):
        for _ in range(50):
            await asyncio.sleep(0)


async def test_a_server_that_is_not_there_for_a_while(plain: Place) -> None:
    async with through_a_relay(plain, echo("responder"), framing=Line()) as (_, relay):
        relay.refuse_newcomers()
        with pytest.raises(tieline.ConnectError):
            await tieline.ask(relay.address, b"hello", framing=Line())
        relay.ignore_newcomers()
        with pytest.raises(tieline.DeadlineError):
            await tieline.ask(relay.address, b"hello", framing=Line(), timeout=0.02)
        relay.accept_newcomers()
        assert await tieline.ask(relay.address, b"hello", framing=Line()) == b"hello"


async def test_tls_that_is_cut_off_in_its_handshake(tls_place: Place) -> None:
    async with through_a_relay(tls_place, echo("responder")) as (server, relay):
        for after in (0, 1, 100, 600):
            reset = relay.add(Reset(after=after))
            with pytest.raises((tieline.TlsError, tieline.ConnectionClosedError)):
                await _connect(tls_place, relay)
            relay.assert_happened(reset)
            relay.remove(reset)
        assert await tieline.ask(relay.address, b"hello", tls=tls_place.client_tls) == b"hello"
        await eventually(lambda: len(server) == 0)


# ---- Others


def test_the_blocking_client(plain: Place) -> None:
    """Through a relay on a thread of its own, to a server on another."""
    ready, stop = threading.Event(), threading.Event()
    found: list[tieline.Address] = []

    async def serve() -> None:
        async with plain.serve(echo("responder"), framing=Line()) as server:
            found.append(server.addresses[0])
            ready.set()
            await asyncio.get_running_loop().run_in_executor(None, stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        with blocking.FaultRelay(found[0]) as relay:
            relay.add(Slice(1))
            with tieline.blocking.connect(relay.address, framing=Line()) as connection:
                connection.send(b"hello")
                assert connection.receive() == b"hello"
                relay.assert_happened("slice", 10)
                stall = relay.add(Stall(), direction="down")
                connection.send(b"anybody?")
                with pytest.raises(tieline.DeadlineError):
                    connection.receive(timeout=0.01)
                relay.assert_happened(stall, within=10)
                relay.remove(stall)
                assert connection.receive() == b"anybody?"
                relay.reset_all()
                with pytest.raises(tieline.ConnectionClosedError):
                    connection.receive()
                assert connection.close_reason is CloseReason.PEER_RESET
    finally:
        stop.set()
        thread.join()


@pytest.mark.skipif(not shutil.which("ncat"), reason="ncat is not installed")
async def test_ncat_whose_lines_come_in_pieces(kind: str) -> None:
    """A foreign program: it ends its side, and is answered all the same."""
    watch = Watch()
    async with tieline.serve(echo(kind), "127.0.0.1:0", framing=Line(), **watch.hooks) as server:
        async with FaultRelay(server.addresses[0]) as relay:
            relay.add(Slice(2))
            relay.add(Delay(0.005))
            process = await asyncio.create_subprocess_exec(
                "ncat", "127.0.0.1", str(relay.address.port),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            output, _ = await process.communicate(b"one\ntwo\nthree\n")
            assert output == b"one\ntwo\nthree\n"
            assert await watch.next_close() is CloseReason.PEER_CLOSED
            relay.assert_happened("slice", 6)
            relay.assert_happened("delay")
    for _ in range(5):
        await asyncio.sleep(0)
