"""What a task waits on for its next message: one object for a connection's whole life.

asyncio allocates a Future per wait and wakes its task through `call_soon`: two trips through
the loop for each message. A `Waiter` follows the protocol that `asyncio.Task` expects of what
a coroutine yields (`_asyncio_future_blocking`, `get_loop`, `add_done_callback`, `result`,
`cancel`), but is reused, and `resume_now` steps the task at once.

It is private to the engine and never handed out: `asyncio.wait_for` would take it for a
finished future. Users await coroutines around it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

__all__ = ["Waiter"]


class Waiter:
    """Suspends one task at a time.

    To wait, a task sets `waiting` and `_asyncio_future_blocking` and yields the waiter.

    Attributes:
        waiting: whether a task is suspended here.
    """

    __slots__ = (
        "_asyncio_future_blocking", "_callback", "_context", "_loop", "waiting",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.waiting = False
        self._asyncio_future_blocking = False
        # How asyncio wants to be told, from the time it saw the waiter until it is told.
        self._callback: Callable[[Any], object] | None = None
        self._context: contextvars.Context | None = None

    def resume_now(self) -> None:
        """Step the waiting task, if there is one, at once.

        Only from the reactor's turn or a timer, where no task is running: asyncio refuses to
        step a task from inside another.
        """
        callback = self._callback
        if callback is not None and self.waiting:
            self.waiting = False
            self._callback = None
            self._context.run(callback, self)  # type: ignore[union-attr]

    def resume_soon(self) -> None:
        """Step the waiting task, if there is one, on the loop's next round. From anywhere."""
        if self.waiting:
            self._tell_soon(self)

    def _tell_soon(self, outcome: Any) -> None:
        callback = self._callback
        # None: it has been told already, and has not run yet.
        if callback is not None:
            self.waiting = False
            self._callback = None
            self._loop.call_soon(callback, outcome, context=self._context)

    # The future's protocol, as asyncio.Task uses it.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: contextvars.Context | None = None
    ) -> None:
        self._callback = callback
        self._context = context

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        # A bound method is a new object each time it is asked for: compare, not identify.
        if self._callback != callback:
            return 0
        self._callback = None
        self.waiting = False
        return 1

    def done(self) -> bool:
        return self._callback is None

    def result(self) -> None:
        """Asked when a task goes on: there is nothing but the fact."""

    def cancel(self, msg: object = None) -> bool:
        """Wake the task with `CancelledError`. False when a wake-up is on its way already:
        then asyncio cancels the task at its next step, and no message is lost."""
        if self._callback is None:
            return False
        self._tell_soon(_Cancelled(msg))
        return True


class _Cancelled:
    """What a cancelled task is told, apart from the waiter: before it runs, another task may
    have begun to wait there."""

    __slots__ = ("_message",)

    def __init__(self, message: object) -> None:
        self._message = message

    def result(self) -> None:
        if self._message is None:
            raise asyncio.CancelledError
        raise asyncio.CancelledError(self._message)
