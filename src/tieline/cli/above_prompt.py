"""Writes lines above the line that is being edited.

Prompt_toolkit's `patch_stdout` does so from a thread, and so what is written last, when the
editor ends, may come out before what was written first. Here everything is in the loop's own
thread, and in order.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from prompt_toolkit.application import Application

__all__ = ["above_prompt"]


class _AbovePrompt(io.TextIOBase):
    """Stands for a stream while an application edits a line on the same terminal."""

    def __init__(self, stream: TextIO, application: Application[Any]) -> None:
        self._stream = stream
        self._application = application
        self._line = ""

    def write(self, text: str, /) -> int:
        """Keep an unfinished line; write whole ones."""
        whole, newline, self._line = (self._line + text).rpartition("\n")
        if newline:
            editing = self._application.is_running
            if editing:
                self._application.renderer.erase()
            self._stream.write(whole + newline)
            self._stream.flush()
            if editing:
                self._application.invalidate()
        return len(text)

    def isatty(self) -> bool:
        """It is one: others are left alone."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream that it stands for."""
        return self._stream.encoding


@contextlib.contextmanager
def above_prompt(application: Application[Any]) -> Iterator[None]:
    """Have what goes to the terminal written above the line that is being edited."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(_AbovePrompt(sys.stdout, application)))
        if sys.stderr.isatty():
            stack.enter_context(contextlib.redirect_stderr(_AbovePrompt(sys.stderr, application)))
        yield
