"""What is remembered is bounded: what happens when it is too much, and how it is forgotten."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admission.crowd import Clock, Door, refuse, welcome
from tieline import CloseReason, Limits
from tieline.address import UNKNOWN_CLIENT
from tieline.admission import Client, LocalAdmission
from tieline.admission.tables import PARTS, Table

anything = settings(deadline=None, max_examples=150)


def _host(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


# ---- The table itself


@anything
@given(
    st.lists(st.tuples(st.sampled_from(["put", "pop", "sift"]), st.integers(0, 30)), max_size=200)
)
def test_a_table_is_a_dictionary(actions: list[tuple[str, int]]) -> None:
    table: Table[float] = Table()
    plain: dict[str, float] = {}
    for action, number in actions:
        key, value = str(number % 20), float(number)
        if action == "put":
            table.put(key, value)
            plain[key] = value
        elif action == "pop":
            assert table.pop(key) == plain.pop(key, None)
        else:
            keep = partial(_those_above, number)
            gone = sum(table.sift(part, keep) for part in range(PARTS))
            kept = keep(plain)
            assert gone == len(plain) - len(kept)
            plain = kept
        assert table.count == len(plain)
        assert dict(table.items()) == plain
        assert table.get(key) == plain.get(key)
        assert (key in table) == (key in plain)


def _those_above(number: float, entries: dict[str, float]) -> dict[str, float]:
    return {key: value + 1 for key, value in entries.items() if value > number}


def test_a_table_is_spread_evenly_over_its_parts() -> None:
    table: Table[float] = Table()
    for number in range(50 * PARTS):
        table.put(_host(number), 1.0)
    assert max(len(table.part(part)) for part in range(PARTS)) < 150


# ---- Full


def test_those_who_cannot_be_told_apart_share_one_share() -> None:
    door = Door(table_size=3, per_client=2)
    admission = door.admission
    known = [welcome(admission, _host(number)) for number in range(3)]
    assert door.overflows == admission.overflowed == 0
    strangers = [welcome(admission, _host(number)) for number in (10, 11)]
    assert [stranger.key for stranger in strangers] == [UNKNOWN_CLIENT] * 2
    assert refuse(admission, _host(12)) is CloseReason.CLIENT_LIMIT
    assert door.overflows == admission.overflowed == 3
    # Those who are known have their own share, as before.
    welcome(admission, _host(0))
    assert refuse(admission, _host(0)) is CloseReason.CLIENT_LIMIT
    assert door.overflows == 3
    assert admission.total == 6
    assert admission.known == 4
    # What has ended makes room to be told apart.
    admission.release(known[1])
    admission.release(known[2])
    assert welcome(admission, _host(12)).key == _host(12)
    for stranger in strangers:
        admission.release(stranger)
    assert UNKNOWN_CLIENT not in admission.clients


def test_the_shared_share_has_a_rate_and_an_account_and_a_network() -> None:
    door = Door(
        table_size=1, per_client=None, per_client_rate=1.0, per_client_burst=2,
        penalty_threshold=1.0,
    )  # fmt: skip
    admission = door.admission
    welcome(admission, _host(0))
    first = welcome(admission, _host(1))
    welcome(admission, _host(2))
    assert refuse(admission, _host(3)) is CloseReason.CLIENT_RATE
    admission.penalize(first, 5.0, "slow")
    assert refuse(admission, _host(4)) is CloseReason.PENALIZED
    # Also for one that is charged without having been let in.
    assert admission.forgive(UNKNOWN_CLIENT)
    penalty = admission.penalize(_host(5), 5.0, "slow")
    assert penalty is not None
    assert penalty.key == UNKNOWN_CLIENT
    assert admission.known == 2
    door = Door(table_size=1, per_client=None, per_network=2)
    welcome(door.admission, _host(0))
    welcome(door.admission, "10.1.0.0")
    welcome(door.admission, "10.2.0.0")
    assert refuse(door.admission, "10.3.0.0") is CloseReason.NETWORK_LIMIT
    welcome(door.admission, _host(0))


def test_newcomers_can_be_refused_instead() -> None:
    door = Door(table_size=2, table_full="refuse", penalty_refused=5.0)
    admission = door.admission
    first = welcome(admission, _host(0))
    welcome(admission, _host(1))
    assert refuse(admission, _host(2)) is CloseReason.TABLE_FULL
    assert admission.overflowed == door.overflows == 1
    assert admission.penalize(_host(2), 5.0, "slow") is None
    assert list(admission.penalties()) == []
    # Those without a key have always had one place.
    welcome(admission, "nonsense")
    admission.release(first)
    assert refuse(admission, _host(2)) is CloseReason.TABLE_FULL  # nonsense takes the room
    assert admission.known == 2


def test_newcomers_can_be_let_in_instead() -> None:
    door = Door(
        table_size=1, table_full="admit", per_client=1, per_network=1, total=5,
        per_client_rate=1.0, per_client_burst=1,
    )  # fmt: skip
    admission = door.admission
    welcome(admission, _host(0))
    strangers = [welcome(admission, _host(1)) for _ in range(4)]
    assert {stranger.key for stranger in strangers} == {_host(1)}
    assert not any(stranger.listed for stranger in strangers)
    assert admission.known == 1
    assert set(admission.clients) == {_host(0)}
    # The total counts them.
    assert refuse(admission, _host(2)) is CloseReason.TOTAL_LIMIT
    assert admission.penalize(strangers[0], 5.0, "slow") is None
    for stranger in strangers:
        admission.release(stranger)
    assert admission.total == 1
    assert admission.known == 1


@pytest.mark.parametrize("mode", ["share", "refuse", "admit"])
def test_exempt_clients_come_in_whatever_the_table_holds(mode: str) -> None:
    door = Door(table_size=1, table_full=mode, per_client=1, exempt_networks=("10.9.0.0/16",))
    welcome(door.admission, _host(0))
    clients = [welcome(door.admission, "10.9.0.1") for _ in range(3)]
    assert door.admission.total == 4
    for client in clients:
        assert client.key == "10.9.0.1"
        assert client.exempt
        door.admission.release(client)
    assert door.admission.total == door.admission.known == 1


@pytest.mark.parametrize("mode", ["share", "refuse", "admit"])
def test_who_is_remembered_has_its_place(mode: str) -> None:
    """A debt is no way to lose one's place, nor the place of those inside."""
    door = Door(
        table_size=2, table_full=mode, per_client_rate=1.0, per_client_burst=2,
        penalty_threshold=1.0,
    )  # fmt: skip
    admission = door.admission
    door.pass_by(_host(0))
    admission.penalize(_host(1), 50.0, "slow")
    assert admission.known == 2
    assert welcome(admission, _host(0)).key == _host(0)
    assert refuse(admission, _host(1)) is CloseReason.PENALIZED
    assert refuse(admission, _host(1)) is CloseReason.PENALIZED
    assert admission.overflowed == 0


