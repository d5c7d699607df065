"""A server whose lines nobody reads: it serves on, and says later how many were left out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TextIO

import pexpect
import pytest

from cli.command_process import PATIENCE, Tieline
from tieline.cli.outlet import Outlet

# ---- The outlet


class Piped:
    """An outlet into a pipe, and what comes out at its other end."""

    def __init__(self, stream: TextIO, reading: IO[bytes]) -> None:
        self.reading = reading
        self.broken = 0
        self.has_left = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.outlet = Outlet(loop, stream, lambda count: f"missing {count}\n", self._on_broken)

    def _on_broken(self) -> None:
        self.broken += 1
        self.has_left.set()

    async def read_until(self, last: str) -> list[str]:
        """The lines up to the one that ends like this (a pattern)."""
        data = b""
        while not re.search(f"{last}\n$".encode(), data[-200:]):
            data += await asyncio.to_thread(os.read, self.reading.fileno(), 65_536)
        return data.decode().splitlines()


@contextlib.contextmanager
def pipe() -> Iterator[Piped]:
    ends = os.pipe()
    with open(ends[0], "rb") as reading, open(ends[1], "w", encoding="utf-8") as stream:
        piped = Piped(stream, reading)
        yield piped
        piped.outlet.close(0.0)


async def test_lines_wait_and_come_in_order() -> None:
    lines = [f"{number}: {'好' * 20}" for number in range(5000)]
    with pipe() as piped:
        for line in lines:
            piped.outlet.write(line + "\n")
        assert await piped.read_until(lines[-1]) == lines
        # Nothing is left over: this goes out at once.
        piped.outlet.write("again\n")
        assert os.read(piped.reading.fileno(), 100) == b"again\n"


async def test_a_line_that_is_longer_than_the_pipe_comes_whole() -> None:
    with pipe() as piped:
        piped.outlet.write("x" * 300_000 + "\n")
        assert await piped.read_until("x") == ["x" * 300_000]


async def test_beyond_the_bound_lines_are_counted_where_they_are_missing() -> None:
    with pipe() as piped:
        for number in range(30_000):
            piped.outlet.write(f"{number:099}\n")
        lines = await piped.read_until(r"missing \d+")
        missing = int(lines[-1].partition(" ")[2])
        # What the pipe holds, and what waits.
        assert 10_000 < missing < 20_000
        assert [int(line) for line in lines[:-1]] == list(range(30_000 - missing))
        piped.outlet.write("and on\n")
        assert await piped.read_until("and on") == ["and on"]


async def test_whoever_reads_may_leave() -> None:
    with pipe() as piped:
        piped.outlet.write("x" * 200_000)
        piped.reading.close()
        piped.outlet.write("y")
        await piped.has_left.wait()
        piped.outlet.write("z")
        assert piped.broken == 1


async def test_at_its_end_it_waits_so_long_and_no_longer() -> None:
    with pipe() as piped:
        piped.outlet.write("x" * 70_000 + "\n")
        descriptor = piped.reading.fileno()
        reading = asyncio.get_running_loop().run_in_executor(None, os.read, descriptor, 65_536)
        piped.outlet.close(PATIENCE)
        assert len(await reading) + len(os.read(descriptor, 100_000)) == 70_001
        piped.outlet.write("y" * 200_000)
        piped.outlet.close(0.01)


def test_a_file_needs_none(tmp_path: Path) -> None:
    with (tmp_path / "lines").open("w") as file, open(os.devnull, "w") as nowhere:
        assert not Outlet.suits(file)
        assert not Outlet.suits(nowhere)


# ---- The commands

_LINE = b"x" * 8000 + b"\n"


def _exchange(port: int, times: int) -> None:
    """Have so many long lines echoed."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        for _ in range(times):
            client.sendall(_LINE)
            left = len(_LINE)
            while left:
                left -= len(client.recv(65_536))


@contextlib.contextmanager
def _unread_server(
    tieline: Tieline, *arguments: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    command = [sys.executable, "-m", "tieline", "serve", "--listen", "127.0.0.1:0", "--echo"]
    with subprocess.Popen(
        [*command, "--framing", "line", *arguments], env=tieline.environment({}),
        cwd=tieline.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            yield process, int(process.stderr.readline().rpartition(b":")[2])
        finally:
            process.kill()


def test_a_server_serves_though_nobody_reads_what_it_shows(tieline: Tieline) -> None:
    with _unread_server(tieline) as (process, port):
        _exchange(port, 300)
        assert process.stdout is not None
        shown = 0
        while b"missing" not in (line := process.stdout.readline()):
            shown += 1
        said = re.fullmatch(rb"(\d+) lines are missing here: nobody was reading\n", line)
        assert said is not None
        # Opened, 300 lines each way, and perhaps by now that it is closed.
        assert shown + int(said[1]) in (601, 602)


def test_programs_are_told_too(tieline: Tieline) -> None:
    with _unread_server(tieline, "--json") as (process, port):
        _exchange(port, 150)
        assert process.stdout is not None
        events = iter(json.loads(line) for line in process.stdout)
        last = next(event for event in events if event["event"] == "unread")
        assert (last["v"], last["count"] > 1) == (1, True)


def test_a_server_that_nobody_reads_can_be_ended(tieline: Tieline) -> None:
    with _unread_server(tieline) as (process, port):
        _exchange(port, 300)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 143


@pytest.mark.parametrize("stop", ["\x13", ""], ids=["Ctrl-S", "not read"])
def test_a_terminal_that_is_stopped_stops_nobody(tieline: Tieline, stop: str) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-m", "tieline", "serve", "--listen", "127.0.0.1:0", "--echo", "--framing", "line"],
        env=tieline.environment({}), cwd=str(tieline.folder), encoding="utf-8", timeout=PATIENCE,
        searchwindowsize=200,
    )  # fmt: skip
    try:
        child.expect(r"127\.0\.0\.1:(\d+)\r\n")
        assert isinstance(child.match, re.Match)
        port = int(child.match[1])
        child.expect("telnet")
        child.send(stop)
        _exchange(port, 100)
        child.send("\x11")
        child.expect(r"\d+ lines are missing here: nobody was reading")
        child.send("\x03")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    assert child.exitstatus == 130
