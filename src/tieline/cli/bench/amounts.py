"""Measured numbers as people read them: three digits, and the unit that fits."""

from __future__ import annotations

__all__ = [
    "count", "digits", "duration", "per_second", "round_count", "round_duration", "round_share",
    "share", "size",
]  # fmt: skip

_TIMES = ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))
_SIZES = ((1, "B"), (1024, "KiB"), (1024**2, "MiB"), (1024**3, "GiB"), (1024**4, "TiB"))
_COUNTS = ((1, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"))


def duration(seconds: float) -> str:
    """A measured time: `850 ns`, `12.3 µs`, `1.04 ms`, `2.50 s`, `1,200 s`."""
    if not seconds:
        return "0 s"
    for position, (factor, unit) in enumerate(_TIMES):
        # 999.6 µs has three digits only as 1.00 ms.
        if seconds / factor < 999.5 or position == len(_TIMES) - 1:
            return f"{digits(seconds / factor)} {unit}"
    raise AssertionError


def digits(number: float) -> str:
    """A number with three digits that count, all of them before the point where it is large."""
    if abs(number) >= 99.95:
        return f"{number:,.0f}"
    if abs(number) >= 9.995:
        return f"{number:.1f}"
    return f"{number:.2f}" if abs(number) >= 0.9995 or not number else f"{number:.3g}"


def count(number: float) -> str:
    """A whole number with commas between thousands."""
    return f"{number:,.0f}"


def per_second(rate: float) -> str:
    """How many a second: whole where there are many, else with three digits."""
    return count(rate) if rate >= 99.95 or not rate else digits(rate)


def round_count(number: float) -> str:
    """A round number, for the side of a chart: `0`, `250`, `1.5k`, `20k`, `3M`."""
    factor, unit = _fitting(number, _COUNTS)
    return f"{number / factor:.6g}{unit}"


def round_duration(seconds: float) -> str:
    """A round time, for the side of a chart: `0`, `300 µs`, `10 ms`, `1,200 s`."""
    if not seconds:
        return "0"
    factor, unit = _fitting(seconds * (1 + 1e-9), _TIMES)
    return f"{seconds / factor:,.6g} {unit}"


def round_share(part: float) -> str:
    """A round share, for the side of a chart: `0%`, `2.5%`, `80%`."""
    return f"{part * 100:.6g}%"


def size(number: float) -> str:
    """Bytes in the unit that fits: `64 B`, `7.3 KiB`, `1.2 GiB`."""
    factor, unit = _fitting(number, _SIZES)
    return f"{number:.0f} B" if factor == 1 else f"{number / factor:,.1f} {unit}"


def share(part: float) -> str:
    """A share, 0 to 1, in percent: `0.02%`, `3.1%`, `100%`. Never 0 for what is more."""
    percent = part * 100
    if percent in (0, 100):
        return f"{percent:.0f}%"
    if percent >= 99.95:
        # What is nearly all is not all.
        return f"{min(percent, 99.99):.2f}%"
    return f"{percent:.1f}%" if percent >= 0.995 else f"{percent:.2g}%"


def _fitting(number: float, units: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    """The largest unit of which there is at least one."""
    return max((each for each in units if abs(number) >= each[0]), default=units[0])
