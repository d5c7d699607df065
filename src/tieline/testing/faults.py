"""What can go wrong on the way, as decisions: no sockets here, and no clock but the one given.

A `Fault` says what is to go wrong. On each direction of each connection that it hits it has an
`Effect`, which `lane` asks about every piece of the stream.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from ..rules import Rule

__all__ = [
    "FAULTS",
    "BlackHole",
    "Cut",
    "Delay",
    "Effect",
    "End",
    "Fault",
    "Piece",
    "Rate",
    "Reset",
    "Slice",
    "SlowClose",
    "Stall",
]

#: Seconds of its rate that `Rate` lets through at once, and that it may catch up after a timer
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


def _may_be(unit: str, least: float | None = None, most: float | None = None) -> dict[str, Rule]:
    return {"rule": Rule(unit, "", least=least, most=most)}


@dataclass(frozen=True, eq=False)
class Fault:
    """Something that goes wrong on the way. Each object is a fault of its own.

    Args:
        probability: the share of connections that it hits, 0 to 1 (default 1.0). Which ones is
            drawn from the relay's seed, connection by connection.

    Raises:
        SettingError: a setting is not in its range.
    """

    #: What it is called in `FaultRelay.happened`.
    name: ClassVar[str]

    probability: float = field(default=1.0, kw_only=True, metadata=_may_be("share", 0, 1))

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            setting.metadata["rule"].check(setting.name, getattr(self, setting.name))

    def begin(self, happened: Callable[[], object], dice: Random) -> Effect:
        """Not for applications: what it does to one direction of a connection that it hits.

        Args:
            happened: called each time that it has an effect.
            dice: what is left to chance is drawn from here.
        """
        raise NotImplementedError


# ---- Later


@dataclass(frozen=True, eq=False)
class Delay(Fault):
    """Bytes and ends come later; how many at a time stays as it is.

    Args:
        seconds: by how much.
        jitter: up to so much more or less, for each piece anew (default 0). Order is kept.
    """

    name = "delay"

    seconds: float = field(metadata=_may_be("seconds", 0))
    jitter: float = field(default=0.0, metadata=_may_be("seconds", 0))

    def __post_init__(self) -> None:
        super().__post_init__()
        _may_be("seconds", 0, self.seconds)["rule"].check("jitter", self.jitter)

    def begin(self, happened: Callable[[], object], dice: Random) -> Effect:
        return _Delaying(self, happened, dice)


class _Delaying(Effect):
    def __init__(self, fault: Delay, happened: Callable[[], object], dice: Random) -> None:
        super().__init__(happened)
        self._fault = fault
        self._dice = dice
        self._drawn_for = 0
        self._seconds = 0.0
        self._since = math.inf

    def ready_at(self, piece: Piece, now: float) -> float:
        if piece.number != self._drawn_for:
            self._drawn_for = piece.number
            jitter = self._fault.jitter
            self._seconds = self._fault.seconds + self._dice.uniform(-jitter, jitter)
            self._since = min(self._since, now)
            # One that waited behind another may be due by now; it was late all the same.
            if self._seconds and piece.came + self._seconds > self._since:
                self.happened()
        return piece.came + self._seconds


@dataclass(frozen=True, eq=False)
class Rate(Fault):
    """So many bytes a second pass, and no more.

    Args:
        bytes_a_second: for this direction of each connection.
    """

    name = "rate"

    bytes_a_second: float = field(metadata=_may_be("bytes a second"))

    def begin(self, happened: Callable[[], object], dice: Random) -> Effect:
        return _Pacing(self.bytes_a_second, happened)


class _Pacing(Effect):
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


@dataclass(frozen=True, eq=False)
class Slice(Fault):
    """Bytes pass in small pieces, each in a packet of its own.

    Without a pause the next piece goes a few rounds of the loop later: a reader on the same loop
    sees each by itself, one on another thread or in another process may get several at once.

    Args:
        size: the bytes of a piece.
        pause: seconds between two (default 0).
    """

    name = "slice"

    size: int = field(metadata=_may_be("bytes"))
    pause: float = field(default=0.0, metadata=_may_be("seconds", 0))

    def begin(self, happened: Callable[[], object], dice: Random) -> Effect:
        return _Slicing(self, happened)


class _Slicing(Effect):
    separates = True

    def __init__(self, fault: Slice, happened: Callable[[], object]) -> None:
        super().__init__(happened)
        self._fault = fault
        self._free_at = -math.inf
        self._cuts = False

    def ready_at(self, piece: Piece, now: float) -> float:
        return self._free_at

    def at_most(self, size: int) -> int:
        self._cuts = size > self._fault.size
        return min(size, self._fault.size)

    def passed(self, size: int, now: float) -> None:
        self._free_at = now + self._fault.pause
        if self._cuts:
            self.happened()


# ---- Never


@dataclass(frozen=True, eq=False)
class Stall(Fault):
    """Nothing passes, nothing is lost: once the buffers on the way are full, the sender waits.

    When the fault is removed, everything goes on where it was.
    """

    name = "stall"

    def begin(self, happened: Callable[[], object], dice: Random) -> Effect:
        return _Stalling(happened)


class _Stalling(Effect):
    stops_reading = True

    def ready_at(self, piece: Piece, now: float) -> float:
        return self._held(piece, math.inf, now)


@dataclass(frozen=True, eq=False)
class BlackHole(Fault):
    """Bytes vanish, while their sender believes that they are taken.

    The end of a stream, in good order or by reset, waits until the fault is removed; the bytes
    are lost.
    """

    name = "black_hole"

    def begin(self, happened: Callable[[], object], dice: Random) -> Effect:
        return _Swallowing(happened)


class _Swallowing(Effect):
    swallows = True

    def ready_at(self, piece: Piece, now: float) -> float:
        return self._held(piece, math.inf, now)


# ---- The end


@dataclass(frozen=True, eq=False)
class SlowClose(Fault):
    """The end of a stream, in good order or by reset, comes later than its last bytes.

    Args:
        seconds: by how much.
    """

    name = "slow_close"

    seconds: float = field(metadata=_may_be("seconds", 0))

    def begin(self, happened: Callable[[], object], dice: Random) -> Effect:
        return _ClosingSlowly(self.seconds, happened)


class _ClosingSlowly(Effect):
    def __init__(self, seconds: float, happened: Callable[[], object]) -> None:
        super().__init__(happened)
        self._seconds = seconds

    def ready_at(self, piece: Piece, now: float) -> float:
        return now if piece.end is None else self._held(piece, piece.came + self._seconds, now)


@dataclass(frozen=True, eq=False)
class Cut(Fault):
    """The stream ends in good order (FIN) after so many bytes; what comes behind them is lost.

    The other direction goes on.

    Args:
        after: bytes that still pass, from when the fault is set or the connection begins
            (default 0: none, it ends now).
    """

    name = "cut"

    after: int = field(default=0, metadata=_may_be("bytes", 0))

    def begin(self, happened: Callable[[], object], dice: Random) -> Effect:
        return _Ending(End.ORDERLY, self.after, happened)


@dataclass(frozen=True, eq=False)
class Reset(Fault):
    """The whole connection is cut off (RST on both sides) after so many bytes.

    Args:
        after: bytes that still pass in this direction, from when the fault is set or the
            connection begins (default 0: none, it is cut off now).
    """

    name = "reset"

    after: int = field(default=0, metadata=_may_be("bytes", 0))

    def begin(self, happened: Callable[[], object], dice: Random) -> Effect:
        return _Ending(End.RESET, self.after, happened)


class _Ending(Effect):
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


#: Every kind of fault, by its name.
FAULTS: dict[str, type[Fault]] = {
    kind.name: kind for kind in (Delay, Rate, Slice, Stall, BlackHole, SlowClose, Cut, Reset)
}
