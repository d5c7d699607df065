"""An account of seconds for each client: charged, leaking, refused until it is empty."""

from __future__ import annotations

import math
from typing import Any

import pytest

from admission.crowd import Door, refuse, welcome
from tieline import CloseReason, SettingError
from tieline.admission import Penalty


def _owed(door: Door) -> dict[str, float]:
    return {penalty.key: penalty.owed for penalty in door.admission.penalties()}


def test_a_client_is_refused_above_the_threshold_until_it_owes_nothing() -> None:
    door = Door(penalty_threshold=15.0)
    admission = door.admission
    client = welcome(admission, "10.0.0.1")
    for total in (5.0, 10.0, 15.0):
        assert admission.penalize(client, 5.0, "malformed") == Penalty(
            "10.0.0.1", total, False, 0, "malformed"
        )
    welcome(admission, "10.0.0.1")
    assert admission.penalize(client, 1.0, "slow") == Penalty("10.0.0.1", 16.0, True, 0, "slow")
    assert refuse(admission, "10.0.0.1") is CloseReason.PENALIZED
    # Others come in, and so does it once the account is empty, not at the threshold.
    welcome(admission, "10.0.0.2")
    door.clock.time += 15.75
    assert refuse(admission, "10.0.0.1") is CloseReason.PENALIZED
    assert list(admission.penalties()) == [Penalty("10.0.0.1", 0.25, True, 2, "slow")]
    # What little is added meanwhile does not set it free.
    admission.penalize(client, 0.25, "loud")
    assert refuse(admission, "10.0.0.1") is CloseReason.PENALIZED
    door.clock.time += 0.25
    assert list(admission.penalties()) == [Penalty("10.0.0.1", 0.25, True, 3, "loud")]
    door.clock.time += 0.25
    assert list(admission.penalties()) == []
    welcome(admission, "10.0.0.1")


def test_an_account_leaks_a_second_a_second() -> None:
    door = Door(penalty_threshold=15.0)
    for _ in range(20):
        door.admission.penalize("10.0.0.1", 5.0, "slow")
        assert _owed(door) == {"10.0.0.1": 5.0}
        door.clock.time += 4.0
        assert _owed(door) == {"10.0.0.1": 1.0}
        door.clock.time += 1.0
        assert _owed(door) == {}
    welcome(door.admission, "10.0.0.1")


def test_nobody_ever_owes_more_than_the_most() -> None:
    door = Door(penalty_threshold=1.0, penalty_most=10.0)
    for _ in range(5):
        penalty = door.admission.penalize("10.0.0.1", 8.0, "slow")
    assert penalty is not None
    assert penalty.owed == 10.0
    door.clock.time += 10.0
    welcome(door.admission, "10.0.0.1")


def test_a_client_that_has_gone_still_owes() -> None:
    door = Door(penalty_threshold=1.0)
    client = welcome(door.admission, "10.0.0.1")
    door.admission.penalize(client, 5.0, "slow")
    door.admission.release(client)
    assert door.admission.known == 1
    # Known once, be it in or not; charged by itself, by key, or by an address of it.
    door.admission.penalize(client, 5.0, "slow")
    door.admission.penalize("10.0.0.1", 5.0, "slow")
    door.admission.penalize("::ffff:10.0.0.1", 5.0, "slow")
    assert _owed(door) == {"10.0.0.1": 20.0}
    assert door.admission.known == 1
    assert refuse(door.admission, "10.0.0.1") is CloseReason.PENALIZED
    door.clock.time += 20.0
    welcome(door.admission, "10.0.0.1")
    assert door.admission.known == 1
    door.admission.penalize("2001:db8::1", 5.0, "slow")
    door.admission.penalize("2001:db8::/64", 5.0, "slow")
    assert _owed(door) == {"2001:db8::/64": 10.0}
    assert refuse(door.admission, "2001:db8::2") is CloseReason.PENALIZED


def test_being_refused_costs_what_it_says() -> None:
    door = Door(
        per_client=1, per_network=2, penalty_refused=4.0, penalty_threshold=10.0,
        per_client_rate=1.0, per_client_burst=2,
    )  # fmt: skip
    admission = door.admission
    welcome(admission, "10.0.0.1")
    assert refuse(admission, "10.0.0.1") is CloseReason.CLIENT_LIMIT
    assert list(admission.penalties()) == [Penalty("10.0.0.1", 4.0, False, 0, "client_limit")]
    client = welcome(admission, "10.0.0.2")
    admission.release(client)
    client = welcome(admission, "10.0.0.2")
    assert refuse(admission, "10.0.0.2") is CloseReason.CLIENT_RATE
    assert refuse(admission, "10.0.0.3") is CloseReason.NETWORK_LIMIT
    assert _owed(door) == {"10.0.0.1": 4.0, "10.0.0.2": 4.0, "10.0.0.3": 4.0}
    # A client that was never let in is remembered for it.
    assert admission.known == 3
    for _ in range(2):
        assert refuse(admission, "10.0.0.3") is CloseReason.NETWORK_LIMIT
    # Who pays already pays no more for asking, or it would never end.
    for _ in range(3):
        assert refuse(admission, "10.0.0.3") is CloseReason.PENALIZED
    assert _owed(door)["10.0.0.3"] == 12.0
    assert [
        (penalty.key, penalty.owed, penalty.refused, seconds) for penalty, seconds in door.charged
    ] == [
        ("10.0.0.1", 4.0, False, 4.0),
        ("10.0.0.2", 4.0, False, 4.0),
        ("10.0.0.3", 4.0, False, 4.0),
        ("10.0.0.3", 8.0, False, 4.0),
        ("10.0.0.3", 12.0, True, 4.0),
    ]


