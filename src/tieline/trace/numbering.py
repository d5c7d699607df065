"""Sequence numbers as a person reads them: each side's own SYN is 0, its first byte 1.

On the wire a stream begins anywhere in 32 bits and wraps around.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from .model import Side
from .packets import Flags, Segment

__all__ = ["Numbered", "Numbering"]

_WRAP = 1 << 32

#: Gaps in a stream that are remembered at once.
_MOST_GAPS = 64


@dataclass(frozen=True, slots=True)
class Numbered:
    """A segment with its place in its stream.

    Attributes:
        segment: what was captured.
        side: who sent it.
        start: relative number of its first byte, and `end` of the first after it.
        acknowledgement: the next byte that is expected of the other side; `None` without ACK.
        window: bytes that the sender will take, scaled where both sides scale.
        twice: the range that the other side says it was sent twice (RFC 2883).
        repeated: whether it, or some of it, has been sent before.
        is_keepalive: whether it only asks for a sign of life: it is of the byte before the next,
            which has been acknowledged.
    """

    segment: Segment
    side: Side
    start: int
    end: int
    acknowledgement: int | None
    window: int
    twice: tuple[int, int] | None
    repeated: bool
    is_keepalive: bool

    @property
    def is_reset(self) -> bool:
        """Whether it resets the connection."""
        return self.segment.has(Flags.RST)

    @property
    def is_pure_ack(self) -> bool:
        """Whether it acknowledges and does nothing else."""
        return self.end == self.start and not self.is_reset and not self.is_keepalive


class _Stream:
    """One side's numbers so far."""

    def __init__(self) -> None:
        #: What the first byte is numbered on the wire, less one; `None` before it is known.
        self.origin: int | None = None
        #: Behind the last byte that was sent.
        self.next = 0
        #: The next byte that the other side expects: all before it has arrived.
        self.acknowledged = 0
        self.gaps: deque[tuple[int, int]] = deque(maxlen=_MOST_GAPS)
        self.shift: int | None = None
        #: Whether its SYN answered the other side's.
        self.has_answered = False
        #: Whether this side's last acknowledgement was one it had given before.
        self.asks_again = False
        self.last_acknowledgement = -1

    def relative(self, number: int) -> int:
        """A number on the wire: the one of those it may stand for that is nearest to the next."""
        assert self.origin is not None
        ahead = (number - self.origin - self.next + _WRAP // 2) % _WRAP - _WRAP // 2
        return self.next + ahead


class Numbering:
    """Numbers the segments of one connection, given in order of time.

    Where the connection's beginning was not seen, the first byte that was is number 1.

    Args:
        client: host and port of the side that is the client.
    """

    def __init__(self, client: tuple[str, int]) -> None:
        self._client = client
        self._streams = {side: _Stream() for side in Side}

    def side_of(self, segment: Segment) -> Side:
        """Who sent it."""
        sender = (segment.source.host, segment.source.port)
        return Side.CLIENT if sender == self._client else Side.SERVER

    def take(self, segment: Segment) -> Numbered:
        """The next segment."""
        side = self.side_of(segment)
        own, other = self._streams[side], self._streams[side.other]
        start = self._start(own, segment)
        end = start + segment.length
        acknowledgement = self._acknowledgement(other, segment)
        keepalive = _is_keepalive(own, segment, start)
        repeated = not keepalive and self._is_repeated(own, other, segment, start, end)
        if segment.has(Flags.SYN):
            own.shift = segment.window_scale
            own.has_answered = segment.has(Flags.ACK)
        if acknowledgement is not None:
            own.asks_again = acknowledgement == own.last_acknowledgement
            own.last_acknowledgement = acknowledgement
            other.acknowledged = max(other.acknowledged, acknowledgement)
        if own.origin is not None and not keepalive:
            if start > own.next:
                own.gaps.append((own.next, start))
            own.next = max(own.next, end)
        return Numbered(
            segment,
            side,
            start,
            end,
            acknowledgement,
            self._window(own, other, segment),
            self._twice(other, segment, acknowledgement),
            repeated,
            keepalive,
        )

    def _start(self, own: _Stream, segment: Segment) -> int:
        if own.origin is None:
            if segment.has(Flags.RST):
                # Who refuses a connection has no stream, and writes what the client wrote.
                return 0
            syn = segment.has(Flags.SYN)
            own.origin = segment.sequence if syn else (segment.sequence - 1) % _WRAP
            own.next = own.acknowledged = 0 if syn else 1
        return own.relative(segment.sequence)

    def _acknowledgement(self, other: _Stream, segment: Segment) -> int | None:
        if not segment.has(Flags.ACK):
            return None
        if other.origin is None:
            other.origin = (segment.acknowledgement - 1) % _WRAP
            other.next = other.acknowledged = 1
        return other.relative(segment.acknowledgement)

    def _is_repeated(
        self, own: _Stream, other: _Stream, segment: Segment, start: int, end: int
    ) -> bool:
        if not segment.length or start >= own.next or segment.has(Flags.RST):
            return False
        if segment.has(Flags.SYN) and segment.has(Flags.ACK) and not own.has_answered:
            # Its SYN has crossed the other side's, and this one answers that.
            return False
        for gap in own.gaps:
            if gap[0] <= start and end <= gap[1]:
                # Its first copy was not seen here. Out of turn it may just have been overtaken;
                # if the other side has been asking for it, it was lost before it came here.
                own.gaps.remove(gap)
                own.gaps.extend(
                    rest for rest in ((gap[0], start), (end, gap[1])) if rest[0] < rest[1]
                )
                return other.asks_again
        return True

    def _window(self, own: _Stream, other: _Stream, segment: Segment) -> int:
        scaled = own.shift is not None and other.shift is not None
        if segment.has(Flags.SYN) or not scaled:
            return segment.window
        return segment.window << (own.shift or 0)

    def _twice(
        self, other: _Stream, segment: Segment, acknowledgement: int | None
    ) -> tuple[int, int] | None:
        """A first block below the acknowledgement, or inside the second one."""
        if acknowledgement is None or not segment.sack_blocks:
            return None
        blocks = [
            (other.relative(left), other.relative(right)) for left, right in segment.sack_blocks
        ]
        (left, right), rest = blocks[0], blocks[1:]
        if right <= acknowledgement or (rest and rest[0][0] <= left and right <= rest[0][1]):
            return left, right
        return None


def _is_keepalive(own: _Stream, segment: Segment, start: int) -> bool:
    """RFC 9293, 3.8.4. Probes of a window that is closed look the same."""
    if segment.flags & (Flags.SYN | Flags.FIN | Flags.RST) or len(segment.payload) > 1:
        return False
    if not segment.payload:
        return start == own.acknowledged - 1 and start >= 0 and own.next > 0
    return start == own.next - 1 and own.acknowledged >= own.next
