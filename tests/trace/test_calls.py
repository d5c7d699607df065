"""Real connections on the loopback, and what the trace of them shows."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from support.transports import Secrets
from tieline import (
    ConnectError,
    ConnectionClosedError,
    DeadlineError,
    EndOfStreamError,
    Gap,
    Line,
    MessageTooLargeError,
    ResolveError,
    SettingError,
    TruncatedError,
    UsageError,
)
from tieline.trace import Call, Note, Outcome, Side, Source, TcpState, Trace, trace
from tieline.trace.capture import Capture, Seen
from tieline.trace.packets import Flags

from .hosts import Host, ask_and_answer, deaf_to, hearing, interrupt, needs_capture, reset

S = TcpState


def last_states(seen: Trace) -> tuple[TcpState, TcpState]:
    return seen.steps[-1].client_state, seen.steps[-1].server_state


def notes(seen: Trace) -> list[Note]:
    return [step.note for step in seen.steps]


def until_seen(port: int, wanted: Callable[[Counter[int]], bool]) -> None:
    """Wait until segments with some flags have passed: counted by flag."""
    counted: Counter[int] = Counter()
    with Capture(port) as capture:
        while not wanted(counted):
            for seen in capture.read():
                for flag in (Flags.SYN, Flags.PSH, Flags.FIN):
                    counted[flag] += seen.segment.has(flag)


@needs_capture
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.8.9.10"])
def test_the_whole_of_a_short_connection(host: str) -> None:
    with Host(ask_and_answer, host) as server:
        seen = trace(server.address, b"ping")
    assert seen.source is Source.CAPTURE
    assert seen.why_not_captured is None
    assert (seen.server.host, seen.server.port) == (host, server.port)
    assert seen.outcome is Outcome.CLOSED
    assert seen.failure is None
    assert seen.reply == b"thank you !"
    assert notes(seen)[:4] == [Note.SYN, Note.SYN_ACK, Note.HANDSHAKE_ACK, Note.DATA]
    assert [step.payload for step in seen.steps if step.size] == [b"ping", b"thank you !"]
    assert S.TIME_WAIT in last_states(seen)
    assert seen.facts is not None
    assert seen.facts.round_trip > 0
    assert seen.facts.retransmitted == 0
    assert seen.dropped.total == 0
    assert len(seen.packets) == len(seen.steps)


@needs_capture
def test_the_client_closes_first_and_holds_time_wait() -> None:
    def serve(connected: socket.socket) -> None:
        ask_and_answer(connected)
        assert connected.recv(1) == b""

    with Host(serve) as server:
        seen = trace(server.address, b"ping")
    assert last_states(seen) == (S.TIME_WAIT, S.CLOSED)
    assert [step.side for step in seen.steps if step.note is Note.FIN] == list(Side)


@needs_capture
def test_the_server_closes_first_and_holds_time_wait() -> None:
    with Host(ask_and_answer) as server:
        seen = trace(server.address, b"ping", close="server")
    assert last_states(seen) == (S.CLOSED, S.TIME_WAIT)
    assert [step.side for step in seen.steps if step.note is Note.FIN] == list(Side)[::-1]


@needs_capture
def test_the_server_does_not_close_though_it_is_waited_for() -> None:
    def serve(connected: socket.socket) -> None:
        ask_and_answer(connected)
        assert connected.recv(9) == b""

    with Host(serve) as server:
        seen = trace(server.address, b"ping", close="server", timeout=0.2)
    assert seen.reply == b"thank you !"
    assert isinstance(seen.failure, DeadlineError)
    assert seen.outcome is Outcome.TIMEOUT


@needs_capture
def test_the_client_resets() -> None:
    def serve(connected: socket.socket) -> None:
        ask_and_answer(connected)
        with pytest.raises(ConnectionResetError):
            connected.recv(9)

    with Host(serve) as server:
        seen = trace(server.address, b"ping", close="reset")
    assert seen.outcome is Outcome.RESET
    assert seen.steps[-1].note is Note.RESET
    assert seen.failure is None


@needs_capture
def test_the_server_resets() -> None:
    def serve(connected: socket.socket) -> None:
        assert connected.recv(9) == b"ping"
        reset(connected)

    with Host(serve) as server:
        seen = trace(server.address, b"ping")
    assert seen.outcome is Outcome.RESET
    assert seen.steps[-1].note is Note.RESET
    assert seen.steps[-1].side is Side.SERVER
    assert last_states(seen) == (S.CLOSED, S.CLOSED)
    assert isinstance(seen.failure, ConnectionClosedError)


@needs_capture
def test_a_half_close() -> None:
    def serve(connected: socket.socket) -> None:
        received = b""
        while piece := connected.recv(9):
            received += piece
        connected.send(received[::-1])

    with Host(serve) as server:
        seen = trace(server.address, b"ping", half_close=True)
    assert seen.reply == b"gnip"
    [fin] = [step for step in seen.steps if step.note is Note.FIN and step.side is Side.CLIENT]
    assert fin.shows(Note.HALF_CLOSE)
    assert last_states(seen) == (S.TIME_WAIT, S.CLOSED)


@needs_capture
def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    seen = trace(address, b"ping")
    assert notes(seen) == [Note.SYN, Note.REFUSED]
    assert seen.outcome is Outcome.REFUSED
    assert isinstance(seen.failure, ConnectError)
    assert seen.facts is None


@needs_capture
def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        deaf_to(listening, Flags.SYN)
        seen = trace(f"127.0.0.1:{listening.getsockname()[1]}", b"ping", timeout=1.5)
    assert notes(seen) == [Note.SYN, Note.RETRANSMISSION, Note.TIMEOUT]
    assert [step.shows(Note.LOST) for step in seen.steps] == [True, True, False]
    assert seen.outcome is Outcome.TIMEOUT
    assert isinstance(seen.failure, DeadlineError)
    assert last_states(seen)[0] is S.CLOSED


@needs_capture
def test_the_reply_never_comes() -> None:
    with Host(lambda connected: (connected.recv(9), connected.recv(9))) as server:
        seen = trace(server.address, b"ping", timeout=0.2)
    assert Note.TIMEOUT in notes(seen)
    assert seen.outcome is Outcome.TIMEOUT
    assert isinstance(seen.failure, DeadlineError)
    # It was closed in good order all the same, and nothing of it was lost.
    assert last_states(seen) == (S.TIME_WAIT, S.CLOSED)
    assert not any(step.shows(Note.LOST) for step in seen.steps)


@needs_capture
def test_data_is_lost_twice_and_sent_again() -> None:
    def serve(connected: socket.socket) -> None:
        until_seen(server.port, lambda counted: counted[Flags.PSH] >= 1)
        hearing(connected)
        ask_and_answer(connected)

    with Host(serve, deaf=Flags.PSH) as server:
        seen = trace(server.address, b"ping")
    sent = [step for step in seen.steps if step.side is Side.CLIENT and step.shows(Note.DATA)]
    assert len(sent) >= 2
    assert [step.repeated for step in sent] == [False] + [True] * (len(sent) - 1)
    assert [step.shows(Note.LOST) for step in sent] == [True] * (len(sent) - 1) + [False]
    assert seen.outcome is Outcome.CLOSED
    assert seen.facts is not None
    assert seen.facts.retransmitted == len(sent) - 1


@needs_capture
def test_a_close_from_both_sides() -> None:
    """The client's FIN is lost on its way, and so the server's crosses it."""

    def serve(connected: socket.socket) -> None:
        assert connected.recv(9) == b"ping"
        deaf_to(connected, Flags.FIN)
        connected.send(b"pong")
        # The client ends its stream as soon as it has that; here nothing of it arrives.
        until_seen(server.port, lambda counted: counted[Flags.FIN] >= 1)
        connected.shutdown(socket.SHUT_WR)
        hearing(connected)
        assert connected.recv(9) == b""

    with Host(serve) as server:
        seen = trace(server.address, b"ping")
    fins = [step for step in seen.steps if step.shows(Note.FIN)]
    assert {step.side for step in fins if step.shows(Note.SIMULTANEOUS_CLOSE)} == set(Side)
    assert S.CLOSING in {step.client_state for step in seen.steps}
    assert seen.outcome is Outcome.CLOSED
    assert last_states(seen)[0] is S.TIME_WAIT


@needs_capture
def test_much_data() -> None:
    """More than any buffer holds, both ways at once."""
    message = bytes(2_000_000)

    def serve(connected: socket.socket) -> None:
        left = len(message)
        while left:
            left -= len(connected.recv(65_536))
        connected.sendall(message)

    with Host(serve) as server:
        seen = trace(server.address, message, reply=lambda data: len(data) >= 50_000)
    assert seen.failure is None
    for side in Side:
        sent = [step for step in seen.steps if step.side is side and step.size]
        assert sum(step.size for step in sent) >= len(message)
        assert max((step.sequence or 0) + step.size for step in sent) == 1 + len(message)
    assert sum(len(packet.data) for packet in seen.packets) > 2 * len(message)


@needs_capture
def test_nothing_is_sent_without_a_message() -> None:
    with Host(lambda connected: connected.recv(1)) as server:
        seen = trace(server.address)
    assert not any(step.size for step in seen.steps)
    assert seen.outcome is Outcome.CLOSED


@needs_capture
def test_who_waits_without_a_message() -> None:
    with Host(lambda connected: connected.send(b"220 ready\r\n")) as server:
        seen = trace(server.address, wait_for_reply=True)
    assert seen.reply == b"220 ready\r\n"


@needs_capture
def test_the_first_address_that_answers_is_traced() -> None:
    """Of a name's addresses: ::1 refuses."""
    with Host(ask_and_answer) as server:
        seen = trace(f"localhost:{server.port}", b"ping")
    assert seen.outcome is Outcome.CLOSED
    assert seen.server.host == "127.0.0.1"


