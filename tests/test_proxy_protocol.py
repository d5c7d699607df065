"""The PROXY protocol: what is a header, what is none, and at which byte that shows."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline import Address, CloseReason, MalformedError, ProxyHeaderError
from tieline.errors import AddressError, SettingError
from tieline.proxy_protocol import MAXIMUM, ClientTls, Header, TlvType, build, parse

anything = settings(deadline=None, max_examples=200)

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")

FOUR, OTHER_FOUR = Address("192.0.2.7", 51_000), Address("198.51.100.1", 443)
SIX, OTHER_SIX = Address("2001:db8::7", 51_000), Address("2001:db8::1", 443)
PATH, ABSTRACT = Address(path="/run/client.sock"), Address(path="\0server")
UNNAMED = Address.from_socket_name(socket.AF_UNIX, "")


def block(
    command: int = 0x21, family: int = 0x00, body: bytes = b"", length: int | None = None
) -> bytes:
    """A header of version 2, put together by hand."""
    told = len(body) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, told) + body


def tlv(kind: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("!BH", kind, len(value) if length is None else length) + value


INET = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 51_000, 443)


def understood(data: bytes, **options: Any) -> Header:
    """A header that must be one, and is the same wherever the stream is cut."""
    header = parse(data, **options)
    assert header is not None
    for seen in range(len(data) + 1):
        expected = header if seen >= header.size else None
        assert parse(data[:seen], **options) == expected, seen
        assert parse(bytearray(data[:seen]), **options) == expected, seen
    assert parse(data + b"PROXY \r\n\xff", **options) == header
    return header


def fails_at(data: bytes, **options: Any) -> int:
    """The position of the byte at which these show to be no header, whatever follows."""
    position = None
    for seen in range(len(data) + 1):
        try:
            assert parse(data[:seen], **options) is None, data[:seen]
            assert position is None, "it had been an error before"
        except ProxyHeaderError:
            position = seen - 1 if position is None else position
    assert position is not None
    return position


# ---- Version 1


@pytest.mark.parametrize(
    ("line", "family", "source", "destination"),
    [
        (b"TCP4 192.0.2.7 198.51.100.1 51000 443", "inet", FOUR, OTHER_FOUR),
        (b"TCP4 0.0.0.0 255.255.255.255 0 65535", "inet",
            Address("0.0.0.0"), Address("255.255.255.255", 65535)),
        (b"TCP6 2001:db8::7 2001:db8::1 51000 443", "inet6", SIX, OTHER_SIX),
        # However it is written, it is the same client.
        (b"TCP6 2001:0DB8:0:0:0:0:0:0007 2001:0db8:0000:0000:0000:0000:0000:0001 51000 443",
            "inet6", SIX, OTHER_SIX),
        (b"TCP6 :: ::1 1 2", "inet6", Address("::", 1), Address("::1", 2)),
        (b"TCP6 1:2:3:4:5:6:7:: ::2:3:4:5:6:7:8 1 2", "inet6",
            Address("1:2:3:4:5:6:7:0", 1), Address("0:2:3:4:5:6:7:8", 2)),
        (b"TCP6 ::ffff:192.0.2.7 1:2:3:4:5:6:192.0.2.7 1 2", "inet6",
            Address("::ffff:192.0.2.7", 1), Address("1:2:3:4:5:6:c000:207", 2)),
        (b"UNKNOWN", "unknown", None, None),
        (b"UNKNOWN ", "unknown", None, None),
        (b"UNKNOWN ffff::1 ffff::2 1 2", "unknown", None, None),
        (b"UNKNOWN \x00\xff\r\r \n\n\t TCP4", "unknown", None, None),
    ],
)  # fmt: skip
def test_lines(
    line: bytes, family: str, source: Address | None, destination: Address | None
) -> None:
    data = b"PROXY " + line + b"\r\n"
    header = understood(data)
    assert (header.version, header.command, header.family) == (1, "proxy", family)
    assert (header.source, header.destination) == (source, destination)
    assert header.size == len(data)
    assert header.tlvs == ()
    assert (header.authority, header.unique_id, header.ssl) == (None, None, None)


#: Lines that are none; ^ stands before the byte that shows it, and is none of the line's.
BAD_LINES = r"""
^GET / HTTP/1.1\r\n
^SSH-2.0-OpenSSH_9.2\r\n
PROX^X
P^roxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n
^ PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n
PROXY^\r\n
PROXY^\n
PROXY^\tTCP4 1.2.3.4 1.2.3.4 1 2\r\n
PROXY^v2
PROXY ^ TCP4 1.2.3.4 1.2.3.4 1 2\r\n
PROXY ^\r\n
PROXY ^tcp4 1.2.3.4 1.2.3.4 1 2\r\n
PROXY TCP^5 1.2.3.4 1.2.3.4 1 2\r\n
PROXY TCP4^6 1.2.3.4 1.2.3.4 1 2\r\n
PROXY TCP4^\r\n
PROXY U^DP4 1.2.3.4 1.2.3.4 1 2\r\n
PROXY UNK^\r\n
PROXY UNKNOWN^S\r\n
PROXY UNKNOWN^\n
PROXY UNKNOWN\r^\r\n
PROXY UNKNOWN^\t\r\n
PROXY TCP4 ^ 1.2.3.4 1.2.3.4 1 2\r\n
PROXY TCP4 1.2.3^ 1.2.3.4 1 2\r\n
PROXY TCP4 1.2.3.^ 1.2.3.4 1 2\r\n
PROXY TCP4 1.^.3.4 1.2.3.4 1 2\r\n
PROXY TCP4 1.2.3.4^.5 1.2.3.4 1 2\r\n
PROXY TCP4 25^6.2.3.4 1.2.3.4 1 2\r\n
PROXY TCP4 1.2.3.100^0 1.2.3.4 1 2\r\n
PROXY TCP4 0^1.2.3.4 1.2.3.4 1 2\r\n
PROXY TCP4 1.2.3.0^0 1.2.3.4 1 2\r\n
PROXY TCP4 0^x7f.0.0.1 1.2.3.4 1 2\r\n
PROXY TCP4 ^-1.2.3.4 1.2.3.4 1 2\r\n
PROXY TCP4 ^localhost 1.2.3.4 1 2\r\n
PROXY TCP4 ^::1 ::1 1 2\r\n
PROXY TCP4 1.2.3.4 ^::1 1 2\r\n
PROXY TCP4 1.2.3.4^\x00 1.2.3.4 1 2\r\n
PROXY TCP4 ^\xff1.2.3.4 1.2.3.4 1 2\r\n
PROXY TCP4 1.2.3.4^,1.2.3.4 1 2\r\n
PROXY TCP4 1.2.3.4^\r\n
PROXY TCP4 1.2.3.4 1.2.3.4^\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 ^\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 ^ 1 2\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 1^\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 1 ^\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 1 2^\n
PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r^\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r^ \n
PROXY TCP4 1.2.3.4 1.2.3.4 1 2^ \r\n
PROXY TCP4 1.2.3.4 1.2.3.4 1 2^ 3\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 1 2^\x00\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 6553^6 2\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 65535 6553^6\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 9999^9 2\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 65535^0 2\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 0^1 2\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 0^0 2\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 ^+1 2\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 ^-1 2\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 1^_0 2\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 1^.0 2\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 ^\xd9\xa1 2\r\n
PROXY TCP6 1^.2.3.4 1.2.3.4 1 2\r\n
PROXY TCP6 ::1 1^.2.3.4 1 2\r\n
PROXY TCP6 :^ ::1 1 2\r\n
PROXY TCP6 :^1 ::1 1 2\r\n
PROXY TCP6 ::^: ::1 1 2\r\n
PROXY TCP6 1::2:^: ::1 1 2\r\n
PROXY TCP6 1:2:3:4:5:6:7^ ::1 1 2\r\n
PROXY TCP6 1:2:3:4:5:6:7:^ ::1 1 2\r\n
PROXY TCP6 1:2:3:4:5:6:7:8^: ::1 1 2\r\n
PROXY TCP6 1:2:3:4:5:6:7::^8 ::1 1 2\r\n
PROXY TCP6 ::2:3:4:5:6:7:8^: ::1 1 2\r\n
PROXY TCP6 1234^5:: ::1 1 2\r\n
PROXY TCP6 ^g:: ::1 1 2\r\n
PROXY TCP6 ^[::1] ::1 1 2\r\n
PROXY TCP6 fe80::1^%eth0 ::1 1 2\r\n
PROXY TCP6 ::1^/64 ::1 1 2\r\n
PROXY TCP6 ::ffff:1.2.3^ ::1 1 2\r\n
PROXY TCP6 ::ffff:01^.2.3.4 ::1 1 2\r\n
PROXY TCP6 ::ffff:1.2.3.4^:1 ::1 1 2\r\n
PROXY TCP6 1:2:3:4:5:6::1^.2.3.4 ::1 1 2\r\n
PROXY TCP6 1:2:3:4:5:6:7:1^.2.3.4 ::1 1 2\r\n
PROXY TCP6 1:2:3:4:5:1^.2.3.4 ::1 1 2\r\n
"""


@pytest.mark.parametrize("marked", BAD_LINES.split("\n")[1:-1])
def test_lines_that_are_none_show_it_at_the_first_wrong_byte(marked: str) -> None:
    before, _, after = marked.partition("^")
    good = before.encode("ascii").decode("unicode_escape").encode("latin-1")
    bad = after.encode("ascii").decode("unicode_escape").encode("latin-1")
    assert fails_at(good + bad) == len(good)


def test_the_longest_line() -> None:
    longest = b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n"
    assert len(longest) == 107
    assert understood(longest).family == "unknown"
    # Without its end in there, no byte more is waited for.
    assert fails_at(b"PROXY UNKNOWN " + b"x" * 200) == 105
    assert fails_at(b"PROXY UNKNOWN " + b"x" * 91 + b"\rx\r\n") == 106
    assert fails_at(b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n") == 105
    widest = b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    line = b"PROXY TCP6 " + widest + b" " + widest + b" 65535 65535\r\n"
    assert len(line) == 104
    assert understood(line).source == Address(widest.decode(), 65535)
    # Of the kind that no sender writes, and that would not fit.
    widest = b"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
    assert fails_at(b"PROXY TCP6 " + widest + b" " + widest + b" 65535 65535\r\n") == 105


def test_a_line_is_not_looked_for_beyond_its_longest() -> None:
    """CVE-2021-23351 and CVE-2021-23409: a reader that waited for an end that never came."""
    assert fails_at(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2" + b" " * 100_000) == 30
    with pytest.raises(ProxyHeaderError, match="over 107 bytes"):
        parse(b"PROXY UNKNOWN " + b"x" * 10_000_000 + b"\r\n")


def test_what_is_wrong_is_told_without_what_came() -> None:
    for data, told in [
        (b"GET \x1b[31m\r\n", "the bytes are no PROXY header"),
        (b"PROXY TCP4 \x1b[31m\r\n", "word 3 of a PROXY header is wrong"),
        (b"PROXY TCP4 1.2.3.4\r\n", "word 4 of a PROXY header is wrong"),
        (block(0x31), "there is no version 3 of the binary PROXY header"),
        (block(0x22), "a PROXY header has no command 2"),
        (block(0x21, 0x41), "a PROXY header has no family 65"),
        (block(0x21, 0x00, tlv(0xE0, b"\x1b[31m", 6)), "a TLV of type 224 goes beyond its end"),
    ]:
        with pytest.raises(MalformedError) as caught:
            parse(data)
        assert str(caught.value) == told


def _may_become_ipv6(part: str) -> bool:
    """The slow way: whether something that can follow makes it an address."""
    groups = [":".join("0" * count) for count in range(1, 9)]
    dotted = ["0.0.0.0", "0.0.0", "0.0", "0"]
    endings = ["", ":", "::"]
    for group in groups:
        endings += [group, ":" + group, "::" + group]
    for octets in dotted:
        endings += ["." + octets, octets]
        endings += [f"{before}{group}:{octets}" for before in ("", ":") for group in groups]
    for ending in endings:
        try:
            socket.inet_pton(socket.AF_INET6, part + ending)
        except OSError:
            continue
        return True
    return False


@anything
@given(
    st.one_of(
        st.lists(st.sampled_from([":", "::", ".", "1", "ff", "abcd", "255", "0"]), max_size=18),
        st.ip_addresses(v=6).map(lambda address: [address.exploded]),
        st.lists(st.sampled_from([*"0129afg:.% "]), max_size=12),
    ).map("".join),
    st.integers(0, 45),
)
def test_an_unfinished_ipv6_address_is_waited_for_while_it_can_become_one(
    text: str, cut: int
) -> None:
    part = text[:cut].partition(" ")[0]
    wrong = None
    try:
        assert parse(b"PROXY TCP6 " + part.encode()) is None
    except ProxyHeaderError as error:
        wrong = error
    assert (wrong is None) is _may_become_ipv6(part), part


_WHOLE_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: (?s:.)*?)?|(TCP[46]) ([^ ]+) ([^ ]+) ([0-9]+) ([0-9]+))\r\n"
)


def _reference(data: bytes) -> tuple[Any, ...] | None:
    """A whole line, read the plain way: its addresses, or `None` if it is no header."""
    match = _WHOLE_LINE.match(data[:107])
    if match is None:
        return None
    if match[1] is None:
        return (match.end(), None, None)
    kind = ipaddress.IPv4Address if match[1] == b"TCP4" else ipaddress.IPv6Address
    found: list[Any] = [match.end()]
    for host, port in ((match[2], match[4]), (match[3], match[5])):
        try:
            address = kind(host.decode("ascii"))
        except ValueError:
            return None
        if b"%" in host or str(int(port)) != port.decode() or int(port) > 65535:
            return None
        found.append((address, int(port)))
    return tuple(found)


_words = st.sampled_from(
    [b"PROXY", b"TCP4", b"TCP6", b"UNKNOWN", b" ", b" ", b" ", b"1.2.3.4", b"::1", b"0", b"80",
     b"65535", b"65536", b"01", b"\r\n", b"\r", b"\n", b"\0", b"::ffff:1.2.3.4"]
)  # fmt: skip
_hosts = st.sampled_from([b"1.2.3.4", b"::1", b"01.2.3.4", b"1::2:3:4:5:6:7:8", b"::ffff:1.2.3.4"])
_ports = st.sampled_from([b"0", b"80", b"65535", b"65536", b"080", b""])
_nearly = st.tuples(st.sampled_from([b"TCP4", b"TCP6"]), _hosts, _hosts, _ports, _ports).map(
    lambda words: b"PROXY " + b" ".join(words) + b"\r\n"
)


@anything
@given(st.one_of(st.lists(_words, max_size=14).map(b"".join), _nearly))
def test_lines_are_read_as_the_plain_way_reads_them(data: bytes) -> None:
    expected = _reference(data)
    found: tuple[Any, ...] | None = None
    try:
        header = parse(data)
    except ProxyHeaderError:
        pass
    else:
        if header is not None:
            ends = (header.source, header.destination)
            found = (header.size, *(
                end and (ipaddress.ip_address(end.host), end.port) for end in ends
            ))  # fmt: skip
    assert found == expected


# ---- Version 2


@pytest.mark.parametrize("transport", [1, 2])
def test_blocks_with_addresses(transport: int) -> None:
    header = understood(block(0x21, 0x10 | transport, INET))
    assert header == Header(2, "proxy", "inet", FOUR, OTHER_FOUR, 28)

    packed = [socket.inet_pton(socket.AF_INET6, end.host) for end in (SIX, OTHER_SIX)]
    body = b"".join(packed) + struct.pack("!HH", 51_000, 443)
    header = understood(block(0x21, 0x20 | transport, body))
    assert header == Header(2, "proxy", "inet6", SIX, OTHER_SIX, 52)

    body = b"/run/client.sock".ljust(108, b"\0") + b"\0server".ljust(108, b"\0")
    header = understood(block(0x21, 0x30 | transport, body))
    assert header == Header(2, "proxy", "unix", PATH, ABSTRACT, 232)


def test_paths_that_are_not_filled_with_zeros() -> None:
    """Senders copy a buffer; what stands behind the path's end is nobody's."""
    rest = b"\0left over".ljust(99, b"x")
    header = understood(block(0x21, 0x31, b"/run/sock" + rest + bytes(108)))
    assert header.source == Address(path="/run/sock")
    assert header.destination == UNNAMED
    header = understood(block(0x21, 0x31, b"x" * 108 + b"\xff".ljust(108, b"\0")))
    assert header.source == Address(path="x" * 108)
    assert header.destination == Address(path="\udcff")


@pytest.mark.parametrize("family", [0x00, 0x11, 0x31, 0x99, 0xFF])
@pytest.mark.parametrize("body", [b"", b"\xff", INET, b"\xff" * 300, tlv(3, b"\0\0\0\1")])
def test_what_a_proxy_says_for_itself_is_not_looked_at(family: int, body: bytes) -> None:
    header = understood(block(0x20, family, body))
    assert header == Header(2, "local", "unspec", None, None, 16 + len(body))


def test_an_unspecified_family() -> None:
    assert understood(block()) == Header(2, "proxy", "unspec", None, None, 16)
    header = understood(block(body=tlv(TlvType.AUTHORITY, b"a.example")))
    assert header.authority == "a.example"
    # What it says cannot be addresses of an unknown family: they would be guessed.
    assert fails_at(block(body=INET + b"\xff\xff")) == 29


def test_each_of_the_first_sixteen_bytes_is_judged_as_it_comes() -> None:
    good = block(0x21, 0x11, INET)
    for at in range(12):
        assert fails_at(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]) == at
    commands = [number for number in range(256) if number not in (0x20, 0x21)]
    assert {fails_at(block(number, 0x11, INET)) for number in commands} == {12}
    known = {0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32}
    for number in set(range(256)) - known:
        assert fails_at(block(0x21, number, bytes(300))) == 13
    for number in known:
        assert parse(block(0x21, number, bytes(0 if number == 0 else 216))) is not None


@pytest.mark.parametrize(("family", "size"), [(0x11, 12), (0x12, 12), (0x21, 36), (0x31, 216)])
def test_addresses_that_are_cut_short(family: int, size: int) -> None:
    """CVE-2019-14243: readers that took the addresses for whole, and read beyond the block."""
    for length in range(size):
        assert fails_at(block(0x21, family, bytes(length))) == 15
        assert fails_at(block(0x21, family, bytes(400), length)) == 15
    assert understood(block(0x21, family, bytes(size))).size == 16 + size


def test_the_largest_block() -> None:
    room = MAXIMUM - 28
    largest = block(0x21, 0x11, INET + tlv(TlvType.NOOP, bytes(room - 3)))
    assert len(largest) == MAXIMUM
    assert understood(largest).size == MAXIMUM
    assert fails_at(block(0x21, 0x11, INET + tlv(TlvType.NOOP, bytes(room - 2)))) == 15
    # 64 KB are announced: the first of the two bytes says enough.
    assert fails_at(block(0x21, 0x11, INET, 0xFFFF)) == 14
    assert fails_at(block(0x20, 0x00, b"", 0xFFFF)) == 14
    whole = block(0x21, 0x11, INET + tlv(0xE0, bytes(0xFFFF - 15)))
    header = parse(whole, maximum=16 + 0xFFFF)
    assert header is not None
    assert header.size == 16 + 0xFFFF
    assert fails_at(block(0x21, 0x11, INET), maximum=27) == 15
    assert understood(block(0x21, 0x11, INET), maximum=28).size == 28


@pytest.mark.parametrize(
    "tlvs",
    [
        b"\x01",
        b"\x01\x00",
        tlv(1, b"", 1),
        tlv(1, b"h2", 3),
        tlv(4, b"", 0xFFFF),
        tlv(1, b"h2") + tlv(2, b"a", 2),
        tlv(1, b"h2") + b"\0\0",
        tlv(TlvType.CRC32C, b""),
        tlv(TlvType.CRC32C, bytes(3)),
        tlv(TlvType.CRC32C, bytes(5)),
        tlv(TlvType.CRC32C, b"", 4),
        tlv(TlvType.UNIQUE_ID, bytes(129)),
        tlv(TlvType.SSL, b""),
        tlv(TlvType.SSL, bytes(4)),
        tlv(TlvType.SSL, bytes(5) + b"\x21"),
        tlv(TlvType.SSL, bytes(5) + tlv(0x21, b"TLSv1.3", 8)),
        tlv(TlvType.SSL, bytes(5) + tlv(0x21, b"TLSv1.3", 6)),
    ],
)
def test_tlvs_that_are_none(tlvs: bytes) -> None:
    data = block(0x21, 0x11, INET + tlvs)
    # Not before they are whole: they are walked through once.
    assert fails_at(data) == len(data) - 1
    assert fails_at(data + b"more") == len(data) - 1


def test_tlvs() -> None:
    unknown = (0x00, b""), (0xE0, b"\0\xff"), (0xFF, b"later")
    named = (TlvType.AUTHORITY, b"a.example"), (TlvType.UNIQUE_ID, b"\x07" * 128)
    data = build(2, FOUR, OTHER_FOUR, tlvs=[*unknown, (TlvType.NOOP, bytes(9)), *named])
    header = understood(data)
    assert header.tlvs == (*unknown, *named)
    assert header.authority == "a.example"
    assert header.unique_id == b"\x07" * 128
    assert header.ssl is None
    # The first of several.
    header = understood(build(2, FOUR, OTHER_FOUR, tlvs=[(2, b"a"), (2, b"b")]))
    assert header.authority == "a"


@pytest.mark.parametrize(
    ("value", "authority"),
    [
        (b"a.example", "a.example"),
        ("bücher.example".encode(), "bücher.example"),
        (b"", None),
        (b"\xff.example", None),
        (b"a\nb", None),
        (b"\x1b[31m", None),
        (b"a\0b", None),
        ("\u202e".encode(), None),
        (b"\xed\xa0\x80", None),
    ],
)
def test_an_authority_that_is_no_text_costs_nobody_the_connection(
    value: bytes, authority: str | None
) -> None:
    """CVE-2024-23324: it is a client's word that proxies pass on unseen."""
    header = understood(build(2, FOUR, OTHER_FOUR, tlvs=[(TlvType.AUTHORITY, value)]))
    assert header.authority == authority
    assert header.tlvs == ((TlvType.AUTHORITY, value),)


