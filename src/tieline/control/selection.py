"""The first so many of very many, sorted: in pieces, and without keeping the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .pace import Pace, pieces

__all__ = ["Key", "Selection", "Wanted", "select"]

_Item = TypeVar("_Item")

#: What rows are compared by; all of one column are of one type.
Key = str | int | float

_PIECE = 128


@dataclass(frozen=True, slots=True)
class Wanted(Generic[_Item]):
    """Which items, in what order.

    Attributes:
        key: what an item is sorted by.
        name: what tells two items apart that are alike by their key.
        tests: what an item must pass.
        limit: how many are wanted.
        descending: whether the largest come first.
        after: the key and name behind which the page begins.
    """

    key: Callable[[_Item], Key]
    name: Callable[[_Item], Key]
    tests: Sequence[Callable[[_Item], bool]] = ()
    limit: int = 50
    descending: bool = False
    after: tuple[Any, Any] | None = None


@dataclass(frozen=True, slots=True)
class Selection(Generic[_Item]):
    """What was found.

    Attributes:
        items: in order.
        matched: how many passed the tests, on this page or not.
        next: behind what the next page begins; `None`: there is none.
    """

    items: list[_Item]
    matched: int
    next: tuple[Key, Key] | None


async def select(items: Sequence[_Item], wanted: Wanted[_Item]) -> Selection[_Item]:
    """Go through all the items once, giving the loop to others in between.

    Memory is that of the page: sorting a piece into it throws out what does not belong there.
    """
    pace = Pace()
    best: list[tuple[Any, Any, _Item]] = []
    matched = following = 0
    after, descending = wanted.after, wanted.descending
    for piece in pieces(items, _PIECE):
        found = []
        for item in piece:
            if all(test(item) for test in wanted.tests):
                matched += 1
                entry = (wanted.key(item), wanted.name(item), item)
                if after is None or (entry[:2] < after if descending else entry[:2] > after):
                    found.append(entry)
        if found:
            following += len(found)
            # Names differ, so that the items themselves are never compared.
            best = sorted(best + found, reverse=descending)[: wanted.limit]
        await pace.rest()
    more = following > len(best) and bool(best)
    last = (best[-1][0], best[-1][1]) if more else None
    return Selection([item for _, _, item in best], matched, last)
