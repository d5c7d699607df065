"""What can be said of a bench while it runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Phase", "Progress"]


class Phase(StrEnum):
    """What a bench is doing."""

    #: Connections are opened, or the rate rises.
    RAMP = "ramp"
    #: It is like the rest, but nothing is measured.
    WARMUP = "warmup"
    MEASURING = "measuring"
    #: Nothing new begins; what is under way is awaited.
    FINISHING = "finishing"


@dataclass(frozen=True, slots=True)
class Progress:
    """The moment's figures, and the sums up to now.

    Attributes:
        phase: what it is doing.
        elapsed: seconds since it began.
        share: how much of it is over, 0 to 1; `None` where that is not known.
        exchanges: measured up to now.
        per_second: of the last piece.
        p50, p99: of the last piece's exchanges, in seconds; 0.0 where there was none.
        failures: up to now, by reason.
        held: connections that are open.
        waiting: open loop: exchanges that are due and wait for a place.
    """

    phase: Phase
    elapsed: float
    share: float | None = None
    exchanges: int = 0
    per_second: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    held: int = 0
    waiting: int = 0
