"""Which of a connection's clocks strikes next. A decision: given facts, no sockets."""

from __future__ import annotations

from typing import Protocol

from .limits import Limits
from .reasons import CloseReason
from .states import State

__all__ = ["ClockFacts", "next_due"]


class ClockFacts(Protocol):
    """What the clocks of a connection go by. Times are those of one monotonic clock."""

    @property
    def state(self) -> State: ...

    opened_at: float
    #: When a byte last made progress, in either direction.
    last_active: float
    bytes_received: int
    #: When the message that is not whole yet began.
    message_began: float | None
    #: When closing must be over; means something while it is closing.
    closing_at: float


def next_due(facts: ClockFacts, limits: Limits) -> tuple[float | None, CloseReason]:
    """The earliest of the clocks that are running, and what it stands for.

    `None`: no clock is running.
    """
    if facts.state is State.CLOSING:
        return facts.closing_at, CloseReason.CLOSE_TIMEOUT
    if facts.state is State.HANDSHAKE:
        return facts.opened_at + limits.handshake, CloseReason.HANDSHAKE_TIMEOUT
    due, reason = None, CloseReason.IDLE_TIMEOUT
    if limits.idle is not None:
        due = facts.last_active + limits.idle
    if limits.first_byte is not None and not facts.bytes_received:
        first_byte = facts.opened_at + limits.first_byte
        if due is None or first_byte < due:
            due, reason = first_byte, CloseReason.FIRST_BYTE_TIMEOUT
    if limits.message is not None and facts.message_began is not None:
        message = facts.message_began + limits.message
        if due is None or message < due:
            due, reason = message, CloseReason.MESSAGE_TIMEOUT
    return due, reason
