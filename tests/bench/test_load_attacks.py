"""Loads against servers that mean no good: what is counted, what is awaited, and what is not."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from itertools import count
from typing import Any

import pytest

import tieline
from bench.attackers import Numbered, Seen, deaf, echo, full, load, silence, watched
from bench.servers import Bare
from support.transports import Secrets
from tieline import Gap
from tieline.bench import Ending, Mode
from tieline.bench.expecting import ANY_ANSWER, Exactly
from tieline.bench.messages import Constant, InTurn

# ---- Answers and their questions


@pytest.mark.one_loop
@pytest.mark.parametrize("options", [{}, {"pipeline": 3}], ids=str)
async def test_a_late_answer_is_nobodys(options: dict[str, Any]) -> None:
    numbers = count(1)

    async def first_is_late(peer: Bare, line: bytes, number: int) -> None:
        if next(numbers) == 1:
            await asyncio.sleep(0.5)
        await peer.send(line)

    async with watched(first_is_late) as (address, _):
        result = await load(address, messages=Numbered(), count=12, reply_timeout=0.2, **options)
    under_way = options.get("pipeline", 1)
    assert result.failures == {"reply_timeout": under_way}
    assert result.exchanges == 12 - under_way


@pytest.mark.one_loop
async def test_a_server_that_was_to_end_it_and_does_not() -> None:
    async with watched(echo) as (address, _):
        result = await load(
            address,
            mode=Mode.SHORT,
            ending=Ending.SERVER,
            count=4,
            connections=2,
            reply_timeout=0.2,
        )
    assert (result.exchanges, result.failures) == (4, {"not_ended": 4})


@pytest.mark.one_loop
async def test_answers_of_equal_length_in_the_wrong_order() -> None:
    kept: list[bytes] = []

    async def swap(peer: Bare, line: bytes, number: int) -> None:
        kept.append(line)
        if not number % 2:
            await peer.send(kept.pop() + kept.pop())

    async with watched(swap) as (address, _):
        result = await load(address, messages=Numbered(), pipeline=4, count=8)
    assert (result.exchanges, result.failures) == (0, {"wrong_answer": 8})


@pytest.mark.one_loop
@pytest.mark.parametrize("cut", [1, 4, 5, 6, 9])
async def test_two_answers_cut_anywhere(cut: int) -> None:
    async def cut_pair(peer: Bare, line: bytes, number: int) -> None:
        if not number % 2:
            await peer.send((line + line)[:cut])
            await asyncio.sleep(0.001)
            await peer.send((line + line)[cut:])

    async with watched(cut_pair) as (address, _):
        result = await load(address, pipeline=2, count=6)
    assert (result.exchanges, result.failed, result.bytes_received) == (6, 0, 30)


@pytest.mark.one_loop
@pytest.mark.parametrize("options", [{"count": 3}, {"duration": 0.3}], ids=str)
async def test_an_answer_before_the_end_of_its_question_tears_no_stream(
    options: dict[str, Any],
) -> None:
    """However it is counted, what the server reads are whole messages one after the other."""
    message = b"a" * 2_999_999 + b"z"
    read = bytearray()

    async def hasty(peer: Bare) -> None:
        if read:
            return
        read.extend(await peer._reader.read(1000))
        for _ in range(3):
            await peer.send(b"ok\n")
            await asyncio.sleep(0.02)
        while data := await peer._reader.read(1 << 20):
            read.extend(data)

    async with Bare.listen(hasty) as address:
        await load(
            address, messages=Constant(message), expectation=Exactly(b"ok"), reply_timeout=0.5,
            **options,
        )  # fmt: skip
    wire = message + b"\n"
    assert read == (wire * (len(read) // len(wire) + 1))[: len(read)]


@pytest.mark.one_loop
@pytest.mark.parametrize("mode", [Mode.LONG, Mode.SHORT])
async def test_a_quiet_time_is_awaited_whatever_came_before_it(mode: Mode) -> None:
    async def more_to_come(peer: Bare, line: bytes, number: int) -> None:
        await peer.send(line)
        await asyncio.sleep(0.02)
        await peer.send(b"more")

    async with watched(more_to_come) as (address, _):
        result = await load(
            address, mode=mode, messages=Constant(b"ping\n"), framing=Gap(0.1), count=3,
            reply_timeout=1.0,
        )  # fmt: skip
    assert (result.exchanges, result.failures) == (0, {"wrong_answer": 3})


@pytest.mark.one_loop
async def test_several_under_way_where_a_quiet_time_ends_a_message() -> None:
    async def answer(peer: Bare, line: bytes, number: int) -> None:
        await asyncio.sleep(0.05)
        await peer.send(b"answer")

    async with watched(answer) as (address, _):
        try:
            result = await load(
                address, messages=Constant(b"ping\n"), framing=Gap(0.01), pipeline=2, count=4,
                expectation=ANY_ANSWER, reply_timeout=1.0,
            )  # fmt: skip
        except tieline.UsageError:
            return  # that it cannot be is an answer too
    assert (result.exchanges, result.failures) == (4, {})


# ---- Failures: each once, and none in silence


@pytest.mark.one_loop
@pytest.mark.parametrize("mode", [Mode.STORM, Mode.HOLD])
async def test_questions_that_the_end_leaves_unanswered(mode: Mode) -> None:
    heartbeat = 0.1 if mode is Mode.HOLD else None
    async with watched(silence) as (address, seen):
        result = await load(
            address, mode=mode, connections=5, duration=0.3, heartbeat=heartbeat, reply_timeout=1.0
        )
    assert seen.messages == 5
    assert (result.exchanges, result.failed) == (0, 5)


@pytest.mark.one_loop
async def test_a_storm_towards_a_full_backlog_has_failed() -> None:
    with full() as address:
        result = await load(
            address, mode=Mode.STORM, connections=5, duration=0.2, connect_timeout=0.6
        )
    assert (result.opened, result.failed) == (0, 5)


@pytest.mark.one_loop
async def test_a_storm_that_had_no_time_for_all() -> None:
    async with watched(echo) as (address, _):
        result = await load(address, mode=Mode.STORM, connections=100, rate=100.0, duration=0.2)
    assert result.exchanges + result.failed == 100


@pytest.mark.one_loop
@pytest.mark.parametrize("rate", [None, 100.0])
async def test_who_ends_a_load_early_hears_what_was_under_way(rate: float | None) -> None:
    stop = asyncio.Event()

    async def stop_soon(peer: Bare, line: bytes, number: int) -> None:
        asyncio.get_running_loop().call_later(0.2, stop.set)

    async with watched(stop_soon) as (address, seen):
        result = await load(
            address, stop, duration=60.0, connections=3, rate=rate, reply_timeout=5.0
        )
    assert result.cut_short
    assert seen.messages == 3
    assert result.failures["unfinished"] == 3
    assert (result.failures["unsent"] > 10) == (rate is not None)


@pytest.mark.one_loop
async def test_held_connections_that_end_within_a_heartbeat_are_lost() -> None:
    async def leave(peer: Bare, line: bytes, number: int) -> bool:
        return False

    async with watched(leave) as (address, _):
        result = await load(address, mode=Mode.HOLD, connections=5, duration=0.5, heartbeat=0.1)
    assert (result.lost, result.failed) == (5, 5)


@pytest.mark.one_loop
async def test_failures_of_the_warm_up_are_the_warm_ups() -> None:
    async with watched(silence) as (address, _):
        result = await load(
            address, rate=20.0, duration=0.4, warmup=0.2, reply_timeout=0.3, connections=20
        )
    assert result.failed == 8


# ---- Spins


@pytest.mark.one_loop
@pytest.mark.parametrize("options", [{}, {"pipeline": 16}], ids=str)
@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_who_ends_at_once_is_not_called_without_rest(
    how: str, options: dict[str, Any]
) -> None:
    seen = Seen()

    async def leave(peer: Bare) -> None:
        seen.connections += 1
        if how == "resets":
            peer.reset()

    async with Bare.listen(leave) as address:
        result = await load(address, duration=0.35, **options)
    assert result.exchanges == 0
    assert seen.connections <= 5


async def test_who_has_served_is_called_again_at_once() -> None:
    """With and without a count: it is the same load."""

    async def ten(peer: Bare, line: bytes, number: int) -> bool:
        await peer.send(line)
        return number < 10

    async with watched(ten) as (address, _):
        endless = await load(address, duration=0.4)
        counted = await load(address, duration=0.4, count=1_000_000)
    assert endless.opened > 20
    assert counted.opened > 20


@pytest.mark.one_loop
@pytest.mark.parametrize("mode", list(Mode))
async def test_who_refuses_is_not_called_without_rest(mode: Mode) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = tieline.Address("127.0.0.1", closed.getsockname()[1])
        result = await load(address, mode=mode, duration=0.35, connections=4)
    assert set(result.failures) == {"refused"}
    assert 4 <= result.failed <= 20


_ALONE = """
import asyncio
import tieline
from tieline.bench import Plan, measure
from tieline.bench.expecting import Echo
from tieline.bench.messages import Constant

