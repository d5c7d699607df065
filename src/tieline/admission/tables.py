"""A large dictionary in many small parts, so that no single step of it takes long.

A dictionary of a million entries stops everything for a tenth of a second when it grows, or
when somebody looks through it. Here a part grows, or is looked through, at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["PARTS", "Table"]

Value = TypeVar("Value")

#: How many parts. A prime: dictionaries go by the low bits of a hash, which therefore must not
#: be the same within a part.
PARTS = 61


class Table(Generic[Value]):
    """Values by key.

    Attributes:
        count: how many there are.
    """

    __slots__ = ("_parts", "count")

    def __init__(self) -> None:
        self._parts: list[dict[str, Value]] = [{} for _ in range(PARTS)]
        self.count = 0

    def __contains__(self, key: str) -> bool:
        return key in self._parts[hash(key) % PARTS]

    def get(self, key: str) -> Value | None:
        """The value of a key."""
        return self._parts[hash(key) % PARTS].get(key)

    def put(self, key: str, value: Value) -> None:
        """Set the value of a key."""
        part = self._parts[hash(key) % PARTS]
        before = len(part)
        part[key] = value
        self.count += len(part) - before

    def pop(self, key: str) -> Value | None:
        """Take a key out. Returns its value, if it was there."""
        value = self._parts[hash(key) % PARTS].pop(key, None)
        if value is not None:
            self.count -= 1
        return value

    def items(self) -> Iterator[tuple[str, Value]]:
        """All of it. It may change meanwhile: each part is read when its turn comes."""
        for part in self._parts:
            yield from list(part.items())

    def part(self, number: int) -> dict[str, Value]:
        """One part. Not to be changed."""
        return self._parts[number]

    def sift(self, number: int, keep: Callable[[dict[str, Value]], dict[str, Value]]) -> int:
        """Replace one part by what `keep` makes of it. Returns how many entries have gone.

        A new dictionary, since an old one keeps the room it once took.
        """
        old = self._parts[number]
        if not old:
            return 0
        new = self._parts[number] = keep(old)
        gone = len(old) - len(new)
        self.count -= gone
        return gone
