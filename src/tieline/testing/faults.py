"""What can go wrong on the way.

A `Fault` says what is to go wrong, and stays as it is. On each direction of each connection that it
hits it has an `Effect`, which `lane` asks about every piece of the stream.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from ..rules import Rule
from .effects import (
    ClosingSlowly,
    Delaying,
    Effect,
    End,
    Ending,
    Pacing,
    Slicing,
    Stalling,
    Swallowing,
)

__all__ = [
    "FAULTS",
    "BlackHole",
    "Cut",
    "Delay",
    "Fault",
    "Rate",
    "Reset",
    "Slice",
    "SlowClose",
    "Stall",
]


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
        return Delaying(self.seconds, self.jitter, happened, dice)


@dataclass(frozen=True, eq=False)
class Rate(Fault):
    """So many bytes a second pass, and no more.

    Args:
        bytes_a_second: for this direction of each connection.
    """

    name = "rate"

    bytes_a_second: float = field(metadata=_may_be("bytes a second"))

    def begin(self, happened: Callable[[], object], dice: Random) -> Effect:
        return Pacing(self.bytes_a_second, happened)


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
        return Slicing(self.size, self.pause, happened)


# ---- Never


@dataclass(frozen=True, eq=False)
class Stall(Fault):
    """Nothing passes, nothing is lost: once the buffers on the way are full, the sender waits.

    When the fault is removed, everything goes on where it was.
    """

    name = "stall"

    def begin(self, happened: Callable[[], object], dice: Random) -> Effect:
        return Stalling(happened)


@dataclass(frozen=True, eq=False)
class BlackHole(Fault):
    """Bytes vanish, while their sender believes that they are taken.

    The end of a stream, in good order or by reset, waits until the fault is removed; the bytes
    are lost.
    """

    name = "black_hole"

    def begin(self, happened: Callable[[], object], dice: Random) -> Effect:
        return Swallowing(happened)


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
        return ClosingSlowly(self.seconds, happened)


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
        return Ending(End.ORDERLY, self.after, happened)


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
        return Ending(End.RESET, self.after, happened)


#: Every kind of fault, by its name.
FAULTS: dict[str, type[Fault]] = {
    kind.name: kind for kind in (Delay, Rate, Slice, Stall, BlackHole, SlowClose, Cut, Reset)
}
