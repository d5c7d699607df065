"""Packets for Wireshark and its kin: the pcapng format (draft-ietf-opsawg-pcapng).

A section header, one interface, and a block for each packet with its time to the nanosecond and
its direction.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from .._version import __version__
from .model import Packet, Trace

__all__ = ["write_pcapng"]

_SECTION_HEADER, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D

#: Each packet begins with its IPv4 or IPv6 header.
_LINKTYPE_RAW = 101

_END = 0
_APPLICATION = 4
_RESOLUTION, _RESOLUTION_NANOSECONDS = 9, 9
_FLAGS, _INBOUND, _OUTBOUND = 2, 1, 2


def write_pcapng(trace: Trace, file: BinaryIO) -> None:
    """Write the packets of a trace. Their times are those of its steps.

    A trace without a capture has none: the file is then a whole one of no packets.

    Raises:
        OSError: the file cannot be written.
    """
    file.write(_section_header())
    file.write(_interface())
    for packet in trace.packets:
        file.write(_packet(packet))


def _section_header() -> bytes:
    # The length of the section is not said: -1.
    body = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1)
    return _block(_SECTION_HEADER, body + _option(_APPLICATION, f"tieline {__version__}".encode()))


def _interface() -> bytes:
    # No limit to what was kept of a packet: 0.
    body = struct.pack("<HHI", _LINKTYPE_RAW, 0, 0)
    return _block(_INTERFACE, body + _option(_RESOLUTION, bytes([_RESOLUTION_NANOSECONDS])))


def _packet(packet: Packet) -> bytes:
    high, low = packet.at_ns >> 32, packet.at_ns & 0xFFFFFFFF
    size = len(packet.data)
    body = struct.pack("<IIIII", 0, high, low, size, size) + _padded(packet.data)
    if packet.outgoing is not None:
        direction = _OUTBOUND if packet.outgoing else _INBOUND
        body += _option(_FLAGS, struct.pack("<I", direction))
    return _block(_PACKET, body)


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def _option(code: int, value: bytes) -> bytes:
    """The only option of its block."""
    option = struct.pack("<HH", code, len(value)) + _padded(value)
    return option + struct.pack("<HH", _END, 0)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
