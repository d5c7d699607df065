"""Who goes when there is no room: decisions, no sockets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline import Limits
from tieline.eviction import Holdings, idlest, idlest_of_biggest, over_the_caps

NOW = 100.0


@dataclass(eq=False)
class Network:
    connections: int = 0


@dataclass(eq=False)
class Machine:
    """A client that holds connections."""

    exempt: bool = False
    network: Network | None = None
    connections: int = 0


@dataclass(eq=False)
class Held:
    """A connection, as eviction sees it."""

    id: int
    client: Machine
    last_active: float = 0.0
    is_idle: bool = True
    is_receiving: bool = True
    is_stuck: bool = False

    def __post_init__(self) -> None:
        self.client.connections += 1

    def may_go(self, before: float) -> bool:
        eligible = self.is_idle and self.is_receiving and not self.is_stuck
        return eligible and self.last_active <= before

    def is_still_taking(self) -> bool:
        return self.is_stuck


@dataclass
class Crowd:
    """Some clients, and what they hold."""

    machines: list[Machine]
    held: list[Held] = field(default_factory=list)


@st.composite
def crowds(draw: st.DrawFn) -> Crowd:
    networks = [Network() for _ in range(2)]
    exempt = draw(st.lists(st.booleans(), min_size=5, max_size=5))
    machines = [
        Machine(out, None if out else networks[number % 2]) for number, out in enumerate(exempt)
    ]
    facts = st.tuples(st.sampled_from(machines), st.integers(0, 100), st.booleans(), st.booleans())
    crowd = Crowd(machines)
    for number, (client, active, idle, receiving) in enumerate(draw(st.lists(facts, max_size=40))):
        crowd.held.append(Held(number, client, active, idle or receiving, receiving or idle))
    return crowd


# ---- A client's own


def test_of_its_own_the_one_that_has_been_idle_longest_goes() -> None:
    client = Machine()
    held = [Held(1, client, 30), Held(2, client, 10), Held(3, client, 20)]
    assert idlest(held, NOW) is held[1]


@pytest.mark.parametrize(
    "spared",
    [
        Held(1, Machine(), is_idle=False),
        Held(1, Machine(), is_receiving=False),
        Held(1, Machine(), last_active=50.5),
        Held(1, Machine(), is_stuck=True),
    ],
    ids=["busy", "ending", "active", "owed"],
)
def test_none_goes_that_must_not(spared: Held) -> None:
    assert idlest([spared], 50.0) is None
    assert idlest_of_biggest([spared], 50.0, 1) == []


def test_of_nobody_nobody_goes() -> None:
    assert idlest([], NOW) is None
    assert idlest_of_biggest([], NOW, 1_000) == []


# ---- Anybody's


def test_the_one_that_holds_most_gives_first() -> None:
    big, small = Machine(), Machine()
    held = [Held(1, small, 0), *(Held(number, big, number) for number in range(2, 7))]
    going = idlest_of_biggest(held, NOW, 400)
    # Four, until both hold as many: then the turns are the same for both.
    assert [each.id for each in going] == [2, 3, 4, 5]


def test_connections_that_may_not_go_count_for_how_much_a_client_holds() -> None:
    big, small = Machine(), Machine()
    held = [Held(1, small, 0), Held(2, small, 0), Held(3, big, 9)]
    held += [Held(number, big, 0, is_idle=False) for number in range(4, 9)]
    assert idlest_of_biggest(held, NOW, 1) == [held[2]]


@pytest.mark.parametrize(
    ("total", "most"), [(1, 1), (99, 1), (199, 1), (200, 2), (3_200, 32), (100_000, 32)]
)
def test_few_go_at_once(total: int, most: int) -> None:
    client = Machine()
    held = [Held(number, client) for number in range(100)]
    assert len(idlest_of_biggest(held, NOW, total)) == most


@given(crowds(), st.integers(0, 100), st.integers(1, 4_000))
def test_each_that_goes_is_the_idlest_of_the_biggest(crowd: Crowd, before: int, total: int) -> None:
    left = [each for each in crowd.held if each.may_go(before)]
    holding = Counter({each: each.connections for each in crowd.machines})
    going = idlest_of_biggest(crowd.held, before, total)
    assert len(going) == min(len(left), max(1, min(32, total // 100)))
    for each in going:
        assert each in left
        assert holding[each.client] == max(holding[other.client] for other in left)
        assert each.last_active == min(
            other.last_active for other in left if other.client is each.client
        )
        left.remove(each)
        holding[each.client] -= 1


# ---- Down to lowered caps


def test_the_idle_go_before_the_busy() -> None:
    client = Machine()
    busy, young, old = Held(1, client, 0, is_idle=False), Held(2, client, 9), Held(3, client, 5)
    ranked = [old, young, busy]
    for total in (1, 2, 3):
        assert over_the_caps([busy, young, old], Limits(total=total)) == ranked[: 3 - total]


def test_without_caps_nobody_goes() -> None:
    held = [Held(number, Machine()) for number in range(5)]
    assert over_the_caps(held, Limits(total=None, per_client=None)) == []


def test_exempt_clients_go_for_the_total_only() -> None:
    client = Machine(exempt=True)
    held = [Held(number, client, number) for number in range(5)]
    assert over_the_caps(held, Limits(per_client=1)) == []
    assert over_the_caps(held, Limits(per_client=1, total=3)) == held[:2]


@given(
    crowds(), st.none() | st.integers(1, 30), st.none() | st.integers(1, 10),
    st.none() | st.integers(1, 15),
)  # fmt: skip
def test_afterwards_every_cap_holds_and_nobody_went_for_nothing(
    crowd: Crowd, total: int | None, per_client: int | None, per_network: int | None
) -> None:
    limits = Limits(total=total, per_client=per_client, per_network=per_network)
    going = over_the_caps(crowd.held, limits)
    stay = [each for each in crowd.held if each not in going]

    def is_within(held: list[Held]) -> bool:
        clients = Counter(each.client for each in held if not each.client.exempt)
        networks = Counter(each.client.network for each in held if each.client.network)
        return (
            (total is None or len(held) <= total)
            and (per_client is None or all(n <= per_client for n in clients.values()))
            and (per_network is None or all(n <= per_network for n in networks.values()))
        )

    assert is_within(stay)
    # The first to go went because a cap was exceeded; and any other cap alone spares as many.
    if going:
        assert not is_within(crowd.held)
    if total is None and per_network is None:
        for each in going:
            assert not is_within([*stay, each])
    ranks = {each: (not each.is_idle, each.last_active) for each in crowd.held}
    if per_client is None and per_network is None and going:
        assert max(map(ranks.__getitem__, going)) <= min(map(ranks.__getitem__, stay))


# ---- Which connections a client holds


def test_holdings_follow_what_comes_and_goes() -> None:
    one, other = Machine(), Machine()
    held = [Held(1, one), Held(2, other), Held(3, one)]
    holdings = Holdings(held[:2])
    holdings.add(held[2])
    assert list(holdings.of(one)) == [held[0], held[2]]
    assert list(holdings.of(other)) == [held[1]]
    holdings.remove(held[0])
    assert list(holdings.of(one)) == [held[2]]
    holdings.remove(held[2])
    # One that was never added, or has been taken out.
    holdings.remove(held[2])
    assert list(holdings.of(one)) == []
    assert list(holdings.of(Machine())) == []


def test_holdings_of_clients_that_have_gone_are_not_kept() -> None:
    holdings = Holdings()
    for number in range(1_000):
        held = Held(number, Machine())
        holdings.add(held)
        holdings.remove(held)
    assert holdings._held == {}
