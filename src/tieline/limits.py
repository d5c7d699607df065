"""What a server allows a connection, a client machine, and all of them together.

The one source of every default: flags, files, settings and documentation are derived from the
fields of `Limits`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from .errors import SettingError
from .reasons import CloseReason
from .rules import Rule, nearest

__all__ = ["DEFAULT_MAXIMUM", "LIMIT_OF_REASON", "PENALTY_OF_REASON", "RULES", "Limits"]

#: The largest message by default, in bytes: 64 KiB, as asyncio's streams.
DEFAULT_MAXIMUM = 65_536

#: Which limit a reason speaks of. These can be tried without being enforced (`Limits.dry_run`).
LIMIT_OF_REASON = {
    CloseReason.IDLE_TIMEOUT: "idle",
    CloseReason.RECEIVE_IDLE_TIMEOUT: "receive_idle",
    CloseReason.SEND_IDLE_TIMEOUT: "send_idle",
    CloseReason.FIRST_BYTE_TIMEOUT: "first_byte",
    CloseReason.MESSAGE_TIMEOUT: "message",
    CloseReason.WRITE_STALL: "write_stall",
    CloseReason.HALF_CLOSED_TIMEOUT: "half_closed",
    CloseReason.LIFETIME: "lifetime",
    CloseReason.SLOW_SENDER: "min_receive_rate",
    CloseReason.SLOW_READER: "min_send_rate",
    CloseReason.CLIENT_LIMIT: "per_client",
    CloseReason.NETWORK_LIMIT: "per_network",
    CloseReason.CLIENT_RATE: "per_client_rate",
    CloseReason.PENALIZED: "penalty_threshold",
}

#: What a close reason costs the client, by the name of the limit that says how much.
PENALTY_OF_REASON = {
    CloseReason.FIRST_BYTE_TIMEOUT: "penalty_slow",
    CloseReason.MESSAGE_TIMEOUT: "penalty_slow",
    CloseReason.WRITE_STALL: "penalty_slow",
    CloseReason.SLOW_SENDER: "penalty_slow",
    CloseReason.SLOW_READER: "penalty_slow",
    CloseReason.PREAMBLE_TIMEOUT: "penalty_slow",
    CloseReason.MESSAGE_TOO_LARGE: "penalty_malformed",
    CloseReason.MALFORMED: "penalty_malformed",
    CloseReason.TRUNCATED: "penalty_malformed",
    CloseReason.UNDECODABLE: "penalty_malformed",
    CloseReason.BAD_PREAMBLE: "penalty_malformed",
    CloseReason.TLS_ERROR: "penalty_tls",
    CloseReason.HANDSHAKE_TIMEOUT: "penalty_tls",
}


def _limit(default: Any, unit: str, text: str, **rule: Any) -> Any:
    return dataclasses.field(default=default, metadata={"rule": Rule(unit, text, **rule)})


def _seconds(default: float | None, text: str, **rule: Any) -> Any:
    return _limit(default, "seconds", text, **{"off": True, **rule})


def _connections(default: int | None, text: str, **rule: Any) -> Any:
    return _limit(default, "connections", text, **rule)


def _penalty(text: str) -> Any:
    return _limit(0.0, "seconds", text, least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a server. `None` switches one off, where it may be off.

    Times are seconds, sizes bytes, the rest counts. What could hurt a well-meaning client is
    off until it is asked for; everything that a server needs to survive is finite.

    Raises:
        SettingError: a limit is not a value in its range, or two contradict each other.
    """

    # Clocks of one connection. Precedents for the defaults: nginx stream 10 min, Thousand
    # Island 60 s, Envoy 1 h of idleness; sshd's login grace is 120 s, nginx's preread 30 s.
    idle: float | None = _seconds(
        300.0, "close a connection on which no byte moved either way for this long"
    )
    receive_idle: float | None = _seconds(
        None, "close a connection from which no byte came for this long"
    )
    send_idle: float | None = _seconds(
        None, "close a connection to which no byte went for this long"
    )
    idle_when_full: float | None = _seconds(
        None, "from half of the total on, idle shrinks evenly, to this when all places are taken"
    )
    first_byte: float | None = _seconds(
        60.0, "close a connection that has said nothing this long after it came"
    )
    message: float | None = _seconds(30.0, "a message, once begun, must be whole within this time")
    write_stall: float | None = _seconds(
        30.0, "reset a peer that is owed bytes and has taken none for this long"
    )
    half_closed: float | None = _seconds(
        60.0, "once one side has ended its stream, close when no byte moved for this long"
    )
    lifetime: float | None = _seconds(None, "close a connection that is as old as this")
    lifetime_jitter: float = _limit(
        0.1, "share", "lifetimes differ by up to this share, so that clients return one by one",
        least=0, most=1,
    )  # fmt: skip
    handshake: float = _seconds(10.0, "the TLS handshake must be done in this time", off=False)
    closing: float = _seconds(
        5.0, "an orderly close must be done within this time, or the peer is reset", off=False
    )

    # How slow.
    min_receive_rate: float | None = _limit(
        100.0, "bytes a second", "reset a peer that sends a message more slowly than this", off=True
    )
    min_send_rate: float | None = _limit(
        100.0, "bytes a second", "reset a peer that takes what it is owed more slowly", off=True
    )
    rate_grace: float = _seconds(
        20.0, "how long a peer may be slow, or silent in between, before it counts", off=False
    )

    # How many.
    total: int | None = _connections(
        10_000, "connections in all; more wait in the kernel's backlog", off=True
    )
    total_full: str = _limit(
        "wait", "choice", "at the total: newcomers wait, or evict the idlest of those with most",
        choices=("wait", "evict"),
    )  # fmt: skip
    reserved: int = _connections(0, "places of the total for reserved-networks only", least=0)
    reserved_networks: tuple[str, ...] = _limit(
        (), "networks", "who may take the reserved places, such as the operators' network"
    )
    per_client: int | None = _connections(100, "connections one client machine may hold", off=True)
    per_network: int | None = _connections(
        None, "connections a client's wider network may hold together", off=True
    )
    client_full: str = _limit(
        "refuse", "choice", "at per-client: refuse the newcomer, or evict the client's idlest",
        choices=("refuse", "evict"),
    )  # fmt: skip
    evict_idle: float = _seconds(
        10.0, "only a connection idle for at least this long is evicted", off=False
    )
    exempt_networks: tuple[str, ...] = _limit(
        (), "networks", "clients that no per-client limit, rate or penalty applies to"
    )
    refusal: str | None = _limit(
        None, "text", "a last word to refused clients, sent before closing", off=True
    )
    client_ipv4_prefix: int = _limit(32, "bits", "how much of an IPv4 address is one client")
    client_ipv6_prefix: int = _limit(
        64, "bits", "how much of an IPv6 address is one client", most=128
    )
    network_ipv4_prefix: int = _limit(24, "bits", "how much of an IPv4 address is one network")
    network_ipv6_prefix: int = _limit(
        48, "bits", "how much of an IPv6 address is one network", most=128
    )

    # How often.
    total_rate: float | None = _limit(
        None, "connections a second", "more newcomers than this wait in the backlog", off=True
    )
    total_burst: int = _connections(1_000, "newcomers that may come at once, beyond total-rate")
    per_client_rate: float | None = _limit(
        None, "connections a second", "refuse a client machine that connects more often", off=True
    )
    per_client_burst: int = _connections(
        20, "connections of one client that may come at once, beyond per-client-rate"
    )

    # Penalties: an account of seconds for each client.
    penalty_threshold: float = _seconds(
        15.0, "a client that owes more than this is refused until it owes nothing", off=False
    )
    penalty_most: float = _seconds(600.0, "no client ever owes more than this", off=False)
    penalty_refused: float = _penalty("what being refused costs a client")
    penalty_slow: float = _penalty("what a connection closed for being slow costs its client")
    penalty_malformed: float = _penalty("what breaking the framing or charset costs a client")
    penalty_tls: float = _penalty("what a failed TLS handshake costs a client")

    # How many clients are known.
    table_size: int = _limit(100_000, "clients", "client machines remembered at once")
    table_full: str = _limit(
        "share", "choice", "when no more can be told apart: all share one client's limits, or...",
        choices=("share", "refuse", "admit"),
    )  # fmt: skip

    dry_run: tuple[str, ...] = _limit(
        (), "limits", "limits that are counted, but not enforced",
        choices=tuple(LIMIT_OF_REASON.values()),
    )  # fmt: skip

    # How much.
    max_message: int = _limit(DEFAULT_MAXIMUM, "bytes", "the largest message, without its framing")
    max_owed: int = _limit(
        1_048_576, "bytes", "a peer that is owed more than this, and is sent more, is reset"
    )
    high_water: int = _limit(
        65_536, "bytes", "above this a sender waits, and reading from the peer pauses"
    )
    low_water: int = _limit(16_384, "bytes", "at or below this, both go on", least=0)

    def __post_init__(self) -> None:
        for name, rule in RULES.items():
            value = getattr(self, name)
            checked = rule.check(name, value)
            if checked is not value:
                object.__setattr__(self, name, checked)
        self._check_pairs()

    def _check_pairs(self) -> None:
        """What contradicts each other."""
        self._check_order(
            "low_water", "high_water", "both would go on and stop at once", same=False
        )
        self._check_order(
            "high_water", "max_owed", "a peer would be reset before its sender is told to wait"
        )
        self._check_order("idle_when_full", "idle", "idle shrinks as the server fills")
        self._check_order("reserved", "total", "nobody else could come in", same=False)
        self._check_order(
            "penalty_threshold", "penalty_most", "no client could ever be refused", same=False
        )
        if self.per_network is not None:
            why = "a network holds clients"
            self._check_order("network_ipv4_prefix", "client_ipv4_prefix", why)
            self._check_order("network_ipv6_prefix", "client_ipv6_prefix", why)
        if self.reserved and not self.reserved_networks:
            raise SettingError(
                "reserved ({reserved}) needs reserved_networks ({networks}): whom are they for?",
                reserved=self.reserved,
                networks="none",
            )

    def _check_order(self, low: str, high: str, why: str, *, same: bool = True) -> None:
        small, large = getattr(self, low), getattr(self, high)
        if small is None or large is None or small < large or (same and small == large):
            return
        if same:
            text = "{low} ({low_value}) must not be above {high} ({high_value}): {why}"
        else:
            text = "{low} ({low_value}) must be below {high} ({high_value}): {why}"
        raise SettingError(text, low=low, low_value=small, high=high, high_value=large, why=why)

    def replace(self, **changes: Any) -> Self:
        """These limits with some changed.

        Raises:
            SettingError: there is no such limit, or a value makes no sense.
        """
        for name in changes:
            if name not in RULES:
                like = nearest(name, RULES)
                raise SettingError(
                    "there is no limit {name!r}",
                    hint="did you mean {like!r}?" if like else "",
                    name=name,
                    like=like,
                )
        return dataclasses.replace(self, **changes)

    def idle_at(self, fullness: float) -> float | None:
        """The idle limit of a server whose places are taken to this share (0 to 1)."""
        idle, least = self.idle, self.idle_when_full
        if least is None or fullness <= 0.5:
            return idle
        if idle is None:
            return least
        return idle - (idle - least) * (min(fullness, 1.0) - 0.5) * 2


RULES: dict[str, Rule] = {
    field.name: field.metadata["rule"] for field in dataclasses.fields(Limits)
}
