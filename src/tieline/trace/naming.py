"""What each segment of a connection is called."""

from __future__ import annotations

from collections.abc import Sequence

from .model import Note, Side
from .numbering import Numbered
from .packets import Flags

__all__ = ["Naming"]


class Naming:
    """Names for the segments of a connection, given all of them: some show in what follows only.

    Args:
        numbered: the segments in order of time. `name` is asked for each of them once, in order.
    """

    def __init__(self, numbered: Sequence[Numbered]) -> None:
        self._numbered = numbered
        self._ends = {side: _first_fin(numbered, side) for side in Side}
        #: What each side last acknowledged, and its window then.
        self._last: dict[Side, tuple[int, int] | None] = dict.fromkeys(Side)
        self._next = dict.fromkeys(Side, 0)
        self._handshake_answered = False
        #: Who has acknowledged the other side's FIN.
        self._fin_answered: set[Side] = set()
        self.refused = _is_refused(numbered)
        self._half_closed = {
            side for side, fin in self._ends.items() if _is_half_close(numbered, fin)
        }
        self._crossed = _have_crossed(numbered, self._ends)

    def name(self, at: int) -> tuple[Note, frozenset[Note]]:
        """The note of the segment at this place, and what else is to be said of it."""
        each = self._numbered[at]
        kind = self._kind(at, each)
        extra = self._besides(at, each) - {kind}
        self._remember(each)
        if each.repeated:
            return Note.RETRANSMISSION, frozenset(extra | {kind})
        return kind, frozenset(extra)

    def _kind(self, at: int, each: Numbered) -> Note:
        segment = each.segment
        if each.is_reset:
            return Note.REFUSED if self.refused and each.side is Side.SERVER else Note.RESET
        if segment.has(Flags.SYN):
            return Note.SYN_ACK if segment.has(Flags.ACK) else Note.SYN
        if segment.has(Flags.FIN):
            return Note.FIN
        if each.is_keepalive:
            return Note.KEEPALIVE
        return Note.DATA if segment.payload else self._kind_of_ack(at, each)

    def _kind_of_ack(self, at: int, each: Numbered) -> Note:
        if self._is_handshake_ack(each):
            return Note.HANDSHAKE_ACK
        if self._is_ack_of_fin(each):
            return Note.FIN_ACK_OF_PEER
        last = self._last[each.side]
        if each.window == 0:
            return Note.ZERO_WINDOW
        if last is None or last[0] != each.acknowledgement:
            return Note.ACK
        if each.window > last[1]:
            return Note.WINDOW_UPDATE
        if self._answers_keepalive(at, each):
            return Note.ACK
        outstanding = self._next[each.side.other] > last[0]
        return Note.DUPLICATE_ACK if outstanding or each.twice else Note.ACK

    def _besides(self, at: int, each: Numbered) -> set[Note]:
        segment = each.segment
        found: set[Note] = set()
        if each.is_reset:
            return found
        if self._is_handshake_ack(each):
            found.add(Note.HANDSHAKE_ACK)
        if self._is_ack_of_fin(each):
            found.add(Note.FIN_ACK_OF_PEER)
        if segment.payload and not each.is_keepalive:
            found.add(Note.DATA)
        if each.window == 0:
            found.add(Note.ZERO_WINDOW)
        if each.is_pure_ack and self._answers_keepalive(at, each):
            found.add(Note.KEEPALIVE)
        if segment.has(Flags.FIN):
            if self._crossed:
                found.add(Note.SIMULTANEOUS_CLOSE)
            elif each.side in self._half_closed:
                found.add(Note.HALF_CLOSE)
        return found

    def _remember(self, each: Numbered) -> None:
        if each.is_reset:
            return
        if self._is_handshake_ack(each):
            self._handshake_answered = True
        if self._is_ack_of_fin(each):
            self._fin_answered.add(each.side)
        if each.repeated:
            # What answered its first copy did not arrive, or this one was needless: either way
            # it is answered again.
            if each.segment.has(Flags.SYN):
                self._handshake_answered = False
            if each.segment.has(Flags.FIN):
                self._fin_answered.discard(each.side.other)
        if not each.is_keepalive:
            self._next[each.side] = max(self._next[each.side], each.end)
        if each.acknowledgement is not None:
            self._last[each.side] = each.acknowledgement, each.window

    def _is_handshake_ack(self, each: Numbered) -> bool:
        """The client's first answer to the SYN-ACK."""
        return (
            each.side is Side.CLIENT
            and not self._handshake_answered
            and not each.segment.has(Flags.SYN)
            and self._numbered[0].segment.has(Flags.SYN)
            and (each.acknowledgement or 0) >= 1
        )

    def _is_ack_of_fin(self, each: Numbered) -> bool:
        """The first that acknowledges the other side's FIN."""
        fin = self._ends[each.side.other]
        return (
            fin is not None
            and each.acknowledgement is not None
            and each.acknowledgement >= fin.end
            and each.side not in self._fin_answered
        )

    def _answers_keepalive(self, at: int, each: Numbered) -> bool:
        before = self._numbered[at - 1] if at else each
        return before.is_keepalive and before.side is not each.side


def _first_fin(numbered: Sequence[Numbered], side: Side) -> Numbered | None:
    return next(
        (each for each in numbered if each.side is side and each.segment.has(Flags.FIN)), None
    )


def _is_half_close(numbered: Sequence[Numbered], fin: Numbered | None) -> bool:
    """Whether the other side sends data after it knows of this end."""
    return fin is not None and any(
        each.segment.payload and not each.repeated and (each.acknowledgement or 0) >= fin.end
        for each in numbered
        if each.side is not fin.side and not each.is_reset
    )


def _is_refused(numbered: Sequence[Numbered]) -> bool:
    """Whether the server's only word is a reset in answer to the SYN."""
    words = [each for each in numbered if each.side is Side.SERVER]
    begins = bool(numbered) and numbered[0].segment.has(Flags.SYN)
    return begins and bool(words) and words[0].is_reset


def _have_crossed(numbered: Sequence[Numbered], fins: dict[Side, Numbered | None]) -> bool:
    """Whether each side sent its FIN before it had the other's."""
    client, server = fins[Side.CLIENT], fins[Side.SERVER]
    if client is None or server is None:
        return False
    return (client.acknowledgement or 0) < server.end and (server.acknowledgement or 0) < client.end
