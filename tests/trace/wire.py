"""Packets made by hand, as a capture would have seen them."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from typing import TypedDict, Unpack

from tieline import Address
from tieline.trace import Packet, Side
from tieline.trace.following import Event, Story, follow
from tieline.trace.packets import Flags, Segment, read_segment

__all__ = ["Wire", "ip_packet", "option", "tcp_header"]

CLIENT = Address("192.0.2.1", 40_000)
SERVER = Address("198.51.100.9", 7788)

_FLAGS = {
    "FIN": Flags.FIN, "SYN": Flags.SYN, "RST": Flags.RST, "PSH": Flags.PSH, "ACK": Flags.ACK,
}  # fmt: skip

_WRAP = 1 << 32


def option(kind: int, value: bytes) -> bytes:
    """A TCP option."""
    return bytes([kind, len(value) + 2]) + value


def tcp_header(
    source: int,
    destination: int,
    flags: int,
    sequence: int = 0,
    acknowledgement: int = 0,
    window: int = 1000,
    options: bytes = b"",
) -> bytes:
    """A TCP header, with its options padded; its checksum is 0, as on its way to the card."""
    options += bytes(-len(options) % 4)
    offset = (20 + len(options)) // 4 << 4
    return (
        struct.pack(
            "!HHIIBBHHH",
            source, destination, sequence % _WRAP, acknowledgement % _WRAP, offset, flags, window,
            0, 0,
        )
        + options
    )  # fmt: skip


def ip_packet(source: str, destination: str, content: bytes, *, extensions: bytes = b"") -> bytes:
    """An IPv4 or IPv6 packet. An extension's first byte says what comes after it."""
    hosts = [ipaddress.ip_address(host).packed for host in (source, destination)]
    if len(hosts[0]) == 4:
        total = 20 + len(content)
        return struct.pack("!BBHHHBBH", 0x45, 0, total, 1, 0x4000, 64, 6, 0) + b"".join(
            [*hosts, content]
        )
    first = 0 if extensions else 6
    size = len(extensions) + len(content)
    return struct.pack("!IHBB", 6 << 28, size, first, 64) + b"".join([*hosts, extensions, content])


class More(TypedDict, total=False):
    """What else a segment has."""

    data: bytes
    window: int
    sack: Sequence[tuple[int, int]]
    options: bytes


class Wire:
    """Two sides that say what a test has them say.

    Args:
        origins: the numbers of both SYNs, the client's and the server's.
    """

    def __init__(self, origins: tuple[int, int] = (1000, 5000)) -> None:
        self._origins = dict(zip(Side, origins, strict=True))
        self.now = 1_700_000_000_000_000_000
        self.segments: list[Segment] = []
        self.events: list[Event] = []

    def wait(self, milliseconds: float) -> None:
        self.now += int(milliseconds * 1e6)

    def client(
        self, flags: str, sequence: int, acknowledgement: int = 0, **more: Unpack[More]
    ) -> None:
        """The client sends; its numbers are relative."""
        self._say(Side.CLIENT, flags, sequence, acknowledgement, **more)

    def server(
        self, flags: str, sequence: int, acknowledgement: int = 0, **more: Unpack[More]
    ) -> None:
        """So does the server."""
        self._say(Side.SERVER, flags, sequence, acknowledgement, **more)

    def open(self) -> None:
        """The three-way handshake."""
        self.client("SYN", 0)
        self.server("SYN ACK", 0, 1)
        self.client("ACK", 1, 1)

    def told(self) -> Story:
        """What tieline makes of it."""
        return follow(self.segments, CLIENT, self.events)

    def _say(
        self,
        side: Side,
        flags: str,
        sequence: int,
        acknowledgement: int,
        *,
        data: bytes = b"",
        window: int = 1000,
        sack: Sequence[tuple[int, int]] = (),
        options: bytes = b"",
    ) -> None:
        self.wait(0.01)
        ends = (CLIENT, SERVER) if side is Side.CLIENT else (SERVER, CLIENT)
        bits = sum(_FLAGS[name] for name in flags.split())
        theirs = self._origins[side.other]
        if sack:
            blocks = [struct.pack("!II", *((n + theirs) % _WRAP for n in pair)) for pair in sack]
            options += option(5, b"".join(blocks))
        header = tcp_header(
            ends[0].port,
            ends[1].port,
            bits,
            self._origins[side] + sequence,
            theirs + acknowledgement if bits & Flags.ACK else 0,
            window,
            options,
        )
        packet = Packet(self.now, ip_packet(ends[0].host, ends[1].host, header + data))
        segment = read_segment(packet)
        assert segment is not None
        self.segments.append(segment)
