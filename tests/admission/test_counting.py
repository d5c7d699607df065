"""How many: per client, per network, in all; exempt and reserved."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from admission.crowd import Door, refuse, welcome
from tieline import CloseReason, Limits
from tieline.address import UNKNOWN_CLIENT
from tieline.admission import Admission, Client, LocalAdmission

anything = settings(deadline=None, max_examples=200)
hosts = st.sampled_from(
    [
        "10.0.0.1", "10.0.0.2", "10.0.1.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:db8::2",
        "2001:db8:0:1::1", "2001:db8:1::1", "not an address", "fe80::1",
    ]
)  # fmt: skip


@anything
@given(
    st.lists(st.tuples(hosts, st.booleans()), max_size=80),
    st.one_of(st.none(), st.integers(1, 4)),
    st.one_of(st.none(), st.integers(1, 6)),
)
def test_counts_are_right_whatever_comes_and_goes(
    events: list[tuple[str, bool]], per_client: int | None, per_network: int | None
) -> None:
    admission = LocalAdmission(Limits(per_client=per_client, per_network=per_network))
    inside: list[Client] = []
    for host, comes in events:
        if comes:
            answer = admission.admit(host)
            if isinstance(answer, Client):
                inside.append(answer)
            else:
                assert answer in (CloseReason.CLIENT_LIMIT, CloseReason.NETWORK_LIMIT)
        elif inside:
            admission.release(inside.pop(0))
        held = Counter(client.key for client in inside)
        assert admission.total == len(inside)
        assert {key: client.connections for key, client in admission.clients.items()} == held
        assert per_client is None or all(count <= per_client for count in held.values())
        if per_network is not None:
            networks = {client.network for client in inside if client.network is not None}
            assert all(0 < network.connections <= per_network for network in networks)
            assert {network.key: network for network in networks} == admission._networks
            assert len(admission._networks) == len(networks)
            assert sum(network.connections for network in networks) == len(inside)
    for client in inside:
        admission.release(client)
    # An entry at zero is freed.
    assert admission.total == admission.known == 0
    assert admission.clients == admission._networks == {}


def test_a_process_of_its_own_is_an_admission() -> None:
    """What `LocalAdmission` offers is what the interface asks for."""
    admission: Admission = LocalAdmission(Limits(total=3))
    assert admission.limits.total == 3
    assert admission.client("10.0.0.1") is None
    client = admission.admit("10.0.0.1")
    assert admission.client("10.0.0.1") is client is admission.clients["10.0.0.1"]


def test_a_refusal_changes_nothing() -> None:
    admission = Door(per_client=1, per_network=2).admission
    first = welcome(admission, "10.0.0.1")
    for _ in range(5):
        assert refuse(admission, "10.0.0.1") is CloseReason.CLIENT_LIMIT
    welcome(admission, "10.0.0.2")
    for _ in range(5):
        assert refuse(admission, "10.0.0.3") is CloseReason.NETWORK_LIMIT
    assert admission.total == 2
    assert set(admission.clients) == {"10.0.0.1", "10.0.0.2"}
    # Counted for those that hold connections, and no longer than they do.
    assert first.refused == 5
    admission.release(first)
    assert welcome(admission, "10.0.0.3").refused == 0


def test_an_ipv6_client_is_a_network_of_64_bits() -> None:
    admission = Door(per_client=1).admission
    assert welcome(admission, "2001:db8::1").key == "2001:db8::/64"
    assert refuse(admission, "2001:db8::ffff:1:2") is CloseReason.CLIENT_LIMIT
    welcome(admission, "2001:db8:0:1::1")


def test_an_ipv4_client_is_one_client_however_it_comes() -> None:
    admission = Door(per_client=1).admission
    welcome(admission, "10.0.0.1")
    assert refuse(admission, "::ffff:10.0.0.1") is CloseReason.CLIENT_LIMIT
    assert welcome(admission, "::ffff:10.0.0.2").key == "10.0.0.2"
    assert refuse(admission, "10.0.0.2") is CloseReason.CLIENT_LIMIT


def test_clients_without_a_key_share_one_share() -> None:
    """Unknown never means unlimited."""
    admission = Door(per_client=2).admission
    welcome(admission, "nonsense")
    assert welcome(admission, "other nonsense").key == UNKNOWN_CLIENT
    assert refuse(admission, "more nonsense") is CloseReason.CLIENT_LIMIT
    assert refuse(admission, "") is CloseReason.CLIENT_LIMIT


def test_clients_without_a_key_share_one_network() -> None:
    admission = Door(per_client=None, per_network=2).admission
    welcome(admission, "nonsense")
    welcome(admission, "")
    assert refuse(admission, "more nonsense") is CloseReason.NETWORK_LIMIT


def test_the_name_of_another_key_is_no_address() -> None:
    """A host that is spelt as a user's key, or as a network, is not that client."""
    admission = Door(per_client=1).admission
    welcome(admission, "", uid=1000)
    welcome(admission, "2001:db8::1")
    assert welcome(admission, "uid:1000").key == UNKNOWN_CLIENT
    assert refuse(admission, "2001:db8::/64") is CloseReason.CLIENT_LIMIT
    assert admission.clients[UNKNOWN_CLIENT].refused == 1


