"""What happens to a server, as it happens: named, frozen, for whoever wants to know.

A subscriber is called after the turn in which things happened, never from inside it, and what
it raises is logged and counted. One that is behind loses events and is told how many; the
connections do not notice. While nobody subscribes, no event is made.
"""

from .named import (
    AcceptPaused,
    AcceptResumed,
    ClientBanned,
    ClientPenalized,
    ClientUnbanned,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    DrainBegun,
    DrainEnded,
    Event,
    EventsLost,
    HandlerFailed,
    LimitsChanged,
    LimitSpared,
    ServerStarted,
    SessionRelayed,
    TableOverflowed,
    TapBegun,
    TapEnded,
    UpstreamAdded,
    UpstreamDown,
    UpstreamDraining,
    UpstreamRemoved,
    UpstreamUp,
)
from .subscriptions import Events, EventStream, Subscription

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
    "EventStream",
    "Events",
    "EventsLost",
    "HandlerFailed",
    "LimitSpared",
    "LimitsChanged",
    "ServerStarted",
    "SessionRelayed",
    "Subscription",
    "TableOverflowed",
    "TapBegun",
    "TapEnded",
    "UpstreamAdded",
    "UpstreamDown",
    "UpstreamDraining",
    "UpstreamRemoved",
    "UpstreamUp",
]
