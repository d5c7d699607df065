"""The recipes of docs/guard.md, each with the real service behind the guard that it says.

What a service does directly it does through the guard. `make test-services` installs all of them
and runs this with real sizes; otherwise it is a glance, and what is not installed is skipped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from guard.services import (
    FULL_SIZE,
    Guarded,
    free_port,
    guarded,
    haproxy,
    iperf3,
    mosquitto,
    needs,
    nginx,
    nginx_stream,
    note,
    postgres,
    program,
    redis,
    relay,
    run,
    served,
    size,
    sshd,
    until,
    written_command,
)

pytestmark = pytest.mark.timeout(size(120, 600))


@pytest.fixture(params=["command", "file"])
def form(request: pytest.FixtureRequest) -> str:
    """Each recipe is written in two ways."""
    form: str = request.param
    return form


# ---- Redis


def _redis_through(port: int) -> dict[str, float]:
    """Use it, and see how fast it is."""
    cli = ("redis-cli", "-p", str(port))
    assert run(*cli, "flushall") == "OK\n"
    assert run(*cli, "ping") == "PONG\n"
    assert run(*cli, "set", "name", "守卫") == "OK\n"
    assert run(*cli, "--raw", "get", "name") == "守卫\n"
    count = size(20_000, 500_000)
    commands = "".join(f"SET key{number} value{number}\r\n" for number in range(count))
    assert f"errors: 0, replies: {count}" in run(*cli, "--pipe", stdin=commands.encode())
    assert run(*cli, "dbsize") == f"{count + 1}\n"
    requests = str(size(2_000, 100_000))
    printed = run("redis-benchmark", "-p", str(port), "-q", "-n", requests)
    found = re.findall(r"([A-Z_0-9]+)[^:\r\n]*: ([\d.]+) requests per second", printed)
    assert len(found) >= 15, printed
    return {name: float(rate) for name, rate in found}


@needs("redis-server", "redis-cli", "redis-benchmark")
def test_redis(form: str, tmp_path: Path) -> None:
    with redis() as port, guarded("Redis", port, form, tmp_path) as guard:
        directly, through = _redis_through(port), _redis_through(guard.port)
        for name, rate in directly.items():
            note(f"redis-benchmark {name}", rate, through[name], "requests/s")


@needs("redis-server", "redis-cli")
def test_redis_subscribers(form: str, tmp_path: Path) -> None:
    with redis() as port, guarded("Redis", port, form, tmp_path) as guard:
        with program("redis-cli", "-p", str(guard.port), "subscribe", "news") as subscriber:
            until(lambda: subscriber.said().endswith("1\n"))
            for word in ("one", "two"):
                assert run("redis-cli", "-p", str(guard.port), "publish", "news", word) == "1\n"
            until(lambda: subscriber.said().endswith("message\nnews\none\nmessage\nnews\ntwo\n"))


# ---- SSH


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@needs("sshd", "ssh", "scp", "ssh-keygen")
def test_ssh(form: str, tmp_path: Path) -> None:
    megabytes = size(20, 1_024)
    sent, came = tmp_path / "sent", tmp_path / "came"
    with sent.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))
    digest = _digest(sent)

    def copy(port: int, options: list[str]) -> float:
        began = time.monotonic()
        for way in ((str(sent), f"127.0.0.1:{came}"), (f"127.0.0.1:{sent}", str(came))):
            run("scp", "-q", *options, "-P", str(port), *way)
            assert _digest(came) == digest
            came.unlink()
        return time.monotonic() - began

    with sshd(tmp_path) as (port, options):
        with guarded("SSH", port, form, tmp_path) as guard:
            greeting = run("ssh", *options, "-p", str(guard.port), "127.0.0.1", "echo 你好; exit 0")
            assert greeting == "你好\n"
            direct = copy(port, options)
            before = guard.cpu
            through = copy(guard.port, options)
            note(f"scp of {megabytes} MiB, there and back", direct, through, "s")
            print(f"  processor time of the guard: {guard.cpu - before:.2f} s")
    sent.unlink()


# ---- Devices that speak GBK


def _talk(port: int, source: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def test_devices_that_speak_gbk(form: str, tmp_path: Path) -> None:
    recipe = "Devices that speak GBK"
    port = free_port()
    flags = written_command(recipe, "serve")
    flags[flags.index("--listen") + 1] = f"127.0.0.1:{port}"
    with served(port, sys.executable, "-m", "tieline", "serve", *flags):
        with guarded(recipe, port, form, tmp_path) as guard:
            send = (sys.executable, "-m", "tieline", "send", f"127.0.0.1:{guard.port}", "温度 21.5")
            printed = run(*send, "--framing", "line", "--encoding", "gbk")
            assert printed == "收到\n"
            answer = "收到\n".encode("gbk")
            with contextlib.ExitStack() as stack:
                # More than the server lets one client hold, from more machines than one.
                devices = [
                    stack.enter_context(_talk(guard.port, f"127.0.1.{machine}"))
                    for machine in range(1, 31)
                    for _ in range(5)
                ]
                said = "你好，再见\n".encode("gbk")
                for at in range(len(said)):  # byte by byte, through the middle of characters
                    for device in devices:
                        device.send(said[at : at + 1])
                for device in devices:
                    assert device.recv(100) == answer
                with pytest.raises(ConnectionResetError):
                    with _talk(guard.port, "127.0.1.30") as one_too_many:
                        one_too_many.recv(1)


# ---- MQTT


@needs("mosquitto", "mosquitto_sub", "mosquitto_pub")
def test_mqtt(form: str, tmp_path: Path) -> None:
    count = size(100, 1_000)
    said = [f"第 {number} 条" for number in range(count)]
    took = {}
    with mosquitto(tmp_path) as (port, broker):
        with guarded("MQTT", port, form, tmp_path) as guard:
            for at in (port, guard.port):
                there = ("-h", "127.0.0.1", "-p", str(at), "-t", f"port{at}", "-q", "2")
                with program("mosquitto_sub", *there, "-C", str(count)) as subscriber:
                    until(lambda at=at: f"2 port{at}" in broker.said())  # type: ignore[misc]
                    began = time.monotonic()
                    run("mosquitto_pub", *there, "-l", stdin="\n".join(said).encode())
                    until(subscriber.is_over)
                    took[at] = time.monotonic() - began
                    # Each exactly once.
                    assert subscriber.said().splitlines() == said
            note(f"{count} messages with QoS 2", took[port], took[guard.port], "s")


# ---- PostgreSQL


def _psql(port: int, text: str) -> str:
    return run(
        "psql", "-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-p", str(port), "-U", "me",
        "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-c", text,
    )  # fmt: skip


def _pgbench(port: int, *options: str) -> float:
    printed = run(
        "pgbench", "-h", "127.0.0.1", "-p", str(port), "-U", "me", "-n", "-c", "8", "-j", "2",
        *(("-T", "5") if FULL_SIZE else ("-t", "20")), *options, "postgres",
    )  # fmt: skip
    assert "failed transactions: 0 " in printed, printed
    found = re.search(r"tps = ([\d.]+)", printed)
    assert found is not None
    return float(found[1])


def _postgres_through(port: int, rows: Path) -> dict[str, float]:
    found = {}
    copied = rows.with_suffix(".copied")
    _psql(port, "create table copied (number int, words text)")
    began = time.monotonic()
    _psql(port, f"\\copy copied from '{rows}' csv")
    _psql(port, f"\\copy copied to '{copied}' csv")
    found[f"\\copy of {rows.stat().st_size >> 20} MiB, in and out"] = time.monotonic() - began
    assert _digest(copied) == _digest(rows)
    copied.unlink()
    _psql(port, "drop table copied")
    run("pgbench", "-i", "-q", "-h", "127.0.0.1", "-p", str(port), "-U", "me", "postgres")
    found["pgbench -S, transactions/s"] = _pgbench(port, "-S")
    found["pgbench -S -C (a connection each), transactions/s"] = _pgbench(port, "-S", "-C")
    found["pgbench, transactions/s"] = _pgbench(port)
    return found


@needs("initdb", "postgres", "psql", "pgbench", "setpriv")
def test_postgresql(form: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    with rows.open("w", encoding="utf-8") as file:
        for number in range(size(20_000, 4_000_000)):
            digest = hashlib.md5(str(number).encode()).hexdigest()
            file.write(f"{number},行 {digest}\n")
    with postgres() as port, guarded("PostgreSQL", port, form, tmp_path) as guard:
        directly = _postgres_through(port, rows)
        through = _postgres_through(guard.port, rows)
        for name, figure in directly.items():
            note(name, figure, through[name], "")
        _cancel(guard)
        _wait_for_a_place(port, tmp_path)
    rows.unlink()


def _cancel(guard: Guarded) -> None:
    """A request to cancel comes as a connection of its own."""
    command = ("psql", "-X", "-h", "127.0.0.1", "-p", str(guard.port), "-U", "me", "-d", "postgres")
    sleeps = "select count(*) from pg_stat_activity where query like 'select pg_sleep%'"
    with program(*command, "-c", "select pg_sleep(100)") as query:
        until(lambda: _psql(guard.port, sleeps) == "1\n")
        query.signal(signal.SIGINT)
        until(query.is_over)
        assert "canceling statement due to user request" in query.said()


def _wait_for_a_place(port: int, folder: Path) -> None:
    """More clients than PostgreSQL has places for, each with a connection for every query."""
    script = folder / "query.sql"
    script.write_text("select pg_sleep(0.3);")
    crowd = (
        "pgbench", "-h", "127.0.0.1", "-U", "me", "-n", "-c", "120", "-j", "120", "-t", "2",
        "-f", str(script), "postgres",
    )  # fmt: skip
    # Each keeps its connection until all have one, so that no two can take turns.
    with pytest.raises(AssertionError, match="too many clients already"):
        run(*crowd, "-p", str(port))
    with relay(
        "127.0.0.1:0", f"127.0.0.1:{port},max=90", "--per-client", "none",
        "--queue-timeout", "20s",
    ) as guard:  # fmt: skip
        assert "failed transactions: 0 " in run(*crowd, "-C", "-p", str(guard.port))


# ---- What is no recipe: a line's speed, and PROXY headers between programs


@needs("iperf3")
def test_bulk_both_ways_at_once() -> None:
    seconds = size(1, 5)

    def measure(port: int) -> list[float]:
        printed = run(
            "iperf3", "-c", "127.0.0.1", "-p", str(port), "--bidir", "-t", str(seconds), "-J"
        )
        end = json.loads(printed)["end"]
        names = ("sum_received", "sum_received_bidir_reverse")
        return [end[name]["bits_per_second"] / 8e9 for name in names]

    with iperf3() as port:
        # A check would be a client, and it serves one at a time.
        with relay("127.0.0.1:0", f"127.0.0.1:{port}", "--check-interval", "none") as guard:
            directly = measure(port)
            before = guard.cpu
            through = measure(guard.port)
            assert min(through) > 0.01
            note("iperf3 --bidir, there", directly[0], through[0], "GB/s")
            note("iperf3 --bidir, back", directly[1], through[1], "GB/s")
            print(f"  processor time of the guard: {guard.cpu - before:.2f} s of {seconds} s")


def _ask(port: int, *options: str) -> list[str]:
    """What nginx has been told: the client's address, its port, and the port it called."""
    return run("curl", "-s", "-S", "-m", "10", *options, f"http://127.0.0.1:{port}/").split()


