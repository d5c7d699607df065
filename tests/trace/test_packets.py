"""Reading packets: what is there, and what cannot be read."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline import Address
from tieline.trace import Packet
from tieline.trace.packets import Flags, Segment, read_segment

from .wire import ip_packet, option, tcp_header

HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION, NONE = 0, 43, 44, 51, 60, 59


def read(data: bytes) -> Segment | None:
    return read_segment(Packet(0, data))


def read_tcp(content: bytes) -> Segment | None:
    return read(ip_packet("192.0.2.1", "192.0.2.2", content))


def test_a_segment_over_ipv4() -> None:
    header = tcp_header(40_000, 80, Flags.PSH | Flags.ACK, 7, 9, 512)
    segment = read(ip_packet("192.0.2.1", "198.51.100.9", header + b"hello"))
    assert segment is not None
    assert segment.source == Address("192.0.2.1", 40_000)
    assert segment.destination == Address("198.51.100.9", 80)
    assert (segment.sequence, segment.acknowledgement, segment.window) == (7, 9, 512)
    assert segment.flag_names == "PSH ACK"
    assert segment.payload == b"hello"
    assert segment.option_names == ()


def test_padding_after_a_packet_is_no_payload() -> None:
    data = ip_packet("192.0.2.1", "198.51.100.9", tcp_header(1, 2, Flags.ACK))
    segment = read(data + bytes(6))
    assert segment is not None
    assert segment.payload == b""


def test_the_options_of_a_syn() -> None:
    options = (
        option(2, struct.pack("!H", 1460)) + option(4, b"") + option(8, bytes(8)) + b"\x01"
        + option(3, b"\x0f") + option(34, b"")
    )  # fmt: skip
    segment = read(
        ip_packet("192.0.2.1", "192.0.2.2", tcp_header(1, 2, Flags.SYN, options=options))
    )
    assert segment is not None
    # A shift of 15 is 14 (RFC 7323).
    assert segment.option_names == ("mss=1460", "wscale=14", "sack", "ts", "fastopen")


def test_selective_acknowledgements() -> None:
    options = option(5, struct.pack("!IIII", 10, 20, 30, 40))
    segment = read(
        ip_packet("192.0.2.1", "192.0.2.2", tcp_header(1, 2, Flags.ACK, options=options))
    )
    assert segment is not None
    assert segment.sack_blocks == ((10, 20), (30, 40))
    assert segment.option_names == ("sack=10-20", "sack=30-40")


def extension(following: int, size: int = 8) -> bytes:
    return bytes([following, size // 8 - 1]) + bytes(size - 2)


@pytest.mark.parametrize(
    ("extensions", "is_read"),
    [
        (b"", True),
        (extension(6), True),
        (extension(DESTINATION) + extension(6, 24), True),
        (extension(FRAGMENT) + bytes([6, 0, 0, 0]) + bytes(4), True),
        (extension(FRAGMENT) + bytes([6, 0, 0, 1]) + bytes(4), False),
        (extension(FRAGMENT) + bytes([6, 0, 1, 0]) + bytes(4), False),
        (extension(AUTHENTICATION) + bytes([6, 1]) + bytes(10), True),
        (extension(NONE), False),
        (extension(DESTINATION) * 1 + extension(DESTINATION) * 9, False),
    ],
)
def test_what_stands_before_a_segment_over_ipv6(extensions: bytes, is_read: bool) -> None:
    content = tcp_header(40_000, 80, Flags.ACK) + b"x"
    segment = read(ip_packet("2001:db8::1", "2001:db8::2", content, extensions=extensions))
    assert (segment is not None) == is_read
    if segment is not None:
        assert segment.source == Address("2001:db8::1", 40_000)
        assert segment.payload == b"x"


def test_a_fragment_is_no_segment() -> None:
    data = bytearray(ip_packet("192.0.2.1", "192.0.2.2", tcp_header(1, 2, Flags.ACK)))
    for field in (0x2000, 0x0001):
        data[6:8] = struct.pack("!H", field)
        assert read(bytes(data)) is None


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_a_packet_that_is_cut_off_anywhere(host: str) -> None:
    data = ip_packet(host, host, tcp_header(1, 2, Flags.SYN, options=option(2, b"\x05\xb4")))
    assert read(data) is not None
    assert [read(data[:end]) for end in range(len(data))] == [None] * len(data)


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_not(data: bytes) -> None:
    read(data)
    for first in (b"\x45", b"\x60"):
        read(first + data)


@given(st.binary(max_size=40), st.integers(0, 255))
def test_any_options_are_read_or_not(options: bytes, flags: int) -> None:
    segment = read_tcp(tcp_header(1, 2, flags, options=options))
    assert segment is not None
    assert segment.payload == b""
    assert all(isinstance(name, str) for name in segment.option_names)