def test_the_client_s_tls() -> None:
    inner = b"".join([
        tlv(0x21, b"TLSv1.3"), tlv(0x22, "Zoë".encode()), tlv(0x23, b"TLS_AES_256_GCM_SHA384"),
        tlv(0x24, b"SHA256"), tlv(0x25, b"RSA2048"), tlv(0x7F, b"?"),
    ])  # fmt: skip
    value = bytes([0b111, 0, 0, 0, 0]) + inner
    header = understood(build(2, FOUR, OTHER_FOUR, tlvs=[(TlvType.SSL, value)]))
    assert header.ssl == ClientTls(
        has_tls=True, has_certificate=True, had_certificate=True, is_verified=True,
        version="TLSv1.3", common_name="Zoë", cipher="TLS_AES_256_GCM_SHA384",
        signature_algorithm="SHA256", key_algorithm="RSA2048",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "result", "is_verified"),
    [(0b111, 0, True), (0b101, 0, True), (0b011, 0, True), (0b001, 0, False), (0b000, 0, False),
     (0b111, 1, False), (0b111, 1 << 31, False)],
)  # fmt: skip
def test_nobody_without_a_certificate_is_verified(
    flags: int, result: int, is_verified: bool
) -> None:
    value = struct.pack("!BI", flags, result)
    header = understood(build(2, FOUR, OTHER_FOUR, tlvs=[(TlvType.SSL, value)]))
    assert header.ssl is not None
    assert header.ssl.is_verified is is_verified
    assert header.ssl.has_tls is bool(flags & 1)
    assert (header.ssl.version, header.ssl.common_name) == (None, None)