@pytest.mark.parametrize("mode", ["share", "refuse", "admit"])
def test_a_full_table_is_cleaned_before_anybody_is_turned_away(mode: str) -> None:
    door = Door(table_size=4, table_full=mode, per_client_rate=1.0, per_client_burst=3)
    for number in range(4):
        door.pass_by(_host(number))
    admission = door.admission
    assert admission.known == 4
    door.clock.time += 1.0
    client = welcome(admission, _host(10))
    assert client.key == _host(10)
    assert client.listed
    assert admission.known == 1
    assert admission.overflowed == 0


def test_a_flood_does_not_have_the_table_searched_for_each_newcomer() -> None:
    searched: list[float | None] = []

    class Watched(LocalAdmission):
        def clean(self, now: float | None = None) -> int:
            searched.append(now)
            return super().clean(now)

    clock = Clock()
    limits = Limits(table_size=4, per_client_rate=1.0, per_client_burst=5)
    admission = Watched(limits, clock)
    for number in range(4):
        admission.release(welcome(admission, _host(number)))
    for number in range(1_000):
        admission.admit(_host(100 + number))
        clock.time += 0.0005
    # Half a second has passed.
    assert 1 <= len(searched) <= 6


# ---- Forgetting


def test_a_client_without_a_debt_is_forgotten_when_it_goes() -> None:
    door = Door(per_client=5)
    for number in range(100):
        door.pass_by(_host(number))
    assert door.admission.known == 0


