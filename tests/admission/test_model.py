"""Admission against a model of it that is as plain as can be: lists, and sums over them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from admission.crowd import Door
from tieline import CloseReason, Limits
from tieline.address import UNKNOWN_CLIENT
from tieline.admission import Client
from tieline.limits import LIMIT_OF_REASON

#: Smaller than any step of time here, and larger than what sums are rounded by.
ROUNDING = 1e-5

_NOT_CHARGED = (CloseReason.BANNED, CloseReason.TOTAL_LIMIT, CloseReason.PENALIZED)

Who = tuple[str, int, int | None]
WHO: list[Who] = [
    ("10.0.0.1", 0, None), ("10.0.0.2", 0, None), ("10.0.1.1", 0, None),
    ("::ffff:10.0.0.1", 0, None), ("2001:db8::1", 0, None), ("2001:db8::2", 0, None),
    ("2001:db8:0:1::1", 0, None),
    ("fe80::1", 1, None), ("fe80::1", 2, None), ("nonsense", 0, None),
    ("", 0, 1000), ("", 0, 0), ("", 0, None),
]  # fmt: skip
NETWORKS = ["10.0.0.1", "10.0.0.0/24", "10.0.0.0/16", "2001:db8::2", "2001:db8::/48", "::/0"]

#: Times are multiples of 1/4, and so are the intervals of all rates: nothing is ever rounded.
CHANGES: dict[str, list[Any]] = {
    "per_client": [1, 2, 3, None],
    "per_network": [2, 4, None],
    "total": [8, None, None],
    "reserved": [0, 3],
    "per_client_rate": [0.5, 2.0, None],
    "per_client_burst": [1, 3],
    "total_rate": [0.25, 4.0, None],
    "total_burst": [1, 4],
    "penalty_threshold": [1.0, 6.0],
    "penalty_most": [8.0, 40.0],
    "penalty_refused": [0.0, 2.0],
    "client_full": ["refuse", "evict"],
    "exempt_networks": [(), ("10.0.0.1",), ("2001:db8::2", "10.0.0.0/24")],
    "client_ipv4_prefix": [24, 32],
    "client_ipv6_prefix": [48, 64, 128],
    "dry_run": [(), (), ("per_client", "penalty_threshold"), ("per_network", "per_client_rate")],
}  # fmt: skip
#: Such that every change is one that limits allow.
BEGINNING: dict[str, Any] = {
    "per_client": 3, "total": 10, "reserved_networks": ("10.0.1.0/24", "2001:db8:0:1::/64"),
    "network_ipv4_prefix": 16, "network_ipv6_prefix": 32, "penalty_threshold": 6.0,
}  # fmt: skip


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _within(host: str, networks: tuple[str, ...]) -> list[Any]:
    """Those of the networks that an address is in."""
    address = _ip(host)
    found = map(ipaddress.ip_network, networks)
    return [each for each in found if address is not None and address in each]


@dataclass
class Held:
    """One connection."""

    who: Who
    client: Client
    key: str


@dataclass
class Model:
    """The naive admission."""

    limits: Limits
    held: list[Held] = field(default_factory=list)
    #: Tokens that are missing from the buckets, by key; from all of them together.
    missing: dict[str, float] = field(default_factory=dict)
    missing_of_all: float = 0.0
    #: What is owed, and whether it is refused until then.
    owed: dict[str, tuple[float, bool]] = field(default_factory=dict)
    #: Seconds that bans still last.
    bans: dict[str, float] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    spared: list[tuple[CloseReason, str]] = field(default_factory=list)

    def key(self, who: Who) -> str:
        host, scope, uid = who
        if not host:
            return UNKNOWN_CLIENT if uid is None else f"uid:{uid}"
        address = _ip(host)
        if address is None:
            return UNKNOWN_CLIENT
        version, limits = address.version, self.limits
        prefix = limits.client_ipv4_prefix if version == 4 else limits.client_ipv6_prefix
        exempt = _within(host, limits.exempt_networks)
        if exempt and max(each.prefixlen for each in exempt) > prefix:
            prefix = address.max_prefixlen
        network = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
        whole = prefix == address.max_prefixlen
        key = str(network.network_address) if whole else str(network)
        return f"{key}%{scope}" if address.is_link_local and version == 6 else key

    def is_exempt(self, who: Who) -> bool:
        return bool(_within(who[0], self.limits.exempt_networks))

    def network(self, who: Who) -> str | None:
        """The wider network of a connection."""
        host, scope, uid = who
        if self.limits.per_network is None or self.is_exempt(who):
            return None
        address = _ip(host)
        if address is None:
            return None if uid is not None else UNKNOWN_CLIENT
        length = 16 if address.version == 4 else 32
        network = str(ipaddress.ip_network(f"{address}/{length}", strict=False))
        return f"{network}%{scope}" if scope else network

    def is_banned(self, who: Who) -> bool:
        host, _, uid = who
        networks = tuple(name for name in self.bans if not name.startswith("uid:"))
        return bool(_within(host, networks)) or (uid is not None and f"uid:{uid}" in self.bans)

    def holds(self, key: str) -> int:
        return sum(held.key == key for held in self.held)

    def in_network(self, name: str) -> int:
        return sum(self.network(held.who) == name for held in self.held)

    # ---- What happens

    def admit(self, who: Who) -> CloseReason | None:
        """Why not; `None`: it is in."""
        key, limits = self.key(who), self.limits
        reason = self._reason(who, key)
        if reason is not None:
            if reason is CloseReason.CLIENT_LIMIT and limits.client_full == "evict":
                return reason
            if self.holds(key):
                self.refused[key] = self.refused.get(key, 0) + 1
            if reason not in _NOT_CHARGED:
                self.charge(key, limits.penalty_refused)
            return reason
        if limits.per_client_rate is not None and not self.is_exempt(who):
            missing = self.missing.get(key, 0.0)
            if missing + 1 <= limits.per_client_burst + ROUNDING:
                self.missing[key] = missing + 1
        if limits.total_rate is not None:
            self.missing_of_all += 1
        return None

    def _reason(self, who: Who, key: str) -> CloseReason | None:
        limits = self.limits
        if self.is_banned(who):
            return CloseReason.BANNED
        checks: list[tuple[CloseReason, bool]] = []
        if not self.is_exempt(who):
            tokens = limits.per_client_burst - self.missing.get(key, 0.0)
            network = self.network(who)
            checks = [
                (CloseReason.PENALIZED, self.owed.get(key, (0.0, False))[1]),
                (
                    CloseReason.CLIENT_RATE,
                    limits.per_client_rate is not None and tokens < 1 - ROUNDING,
                ),
                (
                    CloseReason.CLIENT_LIMIT,
                    limits.per_client is not None and self.holds(key) >= limits.per_client,
                ),
                (
                    CloseReason.NETWORK_LIMIT,
                    network is not None
                    and limits.per_network is not None
                    and self.in_network(network) >= limits.per_network,
                ),
            ]
        for reason, is_reached in checks:
            if not is_reached:
                continue
            if LIMIT_OF_REASON[reason] not in limits.dry_run:
                return reason
            self.spared.append((reason, key))
        if limits.total is not None:
            reserved = bool(_within(who[0], limits.reserved_networks))
            if len(self.held) >= limits.total - (0 if reserved else limits.reserved):
                return CloseReason.TOTAL_LIMIT
        return None

    def charge(self, key: str, seconds: float) -> None:
        owed, refused = self.owed.get(key, (0.0, False))
        owed = min(owed + seconds, self.limits.penalty_most)
        if owed:
            self.owed[key] = (owed, refused or owed > self.limits.penalty_threshold)

    def advance(self, seconds: float) -> None:
        self.owed = {
            key: (owed - seconds, refused)
            for key, (owed, refused) in self.owed.items()
            if owed > seconds
        }
        self.bans = {name: left - seconds for name, left in self.bans.items() if left > seconds}
        if self.limits.per_client_rate is not None:
            back = seconds * self.limits.per_client_rate
            self.missing = {k: gone - back for k, gone in self.missing.items() if gone > back}
        if self.limits.total_rate is not None:
            back = seconds * self.limits.total_rate
            self.missing_of_all = max(0.0, self.missing_of_all - back)

    def change(self, limits: Limits) -> None:
        old, self.limits = self.limits, limits
        # What is missing comes back in the same time as before, if a bucket can miss that much.
        turn = _turn(old.per_client_rate, limits.per_client_rate)
        burst = limits.per_client_burst
        self.missing = {k: min(gone * turn, burst) for k, gone in self.missing.items() if turn}
        turn = _turn(old.total_rate, limits.total_rate)
        self.missing_of_all = min(self.missing_of_all * turn, limits.total_burst)
        for key, (owed, refused) in self.owed.items():
            owed = min(owed, limits.penalty_most)
            self.owed[key] = (owed, refused or owed > limits.penalty_threshold)

    def rename(self) -> None:
        """Clients are wider now: their accounts become one."""
        for key in list(self.owed):
            first, _, scope = key.partition("%")
            wider = self._wider(first)
            if wider != first:
                self.carry(key, f"{wider}%{scope}" if scope else wider)
                del self.owed[key]

    def _wider(self, key: str) -> str:
        try:
            network = ipaddress.ip_network(key)
        except ValueError:
            return key
        limits = self.limits
        prefix = limits.client_ipv4_prefix if network.version == 4 else limits.client_ipv6_prefix
        if network.prefixlen <= prefix:
            return key
        return str(network.supernet(new_prefix=prefix))

    def carry(self, key: str, other: str) -> None:
        if key in self.owed:
            owed, refused = self.owed.get(other, (0.0, False))
            self.owed[other] = (max(owed, self.owed[key][0]), refused or self.owed[key][1])

    def move(self, held: Held) -> None:
        old, held.key = held.key, self.key(held.who)
        if held.key == old:
            return
        if not self.is_exempt(held.who):
            self.carry(old, held.key)
            missing = max(self.missing.get(key, 0.0) for key in (old, held.key))
            if missing:
                self.missing[held.key] = missing
        self.forget_refusals(old)

    def forget_refusals(self, key: str) -> None:
        if not self.holds(key):
            self.refused.pop(key, None)


def _turn(old: float | None, new: float | None) -> float:
    return 0.0 if old is None or new is None else new / old


class AdmissionMachine(RuleBasedStateMachine):
    """Both, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.door = Door(**BEGINNING)
        self.admission = self.door.admission
        self.model = Model(self.admission.limits)

    @rule(who=st.sampled_from(WHO), times=st.integers(1, 3))
    def come(self, who: Who, times: int) -> None:
        for _ in range(times):
            expected = self.model.admit(who)
            answer = self.admission.admit(*who)
            if expected is not None:
                assert answer is expected
            else:
                assert isinstance(answer, Client)
                self.model.held.append(Held(who, answer, self.model.key(who)))

    @precondition(lambda self: self.model.held)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        held = self.model.held.pop(data.draw(st.integers(0, len(self.model.held) - 1)))
        self.admission.release(held.client)
        self.model.forget_refusals(held.key)

    @rule(quarters=st.integers(1, 60))
    def wait(self, quarters: int) -> None:
        self.door.clock.time += quarters / 4
        self.model.advance(quarters / 4)

    @rule(who=st.sampled_from(WHO), seconds=st.sampled_from([0.0, 1.0, 5.0, 20.0]))
    def penalize(self, who: Who, seconds: float) -> None:
        key = self.model.key(who)
        host, _, _ = who
        held = self.admission.client(key)
        penalty = self.admission.penalize(
            held or (host if _ip(host) and not who[1] else key), seconds, "x"
        )
        if self.model.is_exempt(who):
            assert penalty is None
            return
        self.model.charge(key, seconds)
        assert penalty is not None
        owed, refused = self.model.owed.get(key, (0.0, False))
        assert (penalty.key, penalty.owed, penalty.refused) == (key, owed, refused)

    @rule(who=st.sampled_from(WHO))
    def forgive(self, who: Who) -> None:
        key = self.model.key(who)
        assert self.admission.forgive(key) == (self.model.owed.pop(key, None) is not None)

    @rule(
        network=st.sampled_from([*NETWORKS, "uid:0"]), seconds=st.sampled_from([None, 0.25, 10.0])
    )
    def ban(self, network: str, seconds: float | None) -> None:
        self.admission.ban(network, seconds)
        self.model.bans[network] = float("inf") if seconds is None else seconds

    @rule(network=st.sampled_from([*NETWORKS, "uid:0"]))
    def unban(self, network: str) -> None:
        lifted = self.model.bans.pop(network, None) is not None
        assert self.admission.unban(network) == lifted

    @rule(data=st.data(), names=st.sets(st.sampled_from(sorted(CHANGES)), max_size=4))
    def change(self, data: st.DataObject, names: set[str]) -> None:
        changes = {name: data.draw(st.sampled_from(CHANGES[name]), name) for name in names}
        limits = self.model.limits.replace(**changes)
        keys = ("exempt_networks", "client_ipv4_prefix", "client_ipv6_prefix")
        moves = any(getattr(limits, name) != getattr(self.model.limits, name) for name in keys)
        self.model.change(limits)
        if moves:
            self.model.rename()
        assert self.admission.change_limits(limits) == moves
        if moves:
            for held in self.model.held:
                held.client = self.admission.move(held.client, *held.who)
                self.model.move(held)

    @rule()
    def clean(self) -> None:
        self.admission.clean()
        remembered = {held.key for held in self.model.held}
        remembered.update(self.model.owed, self.model.missing)
        assert self.admission.known == len(remembered)

    @invariant()
    def counts_are_the_same(self) -> None:
        model = self.model
        assert self.admission.total == len(model.held)
        assert self.admission.full == (
            model.limits.total is not None and len(model.held) >= model.limits.total
        )
        clients = self.admission.clients
        assert set(clients) == {held.key for held in model.held}
        networks = {held.client.network for held in model.held} - {None}
        assert set(self.admission._networks.values()) == networks
        for held in model.held:
            client = clients[held.key]
            assert held.client is client
            assert client.connections == model.holds(held.key)
            assert client.refused == model.refused.get(held.key, 0)
            assert client.exempt == model.is_exempt(held.who)
            network = model.network(held.who)
            if network is None:
                assert client.network is None
            else:
                assert client.network is not None
                assert client.network.key == network
                assert client.network.connections == model.in_network(network)

    @invariant()
    def debts_are_the_same(self) -> None:
        model = self.model
        owed = {each.key: (each.owed, each.refused) for each in self.admission.penalties()}
        assert owed == model.owed
        assert {ban.network: ban.left for ban in self.admission.bans()} == {
            name: None if left == float("inf") else left for name, left in model.bans.items()
        }
        for who in WHO:
            assert self.admission.key_of(*who) == model.key(who)
            assert self.admission.is_banned(*who) == model.is_banned(who)
        rate, burst = model.limits.total_rate, model.limits.total_burst
        wait = 0.0 if rate is None else max(0.0, (model.missing_of_all + 1 - burst) / rate)
        assert abs(self.admission.delay() - wait) < ROUNDING
        assert self.door.spared == model.spared

    def teardown(self) -> None:
        """Exactly zero at the end."""
        for held in self.model.held:
            self.admission.release(held.client)
        self.door.clock.time += 10_000.0
        self.admission.clean()
        assert self.admission.total == 0
        assert self.admission.known == 0
        assert self.admission.clients == {}
        assert list(self.admission.penalties()) == []


TestAdmission = AdmissionMachine.TestCase
TestAdmission.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