def test_checksums() -> None:
    data = build(2, FOUR, OTHER_FOUR, tlvs=[(TlvType.UNIQUE_ID, b"x")], checksum=True)
    assert understood(data).tlvs == ((TlvType.UNIQUE_ID, b"x"),)
    for at in range(13, len(data)):
        for bit in (1, 0x80):
            changed = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
            header = None
            try:
                header = parse(changed)
            except ProxyHeaderError:
                continue
            # The checksum itself has become another TLV, or one that is longer.
            assert header is None or at in range(len(data) - 7, len(data) - 4)


def test_a_checksum_in_the_middle_and_two_of_them() -> None:
    """It covers what stands behind it too."""
    data = bytearray(block(0x21, 0x11, INET + tlv(3, bytes(4)) + tlv(0xE0, b"x")))
    data[31:35] = _slow_crc32c(data).to_bytes(4, "big")
    assert understood(bytes(data)).tlvs == ((0xE0, b"x"),)
    data[-1] ^= 1
    assert fails_at(bytes(data)) == len(data) - 1
    twice = block(0x21, 0x11, INET + tlv(3, bytes(4)) * 2)
    with pytest.raises(ProxyHeaderError, match="two checksums"):
        parse(twice)


def _slow_crc32c(data: bytes | bytearray) -> int:
    """Bit by bit, as the polynomial is written down."""
    rest = 0xFFFF_FFFF
    for byte in data:
        rest ^= byte
        for _ in range(8):
            rest = rest >> 1 ^ 0x82F63B78 * (rest & 1)
    return rest ^ 0xFFFF_FFFF


