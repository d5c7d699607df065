"""The client's side of one short connection, with everything that its socket sees written down."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..address import Address
from ..blocking.deadline import Deadline
from ..errors import (
    DeadlineError,
    EndOfStreamError,
    NetworkError,
    translate_os_error,
)
from ..reasons import CloseReason
from ..resolve import Candidate
from ..tcp_info import TcpInfo, read_tcp_info
from ..tls import TlsSocket
from .capture import Capture
from .collecting import Collected, plain_host
from .ending import ReplyEnding
from .model import KEPT_PAYLOAD, Note, TcpState
from .sockets_only import SocketEvent, state_named
from .waiting import ready

__all__ = ["Talk"]

_READ_SIZE = 65_536

#: Bytes of a reply that are kept.
_KEPT_REPLY = 1 << 20

#: Close with a reset instead of in good order (socket(7), SO_LINGER).
_AT_ONCE = struct.pack("ii", 1, 0)

_NOT_ASKED_WHY = "not asked for"

#: Notes for errors of the system.
_REASONS = {
    errno.ECONNREFUSED: Note.REFUSED,
    errno.ECONNRESET: Note.RESET,
    errno.EPIPE: Note.RESET,
}


class Talk:
    """One connection to one address. As a context: leaving it closes everything.

    Args:
        candidate: where to connect to.
        whom: the address as it was given, for errors.
        captured: whether to capture its packets, where that is possible.

    Raises:
        ConnectError: no port is free for it, or no descriptor.
    """

    def __init__(self, candidate: Candidate, whom: Address, *, captured: bool) -> None:
        family, self._name = candidate
        self._whom = whom
        self.server = plain_host(Address.from_socket_name(family, self._name))
        self.client = self.server
        self.events: list[SocketEvent] = []
        self.reply = bytearray()
        #: Whether its stream has ended, and whether the connection is lost.
        self.has_ended = False
        self.is_lost = False
        self.facts: TcpInfo | None = None
        self.collected: Collected | None = None
        self.why_not_captured: str | None = None
        self._capture: Capture | None = None
        self._tls: TlsSocket | None = None
        self._poll = select.poll()
        try:
            self._socket = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise translate_os_error(error, "connect", whom) from error
        try:
            self._prepare(captured)
        except BaseException:
            self._socket.close()
            raise

    def _prepare(self, captured: bool) -> None:
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Bound before it connects, so that the capture knows both ports and starts first.
            self._socket.bind(("", 0))
        except OSError as error:
            none_left = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
            failed = none_left if error.errno == errno.EADDRINUSE else error
            raise translate_os_error(failed, "connect", self._whom) from error
        self._port: int = self._socket.getsockname()[1]
        if captured:
            self._start_capture()
        else:
            self.why_not_captured = _NOT_ASKED_WHY

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if self._capture is not None:
            # Before the socket is closed: who is interrupted has seen what was before.
            self._look()
        self._drop()
        if self._capture is not None:
            self._capture.close()

    def _start_capture(self) -> None:
        try:
            self._capture = Capture(self.server.port, self._port)
        except NetworkError as error:
            self.why_not_captured = str(error.fields["why"])
            return
        self._poll.register(self._capture, select.POLLIN)

    # ---- What it does

    def connect(self, until: Deadline) -> None:
        """Connect.

        Raises:
            ConnectError, DeadlineError: there is no connection.
        """
        self._note(Note.CONNECT_CALLED, state=TcpState.SYN_SENT)
        with self._translating("connect"):
            code = self._socket.connect_ex(self._name)
            self._begin_collecting()
            if code == errno.EINPROGRESS:
                self._wait(select.POLLOUT, until)
                code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
        self._note(Note.CONNECTED)

    def secure(self, context: ssl.SSLContext, server_name: str | None, until: Deadline) -> None:
        """Speak TLS from here on.

        Raises:
            SettingError: the server's name cannot be one.
            TlsError, ConnectionClosedError, DeadlineError: it is not secure.
        """
        self._tls = TlsSocket(self._socket, context, server_side=False, server_name=server_name)
        with self._translating():
            while not self._tls.handshake():
                self._wait(select.POLLIN, until)

    def send(self, message: bytes, until: Deadline) -> None:
        """Send all of it.

        Raises:
            ConnectionClosedError, DeadlineError: not all of it went out.
        """
        left = message
        with self._translating():
            while left:
                began = time.time_ns()
                try:
                    sent = (self._tls or self._socket).send(left)
                except BlockingIOError:
                    self._wait(select.POLLOUT, until)
                    continue
                self._note(Note.SENT, left[: min(sent, KEPT_PAYLOAD)], sent, at_ns=began)
                left = left[sent:]
            while self._tls is not None and not self._tls.flush():
                self._wait(select.POLLOUT, until)

    def end_stream(self) -> None:
        """End this side's stream: a FIN, once everything is sent.

        Raises:
            ConnectionClosedError: there is nothing to end any more.
        """
        with self._translating():
            if self._tls is not None:
                self._tls.say_goodbye()
            self._socket.shutdown(socket.SHUT_WR)
        self.has_ended = True
        self._note(Note.CLOSED_HERE)

    def receive_reply(self, ending: ReplyEnding, until: Deadline) -> bool:
        """Receive until the reply is whole.

        Returns:
            Whether the server has ended its stream with it.

        Raises:
            EndOfStreamError, PeerError: what came is no reply.
            ConnectionClosedError, DeadlineError: nothing more came.
        """
        while not ending.is_whole:
            quiet = ending.quiet if self.reply else None
            try:
                piece = self._receive(until if quiet is None else until.sooner(quiet))
            except DeadlineError:
                if quiet is None or not until.left:
                    raise
                ending.fall_silent()
                if not ending.is_whole:
                    continue
                break
            if not piece:
                ending.end()
                if not ending.is_whole:
                    raise EndOfStreamError(reason=CloseReason.PEER_CLOSED)
                return True
            self.reply += piece[: _KEPT_REPLY - len(self.reply)]
            ending.take(piece)
        return False

    def receive_end(self, until: Deadline) -> None:
        """Receive and drop, until the server has ended its stream.

        Raises:
            ConnectionClosedError, DeadlineError: it did not.
        """
        while self._receive(until):
            pass

    def reset(self) -> None:
        """End it with a reset."""
        self._read_facts()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._drop()
        self._note(Note.CLOSED_HERE, state=TcpState.CLOSED, reason=Note.RESET)

    def give_up(self, note: Note) -> None:
        """Write down that this side waits no longer."""
        self._note(note)

    def settle(self, until: Deadline) -> None:
        """Close the socket, and watch until the connection is over or the time is."""
        self._drop()
        collected = self.collected
        if collected is None:
            return
        self._look()
        while self._capture is not None and not collected.is_over and until.left:
            ready(self._poll, until)
            self._look()

    # ---- How

    def _begin_collecting(self) -> None:
        """Its own address is known now: the system chose it by the way to the server."""
        family = self._socket.family
        try:
            own = Address.from_socket_name(family, self._socket.getsockname())
            self.client = plain_host(Address(own.host, self._port))
        except (OSError, ValueError):
            return
        if self._capture is not None:
            self.collected = Collected(self.client, self.server)

    def _receive(self, until: Deadline) -> bytes:
        channel = self._tls or self._socket
        with self._translating():
            while True:
                try:
                    piece = channel.recv(_READ_SIZE)
                    break
                except BlockingIOError:
                    self._wait(select.POLLIN, until)
        if piece:
            self._note(Note.RECEIVED, piece[:KEPT_PAYLOAD], len(piece))
        else:
            self._note(Note.END_RECEIVED)
        return piece

    def _wait(self, wanted: int, until: Deadline) -> None:
        """Wait until the socket is ready; meanwhile, take what the capture sees."""
        own = self._socket.fileno()
        self._poll.register(own, wanted)
        try:
            while True:
                found = ready(self._poll, until)
                self._look()
                if any(descriptor == own for descriptor, _ in found):
                    return
                if not until.left:
                    raise until.error()
        finally:
            self._poll.unregister(own)

    def _look(self) -> None:
        if self._capture is None or self.collected is None:
            return
        try:
            self.collected.look(self._capture)
        except NetworkError as error:
            # The capture is over, and the connection is not: what was seen is kept.
            self.why_not_captured = str(error.fields["why"])
            self._poll.unregister(self._capture)
            self._capture.close()
            self._capture = None

    def _note(
        self,
        note: Note,
        payload: bytes = b"",
        size: int = 0,
        *,
        state: TcpState | None = None,
        reason: Note | None = None,
        at_ns: int | None = None,
    ) -> None:
        now = time.time_ns() if at_ns is None else at_ns
        if state is None:
            facts = self._read_facts()
            state = TcpState.CLOSED if facts is None else state_named(facts.state)
        self.events.append(SocketEvent(now, note, state, payload, size, reason))

    def _read_facts(self) -> TcpInfo | None:
        """What the kernel knows; kept, unless it knows nothing yet or any more."""
        with suppress(OSError):
            facts = read_tcp_info(self._socket)
            if facts.state not in ("close", "syn_sent"):
                self.facts = facts
            return facts
        return None

    @contextmanager
    def _translating(self, doing: str = "transfer") -> Iterator[None]:
        """Write down what the system says, and say it in tieline's words."""
        try:
            yield
        except DeadlineError:
            raise
        except OSError as error:
            reason = _REASONS.get(error.errno or 0)
            self.is_lost = True
            note = Note.TIMEOUT if error.errno == errno.ETIMEDOUT else Note.FAILED
            self._note(note, state=TcpState.CLOSED, reason=reason)
            raise translate_os_error(error, doing, self._whom) from error

    def _drop(self) -> None:
        if self._socket.fileno() >= 0:
            self._read_facts()
            self._socket.close()
