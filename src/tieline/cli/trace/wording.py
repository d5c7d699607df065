"""What is said of a step: its label on the arrow, remarks below it, and what it means.

`moments_of` walks through a trace and tells each step's part in the story, for which the flags
alone are not enough: the second FIN means something else than the first.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from ...trace.model import Note, Side, Source, Step, TcpState, Trace
from ..translation import N_, ngettext
from ..translation import gettext as _

__all__ = [
    "Moment", "Part", "duration", "event_label", "meaning", "moments_of", "part_title", "remarks",
    "segment_label", "sender_of", "size_text",
]  # fmt: skip


class Part(enum.Enum):
    """The three parts of a connection's life."""

    OPENING = "opening"
    EXCHANGE = "exchange"
    CLOSING = "closing"


class Moment(enum.Enum):
    """A step's part in the story. The values are what `--explain` says of it."""

    SYN = N_(
        "The client asks to open a connection and says where its count of bytes begins. Its "
        "`connect` waits. First of the three-way handshake."
    )
    SYN_ACK = N_(
        "The server's kernel agrees and says where its own count begins; its program need only "
        "have called `listen`. The client's `connect` returns. Second of three."
    )
    SYN_ACK_CROSSING = N_(
        "Both sides asked at the same time, and each agrees. One connection comes of it, not two."
    )
    HANDSHAKE_ACK = N_(
        "Now both know that they are heard. `accept` gives the server's program a new socket for "
        "this client. Third of three: a round trip is paid, and no data has gone yet."
    )
    DATA = N_(
        "{size} of data. TCP is a stream without messages: one `recv` may get all of it, a part, "
        "or more."
    )
    REPLY = N_("{size} back, and in the same packet the confirmation of what had come.")
    MORE_DATA = N_("{size} more of the same stream.")
    ACK = N_(
        "All bytes before number {acknowledgement} have reached this kernel. Its program may not "
        "have read them yet."
    )
    MORE_ACK = N_("Confirmed: all bytes before number {acknowledgement}.")
    FIN = N_(
        "No more from this side: its program called `close` or `shutdown`. The other side's "
        "`recv` gives nothing, zero bytes, and so its program sees the end; no empty message was "
        "sent. First of the four-way close."
    )
    FIN_CONFIRMED = N_(
        "That direction's end is confirmed. The other is still open: a side in CLOSE-WAIT may go "
        "on sending until its program closes too. Second of four."
    )
    SECOND_FIN = N_("The other side has no more to send either, and closes. Third of four.")
    SECOND_FIN_AT_ONCE = N_(
        "Confirms the other's end and ends its own direction, in one packet: second and third of "
        "four."
    )
    LAST_ACK = N_(
        "Both ends are confirmed: fourth of four. Who closed first stays in TIME-WAIT, a minute "
        "on Linux. Should this packet be lost, the FIN comes again and must be answered; and no "
        "late packet may get into a new connection of the same ports. So many short connections "
        "run out of ports."
    )
    CROSSING_FIN = N_(
        "Both closed before either heard that the other had: the two FINs cross on the way."
    )
    CROSSING_ACK = N_(
        "The answer to the FIN that crossed its own. From CLOSING it goes to TIME-WAIT; both "
        "closed first, and so both stay there for a minute."
    )
    HALF_CLOSE = N_(
        "A half-close (`shutdown`): no more from this side, but it reads on. The other side sees "
        "the end of what it reads, and may still answer."
    )
    RESET = N_(
        "A reset: both directions are void at once. Bytes on the way or not yet read are lost, "
        "the other side's `recv` fails, and nobody stays in TIME-WAIT."
    )
    REFUSED = N_(
        "The machine is there, but nothing listens on this port: `connect` fails at once with "
        '"connection refused".'
    )
    AGAIN = N_(
        "Nobody had confirmed it in time, so the kernel sends it again. No program has to do "
        "anything for that."
    )
    LOST = N_(
        "It was lost on the way, or its confirmation was: the sender cannot know which, waits, "
        "and sends it again."
    )
    LOST_AGAIN = N_(
        "Once more, and again nobody confirms it. The kernel goes on trying, with longer and "
        "longer pauses."
    )
    DUPLICATE_ACK = N_(
        "Something came, but not byte {acknowledgement}, which is next. After three of these the "
        "other side sends the missing piece without waiting for its clock."
    )
    ZERO_WINDOW = N_(
        "No room: the program here does not read. The other side has to stop, and its `send` will "
        "block."
    )
    WINDOW_UPDATE = N_("There is room again: the other side may go on.")
    KEEPALIVE = N_(
        "An old byte number, which a living kernel must answer: so a silent peer is told from one "
        "that is gone."
    )
    TIMEOUT = N_(
        "No answer in time. Nobody is there, or packets are thrown away on the way: silence does "
        "not say which. Without a limit the waiting would go on for minutes."
    )
    NO_REPLY = N_(
        "No reply in time: the connection stands, and the program over there says nothing. TCP "
        "sets no limit to that; only a program's own clock does."
    )
    CONNECT_CALLED = N_(
        "`connect`: the kernel sends a SYN and waits. The packets of the three-way handshake "
        "could not be seen."
    )
    CONNECTED = N_(
        "`connect` returns: the SYN ACK came and was confirmed. Both know that they are heard."
    )
    SENT = N_(
        "`send` returns when this kernel has the bytes: not when they arrived, and not when they "
        "were read."
    )
    RECEIVED = N_("`recv` gives {size}: a message, a part of one, or more than one.")
    END_RECEIVED = N_(
        "`recv` gives nothing, zero bytes: the other side has closed, and its FIN is here. No "
        "empty message was sent."
    )
    CLOSED_HERE = N_(
        "`close`: the kernel sends a FIN. A side that closes first stays in TIME-WAIT, a minute "
        "on Linux."
    )
    FAILED = N_("The call failed: this connection is over.")