def test_the_checksum_is_that_of_rfc_3720() -> None:
    from tieline.proxy_protocol.crc32c import crc32c

    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


def test_a_connection_that_says_nothing() -> None:
    assert parse(b"") is None


@pytest.mark.parametrize("first", sorted(set(range(256)) - {ord("P"), ord("\r")}))
def test_what_begins_otherwise(first: int) -> None:
    assert fails_at(bytes([first])) == 0


# ---- Writing


def test_what_is_written() -> None:
    assert build(1, FOUR, OTHER_FOUR) == b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n"
    assert build(1, SIX, OTHER_SIX) == b"PROXY TCP6 2001:db8::7 2001:db8::1 51000 443\r\n"
    assert build(2, FOUR, OTHER_FOUR) == block(0x21, 0x11, INET)
    assert build(2, FOUR, OTHER_FOUR, tlvs=[(1, b"h2")]) == block(0x21, 0x11, INET + tlv(1, b"h2"))
    assert len(build(2, SIX, OTHER_SIX)) == 52
    assert len(build(2, PATH, ABSTRACT)) == 232


def test_what_has_no_addresses() -> None:
    assert build(1, None, None) == build(1, PATH, PATH) == b"PROXY UNKNOWN\r\n"
    assert build(2, None, None) == build(2, PATH, FOUR) == block(0x20, 0x00)
    assert build(1, FOUR, PATH) == b"PROXY UNKNOWN\r\n"
    assert understood(build(2, None, None, checksum=True)).command == "local"


