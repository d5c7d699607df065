"""Two results side by side, and what of their difference is more than chance.

Whether a figure differs is judged by the intervals of both runs, and asks for two things. Equal
services would differ as much with a chance below one in a hundred: a permutation test of the
intervals' medians, of a thousand orders, always the same ones, so that the answer to one pair of
files is one answer. And the difference is larger than what either run wavered by itself: the
medians of its fifths. Intervals that follow each other are alike, which the first test does not
know; on a machine that others use too, it alone would find four of five equal pairs different.

No test of two runs can know what differs from run to run. Whoever must be sure repeats both.
"""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .result import Interval, Result

__all__ = ["Difference", "Figure", "differ"]

#: Orders that are tried, and the chance below which a difference is taken for one.
_ORDERS = 1_000
_CHANCE = 0.01

#: Intervals of a run that are needed to judge by, and the pieces whose medians say how it wavered.
_FEWEST = 10
_PIECES = 5

#: Intervals that are longer by more than this have another p99, of the same service.
_AS_LONG = 1.2

#: What two plans must have alike, for their results to be about the same thing.
_OF_THE_PLAN = (
    "address", "mode", "connections", "pipeline", "rate", "tls", "processes", "message_size",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of both runs.

    Attributes:
        name: what it is: `rate`, `p50`, `connect.p99`...
        before, after: of the first run and of the second; times in seconds.
        more_is_better: whether growing is good.
        chance: how likely such a difference is between intervals of one kind, 0 to 1; `None` where
            the intervals do not tell.
        is_beyond_wavering: whether it is larger than what either run wavered by itself.
    """

    name: str
    before: float
    after: float
    more_is_better: bool = False
    chance: float | None = None
    is_beyond_wavering: bool = False

    @property
    def ratio(self) -> float | None:
        """After by before; `None` where there was nothing before."""
        return self.after / self.before if self.before else None

    @property
    def is_difference(self) -> bool | None:
        """Whether it is more than chance; `None` where that cannot be told."""
        if self.chance is None:
            return None
        return self.chance < _CHANCE and self.is_beyond_wavering

    @property
    def is_better(self) -> bool:
        """Whether the second run is the better one, by chance or not."""
        return (self.after > self.before) == self.more_is_better and self.after != self.before


@dataclass(frozen=True, slots=True)
class Difference:
    """Two runs side by side.

    Attributes:
        before, after: the runs.
        figures: what was measured in both.
        plans: what of their plans is not alike, with both values.
        failures: reasons of failure, with how often in each.
    """

    before: Result
    after: Result
    figures: tuple[Figure, ...]
    plans: dict[str, tuple[object, object]]
    failures: dict[str, tuple[int, int]]


def differ(before: Result, after: Result) -> Difference:
    """Set two results side by side."""
    figures = [
        _judged("rate", before, after, lambda r: r.per_second, _rate, more_is_better=True),
        _judged("p50", before, after, lambda r: r.exchange.percentile(0.5), lambda i: i.p50),
        _judged("p99", before, after, lambda r: r.exchange.percentile(0.99), lambda i: i.p99),
        _figure("p99.9", before, after, lambda r: r.exchange.percentile(0.999)),
        _judged("max", before, after, lambda r: r.exchange.most, lambda i: i.most),
        _figure("connect.p50", before, after, lambda r: r.connecting.percentile(0.5)),
        _figure("connect.p99", before, after, lambda r: r.connecting.percentile(0.99)),
        _figure("first_byte.p50", before, after, lambda r: r.first_byte.percentile(0.5)),
        _figure("whole.p50", before, after, lambda r: r.whole.percentile(0.5)),
        _figure("lateness.p99", before, after, lambda r: r.lateness.percentile(0.99)),
        _figure("cpu", before, after, lambda r: r.cpu_per_exchange),
    ]
    unlike = {
        name: (getattr(before, name), getattr(after, name))
        for name in _OF_THE_PLAN
        if getattr(before, name) != getattr(after, name)
    }
    reasons = sorted(before.failures.keys() | after.failures.keys())
    return Difference(
        before, after, tuple(figure for figure in figures if _is_told(figure)), unlike,
        {reason: (before.failures[reason], after.failures[reason]) for reason in reasons},
    )  # fmt: skip


def _is_told(figure: Figure) -> bool:
    """Whether it was measured in both. A rate of none is a rate; a time of none is no time."""
    either, both = figure.before or figure.after, figure.before and figure.after
    return bool(either if figure.name == "rate" else both)


def _figure(name: str, before: Result, after: Result, whole: Callable[[Result], float]) -> Figure:
    return Figure(name, whole(before), whole(after))


def _rate(interval: Interval) -> float:
    return interval.exchanges / interval.seconds if interval.seconds else 0.0


def _judged(
    name: str,
    before: Result,
    after: Result,
    whole: Callable[[Result], float],
    part: Callable[[Interval], float],
    *,
    more_is_better: bool = False,
) -> Figure:
    """A figure that every interval has too."""
    rows = []
    for result in (before, after):
        full = _full(result)
        if name != "rate":
            # Nothing was answered then: there is no time, and not one of 0.0.
            full = [interval for interval in full if interval.exchanges]
        rows.append([part(interval) for interval in full])
    first, second = rows
    if min(len(first), len(second)) < _FEWEST or not any(first + second):
        return Figure(name, whole(before), whole(after), more_is_better)
    if name in ("p99", "max") and not _are_as_long(before, after):
        return Figure(name, whole(before), whole(after), more_is_better)
    apart = abs(statistics.median(first) - statistics.median(second))
    return Figure(
        name, whole(before), whole(after), more_is_better, _chance(first, second),
        apart > max(_wavering(first), _wavering(second)),
    )  # fmt: skip


def _full(result: Result) -> list[Interval]:
    """The intervals of their full length: the last is what was left."""
    longest = _length(result)
    return [interval for interval in result.intervals if interval.seconds > longest / 2]


def _length(result: Result) -> float:
    return max((interval.seconds for interval in result.intervals), default=0.0)


def _are_as_long(before: Result, after: Result) -> bool:
    shorter, longer = sorted((_length(before), _length(after)))
    return longer <= shorter * _AS_LONG


def _wavering(row: Sequence[float]) -> float:
    """How far the medians of the fifths of a run lie apart."""
    bounds = [len(row) * piece // _PIECES for piece in range(_PIECES + 1)]
    medians = [statistics.median(row[a:b]) for a, b in itertools.pairwise(bounds)]
    return max(medians) - min(medians)


def _chance(before: Sequence[float], after: Sequence[float]) -> float:
    """How likely two rows that lie so far apart are, if all of them are of one kind."""
    seen = abs(statistics.median(before) - statistics.median(after))
    order = random.Random(0)
    together = [*before, *after]
    as_far = 0
    for _ in range(_ORDERS):
        order.shuffle(together)
        first, second = together[: len(before)], together[len(before) :]
        as_far += abs(statistics.median(first) - statistics.median(second)) >= seen
    return (as_far + 1) / (_ORDERS + 1)
