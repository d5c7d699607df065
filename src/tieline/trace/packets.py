"""Captured bytes, read as TCP segments: IPv4 and IPv6 with what may stand before the TCP header.

No byte of a packet can be trusted: whoever is on the network wrote it. What cannot be read is
`None`, and never an exception.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from ..address import Address
from .model import Packet

__all__ = ["EXTENSION_HEADERS", "Flags", "Segment", "read_segment", "says_tcp"]

_TCP = 6

#: IPv6 headers before TCP's whose second byte is their length: hop-by-hop options, routing,
#: destination options; and those of other layouts: a fragment's and IPsec's authentication.
_EXTENSIONS = {0, 43, 60}
_FRAGMENT = 44
_AUTHENTICATION = 51

#: All that may stand between an IPv6 header and TCP's.
EXTENSION_HEADERS = (*sorted(_EXTENSIONS), _FRAGMENT, _AUTHENTICATION)

#: More headers than that in front of TCP's is nobody's packet.
_MOST_EXTENSIONS = 8

_TCP_HEADER = struct.Struct("!HHIIBBHHH")
_LEAST_TCP = _TCP_HEADER.size

_END_OF_OPTIONS, _NO_OPERATION = 0, 1
_MSS, _WINDOW_SCALE, _SACK_PERMITTED, _SACK, _TIMESTAMPS, _FAST_OPEN = 2, 3, 4, 5, 8, 34

#: RFC 7323, 2.3: a shift of more than 14 is taken as 14.
_LARGEST_SHIFT = 14


class Flags:
    """The bits of a TCP header's flags byte (RFC 9293, 3.1)."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80


