"""The client without asyncio: against plain sockets, and against tieline's own server."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import queue
import signal
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

import tieline
from tieline import Delimiter, Fixed, Framing, Gap, LengthPrefix, Limits, Line, Raw
from tieline.blocking import Connection, ask, connect
from tieline.client import CLIENT_LIMITS
from tieline.errors import (
    AddressError,
    ConnectError,
    ConnectionClosedError,
    DeadlineError,
    EndOfStreamError,
    MessageTooLargeError,
    PeerError,
    ReceiveConflictError,
    ResolveError,
    SettingError,
    TielineError,
    TlsError,
    TruncatedError,
    UndecodableError,
    UnframableError,
    UsageError,
)
from tieline.reasons import CloseReason
from tieline.states import State

#: Far longer than anything here takes: what waits for it hangs.
FOREVER = 30.0

Script = Callable[[socket.socket], object]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Every test gives back its descriptors and its threads."""
    before, threads = descriptors(), threading.active_count()
    yield
    assert descriptors() == before
    assert threading.active_count() == threads


@contextmanager
def background(act: Callable[[], object]) -> Iterator[None]:
    """Do something in a thread meanwhile; its failure is the test's."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(FOREVER)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


@contextmanager
def listening(family: int = socket.AF_INET, name: Any = None, backlog: int = 8) -> Iterator[Any]:
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind(name or ("127.0.0.1", 0))
        listener.listen(backlog)
        listener.settimeout(FOREVER)
        yield listener


def text_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"


@contextmanager
def peer(script: Script) -> Iterator[str]:
    """A plain socket at the other end, which does what a script says; yields its address."""
    with listening() as listener:

        def serve_one() -> None:
            connected, _ = listener.accept()
            with connected:
                connected.settimeout(FOREVER)
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                script(connected)

        with background(serve_one):
            yield text_of(listener)


def says(*pieces: bytes) -> Script:
    """A peer that says something, and then ends."""

    def script(connected: socket.socket) -> None:
        for piece in pieces:
            connected.sendall(piece)

    return script


def read_to_end(connected: socket.socket) -> bytes:
    data = bytearray()
    while piece := connected.recv(65536):
        data += piece
    return bytes(data)


def read_till_gone(connected: socket.socket) -> None:
    """Until the client is gone, in whichever way."""
    with suppress(ConnectionResetError):
        read_to_end(connected)


def send_for_ever(connection: Connection, message: bytes, **options: float) -> None:
    while True:
        connection.send(message, **options)


def says_and_resets(words: bytes) -> Script:
    """A peer that answers the first byte, and cuts off. (Before it, there might never be a
    connection for the client: connecting fails when the reset comes first.)"""

    def script(connected: socket.socket) -> None:
        assert connected.recv(1)
        connected.sendall(words)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return script


@contextmanager
def tieline_server(handler: Any, address: str = "127.0.0.1:0", **options: Any) -> Iterator[str]:
    """tieline's own server in a loop in a thread; yields its address."""
    started: queue.Queue[tuple[asyncio.AbstractEventLoop, asyncio.Event, str]] = queue.Queue()

    async def serve() -> None:
        stop = asyncio.Event()
        async with tieline.serve(handler, address, **options) as server:
            started.put((asyncio.get_running_loop(), stop, str(server.addresses[0])))
            await stop.wait()

    with background(lambda: asyncio.run(serve())):
        loop, stop, where = started.get(timeout=FOREVER)
        try:
            yield where
        finally:
            loop.call_soon_threadsafe(stop.set)


def echo(connection: tieline.Connection, message: Any) -> Any:
    return message


# ---- Messages


@pytest.mark.parametrize(
    "framing",
    [Raw(), Line(), Delimiter(b"||"), Fixed(5), LengthPrefix(2), Gap(0.02)],
    ids=lambda framing: type(framing).__name__,
)
@pytest.mark.parametrize("encoding", [None, "gbk", "auto"])
def test_ask_in_every_framing(framing: Framing, encoding: str | None) -> None:
    message = b"a\xc4\xe3\xba\xc3" if encoding is None else "a你好"
    if encoding == "auto" and isinstance(framing, Fixed):
        framing = Fixed(7)
    with tieline_server(echo, framing=framing, encoding=encoding) as where:
        assert ask(where, message, framing=framing, encoding=encoding) == message


