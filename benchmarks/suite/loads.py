"""Load generators as what is measured: how each is told what to do, run, and asked what it did."""

from __future__ import annotations

import contextlib
import csv
import math
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .build import BUILD, python_environment
from .machine import (
    GENERATOR_CORE,
    child_setup,
    cpu_seconds,
    seconds_without_core,
    written_bytes,
)
from .measure import Metrics, Row, error_row, not_run, row_of
from .peers import Peer
from .processes import RunError, Server, parse_result, reap, running

#: Seconds that a generator may take to begin, and to end.
_PATIENCE = 30.0
_POLL = 0.005

#: The last words of those that are ended, since they cannot be told for how long to run.
_ENDED_BY = {"wrk": signal.SIGINT, "redis_benchmark": signal.SIGTERM}

_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}
_WRK_LATENCY = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)$", re.MULTILINE)
_WRK_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Traffic:
    """What passes in a case, whoever makes it.

    Attributes:
        case: its name.
        server: who answers.
        connections: at once.
        answer: bytes of an answer, by which what was answered is counted.
        told: the generators that can make it, and what each is told.
    """

    case: str
    server: Peer
    connections: int
    answer: int
    told: Mapping[str, tuple[str, ...]]


class Load:
    """A running generator."""

    def __init__(self, peer: Peer, server: Server, told: Sequence[str], seconds: float) -> None:
        self._peer = peer
        self._server = server
        self._log = BUILD / "logs" / f"{peer.name}.log"
        self._log.parent.mkdir(exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*peer.command, *_told_of(peer, server, seconds), *told],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                env=python_environment(), preexec_fn=child_setup(GENERATOR_CORE),
            )  # fmt: skip
        self.pid = self._process.pid

    def wait_until(self, begun: Callable[[], bool]) -> None:
        """Wait for something that its server shows.

        Raises:
            RunError: it took too long, or the generator ended before.
        """
        end = time.monotonic() + _PATIENCE
        while not begun():
            self.check()
            if time.monotonic() > end:
                raise RunError(f"it did not begin within {_PATIENCE:g} s")
            time.sleep(_POLL)

    def check(self) -> None:
        """See that it still runs.

        Raises:
            RunError: it ended.
        """
        if self._process.poll() is not None:
            self.finish()
            raise RunError("it ended before its time")

    def finish(self, by: signal.Signals | None = None) -> dict[str, Any]:
        """What it says at its end, which is awaited; `by` brings it about.

        Raises:
            RunError: an exchange failed, or it did not end.
        """
        if by is not None:
            self._process.send_signal(by)
        try:
            printed, _ = self._process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            raise RunError(f"it did not end within {_PATIENCE:g} s") from None
        self._server.check()
        if not printed and self._process.returncode > 0:
            lines = self._log.read_text("utf-8", "replace").splitlines()
            raise RunError(lines[-1] if lines else f"status {self._process.returncode}")
        return _READERS.get(self._peer.name, _read_json)(printed)

    def finish_or_end(self) -> dict[str, Any]:
        """What it says at its end: its own, if it knows when that is."""
        return self.finish(_ENDED_BY.get(self._peer.name))

    def close(self) -> None:
        """End it."""
        reap(self._process)


@contextmanager
def serving(peer: Peer) -> Iterator[Server]:
    """What the generators are sent to, until the block ends.

    Raises:
        RunError: it cannot run here, or did not start.
    """
    if reason := not_run(peer):
        raise RunError(reason)
    with running(peer) as server:
        yield server


@contextmanager
def making(
    peer: Peer, server: Server, told: Sequence[str], seconds: float = 3600.0
) -> Iterator[Load]:
    """A generator, from its start until the block ends."""
    load = Load(peer, server, told, seconds)
    try:
        yield load
    finally:
        load.close()


def wait_until_under_way(load: Load, server: Server, traffic: Traffic) -> None:
    """Wait until each connection has been answered twice, on the average.

    Raises:
        RunError: as `Load.wait_until`.
    """
    enough = written_bytes(server.pid) + 2 * traffic.connections * traffic.answer
    load.wait_until(lambda: written_bytes(server.pid) >= enough)


