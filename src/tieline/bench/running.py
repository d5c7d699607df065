"""Run a plan: in this process, or in several that are merged as they go."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from ..errors import TielineError
from .generator import Share, find, generate
from .plan import Plan
from .progress import Progress
from .result import Result
from .snapshots import Gathering, Snapshot

__all__ = ["measure", "run"]

OnProgress = Callable[[Progress], None]

#: Seconds from when the processes are made until they begin, for each of them.
_HEAD_START = 0.1

#: Seconds that a process may take to tell its last when it is to end, and then to end.
_PARTING = 5.0

#: Seconds between two looks at whether all are to end.
_LOOK = 0.5


async def measure(
    plan: Plan, on_progress: OnProgress | None = None, stop: asyncio.Event | None = None
) -> Result:
    """Run a plan in this process, on the running loop.

    Args:
        plan: what to do; its `processes` is 1.
        on_progress: called several times a second, with how it goes.
        stop: set it to end the run early; the result is of what was measured until then, and says
            so.

    Raises:
        ResolveError, ConnectError: there is nobody of that name.
        SettingError, UsageError: the plan's messages cannot be sent in its framing.

    Cancelling it closes its connections; there is no result then.
    """
    candidate = await find(plan.address, plan.sources)
    gathering = _gathering(plan)

    def take(snapshot: Snapshot) -> None:
        progress = gathering.add(snapshot)
        if progress is not None and on_progress is not None:
            on_progress(progress)

    share = Share(plan, candidate, first=1, step=1, origin=time.monotonic())
    await generate(share, take, stop or asyncio.Event())
    return gathering.result()


def run(
    plan: Plan,
    on_progress: OnProgress | None = None,
    on_signal: Callable[[signal.Signals], None] | None = None,
) -> Result:
    """Run a plan, in as many processes as it says, and wait for its end.

    The first SIGINT or SIGTERM ends it early, with a result of what was measured until then; the
    second ends it without one. To be called from a program's main thread, which has no other
    threads yet where there are to be several processes: they are forked.

    Args:
        plan: what to do.
        on_progress: called at least once a second, with how it goes.
        on_signal: called with each of these signals.

    Raises:
        KeyboardInterrupt: there was a second signal.
        TielineError: as `measure`.
    """
    plan = dataclasses.replace(plan, processes=_processes(plan))
    if plan.processes == 1:
        return asyncio.run(
            _heeding_signals(lambda stop: measure(plan, on_progress, stop), on_signal)
        )
    candidate = asyncio.run(find(plan.address, plan.sources))
    with _workers(plan, candidate) as pipes:
        return asyncio.run(
            _heeding_signals(lambda stop: _merge(plan, pipes, on_progress, stop), on_signal)
        )


async def _heeding_signals(
    work: Callable[[asyncio.Event], Any], on_signal: Callable[[signal.Signals], None] | None
) -> Result:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work(stop))

    def heed(number: signal.Signals) -> None:
        if on_signal is not None:
            on_signal(number)
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, heed, number)
    try:
        result: Result = await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return result


def _gathering(plan: Plan) -> Gathering:
    return Gathering(plan, time.time(), len(os.sched_getaffinity(0)))


# ---- Several processes


def _processes(plan: Plan) -> int:
    """How many processes there are to be: none is made that has nothing to do."""
    return min(plan.processes, plan.count or plan.processes)


def _shares(plan: Plan, candidate: tuple[int, Any]) -> list[Share]:
    """The plan, divided."""
    number = _processes(plan)
    origin = time.monotonic() + _HEAD_START * number

    def part(whole: int, index: int) -> int:
        return whole // number + (index < whole % number)

    return [
        Share(
            plan=dataclasses.replace(
                plan,
                processes=1,
                connections=part(plan.connections, index),
                short_share=part(plan.short_places, index) / part(plan.connections, index),
                messages=None if plan.messages is None else plan.messages.divided(index, number),
                rate=None if plan.rate is None else plan.rate / number,
                count=None if plan.count is None else part(plan.count, index),
            ),
            candidate=candidate, first=index + 1, step=number, origin=origin,
        )
        for index in range(number)
    ]  # fmt: skip


@contextlib.contextmanager
def _workers(plan: Plan, candidate: tuple[int, Any]) -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("fork")
    pipes: list[Connection] = []
    made: list[BaseProcess] = []
    try:
        for share in _shares(plan, candidate):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(
                target=_work, args=(share, theirs, [*pipes, ours])
            )
            process.start()
            theirs.close()
            pipes.append(ours)
            made.append(process)
        yield pipes
    finally:
        for pipe in pipes:
            # Whoever still runs takes the end of its pipe for a word to stop.
            pipe.close()
        for process in made:
            process.join(_PARTING)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()


def _work(share: Share, pipe: Connection, of_others: list[Connection]) -> None:
    """What a forked process does."""
    for other in of_others:
        other.close()
    # It is the parent that is told, and tells.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    async def work() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def heed() -> None:
            loop.remove_reader(pipe.fileno())
            stop.set()

        loop.add_reader(pipe.fileno(), heed)
        await generate(share, pipe.send, stop)
        loop.remove_reader(pipe.fileno())

    # A pipe that is broken: the parent is gone, and nobody is left to be told.
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        try:
            asyncio.run(work())
        except TielineError as error:
            pipe.send(error)


async def _merge(
    plan: Plan, pipes: list[Connection], on_progress: OnProgress | None, stop: asyncio.Event
) -> Result:
    """Take what the processes tell, until all have told their last."""
    gathering = _gathering(plan)
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[Snapshot | TielineError] = asyncio.Queue()
    through: set[Connection] = set()

    def read(pipe: Connection) -> None:
        try:
            word = pipe.recv()
        except (EOFError, OSError):
            loop.remove_reader(pipe.fileno())
            if pipe in through:
                return
            word = TielineError("a process of the load has ended before its time")
        if isinstance(word, Snapshot) and word.last is not None:
            through.add(pipe)
        told.put_nowait(word)

    for pipe in pipes:
        loop.add_reader(pipe.fileno(), read, pipe)
    stopping = asyncio.ensure_future(_pass_on(stop, pipes))
    try:
        left = len(pipes)
        waited = 0.0
        while left:
            try:
                word = await asyncio.wait_for(told.get(), _LOOK)
            except TimeoutError:
                # One that hangs is not waited for when all are to end.
                waited += _LOOK if stop.is_set() else 0.0
                if waited > _PARTING:
                    break
                continue
            if isinstance(word, TielineError):
                raise word
            left -= word.last is not None
            progress = gathering.add(word)
            if progress is not None and on_progress is not None:
                on_progress(progress)
    finally:
        stopping.cancel()
        for pipe in pipes:
            loop.remove_reader(pipe.fileno())
    result = gathering.result()
    result.cut_short |= left > 0
    return result


async def _pass_on(stop: asyncio.Event, pipes: list[Connection]) -> None:
    await stop.wait()
    for pipe in pipes:
        # One that has told its last is gone.
        with contextlib.suppress(BrokenPipeError):
            pipe.send("stop")
