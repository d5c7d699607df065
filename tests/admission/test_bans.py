"""Whom the operator shuts out: addresses, networks, users, clients; for a time or for good."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admission.crowd import Door, refuse, welcome
from tieline import CloseReason, SettingError
from tieline.address import UNKNOWN_CLIENT
from tieline.admission import Ban


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.7", "10.0.0.7", "10.0.0.8"),
        ("10.0.0.7", "::ffff:10.0.0.7", "10.0.0.6"),
        ("::ffff:10.0.0.7", "10.0.0.7", "10.0.0.8"),
        ("10.0.0.0/24", "10.0.0.255", "10.0.1.0"),
        ("10.0.0.0/31", "10.0.0.1", "10.0.0.2"),
        ("0.0.0.0/0", "10.0.0.1", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
        ("2001:db8::/64", "2001:db8::ffff", "2001:db8:0:1::"),
        ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
        ("fe80::/10", "fe80::1%2", "fec0::1"),
        ("fe80::/64%2", "fe80::1%2", "fe80::1%3"),
        ("fe80::5%2", "fe80::1%2", "fe80::1%3"),
        (UNKNOWN_CLIENT, "nonsense", "10.0.0.1"),
    ],
)
def test_a_ban_holds_for_all_of_a_network_and_for_nobody_else(
    network: str, inside: str, outside: str
) -> None:
    admission = Door().admission
    # Who is in stays in, until the server closes it; it counts what it is refused.
    client = welcome(admission, inside)
    assert not admission.is_banned(inside)
    ban = admission.ban(network, why="floods us")
    assert refuse(admission, inside) is CloseReason.BANNED
    assert client.refused == 1
    assert admission.is_banned(inside)
    assert not admission.is_banned(outside)
    welcome(admission, outside)
    assert list(admission.bans()) == [Ban(ban.network, "floods us", None, 1)]
    assert admission.unban(network)
    assert not admission.unban(network)
    assert not admission.is_banned(inside)
    welcome(admission, inside)
    assert list(admission.bans()) == []


def test_a_user_can_be_banned() -> None:
    admission = Door().admission
    client = welcome(admission, "", uid=1000)
    assert admission.ban("uid:1000").network == "uid:1000"
    assert admission.admit("", uid=1000) is CloseReason.BANNED
    assert admission.is_banned("", uid=1000)
    assert admission.is_banned(client)
    assert not admission.is_banned("", uid=1001)
    welcome(admission, "", uid=1001)
    assert admission.unban("uid:1000")
    welcome(admission, "", uid=1000)


def test_a_client_can_be_banned_by_its_key() -> None:
    admission = Door(client_ipv4_prefix=24).admission
    for host, scope in (("10.0.0.1", 0), ("2001:db8::1", 0), ("fe80::1", 3), ("nonsense", 0)):
        client = welcome(admission, host, scope)
        assert not admission.is_banned(client)
        assert admission.ban(client.key).network == client.key
        assert admission.is_banned(client)
        assert refuse(admission, host, scope) is CloseReason.BANNED


def test_a_client_is_banned_if_all_of_it_is() -> None:
    """A ban of one of its addresses is no ban of the client, but of those connections."""
    admission = Door(client_ipv4_prefix=24).admission
    client = welcome(admission, "10.0.0.1")
    assert welcome(admission, "10.0.0.2") is client
    admission.ban("10.0.0.1")
    assert not admission.is_banned(client)
    assert admission.is_banned("10.0.0.1")
    assert not admission.is_banned("10.0.0.2")
    welcome(admission, "10.0.0.2")
    assert refuse(admission, "10.0.0.1") is CloseReason.BANNED
    admission.ban("10.0.0.0/16")
    assert admission.is_banned(client)


def test_a_ban_ends_by_itself() -> None:
    door = Door()
    assert door.admission.ban("10.0.0.0/24", 60, "too many").left == 60.0
    door.clock.time += 59.75
    assert refuse(door.admission, "10.0.0.1") is CloseReason.BANNED
    assert list(door.admission.bans()) == [Ban("10.0.0.0/24", "too many", 0.25, 1)]
    door.clock.time += 0.25
    assert list(door.admission.bans()) == []
    assert not door.admission.is_banned("10.0.0.1")
    welcome(door.admission, "10.0.0.1")
    assert not door.admission.unban("10.0.0.0/24")


def test_bans_may_overlap() -> None:
    door = Door()
    admission = door.admission
    admission.ban("10.0.0.0/8")
    admission.ban("10.0.0.0/24", 10)
    admission.ban("10.0.0.1", 20)
    admission.ban("10.1.0.0/16", 10)

    def refusals() -> dict[str, int]:
        assert refuse(admission, "10.0.0.1") is CloseReason.BANNED
        return {ban.network: ban.refusals for ban in admission.bans() if ban.refusals}

    # The narrowest that lasts is the one that refuses.
    assert refusals() == {"10.0.0.1": 1}
    door.clock.time += 10.0
    assert refusals() == {"10.0.0.1": 2}
    door.clock.time += 10.0
    assert refusals() == {"10.0.0.0/8": 1}
    # Lifting the widest leaves none, and lifting another leaves the widest.
    admission.ban("10.0.0.0/24")
    assert admission.unban("10.0.0.0/24")
    assert refusals() == {"10.0.0.0/8": 2}
    assert admission.unban("10.0.0.0/8")
    welcome(admission, "10.0.0.1")


def test_a_second_ban_takes_the_place_of_the_first() -> None:
    door = Door()
    door.admission.ban("10.0.0.1", 10, "first")
    refuse(door.admission, "10.0.0.1")
    door.admission.ban("10.0.0.1/32", 100, "second")
    assert list(door.admission.bans()) == [Ban("10.0.0.1", "second", 100.0, 1)]
    door.clock.time += 50.0
    assert refuse(door.admission, "10.0.0.1") is CloseReason.BANNED
    door.admission.ban("10.0.0.1")
    door.clock.time += 1e6
    assert refuse(door.admission, "10.0.0.1") is CloseReason.BANNED


def test_a_ban_is_for_exempt_clients_too_and_survives_a_change_of_limits() -> None:
    door = Door(exempt_networks=("10.0.0.0/24",), reserved=1, reserved_networks=("10.0.0.1",))
    door.admission.ban("10.0.0.1")
    assert refuse(door.admission, "10.0.0.1") is CloseReason.BANNED
    door.change(exempt_networks=("10.0.0.1",), client_ipv4_prefix=24)
    assert refuse(door.admission, "10.0.0.1") is CloseReason.BANNED


@pytest.mark.parametrize(
    "network",
    [
        "", "10.0.0", "10.0.0.0/40", "name", "uid:", "uid:x", "uid:-1", "uid:１", "unknown ",
        "uid:12345678901", "10.0.0.1%2", "2001:db8::1%2", "fe80::1%", "fe80::1%2%3", None, 7,
    ],
)  # fmt: skip
def test_what_cannot_be_banned_is_said(network: Any) -> None:
    admission = Door().admission
    with pytest.raises(SettingError) as caught:
        admission.ban(network)
    assert str(caught.value) == f"{network!r} is not an address or a network"
    with pytest.raises(SettingError):
        admission.unban(network)
    assert list(admission.bans()) == []


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, "5", True])
def test_a_ban_lasts_a_number_of_seconds(seconds: Any) -> None:
    admission = Door().admission
    with pytest.raises(SettingError) as caught:
        admission.ban("10.0.0.1", seconds)
    assert str(caught.value) == f"a ban lasts a number of seconds above zero, not {seconds!r}"
    assert list(admission.bans()) == []


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 3_000), st.integers(0, 3_000))
def test_bans_whose_time_is_over_are_forgotten(over: int, lasting: int) -> None:
    door = Door()
    for number in range(over):
        door.admission.ban(f"10.{number >> 8}.{number & 255}.0/24", 10)
    for number in range(lasting):
        door.admission.ban(f"11.{number >> 8}.{number & 255}.0/24", 100)
    door.clock.time += 10.0
    assert len(list(door.admission.bans())) == lasting
    # A share of them at a time, so that a long list does not take long.
    gone = [door.admission.clean() for _ in range(8)]
    assert sum(gone) == over
    assert max(gone) <= 1_000
    assert len(list(door.admission.bans())) == lasting
    for number in range(over):
        assert not door.admission.is_banned(f"10.{number >> 8}.{number & 255}.1")
