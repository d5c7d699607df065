"""The key under which a client machine is counted: its network prefix, as text."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from ..address import UNKNOWN_CLIENT

__all__ = ["Keys", "user_key"]

#: How an IPv4 address begins that is written as an IPv6 one.
_MAPPED = bytes(10) + b"\xff\xff"


def user_key(uid: int | None) -> str:
    """The key of a Unix peer: its user, as the kernel vouches for it."""
    return UNKNOWN_CLIENT if uid is None else f"uid:{uid}"


class Keys:
    """Makes keys of addresses.

    Args:
        ipv4_prefix: bits of an IPv4 address that count, 1-32.
        ipv6_prefix: bits of an IPv6 address that count, 1-128.

    IPv4 addresses mapped into IPv6 (`::ffff:a.b.c.d`) are IPv4. The scope of a link-local
    address is part of its key.
    """

    __slots__ = ("_end4", "_end6", "_is_whole4", "_mask4", "_mask6")

    def __init__(self, ipv4_prefix: int, ipv6_prefix: int) -> None:
        self._is_whole4 = ipv4_prefix == 32
        self._mask4 = (1 << 32) - (1 << (32 - ipv4_prefix))
        self._mask6 = (1 << 128) - (1 << (128 - ipv6_prefix))
        self._end4 = "" if ipv4_prefix == 32 else f"/{ipv4_prefix}"
        self._end6 = "" if ipv6_prefix == 128 else f"/{ipv6_prefix}"

    def key(self, host: str, scope: int | str = 0) -> str:
        """The key of an IP address as the kernel writes it; `UNKNOWN_CLIENT` for anything else.

        Args:
            scope: the scope of an IPv6 address, unless the text has it, as in `fe80::1%eth0`.
        """
        # Ten times as fast as `ipaddress`, and as strict: it is asked for every newcomer.
        try:
            if ":" not in host:
                packed = inet_pton(AF_INET, host)
                # The common case: the text of an IPv4 address, counted whole, is its own key.
                return host if self._is_whole4 else self._key4(packed)
            packed = inet_pton(AF_INET6, host)
        except (OSError, ValueError):
            part, percent, zone = host.partition("%")
            if percent and zone and "%" not in zone and ":" in part:
                return self.key(part, scope or zone)
            return UNKNOWN_CLIENT
        if packed.startswith(_MAPPED):
            return self._key4(packed[12:])
        number = int.from_bytes(packed, "big") & self._mask6
        key = inet_ntop(AF_INET6, number.to_bytes(16, "big")) + self._end6
        # fe80::/10 is a different network at each interface.
        return f"{key}%{scope}" if scope and packed[0] == 0xFE and packed[1] >> 6 == 2 else key

    def _key4(self, packed: bytes) -> str:
        number = int.from_bytes(packed, "big") & self._mask4
        return inet_ntop(AF_INET, number.to_bytes(4, "big")) + self._end4
