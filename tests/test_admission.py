"""Who may come in: a decision, given the counts."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tieline import CloseReason, Limits
from tieline.address import UNKNOWN_CLIENT
from tieline.admission import Admission, Client

anything = settings(deadline=None, max_examples=300)
hosts = st.sampled_from(
    [
        "10.0.0.1", "10.0.0.2", "10.0.1.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:db8::2",
        "2001:db8:0:1::1", "2001:db8:1::1", "not an address", "fe80::1",
    ]
)  # fmt: skip


def _admitted(admission: Admission, host: str, scope: int = 0) -> Client:
    client = admission.admit(host, scope)
    assert isinstance(client, Client)
    return client


@anything
@given(
    st.lists(st.tuples(hosts, st.booleans()), max_size=80),
    st.one_of(st.none(), st.integers(1, 4)),
    st.one_of(st.none(), st.integers(1, 6)),
)
def test_counts_are_right_whatever_comes_and_goes(
    events: list[tuple[str, bool]], per_client: int | None, per_network: int | None
) -> None:
    admission = Admission(Limits(per_client=per_client, per_network=per_network))
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
            assert len(admission._networks) == len(networks)
    for client in inside:
        admission.release(client)
    # An entry at zero is freed.
    assert admission.total == 0
    assert admission.clients == {}
    assert admission._networks == {}


def test_a_refusal_changes_nothing() -> None:
    admission = Admission(Limits(per_client=1, per_network=2))
    first = _admitted(admission, "10.0.0.1")
    for _ in range(5):
        assert admission.admit("10.0.0.1") is CloseReason.CLIENT_LIMIT
    _admitted(admission, "10.0.0.2")
    for _ in range(5):
        assert admission.admit("10.0.0.3") is CloseReason.NETWORK_LIMIT
    assert admission.total == 2
    assert set(admission.clients) == {"10.0.0.1", "10.0.0.2"}
    admission.release(first)
    _admitted(admission, "10.0.0.3")


def test_an_ipv6_client_is_a_network_of_64_bits() -> None:
    admission = Admission(Limits(per_client=1))
    _admitted(admission, "2001:db8::1")
    assert admission.admit("2001:db8::ffff:1:2") is CloseReason.CLIENT_LIMIT
    _admitted(admission, "2001:db8:0:1::1")


def test_an_ipv4_client_is_one_client_however_it_comes() -> None:
    admission = Admission(Limits(per_client=1))
    _admitted(admission, "10.0.0.1")
    assert admission.admit("::ffff:10.0.0.1") is CloseReason.CLIENT_LIMIT


def test_clients_without_a_key_share_one_share() -> None:
    """Unknown never means unlimited."""
    admission = Admission(Limits(per_client=2))
    _admitted(admission, "nonsense")
    assert _admitted(admission, "other nonsense").key == UNKNOWN_CLIENT
    assert admission.admit("more nonsense") is CloseReason.CLIENT_LIMIT
    assert admission.admit("", uid=None) is CloseReason.CLIENT_LIMIT


def test_unix_clients_are_counted_by_their_user() -> None:
    admission = Admission(Limits(per_client=1))
    assert isinstance(admission.admit("", uid=1000), Client)
    assert admission.admit("", uid=1000) is CloseReason.CLIENT_LIMIT
    assert isinstance(admission.admit("", uid=0), Client)


def test_the_scope_of_a_link_local_address_is_part_of_it() -> None:
    admission = Admission(Limits(per_client=1))
    _admitted(admission, "fe80::1", scope=2)
    assert admission.admit("fe80::1", scope=2) is CloseReason.CLIENT_LIMIT
    _admitted(admission, "fe80::1", scope=3)


def test_networks_of_both_families_are_as_wide_as_asked() -> None:
    limits = Limits(per_network=1, network_ipv4_prefix=16, network_ipv6_prefix=32)
    admission = Admission(limits)
    _admitted(admission, "10.0.0.1")
    assert admission.admit("10.0.255.1") is CloseReason.NETWORK_LIMIT
    _admitted(admission, "10.1.0.1")
    _admitted(admission, "2001:db8::1")
    assert admission.admit("2001:db8:ffff::1") is CloseReason.NETWORK_LIMIT
    _admitted(admission, "2001:db9::1")


def test_full_is_when_the_total_is_reached() -> None:
    admission = Admission(Limits(total=2))
    client = _admitted(admission, "10.0.0.1")
    assert not admission.full
    _admitted(admission, "10.0.0.2")
    assert admission.full
    admission.release(client)
    assert not admission.full


def test_without_limits_everybody_comes_in() -> None:
    admission = Admission(Limits(per_client=None, total=None))
    for _ in range(1000):
        _admitted(admission, "10.0.0.1")
    assert not admission.full
    assert admission.clients["10.0.0.1"].connections == 1000