@pytest.mark.parametrize("framing", [Line(), Delimiter(b"||"), Fixed(5), LengthPrefix(4)])
def test_many_messages_on_one_connection(framing: Framing) -> None:
    sent = [b"%05d" % number for number in range(500)]
    with (
        tieline_server(echo, framing=framing) as where,
        connect(where, framing=framing) as connection,
    ):
        for message in sent:
            connection.send(message)
        connection.half_close()
        assert list(connection) == sent
        assert connection.messages_sent == connection.messages_received == 500
        assert connection.bytes_sent == connection.bytes_received >= 2500
    assert connection.close_reason is CloseReason.PEER_CLOSED


def test_a_message_larger_than_every_buffer() -> None:
    message = bytes(range(256)) * 65_536
    limits = Limits(max_message=len(message))
    framing = LengthPrefix(4)
    with tieline_server(echo, framing=framing, limits=limits) as where:
        reply = ask(where, message, framing=framing, limits=limits, timeout=FOREVER)
    assert reply == message


def test_gbk_one_byte_at_a_time() -> None:
    said = "你好，世界\n谢谢\n".encode("gbk")
    with (
        peer(says(*(bytes([byte]) for byte in said))) as where,
        connect(where, framing=Line(), encoding="gbk") as connection,
    ):
        assert list(connection) == ["你好，世界", "谢谢"]
        assert connection.encoding == "gbk"


def test_what_goes_out_is_in_the_charset() -> None:
    heard: list[bytes] = []
    with (
        peer(lambda connected: heard.append(read_to_end(connected))) as where,
        connect(where, framing=Line(), encoding="gbk") as connection,
    ):
        connection.send("你好")
    assert heard == ["你好\n".encode("gbk")]


def test_auto_answers_in_what_the_peer_speaks() -> None:
    heard: list[bytes] = []

    def script(connected: socket.socket) -> None:
        connected.sendall("你好\n".encode("gbk"))
        heard.append(read_to_end(connected))

    with (
        peer(script) as where,
        connect(where, framing=Line(), encoding="auto") as connection,
    ):
        assert connection.receive() == "你好"
        connection.send("谢谢")
    assert heard == ["谢谢\n".encode("gb18030")]


def test_silence_ends_a_message() -> None:
    more = threading.Event()

    def script(connected: socket.socket) -> None:
        for piece in (b"one ", b"mess", b"age"):
            connected.sendall(piece)
        assert more.wait(FOREVER)
        connected.sendall(b"another")

    with peer(script) as where, connect(where, framing=Gap(0.05)) as connection:
        assert connection.receive() == b"one message"
        more.set()
        assert connection.receive() == b"another"
        with pytest.raises(EndOfStreamError):
            connection.receive()


def test_silence_goes_on_between_two_calls() -> None:
    said = threading.Event()

    def script(connected: socket.socket) -> None:
        connected.sendall(b"slow")
        said.set()
        read_to_end(connected)

    with peer(script) as where, connect(where, framing=Gap(0.2)) as connection:
        assert said.wait(FOREVER)
        with pytest.raises(DeadlineError):
            connection.receive(timeout=0.01)
        assert connection.receive() == b"slow"


def test_a_message_that_cannot_be_sent_costs_nothing() -> None:
    with (
        tieline_server(echo, framing=Line()) as where,
        connect(where, framing=Line()) as connection,
    ):
        with pytest.raises(UnframableError):
            connection.send(b"a\nb")
        with pytest.raises(UsageError):
            connection.send("text")
        connection.send(b"good")
        assert connection.receive() == b"good"
        assert connection.messages_sent == 1


# ---- The peer's end


def test_the_end_of_the_stream() -> None:
    with peer(says(b"one\ntwo\n")) as where, connect(where, framing=Line()) as connection:
        assert [*connection] == [b"one", b"two"]
        assert not connection.is_receiving
        assert connection.state is State.PEER_ENDED
        for _ in range(2):
            with pytest.raises(EndOfStreamError):
                connection.receive()
        assert connection.close_reason is None
    assert connection.close_reason is CloseReason.PEER_CLOSED


