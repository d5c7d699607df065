"""Which of a connection's clocks strikes next. Decisions: given facts, no sockets."""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol

from .limits import Limits
from .reasons import CloseReason
from .states import State

__all__ = ["ClockFacts", "Credit", "first_check", "next_due", "running_clocks"]

#: The golden ratio's share: multiples of it, without their whole part, are spread evenly.
_SPREAD = 0.6180339887498949


class Credit:
    """The time that a peer has bought with the bytes it moved (Postfix's rule for slow clients).

    It starts with a grace. Elapsed time eats it, `n` bytes give back `n / rate` seconds, and it
    is never above the grace: a burst followed by a short pause is fine, a byte a second is not.

    Attributes:
        began: when the bytes began to be owed.
        due: when the credit runs out, as of the last `settle`.
        moved, moved_at: the bytes that had moved in all, and when it was seen that more had;
            for whoever must look to know.
        until: when so many bytes have moved in all, what this credit was given for is settled.
    """

    __slots__ = ("_counted", "began", "due", "moved", "moved_at", "until")

    def __init__(self, began: float, moved: int, grace: float) -> None:
        self.began = self.moved_at = began
        self.due = began + grace
        self.moved = self._counted = moved
        self.until = 0

    def settle(self, moved: int, moved_at: float, rate: float, grace: float) -> float:
        """When the credit runs out, given all the bytes that have moved, and when the last did.

        Looked at only when it seems to have run out: in between, it costs nothing.
        """
        bought = (moved - self._counted) / rate
        self._counted = moved
        self.due = max(min(self.due + bought, moved_at + grace), self.began + grace)
        return self.due


class ClockFacts(Protocol):
    """What the clocks of a connection go by. Times are those of one monotonic clock."""

    @property
    def state(self) -> State: ...
    @property
    def last_active(self) -> float: ...

    id: int
    opened_at: float
    last_received: float
    last_sent: float
    bytes_received: int
    #: The message that has begun and is not whole yet.
    unfinished: Credit | None
    #: The bytes that the peer has not taken yet; `moved` counts those that it has.
    owing: Credit | None
    #: When closing must be over, or what it is at when its lifetime has ended; 0.0 before.
    closing_at: float


def running_clocks(
    facts: ClockFacts, limits: Limits, fullness: float = 0.0
) -> list[tuple[float, CloseReason]]:
    """Every clock of a connection that runs: when it strikes, and what for.

    Args:
        facts: the connection.
        limits: what its owner allows.
        fullness: the share of the owner's places that are taken, 0 to 1.
    """
    state = facts.state
    if state is State.CLOSING:
        return [(facts.closing_at, CloseReason.CLOSE_TIMEOUT)]
    if state is State.HANDSHAKE:
        return [(facts.opened_at + limits.handshake, CloseReason.HANDSHAKE_TIMEOUT)]
    found: list[tuple[float, CloseReason]] = []
    idle = limits.idle_at(fullness)
    if idle is not None:
        found.append((facts.last_active + idle, CloseReason.IDLE_TIMEOUT))
    if limits.receive_idle is not None and state is not State.PEER_ENDED:
        due = facts.last_received + limits.receive_idle
        found.append((due, CloseReason.RECEIVE_IDLE_TIMEOUT))
    if limits.send_idle is not None and state is not State.HALF_CLOSED:
        found.append((facts.last_sent + limits.send_idle, CloseReason.SEND_IDLE_TIMEOUT))
    if limits.first_byte is not None and not facts.bytes_received:
        found.append((facts.opened_at + limits.first_byte, CloseReason.FIRST_BYTE_TIMEOUT))
    if limits.half_closed is not None and state is not State.OPEN:
        due = facts.last_active + limits.half_closed
        found.append((due, CloseReason.HALF_CLOSED_TIMEOUT))
    if limits.lifetime is not None:
        found.append((_end_of_life(facts, limits, limits.lifetime), CloseReason.LIFETIME))
    if facts.unfinished is not None:
        _clocks_of_message(facts, facts.unfinished, limits, found)
    if facts.owing is not None:
        _clocks_of_owing(facts.owing, limits, found)
    return found


def _clocks_of_message(
    facts: ClockFacts,
    message: Credit,
    limits: Limits,
    found: list[tuple[float, CloseReason]],
) -> None:
    if limits.message is not None:
        found.append((message.began + limits.message, CloseReason.MESSAGE_TIMEOUT))
    if limits.min_receive_rate is not None:
        due = message.settle(
            facts.bytes_received, facts.last_received, limits.min_receive_rate, limits.rate_grace
        )
        found.append((due, CloseReason.SLOW_SENDER))


def _clocks_of_owing(owing: Credit, limits: Limits, found: list[tuple[float, CloseReason]]) -> None:
    if limits.write_stall is not None:
        found.append((owing.moved_at + limits.write_stall, CloseReason.WRITE_STALL))
    if limits.min_send_rate is not None:
        due = owing.settle(owing.moved, owing.moved_at, limits.min_send_rate, limits.rate_grace)
        found.append((due, CloseReason.SLOW_READER))


def _end_of_life(facts: ClockFacts, limits: Limits, lifetime: float) -> float:
    # Neighbours by number end far apart, and nothing need be kept for it.
    share = limits.lifetime_jitter * (facts.id * _SPREAD % 1.0)
    # Once told to finish what it is at, it has as long for it as an orderly close.
    return facts.closing_at or facts.opened_at + lifetime * (1.0 - share)


def next_due(
    facts: ClockFacts, limits: Limits, fullness: float = 0.0, spared: Container[CloseReason] = ()
) -> tuple[float | None, CloseReason]:
    """The earliest of the clocks that are running, and what it stands for.

    Args:
        spared: clocks that have struck already and are on trial only.

    `None`: no clock is running.
    """
    due, reason = None, CloseReason.IDLE_TIMEOUT
    for when, why in running_clocks(facts, limits, fullness):
        if (due is None or when < due) and why not in spared:
            due, reason = when, why
    return due, reason


def first_check(limits: Limits) -> float | None:
    """Seconds after which a new connection is first asked for its deadline: no clock of a
    connection on which nothing has happened yet strikes before. `None`: never.

    Half an idle limit, since idleness is judged by two looks at what the peer has taken.
    """
    lifetime = limits.lifetime
    idles = (limits.idle, limits.receive_idle, limits.send_idle)
    clocks = (
        *(None if seconds is None else seconds / 2 for seconds in idles),
        limits.idle_when_full,
        limits.first_byte,
        None if lifetime is None else lifetime * (1.0 - limits.lifetime_jitter),
    )
    return min((seconds for seconds in clocks if seconds is not None), default=None)
