"""Two results side by side, and what of their difference is more than chance.

Whether a figure differs is judged by the intervals of both runs: the chance that intervals of two
equal services would differ as much, by a permutation test of their medians. Two thousand orders
are tried, always the same ones, so that the answer to one pair of files is one answer.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .result import Interval, Result

__all__ = ["Difference", "Figure", "differ"]

#: Orders that are tried, and the chance below which a difference is taken for one.
_ORDERS = 2_000
_CHANCE = 0.01

#: Intervals of a run that are needed to judge by.
_FEWEST = 8

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
        chance: how likely such a difference is by chance alone, 0 to 1; `None` where the intervals
            do not tell.
    """

    name: str
    before: float
    after: float
    more_is_better: bool = False
    chance: float | None = None

    @property
    def ratio(self) -> float | None:
        """After by before; `None` where there was nothing before."""
        return self.after / self.before if self.before else None

    @property
    def is_difference(self) -> bool | None:
        """Whether it is more than chance; `None` where that cannot be told."""
        return None if self.chance is None else self.chance < _CHANCE

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
        _judged("p99.9", before, after, lambda r: r.exchange.percentile(0.999)),
        _judged("max", before, after, lambda r: r.exchange.most, lambda i: i.most),
        _judged("connect.p50", before, after, lambda r: r.connecting.percentile(0.5)),
        _judged("connect.p99", before, after, lambda r: r.connecting.percentile(0.99)),
        _judged("first_byte.p50", before, after, lambda r: r.first_byte.percentile(0.5)),
        _judged("whole.p50", before, after, lambda r: r.whole.percentile(0.5)),
        _judged("lateness.p99", before, after, lambda r: r.lateness.percentile(0.99)),
        _judged("cpu", before, after, lambda r: r.cpu_per_exchange),
    ]
    unlike = {
        name: (getattr(before, name), getattr(after, name))
        for name in _OF_THE_PLAN
        if getattr(before, name) != getattr(after, name)
    }
    reasons = sorted(before.failures.keys() | after.failures.keys())
    return Difference(
        before, after, tuple(figure for figure in figures if figure.before or figure.after), unlike,
        {reason: (before.failures[reason], after.failures[reason]) for reason in reasons},
    )  # fmt: skip


def _rate(interval: Interval) -> float:
    return interval.exchanges / interval.seconds if interval.seconds else 0.0


def _judged(
    name: str,
    before: Result,
    after: Result,
    whole: Callable[[Result], float],
    part: Callable[[Interval], float] | None = None,
    *,
    more_is_better: bool = False,
) -> Figure:
    chance = None
    if part is not None:
        chance = _chance([part(i) for i in _full(before)], [part(i) for i in _full(after)])
    return Figure(name, whole(before), whole(after), more_is_better, chance)


def _full(result: Result) -> list[Interval]:
    """The intervals of their full length: the last is what was left."""
    longest = max((interval.seconds for interval in result.intervals), default=0.0)
    return [interval for interval in result.intervals if interval.seconds > longest / 2]


def _chance(before: Sequence[float], after: Sequence[float]) -> float | None:
    """How likely two such rows are, if all of them are of one kind."""
    if len(before) < _FEWEST or len(after) < _FEWEST:
        return None
    seen = abs(statistics.median(before) - statistics.median(after))
    order = random.Random(0)
    together = [*before, *after]
    as_far = 0
    for _ in range(_ORDERS):
        order.shuffle(together)
        apart = statistics.median(together[: len(before)]) - statistics.median(
            together[len(before) :]
        )
        as_far += abs(apart) >= seen
    return (as_far + 1) / (_ORDERS + 1)