@pytest.mark.parametrize(
    ("said", "encoding", "error", "reason"),
    [
        (b"one\ntw", None, TruncatedError, CloseReason.TRUNCATED),
        (b"one\n" + b"x" * 99 + b"\ntwo\n", None, MessageTooLargeError, "message_too_large"),
        (b"one\n\xff\xff\ntwo\n", "gbk", UndecodableError, CloseReason.UNDECODABLE),
    ],
)
def test_what_was_whole_comes_before_the_error(
    said: bytes, encoding: str | None, error: type[PeerError], reason: str
) -> None:
    limits = Limits(max_message=10)
    with (
        peer(says(said)) as where,
        connect(where, framing=Line(), encoding=encoding, limits=limits) as connection,
    ):
        assert connection.receive() in (b"one", "one")
        for _ in range(2):
            with pytest.raises(error):
                connection.receive()
        with pytest.raises(error):
            next(connection)
        assert connection.messages_received == 1
    assert connection.close_reason == reason
    with pytest.raises(error):
        connection.send(b"late" if encoding is None else "late")


def test_the_end_inside_a_character() -> None:
    with (
        peer(says("你好".encode("gbk")[:3])) as where,
        connect(where, encoding="gbk") as connection,
    ):
        assert connection.receive() == "你"
        with pytest.raises(TruncatedError):
            connection.receive()


def test_a_reset_in_the_middle() -> None:
    with (
        peer(says_and_resets(b"one\ntw")) as where,
        connect(where, framing=Line()) as connection,
    ):
        connection.send(b"x")
        assert connection.receive() == b"one"
        for _ in range(2):
            with pytest.raises(ConnectionClosedError) as caught:
                connection.receive()
            assert caught.value.reason is CloseReason.PEER_RESET
        assert connection.state is State.CLOSED
        with pytest.raises(ConnectionClosedError):
            list(connection)
        with pytest.raises(ConnectionClosedError):
            connection.send(b"late")
        with pytest.raises(ConnectionClosedError):
            connection.half_close()
        with pytest.raises(ConnectionClosedError):
            connection.tcp_info()
    assert connection.close_reason is CloseReason.PEER_RESET


def test_last_words_are_received_after_sending_has_failed() -> None:
    with (
        peer(says_and_resets(b"go away\n")) as where,
        connect(where, framing=Line()) as connection,
    ):
        with pytest.raises(ConnectionClosedError) as caught:
            send_for_ever(connection, b"more")
        assert caught.value.reason is CloseReason.PEER_RESET
        with pytest.raises(ConnectionClosedError):
            connection.half_close()
        assert connection.receive() == b"go away"
        with pytest.raises(ConnectionClosedError) as caught:
            connection.receive()
        assert caught.value.reason is CloseReason.PEER_RESET
    assert connection.close_reason is CloseReason.PEER_RESET


def test_closing_after_sending_has_failed() -> None:
    with peer(says_and_resets(b"")) as where, connect(where, framing=Line()) as connection:
        with pytest.raises(ConnectionClosedError):
            send_for_ever(connection, b"more")
        connection.close()
        assert connection.close_reason is CloseReason.PEER_RESET


# ---- Time limits


def test_a_missed_message_is_there_later() -> None:
    asked = threading.Event()

    def script(connected: socket.socket) -> None:
        connected.sendall(b"hal")
        assert asked.wait(FOREVER)
        connected.sendall(b"f\n")
        read_to_end(connected)

    with peer(script) as where, connect(where, framing=Line()) as connection:
        for timeout in (0, 0.05):
            with pytest.raises(DeadlineError, match=r"receiving from 127\.0\.0\.1:\d+ took"):
                connection.receive(timeout=timeout)
        asked.set()
        assert connection.receive(timeout=None) == b"half"


def test_the_connections_own_timeout() -> None:
    with peer(read_to_end) as where, connect(where, timeout=0.5) as connection:
        assert connection.timeout == 0.5
        connection.timeout = 0.01
        with pytest.raises(DeadlineError) as caught:
            connection.receive()
        assert caught.value.fields["seconds"] == 0.01
        with pytest.raises(DeadlineError):
            next(connection)
        with pytest.raises(SettingError):
            connection.timeout = 0
        with pytest.raises(SettingError):
            connection.receive(timeout=-1)
        with pytest.raises(SettingError):
            connection.send(b"x", timeout=float("nan"))


