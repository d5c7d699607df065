"""A connected socket, plain or TLS, on which every wait has an end."""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import ssl
import struct
import termios
import threading

from ..tls import TlsSocket
from .deadline import Deadline

__all__ = ["Channel"]

_READ_SIZE = 65_536

#: Bytes handed over in one go: a long message is not copied again for each piece of it.
_WRITE_SIZE = 262_144

_LINGER_ZERO = struct.pack("ii", 1, 0)


class Channel:
    """Bytes both ways. It owns its socket, which never blocks: waiting is poll's.

    One thread may receive and one send, at the same time; any may close. `lock` is held for
    moments only, never while waiting, so that TLS, which is one state for both directions, and
    the descriptor's end are safe.

    Attributes:
        lock: held around every use of the socket; its owner may guard more with it.
        bytes_received, bytes_sent: what has passed, without TLS's own bytes.
        ended: the peer has ended its stream, and all of it has been read.
    """

    __slots__ = (
        "_closed", "_early", "_plain", "_readers", "_socket", "_tls", "_writers",
        "bytes_received", "bytes_sent", "ended", "lock",
    )  # fmt: skip

    def __init__(self, plain: socket.socket) -> None:
        # Reentrant: a signal's handler may close what it has interrupted.
        self.lock = threading.RLock()
        self.bytes_received = self.bytes_sent = 0
        self.ended = False
        self._plain = plain
        self._socket: socket.socket | TlsSocket = plain
        self._tls: TlsSocket | None = None
        self._early = b""
        self._closed = False
        # Who waits for the descriptor now: it must not be closed under them, since the next
        # socket to be opened would get its number.
        self._readers: set[object] = set()
        self._writers: set[object] = set()

    def secure(self, context: ssl.SSLContext, server_name: str | None, deadline: Deadline) -> bool:
        """Agree on TLS. False when the deadline passed before that.

        Raises:
            ssl.SSLError, OSError: no agreement, or the socket failed.
            ValueError: the server's name cannot be one.
        """
        tls = TlsSocket(self._plain, context, server_side=False, server_name=server_name)
        self._socket = self._tls = tls
        while not tls.handshake():
            if not self._wait(self._wanted(select.POLLIN), deadline):
                return False
        # The peer's first words may have come right behind its handshake, and the socket would
        # not tell of them again.
        with contextlib.suppress(BlockingIOError):
            self._early = tls.recv(_READ_SIZE)
        return True

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS session; `None` without TLS."""
        return None if self._tls is None else self._tls.ssl_object

    # ---- Bytes

    def recv(self, deadline: Deadline) -> bytes | None:
        """Bytes that came; b"" at the peer's end; `None` when the deadline passed before.

        Raises:
            OSError: the socket failed, or is closed.
        """
        while True:
            with self.lock:
                try:
                    data = self._recv_now()
                except BlockingIOError:
                    pass
                else:
                    self.bytes_received += len(data)
                    self.ended = not data
                    return data
            if not self._wait(self._wanted(select.POLLIN), deadline):
                return None

    def _recv_now(self) -> bytes:
        if self._early:
            data, self._early = self._early, b""
            return data
        if self._tls is not None and self._tls.owed:
            self._tls.flush()
        return self._socket.recv(_READ_SIZE)

    def wait_writable(self, deadline: Deadline) -> bool:
        """Wait until there is room to begin a message. False when the deadline passed before.

        Raises:
            OSError: the socket failed.
        """
        return self.send(b"", deadline) and self._wait(select.POLLOUT, deadline)

    def send(self, data: bytes, deadline: Deadline) -> bool:
        """Give all of it to the kernel. False when the deadline passed before that.

        Raises:
            OSError: the socket failed, or is closed.
        """
        at = 0
        while True:
            with self.lock:
                # Nothing that this gets done is undone when there is no room for more.
                with contextlib.suppress(BlockingIOError):
                    if at < len(data):
                        sent = self._socket.send(data[at : at + _WRITE_SIZE])
                        at += sent
                        self.bytes_sent += sent
                    elif self._tls is not None:
                        self._tls.flush()
                if at == len(data) and not (self._tls is not None and self._tls.owed):
                    return True
            if not self._wait(select.POLLOUT, deadline):
                return False

    def _wanted(self, events: int) -> int:
        """TLS may owe the peer an answer of its own, even while this side only reads."""
        return events | select.POLLOUT if self._tls is not None and self._tls.owed else events

    def _wait(self, events: int, deadline: Deadline) -> bool:
        """Wait for the socket, or for its end. False when the deadline passed before."""
        waiters = self._readers if events & select.POLLIN else self._writers
        this = object()
        try:
            with self.lock:
                if self._closed:
                    return True  # whoever asked finds out by its next use of the socket
                waiters.add(this)
            poller = select.poll()
            poller.register(self._plain, events)
            while not poller.poll(deadline.milliseconds):
                if not deadline.left:
                    return False
            return True
        finally:
            # First, and in one call: another interrupt could come before a second.
            waiters.discard(this)
            with self.lock:
                if self._closed and not (self._readers or self._writers):
                    self._plain.close()

    # ---- The end

    def end_output(self, deadline: Deadline) -> bool:
        """End this side's stream (with TLS, say so in it first). False when that was not in time.

        Raises:
            OSError: the socket failed, or is closed.
        """
        with self.lock:
            if self._tls is not None:
                self._tls.say_goodbye()
        if not self.send(b"", deadline):
            return False
        with self.lock:
            self._plain.shutdown(socket.SHUT_WR)
        return True

    def owes(self) -> bool:
        """Whether bytes have not reached the peer yet (SIOCOUTQ, tcp(7))."""
        answer = fcntl.ioctl(self._plain, termios.TIOCOUTQ, b"\0\0\0\0")
        return bool(struct.unpack("i", answer)[0])

    def close(self, *, reset: bool) -> None:
        """Let go of the descriptor; threads that wait for it are woken. Idempotent.

        Args:
            reset: cut the connection off (RST), whatever is still on its way.
        """
        with self.lock:
            if self._closed:
                return
            self._closed = True
            if reset:
                self._plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            if not (self._readers or self._writers):
                self._plain.close()
                return
            # The last of those who wait closes it. Not both directions for a reader's sake: the
            # peer would see an end in good order before the reset.
            how = socket.SHUT_RDWR if self._writers else socket.SHUT_RD
            # A socket that has failed is shut down already, and wakes them by itself.
            with contextlib.suppress(OSError):
                self._plain.shutdown(how)

    # ---- What it is

    def getsockname(self) -> object:
        return self._plain.getsockname()

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        return self._plain.getsockopt(level, option, size)

    @property
    def family(self) -> int:
        """The socket's address family."""
        return self._plain.family
