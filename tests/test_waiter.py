"""The reused waiter, as asyncio's tasks use it."""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections.abc import Generator
from typing import Any

import pytest

from tieline.waiter import Waiter


@types.coroutine
def _wait(waiter: Waiter) -> Generator[Any, None, None]:
    waiter.waiting = True
    waiter._asyncio_future_blocking = True
    yield waiter


async def _waiting(waiter: Waiter) -> asyncio.Task[None]:
    """A task that waits on it."""

    async def wait() -> None:
        await _wait(waiter)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert waiter.waiting
    return task


async def _from_a_callback(call: Any) -> None:
    """Where no task is running, as in the reactor's turn."""
    done = asyncio.Event()

    def run() -> None:
        call()
        done.set()

    asyncio.get_running_loop().call_soon(run)
    await done.wait()


async def test_a_task_goes_on_at_once() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    for _ in range(3):
        task = await _waiting(waiter)
        seen: list[bool] = []

        def resume_and_look(task: asyncio.Task[None] = task, seen: list[bool] = seen) -> None:
            waiter.resume_now()
            seen.append(task.done())

        await _from_a_callback(resume_and_look)
        assert seen == [True]
        assert waiter.done()


async def test_a_task_goes_on_in_the_next_round() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    for _ in range(3):
        task = await _waiting(waiter)
        waiter.resume_soon()
        waiter.resume_soon()
        assert not task.done()
        await task


async def test_resuming_nobody_is_nothing() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    waiter.resume_soon()
    waiter.resume_now()
    assert not waiter.cancel()


async def test_a_cancelled_task_is_cancelled() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    task = await _waiting(waiter)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    # And the next wait on the same waiter is not.
    task = await _waiting(waiter)
    waiter.resume_soon()
    await task


async def test_a_task_that_is_woken_and_cancelled_in_one_round_is_cancelled() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    task = await _waiting(waiter)
    waiter.resume_soon()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_is_cancelled_and_woken_in_one_round_is_cancelled() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    task = await _waiting(waiter)
    task.cancel()
    waiter.resume_soon()
    await _from_a_callback(waiter.resume_now)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_reaches_the_task_that_was_cancelled_and_no_other() -> None:
    """Another task waits, and is woken, before the cancelled one has run."""
    waiter = Waiter(asyncio.get_running_loop())
    first = await _waiting(waiter)
    woken: list[str] = []

    async def wait() -> None:
        await _wait(waiter)
        woken.append("second")

    second = asyncio.create_task(wait())  # runs first, in the next round
    first.cancel()
    loop = asyncio.get_running_loop()
    loop.call_soon(waiter.resume_now)
    done = await asyncio.gather(first, second, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    if done[1] is None:
        assert woken == ["second"]
    else:
        # It found the first still waiting, which is a conflict; never its cancellation.
        assert not isinstance(done[1], asyncio.CancelledError)


async def test_a_task_goes_on_in_its_own_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outer")
    waiter = Waiter(asyncio.get_running_loop())
    seen: list[str] = []

    async def wait() -> None:
        variable.set("inner")
        await _wait(waiter)
        seen.append(variable.get())
        await _wait(waiter)
        seen.append(variable.get())

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await _from_a_callback(waiter.resume_now)
    waiter.resume_soon()
    await task
    assert seen == ["inner", "inner"]
    assert variable.get() == "outer"


async def test_a_callback_may_be_taken_back() -> None:
    waiter = Waiter(asyncio.get_running_loop())

    class Task:
        def wake(self, outcome: Any) -> None:
            raise AssertionError("woken after it had gone")

    task = Task()
    waiter.add_done_callback(task.wake, context=contextvars.copy_context())
    assert not waiter.done()
    assert waiter.remove_done_callback(print) == 0
    assert waiter.remove_done_callback(task.wake) == 1
    assert waiter.remove_done_callback(task.wake) == 0
    waiter.resume_soon()
    await asyncio.sleep(0)
    assert waiter.get_loop() is asyncio.get_running_loop()
