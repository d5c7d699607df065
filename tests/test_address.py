"""Addresses as people write them, and the machine behind a connection."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.address import Address, parse_address, parse_port
from tieline.errors import AddressError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7788", Address("127.0.0.1", 7788)),
        ("example.org:0", Address("example.org", 0)),
        ("例子.测试:65535", Address("例子.测试", 65535)),
        ("localhost:00080", Address("localhost", 80)),
        (":7788", Address("", 7788)),
        ("*:7788", Address("", 7788)),
        ("[::1]:7788", Address("::1", 7788)),
        ("[::]:1", Address("::", 1)),
        ("[::ffff:1.2.3.4]:1", Address("::ffff:1.2.3.4", 1)),
        ("[fe80::1%3]:80", Address("fe80::1", 80, scope=3)),
        ("[fe80::1%eth0]:80", Address("fe80::1%eth0", 80)),
        ("unix:/run/x.sock", Address(path="/run/x.sock")),
        ("unix:relative:7", Address(path="relative:7")),
        ("unix:@name", Address(path="\0name")),
        ("unix:/" + "x" * 106, Address(path="/" + "x" * 106)),
    ],
)
def test_addresses_as_written(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(text, default_port=9) == address
    assert parse_address(str(address)) == address
    assert parse_address(address) is address
    assert address.is_unix == text.startswith("unix:")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost", Address("localhost", 9)),
        ("[::1]", Address("::1", 9)),
        ("*", Address("", 9)),
        ("[fe80::1%3]", Address("fe80::1", 9, scope=3)),
    ],
)
def test_default_port(text: str, address: Address) -> None:
    assert parse_address(text, default_port=9) == address
    with pytest.raises(AddressError, match="names no port"):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "host:", "host:-1", "host:65536", "host:99999999", "host:+80", "host: 80"),
        *("host:80 ", "host:8_0", "host:0x50", "host:٣", "host:８０", "host:" + "1" * 5000),
        *(" host:80", "ho st:80", "host\n:80", "host\0:80", "a/b:80", "http://host:80"),
        *("::1", "::1:80", "1:2:3", "[::1", "::1]:80", "[::1]80", "[::1]x:80", "[::1]:80:80"),
        *("[]:80", "[host]:80", "[1.2.3.4]:80", "[::1]:", "[::1] :80", "[ ::1]:80", "[:::]:80"),
        *("unix:", "unix:@", "unix:/a\0b", "unix:\0a", "unix:/" + "x" * 107, "unix:/\ud800"),
        *("unix:/" + "测" * 36, None, 80, b"host:80"),
    ],
)
@pytest.mark.parametrize("default_port", [None, 80])
def test_texts_that_are_no_address(text: Any, default_port: int | None) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text, default_port=default_port)
    assert caught.value.fields["text"] == text
    assert str(caught.value)


@pytest.mark.parametrize("text", ["a b", "a/b", "a]", "\0"])
def test_host_without_a_port_is_checked_too(text: str) -> None:
    with pytest.raises(AddressError, match="not the name of a host"):
        parse_address(text, default_port=80)


@pytest.mark.parametrize("port", [-1, 65536])
def test_default_port_out_of_range(port: int) -> None:
    with pytest.raises(AddressError, match=f"'{port}' is not a port"):
        parse_address("host", default_port=port)


def test_port_alone() -> None:
    assert [parse_port(text) for text in ("0", "80", "65535")] == [0, 80, 65535]
    with pytest.raises(AddressError) as caught:
        parse_port("65536")
    assert caught.value.fields == {"port": "65536", "text": "65536"}


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(
        st.ip_addresses().map(str),
        st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True),
        st.just(""),
    ),
    st.integers(0, 65535),
    st.integers(0, 2**32 - 1),
)
def test_written_addresses_come_back(host: str, port: int, scope: int) -> None:
    address = Address(host.partition("%")[0], port, scope=scope if ":" in host else 0)
    assert parse_address(str(address)) == address


@settings(deadline=None, max_examples=300)
@given(st.text("a1:[]%.@*/ \0unix٣", max_size=12), st.sampled_from([None, 80]))
def test_any_text_is_an_address_or_an_address_error(text: str, default_port: int | None) -> None:
    try:
        address = parse_address(text, default_port=default_port)
    except AddressError:
        return
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("family", "name", "address", "text"),
    [
        (socket.AF_INET, ("1.2.3.4", 5), Address("1.2.3.4", 5), "1.2.3.4:5"),
        (socket.AF_INET6, ("::1", 5, 0, 0), Address("::1", 5), "[::1]:5"),
        (socket.AF_INET6, ("fe80::1", 5, 0, 2), Address("fe80::1", 5, scope=2), "[fe80::1%2]:5"),
        (socket.AF_UNIX, "/run/x", Address(path="/run/x"), "unix:/run/x"),
        (socket.AF_UNIX, b"\0name", Address(path="\0name"), "unix:@name"),
        (socket.AF_UNIX, "", Address(path="(unnamed)"), "unix:(unnamed)"),
    ],
)
def test_names_of_sockets(family: int, name: Any, address: Address, text: str) -> None:
    assert Address.from_socket_name(family, name) == address
    assert str(address) == text


def test_named_scope_is_written_once() -> None:
    assert str(Address("fe80::1%eth0", 80, scope=2)) == "[fe80::1%eth0]:80"
