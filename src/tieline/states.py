"""The states of a connection, and the only moves between them.

::

    HANDSHAKE ──secured──▶ OPEN ──peer_ended──▶ PEER_ENDED ──┐
        │                   │                                │
        │                   ├──half_close──▶ HALF_CLOSED ────┤
        │                   │                                │
        │                   └──────────close──▶ CLOSING ◀────┘
        └──────────────────────gone──▶ CLOSED ◀── (from every state)
"""

from __future__ import annotations

import enum

__all__ = ["Move", "State", "next_state"]


class State(enum.Enum):
    """Where a connection is in its life. `CLOSED` is the only terminal one."""

    # Members are single objects. Enum's own hash is a call into Python for each look-up.
    __hash__ = object.__hash__

    HANDSHAKE = "handshake"  #: TLS is being agreed on; messages to send are queued
    OPEN = "open"  #: both sides may send
    PEER_ENDED = "peer_ended"  #: the peer has ended its stream; this side may still send
    HALF_CLOSED = "half_closed"  #: this side has ended its stream; the peer may still send
    CLOSING = "closing"  #: sending what is owed, then waiting for the peer's end; bounded
    CLOSED = "closed"  #: the descriptor is gone


class Move(enum.Enum):
    """What can happen to a connection."""

    __hash__ = object.__hash__

    SECURED = "secured"
    PEER_ENDED = "peer_ended"
    HALF_CLOSE = "half_close"
    CLOSE = "close"
    GONE = "gone"


_TABLE: dict[State, dict[Move, State]] = {
    State.HANDSHAKE: {Move.SECURED: State.OPEN, Move.GONE: State.CLOSED},
    State.OPEN: {
        Move.PEER_ENDED: State.PEER_ENDED,
        Move.HALF_CLOSE: State.HALF_CLOSED,
        Move.CLOSE: State.CLOSING,
        Move.GONE: State.CLOSED,
    },
    State.PEER_ENDED: {
        Move.HALF_CLOSE: State.CLOSING,
        Move.CLOSE: State.CLOSING,
        Move.GONE: State.CLOSED,
    },
    State.HALF_CLOSED: {
        Move.PEER_ENDED: State.CLOSING,
        Move.CLOSE: State.CLOSING,
        Move.GONE: State.CLOSED,
    },
    State.CLOSING: {Move.GONE: State.CLOSED},
    State.CLOSED: {},
}


def next_state(state: State, move: Move) -> State:
    """Where a move leads.

    Raises:
        RuntimeError: there is no such move from this state: a defect of tieline's.
    """
    try:
        return _TABLE[state][move]
    except KeyError:
        raise RuntimeError(f"a connection in state {state.name} cannot {move.name}") from None
