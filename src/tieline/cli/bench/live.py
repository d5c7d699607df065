"""The line that tells how a bench is going while it does: rewritten in place, on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from types import TracebackType
from typing import Self, TextIO

from ...bench import Phase, Progress
from ..translation import N_
from ..translation import gettext as _
from ..visible import width
from .amounts import count, duration, per_second
from .drawing import Glyphs, glyphs_for

__all__ = ["LiveLine", "live_text"]

_PHASES = {
    Phase.RAMP: N_("beginning"),
    Phase.WARMUP: N_("warming up"),
    Phase.MEASURING: N_("measuring"),
    Phase.FINISHING: N_("finishing"),
}

_BAR = 10


class LiveLine:
    """A line on stderr, while it is entered. Where that is no terminal there is none.

    Args:
        shown: whether it is wanted at all.
    """

    def __init__(self, shown: bool = True, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._shown = shown and self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._glyphs = glyphs_for(self._stream.encoding)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._write("")

    def show(self, progress: Progress, name: str = "") -> None:
        """Show how it goes; `name` says of what, where there are several."""
        # The last column stays free: some terminals would go on to the next line.
        columns = shutil.get_terminal_size().columns - 1
        self._write(live_text(progress, columns, self._glyphs, name))

    def _write(self, text: str) -> None:
        if self._shown:
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()


def live_text(progress: Progress, columns: int, glyphs: Glyphs, name: str = "") -> str:
    """How it goes, in so many columns: what matters less is left out where there is no room."""
    phase = _(_PHASES[progress.phase])
    head = _("{run}: {remark}").format(run=name, remark=phase) if name else phase
    if progress.share is None:
        head += f" {progress.elapsed:.0f} s"
    else:
        head += f" {glyphs.progress(progress.share, _BAR)} {progress.share * 100:3.0f}%"
    # In the order in which they stand, each with how much it matters.
    parts = [(9, head)]
    if progress.per_second:
        parts.append((8, _("{rate}/s").format(rate=per_second(progress.per_second))))
    if progress.p99:
        parts.append((5, f"p50 {duration(progress.p50)}"))
        parts.append((6, f"p99 {duration(progress.p99)}"))
    failed = progress.failures.total()
    if failed:
        parts.append((7, _("failed {count}").format(count=count(failed))))
    parts.append((4, _("open {count}").format(count=count(progress.held))))
    if progress.waiting:
        parts.append((3, _("waiting {count}").format(count=count(progress.waiting))))
    while width("  ".join(text for _weight, text in parts)) > columns and len(parts) > 1:
        parts.remove(min(parts))
    text = "  ".join(text for _weight, text in parts)
    while width(text) > max(columns, 0):
        text = text[:-1]
    return text
