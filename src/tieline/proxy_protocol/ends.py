"""The two ends of a connection, as a header tells them."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, AF_UNIX, inet_pton
from typing import Literal, NamedTuple

from ..address import Address
from ..errors import AddressError

__all__ = ["PATH_SIZE", "Ends", "path_address", "path_bytes"]

#: Bytes that a header has for the path of a Unix socket.
PATH_SIZE = 108

#: Before an IPv4 address that is written as an IPv6 one.
_MAPPED = bytes(10) + b"\xff\xff"


class Ends(NamedTuple):
    """Both ends of a connection, in bytes; the ports are 0 for Unix sockets."""

    family: Literal["inet", "inet6", "unix"]
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int

    @classmethod
    def of(cls, source: Address, destination: Address) -> Ends | None:
        """The ends as one family has them; `None` where no family has both.

        Raises:
            AddressError: an address is none that a header can tell.
        """
        if source.is_unix or destination.is_unix:
            if not (source.is_unix and destination.is_unix):
                return None
            return cls("unix", path_bytes(source), path_bytes(destination), 0, 0)
        first, second = _packed(source), _packed(destination)
        ports = _port(source), _port(destination)
        if len(first) == len(second) == 4:
            return cls("inet", first, second, *ports)
        # What came in by one family and is known by another: both as IPv6.
        first, second = (_MAPPED + each if len(each) == 4 else each for each in (first, second))
        return cls("inet6", first, second, *ports)


def path_bytes(address: Address) -> bytes:
    """The path of a Unix socket; nothing for a socket without one."""
    if address == Address.from_socket_name(AF_UNIX, ""):
        return b""
    path = address.path.encode("utf-8", "surrogateescape")
    if len(path) > PATH_SIZE:
        raise AddressError(
            "the path in {text!r} has {size} bytes, and a PROXY header has {maximum} for it",
            size=len(path),
            maximum=PATH_SIZE,
            text=str(address),
        )
    return path


def path_address(field: bytes) -> Address:
    """The Unix socket whose path a header has in a field of fixed size."""
    # A path ends at a NUL; a name of the abstract namespace begins with one.
    path = field.partition(b"\0")[0] or field.rstrip(b"\0")
    return Address.from_socket_name(AF_UNIX, path)


def _packed(address: Address) -> bytes:
    # What a scope means only this machine knows.
    host = address.host.partition("%")[0]
    try:
        return inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    # ValueError: a NUL in it, or no ASCII.
    except (OSError, ValueError) as error:
        raise AddressError(
            "a PROXY header tells IP addresses, and {text!r} is none", text=str(address)
        ) from error


def _port(address: Address) -> int:
    if 0 <= address.port <= 65535:
        return address.port
    raise AddressError(
        "{port!r} is not a port",
        hint="a port is a number from 0 to 65535",
        port=address.port,
        text=str(address),
    )
