"""Pictures of letters: bars, and lines of bars, as wide as there is room."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...bench import Histogram

__all__ = ["ASCII", "BLOCKS", "Bin", "Glyphs", "bins", "condensed", "glyphs_for"]


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What pictures are made of.

    Attributes:
        parts: of a bar's last cell, from the thinnest to the whole one.
        steps: of a column in a line of columns, from the lowest to the highest.
        nothing: a cell of a bar of progress that is still to come.
    """

    parts: str
    steps: str
    nothing: str

    def bar(self, share: float, columns: int) -> str:
        """A bar of this share of the columns. What is more than nothing can be seen."""
        cells = share * columns
        whole = int(cells)
        part = int((cells - whole) * len(self.parts))
        if not whole and not part and share > 0:
            part = 1
        return self.parts[-1] * whole + (self.parts[part - 1] if part else "")

    def columns(self, values: Sequence[float], most: float = 0.0) -> str:
        """A column for each value, from 0 to the largest (or `most`); nothing at all is a space."""
        top = most or max(values, default=0.0)
        return "".join(
            self.steps[min(int(value / top * len(self.steps)), len(self.steps) - 1)]
            if value > 0 else " "
            for value in values
        )  # fmt: skip

    def progress(self, share: float, columns: int) -> str:
        """How much is over, and how much is still to come."""
        done = min(int(share * columns), columns)
        return self.parts[-1] * done + self.nothing * (columns - done)


BLOCKS = Glyphs("▏▎▍▌▋▊▉█", "▁▂▃▄▅▆▇█", "░")
ASCII = Glyphs("#", ".:-=+*#", ".")


def glyphs_for(charset: str | None) -> Glyphs:
    """Blocks where a charset has them."""
    try:
        (BLOCKS.parts + BLOCKS.steps + BLOCKS.nothing).encode(charset or "ascii")
    except UnicodeEncodeError:
        return ASCII
    return BLOCKS


def condensed(values: Sequence[float], most: int, *, largest: bool = False) -> list[float]:
    """At most so many values: of neighbours the mean, or the largest."""
    if len(values) <= most:
        return list(values)
    made = []
    for index in range(most):
        part = values[index * len(values) // most : (index + 1) * len(values) // most]
        made.append(max(part) if largest else sum(part) / len(part))
    return made


# ---- Bins


@dataclass(frozen=True, slots=True)
class Bin:
    """Times of about one length.

    Attributes:
        end: the largest of them, in seconds.
        count: how many there are.
    """

    end: float
    count: int


#: Round numbers from 1 to 10, fewer and fewer.
_SERIES = (
    (1, 1.1, 1.2, 1.3, 1.5, 1.6, 1.8, 2, 2.2, 2.4, 2.7, 3, 3.3, 3.6, 3.9, 4.3, 4.7, 5.1, 5.6, 6.2,
     6.8, 7.5, 8.2, 9.1),
    (1, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2),
    (1, 1.5, 2, 3, 5, 7),
    (1, 2, 5),
    (1,),
)  # fmt: skip

#: Shares of all times that are drawn finely; those beyond need fewer bins.
_FINE = (0.005, 0.99)


def bins(times: Histogram, fine: int = 9, coarse: int = 5) -> list[Bin]:
    """Bins with round ends, each several times longer than the last.

    Args:
        times: what is to be drawn.
        fine: bins for all but the fastest and the slowest, at most. coarse: for the slowest.
    """
    if not times.count:
        return []
    first, last = (max(times.percentile(share), 1e-9) for share in _FINE)
    ends = _ends(first, last, fine)
    slowest = max(times.most, ends[-1])
    ends += [end for end in _ends(ends[-1], slowest, coarse, _SERIES[2:]) if end > ends[-1]]
    counts = [0] * len(ends)
    for low, high, count in times.buckets():
        middle = (low + high) / 2
        index = next((index for index, end in enumerate(ends) if middle <= end), -1)
        counts[index] += count
    found = [Bin(end, count) for end, count in zip(ends, counts, strict=True) if count]
    # Beyond the largest there is nothing.
    return [*found[:-1], Bin(min(found[-1].end, max(times.most, 1e-9)), found[-1].count)]


def _ends(
    first: float, last: float, most: int, known: Sequence[Sequence[float]] = _SERIES
) -> list[float]:
    """Round numbers from the first that is not below `first` to the first not below `last`: as
    many as may be."""
    found = (list(_series(first, last, each)) for each in known)
    return next((ends for ends in found if len(ends) <= most), [last])


def _series(first: float, last: float, series: Sequence[float]) -> Iterator[float]:
    for power in range(math.floor(math.log10(first)), math.ceil(math.log10(last)) + 2):
        for factor in series:
            end = factor * 10.0**power
            if end >= first:
                yield end
            if end >= last:
                return
