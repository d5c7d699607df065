"""What happens while it happens: appended to lists, counted in batches.

A time that was measured costs one `append`. A hundred times a second the lists are counted into
histograms, so that memory does not grow with the run, and counting is no pause that is measured.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .histogram import Histogram
from .result import Failure

__all__ = ["TIMES", "Piece", "Recorder"]

#: The histograms of a piece, by name; those of `Result`.
TIMES = ("exchange", "first_byte", "connecting", "securing", "whole", "lateness")


@dataclass(slots=True)
class Piece:
    """What was recorded in a piece of the run. The names are those of `Result`."""

    exchanges: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    opened: int = 0
    lost: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    exchange: Histogram = field(default_factory=Histogram)
    first_byte: Histogram = field(default_factory=Histogram)
    connecting: Histogram = field(default_factory=Histogram)
    securing: Histogram = field(default_factory=Histogram)
    whole: Histogram = field(default_factory=Histogram)
    lateness: Histogram = field(default_factory=Histogram)

    def merge(self, other: Piece) -> None:
        """Add what another recorded in the same time, or in the next."""
        self.exchanges += other.exchanges
        self.failures.update(other.failures)
        self.opened += other.opened
        self.lost += other.lost
        self.bytes_sent += other.bytes_sent
        self.bytes_received += other.bytes_received
        for name in TIMES:
            getattr(self, name).merge(getattr(other, name))


class Recorder:
    """What the places of one kind append to.

    An exchange whose answer came whole in one read, is the one right answer and is followed by the
    same message again is nothing but its time in `times`; whatever is not so is in the counts too.

    Attributes:
        times: of exchanges that were answered rightly.
        late_first: of those whose answer came in several reads: until the first byte came;
            `late_whole`: until the last.
        connecting, securing, whole, lateness: times, as in `Result`.
        counted: the piece that failures, connections and bytes are counted in.
    """

    __slots__ = (
        "_answer_size", "_late_first", "_late_whole", "_message_size", "connecting", "counted",
        "late_first", "late_whole", "lateness", "other_exchanges", "securing", "times", "whole",
    )  # fmt: skip

    def __init__(self, message_size: int = 0, answer_size: int = 0) -> None:
        self._message_size = message_size
        self._answer_size = answer_size
        self.times: list[float] = []
        self.late_first: list[float] = []
        self.late_whole: list[float] = []
        self._late_first, self._late_whole = Histogram(), Histogram()
        self.connecting: list[float] = []
        self.securing: list[float] = []
        self.whole: list[float] = []
        self.lateness: list[float] = []
        self.counted = Piece()
        #: Of `times`, those whose bytes are in `counted` already.
        self.other_exchanges = 0

    def fail(self, failure: Failure, times: int = 1) -> None:
        """Count a failure."""
        self.counted.failures[failure.value] += times

    def fold(self) -> None:
        """Make the times that were appended a part of the piece."""
        piece, times = self.counted, self.times
        plain = len(times) - self.other_exchanges
        piece.exchanges += len(times)
        piece.bytes_sent += plain * self._message_size
        piece.bytes_received += plain * self._answer_size
        piece.exchange.add(times)
        for name in ("connecting", "securing", "whole", "lateness"):
            if recorded := getattr(self, name):
                getattr(piece, name).add(recorded)
                recorded.clear()
        if self.late_whole:
            self._late_first.add(self.late_first)
            self._late_whole.add(self.late_whole)
            self.late_first.clear()
            self.late_whole.clear()
        times.clear()
        self.other_exchanges = 0

    def take(self) -> Piece:
        """The piece up to now; another begins."""
        self.fold()
        piece, self.counted = self.counted, Piece()
        # The first byte of most was the last one too.
        piece.first_byte.merge(piece.exchange)
        piece.first_byte.merge(self._late_whole, -1)
        piece.first_byte.merge(self._late_first)
        self._late_first, self._late_whole = Histogram(), Histogram()
        return piece
