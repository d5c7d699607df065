"""One direction of a relayed connection: what has come, and what may pass when.

Pure: `relayed` tells it what came, asks it for the next step, and tells it what passed.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, TypeAlias

from .effects import Effect, End, Piece
from .faults import Fault

__all__ = ["Finish", "Lane", "Pass", "Step", "Wait"]


class Pass(NamedTuple):
    """Bytes that may pass now; `alone`: nothing else may before the loop has run."""

    data: memoryview
    alone: bool


class Wait(NamedTuple):
    """Nothing may pass before this time; infinite: before the faults change."""

    until: float


class Finish(NamedTuple):
    """The stream ends now."""

    end: End


#: What to do next; `None`: nothing, until something comes.
Step: TypeAlias = Pass | Wait | Finish | None

_NO_DATA = memoryview(b"")

#: Pieces that a lane holds before it wants no more, however small they are.
_MAX_PIECES = 4_096


class Lane:
    """The bytes on their way in one direction, and the faults that they meet.

    Args:
        max_held: bytes that it holds before it wants no more, one read more at the most.

    Attributes:
        held: bytes that it holds.
        carried: bytes that have passed.
        source_ended: the sender has ended its stream, in whichever way.
        source_reset: it has cut the connection off.
        finished: the receiver has been given an end in good order.
        lost: the receiver is gone: whatever comes vanishes.
    """

    __slots__ = (
        "_effects", "_last_number", "_max_held", "_pieces", "carried", "finished", "held", "lost",
        "source_ended", "source_reset",
    )  # fmt: skip

    def __init__(self, max_held: int) -> None:
        self._max_held = max_held
        self._pieces: deque[Piece] = deque()
        self._effects: dict[Fault, Effect] = {}
        self._last_number = 0
        self.held = self.carried = 0
        self.source_ended = self.source_reset = self.finished = self.lost = False

    def meet(self, fault: Fault, effect: Effect) -> None:
        """Meet a fault, from now on."""
        self._effects[fault] = effect

    def leave(self, fault: Fault) -> None:
        """Meet it no more."""
        self._effects.pop(fault, None)

    # ---- What comes

    @property
    def wants_more(self) -> bool:
        """Whether the sender is to be read from."""
        if self.source_ended or self.held >= self._max_held or len(self._pieces) >= _MAX_PIECES:
            return False
        return not (self._pieces and any(effect.stops_reading for effect in self._effects.values()))

    def came(self, data: bytes, now: float) -> None:
        """Bytes have come."""
        if not (self.finished or self.lost):
            self._append(memoryview(data), None, now)

    def ended(self, end: End, now: float) -> None:
        """The sender has ended its stream. It may cut the connection off after that too."""
        self.source_ended = True
        if self.lost or self.source_reset or (self.finished and end is End.ORDERLY):
            return
        self.source_reset = end is End.RESET
        self._append(_NO_DATA, end, now)

    def _append(self, data: memoryview, end: End | None, now: float) -> None:
        self._last_number += 1
        self._pieces.append(Piece(self._last_number, now, data, end))
        self.held += len(data)

    def lose(self) -> None:
        """The receiver is gone."""
        self.lost = True
        self._pieces.clear()
        self.held = 0

    # ---- What passes

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.lost or (self.finished and self.source_ended and not self._pieces)

    def next(self, now: float) -> Step:
        """What to do now."""
        if self.lost:
            return None
        end = self._due_end()
        if end is not None:
            return self._finish(end)
        effects = self._effects.values()
        for effect in effects:
            if effect.swallows:
                self._swallow(effect, now)
        if not self._pieces:
            return None
        piece = self._pieces[0]
        ready = max((effect.ready_at(piece, now) for effect in effects), default=now)
        if ready > now:
            return Wait(ready)
        if piece.end is not None:
            self._pieces.popleft()
            return self._finish(piece.end)
        size = len(piece.data)
        for effect in effects:
            size = effect.at_most(size)
        return Pass(piece.data[:size], any(effect.separates for effect in effects))

    def passed(self, size: int, now: float) -> None:
        """So many bytes of the last `Pass` have passed."""
        piece = self._pieces[0]
        piece.data = piece.data[size:]
        self.held -= size
        self.carried += size
        if not piece.data:
            self._pieces.popleft()
        for effect in self._effects.values():
            effect.passed(size, now)

    def _due_end(self) -> End | None:
        """An end that a fault makes."""
        for effect in self._effects.values():
            if effect.due is End.RESET or (effect.due is End.ORDERLY and not self.finished):
                effect.happened()
                return effect.due
        return None

    def _finish(self, end: End) -> Step:
        if end is End.ORDERLY:
            self.finished = True
            self._drop(End.ORDERLY)
        return Finish(end)

    def _swallow(self, effect: Effect, now: float) -> None:
        for piece in self._pieces:
            effect.ready_at(piece, now)  # which counts it
        self._drop(None)

    def _drop(self, end: End | None) -> None:
        """Let all bytes vanish, and this kind of end."""
        left = (piece for piece in self._pieces if piece.end not in (None, end))
        self._pieces = deque(left)
        self.held = 0
