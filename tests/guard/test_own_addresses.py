"""Whether an upstream leads back to the guard."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tieline import Address
from tieline.guard import own_addresses
from tieline.guard.own_addresses import is_of_this_machine, leads_back

LOCAL = {"127.0.0.1", "127.0.0.2", "::1", "10.0.0.5", "2001:db8::5"}


def is_local(host: str, scope: int) -> bool:
    return host in LOCAL


def inet(host: str, port: int) -> tuple[int, Any]:
    if ":" in host:
        return (socket.AF_INET6, (host, port, 0, 0))
    return (socket.AF_INET, (host, port))


@pytest.mark.parametrize(
    ("there", "own", "back"),
    [
        (("127.0.0.1", 5), Address("127.0.0.1", 5), True),
        (("127.0.0.1", 6), Address("127.0.0.1", 5), False),
        (("127.0.0.2", 5), Address("127.0.0.1", 5), False),
        # A wildcard is every address of this machine, of its family.
        (("127.0.0.2", 5), Address("0.0.0.0", 5), True),
        (("10.0.0.5", 5), Address("0.0.0.0", 5), True),
        (("10.0.0.6", 5), Address("0.0.0.0", 5), False),
        (("10.0.0.5", 6), Address("0.0.0.0", 5), False),
        (("::1", 5), Address("::", 5), True),
        (("2001:db8::5", 5), Address("::", 5), True),
        (("2001:db8::6", 5), Address("::", 5), False),
        (("127.0.0.1", 5), Address("::", 5), False),
        (("::1", 5), Address("0.0.0.0", 5), False),
        (("10.0.0.5", 5), Address("", 5), True),
        (("2001:db8::5", 5), Address("", 5), True),
        # To connect to every address is to connect to this machine.
        (("0.0.0.0", 5), Address("127.0.0.1", 5), True),
        (("0.0.0.0", 5), Address("10.0.0.5", 5), False),
        (("::", 5), Address("::1", 5), True),
        # IPv4 in IPv6's clothes.
        (("::ffff:127.0.0.1", 5), Address("127.0.0.1", 5), True),
        (("::ffff:10.0.0.5", 5), Address("0.0.0.0", 5), True),
        (("127.0.0.1", 5), Address(path="/run/x"), False),
    ],
)
def test_which_addresses_lead_back(there: tuple[str, int], own: Address, back: bool) -> None:
    assert leads_back([inet(*there)], [own], is_local) is back
    # One is enough, of either.
    others = [inet("192.0.2.7", 5), inet(*there)]
    assert leads_back(others, [Address("192.0.2.8", 9), own], is_local) is back


def test_nothing_leads_back_to_nothing() -> None:
    assert not leads_back([], [Address("0.0.0.0", 5)], is_local)
    assert not leads_back([inet("127.0.0.1", 5)], [], is_local)


def test_unix_sockets(tmp_path: Path) -> None:
    path, link = tmp_path / "own", tmp_path / "link"
    path.touch()
    link.symlink_to(path)
    own = [Address(path=str(path)), Address(path="\0own"), Address("127.0.0.1", 5)]
    assert leads_back([(socket.AF_UNIX, str(path))], own)
    assert leads_back([(socket.AF_UNIX, str(link))], own)
    assert leads_back([(socket.AF_UNIX, "\0own")], own)
    assert not leads_back([(socket.AF_UNIX, "\0other")], own)
    assert not leads_back([(socket.AF_UNIX, str(tmp_path / "none"))], own)


def test_the_machine_knows_its_own() -> None:
    assert is_of_this_machine("127.0.0.1")
    assert is_of_this_machine("127.9.9.9")
    assert is_of_this_machine("::1")
    assert not is_of_this_machine("192.0.2.77")
    assert not is_of_this_machine("2001:db8::77")


def test_where_anything_can_be_bound_the_machine_is_asked_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with net.ipv4.ip_nonlocal_bind, which machines with floating addresses have."""
    monkeypatch.setattr(own_addresses, "_can_bind", lambda *_: True)
    assert not is_of_this_machine("192.0.2.77")
    assert is_of_this_machine("127.0.0.1")


def test_a_machine_without_descriptors_takes_nothing_for_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("tieline.guard.own_addresses.socket.socket", none_left)
    assert not is_of_this_machine("192.0.2.77")