def test_part_of_a_message_that_is_not_taken_cuts_off() -> None:
    done = threading.Event()
    with (
        peer(lambda connected: done.wait(FOREVER)) as where,
        connect(where) as connection,
    ):
        with pytest.raises(DeadlineError, match="cut off after") as caught:
            connection.send(b"x" * 50_000_000, timeout=0.1)
        assert 0 < caught.value.fields["sent"] < caught.value.fields["size"] == 50_000_000
        assert connection.close_reason is CloseReason.SLOW_READER
        for use in (lambda: connection.send(b"x"), connection.receive, connection.half_close):
            with pytest.raises(ConnectionClosedError) as closed:
                use()
            assert closed.value.reason is CloseReason.SLOW_READER
        done.set()


def test_a_message_not_begun_may_be_sent_again() -> None:
    full = threading.Event()
    heard: list[int] = []

    def script(connected: socket.socket) -> None:
        assert full.wait(FOREVER)
        heard.append(len(read_to_end(connected)))

    with peer(script) as where, connect(where, framing=Fixed(1000)) as connection:
        message = b"x" * 1000
        with pytest.raises(DeadlineError):
            send_for_ever(connection, message, timeout=0.05)
        assert connection.state is State.OPEN
        full.set()
        connection.send(message)
    assert heard == [connection.messages_sent * 1000]


# ---- Ending


def test_half_close_then_receive_everything() -> None:
    def script(connected: socket.socket) -> None:
        for line in read_to_end(connected).split():
            connected.sendall(line[::-1] + b"\n")

    with peer(script) as where, connect(where, framing=Line()) as connection:
        connection.send(b"abc")
        connection.send(b"def")
        connection.half_close()
        connection.half_close()
        assert connection.state is State.HALF_CLOSED
        with pytest.raises(UsageError, match="ended its stream"):
            connection.send(b"late")
        assert [*connection] == [b"cba", b"fed"]
        assert connection.close_reason is CloseReason.PEER_CLOSED


def test_half_close_after_the_peers_end_drops_nothing() -> None:
    with peer(says(b"one\ntwo\n")) as where, connect(where, framing=Line()) as connection:
        assert connection.receive() == b"one"
        # The peer's end is known only once a read has met it.
        while connection.is_receiving:
            with suppress(DeadlineError):
                connection._read(connection._deadline(1, "receiving from"))
        connection.half_close()
        assert connection.close_reason is CloseReason.PEER_CLOSED
        assert [*connection] == [b"two"]


def test_close_sends_everything_and_waits_for_the_peer() -> None:
    heard: list[bytes] = []

    def script(connected: socket.socket) -> None:
        heard.append(read_to_end(connected))
        # Nobody will read it, and nobody may be hurt by it.
        connected.sendall(b"bye" * 1000)

    with peer(script) as where:
        connection = connect(where)
        connection.send(b"x" * 100_000)
        connection.close()
        connection.close()
        connection.abort()
        assert connection.close_reason is CloseReason.CLOSED
        assert heard == [b"x" * 100_000]
        with pytest.raises(ConnectionClosedError) as caught:
            connection.receive()
        assert caught.value.reason is CloseReason.CLOSED
        assert list(connection) == []


def test_what_was_not_received_before_close_is_dropped() -> None:
    with peer(says(b"one\ntwo\n")) as where, connect(where, framing=Line()) as connection:
        assert connection.receive() == b"one"
        connection.close()
        with pytest.raises(ConnectionClosedError):
            connection.receive()


def limits_closing(seconds: float) -> Limits:
    return Limits(idle=None, first_byte=None, message=None, closing=seconds)


@pytest.mark.parametrize(
    ("size", "reason"), [(10, CloseReason.CLOSED), (50_000, CloseReason.CLOSE_TIMEOUT)]
)
def test_a_peer_that_does_not_end(size: int, reason: CloseReason) -> None:
    done = threading.Event()
    with listening() as listener:
        # So small a window that most of the larger message stays with this side.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection = connect(text_of(listener), limits=limits_closing(0.1))

        def hold() -> None:
            connected, _ = listener.accept()
            with connected:
                done.wait(FOREVER)

        with background(hold):
            connection.send(b"x" * size)
            connection.close()
            assert connection.close_reason is reason
            done.set()