def test_unix_clients_are_counted_by_their_user() -> None:
    admission = Door(per_client=1, per_network=1).admission
    assert welcome(admission, "", uid=1000).key == "uid:1000"
    assert admission.admit("", uid=1000) is CloseReason.CLIENT_LIMIT
    # And are in no network, so that one does not keep out another.
    assert isinstance(admission.admit("", uid=0), Client)


def test_the_scope_of_a_link_local_address_is_part_of_it() -> None:
    admission = Door(per_client=1, per_network=1).admission
    assert welcome(admission, "fe80::1", scope=2).key == "fe80::/64%2"
    assert refuse(admission, "fe80::1", scope=2) is CloseReason.CLIENT_LIMIT
    welcome(admission, "fe80::1", scope=3)
    assert refuse(admission, "fe80::1%3") is CloseReason.CLIENT_LIMIT


def test_networks_of_both_families_are_as_wide_as_asked() -> None:
    admission = Door(
        per_network=1, network_ipv4_prefix=16, network_ipv6_prefix=32
    ).admission  # fmt: skip
    client = welcome(admission, "10.0.0.1")
    assert client.network is not None
    assert client.network.key == "10.0.0.0/16"
    assert refuse(admission, "10.0.255.1") is CloseReason.NETWORK_LIMIT
    welcome(admission, "10.1.0.1")
    welcome(admission, "2001:db8::1")
    assert refuse(admission, "2001:db8:ffff::1") is CloseReason.NETWORK_LIMIT
    welcome(admission, "2001:db9::1")


def test_the_client_is_asked_about_before_its_network() -> None:
    admission = Door(per_client=1, per_network=1).admission
    welcome(admission, "10.0.0.1")
    assert refuse(admission, "10.0.0.1") is CloseReason.CLIENT_LIMIT
    assert refuse(admission, "10.0.0.2") is CloseReason.NETWORK_LIMIT


def test_clients_may_be_wider_than_an_address() -> None:
    admission = Door(per_client=2, client_ipv4_prefix=24).admission
    first = welcome(admission, "10.0.0.1")
    assert first.key == "10.0.0.0/24"
    assert welcome(admission, "10.0.0.2") is first
    assert refuse(admission, "10.0.0.3") is CloseReason.CLIENT_LIMIT
    welcome(admission, "10.0.1.1")


def test_full_is_when_the_total_is_reached() -> None:
    admission = Door(total=2).admission
    client = welcome(admission, "10.0.0.1")
    assert not admission.full
    welcome(admission, "10.0.0.2")
    assert admission.full
    # Whoever asks nevertheless does not come in.
    assert refuse(admission, "10.0.0.1") is CloseReason.TOTAL_LIMIT
    assert client.refused == 1
    admission.release(client)
    assert not admission.full