_EVENTS = {
    Note.CONNECT_CALLED: (Moment.CONNECT_CALLED, N_("connect")),
    Note.CONNECTED: (Moment.CONNECTED, N_("connected")),
    Note.SENT: (Moment.SENT, N_("send: {size}")),
    Note.RECEIVED: (Moment.RECEIVED, N_("recv: {size}")),
    Note.END_RECEIVED: (Moment.END_RECEIVED, N_("recv: nothing, the end")),
    Note.CLOSED_HERE: (Moment.CLOSED_HERE, N_("close")),
    Note.FAILED: (Moment.FAILED, N_("failed")),
    Note.TIMEOUT: (Moment.TIMEOUT, N_("no answer")),
    Note.RESET: (Moment.RESET, N_("reset")),
    Note.REFUSED: (Moment.REFUSED, N_("refused")),
    Note.HALF_CLOSE: (Moment.HALF_CLOSE, N_("shutdown: half-close")),
}

#: What stands below an arrow, in this order, where a step is more than its flags say.
_REMARKS = {
    Note.REFUSED: N_("refused: nothing listens there"),
    Note.RESET: N_("reset: cut off"),
    Note.RETRANSMISSION: N_("sent again"),
    Note.LOST: N_("never confirmed: lost"),
    Note.HALF_CLOSE: N_("half-close: reads on"),
    Note.SIMULTANEOUS_CLOSE: N_("both close at once"),
    Note.KEEPALIVE: N_("keep-alive: still there?"),
    Note.DUPLICATE_ACK: N_("the same ACK again"),
    Note.ZERO_WINDOW: N_("no more room: stop"),
    Note.WINDOW_UPDATE: N_("room again: go on"),
    Note.TIMEOUT: N_("no answer"),
}

#: Those of which only one is said: a special kind of ACK is no other one.
_MOMENTS = (
    (Note.TIMEOUT, Moment.TIMEOUT),
    (Note.REFUSED, Moment.REFUSED),
    (Note.RESET, Moment.RESET),
    (Note.LOST, Moment.LOST),
    (Note.RETRANSMISSION, Moment.AGAIN),
    (Note.KEEPALIVE, Moment.KEEPALIVE),
    (Note.ZERO_WINDOW, Moment.ZERO_WINDOW),
    (Note.WINDOW_UPDATE, Moment.WINDOW_UPDATE),
    (Note.DUPLICATE_ACK, Moment.DUPLICATE_ACK),
)


def moments_of(trace: Trace) -> Iterator[tuple[Step, Part, Moment]]:
    """Each step with the part of the connection's life that it belongs to, and its moment."""
    story = _Story()
    for step in trace.steps:
        part, moment = story.next(step)
        yield step, part, moment


