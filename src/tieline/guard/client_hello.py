"""The server name that a TLS client asks for, read from its greeting without ending its TLS.

The greeting is a ClientHello (RFC 8446, 4.1.2) in records of TLS (5.1), and not encrypted. It is
only looked at: what has come goes on to the upstream as it is, and the upstream judges the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import MalformedError

__all__ = ["MAXIMUM", "Hello", "HelloReader", "server_name"]

#: Bytes in which a greeting must have come, with the heads of its records. Usual ones have 200 to
#: 2,000; a record holds 16,384 at most.
MAXIMUM = 17_408

_RECORD_HEAD = 5
_LONGEST_RECORD = 16_384
_ALERT, _HANDSHAKE = 21, 22
_MAJOR_VERSION = 3

#: A message's type, and its length in three bytes.
_MESSAGE_HEAD = 4
_CLIENT_HELLO = 1

_VERSION_AND_RANDOM = 34
_LONGEST_SESSION_ID = 32
_SERVER_NAME, _ALPN = 0, 16
_HOST_NAME = 0
_LONGEST_NAME = 255

#: ASCII that has a shape.
_SHOWN = re.compile(rb"[!-~]+")


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client says of where it wants to go.

    Attributes:
        server_name: the name it asks for (SNI), in lower case, without a dot at its end, of
            characters that can be shown; `None` if it asks for none.
        alpn: the protocols that it speaks, best first; bytes that cannot be shown, as GREASE
            (RFC 8701) has them, are written as in Python: `\\x0a`.
    """

    server_name: str | None
    alpn: tuple[str, ...]


def server_name(data: bytes | bytearray) -> Hello | None:
    """Look for a ClientHello in what has come from a client since its first byte.

    Each call looks at all of it: `HelloReader` is for what comes in many pieces.

    Returns:
        What it says, or `None` while more bytes are needed.

    Raises:
        MalformedError: the client does not speak TLS, or no TLS that can be read; or its greeting
            is over `MAXIMUM` bytes.
    """
    return HelloReader().feed(data)


class HelloReader:
    """Reads a ClientHello as it comes; each byte is looked at once.

    It is over when `feed` has returned a `Hello`, or raised.
    """

    __slots__ = ("_head", "_left", "_message", "_seen")

    def __init__(self) -> None:
        self._head = bytearray()
        # Of the record that is being read.
        self._left = 0
        self._message = bytearray()
        self._seen = 0

    def feed(self, data: bytes | bytearray) -> Hello | None:
        """Read on.

        Args:
            data: what has come since the last call.

        Returns:
            What the client says, or `None` while more bytes are needed.

        Raises:
            MalformedError: as `server_name`.
        """
        at = 0
        while at < len(data):
            if not self._left:
                self._head.append(data[at])
                at += 1
                self._look_at_head()
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            self._message += piece
            hello = self._look_at_message()
            if hello is not None:
                return hello
        return None

    def _look_at_head(self) -> None:
        head = self._head
        if head[0] != _HANDSHAKE:
            if head[0] == _ALERT:
                raise MalformedError("a TLS alert came instead of a greeting")
            raise MalformedError("this is not TLS")
        if len(head) == 2 and head[1] != _MAJOR_VERSION:
            raise MalformedError("this is not TLS")
        if len(head) < _RECORD_HEAD:
            return
        length = int.from_bytes(head[3:], "big")
        if not 0 < length <= _LONGEST_RECORD:
            raise MalformedError("a TLS record cannot have {size} bytes", size=length)
        self._check_size(self._seen + _RECORD_HEAD + length)
        self._seen += _RECORD_HEAD + length
        self._left = length
        head.clear()

    def _look_at_message(self) -> Hello | None:
        message = self._message
        if message[0] != _CLIENT_HELLO:
            raise MalformedError("a TLS client began with something else than its greeting")
        if len(message) < _MESSAGE_HEAD:
            return None
        end = _MESSAGE_HEAD + int.from_bytes(message[1:_MESSAGE_HEAD], "big")
        self._check_size(_RECORD_HEAD + end)
        if len(message) < end:
            return None
        return _read(bytes(message[_MESSAGE_HEAD:end]))

    @staticmethod
    def _check_size(size: int) -> None:
        if size > MAXIMUM:
            raise MalformedError("a TLS greeting is over {maximum} bytes", maximum=MAXIMUM)


def _read(body: bytes) -> Hello:
    if len(body) < _VERSION_AND_RANDOM or body[0] != _MAJOR_VERSION:
        raise _malformed()
    session_id, at = _vector(body, _VERSION_AND_RANDOM, 1)
    ciphers, at = _vector(body, at, 2)
    compressions, at = _vector(body, at, 1)
    if len(session_id) > _LONGEST_SESSION_ID or not ciphers or len(ciphers) % 2 or not compressions:
        raise _malformed()
    if at == len(body):
        # Before TLS 1.3 there need not be any.
        return Hello(None, ())
    told = _extensions(_only(body[at:]))
    name = told.get(_SERVER_NAME)
    alpn = told.get(_ALPN)
    return Hello(
        None if name is None else _host_name(_only(name)),
        () if alpn is None else _protocols(_only(alpn)),
    )


def _extensions(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        kind = int.from_bytes(data[at : at + 2], "big")
        value, at = _vector(data, at + 2, 2)
        if kind in found:
            # Which of two is meant, the upstream might see otherwise.
            raise _malformed()
        found[kind] = value
    return found


def _host_name(names: bytes) -> str:
    """The host name among server names; no other kind was ever defined."""
    if names[:1] != bytes([_HOST_NAME]):
        raise _malformed()
    name, at = _vector(names, 1, 2)
    name = name.removesuffix(b".")
    if at != len(names) or len(name) > _LONGEST_NAME or not _SHOWN.fullmatch(name):
        raise MalformedError("the server name of a TLS greeting is none")
    return name.decode("ascii").lower()


def _protocols(names: bytes) -> tuple[str, ...]:
    found: list[str] = []
    at = 0
    while at < len(names):
        name, at = _vector(names, at, 1)
        if not name:
            raise _malformed()
        found.append(
            name.decode("ascii") if _SHOWN.fullmatch(name) else "".join(map(_escaped, name))
        )
    if not found:
        raise _malformed()
    return tuple(found)


def _escaped(byte: int) -> str:
    return chr(byte) if _SHOWN.fullmatch(bytes([byte])) else f"\\x{byte:02x}"


def _vector(data: bytes, at: int, width: int) -> tuple[bytes, int]:
    """The bytes whose length stands before them in `width` bytes, and where they end."""
    start = at + width
    end = start + int.from_bytes(data[at:start], "big")
    if max(start, end) > len(data):
        raise _malformed()
    return data[start:end], end


def _only(data: bytes) -> bytes:
    """The vector (its length in two bytes) that is all of this."""
    value, end = _vector(data, 0, 2)
    if end != len(data):
        raise _malformed()
    return value


def _malformed() -> MalformedError:
    return MalformedError("a TLS greeting is malformed")
