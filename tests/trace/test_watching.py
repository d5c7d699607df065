"""The next connection to a port, seen from beside."""

from __future__ import annotations

import signal
import socket
import threading

import pytest

from tieline import AddressError, SettingError
from tieline.trace import Note, Outcome, Source, TcpState, Trace, Watch, watch

from .hosts import interrupt, needs_capture

pytestmark = needs_capture


class Watching:
    """A `Watch` in a thread of its own. `seen` waits for what it saw."""

    def __init__(self, port: int, timeout: float = 20.0) -> None:
        self._trace: Trace | None = None
        self._watch = Watch(port, timeout=timeout)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._watch.ready.wait(20)

    def _run(self) -> None:
        self._trace = self._watch.run()

    def seen(self) -> Trace:
        self._thread.join()
        assert self._trace is not None
        return self._trace


def exchange(listening: socket.socket) -> tuple[str, int]:
    """A short connection between two bare sockets; what the client's is called."""
    with socket.create_connection(listening.getsockname()[:2]) as client:
        with listening.accept()[0] as server:
            client.send(b"ping")
            assert server.recv(9) == b"ping"
            server.send(b"pong")
            assert client.recv(9) == b"pong"
            name: tuple[str, int] = client.getsockname()[:2]
            client.shutdown(socket.SHUT_WR)
            assert server.recv(9) == b""
    return name


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_next_connection(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:
        port = listening.getsockname()[1]
        watching = Watching(port)
        name = exchange(listening)
        exchange(listening)
        seen = watching.seen()
    assert seen.source is Source.CAPTURE
    assert (seen.client.host, seen.client.port) == name
    assert (seen.server.host, seen.server.port) == (host, port)
    assert seen.outcome is Outcome.CLOSED
    assert [step.payload for step in seen.steps if step.size] == [b"ping", b"pong"]
    last = seen.steps[-1]
    assert (last.client_state, last.server_state) == (TcpState.TIME_WAIT, TcpState.CLOSED)
    assert seen.facts is None
    assert len(seen.packets) == len(seen.steps)


def test_somebody_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        watching = Watching(port)
        with pytest.raises(ConnectionRefusedError), socket.socket() as client:
            client.connect(("127.0.0.1", port))
        seen = watching.seen()
    assert seen.outcome is Outcome.REFUSED
    assert [step.note for step in seen.steps] == [Note.SYN, Note.REFUSED]


def test_a_connection_that_is_still_open_when_the_time_is_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        watching = Watching(listening.getsockname()[1], timeout=0.3)
        with socket.create_connection(listening.getsockname()), listening.accept()[0]:
            seen = watching.seen()
    assert seen.outcome is Outcome.STILL_OPEN
    assert len(seen.steps) == 3


def test_nobody_comes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        seen = watch(port, timeout=0.05)
    assert seen.steps == ()
    assert seen.outcome is Outcome.STILL_OPEN
    assert seen.server.port == port


def test_connections_that_were_there_before_are_not_the_next() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with socket.create_connection(listening.getsockname()) as early, listening.accept()[0]:
            watching = Watching(listening.getsockname()[1])
            early.send(b"early")
            name = exchange(listening)
            seen = watching.seen()
    assert (seen.client.host, seen.client.port) == name


def test_an_interruption() -> None:
    class Interrupted(Exception):
        pass

    def on(_number: int, _frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, on)
    try:
        watching = Watch(1, timeout=20)

        def when_ready() -> None:
            assert watching.ready.wait(20)
            interrupt()

        thread = threading.Thread(target=when_ready)
        thread.start()
        with pytest.raises(Interrupted):
            watching.run()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert watching.so_far().steps == ()


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_no_port(port: int) -> None:
    with pytest.raises(AddressError):
        watch(port)


def test_no_time() -> None:
    with pytest.raises(SettingError):
        watch(1, timeout=0)