def test_a_peer_that_floods_the_close_is_reset() -> None:
    def script(connected: socket.socket) -> None:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connected.sendall(b"x" * 100_000_000)

    with peer(script) as where:
        connection = connect(where)
        connection.close()
        assert connection.close_reason is CloseReason.CLOSED


def test_abort_resets() -> None:
    def script(connected: socket.socket) -> None:
        assert connected.recv(1) == b"x"
        with pytest.raises(ConnectionResetError):
            connected.recv(1)

    with peer(script) as where, connect(where) as connection:
        connection.send(b"x")
        connection.abort()
        connection.abort()
        assert connection.close_reason is CloseReason.ABORTED


def test_interrupted_it_leaves_nothing_behind() -> None:
    main = threading.main_thread().ident
    assert main is not None

    def script(connected: socket.socket) -> None:
        connected.recv(1)
        signal.pthread_kill(main, signal.SIGINT)
        # If it is struck while it still sends, that is a reset.
        read_till_gone(connected)

    def send_and_receive(connection: Connection) -> None:
        with connection:
            connection.send(b"x")
            connection.receive()

    with peer(script) as where:
        connection = connect(where, timeout=FOREVER)
        with pytest.raises(KeyboardInterrupt):
            send_and_receive(connection)
    assert connection.state is State.CLOSED


def test_interrupted_in_the_middle_of_a_message_it_resets() -> None:
    main = threading.main_thread().ident
    assert main is not None

    def script(connected: socket.socket) -> None:
        connected.recv(1)
        signal.pthread_kill(main, signal.SIGINT)
        with pytest.raises(ConnectionResetError):
            read_to_end(connected)

    with (
        peer(script) as where,
        pytest.raises(KeyboardInterrupt),
        connect(where, timeout=FOREVER) as connection,
    ):
        connection.send(b"x" * 100_000_000)
    assert connection.close_reason is CloseReason.ABORTED


# ---- Several threads


def test_one_thread_sends_while_another_receives() -> None:
    total = 3000
    with (
        tieline_server(echo, framing=Line()) as where,
        connect(where, framing=Line(), timeout=FOREVER) as connection,
    ):

        def send_all() -> None:
            for number in range(total):
                connection.send(b"%d" % number)
            connection.half_close()

        with background(send_all):
            assert list(connection) == [b"%d" % number for number in range(total)]


def test_messages_of_two_senders_do_not_mix() -> None:
    size = 300_000
    heard: list[bytes] = []
    with (
        peer(lambda connected: heard.append(read_to_end(connected))) as where,
        connect(where, timeout=FOREVER) as connection,
    ):
        with background(lambda: connection.send(b"a" * size)):
            connection.send(b"b" * size)
        connection.close()
    assert heard[0] in (b"a" * size + b"b" * size, b"b" * size + b"a" * size)


def waiting(connection: Connection, count: str) -> None:
    """Until another thread waits for the connection."""
    while not getattr(connection._channel, count):
        threading.Event().wait(0.001)


def test_two_threads_that_receive() -> None:
    with (
        tieline_server(echo, framing=Line()) as where,
        connect(where, framing=Line(), timeout=FOREVER) as connection,
    ):
        got: list[Any] = []
        with background(lambda: got.append(connection.receive())):
            waiting(connection, "_readers")
            with pytest.raises(ReceiveConflictError, match="thread"):
                connection.receive()
            connection.send(b"x")
        assert got == [b"x"]


@pytest.mark.parametrize("end", [Connection.abort, Connection.close])
def test_ending_wakes_a_thread_that_receives(end: Callable[[Connection], None]) -> None:
    with peer(read_till_gone) as where:
        connection = connect(where, timeout=None)

        def receive() -> None:
            with pytest.raises(ConnectionClosedError):
                connection.receive()

        with background(receive):
            waiting(connection, "_readers")
            end(connection)
        assert connection.state is State.CLOSED


def test_abort_wakes_a_thread_that_sends() -> None:
    done = threading.Event()
    with peer(lambda connected: done.wait(FOREVER)) as where:
        connection = connect(where, timeout=None)

        def send() -> None:
            with pytest.raises(ConnectionClosedError) as caught:
                connection.send(b"x" * 50_000_000)
            assert caught.value.reason is CloseReason.ABORTED

        with background(send):
            waiting(connection, "_writers")
            with pytest.raises(DeadlineError):
                connection.send(b"mine", timeout=0.01)
            with pytest.raises(DeadlineError):
                connection.half_close(timeout=0.01)
            connection.abort()
        done.set()


