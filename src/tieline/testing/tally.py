"""How often each fault has really happened: a fault that never did makes a test void."""

from __future__ import annotations

import asyncio
from collections import Counter

from ..rules import Rule
from .faults import FAULTS, Fault

__all__ = ["Tally"]


class Tally:
    """Counts what happens, by name and by fault, and tells those who wait for it."""

    def __init__(self) -> None:
        self.by_name: Counter[str] = Counter()
        self._by_fault: Counter[Fault] = Counter()
        self._waiting: list[tuple[Fault | str, int, asyncio.Future[None]]] = []

    def count(self, name: str, fault: Fault | None = None) -> None:
        """It has happened once more."""
        self.by_name[name] += 1
        if fault is not None:
            self._by_fault[fault] += 1
        for what, times, future in self._waiting:
            if self.times(what) >= times and not future.done():
                future.set_result(None)

    def times(self, what: Fault | str) -> int:
        """How often it has happened.

        Raises:
            SettingError: no fault has this name.
        """
        if isinstance(what, Fault):
            return self._by_fault[what]
        Rule("choice", "", choices=tuple(FAULTS)).check("what", what)
        return self.by_name[what]

    def expect(self, what: Fault | str, times: int) -> None:
        """Assert that it has happened so often at least.

        Raises:
            AssertionError: it has not.
        """
        found = self.times(what)
        if found < times:
            raise AssertionError(
                f"{what} should have happened {times} times at least, and happened {found} times;"
                f" of all: {dict(self.by_name) or 'nothing'}"
            )

    async def wait(self, what: Fault | str, times: int) -> None:
        """Wait until it has happened so often. Cancelling is harmless."""
        if self.times(what) >= times:
            return
        entry = (what, times, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            await entry[-1]
        finally:
            self._waiting.remove(entry)
