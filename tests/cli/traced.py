"""Traces made by hand, one for each thing that a picture must show."""

from __future__ import annotations

from typing import Any

from tieline.address import Address
from tieline.trace import Note, Outcome, Side, Source, Step, TcpState, Trace

__all__ = ["EVIL", "TRACES", "segment", "trace_of"]

CLIENT, SERVER = Side.CLIENT, Side.SERVER
ESTABLISHED = TcpState.ESTABLISHED

#: What a terminal or a page might obey.
EVIL = b'\x1b[31m</text><script>\xe2\x80\xae\x07\r\n"\x00\xff'


def segment(
    microseconds: int,
    side: Side,
    note: Note,
    flags: str,
    numbers: tuple[int, int | None],
    states: tuple[TcpState, TcpState],
    payload: bytes = b"",
    *extra: Note,
    **more: Any,
) -> Step:
    """A step of a capture."""
    return Step(
        at=microseconds / 1e6, side=side, note=note, flags=flags, sequence=numbers[0],
        acknowledgement=numbers[1], size=len(payload), payload=payload, window=65_536,
        client_state=states[0], server_state=states[1], extra=frozenset(extra), **more,
    )  # fmt: skip


def trace_of(*steps: Step, **attributes: Any) -> Trace:
    """A trace of these steps."""
    given: dict[str, Any] = {
        "client": Address("127.0.0.1", 53124), "server": Address("127.0.0.1", 7788),
        "source": Source.CAPTURE, "started_at": 1_700_000_000.0, "outcome": Outcome.CLOSED,
        **attributes,
    }  # fmt: skip
    return Trace(steps=steps, **given)


_BOTH = (ESTABLISHED, ESTABLISHED)

_OPENING = (
    segment(0, CLIENT, Note.SYN, "SYN", (0, None), (TcpState.SYN_SENT, TcpState.SYN_RECEIVED)),
    segment(21, SERVER, Note.SYN_ACK, "SYN ACK", (0, 1), (ESTABLISHED, TcpState.SYN_RECEIVED)),
    segment(33, CLIENT, Note.HANDSHAKE_ACK, "ACK", (1, 1), _BOTH),
)

_ASKED = (
    segment(120, CLIENT, Note.DATA, "PSH ACK", (1, 1), _BOTH, "你好".encode("gbk")),
    segment(131, SERVER, Note.ACK, "ACK", (1, 5), _BOTH),
)

_ANSWERED = (
    segment(450, SERVER, Note.DATA, "PSH ACK", (1, 5), _BOTH, b"thank you !"),
    segment(462, CLIENT, Note.ACK, "ACK", (5, 12), _BOTH),
)


def _first_fin(*extra: Note) -> tuple[Step, ...]:
    waiting = (TcpState.FIN_WAIT_1, TcpState.CLOSE_WAIT)
    confirmed = (TcpState.FIN_WAIT_2, TcpState.CLOSE_WAIT)
    return (
        segment(600, CLIENT, Note.FIN, "FIN ACK", (5, 12), waiting, b"", *extra),
        segment(640, SERVER, Note.FIN_ACK_OF_PEER, "ACK", (12, 6), confirmed),
    )


_SECOND_FIN = (
    segment(
        2_900, SERVER, Note.FIN, "FIN ACK", (12, 6), (TcpState.TIME_WAIT, TcpState.LAST_ACK)
    ),
    segment(
        2_915, CLIENT, Note.FIN_ACK_OF_PEER, "ACK", (6, 13),
        (TcpState.TIME_WAIT, TcpState.CLOSED),
    ),
)  # fmt: skip

_SHORT = (*_OPENING, *_ASKED, *_ANSWERED, *_first_fin(), *_SECOND_FIN)

_LATE = (TcpState.FIN_WAIT_2, TcpState.CLOSE_WAIT)

_CLOSED = (TcpState.CLOSED, TcpState.CLOSED)


def _syn(seconds: int, **more: Any) -> Step:
    note = Note.RETRANSMISSION if more else Note.SYN
    states = (TcpState.SYN_SENT, TcpState.LISTEN)
    return segment(
        seconds * 1_000_000, CLIENT, note, "SYN", (0, None), states, b"", Note.LOST, **more
    )


def _event(microseconds: int, note: Note, state: TcpState, payload: bytes = b"") -> Step:
    side = SERVER if note in (Note.RECEIVED, Note.END_RECEIVED) else CLIENT
    return Step(
        at=microseconds / 1e6, side=side, note=note, size=len(payload), payload=payload,
        client_state=state,
    )  # fmt: skip