plan = Plan(
    address=tieline.Address("127.0.0.1", 40000), messages=Constant(b"ping"), expectation=Echo(),
    framing=tieline.Line(), duration=0.5,
)
result = asyncio.run(measure(plan))
print(result.exchanges, result.opened, *result.failures)
"""


def _has_networks() -> bool:
    """Whether a test may have a network of its own."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _has_networks(), reason="needs a network of its own: root, unshare, ip")
def test_a_load_does_not_talk_to_itself() -> None:
    """Calling a port of one's own range where nobody listens may reach oneself."""
    ports = "/proc/sys/net/ipv4/ip_local_port_range"
    inside = ["unshare", "-n", "sh", "-c"]
    inside += [f'ip link set lo up && echo "40000 40001" > {ports} && exec "$@"', "sh"]
    done = subprocess.run(
        [*inside, sys.executable, "-c", _ALONE], capture_output=True, text=True, timeout=20
    )
    assert done.stdout.split() == ["0", "0", "refused"], done.stderr


# ---- Servers that keep one waiting


@pytest.mark.one_loop
@pytest.mark.parametrize("pipeline", [1, 8])
async def test_a_server_that_never_reads(pipeline: int) -> None:
    with deaf() as address:
        result = await load(
            address, messages=Constant(b"x" * 1_000_000), duration=0.2, pipeline=pipeline
        )
    assert result.exchanges == 0
    assert result.failed >= pipeline