@pytest.mark.parametrize("version", [1, 2])
def test_two_families(version: int) -> None:
    """What came by IPv6 from whom a proxy before knows by IPv4, and the other way round."""
    header = understood(build(version, FOUR, OTHER_SIX))
    assert header.family == "inet6"
    assert header.source == Address("::ffff:192.0.2.7", 51_000)
    assert header.destination == OTHER_SIX
    header = understood(build(version, SIX, OTHER_FOUR))
    assert header.destination == Address("::ffff:198.51.100.1", 443)


@pytest.mark.parametrize("version", [1, 2])
def test_scopes_are_not_told(version: int) -> None:
    for scoped in (Address("fe80::1%eth0", 5), Address("fe80::1", 5, scope=3)):
        assert understood(build(version, scoped, SIX)).source == Address("fe80::1", 5)


def test_sockets_without_a_path() -> None:
    data = build(2, UNNAMED, ABSTRACT)
    assert data[16:124] == bytes(108)
    header = understood(data)
    assert (header.source, header.destination) == (UNNAMED, ABSTRACT)


@pytest.mark.parametrize("version", [0, 3, -1, "1", "v2", None, 2.5])
def test_versions_that_are_none(version: Any) -> None:
    with pytest.raises(SettingError, match="versions 1 and 2"):
        build(version, FOUR, OTHER_FOUR)