@needs("nginx", "curl")
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nginx_is_told_who_the_client_is(version: str, tmp_path: Path) -> None:
    with nginx(tmp_path) as port:
        with relay(
            "127.0.0.1:0", f"127.0.0.1:{port}", "--send-proxy", version
        ) as guard:  # fmt: skip
            own = str(free_port())
            told = _ask(guard.port, "--interface", "127.0.0.9", "--local-port", own)
            assert told == ["127.0.0.9", own, str(guard.port)]


@needs("nginx", "curl")
def test_curl_says_who_it_is_to_nginx_and_to_the_guard(tmp_path: Path) -> None:
    with nginx(tmp_path) as port:
        with relay(
            "127.0.0.1:0", f"127.0.0.1:{port}", "--accept-proxy", "127.0.0.0/8",
            "--send-proxy", "v2",
        ) as guard:  # fmt: skip
            for at in (port, guard.port):
                own = str(free_port())
                options = ("--haproxy-protocol", "--interface", "127.0.0.9", "--local-port", own)
                assert _ask(at, *options) == ["127.0.0.9", own, str(at)]
            # Whoever does not say it gets nowhere.
            curl = shutil.which("curl")
            assert curl is not None
            silent = [curl, "-s", "-m", "10", f"http://127.0.0.1:{guard.port}/"]
            assert subprocess.run(silent, capture_output=True, check=False).returncode == 56


@needs("haproxy", "nginx", "curl")
@pytest.mark.parametrize("relay_in_front", ["haproxy", "nginx_stream"])
def test_a_client_is_known_behind_two_proxies(relay_in_front: str, tmp_path: Path) -> None:
    front_of = haproxy if relay_in_front == "haproxy" else nginx_stream
    with nginx(tmp_path) as port:
        with relay(
            "127.0.0.1:0", f"127.0.0.1:{port}", "--accept-proxy", "127.0.0.1",
            "--send-proxy", "v2",
        ) as guard, front_of(tmp_path, guard.port) as front:  # fmt: skip
            own = str(free_port())
            told = _ask(front, "--interface", "127.0.0.9", "--local-port", own)
            assert told == ["127.0.0.9", own, str(front)]