@pytest.mark.one_loop
@pytest.mark.parametrize("mode", list(Mode))
async def test_a_handshake_that_never_ends(mode: Mode, secrets: Secrets) -> None:
    with deaf() as address:
        result = await load(
            address, mode=mode, tls=secrets.client, duration=0.2, connections=2,
            connect_timeout=0.2,
        )  # fmt: skip
    assert result.opened == 0
    assert set(result.failures) <= {"connect_timeout", "unfinished"}
    assert result.failed >= 2


@pytest.mark.one_loop
async def test_held_connections_whose_calls_stall() -> None:
    with full() as address:
        result = await load(
            address, mode=Mode.HOLD, messages=None, connections=200, duration=0.1,
            connect_timeout=0.2,
        )  # fmt: skip
    assert result.failures == {"connect_timeout": 200}


# ---- What cannot be


@pytest.mark.one_loop
@pytest.mark.parametrize("options", [{}, {"pipeline": 2}, {"mode": Mode.SHORT}], ids=str)
async def test_a_later_message_that_no_framing_can_carry(options: dict[str, Any]) -> None:
    async with watched(echo) as (address, _):
        with pytest.raises(tieline.TielineError):
            await load(address, messages=InTurn([b"a", b"b\nc"]), count=4, **options)


@pytest.mark.one_loop
@pytest.mark.parametrize("name", ["a..b", "x" * 300])
async def test_a_name_that_no_server_can_have(name: str, secrets: Secrets) -> None:
    async with watched(echo) as (address, _):
        with pytest.raises(tieline.SettingError):
            await load(address, tls=secrets.client, server_name=name, duration=0.2)