class Window:
    """A window over a generator: both processes are looked at from outside, whoever they are.

    What was answered is what the server has written. Every generator is counted and timed alike.
    """

    def __init__(self, load: Load, server: Server, traffic: Traffic) -> None:
        self._load, self._server, self._answer = load, server, traffic.answer
        self._begin = self._look()

    def _look(self) -> tuple[float, float, float, float, int]:
        server = self._server.pid
        return (
            time.monotonic(), cpu_seconds(self._load.pid), cpu_seconds(server),
            seconds_without_core(self._load.pid, GENERATOR_CORE), written_bytes(server),
        )  # fmt: skip

    def end(self) -> Metrics:
        """What was done in it.

        Raises:
            RunError: the generator ended meanwhile, or nothing was answered.
        """
        end = self._look()
        self._load.check()
        seconds, cpu, of_server, without, written = (
            after - before for after, before in zip(end, self._begin, strict=True)
        )
        count = written / self._answer
        if count < 1 or cpu <= 0:
            raise RunError("nothing was answered in the window")
        return {
            "cpu_us": cpu / count * 1e6,
            "per_second": count / seconds,
            "per_cpu_second": count / cpu,
            "busy_percent": cpu / seconds * 100,
            "server_busy_percent": of_server / seconds * 100,
            "taken_percent": without / seconds * 100,
        }


def in_rounds(
    experiment: str,
    case: str,
    peers: Sequence[Peer],
    rounds: int,
    take: Callable[[Peer], Metrics],
    dropped: int = 1,
) -> list[Row]:
    """Rounds that go over all generators in turn, after one that does not count (`dropped`)."""
    errors = {peer.name: reason for peer in peers if (reason := not_run(peer))}
    taken: dict[str, list[Metrics]] = {peer.name: [] for peer in peers}
    for _ in range(dropped + rounds):
        for peer in [peer for peer in peers if peer.name not in errors]:
            try:
                taken[peer.name].append(take(peer))
            except RunError as error:
                errors[peer.name] = str(error)
    return [
        error_row(experiment, case, peer, errors[peer.name])
        if peer.name in errors
        else row_of(experiment, case, peer, taken[peer.name][dropped:])
        for peer in peers
    ]


# ---- How each is addressed, and what it prints


def _told_of(peer: Peer, server: Server, seconds: float) -> list[str]:
    if peer.name == "wrk":
        return ["-t1", f"-d{math.ceil(seconds)}s", "--latency", f"http://127.0.0.1:{server.port}/"]
    if peer.name == "redis_benchmark":
        return ["-p", str(server.port), "-t", "ping_inline", "--csv"]
    return ["--port", str(server.port), "--pid", str(server.pid), "--seconds", str(seconds)]


def _read_json(printed: bytes) -> dict[str, Any]:
    lines = printed.splitlines()
    return parse_result(lines[-1] if lines else b"", "the generator")


def _read_wrk(printed: bytes) -> dict[str, Any]:
    text = printed.decode("utf-8", "replace")
    for line in text.splitlines():
        if "Socket errors" in line or "Non-2xx" in line:
            raise RunError(line.strip())
    rate = _WRK_RATE.search(text)
    if rate is None:
        raise RunError(f"wrk printed no result: {text[-200:]!r}")
    latencies = {
        f"p{share}_us": float(number) * _UNITS[unit]
        for share, number, unit in _WRK_LATENCY.findall(text)
    }
    return {"per_second": float(rate.group(1)), **latencies}


def _read_redis(printed: bytes) -> dict[str, Any]:
    """Its table, in milliseconds; nothing if it was ended before there was one."""
    found: dict[str, Any] = {}
    for row in csv.DictReader(printed.decode("utf-8", "replace").splitlines()):
        with contextlib.suppress(KeyError, ValueError):
            found = {
                "per_second": float(row["rps"]),
                "p50_us": float(row["p50_latency_ms"]) * 1e3,
                "p99_us": float(row["p99_latency_ms"]) * 1e3,
            }
    return found


_READERS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "wrk": _read_wrk,
    "redis_benchmark": _read_redis,
}
