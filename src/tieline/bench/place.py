"""One of a load's places: a connection at a time, and how it is opened and ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import struct
from typing import Any, Protocol, cast

from ..errors import TielineError
from ..framing import Codec
from ..reactor import READABLE, WRITABLE, Reactor
from ..tls import SHORT_OF_MEMORY, TlsSocket
from .plan import Ending, Plan
from .recording import Recorder
from .result import Failure

__all__ = ["READ_SIZE", "Load", "Place"]

#: Bytes that one read takes at most.
READ_SIZE = 65_536

#: Seconds before a place whose connection came to nothing tries again: who is refused is not to
#: call a thousand times a second.
_REST = 0.1

_LINGER_ZERO = struct.pack("ii", 1, 0)

#: linux/in.h: the port is chosen when the other end is known, so that one may serve for many.
_BIND_ADDRESS_NO_PORT = 24

_KIND = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

_FAILURES = {
    errno.ECONNREFUSED: Failure.REFUSED,
    errno.ENOENT: Failure.REFUSED,
    errno.EAGAIN: Failure.REFUSED,  # a Unix socket whose backlog is full
    errno.ECONNRESET: Failure.RESET,
    errno.EPIPE: Failure.RESET,
    errno.ETIMEDOUT: Failure.CONNECT_TIMEOUT,
    errno.EHOSTUNREACH: Failure.UNREACHABLE,
    errno.ENETUNREACH: Failure.UNREACHABLE,
    errno.EADDRNOTAVAIL: Failure.NO_PORTS,
    errno.EMFILE: Failure.NO_DESCRIPTORS,
    errno.ENFILE: Failure.NO_DESCRIPTORS,
}


class Load(Protocol):
    """What a place knows of the load it is part of."""

    plan: Plan
    reactor: Reactor
    #: Whether connections and exchanges are still to be begun.
    going: bool
    #: Whether a connection may be given the port that it calls.
    may_meet_itself: bool
    #: The family and the address to call.
    candidate: tuple[int, Any]

    def give_up(self, error: TielineError) -> None:
        """There is no sense in going on."""

    def new_codec(self) -> Codec:
        """A codec for a connection."""

    def next_source(self) -> str | None:
        """The address to call from; `None` leaves it to the system."""

    def opened(self, place: Place) -> None:
        """A connection was made."""

    def gone(self, place: Place) -> None:
        """A connection that was made is over."""

    def failed(self, place: Place, failure: Failure) -> None:
        """Count a failure."""

    def look(self, connected: socket.SocketType) -> None:
        """The connection is about to end: see what the kernel knows, of some."""


class Place:
    """One place of a load. What is done with a connection is its subclasses'.

    Attributes:
        number: of the connection, over the whole run.
        connected: its socket, `None` without one; `is_open`: whether there is a connection, and TLS
            on it where there is to be.
        recorder: where it puts what it measures.
        is_idle: open loop: whether it waits for an instant.
    """

    __slots__ = (
        "_began", "_channel", "_load", "_timer", "_tls", "connected", "is_idle",
        "is_open", "number", "recorder", "slot",
    )  # fmt: skip

    def __init__(self, load: Load, recorder: Recorder) -> None:
        self._load = load
        self.recorder = recorder
        self.connected: socket.SocketType | None = None
        self._tls: TlsSocket | None = None
        self._channel: socket.SocketType | TlsSocket | None = None
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_open = self.is_idle = False
        self.number = 0
        self.slot = 0

    @property
    def under_way(self) -> int:
        """What has begun, and is to be awaited: exchanges, or a connection that is being made."""
        return int(self.connected is not None and not self.is_open)

    # ---- What is done with a connection

    def _on_open(self, now: float) -> None:
        """There is a connection."""
        raise NotImplementedError

    def _on_special(self, mask: int) -> None:
        """The socket may be ready, and `_on_connecting` has nothing to do with it."""
        raise NotImplementedError

    def _after_failure(self) -> None:
        """What was tried has failed; the socket is closed."""
        raise NotImplementedError

    def on_ready(self, mask: int) -> None:
        """The reactor's call."""
        if self.is_open:
            self._on_special(mask)
        else:
            self._on_connecting()

    # ---- Opening

    def open(self) -> None:
        """Begin a connection."""
        load = self._load
        family, name = load.candidate
        self._began = load.reactor.clock()
        try:
            made = socket.SocketType(family, _KIND)
        except OSError as error:
            self.fail(_FAILURES.get(error.errno or 0, Failure.OTHER))
            return
        self.connected = made
        self._channel = made
        try:
            if family != socket.AF_UNIX:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                source = load.next_source()
                if source is not None:
                    made.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
                    made.bind((source, 0))
            code = made.connect_ex(name)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
        except OSError as error:
            self.connected = self._channel = None
            made.close()
            self.fail(_FAILURES.get(error.errno or 0, Failure.OTHER))
            return
        # On the same machine a connection is made within the call, whatever that said.
        connected = not code or self._has_peer(made)
        load.reactor.register(made.fileno(), self, READABLE if connected else WRITABLE)
        load.reactor.file(self, self._began + load.plan.connect_timeout)
        if connected:
            self._on_connected()

    @staticmethod
    def _has_peer(made: socket.SocketType) -> bool:
        try:
            made.getpeername()
        except OSError:
            return False
        return True

    def _on_connecting(self) -> None:
        """Connecting, or agreeing on TLS, may go on."""
        assert self.connected is not None
        if self._tls is not None:
            self._on_securing()
            return
        code = self.connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.fail(_FAILURES.get(code, Failure.OTHER))
            return
        if not self._has_peer(self.connected):
            return  # a hint about a descriptor that has been given out again since
        self._load.reactor.modify(self.connected.fileno(), READABLE)
        self._on_connected()

    def _is_its_own_peer(self) -> bool:
        """Whether the port that the system chose is the very one that is called: where nobody
        listens, TCP connects such a socket with itself (simultaneous open, RFC 9293, 3.5)."""
        assert self.connected is not None
        return bool(self.connected.getsockname()[:2] == self.connected.getpeername()[:2])

    def _on_connected(self) -> None:
        load = self._load
        if load.may_meet_itself and self._is_its_own_peer():
            self.fail(Failure.REFUSED)
            return
        now = load.reactor.clock()
        self.recorder.connecting.append(now - self._began)
        if load.plan.tls is None:
            self._opened(now)
            return
        self._secure(load.plan.tls)

    def _secure(self, context: ssl.SSLContext) -> None:
        assert self.connected is not None
        plan = self._load.plan
        name = plan.name_to_prove
        plain = cast("socket.socket", self.connected)
        self._tls = TlsSocket(plain, context, server_side=False, server_name=name)
        self._began, began = self._load.reactor.clock(), self._began
        self._on_securing()
        if self.connected is not None and not self.is_open:
            self._load.reactor.file(self, began + plan.connect_timeout)

    def _on_securing(self) -> None:
        tls = self._tls
        assert tls is not None
        assert self.connected is not None
        try:
            secure = tls.handshake()
        except ssl.SSLError:
            self.fail(Failure.TLS)
            return
        except OSError as error:
            if error.errno not in SHORT_OF_MEMORY:
                self.fail(_FAILURES.get(error.errno or 0, Failure.OTHER))
            return
        wanted = READABLE | WRITABLE if tls.owed else READABLE
        self._load.reactor.modify(self.connected.fileno(), wanted)
        if secure:
            now = self._load.reactor.clock()
            self.recorder.securing.append(now - self._began)
            self._channel = tls
            self._opened(now)

    def _opened(self, now: float) -> None:
        self.is_open = True
        self.recorder.counted.opened += 1
        self._load.opened(self)
        self._on_open(now)

    # ---- Ending

    def on_deadline(self, now: float) -> float | None:
        """The wheel's call: connecting has taken its time."""
        if self.is_open or self.connected is None:
            return None
        self.fail(Failure.CONNECT_TIMEOUT)
        return None

    def fail(self, failure: Failure) -> None:
        """What was tried has come to nothing: count it, and let go of the connection."""
        self._load.failed(self, failure)
        self.close(reset=True)
        self._after_failure()

    def fail_by(self, error: OSError) -> None:
        """The same, for what the system said."""
        known = _FAILURES.get(error.errno or 0, Failure.OTHER)
        if isinstance(error, ssl.SSLError):
            known = Failure.TLS
        self.fail(known)

    def begin_again(self, rest: bool) -> None:
        """Begin another connection, not within this call; after a moment's rest, or at once."""
        loop = self._load.reactor.loop
        self._timer = loop.call_later(_REST if rest else 0.0, self._begin_again)

    def _begin_again(self) -> None:
        self._timer = None
        if self._load.going and self.connected is None:
            self.open()

    def close(self, reset: bool = False) -> None:
        """Let go of the connection, if there is one.

        Args:
            reset: cut it off, however the plan has them end.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        connected = self.connected
        if connected is None:
            return
        load = self._load
        self.connected = self._channel = None
        was_open, self.is_open = self.is_open, False
        load.reactor.withdraw(self)
        load.reactor.unregister(connected.fileno())
        if was_open:
            load.look(connected)
        if self._tls is not None:
            self._goodbye(connected, reset)
        elif reset or load.plan.ending is Ending.RESET:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        connected.close()
        if was_open:
            load.gone(self)

    def _goodbye(self, connected: socket.SocketType, reset: bool) -> None:
        tls, self._tls = self._tls, None
        assert tls is not None
        if reset or self._load.plan.ending is Ending.RESET:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            return
        # The server may have cut it off meanwhile. Its last answer had come: nothing failed.
        with contextlib.suppress(OSError):
            tls.say_goodbye()
