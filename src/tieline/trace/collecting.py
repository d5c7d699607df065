"""The packets of one connection, out of everything that a capture sees."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from ..address import Address
from .capture import Capture, Seen
from .following import Progress
from .model import Dropped, Side
from .packets import Segment

__all__ = ["Collected", "plain_host"]


def plain_host(address: Address) -> Address:
    """The address as it stands in a packet: no scope, and IPv4 where it is that in IPv6's form."""
    ip = ipaddress.ip_address(address.host.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return Address(str(ip), address.port)


class Collected:
    """Takes what a capture sees, and keeps what belongs to one connection, each packet once.

    A packet passes several interfaces of a machine where there is a bridge, a bond or a container.
    A side's packets are taken where the first of them was seen.

    Args:
        client: who connects, and `server` to whom: as they stand in packets.
    """

    def __init__(self, client: Address, server: Address) -> None:
        self.client = client
        self.server = server
        self.segments: list[Segment] = []
        self.dropped = Dropped()
        self._ways: dict[Side, tuple[str, int]] = {}
        self._progress = Progress(client)

    @property
    def is_over(self) -> bool:
        """Whether the connection is."""
        return self._progress.is_over

    def take(self, seen: Seen) -> None:
        """Something that the capture saw."""
        segment = seen.segment
        if (segment.source, segment.destination) == (self.client, self.server):
            side = Side.CLIENT
        elif (segment.source, segment.destination) == (self.server, self.client):
            side = Side.SERVER
        else:
            return
        if self._ways.setdefault(side, seen.way) != seen.way:
            return
        # The order is the kernel's: no answer is before what it answers. Two processors may have
        # looked at the clock the other way around.
        earliest = self.segments[-1].packet.at_ns if self.segments else 0
        if segment.packet.at_ns < earliest:
            segment = replace(segment, packet=replace(segment.packet, at_ns=earliest))
        self.segments.append(segment)
        self._progress.take(segment)

    def look(self, capture: Capture) -> None:
        """Take what the capture has seen, a few hundred packets at a time.

        Raises:
            NetworkError: the capture failed.
        """
        for seen in capture.read():
            self.take(seen)
        self.dropped = capture.dropped
