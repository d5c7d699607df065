"""How times are spread: any number of them, in bounded memory, with a bounded error.

A bucket is the first sixteen bits of a time as an IEEE 754 single: sign, exponent, and seven bits
of the fraction. So every power of two is cut into 128 equal parts, from attoseconds to centuries,
and a percentile is within 0.4 % of the time that a list of all of them would give. (The log-linear
idea of HdrHistogram, with the buckets that the machine's own floats have.) A batch is counted
without entering Python for each of its times.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Self

from ..errors import SettingError

__all__ = ["RELATIVE_ERROR", "Histogram"]

#: What a percentile may be off by, as a share of it: half of a bucket.
RELATIVE_ERROR = 1 / 256

_SINGLE = struct.Struct("<f")
_BITS = struct.Struct("<I")

#: The first that holds no number: infinity.
_BUCKETS = 0x7F80

#: Which half of a single holds its first bits.
_FIRST_HALF = 1 if sys.byteorder == "little" else 0


class Histogram:
    """Times in seconds, counted in buckets; smallest, largest and sum are exact.

    Attributes:
        count: how many there are.
        total: their sum.
        least, most: the smallest and the largest; 0.0 while there is none.
    """

    __slots__ = ("_buckets", "least", "most", "total")

    def __init__(self, times: Sequence[float] = ()) -> None:
        self._buckets: Counter[int] = Counter()
        self.total = self.least = self.most = 0.0
        self.add(times)

    @property
    def count(self) -> int:
        return self._buckets.total()

    @property
    def mean(self) -> float:
        """The mean; 0.0 while there is none."""
        return self.total / (self.count or 1)

    def add(self, times: Sequence[float]) -> None:
        """Count these too. A negative time, of a clock that was set, counts as none at all."""
        if not times:
            return
        least = min(times)
        if least < 0.0:
            times = [max(time, 0.0) for time in times]
            least = 0.0
        self._widen(least, max(times))
        self.total += sum(times)
        halves = memoryview(array("f", times)).cast("B").cast("H")
        self._buckets.update(halves[_FIRST_HALF::2])

    def merge(self, other: Histogram, sign: int = 1) -> None:
        """Count what another has counted too; with a `sign` of -1, no more (its smallest and
        largest stay)."""
        if not other._buckets:
            return
        self._widen(other.least, other.most)
        self.total += sign * other.total
        if sign > 0:
            self._buckets.update(other._buckets)
        else:
            self._buckets.subtract(other._buckets)
            self._buckets = +self._buckets

    def _widen(self, least: float, most: float) -> None:
        self.least = min(self.least, least) if self._buckets else least
        self.most = max(self.most, most)

    def percentile(self, share: float) -> float:
        """The time that this share of all of them, 0 to 1, does not exceed (nearest rank).

        Within `RELATIVE_ERROR` of the exact one; 0.0 while there is none.
        """
        return self.percentiles((share,))[share]

    def percentiles(self, shares: Iterable[float]) -> dict[float, float]:
        """Several of them."""
        numbers = sorted(self._buckets)
        sums = list(accumulate(map(self._buckets.__getitem__, numbers)))
        found = {}
        for share in shares:
            rank = max(1, -int(-share * (sums[-1] if sums else 0) // 1))
            at = bisect_left(sums, rank)
            found[share] = self.most
            if at < len(numbers):
                found[share] = min(max(middle(numbers[at]), self.least), self.most)
        return found

    def buckets(self) -> list[tuple[float, float, int]]:
        """Those with something in them, in order: from, up to (not with it), how many."""
        return [
            (lower(bucket), lower(bucket + 1), self._buckets[bucket])
            for bucket in sorted(self._buckets)
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON has it; `from_json` reads it back."""
        return {
            "count": self.count,
            "total": self.total,
            "least": self.least,
            "most": self.most,
            "relative_error": RELATIVE_ERROR,
            "buckets": [[bucket, self._buckets[bucket]] for bucket in sorted(self._buckets)],
        }

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Self:
        """What `as_json` gave.

        Raises:
            SettingError: it is something else.
        """
        made = cls()
        try:
            made._buckets.update({int(bucket): int(count) for bucket, count in read["buckets"]})
            numbers = [float(read[name]) for name in ("total", "least", "most")]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SettingError("this is no histogram") from error
        sound = all(0 <= bucket < _BUCKETS and count > 0 for bucket, count in made._buckets.items())
        if not sound or not all(map(math.isfinite, numbers)):
            raise SettingError("this is no histogram")
        made.total, made.least, made.most = numbers
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.as_json() == other.as_json()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Histogram {self.count} times, {self.least:.6f} to {self.most:.6f} s>"


def lower(bucket: int) -> float:
    """The smallest time that a bucket may hold."""
    single: float = _SINGLE.unpack(_BITS.pack(bucket << 16))[0]
    return single


def middle(bucket: int) -> float:
    """The middle of a bucket: what its times are taken for."""
    return (lower(bucket) + lower(bucket + 1)) / 2