@pytest.mark.one_loop
async def test_a_context_that_is_a_servers(secrets: Secrets) -> None:
    async with watched(echo) as (address, _):
        with pytest.raises(tieline.SettingError):
            await load(address, tls=secrets.server, duration=0.2)


@pytest.mark.one_loop
async def test_a_server_that_proves_another_name(secrets: Secrets) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=secrets.server)
    async with server:
        address = tieline.Address("127.0.0.1", server.sockets[0].getsockname()[1])
        result = await load(address, tls=secrets.client, server_name="other.example", duration=0.3)
    assert (result.opened, set(result.failures)) == (0, {"tls"})
    assert result.failed <= 5


@pytest.mark.one_loop
@pytest.mark.parametrize("options", [{}, {"pipeline": 3}, {"mode": Mode.SHORT}], ids=str)
async def test_big_answers_under_tls(options: dict[str, Any], secrets: Secrets) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        except (ConnectionError, ssl.SSLError):
            pass
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=secrets.server, limit=1 << 20)
    async with server:
        address = tieline.Address("127.0.0.1", server.sockets[0].getsockname()[1])
        result = await load(
            address, tls=secrets.client, messages=Constant(b"x" * 300_000), max_message=1 << 20,
            count=9, connections=2, reply_timeout=2.0, **options,
        )  # fmt: skip
    assert (result.exchanges, result.failures) == (9, {})
    assert result.bytes_sent == result.bytes_received == 9 * 300_001


# ---- What is left, and what is told


@pytest.mark.one_loop
async def test_no_timer_outlives_a_load() -> None:
    loop: Any = asyncio.get_running_loop()
    stop = asyncio.Event()
    async with watched(echo) as (address, _):
        loop.call_later(0.1, stop.set)
        await load(address, stop, duration=60.0, think=30.0, connections=3)
    left = [timer for timer in loop._scheduled if not timer.cancelled()]
    assert not [timer for timer in left if "Place" in repr(timer)]


# ---- Several processes

_SEVERAL = """
import multiprocessing, sys
import tieline
from tieline.bench import Plan, run
from tieline.bench.expecting import Echo
from tieline.bench.messages import Constant

def told(progress):
    if progress.exchanges:
        print(*(process.pid for process in multiprocessing.active_children()), flush=True)

plan = Plan(
    address=tieline.parse_address(sys.argv[1]), messages=Constant(b"ping"), expectation=Echo(),
    framing=tieline.Line(), duration=600.0, connections=4, processes=2,
)
try:
    result = run(plan, told)
except (tieline.TielineError, KeyboardInterrupt) as error:
    print(type(error).__name__)
else:
    print("cut short" if result.cut_short else "whole", result.failed)
"""


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("number", "whose", "said"),
    [
        (signal.SIGKILL, "a child's", "TielineError"), (signal.SIGKILL, "the parent's", ""),
        (signal.SIGINT, "everybody's", "cut short 0"),
        (signal.SIGTERM, "the parent's", "cut short 0"),
    ],
)  # fmt: skip
async def test_a_signal_ends_all_processes(number: int, whose: str, said: str) -> None:
    async with watched(echo) as (address, _):
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", _SEVERAL, str(address), stdout=subprocess.PIPE
        )
        assert running.stdout is not None
        children = [int(pid) for pid in (await running.stdout.readline()).split()]
        assert len(children) == 2
        pids = {
            "a child's": children[:1], "the parent's": [running.pid],
            "everybody's": [running.pid, *children],
        }[whose]  # fmt: skip
        for pid in pids:
            os.kill(pid, number)
        # Its children hold the pipe as well: its end is everybody's.
        told = (await running.stdout.read()).decode().splitlines()
        await running.wait()
    words = [line for line in told if not line[:1].isdigit()]
    assert words == ([said] if said else [])
