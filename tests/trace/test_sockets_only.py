"""Traces without a capture."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys

import pytest

from tieline import ConnectionClosedError, NetworkError
from tieline.trace import Note, Outcome, Side, Source, TcpState, trace, watch

from .hosts import Host, ask_and_answer, needs_capture, reset

S = TcpState


def test_a_short_connection() -> None:
    with Host(ask_and_answer) as server:
        seen = trace(server.address, b"ping", close="server", captured=False)
    assert seen.source is Source.SOCKET
    assert seen.why_not_captured == "not asked for"
    assert seen.outcome is Outcome.CLOSED
    assert seen.packets == ()
    assert [(step.note, step.side) for step in seen.steps] == [
        (Note.CONNECT_CALLED, Side.CLIENT),
        (Note.CONNECTED, Side.CLIENT),
        (Note.SENT, Side.CLIENT),
        (Note.RECEIVED, Side.SERVER),
        (Note.END_RECEIVED, Side.SERVER),
        (Note.CLOSED_HERE, Side.CLIENT),
    ]
    assert [step.payload for step in seen.steps if step.size] == [b"ping", b"thank you !"]
    assert not any(step.is_segment for step in seen.steps)
    assert [step.client_state for step in seen.steps[:2]] == [S.SYN_SENT, S.ESTABLISHED]
    assert (seen.steps[4].client_state, seen.steps[4].server_state) == (S.CLOSE_WAIT, S.FIN_WAIT_2)
    assert seen.steps[-1].server_state in (S.FIN_WAIT_2, S.TIME_WAIT)
    assert seen.facts is not None


def test_the_client_closes_first() -> None:
    def serve(connected: socket.socket) -> None:
        ask_and_answer(connected)
        assert connected.recv(9) == b""

    with Host(serve) as server:
        seen = trace(server.address, b"ping", captured=False)
    last = seen.steps[-1]
    assert last.note is Note.END_RECEIVED
    assert (last.client_state, last.server_state) == (S.TIME_WAIT, S.CLOSED)


def test_a_connection_that_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    seen = trace(address, b"ping", captured=False)
    assert [step.note for step in seen.steps] == [Note.CONNECT_CALLED, Note.FAILED]
    assert seen.steps[-1].extra == {Note.REFUSED}
    assert seen.outcome is Outcome.REFUSED


def test_a_reset() -> None:
    def serve(connected: socket.socket) -> None:
        assert connected.recv(9) == b"ping"
        reset(connected)

    with Host(serve) as server:
        seen = trace(server.address, b"ping", captured=False)
    assert seen.steps[-1].extra == {Note.RESET}
    assert seen.outcome is Outcome.RESET
    assert isinstance(seen.failure, ConnectionClosedError)


def test_a_reset_of_our_own() -> None:
    def serve(connected: socket.socket) -> None:
        with pytest.raises(ConnectionResetError):
            connected.recv(9)

    with Host(serve) as server:
        seen = trace(server.address, close="reset", captured=False)
    assert seen.outcome is Outcome.RESET


def test_a_server_that_says_nothing() -> None:
    with Host(lambda connected: (connected.recv(9), connected.recv(9))) as server:
        seen = trace(server.address, b"ping", timeout=0.1, captured=False)
    assert Note.TIMEOUT in [step.note for step in seen.steps]
    assert seen.outcome is Outcome.TIMEOUT


def test_a_server_that_keeps_its_end_open() -> None:
    with Host(lambda connected: connected.recv(1) or server.waits.wait(20)) as server:
        seen = trace(server.address, settle=0.1, captured=False)
        server.waits.set()
    assert seen.outcome is Outcome.STILL_OPEN
    assert seen.steps[-1].client_state in (S.FIN_WAIT_1, S.FIN_WAIT_2)


# ---- Without the right to capture

_PROGRAM = """
import sys
from tieline import NetworkError
from tieline.trace import trace, watch
seen = trace(sys.argv[1], b"ping")
print(seen.source, seen.why_not_captured, seen.outcome, seen.reply)
try:
    watch(1)
except NetworkError as error:
    print(error, "/", error.hint)
"""


@needs_capture
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv to give up rights with")
def test_without_the_right_to_capture() -> None:
    with Host(ask_and_answer) as server:
        run = subprocess.run(
            ["setpriv", "--bounding-set", "-net_raw", sys.executable, "-c", _PROGRAM,
             server.address],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert run.stdout.splitlines() == [
        "socket not allowed for this user closed b'thank you !'",
        "packets cannot be captured: not allowed for this user / "
        "it takes root, or the capability CAP_NET_RAW",
    ]


def test_a_machine_without_packet_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    class Refusing(real):  # type: ignore[valid-type, misc]
        def __init__(self, family: int = -1, *rest: int, **more: int) -> None:
            if family == socket.AF_PACKET:
                raise OSError(97, "Address family not supported by protocol")
            super().__init__(family, *rest, **more)

    with Host(ask_and_answer) as server:
        monkeypatch.setattr(socket, "socket", Refusing)
        seen = trace(server.address, b"ping")
        monkeypatch.undo()
    assert seen.why_not_captured == "Address family not supported by protocol"
    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(NetworkError):
        watch(1)
