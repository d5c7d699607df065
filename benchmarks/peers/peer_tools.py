"""What the Python peers share: descriptors, the event loop, and the clock of its stalls."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import resource
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

HOST = "127.0.0.1"
BACKLOG = 4096
TICK = 0.001


def raise_descriptor_limit() -> None:
    """Allow this process as many descriptors as it may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def parser() -> argparse.ArgumentParser:
    """The command line every peer takes: a port, last."""
    options = argparse.ArgumentParser()
    options.add_argument("port", type=int)
    return options


def loop_parser() -> argparse.ArgumentParser:
    """The command line of the peers that run on an asyncio event loop."""
    options = parser()
    options.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    options.add_argument("--stalls", action="store_true", help="report the loop's longest stall")
    return options


def seconds_or_none(text: str) -> float | None:
    """A number of seconds, or "none"."""
    return None if text == "none" else float(text)


def say_ready() -> None:
    """Tell the runner that connections are welcome."""
    print("ready", flush=True)


async def serve_until_told(stalls: bool, count: Callable[[], dict[str, int]] = dict) -> None:
    """Say that the server is ready and keep it up; with `stalls`, keep watch over its loop.

    SIGUSR1 begins the watch anew; SIGUSR2 prints what `count` gives, and the longest stall since;
    SIGTERM prints it and ends.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    longest = 0.0

    def begin_anew() -> None:
        nonlocal longest
        longest = 0.0

    def tell() -> None:
        print(json.dumps({**count(), "longest_stall_ms": longest * 1000}), flush=True)

    loop.add_signal_handler(signal.SIGUSR2, tell)
    if not stalls:
        say_ready()
        await stop.wait()
    loop.add_signal_handler(signal.SIGUSR1, begin_anew)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    say_ready()
    before = time.monotonic()
    while not stop.is_set():
        await asyncio.sleep(TICK)
        after = time.monotonic()
        longest = max(longest, after - before - TICK)
        before = after
    tell()


def run(main: Coroutine[Any, Any, None], loop: str) -> None:
    """Run `main` on a fresh event loop of the kind named, with enough descriptors."""
    raise_descriptor_limit()
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if loop == "uvloop":
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
