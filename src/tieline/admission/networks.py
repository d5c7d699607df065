"""Networks as people write them, and fast answers to "which of these is this address in?"."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any, Generic, NamedTuple, TypeVar

from ..errors import SettingError

__all__ = ["Network", "Networks", "address_number", "network_of_key", "parse_network"]

Value = TypeVar("Value")


class Network(NamedTuple):
    """A network, or one address: the network of its whole length.

    Attributes:
        width: bits of an address of its family, 32 or 128.
        length: how many of them all of its addresses share.
        number: its first address.
    """

    width: int
    length: int
    number: int

    def __str__(self) -> str:
        family = AF_INET if self.width == 32 else AF_INET6
        first = inet_ntop(family, self.number.to_bytes(self.width // 8, "big"))
        return first if self.length == self.width else f"{first}/{self.length}"


def address_number(host: str) -> tuple[int, int] | None:
    """The width of an address as the kernel writes it, 32 or 128 bits, and its number.

    `None` for anything else. IPv4 addresses mapped into IPv6 are IPv4; scopes are left out.
    """
    try:
        if ":" not in host:
            return 32, int.from_bytes(inet_pton(AF_INET, host), "big")
        packed = inet_pton(AF_INET6, host.partition("%")[0] if "%" in host else host)
    except (OSError, ValueError):
        return None
    number = int.from_bytes(packed, "big")
    return (32, number & 0xFFFF_FFFF) if number >> 32 == 0xFFFF else (128, number)


def network_of_key(key: str) -> Network | None:
    """The network that a client's key stands for; `None` for one that is no address."""
    first, slash, length = key.partition("%")[0].partition("/")
    address = address_number(first)
    if address is None:
        return None
    width, number = address
    return Network(width, int(length) if slash else width, number)


def parse_network(text: Any) -> Network:
    """Read a network, `10.0.0.0/8`, or an address, `10.0.0.7` or `2001:db8::1`.

    IPv4 networks mapped into IPv6 are IPv4.

    Raises:
        SettingError: it is neither, or its address has bits beyond its length.
    """
    try:
        # It would take numbers, and addresses of one interface for those of all.
        fits = isinstance(text, str) and "%" not in text
        interface = ipaddress.ip_interface(text if fits else "")
    except ValueError as error:
        raise SettingError(
            "{network!r} is not an address or a network",
            hint="write it as 10.0.0.7, 10.0.0.0/24 or 2001:db8::/64",
            network=text,
        ) from error
    found = interface.network
    network = Network(found.max_prefixlen, found.prefixlen, int(found.network_address))
    if int(interface.ip) != network.number:
        raise SettingError(
            "{network!r} has bits beyond its length",
            hint="is it the network {whole} or the address {address}?",
            network=text,
            whole=str(network),
            address=str(interface.ip),
        )
    if network.number >> 32 == 0xFFFF and network.width == 128 and network.length >= 96:
        return Network(32, network.length - 96, network.number & 0xFFFF_FFFF)
    return network


class Networks(Generic[Value]):
    """Values by network. Finding those that cover an address costs one look for each length.

    False while it is empty.
    """

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        # For each family, the tables of its lengths, the narrowest networks first: how many bits
        # of an address to drop, and the values by what is left.
        self._groups: dict[int, list[tuple[int, dict[int, Value]]]] = {32: [], 128: []}

    def __bool__(self) -> bool:
        return bool(self._groups[32] or self._groups[128])

    def put(self, network: Network, value: Value) -> None:
        """Set the value of a network."""
        shift = network.width - network.length
        groups = self._groups[network.width]
        for own, values in groups:
            if own == shift:
                values[network.number >> shift] = value
                return
        groups.append((shift, {network.number >> shift: value}))
        groups.sort(key=lambda group: group[0])

    def remove(self, network: Network) -> None:
        """Take a network out that is in.

        Raises:
            KeyError: it is not.
        """
        shift = network.width - network.length
        groups = self._groups[network.width]
        for group in groups:
            own, values = group
            if own == shift:
                del values[network.number >> shift]
                if not values:
                    groups.remove(group)
                return
        raise KeyError(network)

    def at(self, width: int, number: int) -> Value | None:
        """The value of the narrowest network that an address is in."""
        for shift, values in self._groups[width]:
            value = values.get(number >> shift)
            if value is not None:
                return value
        return None

    def covering(self, network: Network) -> Iterator[Value]:
        """The values of the networks that this one lies in whole, the narrowest first."""
        width, length, number = network
        for shift, values in self._groups[width]:
            if shift >= width - length:
                value = values.get(number >> shift)
                if value is not None:
                    yield value
