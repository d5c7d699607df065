"""Durations, sizes, counts and rates as people write them: `5m`, `64KiB`, `10k`, `30/m`."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from ..errors import SettingError

__all__ = [
    "format_byte_rate",
    "format_count",
    "format_duration",
    "format_rate",
    "format_share",
    "format_size",
    "parse_byte_rate",
    "parse_count",
    "parse_duration",
    "parse_rate",
    "parse_share",
    "parse_size",
]

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z]*)\s*", re.ASCII)

_DURATIONS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PERIODS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_COUNTS = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_SIZES = {"b": 1}
for _power, _prefix in enumerate("kmg", 1):
    for _end in ("", "b"):
        _SIZES[f"{_prefix}{_end}"] = 1000**_power
        _SIZES[f"{_prefix}i{_end}"] = 1024**_power


def parse_duration(text: str) -> float:
    """Seconds in a duration; a number without a unit is seconds.

    Raises:
        SettingError: it is not a duration.
    """
    number, factor = _parse(text, _DURATIONS, 1.0)
    # Written as a quotient, 500ms is 0.5 and not 0.5000000000000001.
    seconds = number / (1 / factor) if factor < 1 else number * factor
    if math.isnan(seconds):
        raise SettingError(
            "{text!r} is not a duration", hint="write it as 500ms, 10s, 5m or 2h", text=text
        )
    return seconds


def parse_size(text: str) -> int:
    """Bytes in a size: `64KiB` is 65536, `64k` is 64000.

    Raises:
        SettingError: it is not a size, or not one of whole bytes.
    """
    number, factor = _parse(text, _SIZES, 1)
    if not (number * factor).is_integer():  # NaN is no integer either
        raise SettingError(
            "{text!r} is not a size", hint="write it as 512, 64KiB or 1MiB", text=text
        )
    return int(number * factor)


def parse_count(text: str) -> int:
    """A whole number, perhaps with `k` or `M`.

    Raises:
        SettingError: it is not one.
    """
    number, factor = _parse(text, _COUNTS, 1)
    if not (number * factor).is_integer():
        raise SettingError("{text!r} is not a count", hint="write it as 20 or 10k", text=text)
    return int(number * factor)


def parse_rate(text: str) -> float:
    """How many a second: `20`, `20/s`, `30/m`, `1k/h`.

    Raises:
        SettingError: it is not a rate.
    """
    written, slash, period = text.partition("/")
    number, factor = _parse(written, _COUNTS, 1)
    seconds = _PERIODS.get(period.strip().lower()) if slash else 1
    if seconds is None or math.isnan(number):
        raise SettingError("{text!r} is not a rate", hint="write it as 20/s or 30/m", text=text)
    return number * factor / seconds


def parse_byte_rate(text: str) -> float:
    """Bytes a second: `100`, `64KiB`, `64KiB/s`.

    Raises:
        SettingError: it is not a rate of bytes.
    """
    written, slash, period = text.partition("/")
    number, factor = _parse(written, _SIZES, 1)
    if math.isnan(number) or (slash and period.strip().lower() != "s"):
        raise SettingError("{text!r} is not a rate", hint="write it as 100/s or 64KiB/s", text=text)
    return number * factor


def parse_share(text: str) -> float:
    """A share of a whole: `0.1` or `10%`.

    Raises:
        SettingError: it is not a share.
    """
    written, percent, after = text.strip().partition("%")
    number, factor = _parse(written, {}, 1)
    if math.isnan(number) or after:
        raise SettingError("{text!r} is not a share", hint="write it as 0.1 or 10%", text=text)
    return number / 100 if percent else number * factor


def _parse(text: str, units: dict[str, float] | dict[str, int], bare: float) -> tuple[float, float]:
    """The number and the factor of its unit; NaN where the text is neither."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return math.nan, bare
    unit = match[2].lower()
    factor = bare if not unit else units.get(unit)
    return (math.nan, bare) if factor is None else (float(match[1]), factor)


def format_duration(seconds: float) -> str:
    """The shortest way to write a duration that `parse_duration` reads back."""
    for unit, factor in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= factor and seconds % factor == 0:
            return f"{int(seconds // factor)}{unit}"
    if seconds >= 1 or not seconds:
        return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"
    return f"{seconds * 1e3:g}ms" if seconds >= 1e-3 else f"{seconds * 1e6:g}us"


def format_size(size: int) -> str:
    """The shortest way to write a size that `parse_size` reads back."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{unit}"
    return str(size)


def format_count(count: int) -> str:
    """The shortest way to write a count that `parse_count` reads back."""
    for unit, factor in (("M", 1_000_000), ("k", 1_000)):
        if count and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)


def format_rate(rate: float) -> str:
    """The shortest way to write a rate that `parse_rate` reads back."""
    for period, seconds in (("s", 1), ("m", 60), ("h", 3600)):
        count = float(rate * seconds)
        if count.is_integer() and count / seconds == rate:
            return f"{format_count(int(count))}/{period}"
    return f"{_plain(rate)}/s"


def format_byte_rate(rate: float) -> str:
    """The shortest way to write a rate that `parse_byte_rate` reads back."""
    return (format_size(int(rate)) if float(rate).is_integer() else _plain(rate)) + "/s"


def format_share(share: float) -> str:
    """A share as `parse_share` reads it back."""
    return _plain(share)


def _plain(number: float) -> str:
    """All digits that a number needs to be read back, and no exponent."""
    return format(Decimal(repr(number)), "f")
