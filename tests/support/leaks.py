"""What a test may not leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter

from tieline.reactor import Reactor

__all__ = ["ErrorLog", "open_descriptors", "settle"]


def open_descriptors() -> Counter[str]:
    """What this process's descriptors point to, and how many to each."""
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        # The one that read the folder itself is gone.
        with contextlib.suppress(FileNotFoundError):
            found[os.readlink(f"/proc/self/fd/{name}")] += 1
    return found


async def settle() -> str:
    """Give what is ending a few rounds of the loop to end.

    Returns:
        What is left of tasks and reactors, in words; empty when nothing is.
    """
    left = ""
    for _ in range(20):
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        reactors = dict(Reactor._of)
        left = " and ".join(
            text
            for text, found in ((f"tasks {tasks}", tasks), (f"reactors {reactors}", reactors))
            if found
        )
        if not left:
            break
        await asyncio.sleep(0)
    return left


class ErrorLog(logging.Handler):
    """Collects what tieline logs as an error. A test that expects one takes it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def take(self) -> list[str]:
        """The errors logged since the last call, as text."""
        records, self.records = self.records, []
        return [self.format(record) for record in records]
