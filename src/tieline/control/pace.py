"""Long work in short pieces, so that the connections do not notice it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["Pace", "pieces"]

_Item = TypeVar("_Item")

#: Seconds at a stretch that the loop is held for.
_STRETCH = 0.004


class Pace:
    """Gives the loop to others every few milliseconds."""

    __slots__ = ("_began",)

    def __init__(self) -> None:
        self._began = time.perf_counter()

    async def rest(self) -> None:
        """Let others run, if it is time."""
        if time.perf_counter() - self._began >= _STRETCH:
            await asyncio.sleep(0)
            self._began = time.perf_counter()


def pieces(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """The items, so many at a time."""
    for at in range(0, len(items), size):
        yield items[at : at + size]
