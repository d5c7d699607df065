"""Fifteen thousand connections at once. Only on request: `pytest tests/many`, `make test-many`."""

from __future__ import annotations

import resource

import pytest

from support.clock import TICK, Clock
from support.crowd import crowd
from support.hooks import echo, eventually
from support.transports import Place
from tieline import CloseReason, Limits, Line

COUNT = 15_000


@pytest.mark.timeout(600)
@pytest.mark.patience(500)
@pytest.mark.parametrize("kind", ["conversation", "responder"])
async def test_fifteen_thousand_are_held_and_answered(plain: Place, kind: str) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < COUNT + 100:
        pytest.skip("this machine does not allow a process that many descriptors")
    limits = Limits(per_client=1000, total=COUNT)
    async with plain.serve(echo(kind), framing=Line(), limits=limits) as server:
        async with crowd(server.addresses[0].port, COUNT) as clients:
            for _ in range(3):
                assert await clients.obey("talk") == "done"
            assert len(server) == server.admission.total == COUNT
            assert await clients.obey("leave") == "done"
            await eventually(lambda: len(server) == 0)
    assert server.counters.closed == {CloseReason.PEER_CLOSED: COUNT}
    assert server.counters.messages_received == 3 * COUNT


@pytest.mark.timeout(600)
@pytest.mark.patience(500)
async def test_fifteen_thousand_that_fall_silent_are_closed(plain: Place) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < COUNT + 100:
        pytest.skip("this machine does not allow a process that many descriptors")
    clock = Clock()
    limits = Limits(per_client=1000, total=COUNT, idle=60)
    async with plain.serve(echo("conversation"), framing=Line(), limits=limits) as server:
        async with crowd(server.addresses[0].port, COUNT) as clients:
            assert await clients.obey("talk") == "done"
            clock.advance(59)
            assert len(server) == COUNT
            clock.advance(1 + TICK)
            assert len(server) == 0
            assert await clients.obey("listen") == "done"
    assert server.counters.closed == {CloseReason.IDLE_TIMEOUT: COUNT}
