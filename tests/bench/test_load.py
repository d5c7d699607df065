"""Loads against real servers: every mode, every transport, and servers that are no good."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tieline
from bench.servers import Bare
from support.hooks import Watch, echo
from support.transports import Place
from tieline import Line
from tieline.bench import Ending, Failure, Mode, Plan, Progress, Result, measure
from tieline.bench.expecting import Echo
from tieline.bench.messages import Constant


def plan_of(place: Place, server: tieline.Server, **options: Any) -> Plan:
    """A plan that asks a server of ours for what it sends."""
    defaults: dict[str, Any] = {
        "messages": Constant(b"ping"), "expectation": Echo(), "framing": Line(),
        "duration": None, "count": 50, "connections": 4, "reply_timeout": 5.0,
    }  # fmt: skip
    defaults.update(options)
    return Plan(address=server.addresses[0], tls=place.client_tls, **defaults)


class Tally:
    """A responder that counts what it was sent, by connection."""

    def __init__(self) -> None:
        self.by_connection: Counter[int] = Counter()
        self.peers: set[str] = set()

    def __call__(self, connection: tieline.Connection, message: bytes) -> bytes:
        self.by_connection[connection.id] += 1
        self.peers.add(connection.peer_host)
        return message

    @property
    def messages(self) -> int:
        return self.by_connection.total()


async def test_a_long_connection_carries_exchange_after_exchange(place: Place) -> None:
    tally = Tally()
    async with place.serve(tally, framing=Line()) as server:
        result = await measure(plan_of(place, server))
    assert (result.exchanges, result.failed, result.opened) == (50, 0, 4)
    assert tally.messages == 50
    assert len(tally.by_connection) == 4
    assert result.exchange.count == result.first_byte.count == 50
    assert result.connecting.count == 4
    assert result.securing.count == (4 if place.is_tls else 0)
    assert (result.bytes_sent, result.bytes_received) == (250, 250)
    assert not result.cut_short
    assert 0 < result.exchange.least <= result.exchange.percentile(0.5) <= result.exchange.most


async def test_a_short_connection_carries_one(place: Place) -> None:
    watch, tally = Watch(), Tally()
    async with place.serve(tally, framing=Line(), **watch.hooks) as server:
        result = await measure(plan_of(place, server, mode=Mode.SHORT))
    assert (result.exchanges, result.failed, result.opened) == (50, 0, 50)
    assert len(watch.opened) == 50
    assert set(tally.by_connection.values()) == {1}
    assert result.whole.count == result.connecting.count == 50
    # All of a connection takes longer than its exchange.
    assert result.whole.total > result.exchange.total


@pytest.mark.parametrize("ending", list(Ending))
async def test_every_way_to_end_a_short_connection(ending: Ending, plain: Place) -> None:
    watch = Watch()

    async def once(connection: tieline.Connection) -> None:
        await connection.send(await connection.receive())
        if ending is Ending.SERVER:
            connection.close()
        else:
            async for _ in connection:
                raise AssertionError("it was to be one message")

    async with plain.serve(once, framing=Line(), **watch.hooks) as server:
        plan = plan_of(plain, server, mode=Mode.SHORT, ending=ending, count=12)
        result = await measure(plan)
        for _ in range(12):
            await watch.next_close()
    assert (result.exchanges, result.failed) == (12, 0)
    reasons = {reason.value for _, reason in watch.closed}
    assert reasons == {
        Ending.FIN: {"peer_closed"}, Ending.RESET: {"peer_reset"}, Ending.SERVER: {"closed"},
    }[ending]  # fmt: skip


async def test_places_of_both_kinds_are_told_apart(plain: Place) -> None:
    tally = Tally()
    async with plain.serve(tally, framing=Line()) as server:
        plan = plan_of(plain, server, mode=Mode.MIXED, connections=10, short_share=0.3, count=200)
        result = await measure(plan)
    short, long = result.parts["short"], result.parts["long"]
    assert short.exchanges + long.exchanges == result.exchanges == 200
    assert short.opened == short.exchanges
    assert long.opened == 7
    assert result.exchange.count == short.exchange.count + long.exchange.count


async def test_a_long_connection_may_have_a_last_exchange(plain: Place) -> None:
    tally = Tally()
    async with plain.serve(tally, framing=Line()) as server:
        result = await measure(plan_of(plain, server, exchanges=5, connections=2))
    assert result.exchanges == 50
    assert max(tally.by_connection.values()) == 5
    assert result.opened >= 10


async def test_connections_are_held_and_their_heart_beats(place: Place) -> None:
    tally = Tally()
    async with place.serve(tally, framing=Line()) as server:
        plan = plan_of(
            place, server, mode=Mode.HOLD, connections=20, count=None, duration=0.5, heartbeat=0.1
        )
        result = await measure(plan)
    assert (result.opened, result.held_most, result.lost, result.failed) == (20, 20, 0, 0)
    assert set(tally.by_connection) == set(
        range(min(tally.by_connection), min(tally.by_connection) + 20)
    )
    assert result.exchanges + len(result.failures) <= tally.messages


async def test_held_connections_that_the_server_ends_are_lost(plain: Place) -> None:
    async with plain.serve(echo("responder"), limits=tieline.Limits(first_byte=0.1)) as server:
        plan = plan_of(
            plain, server, mode=Mode.HOLD, connections=6, count=None, duration=30, messages=None
        )
        result = await measure(plan)  # it does not wait for its time: nobody is left
    assert (result.opened, result.held_most, result.lost) == (6, 6, 6)
    assert result.failures == {"closed_early": 6}


async def test_a_storm_comes_at_once_and_is_over_when_all_are_through(place: Place) -> None:
    tally = Tally()
    limits = tieline.Limits(per_client=None)
    async with place.serve(tally, framing=Line(), limits=limits) as server:
        plan = plan_of(place, server, mode=Mode.STORM, connections=300, count=None, duration=20)
        result = await measure(plan)
    assert (result.exchanges, result.opened, result.failed) == (300, 300, 0)
    assert result.seconds < 20


async def test_several_messages_under_way(place: Place) -> None:
    tally = Tally()
    async with place.serve(tally, framing=Line()) as server:
        result = await measure(plan_of(place, server, pipeline=16, count=1000, connections=3))
    assert (result.exchanges, result.failed) == (1000, 0)
    assert tally.messages == 1000
    assert len(tally.by_connection) == 3


async def test_messages_of_a_template_are_each_their_own(place: Place) -> None:
    seen: list[bytes] = []

    def remember(connection: tieline.Connection, message: bytes) -> bytes:
        seen.append(message)
        return message

    class Numbered:
        only = None

        def make(self, connection: int, number: int) -> bytes:
            return b"%d/%d" % (connection, number)

    for options in ({}, {"pipeline": 4}):
        seen.clear()
        async with place.serve(remember, framing=Line()) as server:
            plan = plan_of(place, server, messages=Numbered(), connections=2, **options)
            result = await measure(plan)
        assert (result.exchanges, result.failed) == (50, 0)
        assert len(set(seen)) == 50


async def test_a_text_is_written_in_its_charset(plain: Place) -> None:
    seen: list[str] = []

    def remember(connection: tieline.Connection, text: str) -> str:
        seen.append(text)
        return text

    async with plain.serve(remember, framing=Line(), encoding="gbk") as server:
        plan = plan_of(
            plain, server, messages=Constant("你好"), charset=tieline.Charset("gbk"), count=3
        )
        result = await measure(plan)
    assert (result.exchanges, result.failed, seen) == (3, 0, ["你好"] * 3)
    assert result.message_size == 5


async def test_several_addresses_to_call_from(plain: Place) -> None:
    tally = Tally()
    sources = ("127.0.0.2", "127.0.0.3")
    async with plain.serve(tally, framing=Line()) as server:
        result = await measure(plan_of(plain, server, sources=sources, mode=Mode.SHORT))
    assert result.exchanges == 50
    assert tally.peers == set(sources)


async def test_the_rate_of_an_open_loop(place: Place) -> None:
    tally = Tally()
    async with place.serve(tally, framing=Line()) as server:
        plan = plan_of(place, server, rate=400.0, duration=0.5, count=None)
        result = await measure(plan)
    # The instants of half a second, whatever the machine was doing meanwhile.
    assert result.exchanges == result.lateness.count == 200
    assert tally.messages == 200
    assert result.failed == 0


async def test_an_open_loop_of_short_connections_with_a_count(plain: Place) -> None:
    tally = Tally()
    async with plain.serve(tally, framing=Line()) as server:
        result = await measure(plan_of(plain, server, mode=Mode.SHORT, rate=1000.0, count=70))
    assert (result.exchanges, tally.messages, len(tally.by_connection)) == (70, 70, 70)


async def test_a_server_that_stands_still_is_seen_in_an_open_loop(plain: Place) -> None:
    """Latency counts from the instant at which a message was due, sent or not."""
    still = 0.4
    standing = asyncio.Event()

    async def stand_still_once(connection: tieline.Connection) -> None:
        async for message in connection:
            if not standing.is_set():
                standing.set()
                await asyncio.sleep(still)
            await connection.send(message)

    async with plain.serve(stand_still_once, framing=Line()) as server:
        # One place: while it waits, what is due waits behind it.
        plan = plan_of(plain, server, connections=1, rate=200.0, duration=1.0, count=None)
        result = await measure(plan)
    assert result.exchanges == 200
    assert result.waiting >= 50
    # Four tenths of the instants are late, by anything up to all of it.
    assert result.exchange.percentile(0.99) > still * 0.9
    assert result.exchange.percentile(0.75) > still * 0.25


# ---- Servers that are no good


@contextlib.asynccontextmanager
async def bare(answer: Callable[[Bare], Any]) -> AsyncIterator[tieline.Address]:
    """A server that does as `answer` says with each connection."""
    async with Bare.listen(answer) as address:
        yield address


async def load(address: tieline.Address, **options: Any) -> Result:
    defaults: dict[str, Any] = {
        "messages": Constant(b"ping"), "expectation": Echo(), "framing": Line(),
        "duration": None, "count": 10, "connections": 1, "reply_timeout": 0.3,
    }  # fmt: skip
    return await measure(Plan(address=address, **{**defaults, **options}))


async def test_nobody_is_there() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = tieline.Address("127.0.0.1", closed.getsockname()[1])
        result = await load(address, duration=60.0, count=None)
    assert (result.exchanges, result.opened) == (0, 0)
    assert set(result.failures) == {"refused"}
    assert result.exchange.count == 0
    assert result.seconds < 50


async def test_there_is_no_such_host() -> None:
    with pytest.raises(tieline.ResolveError):
        await load(tieline.parse_address("no-such-host.invalid:1"))


@pytest.mark.parametrize("mode", [Mode.LONG, Mode.SHORT])
async def test_wrong_answers_are_counted_and_no_times(mode: Mode) -> None:
    async def every_third(peer: Bare) -> None:
        async for line in peer.lines():
            await peer.send(b"wrong\n" if peer.count() % 3 == 0 else line)

    async with bare(every_third) as address:
        result = await load(address, mode=mode, count=30)
    assert (result.exchanges, result.failures) == (20, {"wrong_answer": 10})
    assert result.exchange.count == 20


async def test_wrong_answers_among_several_under_way() -> None:
    async def every_third(peer: Bare) -> None:
        async for line in peer.lines():
            await peer.send(b"wrong\n" if peer.count() % 3 == 0 else line)

    async with bare(every_third) as address:
        result = await load(address, pipeline=8, count=30)
    assert (result.exchanges, result.failures) == (20, {"wrong_answer": 10})


@pytest.mark.parametrize("pipeline", [1, 3])
async def test_answers_may_come_byte_by_byte(pipeline: int) -> None:
    async def drip(peer: Bare) -> None:
        async for line in peer.lines():
            for byte in line:
                await peer.send(bytes([byte]))

    async with bare(drip) as address:
        result = await load(address, pipeline=pipeline, count=9, reply_timeout=5)
    assert (result.exchanges, result.failed) == (9, 0)
    assert result.first_byte.count == result.exchange.count == 9


async def test_the_first_byte_is_timed_apart() -> None:
    async def two_pieces(peer: Bare) -> None:
        async for line in peer.lines():
            await peer.send(line[:2])
            await asyncio.sleep(0.05)
            await peer.send(line[2:])

    async with bare(two_pieces) as address:
        result = await load(address, count=5)
    assert result.exchange.least >= 0.04  # a loop's timers may be a little early
    assert result.first_byte.least < result.exchange.least
    assert result.first_byte.total < result.exchange.total - 5 * 0.04


@pytest.mark.parametrize("mode", [Mode.LONG, Mode.SHORT])
async def test_a_server_that_answers_nothing(mode: Mode) -> None:
    async def swallow(peer: Bare) -> None:
        async for _ in peer.lines():
            pass

    async with bare(swallow) as address:
        result = await load(address, mode=mode, count=3, connections=3)
    assert (result.exchanges, result.failures) == (0, {"reply_timeout": 3})
    assert result.exchange.count == 0


@pytest.mark.parametrize("pipeline", [1, 4])
@pytest.mark.parametrize("mode", [Mode.LONG, Mode.SHORT])
async def test_a_server_that_closes_early(mode: Mode, pipeline: int) -> None:
    if mode is Mode.SHORT and pipeline > 1:
        pytest.skip("a short connection has one exchange")

    async def leave(peer: Bare) -> None:
        async for _ in peer.lines():
            return

    async with bare(leave) as address:
        result = await load(address, mode=mode, pipeline=pipeline, count=4)
    assert result.exchanges == 0
    assert set(result.failures) <= {"closed_early", "reset"}
    assert result.failed >= 1


async def test_a_server_that_resets() -> None:
    async def cut(peer: Bare) -> None:
        async for _ in peer.lines():
            peer.reset()
            return

    async with bare(cut) as address:
        result = await load(address, mode=Mode.SHORT, count=4)
    assert (result.exchanges, result.failures) == (0, {"reset": 4})


async def test_half_of_them_are_refused() -> None:
    refused = Counter[bool]()

    async def every_other(peer: Bare) -> None:
        refused[True] += 1
        if refused[True] % 2:
            peer.reset()
            return
        async for line in peer.lines():
            await peer.send(line)

    async with bare(every_other) as address:
        result = await load(address, mode=Mode.SHORT, count=20)
    assert result.exchanges == 10
    assert result.failed == 10
    assert set(result.failures) <= {"reset", "closed_early"}


async def test_an_answer_that_no_framing_can_read() -> None:
    async def flood(peer: Bare) -> None:
        async for _ in peer.lines():
            await peer.send(b"x" * 300)

    async with bare(flood) as address:
        result = await load(address, mode=Mode.SHORT, count=2, max_message=100)
    assert (result.exchanges, result.failures) == (0, {"malformed": 2})


async def test_more_answers_than_were_asked_for() -> None:
    async def twice(peer: Bare) -> None:
        async for line in peer.lines():
            await peer.send(line + line)

    async with bare(twice) as address:
        result = await load(address, mode=Mode.SHORT, count=5)
    assert result.exchanges == 5
    assert result.failures == {"unasked": 5}


async def test_a_greeting_is_no_answer_where_nothing_was_asked() -> None:
    async def greet(peer: Bare) -> None:
        await peer.send(b"220 welcome\n")
        async for _ in peer.lines():
            pass

    async with bare(greet) as address:
        result = await load(
            address, mode=Mode.HOLD, messages=None, count=None, duration=0.2, connections=2
        )
    assert (result.opened, result.failed, result.lost) == (2, 0, 0)


async def test_tls_where_there_is_none(plain: Place, secrets: Any) -> None:
    async with plain.serve(echo("responder"), framing=Line()) as server:
        plan = Plan(
            address=server.addresses[0], tls=secrets.client, messages=Constant(b"a"), count=2,
            duration=None, framing=Line(), connect_timeout=0.5, mode=Mode.SHORT,
        )  # fmt: skip
        result = await measure(plan)
    assert result.exchanges == 0
    assert set(result.failures) <= {"tls", "connect_timeout", "reset", "closed_early"}
    assert result.failed >= 1


# ---- The run


async def test_it_can_be_ended_early(plain: Place) -> None:
    stop = asyncio.Event()
    seen: list[Progress] = []

    def look(progress: Progress) -> None:
        seen.append(progress)
        if progress.exchanges > 100:
            stop.set()

    async with plain.serve(echo("responder"), framing=Line()) as server:
        plan = plan_of(plain, server, duration=600.0, count=None)
        result = await measure(plan, look, stop)
    assert result.cut_short
    assert result.exchanges > 100
    assert result.seconds < 500
    assert result.intervals
    assert sum(interval.exchanges for interval in result.intervals) == result.exchanges
    assert [progress.exchanges for progress in seen] == sorted(p.exchanges for p in seen)


async def test_what_is_warmed_up_is_not_measured(plain: Place) -> None:
    tally = Tally()
    async with plain.serve(tally, framing=Line()) as server:
        plan = plan_of(plain, server, warmup=0.2, ramp=0.1, count=40)
        result = await measure(plan)
    assert result.exchanges == result.exchange.count == 40
    assert tally.messages > 40
    assert result.connecting.count == result.opened == 4


async def test_time_to_think_is_left(plain: Place) -> None:
    tally = Tally()
    async with plain.serve(tally, framing=Line()) as server:
        plan = plan_of(plain, server, think=0.05, connections=1, count=5)
        result = await measure(plan)
    assert result.exchanges == 5
    assert result.seconds >= 4 * 0.05
    assert result.exchange.total < result.seconds - 4 * 0.05 + 0.01


async def test_cancelling_leaves_nothing(plain: Place) -> None:
    async with plain.serve(echo("responder"), framing=Line()) as server:
        plan = plan_of(plain, server, duration=60.0, count=None, mode=Mode.SHORT)

        def cancel(progress: Progress) -> None:
            running.cancel()

        running = asyncio.ensure_future(measure(plan, cancel))
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_what_the_kernel_knows(place: Place) -> None:
    async with place.serve(echo("responder"), framing=Line()) as server:
        result = await measure(plan_of(place, server, mode=Mode.SHORT, count=10))
    if place.is_tcp:
        assert result.kernel.sampled >= 1
        assert result.kernel.round_trip.count >= 1
    else:
        assert result.kernel.sampled == 0


def test_every_failure_has_its_word() -> None:
    assert {failure.value for failure in Failure} >= {"refused", "reset", "unsent", "unfinished"}


def test_several_processes_share_a_load_and_end_early_together(tmp_path: Path) -> None:
    program = tmp_path / "load.py"
    program.write_text(
        "import json, sys\n"
        "from tieline import Line, parse_address\n"
        "from tieline.bench import Plan, run\n"
        "from tieline.bench.expecting import Echo\n"
        "from tieline.bench.messages import Constant\n"
        "plan = Plan(address=parse_address(sys.argv[1]), messages=Constant(b'a'), framing=Line(),\n"
        "            expectation=Echo(), connections=7, processes=3, **json.loads(sys.argv[2]))\n"
        "told = lambda progress: print('goes', flush=True) if progress.exchanges else None\n"
        "print(json.dumps(run(plan, told).as_json()), flush=True)\n",
        "utf-8",
    )
    with echo_process() as address:
        for options, interrupts in (
            ({"count": 100, "duration": None}, 0),
            ({"duration": 300.0}, 1),
        ):
            command = [sys.executable, "-W", "error", str(program), address, json.dumps(options)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
                assert running.stdout is not None
                if interrupts:
                    assert running.stdout.readline() == "goes\n"
                    running.send_signal(signal.SIGINT)
                result = Result.from_json(json.loads(running.stdout.readlines()[-1]))
                assert running.wait(20) == 0
            assert (result.processes, result.opened, result.failed) == (3, 7, 0)
            assert result.cut_short == bool(interrupts)
            assert result.exchanges == 100 if not interrupts else result.exchanges > 0


@contextlib.contextmanager
def echo_process() -> Iterator[str]:
    """A server of ours in a process of its own."""
    code = (
        "import tieline\n"
        "from tieline import Line\n"
        "async def main():\n"
        "    async with tieline.serve(lambda c, m: m, '127.0.0.1:0', framing=Line()) as server:\n"
        "        print(server.addresses[0], flush=True)\n"
        "        await asyncio.get_running_loop().create_future()\n"
        "import asyncio\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()