_FLAG_NAMES = (
    (Flags.SYN, "SYN"),
    (Flags.FIN, "FIN"),
    (Flags.RST, "RST"),
    (Flags.PSH, "PSH"),
    (Flags.URG, "URG"),
    (Flags.ECE, "ECE"),
    (Flags.CWR, "CWR"),
    (Flags.ACK, "ACK"),
)


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment as it stood in a packet.

    Attributes:
        packet: the packet that it was in.
        source: who sent it, and `destination` to whom.
        sequence: as on the wire, 32 bits; so is `acknowledgement`, which means nothing without
            the ACK flag.
        flags: the bits of `Flags`.
        window: as on the wire, without a scale.
        payload: all of it.
        mss: the largest segment that the sender takes, where it says so.
        window_scale: the shift of its later windows, where it says so.
        sack: whether it can take selective acknowledgements (in a SYN).
        sack_blocks: the ranges that it has beyond its acknowledgement, or has had twice.
        timestamps: whether it carries them.
        fast_open: whether it carries a TCP Fast Open cookie, or asks for one.
    """

    packet: Packet
    source: Address
    destination: Address
    sequence: int
    acknowledgement: int
    flags: int
    window: int
    payload: bytes
    mss: int | None = None
    window_scale: int | None = None
    sack: bool = False
    sack_blocks: tuple[tuple[int, int], ...] = ()
    timestamps: bool = False
    fast_open: bool = False

    def has(self, flag: int) -> bool:
        """Whether this flag is set."""
        return bool(self.flags & flag)

    @property
    def length(self) -> int:
        """Sequence numbers that it takes: a SYN and a FIN take one each."""
        return len(self.payload) + self.has(Flags.SYN) + self.has(Flags.FIN)

    @property
    def flag_names(self) -> str:
        """The flags that are set, as in "SYN ACK"."""
        return " ".join(name for flag, name in _FLAG_NAMES if self.has(flag))

    @property
    def option_names(self) -> tuple[str, ...]:
        """The options as a person reads them."""
        names = []
        if self.mss is not None:
            names.append(f"mss={self.mss}")
        if self.window_scale is not None:
            names.append(f"wscale={self.window_scale}")
        if self.sack:
            names.append("sack")
        names.extend(f"sack={left}-{right}" for left, right in self.sack_blocks)
        if self.timestamps:
            names.append("ts")
        if self.fast_open:
            names.append("fastopen")
        return tuple(names)


def read_segment(packet: Packet) -> Segment | None:
    """The segment in a packet that begins with its IP header; `None` where there is none.

    A fragment is none: what it is a part of is not put together.
    """
    data = packet.data
    version = data[0] >> 4 if data else 0
    if version == 4:
        return _read_ipv4(packet, data)
    return _read_ipv6(packet, data) if version == 6 else None


def says_tcp(data: bytes) -> bool:
    """Whether the header of a packet says that TCP's comes next. Behind IPv6's other headers
    there may be anything."""
    version = data[0] >> 4 if data else 0
    at = {4: 9, 6: 6}.get(version, len(data))
    return at < len(data) and data[at] == _TCP


def _read_ipv4(packet: Packet, data: bytes) -> Segment | None:
    if len(data) < 20:
        return None
    header = (data[0] & 0x0F) * 4
    total, fragment = struct.unpack_from("!H2xH", data, 2)
    more_or_offset = fragment & 0x3FFF
    if header < 20 or data[9] != _TCP or more_or_offset or header > len(data):
        return None
    # A total of 0 is a segment that the network card is to cut, larger than 16 bits can say.
    end = total or len(data)
    if not header <= end <= len(data):
        return None
    # Beyond the total length is padding: the shortest Ethernet frame is longer than an ACK.
    hosts = (str(ipaddress.IPv4Address(data[at : at + 4])) for at in (12, 16))
    return _read_tcp(packet, data[header:end], *hosts)


def _read_ipv6(packet: Packet, data: bytes) -> Segment | None:
    if len(data) < 40:
        return None
    length, following = struct.unpack_from("!HB", data, 4)
    end = 40 + length if length else len(data)
    if end > len(data):
        return None
    at = 40
    for _ in range(_MOST_EXTENSIONS):
        if following == _TCP:
            hosts = (str(ipaddress.IPv6Address(data[start : start + 16])) for start in (8, 24))
            return _read_tcp(packet, data[at:end], *hosts)
        if at + 8 > end:
            return None
        if following in _EXTENSIONS:
            size = (data[at + 1] + 1) * 8
        elif following == _AUTHENTICATION:
            size = (data[at + 1] + 2) * 4
        elif following == _FRAGMENT and not struct.unpack_from("!H", data, at + 2)[0] & 0xFFF9:
            # The only fragment of its packet: no offset, none to follow (RFC 6946).
            size = 8
        else:
            return None
        following = data[at]
        at += size
    return None


def _read_tcp(packet: Packet, data: bytes, source: str, destination: str) -> Segment | None:
    if len(data) < _LEAST_TCP:
        return None
    from_port, to_port, sequence, acknowledgement, offset, flags, window, _, _ = (
        _TCP_HEADER.unpack_from(data)
    )
    header = (offset >> 4) * 4
    if not _LEAST_TCP <= header <= len(data):
        return None
    options = _Options()
    options.read(data[_LEAST_TCP:header], bool(flags & Flags.SYN))
    return Segment(
        packet,
        Address(source, from_port),
        Address(destination, to_port),
        sequence,
        acknowledgement,
        flags,
        window,
        data[header:],
        options.mss,
        options.window_scale,
        options.sack,
        options.sack_blocks,
        options.timestamps,
        options.fast_open,
    )


class _Options:
    """What the options of a TCP header say. Those that cannot be read end the reading."""

    def __init__(self) -> None:
        self.mss: int | None = None
        self.window_scale: int | None = None
        self.sack = False
        self.sack_blocks: tuple[tuple[int, int], ...] = ()
        self.timestamps = False
        self.fast_open = False

    def read(self, data: bytes, of_syn: bool) -> None:
        at = 0
        while at < len(data) and data[at] != _END_OF_OPTIONS:
            if data[at] == _NO_OPERATION:
                at += 1
                continue
            size = data[at + 1] if at + 1 < len(data) else 0
            if size < 2 or at + size > len(data):
                return
            self._take(data[at], data[at + 2 : at + size], of_syn)
            at += size

    def _take(self, kind: int, value: bytes, of_syn: bool) -> None:
        if kind == _MSS and len(value) == 2 and of_syn:
            self.mss = int.from_bytes(value, "big")
        elif kind == _WINDOW_SCALE and len(value) == 1 and of_syn:
            self.window_scale = min(value[0], _LARGEST_SHIFT)
        elif kind == _SACK_PERMITTED and of_syn:
            self.sack = True
        elif kind == _SACK and value and len(value) % 8 == 0:
            numbers = struct.unpack(f"!{len(value) // 4}I", value)
            self.sack_blocks = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        elif kind == _TIMESTAMPS and len(value) == 8:
            self.timestamps = True
        elif kind == _FAST_OPEN:
            self.fast_open = True