def test_debts_are_forgotten_when_they_are_over() -> None:
    door = Door(per_client_rate=1.0, per_client_burst=10, penalty_threshold=1.0)
    admission = door.admission
    for number in range(10):
        door.pass_by(_host(number))  # owes a second
    for _ in range(5):
        door.pass_by(_host(0))  # owes six
    admission.penalize(_host(1), 10.0, "slow")
    inside = welcome(admission, _host(2))
    assert admission.known == 10
    assert admission.clean() == 0
    door.clock.time += 1.0
    # One account and its owner, one longer debt, and one that is in.
    assert admission.clean() == 7
    assert admission.known == 3
    assert refuse(admission, _host(1)) is CloseReason.PENALIZED
    door.clock.time += 9.0
    assert admission.clean(door.clock.time - 9.0) == 0
    assert admission.clean() == 3
    assert admission.known == 1
    admission.release(inside)
    assert admission.known == 0
    assert admission.clients == {}


def test_who_is_forgiven_is_forgotten() -> None:
    door = Door()
    door.admission.penalize(_host(1), 10.0, "slow")
    door.admission.forgive(_host(1))
    door.admission.clean()
    assert door.admission.known == 0


def test_a_large_table_is_cleaned_a_share_at_a_time() -> None:
    door = Door(per_client_rate=1.0, table_size=100_000)
    count = 50_000
    for number in range(count):
        door.pass_by(_host(number))
    assert door.admission.known == count
    door.clock.time += 1.0
    gone = []
    while door.admission.known:
        gone.append(door.admission.clean())
    assert sum(gone) == count
    assert max(gone) < 6_000
    assert len(gone) <= PARTS


def test_of_many_accounts_a_share_at_a_time_gets_other_keys() -> None:
    door = Door(penalty_threshold=1.0)
    count = 5_000
    for number in range(count):
        door.admission.penalize(f"10.{number >> 8}.{number & 255}.1", 50.0, "slow")
    door.change(client_ipv4_prefix=24)
    # Those that come meanwhile may be let in; in the end none is.
    for _ in range(2 * count // 1_000):
        door.admission.clean()
    for number in range(count):
        host = f"10.{number >> 8}.{number & 255}.99"
        assert refuse(door.admission, host) is CloseReason.PENALIZED
    assert door.admission.known == count


@anything
@given(
    st.lists(st.tuples(st.sampled_from(["come", "go", "owe", "wait", "clean"]), st.integers(0, 9))),
    st.sampled_from(["share", "refuse", "admit"]),
    st.integers(1, 4),
)
def test_the_table_is_never_larger_than_it_may_be(
    actions: list[tuple[str, int]], mode: str, size: int
) -> None:
    """Nor is anybody's place lost, who is in or owes."""
    door = Door(
        table_size=size, table_full=mode, per_client=2, per_client_rate=1.0, per_client_burst=2,
        penalty_threshold=3.0,
    )  # fmt: skip
    admission = door.admission
    inside: list[Client] = []
    for action, number in actions:
        if action == "come":
            answer = admission.admit(_host(number))
            if isinstance(answer, Client):
                inside.append(answer)
        elif action == "go" and inside:
            admission.release(inside.pop(number % len(inside)))
        elif action == "owe":
            admission.penalize(_host(number), 2.0, "slow")
        elif action == "wait":
            door.clock.time += number
        else:
            admission.clean()
        shared = UNKNOWN_CLIENT in admission.clients or any(
            penalty.key == UNKNOWN_CLIENT for penalty in admission.penalties()
        )
        # One place more for all those who have none; what it owes may be remembered, too.
        assert admission.known <= size + (1 if mode == "share" or shared else 0)
        assert admission.total == len(inside)
        listed = {client.key for client in inside if client.listed}
        assert set(admission.clients) == listed
        assert all(client.connections <= 2 for client in admission.clients.values())
    for client in inside:
        admission.release(client)
    door.clock.time += 1_000.0
    admission.clean()
    assert admission.total == admission.known == 0
    assert list(admission.penalties()) == []
