"""Which upstream is next: in turn, the least busy, or a client's own."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline.guard.balancing import (
    BALANCES,
    Balance,
    choose_by_hash,
    choose_in_turn,
    choose_least,
)
from tieline.guard.settings import SETTINGS
from tieline.guard.spec import parse_upstream
from tieline.guard.upstream import Upstream


def upstreams(*weights: int, most: int | None = None) -> list[Upstream]:
    """Upstreams a, b, c..."""
    limit = f",max={most}" if most else ""
    return [
        Upstream(parse_upstream(f"127.0.0.1:{port},name={chr(96 + port)},weight={weight}{limit}"))
        for port, weight in enumerate(weights, 1)
    ]


def chosen(balance: Balance, among: list[Upstream], times: int) -> str:
    """The names of those chosen one after the other; each takes its session."""
    names = ""
    for _ in range(times):
        upstream = balance(among, "client", ())
        assert upstream is not None
        upstream.sessions += 1
        names += upstream.name
    return names


KEYS = [f"10.{number // 65_536}.{number // 256 % 256}.{number % 256}" for number in range(10_000)]


def owners(among: list[Upstream]) -> dict[str, str]:
    found = {}
    for key in KEYS:
        upstream = choose_by_hash(among, key, ())
        assert upstream is not None
        found[key] = upstream.name
    return found


def test_each_setting_has_its_function() -> None:
    assert tuple(BALANCES) == SETTINGS["balance"].choices


# ---- For all of them


@pytest.mark.parametrize("balance", BALANCES.values())
def test_nobody_is_chosen_where_nobody_can_be(balance: Balance) -> None:
    assert balance([], "x", ()) is None
    one, two = pair = upstreams(1, 1, most=1)
    one.sessions = 1
    assert balance(pair, "x", ()) is two
    assert balance(pair, "x", [two]) is None
    two.sessions = 2
    assert balance(pair, "x", ()) is None


@given(
    st.sampled_from(list(BALANCES)),
    st.lists(st.tuples(st.integers(1, 256), st.integers(0, 3), st.booleans()), max_size=8),
    st.text(max_size=20),
)
def test_who_is_chosen_has_room_and_was_not_tried(
    balance: str, facts: list[tuple[int, int, bool]], key: str
) -> None:
    among = upstreams(*(weight for weight, _, _ in facts), most=2)
    for upstream, (_, sessions, _) in zip(among, facts, strict=True):
        upstream.sessions = sessions
    tried = [each for each, (_, _, was_tried) in zip(among, facts, strict=True) if was_tried]
    free = [each for each in among if each.sessions < 2 and each not in tried]
    found = BALANCES[balance](among, key, tried)
    assert found in free if free else found is None


# ---- In turn


def test_each_in_turn() -> None:
    assert chosen(choose_in_turn, upstreams(1, 1, 1), 7) == "abcabca"


def test_turns_by_weight_are_spread() -> None:
    assert chosen(choose_in_turn, upstreams(5, 1, 1), 14) == "aabacaa" * 2


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_a_round_of_turns_is_as_the_weights(weights: list[int]) -> None:
    among = upstreams(*weights)
    assert Counter(chosen(choose_in_turn, among, sum(weights))) == {
        each.name: each.spec.weight for each in among
    }


def test_one_who_was_away_does_not_get_what_it_missed() -> None:
    among = upstreams(1, 1)
    chosen(choose_in_turn, among[:1], 100)
    assert Counter(chosen(choose_in_turn, among, 10)) == {"a": 5, "b": 5}


# ---- The least busy


def test_the_least_busy() -> None:
    first, second, third = among = upstreams(1, 1, 1)
    first.sessions, second.sessions, third.sessions = 3, 1, 2
    assert choose_least(among, "x", ()) is second
    assert choose_least(among, "x", [second]) is third


def test_equals_in_turn() -> None:
    among = upstreams(1, 1, 1)
    for _ in range(3):
        found = [choose_least(among, "x", ()) for _ in range(3)]
        assert set(found) == set(among)


def test_twice_the_weight_is_twice_the_sessions() -> None:
    assert Counter(chosen(choose_least, upstreams(2, 1), 300)) == {"a": 200, "b": 100}


def test_an_idle_one_with_more_weight_goes_first() -> None:
    assert chosen(choose_least, upstreams(1, 3), 4) in ("bbba", "bbab")


# ---- A client's own


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_keys_are_spread_evenly(count: int) -> None:
    shares = Counter(owners(upstreams(*[1] * count)).values())
    assert len(shares) == count
    for share in shares.values():
        assert abs(share / (len(KEYS) / count) - 1) < 0.1


def test_keys_are_spread_by_weight() -> None:
    weights = (1, 2, 3, 4)
    shares = Counter(owners(upstreams(*weights)).values())
    for name, weight in zip("abcd", weights, strict=True):
        assert abs(shares[name] / (len(KEYS) * weight / sum(weights)) - 1) < 0.1


def test_only_the_keys_of_one_who_goes_move_and_evenly() -> None:
    among = upstreams(1, 1, 1, 1, 1)
    before = owners(among)
    gone = among.pop(2)
    after = owners(among)
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {before[key] for key in moved} == {gone.name}
    assert len(moved) == list(before.values()).count(gone.name)
    to = Counter(after[key] for key in moved)
    assert all(abs(share / (len(moved) / 4) - 1) < 0.2 for share in to.values())


def test_one_who_comes_takes_its_share_only() -> None:
    among = upstreams(1, 1, 1, 1, 1)
    before = owners(among[:4])
    after = owners(among)
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {after[key] for key in moved} == {among[4].name}
    assert abs(len(moved) / (len(KEYS) / 5) - 1) < 0.1


def test_more_weight_takes_keys_and_gives_none() -> None:
    among = upstreams(1, 1, 1)
    before = owners(among)
    among[0].share = 2.0
    after = owners(among)
    assert {after[key] for key in KEYS if before[key] != after[key]} == {"a"}


def test_the_order_of_upstreams_is_nothing() -> None:
    among = upstreams(1, 2, 3, 4)
    assert owners(among) == owners(among[::-1])


def test_another_process_chooses_the_same() -> None:
    """Guards beside each other, and those that are started again, agree."""
    program = (
        "from tieline.guard.balancing import choose_by_hash\n"
        "from tieline.guard.spec import parse_upstream\n"
        "from tieline.guard.upstream import Upstream\n"
        "among = [Upstream(parse_upstream(f'127.0.0.1:{i},name={chr(96 + i)}')) for i in (1,2,3)]\n"
        "print(*(choose_by_hash(among, f'10.0.0.{i}', ()).name for i in range(40)), sep='')"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    among = upstreams(1, 1, 1)
    here = [choose_by_hash(among, f"10.0.0.{number}", ()) for number in range(40)]
    assert run.stdout.strip() == "".join(each.name for each in here if each)


def test_a_client_whose_own_is_full_has_a_second_one_of_its_own() -> None:
    among = upstreams(1, 1, 1)
    first = choose_by_hash(among, "10.0.0.7", ())
    assert first is not None
    second = choose_by_hash(among, "10.0.0.7", [first])
    assert second is not None
    assert second is not first
    assert choose_by_hash([each for each in among if each is not first], "10.0.0.7", ()) is second


def test_a_key_that_is_no_text_of_unicode() -> None:
    assert choose_by_hash(upstreams(1, 1), "\udcff", ()) is not None
