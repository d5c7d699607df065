"""Keys and networks, against what the standard library makes of the same addresses."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline import SettingError
from tieline.address import UNKNOWN_CLIENT
from tieline.admission.keys import Keys, user_key
from tieline.admission.networks import Network, Networks, address_number, parse_network

anything = settings(deadline=None, max_examples=300)
ipv4 = st.ip_addresses(v=4)
ipv6 = st.ip_addresses(v=6)
#: Addresses that lie close to each other, so that networks hold several.
close = st.builds(
    ipaddress.IPv4Address, st.integers(0, 255).map(lambda low: 0x0A000000 | low)
) | st.builds(ipaddress.IPv6Address, st.integers(0, 255).map(lambda low: low << 60))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


@anything
@given(ipv4, st.integers(1, 32))
def test_an_ipv4_key_is_its_network(address: ipaddress.IPv4Address, prefix: int) -> None:
    network = _network(f"{address}/{prefix}")
    expected = str(address) if prefix == 32 else str(network)
    keys = Keys(prefix, 64)
    assert keys.key(str(address)) == expected
    assert keys.key(f"::ffff:{address}") == expected
    assert keys.key(f"::ffff:{int(address) >> 16:x}:{int(address) & 0xFFFF:x}") == expected


@anything
@given(ipv6, st.integers(1, 128))
def test_an_ipv6_key_is_its_network(address: ipaddress.IPv6Address, prefix: int) -> None:
    if address.ipv4_mapped is not None:
        return
    key, _, length = Keys(32, prefix).key(address.exploded).partition("/")
    # The text may be another one for the first 2**32 addresses; the address is the same.
    assert ipaddress.IPv6Address(key) == _network(f"{address}/{prefix}").network_address
    assert length == ("" if prefix == 128 else str(prefix))


@given(st.integers(0, 255), st.integers(0, 64))
def test_a_key_is_one_text_however_the_address_is_written(low: int, prefix: int) -> None:
    keys = Keys(32, 64 + prefix)
    written = {f"2001:db8::{low:x}", f"2001:DB8:0:0::{low:04X}", f"2001:db8:0:0:0:0:0:{low:x}"}
    assert len({keys.key(text) for text in written}) == 1


@pytest.mark.parametrize(
    ("host", "scope", "key"),
    [
        ("fe80::1", 2, "fe80::/64%2"),
        ("fe80::1%2", 0, "fe80::/64%2"),
        ("fe80::1%eth0", 0, "fe80::/64%eth0"),
        ("fe80::1%eth0", 2, "fe80::/64%2"),
        ("fe80::1", 0, "fe80::/64"),
        ("febf::1", 2, "febf::/64%2"),
        ("fec0::1", 2, "fec0::/64"),  # no longer link-local: its scope is not part of it
        ("2001:db8::1%2", 0, "2001:db8::/64"),
    ],
)
def test_a_scope_is_part_of_link_local_keys_only(host: str, scope: int, key: str) -> None:
    assert Keys(32, 64).key(host, scope) == key


@pytest.mark.parametrize(
    "host",
    [
        "", "name", "10.0.0", "10.0.0.256", "010.0.0.1", "10.0.0.1/24", " 10.0.0.1", "1",
        "2001:db8::/64", "2001::db8::1", ":", "fe80::1%", "fe80::1%2%3", "10.0.0.1%2", "%2",
        "uid:0", "10.0.0.1\0", "::1\0", "１０.0.0.1", "\udc80::1",
    ],
)  # fmt: skip
def test_what_is_no_address_has_the_key_of_the_unknown(host: str) -> None:
    assert Keys(32, 64).key(host) == UNKNOWN_CLIENT
    assert Keys(24, 128).key(host) == UNKNOWN_CLIENT


def test_a_users_key() -> None:
    assert user_key(0) == "uid:0"
    assert user_key(None) == UNKNOWN_CLIENT


# ---- Networks


@anything
@given(close, st.integers(0, 128))
def test_networks_are_read_and_written(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int
) -> None:
    expected = _network(f"{address}/{min(length, address.max_prefixlen)}")
    network = parse_network(str(expected))
    assert network == Network(
        expected.max_prefixlen, expected.prefixlen, int(expected.network_address)
    )
    assert parse_network(str(network)) == network
    assert address_number(str(address)) == (address.max_prefixlen, int(address))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("10.0.0.7/32", "10.0.0.7"),
        ("10.0.0.0/255.255.255.0", "10.0.0.0/24"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("2001:DB8:0::/48", "2001:db8::/48"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_has_one_name(text: str, written: str) -> None:
    assert str(parse_network(text)) == written


@pytest.mark.parametrize("text", ["", "name", "10.0.0.0/33", "10.0.0", "/8", 7, None, b"10.0.0.1"])
def test_what_is_no_network_is_said_to_be_none(text: object) -> None:
    with pytest.raises(SettingError) as caught:
        parse_network(text)
    assert str(caught.value) == f"{text!r} is not an address or a network"
    assert caught.value.fields["network"] == text


def test_an_address_with_a_length_asks_which_of_both_is_meant() -> None:
    with pytest.raises(SettingError) as caught:
        parse_network("10.0.0.7/24")
    assert str(caught.value) == "'10.0.0.7/24' has bits beyond its length"
    hint = caught.value.hint.format(**caught.value.fields)
    assert hint == "is it the network 10.0.0.0/24 or the address 10.0.0.7?"


@anything
@given(st.lists(st.tuples(close, st.integers(0, 128)), max_size=8), close, st.integers(0, 128))
def test_networks_are_found_as_by_asking_each(
    given_networks: list[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]],
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    length: int,
) -> None:
    naive = {
        _network(f"{each}/{min(prefix, each.max_prefixlen)}") for each, prefix in given_networks
    }
    networks: Networks[str] = Networks()
    for each in naive:
        networks.put(parse_network(str(each)), str(each))
    assert bool(networks) == bool(naive)
    asked = _network(f"{address}/{min(length, address.max_prefixlen)}")
    around = sorted(
        (each for each in naive if each.version == asked.version and asked.subnet_of(each)),  # type: ignore[arg-type]
        key=lambda each: -each.prefixlen,
    )
    assert list(networks.covering(parse_network(str(asked)))) == list(map(str, around))
    whole = [each for each in naive if address in each]
    narrowest = max(whole, key=lambda each: each.prefixlen, default=None)
    found = networks.at(address.max_prefixlen, int(address))
    assert found == (None if narrowest is None else str(narrowest))
    for each in naive:
        networks.remove(parse_network(str(each)))
    assert not networks
    with pytest.raises(KeyError):
        networks.remove(parse_network(str(asked)))
