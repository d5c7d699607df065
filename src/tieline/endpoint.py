"""Who is at the other end of a connection, and what has passed: the facts, for whoever asks."""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Any

from .address import Address
from .errors import TielineError, UsageError
from .reactor import Reactor
from .reasons import CloseReason
from .states import State
from .tcp_info import TcpInfo, read_tcp_info
from .tls import TlsSocket

__all__ = ["Endpoint"]


class Endpoint:
    """What a connection is. `Stream` is what it does."""

    __slots__ = (
        "_local", "_outgoing", "_peer", "_peer_port", "_reactor", "_reason", "_socket", "_state",
        "_tls", "bytes_received", "bytes_sent", "client", "id", "last_received", "last_sent",
        "opened_at",
    )  # fmt: skip

    _local: Address | None
    _outgoing: bytearray | None
    _peer: str | Address
    _peer_port: int
    _reactor: Reactor
    _reason: CloseReason | None
    _socket: socket.socket | TlsSocket
    _state: State
    _tls: TlsSocket | None
    bytes_received: int
    bytes_sent: int
    id: int
    last_received: float
    last_sent: float
    opened_at: float
    #: The client machine it is counted under; whoever admitted it sets this.
    client: Any

    @property
    def peer(self) -> Address:
        """The other end's address."""
        if isinstance(self._peer, str):
            self._peer = Address(self._peer, self._peer_port)
        return self._peer

    @property
    def local(self) -> Address:
        """This end's address. After the end, the one asked for before, else an empty one."""
        if self._local is None and self._state is not State.CLOSED:
            name = self._socket.getsockname()
            family = socket.AF_UNIX
            if isinstance(name, tuple):
                family = socket.AF_INET if len(name) == 2 else socket.AF_INET6
            self._local = Address.from_socket_name(family, name)
        return self._local or Address()

    @property
    def upstream(self) -> str | None:
        """The name of where a relayed connection goes on to; `None` where it ends here."""
        return None

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._state

    @property
    def close_reason(self) -> CloseReason | None:
        """Why it ended; `None` until it has."""
        return self._reason if self._state is State.CLOSED else None

    @property
    def last_active(self) -> float:
        """When a byte last made progress, in either direction (`time.monotonic`)."""
        return max(self.last_received, self.last_sent)

    @property
    def age(self) -> float:
        """Seconds since it was opened."""
        return self._reactor.clock() - self.opened_at

    @property
    def owed(self) -> int:
        """Bytes accepted for sending that the kernel has not taken yet."""
        owed = len(self._outgoing or b"")
        return owed if self._tls is None else owed + self._tls.owed

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS session, for `cipher()`, `version()`, `getpeercert()`; `None` without TLS."""
        return None if self._tls is None else self._tls.ssl_object

    @property
    def peer_host(self) -> str:
        """The host of the other end's address; empty for a Unix peer."""
        return self._peer if isinstance(self._peer, str) else self._peer.host

    @property
    def peer_user(self) -> int | None:
        """The user id at the other end of a Unix socket, as the kernel vouches for it (SO_PEERCRED,
        unix(7)); `None` for any other peer, and once the connection is over."""
        if self._state is State.CLOSED:
            return None
        # Not by its address: a PROXY header may name a path for what came over TCP.
        domain = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN, 4)
        if struct.unpack("i", domain)[0] != socket.AF_UNIX:
            return None
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        uid: int = struct.unpack("iII", raw)[1]
        return uid

    def tcp_info(self) -> TcpInfo:
        """What the kernel knows: round-trip time, retransmissions, window.

        Raises:
            ConnectionClosedError: the connection is over.
            UsageError: it is not a TCP connection.
        """
        if self._state is State.CLOSED:
            raise self._final_error()
        try:
            return read_tcp_info(self._socket)
        except OSError as error:
            raise UsageError("{peer} is not a TCP connection", peer=self.peer) from error

    def __repr__(self) -> str:
        word = self._state.value
        if self._state is State.CLOSED and self._reason is not None:
            word = self._reason.value
        return (
            f"<{type(self).__name__} {self.id} {self.peer} {word} in={self.bytes_received} "
            f"out={self.bytes_sent} age={self.age:.1f}s>"
        )

    def _final_error(self) -> TielineError:
        """What to raise for anything that is too late."""
        raise NotImplementedError