TRACES = {
    "short": trace_of(*_SHORT),
    "fin and ack in one": trace_of(
        *_OPENING,
        segment(
            60, SERVER, Note.FIN, "FIN ACK", (1, 1),
            (TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_1),
        ),
        segment(
            70, CLIENT, Note.FIN, "FIN ACK", (1, 2), (TcpState.LAST_ACK, TcpState.TIME_WAIT),
            b"", Note.FIN_ACK_OF_PEER,
        ),
        segment(
            72, SERVER, Note.FIN_ACK_OF_PEER, "ACK", (2, 2),
            (TcpState.CLOSED, TcpState.TIME_WAIT),
        ),
    ),
    "refused": trace_of(
        segment(0, CLIENT, Note.SYN, "SYN", (0, None), (TcpState.SYN_SENT, TcpState.CLOSED)),
        segment(11, SERVER, Note.REFUSED, "RST ACK", (0, 1), _CLOSED),
        outcome=Outcome.REFUSED,
    ),
    "silence": trace_of(
        _syn(0), _syn(1, repeated=True),
        Step(at=2.0, side=CLIENT, note=Note.TIMEOUT, client_state=TcpState.CLOSED),
        outcome=Outcome.TIMEOUT,
    ),
    "no reply": trace_of(
        *_OPENING, *_ASKED,
        Step(
            at=1.0, side=CLIENT, note=Note.TIMEOUT, client_state=ESTABLISHED,
            server_state=ESTABLISHED,
        ),
        outcome=Outcome.TIMEOUT,
    ),
    "loss and reset": trace_of(
        *_OPENING,
        segment(100, CLIENT, Note.DATA, "PSH ACK", (1, 1), _BOTH, EVIL, Note.LOST),
        segment(
            203_000, CLIENT, Note.RETRANSMISSION, "PSH ACK", (1, 1), _BOTH, EVIL, Note.DATA,
            repeated=True,
        ),
        segment(203_020, SERVER, Note.DUPLICATE_ACK, "ACK", (1, 1), _BOTH),
        segment(203_500, SERVER, Note.RESET, "RST ACK", (1, 24), _CLOSED),
        outcome=Outcome.RESET,
    ),
    "half-close": trace_of(
        *_OPENING, *_ASKED, *_first_fin(Note.HALF_CLOSE),
        segment(800, SERVER, Note.DATA, "PSH ACK", (1, 6), _LATE, ("收到：" * 30).encode("gbk")),
        segment(900, CLIENT, Note.ACK, "ACK", (6, 181), _LATE),
        *_SECOND_FIN,
    ),
    "crossing": trace_of(
        *_OPENING,
        segment(
            300, CLIENT, Note.FIN, "FIN ACK", (1, 1), (TcpState.FIN_WAIT_1, ESTABLISHED),
            b"", Note.SIMULTANEOUS_CLOSE,
        ),
        segment(
            302, SERVER, Note.FIN, "FIN ACK", (1, 1), (TcpState.CLOSING, TcpState.FIN_WAIT_1),
            b"", Note.SIMULTANEOUS_CLOSE,
        ),
        segment(
            310, SERVER, Note.FIN_ACK_OF_PEER, "ACK", (2, 2),
            (TcpState.TIME_WAIT, TcpState.CLOSING),
        ),
        segment(
            312, CLIENT, Note.FIN_ACK_OF_PEER, "ACK", (2, 2),
            (TcpState.TIME_WAIT, TcpState.TIME_WAIT),
        ),
    ),
    "windows": trace_of(
        *_OPENING,
        segment(200, SERVER, Note.ZERO_WINDOW, "ACK", (1, 9), _BOTH),
        segment(300, CLIENT, Note.KEEPALIVE, "ACK", (0, 1), _BOTH),
        segment(400, SERVER, Note.WINDOW_UPDATE, "ACK", (1, 9), _BOTH),
        outcome=Outcome.STILL_OPEN,
    ),
    "socket alone": trace_of(
        _event(0, Note.CONNECT_CALLED, TcpState.SYN_SENT),
        _event(40, Note.CONNECTED, ESTABLISHED),
        _event(90, Note.SENT, ESTABLISHED, "你好".encode()),
        _event(400, Note.RECEIVED, ESTABLISHED, b"thank you !"),
        _event(500, Note.END_RECEIVED, TcpState.CLOSE_WAIT),
        _event(600, Note.CLOSED_HERE, TcpState.LAST_ACK),
        source=Source.SOCKET, why_not_captured="not asked for",
    ),
    "long names": trace_of(
        *_SHORT,
        client=Address("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", 65_535),
        server=Address("2001:db8:1111:2222:3333:4444:5555:6666", 65_535),
    ),
    "nothing": trace_of(outcome=Outcome.STILL_OPEN),
}  # fmt: skip
