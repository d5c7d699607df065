"""The rows of a ladder, from top to bottom: what the terminal's and the SVG's picture share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ...trace.model import Note, Outcome, Side, Step, TcpState, Trace
from ..translation import gettext as _
from .wording import (
    Part,
    event_label,
    meaning,
    moments_of,
    part_title,
    remarks,
    segment_label,
    sender_of,
)

__all__ = ["Row", "Tone", "first_states", "rows_of"]


#: What a program does with its socket that makes packets go, and what it sees when they come.
_OUTGOING = frozenset({Note.CONNECT_CALLED, Note.SENT, Note.CLOSED_HERE, Note.HALF_CLOSE})
_INCOMING = frozenset({Note.CONNECTED, Note.RECEIVED, Note.END_RECEIVED})


_CLOSING = TcpState.CLOSING.value


class Tone:
    """What a row's colour says."""

    OPENING = "opening"
    DATA = "data"
    CONFIRMED = "confirmed"
    CLOSING = "closing"
    TROUBLE = "trouble"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a ladder: an arrow, two that cross, or an event at one side.

    Attributes:
        step: what is drawn.
        crossing: the other side's step, where two cross on the way.
        label: what stands on the arrow; with `crossing`, `crossing_label` on the other.
        tone: one of `Tone`.
        after: seconds since the row before; `None` for the first.
        title: what part of the connection's life begins here, in words; empty: none does.
        client: the client's new state, and `server` the server's; empty: as before.
        remarks: what it is beyond its flags.
        preview: the beginning of its data, safe to show.
        meaning: what `--explain` says, a paragraph each; empty without it.
    """

    step: Step
    label: str
    tone: str
    after: float | None
    crossing: Step | None = None
    crossing_label: str = ""
    title: str = ""
    client: str = ""
    server: str = ""
    remarks: tuple[str, ...] = ()
    preview: str = ""
    meaning: tuple[str, ...] = ()

    @property
    def is_event(self) -> bool:
        """Whether it is something that happened at one side alone, and nothing passed."""
        return not self.step.is_segment and self.step.note not in _OUTGOING | _INCOMING

    @property
    def sender(self) -> Side:
        """From whose side the arrow goes."""
        return sender_of(self.step)

    @property
    def is_lost(self) -> bool:
        """Whether the packet did not arrive, as far as anybody knows."""
        return self.step.shows(Note.LOST)


def first_states(trace: Trace) -> tuple[str, str]:
    """Both sides' states before anything happened."""
    server = TcpState.CLOSED if trace.outcome is Outcome.REFUSED else TcpState.LISTEN
    return TcpState.CLOSED.value, server.value if _server_is_seen(trace) else _("(not seen)")


def _server_is_seen(trace: Trace) -> bool:
    # Of the other side a socket's owner sees nothing, and nobody sees a machine that is silent:
    # a state would be a guess.
    return any(step.is_segment and step.side is Side.SERVER for step in trace.steps)


def rows_of(trace: Trace, preview: Callable[[Step], str], *, explain: bool = False) -> list[Row]:
    """The rows of a trace.

    Args:
        trace: what happened.
        preview: makes a step's data readable and safe.
        explain: whether each row says what it means.
    """
    told = list(moments_of(trace))
    counts = Counter(part for step, part, _moment in told if step.is_segment)
    rows: list[Row] = []
    states, seen = first_states(trace), _server_is_seen(trace)
    part_before: Part | None = None
    before: float | None = None
    crossed = False
    for number, (step, part, moment) in enumerate(told):
        if crossed:
            # It was drawn with the one before.
            crossed = False
            continue
        other = told[number + 1] if number + 1 < len(told) else None
        partner = other[0] if other is not None and _cross(step, other[0]) else None
        crossed = partner is not None
        shown = partner or step
        # Whose FIN has gone already, and who now gets one that does not confirm it, is CLOSING:
        # the step of the second one comes before it has arrived.
        new = (_CLOSING, _CLOSING) if partner else _states(shown, seen)
        brief = partner is not None
        rows.append(
            Row(
                step=step,
                crossing=partner,
                label=segment_label(step, brief=brief) if step.is_segment else event_label(step),
                crossing_label=segment_label(partner, brief=True) if partner else "",
                tone=_tone(step, part),
                after=None if before is None else step.at - before,
                title=part_title(part, trace.source, counts[part]) if part != part_before else "",
                client=new[0] if new[0] != states[0] else "",
                server=new[1] if new[1] != states[1] else "",
                remarks=tuple(remarks(step)),
                preview=preview(step) if step.size else "",
                meaning=(meaning(moment, step),) if explain else (),
            )
        )
        states, part_before, before = new, part, shown.at
    return rows


def _states(step: Step, server_is_seen: bool) -> tuple[str, str]:
    return step.client_state.value, step.server_state.value if server_is_seen else _("(not seen)")


def _cross(step: Step, other: Step) -> bool:
    """Whether two steps are FINs that pass each other on the way."""
    return all("FIN" in each.flags.split() for each in (step, other)) and (
        step.side is not other.side
        and step.shows(Note.SIMULTANEOUS_CLOSE)
        and other.shows(Note.SIMULTANEOUS_CLOSE)
        and not step.size
        and not other.size
    )


_TROUBLE = {
    Note.RESET, Note.REFUSED, Note.RETRANSMISSION, Note.LOST, Note.TIMEOUT, Note.ZERO_WINDOW,
    Note.FAILED, Note.DUPLICATE_ACK,
}  # fmt: skip


def _tone(step: Step, part: Part) -> str:
    if step.repeated or _TROUBLE & (step.extra | {step.note}) or "RST" in step.flags.split():
        return Tone.TROUBLE
    if step.shows(Note.SENT) or step.shows(Note.RECEIVED):
        return Tone.DATA
    if step.size and not {"SYN", "FIN"} & set(step.flags.split()):
        return Tone.DATA
    if part is Part.EXCHANGE:
        return Tone.CONFIRMED
    return Tone.OPENING if part is Part.OPENING else Tone.CLOSING
