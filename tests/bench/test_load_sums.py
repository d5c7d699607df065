"""What a load has counted, beside what its server has seen and what was due."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import time
from itertools import count
from typing import Any

import pytest

import tieline
from bench.attackers import echo, load, silence, watched
from bench.servers import Bare
from tieline.bench import Ending, Mode, Plan
from tieline.bench.messages import Constant
from tieline.bench.open_loop import OpenLoop
from tieline.bench.progress import Phase
from tieline.bench.recording import Piece
from tieline.bench.result import KernelView
from tieline.bench.running import _shares
from tieline.bench.snapshots import Gathering, Last, Snapshot

# ---- Counts: the load's and the server's


@pytest.mark.parametrize(
    "options",
    [
        {}, {"pipeline": 7}, {"mode": Mode.SHORT}, {"mode": Mode.MIXED}, {"exchanges": 3},
        {"exchanges": 3, "pipeline": 2}, {"connections": 150}, {"connections": 150, "pipeline": 3},
    ],
    ids=str,
)  # fmt: skip
async def test_both_sides_count_the_same(options: dict[str, Any]) -> None:
    async with watched(echo) as (address, seen):
        result = await load(address, **{"connections": 7, "count": 101, **options})
        # A connection is made by the kernel, whether or not it has been accepted by now.
        await seen.has_accepted(result.opened)
    assert (result.exchanges, result.failed) == (seen.messages, 0) == (101, 0)
    assert result.bytes_sent == result.bytes_received == seen.size
    assert result.opened == result.connecting.count == seen.connections


async def test_bytes_of_answers_that_come_apart() -> None:
    async def halves(peer: Bare, line: bytes, number: int) -> None:
        await peer.send(line[:2])
        await peer.send(line[2:])

    async with watched(halves) as (address, seen):
        result = await load(address, pipeline=8, count=100)
    assert (result.exchanges, result.bytes_sent, seen.size) == (100, 500, 500)


@pytest.mark.parametrize("options", [{}, {"pipeline": 4}], ids=str)
async def test_bytes_of_an_open_loop(options: dict[str, Any]) -> None:
    async with watched(echo) as (address, seen):
        result = await load(address, rate=1000.0, duration=0.2, connections=2, **options)
    assert result.exchanges == seen.messages == 200
    assert result.bytes_sent == result.bytes_received == seen.size


@pytest.mark.one_loop
async def test_what_is_late_in_an_open_loop_is_in_every_sum() -> None:
    async def slow(peer: Bare, line: bytes, number: int) -> None:
        await asyncio.sleep(0.1)
        await peer.send(line)

    async with watched(slow) as (address, seen):
        result = await load(
            address, mode=Mode.SHORT, rate=100.0, duration=0.3, connections=40, reply_timeout=2.0
        )
    assert result.exchanges == seen.messages == 30
    assert result.opened == result.connecting.count == 30
    assert result.bytes_sent == result.bytes_received == 150


@pytest.mark.one_loop
async def test_wrong_answers_have_been_sent_too() -> None:
    async def wrong(peer: Bare, line: bytes, number: int) -> None:
        await peer.send(b"pong\n")

    async with watched(wrong) as (address, seen):
        for pipeline in (1, 4):
            before = seen.size
            result = await load(address, pipeline=pipeline, count=8)
            assert result.failures == {"wrong_answer": 8}
            assert result.bytes_sent == seen.size - before


@pytest.mark.parametrize(("number", "processes"), [(1, 4), (3, 4), (5, 4), (100, 3)])
def test_processes_divide_a_count_exactly_or_not_at_all(number: int, processes: int) -> None:
    try:
        plan = Plan(
            address=tieline.Address("127.0.0.1", 1), messages=Constant(b"a"), connections=8,
            count=number, duration=None, processes=processes,
        )  # fmt: skip
    except tieline.UsageError:
        assert number < processes
        return
    shares = _shares(plan, (socket.AF_INET, ("127.0.0.1", 1)))
    assert sum(share.plan.count or 0 for share in shares) == number


def test_processes_divide_the_places_of_a_mixture_as_one_would() -> None:
    plan = Plan(
        address=tieline.Address("127.0.0.1", 1), messages=Constant(b"a"), connections=20,
        mode=Mode.MIXED, short_share=0.1, processes=4,
    )  # fmt: skip
    shares = [share.plan for share in _shares(plan, (socket.AF_INET, ("127.0.0.1", 1)))]
    assert sum(each.short_places for each in shares) == plan.short_places == 2


# ---- Warm-up


@pytest.mark.one_loop
async def test_an_open_loop_counts_what_was_due_after_its_warm_up() -> None:
    async def slow(peer: Bare, line: bytes, number: int) -> None:
        await asyncio.sleep(0.02)
        await peer.send(line)

    async with watched(slow) as (address, _):
        # It falls behind in the warm-up: what is overdue then is not measured.
        result = await load(
            address, rate=100.0, warmup=0.3, count=20, reply_timeout=2.0, connections=1
        )
    assert result.exchanges == result.exchange.count == 20


@pytest.mark.parametrize("options", [{"ramp": 0.2}, {"warmup": 0.2}], ids=str)
async def test_an_open_loop_loses_nothing_where_its_measuring_begins(
    options: dict[str, Any],
) -> None:
    async with watched(echo) as (address, _):
        result = await load(address, rate=1000.0, duration=0.2, connections=4, **options)
    assert (result.exchanges, result.lateness.count, result.failures) == (200, 200, {})


@pytest.mark.one_loop
async def test_a_count_after_a_warm_up_of_connections_that_the_server_ends() -> None:
    async def one(peer: Bare, line: bytes, number: int) -> bool:
        await peer.send(line)
        await asyncio.sleep(0.02)
        return False

    async with watched(one) as (address, _):
        result = await load(
            address, mode=Mode.SHORT, ending=Ending.SERVER, warmup=0.1, count=40, connections=16
        )
    assert result.exchanges == 40


@pytest.mark.one_loop
async def test_short_connections_of_a_mixture_are_warmed_up_too() -> None:
    async with watched(echo) as (address, _):
        result = await load(address, mode=Mode.MIXED, connections=4, warmup=0.2, count=100)
    short = result.parts["short"]
    assert result.exchanges == 100
    # One may be under way when the measuring begins, for each place.
    assert abs(short.opened - short.exchanges) <= 2


# ---- An open loop


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("rate", "duration"), [(100.0, 0.15), (1000.0, 0.15), (333.0, 0.1), (1000.0, 0.3), (700.0, 0.2)]
)
async def test_an_open_loop_has_no_instant_too_many(rate: float, duration: float) -> None:
    async with watched(echo) as (address, seen):
        result = await load(address, rate=rate, duration=duration, connections=4)
    assert result.failures == {}
    assert result.exchanges == seen.messages
    assert abs(result.exchanges - rate * duration) < 1


@pytest.mark.one_loop
async def test_no_more_is_unsent_than_was_to_be_sent() -> None:
    async with watched(silence) as (address, seen):
        result = await load(address, rate=1000.0, duration=0.2, count=10, connections=1)
    assert seen.messages + result.failures["unsent"] == 10
    assert result.failed == 10


@pytest.mark.one_loop
@pytest.mark.parametrize("ending", [Ending.FIN, Ending.SERVER])
async def test_a_freeze_at_the_end_is_over_in_time(ending: Ending) -> None:
    numbers = count(1)

    async def freeze_once(peer: Bare, line: bytes, number: int) -> bool:
        if next(numbers) == 30:
            await asyncio.sleep(0.3)
        await peer.send(line)
        return ending is not Ending.SERVER

    async with watched(freeze_once) as (address, seen):
        result = await load(
            address, mode=Mode.SHORT, ending=ending, rate=100.0, duration=0.4, reply_timeout=1.0
        )
    assert (result.exchanges, result.failures, seen.messages) == (40, {}, 40)
    assert result.exchange.most > 0.25


@pytest.mark.one_loop
async def test_a_pipeline_that_is_behind_by_thousands() -> None:
    async with watched(echo) as (address, _):
        # Everything that is due while the loop stands still is asked at once afterwards.
        asyncio.get_running_loop().call_later(0.05, time.sleep, 0.2)
        result = await load(address, pipeline=3000, rate=15_000.0, duration=0.3, reply_timeout=1.0)
    assert (result.exchanges, result.failures) == (4500, {})


@pytest.mark.one_loop
async def test_idle_places_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    close = OpenLoop.close

    def look(loop: OpenLoop) -> None:
        sizes.append(len(loop._idle))
        close(loop)

    monkeypatch.setattr(OpenLoop, "close", look)
    async with watched(echo) as (address, _):
        await load(address, pipeline=1000, rate=500.0, duration=0.4, connections=2)
    assert sizes[0] <= 2


@pytest.mark.one_loop
async def test_a_pipelined_connection_ends_after_its_exchanges_in_an_open_loop() -> None:
    async def slow(peer: Bare, line: bytes, number: int) -> None:
        await asyncio.sleep(0.002)
        await peer.send(line)

    async with watched(slow) as (address, seen):
        result = await load(
            address, pipeline=4, exchanges=5, rate=300.0, duration=0.3, reply_timeout=1.0
        )
    assert max(map(len, seen.received)) == 5
    assert result.exchanges == 90


# ---- What is told


@pytest.mark.one_loop
async def test_nobody_is_busier_than_all_the_time() -> None:
    stop = asyncio.Event()
    async with watched(echo) as (address, _):
        few = await load(address, count=3)
        asyncio.get_running_loop().call_later(0.1, stop.set)
        none = await load(address, stop, duration=60.0, warmup=60.0)
    assert few.generator.busiest <= 1
    assert none.generator.busiest <= 1
    assert none.per_second == 0


def test_intervals_of_processes_that_end_apart_are_in_order() -> None:
    plan = Plan(
        address=tieline.Address("127.0.0.1", 1), messages=Constant(b"a"), connections=2,
        count=100, duration=None, processes=2,
    )  # fmt: skip
    gathering = Gathering(plan, 0.0, 2)
    last = Last(
        cpu_seconds=0.1, waited=0.0, watched=1.0, seconds=1.0, held_most=1, waiting_most=0,
        message_size=1, cut_short=False, kernel=KernelView(),
    )  # fmt: skip

    def piece(index: int) -> Snapshot:
        return Snapshot(
            index=index, phase=Phase.MEASURING, at=index / 2, seconds=0.5, elapsed=index / 2,
            share=None, held=1, waiting=0, pieces={"long": Piece(exchanges=1)},
        )  # fmt: skip

    def tell_last(index: int) -> None:
        gathering.add(dataclasses.replace(piece(index), pieces={}, last=last))

    for index in range(2):
        gathering.add(piece(index))
        gathering.add(piece(index))
    # One awaits its last answer, and says nothing; the other goes on.
    for index in range(2, 5):
        gathering.add(piece(index))
    tell_last(2)
    for index in range(5, 7):
        gathering.add(piece(index))
    tell_last(7)
    result = gathering.result()
    instants = [interval.at for interval in result.intervals]
    assert instants == sorted(instants)
    assert sum(interval.exchanges for interval in result.intervals) == result.exchanges == 9
