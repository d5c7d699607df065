"""Thousands of connections at once: everyone is served, and nothing is left of them."""

from __future__ import annotations

import asyncio
import gc
import itertools

import pytest

from support.clock import TICK, Clock
from support.crowd import crowd
from support.hooks import Watch, echo, eventually
from support.transports import Place
from tieline import CloseReason, Limits, Line

#: Patience is for slow and busy machines; a second or two each is usual.
pytestmark = pytest.mark.patience(100)

COUNT = 5_000


@pytest.mark.parametrize("kind", ["conversation", "responder"])
async def test_five_thousand_are_answered_each_with_its_own(plain: Place, kind: str) -> None:
    watch = Watch()
    limits = Limits(per_client=1000, total=COUNT)
    async with plain.serve(echo(kind), framing=Line(), limits=limits, **watch.hooks) as server:
        async with crowd(server.addresses[0].port, COUNT) as clients:
            assert await clients.obey("talk") == "done"
            assert len(server) == server.admission.total == COUNT
            assert len(server.admission.clients) == 5
            assert await clients.obey("talk") == "done"
            assert await clients.obey("leave") == "done"
            await eventually(lambda: len(server) == 0)
    assert server.counters.accepted == COUNT
    assert server.counters.closed == {CloseReason.PEER_CLOSED: COUNT}
    assert server.counters.messages_sent == 2 * COUNT
    assert server.admission.clients == {}


async def test_five_thousand_that_fall_silent_are_closed_and_the_loop_goes_on(
    plain: Place,
) -> None:
    clock = Clock()
    limits = Limits(per_client=1000, idle=60)
    async with plain.serve(echo("conversation"), framing=Line(), limits=limits) as server:
        async with crowd(server.addresses[0].port, COUNT) as clients:
            assert await clients.obey("talk") == "done"
            # Nobody is early.
            clock.advance(59)
            assert len(server) == COUNT
            clock.time += 1 + TICK
            sizes = [len(server)]

            async def look() -> None:
                while sizes[-1]:
                    await asyncio.sleep(0)
                    sizes.append(len(server))

            looking = asyncio.create_task(look())
            clock.expire_once()
            async with asyncio.timeout(90):
                await looking
            # Between two rounds of the loop a bounded number ends: everybody else is served.
            assert max(a - b for a, b in itertools.pairwise(sizes)) <= 256
            assert await clients.obey("listen") == "done"
    assert server.counters.closed == {CloseReason.IDLE_TIMEOUT: COUNT}


async def test_a_server_that_is_closed_resets_five_thousand_at_once(plain: Place) -> None:
    limits = Limits(per_client=1000)
    async with plain.serve(echo("conversation"), framing=Line(), limits=limits) as server:
        async with crowd(server.addresses[0].port, COUNT) as clients:
            assert await clients.obey("talk") == "done"
            await server.close()
            assert len(server) == 0
    assert server.counters.closed == {CloseReason.SHUTDOWN: COUNT}


async def test_draining_five_thousand_idle_ones_closes_them_all(plain: Place) -> None:
    limits = Limits(per_client=1000)
    async with plain.serve(echo("conversation"), framing=Line(), limits=limits) as server:
        async with crowd(server.addresses[0].port, COUNT) as clients:
            assert await clients.obey("talk") == "done"
            draining = asyncio.create_task(server.drain(30))
            assert await clients.obey("listen") == "done"
            assert await draining
    assert server.counters.closed == {CloseReason.SHUTDOWN: COUNT}


async def test_connections_that_have_ended_leave_no_garbage(plain: Place) -> None:
    """Each is freed by its last reference; a server needs no collector to stay small."""
    for kind in ("conversation", "responder"):
        watch = Watch()
        async with plain.serve(echo(kind), framing=Line(), on_close=watch.on_close) as server:
            address = server.addresses[0]
            assert await plain.ask(server, b"x", framing=Line()) == b"x"
            await watch.next_close()
            gc.collect()
            gc.disable()
            try:
                for turn in range(3):
                    peer = await plain.peer(server)
                    await peer.send(b"hello\n")
                    await peer.receive_line()
                    if turn:
                        await peer.end()
                    else:
                        peer.reset()
                    await watch.next_close()
                    peer.close()
                watch.closed.clear()
                await asyncio.sleep(0)
                found = [
                    thing
                    for thing in _uncollected()
                    if type(thing).__module__.startswith("tieline")
                ]
                assert found == []
            finally:
                gc.enable()
            assert address == server.addresses[0]


def _uncollected() -> list[object]:
    """What only the collector would free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
