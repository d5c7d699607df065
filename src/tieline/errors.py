"""Every error tieline raises, and the one place where `OSError` is translated.

The tree splits by whose fault it is::

    TielineError
    ├── UsageError                 the caller asked for something that cannot be
    │   ├── AddressError           an address that cannot be read
    │   ├── SettingError           a limit, framing or charset that makes no sense
    │   ├── UnencodableError       text that the connection's charset has no bytes for
    │   ├── UnframableError        a message its framing cannot carry
    │   └── ReceiveConflictError   two tasks receive on one connection at once
    ├── PeerError                  the peer broke the rules; the connection is closed
    │   ├── MessageTooLargeError   a message over the maximum
    │   ├── TruncatedError         the stream ended inside a message or a character
    │   ├── MalformedError         bytes the framing cannot read
    │   │   └── ProxyHeaderError   bytes that are no PROXY protocol header
    │   └── UndecodableError       bytes that are not text in the connection's charset
    ├── ConnectionClosedError      the connection is over; `reason` says why
    │   └── EndOfStreamError       the peer ended its stream in good order
    ├── NetworkError               the machine or the network said no
    │   ├── ResolveError           no such host, or no address for it
    │   ├── ConnectError           nobody there: refused, unreachable
    │   ├── BindError              the address cannot be listened on
    │   └── TlsError               no secure connection
    └── DeadlineError              a time limit passed (also a `TimeoutError`)

An error is its class, its `fields` and, where one is known, a `hint` for what to do next. The
text is built from `template` and the fields, so that a program reads the fields and a
translation replaces the template.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Any, ClassVar

from .reasons import CloseReason

__all__ = [
    "AddressError",
    "BindError",
    "ConnectError",
    "ConnectionClosedError",
    "DeadlineError",
    "EndOfStreamError",
    "MalformedError",
    "MessageTooLargeError",
    "NetworkError",
    "PeerError",
    "ProxyHeaderError",
    "ReceiveConflictError",
    "ResolveError",
    "SettingError",
    "TielineError",
    "TlsError",
    "TruncatedError",
    "UndecodableError",
    "UnencodableError",
    "UnframableError",
    "UsageError",
    "reason_of",
    "translate_os_error",
]


class TielineError(Exception):
    """The root of all errors that tieline raises.

    Attributes:
        template: the sentence, with the names of fields in braces; `str(error)` fills it in.
        fields: what the sentence speaks of (addresses, sizes in bytes, seconds...).
        hint: what to do about it, or an empty string; a template too.
    """

    default_template: ClassVar[str] = "something went wrong"

    def __init__(self, template: str = "", /, hint: str = "", **fields: Any) -> None:
        self.template = template or self.default_template
        self.hint = hint
        self.fields = fields
        # One argument only: an `OSError`, as `DeadlineError` is, would take two for its errno.
        super().__init__(self.template)

    def __str__(self) -> str:
        return self.template.format(**self.fields)

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.fields.items())
        return f"{type(self).__name__}({str(self)!r}{', ' if inside else ''}{inside})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.template, self.hint, self.fields), self.__dict__)


def _rebuild(kind: type[TielineError], template: str, hint: str, fields: Any) -> TielineError:
    return kind(template, hint=hint, **fields)


class UsageError(TielineError):
    """The caller asked for something that cannot be; nothing was sent or closed."""


class AddressError(UsageError, ValueError):
    """An address that cannot be read. Field: `text`."""

    default_template = "{text!r} is not an address"


class SettingError(UsageError, ValueError):
    """A limit, a framing or a charset that makes no sense. Fields name the settings."""


class UnencodableError(UsageError, ValueError):
    """Text that the charset has no bytes for. Fields: `encoding`, `character`, `position`."""

    default_template = "{character!r} (character {position}) cannot be written in {encoding}"


class UnframableError(UsageError, ValueError):
    """A message that its framing cannot carry. Field: `framing`."""


class ReceiveConflictError(UsageError, RuntimeError):
    """A task receives on a connection on which another task is receiving already."""

    default_template = "another task is already receiving on this connection"


class PeerError(TielineError):
    """The peer broke the rules. The connection is closed with the matching `reason`."""

    reason: ClassVar[CloseReason] = CloseReason.MALFORMED

    #: The messages that were whole before the offence: they are delivered first.
    completed: list[Any] = []  # noqa: RUF012 - never changed in place, only replaced


class MessageTooLargeError(PeerError):
    """A message over the maximum. Fields: `maximum` and `size` (bytes; what was seen of it)."""

    default_template = "a message is over {maximum} bytes"
    reason = CloseReason.MESSAGE_TOO_LARGE


class TruncatedError(PeerError):
    """The stream ended inside a message or a character. Field: `pending` (bytes)."""

    default_template = "the stream ended inside a message: {pending} bytes of it had come"
    reason = CloseReason.TRUNCATED


class MalformedError(PeerError):
    """Bytes that the framing cannot read."""

    default_template = "the bytes do not fit the framing"


class ProxyHeaderError(MalformedError):
    """Bytes that are no PROXY protocol header. Fields: numbers that it holds, never its bytes."""

    default_template = "the bytes are no PROXY header"
    reason = CloseReason.BAD_PREAMBLE


class UndecodableError(PeerError):
    """Bytes that are not text. Fields: `encoding`, `position`, `data` (the offending bytes)."""

    default_template = "byte {position} of a message is not {encoding} text"
    reason = CloseReason.UNDECODABLE


class ConnectionClosedError(TielineError):
    """The connection is over. Field `reason` is its close reason."""

    default_template = "the connection is closed: {reason}"

    @property
    def reason(self) -> CloseReason:
        """The connection's close reason."""
        reason: CloseReason = self.fields["reason"]
        return reason