@pytest.mark.parametrize(
    "address",
    [
        Address("localhost", 1), Address("", 1), Address("1.2.3", 1), Address("1.2.3.4\0", 1),
        Address("1.2.3.04", 1), Address("::g", 1), Address("é", 1), Address("[::1]", 1),
        Address("1.2.3.4", 65536), Address("1.2.3.4", -1), Address("1.2.3.4\r\n", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", [1, 2])
def test_addresses_that_cannot_be_told(version: int, address: Address) -> None:
    for ends in ((address, FOUR), (FOUR, address)):
        with pytest.raises(AddressError) as caught:
            build(version, *ends)
        assert "{" not in str(caught.value)


def test_paths_that_cannot_be_told() -> None:
    assert understood(build(2, Address(path="x" * 108), PATH)).source == Address(path="x" * 108)
    with pytest.raises(AddressError, match="has 109 bytes"):
        build(2, PATH, Address(path="x" * 109))
    with pytest.raises(AddressError):
        build(2, PATH, Address(path="é" * 55))


@pytest.mark.parametrize(
    "tlvs",
    [[(-1, b"")], [(256, b"")], [("1", b"")], [(1, "text")], [(1, None)], [(1, bytes(65_536))],
     [(TlvType.CRC32C, bytes(4))], [(1, bytes(65_535))], [(1, bytes(40_000))] * 2],
)  # fmt: skip
def test_tlvs_that_cannot_be_told(tlvs: Any) -> None:
    with pytest.raises(SettingError) as caught:
        build(2, FOUR, OTHER_FOUR, tlvs=tlvs)
    assert "{" not in str(caught.value)


def test_what_version_1_has_no_place_for() -> None:
    for options in ({"tlvs": [(1, b"h2")]}, {"checksum": True}):
        with pytest.raises(SettingError, match="no place"):
            build(1, FOUR, OTHER_FOUR, **options)


def test_both_ends_or_neither() -> None:
    for ends in ((FOUR, None), (None, FOUR)):
        with pytest.raises(SettingError, match="both ends"):
            build(2, *ends)


# ---- Anything

_port_numbers = st.integers(0, 65_535)


def _machines(version: Literal[4, 6]) -> st.SearchStrategy[Address]:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return st.builds(
        Address,
        st.ip_addresses(v=version).map(lambda address: socket.inet_ntop(family, address.packed)),
        _port_numbers,
    )


_paths = st.builds(
    lambda name, abstract: Address(path=("\0" if abstract else "/") + name),
    st.text("abc/._é", min_size=1, max_size=40),
    st.booleans(),
)
_pairs: st.SearchStrategy[tuple[Address, Address]] = st.one_of(
    *(st.tuples(kind, kind) for kind in (_machines(4), _machines(6), _paths, st.just(UNNAMED)))
)
_kinds = st.integers(0, 255).filter(lambda kind: kind not in (3, 4, 5, 0x20))
_tlvs = st.lists(st.tuples(_kinds, st.binary(max_size=20)), max_size=5)


@anything
@given(_pairs, _tlvs, st.booleans(), st.binary(max_size=5))
def test_what_is_written_is_read_again(
    ends: tuple[Address, Address],
    tlvs: list[tuple[int, bytes]],
    checksum: bool,
    rest: bytes,
) -> None:
    data = build(2, *ends, tlvs=tlvs, checksum=checksum)
    header = understood(data)
    assert parse(data + rest) == header
    assert (header.source, header.destination) == ends
    assert header.tlvs == tuple(tlvs)
    assert header.size == len(data)
    line = build(1, *ends)
    header = understood(line)
    assert parse(line + rest) == header
    assert header.size == len(line)
    told = (None, None) if ends[0].is_unix else ends
    assert (header.source, header.destination) == told


def _damaged(data: bytes, damage: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for at, byte in damage:
        changed[at % len(changed)] = byte
    return bytes(changed)


_wild = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=60).map(lambda rest: SIGNATURE + b"\x21" + rest),
    st.tuples(
        st.sampled_from([0x20, 0x21]),
        st.sampled_from([0x00, 0x11, 0x12, 0x21, 0x31]),
        st.binary(max_size=400),
    ).map(lambda parts: block(*parts)),
    st.text("PROXY TCP46UNKNOWN 0123456789.:abf\r\n", max_size=120).map(str.encode),
    st.builds(
        _damaged,
        st.sampled_from([
            build(1, FOUR, OTHER_FOUR), build(1, SIX, OTHER_SIX), build(1, None, None),
            build(2, FOUR, OTHER_FOUR, tlvs=[(2, b"a.example"), (4, bytes(3))], checksum=True),
            build(2, SIX, OTHER_SIX, tlvs=[(0x20, bytes(5) + tlv(0x21, b"TLSv1.3"))]),
            build(2, PATH, ABSTRACT), build(2, None, None),
        ]),
        st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3),
    ),
)  # fmt: skip


@settings(deadline=None, max_examples=600)
@given(_wild)
def test_any_bytes_are_a_header_or_an_error_and_that_is_final(data: bytes) -> None:
    settled: Header | str | None = None
    for seen in range(len(data) + 1):
        outcome: Header | str | None
        try:
            outcome = parse(data[:seen])
        except ProxyHeaderError as error:
            outcome = str(error)
        if settled is None:
            settled = outcome
        assert not isinstance(settled, str) or "{" not in settled
        if isinstance(settled, Header):
            assert settled.size <= seen
            # Its properties raise nothing.
            assert settled.authority is None or settled.authority.isprintable()
            assert settled.ssl is None or isinstance(settled.ssl, ClientTls)
            assert settled.unique_id is None or len(settled.unique_id) <= 128
        if isinstance(settled, str):
            assert isinstance(outcome, str), "an error stays one"
        else:
            assert outcome == settled, "what was settled is settled"
    # Nobody is kept waiting for what is longer than any header.
    assert settled is not None or len(data) < MAXIMUM


# ---- Cost


def lines_run(call: Callable[[], object]) -> int:
    """How many lines of Python a call runs: a measure that no busy machine changes."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def cost(data: bytes) -> int:
    def read() -> None:
        with contextlib.suppress(ProxyHeaderError):
            parse(data, maximum=65_536)

    return lines_run(read)


def test_the_cost_grows_with_the_size_and_no_faster() -> None:
    costs = [
        cost(block(0x21, 0x11, INET + tlv(0xE0, b"") * count + tlv(3, bytes(4))))
        for count in (2_000, 4_000, 8_000)
    ]
    assert costs[2] - costs[1] < 2.1 * (costs[1] - costs[0])


def test_a_header_that_comes_byte_by_byte_costs_no_more() -> None:
    """Whoever sends one byte at a time makes us look each time: at a few bytes only."""
    for data in (
        block(0x21, 0x11, INET + tlv(0xE0, b"") * 1_300),
        block(0x20, 0x00, bytes(4_000)),
    ):
        each = {cost(data[:seen]) for seen in (17, 400, len(data) - 1)}
        assert len(each) == 1
        assert each.pop() < 40
    line = build(1, SIX, OTHER_SIX)
    assert max(cost(line[:seen]) for seen in range(len(line))) < 250


def test_the_reason_of_a_bad_header() -> None:
    with pytest.raises(ProxyHeaderError) as caught:
        parse(b"GET / HTTP/1.1")
    assert caught.value.reason is CloseReason.BAD_PREAMBLE
