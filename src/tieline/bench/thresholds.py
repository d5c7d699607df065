"""What a result must not be: `p99>5ms`, `rate<1000`, `failures>1%`.

A threshold names a figure, an operator and a value. Figures:

- of times: `p50`, `p75`, `p90`, `p95`, `p99`, `p99.9`, `p99.99`, `mean`, `max`: of exchanges; with
  a word before, of something else: `connect.p99`, `tls.p99`, `first_byte.p99`, `whole.p99`,
  `lateness.p99`;
- `rate`: exchanges a second;
- `failures`, `lost`, `retransmits`, and each reason of failure (`refused`, `wrong_answer`...): a
  number, or a share of all that was tried.

Times have a unit: ns, us, ms, s or min. Numbers may have `k` or `M`; `%` makes a share of one.
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

_FORM = re.compile(r"\s*([a-z_0-9.]+)\s*(<=|>=|<|>)\s*([0-9]*\.?[0-9]+)\s*([^\W\d_]*|%)\s*")

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

#: Of the sign for micro, and of the Greek letter that looks like it.
_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0,
    "min": 60.0,
}  # fmt: skip
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

    @property
    def is_time(self) -> bool:
        """Whether it is of a time, in seconds."""
        return self.metric != "rate" and self.metric not in _COUNTS

    def value(self, result: Result) -> float | None:
        """The figure; `None` where nothing was measured that it could be of."""
        if self.metric == "rate":
            return result.per_second if result.seconds else None
        if self.metric == "retransmits" and not result.kernel.sampled:
            return None
        if self.metric in _COUNTS:
            return self._count(result, self.metric)
        word, name = _parted(self.metric)
        times = getattr(result, _TIMES[word])
        if not times.count:
            return None
        if name in _SHARES:
            return float(times.percentile(_SHARES[name]))
        return float(times.mean if name == "mean" else times.most)

    def _count(self, result: Result, name: str) -> float | None:
        counts = {
            "failures": result.failed, "lost": result.lost,
            "retransmits": result.kernel.retransmitted,
        }  # fmt: skip
        count = counts.get(name, result.failures[name])
        if not self.is_share:
            return float(count)
        return count / result.tried if result.tried else None

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
    factor = _factor(metric, unit)
    is_share = unit == "%"
    return Threshold(text.strip(), metric, sign, float(number) * factor, is_share)


def _factor(metric: str, unit: str) -> float:
    """What a unit makes of a number: seconds, a count, a share.

    Raises:
        SettingError: it is no unit of that.
    """
    is_time = metric != "rate" and metric not in _COUNTS
    has_shares = metric in _COUNTS and metric != "retransmits"
    if is_time:
        factor = _SECONDS.get(unit)
    else:
        factor = 0.01 if unit == "%" and has_shares else _NUMBERS.get(unit.lower())
    if factor is None:
        raise SettingError(
            "{unit!r} is no unit of {metric}" if unit else "{metric} is a time and needs a unit",
            hint="write {metric}>5ms, 200us or 1s" if is_time
            else "write a number, or a share as 1%" if has_shares
            else "write a number",
            unit=unit, metric=metric,
        )  # fmt: skip
    return factor


def _parted(metric: str) -> tuple[str, str]:
    """Of what times, and which figure of them: `connect.p99.9` is `connect` and `p99.9`."""
    word, dot, name = metric.partition(".")
    return (word, name) if dot and word in _TIMES else ("", metric)


def _check(metric: str) -> None:
    word, name = _parted(metric)
    if name in _OF_TIMES or (not word and metric in METRICS):
        return
    like = nearest(metric, METRICS)
    raise SettingError(
        "{metric!r} is no figure of a bench",
        hint="did you mean {like}?" if like
        else "there are p50 to p99.99, mean, max, rate, failures",
        metric=metric, like=like,
    )  # fmt: skip