def test_close_gives_up_on_a_thread_that_sends() -> None:
    done = threading.Event()
    with peer(lambda connected: done.wait(FOREVER)) as where:
        connection = connect(where, timeout=None, limits=limits_closing(0.05))

        def send() -> None:
            with pytest.raises(ConnectionClosedError):
                connection.send(b"x" * 50_000_000)

        with background(send):
            waiting(connection, "_writers")
            connection.close()
        assert connection.close_reason is CloseReason.CLOSE_TIMEOUT
        done.set()


# ---- Connecting


def unused() -> int:
    with listening() as listener:
        port: int = listener.getsockname()[1]
    return port


def test_nobody_there() -> None:
    with pytest.raises(ConnectError, match="refused") as caught:
        connect(f"127.0.0.1:{unused()}")
    assert caught.value.fields["errno"] == errno.ECONNREFUSED


def test_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ResolveError, match="no address is known for nobody"):
        connect("nobody:1")


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_what_cannot_be_a_hosts_name(host: str) -> None:
    with pytest.raises(ResolveError):
        connect(f"{host}:1")


def resolve_to(monkeypatch: pytest.MonkeyPatch, *names: Any) -> None:
    found = [
        (socket.AF_INET6 if ":" in name[0] else socket.AF_INET, socket.SOCK_STREAM, 6, "", name)
        for name in names
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_the_first_address_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with tieline_server(echo) as where:
        port = int(where.rpartition(":")[2])
        resolve_to(monkeypatch, ("::1", unused(), 0, 0), ("127.0.0.1", port))
        with connect("both:1") as connection:
            assert str(connection.peer) == where
            connection.send(b"x")
            assert connection.receive() == b"x"


def test_every_address_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [unused(), unused()]
    resolve_to(monkeypatch, *(("127.0.0.1", port) for port in ports))
    with pytest.raises(ConnectError) as caught:
        connect("both:1")
    assert [where for where, _ in caught.value.fields["attempts"]] == [
        f"127.0.0.1:{port}" for port in ports
    ]


def test_no_address_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch)
    with pytest.raises(ConnectError):
        connect("none:1")


@contextmanager
def silent() -> Iterator[Any]:
    """An address that answers nothing: a listener whose backlog is full."""
    with listening(backlog=0) as listener:
        filling = []
        try:
            for _ in range(4):
                connecting = socket.socket()
                filling.append(connecting)
                connecting.setblocking(False)
                connecting.connect_ex(listener.getsockname())
            yield listener.getsockname()
        finally:
            for connecting in filling:
                connecting.close()


def test_an_address_that_does_not_answer_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with silent() as dead, tieline_server(echo) as where:
        resolve_to(monkeypatch, dead, ("127.0.0.1", int(where.rpartition(":")[2])))
        assert ask("both:1", b"x") == b"x"


def test_nothing_answers_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with silent() as dead:
        with pytest.raises(DeadlineError, match="connecting to"):
            connect(f"127.0.0.1:{dead[1]}", timeout=0.1)
        resolve_to(monkeypatch, dead, ("127.0.0.2", dead[1]), dead)
        with pytest.raises(DeadlineError, match="asking both:1"), silent():
            ask("both:1", b"x", timeout=0.1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"address": "nonsense"}, AddressError),
        ({"timeout": 0}, SettingError),
        ({"timeout": float("nan")}, SettingError),
        ({"encoding": "klingon"}, SettingError),
        ({"encoding": "gbk", "errors": "ignore"}, SettingError),
        ({"framing": Fixed(100), "limits": Limits(max_message=10)}, SettingError),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], error: type[TielineError]) -> None:
    arguments = {"address": "127.0.0.1:1", **arguments}
    with pytest.raises(error):
        connect(**arguments)
    with pytest.raises(error):
        ask(message=b"x", **arguments)


# ---- Asking


def test_ask_a_peer_that_never_closes() -> None:
    done = threading.Event()

    def script(connected: socket.socket) -> None:
        connected.sendall(connected.recv(100))
        done.wait(FOREVER)

    with peer(script) as where:
        assert ask(where, b"x", timeout=0.2) == b"x"
        done.set()