@needs_capture
def test_ipv4_in_ipv6s_form() -> None:
    with Host(ask_and_answer) as server:
        seen = trace(f"[::ffff:127.0.0.1]:{server.port}", b"ping")
    assert seen.source is Source.CAPTURE
    assert seen.server.host == "127.0.0.1"


# ---- The end of a reply


def a_reply_in_pieces(connected: socket.socket) -> None:
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert connected.recv(9)
    for piece in (b"thank", b" you", b" !\n"):
        connected.send(piece)
    connected.recv(9)


def test_a_codec_says_when_the_reply_is_whole() -> None:
    with Host(a_reply_in_pieces) as server:
        assert trace(server.address, b"ping", reply=Line().codec()).reply == b"thank you !\n"


def test_a_function_says_when_the_reply_is_whole() -> None:
    with Host(a_reply_in_pieces) as server:
        seen = trace(server.address, b"ping", reply=lambda data: b"!" in data)
    assert seen.reply == b"thank you !\n"
    assert seen.failure is None


def test_silence_ends_a_reply() -> None:
    with Host(a_reply_in_pieces) as server:
        seen = trace(server.address, b"ping", reply=Gap(quiet=0.1).codec())
    assert seen.reply == b"thank you !\n"
    assert seen.failure is None


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"", EndOfStreamError),
        (b"thank", TruncatedError),
        (b"x" * 100_000, MessageTooLargeError),
    ],
)
def test_a_reply_that_is_none(reply: bytes, error: type[Exception]) -> None:
    def serve(connected: socket.socket) -> None:
        connected.recv(9)
        connected.sendall(reply)

    with Host(serve) as server:
        seen = trace(server.address, b"ping", reply=Line().codec())
    assert type(seen.failure) is error


