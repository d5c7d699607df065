"""Which segments arrived, and when: what follows on the wire tells.

A capture sees what is sent. That it arrived shows in the other side's acknowledgements; that it
did not, in its being sent again without one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from .model import Side
from .numbering import Numbered
from .packets import Flags

__all__ = ["LOST", "ON_ITS_WAY", "arrivals"]

#: Instead of a place: it never arrived.
LOST = -1

#: Instead of a place: when the watching ended nobody had said that it had arrived, and there was
#: somebody who would have.
ON_ITS_WAY = -2

#: How far back the copies of a segment are looked for.
_FARTHEST_BACK = 128


def arrivals(numbered: Sequence[Numbered], *, gave_up_at_ns: int | None = None) -> list[int]:
    """Where in the sequence each segment had arrived.

    Args:
        numbered: the segments, in order of time.
        gave_up_at_ns: when a side gave up waiting, in nanoseconds since 1970: what was sent before
            and is never acknowledged is lost.

    Returns:
        For each the place of the first segment before which, in order of time, it had arrived:
        its own place plus one where nothing shows that it took any longer. Or `LOST`, or
        `ON_ITS_WAY`.
    """
    ledger = _Ledger(numbered, gave_up_at_ns)
    places = [ledger.place_of(at) for at in range(len(numbered))]
    ledger.forgive_what_came_twice(places)
    _lose_acknowledgements(numbered, places)
    return places


class _Ledger:
    def __init__(self, numbered: Sequence[Numbered], gave_up_at_ns: int | None) -> None:
        self._numbered = numbered
        self._gave_up_at_ns = gave_up_at_ns
        #: For each side, where it acknowledged something, and the most that it had by then.
        self._places: dict[Side, list[int]] = {side: [] for side in Side}
        self._most: dict[Side, list[int]] = {side: [] for side in Side}
        self._own: dict[Side, list[int]] = {side: [] for side in Side}
        for at, each in enumerate(numbered):
            self._own[each.side].append(at)
            if each.acknowledgement is None or each.is_reset:
                continue
            most = self._most[each.side]
            most.append(max(most[-1] if most else 0, each.acknowledgement))
            self._places[each.side].append(at)
        self._next_copy = self._copies()

    def place_of(self, at: int) -> int:
        """Where the segment that was sent at a place had arrived."""
        segment = self._numbered[at]
        if segment.end == segment.start or segment.is_reset:
            return at + 1
        other = segment.side.other
        acknowledged = self._acknowledged_at(segment, at)
        copy = self._next_copy.get(at)
        if copy is not None and (acknowledged is None or copy < acknowledged):
            return LOST
        spoke = bisect_left(self._places[other], at)
        next_words = self._places[other][spoke] if spoke < len(self._places[other]) else None
        if acknowledged is None and self._was_given_up(segment):
            return LOST
        if segment.segment.has(Flags.SYN) and not self._places[other]:
            # Nothing shows that there is anybody.
            return ON_ITS_WAY
        if next_words == acknowledged:
            # The first that was heard of the other side: it knew by then. Or nothing was.
            return at + 1
        return ON_ITS_WAY if acknowledged is None else acknowledged

    def forgive_what_came_twice(self, places: list[int]) -> None:
        """Sent again too early: the other side says that it had a copy already."""
        for at, each in enumerate(self._numbered):
            if each.twice is None:
                continue
            left, right = each.twice
            for earlier in reversed(self._before(each.side.other, at)):
                copy = self._numbered[earlier]
                if copy.start < right and left < copy.end and places[earlier] == LOST:
                    places[earlier] = earlier + 1
                    break

    def _was_given_up(self, segment: Numbered) -> bool:
        given_up = self._gave_up_at_ns
        return given_up is not None and segment.segment.packet.at_ns < given_up

    def _acknowledged_at(self, segment: Numbered, at: int) -> int | None:
        other = segment.side.other
        first = max(
            bisect_left(self._most[other], segment.end), bisect_left(self._places[other], at)
        )
        return self._places[other][first] if first < len(self._places[other]) else None

    def _before(self, side: Side, at: int) -> list[int]:
        """Places of what a side sent before one, the last ones of them."""
        end = bisect_left(self._own[side], at)
        return self._own[side][max(0, end - _FARTHEST_BACK) : end]

    def _copies(self) -> dict[int, int]:
        """For each place, that of the next segment which sends some of it again."""
        copies: dict[int, int] = {}
        for at, each in enumerate(self._numbered):
            if not each.repeated:
                continue
            for earlier in self._before(each.side, at):
                first = self._numbered[earlier]
                overlaps = first.start < each.end and each.start < first.end
                if overlaps and not first.is_reset:
                    copies.setdefault(earlier, at)
        return copies


def _lose_acknowledgements(numbered: Sequence[Numbered], places: list[int]) -> None:
    """Acknowledgements that did not arrive: what they were for was sent again all the same.

    Only where it was sent again later than a round trip: earlier, the two have crossed.
    """
    round_trip = _round_trip(numbered)
    for at, again in enumerate(numbered):
        if not again.repeated:
            continue
        for earlier in range(at - 1, max(-1, at - _FARTHEST_BACK), -1):
            answer = numbered[earlier]
            if answer.side is again.side:
                if answer.start <= again.start < answer.end:
                    break
                continue
            if answer.acknowledgement is None or answer.acknowledgement < again.end:
                continue
            waited = again.segment.packet.at_ns - answer.segment.packet.at_ns
            if answer.is_pure_ack and waited > round_trip:
                places[earlier] = LOST


def _round_trip(numbered: Sequence[Numbered]) -> int:
    """Nanoseconds from the SYN to the answer to its answer, less where it was sent again."""
    opening: list[int] = []
    wanted = [(Side.CLIENT, 0), (Side.SERVER, 0), (Side.CLIENT, 1)]
    for each in numbered:
        side, start = wanted[len(opening)]
        if each.side is side and each.start == start:
            opening.append(each.segment.packet.at_ns)
        elif opening and each.repeated:
            opening[-1] = each.segment.packet.at_ns
        if len(opening) == len(wanted):
            return opening[-1] - opening[0]
    return 0