def test_ask_a_peer_that_does_not_answer() -> None:
    with peer(read_till_gone) as where, pytest.raises(DeadlineError, match="asking"):
        ask(where, b"x", timeout=0.05)


def test_ask_a_peer_that_ends() -> None:
    with peer(lambda connected: connected.recv(100)) as where, pytest.raises(EndOfStreamError):
        ask(where, b"x")


# ---- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def serving(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls(trusting: ssl.SSLContext, serving: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    trusting.minimum_version = trusting.maximum_version = version
    with (
        tieline_server(echo, framing=Line(), encoding="gbk", tls=serving) as where,
        connect(where, framing=Line(), encoding="gbk", tls=trusting) as connection,
    ):
        assert connection.ssl_object is not None
        assert connection.ssl_object.version() == version.name.replace("v1_", "v1.")
        for text in ("你好", "好" * 10_000):
            connection.send(text)
            assert connection.receive() == text
        connection.half_close()
        assert list(connection) == []
    assert connection.close_reason is CloseReason.PEER_CLOSED


def test_tls_one_thread_sends_while_another_receives(
    trusting: ssl.SSLContext, serving: ssl.SSLContext
) -> None:
    sent = [b"%d " % number * 1000 for number in range(300)]
    with (
        tieline_server(echo, framing=Line(), tls=serving) as where,
        connect(where, framing=Line(), tls=trusting, timeout=FOREVER) as connection,
    ):

        def send_all() -> None:
            for message in sent:
                connection.send(message)
            connection.half_close()

        with background(send_all):
            assert list(connection) == sent


def tls_peer(context: ssl.SSLContext, script: Callable[[ssl.SSLSocket], object]) -> Any:
    def wrapped(connected: socket.socket) -> None:
        with context.wrap_socket(connected, server_side=True) as secured:
            script(secured)

    return peer(wrapped)


def test_tls_a_peer_that_speaks_first_and_leaves_without_goodbye(
    trusting: ssl.SSLContext, serving: ssl.SSLContext
) -> None:
    def script(secured: ssl.SSLSocket) -> None:
        secured.sendall(b"hello\n")
        # Not closed while there is something to read: that would be a reset.
        assert secured.recv(100) == b""

    with (
        tls_peer(serving, script) as where,
        connect(where, framing=Line(), tls=trusting) as connection,
    ):
        connection.half_close()
        assert list(connection) == [b"hello"]


def test_tls_goodbye_on_close(trusting: ssl.SSLContext, serving: ssl.SSLContext) -> None:
    heard: list[bytes] = []

    def script(connected: socket.socket) -> None:
        # An end without TLS's goodbye would be an error here.
        with serving.wrap_socket(
            connected, server_side=True, suppress_ragged_eofs=False
        ) as secured:
            heard.append(secured.recv(100))
            heard.append(secured.recv(100))

    with peer(script) as where, connect(where, tls=trusting) as connection:
        connection.send(b"x")
    assert heard == [b"x", b""]


def test_tls_a_peer_that_does_not_read(trusting: ssl.SSLContext, serving: ssl.SSLContext) -> None:
    done = threading.Event()
    with (
        tls_peer(serving, lambda secured: done.wait(FOREVER)) as where,
        connect(where, tls=trusting) as connection,
    ):
        with pytest.raises(DeadlineError, match="cut off"):
            connection.send(b"x" * 50_000_000, timeout=0.1)
        done.set()


def failing_handshake(serving: ssl.SSLContext) -> Script:
    def script(connected: socket.socket) -> None:
        # With TLS 1.3 the server has finished before the client has checked anything.
        with (
            pytest.raises(ssl.SSLError, match="alert"),
            serving.wrap_socket(connected, server_side=True) as secured,
        ):
            secured.recv(1)

    return script


def test_tls_the_wrong_name(trusting: ssl.SSLContext, serving: ssl.SSLContext) -> None:
    with (
        peer(failing_handshake(serving)) as where,
        pytest.raises(TlsError, match="cannot be trusted"),
    ):
        connect(where, tls=trusting, server_name="elsewhere.example")


def test_tls_an_unknown_authority(serving: ssl.SSLContext) -> None:
    with (
        peer(failing_handshake(serving)) as where,
        pytest.raises(TlsError, match="cannot be trusted"),
    ):
        connect(where, tls=ssl.create_default_context())


