"""What stands above and below a ladder: whose connection it was, how it ended, what it took."""

from __future__ import annotations

from ...trace.model import Note, Outcome, Side, Source, TcpState, Trace
from ..translation import N_, ngettext
from ..translation import gettext as _
from ..visible import visible
from .wording import duration, sender_of, size_text

__all__ = ["closing_lines", "opening_line", "time_wait_holders"]

_OUTCOMES = {
    Outcome.CLOSED: N_("closed after {time}: {count} to the server, {back} back"),
    Outcome.RESET: N_("reset after {time}: {count} to the server, {back} back"),
    Outcome.REFUSED: N_("refused after {time}: nothing listens on {server}"),
    Outcome.TIMEOUT: N_("given up after {time}: {count} to the server, {back} back"),
    Outcome.UNREACHABLE: N_("failed after {time}: the network knows no way to {server}"),
    Outcome.STILL_OPEN: N_("still open after {time}: {count} to the server, {back} back"),
}


def opening_line(trace: Trace) -> str:
    """Which connection, and where the picture comes from."""
    if not trace.steps:
        return _("there was nothing to see")
    if trace.source is Source.CAPTURE:
        return _("from a capture: every packet as it passed this machine")
    why = trace.why_not_captured
    text = (
        _("from this side's socket alone, without a capture ({why})")
        if why
        else _("from this side's socket alone, without a capture")
    )
    return text.format(why=visible(_(why)) if why else "")


def closing_lines(trace: Trace, *, plain: bool = False) -> list[str]:
    """How it ended; what the kernel knew; what is missing."""
    if not trace.steps:
        return []
    lines = [_outcome(trace, plain=plain)]
    lines += _held(time_wait_holders(trace))
    facts = trace.facts
    # Without an answer, the kernel has nothing but its first guesses.
    if facts is not None and facts.round_trip:
        text = _("the client's kernel: round trip {rtt}, {again} sent again, segments of {size}")
        lines.append(
            text.format(
                rtt=duration(facts.round_trip, plain=plain),
                again=facts.retransmitted, size=size_text(facts.segment_size),
            )
        )  # fmt: skip
    missing = trace.dropped.total
    if missing:
        text = ngettext(
            "{count} packet is missing here: it came too fast, or could not be read",
            "{count} packets are missing here: they came too fast, or could not be read",
            missing,
        )
        lines.append(text.format(count=missing))
    return lines


def _outcome(trace: Trace, *, plain: bool) -> str:
    sent = {Side.CLIENT: 0, Side.SERVER: 0}
    for step in trace.steps:
        if not step.repeated and step.note is not Note.KEEPALIVE:
            sent[sender_of(step)] += step.size
    return _(_OUTCOMES[trace.outcome]).format(
        time=duration(trace.steps[-1].at, plain=plain), count=size_text(sent[Side.CLIENT]),
        back=size_text(sent[Side.SERVER]), server=visible(str(trace.server)),
    )  # fmt: skip


def time_wait_holders(trace: Trace) -> list[Side]:
    """Who stays in TIME-WAIT, as far as was seen."""
    last = trace.steps[-1]
    states = {Side.CLIENT: last.client_state, Side.SERVER: last.server_state}
    if trace.source is Source.SOCKET:
        del states[Side.SERVER]
    return [side for side, state in states.items() if state is TcpState.TIME_WAIT]


def _held(sides: list[Side]) -> list[str]:
    if len(sides) > 1:
        return [_("both closed at once: both stay in TIME-WAIT for a minute")]
    if sides == [Side.CLIENT]:
        return [_("the client closed first: its port stays in TIME-WAIT for a minute")]
    if sides == [Side.SERVER]:
        return [_("the server closed first: TIME-WAIT stays with it, for a minute")]
    return []