class _Story:
    """What has happened so far."""

    def __init__(self) -> None:
        self._part = Part.OPENING
        self._asked: set[Side] = set()
        self._spoken: set[Side] = set()
        self._ended: list[Side] = []
        self._states: dict[Side, TcpState] = {}
        self._confirmed = False
        self._crossed = False

    def next(self, step: Step) -> tuple[Part, Moment]:
        """The part and the moment of the next step."""
        moment = self._moment(step)
        if _ends(step) and self._part is not Part.OPENING:
            self._part = Part.CLOSING
        part = self._part
        established = TcpState.ESTABLISHED
        if part is Part.OPENING and established is step.client_state is step.server_state:
            self._part = Part.EXCHANGE
        if step.note is Note.CONNECTED:
            self._part = Part.EXCHANGE
        self._states = {Side.CLIENT: step.client_state, Side.SERVER: step.server_state}
        return part, moment

    def _moment(self, step: Step) -> Moment:
        if not step.is_segment and step.note in _EVENTS:
            waited = step.note is Note.TIMEOUT and self._part is not Part.OPENING
            return Moment.NO_REPLY if waited else _EVENTS[step.note][0]
        special = [moment for note, moment in _MOMENTS if note in _notes(step)]
        normal = self._segment(step)
        if special[:1] == [Moment.LOST] and Moment.AGAIN in special:
            return Moment.LOST_AGAIN
        return special[0] if special else normal

    def _segment(self, step: Step) -> Moment:
        """The moment of a segment that is nothing special, by its flags and what came before."""
        flags = step.flags.split()
        if "RST" in flags:
            return Moment.RESET
        if "SYN" in flags:
            crossing = step.side.other in self._asked and step.side in self._asked
            self._asked.add(step.side)
            if "ACK" in flags:
                return Moment.SYN_ACK_CROSSING if crossing else Moment.SYN_ACK
            return Moment.SYN
        if "FIN" in flags:
            return self._end(step)
        if step.size:
            first = step.side not in self._spoken
            self._spoken.add(step.side)
            answers = step.side.other in self._spoken
            return Moment.MORE_DATA if not first else Moment.REPLY if answers else Moment.DATA
        return self._confirmation(step)

    def _end(self, step: Step) -> Moment:
        first = not self._ended
        if step.side not in self._ended:
            self._ended.append(step.side)
        if Note.SIMULTANEOUS_CLOSE in _notes(step):
            self._crossed = True
            return Moment.CROSSING_FIN
        if Note.HALF_CLOSE in _notes(step):
            return Moment.HALF_CLOSE
        if first:
            return Moment.FIN
        # A FIN that nobody had confirmed before is confirmed by this one.
        waiting = self._states.get(step.side.other) is TcpState.FIN_WAIT_1
        return Moment.SECOND_FIN_AT_ONCE if waiting else Moment.SECOND_FIN

    def _confirmation(self, step: Step) -> Moment:
        if self._part is Part.OPENING:
            return Moment.HANDSHAKE_ACK
        if Note.FIN_ACK_OF_PEER not in _notes(step):
            first, self._confirmed = not self._confirmed, True
            return Moment.ACK if first else Moment.MORE_ACK
        if self._crossed:
            return Moment.CROSSING_ACK
        if len(self._ended) > 1:
            return Moment.LAST_ACK
        return Moment.FIN_CONFIRMED


def sender_of(step: Step) -> Side:
    """From whose side something went: what a client's program is given, the server has sent."""
    given = {Note.CONNECTED, Note.RECEIVED, Note.END_RECEIVED}
    return step.side if step.is_segment or step.note not in given else Side.SERVER


def _notes(step: Step) -> frozenset[Note]:
    again = {Note.RETRANSMISSION} if step.repeated else set()
    return step.extra | {step.note} | again


def _ends(step: Step) -> bool:
    """Whether the closing begins with this step."""
    closing = {Note.CLOSED_HERE, Note.END_RECEIVED, Note.FAILED, Note.RESET, Note.FIN}
    return bool({"FIN", "RST"} & set(step.flags.split())) or step.note in closing


def meaning(moment: Moment, step: Step) -> str:
    """What `--explain` says of a step."""
    return _(moment.value).format(size=size_text(step.size), acknowledgement=step.acknowledgement)


def remarks(step: Step) -> list[str]:
    """What a step is beyond its flags, shortly."""
    if not step.is_segment:
        return []
    notes = _notes(step)
    if Note.REFUSED in notes:
        notes -= {Note.RESET}
    return [_(text) for note, text in _REMARKS.items() if note in notes]


def segment_label(step: Step, *, brief: bool = False) -> str:
    """The flags and numbers of a segment, as all tools write them; brief: the most needed."""
    words = [step.flags]
    if step.sequence is not None:
        words.append(f"seq={step.sequence}")
    if step.acknowledgement is not None and not brief:
        words.append(f"ack={step.acknowledgement}")
    if step.size and not brief:
        words.append(f"len={step.size}")
    return " ".join(words)


def event_label(step: Step) -> str:
    """What a program did with its socket."""
    if step.note is Note.FAILED:
        known = [_(text) for note, text in _REMARKS.items() if step.shows(note)]
        return ", ".join(known) or _(_EVENTS[step.note][1])
    text = _EVENTS[step.note][1] if step.note in _EVENTS else step.note.value
    return _(text).format(size=size_text(step.size))


def part_title(part: Part, source: Source, count: int) -> str:
    """A part's name and how many steps it took."""
    names = {
        Part.OPENING: N_("opening"),
        Part.EXCHANGE: N_("exchange"),
        Part.CLOSING: N_("closing"),
    }
    if source is Source.SOCKET:
        return _(names[part])
    text = ngettext("{part}: {count} packet", "{part}: {count} packets", count)
    return text.format(part=_(names[part]), count=count)


def size_text(size: int) -> str:
    """So many bytes."""
    return ngettext("{count} byte", "{count} bytes", size).format(count=size)


def duration(seconds: float, *, plain: bool = False) -> str:
    """A short time as people read it: `24 µs`, `1.3 ms`, `2.05 s`."""
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.0f} {'us' if plain else 'µs'}"
    for factor, unit in ((1e3, "ms"), (1, "s")):
        value = seconds * factor
        if value < 999.5 or unit == "s":
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    raise AssertionError("there is a unit for every time")
