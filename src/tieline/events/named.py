"""Every event: its name, and what it says."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from ..address import Address
from ..reasons import CloseReason

__all__ = [
    "AcceptPaused",
    "AcceptResumed",
    "ClientBanned",
    "ClientPenalized",
    "ClientUnbanned",
    "ConnectionClosed",
    "ConnectionOpened",
    "ConnectionRefused",
    "DrainBegun",
    "DrainEnded",
    "Event",
    "EventsLost",
    "HandlerFailed",
    "LimitSpared",
    "LimitsChanged",
    "ServerStarted",
    "SessionRelayed",
    "TableOverflowed",
    "TapBegun",
    "TapEnded",
    "UpstreamAdded",
    "UpstreamDown",
    "UpstreamDraining",
    "UpstreamRemoved",
    "UpstreamUp",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        time: when, in seconds since 1970 (`time.time`).
    """

    name: ClassVar[str] = "event"

    time: float = field(default_factory=time.time)

    def as_dict(self) -> dict[str, Any]:
        """Its name and fields, with values that JSON knows."""
        found: dict[str, Any] = {"event": self.name}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Address):
                value = str(value)
            elif isinstance(value, tuple):
                value = [str(part) for part in value]
            found[each.name] = value
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStarted(Event):
    """It listens. `addresses`: where."""

    name: ClassVar[str] = "server_started"

    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOpened(Event):
    """A client was let in.

    Attributes:
        id: the connection's number.
        peer, local: its two ends.
        client: the key under which the client machine is counted.
    """

    name: ClassVar[str] = "connection_opened"

    id: int
    peer: Address
    local: Address
    client: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRefused(Event):
    """A client was told no at the door. `reason`: why."""

    name: ClassVar[str] = "connection_refused"

    peer: Address
    client: str
    reason: CloseReason


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRelayed(Event):
    """A guard has connected a client's upstream; bytes pass now.

    Attributes:
        id, peer, client: whose connection goes on there.
        upstream: the upstream's name.
        address: which of its addresses.
        waited: seconds since the client was let in.
    """

    name: ClassVar[str] = "session_relayed"

    id: int
    peer: Address
    client: str
    upstream: str
    address: Address
    waited: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionClosed(Event):
    """A connection ended.

    Attributes:
        id, peer, client: whose.
        reason: why.
        duration: seconds that it was open.
        bytes_received, bytes_sent: what passed, without TLS's own bytes.
        messages_received, messages_sent: whole messages.
        upstream: the upstream that a guard relayed it to; `None` where there was none.
    """

    name: ClassVar[str] = "connection_closed"

    id: int
    peer: Address
    client: str
    reason: CloseReason
    duration: float
    bytes_received: int
    bytes_sent: int
    messages_received: int
    messages_sent: int
    upstream: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerFailed(Event):
    """A handler raised. `error`: the class and text of what it raised."""

    name: ClassVar[str] = "handler_failed"

    id: int
    peer: Address
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSpared(Event):
    """A limit on trial (`Limits.dry_run`) would have refused or closed.

    Attributes:
        limit: its name.
        client: who was spared.
        id: the connection's number; 0 for a newcomer.
    """

    name: ClassVar[str] = "limit_spared"

    limit: str
    client: str
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsChanged(Event):
    """Limits were changed. `changes`: name, old value, new value of each, as text."""

    name: ClassVar[str] = "limits_changed"

    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPenalized(Event):
    """A client's account was charged.

    Attributes:
        client: whose.
        seconds: by how much.
        owed: what it owes now.
        why: the reason.
        refused: whether it is refused from now on.
    """

    name: ClassVar[str] = "client_penalized"

    client: str
    seconds: float
    owed: float
    why: str
    refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientBanned(Event):
    """A client or network was banned.

    Attributes:
        network: whom.
        seconds: for how long; `None`: until it is lifted.
        why: the operator's words.
        closed: connections closed for it.
    """

    name: ClassVar[str] = "client_banned"

    network: str
    seconds: float | None
    why: str
    closed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientUnbanned(Event):
    """A ban was lifted, or a client's penalties forgiven."""

    name: ClassVar[str] = "client_unbanned"

    network: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOverflowed(Event):
    """More clients came than the table has room for.

    Attributes:
        known: how many it knows.
        mode: what happens to those above (`Limits.table_full`).
    """

    name: ClassVar[str] = "table_overflowed"

    known: int
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptPaused(Event):
    """Accepting has stopped for now: `full`, `rate`, or what the system said."""

    name: ClassVar[str] = "accept_paused"

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptResumed(Event):
    """Accepting goes on."""

    name: ClassVar[str] = "accept_resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainBegun(Event):
    """No newcomers; connections finish.

    Attributes:
        connections: how many there are.
        seconds: until what is left is reset.
        spread: over how many seconds the idle ones are closed.
    """

    name: ClassVar[str] = "drain_begun"

    connections: int
    seconds: float
    spread: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainEnded(Event):
    """Every connection is over. `reset`: how many had to be cut off."""

    name: ClassVar[str] = "drain_ended"

    reset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TapBegun(Event):
    """Somebody reads the messages of a connection as they pass.

    Attributes:
        id, peer: whose.
        by: who reads them.
    """

    name: ClassVar[str] = "tap_begun"

    id: int
    peer: Address
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TapEnded(Event):
    """Nobody reads them any more. `messages`: how many were shown."""

    name: ClassVar[str] = "tap_ended"

    id: int
    messages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAdded(Event):
    """A guard has one more upstream."""

    name: ClassVar[str] = "upstream_added"

    upstream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamUp(Event):
    """An upstream is back, and gets sessions again."""

    name: ClassVar[str] = "upstream_up"

    upstream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamDown(Event):
    """An upstream gets no sessions for now. `why`: what has failed there."""

    name: ClassVar[str] = "upstream_down"

    upstream: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamDraining(Event):
    """An upstream gets no new sessions, until it is enabled; those it has go on."""

    name: ClassVar[str] = "upstream_draining"

    upstream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRemoved(Event):
    """An upstream is one no more. Sessions that it has go on."""

    name: ClassVar[str] = "upstream_removed"

    upstream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsLost(Event):
    """What a subscriber gets in place of those it was too slow for. `count`: how many."""

    name: ClassVar[str] = "events_lost"

    count: int
