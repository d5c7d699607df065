"""Numbers for people, short: `3m12s`, `1.2K`, `1,204`. They are not meant to be read back."""

from __future__ import annotations

import time
from itertools import pairwise

__all__ = ["bytes_text", "clock_text", "count_text", "duration_text"]

_PARTS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def duration_text(seconds: float) -> str:
    """At most two units: `0.4s`, `12s`, `3m12s`, `2h05m`, `3d04h`."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f}s"
    left = int(seconds)
    for (unit, size), (lower, lower_size) in pairwise(_PARTS):
        if left >= size:
            return f"{left // size}{unit}{left % size // lower_size:02}{lower}"
    return f"{left}s"


def bytes_text(size: float) -> str:
    """Three digits and a letter: `512`, `1.2K`, `64K`, `3.5M`; K is 1,024."""
    if size < 1000:
        return f"{size:.0f}"
    for unit in "KMGTPE":
        size /= 1024
        if size < 9.95:
            return f"{size:.1f}{unit}"
        if size < 999.5:
            break
    return f"{size:.0f}{unit}"


def count_text(count: float) -> str:
    """With commas between thousands; a share of one only where there is not even one."""
    return f"{count:.1f}" if 0 < count < 0.95 else f"{round(count):,}"


def clock_text(seconds: float) -> str:
    """A moment on this machine's clock, to the millisecond."""
    return time.strftime("%H:%M:%S", time.localtime(seconds)) + f"{seconds % 1:.3f}"[1:]
