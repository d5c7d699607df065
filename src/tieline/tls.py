"""TLS between a socket and its connection: the same few calls as a socket has.

The connection above does not know whether it holds a socket or a `TlsSocket`, except for the
handshake and for `owed`: encrypted bytes that the kernel has not taken yet.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable

from .address import Address
from .errors import SettingError

__all__ = ["SHORT_OF_MEMORY", "TlsSocket", "name_to_prove"]

#: The machine is short of memory, which says nothing about a connection: it may be tried again.
SHORT_OF_MEMORY = frozenset({errno.ENOBUFS, errno.ENOMEM})

_READ_SIZE = 65_536

#: Plain bytes encrypted before the kernel has taken what came earlier: bounds `owed`.
_WRITE_SIZE = 65_536


class TlsSocket:
    """A non-blocking socket that speaks TLS.

    Args:
        plain: the connected socket; owned from here on.
        context: whose certificates and rules apply.
        server_side: whether this end answers the handshake.
        server_name: the name the server must prove to have (client side).

    Raises:
        SettingError: that cannot be the name of a server.
    """

    __slots__ = (
        "_incoming", "_object", "_outgoing", "_plain", "_unsent", "carried", "ended", "overhear",
    )  # fmt: skip

    def __init__(
        self,
        plain: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_name: str | None = None,
    ) -> None:
        self._plain = plain
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        try:
            self._object = context.wrap_bio(
                self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
            )
        except ValueError as error:
            # An empty label, say: what cannot be a host's name cannot be compared with one.
            raise SettingError(
                "{server_name!r} cannot be the name of a TLS server: {detail}",
                hint="give server_name, the name in the server's certificate",
                server_name=server_name,
                detail=str(error),
            ) from error
        self._unsent = b""
        #: Bytes that the kernel has been given, with TLS's own.
        self.carried = 0
        #: The peer has ended its stream; `recv` has nothing more to give than b"".
        self.ended = False
        #: Called with what the peer sends until the handshake is done, encrypted as it is.
        self.overhear: Callable[[bytes], object] | None = None

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """For `cipher()`, `version()`, `getpeercert()`."""
        return self._object

    @property
    def owed(self) -> int:
        """Encrypted bytes that the kernel has not taken: call `flush` when it is writable."""
        return len(self._unsent) + self._outgoing.pending

    def feed(self, data: bytes) -> None:
        """Take what has been read from the socket before it spoke TLS."""
        if self.overhear is not None:
            self.overhear(data)
        self._incoming.write(data)

    def handshake(self) -> bool:
        """Go as far as the bytes at hand allow. True once the connection is secure.

        Raises:
            ssl.SSLError: no agreement; an alert for the peer has been sent if it could be.
            OSError: the socket failed.
        """
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                try:
                    data = self._plain.recv(_READ_SIZE)
                except BlockingIOError:
                    return False
                if data:
                    self.feed(data)
                    continue
                raise ConnectionResetError(
                    errno.ECONNRESET, "the peer ended its stream during the TLS handshake"
                ) from None
            except ssl.SSLError:
                self.flush()
                raise
            self.flush()
            self.overhear = None
            return True

    def recv(self, _size: int) -> bytes:
        """Everything that one read of the socket lets be decrypted; b"" at the peer's end.

        Whatever has been decrypted is returned, never kept: the reactor sees the kernel's
        buffers only. At most the larger of one read and one TLS record.

        Raises:
            BlockingIOError: nothing to give now.
        """
        pieces = self._decrypt()
        if not pieces and not self.ended:
            data = self._plain.recv(_READ_SIZE)
            if data:
                self._incoming.write(data)
                pieces = self._decrypt()
            else:
                # The stream ended without TLS's own goodbye, as many programs end it. OpenSSL
                # is not told: it would break the session off, and this side may still send.
                # The framing tells whether a message was cut off.
                self.ended = True
        # Reading may have produced bytes to send: key updates, alerts.
        if self._outgoing.pending:
            self._flush_or_owe()
        if pieces:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self.ended:
            return b""
        raise BlockingIOError

    def _decrypt(self) -> list[bytes]:
        pieces: list[bytes] = []
        try:
            while piece := self._object.read(_READ_SIZE):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            return pieces
        except ssl.SSLZeroReturnError:
            self.ended = True
            return pieces
        self.ended = True
        return pieces

    def send(self, data: bytes | bytearray) -> int:
        """Encrypt and send. What is returned has been taken, though some may be `owed`.

        Raises:
            BlockingIOError: bytes are owed from before.
        """
        if self.owed and not self.flush():
            raise BlockingIOError
        with memoryview(data) as view:
            taken = self._object.write(view[:_WRITE_SIZE])
        self._flush_or_owe()
        return taken

    def _flush_or_owe(self) -> None:
        """Flush. What the kernel has no memory for stays owed: to fail now would lose what has been
        decrypted, or have what has been encrypted sent again."""
        try:
            self.flush()
        except OSError as error:
            if error.errno not in SHORT_OF_MEMORY:
                raise

    def flush(self) -> bool:
        """Give the kernel what is owed. True when nothing is."""
        while self.owed:
            if not self._unsent:
                self._unsent = self._outgoing.read(_WRITE_SIZE)
            try:
                sent = self._plain.send(self._unsent)
            except BlockingIOError:
                return False
            self.carried += sent
            self._unsent = self._unsent[sent:]
        return True

    def say_goodbye(self) -> None:
        """Tell the peer that this side's stream has ended (close_notify), within TLS."""
        try:
            self._object.unwrap()
        except ssl.SSLWantReadError:
            pass  # the peer's own goodbye has not come; this side may read on until it does
        except ssl.SSLError:
            # The peer broke TLS off, so there is nobody left to tell.
            self.ended = True
        self._flush_or_owe()

    def shutdown(self, how: int) -> None:
        self._plain.shutdown(how)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        self._plain.setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        return self._plain.getsockopt(level, option, size)

    def getsockname(self) -> object:
        return self._plain.getsockname()

    def fileno(self) -> int:
        return self._plain.fileno()

    def close(self) -> None:
        self._plain.close()


def name_to_prove(context: ssl.SSLContext, server_name: str | None, address: Address) -> str | None:
    """The name that the server's certificate must have.

    Raises:
        SettingError: the context is a server's, or wants a name where there is none.
    """
    if context.protocol is ssl.PROTOCOL_TLS_SERVER:
        raise SettingError(
            "a client needs a client-side TLS context",
            hint="make it with ssl.create_default_context()",
        )
    name = server_name or address.host or None
    if name is None and context.check_hostname:
        # Left to the ssl module, any name in a trusted certificate would do.
        raise SettingError(
            "{address} has no host to compare with the server's certificate",
            hint="give server_name, the name in the certificate",
            address=str(address),
        )
    return name
