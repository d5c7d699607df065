"""Run a server until a signal ends it, for programs that are nothing but a server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .listening import Listening
from .server import Handler, Server, serve

__all__ = ["run", "serve_until_signal"]

_Served = TypeVar("_Served", bound=Listening)


def run(
    handler: Handler,
    *addresses: Any,
    drain: float = 10.0,
    spread: float = 0.0,
    ready: Callable[[Server], object] | None = None,
    **options: Any,
) -> None:
    """Serve until SIGINT or SIGTERM, then drain; a second signal ends it at once.

    Args:
        handler, addresses, options: as for `tieline.serve`.
        drain: seconds that busy connections have to finish after the first signal (default 10).
        spread: seconds over which idle ones are closed then (default 0: at once).
        ready: called with the server once it listens.

    Raises:
        What `Server.start` raises. Must be called from the main thread, outside a loop.
    """
    server = serve(handler, *addresses, **options)
    asyncio.run(serve_until_signal(server, ready=ready, stop=lambda: server.drain(drain, spread)))


async def serve_until_signal(
    server: _Served,
    *,
    ready: Callable[[_Served], object] | None = None,
    stop: Callable[[], Awaitable[object]] | None = None,
    on_signal: Callable[[signal.Signals, bool], object] | None = None,
    on_hangup: Callable[[], object] | None = None,
) -> signal.Signals | None:
    """Serve until the server ends or SIGINT or SIGTERM comes; then drain.

    Args:
        server: a server of any kind, not started yet.
        ready: called with the server once it listens.
        stop: what to await after the first signal (default: `server.drain`).
        on_signal: called with each signal, and whether it is the first.
        on_hangup: called at SIGHUP; without it, that ends the program as it does any other.

    Returns:
        The first signal, or `None` when the server was closed by other means.
    """
    loop = asyncio.get_running_loop()
    received: list[signal.Signals] = []
    first, second = asyncio.Event(), asyncio.Event()

    def on(number: signal.Signals) -> None:
        received.append(number)
        (second if first.is_set() else first).set()
        if on_signal is not None:
            on_signal(number, len(received) == 1)

    handled = (signal.SIGINT, signal.SIGTERM)
    async with server:
        for number in handled:
            loop.add_signal_handler(number, on, number)
        if on_hangup is not None:
            loop.add_signal_handler(signal.SIGHUP, on_hangup)
        try:
            if ready is not None:
                ready(server)
            await _first_of(first.wait(), server.wait_closed())
            if received:
                await _first_of(second.wait(), (stop or server.drain)())
        finally:
            for number in (*handled, signal.SIGHUP):
                loop.remove_signal_handler(number)
    return received[0] if received else None


async def _first_of(*awaitables: Any) -> None:
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
