"""What faults do to one direction of one connection, piece by piece of its stream.

Pure: each is told what came and what passed when, and says what may pass.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

__all__ = [
    "ClosingSlowly",
    "Delaying",
    "Effect",
    "End",
    "Ending",
    "Pacing",
    "Piece",
    "Slicing",
    "Stalling",
    "Swallowing",
]

#: Seconds of its rate that `Pacing` lets through at once, and that it may catch up after a timer
#: that came late.
_GRAIN = 0.02


class End(enum.Enum):
    """How a stream ends."""

    ORDERLY = "in good order"
    RESET = "cut off"


@dataclass(slots=True)
class Piece:
    """What came in one read: bytes, or the stream's end.

    Attributes:
        number: its place among the pieces of its direction.
        came: when.
        data: what of it has not passed yet; empty if it is an end.
        end: `None` if it is bytes.
    """

    number: int
    came: float
    data: memoryview
    end: End | None = None


class Effect:
    """What a fault does to one direction of one connection. This one does nothing.

    Args:
        happened: to be called each time that it has an effect.
    """

    #: Bytes that come vanish, and the stream's end waits.
    swallows = False
    #: While bytes wait here, no more are read from their sender.
    stops_reading = False
    #: What passes does so by itself: the loop runs before anything else passes.
    separates = False
    #: The end of this stream that is due now; `None` while none is.
    due: End | None = None

    def __init__(self, happened: Callable[[], object]) -> None:
        self.happened = happened
        self._counted = 0

    def ready_at(self, piece: Piece, now: float) -> float:
        """When the first bytes of this piece may pass, as seen now."""
        return now

    def at_most(self, size: int) -> int:
        """How many of so many bytes may pass together."""
        return size

    def passed(self, size: int, now: float) -> None:
        """So many bytes have passed."""

    def _held(self, piece: Piece, until: float, now: float) -> float:
        """The piece may pass then: counts each piece that has to wait, once."""
        if until > now and piece.number > self._counted:
            self._counted = piece.number
            self.happened()
        return until


class Delaying(Effect):
    """Everything comes so much later, give or take the jitter."""

    def __init__(
        self, seconds: float, jitter: float, happened: Callable[[], object], dice: Random
    ) -> None:
        super().__init__(happened)
        self._mean = seconds
        self._jitter = jitter
        self._dice = dice
        #: What was drawn for which piece.
        self._seconds = 0.0
        self._drawn_for = 0
        self._since = math.inf

    def ready_at(self, piece: Piece, now: float) -> float:
        if piece.number != self._drawn_for:
            self._drawn_for = piece.number
            self._seconds = self._mean + self._dice.uniform(-self._jitter, self._jitter)
            self._since = min(self._since, now)
            # One that waited behind another may be due by now; it was late all the same.
            if self._seconds and piece.came + self._seconds > self._since:
                self.happened()
        return piece.came + self._seconds


class Pacing(Effect):
    """So many bytes a second."""

    def __init__(self, rate: float, happened: Callable[[], object]) -> None:
        super().__init__(happened)
        self._rate = rate
        self._grain = max(1, int(rate * _GRAIN))
        #: When the bytes before have passed, and when the next ones began to.
        self._free_at = self._began = -math.inf

    def ready_at(self, piece: Piece, now: float) -> float:
        if piece.end is not None:
            return now
        self._began = max(self._free_at, piece.came)
        return self._held(piece, self._began + self.at_most(len(piece.data)) / self._rate, now)

    def at_most(self, size: int) -> int:
        return min(size, self._grain)

    def passed(self, size: int, now: float) -> None:
        self._free_at = max(self._began + size / self._rate, now - _GRAIN)


class Slicing(Effect):
    """So many bytes together at the most, and a pause after them."""

    separates = True

    def __init__(self, size: int, pause: float, happened: Callable[[], object]) -> None:
        super().__init__(happened)
        self._size = size
        self._pause = pause
        self._free_at = -math.inf
        self._cuts = False

    def ready_at(self, piece: Piece, now: float) -> float:
        return self._free_at

    def at_most(self, size: int) -> int:
        self._cuts = size > self._size
        return min(size, self._size)

    def passed(self, size: int, now: float) -> None:
        self._free_at = now + self._pause
        if self._cuts:
            self.happened()


class Stalling(Effect):
    """Everything waits."""

    stops_reading = True

    def ready_at(self, piece: Piece, now: float) -> float:
        return self._held(piece, math.inf, now)


class Swallowing(Effect):
    """Bytes vanish, ends wait."""

    swallows = True

    def ready_at(self, piece: Piece, now: float) -> float:
        return self._held(piece, math.inf, now)


class ClosingSlowly(Effect):
    """The end comes so much later."""

    def __init__(self, seconds: float, happened: Callable[[], object]) -> None:
        super().__init__(happened)
        self._seconds = seconds

    def ready_at(self, piece: Piece, now: float) -> float:
        return now if piece.end is None else self._held(piece, piece.came + self._seconds, now)


class Ending(Effect):
    """The stream ends after so many bytes."""

    def __init__(self, end: End, after: int, happened: Callable[[], object]) -> None:
        super().__init__(happened)
        self._end = end
        self._left = after
        self.due = None if after else end

    def at_most(self, size: int) -> int:
        return min(size, self._left) if self._left else size

    def passed(self, size: int, now: float) -> None:
        self._left -= min(size, self._left)
        if not self._left:
            self.due = self._end