def test_a_reply_without_end() -> None:
    def serve(connected: socket.socket) -> None:
        connected.recv(9)
        connected.sendall(bytes(100_000))

    with Host(serve) as server:
        seen = trace(server.address, b"ping", reply=lambda _: False)
    assert isinstance(seen.failure, MessageTooLargeError)


# ---- Over TLS


@needs_capture
@pytest.mark.parametrize("close", ["client", "server", "reset"])
def test_over_tls(secrets: Secrets, close: str) -> None:
    def serve(connected: socket.socket) -> None:
        with secrets.server.wrap_socket(connected, server_side=True) as secured:
            assert secured.recv(9) == b"ping"
            secured.send(b"pong")
            if close == "client":
                assert secured.recv(9) == b""

    with Host(serve, "127.0.0.1") as server:
        seen = trace(server.address, b"ping", tls=secrets.client, close=close)  # type: ignore[arg-type]
    assert seen.failure is None
    assert seen.reply == b"pong"
    assert b"ping" not in b"".join(packet.data for packet in seen.packets)


def test_a_server_that_speaks_no_tls(secrets: Secrets) -> None:
    with Host(lambda connected: connected.send(b"220 ready\r\n")) as server:
        seen = trace(server.address, b"ping", tls=secrets.client)
    assert seen.failure is not None
    assert isinstance(seen.failure.__cause__, (ssl.SSLError, OSError))


