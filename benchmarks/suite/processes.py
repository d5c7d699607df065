"""Child processes: servers that run until told, and generators that run once. All are reaped."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from .build import BUILD, python_environment
from .machine import GENERATOR_CORE, child_setup, cpu_seconds
from .peers import Peer

_FIRST_PORT, _LAST_PORT = 20_000, 29_999  # below the ports which the kernel gives to clients
_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 10.0
_SETTLE_TIMEOUT = 30.0
_LOOK = 0.05  # seconds between two looks at a server that settles
_next_port = _FIRST_PORT


class RunError(Exception):
    """A server or a generator failed; the row says so."""


def _free_port() -> int:
    """A port nobody listens on, never the same twice in a run."""
    global _next_port
    while _next_port <= _LAST_PORT:
        port, _next_port = _next_port, _next_port + 1
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RunError("no free port")


def read_line(process: subprocess.Popen[bytes], timeout: float) -> bytes:
    """The next line a child prints; empty if it ended.

    Raises:
        RunError: no line came in time.
    """
    assert process.stdout is not None
    deadline = time.monotonic() + timeout
    line = b""
    while not line.endswith(b"\n"):
        left = max(0.0, deadline - time.monotonic())
        if not select.select([process.stdout], [], [], left)[0]:
            raise RunError(f"no line within {timeout:g} s")
        byte = os.read(process.stdout.fileno(), 1)
        if not byte:
            break
        line += byte
    return line


def reap(process: subprocess.Popen[bytes]) -> None:
    """End a child, by force if it must be, and collect it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


class Server:
    """A running server."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.port = _free_port()
        self._log = BUILD / "logs" / f"{peer.name}.log"
        self._log.parent.mkdir(exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*peer.command, str(self.port)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                env=python_environment(), preexec_fn=child_setup(peer.core),
            )  # fmt: skip
        self.pid = self._process.pid

    def wait_until_ready(self) -> None:
        """Wait for its word that it listens.

        Raises:
            RunError: it ended instead, or took too long.
        """
        line = read_line(self._process, _START_TIMEOUT)
        if line.strip() != b"ready":
            raise RunError(f"{self.peer.name} did not start: {self._last_words(line)}")

    def check(self) -> None:
        """See that it still runs.

        Raises:
            RunError: it ended.
        """
        if self._process.poll() is not None:
            status = self._process.returncode
            raise RunError(f"{self.peer.name} ended, status {status}: {self._last_words()}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def ask(self) -> dict[str, Any]:
        """Have it say what it has counted so far (SIGUSR2)."""
        self.signal(signal.SIGUSR2)
        return parse_result(read_line(self._process, _STOP_TIMEOUT), self.peer.name)

    def printed(self) -> bytes:
        """What it has written to its standard error so far."""
        return self._log.read_bytes()

    def finish(self) -> dict[str, Any]:
        """Tell it to end, and give what it says at its end."""
        self._process.terminate()
        return parse_result(read_line(self._process, _STOP_TIMEOUT), self.peer.name)

    def close(self) -> None:
        """End it."""
        reap(self._process)

    def _last_words(self, printed: bytes = b"") -> str:
        text = printed + self._log.read_bytes()[-2000:]
        lines = text.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


@contextmanager
def running(peer: Peer) -> Iterator[Server]:
    """A server, from its first word until the block ends."""
    server = Server(peer)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.close()


class Running(Protocol):
    """A process of ours."""

    pid: int


def settle(*running: Running, looks: int = 1) -> None:
    """Wait until processes have nothing to do, at so many looks in a row.

    Raises:
        RunError: they are busy for long.
    """
    end = time.monotonic() + _SETTLE_TIMEOUT
    before, quiet = [cpu_seconds(process.pid) for process in running], 0
    while time.monotonic() < end:
        time.sleep(_LOOK)
        after = [cpu_seconds(process.pid) for process in running]
        used = max(late - early for late, early in zip(after, before, strict=True))
        before, quiet = after, quiet + 1 if used < _LOOK / 50 else 0
        if quiet >= looks:
            return
    raise RunError(f"still busy after {_SETTLE_TIMEOUT:g} s")


def parse_result(line: bytes, who: str) -> dict[str, Any]:
    """What a child has printed as its result.

    Raises:
        RunError: it is none, or says what went wrong.
    """
    try:
        result = json.loads(line)
    except ValueError:
        raise RunError(f"{who} printed no result: {line!r}") from None
    if not isinstance(result, dict):
        raise RunError(f"{who} printed no result: {line!r}")
    if "error" in result:
        raise RunError(str(result["error"]))
    return result


def _generator(
    name: str, server: Server, options: dict[str, Any], inherited: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    command: list[str | Path] = [BUILD / name]
    forks = {"children": 1} if server.peer.forks else {}
    for key, value in {"port": server.port, "pid": server.pid, **forks, **options}.items():
        command += [f"--{key}", str(value)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        preexec_fn=child_setup(GENERATOR_CORE), pass_fds=inherited,
    )  # fmt: skip


def generate(
    name: str, server: Server, timeout: float, inherited: tuple[int, ...] = (), **options: Any
) -> dict[str, Any]:
    """Run a generator against a server, to its end, and give what it measured.

    `inherited`: descriptors of ours that it is given.

    Raises:
        RunError: a byte was lost or changed, the server ended, or it took too long.
    """
    process = _generator(name, server, options, inherited)
    try:
        return parse_result(read_line(process, timeout), name)
    finally:
        reap(process)
        server.check()  # that the server ended says more than what the generator saw of it


class Holder:
    """Open connections, kept quiet by a generator."""

    def __init__(self, process: subprocess.Popen[bytes], timeout: float) -> None:
        self._process = process
        self._timeout = timeout

    def exchange(self) -> None:
        """One more exchange on each connection, all within a fraction of a second."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"x")
        self._process.stdin.flush()
        parse_result(read_line(self._process, self._timeout), "hold")

    def release(self) -> dict[str, Any]:
        """Stop holding now; how many connections the server had closed, and when."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.wait()

    def wait(self) -> dict[str, Any]:
        """Wait until the server has closed all; how many it closed, and when."""
        return parse_result(read_line(self._process, self._timeout), "hold")


@contextmanager
def holding(
    server: Server, connections: int, timeout: float, *, together: int = 0, how: str = "hold"
) -> Iterator[Holder]:
    """Connections to a server, until the block ends: each after one exchange ("hold"), or each
    full of what it has not read ("stall")."""
    process = _generator(how, server, {"connections": connections, "together": together})
    try:
        parse_result(read_line(process, timeout), "hold")
        yield Holder(process, timeout)
    finally:
        reap(process)
