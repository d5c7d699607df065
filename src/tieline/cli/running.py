"""How a command's coroutine runs: on which loop, and how signals end it."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from ..errors import UsageError
from .exits import Exit
from .log import Log
from .translation import gettext as _

__all__ = [
    "descriptors_allowed",
    "exit_of_signal",
    "raise_descriptor_limit",
    "run_command",
    "run_loop",
]


def run_loop(make: Callable[[], Coroutine[Any, Any, int]], loop: str = "asyncio") -> int:
    """Run what `make` gives to its end on a loop of this kind.

    Raises:
        UsageError: uvloop is not installed.
    """
    with asyncio.Runner(loop_factory=_loop_factory(loop)) as runner:
        return runner.run(make())


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if name == "asyncio":
        return None
    try:
        import uvloop
    except ModuleNotFoundError as error:
        raise UsageError("this loop needs uvloop: pip install 'tieline[uvloop]'") from error
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def run_command(make: Callable[[], Coroutine[Any, Any, int]], log: Log) -> int:
    """Run a client's coroutine; SIGINT and SIGTERM cancel it and give the exit code."""
    return run_loop(lambda: _until_signal(make, log))


async def _until_signal(make: Callable[[], Coroutine[Any, Any, int]], log: Log) -> int:
    loop = asyncio.get_running_loop()
    task = loop.create_task(make())
    received: list[signal.Signals] = []

    def on(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on, number)
    log.on_broken_pipe = task.cancel
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            # Whoever read stdout has gone: nothing is wrong, and nobody is there to be told.
            return Exit.DONE
        log.complain(_("interrupted by {signal}").format(signal=received[0].name))
        return exit_of_signal(received[0])


def exit_of_signal(number: signal.Signals) -> Exit:
    """The exit code of a command that a signal ended."""
    return Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED


def descriptors_allowed() -> int:
    """How many files this process could have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one, where that is allowed; what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        # The system's own bound (fs.nr_open) was set below this process's.
        return soft
    return hard
