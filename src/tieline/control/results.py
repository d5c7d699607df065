"""What each verb answers, key by key. Times are seconds, sizes bytes."""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = [
    "BanResult",
    "BanRow",
    "BansResult",
    "Change",
    "ClientRow",
    "ClientsResult",
    "ClockRow",
    "ConnectionDetails",
    "ConnectionRow",
    "ConnectionsResult",
    "DrainResult",
    "GuardFacts",
    "HelpResult",
    "InfoResult",
    "KickResult",
    "LimitRow",
    "LimitsChange",
    "LimitsResult",
    "MetricsResult",
    "PenaltyRow",
    "Place",
    "SettingsChange",
    "SettingsResult",
    "TapResult",
    "UnbanResult",
    "UpstreamChange",
    "UpstreamRow",
    "UpstreamSide",
    "UpstreamsResult",
    "VerbRow",
    "WatchResult",
]

#: Where a page of a listing ended: the value it is sorted by, and whose it was.
Place = list[Any]


class GuardFacts(TypedDict):
    upstreams: int
    up: int
    waiting: int


class InfoResult(TypedDict):
    tieline: str
    python: str
    pid: int
    uid: int
    loop: str
    started_at: float
    uptime: float
    addresses: list[str]
    draining: bool
    connections: int
    clients: int
    known_clients: int
    dry_run: list[str]
    guard: GuardFacts | None
    counters: dict[str, Any]


class ConnectionRow(TypedDict):
    id: int
    client: str
    peer: str
    local: str
    upstream: str | None
    state: str
    age: float
    idle: float
    receive_idle: float
    send_idle: float
    bytes_received: int
    bytes_sent: int
    messages_received: int
    messages_sent: int
    owed: int
    waiting: int
    encoding: str | None
    clock: str | None
    left: float | None


class ConnectionsResult(TypedDict):
    connections: list[ConnectionRow]
    total: int
    matched: int
    next: Place | None


class ClockRow(TypedDict):
    reason: str
    left: float


class UpstreamSide(TypedDict):
    local: str
    peer: str
    state: str
    receive_idle: float
    send_idle: float
    bytes_received: int
    bytes_sent: int
    owed: int
    clocks: list[ClockRow]
    tls: dict[str, Any] | None
    tcp: dict[str, Any] | None


class ConnectionDetails(ConnectionRow):
    opened_at: float
    received_idle: float
    sent_idle: float
    is_idle: bool
    is_receiving: bool
    handler: str | None
    clocks: list[ClockRow]
    user: int | None
    tls: dict[str, Any] | None
    tcp: dict[str, Any] | None
    upstream_side: UpstreamSide | None


class ClientRow(TypedDict):
    client: str
    host: str
    connections: int
    refused: int
    exempt: bool
    network: str | None


class ClientsResult(TypedDict):
    clients: list[ClientRow]
    total: int
    next: Place | None


class KickResult(TypedDict):
    kicked: int
    missing: list[int]


class BanResult(TypedDict):
    network: str
    left: float | None
    closed: int


class UnbanResult(TypedDict):
    network: str


class BanRow(TypedDict):
    network: str
    why: str
    left: float | None
    refusals: int


class PenaltyRow(TypedDict):
    client: str
    owed: float
    refused: bool
    refusals: int
    why: str


class BansResult(TypedDict):
    bans: list[BanRow]
    penalties: list[PenaltyRow]
    more: bool


class LimitRow(TypedDict):
    value: Any
    unit: str
    default: Any
    off: bool
    choices: list[str]
    help: str


class Change(TypedDict):
    old: Any
    new: Any


class LimitsResult(TypedDict):
    limits: dict[str, LimitRow]


class LimitsChange(TypedDict):
    changed: dict[str, Change]


class UpstreamRow(TypedDict):
    name: str
    address: str
    state: str
    since: float
    weight: int
    max: int | None
    backup: bool
    names: list[str]
    sessions: int
    waiting: int
    connected: int
    failed: int
    checks_failed: int
    bytes_received: int
    bytes_sent: int
    last_error: str
    addresses: list[str]


class UpstreamsResult(TypedDict):
    upstreams: list[UpstreamRow]
    waiting: int


class UpstreamChange(TypedDict):
    upstream: UpstreamRow


class SettingsResult(TypedDict):
    settings: dict[str, LimitRow]


class SettingsChange(TypedDict):
    changed: dict[str, Change]


class DrainResult(TypedDict):
    connections: int
    clean: bool | None


class WatchResult(TypedDict):
    events: list[str]
    stats: bool


class TapResult(TypedDict):
    id: int
    peer: str


class MetricsResult(TypedDict):
    content_type: str
    text: str


class VerbRow(TypedDict):
    verb: str
    help: str
    stream: bool
    guard: bool
    arguments: list[dict[str, Any]]


class HelpResult(TypedDict):
    verbs: list[VerbRow]
