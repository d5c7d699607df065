"""What a result must not be: `p99>5ms`, `rate<1000`, `failures>1%`.

A threshold names a figure, an operator and a value. Figures:

- of times: `p50`, `p75`, `p90`, `p95`, `p99`, `p99.9`, `p99.99`, `mean`, `max`: of exchanges; with
  a word before, of something else: `connect.p99`, `tls.p99`, `first_byte.p99`, `whole.p99`,
  `lateness.p99`;
- `rate`: exchanges a second;
- `failures`, `lost`, `retransmits`, and each reason of failure (`refused`, `wrong_answer`...): a
  number, or a share of all that was tried.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import SettingError
from ..rules import nearest
from .result import Failure, Result

__all__ = ["METRICS", "Threshold", "parse_threshold"]

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

_FORM = re.compile(r"\s*([a-z_0-9.]+)\s*(<=|>=|<|>)\s*([0-9]*\.?[0-9]+)\s*([A-Za-zµ%]*)\s*")

#: Which histogram a word stands for.
_TIMES = {
    "": "exchange", "exchange": "exchange", "connect": "connecting", "tls": "securing",
    "first_byte": "first_byte", "whole": "whole", "lateness": "lateness",
}  # fmt: skip
_SHARES = {
    "p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "p99.99": 0.9999,
}  # fmt: skip
_OF_TIMES = (*_SHARES, "mean", "max")
_COUNTS = ("failures", "lost", "retransmits", *(failure.value for failure in Failure))

#: The figures there are, of exchanges; those of other times have a word before them.
METRICS = (*_OF_TIMES, "rate", *_COUNTS)

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0}
_NUMBERS = {"": 1.0, "k": 1e3, "m": 1e6}


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a result must not be.

    Attributes:
        text: as it was written.
        metric: the figure.
        operator: `<`, `<=`, `>` or `>=`.
        bound: in seconds, a number, or a share from 0 to 1.
        is_share: whether it is a share of all that was tried.
    """

    text: str
    metric: str
    operator: str
    bound: float
    is_share: bool = False

    def value(self, result: Result) -> float | None:
        """The figure; `None` where nothing was measured that it could be of."""
        if self.metric == "rate":
            return result.per_second if result.seconds else None
        if self.metric in _COUNTS:
            return self._count(result, self.metric)
        word, name = _parted(self.metric)
        times = getattr(result, _TIMES[word])
        if not times.count:
            return None
        if name in _SHARES:
            return float(times.percentile(_SHARES[name]))
        return float(times.mean if name == "mean" else times.most)

    def _count(self, result: Result, name: str) -> float:
        counts = {
            "failures": result.failed, "lost": result.lost,
            "retransmits": result.kernel.retransmitted,
        }  # fmt: skip
        count = counts.get(name, result.failures[name])
        if not self.is_share:
            return float(count)
        return count / result.tried if result.tried else 0.0

    def crossed(self, result: Result) -> bool:
        """Whether the result is what it must not be. So is one that has nothing to measure: who
        asks for a p99 is not served by none."""
        value = self.value(result)
        return value is None or _OPERATORS[self.operator](value, self.bound)

    def __str__(self) -> str:
        return self.text


def parse_threshold(text: str) -> Threshold:
    """Read a threshold.

    Raises:
        SettingError: it is none; the hint names the nearest figure.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise SettingError(
            "{text!r} is no threshold", hint="write p99>5ms, rate<1000 or failures>1%", text=text
        )
    metric, sign, number, unit = match.groups()
    _check(metric)
    is_time = metric != "rate" and metric not in _COUNTS
    is_share = unit == "%" and not is_time and metric != "rate"
    numbers = {"%": 0.01} if is_share else _NUMBERS
    factor = _SECONDS.get(unit) if is_time else numbers.get(unit.lower())
    if factor is None:
        raise SettingError(
            "{unit!r} is no unit of {metric}", unit=unit, metric=metric,
            hint="write 5ms, 200us or 1s" if is_time else "write a number, or a share as 1%",
        )  # fmt: skip
    return Threshold(text.strip(), metric, sign, float(number) * factor, is_share)


def _parted(metric: str) -> tuple[str, str]:
    """Of what times, and which figure of them: `connect.p99.9` is `connect` and `p99.9`."""
    word, dot, name = metric.partition(".")
    return (word, name) if dot and word in _TIMES else ("", metric)


def _check(metric: str) -> None:
    word, name = _parted(metric)
    if name in _OF_TIMES or (not word and metric in METRICS):
        return
    like = nearest(metric, METRICS)
    hint = "did you mean {like}?" if like else "there are p50 to p99.99, mean, max, rate, failures"
    raise SettingError("{metric!r} is no figure of a bench", hint=hint, metric=metric, like=like)