class EndOfStreamError(ConnectionClosedError):
    """The peer ended its stream in good order: there are no more messages to receive."""

    default_template = "the peer has ended its stream"


class NetworkError(TielineError):
    """The machine or the network said no. Fields: `address`, and `errno` where there is one."""


class ResolveError(NetworkError):
    """A name that has no address. Field: `address`."""

    default_template = "no address is known for {address}"


class ConnectError(NetworkError):
    """No connection could be made. Field: `address`; `attempts` lists every address tried."""

    default_template = "could not connect to {address}"


class BindError(NetworkError):
    """An address that cannot be listened on. Field: `address`."""

    default_template = "could not listen on {address}"


class TlsError(NetworkError):
    """No secure connection could be made or kept. Fields: `address`, `detail`."""

    default_template = "TLS with {address} failed: {detail}"


class DeadlineError(TielineError, TimeoutError):
    """A time limit passed. Fields: `doing`, `seconds`, `address`."""

    default_template = "{doing} {address} took longer than {seconds} s"


_CONNECT_TEMPLATES = {
    errno.ECONNREFUSED: (
        "nothing listens on {address}: the connection was refused",
        "is the server running, and is the port right?",
    ),
    errno.EHOSTUNREACH: ("no route to {address}", "is the machine on this network?"),
    errno.ENETUNREACH: ("the network of {address} cannot be reached", "is there a route to it?"),
    errno.ENOENT: ("there is no socket at {address}", "is the server running, and the path right?"),
    errno.EADDRNOTAVAIL: (
        "no local port is free to reach {address}",
        "too many short connections in a row; wait a minute, or keep connections open",
    ),
    errno.ECONNRESET: ("{address} reset the connection at once", "it may be refusing this client"),
    errno.EACCES: ("this user may not connect to {address}", ""),
    errno.ETIMEDOUT: ("{address} did not answer", "is a firewall dropping the packets?"),
}

_BIND_TEMPLATES = {
    errno.EADDRINUSE: (
        "{address} is in use by another program",
        "choose another port, or stop the program that holds it (ss -ltnp shows which)",
    ),
    errno.EACCES: ("this user may not listen on {address}", "ports below 1024 need root"),
    errno.EPERM: ("this user may not listen on {address}", ""),
    errno.EADDRNOTAVAIL: (
        "{address} is not an address of this machine",
        "use 0.0.0.0 for every IPv4 address, or :: for every address",
    ),
    errno.ENOENT: ("the folder of {address} does not exist", ""),
    errno.EAFNOSUPPORT: ("this machine has no support for the kind of {address}", ""),
}

_LOST_REASONS = {
    errno.ECONNRESET: CloseReason.PEER_RESET,
    errno.EPIPE: CloseReason.PEER_RESET,
    errno.ENOTCONN: CloseReason.PEER_RESET,  # `shutdown`, of what the peer has cut off
    errno.ECONNABORTED: CloseReason.PEER_RESET,
}


def reason_of(error: OSError) -> CloseReason:
    """What the failure of an established connection is called."""
    return _LOST_REASONS.get(error.errno or 0, CloseReason.NETWORK_ERROR)


def translate_os_error(error: OSError, doing: str, address: object = "") -> TielineError:
    """Say in tieline's words what the operating system said.

    The one place where an `OSError` becomes a `TielineError`; the caller raises the result
    `from` the original, so that nothing is lost.

    Args:
        error: what was caught.
        doing: what was being done: "connect", "bind", "resolve", or "transfer" for an
            established connection.
        address: the address it was done to, for the sentence.

    Returns:
        `TlsError`, `ResolveError`, `BindError`, `ConnectError` or, for "transfer",
        `ConnectionClosedError`.
    """
    code = error.errno
    fields: dict[str, Any] = {"address": str(address), "errno": code}
    # A bare `TimeoutError()` has neither a code nor a text.
    detail = {
        "detail": os.strerror(code) if code and code > 0 else str(error) or type(error).__name__
    }
    if isinstance(error, ssl.SSLError):
        return _translate_tls_error(error, fields)
    if isinstance(error, socket.gaierror) or doing == "resolve":
        return ResolveError(
            "no address is known for {address}", hint="check the spelling of the name", **fields
        )
    if doing == "bind":
        template, hint = _BIND_TEMPLATES.get(
            code or 0, ("could not listen on {address}: {detail}", "")
        )
        return BindError(template, hint=hint, **fields, **detail)
    if doing == "connect":
        template, hint = _CONNECT_TEMPLATES.get(
            code or 0, ("could not connect to {address}: {detail}", "")
        )
        return ConnectError(template, hint=hint, **fields, **detail)
    reason = reason_of(error)
    template = (
        "the peer reset the connection"
        if reason is CloseReason.PEER_RESET
        else "the connection was lost: {detail}"
    )
    return ConnectionClosedError(template, reason=reason, **fields, **detail)


def _translate_tls_error(error: ssl.SSLError, fields: dict[str, Any]) -> TlsError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsError(
            "the certificate of {address} cannot be trusted: {detail}",
            hint="give the authority that signed it, or the right server name",
            detail=getattr(error, "verify_message", "") or str(error),
            **fields,
        )
    # Only those that OpenSSL itself raises have a reason.
    return TlsError(detail=getattr(error, "reason", "") or str(error), **fields)