# ---- What makes no sense, and what this machine has not got


def test_no_port_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: socket.socket, name: object) -> None:
        raise OSError(98, "Address already in use")

    class Full(socket.socket):
        bind = full

    monkeypatch.setattr(socket, "socket", Full)
    with pytest.raises(ConnectError, match="no local port is free"):
        trace("127.0.0.1:1")


def test_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", none)
    with pytest.raises(ConnectError):
        trace("127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"close": "nobody"}, SettingError),
        ({"timeout": 0}, SettingError),
        ({"settle": -1}, SettingError),
    ],
)
def test_settings_that_make_no_sense(arguments: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        Call("127.0.0.1:1", **arguments)  # type: ignore[arg-type]


def test_a_unix_socket_has_no_packets() -> None:
    with pytest.raises(UsageError):
        trace("unix:/tmp/x")


def test_a_name_that_has_no_address() -> None:
    with pytest.raises(ResolveError):
        trace("a..b:1")


# ---- Interrupted


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("captured", [pytest.param(True, marks=needs_capture), False])
def test_what_was_seen_before_an_interruption(captured: bool) -> None:
    def on(_number: int, _frame: object) -> None:
        raise Interrupted

    def has_seen_the_message() -> bool:
        seen = call.so_far()
        return seen is not None and any(step.payload == b"ping" for step in seen.steps)

    def serve(connected: socket.socket) -> None:
        assert connected.recv(9) == b"ping"
        while not has_seen_the_message():
            pass
        interrupt()
        assert connected.recv(9) == b""

    before = signal.signal(signal.SIGUSR1, on)
    try:
        with Host(serve) as server:
            call = Call(server.address, b"ping", captured=captured)
            assert call.so_far() is None
            with pytest.raises(Interrupted):
                call.run()
    finally:
        signal.signal(signal.SIGUSR1, before)
    seen = call.so_far()
    assert seen is not None
    assert seen.source is (Source.CAPTURE if captured else Source.SOCKET)
    assert seen.outcome is Outcome.STILL_OPEN
    assert has_seen_the_message()


@needs_capture
def test_a_capture_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Capture.read

    def failing(self: Capture) -> Iterator[Seen]:
        os.dup2(null, self.fileno())
        return read(self)

    null = os.open(os.devnull, os.O_RDONLY)
    try:
        with Host(ask_and_answer) as server:
            monkeypatch.setattr(Capture, "read", failing)
            seen = trace(server.address, b"ping")
            monkeypatch.undo()
    finally:
        os.close(null)
    assert seen.reply == b"thank you !"
    assert seen.source is Source.SOCKET
    assert seen.why_not_captured == "Socket operation on non-socket"


@needs_capture
def test_others_of_the_same_server_are_not_in_the_trace() -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as busy:

        def others() -> None:
            while not stop.is_set():
                with socket.create_connection(busy.getsockname()), busy.accept()[0]:
                    pass

        thread = threading.Thread(target=others)
        thread.start()
        try:
            with Host(ask_and_answer) as server:
                seen = trace(server.address, b"ping")
        finally:
            stop.set()
            thread.join()
    assert len(seen.steps) < 15


def test_times_begin_with_the_first_step() -> None:
    before = time.time()
    with Host(ask_and_answer) as server:
        seen = trace(server.address, b"ping")
    assert seen.steps[0].at == 0
    assert seen.started_at == pytest.approx(before, abs=60)
