"""A handler's task, stepped for each message without a trip through asyncio.Task.

Waking a Task costs it four calls back into Python (`result`, `get_loop`, `add_done_callback`
and its wake-up) each time its coroutine waits for the same thing again. A conversation does
little else, so its coroutine is wrapped in an object that Task takes for the coroutine, and
that can be stepped beside it: while the coroutine waits for nothing but its connection's next
message, Task goes on believing that it waits for the first one. As soon as it waits for
anything else, ends or raises, the outcome is handed to Task, and everything is as usual.

`asyncio.current_task`, contexts, `asyncio.timeout`, cancellation and debuggers see an ordinary
Task throughout: `_enter_task` and `_leave_task` are what asyncio documents for this purpose
("Extending", task lifetime support).
"""

from __future__ import annotations

import asyncio
from asyncio import _enter_task, _leave_task  # documented in spite of their names
from collections.abc import Coroutine, Generator
from typing import Any

from .waiter import Waiter

__all__ = ["ConversationWaiter", "connection_of"]


def connection_of(task: asyncio.Task[None]) -> Any:
    """The connection whose conversation a task is."""
    stepped = task.get_coro()
    assert isinstance(stepped, _Stepped)
    return stepped.waiter.connection


class ConversationWaiter(Waiter):
    """The waiter of a connection that has a conversation.

    Other tasks may wait here too, one at a time; they are resumed as by any waiter.
    """

    __slots__ = ("_alone", "_coroutine", "_outcome", "connection", "task")

    task: asyncio.Task[None]

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, None],
        connection: Any,
    ) -> None:
        super().__init__(loop)
        self.connection = connection
        self._coroutine = coroutine
        # Whether it is the conversation itself that waits here, not a task of its own making.
        self._alone = False
        # What the coroutine did beside Task and Task has not been told: a future it waits for,
        # in a tuple, or the exception it ended with.
        self._outcome: tuple[Any] | BaseException | None = None

    def resume_now(self) -> None:
        if not self._alone:
            super().resume_now()
            return
        if not self.waiting:
            return
        self.waiting = False
        # No local names for task and error: a traceback would tie them into a cycle.
        _enter_task(self._loop, self.task)
        try:
            waits_for = self._context.run(self._coroutine.send, None)  # type: ignore[union-attr]
        except BaseException as error:
            # Not swallowed: Task gets it from `step`, as if it had come from there.
            self._outcome = error.with_traceback(None) if type(error) is StopIteration else error
        else:
            if waits_for is self:
                return
            self._outcome = (waits_for,)
        finally:
            _leave_task(self._loop, self.task)
        self._alone = False
        callback = self._callback
        # None: the task was cancelled meanwhile, and is about to be told.
        if callback is not None:
            self._callback = None
            self._context.run(callback, self)  # type: ignore[union-attr]

    def start(self) -> asyncio.Task[None]:
        """Run the coroutine as a task, which is kept in `task` until `finish`."""
        self.task = self._loop.create_task(_Stepped(self))
        return self.task

    def _tell_soon(self, outcome: Any) -> None:
        # Task goes on by itself; until it does, another task may wait here.
        self._alone = False
        super()._tell_soon(outcome)

    def finish(self) -> None:
        """The task is done: let go of it, since it holds on to this waiter for ever."""
        del self.task, self._coroutine, self.connection

    def step(self) -> Any:
        """Task's own step: go on, or tell what happened beside it."""
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            waits_for = self._coroutine.send(None)
            self._alone = waits_for is self
            return waits_for
        if isinstance(outcome, tuple):
            return outcome[0]
        try:
            raise outcome
        finally:
            # The traceback holds this frame, which holds the error.
            del outcome

    def throw(self, error: BaseException) -> Any:
        """Task throws: a cancellation, nearly always."""
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, BaseException):
            # It has ended already; that it was cancelled as well is what Task wants to hear.
            raise error
        if outcome is not None and hasattr(outcome[0], "cancel"):
            # It had begun to wait for something that Task has not seen and cannot cancel.
            outcome[0].cancel()
        if self._callback is None:
            # Nobody else waits here: not a task of the conversation's own making.
            self.waiting = False
        self._alone = False
        try:
            waits_for = self._coroutine.throw(error)
        finally:
            del error
        self._alone = waits_for is self
        return waits_for


class _Stepped(Coroutine[Any, Any, None]):
    """What Task takes for the handler's coroutine."""

    __slots__ = ("waiter",)

    def __init__(self, waiter: ConversationWaiter) -> None:
        self.waiter = waiter

    def send(self, value: Any) -> Any:
        return self.waiter.step()

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any:
        return self.waiter.throw(kind if value is None else value)

    def close(self) -> None:
        self.waiter._coroutine.close()

    def __await__(self) -> Generator[Any, None, None]:
        return (yield from self.waiter._coroutine.__await__())

    # For `repr(task)`, `Task.get_stack` and debuggers.

    def __getattr__(self, name: str) -> Any:
        if name in ("cr_await", "cr_code", "cr_frame", "cr_running", "__name__", "__qualname__"):
            return getattr(self.waiter._coroutine, name)
        raise AttributeError(name)
