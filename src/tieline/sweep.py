"""Do something to many connections, a few at a time, so that the loop serves others between."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["Sweep"]

#: How many at a time; ending a connection may take 20 µs in the kernel.
_AT_ONCE = 64

#: Seconds between the steps of one that is spread over a time.
_STEP = 0.1


class Sweep:
    """Goes over items in the background, until it is done or `cancel` is called.

    Args:
        loop: where.
        items: taken as they are now.
        act: called with each; must not raise.
        seconds: spread evenly over this time; 0: as fast as the loop has room.
    """

    __slots__ = ("_act", "_at_once", "_handle", "_items", "_loop", "_pause")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        items: Iterable[Any],
        act: Callable[[Any], object],
        seconds: float = 0.0,
    ) -> None:
        self._loop = loop
        self._items = list(items)
        self._items.reverse()
        self._act = act
        count = len(self._items)
        # A long list in a short time is still done a few at a time, and takes longer.
        wanted = math.ceil(count * _STEP / seconds) if seconds else _AT_ONCE
        self._at_once = max(1, min(wanted, _AT_ONCE))
        self._pause = seconds / max(math.ceil(count / self._at_once), 1)
        self._handle: asyncio.Handle | None = None
        self._step()

    def _step(self) -> None:
        self._handle = None
        for _ in range(self._at_once):
            # `act` may cancel.
            if not self._items:
                break
            self._act(self._items.pop())
        if self._items:
            if self._pause:
                self._handle = self._loop.call_later(self._pause, self._step)
            else:
                self._handle = self._loop.call_soon(self._step)

    @property
    def is_done(self) -> bool:
        """Whether every item has had its turn, or it was cancelled."""
        return not self._items

    def cancel(self) -> None:
        """Leave the rest as they are. Idempotent."""
        self._items.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
