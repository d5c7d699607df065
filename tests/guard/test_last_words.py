"""What came before a reset still arrives: where the end of the other side meets it, and where the
other side takes its time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from guard.relayed import RESET, read_to_end, reset, session
from guard.rig import received, rig, send, until
from support.clock import Clock
from tieline import CloseReason, Limits
from tieline.guard.leg import Leg

#: Only `closing` can end who takes nothing.
LENIENT = Limits(closing=5, write_stall=None, min_send_rate=None, idle=None, first_byte=None)

_ASKED = b"x" * 20_000


@pytest.mark.parametrize("first", ["end", "reset"])
async def test_the_last_reply_to_a_client_that_has_ended_its_stream(first: str) -> None:
    """It ends its stream, as `nc -N` does, while the service answers and closes unread input."""
    async with session() as it:
        await it.exchange()
        await asyncio.get_running_loop().sock_sendall(it.client, _ASKED)
        while it.leg.bytes_received < len(_ASKED) + 3:
            await asyncio.sleep(0.001)

        def end() -> None:
            it.client.shutdown(socket.SHUT_WR)

        def cut_off() -> None:
            it.server.send(b"the last reply")
            it.server.close()  # with 20,000 bytes unread

        in_order(end, cut_off, first)
        assert await read_to_end(it.client) == (b"the last reply", RESET)
        assert await it.over() is CloseReason.UPSTREAM_RESET


@pytest.mark.parametrize("first", ["end", "reset"])
async def test_the_last_words_to_a_service_that_has_ended_its_stream(first: str) -> None:
    """The same the other way round."""
    async with session() as it:
        await it.exchange()
        await asyncio.get_running_loop().sock_sendall(it.server, _ASKED)
        while it.leg.bytes_sent < len(_ASKED) + 6:
            await asyncio.sleep(0.001)

        def end() -> None:
            it.server.shutdown(socket.SHUT_WR)

        def cut_off() -> None:
            it.client.send(b"the last words")
            it.client.close()

        in_order(end, cut_off, first)
        assert await read_to_end(it.server) == (b"the last words", RESET)
        assert await it.over() is CloseReason.PEER_RESET


# ---- Somebody who takes nothing


@pytest.mark.parametrize("gone", ["client", "upstream"])
async def test_a_reset_waits_for_who_takes_nothing_no_longer_than_closing(gone: str) -> None:
    """Its session does not hold the place until the other's own clock strikes."""
    clock = Clock()
    async with rig(limits=LENIENT) as it:
        ends = await it.pair()
        broken, other = it.leg, it.upstream_leg
        if gone == "upstream":
            ends, broken, other = ends[::-1], other, broken  # type: ignore[assignment]
        async with filling(ends[0], other):
            # It has taken nothing for long when the reset comes.
            for _ in range(20):
                clock.advance(1)
        reset(ends[0])
        await until(lambda: broken._broken is not None)
        clock.advance(4.5)
        assert it.closed == []
        clock.advance(1)
        assert broken.close_reason is not None
        assert other.close_reason is not None
        reset_by_peer = gone == "client"
        reason = CloseReason.PEER_RESET if reset_by_peer else CloseReason.UPSTREAM_RESET
        assert it.closed == [reason]
        assert (await read_to_end(ends[1]))[1] == RESET
        await it.over()


@pytest.mark.parametrize("gone", ["client", "upstream"])
async def test_a_reset_waits_for_who_is_slow(gone: str) -> None:
    """As long as it takes some now and then, it gets all of what came before."""
    clock = Clock()
    async with rig(limits=LENIENT) as it:
        ends = await it.pair()
        broken, other = it.leg, it.upstream_leg
        if gone == "upstream":
            ends, broken, other = ends[::-1], other, broken  # type: ignore[assignment]
        async with filling(ends[0], other):
            pass
        came = broken.bytes_received
        reset(ends[0])
        await until(lambda: broken._broken is not None)
        got = 0
        while other.owed:
            taken = other._carried() - other._unconfirmed()
            while other.owed and other._carried() - other._unconfirmed() == taken:
                got += len(await received(ends[1], 50_000))
                await asyncio.sleep(0)
            for _ in range(4):
                clock.advance(1)
        rest, end = await read_to_end(ends[1])
        assert end == RESET
        assert got + len(rest) == broken.bytes_received >= came
        await it.over()


@contextlib.asynccontextmanager
async def filling(sender: socket.socket, other: Leg) -> AsyncIterator[None]:
    """Somebody sends, and nobody takes it, until the guard is owed room."""
    sending = asyncio.ensure_future(send(sender, bytes(1 << 25)))
    await until(lambda: other.owed)
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


def in_order(end: Callable[[], None], cut_off: Callable[[], None], first: str) -> None:
    """Both of them before the guard looks again."""
    for each in (end, cut_off) if first == "end" else (cut_off, end):
        each()
