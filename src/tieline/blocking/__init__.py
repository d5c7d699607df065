"""The client's side for programs without asyncio: the same messages, errors and close reasons.

::

    with tieline.blocking.connect("127.0.0.1:7788", framing=Line(), encoding="gbk") as conn:
        conn.send("你好")
        reply = conn.receive()
"""

from __future__ import annotations

import ssl
from typing import Any

from ..address import Address, parse_address
from ..charset import Charset, message_codec
from ..client import CLIENT_LIMITS
from ..errors import ConnectionClosedError, TlsError, translate_os_error
from ..framing import Codec, Framing, Raw
from ..limits import Limits
from ..reasons import CloseReason
from ..tls import name_to_prove
from .channel import Channel
from .connection import Connection
from .deadline import Deadline, check_timeout
from .dialling import dial

__all__ = ["Connection", "ask", "connect"]


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
) -> Connection:
    """Open a long connection. Leaving it as a context closes it in good order.

    Args:
        address: `HOST:PORT`, `[IPv6]:PORT`, `unix:PATH`. Every address of a name is tried, IPv6
            and IPv4 side by side (RFC 8305).
        framing: where messages end (default `Raw()`: wherever a read ends).
        encoding: their charset, `"auto"`, or `None` (default) for bytes.
        errors: `"strict"` (default) or `"replace"`, for bytes that are not text.
        tls: a client-side context; without one, plain TCP.
        server_name: the name the server must prove to have (default: the host).
        timeout: seconds for all of it: name, connection and TLS; then for each call on the
            connection that is not given a time of its own (default 10). `None`: no limit.
        limits: `max_message`, `handshake` and `closing` apply here. Its other clocks do not:
            nothing runs between two calls.

    Returns:
        The open connection.

    Raises:
        AddressError, SettingError: the arguments make no sense.
        ResolveError, ConnectError, TlsError: there is no connection.
        ConnectionClosedError: the peer left during the TLS handshake, or took too long for it.
        DeadlineError: not in time. The system's resolver cannot be interrupted: a name server
            that does not answer may take it over the limit.

    Interrupting it (`KeyboardInterrupt`) leaves nothing behind.
    """
    check_timeout(timeout)
    codec = _codec(framing, encoding, errors, limits)
    whom = parse_address(address)
    deadline = Deadline(timeout, "connecting to", whom)
    return _open(whom, codec, tls, server_name, timeout, limits, deadline)


def ask(
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
        The reply: `bytes`, or `str` with an `encoding`. How the peer closes after it is no part
        of the answer: it is given what is left of the time, at most `Limits.closing`.

    Raises:
        EndOfStreamError: the peer ended its stream without a reply.
        Everything that `connect`, `Connection.send` and `Connection.receive` raise.

    Interrupting it closes the connection.
    """
    check_timeout(timeout)
    codec = _codec(framing, encoding, errors, limits)
    whom = parse_address(address)
    deadline = Deadline(timeout, "asking", whom)
    connection = _open(whom, codec, tls, server_name, timeout, limits, deadline)
    try:
        connection._send(message, deadline)
        reply = connection._receive(deadline)
        connection._close(deadline.sooner(limits.closing), drop=True)
    finally:
        # Unless it is closed already.
        connection.abort()
    return reply


def _codec(framing: Framing | None, encoding: str | None, errors: str, limits: Limits) -> Codec:
    charset = None if encoding is None else Charset(encoding, errors)
    return message_codec(framing or Raw(), charset, limits.max_message)


def _open(
    address: Address,
    codec: Codec,
    tls: ssl.SSLContext | None,
    server_name: str | None,
    timeout: float | None,
    limits: Limits,
    deadline: Deadline,
) -> Connection:
    name = None if tls is None else name_to_prove(tls, server_name, address)
    connected, peer = dial(address, deadline)
    channel = Channel(connected)
    try:
        if tls is not None:
            _secure(channel, peer, tls, name, limits, deadline)
        return Connection(channel, codec, peer, timeout, limits)
    except TlsError:
        # In good order: a reset could destroy the alert that tells the peer why.
        channel.close(reset=False)
        raise
    except BaseException:
        channel.close(reset=True)
        raise


def _secure(
    channel: Channel,
    peer: Address,
    context: ssl.SSLContext,
    server_name: str | None,
    limits: Limits,
    deadline: Deadline,
) -> None:
    try:
        if channel.secure(context, server_name, deadline.sooner(limits.handshake)):
            return
    except OSError as error:
        raise translate_os_error(error, "transfer", peer) from error
    if not deadline.left:
        raise deadline.error()
    raise ConnectionClosedError(reason=CloseReason.HANDSHAKE_TIMEOUT)
