"""What a test may not leave unsaid. (What it may not leave behind: `tieline.testing.no_leaks`.)"""

from __future__ import annotations

import logging

__all__ = ["ErrorLog"]


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
