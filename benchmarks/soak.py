"""Hammer the caps for a minute: never one too many, never a place lost, zero at the end.

    python benchmarks/soak.py [--seconds 60] [--per-client 4] [--loop asyncio|uvloop] [--seed N]

Two servers, one that refuses at a client's cap and one that evicts, both with caps for a client,
its network, and all. Processes of clients from many addresses connect as fast as they can and leave
in every way there is, in the middle of things, too; the servers' own clocks close some meanwhile.

Watched all the while, by counts of this program's own, kept in `on_open` and `on_close`: that no
cap is ever exceeded, that admission counts the same; and by the clients, that the kernel agrees. At
the end: that nothing is left in any count, and that every client can again have exactly its share.
Exit status 1, and a line for each thing that was wrong, otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import random
import resource
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from soak_hammer import addresses_of
from soak_watch import Watch

HERE = Path(__file__).resolve().parent
HAMMERS = 2  # processes, for each server
PATIENCE = 20.0
COMPLAINTS = 10  # that are told of one kind


async def until(condition: Callable[[], bool]) -> bool:
    """Wait for what will soon be; whether it was."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - nothing announces that it is so
                await asyncio.sleep(0.005)
    return condition()


async def hammer(watch: Watch, number: int, seconds: float, seed: int) -> dict[str, Any]:
    """One process of clients, to its end."""
    words = [watch.port, seconds, seed, number, watch.limits.per_client]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "soak_hammer.py"), *map(str, words),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds + PATIENCE):
            output, _ = await process.communicate()
    except TimeoutError:
        watch.complain("the clients did not come to an end")
        return {"counts": {}, "most": 0}
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        watch.complain(f"a process of clients failed: status {process.returncode}")
        return {"counts": {}, "most": 0}
    told: dict[str, Any] = json.loads(output)
    return told


# ---- Whether every place can be had again


@contextlib.asynccontextmanager
async def client_of(watch: Watch, address: str) -> AsyncIterator[bool]:
    """One client, let in or not."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        client.bind((address, 0))
        try:
            async with asyncio.timeout(PATIENCE):
                await loop.sock_connect(client, ("127.0.0.1", watch.port))
                await loop.sock_sendall(client, b"hello\n")
                let_in = await loop.sock_recv(client, 100) == b"hello\n"
        except ConnectionError:
            let_in = False
        yield let_in


async def check_places(watch: Watch, addresses: list[str]) -> None:
    """Each client can have its share, and not one more. (Where one more would be granted by
    evicting another, that is not tried.)"""
    share = watch.limits.per_client
    assert share is not None
    for address in addresses:
        async with contextlib.AsyncExitStack() as stack:
            had = 0
            for _ in range(share):
                had += await stack.enter_async_context(client_of(watch, address))
            if had != share:
                watch.complain(f"a client can have {had} places of {share} afterwards")
            if watch.full == "refuse" and await stack.enter_async_context(
                client_of(watch, address)
            ):
                watch.complain("a client can have one place too many afterwards")
        if not await until(lambda: len(watch.server) == 0):
            watch.complain("connections stay open afterwards")
            return


# ---- All of it


async def soak(options: argparse.Namespace) -> int:
    """Run it; how many things were wrong."""
    descriptors = count_descriptors()
    watches = [Watch(full, options.per_client) for full in ("refuse", "evict")]
    told: list[list[dict[str, Any]]] = []
    async with contextlib.AsyncExitStack() as stack:
        for watch in watches:
            await stack.enter_async_context(watch.server)
        numbers = range(len(watches) * HAMMERS)
        runs = await asyncio.gather(*(
            hammer(watches[number // HAMMERS], number, options.seconds, options.seed)
            for number in numbers
        ))  # fmt: skip
        for index, watch in enumerate(watches):
            told.append(runs[index * HAMMERS : (index + 1) * HAMMERS])
            await until(lambda server=watch.server: len(server) == 0)  # type: ignore[misc]
            watch.check_empty()
            watch.check_reached()
            mine = range(index * HAMMERS, (index + 1) * HAMMERS)
            await check_places(watch, [place for number in mine for place in addresses_of(number)])
            watch.check_empty()
    for watch, runs_of_one in zip(watches, told, strict=True):
        report(watch, runs_of_one)
    if not await until(lambda: count_descriptors() <= descriptors + 1):
        watches[0].complain(f"descriptors: {descriptors} before, {count_descriptors()} after")
    wrong = 0
    for watch in watches:
        for text, times in watch.complaints.most_common(COMPLAINTS):
            print(f"WRONG ({watch.full}): {text} ({times} times)")
        wrong += watch.complaints.total()
    return wrong


def count_descriptors() -> int:
    """Descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def report(watch: Watch, told: list[dict[str, Any]]) -> None:
    """What happened, and what the clients complain of."""
    seen: Counter[str] = Counter()
    for one in told:
        seen.update(one["counts"])
    for name in ("over the cap", "wrong answers"):
        if seen[name]:
            watch.complain(f"the clients saw {name}: {seen[name]}")
    if not seen["answers"]:
        watch.complain("nothing is proved: no client had an answer")
    counts = watch.server.counters
    print(f"{watch.full} at the cap of {watch.limits.per_client}:")
    print("  clients:", _list(seen), f"most at once of one: {max(one['most'] for one in told)}")
    print(f"  accepted: {counts.accepted:,}; most at once of", _list(watch.most))
    print("  refused:", _list(Counter({str(why): n for why, n in counts.refused.items()})))
    print("  closed:", _list(Counter({str(why): n for why, n in counts.closed.items()})))


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) or "none"


def main() -> int:
    """Soak; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description="Hammer the caps, and count.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--per-client", type=int, default=4, metavar="N")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    print(f"{options.seconds:g} s on {options.loop}, seed {options.seed}", flush=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if options.loop == "uvloop":
        factory = importlib.import_module("uvloop").new_event_loop
    random.seed(options.seed)
    with asyncio.Runner(loop_factory=factory) as runner:
        wrong = runner.run(soak(options))
    print("all counts right" if wrong == 0 else f"{wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
