"""Limits on trial, and limits that change while clients are in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admission.crowd import Door, refuse, welcome
from tieline import CloseReason, Limits, SettingError
from tieline.admission import Client, LocalAdmission

# ---- On trial


def test_a_limit_on_trial_tells_and_refuses_nobody() -> None:
    door = Door(
        per_client=1, per_network=2, penalty_threshold=5.0, penalty_refused=100.0,
        per_client_rate=1.0, per_client_burst=1,
        dry_run=("per_client", "per_network", "penalty_threshold", "per_client_rate"),
    )  # fmt: skip
    admission = door.admission
    client = welcome(admission, "10.0.0.1")
    admission.penalize(client, 50.0, "slow")
    welcome(admission, "10.0.0.1")
    welcome(admission, "10.0.0.2")
    assert door.spared == [
        (CloseReason.PENALIZED, "10.0.0.1"),
        (CloseReason.CLIENT_RATE, "10.0.0.1"),
        (CloseReason.CLIENT_LIMIT, "10.0.0.1"),
        (CloseReason.NETWORK_LIMIT, "10.0.0.2"),
    ]
    # Who is spared is not charged, nor counted as refused.
    assert client.refused == 0
    assert [penalty.owed for penalty in admission.penalties()] == [50.0]
    assert [penalty.refusals for penalty in admission.penalties()] == [0]


def test_only_what_is_on_trial_is_spared() -> None:
    door = Door(per_client=1, per_network=2, dry_run=("per_client",))
    welcome(door.admission, "10.0.0.1")
    welcome(door.admission, "10.0.0.1")
    assert refuse(door.admission, "10.0.0.1") is CloseReason.NETWORK_LIMIT
    assert door.spared == [(CloseReason.CLIENT_LIMIT, "10.0.0.1")] * 2


def test_a_rate_on_trial_counts_what_it_would_have_refused() -> None:
    """No more: who is spared takes no token, as if it had been refused."""
    real = Door(per_client_rate=1.0, per_client_burst=2)
    trial = Door(per_client_rate=1.0, per_client_burst=2, dry_run=("per_client_rate",))
    refused = 0
    for number in range(60):
        for door in (real, trial):
            door.clock.time += 0.25 if number % 7 else 3.0
        answer = real.admission.admit("10.0.0.1")
        refused += answer is CloseReason.CLIENT_RATE
        trial.pass_by("10.0.0.1")
        if isinstance(answer, Client):
            real.admission.release(answer)
    assert 0 < refused < 60
    assert trial.spared == [(CloseReason.CLIENT_RATE, "10.0.0.1")] * refused


def test_a_trial_needs_nobody_who_listens() -> None:
    admission = LocalAdmission(Limits(per_client=1, table_size=1, dry_run=("per_client",)))
    welcome(admission, "10.0.0.1")
    welcome(admission, "10.0.0.1")
    welcome(admission, "10.0.0.2")
    assert admission.overflowed == 1


# ---- Changing


def test_caps_change_and_who_is_in_stays_in() -> None:
    door = Door(per_client=5, total=5)
    admission = door.admission
    clients = [welcome(admission, "10.0.0.1") for _ in range(4)]
    assert not door.change(per_client=2, total=3)
    assert admission.limits.per_client == 2
    assert admission.full
    assert admission.total == 4
    for _ in range(2):
        assert refuse(admission, "10.0.0.1") is CloseReason.CLIENT_LIMIT
        admission.release(clients.pop())
    assert refuse(admission, "10.0.0.1") is CloseReason.CLIENT_LIMIT
    assert not admission.full
    welcome(admission, "10.0.0.2")
    assert admission.full
    assert not door.change(per_client=None, total=None)
    for _ in range(10):
        welcome(admission, "10.0.0.1")
    assert not admission.full


def test_what_makes_no_sense_changes_nothing() -> None:
    admission = Door(per_client=1).admission
    old = admission.limits
    broken = old.replace(per_client=7)
    # Limits check their networks; these have passed by them.
    object.__setattr__(broken, "exempt_networks", ("10.0.0.7/24",))
    with pytest.raises(SettingError):
        admission.change_limits(broken)
    with pytest.raises(SettingError):
        LocalAdmission(broken)
    assert admission.limits is old
    welcome(admission, "10.0.0.7")
    assert refuse(admission, "10.0.0.7") is CloseReason.CLIENT_LIMIT


def test_a_limit_of_networks_counts_those_who_were_in_before_it() -> None:
    door = Door()
    admission = door.admission
    clients = [welcome(admission, f"10.0.0.{number}") for number in range(4)]
    clients.append(welcome(admission, "10.0.0.0"))
    user = welcome(admission, "", uid=7)
    assert not door.change(per_network=6)
    clients.append(welcome(admission, "10.0.0.9"))
    assert refuse(admission, "10.0.0.1") is CloseReason.NETWORK_LIMIT
    door.change(network_ipv4_prefix=30)
    assert {client.network.key for client in clients if client.network is not None} == {
        "10.0.0.0/30", "10.0.0.8/30",
    }  # fmt: skip
    assert set(admission._networks) == {"10.0.0.0/30", "10.0.0.8/30"}
    clients += [welcome(admission, "10.0.0.1")]
    assert refuse(admission, "10.0.0.1") is CloseReason.NETWORK_LIMIT
    door.change(per_network=None)
    assert admission._networks == {}
    clients += [welcome(admission, "10.0.0.1")]
    door.change(per_network=1)
    for client in clients:
        assert refuse(admission, "10.0.0.1") is CloseReason.NETWORK_LIMIT
        admission.release(client)
    assert user.network is None
    welcome(admission, "10.0.0.1")


def test_who_becomes_exempt_leaves_its_network() -> None:
    door = Door(per_client=1, per_network=2)
    admission = door.admission
    first, second = welcome(admission, "10.0.0.1"), welcome(admission, "10.0.0.2")
    assert door.change(exempt_networks=("10.0.0.1",))
    assert first.exempt
    welcome(admission, "10.0.0.1")
    welcome(admission, "10.0.0.3")
    assert refuse(admission, "10.0.0.4") is CloseReason.NETWORK_LIMIT
    assert door.change(exempt_networks=())
    assert not first.exempt
    assert refuse(admission, "10.0.0.1") is CloseReason.CLIENT_LIMIT
    assert first.network is second.network is not None
    assert first.network.connections == 4


# ---- Other keys


def _move_all(admission: LocalAdmission, inside: list[tuple[Client, str]]) -> None:
    inside[:] = [(admission.move(client, host), host) for client, host in inside]


def _counts(admission: LocalAdmission) -> dict[str, int]:
    return {key: client.connections for key, client in admission.clients.items()}


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.1.1", "2001:db8::1", "2001:db8:0:1::1"]),
        max_size=15,
    ),
    st.lists(
        st.tuples(
            st.sampled_from([16, 24, 31, 32]), st.sampled_from([48, 64, 128]),
            st.sampled_from([None, 50]), st.sampled_from([(), ("10.0.0.1",), ("10.0.0.0/16",)]),
        ),
        max_size=5,
    ),
)  # fmt: skip
def test_moved_connections_count_as_if_they_had_come_so(
    hosts: list[str], changes: list[tuple[Any, ...]]
) -> None:
    names = ("client_ipv4_prefix", "client_ipv6_prefix", "per_network", "exempt_networks")
    door = Door(network_ipv4_prefix=16)
    inside = [(welcome(door.admission, host), host) for host in hosts]
    for values in changes:
        changed = dict(zip(names, values, strict=True))
        door.change(**changed)
        _move_all(door.admission, inside)
        fresh = LocalAdmission(door.admission.limits)
        came = [welcome(fresh, host) for host in hosts]
        assert _counts(door.admission) == _counts(fresh)
        assert door.admission.total == len(hosts)
        for (client, _), other in zip(inside, came, strict=True):
            assert client.exempt == other.exempt
            mine, others = client.network, other.network
            assert (mine and (mine.key, mine.connections)) == (
                others and (others.key, others.connections)
            )
    for client, _ in inside:
        door.admission.release(client)
    assert door.admission.total == door.admission.known == 0


def test_only_other_keys_ask_for_moving() -> None:
    door = Door()
    client = welcome(door.admission, "10.0.0.1")
    assert not door.change(per_client=3, network_ipv4_prefix=20, penalty_refused=5.0)
    assert door.admission.move(client, "10.0.0.1") is client
    assert client.connections == 1
    assert door.change(client_ipv6_prefix=56)
    assert door.admission.move(client, "10.0.0.1") is client
    assert door.change(client_ipv4_prefix=24)
    moved = door.admission.move(client, "10.0.0.1")
    assert moved.key == "10.0.0.0/24"
    assert client.connections == 0
    assert _counts(door.admission) == {"10.0.0.0/24": 1}


def test_newcomers_are_counted_under_their_new_keys_at_once() -> None:
    """Even before those who are in have been moved."""
    door = Door(per_client=1)
    welcome(door.admission, "10.0.0.1")
    door.change(client_ipv4_prefix=24)
    assert welcome(door.admission, "10.0.0.1").key == "10.0.0.0/24"
    assert refuse(door.admission, "10.0.0.2") is CloseReason.CLIENT_LIMIT


def test_moving_refuses_nobody() -> None:
    door = Door(per_client=1, per_network=2, table_size=2, table_full="refuse")
    inside = [(welcome(door.admission, host), host) for host in ("10.0.0.1", "10.0.0.2")]
    door.change(client_ipv4_prefix=24, per_network=1, table_size=1)
    _move_all(door.admission, inside)
    assert _counts(door.admission) == {"10.0.0.0/24": 2}
    door.change(client_ipv4_prefix=32)
    _move_all(door.admission, inside)
    assert _counts(door.admission) == {"10.0.0.1": 1, "10.0.0.2": 1}


def test_what_is_owed_goes_along() -> None:
    door = Door(per_client_rate=1.0, per_client_burst=2, penalty_threshold=10.0)
    admission = door.admission
    first = welcome(admission, "10.0.0.1")
    second = welcome(admission, "10.0.0.1")
    admission.penalize(first, 11.0, "slow")
    admission.penalize("10.0.0.2", 12.0, "loud")
    admission.penalize("fe80::1%3", 13.0, "odd")
    admission.penalize("2001:db8::1", 14.0, "odd")
    door.change(client_ipv4_prefix=24, client_ipv6_prefix=48)
    # Also for those who are not in: they owe under the key that they have now.
    owed = {penalty.key: (penalty.owed, penalty.why) for penalty in admission.penalties()}
    assert owed == {
        "10.0.0.0/24": (12.0, "loud"), "fe80::/48%3": (13.0, "odd"), "2001:db8::/48": (14.0, "odd"),
    }  # fmt: skip
    admission.clean()
    assert admission.known == 4
    assert refuse(admission, "10.0.0.3") is CloseReason.PENALIZED
    assert refuse(admission, "2001:db8:0:1::1") is CloseReason.PENALIZED
    first, second = admission.move(first, "10.0.0.1"), admission.move(second, "10.0.0.1")
    assert admission.forgive("10.0.0.3")
    assert refuse(admission, "10.0.0.3") is CloseReason.CLIENT_RATE
    # Back again: those that are in take along what they owe, and the others' debts stay behind.
    admission.penalize(first, 20.0, "slow")
    door.change(client_ipv4_prefix=32)
    first = admission.move(first, "10.0.0.1")
    assert refuse(admission, "10.0.0.1") is CloseReason.PENALIZED
    welcome(admission, "10.0.0.3")
    second = admission.move(second, "10.0.0.1")
    assert second is first
    admission.forgive("10.0.0.1")
    assert refuse(admission, "10.0.0.1") is CloseReason.CLIENT_RATE


def test_who_is_exempt_from_now_on_takes_no_debt_along() -> None:
    door = Door(client_ipv4_prefix=24, penalty_threshold=10.0)
    client = welcome(door.admission, "10.0.0.7")
    door.admission.penalize(client, 20.0, "slow")
    door.change(exempt_networks=("10.0.0.7",))
    assert not client.exempt  # one of its addresses is
    assert door.admission.move(client, "10.0.0.7").key == "10.0.0.7"
    assert [penalty.key for penalty in door.admission.penalties()] == ["10.0.0.0/24"]
    welcome(door.admission, "10.0.0.7")
    assert refuse(door.admission, "10.0.0.8") is CloseReason.PENALIZED


def test_two_accounts_become_one_that_is_no_smaller() -> None:
    door = Door(penalty_threshold=10.0)
    admission = door.admission
    admission.penalize("10.0.0.1", 11.0, "slow")  # is refused until it owes nothing
    door.clock.time += 5.0
    admission.penalize("10.0.0.2", 8.0, "loud")
    door.change(client_ipv4_prefix=24)
    (penalty,) = admission.penalties()
    assert (penalty.key, penalty.owed, penalty.refused) == ("10.0.0.0/24", 8.0, True)


def test_strangers_get_a_key_of_their_own_if_there_is_room() -> None:
    door = Door(table_size=1, per_client=None)
    admission = door.admission
    inside = [(welcome(admission, host), host) for host in ("10.0.0.1", "10.1.0.1", "10.2.0.1")]
    admission.penalize(inside[1][0], 5.0, "slow")
    door.change(client_ipv4_prefix=24)
    _move_all(admission, inside)
    assert _counts(admission) == {"10.0.0.0/24": 1, "unknown": 2}
    door.change(client_ipv4_prefix=32, table_size=5)
    _move_all(admission, inside)
    assert _counts(admission) == {"10.0.0.1": 1, "10.1.0.1": 1, "10.2.0.1": 1}
    # What one stranger has done is not known of another.
    assert [penalty.key for penalty in admission.penalties()] == ["unknown"]


def test_the_uncounted_stay_uncounted() -> None:
    door = Door(table_size=1, table_full="admit")
    welcome(door.admission, "10.0.0.1")
    stranger = welcome(door.admission, "10.1.0.1")
    door.change(client_ipv4_prefix=24, table_size=5)
    assert door.admission.move(stranger, "10.1.0.1") is stranger
    door.admission.release(stranger)
    assert door.admission.total == 1
