"""The client's side: `ask` for a short connection, `connect` for a long one."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Any

from .address import Address, parse_address
from .charset import Charset, message_codec
from .clocks import first_check
from .connection import Connection
from .errors import DeadlineError, SettingError, UsageError, translate_os_error
from .framing import Codec, Framing, Raw
from .limits import Limits
from .reactor import Reactor
from .reasons import CloseReason
from .resolve import open_connection
from .tls import TlsSocket, name_to_prove

__all__ = ["CLIENT_LIMITS", "Connecting", "ask", "connect"]

#: What applies to connections that this side opened. Their clocks are the caller's own: a
#: timeout around `receive` says how long to wait.
CLIENT_LIMITS = Limits(
    idle=None, first_byte=None, message=None, half_closed=None, write_stall=None,
    min_receive_rate=None, min_send_rate=None, per_client=None, total=None,
)  # fmt: skip


class _Client:
    """The owner of one client connection."""

    __slots__ = ("first_check", "limits")

    #: It has one place.
    fullness = 0.0

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.first_check = first_check(limits)

    def connection_gone(self, connection: Any) -> None:
        """Nothing to count."""

    def limit_spared(self, connection: Any, reason: CloseReason) -> None:
        """Nothing to count."""

    def penalize(self, connection: Any, seconds: float, why: str) -> None:
        raise UsageError(
            "only a server can penalize: {peer} is one that this side called",
            peer=connection.peer,
        )


class Connecting:
    """A connection that is about to be made: `await` it, or enter it as a context."""

    __slots__ = (
        "_address", "_codec", "_connection", "_limits", "_server_name", "_timeout", "_tls",
    )  # fmt: skip

    def __init__(
        self,
        address: Address,
        codec: Codec,
        limits: Limits,
        tls: ssl.SSLContext | None,
        server_name: str | None,
        timeout: float | None,
    ) -> None:
        self._address = address
        self._codec = codec
        self._limits = limits
        self._tls = tls
        self._server_name = server_name
        self._timeout = timeout
        self._connection: Connection | None = None

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._connect().__await__()

    async def _connect(self) -> Connection:
        async with deadline(self._timeout, "connecting to", self._address):
            connected = await open_connection(self._address)
            try:
                connection = self._take_over(connected)
            except BaseException as error:
                connected.close()
                if isinstance(error, OSError):
                    # It was reset between connecting and asking who it is.
                    raise translate_os_error(error, "connect", self._address) from error
                raise
            if self._tls is not None:
                try:
                    # The client speaks first in a handshake.
                    connection.on_ready(0)
                    await connection.wait_secured()
                except BaseException:
                    connection.abort()
                    raise
        return connection

    def _take_over(self, connected: socket.socket) -> Connection:
        peer = self._address
        if not peer.is_unix:
            peer = Address.from_socket_name(connected.family, connected.getpeername())
        channel: socket.socket | TlsSocket = connected
        if self._tls is not None:
            channel = TlsSocket(
                connected, self._tls, server_side=False, server_name=self._server_name
            )
        reactor = Reactor.of(asyncio.get_running_loop())
        try:
            return Connection(_Client(self._limits), reactor, channel, self._codec, peer)
        except BaseException:
            reactor.close_if_unused()
            raise

    async def __aenter__(self) -> Connection:
        self._connection = await self._connect()
        return self._connection

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        assert self._connection is not None
        self._connection.close()
        await self._connection.wait_closed()


def connect(
    address: str | Address,
    *,
    framing: Framing | None = None,
    encoding: str | None = None,
    errors: str = "strict",
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    timeout: float | None = 10.0,
    limits: Limits = CLIENT_LIMITS,
) -> Connecting:
    """Open a long connection::

        async with tieline.connect("127.0.0.1:7788", framing=Line(), encoding="gbk") as conn:
            await conn.send("你好")
            reply = await conn.receive()

    Leaving the context closes it in good order. `await tieline.connect(...)` gives the same
    connection to be closed by hand.

    Args:
        address: `HOST:PORT`, `[IPv6]:PORT`, `unix:PATH`. Every address of a name is tried, IPv6
            and IPv4 side by side (RFC 8305).
        framing: where messages end (default `Raw()`: wherever a read ends).
        encoding: their charset, `"auto"`, or `None` (default) for bytes.
        errors: `"strict"` (default) or `"replace"`, for bytes that are not text.
        tls: a client-side context; without one, plain TCP.
        server_name: the name the server must prove to have (default: the host).
        timeout: seconds for all of it: name, connection and TLS (default 10); `None`: no limit.
        limits: sizes, water marks, `closing`; its clocks are off by default.

    Raises:
        AddressError, SettingError: the arguments make no sense.
        ResolveError, ConnectError, TlsError: there is no connection.
        DeadlineError: not in time.

    Cancelling while connecting leaves nothing behind.
    """
    if timeout is not None and not timeout > 0:
        raise SettingError("a timeout is above zero, not {timeout!r}", timeout=timeout)
    whom = parse_address(address)
    if tls is not None:
        server_name = name_to_prove(tls, server_name, whom)
    charset = None if encoding is None else Charset(encoding, errors)
    codec = message_codec(framing or Raw(), charset, limits.max_message)
    return Connecting(whom, codec, limits, tls, server_name, timeout)


async def ask(
    address: str | Address,
    message: Any,
    *,
    framing: Framing | None = None,
    encoding: str | None = None,
    errors: str = "strict",
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    timeout: float | None = 10.0,
    limits: Limits = CLIENT_LIMITS,
) -> Any:
    """A short connection: connect, send, receive one message, close.

    The arguments are those of `connect`, except:

    Args:
        message: what to send: `bytes`, or `str` with an `encoding`.
        timeout: seconds for all of it, the reply included (default 10); `None`: no limit.

    Returns:
        The reply: `bytes`, or `str` with an `encoding`.

    Raises:
        EndOfStreamError: the peer ended its stream without a reply.
        Everything that `connect`, `Connection.send` and `Connection.receive` raise.

    Cancelling closes the connection.
    """
    connecting = connect(
        address, framing=framing, encoding=encoding, errors=errors, tls=tls,
        server_name=server_name, timeout=timeout, limits=limits,
    )  # fmt: skip
    async with deadline(timeout, "asking", parse_address(address)):
        connection = await connecting
        try:
            await connection.send(message)
            reply = await connection.receive()
        except BaseException:
            connection.abort()
            raise
    # The reply is here: how the peer closes is no part of the answer, and is bounded by
    # `Limits.closing`.
    connection.close()
    try:
        await connection.wait_closed()
    finally:
        connection.abort()
    return reply


@asynccontextmanager
async def deadline(seconds: float | None, doing: str, address: Address) -> AsyncIterator[None]:
    """Bound what is done inside; say what took too long.

    Raises:
        DeadlineError: it took longer than `seconds`.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired() or isinstance(error, DeadlineError):
            raise
        raise DeadlineError(doing=doing, seconds=seconds, address=str(address)) from error
