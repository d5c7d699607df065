"""Addresses people write, and the client machine behind a connection.

`HOST:PORT`, `[IPv6]:PORT`, `:PORT`, `unix:PATH` (`unix:@NAME` for the abstract namespace).
A client, for limits, is a network prefix: `admission` makes the key.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Any

from .errors import AddressError

__all__ = ["UNKNOWN_CLIENT", "Address", "parse_address"]

#: The one key shared by every client for which no key can be made. It is limited like any
#: other: "unknown" never means "unlimited".
UNKNOWN_CLIENT = "unknown"


@dataclass(frozen=True, slots=True)
class Address:
    """One end of a connection, or a place to listen on.

    Attributes:
        host: name or IP address without brackets; empty for every address of this machine,
            and for a Unix socket.
        port: 0-65535; 0 lets the system choose when listening.
        path: path of a Unix socket; a leading NUL is the abstract namespace.
        scope: IPv6 scope id, of link-local addresses.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    scope: int = 0

    @property
    def is_unix(self) -> bool:
        """Whether this is a Unix socket."""
        return bool(self.path)

    def __str__(self) -> str:
        if self.path:
            return "unix:" + self.path.replace("\0", "@", 1)
        host = self.host or "*"
        if ":" in host:
            scope = f"%{self.scope}" if self.scope and "%" not in host else ""
            host = f"[{host}{scope}]"
        return f"{host}:{self.port}"

    @classmethod
    def from_socket_name(cls, family: int, name: Any) -> Address:
        """The address in what `getsockname`, `getpeername` or `accept` gave."""
        if family == socket.AF_UNIX:
            if isinstance(name, bytes):
                name = name.decode("utf-8", "surrogateescape")
            return cls(path=name or "(unnamed)")
        if family == socket.AF_INET6:
            host, port, _, scope = name
            return cls(host=host, port=port, scope=scope)
        host, port = name[:2]
        return cls(host=host, port=port)


def parse_address(text: str | Address, *, default_port: int | None = None) -> Address:
    """Read an address as people write it.

    Args:
        text: `HOST:PORT`, `[IPv6]:PORT`, `:PORT` or `*:PORT` (every address of this machine),
            `unix:PATH` or `unix:@NAME`; an `Address` comes back as it is.
        default_port: the port where the text has none; without it, a port must be there.

    Raises:
        AddressError: the text is none of these, or a port is not 0-65535.
    """
    if isinstance(text, Address):
        return text
    # An empty text is a variable that nobody set, and must not open every address.
    if not isinstance(text, str) or not text:
        raise AddressError(text=text)
    if text.startswith("unix:") or text == "unix":
        # A host of this name could not be told from a path.
        return _parse_unix(text)
    bracketed = text.startswith("[")
    if bracketed:
        host, bracket, rest = text[1:].partition("]")
        if not bracket or rest[:1] not in ("", ":"):
            raise AddressError("the brackets of {text!r} do not match", text=text)
        colon, port_text = rest[:1], rest[1:]
    else:
        host, colon, port_text = text.partition(":")
        if ":" in port_text:
            raise AddressError(
                "{text!r} has several colons",
                hint="write an IPv6 address as [::1]:7788",
                text=text,
            )
    if colon:
        port = parse_port(port_text, text)
    elif default_port is None:
        raise AddressError(
            "{text!r} names no port",
            hint="write it as HOST:PORT, for example 127.0.0.1:7788",
            text=text,
        )
    else:
        port = parse_port(str(default_port), text)
    return _ipv6_address(host, port, text) if bracketed else _named_address(host, port, text)


def _ipv6_address(host: str, port: int, text: str) -> Address:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError as error:
        raise AddressError(
            "{host!r} in brackets is not an IPv6 address", host=host, text=text
        ) from error
    # A scope by number is a field of its own; one by name is for the system to look up.
    zone = address.scope_id or ""
    if zone.isascii() and zone.isdigit() and len(zone) <= 10:
        return Address(host.partition("%")[0], port, scope=int(zone))
    return Address(host, port)


def _named_address(host: str, port: int, text: str) -> Address:
    if any(character.isspace() or character in "[]/\0" for character in host):
        raise AddressError("{host!r} is not the name of a host", host=host, text=text)
    return Address("" if host == "*" else host, port)


def _parse_unix(text: str) -> Address:
    path = text.removeprefix("unix").removeprefix(":")
    if not path or path == "@":
        raise AddressError("{text!r} names no path", hint="write it as unix:/run/x.sock", text=text)
    try:
        size = len(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:
        raise AddressError("the path in {text!r} cannot be written", text=text) from error
    if "\0" in path:
        raise AddressError(
            "the path in {text!r} holds a NUL",
            hint="write unix:@NAME for an abstract one",
            text=text,
        )
    if size > 107:
        raise AddressError(
            "the path in {text!r} has {size} bytes, and a Unix socket's has at most {maximum}",
            size=size,
            maximum=107,
            text=text,
        )
    return Address(path="\0" + path[1:] if path.startswith("@") else path)


def parse_port(text: str, whole: str = "") -> int:
    """Read a port number, 0-65535. `whole` is what it was part of, for the error.

    Raises:
        AddressError: it is not a whole number in that range.
    """
    # The length first: Python refuses to read numbers of thousands of digits.
    if len(text) <= 5 and text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise AddressError(
        "{port!r} is not a port",
        hint="a port is a number from 0 to 65535",
        port=text,
        text=whole or text,
    )