def test_what_is_nobodys_fault_costs_nothing() -> None:
    door = Door(
        penalty_refused=5.0, total=2, reserved=1, reserved_networks=("10.9.0.0/16",),
        table_size=2, table_full="refuse",
    )  # fmt: skip
    admission = door.admission
    admission.ban("10.0.0.1")
    assert refuse(admission, "10.0.0.1") is CloseReason.BANNED
    welcome(admission, "10.0.0.2")
    assert refuse(admission, "10.0.0.2") is CloseReason.TOTAL_LIMIT
    welcome(admission, "10.9.0.1")
    assert refuse(admission, "10.9.0.2") is CloseReason.TABLE_FULL
    assert list(admission.penalties()) == []


def test_exempt_clients_are_never_charged() -> None:
    door = Door(
        exempt_networks=("10.0.0.1", "2001:db8::/32"), penalty_threshold=1.0, penalty_refused=5.0,
        total=2,
    )  # fmt: skip
    client = welcome(door.admission, "10.0.0.1")
    for who in (client, "10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:db8::/64"):
        assert door.admission.penalize(who, 5.0, "slow") is None
    assert list(door.admission.penalties()) == []
    assert door.admission.penalize("2001:db9::/64", 5.0, "slow") is not None
    # Who becomes exempt is let in, whatever it owed.
    door.admission.penalize("10.0.0.2", 5.0, "slow")
    door.change(exempt_networks=("10.0.0.0/24",))
    welcome(door.admission, "10.0.0.2")


def test_everybody_can_be_forgiven() -> None:
    door = Door(penalty_threshold=1.0)
    admission = door.admission
    for who in ("10.0.0.1", "2001:db8::1", "uid:7"):
        admission.penalize(who, 5.0, "slow")
    assert admission.admit("", uid=7) is CloseReason.PENALIZED
    assert admission.forgive("10.0.0.1")
    assert admission.forgive("2001:db8::99")  # the same client
    assert admission.forgive("uid:7")
    assert not admission.forgive("10.0.0.1")
    assert not admission.forgive("10.0.0.3")
    assert list(admission.penalties()) == []
    welcome(admission, "10.0.0.1")
    welcome(admission, "2001:db8::1")
    welcome(admission, "", uid=7)


def test_penalties_survive_a_change_of_limits() -> None:
    door = Door(penalty_threshold=10.0)
    admission = door.admission
    admission.penalize("10.0.0.1", 50.0, "slow")
    admission.penalize("10.0.0.2", 8.0, "slow")
    door.change(per_client=3, idle=7.0, penalty_threshold=5.0)
    assert _owed(door) == {"10.0.0.1": 50.0, "10.0.0.2": 8.0}
    assert refuse(admission, "10.0.0.1") is CloseReason.PENALIZED
    # A lower threshold holds for what is owed already; a higher one frees nobody.
    assert refuse(admission, "10.0.0.2") is CloseReason.PENALIZED
    door.change(penalty_threshold=20.0)
    assert refuse(admission, "10.0.0.2") is CloseReason.PENALIZED
    # A lower maximum as well.
    door.change(penalty_most=30.0)
    assert _owed(door) == {"10.0.0.1": 30.0, "10.0.0.2": 8.0}
    door.clock.time += 30.0
    welcome(admission, "10.0.0.1")


def test_a_charge_of_nothing_opens_no_account() -> None:
    door = Door()
    assert door.admission.penalize("10.0.0.1", 0, "slow") == Penalty(
        "10.0.0.1", 0.0, False, 0, "slow"
    )
    assert door.admission.known == 0
    assert list(door.admission.penalties()) == []


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "5", True, None])
def test_a_penalty_is_a_number_of_seconds(seconds: Any) -> None:
    door = Door()
    with pytest.raises(SettingError) as caught:
        door.admission.penalize("10.0.0.1", seconds, "slow")
    assert str(caught.value) == f"a penalty is a number of seconds, not {seconds!r}"
    assert door.admission.known == 0


def test_penalties_can_change_while_they_are_listed() -> None:
    door = Door()
    for number in range(300):
        door.admission.penalize(f"10.0.0.{number % 256}", 5.0, "slow")
    seen = []
    for penalty in door.admission.penalties():
        seen.append(penalty.key)
        door.admission.forgive(penalty.key)
        door.admission.penalize(f"10.1.0.{len(seen) % 256}", 5.0, "slow")
    assert {f"10.0.0.{number}" for number in range(256)} <= set(seen)
