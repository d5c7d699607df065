"""What a piece of a program may not leave behind: descriptors, tasks, registrations."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from typing import Any, Self

from ..reactor import Reactor

__all__ = ["LeakCheck", "no_leaks"]

#: Rounds of the loop that what is ending has to end.
_ROUNDS = 20


class LeakCheck:
    """A context that asserts at its end that nothing is left behind. Made by `no_leaks`."""

    def __init__(self, descriptors: bool) -> None:
        self._looks_at_descriptors = descriptors

    def __enter__(self) -> Self:
        self._tasks = _tasks()
        self._registered = _registered()
        self._descriptors = self._open_descriptors()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        # An error has its own story to tell.
        if error is None and (left := self._left()):
            raise AssertionError(f"left behind: {left}")

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        for _ in range(_ROUNDS):
            if error is not None or not self._left():
                break
            await asyncio.sleep(0)
        self.__exit__(kind, error, traceback)

    def _left(self) -> str:
        found: dict[str, list[str]] = {
            "tasks": [repr(task) for task in _tasks() - self._tasks],
            "registrations": [
                repr(handler)
                for key, handler in _registered().items()
                if key not in self._registered
            ],
            "descriptors": sorted((self._open_descriptors() - self._descriptors).elements()),
        }
        return " and ".join(f"{name} {left}" for name, left in found.items() if left)

    def _open_descriptors(self) -> Counter[str]:
        return _descriptors() if self._looks_at_descriptors else Counter()


def no_leaks(*, descriptors: bool = True) -> LeakCheck:
    """A context that asserts that what was opened inside is closed at its end::

        async with tieline.testing.no_leaks():
            async with tieline.serve(handler, "127.0.0.1:0") as server:
                ...

    Looked at are the descriptors of this process, the tasks of the running loop, and what tieline
    watches on any loop. As `async with` it gives what is ending a few rounds of the loop to end;
    as `with` it is for programs without a loop, and around whole loops. Other threads that open
    something meanwhile are seen too.

    Args:
        descriptors: whether they are looked at (default). uvloop keeps one after its first child
            process until it is closed: there, look at them from around the loop.

    Raises:
        AssertionError: something is left behind; the text says what. Not raised while another
            error is on its way.
    """
    return LeakCheck(descriptors)


def _tasks() -> set[asyncio.Task[Any]]:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return set()
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def _registered() -> dict[int, object]:
    """What tieline's reactors watch, and they themselves, by identity."""
    return {
        id(each): each
        for reactor in list(Reactor._of.values())
        for each in (reactor, *reactor._ready.values())
    }


def _descriptors() -> Counter[str]:
    """What this process's descriptors point to."""
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        # The one that read the folder itself is gone.
        with contextlib.suppress(FileNotFoundError):
            found[os.readlink(f"/proc/self/fd/{name}")] += 1
    return found
