"""Gigabytes through a guard, both ways at once: every byte arrives, and none is kept.

TIELINE_BYTES=4294967296 for all of it.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path

import pytest

import tieline
import tieline.guard
from tieline.guard.splicing import Pipes

SIZE = int(os.environ.get("TIELINE_BYTES", "536870912"))
ENDS = Path(__file__).with_name("both_ends.py")


@pytest.mark.timeout(900)
@pytest.mark.patience(900.0)
@pytest.mark.one_loop
@pytest.mark.parametrize("way", ["spliced", "copied"])
async def test_gigabytes_both_ways_at_once(way: str) -> None:
    ends = await asyncio.create_subprocess_exec(
        sys.executable, str(ENDS), str(SIZE), "7",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert ends.stdin is not None
    assert ends.stdout is not None
    port = int(await ends.stdout.readline())
    guard = tieline.guard.serve("127.0.0.1:0", upstreams=[f"127.0.0.1:{port}"])
    if way == "copied":
        guard.pipes = Pipes(most=0)
    async with guard:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ends.stdin.write(f"{guard.addresses[0]}\n".encode())
        assert await ends.stdout.readline() == b"equal\n"
        while len(guard):
            await asyncio.sleep(0.01)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert guard.counters.bytes_received == guard.counters.bytes_sent == SIZE
        assert (guard.pipes.count > 0) == (way == "spliced")
        # In KiB: what both directions owe at once, and Python's own pages for it.
        assert grown < 2_048
    assert await ends.wait() == 0
    ends.stdin.close()