def test_reserved_places_are_for_the_networks_they_are_reserved_for() -> None:
    admission = Door(
        total=3, reserved=2, reserved_networks=("10.9.0.0/16", "2001:db8::/32")
    ).admission
    guest = welcome(admission, "10.0.0.1")
    assert not admission.full
    assert refuse(admission, "10.0.0.2") is CloseReason.TOTAL_LIMIT
    assert refuse(admission, "nonsense") is CloseReason.TOTAL_LIMIT
    assert admission.admit("", uid=0) is CloseReason.TOTAL_LIMIT
    operators = [welcome(admission, "10.9.1.1"), welcome(admission, "2001:db8::1")]
    assert admission.full
    assert refuse(admission, "10.9.1.1") is CloseReason.TOTAL_LIMIT
    # A place that is free again may be a reserved one, whoever has left.
    admission.release(guest)
    assert refuse(admission, "10.0.0.2") is CloseReason.TOTAL_LIMIT
    for operator in operators:
        assert refuse(admission, "10.0.0.2") is CloseReason.TOTAL_LIMIT
        admission.release(operator)
    welcome(admission, "10.0.0.2")


def test_exempt_clients_have_no_limit_and_take_no_place_of_a_network() -> None:
    admission = Door(
        per_client=1, per_network=1, total=10, exempt_networks=("10.0.0.0/31", "2001:db8::/32")
    ).admission
    for _ in range(3):
        client = welcome(admission, "10.0.0.1")
        assert client.exempt
        assert client.network is None
        welcome(admission, "2001:db8::1")
    welcome(admission, "10.0.0.2")  # of the same network, and its first
    assert refuse(admission, "10.0.0.3") is CloseReason.NETWORK_LIMIT
    # The total is for everybody.
    for _ in range(3):
        welcome(admission, "10.0.0.0")
    assert refuse(admission, "10.0.0.0") is CloseReason.TOTAL_LIMIT


def test_an_exempt_address_is_counted_apart_from_its_client() -> None:
    admission = Door(
        per_client=2, client_ipv4_prefix=24, exempt_networks=("10.0.0.7", "2001:db8::7")
    ).admission
    for _ in range(3):
        assert welcome(admission, "10.0.0.7").key == "10.0.0.7"
        assert welcome(admission, "2001:db8::7").key == "2001:db8::7"
    for host in ("10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"):
        assert not welcome(admission, host).exempt
    assert refuse(admission, "10.0.0.3") is CloseReason.CLIENT_LIMIT
    assert refuse(admission, "2001:db8::3") is CloseReason.CLIENT_LIMIT
    assert {key: client.connections for key, client in admission.clients.items()} == {
        "10.0.0.7": 3, "2001:db8::7": 3, "10.0.0.0/24": 2, "2001:db8::/64": 2,
    }  # fmt: skip


def test_everybody_can_be_exempt() -> None:
    admission = Door(per_client=1, exempt_networks=("0.0.0.0/0", "::/0")).admission
    for host in ("10.0.0.1", "2001:db8::1"):
        welcome(admission, host)
        assert welcome(admission, host).exempt
    # But not who has no address.
    welcome(admission, "nonsense")
    assert refuse(admission, "nonsense") is CloseReason.CLIENT_LIMIT


def test_without_limits_everybody_comes_in() -> None:
    admission = Door(per_client=None, total=None).admission
    for _ in range(1000):
        welcome(admission, "10.0.0.1")
    assert not admission.full
    assert admission.clients["10.0.0.1"].connections == 1000


def test_the_cap_asks_for_room_where_the_clients_own_idlest_may_go() -> None:
    """It is no refusal yet: nothing is counted or charged until the caller says so."""
    door = Door(per_client=1, client_full="evict", penalty_refused=5.0)
    client = welcome(door.admission, "10.0.0.1")
    assert refuse(door.admission, "10.0.0.1") is CloseReason.CLIENT_LIMIT
    assert client.refused == 0
    assert list(door.admission.penalties()) == []
    door.admission.count_refusal(client, CloseReason.CLIENT_LIMIT)
    assert client.refused == 1
    assert [penalty.owed for penalty in door.admission.penalties()] == [5.0]
