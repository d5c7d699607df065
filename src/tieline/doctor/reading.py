"""Numbers from the files in which the kernel keeps them. What is not there is unknown: `None`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["labelled", "number", "numbers", "text"]


def text(path: Path) -> str | None:
    """What a file says, without the space around it; `None` where it cannot be read."""
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        # It does not exist on this kernel, belongs to a module that is not loaded, or is not for
        # this user: whichever, the fact is unknown, and is said to be.
        return None


def numbers(path: Path, count: int) -> tuple[int, ...] | None:
    """The numbers in a file; `None` unless it begins with so many."""
    words = (text(path) or "").split()[:count]
    if len(words) < count or not all(_is_number(word) for word in words):
        return None
    return tuple(int(word) for word in words)


def number(path: Path) -> int | None:
    """The number in a file."""
    found = numbers(path, 1)
    return None if found is None else found[0]


def labelled(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The lines of a file such as /proc/meminfo: what stands before the colon, and the words
    behind it."""
    for line in (text(path) or "").splitlines():
        name, colon, rest = line.partition(":")
        if colon:
            yield name.strip(), rest.split()


def _is_number(word: str) -> bool:
    return word.removeprefix("-").isdecimal()
