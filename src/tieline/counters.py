"""What a server has done so far."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .reasons import CloseReason

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Counts since the server started. They only grow.

    Attributes:
        accepted: connections let in.
        refused: clients told no at the door, by reason.
        closed: connections that ended, by reason.
        spared: what a limit on trial would have refused or closed, by the limit's name.
        penalties: times that a client's account was charged.
        accept_pauses: times that accepting paused, by what for: `full`, `rate`, `system`.
        table_overflows: newcomers that found the table of clients full.
        handler_errors: handlers that raised.
        accept_errors: times that accepting failed, other than by refusing.
        bytes_received, bytes_sent, messages_received, messages_sent: of the connections that
            have ended; each open one has its own.
    """

    accepted: int = 0
    refused: Counter[CloseReason] = field(default_factory=Counter)
    closed: Counter[CloseReason] = field(default_factory=Counter)
    spared: Counter[str] = field(default_factory=Counter)
    penalties: int = 0
    accept_pauses: Counter[str] = field(default_factory=Counter)
    table_overflows: int = 0
    handler_errors: int = 0
    accept_errors: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    messages_received: int = 0
    messages_sent: int = 0
