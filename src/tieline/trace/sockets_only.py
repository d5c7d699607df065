"""A trace without a capture: what a program sees of its own socket, and its kernel's word for it.

The server's state is not to be seen from here. What is given for it follows from the client's,
as if nothing were ever on its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .model import KEPT_PAYLOAD, Note, Outcome, Side, Step, TcpState

__all__ = ["SocketEvent", "socket_outcome", "socket_steps", "state_named"]

_STATES = {
    "established": TcpState.ESTABLISHED,
    "syn_sent": TcpState.SYN_SENT,
    "syn_recv": TcpState.SYN_RECEIVED,
    "fin_wait1": TcpState.FIN_WAIT_1,
    "fin_wait2": TcpState.FIN_WAIT_2,
    "time_wait": TcpState.TIME_WAIT,
    "close": TcpState.CLOSED,
    "close_wait": TcpState.CLOSE_WAIT,
    "last_ack": TcpState.LAST_ACK,
    "listen": TcpState.LISTEN,
    "closing": TcpState.CLOSING,
}

#: Where the server must be when the client is there and everything has arrived.
_SERVERS = {
    TcpState.SYN_SENT: TcpState.LISTEN,
    TcpState.ESTABLISHED: TcpState.ESTABLISHED,
    TcpState.FIN_WAIT_1: TcpState.ESTABLISHED,
    TcpState.FIN_WAIT_2: TcpState.CLOSE_WAIT,
    TcpState.CLOSE_WAIT: TcpState.FIN_WAIT_2,
    TcpState.CLOSING: TcpState.CLOSING,
    TcpState.LAST_ACK: TcpState.FIN_WAIT_2,
    TcpState.TIME_WAIT: TcpState.CLOSED,
}


@dataclass(frozen=True, slots=True)
class SocketEvent:
    """Something that the owner of the client's socket did, or was told.

    Attributes:
        at_ns: when, in nanoseconds since 1970.
        note: one of the notes for events of a socket.
        state: what the kernel called the client's state after it.
        payload: bytes that were sent or came, all of them or their beginning; `size` how many
            there were.
        reason: of `FAILED`, what it was where there is a note for that: `REFUSED`, `RESET`.
    """

    at_ns: int
    note: Note
    state: TcpState
    payload: bytes = b""
    size: int = 0
    reason: Note | None = None


def state_named(name: str) -> TcpState:
    """The state that `TcpInfo.state` names; `CLOSED` for one that it does not know."""
    return _STATES.get(name, TcpState.CLOSED)


def socket_steps(events: Sequence[SocketEvent]) -> tuple[Step, ...]:
    """The steps that these events are, in their order."""
    steps: list[Step] = []
    server = TcpState.LISTEN
    # Who has closed its socket does not come back: the kernel says CLOSED of TIME-WAIT too.
    server_ended_first = client_ended = False
    for event in events:
        client = event.state
        if event.note is Note.END_RECEIVED or client in (TcpState.CLOSE_WAIT, TcpState.LAST_ACK):
            server_ended_first = server_ended_first or not client_ended
        if event.note is Note.TIMEOUT and client is TcpState.SYN_SENT:
            client = TcpState.CLOSED
        if event.note is Note.CLOSED_HERE:
            client_ended = True
        ended = event.note in (Note.END_RECEIVED, Note.CLOSED_HERE)
        if client is TcpState.CLOSED and ended and event.reason is None:
            client = TcpState.CLOSED if server_ended_first else TcpState.TIME_WAIT
        if client is TcpState.CLOSED:
            server = TcpState.TIME_WAIT if server_ended_first and ended else TcpState.CLOSED
        else:
            server = _SERVERS.get(client, server)
        theirs = event.note in (Note.RECEIVED, Note.END_RECEIVED)
        steps.append(
            Step(
                at=(event.at_ns - events[0].at_ns) / 1e9,
                side=Side.SERVER if theirs else Side.CLIENT,
                note=event.note,
                size=event.size,
                payload=event.payload[:KEPT_PAYLOAD],
                client_state=client,
                server_state=server,
                extra=frozenset() if event.reason is None else frozenset({event.reason}),
            )
        )
    return tuple(steps)


def socket_outcome(events: Sequence[SocketEvent]) -> Outcome:
    """How it ended."""
    notes = {event.note for event in events}
    reasons = {event.reason for event in events}
    if Note.TIMEOUT in notes:
        return Outcome.TIMEOUT
    if Note.REFUSED in reasons:
        return Outcome.REFUSED
    if Note.RESET in reasons:
        return Outcome.RESET
    if Note.FAILED in notes:
        return Outcome.UNREACHABLE
    over = {Note.CLOSED_HERE, Note.END_RECEIVED} <= notes
    return Outcome.CLOSED if over else Outcome.STILL_OPEN
