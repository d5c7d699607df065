"""What a trace is: the steps of one connection, in order, and how it ended.

Nothing here knows where the steps came from. `following` makes them from captured packets,
`sockets_only` from what a program can see of its own socket; a picture is drawn from either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from ..address import Address
from ..errors import TielineError
from ..tcp_info import TcpInfo

__all__ = [
    "KEPT_PAYLOAD",
    "Dropped",
    "Note",
    "Outcome",
    "Packet",
    "Side",
    "Source",
    "Step",
    "TcpState",
    "Trace",
]

#: Bytes of a step's payload that are kept, from its beginning.
KEPT_PAYLOAD = 256


class Side(StrEnum):
    """Who sent a segment, or did something with its socket."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def other(self) -> Side:
        """Who it was sent to."""
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


class TcpState(StrEnum):
    """What one side of a connection is in, by the names of RFC 9293, 3.3.2."""

    CLOSED = "CLOSED"
    LISTEN = "LISTEN"
    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"


class Note(StrEnum):
    """What kind of step it is. A step has one as its `note`, and may have more as `extra`.

    `SYN` to `HALF_CLOSE` are segments; the rest is what a program sees of its own socket, for
    traces without a capture. `TIMEOUT` and `FAILED` are in both: the client gave up.

    A segment that is sent again has `RETRANSMISSION` as its note, and what it is as an extra. One
    that did not arrive has `LOST` as an extra. A FIN that answers another has `FIN_ACK_OF_PEER` as
    an extra, one after which the other side still sends `HALF_CLOSE`, two that crossed
    `SIMULTANEOUS_CLOSE`.
    """

    SYN = "syn"
    SYN_ACK = "syn_ack"
    HANDSHAKE_ACK = "handshake_ack"
    DATA = "data"
    ACK = "ack"
    FIN = "fin"
    FIN_ACK_OF_PEER = "fin_ack_of_peer"
    RETRANSMISSION = "retransmission"
    RESET = "reset"
    REFUSED = "refused"
    LOST = "lost"
    KEEPALIVE = "keepalive"
    WINDOW_UPDATE = "window_update"
    ZERO_WINDOW = "zero_window"
    DUPLICATE_ACK = "duplicate_ack"
    SIMULTANEOUS_CLOSE = "simultaneous_close"
    HALF_CLOSE = "half_close"
    TIMEOUT = "timeout"

    CONNECT_CALLED = "connect_called"
    CONNECTED = "connected"
    SENT = "sent"
    RECEIVED = "received"
    END_RECEIVED = "end_received"
    CLOSED_HERE = "closed_here"
    FAILED = "failed"


class Source(StrEnum):
    """Where the steps of a trace come from."""

    CAPTURE = "capture"
    SOCKET = "socket"


class Outcome(StrEnum):
    """How the connection ended, as far as it was watched.

    `TIMEOUT`: nobody answered, or not in time. `UNREACHABLE`: the network said that there is no
    way. `STILL_OPEN`: the watching ended first.
    """

    CLOSED = "closed"
    RESET = "reset"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    STILL_OPEN = "still_open"


@dataclass(frozen=True, slots=True)
class Packet:
    """Bytes as they were captured.

    Attributes:
        at_ns: when, in nanoseconds since 1970.
        data: all of it, from its IP header on, whatever link it went over.
        outgoing: whether this machine sent it; `None` where nobody knows.
    """

    at_ns: int
    data: bytes
    outgoing: bool | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One segment, or one event of a socket.

    Attributes:
        at: seconds since the first step.
        side: who sent it, or whose socket it was.
        note: what kind of step it is.
        flags: the flags that are set, as in "SYN ACK"; empty for events of a socket.
        sequence: number of the first byte, relative to the side's own SYN, which is 0; `None`
            for events of a socket.
        acknowledgement: number of the next byte that is expected of the other side; `None`
            without the ACK flag.
        size: bytes of payload.
        payload: the first `KEPT_PAYLOAD` of them.
        window: bytes that the sender will take, scaled where the scale is known.
        options: the TCP options: "mss=1460", "sack", "ts", "wscale=7"...
        client_state: the client's state after this step, and `server_state` the server's. A
            segment has arrived "after this step", unless it is lost or what follows shows that it
            was still on its way. Of a server that never says anything, `LISTEN` is a guess.
        repeated: whether it had been sent before.
        extra: what else is to be said of it.
    """

    at: float
    side: Side
    note: Note
    flags: str = ""
    sequence: int | None = None
    acknowledgement: int | None = None
    size: int = 0
    payload: bytes = b""
    window: int | None = None
    options: tuple[str, ...] = ()
    client_state: TcpState = TcpState.CLOSED
    server_state: TcpState = TcpState.LISTEN
    repeated: bool = False
    extra: frozenset[Note] = frozenset()

    @property
    def is_segment(self) -> bool:
        """Whether it is a segment on the wire, not an event of a socket."""
        return self.sequence is not None

    def shows(self, note: Note) -> bool:
        """Whether this is said of the step, in its note or besides."""
        return note is self.note or note in self.extra


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a capture did not show.

    Attributes:
        by_kernel: packets that the kernel had no room for.
        malformed: packets that could not be read, and were left out.
        over_limit: packets that came after the trace was full.
    """

    by_kernel: int = 0
    malformed: int = 0
    over_limit: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.by_kernel + self.malformed + self.over_limit


@dataclass(frozen=True, slots=True)
class Trace:
    """One connection, from its first step to its last one seen.

    Attributes:
        steps: in order of time.
        client: the address that connected, and `server` the one that it connected to.
        source: whether the steps are captured packets, or what a socket's owner saw of it.
        why_not_captured: where nothing was captured, why not: a short English phrase.
        started_at: the first step's time, in seconds since 1970.
        outcome: how it ended.
        facts: what the client's kernel knew of the connection at its end; `None` where it could not
            be asked.
        packets: what was captured, for a file that other tools read; empty without a capture.
        dropped: what the capture did not show.
        reply: what the server had sent in answer when the reply was whole or the waiting for it
            ended; empty where somebody else's connection was watched.
        failure: why there was no connection or no whole reply, where there was none.
    """

    steps: tuple[Step, ...]
    client: Address
    server: Address
    source: Source
    started_at: float
    outcome: Outcome
    why_not_captured: str | None = None
    facts: TcpInfo | None = None
    packets: tuple[Packet, ...] = ()
    dropped: Dropped = field(default_factory=Dropped)
    reply: bytes = b""
    failure: TielineError | None = None
