"""Whether an upstream leads back to the guard itself: then each session would make another."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Sequence

from ..address import Address
from ..resolve import Candidate

__all__ = ["is_of_this_machine", "leads_back"]

#: Addresses for documentation (RFC 5737, RFC 3849), which no machine has.
_NOBODYS = {4: "192.0.2.1", 6: "2001:db8::1"}

_EVERY = {4: ipaddress.ip_address("0.0.0.0"), 6: ipaddress.ip_address("::")}
_LOOPBACK = {4: ipaddress.ip_address("127.0.0.1"), 6: ipaddress.ip_address("::1")}

_IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def leads_back(
    candidates: Iterable[Candidate],
    own: Sequence[Address],
    is_local: Callable[[str, int], bool] | None = None,
) -> bool:
    """Whether any of these addresses is one that this guard listens on.

    Args:
        candidates: where an upstream leads.
        own: where the guard listens; one that listens on both families has an address of each.
        is_local: for tests, in place of `is_of_this_machine`.
    """
    is_local = is_local or is_of_this_machine
    return any(
        _is_same(family, name, address, is_local) for family, name in candidates for address in own
    )


def _is_same(family: int, name: object, own: Address, is_local: Callable[[str, int], bool]) -> bool:
    if family == socket.AF_UNIX:
        return own.is_unix and _is_same_path(str(name), own.path)
    assert isinstance(name, tuple)
    if own.is_unix or own.port != name[1]:
        return False
    there = _plain(str(name[0]))
    if there is None:
        return False
    if there.is_unspecified:
        # Connecting to every address is connecting to this machine.
        there = _LOOPBACK[there.version]
    if not own.host:
        return is_local(str(there), 0)
    listening = _plain(own.host)
    if listening is None or listening.version != there.version:
        return False
    if listening.is_unspecified:
        return is_local(str(there), name[3] if len(name) > 3 else 0)
    return listening == there


def _plain(host: str) -> _IpAddress | None:
    """The address without its scope; IPv4 in IPv6's clothes as IPv4. `None`: it is a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_same_path(path: str, own: str) -> bool:
    if path == own:
        return True
    if path.startswith("\0") or own.startswith("\0"):
        return False
    try:
        return os.path.samefile(path, own)
    except (OSError, ValueError):
        return False


def is_of_this_machine(host: str, scope: int = 0) -> bool:
    """Whether an IP address is one of this machine's. The machine is asked; nothing is sent."""
    address = ipaddress.ip_address(host)
    if address.is_loopback:
        return True
    if not _can_bind(str(address), address.version, scope):
        return False
    if not _can_bind(_NOBODYS[address.version], address.version, 0):
        return True
    # This machine lets anything be bound (net.ipv4.ip_nonlocal_bind), so that says nothing. But
    # who calls its own address calls from it.
    return _source_for(str(address), address.version, scope) == address


def _name(host: str, version: int, scope: int, port: int) -> tuple[object, ...]:
    return (host, port) if version == 4 else (host, port, 0, scope)


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _can_bind(host: str, version: int, scope: int) -> bool:
    try:
        with socket.socket(_family(version), socket.SOCK_DGRAM) as asked:
            asked.bind(_name(host, version, scope, 0))
    except OSError as error:
        # With no descriptor left, better to relay than to take everything for a circle.
        return error.errno == errno.EADDRINUSE
    return True


def _source_for(host: str, version: int, scope: int) -> _IpAddress | None:
    """The address that datagrams to `host` would come from; none is sent."""
    try:
        with socket.socket(_family(version), socket.SOCK_DGRAM) as asked:
            asked.connect(_name(host, version, scope, 9))
            return ipaddress.ip_address(str(asked.getsockname()[0]).partition("%")[0])
    except OSError:
        return None