def test_tls_with_a_peer_that_does_not_speak_it(trusting: ssl.SSLContext) -> None:
    def script(connected: socket.socket) -> None:
        connected.recv(1000)
        connected.sendall(b"what?\n" * 10)

    with peer(script) as where, pytest.raises(TlsError):
        connect(where, tls=trusting)


def test_tls_with_a_peer_that_leaves(trusting: ssl.SSLContext) -> None:
    with (
        peer(lambda connected: connected.recv(1000)) as where,
        pytest.raises(ConnectionClosedError),
    ):
        connect(where, tls=trusting)


def test_tls_with_a_peer_that_is_silent(trusting: ssl.SSLContext) -> None:
    with peer(read_till_gone) as where, pytest.raises(DeadlineError, match="connecting to"):
        connect(where, tls=trusting, timeout=0.1)
    with peer(read_till_gone) as where, pytest.raises(ConnectionClosedError) as caught:
        connect(where, tls=trusting, timeout=None, limits=Limits(handshake=0.1))
    assert caught.value.reason is CloseReason.HANDSHAKE_TIMEOUT


def test_tls_settings_that_make_no_sense(
    trusting: ssl.SSLContext, serving: ssl.SSLContext, tmp_path: Path
) -> None:
    with listening() as listener:
        with pytest.raises(SettingError):
            connect(text_of(listener), tls=trusting, server_name=".dot")
        with pytest.raises(SettingError, match="client-side"):
            connect(text_of(listener), tls=serving)
    # Where there is no host, any name in a trusted certificate would do.
    for nameless in (f"unix:{tmp_path}/s", ":1"):
        with pytest.raises(SettingError, match="no host to compare"):
            connect(nameless, tls=trusting)


def test_tls_over_a_unix_socket(
    trusting: ssl.SSLContext, serving: ssl.SSLContext, tmp_path: Path
) -> None:
    where = f"unix:{tmp_path}/s"
    with tieline_server(echo, where, tls=serving):
        assert ask(where, b"x", tls=trusting, server_name="localhost") == b"x"
        with pytest.raises(TlsError, match="cannot be trusted"):
            ask(where, b"x", tls=trusting, server_name="elsewhere.example")


# ---- Unix sockets, and what a connection tells of itself


def test_unix(tmp_path: Path) -> None:
    with (
        tieline_server(echo, f"unix:{tmp_path}/s", framing=Line()) as where,
        connect(where, framing=Line()) as connection,
    ):
        connection.send(b"x")
        assert connection.receive() == b"x"
        assert str(connection.peer) == where
        assert connection.local.is_unix
        with pytest.raises(UsageError, match="not a TCP connection"):
            connection.tcp_info()


def test_unix_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match="there is no socket"):
        connect(f"unix:{tmp_path}/s")


def test_unix_a_full_backlog(tmp_path: Path) -> None:
    name = str(tmp_path / "s")
    with listening(socket.AF_UNIX, name, backlog=0) as listener, connect(f"unix:{name}") as first:
        with pytest.raises(DeadlineError):
            connect(f"unix:{name}", timeout=0.05)

        accepted: list[socket.socket] = []

        def accept() -> None:
            accepted.extend(listener.accept()[0] for _ in range(2))

        with background(accept), connect(f"unix:{name}") as second:
            second.send(b"x")
            second.abort()
        first.abort()
        for connected in accepted:
            connected.close()


def test_what_it_tells_of_itself() -> None:
    with tieline_server(echo) as where, connect(where) as connection:
        assert str(connection.peer) == where
        assert connection.local.host == "127.0.0.1"
        assert connection.local.port
        assert connection.state is State.OPEN
        assert connection.is_receiving
        assert connection.encoding is None
        assert connection.ssl_object is None
        assert connection.tcp_info().state == "established"
        assert repr(connection) == f"<Connection {where} open in=0 out=0>"
        connection.close()
        assert repr(connection) == f"<Connection {where} closed in=0 out=0>"


def test_the_defaults_are_those_of_the_other_client() -> None:
    for one, other in ((connect, tieline.connect), (ask, tieline.ask)):
        assert inspect.signature(one).parameters == inspect.signature(other).parameters
    assert inspect.signature(connect).parameters["limits"].default is CLIENT_LIMITS
